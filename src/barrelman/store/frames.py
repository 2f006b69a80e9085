"""Lines of events, packed: the one form of the log and of the segments.

A record is a skippable zstd frame that tells what the rows are, and a zstd frame of their lines.
So a file of records is a zstd file like any other: `zstd -dc` gives the lines.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain, repeat
from typing import NamedTuple, TypeVar, overload

import zstandard

from barrelman.store.bounds import Bounds, Extent

# A skippable frame's magic number and size, then ours: a tag that also numbers the format, a
# checksum of what follows it, the lengths of the JSON and of the lines' frame, its checksum.
_PREFIX = struct.Struct("<II4sIIII")
_MAGIC = 0x184D2A5B
_TAG = b"BRM1"
_CHECKED_FROM = 16
_SKIPPED = 8
_SEARCH_BYTES = 1 << 20

_Value = TypeVar("_Value")

Run = tuple[int, int]
"""A value, and for how many rows on it holds."""


class Head(NamedTuple):
    """What a record tells of its rows. Their seqs are dense."""

    first_seq: int
    rows: int
    arrivals: Sequence[Run]
    clusters: Sequence[tuple[str, int]]
    time_us: tuple[int, int] | None
    untimed: int
    size: int
    """Bytes of the lines, their ends included."""

    @property
    def extent(self) -> Extent:
        """The same without the order of rows."""
        return Extent(
            self.first_seq,
            self.first_seq + self.rows - 1,
            (self.arrivals[0][0], self.arrivals[-1][0]),
            self.time_us,
            self.untimed,
            frozenset(name for name, _ in self.clusters),
        )


class Block(NamedTuple):
    """Rows with their lines, each ended by a line feed."""

    head: Head
    lines: bytes
    wrappers: Mapping[int, bytes]
    """By position in the block."""


class Frame(NamedTuple):
    """Rows as readers get them, in order of seq."""

    lines: bytes
    starts: Sequence[int]
    seqs: Sequence[int]
    arrivals_us: Sequence[int]
    clusters: Sequence[str]
    wrappers: Mapping[int, bytes]
    """By position in the frame."""
    has_only_raw: bool
    """No row has a wrapper."""


class Record(NamedTuple):
    """A record in a file, checked."""

    head: Head
    at: int
    end: int
    lines_packed: bytes
    wrappers_packed: bytes


class Gap(NamedTuple):
    """Bytes of a file that are no whole record."""

    at: int
    end: int
    head: Head | None
    """Known where only the lines are broken."""
    is_cut: bool
    """The file ends where a record that begins there should go on."""


class Packer:
    """Compresses blocks; for one thread at a time."""

    def __init__(self, *, level: int) -> None:
        self._zstd = zstandard.ZstdCompressor(level=level, write_checksum=True)

    def packed(self, block: Block) -> bytes:
        """The bytes of a record."""
        body = self._zstd.compress(block.lines)
        wrappers = b""
        if block.wrappers:
            # Bytes that are no UTF-8 come through as half surrogates, and back.
            texts = {
                at: raw.decode("utf-8", "surrogateescape") for at, raw in block.wrappers.items()
            }
            wrappers = self._zstd.compress(json.dumps(texts).encode("ascii"))
        told = json.dumps(block.head._asdict(), separators=(",", ":")).encode("ascii")
        size = _PREFIX.size - _SKIPPED + len(told) + len(wrappers)
        crc = zlib.crc32(body)
        draft = _PREFIX.pack(_MAGIC, size, _TAG, 0, len(told), len(body), crc)
        checked = b"".join((draft[_CHECKED_FROM:], told, wrappers))
        return b"".join((draft[:12], struct.pack("<I", zlib.crc32(checked)), checked, body))


class Unpacker:
    """Decompresses records; for one thread at a time."""

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdDecompressor()

    def block(self, record: Record) -> Block:
        """A record's rows. Its checksums were right, so what fails here is a bug."""
        wrappers: dict[int, bytes] = {}
        if record.wrappers_packed:
            texts = json.loads(self._zstd.decompress(record.wrappers_packed))
            wrappers = {
                int(at): text.encode("utf-8", "surrogateescape") for at, text in texts.items()
            }
        lines = self._zstd.decompress(record.lines_packed)
        return Block(record.head, lines, wrappers)


def head_at(handle: int, at: int, *, end: int) -> tuple[Head, int] | None:
    """What the record at an offset tells, and where it ends; its lines are not looked at."""
    found = _head(handle, at, end)
    return None if found is None else (found[0], found[3])


def record_at(handle: int, at: int, *, end: int) -> Record | Gap:
    """The record at an offset of a file of `end` bytes, or what is wrong with it."""
    found = _head(handle, at, end)
    if found is None:
        return Gap(at, end, None, is_cut=_is_cut(handle, at, end))
    head, wrappers, body_at, body_end, crc = found
    if body_end > end:
        return Gap(at, end, head, is_cut=True)
    body = os.pread(handle, body_end - body_at, body_at)
    if zlib.crc32(body) != crc:
        return Gap(at, body_end, head, is_cut=False)
    return Record(head, at, body_end, body, wrappers)


def records_in(handle: int, *, at: int = 0, end: int) -> Iterator[Record | Gap]:
    """All records of a part of a file, in order, and what lies between them."""
    while at < end:
        found = record_at(handle, at, end=end)
        if isinstance(found, Gap) and found.head is None:
            following = next_record(handle, at + 1, end)
            found = found._replace(end=following, is_cut=found.is_cut and following == end)
        elif isinstance(found, Gap) and found.is_cut:
            # The length may be the truth and the rest be missing, or another record follow.
            following = next_record(handle, at + 1, end)
            found = found._replace(end=following, is_cut=following == end)
        yield found
        at = found.end


def merged(blocks: Sequence[Block]) -> Block:
    """Blocks whose seqs follow each other, as one."""
    if len(blocks) == 1:
        return blocks[0]
    wrappers: dict[int, bytes] = {}
    offset = 0
    for block in blocks:
        wrappers.update({offset + at: raw for at, raw in block.wrappers.items()})
        offset += block.head.rows
    heads = [block.head for block in blocks]
    times = [head.time_us for head in heads if head.time_us is not None]
    head = Head(
        heads[0].first_seq,
        offset,
        _joined_runs(chain.from_iterable(head.arrivals for head in heads)),
        _joined_runs(chain.from_iterable(head.clusters for head in heads)),
        (min(each[0] for each in times), max(each[1] for each in times)) if times else None,
        sum(head.untimed for head in heads),
        sum(head.size for head in heads),
    )
    return Block(head, b"".join(block.lines for block in blocks), wrappers)


class LineStarts(Sequence[int]):
    """Where each line of some begins, found out when first asked: a search that finds nothing in
    them never asks, and looking takes longer than unpacking."""

    __slots__ = ("_count", "_found", "_lines")

    def __init__(self, lines: bytes, count: int) -> None:
        self._lines = lines
        self._count = count
        self._found: list[int] | None = None

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> list[int]: ...
    def __getitem__(self, at: int | slice) -> int | list[int]:
        if self._found is None:
            sizes = [len(line) + 1 for line in self._lines.split(b"\n")]
            self._found = list(accumulate(sizes[:-2], initial=0))
        return self._found[at]


def frame_of(block: Block) -> Frame:
    """A block's rows one by one."""
    head = block.head
    return Frame(
        block.lines,
        LineStarts(block.lines, head.rows),
        range(head.first_seq, head.first_seq + head.rows),
        list(chain.from_iterable(repeat(value, count) for value, count in head.arrivals)),
        list(chain.from_iterable(repeat(value, count) for value, count in head.clusters)),
        block.wrappers,
        has_only_raw=not block.wrappers,
    )


def clipped(frame: Frame, *, first_seq: int, last_seq: int) -> Frame | None:
    """The rows of a frame between two seqs, both included; None where there is none."""
    low = max(first_seq - frame.seqs[0], 0)
    high = min(last_seq - frame.seqs[0] + 1, len(frame.seqs))
    if low == 0 and high == len(frame.seqs):
        return frame
    if low >= high:
        return None
    start = frame.starts[low]
    stop = frame.starts[high] if high < len(frame.starts) else len(frame.lines)
    wrappers = {at - low: raw for at, raw in frame.wrappers.items() if low <= at < high}
    return Frame(
        frame.lines[start:stop],
        [each - start for each in frame.starts[low:high]],
        frame.seqs[low:high],
        frame.arrivals_us[low:high],
        frame.clusters[low:high],
        wrappers,
        has_only_raw=not wrappers,
    )


def records_within(handle: int, bounds: Bounds, *, end: int) -> Iterator[Record | Gap]:
    """As `records_in`, without those that hold no row within the bounds."""
    at = 0
    while at < end:
        found = head_at(handle, at, end=end)
        if found is None or found[1] > end:
            yield from records_in(handle, at=at, end=end)
            return
        head, after = found
        if head.rows and bounds.may_meet(head.extent):
            yield record_at(handle, at, end=end)
        at = after


def next_record(handle: int, at: int, end: int) -> int:
    """Where the next record with a right head begins, or the end."""
    mark = struct.pack("<I", _MAGIC)
    while at < end:
        window = os.pread(handle, min(_SEARCH_BYTES, end - at), at)
        found = window.find(mark)
        while found >= 0:
            if _head(handle, at + found, end) is not None:
                return at + found
            found = window.find(mark, found + 1)
        if len(window) < len(mark) or at + len(window) >= end:
            break
        at += len(window) - len(mark) + 1
    return end


def _joined_runs(runs: Iterator[tuple[_Value, int]]) -> list[tuple[_Value, int]]:
    joined: list[tuple[_Value, int]] = []
    for value, count in runs:
        if joined and joined[-1][0] == value:
            joined[-1] = (value, joined[-1][1] + count)
        elif count:
            joined.append((value, count))
    return joined


def _head(handle: int, at: int, end: int) -> tuple[Head, bytes, int, int, int] | None:
    """Head, packed wrappers, where the lines' frame begins and ends, and its checksum."""
    prefix = os.pread(handle, _PREFIX.size, at)
    if len(prefix) < _PREFIX.size:
        return None
    magic, size, tag, crc, told_size, body_size, body_crc = _PREFIX.unpack(prefix)
    body_at = at + _SKIPPED + size
    fixed = _PREFIX.size - _SKIPPED
    if magic != _MAGIC or tag != _TAG or body_at > end or size < fixed + told_size:
        return None
    told = os.pread(handle, size - fixed, at + _PREFIX.size)
    if zlib.crc32(told, zlib.crc32(prefix[_CHECKED_FROM:])) != crc:
        return None
    return (
        _head_from(json.loads(told[:told_size])),
        told[told_size:],
        body_at,
        body_at + body_size,
        body_crc,
    )


def _head_from(told: dict[str, object]) -> Head:
    time_us = told.pop("time_us")
    return Head(
        time_us=None if time_us is None else tuple(time_us),  # type: ignore[arg-type]
        **told,  # type: ignore[arg-type]  # as `packed` wrote them
    )


def _is_cut(handle: int, at: int, end: int) -> bool:
    """Whether a record seems to begin here and the file to end within its head."""
    start = struct.pack("<I", _MAGIC)
    prefix = os.pread(handle, _PREFIX.size, at)
    if len(prefix) < _PREFIX.size:
        return prefix[:4] == start[: len(prefix)] if prefix else True
    magic, size, tag = _PREFIX.unpack(prefix)[:3]
    return bool(magic == _MAGIC and tag == _TAG and at + _SKIPPED + size > end)
