"""One pass over stored events for any number of runs: their windows share the reading.

A run reads what arrived in its window, oldest first, and raises what no one has raised yet, up to
its cap. Runs of one rule whose windows overlap are served in the order of their times, so that the
earlier takes what both read, as when they run one by one. A rule that needs several events for an
alert has an operator between its matches and its alerts (see `courses`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from barrelman.detection.lineup import Lineup, Watcher
from barrelman.engine.reading import CUTS, MOST_COMBINATIONS
from barrelman.service.alerting import Alerting, Candidate, Outcome
from barrelman.service.courses import Course, Operators, read_past
from barrelman.service.judging import Judged, judge_frame
from barrelman.service.run import Run
from barrelman.store.events import EventStore

_LOG = logging.getLogger("barrelman.scheduler")

_MOST_CANDIDATES: Final = 512


@dataclass
class PassCounts:
    """What a pass read, and how long it took."""

    frames: int = 0
    events: int = 0
    decoded: int = 0
    search_ms: float = 0.0
    alert_ms: float = 0.0
    is_complete: bool = True


def run_pass(
    store: EventStore,
    alerting: Alerting,
    runs: Sequence[Run],
    *,
    lineup: Lineup,
    operators: Operators | None = None,
    judged_live: bool = True,
    is_stopping: Callable[[], bool] = lambda: False,
    give_way: Callable[[], None] = lambda: None,
) -> PassCounts:
    """Does the runs; all rules of `runs` are in `lineup`. Stops early, incomplete, when asked.

    `operators`: those that last; without them, runs read the past of their rules anew. With live
    judging, rules of which one event is an alert are run as they are judged live: an operator
    might choose other events where there are more than the cap.
    """
    counts = PassCounts()
    numbers = {lineup.number_of[run.watcher.uuid] for run in runs}
    part, chosen = lineup.part(numbers)
    place_of = {number: place for place, number in enumerate(chosen)}
    by_number: dict[int, list[Run]] = {}
    for run in sorted(runs, key=lambda each: each.tick_ms):
        place = place_of[lineup.number_of[run.watcher.uuid]]
        by_number.setdefault(place, []).append(run)
    courses = {
        place: _course(alerting, some, operators)
        for place, some in by_number.items()
        if _needs_operator(some[0].watcher, judged_live=judged_live)
    }
    try:
        started = time.monotonic()
        counts.is_complete = read_past(
            store,
            list(courses.values()),
            lineup=lineup,
            is_stopping=is_stopping,
            give_way=give_way,
        ) and _read(
            store,
            alerting=alerting,
            runs=runs,
            lineup=part,
            by_number=by_number,
            courses=courses,
            counts=counts,
            is_stopping=is_stopping,
            give_way=give_way,
        )
        counts.search_ms = (time.monotonic() - started) * 1000 - counts.alert_ms
        if counts.is_complete:
            for course in courses.values():
                course.keep()
    finally:
        for course in courses.values():
            course.close()
    cuts = CUTS.take()
    if cuts:
        _LOG.warning(
            "%d times a condition saw only %d combinations of an event's arrays: it may hold for "
            "another",
            cuts,
            MOST_COMBINATIONS,
        )
    return counts


def _needs_operator(watcher: Watcher, *, judged_live: bool) -> bool:
    return watcher.operation is not None and not (judged_live and watcher.is_live)


def _course(alerting: Alerting, runs: Sequence[Run], operators: Operators | None) -> Course:
    watcher = runs[0].watcher
    course = Course(
        watcher,
        runs,
        operators=operators,
        unknown=lambda findings: alerting.unknown(watcher, findings),
    )
    first = course.runs[0]
    course.remember(
        alerting.memories(course.watcher, from_ms=first.from_ms, before_ms=first.tick_ms)
    )
    return course


def _read(
    store: EventStore,
    *,
    alerting: Alerting,
    runs: Sequence[Run],
    lineup: Lineup,
    by_number: dict[int, list[Run]],
    courses: dict[int, Course],
    counts: PassCounts,
    is_stopping: Callable[[], bool],
    give_way: Callable[[], None],
) -> bool:
    """Reads the windows and raises what is found; False where it was stopped."""
    low_us = min(run.from_ms for run in runs) * 1000
    high_us = max(run.to_ms for run in runs) * 1000 + 999
    pending: list[tuple[Run, Candidate]] = []
    for frame in store.frames(arrival_us=(low_us, high_us)):
        if is_stopping():
            return False
        give_way()
        counts.frames += 1
        counts.events += len(frame.seqs)
        for judged in judge_frame(frame, lineup, arrival_us=(low_us, high_us)):
            counts.decoded += 1
            _sort_in(judged, by_number, courses, pending)
        if len(pending) >= _MOST_CANDIDATES:
            counts.alert_ms += _settle(alerting, pending)
        counts.alert_ms += _raise_found(alerting, courses.values())
    for course in courses.values():
        course.finish()
    counts.alert_ms += _settle(alerting, pending)
    counts.alert_ms += _raise_found(alerting, courses.values())
    return True


def _raise_found(alerting: Alerting, courses: Iterable[Course]) -> float:
    """Raises what runs with an operator have found; the milliseconds that took."""
    started = time.monotonic()
    for course in courses:
        for run, findings in course.found:
            outcomes = alerting.raise_findings(
                run.watcher, findings, tick_ms=run.tick_ms, kind=run.kind
            )
            for outcome in outcomes:
                _count_outcome(run, outcome)
        course.found.clear()
    return (time.monotonic() - started) * 1000


def _count_outcome(run: Run, outcome: Outcome) -> None:
    if outcome == "raised":
        run.alerts += 1
    elif outcome == "capped":
        run.capped += 1
    elif outcome == "folded":
        run.folded += 1
    else:
        run.known += 1


def _sort_in(
    judged: Judged,
    by_number: dict[int, list[Run]],
    courses: dict[int, Course],
    pending: list[tuple[Run, Candidate]],
) -> None:
    arrival_ms = judged.arrival_us // 1000
    for number in judged.numbers:
        course = courses.get(number)
        if course is not None:
            course.take(judged)
            continue
        for run in by_number[number]:
            if not run.from_ms <= arrival_ms <= run.to_ms:
                continue
            watcher = run.watcher
            if watcher.uses_now and not watcher.predicate.matches(judged.event, now_ms=run.tick_ms):
                continue
            if not watcher.meets_alone(judged.event, run.tick_ms):
                continue
            run.matches += 1
            candidate = Candidate(watcher, judged.event, (run.tick_ms,), run.allowance)
            pending.append((run, candidate))


def _settle(alerting: Alerting, pending: list[tuple[Run, Candidate]]) -> float:
    """Raises what waits; the milliseconds that took."""
    if not pending:
        return 0.0
    started = time.monotonic()
    for kind in dict.fromkeys(run.kind for run, _ in pending):
        some = [(run, candidate) for run, candidate in pending if run.kind == kind]
        outcomes = alerting.raise_alerts([candidate for _, candidate in some], kind=kind)
        for (run, _), outcome in zip(some, outcomes, strict=True):
            _count_outcome(run, outcome)
    pending.clear()
    return (time.monotonic() - started) * 1000
