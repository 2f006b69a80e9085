"""Computed and exact conditions: in the sieve, in the index of rules, and on hostile values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_index import bodies, one_by_one
from test_literals import shown

from barrelman.engine.blind import impossible
from barrelman.engine.compile import Predicate, compile_query
from barrelman.engine.exact import exact_comparison, exact_equality
from barrelman.engine.index import RuleIndex
from barrelman.engine.literals import need_of
from barrelman.engine.reading import CUTS, MOST_COMBINATIONS
from barrelman.query.ast import (
    Boolean,
    Fuzzy,
    Is,
    Near,
    Node,
    Null,
    Number,
    Pattern,
    RegExp,
    Text,
    Value,
    Wild,
)
from barrelman.query.eql import parse_eql
from barrelman.query.eqltree import EventFilter
from barrelman.records.event import Event, JsonObject
from barrelman.records.fields import (
    AUDIT,
    AUDIT_CATALOGUE,
    Catalogue,
    FieldType,
    absence_in_raw_events,
)
from barrelman.records.paths import Scalar


def eql(condition: str) -> Node:
    top = parse_eql(f"any where {condition.replace('k.', f'{AUDIT}.')}").top
    assert isinstance(top, EventFilter)
    return top.node()


# --- what a line must hold ------------------------------------------------------------------

NEVER = None
LINES: list[tuple[str, list[str] | None, list[str]]] = [
    ('k.verb == "create"', ['"create"'], ['"verb"']),
    ('k.verb in ("create", "delete")', ['"create"|"delete"'], ['"verb"']),
    ('k.verb == "true"', [], ['"verb"']),
    ('k.verb like "crea*"', ['"crea'], ['"verb"']),
    ('k.verb : "create"', [], ['"verb"']),
    ('k.verb in~ ("create")', [], ['"verb"']),
    # Where values have no type a text is a JSON text, whatever it looks like.
    ('k.sourceIPs == "10.0.0.1"', ['"10.0.0.1"'], ['"sourceIPs"']),
    ('k.sourceIPs == "2026-11-23"', ['"2026-11-23"'], ['"sourceIPs"']),
    ('k.sourceIPs == "true"', ['"true"'], ['"sourceIPs"']),
    ("k.responseStatus.code == 403", [], ['"responseStatus', 'code"']),
    ("k.responseStatus.code >= 400", [], ['"responseStatus', 'code"']),
    ('startsWith(k.userAgent, "kubectl")', ['"kubectl'], ['"userAgent"']),
    ('startsWith(user.name, "system:")', ['"system:'], []),
    ('startsWith~(k.userAgent, "kubectl")', [], ['"userAgent"']),
    ('endsWith(k.userAgent, "kubectl")', ['kubectl"'], ['"userAgent"']),
    ('stringContains(k.userAgent, "kubectl")', ["kubectl"], ['"userAgent"']),
    ('stringContains(k.userAgent, "true")', [], ['"userAgent"']),
    ('startsWith(k.userAgent, "a\\"quote")', ["quote"], ['"userAgent"']),
    ("startsWith(k.userAgent, k.verb)", [], ['"userAgent"', '"verb"']),
    ('k.userAgent regex ".*(curl|wget)/.*"', ["curl|wget"], ['"userAgent"']),
    ('k.userAgent regex ".*(curl|wg)/.*"', [], ['"userAgent"']),
    ('k.userAgent regex "(12345|kubectl).*"', [], ['"userAgent"']),
    ('k.userAgent regex~ "kubectl"', [], ['"userAgent"']),
    ('k.userAgent regex """kub[e]ctl\\"longer"""', ["kubectl", "longer"], ['"userAgent"']),
    ("length(k.userAgent) > 100", [], ['"userAgent"']),
    ('concat(k.userAgent, k.verb) == "ab"', [], ['"userAgent"', '"verb"']),
    ('substring(k.userAgent, 2) like "kubectl*"', [], ['"userAgent"']),
    ('cidrMatch(k.sourceIPs, "10.0.0.0/8")', [], ['"sourceIPs"']),
    ('indexOf(k.userAgent, "kubectl") == null', [], []),
    ("length(k.userAgent) != 5", [], []),
    ("null == (k.verb == 1)", [], []),
    ('k.verb == "create" and length(k.userAgent) > 9', ['"create"'], ['"verb"', '"userAgent"']),
    ("k.verb == null", [], []),
    ('event.outcome == "success"', ['"allow"'], []),
    ('process.name == "x"', NEVER, []),
    ('startsWith(process.name, "x")', NEVER, []),
    ("length(process.name) > 1", NEVER, []),
    ("length(process.name) == null", [], []),
    ('length(process.name) > 1 or k.verb == "create"', ['"create"'], ['"verb"']),
]


@pytest.mark.parametrize(("condition", "values", "keys"), LINES, ids=[line[0] for line in LINES])
def test_what_a_line_must_hold(condition: str, values: list[str] | None, keys: list[str]) -> None:
    found = need_of(eql(condition), AUDIT_CATALOGUE)
    if values is NEVER:
        assert found.clauses is None
        return
    assert found.clauses is not None
    assert shown(found.clauses) == set(values)
    assert shown(found.keys) == set(keys)
    assert found.clauses or found.reasons


def test_what_is_nearly_so_may_be_anything() -> None:
    name = Text(f"{AUDIT}.verb")
    assert need_of(Is(name, Fuzzy("create", 1)), AUDIT_CATALOGUE).clauses == ()
    assert shown(need_of(Is(name, Near("create", 1)), AUDIT_CATALOGUE).clauses or ()) == {
        '"create"'
    }


# --- why a rule cannot fire -----------------------------------------------------------------

PROCESS = "audit events have no field process.name"


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ('process.name == "x"', PROCESS),
        ('startsWith(process.name, "x")', PROCESS),
        ("length(process.name) > 1", PROCESS),
        ("length(process.name) == 1", PROCESS),
        ("length(process.name) == null", None),
        ("not length(process.name) == 1", None),
        ("null == (process.name == 1)", None),
        ('concat(user.name, process.name) == "x"', PROCESS),
        ("length(user.name) > 1", None),
        ('process.name regex "x"', PROCESS),
    ],
)
def test_why_a_condition_cannot_hold(condition: str, reason: str | None) -> None:
    assert impossible(eql(condition), absence_in_raw_events) == reason


# --- all rules at once ----------------------------------------------------------------------

FIELDS = (
    *("k.verb", "event.action", "k.objectRef.resource", "user.name", "k.responseStatus.code"),
    *("k.objectRef.namespace", "event.outcome", "k.impersonatedUser.username", "k.userAgent"),
)
CONDITIONS = st.recursive(
    st.builds(
        str.format,
        st.sampled_from(
            [
                *('{0} == "get"', '{0} : "GET"', '{0} in ("get", "pods", "eve")', "{0} == 200"),
                *('startsWith({0}, "se")', "length({0}) > 3", "length({0}) == null", "{0} > 200"),
                *('{0} regex "[gs]e.*"', 'concat({0}, "x") == "getx"', "{0} + 1 == 201"),
                *('null == ({0} == "get")', "{0} == null", '{0} > "f"', '{0} like~ "*E*"'),
                'concat({0}, {1}) like "*s"',
                'null != ({0} == "get" and {1} == "pods")',
            ]
        ),
        st.sampled_from(FIELDS),
        st.sampled_from(FIELDS),
    ),
    lambda parts: (
        st.builds("({} and {})".format, parts, parts)
        | st.builds("({} or {})".format, parts, parts)
        | st.builds("not ({})".format, parts)
    ),
    max_leaves=4,
)


def compiled(*conditions: str) -> list[Predicate]:
    return [compile_query(eql(condition), AUDIT_CATALOGUE) for condition in conditions]


@settings(max_examples=140, deadline=None)
@given(st.lists(CONDITIONS, min_size=1, max_size=6), st.lists(bodies(), min_size=1, max_size=6))
def test_the_index_answers_as_its_rules_do(conditions: list[str], events: list[JsonObject]) -> None:
    predicates = compiled(*conditions)
    index = RuleIndex(predicates)
    for body in [*events, *events]:
        event = Event(body)
        assert index.matches(event) == one_by_one(predicates, event), body


# --- values ---------------------------------------------------------------------------------

KINDS = [None, *FieldType]
HOSTILE: list[Scalar] = [
    *("", "\ud800", "\x00", "9" * 5000, "nan", "-", "1e999", "0x10", "\u0663", "2026-13-45"),
    *(float("nan"), float("inf"), float("-inf"), -0.0, 1e308, 2**64, -(2**64), True, False),
]
LITERALS: list[Value] = [
    *(Text(text, quoted=True) for text in ("", "\ud800", "now", "9999-12-31||+9y", "::1", "1")),
    *(Number(number) for number in (0, 1, -(2**63), 1e308, 0.5)),
    *(Boolean(True), Boolean(False), Null(), Pattern(()), Pattern(("a",), ignore_case=True)),
    *(Pattern((Wild.RUN, "x")), RegExp("~(a)&.*"), Fuzzy("", 2), Fuzzy("ab", 2), Near("a b", 9)),
]


@pytest.mark.parametrize("kind", KINDS)
def test_no_value_and_no_literal_raises(kind: FieldType | None) -> None:
    for literal in LITERALS:
        tests = [exact_equality(kind, [literal])]
        if isinstance(literal, Text | Number | Pattern):
            tests += [exact_comparison(kind, op, literal) for op in ("gt", "gte", "lt", "lte")]
        for each in tests:
            for value in HOSTILE:
                assert each.test(value, 0) in (True, False)
    assert exact_equality(kind, LITERALS).test("no such", 0) in (True, False)


@pytest.mark.parametrize("kind", [None, FieldType.KEYWORD, FieldType.FLATTENED, FieldType.TEXT])
def test_a_list_is_typed_by_each_of_its_values(kind: FieldType | None) -> None:
    wanted: list[Value] = [Text("a"), Number(1), Number(2.5), Boolean(True), Text("7")]
    test = exact_equality(kind, [*wanted, Pattern(("b",), ignore_case=True), RegExp("c+")]).test
    for got in ("a", 1, 1.0, 2.5, True, "7", "B", "ccc"):
        assert test(got, 0), got
    for other in ("A", "1", False, 2, "true" if kind is None else "x", 0, "cd"):
        assert not test(other, 0), other
    assert test(7, 0) is (kind is not None)  # a field of texts has it as one


def test_dates_take_texts_and_numbers() -> None:
    test = exact_equality(FieldType.DATE, [Number(5), Text("2026-11-23")])
    assert test.test(5, 0)
    assert test.test("1970-01-01T00:00:00.005Z", 0)
    assert test.test("2026-11-23T23:59:59Z", 0)
    assert not test.test(6, 0)
    assert not test.uses_now
    assert exact_equality(FieldType.DATE, [Text("now")]).uses_now
    assert exact_comparison(FieldType.DATE, "gt", Text("now-1h")).uses_now
    assert not exact_comparison(None, "gt", Text("now-1h")).uses_now


# --- events ---------------------------------------------------------------------------------


def matches(condition: str, body: dict[str, Any], catalogue: Catalogue = AUDIT_CATALOGUE) -> bool:
    predicate = compile_query(eql(condition), catalogue)
    return predicate.matches(Event(body, is_document=True), now_ms=0)


def test_of_very_many_combinations_some_are_tried() -> None:
    size = int(MOST_COMBINATIONS**0.5) + 50
    body = {"a": list(range(size)), "b": list(range(size))}
    CUTS.take()
    assert matches("a + b == 1", body)
    assert not matches(f"a + b == {2 * size}", body)
    assert CUTS.take() == 2
    # Values that come twice are one.
    body = {"a": [1] * 100_000, "b": [*[2] * 100_000, 3]}
    assert matches("a + b == 4", body)
    assert not matches("a * b * a * b * a * b == 7", body)
    assert CUTS.take() == 0


def test_a_long_array_beside_single_values_is_asked_whole() -> None:
    body = {"a": [*range(20_000), 77_777], "b": [1], "c": 2}
    CUTS.take()
    assert matches("a + b + c == 77780", body)
    assert matches("b + c + a == 77780", body)
    assert matches("77780 == c + a + b", body)
    assert CUTS.take() == 0


def test_a_long_array_is_asked_whole() -> None:
    body = {"a": [*["x"] * 100_000, "end"]}
    assert matches('concat(a, "!") == "end!"', body)
    assert matches("length(a) == 3", body)


def test_values_explain_a_condition_that_is_about_one_field() -> None:
    condition = (
        'length(a) > 1 and b + 1 == 3 and not startsWith(c, "x") and concat(a, b) like "*" '
        'and null == (d == 1) and e regex "y+"'
    )
    body = {"a": ["x", "yy", "zz"], "b": [1, 2], "c": "y", "e": ["y", "n"]}
    predicate = compile_query(eql(condition), AUDIT_CATALOGUE)
    event = Event(body, is_document=True)
    assert predicate.matches(event, now_ms=0)
    expected = [("a", "yy"), ("a", "zz"), ("b", 2), ("e", "y")]
    assert predicate.explain(event, now_ms=0) == expected


def test_a_condition_within_an_expression_may_ask_the_time() -> None:
    catalogue = Catalogue(exact={"w": FieldType.DATE})
    predicate = compile_query(eql('null != (w > "now-1h")'), catalogue)
    assert predicate.uses_now
    assert not compile_query(eql("length(w) > 1"), catalogue).uses_now


def test_a_hidden_field_is_null() -> None:
    catalogue = Catalogue(exact={"n": FieldType.NESTED, "o": FieldType.FLATTENED})
    body = {"n": [{"x": "abc"}], "o": {"p": "abc"}}
    assert not matches("length(n.x) == 3", body, catalogue)
    assert matches("length(n.x) == null", body, catalogue)
    assert matches("length(o.p) == 3", body, catalogue)
    assert matches("length(o) == 3", body, catalogue)


@pytest.mark.parametrize("depth", [1, 45])
def test_calls_in_calls(depth: int) -> None:
    condition = "concat(" * depth + "a" + ', "x")' * depth + f' == "a{"x" * depth}"'
    assert matches(condition, {"a": "a"})
