"""Drives one rule's operator over its schedule: matches in by time, each run when it is due."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from barrelman.detection.counts import RuleCounts
from barrelman.detection.finding import Finding, Holding, Item, Window, pack_finding
from barrelman.detection.match import Operation, RulePlan, unpack_operand

if TYPE_CHECKING:
    from barrelman.detection.spill import Sorter


class OperationRuns:
    """What the runs of one rule find goes into `raised`, under (tick, time, …, rule)."""

    def __init__(
        self, rule: int, plan: RulePlan, operation: Operation, counts: RuleCounts, raised: Sorter
    ) -> None:
        self._rule = rule
        self._schedule = plan.schedule
        self._interval_ms = plan.schedule.interval_ms
        self._takes_unplaced = operation.takes_unplaced
        self.looks_back = operation.takes_history
        self._counts = counts
        self._operator = operation.make()
        self._raised = raised
        self.floor: int | None = None
        """First tick of a run that was not over at the last watermark."""
        self._watermark_ms: int | None = None
        self._next: int | None = None
        """The first run that is still to be done."""
        self._last: int | None = None
        """The last run that reads one of the matches given."""
        self._ends_ms: int | None = None
        """The end of the next run's window, once it was asked for."""

    def due(self, watermark_ms: int) -> bool:
        """Whether another run is over at that watermark."""
        return self.floor is None or self.floor * self._interval_ms < watermark_ms

    def begin(self, watermark_ms: int | None) -> None:
        self._watermark_ms = watermark_ms

    def feed(self, time_us: int, timestamp_us: int, number: int, payload: bytes) -> bool:
        """The next match in the order of times. False where an older one may still come."""
        time_ms = time_us // 1000
        if self._watermark_ms is not None and time_ms > self._watermark_ms:
            return False
        self._run_before(time_ms)
        identity, operand, groups, packed = unpack_operand(payload)
        first, last = self._schedule.ticks(time_ms)
        if last < first:
            self._counts.unplaced += 1
            if not self._takes_unplaced:
                return True
        else:
            if self._next is None or (self._last is not None and self._next > self._last):
                self._next = first if self._next is None else max(self._next, first)
                self._ends_ms = None
            # A match whose runs are all over is for the next one.
            self._counts.late += last < self._next
            self._last = max(self._next if self._last is None else self._last, last, self._next)
        item = Item(time_us, timestamp_us, number, identity, operand, groups, packed)
        self._operator.add(item)
        return True

    def remember(self, time_us: int, timestamp_us: int, number: int, payload: bytes) -> None:
        """A match of the past, in the order of times: it alerts in no run."""
        if not self.looks_back:
            return
        self._run_before(time_us // 1000)
        identity, operand, groups, _ = unpack_operand(payload)
        self._operator.add(Item(time_us, timestamp_us, number, identity, operand, groups, b""))

    def end(self) -> None:
        """Does the runs that are over, all of them where there is no watermark."""
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
        counts.capped, counts.suppressed = operator.capped, operator.suppressed
        counts.evicted = operator.evicted

    def _give(self, watermark_ms: int | None) -> None:
        """Alerts that an operator holds, for they may still change: at the end, or to a pipe."""
        if not isinstance(self._operator, Holding):
            return
        if watermark_ms is None:
            self._raise(self._operator.finish(), 0)
            self._raise(self._operator.take_changed(), 0, is_new=False)
            return
        self._raise(self._operator.go_live(), 0)
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
            self._counts.raised += is_new
            at_ms = tick_ms if finding.tick_ms is None else finding.tick_ms
            self._raised.add((at_ms, *finding.order, self._rule, is_new), pack_finding(finding))
