"""The files that patterns lead to, and beside them those that rotation made of them."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterable, Iterator, Sequence

from barrelman.errors import InputError
from barrelman.settings.filebook import FileKey
from barrelman.settings.rotation import is_rotated, neighbours_of, rotations_of
from barrelman.settings.sources import Source, expand_sources


class Candidate:
    """A file that a pattern leads to."""

    def __init__(
        self,
        path: str,
        status: os.stat_result,
        *,
        is_old: bool = False,
        is_sought: bool = False,
        is_neighbour: bool = False,
    ) -> None:
        self.path = path
        self.key: FileKey = (status.st_dev, status.st_ino)
        self.size = status.st_size
        self.changed_ns = status.st_mtime_ns
        self.is_old = is_old
        """It was there before its pattern was first followed."""
        self.is_sought = is_sought
        """No pattern leads to it: it is of interest only if it is a log that was followed."""
        self.is_neighbour = is_neighbour
        """Nor does its name tell of one: only if just that log is missed."""

    @property
    def state(self) -> tuple[int, int]:
        return self.size, self.changed_ns


class Finding:
    """What one look at the disk has found: each file once, the oldest rotation of a log first."""

    def __init__(self, patterns: Sequence[str], *, known_patterns: Collection[str]) -> None:
        self.files: dict[FileKey, Candidate] = {}
        self.problems: dict[str, str] = {}
        for pattern in patterns:
            is_old = pattern not in known_patterns
            for found in _expand(pattern):
                if isinstance(found, InputError):
                    self.problems[found.place.path or pattern] = found.message
                else:
                    self._add(found, is_old=is_old)

    def seek(self, logs: Iterable[str]) -> None:
        """Adds what such logs may have been renamed to."""
        for log in logs:
            for source in _rotations(log):
                self._add(source, is_sought=True)

    def look_beside(self, logs: Iterable[str]) -> None:
        """Adds what copies such logs may have, under whatever name."""
        for log in logs:
            for source in expand_sources(neighbours_of(log)):
                if isinstance(source, Source):
                    self._add(source, is_sought=True, is_neighbour=True)

    def _add(self, source: Source, *, is_old: bool = False, **flags: bool) -> None:
        if source.is_live or source.path is None:
            return
        try:
            status = os.stat(source.path)
        except OSError:  # it has just gone
            return
        candidate = Candidate(source.path, status, is_old=is_old, **flags)
        known = self.files.setdefault(candidate.key, candidate)
        known.is_old = known.is_old and is_old


def _expand(pattern: str) -> Iterator[Source | InputError]:
    found = expand_sources([pattern])
    is_path = not glob.has_magic(pattern) or os.path.lexists(pattern)
    if is_path and not os.path.isdir(pattern) and not is_rotated(pattern):
        yield from _rotations(pattern)
    yield from found


def _rotations(log: str) -> Iterator[Source]:
    for source in expand_sources(sorted(rotations_of(log), reverse=True)):
        if isinstance(source, Source):
            yield source


def last_line_end(path: str) -> int:
    """The offset behind the last line feed; 0 where there is none."""
    with open(path, "rb", buffering=0) as file:
        at = os.fstat(file.fileno()).st_size
        while at > 0:
            start = max(0, at - 65_536)
            found = os.pread(file.fileno(), at - start, start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            at = start
    return 0
