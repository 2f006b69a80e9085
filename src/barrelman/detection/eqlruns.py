"""EQL rules, run by run: event queries, sequences and samples.

A run returns the newest results of its window, as many as the rule's cap, and no second page: an
event that is not among them is capped, even where no alert came of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TypeAlias

from barrelman.detection.drawer import Drawer
from barrelman.detection.eqlfeed import Feed
from barrelman.detection.eqlpool import Candidate, Entry, Kept, Pool, event_candidate
from barrelman.detection.finding import MOST_LIVE, Finding, Item, Operand, SequenceOf, Window
from barrelman.detection.runs import Runs
from barrelman.engine.reading import field_reader
from barrelman.engine.stages import Slots, compile_stages
from barrelman.query.eqltree import EVENT_CATEGORY, EqlQuery, EventFilter, Pipe, Sequence
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue
from barrelman.records.paths import Scalar
from barrelman.records.times import parse_instant_us
from barrelman.rules.rule import Rule

_Tiebreaker: TypeAlias = tuple[int, float | str]

_NO_TIEBREAKER: _Tiebreaker = (2, 0)


def eql_operand(
    rule: Rule, *, catalogue: Catalogue = AUDIT_CATALOGUE
) -> Callable[[Event, int], Operand | None]:
    """Reads which stages an event meets under which keys, the time that orders it (None: its own)
    and its tiebreaker.

    None for an event that no sequence can hold: without the time, or without a join key.
    """
    query = _query(rule)
    slots_of = _slots_reader(query, rule, catalogue)
    time_of = _time_reader(rule.timestamp_field, catalogue)
    tiebreaker_of = _tiebreaker_reader(rule.tiebreaker_field, catalogue)

    def read(event: Event, now_ms: int) -> Operand | None:
        slots = slots_of(event, now_ms)
        if slots is None:
            return None
        time_us = None
        if time_of is not None and (time_us := time_of(event)) is None:
            return None
        return slots, time_us, tiebreaker_of(event)

    return read


def eql_operator(
    rule: Rule, *, runs: Runs, cap: int | None, most_live: int = MOST_LIVE
) -> EqlOperator:
    """`cap` None: a run returns all."""
    return EqlOperator(
        _query(rule), runs=runs, cap=cap, interval_ms=rule.interval_ms, most_live=most_live
    )


class EqlOperator:
    """Runs of one query. Windows are to move forward only.

    A sequence that ends with `![ ]` is known only when its span is over. Where the next run, an
    interval later, still holds it, a run that cannot know leaves it to that one; without an
    interval each run says what it sees.
    """

    def __init__(
        self,
        query: EqlQuery,
        *,
        runs: Runs,
        cap: int | None,
        interval_ms: int | None = None,
        most_live: int = MOST_LIVE,
    ) -> None:
        self.capped = 0
        self.suppressed = 0
        self.evicted = 0
        self._drawer = Drawer()
        self._cap = cap
        self._interval_ms = interval_ms
        self._pipes = query.pipes
        covers = not query.pipes and _always_holds(query)
        self._pool = Pool(runs, cap=cap, covers=covers, most=most_live)
        self._feed = None
        if not isinstance(query.top, EventFilter):
            self._feed = Feed(query.top, self._pool, most=most_live)
        self._raised: dict[str, int] = {}
        """Alerts that were raised, with their first event's time, as long as a window may hold
        them."""
        self._left: dict[str, int] = {}
        """Those for which no run had room yet, likewise."""
        self._by_age: list[tuple[int, str]] = []
        self._lost = 0

    def add(self, item: Item) -> None:
        _, time_us, tiebreaker = item.operand
        order = (item.timestamp_us if time_us is None else time_us, tiebreaker, item.number)
        kept = Kept(item.payload, self._drawer)
        entry = Entry(order, item._replace(payload=b""), kept)
        if self._feed is None:
            self._pool.add(event_candidate(entry))
        else:
            self._feed.add(entry)

    def run(self, window: Window) -> list[Finding]:
        self._forget(window.from_ms)
        found = [each for each in self._found(window) if not self._waits(each, window)]
        results = piped(found, self._pipes)
        taken = results if self._cap is None else results[max(len(results) - self._cap, 0) :]
        for each in results[: len(results) - len(taken)]:
            if each.alert_id not in self._raised and each.alert_id not in self._left:
                self._remember(self._left, each)
        new = [each for each in taken if each.alert_id not in self._raised]
        for each in new:
            self._left.pop(each.alert_id, None)
            self._remember(self._raised, each)
        self._pool.settle(found)
        self.capped = self._pool.lost + len(self._left) + self._lost
        self.evicted = self._pool.evicted + (0 if self._feed is None else self._feed.evicted)
        return sorted(map(_finding, new), key=lambda finding: finding.order)

    def _found(self, window: Window) -> list[Candidate]:
        if self._feed is None:
            return self._pool.visible(window.from_ms, window.to_ms)
        return self._feed.found(window.from_ms, window.to_ms)

    def _waits(self, candidate: Candidate, window: Window) -> bool:
        found = candidate.found
        if found is None or self._interval_ms is None or found.is_settled(window.to_ms + 1):
            return False
        return candidate.first_ms >= window.from_ms + self._interval_ms

    def _remember(self, table: dict[str, int], candidate: Candidate) -> None:
        table[candidate.alert_id] = candidate.first_ms
        heappush(self._by_age, (candidate.first_ms, candidate.alert_id))

    def _forget(self, before_ms: int) -> None:
        """What no window holds any more: what was left is left for good."""
        while self._by_age and self._by_age[0][0] < before_ms:
            _, alert_id = heappop(self._by_age)
            self._raised.pop(alert_id, None)
            self._lost += self._left.pop(alert_id, None) is not None


def piped(found: list[Candidate], pipes: tuple[Pipe, ...]) -> list[Candidate]:
    """What passes a query's pipes, one after the other."""
    for pipe in pipes:
        start = 0 if pipe.name == "head" else max(len(found) - pipe.count, 0)
        found = found[start : start + pipe.count]
    return found


def _finding(candidate: Candidate) -> Finding:
    """Its place is that of its first event: the oldest come first."""
    first = min(entry.item for entry in candidate.entries)
    is_event = candidate.found is None
    return Finding(
        candidate.alert_id,
        first.time_us,
        first.timestamp_us,
        first.number,
        tuple(entry.kept.read() for entry in candidate.entries),
        about=None if is_event else SequenceOf(candidate.keys),
        groups=first.groups if is_event else None,
    )


def _always_holds(query: EqlQuery) -> bool:
    """Whether what is complete is found by every run whose window it lies in."""
    top = query.top
    if not isinstance(top, Sequence):
        return isinstance(top, EventFilter)
    return not (top.stages[0].is_missing or top.stages[-1].is_missing)


def _query(rule: Rule) -> EqlQuery:
    assert rule.eql is not None, rule.name
    return rule.eql


# --- operands ------------------------------------------------------------------------------


def _slots_reader(
    query: EqlQuery, rule: Rule, catalogue: Catalogue
) -> Callable[[Event, int], Slots | None]:
    if isinstance(query.top, EventFilter):
        return lambda event, now_ms: ()
    category_field = rule.event_category_override or EVENT_CATEGORY
    program = compile_stages(query.top, catalogue, category_field=category_field)
    return lambda event, now_ms: program.slots(event, now_ms) or None


def _time_reader(name: str | None, catalogue: Catalogue) -> Callable[[Event], int | None] | None:
    """The earliest of several. None for the event's own time."""
    if name is None or name == "@timestamp":
        return None
    read = field_reader(name, catalogue=catalogue)

    def time_of(event: Event) -> int | None:
        instants = (parse_instant_us(value) for value in read(event))
        return min((each for each in instants if each is not None), default=None)

    return time_of


def _tiebreaker_reader(name: str | None, catalogue: Catalogue) -> Callable[[Event], _Tiebreaker]:
    """Numbers before texts, the least of several; the missing ones come last."""
    if name is None:
        return lambda event: _NO_TIEBREAKER
    read = field_reader(name, catalogue=catalogue)
    return lambda event: min(map(_tiebreaker, read(event)), default=_NO_TIEBREAKER)


def _tiebreaker(value: Scalar) -> _Tiebreaker:
    return (1, value) if isinstance(value, str) else (0, value)
