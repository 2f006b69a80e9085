"""A file that is followed; what became of it when it is gone; and what is told of both."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from barrelman.records.frozen import frozen
from barrelman.settings.filebook import Content
from barrelman.settings.rotation import is_rotated
from barrelman.settings.tail import Tail

_LOG = logging.getLogger("barrelman.follow")

_TOLD_SECONDS: Final = 86_400.0


@frozen
class FileState:
    """Offsets of packed files count plain bytes; their size is not known."""

    path: str
    offset: int
    size: int | None
    lag_bytes: int | None
    last_error: str | None


@frozen
class FollowState:
    """`problems` are paths that cannot be read, patterns that match nothing, and why; and for a
    day what was lost."""

    cluster: str
    files: tuple[FileState, ...]
    waiting_files: int
    given_bytes: int
    stored_bytes: int
    skipped_lines: int
    lost_chunks: int
    lost_files: int
    """That were truncated or replaced before they were read, without a copy to be found."""
    lost_bytes: int
    """Of these, where it is known how many."""
    problems: tuple[str, ...]
    is_alive: bool


class Followed:
    """A file that is open, and how it goes."""

    def __init__(self, tail: Tail, content: Content) -> None:
        self.tail = tail
        self.content = content
        self.is_rotated = is_rotated(tail.path)
        self.grown_at = time.monotonic()
        self.is_lost = False
        """No pattern leads to it any more."""
        self.retry_at = 0.0
        self.is_ending = False
        """No more is read of it; what is in flight settles."""
        self.is_broken = False
        """A packed file that ends before its end."""
        self.has_failed = False
        """A chunk was not stored: all behind it is read again, once none is in flight."""
        self.failures = 0
        self.last_error: str | None = None

    @property
    def is_settled(self) -> bool:
        """Whether all that was read is stored."""
        return self.tail.is_at_end and not self.tail.flights and self.tail.pending is None

    def rename(self, path: str) -> None:
        if path != self.tail.path:
            self.tail.path = self.content.path = path
            self.content.is_changed = True
            self.is_rotated = is_rotated(path)

    def state(self) -> FileState:
        tail = self.tail
        size = None
        if not tail.is_packed:
            with contextlib.suppress(OSError):  # closed meanwhile
                size = tail.status().st_size
        lag = None if size is None else max(0, size - tail.durable)
        return FileState(tail.path, tail.durable, size, lag, self.last_error)


@dataclass(eq=False)
class _Search:
    path: str
    offset: int
    since: float
    unread_bytes: int | None = None
    """None: not known, as nobody looked; or not yet, as some of it is still on its way."""
    is_settled: bool = False
    looks: int = 0


class Missed:
    """What was truncated or replaced; and the losses, where no copy of it turned up in time."""

    def __init__(self, *, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._searches: dict[Content, _Search] = {}
        self._told: dict[str, tuple[str, float]] = {}
        self.lost_files = 0
        self.lost_bytes = 0
        """As far as it is known how many: what a file held while nobody looked is not."""

    @property
    def paths(self) -> list[str]:
        """The logs beside which is looked."""
        return sorted({each.path for each in self._searches.values()})

    @property
    def problems(self) -> Iterator[str]:
        """Losses of the last day."""
        return (text for _, (text, _) in sorted(self._told.items()))

    def __contains__(self, content: object) -> bool:
        return content in self._searches

    def path_of(self, content: Content) -> str:
        return self._searches[content].path

    def begin(self, content: Content, *, was_followed: bool) -> None:
        """A file holds something else than what it is known to have held. Where it was followed,
        `settle` tells what is not read of it."""
        found = _Search(content.path, content.offset, time.monotonic())
        found.is_settled = not was_followed
        self._searches[content] = found

    def settle(self, content: Content, *, unread_bytes: int) -> None:
        """All that was read is stored, or cannot be."""
        if content in self._searches:
            found = self._searches[content]
            found.unread_bytes, found.is_settled = unread_bytes, True
            found.since, found.looks = time.monotonic(), 0

    def wait(self, content: Content | None) -> None:
        """A copy is there, and still being written."""
        if content in self._searches:
            self._searches[content].since = time.monotonic()

    def found(self, content: Content | None) -> None:
        """A file that holds all that was read, and maybe more, is read on."""
        self._searches.pop(content, None)  # type: ignore[arg-type]  # None is no key

    def note_look(self) -> None:
        for each in self._searches.values():
            each.looks += 1

    def give_up(self, followed: Collection[str]) -> list[Content]:
        """Ends the searches that took too long, and says what is lost.

        Of a file that nobody followed it is, where another one is followed in its place.
        """
        now = time.monotonic()
        over = [
            (content, each)
            for content, each in self._searches.items()
            if each.is_settled and each.looks > 1 and now - each.since >= self._patience_seconds
        ]
        for content, each in over:
            del self._searches[content]
            if each.unread_bytes or (each.unread_bytes is None and each.path in followed):
                self._tell(each, now)
        self._told = {p: told for p, told in self._told.items() if now - told[1] < _TOLD_SECONDS}
        return [content for content, _ in over]

    def _tell(self, lost: _Search, now: float) -> None:
        none = "no copy of it was found beside it"
        text = f"{lost.unread_bytes} bytes of {lost.path} were not read: {none}"
        if lost.unread_bytes is None:
            text = (
                f"what {lost.path} held behind byte {lost.offset}, if anything, was not read: "
                f"it was replaced while nobody followed it, and {none}"
            )
        _LOG.warning("%s", text)
        self._told[lost.path] = text, now
        self.lost_files += 1
        self.lost_bytes += lost.unread_bytes or 0
