"""Judges and their accounts: with a sieve as without, and in parts as in one."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import START, lines
from samples import event as event_data
from samples import rule as rule_data

from barrelman.detection.judge import Bound, Judge, ScanOptions, Tally
from barrelman.detection.scan import RunnableRule, Scan, sieve_of
from barrelman.engine.blocks import BlockReader, Passed
from barrelman.engine.compile import compile_query
from barrelman.engine.reader import EventReader
from barrelman.engine.ruleset import MOST_STREAMS
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE
from barrelman.records.times import parse_instant_us
from barrelman.rules.assign import rule_predicate
from barrelman.rules.load import load_rules

DAY_US = 86_400_000_000
START_US = parse_instant_us(START.isoformat()) or 0
NOW_US = START_US + 30 * DAY_US


def runnable(**changes: Any) -> RunnableRule:
    changes = {"query": "kubernetes.audit.objectRef.name:found"} | changes
    (loaded,) = load_rules(json.dumps(rule_data(**changes)), path="r.json").rules
    assert loaded.rule is not None, loaded.reason
    return RunnableRule(loaded.rule, rule_predicate(loaded.rule))


def made(*, found: bool = False, seconds: float = 0, **changes: Any) -> dict[str, Any]:
    reference = {"resource": "pods", "namespace": "shop", "name": "found" if found else "other"}
    return event_data(int(seconds), seconds=seconds, objectRef=reference, **changes)


def scanned(
    data: bytes, *, options: ScanOptions, sieved: bool, step: int, is_timed: bool = True
) -> Scan:
    rule = runnable()
    scan = Scan([rule], now_us=NOW_US, options=options, is_timed=is_timed)
    sieve = sieve_of([rule]) if sieved else None
    assert (sieve is not None) == sieved
    blocks = BlockReader(EventReader(), sieve=sieve, is_timed=is_timed)
    for at in range(0, len(data), step):
        for item in blocks.feed(data[at : at + step]):
            _take(scan, item)
    for item in blocks.finish():
        _take(scan, item)
    return scan


def _take(scan: Scan, item: Any) -> None:
    if isinstance(item, Event):
        scan.feed(item)
    elif isinstance(item, Passed):
        scan.pass_over(item)


OPTIONS = [
    ScanOptions(),
    ScanOptions(since=Bound(START_US + 20_000_000)),
    ScanOptions(until=Bound(START_US + 20_000_000)),
    ScanOptions(since=Bound(START_US + 10_000_000), until=Bound(START_US + 40_000_000)),
    ScanOptions(since=Bound(back_us=30_000_000)),
    ScanOptions(since=Bound(back_us=DAY_US), until=Bound(back_us=20_000_000)),
]
EVENTS = st.builds(
    lambda found, seconds, changes: made(found=found, seconds=seconds, **changes),
    st.booleans(),
    st.sampled_from([0, 10, 20, 30, 40, 50, 60, 5_000_000]),
    st.sampled_from(
        [
            *({}, {}, {}, {"annotations": None}, {"stageTimestamp": None}, {"requestObject": None}),
            {"stageTimestamp": None, "requestReceivedTimestamp": None},
            {"stageTimestamp": "never"},
            {"annotations": {"audit.k8s.io/truncated": "true"}, "requestObject": None},
            {"annotations": {'"stageTimestamp":"2026-01-01T00:00:00Z"': "x"}},
            {"annotations": {"stageTimestamp": "2026-01-01T00:00:00Z"}},
            {"requestObject": {"stageTimestamp": "2026-01-01T00:00:00Z", "annotations": {}}},
            {"responseObject": {"kind": "Pod"}},
        ]
    ),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENTS, max_size=12), st.sampled_from(OPTIONS), st.sampled_from([300, 10**6]))
def test_a_timed_account_is_the_same_with_a_sieve(
    events: list[dict[str, Any]], options: ScanOptions, step: int
) -> None:
    data = lines(events)
    plain = scanned(data, options=options, sieved=False, step=step)
    sieved = scanned(data, options=options, sieved=True, step=step)
    # Of a line that is passed over it is only known that a body may stand on it.
    assert sieved.tally.bodies >= plain.tally.bodies
    assert dataclasses.replace(sieved.tally, bodies=plain.tally.bodies) == plain.tally
    assert [alert.document for alert in sieved.finish()] == [
        alert.document for alert in plain.finish()
    ]
    assert sieved.counts.rules == plain.counts.rules


TORN = lines([made()])[:90] + lines([made(seconds=50)])


@pytest.mark.parametrize("options", OPTIONS)
def test_what_a_torn_line_seemed_to_say_is_taken_back(options: ScanOptions) -> None:
    """An event glued to a torn one is passed over at first, and read when other text follows."""
    data = lines([made(found=True, seconds=30)]) + TORN + b"text\n"
    plain = scanned(data, options=options, sieved=False, step=10**6)
    sieved = scanned(data, options=options, sieved=True, step=10**6)
    assert dataclasses.replace(sieved.tally, bodies=plain.tally.bodies) == plain.tally


def test_a_body_on_a_line_behind_an_open_document_is_known_of() -> None:
    rule = runnable()
    scan = Scan([rule], now_us=NOW_US, is_timed=False)
    blocks = BlockReader(EventReader(), sieve=sieve_of([rule]))
    for chunk in (b"{\n", lines([made(requestObject=None), made(seconds=10)])):
        for item in blocks.feed(chunk):
            _take(scan, item)
    for item in blocks.finish():
        _take(scan, item)
    assert scan.tally.events == 2
    assert scan.tally.bodies == {"requestObject"}


def judge_of(options: ScanOptions) -> Judge:
    rule = runnable()
    return Judge(
        [rule],
        predicates=[compile_query(rule.node, AUDIT_CATALOGUE)],
        options=options,
        now_us=NOW_US,
        is_timed=True,
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(EVENTS, max_size=10), st.integers(0, 10), st.sampled_from(OPTIONS))
def test_judges_side_by_side_come_to_what_one_does(
    events: list[dict[str, Any]], cut: int, options: ScanOptions
) -> None:
    bodies = [Event(event) for event in events]
    one = judge_of(options)
    expected = [match for event in bodies for match in one.feed(event)]
    total, matches = Tally(), []
    for part in (bodies[:cut], bodies[cut:]):
        judge = judge_of(options)
        matches += [match for event in part for match in judge.feed(event)]
        total.add(Tally(*judge.tally.packed()))
    assert matches == expected
    assert total == one.tally


def test_an_untimed_match_wants_the_end_only_where_times_were_not_read() -> None:
    events = [
        made(seconds=10),
        made(found=True, stageTimestamp=None, requestReceivedTimestamp=None),
    ]
    for is_timed in (True, False):
        scan = scanned(
            lines(events), options=ScanOptions(), sieved=True, step=10**6, is_timed=is_timed
        )
        assert scan.wants_end is not is_timed
    scan = scanned(
        lines([made(found=True)]), options=ScanOptions(), sieved=True, step=10**6, is_timed=False
    )
    assert not scan.wants_end


TORN_LATER = (
    b'{"kind":"Event","apiVersion":"audit.k8s.io/v1","verb":"get","x":'
    b'{"stageTimestamp":"2027-01-01T00:00:00Z"}\n'
)


@pytest.mark.parametrize("behind", [b"", b"\n", b"text\n", lines([made(seconds=6)])])
def test_a_torn_line_does_not_move_the_logs_end(behind: bytes) -> None:
    """Counted back from there, nothing would be left of the log."""
    data = lines([made(found=True, seconds=n) for n in range(5)]) + TORN_LATER + behind
    options = ScanOptions(since=Bound(back_us=3_600_000_000))
    for sieved in (False, True):
        scan = scanned(data, options=options, sieved=sieved, step=1 << 20)
        assert len(list(scan.finish())) == 5


@pytest.mark.parametrize("query", ["kubernetes.audit.objectRef.name:found", "not event.action:x"])
def test_the_span_of_a_large_log_is_that_of_its_ends(query: str) -> None:
    """Whether or not their lines pass the sieve, or there is one."""
    rule = runnable(query=query)
    data = lines([made(found=n % 3 > 0, seconds=n) for n in range(2000)])
    scan = Scan([rule], now_us=NOW_US, is_timed=False)
    blocks = BlockReader(EventReader(), sieve=sieve_of([rule]))
    for item in [*blocks.feed(data), *blocks.finish()]:
        _take(scan, item)
    first, last = START_US, START_US + 1999 * 1_000_000
    assert scan.tally.start_us is not None
    assert scan.tally.end_us is not None
    assert abs(scan.tally.start_us - first) < 60_000_000
    assert abs(scan.tally.end_us - last) < 60_000_000


def test_streams_are_bounded_when_accounts_are_added_up() -> None:
    whole = Tally()
    for part in range(4):
        one = Tally()
        for number in range(MOST_STREAMS):
            one.note_stream(f"s{part}-{number}")
        whole.add(one)
    assert len(whole.streams) == MOST_STREAMS
