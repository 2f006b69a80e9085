"""Live: rules that need one event alone alert when it arrives.

The detector follows the store's numbers: what it is given is judged at once; what it was not (it
fell behind, or the service was down) it reads from the store. How far it has come is written with
the alerts, so that nothing is left out or raised twice by a crash; an alert's id sees to the rest.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from barrelman.detection.lineup import Lineup, Watcher
from barrelman.errors import StoreError
from barrelman.records.event import Event
from barrelman.records.times import format_instant
from barrelman.service.alerting import Alerting, Candidate, Within
from barrelman.service.intake import Committed
from barrelman.service.judging import judge_frame
from barrelman.store import meta
from barrelman.store.database import Database
from barrelman.store.events import EventStore, Frame

if TYPE_CHECKING:
    from barrelman.store.database import Connection

_LOG = logging.getLogger("barrelman.detector")

JUDGED: Final = "judged_seq"
"""Under this name the database keeps the number of the next event to judge."""
_QUEUE_BYTES: Final = 24 * 1024 * 1024
_NOTE_US: Final = 2_000_000
_RETRY_SECONDS: Final = 1.0
_SOON_SECONDS: Final = 0.02
_MOST_CANDIDATES: Final = 256


class Detector:
    """`lineup` gives the rules of the moment; `next_seq` is the first event not judged yet."""

    def __init__(
        self,
        store: EventStore,
        alerting: Alerting,
        *,
        lineup: Callable[[], Lineup],
        clock: Callable[[], int],
        next_seq: int,
        note: Callable[[Within], None],
        give_way: Callable[[], None] = lambda: None,
    ) -> None:
        self._give_way = give_way
        self._store = store
        self._alerting = alerting
        self._lineup = lineup
        self._clock = clock
        self._note = note
        self.next_seq = next_seq
        self._noted_seq = next_seq
        self._noted_us = 0
        self._queue: deque[Committed] = deque()
        self._queue_bytes = 0
        self._changed = threading.Condition()
        self._is_open = True
        self._thread = threading.Thread(target=self._run, name="detector", daemon=True)
        self._told: dict[str, int] = {}
        self.matches = 0
        self.capped = 0
        self.read_back = 0
        """Events that were judged from the store, because it was behind."""
        self.fault: str | None = None

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def behind(self) -> int:
        """Events stored and not judged yet."""
        return max(0, self._store.next_seq - self.next_seq)

    def give(self, committed: Committed) -> None:
        """The next commit; what there is no room for is read from the store later."""
        with self._changed:
            if self._queue_bytes + committed.size_bytes <= _QUEUE_BYTES or not self._queue:
                self._queue.append(committed)
                self._queue_bytes += committed.size_bytes
            self._changed.notify()

    def stop(self) -> None:
        """Judges what it was given, and ends."""
        with self._changed:
            self._is_open = False
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    # --- in its thread ---

    def _run(self) -> None:
        while True:
            committed = self._next()
            try:
                if committed is not None:
                    if committed.first_seq > self.next_seq:
                        self._catch_up(committed.first_seq)
                    if committed.first_seq <= self.next_seq:
                        self._judge(committed)
                elif self.behind and self._is_open:
                    self._catch_up(self._store.next_seq)
                self._keep(is_due=self._clock() - self._noted_us > _NOTE_US)
                self.fault = None
            except StoreError as error:
                if self.fault is None:
                    _LOG.error("judging waits: %s", error.oneline())
                self.fault = error.oneline()
                with self._changed:
                    self._changed.wait(_RETRY_SECONDS)
            except Exception as error:  # noqa: BLE001  # a bug: said, and tried again from the store
                self.fault = f"{type(error).__name__}: {error}"
                _LOG.exception("judging failed at event %d", self.next_seq)
                with self._changed:
                    self._changed.wait(_RETRY_SECONDS)
            if committed is None and not self._is_open and not self._queue:
                self._keep(is_due=True)
                return

    def _next(self) -> Committed | None:
        with self._changed:
            if not self._queue and self._is_open:
                # Behind with nothing given: most likely it is about to be.
                self._changed.wait(_SOON_SECONDS if self.behind else _NOTE_US / 1_000_000)
            if not self._queue:
                return None
            committed = self._queue.popleft()
            self._queue_bytes -= committed.size_bytes
            return committed

    def _judge(self, committed: Committed) -> None:
        end = committed.first_seq + len(committed.rows)
        if end > self.next_seq:
            self._judge_frame(committed.frame(), self._lineup(), end)

    def _judge_frame(self, frame: Frame, lineup: Lineup, end: int) -> None:
        self._give_way()
        candidates: list[Candidate] = []
        for judged in judge_frame(frame, lineup, first_seq=self.next_seq):
            self._consider(lineup, judged.event, judged.numbers, judged.arrival_us, candidates)
        self._raise(candidates, end)

    def _catch_up(self, end: int) -> None:
        """Judges what is stored from `next_seq` up to `end`."""
        lineup = self._lineup()
        for frame in self._store.frames(first_seq=self.next_seq):
            if not frame.seqs:
                continue
            self.read_back += sum(seq >= self.next_seq for seq in frame.seqs)
            self._judge_frame(frame, lineup, max(self.next_seq, frame.seqs[-1] + 1))
            if self.next_seq >= end:
                return
            if not self._is_open:
                return  # the next process goes on from here
        self.next_seq = max(self.next_seq, end)

    def _consider(
        self,
        lineup: Lineup,
        event: Event,
        numbers: list[int],
        arrival_us: int,
        candidates: list[Candidate],
    ) -> None:
        for number in numbers:
            watcher = lineup.watchers[number]
            if not watcher.is_live:
                continue
            ticks = watcher.ticks(arrival_us // 1000)
            if not watcher.meets_alone(event, ticks[0] if ticks else arrival_us // 1000):
                continue
            self.matches += 1
            if not self._alerting.has_room(watcher, ticks):
                self._note_capped(watcher, ticks)
                continue
            candidates.append(Candidate(watcher, event, ticks))
        if len(candidates) >= _MOST_CANDIDATES:
            outcomes = self._alerting.raise_alerts(candidates, kind="live")
            self.capped += outcomes.count("capped")
            candidates.clear()

    def _note_capped(self, watcher: Watcher, ticks: range) -> None:
        """Says it once a run: an attack may hide behind a flood."""
        self.capped += 1
        last = ticks[-1] if ticks else 0
        if self._told.get(watcher.uuid) != last:
            self._told[watcher.uuid] = last
            _LOG.warning(
                "%s has met its cap of %d alerts a run: what it matches is counted, and raises no "
                "alert before %s",
                watcher.rule.name,
                watcher.cap,
                format_instant(last) if last else "the next run",
            )

    def _raise(self, candidates: list[Candidate], next_seq: int) -> None:
        if candidates:
            outcomes = self._alerting.raise_alerts(
                candidates, kind="live", within=_noting(next_seq)
            )
            self.capped += outcomes.count("capped")
            self._noted_seq, self._noted_us = next_seq, self._clock()
        self.next_seq = next_seq

    def _keep(self, *, is_due: bool) -> None:
        """Writes down how far it has come; late costs only that some is judged again."""
        if is_due and self._noted_seq != self.next_seq:
            self._note(_noting(self.next_seq))
            self._noted_seq, self._noted_us = self.next_seq, self._clock()


def _noting(next_seq: int) -> Within:
    def write(connection: Connection) -> None:
        meta.put(connection, JUDGED, str(next_seq))

    return write


def judged_seq(database: Database) -> int:
    """The number of the next event to judge, as it was last written down."""
    noted = database.read(lambda connection: meta.get(connection, JUDGED))
    return int(noted) if noted is not None else 0
