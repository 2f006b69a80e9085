"""One JSON document that is still being read: its text so far, and where its lines begin."""

from __future__ import annotations

from typing import Final

from barrelman.engine.decode import JSON_SPACE
from barrelman.engine.problem import Found
from barrelman.engine.scanner import Scanner

HEAD_BYTES: Final = 400
_BETWEEN = JSON_SPACE + b","


class Document:
    """Its owner appends what comes, has the scanner read it, and cuts off what is settled.

    After one document ends or breaks, `restart` and `begin_at` make the rest of the same text
    the next one, without copying it.
    """

    def __init__(self, text: bytes, line: int, *, is_quiet: bool) -> None:
        self.buffer = bytearray(text)
        self._between = _BETWEEN
        self._begin(line, is_quiet=is_quiet)

    def _begin(self, line: int, *, is_quiet: bool) -> None:
        self.line = line
        self.last_line = line
        self.is_quiet = is_quiet
        """Part of something reported already: only the events in it are worth a word."""
        self.scanner = Scanner()
        self._head: bytes | None = None
        self.element_head = b""
        """How the element begins of which the start has been cut off."""
        self.is_array = self.buffer[:1] == b"["
        self.is_split = False
        """Elements of its list have been taken one by one."""
        self.element_count = 0
        self.labels: list[Found] = []
        """Problems of a Fluentd array's first elements, until it is known to be one."""
        self.label_count = 0
        self.has_record = False
        """The last element taken was an object."""
        self._starts: list[tuple[int, int]] = [(line, 0)]
        self._cut_bytes = 0

    @property
    def size(self) -> int:
        """How many bytes of it have been scanned."""
        return self._cut_bytes + self.scanner.position

    @property
    def head(self) -> bytes:
        """How it begins."""
        return bytes(self.buffer[:HEAD_BYTES]) if self._head is None else self._head

    @property
    def is_on_one_line(self) -> bool:
        return self.last_line == self.line

    def append(self, text: bytes, line: int) -> None:
        if line != self.last_line:
            self.last_line = line
            self._starts.append((line, len(self.buffer)))
        self.buffer += text

    def pass_element(self, line: int, *, has_comma: bool) -> None:
        """The owner has read an element that has a line of its own."""
        self.last_line = line
        self.element_count += 1
        self.has_record = True
        self.scanner.pass_element(has_comma=has_comma)

    def line_at(self, offset: int) -> int:
        """The line that holds the byte at an offset of the buffer."""
        found = self.line
        for line, start in self._starts:
            if start > offset:
                break
            found = line
        return found

    def take_spans(self, *, whole_lines: bool = False) -> list[tuple[int, int]]:
        """The finished elements of its list; with `whole_lines` none of the last line's."""
        spans, self.scanner.spans = self.scanner.spans, []
        if whole_lines:
            last_start = self._starts[-1][1]
            spans = [span for span in spans if span[0] < last_start]
        return spans

    def cut(self, count: int) -> None:
        """Drops the first bytes of the buffer."""
        if count <= 0:
            return
        self._head = self.head
        start = self.scanner.element_start
        if start is not None and 0 <= start < count:
            self.element_head = bytes(self.buffer[start : start + HEAD_BYTES])
        del self.buffer[:count]
        self.scanner.shift(count)
        self._cut_bytes += count
        starts = [(line, start - count) for line, start in self._starts]
        # The line that the buffer now begins in is kept, its start below 0.
        first = 0
        while first + 1 < len(starts) and starts[first + 1][1] <= 0:
            first += 1
        self._starts = starts[first:]

    def whole_lines(self) -> list[tuple[int, bytes]]:
        """The lines behind the opening one that are still here from their first byte."""
        ends = [start for _, start in self._starts[1:]] + [len(self.buffer)]
        return [
            (line, bytes(self.buffer[start:end]).removesuffix(b"\n"))
            for (line, start), end in zip(self._starts, ends, strict=True)
            if start >= 0 and line != self.line
        ]

    def opening_text(self) -> bytes:
        """What is left here of the line that it began on."""
        if self._starts[0][0] != self.line:
            return b""
        end = self._starts[1][1] if len(self._starts) > 1 else len(self.buffer)
        return bytes(self.buffer[:end])

    def restart(self) -> bool:
        """Makes what is behind the finished document the next one; False if that is nothing."""
        at = self.scanner.position
        end = len(self.buffer)
        while at < end and self.buffer[at] in self._between:
            at += 1
        self.begin_at(at, is_quiet=self.is_quiet)
        return at < end

    def begin_at(self, offset: int, *, is_quiet: bool) -> None:
        """Makes what begins at an offset of the buffer the document."""
        del self.buffer[:offset]
        self._begin(self.last_line, is_quiet=is_quiet)

    def rescue_at(self, offset: int) -> None:
        """As `begin_at`, after a break: what was open before may be closed on this line."""
        self._between = _BETWEEN + b"]}"
        self.begin_at(offset, is_quiet=True)
