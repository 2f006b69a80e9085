"""New-terms rules, against a reference that looks through each run's whole history."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.detection.finding import Finding, Item, NewTerms, Window
from barrelman.detection.newterms import NewTermsOperator, SeenTerms, newterms_operand
from barrelman.detection.runs import GivenRuns
from barrelman.detection.schedule import Schedule
from barrelman.records.event import Event
from barrelman.records.paths import Scalar
from barrelman.records.times import parse_date_math, parse_duration_ms
from barrelman.rules.rule import Rule

BASE_MS = 1_795_417_200_000  # 2026-11-23T07:00:00Z, a multiple of every interval used here

WINDOWS = (
    ("1s", "now-1s", "now", "now-3s"),
    ("1s", "now-4s", "now-2s", "now-5s"),
    ("5m", "now-5m", "now", "now-30m"),
    ("5m", "now-6m", "now", "now-7m"),
    ("5m", "now-6m", "now", "now-12m"),
    ("5m", "now-11m", "now-1m", "now-15m"),
    ("5m", "now-4m", "now", "now-8m"),
    ("5m", "now-10m", "now+3m", "now-20m/m"),
    ("5m", "now-10m/m", "now/m", "now-1h/h"),
    ("5m", "now-6m", "now", "now"),
    ("5m", "now-6m", "now", "2026-11-23T07:07:00Z"),
    ("1h", "now-1d/d", "now", "now-2d/d"),
    ("1h", "2026-11-23T05:30:00Z", "now", "now-2h"),
)


def rule_of(window: tuple[str, str, str, str], *, fields: tuple[str, ...] = ("a",)) -> Rule:
    interval, from_, to, history = window
    return Rule(
        rule_id="r",
        type="new_terms",
        name="n",
        description="d",
        risk_score=1,
        severity="low",
        interval=interval,
        interval_ms=parse_duration_ms(interval),
        from_=parse_date_math(from_),
        to=parse_date_math(to),
        new_terms_fields=fields,
        history_window_start=parse_date_math(history),
    )


def schedule_of(rule: Rule) -> Schedule:
    return Schedule(interval_ms=rule.interval_ms, from_=rule.from_, to=rule.to)


def window_of(schedule: Schedule, tick: int) -> Window:
    return Window(tick * schedule.interval_ms, *schedule.window_ms(tick))


@dataclass(frozen=True)
class Doc:
    """An event and its combinations; one of the past is remembered only."""

    number: int
    time_ms: int
    terms: tuple[tuple[Scalar, ...], ...]
    is_past: bool = False

    @property
    def order(self) -> tuple[int, int]:
        return self.time_ms, self.number

    def item(self) -> Item:
        payload = b"" if self.is_past else str(self.number).encode()
        time_us = self.time_ms * 1000
        identity = str(self.number)
        return Item(time_us, time_us, self.number, identity, self.terms, None, payload)


Found = tuple[int, int, tuple[Scalar, ...]]


@dataclass
class Reference:
    rule: Rule
    cap: int | None
    docs: list[Doc] = field(default_factory=list)
    alerted: set[tuple[int, tuple[Scalar, ...]]] = field(default_factory=set)
    cut: set[tuple[int, tuple[Scalar, ...]]] = field(default_factory=set)
    found: list[Found] = field(default_factory=list)

    def run(self, window: Window) -> None:
        start = self.rule.history_window_start
        assert start is not None
        history_ms = min(start.resolve_ms(window.to_ms), window.from_ms)
        firsts: dict[tuple[Scalar, ...], Doc] = {}
        for doc in sorted(self.docs, key=lambda doc: doc.order, reverse=True):
            if history_ms <= doc.time_ms <= window.to_ms:
                firsts |= dict.fromkeys(doc.terms, doc)
        new = [
            (terms, doc)
            for terms, doc in firsts.items()
            if doc.time_ms > window.from_ms
            and not doc.is_past
            and (doc.number, terms) not in self.alerted
        ]
        new.sort(key=lambda each: [(isinstance(t, str), t) for t in each[0]])
        for place, (terms, doc) in enumerate(new):
            if self.cap is not None and place >= self.cap:
                self.cut.add((doc.number, terms))
            else:
                self.alerted.add((doc.number, terms))
                self.found.append((window.tick_ms, doc.number, terms))

    @property
    def capped(self) -> int:
        return len(self.cut - self.alerted)


def shown(window: Window, findings: Sequence[Finding]) -> list[Found]:
    rows: list[Found] = []
    for each in findings:
        assert isinstance(each.about, NewTerms)
        assert each.payloads == (str(each.number).encode(),)
        rows.append((window.tick_ms, each.number, each.about.values))
    return rows


@st.composite
def times_ms(draw: st.DrawFn, interval_ms: int) -> int:
    """Times that crowd around the ends of windows and histories, and often fall together."""
    edge_ms = BASE_MS + draw(st.integers(0, 8)) * interval_ms
    shifts = [0, 0, -60_000, 1, -1, 60_000, -1_000, interval_ms // 2]
    return edge_ms + draw(st.sampled_from(shifts))


COMBINATIONS: st.SearchStrategy[tuple[Scalar, ...]] = st.sampled_from([(5,), ("5",), ("a",)])


@st.composite
def cases(draw: st.DrawFn, *, with_past: bool) -> tuple[Rule, int | None, list[Doc]]:
    rule = rule_of(draw(st.sampled_from(WINDOWS)))
    pasts = st.booleans() if with_past else st.just(False)
    docs = []
    for number in range(draw(st.integers(0, 16))):
        terms = draw(st.lists(COMBINATIONS, min_size=1, max_size=2, unique=True))
        time_ms = draw(times_ms(rule.interval_ms))
        docs.append(Doc(number, time_ms, tuple(terms), draw(pasts)))
    return rule, draw(st.sampled_from([1, 2, None, None])), docs


def ticks_of(schedule: Schedule, docs: Sequence[Doc]) -> range:
    spans = [schedule.ticks(doc.time_ms) for doc in docs]
    spans = [(first, last) for first, last in spans if first <= last]
    first = min((first for first, _ in spans), default=0)
    last = max((last for _, last in spans), default=-1)
    return range(first - 1, min(last, first + 60) + 2)


@given(case=cases(with_past=True), data=st.data())
@settings(deadline=None, max_examples=140)
def test_every_history_looked_through_gives_the_same(
    case: tuple[Rule, int | None, list[Doc]], data: st.DataObject
) -> None:
    """With events already there that lie behind a run's window, and some without a payload."""
    rule, cap, docs = case
    schedule = schedule_of(rule)
    operator = NewTermsOperator(rule, runs=schedule, cap=cap)
    reference = Reference(rule, cap)
    seen = SeenTerms(rule, runs=schedule)
    waiting = sorted(docs, key=lambda doc: doc.order)
    drops = data.draw(st.booleans())
    found: list[Found] = []
    for tick in ticks_of(schedule, docs):
        window = window_of(schedule, tick)
        ahead_ms = data.draw(st.sampled_from([0, 0, 1, rule.interval_ms]))
        while waiting and waiting[0].time_ms <= window.to_ms + ahead_ms:
            doc = waiting.pop(0)
            item = doc.item()
            if drops and not seen.needs_event(item.operand, doc.time_ms):
                item = item._replace(payload=b"")
            operator.add(item)
            reference.docs.append(doc)
        found += shown(window, operator.run(window))
        reference.run(window)
    assert found == reference.found
    assert operator.capped == reference.capped


@given(case=cases(with_past=False), data=st.data())
@settings(deadline=None, max_examples=140)
def test_what_comes_late_gets_its_place(
    case: tuple[Rule, int | None, list[Doc]], data: st.DataObject
) -> None:
    rule, cap, docs = case
    schedule = schedule_of(rule)
    operator = NewTermsOperator(rule, runs=schedule, cap=cap)
    reference = Reference(rule, cap)
    late = data.draw(st.lists(st.sampled_from(docs), max_size=3, unique=True)) if docs else []
    waiting = sorted((doc for doc in docs if doc not in late), key=lambda doc: doc.order)
    found: list[Found] = []
    for tick in ticks_of(schedule, docs):
        window = window_of(schedule, tick)
        given = [doc for doc in waiting if doc.time_ms <= window.to_ms]
        waiting = waiting[len(given) :]
        if data.draw(st.booleans()) and late:
            given.append(late.pop())
        for doc in given:
            operator.add(doc.item())
            reference.docs.append(doc)
        found += shown(window, operator.run(window))
        reference.run(window)
    assert found == reference.found
    assert operator.capped == reference.capped


@given(case=cases(with_past=False))
@settings(deadline=None, max_examples=140)
def test_many_at_once_are_as_many_one_by_one(case: tuple[Rule, int | None, list[Doc]]) -> None:
    """And what is kept of them is enough for another operator."""
    rule, cap, docs = case
    schedule = schedule_of(rule)
    operators = [NewTermsOperator(rule, runs=schedule, cap=cap) for _ in range(2)]
    reference = Reference(rule, cap)
    waiting = sorted(docs, key=lambda doc: doc.order)
    found: list[list[Found]] = [[], []]
    for tick in ticks_of(schedule, docs):
        window = window_of(schedule, tick)
        given = [doc for doc in waiting if doc.time_ms <= window.to_ms]
        waiting = waiting[len(given) :]
        reference.docs += given
        for _, same in itertools.groupby(given, key=lambda doc: schedule.ticks(doc.time_ms)):
            kept = operators[0].add_all([tuple(doc.item()) for doc in same])
            for match in kept:
                operators[1].add(Item(*match))
        for rows, operator in zip(found, operators, strict=True):
            rows += shown(window, operator.run(window))
        reference.run(window)
    assert found == [reference.found] * 2
    assert [operator.capped for operator in operators] == [reference.capped] * 2


# --- cases ---------------------------------------------------------------------------------------

SIX = ("5m", "now-6m", "now", "now-1h")
MINUTE_MS = 60_000


def runs_of(
    docs: Sequence[Doc], *, rule: Rule, cap: int | None = None, ticks: int = 3
) -> list[Found]:
    """Alerts of runs at 7:05, 7:10 and so on."""
    schedule = schedule_of(rule)
    operator = NewTermsOperator(rule, runs=schedule, cap=cap)
    for doc in docs:
        operator.add(doc.item())
    found: list[Found] = []
    for tick in range(1, ticks + 1):
        window = window_of(schedule, BASE_MS // schedule.interval_ms + tick)
        found += shown(window, operator.run(window))
    return found


def doc_of(number: int, since_ms: int, *values: Scalar, is_past: bool = False) -> Doc:
    return Doc(number, BASE_MS + since_ms, tuple((value,) for value in values), is_past)


def brief(found: Sequence[Found]) -> list[tuple[int, int, Scalar]]:
    """Minutes since 7:00 of the run, the event, and what is new."""
    return [((tick - BASE_MS) // MINUTE_MS, number, terms[0]) for tick, number, terms in found]


def test_without_a_history_all_is_new_and_of_each_the_oldest_event() -> None:
    docs = [doc_of(0, 0, "x"), doc_of(1, 1, "y"), doc_of(2, 2, "x"), doc_of(3, 3, "z", "y")]
    assert brief(runs_of(docs, rule=rule_of(SIX))) == [(5, 0, "x"), (5, 1, "y"), (5, 3, "z")]


def test_what_two_windows_share_alerts_once() -> None:
    assert brief(runs_of([doc_of(0, 4 * MINUTE_MS + 1, "x")], rule=rule_of(SIX))) == [(5, 0, "x")]


def test_an_event_at_the_very_start_of_a_window_is_history() -> None:
    rule = rule_of(SIX)
    assert not runs_of([doc_of(0, -MINUTE_MS, "x"), doc_of(1, 0, "x")], rule=rule)
    assert brief(runs_of([doc_of(0, -MINUTE_MS + 1, "x")], rule=rule)) == [(5, 0, "x")]


def test_both_ends_of_the_history() -> None:
    rule = rule_of(SIX)
    start_ms = 5 * MINUTE_MS - 60 * MINUTE_MS  # of the history of the run at 7:05
    past = doc_of(0, start_ms, "x", is_past=True)
    assert not runs_of([past, doc_of(1, 0, "x")], rule=rule)
    past = doc_of(0, start_ms - 1, "x", is_past=True)
    assert brief(runs_of([past, doc_of(1, 0, "x")], rule=rule)) == [(5, 1, "x")]


def test_what_is_known_to_one_run_may_be_new_to_the_next() -> None:
    """The event lies in both windows, the one before it in the history of the first run alone."""
    rule = rule_of(("5m", "now-6m", "now", "now-10m"))
    past = doc_of(0, -3 * MINUTE_MS, "x", is_past=True)
    event = doc_of(1, 4 * MINUTE_MS + 1, "x")
    assert brief(runs_of([past, event], rule=rule)) == [(10, 1, "x")]
    between = doc_of(2, 0, "x", is_past=True)
    assert not runs_of([past, between, event], rule=rule)


def test_an_event_that_no_window_reads_is_history() -> None:
    rule = rule_of(("5m", "now-4m", "now", "now-1h"))
    unread = doc_of(0, 30_000, "x")
    assert not runs_of([unread, doc_of(1, 2 * MINUTE_MS, "x")], rule=rule)


def test_where_there_is_no_room_the_next_run_goes_on() -> None:
    rule = rule_of(SIX)
    late_ms = 4 * MINUTE_MS + 1
    docs = [doc_of(number, late_ms, value) for number, value in enumerate("dcba")]
    docs += [doc_of(4, 0, "e"), doc_of(5, late_ms, 7)]
    docs.sort(key=lambda doc: doc.order)
    schedule = schedule_of(rule)
    operator = NewTermsOperator(rule, runs=schedule, cap=2)
    for doc in docs:
        operator.add(doc.item())
    tick = BASE_MS // schedule.interval_ms + 1
    found = [brief(shown(w, operator.run(w))) for w in (window_of(schedule, tick),)]
    assert found == [[(5, 5, 7), (5, 3, "a")]], "numbers come before texts"
    assert operator.capped == 4
    found = [brief(shown(w, operator.run(w))) for w in (window_of(schedule, tick + 1),)]
    assert found == [[(10, 2, "b"), (10, 1, "c")]], "e is history by then, and d has no room"
    assert operator.capped == 2


def test_one_event_may_raise_several_alerts_and_each_has_its_id() -> None:
    rule = rule_of(SIX)
    schedule = schedule_of(rule)
    operator = NewTermsOperator(rule, runs=schedule, cap=None)
    operator.add(doc_of(0, 0, "x", "y").item())
    operator.add(doc_of(1, 0, "z").item())
    findings = operator.run(window_of(schedule, BASE_MS // schedule.interval_ms + 1))
    assert [each.number for each in findings] == [0, 0, 1]
    assert len({each.alert_id for each in findings}) == 3
    assert all(len(bytes.fromhex(each.alert_id)) == 32 for each in findings)


def test_of_a_flood_only_what_may_be_alerted_is_held() -> None:
    rule = rule_of(SIX)
    schedule = schedule_of(rule)
    rng = random.Random(3)
    values = rng.sample(range(100_000), 6_000)
    docs = [doc_of(n, rng.randrange(5 * MINUTE_MS), value) for n, value in enumerate(values)]
    docs.sort(key=lambda doc: doc.order)
    operator, reference = NewTermsOperator(rule, runs=schedule, cap=3), Reference(rule, 3, docs)
    for doc in docs:
        operator.add(doc.item())
    held = sum(first.match is not None for firsts in operator._firsts.values() for first in firsts)
    assert held < 5_000, "of those of either stretch at most two thousand, and no more than came"
    found: list[Found] = []
    for tick in ticks_of(schedule, docs):
        window = window_of(schedule, tick)
        found += shown(window, operator.run(window))
        reference.run(window)
    assert found == reference.found
    assert operator.capped == reference.capped == 6_000 - len(found)


def test_what_was_remembered_is_known() -> None:
    rule = rule_of(SIX)
    schedule = schedule_of(rule)
    operator = NewTermsOperator(rule, runs=schedule, cap=None)
    operator.remember(["x"], BASE_MS - 30 * MINUTE_MS)
    operator.remember(["y"], BASE_MS - 60 * MINUTE_MS)
    operator.add(doc_of(0, 0, "x", "y").item())
    window = window_of(schedule, BASE_MS // schedule.interval_ms + 1)
    assert brief(shown(window, operator.run(window))) == [(5, 0, "y")]


def test_runs_that_are_given_one_by_one() -> None:
    windows = [Window(BASE_MS + at, BASE_MS + at - 1_000, BASE_MS + at) for at in (77, 577, 5_077)]
    rule = rule_of(("5m", "now-6m", "now", "now-2s"))
    operator = NewTermsOperator(rule, runs=GivenRuns(windows), cap=None)
    reference = Reference(rule, None)
    for number, at in enumerate((-924, -923, -423, 77, 78, 577, 578, 4_077, 4_078)):
        doc = doc_of(number, at, number % 3, "x" if number == 8 else "y")
        operator.add(doc.item())
        reference.docs.append(doc)
    found: list[Found] = []
    for window in windows:
        found += shown(window, operator.run(window))
        reference.run(window)
    assert found == reference.found
    new = [(number, terms[0]) for _, number, terms in found]
    assert new == [(2, 2), (8, 2), (8, "x")], "2 came last before the third run's history"


def test_no_more_combinations_are_held_than_allowed() -> None:
    rule = rule_of(SIX)
    schedule = schedule_of(rule)
    operator = NewTermsOperator(rule, runs=schedule, cap=None, most_live=100)
    for number in range(1_000):
        operator.add(doc_of(number, number, number, is_past=True).item())
    assert 900 <= operator.evicted < 1_000
    operator.add(doc_of(1_000, 2_000, 0, 999).item())
    window = window_of(schedule, BASE_MS // schedule.interval_ms + 1)
    assert brief(shown(window, operator.run(window))) == [(5, 1_000, 0)], "new again"


def test_combinations_that_no_history_reaches_make_room() -> None:
    rule = rule_of(("1s", "now-1s", "now", "now-2s"))
    schedule = schedule_of(rule)
    operator = NewTermsOperator(rule, runs=schedule, cap=1, most_live=10_000)
    for tick in range(BASE_MS // 1000, BASE_MS // 1000 + 40):
        for number in range(1_000):
            operator.add(Doc(number, tick * 1000, ((f"{tick} {number}",),)).item())
        operator.run(window_of(schedule, tick))
    assert operator.evicted == 0


def test_times_at_the_ends_of_the_calendar() -> None:
    rule = rule_of(("5m", "now-6m", "now-1m", "now-1d"))
    schedule = schedule_of(rule)
    operator = NewTermsOperator(rule, runs=schedule, cap=1)
    found = 0
    for time_ms in (-62_135_596_800_000, 253_402_300_000_000, 253_402_300_799_999):
        operator.add(Doc(0, time_ms, (("x",),)).item())
        first, last = schedule.ticks(time_ms)
        found += sum(
            len(operator.run(window_of(schedule, tick))) for tick in range(first, last + 1)
        )
    assert found == 2, "no run is left to read the last one"


def test_what_is_read_of_an_event() -> None:
    rule = rule_of(SIX, fields=("user.name", "kubernetes.audit.user.groups"))
    read = newterms_operand(rule)
    body: dict[str, Any] = {"user": {"username": "eve", "groups": ["b", "a", "b", None, 7]}}
    assert read(Event(body)) == (("eve", "b"), ("eve", "a"), ("eve", "7"))
    assert read(Event({"user": {"username": "eve", "groups": []}})) is None
    assert read(Event({"user": {"groups": ["a"]}})) is None


def test_of_two_vast_arrays_the_combinations_left_out_are_counted() -> None:
    rule = rule_of(SIX, fields=("kubernetes.audit.x", "kubernetes.audit.y"))
    many = [str(number) for number in range(101)]
    operand = newterms_operand(rule)(Event({"x": many, "y": many}))
    assert operand is not None
    time_us = BASE_MS * 1000
    item = Item(time_us, time_us, 0, "i", operand, None, b"e")
    schedule = schedule_of(rule)
    for at_once in (False, True):
        operator = NewTermsOperator(rule, runs=schedule, cap=None)
        if at_once:
            assert operator.add_all([tuple(item)]) == [tuple(item)]
        else:
            operator.add(item)
        assert operator.evicted == 101 * 101 - 10_000
        found = operator.run(window_of(schedule, BASE_MS // schedule.interval_ms + 1))
        assert len(found) == 10_000


def test_who_pads_an_array_hides_no_term() -> None:
    many = [str(number) for number in range(20_000)]
    for fields in (("kubernetes.audit.x",), ("user.name", "kubernetes.audit.x")):
        read = newterms_operand(rule_of(SIX, fields=fields))
        operand = read(Event({"x": many, "user": {"username": "eve"}}))
        assert operand is not None
        assert len(operand) == 20_000
        assert operand[-1][-1] == "19999"
