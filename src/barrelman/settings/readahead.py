"""Bytes made in a thread of their own, ahead of who takes them."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator


class ReadAhead:
    """One run of a thread. Everything here belongs to the object: a process may be forked with no
    harm to the ones that are opened after it.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._changed = threading.Condition(threading.Lock())
        self._pieces: deque[bytes] = deque()
        self._held_bytes = 0
        self._is_over = False
        self._error: Exception | None = None
        self.is_stopped = False
        """Nobody takes any more: what makes the pieces had better end."""

    def run(self, pieces: Generator[bytes, None, None]) -> Iterator[bytes]:
        """The pieces, and then the error they ended in. No more than `max_bytes` and one piece
        wait meanwhile. When this is closed the thread has ended, and has closed `pieces`.
        """
        thread = threading.Thread(
            target=self._fill, args=(pieces,), name="barrelman-read-ahead", daemon=True
        )
        process = os.getpid()
        thread.start()
        try:
            while (piece := self._take()) is not None:
                yield piece
        finally:
            self.is_stopped = True
            # A forked process has a copy of this without the thread; the garbage collector may
            # close us in the very thread; and where the interpreter ends, no other thread runs.
            if (
                os.getpid() == process
                and threading.current_thread() is not thread
                and not sys.is_finalizing()
            ):
                with self._changed:
                    self._changed.notify_all()
                thread.join()
        if self._error is not None:
            raise self._error

    def _take(self) -> bytes | None:
        with self._changed:
            while not self._pieces and not self._is_over:
                self._changed.wait()
            if not self._pieces:
                return None
            piece = self._pieces.popleft()
            self._held_bytes -= len(piece)
            # One that waits for room is woken when there is much of it, and not for every piece.
            if self._held_bytes <= self._max_bytes // 2:
                self._changed.notify_all()
            return piece

    def _fill(self, pieces: Generator[bytes, None, None]) -> None:
        try:
            for piece in pieces:
                if not self._put(piece):
                    break
        except Exception as error:  # noqa: BLE001 - raised by `run`, in the thread that asked
            self._error = error
        finally:
            try:
                pieces.close()
            finally:
                with self._changed:
                    self._is_over = True
                    self._changed.notify_all()

    def _put(self, piece: bytes) -> bool:
        """Whether more is wanted."""
        with self._changed:
            while self._held_bytes >= self._max_bytes and not self.is_stopped:
                self._changed.wait()
            self._pieces.append(piece)
            self._held_bytes += len(piece)
            self._changed.notify_all()
            return not self.is_stopped
