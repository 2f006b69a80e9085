"""A progress bar on stderr, drawn only on a terminal, and messages that do not break it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import IO, Final

from barrelman.cli.printing import readable

_REDRAW_SECONDS: Final = 0.1


class Progress:
    """Bytes read against bytes there are; without a known total, bytes and rate alone.

    rich is loaded only where a bar is drawn. `say` writes a line above the bar.
    """

    def __init__(self, stream: IO[str], *, sizes_bytes: Sequence[int | None], wanted: bool) -> None:
        self._stream = stream
        self._bar: _Bar | None = None
        if wanted and stream.isatty():
            known = [size for size in sizes_bytes if size is not None]
            total = sum(known) if len(known) == len(sizes_bytes) else None
            self._bar = _Bar(stream, total)

    def advance(self, count_bytes: int) -> None:
        if self._bar is not None:
            self._bar.advance(count_bytes)

    def say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        self._stream.write(readable(line) + "\n")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Bar:
    def __init__(self, stream: IO[str], total_bytes: int | None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as RichProgress

        self._progress = RichProgress(
            TextColumn("scanning"),
            BarColumn(bar_width=None),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(file=stream),
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        self._task = self._progress.add_task("scan", total=total_bytes)
        self._held_bytes = 0
        self._drawn = 0.0
        self._started = False

    def advance(self, count_bytes: int) -> None:
        self._held_bytes += count_bytes
        now = time.monotonic()
        if now - self._drawn < _REDRAW_SECONDS:
            return
        if not self._started:
            self._progress.start()
            self._started = True
        self._drawn = now
        self._progress.update(self._task, advance=self._held_bytes)
        self._held_bytes = 0
        self._progress.refresh()

    def clear(self) -> None:
        """Takes the bar away, so that other text can be written; it comes back by itself."""
        if self._started:
            self._progress.stop()
            self._started = False

    def close(self) -> None:
        self.clear()
