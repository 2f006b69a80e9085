"""Whether an EQL query suits the fields it is asked of.

Elasticsearch finds this out before a search runs, and the rule fails. Only types that are listed
field by field are judged: what a catalogue assumes of all names that begin alike is no mapping.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from barrelman.errors import QueryTypeError, TimeError, place_in_text
from barrelman.query.ast import (
    And,
    Boolean,
    Call,
    Compare,
    Condition,
    Constant,
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
    Span,
    Suits,
    Text,
    Value,
)
from barrelman.query.eqlcalls import FUNCTIONS, Kind, is_foldable, kind_of
from barrelman.query.eqltree import EqlQuery, EventFilter, FieldUse, Sequence, Stage
from barrelman.query.typecheck import MOST_PARTS, NUMBER, check_types
from barrelman.records.addresses import parse_address, parse_span
from barrelman.records.fields import Catalogue, FieldType
from barrelman.records.paths import LONGEST_NAME
from barrelman.records.times import parse_date_math

_TEXTS = frozenset(
    {
        FieldType.KEYWORD,
        FieldType.TEXT,
        FieldType.WILDCARD,
        FieldType.CONSTANT_KEYWORD,
        FieldType.VERSION,
    }
)
_NUMBERS = frozenset({FieldType.LONG, FieldType.DOUBLE})
_IN_WORDS = {
    FieldType.BOOLEAN: "a boolean",
    FieldType.LONG: "a number",
    FieldType.DOUBLE: "a number",
    FieldType.DATE: "a date",
    FieldType.IP: "an IP address",
    FieldType.VERSION: "a version",
    FieldType.FLATTENED: "flattened",
}
_KINDS: dict[Kind, str] = {"text": "a text", "number": "a number", "boolean": "true or false"}


def check_eql(query: EqlQuery, catalogue: Catalogue, *, text: str = "") -> None:
    """Raises QueryTypeError at the first thing that its fields cannot take.

    `text` is what the query was parsed from: the error then knows line and column.
    """
    check = _Check(query, catalogue, text)
    for use in query.fields:
        check.field(use)
    for node in _conditions(query):
        check.node(node)
        check_types(node, catalogue, text=text)  # also that regular expressions are some
    if not isinstance(query.top, EventFilter):
        last = query.top.until if isinstance(query.top, Sequence) else None
        check.keys([*query.top.stages, *([last] if last else [])])


def _conditions(query: EqlQuery) -> Iterable[Node]:
    top = query.top
    if isinstance(top, EventFilter):
        return (top.where,)
    nodes = [stage.filter.where for stage in top.stages]
    if isinstance(top, Sequence) and top.until is not None:
        nodes.append(top.until.filter.where)
    return nodes


class _Check:
    def __init__(self, query: EqlQuery, catalogue: Catalogue, text: str) -> None:
        self.catalogue = catalogue
        self.text = text
        self.optional = {use.name for use in query.fields if use.optional}

    def fail(self, message: str, span: Span, hint: str | None = None) -> NoReturn:
        raise QueryTypeError(message, place=place_in_text(self.text, span[0]), hint=hint)

    # --- fields ---

    def field(self, use: FieldUse) -> None:
        name = use.name
        if name.count(".") >= MOST_PARTS:
            self.fail(f"a field's name has at most {MOST_PARTS} parts", use.span)
        if len(name) > LONGEST_NAME:
            self.fail(f"a field's name has at most {LONGEST_NAME} characters", use.span)
        kind = self.catalogue.explicit_type_of(name)
        if kind is FieldType.NESTED or self.catalogue.is_hidden(name):
            self.fail(f"{name} is nested: EQL does not reach into nested objects", use.span)
        if self.is_mapped(name) and name in self.catalogue.objects:
            self.fail(f"{name} is an object, no field", use.span, "name a field within it")
        if not self.catalogue.knows(name) and not use.optional:
            near = self.catalogue.nearest(name)
            hint = f"did you mean {near}? " if near else ""
            hint += f"a field that need not be there is written ?{name}"
            self.fail(f"the mapping has no field {name}", use.span, hint)

    def is_mapped(self, name: str) -> bool:
        if self.catalogue.names is None:
            return self.catalogue.type_of(name) is not None
        return self.catalogue.knows(name)

    def kind(self, name: Text) -> FieldType | None:
        return self.catalogue.explicit_type_of(name.value)

    def whole(self, name: Text) -> None:
        """Values must be there to be compared whole: a text field keeps only its words."""
        kind = self.kind(name)
        if kind is FieldType.TEXT and self.catalogue.exact_name(name.value) is None:
            hint = "map a keyword beside it, as a multi-field"
            self.fail(f"{name.value} is a text field: EQL compares whole values", name.span, hint)

    def keys(self, stages: list[Stage]) -> None:
        """What joins must be of one kind in all stages."""
        for position, first in enumerate(stages[0].keys):
            for stage in stages:
                use = stage.keys[position]
                self.whole(Text(use.name, span=use.span))
                kinds = [self.key_kind(each.name) for each in (first, use)]
                if None not in kinds and kinds[0] != kinds[1]:
                    self.fail(
                        f"{use.name} is {kinds[1]}, and {first.name}, which it is joined with, is "
                        f"{kinds[0]}",
                        use.span,
                    )

    def key_kind(self, name: str) -> str | None:
        kind = self.catalogue.explicit_type_of(name)
        if kind is None or kind is FieldType.FLATTENED:
            return None
        return "a text" if kind in _TEXTS - {FieldType.VERSION} else _IN_WORDS[kind]

    # --- conditions ---

    def node(self, node: Node) -> None:
        match node:
            case And(children) | Or(children):
                for child in children:
                    self.node(child)
            case Not(child):
                self.node(child)
            case Is(Text() as name, value):
                self.equality(name, value)
            case Range(Text() as name, _, value):
                self.range(name, value)
            case Compare(left, _, right):
                self.sides(left, right)
            case Suits(expression, _):
                self.expression(expression)
            case Holds(expression):
                self.expression(expression)
            case _:
                pass

    def equality(self, name: Text, value: Value) -> None:
        kind = self.kind(name)
        self.whole(name)
        if kind is None or kind is FieldType.FLATTENED:
            return
        match value:
            case Boolean() if kind is not FieldType.BOOLEAN:
                what = _IN_WORDS.get(kind, "a text")
                hint = f"compare it with something, as in {name.value} != null"
                self.fail(f"{name.value} is {what}, neither true nor false", value.span, hint)
            case Pattern() | RegExp() if kind not in _TEXTS:
                what = _IN_WORDS[kind]
                hint = "compare it with == or <"
                self.fail(f"{name.value} is {what}: it takes no pattern", value.span, hint)
            case Text() | Number():
                self.literal(name, kind, value)
            case _:
                pass

    def range(self, name: Text, value: Text | Pattern | Number) -> None:
        kind = self.kind(name)
        self.whole(name)
        if kind is FieldType.BOOLEAN:
            self.fail(f"{name.value} is a boolean: it has no order", value.span)
        if kind is None or kind is FieldType.FLATTENED or isinstance(value, Pattern):
            return
        self.literal(name, kind, value)
        if kind is FieldType.IP and isinstance(value, Text) and parse_address(value.value) is None:
            self.fail(f"{name.value} is an IP address: a network has no order", value.span)

    def literal(self, name: Text, kind: FieldType, value: Text | Number) -> None:
        if isinstance(value, Number):
            if kind in _TEXTS:
                hint = f'write "{value.value}"'
                self.fail(f"{name.value} is a text, and a number is none", value.span, hint)
            if kind in (FieldType.BOOLEAN, FieldType.IP):
                self.fail(f"{name.value} is {_IN_WORDS[kind]}, no number", value.span)
            return
        self.text_for(name, kind, value)

    def text_for(self, name: Text, kind: FieldType, value: Text) -> None:
        text = value.value
        if kind in _NUMBERS:
            hint = f"write {text} without quotes" if NUMBER.fullmatch(text) else None
            self.fail(f"{name.value} is a number, and a text is none", value.span, hint)
        if kind is FieldType.BOOLEAN:
            hint = f"write {text} without quotes" if text in ("true", "false") else None
            self.fail(f"{name.value} is a boolean, and a text is none", value.span, hint)
        if kind is FieldType.IP and parse_span(text) is None:
            message = f"{name.value} is an IP address, and this is neither address nor network"
            self.fail(message, value.span)
        if kind is FieldType.DATE:
            try:
                parse_date_math(text)
            except TimeError as error:
                self.fail(f"{name.value} is a date, and {error.message}", value.span, error.hint)

    # --- expressions ---

    def sides(self, left: Expression, right: Expression) -> None:
        self.expression(left)
        self.expression(right)
        if not is_foldable(right) and not any(map(self.is_absent, (left, right))):
            self.fail(
                "a field cannot be compared with another field where both are mapped",
                _span(right),
                "one side must be a literal",
            )
        kinds = self.value_kind(left), self.value_kind(right)
        if kinds[0] != kinds[1] and all(kind in _KINDS for kind in kinds):
            message = f"{_KINDS[kinds[0]]} is compared with {_KINDS[kinds[1]]}"
            self.fail(message, _span(right))

    def is_absent(self, side: Expression) -> bool:
        """Whether a side is an optional field that is not mapped: it is null."""
        if not isinstance(side, FieldValue):
            return False
        return side.name.value in self.optional and not self.is_mapped(side.name.value)

    def value_kind(self, expression: Expression) -> Kind:
        if not isinstance(expression, FieldValue):
            return kind_of(expression)
        kind = self.kind(expression.name)
        if kind in _TEXTS:
            return "text"
        if kind in _NUMBERS:
            return "number"
        return "boolean" if kind is FieldType.BOOLEAN else "any"

    def expression(self, expression: Expression) -> None:
        match expression:
            case FieldValue(name):
                self.whole(name)
            case Condition(node):
                self.node(node)
            case Call(name, args):
                for index, arg in enumerate(args):
                    self.expression(arg)
                    if isinstance(arg, FieldValue):
                        self.argument(name, index, arg.name)
            case Constant():
                pass

    def argument(self, function: str, index: int, name: Text) -> None:
        kind = self.kind(name)
        takes = FUNCTIONS[function].takes_at(index)
        suits = {
            "text": _TEXTS,
            "number": _NUMBERS,
            "address": _TEXTS | {FieldType.IP},
            "boolean": {FieldType.BOOLEAN},
        }.get(takes)
        if suits is None or kind is None or kind is FieldType.FLATTENED or kind in suits:
            return
        what = _IN_WORDS.get(kind, "a text")
        wanted = {"text": "a text", "number": "a number", "address": "an IP address"}
        spelled = FUNCTIONS[function].spelled
        hint = f"string({name.value}) makes a text of it" if takes == "text" else None
        message = f"argument {index + 1} of {spelled} is {wanted.get(takes, 'a boolean')}, and "
        self.fail(f"{message}{name.value} is {what}", name.span, hint)


def _span(expression: Expression) -> Span:
    """Where an expression begins, as far as it says so."""
    match expression:
        case FieldValue(name):
            return name.span
        case Call(span=span) | Constant(span=span):
            return span
        case Condition():
            return (0, 0)
