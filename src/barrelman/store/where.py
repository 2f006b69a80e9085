"""A tree of tests as SQL. Values become parameters, never text."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from barrelman.records.where import (
    NUMBER_COLUMNS,
    TEXT_COLUMNS,
    Always,
    And,
    Between,
    Equals,
    In,
    IsNull,
    Not,
    Or,
    Prefix,
    Where,
    Wildcard,
)
from barrelman.store.bounds import Bounds, Span

_LISTS = frozenset({"source_ips"})
_ESCAPE = "\\"
_INT64 = range(-(1 << 63), 1 << 63)
_INSTANTS = range(-(1 << 62), 1 << 62)


class Values:
    """Parameters of a statement, named as they come."""

    def __init__(self) -> None:
        self.named: dict[str, object] = {}

    def add(self, value: object) -> str:
        """A value's place in the statement."""
        name = f"v{len(self.named)}"
        self.named[name] = value
        return f"${name}"


def render(where: Where, values: Values) -> str:
    """The condition, for a WHERE: of a row it is not true of it may be false or null."""
    return _render(where, values, is_exact=False)


def render_bounds(bounds: Bounds, values: Values, *, has_unplain: bool) -> str:
    """The condition that rows lie in bounds.

    A row without a time of its own is outside any bounds of time, unless its columns are hints.
    """
    parts = [_between("seq", bounds.seq, values)]
    parts.append(_within("arrival", bounds.arrival_us, values))
    if bounds.time_us != (None, None):
        timed = _within("time", bounds.time_us, values)
        parts.append(f"({timed} OR (time IS NULL AND NOT is_plain))" if has_unplain else timed)
    if bounds.clusters is not None:
        parts.append(_render(In("cluster", tuple(sorted(bounds.clusters))), values, is_exact=False))
    return " AND ".join(parts)


def _render(where: Where, values: Values, *, is_exact: bool) -> str:
    """`is_exact`: what is not true must be false, as a NOT stands around it."""
    match where:
        case Always(is_true):
            return "TRUE" if is_true else "FALSE"
        case Not(part):
            return f"(NOT {_render(part, values, is_exact=True)})"
        case And(parts):
            return _joined(" AND ", parts, values, is_exact=is_exact, empty="TRUE")
        case Or(parts):
            return _joined(" OR ", parts, values, is_exact=is_exact, empty="FALSE")
        case IsNull(column):
            name = _name(column)
            return f"(coalesce(len({name}), 0) = 0)" if column in _LISTS else f"({name} IS NULL)"
        case _:
            test = _test(where, values)
            return f"coalesce({test}, FALSE)" if is_exact else test


def _test(where: Equals | In | Prefix | Wildcard | Between, values: Values) -> str:
    """A test of one value; null where the column is."""
    match where:
        case Equals(column, value) if column in _LISTS and _suits(column, value):
            return f"list_contains({_name(column)}, {values.add(value)})"
        case Equals(column, value):
            return _of_any(column, lambda name: _equal(column, name, value, values))
        case In(column, choices):
            fitting = [each for each in choices if _suits(column, each)]
            if not fitting:
                return "FALSE"
            listed = ", ".join(values.add(each) for each in fitting)
            if column in _LISTS:
                return f"list_has_any({_name(column)}, [{listed}])"
            return _of_any(column, lambda name: f"{name} IN ({listed})")
        case Prefix(column, text):
            return _of_any(_text(column), lambda name: f"starts_with({name}, {values.add(text)})")
        case Wildcard(column, pattern):
            like = values.add(_like(pattern))
            return _of_any(_text(column), lambda name: f"{name} LIKE {like} ESCAPE '{_ESCAPE}'")
        case Between(column, low, high):
            if column not in NUMBER_COLUMNS:
                raise ValueError(f"{column} is no column of numbers")
            if (low or 0) > _INT64[-1] or (high or 0) < _INT64[0]:
                return "FALSE"
            return f"({column} IS NOT NULL AND {_between(column, (low, high), values)})"
        case _:
            assert_never(where)


def _of_any(column: str, test: Callable[[str], str]) -> str:
    name = _name(column)
    if column not in _LISTS:
        return f"({test(name)})"
    return f"(len(list_filter({name}, lambda each: {test('each')})) > 0)"


def _equal(column: str, name: str, value: str | int, values: Values) -> str:
    return f"{name} = {values.add(value)}" if _suits(column, value) else "FALSE"


def _suits(column: str, value: str | int) -> bool:
    """Whether the column could hold the value at all."""
    if column in NUMBER_COLUMNS:
        return isinstance(value, int) and value in _INT64
    return isinstance(value, str) and _is_text(value)


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _joined(
    word: str, parts: tuple[Where, ...], values: Values, *, is_exact: bool, empty: str
) -> str:
    if not parts:
        return empty
    return f"({word.join(_render(part, values, is_exact=is_exact) for part in parts)})"


def _between(column: str, span: Span, values: Values) -> str:
    low, high = span
    tests = ["TRUE"]
    if low is not None:
        tests.append(f"{column} >= {values.add(_clamped(low, _INT64))}")
    if high is not None:
        tests.append(f"{column} <= {values.add(_clamped(high, _INT64))}")
    return f"({' AND '.join(tests[1:] or tests)})"


def _within(column: str, span: Span, values: Values) -> str:
    low, high = span
    tests = ["TRUE"]
    if low is not None:
        tests.append(f"{column} >= make_timestamptz({values.add(_clamped(low, _INSTANTS))})")
    if high is not None:
        tests.append(f"{column} <= make_timestamptz({values.add(_clamped(high, _INSTANTS))})")
    return f"({' AND '.join(tests[1:] or tests)})"


def _clamped(number: int, within: range) -> int:
    return min(max(number, within[0]), within[-1])


def _name(column: str) -> str:
    if column not in TEXT_COLUMNS and column not in NUMBER_COLUMNS:
        raise ValueError(f"{column} is no column")
    return f'"{column}"'


def _text(column: str) -> str:
    if column not in TEXT_COLUMNS:
        raise ValueError(f"{column} is no column of texts")
    return column


def _like(pattern: str) -> str:
    escaped = pattern.replace(_ESCAPE, _ESCAPE * 2).replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")
