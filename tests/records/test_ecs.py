from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from barrelman.records.ecs import ecs_document
from barrelman.records.event import Event

BODY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "verb": "create",
    "user": {"username": "ann", "uid": "", "groups": ["g", ""]},
    "sourceIPs": ["10.0.0.1"],
    "objectRef": {"resource": "pods", "apiGroup": ""},
    "requestObject": {"metadata": {"name": "p"}, "spec": {"nodeSelector": {}, "hostIPC": False}},
    "responseObject": {"metadata": {"name": "p"}},
    "annotations": {"authorization.k8s.io/decision": "allow", "a.b": "1", "a_b": "2"},
    "stageTimestamp": "2026-11-23T07:06:00.123456Z",
}


def test_a_raw_event_becomes_the_document_of_its_stream() -> None:
    before = copy.deepcopy(BODY)
    assert ecs_document(Event(BODY, cluster="east")) == {
        "@timestamp": "2026-11-23T07:06:00.123Z",
        "event": {
            "kind": "event",
            "action": "create",
            "dataset": "kubernetes.audit_logs",
            "outcome": "success",
        },
        "data_stream": {
            "type": "logs",
            "dataset": "kubernetes.audit_logs",
            "namespace": "default",
        },
        "user": {"name": "ann"},
        "source": {"ip": ["10.0.0.1"]},
        "client": {"ip": ["10.0.0.1"]},
        "related": {"user": ["ann"], "ip": ["10.0.0.1"]},
        "orchestrator": {
            "type": "kubernetes",
            "api_version": "audit.k8s.io/v1",
            "cluster": {"name": "east"},
            "resource": {"type": "pods"},
        },
        "kubernetes": {
            "audit": {
                "apiVersion": "audit.k8s.io/v1",
                "verb": "create",
                "user": {"username": "ann", "groups": ["g"]},
                "sourceIPs": ["10.0.0.1"],
                "objectRef": {"resource": "pods"},
                "requestObject": {"spec": {"hostIPC": False}},
                "annotations": {"authorization_k8s_io/decision": "allow", "a_b": ["1", "2"]},
                "stageTimestamp": "2026-11-23T07:06:00.123456Z",
            }
        },
    }
    assert before == BODY


@pytest.mark.parametrize("body", ["requestObject", "responseObject"])
def test_metadata_leaves_patches_too(body: str) -> None:
    event = Event({body: [{"op": "add", "metadata": 1}, [{"metadata": 2}], "x"]})
    assert ecs_document(event)["kubernetes"]["audit"] == {body: [{"op": "add"}, "x"]}


def test_annotations_in_a_list_are_renamed_too() -> None:
    event = Event({"annotations": [{"a.b": "1"}, "x"]})
    assert ecs_document(event)["kubernetes"]["audit"] == {"annotations": [{"a_b": "1"}, "x"]}


def test_what_an_aks_record_said_is_kept() -> None:
    event = Event(
        {"verb": "get", "stageTimestamp": "2026-11-23T07:06:00Z"},
        aks_metadata={"pod": "p", "stream": ""},
        wrapper_time="2026-11-23T08:00:00Z",
    )
    document = ecs_document(event)
    assert document["kubernetes"]["audit"]["aks_metadata"] == {"pod": "p"}
    assert document["@timestamp"] == "2026-11-23T08:00:00.000Z"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"a": ""}, {"a": "", "orchestrator.cluster.name": "east"}),
        (
            {"orchestrator": {"type": "x"}},
            {"orchestrator": {"type": "x", "cluster.name": "east"}},
        ),
        ({"orchestrator": {"cluster": {"name": "own"}}}, None),
        ({"orchestrator.cluster.name": "own"}, None),
        ({"orchestrator": {"cluster.name": "own"}}, None),
        ({"orchestrator": "odd"}, {"orchestrator": "odd", "orchestrator.cluster.name": "east"}),
        ({"orchestrator": {"cluster": {"name": None}}}, "added"),
    ],
)
def test_a_document_gets_a_cluster_where_it_has_none(body: dict[str, Any], expected: Any) -> None:
    before = copy.deepcopy(body)
    document = ecs_document(Event(body, is_document=True, cluster="east"))
    if expected is None:
        assert document is body
    elif expected != "added":
        assert document == expected
    else:
        assert "east" in json.dumps(document)
    assert body == before


def test_a_document_is_made_once() -> None:
    event = Event({"verb": "get"})
    assert ecs_document(event) is ecs_document(event)


def test_a_deep_event_has_a_document() -> None:
    deep: Any = {"x": 1}
    for _ in range(1000):
        deep = {"a": [deep]}
    document = ecs_document(Event({"requestObject": deep}))
    assert document["kubernetes"]["audit"]["requestObject"]["a"]
