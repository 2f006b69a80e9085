"""Events in bulk: how many there are of a group, by the runs that read them.

Events that count in the same groups and are read by the same runs are one *pane*: a number, a first
and a last time, and the distinct values of one field. What is held so grows with the groups, not
with their events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from barrelman.detection.finding import Window
from barrelman.engine.reading import Combination
from barrelman.records.paths import Scalar

if TYPE_CHECKING:
    from barrelman.detection.runs import Runs

NEVER_MS: Final = -(1 << 62)
_REVIVED: Final = (NEVER_MS, NEVER_MS)


class Source:
    """The events of one cluster that count in the same groups.

    There are as many as live keys, so it holds as little as can be.
    """

    __slots__ = ("bound", "cluster", "cut_ms", "groups", "newest", "older", "tied")

    def __init__(
        self, cluster: str, groups: tuple[Combination, ...] | None, *, cut_ms: int
    ) -> None:
        self.cluster = cluster
        self.groups = groups
        """None where all its events are in one group."""
        self.bound = 0
        """No less than the number of its events."""
        self.newest: Pane | None = None
        self.older: list[Pane] | None = None
        """In the order of their times. No pane has events at or before the cut."""
        self.cut_ms = cut_ms
        """Events up to here were counted, or were not to count."""
        self.tied: Pane | None = None
        """Those of exactly that time, which count again once the cut is lifted."""

    @property
    def panes(self) -> Sequence[Pane]:
        if self.newest is None:
            return ()
        return (self.newest,) if self.older is None else (*self.older, self.newest)

    def take(self, time_ms: int, mark: tuple[int, int], values: tuple[Scalar, ...]) -> int:
        """How many pieces more there are."""
        if time_ms <= self.cut_ms:
            return self._take_tied(time_ms, values) if time_ms == self.cut_ms else 0
        self.bound += 1
        newest = self.newest
        if newest is not None:
            if newest.mark == mark:
                return newest.take(time_ms, values)
            if newest.mark > mark:
                return self._take_late(time_ms, mark, values)
            if self.older is None:
                self.older = [newest]
            else:
                self.older.append(newest)
        self.newest = Pane(mark, time_ms, values)
        return 1 + len(values)

    def _take_late(self, time_ms: int, mark: tuple[int, int], values: tuple[Scalar, ...]) -> int:
        if self.older is None:
            self.older = []
        for place, pane in enumerate(self.older):
            if pane.mark == mark:
                return pane.take(time_ms, values)
            if pane.mark > mark:
                self.older.insert(place, Pane(mark, time_ms, values))
                break
        else:
            self.older.append(Pane(mark, time_ms, values))
        return 1 + len(values)

    def _take_tied(self, time_ms: int, values: tuple[Scalar, ...]) -> int:
        if self.tied is not None:
            return self.tied.take(time_ms, values)
        self.tied = Pane(_REVIVED, time_ms, values)
        return 1 + len(values)

    def leave(self, from_ms: int) -> None:
        """No window reads any more what lies before."""
        newest = self.newest
        if newest is not None and newest.last_ms < from_ms:
            self.newest = self.older = None
        elif self.older is not None and self.older[0].last_ms < from_ms:
            self.older = [pane for pane in self.older if pane.last_ms >= from_ms] or None
        if NEVER_MS < self.cut_ms <= from_ms:
            if self.tied is not None and self.cut_ms == from_ms:
                self._set_panes([self.tied, *self.panes])
                self.bound += self.tied.events
            self.tied = None
            self.cut_ms = NEVER_MS

    def cut(self, last_ms: int) -> None:
        """A group that they count in has alerted, and its last event was then."""
        if last_ms <= self.cut_ms:
            return
        self.cut_ms, self.tied = last_ms, None
        for pane in self.panes:
            if pane.last_ms == last_ms:
                self.tied = pane.last_moment()
        self._set_panes([pane for pane in self.panes if pane.last_ms > last_ms])

    def _set_panes(self, panes: list[Pane]) -> None:
        self.newest = panes.pop() if panes else None
        self.older = panes or None

    @property
    def is_empty(self) -> bool:
        return self.newest is None and self.cut_ms == NEVER_MS

    @property
    def pieces(self) -> int:
        """How much of it there is, in groups, panes and values."""
        pieces = 1 if self.groups is None else len(self.groups)
        for pane in self.panes if self.tied is None else (self.tied, *self.panes):
            pieces += 1 if pane.values is None else 1 + len(pane.values)
        return pieces

    @property
    def last_ms(self) -> int:
        return self.cut_ms if self.newest is None else self.newest.last_ms


class Pane:
    """Events of a source that the same runs read."""

    __slots__ = ("at_last", "events", "first_ms", "last_ms", "mark", "values")

    def __init__(self, mark: tuple[int, int], time_ms: int, values: Sequence[Scalar]) -> None:
        self.mark = mark
        self.events = self.at_last = 1
        """All of them, and those of the last time."""
        self.first_ms = self.last_ms = time_ms
        self.values: dict[Scalar, int] | None = dict.fromkeys(values, time_ms) if values else None
        """Each distinct value, and when it came last."""

    def take(self, time_ms: int, values: tuple[Scalar, ...]) -> int:
        """How many values are new."""
        self.events += 1
        if time_ms > self.last_ms:
            self.last_ms = time_ms
            self.at_last = 1
        elif time_ms == self.last_ms:
            self.at_last += 1
        elif time_ms < self.first_ms:
            self.first_ms = time_ms
        if not values:
            return 0
        held = self.values
        if held is None:
            held = self.values = {}
        before = len(held)
        for value in values:
            held[value] = max(time_ms, held.get(value, time_ms))
        return len(held) - before

    def last_moment(self) -> Pane:
        """A pane of only the events of the last time."""
        values = [v for v, ms in (self.values or {}).items() if ms == self.last_ms]
        pane = Pane(_REVIVED, self.last_ms, values)
        pane.events = pane.at_last = self.at_last
        return pane


class Count(NamedTuple):
    """What a run counts in a group."""

    events: int
    first_ms: int
    last_ms: int
    cluster: str
    to_come: int
    """Events that lie behind the run's window."""


def count_of(sources: Iterable[Source], window: Window) -> Count:
    events = to_come = 0
    first_ms, last_ms = -NEVER_MS, NEVER_MS
    clusters = set()
    for source in sources:
        source.leave(window.from_ms)
        for pane in source.panes:
            if pane.first_ms > window.to_ms:
                to_come += pane.events
                continue
            events += pane.events
            first_ms = min(first_ms, pane.first_ms)
            last_ms = max(last_ms, pane.last_ms)
            clusters.add(source.cluster)
    cluster = clusters.pop() if len(clusters) == 1 else ""
    return Count(events, first_ms, last_ms, cluster, to_come)


def distinct_of(sources: Iterable[Source], window: Window, *, enough: int = 0) -> int:
    """The distinct values of a group's events in the window; 0 where they cannot be enough."""
    held = [
        pane.values
        for source in sources
        for pane in source.panes
        if pane.first_ms <= window.to_ms and pane.values is not None
    ]
    if sum(map(len, held)) < enough:
        return 0
    return len(held[0]) if len(held) == 1 else len(set().union(*held))


class PaneMarks:
    """The pane of an instant: the first and the last run that read it."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self.low_ms = 0
        self.high_ms = -1
        self.mark: tuple[int, int] | None = None
        """That of the instants from `low_ms` to `high_ms`; None where no run reads them."""

    def move(self, instant_ms: int) -> None:
        """To that instant, and as many behind it as have the same mark."""
        first, last = self._runs.ticks(instant_ms)
        self.low_ms = self.high_ms = instant_ms
        self.mark = None
        if first <= last:
            self.mark = first, last
            ends = self._runs.window_ms(first)[1], self._runs.window_ms(last + 1)[0] - 1
            self.high_ms = max(instant_ms, min(ends))
