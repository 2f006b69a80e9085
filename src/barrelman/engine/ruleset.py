"""The rules of a scan, compiled: one decoded event in, the rules that match it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from barrelman.engine.compile import Predicate
from barrelman.records.event import Event
from barrelman.records.indices import IndexPatterns, data_stream


@dataclass(frozen=True, slots=True)
class Entry:
    """One rule of the set, known by its number."""

    number: int
    predicate: Predicate
    patterns: IndexPatterns


@dataclass
class Readers:
    """Which rules read which data stream. Grows with the streams seen; None: unknown stream."""

    plain: dict[str | None, tuple[Entry, ...]] = field(default_factory=dict)
    timed: dict[str | None, tuple[Entry, ...]] = field(default_factory=dict)


class RuleSet:
    """Frozen but for what it remembers of data streams' names, which changes no answer."""

    def __init__(self, predicates: Sequence[Predicate], patterns: Sequence[IndexPatterns]) -> None:
        self._entries = tuple(
            Entry(number, predicate, reads)
            for number, (predicate, reads) in enumerate(zip(predicates, patterns, strict=True))
        )
        self._readers = Readers()

    def matches(self, event: Event) -> list[int]:
        """Numbers of the rules that match and read the event's stream, `timed` ones left out."""
        stream = data_stream(event)
        if stream not in self._readers.plain:
            self._learn(stream)
        return [
            entry.number
            for entry in self._readers.plain[stream]
            if entry.predicate.matches(event, now_ms=0)
        ]

    def timed(self, event: Event) -> Sequence[Entry]:
        """Rules whose answer depends on the run's time: the caller asks them for each run."""
        stream = data_stream(event)
        if stream not in self._readers.timed:
            self._learn(stream)
        return self._readers.timed[stream]

    def unread(self, number: int) -> bool:
        """Whether no data stream seen so far is one that this rule reads."""
        seen = self._readers.plain.keys()
        return bool(seen) and not any(
            stream is None or self._entries[number].patterns.read(stream) for stream in seen
        )

    def streams(self) -> list[str]:
        """Names of the data streams seen, sorted."""
        return sorted(stream for stream in self._readers.plain if stream is not None)

    def _learn(self, stream: str | None) -> None:
        # A document that does not say where it belongs is shown to every rule.
        reading = [
            entry for entry in self._entries if stream is None or entry.patterns.read(stream)
        ]
        self._readers.plain[stream] = tuple(e for e in reading if not e.predicate.uses_now)
        self._readers.timed[stream] = tuple(e for e in reading if e.predicate.uses_now)
