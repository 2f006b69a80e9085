"""What a query string or a body asks for, read strictly: a name that is not known is an error."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from starlette.requests import Request

from barrelman.errors import TimeError
from barrelman.records.times import format_instant, parse_date_math
from barrelman.server.problems import RefusedError

_MOST_TEXT: Final = 100_000
_EXCLUSIVE: Final = ("order",)
"""Choices of which there can be only one, however they are read."""


class Asked:
    """The query of a request. Whatever is wrong raises RefusedError with the field's name."""

    def __init__(self, request: Request, *, known: Collection[str]) -> None:
        self._now_ms: int = request.app.state.service.clock.now_us() // 1000
        self._values = request.query_params
        for name in self._values:
            if name not in known:
                raise wrong(name, "is not known here", hint=f"known: {', '.join(sorted(known))}")

    def text(self, name: str, default: str = "") -> str:
        given = self._once(name)
        return default if given is None else given

    def words(self, name: str) -> list[str]:
        """Given several times, or with commas between. Empty only where the name is not there:
        who filters by nothing at all has lost a value, and does not mean everything."""
        words: list[str] = []
        for each in self._values.getlist(name):
            found = [word.strip() for word in each.split(",") if word.strip()]
            if not found:
                raise wrong(name, "is empty", hint="leave it out to ask for all")
            words += found
        if name in _EXCLUSIVE and len(words) > 1:
            raise wrong(name, "is given more than once")
        return words

    def one_of(self, name: str, allowed: Collection[str]) -> list[str] | None:
        """Words, each of them one of `allowed`; None where there are none."""
        words = self.words(name)
        for word in words:
            check_choice(name, word, allowed)
        return words or None

    def number(self, name: str, default: int, *, least: int = 0, most: int) -> int:
        given = self._once(name)
        if given is None:
            return default
        digits = given.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            raise wrong(name, "is no whole number")
        if not least <= int(given) <= most:
            raise wrong(name, f"is not between {least} and {most}")
        return int(given)

    def is_set(self, name: str) -> bool:
        given = self.text(name, "false")
        check_choice(name, given, ("true", "false"))
        return given == "true"

    def instant_us(self, name: str, *, is_end: bool = False) -> int | None:
        """A date, or date math such as `now-1h`. The end of a range means all of its last unit."""
        given = self._once(name)
        return (
            None
            if given is None
            else 1000 * self._instant_ms(name, given, is_end) + (999 if is_end else 0)
        )

    def _once(self, name: str) -> str | None:
        """Of two values one would be passed over, and which one nobody could tell."""
        given = self._values.getlist(name)
        if len(given) > 1:
            raise wrong(name, "is given more than once")
        return given[0] if given else None

    def _instant_ms(self, name: str, given: str, is_end: bool) -> int:
        try:
            return parse_date_math(given).resolve_ms(self._now_ms, round_up=is_end)
        except TimeError as error:
            raise wrong(name, error.message, hint=error.hint) from None


class Given:
    """A JSON object, field by field."""

    def __init__(self, values: Mapping[str, Any], *, known: Collection[str], now_ms: int) -> None:
        self._values = values
        self._now_ms = now_ms
        for name in values:
            if name not in known:
                raise wrong(
                    name[:100], "is not known here", hint=f"known: {', '.join(sorted(known))}"
                )

    def text(self, name: str, *, is_required: bool = False) -> str | None:
        value = self._values.get(name)
        if value is None and not is_required:
            return None
        if not isinstance(value, str) or (is_required and not value.strip()):
            raise wrong(name, "must be a text")
        if len(value) > _MOST_TEXT:
            raise wrong(name, f"is longer than {_MOST_TEXT} characters")
        return value

    def choice(self, name: str, allowed: Collection[str], *, is_required: bool = False) -> Any:
        value = self.text(name, is_required=is_required)
        if value is not None:
            check_choice(name, value, allowed)
        return value

    def texts(self, name: str, *, most: int = 10_000) -> list[str] | None:
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise wrong(name, "must be a list of texts")
        if len(value) > most:
            raise wrong(name, f"has more than {most} elements")
        return value

    def instant_ms(self, name: str, *, is_required: bool = False) -> int | None:
        value = self.text(name, is_required=is_required)
        if value is None:
            return None
        try:
            return parse_date_math(value).resolve_ms(self._now_ms)
        except TimeError as error:
            raise wrong(name, error.message, hint=error.hint) from None


def check_choice(name: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise wrong(name, f"is not {value[:50]!r}", hint=f"one of {', '.join(sorted(allowed))}")


def wrong(name: str, what: str, *, hint: str | None = None) -> RefusedError:
    return RefusedError(f"{name} {what}", code="invalid_field", field=name, hint=hint)


def instant(at_us: int | None) -> str | None:
    """As answers hold it."""
    return None if at_us is None else format_instant(at_us // 1000)
