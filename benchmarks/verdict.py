"""What was seen and what was demanded, as the tables of the other suites."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from measure import Bar


@dataclass
class Verdict:
    """One suite's outcome. `failures` are sentences; any of them, or a bar not met, fails it."""

    name: str
    about: str
    figures: Mapping[str, object] = field(default_factory=dict)
    bars: Sequence[Bar] = ()
    failures: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not self.failures and all(bar.judged()[3] for bar in self.bars)

    def table(self) -> str:
        lines = [f"### {self.name}", "", self.about, ""]
        if self.figures:
            lines += ["| figure | value |", "|---|---:|"]
            lines += [f"| {name} | {shown(value)} |" for name, value in self.figures.items()]
            lines.append("")
        if self.bars:
            lines += [
                "| bar | wanted | median | lowest | highest | met |",
                "|---|---:|---:|---:|---:|---|",
                *map(_row, self.bars),
                "",
            ]
        lines += [f"- **{failure}**" for failure in self.failures]
        return "\n".join(lines) + "\n"


def _row(bar: Bar) -> str:
    *figures, met = bar.judged()
    cells = " | ".join(map(shown, figures))
    return f"| {bar.label} | {bar.wanted} | {cells} | {'yes' if met else '**no**'} |"


def shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def one(label: str, value: float, *, least: float | None = None, most: float | None = None) -> Bar:
    """A bar on a single figure."""
    return Bar(label, lambda: [value], least, most)


def told(verdicts: Sequence[Verdict]) -> int:
    """Prints what is not printed yet, and the exit code: 0 if all is as demanded."""
    for verdict in verdicts:
        sys.stdout.write(verdict.table() + "\n")
    sys.stdout.flush()
    return 0 if all(verdict.is_good for verdict in verdicts) else 1
