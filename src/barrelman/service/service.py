"""The service: its parts, wired together, started and stopped in order."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Protocol

from barrelman.errors import StoreError
from barrelman.records.frozen import frozen
from barrelman.service.alertdesk import AlertDesk
from barrelman.service.alerting import Alerting, Within
from barrelman.service.clock import Clock
from barrelman.service.courier import Courier
from barrelman.service.detector import Detector, judged_seq
from barrelman.service.exceptiondesk import ExceptionDesk
from barrelman.service.intake import Committed, Intake
from barrelman.service.keeper import Keeper, KeeperOptions
from barrelman.service.numbers import Health, Numbers
from barrelman.service.preview import Previews
from barrelman.service.rulebook import RuleBook
from barrelman.service.ruledesk import RuleDesk
from barrelman.service.rulesync import FileRules
from barrelman.service.scheduler import Scheduler
from barrelman.service.search import Search
from barrelman.service.watchdogs import (
    ClusterSight,
    Sight,
    SinkSight,
    WatchdogOptions,
    Watchdogs,
)
from barrelman.store import runs as runs_table
from barrelman.store.database import Database
from barrelman.store.events import EventStore
from barrelman.store.folder import DataFolder

if TYPE_CHECKING:
    from concurrent.futures import Future

_LOG = logging.getLogger("barrelman.service")


class Follows(Protocol):
    """What reads files into the intake."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def state(self) -> Any: ...


@frozen
class ServiceOptions:
    """How the service works; defaults are those of the configuration."""

    public_url: str | None = None
    is_live: bool = True
    fills_gaps: bool = True
    gap_days: float = 7.0
    redacts: bool = True
    most_signals: int = 1000
    max_bytes_in_flight: int = 128 * 1024 * 1024
    max_event_bytes: int = 16 * 1024 * 1024
    search_seconds: float = 60.0
    kept_days: float = 30.0
    """For how long events are kept; 0: for ever."""
    expected_clusters: Sequence[str] = ()
    watchdogs: WatchdogOptions = field(default_factory=WatchdogOptions)
    keeper: KeeperOptions = field(default_factory=KeeperOptions)


class Service:
    """Owns an open data folder, and closes it. `read_files`: what rule files hold at a moment."""

    def __init__(
        self,
        folder: DataFolder,
        database: Database,
        events: EventStore,
        courier: Courier,
        *,
        clock: Clock,
        options: ServiceOptions | None = None,
        read_files: Callable[[], FileRules] = FileRules,
    ) -> None:
        self.options = options or ServiceOptions()
        self.folder = folder
        self.database = database
        self.events = events
        self.courier = courier
        self.clock = clock
        self.started_us = clock.now_us()
        self.followers: list[Follows] = []
        self.is_running = False
        now = clock.now_us
        self.rulebook = RuleBook(
            database,
            clock=now,
            read_files=read_files,
            most_signals=self.options.most_signals,
            kept_ms=round(self.options.kept_days * 86_400_000) or None,
        )
        self.alerting = Alerting(
            database,
            enqueue=courier.enqueue,
            clock=now,
            public_url=self.options.public_url,
            redacts=self.options.redacts,
        )
        self.alerting.on_raised = lambda alerts: courier.wake()
        self.detector = Detector(
            events,
            self.alerting,
            lineup=lambda: self.rulebook.lineup,
            clock=now,
            next_seq=self._judged_seq(),
            note=self._write_soon,
            give_way=lambda: self.intake.give_way(),
        )
        self.intake = Intake(
            events,
            give=self.detector.give if self.options.is_live else _give_nobody,
            clock=now,
            max_bytes=self.options.max_bytes_in_flight,
            max_event_bytes=self.options.max_event_bytes,
        )
        self.scheduler = Scheduler(
            database,
            events,
            self.rulebook,
            self.alerting,
            clock=now,
            flush=self.intake.flush,
            give_way=self.intake.give_way,
            is_live=self.options.is_live,
            fills_gaps=self.options.fills_gaps,
            most_gap_ms=round(self.options.gap_days * 86_400_000),
        )
        self.search = Search(events, most_seconds=self.options.search_seconds, clock=now)
        self.previews = Previews(events, self.rulebook, most_seconds=self.options.search_seconds)
        self.rules = RuleDesk(
            database,
            clock=now,
            reload=self._reload,
            status_of=self.rulebook.status_of,
            run_range=self.scheduler.run_range,
            pack=self.rulebook.pack,
        )
        self.exceptions = ExceptionDesk(database, clock=now, reload=self._reload)
        self.alerts = AlertDesk(database, clock=now)
        self.watchdogs = Watchdogs(
            database,
            self.alerting,
            options=self.options.watchdogs,
            look=self._look,
            started_us=self.started_us,
        )
        self.keeper = Keeper(
            database,
            events,
            self.rulebook,
            courier,
            clock=clock.steady_us,
            options=self.options.keeper,
            watch=self.watchdogs.check,
            on_rules=self.scheduler.wake,
            in_writer=self.intake.do,
            unjudged=self._unjudged,
            backup=folder.database.with_name(f"{folder.database.name}.backup"),
        )

    # --- from start to stop ---

    def start(self) -> None:
        """Reads the rules, takes up what the last process left, and begins."""
        report = self.rulebook.sync()
        for note in report.notes:
            _LOG.warning("%s", note)
        self.courier.start()
        if self.options.is_live:
            self.detector.start()
        self.intake.start()
        self.scheduler.start()
        self.keeper.start()
        for follower in self.followers:
            follower.start()
        self.is_running = True

    def stop(self, *, grace_seconds: float = 20.0) -> None:
        """Takes nothing more in, settles what was taken, hands over alerts, closes the folder."""
        self.is_running = False
        for follower in self.followers:
            follower.stop()
        self.keeper.stop()
        self.intake.stop()
        self.scheduler.stop()
        self.detector.stop()
        self.courier.stop(grace_seconds)
        self.events.close()
        self.database.close()
        self.folder.close()

    # --- what it tells ---

    def health(self) -> Health:
        health = Health()
        reasons = health.reasons
        if not self.is_running:
            reasons.append("the service is starting or stopping")
        for name, part in self._parts():
            if not part.is_alive:
                reasons.append(f"the {name} has ended")
        if self.intake.fault is not None:
            reasons.append(f"events cannot be stored: {self.intake.fault}")
        if self.database.trouble is not None:
            reasons.append(f"the database cannot be written: {self.database.trouble}")
        health.notes += self.rulebook.notes
        health.notes += self.events.faults
        for follower in self.followers:
            state = follower.state()
            if state is not None:
                health.notes += state.problems
        for name, fault in (("detector", self.detector.fault), ("scheduler", self.scheduler.fault)):
            if fault is not None:
                health.notes.append(f"the {name} waits: {fault}")
        return health

    def numbers(self) -> Numbers:
        disk = shutil.disk_usage(self.folder.path)
        stats = self.events.stats()
        statuses: Counter[str] = Counter(
            self.rulebook.status_of(entry.stored.id).status for entry in self.rulebook.entries()
        )
        return Numbers(
            started_us=self.started_us,
            now_us=self.clock.now_us(),
            clusters=dict(self.intake.clusters),
            held_bytes=self.intake.held_bytes,
            max_bytes=self.options.max_bytes_in_flight,
            overloaded=self.intake.overloaded,
            commits=self.intake.commits,
            stored_events=stats.events,
            stored_bytes=stats.size,
            segments=stats.segments,
            open_rows=stats.open_rows,
            judge_behind=self.detector.behind if self.options.is_live else 0,
            judge_read_back=self.detector.read_back,
            live_matches=self.detector.matches,
            live_capped=self.detector.capped,
            run_delay_ms=self.scheduler.delay_ms,
            pass_ms=self.scheduler.pass_ms,
            behind_ms=self.scheduler.behind_ms,
            manual_runs=len(self.scheduler.manual_runs()),
            gaps=len(self.database.read(runs_table.unfilled)),
            rules=dict(statuses),
            alerts=dict(self.alerting.raised),
            folded=self.alerting.folded,
            evicted=self.scheduler.evicted,
            watches=len(self.watchdogs.active()),
            clock_ahead_us=self.clock.ahead_us,
            disk_total_bytes=disk.total,
            disk_free_bytes=disk.free,
            sinks=self.courier.state(),
        )

    def note_refused(self, cluster: str, reason: str) -> None:
        """A request to take in events was turned away."""
        _LOG.debug("refused from %s: %s", cluster, reason)
        self.intake.note_refused(cluster)

    # --- inside ---

    def _parts(self) -> list[tuple[str, Any]]:
        parts: list[tuple[str, Any]] = [
            ("writer", self.intake),
            ("scheduler", self.scheduler),
            ("keeper", self.keeper),
        ]
        if self.options.is_live:
            parts.append(("detector", self.detector))
        return parts

    def _judged_seq(self) -> int:
        # Never beyond what is stored: the folder may have been put together of two copies.
        return min(judged_seq(self.database), self.events.next_seq)

    def _unjudged(self) -> tuple[int | None, int | None]:
        seq = self.detector.next_seq if self.options.is_live else None
        return seq, self.scheduler.unread_since_us()

    def _write_soon(self, run: Within) -> None:
        future: Future[None] = self.database.write_soon(run)
        future.add_done_callback(_say_failure)

    def _reload(self) -> None:
        self.rulebook.reload()
        self.scheduler.wake()

    def _look(self) -> Sight:
        disk = shutil.disk_usage(self.folder.path)
        now_us = self.clock.now_us()
        sight = Sight(
            now_us=now_us,
            clock_ahead_us=self.clock.ahead_us,
            clock_jumped_us=self.clock.jumped_us,
            disk_total_bytes=disk.total,
            disk_free_bytes=disk.free,
            late_ms=self.scheduler.behind_ms,
            faults=self.events.faults,
        )
        for name in self.options.expected_clusters:
            sight.clusters[name] = ClusterSight(is_expected=True)
        for name, last_us in self.events.stats().last_arrivals_us.items():
            sight.clusters.setdefault(name, ClusterSight()).last_arrival_us = last_us
        for name, counts in list(self.intake.clusters.items()):
            cluster = sight.clusters.setdefault(name, ClusterSight())
            cluster.heard_us = counts.last_arrival_us
            cluster.last_event_us = counts.last_event_us
            cluster.refused, cluster.malformed = counts.refused, counts.malformed
        for uuid, streak in list(self.scheduler.streaks.items()):
            sight.streaks[uuid] = streak.rule_name, streak.failed, streak.capped
            if streak.evicted:
                sight.crowded[uuid] = streak.rule_name, streak.evicted
        for name, state in self.courier.state().items():
            waits = 0.0
            if state.oldest_us is not None and state.last_error:
                waits = (now_us - state.oldest_us) / 1_000_000
            if waits or state.dead:
                sight.sinks[name] = SinkSight(waits, state.dead, state.last_error or "")
        for follower in self.followers:
            state = follower.state()
            if state is not None and (state.problems or not state.is_alive):
                sight.files[state.cluster] = "; ".join(state.problems) or "the follower has ended"
        for name, fault in (("detector", self.detector.fault), ("scheduler", self.scheduler.fault)):
            if fault is not None:
                sight.stalled[name] = fault
        if self.intake.fault is not None:
            sight.stalled["writer"] = self.intake.fault
        for name, part in self._parts():
            if self.is_running and not part.is_alive:
                sight.stalled[name] = "it has ended; only a restart brings it back"
        return sight


def _give_nobody(committed: Committed) -> None:
    """Without live judging, runs alone look at events."""


def _say_failure(future: Future[None]) -> None:
    error = future.exception()
    if isinstance(error, StoreError):
        _LOG.error("%s", error.oneline())
    elif error is not None:
        _LOG.error("could not note: %s", error)
