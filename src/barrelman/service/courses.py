"""Runs of rules whose alerts need several events: an operator, and stored events in their order.

A pass gives a rule's operator what arrived in the windows of its runs, and what runs before had
counted. Only of rules that ask what is new does the operator last from pass to pass: what it has
seen reaches back for days, and is read from the store when it is first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from barrelman.detection.composite import SuppressedQuery
from barrelman.detection.finding import Finding, Item, Operator, Window
from barrelman.detection.identity import id_of_other_act
from barrelman.detection.lineup import Lineup, Watcher
from barrelman.detection.match import RulePlan, match_of, unpack_operand, with_identity
from barrelman.detection.seen import SeenIds
from barrelman.detection.suppression import Suppressor, Unknown
from barrelman.detection.threshold import ThresholdOperator
from barrelman.service.judging import Judged, judge_frame
from barrelman.store.events import EventStore
from barrelman.store.memories import Memory

if TYPE_CHECKING:
    from barrelman.service.run import Run


@dataclass
class _Lasting:
    """An operator that has been given every event up to a time, and run up to a tick."""

    watcher: Watcher
    operator: Operator
    given_ms: int
    tick_ms: int


class Operators:
    """Those that last from pass to pass, by their rule. A pass takes one out, and puts it back
    when all that came of it is stored."""

    def __init__(self) -> None:
        self._lasting: dict[str, _Lasting] = {}

    def take(self, watcher: Watcher, *, tick_ms: int) -> tuple[Operator, int] | None:
        """The rule's operator, and up to when it has been given events; None where it is another
        rule's by now, or has run beyond that tick."""
        kept = self._lasting.get(watcher.uuid)
        if kept is None or kept.watcher is not watcher or kept.tick_ms >= tick_ms:
            return None
        del self._lasting[watcher.uuid]
        return kept.operator, kept.given_ms

    def put(self, watcher: Watcher, operator: Operator, *, given_ms: int, tick_ms: int) -> None:
        self._lasting[watcher.uuid] = _Lasting(watcher, operator, given_ms, tick_ms)

    def keep_only(self, rule_uuids: Iterable[str]) -> None:
        """Lets go of those whose rules do not run any more."""
        for gone in self._lasting.keys() - set(rule_uuids):
            del self._lasting[gone]


class Course:
    """Runs of one rule in a row, the earliest first, in one pass.

    `unknown` says what was raised or folded before, of rules whose operators do not remember it.
    """

    def __init__(
        self,
        watcher: Watcher,
        runs: Sequence[Run],
        *,
        operators: Operators | None = None,
        plan: RulePlan | None = None,
        unknown: Unknown | None = None,
    ) -> None:
        self.watcher = watcher
        self.runs = sorted(runs, key=lambda run: run.tick_ms)
        self._plan = watcher.plan if plan is None else plan
        assert self._plan.operation is not None
        self._operation = self._plan.operation
        is_own = all(run.kind in ("scheduled", "catch-up") for run in self.runs)
        lasts = self._operation.takes_history and is_own
        self._operators = operators if lasts else None
        self._seen = SeenIds()
        self._next = 0
        self._given_ms: int | None = None
        kept = None
        if self._operators is not None:
            kept = self._operators.take(watcher, tick_ms=self.runs[0].tick_ms)
        if kept is None:
            self.operator = self._operation.make()
        else:
            self.operator, self._given_ms = kept
        self._suppressor = self.operator if isinstance(self.operator, Suppressor) else None
        if self._suppressor is not None:
            self._suppressor.unknown = unknown
        self.found: list[tuple[Run, list[Finding]]] = []
        """What runs have found, for whoever raises it to take."""

    def past_ms(self) -> tuple[int, int] | None:
        """From when to when its operator must be given what happened before the first window."""
        if not self._operation.takes_history:
            return None
        first = self.runs[0]
        start = self.watcher.rule.history_window_start
        assert start is not None  # checked when the rule was loaded
        from_ms = start.resolve_ms(first.to_ms)
        if self._given_ms is not None:
            from_ms = max(from_ms, self._given_ms + 1)
        return (from_ms, first.from_ms - 1) if from_ms < first.from_ms else None

    def remember(self, memories: Iterable[Memory]) -> None:
        """What runs before the first one counted. To be called before anything else."""
        operator = self.operator if self._suppressor is None else self._suppressor.inner
        suppression = self.watcher.rule.alert_suppression
        for memory in memories:
            if isinstance(operator, ThresholdOperator):
                operator.remember(memory.terms, memory.until_ms)
            elif isinstance(operator, SuppressedQuery) and suppression is not None:
                names = tuple(name for name, _ in memory.terms)
                if names == suppression.group_by:  # else the rule was changed since
                    values = [value for _, value in memory.terms]
                    operator.remember((*values, memory.cluster), memory.until_ms)

    def look_back(self, judged: Judged) -> None:
        """A match of the past, which alerts in no run."""
        plan, event, arrival_us = self._plan, judged.event, judged.arrival_us
        now_ms = plan.schedule.ticks(arrival_us // 1000)[0] * plan.schedule.interval_ms
        if plan.retest is not None and not plan.retest(event, now_ms):
            return
        operand = self._operation.operand(event, now_ms)
        if operand is not None:
            # Nothing is to be known of it but when it was: a second delivery is no harm.
            self.operator.add(Item(arrival_us, arrival_us, judged.seq, "", operand, None, b""))

    def take(self, judged: Judged) -> None:
        """The next match, in the order of arrival."""
        arrival_ms = judged.arrival_us // 1000
        while self._next < len(self.runs) and self.runs[self._next].to_ms < arrival_ms:
            self._run()
        if self._given_ms is not None and arrival_ms <= self._given_ms:
            self._count(arrival_ms, judged)
            return
        if self._count(arrival_ms, judged) or self._operation.takes_unplaced:
            item = self._item(judged)
            if item is not None:
                self.operator.add(item)

    def finish(self) -> None:
        """Does the runs that are left: all there is was given."""
        while self._next < len(self.runs):
            self._run()

    def keep(self) -> None:
        """All that came of it is stored: its operator may go on from here."""
        last = self.runs[-1]
        if self._operators is not None:
            self._operators.put(
                self.watcher, self.operator, given_ms=last.to_ms, tick_ms=last.tick_ms
            )

    def close(self) -> None:
        self._seen.close()

    # --- inside ---

    def _count(self, arrival_ms: int, judged: Judged) -> bool:
        """Whether a run to come reads the match; it is counted to each that does."""
        is_read = False
        for place in range(self._next, len(self.runs)):
            run = self.runs[place]
            if run.from_ms > arrival_ms:
                break
            if arrival_ms <= run.to_ms:
                run.matches += 1
                is_read = True
        return is_read

    def _item(self, judged: Judged) -> Item | None:
        """None: a second delivery, or an event that takes no part after all."""
        match = match_of(0, self._plan, judged.event)
        if match is None:
            return None
        _, time_us, timestamp_us, _, identity, mark, payload = match
        first = self._seen.add(bytes.fromhex(identity)[:16], mark)
        if first is not None and first != mark:
            # Another act under an Audit-ID that was used before.
            identity = id_of_other_act(identity, mark)
            first = self._seen.add(bytes.fromhex(identity)[:16], mark)
            payload = with_identity(payload, identity)
        if first is not None:
            return None
        _, operand, groups, packed = unpack_operand(payload)
        time_us = judged.arrival_us if time_us is None else time_us
        timestamp_us = time_us if timestamp_us is None else timestamp_us
        return Item(time_us, timestamp_us, judged.seq, identity, operand, groups, packed)

    def _run(self) -> None:
        run, operator = self.runs[self._next], self.operator
        self._next += 1
        capped, suppressed, evicted = operator.capped, operator.suppressed, operator.evicted
        known = 0 if self._suppressor is None else self._suppressor.known
        findings = operator.run(Window(run.tick_ms, run.from_ms, run.to_ms))
        run.capped += max(0, operator.capped - capped)
        run.suppressed += max(0, operator.suppressed - suppressed)
        run.evicted += operator.evicted - evicted
        if self._suppressor is not None:
            run.known += self._suppressor.known - known
        if findings:
            self.found.append((run, findings))


def read_past(
    store: EventStore,
    courses: Sequence[Course],
    *,
    lineup: Lineup,
    is_stopping: Callable[[], bool],
    give_way: Callable[[], None],
) -> bool:
    """Gives operators what happened before their windows; False where it was stopped."""
    wanted = [(course, span) for course in courses if (span := course.past_ms()) is not None]
    if not wanted:
        return True
    part, chosen = lineup.part({lineup.number_of[course.watcher.uuid] for course, _ in wanted})
    of_number = {lineup.number_of[course.watcher.uuid]: (course, span) for course, span in wanted}
    span_us = (
        min(span[0] for _, span in wanted) * 1000,
        max(span[1] for _, span in wanted) * 1000 + 999,
    )
    for frame in store.frames(arrival_us=span_us):
        if is_stopping():
            return False
        give_way()
        for judged in judge_frame(frame, part, arrival_us=span_us):
            arrival_ms = judged.arrival_us // 1000
            for number in judged.numbers:
                course, (low_ms, high_ms) = of_number[chosen[number]]
                if low_ms <= arrival_ms <= high_ms:
                    course.look_back(judged)
    return True
