"""What computed conditions (Compare, Suits, Holds) are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from barrelman.query.ast import (
    Call,
    Compare,
    Condition,
    Constant,
    Expression,
    FieldValue,
    Holds,
    Node,
    Suits,
    Text,
)

Computed: TypeAlias = Compare | Suits | Holds


def operands_of(node: Computed) -> Iterator[FieldValue | Node]:
    """Every field that is read by itself, and every condition that is taken as a value."""
    waiting: list[Expression] = [*_sides(node)]
    while waiting:
        match waiting.pop():
            case Call(_, args):
                waiting.extend(args)
            case Condition(inner):
                yield inner
            case FieldValue() as field:
                yield field
            case Constant():
                pass


def fields_needed(node: Computed) -> tuple[Text, ...]:
    """The fields without any of which the condition is not met, since it is null then."""
    if isinstance(node, Compare) and node.op == "eq":
        # Two nulls are equal: each side needs its fields only where the other is not null.
        sides = [
            side
            for side, other in ((node.left, node.right), (node.right, node.left))
            if isinstance(other, Constant) and other.value is not None
        ]
    else:
        sides = [*_sides(node)]
    found: dict[Text, None] = {}
    while sides:
        match sides.pop(0):
            case Call(_, args):
                sides.extend(args)
            case FieldValue(name):
                found[name] = None
    return tuple(found)


def _sides(node: Computed) -> tuple[Expression, ...]:
    if isinstance(node, Compare):
        return node.left, node.right
    return (node.expression,)
