"""All rules of a set asked of one raw event at once.

What a rule asks of a single field that has few values (verb, resource, user, agent, …) is asked
once per value, not once per event: a table remembers, for each value met, which rules it leaves.
Rules that ask the same share the answer. What is left of a rule is asked of the event itself.

The answers are those of the rules' own predicates, on an event that has that field alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from barrelman.engine.compile import Leaf, Predicate, compile_query
from barrelman.query.ast import And, Is, Node, Not, Or, Pattern, Range, Text, Within
from barrelman.records.event import Event, JsonObject
from barrelman.records.fields import AUDIT, Catalogue, FieldType

# A table that meets ever new values is emptied, and soon given up: a field like that costs more
# than it saves.
_MOST_VALUES: Final = 4096
_MOST_REFILLS: Final = 8

_TABLE_TYPES: Final = (FieldType.KEYWORD, FieldType.LONG)


class _Ambiguous:
    """The field has several values, or one that is no text and no whole number."""


_AMBIGUOUS: Final = _Ambiguous()
_Value: TypeAlias = str | int | None
_Read: TypeAlias = Callable[[JsonObject], "_Value | _Ambiguous"]


@dataclass(frozen=True, slots=True)
class _Field:
    """Where a field stands in a raw event, and how else it could be spelled there."""

    path: tuple[str, ...]
    names: tuple[str, ...]
    """What rules call it, and what is made of it alone."""
    spellings: tuple[str, ...] = ()
    """Other keys of its parent that Elastic takes for the same."""

    def event(self, value: _Value) -> Event:
        """An event that has nothing but this field."""
        if value is None:
            return Event({})
        body: Any = value
        for key in reversed(self.path):
            body = {key: body}
        return Event(body)

    def reader(self) -> _Read:
        if len(self.path) == 1:
            (key,) = self.path
            return lambda body: _single(body.get(key))
        parent, key = self.path
        dotted = f"{parent}.{self.names[0].removeprefix(f'{AUDIT}.{parent}.')}"
        others = self.spellings

        def read(body: JsonObject) -> _Value | _Ambiguous:
            node = body.get(parent)
            if dotted in body or (others and node and any(each in node for each in others)):
                return _AMBIGUOUS
            if type(node) is dict:
                return _single(node.get(key))
            return None if node is None else _AMBIGUOUS

        return read


def _single(value: Any) -> _Value | _Ambiguous:
    return value if value is None or type(value) is str or type(value) is int else _AMBIGUOUS


def _audit(*path: str, also: str = "") -> _Field:
    names = (f"{AUDIT}.{'.'.join(path)}", *also.split())
    return _Field(path, names)


# The most telling ones first.
_FIELDS: Final = (
    _audit("objectRef", "resource", also="orchestrator.resource.type"),
    _audit("verb", also="event.action"),
    _audit("user", "username", also="user.name"),
    _audit("objectRef", "subresource"),
    _audit("userAgent", also="user_agent.original"),
    _audit("objectRef", "namespace", also="orchestrator.namespace"),
    _Field(
        ("annotations", "authorization.k8s.io/decision"),
        (f"{AUDIT}.annotations.authorization_k8s_io/decision", "event.outcome"),
        (
            "authorization_k8s_io/decision",
            "authorization_k8s.io/decision",
            "authorization.k8s_io/decision",
        ),
    ),
    _audit("responseStatus", "code"),
    _audit("objectRef", "apiGroup"),
    _audit("stage"),
    _audit("level"),
)
_BY_NAME: Final = {name: field for field in _FIELDS for name in field.names}


class _Table:
    """Of one field: for each value the rules that it leaves, as the bits of a number."""

    def __init__(self, field: _Field, all_rules: int) -> None:
        self.read = field.reader()
        self.known: dict[_Value, int] = {}
        self._field = field
        self._all_rules = all_rules
        self._asked: dict[Node, tuple[Leaf, int]] = {}
        self._refills = 0

    def add(self, node: Node, rules: int, catalogue: Catalogue) -> None:
        leaf, others = self._asked.get(node) or (compile_query(node, catalogue).raw, 0)
        self._asked[node] = leaf, others | rules

    def learn(self, value: _Value) -> int:
        """The rules that a value leaves, which is met for the first time or again."""
        if len(self.known) >= _MOST_VALUES:
            self.known.clear()
            self._refills += 1
        event = self._field.event(value)
        left = self._all_rules
        for leaf, rules in self._asked.values():
            if not leaf(event, 0):
                left &= ~rules
        self.known[value] = left
        return left

    @property
    def is_useless(self) -> bool:
        return self._refills > _MOST_REFILLS


class RuleIndex:
    """The predicates of some rules, none of which looks at the time, by their positions.

    Frozen but for the values it has met, which change no answer.
    """

    def __init__(self, predicates: Sequence[Predicate]) -> None:
        self._whole = [predicate.raw for predicate in predicates]
        all_rules = (1 << len(predicates)) - 1
        self._all_rules = all_rules
        tables: dict[_Field, _Table] = {}
        self._rest: list[Leaf | None] = []
        for position, predicate in enumerate(predicates):
            rest: list[Node] = []
            for node in _conjuncts(predicate.node):
                field = _only_field(node, predicate.catalogue)
                if field is None:
                    rest.append(node)
                    continue
                table = tables.setdefault(field, _Table(field, all_rules))
                table.add(node, 1 << position, predicate.catalogue)
            whole = And(tuple(rest))
            self._rest.append(compile_query(whole, predicate.catalogue).raw if rest else None)
        self._tables = [tables[field] for field in _FIELDS if field in tables]
        self._positions: dict[int, tuple[int, ...]] = {}

    def matches(self, event: Event) -> list[int]:
        """Positions of the rules that match a raw event, in order."""
        body = event.body
        left = self._all_rules
        for table in self._tables:
            value = table.read(body)
            if value.__class__ is _Ambiguous:
                return [at for at, leaf in enumerate(self._whole) if leaf(event, 0)]
            known = table.known.get(value)  # type: ignore[arg-type]
            left &= self._learn(table, value) if known is None else known
            if not left:
                return []
        positions = self._positions.get(left)
        if positions is None:
            positions = self._list(left)
        rest = self._rest
        return [at for at in positions if (leaf := rest[at]) is None or leaf(event, 0)]

    def _learn(self, table: _Table, value: Any) -> int:
        left = table.learn(value)
        if table.is_useless:
            return self._give_up(table, left)
        return left

    def _give_up(self, table: _Table, left: int) -> int:
        """Asks the rules themselves what the table was asked: as a whole, from now on."""
        self._tables = [each for each in self._tables if each is not table]
        self._rest = list(self._whole)
        return left

    def _list(self, rules: int) -> tuple[int, ...]:
        if len(self._positions) >= _MOST_VALUES:
            self._positions.clear()
        found = tuple(at for at in range(len(self._whole)) if rules >> at & 1)
        self._positions[rules] = found
        return found


def _conjuncts(node: Node) -> Iterator[Node]:
    if isinstance(node, And):
        for child in node.children:
            yield from _conjuncts(child)
    else:
        yield node


def _only_field(node: Node, catalogue: Catalogue) -> _Field | None:
    """The field of which alone a condition speaks, where a table can answer it."""
    found: set[_Field | None] = set()
    pending = [node]
    while pending:
        each = pending.pop()
        match each:
            case And(children) | Or(children):
                pending.extend(children)
            case Not(child):
                pending.append(child)
            case Is(Text(name), value) if not (isinstance(value, Pattern) and value.is_star):
                found.add(_field_of(name, catalogue))
            case Range(Text(name)) | Within(Text(name)):
                found.add(_field_of(name, catalogue))
            case _:
                return None
    return found.pop() if len(found) == 1 else None


def _field_of(name: str, catalogue: Catalogue) -> _Field | None:
    is_plain = catalogue.type_of(name) in _TABLE_TYPES and not catalogue.is_hidden(name)
    return _BY_NAME.get(name) if is_plain else None
