"""A match on its way from the judge to the replay: what a run needs to know of it, no more.

It crosses processes: a plain tuple of numbers, texts and bytes.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable
from typing import Final, TypeAlias

from barrelman.detection.finding import GroupValue, Operand, Operator
from barrelman.detection.identity import act_mark, alert_id
from barrelman.detection.schedule import Schedule
from barrelman.engine.decode import dumps, loads
from barrelman.records.event import Event
from barrelman.records.fields import event_time_us
from barrelman.records.frozen import frozen

# A match that is asked again in each run is asked at once where it has no more runs than this.
_FEW_RUNS: Final = 16
_OPERATED_BYTES: Final = 300

Retest = Callable[[Event, int], bool]
Place = Callable[[Event], int | None]
"""The time in microseconds by which a rule's windows see an event; None: no window ever does."""

PAST: Final = 2
"""In a match's place of "asked again": the event lies before what is scanned, and is remembered."""

Operated: TypeAlias = tuple[str, Operand, tuple[GroupValue, ...] | None, bytes]
"""Of a rule with an operation: the match's id, operand, groups and packed event (empty where the
operator was not to need it)."""

Match: TypeAlias = tuple[int, int | None, int | None, int, str, int, bytes | Operated]
"""The rule's number; the time in microseconds by which its windows see the event; the event's own
time; whether the event is asked again in each run (0, 1), or PAST; the alert's id; a mark of the
request itself; and the event, packed, or what an operator needs of it."""


@frozen
class Operation:
    """How a rule runs whose alerts need more than one event each, or fold several into one."""

    operand: Callable[[Event, int], Operand | None]
    """What the operator needs of an event; None where the event takes no part. The number is the
    time in milliseconds of the first run that reads the event."""
    groups: Callable[[Event], tuple[GroupValue, ...] | None] | None
    """The values that the rule suppresses by."""
    make: Callable[[], Operator]
    takes_history: bool = False
    """Events that happened before those of the scan say what is not new."""
    takes_unplaced: bool = False
    """Events that no window reads matter all the same."""
    needs_event: bool = True
    """The alert tells of the event itself."""
    names_acts: bool = False
    """The ids of its alerts are made of those of events: these tell acts under one Audit-ID from
    each other by themselves, whichever came first."""
    uses_now: bool = False
    """The operand may hang on the time of the run."""
    sparing: Callable[[], Callable[[Operand, int], bool]] | None = None
    """Makes what tells, of the operands of a log in turn with their times in milliseconds, which
    of them need no event: no run can find one of these new."""


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
    operation: Operation | None = None
    """None: each match is an alert of its own."""


def match_of(rule: int, plan: RulePlan, event: Event) -> Match | None:
    """The match of an event that met a rule's filter.

    None where the rule's answer depends on the run's time, and no run that reads the event is met.
    """
    timestamp_us = event_time_us(event)
    time_us = timestamp_us if plan.place is None else plan.place(event)
    if plan.operation is not None:
        return _operand_match(rule, plan, plan.operation, event, time_us, timestamp_us)
    asked_again = False
    if plan.retest is not None:
        meets = _meets_in_runs(plan, event, time_us, timestamp_us)
        if meets is False:
            return None
        asked_again = meets is None
    identity = alert_id(event, plan.rule_id)
    payload = pack(identity, event)
    return rule, time_us, timestamp_us, asked_again, identity, act_mark(event), payload


def _operand_match(
    rule: int,
    plan: RulePlan,
    operation: Operation,
    event: Event,
    time_us: int | None,
    timestamp_us: int | None,
) -> Match | None:
    """What depends on the run's time is asked of the first run that reads the event."""
    now_ms = 0
    instant_us = timestamp_us if time_us is None else time_us
    if instant_us is not None and (operation.uses_now or plan.retest is not None):
        now_ms = plan.schedule.ticks(instant_us // 1000)[0] * plan.schedule.interval_ms
    if plan.retest is not None and not plan.retest(event, now_ms):
        return None
    operand = operation.operand(event, now_ms)
    if operand is None:
        return None
    mark = act_mark(event)
    identity = alert_id(event, plan.rule_id, act=mark if operation.names_acts else None)
    groups = None if operation.groups is None else operation.groups(event)
    packed = pack(identity, event) if operation.needs_event else b""
    operated = identity, operand, groups, packed
    return rule, time_us, timestamp_us, False, identity, mark, operated


def unpack_operand(payload: bytes | Operated) -> Operated:
    """What is carried by the match of a rule with an operation."""
    assert type(payload) is tuple
    return payload


def size_bytes(payload: bytes | Operated) -> int:
    """About what a match's payload takes in memory, beside what each match does."""
    if type(payload) is tuple:
        return _OPERATED_BYTES + len(payload[3])
    return len(payload)


def with_identity(payload: bytes | Operated, identity: str) -> bytes | Operated:
    """The payload of a match that is known by another id."""
    if type(payload) is bytes:
        return pack(identity, unpack(payload)[1])
    _, operand, groups, packed = unpack_operand(payload)
    return identity, operand, groups, packed and pack(identity, unpack(packed)[1])


def as_past(match: Match) -> Match:
    """The match, of a rule that looks back, as one of the past: it alerts in no run."""
    rule, time_us, timestamp_us, _, identity, mark, payload = match
    _, operand, groups, _ = unpack_operand(payload)
    return rule, time_us, timestamp_us, PAST, identity, mark, (identity, operand, groups, b"")


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
            event.is_bound,
            event.ingested_us,
        )
    )


def unpack(payload: bytes) -> tuple[str, Event]:
    """What `pack` packed."""
    identity, raw, is_document, *rest = marshal.loads(payload)  # packed just above
    return identity, Event(loads(raw), is_document, raw, 0, *rest)
