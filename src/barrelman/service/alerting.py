"""Matches to alerts, from wherever they come: one place that counts caps and knows ids.

Live judging, scheduled and manual runs all raise alerts here, one after the other. An alert is in
the database, with the rows of the outbox, or it does not exist; its id tells it from any other, so
that it exists once whoever finds the event, and however often.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from barrelman.detection.finding import Raised
from barrelman.detection.identity import act_mark, alert_id, id_of_other_act
from barrelman.detection.lineup import Watcher
from barrelman.engine.decode import dumps, loads, shallow
from barrelman.records.event import Event
from barrelman.records.fields import event_time_us
from barrelman.records.frozen import frozen
from barrelman.store import alerts as alerts_table
from barrelman.store.alerts import NewAlert
from barrelman.store.database import Database

if TYPE_CHECKING:
    from barrelman.store.database import Connection

_LOG = logging.getLogger("barrelman.alerts")

RunKind: TypeAlias = Literal["scheduled", "catch-up", "manual", "gap"]
Kind: TypeAlias = Literal["live", "scheduled", "catch-up", "manual", "gap"]
Outcome: TypeAlias = Literal["raised", "known", "capped"]
Enqueue: TypeAlias = Callable[["Connection", Sequence[NewAlert], int], None]
Within: TypeAlias = Callable[["Connection"], None]
"""Something to be written in the same transaction as the alerts."""

_ACT: Final = "barrelman.act"
"""In an alert's document: a mark of the act that it is about."""
_MOST_MARKS: Final = 50_000
_MOST_LEVELS: Final = 200
"""Of an alert's document; an event may nest deeper than what reads alerts can follow."""
_MOST_COUNTS: Final = 20_000
_MOST_AHEAD: Final = 32
_MANUAL: Final = ("manual", "gap")
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
            ids, known = self._identify(candidates)
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
                new.append(self._alert(identity, candidate, tick_ms, kind))
                outcomes.append("raised")
            if new or within is not None:
                self._store(new, within)
        return outcomes

    def raise_notice(self, alert: NewAlert, *, within: Within | None = None) -> None:
        """An alert of the service's own: no rule, no cap."""
        with self._lock:
            self._store([alert], within)

    # --- inside, under the lock ---

    def _identify(self, candidates: Sequence[Candidate]) -> tuple[list[str], set[str]]:
        """The alert's id of each, and which of the ids exist.

        A client may choose its Audit-ID. An act under the id of another act must not be taken for
        that one, or a rule could be silenced by a harmless act that comes first: it gets an id of
        its own.
        """
        ids = [alert_id(each.event, each.watcher.rule.rule_id) for each in candidates]
        known = self._known(ids)
        marks: dict[str, int] = {}
        others: list[int] = []
        for place, (identity, candidate) in enumerate(zip(ids, candidates, strict=True)):
            mark = act_mark(candidate.event)
            first = marks.setdefault(identity, self._mark_of(identity, known, default=mark))
            if mark != first:
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
            held = document.get(_ACT)
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

    def _alert(self, identity: str, candidate: Candidate, tick_ms: int, kind: Kind) -> NewAlert:
        watcher, event = candidate.watcher, candidate.event
        created_us = self._clock()
        built = watcher.builder(redacts=self._redacts).build(
            Raised(0, tick_ms, identity, event),
            created_ms=created_us // 1000,
            is_manual=kind in _MANUAL,
            public_url=self._public_url,
        )
        document = built.document | {_ACT: act_mark(event)}
        return NewAlert(
            id=identity,
            kind=kind,
            rule_uuid=watcher.uuid,
            rule_id=watcher.rule.rule_id,
            rule_name=built.rule_name,
            severity=built.severity,
            risk_score=built.document["kibana.alert.risk_score"],
            cluster=event.cluster or "",
            tick_ms=tick_ms,
            created_us=created_us,
            event_time_us=event_time_us(event),
            building_block=bool(watcher.rule.building_block_type),
            document=dumps(shallow(document, levels=_MOST_LEVELS)).decode(),
        )

    def _store(self, new: list[NewAlert], within: Within | None) -> None:
        def write(connection: Connection) -> None:
            if new:
                added = set(alerts_table.add(connection, new))
                fresh = [alert for alert in new if alert.id in added]
                self._enqueue(connection, fresh, self._clock())
            if within is not None:
                within(connection)

        try:
            self._database.write(write)
        except BaseException:
            # What the runs have used is counted anew.
            self._used.clear()
            raise
        for alert in new:
            self.raised[alert.severity] = self.raised.get(alert.severity, 0) + 1
        if new:
            self.on_raised(new)
