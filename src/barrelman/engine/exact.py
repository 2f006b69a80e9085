"""Tests of one value in EQL's regime: a text equals that text, a number that number.

Nothing is analysed, parsed or converted, but what a field's type has converted already: dates,
addresses, and the numbers and booleans that a mapping reads from texts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from barrelman.engine.patterns import compile_pattern
from barrelman.engine.values import (
    COMPARE,
    NEVER,
    Test,
    ValueTest,
    any_equality,
    as_date_ms,
    as_number,
    comparison,
    equality,
    keyword_text,
)
from barrelman.query.ast import Boolean, Number, Pattern, RangeOp, RegExp, Text, Value
from barrelman.query.typecheck import pattern_text
from barrelman.records.fields import FieldType
from barrelman.records.paths import Scalar

Literal: TypeAlias = Text | Number | Boolean

_TEXTUAL = (FieldType.KEYWORD, FieldType.FLATTENED, FieldType.VERSION, FieldType.TEXT)
_NUMERIC = (FieldType.LONG, FieldType.DOUBLE)


def exact_equality(kind: FieldType | None, values: Iterable[Value]) -> ValueTest:
    """The test of equalling, or matching, any of these values."""
    literals: list[Literal] = []
    others: list[Value] = []
    for value in values:
        if isinstance(value, Text | Number | Boolean):
            literals.append(value)
        else:
            others.append(value)
    tests = [_any_literal(kind, literals)] if literals else []
    if kind is FieldType.TEXT:
        tests += [_whole(value) for value in others]
    elif others:
        tests.append(any_equality(kind, others))
    tests = [test for test in tests if test is not NEVER]
    if len(tests) <= 1:
        return tests[0] if tests else NEVER
    return ValueTest(
        lambda got, now_ms: any(each.test(got, now_ms) for each in tests),
        any(each.uses_now for each in tests),
    )


def exact_comparison(
    kind: FieldType | None, op: RangeOp, value: Text | Pattern | Number
) -> ValueTest:
    """The test of lying on that side of a value: numbers among numbers, texts by their bytes."""
    if isinstance(value, Number):
        return _number_order(kind, op, value.value)
    compare, text = COMPARE[op], value.value if isinstance(value, Text) else pattern_text(value)
    if kind in (FieldType.DATE, FieldType.IP, FieldType.VERSION):
        return comparison(kind, op, Text(text))
    if kind in _TEXTUAL:
        return ValueTest(lambda got, _: compare(keyword_text(got), text))
    if kind is None:
        return ValueTest(lambda got, _: type(got) is str and compare(got, text))
    return NEVER


def _number_order(kind: FieldType | None, op: RangeOp, bound: int | float) -> ValueTest:
    compare = COMPARE[op]
    if kind in _NUMERIC:
        whole = kind is FieldType.LONG
        return ValueTest(
            lambda got, _: (
                (number := as_number(got, whole=whole)) is not None and compare(number, bound)
            )
        )
    if kind is FieldType.DATE:
        return ValueTest(
            lambda got, _: (instant := as_date_ms(got)) is not None and compare(instant, bound)
        )
    if kind is None or kind in _TEXTUAL:
        return ValueTest(lambda got, _: type(got) in (int, float) and compare(got, bound))
    return NEVER


def _any_literal(kind: FieldType | None, literals: list[Literal]) -> ValueTest:
    texts = frozenset(each.value for each in literals if isinstance(each, Text))
    numbers = frozenset(each.value for each in literals if isinstance(each, Number))
    truths = frozenset(each.value for each in literals if isinstance(each, Boolean))
    if kind is None or kind in _TEXTUAL:
        return ValueTest(_by_value(texts, numbers, truths, is_typed=kind is not None))
    if kind in _NUMERIC and numbers:
        whole = kind is FieldType.LONG
        return ValueTest(lambda got, _: as_number(got, whole=whole) in numbers)
    if kind is FieldType.BOOLEAN and truths:
        return any_equality(kind, map(Boolean, truths))
    if kind is FieldType.IP and texts:
        return any_equality(kind, map(Text, texts))
    if kind is FieldType.DATE:
        return _dates(texts, numbers)
    return NEVER


def _by_value(
    texts: frozenset[str],
    numbers: frozenset[int | float],
    truths: frozenset[bool],
    *,
    is_typed: bool,
) -> Test:
    """By what a value is; a field of texts has all its values as texts too."""

    def test(got: Scalar, now_ms: int) -> bool:
        if type(got) is str:
            return got in texts
        if got in (truths if type(got) is bool else numbers):
            return True
        return is_typed and keyword_text(got) in texts

    return test


def _dates(texts: frozenset[str], numbers: frozenset[int | float]) -> ValueTest:
    tests = [equality(FieldType.DATE, Text(text)) for text in texts]

    def test(got: Scalar, now_ms: int) -> bool:
        if numbers and as_date_ms(got) in numbers:
            return True
        return any(each.test(got, now_ms) for each in tests)

    return ValueTest(test, any(each.uses_now for each in tests))


def _whole(value: Value) -> ValueTest:
    """A pattern on a text field, of the whole value and not of its words."""
    if isinstance(value, Pattern):
        matches = compile_pattern(value)
        return ValueTest(lambda got, _: matches(keyword_text(got)))
    if isinstance(value, RegExp):
        return equality(FieldType.KEYWORD, value)
    return NEVER
