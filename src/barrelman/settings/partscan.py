"""What a process of its own finds in one part of the input, and how it tells."""

from __future__ import annotations

import marshal
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from typing import Any, Final

from barrelman.detection.judge import Judge, Tally
from barrelman.detection.match import Match, size_bytes
from barrelman.engine.blocks import BlockReader, Buffers, Passed
from barrelman.engine.problem import Findings, Problem
from barrelman.engine.reader import EventReader
from barrelman.engine.ruleset import Screen
from barrelman.engine.sieve import Sieve
from barrelman.errors import InputError
from barrelman.records.event import Event
from barrelman.records.frozen import frozen
from barrelman.settings.parts import Part, read_part
from barrelman.settings.sources import Source

# An answer is sent when its matches take so much, or so much has been read.
_ANSWER_BYTES: Final = 1024 * 1024
_ANSWER_READ_BYTES: Final = 8 * 1024 * 1024
# Beside its packed event, what a match takes.
_MATCH_BYTES: Final = 200


@frozen
class ReaderOptions:
    """How sources are read, the same for all of them."""

    max_event_bytes: int
    cluster: str | None
    is_strict: bool = False
    is_timed: bool = True

    def reader(self, *, lines_before: int = 0) -> EventReader:
        return EventReader(
            max_event_bytes=self.max_event_bytes, cluster=self.cluster, lines_before=lines_before
        )

    def blocks(
        self,
        reader: EventReader,
        sieve: Sieve | None,
        *,
        screen: Screen | None = None,
        buffers: Buffers | None = None,
    ) -> BlockReader:
        return BlockReader(
            reader,
            sieve=sieve,
            is_timed=self.is_timed,
            is_strict=self.is_strict,
            screen=screen,
            buffers=buffers,
        )


@frozen
class Ending:
    """What is known at the end of a part. `is_neutral`: the next part stands on its own."""

    tally: Tally
    lines: int
    is_neutral: bool
    has_passed_last: bool
    """The last line was passed over, and not read."""
    has_looked_back: bool
    """The line before the part was read, as if it had been passed over."""
    error: str | None


@frozen
class Answer:
    """Some of what a part holds, in order; lines of problems count from the part's first."""

    matches: list[Match]
    problems: list[Problem]
    disk_bytes: int
    plain_bytes: int
    ending: Ending | None


class PartScan:
    """Reads parts with one judge: `work` is to run in a process of its own."""

    def __init__(
        self,
        parts: Sequence[Part],
        sources: Sequence[Source],
        *,
        judge: Judge,
        sieve: Sieve | None,
        options: ReaderOptions,
    ) -> None:
        self._parts = parts
        self._sources = sources
        self._judge = judge
        self._sieve = sieve
        self._options = options
        self._buffers = Buffers()

    def work(self, number: int) -> Iterator[bytes]:
        """The packed answers to one part."""
        part = self._parts[number]
        judge, sent = self._judge, _Outbox()
        judge.note_cuts()  # those before this part are another's
        judge.tally = Tally()
        reader = self._options.reader()
        blocks = self._options.blocks(
            reader, self._sieve, screen=judge.screen(), buffers=self._buffers
        )
        error: str | None = None
        try:
            source = self._sources[part.source]
            for item in read_part(
                part, source, blocks, on_bytes=sent.count_bytes, follows=not part.is_first
            ):
                if type(item) is Event:
                    for match in judge.feed(item):
                        sent.add(match)
                elif type(item) is Passed:
                    judge.pass_over(item)
                else:
                    assert isinstance(item, Problem)
                    sent.problems.add(item)
                if sent.is_full:
                    yield sent.pack(blocks.plain_bytes, None)
        except InputError as failure:
            error = str(failure)
        judge.note_cuts()
        ending = (
            judge.tally.packed(),
            reader.lines_read,
            reader.is_neutral,
            blocks.has_passed_last,
            blocks.has_looked_back,
            error,
        )
        yield sent.pack(blocks.plain_bytes, ending)


class _Outbox:
    """What is to be sent with the next answer."""

    def __init__(self) -> None:
        self.problems = Findings()
        """Bounded: a part may hold millions, of which a few are shown and all are counted."""
        self._matches: list[Match] = []
        self._size_bytes = 0
        self._disk_bytes = 0
        self._sent_plain_bytes = 0

    @property
    def is_full(self) -> bool:
        return self._size_bytes > _ANSWER_BYTES or self._disk_bytes > _ANSWER_READ_BYTES

    def count_bytes(self, size: int) -> None:
        self._disk_bytes += size

    def add(self, match: Match) -> None:
        self._matches.append(match)
        self._size_bytes += _MATCH_BYTES + size_bytes(match[-1])

    def pack(self, plain_bytes: int, ending: tuple[Any, ...] | None) -> bytes:
        problems = [astuple(each) for each in self.problems.take() if isinstance(each, Problem)]
        plain = plain_bytes - self._sent_plain_bytes
        answer = marshal.dumps((self._matches, problems, self._disk_bytes, plain, ending))
        self._matches = []
        self._size_bytes = self._disk_bytes = 0
        self._sent_plain_bytes = plain_bytes
        return answer


def unpack_answer(data: bytes) -> Answer:
    """What `work` packed, in the process that asked."""
    matches, problems, disk_bytes, plain_bytes, ending = marshal.loads(data)
    if ending is not None:
        tally, *rest = ending
        ending = Ending(Tally(*tally), *rest)
    return Answer(matches, [Problem(*each) for each in problems], disk_bytes, plain_bytes, ending)
