"""What a sink is: something that hands alert messages to people, or to what wakes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

from barrelman.sinks.flood import Flood
from barrelman.sinks.message import Message


class Sink(Protocol):
    """One place that messages go to. A sink is used by one thread at a time."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def batch(self) -> int:
        """The most messages that one `deliver` takes; of those all arrive, or it raises."""
        ...

    @property
    def digest_above(self) -> int | None:
        """More messages than these within `digest_seconds` become a digest; None: never."""
        ...

    @property
    def digest_seconds(self) -> float: ...

    @property
    def give_up_seconds(self) -> float | None:
        """How old a message may grow while the sink fails; None: it is tried for ever."""
        ...

    @property
    def notice(self) -> str:
        """What went less than well with the last delivery that did arrive, or ""."""
        ...

    def deliver(self, messages: Sequence[Message]) -> None:
        """Hands messages over, in order; what is said twice has the same key. Raises SinkError."""
        ...

    def digest(self, flood: Flood) -> None:
        """Hands over one message that sums up many. Raises SinkError."""
        ...

    def test(self, now_us: int) -> str:
        """Sends a message that is marked as a test and says what came of it. Raises SinkError."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Remembering(Protocol):
    """A sink that can tell after a crash what it holds, given the mark it last left."""

    def mend(self, mark: str | None) -> Collection[str]:
        """Ids of the alerts that arrived after `mark` was taken; half of one is taken back.

        Raises SinkError where that cannot be told yet. Must precede the first `deliver`.
        """
        ...

    def mark(self) -> str:
        """Where the last delivery ended, to be kept together with the news that it arrived."""
        ...
