"""Splits a stream of bytes into lines, whatever the chunks it comes in.

A line is ended by `\\n`. Lines up to `LONG_LINE_BYTES` come out whole; a longer one comes out in
parts, so that no line has to fit in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

LONG_LINE_BYTES: Final = 4 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Batch:
    """What one chunk completed, in this order."""

    long_parts: list[bytes] = field(default_factory=list)
    """The next parts of a long line that an earlier chunk, or this one, began."""
    long_ended: bool = False
    """The long line ends with these parts."""
    lines: list[bytes] = field(default_factory=list)
    """Whole lines, without their line feed."""
    begun: list[bytes] = field(default_factory=list)
    """The first parts of a long line that this chunk leaves open."""


class LineSplitter:
    """Whether a line counts as long depends on its length alone, never on the chunks."""

    def __init__(self, *, long_line_bytes: int = LONG_LINE_BYTES) -> None:
        self._limit = long_line_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._in_long = False
        self._at_start = True

    @property
    def limit_bytes(self) -> int:
        """The longest line that comes out whole."""
        return self._limit

    def begin(self) -> None:
        """The source's first bytes were read elsewhere: no byte order mark can come."""
        self._at_start = False

    @property
    def is_empty(self) -> bool:
        """Whether no line is open."""
        return not self._size

    def feed(self, chunk: bytes) -> list[Batch]:
        """Takes any number of bytes; a chunk beyond the limit is taken in several steps."""
        if self._at_start:
            chunk = self._strip_bom(chunk)
        if len(chunk) <= self._limit:
            return [self._feed(chunk)] if chunk else []
        step = self._limit
        return [self._feed(chunk[at : at + step]) for at in range(0, len(chunk), step)]

    def finish(self) -> Batch:
        """The last line, where it lacks its line feed."""
        if self._at_start and self._size:  # fewer bytes than a BOM in all
            self._at_start = False
        parts, self._parts, size, self._size = self._parts, [], self._size, 0
        if self._in_long:
            self._in_long = False
            return Batch(long_parts=parts, long_ended=True)
        return Batch(lines=[b"".join(parts)] if size else [])

    def _strip_bom(self, chunk: bytes) -> bytes:
        head = b"".join(self._parts) + chunk
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._parts, self._size = [head], len(head)
            return b""
        self._parts, self._size = [], 0
        self._at_start = False
        return head.removeprefix(_BOM)

    def _feed(self, chunk: bytes) -> Batch:
        lines = chunk.split(b"\n")
        last = lines.pop()
        batch = Batch()
        if not lines:
            self._add(last)
        else:
            self._add(lines[0])
            if self._in_long:
                batch.long_parts, batch.long_ended = self._parts, True
                batch.lines = lines[1:]
            else:
                lines[0] = b"".join(self._parts)
                batch.lines = lines
            self._parts, self._size, self._in_long = [], 0, False
            self._add(last)
        if self._in_long:
            if batch.lines or batch.long_ended:
                batch.begun = self._parts
            else:
                batch.long_parts = self._parts
            self._parts = []
        return batch

    def _add(self, part: bytes) -> None:
        if part:
            self._parts.append(part)
            self._size += len(part)
            self._in_long = self._in_long or self._size > self._limit
