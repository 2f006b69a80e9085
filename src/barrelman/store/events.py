"""The event store: rows in, rows and their lines out, whatever happens in between."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from barrelman.errors import Place, StoreError
from barrelman.records.where import Where
from barrelman.store.bounds import Bounds, Span, bounds_of
from barrelman.store.folder import DataFolder, failure
from barrelman.store.foreign import ForeignShelf
from barrelman.store.frames import Frame, clipped, frame_of
from barrelman.store.log import LogWriter
from barrelman.store.lookup import Lookup, StoredLine
from barrelman.store.part import OpenPart
from barrelman.store.recovery import Found, open_seen, recover
from barrelman.store.search import By, Count, Order, RowRef
from barrelman.store.searcher import Searcher
from barrelman.store.segments import Describe
from barrelman.store.shelf import Shelf
from barrelman.store.view import Broken, View, blocks_of, size_of
from barrelman.store.writer import Incoming, Retired, Stored, StoreOptions, Writer

__all__ = [
    "Count",
    "EventStore",
    "Frame",
    "Incoming",
    "Retired",
    "RowRef",
    "Stats",
    "StoreOptions",
    "Stored",
    "StoredLine",
]

_NO_SPAN: Span = (None, None)


class Stats(NamedTuple):
    """What is stored, in numbers."""

    events: int
    size: int
    """Bytes on disk."""
    segments: int
    open_rows: int
    """Rows in no segment yet."""
    first_arrival_us: int | None
    last_arrival_us: int | None
    last_arrivals_us: dict[str, int]
    """By cluster; of clusters that only segments hold, a later instant at most."""
    trouble: str | None
    """What fails at the moment besides appending: sealing, say. It is tried again by itself."""


class EventStore:
    """All events. `append`, `seal_if_due` and `retire` are one thread's, the rest is any one's."""

    def __init__(
        self,
        folder: DataFolder,
        shelf: Shelf | ForeignShelf,
        writer: Writer | None,
        searcher: Searcher,
    ) -> None:
        self.folder = folder
        self._shelf = shelf
        self._writer = writer
        self._searcher = searcher
        self.notes: list[str] = []
        """What was tidied up when it was opened: nothing that was acknowledged."""

    @classmethod
    def open(
        cls,
        folder: DataFolder,
        *,
        clock: Callable[[], int],
        describe: Describe,
        options: StoreOptions | None = None,
        at_least_seq: int = 0,
    ) -> EventStore:
        """Opens what is there, and mends it where the last process did not end well.

        `describe` decodes a line again. What was lost by damage is told in `faults`. The caller
        may know, as it judged them, that all rows before `at_least_seq` were stored: what of them
        is not found is lost, and no other row gets their seqs.
        """
        options = options or StoreOptions()
        if folder.read_only:
            foreign = ForeignShelf(folder, describe=describe)
            return cls(folder, foreign, None, _searcher(folder, foreign, describe, options))
        with contextlib.ExitStack() as undo:
            broken: list[str] = []
            seen = open_seen(folder, broken.append)
            undo.callback(seen.close)
            found = recover(folder, describe, seen=seen, at_least_seq=at_least_seq)
            log, parts = _log_of(folder, found)
            undo.callback(log.close)
            shelf = Shelf(
                segments=found.segments,
                parts=parts,
                next_seq=found.next_seq,
                last_us=found.last_arrival_us,
            )
            shelf.faults += [*broken, *found.faults]
            writer = Writer(
                folder, shelf, log, seen, clock=clock, describe=describe, options=options
            )
            undo.pop_all()  # they are the writer's now
        store = cls(folder, shelf, writer, _searcher(folder, shelf, describe, options))
        store.notes += found.notes
        return store

    @property
    def next_seq(self) -> int:
        """The seq of the next row to come: all stored ones are below."""
        return self._shelf.next_seq

    @property
    def last_arrival_us(self) -> int:
        """When the last row arrived; 0 where none ever did."""
        return self._shelf.last_arrival_us

    @property
    def faults(self) -> list[str]:
        """What was lost by damage, a sentence each."""
        return list(self._shelf.faults)

    def append(self, batches: Sequence[Incoming]) -> list[Stored]:
        """Stores rows that did not come before, in one commit that is durable on return.

        Raises `StoreError` where nothing was kept; a later call may succeed.
        """
        return self._writing.append(batches)

    def seal_if_due(self, now_us: int) -> None:
        """To be called about once a second: seals, and forgets old keys, in small steps."""
        self._writing.seal_if_due(now_us)

    def seal(self) -> None:
        """Seals all rows now, and waits for it."""
        self._writing.seal()

    def wait(self) -> None:
        """Until nothing goes on in the background, sealing say."""
        self._writing.wait()

    def retire(
        self, now_us: int, *, keep_seq: int | None = None, keep_arrival_us: int | None = None
    ) -> Retired:
        """Removes what is kept no longer.

        Rows from `keep_seq` on, or that arrived at `keep_arrival_us` or later, were not judged
        yet. However old they are, they go only where the rest is still too large without all
        others, and that is told in `faults`.
        """
        return self._writing.retire(now_us, keep_seq=keep_seq, keep_arrival_us=keep_arrival_us)

    def frames(
        self,
        *,
        first_seq: int | None = None,
        arrival_us: Span = _NO_SPAN,
        time_us: Span = _NO_SPAN,
        clusters: Collection[str] | None = None,
    ) -> Iterator[Frame]:
        """Frames of all rows that may lie in these bounds and are stored now, in order of seq.

        Bounds are included. A frame holds rows beyond them, too, but none before `first_seq`.
        """
        bounds = bounds_of(
            seq=(first_seq, None), arrival_us=arrival_us, time_us=time_us, clusters=clusters
        )
        return self._frames(self._shelf.view(), bounds)

    def select(
        self,
        where: Where,
        *,
        first_seq: int | None = None,
        last_seq: int | None = None,
        arrival_us: Span = _NO_SPAN,
        time_us: Span = _NO_SPAN,
        clusters: Collection[str] | None = None,
        by: By = "seq",
        order: Order = "asc",
        limit: int = 1000,
        after: RowRef | None = None,
    ) -> list[RowRef]:
        """The first `limit` rows beyond `after` that meet the condition or are not plain.

        Of those that are not plain (`RowRef.is_plain`) the caller judges the lines, and asks for
        more, from the last ref on, where too few of them remain. `by` time is by a row's own,
        else by its arrival. Bounds are included; where one of time is given, plain rows without
        a time are outside.
        """
        bounds = bounds_of(
            seq=(first_seq, last_seq), arrival_us=arrival_us, time_us=time_us, clusters=clusters
        )
        return self._searcher.select(where, bounds, by=by, order=order, limit=limit, after=after)

    def count(
        self,
        where: Where,
        *,
        first_seq: int | None = None,
        last_seq: int | None = None,
        arrival_us: Span = _NO_SPAN,
        time_us: Span = _NO_SPAN,
        clusters: Collection[str] | None = None,
    ) -> Count:
        """How many plain rows meet the condition, and refs of all that are not plain."""
        bounds = bounds_of(
            seq=(first_seq, last_seq), arrival_us=arrival_us, time_us=time_us, clusters=clusters
        )
        return self._searcher.count(where, bounds)

    def fetch(self, refs: Sequence[RowRef]) -> Iterator[StoredLine]:
        """The rows of `refs` with their lines, in that order; what is kept no longer is left out.

        Neighbours are cheap, scattered rows cost unpacking a frame each.
        """
        return Lookup(self._shelf.view, self._tell).lines(refs)

    def stats(self) -> Stats:
        """What is stored, in numbers; costs little."""
        view = self._shelf.view()
        extents = [segment.extent for segment in view.segments]
        extents += [part.extent for part in view.parts if part.extent is not None]
        open_rows = sum(part.rows for part in view.parts)
        logs = size_of([part.log for part in view.parts])
        return Stats(
            events=sum(segment.rows for segment in view.segments) + open_rows,
            size=sum(segment.size for segment in view.segments) + logs,
            segments=len(view.segments),
            open_rows=open_rows,
            first_arrival_us=min((each.arrival_us[0] for each in extents), default=None),
            last_arrival_us=max((each.arrival_us[1] for each in extents), default=None),
            last_arrivals_us=self._shelf.last_by_cluster(),
            trouble=self._shelf.trouble,
        )

    def close(self) -> None:
        """Ends what goes on in the background; twice is once."""
        self._searcher.close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _writing(self) -> Writer:
        if self._writer is None:
            raise StoreError(
                "the event store is closed or opened for reading only",
                place=Place(str(self.folder.path)),
            )
        return self._writer

    def _frames(self, view: View, bounds: Bounds) -> Iterator[Frame]:
        position = bounds.seq[0] or 0
        last_seq = view.next_seq - 1
        vanished: set[str] = set()
        while True:
            try:
                for found in blocks_of(view, bounds._replace(seq=(position, last_seq))):
                    if isinstance(found, Broken):
                        self._tell(found)
                        continue
                    frame = clipped(frame_of(found), first_seq=position, last_seq=last_seq)
                    if frame is not None:
                        position = frame.seqs[-1] + 1
                        yield frame
                return
            except FileNotFoundError as error:
                # Sealed or removed since: what was in it is elsewhere, or kept no longer.
                view = self._give_up_on(str(error.filename), vanished, self._shelf.view())
            except OSError as error:
                raise failure("events cannot be read", self.folder.events, error) from error

    def _give_up_on(self, name: str, vanished: set[str], view: View) -> View:
        """Where a file is still in view when it is missed again, someone else removed it."""
        if name not in vanished:
            vanished.add(name)
            return view
        removed = [each for each in view.segments if str(each.lines) == name]
        if not removed or isinstance(self._shelf, ForeignShelf):
            raise StoreError("a file of the store is gone", place=Place(name))
        for segment in removed:
            self._shelf.replaced(segment, None)
            self._shelf.fault(f"{segment.stem.name}: {segment.rows} events lost, a file is gone")
        return self._shelf.view()

    def _tell(self, broken: Broken) -> None:
        gap = broken.gap
        rows = "events" if gap.head is None else f"{gap.head.rows} events"
        self._shelf.fault(f"{broken.path.name}: {rows} at {gap.at:,} are broken")


def _log_of(folder: DataFolder, found: Found) -> tuple[LogWriter, list[OpenPart]]:
    """The log that rows are added to, and all parts up to it."""
    if found.last_size is not None:
        return LogWriter.resume(found.parts[-1].log, size=found.last_size), found.parts
    log = LogWriter.create(folder.log, first_seq=found.next_seq, arrival_us=found.last_arrival_us)
    return log, [*found.parts, OpenPart(log.path)]


def _searcher(
    folder: DataFolder, shelf: Shelf | ForeignShelf, describe: Describe, options: StoreOptions
) -> Searcher:
    return Searcher(
        folder,
        shelf,
        describe=describe,
        memory=options.search_memory,
        threads=options.search_threads,
    )
