"""Exception lists: what a rule leaves out, from list items to one expression.

An item holds when all of its entries hold; a rule leaves out the events of which any item holds.
An item that cannot be said exactly is not applied at all, and its error says so: half an item
would leave out too much, or the wrong things.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from barrelman.errors import NOWHERE, ExceptionListError, Place, TimeError
from barrelman.query.ast import Before, Exists, Is, Nested, Node, Not, Text
from barrelman.records.frozen import frozen
from barrelman.records.times import parse_instant_us
from barrelman.rules.filters import all_of, any_of, to_value
from barrelman.rules.locate import Path, Spot
from barrelman.rules.patterns import parse_wildcard, pattern_value
from barrelman.rules.schema import Field, Kind, ListOf, Problem, String, Table, mismatch
from barrelman.rules.shape import FIELD_NAME, LIST_TYPES

JsonObject: TypeAlias = dict[str, Any]

VALUE_LIST_TYPES: Final = (
    *("binary", "boolean", "byte", "date", "date_nanos", "date_range", "double", "double_range"),
    *("float", "float_range", "geo_point", "geo_shape", "half_float", "integer", "integer_range"),
    *("ip", "ip_range", "keyword", "long", "long_range", "shape", "short", "text"),
)
_APPLIED_LIST_TYPES: Final = ("keyword", "ip", "ip_range")


@frozen
class ExceptionList:
    """The container line of a list: its name and type. Its items stand apart."""

    list_id: str
    type: str
    namespace_type: str | None
    name: str
    place: Place = field(default=NOWHERE, compare=False)


@frozen
class ExceptionItem:
    """One checked item. `expire_ms` is the time from which on it no longer holds."""

    list_id: str
    item_id: str
    name: str
    namespace_type: str | None
    entries: tuple[JsonObject, ...]
    os_types: tuple[str, ...] = ()
    expire_ms: int | None = None
    place: Place = field(default=NOWHERE, compare=False)

    @property
    def label(self) -> str:
        return f"item '{self.item_id or self.name}' of exception list '{self.list_id}'"


@frozen
class ValueList:
    """The values that `list` entries name. `lines` says where each value stands in `path`."""

    list_id: str
    type: str | None
    values: tuple[str, ...]
    lines: tuple[int, ...] = ()
    path: str | None = None

    def place(self, index: int) -> Place:
        return Place(self.path, self.lines[index] if index < len(self.lines) else None)


_NO_LISTS: Final[Mapping[str, ValueList]] = MappingProxyType({})


@frozen
class ExceptionSet:
    """Lists, items and value lists found together."""

    lists: tuple[ExceptionList, ...] = ()
    items: tuple[ExceptionItem, ...] = ()
    value_lists: Mapping[str, ValueList] = field(default_factory=dict)

    def needed_value_lists(self) -> dict[str, str]:
        """Id and type of the value lists that items name and that are not here."""
        return {
            entry["list"]["id"]: entry["list"]["type"]
            for item in self.items
            for entry in item.entries
            if entry["type"] == "list" and entry["list"]["id"] not in self.value_lists
        }


def merge_sets(sets: Iterable[ExceptionSet]) -> ExceptionSet:
    """All of them in one. Value lists of one id are joined."""
    lists: list[ExceptionList] = []
    items: list[ExceptionItem] = []
    values: dict[str, ValueList] = {}
    for one in sets:
        lists += one.lists
        items += one.items
        for list_id, added in one.value_lists.items():
            known = values.get(list_id)
            values[list_id] = added if known is None else _join_values(known, added)
    return ExceptionSet(tuple(lists), tuple(items), values)


def _join_values(first: ValueList, second: ValueList) -> ValueList:
    if first.path != second.path:  # lines of two files cannot stand in one list of lines
        first, second = _drop_lines(first), _drop_lines(second)
    return ValueList(
        first.list_id,
        first.type or second.type,
        first.values + second.values,
        first.lines + second.lines,
        first.path,
    )


def _drop_lines(one: ValueList) -> ValueList:
    return ValueList(one.list_id, one.type, one.values)


# Reading


@frozen
class _Scalar:
    """A single value to compare with."""

    def check(self, value: object, at: Path, problems: list[Problem]) -> Any:
        if not isinstance(value, str | int | float):
            problems.append(mismatch(at, "a text", value))
        return value


@frozen
class _Entry:
    """An entry of an item: its `type` decides its shape."""

    shapes: Mapping[str, Table]

    def check(self, value: object, at: Path, problems: list[Problem]) -> Any:
        if not isinstance(value, dict):
            problems.append(mismatch(at, "an object", value))
            return {}
        kind = value.get("type")
        if not isinstance(kind, str) or kind not in self.shapes:
            problems.append(mismatch((*at, "type"), f"one of {', '.join(self.shapes)}", kind))
            return {}
        return self.shapes[kind].check(value, at, problems)


def _entry_shape(kind: str, *, operator: bool = True, **more: Kind) -> Table:
    fields = {
        "type": Field(String(choices=(kind,)), required=True),
        "field": Field(FIELD_NAME, required=True),
    }
    if operator:
        fields["operator"] = Field(String(choices=("included", "excluded")), required=True)
    return Table(fields | {name: Field(one, required=True) for name, one in more.items()})


_INNER: Final = {
    "match": _entry_shape("match", value=_Scalar()),
    "match_any": _entry_shape("match_any", value=ListOf(_Scalar(), least=1)),
    "exists": _entry_shape("exists"),
}
_VALUE_LIST_REF: Final = Table(
    {
        "id": Field(String(least=1), required=True),
        "type": Field(String(choices=VALUE_LIST_TYPES), required=True),
    }
)
_ENTRY: Final = _Entry(
    _INNER
    | {
        "wildcard": _entry_shape("wildcard", value=String()),
        "nested": _entry_shape("nested", operator=False, entries=ListOf(_Entry(_INNER), least=1)),
        "list": _entry_shape("list", list=_VALUE_LIST_REF),
    }
)


def _parse_expiry(text: str) -> int:
    instant_us = parse_instant_us(text)
    if instant_us is None:
        raise TimeError(f"'{text}' is not a date", hint="write 2026-11-23T07:06:00.000Z")
    return instant_us // 1000


_NAMESPACE: Final = Field(String(choices=("single", "agnostic")))
_LIST: Final = Table(
    {
        "list_id": Field(String(least=1), required=True),
        "type": Field(String(choices=LIST_TYPES), required=True),
        "namespace_type": _NAMESPACE,
        "name": Field(String(), default=""),
    }
)
_ITEM: Final = Table(
    {
        "list_id": Field(String(least=1), required=True),
        "item_id": Field(String(), default=""),
        "name": Field(String(), default=""),
        "namespace_type": _NAMESPACE,
        "type": Field(String(choices=("simple",)), default="simple"),
        "entries": Field(ListOf(_ENTRY, least=1), required=True),
        "os_types": Field(ListOf(String(choices=("linux", "macos", "windows"))), default=[]),
        "expire_time": Field(String(parse=_parse_expiry)),
    }
)


def read_list(
    data: JsonObject, *, spot: Spot
) -> tuple[ExceptionList | None, list[ExceptionListError]]:
    """A container line, or the errors that make it none."""
    problems: list[Problem] = []
    fields = _LIST.check(data, (), problems)
    if problems:
        return None, [_to_error(one, spot, "exception list") for one in problems]
    namespace = fields.get("namespace_type")
    place = spot.place()
    return ExceptionList(fields["list_id"], fields["type"], namespace, fields["name"], place), []


def read_item(
    data: JsonObject, *, spot: Spot
) -> tuple[ExceptionItem | None, list[ExceptionListError]]:
    """An item line, or the errors for which it is not applied."""
    problems: list[Problem] = []
    fields = _ITEM.check(data, (), problems)
    if problems:
        label = f"item '{fields.get('item_id') or fields.get('name')}' is not applied"
        return None, [_to_error(one, spot, label) for one in problems]
    expiry = fields.get("expire_time")
    return ExceptionItem(
        fields["list_id"],
        fields["item_id"],
        fields["name"],
        fields.get("namespace_type"),
        tuple(fields["entries"]),
        tuple(fields["os_types"]),
        _parse_expiry(expiry) if expiry is not None else None,
        spot.place(),
    ), []


def _to_error(problem: Problem, spot: Spot, what: str) -> ExceptionListError:
    message = f"{what}: {problem.message}"
    return ExceptionListError(message, place=spot.place(problem.at), hint=problem.hint)


def parse_value_list(text: str, *, list_id: str, list_type: str, path: str) -> ValueList:
    """A value list from a plain text: one value a line, empty lines apart."""
    found = [
        (line.strip(), number)
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1)
        if line.strip()
    ]
    values, lines = (tuple(value for value, _ in found), tuple(number for _, number in found))
    return ValueList(list_id, list_type, values, lines, path)


# From items to the tree


def exception_node(
    items: Iterable[ExceptionItem], *, value_lists: Mapping[str, ValueList] = _NO_LISTS
) -> tuple[Node | None, tuple[ExceptionListError, ...]]:
    """ "Some item holds", and the errors of items that are not applied. None: no item is."""
    nodes: list[Node] = []
    errors: list[ExceptionListError] = []
    for item in items:
        node, problems = item_node(item, value_lists=value_lists)
        errors += problems
        if node is not None:
            nodes.append(node)
    return (any_of(nodes) if nodes else None), tuple(errors)


def item_node(
    item: ExceptionItem, *, value_lists: Mapping[str, ValueList]
) -> tuple[Node | None, tuple[ExceptionListError, ...]]:
    """The item as an expression; None where it cannot be applied, for the reasons given."""
    notices: list[ExceptionListError] = []
    try:
        nodes = [_entry_node(entry, item, value_lists, notices) for entry in item.entries]
    except ExceptionListError as error:
        return None, (*notices, error)
    if item.os_types:
        nodes.append(_os_node(item.os_types))
    if item.expire_ms is not None:
        nodes.append(Before(item.expire_ms))
    return all_of(nodes), tuple(notices)


def _os_node(os_types: tuple[str, ...]) -> Node:
    by_type: list[Node] = [Is(Text("host.os.type"), Text(name)) for name in os_types]
    by_name = [
        Is(Text("host.os.name"), pattern_value((name,), ignore_case=True)) for name in os_types
    ]
    return any_of([*by_type, *by_name])


def _entry_node(
    entry: JsonObject,
    item: ExceptionItem,
    value_lists: Mapping[str, ValueList],
    notices: list[ExceptionListError],
) -> Node:
    node: Node
    name = Text(entry["field"])
    match entry["type"]:
        case "match":
            node = Is(name, to_value(entry["value"], quoted=True))
        case "match_any":
            node = any_of(Is(name, to_value(value, quoted=True)) for value in entry["value"])
        case "exists":
            node = Exists(name)
        case "wildcard":
            node = Is(name, parse_wildcard(entry["value"]))
        case "nested":
            inner = [_entry_node(one, item, value_lists, notices) for one in entry["entries"]]
            return Nested(name, all_of(inner))
        case _:
            node = _list_node(entry, item, value_lists, notices)
    return Not(node) if entry["operator"] == "excluded" else node


def _list_node(
    entry: JsonObject,
    item: ExceptionItem,
    value_lists: Mapping[str, ValueList],
    notices: list[ExceptionListError],
) -> Node:
    list_id, list_type = entry["list"]["id"], entry["list"]["type"]
    if list_type not in _APPLIED_LIST_TYPES:
        raise ExceptionListError(
            f"{item.label} is not applied: value lists of type '{list_type}' are not supported",
            place=item.place,
            hint=f"the types are {', '.join(_APPLIED_LIST_TYPES)}",
        )
    values = value_lists.get(list_id)
    if values is None:
        raise ExceptionListError(
            f"{item.label} is not applied: the values of list '{list_id}' are not known",
            place=item.place,
            hint=f"put them into a file named '{list_id}' beside the list, one value a line",
        )
    nodes: list[Node] = []
    name = Text(entry["field"])
    for index, value in enumerate(values.values):
        try:
            nodes += (Is(name, Text(one)) for one in _spell_out(value, list_type))
        except ValueError:
            message = f"value list '{list_id}': '{value}' is no value of type '{list_type}'"
            error = ExceptionListError(message, place=values.place(index))
            if entry["operator"] == "excluded":
                # Without this value the list would say "not in it" of more events.
                error = ExceptionListError(
                    f"{message}; {item.label} is not applied", place=error.place
                )
                raise error from None
            notices.append(error)
    return any_of(nodes)


def _spell_out(value: str, list_type: str) -> Iterator[str]:
    """The single values, addresses or networks that one line of a value list stands for.

    A span of addresses becomes the networks that make it up: unlike two bounds, these hold of
    one address at a time when a field has several. Raises ValueError.
    """
    if not value:
        raise ValueError("no value")
    import ipaddress  # late: few lists hold addresses

    if list_type == "keyword":
        yield value
    elif list_type == "ip_range" and "-" in value:
        first, last = (ipaddress.ip_address(end.strip()) for end in value.split("-", 1))
        if first.version != last.version:
            raise ValueError("addresses of two kinds")
        networks = ipaddress.summarize_address_range(first, last)
        yield from (str(network) for network in networks)
    else:
        is_network = "/" in value
        yield str(
            ipaddress.ip_network(value, strict=False) if is_network else ipaddress.ip_address(value)
        )
