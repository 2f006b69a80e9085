"""EQL texts to queries and back: our own cases, the trees they make, and what mistakes are told."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.errors import QueryError, QuerySyntaxError
from barrelman.query.ast import (
    MATCH_ALL,
    And,
    Boolean,
    Call,
    Compare,
    Condition,
    Constant,
    Exists,
    FieldValue,
    Holds,
    Is,
    Node,
    Not,
    Number,
    Or,
    Pattern,
    Range,
    RegExp,
    Suits,
    Text,
    Wild,
)
from barrelman.query.eql import parse_eql
from barrelman.query.eqlcursor import MAX_NESTING
from barrelman.query.eqllex import RESERVED
from barrelman.query.eqlrender import render_eql
from barrelman.query.eqltree import EventFilter, FieldUse, Pipe, Sample, Sequence, Stage

CASES: dict[str, list[dict[str, Any]]] = tomllib.loads(
    (Path(__file__).parent / "eql_cases.toml").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("case", CASES["text"], ids=lambda case: case["eql"])
def test_canonical_text(case: dict[str, Any]) -> None:
    query = parse_eql(case["eql"])
    canonical = case["canonical"]
    assert render_eql(query) == canonical
    again = parse_eql(canonical)
    assert again == query
    assert render_eql(again) == canonical


@pytest.mark.parametrize("case", CASES["mistake"], ids=lambda case: case["eql"])
def test_mistakes_are_told_with_their_place(case: dict[str, Any]) -> None:
    with pytest.raises(QuerySyntaxError) as raised:
        parse_eql(case["eql"])
    error = raised.value
    told = {"message": error.message, "line": error.place.line, "column": error.place.column}
    assert told == {"line": 1} | {key: case[key] for key in case if key not in ("eql", "hint")}
    if "hint" in case:
        assert error.hint == case["hint"]


# --- trees ---

A, B = Text("a"), Text("b")


def where(condition: str) -> Node:
    top = parse_eql(f"any where {condition}").top
    assert isinstance(top, EventFilter)
    return top.where


def is_a(value: Text | Pattern | RegExp | Number | Boolean) -> Is:
    return Is(A, value, exact=True)


def text(value: str) -> Text:
    return Text(value, quoted=True)


def wild(*tokens: str | Wild) -> Pattern:
    return Pattern(tokens, ignore_case=True)


STAR, CHAR = Wild.RUN, Wild.CHAR
TREES: list[tuple[str, Node]] = [
    # Leaves that all languages share.
    ('a == "x*"', is_a(text("x*"))),
    ("a == 5", is_a(Number(5))),
    ("a != 5", Not(is_a(Number(5)))),
    ("a", is_a(Boolean(True))),
    ("not a", Not(is_a(Boolean(True)))),
    ("a == false", is_a(Boolean(False))),
    ("a == null", Not(Exists(A))),
    ("a != null", Exists(A)),
    ("?a == null", Not(Exists(A))),
    ('a : "Xy"', is_a(wild("Xy"))),
    ('a : "x*y?"', is_a(wild("x", STAR, "y", CHAR))),
    ('a : ""', is_a(wild())),
    ("a : 5", is_a(Number(5))),
    ("a : true", is_a(Boolean(True))),
    ('a like "x"', is_a(text("x"))),
    ('a like "x*"', is_a(Pattern(("x", STAR)))),
    ('a like~ "x"', is_a(wild("x"))),
    ('a like ("x", "y*")', Or((is_a(text("x")), is_a(Pattern(("y", STAR)))))),
    ('a in~ ("x*")', is_a(wild("x*"))),
    ('a in~ ("x", 5)', Or((is_a(wild("x")), is_a(Number(5))))),
    ('a in ("x*")', is_a(text("x*"))),
    ('a not in ("x", "y")', Not(Or((is_a(text("x")), is_a(text("y")))))),
    ('a regex "x.?"', is_a(RegExp("x.?"))),
    ('a regex~ ("x", "y")', Or((is_a(RegExp("x", True)), is_a(RegExp("y", True))))),
    ("a < 5", Range(A, "lt", Number(5), exact=True)),
    ('"x" <= a', Range(A, "gte", text("x"), exact=True)),
    # Nothing escapes a wildcard.
    ('a : "x\\\\*"', is_a(wild("x\\", STAR))),
    # What depends on no field.
    ("true", MATCH_ALL),
    ("false", Not(MATCH_ALL)),
    ("1 + 1 == 2", MATCH_ALL),
    ("a and true", is_a(Boolean(True))),
    ("a or true", MATCH_ALL),
    ("not a and not true", Not(MATCH_ALL)),
    # One level of a connective, whatever the brackets.
    (
        "(a and (b and a == 1)) and b == 2",
        And(
            (
                is_a(Boolean(True)),
                Is(B, Boolean(True), exact=True),
                is_a(Number(1)),
                Is(B, Number(2), exact=True),
            )
        ),
    ),
    # Expressions.
    ('startsWith(a, "x")', Holds(Call("startswith", (FieldValue(A), Constant("x"))))),
    ('STARTSWITH~(a, "x")', Holds(Call("startswith", (FieldValue(A), Constant("x")), True))),
    ("length(a) == 5", Compare(Call("length", (FieldValue(A),)), "eq", Constant(5))),
    ("5 > length(a)", Compare(Call("length", (FieldValue(A),)), "lt", Constant(5))),
    ("length(a) != null", Not(Compare(Call("length", (FieldValue(A),)), "eq", Constant(None)))),
    ('string(a) : "x*"', Suits(Call("string", (FieldValue(A),)), wild("x", STAR))),
    ('string(a) : "x"', Suits(Call("string", (FieldValue(A),)), wild("x"))),
    ('string(a) like "x"', Compare(Call("string", (FieldValue(A),)), "eq", Constant("x"))),
    ('string(a) in ("x")', Compare(Call("string", (FieldValue(A),)), "eq", Constant("x"))),
    ("a + 1 == 2", Compare(Call("add", (FieldValue(A), Constant(1))), "eq", Constant(2))),
    ("-a == 2", Compare(Call("subtract", (Constant(0), FieldValue(A))), "eq", Constant(2))),
    ("a == 1 / 0", Compare(FieldValue(A), "eq", Call("divide", (Constant(1), Constant(0))))),
    ("null == (a > 1)", Compare(Condition(Range(A, "gt", Number(1), True)), "eq", Constant(None))),
    ("(a == 1) == false", Not(is_a(Number(1)))),
    (
        "string(a == 1) == null",
        Compare(Call("string", (Condition(is_a(Number(1))),)), "eq", Constant(None)),
    ),
    ("string(a) == null", Compare(Call("string", (FieldValue(A),)), "eq", Constant(None))),
    ("?a == b", Compare(FieldValue(A), "eq", FieldValue(B))),
    ("?a != b", Not(Compare(FieldValue(A), "eq", FieldValue(B)))),
]


@pytest.mark.parametrize(("condition", "tree"), TREES, ids=[each for each, _ in TREES])
def test_tree_of_a_condition(condition: str, tree: Node) -> None:
    assert where(condition) == tree


def test_whole_numbers_and_others_are_told_apart_where_division_needs_it() -> None:
    assert where("a / 2 == 1") != where("a / 2.0 == 1")
    assert where("string(1) == a") != where("string(true) == a")


def test_sequence() -> None:
    query = parse_eql(
        "sequence by k with maxspan=5m [any where a] by x [file where b] by y with runs=2 "
        "![any where false] by z until [any where true] by ?x | head 3"
    )
    k, x, y, z = (FieldUse(name) for name in "kxyz")
    a = EventFilter(None, is_a(Boolean(True)))
    b = EventFilter("file", Is(B, Boolean(True), exact=True))
    assert query.top == Sequence(
        (
            Stage(a, (k, x)),
            Stage(b, (k, y), runs=2),
            Stage(EventFilter(None, Not(MATCH_ALL)), (k, z), is_missing=True),
        ),
        maxspan_ms=300_000,
        until=Stage(EventFilter(None, MATCH_ALL), (k, FieldUse("x", optional=True))),
    )
    assert query.pipes == (Pipe("head", 3),)


def test_sample() -> None:
    query = parse_eql("sample by ?k [any where true] [file where true]")
    key = FieldUse("k", optional=True)
    stages = (
        Stage(EventFilter(None, MATCH_ALL), (key,)),
        Stage(EventFilter("file", MATCH_ALL), (key,)),
    )
    assert query.top == Sample(stages)


def test_fields_are_listed_in_order_of_mention_and_optional_only_if_all_mentions_are() -> None:
    text = "sequence by k [any where ?a == 1 and b] by ?x [any where a == 2 and ?c] by c | head 1"
    fields = parse_eql(text).fields
    assert fields == (
        FieldUse("k"),
        FieldUse("a"),
        FieldUse("b"),
        FieldUse("x", optional=True),
        FieldUse("c"),
    )
    assert {use.name: text[slice(*use.span)] for use in fields} == {
        "k": "k",
        "a": "a",
        "b": "b",
        "x": "?x",
        "c": "c",
    }


def test_spans_point_at_what_was_written() -> None:
    text = 'any where `a-b` : "x*" and 5 < length(c)'
    top = parse_eql(text).top
    assert isinstance(top, EventFilter)
    assert isinstance(top.where, And)
    leaf, compared = top.where.children
    assert isinstance(leaf, Is)
    assert leaf.field is not None
    assert text[slice(*leaf.field.span)] == "`a-b`"
    assert text[slice(*leaf.value.span)] == '"x*"'
    assert isinstance(compared, Compare)
    assert isinstance(compared.left, Call)
    assert text[slice(*compared.left.span)] == "length(c)"


def test_nested_at_the_limit_and_beyond() -> None:
    for opener, closer in (("(", ")"), ("not (", ")"), ("string(", ') == "x"')):
        at_limit = f"any where {opener * MAX_NESTING}a{closer * MAX_NESTING}"
        assert render_eql(parse_eql(at_limit))
        beyond = f"any where {opener * (MAX_NESTING + 1)}a{closer * (MAX_NESTING + 1)}"
        with pytest.raises(QuerySyntaxError, match="nested more than 50 deep"):
            parse_eql(beyond)


def test_long_sums_are_refused_and_long_lists_are_not() -> None:
    with pytest.raises(QuerySyntaxError, match="more than 50 deep in each other"):
        parse_eql("any where a" + " + 1" * 5_000 + " == 1")
    assert where("a == 1" + " + 1" * 5_000) == is_a(Number(5_001))
    for word in ("and", "or"):
        node = where(f" {word} ".join(f"a == {number}" for number in range(5_000)))
        assert isinstance(node, And | Or)
        assert len(node.children) == 5_000
    assert where("not " * 10_001 + "a") == Not(is_a(Boolean(True)))
    assert where("a == " + "-" * 10_001 + "1") == is_a(Number(-1))


def test_the_text_may_hold_no_half_character() -> None:
    with pytest.raises(QuerySyntaxError, match="surrogate"):
        parse_eql('any where a == "\ud800"')


# --- properties ---

NAMES = st.sampled_from(
    ["a", "b.c", "@timestamp", "`x-y`", "`a``b.c d`", "?a", "? o.p", "event.sequence", "`any`"]
)
STRINGS = st.sampled_from(
    [
        '"x"',
        '""',
        '"x*"',
        '"?"',
        '"X*y?z"',
        '"""\\d+"""',
        r'"\u{e9}\n\"\\"',
        '"é"',
        '"1"',
        '"10.0.0.0/8"',
    ]
)
NUMBERS = st.sampled_from(
    ["0", "1", "2.5", "1e3", "-3", "9223372036854775807", "-9223372036854775808", "-.5", "1e300"]
)
LITERALS = STRINGS | NUMBERS | st.sampled_from(["true", "false", "null"])


def listed(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(items, min_size=1, max_size=3).map(lambda texts: f"({', '.join(texts)})")


def glued(*parts: st.SearchStrategy[str] | str) -> st.SearchStrategy[str]:
    drawn = [st.just(part) if isinstance(part, str) else part for part in parts]
    return st.tuples(*drawn).map(" ".join)


OPERATORS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
SYMBOLS = st.sampled_from(["+", "-", "*", "/", "%"])
LIKE = st.sampled_from([":", "like", "like~", "regex", "regex~"])


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    texts = glued("string", "(", inner, ")") | glued("concat", "(", inner, ",", inner, ")") | NAMES
    texts |= glued("between~", "(", NAMES, ",", STRINGS, ",", STRINGS, ", true", ")")
    numbers = glued("length", "(", texts, ")") | NUMBERS | NAMES
    numbers |= glued("(", numbers, SYMBOLS, numbers, ")")
    values = texts | numbers
    return st.one_of(
        glued(values, OPERATORS, LITERALS),
        glued(LITERALS, OPERATORS, values),
        glued(numbers, SYMBOLS, numbers, OPERATORS, NUMBERS),
        glued(texts, LIKE, STRINGS | listed(STRINGS)),
        glued(NAMES, LIKE, LITERALS | listed(LITERALS)),
        glued(values, st.sampled_from(["in", "not in"]), listed(LITERALS)),
        glued(NAMES, st.sampled_from(["in~", "not in~"]), listed(LITERALS)),
        glued("startsWith", "(", texts, ",", texts, ")"),
        glued("cidrMatch", "(", NAMES, ',"10.0.0.0/8")'),
        glued("(", inner, ")", OPERATORS, st.sampled_from(["true", "false", "null"])),
        glued("?o", OPERATORS, NAMES),
        NAMES,
        st.sampled_from(["true", "false"]),
        glued("not", "(", inner, ")"),
        glued("not", inner),
        glued("(", inner, ")", st.sampled_from(["and", "or"]), inner),
        glued(inner, st.sampled_from(["and", "or"]), inner),
    )


CONDITIONS = st.recursive(NAMES | st.just("true"), grown, max_leaves=12)
FILTERS = glued(st.sampled_from(["any", "file", '"x y"', '"any"']), "where", CONDITIONS)
KEYS = st.lists(NAMES, max_size=2).map(lambda names: f"by {', '.join(names)}" if names else "")


@st.composite
def sequences(draw: st.DrawFn) -> str:
    width = draw(st.integers(0, 2))
    own = st.lists(NAMES, min_size=width, max_size=width)

    def stage(opener: str) -> str:
        keys = draw(own)
        by = f"by {', '.join(keys)}" if keys else ""
        runs = draw(st.sampled_from(["", "with runs=2"])) if opener == "[" else ""
        return f"{opener}{draw(FILTERS)}] {by} {runs}"

    openers = draw(st.lists(st.sampled_from(["[", "["]), min_size=2, max_size=3))
    missing = draw(st.booleans())
    stages = [stage(opener) for opener in openers]
    if missing:
        stages.insert(draw(st.integers(0, len(stages))), stage("!["))
    span = "with maxspan=90s" if missing or draw(st.booleans()) else ""
    pipes = draw(st.sampled_from(["", "| head 1", "| tail 2 | head 1"]))
    return f"sequence {draw(KEYS)} {span} {' '.join(stages)} {pipes}"


@settings(deadline=None)
@given(FILTERS | sequences())
def test_a_query_written_out_parses_to_itself(written: str) -> None:
    try:
        query = parse_eql(written)
    except QueryError:
        return  # literals of two kinds that are compared, for one
    canonical = render_eql(query)
    assert parse_eql(canonical) == query
    assert render_eql(parse_eql(canonical)) == canonical


WORDS = "a b.c `d` ? 1 .5 5m head runs like~ in~ length( startsWith~( // /* */ é"
SIGNS = '== = != < : + - * / % . , ( ) [ ] ![ | ~ \' \\ " "x*" """'
PIECES = st.sampled_from([*sorted(RESERVED), *WORDS.split(), *SIGNS.split(), "\n"])


@settings(deadline=None)
@given(st.lists(PIECES, max_size=15).map(" ".join) | st.lists(PIECES).map("".join) | st.text())
def test_any_text_parses_or_is_told_what_is_wrong(text: str) -> None:
    for whole in (text, f"any where {text}", f"sequence [any where {text}"):
        try:
            query = parse_eql(whole)
        except QuerySyntaxError as error:
            told = error.place
            assert None not in (told.line, told.column, told.text)
        else:
            assert parse_eql(render_eql(query)) == query
