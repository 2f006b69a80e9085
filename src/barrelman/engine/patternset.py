"""Many patterns searched in one pass. The only file that imports hyperscan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from barrelman.engine.find import Data


def is_available() -> bool:
    """Whether there is a Hyperscan for this platform; it is loaded only where one is built."""
    from importlib.util import find_spec

    return find_spec("hyperscan") is not None


# With few literals Hyperscan takes a method that many false alarms make slow on JSON; from about
# fifty on another one that is twice as fast, also for ten. So others are added that never occur.
_FILLING: Final = 64


def _filling() -> list[bytes]:
    """Words of twelve capital letters, all of them different, and none of them a word."""
    letters = b"BDFHJKLMNPQRSTVXZ"
    return [
        bytes(letters[(number * 7 + at * (3 + number % 5)) % len(letters)] for at in range(10))
        + b"%c%c" % (66 + number // 8, 75 + number % 8)
        for number in range(_FILLING)
    ]


class PatternSet:
    """Patterns as regular expressions over bytes, numbered from 0 in the order given."""

    def __init__(self, patterns: Sequence[bytes]) -> None:
        import hyperscan

        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        self._count = len(patterns)
        expressions = [*patterns, *_filling()]
        self._database.compile(
            expressions=expressions,
            ids=list(range(len(expressions))),
            flags=[hyperscan.HS_FLAG_DOTALL] * len(expressions),
        )

    def ends(self, data: Data) -> list[tuple[int, int]]:
        """(offset behind the match, number of the pattern) of every match, sorted."""
        found: list[tuple[int, int]] = []
        add = found.append

        def on_match(number: int, start: int, end: int, flags: int, context: object) -> None:
            add((end, number))

        self._database.scan(data, match_event_handler=on_match)  # type: ignore[type-var]  # any buffer
        found.sort()
        return [each for each in found if each[1] < self._count]
