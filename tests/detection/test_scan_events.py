"""A scan from events to alerts: ranges, floors, clocks and accounts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from samples import START
from samples import event as event_data
from samples import rule as rule_data

from barrelman.detection.alert import Alert
from barrelman.detection.scan import Bound, RunnableRule, Scan, ScanOptions
from barrelman.engine.decode import dumps
from barrelman.query.ast import And, Before, Is, Node, Not, Text
from barrelman.records.event import Event, JsonObject
from barrelman.rules.assign import rule_predicate
from barrelman.rules.load import load_rules

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
START_US = (START - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
NOW_US = START_US + 30 * 24 * 60 * MINUTE_US
OTHER_ID = "22222222-0000-4000-8000-000000000002"


def runnable(*, extra: Node | None = None, **changes: Any) -> RunnableRule:
    (loaded,) = load_rules(json.dumps(rule_data(**changes)), path="r.json").rules
    assert loaded.rule is not None, loaded.reason
    node = rule_predicate(loaded.rule)
    return RunnableRule(loaded.rule, node if extra is None else And((node, extra)))


def scan_of(*rules: RunnableRule, now_us: int = NOW_US, **options: Any) -> Scan:
    return Scan(rules or (runnable(),), now_us=now_us, options=ScanOptions(**options))


def fed(scan: Scan, *bodies: JsonObject) -> list[Alert]:
    for body in bodies:
        scan.feed(Event(body))
    return list(scan.finish())


def names(alerts: list[Alert]) -> list[str]:
    return [alert.event.body["objectRef"]["name"] for alert in alerts]


def runs(alerts: list[Alert]) -> list[str]:
    return [str(alert.document["@timestamp"])[11:19] for alert in alerts]


def every_minute(count: int) -> list[JsonObject]:
    return [event_data(n, seconds=60 * n) for n in range(count)]


def test_alerts_come_by_run_and_age_whatever_the_order_read() -> None:
    bodies = every_minute(12)
    in_order = fed(scan_of(), *bodies)
    assert names(in_order) == [f"p{n}" for n in range(12)]
    assert runs(in_order) == ["12:05:00"] * 5 + ["12:10:00"] * 5 + ["12:15:00"] * 2
    for shuffled in (bodies[::-1], bodies[::2] + bodies[1::2]):
        again = fed(scan_of(), *shuffled)
        assert [dumps(alert.document) for alert in again] == [
            dumps(alert.document) for alert in in_order
        ]


def test_the_same_log_twice() -> None:
    scan = scan_of()
    assert len(fed(scan, *every_minute(5), *every_minute(5))) == 5
    counts = scan.counts.rules[0]
    assert (counts.matches, counts.raised, counts.duplicates) == (10, 5, 5)


def test_two_rules_alert_on_one_event_and_in_its_order() -> None:
    scan = scan_of(runnable(), runnable(rule_id=OTHER_ID, name="Other"))
    alerts = fed(scan, *every_minute(2))
    assert [(a.rule_name[0], a.event.body["objectRef"]["name"]) for a in alerts] == [
        ("A", "p0"),
        ("O", "p0"),
        ("A", "p1"),
        ("O", "p1"),
    ]
    assert len({alert.document["kibana.alert.uuid"] for alert in alerts}) == 4


@pytest.mark.parametrize(
    ("max_signals", "of_rule", "expected"),
    [(None, 3, 3), (None, 100, 8), (2, 100, 2), (20, 3, 8), (0, 3, 8)],
)
def test_max_signals(max_signals: int | None, of_rule: int, expected: int) -> None:
    scan = scan_of(runnable(max_signals=of_rule), max_signals=max_signals)
    alerts = fed(scan, *(event_data(n, seconds=n) for n in range(8)))
    assert len(alerts) == expected
    assert scan.counts.rules[0].capped == 8 - expected


# --- ranges -----------------------------------------------------------------------------


def at(minutes: float) -> Bound:
    return Bound(instant_us=START_US + int(minutes * MINUTE_US))


def back(minutes: float) -> Bound:
    return Bound(back_us=int(minutes * MINUTE_US))


RANGES: list[tuple[Bound, Bound, list[int]]] = [
    (Bound(), Bound(), [0, 1, 2, 3, 4, 5]),
    (at(2), Bound(), [2, 3, 4, 5]),
    (Bound(), at(2), [0, 1, 2]),
    (at(1), at(3), [1, 2, 3]),
    (at(1.001), at(2.999), [2]),
    (at(9), Bound(), []),
    (back(0), Bound(), [5]),
    (back(2), Bound(), [3, 4, 5]),
    (Bound(), back(2), [0, 1, 2, 3]),
    (back(4), back(2), [1, 2, 3]),
    (at(2), back(2), [2, 3]),
    (back(4), at(3), [1, 2, 3]),
    (back(1_000_000), Bound(), [0, 1, 2, 3, 4, 5]),
]


@pytest.mark.parametrize(("since", "until", "expected"), RANGES)
@pytest.mark.parametrize("order", [1, -1])
def test_ranges(since: Bound, until: Bound, expected: list[int], order: int) -> None:
    scan = scan_of(since=since, until=until)
    alerts = fed(scan, *every_minute(6)[::order])
    assert names(alerts) == [f"p{n}" for n in expected]
    left_out = scan.tally.outside + scan.counts.rules[0].outside
    assert left_out == 6 - len(expected)


def test_a_range_frees_the_places_of_what_lies_outside() -> None:
    bodies = [event_data(n, seconds=n) for n in range(60)]
    for since in (at(0.5), back(0.5 - 1 / 60)):
        alerts = fed(scan_of(runnable(max_signals=10), since=since), *bodies)
        assert names(alerts) == [f"p{n}" for n in range(30, 40)]


def test_the_end_of_the_log_counts_events_that_match_nothing() -> None:
    last = event_data(9, seconds=600, objectRef={"resource": "nodes", "name": "n"})
    assert names(fed(scan_of(since=back(8)), *every_minute(5), last)) == ["p2", "p3", "p4"]


def test_nothing_is_given_out_early_where_the_range_counts_from_the_end() -> None:
    scan = scan_of(since=back(1))
    for body in every_minute(3):
        scan.feed(Event(body))
    assert list(scan.advance(START_US + 60 * MINUTE_US)) == []
    assert names(list(scan.finish())) == ["p1", "p2"]


def test_events_without_a_time_lie_in_every_range_and_at_its_end() -> None:
    untimed = event_data(7, stageTimestamp=None, requestReceivedTimestamp=None)
    ranges: list[dict[str, Any]] = [{}, {"since": at(3)}, {"until": at(4)}, {"since": back(1)}]
    for options in ranges:
        scan = scan_of(**options)
        alerts = fed(scan, untimed, *every_minute(5))
        assert "p7" in names(alerts)
        assert runs(alerts)[names(alerts).index("p7")] == "12:05:00"
        assert scan.tally.untimed == 1
    lonely = fed(scan_of(now_us=START_US), untimed)
    assert runs(lonely) == ["12:05:00"]
    assert "kibana.alert.original_time" not in lonely[0].document


def test_a_log_that_ends_in_1970_ends_there() -> None:
    body = event_data(1, stageTimestamp="1970-01-01T00:00:00Z", requestReceivedTimestamp=None)
    untimed = event_data(2, stageTimestamp=None, requestReceivedTimestamp=None)
    alerts = fed(scan_of(), body, untimed)
    assert [alert.document["@timestamp"] for alert in alerts] == ["1970-01-01T00:00:00.000Z"] * 2


def test_absurd_times_stop_nothing() -> None:
    times: list[Any] = [
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
        999_999_999_999_999,
        -(10**14),
        1e300,
        "yesterday",
        {"x": 1},
    ]
    bodies = [
        event_data(n, stageTimestamp=time, requestReceivedTimestamp=None)
        for n, time in enumerate(times, 20)
    ]
    ranges: list[dict[str, Any]] = [{}, {"since": back(5)}, {"since": at(0)}]
    for options in ranges:
        scan = scan_of(**options)
        alerts = fed(scan, *bodies, *every_minute(3))
        assert {"p0", "p1", "p2"} <= set(names(alerts))
        counts = scan.counts.rules[0]
        assert counts.matches == counts.raised + counts.capped + counts.unplaced + counts.outside


# --- severity ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("least", "expected"), [("low", 3), ("medium", 2), ("high", 1), ("critical", 1)]
)
def test_least_severity_after_overrides(least: str, expected: int) -> None:
    mapped = runnable(
        severity_mapping=[
            {
                "field": "user.name",
                "operator": "equals",
                "value": "eve",
                "severity": "critical",
            }
        ]
    )
    medium = runnable(rule_id=OTHER_ID, severity="medium", query="user.name:bob")
    bob = {"username": "bob"}
    scan = scan_of(mapped, medium, least_severity=least)
    # eve: critical by mapping; bob: low by the first rule, medium by the second.
    alerts = fed(scan, event_data(1), event_data(2, seconds=1, user=bob))
    assert len(alerts) == expected
    assert scan.counts.alerts == expected
    assert scan.counts.below == 3 - expected
    assert sum(counts.raised for counts in scan.counts.rules) == 3


# --- timestamp_override -----------------------------------------------------------------


def document(name: str, minute: float | None, ingested: float | None) -> Event:
    def stamp(minutes: float) -> str:
        return (START + timedelta(minutes=minutes)).isoformat()

    body: JsonObject = {
        "kubernetes": {
            "audit": {"auditID": name, "stage": "Panic", "objectRef": {"namespace": "shop"}}
        }
    }
    if minute is not None:
        body["@timestamp"] = stamp(minute)
    if ingested is not None:
        body["event"] = {"ingested": stamp(ingested)}
    return Event(body, is_document=True)


BY_TIMESTAMP = ["both 12:05", "only time 12:05", "only ingested 13:05", "end 13:05"]
BY_INGESTION = ["only time 12:05", "only ingested 12:40", "both 13:05", "end 13:40"]


@pytest.mark.parametrize(
    ("override", "fallback", "expected"),
    [
        (None, True, BY_TIMESTAMP),
        ("@timestamp", True, BY_TIMESTAMP),
        ("@timestamp", False, BY_TIMESTAMP),
        ("event.ingested", True, BY_INGESTION),
        ("event.ingested", False, BY_INGESTION[1:]),
    ],
)
def test_timestamp_override(override: str | None, fallback: bool, expected: list[str]) -> None:
    made = runnable(timestamp_override=override, timestamp_override_fallback_disabled=not fallback)
    scan = scan_of(made)
    scan.feed(document("both", 1, 62))
    scan.feed(document("only time", 2, None))
    scan.feed(document("only ingested", None, 37))
    scan.feed(document("end", 62, 99))
    alerts = list(scan.finish())
    ids = [alert.event.body["kubernetes"]["audit"]["auditID"] for alert in alerts]
    assert [f"{name} {run[:5]}" for name, run in zip(ids, runs(alerts), strict=True)] == expected
    assert scan.counts.rules[0].unplaced == 4 - len(expected)


@pytest.mark.parametrize(("disabled", "expected"), [(False, ["p1"]), (True, [])])
def test_raw_events_have_no_time_of_ingestion(disabled: bool, expected: list[str]) -> None:
    made = runnable(
        timestamp_override="event.ingested", timestamp_override_fallback_disabled=disabled
    )
    scan = scan_of(made)
    assert names(fed(scan, event_data(1))) == expected
    assert scan.counts.rules[0].unplaced == len(expected) ^ 1


def test_a_raw_field_as_override() -> None:
    made = runnable(timestamp_override="kubernetes.audit.requestReceivedTimestamp")
    body = event_data(1, requestReceivedTimestamp="2026-11-23T10:02:00Z")
    (alert,) = fed(scan_of(made), body)
    assert alert.document["@timestamp"] == "2026-11-23T10:05:00.000Z"
    assert alert.document["kibana.alert.original_time"] == "2026-11-23T12:01:00.000Z"


# --- rules whose answer depends on the run's time ---------------------------------------


def test_an_exception_holds_until_it_expires() -> None:
    """It ends at 12:10: the run of that moment is the first that no longer knows it."""
    expiry_ms = (START_US + 9 * MINUTE_US) // 1000
    excepted = Not(And((Before(expiry_ms), Is(Text("user.name"), Text("eve")))))
    scan = scan_of(runnable(extra=excepted))
    bodies = every_minute(12)
    bodies[1]["user"] = {"username": "bob"}
    alerts = fed(scan, *bodies)
    assert names(alerts) == ["p1", *(f"p{n}" for n in range(3, 12))]
    assert runs(alerts)[:2] == ["12:05:00", "12:10:00"]
    counts = scan.counts.rules[0]
    assert (counts.matches, counts.raised, counts.capped) == (10, 10, 0)


def test_now_in_a_query_is_the_time_of_the_run() -> None:
    query = "kubernetes.audit.stageTimestamp < now-4m and kubernetes.audit.objectRef.namespace:shop"
    reach: dict[str, Any] = {"from": "now-10m"}
    alerts = fed(scan_of(runnable(query=query, **reach)), *every_minute(6))
    # 12:01 is more than four minutes before 12:10, its second run, and just four before 12:05.
    assert names(alerts) == [f"p{n}" for n in range(6)]
    assert runs(alerts) == ["12:10:00"] * 5 + ["12:15:00"]


# --- alerts as events -------------------------------------------------------------------


def test_a_rule_reads_alerts_but_never_its_own() -> None:
    on_alerts: dict[str, Any] = {
        "index": [".alerts-security.*"],
        "query": "kibana.alert.depth >= 1",
    }
    (first,) = fed(scan_of(), event_data(1))
    one = runnable(rule_id=OTHER_ID, **on_alerts)
    other = runnable(rule_id="33333333-0000-4000-8000-000000000003", **on_alerts)

    def reading(body: JsonObject, *rules: RunnableRule) -> list[JsonObject]:
        scan = scan_of(*rules)
        scan.feed(Event(body, is_document=True))
        return [alert.document for alert in scan.finish()]

    (second,) = reading(first.document, one)
    assert second["kibana.alert.depth"] == 2
    assert reading(second, one) == []
    (third,) = reading(second, one, other)
    assert third["kibana.alert.rule.rule_id"] == other.rule.rule_id
    assert reading(third, one, other) == []


# --- blind rules ------------------------------------------------------------------------


def blind_reason(scan: Scan, *bodies: JsonObject) -> str | None:
    fed(scan, *bodies)
    found = scan.blind()
    return found[0][1] if found else None


def test_a_rule_of_another_stream_is_blind() -> None:
    reason = blind_reason(scan_of(runnable(index=["logs-gcp.*"])), event_data(1))
    assert reason is not None
    assert "logs-gcp.*" in reason
    assert "logs-kubernetes.audit_logs-default" in reason


def test_a_rule_on_bodies_is_blind_where_there_are_none() -> None:
    query = "kubernetes.audit.requestObject.spec.hostIPC:true"
    bare = event_data(1, requestObject=None)
    reason = blind_reason(scan_of(runnable(query=query)), bare)
    assert reason is not None
    assert "requestObject" in reason
    assert blind_reason(scan_of(runnable(query=query)), bare, event_data(2, spec={})) is None
    assert blind_reason(scan_of(runnable(query=f"{query} or user.name:nobody")), bare) is None


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("gcp.audit.method_name:x", "gcp.audit.method_name"),
        ("kubernetes.audit.requestObject.metadata.name:x", "removed"),
        ("kubernetes.audit.annotations.authorization.k8s.io/decision:x", "_"),
    ],
)
def test_a_field_that_raw_events_never_have(query: str, word: str) -> None:
    reason = blind_reason(scan_of(runnable(query=query)), event_data(1))
    assert reason is not None
    assert word in reason


def test_silent_is_not_blind() -> None:
    assert blind_reason(scan_of(runnable(query="user.name:nobody")), event_data(1)) is None
    assert blind_reason(scan_of(runnable(query="gcp.audit.method_name:x"))) is None, "no events"
    scan = scan_of(runnable(query="gcp.audit.method_name:x"))
    scan.feed(document("d", 1, None))
    assert list(scan.finish()) == []
    assert scan.blind() == [], "documents may have any field"


# --- live -------------------------------------------------------------------------------


def test_alerts_of_runs_that_are_over_come_at_once() -> None:
    scan, whole = scan_of(), fed(scan_of(), *every_minute(14))
    alerts: list[Alert] = []
    early = 0
    for body in every_minute(14):
        scan.feed(Event(body))
        assert scan.tally.end_us is not None
        alerts.extend(scan.advance(scan.tally.end_us))
        early = len(alerts)
    alerts.extend(scan.finish())
    assert early == 10, "the runs of 12:05 and 12:10 are over at 12:14"
    assert [dumps(a.document) for a in alerts] == [dumps(a.document) for a in whole]
