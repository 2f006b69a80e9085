"""Where a stream of lines may be cut so that each piece can be read by itself."""

from __future__ import annotations

from typing import Final

from barrelman.engine.reader import EVENT_HEAD, EventReader

_LINE_BETWEEN: Final = b"}\n" + EVENT_HEAD


class Borders:
    """Feed it whole lines; it says behind which of them nothing is open.

    Lines as the API server writes them stand by themselves, which is seen without decoding.
    Other lines are read as the intake will read them: a document over several lines, or a
    container's lines of which one is in pieces, are open until their end.
    """

    def __init__(self) -> None:
        self._reader: EventReader | None = None
        """Reads on while something is open."""

    @property
    def is_open(self) -> bool:
        return self._reader is not None

    def feed(self, lines: bytes) -> int:
        """How many bytes of these lines stand before the last border; -1 where there is none.

        None of them may lack its line feed.
        """
        if self._reader is None and _stand_alone(lines):
            return len(lines)
        reader = self._reader or EventReader()
        border = at = 0
        if self._reader is not None:
            border = -1
        while at < len(lines):
            end = lines.index(b"\n", at) + 1
            for _ in reader.feed(lines[at:end]):
                pass  # what it finds is the intake's affair
            at = end
            if reader.is_neutral:
                border = at
        self._reader = None if border == at else reader
        return border

    def reset(self) -> None:
        """What is open is cut after all."""
        self._reader = None


def _stand_alone(lines: bytes) -> bool:
    return (
        lines.startswith(EVENT_HEAD)
        and lines.endswith(b"}\n")
        and lines.count(_LINE_BETWEEN) + 1 == lines.count(b"\n")
    )
