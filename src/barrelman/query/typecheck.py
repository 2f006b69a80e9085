"""Whether the values of a query suit the types of its fields.

Elasticsearch finds this out when the search runs and fails the rule; here it is found at load.
Only fields that the catalogue types are judged: the others take what their values are.
"""

from __future__ import annotations

import re
from typing import NoReturn

from barrelman.errors import QuerySyntaxError, QueryTypeError, TimeError, place_in_text
from barrelman.query.ast import (
    And,
    Boolean,
    Compare,
    Exists,
    FieldValue,
    Holds,
    Is,
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
from barrelman.query.operands import operands_of
from barrelman.records.addresses import parse_address, parse_network
from barrelman.records.fields import Catalogue, FieldType
from barrelman.records.paths import LONGEST_NAME
from barrelman.records.times import parse_date_math

MOST_PARTS = 100

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)

_NO_PATTERNS = {
    FieldType.BOOLEAN: "a boolean",
    FieldType.LONG: "a number",
    FieldType.DOUBLE: "a number",
    FieldType.DATE: "a date",
    FieldType.IP: "an IP address",
}


def check_types(node: Node, catalogue: Catalogue, *, text: str = "") -> None:
    """Raises QueryTypeError at the first value that its field's type cannot take.

    `text` is the query the node was parsed from: the error then knows line and column.
    """
    _Check(catalogue, text).node(node, prefix="")


class _Check:
    def __init__(self, catalogue: Catalogue, text: str) -> None:
        self.catalogue = catalogue
        self.text = text

    def node(self, node: Node, *, prefix: str) -> None:
        match node:
            case And(children) | Or(children):
                for child in children:
                    self.node(child, prefix=prefix)
            case Not(child):
                self.node(child, prefix=prefix)
            case Is(field, value, exact):
                name = self.name(field, prefix) if isinstance(field, Text) else None
                self.equality(name, value, exact=exact)
            case Range(field, _, value, exact):
                if isinstance(field, Text):
                    self.range(self.name(field, prefix), value, exact=exact)
            case Exists(field):
                if isinstance(field, Text):
                    self.name(field, prefix)
            case Within(field, bounds):
                if isinstance(field, Text):
                    for _, bound in bounds:
                        self.range(prefix + field.value, bound, exact=False)
            case Nested(path, child):
                if isinstance(path, Pattern):
                    self.fail("the path of a nested query cannot hold a wildcard", path)
                name = self.name(path, prefix)
                found = self.catalogue.explicit_type_of(name)
                if found not in (None, FieldType.NESTED, FieldType.FLATTENED):
                    self.fail(f"{name} holds no objects: it is of type {found.value}", path)
                if self.catalogue.names is not None and found is not FieldType.NESTED:
                    self.fail(f"the mapping has no nested object {name}", path)
                self.node(child, prefix=f"{name}.")
            case Compare() | Suits() | Holds():
                self.computed(node, prefix)
            case _:
                pass

    def computed(self, node: Compare | Suits | Holds, prefix: str) -> None:
        for part in operands_of(node):
            if isinstance(part, FieldValue):
                self.name(part.name, prefix)
            else:
                self.node(part, prefix=prefix)
        if isinstance(node, Suits) and isinstance(node.value, RegExp):
            self.regexp(node.value)

    def name(self, field: Text, prefix: str) -> str:
        """The field's whole name. All the ways to part it at its dots are tried on events."""
        if field.value.count(".") >= MOST_PARTS:
            self.fail(f"a field's name has at most {MOST_PARTS} parts", field)
        if len(prefix) + len(field.value) > LONGEST_NAME:
            self.fail(f"a field's name has at most {LONGEST_NAME} characters", field)
        return prefix + field.value

    def equality(self, name: str | None, value: Value, *, exact: bool) -> None:
        if isinstance(value, Null):
            self.fail("null is no value to compare with", value, hint="a missing field is not f:*")
        if isinstance(value, RegExp):
            self.regexp(value)
        kind = self.catalogue.type_of(name) if name is not None else None
        if kind is None or name is None:
            return
        if isinstance(value, Pattern):
            if kind in _NO_PATTERNS and not value.is_star:
                what = _NO_PATTERNS[kind]
                self.fail(f"{name} is {what}: a wildcard pattern cannot match it", value)
        elif isinstance(value, Boolean):
            if kind in _NO_PATTERNS and kind is not FieldType.BOOLEAN:
                self.fail(f"{name} is {_NO_PATTERNS[kind]}, not true or false", value)
        elif isinstance(value, Number):
            self.number(name, kind, value)
        elif isinstance(value, Near):
            self.literal(name, kind, Text(value.text, span=value.span))
        elif isinstance(value, Text):
            if exact:
                self.exact_text(name, kind, value)
            self.literal(name, kind, value)
        elif kind in _NO_PATTERNS:
            what = _NO_PATTERNS[kind]
            self.fail(f"{name} is {what}: what is written of texts cannot match it", value)

    def regexp(self, value: RegExp) -> None:
        from barrelman.query.regexp import parse_regexp  # late: few rules have one

        try:
            parse_regexp(value.source, ignore_case=value.ignore_case)
        except QuerySyntaxError as error:
            column = error.place.column
            message = f"in the regular expression, at its character {column}: {error.message}"
            self.fail(message, value, hint=error.hint)

    def number(self, name: str, kind: FieldType | None, value: Number) -> None:
        if kind in (FieldType.BOOLEAN, FieldType.IP):
            self.fail(f"{name} is {_NO_PATTERNS[kind]}, not a number", value)

    def exact_text(self, name: str, kind: FieldType | None, value: Value) -> None:
        """Where nothing is converted a text is never a number, nor true or false."""
        if kind in (FieldType.BOOLEAN, FieldType.LONG, FieldType.DOUBLE):
            self.fail(f"{name} is {_NO_PATTERNS[kind]}, not a text", value, hint="write no quotes")

    def literal(self, name: str, kind: FieldType, value: Text) -> None:
        text = value.value
        if kind is FieldType.BOOLEAN and text not in ("true", "false", ""):
            self.fail(f"{name} is a boolean, and '{text}' is neither true nor false", value)
        elif kind in (FieldType.LONG, FieldType.DOUBLE) and not NUMBER.fullmatch(text):
            self.fail(f"{name} is a number, and '{text}' is none", value)
        elif kind is FieldType.IP and parse_address(text) is None and parse_network(text) is None:
            self.fail(f"{name} is an IP address, and '{text}' is neither address nor CIDR", value)
        elif kind is FieldType.DATE:
            self.date(name, text, value)

    def range(self, name: str, value: Text | Pattern | Number, *, exact: bool) -> None:
        kind = self.catalogue.type_of(name)
        if isinstance(value, Number):
            self.number(name, kind, value)
            return
        if exact:
            self.exact_text(name, kind, value)
        text = value.value if isinstance(value, Text) else pattern_text(value)
        if kind is FieldType.BOOLEAN:
            self.fail(f"{name} is a boolean: it has no order", value)
        elif kind in (FieldType.LONG, FieldType.DOUBLE) and not NUMBER.fullmatch(text):
            self.fail(f"{name} is a number, and '{text}' is none", value)
        elif kind is FieldType.IP and parse_address(text) is None:
            self.fail(f"{name} is an IP address, and '{text}' is none", value)
        elif kind is FieldType.DATE:
            self.date(name, text, value)

    def date(self, name: str, text: str, value: Value) -> None:
        try:
            parse_date_math(text)
        except TimeError as error:
            self.fail(f"{name} is a date, and {error.message}", value, hint=error.hint)

    def fail(self, message: str, value: Value, *, hint: str | None = None) -> NoReturn:
        place = place_in_text(self.text, value.span[0])
        raise QueryTypeError(message, place=place, hint=hint)


def pattern_text(pattern: Pattern) -> str:
    """A pattern as text, wildcards as written: what a range passes on (`f < 5*`)."""
    return "".join(token.value if isinstance(token, Wild) else token for token in pattern.tokens)
