"""The service as a whole: it begins, tells how it is, ends, and begins again where it was."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_graph import (
    CLUSTER,
    Graph,
    Wall,
    at,
    audit,
    audits,
    in_pieces,
    list_of,
    rule_of,
    together,
    wait_until,
)

from barrelman.errors import StoreError
from barrelman.service.intake import Overloaded
from barrelman.store.folder import DataFolder

NAMES = {"writer", "detector", "scheduler", "keeper", "database writer"}


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    with Graph(tmp_path / "data") as made:
        yield made


def threads() -> set[str]:
    return {each.name for each in threading.enumerate()}


def test_from_an_event_to_an_alert_in_the_sink(graph: Graph) -> None:
    graph.start()
    graph.add_rule()
    receipt = graph.take(audits(range(3)))
    assert receipt.stored == 3
    wait_until(lambda: len(graph.delivered()) == 3)
    assert {each["kibana.alert.uuid"] for each in graph.delivered()} == graph.ids()


def test_it_is_healthy_once_it_has_started_and_not_before_or_after(graph: Graph) -> None:
    before = graph.service.health()
    assert before.reasons
    graph.start()
    health = graph.service.health()
    assert health.reasons == []
    assert graph.service.is_running
    graph.stop()
    assert not graph.service.is_running


def test_a_stop_ends_every_thread_and_lets_go_of_the_folder(tmp_path: Path) -> None:
    graph = Graph(tmp_path / "data").start()
    graph.take(audits(range(3)))
    assert threads() >= NAMES
    with pytest.raises(StoreError):
        DataFolder.open(graph.path)
    graph.stop()
    wait_until(lambda: not threads() & NAMES)
    DataFolder.open(graph.path).close()


def test_a_stop_without_a_start(tmp_path: Path) -> None:
    Graph(tmp_path / "data").stop()
    DataFolder.open(tmp_path / "data").close()


def test_what_was_taken_in_before_the_stop_is_judged_and_delivered(graph: Graph) -> None:
    graph.start()
    graph.add_rule(max_signals=1000)
    futures = [
        graph.service.intake.offer(list_of(some), cluster=CLUSTER, is_list=True)
        for some in in_pieces(audits(range(600)), 30)
    ]
    graph.stop()
    assert sum(each.result(timeout=0).stored for each in futures) == 600
    assert len(graph.delivered()) == 600
    with pytest.raises(Overloaded):
        graph.service.intake.offer(b"", cluster=CLUSTER, is_list=True)


def test_stops_while_everything_is_busy(tmp_path: Path) -> None:
    """Intake, live judging, runs and edits; and again from there."""
    graph = Graph(tmp_path / "data").start()
    uuid = graph.add_rule(rule_of(interval="1s", from_="now-5s", max_signals=1000))
    stored: list[int] = []
    over = threading.Event()

    def send(first: int) -> None:
        for number in range(first, first + 5000, 5):
            try:
                stored.append(graph.take(audits(range(number, number + 5))).stored)
            except Overloaded:
                return

    def pester() -> None:
        while not over.is_set():
            graph.wall.pass_(seconds=1)
            try:
                graph.service.rules.patch({"id": uuid, "tags": [str(graph.wall())]}, by="eve")
                graph.service.numbers()
            except StoreError:
                return

    def stop() -> None:
        wait_until(lambda: sum(stored) > 200)
        graph.stop()
        over.set()

    together(lambda: send(0), lambda: send(100_000), pester, stop)
    with Graph(tmp_path / "data", wall=graph.wall) as after:
        after.start().judged()
        assert after.service.events.next_seq == sum(stored)
        after.stop()
        delivered = Counter(each["kibana.alert.uuid"] for each in after.delivered())
        assert set(delivered.values()) == {1}
        assert len(delivered) == sum(stored)


def test_the_time_never_goes_back_over_a_restart(tmp_path: Path) -> None:
    wall = Wall(at("12:02"))
    with Graph(tmp_path / "data", wall=wall) as graph:
        graph.start()
        graph.take([audit(1)])
        wall.go_to("09:00")
        after = graph.stopped().start()
        assert after.service.clock.now_us() >= at("12:02")
        assert after.service.clock.ahead_us > 0
        after.take([audit(2)])
        arrivals = [us for frame in after.service.events.frames() for us in frame.arrivals_us]
        assert arrivals == sorted(arrivals)
        assert arrivals[0] == at("12:02")


def test_numbers_tell_what_went_on(tmp_path: Path) -> None:
    with Graph(tmp_path / "data", max_bytes_in_flight=10_000_000) as graph:
        graph.start()
        graph.add_rule()
        graph.add_rule(rule_of("off", enabled=False))
        graph.add_rule(rule_of("broken", query="user.name:("))
        graph.take([*audits(range(3)), 7, audit(1)])
        graph.judged()
        wait_until(lambda: len(graph.runs()) >= 2)
        numbers = graph.service.numbers()
        counts = numbers.clusters[CLUSTER]
        assert (counts.events, counts.stored, counts.duplicates) == (4, 3, 1)
        assert counts.malformed + counts.foreign == 1
        assert counts.last_arrival_us == graph.wall()
        assert (numbers.stored_events, numbers.open_rows, numbers.segments) == (3, 3, 0)
        assert (numbers.live_matches, numbers.live_capped, numbers.judge_behind) == (3, 0, 0)
        assert dict(numbers.rules) == {"ready": 1, "disabled": 1, "invalid": 1}
        assert dict(numbers.alerts) == {"medium": 3}
        assert (numbers.held_bytes, numbers.max_bytes) == (0, 10_000_000)
        assert numbers.disk_total_bytes >= numbers.disk_free_bytes > 0
        assert (numbers.gaps, numbers.manual_runs, numbers.clock_ahead_us) == (0, 0, 0)


def test_health_names_what_is_wrong(graph: Graph) -> None:
    graph.start()
    graph.service.intake.fault = "no space left on device"
    assert any("no space" in reason for reason in graph.service.health().reasons)
    graph.service.intake.fault = None
    graph.service.scheduler.stop()
    assert any("scheduler" in reason for reason in graph.service.health().reasons)


def test_without_live_judging_runs_find_it(tmp_path: Path) -> None:
    with Graph(tmp_path / "data", is_live=False) as graph:
        graph.start()
        graph.add_rule()
        graph.take(audits(range(3)))
        assert graph.service.health().reasons == []
        assert "detector" not in threads()
        assert graph.service.numbers().judge_behind == 0
        graph.wall.go_to("12:05:01")
        graph.service.scheduler.wake()
        wait_until(lambda: graph.numbers() == [0, 1, 2])
        assert {each.kind for each in graph.alerts()} == {"scheduled"}


def test_what_follows_files_is_started_and_stopped_with_it(graph: Graph) -> None:
    class Follower:
        def __init__(self) -> None:
            self.told: list[str] = []

        def start(self) -> None:
            self.told.append("start")

        def stop(self) -> None:
            self.told.append("stop")
            # What was read last is still taken in.
            graph.take([audit(99)])

        def state(self) -> Any:
            return None

    follower = Follower()
    graph.service.followers.append(follower)
    graph.start()
    graph.add_rule()
    graph.stop()
    assert follower.told == ["start", "stop"]
    assert len(graph.delivered()) == 1


def test_a_thread_for_each_start_and_a_folder_for_one_process(tmp_path: Path) -> None:
    with Graph(tmp_path / "data") as graph:
        graph.start()
        with pytest.raises(StoreError) as refused:
            Graph(tmp_path / "data")
        assert "process" in str(refused.value)
        assert graph.service.health().reasons == []


def test_a_log_that_is_cut_after_a_stop_is_missed(graph: Graph) -> None:
    """How far it was judged is written down at the end: so what is gone by then is known to be."""
    graph.start()
    for number in range(3):
        assert graph.take([audit(number)]).stored == 1
    graph.judged().stop()
    (log,) = (graph.path / "log").iterdir()
    log.write_bytes(log.read_bytes()[:-1])
    after = Graph(graph.path, wall=graph.wall)
    try:
        assert any("1 acknowledged event" in each for each in after.service.events.faults)
        assert after.open_up().take([audit(2)]).stored == 1
    finally:
        after.stop()
