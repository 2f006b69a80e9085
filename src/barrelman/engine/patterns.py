"""Wildcard patterns over whole values, in time linear in the value for each literal piece.

A regular expression of `.*` runs backtracks without bound on hostile values; here each literal
piece is searched once, leftmost first, which for globs is always enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from barrelman.query.ast import Pattern, Wild

TextTest = Callable[[str], bool]


def compile_pattern(pattern: Pattern) -> TextTest:
    """A test of a whole string: RUN takes any characters, CHAR exactly one."""
    pieces = _split_runs(pattern)
    if pattern.ignore_case or any(Wild.CHAR in piece for piece in pieces):
        return _compile_general(pieces, ignore_case=pattern.ignore_case)
    texts = ["".join(token for token in piece if isinstance(token, str)) for piece in pieces]
    return _compile_literal(texts)


def _split_runs(pattern: Pattern) -> list[list[str | Wild]]:
    pieces: list[list[str | Wild]] = [[]]
    for token in pattern.tokens:
        if token is Wild.RUN:
            pieces.append([])
        else:
            pieces[-1].append(token)
    return pieces


def _compile_literal(texts: list[str]) -> TextTest:
    first, last = texts[0], texts[-1]
    if len(texts) == 1:
        return first.__eq__
    middle = [text for text in texts[1:-1] if text]
    if not middle and not last:
        return lambda value: value.startswith(first)
    if not middle and not first:
        return lambda value: value.endswith(last)
    if len(middle) == 1 and not first and not last:
        only = middle[0]
        return lambda value: only in value
    shortest = sum(map(len, texts))

    def matches(value: str) -> bool:
        if len(value) < shortest or not (value.startswith(first) and value.endswith(last)):
            return False
        position, end = len(first), len(value) - len(last)
        for piece in middle:
            found = value.find(piece, position, end)
            if found < 0:
                return False
            position = found + len(piece)
        return True

    return matches


def _compile_general(pieces: list[list[str | Wild]], *, ignore_case: bool) -> TextTest:
    # Elasticsearch ignores the case of ASCII letters only.
    flags = re.DOTALL | (re.IGNORECASE | re.ASCII if ignore_case else 0)
    regexes = [
        re.compile("".join("." if t is Wild.CHAR else re.escape(str(t)) for t in piece), flags)
        for piece in pieces
    ]
    lengths = [sum(1 if t is Wild.CHAR else len(str(t)) for t in piece) for piece in pieces]
    if len(pieces) == 1:
        only = regexes[0]
        return lambda value: only.fullmatch(value) is not None
    first, last, last_length, shortest = regexes[0], regexes[-1], lengths[-1], sum(lengths)

    def matches(value: str) -> bool:
        end = len(value) - last_length
        if len(value) < shortest or not first.match(value) or not last.fullmatch(value, end):
            return False
        position = lengths[0]
        for regex, length in zip(regexes[1:-1], lengths[1:-1], strict=True):
            found = regex.search(value, position, end)
            if found is None:
                return False
            position = found.start() + length
        return True

    return matches
