"""One file that is followed: its bytes, as chunks of whole lines with the offset behind each."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from barrelman.errors import InputError
from barrelman.settings.borders import Borders
from barrelman.settings.sources import Source, read_chunks

HEAD_BYTES: Final = 1024
"""How much of a file tells it from others."""
# A document over several lines that is longer is cut.
_OPEN_BYTES: Final = 8 * 1024 * 1024


class Chunk(NamedTuple):
    data: bytes
    end: int
    """The offset behind it, and behind lines before it that were left out."""


@dataclass
class Flight:
    """A chunk that was handed over and is not known to be stored."""

    chunk: Chunk
    future: Future[Any]


class Tail:
    """Reads a file from `offset` on, plain or packed. Close it.

    Lines longer than `max_line_bytes` are passed over. OSError and InputError come as they are;
    what was read before them is kept.
    """

    def __init__(self, path: str, *, offset: int, is_packed: bool, max_line_bytes: int) -> None:
        self.path = path
        self.is_packed = is_packed
        self.durable = offset
        """Before it, all is stored."""
        self.pending: Chunk | None = None
        """Read, and not taken by anyone yet."""
        self.flights: deque[Flight] = deque()
        self.seen_to = offset
        """How far it was known to reach."""
        self.skipped_lines = 0
        self.is_at_end = False
        """The last read gave nothing. A packed file is then read for good."""
        self._max_line_bytes = max_line_bytes
        self._borders = Borders()
        self._read_to = offset
        self._open: list[bytes] = []
        """Whole lines behind which something is open."""
        self._open_bytes = 0
        self._partial: list[bytes] = []
        """The last line, as far as it is written."""
        self._partial_bytes = 0
        self._is_skipping = False
        self._pieces: Generator[bytes, None, None] | None = None
        self._surplus = b""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(self._descriptor)
        self.key = (status.st_dev, status.st_ino)
        self.head = b"" if is_packed else os.pread(self._descriptor, HEAD_BYTES, 0)[:offset]
        """The first bytes, as far as they were read."""

    def close(self) -> None:
        if self._pieces is not None:
            self._pieces.close()
            self._pieces = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def status(self) -> os.stat_result:
        return os.fstat(self._descriptor)

    @property
    def read_to(self) -> int:
        """How many plain bytes were read."""
        return self._read_to

    @property
    def settled_to(self) -> int:
        """The end of what was handed over or passed over: an offset to go on from."""
        return self._read_to - self._open_bytes - self._partial_bytes

    @property
    def holds_open(self) -> bool:
        """Whether lines wait for others that belong to them."""
        return bool(self._open_bytes)

    def was_replaced(self) -> bool:
        """Whether other bytes stand where those stood that were read: the log was truncated."""
        if self.is_packed:
            return False
        size = os.fstat(self._descriptor).st_size
        if size < self._read_to or os.pread(self._descriptor, len(self.head), 0) != self.head:
            return True
        self.seen_to = max(self.seen_to, size)
        return False

    def read(self, most_bytes: int) -> Chunk | None:
        """The next whole lines; None where there are none yet, or nothing but part of one."""
        data = self._next_packed() if self.is_packed else self._next_plain(most_bytes)
        self.is_at_end = not data
        return self._take(data) if data else None

    def flush(self) -> Chunk | None:
        """What is open, as no more will come."""
        held = [*self._open, *self._partial]
        self._forget_open()
        self._partial, self._partial_bytes = [], 0
        if self._is_skipping:
            self._end_skipping()
        return self._chunk(b"".join(held))

    def rewind(self) -> None:
        """Reads again from where all is stored up to."""
        self._forget_open()
        self._partial, self._partial_bytes, self._is_skipping = [], 0, False
        self._read_to = self.durable
        self.pending, self.is_at_end = None, False
        if self._pieces is not None:
            self._pieces.close()
            self._pieces = None

    def _next_plain(self, most_bytes: int) -> bytes:
        data = os.pread(self._descriptor, most_bytes, self._read_to)
        if len(self.head) < HEAD_BYTES and self._read_to == len(self.head):
            self.head += data[: HEAD_BYTES - len(self.head)]
        return data

    def _next_packed(self) -> bytes:
        if self._pieces is None:
            self._pieces = self._unpack(self._read_to)
        return next(self._pieces, b"")

    def _unpack(self, skip_bytes: int) -> Generator[bytes, None, None]:
        # By its number: at its path there may be another file by now.
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        name = f"/dev/fd/{self._descriptor}" if os.path.exists("/dev/fd") else self.path
        at = 0
        try:
            for piece in unpacked(name):
                if at < HEAD_BYTES:
                    self.head = self.head[:at] + piece[: HEAD_BYTES - at]
                at += len(piece)
                if at > skip_bytes:
                    yield piece[max(0, len(piece) - (at - skip_bytes)) :]
        except InputError as error:
            raise error.at(path=self.path) from None

    def _take(self, data: bytes) -> Chunk | None:
        self._read_to += len(data)
        self.seen_to = max(self.seen_to, self._read_to)
        if self._is_skipping:
            end = data.find(b"\n") + 1
            self._partial_bytes += end or len(data)
            if not end:
                return None
            if self._open:  # what was passed over stands behind them, and they are not stored
                self._open_bytes += self._partial_bytes
            self._end_skipping()
            data = data[end:]
        cut = data.rfind(b"\n") + 1
        lines = b""
        if cut:
            lines = b"".join([*self._partial, data[:cut]])
            self._partial, self._partial_bytes = [], 0
        if cut < len(data):
            self._partial.append(data[cut:])
            self._partial_bytes += len(data) - cut
        if self._partial_bytes > self._max_line_bytes:
            self._partial, self._is_skipping = [], True
        return self._cut(lines) if lines else None

    def _end_skipping(self) -> None:
        self._is_skipping, self._partial_bytes = False, 0
        self.skipped_lines += 1

    def _cut(self, lines: bytes) -> Chunk | None:
        border = self._borders.feed(lines)
        if border <= 0:
            self._open.append(lines)
            self._open_bytes += len(lines)
            return self.give_open() if self._open_bytes > _OPEN_BYTES else None
        held, self._open = b"".join(self._open), []
        self._open_bytes = 0
        if border < len(lines):
            self._open.append(lines[border:])
            self._open_bytes = len(lines) - border
        return self._chunk(held + lines[:border] if held else lines[:border])

    def give_open(self) -> Chunk | None:
        """The lines that wait for others, where those do not come."""
        held = b"".join(self._open)
        self._forget_open()
        return self._chunk(held)

    def leave_open_lines(self) -> None:
        """Puts what waits for more behind what is pending: more will not come."""
        before, rest = self.pending, self.give_open()
        if before is not None and rest is not None:
            rest = Chunk(before.data + rest.data, rest.end)
        self.pending = rest or before

    def _forget_open(self) -> None:
        self._open, self._open_bytes = [], 0
        self._borders.reset()

    def _chunk(self, data: bytes) -> Chunk | None:
        return Chunk(data, self.settled_to) if data else None


def unpacked(path: str) -> Iterator[bytes]:
    """The plain bytes of a packed file, from its first one on. Raises InputError and OSError."""
    return read_chunks(Source(path, path, None, is_live=False))


def read_head(path: str, *, is_packed: bool) -> bytes:
    """The first HEAD_BYTES plain bytes, or all there are. Raises InputError and OSError."""
    if not is_packed:
        with open(path, "rb", buffering=0) as file:
            return file.read(HEAD_BYTES)
    head = b""
    for piece in (pieces := unpacked(path)):
        head += piece
        if len(head) >= HEAD_BYTES:
            break
    close = getattr(pieces, "close", None)
    if close is not None:
        close()
    return head[:HEAD_BYTES]
