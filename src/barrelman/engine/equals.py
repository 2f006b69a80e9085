"""Which of very many literals a value equals: looked up, and not tried one by one.

Keys are made of a literal, and of a value of a field; the value equals the literal, as
`values.equality` has it for a field of that type, exactly where the two have a key in common.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final, TypeAlias

from barrelman.engine.analysis import words
from barrelman.engine.values import as_date_ms, as_number, keyword_text
from barrelman.errors import TimeError
from barrelman.records.addresses import parse_address, parse_span
from barrelman.records.fields import FieldType
from barrelman.records.paths import Scalar
from barrelman.records.times import parse_date_math

Key: TypeAlias = Hashable

_TRUTHS: Final = {"true": True, "false": False, "": False}
_DATE_LITERAL: Final = re.compile(r"\d{4}-\d\d", re.ASCII)
_DATE_VALUE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_ALIGNED_MS: Final = frozenset((1, 1000, 60_000, 3_600_000, 86_400_000))
"""Spans of time that begin at multiples of their length."""


class Equals:
    """The keys of a field's values. It learns which to make from the literals it is shown.

    A key is a text, or a tuple of what kind it is and what: so no two kinds meet.
    """

    __slots__ = ("_literal", "_shifts", "_spans", "_units_ms", "keys_of")

    keys_of: Callable[[Scalar], Sequence[Key]]
    """The keys of a value of the field. Raises nothing; none where it does not suit the type."""

    def __init__(self, kind: FieldType | None) -> None:
        self._shifts: dict[int, None] = {}
        """Sizes of the networks among the literals, in bits; an address is one of 0 bits."""
        self._units_ms: dict[int, None] = {}
        self._spans: dict[tuple[int, int], None] = {}
        """Spans of time that no unit begins: months, and days in another time zone."""
        self.keys_of, self._literal = self._pair(kind)

    def literal_keys(self, text: str) -> tuple[Key, ...]:
        """The keys of a literal; none where no value can equal it."""
        return tuple(dict.fromkeys(self._literal(text)))

    def _pair(
        self, kind: FieldType | None
    ) -> tuple[Callable[[Scalar], Sequence[Key]], Callable[[str], Iterable[Key]]]:
        match kind:
            case FieldType.TEXT:
                return lambda got: words(keyword_text(got)), words
            case FieldType.BOOLEAN:
                return _truth, _truth
            case FieldType.LONG | FieldType.DOUBLE:
                whole = kind is FieldType.LONG
                return lambda got: _number(got, whole=whole), lambda text: _number(text)
            case FieldType.DATE:
                return lambda got: self._in_time(as_date_ms(got)), self._date
            case FieldType.IP:
                return self._in_networks, self._network
            case FieldType.NESTED:
                return lambda got: (), lambda text: ()
            case None:
                return self._by_value, self._any_type
            case _:
                return lambda got: (got if type(got) is str else keyword_text(got),), _itself

    # --- fields that no catalogue types: a value is what it looks like ---

    def _any_type(self, text: str) -> list[Key]:
        keys = [text, *_number(text), *self._network(text)]
        if _DATE_LITERAL.match(text):
            keys += self._date(text)
        return keys

    def _by_value(self, got: Scalar) -> Sequence[Key]:
        if type(got) is bool:
            return (keyword_text(got),)
        if type(got) is not str:
            return _number(got)
        keys: list[Key] = [got]
        if self._shifts:
            keys += self._in_networks(got)
        if (self._units_ms or self._spans) and _DATE_VALUE.match(got):
            keys += self._in_time(as_date_ms(got))
        return keys

    # --- addresses ---

    def _network(self, text: str) -> list[Key]:
        span = parse_span(text)
        if span is None:
            return []
        shift = (span[1] - span[0]).bit_length()
        self._shifts[shift] = None
        return [("address", shift, span[0] >> shift)]

    def _in_networks(self, got: Scalar) -> list[Key]:
        address = parse_address(got)
        if address is None:
            return []
        return [("address", shift, address >> shift) for shift in self._shifts]

    # --- dates ---

    def _date(self, text: str) -> list[Key]:
        """A date is the span that its precision leaves open."""
        try:
            date = parse_date_math(text)
            low, high = date.resolve_ms(0), date.resolve_ms(0, round_up=True)
        except TimeError:
            return []
        if date.is_relative:
            return []  # no document holds a date that depends on when it is read
        size = high - low + 1
        if size in _ALIGNED_MS and low % size == 0:
            self._units_ms[size] = None
        else:
            self._spans[low, high] = None
        return [("time", low, high)]

    def _in_time(self, instant: int | None) -> list[Key]:
        if instant is None:
            return []
        keys: list[Key] = []
        for unit in self._units_ms:
            low = instant - instant % unit
            keys.append(("time", low, low + unit - 1))
        keys += [("time", low, high) for low, high in self._spans if low <= instant <= high]
        return keys


def _itself(text: str) -> tuple[Key]:
    return (text,)


def _number(value: Scalar, *, whole: bool = False) -> list[Key]:
    number = as_number(value, whole=whole)
    return [] if number is None else [("number", number)]


def _truth(value: Scalar) -> list[Key]:
    if type(value) is str:
        return [("boolean", _TRUTHS[value])] if value in _TRUTHS else []
    return [("boolean", value)] if type(value) is bool else []
