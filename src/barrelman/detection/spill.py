"""Sorting more records than memory holds: sorted runs on disk, merged when read."""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from os import SEEK_END
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

Record = tuple[Any, ...]
"""A key, and what is sorted by it: of both, what `marshal` takes. Keys must be unique, or their
order does not matter."""

DEFAULT_MEMORY_BYTES: Final = 32 * 1024 * 1024
# Beside its payload: the tuple, the key and its integers, as CPython lays them out.
_RECORD_OVERHEAD_BYTES: Final = 400
# So many runs are merged at once, each with a batch of its records in memory.
_MOST_RUNS: Final = 32
_BATCH: Final = 256


class Sorter:
    """Takes records in any order and gives them back sorted by key.

    Its file lies in `folder` (the system's temporary folder where None), already unlinked: nothing
    is left behind, however the process ends.
    """

    def __init__(
        self,
        *,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        folder: Path | None = None,
        key: Callable[[Any], Any] | None = itemgetter(0),
    ) -> None:
        """`key` None: records are flat, and sort by themselves."""
        self._memory_bytes = memory_bytes
        self._folder = folder
        self._key = key
        self._records: list[Record] = []
        self._held_bytes = 0
        self._disk = _Disk(folder, key)

    def add(self, key: tuple[Any, ...], payload: Any, *, size_bytes: int | None = None) -> None:
        """`size_bytes` is to be given of a payload that is not bytes."""
        self.hold((key, payload), len(payload) if size_bytes is None else size_bytes)

    def hold(self, record: Record, size_bytes: int) -> None:
        """As `add`, of a whole record."""
        self._records.append(record)
        self._held_bytes += size_bytes + _RECORD_OVERHEAD_BYTES
        if self._held_bytes > self._memory_bytes:
            self._spill()

    def hold_all(self, records: Sequence[Record], size_bytes: int) -> None:
        """As `hold`, of many; the size is that of all of them."""
        self._records += records
        self._held_bytes += size_bytes + _RECORD_OVERHEAD_BYTES * len(records)
        if self._held_bytes > self._memory_bytes:
            self._spill()

    @property
    def spilled(self) -> bool:
        return bool(self._disk.runs)

    def drain(self) -> Iterator[Record]:
        """Every record in order; the sorter is empty, and may be filled again, at once."""
        records, disk = self._records, self._disk
        self._records, self._held_bytes, self._disk = [], 0, _Disk(self._folder, self._key)
        records.sort(key=self._key)
        return disk.drain(records) if disk.runs else iter(records)

    def clear(self) -> None:
        """Lets go of every record."""
        self._records, self._held_bytes = [], 0
        self._disk.close()
        self._disk = _Disk(self._folder, self._key)

    def _spill(self) -> None:
        self._records.sort(key=self._key)
        self._disk.write(self._records)
        self._records, self._held_bytes = [], 0


@dataclass(slots=True)
class _Run:
    """Sorted records in a file: the keys of the first and last, and where they lie."""

    first: tuple[Any, ...]
    last: tuple[Any, ...]
    start: int
    end: int


class _Disk:
    """Runs of one sorter, one behind the other in a file of its own."""

    def __init__(self, folder: Path | None, key: Callable[[Any], Any] | None) -> None:
        self._folder = folder
        self._key = key
        self._key_of = key or _itself
        self._file: IO[bytes] | None = None
        self.runs: list[_Run] = []

    def write(self, records: list[Record]) -> None:
        """Another run."""
        if len(self.runs) >= _MOST_RUNS:
            first, last = min(run.first for run in self.runs), max(run.last for run in self.runs)
            # What it replaces stays in the file until all is read.
            self.runs = [_Run(first, last, *self._append(self._merged([])))]
        ends = self._key_of(records[0]), self._key_of(records[-1])
        self.runs.append(_Run(*ends, *self._append(iter(records))))

    def drain(self, records: list[Record]) -> Iterator[Record]:
        """All runs and these sorted records in order; the file is gone when that ends."""
        try:
            yield from self._merged(records)
        finally:
            self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _append(self, records: Iterator[Record]) -> tuple[int, int]:
        """Where they lie then."""
        if self._file is None:
            import tempfile  # takes 5 ms to load, and most scans never spill

            self._file = tempfile.TemporaryFile(prefix="barrelman-", dir=self._folder)  # noqa: SIM115
        file = self._file
        start = file.seek(0, SEEK_END)
        while batch := list(islice(records, _BATCH)):
            file.seek(0, SEEK_END)  # the records may be read from this very file
            marshal.dump(batch, file)
        return start, file.tell()

    def _merged(self, records: list[Record]) -> Iterator[Record]:
        """A log is mostly in order, and so are its runs: only those that overlap are merged."""
        from heapq import merge

        for group in self._overlapping(records):
            if len(group) == 1:
                yield from group[0]
            else:
                yield from merge(*group, key=self._key)

    def _overlapping(self, records: list[Record]) -> Iterator[list[Iterable[Record]]]:
        """Groups of sources, each of which begins behind the end of the group before it."""
        found: list[tuple[tuple[Any, ...], tuple[Any, ...], Iterable[Record]]] = [
            (run.first, run.last, self._read(run)) for run in self.runs
        ]
        if records:
            found.append((self._key_of(records[0]), self._key_of(records[-1]), records))
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

    def _read(self, run: _Run) -> Iterator[Record]:
        file, at = self._file, run.start
        assert file is not None
        while at < run.end:
            file.seek(at)
            batch = marshal.load(file)  # our own file, unlinked since it was made
            at = file.tell()
            yield from batch


def _itself(record: Record) -> Record:
    return record
