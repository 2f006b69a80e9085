"""Rules that fold repeats into one alert, run by a service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from service_graph import Graph, JsonObject, at, audit
from service_rules import (
    GETS,
    SEQUENCE,
    SUPPRESSION,
    docs_counts,
    documents,
    eql,
    graph_with_indicators,
    new_terms,
    run_at,
    sent,
    suppressed,
    threat_match,
    threshold,
    users,
    wholes,
)


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    """Open at 12:02, nothing judged live; what is due is run by `work`."""
    with graph_with_indicators(tmp_path) as made:
        yield made.open_up()


# --- by run and by duration ---------------------------------------------------------------------


def set_status(graph: Graph, alert_id: str, status: str) -> None:
    graph.service.alerts.set_status({"signal_ids": [alert_id], "status": status}, by="ann")


def test_a_run_folds_what_its_window_holds(graph: Graph) -> None:
    graph.add_rule(suppressed())
    graph.work()
    sent(graph, "12:03", 1, 2, 3)
    sent(graph, "12:04", 4, user="bob")
    run_at(graph, "12:05")
    assert docs_counts(graph) == [2, 0]
    assert graph.runs()[-1].metrics["suppressed"] == 2
    sent(graph, "12:06", 5)
    run_at(graph, "12:10")
    assert docs_counts(graph) == [2, 0, 0], "each run by itself, and no event twice"


def test_no_event_is_counted_by_two_runs_even_after_a_restart(graph: Graph) -> None:
    graph.add_rule(suppressed(from_="now-9m"))
    graph.work()
    sent(graph, "12:03", 1, 2, 3)
    run_at(graph, "12:05")
    other = graph.killed().open_up()
    sent(other, "12:06", 4, 5)
    run_at(other, "12:10")
    assert docs_counts(other) == [2, 1]


def test_repeats_go_to_the_alert_for_as_long_as_the_rule_says(graph: Graph) -> None:
    graph.add_rule(suppressed("10m"))
    graph.work()
    sent(graph, "12:03", 1, 2)
    run_at(graph, "12:05")
    sent(graph, "12:06", 3, 4)
    run_at(graph, "12:10")
    (document,) = documents(graph)
    assert document[f"{SUPPRESSION}.docs_count"] == 3
    assert document[f"{SUPPRESSION}.start"] == "2026-11-23T12:03:00.000Z"
    assert document[f"{SUPPRESSION}.end"] == "2026-11-23T12:06:00.000Z"
    assert document["kibana.alert.last_detected"] == "2026-11-23T12:10:01.000Z"
    assert document["kibana.alert.start"] == "2026-11-23T12:05:01.000Z"
    assert graph.runs()[-1].metrics["folded"] == 1
    sent(graph, "12:13", 5)
    run_at(graph, "12:15")
    assert docs_counts(graph) == [4], "to the very end of its time"
    sent(graph, "12:18", 6)
    run_at(graph, "12:20")
    assert docs_counts(graph) == [4, 0]


def test_repeats_are_folded_across_a_restart(graph: Graph) -> None:
    graph.add_rule(suppressed("1h"))
    graph.work()
    sent(graph, "12:03", 1, 2)
    run_at(graph, "12:05")
    other = graph.killed().open_up()
    sent(other, "12:06", 3, 4)
    run_at(other, "12:10", "12:15")
    assert docs_counts(other) == [3]


def test_a_closed_alert_takes_no_repeats(graph: Graph) -> None:
    graph.add_rule(suppressed("1h"))
    graph.work()
    sent(graph, "12:03", 1, 2)
    run_at(graph, "12:05")
    (first,) = graph.alerts()
    set_status(graph, first.id, "acknowledged")
    sent(graph, "12:06", 3)
    run_at(graph, "12:10")
    assert docs_counts(graph) == [2], "someone who looks at it stops nothing"
    set_status(graph, first.id, "closed")
    sent(graph, "12:12", 4)
    run_at(graph, "12:15")
    assert docs_counts(graph) == [2, 0]
    assert graph.alerts()[0].status == "closed"


def test_a_folded_run_that_is_done_again_changes_nothing(graph: Graph) -> None:
    uuid = graph.add_rule(suppressed("1h"))
    graph.work()
    sent(graph, "12:03", 1, 2)
    run_at(graph, "12:05")
    sent(graph, "12:06", 3, 4)
    run_at(graph, "12:10")
    before = documents(graph)
    graph.wall.go_to("12:20")
    graph.service.scheduler.run_range(
        uuid, start_ms=at("12:00") // 1000, end_ms=at("12:10") // 1000, by="test"
    )
    graph.work()
    assert documents(graph) == before


def test_thresholds_are_folded_by_their_groups(graph: Graph) -> None:
    duration = {"duration": {"value": 1, "unit": "h"}}
    graph.add_rule(threshold(2, alert_suppression=duration, from_="now-5m"))
    graph.work()
    sent(graph, "12:03", 1, 2)
    run_at(graph, "12:05")
    sent(graph, "12:06", 3, 4, 5)
    run_at(graph, "12:10")
    (document,) = documents(graph)
    assert document[f"{SUPPRESSION}.terms"] == [{"field": "user.name", "value": "eve"}]
    assert document[f"{SUPPRESSION}.docs_count"] == 4
    sent(graph, "12:11", 6)
    run_at(graph, "12:15")
    assert docs_counts(graph) == [4]


def test_sequences_are_folded_with_their_blocks(graph: Graph) -> None:
    folding = {"group_by": ["user.name"], "duration": {"value": 1, "unit": "h"}}
    graph.add_rule(eql(SEQUENCE, from_="now-10m", alert_suppression=folding))
    graph.work()
    sent(graph, "12:03", 1)
    sent(graph, "12:03:10", 2, verb="delete")
    run_at(graph, "12:05")
    sent(graph, "12:06", 3)
    sent(graph, "12:06:10", 4, verb="delete")
    run_at(graph, "12:10", "12:15")
    assert len(graph.alerts()) == 3
    whole = next(each for each in documents(graph) if "kibana.alert.instance.id" in each)
    assert whole[f"{SUPPRESSION}.docs_count"] == 1


@pytest.mark.parametrize("duration", [None, {"value": 1, "unit": "h"}])
@pytest.mark.parametrize("query", [GETS, SEQUENCE], ids=["event", "sequence"])
def test_what_an_earlier_run_raised_leads_no_group(
    graph: Graph, query: str, duration: JsonObject | None
) -> None:
    folding: JsonObject = {"group_by": ["user.name"]}
    if duration is not None:
        folding["duration"] = duration
    graph.add_rule(eql(query, alert_suppression=folding))
    graph.work()
    sent(graph, "12:04:30", 1)
    sent(graph, "12:04:31", 2, verb="delete")
    run_at(graph, "12:05")
    sent(graph, "12:07", 3)
    sent(graph, "12:07:01", 4, verb="delete")
    run_at(graph, "12:10", "12:15", "12:20")
    if duration is None:
        assert wholes(graph) == [("12:04:30", 0), ("12:07:00", 0)]
    else:
        assert wholes(graph) == [("12:04:30", 1)]
    assert [run.metrics["known"] for run in graph.runs()] == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("duration", [None, {"value": 1, "unit": "h"}])
def test_nor_is_what_was_folded_folded_again(graph: Graph, duration: JsonObject | None) -> None:
    folding: JsonObject = {"group_by": ["user.name"]}
    if duration is not None:
        folding["duration"] = duration
    uuid = graph.add_rule(eql(GETS, alert_suppression=folding, from_="now-10m"))
    graph.work()
    sent(graph, "12:04:10", 1)
    sent(graph, "12:04:20", 2)
    run_at(graph, "12:05")
    sent(graph, "12:05:30", 3)
    other = graph.killed().open_up()
    run_at(other, "12:10")
    sent(other, "12:12", 4)
    run_at(other, "12:15", "12:20", "12:25")
    if duration is None:
        expected = [("12:04:10", 1), ("12:05:30", 0), ("12:12:00", 0)]
    else:
        expected = [("12:04:10", 3)]
    assert wholes(other) == expected
    other.service.scheduler.run_range(
        uuid, start_ms=at("12:00") // 1000, end_ms=at("12:20") // 1000, by="test"
    )
    other.work()
    assert wholes(other) == expected, "a run by hand counts nothing twice, either"


def test_what_is_new_after_a_restart_is_not_lost_with_what_is_known(graph: Graph) -> None:
    folding = {"group_by": ["kubernetes.audit.verb"]}
    graph.add_rule(new_terms(alert_suppression=folding, from_="now-9m"))
    graph.work()
    sent(graph, "12:03", 1, user="ann")
    run_at(graph, "12:05")
    other = graph.killed().open_up()
    sent(other, "12:06", 2, user="bob")
    run_at(other, "12:10")
    assert users(other) == ["ann", "bob"]


def test_nor_what_meets_an_indicator(graph: Graph) -> None:
    graph.add_rule(threat_match(alert_suppression={"group_by": ["user.name"]}, max_signals=1))
    graph.work()
    sent(graph, "12:04:30", *range(6))
    run_at(graph, "12:05")
    assert wholes(graph) == [("12:04:30", 4)]
    sent(graph, "12:07", 9)
    run_at(graph, "12:10", "12:15")
    assert wholes(graph) == [("12:04:30", 4), ("12:04:30", 1)]


def test_what_is_known_takes_no_places(graph: Graph) -> None:
    """More than a run looks at are known to it, and come first in their order."""
    folding = {"group_by": ["kubernetes.audit.verb"]}
    graph.add_rule(new_terms(alert_suppression=folding, from_="now-9m", max_signals=1))
    graph.work()
    for number, user in enumerate("abcde"):
        sent(graph, "12:03", number, user=user)
    run_at(graph, "12:05")
    other = graph.killed().open_up()
    sent(other, "12:06", 9, user="z")
    run_at(other, "12:10")
    assert users(other) == ["a", "z"]
    assert docs_counts(other) == [4, 0]
    assert other.runs()[-1].metrics["known"] == 5


# --- clusters and acts -------------------------------------------------------------------------


def test_clusters_are_not_folded_into_each_other(graph: Graph) -> None:
    """Who may see one cluster alone sees all of that one, and nothing of another."""
    folding = {"group_by": ["user.name"], "duration": {"value": 1, "unit": "h"}}
    duration = {"duration": folding["duration"]}
    rules = [
        suppressed("1h"),
        threshold(1, alert_suppression=duration),
        new_terms(alert_suppression=folding),
        eql(SEQUENCE, alert_suppression=folding),
        eql('any where kubernetes.audit.verb == "get"', alert_suppression=folding)
        | {"rule_id": "eql of single events"},
    ]
    for rule in rules:
        graph.add_rule(rule)
    graph.work()
    for minute, cluster, first in (("12:03", "harbour", 1), ("12:06", "bay", 11)):
        graph.wall.go_to(minute)
        person = {"username": "eve", "groups": []}
        graph.take([audit(first, user=person)], cluster=cluster)
        graph.wall.pass_(seconds=1)
        graph.take([audit(first + 1, user=person, verb="delete")], cluster=cluster)
        run_at(graph, "12:05" if first == 1 else "12:10")
    run_at(graph, "12:15")
    wholes = [each for each in graph.alerts() if not each.building_block]
    seen = sorted((each.rule_id, each.cluster) for each in wholes)
    names = sorted({rule["rule_id"] for rule in rules} - {"new"})
    assert seen == sorted(
        [(name, cluster) for name in names for cluster in ("bay", "harbour")] + [("new", "harbour")]
    )
    by_id = {each.id: each for each in wholes}
    for document in documents(graph):
        if f"{SUPPRESSION}.docs_count" in document:
            alert = by_id[document["kibana.alert.uuid"]]
            repeats = alert.rule_id in ("folded", "threshold")
            assert document[f"{SUPPRESSION}.docs_count"] == repeats


def test_what_was_counted_in_one_cluster_hides_nothing_of_another(graph: Graph) -> None:
    graph.add_rule(suppressed(from_="now-9m", max_signals=1))
    graph.work()
    for minute, number, cluster in (("12:03", 1, "zee"), ("12:04", 2, "bay"), ("12:04", 3, "cove")):
        graph.wall.go_to(minute)
        graph.take([audit(number)], cluster=cluster)
    run_at(graph, "12:05")
    assert {each.cluster for each in graph.alerts()} == {"bay", "cove"}, "no room for more"
    other = graph.killed().open_up()
    run_at(other, "12:10", "12:15")
    assert sorted(each.cluster for each in other.alerts()) == ["bay", "cove", "zee"]


def test_an_act_does_not_hide_behind_an_id_where_repeats_are_folded(graph: Graph) -> None:
    verbs = 'any where kubernetes.audit.verb in ("get", "delete")'
    graph.add_rule(eql(verbs, alert_suppression={"group_by": ["user.name"]}, from_="now-5m"))
    graph.work()
    sent(graph, "12:03", 1, user="bob")
    sent(graph, "12:03:10", 2, user="bob")
    run_at(graph, "12:05")
    sent(graph, "12:06", 1, 2, verb="delete")
    run_at(graph, "12:10", "12:15", "12:20")
    assert wholes(graph) == [("12:03:00", 1), ("12:06:00", 1)]


def test_nor_do_acts_hide_behind_a_sequence_of_others(graph: Graph) -> None:
    graph.add_rule(eql(SEQUENCE, from_="now-5m"))
    graph.add_rule(new_terms(from_="now-5m", history_window_start="now-10m"))
    graph.work()
    sent(graph, "12:03", 1)
    sent(graph, "12:04", 2, verb="delete")
    run_at(graph, "12:05", "12:10", "12:15", "12:20")
    sent(graph, "12:21", 1)
    sent(graph, "12:22", 2, verb="delete")
    run_at(graph, "12:25", "12:30")
    assert wholes(graph) == [*[("12:03:00", None)] * 2, *[("12:21:00", None)] * 2]


def test_a_sequence_is_one_whichever_acts_stand_beside_it(graph: Graph) -> None:
    """An event whose Audit-ID was another's is found again when that one is out of reach."""
    graph.add_rule(eql(SEQUENCE, from_="now-8m"))
    graph.work()
    sent(graph, "12:06", 1, user="bob")
    sent(graph, "12:09", 1)
    sent(graph, "12:09:10", 2, verb="delete")
    run_at(graph, "12:10", "12:15", "12:20")
    assert len(graph.alerts()) == 3
