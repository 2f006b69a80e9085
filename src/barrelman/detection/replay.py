"""History, run by run: matches in, the alerts that the live schedule would have raised out.

Every match waits in a sorter until its runs are complete. A run takes the oldest matches of its
window that no run before it alerted, at most as many as the rule's cap; a match that its last
run leaves behind is *capped*. What is taken is always the oldest, so nothing is looked at twice.
"""

from __future__ import annotations

import marshal
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from barrelman.detection.identity import act_mark, alert_id
from barrelman.detection.schedule import Schedule
from barrelman.detection.seen import SeenIds
from barrelman.detection.spill import DEFAULT_MEMORY_BYTES, Sorter
from barrelman.engine.decode import dumps, loads
from barrelman.records.event import Event
from barrelman.records.fields import event_time_us

# A match that is asked again in each run is asked at once where it has no more runs than this.
_FEW_RUNS: Final = 16
# Counts of windows remembered per rule; forgetting one only costs disk, never an alert.
_MOST_SEGMENTS: Final = 4096

Retest = Callable[[Event, int], bool]
Place = Callable[[Event], int | None]
"""The time in microseconds by which a rule's windows see an event; None: no window ever does."""


@dataclass(frozen=True)
class RulePlan:
    """How one rule runs. `cap` None: every match alerts."""

    rule_id: str
    schedule: Schedule
    cap: int | None
    place: Place | None = None
    """None: by the event's own time (`@timestamp`)."""
    retest: Retest | None = None
    """For a rule whose answer depends on the run's time: asked again in each run."""


@dataclass
class RuleCounts:
    """What became of a rule's matches. matches = alerts + capped + duplicates + unplaced + …"""

    matches: int = 0
    alerts: int = 0
    capped: int = 0
    duplicates: int = 0
    conflicting: int = 0
    """Duplicates by id whose request differs: a reused Audit-ID, or a forged one."""
    late: int = 0
    """Alerted in a later run, after every run that should have read them."""
    unplaced: int = 0
    """In no window at all: no time by which the rule reads, or a schedule with holes."""
    outside: int = 0
    """Outside --since/--until, where those count back from the log's end."""


@dataclass(slots=True)
class Match:
    """An event that met a rule, waiting for its run: one from `first` to `last`."""

    time_us: int
    timestamp_us: int
    sequence: int
    payload: bytes
    first: int
    last: int
    asked_again: bool
    eligible: bool = False
    """A run would have taken it but for the cap."""

    @property
    def time_ms(self) -> int:
        return self.time_us // 1000

    def order(self) -> tuple[int, int, int]:
        return self.time_us, self.timestamp_us, self.sequence


@dataclass(frozen=True, slots=True)
class Raised:
    """An alert to be written: the run's time and the event."""

    rule: int
    tick_ms: int
    alert_id: str
    event: Event


class Replay:
    """All rules of one scan. `add` in any order; `advance` and `finish` give alerts in order.

    Order: by run, then oldest event first, then as read. `relative` (microseconds before and
    after the log's end, see `finish`) turns off what relies on knowing the range at once.
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
        self._plans = plans
        self._runs = [
            _RuleRuns(plan, counts) for plan, counts in zip(plans, self.counts, strict=True)
        ]
        self._waiting = Sorter(memory_bytes=memory_bytes, folder=folder)
        self._untimed = Sorter(memory_bytes=memory_bytes // 4, folder=folder)
        self._raised = Sorter(memory_bytes=memory_bytes, folder=folder)
        self._seen = SeenIds()
        self._segments = [_Segments(plan) for plan in plans]
        self._sequence = 0
        self._ranged = ranged

    def add(self, rule: int, event: Event) -> None:
        """An event that matched a rule (or may, where the rule is asked again in each run)."""
        plan, counts = self._plans[rule], self.counts[rule]
        timestamp_us = event_time_us(event)
        time_us = timestamp_us if plan.place is None else plan.place(event)
        asked_again = plan.retest is not None
        if asked_again and time_us is not None:
            meets = _meets_in_runs(plan, event, time_us // 1000)
            if meets is False:
                return
            asked_again = meets is None
        counts.matches += 1
        identity = alert_id(event, plan.rule_id)
        mark = act_mark(event)
        known = self._seen.add(bytes.fromhex(identity)[:16], mark)
        if known is not None:
            counts.duplicates += 1
            counts.conflicting += known != mark
            return
        self._sequence += 1
        if time_us is None:
            if timestamp_us is not None:
                counts.unplaced += 1
            else:
                self._untimed.add((rule, self._sequence, asked_again), _pack(identity, event))
            return
        key = (rule, time_us, timestamp_us or 0, self._sequence, asked_again)
        if not (asked_again or self._ranged) and self._segments[rule].overflows(time_us, key):
            counts.capped += 1
            return
        self._waiting.add(key, _pack(identity, event))

    def advance(self, watermark_ms: int) -> Iterator[Raised]:
        """Runs that are over once every event up to `watermark_ms` has been read."""
        return self._emit(watermark_ms, watermark_ms * 1000, None)

    def finish(
        self, *, log_end_us: int, bounds_us: tuple[int | None, int | None] | None = None
    ) -> Iterator[Raised]:
        """All that is left. Events without a time happened at the log's end.

        `bounds_us` keeps matches whose own time lies within (both ends included).
        """
        yield from self._emit(None, log_end_us, bounds_us)
        self._seen.close()

    def _emit(
        self,
        watermark_ms: int | None,
        untimed_us: int,
        bounds_us: tuple[int | None, int | None] | None,
    ) -> Iterator[Raised]:
        for (rule, sequence, asked_again), payload in self._untimed.drain():
            self._waiting.add((rule, untimed_us, untimed_us, sequence, asked_again), payload)
        for (rule, *times, sequence, asked_again), payload in self._waiting.drain():
            if bounds_us is not None and not _within(times[1], bounds_us):
                self.counts[rule].outside += 1
                continue
            runs = self._runs[rule]
            match = runs.match(times[0], times[1], sequence, payload, asked_again)
            if match is None:
                continue
            reached_ms = match.time_ms
            if watermark_ms is not None:
                reached_ms = min(reached_ms, watermark_ms)
            self._collect(rule, runs.advance(reached_ms))
            if self._plans[rule].cap is not None:
                runs.push(match)
            elif not runs.over(match, watermark_ms):
                self._waiting.add((rule, *times, sequence, asked_again), payload)
            else:
                self._collect(rule, runs.take(match))
        for rule, runs in enumerate(self._runs):
            self._collect(rule, runs.advance(watermark_ms))
        for (tick_ms, _, _, _, rule), payload in self._raised.drain():
            identity, event = _unpack(payload)
            yield Raised(rule, tick_ms, identity, event)

    def _collect(self, rule: int, raised: Iterator[tuple[int, Match]]) -> None:
        for tick_ms, match in raised:
            key = (tick_ms, match.time_us, match.timestamp_us, match.sequence, rule)
            self._raised.add(key, match.payload)


class _RuleRuns:
    """The runs of one rule, in order, over matches given oldest first."""

    def __init__(self, plan: RulePlan, counts: RuleCounts) -> None:
        self._plan = plan
        self._counts = counts
        self._interval_ms = plan.schedule.interval_ms
        self._pending: list[Match] = []
        self._next_tick: int | None = None

    def match(
        self, time_us: int, timestamp_us: int, sequence: int, payload: bytes, asked_again: bool
    ) -> Match | None:
        """A match with the runs it can still be in; None, and counted, where there never is one."""
        first, last = self._plan.schedule.ticks(time_us // 1000)
        if last < first:
            self._counts.unplaced += 1
            return None
        if self._next_tick is not None and first < self._next_tick:
            if last < self._next_tick:
                self._counts.late += 1
                last = self._next_tick
            first = self._next_tick
        return Match(time_us, timestamp_us, sequence, payload, first, last, asked_again)

    def push(self, match: Match) -> None:
        insort(self._pending, match, key=Match.order)

    def over(self, match: Match, watermark_ms: int | None) -> bool:
        """Whether the last run that may take this match is complete."""
        run = match.last if match.asked_again else match.first
        return watermark_ms is None or run * self._interval_ms < watermark_ms

    def take(self, match: Match) -> Iterator[tuple[int, Match]]:
        """The alert of a rule without a cap: in the first run that the match meets."""
        for tick in range(match.first, match.last + 1):
            if self._meets(match, tick):
                self._counts.alerts += 1
                yield tick * self._interval_ms, match
                return
        self._leave(match)

    def advance(self, watermark_ms: int | None) -> Iterator[tuple[int, Match]]:
        """The alerts of all runs before the watermark; of all runs there are where it is None."""
        while self._pending:
            tick = self._pending[0].first
            if self._next_tick is not None:
                tick = max(tick, self._next_tick)
            if watermark_ms is not None and tick * self._interval_ms >= watermark_ms:
                return
            for match in self._run(tick):
                yield tick * self._interval_ms, match
            self._next_tick = tick + 1

    def _run(self, tick: int) -> list[Match]:
        cap = self._plan.cap
        taken: list[Match] = []
        kept: list[Match] = []
        for match in self._pending:
            if tick < match.first:
                kept.append(match)
            elif tick > match.last:
                self._leave(match)
            elif not self._meets(match, tick):
                kept.append(match)
            elif cap is None or len(taken) < cap:
                taken.append(match)
            else:
                match.eligible = True
                kept.append(match)
        self._pending = kept
        self._counts.alerts += len(taken)
        return taken

    def _meets(self, match: Match, tick: int) -> bool:
        if self._plan.retest is None or not match.asked_again:
            return True
        _, event = _unpack(match.payload)
        return self._plan.retest(event, tick * self._interval_ms)

    def _leave(self, match: Match) -> None:
        """No run will read it any more."""
        if match.eligible or not match.asked_again:
            self._counts.capped += 1
        else:
            self._counts.matches -= 1  # asked in each of its runs, and never met the rule


class _Segments:
    """Tells early that a match can never be alerted, so that floods are counted, not kept.

    Matches read by exactly the same runs form a segment. All those runs together alert at most
    (runs x cap) of a segment's matches, the oldest: once as many older ones are known, a newer
    one is capped for certain.
    """

    def __init__(self, plan: RulePlan) -> None:
        self._schedule = plan.schedule
        self._cap = None if plan.retest is not None else plan.cap
        self._known: dict[tuple[int, int], tuple[int, tuple[int, ...]]] = {}

    def overflows(self, time_us: int, key: tuple[int, ...]) -> bool:
        if self._cap is None:
            return False
        first, last = self._schedule.ticks(time_us // 1000)
        if last < first:
            return False
        count, newest = self._known.get((first, last), (0, key))
        if count >= self._cap * (last - first + 1) and key >= newest:
            return True
        if len(self._known) >= _MOST_SEGMENTS:
            self._known.clear()
        self._known[first, last] = count + 1, max(newest, key)
        return False


def _meets_in_runs(plan: RulePlan, event: Event, time_ms: int) -> bool | None:
    """Whether an event meets the rule in all of its runs, in none, or (None) it depends."""
    assert plan.retest is not None
    first, last = plan.schedule.ticks(time_ms)
    if last - first > _FEW_RUNS:
        return None
    interval_ms = plan.schedule.interval_ms
    answers = {plan.retest(event, tick * interval_ms) for tick in range(first, last + 1)}
    return answers.pop() if len(answers) == 1 else None


def _within(instant_us: int, bounds_us: tuple[int | None, int | None]) -> bool:
    low, high = bounds_us
    return (low is None or instant_us >= low) and (high is None or instant_us <= high)


def _pack(identity: str, event: Event) -> bytes:
    return marshal.dumps(
        (
            identity,
            event.raw if event.raw is not None else dumps(event.body),
            event.is_document,
            event.line,
            event.cluster,
            event.aks_metadata,
            event.wrapper_time,
            event.index,
            event.document_id,
        )
    )


def _unpack(payload: bytes) -> tuple[str, Event]:
    identity, raw, is_document, *rest = marshal.loads(payload)  # packed just above
    return identity, Event(loads(raw), is_document, raw, *rest)
