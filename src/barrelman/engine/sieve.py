"""Which lines could matter at all: a search of bytes that may say yes too often, never no.

Of each rule's need (`literals`) one clause is searched for, the others are confirmed on the lines
where it stands. Every piece may also be spelled with `\\uXXXX`; so lines pass on which one of its
characters may be (the *guards*). Which clause is the cheapest is a guess; that each one of them
must stand on a matching line is what makes the sieve sound.

Few pieces are searched one by one, which is faster up to about eight; many in one pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from barrelman.engine.find import IS_FAST, find, rfind
from barrelman.engine.literals import Clause, Need, share_of
from barrelman.engine.patternset import PatternSet, is_available
from barrelman.records.frozen import frozen

Line: TypeAlias = tuple[int, int]
"""Offsets of a line's first byte and of its line feed."""
Check: TypeAlias = tuple[Clause, ...]
"""Clauses of which each must have a piece on the line."""

# The annotation of events whose bodies the API server cut off: a scan counts them.
TRUNCATED: Final = b'truncated"'

_NEWLINE = b"\n"
# Nanoseconds a line, as measured: to search for one more piece, to confirm what was found, and to
# decode and judge it.
_SEARCH_COST = 35
_CONFIRM_COST = 1200
_JUDGE_COST = 6000
# With pieces searched one by one, how many are still faster than one pass for all of them.
_FEW = 8
# More rules than this are not even tried.
_MOST_RULES_ONE_BY_ONE = 3 * _FEW
# Without Hyperscan, how many pieces are still searched faster than lines are decoded.
_MANY_WITHOUT_HYPERSCAN = 60 if IS_FAST else 6
_MOST_CHECKS = 4
_MOST_CLAUSES = 2
_USELESS_SHARE = 0.5
# Characters that share the first three digits of their \u escape. The runs keep to letters: the
# escapes of & < and > stand on many lines, and begin like those of digits and punctuation.
_LETTER_RUNS = re.compile(rb'"?(?:[@-_]+|[`-~]+)"?')


@frozen
class Plan:
    """What is done about one rule: `searched` None means that no raw event can match it."""

    searched: Clause | None
    confirmed: Check = ()


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
        for match_end, number in patterns.ends(data[:end]):
            inside = match_end - 2  # the last byte may be the line feed itself
            if inside > stop:
                start = rfind(data, _NEWLINE, 0, inside) + 1
                stop = find(data, _NEWLINE, inside, end)
                passed = False
            if not passed:
                confirmed = searched[number][1]
                if confirmed is None or _passes(data, start, stop, confirmed):
                    passed = True
                    lines.append((start, stop))
        return lines


def build_sieve(needs: Sequence[Need]) -> Sieve | None:
    """The sieve of rules with these needs; None where one of them can match any line."""
    if any(need.is_met_by_any for need in needs):
        return None
    has_hyperscan = is_available()
    if has_hyperscan and len(needs) > _MOST_RULES_ONE_BY_ONE:
        return Sieve(_plan(needs), one_by_one=False)
    one_by_one = Sieve(_plan(_narrowed(need) for need in needs), one_by_one=True)
    cost = len(one_by_one.pieces) + len(one_by_one.guarded_rows)
    if cost <= _FEW:
        return one_by_one
    if has_hyperscan:
        return Sieve(_plan(needs), one_by_one=False)
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


def plan_of(need: Need) -> Plan:
    """What would be done about one rule that had a sieve of its own; not of one that declines."""
    (plan,) = _plan([_narrowed(need)])
    return plan


def _plan(needs: Iterable[Need]) -> list[Plan]:
    """Chooses clauses so that all rules together search for little and let little pass."""
    listed = list(needs)
    rarest = [min(map(share_of, need.all_clauses), default=0.0) for need in listed]
    chosen: set[bytes] = set()
    unconfirmed: set[bytes] = set()
    plans = [Plan(None)] * len(listed)
    for number in sorted(range(len(listed)), key=rarest.__getitem__):
        need = listed[number]
        if need.clauses is None:
            continue
        choices = [
            Plan(clause, _confirming(need.clauses, clause))
            for clause in sorted(need.all_clauses, key=sorted)
        ]
        best = min(choices, key=lambda plan: _cost(plan, chosen, unconfirmed))
        assert best.searched is not None
        chosen |= best.searched
        if not best.confirmed:
            unconfirmed |= best.searched
        plans[number] = best
    return plans


def _cost(plan: Plan, chosen: set[bytes], unconfirmed: set[bytes]) -> float:
    """What a rule adds to the nanoseconds a line, given what is searched for already."""
    assert plan.searched is not None
    new = plan.searched - chosen
    passing = share_of(plan.searched - unconfirmed)
    for clause in plan.confirmed:
        passing *= share_of(clause)
    return len(new) * _SEARCH_COST + share_of(new) * _CONFIRM_COST + passing * _JUDGE_COST


def _confirming(clauses: Iterable[Clause], searched: Clause) -> Check:
    """The other clauses that are worth a look: rare ones that the searched one does not imply."""
    others = [
        clause
        for clause in clauses
        if share_of(clause) < _USELESS_SHARE
        and not all(any(piece in one for piece in clause) for one in searched)
    ]
    others.sort(key=lambda clause: (share_of(clause), sorted(clause)))
    return tuple(frozenset(map(_narrow, clause)) for clause in others[:_MOST_CLAUSES])


# --- escapes -------------------------------------------------------------------------------


def _narrowed(need: Need) -> Need:
    """The need with each piece cut down to a run of letters with few guards."""
    if need.clauses is None:
        return need
    clauses, keys = (
        tuple(frozenset(map(_narrow, clause)) for clause in part)
        for part in (need.clauses, need.keys)
    )
    return Need(clauses, need.reasons, keys)


def _narrow(piece: bytes) -> bytes:
    runs = [run for run in _LETTER_RUNS.findall(piece) if len(run) >= 4]
    return min(runs, key=lambda run: (share_of(frozenset([run])), -len(run)), default=piece)


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
