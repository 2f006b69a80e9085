"""Alerts as lines of JSON: in a file, each exactly once, or on a stream."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from typing import BinaryIO, Final

from barrelman.errors import SinkError
from barrelman.sinks.flood import Flood
from barrelman.sinks.message import Message, test_message
from barrelman.sinks.options import SinkSettings
from barrelman.sinks.tail import mark_of, mend_tail

_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
# Alerts tell of people and of weak places: not for everyone on the machine.
_MODE: Final = 0o640


class FileSink:
    """Appends, and is on disk when `deliver` returns. A file that was rotated away is left.

    A batch that fails half-way is taken back, so that a repeat does not double its beginning.
    """

    digest_above = None

    def __init__(self, settings: SinkSettings) -> None:
        self.name = settings.name
        self.kind = settings.kind
        self.batch = settings.most
        self.digest_seconds = settings.digest_seconds
        self.give_up_seconds = settings.give_up_seconds
        self.notice = ""
        self._path = settings.path
        self._shown = settings.shown
        self._file = -1
        self._is_torn = False
        self._last_mark: str | None = None

    def mend(self, mark: str | None) -> Collection[str]:
        with self._told("read"):
            ids = mend_tail(self._path, mark)
            # Made now if it is missing: of what a crash leaves in a file unknown, nothing is known.
            self._last_mark = mark_of(self._open())
        return ids

    def mark(self) -> str:
        return self._last_mark or "{}"

    def deliver(self, messages: Sequence[Message]) -> None:
        with self._told("written"):
            file = self._current()
            self._append(file, b"".join(line_of(message) for message in messages))
            self._last_mark = mark_of(file)

    def digest(self, flood: Flood) -> None:
        self.deliver(flood.first)

    def test(self, now_us: int) -> str:
        message = test_message(self.name, now_us)
        self.deliver([message])
        return f"appended a line to {self._shown}, marked as a test"

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _append(self, file: int, data: bytes) -> None:
        size = os.fstat(file).st_size
        if self._is_torn:
            data = b"\n" + data
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            os.fsync(file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, size)
            raise
        self._is_torn = False

    def _current(self) -> int:
        """The file at the path: a new one where another stands there now, or none."""
        if self._file >= 0:
            held = os.fstat(self._file)
            with contextlib.suppress(FileNotFoundError):
                there = os.stat(self._path)
                if (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino):
                    return self._file
            self.close()
        return self._open()

    def _open(self) -> int:
        if self._file >= 0:
            return self._file
        file = os.open(self._path, _FLAGS, _MODE)
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise SinkError(
                    f"'{self._shown}' is not a file", hint="write file:- for the terminal"
                )
            # What stood there before us may end within a line; it is not for us to cut off.
            self._is_torn = status.st_size > 0 and os.pread(file, 1, status.st_size - 1) != b"\n"
            if status.st_size == 0:
                _sync_folder(self._path)
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return file

    @contextlib.contextmanager
    def _told(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SinkError(f"'{self._shown}' cannot be {done}: {error.strerror}") from None


class StreamSink:
    """Writes lines to a stream that someone else opened, and leaves it open."""

    digest_above = None

    def __init__(self, settings: SinkSettings, stream: BinaryIO) -> None:
        self.name = settings.name
        self.kind = settings.kind
        self.batch = settings.most
        self.digest_seconds = settings.digest_seconds
        self.give_up_seconds = settings.give_up_seconds
        self.notice = ""
        self._stream = stream

    def deliver(self, messages: Sequence[Message]) -> None:
        try:
            self._stream.write(b"".join(line_of(message) for message in messages))
            self._stream.flush()
        except OSError as error:
            raise SinkError(f"standard output cannot be written: {error.strerror}") from None

    def digest(self, flood: Flood) -> None:
        self.deliver(flood.first)

    def test(self, now_us: int) -> str:
        self.deliver([test_message(self.name, now_us)])
        return "wrote a line to standard output, marked as a test"

    def close(self) -> None:
        """Nothing: the stream is its owner's."""


def line_of(message: Message) -> bytes:
    """The alert's document as one line, in ASCII: half a surrogate pair breaks no reader."""
    return json.dumps(message.document, separators=(",", ":")).encode("ascii") + b"\n"


def _sync_folder(path: str) -> None:
    """Makes the new name last: a file without it is lost with the power."""
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
