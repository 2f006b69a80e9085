"""Bytes -> events: one reader for one source, whatever shapes are mixed in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

from barrelman.engine.decode import JSON_SPACE, JSONDecodeError, read
from barrelman.engine.documents import STREAM_BYTES, Documents, holds_event, read_whole
from barrelman.engine.lines import LONG_LINE_BYTES, Batch, LineSplitter
from barrelman.engine.problem import Found, Fragment, Problem, ReadCounts, excerpt_of
from barrelman.records.event import Event, JsonObject

MAX_EVENT_BYTES: Final = 64 * 1024 * 1024

EVENT_HEAD: Final = b'{"kind":"Event","apiVersion":"audit.k8s.io/v1'
"""How the API server begins an event: a line that begins so, and is JSON, is one event."""

EventOrProblem: TypeAlias = Event | Problem

_CLOSE_OBJECT = ord("}")
_MAX_STREAMS = 256
_MAX_NAME_BYTES = 256
_STREAMS_FACTOR = 2
_MAX_ENVELOPES = 4
# A tuple: what it is asked for may be anything, also what cannot be hashed.
_AUDIT_VERSIONS = ("audit.k8s.io/v1", "audit.k8s.io/v1beta1", "audit.k8s.io/v1alpha1")


class EventReader:
    """Feed it a source's bytes in any pieces; the answers do not depend on the pieces.

    `feed` gives what became certain with these bytes, `finish` what the end makes certain. With
    `takes_any` an object that neither is nor holds an audit event is a document.
    """

    def __init__(
        self,
        *,
        max_event_bytes: int = MAX_EVENT_BYTES,
        cluster: str | None = None,
        stream_bytes: int = STREAM_BYTES,
        lines_before: int = 0,
        takes_any: bool = False,
    ) -> None:
        self._takes_any = takes_any
        self.counts = ReadCounts()
        self._cluster = cluster
        self._max_bytes = max_event_bytes
        self._stream_bytes = stream_bytes
        self._splitter = LineSplitter(
            long_line_bytes=min(LONG_LINE_BYTES, stream_bytes, max_event_bytes)
        )
        self._number = lines_before
        self._documents = self._new_documents(is_enveloped=False)
        # Those that hold something; the one that was read last comes last.
        self._streams: dict[str, _Stream] = {}
        self._held_bytes = 0
        self._long: _LongLine | None = None
        self._out: list[EventOrProblem] = []

    @property
    def is_neutral(self) -> bool:
        """Whether what was read has no say in what will be: the next line stands on its own."""
        return (
            not self._streams
            and self._documents.is_neutral
            and self._long is None
            and self._splitter.is_empty
        )

    @property
    def lines_read(self) -> int:
        """How many lines there were so far, blank ones and those before too."""
        return self._number

    @property
    def line_limit_bytes(self) -> int:
        """A longer line is read in parts."""
        return self._splitter.limit_bytes

    def pass_events(self, count: int) -> None:
        """Lines that are events were dealt with elsewhere, with the reader neutral before them.

        A negative count takes lines back; none says that the source has begun without a mark.
        """
        self._splitter.begin()
        self._number += count
        self.counts.lines += count
        self.counts.events += count

    def event(self, line: bytes) -> Event | None:
        """The event on a line that begins with EVENT_HEAD, read by a neutral reader.

        None where it is no JSON as it stands: the line is then to be fed.
        """
        try:
            body = read(line)
        except JSONDecodeError:
            return None
        return self.event_of(body, line)

    def event_of(self, body: JsonObject, line: bytes, *, passed: int = 0) -> Event:
        """As `event`, once decoded; `passed` lines before it are events dealt with elsewhere."""
        passed += 1
        counts = self.counts
        counts.lines += passed
        counts.events += passed
        self._number += passed
        return Event(body, False, line, self._number, self._cluster)

    def feed(self, chunk: bytes) -> Iterator[EventOrProblem]:
        """Reads on. Exhaust it before the next call: it works as it is iterated.

        Events come one by one so that each can be let go before the next is decoded.
        """
        for batch in self._splitter.feed(chunk):
            yield from self._read_batch(batch)

    def finish(self) -> Iterator[EventOrProblem]:
        """The source has ended; what is open is truncated. Feed nothing after it."""
        yield from self._read_batch(self._splitter.finish())
        self._end_long()
        self._settle(self._documents.interrupt())
        while self._streams:
            self._close_stream(next(iter(self._streams)))
        yield from self._take_out()

    def _new_documents(self, *, is_enveloped: bool) -> Documents:
        return Documents(
            max_event_bytes=self._max_bytes,
            stream_bytes=self._stream_bytes,
            is_enveloped=is_enveloped,
            takes_any=self._takes_any,
        )

    def _read_batch(self, batch: Batch) -> Iterator[EventOrProblem]:
        if batch.long_parts:
            self._read_long(batch.long_parts)
        if batch.long_ended:
            self._end_long()
        if self._out:
            yield from self._take_out()
        if batch.lines:
            yield from self._read_lines(batch.lines)
        if batch.begun:
            self._read_long(batch.begun)
            yield from self._take_out()

    def _take_out(self) -> list[EventOrProblem]:
        out, self._out = self._out, []
        return out

    def _read_lines(self, lines: list[bytes]) -> Iterator[EventOrProblem]:
        """The hot loop: a line that is one audit event is taken without a detour."""
        cluster = self._cluster
        documents = self._documents
        counts = self.counts
        is_busy = documents.is_busy
        for number, line in enumerate(lines, self._number + 1):
            if not is_busy and line[:1] == b"{":
                try:
                    value = read(line)
                except JSONDecodeError:
                    pass
                else:
                    counts.lines += 1
                    if (
                        value.get("kind") == "Event" and value.get("apiVersion") in _AUDIT_VERSIONS
                    ) or line.startswith(EVENT_HEAD):
                        counts.events += 1
                        raw = line if line[-1] == _CLOSE_OBJECT else line.rstrip(JSON_SPACE)
                        yield Event(value, False, raw, number, cluster)
                    else:
                        self._settle(documents.value(value, line, number))
                        yield from self._take_out()
                    continue
            if not line or line.isspace():
                continue
            counts.lines += 1
            self._settle(documents.line(line, number))
            is_busy = documents.is_busy
            if self._out:
                yield from self._take_out()
        self._number += len(lines)

    def _settle(self, answer: list[Found], levels: int = 0) -> None:
        """Counts and passes on; text out of envelopes is read on in its own stream."""
        counts = self.counts
        for found in answer:
            if isinstance(found, Fragment):
                self._read_fragment(found, levels)
                continue
            if isinstance(found, Event):
                counts.events += 1
                found.cluster = self._cluster
            elif found.kind == "malformed":
                counts.malformed += found.count
            elif found.kind == "foreign":
                counts.foreign += found.count
            else:
                counts.gke += found.count
            self._out.append(found)

    # Envelopes

    def _read_fragment(self, found: Fragment, levels: int) -> None:
        if levels == _MAX_ENVELOPES:
            problem = Problem("foreign", "too many wrappers", found.line, excerpt_of(found.text))
            self._settle([problem])
            return
        name = _stream_name(levels, found.stream)
        stream = self._streams.pop(name, None)
        if stream is None:
            if len(self._streams) == _MAX_STREAMS:
                self._close_stream(next(iter(self._streams)))
            stream = _Stream(self._new_documents(is_enveloped=True), self._max_bytes, levels + 1)
        else:
            self._held_bytes -= stream.held_bytes
        answer = stream.add(found)
        if not stream.is_neutral:
            self._streams[name] = stream
            self._held_bytes += stream.held_bytes
        self._settle(answer, levels + 1)
        while self._held_bytes > _STREAMS_FACTOR * self._max_bytes:
            self._close_stream(next(iter(self._streams)))

    def _close_stream(self, name: str) -> None:
        stream = self._streams.pop(name)
        self._held_bytes -= stream.held_bytes
        self._settle(stream.close(), stream.levels)

    # Long lines

    def _read_long(self, parts: list[bytes]) -> None:
        if self._long is None:
            self._number += 1
            self.counts.lines += 1
            first = b"".join(parts)
            is_taken = self._documents.begin_long(first, self._number)
            self._long = _LongLine(is_taken, self._max_bytes)
            parts = [] if is_taken else [first]
        for part in parts:
            if self._long.is_taken:
                self._settle(self._documents.go_on_long(part, self._number))
            else:
                self._long.hold(part)

    def _end_long(self) -> None:
        long, self._long = self._long, None
        if long is None:
            return
        if long.is_taken:
            self._settle(self._documents.go_on_long(b"\n", self._number))
        elif long.is_over_long:
            self._settle(self._documents.interrupt())
            reason = f"over-long: more than {self._max_bytes} bytes"
            head = excerpt_of(long.held)
            self._settle([Problem("malformed", reason, self._number, head)])
        else:
            self._settle(self._documents.line(bytes(long.held), self._number))


def _stream_name(levels: int, name: str) -> str:
    """A name of bounded length: what a log says about its stream may be of any."""
    if len(name) > _MAX_NAME_BYTES:
        import hashlib  # late, with OpenSSL behind it: few logs name their streams so

        name = hashlib.sha256(name.encode(errors="replace")).hexdigest()
    return f"{levels} {name}"


class _LongLine:
    """A long line that cannot be read in parts, held until it is whole or too long."""

    def __init__(self, is_taken: bool, max_bytes: int) -> None:
        self.is_taken = is_taken
        self.is_over_long = False
        self.held = bytearray()
        self._max_bytes = max_bytes

    def hold(self, part: bytes) -> None:
        if self.is_over_long:
            return
        self.held += part
        if len(self.held) > self._max_bytes:
            self.is_over_long = True
            del self.held[400:]


class _Stream:
    """The text out of one stream of envelopes: parts of lines are joined, lines read on."""

    def __init__(self, documents: Documents, max_bytes: int, levels: int) -> None:
        self.levels = levels
        self._documents = documents
        self._max_bytes = max_bytes
        self._text = bytearray()
        self._line = 0

    @property
    def is_neutral(self) -> bool:
        return not self._text and self._documents.is_neutral

    @property
    def held_bytes(self) -> int:
        return len(self._text) + self._documents.held_bytes

    def add(self, found: Fragment) -> list[Found]:
        answer: list[Found] = []
        if self._text and found.text[:1] == b"{" and holds_event(read_whole(found.text)):
            answer += self._flush()
        self._line = self._line if self._text else found.line
        self._text += found.text
        if len(self._text) > self._max_bytes:
            reason = f"over-long: more than {self._max_bytes} bytes"
            problem = Problem("malformed", reason, self._line, excerpt_of(self._text))
            self._text = bytearray()
            return [*answer, problem]
        if not found.is_partial:
            answer += self._flush()
        return answer

    def close(self) -> list[Found]:
        return self._flush() + self._documents.interrupt()

    def _flush(self) -> list[Found]:
        text, self._text = bytes(self._text), bytearray()
        answer: list[Found] = []
        for line in text.split(b"\n"):
            answer += self._documents.line(line, self._line)
        return answer
