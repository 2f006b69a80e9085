"""Sorting more records than memory holds: sorted runs on disk, merged when read."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

Record = tuple[tuple[Any, ...], bytes]
"""A key, and what is sorted by it. Keys must be unique or their order does not matter."""

DEFAULT_MEMORY_BYTES: Final = 32 * 1024 * 1024
# Beside its payload: the tuple, the key and its integers, as CPython lays them out.
_RECORD_OVERHEAD_BYTES: Final = 400
# Each run is an open file: few enough for any system's limit.
_MOST_RUNS: Final = 32


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
        self._runs: list[IO[bytes]] = []

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
            run = self._write(_merge(self._runs, []))
            self._runs = [run]
        self._records.sort(key=itemgetter(0))
        self._runs.append(self._write(iter(self._records)))
        self._records = []
        self._held_bytes = 0

    def _write(self, records: Iterator[Record]) -> IO[bytes]:
        import pickle  # these two take 7 ms to load, and most scans never spill
        import tempfile

        run: IO[bytes] = tempfile.TemporaryFile(prefix="barrelman-", dir=self._folder)  # noqa: SIM115
        for record in records:
            pickle.dump(record, run, protocol=5)
        return run


def _merge(runs: list[IO[bytes]], records: list[Record]) -> Iterator[Record]:
    import heapq

    try:
        yield from heapq.merge(*map(_read, runs), records, key=itemgetter(0))
    finally:
        for run in runs:
            run.close()


def _read(run: IO[bytes]) -> Iterator[Record]:
    import pickle

    run.seek(0)
    while True:
        try:
            yield pickle.load(run)  # our own file, unlinked since it was made
        except EOFError:
            return
