"""History, run by run: matches in, the alerts that the live schedule would have raised out.

Every match waits in a sorter until its runs are complete. A run takes the oldest matches of its
window that no run before it alerted, at most as many as the rule's cap; a match that its last
run leaves behind is *capped*. The oldest come first in every run: so matches are settled oldest
first, each in its first run with room left, and none has to be kept to be looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from barrelman.detection.counts import RuleCounts
from barrelman.detection.finding import Finding, Raised, unpack_finding
from barrelman.detection.identity import id_of_other_act
from barrelman.detection.match import (
    PAST,
    Match,
    Operated,
    RulePlan,
    unpack,
    unpack_operand,
    with_identity,
)
from barrelman.detection.operate import OperationRuns, within
from barrelman.detection.seen import SeenIds
from barrelman.detection.spill import DEFAULT_MEMORY_BYTES, Sorter
from barrelman.records.event import Event

if TYPE_CHECKING:
    from pathlib import Path

# Runs remembered per rule before those that lie behind are dropped.
_FEW_HELD: Final = 4096
# Counts of windows remembered per rule; forgetting one only costs disk, never an alert.
_MOST_SEGMENTS: Final = 4096


class Replay:
    """All rules of one scan. `take` in any order; `advance` and `finish` give alerts in order.

    Order: by run, then oldest event first, then as read. `ranged` announces `bounds_us` for
    `finish`: until then no match is counted out for the sake of others, which may lie outside.
    """

    def __init__(
        self,
        plans: Sequence[RulePlan],
        *,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        folder: Path | None = None,
        ranged: bool = False,
    ) -> None:
        self.counts = [RuleCounts() for _ in plans]
        self.plans = plans
        self._waiting = Sorter(memory_bytes=memory_bytes, folder=folder)
        self._untimed = Sorter(memory_bytes=memory_bytes // 4, folder=folder)
        self._raised = Sorter(memory_bytes=memory_bytes, folder=folder)
        self._seen = SeenIds()
        self._runs: list[_RuleRuns | OperationRuns] = []
        share = sum(plan.operation is not None for plan in plans)
        for number, (plan, counts) in enumerate(zip(plans, self.counts, strict=True)):
            if plan.operation is None:
                self._runs.append(_RuleRuns(plan, counts))
                continue
            self._runs.append(
                OperationRuns(
                    number,
                    plan,
                    plan.operation,
                    counts,
                    memory_bytes=memory_bytes,
                    folder=folder,
                    share=share,
                    is_early=not ranged,
                )
            )
        self._segments = [_Segments(plan) for plan in plans]
        self.has_untimed = False
        """Whether a match without a time waits for the log's end."""
        self._sequence = 0
        self._ranged = ranged

    def take(self, match: Match) -> None:
        """The next match, in the order of the input."""
        rule, time_us, timestamp_us, asked_again, identity, mark, payload = match
        counts = self.counts[rule]
        if asked_again == PAST:
            self._remember(match)
            return
        counts.matches += 1
        known = self._seen.add(bytes.fromhex(identity)[:16], mark)
        if known is not None and known != mark:
            # Another act under an Audit-ID that was used: alerted, under an id of its own.
            identity = id_of_other_act(identity, mark)
            known = self._seen.add(bytes.fromhex(identity)[:16], mark)
            counts.conflicting += known is None
            payload = with_identity(payload, identity)
        if known is not None:
            counts.duplicates += 1
            return
        self._sequence += 1
        if time_us is None:
            if timestamp_us is not None:
                counts.unplaced += 1
            else:
                self.has_untimed = True
                self._untimed.add((rule, self._sequence, asked_again), payload)
            return
        if timestamp_us is None:
            timestamp_us = time_us
        self._wait(rule, time_us, timestamp_us, asked_again, payload)

    def advance(self, watermark_ms: int) -> Iterator[Raised]:
        """Runs that are over once every event up to `watermark_ms` has been read."""
        if any(runs.due(watermark_ms) for runs in self._runs):
            yield from self._emit(watermark_ms, watermark_ms * 1000, None)

    def finish(
        self, *, log_end_us: int, bounds_us: tuple[int | None, int | None] | None = None
    ) -> Iterator[Raised]:
        """All that is left. Events without a time happened at the log's end.

        `bounds_us` keeps matches whose own time lies within (both ends included).
        """
        try:
            yield from self._emit(None, log_end_us, bounds_us)
        finally:
            self._seen.close()

    def _wait(
        self,
        rule: int,
        time_us: int,
        timestamp_us: int,
        asked_again: int,
        payload: bytes | Operated,
    ) -> None:
        """For its rule's runs, unless none of them can alert it."""
        runs, number = self._runs[rule], self._sequence
        if isinstance(runs, OperationRuns):
            runs.put(time_us, timestamp_us, number, payload)
            return
        key = (rule, time_us, timestamp_us, number, asked_again)
        countable = not (asked_again or self._ranged)
        if countable and self._segments[rule].overflows(time_us, key, runs.floor):
            self.counts[rule].capped += 1
            return
        self._waiting.add(key, payload)

    def _remember(self, match: Match) -> None:
        rule, time_us, timestamp_us, _, _, _, payload = match
        runs = self._runs[rule]
        if time_us is None or not isinstance(runs, OperationRuns):
            return
        self.counts[rule].history += 1
        self._sequence += 1
        stamp_us = time_us if timestamp_us is None else timestamp_us
        runs.put_past(time_us, stamp_us, self._sequence, unpack_operand(payload))

    def _emit(
        self,
        watermark_ms: int | None,
        untimed_us: int,
        bounds_us: tuple[int | None, int | None] | None,
    ) -> Iterator[Raised]:
        for (rule, number, asked_again), payload in self._untimed.drain():
            runs = self._runs[rule]
            if isinstance(runs, OperationRuns):
                runs.put(untimed_us, untimed_us, number, payload)
            else:
                self._waiting.add((rule, untimed_us, untimed_us, number, asked_again), payload)
        self._settle(watermark_ms, bounds_us)
        for runs in self._runs:
            if isinstance(runs, OperationRuns):
                runs.settle(watermark_ms, bounds_us, self._is_known)
                for key, payload in runs.found():
                    self._raised.add(key, payload)
        for (tick_ms, _, _, _, rule, *marks), payload in self._raised.drain():
            if marks:
                yield raised_of(rule, tick_ms, unpack_finding(payload), is_new=marks[0])
                continue
            identity, event = unpack(payload)
            yield Raised(rule, tick_ms, identity, event)

    def _settle(
        self, watermark_ms: int | None, bounds_us: tuple[int | None, int | None] | None
    ) -> None:
        """What becomes of the matches that are alerts by themselves."""
        plain = [runs for runs in self._runs if isinstance(runs, _RuleRuns)]
        for runs in plain:
            runs.begin(watermark_ms)
        for key, payload in self._waiting.drain():
            rule, time_us, timestamp_us, number, asked_again = key
            if bounds_us is not None and not within(timestamp_us, bounds_us):
                self.counts[rule].outside += 1
                continue
            runs_of = self._runs[rule]
            assert isinstance(runs_of, _RuleRuns)
            settled, tick_ms = runs_of.settle(time_us, payload, asked_again)
            if not settled:
                self._waiting.add(key, payload)
            elif tick_ms is not None:
                self._raised.add((tick_ms, time_us, timestamp_us, number, rule), payload)
        for runs in plain:
            runs.end()

    def _is_known(self, identity: str) -> bool:
        """Whether a match of that id was among those taken: it happened then and not before."""
        return self._seen.has(bytes.fromhex(identity)[:16])


def raised_of(rule: int, tick_ms: int, finding: Finding, *, is_new: bool = True) -> Raised:
    """The alert that a finding of a run at that time is to become."""
    events = tuple(unpack(packed)[1] for packed in finding.payloads)
    event = events[0] if events else Event({}, is_document=True)
    about, suppression = finding.about, finding.suppression
    return Raised(rule, tick_ms, finding.alert_id, event, events, about, suppression, is_new)


class _RuleRuns:
    """The runs of one rule. Between `begin` and `end`, matches are settled oldest first.

    What a match gets depends on older ones alone, and one more of those never frees a place: a
    run that is not over yet may still lose a match to an older one, but a match that finds all
    its runs full is capped for good.
    """

    def __init__(self, plan: RulePlan, counts: RuleCounts) -> None:
        self._plan = plan
        self._counts = counts
        self._interval_ms = plan.schedule.interval_ms
        self.floor: int | None = None
        """First tick of a run that was not over at the last watermark."""
        self._watermark_ms: int | None = None
        self._oldest: int | None = None
        self._used: dict[int, int] = {}
        self._full: dict[int, int] = {}
        """A run without room -> a later one that may have some."""
        self._most_held = _FEW_HELD

    def due(self, watermark_ms: int) -> bool:
        """Whether another run is over at that watermark."""
        return self.floor is None or self.floor * self._interval_ms < watermark_ms

    def begin(self, watermark_ms: int | None) -> None:
        self._watermark_ms = watermark_ms
        self._oldest = self.floor
        self._used.clear()
        self._full.clear()

    def end(self) -> None:
        if self._watermark_ms is not None:
            floor = min(-(-self._watermark_ms // self._interval_ms), self._plan.schedule.latest)
            self.floor = floor if self.floor is None else max(floor, self.floor)

    def settle(self, time_us: int, payload: bytes, asked_again: bool) -> tuple[bool, int | None]:
        """Whether it is decided what becomes of a match; and its run, where one alerts it."""
        first, last = self._plan.schedule.ticks(time_us // 1000)
        if last < first:
            self._counts.unplaced += 1
            return True, None
        event = unpack(payload)[1] if asked_again else None
        late = self.floor is not None and last < self.floor
        if late:
            if event is not None and not self._ever_meets(event, first, last):
                self._counts.matches -= 1
                return True, None
            first = last = self.floor or 0
            event = None
        first = self._since(first)
        tick = self._first_run(event, first, last)
        if tick is None:
            self._give_up(event, first, last)
            return True, None
        self._take_place(tick)
        tick_ms = tick * self._interval_ms
        if self._watermark_ms is not None and tick_ms >= self._watermark_ms:
            return False, None
        self._counts.raised += 1
        self._counts.late += late
        return True, tick_ms

    def _since(self, first: int) -> int:
        """The first run still to come; runs before it are forgotten, as no later match has them."""
        if self._oldest is not None:
            first = max(first, self._oldest)
        self._oldest = first
        if len(self._used) + len(self._full) > self._most_held:
            self._used = {tick: n for tick, n in self._used.items() if tick >= first}
            self._full = {tick: n for tick, n in self._full.items() if tick >= first}
            self._most_held = max(_FEW_HELD, 2 * (len(self._used) + len(self._full)))
        return first

    def _first_run(self, event: Event | None, first: int, last: int) -> int | None:
        """The first run with room, and (where the event is asked again) that it meets."""
        tick = self._with_room(first)
        while tick <= last:
            if event is None or self._meets(event, tick):
                return tick
            tick = self._with_room(tick + 1)
        return None

    def _with_room(self, tick: int) -> int:
        passed = []
        while tick in self._full:
            passed.append(tick)
            tick = self._full[tick]
        for each in passed:
            self._full[each] = tick
        return tick

    def _take_place(self, tick: int) -> None:
        if self._plan.cap is None:
            return
        used = self._used.pop(tick, 0) + 1
        if used < self._plan.cap:
            self._used[tick] = used
        else:
            self._full[tick] = tick + 1

    def _give_up(self, event: Event | None, first: int, last: int) -> None:
        """No run has room for it, or (where it is asked again) none that has room is met."""
        runs = range(first, last + 1)
        if event is None or any(tick in self._full and self._meets(event, tick) for tick in runs):
            self._counts.capped += 1
        else:
            self._counts.matches -= 1

    def _ever_meets(self, event: Event, first: int, last: int) -> bool:
        return any(self._meets(event, tick) for tick in range(first, last + 1))

    def _meets(self, event: Event, tick: int) -> bool:
        retest = self._plan.retest
        return retest is None or retest(event, tick * self._interval_ms)


class _Segments:
    """Tells early that a match can never be alerted, so that floods are counted, not kept.

    Matches read by exactly the same runs form a segment. All those runs together alert at most
    (runs x cap) of a segment's matches, the oldest: once as many older ones are known, a newer
    one is capped for certain. Matches that are asked again are not counted: they may not compete.
    """

    def __init__(self, plan: RulePlan) -> None:
        self._schedule = plan.schedule
        self._cap = plan.cap
        self._known: dict[tuple[int, int], tuple[int, tuple[int, ...]]] = {}

    def overflows(self, time_us: int, key: tuple[int, ...], floor: int | None) -> bool:
        if self._cap is None:
            return False
        first, last = self._schedule.ticks(time_us // 1000)
        if last < first or (floor is not None and last < floor):
            return False  # in no run, or late: it goes to another run than its segment
        count, newest = self._known.get((first, last), (0, key))
        if count >= self._cap * (last - first + 1) and key >= newest:
            return True
        if len(self._known) >= _MOST_SEGMENTS:
            self._known.clear()
        self._known[first, last] = count + 1, max(newest, key)
        return False
