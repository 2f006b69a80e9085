"""What a rule would have alerted on, over events that are stored; nothing of it is kept.

As B.20 of the field's standard engine has it: a number of runs, the last at `timeframe_end`, with
what one run alerted known to the next. Windows read by arrival, as all runs here do.
"""

from __future__ import annotations

import time
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from barrelman.detection.finding import Finding, Raised, Window
from barrelman.detection.identity import alert_id
from barrelman.detection.lineup import Lineup, Watcher
from barrelman.detection.replay import raised_of
from barrelman.detection.runs import GivenRuns
from barrelman.detection.standing import fold
from barrelman.errors import TimeError
from barrelman.records.times import format_instant
from barrelman.service.courses import Course, read_past
from barrelman.service.judging import Judged, judge_frame
from barrelman.service.rulebook import RuleBook
from barrelman.service.run import Run, plan_run
from barrelman.store.events import EventStore

JsonObject: TypeAlias = dict[str, Any]

_MOST_RUNS: Final = 100_000
_MOST_ALERTS: Final = 10_000
_MOST_MATCHES: Final = 200_000
"""More are not looked at: what matches so often needs no further proof."""


@dataclass
class RunLog:
    """One run of a preview. `duration_ms`: the reading is shared, so each has its part of it."""

    started_at: str
    duration_ms: int = 0
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass
class PreviewResult:
    """`alerts` are documents, in the order in which they would have been raised."""

    preview_id: str
    logs: list[RunLog] = field(default_factory=list)
    is_aborted: bool = False
    alerts: list[JsonObject] = field(default_factory=list)
    matches: int = 0


class Previews:
    """`most_seconds` bounds one preview; what was found until then is given, as aborted."""

    def __init__(
        self, store: EventStore, rulebook: RuleBook, *, most_seconds: float = 60.0
    ) -> None:
        self._store = store
        self._rulebook = rulebook
        self._most_seconds = most_seconds

    def run(
        self, params: JsonObject, *, timeframe_end_ms: int, invocation_count: int
    ) -> PreviewResult:
        """Runs a rule that need not be stored. What is wrong with it stands in the log."""
        result = PreviewResult(str(uuid.uuid4()))
        if not 1 <= invocation_count <= _MOST_RUNS:
            problem = f"invocationCount must lie between 1 and {_MOST_RUNS}"
            result.logs.append(RunLog(format_instant(timeframe_end_ms), errors=[problem]))
            return result
        loaded, watcher = self._rulebook.candidate(params)
        if watcher is None:
            result.logs.append(RunLog(format_instant(timeframe_end_ms), errors=[loaded.reason]))
            return result
        step = watcher.schedule.interval_ms
        first = timeframe_end_ms - step * (invocation_count - 1)
        try:
            runs = [
                plan_run(watcher, tick, "manual")
                for tick in range(first, timeframe_end_ms + 1, step)
            ]
        except TimeError as error:
            result.logs.append(RunLog(format_instant(timeframe_end_ms), errors=[error.oneline()]))
            return result
        self._execute(watcher, runs, result)
        return result

    def _execute(self, watcher: Watcher, runs: list[Run], result: PreviewResult) -> None:
        started = time.monotonic()
        deadline = started + self._most_seconds
        if watcher.operation is None:
            raised = self._judge(watcher, runs, deadline, result)
        else:
            raised = self._operate(watcher, runs, deadline, result)
        builder = watcher.builder_as(result.preview_id)
        for one in raised:
            built = builder.build_all(one, created_ms=one.tick_ms, is_manual=True)
            result.alerts += [each.document for each in built]
        part_ms = round((time.monotonic() - started) * 1000 / max(1, len(runs)))
        for run in runs:
            log = RunLog(format_instant(run.tick_ms), part_ms)
            if run.capped:
                log.warnings.append(
                    f"{run.capped} matches raised no alert: the cap of {watcher.cap} a run is met"
                )
            if run.evicted:
                log.warnings.append(f"{run.evicted} groups or unfinished sequences were let go of")
            result.logs.append(log)

    def _operate(
        self, watcher: Watcher, runs: list[Run], deadline: float, result: PreviewResult
    ) -> list[Raised]:
        """What the rule's operator finds in these runs, whatever was found before them."""
        lineup = Lineup([watcher])
        plan = watcher.plan_over(GivenRuns([Window(r.tick_ms, r.from_ms, r.to_ms) for r in runs]))
        course = Course(watcher, runs, plan=plan)
        folded = _Folded(watcher.duration_ms)

        def is_over() -> bool:
            return time.monotonic() > deadline or result.matches >= _MOST_MATCHES

        try:
            result.is_aborted = not read_past(
                self._store, [course], lineup=lineup, is_stopping=is_over, give_way=lambda: None
            )
            low, high = runs[0].from_ms * 1000, runs[-1].to_ms * 1000 + 999
            for frame in self._store.frames(arrival_us=(low, high)):
                if result.is_aborted or is_over():
                    result.is_aborted = True
                    break
                for judged in judge_frame(frame, lineup, arrival_us=(low, high)):
                    result.matches += 1
                    course.take(judged)
                folded.take(course)
            if not result.is_aborted:
                course.finish()
            folded.take(course)
        finally:
            course.close()
        return folded.raised()

    def _judge(
        self, watcher: Watcher, runs: list[Run], deadline: float, result: PreviewResult
    ) -> list[Raised]:
        """Each match an alert, of the first run with room."""
        raised: list[tuple[int, int, Raised]] = []
        for reading, identity, judged in self._matches(watcher, runs, deadline, result):
            result.matches += 1
            for run in reading:
                run.matches += 1
                if run.alerts < watcher.cap and len(raised) < _MOST_ALERTS:
                    run.alerts += 1
                    one = Raised(0, run.tick_ms, identity, judged.event)
                    raised.append((run.tick_ms, judged.seq, one))
                    break  # to those that follow it is known
                run.capped += 1
        return [one for _, _, one in sorted(raised, key=lambda each: each[:2])]

    def _matches(
        self, watcher: Watcher, runs: list[Run], deadline: float, result: PreviewResult
    ) -> Iterator[tuple[list[Run], str, Judged]]:
        """Each match with the runs that read it, in their order."""
        lineup = Lineup([watcher])
        low, high = runs[0].from_ms * 1000, runs[-1].to_ms * 1000 + 999
        done: set[str] = set()
        starts, ends = [run.from_ms for run in runs], [run.to_ms for run in runs]
        for frame in self._store.frames(arrival_us=(low, high)):
            if time.monotonic() > deadline or len(done) >= _MOST_MATCHES:
                result.is_aborted = True
                return
            for judged in judge_frame(frame, lineup, arrival_us=(low, high)):
                arrival_ms = judged.arrival_us // 1000
                span = runs[bisect_left(ends, arrival_ms) : bisect_right(starts, arrival_ms)]
                reading = [run for run in span if _meets(run, judged)]
                if not reading:
                    continue
                identity = alert_id(judged.event, watcher.rule.rule_id)
                if identity in done:
                    continue
                done.add(identity)
                yield reading, identity, judged


class _Folded:
    """The alerts of a preview: repeats of later runs are folded as a service does it."""

    def __init__(self, duration_ms: int | None) -> None:
        self._duration_ms = duration_ms
        self._raised: dict[str, Raised] = {}
        self._standing: dict[str, str] = {}
        """By the instance, the id of the newest alert."""

    def take(self, course: Course) -> None:
        for run, findings in course.found:
            for finding in findings:
                if finding.alert_id in self._raised or self._fold(run, finding):
                    continue
                if len(self._raised) >= _MOST_ALERTS:
                    run.capped += 1
                    continue
                run.alerts += 1
                self._raised[finding.alert_id] = raised_of(0, run.tick_ms, finding)
                if finding.suppression is not None:
                    self._standing[finding.suppression.instance_id] = finding.alert_id
        course.found.clear()

    def raised(self) -> list[Raised]:
        """By their runs, each in the order in which it found them."""
        return list(self._raised.values())

    def _fold(self, run: Run, finding: Finding) -> bool:
        later = finding.suppression
        if later is None or self._duration_ms is None:
            return False
        kept_id = self._standing.get(later.instance_id)
        kept = None if kept_id is None else self._raised[kept_id]
        if kept is None or kept.tick_ms < run.tick_ms - self._duration_ms:
            return False
        assert kept.suppression is not None
        folded = fold(kept.suppression, later, now_ms=run.tick_ms)
        if folded is not None:
            self._raised[kept.alert_id] = replace(kept, suppression=folded)
            run.folded += 1
        return True


def _meets(run: Run, judged: Judged) -> bool:
    watcher = run.watcher
    return not watcher.uses_now or watcher.predicate.matches(judged.event, now_ms=run.tick_ms)
