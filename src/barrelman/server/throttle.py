"""Token buckets: how often one caller, or one address, may do a thing."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

# A name costs about 200 bytes: those who come from everywhere must not fill the memory.
_MOST_NAMES: Final = 10_000


class Buckets:
    """One bucket for each name, full at first; `per_second` of 0 or less never runs dry.

    For one event loop: nothing here is locked.
    """

    def __init__(
        self,
        *,
        per_second: float,
        burst: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._burst = max(1.0, burst)
        self._monotonic = monotonic
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> float:
        """0 where a token was taken, and else the seconds until there will be one."""
        wait, level, now = self._look(name)
        if wait <= 0:
            level -= 1.0
        self._levels[name] = (level, now)
        self._levels.move_to_end(name)
        if len(self._levels) > _MOST_NAMES:
            self._levels.popitem(last=False)
        return wait

    def wait(self, name: str) -> float:
        """The seconds until there will be a token; takes none."""
        return self._look(name)[0]

    def _look(self, name: str) -> tuple[float, float, float]:
        now = self._monotonic()
        if self._per_second <= 0:
            return 0.0, self._burst, now
        level, then = self._levels.get(name, (self._burst, now))
        level = min(self._burst, level + (now - then) * self._per_second)
        return max(0.0, (1.0 - level) / self._per_second), level, now
