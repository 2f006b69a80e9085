"""Rules on watch together: as each would be alone, and on lines as on events."""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oddevents import all_bodies
from samples import event as plain_event
from samples import rule as rule_props

from barrelman.detection.judge import RunnableRule
from barrelman.detection.lineup import Lineup, Watcher
from barrelman.detection.rows import row_of
from barrelman.engine.decode import dumps, loads
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_STREAM
from barrelman.records.indices import IndexPatterns
from barrelman.rules.assign import rule_predicate
from barrelman.rules.load import load_rules
from barrelman.service.judging import judge_frame
from barrelman.store.frames import Frame

CLUSTER = "harbour"
QUERIES = {
    "secrets": "kubernetes.audit.objectRef.resource:secrets",
    "eve": "user.name:eve and not event.action:list",
    "code": "kubernetes.audit.responseStatus.code >= 400",
    "address": "source.ip:10.0.0.1",
    "wild": "kubernetes.audit.objectRef.name:*ab*",
    "ipc": "kubernetes.audit.requestObject.spec.hostIPC:true",
    "now": "@timestamp >= now-1h",
    "umlaut": "user.name:ä",
}


def watcher(query: str = "*:*", **props: Any) -> Watcher:
    made = {"rule_id": query, "query": query} | props
    (loaded,) = load_rules(dumps(rule_props(**made)), path="r").rules
    assert loaded.rule is not None, loaded.reason
    return Watcher(RunnableRule(loaded.rule, rule_predicate(loaded.rule, exceptions=None)))


def frame_of(events: list[Event]) -> Frame:
    """As the store would give it."""
    rows = [row_of(event, cluster=CLUSTER) for event in events]
    sizes = [len(row.line) + 1 for row in rows]
    wrappers = {at: row.wrapper for at, row in enumerate(rows) if row.wrapper is not None}
    return Frame(
        lines=b"".join(row.line + b"\n" for row in rows),
        starts=[0, *accumulate(sizes[:-1])],
        seqs=range(100, 100 + len(rows)),
        arrivals_us=[5_000 * number for number in range(len(rows))],
        clusters=[CLUSTER] * len(rows),
        wrappers=wrappers,
        has_only_raw=not wrappers,
    )


def found_in(frame: Frame, lineup: Lineup, **bounds: Any) -> list[tuple[int, list[int]]]:
    return [(each.seq, each.numbers) for each in judge_frame(frame, lineup, **bounds)]


def odd_spellings(bodies: list[dict[str, Any]]) -> list[Event]:
    """Events as lines of many forms: escaped, spaced, in another order, as our own encoder has."""
    events = []
    for number, body in enumerate(bodies):
        raws = (
            json.dumps(body).encode(),
            json.dumps(body, ensure_ascii=False, separators=(" ,", " : ")).encode(),
            json.dumps(dict(reversed(body.items())), separators=(",", ":")).encode(),
            dumps(body),
            json.dumps(body).replace("eve", "\\u0065ve").replace("pods", "p\\u006Fds").encode(),
        )
        raw = raws[number % len(raws)]
        events.append(Event(loads(raw), raw=raw, cluster=CLUSTER))
    return events


# --- the sieve on stored lines -----------------------------------------------------------------


@pytest.mark.parametrize(
    "names", [*([name] for name in QUERIES), ["secrets", "eve", "wild", "umlaut"], [*QUERIES]]
)
def test_with_the_sieve_as_without(names: list[str]) -> None:
    lineup = Lineup([watcher(QUERIES[name]) for name in names])
    bodies = [
        *all_bodies(),
        plain_event(1, objectRef={"resource": "secrets"}),
        plain_event(2, user={"username": "ä"}),
        plain_event(3, objectRef={"name": "xxabxx"}),
        plain_event(4, sourceIPs=["10.0.0.1"]),
    ]
    events = odd_spellings(bodies)
    expected = [
        (100 + number, found)
        for number, event in enumerate(events)
        if (found := lineup.matches(Event(event.body, cluster=CLUSTER)))
    ]
    assert expected
    if names in (["secrets"], ["eve"]):
        assert lineup.sieve is not None
    assert found_in(frame_of(events), lineup) == expected


def test_a_frame_with_wrapped_events_is_read_whole() -> None:
    lineup = Lineup([watcher(QUERIES["secrets"])])
    document = {
        "@timestamp": "2026-11-23T12:00:00Z",
        "kubernetes": {"audit": {"objectRef": {"resource": "secrets"}}},
        "data_stream": {"type": "logs", "dataset": "kubernetes.audit_logs", "namespace": "x"},
    }
    events = [
        Event(plain_event(1), cluster=CLUSTER),
        Event(document, is_document=True, cluster=CLUSTER),
        Event(plain_event(2, objectRef={"resource": "secrets"}), cluster=CLUSTER),
    ]
    assert found_in(frame_of(events), lineup) == [(101, [0]), (102, [0])]


def test_only_from_a_number_on_and_within_arrivals() -> None:
    lineup = Lineup([watcher()])
    frame = frame_of([Event(plain_event(n), cluster=CLUSTER) for n in range(6)])
    assert [seq for seq, _ in found_in(frame, lineup)] == [*range(100, 106)]
    assert [seq for seq, _ in found_in(frame, lineup, first_seq=103)] == [103, 104, 105]
    bounds = (5_000, 15_000)
    assert [seq for seq, _ in found_in(frame, lineup, arrival_us=bounds)] == [101, 102, 103]
    assert found_in(frame, lineup, first_seq=103, arrival_us=bounds) == [(103, [0])]
    (judged, *_) = judge_frame(frame, lineup, first_seq=102)
    assert judged.event.ingested_us == judged.arrival_us == 10_000


# --- a lineup and its parts --------------------------------------------------------------------


def test_nobody_on_watch() -> None:
    lineup = Lineup([])
    assert lineup.matches(Event(plain_event(1))) == []
    assert found_in(frame_of([Event(plain_event(1))]), lineup) == []


def test_a_part_answers_as_the_whole_does() -> None:
    watchers = [watcher(query) for query in QUERIES.values()]
    lineup = Lineup(watchers)
    events = odd_spellings([*all_bodies()])[::7]
    for numbers in ({0}, {3, 1}, {7, 0, 4}, set(range(len(watchers)))):
        part, chosen = lineup.part(numbers)
        assert sorted(chosen) == sorted(numbers)
        assert [part.watchers[place] for place in range(len(chosen))] == [
            watchers[number] for number in chosen
        ]
        for event in events:
            whole = [number for number in lineup.matches(event) if number in numbers]
            assert [chosen[place] for place in part.matches(event)] == whole
        assert lineup.part(numbers)[0] is part, "made once"


def test_parts_are_not_kept_without_bound() -> None:
    lineup = Lineup([watcher(f"event.action:v{number}") for number in range(14)])
    for number in range(200):
        lineup.part({bit for bit in range(8) if number >> bit & 1} | {9})
    assert len(lineup._parts) <= 64


def test_rules_read_the_streams_of_their_patterns() -> None:
    lineup = Lineup(
        [
            watcher("event.action:create", index=["logs-kubernetes.*"]),
            watcher("event.action:*", index=["logs-other-*"]),
            watcher("event.action:c*", index=None, data_view_id="any"),
        ]
    )
    assert lineup.matches(Event(plain_event(1))) == [0, 2]
    document = {"event": {"action": "create", "dataset": "other"}, "@timestamp": "2026-01-01"}
    other = Event(document, is_document=True, index="logs-other-default")
    assert lineup.matches(other) == [1, 2]
    assert IndexPatterns(("logs-kubernetes.*",)).read(AUDIT_STREAM)


def test_a_rule_does_not_alert_on_its_own_alerts() -> None:
    one, other = watcher("event.kind:signal", index=["*"]), watcher("event.kind:*", index=["*"])
    lineup = Lineup([one, other])
    document = {
        "@timestamp": "2026-11-23T12:00:00Z",
        "event": {"kind": "signal"},
        "kibana.alert.uuid": "u",
        "kibana.alert.rule.uuid": one.uuid,
        "kibana.alert.ancestors": [{"id": "x", "rule": "another"}],
    }
    assert lineup.matches(Event(document, is_document=True)) == [1]
    document["kibana.alert.ancestors"] = [{"id": "x", "rule": other.uuid}]
    assert lineup.matches(Event(document, is_document=True)) == []


# --- one rule on watch -------------------------------------------------------------------------


def test_caps() -> None:
    assert watcher().cap == 100
    assert watcher(max_signals=7).cap == 7
    assert watcher(max_signals=5000).cap == 1000, "the limit of the field's standard engine"
    runnable = watcher(max_signals=70).runnable
    assert Watcher(runnable, most_signals=50).cap == 50
    assert Watcher(runnable, most_signals=100).cap == 70


def test_who_asks_the_time() -> None:
    assert watcher("@timestamp >= now-1h").uses_now
    assert not watcher("@timestamp >= 2026-01-01").uses_now
    assert not watcher("user.name:now").uses_now


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(
        [
            ("5m", "now-6m", "now"),
            ("5m", "now-5m", "now"),
            ("1m", "now-1h", "now-10m"),
            ("7m", "now-9m", "now+3m"),
            ("1h", "now-1d/d", "now"),
            ("1h", "now-2h/h", "now/h"),
            ("24h", "now-25h", "now"),
        ]
    ),
    st.integers(0, 10 * 86_400_000),
    st.sampled_from([0, 1, -1]),
)
def test_an_event_has_the_ticks_whose_windows_hold_it(
    window: tuple[str, str, str], offset_ms: int, edge: int
) -> None:
    interval, from_, to = window
    rule = watcher(interval=interval, **{"from": from_, "to": to})
    step = rule.schedule.interval_ms
    instant = 1_795_417_200_000 + offset_ms
    if edge:
        instant = instant // step * step + edge  # about a tick
    ticks = list(rule.ticks(instant))
    first = -(-instant // step) * step
    expected = []
    for tick in range(first, first + 50 * 3_600_000 + step, step):
        low, high = rule.window_ms(tick)
        if low <= instant <= min(high, tick):
            expected.append(tick)
    assert ticks == expected
