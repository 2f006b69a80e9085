"""Which lines could matter at all: a search of bytes that may say yes too often, never no.

Of each rule's need (`literals`) one clause is searched for, the others are confirmed on the lines
where it stands (`plan`). Every piece may also be spelled with `\\uXXXX`; so lines pass on which one
of its characters may be (the *guards*).

Few pieces are searched one by one, which is faster up to about eight; many in one pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from barrelman.engine.find import IS_FAST, Data, find, rfind
from barrelman.engine.literals import Need
from barrelman.engine.patternset import PatternSet, is_available
from barrelman.engine.plan import Check, Plan, Planner
from barrelman.engine.shares import Shares
from barrelman.records.frozen import frozen

Line: TypeAlias = tuple[int, int]
"""Offsets of a line's first byte and of its line feed."""

# The annotation of events whose bodies the API server cut off: a scan counts them.
TRUNCATED: Final = b'truncated"'

_NEWLINE = b"\n"
# With pieces searched one by one, how many are still faster than one pass for all of them.
_FEW = 8
# More rules than this are not even tried.
_MOST_RULES_ONE_BY_ONE = 3 * _FEW
# Without Hyperscan, how many pieces are still searched faster than lines are decoded.
_MANY_WITHOUT_HYPERSCAN = 60 if IS_FAST else 6
_MOST_CHECKS = 32


@frozen
class _Confirmed:
    """Of a piece: what else must stand on its lines; and how that may be spelled otherwise, where
    such lines do not pass by themselves."""

    checks: tuple[Check, ...]
    guards: tuple[bytes, ...]


class Sieve:
    """Frozen: it may be used for any number of scans at once."""

    def __init__(self, plans: Sequence[Plan], *, one_by_one: bool) -> None:
        self.plans = tuple(plans)
        self.one_by_one = one_by_one
        searched: dict[bytes, set[Check] | None] = {}
        for plan in plans:
            for piece in sorted(plan.searched or ()):
                checks = searched.setdefault(piece, set())
                if checks is not None:
                    checks.add(plan.confirmed)
                    if () in checks or len(checks) > _MOST_CHECKS:
                        searched[piece] = None
        searched[TRUNCATED] = None
        self.pieces = tuple(searched)
        guarded = [piece for plan in plans for piece in plan.searched or ()]
        if not one_by_one:  # there it costs nothing more to look for the escapes of all
            guarded += [piece for plan in plans for some in plan.confirmed for piece in some]
        self.guarded_rows = _rows(guarded)
        guards = _guards(self.guarded_rows, as_regex=not one_by_one)
        self._searched: list[tuple[bytes, _Confirmed | None]] = [
            (piece, None if checks is None else _confirmed(checks, is_guarded=not one_by_one))
            for piece, checks in searched.items()
        ]
        self._searched += [(guard, None) for guard in guards]
        self._patterns: PatternSet | None = None
        if not one_by_one:
            self._patterns = PatternSet([*map(re.escape, self.pieces), *guards])

    def lines(self, data: memoryview, end: int) -> list[Line]:
        """The lines that could matter, in order, of the whole lines in the first `end` bytes."""
        if self._patterns is None:
            return self._lines_one_by_one(data, end)
        return self._lines_in_one_pass(self._patterns, data, end)

    def _lines_one_by_one(self, data: memoryview, end: int) -> list[Line]:
        found: dict[int, int] = {}
        for piece, confirmed in self._searched:
            at = find(data, piece, 0, end)
            while at >= 0:
                start = rfind(data, _NEWLINE, 0, at) + 1
                stop = find(data, _NEWLINE, at, end)
                if confirmed is None or _passes(data, start, stop, confirmed):
                    found[start] = stop
                at = find(data, piece, stop, end)
        return sorted(found.items())

    def _lines_in_one_pass(self, patterns: PatternSet, data: memoryview, end: int) -> list[Line]:
        lines: list[Line] = []
        searched = self._searched
        start = stop = -1
        passed = True
        tried: set[int] = set()
        for match_end, number in patterns.ends(data[:end]):
            inside = match_end - 2  # the last byte may be the line feed itself
            if inside > stop:
                start = rfind(data, _NEWLINE, 0, inside) + 1
                stop = find(data, _NEWLINE, inside, end)
                passed = False
                tried.clear()
            if not passed and number not in tried:
                # Once a line: a long one may hold a piece as often as it is long.
                tried.add(number)
                confirmed = searched[number][1]
                if confirmed is None or _passes(data, start, stop, confirmed):
                    passed = True
                    lines.append((start, stop))
        return lines


def build_sieve(needs: Sequence[Need], *, sample: Data = b"") -> Sieve | None:
    """The sieve of rules with these needs; None where one of them can match any line.

    `sample` is some of the log, from which to tell what is rare in it.
    """
    if any(need.is_met_by_any for need in needs):
        return None
    planner = Planner(Shares(sample))
    has_hyperscan = is_available()
    if has_hyperscan and len(needs) > _MOST_RULES_ONE_BY_ONE:
        return Sieve(planner.plans(needs), one_by_one=False)
    one_by_one = Sieve(planner.plans(list(map(planner.narrowed, needs))), one_by_one=True)
    cost = len(one_by_one.pieces) + len(one_by_one.guarded_rows)
    if cost <= _FEW:
        return one_by_one
    if has_hyperscan:
        return Sieve(planner.plans(needs), one_by_one=False)
    return one_by_one if cost <= _MANY_WITHOUT_HYPERSCAN else None


def _confirmed(checks: set[Check], *, is_guarded: bool) -> _Confirmed:
    rows = _rows(piece for check in checks for clause in check for piece in clause)
    guards = () if is_guarded else tuple(_guards(rows, as_regex=False))
    return _Confirmed(tuple(sorted(checks, key=repr)), guards)


def _passes(data: memoryview, start: int, stop: int, confirmed: _Confirmed) -> bool:
    """Whether all clauses of one of the checks have a piece on the line, or may have."""
    for check in confirmed.checks:
        for clause in check:
            for piece in clause:
                if find(data, piece, start, stop) >= 0:
                    break
            else:
                break
        else:
            return True
    return any(find(data, guard, start, stop) >= 0 for guard in confirmed.guards)


def _rows(pieces: Iterable[bytes]) -> tuple[int, ...]:
    """The high halves of the bytes in these pieces; quotes at their ends are no part of a text."""
    return tuple(sorted({byte >> 4 for piece in pieces for byte in piece.strip(b'"')}))


def _guards(rows: tuple[int, ...], *, as_regex: bool) -> list[bytes]:
    """How a character of these rows begins when it is escaped: `\\u006` for those like `a`.

    As regular expressions the escapes that Go's encoder writes (& < >) are left out: no piece
    holds these characters.
    """
    if not as_regex:
        slash = [b"\\/"] if 2 in rows else []
        return [b"\\u00%x" % row for row in rows] + slash
    letters = b"".join(b"%x" % row for row in rows if row > 3)
    guards = [rb"\\u00[%s]" % letters] if letters else []
    if 2 in rows:
        guards.append(rb"\\u002[^6]")
        guards.append(rb"\\/")  # a slash is one of them
    if 3 in rows:
        guards.append(rb"\\u003[^cCeE]")
    return guards
