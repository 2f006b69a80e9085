"""Lucene texts to trees: each habit of the language, and what mistakes are told."""

import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrelman.errors import QuerySyntaxError
from barrelman.query.ast import (
    MATCH_ALL,
    And,
    Boolean,
    Exists,
    FieldName,
    Fuzzy,
    Is,
    Near,
    Node,
    Not,
    Or,
    Pattern,
    Range,
    RegExp,
    Text,
    Value,
    Wild,
    Within,
)
from barrelman.query.lucene import MAX_NESTING, notes_on_lucene, parse_lucene

DATA = (Path(__file__).parent / "lucene_vectors.toml").read_text(encoding="utf-8")
CASES: list[dict[str, Any]] = tomllib.loads(DATA)["case"]
PARSING = [case for case in CASES if "tree" in case]
FAILING = [case for case in CASES if "tree" not in case]
SPECIAL = '\\+-!():^[]"{}~*?/&|<>= '


def tree(notation: list[Any]) -> Node:
    match notation:
        case ["all"]:
            return MATCH_ALL
        case ["and", *parts]:
            return And(tuple(map(tree, parts)))
        case ["or", *parts]:
            return Or(tuple(map(tree, parts)))
        case ["not", part]:
            return Not(tree(part))
        case ["exists", field]:
            return Exists(name(field))
        case ["is", field, found]:
            return Is(name(field) if field else None, value(found))
        case ["range", field, op, found]:
            return Range(name(field), op, text(found))
        case ["within", field, *bounds]:
            return Within(name(field), tuple((op, text(found)) for op, found in bounds))
    raise AssertionError(notation)


def name(notation: Any) -> FieldName:
    found = value(notation)
    assert isinstance(found, Text | Pattern)
    return found


def text(notation: Any) -> Text:
    found = value(notation)
    assert isinstance(found, Text)
    return found


def value(notation: Any) -> Value:
    match notation:
        case bool():
            return Boolean(notation)
        case str():
            return Text(notation)
        case {"phrase": found}:
            return Text(found, quoted=True)
        case {"pattern": pieces}:
            return Pattern(tuple(Wild(each) if each in ("*", "?") else each for each in pieces))
        case {"regexp": source}:
            return RegExp(source)
        case {"fuzzy": found, "edits": edits}:
            return Fuzzy(found, edits)
        case {"near": found, "slop": slop}:
            return Near(found, slop)
    raise AssertionError(notation)


def names(cases: list[dict[str, Any]]) -> list[str]:
    return [ascii(case["lucene"]) for case in cases]


def test_each_text_is_asked_once() -> None:
    assert len({case["lucene"] for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", PARSING, ids=names(PARSING))
def test_a_text_is_its_tree(case: dict[str, Any]) -> None:
    assert parse_lucene(case["lucene"]) == tree(case["tree"])


@pytest.mark.parametrize("case", FAILING, ids=names(FAILING))
def test_a_mistake_is_named_where_it_stands(case: dict[str, Any]) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_lucene(case["lucene"])
    place = caught.value.place
    assert (place.line, place.column) == (1, case["column"])
    assert caught.value.message == case["message"]


@pytest.mark.parametrize("empty", ["", " \t\r\n", "\u3000"])
def test_nothing_asks_for_everything(empty: str) -> None:
    assert parse_lucene(empty) == MATCH_ALL


def test_a_mistake_in_a_later_line_has_its_line() -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse_lucene("f:a\n  OR g:")
    assert (caught.value.place.line, caught.value.place.column) == (2, 8)


def test_a_value_knows_where_it_stands() -> None:
    node = parse_lucene('f:a AND g:"b c"')
    assert isinstance(node, And)
    spans = [part.value.span for part in node.children if isinstance(part, Is)]
    assert spans == [(2, 3), (10, 15)]


def test_half_a_character_is_refused_and_can_be_shown() -> None:
    with pytest.raises(QuerySyntaxError, match="surrogate") as caught:
        parse_lucene("f:\ud83d")
    assert str(caught.value).encode()


def test_brackets_may_be_so_deep() -> None:
    def nested(depth: int) -> str:
        return "(a AND " * depth + "b" + ")" * depth

    assert parse_lucene(nested(MAX_NESTING))
    with pytest.raises(QuerySyntaxError, match="nested"):
        parse_lucene(nested(MAX_NESTING + 1))
    with pytest.raises(QuerySyntaxError, match="nested"):
        parse_lucene("(" * 100_000)


# --- what a caller may say beside the text ---


def test_default_fields_are_asked_where_none_is_named() -> None:
    asked = parse_lucene("a AND g:b", default_fields=["f", "n.*"])
    names_n = Pattern(("n.", Wild.RUN))
    either = Or((Is(Text("f"), Text("a")), Is(names_n, Text("a"))))
    assert asked == And((either, Is(Text("g"), Text("b"))))
    assert parse_lucene("*", default_fields=["f"]) == Exists(Text("f"))
    assert parse_lucene("[1 TO *]", default_fields=["f"]) == Range(Text("f"), "gte", Text("1"))
    assert parse_lucene("*:a", default_fields=["f"]) == Is(None, Text("a"))
    assert parse_lucene("*:* AND a", default_fields=["f"]) == And(
        (MATCH_ALL, Is(Text("f"), Text("a")))
    )


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("a b", "a AND b"),
        ("a -b", "a AND NOT b"),
        ("a OR b", "(a OR b)"),
        ("a OR b c", "c"),  # only c must hold
        ("+a OR b", "(a OR b)"),
        ("-a OR b", "b AND NOT a"),
        ("a AND b OR c", "+a"),
    ],
)
def test_with_the_operator_and_operands_that_nothing_joins_must_hold(
    text: str, meaning: str
) -> None:
    found, wanted = parse_lucene(text, default_operator="and"), parse_lucene(meaning)
    if isinstance(found, And):  # what must not hold may stand first
        assert isinstance(wanted, And)
        assert set(found.children) == set(wanted.children)
    else:
        assert found == wanted


def test_fields_that_the_text_names_are_renamed() -> None:
    node = parse_lucene("a:x AND _exists_:b AND c", default_fields=["d"], rename=str.upper)
    assert node == And(
        (Is(Text("A"), Text("x")), Exists(Text("B")), Is(Text("d"), Text("c"))),
    )


# --- what is hardly meant as it is read ---


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        ("a OR f:b AND c", ["'a' adds"]),
        ("a AND b OR (c d:e) OR NOT g", ["'(c d:e)' adds"]),
        ("f:(+a b*^2)", ["'b*^2' adds"]),
        ("f:a and g:b", ["'and' is a word"]),
        ("f:a OR or", ["'or' is a word"]),
        ("f:(new york)", ["'new york' is either word"]),
        ("a b c", ["'a b' is either word", "'b c' is either word"]),
        ("a b AND c", ["'a' adds"]),
        ("a OR b AND c OR a", ["'a' adds"]),  # said once
    ],
)
def test_what_is_hardly_meant_is_noted(text: str, noted: list[str]) -> None:
    notes = notes_on_lucene(text)
    assert len(notes) == len(noted)
    assert all(note.startswith(start) for note, start in zip(notes, noted, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "a OR b", "a AND b", "f:a g:b", "f:a b", 'a "b c"', "a b*", "a -b", "+a +b"),
        *("(a OR b) AND c", 'f:"and"', "f:(a OR b)", "a b~1", "NOT a AND b", "a /b/", "a true"),
    ],
)
def test_what_is_plain_is_not_noted(text: str) -> None:
    assert notes_on_lucene(text) == []


# --- against Lucene's own way of joining, clause by clause ---

JOINTS = {"": None, "AND": "and", "&&": "and", "OR": "or", "||": "or"}
SIGNS = {"": "", "+": "+", "-": "-", "!": "-", "NOT ": "-"}
operands = st.lists(
    st.tuples(st.sampled_from(list(JOINTS)), st.sampled_from(list(SIGNS)), st.integers(0, 4)),
    min_size=1,
    max_size=6,
)


def lucene_holds(
    clauses: list[tuple[str, str, int]], truths: list[bool], *, default_and: bool
) -> bool:
    """What its parser makes of clauses, one after the other, and its boolean query of them."""
    required: list[bool] = []
    prohibited: list[bool] = []
    for index, (joint_text, sign_text, _) in enumerate(clauses):
        joint = JOINTS[joint_text] if index else None
        sign = SIGNS[sign_text]
        if index and joint == "and" and not prohibited[-1]:
            required[-1] = True
        if index and default_and and joint == "or" and not prohibited[-1]:
            required[-1] = False
        prohibited.append(sign == "-")
        if default_and:
            required.append(sign != "-" and joint != "or")
        else:
            required.append(sign == "+" or (joint == "and" and sign != "-"))
    found = [truths[leaf] for _, _, leaf in clauses]
    if any(truth and no for truth, no in zip(found, prohibited, strict=True)):
        return False
    if any(required):
        return all(truth or not must for truth, must in zip(found, required, strict=True))
    optional = [truth for truth, no in zip(found, prohibited, strict=True) if not no]
    return any(optional) or not optional  # of prohibitions alone all else is found


def holds(node: Node, truths: list[bool]) -> bool:
    match node:
        case And(children):
            return all(holds(child, truths) for child in children)
        case Or(children):
            return any(holds(child, truths) for child in children)
        case Not(child):
            return not holds(child, truths)
        case Is(_, Text(text)):
            return truths["abcde".index(text)]
    raise AssertionError(node)


@given(operands, st.lists(st.booleans(), min_size=5, max_size=5), st.booleans())
def test_operands_are_joined_as_lucene_joins_them(
    clauses: list[tuple[str, str, int]], truths: list[bool], default_and: bool
) -> None:
    text = " ".join(
        f"{joint if index else ''} {sign}{'abcde'[leaf]}"
        for index, (joint, sign, leaf) in enumerate(clauses)
    )
    node = parse_lucene(text, default_operator="and" if default_and else "or")
    assert holds(node, truths) is lucene_holds(clauses, truths, default_and=default_and)


# --- any text ---


@given(st.text(st.sampled_from(SPECIAL + "abANDORTO19\n\u3000é")) | st.text())
def test_any_text_parses_or_is_refused(text: str) -> None:
    with suppress(QuerySyntaxError):
        parse_lucene(text)


@given(st.text(st.sampled_from(SPECIAL + "abAND\n\u3000é"), min_size=1))
def test_an_escaped_text_is_itself(text: str) -> None:
    escaped = "".join(f"\\{char}" if char in SPECIAL + "\n\u3000" else char for char in text)
    if escaped in ("AND", "NOT"):
        return
    assert parse_lucene(escaped) == Is(None, Text(text))


@given(st.text())
def test_a_quoted_text_is_itself(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_lucene(f'f:"{escaped}"') == Is(Text("f"), Text(text, quoted=True))


@pytest.mark.parametrize(
    "text", ["a " * 20_000, "\\a" * 50_000, "\\/" * 50_000, "f:/" + "\\/" * 50_000, '"' * 50_001]
)
def test_a_long_text_takes_no_long_time(text: str) -> None:
    with suppress(QuerySyntaxError):
        parse_lucene(text)
