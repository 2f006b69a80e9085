"""The values of one field of an event, for whoever groups, counts or joins events by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice, product
from math import prod
from typing import Any, Final, TypeAlias

from barrelman.engine.places import Scope, Shape, read_values
from barrelman.records.event import Event
from barrelman.records.fields import Catalogue
from barrelman.records.paths import Scalar

FieldReader: TypeAlias = Callable[[Event], list[Scalar]]
Combination: TypeAlias = tuple[Scalar, ...]

MOST_COMBINATIONS: Final = 10_000
"""Of several arrays of one event. Three of a thousand values each, which anybody may send, have a
billion. One array alone is never cut: else who pads it would hide what stands at its end."""

_UNMAPPED: Final = Catalogue()


class Cuts:
    """How often a condition was asked of some combinations of an event's arrays, and not of all.

    A condition has no other way to tell: it answers yes or no. This process's are counted together.
    """

    def __init__(self) -> None:
        self._number = 0

    def note(self) -> None:
        self._number += 1

    def take(self) -> int:
        """How many there were since this was last asked."""
        number, self._number = self._number, 0
        return number


CUTS: Final = Cuts()


def field_reader(name: str, *, catalogue: Catalogue = _UNMAPPED) -> FieldReader:
    """Reads a field by the name that rules give it, of raw events and of Elastic documents.

    A field that a mapping hides, or does not have, has no values.
    """
    scopes = [Scope(shape, catalogue=catalogue) for shape in (Shape.RAW, Shape.DOCUMENT)]
    if catalogue.lacks(name) or catalogue.is_hidden(name):
        return lambda event: []
    raw, document = (read_values(name, scope) for scope in scopes)
    return lambda event: (document if event.is_document else raw)(event)


def combinations_of(readers: Sequence[FieldReader], event: Event) -> list[Combination]:
    """Every combination of one value of each field, each once: arrays fan out (see `combined`).

    Empty where a field has no value. True, 1 and 1.0 are one to Python; a field has one type, so
    that they do not meet.
    """
    if len(readers) == 1:
        values = readers[0](event)
        if len(values) == 1:
            return [(values[0],)]
        return [(value,) for value in dict.fromkeys(values)]
    columns = []
    for read in readers:
        values = read(event)
        if not values:
            return []
        columns.append(values if len(values) == 1 else list(dict.fromkeys(values)))
    return combined(columns)


def combined(columns: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Every combination of several columns' values. Where there are too many, the last one is none,
    but holds how many were left out, alone. Those of a single array are never too many."""
    number = prod(map(len, columns))
    if number <= MOST_COMBINATIONS or number in map(len, columns):
        return list(product(*columns))
    return [*islice(product(*columns), MOST_COMBINATIONS), (number - MOST_COMBINATIONS,)]
