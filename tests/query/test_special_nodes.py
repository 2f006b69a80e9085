"""Nodes that EQL and Lucene make: their types, their description, and what they are made of."""

from __future__ import annotations

import pytest

from barrelman.errors import QueryTypeError
from barrelman.query.ast import (
    And,
    Boolean,
    Call,
    Compare,
    Condition,
    Constant,
    Exists,
    FieldValue,
    Fuzzy,
    Holds,
    Is,
    Near,
    Node,
    Not,
    Null,
    Number,
    Pattern,
    Range,
    RegExp,
    Suits,
    Text,
    Wild,
)
from barrelman.query.eql import parse_eql
from barrelman.query.eqlcheck import check_eql
from barrelman.query.operands import Computed, fields_needed, operands_of
from barrelman.query.render import describe, render_kql
from barrelman.query.typecheck import MOST_PARTS, check_types
from barrelman.records.fields import Catalogue, FieldType

CATALOGUE = Catalogue(exact={kind.value: kind for kind in FieldType})
F, G = FieldValue(Text("f")), FieldValue(Text("g"))
LENGTH = Call("length", (F,))


def of(kind: str) -> Text:
    return Text(kind)


SUITS: list[Node] = [
    Is(of("long"), Number(5), exact=True),
    Is(of("double"), Number(5.5), exact=True),
    Is(of("date"), Number(5), exact=True),
    Is(of("keyword"), Number(5), exact=True),
    Is(of("keyword"), Text("x"), exact=True),
    Is(of("date"), Text("2026-11-23"), exact=True),
    Is(of("ip"), Text("::1"), exact=True),
    Is(of("boolean"), Boolean(True), exact=True),
    Is(of("keyword"), RegExp("a|b"), exact=True),
    Is(of("text"), Fuzzy("a", 1)),
    Is(of("text"), Near("a b", 1)),
    Is(of("long"), Near("5", 1)),
    Is(None, RegExp("a")),
    Is(None, Fuzzy("a", 1)),
    Is(Text("unknown"), Number(5), exact=True),
    Range(of("long"), "gt", Number(5), exact=True),
    Range(of("date"), "gt", Number(5), exact=True),
    Range(of("keyword"), "gt", Number(5), exact=True),
    Suits(LENGTH, RegExp("a")),
    Compare(LENGTH, "eq", Constant(None)),
]


@pytest.mark.parametrize("node", SUITS, ids=repr)
def test_what_suits(node: Node) -> None:
    check_types(node, CATALOGUE)
    check_types(Not(node), CATALOGUE)


WRONG: list[tuple[Node, str]] = [
    (Is(of("long"), Text("5"), exact=True), "long is a number, not a text"),
    (Is(of("double"), Text("x"), exact=True), "double is a number, not a text"),
    (Is(of("boolean"), Text("true"), exact=True), "boolean is a boolean, not a text"),
    (Is(of("boolean"), Number(1), exact=True), "boolean is a boolean, not a number"),
    (Is(of("ip"), Number(1), exact=True), "ip is an IP address, not a number"),
    (Is(of("ip"), Text("x"), exact=True), "neither address nor CIDR"),
    (Is(of("date"), Text("x"), exact=True), "date is a date"),
    (Is(of("long"), RegExp("5")), "long is a number"),
    (Is(of("date"), Fuzzy("x", 1)), "date is a date"),
    (Is(of("long"), Near("x", 1)), "'x' is none"),
    (Is(of("long"), Null(), exact=True), "null is no value"),
    (Range(of("long"), "gt", Text("5"), exact=True), "not a text"),
    (Range(of("ip"), "gt", Number(5), exact=True), "not a number"),
    (Range(of("boolean"), "gt", Number(5), exact=True), "not a number"),
    (Is(of("keyword"), RegExp("(a")), "at its character 1: `\\(` is never closed"),
    (Is(Text("unknown"), RegExp("a|")), "at its character 3"),
    (Is(None, RegExp("[")), "never closed"),
    (Suits(LENGTH, RegExp("[")), "never closed"),
    (Holds(Condition(Is(of("keyword"), RegExp("[")))), "never closed"),
    (
        Holds(Call("startswith", (FieldValue(Text("." * MOST_PARTS)), Constant("x")))),
        "has at most",
    ),
]


@pytest.mark.parametrize(("node", "message"), WRONG, ids=[repr(node)[:60] for node, _ in WRONG])
def test_what_does_not(node: Node, message: str) -> None:
    for wrapped in (node, Not(node), Holds(Condition(node))):
        with pytest.raises(QueryTypeError, match=message):
            check_types(wrapped, CATALOGUE)


def test_a_wrong_regular_expression_is_told_where_it_stands_in_the_query() -> None:
    text = 'any where f regex\n  ("a", "(b")'
    with pytest.raises(QueryTypeError) as caught:
        check_types(Is(Text("f"), RegExp("(b", span=(26, 30))), CATALOGUE, text=text)
    assert (caught.value.place.line, caught.value.place.column) == (2, 9)


@pytest.mark.parametrize(
    ("condition", "column"),
    [
        ('f regex "(a"', 19),
        ('f regex ("a", "b", "[")', 30),
        ('f != null and not f regex~ "a{2"', 38),
        ('substring(f, 1) regex "a|"', 33),
        ('null == (f regex "a\\\\")', 28),
    ],
)
def test_eql_tells_a_wrong_regular_expression(condition: str, column: int) -> None:
    text = f"any where {condition}"
    for whole in (text, f"sequence [{text}] [any where true]"):
        with pytest.raises(QueryTypeError, match="in the regular expression") as caught:
            check_eql(parse_eql(whole), CATALOGUE, text=whole)
        assert caught.value.place.column == column + whole.index(text)


SHOWN: list[tuple[Node, str]] = [
    (Is(Text("f"), Number(5), exact=True), "f:5"),
    (Is(Text("f"), Text("a b", quoted=True), exact=True), 'f:"a b"'),
    (Range(Text("f"), "gte", Number(-2.5), exact=True), "f >= -2.5"),
    (Is(Text("f"), RegExp("a/b")), r"f:/a\/b/"),
    (Is(Text("f"), RegExp("a", ignore_case=True)), "f:/a/ (any case)"),
    (Is(Text("f"), Fuzzy("name", 2)), "f:name~2"),
    (Is(Text("f"), Near("a b", 3)), 'f:"a b"~3'),
    (Is(None, RegExp("a")), "/a/"),
    (Compare(LENGTH, "gt", Constant(5)), "length(f) > 5"),
    (Compare(LENGTH, "eq", Constant(None)), "length(f) == null"),
    (
        Compare(Call("add", (F, Call("divide", (G, Constant(2))))), "lte", Constant(1.5)),
        "(f + (g / 2)) <= 1.5",
    ),
    (
        Holds(Call("startswith", (F, Constant('a"b')), ignore_case=True)),
        r'startswith~(f, "a\"b")',
    ),
    (Suits(LENGTH, Pattern(("a", Wild.RUN))), "length(f):a*"),
    (
        Compare(
            Constant(None), "eq", Condition(And((Is(Text("f"), Text("a")), Exists(Text("g")))))
        ),
        "null == (f:a and g:*)",
    ),
    (Compare(F, "eq", Constant(True)), "f == true"),
    (Not(Holds(Call("startswith", (F, Constant("x"))))), 'not startswith(f, "x")'),
]


@pytest.mark.parametrize(("node", "text"), SHOWN, ids=[text for _, text in SHOWN])
def test_they_are_described_and_are_no_kql(node: Node, text: str) -> None:
    assert describe(node) == text
    with pytest.raises(ValueError, match="KQL"):
        render_kql(node)


NEEDED: list[tuple[Computed, set[str]]] = [
    (Holds(F), {"f"}),
    (Holds(Call("startswith", (F, G))), {"f", "g"}),
    (Suits(Call("concat", (F, Constant("x"))), Text("a")), {"f"}),
    (Compare(LENGTH, "eq", Constant(5)), {"f"}),
    (Compare(Constant(5), "eq", LENGTH), {"f"}),
    (Compare(LENGTH, "gt", G), {"f", "g"}),
    # Two nulls are equal.
    (Compare(LENGTH, "eq", G), set()),
    (Compare(LENGTH, "eq", Constant(None)), set()),
    (Holds(Condition(Is(Text("f"), Text("x")))), set()),
    (Compare(Constant(1), "lt", Constant(2)), set()),
]


@pytest.mark.parametrize(("node", "names"), NEEDED, ids=[repr(node)[:70] for node, _ in NEEDED])
def test_without_which_fields_a_condition_is_not_met(node: Computed, names: set[str]) -> None:
    assert {field.value for field in fields_needed(node)} == names


def test_what_a_condition_is_made_of() -> None:
    inner = Is(Text("h"), Text("x"))
    node = Compare(Call("concat", (F, G, Condition(inner))), "eq", LENGTH)
    assert set(operands_of(node)) == {F, G, inner}
