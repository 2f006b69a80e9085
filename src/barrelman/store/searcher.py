"""Searches over what is stored now, and what is done when a file turns out to be broken."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from barrelman.errors import StoreError
from barrelman.records.where import Always, Where
from barrelman.store import search
from barrelman.store.bounds import Bounds
from barrelman.store.columns import is_readable
from barrelman.store.duck import Duck
from barrelman.store.folder import DataFolder
from barrelman.store.foreign import ForeignShelf
from barrelman.store.search import By, Count, Order, RowRef
from barrelman.store.segments import Describe, Segment, rebuild
from barrelman.store.shelf import Shelf
from barrelman.store.view import View

_TRIES = 5
_PAGE = 1000

_Answer = TypeVar("_Answer")


class Searcher:
    """For any thread."""

    def __init__(
        self,
        folder: DataFolder,
        shelf: Shelf | ForeignShelf,
        *,
        describe: Describe,
        memory: str,
        threads: int,
    ) -> None:
        self._folder = folder
        self._shelf = shelf
        self._describe = describe
        self._memory = memory
        self._threads = threads
        self._lock = threading.Lock()
        self._made: Duck | None = None

    def select(
        self,
        where: Where,
        bounds: Bounds,
        *,
        by: By,
        order: Order,
        limit: int,
        after: RowRef | None,
    ) -> list[RowRef]:
        """As `search.select`, of what is stored now."""
        if limit <= 0:
            return []
        duck = self._duck()
        return self._ask(
            lambda view: search.select(
                duck, view, where, bounds, by=by, order=order, limit=limit, after=after
            )
        )

    def count(self, where: Where, bounds: Bounds) -> Count:
        """How many plain rows meet the condition; the others are found as they are taken."""
        duck = self._duck()
        last_seq = self._shelf.view().next_seq - 1
        if bounds.seq[1] is not None:
            last_seq = min(last_seq, bounds.seq[1])
        fixed = bounds._replace(seq=(bounds.seq[0], last_seq))
        plain = self._ask(lambda view: search.count(duck, view, where, fixed))

        def others(after: RowRef | None) -> list[RowRef]:
            return self._ask(
                lambda view: search.select(
                    duck,
                    search.only_unplain(view),
                    Always(is_true=False),
                    fixed,
                    by="seq",
                    order="asc",
                    limit=_PAGE,
                    after=after,
                )
            )

        return Count(plain, search.pages(others))

    def close(self) -> None:
        """Lets go of memory; a later search takes it again."""
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None

    def _duck(self) -> Duck:
        with self._lock:
            if self._made is None:
                self._made = Duck(
                    memory=self._memory,
                    threads=self._threads,
                    temporary=None if self._folder.read_only else self._folder.temporary,
                )
            return self._made

    def _ask(self, ask: Callable[[View], _Answer]) -> _Answer:
        tries = 0
        while True:
            view = self._shelf.view(with_columns=True)
            try:
                return ask(view)
            except StoreError:
                # A file may have gone or be broken; anything else will fail again.
                tries += 1
                if tries == _TRIES or not self._has_changed(view):
                    raise

    def _has_changed(self, view: View) -> bool:
        """Whether a search of that view may succeed now; broken segments are made anew."""
        gone = [each for each in view.segments if not each.columns.exists()]
        now = {each.stem for each in self._shelf.view().segments}
        if any(each.stem not in now for each in gone):
            return True
        if isinstance(self._shelf, ForeignShelf):
            return False
        broken = gone or [each for each in view.segments if not is_readable(each.columns)]
        for segment in broken:
            self._mend(segment, self._shelf)
        return bool(broken)

    def _mend(self, segment: Segment, shelf: Shelf) -> None:
        with self._lock:
            if segment not in shelf.view().segments or (
                segment.columns.exists() and is_readable(segment.columns)
            ):
                return  # someone else did
            if not segment.lines.exists():
                shelf.replaced(segment, None)
                shelf.fault(f"{segment.stem.name}: its files are gone, and so are its events")
                return
            rebuilt = rebuild(segment.stem, self._describe, damaged=self._folder.damaged)
            shelf.replaced(segment, rebuilt.segment)
            lost = f"{rebuilt.lost} events" if rebuilt.lost else "no event"
            shelf.fault(f"{segment.stem.name}: columns were broken and are made anew; {lost} lost")
