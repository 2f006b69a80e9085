"""Tests of texts by their words or whatever their case, and patterns as text fields take them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from barrelman.engine.analysis import words
from barrelman.engine.fuzzy import WordsTest
from barrelman.engine.patterns import compile_pattern
from barrelman.query.ast import Pattern, Value, Wild

_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def fold_case(text: str) -> str:
    """Elasticsearch ignores the case of ASCII letters only."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def plain_text(value: Value) -> str | None:
    """The text of a pattern that has no wildcard and ignores case; else None."""
    if not isinstance(value, Pattern) or not value.ignore_case:
        return None
    pieces = [token for token in value.tokens if isinstance(token, str)]
    return "".join(pieces) if len(pieces) == len(value.tokens) else None


def any_word(wanted: Sequence[str]) -> WordsTest:
    any_of = frozenset(wanted)
    return lambda found: not any_of.isdisjoint(found)


def phrase(wanted: Sequence[str]) -> WordsTest:
    """A test of holding these words side by side."""
    size, wanted = len(wanted), list(wanted)

    def test(found: Sequence[str]) -> bool:
        return any(found[at : at + size] == wanted for at in range(len(found) - size + 1))

    return test


def pattern_of_words(pattern: Pattern) -> WordsTest:
    """A query_string leaf: spaces part it into clauses, any of which may match a single word."""
    clauses = split_clauses(pattern, lower=True)
    wild = [clause for clause in clauses if any(isinstance(token, Wild) for token in clause)]
    plain = frozenset(
        word
        for clause in clauses
        if clause not in wild
        for word in words("".join(str(token) for token in clause))
    )
    tests = [compile_pattern(Pattern(clause)) for clause in wild]

    def matches(found: Sequence[str]) -> bool:
        return any(word in plain or any(test(word) for test in tests) for word in found)

    return matches


def split_clauses(pattern: Pattern, *, lower: bool) -> list[tuple[str | Wild, ...]]:
    """A pattern's clauses as query_string reads it: parted at spaces."""
    clauses: list[list[str | Wild]] = [[]]
    for token in pattern.tokens:
        if isinstance(token, Wild):
            clauses[-1].append(token)
            continue
        first, *rest = re.split(r"\s+", token.lower() if lower else token)
        if first:
            clauses[-1].append(first)
        clauses.extend([piece] if piece else [] for piece in rest)
    return [tuple(clause) for clause in clauses if clause]
