"""The engine against the oracle, on trees and events that nobody would write by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle import oracle_matches, oracle_values

from barrelman.engine.blind import impossible
from barrelman.engine.compile import compile_query
from barrelman.errors import QueryTypeError
from barrelman.query.ast import (
    And,
    Before,
    Boolean,
    Exists,
    FieldName,
    Is,
    MatchAll,
    Nested,
    Node,
    Not,
    Or,
    Pattern,
    Range,
    RangeOp,
    Text,
    Wild,
    Within,
)
from barrelman.query.kql import MAX_NESTING, parse_kql
from barrelman.query.render import render_kql
from barrelman.query.typecheck import MOST_PARTS, check_types
from barrelman.records.ecs import ecs_document
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue, FieldType, absence_in_raw_events

NOW_MS = 1_795_417_560_000  # 2026-11-23T07:06:00Z
TYPED = Catalogue(
    exact={kind.value: kind for kind in FieldType}
    | {f"a.{kind.value}": kind for kind in FieldType},
    keyword_prefix="b.",
    by_value=frozenset({"b.c"}),
)

SCALARS = st.sampled_from(
    [
        *("", "a", "A", "b", "a b", "ab", "a*b", "a?b", "true", "false", "True", "K\u212a", "ſs"),
        *("ß", "\ue000", "\U0001f600", "_", "a-b", "a.b", "1", "01", "1.0", "1e0", "80", "80.5"),
        *("2026-11-23", "2026-11-23T07:06:00Z", "2026-11-23T07:05:59.999999Z", "2026-11-22T23:00"),
        *("2026-11-23T08:06:00+01:00", "2026", "10.0.0.1", "::ffff:10.0.0.1", "::1", "fe80::1"),
        *(None, True, False, 0, 1, -1, 2, 80, 80.5, 1.0, 0.1, -0.0, 1e22, 2**53 + 1, 2**64 - 1),
        *(1_795_417_560_000, 1_795_417_560_000.25),
    ]
)
LITERALS = st.sampled_from(
    [
        *("", "a", "A", "b", "a b", "ab", "a*b", "true", "false", "True", "Ks", "ks", "a b a"),
        *("ß", "\ue000", "\U0001f600", "a-b", "1", "01", "+1", "1.0", "1.5", "1e0", "80", "80.5"),
        *(
            "0",
            "-0",
            "0.1",
            ".1",
            "1.",
            "1e22",
            "9007199254740993",
            "18446744073709551615",
            "1e999",
        ),
        *(
            "2026-11-23",
            "2026-11",
            "2026",
            "2026-11-23T07:06",
            "now",
            "now/d",
            "now-1h",
            "now-1M/M",
        ),
        *("2026-11-23||/w", "2026-11-23T07:06:00.000Z", "1795417560000", "9999-12-31||+1y"),
        *("10.0.0.1", "10.0.0.0/8", "10.0.0.0/33", "::ffff:a00:1", "::/0", "::1", "0.0.0.0/0"),
    ]
)
TOKENS = st.lists(
    st.sampled_from([Wild.RUN, Wild.RUN, Wild.CHAR, "a", "b", "A", " ", "1", ".", "ab", "k", "s"]),
    min_size=1,
    max_size=5,
)
KEYS = st.sampled_from(
    ["a", "b", "c", "a.b", "b.c", "a.b.c", *(kind.value for kind in FieldType), "a.text", "c.ip"]
)


def json_of(keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.recursive(
        SCALARS,
        lambda parts: (
            st.lists(parts, max_size=3)
            | st.dictionaries(keys, parts, max_size=3)
            | st.dictionaries(keys, parts, min_size=1, max_size=3)
        ),
        max_leaves=12,
    )


def patterns() -> st.SearchStrategy[Pattern]:
    def join(tokens: list[str | Wild], *, ignore_case: bool) -> Pattern:
        joined: list[str | Wild] = []
        for token in tokens:
            if isinstance(token, str) and joined and isinstance(joined[-1], str):
                joined[-1] += token
            else:
                joined.append(token)
        return Pattern(tuple(joined), ignore_case=ignore_case)

    wild = TOKENS.filter(lambda tokens: any(isinstance(token, Wild) for token in tokens))
    return st.builds(join, wild, ignore_case=st.booleans()) | st.just(Pattern((Wild.RUN,)))


TEXTS = st.builds(Text, LITERALS, quoted=st.booleans())
PATTERNS = patterns()
VALUES = TEXTS | PATTERNS | st.builds(Boolean, st.booleans())


@st.composite
def trees(
    draw: st.DrawFn,
    names: st.SearchStrategy[str],
    paths: st.SearchStrategy[str],
    catalogue: Catalogue,
    depth: int = 3,
) -> Node:
    """Trees whose values suit their fields' types: what does not becomes an `exists`."""
    shape = draw(SHAPES) if depth else "leaf"
    if shape in ("and", "or"):
        count = draw(st.integers(1, 3))
        parts = tuple(draw(trees(names, paths, catalogue, depth - 1)) for _ in range(count))
        return And(parts) if shape == "and" else Or(parts)
    if shape == "not":
        return Not(draw(trees(names, paths, catalogue, depth - 1)))
    if shape == "nested":
        path = Text(draw(paths))
        inner = Nested(path, draw(trees(names, paths, catalogue, depth - 1)))
        return inner if suits(inner, catalogue) else Exists(path)
    leaf = draw(leaves(names))
    if suits(leaf, catalogue):
        return leaf
    assert isinstance(leaf, Is | Range | Within)
    assert leaf.field is not None
    return Exists(leaf.field)


SHAPES = st.sampled_from(["leaf", "leaf", "leaf", "and", "or", "not", "nested"])
OPERATORS: st.SearchStrategy[RangeOp] = st.sampled_from(["gt", "gte", "lt", "lte"])


@st.composite
def leaves(draw: st.DrawFn, names: st.SearchStrategy[str]) -> Node:
    field: FieldName = Text(draw(names))
    shape = draw(st.sampled_from(["is"] * 6 + ["range"] * 3 + ["exists", "wild", "free", "other"]))
    if shape == "wild":
        field = Pattern(draw(PATTERNS).tokens)
        shape = draw(st.sampled_from(["is", "range", "exists"]))
    if shape == "is":
        return Is(field, draw(VALUES))
    if shape == "range":
        bounds = draw(st.lists(st.tuples(OPERATORS, TEXTS), min_size=1, max_size=2))
        return Range(field, *bounds[0]) if len(bounds) == 1 else Within(field, tuple(bounds))
    if shape == "free":
        return Is(None, draw(VALUES))
    if shape == "exists":
        return Exists(field)
    others: list[Node] = [MatchAll(), Before(NOW_MS), Before(NOW_MS + 1)]
    return draw(st.sampled_from(others))


def suits(node: Node, catalogue: Catalogue) -> bool:
    try:
        check_types(node, catalogue)
    except QueryTypeError:
        return False
    return True


NAMES = st.sampled_from(
    [
        *("a", "b", "c", "a.b", "b.c", "a.b.c", "a.a", "b.a", "c.a", "c.b.a", "flattened.a"),
        *("flattened.a.b", "nested.a", "nested.text", "a.flattened.b", "a.nested.b"),
        *(kind.value for kind in FieldType),
        *(f"a.{kind.value}" for kind in FieldType),
    ]
)
DOCUMENTS = st.builds(
    Event,
    st.dictionaries(KEYS, json_of(KEYS), max_size=5),
    is_document=st.just(True),
    cluster=st.sampled_from([None, "east"]),
)

RAW_KEYS = st.sampled_from(
    [
        *("verb", "user", "username", "uid", "spec", "containers", "image", "hostIPC", "metadata"),
        *("name", "a", "b", "a.b", "a_b", "code", "securityContext", "runAsUser", "op", "value"),
    ]
)
HOSTILE = json_of(RAW_KEYS)
AUDIT_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "apiVersion": st.sampled_from(["audit.k8s.io/v1", "", 1]),
    "verb": st.sampled_from(["create", "get", "", True, 1, ["create", ""], {"a": "create"}]),
    "user": HOSTILE
    | st.fixed_dictionaries({}, optional={"username": SCALARS, "uid": SCALARS, "groups": HOSTILE}),
    "userAgent": SCALARS,
    "sourceIPs": st.lists(st.sampled_from(["10.0.0.1", "::1", "", "x", None, 7]), max_size=3),
    "objectRef": st.fixed_dictionaries(
        {}, optional={"resource": SCALARS, "namespace": SCALARS, "name": SCALARS}
    ),
    "annotations": st.dictionaries(
        st.sampled_from(
            ["authorization.k8s.io/decision", "authorization_k8s_io/decision", "a.b", "a_b", "a"]
        ),
        st.sampled_from(["allow", "forbid", "", "a", None, ["allow", "forbid"], {"b": 1}, True]),
        max_size=4,
    )
    | st.lists(st.dictionaries(RAW_KEYS, SCALARS, max_size=2), max_size=2),
    "requestObject": HOSTILE
    | st.fixed_dictionaries(
        {},
        optional={
            "metadata": HOSTILE,
            "spec": st.fixed_dictionaries({}, optional={"hostIPC": SCALARS, "containers": HOSTILE}),
        },
    )
    | st.lists(st.fixed_dictionaries({"op": SCALARS}, optional={"metadata": HOSTILE}), max_size=2),
    "responseObject": HOSTILE,
    "responseStatus": st.fixed_dictionaries({}, optional={"code": SCALARS, "a.b": HOSTILE}),
    "requestObject.metadata": SCALARS,
    "requestObject.spec": HOSTILE,
    "annotations.a.b": SCALARS,
    "stageTimestamp": SCALARS,
    "requestReceivedTimestamp": SCALARS,
    "timestamp": SCALARS,
    "metadata": st.fixed_dictionaries({}, optional={"creationTimestamp": SCALARS}) | SCALARS,
    "aks_metadata": HOSTILE,
    "a": HOSTILE,
    "b": HOSTILE,
}
RAW_EVENTS = st.builds(
    Event,
    st.fixed_dictionaries({}, optional=AUDIT_VALUES),
    cluster=st.sampled_from([None, "east", ""]),
    aks_metadata=st.sampled_from([None, {}, {"pod": "a", "stream": ""}]),
    wrapper_time=st.sampled_from([None, "2026-11-23T07:06:00Z", "x"]),
)
AUDIT_NAMES = [
    *("verb", "user.username", "user.groups", "user", "user.a", "userAgent", "sourceIPs"),
    *("objectRef.resource", "annotations", "annotations.a_b", "annotations.a.b"),
    *("annotations.authorization_k8s_io/decision", "requestObject", "requestObject.metadata"),
    *("requestObject.metadata.name", "requestObject.spec", "requestObject.spec.hostIPC"),
    *("requestObject.spec.containers", "requestObject.spec.containers.image", "requestObject.op"),
    *("requestObject.securityContext.runAsUser", "requestObject.runAsUser", "responseObject.a.b"),
    *("responseStatus.code", "responseStatus.a.b", "responseStatus.a", "stageTimestamp"),
    *("aks_metadata", "aks_metadata.pod", "a", "a.b", "a.b.a", "b.a", "b.a_b", "annotations.a"),
]
RAW_NAMES = st.sampled_from(
    [
        *(f"kubernetes.audit.{name}" for name in AUDIT_NAMES),
        *("kubernetes", "kubernetes.audit", "@timestamp", "event", "event.action", "user.name"),
        *("event.outcome", "user.id", "user", "source.ip", "client.ip", "related.user", "related"),
        *("related.ip", "orchestrator.cluster.name", "orchestrator.resource.name", "user.name.a"),
        *("orchestrator.resource", "container.image.name", "user_agent.original", "process.name"),
        *("data_stream.dataset", "orchestrator.api_version", "a", "orchestrator.namespace"),
    ]
)
RAW_PATHS = st.sampled_from(
    [
        *("kubernetes", "audit", "kubernetes.audit", "user", "a", "b", "a.b", "spec", "containers"),
        "kubernetes.audit.requestObject",
        "kubernetes.audit.requestObject.spec.containers",
        *("kubernetes.audit.user", "kubernetes.audit.a", "kubernetes.audit.a.b"),
        *("kubernetes.audit.annotations", "event", "kubernetes.audit.responseObject"),
    ]
)
RELATIVE_NAMES = st.sampled_from(["a", "b", "a.b", "image", "name", "verb", "user.username", "op"])

fast = settings(max_examples=100, deadline=None)


def judge(node: Node, event: Event, catalogue: Catalogue) -> None:
    predicate = compile_query(node, catalogue)
    answer = predicate.matches(event, now_ms=NOW_MS)
    assert answer is oracle_matches(node, event, catalogue=catalogue, now_ms=NOW_MS)
    fields = oracle_values(event)
    for name, value in predicate.explain(event, now_ms=NOW_MS):
        is_flattened = catalogue.explicit_type_of(name) is FieldType.FLATTENED
        there = [
            got
            for field, values in fields.items()
            if field == name or (is_flattened and field.startswith(f"{name}."))
            for got in values
        ]
        assert any(type(value) is type(got) and value == got for got in there)


@fast
@given(trees(NAMES, NAMES, TYPED), DOCUMENTS)
def test_the_engine_is_the_oracle_on_documents(node: Node, event: Event) -> None:
    judge(node, event, TYPED)


@fast
@given(trees(RAW_NAMES | RELATIVE_NAMES, RAW_PATHS, AUDIT_CATALOGUE), RAW_EVENTS)
def test_the_engine_is_the_oracle_on_raw_events(node: Node, event: Event) -> None:
    judge(node, event, AUDIT_CATALOGUE)


@fast
@given(trees(RAW_NAMES | RELATIVE_NAMES, RAW_PATHS, AUDIT_CATALOGUE), RAW_EVENTS)
def test_a_raw_event_and_its_document_agree(node: Node, event: Event) -> None:
    # Of an event without any value the document keeps an empty object.
    assume(any(name.startswith("kubernetes.") for name in oracle_values(event)))
    predicate = compile_query(node, AUDIT_CATALOGUE)
    document = Event(ecs_document(event), is_document=True)
    assert predicate.matches(event, now_ms=NOW_MS) is predicate.matches(document, now_ms=NOW_MS)


@fast
@given(trees(NAMES, NAMES, TYPED), DOCUMENTS)
def test_rendering_a_tree_does_not_change_its_answer(node: Node, event: Event) -> None:
    try:
        text = render_kql(node)
    except ValueError:  # what only exceptions and filters can say
        assume(False)
    again = parse_kql(text)
    first, second = (compile_query(each, TYPED) for each in (node, again))
    assert first.matches(event, now_ms=NOW_MS) is second.matches(event, now_ms=NOW_MS)


@fast
@given(trees(RAW_NAMES, RAW_PATHS, AUDIT_CATALOGUE), RAW_EVENTS)
def test_a_query_that_is_called_impossible_never_matches(node: Node, event: Event) -> None:
    if impossible(node, absence_in_raw_events) is None:
        return
    # No API server writes these: an annotation is a text, and no body's key holds this dot.
    for name in ("annotations", "annotations.a.b", "requestObject.metadata"):
        event.body.pop(name, None)
    assert not compile_query(node, AUDIT_CATALOGUE).matches(event, now_ms=NOW_MS)


def nest(levels: int, *, key: str, in_lists: bool) -> Any:
    part: Any = {"x": "end", "n": 1, "empty": ""}
    for _ in range(levels):
        part = {key: [part] if in_lists else part}
    return part


DEEP = [
    *("end", "*nd", "*.x:end", "a:*", "a.a.a:*", "not b:*", "a:{ a:* }", "a:{ a.a:{ end } }"),
    *("kubernetes.audit.requestObject:*", "kubernetes.audit.requestObject.a.a:*", "x > 1"),
    *("kubernetes.audit.requestObject.a:{ x:end }", "not kubernetes:{ audit.x:1 }", "*:*d and *:1"),
    ".".join(["a"] * MOST_PARTS) + ":*",
]


@pytest.mark.parametrize("is_document", [False, True])
@pytest.mark.parametrize("in_lists", [False, True])
@pytest.mark.parametrize("key", ["a", "a.a"])
def test_a_thousand_levels_are_only_deep(key: str, in_lists: bool, is_document: bool) -> None:
    body = nest(1000, key=key, in_lists=in_lists)
    event = Event(body if is_document else {"requestObject": body}, is_document=is_document)
    for query in DEEP:
        node = parse_kql(query)
        check_types(node, AUDIT_CATALOGUE)
        answer = compile_query(node, AUDIT_CATALOGUE).matches(event, now_ms=NOW_MS)
        if key == "a":
            judged = oracle_matches(node, event, catalogue=AUDIT_CATALOGUE, now_ms=NOW_MS)
            assert answer is judged, query


def test_brackets_as_deep_as_the_parser_takes_them_compile() -> None:
    query = "a:1 and (b:2 or not (" * (MAX_NESTING // 2) + "c:3" + "))" * (MAX_NESTING // 2)
    node = parse_kql(query)
    event = Event({"a": 1, "c": 3}, is_document=True)
    judged = oracle_matches(node, event, catalogue=AUDIT_CATALOGUE, now_ms=0)
    assert compile_query(node, AUDIT_CATALOGUE).matches(event, now_ms=0) is judged


@pytest.mark.parametrize("value", [1, True, 1.0])
def test_an_explanation_tells_1_from_true(value: int | float) -> None:
    event = Event({"a": [1, True, 1.0, "1", "true"]}, is_document=True)
    node = Or((Is(Text("a"), Text("1")), Is(Text("a"), Text("true"))))
    found = compile_query(node, AUDIT_CATALOGUE).explain(event, now_ms=0)
    assert [type(got) for _, got in found].count(type(value)) == 1


def test_only_conditions_that_were_met_explain() -> None:
    query = "a:1 and not (b:2 or not c:3) and not d:* and (e:5 or e:6) and f > 6 and g:{ h:8 }"
    body = {"a": [0, 1], "b": 0, "c": 3, "e": 6, "f": [5, 7], "g": {"h": 8}}
    event = Event(body, is_document=True)
    predicate = compile_query(parse_kql(query), AUDIT_CATALOGUE)
    assert predicate.matches(event, now_ms=0)
    expected = [("a", 1), ("c", 3), ("e", 6), ("f", 7)]
    assert predicate.explain(event, now_ms=0) == expected
    refused = compile_query(parse_kql("not a:1"), AUDIT_CATALOGUE)
    assert refused.explain(event, now_ms=0) == []
