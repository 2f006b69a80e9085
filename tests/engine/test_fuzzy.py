"""Texts a few edits away, and words with others between them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textoracle import are_near, is_within

from barrelman.engine.fuzzy import near_words, within_edits

EDITS = [
    ("name", "name", 0, True),
    ("name", "nam", 0, False),
    ("name", "nam", 1, True),  # one left out,
    ("name", "named", 1, True),  # one added,
    ("name", "nane", 1, True),  # one changed,
    ("name", "naem", 1, True),  # and two that changed places.
    ("name", "neam", 1, False),
    ("name", "eman", 2, False),
    ("ca", "abc", 2, False),  # no character is edited twice
    ("name", "nm", 2, False),  # as many edits as the shorter one has characters
    ("name", "nme", 2, True),
    ("a", "b", 2, False),
    ("a", "a", 2, True),
    ("ab", "ba", 2, True),
    ("", "", 2, True),
    ("", "a", 2, False),
    ("name", "Name", 1, True),
    ("name", "NAme", 1, False),
    ("\U0001f600ab", "ab", 1, True),
]


@pytest.mark.parametrize(("wanted", "text", "edits", "expected"), EDITS)
def test_edits(wanted: str, text: str, edits: int, *, expected: bool) -> None:
    assert within_edits(wanted, edits)(text) is expected
    assert is_within(wanted, text, edits) is expected


SLOPS = [
    ("a b", "a b", 0, True),
    ("a b", "a x b", 0, False),
    ("a b", "a x b", 1, True),
    ("a b", "a x y b", 1, False),
    ("a b", "b a", 1, False),
    ("a b", "b a", 2, True),
    ("a b", "b x a", 2, False),
    ("a b", "b x a", 3, True),
    ("a b c", "a x b y c", 1, False),
    ("a b c", "a x b y c", 2, True),
    ("a a", "a", 9, False),
    ("a a", "a x a", 1, True),
    ("a b a", "a b x", 9, False),
    ("a", "x a y", 0, True),
    ("a b", "a", 9, False),
    ("a b", "", 9, False),
]


@pytest.mark.parametrize(("wanted", "text", "slop", "expected"), SLOPS)
def test_slop(wanted: str, text: str, slop: int, *, expected: bool) -> None:
    assert near_words(wanted.split(), slop)(text.split()) is expected
    assert are_near(wanted.split(), text.split(), slop) is expected


@settings(max_examples=140, deadline=None)
@given(st.text("abc", max_size=6), st.text("abc", max_size=6), st.integers(0, 3))
def test_edits_are_those_of_the_definition(wanted: str, text: str, edits: int) -> None:
    assert within_edits(wanted, edits)(text) is is_within(wanted, text, edits)


WORDS = st.lists(st.sampled_from("abc"), max_size=7)


@settings(max_examples=140, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), WORDS, st.integers(0, 5))
def test_slop_is_that_of_the_definition(wanted: list[str], found: list[str], slop: int) -> None:
    assert near_words(wanted, slop)(found) is are_near(wanted, found, slop)
