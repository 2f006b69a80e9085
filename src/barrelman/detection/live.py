"""When a pipe is live, and up to when its events can be taken to have come.

A scan of history waits for the end of its input; a live pipe has none, so its runs must be
closed while it flows. Closing one too early costs exactness (what comes later is alerted late),
so history that is merely piped must never look live: it flows without a pause, and its event
times run ahead of the clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SECOND_US: Final = 1_000_000

# How late an event may come on a live pipe before its run is closed without it.
LATENESS_US: Final = 5 * SECOND_US
# Events younger than this are happening now: then time passes on a silent pipe, too.
NOW_US: Final = 600 * SECOND_US
# A pipe of events of another time, past or (by a clock that is wrong) to come, that is silent for
# so long has nothing more to say for a while.
PAUSE_SECONDS: Final = 2.0
# A pipe of present events need only fall silent for a moment.
MOMENT_SECONDS: Final = 0.25
# On a pipe that never pauses, how often it is looked at.
LOOK_SECONDS: Final = 1.0
# Event time on a live pipe keeps step with the clock; in history that is piped it runs.
_STEP: Final = 3


@dataclass
class LivePipe:
    """Watches one pipe. All times are given to it: it never reads a clock."""

    _quiet_seconds: float = 0.0
    _looked_us: int | None = None
    _end_then_us: int = 0

    def look(
        self, *, end_us: int | None, last_us: int | None, clock_us: int, idle_seconds: float
    ) -> int | None:
        """The instant up to which every event has come, or None while that is not known.

        `end_us` is the latest time of an event, `last_us` that of the last one read;
        `idle_seconds` is how long nothing came before this look, 0 after a read.
        """
        self._quiet_seconds = self._quiet_seconds + idle_seconds if idle_seconds else 0.0
        if end_us is None:
            return None
        is_now = -LATENESS_US <= clock_us - end_us < NOW_US
        if idle_seconds:
            if is_now:
                return clock_us - LATENESS_US if self._quiet_seconds >= MOMENT_SECONDS else None
            return end_us if self._quiet_seconds >= PAUSE_SECONDS else None
        return self._look_in_passing(end_us, last_us or end_us, clock_us) if is_now else None

    def _look_in_passing(self, end_us: int, last_us: int, clock_us: int) -> int | None:
        if self._looked_us is None:
            self._looked_us, self._end_then_us = clock_us, end_us
            return None
        passed_us = clock_us - self._looked_us
        if passed_us < LOOK_SECONDS * SECOND_US:
            return None
        keeps_step = end_us - self._end_then_us <= _STEP * passed_us
        in_order = end_us - last_us <= LATENESS_US
        self._looked_us, self._end_then_us = clock_us, end_us
        return min(end_us, clock_us) - LATENESS_US if keeps_step and in_order else None
