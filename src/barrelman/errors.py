"""Every error Barrelman raises on purpose.

One tree. Each error says what failed, where (path, line, column, as far as known) and
what to do; `str()` of one is what a person reads, with the offending line and a caret.
"""

from __future__ import annotations

from typing import NamedTuple, Self


class Place(NamedTuple):
    """Where something is wrong. Lines and columns count from 1, columns in characters."""

    path: str | None = None
    line: int | None = None
    column: int | None = None
    text: str | None = None
    """The whole line of source that `line` names, to draw the caret under."""

    def __str__(self) -> str:
        parts = [str(part) for part in (self.path, self.line, self.column) if part is not None]
        return ":".join(parts)


NOWHERE = Place()

# A query may be one line of thousands of characters: the caret is drawn in a window of it.
_CARET_WINDOW = 76


class BarrelmanError(Exception):
    """Base of all. `message` is one sentence without the place; `hint` says what to do."""

    def __init__(self, message: str, *, place: Place = NOWHERE, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.hint = hint

    def at(self, **changes: str | int | None) -> Self:
        """The same error with parts of its place replaced (`path=`, `line=`, …)."""
        return type(self)(
            self.message,
            place=self.place._replace(**changes),  # type: ignore[arg-type]  # keys are Place's
            hint=self.hint,
        )

    def oneline(self) -> str:
        """Place, message and hint in one line, for lists and JSON."""
        where = f"{self.place}: " if str(self.place) else ""
        hint = f" ({self.hint})" if self.hint else ""
        # A value that an error quotes may hold a line feed: it must not look like another line.
        return f"{where}{self.message}{hint}".replace("\n", "\\n")

    def __str__(self) -> str:
        return "\n".join(part for part in (self.oneline(), draw_caret(self.place)) if part)


class TimeError(BarrelmanError):
    """A date, a duration or a date-math expression that cannot be read."""


class QueryError(BarrelmanError):
    """A query is wrong. Line and column are those within the query text."""


class QuerySyntaxError(QueryError):
    """A query does not follow its language's grammar."""


class QueryTypeError(QueryError):
    """A query parses, but a value cannot be compared with its field's type."""


class RuleError(BarrelmanError):
    """A rule file is broken: this rule is *invalid*."""


class UnsupportedError(BarrelmanError):
    """A construct is valid, and not run by this version: its rule is *unsupported*."""


class ExceptionListError(BarrelmanError):
    """An exception list, or an item in one, is broken."""


class MappingError(BarrelmanError):
    """An index's mapping cannot be read as one."""


class InputError(BarrelmanError):
    """A source of events cannot be opened or read to its end."""


class StoreError(BarrelmanError):
    """The data folder cannot be read or written: locked, full, damaged, of a newer version."""


class ConflictError(BarrelmanError):
    """What is to be made exists already, or has changed since it was read."""


class SinkError(BarrelmanError):
    """A message could not be handed over. `is_final`: it never will be, as it stands."""

    def __init__(
        self,
        message: str,
        *,
        place: Place = NOWHERE,
        hint: str | None = None,
        is_final: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, place=place, hint=hint)
        self.is_final = is_final
        self.retry_after_seconds = retry_after_seconds


class ConfigError(BarrelmanError):
    """A setting is unknown, of the wrong type, out of range, or at odds with another."""


class RequestError(BarrelmanError):
    """What a client asked for cannot be done as it was asked."""


class RequestShapeError(RequestError):
    """A request whose parts are not of the form they must have."""


class NotFoundError(RequestError):
    """What a request names does not exist."""


class UsageError(BarrelmanError):
    """A flag or an argument makes no sense, alone or with another."""


def draw_caret(place: Place) -> str:
    """The source line with a caret below the column, or "" where either is unknown.

    Control characters are drawn as spaces so that the caret stays below its character.
    """
    if place.text is None or place.column is None:
        return ""
    text = place.text  # may be megabytes: only the window of it is looked at
    column = min(max(place.column, 1), len(text) + 1)
    start = 0
    if len(text) > _CARET_WINDOW:
        start = max(0, min(column - 1 - _CARET_WINDOW // 2, len(text) - _CARET_WINDOW))
    window = text[start : start + _CARET_WINDOW]
    shown = "".join(char if char.isprintable() else " " for char in window)
    return f"    {shown}\n    {' ' * (column - 1 - start)}^"


def place_in_text(text: str, offset: int, *, path: str | None = None) -> Place:
    """The place of a character offset in a text; an offset at the end is after the last one."""
    offset = max(0, min(offset, len(text)))
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", offset)
    source_line = text[start : end if end >= 0 else len(text)].rstrip("\r")
    return Place(path, text.count("\n", 0, offset) + 1, offset - start + 1, source_line)
