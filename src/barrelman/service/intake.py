"""Events in: bodies are read, kept for good, and only then is their receipt given.

One thread reads and appends (the *writer*): it takes what waits in the queue, as much as one
commit may hold, so that many small bodies share one write to disk.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import Final, NamedTuple

from barrelman.detection.rows import row_of
from barrelman.engine.decode import DecodeError, loads
from barrelman.engine.problem import Problem, excerpt_of
from barrelman.engine.reader import MAX_EVENT_BYTES, EventReader
from barrelman.engine.unwrap import is_raw_event, unwrap_element
from barrelman.errors import BarrelmanError, StoreError
from barrelman.records.event import Event
from barrelman.records.frozen import frozen
from barrelman.records.rows import Row
from barrelman.store.events import EventStore, Frame, Incoming, Stored

_LOG = logging.getLogger("barrelman.intake")

_COMMIT_BYTES: Final = 4 * 1024 * 1024
"""Lines that one commit holds, about: a larger body takes several."""
_SLICE_BYTES: Final = 1024 * 1024
_SLICE_SECONDS: Final = 0.05
"""Of one body, before the next has its turn."""
_WAY_SECONDS: Final = 0.002
_LOOKED: Final = 128
_MOST_AT_ONCE: Final = 256
_MOST_PROBLEMS: Final = 100_000
"""A body that holds so many and no event is not read to its end."""
_MOST_WHOLE_BYTES: Final = 8 * 1024 * 1024
_PIECE_BYTES: Final = 256 * 1024
_FEW_PROBLEMS: Final = 5
_RETRY_SECONDS: Final = 5.0
_SEAL_SECONDS: Final = 1.0
_WINDOW_US: Final = 300_000_000


class Overloaded(BarrelmanError):  # noqa: N818  # a state, and no fault
    """More has come than can be held; nothing of this body was taken."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("the intake is full", hint=f"try again in {retry_after_seconds:.0f} s")
        self.retry_after_seconds = retry_after_seconds


@dataclass
class Receipt:
    """What became of one body. `problems` are the first few, in words."""

    events: int = 0
    stored: int = 0
    duplicates: int = 0
    """Second deliveries of events that are in the store."""
    malformed: int = 0
    foreign: int = 0
    """Intact, and no audit events (GKE entries among them)."""
    problems: list[str] = field(default_factory=list)

    def note(self, problem: Problem) -> None:
        if problem.kind == "malformed":
            self.malformed += problem.count
        else:
            self.foreign += problem.count
        if len(self.problems) < _FEW_PROBLEMS:
            where = f"line {problem.line}: " if problem.line else ""
            self.problems.append(f"{where}{problem.kind}: {problem.reason}: {problem.excerpt}")


@frozen
class Committed:
    """Events of a cluster that are kept for good: numbered from `first_seq` on, without a hole."""

    first_seq: int
    arrival_us: int
    cluster: str
    rows: Sequence[Row]
    size_bytes: int

    def frame(self) -> Frame:
        """As if it had been read from the store."""
        sizes = [len(row.line) + 1 for row in self.rows]
        wrappers = {at: row.wrapper for at, row in enumerate(self.rows) if row.wrapper is not None}
        count = len(self.rows)
        return Frame(
            lines=b"".join([part for row in self.rows for part in (row.line, b"\n")]),
            starts=[0, *accumulate(sizes[:-1])],
            seqs=range(self.first_seq, self.first_seq + count),
            arrivals_us=[self.arrival_us] * count,
            clusters=[self.cluster] * count,
            wrappers=wrappers,
            has_only_raw=not wrappers,
        )


@dataclass
class ClusterCounts:
    """What came for one cluster since the service began."""

    events: int = 0
    stored: int = 0
    duplicates: int = 0
    malformed: int = 0
    foreign: int = 0
    refused: int = 0
    """Requests that were turned away: nothing in them could be read, or no access."""
    last_arrival_us: int = 0
    last_event_us: int = 0
    """The latest time that an event of the last minutes tells."""
    _window_us: int = 0
    _latest_us: tuple[int, int] = (0, 0)
    """The latest time in the window before, and in the one that began at `_window_us`."""

    def note_time(self, event_us: int, *, arrival_us: int) -> None:
        """An event of `event_us` came. One with a wrong time must not be the latest for ever."""
        before, latest = self._latest_us
        if arrival_us - self._window_us >= _WINDOW_US:
            before, latest = latest, 0
            self._window_us = arrival_us
        self._latest_us = before, max(latest, event_us)
        self.last_event_us = max(self._latest_us)


class _Job:
    """A body that waits or is worked on."""

    def __init__(self, body: bytes, cluster: str, is_list: bool, max_event_bytes: int) -> None:
        self.cluster = cluster
        self._max_event_bytes = max_event_bytes
        self.size = len(body)
        self.receipt = Receipt()
        self.future: Future[Receipt] = Future()
        # Who waits may go away; what was offered is taken in all the same.
        self.future.set_running_or_notify_cancel()
        self.events: Iterator[Event | Problem] = _read(
            body, is_list=is_list, max_event_bytes=max_event_bytes
        )

    def take(self, most_bytes: int, *, until: float) -> tuple[list[Row], bool]:
        """The next rows, and whether these are the last: a slice, so that others have their turn.

        What is no event counts as well: a body may hold millions of bad lines and nothing else.
        """
        rows: list[Row] = []
        size = 0
        receipt = self.receipt
        for looked, found in enumerate(self.events, 1):
            if isinstance(found, Problem):
                receipt.note(found)
                if not receipt.events and receipt.malformed + receipt.foreign >= _MOST_PROBLEMS:
                    receipt.problems.append("nothing but this: the rest of the body was not read")
                    return rows, True
            else:
                size += self._add(found, rows)
            if size >= most_bytes or (looked % _LOOKED == 0 and time.monotonic() >= until):
                return rows, False
        return rows, True

    def _add(self, event: Event, rows: list[Row]) -> int:
        """Takes an event up, or notes that it is too long; the bytes of its line."""
        event.cluster, event.is_bound = self.cluster, True
        row = row_of(event, cluster=self.cluster)
        if len(row.line) > self._max_event_bytes:
            reason = f"over-long: more than {self._max_event_bytes} bytes"
            self.receipt.note(Problem("malformed", reason, event.line, excerpt_of(row.line)))
            return len(row.line)
        self.receipt.events += 1
        rows.append(row)
        return len(row.line)


class _Errand(NamedTuple):
    """Something else for the writer to do, in its turn."""

    work: Callable[[], object]
    done: Future[None]

    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001  # it is the caller's
            self.done.set_exception(error)
        else:
            self.done.set_result(None)


class _Taken(NamedTuple):
    """What one commit holds of a job."""

    job: _Job
    rows: list[Row]
    is_last: bool


class Intake:
    """`give` gets every commit, in order, in the writer's thread: it must not wait.

    `max_bytes` bounds the bodies that wait, and those on their way in (`reserve`).
    """

    def __init__(
        self,
        store: EventStore,
        *,
        give: Callable[[Committed], None],
        clock: Callable[[], int],
        max_bytes: int = 128 * 1024 * 1024,
        max_event_bytes: int = MAX_EVENT_BYTES,
    ) -> None:
        self._max_event_bytes = max_event_bytes
        self._store = store
        self._give = give
        self._clock = clock
        self._max_bytes = max_bytes
        self._held_bytes = 0
        self._queue: deque[_Job | _Errand] = deque()
        self._changed = threading.Condition()
        self._is_open = True
        self._has_ended = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.clusters: dict[str, ClusterCounts] = {}
        self.overloaded = 0
        """Bodies turned away because too much was waiting."""
        self.commits = 0
        self.fault: str | None = None
        """Why the last commit failed; None while they succeed."""

    # --- from any thread ---

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def reserve(self, size: int) -> bool:
        """Room for bytes that are being received; False where there is none. Give it back."""
        with self._changed:
            if self._held_bytes + size > self._max_bytes:
                self.overloaded += 1
                return False
            self._held_bytes += size
            return True

    def release(self, size: int) -> None:
        with self._changed:
            self._held_bytes -= size

    def offer(self, body: bytes, *, cluster: str, is_list: bool) -> Future[Receipt]:
        """Takes a body in: an EventList, or lines of any shape that a scan reads.

        The future gives its receipt once every event is on disk, or a StoreError where nothing is
        promised of any. Raises Overloaded.
        """
        with self._changed:
            if not self._is_open or (self.fault is not None and self._queue):
                raise Overloaded(_RETRY_SECONDS)
            if self._held_bytes + len(body) > self._max_bytes:
                self.overloaded += 1
                raise Overloaded(1.0)
            self._held_bytes += len(body)
            job = _Job(body, cluster, is_list, self._max_event_bytes)
            self._queue.append(job)
            self._changed.notify()
        return job.future

    def give_way(self) -> None:
        """For other work, now and then: lets the writer have the interpreter while it has to do.

        Short: what gives way at each frame still goes on, several times slower.
        """
        if self._held_bytes:
            time.sleep(_WAY_SECONDS)

    def flush(self) -> None:
        """Returns when all that was offered before is settled: what follows arrives later."""
        self.do(lambda: None)

    def do(self, work: Callable[[], object]) -> None:
        """Has work on the store done by the one thread that may change it, and waits for it.

        Not done once the intake has ended. Raises what the work raises.
        """
        errand = _Errand(work, Future())
        with self._changed:
            if self._has_ended or not self._thread.is_alive():
                return
            self._queue.append(errand)
            self._changed.notify()
        errand.done.result()

    def note_refused(self, cluster: str) -> None:
        self.counts_of(cluster).refused += 1

    def counts_of(self, cluster: str) -> ClusterCounts:
        return self.clusters.setdefault(cluster, ClusterCounts())

    def stop(self) -> None:
        """Settles what was offered, and ends."""
        with self._changed:
            self._is_open = False
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    # --- in the writer's thread ---

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    while not self._queue and self._is_open:
                        if not self._changed.wait(_SEAL_SECONDS):
                            break
                    if not self._queue and not self._is_open:
                        return
                self._work()
                self._seal()
        finally:
            self._end()

    def _end(self) -> None:
        """Nobody waits for a writer that is no more."""
        with self._changed:
            self._has_ended = True
            self._is_open = False
            left = list(self._queue)
            self._queue.clear()
        for each in left:
            future = each.done if isinstance(each, _Errand) else each.future
            if not future.done():
                future.set_exception(StoreError("the intake has ended"))

    def _seal(self) -> None:
        try:
            self._store.seal_if_due(self._clock())
        except StoreError as error:
            _LOG.error("cannot seal a segment: %s", error.oneline())
        except Exception:  # noqa: BLE001  # a bug, or no thread to be had: events still come in
            _LOG.exception("sealing failed")

    def _work(self) -> None:
        """One commit of what waits: a slice of each body, until it is full."""
        taken: list[_Taken] = []
        room = _COMMIT_BYTES
        with self._changed:
            waiting = list(islice(self._queue, _MOST_AT_ONCE))
        for job in waiting:
            if isinstance(job, _Errand):
                if taken:
                    break  # what was offered before it is not settled yet
                self._forget(job)
                job.run()
                continue
            try:
                until = time.monotonic() + _SLICE_SECONDS
                rows, is_last = job.take(min(room, _SLICE_BYTES), until=until)
            except Exception as error:  # noqa: BLE001  # a bug must cost one body, not the intake
                self._drop(job, error)
                continue
            if is_last:
                self._forget(job)
            room -= sum(len(row.line) for row in rows) + 1
            taken.append(_Taken(job, rows, is_last))
            if room <= 0:
                break
        if taken:
            self._commit(taken)

    def _forget(self, job: _Job | _Errand) -> None:
        with self._changed, contextlib.suppress(ValueError):
            self._queue.remove(job)

    def _commit(self, taken: list[_Taken]) -> None:
        batches = [Incoming(each.job.cluster, each.rows) for each in taken]
        try:
            if not any(batch.rows for batch in batches):
                stored = [Stored(0, 0, batch.cluster, (), 0) for batch in batches]
            else:
                stored = self._store.append(batches)
        except StoreError as error:
            if self.fault is None:
                _LOG.error("events cannot be stored: %s", error.oneline())
            self._fail(taken, error)
            return
        except Exception as error:  # noqa: BLE001  # a bug must cost one commit, not the intake
            _LOG.exception("events could not be stored")
            self._fail(taken, error)
            return
        self.fault = None
        self.commits += 1
        for each, kept in zip(taken, stored, strict=True):
            receipt = each.job.receipt
            receipt.stored += len(kept.kept)
            receipt.duplicates += kept.duplicates
            if kept.kept:
                self._pass_on(each, kept)
            if each.is_last:
                self._settle(each.job)

    def _pass_on(self, taken: _Taken, kept: Stored) -> None:
        cluster = taken.job.cluster
        rows = taken.rows
        if len(kept.kept) < len(rows):
            rows = [rows[number] for number in kept.kept]
        size = sum(len(row.line) for row in rows)
        self._give(Committed(kept.first_seq, kept.arrival_us, cluster, rows, size))
        counts = self.counts_of(cluster)
        counts.last_arrival_us = kept.arrival_us
        counts.note_time(max(row.time_us or 0 for row in rows), arrival_us=kept.arrival_us)

    def _settle(self, job: _Job) -> None:
        counts, receipt = self.counts_of(job.cluster), job.receipt
        for name in ("events", "stored", "duplicates", "malformed", "foreign"):
            setattr(counts, name, getattr(counts, name) + getattr(receipt, name))
        self.release(job.size)
        job.future.set_result(receipt)

    def _drop(self, job: _Job, error: Exception) -> None:
        _LOG.exception("a body of %d bytes for %s cannot be read", job.size, job.cluster)
        self._forget(job)
        self.release(job.size)
        job.future.set_exception(error)

    def _fail(self, taken: list[_Taken], error: Exception) -> None:
        """Nothing of this commit is kept: all of its bodies will come again."""
        if isinstance(error, BarrelmanError):
            self.fault = error.oneline()
        else:
            self.fault = f"{type(error).__name__}: {error}"
        for each in taken:
            self._forget(each.job)
            self.release(each.job.size)
            each.job.future.set_exception(error)


def _read(body: bytes, *, is_list: bool, max_event_bytes: int) -> Iterator[Event | Problem]:
    # What is larger is read element by element, slower: millions of tiny items take much memory.
    if is_list and len(body) <= _MOST_WHOLE_BYTES:
        try:
            value = loads(body)
        except DecodeError:
            value = None
        if type(value) is dict and type(value.get("items")) is list:
            yield from _read_items(value["items"])
            return
    reader = EventReader(max_event_bytes=max_event_bytes)
    for at in range(0, len(body), _PIECE_BYTES):
        yield from reader.feed(body[at : at + _PIECE_BYTES])
    yield from reader.finish()


def _read_items(items: list[object]) -> Iterator[Event | Problem]:
    """Each by itself: a bad one takes no other with it."""
    for number, item in enumerate(items, 1):
        if type(item) is dict and is_raw_event(item):
            yield Event(item)
            continue
        for found in unwrap_element(item):
            if isinstance(found, Event):
                yield found
            elif isinstance(found, Problem):
                found.line = 0
                yield found
            else:
                yield Problem("foreign", f"item {number} is a part of a line", 0, "")
