"""Sorting more records than memory holds: sorted runs on disk, merged when read."""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

Record = tuple[tuple[Any, ...], bytes]
"""A key, and what is sorted by it. Keys must be unique or their order does not matter.

Keys are tuples of numbers, texts and truths.
"""

DEFAULT_MEMORY_BYTES: Final = 32 * 1024 * 1024
# Beside its payload: the tuple, the key and its integers, as CPython lays them out.
_RECORD_OVERHEAD_BYTES: Final = 400
# Each run is an open file: few enough for any system's limit.
_MOST_RUNS: Final = 32
_BATCH: Final = 256


class Sorter:
    """Takes records in any order and gives them back sorted by key.

    Run files live in `folder` (the system's temporary folder where None), already unlinked:
    nothing is left behind, however the process ends.
    """

    def __init__(
        self, *, memory_bytes: int = DEFAULT_MEMORY_BYTES, folder: Path | None = None
    ) -> None:
        self._memory_bytes = memory_bytes
        self._folder = folder
        self._records: list[Record] = []
        self._held_bytes = 0
        self._runs: list[_Run] = []

    def add(self, key: tuple[Any, ...], payload: bytes) -> None:
        self._records.append((key, payload))
        self._held_bytes += len(payload) + _RECORD_OVERHEAD_BYTES
        if self._held_bytes > self._memory_bytes:
            self._spill()

    @property
    def spilled(self) -> bool:
        return bool(self._runs)

    def drain(self) -> Iterator[Record]:
        """Every record in order; the sorter is empty, and may be filled again, at once."""
        records, runs = self._records, self._runs
        self._records, self._runs, self._held_bytes = [], [], 0
        records.sort(key=itemgetter(0))
        return _merge(runs, records) if runs else iter(records)

    def _spill(self) -> None:
        if len(self._runs) >= _MOST_RUNS:
            first, last = min(run.first for run in self._runs), max(run.last for run in self._runs)
            merged = _merge(self._runs, [])
            self._runs = [_Run(self._write(merged), first, last)]
        self._records.sort(key=itemgetter(0))
        first, last = self._records[0][0], self._records[-1][0]
        self._runs.append(_Run(self._write(iter(self._records)), first, last))
        self._records = []
        self._held_bytes = 0

    def _write(self, records: Iterator[Record]) -> IO[bytes]:
        import tempfile  # takes 5 ms to load, and most scans never spill

        file: IO[bytes] = tempfile.TemporaryFile(prefix="barrelman-", dir=self._folder)  # noqa: SIM115
        while batch := list(islice(records, _BATCH)):
            marshal.dump(batch, file)
        return file


@dataclass(slots=True)
class _Run:
    """Sorted records on disk, and the keys of the first and the last of them."""

    file: IO[bytes]
    first: tuple[Any, ...]
    last: tuple[Any, ...]


def _merge(runs: list[_Run], records: list[Record]) -> Iterator[Record]:
    """A log is mostly in order, and so are its runs: only those that overlap are merged."""
    from heapq import merge

    try:
        for group in _overlapping(runs, records):
            if len(group) == 1:
                yield from group[0]
            else:
                yield from merge(*group, key=itemgetter(0))
    finally:
        for run in runs:
            run.file.close()


def _overlapping(runs: list[_Run], records: list[Record]) -> Iterator[list[Iterable[Record]]]:
    """Groups of sources, each of which begins behind the end of the group before it."""
    found: list[tuple[tuple[Any, ...], tuple[Any, ...], Iterable[Record]]] = [
        (run.first, run.last, _read(run.file)) for run in runs
    ]
    if records:
        found.append((records[0][0], records[-1][0], records))
    found.sort(key=itemgetter(0))
    group: list[Iterable[Record]] = []
    end: tuple[Any, ...] = ()
    for first, last, source in found:
        if group and first > end:
            yield group
            group = []
        group.append(source)
        end = max(end, last)
    if group:
        yield group


def _read(file: IO[bytes]) -> Iterator[Record]:
    file.seek(0)
    while True:
        try:
            batch = marshal.load(file)  # our own file, unlinked since it was made
        except EOFError:
            return
        yield from batch
