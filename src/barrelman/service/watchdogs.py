"""What would otherwise go unseen, as alerts of the service's own: silence, loss, lateness.

A watch is raised when its condition begins, once more each time it has lasted `repeat_seconds`, and
closed by the service when it ends. What is raised is remembered, so that a restart raises nothing
twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from barrelman.records.frozen import frozen
from barrelman.records.times import format_instant
from barrelman.service.alerting import Alerting
from barrelman.store import alerts as alerts_table
from barrelman.store import watches as watches_table
from barrelman.store.alerts import NewAlert
from barrelman.store.database import Database
from barrelman.store.watches import Watch

if TYPE_CHECKING:
    from barrelman.store.database import Connection

_LOG = logging.getLogger("barrelman.watchdogs")

JsonObject: TypeAlias = dict[str, Any]
BY: Final = "barrelman"
_NAMESPACE: Final = uuid.UUID("0b0ff6ad-6f0c-4d0f-93a5-6f0f4f6f2c11")
_SECOND_US: Final = 1_000_000
_MOST_LOSSES: Final = 20
_RATE_SECONDS: Final = 60.0
_SETTLE_SECONDS: Final = 120.0
"""So long after a start counts and errors of the last process may still be missing."""
_MOST_FORMER: Final = 50


@frozen
class WatchdogOptions:
    """Thresholds; 0 switches a watch off. `silent_after` overrides the default by cluster."""

    silent_after_seconds: float = 900.0
    silent_after: dict[str, float] = field(default_factory=dict)
    refused_per_minute: float = 30.0
    malformed_per_minute: float = 60.0
    clock_skew_seconds: float = 300.0
    disk_free_percent: float = 10.0
    disk_free_bytes: int = 1 << 30
    failed_runs: int = 3
    capped_runs: int = 6
    late_seconds: float = 300.0
    sink_seconds: float = 900.0
    repeat_seconds: float = 6 * 3600.0


@frozen
class Kind:
    """A watch: its name as people read it, how bad it is, and what to do."""

    name: str
    severity: str
    risk_score: int
    note: str


KINDS: Final[dict[str, Kind]] = {
    "silent": Kind(
        "Cluster Gone Silent",
        "high",
        73,
        "No audit event has come from this cluster for longer than it may be silent. Either its "
        "API server is down, its audit webhook cannot reach the service, or someone has switched "
        "auditing off. Look at the API server's log for lines about the audit webhook, and at its "
        "flags and policy for changes.",
    ),
    "refused": Kind(
        "Audit Intake Refused",
        "medium",
        47,
        "Requests to take in events were turned away: a wrong or expired key, a key of another "
        "cluster, or bodies that cannot be read. An API server that is refused loses its events "
        "after five tries.",
    ),
    "malformed": Kind(
        "Audit Events Malformed",
        "medium",
        47,
        "Much of what comes from this cluster is no audit event. Who sends it, and is a shipper "
        "on the way cutting or wrapping lines?",
    ),
    "skew": Kind(
        "Clock Skew",
        "low",
        21,
        "Clocks disagree: events say that they happened in the future, or this machine's clock "
        "was set back. Windows go by arrival, so nothing is missed, but times in alerts mislead.",
    ),
    "disk": Kind(
        "Disk Nearly Full",
        "high",
        73,
        "When the disk is full, events are refused until there is room. Lower `store."
        "retention_days` or `store.retention_bytes`, or give the data folder a larger disk.",
    ),
    "failing": Kind(
        "Rule Failing",
        "medium",
        47,
        "The last runs of this rule failed: it watches nothing. The run's message says why.",
    ),
    "capped": Kind(
        "Rule Always Capped",
        "medium",
        47,
        "Each of the last runs of this rule met its cap, and matches were left out. An attack can "
        "hide among them: narrow the query, add an exception, or raise `max_signals`.",
    ),
    "crowded": Kind(
        "Rule State Full",
        "medium",
        47,
        "A run of this rule had more groups, or more unfinished sequences, than one may hold, and "
        "let go of the oldest: what they would have come to is not alerted. An attack can hide in "
        "such a crowd: narrow the query, or group by fields whose values no client can make up.",
    ),
    "late": Kind(
        "Runs Late",
        "high",
        73,
        "Runs begin much later than they are due: there are more rules or events than this "
        "machine can search. Nothing is skipped, but scheduled alerts come late.",
    ),
    "sink": Kind(
        "Alerts Not Delivered",
        "high",
        73,
        "A sink has not taken alerts for a long time. They wait, and none is lost; but nobody "
        "sees them there.",
    ),
    "files": Kind(
        "Followed Files Not Read",
        "high",
        73,
        "Log files that are to be followed are not there, or cannot be read. What is written to "
        "them is not seen until they can: check paths, rights and mounts.",
    ),
    "loss": Kind(
        "Stored Events Damaged",
        "critical",
        99,
        "Files of the store were damaged or could not be read. What was saved and what was not "
        "stands in the reason; the damaged files were set aside.",
    ),
    "stalled": Kind(
        "Part Of The Service Stalled",
        "critical",
        99,
        "A part of the service cannot do its work; the reason stands above. It is tried again "
        "without end.",
    ),
}


class Condition(NamedTuple):
    """Something that is so now. `subject`: what it concerns, "" for the service as a whole."""

    kind: str
    subject: str
    reason: str


@dataclass
class ClusterSight:
    """What is known of one cluster, counted since the service began."""

    last_arrival_us: int = 0
    """As the store remembers it, which may be late of events before the start."""
    heard_us: int = 0
    """When the last event since the start came; 0 where none did."""
    last_event_us: int = 0
    refused: int = 0
    malformed: int = 0
    is_expected: bool = False


class SinkSight(NamedTuple):
    """A sink whose oldest alert waits for so many seconds, or that gave some up for good."""

    waits_seconds: float
    dead: int
    last_error: str


@dataclass
class Sight:
    """All that the watchdogs look at, at one time."""

    now_us: int
    clusters: dict[str, ClusterSight] = field(default_factory=dict)
    clock_ahead_us: int = 0
    clock_jumped_us: int = 0
    disk_total_bytes: int = 0
    disk_free_bytes: int = 0
    late_ms: int = 0
    streaks: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    """By rule: its name, how many runs failed, how many were capped, in a row."""
    crowded: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By rule: its name, and how many groups its last run let go of."""
    sinks: dict[str, SinkSight] = field(default_factory=dict)
    """Those that do not take everything."""
    files: dict[str, str] = field(default_factory=dict)
    """By cluster: why files of it are not followed."""
    faults: Sequence[str] = ()
    stalled: dict[str, str] = field(default_factory=dict)


class Watchdogs:
    """`look` gives what there is to see; `check` is called every few seconds."""

    def __init__(
        self,
        database: Database,
        alerting: Alerting,
        *,
        options: WatchdogOptions,
        look: Callable[[], Sight],
        started_us: int,
    ) -> None:
        self._database = database
        self._alerting = alerting
        self._options = options
        self._look = look
        self._started_us = started_us
        self._rates: dict[tuple[str, str], deque[tuple[int, int]]] = {}
        self._active: dict[tuple[str, str], Watch] = {
            (each.kind, each.subject): each
            for each in database.read(watches_table.all)
            if each.state == "active"
        }
        self._inherited = frozenset(self._active)

    def active(self) -> list[Watch]:
        """Those whose condition lasts."""
        return list(self._active.values())

    def check(self) -> None:
        """Raises what has begun, closes what has ended."""
        sight = self._look()
        found = {(each.kind, each.subject): each for each in self._conditions(sight)}
        repeat_us = int(self._options.repeat_seconds * _SECOND_US)
        for key, condition in found.items():
            known = self._active.get(key)
            is_long = known is not None and sight.now_us - known.raised_us >= repeat_us > 0
            if known is None or is_long:
                self._raise(condition, known, sight.now_us)
        for key in self._active.keys() - found.keys():
            if key not in self._inherited or self._has_settled(sight.now_us):
                self._close(self._active[key], sight.now_us)

    def _has_settled(self, now_us: int) -> bool:
        return now_us - self._started_us >= _SETTLE_SECONDS * _SECOND_US

    # --- conditions ---

    def _conditions(self, sight: Sight) -> Iterator[Condition]:
        for name, cluster in sight.clusters.items():
            yield from self._of_cluster(name, cluster, sight)
        yield from self._of_machine(sight)
        options = self._options
        for rule_uuid, (name, failed, capped) in sight.streaks.items():
            if options.failed_runs and failed >= options.failed_runs:
                yield Condition("failing", rule_uuid, f"the last {failed} runs of '{name}' failed")
            if options.capped_runs and capped >= options.capped_runs:
                reason = f"the last {capped} runs of '{name}' met its cap"
                yield Condition("capped", rule_uuid, reason)
        for rule_uuid, (name, evicted) in sight.crowded.items():
            reason = f"the last run of '{name}' let go of {evicted:,} groups for want of room"
            yield Condition("crowded", rule_uuid, reason)
        for name, sink in sight.sinks.items():
            yield from self._of_sink(name, sink)
        for name, why in sight.files.items():
            yield Condition("files", name, f"files of '{name}' are not followed: {why}")
        for fault in sight.faults[:_MOST_LOSSES]:  # each is heard of, also the one that comes later
            yield Condition("loss", hashlib.sha256(fault.encode()).hexdigest()[:12], fault)
        for name, why in sight.stalled.items():
            yield Condition("stalled", name, f"the {name} cannot do its work: {why}")

    def _of_sink(self, name: str, sink: SinkSight) -> Iterator[Condition]:
        limit = self._options.sink_seconds
        if not limit:
            return
        if sink.dead:
            reason = f"the sink '{name}' gave up {sink.dead} alerts: {sink.last_error}"
            yield Condition("sink", name, reason)
        elif sink.waits_seconds >= limit:
            waits = _span(sink.waits_seconds)
            reason = f"the sink '{name}' has taken nothing for {waits}: {sink.last_error}"
            yield Condition("sink", name, reason)

    def _of_cluster(self, name: str, cluster: ClusterSight, sight: Sight) -> Iterator[Condition]:
        options = self._options
        limit = options.silent_after.get(name, options.silent_after_seconds)
        known = self._active.get(("silent", name))
        if known is None:
            since_us = max(cluster.last_arrival_us, self._started_us)
        else:  # a restart ends no silence
            since_us = max(cluster.heard_us, known.since_us - round(limit * _SECOND_US))
        silent = (sight.now_us - since_us) / _SECOND_US
        if limit and silent >= limit and (cluster.last_arrival_us or cluster.is_expected):
            last = (
                f"the last one came at {format_instant(cluster.last_arrival_us // 1000)}"
                if cluster.last_arrival_us
                else "none ever came"
            )
            yield Condition("silent", name, f"no event from '{name}' for {_span(silent)}; {last}")
        for kind, count, most in (
            ("refused", cluster.refused, options.refused_per_minute),
            ("malformed", cluster.malformed, options.malformed_per_minute),
        ):
            rate = self._rate(kind, name, count, sight.now_us)
            if most and rate >= most:
                what = "requests were refused" if kind == "refused" else "items were malformed"
                yield Condition(kind, name, f"{rate:.0f} {what} in a minute from '{name}'")
        ahead = (cluster.last_event_us - sight.now_us) / _SECOND_US
        if options.clock_skew_seconds and ahead >= options.clock_skew_seconds:
            reason = f"events of '{name}' are {_span(ahead)} ahead of this machine's clock"
            yield Condition("skew", name, reason)

    def _of_machine(self, sight: Sight) -> Iterator[Condition]:
        options = self._options
        back = sight.clock_ahead_us / _SECOND_US
        if options.clock_skew_seconds and back >= options.clock_skew_seconds:
            reason = f"this machine's clock was set back by {_span(back)}"
            yield Condition("skew", "", reason)
        ahead = sight.clock_jumped_us / _SECOND_US
        if options.clock_skew_seconds and ahead >= options.clock_skew_seconds:
            reason = f"this machine's clock was put forward by {_span(ahead)}"
            yield Condition("skew", "forward", reason)
        if sight.disk_total_bytes:
            free = 100 * sight.disk_free_bytes / sight.disk_total_bytes
            if (free < options.disk_free_percent and options.disk_free_percent) or (
                sight.disk_free_bytes < options.disk_free_bytes
            ):
                mib = sight.disk_free_bytes // (1 << 20)
                yield Condition("disk", "", f"{free:.1f} % ({mib:,} MiB) of the disk is free")
        late = sight.late_ms / 1000
        if options.late_seconds and late >= options.late_seconds:
            yield Condition("late", "", f"runs are {_span(late)} late")

    def _rate(self, kind: str, subject: str, count: int, now_us: int) -> float:
        """How many came in the last minute, or a little more."""
        seen = self._rates.setdefault((kind, subject), deque([(self._started_us, 0)]))
        seen.append((now_us, count))
        minute_us = _RATE_SECONDS * _SECOND_US
        while len(seen) > 2 and now_us - seen[1][0] >= minute_us:
            seen.popleft()
        then_us, then = seen[0]
        return (count - then) * minute_us / max(now_us - then_us, minute_us)

    # --- alerts ---

    def _raise(self, condition: Condition, known: Watch | None, now_us: int) -> None:
        since_us = now_us if known is None else known.since_us
        alert = notice(condition, since_us=since_us, now_us=now_us)
        watch = Watch(
            kind=condition.kind,
            subject=condition.subject,
            state="active",
            since_us=since_us,
            raised_us=now_us,
            alert_id=alert.id,
            detail={"reason": condition.reason, "former": _former(known)},
        )
        self._alerting.raise_notice(alert, within=lambda c: watches_table.put(c, watch))
        self._active[condition.kind, condition.subject] = watch
        _LOG.warning("%s: %s", alert.rule_name, condition.reason)

    def _close(self, watch: Watch, now_us: int) -> None:
        def write(connection: Connection) -> None:
            watches_table.delete(connection, watch.kind, watch.subject)
            raised = alerts_table.select(connection, ids=[*_former(watch)])
            alerts_table.change(
                connection,
                [alert.id for alert in list(raised) if alert.status != "closed"],
                by=BY,
                at_us=now_us,
                status="closed",
                reason="issue_resolved",
                note="it is over",
            )

        self._database.write(write)
        del self._active[watch.kind, watch.subject]
        _LOG.info("over: %s %s", KINDS[watch.kind].name, watch.subject)


def _former(watch: Watch | None) -> list[str]:
    """All alerts that a watch has raised, the last ones of very many."""
    if watch is None:
        return []
    raised = [*watch.detail.get("former", ()), *([watch.alert_id] if watch.alert_id else ())]
    return raised[-_MOST_FORMER:]


def notice(condition: Condition, *, since_us: int, now_us: int) -> NewAlert:
    """The alert of a condition."""
    kind = KINDS[condition.kind]
    rule_id = f"barrelman-watchdog-{condition.kind}"
    rule_uuid = str(uuid.uuid5(_NAMESPACE, rule_id))
    made_of = f"{rule_id} {condition.subject} {since_us} {now_us}"
    alert_id = uuid.uuid5(_NAMESPACE, made_of).hex * 2
    at = format_instant(now_us // 1000)
    cluster = (
        condition.subject if condition.kind in ("silent", "refused", "malformed", "files") else ""
    )
    if condition.kind == "skew" and condition.subject != "forward":
        cluster = condition.subject
    document: JsonObject = {
        "@timestamp": at,
        "event": {"kind": "signal", "dataset": "barrelman.watchdogs"},
        "kibana.space_ids": ["default"],
        "kibana.alert.uuid": alert_id,
        "kibana.alert.status": "active",
        "kibana.alert.workflow_status": "open",
        "kibana.alert.workflow_tags": [],
        "kibana.alert.workflow_assignee_ids": [],
        "kibana.alert.original_time": format_instant(since_us // 1000),
        "kibana.alert.ancestors": [],
        "kibana.alert.depth": 0,
        "kibana.alert.reason": f"{condition.reason} ({kind.severity} alert {kind.name}).",
        "kibana.alert.severity": kind.severity,
        "kibana.alert.risk_score": kind.risk_score,
        "kibana.alert.start": at,
        "kibana.alert.last_detected": at,
        "kibana.alert.rule.uuid": rule_uuid,
        "kibana.alert.rule.rule_id": rule_id,
        "kibana.alert.rule.name": kind.name,
        "kibana.alert.rule.category": "Watchdog",
        "kibana.alert.rule.rule_type_id": "barrelman.watchdog",
        "kibana.alert.rule.consumer": "siem",
        "kibana.alert.rule.producer": "barrelman",
        "kibana.alert.rule.description": kind.note,
        "kibana.alert.rule.note": kind.note,
        "kibana.alert.rule.severity": kind.severity,
        "kibana.alert.rule.risk_score": kind.risk_score,
        "kibana.alert.rule.tags": ["Barrelman", "Watchdog"],
        "kibana.alert.rule.parameters": {"kind": condition.kind, "subject": condition.subject},
    }
    if cluster:
        document["orchestrator"] = {"type": "kubernetes", "cluster": {"name": cluster}}
    return NewAlert(
        id=alert_id,
        kind="watchdog",
        rule_uuid=rule_uuid,
        rule_id=rule_id,
        rule_name=kind.name,
        severity=kind.severity,
        risk_score=float(kind.risk_score),
        cluster=cluster,
        tick_ms=now_us // 1000,
        created_us=now_us,
        event_time_us=since_us,
        building_block=False,
        document=json.dumps(document),
    )


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
