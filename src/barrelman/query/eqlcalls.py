"""The functions of EQL: how each is spelled, what it takes and what it gives."""

from __future__ import annotations

from typing import Literal, TypeAlias

from barrelman.query.ast import (
    And,
    Call,
    Compare,
    Condition,
    Constant,
    Expression,
    FieldValue,
    Holds,
    MatchAll,
    Node,
    Not,
    Or,
    Suits,
)
from barrelman.records.frozen import frozen

Kind: TypeAlias = Literal["text", "number", "boolean", "null", "any"]
"""`any`: a field, or what takes every value."""

Takes: TypeAlias = Literal["text", "number", "boolean", "any", "address", "network", "flag"]
"""What an argument must be. A network and a flag are constants."""


@frozen
class Function:
    name: str
    """In lower case: a name's case does not matter."""
    spelled: str
    takes: tuple[Takes, ...]
    gives: Kind
    least: int
    """How many arguments it needs; those behind them may be left out."""
    repeats: bool = False
    """Whether the last argument may come any number of times."""
    may_ignore_case: bool = False

    def takes_at(self, index: int) -> Takes:
        return self.takes[min(index, len(self.takes) - 1)]

    def suits_count(self, count: int) -> bool:
        return count >= self.least and (self.repeats or count <= len(self.takes))

    def counted(self) -> str:
        """How many arguments it takes, in words."""
        most = len(self.takes)
        if self.repeats:
            return f"{self.least} arguments or more" if self.least > 1 else "1 argument or more"
        if self.least == most:
            return f"{most} argument{'s' if most > 1 else ''}"
        return f"{self.least} to {most} arguments"


def _arithmetic(name: str) -> Function:
    return Function(name, name, ("number", "number"), "number", 2)


_ALL = (
    Function(
        "between",
        "between",
        ("text", "text", "text", "flag"),
        "text",
        3,
        may_ignore_case=True,
    ),
    Function("cidrmatch", "cidrMatch", ("address", "network"), "boolean", 2, repeats=True),
    Function("concat", "concat", ("any",), "text", 1, repeats=True),
    Function("endswith", "endsWith", ("text", "text"), "boolean", 2, may_ignore_case=True),
    Function("indexof", "indexOf", ("text", "text", "number"), "number", 2, may_ignore_case=True),
    Function("length", "length", ("text",), "number", 1),
    Function("number", "number", ("text", "number"), "number", 1),
    Function("startswith", "startsWith", ("text", "text"), "boolean", 2, may_ignore_case=True),
    Function("string", "string", ("any",), "text", 1),
    Function(
        "stringcontains", "stringContains", ("text", "text"), "boolean", 2, may_ignore_case=True
    ),
    Function("substring", "substring", ("text", "number", "number"), "text", 2),
    *map(_arithmetic, ("add", "subtract", "multiply", "divide", "modulo")),
)

FUNCTIONS = {each.name: each for each in _ALL}

GONE = {
    "wildcard": 'write field like~ ("a*", "b?")',
    "match": 'write field regex~ ("…", "…")',
    "matchlite": 'write field regex~ ("…", "…")',
    "arraycontains": "a comparison with an array asks for any of its values",
    "arraysearch": "a comparison with an array asks for any of its values",
    "arraycount": "Elasticsearch keeps no count of an array's values",
    "safe": "a missing field makes no condition fail",
}
"""Functions of other dialects and of earlier versions, and what takes their place."""


def kind_of(expression: Expression) -> Kind:
    """What kind of value an expression has, so far as that shows without types of fields."""
    match expression:
        case Constant(value):
            return kind_of_value(value)
        case Call(name):
            return FUNCTIONS[name].gives
        case Condition():
            return "boolean"
        case FieldValue():
            return "any"


def kind_of_value(value: str | int | float | bool | None) -> Kind:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


def is_foldable(expression: Expression) -> bool:
    """Whether no field takes part in it: it has one value for all events."""
    waiting: list[Expression | Node] = [expression]
    while waiting:
        match waiting.pop():
            case Constant() | MatchAll():
                pass
            case Call(args=parts) | And(parts) | Or(parts):
                waiting.extend(parts)
            case Condition(part) | Not(part) | Holds(part) | Suits(part):
                waiting.append(part)
            case Compare(left, _, right):
                waiting += (left, right)
            case _:
                return False
    return True
