"""A match on its way from the judge to the replay: what a run needs to know of it, no more.

It crosses processes: a plain tuple of numbers, texts and bytes.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable
from typing import Final, TypeAlias

from barrelman.detection.identity import act_mark, alert_id
from barrelman.detection.schedule import Schedule
from barrelman.engine.decode import dumps, loads
from barrelman.records.event import Event
from barrelman.records.fields import event_time_us
from barrelman.records.frozen import frozen

# A match that is asked again in each run is asked at once where it has no more runs than this.
_FEW_RUNS: Final = 16

Retest = Callable[[Event, int], bool]
Place = Callable[[Event], int | None]
"""The time in microseconds by which a rule's windows see an event; None: no window ever does."""

Match: TypeAlias = tuple[int, int | None, int | None, bool, str, int, bytes]
"""The rule's number; the time in microseconds by which its windows see the event; the event's own
time; whether the event is asked again in each run; the alert's id; a mark of the request itself;
and the event, packed."""


@frozen
class RulePlan:
    """How one rule runs. `cap` None: every match alerts."""

    rule_id: str
    schedule: Schedule
    cap: int | None
    place: Place | None = None
    """None: by the event's own time (`@timestamp`)."""
    retest: Retest | None = None
    """For a rule whose answer depends on the run's time: asked again in each run."""


def match_of(rule: int, plan: RulePlan, event: Event) -> Match | None:
    """The match of an event that met a rule's filter.

    None where the rule's answer depends on the run's time, and no run that reads the event is met.
    """
    timestamp_us = event_time_us(event)
    time_us = timestamp_us if plan.place is None else plan.place(event)
    asked_again = False
    if plan.retest is not None:
        meets = _meets_in_runs(plan, event, time_us, timestamp_us)
        if meets is False:
            return None
        asked_again = meets is None
    identity = alert_id(event, plan.rule_id)
    payload = pack(identity, event)
    return rule, time_us, timestamp_us, asked_again, identity, act_mark(event), payload


def _meets_in_runs(
    plan: RulePlan, event: Event, time_us: int | None, timestamp_us: int | None
) -> bool | None:
    """Whether an event meets the rule in all of its runs, in none, or (None) it depends.

    An event that no run reads is asked for the first run after it, to be counted or not.
    """
    assert plan.retest is not None
    instant_us = timestamp_us if time_us is None else time_us
    if instant_us is None:
        return None
    first, last = plan.schedule.ticks(instant_us // 1000)
    if last < first or time_us is None:
        last = first
    if last - first >= _FEW_RUNS:
        return None
    interval_ms = plan.schedule.interval_ms
    answers = {plan.retest(event, n * interval_ms) for n in range(first, last + 1)}
    return answers.pop() if len(answers) == 1 else None


def pack(identity: str, event: Event) -> bytes:
    """An alert's id and its event, as bytes; the line it was read from is left behind."""
    return marshal.dumps(
        (
            identity,
            event.raw if event.raw is not None else dumps(event.body),
            event.is_document,
            event.cluster,
            event.aks_metadata,
            event.wrapper_time,
            event.index,
            event.document_id,
        )
    )


def unpack(payload: bytes) -> tuple[str, Event]:
    """What `pack` packed."""
    identity, raw, is_document, *rest = marshal.loads(payload)  # packed just above
    return identity, Event(loads(raw), is_document, raw, 0, *rest)
