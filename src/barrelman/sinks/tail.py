"""What a file of alerts holds beyond what is known of it, and the half line a crash left.

A mark says which file was written (device and inode), how long it was, and how it ended. Between
one mark and the next lies one batch at most, written to one file. That file may have been rotated
since: renamed, copied and truncated, compressed.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

_CHECKED: Final = 256
_ID: Final = "kibana.alert.uuid"
# More than any alert: what is longer is no line of ours.
_LONGEST_LINE: Final = 256 << 20


class _Mark(NamedTuple):
    device: int
    inode: int
    size: int
    check: int
    """Checksum of the last bytes: a file that was truncated and grew again ends otherwise."""
    modified_ns: int


def mark_of(file: int) -> str:
    """The mark of an open file as it is now."""
    status = os.fstat(file)
    return json.dumps(
        {
            "device": status.st_dev,
            "inode": status.st_ino,
            "size": status.st_size,
            "check": _check(file, status.st_size),
            "modified_ns": status.st_mtime_ns,
        }
    )


def mend_tail(path: str, mark: str | None) -> set[str]:
    """Ids of the alerts written after the mark; what is half a line behind it is cut off.

    Without a mark nothing of ours is in the file. Raises OSError.
    """
    known = _parse(mark)
    if known is None:
        return set()
    with contextlib.suppress(FileNotFoundError):
        if _is_continued(path, known):
            return _mend_from(path, known.size)
    ids: set[str] = set()
    for other in _siblings(path):
        with contextlib.suppress(FileNotFoundError, EOFError, zlib.error):
            if _is_continued(other, known):
                ids |= _mend_from(other, known.size)
            elif os.stat(other).st_mtime_ns >= known.modified_ns:
                ids |= _ids_in(other)
    with contextlib.suppress(FileNotFoundError):
        ids |= _mend_from(path, 0)
    return ids


def _parse(mark: str | None) -> _Mark | None:
    try:
        values = json.loads(mark or "{}")
        return _Mark(**{name: int(values[name]) for name in _Mark._fields})
    except (KeyError, TypeError, ValueError):
        return None


def _check(file: int, size: int) -> int:
    start = max(0, size - _CHECKED)
    return zlib.crc32(os.pread(file, size - start, start))


def _is_continued(path: str, mark: _Mark) -> bool:
    """Whether this is the file that the mark is of, whole up to there."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        return (
            (status.st_dev, status.st_ino) == (mark.device, mark.inode)
            and status.st_size >= mark.size
            and _check(file.fileno(), mark.size) == mark.check
        )


def _siblings(path: str) -> Iterator[str]:
    """Files beside it that a rotation may have made of it: its name with more behind it."""
    target = Path(path)
    for each in sorted(target.parent.iterdir()):
        has_name = each.name.startswith((target.name, f"{target.stem}-", f"{target.stem}."))
        if has_name and each.name != target.name and each.is_file():
            yield str(each)


def _mend_from(path: str, start: int) -> set[str]:
    with open(path, "r+b") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return set()
        file.seek(start)
        ids, end = _read_whole(file, start)
        if end < os.fstat(file.fileno()).st_size:
            os.ftruncate(file.fileno(), end)
            os.fsync(file.fileno())
    return ids


def _ids_in(path: str) -> set[str]:
    """Of a file that is left as it is."""
    if path.endswith(".gz"):
        with gzip.open(path, "rb") as unpacked:
            return _read_whole(unpacked, 0)[0]  # type: ignore[arg-type]  # it reads as a file does
    with open(path, "rb") as file:
        return _read_whole(file, 0)[0]


def _read_whole(file: BinaryIO, start: int) -> tuple[set[str], int]:
    """Ids in whole lines, and where the last whole line ends.

    Zeros are what a file system leaves of blocks that were not written: nothing behind counts.
    """
    ids: set[str] = set()
    end = start
    while line := file.readline(_LONGEST_LINE):
        if not line.endswith(b"\n") or b"\0" in line:
            break
        end += len(line)
        with contextlib.suppress(ValueError):
            document = json.loads(line)
            if isinstance(document, dict) and isinstance(document.get(_ID), str):
                ids.add(document[_ID])
    return ids, end
