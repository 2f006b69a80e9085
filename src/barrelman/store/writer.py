"""The one that writes: commits to the log, sealing, and what is kept no longer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from barrelman.errors import Place, StoreError
from barrelman.records.frozen import frozen
from barrelman.records.rows import Row
from barrelman.store.bounds import Bounds
from barrelman.store.columns import Batch, Keys, batch_of, keys_in, own_time
from barrelman.store.folder import DataFolder, failure, sync_folder
from barrelman.store.frames import Block
from barrelman.store.log import LogWriter, blocks_of_rows
from barrelman.store.part import OpenPart, Part
from barrelman.store.recovery import open_seen
from barrelman.store.seen import KEEP_US, Seen, key_of, keys_of
from barrelman.store.segments import (
    Describe,
    Segment,
    Unjudged,
    described,
    keys_of_segment,
    publish,
    put_aside,
    remove,
)
from barrelman.store.shelf import Shelf
from barrelman.store.view import Broken, part_blocks, size_of

_T = TypeVar("_T")
_MOMENT_SECONDS = 0.0005
_TIDY_SECONDS = 5.0
_FORGET_STEPS = 8
_RETRY_SECONDS = 15.0
_MOST_PARTS = 3


class Incoming(NamedTuple):
    """Rows of one cluster that arrive together."""

    cluster: str
    rows: Sequence[Row]


class Stored(NamedTuple):
    """What became of one `Incoming`: row `kept[n]` got the seq `first_seq + n`."""

    first_seq: int
    arrival_us: int
    cluster: str
    kept: Sequence[int]
    duplicates: int


class Retired(NamedTuple):
    """What is kept no longer."""

    segments: int
    events: int
    size: int
    """Bytes on disk."""
    unjudged_events: int = 0
    """Of `events`, those that went for want of room before anyone judged them."""
    held_segments: int = 0
    """Of age, and kept all the same: not all of their rows were judged."""
    held_events: int = 0


@frozen
class StoreOptions:
    """When rows are sealed, how long they are kept, and what searches may take."""

    seal_bytes: int = 256 * 1024 * 1024
    """Of lines."""
    seal_rows: int = 250_000
    seal_seconds: int = 3600
    keep_seconds: int | None = None
    """After arrival; None for ever."""
    keep_bytes: int | None = None
    """Of all files of events together; None for no bound."""
    search_memory: str = "128MB"
    search_threads: int = 2


class Writer:
    """For one thread; only sealing goes on in another."""

    def __init__(
        self,
        folder: DataFolder,
        shelf: Shelf,
        log: LogWriter,
        seen: Seen,
        *,
        clock: Callable[[], int],
        describe: Describe,
        options: StoreOptions,
    ) -> None:
        self._folder = folder
        self._shelf = shelf
        self._log = log
        self._clock = clock
        self._describe = describe
        self._options = options
        self._sealing: threading.Thread | None = None
        self._retry_at = 0.0
        self._tidying: threading.Thread | None = None
        self._tidy_at = time.monotonic() + _TIDY_SECONDS
        self._forget_before_us = 0
        self._seen = seen
        self._enter_missing(seen)

    def append(self, batches: Sequence[Incoming]) -> list[Stored]:
        """One commit, durable on return."""
        self._refuse_if_stuck()
        arrival_us = max(self._clock(), self._shelf.last_arrival_us)
        keys = [key_of(row.key, time_us=own_time(row)) for batch in batches for row in batch.rows]
        again = self._again(keys)
        stored, rows = _sorted_out(
            batches, again, first_seq=self._shelf.next_seq, arrival_us=arrival_us
        )
        if rows:
            runs = [(each.cluster, len(each.kept)) for each in stored if each.kept]
            first_seq = self._shelf.next_seq
            blocks = list(blocks_of_rows(rows, runs, first_seq=first_seq, arrival_us=arrival_us))
            batch = batch_of(rows, first_seq=first_seq, arrival_us=arrival_us, clusters=runs)
            places = self._log.append(blocks)
            fresh = [key for at, key in enumerate(keys) if at not in again] if again else keys
            self._seen.enter(fresh, arrival_us=arrival_us)
            self._shelf.add([block.head for block in blocks], places, batch)
        if self._seen.is_due:
            self._tidy_soon()
        return stored

    def seal_if_due(self, now_us: int) -> None:
        """What is to be done now and then. What fails is told as trouble, and tried again."""
        self._forget_before_us = now_us - KEEP_US
        if time.monotonic() >= self._tidy_at:
            self._tidy_soon()
        if self._sealing is not None and self._sealing.is_alive():
            return
        if self._is_due(now_us) and len(self._shelf.unsealed) < _MOST_PARTS:
            self._try("rotating", self._rotate)
        if self._shelf.unsealed and time.monotonic() >= self._retry_at:
            self._start_sealing(self._shelf.unsealed[0])

    def seal(self) -> None:
        """Seals all there is, now; raises `StoreError` where that fails."""
        self.wait()
        if self._shelf.open_part.rows:
            self._rotate()
        while self._shelf.unsealed:
            self._start_sealing(self._shelf.unsealed[0])
            self.wait()
            if "sealing" in self._shelf.troubles:
                raise StoreError(self._shelf.troubles["sealing"])

    def wait(self) -> None:
        """Until nothing goes on in the background."""
        for each in (self._sealing, self._tidying):
            if each is not None:
                each.join()

    def retire(
        self, now_us: int, *, keep_seq: int | None = None, keep_arrival_us: int | None = None
    ) -> Retired:
        """Removes the oldest segments: by age, then until the rest is small enough."""
        unjudged = Unjudged(keep_seq, keep_arrival_us)
        view = self._shelf.view()
        gone: list[Segment] = []
        held: list[Segment] = []
        lost = 0
        size = sum(each.size for each in view.segments) + size_of([p.log for p in view.parts])
        try:
            for segment in view.segments:
                is_large = self._options.keep_bytes is not None and size > self._options.keep_bytes
                if not (is_large or self._is_old(segment, now_us)):
                    break
                if not is_large and unjudged.has_some_of(segment):
                    held.append(segment)
                    continue
                count = unjudged.count_in(segment)
                self._remove(segment)
                lost += count
                size -= segment.size
                gone.append(segment)
        finally:
            if lost:
                text = f"{lost} events were removed for want of room before they were judged"
                self._shelf.fault(f"{text}, the last of segment {gone[-1].stem.name}")
        return Retired(
            len(gone),
            sum(each.rows for each in gone),
            sum(each.size for each in gone),
            lost,
            len(held),
            sum(each.rows for each in held),
        )

    def _is_old(self, segment: Segment, now_us: int) -> bool:
        seconds = self._options.keep_seconds
        return seconds is not None and segment.extent.arrival_us[1] < now_us - seconds * 1_000_000

    def _remove(self, segment: Segment) -> None:
        """Readers that still have it in view look anew, and must not find it then."""
        self._shelf.replaced(segment, None)
        try:
            remove(segment)
        except StoreError:
            if segment.columns.exists():  # nothing was done yet
                self._shelf.replaced(segment, segment)
            raise

    def close(self) -> None:
        """Waits for what is being sealed. What is in no segment stays in the log."""
        self.wait()
        self._try("keys", self._flush)
        self._seen.close()
        self._log.close()

    def _refuse_if_stuck(self) -> None:
        if self._seen.is_corrupt:
            self._renew_seen()
        if self._seen.is_behind:
            self._flush()
        part = self._shelf.open_part
        if part.size >= 2 * self._options.seal_bytes or part.rows >= 2 * self._options.seal_rows:
            raise StoreError(
                "events cannot be sealed as fast as they come",
                place=Place(str(self._folder.events)),
                hint=self._shelf.trouble,
            )

    def _is_due(self, now_us: int) -> bool:
        part = self._shelf.open_part
        if part.first_arrival_us is None:
            return False
        return (
            part.size >= self._options.seal_bytes
            or part.rows >= self._options.seal_rows
            or now_us - part.first_arrival_us >= self._options.seal_seconds * 1_000_000
        )

    def _rotate(self) -> None:
        """A new log. The keys of the old one will be on disk before it is gone."""
        self._seen.set_apart()
        fresh = LogWriter.create(
            self._folder.log,
            first_seq=self._shelf.next_seq,
            arrival_us=self._shelf.last_arrival_us,
        )
        self._log.close()
        self._log = fresh
        self._shelf.rotate(OpenPart(fresh.path))

    def _start_sealing(self, part: Part) -> None:
        sealing = threading.Thread(target=self._seal, args=(part,), name="sealing")
        if self._starts(sealing):
            self._sealing = sealing
        else:
            self._retry_at = time.monotonic() + _RETRY_SECONDS

    def _seal(self, part: Part) -> None:
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        if self._try("sealing", lambda: self._sealed(part)):
            self._retry_at = 0.0

    def _sealed(self, part: Part) -> None:
        """Puts a part's rows into a segment. Its log goes when nothing needs it any more."""
        try:
            segment = _segment_of(part, self._folder, self._describe, self._shelf)
        except OSError as error:
            raise failure("a log cannot be sealed", part.log, error) from error
        if part.extent is not None:
            self._seen.flush(through=part.extent.last_seq + 1)
        self._shelf.sealed(part.log, segment)
        try:
            part.log.unlink(missing_ok=True)
            sync_folder(self._folder.log)
        except OSError as error:
            raise failure("a log cannot be removed", part.log, error) from error

    def _flush(self) -> None:
        """Writes all keys that wait, now."""
        self._seen.set_apart()
        self._seen.flush(through=self._shelf.next_seq)

    def _tidy_soon(self) -> None:
        """Writes keys that wait, and forgets old ones, in another thread: it waits for the disk."""
        if self._tidying is not None and self._tidying.is_alive():
            return
        self._tidy_at = time.monotonic() + _TIDY_SECONDS
        self._seen.set_apart()
        tidying = threading.Thread(
            target=self._tidy, args=(self._seen, self._shelf.next_seq), name="keys"
        )
        if self._starts(tidying):
            self._tidying = tidying

    def _starts(self, thread: threading.Thread) -> bool:
        """Whether there is room for one more thread; if not, that is its trouble."""
        try:
            thread.start()
        except RuntimeError as error:
            self._shelf.troubles[thread.name] = f"{thread.name}: {error}"
            return False
        return True

    def _tidy(self, seen: Seen, through: int) -> None:
        def step() -> None:
            seen.flush(through=through)
            for _ in range(_FORGET_STEPS):
                if not seen.forget(self._forget_before_us):
                    break

        self._try("keys", step)

    def _try(self, name: str, step: Callable[[], object]) -> bool:
        """Whether a step of that name succeeded; until it does, why not is told as trouble."""
        try:
            step()
        except StoreError as error:
            self._shelf.troubles[name] = str(error)
            return False
        except Exception as error:  # noqa: BLE001  # a bug, too, must be seen, and end no thread
            self._shelf.troubles[name] = f"{name}: {type(error).__name__}: {error}"
            return False
        self._shelf.troubles.pop(name, None)
        return True

    def _again(self, keys: Sequence[bytes]) -> set[int]:
        try:
            return self._seen.again(keys)
        except StoreError:
            if not self._seen.is_corrupt:
                raise
        self._renew_seen()
        return self._seen.again(keys)

    def _renew_seen(self) -> None:
        """In place of a broken file, a new one with the keys that segments and log hold."""
        self.wait()
        self._seen.close()
        seen = open_seen(self._folder, self._shelf.fault, is_corrupt=True)
        try:
            self._enter_missing(seen)
        except BaseException:
            seen.close()
            raise
        self._seen = seen

    def _enter_missing(self, seen: Seen) -> None:
        """Enters keys of rows that it does not hold."""
        view = self._shelf.view()
        through = seen.through
        since_us = self._shelf.last_arrival_us - KEEP_US
        for segment in view.segments:
            extent = segment.extent
            if extent.last_seq >= through and extent.arrival_us[1] >= since_us:
                for keys in self._keys_of(segment):
                    _enter(seen, keys)
                    if seen.is_due:
                        seen.set_apart()
                        seen.flush(through=through)
        for part in view.parts:
            for batch in part.batches:
                if batch.column("seq")[-1].as_py() >= through:
                    _enter(seen, keys_in(batch))
        # On a full disk they wait in memory; a start must not fail for that.
        seen.set_apart()
        self._try("keys", lambda: seen.flush(through=view.next_seq))

    def _keys_of(self, segment: Segment) -> Iterator[Keys]:
        try:
            yield from keys_of_segment(segment, self._describe)
        except StoreError as error:  # it is gone or broken, and the others are not
            self._shelf.fault(str(error))


def _enter(seen: Seen, keys: Keys) -> None:
    kept = keys_of(keys.keys, times_us=keys.times_us)
    seen.enter(kept, arrival_us=keys.arrivals_us[-1])


def _segment_of(part: Part, folder: DataFolder, describe: Describe, shelf: Shelf) -> Segment | None:
    """Publishes the rows of a part; where its log broke since, those that are whole."""
    broken: list[Broken] = []

    def whole() -> Iterator[Block]:
        for found in _slowly(part_blocks(part, Bounds())):
            if isinstance(found, Broken):
                broken.append(found)
            else:
                yield found

    is_whole = all(not isinstance(found, Broken) for found in _slowly(part_blocks(part, Bounds())))
    if is_whole:
        return publish(folder.events, whole(), part.batches)
    made: list[Batch] = []
    count = sum(1 for _ in described(whole(), describe, made))
    for each in broken:
        shelf.fault(f"{each.path.name}: broken at {each.gap.at:,}; events of it are lost")
    put_aside(part.log, folder.damaged)
    return publish(folder.events, whole(), made) if count else None


def _slowly(found: Iterator[_T]) -> Iterator[_T]:
    """With a moment for others after each: sealing can wait, and who commits cannot."""
    for each in found:
        yield each
        time.sleep(_MOMENT_SECONDS)


def _sorted_out(
    batches: Sequence[Incoming], again: set[int], *, first_seq: int, arrival_us: int
) -> tuple[list[Stored], list[Row]]:
    """What becomes of each batch, and all rows that are new."""
    stored: list[Stored] = []
    rows: list[Row] = []
    offset = 0
    for cluster, given in batches:
        kept: Sequence[int] = range(len(given))
        if again:
            kept = [at for at in kept if offset + at not in again]
        offset += len(given)
        stored.append(
            Stored(first_seq + len(rows), arrival_us, cluster, kept, len(given) - len(kept))
        )
        rows += given if len(kept) == len(given) else [given[at] for at in kept]
    return stored, rows
