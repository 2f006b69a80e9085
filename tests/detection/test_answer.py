"""EQL over a whole input: the order of events, pipes, sequences, and more than memory holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrelman.detection.answer import Answer, Found, Joined, found_of
from barrelman.detection.ask import IndexQuestion, Question, check_question, why_no_audit_event
from barrelman.errors import QueryTypeError
from barrelman.query.eql import parse_eql
from barrelman.query.kql import parse_kql
from barrelman.records.event import Event
from barrelman.records.mapping import parse_mapping

START = "2026-11-23T12:00:"


def question(text: str, **fields: Any) -> Question:
    return Question(parse_eql(text), text, **fields)


def doc(number: int, seconds: float | None = None, **members: Any) -> dict[str, Any]:
    made = {"id": number, "event": {"category": "process"}, **members}
    return made if seconds is None else made | {"@timestamp": f"{START}{seconds:09.6f}Z"}


def answer(
    asked: Question, bodies: list[dict[str, Any]], *, memory_bytes: int = 1_000_000
) -> list[Found | Joined]:
    found = Answer(asked, memory_bytes=memory_bytes)
    index = IndexQuestion(asked)
    for body in bodies:
        event = Event(body, is_document=True, raw=json.dumps(body).encode())
        found.take(event, index.asked_of(event), now_ms=0)
    return list(found.finish())


def ids(found: list[Found | Joined]) -> list[Any]:
    """The numbers of the documents; of a sequence its keys and theirs."""
    return [
        each.event.body["id"]
        if isinstance(each, Found)
        else (each.keys, [None if one is None else one.event.body["id"] for one in each.events])
        for each in found
    ]


BODIES = [doc(1, 3), doc(2, 1), doc(3, 2), doc(4), doc(5, 1), doc(6, 2.000001), doc(7, 2.000002)]


@pytest.mark.parametrize(
    ("pipes", "expected"),
    [
        ("", [2, 5, 3, 6, 7, 1, 4]),
        ("| head 2", [2, 5]),
        ("| tail 2", [1, 4]),
        ("| head 5 | tail 2", [6, 7]),
        ("| tail 5 | head 2", [3, 6]),
        ("| head 100", [2, 5, 3, 6, 7, 1, 4]),
    ],
)
@pytest.mark.parametrize("memory_bytes", [1, 1_000_000])
def test_events_come_in_the_order_of_time_then_of_arrival(
    pipes: str, expected: list[int], memory_bytes: int
) -> None:
    asked = question(f"process where true {pipes}")
    assert ids(answer(asked, BODIES, memory_bytes=memory_bytes)) == expected


def test_ties_are_broken_by_a_field_null_last() -> None:
    bodies = [doc(1, 1, n=3), doc(2, 1), doc(3, 1, n=1), doc(4, 1, n="x"), doc(5, 1, n=[9, 2])]
    asked = question("any where true", tiebreaker_field="n")
    assert ids(answer(asked, bodies)) == [3, 5, 1, 4, 2]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["2026-11-23", "2025-01-01", None], [2, 1, 3]),
        ([1_700_000_000_000, 1_600_000_000_000, "2022-01-01"], [2, 3, 1]),
        ([131883573237130000, 131883573237120000, 131883573237140000], [2, 1, 3]),  # no date
        ([["2026-01-02", "2026-01-05"], "2026-01-03", "2026-01-01"], [3, 1, 2]),
    ],
)
def test_another_field_may_say_when(times: list[Any], expected: list[int]) -> None:
    bodies = [doc(number, t=time) for number, time in enumerate(times, 1)]
    asked = question("any where true", timestamp_field="t")
    assert ids(answer(asked, bodies)) == expected


def test_the_category_may_be_another_field() -> None:
    bodies = [doc(1, 1, kind="a"), doc(2, 2, kind=["b", "a"]), doc(3, 3)]
    assert ids(answer(question("a where true", category_field="kind"), bodies)) == [1, 2]
    assert ids(answer(question("a where true"), bodies)) == []


def test_a_sequence_joins_events_out_of_order() -> None:
    bodies = [doc(1, 5, u="x"), doc(2, 1, u="x"), doc(3, 2, u="y"), doc(4, 3, u="y"), doc(5, u="y")]
    asked = question("sequence by u [any where true] [any where true]")
    assert ids(answer(asked, bodies)) == [(("y",), [3, 4]), (("x",), [2, 1])]
    assert ids(answer(asked, bodies, memory_bytes=1)) == [(("y",), [3, 4]), (("x",), [2, 1])]


def test_events_of_one_time_follow_one_another_by_arrival() -> None:
    bodies = [doc(1, 1, k="b"), doc(2, 1, k="a"), doc(3, 1, k="b")]
    asked = question('sequence [any where k == "a"] [any where k == "b"]')
    assert ids(answer(asked, bodies)) == [((), [2, 3])]


def test_the_place_of_a_missing_event_is_empty() -> None:
    bodies = [doc(1, 1, k="a"), doc(2, 2, k="b"), doc(3, 3, k="b")]
    asked = question(
        'sequence with maxspan=5s [any where k=="a"] ![any where k=="c"] [any where k=="b"]'
    )
    assert ids(answer(asked, bodies)) == [((), [1, None, 2])]


def test_pipes_count_sequences() -> None:
    bodies = [doc(n, n, k="ab"[n % 2]) for n in range(8)]
    text = 'sequence [any where k=="a"] [any where k=="b"]'
    assert len(answer(question(text), bodies)) == 4
    assert ids(answer(question(f"{text} | tail 1"), bodies)) == [((), [6, 7])]
    assert ids(answer(question(f"{text} | head 1"), bodies)) == [((), [0, 1])]


def test_a_sample_takes_one_event_of_each_kind_whatever_their_order() -> None:
    bodies = [doc(1, 2, k="a", u="x"), doc(2, 1, k="b", u="x"), doc(3, 3, k="a", u="y")]
    asked = question('sample by u [any where k == "a"] [any where k == "b"]')
    assert ids(answer(asked, bodies)) == [(("x",), [1, 2])]


def test_what_has_no_time_is_in_no_sequence_and_counted() -> None:
    asked = question("sequence [any where true] [any where true]")
    found, index = Answer(asked), IndexQuestion(asked)
    for body in (doc(1), doc(2, 1), doc(3, 2)):
        event = Event(body, is_document=True)
        found.take(event, index.asked_of(event), now_ms=0)
    assert ids(list(found.finish())) == [((), [2, 3])]
    assert found.untimed == 1


def test_a_document_keeps_its_bytes() -> None:
    raw = b'{ "id": 1,  "n": 1.50 }'
    assert found_of(Event({"id": 1, "n": 1.5}, is_document=True, raw=raw)).line == raw
    assert found_of(Event({"id": 1, "n": 1.5}, is_document=True)).line == b'{"id":1,"n":1.5}'


@given(
    st.lists(st.tuples(st.none() | st.integers(0, 3), st.none() | st.integers(0, 2))),
    st.integers(1, 5),
    st.sampled_from(["head", "tail"]),
    st.sampled_from([1, 2_000, 1_000_000]),
)
def test_the_order_is_that_of_a_sort(
    events: list[tuple[int | None, int | None]], count: int, pipe: str, memory_bytes: int
) -> None:
    bodies = [doc(number, time, n=tie) for number, (time, tie) in enumerate(events)]
    asked = question(f"any where true | {pipe} {count}", tiebreaker_field="n")

    def place(number: int) -> tuple[Any, ...]:
        time, tie = events[number]
        return time is None, time or 0, tie is None, tie or 0, number

    ordered = sorted(range(len(events)), key=place)
    expected = ordered[:count] if pipe == "head" else ordered[max(0, len(ordered) - count) :]
    assert ids(answer(asked, bodies, memory_bytes=memory_bytes)) == expected


# --- which events a question is asked of, and how ------------------------------------------


def test_audit_events_have_the_types_of_rules_and_documents_those_of_their_values() -> None:
    asked = Question(parse_kql("code: x"), "code: x")
    index = IndexQuestion(asked)
    document = Event({"code": "x"}, is_document=True)
    assert index.asked_of(document).matches(document, 0)
    asked = Question(parse_kql("kubernetes.audit.responseStatus.code: x"), "")
    index = IndexQuestion(asked)
    assert not index.asked_of(document).matches(document, 0)
    for event in (
        Event({"auditID": "a"}),
        Event({"kubernetes": {"audit": {"verb": "get"}}}, is_document=True),
    ):
        with pytest.raises(QueryTypeError, match="is a number, and 'x' is none"):
            index.asked_of(event)


def test_with_a_mapping_all_events_have_its_types() -> None:
    mapped = parse_mapping({"properties": {"user.name": {"type": "text"}}}).catalogue
    index = IndexQuestion(Question(parse_kql("user.name: KIM"), ""), mapped=mapped)
    audit = Event({"user": {"username": "kim"}})
    document = Event({"user": {"name": "kim"}}, is_document=True)
    assert all(index.asked_of(event).matches(event, 0) for event in (audit, document))
    assert index.sieve() is None


def test_the_sieve_is_that_of_audit_events() -> None:
    rare = "kubernetes.audit.requestObject.spec.hostIPC: true"
    assert IndexQuestion(Question(parse_kql(rare), rare)).sieve() is not None
    assert IndexQuestion(Question(parse_kql("*"), "*")).sieve() is None
    wrong = "kubernetes.audit.responseStatus.code: x"
    assert IndexQuestion(Question(parse_kql(wrong), wrong)).sieve() is None


MAPPED = parse_mapping({"properties": {"when": {"type": "date"}, "k": {"type": "keyword"}}})


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        ("process where true", {}, "no field event.category, an event's category"),
        ("any where q == 1", {}, "no field q"),
        ("sequence [any where true] [any where true]", {}, "no field @timestamp, an event's time"),
        ("any where true", {"tiebreaker_field": "t"}, "no field t, which breaks ties"),
    ],
)
def test_eql_needs_its_fields_in_a_mapping(text: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryTypeError, match=message):
        check_question(question(text, **fields), MAPPED.catalogue)


def test_eql_does_not_need_optional_fields_in_a_mapping() -> None:
    check_question(question("any where ?q == null"), MAPPED.catalogue)
    other = question("a where true", category_field="k", timestamp_field="when")
    check_question(other, MAPPED.catalogue)


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (parse_kql("verb: create"), "it is called kubernetes.audit.verb"),
        (parse_kql("user.username: kim"), "it is called kubernetes.audit.user.username"),
        (parse_kql("process.name: sh"), "audit events have no field process.name"),
        (parse_kql("kubernetes.audit.verbb: x"), "did you mean verb?"),
        (question("process where true").node(), "only 'any where …' reaches them"),
    ],
)
def test_why_no_audit_event_can_be_found(node: Any, reason: str) -> None:
    found = why_no_audit_event(node)
    assert found is not None
    assert reason in found


def test_where_an_audit_event_may_be_found() -> None:
    assert why_no_audit_event(parse_kql("user.name: kim or process.name: x")) is None
    assert why_no_audit_event(question("any where user.name == null").node()) is None
