"""Lines -> events, where a document may span lines, share one, or outgrow memory.

A line that is a whole event always stands on its own. Any other line that begins with a
bracket opens a document, which a `Scanner` reads line by line, so that what is torn shows at
the first byte that does not fit. Then the opening line is reported and what followed it is
read anew, so that nothing whole is lost.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from typing import Final

from barrelman.engine.decode import JSON_SPACE, DecodeError, loads
from barrelman.engine.document import HEAD_BYTES, Document, Lines
from barrelman.engine.problem import Findings, Found, Problem, excerpt_of
from barrelman.engine.scanner import Status
from barrelman.engine.unwrap import (
    Answer,
    find_prefixed,
    split_cri,
    unwrap,
    unwrap_any,
    unwrap_element,
)
from barrelman.records.event import Event

STREAM_BYTES: Final = 4 * 1024 * 1024
"""Of larger documents the list is taken element by element, before the document's end."""

_OPEN_ARRAY, _OPEN_OBJECT, _COMMA = b"[{,"
_BRACKETS = b"{["
_REREAD_FACTOR = 3
_REREAD_START_BYTES = 65_536
_LINE_COST_BYTES = 32
_MAX_RESCUES = 256
_MAX_PREFIX_BYTES = 1024
_MAX_GLUED_TRIES = 8
_SEEK_TAIL_BYTES = 4096
_TORN = "truncated: another document begins before its end"

_find_object = re.compile(rb'\{[ \t]*+"').search
_find_torn_object = re.compile(rb"\{[ \t]*+\Z").search
_find_opening = re.compile(rb'\{[ \t]*+(?:"|\Z)').search
# How an event begins that was glued to a torn line.
_find_events = re.compile(
    rb'\{[ \t]*+"(?:kind"[ \t]*+:[ \t]*+"Event"|auditID"|level"|annotations"|@timestamp")'
).finditer
_match_opening = re.compile(rb'\{[ \t]*+["}]').match
_match_array = re.compile(
    rb'\[\s*+(?:[\[{\]"]|\Z|-?[0-9][0-9.eE+-]*+\s*+(?:[,\]]|\Z)|true|false|null)'
).match
_match_time = re.compile(
    rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:Z|[+-][0-9]{2}:?[0-9]{2})?\s"
).match
_is_torn_tail = re.compile(rb'.*(?:[}",]|":)', re.DOTALL).fullmatch


class Documents:
    """Reads the lines of one stream; answers come as soon as they are certain.

    `is_enveloped` says that the lines were cut out of envelopes that were whole: text that is
    no JSON is then other talk, not a broken line. With `takes_any` every object is a document
    that is no audit event and holds none.
    """

    def __init__(
        self,
        *,
        max_event_bytes: int,
        stream_bytes: int = STREAM_BYTES,
        is_enveloped: bool = False,
        takes_any: bool = False,
    ) -> None:
        self._takes_any = takes_any
        self._max_bytes = max_event_bytes
        self._stream_bytes = min(stream_bytes, max_event_bytes)
        self._is_enveloped = is_enveloped
        self._document: Document | None = None
        self._is_resyncing = False
        self._waiting: list[Lines] = []
        """Lines to be read anew, the next ones last."""
        # What may be read again: in proportion to what was read once, so that no input, however
        # torn, takes more than a constant factor of the work.
        self._reread_budget = _REREAD_START_BYTES
        self.reread_lines = 0
        """How many lines were read a second time, or more often: the price of torn input."""
        self._out = Findings()
        self._is_long = False
        self._finished: Document | None = None
        """Within a long line, after the end of a document: it, to begin the next one with."""
        self._rescues = 0
        """In vain, one after the other."""
        self._seek_tail: bytes | None = None
        """Within a long line, after a break: the end of what has been searched for an object."""

    @property
    def is_busy(self) -> bool:
        """Whether earlier lines have a say in what the next one means."""
        return self._document is not None or self._is_resyncing

    @property
    def is_neutral(self) -> bool:
        """Whether nothing that was read has a say in what will be: as before the first line."""
        return not self.is_busy and self._reread_budget >= _REREAD_START_BYTES

    @property
    def held_bytes(self) -> int:
        """What is kept for a document that is still open."""
        return 0 if self._document is None else self._document.held_bytes

    # Lines

    def line(self, line: bytes, number: int) -> Answer:
        """Reads one line, without its line feed."""
        self._reread_budget += _REREAD_FACTOR * (len(line) + _LINE_COST_BYTES)
        self._rescues = 0
        self._read(line, number)
        self._drain()
        if not self.is_busy:
            # What is left over is no one's: a log read in parts must give what it gives in one.
            self._reread_budget = min(self._reread_budget, _REREAD_START_BYTES)
        return self._take_out()

    def value(self, value: object, line: bytes, number: int) -> Answer:
        """As `line`, of a line that was found to be one document, with none open before it."""
        made = unwrap_any if self._takes_any else unwrap
        self._emit(made(value, raw=line.strip(JSON_SPACE)), number, is_quiet=False)
        return self._take_out()

    def interrupt(self) -> Answer:
        """What is open goes no further: the input has ended, or something else has come."""
        while self._document is not None:
            self._break(self._document, "truncated")
            self._drain()
        return self._take_out()

    def _take_out(self) -> Answer:
        return self._out.take()

    def _drain(self) -> None:
        """Reads what a break has given back, and what further breaks give back of that."""
        while self._waiting:
            lines = self._waiting[-1]
            number, line = lines.take()
            if not lines:
                self._waiting.pop()
            self._read(line, number)

    def _read(self, line: bytes, number: int) -> None:
        if self._document is None:
            self._begin(line, number)
        else:
            self._go_on(self._document, line, number)

    def _begin(self, line: bytes, number: int) -> None:
        """A line with no document open before it."""
        text = line.strip(JSON_SPACE)
        if not text:
            return
        is_rest = self._is_resyncing and _is_rest(line, text)
        self._is_resyncing = is_rest
        if text[0] not in _BRACKETS or (text[0] == _OPEN_ARRAY and not _match_array(text)):
            self._read_text(text, number, is_quiet=is_rest)
            return
        answer = read_whole(text, takes_any=self._takes_any and not is_rest)
        if answer is not None:
            self._emit(answer, number, is_quiet=is_rest)
        else:
            self._advance(Document(text + b"\n", number, is_quiet=is_rest))

    def _go_on(self, document: Document, line: bytes, number: int) -> None:
        """A line with a document open before it."""
        text = line.strip(JSON_SPACE)
        if not text:
            return
        if text[0] == _OPEN_OBJECT and len(text) > 2:
            # Within a document that spans lines, an object on a line of its own is a part of it.
            takes_any = self._takes_any and line[0] == _OPEN_OBJECT and text[-1] != _COMMA
            answer = read_whole(text, takes_any=takes_any)
            if answer is not None and holds_event(answer):
                if document.scanner.wants_element:
                    self._split(document)
                    document.cut(document.scanner.position)
                    document.pass_element(number, has_comma=text[-1] == _COMMA)
                    self._emit(answer, number, is_quiet=document.is_quiet)
                else:
                    self._put_back(line, number)
                    self._break(document, _TORN)
                return
        document.append(line + b"\n", number)
        self._advance(document)

    # Lines too long to be held whole

    def begin_long(self, part: bytes, number: int) -> bool:
        """Offers the first part of a long line. False: to be given to `line` when whole."""
        text = part[: self._stream_bytes].lstrip(JSON_SPACE)
        if text[:1] not in (b"{", b"[") or (text[:1] == b"[" and not _match_array(text)):
            return False
        text = part.lstrip(JSON_SPACE)
        if self._document is not None:
            if self._document.scanner.wants_element:
                return False
            self._break(self._document, _TORN)
            self._drain()
            if self._document is not None:
                return False
        self._is_resyncing = False
        self._is_long = True
        self._rescues = 0
        self._advance(Document(text, number, is_quiet=False))
        return True

    def go_on_long(self, part: bytes, number: int) -> Answer:
        """The next part of a long line; the last one ends in its line feed."""
        document = self._document
        if document is not None:
            document.append(part, number)
        elif self._seek_tail is not None:
            document = Document(self._seek_tail + part, number, is_quiet=True)
            self._rescue(document, 0)
        elif self._finished is not None:
            document = self._finished
            document.append(part, number)
            if document.restart():
                self._read_rest(document)
        if self._document is not None:
            self._advance(self._document)
        if part[-1:] == b"\n":
            self._is_long, self._seek_tail, self._finished = False, None, None
        return self._take_out()

    # Text that is no JSON by itself

    def _read_text(self, text: bytes, number: int, *, is_quiet: bool) -> None:
        fragment = split_cri(text)
        if fragment is not None:
            if fragment.is_partial or fragment.text.strip():
                self._emit([fragment], number, is_quiet=False)
            return
        prefixed = find_prefixed(text)
        if prefixed is not None:
            before = text[: prefixed.offset].rstrip(JSON_SPACE)
            if prefixed.is_behind_torn or (text[:1] not in b"[<" and _is_torn_tail(before)):
                self._report("not JSON", number, text, is_quiet)
                is_quiet = True
            self._emit(prefixed.answer, number, is_quiet=is_quiet)
            return
        opening = None if text[:1] == b'"' else _find_opening(text, 0)
        if opening is not None and opening.start() <= _MAX_PREFIX_BYTES:
            document = Document(text[opening.start() :] + b"\n", number, is_quiet=is_quiet)
            if not self._is_talk(document, text):
                self._advance(document)
                return
        if not is_quiet:
            self._out.add(self._judge_text(text, number))

    def _is_talk(self, document: Document, text: bytes) -> bool:
        """Whether braces in a text are part of what it says, not the begin of a document."""
        scanner = document.scanner
        status = scanner.scan(document.buffer)
        if status is Status.DONE:
            rest = document.buffer[scanner.position :].strip()
            return bool(rest) and _match_opening(rest) is None
        is_torn = status is Status.MORE or scanner.reason == "truncated"
        return not is_torn and (self._is_enveloped or _match_time(text) is not None)

    def _judge_text(self, text: bytes, number: int) -> Problem:
        reason = "not JSON"
        try:
            value = loads(text)
        except DecodeError as error:
            if error.reason != "truncated":
                reason = error.reason
        else:
            for found in unwrap(value):
                if isinstance(found, Problem):
                    reason = found.reason
        if reason != "not UTF-8" and (self._is_enveloped or _match_time(text)):
            return Problem("foreign", "text, not an audit event", number, excerpt_of(text))
        return Problem("malformed", reason, number, excerpt_of(text))

    # Documents

    def _advance(self, document: Document) -> None:
        """Scans what has come, over the ends and breaks of documents on the same line."""
        self._document = document
        while self._document is not None:
            status = document.scanner.scan(document.buffer)
            if status is Status.MORE:
                self._bound(document)
                return
            if status is Status.BROKEN:
                self._break(document, document.scanner.reason)
            else:
                answered = len(self._out.found)
                self._complete(document)
                if len(self._out.found) > answered:
                    document.is_quiet = False  # an event: what breaks now is another matter
                self._document = None
                if document.restart():
                    self._read_rest(document)
                else:
                    self._finished = document if self._is_long else None

    def _read_rest(self, document: Document) -> None:
        """What follows a finished document on its line."""
        if document.buffer[0] in _BRACKETS:
            self._document = document
        else:
            # Of a long line the rest is not here yet: what is shown must not depend on how much is.
            head = document.head[:1] if self._is_long else document.head
            self._report("text behind a document", document.line, head, document.is_quiet)
            self._rescue(document, 0)

    def _bound(self, document: Document) -> None:
        """Lets go of what a growing document need not keep."""
        if document.size <= self._stream_bytes:
            return
        scanner = document.scanner
        if scanner.has_list:
            self._split(document)
            start = scanner.element_start
            if start is None or scanner.position - start > self._max_bytes:
                document.cut(scanner.position)
        elif document.size > self._max_bytes:
            document.cut(scanner.position)

    def _complete(self, document: Document) -> None:
        scanner = document.scanner
        is_streamed = document.is_split or document.size > self._stream_bytes
        # Over several lines elements go one by one too: each then knows its own line.
        may_split = scanner.may_have_list and (document.is_array or not self._takes_any)
        if scanner.has_list and (is_streamed or (may_split and not document.is_on_one_line)):
            self._split(document)
            self._settle_labels(document)
            return
        if document.size > self._max_bytes:
            self._report_over_long(document.line, self._head(document))
            return
        data = bytes(document.buffer[: scanner.position])
        try:
            value = loads(data)
        except DecodeError as error:
            if scanner.has_list:
                self._split(document)
                self._settle_labels(document)
            else:
                self._report(error.reason, document.line, data, document.is_quiet)
            return
        takes_any = self._takes_any and not document.is_quiet
        made = unwrap_any if takes_any else unwrap
        answer = made(value, raw=None if b"\n" in data else data)
        self._emit(answer, document.line, is_quiet=document.is_quiet)

    def _split(self, document: Document, *, whole_lines: bool = False) -> None:
        """Takes the finished elements out of a document."""
        document.is_split = True
        end = 0
        for start, end in document.take_spans(whole_lines=whole_lines):
            self._emit_element(document, start, end)
        document.cut(end)

    def _emit_element(self, document: Document, start: int, end: int) -> None:
        document.element_count += 1
        line = document.line_at(start)
        if end - start > self._max_bytes:
            head = (
                document.element_head if start < 0 else bytes(document.buffer[start:][:HEAD_BYTES])
            )
            self._report_over_long(line, head[: self._stream_bytes])
            return
        data = bytes(document.buffer[start:end])
        try:
            value = loads(data)
        except DecodeError as error:
            self._report(error.reason, line, data, document.is_quiet)
            return
        takes_any = self._takes_any and not document.is_quiet
        made = unwrap_any if takes_any else unwrap_element
        answer = made(value, raw=None if b"\n" in data else data)
        if document.is_array and document.element_count < 3 and not isinstance(value, dict):
            for found in answer:
                found.line = line
            document.labels += answer
            document.label_count += 1
        else:
            self._emit(answer, line, is_quiet=document.is_quiet)
            document.has_record = isinstance(value, dict)

    def _settle_labels(self, document: Document, *, is_whole: bool = True) -> None:
        """The scalars before a Fluentd record (`[time, record]`) are no broken elements."""
        is_record = document.has_record and document.label_count == document.element_count - 1
        if not (is_whole and is_record):
            self._emit(document.labels, document.line, is_quiet=document.is_quiet)

    def _break(self, document: Document, reason: str) -> None:
        """The open document cannot go on; another one may begin behind it on its line."""
        is_broken = document.scanner.status is Status.BROKEN
        is_on_one_line = document.is_on_one_line
        self._document = None
        head = self._head(document)
        self._split(document, whole_lines=is_broken and not is_on_one_line)
        self._report(reason, document.line, head, document.is_quiet)
        self._settle_labels(document, is_whole=False)
        if is_on_one_line and is_broken:
            self._rescue(document, max(1, document.scanner.last_string))
            return
        self._rescue_glued(document)
        if not is_on_one_line:
            self._is_resyncing = True
            self._reread(document.take_lines(), has_breaking_line=is_broken)

    def _head(self, document: Document) -> bytes:
        """How a document begins, as far as is known whatever the chunks."""
        head = document.head[: self._stream_bytes]
        if self._is_long and document.scanner.status is Status.BROKEN:
            return head[: document.size + 1]
        return head

    def _rescue(self, document: Document, at: int) -> None:
        """Goes on at the next object in what is left of a broken line."""
        self._seek_tail = None
        found = _find_object(document.buffer, at) if self._rescues < _MAX_RESCUES else None
        if found is not None:
            self._rescues += 1
            document.rescue_at(found.start())
            self._document = document
        elif self._is_long:
            torn = _find_torn_object(
                document.buffer, max(at, len(document.buffer) - _SEEK_TAIL_BYTES)
            )
            self._seek_tail = torn[0] if torn else b""

    def _rescue_glued(self, document: Document) -> None:
        """An event that ends the opening line may be the next one, glued to a torn one's head."""
        text = document.opening_text().rstrip(JSON_SPACE)
        for tries, match in enumerate(_find_events(text, 1)):
            if tries == _MAX_GLUED_TRIES:
                return
            answer = read_whole(text[match.start() :])
            if answer is not None:
                self._emit(answer, document.line, is_quiet=True)
                return

    def _reread(self, lines: Lines, *, has_breaking_line: bool) -> None:
        cost = lines.text_bytes + len(lines) * _LINE_COST_BYTES
        if cost <= self._reread_budget:
            self._reread_budget -= cost
        elif has_breaking_line:
            lines.keep_last()
        else:
            return
        if lines:
            self.reread_lines += len(lines)
            self._waiting.append(lines)

    def _put_back(self, line: bytes, number: int) -> None:
        bounds = array("q", [0, len(line)])
        self._waiting.append(Lines(bytearray(line), array("q", [number]), bounds))

    def _emit(self, answer: Sequence[Found], line: int, *, is_quiet: bool) -> None:
        for found in answer:
            if is_quiet and not isinstance(found, Event):
                continue
            found.line = found.line or line
            self._out.add(found)
            if isinstance(found, Event):
                self._rescues = 0

    def _report(self, reason: str, line: int, data: bytes, is_quiet: bool) -> None:
        if not is_quiet:
            self._out.add(Problem("malformed", reason, line, excerpt_of(data)))

    def _report_over_long(self, line: int, head: bytes) -> None:
        reason = f"over-long: more than {self._max_bytes} bytes"
        self._out.add(Problem("malformed", reason, line, excerpt_of(head)))


def _is_rest(line: bytes, text: bytes) -> bool:
    """Whether a line reads like what is left of a document of several lines that broke."""
    if line[:1] in (b" ", b"\t") or text[:1] in (b"}", b"]"):
        return True
    return text[:1] == b'"' and text[-1:] != b'"'


def holds_event(answer: Answer | None) -> bool:
    return answer is not None and any(isinstance(found, Event) for found in answer)


def read_whole(text: bytes, *, takes_any: bool = False) -> Answer | None:
    """What a line holds that is one JSON document, a comma behind it allowed."""
    if text[-1:] == b",":
        text = text[:-1].rstrip(JSON_SPACE)
    if text[-1:] not in (b"}", b"]"):
        return None
    try:
        value = loads(text)
    except DecodeError:
        return None
    return (unwrap_any if takes_any else unwrap)(value, raw=text)
