"""What columns can rule out: of plain rows never one that meets the query."""

from __future__ import annotations

import re
from typing import Any, assert_never

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oddevents import FIELDS, VALUES, all_bodies, bodies, parsed, queries
from samples import event as plain_event

from barrelman.detection.prune import ALWAYS, NEVER, Pruned, prune
from barrelman.detection.rows import row_of
from barrelman.engine.compile import compile_query
from barrelman.query.ast import MATCH_ALL
from barrelman.query.kql import parse_kql
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE
from barrelman.records.rows import Row
from barrelman.records.where import (
    Always,
    And,
    Between,
    Equals,
    In,
    IsNull,
    Not,
    Or,
    Prefix,
    Where,
    Wildcard,
)

CLUSTER = "harbour"


def meets(where: Where, row: Row, cluster: str = CLUSTER) -> bool:
    """What a condition means, by its definition."""
    match where:
        case Always(is_true):
            return is_true
        case And(parts):
            return all(meets(part, row, cluster) for part in parts)
        case Or(parts):
            return any(meets(part, row, cluster) for part in parts)
        case Not(part):
            return not meets(part, row, cluster)
        case IsNull(column):
            return not values(row, column, cluster)
        case Equals(column, value):
            return value in values(row, column, cluster)
        case In(column, some):
            return any(value in some for value in values(row, column, cluster))
        case Prefix(column, text):
            return any(value.startswith(text) for value in values(row, column, cluster))
        case Wildcard(column, pattern):
            fits = re.compile(
                "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern),
                re.DOTALL,
            ).fullmatch
            return any(fits(value) is not None for value in values(row, column, cluster))
        case Between(column, low, high):
            found = values(row, column, cluster)
            return any(
                (low is None or value >= low) and (high is None or value <= high) for value in found
            )
        case _:
            assert_never(where)


def values(row: Row, column: str, cluster: str) -> list[Any]:
    if column == "cluster":
        return [cluster]
    if column == "source_ips":
        return list(row.source_ips)
    value = getattr(row, column)
    return [] if value is None else [value]


def pruned(query: str) -> Pruned:
    return prune(parse_kql(query), AUDIT_CATALOGUE)


@pytest.mark.parametrize(
    ("query", "where", "is_exact"),
    [
        ("user.name:eve", Equals("user", "eve"), True),
        ("kubernetes.audit.user.username:eve", Equals("user", "eve"), True),
        ("user.name:*", Not(IsNull("user")), True),
        ("user.name:e*e", Wildcard("user", "e*e"), True),
        ("event.action:get", Equals("verb", "get"), True),
        ("kubernetes.audit.responseStatus.code:404", Equals("status", 404), True),
        ("kubernetes.audit.responseStatus.code:0404", ALWAYS, False),
        ("kubernetes.audit.responseStatus.code:404.0", ALWAYS, False),
        ("kubernetes.audit.responseStatus.code >= 400", ALWAYS, False),
        ("source.ip:10.0.0.1", Equals("source_ips", "10.0.0.1"), False),
        ("source.ip:10.0.0.0/8", ALWAYS, False),
        ("orchestrator.cluster.name:harbour", Equals("cluster", "harbour"), True),
        ("userAgent:curl", ALWAYS, False),
        ("not user.name:eve", Not(Equals("user", "eve")), True),
        ("not source.ip:10.0.0.1", ALWAYS, False),
        ("not user.name:e*e", Not(Wildcard("user", "e*e")), True),
        (
            "user.name:eve and event.action:get",
            And((Equals("user", "eve"), Equals("verb", "get"))),
            True,
        ),
        ("user.name:eve and user_agent.original:curl", And((Equals("user", "eve"),)), False),
        ("user.name:eve or user_agent.original:curl", ALWAYS, False),
        (
            "user.name:(eve or adam)",
            Or((Equals("user", "eve"), Equals("user", "adam"))),
            True,
        ),
    ],
)
def test_conditions_of_queries(query: str, where: Where, is_exact: bool) -> None:
    assert pruned(query) == Pruned(where, is_exact)


def test_everything_and_nothing() -> None:
    everything = prune(MATCH_ALL, AUDIT_CATALOGUE)
    assert everything == Pruned(ALWAYS, True)
    assert not everything.is_useful
    nothing = pruned("not (user.name:eve or *:*)")
    assert nothing.where in (NEVER, ALWAYS)


def check(query: str, body: dict[str, Any]) -> None:
    node = parsed(query)
    if node is None:
        return
    event = Event(body, cluster=CLUSTER)
    row = row_of(event, cluster=CLUSTER)
    if not row.is_plain:
        return
    found = prune(node, AUDIT_CATALOGUE)
    is_match = compile_query(node, AUDIT_CATALOGUE).matches(event, now_ms=0)
    is_kept = meets(found.where, row)
    assert is_kept or not is_match, f"{query} is met by what {found.where} rules out"
    if found.is_exact:
        assert is_match or not is_kept, f"{query} is not met, and {found.where} is called exact"


def test_of_all_odd_events_asked_all_simple_queries() -> None:
    events = [Event(body, cluster=CLUSTER) for body in all_bodies()]
    rows = [row_of(event, cluster=CLUSTER) for event in events]
    plain = [(event, row) for event, row in zip(events, rows, strict=True) if row.is_plain]
    assert 300 < len(plain) < len(events) - 300
    for field in FIELDS:
        for value in VALUES:
            query = f"{field}:{value}"
            node = parsed(query)
            if node is None:
                continue
            found = prune(node, AUDIT_CATALOGUE)
            predicate = compile_query(node, AUDIT_CATALOGUE)
            for event, row in plain:
                is_match = predicate.matches(event, now_ms=0)
                is_kept = meets(found.where, row)
                assert is_kept or not is_match, (query, event.body)
                assert is_match or not (is_kept and found.is_exact), (query, event.body)


@settings(max_examples=250, deadline=None)
@given(queries(), bodies())
def test_of_plain_rows_it_rules_out_none_that_the_matcher_takes(
    query: str, body: dict[str, Any]
) -> None:
    check(query, body)


@settings(max_examples=150, deadline=None)
@given(queries(depth=1), st.sampled_from(["create", "", "get"]), st.sampled_from(["eve", "", "a"]))
def test_of_events_as_they_should_be_most_are_plain(query: str, verb: str, user: str) -> None:
    body = plain_event(1, verb=verb, user={"username": user}, requestObject=None)
    assert row_of(Event(body), cluster=CLUSTER).is_plain
    check(query, body)
