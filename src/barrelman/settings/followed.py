"""A file that is followed, and what is told of it."""

from __future__ import annotations

import contextlib
import time

from barrelman.records.frozen import frozen
from barrelman.settings.filebook import Content
from barrelman.settings.rotation import is_rotated
from barrelman.settings.tail import Tail


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
    """`problems` are paths that cannot be read, patterns that match nothing, and why."""

    cluster: str
    files: tuple[FileState, ...]
    waiting_files: int
    given_bytes: int
    stored_bytes: int
    skipped_lines: int
    lost_chunks: int
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
