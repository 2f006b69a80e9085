"""Runs as operators know them: which of them read an instant, and what each reads."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final, Protocol

from barrelman.detection.finding import Window

_FAR_MS: Final = 1 << 60


class Runs(Protocol):
    """A rule's schedule, or runs that were made otherwise. Both ends only ever move forward."""

    def ticks(self, instant_ms: int) -> tuple[int, int]:
        """First and last run that reads an event of that time; none where first is above last."""

    def window_ms(self, tick: int) -> tuple[int, int]:
        """First and last millisecond that a run reads."""


class GivenRuns:
    """Runs whose windows are known one by one, in order: a manual run, or those that catch up."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._starts = [window.from_ms for window in windows]
        self._ends = [window.to_ms for window in windows]

    def ticks(self, instant_ms: int) -> tuple[int, int]:
        first = bisect_left(self._ends, instant_ms)
        return first, bisect_right(self._starts, instant_ms) - 1

    def window_ms(self, tick: int) -> tuple[int, int]:
        """Before the first and behind the last stands one that reads nothing."""
        if tick >= len(self._starts):
            return _FAR_MS, _FAR_MS
        return (self._starts[tick], self._ends[tick]) if tick >= 0 else (-_FAR_MS, -_FAR_MS)
