"""Matches to alerts, from wherever they come: one place that counts caps and knows ids.

Live judging, scheduled and manual runs all raise alerts here, one after the other. An alert is in
the database, with the rows of the outbox, or it does not exist; its id tells it from any other, so
that it exists once whoever finds the event, and however often.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from barrelman.detection.finding import Finding, Raised, Suppression, ThresholdResult
from barrelman.detection.identity import act_mark, alert_id, id_of_other_act
from barrelman.detection.lineup import Watcher
from barrelman.detection.replay import raised_of
from barrelman.engine.decode import loads
from barrelman.records.event import Event, JsonObject
from barrelman.records.frozen import frozen
from barrelman.service.folding import counts_once, memory_of, repeated, standing
from barrelman.service.making import ACT, Kind, alerts_of, key_of, mark_of, whole, written
from barrelman.store import alerts as alerts_table
from barrelman.store import memories as memories_table
from barrelman.store.alerts import NewAlert
from barrelman.store.database import Database
from barrelman.store.memories import Memory

if TYPE_CHECKING:
    from barrelman.store.database import Connection

_LOG = logging.getLogger("barrelman.alerts")

RunKind: TypeAlias = Literal["scheduled", "catch-up", "manual", "gap"]
Outcome: TypeAlias = Literal["raised", "known", "capped", "folded"]
Enqueue: TypeAlias = Callable[["Connection", Sequence[NewAlert], int], None]
Within: TypeAlias = Callable[["Connection"], None]
"""Something to be written in the same transaction as the alerts."""

_MOST_MARKS: Final = 50_000
_MOST_COUNTS: Final = 20_000
_MOST_AHEAD: Final = 32
_REMEMBERED_MS: Final = 8 * 86_400_000
"""What was counted before a window is kept for so long: gaps may still be filled then."""
_COUNTED: Final = ("live", "scheduled", "catch-up", "gap")
"""Those that take a place of the run of their time; a run by hand has places of its own."""


@dataclass
class Allowance:
    """The alerts that a run by hand may still raise: it has a cap of its own."""

    left: int


@frozen
class Candidate:
    """A match that is to become an alert of the first of these runs that has room."""

    watcher: Watcher
    event: Event
    ticks_ms: Sequence[int]
    allowance: Allowance | None = None


@dataclass
class _Batch:
    """What the findings of one run come to."""

    watcher: Watcher
    kind: Kind
    tick_ms: int
    known: set[str]
    new: list[NewAlert] = field(default_factory=list)
    rewritten: dict[str, JsonObject] = field(default_factory=dict)
    memories: list[Memory] = field(default_factory=list)
    folded: list[str] = field(default_factory=list)
    """What later runs know those findings by that got no alert of their own."""

    @property
    def has_something(self) -> bool:
        return bool(self.new or self.rewritten)

    def remember(self, finding: Finding, *, is_raised: bool) -> None:
        memory = memory_of(self.watcher, finding, tick_ms=self.tick_ms)
        if memory is not None:
            self.memories.append(memory)
        # The first of them is known by its alert, where it got one.
        self.folded += finding.keys[is_raised:]

    def write(self, connection: Connection) -> None:
        """All but the new alerts."""
        uuid = self.watcher.uuid
        for identity, document in self.rewritten.items():
            alerts_table.rewrite(connection, identity, written(document))
        memories_table.add(connection, self.memories)
        memories_table.add_folded(connection, uuid, self.folded, tick_ms=self.tick_ms)
        if self.memories or self.folded:
            before_ms = self.watcher.window_ms(self.tick_ms)[0] - _REMEMBERED_MS
            memories_table.forget(connection, uuid, before_ms=before_ms)


class Alerting:
    """`enqueue` is told of new alerts within the transaction that stores them."""

    def __init__(
        self,
        database: Database,
        *,
        enqueue: Enqueue,
        clock: Callable[[], int],
        public_url: str | None = None,
        redacts: bool = True,
    ) -> None:
        self._redacts = redacts
        self._database = database
        self._enqueue = enqueue
        self._clock = clock
        self._public_url = public_url
        self._lock = threading.Lock()
        self._used: dict[tuple[str, int], int] = {}
        self._marks: dict[str, int] = {}
        self.raised: dict[str, int] = {}
        """New alerts since the service began, by severity."""
        self.folded = 0
        """Findings that were counted to an alert that was there."""
        self.on_raised: Callable[[Sequence[NewAlert]], None] = lambda alerts: None

    def has_room(self, watcher: Watcher, ticks_ms: Sequence[int]) -> bool:
        """Whether some of these runs can raise another alert."""
        with self._lock:
            return self._room(watcher, ticks_ms) is not None

    def raise_alerts(
        self, candidates: Sequence[Candidate], *, kind: Kind, within: Within | None = None
    ) -> list[Outcome]:
        """What became of each, in order. `within` is also done where there is no alert."""
        with self._lock:
            # Only here: within a batch the runs must stay counted.
            if len(self._used) > _MOST_COUNTS:
                self._used.clear()
            ids, known = self._identify(
                [alert_id(each.event, each.watcher.rule.rule_id) for each in candidates],
                [act_mark(each.event) for each in candidates],
            )
            self._load([(c.watcher.uuid, t) for c in candidates for t in c.ticks_ms[:1]])
            outcomes: list[Outcome] = []
            new: list[NewAlert] = []
            for identity, candidate in zip(ids, candidates, strict=True):
                if identity in known:
                    outcomes.append("known")
                    continue
                tick_ms = self._take_place(candidate)
                if tick_ms is None:
                    outcomes.append("capped")
                    continue
                known.add(identity)
                new += self._alerts(
                    candidate.watcher, Raised(0, tick_ms, identity, candidate.event), kind
                )
                outcomes.append("raised")
            if new or within is not None:
                self._store(new, within)
        return outcomes

    def raise_findings(
        self, watcher: Watcher, findings: Sequence[Finding], *, tick_ms: int, kind: Kind
    ) -> list[Outcome]:
        """What became of each finding of one run, in order."""
        if not findings:
            return []
        with self._lock:
            if len(self._used) > _MOST_COUNTS:
                self._used.clear()
            raised = [raised_of(0, tick_ms, each) for each in findings]
            ids, known = self._identify(
                [each.alert_id for each in raised], [mark_of(each) for each in raised]
            )
            self._load([(watcher.uuid, tick_ms)])
            batch = _Batch(watcher, kind, tick_ms, known)
            outcomes = [
                self._settle(batch, replace(each, alert_id=identity), finding)
                for identity, each, finding in zip(ids, raised, findings, strict=True)
            ]
            if batch.has_something:
                self._store(batch.new, None, batch=batch)
            self.folded += outcomes.count("folded")
        return outcomes

    def memories(self, watcher: Watcher, *, from_ms: int, before_ms: int) -> list[Memory]:
        """What the rule's runs before a time counted of events from another time on."""
        if not counts_once(watcher.rule):
            return []
        found = self._database.read(
            lambda connection: memories_table.of_rule(
                connection, watcher.uuid, ticks_ms=(from_ms, before_ms - 1)
            )
        )
        return [each for each in found if each.until_ms >= from_ms]

    def unknown(self, watcher: Watcher, findings: Sequence[Finding]) -> list[Finding]:
        """Those that no run of the rule has raised or folded, each with its key. A threshold's
        are not asked for: what they counted is remembered."""
        asked = [each for each in findings if not isinstance(each.about, ThresholdResult)]
        if not asked:
            return list(findings)
        raised = [raised_of(0, 0, each) for each in asked]
        keys = [key_of(each, rule_id=watcher.rule.rule_id) for each in raised]
        with self._lock:
            ids, known = self._identify(
                [each.alert_id for each in raised], [mark_of(each) for each in raised]
            )
            # One that was alerted beside another act under its Audit-ID got its key for an id.
            known |= self._known(keys)
        folded = self._database.read(
            lambda connection: memories_table.folded_among(connection, watcher.uuid, keys)
        )
        new = []
        for identity, key, finding in zip(ids, keys, asked, strict=True):
            if identity not in known and key not in known and key not in folded:
                finding.keys = (key,)
                new.append(finding)
        return new

    def raise_notice(self, alert: NewAlert, *, within: Within | None = None) -> None:
        """An alert of the service's own: no rule, no cap."""
        with self._lock:
            self._store([alert], within)

    # --- inside, under the lock ---

    def _identify(self, ids: list[str], marks: Sequence[int | None]) -> tuple[list[str], set[str]]:
        """The alert's id of each, and which of the ids exist.

        A client may choose its Audit-ID. An act under the id of another act must not be taken for
        that one, or a rule could be silenced by a harmless act that comes first: it gets an id of
        its own.
        """
        known = self._known(ids)
        first: dict[str, int] = {}
        others: list[int] = []
        for place, (identity, mark) in enumerate(zip(ids, marks, strict=True)):
            if mark is None:
                continue
            held = first.setdefault(identity, self._mark_of(identity, known, default=mark))
            if mark != held:
                ids[place] = id_of_other_act(identity, mark)
                others.append(place)
        if others:
            known |= self._known([ids[place] for place in others])
        return ids, known

    def _mark_of(self, identity: str, known: set[str], *, default: int) -> int:
        """What tells the act that an alert is about."""
        if identity not in known:
            return default
        mark = self._marks.get(identity)
        if mark is None:
            stored = self._database.read(lambda c: alerts_table.get(c, identity))
            document = {} if stored is None else loads(stored.document)
            # Not taken from the event's own fields there: secrets in them are masked.
            held = document.get(ACT)
            if not isinstance(held, int):
                return default
            if len(self._marks) >= _MOST_MARKS:
                self._marks.clear()
            mark = self._marks[identity] = held
        return mark

    def _known(self, ids: Sequence[str]) -> set[str]:
        if not ids:
            return set()
        return self._database.read(lambda connection: alerts_table.known(connection, ids))

    def _load(self, runs: Sequence[tuple[str, int]]) -> None:
        """The alerts that runs have raised, also before the service began."""
        unknown = [run for run in dict.fromkeys(runs) if run not in self._used]
        if not unknown:
            return
        counted = self._database.read(
            lambda connection: alerts_table.count_for_ticks(connection, unknown, kinds=_COUNTED)
        )
        for run in unknown:
            self._used[run] = counted.get(run, 0)

    def _room(self, watcher: Watcher, ticks_ms: Sequence[int]) -> int | None:
        for place, tick_ms in enumerate(ticks_ms):
            if (watcher.uuid, tick_ms) not in self._used:
                # A rule that looks back for long has thousands of runs, and seldom are two full.
                some = ticks_ms[place : place + _MOST_AHEAD]
                self._load([(watcher.uuid, each) for each in some])
            if self._used[watcher.uuid, tick_ms] < watcher.cap:
                return tick_ms
        return None

    def _take_place(self, candidate: Candidate) -> int | None:
        allowance = candidate.allowance
        if allowance is not None:
            if allowance.left <= 0:
                return None
            allowance.left -= 1
            return candidate.ticks_ms[0]
        tick_ms = self._room(candidate.watcher, candidate.ticks_ms)
        if tick_ms is not None:
            run = candidate.watcher.uuid, tick_ms
            self._used[run] += 1
        return tick_ms

    def _alerts(self, watcher: Watcher, raised: Raised, kind: Kind) -> list[NewAlert]:
        return alerts_of(
            watcher,
            raised,
            kind=kind,
            created_us=self._clock(),
            public_url=self._public_url,
            redacts=self._redacts,
        )

    def _settle(self, batch: _Batch, raised: Raised, finding: Finding) -> Outcome:
        """What becomes of one finding."""
        watcher, tick_ms = batch.watcher, raised.tick_ms
        if raised.alert_id in batch.known:
            return "known"
        if raised.suppression is not None:
            outcome = self._fold(batch, raised.suppression, tick_ms)
            if outcome == "known":
                return outcome
            if outcome is not None:
                batch.remember(finding, is_raised=False)
                return outcome
        if batch.kind != "manual":
            # Its run raises no more than its cap; live judging may have used some of that.
            if watcher.is_live and self._room(watcher, (tick_ms,)) is None:
                return "capped"
            self._used[watcher.uuid, tick_ms] += 1
        batch.known.add(raised.alert_id)
        batch.new += self._alerts(watcher, raised, batch.kind)
        batch.remember(finding, is_raised=True)
        return "raised"

    def _fold(self, batch: _Batch, folded: Suppression, tick_ms: int) -> Outcome | None:
        """None where no alert stands that takes these repeats."""
        found = self._database.read(
            lambda connection: standing(connection, batch.watcher, folded, tick_ms=tick_ms)
        )
        if found is None:
            return None
        identity, document = found
        document = batch.rewritten.get(identity, document)
        changed = repeated(document, folded, now_ms=self._clock() // 1000)
        if changed is None:
            return "known"
        batch.rewritten[identity] = changed
        return "folded"

    def _store(
        self, new: list[NewAlert], within: Within | None, *, batch: _Batch | None = None
    ) -> None:
        def write(connection: Connection) -> None:
            if new:
                added = set(alerts_table.add(connection, new))
                fresh = [alert for alert in new if alert.id in added]
                self._enqueue(connection, fresh, self._clock())
            if batch is not None:
                batch.write(connection)
            if within is not None:
                within(connection)

        try:
            self._database.write(write)
        except BaseException:
            # What the runs have used is counted anew.
            self._used.clear()
            raise
        for alert in whole(new):
            self.raised[alert.severity] = self.raised.get(alert.severity, 0) + 1
        if new:
            self.on_raised(new)
