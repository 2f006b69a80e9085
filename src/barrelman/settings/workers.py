"""Processes that work through numbered parts side by side; their answers come in order.

Decoding holds the interpreter's lock, so cores are used by processes. They are forked, and begin
with all that was loaded and compiled. Each takes the next part when it is done with one, and
writes what it finds into a pipe of its own; a pipe that nobody empties makes it wait, so answers
that come too early take bounded memory.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from barrelman.errors import InputError

_TOKEN = struct.Struct("<Q")
_HEADER = struct.Struct("<QQ")
_PIPE_BYTES: Final = 1024 * 1024
_READ_BYTES: Final = 1024 * 1024
# How far ahead of the part whose answers are awaited others may be taken up, for each process.
_PARTS_AHEAD: Final = 4
_MOST_HELD_BYTES: Final = 32 * 1024 * 1024
# Marks a frame: the last of its part, and one that tells of a bug.
_LAST: Final = 1 << 63
_BUG: Final = 1 << 62

Work = Callable[[int], Iterator[bytes]]
"""The answers to one part, one after the other."""


def can_fork() -> bool:
    return hasattr(os, "fork") and sys.platform != "win32"


def count_cores(*, limits: str = "/sys/fs/cgroup/cpu.max") -> int:
    """Cores that this process may use; in a container as many as its limit on time buys."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    try:
        with open(limits, encoding="ascii") as file:
            quota, period = file.read().split()[:2]
        return max(1, min(cores, -(-int(quota) // int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no such system, or "max": no limit
        return cores


class Workers:
    """`jobs` processes for `count` parts. Iterate `answers` to the end, or `stop`.

    Raises OSError where the system gives no more processes or pipes; none is left then.
    """

    def __init__(self, work: Work, *, count: int, jobs: int) -> None:
        self._count = count
        self._given = 0
        self._ahead = _PARTS_AHEAD * jobs
        self._tokens, self._token_end = os.pipe()
        self._pipes: dict[int, _Pipe] = {}
        self._held: dict[int, deque[bytes]] = {}
        self._held_bytes = 0
        self._whole: set[int] = set()
        self._children: list[int] = []
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            for _ in range(jobs):
                self._start(work)
            self._give(0)
        except BaseException:
            self.stop()
            raise
        finally:
            os.close(self._tokens)

    def answers(self) -> Iterator[tuple[int, bytes | None]]:
        """(part, answer) in the order of the parts; None behind the last answer of each.

        Raises RuntimeError where a process failed by a bug, InputError where it was killed.
        """
        for part in range(self._count):
            self._give(part)
            while True:
                while self._held.get(part):
                    answer = self._held[part].popleft()
                    self._held_bytes -= len(answer)
                    yield part, answer
                if part in self._whole:
                    break
                self._read_some(part)
            self._held.pop(part, None)
            self._whole.discard(part)
            yield part, None
        self.stop()

    def stop(self) -> None:
        """Ends the processes, whatever they are at."""
        if self._token_end >= 0:
            os.close(self._token_end)
            self._token_end = -1
        for pipe in self._pipes.values():
            os.close(pipe.descriptor)
        self._pipes.clear()
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for child in self._children:
            with contextlib.suppress(ChildProcessError):  # whoever ignores SIGCHLD has no children
                os.waitpid(child, 0)
        self._children.clear()

    def _give(self, part: int) -> None:
        """Lets parts be taken up, as far ahead of this one as may be."""
        until = min(self._count, part + self._ahead)
        while self._given < until:
            try:
                os.write(self._token_end, _TOKEN.pack(self._given))
            except BrokenPipeError:  # none of them is left; ours to tell from a closed output
                raise _killed() from None
            self._given += 1

    def _read_some(self, part: int) -> None:
        """Waits for a process to say something; for a full hold only those behind `part`."""
        wanted = [
            pipe
            for pipe in self._pipes.values()
            if self._held_bytes < _MOST_HELD_BYTES or pipe.part <= part
        ]
        for descriptor in select.select([pipe.descriptor for pipe in wanted], [], [])[0]:
            pipe = self._pipes[descriptor]
            data = os.read(descriptor, _READ_BYTES)
            if not data:
                raise _killed()
            for mark, answer in pipe.take(data):
                if mark & _BUG:
                    raise RuntimeError(answer.decode(errors="replace"))
                number = pipe.part = mark & ~_LAST
                if mark & _LAST:
                    self._whole.add(number)
                else:
                    self._held.setdefault(number, deque()).append(answer)
                    self._held_bytes += len(answer)

    def _start(self, work: Work) -> None:
        inlet, outlet = os.pipe()
        _widen(outlet)
        self._pipes[inlet] = _Pipe(inlet)
        with warnings.catch_warnings():
            # Of threads that a caller may have, the child uses nothing.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                child = os.fork()
            except OSError:
                os.close(outlet)
                raise
        if child:
            os.close(outlet)
            self._children.append(child)
            return
        try:
            # The terminal's Ctrl-C goes to all of them; it is the parent's to answer.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for descriptor in (self._token_end, *self._pipes):
                os.close(descriptor)
            _work_off(work, self._tokens, outlet)
        except BrokenPipeError:
            pass  # nobody waits for the answers any more
        finally:
            os._exit(0)


def _widen(outlet: int) -> None:
    """Lets a process write a whole answer while the parent is busy with another one's.

    Linux alone has pipes of other sizes, and an administrator may have set less than this.
    """
    import fcntl

    set_size = getattr(fcntl, "F_SETPIPE_SZ", None)
    if set_size is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(outlet, set_size, _PIPE_BYTES)


def _killed() -> InputError:
    return InputError(
        "a process of the scan was killed: is the machine out of memory?",
        hint="--jobs 1 scans in one process",
    )


class _Pipe:
    """What comes from one process, cut into its frames."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.part = -1
        """The part that it spoke of last."""
        self._buffer = bytearray()

    def take(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= _HEADER.size:
            mark, size = _HEADER.unpack_from(buffer, at)
            end = at + _HEADER.size + size
            if end > len(buffer):
                break
            yield mark, bytes(buffer[at + _HEADER.size : end])
            at = end
        del buffer[:at]


def _work_off(work: Work, tokens: int, outlet: int) -> None:
    """Takes parts until the parent gives none any more, or is gone."""
    while token := os.read(tokens, _TOKEN.size):
        (part,) = _TOKEN.unpack(token)
        try:
            for answer in work(part):
                _write(outlet, part, answer)
        except BrokenPipeError:
            raise
        except Exception:  # noqa: BLE001  # shown by the parent, whole
            _write(outlet, _BUG, traceback.format_exc().encode(errors="replace"))
            return
        _write(outlet, part | _LAST, b"")


def _write(outlet: int, mark: int, answer: bytes) -> None:
    view = memoryview(_HEADER.pack(mark, len(answer)) + answer)
    while view:
        view = view[os.write(outlet, view) :]
