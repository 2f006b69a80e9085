"""Stored events that meet a query: columns spare reading lines, the matcher has the last word."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from barrelman.detection.prune import Pruned, prune
from barrelman.detection.rows import stored_event
from barrelman.engine.compile import Predicate, compile_query
from barrelman.engine.literals import need_of
from barrelman.engine.sieve import Sieve, build_sieve
from barrelman.errors import UsageError
from barrelman.query.ast import MATCH_ALL, Node
from barrelman.query.kql import parse_kql
from barrelman.query.typecheck import check_types
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE, event_time_us
from barrelman.service.judging import event_at, event_on, lines_of
from barrelman.store.events import EventStore, Frame, RowRef

Span: TypeAlias = tuple[int | None, int | None]

MOST_FOUND: Final = 10_000
_EVERYTHING: Final[Span] = (None, None)
# Backwards it is read by the stretch, each held as a whole: the last page seldom needs many.
_FIRST_STRIDE: Final = 2_000
_MOST_STRIDE: Final = 50_000
_PAGE_REFS: Final = 1000
# Of more rows than this share, reading lines one by one costs more than reading all in order.
_FEW: Final = 20_000
_SHARE: Final = 0.05


class FoundEvent(NamedTuple):
    """A stored event. `line` is its JSON; `wrapper` what came around it, as JSON."""

    seq: int
    arrival_us: int
    cluster: str
    time_us: int | None
    line: bytes
    wrapper: bytes | None = None


@dataclass
class Page:
    """Events in the order asked for. `next` goes on behind them; None where there are no more.

    `is_timed_out`: it took too long, and what was found until then is here; `next` goes on.
    """

    events: list[FoundEvent] = field(default_factory=list)
    next: str | None = None
    is_timed_out: bool = False


class _Query(NamedTuple):
    node: Node
    predicate: Predicate
    sieve: Sieve | None
    pruned: Pruned
    time_us: Span
    clusters: frozenset[str] | None
    now_ms: int


class Search:
    """Queries are KQL, as in rules. `most_seconds` bounds each."""

    def __init__(
        self, store: EventStore, *, clock: Callable[[], int], most_seconds: float = 60.0
    ) -> None:
        self._store = store
        self._clock = clock
        self._most_seconds = most_seconds

    def events(
        self,
        query: str,
        *,
        since_us: int | None = None,
        until_us: int | None = None,
        clusters: Collection[str] | None = None,
        limit: int = 100,
        newest_first: bool = True,
        after: str | None = None,
    ) -> Page:
        """The first events by arrival, behind `after`, whose own time lies within the bounds.

        Raises QueryError for a query that is none, UsageError for the rest.
        """
        if not 1 <= limit <= MOST_FOUND:
            raise UsageError(f"limit must lie between 1 and {MOST_FOUND}")
        wanted = self._query(query, (since_us, until_us), clusters)
        behind = _parse_cursor(after)
        deadline = time.monotonic() + self._most_seconds
        page = Page()
        place: int | None = None
        for seq, event in self._found(wanted, newest_first=newest_first, behind=behind):
            if event is not None:
                if len(page.events) == limit:
                    page.next = str(place)
                    return page
                page.events.append(event)
            place = seq
            if time.monotonic() > deadline:
                page.is_timed_out, page.next = True, str(place)
                return page
        return page

    def each(
        self,
        query: str,
        *,
        since_us: int | None = None,
        until_us: int | None = None,
        clusters: Collection[str] | None = None,
        newest_first: bool = False,
    ) -> Iterator[FoundEvent]:
        """All of them, however long it takes."""
        wanted = self._query(query, (since_us, until_us), clusters)
        for _, event in self._found(wanted, newest_first=newest_first, behind=None):
            if event is not None:
                yield event

    def count(
        self,
        query: str,
        *,
        since_us: int | None = None,
        until_us: int | None = None,
        clusters: Collection[str] | None = None,
    ) -> int:
        """How many there are; by the columns alone where they say all that is asked."""
        wanted = self._query(query, (since_us, until_us), clusters)
        if wanted.pruned.is_exact:
            counted = self._store.count(
                wanted.pruned.where, time_us=wanted.time_us, clusters=wanted.clusters
            )
            return counted.plain + sum(1 for _ in self._judge_refs(wanted, counted.others))
        return sum(
            event is not None for _, event in self._found(wanted, newest_first=False, behind=None)
        )

    def get(self, seq: int) -> FoundEvent | None:
        """One event by its number."""
        for frame in self._store.frames(first_seq=seq):
            if frame.seqs and frame.seqs[0] <= seq <= frame.seqs[-1]:
                for position, each in enumerate(frame.seqs):
                    if each == seq:
                        return _found_at(frame, position, event_at(frame, position))
            return None
        return None

    # --- inside ---

    def _query(self, text: str, time_us: Span, clusters: Collection[str] | None) -> _Query:
        node: Node = MATCH_ALL
        if text.strip() not in ("", "*"):
            node = parse_kql(text)
            check_types(node, AUDIT_CATALOGUE, text=text)
        return _Query(
            node,
            compile_query(node, AUDIT_CATALOGUE),
            build_sieve([need_of(node, AUDIT_CATALOGUE)]),
            prune(node, AUDIT_CATALOGUE),
            time_us,
            None if clusters is None else frozenset(clusters),
            self._clock() // 1000,
        )

    def _found(
        self, query: _Query, *, newest_first: bool, behind: int | None
    ) -> Iterator[tuple[int, FoundEvent | None]]:
        """Events that meet the query, and now and then how far it has come without one."""
        if query.pruned.is_useful and self._is_rare(query):
            yield from self._by_columns(query, newest_first=newest_first, behind=behind)
            return
        low, high = 0, self._store.next_seq
        if behind is not None:
            low, high = (low, behind) if newest_first else (behind + 1, high)
        if not newest_first:
            yield from self._read(query, low, high)
            return
        stride = _FIRST_STRIDE
        while high > low:
            start = max(low, high - stride)
            yield from reversed(list(self._read(query, start, high, marks=False)))
            yield start, None
            high, stride = start, min(stride * 2, _MOST_STRIDE)

    def _is_rare(self, query: _Query) -> bool:
        """Whether columns leave so little that its lines are better fetched one by one."""
        if query.pruned.is_exact:
            return True
        counted = self._store.count(
            query.pruned.where, time_us=query.time_us, clusters=query.clusters
        )
        if counted.plain > max(_FEW, _SHARE * self._store.stats().events):
            return False
        return sum(1 for _, _ in zip(counted.others, range(_FEW), strict=False)) < _FEW

    def _by_columns(
        self, query: _Query, *, newest_first: bool, behind: int | None
    ) -> Iterator[tuple[int, FoundEvent | None]]:
        size = _PAGE_REFS // 8
        last = None if behind is None else _ref_of(behind)
        while True:
            refs = self._store.select(
                query.pruned.where,
                time_us=query.time_us,
                clusters=query.clusters,
                order="desc" if newest_first else "asc",
                limit=size,
                after=last,
            )
            if not refs:
                return
            for found in self._judge_refs(query, refs):
                yield found.seq, found
            last = refs[-1]
            yield last.seq, None
            size = _PAGE_REFS

    def _judge_refs(
        self, query: _Query, refs: Collection[RowRef] | Iterator[RowRef]
    ) -> Iterator[FoundEvent]:
        batch: list[RowRef] = []
        for ref in refs:
            batch.append(ref)
            if len(batch) == _PAGE_REFS:
                yield from self._judge_batch(query, batch)
                batch = []
        yield from self._judge_batch(query, batch)

    def _judge_batch(self, query: _Query, refs: list[RowRef]) -> Iterator[FoundEvent]:
        if not refs:
            return
        for stored in self._store.fetch(refs):
            seq, arrival_us, time_us, cluster, line, wrapper, is_plain = stored
            if time_us is None and query.time_us != _EVERYTHING:
                continue
            if not (query.pruned.is_exact and is_plain):
                event = stored_event(line, wrapper, cluster=cluster, arrival_us=arrival_us)
                if not query.predicate.matches(event, now_ms=query.now_ms):
                    continue
            yield FoundEvent(seq, arrival_us, cluster, time_us, line, wrapper)

    def _read(
        self, query: _Query, low: int, high: int, *, marks: bool = True
    ) -> Iterator[tuple[int, FoundEvent | None]]:
        """Line by line, of the numbers from `low` to below `high`."""
        since, until = query.time_us
        for frame in self._store.frames(
            first_seq=low, time_us=query.time_us, clusters=query.clusters
        ):
            if frame.seqs[0] >= high:
                return
            for position, start, stop in lines_of(frame, query.sieve):
                seq = frame.seqs[position]
                if not low <= seq < high:
                    continue
                if query.clusters is not None and frame.clusters[position] not in query.clusters:
                    continue
                event = event_on(frame, position, start, stop)
                if not query.predicate.matches(event, now_ms=query.now_ms):
                    continue
                instant = event_time_us(event)
                if (since is not None or until is not None) and (
                    instant is None
                    or (since is not None and instant < since)
                    or (until is not None and instant > until)
                ):
                    continue
                yield seq, _found_at(frame, position, event)
            if marks:
                yield min(frame.seqs[-1], high - 1), None


def _found_at(frame: Frame, position: int, event: Event) -> FoundEvent:
    line = event.raw
    assert line is not None  # a stored event has its line
    return FoundEvent(
        frame.seqs[position],
        frame.arrivals_us[position],
        frame.clusters[position],
        event_time_us(event),
        line,
        frame.wrappers.get(position),
    )


def _ref_of(seq: int) -> RowRef:
    """A row to go on behind: by its number, which is all that the order asks for."""
    return RowRef(seq, 0, None, "", True, -1, 0, 0)


def _parse_cursor(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise UsageError("after: this is no place to go on from", hint="take it from `next`")
    return int(text)
