"""One sink's thread: what waits in its outbox goes out, in order, for as long as it takes."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from barrelman.errors import SinkError, StoreError
from barrelman.records.frozen import frozen
from barrelman.sinks.flood import Flood, RuleCount, flood_of
from barrelman.sinks.message import Message, message_of
from barrelman.sinks.pace import Pace
from barrelman.sinks.sink import Remembering, Sink
from barrelman.store import alerts, outbox
from barrelman.store.alerts import StoredAlert
from barrelman.store.database import Connection, Database
from barrelman.store.outbox import Parcel

_LOG = logging.getLogger("barrelman.sinks")

_LONGEST_SECONDS: Final = 300.0
# Nothing is missed without it: whoever stores alerts wakes us. It is there for clocks and bugs.
_LOOK_AGAIN_SECONDS: Final = 30.0
_MOST_CHARS: Final = 16 << 20
_TOLD_IN_DIGEST: Final = 5
_MOST_UNEXPECTED: Final = 8
_GONE: Final = "the alert has been deleted"


@frozen
class Tries:
    """How the time between two tries grows."""

    first_seconds: float = 1.0
    longest_seconds: float = _LONGEST_SECONDS

    def seconds(self, failures: int, retry_after_seconds: float | None) -> float:
        """Doubling, with chance in it so that many do not come back at once."""
        doubled = self.first_seconds * 2.0 ** min(failures - 1, 30)
        seconds = min(doubled, self.longest_seconds) * random.uniform(0.6, 1.0)
        return max(seconds, retry_after_seconds or 0.0)


class Progress(NamedTuple):
    """What a sink has done since the service began."""

    delivered: int = 0
    digests: int = 0
    failures: int = 0
    last_error: str | None = None
    last_error_us: int | None = None
    last_success_us: int | None = None
    next_try_us: int | None = None
    """While it fails: when it is tried again."""
    notice: str = ""


class _Load(NamedTuple):
    """What one delivery is made of."""

    parcels: list[Parcel]
    stored: list[StoredAlert]
    gone: list[Parcel]


class Delivery:
    """Delivers for one sink, in a thread of its own. Made, started and stopped by the courier."""

    def __init__(
        self,
        database: Database,
        sink: Sink,
        *,
        clock: Callable[[], int],
        public_url: str | None,
        tries: Tries,
    ) -> None:
        self.sink = sink
        self.progress = Progress()
        self._database = database
        self._clock = clock
        self._public_url = public_url
        self._tries = tries
        self._pace = Pace(sink.digest_above, seconds=sink.digest_seconds)
        self._changed = threading.Condition()
        self._using = threading.Lock()
        """Held by whoever uses the sink: it takes one thread at a time."""
        self._is_woken = True
        self._stop_at: float | None = None
        self._next_try = 0.0
        self._in_a_row = 0
        self._singly = 0
        self._is_mended = not isinstance(sink, Remembering)
        self._unsettled: Callable[[Connection], object] | None = None
        self._thread = threading.Thread(target=self._run, name=f"sink {sink.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There is more to deliver."""
        with self._changed:
            self._is_woken = True
            self._changed.notify()

    def try_now(self) -> None:
        """As `wake`, and what failed is tried at once."""
        with self._changed:
            self._next_try = 0.0
        self.wake()

    def test(self, now_us: int) -> str:
        """Sends a test, from any thread; waits while the sink is delivering. Raises SinkError."""
        with self._using:
            if not self._is_mended:
                self._mend()
            return self.sink.test(now_us)

    def stop(self, until: float) -> None:
        """Has the thread end by that moment of `time.monotonic`; what waits goes out if it can."""
        with self._changed:
            self._stop_at = until
            self._changed.notify()

    def join(self, timeout_seconds: float) -> bool:
        """Whether the thread has ended; then the sink is closed."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, timeout_seconds))
        if self._thread.is_alive():
            return False
        self.sink.close()
        return True

    # --- the thread ---

    def _run(self) -> None:
        while True:
            try:
                wait_seconds = self._step()
            except SinkError as error:
                wait_seconds = self._note_failure(error.message, error.retry_after_seconds)
            except StoreError as error:
                wait_seconds = self._note_failure(error.oneline(), None)
            except Exception as error:  # noqa: BLE001  # a sink that silently stops loses alerts
                _LOG.exception("the sink %s failed in a way nobody thought of", self.sink.name)
                wait_seconds = self._note_failure(f"internal error: {type(error).__name__}", None)
            if self._wait(wait_seconds):
                return

    def _wait(self, seconds: float) -> bool:
        """Until there is something to do; True: the thread has to end."""
        until = time.monotonic() + seconds
        with self._changed:
            while True:
                now = time.monotonic()
                can_try = now >= self._next_try
                if self._stop_at is not None and (
                    now >= self._stop_at or not can_try or (seconds > 0 and not self._is_woken)
                ):
                    return True
                if can_try and (self._is_woken or now >= until):
                    self._is_woken = False
                    return False
                wake_at = max(self._next_try, now if self._is_woken else until)
                self._changed.wait(max(0.0, wake_at - now))

    def _step(self) -> float:
        """Does one thing; gives after how many seconds there may be another, if nobody wakes us."""
        self._settle()
        if not self._is_mended:
            with self._using:
                self._mend()
        step = self._pace.next(self._pending(), now_us=self._clock())
        if step.action == "wait":
            return max(0.001, (step.until_us - self._clock()) / 1e6)
        if step.action == "digest":
            return self._digest()
        limit = min(self.sink.batch, step.messages) if not self._singly else 1
        load = self._database.read(lambda connection: self._load(connection, limit))
        if not load.parcels:
            self._work_again()
            return _LOOK_AGAIN_SECONDS
        self._hand_over(load)
        return 0.0

    def _pending(self) -> int:
        """How many wait; not counted where it makes no difference."""
        if self.sink.digest_above is None:
            return self.sink.batch
        name = self.sink.name
        return self._database.read(lambda connection: outbox.waiting(connection, name).pending)

    def _load(self, connection: Connection, limit: int) -> _Load:
        """The next alerts in order; fewer where they are large: an event may be megabytes."""
        parcels = outbox.due(connection, self.sink.name, limit=limit)
        load = _Load([], [], [])
        chars = 0
        for parcel in parcels:
            stored = alerts.get(connection, parcel.alert_id)
            load.parcels.append(parcel)
            if stored is None:
                load.gone.append(parcel)
                continue
            load.stored.append(stored)
            chars += len(stored.document)
            if chars > _MOST_CHARS:
                break
        return load

    def _message(self, stored: StoredAlert) -> Message:
        return message_of(
            stored.merged(), public_url=self._public_url, created_us=stored.created_us
        )

    def _hand_over(self, load: _Load) -> None:
        gone = {parcel.id for parcel in load.gone}
        sent = [parcel for parcel in load.parcels if parcel.id not in gone]
        try:
            mark = self._deliver(load.stored) if sent else None
        except SinkError as error:
            self._after_failure(error, sent)
            return
        except Exception as error:
            # Tried a few times like any other failure, and then given up: it must not dam up all.
            worst = max(parcel.attempts for parcel in sent)
            if worst + 1 < _MOST_UNEXPECTED:
                self._note_attempt(sent, f"internal error: {type(error).__name__}")
                raise
            _LOG.exception("the sink %s cannot make sense of an alert", self.sink.name)
            told = f"internal error: {type(error).__name__}"
            self._after_failure(SinkError(told, is_final=True), sent)
            return
        now_us = self._clock()

        def settle(connection: Connection) -> None:
            outbox.done(connection, [parcel.id for parcel in sent], now_us)
            outbox.dead(connection, gone, _GONE, now_us)
            if mark is not None:
                outbox.put_mark(connection, self.sink.name, mark)

        self._pace.told(len(sent), at_us=now_us)
        self._singly = max(0, self._singly - len(load.parcels))
        self._succeed(delivered=len(sent), at_us=now_us)
        self._unsettled = settle
        self._settle()

    def _deliver(self, stored: Sequence[StoredAlert]) -> str | None:
        """Gives the mark that has to be kept together with the news that they arrived."""
        messages = [self._message(each) for each in stored]
        with self._using:
            self.sink.deliver(messages)
            return self.sink.mark() if isinstance(self.sink, Remembering) else None

    def _digest(self) -> float:
        """Sums up all that waits now, and no more: what comes meanwhile is told later."""
        found = self._database.read(self._flood)
        if found is None:
            return _LOOK_AGAIN_SECONDS
        flood, last = found
        try:
            with self._using:
                self.sink.digest(flood)
        except Exception as error:
            # Where the digest is at fault, not the way, alerts are told one by one, at their pace.
            if not isinstance(error, SinkError) or error.is_final:
                self._pace.digested(at_us=self._clock())
            raise
        now_us = self._clock()
        self._pace.digested(at_us=now_us)
        self._succeed(delivered=flood.total, at_us=now_us, digests=1)
        name = self.sink.name
        self._unsettled = lambda connection: outbox.done_up_to(connection, name, last, now_us)
        self._settle()
        return 0.0

    def _flood(self, connection: Connection) -> tuple[Flood, Parcel] | None:
        name = self.sink.name
        last = outbox.last(connection, name)
        if last is None:
            return None
        shares = outbox.shares(connection, name, last)
        found = (
            alerts.get(connection, parcel.alert_id)
            for parcel in outbox.due(connection, name, limit=_TOLD_IN_DIGEST)
        )
        now_us = self._clock()
        flood = flood_of(
            [self._message(stored) for stored in found if stored is not None],
            total=sum(share.alerts for share in shares),
            counts=[RuleCount(each.rule_name, each.severity, each.alerts) for each in shares],
            since_us=min((share.since_us for share in shares), default=now_us),
            until_us=max((share.until_us for share in shares), default=now_us),
            public_url=self._public_url,
        )
        return flood, last

    def _mend(self) -> None:
        """Before the first delivery: what arrived without our knowing counts as done."""
        sink = self.sink
        assert isinstance(sink, Remembering)
        mark = self._database.read(lambda connection: outbox.get_mark(connection, sink.name))
        arrived = sink.mend(mark)
        now_us = self._clock()

        def settle(connection: Connection) -> None:
            outbox.arrived(connection, sink.name, arrived, now_us)
            outbox.put_mark(connection, sink.name, sink.mark())

        self._database.write(settle)
        self._is_mended = True

    def _settle(self) -> None:
        """Writes down what arrived. Until that is done nothing else is: it would arrive twice."""
        if self._unsettled is not None:
            self._database.write(self._unsettled)
            self._unsettled = None

    # --- what becomes of it ---

    def _succeed(self, *, delivered: int, at_us: int, digests: int = 0) -> None:
        self._work_again()
        before = self.progress
        self.progress = before._replace(
            delivered=before.delivered + delivered,
            digests=before.digests + digests,
            last_success_us=at_us,
            notice=self.sink.notice,
        )

    def _work_again(self) -> None:
        """Whatever failed is over."""
        if self._in_a_row:
            _LOG.info("the sink %s works again", self.sink.name)
            self._in_a_row = 0
            self.progress = self.progress._replace(next_try_us=None)

    def _after_failure(self, error: SinkError, sent: Sequence[Parcel]) -> None:
        """Final: given up, one by one. Else all stay where they are, unless they grew too old."""
        now_us = self._clock()
        if error.is_final and len(sent) > 1:
            self._singly = len(sent)
            return
        most = self.sink.give_up_seconds
        ended = list(sent) if error.is_final else []
        if not error.is_final and most is not None:
            ended = [each for each in sent if each.created_us + most * 1e6 < now_us]
        if ended:
            ids = [parcel.id for parcel in ended]
            told = (
                error.message if error.is_final else f"{error.message}; given up after {most:g} s"
            )
            self._database.write(lambda connection: outbox.dead(connection, ids, told, now_us))
            self._singly = max(0, self._singly - len(ended))
            _LOG.error("the sink %s gave up %d alerts: %s", self.sink.name, len(ids), told)
            self._count_failure(error.message, now_us)
        if not error.is_final:
            self._note_attempt([each for each in sent if each not in ended], error.message)
            raise error

    def _note_attempt(self, parcels: Sequence[Parcel], told: str) -> None:
        ids = [parcel.id for parcel in parcels]
        with contextlib.suppress(StoreError):  # a disk that is full now keeps nobody from trying
            self._database.write(lambda connection: outbox.failed(connection, ids, told))

    def _note_failure(self, told: str, retry_after_seconds: float | None) -> float:
        self._in_a_row += 1
        seconds = self._tries.seconds(self._in_a_row, retry_after_seconds)
        now_us = self._clock()
        if self._in_a_row == 1:
            _LOG.warning("the sink %s fails: %s", self.sink.name, told)
        self._count_failure(told, now_us)
        self.progress = self.progress._replace(next_try_us=now_us + int(seconds * 1e6))
        with self._changed:
            self._next_try = time.monotonic() + seconds
        return seconds

    def _count_failure(self, told: str, now_us: int) -> None:
        before = self.progress
        self.progress = before._replace(
            failures=before.failures + 1, last_error=told, last_error_us=now_us
        )
