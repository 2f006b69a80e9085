"""Scheduled runs: which windows they read, what they raise, and what they say of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from service_graph import (
    CLUSTER,
    MINUTE_US,
    Graph,
    Wall,
    at,
    audit,
    audits,
    clock_of,
    rule_of,
    together,
    wait_until,
    windows,
)

from barrelman.errors import UsageError
from barrelman.service.service import Service
from barrelman.store import rules as rules_table

MS = 1000


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    """Open at 12:02, nothing judged live; what is due is run by `work`."""
    with Graph(tmp_path / "data") as made:
        yield made.open_up()


# --- when and what -----------------------------------------------------------------------------


def test_a_new_rule_runs_at_once_over_its_last_window(graph: Graph) -> None:
    graph.add_rule()
    graph.work()
    (run,) = graph.runs()
    assert windows([run]) == [("12:00", "11:54", "12:00")]
    assert (run.kind, run.status, run.message) == ("scheduled", "succeeded", "")
    assert (run.started_us, run.delay_ms) == (at("12:02"), 0)
    assert graph.work() == 0, "and then waits for its next tick"


def test_a_tick_is_due_when_no_event_can_arrive_in_it_any_more(graph: Graph) -> None:
    graph.add_rule()
    graph.work()
    graph.wall.go_to("12:04:59.999")
    assert graph.work() == 0
    graph.wall.go_to("12:05")
    assert graph.work() == 0, "the last millisecond of the window is not over"
    graph.take(audits([1]))
    graph.wall.go_to("12:05:00.001")
    assert graph.work() == 1
    assert windows(graph.runs())[1:] == [("12:05", "11:59", "12:05")]
    assert graph.numbers() == [1]


def test_windows_hold_both_their_ends_to_the_millisecond(graph: Graph) -> None:
    graph.add_rule()
    graph.work()
    arrivals = {
        1: "12:03:59.999",  # a millisecond before the window of 12:10
        2: "12:04",
        3: "12:04:00.001",
        4: "12:09:59.999",
        5: "12:10",
        6: "12:10:00.001",
    }
    for number, time in arrivals.items():
        graph.wall.go_to(time)
        graph.wall.pass_(seconds=0.0009 if number == 1 else 0)  # within the millisecond
        graph.take([audit(number, at_us=at("09:00"))])
    graph.work()
    read = {run.tick_ms: run.matches for run in graph.runs()}
    assert read[at("12:10") // MS] == 4
    ticks = {int(json.loads(each.document)["kubernetes"]["audit"]["auditID"][-1]): each.tick_ms
             for each in graph.alerts()}  # fmt: skip
    assert ticks.get(6) is None
    assert {number for number, tick in ticks.items() if tick == at("12:10") // MS} >= {4, 5}


def test_by_arrival_and_never_by_the_events_own_time(graph: Graph) -> None:
    graph.add_rule()
    graph.work()
    graph.wall.go_to("12:03")
    graph.take(
        [
            audit(1, at_us=at("01:00")),
            audit(2, at_us=at("23:00")),
            audit(3, requestReceivedTimestamp=None, stageTimestamp=None),
            audit(4, at_us=at("12:03")),
        ]
    )
    graph.wall.go_to("12:06")
    graph.take([audit(5, at_us=at("12:03"))])
    graph.work()
    assert graph.numbers() == [1, 2, 3, 4]


def test_rules_due_together_share_one_reading(graph: Graph) -> None:
    for number in range(4):
        graph.add_rule(rule_of(f"r{number}", query=f"kubernetes.audit.objectRef.name:s{number}"))
    graph.add_rule(rule_of("hourly", interval="1h", from_="now-61m"))
    graph.work()
    graph.wall.go_to("12:03")
    graph.take(audits(range(10)))
    graph.wall.go_to("12:06")
    assert graph.work() == 1
    runs = [run for run in graph.runs() if run.tick_ms == at("12:05") // MS]
    assert sorted(run.rule_id for run in runs) == [f"r{number}" for number in range(4)]
    assert {run.events for run in runs} == {10}
    assert [run.matches for run in runs] == [1] * 4
    assert {run.metrics["total_enrichment_duration_ms"] for run in runs} == {0}


def test_a_query_that_asks_the_time_is_asked_at_its_runs_time(graph: Graph) -> None:
    graph.add_rule(query="@timestamp >= now-30m and @timestamp < now")
    graph.work()
    graph.wall.go_to("12:03")
    graph.take(
        [
            audit(1, at_us=at("11:34:59")),
            audit(2, at_us=at("11:35:01")),
            audit(3, at_us=at("12:04:59")),
            audit(4, at_us=at("12:05:01")),
        ]
    )
    graph.wall.go_to("12:06")
    graph.work()
    assert graph.numbers() == [2, 3]


def test_a_run_never_reads_what_arrives_after_it(graph: Graph) -> None:
    graph.add_rule(to="now+10m")
    graph.work()
    graph.wall.go_to("12:05:00.001")
    graph.take(audits([1]))
    graph.work()
    assert windows(graph.runs())[-1] == ("12:05", "11:59", "12:05")
    assert graph.alerts() == []
    graph.wall.go_to("12:10:01")
    graph.work()
    assert graph.numbers() == [1]


def test_a_window_that_ends_before_now(graph: Graph) -> None:
    graph.add_rule(to="now-1m", from_="now-7m")
    graph.wall.go_to("12:03:30")
    graph.take(audits([1]))
    graph.wall.go_to("12:04:30")
    graph.take(audits([2]))
    graph.wall.go_to("12:06")
    graph.work()
    assert windows(graph.runs()) == [("12:05", "11:58", "12:04")]
    assert graph.numbers() == [1]
    graph.wall.go_to("12:11")
    graph.work()
    assert graph.numbers() == [1, 2]


# --- with live judging -------------------------------------------------------------------------


def test_after_live_alerts_a_run_raises_nothing_anew(tmp_path: Path) -> None:
    with Graph(tmp_path / "data") as graph:
        graph.open_up().service.detector.start()
        graph.add_rule()
        graph.work()
        graph.take(audits(range(5)))
        first = graph.judged().ids()
        graph.wall.go_to("12:06")
        graph.work()
        run = graph.runs()[-1]
        assert (run.matches, run.alerts, run.capped) == (5, 0, 0)
        assert run.metrics["known"] == 5
        assert graph.ids() == first


def test_a_rule_made_after_the_events_came_finds_them_in_its_window(tmp_path: Path) -> None:
    with Graph(tmp_path / "data") as graph:
        graph.open_up().service.detector.start()
        graph.wall.go_to("12:03")
        graph.take(audits([1]))
        graph.wall.go_to("12:08")
        graph.take(audits([2]))
        graph.judged()
        graph.add_rule()
        assert graph.numbers() == []
        graph.work()
        assert graph.numbers() == [1], "at 12:05, as a rule that was there all along"
        graph.wall.go_to("12:11")
        graph.work()
        assert graph.numbers() == [1, 2]


def test_the_cap_is_one_for_live_and_scheduled(tmp_path: Path) -> None:
    with Graph(tmp_path / "data") as graph:
        graph.open_up().service.detector.start()
        graph.add_rule(max_signals=4)
        graph.work()
        graph.take(audits(range(3)))
        graph.judged()
        graph.service.detector.stop()
        graph.take(audits(range(10, 15)))
        graph.wall.go_to("12:06")
        graph.work()
        run = graph.runs()[-1]
        assert graph.numbers() == [0, 1, 2, 10]
        assert (run.matches, run.alerts, run.capped) == (8, 1, 4)
        assert run.status == "partial failure"
        assert "cap of 4" in run.message
        assert "4 of 8" in run.message


# --- the cap -----------------------------------------------------------------------------------


def test_exactly_at_the_cap_nothing_is_said_and_one_above_it_is(graph: Graph) -> None:
    graph.add_rule(max_signals=5)
    graph.add_rule(rule_of("six", max_signals=6))
    graph.work()
    graph.take(audits(range(6)))
    graph.wall.go_to("12:06")
    graph.work()
    five, six = sorted(graph.runs()[-2:], key=lambda run: run.rule_id)
    assert (five.rule_id, five.alerts, five.capped, five.status) == (
        *("secrets", 5, 1, "partial failure"),
    )
    assert (six.rule_id, six.alerts, six.capped, six.status) == ("six", 6, 0, "succeeded")
    assert graph.service.scheduler.streaks[five.rule_uuid].capped == 1
    assert graph.service.scheduler.streaks[six.rule_uuid].capped == 0


def test_the_oldest_come_first_and_the_next_run_takes_what_both_read(graph: Graph) -> None:
    graph.add_rule(max_signals=3)
    graph.work()
    graph.wall.go_to("12:03")
    graph.take(audits(range(2)))
    graph.wall.go_to("12:04:30")
    graph.take(audits(range(2, 6)))
    graph.wall.go_to("12:06")
    graph.work()
    assert graph.numbers() == [0, 1, 2]
    graph.wall.go_to("12:11")
    graph.work()
    assert graph.numbers() == [0, 1, 2, 3, 4, 5]
    assert Counter(each.tick_ms for each in graph.alerts()) == {
        at("12:05") // MS: 3,
        at("12:10") // MS: 3,
    }


# --- overload, and clocks ----------------------------------------------------------------------


def test_no_tick_is_skipped_however_late(graph: Graph) -> None:
    graph.add_rule()
    graph.work()
    graph.take(audits(range(3)))
    graph.wall.go_to("12:09")
    graph.take(audits(range(10, 13)))
    graph.wall.go_to("16:01")
    assert graph.service.scheduler.behind_ms == (at("16:01") - at("12:05")) // MS
    graph.work()
    ticks = [run.tick_ms for run in graph.runs()]
    assert ticks == [*range(at("12:00") // MS, at("16:00") // MS + 1, 300_000)]
    assert {run.kind for run in graph.runs()} == {"scheduled"}
    assert graph.gaps() == []
    assert graph.numbers() == [0, 1, 2, 10, 11, 12]
    delays = {clock_of(run.tick_ms): run.delay_ms for run in graph.runs()}
    assert delays["12:05"] == (at("16:01") - at("12:05")) // MS
    assert delays["16:00"] == 60_000
    assert graph.service.scheduler.behind_ms == 0


def test_ticks_due_together_raise_what_they_would_one_by_one(tmp_path: Path) -> None:
    """With a cap, and events that two windows read: late or in time, the same alerts."""
    found = []
    for name, ends in (("late", ["12:21"]), ("in time", ["12:06", "12:11", "12:16", "12:21"])):
        with Graph(tmp_path / name, wall=Wall(at("12:02"))) as graph:
            graph.open_up()
            graph.add_rule(max_signals=4)
            graph.work()
            number = 0
            for minute in range(3, 20):
                graph.wall.go_to(f"12:{minute:02}:30")
                for end in ends:
                    if graph.wall.now_us > at(end) > graph.wall.now_us - MINUTE_US:
                        graph.work()
                graph.take(audits(range(number, number + minute % 4)))
                number += minute % 4
            graph.wall.go_to("12:21")
            graph.work()
            found.append(Counter((each.tick_ms, each.id) for each in graph.alerts()))
    assert found[0] == found[1]
    assert len(found[0]) > 10


def test_a_clock_set_back_makes_no_run_twice_and_leaves_none_out(graph: Graph) -> None:
    graph.add_rule()
    graph.work()
    graph.take(audits([1]))
    graph.wall.go_to("12:06")
    graph.work()
    graph.wall.go_to("11:00")
    graph.take(audits([2]))
    graph.work()
    graph.wall.go_to("12:16")
    graph.work()
    assert [clock_of(run.tick_ms) for run in graph.runs()] == [
        *("12:00", "12:05", "12:10", "12:15"),
    ]
    assert graph.numbers() == [1, 2]


def test_a_clock_that_jumps_ahead_leaves_no_tick_out(graph: Graph) -> None:
    graph.add_rule(interval="1m", from_="now-2m")
    graph.work()
    graph.take(audits([1]))
    graph.wall.go_to("23:59")
    graph.take(audits([2]))
    graph.wall.pass_(seconds=90)
    graph.work()
    ticks = [run.tick_ms for run in graph.runs()]
    assert ticks == [*range(ticks[0], ticks[-1] + 1, 60_000)]
    assert len(ticks) == 12 * 60
    assert graph.numbers() == [1, 2]


# --- rules that change -------------------------------------------------------------------------


def test_an_edit_loses_no_window_and_alerts_nothing_twice(graph: Graph) -> None:
    uuid = graph.add_rule()
    graph.work()
    graph.take(audits([1]))
    graph.wall.go_to("12:06")
    graph.work()
    graph.take(audits([2]))
    graph.service.rules.patch({"id": uuid, "interval": "2m", "from": "now-3m"}, by="test")
    graph.wall.go_to("12:09")
    graph.take(audits([3]))
    graph.wall.go_to("12:15")
    graph.service.rules.patch({"id": uuid, "interval": "7m", "from": "now-8m"}, by="test")
    graph.wall.go_to("12:31")
    graph.work()
    assert graph.numbers() == [1, 2, 3]
    spans = sorted((run.from_ms, run.to_ms) for run in graph.runs())
    for (_, end), (start, _) in pairwise(spans):
        assert start <= end, "windows touch or overlap"
    revisions = {json.loads(each.document)["kibana.alert.rule.revision"] for each in graph.alerts()}
    assert revisions == {0, 2}


def test_off_and_on_again_between_two_ticks_loses_and_repeats_nothing(graph: Graph) -> None:
    uuid = graph.add_rule()
    graph.work()
    graph.wall.go_to("12:03")
    graph.take(audits([1]))
    graph.wall.go_to("12:06")
    graph.work()
    before = graph.runs()
    graph.service.rules.patch({"id": uuid, "enabled": False}, by="test")
    graph.work()
    graph.wall.go_to("12:07")
    graph.take(audits([2]))
    graph.service.rules.patch({"id": uuid, "enabled": True}, by="test")
    graph.work()
    assert graph.runs() == before, "what a run did is not overwritten"
    graph.wall.go_to("12:11")
    graph.work()
    assert graph.numbers() == [1, 2]


def test_off_for_an_hour_is_no_gap_and_then_it_begins_anew(graph: Graph) -> None:
    uuid = graph.add_rule()
    graph.work()
    graph.service.rules.patch({"id": uuid, "enabled": False}, by="test")
    graph.work()
    graph.wall.go_to("12:30")
    graph.take(audits([1]))
    graph.wall.go_to("13:02")
    graph.work()
    graph.service.rules.patch({"id": uuid, "enabled": True}, by="test")
    graph.work()
    assert [clock_of(run.tick_ms) for run in graph.runs()] == ["12:00", "13:00"]
    assert graph.gaps() == []
    assert graph.numbers() == []


def test_a_broken_rule_fails_at_each_tick_and_is_caught_up_with_when_mended(graph: Graph) -> None:
    uuid = graph.add_rule()
    graph.work()
    graph.wall.go_to("12:03")
    graph.service.rules.patch({"id": uuid, "query": "user.name:("}, by="test")
    graph.take(audits([1]))
    for minute in ("12:06", "12:07", "12:11", "12:16"):
        graph.wall.go_to(minute)
        graph.work()
    failed = [run for run in graph.runs() if run.status == "failed"]
    assert [clock_of(run.tick_ms) for run in failed] == ["12:05", "12:10", "12:15"]
    assert all("invalid" in run.message for run in failed)
    assert graph.service.scheduler.streaks[uuid].failed == 3
    query = "kubernetes.audit.objectRef.resource:secrets"
    graph.service.rules.patch({"id": uuid, "query": query}, by="test")
    graph.work()
    assert graph.numbers() == [1], "what came while it was broken is searched after all"
    assert graph.service.scheduler.streaks[uuid].failed == 0
    state = graph.service.database.read(lambda c: rules_table.get_state(c, uuid))
    assert state is not None
    assert state.last_status == "succeeded"


def test_a_broken_rule_stops_no_other(graph: Graph) -> None:
    graph.add_rule(rule_of("broken", query="user.name:("))
    graph.add_rule(rule_of("esql", type="esql", language="esql", query="FROM logs-*"))
    graph.add_rule()
    graph.take(audits([1]))
    graph.wall.go_to("12:06")
    graph.work()
    assert graph.numbers() == [1]
    statuses = {run.rule_id: run.status for run in graph.runs()}
    assert statuses == {"broken": "failed", "esql": "failed", "secrets": "succeeded"}


def test_a_rule_deleted_with_its_runs_under_way(graph: Graph) -> None:
    uuid = graph.add_rule()
    graph.add_rule(rule_of("other"))
    graph.work()
    graph.take(audits([1]))
    graph.wall.go_to("12:06")
    graph.service.rules.delete(id=uuid, by="test")
    graph.work()
    assert {run.rule_id for run in graph.runs() if run.tick_ms == at("12:05") // MS} == {"other"}
    assert graph.service.database.read(lambda c: rules_table.get_state(c, uuid)) is None
    assert uuid not in graph.service.scheduler.streaks


def test_rules_that_come_and_go_while_it_runs(tmp_path: Path) -> None:
    """Many edits beside a scheduler that always has something due: no pass fails."""
    with Graph(tmp_path / "data") as graph:
        graph.start()
        uuids = [graph.add_rule(rule_of(f"r{n}", interval="1s", from_="now-3s"))
                 for n in range(3)]  # fmt: skip

        def edit() -> None:
            for number in range(30):
                uuid = uuids[number % 3]
                enabled = number % 2 == 0
                graph.service.rules.patch({"id": uuid, "enabled": not enabled}, by="test")
                graph.service.rules.patch({"id": uuid, "enabled": True}, by="test")

        def go_on() -> None:
            for number in range(60):
                graph.wall.pass_(seconds=1)
                graph.service.scheduler.wake()
                graph.take(audits([number]))
                assert graph.service.scheduler.fault is None

        together(edit, go_on)
        graph.judged()
        assert graph.service.scheduler.fault is None
        assert set(graph.numbers()) == set(range(60))


# --- trouble -----------------------------------------------------------------------------------


def test_a_pass_that_fails_is_done_again_whole(graph: Graph) -> None:
    graph.add_rule(max_signals=5)
    graph.work()
    graph.take(audits(range(4)))
    graph.wall.go_to("12:06")
    rename(graph.service, "runs", "hidden")
    with pytest.raises(Exception, match="runs"):
        graph.service.scheduler.work()
    assert graph.numbers() == [0, 1, 2, 3], "alerts are kept as soon as they are found"
    rename(graph.service, "hidden", "runs")
    graph.work()
    assert graph.numbers() == [0, 1, 2, 3]
    (run,) = [run for run in graph.runs() if run.tick_ms == at("12:05") // MS]
    assert (run.matches, run.capped) == (4, 0)


def test_the_thread_says_what_is_wrong_and_goes_on(tmp_path: Path) -> None:
    with Graph(tmp_path / "data") as graph:
        graph.start()
        graph.add_rule()
        wait_until(lambda: graph.runs())
        rename(graph.service, "runs", "hidden")
        graph.wall.go_to("12:06")
        graph.service.scheduler.wake()
        wait_until(lambda: graph.service.scheduler.fault is not None)
        rename(graph.service, "hidden", "runs")
        wait_until(lambda: graph.service.scheduler.fault is None)
        wait_until(lambda: len(graph.runs()) == 2)


def rename(service: Service, old: str, new: str) -> None:
    def run(connection: Any) -> None:
        connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")

    service.database.write(run)


# --- by hand -----------------------------------------------------------------------------------


def test_a_run_by_hand_goes_over_its_range_in_pieces(graph: Graph) -> None:
    uuid = graph.add_rule(max_signals=2)
    graph.take(audits(range(3)))
    graph.wall.go_to("12:12")
    graph.take(audits(range(10, 13)))
    graph.wall.go_to("14:01")
    scheduler = graph.service.scheduler
    graph.work()
    before = graph.numbers()
    found = scheduler.run_range(
        uuid, start_ms=at("12:00") // MS, end_ms=at("13:58") // MS, by="eve"
    )
    (pending,) = scheduler.manual_runs()
    assert (pending.id, pending.by) == (found, "eve")
    graph.work()
    assert scheduler.manual_runs() == []
    runs = [run for run in graph.runs() if run.kind == "manual"]
    assert [clock_of(run.tick_ms) for run in runs] == [
        f"{minute // 60:02}:{minute % 60:02}" for minute in range(12 * 60 + 5, 14 * 60 + 1, 5)
    ]
    assert windows(runs)[0] == ("12:05", "11:59", "12:05")
    first = runs[0]
    assert (first.matches, first.alerts, first.capped) == (3, 2, 1)
    assert first.status == "partial failure"
    assert graph.numbers() == [0, 1, 10, 11]
    assert before == []
    types = {json.loads(a.document)["kibana.alert.rule.execution.type"] for a in graph.alerts()}
    assert types == {"manual"}


def test_by_hand_again_raises_the_rest_and_nothing_twice(graph: Graph) -> None:
    uuid = graph.add_rule(max_signals=2)
    graph.work()
    graph.take(audits(range(5)))
    graph.wall.go_to("12:06")
    graph.work()
    assert graph.numbers() == [0, 1]
    span = {"start_ms": at("12:00") // MS, "end_ms": at("12:05") // MS}
    for expected in ([0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]):
        graph.service.scheduler.run_range(uuid, by="eve", **span)
        graph.work()
        assert graph.numbers() == expected


def test_ranges_that_are_none_are_refused(graph: Graph) -> None:
    uuid = graph.add_rule()
    off = graph.add_rule(rule_of("off", enabled=False))
    noon, later = at("12:00") // MS, at("12:01") // MS
    scheduler = graph.service.scheduler
    for rule, start, end in (
        (uuid, later, noon),
        (uuid, noon, noon),
        (uuid, noon, at("12:03") // MS),
        (off, noon, later),
        ("no-such-rule", noon, later),
        (uuid, noon - 10**12, noon),
    ):
        with pytest.raises(UsageError):
            scheduler.run_range(rule, start_ms=start, end_ms=end, by="eve")
    assert scheduler.manual_runs() == []


def test_a_run_by_hand_goes_on_after_a_restart(graph: Graph) -> None:
    uuid = graph.add_rule()
    graph.take(audits([1]))
    graph.wall.go_to("16:01")
    graph.take(audits([2]))
    graph.wall.go_to("16:06")
    graph.work()
    graph.service.scheduler.run_range(
        uuid, start_ms=at("12:00") // MS, end_ms=at("16:00") // MS, by="eve"
    )
    graph.service.scheduler.work()
    done = [run for run in graph.runs() if run.kind == "manual"]
    assert 0 < len(done) < 48
    after = graph.killed().open_up()
    after.work()
    ticks = [run.tick_ms for run in after.runs() if run.kind == "manual"]
    assert ticks == [*range(at("12:05") // MS, at("16:00") // MS + 1, 300_000)]
    assert after.numbers() == [1, 2]


def test_scheduled_runs_go_before_those_by_hand(graph: Graph) -> None:
    uuid = graph.add_rule()
    graph.work()
    graph.wall.go_to("12:06")
    graph.service.scheduler.run_range(
        uuid, start_ms=at("10:00") // MS, end_ms=at("12:00") // MS, by="eve"
    )
    graph.service.scheduler.work()
    assert [run.kind for run in graph.runs()] == ["scheduled", "scheduled"]


def test_clusters_are_read_alike(graph: Graph) -> None:
    graph.add_rule()
    graph.work()
    graph.take(audits([1]), cluster=CLUSTER)
    graph.take(audits([1]), cluster="other")
    graph.wall.go_to("12:06")
    graph.work()
    assert {each.cluster for each in graph.alerts()} == {CLUSTER, "other"}
    assert len(graph.ids()) == 2
