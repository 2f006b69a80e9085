"""What the reader of events reports instead of an event, and its running counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from barrelman.engine.decode import dumps
from barrelman.records.event import Event

ProblemKind: TypeAlias = Literal["malformed", "foreign", "gke"]

_EXCERPT_CHARS = 96


@dataclass(slots=True)
class Problem:
    """Input that became no event.

    `malformed` is no JSON, or broken; `foreign` is intact and no audit event in any known
    shape; `gke` is a Cloud Logging entry, recognised and not judged by this version.
    """

    kind: ProblemKind
    reason: str
    line: int = 0
    """Line in the source on which it began, from 1."""
    excerpt: str = ""
    """Its first characters, printable."""
    count: int = 1
    """How many it stands for: itself, and others of its kind right behind it."""


@dataclass(slots=True)
class Fragment:
    """Text out of an envelope that is no event by itself: maybe a part of one."""

    stream: str
    """Which fragments can belong together: those of one stream."""
    text: bytes
    is_partial: bool
    """The envelope says that its line goes on in the stream's next fragment."""
    line: int = 0


Found: TypeAlias = Event | Problem | Fragment

_FEW = 16


class Findings:
    """What was found in one value or line, in order.

    Of problems of one kind the first few stay apart; the rest are counted in the last of them,
    so that a million bad elements take no more memory than a few.
    """

    __slots__ = ("_last", "_room", "found")

    def __init__(self) -> None:
        self.found: list[Found] = []
        self._room: dict[ProblemKind, int] = {}
        self._last: dict[ProblemKind, Problem] = {}

    def add(self, found: Found) -> None:
        if not isinstance(found, Problem):
            self.found.append(found)
            return
        kind = found.kind
        room = self._room.get(kind, _FEW)
        if room == 0:
            self._last[kind].count += found.count
            return
        self._room[kind] = room - 1
        self._last[kind] = found
        self.found.append(found)

    def extend(self, answer: Iterable[Found]) -> None:
        for found in answer:
            self.add(found)

    def take(self) -> list[Found]:
        """All of it, to begin afresh."""
        found, self.found = self.found, []
        if self._room:
            self._room, self._last = {}, {}
        return found


@dataclass(slots=True)
class ReadCounts:
    """What one reader has seen so far."""

    lines: int = 0
    """Lines that are not blank."""
    events: int = 0
    malformed: int = 0
    foreign: int = 0
    gke: int = 0


def excerpt_of(data: object) -> str:
    """The first characters of bytes, of a text, or of a value as JSON, made printable."""
    if isinstance(data, dict):
        data = dict(list(data.items())[:4])
        text = "{" + ", ".join(f'"{key}": …' for key in data) + "}"
    elif isinstance(data, bytes | bytearray):
        text = bytes(data[: _EXCERPT_CHARS * 4]).decode(errors="replace")
    elif isinstance(data, str):
        text = data[: _EXCERPT_CHARS * 2]
    else:
        text = dumps(data)[: _EXCERPT_CHARS * 4].decode(errors="replace")
    text = "".join(char if char.isprintable() else " " for char in text.strip())
    return text if len(text) <= _EXCERPT_CHARS else text[: _EXCERPT_CHARS - 1] + "…"
