"""What is asked of the columns of stored rows: a small tree.

Each test is true or false of a row, never unknown: a column without a value meets no test but
`IsNull`, and `Not` of a test is true where the test is not. Texts are compared exactly. Of
`source_ips`, which holds any number of texts, one that meets the test is enough.
"""

from __future__ import annotations

from typing import TypeAlias

from barrelman.records.frozen import frozen

TEXT_COLUMNS = (
    "cluster",
    "audit_id",
    "stage",
    "level",
    "verb",
    "user",
    "resource",
    "subresource",
    "api_group",
    "namespace",
    "name",
    "decision",
    "source_ips",
)
NUMBER_COLUMNS = ("status",)


@frozen
class Always:
    """The same of every row."""

    is_true: bool = True


@frozen
class Equals:
    """The column has this value."""

    column: str
    value: str | int


@frozen
class In:
    """The column has one of these values; of none of them, never."""

    column: str
    values: tuple[str | int, ...]


@frozen
class Prefix:
    """The text begins with this one."""

    column: str
    text: str


@frozen
class Wildcard:
    """The whole text fits: `*` is any number of characters, `?` is one; nothing escapes them."""

    column: str
    pattern: str


@frozen
class Between:
    """A number within these bounds, both included; None where there is no bound."""

    column: str
    low: int | None
    high: int | None


@frozen
class IsNull:
    """The column has no value."""

    column: str


@frozen
class Not:
    """The part is false."""

    part: Where


@frozen
class And:
    """All parts are true; so it is where there is none."""

    parts: tuple[Where, ...]


@frozen
class Or:
    """One of the parts is true."""

    parts: tuple[Where, ...]


Where: TypeAlias = "Always | Equals | In | Prefix | Wildcard | Between | IsNull | Not | And | Or"
