"""Tests of one value, by the type of its field: what Elasticsearch does with a leaf of a query.

A test takes a value as JSON gave it and the run's time in milliseconds (for `now` in dates),
and never raises: a value that does not suit the type does not match.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from operator import ge, gt, le, lt
from typing import Any, Final

from barrelman.engine.analysis import words
from barrelman.engine.fuzzy import WordsTest, near_words, within_edits
from barrelman.engine.patterns import TextTest, compile_pattern
from barrelman.engine.texts import any_word, fold_case, pattern_of_words, phrase, plain_text
from barrelman.errors import TimeError
from barrelman.query.ast import (
    Boolean,
    Fuzzy,
    Near,
    Null,
    Number,
    Pattern,
    RangeOp,
    RegExp,
    Text,
    Value,
)
from barrelman.query.typecheck import NUMBER, pattern_text
from barrelman.records.addresses import merge_spans, parse_address, parse_span
from barrelman.records.fields import FieldType
from barrelman.records.frozen import frozen
from barrelman.records.paths import Scalar
from barrelman.records.times import DateMath, parse_date_math, parse_instant_us
from barrelman.records.versions import version_key

Test = Callable[[Scalar, int], bool]

Comparison = Callable[[Any, Any], bool]

_WHOLE: Final = (FieldType.KEYWORD, FieldType.FLATTENED, FieldType.VERSION)
"""Whose values are compared as one text each."""
_TRUTHS: Final = {"true": True, "false": False, "": False}
COMPARE: Final[dict[RangeOp, Comparison]] = {"gt": gt, "gte": ge, "lt": lt, "lte": le}
_DATE_LITERAL = re.compile(r"now\b.*|\d{4}-\d\d.*", re.ASCII | re.DOTALL)
_DATE_VALUE = re.compile(r"\d{4}-\d\d-\d\d.*", re.ASCII | re.DOTALL)


@frozen
class ValueTest:
    """A test and whether its answer depends on the run's time."""

    test: Test
    uses_now: bool = False


def _never(value: Scalar, now_ms: int) -> bool:
    return False


NEVER: Final = ValueTest(_never)


def keyword_text(value: Scalar) -> str:
    """A value as a keyword field indexes it."""
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    return repr(value)


def equality(kind: FieldType | None, value: Value) -> ValueTest:
    """The test of `field: value` for a field of that type; None types by the value itself."""
    if isinstance(value, Pattern):
        return _pattern(kind, value)
    if isinstance(value, Boolean):
        return _boolean(kind, value.value)
    if isinstance(value, RegExp):
        return _regexp(kind, value)
    if isinstance(value, Fuzzy):
        return _fuzzy(kind, value)
    if isinstance(value, Near):
        if kind is FieldType.TEXT:
            return _near(value)
        value = Text(value.text, quoted=True)
    if isinstance(value, Null | Number):
        return NEVER
    match kind:
        case FieldType.KEYWORD | FieldType.FLATTENED | FieldType.VERSION:
            wanted = value.value
            return ValueTest(lambda got, _: got == wanted or keyword_text(got) == wanted)
        case FieldType.TEXT:
            return _analysed(value)
        case FieldType.BOOLEAN:
            # Free text and wildcard names come here with texts that are neither.
            wanted_truth = _TRUTHS.get(value.value)
            return NEVER if wanted_truth is None else _boolean(kind, wanted_truth)
        case FieldType.LONG | FieldType.DOUBLE:
            return _number(value.value, whole=kind is FieldType.LONG)
        case FieldType.DATE:
            return _date_span(value.value) or NEVER
        case FieldType.IP:
            return _addresses([value.value]) or NEVER
        case FieldType.NESTED:
            return NEVER
        case _:
            return _by_value([value.value])


def any_equality(kind: FieldType | None, values: Iterable[Value]) -> ValueTest:
    """The test of `field: (a or b or …)`: what can be looked up at once is."""
    texts: list[str] = []
    folded: list[str] = []
    tests: list[ValueTest] = []
    for value in values:
        if isinstance(value, Text) and kind in (None, FieldType.IP):
            texts.append(value.value)
        elif kind in (None, *_WHOLE) and (plain := plain_text(value)) is not None:
            folded.append(plain)
        elif (made := equality(kind, value)) is not NEVER:
            tests.append(made)
    if texts:
        joined = _by_value(texts) if kind is None else _addresses(texts)
        tests += [joined] if joined is not None else []
    if folded:
        tests.append(_any_case(kind, folded))
    if len(tests) <= 1:
        return tests[0] if tests else NEVER

    def test(got: Scalar, now_ms: int) -> bool:
        return any(each.test(got, now_ms) for each in tests)

    return ValueTest(test, any(each.uses_now for each in tests))


def comparison(kind: FieldType | None, op: RangeOp, value: Text | Pattern) -> ValueTest:
    """The test of `field > value` and its kin."""
    text = value.value if isinstance(value, Text) else pattern_text(value)
    compare = COMPARE[op]
    match kind:
        case FieldType.KEYWORD | FieldType.FLATTENED:
            return _keyword_order(compare, text)
        case FieldType.VERSION:
            version = version_key(text)
            return ValueTest(lambda got, _: compare(version_key(keyword_text(got)), version))
        case FieldType.TEXT:
            return ValueTest(
                lambda got, _: any(compare(word, text) for word in words(keyword_text(got)))
            )
        case FieldType.LONG | FieldType.DOUBLE:
            bound = _parse_number(text)
            if bound is None:
                return NEVER
            whole = kind is FieldType.LONG
            return ValueTest(
                lambda got, _: (
                    (number := as_number(got, whole=whole)) is not None and compare(number, bound)
                )
            )
        case FieldType.DATE:
            return _date_order(op, text, as_date_ms) or NEVER
        case FieldType.IP:
            return _address_order(compare, text) or NEVER
        case FieldType.BOOLEAN | FieldType.NESTED:
            return NEVER
        case _:
            return _by_value_order(op, text)


def interval(kind: FieldType | None, bounds: Iterable[tuple[RangeOp, Text]]) -> ValueTest:
    """The test of one value against several bounds at once."""
    tests = [comparison(kind, op, value) for op, value in bounds]
    if NEVER in tests:
        return NEVER

    def test(got: Scalar, now_ms: int) -> bool:
        return all(each.test(got, now_ms) for each in tests)

    return ValueTest(test, any(each.uses_now for each in tests))


def existence(kind: FieldType | None, *, empty_text: bool) -> Test:
    """Whether a value counts as one: on a text field it must hold a word."""
    if kind is FieldType.TEXT:
        return lambda got, _: bool(words(keyword_text(got)))
    return lambda got, _: empty_text or got != ""


# --- booleans and numbers ------------------------------------------------------------------


def _is_false() -> ValueTest:
    return ValueTest(lambda got, _: got is False or got in ("false", ""))


def _boolean(kind: FieldType | None, wanted: bool) -> ValueTest:
    text = "true" if wanted else "false"
    if kind is FieldType.BOOLEAN and not wanted:
        return _is_false()
    if kind in (None, FieldType.BOOLEAN, *_WHOLE):
        return ValueTest(lambda got, _: got is wanted or got == text)
    if kind is FieldType.TEXT:
        return ValueTest(lambda got, _: text in words(keyword_text(got)))
    return NEVER


def _parse_number(text: str) -> int | float | None:
    if not NUMBER.fullmatch(text):
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)


def as_number(value: Scalar, *, whole: bool) -> int | float | None:
    number: int | float | None
    if isinstance(value, str):
        number = _parse_number(value)
    elif isinstance(value, bool):
        number = None
    else:
        number = value
    if whole and isinstance(number, float):
        # Elasticsearch's coerce drops the fraction of a value, never of a query's number.
        number = int(number) if abs(number) < 2**63 else None
    return number


def _number(text: str, *, whole: bool) -> ValueTest:
    wanted = _parse_number(text)
    if wanted is None:
        return NEVER
    return ValueTest(lambda got, _: as_number(got, whole=whole) == wanted)


# --- dates and addresses -------------------------------------------------------------------


def as_date_ms(value: Scalar) -> int | None:
    instant = parse_instant_us(value)
    return None if instant is None else instant // 1000


def _looks_like_date_ms(value: Scalar) -> int | None:
    if type(value) is str and _DATE_VALUE.fullmatch(value):
        return as_date_ms(value)
    return None


def _parse_date(text: str) -> DateMath | None:
    try:
        return parse_date_math(text)
    except TimeError:
        return None


def _date_span(text: str, read: Callable[[Scalar], int | None] = as_date_ms) -> ValueTest | None:
    """Equality of dates: a value within the span that the literal's precision leaves open."""
    date = _parse_date(text)
    if date is None:
        return None
    first, last = _bound(date, round_up=False), _bound(date, round_up=True)

    def test(got: Scalar, now_ms: int) -> bool:
        instant = read(got)
        if instant is None:
            return False
        low, high = first(now_ms), last(now_ms)
        return low is not None and high is not None and low <= instant <= high

    return ValueTest(test, date.is_relative)


def _date_order(op: RangeOp, text: str, read: Callable[[Scalar], int | None]) -> ValueTest | None:
    date = _parse_date(text)
    if date is None:
        return None
    compare, limit = COMPARE[op], _bound(date, round_up=op in ("gt", "lte"))

    def test(got: Scalar, now_ms: int) -> bool:
        instant = read(got)
        if instant is None:
            return False
        bound = limit(now_ms)
        return bound is not None and compare(instant, bound)

    return ValueTest(test, date.is_relative)


def _bound(date: DateMath, *, round_up: bool) -> Callable[[int], int | None]:
    """A date's instant at a run's time; None where it leaves the calendar."""

    def resolve(now_ms: int) -> int | None:
        try:
            return date.resolve_ms(now_ms, round_up=round_up)
        except TimeError:
            return None

    if date.is_relative:
        return resolve
    fixed = resolve(0)
    return lambda now_ms: fixed


def _addresses(texts: Iterable[str]) -> ValueTest | None:
    """Equality with any of the addresses or networks among these: a list of thousands is one
    search. None where there is none."""
    spans = merge_spans(span for text in texts if (span := parse_span(text)) is not None)
    if not spans:
        return None
    lows, highs = [low for low, _ in spans], [high for _, high in spans]

    def test(got: Scalar, now_ms: int) -> bool:
        address = parse_address(got)
        if address is None:
            return False
        at = bisect_right(lows, address) - 1
        return at >= 0 and address <= highs[at]

    return ValueTest(test)


def _address_order(compare: Comparison, text: str) -> ValueTest | None:
    bound = parse_address(text)
    if bound is None:
        return None
    return ValueTest(
        lambda got, _: (address := parse_address(got)) is not None and compare(address, bound)
    )


# --- keywords, and fields that no catalogue types ------------------------------------------


def _keyword_order(compare: Comparison, text: str) -> ValueTest:
    """Code-point order, which is UTF-8 byte order. A JSON number is compared as a number:

    no author means that 10 replicas are fewer than 9, and a mapping would have made it a long.
    """
    bound = _parse_number(text)

    def test(got: Scalar, now_ms: int) -> bool:
        if bound is not None and not isinstance(got, str | bool):
            return compare(got, bound)
        return compare(keyword_text(got), text)

    return ValueTest(test)


def _by_value(texts: Sequence[str]) -> ValueTest:
    """Equality with any of these, where the value decides what that means."""
    exact = frozenset(texts)
    numbers = frozenset(n for text in texts if (n := _parse_number(text)) is not None)
    dates = [
        _date_span(text, _looks_like_date_ms) for text in texts if _DATE_LITERAL.fullmatch(text)
    ]
    others = [test for test in (_addresses(texts), *dates) if test is not None]

    def test(got: Scalar, now_ms: int) -> bool:
        if type(got) is str:
            return got in exact or any(other.test(got, now_ms) for other in others)
        if type(got) is bool:
            return keyword_text(got) in exact
        return got in numbers

    return ValueTest(test, any(other.uses_now for other in others))


def _by_value_order(op: RangeOp, text: str) -> ValueTest:
    compare = COMPARE[op]
    number, address = _parse_number(text), parse_address(text)
    dates = _date_order(op, text, _looks_like_date_ms) if _DATE_LITERAL.fullmatch(text) else None

    def test(got: Scalar, now_ms: int) -> bool:
        if type(got) is bool:
            return False
        if type(got) is not str:
            return number is not None and compare(got, number)
        if dates is not None and _looks_like_date_ms(got) is not None:
            return dates.test(got, now_ms)
        if address is not None and (got_address := parse_address(got)) is not None:
            return compare(got_address, address)
        return compare(got, text)

    return ValueTest(test, dates is not None and dates.uses_now)


def _any_case(kind: FieldType | None, texts: Iterable[str]) -> ValueTest:
    """Equality with any of these whatever the case of ASCII letters: a list is one look-up."""
    wanted = frozenset(map(fold_case, texts))
    return _of_whole(kind, lambda text: fold_case(text) in wanted)


def _of_whole(kind: FieldType | None, matches: TextTest) -> ValueTest:
    if kind in _WHOLE:
        return ValueTest(lambda got, _: matches(keyword_text(got)))
    if kind is None:
        return ValueTest(lambda got, _: type(got) is str and matches(got))
    return NEVER


def _of_words(matches: WordsTest) -> ValueTest:
    return ValueTest(lambda got, _: matches(words(keyword_text(got))))


def _of_text(kind: FieldType | None, matches: TextTest) -> ValueTest:
    """A test of a whole value, on a text field of each of its words."""
    if kind is FieldType.TEXT:
        return _of_words(lambda found: any(map(matches, found)))
    return _of_whole(kind, matches)


def _regexp(kind: FieldType | None, value: RegExp) -> ValueTest:
    from barrelman.engine.regexp import compile_regexp  # late: few rules have one

    return _of_text(kind, compile_regexp(value.source, ignore_case=value.ignore_case))


def _fuzzy(kind: FieldType | None, value: Fuzzy) -> ValueTest:
    wanted = value.text.lower() if kind is FieldType.TEXT else value.text
    return _of_text(kind, within_edits(wanted, value.edits))


def _near(value: Near) -> ValueTest:
    wanted = words(value.text)
    return _of_words(near_words(wanted, value.slop)) if wanted else NEVER


def _analysed(value: Text) -> ValueTest:
    wanted = words(value.value)
    if not wanted:
        return NEVER
    return _of_words(phrase(wanted) if value.quoted else any_word(wanted))


def _pattern(kind: FieldType | None, pattern: Pattern) -> ValueTest:
    if kind is FieldType.TEXT:
        return _of_words(pattern_of_words(pattern))
    if (plain := plain_text(pattern)) is not None and kind in (None, *_WHOLE):
        return _any_case(kind, [plain])
    return _of_whole(kind, compile_pattern(pattern))
