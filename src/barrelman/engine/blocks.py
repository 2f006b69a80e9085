"""Bytes -> events by the block: lines that cannot matter are judged by their ends, not decoded.

A block of whole lines is *ordinary* where each line begins as an event does and ends in `}`; two
counts tell. Of an ordinary block the lines that the sieve lets through are decoded, the others
passed over. All other lines, and all that follow one that leaves something open, go to the
reader, whose word it is what they mean.

Why that finds what the reader finds: a line that begins as an event stands on its own whatever
preceded it, so what it holds shows on it, and the sieve sees it. Only a torn one may have a say in
the next: one that is about to be followed by another kind of line is looked at after all. That a
line is an event is taken from its two ends unless each byte is asked for (`is_strict`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from mmap import ACCESS_COPY, mmap
from typing import Final, TypeAlias

from barrelman.engine.decode import DecodeError, JSONDecodeError, loads, read
from barrelman.engine.find import count, find, rfind
from barrelman.engine.problem import Problem
from barrelman.engine.reader import EVENT_HEAD, EventReader
from barrelman.engine.ruleset import Screen
from barrelman.engine.sieve import Sieve
from barrelman.records.event import Event, JsonObject
from barrelman.records.fields import TRUNCATED_ANNOTATION, event_time_us
from barrelman.records.times import parse_instant_us

BODIES: Final = ("requestObject", "responseObject")
"""The members of an event that a policy may leave out."""
BLOCK_BYTES: Final = 256 * 1024
"""Small enough for the cache of a core: a block is gone over several times."""

_NEWLINE: Final = b"\n"
_CLOSE_OBJECT: Final = ord("}")
_BETWEEN: Final = b"}\n" + EVENT_HEAD
# Where more lines than one in two pass the sieve it costs more than it saves: it is left out for
# some blocks, then tried again.
_PASSING_SHARE: Final = 0.5
_BLOCKS_WITHOUT: Final = 63

_STAGE_TIME: Final = b'"stageTimestamp":"'
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# From there to the end of the event, with nothing behind it but annotations.
_match_event_end = re.compile(
    rb'"stageTimestamp":"([0-9T:.+Z-]+)"'
    rb'(?:,"annotations":\{(?:' + _STRING + b":" + _STRING + rb",?)*+\})?\}",
    re.DOTALL,
).fullmatch


@dataclass(slots=True)
class Passed:
    """Events that no rule can match, not decoded."""

    events: int = 0
    """-1 takes one back, and its time with it."""
    times_us: list[int | None] = field(default_factory=list)
    """When they happened, in order, where that was asked for; None for those without a time."""
    seen_us: tuple[int, ...] = ()
    """Else when some of them happened: the first and the last of a source or a part."""
    bodies: tuple[str, ...] = ()
    """Of BODIES those that may stand on one of their lines, the first time that they do."""


class Buffers:
    """Memory for one reader of blocks after the other: to get it anew costs a page fault a page."""

    def __init__(self) -> None:
        self.block = _aligned(BLOCK_BYTES)
        self._larger = self.block

    def larger(self, *, than: int) -> memoryview:
        """A buffer of more than so many bytes, four times as many as the largest before."""
        while len(self._larger) <= than:
            self._larger = _aligned(4 * len(self._larger))
        return self._larger


def _aligned(size: int) -> memoryview:
    """Bytes from the start of a page on: the system copies a fifth faster to there.

    A private mapping: one that is shared, as is the default, forked processes would write into
    together.
    """
    return memoryview(mmap(-1, size, access=ACCESS_COPY))


_PassedLine: TypeAlias = tuple[int | None, bytes]
"""When its event happened and, where that is asked for, the line."""
Item: TypeAlias = Event | Problem | Passed


class BlockReader:
    """Feed it a source's bytes in any pieces, or read them into the space that it gives.

    `is_timed`: the time of each event passed over is asked for. `is_strict`: each byte is. Both
    cost a look at each line. `screen` tells of decoded events which can be passed over after all.
    """

    def __init__(
        self,
        reader: EventReader,
        *,
        sieve: Sieve | None,
        is_timed: bool = False,
        is_strict: bool = False,
        screen: Screen | None = None,
        buffers: Buffers | None = None,
    ) -> None:
        self._screen = screen
        self._reader = reader
        self._sieve = sieve
        self._is_timed = is_timed
        self._is_strict = is_strict
        self._limit_bytes = reader.line_limit_bytes
        self._buffers = buffers or Buffers()
        self._block = self._buffers.block[: self._limit_bytes]
        self._view = self._block
        """The block; or a larger view, for a time, for a line that does not fit into it."""
        self._filled = 0
        self.plain_bytes = 0
        """How many bytes have come."""
        self._is_begun = False
        self._in_long_line = False
        self._blocks_without = 0
        self._unseen_bodies: tuple[str, ...] = BODIES
        self._last = b""
        """The line before this one, where it was passed over."""
        self._is_last_doubted = False
        """Its time was not taken over."""
        self._bounds_us: tuple[int, int] | None = None
        """The earliest and the latest time of a line passed over that is whole."""
        self._final = b""
        """The last line that is an event by its ends, whatever became of it."""
        self._followed = b""
        self.has_looked_back = False
        """The line that was followed is torn, and was read after all."""

    @property
    def has_passed_last(self) -> bool:
        """Whether the last line so far was passed over, and not read."""
        return bool(self._last)

    # --- bytes in ---

    def feed(self, chunk: bytes) -> Iterator[Item]:
        """Reads on. Exhaust it before the next call: it works as it is iterated."""
        view = memoryview(chunk)
        at = 0
        while at < len(view):
            space = self.space()
            piece = view[at : at + len(space)]
            space[: len(piece)] = piece
            at += len(piece)
            yield from self.filled(len(piece))

    def space(self) -> memoryview:
        """Where the next bytes belong; never empty, and never more than a block."""
        return self._view[self._filled : self._filled + len(self._block)]

    def filled(self, size: int) -> Iterator[Item]:
        """The first `size` bytes of `space` are there now. Exhaust it before the next call."""
        self._filled += size
        self.plain_bytes += size
        end = rfind(self._view, _NEWLINE, self._filled - size, self._filled) + 1
        if end == 0:
            yield from self._make_space()
            return
        start = 0
        if self._in_long_line:
            start = find(self._view, _NEWLINE, 0, end) + 1
            yield from self._feed(0, start)
            self._in_long_line = False
            self._shift(start)
            end -= start
        if end:
            yield from self._read(end)
            self._shift(end)

    def go_on(self) -> None:
        """What is fed next does not begin with a byte order mark: its source has begun."""
        self._reader.pass_events(0)

    def follow(self, line: bytes) -> None:
        """Another reader has passed over the line before what is fed."""
        self._last = self._followed = line

    def pause(self) -> Iterator[Item]:
        """Another reader goes on from here. A line that is not whole leaves ours with it open."""
        yield from self._show_end()
        if self._filled:
            filled, self._filled = self._filled, 0
            yield from self._feed(0, filled)

    def finish(self) -> Iterator[Item]:
        """The source has ended; what is open is truncated. Feed nothing after it."""
        yield from self._show_end()
        yield from self._look_back()
        rest = self._view[: self._filled].tobytes()
        self._filled = 0
        event = None
        if self._reader.is_neutral and rest.startswith(EVENT_HEAD) and rest.endswith(b"}"):
            event = self._reader.event(rest)
        if event is not None:
            if not self._is_timed:
                yield _seen(rest)
            yield event
        elif rest:
            yield from self._through_reader(rest)
        yield from self._reader.finish()

    def _show_end(self) -> Iterator[Passed]:
        if self._final and not self._is_timed:
            yield _seen(self._final)

    def _make_space(self) -> Iterator[Item]:
        """For a line that does not end in the view, once that is full."""
        if self._filled < len(self._view):
            return
        if len(self._view) < self._limit_bytes and not self._in_long_line:
            held = self._view
            self._view = self._buffers.larger(than=len(held))[: self._limit_bytes]
            self._view[: self._filled] = held
            return
        if not self._in_long_line:
            yield from self._look_back()
            self._in_long_line = True
        yield from self._feed(0, self._filled)
        self._filled = 0

    def _shift(self, start: int) -> None:
        """Lets go of what stands before; a rest that fits into the block is moved there."""
        rest = self._view[start : self._filled]
        if self._view is not self._block and len(rest) < len(self._block):
            self._view = self._block
        self._view[: len(rest)] = rest.tobytes()
        self._filled = len(rest)

    # --- blocks of whole lines ---

    def _read(self, end: int) -> Iterator[Item]:
        """The whole lines in the first `end` bytes."""
        view, reader = self._view, self._reader
        if not self._is_begun:
            self._is_begun = True
            if _begins_an_event(view, 0, end):
                self.go_on()
            if not self._is_timed:
                yield _seen(view[: find(view, _NEWLINE, 0, end)].tobytes())
        if self._unseen_bodies and self._sieve is not None:
            yield from self._look_for_bodies(end)
        if not reader.is_neutral:
            yield from self._read_lines(0, end)
            return
        lines = count(view, _NEWLINE, 0, end)
        heads = count(view, _BETWEEN, 0, end) + _begins_an_event(view, 0, end)
        if heads == 0:
            yield from self._look_back()
            yield from self._feed(0, end)
        elif heads != lines or view[end - 2] != _CLOSE_OBJECT:
            yield from self._read_lines(0, end)
        elif self._sieve is None or self._blocks_without:
            self._blocks_without = max(0, self._blocks_without - 1)
            yield from self._read_all(0, end)
        elif self._is_timed or self._is_strict:
            yield from self._read_lines(0, end)
        else:
            yield from self._read_ordinary(self._sieve, lines, end)

    def _look_for_bodies(self, end: int) -> Iterator[Passed]:
        seen = [b for b in self._unseen_bodies if find(self._view, b.encode() + b'"', 0, end) >= 0]
        if seen:
            self._unseen_bodies = tuple(b for b in self._unseen_bodies if b not in seen)
            yield Passed(bodies=tuple(seen))

    def _read_ordinary(self, sieve: Sieve, lines: int, end: int) -> Iterator[Item]:
        """The fast way: only lines that pass the sieve are touched one by one."""
        view, reader = self._view, self._reader
        passing = sieve.lines(view, end)
        if len(passing) > _PASSING_SHARE * lines:
            self._blocks_without = _BLOCKS_WITHOUT
            yield from self._read_all(0, end)
            return
        screen = self._screen
        at = passed = 0
        for start, stop in passing:
            line = view[start:stop].tobytes()
            try:
                body = read(line)
            except JSONDecodeError:
                body = None
            else:
                if screen is not None and not screen(body) and not _is_truncated(body):
                    continue
            before = count(view, _NEWLINE, at, start) if at < start else 0
            passed += before
            at = stop + 1
            if body is not None:
                yield reader.event_of(body, line, passed=before)
                continue
            reader.pass_events(before)
            yield from self._through_reader(line + _NEWLINE)
            if not reader.is_neutral:
                yield Passed(passed)
                yield from self._read_lines(at, end)
                return
        self._last = b""
        self._final = view[rfind(view, _NEWLINE, 0, end - 1) + 1 : end - 1].tobytes()
        if at < end:
            before = count(view, _NEWLINE, at, end) if at else lines
            reader.pass_events(before)
            passed += before
            self._last = self._final
        if passed:
            yield Passed(passed)

    def _read_all(self, start: int, end: int) -> Iterator[Item]:
        """Each line decoded, of an ordinary block."""
        self._last = b""
        reader = self._reader
        line = b""
        for line in self._view[start : end - 1].tobytes().split(_NEWLINE):
            if reader.is_neutral:
                event = reader.event(line)
                if event is not None:
                    yield event
                    continue
            yield from self._through_reader(line + _NEWLINE)
        self._final = line

    def _read_lines(self, at: int, end: int) -> Iterator[Item]:
        """Line by line, of any kind."""
        view, reader, sieve = self._view, self._reader, self._sieve
        passing = None if sieve is None else {start for start, _ in sieve.lines(view, end)}
        is_neutral = reader.is_neutral
        passed: list[_PassedLine] = []
        while at < end:
            stop = find(view, _NEWLINE, at, end)
            is_event = _begins_an_event(view, at, stop)
            event: Event | None = None
            if is_neutral and is_event and view[stop - 1] == _CLOSE_OBJECT:
                line = self._final = view[at:stop].tobytes()
                if passing is None or at in passing:
                    event = reader.event(line)
                elif self._can_pass_over(line, passed):
                    at = stop + 1
                    continue
            if self._is_timed and passed:  # in the order of the input
                yield self._pass_over(passed)
                passed = []
            if event is not None:
                self._last = b""
                yield event
            else:
                if is_neutral and not is_event:
                    yield from self._look_back()
                yield from self._feed(at, stop + 1)
                is_neutral = reader.is_neutral
            at = stop + 1
        if passed:
            yield self._pass_over(passed)

    def _can_pass_over(self, line: bytes, passed: list[_PassedLine]) -> bool:
        """Whether the line may be left at that; False where it must be fed to the reader."""
        if self._is_strict and not _is_whole(line):
            return False
        instant_us: int | None = None
        if self._is_timed:
            instant_us = _time_at_end(line)
            if instant_us is None:
                try:
                    instant_us = event_time_us(Event(loads(line)))
                except DecodeError:
                    return False
        passed.append((instant_us, line if self._is_timed else b""))
        self._reader.pass_events(1)
        self._last = line
        return True

    def _pass_over(self, lines: list[_PassedLine]) -> Passed:
        """The account of lines passed over; a time moves the log's bounds if its line is whole."""
        if not self._is_timed:
            return Passed(len(lines))
        doubted: set[int] = set()
        by_time = sorted((us, number) for number, (us, _) in enumerate(lines) if us is not None)
        for order in (by_time, by_time[::-1]):
            for instant_us, number in order:
                low_us, high_us = self._bounds_us or (instant_us + 1, instant_us - 1)
                if low_us <= instant_us <= high_us:
                    break
                if _is_whole(lines[number][1]):
                    self._bounds_us = min(low_us, instant_us), max(high_us, instant_us)
                    break
                doubted.add(number)
        self._is_last_doubted = len(lines) - 1 in doubted
        times_us = [us for number, (us, _) in enumerate(lines) if number not in doubted]
        return Passed(len(lines), times_us=times_us)

    # --- what the reader is given ---

    def _feed(self, start: int, stop: int) -> Iterator[Event | Problem]:
        return self._through_reader(self._view[start:stop].tobytes())

    def _through_reader(self, data: bytes) -> Iterator[Event | Problem]:
        self._last = b""
        return self._reader.feed(data)

    def _look_back(self) -> Iterator[Item]:
        """The line before, where it was passed over and is torn after all, is fed now."""
        line = self._last
        if line and not _is_whole(line):
            self._last = b""
            self.has_looked_back = self.has_looked_back or line is self._followed
            self._reader.pass_events(-1)
            has_time = self._is_timed and not self._is_last_doubted
            yield Passed(-1, times_us=[_time_at_end(line)] if has_time else [])
            yield from self._reader.feed(line + _NEWLINE)


def _is_truncated(body: JsonObject) -> bool:
    """Whether the API server may have cut off the bodies: such events are counted."""
    annotations = body.get("annotations")
    return type(annotations) is not dict or TRUNCATED_ANNOTATION in annotations


def _begins_an_event(view: memoryview, start: int, stop: int) -> bool:
    return find(view, EVENT_HEAD, start, min(stop, start + len(EVENT_HEAD))) == start


def _is_whole(line: bytes) -> bool:
    try:
        loads(line)
    except DecodeError:
        return False
    return True


def _seen(line: bytes) -> Passed:
    """Only the time of an event that is counted elsewhere."""
    instant_us = _time_at_end(line)
    return Passed() if instant_us is None else Passed(seen_us=(instant_us,))


def _time_at_end(line: bytes) -> int | None:
    """When an event happened, where its last members say so as the API server writes them."""
    at = rfind(line, _STAGE_TIME, 0, len(line))
    found = _match_event_end(line, at) if at >= 0 else None
    return None if found is None else parse_instant_us(found[1].decode())
