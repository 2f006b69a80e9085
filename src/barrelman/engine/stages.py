"""Which stages of a sequence or a sample one event meets, and under which join keys.

That is settled event by event; what comes of it across events is for `sequence` and `sample`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice, product
from typing import Any, Final, TypeAlias

from barrelman.engine.compile import Leaf, compile_query
from barrelman.engine.reading import FieldReader, field_reader
from barrelman.engine.values import as_date_ms, as_number, keyword_text
from barrelman.query.ast import Node, Or
from barrelman.query.eqltree import EVENT_CATEGORY, FieldUse, Sample, Sequence, Stage
from barrelman.records.addresses import parse_address
from barrelman.records.event import Event
from barrelman.records.fields import Catalogue, FieldType
from barrelman.records.frozen import frozen
from barrelman.records.paths import Scalar
from barrelman.records.times import format_instant

Key: TypeAlias = tuple[Any, ...]
"""Join keys as a machine tells them apart: True is `(True,)`, since it is not 1."""
Slots: TypeAlias = tuple[tuple[int, Key], ...]
"""Stages by their number (`until` comes after the last) with a key each: positive stages first,
the last of them foremost. Plain values that `marshal` takes."""

MOST_KEYS: Final = 10_000
"""Keys that one event is joined by in one stage: several long arrays have far more combinations."""

_TEXTS: Final = (FieldType.KEYWORD, FieldType.FLATTENED, FieldType.VERSION, FieldType.TEXT)
_TRUTHS: Final = {"true": True, "false": False}


@frozen
class StageProgram:
    """The stages of one query, compiled. It holds no state between events."""

    node: Node
    """What an event must meet to matter at all."""
    tests: tuple[tuple[Leaf, Leaf], ...]
    """The distinct conditions, for raw events and for documents."""
    order: tuple[tuple[int, int, int], ...]
    """Of each stage, in the order of `Slots`: its number, its condition, its reader of keys."""
    keys: tuple[Callable[[Event], list[Key]], ...]

    def slots(self, event: Event, now_ms: int) -> Slots:
        """Empty where the event meets no stage, or has none of the values that join it."""
        shape = event.is_document
        met = [test[shape](event, now_ms) for test in self.tests]
        read: dict[int, list[Key]] = {}
        found: list[tuple[int, Key]] = []
        for stage, test, keys in self.order:
            if met[test]:
                if keys not in read:
                    read[keys] = self.keys[keys](event)
                found += [(stage, key) for key in read[keys]]
        return tuple(found)


def compile_stages(
    query: Sequence | Sample, catalogue: Catalogue, *, category_field: str = EVENT_CATEGORY
) -> StageProgram:
    """Compiles the stages of a query whose types were checked."""
    stages = [*query.stages]
    if isinstance(query, Sequence) and query.until is not None:
        stages.append(query.until)
    nodes: dict[Node, int] = {}
    uses: dict[tuple[FieldUse, ...], int] = {}
    order = []
    for number in _slot_order(query.stages, len(stages)):
        stage = stages[number]
        node = stage.filter.node(category_field)
        test = nodes.setdefault(node, len(nodes))
        order.append((number, test, uses.setdefault(stage.keys, len(uses))))
    predicates = [compile_query(node, catalogue) for node in nodes]
    every = tuple(nodes)
    return StageProgram(
        node=every[0] if len(every) == 1 else Or(every),
        tests=tuple((each.raw, each.document) for each in predicates),
        order=tuple(order),
        keys=tuple(_key_reader(each, catalogue) for each in uses),
    )


def shown_keys(key: Key) -> tuple[Scalar | None, ...]:
    """A machine's key as the values it is made of."""
    return tuple(value[0] if type(value) is tuple else value for value in key)


def _slot_order(stages: tuple[Stage, ...], count: int) -> Iterable[int]:
    positive = [number for number, stage in enumerate(stages) if not stage.is_missing]
    others = [number for number in range(count) if number not in positive]
    return [*reversed(positive), *others]


# --- join keys -----------------------------------------------------------------------------


def _key_reader(uses: tuple[FieldUse, ...], catalogue: Catalogue) -> Callable[[Event], list[Key]]:
    columns = [(_value_reader(use.name, catalogue), use.optional) for use in uses]
    if not columns:
        return lambda event: [()]

    def read_keys(event: Event) -> list[Key]:
        """Arrays fan out, every combination once; null is a value of an optional field alone."""
        values = []
        for read, is_optional in columns:
            found = read(event)
            if not found:
                if not is_optional:
                    return []
                found = [None]
            values.append(found)
        return list(islice(product(*values), MOST_KEYS))

    if len(columns) > 1:
        return read_keys
    read_one, is_optional = columns[0]
    none: list[Key] = [(None,)] if is_optional else []
    return lambda event: [(value,) for value in read_one(event)] or none


def _value_reader(name: str, catalogue: Catalogue) -> Callable[[Event], list[Any]]:
    """Reads the values as they are compared: a keyword's as texts, addresses in one spelling."""
    whole = catalogue.exact_name(name) or name
    read: FieldReader = field_reader(whole, catalogue=catalogue)
    normal = _normal(catalogue.type_of(whole))

    def read_values(event: Event) -> list[Any]:
        found = read(event)
        if len(found) == 1:
            value = normal(found[0])
            return [] if value is None else [value]
        values = dict.fromkeys(normal(each) for each in found)
        values.pop(None, None)
        return list(values)

    return read_values


def _normal(kind: FieldType | None) -> Callable[[Scalar], Any]:
    if kind in _TEXTS:
        return keyword_text
    match kind:
        case FieldType.LONG | FieldType.DOUBLE:
            return lambda value: as_number(value, whole=kind is FieldType.LONG)
        case FieldType.BOOLEAN:
            return lambda value: None if (truth := _truth(value)) is None else (truth,)
        case FieldType.DATE:
            return _date
        case FieldType.IP:
            return _address
        case _:
            return lambda value: (value,) if type(value) is bool else value


def _truth(value: Scalar) -> bool | None:
    return value if type(value) is bool else _TRUTHS.get(str(value))


def _date(value: Scalar) -> str | None:
    instant_ms = as_date_ms(value)
    return None if instant_ms is None else format_instant(instant_ms)


def _address(value: Scalar) -> str | None:
    """As Elasticsearch shows one: an IPv4 address in its own spelling, however it was written."""
    number = parse_address(value)
    if number is None:
        return None
    import ipaddress  # late: few rules join by addresses

    if number >> 32 == 0xFFFF:
        return str(ipaddress.IPv4Address(number & 0xFFFF_FFFF))
    return str(ipaddress.IPv6Address(number))
