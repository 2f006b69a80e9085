"""The rules of a scan, compiled: one decoded event in, the rules that match it out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from barrelman.engine.compile import Predicate
from barrelman.engine.index import RuleIndex
from barrelman.records.event import Event, JsonObject
from barrelman.records.fields import AUDIT_STREAM
from barrelman.records.frozen import frozen
from barrelman.records.indices import IndexPatterns

# A real input names a handful of streams; one that names a new one in each event must not
# make the memory grow.
MOST_STREAMS: Final = 10_000


Screen: TypeAlias = Callable[[JsonObject], bool]
"""Whether a rule could match a raw event with that body."""


@frozen
class Entry:
    """One rule of the set, known by its number."""

    number: int
    predicate: Predicate
    patterns: IndexPatterns


@dataclass(slots=True)
class Readers:
    """The rules that read a data stream: those without and those with an eye on the time."""

    plain: tuple[Entry, ...]
    timed: tuple[int, ...]
    index: RuleIndex | None = None
    """Of the plain ones, once a raw event asks for it."""


class RuleSet:
    """Frozen but for what it remembers of data streams' names, which changes no answer."""

    def __init__(self, predicates: Sequence[Predicate], patterns: Sequence[IndexPatterns]) -> None:
        self._entries = tuple(
            Entry(number, predicate, reads)
            for number, (predicate, reads) in enumerate(zip(predicates, patterns, strict=True))
        )
        self._known: dict[str | None, Readers] = {}
        self._readers_of(AUDIT_STREAM)  # kept, whatever else is named

    def matches(self, event: Event, *, stream: str | None) -> list[int]:
        """Numbers of the rules that match and read the event's stream, in order.

        Those whose answer depends on the run's time are among them: the caller asks them again,
        for each run.
        """
        readers = self._known.get(stream) or self._readers_of(stream)
        if event.is_document:
            found = [
                entry.number for entry in readers.plain if entry.predicate.matches(event, now_ms=0)
            ]
        else:
            index = readers.index or self._indexed(readers)
            found = index.matches(event)
            if found:
                found = [readers.plain[at].number for at in found]
        if readers.timed:
            found += readers.timed
            found.sort()
        return found

    def _indexed(self, readers: Readers) -> RuleIndex:
        readers.index = RuleIndex([entry.predicate for entry in readers.plain])
        return readers.index

    def screen(self, stream: str) -> Screen | None:
        """A quick look at the bodies of raw events of a stream; None where each may match."""
        readers = self._known.get(stream) or self._readers_of(stream)
        if readers.timed:
            return None
        return (readers.index or self._indexed(readers)).may_match

    def unread(self, number: int, streams: Collection[str | None]) -> bool:
        """Whether no data stream of these is one that this rule reads."""
        reads = self._entries[number].patterns
        return bool(streams) and not any(stream is None or reads.read(stream) for stream in streams)

    def _readers_of(self, stream: str | None) -> Readers:
        # A document that does not say where it belongs is shown to every rule.
        reading = [
            entry for entry in self._entries if stream is None or entry.patterns.read(stream)
        ]
        found = Readers(
            plain=tuple(entry for entry in reading if not entry.predicate.uses_now),
            timed=tuple(entry.number for entry in reading if entry.predicate.uses_now),
        )
        if len(self._known) < MOST_STREAMS:
            self._known[stream] = found
        return found
