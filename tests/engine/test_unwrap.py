from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.engine.problem import Fragment, Problem
from barrelman.engine.unwrap import CARRIER_KEYS, find_prefixed, is_raw_event, split_cri, unwrap
from barrelman.records.event import Event

AUDIT: dict[str, Any] = {
    "kind": "Event",
    "apiVersion": "audit.k8s.io/v1",
    "level": "Metadata",
    "auditID": "id-1",
    "stage": "ResponseComplete",
    "requestURI": "/api/v1/pods",
    "verb": "list",
    "user": {"username": "alice"},
}
TEXT = json.dumps(AUDIT)
NESTED = {"@timestamp": "2026-11-23T07:06:00Z", "kubernetes": {"audit": {"verb": "list"}}}
SEPARATE = {key: value for key, value in AUDIT.items() if key not in ("kind", "apiVersion")}


def events(value: Any) -> list[Event]:
    return [found for found in unwrap(value) if isinstance(found, Event)]


RAW = {
    "v1": AUDIT,
    "v1beta1": {**AUDIT, "apiVersion": "audit.k8s.io/v1beta1"},
    "v1alpha1": {**AUDIT, "apiVersion": "audit.k8s.io/v1alpha1"},
    "no apiVersion": {key: value for key, value in AUDIT.items() if key != "apiVersion"},
    "neither": SEPARATE,
    "auditID alone": {"auditID": "x"},
    "verb and stage": {"verb": "get", "stage": "Panic"},
    "verb and user, odd types": {"verb": 7, "user": []},
    "no fields but its kind": {"kind": "Event", "apiVersion": "audit.k8s.io/v1"},
    "hostile apiVersion beside an auditID": {"kind": "Event", "apiVersion": 5, "auditID": "x"},
    "with a list of its own": {**AUDIT, "items": [{"auditID": "y"}]},
    "merged into a shipper's record": {**AUDIT, "@timestamp": "2026-11-23T07:06:00Z"},
}


@pytest.mark.parametrize("name", RAW)
def test_audit_events_are_taken_as_they_are(name: str) -> None:
    found = events(RAW[name])
    assert [(one.body, one.is_document) for one in found] == [(RAW[name], False)]
    assert is_raw_event(RAW[name])


CARRIED: dict[str, Any] = {
    "EventList": {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [AUDIT]},
    "items alone": {"items": [AUDIT]},
    "array": [AUDIT],
    "array of arrays": [[[AUDIT]]],
    "array of texts": [TEXT, 7],
    "AKS text": {"time": "t", "properties": {"log": TEXT}},
    "AKS object": {"time": "t", "properties": {"log": AUDIT}},
    "AKS properties as text": {"properties": json.dumps({"log": TEXT})},
    "AKS records": {"records": [{"properties": {"log": TEXT}}]},
    "AKS table": {"TimeGenerated": "t", "log_s": TEXT},
    "CloudWatch subscription": {
        "messageType": "DATA_MESSAGE",
        "logEvents": [{"id": "1", "timestamp": 1, "message": TEXT}],
    },
    "filter-log-events": {"events": [{"message": TEXT}], "searchedLogStreams": []},
    "Docker": {"log": TEXT + "\n", "stream": "stdout", "time": "t"},
    "Docker, first part of a line that is whole": {"log": TEXT, "stream": "stdout", "time": "t"},
    "Fluent Bit": {"date": 1.5, "log": TEXT, "kubernetes": {"pod_name": "p", "labels": {}}},
    "Fluent Bit, parsed": {"log": TEXT, "log_processed": AUDIT},
    "Fluentd": [1700000000, {"message": TEXT}],
    "Fluentd with a tag": ["kube.audit", 1700000000, {"message": TEXT}],
    "Fluent Bit 2": [[1700000000.5, {}], {"log": TEXT}],
    "Filebeat": {"@timestamp": "t", "message": TEXT, "host": {"name": "n"}},
    "Logstash": {"@timestamp": "t", "@version": "1", "event": {"original": TEXT}},
    "event.original": {"@timestamp": "t", "event.original": TEXT},
    "Splunk": {"preview": False, "result": {"_raw": TEXT}},
    "Splunk HEC": {"time": 1, "event": AUDIT},
    "journal": {"MESSAGE": TEXT, "PRIORITY": "6"},
    "Cloud Logging text": {"insertId": "x", "logName": "l", "jsonPayload": AUDIT},
    "OTLP": {"body": {"stringValue": TEXT}},
    "CRI line in a record": {"log": "2026-11-23T07:06:00.1Z stdout F " + TEXT},
    "syslog line in a record": {"message": "<14>Nov 23 07:06:00 host audit: " + TEXT},
    "five wrappers": {"data": json.dumps({"msg": json.dumps({"record": {"body": {"log": TEXT}}})})},
    "hit of a raw event": {"_index": "i", "_id": "1", "_source": AUDIT},
    "hit of a shipper's record": {"_source": {"@timestamp": "t", "message": TEXT}},
}


@pytest.mark.parametrize("name", CARRIED)
def test_events_are_found_in_their_wrappers(name: str) -> None:
    found = events(CARRIED[name])
    assert [(one.body, one.is_document) for one in found] == [(AUDIT, False)]


@pytest.mark.parametrize("key", CARRIER_KEYS)
@pytest.mark.parametrize("held", [TEXT, AUDIT, [AUDIT], "\n " + TEXT + "\n"])
def test_every_carrier_key(key: str, held: Any) -> None:
    assert [one.body for one in events({"ts": 1, key: held})] == [AUDIT]


DOCUMENTS: dict[str, Any] = {
    "nested": NESTED,
    "no timestamp": {"kubernetes": {"audit": {"verb": "list"}}},
    "dotted": {"kubernetes.audit.verb": "list"},
    "half dotted": {"kubernetes.audit": {"verb": "list"}},
    "dotted inside": {"kubernetes": {"audit.verb": "list", "pod": {"name": "p"}}},
    "with a list key of its own": {**NESTED, "events": [AUDIT], "records": [1]},
    "with a message": {**NESTED, "message": TEXT},
    "another document": {"@timestamp": "t", "event": {"kind": "event"}, "items": [{"a": 1}]},
    "another document with a JSON message": {
        "@timestamp": "t",
        "message": json.dumps({"@timestamp": "u", "a": 1}),
    },
    "timestamp that is none": {"@timestamp": []},
}


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("wrapper", ["alone", "hit", "reply", "text"])
def test_documents_are_taken_as_they_are(name: str, wrapper: str) -> None:
    document = DOCUMENTS[name]
    hit = {"_index": "logs-x", "_id": "7", "_score": None, "_source": document}
    value = {
        "alone": document,
        "hit": hit,
        "reply": {"took": 1, "hits": {"total": {"value": 1}, "hits": [hit]}},
        "text": {"data": json.dumps(hit)},
    }[wrapper]
    found = events(value)
    assert [(one.body, one.is_document) for one in found] == [(document, True)]
    expected = (None, None) if wrapper == "alone" else ("logs-x", "7")
    assert (found[0].index, found[0].document_id) == expected


def test_a_hit_may_have_fields_alone() -> None:
    fields = {"kubernetes.audit.verb": ["list"], "user.name": ["alice"]}
    (found,) = events({"hits": {"hits": [{"_index": "i", "_id": 5, "fields": fields}]}})
    assert (found.body, found.is_document, found.index) == (fields, True, "i")
    assert found.document_id is None


def test_any_source_is_a_document() -> None:
    (found,) = events({"_source": {"a": 1}})
    assert (found.body, found.is_document) == ({"a": 1}, True)


def test_the_wrapper_of_aks() -> None:
    record = {
        "time": "2026-11-23T07:06:00.0000000Z",
        "operationName": "Microsoft.ContainerService/managedClusters/diagnosticLogs/Read",
        "category": "kube-audit",
        "resourceId": "/SUBSCRIPTIONS/X",
        "ccpNamespace": "64a0",
        "ServiceBuild": "na",
        "tags": {"a": 1},
        "properties": {"log": TEXT, "stream": "stdout", "pod": "p", "containerID": "c"},
    }
    (found,) = events(record)
    assert found.wrapper_time == "2026-11-23T07:06:00.0000000Z"
    assert found.aks_metadata == {
        "operation_name": "Microsoft.ContainerService/managedClusters/diagnosticLogs/Read",
        "category": "kube-audit",
        "resource_id": "/SUBSCRIPTIONS/X",
        "ccp_namespace": "64a0",
        "service_build": "na",
        "stream": "stdout",
        "pod": "p",
        "container_id": "c",
    }
    assert found.raw == TEXT.encode()


KINDS: list[tuple[Any, str]] = [
    ({"kind": 0}, "foreign"),
    ({"kind": "Event", "apiVersion": 5}, "foreign"),
    ({"kind": "Event", "apiVersion": "v1", "message": TEXT, "verb": "x", "user": 1}, "foreign"),
    ({"kind": "Event", "apiVersion": "events.k8s.io/v1", "note": TEXT}, "foreign"),
    ({"kind": "ConfigMap", "apiVersion": "v1", "data": {"message": TEXT}}, "foreign"),
    ({"kind": "Pod", "auditID": "x"}, "foreign"),
    ({"apiVersion": "v1", "auditID": "x"}, "foreign"),
    ({"verb": "get"}, "foreign"),
    ({"items": 7}, "foreign"),
    ({"items": None}, "foreign"),
    ({"items": [7]}, "malformed"),
    ({"items": ["x"]}, "malformed"),
    ({"items": [{"a": 1}]}, "foreign"),
    ({"properties": []}, "foreign"),
    ({"properties": {"log": 7}}, "foreign"),
    ({"properties": {"log": "I1123 07:06:00 started"}}, "foreign"),
    ({"properties": {"log": TEXT[:40]}}, "malformed"),
    ({"_source": "x"}, "foreign"),
    ({"fields": {"a": 1}}, "foreign"),
    ({"hits": {"hits": {}}}, "foreign"),
    ({"hits": [AUDIT]}, "foreign"),
    ({"kubernetes": {"audit": 5}}, "foreign"),
    ({"kubernetes": {"audit": {}}}, "foreign"),
    ({"kubernetes": []}, "foreign"),
    ({"log": []}, "foreign"),
    ({"event": {"event": {"event": 1}}}, "foreign"),
    ({}, "foreign"),
    (7, "malformed"),
    (None, "malformed"),
    ("x", "malformed"),
    ([None, None, None], "malformed"),
    ({"insertId": "x", "protoPayload": {}}, "gke"),
    ({"insertId": "x", "logName": "projects/p/logs/cloudaudit.googleapis.com%2Factivity"}, "gke"),
    ({"message": json.dumps({"insertId": "x", "protoPayload": {}})}, "gke"),
    (
        {"messageType": "CONTROL_MESSAGE", "logEvents": [{"level": "x", "timestamp": 1}]},
        "foreign",
    ),
]


@pytest.mark.parametrize(("value", "kind"), KINDS, ids=lambda one: json.dumps(one)[:60])
def test_what_is_no_event(value: Any, kind: str) -> None:
    found = unwrap(value)
    assert found
    assert {one.kind for one in found if isinstance(one, Problem)} == {kind}
    assert len(found) == sum(isinstance(one, Problem) for one in found)


FRAGMENTS: list[tuple[Any, bytes, bool]] = [
    ({"log": '{"kind":', "stream": "stdout", "time": "t"}, b'{"kind":', True),
    ({"log": '"Event"}\n', "stream": "stdout", "time": "t"}, b'"Event"}', False),
    ({"log": "talk", "stream": "stdout", "logtag": "F"}, b"talk", False),
    ({"log": "talk", "stream": "stdout", "logtag": "P"}, b"talk", True),
    ({"log": "x" * 16_384, "stream": "s", "kubernetes": {}}, b"x" * 16_384, True),
    ({"level": "info", "msg": "started"}, b"started", False),
    ({"messageType": "x", "message": "CWL CONTROL MESSAGE"}, b"CWL CONTROL MESSAGE", False),
]


@pytest.mark.parametrize(("value", "text", "is_partial"), FRAGMENTS)
def test_text_that_may_be_a_part_of_an_event(value: Any, text: bytes, is_partial: bool) -> None:
    (found,) = unwrap(value)
    assert isinstance(found, Fragment)
    assert (found.text, found.is_partial) == (text, is_partial)


def test_streams_are_kept_apart() -> None:
    records = [
        {"log": "x", "stream": stream, "kubernetes": {"pod_name": pod}}
        for stream in ("stdout", "stderr")
        for pod in ("a", "b")
    ]
    names = {
        found.stream for one in records for found in unwrap(one) if isinstance(found, Fragment)
    }
    assert len(names) == 4


@pytest.mark.parametrize(
    ("line", "text", "is_partial"),
    [
        (b"2026-11-23T07:06:00.123456789Z stdout F {}", b"{}", False),
        (b"2026-11-23T07:06:00.123456789+01:00 stderr P x y ", b"x y ", True),
        (b"2026-11-23T07:06:00Z stdout F:tag x", b"x", False),
        (b"2026-11-23T07:06:00Z stdout F", b"", False),
    ],
)
def test_cri_lines(line: bytes, text: bytes, is_partial: bool) -> None:
    found = split_cri(line)
    assert found is not None
    assert (found.text, found.is_partial) == (text, is_partial)


@pytest.mark.parametrize(
    "line",
    [b"2026-11-23T07:06:00Z stdin F x", b"2026-11-23 stdout F x", b"x", b"stdout F x"],
)
def test_lines_that_are_not_cri(line: bytes) -> None:
    assert split_cri(line) is None


PREFIXES = [
    "2023-01-27T18:28:08.129Z ",
    "2023-01-27T18:28:08.129000+00:00 kube-apiserver-audit-0123456789abcdef ",
    "ip-10-0-1-2.ec2.internal ",
    "<14>Nov 23 07:06:00 master-0 kube-apiserver[4711]: ",
    "[pod/kube-apiserver/audit] ",
    "{} ",
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_an_object_behind_other_text(prefix: str) -> None:
    found = find_prefixed((prefix + TEXT).encode())
    assert found is not None
    (one,) = found.answer
    assert isinstance(one, Event)
    assert (one.body, one.raw) == (AUDIT, TEXT.encode())


def test_raw_is_one_line_or_none() -> None:
    text = json.dumps(AUDIT, indent=1)
    (found,) = events({"message": text})
    assert (found.body, found.raw) == (AUDIT, None)


SHAPE_KEYS = [
    *("kind", "apiVersion", "items", "records", "hits", "_source", "fields", "properties", "_id"),
    *("kubernetes", "@timestamp", "auditID", "verb", "user", "logName", "insertId", "stream"),
    *("protoPayload", "logtag", "logEvents", "events"),
]
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "x", "{", "t", TEXT]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*CARRIER_KEYS, *SHAPE_KEYS]), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(ANY_JSON)
@settings(deadline=None, max_examples=150)
def test_any_value_is_answered(value: Any) -> None:
    found = unwrap(value)
    assert found or "[]" in json.dumps(value)  # an empty list is all that may be passed over
    for one in found:
        if isinstance(one, Event):
            assert isinstance(one.body, dict)


WRAPPERS = st.lists(
    st.sampled_from(
        [
            lambda value: {"log": json.dumps(value) + "\n", "stream": "stdout"},
            lambda value: {"message": json.dumps(value), "@timestamp": "t"},
            lambda value: {"_index": "i", "_source": {"event": {"original": json.dumps(value)}}},
            lambda value: {"items": [value]},
            lambda value: [7, {"record": value}],
            lambda value: {"time": "t", "properties": {"log": json.dumps(value)}},
            lambda value: {"body": "host prefix: " + json.dumps({"data": value})},
        ]
    ),
    max_size=3,
)


@given(WRAPPERS, st.sampled_from([AUDIT, SEPARATE, {"_source": NESTED}, NESTED]))
@settings(deadline=None, max_examples=133)
def test_wrapping_changes_no_body(wrappers: list[Any], body: dict[str, Any]) -> None:
    value: Any = body
    for wrap in wrappers:
        value = wrap(value)
    found = events(value)
    assert [one.body for one in found] == [NESTED if "_source" in body else body]
