from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import matches_pattern

from barrelman.engine.patterns import compile_pattern
from barrelman.query.ast import Pattern, Wild

RUN, CHAR = Wild.RUN, Wild.CHAR


@given(
    st.lists(st.sampled_from(["a", "b", "ab", "ba", "A", "K", RUN, RUN, CHAR]), max_size=8),
    st.text("abAK\n\u212a", max_size=10),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_any_pattern_on_any_text(tokens: list[str | Wild], text: str, ignore_case: bool) -> None:
    pattern = Pattern(tuple(tokens), ignore_case=ignore_case)
    expected = matches_pattern(pattern.tokens, text, ignore_case=ignore_case)
    assert compile_pattern(pattern)(text) is expected


@pytest.mark.parametrize(
    ("tokens", "text", "expected"),
    [
        (("a", RUN, "a"), "a", False),  # the ends may not share a character
        (("ab", RUN, "ba"), "aba", False),
        (("ab", RUN, "ba"), "abba", True),
        ((RUN, "ab", RUN, "b", RUN), "ab", False),
        ((RUN,), "", True),
        ((RUN, RUN), "", True),
        ((CHAR,), "", False),
        ((RUN, "a", CHAR, RUN, CHAR, "c", RUN), "zabc", False),  # no character serves two pieces
        ((RUN, "a", CHAR, RUN, CHAR, "c", RUN), "abbc", True),
        ((CHAR, RUN), "\n", True),
        (("a.c",), "abc", False),  # nothing in a literal piece is a regular expression
        ((RUN, "[", CHAR), "x[y", True),
    ],
)
def test_edges(tokens: tuple[str | Wild, ...], text: str, expected: bool) -> None:
    assert compile_pattern(Pattern(tokens))(text) is expected


@pytest.mark.parametrize(
    ("literal", "text", "expected"),
    [
        ("Admin", "aDMIN", True),
        ("k", "\u212a", False),  # the Kelvin sign is no ASCII letter
        ("s", "\u017f", False),
        ("\u00e9", "\u00c9", False),
        ("\u00e9", "\u00e9", True),
    ],
)
def test_only_ascii_letters_lose_their_case(literal: str, text: str, expected: bool) -> None:
    assert compile_pattern(Pattern((literal, RUN), ignore_case=True))(text) is expected


@pytest.mark.parametrize("ignore_case", [False, True])
@pytest.mark.parametrize("wild", [("a",), ("a", CHAR)])
def test_many_stars_do_not_go_astray(wild: tuple[str | Wild, ...], ignore_case: bool) -> None:
    """Backtracking over 60 stars would outlive the machine."""
    pattern = Pattern((RUN, *wild) * 60 + (RUN, "b"), ignore_case=ignore_case)
    assert compile_pattern(pattern)("a" * 20_000) is False
