"""Threshold rules: groups of events that have grown large enough, and what was counted before.

A run counts its window's events by the terms of the rule's fields. A group that alerted is not
counted twice: until its last event has left the windows, no event counts that has the group's
terms and is not later than that one, neither for it nor (an array has several) for another group.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from barrelman.detection.finding import (
    MOST_LIVE,
    Fields,
    Finding,
    Item,
    Operand,
    ThresholdResult,
    Window,
)
from barrelman.detection.identity import cluster_name
from barrelman.detection.panes import (
    NEVER_MS,
    Count,
    PaneMarks,
    Source,
    count_of,
    distinct_of,
)
from barrelman.engine.decode import dumps
from barrelman.engine.reading import Combination, combinations_of
from barrelman.engine.terms import composite_order, term_reader
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue
from barrelman.records.paths import Scalar
from barrelman.rules.rule import Rule, Threshold

if TYPE_CHECKING:
    from barrelman.detection.runs import Runs

# Sources held before those whose events no window reads any more are looked for.
_FEW_HELD: Final = 4096
# For each source that may live, this many groups, panes and values in panes may.
_PIECES_A_SOURCE: Final = 5


def threshold_operand(
    rule: Rule, *, catalogue: Catalogue = AUDIT_CATALOGUE
) -> Callable[[Event], Operand | None]:
    """Reads the event's cluster, its groups (several where a field is an array), and the values
    of the field whose cardinality is asked. None: an event without one of the fields."""
    threshold = _threshold_of(rule)
    readers = [term_reader(name, catalogue=catalogue) for name in threshold.field]
    counted = [term_reader(each.field, catalogue=catalogue) for each in threshold.cardinality[:1]]

    def read(event: Event) -> Operand | None:
        groups = combinations_of(readers, event)
        if not groups:
            return None
        values = tuple(dict.fromkeys(counted[0](event))) if counted else ()
        return cluster_name(event), tuple(groups), values

    return read


class ThresholdOperator:
    """`runs` must be those that `run` is then called for. `cap` None: every group alerts.

    A group for which a run has no room may alert in a later one, and is `capped` until it does.
    """

    def __init__(
        self,
        rule: Rule,
        *,
        runs: Runs,
        cap: int | None,
        catalogue: Catalogue = AUDIT_CATALOGUE,
        most_live: int = MOST_LIVE,
    ) -> None:
        threshold = _threshold_of(rule)
        self.capped = 0
        self.suppressed = 0
        self.evicted = 0
        self._rule_id = rule.rule_id
        self._has_groups = rule.alert_suppression is not None
        self._fields = threshold.field
        self._value = threshold.value
        self._cardinality = threshold.cardinality[0] if threshold.cardinality else None
        self._order = composite_order(threshold.field, catalogue=catalogue)
        self._cap = cap
        self._most_live = most_live
        self._panes = PaneMarks(runs)
        self._plain: dict[Combination, Source] = {}
        """Of a group, the events that are in no other: of the cluster that came first."""
        self._shared: dict[tuple[str, tuple[Combination, ...]], Source] = {}
        """All others."""
        self._sharers: dict[Combination, list[Source]] = {}
        """Of a group, those of the latter."""
        self._due: dict[Combination, None] = {}
        """Groups that may have come to the threshold since they were counted, in order."""
        self._cut_off: set[Combination] = set()
        self._history = _History()
        self._pieces = 0
        self._limit = min(_FEW_HELD, most_live)
        self._from_ms = NEVER_MS

    def remember(self, terms: Iterable[tuple[str, Scalar]], last_ms: int) -> None:
        """An alert of before, by its `ThresholdResult`. To be called before the first match."""
        known = dict(terms)
        if known.keys() == set(self._fields):
            self._history.add(tuple(known[name] for name in self._fields), last_ms)

    def add(self, item: Item) -> None:
        self.add_all([item])

    def add_all(self, matches: list[Fields]) -> list[Fields]:
        panes, value = self._panes, self._value
        for match in matches:
            time_ms = match[0] // 1000
            if not panes.low_ms <= time_ms <= panes.high_ms:
                panes.move(time_ms)
            mark = panes.mark
            if mark is None:
                continue
            cluster, groups, values = match[4]
            terms = groups[0]
            source = self._plain.get(terms)
            if source is None or len(groups) > 1 or source.cluster != cluster:
                source = self._source_of(cluster, groups)
            self._pieces += source.take(time_ms, mark, values)
            if source.bound >= value or (self._sharers and terms in self._sharers):
                self._due[terms] = None
            if self._pieces > _PIECES_A_SOURCE * self._limit:
                self._sweep()
        return matches

    def run(self, window: Window) -> list[Finding]:
        self._from_ms = window.from_ms
        for terms in self._history.expire(window.from_ms):
            self._revive(terms)
        reached = self._reached(window)
        chosen = reached if self._cap is None else reached[: self._cap]
        for terms, _ in reached[len(chosen) :]:
            if terms not in self._cut_off:
                self._cut_off.add(terms)
                self.capped += 1
        findings = [
            self._finding(terms, count, window, number)
            for number, (terms, count) in enumerate(chosen)
        ]
        # All groups are counted before what one of them has counted is settled.
        for terms, count in chosen:
            self._settle(terms, count)
        self.evicted += self._history.bound(self._most_live)
        return findings

    def _source_of(self, cluster: str, groups: tuple[Combination, ...]) -> Source:
        """Where it is not the plain one of its only group, or that is not there yet."""
        if len(groups) == 1 and groups[0] not in self._plain:
            return self._open(cluster, groups[0])
        if len(groups[-1]) != len(groups[0]):
            self.evicted += int(groups[-1][0])  # groups that were left out
            groups = groups[:-1]
        self._due |= dict.fromkeys(groups)
        source = self._shared.get((cluster, groups))
        return self._open_shared(cluster, groups) if source is None else source

    def _open(self, cluster: str, terms: Combination) -> Source:
        self._make_room()
        source = Source(cluster, None, cut_ms=self._history.last_ms(terms))
        self._plain[terms] = source
        self._pieces += 1
        return source

    def _open_shared(self, cluster: str, groups: tuple[Combination, ...]) -> Source:
        self._make_room()
        source = Source(cluster, groups, cut_ms=max(map(self._history.last_ms, groups)))
        self._shared[cluster, groups] = source
        for terms in groups:
            self._sharers.setdefault(terms, []).append(source)
        self._pieces += len(groups)
        return source

    def _sources(self, terms: Combination) -> list[Source]:
        """Those whose events count in a group."""
        shared = self._sharers.get(terms, [])
        plain = self._plain.get(terms)
        return shared if plain is None else [plain, *shared]

    def _revive(self, terms: Combination) -> None:
        """Its last alert has left the windows, but for events of that very millisecond, which
        count again, in each of their groups."""
        self._due[terms] = None
        for source in self._sharers.get(terms, ()):
            self._due |= dict.fromkeys(source.groups or ())

    def _reached(self, window: Window) -> list[tuple[Combination, Count]]:
        """The groups at or above the threshold, in composite order."""
        reached = []
        still_due: dict[Combination, None] = {}
        for terms in self._due:
            sources = self._sources(terms)
            count = count_of(sources, window)
            if len(sources) == 1:
                sources[0].bound = count.events + count.to_come
            if self._is_reached(sources, count, window):
                reached.append((terms, count))
                still_due[terms] = None
                continue
            self._cut_off.discard(terms)
            if count.to_come:
                still_due[terms] = None
        self._due = still_due
        reached.sort(key=lambda each: self._order(each[0]))
        return reached

    def _is_reached(self, sources: Sequence[Source], count: Count, window: Window) -> bool:
        if count.events < self._value:
            return False
        if self._cardinality is None:
            return True
        wanted = self._cardinality.value
        return distinct_of(sources, window, enough=wanted) >= wanted

    def _finding(self, group: Combination, count: Count, window: Window, number: int) -> Finding:
        terms = tuple(zip(self._fields, group, strict=True))
        since_ms = self._history.last_ms(group)
        cardinality: tuple[tuple[str, int], ...] = ()
        if self._cardinality is not None:
            distinct = distinct_of(self._sources(group), window)
            cardinality = ((self._cardinality.field, distinct),)
        time_us = count.last_ms * 1000
        return Finding(
            alert_id=_alert_id(self._rule_id, window.tick_ms, terms),
            time_us=time_us,
            timestamp_us=time_us,
            number=number,
            payloads=(),
            about=ThresholdResult(
                count=count.events,
                from_ms=window.from_ms if since_ms == NEVER_MS else since_ms,
                last_ms=count.last_ms,
                terms=terms,
                cardinality=cardinality,
                cluster=count.cluster,
                first_ms=count.first_ms,
            ),
            groups=group if self._has_groups else None,
        )

    def _settle(self, terms: Combination, count: Count) -> None:
        self._history.add(terms, count.last_ms)
        for source in self._sources(terms):
            source.cut(count.last_ms)
            source.bound = count.to_come
        if not count.to_come:
            self._due.pop(terms, None)
        if terms in self._cut_off:
            self._cut_off.discard(terms)
            self.capped -= 1

    def _make_room(self) -> None:
        if len(self._plain) + len(self._shared) >= self._limit:
            self._sweep()

    def _sweep(self) -> None:
        """Lets go of what no window reads any more, and then of the oldest if there is too much."""
        self._keep(self._live_since(self._from_ms))
        held = [*self._plain.values(), *self._shared.values()]
        most = self._most_live
        if len(held) >= most or self._pieces > _PIECES_A_SOURCE * most:
            held.sort(key=lambda source: source.last_ms)
            gone = len(held) // 4 + 1
            self._keep(set(held[gone:]))
            self.evicted += gone
        wanted = max(2 * len(held), self._pieces // 2, _FEW_HELD)
        self._limit = min(wanted, most)

    def _live_since(self, from_ms: int) -> set[Source]:
        live = set()
        for source in (*self._plain.values(), *self._shared.values()):
            source.leave(from_ms)
            if not source.is_empty:
                live.add(source)
        return live

    def _keep(self, live: set[Source]) -> None:
        self._plain = {terms: each for terms, each in self._plain.items() if each in live}
        self._shared = {key: each for key, each in self._shared.items() if each in live}
        self._sharers = {}
        for source in self._shared.values():
            for terms in source.groups or ():
                self._sharers.setdefault(terms, []).append(source)
        self._pieces = sum(source.pieces for source in live)


class _History:
    """The groups that alerted, and the time of the last event that each counted."""

    def __init__(self) -> None:
        self._last_ms: dict[Combination, int] = {}
        self._by_time: dict[int, list[Combination]] = {}
        self._times: list[int] = []
        """The keys of the former, as a heap."""

    def last_ms(self, terms: Combination) -> int:
        return self._last_ms.get(terms, NEVER_MS)

    def add(self, terms: Combination, last_ms: int) -> None:
        if last_ms <= self.last_ms(terms):
            return
        self._last_ms[terms] = last_ms
        if last_ms not in self._by_time:
            self._by_time[last_ms] = []
            heapq.heappush(self._times, last_ms)
        self._by_time[last_ms].append(terms)

    def expire(self, from_ms: int) -> list[Combination]:
        """Forgets those up to there, and gives those of exactly that time."""
        revived: list[Combination] = []
        while self._times and self._times[0] <= from_ms:
            is_exact = self._times[0] == from_ms
            gone = self._forget_first()
            revived = gone if is_exact else []
        return revived

    def bound(self, most: int) -> int:
        """How many had to be forgotten for there to be no more than that."""
        before = len(self._last_ms)
        while len(self._last_ms) > most:
            self._forget_first()
        return before - len(self._last_ms)

    def _forget_first(self) -> list[Combination]:
        last_ms = heapq.heappop(self._times)
        gone = [each for each in self._by_time.pop(last_ms) if self._last_ms[each] == last_ms]
        for terms in gone:
            del self._last_ms[terms]
        return gone


def _threshold_of(rule: Rule) -> Threshold:
    if rule.threshold is None:
        raise ValueError(f"rule {rule.rule_id} has no threshold")
    return rule.threshold


def _alert_id(rule_id: str, tick_ms: int, terms: tuple[tuple[str, Scalar], ...]) -> str:
    import hashlib  # late, with OpenSSL behind it: only an alert needs it

    return hashlib.sha256(dumps([rule_id, tick_ms, terms])).hexdigest()
