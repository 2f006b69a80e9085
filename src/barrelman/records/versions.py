"""Software versions in the order of Elasticsearch's `version` type, which is that of semver.

Numbers of any count, then `-` and a pre-release, then `+` and a build. A pre-release comes before
its version, a version before the same one with more numbers, and what is no version after all
that are, by its bytes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

_NUMBER: Final = r"(?:0|[1-9][0-9]*)"
_PART: Final = r"[0-9A-Za-z-]+"
_VERSION = re.compile(
    rf"(?P<main>{_NUMBER}(?:\.{_NUMBER})*)"
    rf"(?:-(?P<before>{_PART}(?:\.{_PART})*))?(?:\+(?P<build>{_PART}(?:\.{_PART})*))?",
    re.ASCII,
)
# A number of more digits is no number of a version; Python also refuses to read thousands.
_LONGEST: Final = 500


def version_key(text: str) -> tuple[Any, ...]:
    """What sorts and compares as the version does; any text has one."""
    if len(text) > _LONGEST:
        return _no_version(text)  # and not remembered: they come at any length
    return _key(text)


@lru_cache(maxsize=4096)
def _key(text: str) -> tuple[Any, ...]:
    match = _VERSION.fullmatch(text)
    if match is None:
        return _no_version(text)
    before = match["before"]
    return (
        0,
        tuple(map(int, match["main"].split("."))),
        before is None,
        tuple(map(_part_key, before.split("."))) if before else (),
        match["build"] or "",
    )


def _no_version(text: str) -> tuple[int, bytes]:
    return 1, text.encode("utf-8", "surrogatepass")


def _part_key(part: str) -> tuple[int, int, str]:
    """Numbers come before words; leading zeros make a word of neither."""
    return (0, int(part), "") if part.isdigit() else (1, 0, part)
