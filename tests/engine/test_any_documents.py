"""Reading anything: what is marked as an audit event is one, any other object is a document."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrelman.engine.problem import Problem
from barrelman.engine.reader import EventReader
from barrelman.records.event import Event

AUDIT = {"kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": "a", "verb": "get"}
FLAT = {"auditID": "a", "stage": "ResponseComplete", "verb": "get", "@timestamp": "2026-11-23"}
ECS = {"@timestamp": "2026-11-23", "kubernetes": {"audit": {"verb": "get"}}}


def read(text: str | bytes, *, chunk: int = 0) -> list[Event | Problem]:
    data = text.encode() if isinstance(text, str) else text
    reader = EventReader(takes_any=True)
    size = chunk or max(1, len(data))
    found: list[Event | Problem] = []
    for at in range(0, len(data), size):
        found += reader.feed(data[at : at + size])
    return [*found, *reader.finish()]


def told(text: str | bytes) -> list[tuple[int, str, Any]]:
    """Line, kind and body (or reason) of what was found."""
    return [
        (each.line, "document" if each.is_document else "audit", each.body)
        if isinstance(each, Event)
        else (each.line, each.kind, each.reason)
        for each in read(text)
    ]


DOCUMENTS: list[dict[str, Any]] = [
    {},
    {"a": 1},
    {"verb": "create", "user": {"name": "kim"}},  # an event's members, and no audit event
    {"kind": "Pod", "apiVersion": "v1"},
    {"kind": "Event", "verb": "x", "stage": "y"},
    {"@timestamp": "2026-11-23", "message": "hello {world}"},
    {"event": {"category": "process"}, "process": {"name": "sh"}},
    {"log": "plain text\n", "stream": "stdout", "time": "2026-11-23T00:00:00Z"},
    {"message": '{"a": 1}'},
    {"items": [{"a": 1}, {"a": 2}]},
    {"events": [{"verb": "x", "user": {}}], "records": []},
    {"data": [1, 2]},
    ECS,
]


@pytest.mark.parametrize("body", DOCUMENTS)
def test_an_object_is_a_document_as_it_came(body: dict[str, Any]) -> None:
    line = json.dumps(body)
    assert told(f"{line}\n{line}\n") == [(1, "document", body), (2, "document", body)]
    (event, _) = read(f"{line}\n{line}")
    assert isinstance(event, Event)
    assert event.raw == line.encode()


@pytest.mark.parametrize("body", [body for body in DOCUMENTS if body])
def test_a_document_over_several_lines_is_one(body: dict[str, Any]) -> None:
    text = json.dumps(body, indent=2)
    assert [(kind, found) for _, kind, found in told(f"{text}\n{text}\n")] == [
        ("document", body),
        ("document", body),
    ]


@pytest.mark.parametrize("body", [AUDIT, FLAT])
def test_what_an_api_server_marks_is_an_audit_event(body: dict[str, Any]) -> None:
    line = json.dumps(body)
    assert told(line) == [(1, "audit", body)]
    carried = json.dumps({"log": line, "stream": "stdout"})
    assert told(carried) == [(1, "audit", body)]
    assert told(json.dumps({"kind": "EventList", "items": [body, body]})) == [
        (1, "audit", body),
        (1, "audit", body),
    ]


def test_escapes_hide_no_audit_event() -> None:
    line = json.dumps(AUDIT).replace("audit", "\\u0061udit")
    assert told(line) == [(1, "audit", AUDIT)]


def test_a_search_hit_is_its_source() -> None:
    hit = {"_index": "logs", "_id": "1", "_source": {"a": 1}}
    answer = {"took": 1, "hits": {"total": {"value": 2}, "hits": [hit, hit]}}
    for text, count in ((json.dumps(hit), 1), (json.dumps(answer), 2)):
        found = read(text)
        assert [each.body for each in found if isinstance(each, Event)] == [{"a": 1}] * count
    (event,) = read(json.dumps(hit))
    assert isinstance(event, Event)
    assert (event.index, event.document_id) == ("logs", "1")


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1}, {"a": 2}]',
        '[\n{"a": 1},\n{"a": 2}\n]',
        '[\n  {"a": 1},\n  {"a": 2}\n]\n',
        '[[{"a": 1}], {"a": 2}]',
        '{"a": 1} {"a": 2}',
        '{"a": 1}\n\n{\n  "a": 2\n}',
    ],
)
def test_arrays_and_objects_side_by_side(text: str) -> None:
    assert [(kind, body) for _, kind, body in told(text)] == [
        ("document", {"a": 1}),
        ("document", {"a": 2}),
    ]


def test_objects_on_lines_of_their_own_within_a_document_are_its_parts() -> None:
    body = {"tags": [{"k": 1}, {"k": 2}], "o": {"p": [{"q": 3}]}}
    text = '{\n"tags": [\n  {"k": 1},\n  {"k": 2}\n],\n"o": {"p": [\n  {"q": 3}\n]}}\n{"a": 1}\n'
    assert told(text) == [(1, "document", body), (9, "document", {"a": 1})]


@pytest.mark.parametrize(
    "broken",
    ['{"a": tru, "b": {"c": 2}}', '{"a": 1, "b": {"c": 2}', "nothing", "12", '"text"', "{]"],
)
def test_a_broken_line_is_told_and_costs_no_other(broken: str) -> None:
    found = told(f'{{"a": 1}}\n{broken}\n{{"a": 2}}\n')
    assert [each for each in found if each[1] == "document"] == [
        (1, "document", {"a": 1}),
        (3, "document", {"a": 2}),
    ]
    assert [each[:2] for each in found if each[1] != "document"] == [(2, "malformed")]


def test_what_stands_within_a_broken_line_is_no_document_but_may_be_an_audit_event() -> None:
    audit = json.dumps(AUDIT)
    assert [each[1] for each in told(f'{{"a": tru, "b": {audit}}}')] == ["malformed", "audit"]


def test_container_logs_that_hold_documents() -> None:
    text = '2026-11-23T07:06:00.1Z stdout F {"a": 1}\n2026-11-23T07:06:00.1Z stdout P {"a"\n'
    text += "2026-11-23T07:06:00.1Z stdout F : 2}\n"
    assert [(kind, body) for _, kind, body in told(text)] == [
        ("document", {"a": 1}),
        ("document", {"a": 2}),
    ]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "x", "{", '{"a":1}']),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "items", "log", "hits", "verb"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "log"]), _VALUES)), st.integers(1, 9))
def test_any_objects_come_back_as_they_were(bodies: list[dict[str, Any]], chunk: int) -> None:
    data = "".join(json.dumps(body) + "\n" for body in bodies).encode()
    found = read(data, chunk=chunk)
    assert [each.body for each in found if isinstance(each, Event)] == bodies
    assert len(found) == len(bodies)
