"""Live judging: as a scan would have it, once for each event and rule, whatever happens between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_graph import (
    CLUSTER,
    START_US,
    Graph,
    Wall,
    at,
    audit,
    audits,
    in_pieces,
    rule_of,
    wait_until,
)

from barrelman.service.detector import JUDGED
from barrelman.store import meta

SAMPLE = Path(__file__).parents[2] / "examples" / "audit.log"
RULES: list[dict[str, Any]] = [
    rule_of("secrets"),
    rule_of("by-eve", query="user.name:eve and not event.action:list"),
    rule_of("refused", query="kubernetes.audit.responseStatus.code >= 400"),
    rule_of("from-outside", query="not source.ip:10.0.0.0/8"),
    rule_of("host-ipc", query="kubernetes.audit.requestObject.spec.hostIPC:true"),
    rule_of("bodies", query="kubernetes.audit.requestObject.spec.containers.image:*nginx*"),
    rule_of("never", query="event.action:flies"),
    rule_of("anything", query="*:*"),
    rule_of("documents-only", index=["logs-other-*"], query="event.action:get"),
]


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    with Graph(tmp_path / "data") as made:
        yield made


def sample() -> list[dict[str, Any]]:
    found = []
    for line in SAMPLE.read_bytes().splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and value.get("kind") == "Event":
            found.append(value)
    return found


# --- equal to a scan ---------------------------------------------------------------------------


def test_live_alerts_are_those_of_a_scan(graph: Graph) -> None:
    graph.start()
    for rule in RULES:
        graph.add_rule(rule | {"max_signals": 1000})
    events = sample()
    events += [audit(n, user=None) for n in range(3)]
    events += [audit(10 + n, user={"username": ["eve", "adam"]}) for n in range(3)]
    for some in in_pieces(events, 97):
        graph.take(some)
    graph.judged()
    expected = graph.scanned(events)
    assert len(expected) > 300
    assert graph.ids() == expected
    assert {each.kind for each in graph.alerts()} == {"live"}


def test_what_comes_as_lines_and_in_wrappers_is_judged_alike(graph: Graph) -> None:
    graph.start()
    for rule in RULES:
        graph.add_rule(rule)
    events = audits(range(6))
    wrapped: list[Any] = [
        events[0],
        {"log": json.dumps(events[1]), "stream": "stdout"},
        {"kind": "EventList", "items": [events[2]]},
        {"time": "2026-11-23T12:00:00Z", "properties": {"log": json.dumps(events[3])}},
        json.loads(json.dumps(events[4])),
        dict(reversed(events[5].items())),
    ]
    assert graph.take(wrapped, is_list=False).stored == 6
    graph.judged()
    assert graph.ids() == graph.scanned(events)


def test_an_alert_tells_of_its_run_its_time_and_its_cluster(graph: Graph) -> None:
    graph.wall.go_to("12:03:02")
    graph.start()
    uuid = graph.add_rule(name="Secrets", severity="high", risk_score=73)
    graph.take([audit(1, at_us=at("09:00"))])
    (alert,) = graph.judged().alerts()
    document = json.loads(alert.document)
    assert (alert.tick_ms, alert.created_us) == (at("12:05") // 1000, at("12:03:02"))
    assert (alert.rule_uuid, alert.severity, alert.risk_score) == (uuid, "high", 73)
    assert (alert.cluster, alert.event_time_us) == (CLUSTER, at("09:00"))
    assert document["kibana.alert.uuid"] == alert.id
    assert document["@timestamp"] == "2026-11-23T12:03:02.000Z"
    assert document["kibana.alert.original_time"] == "2026-11-23T09:00:00.000Z"
    assert document["kibana.alert.rule.uuid"] == uuid
    assert document["kibana.alert.rule.execution.type"] == "scheduled"
    assert document["orchestrator"]["cluster"]["name"] == CLUSTER
    wait_until(lambda: len(graph.delivered()) == 1)


def test_a_query_that_asks_the_time_is_left_to_its_runs(graph: Graph) -> None:
    graph.start()
    graph.add_rule(query="@timestamp >= now-1h")
    graph.take(audits(range(3)))
    assert graph.judged().alerts() == []


# --- the cap -----------------------------------------------------------------------------------


def test_above_the_cap_it_is_first_come_and_the_later_run_takes_what_it_reads_too(
    graph: Graph,
) -> None:
    """At 12:04:30 only the run of 12:05 and that of 12:10 (from 12:04) read what arrives."""
    graph.wall.go_to("12:02")
    graph.start()
    graph.add_rule(max_signals=3)
    graph.take(audits(range(5)))
    graph.judged()
    assert graph.numbers() == [0, 1, 2], "only the run of 12:05 reads it"
    graph.wall.go_to("12:04:30")
    graph.take(audits(range(10, 15)))
    graph.judged()
    assert graph.numbers() == [0, 1, 2, 10, 11, 12]
    ticks = Counter(each.tick_ms for each in graph.alerts())
    assert ticks == {at("12:05") // 1000: 3, at("12:10") // 1000: 3}
    graph.wall.go_to("12:06")
    graph.take(audits(range(20, 23)))
    graph.judged()
    assert graph.numbers() == [0, 1, 2, 10, 11, 12], "the run of 12:10 is full"
    assert graph.service.detector.capped == 2 + 2 + 3


def test_many_matches_of_one_commit_meet_the_cap(graph: Graph) -> None:
    graph.start()
    graph.add_rule(max_signals=300)
    graph.add_rule(rule_of("second", max_signals=10))
    graph.take(audits(range(1000)))
    graph.judged()
    assert Counter(each.rule_id for each in graph.alerts()) == {"secrets": 300, "second": 10}
    assert graph.service.detector.matches == 2000
    assert graph.service.detector.capped == 700 + 990


def test_a_cap_holds_over_a_restart(tmp_path: Path) -> None:
    with Graph(tmp_path / "data") as graph:
        graph.start()
        graph.add_rule(max_signals=5)
        graph.take(audits(range(3)))
        graph.judged()
        after = graph.stopped().start()
        after.take(audits(range(10, 15)))
        after.judged()
        assert after.numbers() == [0, 1, 2, 10, 11]


def test_the_services_own_cap_holds_for_all(tmp_path: Path) -> None:
    with Graph(tmp_path / "data", most_signals=4) as graph:
        graph.start()
        graph.add_rule(max_signals=100)
        graph.take(audits(range(10)))
        assert len(graph.judged().alerts()) == 4


# --- never twice -------------------------------------------------------------------------------


def test_second_deliveries_and_restarts_make_no_second_alert(tmp_path: Path) -> None:
    with Graph(tmp_path / "data") as graph:
        graph.start()
        graph.add_rule()
        for _ in range(3):
            graph.take(audits(range(5)))
        first = graph.judged().ids()
        assert len(first) == 5
        after = graph.stopped().start()
        after.take(audits(range(5)))
        assert after.judged().ids() == first
        after.service.stop(grace_seconds=5)
        assert Counter(each["kibana.alert.uuid"] for each in graph.delivered()) == dict.fromkeys(
            first, 1
        )
        after._is_over = True


def test_an_act_under_a_used_id_is_another_act(graph: Graph) -> None:
    """A client may choose its Audit-ID: a harmless act that comes first must hide no later one."""
    graph.start()
    graph.add_rule()
    acts = [audit(1), audit(1, verb="delete")]
    assert graph.take(acts).stored == 2
    assert len(graph.judged().ids()) == 2
    assert graph.take(acts).stored == 0
    assert graph.take([audit(1, verb="list")]).stored == 1
    assert len(graph.judged().ids()) == 3
    graph.wall.go_to("12:06")
    graph.service.scheduler.wake()
    wait_until(lambda: [run for run in graph.runs() if run.matches == 3])
    assert len(graph.ids()) == 3, "the run knows all of them"


def test_an_edit_makes_no_second_alert_and_counts_at_once(graph: Graph) -> None:
    graph.start()
    uuid = graph.add_rule()
    graph.take(audits(range(3)))
    first = graph.judged().ids()
    graph.service.rules.patch({"id": uuid, "severity": "critical"}, by="test")
    graph.take([*audits(range(3)), audit(7)])
    alerts = graph.judged().alerts()
    assert {each.id for each in alerts} > first
    assert [each.severity for each in alerts] == ["medium"] * 3 + ["critical"]
    graph.service.rules.patch({"id": uuid, "enabled": False}, by="test")
    graph.take([audit(8)])
    graph.judged()
    graph.service.rules.patch({"id": uuid, "enabled": True}, by="test")
    graph.take([audit(9)])
    assert graph.judged().numbers() == [0, 1, 2, 7, 9]


# --- after a kill ------------------------------------------------------------------------------


def test_what_was_stored_and_not_judged_is_judged_at_start(graph: Graph) -> None:
    graph.open_up()
    graph.add_rule()
    graph.take(audits(range(500)))
    after = graph.killed().start()
    assert len(after.judged().alerts()) == 100
    assert after.service.detector.read_back == 500


def test_a_kill_between_alerts_and_note_doubles_nothing(graph: Graph) -> None:
    graph.start()
    graph.add_rule()
    graph.take(audits(range(5)))
    first = graph.judged().ids()
    graph.service.database.write(lambda c: meta.put(c, JUDGED, "0"))
    after = graph.killed().start()
    assert after.judged().ids() == first


def test_a_note_beyond_what_is_stored_hides_nothing_that_comes(graph: Graph) -> None:
    """As when the events were restored from an older copy than the database."""
    graph.open_up()
    graph.add_rule()
    graph.take(audits(range(2)))
    graph.service.database.write(lambda c: meta.put(c, JUDGED, "1000"))
    after = graph.killed().start()
    after.take(audits(range(10, 13)))
    assert set(after.judged().numbers()) >= {10, 11, 12}


def test_live_that_was_off_and_is_on_again_misses_nothing(graph: Graph) -> None:
    graph.start()
    graph.add_rule()
    graph.take(audits(range(2)))
    graph.judged()
    quiet = graph.but(is_live=False).stopped().start()
    quiet.take(audits(range(10, 12)))
    assert quiet.numbers() == [0, 1]
    after = quiet.but(is_live=True).stopped().start()
    assert after.judged().numbers() == [0, 1, 10, 11]
    after.stop()


def test_what_it_falls_behind_with_it_reads_from_the_store(graph: Graph) -> None:
    """More than its queue holds, before it begins: each is judged, once, in order."""
    graph.open_up()
    graph.add_rule(max_signals=1000)
    for some in in_pieces(audits(range(400), requestObject={"data": "x" * 100_000}), 100):
        graph.take(some)
    assert graph.service.detector.behind == 400
    graph.service.detector.start()
    graph.judged()
    assert sorted(graph.numbers()) == list(range(400))
    assert 0 < graph.service.detector.read_back < 400
    assert graph.service.detector.matches == 400


KILLED = """
import os, sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from service_graph import Graph, audits, in_pieces, rule_of

graph = Graph(Path(sys.argv[1])).start()
graph.add_rule(rule_of(max_signals=1000))
graph.add_rule(rule_of("second", max_signals=1000))
for number, some in enumerate(in_pieces(audits(range(100_000)), 5)):
    graph.take(some)
    print(number, flush=True)
    if number == 190:
        time.sleep(60)
"""


def test_kill_9_loses_no_event_and_doubles_no_alert(tmp_path: Path) -> None:
    acknowledged = 40
    data = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(data), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == acknowledged:
            break
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    process.stdout.close()
    with Graph(data) as graph:
        stored = graph.service.events.next_seq
        assert stored >= (acknowledged + 1) * 5
        graph.start().judged()
        graph.stop()
        delivered = Counter(each["kibana.alert.uuid"] for each in graph.delivered())
        assert len(delivered) == 2 * stored
        assert set(delivered.values()) == {1}


# --- trouble -----------------------------------------------------------------------------------


def test_a_database_that_fails_is_waited_for(graph: Graph) -> None:
    """Judging stops where alerts cannot be kept, says so, and goes on from there."""
    graph.start()
    graph.add_rule()
    detector = graph.service.detector
    with graph.service.database.reading():
        graph.service.database.write(
            lambda c: c.exec_driver_sql("ALTER TABLE alert_documents RENAME TO hidden") and None
        )
    graph.take(audits(range(3)))
    wait_until(lambda: detector.fault is not None)
    assert detector.behind == 3
    assert graph.service.health().notes
    graph.service.database.write(
        lambda c: c.exec_driver_sql("ALTER TABLE hidden RENAME TO alert_documents") and None
    )
    assert graph.judged().numbers() == [0, 1, 2]
    wait_until(lambda: detector.fault is None)


def test_events_of_the_wildest_kind_stop_nobody(graph: Graph) -> None:
    wild: list[Any] = [
        None, 1 << 70, 1.5, True, "\ud83d", "\0", [], {}, [[]], [None], {"a": [{"b": None}]},
        "x" * 50_000, {"": {"": ""}}, {"kibana.alert.uuid": 7}, "9998-12-31T23:59:59.999999Z",
        "0001-01-01T00:00:00Z",
    ]  # fmt: skip
    names = [
        "auditID", "stage", "level", "verb", "user", "objectRef", "annotations", "sourceIPs",
        "responseStatus", "requestURI", "stageTimestamp", "requestReceivedTimestamp",
        "requestObject", "userAgent", "kibana", "impersonatedUser", "responseObject", "event",
    ]  # fmt: skip
    events = [
        audit(1000 * place + number) | {name: value}
        for place, name in enumerate(names)
        for number, value in enumerate(wild)
    ]
    deep: Any = "end"
    for _ in range(400):
        deep = {"a": [deep]}
    events.append(audit(999_999, requestObject=deep))
    graph.start()
    graph.add_rule(query="*:*", max_signals=1000)
    graph.add_rule(
        rule_of(
            "overridden",
            query="*:*",
            max_signals=1000,
            rule_name_override="user.name",
            severity_mapping=[
                {"field": "event.action", "operator": "equals", "value": "get", "severity": "low"}
            ],
            risk_score_mapping=[
                {"field": "kubernetes.audit.responseStatus.code", "operator": "equals", "value": ""}
            ],
        )
    )
    for some in in_pieces(events, 50):
        graph.take(some)
    graph.judged()
    assert graph.service.detector.fault is None
    assert graph.ids() == graph.scanned(events)
    assert len(graph.ids()) > 500


def test_time_that_is_set_back_doubles_and_loses_nothing(tmp_path: Path) -> None:
    wall = Wall(START_US)
    with Graph(tmp_path / "data", wall=wall) as graph:
        graph.start()
        graph.add_rule()
        graph.take(audits(range(2)))
        wall.pass_(seconds=-3 * 86_400)
        graph.take(audits(range(5)))
        wall.pass_(seconds=30 * 86_400)
        graph.take(audits(range(7)))
        graph.judged()
        assert graph.numbers() == list(range(7))
        arrivals = [us for frame in graph.service.events.frames() for us in frame.arrivals_us]
        assert arrivals == sorted(arrivals)
