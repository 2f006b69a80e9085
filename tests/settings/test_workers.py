"""Answers come whole and in the order of the parts, and no process is left behind."""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from barrelman.errors import InputError
from barrelman.settings.workers import Work, Workers, can_fork, count_cores

PATIENCE_SECONDS = 60

pytestmark = pytest.mark.skipif(not can_fork(), reason="no processes are forked here")


@pytest.fixture(autouse=True)
def _nothing_hangs() -> Iterator[None]:
    """What waits for ever shows where, and ends."""
    faulthandler.dump_traceback_later(PATIENCE_SECONDS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


class Lifeline:
    """A pipe whose other end every process started meanwhile holds: its end is theirs."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def all_ended(self) -> bool:
        os.close(self.writer)
        ready, _, _ = select.select([self.reader], [], [], PATIENCE_SECONDS)
        ended = bool(ready) and os.read(self.reader, 1) == b""
        os.close(self.reader)
        return ended


def collected(work: Work, *, count: int, jobs: int) -> list[tuple[int, bytes | None]]:
    lifeline = Lifeline()
    workers = Workers(work, count=count, jobs=jobs)
    try:
        return list(workers.answers())
    finally:
        workers.stop()
        assert lifeline.all_ended()


def expected(work: Work, count: int) -> list[tuple[int, bytes | None]]:
    return [
        each for part in range(count) for each in [*((part, a) for a in work(part)), (part, None)]
    ]


def small(part: int) -> Iterator[bytes]:
    for number in range(part % 4):
        yield b"%d of %d" % (number, part)


def late_first(part: int) -> Iterator[bytes]:
    """Early parts take the longest, so that others are done before them."""
    total = sum(range(200_000 if part % 5 == 0 else 10))
    yield b"%d" % (total + part)


def empty(part: int) -> Iterator[bytes]:
    yield b""
    yield b"x" * part
    yield b""


@pytest.mark.parametrize("jobs", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 3, 60])
@pytest.mark.parametrize("work", [small, late_first, empty])
def test_answers_come_in_the_order_of_the_parts(work: Work, count: int, jobs: int) -> None:
    assert collected(work, count=count, jobs=jobs) == expected(work, count)


def test_more_jobs_than_parts() -> None:
    assert collected(small, count=2, jobs=6) == expected(small, 2)


def test_answers_larger_than_any_pipe() -> None:
    def work(part: int) -> Iterator[bytes]:
        for number in range(3):
            yield bytes([part, number]) * 700_000

    assert collected(work, count=5, jobs=3) == expected(work, 5)


def test_answers_that_come_too_early_wait() -> None:
    """A part says nothing until as much is held of those behind it as may be, and more waits."""
    gate, opener = os.pipe()
    size = 4 * 1024 * 1024

    def work(part: int) -> Iterator[bytes]:
        if part == 0:
            os.read(gate, 1)
            yield b"at last"
            return
        for number in range(5):
            if (part, number) == (2, 3):  # 32 MiB are on their way
                os.write(opener, b".")
            yield bytes([part + number]) * size

    lifeline = Lifeline()
    workers = Workers(work, count=4, jobs=2)
    sizes = []
    for part, answer in workers.answers():
        if answer is not None:
            sizes.append((part, len(answer), answer[:1]))
    workers.stop()
    assert sizes[0] == (0, 7, b"a")
    assert sizes[1:] == [
        (part, size, bytes([part + number])) for part in (1, 2, 3) for number in range(5)
    ]
    assert lifeline.all_ended()
    os.close(gate)
    os.close(opener)


def test_a_bug_in_a_process_is_shown_as_it_was() -> None:
    def work(part: int) -> Iterator[bytes]:
        yield b"first"
        if part == 3:
            raise LookupError("what is wrong")

    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*LookupError: what is wrong"):
        collected(work, count=9, jobs=2)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_process_that_is_killed_is_told_of(jobs: int) -> None:
    def work(part: int) -> Iterator[bytes]:
        yield b"x" * 100_000
        if part == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        yield b"y"

    with pytest.raises(InputError, match="killed") as caught:
        collected(work, count=9, jobs=jobs)
    assert "--jobs 1" in str(caught.value)


def test_processes_that_were_killed_before_they_are_asked_for_more() -> None:
    """The pipe that gives out parts is broken then: that is no closed output of ours."""

    def work(part: int) -> Iterator[bytes]:
        if part == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        yield b"x"

    lifeline = Lifeline()
    workers = Workers(work, count=9, jobs=1)
    assert lifeline.all_ended()
    with pytest.raises(InputError, match="killed"):
        list(workers.answers())
    workers.stop()


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_stopping_midway_leaves_nothing_behind(taken: int) -> None:
    def work(part: int) -> Iterator[bytes]:
        while True:
            yield b"x" * 50_000

    lifeline = Lifeline()
    descriptors = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    workers = Workers(work, count=20, jobs=3)
    answers = workers.answers()
    for _ in range(taken):
        assert next(answers) == (0, b"x" * 50_000)
    workers.stop()
    workers.stop()
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/fd")) == descriptors
    assert lifeline.all_ended()


def test_a_terminals_interrupt_is_left_to_the_parent() -> None:
    def work(part: int) -> Iterator[bytes]:
        os.kill(os.getpid(), signal.SIGINT)
        yield b"%d" % part

    answers = [each for part in range(4) for each in ((part, b"%d" % part), (part, None))]
    assert collected(work, count=4, jobs=2) == answers


PARENT = """
import os, signal, sys
from barrelman.settings.workers import Workers

def work(part):
    if part == 1 and sys.argv[1] == "busy":
        while True:
            yield b"x" * 50_000
    yield b"done"

workers = Workers(work, count=3, jobs=3)
answers = workers.answers()
print(next(answers), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_processes_whose_parent_was_killed_end_too(state: str) -> None:
    lifeline = Lifeline()
    os.set_inheritable(lifeline.writer, True)
    done = subprocess.run(
        [sys.executable, "-c", PARENT, state],
        pass_fds=[lifeline.writer],
        stdout=subprocess.DEVNULL,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == -signal.SIGKILL
    os.close(lifeline.writer)
    lifeline.writer = os.dup(lifeline.reader)
    assert lifeline.all_ended()


IGNORANT = """
import signal
from barrelman.settings.workers import Workers

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as some parents leave it to their children
workers = Workers(lambda part: iter([b"x"]), count=3, jobs=2)
print(len(list(workers.answers())))
workers.stop()
"""


def test_children_that_the_system_buries_are_no_error() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IGNORANT], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("6\n", "")


def test_there_is_a_core() -> None:
    assert count_cores() >= 1


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("150000 100000", 2),
        ("max 100000", None),
        ("", None),
        ("x y", None),
        ("100000 0", None),
    ],
)
def test_cores_are_those_that_a_limit_on_time_buys(
    tmp_path: Path, limits: str, most: int | None
) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(limits)
    unlimited = count_cores(limits=str(tmp_path / "none"))
    assert count_cores(limits=str(path)) == min(unlimited, most or unlimited)
    assert unlimited >= 1


def test_no_more_processes_than_the_system_gives() -> None:
    """Those that were started are ended, and whoever asked is told."""
    script = """
import os, resource, sys
from barrelman.settings.workers import Workers
before = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (before + 12, before + 12))
try:
    Workers(lambda part: iter(()), count=99, jobs=50)
except OSError as error:
    print(type(error).__name__, len(os.listdir("/proc/self/fd")) - before)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("none left")
"""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc to count descriptors in")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split("\n")[:2] == ["OSError 0", "none left"]
