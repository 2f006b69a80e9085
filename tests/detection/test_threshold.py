"""Threshold rules, against a reference that counts each run's window anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.detection.finding import Finding, Item, ThresholdResult, Window
from barrelman.detection.runs import GivenRuns
from barrelman.detection.schedule import Schedule
from barrelman.detection.threshold import ThresholdOperator, threshold_operand
from barrelman.records.event import Event
from barrelman.records.paths import Scalar
from barrelman.records.times import parse_date_math, parse_duration_ms
from barrelman.rules.rule import Cardinality, Rule, Threshold

BASE_MS = 1_795_417_200_000  # 2026-11-23T07:00:00Z, a multiple of every interval used here

WINDOWS = (
    ("1s", "now-1s", "now"),
    ("1s", "now-7s", "now-2s"),
    ("5m", "now-5m", "now"),
    ("5m", "now-6m", "now"),
    ("5m", "now-11m", "now-1m"),
    ("5m", "now-4m", "now"),
    ("5m", "now-10m", "now+3m"),
    ("5m", "now-10m/m", "now/m"),
    ("1h", "now-1d/d", "now"),
    ("1h", "now-2h/h", "now/h"),
    ("1h", "2026-11-23T05:30:00Z", "now"),
)


def rule_of(
    window: tuple[str, str, str],
    *,
    fields: tuple[str, ...] = ("a",),
    value: int = 2,
    cardinality: tuple[Cardinality, ...] = (),
) -> Rule:
    interval, from_, to = window
    return Rule(
        rule_id="r",
        type="threshold",
        name="n",
        description="d",
        risk_score=1,
        severity="low",
        interval=interval,
        interval_ms=parse_duration_ms(interval),
        from_=parse_date_math(from_),
        to=parse_date_math(to),
        threshold=Threshold(fields, value, cardinality),
    )


def schedule_of(rule: Rule) -> Schedule:
    return Schedule(interval_ms=rule.interval_ms, from_=rule.from_, to=rule.to)


def window_of(schedule: Schedule, tick: int) -> Window:
    return Window(tick * schedule.interval_ms, *schedule.window_ms(tick))


@dataclass(frozen=True)
class Doc:
    """An event: the values of each field that is grouped by, and of the one that is counted."""

    time_ms: int
    fields: tuple[tuple[Scalar, ...], ...]
    counted: tuple[Scalar, ...] = ()
    cluster: str = ""


def item_of(doc: Doc, number: int = 0) -> Item:
    time_us = doc.time_ms * 1000 + 7
    operand = doc.cluster, tuple(product(*doc.fields)), doc.counted
    return Item(time_us, time_us, number, "", operand, None, b"")


Found = tuple[int, tuple[Scalar, ...], int, int, int, int, int, str]


@dataclass
class Reference:
    """Run by run: the window's events, less those that a remembered group rules out."""

    rule: Rule
    cap: int | None
    docs: list[Doc] = field(default_factory=list)
    history: dict[tuple[Scalar, ...], int] = field(default_factory=dict)
    pending: set[tuple[Scalar, ...]] = field(default_factory=set)
    capped: int = 0
    found: list[Found] = field(default_factory=list)

    def run(self, window: Window) -> None:
        threshold = self.rule.threshold
        assert threshold is not None
        self.history = {t: ms for t, ms in self.history.items() if ms > window.from_ms}
        buckets: dict[tuple[Scalar, ...], list[Doc]] = {}
        for doc in self.docs:
            if window.from_ms <= doc.time_ms <= window.to_ms and not self.is_counted(doc):
                for terms in product(*doc.fields):
                    buckets.setdefault(terms, []).append(doc)
        reached = []
        for terms, docs in buckets.items():
            distinct = len({value for doc in docs for value in doc.counted})
            wanted = threshold.cardinality[0].value if threshold.cardinality else 0
            if len(docs) >= threshold.value and distinct >= wanted:
                reached.append((terms, docs, distinct))
        reached.sort(key=lambda each: [(isinstance(t, str), t) for t in each[0]])
        chosen = reached if self.cap is None else reached[: self.cap]
        cut = {terms for terms, _, _ in reached[len(chosen) :]}
        self.capped += len(cut - self.pending) - sum(t in self.pending for t, _, _ in chosen)
        self.pending = cut
        for terms, docs, distinct in chosen:
            first, last = min(d.time_ms for d in docs), max(d.time_ms for d in docs)
            clusters = {doc.cluster for doc in docs}
            cluster = clusters.pop() if len(clusters) == 1 else ""
            since = self.history.get(terms, window.from_ms)
            counted = distinct if threshold.cardinality else -1
            row = (window.tick_ms, terms, len(docs), since, first, last, counted, cluster)
            self.found.append(row)
        self.history |= {terms: max(d.time_ms for d in docs) for terms, docs, _ in chosen}

    def is_counted(self, doc: Doc) -> bool:
        return any(
            doc.time_ms <= last_ms
            and all(term in values for term, values in zip(terms, doc.fields, strict=True))
            for terms, last_ms in self.history.items()
        )


def shown(window: Window, findings: Sequence[Finding]) -> list[Found]:
    rows: list[Found] = []
    for each in findings:
        about = each.about
        assert isinstance(about, ThresholdResult)
        assert about.first_ms is not None
        terms = tuple(term for _, term in about.terms)
        counted = about.cardinality[0][1] if about.cardinality else -1
        times = (about.from_ms, about.first_ms, about.last_ms)
        rows.append((window.tick_ms, terms, about.count, *times, counted, about.cluster))
    return rows


@st.composite
def times_ms(draw: st.DrawFn, interval_ms: int) -> int:
    """Times that crowd around the ends of windows, and often fall together."""
    edge_ms = BASE_MS + draw(st.integers(0, 4)) * interval_ms
    shifts = [0, 0, -60_000, 1, -1, 60_000, -1_000, interval_ms // 2]
    return edge_ms + draw(st.sampled_from(shifts))


TERMS: st.SearchStrategy[Scalar] = st.sampled_from([5, "5", "a", "b"])


@st.composite
def docs_of(draw: st.DrawFn, interval_ms: int, fields: int) -> Doc:
    values = st.lists(TERMS, min_size=1, max_size=2, unique=True).map(tuple)
    return Doc(
        time_ms=draw(times_ms(interval_ms)),
        fields=tuple(draw(values) for _ in range(fields)),
        counted=tuple(draw(st.lists(TERMS, max_size=2, unique=True))),
        cluster=draw(st.sampled_from(["", "east"])),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Rule, int | None, list[Doc]]:
    window = draw(st.sampled_from(WINDOWS))
    fields = draw(st.sampled_from([(), ("a",), ("a",), ("a", "b")]))
    wanted = draw(st.sampled_from([None, None, 0, 2, 3]))
    cardinality = () if wanted is None else (Cardinality("c", wanted),)
    value = draw(st.integers(1, 3))
    rule = rule_of(window, fields=fields, value=value, cardinality=cardinality)
    docs = draw(st.lists(docs_of(rule.interval_ms, len(fields)), max_size=16))
    return rule, draw(st.sampled_from([1, 2, None, None])), docs


def ticks_of(schedule: Schedule, docs: Sequence[Doc]) -> range:
    spans = [schedule.ticks(doc.time_ms) for doc in docs]
    spans = [(first, last) for first, last in spans if first <= last]
    first = min((first for first, _ in spans), default=0)
    last = max((last for _, last in spans), default=-1)
    return range(first - 1, min(last, first + 60) + 2)


@given(case=cases(), data=st.data())
@settings(deadline=None, max_examples=140)
def test_every_window_counted_anew_gives_the_same(
    case: tuple[Rule, int | None, list[Doc]], data: st.DataObject
) -> None:
    """With some events already there that lie behind a run's window, and with some that come
    late."""
    rule, cap, docs = case
    schedule = schedule_of(rule)
    operator = ThresholdOperator(rule, runs=schedule, cap=cap)
    reference = Reference(rule, cap)
    late: set[Doc] = data.draw(st.sets(st.sampled_from(docs), max_size=3)) if docs else set()
    waiting = sorted((doc for doc in docs if doc not in late), key=lambda doc: doc.time_ms)
    found: list[Found] = []
    for tick in ticks_of(schedule, docs):
        window = window_of(schedule, tick)
        ahead_ms = data.draw(st.sampled_from([0, 0, 1, rule.interval_ms]))
        given = [doc for doc in waiting if doc.time_ms <= window.to_ms + ahead_ms]
        if data.draw(st.booleans()) and late:
            given.append(late.pop())
        for doc in given:
            operator.add(item_of(doc))
            reference.docs.append(doc)
            if doc in waiting:
                waiting.remove(doc)
        found += shown(window, operator.run(window))
        reference.run(window)
    assert found == reference.found
    assert operator.capped == reference.capped


# --- cases ---------------------------------------------------------------------------------------

SIX = ("5m", "now-6m", "now")
MINUTE_MS = 60_000


def runs_of(
    docs: Sequence[tuple[int, str]], *, rule: Rule, cap: int | None = None, ticks: int = 3
) -> list[Found]:
    """Alerts of runs at 7:05, 7:10 and so on, over (milliseconds since 7:00, value of `a`)."""
    schedule = schedule_of(rule)
    operator = ThresholdOperator(rule, runs=schedule, cap=cap)
    for since_ms, value in docs:
        operator.add(item_of(Doc(BASE_MS + since_ms, ((value,),))))
    found: list[Found] = []
    for tick in range(1, ticks + 1):
        window = window_of(schedule, BASE_MS // schedule.interval_ms + tick)
        found += shown(window, operator.run(window))
    return found


def brief(found: Sequence[Found]) -> list[tuple[int, int, int]]:
    """Minutes since 7:00 of the run, the count, and since when, in milliseconds."""
    return [
        ((tick - BASE_MS) // MINUTE_MS, count, since - BASE_MS)
        for tick, _, count, since, *_ in found
    ]


def test_events_of_an_alert_are_not_counted_again_by_the_next_run() -> None:
    docs = [(4 * MINUTE_MS + 30_000, "x"), (5 * MINUTE_MS, "x")]
    assert brief(runs_of(docs, rule=rule_of(SIX))) == [(5, 2, -MINUTE_MS)]
    # One more makes no second alert; two do, and they are counted since the first one's last event.
    docs.append((6 * MINUTE_MS, "x"))
    assert brief(runs_of(docs, rule=rule_of(SIX))) == [(5, 2, -MINUTE_MS)]
    docs.append((6 * MINUTE_MS, "x"))
    assert brief(runs_of(docs, rule=rule_of(SIX)))[1:] == [(10, 2, 5 * MINUTE_MS)]


def test_fewer_than_the_threshold_in_each_window_are_none_though_two_windows_share_one() -> None:
    docs = [(3 * MINUTE_MS, "x"), (8 * MINUTE_MS, "x")]
    assert not runs_of(docs, rule=rule_of(SIX))


def test_both_ends_of_a_window_belong_to_it() -> None:
    rule = rule_of(SIX)
    assert brief(runs_of([(-MINUTE_MS, "x"), (5 * MINUTE_MS, "x")], rule=rule)) == [
        (5, 2, -MINUTE_MS)
    ]
    assert not runs_of([(-MINUTE_MS - 1, "x"), (5 * MINUTE_MS, "x")], rule=rule)


def test_an_alert_is_forgotten_where_its_last_event_stands_at_the_very_start() -> None:
    """Then the event of that millisecond counts once more."""
    rule = rule_of(SIX, value=1)
    at_start = 4 * MINUTE_MS
    assert brief(runs_of([(at_start, "x")], rule=rule)) == [(5, 1, -MINUTE_MS), (10, 1, at_start)]
    assert brief(runs_of([(at_start + 1, "x")], rule=rule)) == [(5, 1, -MINUTE_MS)]
    earlier_too = [(at_start - 1, "x"), (at_start, "x")]
    assert brief(runs_of(earlier_too, rule=rule)) == [(5, 2, -MINUTE_MS), (10, 1, at_start)]


def test_an_event_of_two_groups_is_ruled_out_by_either() -> None:
    rule = rule_of(SIX)
    schedule = schedule_of(rule)
    operator = ThresholdOperator(rule, runs=schedule, cap=None)
    tick = BASE_MS // schedule.interval_ms
    for since_ms, values in [(0, ("x",)), (1, ("x", "y"))]:
        operator.add(item_of(Doc(BASE_MS + 4 * MINUTE_MS + 1 + since_ms, (values,))))
    window = window_of(schedule, tick + 1)
    assert [row[1] for row in shown(window, operator.run(window))] == [("x",)]
    operator.add(item_of(Doc(BASE_MS + 6 * MINUTE_MS, (("y",),))))
    window = window_of(schedule, tick + 2)
    assert not operator.run(window), "y has one event left: the other one was counted for x"


def test_the_order_is_that_of_composite_buckets() -> None:
    values: list[Scalar] = ["ß", "z", "a", "Z", 10, 9, "9"]
    rule = rule_of(SIX, value=1)
    schedule = schedule_of(rule)
    operator = ThresholdOperator(rule, runs=schedule, cap=5)
    for value in values:
        operator.add(item_of(Doc(BASE_MS, ((value,),))))
    window = window_of(schedule, BASE_MS // schedule.interval_ms)
    found = [row[1][0] for row in shown(window, operator.run(window))]
    assert found == [9, 10, "9", "Z", "a"]
    assert operator.capped == 2
    window = window_of(schedule, BASE_MS // schedule.interval_ms + 1)
    assert [row[1][0] for row in shown(window, operator.run(window))] == ["z", "ß"]
    assert operator.capped == 0, "what had no room had it in the next run"


def test_without_fields_all_events_are_one_group() -> None:
    rule = rule_of(SIX, fields=(), value=3)
    operand = threshold_operand(rule)(Event({"verb": "get"}))
    assert operand == ("", ((),), ())
    schedule = schedule_of(rule)
    operator = ThresholdOperator(rule, runs=schedule, cap=None)
    for _ in range(3):
        operator.add(Item(BASE_MS * 1000, BASE_MS * 1000, 0, "", operand, None, b""))
    [finding] = operator.run(window_of(schedule, BASE_MS // schedule.interval_ms))
    assert isinstance(finding.about, ThresholdResult)
    assert finding.about.terms == ()
    assert finding.about.count == 3


def test_the_id_is_of_rule_run_and_terms() -> None:
    rule = rule_of(SIX, value=1)
    schedule = schedule_of(rule)
    ids = set()
    for minutes in (0, 1, 10):
        operator = ThresholdOperator(rule, runs=schedule, cap=None)
        tick = BASE_MS // schedule.interval_ms + -(-minutes // 5)
        operator.add(item_of(Doc(BASE_MS + minutes * MINUTE_MS, (("x",),))))
        ids |= {each.alert_id for each in operator.run(window_of(schedule, tick))}
    assert len(ids) == 3, "each run's is its own"
    assert all(len(bytes.fromhex(each)) == 32 for each in ids)


def test_an_alert_of_before_is_remembered() -> None:
    rule = rule_of(SIX, value=1)
    schedule = schedule_of(rule)
    window = window_of(schedule, BASE_MS // schedule.interval_ms)
    operator = ThresholdOperator(rule, runs=schedule, cap=None)
    operator.remember([("a", "x")], BASE_MS - 1)
    operator.remember([("another", "x")], BASE_MS)  # the rule's fields were others then
    for value in ("x", "y"):
        operator.add(item_of(Doc(BASE_MS - 1, ((value,),))))
    assert [row[1] for row in shown(window, operator.run(window))] == [("y",)]


def test_runs_that_are_given_one_by_one() -> None:
    """They overlap, and begin at no multiple of anything."""
    windows = [Window(BASE_MS + at, BASE_MS + at - 1_000, BASE_MS + at) for at in (77, 577, 5_077)]
    rule = rule_of(SIX)
    operator = ThresholdOperator(rule, runs=GivenRuns(windows), cap=None)
    reference = Reference(rule, None)
    for at in (-924, -923, 77, 78, 79, 80, 577, 578, 4_077, 4_078):
        doc = Doc(BASE_MS + at, (("x",),))
        operator.add(item_of(doc))
        reference.docs.append(doc)
    found: list[Found] = []
    for window in windows:
        found += shown(window, operator.run(window))
        reference.run(window)
    assert len(found) == 3
    assert found == reference.found


def test_no_more_groups_are_held_than_allowed() -> None:
    rule = rule_of(("1h", "now-1h", "now"), value=2)
    schedule = schedule_of(rule)
    operator = ThresholdOperator(rule, runs=schedule, cap=None, most_live=100)
    for number in range(1_000):
        operator.add(item_of(Doc(BASE_MS + number, ((number,),))))
    operator.add(item_of(Doc(BASE_MS + 1_000, ((999,),))))
    window = window_of(schedule, BASE_MS // schedule.interval_ms + 1)
    assert [row[1] for row in shown(window, operator.run(window))] == [(999,)]
    assert 900 <= operator.evicted < 1_000


def test_no_more_values_are_held_than_allowed() -> None:
    rule = rule_of(("1h", "now-1h", "now"), cardinality=(Cardinality("c", 3),))
    operator = ThresholdOperator(rule, runs=schedule_of(rule), cap=None, most_live=100)
    for number in range(10_000):
        group = number // 1_000
        operator.add(item_of(Doc(BASE_MS + number, ((group,),), (number,))))
    assert operator.evicted > 0


def test_groups_that_left_make_room() -> None:
    rule = rule_of(("1s", "now-2s", "now"))
    schedule = schedule_of(rule)
    operator = ThresholdOperator(rule, runs=schedule, cap=None, most_live=10_000)
    for tick in range(BASE_MS // 1000, BASE_MS // 1000 + 40):
        for number in range(1_000):
            operator.add(item_of(Doc(tick * 1000, ((f"{tick} {number}",),))))
        operator.run(window_of(schedule, tick))
    assert operator.evicted == 0


def test_times_at_the_ends_of_the_calendar() -> None:
    rule = rule_of(("5m", "now-6m", "now-1m"), value=1)
    schedule = schedule_of(rule)
    operator = ThresholdOperator(rule, runs=schedule, cap=None)
    found = 0
    for time_ms in (-62_135_596_800_000, 253_402_300_000_000, 253_402_300_799_999):
        operator.add(item_of(Doc(time_ms, (("x",),))))
        first, last = schedule.ticks(time_ms)
        found += sum(
            len(operator.run(window_of(schedule, tick))) for tick in range(first, last + 1)
        )
    assert found == 2, "no run is left to read the last one"


# --- what is read of an event --------------------------------------------------------------------


def audit(**more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"auditID": "x", "verb": "get", "user": {"username": "eve"}}
    return body | more


def test_a_missing_field_takes_no_part_and_arrays_fan_out() -> None:
    fields = ("user.name", "kubernetes.audit.user.groups")
    read = threshold_operand(rule_of(SIX, fields=fields))
    assert read(Event(audit())) is None
    body = audit(user={"username": "eve", "groups": ["b", "a", "b", None]})
    assert read(Event(body)) == ("", (("eve", "b"), ("eve", "a")), ())
    body["user"]["groups"] = []
    assert read(Event(body)) is None


def test_of_a_missing_field_whose_cardinality_is_asked_there_are_no_values() -> None:
    rule = rule_of(SIX, fields=("user.name",), cardinality=(Cardinality("source.ip", 2),))
    read = threshold_operand(rule)
    assert read(Event(audit(), cluster="east")) == ("east", (("eve",),), ())
    addresses = ["192.0.2.1", "::ffff:192.0.2.1", "2001:DB8:0::1"]
    body = audit(sourceIPs=addresses)
    assert read(Event(body)) == ("", (("eve",),), ("192.0.2.1", "2001:db8::1"))


def test_an_event_with_vast_arrays_is_in_a_bounded_number_of_groups() -> None:
    fields = ("kubernetes.audit.x", "kubernetes.audit.y")
    many = [str(number) for number in range(1_000)]
    operand = threshold_operand(rule_of(SIX, fields=fields))(Event(audit(x=many, y=many)))
    assert operand is not None
    *groups, left_out = operand[1]
    assert len(groups) == 10_000
    assert left_out == (1_000_000 - 10_000,)


def test_groups_that_were_left_out_are_counted() -> None:
    rule = rule_of(SIX, fields=("kubernetes.audit.x", "kubernetes.audit.y"))
    many = [str(number) for number in range(101)]
    operand = threshold_operand(rule)(Event(audit(x=many, y=many)))
    schedule = schedule_of(rule)
    operator = ThresholdOperator(rule, runs=schedule, cap=None)
    for number in range(2):
        time_us = BASE_MS * 1000
        operator.add(Item(time_us, time_us, number, "i", operand, None, b""))
    assert operator.evicted == 2 * (101 * 101 - 10_000)
    found = operator.run(window_of(schedule, BASE_MS // schedule.interval_ms + 1))
    assert len(found) == 10_000


@pytest.mark.parametrize(
    "fields",
    [
        ("kubernetes.audit.x",),
        ("kubernetes.audit.x", "user.name"),
        ("user.name", "kubernetes.audit.x"),
    ],
)
def test_who_pads_an_array_hides_no_group(fields: tuple[str, ...]) -> None:
    rule = rule_of(SIX, fields=fields)
    many = [str(number) for number in range(20_000)]
    operand = threshold_operand(rule)(Event(audit(x=many)))
    assert operand is not None
    assert len(operand[1]) == 20_000
    assert "19999" in operand[1][-1]
