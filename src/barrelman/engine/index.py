"""All rules of a set asked of one raw event at once.

What a rule asks of a single field that has few values (verb, resource, user, agent, …) is asked
once per value, not once per event: a table remembers, for each value met, which rules it leaves.
Rules that ask the same share the answer. For the commonest fields the combinations are remembered,
so that most events cost one look-up. What is left of a rule is asked of the event itself.

The answers are those of the rules' own predicates, on an event that has that field alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import product
from typing import Any, Final, TypeAlias

from barrelman.engine.compile import Leaf, Predicate, compile_raw
from barrelman.query.ast import (
    And,
    Compare,
    Exists,
    FieldValue,
    Holds,
    Is,
    Nested,
    Node,
    Not,
    Or,
    Pattern,
    Range,
    Suits,
    Text,
    Within,
)
from barrelman.query.operands import fields_needed, operands_of
from barrelman.records.event import Event, JsonObject
from barrelman.records.fields import AUDIT, Catalogue, FieldType
from barrelman.records.frozen import frozen

# What is remembered is forgotten when it is so much: a log may hold ever new values.
_MOST_VALUES: Final = 4096
_MOST_COMBINATIONS: Final = 65_536

_TABLE_TYPES: Final = (FieldType.KEYWORD, FieldType.LONG)


_Value: TypeAlias = str | int | None
_Read: TypeAlias = Callable[[JsonObject], tuple[Any, ...]]


class _Several(Enum):
    """Stands for what is no text: a list of values, a number, an object."""

    SEVERAL = 1


_SEVERAL: Final = _Several.SEVERAL


@frozen
class _Field:
    """Where a field stands in a raw event."""

    parent: str | None
    """None: the event itself."""
    key: str
    names: tuple[str, ...]
    """What rules call it, and what is made of it alone."""
    is_common: bool = False
    """Nearly every event has it, as a text, and few values of it take turns."""
    spellings: tuple[str, ...] = ()
    """Other keys of its parent that Elastic takes for the same."""

    def event(self, value: _Value) -> Event:
        """An event that has nothing but this field."""
        if value is None:
            return Event({})
        body: JsonObject = {self.key: value}
        return Event(body if self.parent is None else {self.parent: body})


def _audit(*path: str, also: str = "", is_common: bool = False) -> _Field:
    names = (f"{AUDIT}.{'.'.join(path)}", *also.split())
    return _Field(path[0] if len(path) > 1 else None, path[-1], names, is_common=is_common)


_FIELDS: Final = (
    _audit("objectRef", "resource", also="orchestrator.resource.type", is_common=True),
    _audit("verb", also="event.action", is_common=True),
    _audit("user", "username", also="user.name", is_common=True),
    _audit("objectRef", "subresource", is_common=True),
    _audit("userAgent", also="user_agent.original", is_common=True),
    _audit("objectRef", "namespace", also="orchestrator.namespace", is_common=True),
    _Field(
        "annotations",
        "authorization.k8s.io/decision",
        (f"{AUDIT}.annotations.authorization_k8s_io/decision", "event.outcome"),
        spellings=(
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
OPTIONAL_MEMBERS: Final = (
    "objectRef",
    "impersonatedUser",
    "requestObject",
    "responseObject",
    "responseStatus",
    "annotations",
)
"""What many events lack, and rules speak of."""
_BY_NAME: Final = {name: field for field in _FIELDS for name in field.names}


class _Table:
    """Of one field: for each value the rules that it leaves, as the bits of a number."""

    def __init__(self, field: _Field, all_rules: int) -> None:
        self.parent, self.key, self.spellings = field.parent, field.key, field.spellings
        self.known: dict[_Value, int] = {}
        self._field = field
        self._all_rules = all_rules
        self._asked: dict[Node, tuple[Leaf, int]] = {}

    def add(self, node: Node, rules: int, catalogue: Catalogue) -> None:
        leaf, others = self._asked.get(node) or (compile_raw(node, catalogue), 0)
        self._asked[node] = leaf, others | rules

    def learn(self, value: _Value) -> int:
        """The rules that a value leaves, which is met for the first time or again."""
        if len(self.known) >= _MOST_VALUES:
            self.known.clear()
        event = self._field.event(value)
        left = self._all_rules
        for leaf, rules in self._asked.values():
            if not leaf(event, 0):
                left &= ~rules
        self.known[value] = left
        return left


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
                    asked = _demands(node, predicate.catalogue)
                else:
                    asked = {field: node}
                for some, demand in asked.items():
                    table = tables.setdefault(some, _Table(some, all_rules))
                    table.add(demand, 1 << position, predicate.catalogue)
            whole = And(tuple(rest))
            self._rest.append(compile_raw(whole, predicate.catalogue) if rest else None)
        met = [field for field in _FIELDS if field in tables]
        self._common = [tables[field] for field in met if field.is_common]
        self._rare = [tables[field] for field in met if not field.is_common]
        self.is_told: Final = not self._rare and not any(self._rest)
        """Whether the commonest fields say all, so that `told` knows what was met before."""
        self._dotted = [f"{each.parent}.{each.key}" for each in self._common if each.parent]
        needed = [_needed_members(predicate.node) for predicate in predicates]
        members = [each for each in OPTIONAL_MEMBERS if any(each in some for some in needed)]
        if self.is_told:
            members, needed = [], [frozenset()] * len(needed)
        self._by_members = _by_members(members, needed)
        self._read = _reader(self._common, members)
        self._left: dict[tuple[Any, ...], int] = {}
        """For each combination of values of the common fields, the rules that it leaves."""
        self._positions: dict[int, tuple[int, ...]] = {0: ()}

    def matches(self, event: Event) -> list[int]:
        """Positions of the rules that match a raw event, in order."""
        body = event.body
        if "." in "".join(body):  # a dotted key is another way to spell a field
            return self._ask_all(event)
        key = self._read(body)
        left = self._left.get(key)
        if left is None:
            left = self._combine(key)
            if left is None:
                return self._ask_all(event)
        if not left:
            return []
        for table in self._rare:
            node = body if table.parent is None else body.get(table.parent)
            value: Any = None
            if node is not None:
                if node.__class__ is not dict:
                    return self._ask_all(event)
                value = node.get(table.key)
                if not _is_single(value):
                    return self._ask_all(event)
                for spelling in table.spellings:
                    if spelling in node:
                        return self._ask_all(event)
            known = table.known.get(value)
            left &= table.learn(value) if known is None else known
            if not left:
                return []
        positions = self._positions.get(left)
        if positions is None:
            positions = self._list(left)
        rest = self._rest
        return [at for at in positions if (leaf := rest[at]) is None or leaf(event, 0)]

    def told(self, body: JsonObject) -> tuple[int, ...] | None:
        """The positions of `matches` where a look-up tells them all; None: it has to be asked."""
        for name in self._dotted:
            if name in body:
                return None
        left = self._left.get(self._read(body))
        return None if left is None else self._positions.get(left)

    def may_match(self, body: JsonObject) -> bool:
        """Whether a rule could match a raw event: "no" is certain, and cheaper than `matches`."""
        if "." in "".join(body):
            return True
        return self._left.get(self._read(body)) != 0

    def _combine(self, key: tuple[Any, ...]) -> int | None:
        """The rules that a combination of values leaves; None where one is not a single value."""
        count = len(self._common)
        values, present = key[:count], key[count:]
        if _SEVERAL in values:
            return None
        left = self._by_members[present]
        for table, value in zip(self._common, values, strict=True):
            known = table.known.get(value)
            left &= table.learn(value) if known is None else known
        if len(self._left) >= _MOST_COMBINATIONS:
            self._left.clear()
        self._left[key] = left
        return left

    def _ask_all(self, event: Event) -> list[int]:
        """Where a field has several values, or one that is no text and no whole number."""
        return [at for at, leaf in enumerate(self._whole) if leaf(event, 0)]

    def _list(self, rules: int) -> tuple[int, ...]:
        if len(self._positions) >= _MOST_VALUES:
            self._positions.clear()
        found = tuple(at for at in range(len(self._whole)) if rules >> at & 1)
        self._positions[rules] = found
        return found


def _by_members(
    members: Sequence[str], needed: Sequence[frozenset[str]]
) -> dict[tuple[bool, ...], int]:
    """For each choice of members that an event may have, the rules that it leaves."""
    found = {}
    for present in product((False, True), repeat=len(members)):
        absent = {m for m, there in zip(members, present, strict=True) if not there}
        found[present] = sum(1 << at for at, some in enumerate(needed) if absent.isdisjoint(some))
    return found


def _reader(tables: Sequence[_Table], members: Sequence[str]) -> _Read:
    """Of an event the values of these fields, and whether it has these members, as one key.

    Generated: it is the first thing that is done with any event that was decoded.
    """
    parents = list(dict.fromkeys(table.parent for table in tables if table.parent))
    lines = ["def read(body):"]
    lines += [f"    o{at} = body.get({parent!r})" for at, parent in enumerate(parents)]
    for at, table in enumerate(tables):
        if table.parent is None:
            lines.append(f"    v{at} = body.get({table.key!r})")
        else:
            # Where it is no object, the parent stands for the value, and is no text.
            node = f"o{parents.index(table.parent)}"
            inner = f"{node}.get({table.key!r}) if {node}.__class__ is dict"
            lines.append(f"    v{at} = {inner} else None if {node} is None else several")
    single = "v{0} if v{0}.__class__ is str or v{0} is None else several"
    values = [single.format(at) for at in range(len(tables))]
    values += [f"{member!r} in body" for member in members]
    lines.append(f"    return ({', '.join(values)}{',' if values else ''})")
    names: dict[str, Any] = {"several": _SEVERAL}
    exec("\n".join(lines), names)  # our own text: names and operators only
    made: _Read = names["read"]
    return made


def _is_single(value: Any) -> bool:
    return value is None or type(value) is str or type(value) is int


def _needed_members(node: Node) -> frozenset[str]:
    """The members without which a raw event, its keys not dotted, cannot match."""
    match node:
        case And(children):
            return frozenset().union(*map(_needed_members, children))
        case Or(children) if children:
            first, *others = map(_needed_members, children)
            return first.intersection(*others)
        case (
            Is(Text(name))
            | Range(Text(name))
            | Within(Text(name))
            | Exists(Text(name))
            | Nested(Text(name))
        ) if name.startswith(f"{AUDIT}."):
            member = name.removeprefix(f"{AUDIT}.").partition(".")[0]
            return frozenset([member]) & frozenset(OPTIONAL_MEMBERS)
        case Compare() | Suits() | Holds():
            fields = fields_needed(node)
            return frozenset().union(*(_needed_members(Exists(field)) for field in fields))
    return frozenset()


def _conjuncts(node: Node) -> Iterator[Node]:
    if isinstance(node, And):
        for child in node.children:
            yield from _conjuncts(child)
    else:
        yield node


def _demands(node: Node, catalogue: Catalogue) -> dict[_Field, Node]:
    """What a condition of several fields asks of each by itself, at least: where every branch of
    an Or asks something of it."""
    if not isinstance(node, Or):
        return {}
    branches: list[dict[_Field, Node]] = []
    for child in node.children:
        asked: dict[_Field, list[Node]] = {}
        for part in _conjuncts(child):
            field = _only_field(part, catalogue)
            if field is not None:
                asked.setdefault(field, []).append(part)
            else:
                for some, demand in _demands(part, catalogue).items():
                    asked.setdefault(some, []).append(demand)
        branches.append({field: And(tuple(parts)) for field, parts in asked.items()})
    if not branches:
        return {}
    return {
        field: Or(tuple(branch[field] for branch in branches))
        for field in branches[0]
        if all(field in branch for branch in branches)
    }


def _only_field(node: Node, catalogue: Catalogue) -> _Field | None:
    """The field of which alone a condition speaks, where a table can answer it."""
    found: set[_Field | None] = set()
    pending: list[Node | FieldValue] = [node]
    while pending:
        each = pending.pop()
        match each:
            case And(children) | Or(children):
                pending.extend(children)
            case Not(child):
                pending.append(child)
            case Is(Text(name), value) if not (isinstance(value, Pattern) and value.is_star):
                found.add(_field_of(name, catalogue))
            case Range(Text(name)) | Within(Text(name)) | FieldValue(Text(name)):
                found.add(_field_of(name, catalogue))
            case Compare() | Suits() | Holds():
                pending.extend(operands_of(each))
            case _:
                return None
    return found.pop() if len(found) == 1 else None


def _field_of(name: str, catalogue: Catalogue) -> _Field | None:
    is_plain = catalogue.type_of(name) in _TABLE_TYPES and not catalogue.is_hidden(name)
    return _BY_NAME.get(name) if is_plain else None
