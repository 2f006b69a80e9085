"""The write-ahead log: commits that are in no segment yet, file by file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from barrelman.errors import Place, StoreError
from barrelman.records.rows import Row
from barrelman.store.bounds import Extent
from barrelman.store.columns import own_time
from barrelman.store.folder import failure, sync_folder
from barrelman.store.frames import (
    Block,
    Gap,
    Head,
    Packer,
    Record,
    head_at,
    next_record,
    records_in,
)

# Records of few rows are read together up to about this many bytes of lines.
GROUP_BYTES = 128 * 1024
_LEVEL = 1


class Group(NamedTuple):
    """Records that lie side by side in a log and are read at once."""

    extent: Extent
    at: int
    end: int
    size: int
    """Bytes of the lines."""


class LogWriter:
    """Appends to one file. What `append` did not end well with is cut off again."""

    def __init__(self, path: Path, handle: int, size: int) -> None:
        self.path = path
        self.size = size
        self._handle = handle
        self._is_torn = False
        self._packer = Packer(level=_LEVEL)

    @classmethod
    def create(cls, folder: Path, *, first_seq: int, arrival_us: int) -> LogWriter:
        """A new file, named by the next seq. Its first record tells that and the last arrival."""
        path = log_path(folder, first_seq)
        start = Head(first_seq, 0, [(arrival_us, 0)], [], None, 0, 0)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise failure("the log cannot be written", path, error) from error
        writer = cls(path, handle, 0)
        try:
            writer.append([Block(start, b"", {})])
            sync_folder(folder)
        except BaseException:
            writer.close()
            path.unlink(missing_ok=True)
            raise
        return writer

    @classmethod
    def resume(cls, path: Path, *, size: int) -> LogWriter:
        """Goes on in a file after its first `size` bytes; what follows them is cut off.

        Those bytes are durable then: the one who wrote them may have been killed before they were.
        """
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise failure("the log cannot be written", path, error) from error
        writer = cls(path, handle, size)
        writer._is_torn = True
        try:
            writer._mend()
        except BaseException:
            writer.close()
            raise
        return writer

    def append(self, blocks: Sequence[Block]) -> list[tuple[int, int]]:
        """Writes records durably, all or none; where each begins and ends."""
        self._mend()
        packed = [self._packer.packed(block) for block in blocks]
        places = []
        at = self.size
        for each in packed:
            places.append((at, at + len(each)))
            at += len(each)
        try:
            _write_all(self._handle, b"".join(packed), self.size)
            os.fdatasync(self._handle)
        except OSError as error:
            self._is_torn = True
            with contextlib.suppress(StoreError):  # else the next append tries it again
                self._mend()
            raise failure("events cannot be written", self.path, error) from error
        self.size = at
        return places

    def close(self) -> None:
        """Lets go of the file; twice is once."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _mend(self) -> None:
        if not self._is_torn:
            return
        try:
            os.ftruncate(self._handle, self.size)
            os.fdatasync(self._handle)
        except OSError as error:
            raise failure("the log cannot be mended", self.path, error) from error
        self._is_torn = False


def log_path(folder: Path, first_seq: int) -> Path:
    """Where the log of rows from that seq on lies."""
    return folder / f"{first_seq:016d}.log"


def log_paths(folder: Path) -> list[Path]:
    """All logs, oldest first."""
    try:
        return sorted(path for path in folder.iterdir() if _is_log(path))
    except OSError as error:
        raise failure("the logs cannot be listed", folder, error) from error


def read_records(path: Path, *, at: int = 0) -> Iterator[Record | Gap]:
    """The records of a log from an offset on, and what lies between them."""
    with open(path, "rb", buffering=0) as file:
        handle = file.fileno()
        yield from records_in(handle, at=at, end=os.fstat(handle).st_size)


def extended(groups: list[Group], extent: Extent, *, at: int, end: int, size: int) -> None:
    """Notes one more record: in the last group, or, where that is large, in one of its own."""
    if groups:
        last = groups[-1]
        follows = last.end == at and last.extent.last_seq + 1 == extent.first_seq
        if follows and last.size + size <= GROUP_BYTES:
            groups[-1] = Group(last.extent.joined(extent), last.at, end, last.size + size)
            return
    groups.append(Group(extent, at, end, size))


def skim(path: Path, groups: list[Group], *, at: int) -> int:
    """Notes the records from an offset on by their heads alone; where the last whole one ends.

    For readers of another process: what is not whole yet is being written.
    """
    with open(path, "rb", buffering=0) as file:
        handle = file.fileno()
        end = os.fstat(handle).st_size
        while at < end:
            found = head_at(handle, at, end=end)
            if found is None or found[1] > end:
                # Being written, or broken long since: then something follows.
                at, unfinished = next_record(handle, at + 1, end), at
                if at == end:
                    return unfinished
                continue
            head, after = found
            if head.rows:
                extended(groups, head.extent, at=at, end=after, size=head.size)
            at = after
    return at


def blocks_of_rows(
    rows: Sequence[Row], runs: Sequence[tuple[str, int]], *, first_seq: int, arrival_us: int
) -> Iterator[Block]:
    """Rows as blocks of about the size that is read at once."""
    names = [(cluster, end) for cluster, end in _ends(runs)]
    start = size = 0
    for at, row in enumerate(rows):
        size += len(row.line) + (len(row.wrapper) if row.wrapper else 0)
        if size >= GROUP_BYTES or at + 1 == len(rows):
            some = rows[start : at + 1]
            clusters = _between(names, start, at + 1)
            yield _block(some, clusters, first_seq=first_seq + start, arrival_us=arrival_us)
            start = at + 1
            size = 0


def _write_all(handle: int, content: bytes, at: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(handle, view, at)
        at += written
        view = view[written:]


def _is_log(path: Path) -> bool:
    return path.suffix == ".log" and path.stem.isdecimal()


def first_seq_of(path: Path) -> int:
    """The seq that a log's name tells."""
    if not _is_log(path):
        raise StoreError("no name of a log", place=Place(str(path)))
    return int(path.stem)


def _block(
    rows: Sequence[Row], clusters: list[tuple[str, int]], *, first_seq: int, arrival_us: int
) -> Block:
    lines = b"\n".join([*[row.line for row in rows], b""])
    if lines.count(b"\n") != len(rows):
        raise ValueError("a line holds a line feed")
    times = [time_us for row in rows if (time_us := own_time(row)) is not None]
    head = Head(
        first_seq,
        len(rows),
        [(arrival_us, len(rows))],
        clusters,
        (min(times), max(times)) if times else None,
        len(rows) - len(times),
        len(lines),
    )
    wrappers = {at: row.wrapper for at, row in enumerate(rows) if row.wrapper is not None}
    return Block(head, lines, wrappers)


def _ends(runs: Sequence[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    end = 0
    for cluster, count in runs:
        end += count
        yield cluster, end


def _between(ends: Sequence[tuple[str, int]], start: int, stop: int) -> list[tuple[str, int]]:
    """The runs of some rows, from the ends of all runs."""
    runs = []
    for cluster, end in ends:
        if end > start:
            runs.append((cluster, min(end, stop) - start))
            start = min(end, stop)
        if start == stop:
            break
    return runs
