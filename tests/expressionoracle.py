"""What EQL's computed conditions mean, value by value: the part of the oracle for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import ROUND_DOWN, Decimal
from fractions import Fraction
from itertools import product
from math import fmod
from typing import Any, Protocol, TypeAlias

from barrelman.query.ast import (
    And,
    Call,
    Compare,
    Condition,
    Constant,
    Expression,
    FieldName,
    FieldValue,
    Holds,
    Is,
    Node,
    Not,
    Or,
    Range,
    Suits,
    Text,
    Value,
    Within,
)
from barrelman.records.fields import FieldType
from barrelman.records.times import format_instant, parse_instant_us

Json: TypeAlias = Any
One: TypeAlias = Any
"""A value, or None."""


class Date(int):
    """A value of a date field, in milliseconds."""


class Judge(Protocol):
    def holds(self, node: Node, scope: Json, prefix: str) -> bool: ...

    def values(
        self, field: FieldName | None, scope: Json, prefix: str
    ) -> Iterator[tuple[FieldType | None, Any]]: ...

    def is_exactly(self, kind: FieldType | None, found: Any, value: Value) -> bool: ...

    def number_at(self, kind: FieldType | None, found: Any) -> Decimal | None: ...

    def truth_of(self, found: Any) -> bool | None: ...

    def address_of(self, found: Any) -> str | None: ...

    def is_in_network(self, found: Any, network: str) -> bool: ...


def is_met(node: Compare | Suits | Holds, judge: Judge, scope: Json, prefix: str) -> bool:
    return True in list(_truths(node, judge, scope, prefix))


def truth(node: Node, judge: Judge, scope: Json, prefix: str) -> bool | None:
    """A condition as a value: null is what nothing is known of."""
    match node:
        case Not(child):
            inner = truth(child, judge, scope, prefix)
            return None if inner is None else not inner
        case And(children):
            return _least(truth(child, judge, scope, prefix) for child in children)
        case Or(children):
            inner = _least(truth(Not(child), judge, scope, prefix) for child in children)
            return None if inner is None else not inner
        case Is(Text() as name) | Range(Text() as name) | Within(Text() as name):
            if judge.holds(node, scope, prefix):
                return True
            return False if any(judge.values(name, scope, prefix)) else None
        case Compare() | Suits() | Holds():
            found = list(_truths(node, judge, scope, prefix))
            if isinstance(node, Compare) and Constant(None) in (node.left, node.right):
                return True in found
            negated = _least(None if each is None else not each for each in found)
            return None if negated is None else not negated
        case _:
            return judge.holds(node, scope, prefix)


def _least(truths: Iterable[bool | None]) -> bool | None:
    """Of false, null and true the one that comes first."""
    found = list(truths)
    return False if False in found else None if None in found else True


def _truths(
    node: Compare | Suits | Holds, judge: Judge, scope: Json, prefix: str
) -> Iterator[bool | None]:
    match node:
        case Holds(expression):
            for value in _values(expression, judge, scope, prefix):
                yield None if value is None else value is True
        case Suits(expression, wanted):
            for value in _values(expression, judge, scope, prefix):
                yield None if value is None else judge.is_exactly(None, value, wanted)
        case Compare(left, op, right):
            sides = (_values(side, judge, scope, prefix) for side in (left, right))
            for one, other in product(*sides):
                yield _compare(one, op, other)


def _values(expression: Expression, judge: Judge, scope: Json, prefix: str) -> list[One]:
    match expression:
        case Constant(value):
            return [value]
        case Condition(node):
            return [truth(node, judge, scope, prefix)]
        case FieldValue(name):
            found = [_read(judge, *each) for each in judge.values(name, scope, prefix)]
            return found or [None]
        case Call(name, args, ignore_case):
            columns = [_values(arg, judge, scope, prefix) for arg in args]
            return [
                None if None in chosen else call(judge, name, list(chosen), ignore_case=ignore_case)
                for chosen in product(*columns)
            ]


def _read(judge: Judge, kind: FieldType | None, found: Any) -> One:
    """A value as its field's type has it."""
    if kind in (FieldType.LONG, FieldType.DOUBLE):
        number = judge.number_at(kind, found)
        if number is None:
            return None
        if kind is FieldType.LONG:
            return int(number)
        if isinstance(found, str):
            return int(found) if found.lstrip("+-").isdigit() else float(found)
        return found
    if kind is FieldType.BOOLEAN:
        return judge.truth_of(found)
    if kind is FieldType.DATE:
        instant = parse_instant_us(found)
        return None if instant is None else Date(instant // 1000)
    if kind is FieldType.IP:
        return judge.address_of(found)
    return None if kind is FieldType.NESTED else found


def _compare(one: One, op: str, other: One) -> bool | None:
    if one is None or other is None:
        return True if op == "eq" and one is other else None
    if isinstance(one, Date) and isinstance(other, str):
        other = _milliseconds(other)
    if isinstance(other, Date) and isinstance(one, str):
        one = _milliseconds(one)
    if isinstance(one, bool) or isinstance(other, bool):
        return op == "eq" and one is other
    if isinstance(one, str) != isinstance(other, str):
        return False
    if isinstance(one, str):
        one, other = (side.encode("utf-8", "surrogatepass") for side in (one, other))
    else:
        one, other = Fraction(one), Fraction(other)
    order = (one > other) - (one < other)
    return order in {"eq": [0], "gt": [1], "gte": [0, 1], "lt": [-1], "lte": [-1, 0]}[op]


def _milliseconds(text: str) -> One:
    instant = parse_instant_us(text)
    return text if instant is None else instant // 1000


# --- functions ------------------------------------------------------------------------------


def call(judge: Judge, name: str, args: list[One], *, ignore_case: bool = False) -> One:
    if name in ("add", "subtract", "multiply", "divide", "modulo"):
        return _calculate(name, *args)
    if name == "cidrmatch":
        if judge.address_of(args[0]) is None:
            return None
        return any(judge.is_in_network(args[0], network) for network in args[1:])
    if name == "concat":
        return "".join(map(_text, args))
    if name == "string":
        return _text(args[0])
    if name == "number":
        return _number(*args)
    if not isinstance(args[0], str):
        return None
    if name == "length":
        return len(args[0])
    if name == "substring":
        whole = all(type(place) is int for place in args[1:])
        return args[0][slice(*args[1:], *[None] * (2 - len(args[1:])))] if whole else None
    return _search(name, args, ignore_case=ignore_case)


def _search(name: str, args: list[One], *, ignore_case: bool) -> One:
    text, part, *rest = args
    if not isinstance(part, str):
        return None
    if name == "between":
        return _between(text, part, *rest, ignore_case=ignore_case)
    if ignore_case:
        text, part = _lower(text), _lower(part)
    starts = [at for at in range(len(text) + 1) if text[at : at + len(part)] == part]
    if name == "startswith":
        return 0 in starts
    if name == "endswith":
        return len(text) - len(part) in starts
    if name == "stringcontains":
        return bool(part and starts)
    first = rest[0] if rest else 0
    if type(first) is not int:
        return None
    return next((at for at in starts if at >= first), None)


def _between(
    text: str, left: str, right: One, greedy: One = False, *, ignore_case: bool
) -> str | None:
    if not isinstance(right, str) or not isinstance(greedy, bool):
        return None
    if not left or not right:
        return text
    searched = text
    if ignore_case:
        searched, left, right = _lower(text), _lower(left), _lower(right)
    if left not in searched:
        return ""
    start = searched.index(left) + len(left)
    ends = [at for at in range(start, len(text)) if searched[at : at + len(right)] == right]
    return text[start : ends[-1 if greedy else 0]] if ends else ""


def _lower(text: str) -> str:
    whole = text.lower()
    if len(whole) == len(text):
        return whole
    return "".join(char.lower() if len(char.lower()) == 1 else char for char in text)


def _text(value: One) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Date):
        return format_instant(value)
    return value if isinstance(value, str) else repr(value)


def _number(text: One, base: One = None) -> One:
    if isinstance(text, int | float) and not isinstance(text, bool):
        return text
    if not isinstance(text, str) or not (base is None or type(base) is int):
        return None
    if text.startswith("0x") and base in (None, 16):
        text, base = text[2:], 16
    body = text[1:] if text[:1] in ("+", "-") else text
    if base in (None, 10):
        kept = body.replace("e+", "e", 1).replace("e-", "e", 1)
        if not body or not set(kept.lower()) <= set("0123456789.e"):
            return None
    elif not 2 <= base <= 36 or not (body.isascii() and body.isalnum()):
        return None
    try:
        value = int(text, base or 10)
    except ValueError:
        if base not in (None, 10):
            return None
        try:
            return _fitting(float(text))
        except ValueError:
            return None
    return _fitting(value)


def _fitting(number: float) -> One:
    if isinstance(number, int):
        return number if -(2**63) <= number < 2**63 else None
    return number if abs(number) < float("inf") else None


def _calculate(name: str, one: One, other: One) -> One:
    if any(isinstance(each, bool | str) for each in (one, other)):
        return None
    one, other = (int(each) if isinstance(each, Date) else each for each in (one, other))
    whole = isinstance(one, int) and isinstance(other, int)
    if name in ("divide", "modulo") and other == 0:
        return None
    if not whole:
        one, other = float(one), float(other)
    if name == "add":
        return _fitting(one + other)
    if name == "subtract":
        return _fitting(one - other)
    if name == "multiply":
        return _fitting(one * other)
    if not whole:
        return _fitting(one / other if name == "divide" else fmod(one, other))
    quotient = int((Decimal(one) / Decimal(other)).to_integral_value(ROUND_DOWN))
    return _fitting(quotient if name == "divide" else one - quotient * other)
