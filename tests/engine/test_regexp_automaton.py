"""Regular expressions on texts: vectors, everything that can be tried, and hostile ones."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from textoracle import matches_regexp

from barrelman.engine.held import held_texts
from barrelman.engine.regexp import compile_regexp
from barrelman.errors import QuerySyntaxError
from barrelman.query.ast import RegExp

VECTORS: list[tuple[str, list[str], list[str]]] = [
    ("a|b", ["a", "b"], ["", "ab", "c"]),
    ("", [""], ["a"]),
    ("()", [""], ["a", "()"]),
    ("a.c", ["abc", "a\nc", "a\U0001f600c"], ["ac", "abbc", "xabc", "abcx"]),
    ("^a$", ["^a$"], ["a"]),
    ("ab?c*d+", ["ad", "abccdd"], ["abc", "abbd"]),
    ("a{2}b{1,}c{0,2}", ["aab", "aabbcc"], ["ab", "aaab", "aabccc"]),
    ("a{0}b", ["b"], ["ab"]),
    ("(ab)*", ["", "abab"], ["aba"]),
    ("(a*)*", ["", "aaa"], ["b"]),
    ("[abc-e]+", ["abcde"], ["f", ""]),
    ("[^a-c]", ["d", "\n"], ["a", "b", "", "dd"]),
    ("[]^-]+", ["]^-"], ["a"]),
    (r"[\]a]", ["]", "a"], ["\\"]),
    (r"\.\*\\", [".*\\"], ["ab\\"]),
    (r"\d\D\w\W\s\S", ["1x_- y"], ["x1_- y", "1x_-  "]),
    (r"[\d.]+", ["1.2"], ["a", "d"]),
    (r"[^\w]", ["-", "é"], ["_", "a"]),
    ("é|\U0001f600", ["é", "\U0001f600"], ["e"]),
    # Operators that Lucene alone has.
    ("~(ab)", ["", "a", "abc"], ["ab"]),
    ("~(ab).*", ["", "a", "ab", "abc"], []),
    ("~a{2}", ["", "x", "aa", "xyz"], []),
    ("a~b", ["a", "aa", "abb"], ["ab", "b"]),
    ("a~(.*b.*)c", ["ac", "axc"], ["abc", "a"]),
    ("a.*&.*b", ["ab", "axb"], ["a", "b", "ba"]),
    ("a.*&.*b&~(.*x.*)", ["ab", "ayb"], ["axb"]),
    ("a|b&c", ["a"], ["b", "c"]),
    ("#", [], ["", "#", "a"]),
    ("a|#", ["a"], [""]),
    ("~#", ["", "a"], []),
    ("a@", ["a", "ab\n"], ["", "b"]),
    ("~@", [], ["", "a"]),
    ('"a.b*"c', ["a.b*c"], ["axbbc"]),
    ('""', [""], ['"']),
    ("<1-100>", ["1", "100", "007", "0000100"], ["0", "101", "", "1.0", "-1"]),
    ("<01-31>", ["01", "31", "09"], ["1", "00", "32", "001"]),
    ("<100-5>", ["5", "100", "0005"], ["4", "101"]),
    ("<0-0>", ["0"], ["00", "1"]),
    ("<0-10>", ["0", "00", "10"], ["11"]),
    ("v<1-2>.<0-9>", ["v1.5", "v2-0"], ["v3.1"]),
    # Reserved only where they mean something.
    ("*a", ["*a"], ["a"]),
    ("a]b}c>", ["a]b}c>"], []),
    ("[a-]", ["a", "-"], ["b"]),
]


@pytest.mark.parametrize(("source", "yes", "no"), VECTORS, ids=[v[0] or "empty" for v in VECTORS])
def test_a_whole_text_matches(source: str, yes: list[str], no: list[str]) -> None:
    matches = compile_regexp(source)
    for text in yes:
        assert matches(text), text
        assert matches_regexp(source, text, ignore_case=False), text
    for text in no:
        assert not matches(text), text
        assert not matches_regexp(source, text, ignore_case=False), text


@pytest.mark.parametrize(
    ("source", "yes", "no"),
    [
        ("Ab[x-z]", ["aBY", "AbX"], ["abA"]),
        ("k", ["K", "k"], ["\u212a"]),
        ("ß", ["ß"], ["SS", "ss"]),
        ("[^a]", ["b"], ["A", "a"]),
        ('"aB"', ["Ab"], []),
        ("É", ["É"], ["é"]),
    ],
)
def test_case_may_be_ignored(source: str, yes: list[str], no: list[str]) -> None:
    matches = compile_regexp(source, ignore_case=True)
    assert all(map(matches, yes))
    assert not any(map(matches, no))


@st.composite
def sources(draw: st.DrawFn, depth: int = 4, *, is_plain: bool = False) -> str:
    shapes = ["one", "one", "chain", "either", "repeat"]
    shapes += [] if is_plain else ["both", "other", "interval"]
    shape = draw(st.sampled_from(shapes)) if depth else "one"
    inner = sources(depth - 1, is_plain=is_plain)
    if shape == "one":
        return draw(st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", "()"]))
    if shape == "chain":
        return draw(inner) + draw(inner)
    if shape == "either":
        return f"({draw(inner)}|{draw(inner)})"
    if shape == "both":
        return f"({draw(inner)}&{draw(inner)})"
    if shape == "other":
        return f"~({draw(inner)})"
    if shape == "interval":
        return draw(st.sampled_from(["<1-12>", "<05-11>", "@", "#"]))
    often = draw(st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "{0}"]))
    return f"({draw(inner)}){often}"


TEXTS = st.text("abc1", max_size=7)


@settings(max_examples=133, deadline=None)
@given(sources(), st.lists(TEXTS, min_size=1, max_size=6))
def test_it_matches_what_trying_everything_matches(source: str, texts: list[str]) -> None:
    matches = compile_regexp(source)
    for text in texts:
        assert matches(text) is matches_regexp(source, text, ignore_case=False)


@settings(max_examples=140, deadline=None)
@given(sources(is_plain=True), st.lists(TEXTS, min_size=1, max_size=6))
def test_plain_ones_match_as_python_has_it(source: str, texts: list[str]) -> None:
    pattern, matches = re.compile(source, re.DOTALL), compile_regexp(source)
    for text in texts:
        assert matches(text) is (pattern.fullmatch(text) is not None)


@settings(max_examples=140, deadline=None)
@given(sources(), st.lists(st.text("abcABC1Kk\u212a", max_size=6), min_size=1, max_size=6))
def test_without_case_it_matches_what_trying_everything_matches(
    source: str, texts: list[str]
) -> None:
    matches = compile_regexp(source, ignore_case=True)
    for text in texts:
        assert matches(text) is matches_regexp(source, text, ignore_case=True)


@pytest.mark.parametrize("ignore_case", [False, True])
@pytest.mark.parametrize(
    "source",
    [
        *(".*", "a.*", ".*ab.*", "(a|b).*(c|.)", "(a|b)(a|b)(a|b)(a|b)", "(a|b)(a|b)(a|b)(a|b)c"),
        *("[aA]b", "[\x10\x300]", "a|(b|c)", ".", "..", "@a", "()a", "(a|#)", '"ab".*', "[@`]b"),
    ],
)
def test_plain_ones_are_wildcard_patterns(source: str, ignore_case: bool) -> None:
    matches = compile_regexp(source, ignore_case=ignore_case)
    for text in map("".join, product("abAC0@`\x10", repeat=3)):
        for part in (text, text[1:], text[2:], text + text[:2]):
            expected = matches_regexp(source, part, ignore_case=ignore_case)
            assert matches(part) is expected, part


@settings(max_examples=140, deadline=None)
@given(sources(), TEXTS)
def test_what_must_be_held_is_held(source: str, text: str) -> None:
    assume(compile_regexp(source)(text))
    for texts in held_texts(RegExp(source)):
        assert any(held in text for held in texts)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (".*(curl|wget)/[0-9]+.*", [{"curl", "wget"}, {"/"}]),
        ("create", [{"create"}]),
        ("(create)+x", [{"create"}, {"x"}]),
        ("(create)*x", [{"x"}]),
        ("create|.*", []),
        (".*ab.*&.*cd.*", [{"ab"}, {"cd"}]),
        ("~(ab)cd", [{"cd"}]),
        ("a(b|cd|.)e", [{"a"}, {"e"}]),
        ("#", []),
    ],
)
def test_what_every_match_holds(source: str, expected: list[set[str]]) -> None:
    assert [set(texts) for texts in held_texts(RegExp(source))] == expected


def test_ignoring_case_holds_no_letters() -> None:
    assert list(held_texts(RegExp("ab12", ignore_case=True))) == [frozenset({"12"})]


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("(a|aa)+b", "a" * 30_000, False),
        ("(a*)*b", "a" * 30_000, False),
        ("(.*)(.*)(.*)(.*)x", "y" * 10_000, False),
        ("(a?){500}a{500}", "a" * 500, True),
        ("a?" * 500, "a" * 500, True),
        ("a?" * 499 + "b", "a" * 499, False),
        ("(~(ab)c)*", "abc" * 1000, True),
        (".*a.{13}", "ab" * 2000, True),
        ("((a{1,10}){1,10}){1,10}", "a" * 1001, False),
        ("(((a|b)*a(a|b){3})&((b|a)*b(a|b){2}))*", "ab" * 500, True),
        ("~" * 999 + "a", "a", False),
    ],
)
def test_hostile_ones_end(source: str, text: str, expected: bool) -> None:
    assert compile_regexp(source)(text) is expected


def test_what_is_forgotten_is_found_again() -> None:
    source = "(a|b)*a(a|b){60}"
    matches = compile_regexp(source)
    # Of a and b in ever new orders nearly every prefix is a state of its own.
    numbers = [number * 2_654_435_761 % 2**61 for number in range(200)]
    texts = [f"{number:061b}".translate({48: 97, 49: 98}) * 4 for number in numbers]
    assert [matches(text) for text in texts] == [text[-61] == "a" for text in texts]


def test_a_wrong_one_is_an_error_of_the_query() -> None:
    with pytest.raises(QuerySyntaxError):
        compile_regexp("(")
