"""What another process stores, as far as a reader can see."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from barrelman.errors import Place, StoreError
from barrelman.store.bounds import Bounds, Extent
from barrelman.store.columns import Batch, unplain_in
from barrelman.store.folder import DataFolder
from barrelman.store.frames import Block
from barrelman.store.log import Group, first_seq_of, log_paths, skim
from barrelman.store.part import Part
from barrelman.store.segments import Describe, Segment, described, load, stems_in
from barrelman.store.view import Broken, View, part_blocks

_TRIES = 20


class _Log(NamedTuple):
    """What was seen of a log, and up to where."""

    groups: list[Group]
    at: int


class ForeignShelf:
    """Looks anew for each view. It writes nothing, takes no lock, and tells no faults of others."""

    trouble: str | None = None

    def __init__(self, folder: DataFolder, *, describe: Describe) -> None:
        self._folder = folder
        self._describe = describe
        self._lock = threading.Lock()
        self._logs: dict[Path, _Log] = {}
        self._segments: dict[Path, tuple[int, Segment | None]] = {}
        self._columns: dict[Path, tuple[tuple[Group, ...], tuple[Batch, ...]]] = {}
        self.faults: list[str] = []

    @property
    def next_seq(self) -> int:
        """The seq of the next row to come."""
        return self.view().next_seq

    @property
    def last_arrival_us(self) -> int:
        """When the last row arrived; 0 where none ever did."""
        return max((each.arrival_us[1] for each in self._extents()), default=0)

    def last_by_cluster(self) -> dict[str, int]:
        """The last arrival from each cluster; of segments' clusters, a later instant at most."""
        last: dict[str, int] = {}
        for extent in self._extents():
            for cluster in extent.clusters:
                last[cluster] = max(last.get(cluster, 0), extent.arrival_us[1])
        return last

    def view(self, *, with_columns: bool = False) -> View:
        """All that is stored now. Columns of rows in a log take decoding them again."""
        with self._lock:
            for _ in range(_TRIES):
                try:
                    return self._look(with_columns=with_columns)
                except FileNotFoundError:
                    continue  # sealed or removed while we looked
        raise StoreError(
            "the data folder changes faster than it can be read",
            place=Place(str(self._folder.path)),
        )

    def fault(self, text: str) -> None:
        """Notes what was found broken, once."""
        with self._lock:
            if text not in self.faults:
                self.faults.append(text)

    def _extents(self) -> list[Extent]:
        view = self.view()
        extents = [each.extent for each in view.segments]
        return extents + [each.extent for each in view.parts if each.extent is not None]

    def _look(self, *, with_columns: bool) -> View:
        # Logs first: what is sealed meanwhile is then seen twice, and not overlooked.
        paths = log_paths(self._folder.log)
        self._logs = {path: self._skimmed(path) for path in paths}
        self._columns = {path: self._columns[path] for path in paths if path in self._columns}
        segments = self._sealed()
        last_sealed = max((each.extent.last_seq for each in segments), default=-1)
        next_seq = max([last_sealed + 1, *(first_seq_of(path) for path in paths)])
        parts = []
        for path, log in self._logs.items():
            groups = tuple(each for each in log.groups if each.extent.first_seq > last_sealed)
            if groups:
                next_seq = max(next_seq, groups[-1].extent.last_seq + 1)
                parts.append(self._part(path, groups, with_columns=with_columns))
        return View(tuple(segments), tuple(parts), next_seq)

    def _skimmed(self, path: Path) -> _Log:
        groups, at = self._logs.get(path, _Log([], 0))
        if path.stat().st_size < at:  # what was not acknowledged was cut off
            groups, at = [], 0
        return _Log(groups, skim(path, groups, at=at))

    def _sealed(self) -> list[Segment]:
        known = self._segments
        self._segments = {}
        for stem, endings in stems_in(self._folder.events).items():
            if len(endings) < 2:
                continue
            written = stem.with_name(stem.name + ".parquet").stat().st_mtime_ns
            if stem in known and known[stem][0] == written:
                self._segments[stem] = known[stem]
            else:
                self._segments[stem] = (written, load(stem))
        return [segment for _, segment in self._segments.values() if segment is not None]

    def _part(self, path: Path, groups: tuple[Group, ...], *, with_columns: bool) -> Part:
        extent = groups[0].extent
        for group in groups[1:]:
            extent = extent.joined(group.extent)
        rows = sum(each.extent.last_seq - each.extent.first_seq + 1 for each in groups)
        part = Part(path, extent, rows, 0, groups, ())
        if not with_columns:
            return part
        known = self._columns.get(path)
        if known is None or known[0] != groups:
            made: list[Batch] = []
            for _ in described(_whole(part), self._describe, made):
                pass
            known = self._columns[path] = (groups, tuple(made))
        unplain = sum(unplain_in(batch) for batch in known[1])
        return part._replace(batches=known[1], unplain=unplain)


def _whole(part: Part) -> Iterator[Block]:
    for found in part_blocks(part, Bounds()):
        if not isinstance(found, Broken):
            yield found
