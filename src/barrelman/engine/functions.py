"""EQL's functions on single values. Of null, or of what it cannot take, each makes null.

Whole numbers have 64 bits, and what does not fit is null, as is what a division by zero would be.
Texts are counted in characters.
"""

from __future__ import annotations

import operator
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from math import fmod, isfinite
from typing import Final, TypeAlias, TypeGuard

from barrelman.engine.values import keyword_text
from barrelman.errors import TimeError
from barrelman.query.typecheck import NUMBER
from barrelman.records.addresses import merge_spans, parse_address, parse_span
from barrelman.records.paths import Scalar
from barrelman.records.times import format_instant

Value: TypeAlias = Scalar | None
Unary: TypeAlias = Callable[[Value], Value]
Function: TypeAlias = Callable[..., Value]

_LARGEST: Final = 2**63
_IN_BASE = re.compile(r"[+-]?[0-9a-zA-Z]{1,64}", re.ASCII)


class Instant(int):
    """A value of a date field: milliseconds since 1970, and as text what Elasticsearch shows."""

    __slots__ = ()


def function(name: str, *, ignore_case: bool = False) -> Function:
    """A function by its name in lower case, of as many values as it takes."""
    made = _FUNCTIONS[name]
    if ignore_case:
        made = partial(made, ignore_case=True)
    return lambda *args: None if None in args else made(*args)


def first_argument(name: str, rest: Sequence[Value], *, ignore_case: bool = False) -> Unary:
    """A function as one of its first argument: the others are known, and read once."""
    if name == "cidrmatch":
        return _in_networks(rest)
    if len(rest) == 1 and type(rest[0]) is str and name in _CONTAINING:
        return _CONTAINING[name](rest[0], ignore_case)
    made = function(name, ignore_case=ignore_case)
    return lambda got: made(got, *rest)


def fold(text: str) -> str:
    """A text without regard to case, character by character: places in it stay as they are."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


def text_of(value: Value) -> str | None:
    if type(value) is Instant:
        try:
            return format_instant(value)
        except TimeError:
            return None
    return None if value is None else keyword_text(value)


def is_number(value: Value) -> TypeGuard[float]:
    return isinstance(value, int | float) and type(value) is not bool


# --- texts ---------------------------------------------------------------------------------


def _starting(start: str, ignore_case: bool) -> Unary:
    if ignore_case:
        start = fold(start)
        return lambda got: fold(got).startswith(start) if isinstance(got, str) else None
    return lambda got: got.startswith(start) if isinstance(got, str) else None


def _ending(end: str, ignore_case: bool) -> Unary:
    if ignore_case:
        end = fold(end)
        return lambda got: fold(got).endswith(end) if isinstance(got, str) else None
    return lambda got: got.endswith(end) if isinstance(got, str) else None


def _containing(part: str, ignore_case: bool) -> Unary:
    if not part:  # in Elasticsearch nothing contains the empty text
        return lambda got: False if isinstance(got, str) else None
    if ignore_case:
        part = fold(part)
        return lambda got: part in fold(got) if isinstance(got, str) else None
    return lambda got: part in got if isinstance(got, str) else None


_CONTAINING: Final[dict[str, Callable[[str, bool], Unary]]] = {
    "startswith": _starting,
    "endswith": _ending,
    "stringcontains": _containing,
}


def _as_unary(make: Callable[[str, bool], Unary]) -> Function:
    def test(text: Value, part: Value, *, ignore_case: bool = False) -> Value:
        return make(part, ignore_case)(text) if isinstance(part, str) else None

    return test


def _length(text: Value) -> Value:
    return len(text) if isinstance(text, str) else None


def _substring(text: Value, start: Value, end: Value = _LARGEST) -> Value:
    """As Python slices: from 0, the end left out, negative numbers from behind."""
    if isinstance(text, str) and _is_whole(start) and _is_whole(end):
        return text[start:end]
    return None


def _index_of(text: Value, part: Value, start: Value = 0, *, ignore_case: bool = False) -> Value:
    if not (isinstance(text, str) and isinstance(part, str) and _is_whole(start)):
        return None
    if ignore_case:
        text, part = fold(text), fold(part)
    found = text.find(part, max(start, 0))
    return None if found < 0 else found


def _between(
    text: Value, left: Value, right: Value, greedy: Value = False, *, ignore_case: bool = False
) -> Value:
    """Empty where either is not there; the whole text where either is the empty text."""
    if not (isinstance(text, str) and isinstance(left, str) and isinstance(right, str)):
        return None
    if type(greedy) is not bool:
        return None
    if not left or not right:
        return text
    searched = text
    if ignore_case:
        searched, left, right = fold(text), fold(left), fold(right)
    start = searched.find(left)
    if start < 0:
        return ""
    start += len(left)
    end = searched.rfind(right, start) if greedy else searched.find(right, start)
    return text[start:end] if end >= 0 else ""


def _concat(*values: Value) -> Value:
    texts = [text_of(value) for value in values]
    return None if None in texts else "".join(text for text in texts if text is not None)


def _is_whole(value: Value) -> TypeGuard[int]:
    return isinstance(value, int) and type(value) is not bool


# --- numbers -------------------------------------------------------------------------------


def _number(text: Value, base: Value = None) -> Value:
    """Of a text the number it spells: `0x` begins a hexadecimal one."""
    if is_number(text):
        return text
    if not isinstance(text, str) or not (base is None or _is_whole(base)):
        return None
    if text.startswith("0x") and base in (None, 16):
        text, base = text[2:], 16
    if base is None or base == 10:
        return _decimal(text)
    assert isinstance(base, int)
    if not 2 <= base <= 36 or not _IN_BASE.fullmatch(text):
        return None
    try:
        return _fitting(int(text, base))
    except ValueError:
        return None


def _decimal(text: str) -> Value:
    if not NUMBER.fullmatch(text) or len(text) > 400:
        return None
    try:
        return _fitting(int(text))
    except ValueError:
        return _fitting(float(text))


def _fitting(number: float) -> Value:
    if isinstance(number, int):
        return number if -_LARGEST <= number < _LARGEST else None
    return number if isfinite(number) else None


def _arithmetic(
    whole: Callable[[int, int], int], broken: Callable[[float, float], float]
) -> Function:
    def calculate(one: Value, other: Value) -> Value:
        if not is_number(one) or not is_number(other):
            return None
        try:
            if isinstance(one, int) and isinstance(other, int):
                return _fitting(whole(int(one), int(other)))
            return _fitting(broken(float(one), float(other)))
        except (ZeroDivisionError, OverflowError, ValueError):
            return None

    return calculate


def _divide(one: int, other: int) -> int:
    """Towards zero, as processors do."""
    quotient = abs(one) // abs(other)
    return quotient if (one < 0) == (other < 0) else -quotient


def _modulo(one: int, other: int) -> int:
    """With the sign of the first."""
    rest = abs(one) % abs(other)
    return -rest if one < 0 else rest


# --- addresses -----------------------------------------------------------------------------


def _in_networks(networks: Sequence[Value]) -> Unary:
    if None in networks:
        return lambda got: None
    spans = merge_spans(
        span for each in networks if isinstance(each, str) and (span := parse_span(each))
    )
    lows, highs = [low for low, _ in spans], [high for _, high in spans]

    def test(got: Value) -> Value:
        address = parse_address(got)
        if address is None:
            return None
        at = bisect_right(lows, address) - 1
        return at >= 0 and address <= highs[at]

    return test


def _cidr_match(address: Value, *networks: Value) -> Value:
    return _in_networks(networks)(address)


_FUNCTIONS: Final[dict[str, Function]] = {
    "add": _arithmetic(operator.add, operator.add),
    "between": _between,
    "cidrmatch": _cidr_match,
    "concat": _concat,
    "divide": _arithmetic(_divide, operator.truediv),
    "endswith": _as_unary(_ending),
    "indexof": _index_of,
    "length": _length,
    "modulo": _arithmetic(_modulo, fmod),
    "multiply": _arithmetic(operator.mul, operator.mul),
    "number": _number,
    "startswith": _as_unary(_starting),
    "string": text_of,
    "stringcontains": _as_unary(_containing),
    "substring": _substring,
    "subtract": _arithmetic(operator.sub, operator.sub),
}
