"""Which runs read an event, against windows resolved one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.detection.schedule import Schedule
from barrelman.errors import TimeError
from barrelman.records.times import parse_date_math, parse_duration_ms

MONDAY_MS = 1_795_392_000_000  # 2026-11-23T00:00:00Z
HOUR_MS = 3_600_000

ENDS = (
    ("now-6m", "now"),
    ("now-5m", "now"),
    ("now-4m", "now"),
    ("now-0m", "now"),
    ("now", "now-1m"),
    ("now-1h", "now-30m"),
    ("now-1h", "now+30m"),
    ("now-1d-1h+30m", "now-1d"),
    ("now/h", "now/h"),
    ("now-1h/h", "now-1h/h"),
    ("now-1d/d", "now"),
    ("now-1d/d", "now/d"),
    ("now-1d/d+3h", "now-2h/h"),
    ("now-1w/w", "now-1w/w"),
    ("now-2M/M", "now-1M/M"),
    ("now-1M", "now"),
    ("now-1y/y", "now-1M"),
    ("now/s", "now"),
    ("2026-11-23T07:00:00Z", "now"),
    ("2026-11-23||+1M/M", "now+1y"),
    ("now-1d", "2026-11-24"),
    ("2026-11-23", "2026-11-23"),
    ("2026-11-23T12:00:00.001Z", "2026-11-23T12:00:00.001Z"),
    ("now+1h", "now+2h"),
)


def schedule(interval: str, from_: str, to: str) -> Schedule:
    return Schedule(
        interval_ms=parse_duration_ms(interval),
        from_=parse_date_math(from_),
        to=parse_date_math(to),
    )


def reads(interval: str, from_: str, to: str, *, tick: int, instant_ms: int) -> bool:
    now_ms = tick * parse_duration_ms(interval)
    low = parse_date_math(from_).resolve_ms(now_ms)
    high = parse_date_math(to).resolve_ms(now_ms, round_up=True)
    return low <= instant_ms <= high and instant_ms <= now_ms


@given(
    interval=st.sampled_from(["1s", "1m", "5m", "7m", "1h", "1d"]),
    ends=st.sampled_from(ENDS),
    # Nine days from a Monday: clear of the ends of months, where a month back is clipped.
    hour=st.integers(-24, 9 * 24),
    shift_ms=st.sampled_from([0, 1, -1, 999, 60_000, -60_000, 299_999, 300_001, 1_800_000]),
)
@settings(deadline=None, max_examples=150)
def test_ticks_are_the_runs_that_read(
    interval: str, ends: tuple[str, str], hour: int, shift_ms: int
) -> None:
    instant_ms = MONDAY_MS + hour * HOUR_MS + shift_ms
    first, last = schedule(interval, *ends).ticks(instant_ms)
    interval_ms = parse_duration_ms(interval)
    earliest = -(-instant_ms // interval_ms)
    probes = {earliest + n for n in range(-3, 30)}
    probes |= {end + n for end in (first, last) for n in range(-3, 4)}
    probes |= {(first + last) // 2}
    # A date as `from` is read for ever: its last run is only far away.
    probes = {n for n in probes if n <= earliest + 10_000}
    for tick in sorted(probes):
        expected = reads(interval, *ends, tick=tick, instant_ms=instant_ms)
        assert (first <= tick <= last) == expected, tick


@pytest.mark.parametrize(
    ("ends", "instant_ms", "expected"),
    [
        pytest.param(("now-6m", "now"), 300_000, (1, 2), id="a run reads up to its own tick"),
        pytest.param(("now-6m", "now"), 300_001, (2, 2), id="a millisecond later it does not"),
        pytest.param(("now-6m", "now"), 240_000, (1, 2), id="and its first millisecond"),
        pytest.param(("now-6m", "now"), 239_999, (1, 1), id="not the one before"),
        pytest.param(("now-6m", "now"), -1, (0, 1), id="before 1970"),
        pytest.param(("now-4m", "now"), 60_000, (1, 1), id="window with a hole: just read"),
        pytest.param(("now-4m", "now"), 59_999, (1, 0), id="window with a hole: in the hole"),
        pytest.param(("now", "now-1m"), 300_000, (2, 1), id="window turned round"),
        pytest.param(("now-11m", "now-5m"), 300_000, (2, 3), id="late window"),
    ],
)
def test_edges(ends: tuple[str, str], instant_ms: int, expected: tuple[int, int]) -> None:
    assert schedule("5m", *ends).ticks(instant_ms) == expected


def test_a_date_as_from_is_read_by_every_later_run() -> None:
    first, last = schedule("5m", "2026-11-23", "now").ticks(MONDAY_MS)
    assert first == MONDAY_MS // 300_000
    assert last - first >= 10_000


def test_a_date_as_from_hides_what_is_older() -> None:
    first, last = schedule("5m", "2026-11-23", "now").ticks(MONDAY_MS - 1)
    assert last < first


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("instant_ms", [-62_135_596_800_000, 253_402_300_799_999, 10**15])
@pytest.mark.parametrize("interval", ["1s", "5m", "1d"])
def test_the_ends_of_the_calendar(ends: tuple[str, str], instant_ms: int, interval: str) -> None:
    try:
        first, last = schedule(interval, *ends).ticks(instant_ms)
    except TimeError:
        pytest.fail("a time at the calendar's end is no error")
    if first <= last:
        assert first * parse_duration_ms(interval) >= instant_ms
        assert last * parse_duration_ms(interval) < 253_402_300_800_000


@pytest.mark.parametrize("from_", ["now-1d/d", "now-1M", "now-1y/y"])
def test_a_window_that_begins_before_the_calendar_reads_its_first_events(from_: str) -> None:
    first, last = schedule("1h", from_, "now").ticks(-62_135_596_800_000)
    assert first * HOUR_MS == -62_135_596_800_000
    assert last - first >= 24


@given(
    ends=st.sampled_from(ENDS),
    instants=st.lists(st.integers(MONDAY_MS - 4 * 10**9, MONDAY_MS + 4 * 10**9), min_size=2),
)
@settings(deadline=None, max_examples=60)
def test_later_events_are_read_by_the_same_runs_or_later_ones(
    ends: tuple[str, str], instants: list[int]
) -> None:
    if "M" in "".join(ends) or "y" in "".join(ends):
        instants = [MONDAY_MS + instant % (5 * 24 * HOUR_MS) for instant in instants]
    ticks = [schedule("1h", *ends).ticks(instant) for instant in sorted(instants)]
    read = [each for each in ticks if each[0] <= each[1]]
    assert read == sorted(read)
    assert [last for _, last in read] == sorted(last for _, last in read)


@pytest.mark.parametrize("ends", [("now-6m", "now-1m"), ("now-1d/d", "now/d"), ("now-1M", "now")])
@pytest.mark.parametrize("instant_ms", [-62_135_596_800_000, 253_402_300_799_999])
def test_windows_at_the_ends_of_the_calendar(ends: tuple[str, str], instant_ms: int) -> None:
    made = schedule("5m", *ends)
    first, last = made.ticks(instant_ms)
    for tick in range(first - 2, last + 3):
        from_ms, to_ms = made.window_ms(tick)
        assert to_ms <= tick * 300_000
        assert (from_ms <= instant_ms <= to_ms) == (first <= tick <= last)
