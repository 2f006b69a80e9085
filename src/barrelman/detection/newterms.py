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
from typing import TYPE_CHECKING, Any, Final

from barrelman.detection.finding import (
    MOST_LIVE,
    Fields,
    Finding,
    Item,
    NewTerms,
    Operand,
    Window,
)
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
        self._width = len(rule.new_terms_fields)
        self._cap = cap
        self._most_live = most_live
        self._last_ms: dict[Combination, int] = {}
        """When each combination came last, as far back as any history to come reaches."""
        self._firsts: dict[Combination, list[_First]] = {}
        """Events that a run may have to alert, or has; in the order of their times."""
        self._open: dict[_First, None] = {}
        """Those that may still be alerted."""
        self._settled: deque[_First] = deque()
        self._rivals: dict[tuple[int, int], _Rivals] = {}
        """By the runs that can alert them."""
        self._limit = min(_FEW_HELD, most_live)
        self._history_ms = _NEVER_MS

    def remember(self, values: Sequence[Scalar], last_ms: int) -> None:
        """A combination that came before, and when it did last."""
        self._note(tuple(values), (last_ms * 1000, 0, 0, "", (), None, b"", True))

    def add(self, item: Item) -> None:
        for terms in item.operand:
            self._note(terms, item)

    def add_all(self, matches: list[Fields]) -> list[Fields]:
        """Of those whose combinations are all known to every run, none needs the event."""
        kept: list[Fields] = []
        known = self._last_ms
        low_ms, high_ms, reach_ms = 0, -1, 0
        for match in matches:
            time_us, timestamp_us, number, _, operand, _, _, _ = match
            time_ms = time_us // 1000
            if not low_ms <= time_ms <= high_ms:
                reach_ms = self._reach.of(time_ms)
                low_ms, high_ms = self._reach.low_ms, self._reach.high_ms
            is_known = True
            for terms in operand:
                if reach_ms <= known.get(terms, _NEVER_MS) < time_ms:
                    known[terms] = time_ms
                    continue
                is_known = False
                self._note(terms, match)
                known = self._last_ms
            if is_known:
                match = time_us, timestamp_us, number, "", operand, None, b"", False
            kept.append(match)
        return kept

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
        findings = [
            _finding(first, Item(*first.match)) for first in chosen if first.match is not None
        ]
        for first in chosen:
            self.capped -= first.was_cut
            self._settle(first)
        for first in new:
            if first in self._open and not first.was_cut:
                first.was_cut = True
                self.capped += 1
        self._leave(from_ms)
        return findings

    def _note(self, terms: Combination, match: Fields) -> None:
        if len(terms) != self._width:
            self.evicted += int(terms[0])  # combinations that were left out
            return
        time_ms = match[0] // 1000
        before_ms = self._last_ms.get(terms, _NEVER_MS)
        if before_ms >= time_ms:
            if terms in self._firsts:
                self._insert(terms, match)
            return
        if match[6] and before_ms < self._reach.of(time_ms):
            first = self._make(terms, match, before_ms)
            firsts = self._firsts.get(terms)
            if firsts is None:
                self._firsts[terms] = [first]
            else:
                firsts.append(first)
        if before_ms == _NEVER_MS and len(self._last_ms) >= self._limit:
            self._prune()
        self._last_ms[terms] = time_ms

    def _insert(self, terms: Combination, match: Fields) -> None:
        """An event that is not later than the combination's last one, and may be the first.

        Behind one with a near predecessor it is none: so is its own, as none lies between.
        """
        firsts = self._firsts[terms]
        order = match[:3]
        time_ms = order[0] // 1000
        for place, following in enumerate(firsts):
            if following.order <= order:
                continue
            before_ms = following.before_ms
            if before_ms < time_ms:
                following.before_ms = time_ms
                if match[6] and before_ms < self._reach.of(time_ms):
                    firsts.insert(place, self._make(terms, match, before_ms))
            return

    def _make(self, terms: Combination, match: Fields, before_ms: int) -> _First:
        first = _First(terms, match, before_ms, self._order(terms))
        # One that no run reads is held as well: what comes late and before it may be the first
        # that is read.
        if self._reach.reads(first.time_ms) and self._competes(first):
            self._open[first] = None
        else:
            first.match = None
            self._settled.append(first)
        return first

    def _competes(self, first: _First) -> bool:
        """Whether a candidate may get a place; lets go of others that cannot.

        Of those that the same runs can alert, any run takes the lower before the higher: at most
        (runs x cap) of them are ever alerted, the lowest.
        """
        if self._cap is None:
            return True
        runs = self._reach.eligible(first.time_ms, first.before_ms)
        rivals = self._rivals.get(runs)
        if rivals is None:
            rivals = self._rivals[runs] = _Rivals(self._cap * (runs[1] - runs[0] + 1))
        if rivals.bar is not None and first.key >= rivals.bar:
            self.capped += 1
            return False
        for each in rivals.add(first):
            if each in self._open:
                self.capped += not each.was_cut
                self._settle(each)
        return True

    def _settle(self, first: _First) -> None:
        del self._open[first]
        first.match = None
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
        for runs in [runs for runs, each in self._rivals.items() if each.are_over(from_ms)]:
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
    """Tells whoever holds matches for the operator which of them need no event.

    Those need none of whose combinations each was seen so shortly before that no run can find it
    new in this one. Second deliveries are to be left out before.
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

    __slots__ = ("before_ms", "key", "match", "order", "terms", "time_ms", "was_cut")

    def __init__(
        self, terms: Combination, match: Fields, before_ms: int, key: tuple[Any, ...]
    ) -> None:
        self.terms = terms
        self.match: Fields | None = match
        """None once no run will alert it."""
        self.time_ms = match[0] // 1000
        self.order = match[:3]
        self.before_ms = before_ms
        """When the combination came last before."""
        self.key = key
        self.was_cut = False


class _Rivals:
    """Candidates of the same runs, of which at most so many will be alerted: the lowest."""

    def __init__(self, most: int) -> None:
        self.bar: tuple[Any, ...] | None = None
        """As many as may be alerted are known to be lower than this."""
        self._most = most
        self._firsts: list[_First] = []

    def add(self, first: _First) -> list[_First]:
        """Gives those that turn out to be too many."""
        firsts, most = self._firsts, self._most
        firsts.append(first)
        if len(firsts) < 2 * max(most, _FEW_CANDIDATES):
            return []
        firsts.sort(key=_KEY)
        left = firsts[most:]
        del firsts[most:]
        self.bar = left[0].key
        return left

    def are_over(self, from_ms: int) -> bool:
        """Whether no window that begins there reads one of them."""
        return all(first.time_ms <= from_ms for first in reversed(self._firsts))


class _Reach:
    """How far back a predecessor makes an event known, whatever run reads it."""

    def __init__(self, history_start: DateMath, runs: Runs) -> None:
        self._history_start = history_start
        self._runs = runs
        self.low_ms = 0
        self.high_ms = -1
        """What was said of one time holds from here to there."""
        self._reach_ms = _NEVER_MS
        self._read_by = 0, -1

    def of(self, time_ms: int) -> int:
        """Where the history begins of the last run that begins before that time."""
        if not self.low_ms <= time_ms <= self.high_ms:
            # Those that read the event, and begin before it.
            first, last = self._runs.ticks(time_ms)[0], self._runs.ticks(time_ms - 1)[1]
            self._reach_ms = self.history_ms(*self._runs.window_ms(last))
            self._read_by = first, last
            self.low_ms = time_ms
            self.high_ms = self._runs.window_ms(last + 1)[0]
            if first <= last:
                self.high_ms = min(self.high_ms, self._runs.window_ms(first)[1])
            self.high_ms = max(time_ms, self.high_ms)
        return self._reach_ms

    def reads(self, time_ms: int) -> bool:
        """Whether a run may find an event of that time new."""
        self.of(time_ms)
        return self._read_by[0] <= self._read_by[1]

    def history_ms(self, from_ms: int, to_ms: int) -> int:
        """Where a run's history begins; it ends with `from`, which belongs to it."""
        try:
            return min(self._history_start.resolve_ms(to_ms), from_ms)
        except TimeError:
            return _ALWAYS_MS

    def eligible(self, time_ms: int, before_ms: int) -> tuple[int, int]:
        """First and last run that can find an event new that has such a predecessor."""
        self.of(time_ms)
        if before_ms == _NEVER_MS:
            return self._read_by
        low, high = self._read_by
        last = high
        while low < high:
            middle = (low + high) // 2
            if self.history_ms(*self._runs.window_ms(middle)) > before_ms:
                high = middle
            else:
                low = middle + 1
        return low, last


_KEY: Final = attrgetter("key")


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
