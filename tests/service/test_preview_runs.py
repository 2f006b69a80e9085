"""Previews: the runs that would have been, and nothing of it kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_graph import Graph, Wall, at, audit, audits, rule_of

from barrelman.service.preview import PreviewResult, Previews

MS = 1000


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    with Graph(tmp_path / "data", wall=Wall(at("11:50"))) as made:
        yield made.open_up()


def preview(graph: Graph, *, end: str = "12:00", count: int = 1, **rule: Any) -> PreviewResult:
    return graph.service.previews.run(
        rule_of(**{"rule_id": "previewed"} | rule),
        timeframe_end_ms=at(end) // MS,
        invocation_count=count,
    )


def numbers(result: PreviewResult) -> list[int]:
    ids = [document["kubernetes"]["audit"]["auditID"] for document in result.alerts]
    return [int(each.rpartition("-")[2]) for each in ids]


def test_runs_end_at_the_time_asked_for_an_interval_apart(graph: Graph) -> None:
    result = preview(graph, count=4)
    assert [log.started_at[11:19] for log in result.logs] == [
        *("11:45:00", "11:50:00", "11:55:00", "12:00:00")
    ]
    assert all(log.errors == [] and log.warnings == [] for log in result.logs)
    assert not result.is_aborted
    assert result.alerts == []


def test_ticks_are_those_of_the_time_asked_and_no_others(graph: Graph) -> None:
    """Not of the schedule: a preview at 12:02:03 runs at 12:02:03 and 11:57:03."""
    graph.wall.go_to("11:51:02.999")
    graph.take([audit(1)])
    graph.wall.go_to("11:51:03")
    graph.take([audit(2)])
    graph.wall.go_to("12:02:03")
    graph.take([audit(3)])
    graph.wall.go_to("12:02:03.001")
    graph.take([audit(4)])
    result = preview(graph, end="12:02:03", count=2)
    assert numbers(result) == [2, 3]
    assert [doc["@timestamp"][11:19] for doc in result.alerts] == ["11:57:03", "12:02:03"]


def test_an_alert_is_dated_by_its_run_and_belongs_to_the_preview(graph: Graph) -> None:
    graph.take([audit(1, at_us=at("10:00"))])
    graph.wall.go_to("13:00")
    first, second = (preview(graph, end="11:55"), preview(graph, end="11:55"))
    assert first.preview_id != second.preview_id
    (document,) = first.alerts
    assert document["@timestamp"] == "2026-11-23T11:55:00.000Z"
    assert document["kibana.alert.rule.uuid"] == first.preview_id
    assert document["kibana.alert.rule.execution.type"] == "manual"
    assert document["kibana.alert.original_time"] == "2026-11-23T10:00:00.000Z"
    assert document["kibana.alert.workflow_status"] == "open"


def test_nothing_of_it_is_kept(graph: Graph) -> None:
    graph.take(audits(range(3)))
    graph.wall.go_to("13:00")
    assert len(preview(graph, end="11:55", count=3).alerts) == 3
    assert graph.alerts() == []
    assert graph.runs() == []
    assert graph.service.rulebook.entries() == []
    graph.add_rule()
    graph.service.scheduler.run_range(
        graph.service.rulebook.lineup.watchers[0].uuid,
        start_ms=at("11:45") // MS,
        end_ms=at("11:55") // MS,
        by="eve",
    )
    graph.work()
    assert len(graph.alerts()) == 3, "an alert of a preview does not count as known"


def test_an_event_that_two_runs_read_is_alerted_once_by_the_first(graph: Graph) -> None:
    graph.wall.go_to("11:54:30")
    graph.take(audits(range(2)))
    graph.wall.go_to("13:00")
    result = preview(graph, count=2)
    assert Counter(doc["@timestamp"][11:16] for doc in result.alerts) == {"11:55": 2}
    assert result.matches == 2


def test_each_run_has_the_cap_and_the_next_takes_what_both_read(graph: Graph) -> None:
    graph.wall.go_to("11:53")
    graph.take(audits(range(2)))
    graph.wall.go_to("11:54:30")
    graph.take(audits(range(2, 8)))
    graph.wall.go_to("13:00")
    result = preview(graph, count=2, max_signals=3)
    assert Counter(doc["@timestamp"][11:16] for doc in result.alerts) == {"11:55": 3, "12:00": 3}
    assert numbers(result) == [0, 1, 2, 3, 4, 5]
    first, second = result.logs
    assert len(first.warnings) == len(second.warnings) == 1, "both met their cap"
    assert "cap of 3" in second.warnings[0]


def test_as_scheduled_runs_would_have_it(graph: Graph) -> None:
    """A preview that ends at a tick gives the alerts of the schedule, tick by tick."""
    number = 0
    for minute in range(51, 60):
        graph.wall.go_to(f"11:{minute}:20")
        graph.take(audits(range(number, number + minute % 5)))
        number += minute % 5
    graph.wall.go_to("12:21")
    uuid = graph.add_rule(max_signals=4)
    graph.service.scheduler.run_range(
        uuid, start_ms=at("11:50") // MS, end_ms=at("12:05") // MS, by="eve"
    )
    graph.work()
    expected = Counter((each.tick_ms, each.id) for each in graph.alerts())
    result = preview(graph, end="12:05", count=3, rule_id="secrets", max_signals=4)
    found = Counter(
        (at(doc["@timestamp"][11:23]) // MS, doc["kibana.alert.uuid"]) for doc in result.alerts
    )
    assert found == expected
    assert len(found) > 8


def test_a_query_that_asks_the_time_is_asked_at_each_run(graph: Graph) -> None:
    graph.take([audit(1, at_us=at("11:20")), audit(2, at_us=at("11:26"))])
    graph.wall.go_to("11:54:30")
    graph.take([audit(3, at_us=at("11:26"))])
    graph.wall.go_to("13:00")
    result = preview(graph, count=2, query="@timestamp >= now-30m")
    assert numbers(result) == [2, 3]
    result = preview(graph, count=2, query="@timestamp < now-30m")
    found = {n: d["@timestamp"][11:16] for n, d in zip(numbers(result), result.alerts, strict=True)}
    assert found == {1: "11:55", 3: "12:00"}


@pytest.mark.parametrize("count", [0, -1, 10**9])
def test_a_number_of_runs_that_is_none_is_told_in_the_log(graph: Graph, count: int) -> None:
    result = preview(graph, count=count)
    (log,) = result.logs
    assert "invocationCount" in log.errors[0]


@pytest.mark.parametrize(
    "rule",
    [
        {"query": "user.name:("},
        {"type": "esql", "language": "esql", "query": "FROM logs-*"},
        {"interval": "soon"},
        {"severity": "awful"},
        {"rule_id": None},
    ],
)
def test_what_is_wrong_with_a_rule_is_told_in_the_log(graph: Graph, rule: Any) -> None:
    result = preview(graph, **rule)
    if rule == {"rule_id": None}:
        assert result.logs[0].errors == [], "a rule that is to be made has no id yet"
    else:
        assert len(result.logs) == 1
        assert result.logs[0].errors[0]
    assert result.alerts == []


def test_a_time_that_has_no_date_is_told_in_the_log(graph: Graph) -> None:
    result = graph.service.previews.run(
        rule_of(), timeframe_end_ms=60_000 - 62_135_596_800_000, invocation_count=1
    )
    assert result.logs[0].errors, "its window begins before the year 1"


def test_one_that_takes_too_long_is_aborted(graph: Graph) -> None:
    graph.take(audits([1]))
    graph.wall.go_to("13:00")
    previews = Previews(graph.service.events, graph.service.rulebook, most_seconds=-1)
    result = previews.run(rule_of(), timeframe_end_ms=at("11:55") // MS, invocation_count=1)
    assert result.is_aborted
    assert len(result.logs) == 1


def test_exceptions_and_overrides_hold(graph: Graph) -> None:
    graph.take([audit(1), audit(2, user={"username": "adam"})])
    graph.wall.go_to("13:00")
    result = preview(graph, end="11:55", rule_name_override="user.name")
    assert sorted(doc["kibana.alert.rule.name"] for doc in result.alerts) == ["adam", "eve"]
    graph.service.exceptions.create_list(
        {"list_id": "staff", "name": "n", "description": "d", "type": "detection"}, by="test"
    )
    graph.service.exceptions.create_item(
        {
            "list_id": "staff",
            "name": "n",
            "description": "d",
            "type": "simple",
            "entries": [
                {"field": "user.name", "operator": "included", "type": "match", "value": "adam"}
            ],
        },
        by="test",
    )
    ref = {"id": "x", "list_id": "staff", "type": "detection", "namespace_type": "single"}
    assert numbers(preview(graph, end="11:55", exceptions_list=[ref])) == [1]


def test_a_long_preview_of_many_runs(graph: Graph) -> None:
    graph.take(audits(range(5)))
    graph.wall.go_to("13:00")
    result = preview(graph, end="12:55", count=2000, interval="1m", from_="now-2m")
    assert len(result.logs) == 2000
    assert len(result.alerts) == 5
