"""The expression tree that every query language parses into.

A node keeps meaning, not spelling: two texts that mean the same may share a tree, and a tree
renders back to a text that parses to the same tree. Spans point into the text a node came
from (start and end offsets in characters) and take no part in equality.
"""

from __future__ import annotations

from dataclasses import field
from enum import Enum
from typing import Literal as Choice
from typing import TypeAlias

from barrelman.records.frozen import frozen

Span: TypeAlias = tuple[int, int]

NO_SPAN: Span = (0, 0)


class Wild(Enum):
    """A wildcard in a pattern: KQL knows only RUN, exceptions and filters also CHAR."""

    RUN = "*"
    CHAR = "?"


@frozen
class Text:
    """A literal string. `quoted` is KQL's phrase flag: it matters on text fields only."""

    value: str
    quoted: bool = False
    span: Span = field(default=NO_SPAN, compare=False)


@frozen
class Pattern:
    """Literal pieces and wildcards in order, matched against a whole value.

    `f:*` is `(RUN,)` and means "exists"; `f:**` is `(RUN, RUN)` and is a pattern.
    Adjacent literal pieces are joined: no two strings stand side by side.
    """

    tokens: tuple[str | Wild, ...]
    ignore_case: bool = False
    span: Span = field(default=NO_SPAN, compare=False)

    @property
    def is_star(self) -> bool:
        return self.tokens == (Wild.RUN,)


@frozen
class Boolean:
    """The unquoted literal `true` or `false`."""

    value: bool
    span: Span = field(default=NO_SPAN, compare=False)


@frozen
class Null:
    """The unquoted literal `null`: parses, and no field type accepts it."""

    span: Span = field(default=NO_SPAN, compare=False)


@frozen
class Number:
    """A literal number of EQL. KQL and Lucene know none: there a number is a Text."""

    value: int | float
    span: Span = field(default=NO_SPAN, compare=False)


@frozen
class RegExp:
    """A regular expression in Lucene's own syntax (`engine.regexp`), of a whole value."""

    source: str
    ignore_case: bool = False
    span: Span = field(default=NO_SPAN, compare=False)


@frozen
class Fuzzy:
    """Lucene's `text~edits`: texts that are at most so many edits away (0, 1 or 2)."""

    text: str
    edits: int
    span: Span = field(default=NO_SPAN, compare=False)


@frozen
class Near:
    """Lucene's `"text"~slop`: on a text field its words with so much between them."""

    text: str
    slop: int
    span: Span = field(default=NO_SPAN, compare=False)


Value: TypeAlias = Text | Pattern | Boolean | Null | Number | RegExp | Fuzzy | Near
FieldName: TypeAlias = Text | Pattern
"""A field's dotted name; a Pattern where an unquoted name holds `*`."""

RangeOp: TypeAlias = Choice["gt", "gte", "lt", "lte"]


@frozen
class MatchAll:
    """True for every event: the empty query."""


@frozen
class And:
    children: tuple[Node, ...]


@frozen
class Or:
    children: tuple[Node, ...]


@frozen
class Not:
    child: Node


@frozen
class Is:
    """Some value of the field equals, or matches, `value`. Field None: of any field.

    `exact` is EQL's regime: nothing is analysed, parsed or converted. A text equals that text and
    a number that number; only dates and addresses are read as what their field's type says.
    """

    field: FieldName | None
    value: Value
    exact: bool = False


@frozen
class Range:
    """Some value of the field lies on that side of `value`. `exact` as in Is."""

    field: FieldName
    op: RangeOp
    value: Text | Pattern | Number
    exact: bool = False


@frozen
class Within:
    """One value of the field lies on the right side of every bound: a filter's interval.

    Two Range nodes are another thing: there each may be met by a value of its own.
    """

    field: FieldName
    bounds: tuple[tuple[RangeOp, Text], ...]


@frozen
class Nested:
    """`child` holds within one element of the objects at `path`; its fields are relative to it."""

    path: FieldName
    child: Node


@frozen
class Exists:
    """The field has a value. Filters and exceptions make it; in KQL it is written `f:*`."""

    field: FieldName


@frozen
class Before:
    """The run's own time is before `epoch_ms`: an exception item that expires."""

    epoch_ms: int


@frozen
class FieldValue:
    """The values of a field, one after the other: an expression of several values has many."""

    name: Text


@frozen
class Constant:
    value: str | int | float | bool | None
    span: Span = field(default=NO_SPAN, compare=False)
    kind: type = field(init=False, repr=False)
    """Keeps apart what Python calls equal: 1, 1.0 and true. `x / 2` is not `x / 2.0`."""

    def __post_init__(self) -> None:
        self.kind = type(self.value)  # type: ignore[misc]  # it is being made


@frozen
class Call:
    """A function of EQL by its name in lower case; arithmetic too (`add`, `subtract`, …).

    `ignore_case` is the `~` behind a name.
    """

    name: str
    args: tuple[Expression, ...]
    ignore_case: bool = False
    span: Span = field(default=NO_SPAN, compare=False)


@frozen
class Condition:
    """A condition as a value: true, false, or null where a field it compares is missing."""

    node: Node


Expression: TypeAlias = FieldValue | Constant | Call | Condition

CompareOp: TypeAlias = Choice["eq", "gt", "gte", "lt", "lte"]


@frozen
class Compare:
    """Some values of the two sides compare so; null compares with nothing but (`eq`) null.

    Only what no plain leaf can say is written so: one side at least is a call or a condition, or
    both are fields.
    """

    left: Expression
    op: CompareOp
    right: Expression


@frozen
class Suits:
    """Some value of an expression equals or matches `value`, as an exact Is of a field does."""

    expression: Expression
    value: Value


@frozen
class Holds:
    """Some value of an expression is true."""

    expression: Expression


Node: TypeAlias = (
    MatchAll
    | And
    | Or
    | Not
    | Is
    | Range
    | Within
    | Nested
    | Exists
    | Before
    | Compare
    | Suits
    | Holds
)

MATCH_ALL = MatchAll()
