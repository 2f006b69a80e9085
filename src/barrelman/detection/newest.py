"""Matches of which each is an alert, newest first: the order in which indicators are matched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from barrelman.detection.finding import MOST_LIVE, Finding, Item, Window
from barrelman.detection.runs import Runs

_FEW: Final = 64
_SHARE: Final = 16
_NEVER_MS: Final = -(1 << 62)


@dataclass(slots=True)
class _Pane:
    """Matches that the same runs read."""

    instant_ms: int
    """Of one of them: a window that holds it holds all."""
    items: list[Item] = field(default_factory=list)
    is_read: bool = False
    """Whether a run has read them, and left these."""


class Newest:
    """A run takes the newest matches of its window that no run before it took, up to its cap. What
    it leaves is `capped` until a later run takes it.

    `oldest_first`: a run takes the oldest, as it does where repeats are folded.
    """

    def __init__(
        self,
        runs: Runs,
        *,
        cap: int | None,
        oldest_first: bool = False,
        most_live: int = MOST_LIVE,
    ) -> None:
        self.capped = 0
        self.suppressed = 0
        self.evicted = 0
        self._runs = runs
        self._cap = cap
        self._newest_first = not oldest_first
        self._most_live = most_live
        self._panes: dict[tuple[int, int, int], _Pane] = {}
        self._live = 0
        self._lost = 0
        self._read_ms = _NEVER_MS
        """Up to when runs have read."""
        self._done = 0
        """How many runs there were."""

    def add(self, item: Item) -> None:
        """The next match. One that comes when all its runs are over is the next run's."""
        time_ms = item.time_us // 1000
        first, last = self._runs.ticks(time_ms)
        if last < first:
            return
        place = first, last, self._done if time_ms <= self._read_ms else 0
        pane = self._panes.get(place)
        if pane is None:
            pane = self._panes[place] = _Pane(time_ms)
        pane.items.append(item)
        self._live += 1
        if self._cap is not None:
            # All its runs together take no more: what is left would never have a turn.
            takeable = self._cap * (last - first + 1)
            if len(pane.items) >= 2 * takeable + _FEW:
                self._trim(pane.items, takeable)
        if self._live > self._most_live:
            self._evict()

    def run(self, window: Window) -> list[Finding]:
        return self.take(window, most=self._cap)

    def take(self, window: Window, *, most: int | None) -> list[Finding]:
        """What a run takes that has room for so many, which are no more than the cap."""
        self._leave(window.from_ms)
        self._done += 1
        self._read_ms = max(self._read_ms, window.to_ms)
        read = {
            place: pane for place, pane in self._panes.items() if pane.instant_ms <= window.to_ms
        }
        matches = [item for pane in read.values() for item in pane.items]
        matches.sort(reverse=self._newest_first)
        taken = matches if most is None else matches[:most]
        numbers = {item.number for item in taken}
        for place, pane in read.items():
            pane.is_read = True
            pane.items = [item for item in pane.items if item.number not in numbers]
            if not pane.items:
                del self._panes[place]
        self._live -= len(taken)
        self.capped = self._lost + len(matches) - len(taken)
        return [finding_of(item) for item in sorted(taken)]

    def _leave(self, from_ms: int) -> None:
        """No run reads any more what lies before, but for what came late."""
        for place, pane in list(self._panes.items()):
            if pane.is_read and pane.instant_ms < from_ms:
                self._lost += len(pane.items)
                self._live -= len(pane.items)
                del self._panes[place]

    def _trim(self, items: list[Item], takeable: int) -> None:
        items.sort(reverse=self._newest_first)
        self._lost += len(items) - takeable
        self._live -= len(items) - takeable
        del items[takeable:]

    def _evict(self) -> None:
        """Lets go of some of the oldest: looking for them at every match would cost too much."""
        place = min(self._panes)
        items = self._panes[place].items
        items.sort()
        number = min(len(items), self._most_live // _SHARE + 1)
        del items[:number]
        if not items:
            del self._panes[place]
        self.evicted += number
        self._live -= number


def finding_of(item: Item) -> Finding:
    """The alert that one match is to become."""
    return Finding(
        item.identity,
        item.time_us,
        item.timestamp_us,
        item.number,
        (item.payload,),
        groups=item.groups,
    )
