"""Conditions on what is computed from fields: EQL's functions, arithmetic and conditions as values.

An array makes as many values of an expression as it has; where an expression names several fields,
every combination of their values makes one, and a field named twice takes part twice. A missing
field is one null. A condition holds where one of the values meets it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import islice, product
from math import prod
from typing import Any, Final, Protocol, TypeAlias

from barrelman.engine.exact import exact_equality
from barrelman.engine.functions import (
    Instant,
    Unary,
    Value,
    first_argument,
    function,
    is_number,
)
from barrelman.engine.places import Reader
from barrelman.engine.reading import CUTS, MOST_COMBINATIONS
from barrelman.engine.values import COMPARE, Test, as_date_ms, as_number
from barrelman.query.ast import (
    And,
    Call,
    Compare,
    CompareOp,
    Condition,
    Constant,
    Expression,
    FieldValue,
    Holds,
    Is,
    MatchAll,
    Node,
    Not,
    Or,
    Range,
    Suits,
    Text,
    Within,
)
from barrelman.records.addresses import parse_address
from barrelman.records.fields import FieldType
from barrelman.records.frozen import frozen
from barrelman.records.paths import Scalar
from barrelman.records.times import parse_instant_us

Leaf: TypeAlias = Callable[[Any, int], bool]
Truth: TypeAlias = Callable[[Any, int], bool | None]
Values: TypeAlias = Callable[[Any, int], Sequence[Value]]
Computed: TypeAlias = Compare | Suits | Holds

_MISSING: Final[tuple[Value, ...]] = (None,)
_TRUTHS: Final = {"true": True, "false": False, "": False}


class Host(Protocol):
    """The compiler of the whole query."""

    def field(self, target: Text) -> tuple[Reader, FieldType | None] | None:
        """How a field is read, and its type; None where no event shows a value there."""

    def part(self, node: Node) -> Leaf:
        """A condition, compiled by itself."""


@frozen
class Fixed:
    """No field takes part in it."""

    value: Value


@frozen
class Single:
    """Made of one field, value by value."""

    name: str
    read: Reader
    made: Unary | None
    """None: the value as it is read."""

    def values(self, target: Any, now_ms: int) -> Sequence[Value]:
        found: Sequence[Value] = self.read(target) or _MISSING
        made = self.made
        return found if made is None else [made(each) for each in found]


@frozen
class Several:
    values: Values


Operand: TypeAlias = Fixed | Single | Several


def compile_computed(node: Computed, host: Host) -> tuple[Leaf, Single | None, Test | None]:
    """The condition; where it is about one field, how that is read and the test of its values."""
    operand, test = _reduce(node, host)
    if isinstance(operand, Fixed):
        answer = test(operand.value) is True
        return lambda target, now_ms: answer, None, None
    if isinstance(operand, Single):
        met = _composed(operand.made, test)
        read = operand.read

        def leaf(target: Any, now_ms: int) -> bool:
            for got in read(target) or _MISSING:  # noqa: SIM110  # half the time of any()
                if met(got) is True:
                    return True
            return False

        return leaf, operand, lambda got, now_ms: met(got) is True
    values = operand.values
    return (
        lambda target, now_ms: any(test(each) is True for each in values(target, now_ms)),
        None,
        None,
    )


def compile_truth(node: Node, host: Host) -> Truth:
    """A condition as a value: null where a field that it compares is missing."""
    match node:
        case And(children):
            return _kleene([compile_truth(child, host) for child in children], decisive=False)
        case Or(children):
            return _kleene([compile_truth(child, host) for child in children], decisive=True)
        case Not(child):
            inner = compile_truth(child, host)
            return lambda x, now: None if (truth := inner(x, now)) is None else not truth
        case Is(Text() as target) | Range(Text() as target) | Within(Text() as target):
            return _leaf_truth(node, target, host)
        case Compare() | Suits() | Holds():
            return _computed_truth(node, host)
        case _:
            return host.part(node)


def compile_expression(expression: Expression, host: Host) -> Operand:
    match expression:
        case Constant(value):
            return Fixed(value)
        case FieldValue(target):
            found = host.field(target)
            if found is None:
                return Fixed(None)
            return Single(target.value, found[0], _converter(found[1]))
        case Condition(MatchAll()):
            return Fixed(True)
        case Condition(node):
            truth = compile_truth(node, host)
            return Several(lambda x, now: (truth(x, now),))
        case Call():
            return _call(expression, host)


# --- calls ---------------------------------------------------------------------------------


def _call(call: Call, host: Host) -> Operand:
    args = [compile_expression(arg, host) for arg in call.args]
    rest = [arg.value for arg in args[1:] if isinstance(arg, Fixed)]
    if len(rest) == len(args) - 1:
        first, *_ = args
        made = first_argument(call.name, rest, ignore_case=call.ignore_case)
        return _mapped(first, made)
    general = function(call.name, ignore_case=call.ignore_case)
    open_ones = [at for at, arg in enumerate(args) if not isinstance(arg, Fixed)]
    if len(open_ones) == 1:
        return _mapped(args[open_ones[0]], _at_place(general, args, open_ones[0]))
    return _combined(args, lambda values: general(*values))


def _at_place(general: Callable[..., Value], args: Sequence[Operand], place: int) -> Unary:
    before = [arg.value for arg in args[:place] if isinstance(arg, Fixed)]
    behind = [arg.value for arg in args[place + 1 :] if isinstance(arg, Fixed)]
    return lambda got: general(*before, got, *behind)


def _mapped(operand: Operand, made: Unary) -> Operand:
    if isinstance(operand, Fixed):
        return Fixed(made(operand.value))
    if isinstance(operand, Single):
        return Single(operand.name, operand.read, _composed(operand.made, made))
    values = operand.values
    return Several(lambda x, now: [made(each) for each in values(x, now)])


def _combined(args: Sequence[Operand], made: Callable[[tuple[Value, ...]], Value]) -> Several:
    readers = [_values_of(arg) for arg in args]

    def values(target: Any, now_ms: int) -> Sequence[Value]:
        columns = [_distinct(read(target, now_ms)) for read in readers]
        number = prod(map(len, columns))
        if number <= MOST_COMBINATIONS or number in map(len, columns):
            return [made(each) for each in product(*columns)]
        CUTS.note()
        return [made(each) for each in islice(product(*columns), MOST_COMBINATIONS)]

    return Several(values)


def _values_of(operand: Operand) -> Values:
    if isinstance(operand, Fixed):
        fixed = (operand.value,)
        return lambda target, now_ms: fixed
    return operand.values


def _distinct(values: Sequence[Value]) -> Sequence[Value]:
    """True, 1 and 1.0 are one to Python, and not to a sum or a division."""
    if len(values) < 2:
        return values
    return [value for _, value in dict.fromkeys((type(value), value) for value in values)]


def _composed(first: Unary | None, then: Unary) -> Unary:
    if first is None:
        return then
    inner = first
    return lambda got: then(inner(got))


def _converter(kind: FieldType | None) -> Unary | None:
    """What a value of a field of that type is to a function."""
    match kind:
        case FieldType.LONG:
            return lambda got: None if got is None else as_number(got, whole=True)
        case FieldType.DOUBLE:
            return lambda got: None if got is None else as_number(got, whole=False)
        case FieldType.BOOLEAN:
            return lambda got: got if type(got) is bool else _TRUTHS.get(str(got))
        case FieldType.DATE:
            return _instant
        case FieldType.IP:
            return _address
        case FieldType.NESTED:
            return lambda got: None
        case _:
            return None


def _instant(got: Value) -> Value:
    instant = None if got is None else as_date_ms(got)
    return None if instant is None else Instant(instant)


def _address(got: Value) -> Value:
    address = parse_address(got)
    return None if address is None else _written(address)


@lru_cache(maxsize=4096)
def _written(address: int) -> str:
    """As Elasticsearch writes it."""
    import ipaddress  # late: few rules ask for addresses

    whole = ipaddress.IPv6Address(address)
    return str(whole.ipv4_mapped or whole)


# --- conditions ----------------------------------------------------------------------------


def _reduce(node: Computed, host: Host) -> tuple[Operand, Unary]:
    """A condition as an operand and a test of its values: true, false, or null."""
    match node:
        case Holds(expression):
            return compile_expression(expression, host), lambda got: got
        case Suits(expression, value):
            test = exact_equality(None, (value,)).test
            return (
                compile_expression(expression, host),
                lambda got: None if got is None else test(got, 0),
            )
        case Compare(left, op, right):
            sides = compile_expression(left, host), compile_expression(right, host)
            return _compared(sides, op)


def _compared(sides: tuple[Operand, Operand], op: CompareOp) -> tuple[Operand, Unary]:
    left, right = sides
    if isinstance(right, Fixed):
        bound = right.value
        return left, lambda got: _compare(got, op, bound)
    if isinstance(left, Fixed):
        start = left.value
        return right, lambda got: _compare(start, op, got)
    return _combined(sides, lambda pair: _compare(pair[0], op, pair[1])), lambda got: got


def _compare(left: Value, op: CompareOp, right: Value) -> Value:
    """Null where one side is; two nulls are equal, and have no order."""
    if left is None or right is None:
        return True if op == "eq" and left is right else None
    if type(left) is Instant and isinstance(right, str):
        right = _spelled(right)
    elif type(right) is Instant and isinstance(left, str):
        left = _spelled(left)
    if op == "eq":
        return left == right and (type(left) is bool) is (type(right) is bool)
    compare = COMPARE[op]
    if isinstance(left, str) and isinstance(right, str):
        return compare(left, right)
    if is_number(left) and is_number(right):
        return compare(left, right)
    return False


def _spelled(text: str) -> Scalar:
    """A date that a text spells, to compare with another; else the text, which equals none."""
    instant = parse_instant_us(text)
    return text if instant is None else instant // 1000


def _computed_truth(node: Computed, host: Host) -> Truth:
    operand, test = _reduce(node, host)
    if _asks_for_null(node):
        asked = test

        def test(got: Value) -> Value:  # null or not: there is no third
            return asked(got) is True

    values = _values_of(operand)
    return lambda target, now_ms: _any_truth(test(each) for each in values(target, now_ms))


def _asks_for_null(node: Computed) -> bool:
    return isinstance(node, Compare) and Constant(None) in (node.left, node.right)


def _leaf_truth(node: Node, target: Text, host: Host) -> Truth:
    found = host.field(target)
    if found is None:
        return lambda target, now_ms: None
    leaf, read = host.part(node), found[0]

    def truth(target: Any, now_ms: int) -> bool | None:
        if leaf(target, now_ms):
            return True
        return False if read(target) else None

    return truth


def _any_truth(values: Iterable[Value]) -> bool | None:
    found: bool | None = False
    for value in values:
        if value is True:
            return True
        if value is None:
            found = None
    return found


def _kleene(parts: Sequence[Truth], *, decisive: bool) -> Truth:
    """`and` is settled by one false, `or` by one true; else null is more than the other."""

    def truth(target: Any, now_ms: int) -> bool | None:
        found: bool | None = not decisive
        for part in parts:
            value = part(target, now_ms)
            if value is decisive:
                return decisive
            if value is None:
                found = None
        return found

    return truth
