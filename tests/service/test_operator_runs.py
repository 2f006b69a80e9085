"""Rules that need several events for an alert, or fold repeats, run by a service."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_graph import MINUTE_US, SECOND_US, Graph, JsonObject, at, audit
from service_rules import (
    GETS,
    SEQUENCE,
    docs_counts,
    documents,
    eql,
    graph_with_indicators,
    new_terms,
    run_at,
    scanned,
    sent,
    suppressed,
    threat_match,
    threshold,
    told,
    users,
)

from barrelman.service.alerting import RunKind
from barrelman.service.courses import Course, Operators
from barrelman.service.run import plan_run
from barrelman.store.alerts import StoredAlert


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    """Open at 12:02, nothing judged live; what is due is run by `work`."""
    with graph_with_indicators(tmp_path) as made:
        yield made.open_up()


def counts(graph: Graph) -> list[int]:
    return [each["kibana.alert.threshold_result"]["count"] for each in documents(graph)]


# --- threshold ----------------------------------------------------------------------------------


def test_a_group_alerts_when_its_run_comes(graph: Graph) -> None:
    graph.add_rule(threshold())
    graph.work()
    sent(graph, "12:03", 1, 2, 3)
    sent(graph, "12:04", 4, 5, user="bob")
    assert not graph.alerts()
    run_at(graph, "12:05")
    (alert,) = graph.alerts()
    (document,) = documents(graph)
    assert document["kibana.alert.threshold_result"]["terms"] == [
        {"field": "user.name", "value": "eve"}
    ]
    assert document["user.name"] == "eve"
    assert (alert.cluster, alert.kind, alert.tick_ms) == (
        "harbour",
        "scheduled",
        at("12:05") // 1000,
    )
    assert counts(graph) == [3]
    run = graph.runs()[-1]
    assert (run.matches, run.alerts, run.capped) == (5, 1, 0)
    assert [each["kibana.alert.uuid"] for each in graph.delivered()] in ([], [alert.id])


def test_what_was_counted_is_not_counted_again(graph: Graph) -> None:
    graph.add_rule(threshold(from_="now-9m"))
    graph.work()
    sent(graph, "12:03", 1, 2, 3)
    run_at(graph, "12:05")
    sent(graph, "12:06", 4, 5)
    run_at(graph, "12:10")
    assert counts(graph) == [3]
    sent(graph, "12:11", 6)
    run_at(graph, "12:15")
    assert counts(graph) == [3, 3], "4, 5 and 6"


@pytest.mark.parametrize("orderly", [True, False])
def test_nor_after_a_restart(graph: Graph, orderly: bool) -> None:
    graph.add_rule(threshold(from_="now-9m"))
    graph.work()
    sent(graph, "12:03", 1, 2, 3)
    run_at(graph, "12:05")
    sent(graph, "12:06", 4, 5)
    other = (graph.stopped() if orderly else graph.killed()).open_up()
    run_at(other, "12:10")
    assert counts(other) == [3]


def test_a_group_of_several_clusters_is_of_none(graph: Graph) -> None:
    graph.add_rule(threshold())
    graph.work()
    graph.take([audit(1), audit(2)], cluster="harbour")
    graph.take([audit(3)], cluster="bay")
    run_at(graph, "12:05")
    assert [each.cluster for each in graph.alerts()] == [""]


def test_a_run_by_hand_finds_what_was_found(graph: Graph) -> None:
    uuid = graph.add_rule(threshold())
    graph.work()
    sent(graph, "12:03", 1, 2, 3)
    run_at(graph, "12:05")
    graph.wall.go_to("12:20")
    graph.service.scheduler.run_range(
        uuid, start_ms=at("12:00") // 1000, end_ms=at("12:10") // 1000, by="test"
    )
    graph.work()
    assert counts(graph) == [3]
    manual = [run for run in graph.runs() if run.kind == "manual"]
    assert [run.metrics["known"] for run in manual] == [1, 0]


def test_what_was_missed_while_it_was_down_is_caught_up(graph: Graph) -> None:
    graph.add_rule(threshold())
    graph.work()
    sent(graph, "12:03", 1, 2, 3)
    graph.stopped().open_up()
    other = graph._made[-1]
    run_at(other, "12:21")
    assert counts(other) == [3]
    assert other.alerts()[0].tick_ms == at("12:05") // 1000
    assert {run.kind for run in other.runs()} == {"scheduled", "catch-up"}


def test_more_groups_than_the_cap_have_a_turn_later_or_are_told(graph: Graph) -> None:
    graph.add_rule(threshold(1, from_="now-5m", max_signals=2))
    graph.work()
    for number, user in enumerate("abcd"):
        sent(graph, "12:03", number, user=user)
    run_at(graph, "12:05")
    run = graph.runs()[-1]
    assert (run.alerts, run.capped, run.status) == (2, 2, "partial failure")


# --- new terms ----------------------------------------------------------------------------------


def test_what_is_new_alerts_once(graph: Graph) -> None:
    sent(graph, "12:02", 1)
    graph.add_rule(new_terms())
    run_at(graph, "12:05")
    assert users(graph) == ["eve"], "a service begins with no past"
    sent(graph, "12:06", 2)
    sent(graph, "12:07", 3, user="bob")
    run_at(graph, "12:10", "12:15")
    assert users(graph) == ["eve", "bob"]


def test_what_was_stored_before_the_rule_was_made_is_its_past(graph: Graph) -> None:
    sent(graph, "12:02", 1)
    sent(graph, "12:30", 2, user="bob")
    graph.wall.go_to("12:32")
    graph.add_rule(new_terms())
    run_at(graph, "12:35")
    sent(graph, "12:36", 3)
    run_at(graph, "12:40")
    assert users(graph) == ["bob"]


@pytest.mark.parametrize("orderly", [True, False])
def test_the_past_is_read_again_after_a_restart(graph: Graph, orderly: bool) -> None:
    graph.add_rule(new_terms())
    sent(graph, "12:03", 1)
    run_at(graph, "12:05", "12:10", "12:15")
    other = (graph.stopped() if orderly else graph.killed()).open_up()
    sent(other, "12:16", 2)
    sent(other, "12:17", 3, user="bob")
    run_at(other, "12:20", "12:25")
    assert users(other) == ["eve", "bob"]


def test_what_was_long_ago_is_new_again(graph: Graph) -> None:
    graph.add_rule(new_terms(history_window_start="now-20m"))
    sent(graph, "12:03", 1)
    run_at(graph, "12:05", "12:10", "12:15")
    sent(graph, "12:17", 2)
    run_at(graph, "12:20", "12:25", "12:30", "12:35", "12:40", "12:45")
    assert users(graph) == ["eve"], "it came back within its history"
    sent(graph, "12:48", 3)
    run_at(graph, "12:50")
    assert users(graph) == ["eve", "eve"]


def test_a_changed_rule_looks_at_the_past_anew(graph: Graph) -> None:
    uuid = graph.add_rule(new_terms())
    sent(graph, "12:03", 1)
    run_at(graph, "12:05")
    graph.service.rules.patch(
        {"id": uuid, "new_terms_fields": ["kubernetes.audit.verb"]}, by="test"
    )
    sent(graph, "12:06", 2)
    sent(graph, "12:07", 3, verb="delete")
    run_at(graph, "12:10")
    assert users(graph) == ["eve", "delete"]


def test_a_past_run_by_hand_knows_what_came_before_it_alone(graph: Graph) -> None:
    uuid = graph.add_rule(new_terms(enabled=True))
    sent(graph, "12:03", 1)
    run_at(graph, "12:05", "12:10")
    sent(graph, "12:11", 2, user="bob")
    run_at(graph, "12:15", "12:20")
    before = graph.ids()
    graph.service.scheduler.run_range(
        uuid, start_ms=at("12:00") // 1000, end_ms=at("12:15") // 1000, by="test"
    )
    graph.work()
    assert graph.ids() == before
    sent(graph, "12:21", 3)
    run_at(graph, "12:25")
    assert graph.ids() == before, "nor did that disturb what the scheduled runs know"


@pytest.mark.parametrize("kind", ["manual", "gap"])
def test_a_run_of_the_past_leaves_the_operator_that_lasts(graph: Graph, kind: RunKind) -> None:
    graph.add_rule(new_terms())
    (watcher,) = graph.service.rulebook.lineup.watchers
    assert watcher.operation is not None
    operator, operators = watcher.operation.make(), Operators()
    noon, later = at("12:00") // 1000, at("12:30") // 1000
    operators.put(watcher, operator, given_ms=noon, tick_ms=noon)
    for tick_ms in (noon, later):
        course = Course(watcher, [plan_run(watcher, tick_ms, kind)], operators=operators)
        assert course.operator is not operator
        course.finish()
        course.keep()
        course.close()
    assert operators.take(watcher, tick_ms=noon) is None, "it has run so far"
    assert operators.take(watcher, tick_ms=later) == (operator, noon)
    assert operators.take(watcher, tick_ms=later) is None, "it is out"


# --- sequences ----------------------------------------------------------------------------------


def of_groups(graph: Graph) -> list[tuple[StoredAlert, ...]]:
    alerts = graph.alerts()
    groups = dict.fromkeys(each.group_id for each in alerts)
    return [tuple(each for each in alerts if each.group_id == group) for group in groups]


def test_a_sequence_is_blocks_and_one_alert_that_counts(graph: Graph) -> None:
    graph.add_rule(eql(SEQUENCE, from_="now-10m"))
    graph.work()
    sent(graph, "12:03", 1)
    sent(graph, "12:04", 2, verb="delete")
    sent(graph, "12:04", 3, user="bob", verb="delete")
    run_at(graph, "12:05")
    ((*blocks, whole),) = [
        sorted(group, key=lambda a: not a.building_block) for group in of_groups(graph)
    ]
    assert [each.building_block for each in (*blocks, whole)] == [True, True, False]
    assert whole.id == whole.group_id
    run = graph.runs()[-1]
    assert (run.alerts, run.matches) == (1, 3)
    assert sum(graph.service.alerting.raised.values()) == 1
    run_at(graph, "12:10")
    assert len(graph.alerts()) == 3, "the run behind it finds it again"
    assert graph.runs()[-1].metrics["known"] == 1


def test_a_sequence_that_lies_in_no_window_as_a_whole_is_found_by_none(graph: Graph) -> None:
    graph.add_rule(eql(SEQUENCE, from_="now-5m"))
    graph.work()
    sent(graph, "12:04", 1)
    sent(graph, "12:06", 2, verb="delete")
    run_at(graph, "12:05", "12:10")
    assert not graph.alerts()


def test_a_single_event_of_eql_alerts_live(tmp_path: Path) -> None:
    query = 'any where kubernetes.audit.verb == "delete"'
    with Graph(tmp_path / "data") as graph:
        graph.add_rule(eql(query))
        graph.start()
        graph.take([audit(1), audit(2, verb="delete")])
        graph.judged()
        assert graph.numbers() == [2]
        assert [each.kind for each in graph.alerts()] == ["live"]


def test_and_is_known_to_the_run(graph: Graph) -> None:
    graph.add_rule(eql('any where kubernetes.audit.verb == "delete"'))
    graph.work()
    graph.service.detector.start()
    sent(graph, "12:03", 1, 2, verb="delete")
    graph.judged()
    run_at(graph, "12:05")
    run = graph.runs()[-1]
    assert (run.alerts, run.metrics["known"], run.matches) == (0, 2, 2)
    assert graph.numbers() == [1, 2]


def test_in_a_flood_live_judging_has_the_first_and_a_run_alone_the_newest(tmp_path: Path) -> None:
    for is_live, numbers in ((True, [1, 2]), (False, [4, 5])):
        with Graph(tmp_path / f"{is_live}", is_live=is_live) as graph:
            graph.open_up()
            graph.add_rule(eql('any where kubernetes.audit.verb == "delete"', max_signals=2))
            graph.work()
            if is_live:
                graph.service.detector.start()
            sent(graph, "12:03", 1, 2, 3, 4, 5, verb="delete")
            if is_live:
                graph.judged()
            run_at(graph, "12:05")
            assert graph.numbers() == numbers
            run = graph.runs()[-1]
            assert (run.matches, run.capped) == (5, 3)


@pytest.mark.parametrize("rule", [threshold(1), new_terms(), suppressed(), eql(SEQUENCE)])
def test_what_needs_more_than_an_event_waits_for_its_run(graph: Graph, rule: JsonObject) -> None:
    graph.add_rule(rule)
    graph.work()
    graph.service.detector.start()
    sent(graph, "12:03", 1)
    sent(graph, "12:04", 2, verb="delete")
    graph.judged()
    assert not graph.alerts()
    run_at(graph, "12:05")
    assert graph.alerts()


def test_acts_under_one_audit_id_are_two(graph: Graph) -> None:
    graph.add_rule(eql('any where kubernetes.audit.verb == "delete"'))
    graph.work()
    sent(graph, "12:03", 1, verb="delete")
    sent(graph, "12:04", 1, verb="delete", requestURI="/other")
    run_at(graph, "12:05")
    assert len(graph.alerts()) == 2
    sent(graph, "12:14", 1, verb="delete", requestURI="/third")
    run_at(graph, "12:15", "12:20")
    assert len(graph.alerts()) == 3


# --- what is told --------------------------------------------------------------------------------


def test_repeats_that_were_folded_are_counted(graph: Graph) -> None:
    graph.add_rule(suppressed("1h"))
    graph.work()
    sent(graph, "12:03", 1)
    run_at(graph, "12:05")
    sent(graph, "12:06", 2, 3)
    run_at(graph, "12:10")
    assert graph.service.numbers().folded == 1
    assert sum(graph.service.numbers().alerts.values()) == 1


# --- trouble ------------------------------------------------------------------------------------


def rename(graph: Graph, old: str, new: str) -> None:
    graph.service.database.write(
        lambda c: c.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}") and None
    )


@pytest.mark.parametrize("table", ["alert_documents", "runs"])
def test_a_pass_that_fails_is_done_again_whole(graph: Graph, table: str) -> None:
    """Whether its alerts were kept or not: no event is lost, and none counts twice."""
    graph.add_rule(threshold(from_="now-9m"))
    graph.add_rule(new_terms(from_="now-9m"))
    graph.add_rule(suppressed("1h", from_="now-9m"))
    graph.add_rule(eql(SEQUENCE, from_="now-9m"))
    graph.work()
    sent(graph, "12:03", 1, 2, 3)
    run_at(graph, "12:05")
    sent(graph, "12:06", 4, 5, user="bob")
    sent(graph, "12:07", 6, user="bob", verb="delete")
    sent(graph, "12:07", 7, verb="delete")
    with graph.service.database.reading():
        rename(graph, table, "hidden")
    graph.wall.go_to("12:11")
    for _ in range(2):
        with pytest.raises(Exception, match=table):
            graph.service.scheduler.work()
    rename(graph, "hidden", table)
    run_at(graph, "12:12", "12:15")
    assert sorted(counts_of(graph)) == [("bob", 3), ("eve", 3)]
    assert users(graph) == ["eve", "bob"]
    assert sorted(docs_counts(graph)) == [2, 3]
    assert sum(each.id == each.group_id for each in graph.alerts()) == 2


def counts_of(graph: Graph) -> list[tuple[str, int]]:
    results = [each.get("kibana.alert.threshold_result") for each in documents(graph)]
    return [(each["terms"][0]["value"], each["count"]) for each in results if each]


def test_a_run_that_is_stopped_in_the_middle_is_done_again(graph: Graph) -> None:
    graph.add_rule(new_terms())
    graph.work()
    sent(graph, "12:03", 1)
    graph.wall.go_to("12:06")
    graph.service.scheduler.stop()
    graph.service.scheduler.work()
    assert not graph.alerts()
    other = graph.stopped().open_up()
    run_at(other, "12:06")
    assert users(other) == ["eve"]


def test_events_of_the_wildest_kind_stop_no_operator(graph: Graph) -> None:
    wild: list[Any] = [
        *(None, 1 << 70, 1.5, True, "\ud83d", "\0", [], {}, [[]], [None], {"a": [{"b": None}]}),
        *("x" * 50_000, {"": {"": ""}}, ["a", 1, True, None, "\ud83d"], -0.0, ""),
    ]
    names = ["verb", "user", "objectRef", "sourceIPs", "responseStatus", "userAgent"]
    events = [
        audit(1000 * place + number, at_us=at("12:03")) | {name: value}
        for place, name in enumerate(names)
        for number, value in enumerate(wild)
    ]
    events += [
        audit(90_000 + number, at_us=at("12:03"), user={"username": value, "groups": value})
        for number, value in enumerate(wild)
    ]
    fields = ["kubernetes.audit.user.groups", "kubernetes.audit.verb", "user_agent.original"]
    for number, field in enumerate(fields):
        more: JsonObject = {"query": "*:*", "max_signals": 1000}
        folding = {"group_by": [field], "duration": {"value": 1, "unit": "h"}}
        made = [
            threshold(1, field, **more),
            new_terms(new_terms_fields=[field], **more),
            suppressed(**more) | {"alert_suppression": folding},
            eql(f"sequence by `{field}` [any where true] [any where true]"),
        ]
        for each in made:
            graph.add_rule(each | {"rule_id": f"{each['rule_id']} {number}"})
    graph.work()
    graph.wall.go_to("12:03")
    graph.take(events)
    run_at(graph, "12:05", "12:10")
    assert graph.service.scheduler.fault is None
    assert {run.status for run in graph.runs()} <= {"succeeded", "partial failure"}
    kinds = {each["kibana.alert.rule.type"] for each in documents(graph)}
    assert kinds == {"threshold", "new_terms", "query", "eql"}


FOLDED: JsonObject = {"group_by": ["kubernetes.audit.verb", "user.name"]}
FOLDED_FOR_LONG: JsonObject = FOLDED | {"duration": {"value": 12, "unit": "m"}}


# --- as a scan ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "rule",
    [
        threshold(3, from_="now-9m"),
        threshold(2, "user.name", "kubernetes.audit.verb", from_="now-5m"),
        new_terms(new_terms_fields=["user.name", "kubernetes.audit.verb"], from_="now-7m"),
        suppressed(from_="now-8m"),
        eql(SEQUENCE, from_="now-10m"),
        eql(GETS, from_="now-7m", alert_suppression=FOLDED),
        eql(GETS, from_="now-7m", alert_suppression=FOLDED_FOR_LONG),
        eql(SEQUENCE, from_="now-10m", alert_suppression=FOLDED),
        new_terms(
            new_terms_fields=["user.name", "kubernetes.audit.objectRef.namespace"],
            from_="now-7m",
            alert_suppression=FOLDED,
        ),
        threat_match(from_="now-7m", alert_suppression=FOLDED),
    ],
    ids=[
        *("threshold", "two fields", "new terms", "suppressed", "sequence", "folded events"),
        *("folded for long", "folded sequence", "folded new terms", "folded threats"),
    ],
)
def test_a_service_alerts_as_a_scan_does(graph: Graph, rule: JsonObject, seed: int) -> None:
    """Where events come when they happen, and whatever the process goes through."""
    chance = random.Random(seed)
    graph.add_rule(rule)
    graph.work()
    bodies: list[JsonObject] = []
    now = graph
    for number in range(60):
        if chance.random() < 0.1:
            now = now.killed().open_up()
        now.wall.now_us += round(chance.expovariate(1 / (45 * SECOND_US)))
        now.work()
        person = {"username": chance.choice(["eve", "bob", "ann"]), "groups": []}
        verb = chance.choice(["get", "get", "delete"])
        space = chance.choice("abcdefgh")
        place = {"resource": "secrets", "namespace": space, "name": "s"}
        body = audit(number, at_us=now.wall.now_us, user=person, verb=verb, objectRef=place)
        now.take([body])
        bodies.append(body)
    now.wall.now_us += 20 * MINUTE_US
    now.work()
    found = sorted(map(told, documents(now)))
    assert found == sorted(map(told, scanned(now, bodies)))
    assert found
