"""Replay against a reference that goes through every run there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.detection.counts import RuleCounts
from barrelman.detection.finding import Raised
from barrelman.detection.match import RulePlan, match_of
from barrelman.detection.replay import Replay
from barrelman.detection.schedule import Schedule
from barrelman.records.event import Event
from barrelman.records.times import parse_date_math, parse_duration_ms

BASE_MS = 1_795_417_200_000  # 2026-11-23T07:00:00Z, a multiple of every interval used here
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Windows that touch, overlap, leave holes, come late, are rounded, or begin at a fixed date.
WINDOWS: tuple[tuple[str, str, str], ...] = (
    ("1s", "now-1s", "now"),
    ("1s", "now-7s", "now-2s"),
    ("5m", "now-5m", "now"),
    ("5m", "now-6m", "now"),
    ("5m", "now-11m", "now-1m"),
    ("5m", "now-4m", "now"),
    ("5m", "now-1h", "now-20m"),
    ("5m", "now-10m", "now+3m"),
    ("5m", "now-10m/m", "now/m"),
    ("1h", "now-1d/d", "now"),
    ("1h", "now-2h/h", "now/h"),
    ("1h", "now-1d/d", "now-1d/d"),
    ("1h", "2026-11-23T05:30:00Z", "now"),
    ("1h", "now-3h", "2026-11-23"),
    ("1h", "2026-11-23T09:00:00Z", "2026-11-23T12:00:00Z"),
    ("30m", "now-10h", "now"),
)
MOVING = [window for window in WINDOWS if window[1].startswith("now")]
MOST_RUNS_WALKED = (
    60  # more than any moving window takes, or that the caps here leave to a fixed one
)


@dataclass(frozen=True)
class Arrival:
    """A match: when it happened, and which event it is (equal names are deliveries of one)."""

    time_us: int
    name: str


@dataclass
class Outcome:
    alerts: list[tuple[int, str]] = field(default_factory=list)
    counts: RuleCounts = field(default_factory=RuleCounts)


def stamp(time_us: int) -> str:
    return (EPOCH + timedelta(microseconds=time_us)).isoformat()


def event_of(arrival: Arrival) -> Event:
    return Event(
        {
            "auditID": arrival.name,
            "stage": "ResponseComplete",
            "stageTimestamp": stamp(arrival.time_us),
        }
    )


def plan_of(window: tuple[str, str, str], cap: int | None, **more: Any) -> RulePlan:
    interval, from_, to = window
    schedule = Schedule(
        interval_ms=parse_duration_ms(interval),
        from_=parse_date_math(from_),
        to=parse_date_math(to),
    )
    return RulePlan(rule_id="r", schedule=schedule, cap=cap, **more)


def add(replay: Replay, rule: int, event: Event) -> None:
    match = match_of(rule, replay.plans[rule], event)
    if match is not None:
        replay.take(match)


def shown(raised: Sequence[Raised]) -> list[tuple[int, str]]:
    return [(each.tick_ms, str(each.event.body["auditID"])) for each in raised]


def replayed(
    plan: RulePlan, arrivals: Sequence[Arrival], *, memory_bytes: int = 1 << 20
) -> Outcome:
    replay = Replay([plan], memory_bytes=memory_bytes)
    for arrival in arrivals:
        add(replay, 0, event_of(arrival))
    log_end_us = max((arrival.time_us for arrival in arrivals), default=0)
    return Outcome(shown(list(replay.finish(log_end_us=log_end_us))), replay.counts[0])


Meets = Callable[[str, int], bool]


@dataclass
class Waiting:
    """A match as the reference keeps it."""

    order: tuple[int, int]
    name: str
    ticks: range
    late: bool = False
    eligible: bool = False


class Reference:
    """Run by run: filter the window, sort, leave out what was alerted, take the cap."""

    def __init__(
        self, window: tuple[str, str, str], cap: int | None, meets: Meets | None = None
    ) -> None:
        interval, from_, to = window
        self.interval_ms = parse_duration_ms(interval)
        self.from_, self.to = parse_date_math(from_), parse_date_math(to)
        self.cap = cap
        self.meets = meets
        self.seen: set[str] = set()
        self.waiting: list[Waiting] = []
        self.outcome = Outcome()
        self.next_tick: int | None = None
        self.fed = 0

    def reads(self, tick: int, time_us: int) -> bool:
        now_ms = tick * self.interval_ms
        low, high = self.from_.resolve_ms(now_ms), self.to.resolve_ms(now_ms, round_up=True)
        return low <= time_us // 1000 <= min(high, now_ms)

    def add(self, arrival: Arrival) -> None:
        counts = self.outcome.counts
        counts.matches += 1
        self.fed += 1
        if arrival.name in self.seen:
            counts.duplicates += 1
            return
        self.seen.add(arrival.name)
        earliest = arrival.time_us // 1000 // self.interval_ms - 1
        walked = range(earliest, earliest + MOST_RUNS_WALKED)
        read = [tick for tick in walked if self.reads(tick, arrival.time_us)]
        if not read:
            counts.unplaced += 1
            return
        ticks = range(read[0], read[-1] + 1)
        assert len(ticks) == len(read)
        late = self.next_tick is not None and ticks[-1] < self.next_tick
        if late and self.next_tick is not None:
            ticks = range(self.next_tick, self.next_tick + 1)
        self.waiting.append(Waiting((arrival.time_us, self.fed), arrival.name, ticks, late))

    def run_until(self, watermark_ms: int | None) -> None:
        """Every run before the watermark; every run that anything waits for where it is None."""
        if watermark_ms is None:
            stop = max((each.ticks[-1] for each in self.waiting), default=0) + 1
        else:
            stop = -(-watermark_ms // self.interval_ms)
        start = min((each.ticks[0] for each in self.waiting), default=stop)
        if self.next_tick is not None:
            start = max(start, self.next_tick)
        for tick in range(start, stop):
            self.run(tick)
        self.next_tick = stop if self.next_tick is None else max(stop, self.next_tick)
        for each in [one for one in self.waiting if one.ticks[-1] < self.next_tick]:
            self.waiting.remove(each)
            if each.eligible or self.meets is None:
                self.outcome.counts.capped += 1
            else:
                self.outcome.counts.matches -= 1

    def run(self, tick: int) -> None:
        taken: list[Waiting] = []
        for each in sorted(self.waiting, key=lambda one: one.order):
            if tick not in each.ticks:
                continue
            if self.meets is not None and not self.meets(each.name, tick * self.interval_ms):
                continue
            each.eligible = True
            if self.cap is None or len(taken) < self.cap:
                taken.append(each)
        for each in taken:
            self.waiting.remove(each)
            self.outcome.counts.raised += 1
            self.outcome.counts.late += each.late
            self.outcome.alerts.append((tick * self.interval_ms, each.name))


def assert_adds_up(counts: RuleCounts) -> None:
    parts = astuple(counts)
    assert all(part >= 0 for part in parts)
    assert counts.matches == (
        counts.raised + counts.capped + counts.duplicates + counts.unplaced + counts.outside
    )


@st.composite
def times_us(draw: st.DrawFn, window: tuple[str, str, str], *, runs: int = 6) -> int:
    """Times that crowd around the ends of windows."""
    interval_ms = parse_duration_ms(window[0])
    edge_ms = BASE_MS + draw(st.integers(0, runs)) * interval_ms
    shift_ms = draw(
        st.sampled_from([0, 0, -60_000, 1, -1, 60_000, -1_000, interval_ms // 2, interval_ms - 1])
    )
    return (edge_ms + shift_ms) * 1000 + draw(st.sampled_from([0, 0, 1, 999, -1, 500]))


@st.composite
def cases(
    draw: st.DrawFn,
    *,
    most: int = 14,
    copies: bool = True,
    windows: Sequence[tuple[str, str, str]] = WINDOWS,
) -> tuple[tuple[str, str, str], int | None, list[Arrival]]:
    window = draw(st.sampled_from(windows))
    cap = draw(st.sampled_from([1, 1, 2, 3, 5, None]))
    times = draw(st.lists(times_us(window), max_size=most))
    if draw(st.booleans()):
        times.sort()
    arrivals = [Arrival(time_us, f"a{n}") for n, time_us in enumerate(times)]
    if copies and arrivals:
        arrivals += draw(st.lists(st.sampled_from(arrivals), max_size=4))
    return window, cap, arrivals


@given(case=cases(), memory_bytes=st.sampled_from([1, 1500, 1 << 20]))
@settings(deadline=None, max_examples=100)
def test_every_run_walked_gives_the_same(
    case: tuple[tuple[str, str, str], int | None, list[Arrival]], memory_bytes: int
) -> None:
    window, cap, arrivals = case
    reference = Reference(window, cap)
    for arrival in arrivals:
        reference.add(arrival)
    reference.run_until(None)
    outcome = replayed(plan_of(window, cap), arrivals, memory_bytes=memory_bytes)
    assert outcome == reference.outcome
    assert_adds_up(outcome.counts)


def answer(name: str, now_ms: int, salt: int, share: int) -> bool:
    """Any function of event and time."""
    return hash((int(name[1:]), now_ms // 1000, salt)) % 7 < share


@given(case=cases(copies=False, windows=MOVING), salt=st.integers(0, 99), share=st.integers(0, 7))
@settings(deadline=None, max_examples=100)
def test_rules_asked_again_in_each_run(
    case: tuple[tuple[str, str, str], int | None, list[Arrival]], salt: int, share: int
) -> None:
    window, cap, arrivals = case
    reference = Reference(window, cap, lambda name, now: answer(name, now, salt, share))
    for arrival in arrivals:
        reference.add(arrival)
    reference.run_until(None)
    plan = plan_of(
        window, cap, retest=lambda event, now: answer(event.body["auditID"], now, salt, share)
    )
    outcome = replayed(plan, arrivals, memory_bytes=1500)
    assert outcome.alerts == reference.outcome.alerts
    assert outcome.counts.capped == reference.outcome.counts.capped
    assert_adds_up(outcome.counts)


@given(case=cases(), data=st.data())
@settings(deadline=None, max_examples=100)
def test_runs_completed_one_by_one_give_what_one_finish_gives(
    case: tuple[tuple[str, str, str], int | None, list[Arrival]], data: st.DataObject
) -> None:
    window, cap, arrivals = case
    arrivals = sorted(arrivals, key=lambda arrival: arrival.time_us)
    replay = Replay([plan_of(window, cap)])
    raised: list[Raised] = []
    before_us = arrivals[0].time_us if arrivals else 0
    for arrival in arrivals:
        if data.draw(st.booleans()):
            low, high = before_us // 1000, arrival.time_us // 1000
            raised.extend(replay.advance(data.draw(st.integers(low, high))))
        add(replay, 0, event_of(arrival))
        before_us = arrival.time_us
    raised.extend(replay.finish(log_end_us=before_us))
    assert Outcome(shown(raised), replay.counts[0]) == replayed(plan_of(window, cap), arrivals)
    assert replay.counts[0].late == 0


@given(case=cases(), data=st.data())
@settings(deadline=None, max_examples=100)
def test_what_arrives_late_is_taken_by_the_next_run(
    case: tuple[tuple[str, str, str], int | None, list[Arrival]], data: st.DataObject
) -> None:
    window, cap, arrivals = case
    interval_ms = parse_duration_ms(window[0])
    replay, reference = Replay([plan_of(window, cap)]), Reference(window, cap)
    raised: list[Raised] = []
    for arrival in arrivals:
        if data.draw(st.booleans()):
            watermark_ms = BASE_MS + data.draw(st.integers(-1, 16)) * interval_ms // 2
            raised.extend(replay.advance(watermark_ms))
            reference.run_until(watermark_ms)
        add(replay, 0, event_of(arrival))
        reference.add(arrival)
    raised.extend(replay.finish(log_end_us=BASE_MS * 1000))
    reference.run_until(None)
    assert Outcome(shown(raised), replay.counts[0]) == reference.outcome
    assert_adds_up(replay.counts[0])
    assert [each.tick_ms for each in raised] == sorted(each.tick_ms for each in raised)


@given(first=cases(most=8), second=cases(most=8), memory_bytes=st.sampled_from([1, 1500, 1 << 20]))
@settings(deadline=None, max_examples=80)
def test_rules_do_not_see_each_other(
    first: tuple[tuple[str, str, str], int | None, list[Arrival]],
    second: tuple[tuple[str, str, str], int | None, list[Arrival]],
    memory_bytes: int,
) -> None:
    plans = [plan_of(window, cap) for window, cap, _ in (first, second)]
    replay = Replay(plans, memory_bytes=memory_bytes)
    fed = [(0, each) for each in first[2]] + [(1, each) for each in second[2]]
    for rule, arrival in fed:
        plan = plans[rule]
        assert plan.rule_id == "r"
        # Names are made distinct: both rules share one rule_id here.
        add(replay, rule, event_of(Arrival(arrival.time_us, f"{'ab'[rule]}{arrival.name[1:]}")))
    raised = list(replay.finish(log_end_us=0))
    for rule, (_, _, arrivals) in enumerate((first, second)):
        alone = replayed(plans[rule], arrivals)
        own = shown([each for each in raised if each.rule == rule])
        assert [(tick_ms, name[1:]) for tick_ms, name in own] == [
            (tick_ms, name[1:]) for tick_ms, name in alone.alerts
        ]
        assert replay.counts[rule] == alone.counts
    assert [each.tick_ms for each in raised] == sorted(each.tick_ms for each in raised)


def test_order_is_by_run_then_by_time_then_as_read() -> None:
    window = ("5m", "now-5m", "now")
    run_us = BASE_MS * 1000
    minute_us = 60_000_000
    arrivals = [
        Arrival(run_us + 6 * minute_us, "second run"),
        Arrival(run_us + 2 * minute_us + 1, "a microsecond later"),
        Arrival(run_us + 2 * minute_us, "read first"),
        Arrival(run_us + 2 * minute_us, "read next"),
    ]
    assert [name for _, name in replayed(plan_of(window, None), arrivals).alerts] == [
        "read first",
        "read next",
        "a microsecond later",
        "second run",
    ]


# --- 250 matches of the default schedule --------------------------------------------------

DEFAULT = ("5m", "now-6m", "now")


def burst(start_ms: int, count: int = 250) -> list[Arrival]:
    """Matches a millisecond apart."""
    return [Arrival((start_ms + n) * 1000, f"b{n}") for n in range(count)]


@pytest.mark.parametrize(
    ("shift_ms", "order", "expected"),
    [
        pytest.param(120_000, 1, (250, 100, 150), id="one window"),
        pytest.param(120_000, -1, (250, 100, 150), id="one window, newest first"),
        pytest.param(270_000, 1, (250, 200, 50), id="in the overlap of two"),
        pytest.param(270_000, -1, (250, 200, 50), id="in the overlap, newest first"),
    ],
)
def test_cap(shift_ms: int, order: int, expected: tuple[int, int, int]) -> None:
    arrivals = burst(BASE_MS + shift_ms)[::order]
    outcome = replayed(plan_of(DEFAULT, 100), arrivals)
    counts = outcome.counts
    assert (counts.matches, counts.raised, counts.capped) == expected
    assert [name for _, name in outcome.alerts] == [f"b{n}" for n in range(expected[1])]
    ticks = [tick_ms for tick_ms, _ in outcome.alerts]
    assert ticks[:100] == [BASE_MS + 300_000] * 100
    assert set(ticks[100:]) <= {BASE_MS + 600_000}


@pytest.mark.parametrize("memory_bytes", [1, 1 << 25])
def test_the_same_twice_alerts_once(memory_bytes: int) -> None:
    arrivals = burst(BASE_MS + 120_000)
    once = replayed(plan_of(DEFAULT, 100), arrivals, memory_bytes=memory_bytes)
    twice = replayed(plan_of(DEFAULT, 100), arrivals + arrivals, memory_bytes=memory_bytes)
    assert twice.alerts == once.alerts
    assert (twice.counts.duplicates, twice.counts.capped) == (250, 150)
    assert twice.counts.conflicting == 0
    assert_adds_up(twice.counts)


def test_an_act_under_the_id_of_another_is_alerted_under_one_of_its_own() -> None:
    """A client may choose its Audit-ID: a harmless act that comes first must hide no later one."""
    replay = Replay([plan_of(DEFAULT, 100)])
    for uri in ("/api/v1/pods", "/api/v1/secrets", "/api/v1/pods", "/api/v1/secrets"):
        event = event_of(Arrival(BASE_MS * 1000, "chosen by the client"))
        event.body["requestURI"] = uri
        add(replay, 0, event)
    alerts = list(replay.finish(log_end_us=0))
    assert [alert.event.body["requestURI"] for alert in alerts] == [
        "/api/v1/pods",
        "/api/v1/secrets",
    ]
    assert len({alert.alert_id for alert in alerts}) == 2
    assert (replay.counts[0].duplicates, replay.counts[0].conflicting) == (2, 1)


# --- times that are missing or absurd -----------------------------------------------------


def test_events_without_a_time_happened_at_the_end_of_the_log() -> None:
    replay = Replay([plan_of(DEFAULT, 2)])
    for name in ("x", "y", "z"):
        add(replay, 0, Event({"auditID": name, "stage": "Panic"}))
    add(replay, 0, event_of(Arrival(BASE_MS * 1000, "timed")))
    end_us = (BASE_MS + 301_000) * 1000
    assert shown(list(replay.finish(log_end_us=end_us))) == [
        (BASE_MS, "timed"),
        (BASE_MS + 600_000, "x"),
        (BASE_MS + 600_000, "y"),
    ]
    assert replay.counts[0].capped == 1


def test_a_rule_that_reads_by_a_field_the_event_lacks_counts_it_as_unplaced() -> None:
    replay = Replay([plan_of(DEFAULT, 100, place=lambda event: None)])
    add(replay, 0, event_of(Arrival(BASE_MS * 1000, "x")))
    assert list(replay.finish(log_end_us=0)) == []
    assert replay.counts[0] == RuleCounts(matches=1, unplaced=1)


@pytest.mark.parametrize("window", [DEFAULT, ("5m", "now-4m", "now"), ("1h", "now/d", "now/d")])
def test_events_that_never_met_a_rule_asked_again_are_no_matches(
    window: tuple[str, str, str],
) -> None:
    never = plan_of(window, 100, retest=lambda event, now_ms: False)
    unread = plan_of(window, 100, retest=lambda event, now_ms: False, place=lambda event: None)
    replay = Replay([never, unread])
    for minute in range(20):
        event = event_of(Arrival((BASE_MS + minute * 30_000) * 1000, f"x{minute}"))
        add(replay, 0, event)
        add(replay, 1, event)
    add(replay, 0, Event({"auditID": "no time"}))
    assert list(replay.finish(log_end_us=BASE_MS * 1000)) == []
    assert replay.counts == [RuleCounts(), RuleCounts()]


def test_what_turns_out_to_be_no_match_takes_no_place_from_one() -> None:
    """A hundred that are asked in twenty runs each, in vain, and one that meets the last."""
    window = ("30m", "now-10h", "now")
    end_ms = BASE_MS + 10 * 3_600_000

    def meets(event: Event, now_ms: int) -> bool:
        return event.body["auditID"] == "b100" and now_ms == end_ms

    replay = Replay([plan_of(window, 1, retest=meets)])
    for arrival in burst(BASE_MS, 101):
        add(replay, 0, event_of(arrival))
    assert shown(list(replay.finish(log_end_us=0))) == [(end_ms, "b100")]
    assert (replay.counts[0].matches, replay.counts[0].capped) == (1, 0)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    "time",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "1969-12-31T23:59:59.999999Z",
        "1970-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59-14:00",
        253_402_300_800_000,
        999_999_999_999_999,
        -999_999_999_999_999,
    ],
)
@pytest.mark.parametrize("retested", [False, True])
def test_times_at_the_ends_of_the_calendar_stop_nothing(
    window: tuple[str, str, str], time: str | int, retested: bool
) -> None:
    plan = plan_of(window, 1, retest=(lambda event, now_ms: now_ms % 7 < 5) if retested else None)
    replay = Replay([plan])
    add(replay, 0, Event({"auditID": "odd", "stage": "Panic", "stageTimestamp": time}))
    add(replay, 0, event_of(Arrival(BASE_MS * 1000, "sound")))
    for each in replay.finish(log_end_us=BASE_MS * 1000):
        assert -62_135_596_800_000 <= each.tick_ms < 253_402_300_800_000
    assert_adds_up(replay.counts[0])


def test_a_watermark_behind_the_calendars_end_stops_nothing() -> None:
    replay = Replay([plan_of(DEFAULT, 1)])
    assert list(replay.advance(10**15)) == []
    add(replay, 0, event_of(Arrival(BASE_MS * 1000, "late")))
    raised = [*replay.advance(2 * 10**15), *replay.finish(log_end_us=0)]
    assert [each.tick_ms < 253_402_300_800_000 for each in raised] == [True]
    assert replay.counts[0].late == 1


# --- ranges that count back from the log's end --------------------------------------------


def test_bounds_are_inclusive_and_free_places_for_what_lies_within() -> None:
    arrivals = burst(BASE_MS + 120_000)
    replay = Replay([plan_of(DEFAULT, 100)], ranged=True)
    for arrival in arrivals:
        add(replay, 0, event_of(arrival))
    bounds_us = (arrivals[120].time_us, arrivals[239].time_us)
    raised = shown(list(replay.finish(log_end_us=arrivals[-1].time_us, bounds_us=bounds_us)))
    assert [name for _, name in raised] == [f"b{n}" for n in range(120, 220)]
    assert replay.counts[0] == RuleCounts(matches=250, raised=100, capped=20, outside=130)


def test_bounds_hold_for_the_events_own_time_not_for_the_one_the_rule_reads_by() -> None:
    hour_us = 3_600_000_000
    plan = plan_of(DEFAULT, 100, place=lambda event: BASE_MS * 1000 - 5 * hour_us)
    replay = Replay([plan], ranged=True)
    add(replay, 0, event_of(Arrival(BASE_MS * 1000, "own time within")))
    add(replay, 0, event_of(Arrival(BASE_MS * 1000 - 2 * hour_us, "own time before")))
    bounds_us = (BASE_MS * 1000 - hour_us, None)
    raised = list(replay.finish(log_end_us=BASE_MS * 1000, bounds_us=bounds_us))
    assert [name for _, name in shown(raised)] == ["own time within"]


def test_an_event_whose_only_time_is_the_one_the_rule_reads_by_is_judged_by_that() -> None:
    replay = Replay([plan_of(DEFAULT, 100, place=lambda event: BASE_MS * 1000)], ranged=True)
    add(replay, 0, Event({"auditID": "x", "stage": "Panic"}))
    bounds_us = (BASE_MS * 1000, BASE_MS * 1000)
    assert len(list(replay.finish(log_end_us=BASE_MS * 1000, bounds_us=bounds_us))) == 1


# --- what a flood costs --------------------------------------------------------------------


def test_a_flood_does_not_stay_in_memory_or_on_disk(tmp_path: Path) -> None:
    """In order, what can never be alerted is counted at once: nothing of it is spilled."""
    replay = Replay([plan_of(DEFAULT, 5)], memory_bytes=10_000, folder=tmp_path)
    for arrival in burst(BASE_MS + 60_000, 2_000):
        add(replay, 0, event_of(arrival))
    assert replay.counts[0].capped == 1_995
    assert len(list(replay.finish(log_end_us=0))) == 5
    assert list(tmp_path.iterdir()) == []


def test_the_event_comes_back_as_it_went_in() -> None:
    event = Event(
        {"kubernetes": {"audit": {"auditID": "x", "stage": "Panic"}}, "@timestamp": BASE_MS},
        is_document=True,
        line=7,
        cluster="prod",
        index="logs-x",
        document_id="d1",
        aks_metadata={"pod": "p"},
        wrapper_time=stamp(BASE_MS * 1000),
    )
    replay = Replay([plan_of(DEFAULT, 1)], memory_bytes=1)
    add(replay, 0, event)
    (raised,) = replay.finish(log_end_us=0)
    assert raised.event == replace(event, raw=raised.event.raw, line=0)
