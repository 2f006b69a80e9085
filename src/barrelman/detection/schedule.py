"""A rule's schedule over event time: when it runs, and which events each run reads.

Runs fall on multiples of the interval since 1970, as if the rule had always been enabled. A run
reads the window from `from` to `to`, both ends included, with `now` bound to the run's tick.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from barrelman.errors import TimeError
from barrelman.records.times import DateMath

_CALENDAR_END_MS: Final = 253_402_300_800_000
"""The first instant that has no date any more: year 10,000."""
_NEVER: Final = float("inf")
_MOST_RUNS: Final = 10_000


class Schedule:
    """Ticks are numbered: tick `n` is at `n * interval_ms`."""

    def __init__(self, *, interval_ms: int, from_: DateMath, to: DateMath) -> None:
        self.interval_ms = interval_ms
        self.latest: Final = (_CALENDAR_END_MS - 1) // interval_ms
        """The last tick that has a date."""
        self._from = from_
        self._to = to
        self._reach_ms = None if from_.offset_ms is None else -from_.offset_ms
        self._delay_ms = None if to.offset_ms is None else -to.offset_ms

    def ticks(self, instant_ms: int) -> tuple[int, int]:
        """First and last tick whose run reads an event of that time.

        A run never reads what happened after it. The first is above the last where no run does.
        Of more than ten thousand runs (all to come, with a fixed date as `from`) the rest is left
        out. No run falls behind the calendar's end, where its time could not be written.
        """
        earliest = -(-instant_ms // self.interval_ms)
        if self._reach_ms is not None and self._delay_ms is not None:
            first = -(-(instant_ms + self._delay_ms) // self.interval_ms)
            last = (instant_ms + self._reach_ms) // self.interval_ms
        elif earliest > self.latest:
            return earliest, self.latest
        else:
            first, last = self._search(instant_ms, earliest)
        first = max(first, earliest)
        return first, min(last, self.latest, first + _MOST_RUNS)

    def window_ms(self, tick: int) -> tuple[int, int]:
        """First and last millisecond that the run at a tick reads: never what lies after it.

        An end outside the calendar is before or behind all that has a date.
        """
        start, end = self._start(tick), self._end(tick)
        tick_ms = tick * self.interval_ms
        first = int(max(-_CALENDAR_END_MS, min(start, _CALENDAR_END_MS)))
        return first, int(max(-_CALENDAR_END_MS, min(end, tick_ms)))

    def _search(self, instant_ms: int, earliest: int) -> tuple[int, int]:
        """Windows with roundings, months or fixed dates: both ends only ever move forward.

        Not quite so with months, which are clipped (a month before both March 29 and 28 it is
        February 28): there a run or two at the far end of an event's reach may be left out.
        """
        first = self._first_tick(lambda tick: self._end(tick) >= instant_ms, earliest)
        if first is None:
            return earliest, earliest - 1
        if self._start(first) > instant_ms:
            return first, first - 1
        beyond = self._first_tick(lambda tick: self._start(tick) > instant_ms, first)
        return first, self.latest if beyond is None else beyond - 1

    def _start(self, tick: int) -> float:
        return self._resolve(self._from, tick, round_up=False)

    def _end(self, tick: int) -> float:
        return self._resolve(self._to, tick, round_up=True)

    def _resolve(self, date: DateMath, tick: int, *, round_up: bool) -> float:
        """An end that leaves the calendar lies before or behind everything in it."""
        now_ms = tick * self.interval_ms
        try:
            return date.resolve_ms(now_ms, round_up=round_up)
        except TimeError:
            return -_NEVER if now_ms < 0 else _NEVER

    def _first_tick(self, reached: Callable[[int], bool], start: int) -> int | None:
        """The first tick from `start` on that is `reached`; None if none within the calendar."""
        if reached(start):
            return start
        low, step = start, 1
        while (low + step) * self.interval_ms < _CALENDAR_END_MS:
            if reached(low + step):
                break
            low += step
            step *= 2
        else:
            return None
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            if reached(middle):
                high = middle
            else:
                low = middle
        return high
