"""Alerts of rules that look at several events, or fold repeats."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import replace
from typing import Any

import pytest
from samples import event as event_data
from samples import rule as rule_data

from barrelman.detection.alert import Alert, AlertBuilder, Enrich
from barrelman.detection.finding import (
    About,
    NewTerms,
    Raised,
    SequenceOf,
    Suppression,
    ThresholdResult,
)
from barrelman.detection.redact import MASK
from barrelman.engine.compile import compile_query
from barrelman.engine.decode import dumps
from barrelman.query.ast import MATCH_ALL
from barrelman.query.kql import parse_kql
from barrelman.records.event import Event, JsonObject
from barrelman.records.fields import AUDIT_CATALOGUE
from barrelman.rules.load import load_rules
from barrelman.rules.rule import Rule

TICK_MS = 1_795_417_800_000
TICK = "2026-11-23T07:10:00.000Z"
LAST_MS = TICK_MS - 61_000
LAST = "2026-11-23T07:08:59.000Z"
SECRET = "kubernetes.audit.requestObject.data.password"
NOTHING = Event({}, is_document=True)


def rule(**changes: Any) -> Rule:
    (loaded,) = load_rules(json.dumps(rule_data(**changes)), path="r.json").rules
    assert loaded.rule is not None, loaded.reason
    return loaded.rule


def threshold_rule(*fields: str, **changes: Any) -> Rule:
    return rule(type="threshold", threshold={"field": list(fields), "value": 3}, **changes)


def new_terms_rule(*fields: str) -> Rule:
    return rule(type="new_terms", new_terms_fields=list(fields), history_window_start="now-7d")


def eql_rule(**changes: Any) -> Rule:
    """As a query rule in all but its type: its query is nothing that an alert is made of."""
    made = rule(**changes)
    return replace(made, type="eql", parameters=made.parameters | {"type": "eql"})


def built_all(
    made: Rule,
    event: Event = NOTHING,
    *,
    events: tuple[Event, ...] = (),
    about: About | None = None,
    suppression: Suppression | None = None,
    redacted: bool = True,
    enrich: Enrich | None = None,
    **more: Any,
) -> list[Alert]:
    builder = AlertBuilder(
        made, compile_query(MATCH_ALL, AUDIT_CATALOGUE), redacted=redacted, enrich=enrich
    )
    raised = Raised(0, TICK_MS, "id", event, events, about, suppression)
    return builder.build_all(raised, **more)


def built(made: Rule, event: Event = NOTHING, **more: Any) -> Alert:
    (alert,) = built_all(made, event, **more)
    return alert


def document_of(body: JsonObject, **more: Any) -> Event:
    return Event(body, is_document=True, **more)


# --- which type -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "category", "type_id"),
    [
        (threshold_rule(), "Threshold Rule", "siem.thresholdRule"),
        (new_terms_rule("user.name"), "New Terms Rule", "siem.newTermsRule"),
        (eql_rule(), "Event Correlation Rule", "siem.eqlRule"),
        (
            rule(
                type="threat_match",
                threat_query="*:*",
                threat_index=["ti"],
                threat_mapping=[
                    {"entries": [{"field": "source.ip", "type": "mapping", "value": "ip"}]}
                ],
            ),
            "Indicator Match Rule",
            "siem.indicatorRule",
        ),
    ],
)
def test_the_rule_says_of_what_type_it_is(made: Rule, category: str, type_id: str) -> None:
    written = built(made, Event(event_data(1))).document
    assert written["kibana.alert.rule.category"] == category
    assert written["kibana.alert.rule.rule_type_id"] == type_id
    assert written["kibana.alert.rule.type"] == made.type


# --- threshold ----------------------------------------------------------------------------------


def result(**changes: Any) -> ThresholdResult:
    made: dict[str, Any] = {"count": 7, "from_ms": TICK_MS - 300_000, "last_ms": LAST_MS}
    made |= {"terms": (("user.name", "eve"),)}
    return ThresholdResult(**(made | changes))


def test_a_threshold_whole() -> None:
    made = threshold_rule("user.name", "source.ip")
    terms = (("user.name", "eve"), ("source.ip", "192.0.2.7"))
    about = result(terms=terms, cardinality=(("orchestrator.namespace", 4),), cluster="prod")
    alert = built(made, about=about)
    written = alert.document
    assert {k: v for k, v in written.items() if not k.startswith("kibana.alert.rule.")} == {
        "@timestamp": TICK,
        "user.name": "eve",
        "source.ip": "192.0.2.7",
        "orchestrator.cluster.name": "prod",
        "event.kind": "signal",
        "kibana.alert.original_time": LAST,
        "kibana.space_ids": ["default"],
        "kibana.alert.uuid": "id",
        "kibana.alert.status": "active",
        "kibana.alert.workflow_status": "open",
        "kibana.alert.workflow_tags": [],
        "kibana.alert.workflow_assignee_ids": [],
        "kibana.alert.ancestors": [
            {"id": "id", "type": "event", "index": "logs-kubernetes.*", "depth": 0}
        ],
        "kibana.alert.depth": 1,
        "kibana.alert.reason": (
            "event with source 192.0.2.7, by eve created low alert Anything in shop."
        ),
        "kibana.alert.severity": "low",
        "kibana.alert.risk_score": 21,
        "kibana.alert.start": TICK,
        "kibana.alert.last_detected": TICK,
        "kibana.alert.intended_timestamp": TICK,
        "kibana.alert.maintenance_window_ids": [],
        "kibana.alert.threshold_result": {
            "count": 7,
            "from": "2026-11-23T07:05:00.000Z",
            "terms": [
                {"field": "user.name", "value": "eve"},
                {"field": "source.ip", "value": "192.0.2.7"},
            ],
            "cardinality": [{"field": "orchestrator.namespace", "value": 4}],
        },
    }
    assert alert.reasons == [
        ("events", 7),
        ("different orchestrator.namespace", 4),
        ("user.name", "eve"),
        ("source.ip", "192.0.2.7"),
    ]
    assert alert.event.cluster == "prod"


def test_a_threshold_without_fields_is_about_no_one() -> None:
    written = built(threshold_rule(), about=result(terms=())).document
    assert written["kibana.alert.threshold_result"]["terms"] == []
    assert "cardinality" not in written["kibana.alert.threshold_result"]
    assert written["kibana.alert.reason"] == "event created low alert Anything in shop."
    assert "orchestrator.cluster.name" not in written


def test_a_threshold_of_no_index_and_of_several() -> None:
    for index, joined in ((None, ""), (["a-*", "b-*"], "a-*,b-*")):
        written = built(threshold_rule(index=index), about=result()).document
        assert written["kibana.alert.ancestors"][0]["index"] == joined


def test_a_group_overrides_what_an_event_may() -> None:
    mapping = {"field": "user.name", "operator": "equals", "value": "eve", "severity": "critical"}
    made = threshold_rule("user.name", severity_mapping=[mapping], rule_name_override="user.name")
    alert = built(made, about=result())
    assert (alert.severity, alert.rule_name) == ("critical", "eve")


def test_a_group_by_what_only_alerts_have_is_no_alert_on_an_alert() -> None:
    about = result(terms=(("kibana.alert.uuid", "a"), ("kibana.alert.depth", 3)))
    written = built(threshold_rule("kibana.alert.uuid"), about=about).document
    assert written["kibana.alert.uuid"] == "id"
    assert written["kibana.alert.depth"] == 1
    assert written["kibana.alert.threshold_result"]["terms"][0]["value"] == "a"


@pytest.mark.parametrize(
    ("field", "value", "more"),
    [
        (SECRET, "hunter2", ()),
        ("kubernetes.audit.requestObject.data.motto", "hunter2", ()),
        (
            "kubernetes.audit.requestObject.data.motto",
            "hunter2",
            (("kubernetes.audit.objectRef.resource", "secrets"),),
        ),
        ("kubernetes.audit.requestURI", "/x?token=hunter2", ()),
    ],
)
def test_a_group_shows_no_secret(field: str, value: str, more: tuple[tuple[str, str], ...]) -> None:
    about = result(terms=((field, value), *more))
    suppression = folded(terms=((field, value),))
    alert = built(threshold_rule(field), about=about, suppression=suppression)
    assert b"hunter2" not in dumps(alert.document)
    assert "hunter2" not in str(alert.reasons)
    alert = built(threshold_rule(field), about=about, redacted=False)
    assert value in str(alert.reasons)
    assert alert.document["kibana.alert.threshold_result"]["terms"][0]["value"] == value


BODY = "kubernetes.audit.requestObject"
RESOURCE = "kubernetes.audit.objectRef.resource"


@pytest.mark.parametrize("body", [BODY, "kubernetes.audit.responseObject"])
@pytest.mark.parametrize(
    "place",
    [
        "spec.containers.env.value",  # beside `name: DB_PASSWORD`
        "spec.containers.args",  # behind `--password`
        "spec.template.spec.initContainers.command",
        "spec.kubeletExtraArgs",
        "value",  # beside `path: /spec/token`
        "value.words",
        "spec.template.data.motto",  # beside `kind: Secret`
        "items.stringData.motto",
        "spec.manifests.metadata.annotations.kubectl.kubernetes.io/last-applied-configuration",
        "spec.extension.raw",
        "spec.password.name",  # beside `text: hunter2`, all of it is masked
    ],
)
def test_a_group_by_what_its_neighbours_would_mask_shows_no_secret(body: str, place: str) -> None:
    field = f"{body}.{place}"
    about = result(terms=((field, "hunter2"), (RESOURCE, "pods")))
    suppression = folded(terms=about.terms)
    made = threshold_rule(field, RESOURCE, rule_name_override=field)
    alert = built(made, about=about, suppression=suppression)
    assert b"hunter2" not in dumps(alert.document)
    assert "hunter2" not in str(alert.reasons) + alert.rule_name
    assert (RESOURCE, "pods") in alert.reasons
    assert b"hunter2" in dumps(built(made, about=about, redacted=False).document)


@pytest.mark.parametrize(
    "field",
    [
        f"{BODY}.spec.containers.image",
        f"{BODY}.spec.containers.env.name",
        f"{BODY}.spec.containers.securityContext.capabilities.add",
        f"{BODY}.metadata.name",
        f"{BODY}.roleRef.name",
        f"{BODY}.path",
        "process.args",
        "user.name",
    ],
)
def test_a_group_by_anything_else_shows_its_value(field: str) -> None:
    alert = built(threshold_rule(field), about=result(terms=((field, "plain"),)))
    assert alert.document[field] == "plain"
    assert alert.document["kibana.alert.threshold_result"]["terms"][0]["value"] == "plain"


NEIGHBOURS: JsonObject = {
    "spec": {
        "containers": [
            {
                "env": [
                    {"name": "DB_PASSWORD", "value": "hunter2"},
                    {"name": "MODE", "value": "fast"},
                ],
                "args": ["--password", "hunter2", "--mode", "fast"],
            }
        ]
    }
}


@pytest.mark.parametrize("place", ["env.value", "args"])
def test_neighbours_mask_values_of_a_real_event_in_all_that_is_said_of_it(place: str) -> None:
    field = f"{BODY}.spec.containers.{place}"
    event = Event(event_data(1, requestObject=NEIGHBOURS))
    suppression = folded(terms=((field, ("fast", "hunter2")),))
    alert = built(
        new_terms_rule(field), event, about=NewTerms(("hunter2",)), suppression=suppression
    )
    assert b"hunter2" not in dumps(alert.document)
    assert "hunter2" not in str(alert.reasons)
    assert alert.document["kibana.alert.new_terms"] == [MASK]
    assert alert.document["kibana.alert.suppression.terms"][0]["value"] == ["fast", MASK]
    alert = built(new_terms_rule(field), event, about=NewTerms(("fast",)))
    assert alert.document["kibana.alert.new_terms"] == ["fast"]


@pytest.mark.parametrize("kind", ["suppression", "evidence", "indicators"])
def test_thousands_of_values_are_looked_up_one_by_one_in_no_list(kind: str) -> None:
    field = f"{BODY}.spec.containers.args"

    def calls(size: int) -> int:
        """How many functions and generators run while the alert is built."""
        values = [f"a{number}" for number in range(size)]
        container = {"args": [*values, "--password", "hunter2"]}
        event = Event(event_data(1, requestObject={"spec": {"containers": [container]}}))
        node = parse_kql(f"{field}: a*") if kind == "evidence" else MATCH_ALL
        builder = AlertBuilder(
            rule(),
            compile_query(node, AUDIT_CATALOGUE),
            enrich=lambda event, at_ms: (
                [{"matched": {"field": field, "atomic": value}} for value in values]
                if kind == "indicators"
                else []
            ),
        )
        terms = ((field, (*values, "hunter2")),) if kind == "suppression" else ()
        raised = Raised(0, TICK_MS, "id", event, (), None, folded(terms=terms))
        number = 0

        def count(frame: Any, what: str, argument: Any) -> None:
            nonlocal number
            number += what == "call"

        sys.setprofile(count)
        try:
            alert = builder.build(raised)
        finally:
            sys.setprofile(None)
        assert b"hunter2" not in dumps(alert.document)
        return number

    calls(10)
    assert calls(1000) < 6 * calls(250)


def test_a_group_that_says_it_is_no_secret_shows_its_data() -> None:
    terms = (
        ("kubernetes.audit.requestObject.data.motto", "carpe"),
        ("kubernetes.audit.objectRef.resource", "configmaps"),
    )
    written = built(threshold_rule("x"), about=result(terms=terms)).document
    assert written["kubernetes.audit.requestObject.data.motto"] == "carpe"


# --- new terms ----------------------------------------------------------------------------------


def test_new_terms_are_named() -> None:
    made = new_terms_rule("user.name", "kubernetes.audit.responseStatus.code")
    event = Event(event_data(1, responseStatus={"code": 403}), cluster="c")
    alert = built(made, event, about=NewTerms(("eve", 403)))
    assert alert.document["kibana.alert.new_terms"] == ["eve", 403]
    assert alert.document["kibana.alert.reason"].endswith(
        "by eve created low alert Anything in shop."
    )
    assert alert.reasons[:2] == [
        ("new user.name", "eve"),
        ("new kubernetes.audit.responseStatus.code", 403),
    ]


def test_a_term_of_another_spelling_than_the_events_stands_as_it_is() -> None:
    made = new_terms_rule("kubernetes.audit.responseStatus.code")
    event = Event(event_data(1, responseStatus={"code": 403}))
    assert built(made, event, about=NewTerms(("403",))).document["kibana.alert.new_terms"] == [
        "403"
    ]


def test_new_terms_show_no_secret() -> None:
    event = Event(event_data(1, requestObject={"data": {"password": "hunter2"}}))
    alert = built(new_terms_rule(SECRET), event, about=NewTerms(("hunter2",)))
    assert alert.document["kibana.alert.new_terms"] == [MASK]
    assert b"hunter2" not in dumps(alert.document)
    assert "hunter2" not in str(alert.reasons)


# --- suppression --------------------------------------------------------------------------------


def folded(**changes: Any) -> Suppression:
    made: dict[str, Any] = {
        "terms": (("user.name", "eve"),),
        "instance_id": "instance",
        "start_ms": LAST_MS,
        "end_ms": TICK_MS,
        "docs_count": 3,
    }
    return Suppression(**(made | changes))


def test_folded_repeats_are_counted() -> None:
    alert = built(rule(), Event(event_data(1)), suppression=folded())
    written = alert.document
    assert {k: v for k, v in written.items() if "suppression" in k or "instance" in k} == {
        "kibana.alert.instance.id": "instance",
        "kibana.alert.suppression.terms": [{"field": "user.name", "value": "eve"}],
        "kibana.alert.suppression.start": LAST,
        "kibana.alert.suppression.end": TICK,
        "kibana.alert.suppression.docs_count": 3,
    }
    assert written["kibana.alert.last_detected"] == TICK
    assert alert.reasons[0] == ("repeats", 3)


def test_a_later_run_that_folds_is_when_it_was_last_detected() -> None:
    suppression = folded(last_detected_ms=TICK_MS + 600_000, docs_count=0)
    alert = built(rule(), Event(event_data(1)), suppression=suppression)
    assert alert.document["kibana.alert.last_detected"] == "2026-11-23T07:20:00.000Z"
    assert alert.document["kibana.alert.start"] == TICK
    assert all(name != "repeats" for name, _ in alert.reasons)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (("system:masters", "dev"), ["system:masters", "dev"]),
        ((), []),
        (True, True),
    ],
)
def test_groups_of_suppression_may_be_null_or_lists(value: Any, shown: Any) -> None:
    event = document_of({"user": {"roles": ["system:masters", "dev", True]}})
    suppression = folded(terms=(("user.roles", value),))
    written = built(rule(), event, suppression=suppression).document
    assert written["kibana.alert.suppression.terms"] == [{"field": "user.roles", "value": shown}]


# --- indicators ---------------------------------------------------------------------------------

MATCH: JsonObject = {
    "indicator": {"type": "ipv4-addr"},
    "feed": {"name": "f"},
    "matched": {
        "atomic": "203.0.113.7",
        "field": "source.ip",
        "id": "i1",
        "index": "ti",
        "type": "indicator_match_rule",
    },
}


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ({}, {"threat": {"enrichments": [MATCH]}}),
        (
            {"threat": {"enrichments": [{"a": 1}], "x": 1}},
            {"threat": {"enrichments": [{"a": 1}, MATCH], "x": 1}},
        ),
        (
            {"threat": {"enrichments": {"a": 1}}},
            {"threat": {"enrichments": [{"a": 1}, MATCH]}},
        ),
        ({"threat.enrichments": [{"a": 1}]}, {"threat.enrichments": [{"a": 1}, MATCH]}),
        ({"threat": "odd"}, {"threat": "odd", "threat.enrichments": [MATCH]}),
        ({"threat": {"x": 1}}, {"threat": {"x": 1, "enrichments": [MATCH]}}),
    ],
)
def test_indicators_stand_behind_those_the_event_had(
    held: JsonObject, expected: JsonObject
) -> None:
    body = {"source": {"ip": "203.0.113.7"}, **held}
    before = copy.deepcopy(body)
    asked: list[int] = []

    def enrich(event: Event, now_ms: int) -> list[JsonObject]:
        asked.append(now_ms)
        return [MATCH]

    written = built(rule(), document_of(body), enrich=enrich).document
    assert {k: v for k, v in written.items() if k.startswith("threat")} == expected
    assert body == before
    assert asked == [TICK_MS]


def test_an_indicators_value_is_as_secret_as_the_events() -> None:
    event = Event(event_data(1, requestObject={"data": {"password": "hunter2"}}))
    matched = MATCH["matched"] | {"atomic": "hunter2", "field": SECRET}
    written = built(rule(), event, enrich=lambda *_: [MATCH | {"matched": matched}]).document
    assert written["threat"]["enrichments"][0]["matched"]["atomic"] == MASK


def test_no_indicator_leaves_no_trace() -> None:
    assert "threat" not in built(rule(), Event(event_data(1)), enrich=lambda *_: []).document


# --- sequences ----------------------------------------------------------------------------------


def sequence(*events: Event, made: Rule | None = None, **more: Any) -> list[Alert]:
    about = SequenceOf(("eve",))
    return built_all(made or eql_rule(), events[0], events=events, about=about, **more)


def pair() -> tuple[Event, Event]:
    first, second = event_data(1), event_data(2, verb="delete")
    first["stageTimestamp"], second["stageTimestamp"] = (
        "2026-11-23T07:01:00.000000Z",
        "2026-11-23T07:02:00.000000Z",
    )
    return Event(first, cluster="c"), Event(second, cluster="c")


def test_a_sequence_is_blocks_and_a_shell() -> None:
    one, two = pair()
    first, second, shell = sequence(one, two)
    assert [each.is_block for each in (first, second, shell)] == [True, True, False]
    assert shell.id == "id"
    assert len({first.id, second.id, shell.id}) == 3
    for number, block in enumerate((first, second)):
        written = block.document
        assert written["kibana.alert.building_block_type"] == "default"
        assert written["kibana.alert.group.id"] == "id"
        assert written["kibana.alert.group.index"] == number
        assert written["kibana.alert.depth"] == 1
        assert len(written["kibana.alert.ancestors"]) == 1
    assert first.document["event"]["action"] == "create"
    assert second.document["event"]["action"] == "delete"
    written = shell.document
    assert "kibana.alert.building_block_type" not in written
    assert "kibana.alert.group.index" not in written
    assert written["kibana.alert.group.id"] == "id"
    assert written["kibana.alert.depth"] == 2
    index = ".alerts-security.alerts-default"
    events = [block.document["kibana.alert.ancestors"][0] for block in (first, second)]
    parents = [
        {"id": each.id, "type": "signal", "index": index, "depth": 1, "rule": eql_rule().uuid}
        for each in (first, second)
    ]
    assert written["kibana.alert.ancestors"] == [events[0], parents[0], events[1], parents[1]]


def test_a_shell_holds_what_its_events_share() -> None:
    *_, shell = sequence(*pair())
    written = shell.document
    assert written["user"] == {"name": "eve"}
    assert "action" not in written["event"]
    assert written["event"]["kind"] == "signal"
    assert written["@timestamp"] == TICK
    assert written["kibana.alert.original_time"] == "2026-11-23T07:01:00.000Z"
    assert written["kibana.alert.original_event.kind"] == "event"
    assert "kibana.alert.original_event.action" not in written
    assert written["kibana.alert.reason"] == (
        "event with source 203.0.113.7, by eve created low alert Anything in shop."
    )
    assert shell.reasons[0] == ("events", 2)


def test_nothing_shared_leaves_a_shell_without_fields() -> None:
    one, two = document_of({"a": 1, "b": {"c": [1]}}), document_of({"a": 2, "b": {"c": [2]}})
    *_, shell = sequence(one, two)
    assert {k for k in shell.document if not k.startswith("kibana.")} == {
        "@timestamp",
        "event.kind",
    }
    assert shell.document["kibana.alert.reason"] == "event created low alert Anything in shop."
    assert "kibana.alert.original_time" not in shell.document


def test_a_sequence_of_one_event_beside_missing_ones() -> None:
    block, shell = sequence(pair()[0])
    assert block.is_block
    assert shell.document["event"]["action"] == "create"


def test_overrides_do_not_reach_a_sequence() -> None:
    mapping = {"field": "user.name", "operator": "equals", "value": "eve", "severity": "critical"}
    made = eql_rule(severity_mapping=[mapping], rule_name_override="user.name")
    for alert in sequence(*pair(), made=made):
        assert (alert.severity, alert.rule_name) == ("low", "Anything in shop")


def test_a_sequence_of_a_rule_of_building_blocks_is_one_itself() -> None:
    *_, shell = sequence(*pair(), made=eql_rule(building_block_type="default"))
    assert shell.document["kibana.alert.building_block_type"] == "default"
    assert not shell.is_block


def test_a_sequence_of_alerts_lies_deeper() -> None:
    def parent(name: str, depth: int) -> Event:
        body = {"kibana.alert.uuid": name, "kibana.alert.depth": depth}
        return document_of(body | {"kibana.alert.ancestors": [{"id": f"e{name}"}]})

    *blocks, shell = sequence(parent("a", 1), parent("b", 3))
    assert [each.document["kibana.alert.depth"] for each in blocks] == [2, 4]
    assert shell.document["kibana.alert.depth"] == 5
    ids = [each["id"] for each in shell.document["kibana.alert.ancestors"]]
    assert ids == ["ea", "a", blocks[0].id, "eb", "b", blocks[1].id]


def test_folded_sequences_are_counted_on_the_shell_alone() -> None:
    *blocks, shell = sequence(*pair(), suppression=folded())
    assert shell.document["kibana.alert.suppression.docs_count"] == 3
    assert shell.document["kibana.alert.suppression.terms"][0]["value"] == "eve"
    assert all("kibana.alert.instance.id" not in each.document for each in blocks)


def test_a_single_event_of_eql_is_an_alert_as_of_a_query() -> None:
    (alert,) = built_all(eql_rule(), Event(event_data(1)))
    assert "kibana.alert.group.id" not in alert.document
    assert not alert.is_block


def test_urls_and_times_are_each_ones_own() -> None:
    alerts = sequence(*pair(), public_url="https://b", created_ms=TICK_MS + 5, is_manual=True)
    for alert in alerts:
        written = alert.document
        assert written["kibana.alert.url"] == f"https://b/alerts/{alert.id}"
        assert written["kibana.alert.start"] == "2026-11-23T07:10:00.005Z"
        assert written["kibana.alert.intended_timestamp"] == TICK


def test_equal_sequences_give_equal_bytes_and_change_nothing() -> None:
    first = [dumps(each.document) for each in sequence(*pair())]
    events = pair()
    bodies = copy.deepcopy([each.body for each in events])
    assert [dumps(each.document) for each in sequence(*events)] == first
    assert [each.body for each in events] == bodies
