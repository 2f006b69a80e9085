"""When messages to people are told one by one, and when there are too many for that."""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple


class Step(NamedTuple):
    """What to do now: tell so many one by one, sum all up, or wait until an instant."""

    action: Literal["each", "digest", "wait"]
    messages: int = 0
    until_us: int = 0


class Pace:
    """At most so many single messages, and one digest, within any span of so many seconds.

    What comes beyond waits for its turn, and once more waits than may be told one by one, all
    that waits goes into a digest.
    """

    def __init__(self, above: int | None, *, seconds: float) -> None:
        self._above = above
        self._span_us = int(seconds * 1e6)
        self._told: deque[int] = deque(maxlen=above)
        self._digest_us: int | None = None

    def next(self, pending: int, *, now_us: int) -> Step:
        if self._above is None:
            return Step("each", pending)
        while self._told and self._told[0] <= now_us - self._span_us:
            self._told.popleft()
        free_us = now_us if self._digest_us is None else self._digest_us + self._span_us
        if pending > self._above and free_us <= now_us:
            return Step("digest")
        room = self._above - len(self._told)
        if room > 0 and pending:
            return Step("each", min(room, pending))
        waits = [self._told[0] + self._span_us] if self._told else []
        if pending > self._above:
            waits.append(free_us)
        return Step("wait", until_us=min(waits, default=now_us))

    def told(self, count: int, *, at_us: int) -> None:
        if self._above is not None:
            self._told.extend([at_us] * count)

    def digested(self, *, at_us: int) -> None:
        self._digest_us = at_us
