"""Which names a log gets when it is rotated."""

from __future__ import annotations

import os
import re
from typing import Final

_MOST_NEIGHBOURS: Final = 256
_DATE: Final = r"\d{4}-?\d{2}-?\d{2}(?:[T_-]?\d{2}[-:]?\d{2}(?:[-:]?\d{2}(?:\.\d+)?)?)?"
_PACKED: Final = r"(?:\.(?:gz|gzip|zst|zstd|bz2|xz))"
# audit-2026-11-23T07-06-00.000.log, audit.log-20261123, audit.log.2, audit.log.gz
_ROTATED = re.compile(
    rf".*[-._]{_DATE}\.[A-Za-z]+{_PACKED}?|.+[-.]{_DATE}{_PACKED}?|.+\.\d{{1,6}}{_PACKED}?"
    rf"|.+{_PACKED}",
    re.IGNORECASE | re.ASCII,
)


def is_rotated(path: str) -> bool:
    """Whether a name is one that a log gets when it is put aside."""
    return _ROTATED.fullmatch(os.path.basename(path)) is not None


def rotations_of(path: str) -> list[str]:
    """The files beside a log that were once it, going by their names; where a link leads, too."""
    found: list[str] = []
    for log in dict.fromkeys((path, os.path.realpath(path))):
        folder, name = os.path.split(log)
        pattern = _rotations_pattern(name)
        try:
            with os.scandir(folder or ".") as entries:
                names = [entry.name for entry in entries if pattern.fullmatch(entry.name)]
        except OSError:  # whoever reads the log will say so
            continue
        found += [os.path.join(folder, each) for each in names]
    return found


def neighbours_of(path: str) -> list[str]:
    """The files beside a log whose names begin as its own does, latest change first: one of them
    may be a copy under a name that no rotation is known to give."""
    found: dict[str, float] = {}
    for log in dict.fromkeys((path, os.path.realpath(path))):
        folder, name = os.path.split(log)
        stem = os.path.splitext(name)[0]
        try:
            with os.scandir(folder or ".") as entries:
                for entry in entries:
                    if entry.name.startswith(stem) and entry.name != name and entry.is_file():
                        found[os.path.join(folder, entry.name)] = entry.stat().st_mtime
        except OSError:  # whoever reads the log will say so
            continue
    return sorted(found, key=lambda each: -found[each])[:_MOST_NEIGHBOURS]


def _rotations_pattern(name: str) -> re.Pattern[str]:
    stem, suffix = os.path.splitext(name)
    whole = re.escape(name)
    dated = rf"{re.escape(stem)}[-._]{_DATE}{re.escape(suffix)}" if suffix else r"(?!)"
    put_aside = rf"(?:{dated}|{whole}[-.]{_DATE}|{whole}\.\d{{1,6}}){_PACKED}?"
    return re.compile(rf"{put_aside}|{whole}{_PACKED}", re.IGNORECASE | re.ASCII)
