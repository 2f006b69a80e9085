"""Texts that every match of a regular expression holds: what a sieve can look for."""

from __future__ import annotations

from collections.abc import Iterator

from barrelman.query.ast import RegExp
from barrelman.query.regexp import Both, Chain, Chars, Either, Repeat, Tree, parse_regexp


def held_texts(value: RegExp) -> Iterator[frozenset[str]]:
    """Sets of texts, of each of which a match holds one. Sound, not complete."""
    return _held_texts(parse_regexp(value.source, ignore_case=value.ignore_case))


def _held_texts(tree: Tree) -> Iterator[frozenset[str]]:
    """Sets of texts, of each of which a match holds one."""
    match tree:
        case Chain(parts):
            run = ""
            for part in parts:
                if (char := _only_char(part)) is not None:
                    run += char
                    continue
                if run:
                    yield frozenset([run])
                run = ""
                yield from _held_texts(part)
            if run:
                yield frozenset([run])
        case Either(choices) if choices:
            best = [max(_held_texts(each), key=_shortest, default=None) for each in choices]
            if None not in best:
                yield frozenset().union(*(each for each in best if each is not None))
        case Both(parts):
            for part in parts:
                yield from _held_texts(part)
        case Repeat(of, least) if least > 0:
            yield from _held_texts(of)
        case Chars() if (char := _only_char(tree)) is not None:
            yield frozenset([char])


def _only_char(tree: Tree) -> str | None:
    match tree:
        case Chars(((low, high),)) if low == high:
            return chr(low)
    return None


def _shortest(texts: frozenset[str]) -> int:
    return min(map(len, texts))
