"""Packed events put away until they are asked for: in memory, and beyond a bound on disk."""

from __future__ import annotations

import marshal
from typing import IO, Final, TypeAlias

from barrelman.detection.spill import DEFAULT_MEMORY_BYTES

Payloads: TypeAlias = tuple[bytes, ...]

_ABOUT_A_PAYLOAD_BYTES: Final = 100


class Drawer:
    """What does not fit into memory goes into a file that is unlinked since it was made, and gone
    once nothing in it is wanted any more."""

    def __init__(self, *, memory_bytes: int = DEFAULT_MEMORY_BYTES) -> None:
        self._room_bytes = memory_bytes
        self._held: dict[int, Payloads] = {}
        self._places: dict[int, tuple[int, int]] = {}
        """Where those on disk begin, and how long they are."""
        self._file: IO[bytes] | None = None
        self._last = 0

    def put(self, payloads: Payloads) -> int:
        """A number to ask for them by."""
        self._last += 1
        size_bytes = _size_bytes(payloads)
        if size_bytes <= self._room_bytes:
            self._room_bytes -= size_bytes
            self._held[self._last] = payloads
        else:
            self._write(self._last, marshal.dumps(payloads))
        return self._last

    def read(self, number: int) -> Payloads:
        if number in self._held:
            return self._held[number]
        assert self._file is not None
        start, size = self._places[number]
        self._file.seek(start)
        payloads: Payloads = marshal.loads(self._file.read(size))  # written by `put`
        return payloads

    def drop(self, number: int) -> None:
        payloads = self._held.pop(number, None)
        if payloads is not None:
            self._room_bytes += _size_bytes(payloads)
            return
        del self._places[number]
        if not self._places and self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, number: int, data: bytes) -> None:
        if self._file is None:
            import tempfile  # takes a while to load, and most scans never get here

            self._file = tempfile.TemporaryFile(prefix="barrelman-")  # noqa: SIM115
        start = self._file.seek(0, 2)
        self._file.write(data)
        self._places[number] = start, len(data)


def _size_bytes(payloads: Payloads) -> int:
    return sum(map(len, payloads)) + _ABOUT_A_PAYLOAD_BYTES * len(payloads)
