"""Watchdogs: raised when something begins, said again when it lasts, closed when it is over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from service_graph import CLUSTER, SECOND_US, Graph, Wall, audit, audits, rule_of, wait_until

from barrelman.service.watchdogs import (
    ClusterSight,
    Sight,
    SinkSight,
    WatchdogOptions,
    Watchdogs,
)
from barrelman.store import alerts as alerts_table
from barrelman.store.alerts import StoredAlert

QUIET_DISK: dict[str, Any] = {"disk_free_percent": 0.0, "disk_free_bytes": 0}


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    with Graph(tmp_path / "data") as made:
        yield made.open_up()


class Lookout:
    """Watchdogs that see what they are shown."""

    def __init__(self, graph: Graph, **options: Any) -> None:
        self.graph = graph
        self.options = WatchdogOptions(**{**QUIET_DISK, **options})
        self.sight = Sight(now_us=graph.wall())
        self.dogs = self._made()

    def _made(self) -> Watchdogs:
        service = self.graph.service
        return Watchdogs(
            service.database,
            service.alerting,
            options=self.options,
            look=lambda: self.sight,
            started_us=self.sight.now_us,
        )

    def restart(self) -> None:
        self.dogs = self._made()

    def check(self, *, after: float = 0.0, **seen: Any) -> list[str]:
        """The watches that are active after another look, some seconds later."""
        now_us = self.sight.now_us + round(after * SECOND_US)
        self.sight = replace(self.sight, now_us=now_us, **seen)
        self.dogs.check()
        return sorted(f"{each.kind}:{each.subject}" for each in self.dogs.active())

    def cluster(self, *, after: float, **seen: Any) -> list[str]:
        return self.check(after=after, clusters={CLUSTER: ClusterSight(**seen)})

    def alerts(self) -> list[StoredAlert]:
        return sorted(self.graph.alerts(kinds=["watchdog"]), key=lambda each: each.created_us)

    def statuses(self) -> list[str]:
        return [each.status for each in self.alerts()]


def test_nothing_to_see(graph: Graph) -> None:
    assert Lookout(graph).check() == []
    assert graph.alerts() == []


# --- clusters ----------------------------------------------------------------------------------


def test_a_silent_cluster(graph: Graph) -> None:
    lookout = Lookout(graph)
    heard = lookout.sight.now_us
    seen = {"last_arrival_us": heard, "heard_us": heard}
    assert lookout.cluster(after=899, **seen) == []
    assert lookout.cluster(after=1, **seen) == [f"silent:{CLUSTER}"]
    assert lookout.cluster(after=5, **seen) == [f"silent:{CLUSTER}"]
    (alert,) = lookout.alerts()
    document = json.loads(alert.document)
    assert (alert.severity, alert.cluster, alert.status) == ("high", CLUSTER, "open")
    assert alert.rule_name == "Cluster Gone Silent"
    assert "no event from 'harbour' for 15 min" in document["kibana.alert.reason"]
    assert document["kibana.alert.uuid"] == alert.id
    assert document["orchestrator"]["cluster"]["name"] == CLUSTER
    heard = lookout.sight.now_us + 5 * SECOND_US
    assert lookout.cluster(after=6, last_arrival_us=heard, heard_us=heard) == []
    assert lookout.statuses() == ["closed"]
    history = graph.service.database.read(lambda c: alerts_table.history(c, alert.id))
    assert ("barrelman", "status", "closed") in {(h.by, h.what, h.after) for h in history}
    assert lookout.cluster(after=900, last_arrival_us=heard, heard_us=heard) != []
    assert lookout.statuses() == ["closed", "open"]


def test_silence_is_counted_from_the_start_and_only_of_who_was_ever_heard(graph: Graph) -> None:
    lookout = Lookout(graph)
    before = lookout.sight.now_us - 10 * 86_400 * SECOND_US
    clusters = {
        "old": ClusterSight(last_arrival_us=before),
        "expected": ClusterSight(is_expected=True),
        "refused-only": ClusterSight(refused=1),
    }
    assert lookout.check(after=899, clusters=clusters) == []
    assert lookout.check(after=1, clusters=clusters) == ["silent:expected", "silent:old"]
    reasons = {a.cluster: json.loads(a.document)["kibana.alert.reason"] for a in lookout.alerts()}
    assert "none ever came" in reasons["expected"]


def test_a_cluster_may_be_silent_for_as_long_as_it_may(graph: Graph) -> None:
    lookout = Lookout(graph, silent_after={"slow": 3600.0, "never": 0.0}, silent_after_seconds=60)
    clusters = {name: ClusterSight(is_expected=True) for name in ("slow", "never", "other")}
    assert lookout.check(after=61, clusters=clusters) == ["silent:other"]
    assert lookout.check(after=3600, clusters=clusters) == ["silent:other", "silent:slow"]


def test_a_restart_neither_ends_nor_repeats_a_silence(graph: Graph) -> None:
    lookout = Lookout(graph)
    heard = lookout.sight.now_us
    lookout.cluster(after=1000, last_arrival_us=heard, heard_us=heard)
    clusters = {
        CLUSTER: ClusterSight(last_arrival_us=heard),
        "expected": ClusterSight(is_expected=True),
    }
    lookout.check(clusters=clusters)
    before = lookout.statuses()
    assert before == ["open", "open"]
    lookout.restart()
    for seconds in (0, 5, 60, 120, 3600):
        # The store may take the end of a whole segment for a cluster's last word.
        late = replace(clusters[CLUSTER], last_arrival_us=lookout.sight.now_us)
        active = lookout.check(after=seconds, clusters={**clusters, CLUSTER: late})
        assert active == [f"silent:{CLUSTER}", "silent:expected"] or active == [
            *("silent:expected", f"silent:{CLUSTER}")
        ]
    assert lookout.statuses() == before
    now = lookout.sight.now_us
    lookout.check(after=1, clusters={CLUSTER: ClusterSight(last_arrival_us=now, heard_us=now)})
    assert lookout.statuses() == ["closed", "closed"]


@pytest.mark.parametrize(("kind", "most"), [("refused", 30), ("malformed", 60)])
def test_a_steady_rate_above_the_bound_is_one_alert(graph: Graph, kind: str, most: int) -> None:
    """Looked at every five seconds for ten minutes."""
    lookout = Lookout(graph)
    states = []
    for step in range(120):
        count = int(step * 5 * most * 1.2 / 60)
        states.append(lookout.cluster(after=5, **{kind: count}))
    assert states[-1] == [f"{kind}:{CLUSTER}"]
    began = states.index([f"{kind}:{CLUSTER}"])
    assert began <= 12
    assert all(state == [f"{kind}:{CLUSTER}"] for state in states[began:])
    assert lookout.statuses() == ["open"]
    for _ in range(15):
        last = lookout.cluster(after=5, **{kind: count})
    assert last == []
    assert lookout.statuses() == ["closed"]


@pytest.mark.parametrize(("kind", "most"), [("refused", 30), ("malformed", 60)])
def test_a_rate_below_the_bound_is_none(graph: Graph, kind: str, most: int) -> None:
    lookout = Lookout(graph)
    for step in range(120):
        assert lookout.cluster(after=5, **{kind: int(step * 5 * most * 0.9 / 60)}) == []


def test_a_burst_is_seen_at_the_next_look(graph: Graph) -> None:
    lookout = Lookout(graph)
    lookout.cluster(after=5, refused=0)
    assert lookout.cluster(after=5, refused=40) == [f"refused:{CLUSTER}"]
    reason = json.loads(lookout.alerts()[0].document)["kibana.alert.reason"]
    assert "40 requests were refused in a minute" in reason


def test_skew_of_a_cluster_and_of_this_machine(graph: Graph) -> None:
    lookout = Lookout(graph)
    now = lookout.sight.now_us
    ahead = now + 400 * SECOND_US
    assert lookout.cluster(after=0, last_event_us=now + 299 * SECOND_US) == []
    assert lookout.cluster(after=0, last_event_us=ahead) == [f"skew:{CLUSTER}"]
    assert lookout.cluster(after=0, last_event_us=now) == []
    assert lookout.check(clock_ahead_us=300 * SECOND_US) == ["skew:"]
    assert lookout.check(clock_ahead_us=0) == []
    assert lookout.statuses() == ["closed", "closed"]


# --- the machine, rules, sinks -----------------------------------------------------------------


def test_a_disk_nearly_full(graph: Graph) -> None:
    lookout = Lookout(graph, disk_free_percent=10.0, disk_free_bytes=1 << 30)
    total = 100 << 30
    for free, active in (
        (10 << 30, []),
        ((10 << 30) - 1, ["disk:"]),
        (11 << 30, []),
    ):
        seen = lookout.check(disk_total_bytes=total, disk_free_bytes=free)
        assert seen == active
    small = lookout.check(disk_total_bytes=2 << 30, disk_free_bytes=(1 << 30) - 1)
    assert small == ["disk:"], "half of it is free, and yet too little"


def test_rules_that_fail_or_are_always_capped(graph: Graph) -> None:
    lookout = Lookout(graph)
    assert lookout.check(streaks={"u": ("Rule", 2, 5)}) == []
    assert lookout.check(streaks={"u": ("Rule", 3, 6)}) == ["capped:u", "failing:u"]
    assert lookout.check(streaks={"u": ("Rule", 4, 0)}) == ["failing:u"]
    assert lookout.check(streaks={}) == []
    reasons = [json.loads(each.document)["kibana.alert.reason"] for each in lookout.alerts()]
    assert any("last 3 runs of 'Rule' failed" in each for each in reasons)


def test_a_rule_that_has_more_groups_than_it_may_hold(graph: Graph) -> None:
    lookout = Lookout(graph)
    assert lookout.check(crowded={"u": ("Rule", 1234)}) == ["crowded:u"]
    (alert,) = lookout.alerts()
    assert alert.rule_name == "Rule State Full"
    assert "'Rule' let go of 1,234 groups" in alert.document
    assert lookout.check(crowded={}) == []
    assert lookout.statuses() == ["closed"]


def test_late_runs_sinks_losses_and_parts_that_stall(graph: Graph) -> None:
    lookout = Lookout(graph)
    assert lookout.check(late_ms=299_999, sinks={"slack": SinkSight(899, 0, "refused")}) == []
    assert lookout.check(
        late_ms=300_000,
        sinks={"slack": SinkSight(900, 0, "refused")},
        faults=["a.zst: 3 events are broken"],
        stalled={"detector": "disk full"},
        files={CLUSTER: "/var/log/audit.log cannot be read"},
    ) == [f"files:{CLUSTER}", "late:", "loss:3c0f5fb5fd77", "sink:slack", "stalled:detector"]
    assert {each.severity for each in lookout.alerts()} == {"high", "critical"}


def test_each_loss_is_heard_of(graph: Graph) -> None:
    lookout = Lookout(graph)
    assert len(lookout.check(faults=["a.zst: 3 events are broken"])) == 1
    assert len(lookout.check(faults=["a.zst: 3 events are broken", "b.zst: gone"])) == 2
    assert len(lookout.alerts()) == 2


def test_alerts_that_a_sink_gave_up_are_heard_of_though_none_waits(graph: Graph) -> None:
    lookout = Lookout(graph)
    assert lookout.check(sinks={"hook": SinkSight(0.0, 2, "answered 400")}) == ["sink:hook"]
    (alert,) = lookout.alerts()
    assert "gave up 2 alerts: answered 400" in json.loads(alert.document)["kibana.alert.reason"]
    assert lookout.check(sinks={}) == []


def test_a_clock_that_was_put_forward_is_told(graph: Graph) -> None:
    lookout = Lookout(graph)
    assert lookout.check(clock_jumped_us=299 * SECOND_US) == []
    assert lookout.check(clock_jumped_us=3600 * SECOND_US) == ["skew:forward"]
    (alert,) = lookout.alerts()
    assert alert.cluster == ""


def test_0_switches_a_watch_off(graph: Graph) -> None:
    lookout = Lookout(
        graph,
        silent_after_seconds=0,
        refused_per_minute=0,
        malformed_per_minute=0,
        clock_skew_seconds=0,
        failed_runs=0,
        capped_runs=0,
        late_seconds=0,
        sink_seconds=0,
    )
    far = lookout.sight.now_us * 2
    assert (
        lookout.check(
            after=10**6,
            clusters={
                CLUSTER: ClusterSight(
                    last_arrival_us=1, last_event_us=far, refused=10**6, malformed=10**6
                )
            },
            clock_ahead_us=far,
            disk_total_bytes=1 << 40,
            disk_free_bytes=0,
            late_ms=10**9,
            streaks={"u": ("Rule", 99, 99)},
            sinks={"slack": SinkSight(10**6, 0, "refused")},
        )
        == []
    )


# --- what lasts --------------------------------------------------------------------------------


def test_what_lasts_is_said_again_and_all_of_it_closed_when_it_ends(graph: Graph) -> None:
    lookout = Lookout(graph, repeat_seconds=3600)
    for _ in range(12 * 60 + 2):  # an hour, looked at every five seconds
        lookout.check(after=5, stalled={"detector": "disk full"})
    assert lookout.statuses() == ["open", "open"]
    lookout.check(after=3600, stalled={"detector": "disk full"})
    assert lookout.statuses() == ["open"] * 3
    lookout.check(after=5, stalled={})
    assert lookout.statuses() == ["closed"] * 3
    assert len({each.id for each in lookout.alerts()}) == 3


def test_0_says_nothing_again(graph: Graph) -> None:
    lookout = Lookout(graph, repeat_seconds=0)
    for _ in range(50):
        lookout.check(after=3600, stalled={"detector": "disk full"})
    assert len(lookout.alerts()) == 1


def test_what_someone_closed_stays_as_they_closed_it(graph: Graph) -> None:
    lookout = Lookout(graph)
    lookout.check(stalled={"detector": "disk full"})
    (alert,) = lookout.alerts()
    graph.service.database.write(
        lambda c: alerts_table.change(
            c, [alert.id], by="eve", at_us=1, status="closed", reason="false_positive"
        )
    )
    lookout.check(after=5, stalled={"detector": "disk full"})
    lookout.check(after=5, stalled={})
    (alert,) = lookout.alerts()
    assert (alert.status, alert.status_by, alert.reason) == ("closed", "eve", "false_positive")


def test_a_restart_raises_nothing_twice_and_closes_nothing_too_soon(graph: Graph) -> None:
    lookout = Lookout(graph)
    seen = {"sinks": {"slack": SinkSight(1000.0, 0, "refused")}, "streaks": {"u": ("Rule", 5, 0)}}
    lookout.check(after=1, **seen)
    assert lookout.statuses() == ["open", "open"]
    lookout.restart()
    lookout.check(after=1, sinks={}, streaks={"u": ("Rule", 5, 0)})
    lookout.check(after=30, **seen)
    assert lookout.statuses() == ["open", "open"]
    lookout.restart()
    for _ in range(30):
        lookout.check(after=5, sinks={}, streaks={})
    assert lookout.statuses() == ["closed", "closed"]


def test_what_began_after_the_start_is_closed_at_once(graph: Graph) -> None:
    lookout = Lookout(graph)
    lookout.check(after=1, stalled={"detector": "x"})
    lookout.check(after=1, stalled={})
    assert lookout.statuses() == ["closed"]


# --- in a service ------------------------------------------------------------------------------


def test_alerts_of_watchdogs_go_to_sinks_like_others(tmp_path: Path) -> None:
    options = WatchdogOptions(**QUIET_DISK, silent_after_seconds=60)
    with Graph(tmp_path / "data", watchdogs=options) as graph:
        graph.start()
        graph.take([audit(1)])
        graph.wall.pass_(seconds=61)
        graph.service.watchdogs.check()
        wait_until(lambda: len(graph.delivered()) == 1)
        assert graph.delivered()[0]["kibana.alert.rule.name"] == "Cluster Gone Silent"
        graph.take([audit(2)])
        graph.service.watchdogs.check()
        assert [each.status for each in graph.alerts()] == ["closed"]
        assert graph.service.numbers().watches == 0


def test_a_service_sees_clusters_rules_and_clocks(tmp_path: Path) -> None:
    options = WatchdogOptions(**QUIET_DISK, capped_runs=2)
    wall = Wall()
    with Graph(
        tmp_path / "data", wall=wall, watchdogs=options, expected_clusters=["expected"]
    ) as graph:
        graph.open_up()
        graph.add_rule(max_signals=1)
        graph.add_rule(rule_of("broken", query="user.name:("))
        for number in range(3):
            graph.take([*audits(range(10 * number, 10 * number + 3)), 1, 2, 3])
            wall.pass_(seconds=300)
            graph.work()
        graph.service.note_refused(CLUSTER, "wrong key")
        graph.take([audit(99, at_us=wall() + 3600 * SECOND_US)])
        graph.service.watchdogs.check()
        kinds = sorted(each.kind for each in graph.service.watchdogs.active())
        assert kinds == ["capped", "failing", "silent", "skew"]
        # One event with a wrong clock does not warn for ever.
        for number in range(3):
            wall.pass_(seconds=301)
            graph.take([audit(200 + number, at_us=wall())])
        graph.service.watchdogs.check()
        assert "skew" not in {each.kind for each in graph.service.watchdogs.active()}


def test_a_store_that_fails_is_warned_of(tmp_path: Path) -> None:
    with Graph(tmp_path / "data") as graph:
        graph.start()
        graph.service.intake.fault = "no space left on device"
        graph.service.watchdogs.check()
        (watch,) = graph.service.watchdogs.active()
        assert (watch.kind, watch.subject) == ("stalled", "writer")
