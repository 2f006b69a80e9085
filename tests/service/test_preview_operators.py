"""Previews of rules that need several events for an alert, or fold repeats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_graph import Graph, Wall, at, audit, rule_of

from barrelman.service.preview import PreviewResult, Previews

SUPPRESSION = "kibana.alert.suppression"
SEQUENCE = """sequence by user.name
  [any where kubernetes.audit.verb == "get"] [any where kubernetes.audit.verb == "delete"]"""


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    with Graph(tmp_path / "data", wall=Wall(at("11:30"))) as made:
        yield made.open_up()


def sent(graph: Graph, time: str, *numbers: int, user: str = "eve", **changes: Any) -> None:
    graph.wall.go_to(time)
    person = {"username": user, "groups": []}
    graph.take([audit(n, at_us=at(time), user=person, **changes) for n in numbers])


def preview(graph: Graph, *, end: str = "12:00", count: int = 3, **rule: Any) -> PreviewResult:
    """`from_` stands for `from`."""
    return graph.service.previews.run(
        rule_of(**{"rule_id": "previewed"} | rule),
        timeframe_end_ms=at(end) // 1000,
        invocation_count=count,
    )


def test_a_threshold_over_runs_that_share_events(graph: Graph) -> None:
    sent(graph, "11:48", 1, 2, 3)
    sent(graph, "11:52", 4, 5)
    given = {"field": ["user.name"], "value": 3}
    result = preview(graph, type="threshold", threshold=given, from_="now-10m")
    (document,) = result.alerts
    assert document["kibana.alert.threshold_result"]["count"] == 3
    assert document["@timestamp"] == "2026-11-23T11:50:00.000Z"
    assert document["kibana.alert.rule.uuid"] == result.preview_id
    assert result.matches == 5
    assert not result.is_aborted
    assert graph.alerts() == []


def test_runs_at_odd_times(graph: Graph) -> None:
    """Not on the schedule's ticks: those are the times asked for."""
    sent(graph, "11:52:02", 1, 2)
    sent(graph, "11:52:04", 3)
    given = {"field": [], "value": 2}
    result = preview(
        graph, end="11:57:03", count=2, type="threshold", threshold=given, from_="now-5m"
    )
    assert [each["@timestamp"][11:19] for each in result.alerts] == ["11:52:03"]
    assert [log.started_at[11:19] for log in result.logs] == ["11:52:03", "11:57:03"]


def test_new_terms_know_what_is_stored(graph: Graph) -> None:
    sent(graph, "11:31", 1)
    sent(graph, "11:53", 2)
    sent(graph, "11:53", 3, user="bob")
    sent(graph, "11:58", 4, user="bob")
    rule: dict[str, Any] = {"new_terms_fields": ["user.name"], "history_window_start": "now-1d"}
    result = preview(graph, type="new_terms", **rule)
    assert [each["kibana.alert.new_terms"] for each in result.alerts] == [["bob"]]
    rule["history_window_start"] = "now-15m"
    result = preview(graph, type="new_terms", **rule)
    assert [each["kibana.alert.new_terms"] for each in result.alerts] == [["bob"], ["eve"]]


def test_a_sequence_is_shown_with_its_blocks_once(graph: Graph) -> None:
    sent(graph, "11:48", 1)
    sent(graph, "11:49", 2, verb="delete")
    result = preview(graph, type="eql", language="eql", query=SEQUENCE, from_="now-15m")
    assert ["kibana.alert.building_block_type" in each for each in result.alerts] == [
        *(True, True, False)
    ]
    assert {each["kibana.alert.rule.uuid"] for each in result.alerts} == {result.preview_id}
    ancestors = result.alerts[-1]["kibana.alert.ancestors"]
    named = [each["rule"] for each in ancestors if each["type"] == "signal"]
    assert named == [result.preview_id] * 2


def test_repeats_are_folded_within_a_run_and_for_as_long_as_the_rule_says(graph: Graph) -> None:
    sent(graph, "11:48", 1, 2)
    sent(graph, "11:52", 3)
    sent(graph, "11:58", 4)
    folding: dict[str, Any] = {"group_by": ["user.name"]}
    counts = f"{SUPPRESSION}.docs_count"
    result = preview(graph, alert_suppression=folding)
    assert [each[counts] for each in result.alerts] == [1, 0, 0]
    folding["duration"] = {"value": 5, "unit": "m"}
    result = preview(graph, alert_suppression=folding)
    assert [each[counts] for each in result.alerts] == [2, 0]
    assert result.alerts[0]["kibana.alert.last_detected"] == "2026-11-23T11:55:00.000Z"
    assert result.alerts[0][f"{SUPPRESSION}.end"] == "2026-11-23T11:52:00.000Z"


@pytest.mark.parametrize("query", ['any where kubernetes.audit.verb == "get"', SEQUENCE])
def test_what_an_earlier_run_found_leads_no_group(graph: Graph, query: str) -> None:
    sent(graph, "11:49:10", 1)
    sent(graph, "11:49:20", 2, verb="delete")
    sent(graph, "11:52", 3)
    sent(graph, "11:53", 4, verb="delete")
    folding: dict[str, Any] = {"group_by": ["user.name"]}
    counts = f"{SUPPRESSION}.docs_count"
    rule: dict[str, Any] = {"type": "eql", "language": "eql", "query": query, "from_": "now-9m"}
    result = preview(graph, alert_suppression=folding, **rule)
    assert [each[counts] for each in result.alerts if counts in each] == [0, 0]
    folding["duration"] = {"value": 1, "unit": "h"}
    result = preview(graph, alert_suppression=folding, **rule)
    assert [each[counts] for each in result.alerts if counts in each] == [1]


def test_what_a_cap_leaves_out_is_told(graph: Graph) -> None:
    for number, user in enumerate("abcd"):
        sent(graph, "11:58", number, user=user)
    given = {"field": ["user.name"], "value": 1}
    result = preview(graph, count=1, type="threshold", threshold=given, max_signals=3)
    assert len(result.alerts) == 3
    assert "1 matches raised no alert" in result.logs[0].warnings[0]


def test_a_preview_that_takes_too_long_is_given_up(graph: Graph) -> None:
    sent(graph, "11:31", 1)
    sent(graph, "11:58", 2)
    previews = Previews(graph.service.events, graph.service.rulebook, most_seconds=0.0)
    rule: dict[str, Any] = {"new_terms_fields": ["user.name"], "history_window_start": "now-1d"}
    result = previews.run(
        rule_of("previewed", type="new_terms", **rule),
        timeframe_end_ms=at("12:00") // 1000,
        invocation_count=1,
    )
    assert result.is_aborted
    assert result.alerts == []
