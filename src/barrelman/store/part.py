"""Rows that are in no segment yet: their columns in memory, their lines in a log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from barrelman.store.bounds import Extent
from barrelman.store.columns import Batch, appended, unplain_in
from barrelman.store.frames import Head
from barrelman.store.log import Group, extended


class Part(NamedTuple):
    """All rows of one log. A value: what readers hold stays as it is while rows are appended."""

    log: Path
    extent: Extent | None
    """None where there is no row."""
    rows: int
    unplain: int
    """Of how many the columns are only hints."""
    groups: tuple[Group, ...]
    batches: tuple[Batch, ...]


class OpenPart:
    """A part that rows are added to, by one thread."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.size = 0
        """Bytes of the lines and of what came around them."""
        self.rows = 0
        self.first_arrival_us: int | None = None
        self._unplain = 0
        self._extent: Extent | None = None
        self._groups: list[Group] = []
        self._batches: tuple[Batch, ...] = ()

    def add(
        self, heads: Sequence[Head], places: Sequence[tuple[int, int]], batches: Sequence[Batch]
    ) -> None:
        """Records that are in the log, and their columns."""
        for head, (at, end) in zip(heads, places, strict=True):
            extent = head.extent
            extended(self._groups, extent, at=at, end=end, size=head.size)
            self._extent = extent if self._extent is None else self._extent.joined(extent)
            self.size += head.size
            self.rows += head.rows
            if self.first_arrival_us is None:
                self.first_arrival_us = head.arrivals[0][0]
        for batch in batches:
            self._batches = appended(self._batches, batch)
            self._unplain += unplain_in(batch)

    def now(self) -> Part:
        """What there is by now."""
        return Part(
            self.log, self._extent, self.rows, self._unplain, tuple(self._groups), self._batches
        )
