"""Alerts in Elastic's schema."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from samples import event as event_data
from samples import rule as rule_data

from barrelman.detection.alert import Alert, AlertBuilder
from barrelman.detection.finding import Raised
from barrelman.detection.identity import alert_id
from barrelman.detection.redact import MASK
from barrelman.detection.source import is_own_descendant
from barrelman.engine.compile import compile_query
from barrelman.engine.decode import dumps, loads
from barrelman.records.event import Event, JsonObject
from barrelman.records.fields import AUDIT_CATALOGUE
from barrelman.rules.assign import rule_predicate
from barrelman.rules.load import load_rules
from barrelman.rules.rule import Rule

TICK_MS = 1_795_417_800_000
TICK = "2026-11-23T07:10:00.000Z"


def rule(**changes: Any) -> Rule:
    (loaded,) = load_rules(json.dumps(rule_data(**changes)), path="r.json").rules
    assert loaded.rule is not None, loaded.reason
    return loaded.rule


def built(event: Event, made: Rule | None = None, *, redacted: bool = True) -> Alert:
    made = made or rule()
    predicate = compile_query(rule_predicate(made), AUDIT_CATALOGUE)
    identity = alert_id(event, made.rule_id)
    builder = AlertBuilder(made, predicate, redacted=redacted)
    return builder.build(Raised(0, TICK_MS, identity, event))


def document_of(body: JsonObject, **more: Any) -> Event:
    return Event(body, is_document=True, **more)


def test_a_raw_event_whole() -> None:
    event = Event(event_data(1), cluster="prod")
    written = built(event).document
    alert = {key: written[key] for key in written if not key.startswith("kibana.alert.rule.")}
    audit = event_data(1)
    audit["requestObject"].pop("metadata")
    audit["annotations"] = {"authorization_k8s_io/decision": "allow"}
    assert alert == {
        "@timestamp": TICK,
        "event": {
            "kind": "signal",
            "action": "create",
            "dataset": "kubernetes.audit_logs",
            "outcome": "success",
        },
        "data_stream": {
            "type": "logs",
            "dataset": "kubernetes.audit_logs",
            "namespace": "default",
        },
        "user": {"name": "eve"},
        "user_agent": {"original": "kubectl/v1.31.0"},
        "source": {"ip": ["203.0.113.7"]},
        "client": {"ip": ["203.0.113.7"]},
        "related": {"user": ["eve"], "ip": ["203.0.113.7"]},
        "orchestrator": {
            "type": "kubernetes",
            "api_version": "audit.k8s.io/v1",
            "cluster": {"name": "prod"},
            "resource": {"type": "pods", "name": "p1"},
            "namespace": "shop",
        },
        "container": {"image": {"name": "nginx"}},
        "kubernetes": {"audit": audit},
        "kibana.alert.original_time": "2026-11-23T12:01:00.000Z",
        "kibana.alert.original_event.kind": "event",
        "kibana.alert.original_event.action": "create",
        "kibana.alert.original_event.dataset": "kubernetes.audit_logs",
        "kibana.alert.original_event.outcome": "success",
        "kibana.alert.original_data_stream.type": "logs",
        "kibana.alert.original_data_stream.dataset": "kubernetes.audit_logs",
        "kibana.alert.original_data_stream.namespace": "default",
        "kibana.space_ids": ["default"],
        "kibana.alert.uuid": alert_id(event, rule().rule_id),
        "kibana.alert.status": "active",
        "kibana.alert.workflow_status": "open",
        "kibana.alert.workflow_tags": [],
        "kibana.alert.workflow_assignee_ids": [],
        "kibana.alert.ancestors": [
            {
                "id": f"{audit['auditID']}/ResponseComplete",
                "type": "event",
                "index": "logs-kubernetes.audit_logs-default",
                "depth": 0,
            }
        ],
        "kibana.alert.depth": 1,
        "kibana.alert.reason": (
            "event with source 203.0.113.7, by eve created low alert Anything in shop."
        ),
        "kibana.alert.severity": "low",
        "kibana.alert.risk_score": 21,
        "kibana.alert.start": TICK,
        "kibana.alert.last_detected": TICK,
        "kibana.alert.intended_timestamp": TICK,
        "kibana.alert.maintenance_window_ids": [],
    }


def test_the_rule_travels_along() -> None:
    made = rule(
        note="## Triage",
        references=["https://example.org"],
        tags=["T"],
        version=2,
        author=["We"],
        license="Apache-2.0",
        false_positives=["fp"],
        setup="s",
        throttle="rule",
        timestamp_override="event.ingested",
        building_block_type="default",
        threat=[
            {"framework": "MITRE ATT&CK", "tactic": {"id": "TA0004", "name": "n", "reference": "r"}}
        ],
        **{"from": "now-9m", "interval": "3m", "meta": {"from": "6m"}},
    )
    written = built(Event(event_data(1)), made).document
    assert written["kibana.alert.building_block_type"] == "default"
    copied = {
        key.removeprefix("kibana.alert.rule."): value
        for key, value in written.items()
        if key.startswith("kibana.alert.rule.")
    }
    expected = {
        "uuid": made.uuid,
        "rule_id": made.rule_id,
        "name": "Anything in shop",
        "category": "Custom Query Rule",
        "rule_type_id": "siem.queryRule",
        "consumer": "siem",
        "producer": "siem",
        "indices": ["logs-kubernetes.*"],
        "note": "## Triage",
        "references": ["https://example.org"],
        "tags": ["T"],
        "version": 2,
        "author": ["We"],
        "license": "Apache-2.0",
        "false_positives": ["fp"],
        "setup": "s",
        "throttle": "rule",
        "timestamp_override": "event.ingested",
        "building_block_type": "default",
        "from": "now-9m",
        "to": "now",
        "interval": "3m",
        "max_signals": 100,
        "severity": "low",
        "risk_score": 21,
        "type": "query",
        "enabled": True,
        "description": "d",
        "meta": {"from": "6m"},
        "severity_mapping": [],
        "risk_score_mapping": [],
        "exceptions_list": [],
        "actions": [],
        "execution.timestamp": TICK,
        "execution.type": "scheduled",
    }
    assert {key: copied.get(key) for key in expected} == expected
    assert copied["threat"][0]["tactic"]["id"] == "TA0004"
    assert copied["parameters"]["query"] == made.query
    assert copied["parameters"]["index"] == ["logs-kubernetes.*"]
    assert "building_block_type" not in built(Event(event_data(1))).document
    assert "kibana.alert.building_block_type" not in built(Event(event_data(1))).document


def test_a_saved_query_says_what_it_is() -> None:
    made = rule(type="saved_query", saved_id="s")
    written = built(Event(event_data(1)), made).document
    assert written["kibana.alert.rule.category"] == "Saved Query Rule"
    assert written["kibana.alert.rule.rule_type_id"] == "siem.savedQueryRule"


def test_one_run_has_one_id_whatever_it_raises() -> None:
    key = "kibana.alert.rule.execution.uuid"
    one, other = (built(Event(event_data(n))).document for n in (1, 2))
    assert one[key] == other[key]
    made = rule(rule_id="22222222-0000-4000-8000-000000000002")
    assert built(Event(event_data(1)), made).document[key] != one[key]


def test_equal_input_gives_equal_bytes() -> None:
    first = dumps(built(Event(event_data(1))).document)
    again = Event(loads(dumps(event_data(1))), line=9, raw=b"{}")
    assert dumps(built(again).document) == first
    assert b"\n" not in first
    made = rule()
    predicate = compile_query(rule_predicate(made), AUDIT_CATALOGUE)
    builder = AlertBuilder(made, predicate)
    built_twice = [builder.build(Raised(0, TICK_MS, "x", Event(event_data(1)))) for _ in "12"]
    assert dumps(built_twice[0].document) == dumps(built_twice[1].document)


def test_nothing_that_went_in_is_changed() -> None:
    bodies = [event_data(1), {"event": {"kind": "event"}, "kibana": {"x": 1}, "user.name": "u"}]
    for body, is_document in zip(bodies, (False, True), strict=True):
        before = copy.deepcopy(body)
        made = rule(meta={"a": 1}, severity_mapping=[severity_mapping("user.name", "u")])
        parameters = copy.deepcopy(made.parameters)
        built(Event(body, is_document=is_document, cluster="c"), made)
        assert body == before
        assert made.parameters == parameters


def severity_mapping(field: str, value: str, severity: str = "high") -> dict[str, str]:
    return {"field": field, "operator": "equals", "value": value, "severity": severity}


def test_overrides_are_in_the_alert_and_its_sentence() -> None:
    made = rule(
        severity_mapping=[severity_mapping("user.name", "eve")],
        risk_score_mapping=[
            {"field": "kubernetes.audit.responseStatus.code", "operator": "equals", "value": ""}
        ],
        rule_name_override="orchestrator.resource.name",
        meta={"a": 1},
    )
    body = event_data(1, responseStatus={"code": 99})
    alert = built(Event(body), made)
    written = alert.document
    assert (alert.severity, alert.rule_name) == ("high", "p1")
    assert written["kibana.alert.severity"] == "high"
    assert written["kibana.alert.risk_score"] == 99
    assert written["kibana.alert.rule.name"] == "p1"
    assert written["kibana.alert.reason"].endswith("by eve created high alert p1.")
    assert written["kibana.alert.rule.meta"] == {"a": 1, "severityOverrideField": "user.name"}
    # The rule's own values stay in the copy.
    assert written["kibana.alert.rule.severity"] == "low"
    assert written["kibana.alert.rule.risk_score"] == 21
    assert written["kibana.alert.rule.parameters"]["name"] == "Anything in shop"


# --- documents ----------------------------------------------------------------------------


def test_a_document_keeps_its_shape_but_for_what_only_alerts_have() -> None:
    body = {
        "@timestamp": "2026-11-23T07:06:00.5Z",
        "event": {"kind": "event", "action": "x", "deep": {"er": 1}},
        "user.name": "u",
        "user": {"roles": ["a", "b"]},
        "signal": {"rule": 1},
        "signal.status": "open",
        "threshold_result": 5,
        "threshold_result.x": 5,
        "kibana": {"version": "8"},
        "kibana.alert.status": "closed",
        "signals": "kept",
        "empty": [],
        "none": None,
    }
    written = built(document_of(body)).document
    assert {k: v for k, v in written.items() if not k.startswith("kibana.")} == {
        "@timestamp": TICK,
        "event": {"kind": "signal", "action": "x", "deep": {"er": 1}},
        "user.name": "u",
        "user": {"roles": ["a", "b"]},
        "signals": "kept",
        "empty": [],
        "none": None,
    }
    assert written["kibana.alert.status"] == "active"
    assert "kibana.version" not in written
    assert written["kibana.alert.original_time"] == "2026-11-23T07:06:00.500Z"
    assert written["kibana.alert.original_event.deep"] == {"er": 1}


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        ({"event.kind": "event", "event.action": "x"}, {"event.kind": "signal"}),
        ({"event": {"kind": "event"}, "event.kind": "e"}, {"event": {"kind": "signal"}}),
        ({"event": {"action": "x"}}, {"event": {"action": "x", "kind": "signal"}}),
        ({}, {"event.kind": "signal"}),
        ({"event": "odd"}, {"event": "odd", "event.kind": "signal"}),
    ],
)
def test_the_kind_is_signal_in_every_spelling(body: JsonObject, kinds: JsonObject) -> None:
    written = built(document_of(body)).document
    assert {k: v for k, v in written.items() if k in ("event", "event.kind")} == kinds


def test_dotted_originals() -> None:
    body = {"event.action": "x", "data_stream.dataset": "d", "eventful.x": 1}
    written = built(document_of(body)).document
    assert {k: v for k, v in written.items() if ".original_" in k} == {
        "kibana.alert.original_event.action": "x",
        "kibana.alert.original_data_stream.dataset": "d",
    }


def test_no_time_no_original_time() -> None:
    assert "kibana.alert.original_time" not in built(document_of({"a": 1})).document


def test_what_a_search_hit_says_of_itself_is_its_ancestry() -> None:
    event = document_of({"a": 1}, index=".ds-logs-x-default-2026.11.23-000001", document_id="d1")
    assert built(event).document["kibana.alert.ancestors"] == [
        {"id": "d1", "type": "event", "index": ".ds-logs-x-default-2026.11.23-000001", "depth": 0}
    ]


# --- alerts on alerts -----------------------------------------------------------------------

FIRST = {"id": "e1", "type": "event", "index": "logs-x", "depth": 0}
PARENT: JsonObject = {
    "@timestamp": TICK,
    "event": {"kind": "signal"},
    "kibana.alert.uuid": "parent",
    "kibana.alert.depth": 1,
    "kibana.alert.rule.uuid": "rule-of-parent",
    "kibana.alert.ancestors": [FIRST],
    "kibana.alert.original_event.kind": "event",
}
NESTED: JsonObject = {
    "kibana": {
        "alert": {
            "uuid": "parent",
            "depth": 1,
            "rule": {"uuid": "rule-of-parent"},
            "ancestors": [FIRST],
        }
    }
}


@pytest.mark.parametrize("body", [PARENT, NESTED], ids=["flat", "nested"])
def test_an_alert_on_an_alert_is_one_deeper(body: JsonObject) -> None:
    written = built(document_of(body)).document
    assert written["kibana.alert.depth"] == 2
    assert written["kibana.alert.ancestors"] == [
        FIRST,
        {
            "id": "parent",
            "type": "signal",
            "index": ".alerts-security.alerts-default",
            "depth": 1,
            "rule": "rule-of-parent",
        },
    ]
    assert written["kibana.alert.uuid"] != "parent"


def test_and_its_child_one_deeper_again() -> None:
    child = built(document_of(PARENT)).document
    grandchild = built(document_of(child)).document
    assert grandchild["kibana.alert.depth"] == 3
    assert [each["depth"] for each in grandchild["kibana.alert.ancestors"]] == [0, 1, 2]
    assert grandchild["kibana.alert.ancestors"][2]["rule"] == rule().uuid


@pytest.mark.parametrize(
    "more",
    [{"kibana.alert.depth": "x"}, {"kibana.alert.ancestors": "x"}, {"kibana.alert.depth": []}],
)
def test_odd_ancestry_stops_nothing(more: JsonObject) -> None:
    assert built(document_of(PARENT | more)).document["kibana.alert.depth"] == 2


@pytest.mark.parametrize(
    ("body", "own"),
    [
        ({"kibana.alert.uuid": "a", "kibana.alert.rule.uuid": "OWN"}, True),
        ({"kibana.alert.uuid": "a", "kibana.alert.rule.uuid": "other"}, False),
        ({"kibana.alert.uuid": "a", "kibana.alert.ancestors": [{"rule": "OWN"}]}, True),
        ({"kibana.alert.uuid": "a", "kibana.alert.ancestors": [{"id": 1}, {"rule": "OWN"}]}, True),
        ({"kibana": {"alert": {"uuid": "a", "ancestors": {"rule": ["OWN"]}}}}, True),
        ({"kibana.alert.uuid": "a", "kibana.alert.ancestors": [{"id": "OWN"}]}, False),
        ({"kibana.alert.rule.uuid": "OWN"}, False),
        ({"kibana.alert.uuid": "a"}, False),
    ],
)
def test_a_rule_does_not_feed_itself(body: JsonObject, own: bool) -> None:
    made = rule()
    body = json.loads(json.dumps(body).replace("OWN", made.uuid))
    assert is_own_descendant(document_of(body), made) is own
    assert not is_own_descendant(Event(body), made), "raw events are no alerts"


# --- secrets --------------------------------------------------------------------------------


def test_secrets_are_masked_wherever_the_alert_says_something() -> None:
    planted = "c3dvcmRmaXNo"
    body = event_data(
        1,
        userAgent=f"x Bearer {planted}",
        requestURI=f"/api/v1/secrets?token={planted}",
        objectRef={"resource": "secrets", "namespace": "shop", "name": "s"},
        requestObject={"kind": "Secret", "data": {"x": planted}},
    )
    made = rule(
        query="user_agent.original:* and kubernetes.audit.requestObject.data.x:* "
        f'and kubernetes.audit.requestObject.data.x:"{planted}"',
        rule_name_override="user_agent.original",
    )
    alert = built(Event(body), made)
    shown = {k: v for k, v in alert.document.items() if k != "kibana.alert.rule.parameters"}
    assert planted not in json.dumps(shown)
    assert planted not in str(alert.reasons)
    assert alert.reasons == [("kubernetes.audit.requestObject.data.x", MASK)]
    assert alert.rule_name == f"x Bearer {MASK}"


def test_unless_the_user_wants_to_see_them() -> None:
    body = event_data(1, userAgent="Bearer abcdef")
    body["objectRef"]["resource"] = "secrets"
    body["requestObject"] = {"data": {"x": "abcdef"}}
    written = built(Event(body), redacted=False).document
    assert written["user_agent"]["original"] == "Bearer abcdef"
    assert written["kubernetes"]["audit"]["requestObject"] == {"data": {"x": "abcdef"}}


def test_a_mapping_sees_the_value_that_is_masked() -> None:
    body = event_data(1, requestObject={"token": "abc"})
    field = "kubernetes.audit.requestObject.token"
    written = built(Event(body), rule(severity_mapping=[severity_mapping(field, "abc")])).document
    assert written["kibana.alert.severity"] == "high"
    assert written["kubernetes"]["audit"]["requestObject"]["token"] == MASK
