"""What a line must hold for a query, clause by clause."""

from __future__ import annotations

from typing import Any

import pytest
from hostile import CATALOGUE, MEMBERS, Spelling, meeting, queries
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import oracle_matches

from barrelman.engine.decode import loads
from barrelman.engine.literals import Need, need_of
from barrelman.engine.shares import Clause, guessed_share
from barrelman.query.ast import And, Before, Is, Node, Not, Or, Pattern, Text, Wild
from barrelman.query.kql import parse_kql
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT

NEVER = None

# A query, with `k.` for kubernetes.audit, and of its clauses those on values: alternatives are
# parted by |. A query that any line could meet has none.
VALUES: list[tuple[str, list[str] | None]] = [
    ("k.verb:create", ['"create"']),
    ('k.verb:"create"', ['"create"']),
    ("k.verb:(create or update)", ['"create"|"update"']),
    ("k.verb:(create and update)", ['"create"', '"update"']),
    ("k.verb:create and k.userAgent:curl*", ['"create"', '"curl']),
    ("k.verb:create or k.userAgent:curl*", ['"create"|"curl']),
    ("k.userAgent:*curl*", ["curl"]),
    ("k.userAgent:*curl", ['curl"']),
    ("k.userAgent:cur*url", ['"cur', 'url"']),
    ("k.userAgent:cu*rl", []),
    ("k.userAgent:*a*b*", []),
    # What encoders spell in several ways parts a text.
    (r'k.user.username:"say \"hello\" now"', ['"say ', "hello", ' now"']),
    ('k.userAgent:"R&D <team>"', ["team", '"R', "D "]),
    ("k.requestURI:/api/v1/pods", ['"/api/v1/pods"']),
    ("k.user.username:schönherr", ['"sch', 'nherr"']),
    ("k.user.username:öäü", []),
    ('k.user.username:"back\\\\slash"', ['"back', 'slash"']),
    # What may stand there without quotes, or in another spelling.
    ("k.verb:true", []),
    ('k.verb:"true"', []),
    ('k.verb:"false"', []),
    ("k.verb:12345", []),
    ("k.verb:1e999", []),
    ('k.verb:"12345 pods"', ['"12345 pods"']),
    ("k.verb:1234*", []),
    ("k.verb:*ru*", []),
    ("k.verb:tru*tly", ['tly"']),
    ('k.verb:""', []),
    ("k.sourceIPs:10.0.0.1", []),
    ("k.sourceIPs:10.0.0.0/8", []),
    ('k.sourceIPs:"2026-11-23"', []),
    ("k.sourceIPs:now", []),
    ("k.sourceIPs:nowhere", ['"nowhere"']),
    ("k.sourceIPs:10.0.*", ['"10.0.']),
    ("k.responseStatus.code:403", []),
    ("k.requestObject.spec.hostIPC:true", []),
    ("k.stageTimestamp > now-1h", []),
    ("k.verb > create", []),
    ("k.note:create", []),
    ("k.size:5", []),
    ("k.flat:create", ['"create"']),
    ("k.flat.key:create", ['"create"']),
    ("k.nest:{ name:create }", ['"create"']),
    ("k.objectRef:{ name:create and resource:pods }", ['"create"', '"pods"']),
    # What the pipeline makes of an event.
    ("user.name:eve", ['"eve"']),
    ("event.action:create", ['"create"']),
    ("event.outcome:success", ['"allow"']),
    ("event.outcome:failure", ['"forbid"']),
    ("event.outcome:other", []),
    ("event.outcome:succ*", []),
    ("event.kind:event", []),
    ("related.user:eve", ['"eve"']),
    ("orchestrator.resource.name:web", ['"web"']),
    ("container.image.name:*miner*", ["miner"]),
    ("kubernetes.audit:*", []),
    ("kubernetes:*", []),
    ("k.annotations:*", []),
    ("k.requestObject:*", []),
    ("user:*", []),
    ("@timestamp > now-1h", []),
    # What says nothing of any one place, or of what must be there.
    ("", []),
    ("*", []),
    ("create", []),
    ("k.*:create", []),
    ("not k.verb:create", []),
    ("not (not k.verb:create)", ['"create"']),
    ("k.verb:create and not k.user.username:eve", ['"create"']),
    ("k.verb:create or not k.user.username:eve", []),
    ("k.verb:create or k.verb:*", ['"create"|"verb']),
    # What no raw event can hold.
    ("process.name:curl", NEVER),
    ("process.name:curl or k.verb:create", ['"create"']),
    ("process.name:curl and k.verb:create", NEVER),
    ("process.name:*", NEVER),
    ("k.nest.name:create", NEVER),
    ("process:{ name:curl }", NEVER),
]


def need(query: str | Node) -> Need:
    node = parse_kql(query.replace("k.", f"{AUDIT}.")) if isinstance(query, str) else query
    return need_of(node, CATALOGUE)


def shown(clauses: tuple[Clause, ...]) -> set[str]:
    return {"|".join(sorted(piece.decode() for piece in clause)) for clause in clauses}


@pytest.mark.parametrize(("query", "expected"), VALUES, ids=[query for query, _ in VALUES])
def test_clauses_on_values(query: str, expected: list[str] | None) -> None:
    found = need(query)
    if expected is NEVER:
        assert found.clauses is None
        return
    assert found.clauses is not None
    assert shown(found.clauses) == {clause for clause in expected if len(clause.strip()) >= 3}
    assert bool(found.reasons) or bool(found.clauses)


KEYS = [
    ("k.verb:create", {'"verb"'}),
    ("k.user.username:eve", {'"user', 'username"'}),
    ("k.responseStatus.code:403", {'"responseStatus', 'code"'}),
    ("k.requestObject.spec.hostIPC:true", {'"requestObject', "spec", 'hostIPC"'}),
    (
        "k.annotations.authorization_k8s_io/decision:allow",
        {'"annotations', "authorization", 'io/decision"'},
    ),
    ("k.objectRef.name:*", {'"objectRef', "name"}),
    ("k.flat.keys:create", {'"flat', "keys"}),
    ("k.nest:{ name:create }", {'"nest', 'name"'}),
    ("k.verb > create", {'"verb"'}),
    ("k.näme.key:x", {'key"'}),
    ("user.name:eve", set()),
    ("k.verb:create or k.verb:delete", {'"verb"'}),
    ("k.verb:create or k.user.username:eve", set()),
]


@pytest.mark.parametrize(("query", "expected"), KEYS, ids=[query for query, _ in KEYS])
def test_clauses_on_keys(query: str, expected: set[str]) -> None:
    assert shown(need(query).keys) == expected


def test_the_seed_rule() -> None:
    found = need(
        'k.objectRef.resource:"pods" and k.verb:("create" or "update" or "patch") '
        "and k.requestObject.spec.hostIPC:true"
    )
    assert found.clauses is not None
    assert shown(found.clauses) == {'"pods"', '"create"|"patch"|"update"'}
    assert 'hostIPC"' in shown(found.keys)
    assert not found.is_met_by_any


NODES: list[tuple[Node, set[str] | None]] = [
    (Is(Text(f"{AUDIT}.verb"), Pattern((Wild.CHAR, "reate"))), {'reate"'}),
    (Is(Text(f"{AUDIT}.verb"), Pattern(("crea", Wild.CHAR))), {'"crea'}),
    (Is(Text(f"{AUDIT}.verb"), Pattern(("create",))), {'"create"'}),
    (Is(Text(f"{AUDIT}.verb"), Pattern(("create", Wild.RUN), ignore_case=True)), set()),
    (Or(()), None),
    (And(()), set()),
    (Before(1), set()),
    (Not(Before(1)), set()),
    (And((Is(Text(f"{AUDIT}.verb"), Text("create")), Not(Before(1)))), {'"create"'}),
    # A number that no double holds is read as its text: it stands on the line without quotes.
    (Is(Text(f"{AUDIT}.sourceIPs"), Pattern(("1e9", Wild.RUN))), set()),
    (Is(Text(f"{AUDIT}.sourceIPs"), Pattern((Wild.RUN, "e999"))), set()),
]


@pytest.mark.parametrize(("node", "expected"), NODES, ids=[repr(node)[:60] for node, _ in NODES])
def test_what_only_exceptions_and_filters_say(node: Node, expected: set[str] | None) -> None:
    found = need(node)
    assert (None if found.clauses is None else shown(found.clauses)) == expected


def test_a_clause_of_common_words_is_taken_for_a_common_one() -> None:
    assert guessed_share(frozenset([b'"verb"'])) == 1
    assert guessed_share(frozenset([b'"get"'])) > guessed_share(frozenset([b'"create"']))
    assert guessed_share(frozenset([b'"create"', b'"patch"'])) > guessed_share(
        frozenset([b'"create"'])
    )
    assert guessed_share(frozenset([b"cryptominer"])) < 0.01


Members = list[tuple[str, Any]]


def plain(members: Members) -> bytes:
    """As few encoders as there are: nothing spelled by its number that need not be."""
    spelling = Spelling(0)
    spelling.escaped, spelling.is_ascii = 0.0, False
    return spelling.event(members).encode()


@settings(max_examples=150, deadline=None)
@given(queries(), MEMBERS, st.integers(0, 2**32))
def test_each_clause_stands_on_a_line_that_matches(node: Node, members: Members, seed: int) -> None:
    found = need(node)
    for line in (plain(list(meeting(node, seed))), plain([*meeting(node, seed), *members])):
        if b"\\/" in line:
            continue
        event = Event(loads(line))
        if not oracle_matches(node, event, catalogue=CATALOGUE, now_ms=0):
            continue
        assert found.clauses is not None
        for clause in found.all_clauses:
            assert any(piece in line for piece in clause)
