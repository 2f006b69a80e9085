"""EQL queries back to text.

The text is canonical: lists instead of `or` where one field is meant, `!=` instead of `not`, sums
in symbols, common keys before the stages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from barrelman.errors import QueryError
from barrelman.query.ast import (
    MATCH_ALL,
    And,
    Boolean,
    Call,
    Compare,
    Condition,
    Constant,
    Exists,
    Expression,
    FieldValue,
    Holds,
    Is,
    Node,
    Not,
    Number,
    Or,
    Pattern,
    Range,
    RegExp,
    Suits,
    Text,
    Value,
    Wild,
)
from barrelman.query.eql import parse_eql
from barrelman.query.eqlcalls import FUNCTIONS, is_foldable
from barrelman.query.eqllex import RESERVED
from barrelman.query.eqltree import EqlQuery, EventFilter, FieldUse, Sample, Stage

# How firmly a text holds together: what is no firmer than its place needs brackets.
_OR, _AND, _NOT, _COMPARISON, _SUM, _PRODUCT, _ATOM = range(7)

_SYMBOLS = {"eq": "==", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_ARITHMETIC = {
    "add": ("+", _SUM),
    "subtract": ("-", _SUM),
    "multiply": ("*", _PRODUCT),
    "divide": ("/", _PRODUCT),
    "modulo": ("%", _PRODUCT),
}
_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))
_PLAIN_NAME = re.compile(r"[A-Za-z_@][A-Za-z0-9_]*(?:\.[A-Za-z_@][A-Za-z0-9_]*)*")
_ESCAPES = {'"': r"\"", "\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


def render_eql(query: EqlQuery) -> str:
    """Canonical EQL: `parse_eql` makes an equal query of it.

    Raises ValueError for a query that EQL cannot express.
    """
    text = _Writer(query).query(query)
    try:
        parsed = parse_eql(text)
    except QueryError as error:
        raise ValueError(f"EQL cannot express this: {error.message}") from None
    if parsed != query:
        raise ValueError(f"EQL cannot express this exactly: {text}")
    return text


class _Writer:
    def __init__(self, query: EqlQuery) -> None:
        self.optional = {use.name for use in query.fields if use.optional}

    # --- the whole ---

    def query(self, query: EqlQuery) -> str:
        top = query.top
        lines = [self.filter(top)] if isinstance(top, EventFilter) else self.stages(query)
        return "\n".join([*lines, *(f"| {pipe.name} {pipe.count}" for pipe in query.pipes)])

    def filter(self, event_filter: EventFilter) -> str:
        category = event_filter.category
        if category is None:
            word = "any"
        elif re.fullmatch(r"[A-Za-z_@][A-Za-z0-9_]*", category) and category not in RESERVED:
            word = category
        else:
            word = _quote(category)
        return f"{word} where {self.node(event_filter.where)}"

    def stages(self, query: EqlQuery) -> list[str]:
        top = query.top
        assert not isinstance(top, EventFilter)
        until = None if isinstance(top, Sample) else top.until
        maxspan_ms = None if isinstance(top, Sample) else top.maxspan_ms
        stages = [*top.stages, *([until] if until else [])]
        shared = 0
        for same in zip(*(stage.keys for stage in stages), strict=False):
            if len(set(same)) > 1:
                break
            shared += 1
        first = "sample" if isinstance(top, Sample) else "sequence"
        first += self.by(stages[0].keys[:shared])
        if maxspan_ms is not None:
            unit, unit_ms = next(each for each in _UNITS if maxspan_ms % each[1] == 0)
            first += f" with maxspan={maxspan_ms // unit_ms}{unit}"
        lines = [first, *(f"  {self.stage(stage, shared)}" for stage in top.stages)]
        return [*lines, f"until {self.stage(until, shared)}"] if until else lines

    def stage(self, stage: Stage, shared: int) -> str:
        runs = f" with runs={stage.runs}" if stage.runs > 1 else ""
        opener = "![" if stage.is_missing else "["
        return f"{opener}{self.filter(stage.filter)}]{self.by(stage.keys[shared:])}{runs}"

    def by(self, keys: Iterable[FieldUse]) -> str:
        names = [f"{'?' if key.optional else ''}{_name(key.name)}" for key in keys]
        return f" by {', '.join(names)}" if names else ""

    def field(self, name: object) -> str:
        if not isinstance(name, Text):
            raise ValueError("EQL has no wildcards in the names of fields")
        return f"{'?' if name.value in self.optional else ''}{_name(name.value)}"

    # --- conditions ---

    def node(self, node: Node, binding: int = _OR - 1) -> str:
        text, own = self.piece(node)
        return f"({text})" if own <= binding else text

    def piece(self, node: Node) -> tuple[str, int]:
        match node:
            case Or(children):
                parts = [self.alternative(*each) for each in _grouped(children)]
                joined = " or ".join(text if own > _OR else f"({text})" for text, own in parts)
                return joined, parts[0][1] if len(parts) == 1 else _OR
            case And(children):
                return " and ".join(self.node(child, _AND) for child in children), _AND
            case Not(child):
                return self.negation(child)
            case Holds(expression):
                return self.expression(expression)
            case Compare(left, op, right):
                return self.comparison(left, _SYMBOLS[op], right)
            case Range(field, op, value):
                return f"{self.field(field)} {_SYMBOLS[op]} {_literal(value)}", _COMPARISON
            case Exists(field):
                return f"{self.field(field)} != null", _COMPARISON
            case Is() | Suits():
                return self.leaf(node)
            case _ if node == MATCH_ALL:
                return "true", _ATOM
            case _:
                raise ValueError(f"EQL cannot express {type(node).__name__}")

    def negation(self, child: Node) -> tuple[str, int]:
        if child == MATCH_ALL:
            return "false", _ATOM
        if isinstance(child, Exists):
            return f"{self.field(child.field)} == null", _COMPARISON
        if isinstance(child, Is) and isinstance(child.value, Text | Number | Boolean):
            return f"{self.field(child.field)} != {_literal(child.value)}", _COMPARISON
        if isinstance(child, Compare) and child.op == "eq":
            return self.comparison(child.left, "!=", child.right)
        text, own = self.piece(child)
        return f"not {text if own > _NOT else f'({text})'}", _NOT

    def alternative(self, style: str, nodes: Sequence[Node]) -> tuple[str, int]:
        """Conditions that differ in their values alone, as a list."""
        if len(nodes) == 1:
            return self.piece(nodes[0])
        leaves = [node for node in nodes if isinstance(node, Is | Suits)]
        values = ", ".join(_value(leaf.value) for leaf in leaves)
        return f"{self.subject(leaves[0])} {style} ({values})", _COMPARISON

    def leaf(self, leaf: Is | Suits) -> tuple[str, int]:
        style = _style(leaf)
        value = _value(leaf.value)
        if style == "in":
            return f"{self.subject(leaf)} == {value}", _COMPARISON
        value = f"({value})" if style == "in~" else value
        return f"{self.subject(leaf)} {style} {value}", _COMPARISON

    def subject(self, leaf: Is | Suits) -> str:
        if isinstance(leaf, Suits):
            return self.within(leaf.expression, _PRODUCT)
        return self.field(leaf.field)

    # --- expressions ---

    def within(self, expression: Expression, binding: int) -> str:
        text, own = self.expression(expression)
        return f"({text})" if own <= binding else text

    def comparison(self, left: Expression, symbol: str, right: Expression) -> tuple[str, int]:
        """Two fields are compared only where they are optional."""
        sides = [
            f"?{_name(side.name.value)}"
            if isinstance(side, FieldValue) and not is_foldable(right)
            else self.within(side, _COMPARISON)
            for side in (left, right)
        ]
        return f"{sides[0]} {symbol} {sides[1]}", _COMPARISON

    def expression(self, expression: Expression) -> tuple[str, int]:
        match expression:
            case FieldValue(name):
                return self.field(name), _ATOM
            case Constant(value):
                return _constant(value), _ATOM
            case Condition(node):
                return self.piece(node)
            case Call(name, args) if name in _ARITHMETIC:
                symbol, own = _ARITHMETIC[name]
                left, right = self.within(args[0], own - 1), self.within(args[1], own)
                return f"{left} {symbol} {right}", own
            case Call(name, args, ignore_case):
                written = ", ".join(self.within(arg, _OR - 1) for arg in args)
                return f"{FUNCTIONS[name].spelled}{'~' * ignore_case}({written})", _ATOM


def _grouped(nodes: Iterable[Node]) -> list[tuple[str, list[Node]]]:
    """Neighbours that make a list, each with the word before it."""

    def key(node: Node) -> object:
        if not isinstance(node, Is | Suits):
            return id(node)
        return _style(node), node.field if isinstance(node, Is) else node.expression

    groups = [list(group) for _, group in groupby(nodes, key)]
    return [(_style(group[0]), group) for group in groups]


def _style(node: Node) -> str:
    if not isinstance(node, Is | Suits):
        return ""
    value = node.value
    if isinstance(value, RegExp):
        return "regex~" if value.ignore_case else "regex"
    if not isinstance(value, Pattern):
        return "in"
    if not value.ignore_case:
        return "like"
    has_signs = any(isinstance(token, str) and set("*?") & set(token) for token in value.tokens)
    return "in~" if has_signs else ":"


def _value(value: Value) -> str:
    if isinstance(value, Pattern):
        return _quote("".join(t.value if isinstance(t, Wild) else t for t in value.tokens))
    if isinstance(value, RegExp):
        return _quote(value.source)
    if isinstance(value, Text | Number | Boolean):
        return _literal(value)
    raise ValueError(f"EQL cannot express {type(value).__name__}")


def _literal(value: Text | Pattern | Number | Boolean) -> str:
    if isinstance(value, Pattern):
        raise ValueError("EQL has no bounds with wildcards")
    return _constant(value.value)


def _constant(value: str | int | float | bool | None) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quote(value) if isinstance(value, str) else repr(value)


def _name(name: str) -> str:
    if _PLAIN_NAME.fullmatch(name) and name.partition(".")[0] not in RESERVED:
        return name
    if not name:
        raise ValueError("a field without a name")
    return f"`{name.replace('`', '``')}`"


def _quote(text: str) -> str:
    return f'"{"".join(map(_escape, text))}"'


def _escape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    return char if char.isprintable() else f"\\u{{{ord(char):04x}}}"
