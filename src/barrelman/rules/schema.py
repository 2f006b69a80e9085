"""A small language for the shape of rule fields: tables say what is allowed, this checks it.

Checking also cleans: what comes back holds the known keys only, whole numbers as `int`, and
lists where one value stood for a list. Problems are collected, never raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from math import isfinite
from typing import Any, Final, Protocol

from barrelman.errors import TimeError
from barrelman.records.frozen import frozen
from barrelman.rules.locate import Path

_MAX_DEPTH: Final = 64
"""How deep a free-form object may nest: alerts carry it, and JSON writers have their limits."""


@frozen
class Problem:
    """What is wrong with the value at `at`."""

    at: Path
    message: str
    hint: str | None = None


class Absent:
    """The default of a field that stays away when it is not given."""


ABSENT: Final = Absent()


class Kind(Protocol):
    """What a value must look like."""

    def check(self, value: object, at: Path, problems: list[Problem]) -> Any:
        """The cleaned value. What is wrong is appended to `problems`."""
        ...


@frozen
class Field:
    kind: Kind
    required: bool = False
    default: object = ABSENT


@frozen
class String:
    """A text. `parse` may raise TimeError; its result is not kept."""

    least: int = 0
    choices: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None
    expected: str = "text"
    parse: Callable[[str], object] | None = None

    def check(self, value: object, at: Path, problems: list[Problem]) -> Any:
        if not isinstance(value, str):
            problems.append(mismatch(at, self._describe(), value))
        elif len(value) < self.least:
            problems.append(Problem(at, f"{dotted(at)}: must not be empty"))
        elif (self.choices and value not in self.choices) or (
            self.pattern is not None and self.pattern.fullmatch(value) is None
        ):
            problems.append(mismatch(at, self._describe(), value))
        elif self.parse is not None:
            try:
                self.parse(value)
            except TimeError as error:
                problems.append(Problem(at, f"{dotted(at)}: {error.message}", error.hint))
        return value

    def _describe(self) -> str:
        if not self.choices:
            return self.expected
        names = [f"'{choice}'" for choice in self.choices]
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


@frozen
class Integer:
    """A whole number; `47.0` is one, as it is in JSON."""

    least: int
    most: int | None = None

    def check(self, value: object, at: Path, problems: list[Problem]) -> Any:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        most = self.most if self.most is not None else 2**53
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or not self.least <= value <= most:  # type: ignore[operator]
            top = f"to {self.most}" if self.most is not None else "up"
            problems.append(mismatch(at, f"a whole number from {self.least} {top}", value))
        return value


@frozen
class Flag:
    def check(self, value: object, at: Path, problems: list[Problem]) -> Any:
        if not isinstance(value, bool):
            problems.append(mismatch(at, "true or false", value))
        return value


@frozen
class ListOf:
    """A list. `single` takes one bare item as a list of it."""

    item: Kind
    least: int = 0
    most: int | None = None
    single: bool = False

    def check(self, value: object, at: Path, problems: list[Problem]) -> Any:
        if not isinstance(value, list):
            if not self.single:
                problems.append(mismatch(at, "a list", value))
                return []
            return [self.item.check(value, at, problems)]
        if len(value) < self.least or (self.most is not None and len(value) > self.most):
            problems.append(mismatch(at, self._describe(), value))
        return [
            self.item.check(element, (*at, index), problems) for index, element in enumerate(value)
        ]

    def _describe(self) -> str:
        if self.most is None:
            return f"a list of at least {self.least}"
        return f"a list of {self.least} to {self.most}"


@frozen
class Table:
    """An object with named fields. Unknown keys are dropped; null is the same as not given."""

    fields: Mapping[str, Field]

    def check(self, value: object, at: Path, problems: list[Problem]) -> Any:
        if not isinstance(value, dict):
            problems.append(mismatch(at, "an object", value))
            return {}
        cleaned: dict[str, Any] = {}
        for name, spec in self.fields.items():
            given = value.get(name)
            if given is not None:
                cleaned[name] = spec.kind.check(given, (*at, name), problems)
            elif spec.required:
                where = (*at, name)
                problems.append(Problem(where, f"{dotted(where)}: missing, and it is required"))
            elif not isinstance(spec.default, Absent):
                cleaned[name] = (
                    list(spec.default) if isinstance(spec.default, list) else spec.default
                )
        return cleaned


@frozen
class Free:
    """An object nothing here looks into; it comes back fit for JSON."""

    def check(self, value: object, at: Path, problems: list[Problem]) -> Any:
        if not isinstance(value, dict):
            problems.append(mismatch(at, "an object", value))
            return {}
        if is_deeper_than(value, _MAX_DEPTH):
            problems.append(Problem(at, f"{dotted(at)}: nested deeper than {_MAX_DEPTH} levels"))
            return {}
        return to_json(value)


def mismatch(at: Path, expected: str, value: object) -> Problem:
    return Problem(at, f"{dotted(at)}: expected {expected}, found {describe_value(value)}")


def dotted(path: Path) -> str:
    """A path as people write it: `threat[0].tactic.id`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def describe_value(value: object) -> str:
    """A value as an error message names it, cut short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"the number {value:.15g}"
    if isinstance(value, int):
        return f"the number {value}" if abs(value) < 2**64 else "a number beyond all bounds"
    if isinstance(value, str):
        shown = value if len(value) <= 60 else f"{value[:57]}..."
        return f"'{shown}'"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, dict) else "a date or time"


def is_deeper_than(value: object, limit: int) -> bool:
    """Whether objects and lists nest deeper than `limit`. Does not recurse."""
    level = [value]
    for _ in range(limit + 1):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True


def to_json(value: Any) -> Any:
    """The same data in what JSON knows: TOML's dates as text, no infinite or giant numbers."""
    if isinstance(value, dict):
        return {str(key): to_json(child) for key, child in value.items()}
    if isinstance(value, list):
        return [to_json(child) for child in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return hex(value)
    return value
