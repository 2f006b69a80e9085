"""Ids: what they are made of, and what they are not."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.detection.identity import act_mark, alert_id, cluster_name, event_id
from barrelman.records.event import Event, JsonObject

RAW: JsonObject = {
    "kind": "Event",
    "auditID": "6f1c1a4e-0000-4000-8000-000000000001",
    "stage": "ResponseComplete",
    "verb": "create",
    "requestURI": "/api/v1/namespaces/shop/pods?x=é",
    "requestReceivedTimestamp": "2026-11-23T07:06:00.000000Z",
    "user": {"username": "alice", "groups": ["a", "b"]},
}


def flat(body: JsonObject) -> JsonObject:
    return {f"kubernetes.audit.{key}": value for key, value in body.items()}


def hit(body: JsonObject, **more: Any) -> Event:
    return Event({"kubernetes": {"audit": body}}, is_document=True, **more)


SAME = {
    "raw": Event(RAW),
    "raw, elsewhere": Event(RAW, line=99, raw=b"{ }"),
    "raw, from an AKS record": Event(RAW, aks_metadata={"pod": "p"}, wrapper_time="2026-11-23"),
    "nested document": hit(RAW),
    "nested document of some index": hit(RAW, index="logs-x", document_id="abc", line=3),
    "dotted document": Event(flat(RAW), is_document=True),
    "half dotted": Event({"kubernetes.audit": RAW}, is_document=True),
    "single values in arrays": hit({**RAW, "auditID": [RAW["auditID"]], "stage": [RAW["stage"]]}),
}


@pytest.mark.parametrize("shape", SAME)
def test_one_event_in_every_shape(shape: str) -> None:
    assert event_id(SAME[shape]) == f"{RAW['auditID']}/ResponseComplete"
    assert alert_id(SAME[shape], "r") == alert_id(Event(RAW), "r")
    assert act_mark(SAME[shape]) == act_mark(Event(RAW))


def test_ids_are_what_they_were() -> None:
    """They are stored by users: never change these."""
    assert alert_id(Event(RAW), "r") == (
        "7eefe224d1756882e2c9b6b204f2deaa0d47b6f7b7f0f9a448d44c8025a0fa57"
    )
    assert alert_id(Event({"verb": "get"}, cluster="prod"), "r") == (
        "ddcd59457ede1166b9e13f9c77327607256b54781a45f9e43d890525ea577afe"
    )


def test_the_cluster_matters_however_it_is_known() -> None:
    by_user = alert_id(Event(RAW, cluster="prod"), "r")
    own = {"kubernetes": {"audit": RAW}, "orchestrator": {"cluster": {"name": "prod"}}}
    assert by_user == alert_id(Event(own, is_document=True), "r")
    assert by_user == alert_id(Event(own, is_document=True, cluster="other"), "r")
    assert by_user == alert_id(hit(RAW, cluster="prod"), "r")
    assert by_user != alert_id(Event(RAW), "r")
    assert by_user != alert_id(Event(RAW, cluster="other"), "r")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Event(RAW), ""),
        (Event(RAW, cluster="c"), "c"),
        (Event(RAW | {"orchestrator": {"cluster": {"name": "forged"}}}, cluster="c"), "c"),
        (Event({"orchestrator.cluster.name": "d"}, is_document=True, cluster="c"), "d"),
        (Event({"orchestrator": {"cluster.name": ["d"]}}, is_document=True), "d"),
        (Event({"orchestrator": {"cluster": {"name": None}}}, is_document=True, cluster="c"), "c"),
        (Event({"orchestrator": {"cluster": {"name": 7}}}, is_document=True), "7"),
    ],
)
def test_cluster_name(event: Event, expected: str) -> None:
    assert cluster_name(event) == expected


def test_stage_and_rule_matter() -> None:
    started = Event({**RAW, "stage": "ResponseStarted"})
    assert len({alert_id(e, r) for e in (Event(RAW), started) for r in ("r", "s")}) == 4


def test_nothing_collides_by_joining() -> None:
    events = [
        Event({"auditID": audit_id, "stage": stage}, cluster=cluster)
        for cluster in ("", "a", "a/", "a/b", "1:a")
        for audit_id in ("a", "a/b", "b", "1:a")
        for stage in ("b", "b/c", "c", "/")
    ]
    ids = [
        (alert_id(event, rule_id), event, rule_id) for event in events for rule_id in ("r", "cr")
    ]
    for (one, event, rule), (other, event2, rule2) in combinations(ids, 2):
        if (event.body, event.cluster or None, rule) == (
            event2.body,
            event2.cluster or None,
            rule2,
        ):
            assert one == other
        else:
            assert one != other


WITHOUT = [
    {key: value for key, value in RAW.items() if key != "auditID"},
    {key: value for key, value in RAW.items() if key != "stage"},
    RAW | {"auditID": ""},
    RAW | {"stage": None},
    RAW | {"auditID": 5},
    RAW | {"stage": {"x": 1}},
    RAW | {"stage": "a/b"},
    {},
]


@pytest.mark.parametrize("body", WITHOUT, ids=str)
def test_without_an_id_the_content_counts(body: JsonObject) -> None:
    turned = json.loads(json.dumps(dict(reversed(body.items()))))
    assert len(event_id(Event(body))) == 64
    assert event_id(Event(body)) == event_id(Event(turned, line=5, raw=b"other spelling"))
    assert event_id(Event(body)) != event_id(Event(body | {"more": 1}))


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(body=st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=5), data=st.data())
@settings(deadline=None, max_examples=80)
def test_the_order_of_keys_never_counts(body: JsonObject, data: st.DataObject) -> None:
    shuffled = dict(data.draw(st.permutations(list(body.items()))))
    assert alert_id(Event(body), "r") == alert_id(Event(shuffled), "r")
    assert act_mark(Event(body)) == act_mark(Event(shuffled))


@pytest.mark.parametrize("name", ["requestReceivedTimestamp", "verb", "requestURI"])
def test_acts_under_one_id_are_told_apart(name: str) -> None:
    assert act_mark(Event(RAW)) != act_mark(Event(RAW | {name: "other"}))


def test_depth_and_odd_text_are_no_trouble() -> None:
    deep: Any = "x"
    for _ in range(1_000):
        deep = {"a": [deep]}
    assert len(event_id(Event({"deep": deep, "big": 2**70}))) == 64
    assert (
        len(alert_id(Event({"auditID": "\ud800", "stage": "\udfff"}, cluster="\ud800"), "r")) == 64
    )
    assert isinstance(act_mark(Event({"verb": "\ud800"})), int)
