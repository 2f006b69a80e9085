"""Audit events as no API server spells them, and queries for what is in them.

What an event holds and what is asked are hypothesis' to choose; how it is spelled is drawn from
a seed, so that a line of a hundred characters is one choice and not a hundred.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from eqltrees import MATCHES, special_leaves
from hypothesis import strategies as st

from barrelman.errors import QueryTypeError
from barrelman.query.ast import (
    And,
    Boolean,
    Call,
    Compare,
    Constant,
    Exists,
    Expression,
    FieldName,
    FieldValue,
    Fuzzy,
    Holds,
    Is,
    Near,
    Nested,
    Node,
    Not,
    Number,
    Or,
    Pattern,
    Range,
    RegExp,
    Suits,
    Text,
    Value,
    Wild,
    Within,
)
from barrelman.query.operands import operands_of
from barrelman.query.typecheck import check_types
from barrelman.records.fields import AUDIT, AUDIT_CATALOGUE, FieldType

HEAD = '{"kind":"Event","apiVersion":"audit.k8s.io/v1"'
CATALOGUE = replace(
    AUDIT_CATALOGUE,
    exact={
        **AUDIT_CATALOGUE.exact,
        f"{AUDIT}.flat": FieldType.FLATTENED,
        f"{AUDIT}.note": FieldType.TEXT,
        f"{AUDIT}.nest": FieldType.NESTED,
        f"{AUDIT}.size": FieldType.DOUBLE,
    },
)


@dataclass(frozen=True)
class Bare:
    """A number by its text, as it is to stand in the JSON."""

    text: str


WORDS = [
    *("create", "delete", "Create", "recreated", "pods/exec", "kube-system", "system:masters"),
    *('a "quoted" word', "back\\slash", "R&D <team>", "nämespace", "it's", "tab\tbed", "two words"),
    *("new\nline", "emoji\U0001f600tail", "sep\u2028arated", "del\x7feted", "under_score", "a.b.c"),
    *("12345", "5", "5.0", "1e5", "1e999", "-0", "true", "false", "truest", "null", "inf", "abc"),
    *("10.0.0.7", "10.0.0.0/8", "2026-11-23", "2026-11-23T07:06:00Z", "ab", "x", "allow", "forbid"),
]
SCALARS: list[Any] = [
    *(*WORDS, *WORDS, "", None, True, False, 5, 12345, 5.0, -0.0, 1e5, 2**64),
    *(Bare("5e0"), Bare("1e999"), Bare("5.00"), Bare("12345.0"), Bare("-1E+999"), Bare("1e22")),
    *("\ud800create", "create\udfff", "delete\ud800\ud800"),
]
# Names of fields as they stand in a raw event, by what their values are for a query.
FIELDS = [
    *("verb", "user.username", "user.uid", "user.groups", "userAgent", "sourceIPs", "objectRef"),
    *("objectRef.resource", "objectRef.namespace", "objectRef.name", "objectRef.subresource"),
    *("annotations.authorization.k8s.io/decision", "annotations.a.b", "annotations.plain"),
    *("requestObject.spec.containers.image", "requestObject.spec.hostIPC", "requestObject.spec"),
    *("requestObject.spec.under_score", "responseObject.kind", "responseStatus.code"),
    *("requestObject.metadata.name", "flat", "flat.key", "flat.deep.key", "note", "nest.name"),
    *("nest.user.name", "size", "nämé.key", 'quo"ted.key', "stageTimestamp", "timestamp"),
]
ECS_NAMES = [
    *("event.action", "event.outcome", "event.kind", "user.name", "user.id", "user", "source.ip"),
    *("user_agent.original", "related.user", "related.ip", "orchestrator.api_version", "related"),
    *("orchestrator.resource.type", "orchestrator.resource.name", "orchestrator.namespace"),
    *("container.image.name", "@timestamp", "kubernetes", "kubernetes.audit", "process.name"),
]
AUDIT_NAMES = [
    *(name for name in FIELDS if not name.startswith("annotations")),
    *("annotations.authorization_k8s_io/decision", "annotations.a_b", "annotations.plain"),
    *("annotations", "annotations.a.b", "user", "requestObject", "apiVersion", "aks_metadata.pod"),
]
NAMES = [
    *(f"{AUDIT}.{name}" for name in AUDIT_NAMES),
    *(f"{AUDIT}.{name}" for name in AUDIT_NAMES),
    *ECS_NAMES,
]
PATHS = [
    *(f"{AUDIT}.{name}" for name in ("nest", "objectRef", "requestObject.spec", "flat", "user")),
    *(f"{AUDIT}.requestObject.spec.containers", f"{AUDIT}.requestObject", AUDIT, "user", "nest"),
]
INNER = ["name", "image", "user.name", "resource", "namespace", "key", "containers.image"]


# --- queries --------------------------------------------------------------------------------


def _patterns() -> st.SearchStrategy[Pattern]:
    piece = st.sampled_from(
        [*WORDS, "crea", "ate", "lete", "quoted", "e999", "1e9", "rue", "34", "a", "e", "ystem:"]
    )

    def build(pieces: list[str], wilds: list[Wild], edges: int, *, ignore_case: bool) -> Pattern:
        tokens: list[str | Wild] = [wilds[0]] if edges & 1 else []
        for number, text in enumerate(pieces):
            tokens += [wilds[number], text] if number else [text]
        tokens += [wilds[-1]] if edges & 2 or len(tokens) == 1 else []
        return Pattern(tuple(tokens), ignore_case=ignore_case)

    return st.builds(
        build,
        st.lists(piece, min_size=1, max_size=2),
        st.lists(st.sampled_from([Wild.RUN, Wild.RUN, Wild.CHAR]), min_size=3, max_size=3),
        st.integers(0, 3),
        ignore_case=st.sampled_from([False, False, False, True]),
    )


TEXTS = st.builds(Text, st.sampled_from([*WORDS, ""]), quoted=st.booleans())
PATTERNS = _patterns()
VALUES: st.SearchStrategy[Value] = (
    TEXTS | TEXTS | PATTERNS | st.builds(Boolean, st.booleans()) | st.just(Pattern((Wild.RUN,)))
)


@st.composite
def _leaves(draw: st.DrawFn, names: list[str]) -> Node:
    name: FieldName = Text(draw(st.sampled_from(names)))
    shape = draw(
        st.sampled_from(["is"] * 8 + ["exists", "range", "within", "any", "wild"] + ["special"] * 4)
    )
    if shape == "special":
        return draw(special_leaves(st.sampled_from(names), st.sampled_from([*WORDS, ""]), PATTERNS))
    if shape == "exists":
        return Exists(name)
    if shape == "range":
        return Range(name, draw(st.sampled_from(["gt", "lte"])), draw(TEXTS))
    if shape == "within":
        return Within(name, (("gte", draw(TEXTS)), ("lt", draw(TEXTS))))
    if shape == "any":
        return Is(None, draw(VALUES))
    if shape == "wild":
        return Is(Pattern((Wild.RUN, "name")), draw(VALUES))
    return Is(name, draw(VALUES))


@st.composite
def queries(draw: st.DrawFn, names: list[str] | None = None, depth: int = 2) -> Node:
    """Trees that a sieve has something to say about, more often than not."""
    shapes = ["leaf", "leaf", "leaf", "and", "and", "or", "not", "nested", "but"]
    shape = draw(st.sampled_from(shapes)) if depth else "leaf"
    names = names or NAMES
    node: Node
    if shape in ("and", "or"):
        parts = tuple(draw(st.lists(queries(names, depth - 1), min_size=1, max_size=3)))
        return And(parts) if shape == "and" else Or(parts)
    if shape == "but":  # as an exception is joined to a rule
        return And((draw(queries(names, depth - 1)), Not(draw(queries(names, depth - 1)))))
    if shape == "not":
        return Not(draw(queries(names, depth - 1)))
    if shape == "nested":
        path = Text(draw(st.sampled_from(PATHS)))
        node = Nested(path, draw(queries(INNER, depth - 1)))
    else:
        node = draw(_leaves(names))
    try:
        check_types(node, CATALOGUE)
    except QueryTypeError:
        return Exists(Text(f"{AUDIT}.verb"))
    return node


# --- events ---------------------------------------------------------------------------------

_WRAPPED = st.recursive(
    st.sampled_from(SCALARS),
    lambda parts: (
        st.lists(parts, max_size=2) | st.dictionaries(st.sampled_from(INNER), parts, max_size=2)
    ),
    max_leaves=3,
)
MEMBERS: st.SearchStrategy[list[tuple[str, Any]]] = st.lists(
    st.tuples(st.sampled_from(FIELDS), st.sampled_from(SCALARS) | _WRAPPED), max_size=5
)
"""Fields of one event by their dotted names; one named twice is a key written twice."""


_RAW_NAMES = {
    "event.action": "verb",
    "event.outcome": "annotations.authorization.k8s.io/decision",
    "user.name": "user.username",
    "user.id": "user.uid",
    "user_agent.original": "userAgent",
    "related.user": "user.username",
    "related.ip": "sourceIPs",
    "source.ip": "sourceIPs",
    "orchestrator.resource.type": "objectRef.resource",
    "orchestrator.resource.name": "objectRef.name",
    "orchestrator.namespace": "objectRef.namespace",
    "container.image.name": "requestObject.spec.containers.image",
}
_DECISIONS = {"success": "allow", "failure": "forbid"}


def meeting(node: Node, seed: int, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Fields of an event that, often, meets the query."""
    draw = random.Random(seed)
    match node:
        case And(children) | Or(children):
            for number, child in enumerate(children):
                if isinstance(node, And) or draw.random() < 0.6:
                    yield from meeting(child, seed + number, prefix)
        case Not(Not(child)):
            yield from meeting(child, seed, prefix)
        case Nested(Text(path), child):
            yield from meeting(child, seed, f"{prefix}{path}.")
        case Is(None, value):
            yield draw.choice(FIELDS), _like(value, draw)
        case Is(Text(name), value):
            yield _raw_name(prefix + name, draw), _like(value, draw)
        case Exists(Text(name)):
            yield _raw_name(prefix + name, draw), draw.choice(SCALARS)
        case Range(Text(name), _, Text(value)):
            yield _raw_name(prefix + name, draw), draw.choice([value, 7, "create"])
        case Compare() | Suits() | Holds():
            wanted = _constants(node)
            for part in operands_of(node):
                if isinstance(part, FieldValue):
                    yield _raw_name(prefix + part.name.value, draw), draw.choice(wanted)
                else:
                    yield from meeting(part, seed, prefix)


def _raw_name(name: str, draw: random.Random) -> str:
    name = _RAW_NAMES.get(name, name).removeprefix(f"{AUDIT}.")
    first, _, rest = name.partition(".")
    if first == "annotations" and rest and draw.random() < 0.7:
        rest = rest.replace("_", ".")
    return f"{first}.{rest}" if rest else first


def _like(value: Value, draw: random.Random) -> Any:
    if isinstance(value, Pattern):
        fill = {Wild.RUN: ["", "", "x", "create", '"'], Wild.CHAR: ["x", "é", "/"]}
        return "".join(
            draw.choice(fill[token]) if isinstance(token, Wild) else token for token in value.tokens
        )
    if isinstance(value, Boolean):
        return draw.choice([value.value, str(value.value).lower()])
    if isinstance(value, Number):
        return draw.choice([value.value, Bare(f"{value.value}"), str(value.value)])
    if isinstance(value, RegExp):
        return draw.choice([*MATCHES.get(value.source, ["x"]), draw.choice(WORDS)])
    if isinstance(value, Fuzzy | Near):
        value = Text(value.text)
    text = value.value if isinstance(value, Text) else ""
    text = _DECISIONS.get(text, text)
    try:
        json.loads(text)
    except ValueError:
        return text
    return draw.choice([text, Bare(text)]) if draw.random() < 0.6 else text


def _constants(node: Compare | Suits | Holds) -> list[Any]:
    """What the fields of a computed condition may well have to hold."""
    found: list[Any] = ["create", 5]
    waiting: list[Expression] = [node.left, node.right] if isinstance(node, Compare) else []
    if not isinstance(node, Compare):
        waiting.append(node.expression)
    if isinstance(node, Suits):
        found += [_like(node.value, random.Random(0))] * 3
    while waiting:
        each = waiting.pop()
        if isinstance(each, Call):
            waiting.extend(each.args)
        elif isinstance(each, Constant) and each.value is not None:
            found += [each.value, each.value, f"{each.value}x", f"x{each.value}"]
    return found


class Spelling:
    """Writes JSON in one of the ways that mean the same."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.escaped = self.random.choice([0.0, 0.0, 0.03, 0.3, 1.0])
        self.spaced = self.random.choice([0.0, 0.0, 0.3])
        self.is_go = self.random.random() < 0.5
        self.is_ascii = self.random.random() < 0.3

    def event(self, members: list[tuple[str, Any]], *, head: str = HEAD) -> str:
        """One event on one line."""
        parts = [head] + [self._member(name.split("."), value) for name, value in members]
        return f",{self._space()}".join(parts) + self._space() + "}"

    def write(self, value: Any) -> str:
        if isinstance(value, Bare):
            return value.text
        if isinstance(value, str):
            return self._string(value)
        if isinstance(value, list):
            return "[" + f",{self._space()}".join(map(self.write, value)) + self._space() + "]"
        if isinstance(value, dict):
            members = [self._member([key], held) for key, held in value.items()]
            return "{" + self._space() + f"{self._space()},".join(members) + "}"
        return json.dumps(value)

    def _member(self, parts: list[str], value: Any) -> str:
        """A field below as many objects as there are dots, or fewer, arrays around some."""
        draw = self.random.random
        end = len(parts) if draw() < 0.2 else 1
        while end < len(parts) and draw() < 0.15:
            end += 1
        if parts[0] == "annotations" and draw() < 0.8:  # their keys do hold dots
            end = 1
            parts = [parts[0], ".".join(parts[1:])] if len(parts) > 1 else parts
        key, rest = ".".join(parts[:end]), parts[end:]
        text = "{" + self._member(rest, value) + "}" if rest else self.write(value)
        while draw() < 0.1:
            text = "[" + self.random.choice(["", "", "null,", '"x",']) + text + "]"
        return f"{self._string(key)}{self._space()}:{self._space()}{text}"

    def _space(self) -> str:
        return self.random.choice([" ", "\t", "  "]) if self.random.random() < self.spaced else ""

    def _string(self, text: str) -> str:
        return '"' + "".join(map(self._char, text)) + '"'

    def _char(self, char: str) -> str:
        code = ord(char)
        if code < 0x20 or char in '"\\':
            short = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}.get(char)
            return short if short and self.random.random() < 0.7 else f"\\u{code:04x}"
        if 0xD800 <= code < 0xE000:
            return f"\\u{code:04x}"
        if char == "/" and self.random.random() < 0.3:
            return "\\/"
        if self.is_go and char in "&<>\u2028":
            return f"\\u{code:04x}"
        if self.random.random() < self.escaped or (self.is_ascii and code > 0x7F):
            form = self.random.choice(["\\u{:04x}", "\\u{:04X}"])
            halves = char.encode("utf-16-be")
            units = [int.from_bytes(halves[at : at + 2]) for at in range(0, len(halves), 2)]
            return "".join(form.format(unit) for unit in units)
        return char
