"""Events as no API server should write them, and queries over them, for tests of searching."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from samples import event as plain_event

from barrelman.engine.decode import dumps, loads
from barrelman.query.ast import Node
from barrelman.query.kql import parse_kql

WORDS: tuple[Any, ...] = ("", "a", "A", "b", "eve", "get", "pods", "a*b", "ä", "a_b", "a%b", "1")
ODD: tuple[Any, ...] = (
    None, 7, 7.0, True, [], ["a", "b"], ["eve", None], [["a"]], {}, {"a": "b"}, {"username": "eve"},
    [{"username": "eve", "name": "a", "code": 404}], "404", 404, 404.0, [404, 200], "404.5", -1,
    1 << 40, "10.0.0.1", "\x00",
)  # fmt: skip
ADDRESSES: tuple[Any, ...] = (
    ["10.0.0.1"], ["10.0.0.1", "10.0.0.2"], ["::ffff:10.0.0.1"], ["::1"], ["010.0.0.1"], ["x"],
    ["10.0.0.1", "x"], "10.0.0.1", ["10.0.0.1 "], [None], [], None, ["::FFFF:A00:1"], [""],
    ["0:0:0:0:0:ffff:0a00:0001"], ["2001:DB8::1"], ["2001:db8:0::1"],
)  # fmt: skip
_PARTS = {
    "user": ("username", "groups"),
    "objectRef": ("resource", "subresource", "apiGroup", "namespace", "name"),
    "responseStatus": ("code",),
    "annotations": ("authorization.k8s.io/decision",),
}
_TOP = (
    *("verb", "stage", "level", "auditID", "user.username", "objectRef.name", "user"),
    *("objectRef", "responseStatus", "annotations", "responseStatus.code", "impersonatedUser"),
    *("verb.x", "stageTimestamp", "requestReceivedTimestamp"),
)
FIELDS = (
    *("event.action", "user.name", "orchestrator.resource.type", "orchestrator.namespace"),
    *("orchestrator.resource.name", "orchestrator.cluster.name", "source.ip", "related.ip"),
    *("kubernetes.audit.verb", "kubernetes.audit.user.username", "kubernetes.audit.stage"),
    *("kubernetes.audit.level", "kubernetes.audit.auditID", "kubernetes.audit.sourceIPs"),
    *("kubernetes.audit.objectRef.resource", "kubernetes.audit.objectRef.subresource"),
    *("kubernetes.audit.objectRef.apiGroup", "kubernetes.audit.objectRef.namespace"),
    *("kubernetes.audit.objectRef.name", "kubernetes.audit.responseStatus.code"),
    *("kubernetes.audit.user.groups", "event.outcome", "client.ip"),
    "kubernetes.audit.annotations.authorization_k8s_io/decision",
)
VALUES = (
    *("a", "A", "b", "eve", "get", "pods", "ä", "1", "404", "0404", "404.0", "200", "harbour"),
    *("10.0.0.1", "10.0.0.0/8", '"10.0.0.1"', '"::1"', '"a_b"', '"a%b"', '"a*b"', '""', "*"),
    *("a*", "*b", "e*e", "?", "a?b", "p*s", "ä*", "*0.0*", '"2001:db8::1"', '"::ffff:10.0.0.1"'),
    *("ResponseComplete", "Metadata", "shop", "allow", "success", "failure"),
)


def all_bodies() -> Iterator[dict[str, Any]]:
    """Events that are plain but for one member, which has any of the odd values."""
    plain = plain_event(1, requestObject=None)
    for addresses in ADDRESSES:
        yield loads(dumps(plain | {"sourceIPs": addresses}))
    for name in _TOP:
        for value in WORDS + ODD:
            yield loads(dumps(plain | {name: value}))
            without = {key: plain[key] for key in plain if key != name.partition(".")[0]}
            yield loads(dumps(without | {name: value}))
    for part, members in _PARTS.items():
        for member in members:
            for value in WORDS + ODD:
                yield loads(dumps(plain | {part: {**plain[part], member: value}}))


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """An event that is plain but for a few of its members."""
    body = plain_event(draw(st.integers(1, 10**6)))
    del body["requestObject"]
    words, odd = st.sampled_from(WORDS), st.sampled_from(ODD)
    for part, members in _PARTS.items():
        changed = dict(body.get(part) or {})
        for member in members:
            chance = draw(st.integers(0, 9))
            if chance < 5:
                changed[member] = draw(words)
            elif chance == 5:
                changed[member] = draw(odd)
        if part == "responseStatus" and draw(st.booleans()):
            changed["code"] = draw(st.sampled_from([200, 404, 0, None]))
        body[part] = changed
    body["verb"] = draw(words)
    if draw(st.booleans()):
        body["sourceIPs"] = draw(st.sampled_from(ADDRESSES))
    for name in draw(st.lists(st.sampled_from(_TOP), max_size=2)):
        body[name] = draw(st.sampled_from(WORDS + ODD))
    made: dict[str, Any] = loads(dumps(body))
    return made


@st.composite
def queries(draw: st.DrawFn, depth: int = 2) -> str:
    """A query in KQL."""
    chance = draw(st.integers(0, 9))
    if depth == 0 or chance < 5:
        field, value = draw(st.sampled_from(FIELDS)), draw(st.sampled_from(VALUES))
        return f"{field}:{value}"
    if chance == 5:
        values = draw(st.lists(st.sampled_from(VALUES), min_size=2, max_size=3))
        return f"{draw(st.sampled_from(FIELDS))}:({' or '.join(values)})"
    inner = queries(depth - 1)
    if chance == 6:
        return f"not ({draw(inner)})"
    word = " and " if chance < 9 else " or "
    return f"({word.join(draw(st.lists(inner, min_size=2, max_size=3)))})"


def parsed(query: str) -> Node | None:
    """Its tree; None where it is refused, as an address that is none may be."""
    from barrelman.errors import BarrelmanError
    from barrelman.query.typecheck import check_types
    from barrelman.records.fields import AUDIT_CATALOGUE

    try:
        node = parse_kql(query)
        check_types(node, AUDIT_CATALOGUE, text=query)
    except BarrelmanError:
        return None
    return node
