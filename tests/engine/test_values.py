"""What semantics.toml cannot say in a query: values no JSON text holds, and who asks the time."""

from __future__ import annotations

import pytest

from barrelman.engine.values import (
    NEVER,
    any_equality,
    comparison,
    equality,
    existence,
    interval,
    keyword_text,
)
from barrelman.query.ast import Boolean, Null, Pattern, RangeOp, Text, Value, Wild
from barrelman.records.fields import FieldType
from barrelman.records.paths import Scalar

KINDS = [None, *FieldType]
HOSTILE: list[Scalar] = [
    *("", "\ud800", "\x00", "9" * 5000, "nan", "inf", "-", "1e999", "0x10", "\u0663", "1_0"),
    *(float("nan"), float("inf"), float("-inf"), -0.0, 1e308, 2**64, -(2**64), True, False),
]
LITERALS: list[Value] = [
    *(Text(text) for text in ("", "\ud800", "1e999", "9" * 5000, "-0", "now", "9999-12-31||+9y")),
    *(Text("10.0.0.0/" + "9" * 5000), Text("::1"), Text("now-" + "9" * 5000 + "d")),
    *(Boolean(True), Null(), Pattern((Wild.RUN, "x")), Pattern((Wild.CHAR,), ignore_case=True)),
]


@pytest.mark.parametrize("kind", KINDS)
def test_no_value_and_no_literal_raises(kind: FieldType | None) -> None:
    for literal in LITERALS:
        tests = [equality(kind, literal)]
        if isinstance(literal, Text | Pattern):
            tests += [comparison(kind, op, literal) for op in ("gt", "gte", "lt", "lte")]
        for each in tests:
            for value in HOSTILE:
                assert each.test(value, 0) in (True, False)


@pytest.mark.parametrize("kind", KINDS)
def test_null_equals_nothing(kind: FieldType | None) -> None:
    assert equality(kind, Null()) is NEVER


@pytest.mark.parametrize(
    ("kind", "literal", "uses_now"),
    [
        (FieldType.DATE, "now-1h", True),
        (FieldType.DATE, "now/d", True),
        (FieldType.DATE, "2026-11-23", False),
        (FieldType.KEYWORD, "now", False),
        (None, "now", True),
        (None, "nowhere", False),
        (None, "2026-11-23", False),
        (FieldType.LONG, "1", False),
    ],
)
def test_who_asks_the_time(kind: FieldType | None, literal: str, uses_now: bool) -> None:
    assert equality(kind, Text(literal)).uses_now is uses_now
    assert comparison(kind, "gt", Text(literal)).uses_now is uses_now


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["x", "True", "1", "TRUE", " true"])
def test_a_text_that_is_no_boolean_is_not_false(kind: FieldType | None, text: str) -> None:
    """Free text is asked of boolean fields too."""
    assert equality(kind, Text(text)).test(False, 0) is False


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (True, "true"), (False, "false"), (1, "1"), (1.0, "1.0"), (-0.5, "-0.5")],
)
def test_keyword_text(value: Scalar, text: str) -> None:
    assert keyword_text(value) == text


def test_existence_of_an_empty_text() -> None:
    assert existence(None, empty_text=True)("", 0) is True
    assert existence(None, empty_text=False)("", 0) is False
    assert existence(None, empty_text=False)(0, 0) is True
    assert existence(None, empty_text=False)(False, 0) is True
    assert existence(FieldType.TEXT, empty_text=True)("-", 0) is False
    assert existence(FieldType.TEXT, empty_text=True)("a", 0) is True


def test_a_list_of_addresses_is_one_search() -> None:
    values = [Text(f"10.{a}.{b}.0/24") for a in range(40) for b in range(0, 100, 2)]
    for kind in (FieldType.IP, None):
        test = any_equality(kind, [*values, Text("::1"), Text("not one")]).test
        assert test("10.39.98.255", 0)
        assert not test("10.39.99.0", 0)
        assert test("0:0:0:0:0:0:0:1", 0)
        assert test("not one", 0) is (kind is None)
        assert not test("9.255.255.255", 0)


def test_a_list_of_mixed_values_is_typed_by_each_value() -> None:
    texts = [Text(each) for each in ("80", "1.5", "2026-11-23", "10.0.0.0/8", "x", "true")]
    test = any_equality(None, texts).test
    for got in (80, 80.0, 1.5, "80", "2026-11-23T10:00:00Z", "10.9.8.7", "x", True, "true"):
        assert test(got, 0), got
    for got in (81, False, "2026-11-24T10:00:00Z", "11.0.0.1", "X", 1):
        assert not test(got, 0), got


def test_an_interval_is_met_by_one_value() -> None:
    bounds: list[tuple[RangeOp, Text]] = [("gte", Text("4")), ("lte", Text("6"))]
    for kind in (FieldType.LONG, None):
        test = interval(kind, bounds).test
        assert [test(got, 0) for got in (1, 4, 5, 6, 9)] == [False, True, True, True, False]
    assert interval(FieldType.LONG, [("gte", Text("x")), ("lt", Text("6"))]) is NEVER
    assert interval(FieldType.DATE, [("gte", Text("now-1h")), ("lt", Text("now"))]).uses_now
