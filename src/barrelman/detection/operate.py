"""Drives one rule's operator over its schedule: matches in by time, each run when it is due.

Matches come in the order of the log, and wait until all are there: an older one may still come. A
log is mostly in order, though. So the operator is given them early, a few thousand behind, and what
it finds is kept back; if an older match comes after all, it begins anew with what has waited.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from barrelman.detection.counts import RuleCounts
from barrelman.detection.finding import (
    Fields,
    Finding,
    Holding,
    Item,
    Window,
    add_all,
    pack_finding,
)
from barrelman.detection.match import Operated, Operation, RulePlan
from barrelman.detection.panes import PaneMarks
from barrelman.detection.spill import Record, Sorter

if TYPE_CHECKING:
    from pathlib import Path

_FIRST_KEY: Final = (float("-inf"),)
# Matches that wait for older ones, before an operator is given them early.
_MOST_AHEAD: Final = 4096
_LEAST_AHEAD: Final = 128
# Of a match that is held, beside its event and what each record takes: about what its values do.
_VALUES_BYTES: Final = 200


class OperationRuns:
    """What the runs of one rule find is given by `found`, under (tick, time, …, rule).

    `share`: how many rules there are that memory is to be shared with. `is_early` False: nothing
    is given to the operator before `settle`.
    """

    def __init__(
        self,
        rule: int,
        plan: RulePlan,
        operation: Operation,
        counts: RuleCounts,
        *,
        memory_bytes: int,
        folder: Path | None,
        share: int = 1,
        is_early: bool = True,
    ) -> None:
        self._rule = rule
        self._schedule = plan.schedule
        self._interval_ms = plan.schedule.interval_ms
        self._takes_unplaced = operation.takes_unplaced
        self.looks_back = operation.takes_history
        self._counts = counts
        self._make = operation.make
        # A range is one of the events' own times: where the runs go by another, a match that lies
        # behind it may come before one within, which is new all the same.
        sparing = operation.sparing if is_early or plan.place is None else None
        self._needs_event = None if sparing is None else sparing()
        memory_bytes //= share
        self._waiting = Sorter(memory_bytes=memory_bytes, folder=folder, key=None)
        self._found = Sorter(memory_bytes=memory_bytes, folder=folder)
        self._early: list[Fields] | None = [] if is_early else None
        """The last matches, which wait for none but the operator."""
        self._early_bytes = 0
        self._most_early = 2 * max(_MOST_AHEAD // share, _LEAST_AHEAD)
        self._most_early_bytes = memory_bytes // 2
        self.floor: int | None = None
        """First tick of a run that was not over at the last watermark."""
        self._begin()

    def _begin(self) -> None:
        """With an operator that was given nothing."""
        self._operator = self._make()
        self._found.clear()
        self._raised = self._late = self._unplaced = 0
        self._last_key: tuple[float, ...] = _FIRST_KEY
        self._watermark_ms: int | None = None
        self._next: int | None = None
        """The first run that is still to be done."""
        self._last: int | None = None
        """The last run that reads one of the matches given."""
        self._ends_ms: int | None = None
        """The end of the next run's window, once it was asked for."""
        self._marks = PaneMarks(self._schedule)

    def due(self, watermark_ms: int) -> bool:
        """Whether another run is over at that watermark."""
        return self.floor is None or self.floor * self._interval_ms < watermark_ms

    def put(self, time_us: int, timestamp_us: int, number: int, payload: bytes | Operated) -> None:
        """The next match of the log."""
        assert type(payload) is tuple
        identity, operand, groups, event = payload
        early = self._early
        if early is not None:
            early.append((time_us, timestamp_us, number, identity, operand, groups, event, False))
            self._early_bytes += len(event)
            if len(early) >= self._most_early or self._early_bytes > self._most_early_bytes:
                self._give_early((len(early) + 1) // 2)
            return
        if self._needs_event is not None and not self._needs_event(operand, time_us // 1000):
            event = b""
        self._hold((time_us, timestamp_us, number, identity, operand, groups, event, False))

    def put_past(self, time_us: int, timestamp_us: int, number: int, payload: Operated) -> None:
        """A match of the past: it alerts in no run."""
        self._stop_early()
        self._hold((time_us, timestamp_us, number, *payload, True))

    def settle(
        self,
        watermark_ms: int | None,
        bounds_us: tuple[int | None, int | None] | None,
        is_known: Callable[[str], bool],
    ) -> None:
        """Does the runs that are over, all of them where there is no watermark.

        `bounds_us`: matches whose own time lies outside alert in no run. `is_known` says of an id
        whether the log itself holds that match, which then is none of the past.
        """
        if watermark_ms is not None or bounds_us is not None:
            self._stop_early()
        if self._early is not None:
            self._give_early(len(self._early))
        if self._early is not None:
            self._waiting.clear()
        self._watermark_ms = watermark_ms
        for match in self._waiting.drain():
            if not self._take(match, bounds_us, is_known):
                self._hold(match)
        self._end()

    def found(self) -> Iterator[Record]:
        """What was found since it was last asked: packed findings, by run and age."""
        return self._found.drain()

    def _hold(self, match: Fields) -> None:
        self._waiting.hold(match, _VALUES_BYTES + len(match[6]))

    def _hold_all(self, matches: list[Fields]) -> None:
        events_bytes = sum([len(match[6]) for match in matches])
        self._waiting.hold_all(matches, _VALUES_BYTES * len(matches) + events_bytes)

    # --- early ---

    def _give_early(self, number: int) -> None:
        early = self._early
        assert early is not None
        early.sort()
        if early and early[0] < self._last_key:
            self._stop_early()
            return
        given, self._early = early[:number], early[number:]
        self._early_bytes = sum([len(match[6]) for match in self._early])
        at = 0
        while at < len(given):
            self._feed(given[at])
            self._hold(given[at])
            at += 1
            calm_ms = self._calm_until_ms()
            if calm_ms is not None:
                # As `_feed` does it, where no run ends or begins: this is the path of most.
                end = bisect_left(given, ((calm_ms + 1) * 1000,), at)
                self._hold_all(add_all(self._operator, given[at:end]))
                at = end
        if given:
            self._last_key = given[-1][:3]

    def _calm_until_ms(self) -> int | None:
        """Until when matches are read by the very runs that read the last one."""
        marks = self._marks
        if not self._is_running or marks.mark is None or marks.mark[1] < (self._next or 0):
            return None
        if self._ends_ms is None:
            self._ends_ms = self._schedule.window_ms(self._next or 0)[1]
        return min(marks.high_ms, self._ends_ms)

    def _stop_early(self) -> None:
        """The log is not in order: what was found so far is forgotten."""
        if self._early is not None:
            self._hold_all(self._early)
            self._early = None
            self._begin()

    # --- in the order of times ---

    def _take(
        self,
        match: Fields,
        bounds_us: tuple[int | None, int | None] | None,
        is_known: Callable[[str], bool],
    ) -> bool:
        """False where an older match may still come."""
        time_us, timestamp_us, _, identity, *_, is_past = match
        if is_past:
            if not is_known(identity):
                self._remember(match)
            return True
        if bounds_us is not None and not within(timestamp_us, bounds_us):
            self._counts.outside += 1
            if self.looks_back and timestamp_us < (bounds_us[0] or 0):
                self._counts.history += 1
                self._remember(match)
            return True
        if self._watermark_ms is not None and time_us // 1000 > self._watermark_ms:
            return False
        self._feed(match)
        return True

    def _feed(self, match: Fields) -> None:
        time_ms = match[0] // 1000
        if self._ends_ms is None or self._ends_ms < time_ms:
            self._run_before(time_ms)
        marks = self._marks
        if not marks.low_ms <= time_ms <= marks.high_ms:
            marks.move(time_ms)
            self._note_runs(marks.mark)
        elif not self._is_running:
            self._note_runs(marks.mark)
        if marks.mark is None:
            self._unplaced += 1
            if not self._takes_unplaced:
                return
        elif marks.mark[1] < (self._next or 0):
            self._late += 1  # it is for the next run
            self._last = max(self._last or 0, self._next or 0)
        self._operator.add(Item(*match))

    def _note_runs(self, mark: tuple[int, int] | None) -> None:
        if mark is None:
            return
        first, last = mark
        if self._next is None or (self._last is not None and self._next > self._last):
            self._next = first if self._next is None else max(self._next, first)
            self._ends_ms = None
        self._last = last if self._last is None else max(self._last, last)

    def _remember(self, match: Fields) -> None:
        if self.looks_back:
            self._run_before(match[0] // 1000)
            self._operator.add(Item(*match)._replace(payload=b""))

    def _end(self) -> None:
        watermark_ms = self._watermark_ms
        while self._is_running and (
            watermark_ms is None or (self._next or 0) * self._interval_ms < watermark_ms
        ):
            self._run()
        self._give(watermark_ms)
        if watermark_ms is not None:
            floor = min(-(-watermark_ms // self._interval_ms), self._schedule.latest)
            self.floor = floor if self.floor is None else max(floor, self.floor)
        counts, operator = self._counts, self._operator
        counts.raised += self._raised
        counts.late += self._late
        counts.unplaced += self._unplaced
        self._raised = self._late = self._unplaced = 0
        counts.capped, counts.suppressed = operator.capped, operator.suppressed
        counts.evicted = operator.evicted

    def _give(self, watermark_ms: int | None) -> None:
        """Alerts that an operator holds, for they may still change: at the end, or to a pipe."""
        if not isinstance(self._operator, Holding):
            return
        held = self._operator.finish() if watermark_ms is None else self._operator.go_live()
        self._raise(held, 0)
        self._raise(self._operator.take_changed(), 0, is_new=False)

    @property
    def _is_running(self) -> bool:
        return self._next is not None and self._last is not None and self._next <= self._last

    def _run_before(self, time_ms: int) -> None:
        """Does the runs that end before that time: what they read is there."""
        while self._is_running:
            if self._ends_ms is None:
                self._ends_ms = self._schedule.window_ms(self._next or 0)[1]
            if self._ends_ms >= time_ms:
                return
            self._run()

    def _run(self) -> None:
        assert self._next is not None
        tick = self._next
        self._next += 1
        self._ends_ms = None
        tick_ms = tick * self._interval_ms
        from_ms, to_ms = self._schedule.window_ms(tick)
        self._raise(self._operator.run(Window(tick_ms, from_ms, to_ms)), tick_ms)

    def _raise(self, found: Iterable[Finding], tick_ms: int, *, is_new: bool = True) -> None:
        for finding in found:
            self._raised += is_new
            at_ms = tick_ms if finding.tick_ms is None else finding.tick_ms
            self._found.add((at_ms, *finding.order, self._rule, is_new), pack_finding(finding))


def within(instant_us: int, bounds_us: tuple[int | None, int | None]) -> bool:
    """Whether an instant lies within bounds, both ends included; None is no bound."""
    low, high = bounds_us
    return (low is None or instant_us >= low) and (high is None or instant_us <= high)
