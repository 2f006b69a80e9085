"""Regular expressions that are wrong, and where; what right ones match is the engine's affair."""

from __future__ import annotations

import pytest

from barrelman.errors import QuerySyntaxError
from barrelman.query.regexp import (
    LONGEST,
    MAX_NESTING,
    MOST_PLACES,
    Chain,
    Chars,
    Either,
    Other,
    Repeat,
    Tree,
    parse_regexp,
    places_of,
)

WRONG = [
    ("a)", 2, "closes no bracket"),
    ("(a", 1, "never closed"),
    ("x(a|(b)", 2, "never closed"),
    ("[ab", 1, "never closed"),
    ("[", 1, "never closed"),
    ("[]", 1, "never closed"),
    ("[^", 1, "never closed"),
    ("[b-a]", 5, "begins with the lower"),
    ("a|", 3, "not finished"),
    ("a&", 3, "not finished"),
    ("~", 2, "not finished"),
    ("a\\", 3, "behind the backslash"),
    ("[a\\", 4, "behind the backslash"),
    ("a{", 3, "a number is expected"),
    ("a{x}", 3, "a number is expected"),
    ("a{2", 4, "ends with `}`"),
    ("a{2,", 5, "a number is expected"),
    ("a{2,3", 6, "ends with `}`"),
    ("ab{3,2}", 3, "the greater one"),
    ('a"b', 2, "ends with"),
    ("<1-2", 1, "ends with"),
    ("a<b>", 2, "an interval is written"),
    ("<1->", 1, "an interval is written"),
    ("<1-2-3>", 1, "an interval is written"),
    ("<1-1234567890123456789>", 1, "an interval is written"),
    ("(a{1000}){1000}", 1, "stands for more than"),
    ("a{10001}", 1, "stands for more than"),
    ("a{99999999999999999999}", 1, "stands for more than"),
    ("(" * (MAX_NESTING + 1) + "a" + ")" * (MAX_NESTING + 1), MAX_NESTING + 2, "deep in each"),
    ("a" * (LONGEST + 1), LONGEST + 1, "has at most"),
]


@pytest.mark.parametrize(("source", "column", "message"), WRONG, ids=[w[0][:20] for w in WRONG])
def test_what_is_wrong_is_told_where_it_stands(source: str, column: int, message: str) -> None:
    with pytest.raises(QuerySyntaxError, match=message) as caught:
        parse_regexp(source)
    assert caught.value.place.column == column


RIGHT = [
    *("", "a", "()", "]", "}", ">", "*", "?a", "^a$", "-", "[]]", "[a-]", "[-a]", "[&|~]", r"\\"),
    *(r"[\]\-]", "a{0}", "a{2,}", "~~a", "#", "@", '""', "a&b&c", "<5-1>", r"\(\)", "a?*+?*+"),
    "(" * MAX_NESTING + "a" + ")" * MAX_NESTING,
    "~" * (LONGEST - 1) + "a",
    "a" + "?" * (LONGEST - 1),
    "a?" * (LONGEST // 2),
    "a" * LONGEST,
    f"a{{{MOST_PLACES}}}",
]


@pytest.mark.parametrize("source", RIGHT, ids=[right[:20] for right in RIGHT])
def test_what_only_looks_wrong(source: str) -> None:
    assert places_of(parse_regexp(source)) <= MOST_PLACES


def char(text: str) -> Chars:
    return Chars(((ord(text), ord(text)),))


A, B, C = map(char, "abc")
TREES: list[tuple[str, Tree]] = [
    ("ab|c", Either((Chain((A, B)), C))),
    ("ab*", Chain((A, Repeat(B, 0, None)))),
    ("~ab", Chain((Other(A), B))),
    ("~a*", Repeat(Other(A), 0, None)),
    ("~~a", A),
    ("a{1}", A),
    ("a?*", Repeat(A, 0, None)),
    ("a+*", Repeat(A, 0, None)),
    ("a++", Repeat(A, 1, None)),
    ("a??", Repeat(A, 0, 1)),
    ("(a{2}){3}", Repeat(Repeat(A, 2, 2), 3, 3)),
    ("[ca-b]", Chars(((97, 99),))),
    ('"a|b"', Chain((A, char("|"), B))),
    (r"\*", char("*")),
]


@pytest.mark.parametrize(("source", "tree"), TREES, ids=[source for source, _ in TREES])
def test_how_operators_bind(source: str, tree: Tree) -> None:
    assert parse_regexp(source) == tree


def test_the_case_of_ascii_letters_alone_is_ignored() -> None:
    assert parse_regexp("a", ignore_case=True) == Chars(((65, 65), (97, 97)))
    assert parse_regexp("é", ignore_case=True) == char("é")
    assert parse_regexp("[X-c]", ignore_case=True) == Chars(((65, 67), (88, 99), (120, 122)))
    assert parse_regexp("[^a]", ignore_case=True) == Chars(((0, 64), (66, 96), (98, 0x10FFFF)))
