"""Many patterns searched in one pass. The only file that imports hyperscan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from barrelman.engine.find import Data

SERIAL_VERSION: Final = 1


def is_available() -> bool:
    """Whether there is a Hyperscan for this platform; it is loaded only where one is built."""
    from importlib.util import find_spec

    return find_spec("hyperscan") is not None


class PatternSet:
    """Patterns as regular expressions over bytes, numbered from 0 in the order given."""

    def __init__(self, patterns: Sequence[bytes]) -> None:
        import hyperscan

        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        self._database.compile(
            expressions=list(patterns),
            ids=list(range(len(patterns))),
            flags=[hyperscan.HS_FLAG_DOTALL] * len(patterns),
        )

    def ends(self, data: Data) -> list[tuple[int, int]]:
        """(offset behind the match, number of the pattern) of every match, sorted."""
        found: list[tuple[int, int]] = []
        add = found.append

        def on_match(number: int, start: int, end: int, flags: int, context: object) -> None:
            add((end, number))

        self._database.scan(data, match_event_handler=on_match)  # type: ignore[type-var]  # any buffer
        found.sort()
        return found
