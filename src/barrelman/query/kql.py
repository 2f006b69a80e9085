"""KQL text to an expression tree.

The language is an ordered-choice grammar, but none of its choices needs a second try: what
follows a literal (`:`, `:{`, a comparison, or neither) settles which form it starts, and
no form that fails could have been read another way. So this is one pass, in linear time.

Three of its habits surprise. Unquoted text runs on over spaces (`foo:a b` is one value).
`and` and `or` are keywords only between whitespace, so `foo:bar and` is a value that ends
in "and". `not` before whitespace is a keyword even at the end of a word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal as Choice

from barrelman.errors import QuerySyntaxError
from barrelman.query import mistakes
from barrelman.query.ast import (
    MATCH_ALL,
    And,
    Boolean,
    FieldName,
    Is,
    Nested,
    Node,
    Not,
    Null,
    Or,
    Pattern,
    Range,
    RangeOp,
    Text,
    Value,
    Wild,
)
from barrelman.records.frozen import frozen

SPECIAL = '\\():<>"*{}'
"""What unquoted text must escape with a backslash."""

SPACE = " \t\r\n\xa0"
"""The whitespace that separates words."""

TRIMMED = (
    "\t\n\v\f\r \xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""The characters unquoted text loses at its ends: more than separate words, as in Kibana."""

MAX_NESTING = 50
"""How many brackets may be open at once, the one right after `field:` not counted.

Elasticsearch refuses a query of more than 30 nested boolean levels. A tree within this limit
is at most 4 nodes deep per bracket, which recursion in later stages bears.
"""

_OPERATORS: dict[str, RangeOp] = {"<=": "lte", ">=": "gte", "<": "lt", ">": "gt"}
_CONTROLS = {"t": "\t", "r": "\r", "n": "\n"}

_WS = r"[ \t\r\n\xa0]"
_HEX2 = "[0-9a-fA-F]{2}"
_CODE = rf"u(?P<pair>[dD][89abAB]{_HEX2}\\u[dD][c-fC-F]{_HEX2})|u(?P<code>{_HEX2}{_HEX2})"
_SPACES = re.compile(f"{_WS}*+")
_CONNECTIVE = re.compile(f"{_WS}++(?P<word>and|or){_WS}++", re.IGNORECASE)
_NOT = re.compile(f"not{_WS}++", re.IGNORECASE)
_OPERATOR = re.compile("[<>]=?")
_QUOTED = re.compile(r'"(?P<body>[^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_QUOTED_ESCAPE = re.compile(rf"""\\(?:(?P<control>[trn])|{_CODE}|(?P<special>[\\"]))""")
# Escapes come in this order on purpose: `\not` is a line feed and "ot", as in Kibana.
_UNQUOTED_ESCAPE = re.compile(
    rf"\\(?:(?P<control>[trn])|(?P<special>[{re.escape(SPECIAL)}])|{_CODE}"
    r"|(?P<word>(?i:or|and|not)))"
)
# A run of whitespace is taken whole or not at all: a keyword behind it refuses it all.
_PLAIN = re.compile(
    rf"""(?:[^{re.escape(SPECIAL + SPACE)}nN]|[nN](?![oO][tT]{_WS})"""
    rf"""|{_WS}++(?!(?i:and|or){_WS}))++"""
)


def parse_kql(text: str) -> Node:
    """The tree of a query; MATCH_ALL for an empty one. Raises QuerySyntaxError."""
    return _Parser(text).parse()


@frozen
class _Literal:
    """Text as written, read but not yet taken as a field or as a value."""

    tokens: tuple[str | Wild, ...]
    quoted: bool
    start: int
    end: int
    """Without the whitespace that unquoted text ran on over."""

    @property
    def span(self) -> tuple[int, int]:
        return self.start, self.end

    def as_name(self) -> FieldName:
        if Wild.RUN in self.tokens:
            return Pattern(self.tokens, span=self.span)
        return Text("".join(map(str, self.tokens)), quoted=self.quoted, span=self.span)

    def as_value(self) -> Value:
        name = self.as_name()
        if isinstance(name, Pattern) or self.quoted:
            return name
        if name.value == "null":
            return Null(span=self.span)
        if name.value in ("true", "false"):
            return Boolean(name.value == "true", span=self.span)
        return name


class _Parser:
    """`position` is all that moves; the other attributes only serve error messages."""

    __slots__ = ("brackets", "last", "name", "position", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.brackets: list[int] = []
        self.name: _Literal | None = None
        self.last: _Literal | None = None

    def parse(self) -> Node:
        try:
            self.text.encode()
        except UnicodeEncodeError as problem:
            raise mistakes.half_character(self.text, problem.start) from None
        self.skip_space()
        if self.position == len(self.text):
            return MATCH_ALL
        node = self.expression(None)
        end = self.position
        self.skip_space()
        if self.position < len(self.text):
            raise self.leftover(end)
        return node

    def skip_space(self) -> None:
        match = _SPACES.match(self.text, self.position)
        assert match is not None  # it also matches nothing
        self.position = match.end()

    def at(self, start: str) -> bool:
        return self.text.startswith(start, self.position)

    def expression(self, field: FieldName | None) -> Node:
        """Operands joined by `and` and `or`; with a field, a list of that field's values."""
        either: list[Node] = []
        both = [self.negation(field)]
        while match := _CONNECTIVE.match(self.text, self.position):
            self.position = match.end()
            if match["word"].lower() == "or":
                either.append(_one_or(And, both))
                both = []
            both.append(self.negation(field))
        return _one_or(Or, [*either, _one_or(And, both)])

    def negation(self, field: FieldName | None) -> Node:
        match = _NOT.match(self.text, self.position)
        if match is None:
            return self.operand(field)
        self.position = match.end()
        return Not(self.operand(field))

    def operand(self, field: FieldName | None) -> Node:
        if self.at("("):
            return self.group(field, ")")
        if field is None:
            return self.condition()
        return Is(field, self.literal("value").as_value())

    def group(self, field: FieldName | None, closer: str) -> Node:
        if len(self.brackets) - (field is not None) >= MAX_NESTING:
            raise mistakes.too_deep(self.text, self.position, limit=MAX_NESTING)
        self.brackets.append(self.position)
        self.position += 1
        self.skip_space()
        node = self.expression(field)
        end = self.position
        self.skip_space()
        if not self.at(closer):
            raise self.leftover(end)
        self.brackets.pop()
        self.position += 1
        return node

    def condition(self) -> Node:
        """`field:value`, `field:(values)`, `field:{…}`, `field > value` or a value alone."""
        literal = self.literal("condition")
        end = self.position
        self.skip_space()
        if self.at(":"):
            self.name = literal
            self.position += 1
            self.skip_space()
            if self.at("{"):
                return Nested(literal.as_name(), self.group(None, "}"))
            return self.operand(literal.as_name())
        if match := _OPERATOR.match(self.text, self.position):
            self.name = literal
            self.position = match.end()
            self.skip_space()
            return Range(literal.as_name(), _OPERATORS[match[0]], self.bound())
        self.position = end
        return Is(None, literal.as_value())

    def bound(self) -> Text | Pattern:
        """A range compares text, so here `true` is a word like any other."""
        literal = self.literal("bound")
        if isinstance(literal.as_value(), Null):
            raise mistakes.null_bound(self.text, literal.start)
        return literal.as_name()

    def literal(self, wanted: Choice["condition", "value", "bound"]) -> _Literal:
        self.last = self.quoted() if self.at('"') else self.unquoted(wanted)
        return self.last

    def quoted(self) -> _Literal:
        start = self.position
        match = _QUOTED.match(self.text, start)
        if match is None:
            raise mistakes.open_quote(self.text, start)

        def decode(escape: re.Match[str]) -> str:
            return self.decode(escape, offset=start + 1)

        self.position = match.end()
        text = _QUOTED_ESCAPE.sub(decode, match["body"])
        return _Literal((text,), True, start, self.position)

    def unquoted(self, wanted: str) -> _Literal:
        start = self.position
        tokens: list[str | Wild] = []
        pending: list[str] = []
        while True:
            if match := _PLAIN.match(self.text, self.position):
                pending.append(match[0])
            elif match := _UNQUOTED_ESCAPE.match(self.text, self.position):
                pending.append(self.decode(match, offset=0))
            elif self.at("*"):
                tokens += [*_joined(pending), Wild.RUN]
                pending = []
                self.position += 1
                continue
            else:
                break
            self.position = match.end()
        if self.at("\\"):
            raise mistakes.bad_escape(self.text, self.position)
        if self.position == start:
            raise self.missing(wanted)
        tokens += _joined(pending)
        end = start + len(self.text[start : self.position].rstrip(TRIMMED))
        return _Literal(trim(tokens), False, start, max(end, start + 1))

    def decode(self, escape: re.Match[str], *, offset: int) -> str:
        kind = escape.lastgroup
        if kind == "control":
            return _CONTROLS[escape["control"]]
        if kind == "pair":
            high, low = escape["pair"][:4], escape["pair"][-4:]
            return (bytes.fromhex(high) + bytes.fromhex(low)).decode("utf-16-be")
        if kind == "code":
            char = chr(int(escape["code"], 16))
            if "\ud800" <= char <= "\udfff":
                raise mistakes.half_character(self.text, offset + escape.start())
            return char
        return escape[0][1:]

    def missing(self, wanted: str) -> QuerySyntaxError:
        return mistakes.explain_missing(self.standstill(), wanted=wanted)

    def leftover(self, end: int) -> QuerySyntaxError:
        return mistakes.explain_leftover(self.standstill(), operand_end=end)

    def standstill(self) -> mistakes.Standstill:
        return mistakes.Standstill(
            text=self.text,
            position=self.position,
            brackets=tuple(self.brackets),
            name=self.text[slice(*self.name.span)] if self.name else "field",
            last=self.last.span if self.last else None,
        )


def _one_or(kind: type[And] | type[Or], children: list[Node]) -> Node:
    return children[0] if len(children) == 1 else kind(tuple(children))


def _joined(pieces: list[str]) -> list[str]:
    return ["".join(pieces)] if pieces else []


def trim(tokens: Sequence[str | Wild]) -> tuple[str | Wild, ...]:
    """Escaped whitespace at the ends goes, too: only text within `"` keeps its ends."""
    trimmed = list(tokens)
    if trimmed and isinstance(trimmed[0], str):
        trimmed[0] = trimmed[0].lstrip(TRIMMED)
    if trimmed and isinstance(trimmed[-1], str):
        trimmed[-1] = trimmed[-1].rstrip(TRIMMED)
    return tuple(token for token in trimmed if token)
