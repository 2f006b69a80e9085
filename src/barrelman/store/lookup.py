"""The lines of rows that a search found, wherever they lie by now."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from barrelman.store.bounds import Bounds
from barrelman.store.frames import Block, Record, Unpacker, record_at
from barrelman.store.part import Part
from barrelman.store.search import RowRef
from barrelman.store.segments import Segment, records_of
from barrelman.store.view import Broken, View, part_blocks

_KEPT_BLOCKS = 4


class StoredLine(NamedTuple):
    """A row with its line."""

    seq: int
    arrival_us: int
    time_us: int | None
    cluster: str
    line: bytes
    wrapper: bytes | None
    is_plain: bool


class Lookup:
    """Fetches rows one by one; one block of lines is unpacked at a time."""

    def __init__(self, view: Callable[[], View], tell: Callable[[Broken], None]) -> None:
        self._view_now = view
        self._tell = tell
        self._view = view()
        self._unpacker = Unpacker()
        self._blocks: list[Block] = []

    def lines(self, refs: Sequence[RowRef]) -> Iterator[StoredLine]:
        """The rows in the order of `refs`, without those that are kept no longer."""
        for ref in refs:
            block = self._block(ref)
            if block is None:
                continue
            at = ref.seq - block.head.first_seq
            line = _line(block, ref, at)
            yield StoredLine(
                ref.seq,
                ref.arrival_us,
                ref.time_us,
                ref.cluster,
                line,
                block.wrappers.get(at),
                ref.is_plain,
            )

    def _block(self, ref: RowRef) -> Block | None:
        for block in self._blocks:
            if _holds(block, ref.seq):
                return block
        found: Block | None = None
        try:
            found = self._read(ref)
        except FileNotFoundError:
            # Sealed or removed since the view was taken.
            self._view = self._view_now()
            try:
                found = self._read(ref)
            except FileNotFoundError:
                return None
        if found is not None:
            self._blocks = [found, *self._blocks[: _KEPT_BLOCKS - 1]]
        return found

    def _read(self, ref: RowRef) -> Block | None:
        segment = _holder(self._view.segments, ref.seq)
        if segment is not None:
            return self._from_segment(segment, ref)
        wanted = Bounds(seq=(ref.seq, ref.seq))
        for part in self._view.parts:
            if part.extent is not None and wanted.may_meet(part.extent):
                return self._from_part(part, wanted, ref.seq)
        return None

    def _from_segment(self, segment: Segment, ref: RowRef) -> Block | None:
        with open(segment.lines, "rb", buffering=0) as file:
            handle = file.fileno()
            end = os.fstat(handle).st_size
            found = record_at(handle, ref.frame, end=end) if 0 <= ref.frame < end else None
        if isinstance(found, Record):
            block = self._unpacker.block(found)
            if _holds(block, ref.seq):
                return block
        # The row was in the log when it was found, or the segment was made anew since.
        for each in records_of(segment, Bounds(seq=(ref.seq, ref.seq))):
            if not isinstance(each, Record):
                self._tell(Broken(segment.lines, each))
            elif each.head.first_seq <= ref.seq < each.head.first_seq + each.head.rows:
                return self._unpacker.block(each)
        return None

    def _from_part(self, part: Part, wanted: Bounds, seq: int) -> Block | None:
        for found in part_blocks(part, wanted):
            if isinstance(found, Broken):
                self._tell(found)
            elif _holds(found, seq):
                return found
        return None


def _holds(block: Block, seq: int) -> bool:
    return block.head.first_seq <= seq < block.head.first_seq + block.head.rows


def _holder(segments: Sequence[Segment], seq: int) -> Segment | None:
    at = bisect_right(segments, seq, key=lambda each: each.extent.first_seq) - 1
    if at >= 0 and segments[at].extent.last_seq >= seq:
        return segments[at]
    return None


def _line(block: Block, ref: RowRef, at: int) -> bytes:
    """The row's line: where its place is known, checked by its ends; else by counting."""
    stop = ref.at + ref.size - 1
    lines = block.lines
    if ref.frame >= 0 and lines[stop : stop + 1] == b"\n" and lines.count(b"\n", 0, ref.at) == at:
        return lines[ref.at : stop]
    return lines.split(b"\n", at + 1)[at]
