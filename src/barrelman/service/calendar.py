"""The intervals of a date histogram: fixed ones, and those of the calendar in some time zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from barrelman.errors import RequestError, TimeError
from barrelman.records.frozen import frozen
from barrelman.records.times import EPOCH, parse_date_math

_FIXED: Final = re.compile(r"(\d{1,9})(ms|s|m|h|d)", re.ASCII)
_OFFSET: Final = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII)
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_MILLISECOND: Final = timedelta(milliseconds=1)
_CALENDAR: Final = {
    **dict.fromkeys(("minute", "1m"), "m"),
    **dict.fromkeys(("hour", "1h"), "h"),
    **dict.fromkeys(("day", "1d"), "d"),
    **dict.fromkeys(("week", "1w"), "w"),
    **dict.fromkeys(("month", "1M"), "M"),
    **dict.fromkeys(("quarter", "1q"), "q"),
    **dict.fromkeys(("year", "1y"), "y"),
}


@frozen
class Intervals:
    """Time divided: `unit` of the calendar, or where there is none `step_ms` from the epoch on."""

    zone: tzinfo
    unit: str | None = None
    step_ms: int = 0

    def start_of(self, instant_ms: int) -> int | None:
        """The beginning of the interval that an instant lies in; None where no date names it."""
        try:
            local = (EPOCH + timedelta(milliseconds=instant_ms)).astimezone(self.zone)
            if self.unit is not None:
                return self._instant(_floor(local, self.unit))
            shift = (local.utcoffset() or timedelta()) // _MILLISECOND
            start = instant_ms + shift
            start -= start % self.step_ms + shift
            _ = EPOCH + timedelta(milliseconds=start)
        except OverflowError:
            return None
        return start

    def next_after(self, start_ms: int) -> int | None:
        """The beginning of the interval that follows the one that begins at `start_ms`."""
        if self.unit is None:
            return start_ms + self.step_ms
        if self.unit in "mh":  # a clock set back does not make an hour longer
            return start_ms + _UNIT_MS[self.unit]
        try:
            local = (EPOCH + timedelta(milliseconds=start_ms)).astimezone(self.zone)
            return self._instant(_step(local, self.unit))
        except (OverflowError, ValueError):
            return None

    @staticmethod
    def _instant(local: datetime) -> int:
        return (local.astimezone(UTC) - EPOCH) // _MILLISECOND

    @staticmethod
    def instant(value: object, *, now_ms: int, where: str) -> int | None:
        """A bound as requests write it: milliseconds or date math."""
        if value is None:
            return None
        try:
            return parse_date_math(str(value)).resolve_ms(now_ms)
        except TimeError as error:
            raise RequestError(f"{where}: {error.message}") from None


def _floor(local: datetime, unit: str) -> datetime:
    if unit == "m":
        return local.replace(second=0, microsecond=0)
    if unit == "h":
        return local.replace(minute=0, second=0, microsecond=0)
    day = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if unit == "w":
        return day - timedelta(days=day.weekday())
    if unit == "M":
        return day.replace(day=1)
    if unit == "q":
        return day.replace(month=day.month - (day.month - 1) % 3, day=1)
    return day.replace(month=1, day=1) if unit == "y" else day


def _step(local: datetime, unit: str) -> datetime:
    days = {"d": 1, "w": 7, "M": 32, "q": 100, "y": 370}[unit]
    later = local.replace(fold=0) + timedelta(days=days)  # by the clock on the wall
    return _floor(later, unit)


def parse_intervals(
    *, fixed_interval: object, calendar_interval: object, interval: object, zone: object
) -> Intervals:
    """One of the three says the interval. Raises ValueError with what is wrong."""
    given = [each for each in (fixed_interval, calendar_interval, interval) if each is not None]
    if len(given) != 1:
        raise ValueError("expected one of fixed_interval and calendar_interval")
    text = str(given[0])
    where = _parse_zone(zone)
    if fixed_interval is None and text in _CALENDAR:
        return Intervals(where, unit=_CALENDAR[text])
    found = _FIXED.fullmatch(text)
    if calendar_interval is not None or found is None or not int(found[1]):
        raise ValueError(f"'{text}' is not an interval such as '1h' or 'day'")
    return Intervals(where, step_ms=int(found[1]) * _UNIT_MS[found[2]])


def _parse_zone(zone: object) -> tzinfo:
    if zone in (None, "UTC", "Z"):
        return UTC
    text = str(zone)
    found = _OFFSET.fullmatch(text)
    if found is not None and int(found[2]) < 24:
        shift = timedelta(hours=int(found[2]), minutes=int(found[3]))
        return timezone(shift if found[1] == "+" else -shift)
    try:
        return ZoneInfo(text)
    except (LookupError, ValueError, OSError):
        raise ValueError(f"'{text}' is not a time zone") from None
