"""What `barrelman rules explain` prints: what a line must hold for a rule to match it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from barrelman.cli.listing import finish, print_json, rules_named
from barrelman.cli.printing import printable
from barrelman.detection.scan import RunnableRule, needs_of
from barrelman.engine.literals import Need
from barrelman.engine.plan import Plan, plan_of
from barrelman.engine.shares import Clause
from barrelman.engine.sieve import TRUNCATED, Sieve, build_sieve
from barrelman.rules.assign import rule_predicate
from barrelman.settings.rulefiles import read_pack


def explain_rules(what: Sequence[str], *, paths: Sequence[str], format_: str | None) -> int:
    """The exit code. Exceptions of other files are not looked at: they never need a piece."""
    load = rules_named(what, paths=paths) if what else read_pack()
    ready = [each.rule for each in load.rules if each.rule is not None and each.status == "ready"]
    runnable = [RunnableRule(rule, rule_predicate(rule)) for rule in ready]
    needs = needs_of(runnable)
    sieve = build_sieve(needs)
    if format_ == "json":
        print_json([_as_json(each, need) for each, need in zip(runnable, needs, strict=True)])
    else:
        for each, need in zip(runnable, needs, strict=True):
            sys.stdout.write(printable(each.rule.name) + "\n")
            for line in _explained(need):
                sys.stdout.write(f"  {printable(line)}\n")
            sys.stdout.write("\n")
        for loaded in load.rules:
            if loaded.status != "ready":
                text = f"{loaded.name or loaded.path}: {loaded.status}: {loaded.reason}"
                sys.stdout.write(f"{printable(text)}\n\n")
        for line in _together(sieve, needs):
            sys.stdout.write(line + "\n")
    return finish(load, draw=format_ != "json")


def _explained(need: Need) -> Iterator[str]:
    if need.clauses is None:
        yield "no raw audit event can match it: it reads other data, or fields that none has"
        return
    if need.is_met_by_any:
        yield "any line could match: with this rule every event is decoded"
        for reason in need.reasons:
            yield f"    {reason}"
        return
    plan = plan_of(need)
    assert plan.searched is not None
    yield "a line that it matches holds"
    for clause in (*need.clauses, *need.keys):
        yield f"    {_one_of(clause)}{'' if clause in need.clauses else ', in the name of a field'}"
    yield f"searched for:  {_one_of(plan.searched)}"
    for number, clause in enumerate(plan.confirmed):
        yield f"{'confirmed by:' if number == 0 else '         and:'}  {_one_of(clause)}"


def _together(sieve: Sieve | None, needs: Sequence[Need]) -> Iterator[str]:
    if sieve is None:
        declined = sum(need.is_met_by_any for need in needs)
        if declined:
            yield f"Together: no sieve, as {declined} of {len(needs)} rules can match any line."
        else:
            yield "Together: no sieve, as so many pieces need Hyperscan, which is not installed."
        return
    count = len([piece for piece in sieve.pieces if piece != TRUNCATED])
    way = "one after the other" if sieve.one_by_one else "in one pass"
    yield f"Together: {count} piece{'' if count == 1 else 's'}, searched {way}."
    rows = ", ".join(f"\\u00{row:x}…" for row in sieve.guarded_rows)
    if rows:
        yield f"A line also passes where a letter of theirs may be escaped: {rows}"


def _one_of(clause: Clause) -> str:
    return " or ".join(piece.decode("ascii") for piece in sorted(clause))


def _as_json(each: RunnableRule, need: Need) -> dict[str, Any]:
    plan = Plan(None) if need.is_met_by_any else plan_of(need)

    def texts(clause: Clause) -> list[str]:
        return sorted(piece.decode("ascii") for piece in clause)

    return {
        "rule_id": each.rule.rule_id,
        "name": each.rule.name,
        "matches_raw_events": need.clauses is not None,
        "declines": need.is_met_by_any,
        "reasons": list(need.reasons),
        "values": [texts(clause) for clause in need.clauses or ()],
        "fields": [texts(clause) for clause in need.keys],
        "searched": texts(plan.searched or frozenset()),
        "confirmed": [texts(clause) for clause in plan.confirmed],
    }
