"""What a sieve searches for: of each rule one clause, so that all of them cost little together.

Which clause is the cheapest is guessed, or counted in a sample of the log. Any choice is sound: on
a line that a rule matches each of its clauses has a piece.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

from barrelman.engine.literals import Need
from barrelman.engine.shares import Clause, Shares
from barrelman.records.frozen import frozen

Check: TypeAlias = tuple[Clause, ...]
"""Clauses of which each must have a piece on the line."""

# Nanoseconds a line, as measured: to search for one more piece, to confirm what was found, and to
# decode and judge it.
_SEARCH_COST: Final = 25
_CONFIRM_COST: Final = 900
_JUDGE_COST: Final = 3500
_MOST_CHOICES: Final = 6
_MOST_CLAUSES: Final = 2
_USELESS_SHARE: Final = 0.5
# Large letters or small ones: of either kind the \u escapes begin in two ways. Not digits, and no
# punctuation: their escapes begin like those of & < and >, which stand on many lines.
_LETTER_RUNS = re.compile(rb'"?(?:[@-_]+|[`-~]+)"?')
_SHORTEST_RUN: Final = 4


@frozen
class Plan:
    """What is done about one rule: `searched` None means that no raw event can match it."""

    searched: Clause | None
    confirmed: Check = ()


class Planner:
    """Plans for the shares of one log."""

    def __init__(self, shares: Shares) -> None:
        self._share_of = shares.of

    def plans(self, needs: Sequence[Need]) -> list[Plan]:
        """A plan for each of the needs, none of which may be met by any line."""
        rarest = [min(map(self._share_of, need.all_clauses), default=0.0) for need in needs]
        choices = [self._choices(need) for need in needs]
        order = sorted(range(len(needs)), key=rarest.__getitem__)
        plans = [Plan(None)] * len(needs)
        chosen: Counter[bytes] = Counter()
        unconfirmed: Counter[bytes] = Counter()
        # Once more with what the others came to: lines that pass for their sake cost nothing more.
        for _ in range(2):
            for number in order:
                _count(plans[number], chosen, unconfirmed, -1)
                if choices[number]:
                    plans[number] = min(
                        choices[number], key=lambda plan: self._cost(plan, chosen, unconfirmed)
                    )
                _count(plans[number], chosen, unconfirmed, 1)
        return plans

    def _choices(self, need: Need) -> list[Plan]:
        """What could be searched for, each with what would confirm it; the rarest few."""
        clauses = sorted(
            need.all_clauses, key=lambda clause: (self._share_of(clause), sorted(clause))
        )
        values = need.clauses or ()
        return [Plan(each, self._confirming(values, each)) for each in clauses[:_MOST_CHOICES]]

    def _cost(self, plan: Plan, chosen: Counter[bytes], unconfirmed: Counter[bytes]) -> float:
        """What a rule adds to the nanoseconds a line, given what the others search for."""
        searched = plan.searched or frozenset()
        new = frozenset(piece for piece in searched if not chosen[piece])
        passing = self._share_of(frozenset(p for p in searched if not unconfirmed[p]))
        for clause in plan.confirmed:
            passing *= self._share_of(clause)
        confirming = self._share_of(new) * _CONFIRM_COST
        return len(new) * _SEARCH_COST + confirming + passing * _JUDGE_COST

    def _confirming(self, clauses: Iterable[Clause], searched: Clause) -> Check:
        """The other clauses worth a look: rare ones that the searched one does not imply."""
        others = [
            clause
            for clause in clauses
            if self._share_of(clause) < _USELESS_SHARE
            and not all(any(piece in one for piece in clause) for one in searched)
        ]
        others.sort(key=lambda clause: (self._share_of(clause), sorted(clause)))
        return tuple(frozenset(map(self._narrow, clause)) for clause in others[:_MOST_CLAUSES])

    def narrowed(self, need: Need) -> Need:
        """The need with each piece cut down to a run of letters: few guards watch over those."""
        if need.clauses is None:
            return need
        clauses, keys = (
            tuple(frozenset(map(self._narrow, clause)) for clause in part)
            for part in (need.clauses, need.keys)
        )
        return Need(clauses, need.reasons, keys)

    def _narrow(self, piece: bytes) -> bytes:
        runs = [run for run in _LETTER_RUNS.findall(piece) if len(run) >= _SHORTEST_RUN]
        return min(
            runs, key=lambda run: (self._share_of(frozenset([run])), -len(run)), default=piece
        )


def _count(
    plan: Plan, chosen: Counter[bytes], unconfirmed: Counter[bytes], step: Literal[1, -1]
) -> None:
    for piece in plan.searched or ():
        chosen[piece] += step
        if not plan.confirmed:
            unconfirmed[piece] += step


def plan_of(need: Need) -> Plan:
    """What would be done about one rule that had a sieve of its own; not of one that declines."""
    planner = Planner(Shares())
    (plan,) = planner.plans([planner.narrowed(need)])
    return plan
