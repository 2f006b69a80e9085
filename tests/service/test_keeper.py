"""Housekeeping: what is old goes, a piece at a time; a chore that fails stops no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from service_graph import (
    Graph,
    Wall,
    audit,
    audits,
    wait_until,
)

from barrelman.errors import StoreError
from barrelman.service.keeper import Keeper, KeeperOptions
from barrelman.store import alerts as alerts_table
from barrelman.store import audit as audit_table
from barrelman.store import runs as runs_table
from barrelman.store.events import StoreOptions

DAY = 86_400


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    options = StoreOptions(seal_seconds=1, keep_seconds=3 * DAY)
    with Graph(tmp_path / "data", store_options=options) as made:
        yield made


def keeper(
    graph: Graph,
    *,
    watch: Callable[[], None] = lambda: None,
    on_rules: Callable[[], None] = lambda: None,
    **options: Any,
) -> Keeper:
    service = graph.service
    return Keeper(
        service.database,
        service.events,
        service.rulebook,
        service.courier,
        clock=service.clock.now_us,
        options=KeeperOptions(**options),
        watch=watch,
        on_rules=on_rules,
    )


def test_events_runs_alerts_and_trails_go_when_they_are_old(graph: Graph) -> None:
    graph.open_up().service.detector.start()
    uuid = graph.add_rule()
    graph.take(audits(range(3)))
    graph.judged()
    graph.work()
    ids = [each.id for each in graph.alerts()]
    change = alerts_table.change
    graph.service.database.write(
        lambda c: change(c, ids[:2], by="eve", at_us=graph.wall(), status="closed")
    )
    wait_until(lambda: len(graph.delivered()) == 3)
    chores = keeper(graph, run_days=2, alert_days=4)
    graph.wall.pass_(seconds=DAY)
    wait_until(lambda: graph.service.events.stats().segments == 1)  # sealed by the writer
    chores.tidy()
    assert (len(graph.runs()), len(graph.alerts())) == (1, 3)
    assert graph.service.events.stats().events == 3
    graph.wall.pass_(seconds=2 * DAY)
    chores.tidy()
    assert (len(graph.runs()), len(graph.alerts())) == (0, 3)
    graph.wall.pass_(seconds=2 * DAY)
    chores.tidy()
    assert {each.id for each in graph.alerts()} == {ids[2]}, "one that is open is kept"
    assert graph.service.events.stats().events == 0
    assert graph.service.database.read(lambda c: audit_table.count(c)) > 0
    graph.wall.pass_(seconds=400 * DAY)
    chores.tidy()
    assert graph.service.database.read(lambda c: audit_table.count(c)) == 0
    assert graph.service.rulebook.status_of(uuid).status == "ready"


def test_0_keeps_for_ever(graph: Graph) -> None:
    graph.open_up().service.detector.start()
    graph.add_rule()
    graph.take(audits([1]))
    graph.judged()
    graph.work()
    (alert,) = graph.alerts()
    graph.service.database.write(
        lambda c: alerts_table.change(c, [alert.id], by="eve", at_us=1, status="closed")
    )
    graph.wall.pass_(seconds=10_000 * DAY)
    keeper(graph, run_days=0, alert_days=0).tidy()
    assert (len(graph.runs()), len(graph.alerts())) == (1, 1)


def test_alerts_that_a_sink_waits_for_stay(tmp_path: Path) -> None:
    """The courier has not started, so nothing was delivered."""
    with Graph(tmp_path / "data") as graph:
        graph.service.rulebook.sync()
        graph.service.intake.start()
        graph.service.detector.start()
        graph.add_rule()
        graph.take([audit(1)])
        (alert,) = graph.judged().alerts()
        graph.service.database.write(
            lambda c: alerts_table.change(c, [alert.id], by="eve", at_us=1, status="closed")
        )
        graph.wall.pass_(seconds=1000 * DAY)
        keeper(graph, alert_days=1).tidy()
        assert len(graph.alerts()) == 1


def test_gaps_that_are_settled_go_and_open_ones_stay(graph: Graph) -> None:
    graph.open_up()

    def add(connection: Any) -> None:
        for status in ("filled", "impossible", "unfilled", "in progress"):
            gap = runs_table.add_gap(
                connection, rule_uuid="u", rule_id="r", from_ms=0, to_ms=1, at_us=graph.wall()
            )
            runs_table.set_status(connection, gap, status, at_us=graph.wall())

    graph.service.database.write(add)
    graph.wall.pass_(seconds=31 * DAY)
    keeper(graph).tidy()
    assert {each.status for each in graph.gaps()} == {"unfilled", "in progress"}


def test_rules_are_read_again_when_files_changed_and_only_then(graph: Graph) -> None:
    graph.open_up()
    told: list[str] = []
    changed = [False]
    chores = keeper(
        graph,
        reload_seconds=0.01,
        watch_seconds=0,
        files_changed=lambda: changed[0],
        on_rules=lambda: told.append("rules"),
    )
    before = graph.service.rulebook.generation
    chores.start()
    wait_until(lambda: chores.is_alive)
    assert graph.service.rulebook.generation == before
    changed[0] = True
    wait_until(lambda: graph.service.rulebook.generation > before)
    wait_until(lambda: told)
    chores.stop()
    assert not chores.is_alive


def test_a_chore_that_fails_stops_no_other(graph: Graph) -> None:
    graph.open_up()
    looks: list[int] = []

    def watch() -> None:
        looks.append(1)
        raise ZeroDivisionError if len(looks) % 2 else StoreError("no space left on device")

    def changed() -> bool:
        looks.append(0)
        raise OSError("gone")

    chores = keeper(graph, watch=watch, watch_seconds=0.01, reload_seconds=0.01,
                    files_changed=changed)  # fmt: skip
    chores.start()
    wait_until(lambda: looks.count(1) >= 2 and looks.count(0) >= 2)
    chores.stop()


def test_one_chore_of_a_tidy_that_fails_stops_no_other(tmp_path: Path) -> None:
    """Segments that cannot be removed are no reason to keep runs for ever."""
    with Graph(tmp_path / "data") as graph:
        graph.open_up()
        graph.add_rule()
        graph.work()
        chores = keeper(graph, run_days=1)
        graph.wall.pass_(seconds=2 * DAY)
        graph.service.events.close()  # so that retiring raises StoreError
        chores.tidy()
        assert graph.runs() == []


def test_it_stops_before_it_began(graph: Graph) -> None:
    chores = keeper(graph)
    chores.stop()
    assert not chores.is_alive


def test_retention_beside_intake_loses_no_event_that_is_to_be_kept(tmp_path: Path) -> None:
    """Segments go while commits come and others are sealed."""
    options = StoreOptions(seal_rows=50, keep_bytes=60_000)
    with Graph(tmp_path / "data", wall=Wall(), store_options=options) as graph:
        graph.open_up()
        chores = keeper(graph)

        def take(numbers: range) -> bool:
            try:
                return graph.take(audits(numbers)).events == len(numbers)
            except StoreError:  # faster than it can seal; nothing was taken
                return False

        for number in range(40):
            wait_until(partial(take, range(number * 25, number * 25 + 25)))
            graph.wall.pass_(seconds=1)
            chores.tidy()
        events = graph.service.events
        assert events.next_seq == 1000
        seqs = [seq for frame in events.frames() for seq in frame.seqs]
        assert seqs == [*range(seqs[0], 1000)]
        assert 0 < len(seqs) < 1000
        assert events.faults == []
        wait_until(partial(take, range(10**6, 10**6 + 1)))
        assert graph.service.intake.fault is None
