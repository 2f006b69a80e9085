"""Events to rows and back: what columns say is so, and what a line says is what was sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import event as sample_event

from barrelman.detection.identity import act_mark, cluster_name
from barrelman.detection.rows import describe, row_of, stored_event
from barrelman.engine.decode import dumps, loads
from barrelman.engine.unwrap import unwrap
from barrelman.records.ecs import ecs_document
from barrelman.records.event import Event
from barrelman.records.fields import event_time_us
from barrelman.records.paths import Path
from barrelman.records.rows import Row
from barrelman.records.times import parse_instant_us

CLUSTER = "harbour"


def row(body: Any, *, cluster: str = CLUSTER, **more: Any) -> Row:
    return row_of(Event(body, cluster=cluster, **more), cluster=cluster)


def changed(**changes: Any) -> dict[str, Any]:
    return sample_event(1, **changes)


# --- what columns say --------------------------------------------------------------------------


def test_the_columns_of_a_plain_event() -> None:
    body = changed(
        objectRef={
            "resource": "pods",
            "subresource": "exec",
            "apiGroup": "apps",
            "namespace": "shop",
            "name": "p1",
        }
    )
    found = row(body)
    assert found.is_plain
    assert loads(found.line) == body
    assert found.wrapper is None
    assert found.time_us == parse_instant_us(body["stageTimestamp"])
    assert found[5:] == (
        *(body["auditID"], "ResponseComplete", "RequestResponse", "create", "eve"),
        *("pods", "exec", "apps", "shop", "p1", ("203.0.113.7",), 201, "allow"),
    )


def test_what_is_absent_null_or_empty_is_no_value() -> None:
    for nothing in ({}, {"user": None, "verb": None}, {"user": {"username": ""}, "verb": ""}):
        body = {"kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": "a", "stage": "b"}
        found = row(body | nothing)
        assert (found.user, found.verb, found.source_ips, found.status) == (None, None, (), None)
        assert found.is_plain


@pytest.mark.parametrize(
    "changes",
    [
        {"user": "eve"},
        {"user": ["eve"]},
        {"user": [{"username": "eve"}]},
        {"user": {"username": ["eve"]}},
        {"user": {"username": 7}},
        {"user": {"username": {"a": "b"}}},
        {"objectRef": [{"name": "a"}]},
        {"objectRef": {"name": True}},
        {"objectRef": {"namespace": ["a", "b"]}},
        {"annotations": ["a"]},
        {"verb": 7},
        {"verb": ["get"]},
        {"level": {}},
        {"auditID": 1},
        {"stage": ["a"]},
        {"sourceIPs": "203.0.113.7"},
        {"sourceIPs": [["203.0.113.7"]]},
        {"sourceIPs": [None, "203.0.113.7"]},
        {"sourceIPs": [7]},
        {"sourceIPs": {"a": "203.0.113.7"}},
        {"sourceIPs": ["::ffff:203.0.113.7"]},
        {"sourceIPs": ["::FFFF:cb00:7107"]},
        {"responseStatus": {"code": "404"}},
        {"responseStatus": {"code": 404.0}},
        {"responseStatus": {"code": [404]}},
        {"responseStatus": {"code": True}},
        {"responseStatus": {"code": 1 << 40}},
        {"responseStatus": [{"code": 404}]},
        {"user.username": "eve"},
        {"objectRef.name": "p"},
        {"user": None, "user.username": "eve"},
    ],
)
def test_what_a_column_cannot_hold_makes_a_row_that_is_not_plain(changes: dict[str, Any]) -> None:
    body = {**sample_event(1), **changes}
    found = row(body)
    assert not found.is_plain
    assert loads(found.line) == body


def test_wrappers_make_a_row_that_is_not_plain_and_come_back() -> None:
    aks = {"time": "2026-11-23T09:00:00Z", "properties": {"log": json.dumps(sample_event(1)),
                                                          "pod": "kube-apiserver-1"}}  # fmt: skip
    hit = {
        "_index": "logs-kubernetes.audit_logs-prod",
        "_id": "abc",
        "_source": {"@timestamp": "2026-11-23T09:00:00Z", "kubernetes": {"audit": sample_event(1)}},
    }
    for value in (aks, hit):
        (event,) = unwrap(value)
        assert isinstance(event, Event)
        event.cluster = CLUSTER
        found = row_of(event, cluster=CLUSTER)
        assert not found.is_plain
        assert found.wrapper is not None
        back = stored_event(found.line, found.wrapper, cluster=CLUSTER, arrival_us=1)
        event.ingested_us = 1
        assert ecs_document(back) == ecs_document(event)
        assert (back.index, back.document_id) == (event.index, event.document_id)
        assert event_time_us(back) == found.time_us == parse_instant_us("2026-11-23T09:00:00Z")


# --- lines and keys ----------------------------------------------------------------------------


def test_the_line_is_what_came_where_it_is_one_line() -> None:
    raw = json.dumps(sample_event(1), indent=None, separators=(" , ", " : ")).encode()
    assert row(loads(raw), raw=raw).line == raw
    several = json.dumps(sample_event(1), indent=2).encode()
    assert row(loads(several), raw=several).line == dumps(loads(several))


def test_a_key_is_of_the_cluster_the_event_and_the_act() -> None:
    body = sample_event(1)
    key = row(body).key
    assert row(dict(reversed(body.items()))).key == key
    assert row(body | {"responseStatus": {"code": 500}}).key == key
    different = [
        row(body, cluster="other"),
        row(body | {"auditID": "another"}),
        row(body | {"stage": "Panic"}),
        row(body | {"verb": "delete"}),
        row(body | {"requestURI": "/another"}),
        row(body | {"requestReceivedTimestamp": "2026-11-23T12:01:00.000001Z"}),
    ]
    assert len({key, *(each.key for each in different)}) == 7
    assert row(body, cluster="a").key != row(body | {"auditID": "x"}, cluster="ab").key
    assert all(0 <= part < 1 << 63 for part in key)


def test_events_without_an_id_are_told_apart_by_what_they_hold() -> None:
    one, other = changed(auditID=None), changed(auditID=None, userAgent="curl")
    assert row(one).key == row(dict(one)).key
    assert row(one).key != row(other).key


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=4), parts,
                                                                max_size=3),
    max_leaves=8,
)  # fmt: skip
NAMES = st.sampled_from(
    [*sample_event(1), "impersonatedUser", "responseObject", "user.username", "@timestamp"]
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(NAMES, JSON, max_size=6), st.sampled_from(["", "a", "ä" * 300]))
def test_any_body_has_a_row_and_its_line_the_same_one(changes: Any, cluster: str) -> None:
    body = loads(dumps({**sample_event(1), **changes}))  # as any body is that came as bytes
    made = row_of(Event(body, cluster=cluster), cluster=cluster)
    assert b"\n" not in made.line
    assert describe(made.line, made.wrapper, cluster) == made
    texts = (made.audit_id, made.stage, made.level, made.verb, made.user, made.decision)
    assert all(text is None or (isinstance(text, str) and text) for text in texts)
    assert made.status is None or -(1 << 31) <= made.status < 1 << 31
    assert all(type(each) is str for each in made.source_ips)
    back = stored_event(made.line, made.wrapper, cluster=cluster, arrival_us=5)
    assert loads(dumps(back.body)) == loads(dumps(body))


def test_who_sent_a_document_names_its_cluster_and_not_the_document() -> None:
    body = {
        "kubernetes": {"audit": {"auditID": "a", "stage": "ResponseComplete", "verb": "get"}},
        "orchestrator": {"cluster": {"name": "other"}, "cluster.name": "other", "type": "k"},
        "orchestrator.cluster.name": "other",
    }
    event = Event(body, True, cluster="mine", is_bound=True)
    assert cluster_name(event) == "mine"
    document = ecs_document(event)
    assert document["orchestrator"] == {"type": "k", "cluster.name": "mine"}
    assert "orchestrator.cluster.name" not in document
    again = stored_event(dumps(body), b'{"is_document":true}', cluster="mine", arrival_us=1)
    assert cluster_name(again) == "mine"
    assert Path("orchestrator.cluster.name").values(ecs_document(again)) == ["mine"]
    assert cluster_name(Event(body, True, cluster="mine")) == "other"


def test_keys_tell_acts_apart_by_more_than_a_checksum() -> None:
    """A checksum can be steered by who chooses the URI; a mark of 63 bits of a hash cannot."""
    events = [
        Event({"auditID": "a", "stage": "s", "verb": "get", "requestURI": f"/x?q={number}"})
        for number in range(200)
    ]
    keys = [row_of(event, cluster="c").key for event in events]
    assert len({first for first, _ in keys}) == len({second for _, second in keys}) == 200
    assert all(0 <= first < 1 << 63 and 0 <= second < 1 << 32 for first, second in keys)
    marks = [act_mark(event) for event in events]
    assert len(set(marks)) == 200
    assert 1 << 60 < max(marks) < 1 << 63
