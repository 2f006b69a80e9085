"""One JSON document that is still being read: its text so far, and where its lines begin."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from barrelman.engine.decode import JSON_SPACE
from barrelman.engine.problem import Found
from barrelman.engine.scanner import Scanner

HEAD_BYTES: Final = 400
_BETWEEN = JSON_SPACE + b","


class Lines:
    """Lines to be read anew, cut out of their text one by one."""

    def __init__(self, text: bytearray, numbers: array[int], starts: array[int]) -> None:
        self._text = text
        self._numbers = numbers
        self._starts = starts
        """One more than there are lines: the last is the end of the text."""
        self._next = 0

    def __len__(self) -> int:
        return len(self._numbers) - self._next

    @property
    def text_bytes(self) -> int:
        return self._starts[-1] - self._starts[self._next]

    def keep_last(self) -> None:
        """Lets go of all but the last line."""
        self._next = max(self._next, len(self._numbers) - 1)

    def take(self) -> tuple[int, bytes]:
        """The next line's number and its text, without its line feed."""
        at = self._next
        self._next += 1
        text = bytes(self._text[self._starts[at] : self._starts[at + 1]])
        return self._numbers[at], text.removesuffix(b"\n")


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
        self.element_line = line
        # Two flat numbers a line: where it starts, counted from the document's first byte.
        self._lines = array("q", [line])
        self._starts = array("q", [0])
        self._cut_bytes = 0

    @property
    def size(self) -> int:
        """How many bytes of it have been scanned."""
        return self._cut_bytes + self.scanner.position

    @property
    def held_bytes(self) -> int:
        """What it takes to keep what is still here of it."""
        numbers = len(self._lines) + len(self._starts)
        return len(self.buffer) + self._starts.itemsize * numbers

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
            self._lines.append(line)
            self._starts.append(self._cut_bytes + len(self.buffer))
        self.buffer += text

    def pass_element(self, line: int, *, has_comma: bool) -> None:
        """The owner has read an element that has a line of its own."""
        self.last_line = line
        self.element_count += 1
        self.has_record = True
        self.scanner.pass_element(has_comma=has_comma)

    def line_at(self, offset: int) -> int:
        """The line that holds the byte at an offset of the buffer."""
        if offset < 0:  # of the element of which the start has been cut off
            return self.element_line
        at = bisect_right(self._starts, self._cut_bytes + offset) - 1
        return self._lines[max(0, at)]

    def take_spans(self, *, whole_lines: bool = False) -> Iterator[tuple[int, int]]:
        """The finished elements of its list; with `whole_lines` none of the last line's."""
        bounds = self.scanner.take_bounds()
        last_start = self._starts[-1] - self._cut_bytes if whole_lines else len(self.buffer)
        for at in range(0, len(bounds), 2):
            if bounds[at] >= last_start:
                return
            yield bounds[at], bounds[at + 1]

    def cut(self, count: int) -> None:
        """Drops the first bytes of the buffer."""
        if count <= 0:
            return
        self._head = self.head
        start = self.scanner.element_start
        if start is not None and 0 <= start < count:
            self.element_head = bytes(self.buffer[start : start + HEAD_BYTES])
            self.element_line = self.line_at(start)
        del self.buffer[:count]
        self.scanner.shift(count)
        self._cut_bytes += count
        # The line that the buffer now begins in is kept.
        first = bisect_right(self._starts, self._cut_bytes) - 1
        if first > 0:
            del self._lines[:first], self._starts[:first]

    def take_lines(self) -> Lines:
        """The lines behind the opening one that are still here from their first byte.

        The document gives its text away with them.
        """
        is_first_whole = self._starts[0] >= self._cut_bytes and self._lines[0] != self.line
        first = 0 if is_first_whole else 1
        starts = array("q", [start - self._cut_bytes for start in self._starts[first:]])
        starts.append(len(self.buffer))
        return Lines(self.buffer, self._lines[first:], starts)

    def opening_text(self) -> bytes:
        """What is left here of the line that it began on."""
        if self._lines[0] != self.line:
            return b""
        end = self._starts[1] - self._cut_bytes if len(self._starts) > 1 else len(self.buffer)
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
