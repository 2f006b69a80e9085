"""An expression tree to text: back to KQL, or to something near it for a person to read.

Conditions on one field are written as a list of its values where that needs no brackets
within the list: `f:(a or b)` parses to the same tree as `f:a or f:b`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from barrelman.errors import TimeError
from barrelman.query.ast import (
    And,
    Before,
    Boolean,
    Call,
    Compare,
    Condition,
    Constant,
    Exists,
    Expression,
    FieldName,
    FieldValue,
    Fuzzy,
    Holds,
    Is,
    MatchAll,
    Near,
    Nested,
    Node,
    Not,
    Null,
    Number,
    Or,
    Pattern,
    Range,
    RegExp,
    Suits,
    Text,
    Value,
    Wild,
    Within,
)
from barrelman.query.kql import SPECIAL, trim
from barrelman.records.frozen import frozen
from barrelman.records.times import format_instant

# How tightly a text holds together: an operand no tighter than its operator needs brackets.
_OR, _AND, _NOT, _ATOM = range(4)

_SYMBOLS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "eq": "=="}
_ARITHMETIC = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "modulo": "%"}
_TYPED_WORDS = ("null", "true", "false")
_CONTROLS = {"\t": r"\t", "\r": r"\r", "\n": r"\n"}

_ESCAPED = re.compile(rf"[{re.escape(SPECIAL)}]|[^\x20-\x7e]")
_ESCAPED_IN_QUOTES = re.compile(r'["\\]|[^\x20-\x7e]')
# Over text that is escaped already: of all whitespace only spaces are left in it, and an
# escape is matched whole so that no word is found to begin in one (`\n` before "ot").
_KEYWORD = re.compile(
    r"\\u[0-9a-f]{4}|\\.|(?<![^ ])(?P<joiner>and|or)(?![^ ])|(?P<negator>not)(?![^ ])",
    re.IGNORECASE,
)


def render_kql(node: Node) -> str:
    """Canonical KQL: `parse_kql` makes an equal tree of it.

    Raises ValueError for a tree that KQL cannot express.
    """
    return "" if isinstance(node, MatchAll) else _fold(node, _Kql())


def describe(node: Node) -> str:
    """Any tree in KQL's manner, also what KQL has no words for. Raises nothing."""
    # Half a surrogate pair would stop whoever prints the text.
    return _fold(node, _Prose()).encode(errors="backslashreplace").decode()


@frozen
class _Piece:
    """The text of a subtree; where it is about one field alone, also its values apart."""

    text: str
    binding: int = _ATOM
    field: FieldName | None = None
    values: str = ""
    values_binding: int = _ATOM


class _Kql:
    """Each spelling parses back to what it spells; ValueError where there is none."""

    def name(self, field: FieldName) -> str:
        if isinstance(field, Pattern):
            return self.pattern(field)
        _check_characters(field.value)
        if field.quoted:
            return _quote(field.value)
        if "".join(map(str, trim([field.value]))) != field.value:
            raise ValueError(f"KQL trims unquoted text: {field.value!r}")
        return _escape([field.value])

    def pattern(self, pattern: Pattern) -> str:
        tokens = pattern.tokens
        if pattern.ignore_case or Wild.CHAR in tokens:
            raise ValueError("KQL has neither `?` nor patterns that ignore case")
        if Wild.RUN not in tokens or trim(_joined(tokens)) != tokens:
            raise ValueError(f"no KQL text makes a pattern of {tokens}")
        _check_characters("".join(token for token in tokens if isinstance(token, str)))
        return _escape(tokens)

    def value(self, value: Value) -> str:
        if isinstance(value, Null | Boolean):
            return _typed_word(value)
        if isinstance(value, Text) and not value.quoted and value.value in _TYPED_WORDS:
            raise ValueError(f"in KQL, unquoted {value.value} is not text")
        if isinstance(value, Text | Pattern):
            return self.name(value)
        raise ValueError(f"KQL has no {type(value).__name__}")

    def bound(self, value: Text | Pattern | Number) -> str:
        if isinstance(value, Number):
            raise ValueError("in KQL, numbers are texts")
        if value == Text("null"):
            raise ValueError("in KQL, unquoted null is not text")
        return self.name(value)

    def leaf(self, node: Is | Range) -> None:
        if node.exact:
            raise ValueError("KQL compares texts and numbers in its own way")

    def condition(self, node: Node) -> _Piece:
        raise ValueError(f"KQL cannot express {type(node).__name__} here")

    def join(self, binding: int) -> _Piece:
        raise ValueError("KQL joins two conditions or more")


class _Prose(_Kql):
    """Each spelling is the nearest that a reader of KQL understands."""

    def name(self, field: FieldName) -> str:
        if isinstance(field, Pattern):
            return self.pattern(field)
        unquoted = not field.quoted and trim([field.value]) == (field.value,)
        return _escape([field.value]) if unquoted else _quote(field.value)

    def pattern(self, pattern: Pattern) -> str:
        text = _escape(pattern.tokens)
        return f"{text} (any case)" if pattern.ignore_case else text

    def value(self, value: Value) -> str:
        if isinstance(value, Text) and value.value in _TYPED_WORDS:
            return _quote(value.value)
        if isinstance(value, Null | Boolean):
            return _typed_word(value)
        return self.name(value) if isinstance(value, Text | Pattern) else _value(value)

    def bound(self, value: Text | Pattern | Number) -> str:
        if isinstance(value, Number):
            return str(value.value)
        return _quote(value.value) if value == Text("null") else self.name(value)

    def leaf(self, node: Is | Range) -> None:
        pass

    def condition(self, node: Node) -> _Piece:
        if isinstance(node, Exists):
            return _Piece(f"{self.name(node.field)}:*", _ATOM, node.field, "*")
        if isinstance(node, Before):
            return _Piece(f"before {_instant(node.epoch_ms)}")
        if isinstance(node, Within):
            name = self.name(node.field)
            bounds = (f"{_SYMBOLS[op]} {self.bound(value)}" for op, value in node.bounds)
            return _Piece(f"one value of {name} {' and '.join(bounds)}", _AND)
        if isinstance(node, Compare):
            left, right = _expression(node.left), _expression(node.right)
            return _Piece(f"{left} {_SYMBOLS[node.op]} {right}")
        if isinstance(node, Suits):
            return _Piece(f"{_expression(node.expression)}:{self.value(node.value)}")
        if isinstance(node, Holds):
            return _Piece(_expression(node.expression))
        return _Piece("*:*")

    def join(self, binding: int) -> _Piece:
        return _Piece("*:*") if binding == _AND else _Piece("not *:*", _NOT)


def _expression(expression: Expression) -> str:
    """In EQL's manner."""
    match expression:
        case FieldValue(Text(name)):
            return name
        case Constant(value):
            return _quote(value) if isinstance(value, str) else json.dumps(value)
        case Condition(node):
            return f"({describe(node)})"
        case Call(name, (left, right)) if name in _ARITHMETIC:
            return f"({_expression(left)} {_ARITHMETIC[name]} {_expression(right)})"
        case Call(name, args, ignore_case):
            tilde = "~" if ignore_case else ""
            return f"{name}{tilde}({', '.join(map(_expression, args))})"


def _value(value: Number | RegExp | Fuzzy | Near) -> str:
    match value:
        case Number(number):
            return str(number)
        case RegExp(source, ignore_case):
            text = source.replace("/", r"\/")
            return f"/{text}/ (any case)" if ignore_case else f"/{text}/"
        case Fuzzy(text, edits):
            return f"{_escape([text])}~{edits}"
        case Near(text, slop):
            return f"{_quote(text)}~{slop}"


def _fold(root: Node, spelling: _Kql) -> str:
    """Works from the leaves up without recursion, so no tree is too deep for it."""
    order: list[Node] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        order.append(node)
        waiting.extend(_children(node))
    pieces: dict[int, _Piece] = {}
    for node in reversed(order):
        below = [pieces[id(child)] for child in _children(node)]
        pieces[id(node)] = _combine(node, below, spelling)
    return pieces[id(root)].text


def _children(node: Node) -> Sequence[Node]:
    if isinstance(node, And | Or):
        return node.children
    return (node.child,) if isinstance(node, Not | Nested) else ()


def _combine(node: Node, below: list[_Piece], spelling: _Kql) -> _Piece:
    match node:
        case And():
            return _join(below, _AND, spelling)
        case Or():
            return _join(below, _OR, spelling)
        case Not():
            return _negate(below[0])
        case Nested(path=path):
            return _Piece(f"{spelling.name(path)}:{{ {below[0].text} }}")
        case Range(field=field, op=op, value=bound):
            spelling.leaf(node)
            return _Piece(f"{spelling.name(field)} {_SYMBOLS[op]} {spelling.bound(bound)}")
        case Is(field=field, value=value):
            spelling.leaf(node)
            text = spelling.value(value)
            if field is None:
                return _Piece(text)
            return _Piece(f"{spelling.name(field)}:{text}", _ATOM, field, text)
        case _:
            return spelling.condition(node)


def _join(pieces: list[_Piece], binding: int, spelling: _Kql) -> _Piece:
    if len(pieces) < 2:
        nothing = spelling.join(binding)
        return pieces[0] if pieces else nothing
    word = " and " if binding == _AND else " or "
    field = pieces[0].field
    if field is None or any(
        piece.field != field or piece.values_binding <= binding for piece in pieces
    ):
        return _Piece(word.join(_bracketed(piece, binding) for piece in pieces), binding)
    values = word.join(piece.values for piece in pieces)
    return _Piece(f"{spelling.name(field)}:({values})", _ATOM, field, values, binding)


def _negate(piece: _Piece) -> _Piece:
    text = f"not {_bracketed(piece, _NOT)}"
    if piece.field is None or piece.values_binding <= _NOT:
        return _Piece(text, _NOT)
    return _Piece(text, _NOT, piece.field, f"not {piece.values}", _NOT)


def _bracketed(piece: _Piece, binding: int) -> str:
    return f"({piece.text})" if piece.binding <= binding else piece.text


def _joined(tokens: Sequence[str | Wild]) -> list[str | Wild]:
    joined: list[str | Wild] = []
    for token in tokens:
        last = joined[-1] if joined else None
        if isinstance(token, str) and isinstance(last, str):
            joined[-1] = last + token
        elif token:
            joined.append(token)
    return joined


def _check_characters(text: str) -> None:
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError(f"KQL cannot express half of a surrogate pair: {text!r}")


def _typed_word(value: Null | Boolean) -> str:
    return "null" if isinstance(value, Null) else str(value.value).lower()


def _escape(tokens: Sequence[str | Wild]) -> str:
    """Unquoted text. A `?` is a wildcard only beside a wildcard of that kind."""
    escaped = []
    for token in tokens:
        if isinstance(token, Wild):
            escaped.append(token.value)
            continue
        text = _ESCAPED.sub(_escape_character, token)
        escaped.append(text.replace("?", r"\?") if Wild.CHAR in tokens else text)
    return _KEYWORD.sub(_escape_keyword, "".join(escaped)) or r"\t"  # trimmed: the empty text


def _quote(text: str) -> str:
    return f'"{_ESCAPED_IN_QUOTES.sub(_escape_character, text)}"'


def _escape_character(match: re.Match[str]) -> str:
    char = match[0]
    if char in _CONTROLS:
        return _CONTROLS[char]
    if char.isascii() and char.isprintable():
        return f"\\{char}"
    if char.isprintable() or "\ud800" <= char <= "\udfff":
        return char
    units = char.encode("utf-16-be").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def _escape_keyword(match: re.Match[str]) -> str:
    word = match[0]
    if match["joiner"]:
        return f"\\{word}"
    if match["negator"]:  # `\n` is a line feed
        return f"\\u006e{word[1:]}" if word.startswith("n") else f"\\{word}"
    return word


def _instant(epoch_ms: int) -> str:
    try:
        return format_instant(epoch_ms)
    except TimeError:
        return f"{epoch_ms} ms after 1970"
