"""Alerts as a table: columns where the terminal is wide, a block each where it is narrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from barrelman.cli.describe import Row

SEVERITY_STYLES: Final = {
    "low": "cyan",
    "medium": "yellow",
    "high": "red",
    "critical": "bold white on red",
}
# Seven columns need this much to read better than a block of lines.
_WIDE: Final = 120
_TIME, _SEVERITY, _WHERE = 19, 8, 15
_MARGIN: Final = 2
_LABEL: Final = 6


class AlertTable:
    """Writes rows as they come; the header stands once, before the first."""

    def __init__(self, stream: IO[str], *, width: int | None = None) -> None:
        self._console = Console(file=stream, width=width, highlight=False, soft_wrap=False)
        self._started = False

    def write(self, rows: Sequence[Row]) -> None:
        if self._console.width >= _WIDE:
            self._write_columns(rows)
        else:
            for row in rows:
                self._write_block(row)
        self._started = True

    def _write_columns(self, rows: Sequence[Row]) -> None:
        rest = self._console.width - _TIME - _SEVERITY - _WHERE - 6 * _MARGIN
        rule, who, what = rest * 24 // 100, rest * 25 // 100, rest * 27 // 100
        table = Table(
            box=None,
            show_header=not self._started,
            padding=(0, _MARGIN, 0, 0),
            pad_edge=False,
            header_style="bold",
        )
        widths = (_TIME, _SEVERITY, rule, who, what, _WHERE, rest - rule - who - what)
        titles = ("TIME (UTC)", "SEVERITY", "RULE", "WHO", "WHAT", "FROM", "WHY")
        for title, width in zip(titles, widths, strict=True):
            table.add_column(title, width=width, overflow="fold")
        for row in rows:
            table.add_row(
                row.time,
                Text(row.severity, style=SEVERITY_STYLES[row.severity]),
                *(Text(text) for text in (row.rule, row.who, row.what, row.where, row.why)),
            )
        self._console.print(table)

    def _write_block(self, row: Row) -> None:
        heading = Text()
        heading.append(f"{row.time}  ")
        heading.append(row.severity, style=SEVERITY_STYLES[row.severity])
        heading.append("  ")
        heading.append(row.rule, style="bold")
        self._console.print(heading, overflow="fold")
        width = max(self._console.width - _LABEL - _MARGIN, 1)
        for label, text in (
            ("who", row.who),
            ("what", row.what),
            ("from", row.where),
            ("why", row.why),
        ):
            pieces = Text(text).wrap(self._console, width, overflow="fold")
            for number, piece in enumerate(pieces):
                piece.rstrip()
                head = label.rjust(_LABEL) if number == 0 else " " * _LABEL
                self._console.print(Text.assemble((head, "dim"), " " * _MARGIN, piece))
        self._console.print()
