"""What columns can rule out of EQL's conditions: never a row that meets one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oddevents import bodies
from test_prune import CLUSTER, meets

from barrelman.detection.prune import ALWAYS, prune
from barrelman.detection.rows import row_of
from barrelman.engine.compile import compile_query
from barrelman.query.ast import Node
from barrelman.query.eql import parse_eql
from barrelman.query.eqltree import EventFilter
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE
from barrelman.records.where import Equals, Not, Where, Wildcard

FIELDS = st.sampled_from(
    [
        *("kubernetes.audit.verb", "event.action", "user.name", "orchestrator.namespace"),
        *("kubernetes.audit.objectRef.name", "kubernetes.audit.responseStatus.code"),
        *("kubernetes.audit.sourceIPs", "source.ip", "kubernetes.audit.objectRef.resource"),
    ]
)
CONDITIONS = st.recursive(
    st.builds(
        str.format,
        st.sampled_from(
            [
                *('{0} == "get"', '{0} == "a"', '{0} == ""', "{0} == 200", "{0} == 200.0"),
                *('{0} == "200"', "{0} == true", '{0} == "true"', '{0} like "*e*"', "{0} == null"),
                *('{0} : "GET"', '{0} != "get"', '{0} in ("get", "a", "10.0.0.1")', "{0} > 100"),
                *('startsWith({0}, "g")', "length({0}) == 3", '{0} regex "g.*"', "{0} == 1"),
            ]
        ),
        FIELDS,
    ),
    lambda parts: (
        st.builds("({} and {})".format, parts, parts)
        | st.builds("({} or {})".format, parts, parts)
        | st.builds("not ({})".format, parts)
    ),
    max_leaves=4,
)


def eql(condition: str) -> Node:
    top = parse_eql(f"any where {condition}").top
    assert isinstance(top, EventFilter)
    return top.node()


@settings(max_examples=125, deadline=None)
@given(CONDITIONS, bodies())
def test_of_plain_rows_it_rules_out_none_that_the_matcher_takes(
    condition: str, body: dict[str, Any]
) -> None:
    event = Event(body, cluster=CLUSTER)
    row = row_of(event, cluster=CLUSTER)
    if not row.is_plain:
        return
    node = eql(condition)
    found = prune(node, AUDIT_CATALOGUE)
    is_match = compile_query(node, AUDIT_CATALOGUE).matches(event, now_ms=0)
    is_kept = meets(found.where, row)
    assert is_kept or not is_match
    if found.is_exact:
        assert is_match or not is_kept


@pytest.mark.parametrize(
    ("condition", "where"),
    [
        ('event.action == "get"', Equals("verb", "get")),
        ('event.action != "get"', Not(Equals("verb", "get"))),
        ('event.action like "g*t"', Wildcard("verb", "g*t")),
        ('event.action : "get"', ALWAYS),
        ('event.action regex "g.*"', ALWAYS),
        ("kubernetes.audit.responseStatus.code == 403", Equals("status", 403)),
        ("kubernetes.audit.responseStatus.code == 403.5", ALWAYS),
        ("kubernetes.audit.responseStatus.code > 403", ALWAYS),
        ('startsWith(user.name, "x")', ALWAYS),
        ("length(user.name) > 5", ALWAYS),
        ("not length(user.name) > 5", ALWAYS),
    ],
)
def test_conditions_of_columns(condition: str, where: Where) -> None:
    assert prune(eql(condition), AUDIT_CATALOGUE).where == where
