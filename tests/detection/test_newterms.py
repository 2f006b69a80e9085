"""New-terms rules, against a reference that looks through each run's whole history."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
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
@settings(deadline=None, max_examples=300)
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
@settings(deadline=None, max_examples=300)
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
        if late and data.draw(st.booleans()):
            given.append(late.pop())
        for doc in given:
            operator.add(doc.item())
            reference.docs.append(doc)
        found += shown(window, operator.run(window))
        reference.run(window)
    assert found == reference.found
    assert operator.capped == reference.capped
