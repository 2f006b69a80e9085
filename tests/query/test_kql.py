"""KQL texts to trees: measured vectors, our own cases, and what mistakes are told."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.errors import QuerySyntaxError
from barrelman.query.ast import (
    MATCH_ALL,
    And,
    Boolean,
    FieldName,
    Is,
    Nested,
    Node,
    Not,
    Null,
    Or,
    Pattern,
    Range,
    Text,
    Value,
    Wild,
)
from barrelman.query.kql import MAX_NESTING, parse_kql
from barrelman.query.render import render_kql

FOLDER = Path(__file__).parent


def read(name: str) -> dict[str, list[dict[str, Any]]]:
    return tomllib.loads((FOLDER / name).read_text(encoding="utf-8"))


VECTORS = read("kql_vectors.toml")["case"]
CASES = read("kql_cases.toml")


def tree(notation: list[Any]) -> Node:
    kind, *parts = notation
    if kind in ("and", "or"):
        return (And if kind == "and" else Or)(tuple(tree(part) for part in parts))
    if kind == "not":
        return Not(tree(parts[0]))
    if kind == "any":
        return Is(None, value(parts[0]))
    if kind == "is":
        return Is(name(parts[0]), value(parts[1]))
    if kind == "range":
        return Range(name(parts[0]), parts[1], name(parts[2]))
    assert kind == "nested"
    return Nested(name(parts[0]), tree(parts[1]))


def name(notation: Any) -> FieldName:
    named = value(notation)
    assert isinstance(named, Text | Pattern)
    return named


def value(notation: Any) -> Value:
    if isinstance(notation, bool):
        return Boolean(notation)
    if isinstance(notation, str):
        return Text(notation)
    if "phrase" in notation:
        return Text(notation["phrase"], quoted=True)
    if "pattern" in notation:
        return Pattern(tuple(Wild.RUN if part == "*" else part for part in notation["pattern"]))
    assert notation == {"null": True}
    return Null()


def names(cases: list[dict[str, Any]]) -> list[str]:
    return [ascii(case["kql"]) for case in cases]


PARSING = [case for case in VECTORS if "tree" in case]
FAILING = [case for case in VECTORS if "tree" not in case]


def test_all_vectors_are_there() -> None:
    assert len(VECTORS) == 139
    assert len({case["kql"] for case in VECTORS}) == 139
    assert len(PARSING) + len(FAILING) == 139
    assert len(FAILING) == 32


@pytest.mark.parametrize("case", PARSING, ids=names(PARSING))
def test_vector_parses(case: dict[str, Any]) -> None:
    assert parse_kql(case["kql"]) == tree(case["tree"])


@pytest.mark.parametrize("case", FAILING, ids=names(FAILING))
def test_vector_fails(case: dict[str, Any]) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_kql(case["kql"])
    place = caught.value.place
    assert (place.line, place.column) == (case["line"], case["column"])
    assert caught.value.message == case["message"]


@pytest.mark.parametrize("case", PARSING, ids=names(PARSING))
def test_vector_renders_to_the_same_tree(case: dict[str, Any]) -> None:
    parsed = parse_kql(case["kql"])
    assert parse_kql(render_kql(parsed)) == parsed


@pytest.mark.parametrize("case", CASES["text"], ids=names(CASES["text"]))
def test_canonical_text(case: dict[str, Any]) -> None:
    parsed = parse_kql(case["kql"])
    assert render_kql(parsed) == case["canonical"]
    assert parse_kql(case["canonical"]) == parsed


@pytest.mark.parametrize("case", CASES["mistake"], ids=names(CASES["mistake"]))
def test_mistake(case: dict[str, Any]) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_kql(case["kql"])
    error = caught.value
    where = f"{case.get('line', 1)}:{case['column']}"
    assert error.oneline() == f"{where}: {case['says']}"


def test_error_draws_the_line_and_a_caret() -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_kql("a:1 and\nurl:http://x and b:2\nand c:3")
    assert str(caught.value).splitlines()[1:] == ["    url:http://x and b:2", "            ^"]


@pytest.mark.parametrize("text", ["", " ", "\t\r\n\xa0 "])
def test_empty_query_matches_everything(text: str) -> None:
    assert parse_kql(text) is MATCH_ALL


def test_parentheses_keep_their_node() -> None:
    a, b, c = (Is(None, Text(letter)) for letter in "abc")
    assert parse_kql("a or b or c") == Or((a, b, c))
    assert parse_kql("(a or b) or c") == Or((Or((a, b)), c))
    assert parse_kql("a and (b and c)") == And((a, And((b, c))))


def test_raw_half_of_a_surrogate_pair_is_refused_and_not_shown() -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_kql("a:1 and\nb:\ud83d")
    place = caught.value.place
    assert (place.line, place.column, place.text) == (2, 3, "b:?")


def literals(node: Node) -> Iterator[Value]:
    match node:
        case And(children) | Or(children):
            for child in children:
                yield from literals(child)
        case Not(child):
            yield from literals(child)
        case Nested(path, child):
            yield path
            yield from literals(child)
        case Is(field, of) | Range(field, _, of):
            yield from (field, of) if field else (of,)
        case _:
            raise AssertionError(node)


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("foo:bar", ["foo", "bar"]),
        ("  foo :  b c  and baz : \t true\n", ["foo", "b c", "baz", "true"]),
        ('foo:("a" or not *b* )', ["foo", '"a"', "foo", "*b*"]),
        (r'"f\"": \t\(x\)\n ', [r'"f\""', r"\t\(x\)\n"]),
        ("a*:{ b >= 5* and null }", ["a*", "b", "5*", "null"]),
        ("f:\u3000", ["f", "\u3000"]),
    ],
)
def test_spans_point_at_the_source(text: str, spans: list[str]) -> None:
    found = list(literals(parse_kql(text)))
    assert [text[slice(*literal.span)] for literal in found] == spans


# Nesting: the limit is the only reason to refuse well-formed brackets.


def nested(depth: int) -> str:
    return "(" * depth + "a:1" + ")" * depth


@pytest.mark.parametrize(
    "text",
    [
        nested(MAX_NESTING),
        "a:" + "(" * (MAX_NESTING + 1) + "1" + ")" * (MAX_NESTING + 1),
        "a:{ " * MAX_NESTING + "b:(1 or 2)" + " }" * MAX_NESTING,
        "x or y and not (" * MAX_NESTING + "b:(1 or 2 and not 3)" + ")" * MAX_NESTING,
        "x and (x or (" * (MAX_NESTING // 2) + "b:1 and b:2 or c:3" + "))" * (MAX_NESTING // 2),
    ],
)
def test_nesting_within_the_limit(text: str) -> None:
    parsed = parse_kql(text)
    assert parse_kql(render_kql(parsed)) == parsed


@pytest.mark.parametrize("depth", [MAX_NESTING + 1, 2_000, 200_000])
@pytest.mark.parametrize("close", [True, False])
def test_nesting_beyond_the_limit(depth: int, close: bool) -> None:
    text = nested(depth) if close else "(" * depth
    with pytest.raises(QuerySyntaxError, match="nested more than 50 deep") as caught:
        parse_kql(text)
    assert caught.value.place.column == MAX_NESTING + 1


@pytest.mark.parametrize(
    ("before", "column"),
    [("f:" + "(" * 60, 2 + MAX_NESTING + 2), ("f:{" * 60, 3 * (MAX_NESTING + 1))],
)
def test_nesting_of_lists_and_objects_beyond_the_limit(before: str, column: int) -> None:
    with pytest.raises(QuerySyntaxError, match="nested more than 50 deep") as caught:
        parse_kql(before + "a")
    assert caught.value.place.column == column


# Texts on which a parser that tries again, or looks ahead too often, would not come back.
LONG = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "a:" + "x" * LONG,
        "a:x" + " " * LONG + "y",
        "a:x" + " n" * (LONG // 2),
        "a:x" + " an" * (LONG // 3),
        "a:" + "\\\\" * (LONG // 2),
        "a:" + "*" * LONG,
        'a:"' + "\\t" * (LONG // 2) + '"',
        " or ".join(["a:1"] * (LONG // 7)),
        "a:(" + " and not ".join(["x"] * (LONG // 10)) + ")",
        " and ".join(["f:{ (a:1 or b:2) }"] * (LONG // 23)),
    ],
    ids=lambda text: text[:12],
)
def test_long_text_parses(text: str) -> None:
    parsed = parse_kql(text)
    assert parse_kql(render_kql(parsed)) == parsed


@pytest.mark.parametrize(
    "text",
    [
        'a:"' + "\\t" * LONG,
        'a:"' + "x" * LONG,
        "a:x" + " " * LONG + ":",
        "a:x" + ")" * LONG,
        "a:x:" + ")" * LONG,
        "a:not " + "}" * LONG,
        'a:"x"' + " " * LONG + "y",
        "a:" + " " * LONG,
        "a:" + "x " * LONG + "not y",
        "a:" + "&" * LONG + ":",
    ],
    ids=lambda text: text[:12],
)
def test_long_text_fails_with_a_short_message(text: str) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_kql(text)
    assert len(str(caught.value)) < 500


# Anything either parses or says where it does not.

SYMBOLS = [*'\\():<>"*{}', "<=", "&&", " || ", " ", " ", "\t", "\n", "\xa0", "\u3000"]
WORDS = ["a", "n", "N", "5", "not", "Not", "or", "and", " and ", " or ", "not ", "null", "true"]
ESCAPES = ["\\t", "\\n", "\\u00e9", "\\u", "\\*", "\\or", "\\ud83d", "\\ude00", "\ud800"]
FORMS = ['"x"', "a:b", "f:(", "g:{"]
SCRAPS = st.sampled_from([*SYMBOLS, *WORDS, *ESCAPES, *FORMS])


@settings(deadline=None, max_examples=300)
@given(st.lists(SCRAPS, max_size=14).map("".join) | st.text(max_size=40))
def test_any_text_parses_or_is_told_where_it_does_not(text: str) -> None:
    try:
        parsed = parse_kql(text)
    except QuerySyntaxError as error:
        place = error.place
        lines = text.split("\n")
        assert place.line is not None
        assert place.column is not None
        assert 1 <= place.line <= len(lines)
        assert 1 <= place.column <= len(lines[place.line - 1]) + 1
        str(error).encode()
    else:
        assert parse_kql(render_kql(parsed)) == parsed
