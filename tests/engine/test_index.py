"""All rules at once against each of them by itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.engine import index as engine_index
from barrelman.engine.compile import Predicate, compile_query
from barrelman.engine.index import RuleIndex
from barrelman.query.kql import parse_kql
from barrelman.records.event import Event, JsonObject
from barrelman.records.fields import AUDIT_CATALOGUE

TEXTS = st.sampled_from(["get", "create", "secrets", "pods", "a", "", "eve", "1", "true", "200"])
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, 1, 1.0, 200, 403, 200.7, [], {}, ["get", "create"], "x"]
)
VALUES = TEXTS | TEXTS | ODD
FIELDS = (
    "kubernetes.audit.verb",
    "event.action",
    "kubernetes.audit.objectRef.resource",
    "orchestrator.resource.type",
    "kubernetes.audit.objectRef.subresource",
    "kubernetes.audit.objectRef.namespace",
    "kubernetes.audit.user.username",
    "user.name",
    "related.user",
    "user_agent.original",
    "kubernetes.audit.annotations.authorization_k8s_io/decision",
    "event.outcome",
    "kubernetes.audit.responseStatus.code",
    "kubernetes.audit.requestObject.spec.hostIPC",
    "kubernetes.audit.impersonatedUser.username",
)
LEAVES = st.one_of(
    st.builds(
        "{}:{}".format,
        st.sampled_from(FIELDS),
        st.sampled_from(["get", "create", "secrets", "allow", "forbid", "success", "e*", "*e*"]),
    ),
    st.builds("{}:*".format, st.sampled_from(FIELDS)),
    st.builds("{} > {}".format, st.sampled_from(FIELDS), st.sampled_from(["b", "200", "403"])),
    st.sampled_from(["kubernetes.audit.responseStatus.code:(200 or 403)", "*:get", "get"]),
)
QUERIES = st.recursive(
    LEAVES,
    lambda parts: st.one_of(
        st.builds("({} and {})".format, parts, parts),
        st.builds("({} or {})".format, parts, parts),
        st.builds("not ({})".format, parts),
    ),
    max_leaves=5,
)


@st.composite
def bodies(draw: st.DrawFn) -> JsonObject:
    """Events of fields that the tables know, sometimes spelled or filled as nobody would."""
    body: JsonObject = {}
    for path in (
        ("verb",),
        ("userAgent",),
        ("objectRef", "resource"),
        ("objectRef", "subresource"),
        ("objectRef", "namespace"),
        ("user", "username"),
        ("user", "uid"),
        ("annotations", "authorization.k8s.io/decision"),
        ("responseStatus", "code"),
        ("impersonatedUser", "username"),
    ):
        how = draw(st.integers(0, 9))
        if how == 0:
            continue
        value: Any = draw(VALUES)
        if how == 1:
            body[".".join(path)] = value
        elif len(path) == 1:
            body[path[0]] = value
        else:
            parent = body.setdefault(path[0], {})
            if type(parent) is dict:
                key = path[1]
                if key.endswith("/decision") and how == 2:
                    key = draw(
                        st.sampled_from(
                            ["authorization_k8s_io/decision", "authorization.k8s_io/decision"]
                        )
                    )
                parent[key] = value
    for parent_name in ("objectRef", "user", "annotations", "requestObject"):
        if draw(st.integers(0, 15)) == 0:
            body[parent_name] = draw(ODD | st.lists(st.dictionaries(TEXTS, VALUES), max_size=2))
    return body


def compiled(*queries: str) -> list[Predicate]:
    return [compile_query(parse_kql(query), AUDIT_CATALOGUE) for query in queries]


def one_by_one(predicates: list[Predicate], event: Event) -> list[int]:
    return [at for at, each in enumerate(predicates) if each.matches(event, now_ms=0)]


@settings(max_examples=150)
@given(
    queries=st.lists(QUERIES, min_size=1, max_size=6),
    events=st.lists(bodies(), min_size=1, max_size=8),
)
def test_the_index_answers_as_its_rules_do(queries: list[str], events: list[JsonObject]) -> None:
    predicates = compiled(*queries)
    index = RuleIndex(predicates)
    for body in [*events, *events]:  # once new, once remembered
        event = Event(body)
        assert index.matches(event) == one_by_one(predicates, event), body


COMMON = st.builds(
    "{}:{}".format,
    st.sampled_from(["kubernetes.audit.verb", "orchestrator.resource.type", "user.name"]),
    st.sampled_from(["get", "secrets", "e*", "*"]),
)


@settings(max_examples=133)
@given(
    queries=st.lists(
        st.builds("{} and {}".format, COMMON, COMMON) | st.builds("not {}".format, COMMON),
        min_size=1,
        max_size=4,
    ),
    events=st.lists(bodies(), min_size=1, max_size=8),
)
def test_what_a_look_up_tells_is_the_answer(queries: list[str], events: list[JsonObject]) -> None:
    predicates = compiled(*queries)
    index = RuleIndex(predicates)
    for body in [*events, *events]:
        event = Event(body)
        expected = one_by_one(predicates, event)
        assert index.matches(event) == expected
        if index.is_told:
            assert index.told(body) in (None, tuple(expected)), body


def test_a_look_up_tells_of_what_was_met_before() -> None:
    index = RuleIndex(compiled("kubernetes.audit.verb:get and orchestrator.resource.type:secrets"))
    body = {"verb": "get", "objectRef": {"resource": "secrets"}}
    assert index.is_told
    assert index.told(body) is None
    assert index.matches(Event(body)) == [0]
    assert index.told(body) == (0,)
    assert index.told(body | {"objectRef.resource": "pods"}) is None


def test_what_every_branch_asks_of_a_field_spares_asking_the_event() -> None:
    """A sequence's stages are joined by "or": most events meet none of them."""
    first = "(kubernetes.audit.verb:get and orchestrator.resource.type:secrets)"
    second = "(kubernetes.audit.verb:create and orchestrator.resource.type:pods)"
    index = RuleIndex(compiled(f"{first} or {second}"))
    for verb, resource, may in (
        ("list", "pods", False),
        ("get", "nodes", False),
        ("get", "pods", True),
        ("get", "secrets", True),
    ):
        body = {"verb": verb, "objectRef": {"resource": resource}}
        assert index.matches(Event(body)) == ([0] if resource == "secrets" else [])
        assert index.may_match(body) is may


@pytest.mark.parametrize(
    "body",
    [
        {"verb": "get", "objectRef": {"resource": "secrets"}},
        {"verb": ["create", "get"], "objectRef": {"resource": "secrets"}},
        {"verb": "get", "objectRef": [{"resource": "pods"}, {"resource": "secrets"}]},
        {"verb": "get", "objectRef.resource": "secrets"},
        {"verb": "get", "objectRef": {"resource": ["secrets"]}},
        {"verb": "get", "objectRef": {"resource": "pods"}, "objectRef.resource": "secrets"},
    ],
)
def test_each_way_to_spell_a_field(body: JsonObject) -> None:
    (query,) = compiled("kubernetes.audit.verb:get and orchestrator.resource.type:secrets")
    assert RuleIndex([query]).matches(Event(body)) == [0]


def test_true_is_not_one() -> None:
    index = RuleIndex(compiled("kubernetes.audit.responseStatus.code:1"))
    for code, expected in ((1, [0]), (True, []), (1.0, [0]), ("1", [0]), (2, [])):
        assert index.matches(Event({"responseStatus": {"code": code}})) == expected


def test_ever_new_values_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_index, "_MOST_VALUES", 8)
    monkeypatch.setattr(engine_index, "_MOST_COMBINATIONS", 8)
    predicates = compiled("user.name:(u7 or u40)", "not user.name:u7", "kubernetes.audit.level:l*")
    index = RuleIndex(predicates)
    for number in [*range(50), *range(50)]:
        event = Event({"user": {"username": f"u{number}"}, "level": f"l{number}"})
        assert index.matches(event) == one_by_one(predicates, event)
