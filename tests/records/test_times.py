from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.errors import TimeError
from barrelman.records.times import (
    format_instant,
    parse_date_math,
    parse_duration_ms,
    parse_instant_us,
)

NOW = "2026-11-23T07:06:05.432Z"  # a Monday


def ms(text: str) -> int:
    instant = parse_instant_us(text)
    assert instant is not None
    return instant // 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("7d", 604_800_000), ("001m", 60_000)],
)
def test_durations(text: str, expected: int) -> None:
    assert parse_duration_ms(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "m",
        "0m",
        "00s",
        "-5m",
        "5M",
        "5 m",
        "1w",
        "1.5h",
        "\u0665m",
        "5m\n",
        "9" * 5000 + "s",
    ],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(TimeError, match="not a duration"):
        parse_duration_ms(text)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("2026", "2026-01-01T00:00:00.000Z", "2026-12-31T23:59:59.999Z"),
        ("2024-02", "2024-02-01T00:00:00.000Z", "2024-02-29T23:59:59.999Z"),
        ("2026-11-23", "2026-11-23T00:00:00.000Z", "2026-11-23T23:59:59.999Z"),
        ("2026-11-23T07", "2026-11-23T07:00:00.000Z", "2026-11-23T07:59:59.999Z"),
        ("2026-11-23T07:06", "2026-11-23T07:06:00.000Z", "2026-11-23T07:06:59.999Z"),
        ("2026-11-23T07:06:05", "2026-11-23T07:06:05.000Z", "2026-11-23T07:06:05.999Z"),
        ("2026-11-23T07:06:05.4Z", "2026-11-23T07:06:05.400Z", "2026-11-23T07:06:05.400Z"),
        ("2026-11-23T07:06:05.432999999Z", NOW, NOW),
        ("2026-11-23T07:06:05+01:00", "2026-11-23T06:06:05.000Z", "2026-11-23T06:06:05.999Z"),
        ("2026-11-23T07:06-0530", "2026-11-23T12:36:00.000Z", "2026-11-23T12:36:59.999Z"),
        ("1795417565432", NOW, NOW),
        ("now", NOW, NOW),
        ("now-5m", "2026-11-23T07:01:05.432Z", "2026-11-23T07:01:05.432Z"),
        ("now-m", "2026-11-23T07:05:05.432Z", "2026-11-23T07:05:05.432Z"),
        ("now-1d/d", "2026-11-22T00:00:00.000Z", "2026-11-22T23:59:59.999Z"),
        ("now/d-1h", "2026-11-22T23:00:00.000Z", "2026-11-23T22:59:59.999Z"),
        ("now/w", "2026-11-23T00:00:00.000Z", "2026-11-29T23:59:59.999Z"),
        ("now-1d/w", "2026-11-16T00:00:00.000Z", "2026-11-22T23:59:59.999Z"),
        ("now/M", "2026-11-01T00:00:00.000Z", "2026-11-30T23:59:59.999Z"),
        ("now/y", "2026-01-01T00:00:00.000Z", "2026-12-31T23:59:59.999Z"),
        ("now+1H/H", "2026-11-23T08:00:00.000Z", "2026-11-23T08:59:59.999Z"),
        ("now/m", "2026-11-23T07:06:00.000Z", "2026-11-23T07:06:59.999Z"),
        ("now/s", "2026-11-23T07:06:05.000Z", "2026-11-23T07:06:05.999Z"),
        ("2026-01-31||+1M", "2026-02-28T00:00:00.000Z", "2026-02-28T00:00:00.000Z"),
        ("2024-02-29||+1y", "2025-02-28T00:00:00.000Z", "2025-02-28T00:00:00.000Z"),
        ("2026-01-15||-1M/M", "2025-12-01T00:00:00.000Z", "2025-12-31T23:59:59.999Z"),
        ("2026-11-23||", "2026-11-23T00:00:00.000Z", "2026-11-23T00:00:00.000Z"),
    ],
)
def test_date_math(text: str, low: str, high: str) -> None:
    date = parse_date_math(text)
    assert format_instant(date.resolve_ms(ms(NOW))) == low
    assert format_instant(date.resolve_ms(ms(NOW), round_up=True)) == high
    assert date.is_relative is text.startswith("now")


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "now-", "now5m", "now-5", "now-5x", "now/", "now//d", "nowhere", "now - 5m"),
        *("2026-13", "2026-02-30", "2026-1-1", "26-01-01", "2026-11-23T25", "2026-11-23T07:06:60"),
        *("2026-11-23T07:06:05.", "2026-11-23||x", "||", "9" * 5000, "9" * 18),
        *("now-" + "9" * 5000 + "d", "\u0662\u0660\u0662\u0666", "2026-11-23T07:06:05+25:00x"),
    ],
)
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(TimeError):
        parse_date_math(text)


@pytest.mark.parametrize(
    "text",
    [
        "9999-12-31||+1y",
        "0001-01-01||-1s",
        "now-9999y",
        "now+99999999999d",
        "now-" + "9" * 18 + "M",
    ],
)
def test_what_leaves_the_calendar(text: str) -> None:
    with pytest.raises(TimeError, match="calendar"):
        parse_date_math(text).resolve_ms(ms(NOW))


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("now", 0),
        ("now-6m", -360_000),
        ("now-1h+30s", -3_570_000),
        ("now+1w", 604_800_000),
        ("now/d", None),
        ("now-1M", None),
        ("2026-11-23", None),
    ],
)
def test_distance_from_now(text: str, offset: int | None) -> None:
    assert parse_date_math(text).offset_ms == offset


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01T00:00:01.5", 1_500_000),
        ("1970-01-01T00:00:00.123456789Z", 123_456),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1970-01-02", 86_400_000_000),
        (1500, 1_500_000),
        (0, 0),
        (1.5, 1500),
        ("1795417565432", 1_795_417_565_432_000),
    ],
)
def test_instants(value: object, expected: int) -> None:
    assert parse_instant_us(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, "", "x", "2026-02-30", [], {}, 1e300, float("nan"), float("inf")),
        *("2026-11-23T07:06:05\ud800", "9" * 5000, 10**400),
    ],
)
def test_what_is_no_instant(value: object) -> None:
    assert parse_instant_us(value) is None


@given(st.datetimes(timezones=st.just(UTC)))
@settings(max_examples=133, deadline=None)
def test_a_formatted_instant_reads_back(moment: datetime) -> None:
    instant = parse_instant_us(moment.isoformat())
    assert instant is not None
    text = format_instant(instant // 1000)
    assert len(text) == 24
    assert parse_instant_us(text) == instant // 1000 * 1000
    assert parse_date_math(text).resolve_ms(0) == instant // 1000


@pytest.mark.parametrize("instant_ms", [10**18, -(10**18), 10**30])
def test_instants_beyond_the_calendar(instant_ms: int) -> None:
    with pytest.raises(TimeError):
        format_instant(instant_ms)


@given(st.text("now-+/|0123456789yMdhms:.TZ", max_size=24))
@settings(max_examples=150, deadline=None)
def test_any_text_is_a_date_or_a_time_error(text: str) -> None:
    try:
        date = parse_date_math(text)
        low, high = date.resolve_ms(0), date.resolve_ms(0, round_up=True)
    except TimeError:
        return
    assert low <= high
