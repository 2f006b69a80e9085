"""What an alert says to people."""

from __future__ import annotations

from typing import Any

import pytest
from alertdocs import AT_US, RULE, alert_document, alert_id, audit_event, message, watchdog_document

from barrelman.sinks.message import first_sentence, message_of
from barrelman.sinks.message import test_message as make_test_message


def test_it_says_who_did_what_to_which_object_and_why_that_matters() -> None:
    told = message(7, public_url="https://barrelman.example/")
    assert told.sentence == "eve created pods shop/p7 in cluster prod from 203.0.113.7"
    assert (told.who, told.action, told.object) == ("eve", "created pods", "pods/shop/p7")
    assert told.title == f"{RULE}: eve created pods shop/p7 (prod)"
    assert told.why == "A pod shares its node's IPC namespace."
    assert told.techniques == ("T1611 Escape to Host",)
    assert told.link == f"https://barrelman.example/alerts/{alert_id(7)}"
    assert told.references == ("https://attack.example/T1611",)
    assert told.severity == "medium"
    assert told.risk_score == 47
    assert told.created_us == AT_US
    assert told.tags == ("Data Source: Kubernetes", "Tactic: Privilege Escalation")
    assert not told.is_test


def audit_message(number: int = 1, **changes: Any) -> Any:
    return message(number, audit=audit_event(number, **changes))


def ref(resource: str = "pods", **changes: str) -> dict[str, str]:
    return {"resource": resource, "namespace": "shop", "name": "web"} | changes


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"verb": "delete", "objectRef": ref()}, "deleted pods shop/web"),
        (
            {"verb": "patch", "objectRef": ref(subresource="status")},
            "changed the status of pods shop/web",
        ),
        (
            {
                "verb": "create",
                "objectRef": ref(subresource="exec"),
                "requestURI": "/api/v1/x?command=sh&command=-c&command=id+-u&tty=true",
            },
            "ran a command in pods shop/web: sh -c id -u",
        ),
        ({"verb": "get", "objectRef": ref(subresource="exec")}, "ran a command in pods shop/web"),
        ({"verb": "get", "objectRef": ref(subresource="log")}, "read the log of pods shop/web"),
        (
            {"verb": "get", "objectRef": ref("deployments", subresource="scale")},
            "read the scale of deployments shop/web",
        ),
        (
            {"verb": "create", "objectRef": ref("serviceaccounts", subresource="token")},
            "got a token for serviceaccounts shop/web",
        ),
        (
            {"verb": "list", "objectRef": {"resource": "secrets"}},
            "listed secrets",
        ),
        (
            {"verb": "create", "objectRef": ref(), "responseStatus": {"code": 403}},
            "tried to create pods shop/web, refused with 403",
        ),
        (
            {"verb": "get", "objectRef": None, "requestURI": "/version?token=x"},
            "read /version",
        ),
        (
            {
                "objectRef": {"resource": "pods", "namespace": "shop"},
                "requestObject": {"metadata": {"generateName": "web-"}},
            },
            "created pods shop/web-…",
        ),
        (
            {
                "objectRef": {"resource": "pods", "namespace": "shop"},
                "responseObject": {"metadata": {"name": "web-x1"}},
            },
            "created pods shop/web-x1",
        ),
        ({"verb": "frobnicate", "objectRef": ref()}, 'did "frobnicate" with pods shop/web'),
    ],
)
def test_what_was_done(changes: dict[str, Any], what: str) -> None:
    assert audit_message(**changes).what == what


def test_the_one_who_was_impersonated_is_named() -> None:
    told = audit_message(impersonatedUser={"username": "admin"})
    assert told.who == "eve as admin"


def test_an_anonymous_deed_is_someones() -> None:
    told = audit_message(user=None)
    assert told.sentence.startswith("someone created pods")


def test_a_document_of_an_agent_reads_as_well() -> None:
    document = alert_document()
    del document["kubernetes"]
    document |= {
        "event": {"action": "delete"},
        "user": {"name": "eve"},
        "source.ip": "203.0.113.7",
        "orchestrator": {
            "cluster": {"name": "prod"},
            "namespace": "shop",
            "resource": {"type": "secrets", "name": "db"},
        },
    }
    told = message_of(document, public_url=None)
    assert told.sentence == "eve deleted secrets shop/db in cluster prod from 203.0.113.7"


def test_an_alert_about_no_request_tells_its_reason_once() -> None:
    told = message_of(watchdog_document(), public_url=None)
    assert told.sentence == "prod has sent no events for 15 minutes."
    assert told.title == "Cluster gone silent: prod has sent no events for 15 minutes."
    assert (told.who, told.action, told.object, told.what) == ("", "", "", "")
    assert told.why == "No events come from a cluster."


def test_a_sequence_whose_event_has_no_request_is_no_deed() -> None:
    document = watchdog_document() | {"event": {"action": "silent"}}
    assert message_of(document, public_url=None).what == ""


def test_a_threshold_tells_of_its_events() -> None:
    result = {
        "count": 12,
        "terms": [{"field": "user.name", "value": "eve"}, {"field": "source.ip", "value": "::1"}],
        "cardinality": [{"field": "orchestrator.namespace", "value": 5}],
    }
    told = message(1, threshold_result=result, audit={})
    expected = "12 events of user.name eve, source.ip ::1 with 5 different orchestrator.namespace"
    assert told.sentence == f"{expected} in cluster prod"
    assert told.title == f"{RULE}: {expected} (prod)"
    told = message(1, threshold_result={"count": 3, "terms": []}, audit={})
    assert told.sentence == "3 events in cluster prod"


def test_a_sequence_tells_how_many_events_it_has() -> None:
    parents = [
        {"id": "e1", "type": "event"},
        {"id": "b1", "type": "signal", "rule": "u"},
        {"id": "e2", "type": "event"},
        {"id": "b2", "type": "signal", "rule": "u"},
        {"id": "other", "type": "signal", "rule": "v"},
    ]
    told = message(1, group__id=alert_id(1), ancestors=parents, rule__uuid="u")
    assert told.sentence == "a sequence of 2 events by eve in cluster prod"
    block = message(1, group__id="whole", ancestors=parents[:1], rule__uuid="u")
    assert block.sentence.startswith("eve created pods")


def test_what_is_new_and_what_came_again_stand_behind() -> None:
    told = message(1, new_terms=["eve", 403], suppression__docs_count=2)
    assert told.sentence.endswith("from 203.0.113.7 (new is eve, 403; and 2 more like it)")
    assert "more like it" not in message(1, suppression__docs_count=0).sentence
    reason = message(1, audit={}, reason="It was so.", suppression__docs_count=1).sentence
    assert reason == "It was so. (and 1 more like it)"


@pytest.mark.parametrize(
    "odd",
    [
        {"threshold_result": 5},
        {"threshold_result": {"count": None, "terms": [5], "cardinality": "x"}},
        {"group__id": [], "ancestors": 5},
        {"group__id": alert_id(1), "ancestors": {"type": "signal"}},
        {"new_terms": "x", "suppression__docs_count": "y"},
    ],
)
def test_odd_values_of_several_events_break_nothing(odd: dict[str, Any]) -> None:
    assert message(1, **odd).sentence


def test_nothing_of_an_event_breaks_a_line_or_turns_it() -> None:
    told = audit_message(
        user={"username": "eve\r\nBcc: all@example.com\x1b[2J\u202e"},
        objectRef=ref(name="x" * 100_000),
        sourceIPs=["1.2.3.4\n"],
    )
    everything = [text for text in told.fields().values() if isinstance(text, str)] + [
        told.sentence,
        told.title,
    ]
    assert all(text.isprintable() for text in everything)
    assert max(map(len, everything)) < 1500
    assert told.who == "eve\\r\\nBcc: all@example.com\\x1b[2J\\u202e"


@pytest.mark.parametrize("document", [{}, {"kubernetes": {"audit": []}}, {"kubernetes": 3}])
def test_a_document_that_is_none_is_still_told_of(document: dict[str, Any]) -> None:
    told = message_of(document, public_url="https://x.example")
    assert told.rule_name == "unnamed rule"
    assert told.severity == "low"
    assert told.sentence


def test_values_of_the_wrong_type_are_none() -> None:
    told = message(
        severity="doom",
        risk_score="high",
        rule__tags=[1, "ok"],
        rule__threat="x",
        rule__references=None,
        rule__note=None,
    )
    assert (told.severity, told.risk_score, told.tags) == ("low", 0, ("ok",))
    assert (told.techniques, told.references, told.note) == ((), (), "")


def test_the_finest_technique_is_named_and_a_tactic_where_it_is_all_there_is() -> None:
    threat = [
        {
            "tactic": {"id": "TA0001", "name": "Initial Access"},
            "technique": [
                {
                    "id": "T1078",
                    "name": "Valid Accounts",
                    "subtechnique": [{"id": "T1078.004", "name": "Cloud Accounts"}],
                }
            ],
        },
        {"tactic": {"id": "TA0007", "name": "Discovery"}},
    ]
    told = message(rule__threat=threat)
    assert told.techniques == ("T1078.004 Cloud Accounts", "TA0007 Discovery")


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One. Two.", "One."),
        ("Uses e.g. a shell. Then more.", "Uses e.g. a shell."),
        ("Version 1.2 of it! More", "Version 1.2 of it!"),
        ("no end", "no end"),
        ("# Heading\nand text. Then", "Heading and text."),
        ("", ""),
    ],
)
def test_first_sentences(text: str, first: str) -> None:
    assert first_sentence(text) == first


def test_a_test_says_that_it_is_one() -> None:
    told = make_test_message("oncall", AT_US)
    assert told.is_test
    assert told.sentence == ("This is a test of the sink oncall, sent at 2026-11-23T12:01:00.000Z.")
    assert "Test" in told.title
