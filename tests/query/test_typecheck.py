"""Where and how a wrong value is refused; which ones are, semantics.toml says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from barrelman.errors import QueryTypeError
from barrelman.query.ast import (
    MATCH_ALL,
    And,
    Before,
    Exists,
    Is,
    Nested,
    Node,
    Not,
    Null,
    Or,
    Pattern,
    Range,
    Text,
    Wild,
)
from barrelman.query.typecheck import MOST_PARTS, check_types, pattern_text
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue, FieldType

CATALOGUE = Catalogue(exact={"l": FieldType.LONG, "k": FieldType.KEYWORD, "o.l": FieldType.LONG})
WRONG = Is(Text("l"), Text("x", span=(14, 15)))
FINE = Is(Text("k"), Text("x"))
STAR = Pattern((Wild.RUN,))


@pytest.mark.parametrize(
    "node",
    [
        WRONG,
        Not(WRONG),
        And((FINE, WRONG)),
        Or((FINE, Not(And((WRONG, FINE))))),
        Nested(Text("o"), WRONG),
    ],
)
def test_the_error_stands_at_the_value(node: Node) -> None:
    text = "o:{ l:1 and l:x }" if isinstance(node, Nested) else "k:x and not\nl:x"
    with pytest.raises(QueryTypeError) as caught:
        check_types(node, CATALOGUE, text=text)
    place = caught.value.place
    expected = (1, 15) if isinstance(node, Nested) else (2, 3)
    assert (place.line, place.column) == expected
    assert "'x' is none" in caught.value.message
    assert str(caught.value).endswith("^")


def test_a_nested_field_is_named_whole() -> None:
    with pytest.raises(QueryTypeError, match=r"o\.l is a number"):
        check_types(Nested(Text("o"), WRONG), CATALOGUE)


def test_without_the_text_there_is_still_an_error() -> None:
    with pytest.raises(QueryTypeError, match="l is a number"):
        check_types(WRONG, CATALOGUE)


@pytest.mark.parametrize(
    "node",
    [
        Is(Text("l"), STAR),
        Is(Pattern((Wild.RUN, "l")), Text("x")),
        Is(None, Text("x")),
        Is(None, Pattern(("x", Wild.RUN))),
        Range(Pattern((Wild.RUN,)), "gt", Text("x")),
        Range(Text("k"), "gt", Pattern(("5", Wild.RUN))),
        Is(Text("unknown"), Text("x")),
        Nested(Text("unknown"), FINE),
        Exists(Text("l")),
        Before(0),
        MATCH_ALL,
    ],
)
def test_what_suits(node: Node) -> None:
    check_types(node, CATALOGUE)


@pytest.mark.parametrize(
    "node",
    [
        Is(None, Null()),
        Is(Pattern((Wild.RUN,)), Null()),
        Is(Text("unknown"), Null()),
        Range(Text("l"), "gt", Pattern(("5", Wild.RUN))),
        Nested(Pattern(("o", Wild.RUN)), FINE),
        Nested(Text("l"), FINE),
    ],
)
def test_what_does_not(node: Node) -> None:
    with pytest.raises(QueryTypeError):
        check_types(node, CATALOGUE)


@pytest.mark.parametrize("text", ["9" * 5000, "1e" + "9" * 5000, "10.0.0.0/" + "9" * 5000])
@pytest.mark.parametrize(
    "name", ["@timestamp", "source.ip", "kubernetes.audit.responseStatus.code", "any"]
)
def test_thousands_of_digits_are_refused_or_taken(name: str, text: str) -> None:
    for node in (Is(Text(name), Text(text)), Range(Text(name), "gt", Text(text))):
        with suppress(QueryTypeError):  # nothing else comes out of it
            check_types(node, AUDIT_CATALOGUE)


@pytest.mark.parametrize(
    "make",
    [
        lambda name: Is(name, STAR),
        lambda name: Is(name, Text("x")),
        lambda name: Range(name, "gt", Text("1")),
        Exists,
        lambda name: Nested(name, FINE),
        lambda name: Not(Nested(Text("a"), Exists(name))),
    ],
)
def test_a_name_of_too_many_parts_is_refused(make: Callable[[Text], Node]) -> None:
    check_types(make(Text(".".join(["a"] * MOST_PARTS))), CATALOGUE)
    with pytest.raises(QueryTypeError, match="parts"):
        check_types(make(Text(".".join(["a"] * (MOST_PARTS + 1)))), CATALOGUE)


def test_a_pattern_as_text() -> None:
    assert pattern_text(Pattern(("a", Wild.RUN, "b", Wild.CHAR))) == "a*b?"


def test_a_field_name_has_an_end() -> None:
    with pytest.raises(QueryTypeError, match="at most 32000 characters"):
        check_types(Is(Text("a" * 32_001), Text("x")), AUDIT_CATALOGUE)
    check_types(Is(Text("a" * 32_000), Text("x")), AUDIT_CATALOGUE)
