"""Sealed rows: two files a segment, `.zst` with the lines and `.parquet` with the columns."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from barrelman.errors import StoreError
from barrelman.records.rows import Row
from barrelman.store.bounds import Bounds, Extent
from barrelman.store.columns import (
    Batch,
    Cut,
    Keys,
    appended,
    batch_of,
    keys_in,
    read_keys,
    read_meta,
    rows_from,
    unplain_in,
    write_parquet,
)
from barrelman.store.folder import failure, sync_folder
from barrelman.store.frames import (
    Block,
    Gap,
    Packer,
    Record,
    Unpacker,
    frame_of,
    records_in,
    records_within,
)

Describe = Callable[[bytes, bytes | None, str], Row]
"""A line, its wrapper and its cluster to its row."""

_LEVEL = 3
_DRAFT = ".tmp"
_REMOVED = ".removed"


class Segment(NamedTuple):
    """A published segment."""

    stem: Path
    """Its files without their endings."""
    extent: Extent
    rows: int
    unplain: int
    """Of how many the columns are only hints."""
    size: int
    """Bytes of both files."""

    @property
    def lines(self) -> Path:
        """Its lines, packed."""
        return _with_ending(self.stem, ".zst")

    @property
    def columns(self) -> Path:
        """Its columns. Where this file is, the segment is published."""
        return _with_ending(self.stem, ".parquet")


class Unjudged(NamedTuple):
    """Rows at or beyond either were not judged yet."""

    seq: int | None
    arrival_us: int | None

    def has_some_of(self, segment: Segment) -> bool:
        """Whether a segment holds such rows."""
        extent = segment.extent
        return (self.seq is not None and extent.last_seq >= self.seq) or (
            self.arrival_us is not None and extent.arrival_us[1] >= self.arrival_us
        )

    def count_in(self, segment: Segment) -> int:
        """How many it holds; all, where its columns cannot be read."""
        if not self.has_some_of(segment):
            return 0
        found = rows_from(segment.columns, seq=self.seq, arrival_us=self.arrival_us)
        return segment.rows if found is None else found


class Rebuilt(NamedTuple):
    """What came of a damaged segment."""

    segment: Segment | None
    """None where no row was left."""
    lost: int | None
    """Rows that are gone; None where their number is not known."""


def publish(folder: Path, blocks: Iterator[Block], batches: Sequence[Batch]) -> Segment:
    """Writes a new segment of all these rows; it is there when this returns, or not at all."""
    first = next(blocks)
    day = datetime.fromtimestamp(first.head.arrivals[0][0] // 1_000_000, UTC).date().isoformat()
    last_seq = batches[-1].column("seq")[-1].as_py()
    stem = folder / day / f"{first.head.first_seq:016d}-{last_seq:016d}"

    def all_blocks() -> Iterator[Block]:
        yield first
        yield from blocks

    try:
        if not stem.parent.exists():
            stem.parent.mkdir()
            sync_folder(folder)
        return _written(stem, all_blocks(), lambda: batches)
    except OSError as error:
        raise failure("a segment cannot be written", stem, error) from error


def load(stem: Path) -> Segment | None:
    """A published segment; None where its files are not what they tell of each other.

    Raises `FileNotFoundError` where one of them is gone.
    """
    lines, columns = _with_ending(stem, ".zst"), _with_ending(stem, ".parquet")
    size = lines.stat().st_size
    meta = read_meta(columns)
    if meta is None or meta.lines_size != size:
        return None
    return Segment(stem, meta.extent, meta.rows, meta.unplain, size + columns.stat().st_size)


def stems_in(folder: Path) -> dict[Path, set[str]]:
    """All stems in order of seq, and which of their files there are."""
    found: dict[Path, set[str]] = {}
    try:
        days = [day for day in os.scandir(folder) if day.is_dir()]
        for day in days:
            for each in os.scandir(day.path):
                stem, ending = os.path.splitext(each.path)
                if ending in {".zst", ".parquet"}:
                    found.setdefault(Path(stem), set()).add(ending)
    except FileNotFoundError:
        return stems_in(folder)  # a day that was just emptied
    except OSError as error:
        raise failure("the segments cannot be listed", folder, error) from error
    return dict(sorted(found.items(), key=lambda item: item[0].name))


def remove(segment: Segment) -> None:
    """Takes a segment away, its columns by another name first: a removal that does not come to its
    end is then told from damage, and is ended by `clear_drafts`.
    """
    removed = _with_ending(segment.stem, _REMOVED)
    try:
        with contextlib.suppress(FileNotFoundError):
            segment.columns.rename(removed)
            sync_folder(removed.parent)
        _end_removal(removed)
    except OSError as error:
        raise failure("a segment cannot be removed", segment.stem, error) from error


def clear_drafts(folder: Path) -> None:
    """Removes what was being written or removed when the process ended."""
    for draft in folder.glob(f"*/*{_DRAFT}"):
        draft.unlink(missing_ok=True)
    for removed in folder.glob(f"*/*{_REMOVED}"):
        _end_removal(removed)


def records_of(segment: Segment, bounds: Bounds) -> Iterator[Record | Gap]:
    """Records that may hold rows within the bounds, in order of seq."""
    with open(segment.lines, "rb", buffering=0) as file:
        handle = file.fileno()
        yield from records_within(handle, bounds, end=os.fstat(handle).st_size)


def keys_of_segment(segment: Segment, describe: Describe) -> Iterator[Keys]:
    """The keys of its rows; some come twice where the columns are broken, and its lines tell.

    Raises `StoreError` where the lines cannot be read either.
    """
    try:
        yield from read_keys(segment.columns)
    except StoreError:
        try:
            with open(segment.lines, "rb", buffering=0) as file:
                for block in _whole(file.fileno(), []):
                    made: list[Batch] = []
                    for _ in described(iter([block]), describe, made):
                        yield from map(keys_in, made)
        except OSError as error:
            raise failure("keys cannot be read", segment.lines, error) from error


def rebuild(
    stem: Path,
    describe: Describe,
    *,
    damaged: Path,
    before_loss: Callable[[], object] = lambda: None,
) -> Rebuilt:
    """Makes a segment anew out of the whole records of its lines; what was broken is put aside.

    Where rows are lost, `before_loss` is called before the files tell no more of it.
    """
    lines, columns = _with_ending(stem, ".zst"), _with_ending(stem, ".parquet")
    gaps: list[Gap] = []
    made: list[Batch] = []
    try:
        if columns.exists():
            put_aside(columns, damaged)
        with open(lines, "rb", buffering=0) as file:
            handle = file.fileno()
            blocks = described(_whole(handle, gaps), describe, made)
            segment = _rewritten(stem, blocks, made)
            lost = _lost(stem, segment)
            if lost != 0:
                before_loss()
            if gaps:
                put_aside(lines, damaged)
            if segment is not None:
                _swap(stem)
                size = segment.lines.stat().st_size + segment.columns.stat().st_size
                segment = segment._replace(size=size)
            else:
                columns.unlink(missing_ok=True)
                lines.unlink(missing_ok=True)
    except OSError as error:
        raise failure("a segment cannot be made anew", stem, error) from error
    return Rebuilt(segment, lost)


def described(blocks: Iterator[Block], describe: Describe, made: list[Batch]) -> Iterator[Block]:
    """The same blocks; their rows' columns are put into `made` as they pass."""
    batches: tuple[Batch, ...] = ()
    for block in blocks:
        frame = frame_of(block)
        lines = block.lines.split(b"\n")
        rows = [
            describe(lines[at], block.wrappers.get(at), cluster)
            for at, cluster in enumerate(frame.clusters)
        ]
        at = 0
        for arrival_us, count in block.head.arrivals:
            some = rows[at : at + count]
            names = [(each, 1) for each in frame.clusters[at : at + count]]
            first_seq = block.head.first_seq + at
            batch = batch_of(some, first_seq=first_seq, arrival_us=arrival_us, clusters=names)
            batches = appended(batches, batch)
            made[:] = batches
            at += count
        yield block


def put_aside(path: Path, damaged: Path) -> Path:
    """Keeps a broken file among the damaged ones; the file itself stays."""
    damaged.mkdir(exist_ok=True)
    number = 0
    while (kept := damaged / f"{path.name}.{number}").exists():
        number += 1
    try:
        os.link(path, kept)
    except OSError:  # not every file system knows links
        shutil.copyfile(path, kept)
    return kept


def _whole(handle: int, gaps: list[Gap]) -> Iterator[Block]:
    unpacker = Unpacker()
    for found in records_in(handle, end=os.fstat(handle).st_size):
        if isinstance(found, Gap):
            gaps.append(found)
        elif found.head.rows:
            yield unpacker.block(found)


def _rewritten(stem: Path, blocks: Iterator[Block], made: list[Batch]) -> Segment | None:
    """A draft of the segment; None where there was no row for it."""
    first = next(blocks, None)
    if first is None:
        return None

    def all_blocks() -> Iterator[Block]:
        yield first
        yield from blocks

    return _drafted(stem, all_blocks(), lambda: made)


def _written(
    stem: Path, blocks: Iterator[Block], batches: Callable[[], Sequence[Batch]]
) -> Segment:
    try:
        segment = _drafted(stem, blocks, batches)
        _swap(stem)
    except BaseException:
        for ending in (".zst", ".parquet"):
            _with_ending(stem, ending + _DRAFT).unlink(missing_ok=True)
        raise
    return segment


def _drafted(
    stem: Path, blocks: Iterator[Block], batches: Callable[[], Sequence[Batch]]
) -> Segment:
    """Writes both files under names that nobody reads, durably."""
    packer = Packer(level=_LEVEL)
    cuts: list[Cut] = []
    extent: Extent | None = None
    size = 0
    with open(_with_ending(stem, ".zst" + _DRAFT), "wb", buffering=0) as file:
        for block in blocks:
            packed = packer.packed(block)
            cuts.append(Cut(size, block.head.rows))
            size += len(packed)
            _write(file.fileno(), packed)
            extent = block.head.extent if extent is None else extent.joined(block.head.extent)
        os.fsync(file.fileno())
    assert extent is not None
    columns = _with_ending(stem, ".parquet" + _DRAFT)
    made = batches()
    write_parquet(columns, made, cuts=cuts, extent=extent, lines_size=size)
    count = sum(cut.rows for cut in cuts)
    unplain = sum(unplain_in(batch) for batch in made)
    return Segment(stem, extent, count, unplain, size + columns.stat().st_size)


def _swap(stem: Path) -> None:
    """Gives drafts their names: the lines first, as the columns say that all is there."""
    for ending in (".zst", ".parquet"):
        _with_ending(stem, ending + _DRAFT).replace(_with_ending(stem, ending))
    sync_folder(stem.parent)


def _end_removal(removed: Path) -> None:
    day = removed.parent
    lines = removed.with_suffix(".zst")
    if lines.exists():
        lines.unlink()
        sync_folder(day)  # lines that outlived what tells of their removal would come back
    removed.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # there are others of the day
        day.rmdir()


def _lost(stem: Path, segment: Segment | None) -> int | None:
    """How many rows its name promises and it does not hold."""
    first, dash, last = stem.name.partition("-")
    if not (dash and first.isdecimal() and last.isdecimal()):
        return None
    return int(last) - int(first) + 1 - (segment.rows if segment else 0)


def _with_ending(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)


def _write(handle: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]
