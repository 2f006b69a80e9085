"""Which stages of a sequence or a sample one event meets, and under which join keys.

That is settled event by event; what comes of it across events is for `sequence` and `sample`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from barrelman.engine.compile import Predicate, compile_query
from barrelman.engine.index import RuleIndex
from barrelman.engine.places import Scope, Shape, read_values
from barrelman.engine.reading import FieldReader, combined
from barrelman.engine.values import as_date_ms, as_number, keyword_text
from barrelman.query.ast import Node, Or
from barrelman.query.eqltree import EVENT_CATEGORY, FieldUse, Sample, Sequence, Stage
from barrelman.records.addresses import parse_address
from barrelman.records.event import Event
from barrelman.records.fields import Catalogue, FieldType
from barrelman.records.paths import Scalar
from barrelman.records.times import format_instant

Key: TypeAlias = tuple[Any, ...]
"""Join keys as a machine tells them apart: True is `(True,)`, since it is not 1."""
Slots: TypeAlias = tuple[tuple[int, Key], ...]
"""Stages by their number (`until` comes after the last) with a key each: positive stages first,
the last of them foremost. Plain values that `marshal` takes."""

KeyReader: TypeAlias = Callable[[Event], list[Key]]
_Plan: TypeAlias = list[tuple[list[int], KeyReader]]

LEFT_OUT: Final = -1
"""In place of a stage: its key holds how many of an event's keys were left out, as `combined` does
it."""

_MOST_PLANS: Final = 4096
_TEXTS: Final = (FieldType.KEYWORD, FieldType.FLATTENED, FieldType.VERSION, FieldType.TEXT)
_TRUTHS: Final = {"true": True, "false": False}


class StageProgram:
    """The stages of one query, compiled. It keeps nothing of events but what spares asking again.

    `node` is what an event must meet to matter at all.
    """

    def __init__(
        self,
        predicates: Mapping[Node, Predicate],
        order: Iterable[tuple[int, Node, KeyReader]],
    ) -> None:
        """`order`: of each stage, in that of `Slots`, its number, condition, and reader of keys."""
        nodes = tuple(predicates)
        self.node: Final = nodes[0] if len(nodes) == 1 else Or(nodes)
        self._predicates = list(predicates.values())
        self._order = [(number, nodes.index(node), keys) for number, node, keys in order]
        is_timeless = not any(each.uses_now for each in self._predicates)
        self._index = RuleIndex(self._predicates) if is_timeless else None
        """Raw events are asked for all stages at once."""
        self._plans: dict[tuple[int, ...], _Plan] = {}

    def slots(self, event: Event, now_ms: int) -> Slots:
        """Empty where the event meets no stage, or has none of the values that join it."""
        index = self._index
        met: tuple[int, ...] | None = None
        if index is None or event.is_document:
            predicates = enumerate(self._predicates)
            met = tuple([at for at, each in predicates if each.matches(event, now_ms=now_ms)])
        else:
            if index.is_told:
                met = index.told(event.body)
            if met is None:
                met = tuple(index.matches(event))
        if not met:
            return ()
        plan = self._plans.get(met) or self._plan(met)
        if len(plan) == 1:
            stages, keys_of = plan[0]
            only = keys_of(event)
            if len(only) == len(stages) == 1:
                return ((stages[0], only[0]),)
            return tuple(_fan_out(stages, only))
        found: list[tuple[int, Key]] = []
        read: dict[KeyReader, list[Key]] = {}
        for stages, keys_of in plan:
            keys = read.get(keys_of)
            if keys is None:
                keys = read[keys_of] = keys_of(event)
            found += _fan_out(stages, keys)
        return tuple(found)

    def _plan(self, met: tuple[int, ...]) -> _Plan:
        """The stages of some conditions in order, neighbours with the same keys together."""
        plan: _Plan = []
        for number, test, keys in self._order:
            if test not in met:
                continue
            if plan and plan[-1][1] is keys:
                plan[-1][0].append(number)
            else:
                plan.append(([number], keys))
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        self._plans[met] = plan
        return plan


def compile_stages(
    query: Sequence | Sample, catalogue: Catalogue, *, category_field: str = EVENT_CATEGORY
) -> StageProgram:
    """Compiles the stages of a query whose types were checked."""
    stages = [*query.stages]
    if isinstance(query, Sequence) and query.until is not None:
        stages.append(query.until)
    readers: dict[tuple[FieldUse, ...], KeyReader] = {}
    order = []
    for number in _slot_order(query.stages, len(stages)):
        stage = stages[number]
        if stage.keys not in readers:
            readers[stage.keys] = _key_reader(stage.keys, catalogue)
        order.append((number, stage.filter.node(category_field), readers[stage.keys]))
    predicates = {node: compile_query(node, catalogue) for _, node, _ in order}
    return StageProgram(predicates, order)


def shown_keys(key: Key) -> tuple[Scalar | None, ...]:
    """A machine's key as the values it is made of."""
    return tuple(value[0] if type(value) is tuple else value for value in key)


def _fan_out(stages: list[int], keys: list[Key]) -> list[tuple[int, Key]]:
    if keys and len(keys[-1]) != len(keys[0]):
        *keys, left_out = keys
        return [*((stage, key) for stage in stages for key in keys), (LEFT_OUT, left_out)]
    return [(stage, key) for stage in stages for key in keys]


def _slot_order(stages: tuple[Stage, ...], count: int) -> Iterable[int]:
    positive = [number for number, stage in enumerate(stages) if not stage.is_missing]
    others = [number for number in range(count) if number not in positive]
    return [*reversed(positive), *others]


# --- join keys -----------------------------------------------------------------------------


def _key_reader(uses: tuple[FieldUse, ...], catalogue: Catalogue) -> KeyReader:
    names = [catalogue.exact_name(use.name) or use.name for use in uses]
    columns = [
        (_value_reader(name, catalogue), use.optional)
        for name, use in zip(names, uses, strict=True)
    ]
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
        return combined(values)

    return (
        read_keys if len(columns) > 1 else _single_key_reader(names[0], uses[0].optional, catalogue)
    )


def _single_key_reader(name: str, is_optional: bool, catalogue: Catalogue) -> KeyReader:
    read = _value_reader(name, catalogue)
    raw, _, is_text = _field(name, catalogue)
    none: list[Key] = [(None,)] if is_optional else []

    def read_key(event: Event) -> list[Key]:
        if is_text and not event.is_document:
            # Nearly always one text: read, and done.
            found = raw(event)
            if len(found) == 1 and found[0].__class__ is str:
                return [(found[0],)]
        return [(value,) for value in read(event)] or none

    return read_key


def _field(name: str, catalogue: Catalogue) -> tuple[FieldReader, FieldReader, bool]:
    """Reads a field of raw events and of documents; and whether its texts are compared as such."""
    if catalogue.lacks(name) or catalogue.is_hidden(name):
        return _nothing, _nothing, True
    raw, document = (
        read_values(name, Scope(shape, catalogue=catalogue))
        for shape in (Shape.RAW, Shape.DOCUMENT)
    )
    kind = catalogue.type_of(name)
    return raw, document, kind is None or kind in _TEXTS


def _nothing(event: Event) -> list[Scalar]:
    return []


def _value_reader(name: str, catalogue: Catalogue) -> Callable[[Event], list[Any]]:
    """Reads the values as they are compared: a keyword's as texts, addresses in one spelling."""
    raw, document, _ = _field(name, catalogue)
    normal = _normal(catalogue.type_of(name))

    def read(event: Event) -> list[Any]:
        found = (document if event.is_document else raw)(event)
        values = dict.fromkeys([normal(each) for each in found])
        values.pop(None, None)
        return list(values)

    return read


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
