"""Packed events put away until they are asked for: in memory, and beyond a bound on disk."""

from __future__ import annotations

import marshal
from typing import IO, TYPE_CHECKING, Final, TypeAlias

from barrelman.detection.spill import DEFAULT_MEMORY_BYTES

if TYPE_CHECKING:
    from pathlib import Path

Payloads: TypeAlias = tuple[bytes, ...]

_ABOUT_A_PAYLOAD_BYTES: Final = 100
# What is dropped may take as much of a file as what is there, and this.
_SPARE_BYTES: Final = 1 << 20


class Drawer:
    """What does not fit into memory goes into a file in `folder` (None: where the system has such
    files). It is unlinked since it was made, written anew where most of it is not wanted any more,
    and gone where nothing is."""

    def __init__(
        self, *, memory_bytes: int = DEFAULT_MEMORY_BYTES, folder: Path | None = None
    ) -> None:
        self._folder = folder
        self._room_bytes = memory_bytes
        self._held: dict[int, Payloads] = {}
        self._places: dict[int, tuple[int, int]] = {}
        """Where those on disk begin, and how long they are."""
        self._file: IO[bytes] | None = None
        self._written_bytes = 0
        """All that the file holds, and what of it is wanted."""
        self._wanted_bytes = 0
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
        payloads: Payloads = marshal.loads(self._packed(*self._places[number]))  # written by `put`
        return payloads

    def drop(self, number: int) -> None:
        payloads = self._held.pop(number, None)
        if payloads is not None:
            self._room_bytes += _size_bytes(payloads)
            return
        _, size = self._places.pop(number)
        self._wanted_bytes -= size
        if not self._places and self._file is not None:
            self._file.close()
            self._file = None
            self._written_bytes = 0

    def _packed(self, start: int, size: int) -> bytes:
        assert self._file is not None
        self._file.seek(start)
        return self._file.read(size)

    def _write(self, number: int, data: bytes) -> None:
        if self._file is None:
            self._file = self._new_file()
        elif self._written_bytes > 2 * self._wanted_bytes + _SPARE_BYTES:
            self._move()
        start = self._file.seek(0, 2)
        self._file.write(data)
        self._places[number] = start, len(data)
        self._written_bytes = start + len(data)
        self._wanted_bytes += len(data)

    def _move(self) -> None:
        """What is wanted, into another file. It is the drawer's once all is there."""
        file = self._new_file()
        places = {}
        start = 0
        for number, (place, size) in self._places.items():
            file.write(self._packed(place, size))
            places[number] = start, size
            start += size
        assert self._file is not None
        self._file.close()
        self._file, self._places, self._written_bytes = file, places, start

    def _new_file(self) -> IO[bytes]:
        import tempfile  # takes a while to load, and most scans never get here

        return tempfile.TemporaryFile(prefix="barrelman-", dir=self._folder)


def _size_bytes(payloads: Payloads) -> int:
    return sum(map(len, payloads)) + _ABOUT_A_PAYLOAD_BYTES * len(payloads)
