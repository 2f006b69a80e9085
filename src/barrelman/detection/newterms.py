"""New-terms rules: combinations of values that a rule's events have not had for a while.

A run alerts on a combination whose first event since the start of the run's history lies within
its window, and not at the window's very beginning. So whether an event can be alerted at all
follows from the one before it that has the same combination: that one must lie before the history
of the last run that reads the event. Of an event with a nearer predecessor only the time is kept.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from barrelman.detection.finding import MOST_LIVE, Finding, Item, NewTerms, Operand, Window
from barrelman.engine.decode import dumps
from barrelman.engine.reading import Combination, combinations_of
from barrelman.engine.terms import composite_order, term_reader
from barrelman.errors import TimeError
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue
from barrelman.records.paths import Scalar
from barrelman.records.times import DateMath
from barrelman.rules.rule import Rule

if TYPE_CHECKING:
    from barrelman.detection.runs import Runs

_Order: TypeAlias = tuple[int, int, int]

_NEVER_MS: Final = -(1 << 62)
_ALWAYS_MS: Final = _NEVER_MS + 1
"""Where a history begins that is older than the calendar."""
_FEW_HELD: Final = 4096
# Candidates of the same runs that are held before those without a chance are let go.
_FEW_CANDIDATES: Final = 1000


def newterms_operand(
    rule: Rule, *, catalogue: Catalogue = AUDIT_CATALOGUE
) -> Callable[[Event], Operand | None]:
    """Reads an event's combinations: arrays fan out. None: it lacks one of the fields."""
    readers = [term_reader(name, catalogue=catalogue) for name in rule.new_terms_fields]
    return lambda event: tuple(combinations_of(readers, event)) or None


class NewTermsOperator:
    """`runs` must be those that `run` is then called for. `cap` None: all that is new alerts.

    An item without a payload is remembered and never alerted. A combination for which a run has
    no room may alert in a later one, and is `capped` until it does.
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
        self.capped = 0
        self.suppressed = 0
        self.evicted = 0
        self._reach = _Reach(_history_of(rule), runs)
        self._order = composite_order(rule.new_terms_fields, catalogue=catalogue)
        self._cap = cap
        self._most_live = most_live
        self._last_ms: dict[Combination, int] = {}
        """When each combination came last, as far back as any history to come reaches."""
        self._firsts: dict[Combination, list[_First]] = {}
        """Events that a run may have to alert, or has; in the order of their times."""
        self._open: dict[_First, None] = {}
        """Those that may still be alerted."""
        self._settled: deque[_First] = deque()
        self._rivals: dict[tuple[int, int], list[_First]] = {}
        """By the runs that can alert them."""
        self._limit = min(_FEW_HELD, most_live)
        self._history_ms = _NEVER_MS

    def remember(self, values: Sequence[Scalar], last_ms: int) -> None:
        """A combination that came before, and when it did last."""
        self._note(tuple(values), (last_ms * 1000, 0, 0), None)

    def add(self, item: Item) -> None:
        order = _order_of(item)
        event = item if item.payload else None
        for terms in item.operand:
            self._note(terms, order, event)

    def run(self, window: Window) -> list[Finding]:
        from_ms, to_ms = window.from_ms, window.to_ms
        history_ms = self._history_ms = self._reach.history_ms(from_ms, to_ms)
        new = []
        for first in list(self._open):
            if first.time_ms <= from_ms:
                self._settle(first)
            elif first.time_ms <= to_ms and first.before_ms < history_ms:
                new.append(first)
        if self._cap is None or len(new) <= self._cap:
            chosen = sorted(new, key=_KEY)
        else:
            chosen = heapq.nsmallest(self._cap, new, key=_KEY)
        findings = [_finding(first, first.item) for first in chosen if first.item is not None]
        for first in chosen:
            self.capped -= first.was_cut
            self._settle(first)
        for first in new:
            if first in self._open and not first.was_cut:
                first.was_cut = True
                self.capped += 1
        self._leave(from_ms)
        return findings

    def _note(self, terms: Combination, order: _Order, item: Item | None) -> None:
        time_ms = order[0] // 1000
        before_ms = self._last_ms.get(terms, _NEVER_MS)
        if before_ms >= time_ms:
            if terms in self._firsts:
                self._insert(terms, order, item)
            return
        if item is not None and before_ms < self._reach.of(time_ms):
            self._firsts.setdefault(terms, []).append(self._make(terms, item, before_ms))
        if before_ms == _NEVER_MS and len(self._last_ms) >= self._limit:
            self._prune()
        self._last_ms[terms] = time_ms

    def _insert(self, terms: Combination, order: _Order, item: Item | None) -> None:
        """An event that is not later than the combination's last one, and may be the first.

        Behind one with a near predecessor it is none: so is its own, as none lies between.
        """
        firsts = self._firsts[terms]
        time_ms = order[0] // 1000
        for place, following in enumerate(firsts):
            if following.order <= order:
                continue
            before_ms = following.before_ms
            if before_ms < time_ms:
                following.before_ms = time_ms
                if item is not None and before_ms < self._reach.of(time_ms):
                    firsts.insert(place, self._make(terms, item, before_ms))
            return

    def _make(self, terms: Combination, item: Item, before_ms: int) -> _First:
        first = _First(terms, item, before_ms, self._order(terms))
        self._open[first] = None
        if not self._reach.reads(first.time_ms):
            self._settle(first)  # what comes late and before it may be the first that is read
        elif self._cap is not None:
            self._compete(first, self._cap)
        return first

    def _compete(self, first: _First, cap: int) -> None:
        """Lets go of candidates that cannot get a place.

        Of those that the same runs can alert, any run takes the lower before the higher: at most
        (runs x cap) of them are ever alerted, the lowest.
        """
        runs = self._reach.eligible(first.time_ms, first.before_ms)
        rivals = self._rivals.setdefault(runs, [])
        rivals.append(first)
        most = cap * (runs[1] - runs[0] + 1)
        if len(rivals) < 2 * max(most, _FEW_CANDIDATES):
            return
        rivals.sort(key=_KEY)
        for each in rivals[most:]:
            if each in self._open:
                self.capped += not each.was_cut
                self._settle(each)
        del rivals[most:]

    def _settle(self, first: _First) -> None:
        del self._open[first]
        first.item = None
        self._settled.append(first)

    def _leave(self, from_ms: int) -> None:
        """Forgets the firsts that no run to come reads."""
        settled = self._settled
        while settled and settled[0].time_ms <= from_ms:
            first = settled.popleft()
            firsts = self._firsts[first.terms]
            firsts.remove(first)
            if not firsts:
                del self._firsts[first.terms]
        for runs in [runs for runs, rivals in self._rivals.items() if _are_over(rivals, from_ms)]:
            del self._rivals[runs]

    def _prune(self) -> None:
        """Forgets combinations that no history reaches any more, and then the oldest if there are
        too many: they will be new again."""
        known, history_ms = self._last_ms, self._history_ms
        known = {terms: last_ms for terms, last_ms in known.items() if last_ms >= history_ms}
        if len(known) >= self._most_live:
            by_age = sorted(known, key=known.__getitem__)
            for terms in by_age[: len(by_age) // 4 + 1]:
                del known[terms]
                self.evicted += 1
        self._last_ms = known
        self._limit = min(max(_FEW_HELD, 2 * len(known)), self._most_live)


class SeenTerms:
    """Tells whoever judges one part of an input which events need no payload.

    Those need none of whose combinations each was seen, in the same part, so shortly before that
    no run can find it new in this event.
    """

    def __init__(self, rule: Rule, *, runs: Runs, most: int = MOST_LIVE) -> None:
        self._reach = _Reach(_history_of(rule), runs)
        self._last_ms: dict[Combination, int] = {}
        self._most = most

    def needs_event(self, operand: Operand, time_ms: int) -> bool:
        """To be asked of every match that is then given to the operator, in any order."""
        known = self._last_ms
        needed = False
        reach_ms, is_read = self._reach.of(time_ms), self._reach.reads(time_ms)
        if len(known) >= self._most:
            known.clear()
        for terms in operand:
            last_ms = known.get(terms, _NEVER_MS)
            needed = needed or (is_read and not reach_ms <= last_ms < time_ms)
            if time_ms > last_ms:
                known[terms] = time_ms
        return needed


class _First:
    """An event that may be the first of its combination in some run."""

    __slots__ = ("before_ms", "item", "key", "order", "terms", "time_ms", "was_cut")

    def __init__(
        self, terms: Combination, item: Item, before_ms: int, key: tuple[Any, ...]
    ) -> None:
        self.terms = terms
        self.item: Item | None = item
        """None once no run will alert it."""
        self.time_ms = item.time_us // 1000
        self.order = _order_of(item)
        self.before_ms = before_ms
        """When the combination came last before."""
        self.key = key
        self.was_cut = False


class _Reach:
    """How far back a predecessor makes an event known, whatever run reads it."""

    def __init__(self, history_start: DateMath, runs: Runs) -> None:
        self._history_start = history_start
        self._runs = runs
        self._low_ms = 0
        self._high_ms = -1
        self._reach_ms = _NEVER_MS
        self._is_read = False

    def of(self, time_ms: int) -> int:
        """Where the history begins of the last run that begins before that time."""
        if not self._low_ms <= time_ms <= self._high_ms:
            first, last = self._runs_of(time_ms)
            from_ms, to_ms = self._runs.window_ms(last)
            next_from_ms = self._runs.window_ms(last + 1)[0]
            self._is_read = first <= last
            self._reach_ms = self.history_ms(from_ms, to_ms)
            self._low_ms = time_ms
            self._high_ms = max(
                time_ms, min(to_ms, next_from_ms) if self._is_read else next_from_ms
            )
        return self._reach_ms

    def reads(self, time_ms: int) -> bool:
        """Whether a run may find an event of that time new."""
        self.of(time_ms)
        return self._is_read

    def history_ms(self, from_ms: int, to_ms: int) -> int:
        """Where a run's history begins; it ends with `from`, which belongs to it."""
        try:
            return min(self._history_start.resolve_ms(to_ms), from_ms)
        except TimeError:
            return _ALWAYS_MS

    def eligible(self, time_ms: int, before_ms: int) -> tuple[int, int]:
        """First and last run that can find an event new that has such a predecessor."""
        first, last = self._runs_of(time_ms)
        if before_ms == _NEVER_MS:
            return first, last
        low, high = first, last
        while low < high:
            middle = (low + high) // 2
            if self.history_ms(*self._runs.window_ms(middle)) > before_ms:
                high = middle
            else:
                low = middle + 1
        return low, last

    def _runs_of(self, time_ms: int) -> tuple[int, int]:
        """Those that read the event, and begin before it."""
        return self._runs.ticks(time_ms)[0], self._runs.ticks(time_ms - 1)[1]


_KEY: Final = attrgetter("key")


def _order_of(item: Item) -> _Order:
    return item.time_us, item.timestamp_us, item.number


def _are_over(rivals: list[_First], from_ms: int) -> bool:
    return all(first.time_ms <= from_ms for first in reversed(rivals))


def _finding(first: _First, item: Item) -> Finding:
    return Finding(
        alert_id=_alert_id(item.identity, first.terms),
        time_us=item.time_us,
        timestamp_us=item.timestamp_us,
        number=item.number,
        payloads=(item.payload,),
        about=NewTerms(first.terms),
        groups=item.groups,
    )


def _alert_id(identity: str, terms: Combination) -> str:
    import hashlib  # late, with OpenSSL behind it: only an alert needs it

    return hashlib.sha256(dumps([identity, terms])).hexdigest()


def _history_of(rule: Rule) -> DateMath:
    if rule.history_window_start is None:
        raise ValueError(f"rule {rule.rule_id} has no history_window_start")
    return rule.history_window_start
