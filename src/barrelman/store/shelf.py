"""What is stored at this moment: changed by one thread, looked at by any."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from barrelman.store.columns import Batch
from barrelman.store.frames import Head
from barrelman.store.part import OpenPart, Part
from barrelman.store.segments import Segment
from barrelman.store.view import View

_MOST_FAULTS = 200


class Shelf:
    """Segments, and after them the rows that are in none yet."""

    def __init__(
        self, *, segments: Sequence[Segment], parts: Sequence[OpenPart], next_seq: int, last_us: int
    ) -> None:
        self._lock = threading.Lock()
        self._segments = tuple(sorted(segments, key=lambda each: each.extent.first_seq))
        self._closed = tuple(part.now() for part in parts[:-1])
        self._open = parts[-1]
        self._next_seq = next_seq
        self._last_arrival_us = last_us
        self._last_by_cluster: dict[str, int] = {}
        for extent in [each.extent for each in self._segments] + [
            part.extent for part in self.view().parts if part.extent is not None
        ]:
            self._note_arrivals(extent.clusters, extent.arrival_us[1])
        self.faults: list[str] = []
        self.troubles: dict[str, str] = {}
        """What fails at the moment besides appending, and why."""

    @property
    def next_seq(self) -> int:
        """What the next row gets."""
        return self._next_seq

    @property
    def last_arrival_us(self) -> int:
        """Arrival of the last row; the next does not arrive before it."""
        return self._last_arrival_us

    @property
    def trouble(self) -> str | None:
        """One of the troubles, where there are any."""
        return next(iter(self.troubles.copy().values()), None)

    @property
    def open_part(self) -> OpenPart:
        """Where rows are added."""
        return self._open

    @property
    def unsealed(self) -> tuple[Part, ...]:
        """Parts that no row is added to any more, oldest first."""
        return self._closed

    def view(self, *, with_columns: bool = True) -> View:
        """All of it, as one value; its columns are always there."""
        with self._lock:
            return View(self._segments, (*self._closed, self._open.now()), self._next_seq)

    def last_by_cluster(self) -> dict[str, int]:
        """The last arrival from each cluster; from segments, not before it."""
        with self._lock:
            return dict(self._last_by_cluster)

    def add(self, heads: list[Head], places: list[tuple[int, int]], batch: Batch) -> None:
        """Makes rows visible that are in the open part's log."""
        with self._lock:
            self._open.add(heads, places, [batch])
            self._next_seq = heads[-1].first_seq + heads[-1].rows
            self._last_arrival_us = heads[-1].arrivals[-1][0]
            for head in heads:
                self._note_arrivals(head.extent.clusters, self._last_arrival_us)

    def rotate(self, fresh: OpenPart) -> None:
        """From now on rows are added to another part."""
        with self._lock:
            self._closed = (*self._closed, self._open.now())
            self._open = fresh

    def sealed(self, log: Path, segment: Segment | None) -> None:
        """The rows of a log are in a segment now; None where none was left."""
        with self._lock:
            self._closed = tuple(part for part in self._closed if part.log != log)
            if segment is not None:
                self._segments = (*self._segments, segment)

    def replaced(self, old: Segment, new: Segment | None) -> None:
        """A segment was made anew, or is no more."""
        with self._lock:
            kept = [each for each in self._segments if each.stem != old.stem]
            if new is not None:
                kept.append(new)
            self._segments = tuple(sorted(kept, key=lambda each: each.extent.first_seq))

    def fault(self, text: str) -> None:
        """Notes what was lost, once."""
        with self._lock:
            if text not in self.faults and len(self.faults) < _MOST_FAULTS:
                self.faults.append(text)

    def _note_arrivals(self, clusters: Sequence[str] | frozenset[str], arrival_us: int) -> None:
        for cluster in clusters:
            known = self._last_by_cluster.get(cluster, arrival_us)
            self._last_by_cluster[cluster] = max(known, arrival_us)
