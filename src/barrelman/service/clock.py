"""A service's time: the wall's, but one that never goes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

# While the wall is behind, time goes on a tenth slower, so that the wall catches up.
_SLOWER: Final = 0.9
_STEP_US: Final = 60_000_000


class Clock:
    """`wall` gives microseconds since 1970, and may be set by anyone at any time.

    What was stored before `at_least_us` lies in the past, whatever the wall says: windows go by
    arrival, and an arrival must never lie in a window that has been read.

    A step forwards of more than a minute is believed once it has lasted for `patience_seconds`: who
    sets a clock wrong for a moment must not make all that is stored old.
    """

    def __init__(
        self,
        wall: Callable[[], int],
        *,
        at_least_us: int = 0,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        patience_seconds: float = 0.0,
    ) -> None:
        self._patience_ns = int(patience_seconds * 1_000_000_000)
        self._jump_ns: int | None = None
        self._is_begun = False
        self.jumped_us = 0
        """By how much the wall was put forward, in steps that were believed."""
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
            passed_ns = max(0, now_ns - self._last_ns)
            if wall_us >= self._last_us:
                self._follow(wall_us, now_ns, passed_ns // 1000)
            else:
                self._jump_ns = None
                self._rest_us += passed_ns / 1000 * _SLOWER
                passed_us = int(self._rest_us)
                self._last_us += passed_us
                self._rest_us -= passed_us
            self._last_ns = now_ns
            return self._last_us

    def _follow(self, wall_us: int, now_ns: int, passed_us: int) -> None:
        ahead_us = wall_us - self._last_us - passed_us
        if self._patience_ns and self._is_begun and ahead_us > _STEP_US:
            if self._jump_ns is None:
                self._jump_ns = now_ns
            if now_ns - self._jump_ns < self._patience_ns:
                self._last_us += passed_us
                return
            self.jumped_us += ahead_us
        self._jump_ns = None
        self._is_begun = True
        self._last_us = wall_us

    def steady_us(self) -> int:
        """As `now_us`, without the steps forwards since the process began: what is to be deleted
        for its age is old by this one, too."""
        return self.now_us() - self.jumped_us

    def not_before(self, instant_us: int) -> None:
        """From now on it is at least that late."""
        with self._lock:
            self._last_us = max(self._last_us, instant_us)

    @property
    def ahead_us(self) -> int:
        """How far the wall was set back, as far as time has not caught up with it."""
        now_us = self.now_us()
        return max(0, now_us - self._wall())
