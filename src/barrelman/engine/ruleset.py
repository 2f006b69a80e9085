"""The rules of a scan, compiled: one decoded event in, the rules that match it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from barrelman.engine.compile import Predicate
from barrelman.records.event import Event
from barrelman.records.indices import IndexPatterns, data_stream

# A real input names a handful of streams; one that names a new one in each event must not
# make the memory grow.
MOST_STREAMS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One rule of the set, known by its number."""

    number: int
    predicate: Predicate
    patterns: IndexPatterns


@dataclass(frozen=True, slots=True)
class Readers:
    """The rules that read a data stream: those without and those with an eye on the time."""

    plain: tuple[Entry, ...]
    timed: tuple[Entry, ...]


class RuleSet:
    """Frozen but for what it remembers of data streams' names, which changes no answer."""

    def __init__(self, predicates: Sequence[Predicate], patterns: Sequence[IndexPatterns]) -> None:
        self._entries = tuple(
            Entry(number, predicate, reads)
            for number, (predicate, reads) in enumerate(zip(predicates, patterns, strict=True))
        )
        self._seen: dict[str | None, Readers] = {}

    def matches(self, event: Event) -> list[int]:
        """Numbers of the rules that match and read the event's stream, `timed` ones left out."""
        return [
            entry.number
            for entry in self._readers_of(event).plain
            if entry.predicate.matches(event, now_ms=0)
        ]

    def timed(self, event: Event) -> Sequence[Entry]:
        """Rules whose answer depends on the run's time: the caller asks them for each run."""
        return self._readers_of(event).timed

    def unread(self, number: int) -> bool:
        """Whether no data stream seen so far is one that this rule reads."""
        return bool(self._seen) and not any(
            stream is None or self._entries[number].patterns.read(stream) for stream in self._seen
        )

    def streams(self) -> list[str]:
        """Names of the data streams seen, sorted; of very many the first `MOST_STREAMS`."""
        return sorted(stream for stream in self._seen if stream is not None)

    def _readers_of(self, event: Event) -> Readers:
        stream = data_stream(event)
        found = self._seen.get(stream)
        if found is None:
            # A document that does not say where it belongs is shown to every rule.
            reading = [
                entry for entry in self._entries if stream is None or entry.patterns.read(stream)
            ]
            found = Readers(
                plain=tuple(entry for entry in reading if not entry.predicate.uses_now),
                timed=tuple(entry for entry in reading if entry.predicate.uses_now),
            )
            if len(self._seen) < MOST_STREAMS:
                self._seen[stream] = found
        return found
