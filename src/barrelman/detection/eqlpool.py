"""What an EQL rule's runs may find: single events, or what sequences and samples came to."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappush, heappushpop
from typing import Final, NamedTuple, TypeAlias

from barrelman.detection.drawer import Drawer
from barrelman.detection.finding import Item
from barrelman.detection.runs import Runs
from barrelman.engine.sequence import Completed
from barrelman.records.paths import Scalar

Order: TypeAlias = tuple[int, tuple[int, float | str], int]
"""EQL's: the time, the tiebreaker (missing ones last), the order of arrival."""

_FEW: Final = 64
_SHARE: Final = 16


class Kept:
    """A packed event in a drawer, for as long as anything holds this."""

    __slots__ = ("_drawer", "_number")

    def __init__(self, payload: bytes, drawer: Drawer) -> None:
        self._drawer = drawer
        self._number = drawer.put((payload,))

    def __del__(self) -> None:
        self._drawer.drop(self._number)

    def read(self) -> bytes:
        return self._drawer.read(self._number)[0]


class Entry(NamedTuple):
    """A match with its place among the others; its payload is put away."""

    order: Order
    item: Item
    kept: Kept

    @property
    def time_ms(self) -> int:
        """By which windows see it."""
        return self.item.time_us // 1000


class Candidate:
    """One result of the query, if it is within the window. `entries` are its events in order."""

    __slots__ = ("alert_id", "entries", "first_ms", "found", "is_offered", "last_ms", "order")

    def __init__(self, entries: tuple[Entry, ...], order: Order, found: Completed | None) -> None:
        self.entries = entries
        self.order = order
        """Of completion: that of the last of its events."""
        self.found = found
        times = [entry.time_ms for entry in entries]
        self.first_ms = min(times)
        self.last_ms = max(times)
        self.alert_id = _alert_id(entries) if found is not None else entries[0].item.identity
        self.is_offered = False
        """Whether a run has read it."""

    @property
    def keys(self) -> tuple[Scalar | None, ...]:
        return () if self.found is None else self.found.keys

    def holds(self, from_ms: int, to_ms: int) -> bool:
        return self.found is None or self.found.holds(from_ms, to_ms)


def event_candidate(entry: Entry) -> Candidate:
    return Candidate((entry,), entry.order, None)


def completed_candidates(found: Iterable[Completed]) -> list[Candidate]:
    """Those that one event completed. What joins the same events by another key is no other."""
    made: dict[str, Candidate] = {}
    for each in found:
        entries = tuple(entry for entry in each.items if entry is not None)
        candidate = Candidate(entries, max(entry.order for entry in entries), each)
        made.setdefault(candidate.alert_id, candidate)
    return list(made.values())


class Pool:
    """Candidates until no window holds them any more.

    `cap`: a run takes no more than so many, the newest; one that as many newer ones cover in each
    window to come is let go at once, and counted as lost. `covers` false: it cannot be told.
    """

    def __init__(self, runs: Runs, *, cap: int | None, covers: bool, most: int) -> None:
        self.lost = 0
        self.evicted = 0
        self._runs = runs
        self._cap = cap if covers else None
        self._takes_all = cap is None and covers
        self._most = most
        self._waiting: dict[int, list[Candidate]] = {}
        """By the first run that reads the last event."""
        self._trim_at: dict[int, int] = {}
        self._read: list[Candidate] = []
        """Those that a run has read, or is to read next."""
        self._live = 0

    def add(self, candidate: Candidate) -> None:
        first, _ = self._runs.ticks(candidate.last_ms)
        group = self._waiting.setdefault(first, [])
        group.append(candidate)
        self._live += 1
        if self._cap is not None and len(group) >= self._trim_at.get(first, 2 * self._cap + _FEW):
            kept = uncovered(group, self._cap)
            self.lost += len(group) - len(kept)
            self._live -= len(group) - len(kept)
            self._waiting[first] = kept
            self._trim_at[first] = 2 * len(kept) + _FEW
        if self._live > self._most:
            self._evict()

    def visible(self, from_ms: int, to_ms: int) -> list[Candidate]:
        """What a run finds, in order. Single events that came after all their runs are found by
        the next."""
        for first in [first for first in self._waiting if self._runs.window_ms(first)[1] <= to_ms]:
            self._read += self._waiting.pop(first)
            self._trim_at.pop(first, None)
        held = [
            each
            for each in self._read
            if each.first_ms >= from_ms or (each.found is None and not each.is_offered)
        ]
        self._live -= len(self._read) - len(held)
        self._read = held
        found = []
        for each in held:
            if each.last_ms <= to_ms and each.holds(from_ms, to_ms):
                each.is_offered = True
                found.append(each)
        found.sort(key=_order)
        return found

    def settle(self, found: list[Candidate]) -> None:
        """After a run: what no later run can come to goes."""
        if self._takes_all:
            kept: list[Candidate] = []
        elif self._cap is not None:
            kept = uncovered(found, self._cap)
        else:
            return
        gone = set(map(id, found)).difference(map(id, kept))
        self._read = [each for each in self._read if id(each) not in gone]
        self._live -= len(gone)

    def clear(self) -> None:
        self._waiting.clear()
        self._trim_at.clear()
        self._read.clear()
        self._live = 0

    def _evict(self) -> None:
        """The oldest make room."""
        every = [*self._read, *(each for group in self._waiting.values() for each in group)]
        every.sort(key=_order)
        number = self._live - self._most + self._most // _SHARE
        gone = set(map(id, every[:number]))
        self._read = [each for each in self._read if id(each) not in gone]
        for first, group in self._waiting.items():
            self._waiting[first] = [each for each in group if id(each) not in gone]
        self.evicted += len(gone)
        self._live -= len(gone)


def uncovered(candidates: list[Candidate], cap: int) -> list[Candidate]:
    """Those that are not shut out for good: by `cap` newer ones that began no earlier, so that
    every window with the one has those, too."""
    begins: list[int] = []
    kept = []
    for each in sorted(candidates, key=_order, reverse=True):
        if len(begins) < cap:
            heappush(begins, each.first_ms)
        elif begins[0] >= each.first_ms:
            continue
        else:
            heappushpop(begins, each.first_ms)
        kept.append(each)
    return kept


def _order(candidate: Candidate) -> Order:
    return candidate.order


def _alert_id(entries: tuple[Entry, ...]) -> str:
    """Made of what its events' own alerts would be called; those names hold the rule's."""
    import hashlib

    names = " ".join(entry.item.identity for entry in entries)
    return hashlib.sha256(f"sequence {names}".encode()).hexdigest()
