"""A service's time: the wall's, but one that never goes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

# While the wall is behind, time goes on a tenth slower, so that the wall catches up.
_SLOWER: Final = 0.9


class Clock:
    """`wall` gives microseconds since 1970, and may be set by anyone at any time.

    What was stored before `at_least_us` lies in the past, whatever the wall says: windows go by
    arrival, and an arrival must never lie in a window that has been read.
    """

    def __init__(
        self,
        wall: Callable[[], int],
        *,
        at_least_us: int = 0,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._wall = wall
        self._monotonic_ns = monotonic_ns
        self._lock = threading.Lock()
        self._last_us = max(at_least_us, 0)
        self._last_ns = monotonic_ns()
        self._rest_us = 0.0
        """Less than a microsecond that has passed: asked often enough, all time is made of it."""

    def now_us(self) -> int:
        """Microseconds since 1970; never less than before."""
        with self._lock:
            wall_us, now_ns = self._wall(), self._monotonic_ns()
            if wall_us >= self._last_us:
                self._last_us = wall_us
            else:
                self._rest_us += max(0, now_ns - self._last_ns) / 1000 * _SLOWER
                passed_us = int(self._rest_us)
                self._last_us += passed_us
                self._rest_us -= passed_us
            self._last_ns = now_ns
            return self._last_us

    def not_before(self, instant_us: int) -> None:
        """From now on it is at least that late."""
        with self._lock:
            self._last_us = max(self._last_us, instant_us)

    @property
    def ahead_us(self) -> int:
        """How far the wall was set back, as far as time has not caught up with it."""
        now_us = self.now_us()
        return max(0, now_us - self._wall())
