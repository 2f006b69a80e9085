"""Regular expressions in time linear in the value: an automaton whose states are made on demand.

A state is the set of what may still follow (Antimirov's partial derivatives), so that a plain
expression has no state larger than itself. `&` and `~` hold states within a state. Transitions are
remembered; where they become many they are forgotten, and made again as they are asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from enum import Enum
from functools import lru_cache
from typing import Any, Final, TypeAlias

from barrelman.engine.patterns import TextTest, compile_pattern
from barrelman.query.ast import Pattern, Wild
from barrelman.query.regexp import (
    Both,
    Chain,
    Chars,
    Either,
    Other,
    Ranges,
    Repeat,
    Tree,
    parse_regexp,
)

_Tokens: TypeAlias = tuple[str | Wild, ...]

# A few MB for each expression, however hostile it is and what it is asked.
_MOST_REMEMBERED: Final = 20_000
_MOST_TERMS: Final = 20_000
_MOST_PATTERNS: Final = 16


@lru_cache(maxsize=64)
def compile_regexp(source: str, *, ignore_case: bool = False) -> TextTest:
    """A test of a whole text. Raises QuerySyntaxError, as `parse_regexp` does."""
    tree = parse_regexp(source, ignore_case=ignore_case)
    patterns = _as_patterns(tree, ignore_case=ignore_case)
    if patterns is None:
        return _Automaton(tree).matches
    tests = [compile_pattern(Pattern(_joined_up(each), ignore_case)) for each in patterns]
    return tests[0] if len(tests) == 1 else lambda text: any(test(text) for test in tests)


def _as_patterns(tree: Tree, *, ignore_case: bool) -> list[_Tokens] | None:
    """The wildcard patterns that an expression comes to, where it is as plain as that."""
    match tree:
        case Chars(ranges):
            token = _as_token(ranges, ignore_case=ignore_case)
            return None if token is None else [(token,)]
        case Repeat(Chars(((0, 0x10FFFF),)), 0, None):
            return [(Wild.RUN,)]
        case Either(choices) if choices:
            made = [_as_patterns(choice, ignore_case=ignore_case) for choice in choices]
            found = [each for patterns in made for each in patterns or ()]
            return None if None in made or len(found) > _MOST_PATTERNS else found
        case Chain(parts):
            found = [()]
            for part in parts:
                more = _as_patterns(part, ignore_case=ignore_case)
                if more is None or len(found) * len(more) > _MOST_PATTERNS:
                    return None
                found = [(*one, *other) for one in found for other in more]
            return found
    return None


def _as_token(ranges: Ranges, *, ignore_case: bool) -> str | Wild | None:
    match ranges:
        case ((0, 0x10FFFF),):
            return Wild.CHAR
        case ((low, high),) if low == high:
            return chr(low)
        case ((upper, also_upper), (lower, also_lower)) if ignore_case:
            is_letter = upper == also_upper and lower == also_lower == upper + 32
            return chr(lower) if is_letter and "a" <= chr(lower) <= "z" else None
        case _:
            return None


def _joined_up(tokens: _Tokens) -> _Tokens:
    joined: list[str | Wild] = []
    for token in tokens:
        if joined and isinstance(token, str) and isinstance(joined[-1], str):
            joined[-1] += token
        else:
            joined.append(token)
    return tuple(joined)


class _Kind(Enum):
    EMPTY = 1
    CHARS = 2
    """`one`: the classes of characters."""
    CHAIN = 3
    """`one` and behind it `other`, which is no chain's beginning itself."""
    EITHER = 4
    """`one`: a set."""
    REPEAT = 5
    """`one`, from `other[0]` to `other[1]` times."""
    BOTH = 6
    """`one`: sets, each of which must match."""
    OTHER = 7
    """`one`: a set that must not match."""
    ALL = 8


class _Term:
    """A part of an expression, or what is left of one. Equal ones are one object."""

    __slots__ = ("kind", "next", "nullable", "one", "other")

    def __init__(self, kind: _Kind, one: Any, other: Any, *, nullable: bool) -> None:
        self.kind = kind
        self.one = one
        self.other = other
        self.nullable = nullable
        self.next: dict[int, _Set] = {}


_Set: TypeAlias = frozenset[_Term]
_NOTHING: Final[_Set] = frozenset()


class _State:
    __slots__ = ("accepts", "is_settled", "next", "next_by_class", "terms")

    def __init__(self, terms: _Set) -> None:
        self.terms = terms
        self.accepts = _is_nullable(terms)
        self.is_settled = not terms or _is_all(terms)
        """Nothing that follows changes the answer."""
        self.next: dict[str, _State] = {}
        self.next_by_class: dict[int, _State] = {}


class _Automaton:
    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._starts = sorted({0, *_borders(tree)})
        self._begin()

    def matches(self, text: str) -> bool:
        if len(self._terms) > _MOST_TERMS:
            self._begin()
        state = self._first
        for char in text:
            state = state.next.get(char) or self._step(state, char)
            if state.is_settled:
                break
        return state.accepts

    def _begin(self) -> None:
        self._terms: dict[tuple[_Kind, Any, Any], _Term] = {}
        self._states: dict[_Set, _State] = {}
        self._remembered = 0
        self._first = self._state(self._set(self._tree))

    def _state(self, terms: _Set) -> _State:
        found = self._states.get(terms)
        if found is None:
            found = self._states[terms] = _State(terms)
            self._remembered += len(terms)
        return found

    def _step(self, state: _State, char: str) -> _State:
        # Characters that no part of the expression tells apart are one class.
        at = bisect_right(self._starts, ord(char)) - 1
        following = state.next_by_class.get(at) or self._make(state, at)
        if char.isascii():
            state.next[char] = following
        return following

    def _make(self, state: _State, at: int) -> _State:
        if self._remembered >= _MOST_REMEMBERED:
            for each in list(self._states.values()):
                each.next.clear()
                each.next_by_class.clear()
            for term in list(self._terms.values()):
                term.next.clear()
            self._states = {self._first.terms: self._first}
            self._remembered = 0
        self._remembered += 1
        following = self._state(self._after_set(state.terms, at))
        state.next_by_class[at] = following
        return following

    # --- terms ---

    def _term(self, kind: _Kind, one: Any, other: Any, *, nullable: bool) -> _Term:
        key = kind, one, other
        found = self._terms.get(key)
        if found is None:
            found = self._terms[key] = _Term(kind, one, other, nullable=nullable)
        return found

    @property
    def _empty(self) -> _Term:
        return self._term(_Kind.EMPTY, None, None, nullable=True)

    @property
    def _all(self) -> _Term:
        return self._term(_Kind.ALL, None, None, nullable=True)

    def _set(self, tree: Tree) -> _Set:
        match tree:
            case Either(choices):
                return _joined(self._set(choice) for choice in choices)
            case Both(parts):
                return self._both(frozenset(self._set(part) for part in parts))
            case Other(than):
                return self._other(self._set(than))
            case Chars(ranges):
                return frozenset([self._chars(ranges)]) if ranges else _NOTHING
            case Chain(parts):
                term = self._empty
                for part in reversed(parts):
                    term = self._chain(self._one(self._set(part)), term)
                return frozenset([term])
            case Repeat(of, least, most):
                return frozenset([self._repeat(self._one(self._set(of)), least, most)])

    def _one(self, terms: _Set) -> _Term:
        """A set as one term."""
        if len(terms) == 1:
            (only,) = terms
            return only
        return self._term(_Kind.EITHER, terms, None, nullable=_is_nullable(terms))

    def _chars(self, ranges: Ranges) -> _Term:
        classes = frozenset(
            at
            for at, start in enumerate(self._starts)
            if any(low <= start <= high for low, high in ranges)
        )
        return self._term(_Kind.CHARS, classes, None, nullable=False)

    def _chain(self, first: _Term, then: _Term) -> _Term:
        if then.kind is _Kind.EMPTY:
            return first
        heads = []
        while first.kind is _Kind.CHAIN:
            heads.append(first.one)
            first = first.other
        if first.kind is not _Kind.EMPTY:
            heads.append(first)
        for head in reversed(heads):
            then = self._term(_Kind.CHAIN, head, then, nullable=head.nullable and then.nullable)
        return then

    def _repeat(self, of: _Term, least: int, most: int | None) -> _Term:
        if most == 0:
            return self._empty
        least = 0 if of.nullable else least
        if (least, most) == (1, 1):
            return of
        is_any = of.kind is _Kind.CHARS and len(of.one) == len(self._starts)
        if is_any and least == 0 and most is None:
            return self._all
        return self._term(_Kind.REPEAT, of, (least, most), nullable=least == 0)

    def _both(self, sets: frozenset[_Set]) -> _Set:
        left = frozenset(terms for terms in sets if not _is_all(terms))
        if _NOTHING in left:
            return _NOTHING
        if not left:
            return frozenset([self._all])
        if len(left) == 1:
            return next(iter(left))
        return frozenset(
            [self._term(_Kind.BOTH, left, None, nullable=all(map(_is_nullable, left)))]
        )

    def _other(self, terms: _Set) -> _Set:
        if not terms:
            return frozenset([self._all])
        if _is_all(terms):
            return _NOTHING
        if len(terms) == 1 and (only := next(iter(terms))).kind is _Kind.OTHER:
            inner: _Set = only.one
            return inner
        return frozenset([self._term(_Kind.OTHER, terms, None, nullable=not _is_nullable(terms))])

    # --- what is left after a character ---

    def _after_set(self, terms: _Set, at: int) -> _Set:
        found = _joined(self._after(term, at) for term in terms)
        return frozenset([self._all]) if _is_all(found) else found

    def _after(self, term: _Term, at: int) -> _Set:
        known = term.next.get(at)
        if known is None:
            known = term.next[at] = self._derive(term, at)
            self._remembered += 1
        return known

    def _derive(self, term: _Term, at: int) -> _Set:
        match term.kind:
            case _Kind.CHARS:
                return frozenset([self._empty]) if at in term.one else _NOTHING
            case _Kind.CHAIN:
                return self._derive_chain(term, at)
            case _Kind.EITHER:
                return _joined(self._after(each, at) for each in term.one)
            case _Kind.REPEAT:
                least, most = term.other
                most = None if most is None else most - 1
                rest = self._repeat(term.one, max(least - 1, 0), most)
                return self._chained(self._after(term.one, at), rest)
            case _Kind.BOTH:
                return self._both(frozenset(self._after_set(each, at) for each in term.one))
            case _Kind.OTHER:
                return self._other(self._after_set(term.one, at))
            case _Kind.ALL:
                return frozenset([term])
            case _Kind.EMPTY:
                return _NOTHING

    def _derive_chain(self, term: _Term, at: int) -> _Set:
        """A loop: what may be left out is skipped, however much of it stands in a row."""
        found: set[_Term] = set()
        while term.kind is _Kind.CHAIN:
            found |= self._chained(self._after(term.one, at), term.other)
            if not term.one.nullable:
                return frozenset(found)
            term = term.other
        return frozenset(found | self._after(term, at))

    def _chained(self, firsts: _Set, then: _Term) -> _Set:
        return frozenset(self._chain(first, then) for first in firsts)


def _is_nullable(terms: _Set) -> bool:
    return any(term.nullable for term in terms)


def _is_all(terms: _Set) -> bool:
    return any(term.kind is _Kind.ALL for term in terms)


def _joined(sets: Iterator[_Set]) -> _Set:
    return _NOTHING.union(*sets)


def _borders(tree: Tree) -> Iterator[int]:
    """Where the characters that some part means begin and end."""
    waiting: list[Tree] = [tree]
    while waiting:
        match waiting.pop():
            case Chars(ranges):
                for low, high in ranges:
                    yield low
                    yield high + 1
            case Chain(parts) | Either(parts) | Both(parts):
                waiting.extend(parts)
            case Other(of) | Repeat(of):
                waiting.append(of)
