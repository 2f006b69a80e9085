"""The one place where alerts are made: caps are counted and ids known, whoever asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_graph import CLUSTER, Graph, at, audit, rule_of, together, wait_until

from barrelman.detection.lineup import Watcher
from barrelman.errors import StoreError
from barrelman.records.event import Event
from barrelman.service.alerting import Alerting, Allowance, Candidate
from barrelman.store import alerts as alerts_table
from barrelman.store import meta

FIVE = at("12:05") // 1000
TEN = at("12:10") // 1000


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    with Graph(tmp_path / "data") as made:
        made.open_up()
        made.add_rule(max_signals=3)
        yield made


def watcher_of(graph: Graph, rule_id: str = "secrets") -> Watcher:
    watchers = graph.service.rulebook.lineup.watchers
    return next(each for each in watchers if each.rule.rule_id == rule_id)


def candidates(graph: Graph, *numbers: int, ticks: tuple[int, ...] = (FIVE,)) -> list[Candidate]:
    watcher = watcher_of(graph)
    return [Candidate(watcher, Event(audit(n), cluster=CLUSTER), ticks) for n in numbers]


def anew(graph: Graph) -> Alerting:
    """As after a restart: nothing is remembered but what the database holds."""
    courier = graph.service.courier
    return Alerting(
        graph.service.database, enqueue=courier.enqueue, clock=graph.service.clock.now_us
    )


def test_what_becomes_of_each_is_told_in_order(graph: Graph) -> None:
    alerting = graph.service.alerting
    assert alerting.raise_alerts([], kind="live") == []
    assert alerting.raise_alerts(candidates(graph, 1, 1, 2), kind="live") == [
        *("raised", "known", "raised")
    ]
    assert alerting.raise_alerts(candidates(graph, 2, 3, 4, 1), kind="scheduled") == [
        *("known", "raised", "capped", "known")
    ]
    assert graph.numbers() == [1, 2, 3]
    assert alerting.raised == {"medium": 3}


def test_known_ones_take_no_place(graph: Graph) -> None:
    alerting = graph.service.alerting
    alerting.raise_alerts(candidates(graph, 1, 2), kind="live")
    assert alerting.raise_alerts(candidates(graph, 1, 2, 3), kind="scheduled")[2] == "raised"
    assert alerting.raise_alerts(candidates(graph, 4, 1), kind="live") == ["capped", "known"]


def test_the_first_run_with_room_takes_it(graph: Graph) -> None:
    alerting = graph.service.alerting
    both = (FIVE, TEN)
    alerting.raise_alerts(candidates(graph, 1, 2), kind="live")
    alerting.raise_alerts(candidates(graph, 3, 4, 5, ticks=both), kind="live")
    ticks = {int(json.loads(a.document)["kubernetes"]["audit"]["auditID"][-3:]): a.tick_ms
             for a in graph.alerts()}  # fmt: skip
    assert ticks == {1: FIVE, 2: FIVE, 3: FIVE, 4: TEN, 5: TEN}
    watcher = watcher_of(graph)
    assert not alerting.has_room(watcher, [FIVE])
    assert alerting.has_room(watcher, both)
    assert not alerting.has_room(watcher, [])


@pytest.mark.parametrize("kind", ["live", "scheduled", "catch-up", "gap"])
def test_a_run_that_goes_on_after_a_restart_knows_what_it_raised(graph: Graph, kind: Any) -> None:
    graph.service.alerting.raise_alerts(candidates(graph, 1, 2), kind=kind)
    outcomes = anew(graph).raise_alerts(candidates(graph, 1, 3, 4, 5), kind="scheduled")
    assert outcomes == ["known", "raised", "capped", "capped"]


def test_a_run_by_hand_has_a_cap_of_its_own(graph: Graph) -> None:
    alerting = graph.service.alerting
    alerting.raise_alerts(candidates(graph, 1, 2, 3), kind="live")
    allowance = Allowance(2)
    by_hand = [
        Candidate(each.watcher, each.event, each.ticks_ms, allowance)
        for each in candidates(graph, 1, 4, 5, 6)
    ]
    assert alerting.raise_alerts(by_hand, kind="manual") == ["known", "raised", "raised", "capped"]
    assert anew(graph).raise_alerts(candidates(graph, 7), kind="live") == ["capped"]
    # ... and takes nothing of the others': the live cap is three, of which three are used.
    kinds = [json.loads(a.document)["kibana.alert.rule.execution.type"] for a in graph.alerts()]
    assert sorted(kinds) == ["manual"] * 2 + ["scheduled"] * 3


def test_alerts_of_hand_made_runs_do_not_fill_scheduled_ones(graph: Graph) -> None:
    allowance = Allowance(100)
    by_hand = [
        Candidate(each.watcher, each.event, each.ticks_ms, allowance)
        for each in candidates(graph, *range(10))
    ]
    graph.service.alerting.raise_alerts(by_hand, kind="manual")
    outcomes = anew(graph).raise_alerts(candidates(graph, 20, 21, 22, 23), kind="live")
    assert outcomes == ["raised", "raised", "raised", "capped"]


def test_what_is_written_beside_is_there_with_the_alerts_or_not_at_all(graph: Graph) -> None:
    alerting = graph.service.alerting
    alerting.raise_alerts([], kind="live", within=lambda c: meta.put(c, "place", "1"))
    assert graph.service.database.read(lambda c: meta.get(c, "place")) == "1"

    def fail(connection: Any) -> None:
        meta.put(connection, "place", "2")
        raise StoreError("no space left on device")

    with pytest.raises(StoreError):
        alerting.raise_alerts(candidates(graph, 1, 2), kind="live", within=fail)
    assert graph.alerts() == []
    assert graph.service.database.read(lambda c: meta.get(c, "place")) == "1"
    assert all(each.pending == 0 for each in graph.service.courier.state().values())
    assert alerting.raised == {}
    outcomes = alerting.raise_alerts(candidates(graph, 1, 2, 3, 4), kind="live")
    assert outcomes == ["raised"] * 3 + ["capped"], "no place was used up by what failed"


def test_alerts_are_in_the_outbox_with_their_rows(graph: Graph) -> None:
    graph.service.alerting.raise_alerts(candidates(graph, 1, 2), kind="live")
    wait_until(lambda: len(graph.delivered()) == 2)
    assert {each["kibana.alert.uuid"] for each in graph.delivered()} == graph.ids()


def test_at_once_from_many_threads_the_cap_holds_and_ids_are_one(graph: Graph) -> None:
    alerting = graph.service.alerting
    graph.add_rule(rule_of("many", max_signals=60))
    watcher = watcher_of(graph, "many")

    def raise_some(low: int) -> None:
        for number in range(low, low + 30):
            event = Event(audit(number), cluster=CLUSTER)
            alerting.raise_alerts([Candidate(watcher, event, (FIVE,))], kind="live")

    together(*(lambda low=low: raise_some(low) for low in (0, 0, 15, 40, 55)))
    alerts = graph.alerts(rule_ids=["many"])
    assert len(alerts) == len({each.id for each in alerts}) == 60


def test_secrets_are_masked_unless_told_otherwise(graph: Graph) -> None:
    event = audit(1, requestObject={"kind": "Secret", "data": {"password": "aHVudGVyMg=="}})
    watcher = watcher_of(graph)
    graph.service.alerting.raise_alerts(
        [Candidate(watcher, Event(event, cluster=CLUSTER), (FIVE,))], kind="live"
    )
    (alert,) = graph.alerts()
    assert "aHVudGVyMg" not in alert.document
    plain = Alerting(
        graph.service.database,
        enqueue=graph.service.courier.enqueue,
        clock=graph.service.clock.now_us,
        redacts=False,
    )
    event["auditID"] = "another"
    plain.raise_alerts([Candidate(watcher, Event(event, cluster=CLUSTER), (FIVE,))], kind="live")
    assert any("aHVudGVyMg" in each.document for each in graph.alerts())


def test_closed_alerts_are_known_too(graph: Graph) -> None:
    alerting = graph.service.alerting
    alerting.raise_alerts(candidates(graph, 1), kind="live")
    (alert,) = graph.alerts()
    graph.service.database.write(
        lambda c: alerts_table.change(c, [alert.id], by="me", at_us=1, status="closed")
    )
    assert anew(graph).raise_alerts(candidates(graph, 1), kind="scheduled") == ["known"]


def test_a_rule_that_looks_back_for_long_has_room_somewhere(graph: Graph) -> None:
    """Of ten thousand runs that read an event, the first with room takes it."""
    alerting = graph.service.alerting
    ticks = range(FIVE, FIVE + 10_000 * 300_000, 300_000)
    watcher = watcher_of(graph)
    some = [Candidate(watcher, Event(audit(n), cluster=CLUSTER), ticks) for n in range(200)]
    assert alerting.raise_alerts(some, kind="live") == ["raised"] * 200
    found = sorted(each.tick_ms for each in graph.alerts())
    assert found == sorted([*(list(ticks[:66]) * 3), *([ticks[66]] * 2)])
    assert anew(graph).has_room(watcher, ticks)
    assert not anew(graph).has_room(watcher, ticks[:66])
