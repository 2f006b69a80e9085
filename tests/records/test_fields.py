from __future__ import annotations

import pytest

from barrelman.records.event import Event
from barrelman.records.fields import (
    AUDIT_CATALOGUE,
    ECS_FIELDS,
    Catalogue,
    FieldType,
    absence_in_raw_events,
    event_time_us,
    raw_path,
)
from barrelman.records.paths import Scalar
from barrelman.records.times import parse_instant_us

A, B = "2026-11-23T07:06:00.123456Z", "2026-11-23T08:00:00Z"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("kubernetes.audit.verb", FieldType.KEYWORD),
        ("kubernetes.audit.anything.at.all", FieldType.KEYWORD),
        ("kubernetes.audit.sourceIPs", None),
        ("kubernetes.audit.stageTimestamp", FieldType.DATE),
        ("kubernetes.audit.responseStatus.code", FieldType.LONG),
        ("kubernetes.audit.requestObject.spec.hostIPC", FieldType.BOOLEAN),
        ("kubernetes.audit.requestObject.spec.template.spec.hostPID", FieldType.BOOLEAN),
        (
            "kubernetes.audit.responseObject.spec.containers.securityContext.runAsUser",
            FieldType.LONG,
        ),
        ("kubernetes.audit.hostIPC", FieldType.KEYWORD),
        ("kubernetes.audit.requestObject.spec.hostIPCs", FieldType.KEYWORD),
        ("user.name", FieldType.KEYWORD),
        ("source.ip", FieldType.IP),
        ("@timestamp", FieldType.DATE),
        ("process.name", None),
        ("kubernetes", None),
        ("kubernetes.auditor", None),
        ("spec.hostIPC", None),
    ],
)
def test_types(name: str, kind: FieldType | None) -> None:
    assert AUDIT_CATALOGUE.type_of(name) is kind


def test_what_stands_below_flattened_and_nested_fields() -> None:
    catalogue = Catalogue(exact={"f": FieldType.FLATTENED, "n": FieldType.NESTED})
    assert catalogue.type_of("f.a.b") is FieldType.FLATTENED
    assert catalogue.type_of("fa") is None
    assert catalogue.explicit_type_of("f.a") is None
    hidden = [name for name in ("n", "n.a", "n.a.b", "na", "a.n") if catalogue.is_hidden(name)]
    assert hidden == ["n", "n.a", "n.a.b"]
    assert not catalogue.is_hidden("n.a", prefix="n.")


@pytest.mark.parametrize(
    ("body", "time"),
    [
        ({"stageTimestamp": A, "requestReceivedTimestamp": B}, A),
        ({"requestReceivedTimestamp": B, "timestamp": A}, B),
        ({"stageTimestamp": "", "requestReceivedTimestamp": B}, B),
        ({"stageTimestamp": "soon", "timestamp": A}, A),
        ({"timestamp": A}, A),
        ({"metadata": {"creationTimestamp": A}}, A),
        ({"metadata": [A]}, None),
        ({"stageTimestamp": [A]}, None),
        ({}, None),
    ],
)
def test_when_an_event_happened(body: dict[str, object], time: str | None) -> None:
    expected = None if time is None else parse_instant_us(time)
    assert event_time_us(Event(body)) == expected


def test_the_wrapper_knows_the_time_better() -> None:
    assert event_time_us(Event({"stageTimestamp": A}, wrapper_time=B)) == parse_instant_us(B)
    assert event_time_us(Event({"stageTimestamp": A}, wrapper_time="?")) == parse_instant_us(A)


@pytest.mark.parametrize(
    ("body", "time"),
    [
        ({"@timestamp": A}, A),
        ({"@timestamp": ["?", A]}, A),
        ({"@timestamp": 1_795_417_560_000}, "2026-11-23T07:06:00Z"),
        ({"kubernetes": {"audit": {"stageTimestamp": A}}}, None),
        ({}, None),
    ],
)
def test_a_document_has_its_own_time(body: dict[str, object], time: str | None) -> None:
    expected = None if time is None else parse_instant_us(time)
    assert event_time_us(Event(body, is_document=True)) == expected


@pytest.mark.parametrize(
    ("name", "body", "values"),
    [
        ("event.outcome", {"annotations": {"authorization.k8s.io/decision": "allow"}}, ["success"]),
        (
            "event.outcome",
            {"annotations": {"authorization.k8s.io/decision": "forbid"}},
            ["failure"],
        ),
        ("event.outcome", {"annotations": {"authorization.k8s.io/decision": "maybe"}}, []),
        ("event.outcome", {}, []),
        ("source.ip", {"sourceIPs": ["10.0.0.1", "::1"]}, ["10.0.0.1", "::1"]),
        ("source.ip", {"sourceIPs": ["10.0.0.1", "x"]}, []),
        ("source.ip", {"sourceIPs": ["10.0.0.1", 1]}, []),
        ("source.ip", {"sourceIPs": ["10.0.0.1", ""]}, ["10.0.0.1"]),
        ("related.user", {"user": {"username": "a", "uid": "b"}}, ["b", "a"]),
        ("related.user", {"user": {"username": "a", "uid": "a"}}, ["a"]),
        ("related.user", {"user": {"username": 1, "uid": True}}, [True, 1]),
        ("user.name", {"user": {"username": ""}}, []),
        ("user.name", {"user": {"username": [0, False]}}, [0, False]),
        ("event.action", {"verb": "get"}, ["get"]),
        ("orchestrator.cluster.name", {}, ["east"]),
        ("@timestamp", {"stageTimestamp": A}, ["2026-11-23T07:06:00.123Z"]),
        (
            "container.image.name",
            {"requestObject": {"spec": {"containers": [{"image": "a"}, {}, {"image": "b"}]}}},
            ["a", "b"],
        ),
    ],
)
def test_what_the_stream_adds(name: str, body: dict[str, object], values: list[Scalar]) -> None:
    found = ECS_FIELDS[name](Event(body, cluster="east"))
    assert [(type(value), value) for value in found] == [(type(value), value) for value in values]


def test_raw_paths_leave_out_metadata_of_the_bodies_alone() -> None:
    body = {"requestObject": {"metadata": {"name": "x"}}, "objectRef": {"metadata": "y"}}
    assert raw_path("requestObject.metadata.name").values(body) == []
    assert raw_path("objectRef.metadata").values(body) == ["y"]
    assert raw_path("metadata").values({"metadata": 1}) == [1]


@pytest.mark.parametrize(
    "name",
    [*ECS_FIELDS, "kubernetes", "kubernetes.audit", "kubernetes.audit.x", "orchestrator", "event"],
)
def test_fields_that_can_occur(name: str) -> None:
    assert absence_in_raw_events(name) is None


@pytest.mark.parametrize(
    "name",
    [
        *("process.name", "eventful", "user.name.text", "kubernetes.pod.name", "event.act", ""),
        *("kubernetes.audit.requestObject.metadata", "kubernetes.audit.responseObject.metadata.a"),
        "kubernetes.audit.annotations.authorization.k8s.io/decision",
    ],
)
def test_fields_that_cannot_occur(name: str) -> None:
    assert absence_in_raw_events(name)
