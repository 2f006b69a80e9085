"""EQL's operators and functions, applied to operands that are read: the tree of a condition.

A comparison of a field with a literal becomes a leaf that all languages share; what takes part in
it beyond that becomes an expression. What depends on no field is worked out here, arithmetic and
comparisons at least; a function of literals is left to whoever evaluates functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, replace
from math import fmod, isfinite
from typing import Literal, NoReturn, TypeAlias

from barrelman.query.ast import (
    MATCH_ALL,
    And,
    Boolean,
    Call,
    Compare,
    CompareOp,
    Condition,
    Constant,
    Exists,
    Expression,
    FieldValue,
    Holds,
    Is,
    MatchAll,
    Node,
    Not,
    Number,
    Or,
    Pattern,
    Range,
    RegExp,
    Span,
    Suits,
    Text,
    Wild,
)
from barrelman.query.eqlcalls import FUNCTIONS, GONE, Function, Takes, kind_of
from barrelman.query.eqlcursor import MAX_NESTING
from barrelman.query.eqllex import LARGEST, Token, fail
from barrelman.records.addresses import parse_span
from barrelman.records.frozen import frozen

NEVER = Not(MATCH_ALL)

Operator: TypeAlias = Literal["eq", "ne", "gt", "gte", "lt", "lte"]
Likeness: TypeAlias = Literal[":", "like", "like~", "regex", "regex~", "in~"]

_MIRRORED: dict[Operator, Operator] = {
    "eq": "eq",
    "ne": "ne",
    "gt": "lt",
    "gte": "lte",
    "lt": "gt",
    "lte": "gte",
}
_ARITHMETIC = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "modulo"}
_WILD = re.compile(r"\*+|\?|[^*?]+")
_A: dict[Takes, str] = {
    "text": "a text",
    "number": "a number",
    "boolean": "true or false",
    "address": "an IP address",
    "network": 'an address or a network as a literal, as in "10.0.0.0/8"',
    "flag": "the literal true or false",
}


@frozen
class Operand:
    """An expression that is read, and what its own tree does not say."""

    expression: Expression
    span: Span
    _: KW_ONLY
    depth: int = 0
    is_constant: bool = False
    """No field takes part in it."""
    is_optional: bool = False
    """It is a field that is written `?name`."""


class Builder:
    """Raises QuerySyntaxError with the place in `text`."""

    def __init__(self, text: str) -> None:
        self.text = text

    # --- conditions ---

    def condition(self, operand: Operand) -> Node:
        """An operand where a condition must stand."""
        expression = operand.expression
        if kind_of(expression) not in ("boolean", "any"):
            self.fail(
                operand,
                f"{self.shown(operand)} is no condition: it is neither true nor false",
                "compare it with something, as in length(field) > 5",
            )
        match expression:
            case Condition(node):
                return node
            case FieldValue(name):
                return Is(name, Boolean(True, span=operand.span), exact=True)
            case Constant(value):
                return MATCH_ALL if value else NEVER
            case Call():
                return Holds(expression)

    def negation(self, operand: Operand) -> Operand:
        return self.made(_not(self.condition(operand)), operand)

    def junction(self, kind: type[And] | type[Or], operands: Sequence[Operand]) -> Operand:
        if len(operands) == 1:
            return operands[0]
        nodes = [self.condition(operand) for operand in operands]
        return self.made(_junction(kind, nodes), *operands)

    def made(self, node: Node, *operands: Operand) -> Operand:
        """A condition as an operand again."""
        span = operands[0].span[0], operands[-1].span[1]
        constant = all(operand.is_constant for operand in operands)
        depth = max(operand.depth for operand in operands)
        if isinstance(node, MatchAll):
            return Operand(Constant(True, span=span), span, is_constant=True)
        if node == NEVER:
            return Operand(Constant(False, span=span), span, is_constant=True)
        return Operand(Condition(node), span, depth=depth, is_constant=constant)

    # --- comparisons ---

    def comparison(self, left: Operand, op: Operator, right: Operand) -> Operand:
        if left.is_constant and not right.is_constant:
            left, op, right = right, _MIRRORED[op], left
            return replace(
                self.made(self.compare(left, op, right), left), span=_around(right, left)
            )
        return self.made(self.compare(left, op, right), left, right)

    def compare(self, left: Operand, op: Operator, right: Operand) -> Node:
        if op == "ne":
            return _not(self.compare(left, "eq", right))
        self.check_sides(left, op, right)
        one, other = left.expression, right.expression
        if not isinstance(other, Constant):
            return Compare(one, op, other)
        if isinstance(one, Constant):
            return MATCH_ALL if _compare(one.value, op, other.value) else NEVER
        value = other.value
        if value is None:
            if isinstance(one, FieldValue):
                return Not(Exists(one.name))
            return Compare(one, op, other)
        if isinstance(value, bool) and not isinstance(one, FieldValue):
            # Elasticsearch takes such a comparison away, so that null counts as false here, too.
            return self.condition(left) if value else _not(self.condition(left))
        return _leaf(one, op, other)

    def check_sides(self, left: Operand, op: Operator, right: Operand) -> None:
        if not right.is_constant and not (left.is_optional or right.is_optional):
            self.fail(
                right,
                "a field cannot be compared with another field, nor with what is made of one",
                "one side must be a literal",
            )
        kinds = kind_of(left.expression), kind_of(right.expression)
        if op != "eq" and "null" in kinds:
            self.fail(right, "null has no order", "only == null and != null ask for null")
        if op != "eq" and "boolean" in kinds:
            self.fail(right, "true and false have no order", "compare them with == or !=")
        if kinds[0] != kinds[1] and not {"any", "null"} & set(kinds):
            names = {"text": "a text", "number": "a number", "boolean": "true or false"}
            one, other = self.shown(left), self.shown(right)
            hint = "string(…) makes a text of a number, number(…) a number of a text"
            if "-" in one and isinstance(left.expression, Call):
                hint = "`-` takes away: a name that holds it stands in backticks"
            message = f"{one} is {names[kinds[0]]}, and {other} is {names[kinds[1]]}"
            self.fail(right, message, hint)

    def membership(self, left: Operand, items: Sequence[Operand]) -> Operand:
        """`in`: one of the items equals the left side."""
        for item in items:
            if not item.is_constant:
                self.fail(
                    item,
                    "a list holds only literals, no fields",
                    "a field cannot be compared with another field",
                )
            if kind_of(item.expression) == "null":
                self.fail(item, "a list cannot hold null", "add: or field == null")
        nodes = [self.compare(left, "eq", item) for item in items]
        return self.made(_junction(Or, nodes), left)

    def likeness(self, left: Operand, how: Likeness, literals: Sequence[Operand]) -> Operand:
        """`:`, `like`, `regex` and their kin, with one literal or a list."""
        nodes = [self.suits(left, how, literal) for literal in literals]
        return self.made(_junction(Or, nodes), left)

    def suits(self, left: Operand, how: Likeness, literal: Operand) -> Node:
        assert isinstance(literal.expression, Constant)
        value = literal.expression.value
        if value is None:
            self.fail(literal, f"null cannot follow `{how}`", "write field == null")
        if not isinstance(value, str):
            if how not in (":", "in~"):
                self.fail(literal, f"`{how}` takes texts only", "for other values write == or in")
            return self.compare(left, "eq", literal)
        if kind_of(left.expression) not in ("text", "any", "null"):
            self.fail(literal, f"{self.shown(left)} is no text", "compare it with == or <")
        made = _likeness(how, value, literal.span)
        if isinstance(made, Text):
            return self.compare(left, "eq", literal)
        if isinstance(left.expression, FieldValue):
            return Is(left.expression.name, made, exact=True)
        return Suits(left.expression, made)

    # --- values ---

    def field(self, name: str, span: Span, *, optional: bool) -> Operand:
        return Operand(FieldValue(Text(name, span=span)), span, is_optional=optional)

    def constant(self, token: Token) -> Operand:
        """A literal without a sign."""
        value: str | int | float | bool | None = token.value
        if token.kind == "word":
            value = {"true": True, "false": False, "null": None}[str(value)]
        elif value == LARGEST and isinstance(value, int):
            self.too_large(token)
        return Operand(Constant(value, span=token.span), token.span, is_constant=True)

    def signed(self, operand: Operand, start: int, *, is_negative: bool) -> Operand:
        expression = operand.expression
        span = start, operand.span[1]
        if isinstance(expression, Constant) and kind_of(expression) == "number":
            assert isinstance(expression.value, int | float)
            value = -expression.value if is_negative else expression.value
            if value == LARGEST and isinstance(value, int):
                self.too_large(operand)
            return replace(operand, expression=Constant(value, span=span), span=span)
        zero = Operand(Constant(0, span=(start, start)), (start, start), is_constant=True)
        return self.arithmetic(zero, "-" if is_negative else "+", operand)

    def smallest(self, span: Span) -> Operand:
        """The one whole number that is too large without its minus."""
        return Operand(Constant(-LARGEST, span=span), span, is_constant=True)

    def arithmetic(self, left: Operand, symbol: str, right: Operand) -> Operand:
        name = _ARITHMETIC[symbol]
        for side in (left, right):
            if kind_of(side.expression) not in ("number", "any", "null"):
                hint = "number(…) makes a number of a text"
                if isinstance(side.expression, Condition):
                    hint = (
                        "a condition within a sum stands in brackets, a sum within a condition, too"
                    )
                self.fail(side, f"`{symbol}` takes numbers, and {self.shown(side)} is none", hint)
        return self.called(name, (left, right), (left.span[0], right.span[1]))

    def call(self, token: Token, args: Sequence[Operand], end: int) -> Operand:
        written = str(token.value)
        function = self.function(token)
        span = token.span[0], end
        if not function.suits_count(len(args)):
            self.fail(token, f"{function.spelled} takes {function.counted()}, not {len(args)}")
        for index, arg in enumerate(args):
            self.check_argument(function, index, arg)
        return self.called(function.name, args, span, ignore_case=written.endswith("~"))

    def function(self, token: Token) -> Function:
        written = str(token.value)
        name = written.rstrip("~")
        function = FUNCTIONS.get(name.lower())
        if function is None:
            if instead := GONE.get(name.lower()):
                self.fail(token, f"Elasticsearch has no function {name}", instead)
            self.fail(token, f"there is no function {name}", _closest(name))
        if written.endswith("~") and not function.may_ignore_case:
            capable = ", ".join(each.spelled for each in FUNCTIONS.values() if each.may_ignore_case)
            self.fail(token, f"{name} has no form that ignores case", f"these have: {capable}")
        return function

    def check_argument(self, function: Function, index: int, arg: Operand) -> None:
        takes = function.takes_at(index)
        kind = kind_of(arg.expression)
        wanted: dict[Takes, str] = {"address": "text", "network": "text", "flag": "boolean"}
        is_wrong = takes != "any" and kind not in (wanted.get(takes, takes), "any", "null")
        if takes in ("network", "flag"):
            is_wrong = is_wrong or not isinstance(arg.expression, Constant) or kind == "null"
        if takes == "network" and isinstance(arg.expression, Constant):
            value = arg.expression.value
            is_wrong = not isinstance(value, str) or parse_span(value) is None
        if is_wrong:
            self.fail(arg, f"argument {index + 1} of {function.spelled} must be {_A[takes]}")

    def called(
        self, name: str, args: Sequence[Operand], span: Span, *, ignore_case: bool = False
    ) -> Operand:
        depth = 1 + max((arg.depth for arg in args), default=0)
        if depth > MAX_NESTING:
            fail(
                self.text, span[0], f"calls and sums lie more than {MAX_NESTING} deep in each other"
            )
        constant = all(arg.is_constant for arg in args)
        expressions = tuple(arg.expression for arg in args)
        if name in _FOLDED and (folded := _fold(name, expressions)) is not None:
            return Operand(Constant(folded, span=span), span, is_constant=True)
        call = Call(name, expressions, ignore_case, span=span)
        return Operand(call, span, depth=depth, is_constant=constant)

    # --- mistakes ---

    def shown(self, operand: Operand) -> str:
        written = self.text[slice(*operand.span)]
        return written if len(written) <= 40 and written.isprintable() else "this"

    def too_large(self, where: Operand | Token) -> NoReturn:
        self.fail(where, "the number is too large", "whole numbers have 64 bits")

    def fail(self, where: Operand | Token, message: str, hint: str | None = None) -> NoReturn:
        fail(self.text, where.span[0], message, hint)


def pattern_of(text: str, *, ignore_case: bool, span: Span) -> Pattern:
    """`*` and `?` are wildcards, and nothing escapes them. `**` asks for no more than `*`."""
    tokens: list[str | Wild] = []
    for piece in _WILD.findall(text):
        if piece[0] == "*":
            tokens.append(Wild.RUN)
        else:
            tokens.append(Wild.CHAR if piece == "?" else piece)
    return Pattern(tuple(tokens), ignore_case, span=span)


def _likeness(how: Likeness, text: str, span: Span) -> Pattern | RegExp | Text:
    if how in ("regex", "regex~"):
        return RegExp(text, how == "regex~", span=span)
    if how == "in~":
        return Pattern((text,) if text else (), True, span=span)
    if how == "like" and not set("*?") & set(text):
        return Text(text, quoted=True, span=span)
    return pattern_of(text, ignore_case=how != "like", span=span)


def _leaf(one: Expression, op: CompareOp, other: Constant) -> Node:
    value, span = other.value, other.span
    if not isinstance(one, FieldValue):
        return Compare(one, op, other)
    if isinstance(value, bool):
        return Is(one.name, Boolean(value, span=span), exact=True)
    assert value is not None
    literal = (
        Text(value, quoted=True, span=span) if isinstance(value, str) else Number(value, span=span)
    )
    if op == "eq":
        return Is(one.name, literal, exact=True)
    return Range(one.name, op, literal, exact=True)


def _not(node: Node) -> Node:
    return node.child if isinstance(node, Not) else Not(node)


def _junction(kind: type[And] | type[Or], nodes: Sequence[Node]) -> Node:
    """Flat, without what changes nothing: `true` in a conjunction, `false` in a disjunction."""
    nothing, all_of_it = (MATCH_ALL, NEVER) if kind is And else (NEVER, MATCH_ALL)
    children: list[Node] = []
    for node in nodes:
        if node == all_of_it:
            return all_of_it
        if isinstance(node, kind):
            children.extend(node.children)
        elif node != nothing:
            children.append(node)
    if len(children) < 2:
        return children[0] if children else nothing
    return kind(tuple(children))


def _around(first: Operand, last: Operand) -> Span:
    return first.span[0], last.span[1]


def _compare(
    one: str | float | bool | None, op: CompareOp, other: str | float | bool | None
) -> bool:
    if op == "eq":
        return one == other and (one is None) == (other is None)
    if isinstance(one, str) and isinstance(other, str):
        sides: tuple[bytes, bytes] | tuple[float, float] = one.encode(), other.encode()
    else:
        assert isinstance(one, int | float)
        assert isinstance(other, int | float)
        sides = one, other
    order = (sides[0] > sides[1]) - (sides[0] < sides[1])  # type: ignore[operator]  # alike
    return {"gt": order > 0, "gte": order >= 0, "lt": order < 0, "lte": order <= 0}[op]


def _divide(one: float, other: float) -> float:
    if isinstance(one, int) and isinstance(other, int):
        quotient = abs(one) // abs(other)
        return quotient if (one < 0) == (other < 0) else -quotient
    return one / other


def _modulo(one: float, other: float) -> float:
    if isinstance(one, int) and isinstance(other, int):
        rest = abs(one) % abs(other)
        return -rest if one < 0 else rest
    return fmod(one, other)


_FOLDED: dict[str, Callable[[float, float], float]] = {
    "add": lambda one, other: one + other,
    "subtract": lambda one, other: one - other,
    "multiply": lambda one, other: one * other,
    "divide": _divide,
    "modulo": _modulo,
}


def _fold(name: str, args: Sequence[Expression]) -> int | float | None:
    """The result where both are literal numbers and it is a number that can be written."""
    one, other = args
    if not (isinstance(one, Constant) and isinstance(other, Constant)):
        return None
    if kind_of(one) != "number" or kind_of(other) != "number":
        return None
    assert isinstance(one.value, int | float)
    assert isinstance(other.value, int | float)
    try:
        result = _FOLDED[name](one.value, other.value)
    except (ZeroDivisionError, OverflowError, ValueError):
        return None
    if isinstance(result, int):
        return result if -LARGEST <= result < LARGEST else None
    return result if isfinite(result) else None


def _closest(name: str) -> str | None:
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), FUNCTIONS, n=1, cutoff=0.7)
    return f"did you mean {FUNCTIONS[near[0]].spelled}?" if near else None
