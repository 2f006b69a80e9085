"""Times: event timestamps, durations and Elasticsearch date math.

Instants are integers since the Unix epoch, UTC: microseconds where events are ordered,
milliseconds where Elasticsearch compares (its `date` type has no finer grain).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from barrelman.errors import TimeError
from barrelman.records.frozen import frozen

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_CALENDAR_US: Final = (-62_135_596_800_000_000, 253_402_300_800_000_000)
_FAR_MS: Final = 1e15
UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}

# No number is read of more digits than any date needs: Python refuses to read thousands.
_DURATION = re.compile(r"(\d{1,18})([smhd])", re.ASCII)
# Elasticsearch strict_date_optional_time: every part from the right may be left out.
_ISO: Final = (
    r"(?a)(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:[T ](?:(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d)"
    r"(?:[.,](?P<fraction>\d{1,9}))?)?)?)?(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?)?)?)?"
)
_MATH = re.compile(r"([+-])(\d{0,18})([yMwdhHms])|/([yMwdhHms])", re.ASCII)
_SMALL_PARTS: Final = ((1, "month"), (1, "day"), (0, "hour"), (0, "minute"), (0, "second"))
_PARTS_BELOW: Final = {
    "y": _SMALL_PARTS,
    "M": _SMALL_PARTS[1:],
    "w": _SMALL_PARTS[2:],
    "d": _SMALL_PARTS[2:],
    "h": _SMALL_PARTS[3:],
    "H": _SMALL_PARTS[3:],
    "m": _SMALL_PARTS[4:],
    "s": (),
}
_EPOCH_TEXT = re.compile(r"\d{11,14}", re.ASCII)
_EPOCH_MS = re.compile(r"-?\d{5,18}", re.ASCII)


def parse_duration_ms(text: str) -> int:
    """`30s`, `5m`, `2h` or `7d` in milliseconds. Raises TimeError, also for zero."""
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise TimeError(
            f"'{text}' is not a duration", hint="write a number above 0 and s, m, h or d, as in 5m"
        )
    return int(match[1]) * UNIT_MS[match[2]]


def parse_instant_us(value: object) -> int | None:
    """A timestamp as events carry it, in microseconds; None where it is none.

    Takes ISO 8601 text (no zone means UTC) and epoch milliseconds as a number. What it gives lies
    in the calendar, years 1 to 9999: it can be written as a date again.
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return int(value) * 1000 if _EPOCH_TEXT.fullmatch(value) else None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        instant_us = (moment - EPOCH) // _MICROSECOND
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) < _FAR_MS:  # also NaN; before the multiplication, which may overflow
            return None
        instant_us = int(value * 1000)
    else:
        return None
    return instant_us if _CALENDAR_US[0] <= instant_us < _CALENDAR_US[1] else None


def format_instant(instant_ms: int) -> str:
    """ISO 8601 in UTC with milliseconds and `Z`. Raises TimeError outside years 1 to 9999."""
    try:
        moment = EPOCH + timedelta(milliseconds=instant_ms)
    except OverflowError:
        raise TimeError(f"{instant_ms} ms since 1970 is out of the calendar's range") from None
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z".rjust(24, "0")


@frozen
class DateMath:
    """An Elasticsearch date: `now` or an ISO date, moved and rounded step by step.

    `steps` holds `("+", 5, "m")`-like moves and `("/", 0, "d")` roundings, in order.
    """

    text: str
    anchor: datetime | None
    """None means `now`."""
    precision: str
    """The smallest part the anchor names (`y M d h m s`), or `ms` when it is complete."""
    steps: tuple[tuple[str, int, str], ...]

    @property
    def is_relative(self) -> bool:
        """Whether the value depends on `now`."""
        return self.anchor is None

    @property
    def offset_ms(self) -> int | None:
        """The constant distance from `now`, or None where there is none (months, rounding)."""
        if self.anchor is not None:
            return None
        total = 0
        for sign, count, unit in self.steps:
            unit_ms = UNIT_MS.get(unit.lower() if unit == "H" else unit)
            if sign == "/" or unit_ms is None:
                return None
            total += count * unit_ms if sign == "+" else -count * unit_ms
        return total

    def resolve_ms(self, now_ms: int, *, round_up: bool = False) -> int:
        """The instant at `now_ms`, in milliseconds. `round_up` takes the last one of a unit.

        Rounding up is what `lte` and `gt` do: of `2026-11-23` they mean its last millisecond.
        Raises TimeError where the result leaves the calendar.
        """
        try:
            moment = self.anchor or EPOCH + timedelta(milliseconds=now_ms)
            if round_up and self.anchor is not None and self.precision != "ms":
                moment = _last_of(moment, self.precision)
            for sign, count, unit in self.steps:
                if sign == "/":
                    moment = _last_of(moment, unit) if round_up else _first_of(moment, unit)
                else:
                    moment = _move(moment, count if sign == "+" else -count, unit)
            return (moment - EPOCH) // timedelta(milliseconds=1)
        except (OverflowError, ValueError):
            raise TimeError(f"'{self.text}' leaves the calendar") from None


def parse_date_math(text: str) -> DateMath:
    """Reads `now-6m`, `now/d`, `2026-11-23`, `2026-11-23T07:06:00Z||+1h/h`, epoch millis.

    A date without a zone is UTC ("Zulu"), as Kibana sends it. Raises TimeError.
    """
    head, math = text, ""
    if text.startswith("now"):
        head, math = "now", text[3:]
    elif "||" in text:
        head, math = text.split("||", 1)
    anchor, precision = (None, "ms") if head == "now" else _parse_anchor(head, text)
    if "||" in text:
        precision = "ms"  # only the roundings behind the bars count then
    return DateMath(text, anchor, precision, _parse_steps(math, text))


def _parse_anchor(head: str, text: str) -> tuple[datetime, str]:
    problem = TimeError(
        f"'{text}' is not a date", hint="write now-6m, 2026-11-23 or 2026-11-23T07:06:00Z"
    )
    if _EPOCH_MS.fullmatch(head):
        try:
            return EPOCH + timedelta(milliseconds=int(head)), "ms"
        except OverflowError:
            raise problem from None
    match = re.fullmatch(_ISO, head)
    if match is None:
        raise problem
    part = match.groupdict()
    zone = part["zone"] or "Z"
    shift = timedelta()
    if zone != "Z":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        shift = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
        shift = shift if zone[0] == "+" else -shift
    fraction = (part["fraction"] or "").ljust(6, "0")[:6]
    try:
        moment = datetime(
            int(part["year"]),
            int(part["month"] or 1),
            int(part["day"] or 1),
            int(part["hour"] or 0),
            int(part["minute"] or 0),
            int(part["second"] or 0),
            int(fraction or 0),
            tzinfo=UTC,
        )
        moment -= shift
    except (ValueError, OverflowError):
        raise problem from None
    if part["fraction"]:
        return moment, "ms"
    named = [
        unit
        for unit, name in zip(
            "yMdhms", ("year", "month", "day", "hour", "minute", "second"), strict=True
        )
        if part[name] is not None
    ]
    return moment, named[-1]


def _parse_steps(math: str, text: str) -> tuple[tuple[str, int, str], ...]:
    steps = []
    position = 0
    while position < len(math):
        match = _MATH.match(math, position)
        if match is None:
            raise TimeError(
                f"'{text}' is not date math",
                hint="after the date come moves and roundings, as in now-1d/d",
            )
        if match[1]:
            steps.append((match[1], int(match[2] or 1), match[3]))
        else:
            steps.append(("/", 0, match[4]))
        position = match.end()
    return tuple(steps)


def _move(moment: datetime, count: int, unit: str) -> datetime:
    if unit in "yM":
        from calendar import monthrange  # loads `locale`, and few rules reckon in months

        months = moment.year * 12 + moment.month - 1 + count * (12 if unit == "y" else 1)
        year, month = divmod(months, 12)
        day = min(moment.day, monthrange(year, month + 1)[1])
        return moment.replace(year=year, month=month + 1, day=day)
    return moment + timedelta(milliseconds=count * UNIT_MS["h" if unit == "H" else unit])


def _first_of(moment: datetime, unit: str) -> datetime:
    if unit == "w":  # ISO weeks begin on Monday
        moment -= timedelta(days=moment.weekday())
    smaller: Any = {part: least for least, part in _PARTS_BELOW[unit]}
    return moment.replace(microsecond=0, **smaller)


def _last_of(moment: datetime, unit: str) -> datetime:
    return _move(_first_of(moment, unit), 1, unit) - timedelta(milliseconds=1)
