"""Rows that are in no segment yet: their columns in memory, their lines in a log."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from barrelman.store.bounds import Extent
from barrelman.store.columns import Batch, appended
from barrelman.store.frames import Head
from barrelman.store.log import Group, extended


class Part(NamedTuple):
    """All rows of one log. A value: what readers hold stays as it is while rows are appended."""

    log: Path
    groups: tuple[Group, ...] = ()
    batches: tuple[Batch, ...] = ()
    size: int = 0
    """Bytes of the lines."""

    @property
    def rows(self) -> int:
        """How many rows."""
        return sum(batch.num_rows for batch in self.batches)

    @property
    def extent(self) -> Extent | None:
        """What holds for all of them; None where there is no row."""
        if not self.groups:
            return None
        extent = self.groups[0].extent
        for group in self.groups[1:]:
            extent = extent.joined(group.extent)
        return extent


class OpenPart:
    """A part that rows are added to, by one thread."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.size = 0
        self.first_arrival_us: int | None = None
        self.rows = 0
        self._groups: list[Group] = []
        self._batches: tuple[Batch, ...] = ()

    def add(self, heads: list[Head], places: list[tuple[int, int]], batches: list[Batch]) -> None:
        """Records that are in the log, and their columns."""
        for head, (at, end) in zip(heads, places, strict=True):
            extended(self._groups, head.extent, at=at, end=end, size=head.size)
            self.size += head.size
            self.rows += head.rows
            if self.first_arrival_us is None:
                self.first_arrival_us = head.arrivals[0][0]
        for batch in batches:
            self._batches = appended(self._batches, batch)

    def now(self) -> Part:
        """What there is by now."""
        return Part(self.log, tuple(self._groups), self._batches, self.size)
