"""After a time in which the service was down: windows caught up with, gaps shown and filled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_graph import Graph, Wall, at, audits, clock_of, rule_of, windows

from barrelman.records.times import format_instant
from barrelman.store import runs as runs_table

MS = 1000


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    with Graph(tmp_path / "data", wall=Wall(at("10:01"))) as made:
        yield made.open_up()


def down_until(graph: Graph, time: str, *, during: dict[str, list[int]] | None = None) -> Graph:
    """Opened anew at that time. `during`: events that came, and were stored, and not judged."""
    for moment, numbers in (during or {}).items():
        graph.wall.go_to(moment)
        graph.take(audits(numbers))
    graph.wall.go_to(time)
    return graph.killed().open_up()


def gap_spans(graph: Graph) -> list[tuple[str, str, str]]:
    return [(clock_of(gap.from_ms), clock_of(gap.to_ms), gap.status) for gap in graph.gaps()]


def assert_no_hole(runs: list[runs_table.Run]) -> int:
    """Up to when each millisecond since the first of these runs was read."""
    spans = sorted((run.from_ms, run.to_ms) for run in runs)
    reached = spans[0][1]
    for start, end in spans:
        assert start <= reached + 1
        reached = max(reached, end)
    return reached


def test_the_worked_example(graph: Graph) -> None:
    """Every five minutes from now-6m, the last run at 10:00, back at 11:00."""
    uuid = graph.add_rule()
    graph.work()
    assert [clock_of(run.tick_ms) for run in graph.runs()] == ["10:00"]
    during = {"10:02": [1], "10:33": [2], "10:37": [3], "10:59": [4]}
    after = down_until(graph, "11:00:01", during=during)
    assert after.service.scheduler.work()
    runs = after.runs()[1:]
    assert windows(runs) == [
        ("10:40", "10:34", "10:40"),
        ("10:45", "10:39", "10:45"),
        ("10:50", "10:44", "10:50"),
        ("10:55", "10:49", "10:55"),
        ("11:00", "10:54", "11:00"),
    ]
    assert [run.kind for run in runs] == ["catch-up"] * 4 + ["scheduled"]
    assert [run.status for run in runs] == ["succeeded"] * 4 + ["failed"]
    last = runs[-1]
    assert last.metrics["execution_gap_duration_s"] == 34 * 60
    assert last.metrics["gap_range"] == {
        "gte": format_instant(at("10:00") // MS),
        "lte": format_instant(at("10:34") // MS),
    }
    assert "2040 s" in last.message
    assert after.numbers() == [3, 4], "alerts are raised although the run failed"
    assert gap_spans(after) == [("10:00", "10:34", "unfilled")]
    assert after.service.numbers().gaps == 1
    after.work()
    assert gap_spans(after) == [("10:00", "10:34", "filled")]
    assert after.service.numbers().gaps == 0
    assert after.numbers() == [1, 2, 3, 4]
    filling = [run for run in after.runs() if run.kind == "gap"]
    assert windows(filling)[0] == ("10:05", "09:59", "10:05")
    assert filling[-1].to_ms >= at("10:34") // MS
    assert all(gap.rule_uuid == uuid for gap in after.gaps())


@pytest.mark.parametrize(
    ("back", "caught_up", "gap"),
    [
        ("10:04", [], None),
        ("10:05:01", ["10:05"], None),
        ("10:06", ["10:05"], None),
        ("10:10:01", ["10:05", "10:10"], None),
        ("10:15:01", ["10:05", "10:10", "10:15"], None),
        ("10:25:01", ["10:05", "10:10", "10:15", "10:20", "10:25"], None),
        ("10:30:01", ["10:10", "10:15", "10:20", "10:25", "10:30"], ("10:00", "10:04")),
    ],
)
def test_up_to_four_windows_are_caught_up_with(
    graph: Graph, back: str, caught_up: list[str], gap: tuple[str, str] | None
) -> None:
    """The tolerance is the whole window: the gap begins where six minutes are over."""
    graph.add_rule()
    graph.work()
    after = down_until(graph, back)
    while after.service.scheduler.work():
        pass
    ran = [clock_of(run.tick_ms) for run in after.runs() if run.kind != "gap"]
    assert ran == ["10:00", *caught_up]
    assert [each[:2] for each in gap_spans(after)] == ([gap] if gap else [])
    assert_no_hole(after.runs())


def test_each_window_has_a_cap_of_its_own(graph: Graph) -> None:
    graph.add_rule(max_signals=2)
    graph.work()
    during = {f"10:{minute}": list(range(minute * 10, minute * 10 + 3)) for minute in (37, 42, 47)}
    after = down_until(graph, "10:50:01", during=during)
    assert after.service.scheduler.work()
    by_tick = {clock_of(run.tick_ms): (run.alerts, run.capped) for run in after.runs()[1:]}
    assert by_tick["10:40"] == by_tick["10:45"] == by_tick["10:50"] == (2, 1)


def test_live_judging_of_what_came_before_the_kill_goes_first_or_last_alike(graph: Graph) -> None:
    graph.add_rule()
    graph.work()
    after = down_until(graph, "11:00:01", during={"10:02": [1], "10:50": [2]})
    after.service.detector.start()
    after.judged()
    assert after.numbers() == [1, 2]
    after.work()
    assert after.numbers() == [1, 2]
    assert sum(run.alerts for run in after.runs()) == 0


def test_a_long_gap_is_filled_a_piece_at_a_time_and_goes_on_after_a_restart(graph: Graph) -> None:
    graph.add_rule()
    graph.work()
    after = down_until(graph, "16:00:01", during={"10:02": [1], "12:00": [2], "15:00": [3]})
    after.service.scheduler.work()
    assert gap_spans(after) == [("10:00", "15:34", "unfilled")]
    after.service.scheduler.work()
    (gap,) = after.gaps()
    assert gap.status == "in progress"
    assert gap.filled_to_ms == at("11:00") // MS
    assert after.numbers() == [1]
    again = after.killed().open_up()
    again.work()
    assert {each[2] for each in gap_spans(again)} == {"filled"}
    assert again.numbers() == [1, 2, 3]
    ticks = [run.tick_ms for run in again.runs() if run.kind == "gap"]
    assert ticks == [*range(at("10:05") // MS, at("15:35") // MS + 1, 300_000)]


def test_what_is_due_goes_before_the_gap(graph: Graph) -> None:
    graph.add_rule()
    graph.work()
    after = down_until(graph, "16:00:01")
    after.service.scheduler.work()
    after.wall.go_to("16:06")
    after.service.scheduler.work()
    assert after.runs()[-1].tick_ms == at("16:05") // MS
    assert not [run for run in after.runs() if run.kind == "gap"]


def test_gaps_are_filled_under_the_cap_and_once(graph: Graph) -> None:
    graph.add_rule(max_signals=3)
    graph.work()
    after = down_until(graph, "11:00:01", during={"10:02": list(range(5))})
    after.work()
    assert after.numbers() == [0, 1, 2]
    (run,) = [run for run in after.runs() if run.matches and run.kind == "gap"]
    assert (run.alerts, run.capped, run.status) == (3, 2, "partial failure")
    again = after.killed().open_up()
    again.work()
    assert again.numbers() == [0, 1, 2]


def test_gaps_may_be_left_to_people(tmp_path: Path) -> None:
    with Graph(tmp_path / "data", wall=Wall(at("10:01")), fills_gaps=False) as graph:
        graph.open_up()
        uuid = graph.add_rule()
        graph.work()
        after = down_until(graph, "11:00:01", during={"10:02": [1]})
        after.work()
        assert gap_spans(after) == [("10:00", "10:34", "unfilled")]
        assert after.numbers() == []
        after.service.scheduler.run_range(
            uuid, start_ms=at("10:00") // MS, end_ms=at("10:34") // MS, by="eve"
        )
        after.work()
        assert after.numbers() == [1]


def test_of_a_gap_that_is_too_long_the_older_part_stays_one_and_is_shown(tmp_path: Path) -> None:
    with Graph(tmp_path / "data", wall=Wall(at("10:01")), gap_days=0.125) as graph:
        graph.open_up()
        graph.add_rule()
        graph.work()
        after = down_until(graph, "18:00:01", during={"12:00": [1], "17:00": [2]})
        after.work()
        assert gap_spans(after) == [
            ("10:00", "14:34", "impossible"),
            ("14:34", "17:34", "filled"),
        ]
        assert after.numbers() == [2]


def test_a_gap_waits_for_a_rule_that_is_off_and_goes_with_one_that_is_deleted(
    graph: Graph,
) -> None:
    uuid = graph.add_rule()
    other = graph.add_rule(rule_of("other"))
    graph.work()
    after = down_until(graph, "11:00:01", during={"10:02": [1]})
    after.service.scheduler.work()
    after.service.rules.patch({"id": uuid, "enabled": False}, by="test")
    after.service.rules.delete(id=other, by="test")
    after.work()
    assert gap_spans(after) == [("10:00", "10:34", "unfilled")]
    after.service.rules.patch({"id": uuid, "enabled": True}, by="test")
    after.work()
    assert gap_spans(after) == [("10:00", "10:34", "filled")]
    assert after.numbers() == [1]


def test_rules_of_any_window_are_covered_without_a_hole(graph: Graph) -> None:
    """Whatever the interval and the look-back, each millisecond of the time down is read."""
    windows_of = {"5m": "now-6m", "1m": "now-5m", "15m": "now-20m", "7m": "now-7m", "1h": "now-2h"}
    for interval, from_ in windows_of.items():
        graph.add_rule(rule_of(interval, interval=interval, from_=from_))
    graph.work()
    after = down_until(graph, "19:17:33")
    after.work()
    for interval in windows_of:
        reached = assert_no_hole([run for run in after.runs() if run.rule_id == interval])
        assert reached <= at("19:17:33") // MS < reached + 3_600_000
    assert {each[2] for each in gap_spans(after)} <= {"filled"}


def test_a_stop_in_the_middle_of_a_pass_leaves_it_to_the_next_start(graph: Graph) -> None:
    graph.add_rule()
    graph.work()
    graph.take(audits([1]))
    graph.wall.go_to("10:06")
    graph.service.scheduler.stop()
    graph.service.scheduler.work()
    assert len(graph.runs()) == 1, "nothing is noted of a pass that was given up"
    after = graph.killed().open_up()
    after.work()
    assert [clock_of(run.tick_ms) for run in after.runs()] == ["10:00", "10:05"]
    assert after.numbers() == [1]


def test_streaks_outlive_the_process(graph: Graph) -> None:
    uuid = graph.add_rule(max_signals=1)
    graph.work()
    for minute in (3, 8, 13):
        graph.wall.go_to(f"10:{minute:02}")
        graph.take(audits(range(minute * 10, minute * 10 + 3)))
        graph.wall.go_to(f"10:{minute + 3:02}")
        graph.work()
    assert graph.service.scheduler.streaks[uuid].capped == 3
    after = graph.killed().open_up()
    assert after.service.scheduler.streaks[uuid].capped == 3
    assert after.service.scheduler.streaks[uuid].rule_name == "Rule secrets"


def test_time_down_is_no_lateness(graph: Graph) -> None:
    graph.add_rule()
    graph.work()
    after = down_until(graph, "16:00:01")
    assert after.service.scheduler.behind_ms == 0
    after.work()
    rows: list[Any] = [run for run in after.runs() if run.kind in ("scheduled", "catch-up")]
    assert max(run.delay_ms for run in rows) == 1000
    assert after.service.database.read(lambda c: runs_table.count(c)) == len(after.runs())


def test_a_tick_noted_while_the_clock_was_ahead_stops_no_run(graph: Graph) -> None:
    graph.add_rule()
    graph.wall.go_to("18:00")
    graph.work()
    graph.wall.go_to("12:01")
    after = graph.stopped().open_up()
    after.take(audits([1]))
    after.wall.go_to("12:06")
    after.work()
    assert after.numbers() == [1]
    assert after.service.scheduler.behind_ms == 0


def test_a_clock_put_forward_by_days_is_caught_up_with_as_after_a_stop(graph: Graph) -> None:
    graph.add_rule()
    graph.take(audits([1]))
    graph.work()
    graph.wall.pass_(seconds=3 * 86_400)
    graph.work()
    kinds = [run.kind for run in graph.runs()]
    assert kinds.count("catch-up") == 4
    assert len(graph.gaps()) == 1
    assert graph.numbers() == [1]
