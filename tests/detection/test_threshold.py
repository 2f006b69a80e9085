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
@settings(deadline=None, max_examples=300)
def test_every_window_counted_anew_gives_the_same(
    case: tuple[Rule, int | None, list[Doc]], data: st.DataObject
) -> None:
    """With some events already there that lie behind a run's window, and with some that come
    late."""
    rule, cap, docs = case
    schedule = schedule_of(rule)
    operator = ThresholdOperator(rule, runs=schedule, cap=cap)
    reference = Reference(rule, cap)
    late = data.draw(st.sets(st.sampled_from(docs), max_size=3)) if docs else set()
    waiting = sorted((doc for doc in docs if doc not in late), key=lambda doc: doc.time_ms)
    found: list[Found] = []
    for tick in ticks_of(schedule, docs):
        window = window_of(schedule, tick)
        ahead_ms = data.draw(st.sampled_from([0, 0, 1, rule.interval_ms]))
        given = [doc for doc in waiting if doc.time_ms <= window.to_ms + ahead_ms]
        if late and data.draw(st.booleans()):
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
