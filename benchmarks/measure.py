"""Runs whole processes in turn, and holds what that took: time, CPU, memory.

Memory is what the processes of a contender hold themselves, summed over the process and all its
descendants: `Pss_Anon` and `Pss_Shmem` of `/proc/PID/smaps_rollup`, so that a page which forked
processes share counts once, and pages of the log in the page cache, mapped or not, do not count.
It is read every few milliseconds in a round of its own that is not timed, as reading it stops
the process for a moment.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

MIB = 1 << 20
POLL_SECONDS = 0.003
HAS_PROC = Path("/proc/self/smaps_rollup").exists()


@dataclass
class Contender:
    """A command and its measurements. `count` reads from its output what it found."""

    name: str
    command: list[str]
    size_bytes: int = 0
    events: int = 0
    good_codes: tuple[int, ...] = (0,)
    count: Callable[[IO[bytes]], int] | None = None
    found: int | None = None
    wall_seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_mib: float = 0.0

    def warm_up(self) -> None:
        """A run that is not timed: fills the page cache, takes memory, keeps what was found."""
        with self._started() as (child, out):
            while True:
                pid, status, usage = os.wait4(child.pid, os.WNOHANG)
                if pid:
                    break
                self.peak_mib = max(self.peak_mib, held_bytes(child.pid) / MIB)
                time.sleep(POLL_SECONDS)
            self._ended(child, status)
            if not HAS_PROC:
                self.peak_mib = usage.ru_maxrss / (MIB if sys.platform == "darwin" else 1024)
            if self.count is not None:
                out.seek(0)
                self.found = self.count(out)

    def run(self) -> None:
        with self._started() as (child, _):
            _, status, usage = os.wait4(child.pid, 0)
            self.wall_seconds.append(time.perf_counter() - self._began)
        self._ended(child, status)
        self.cpu_seconds.append(usage.ru_utime + usage.ru_stime)

    @property
    def wall(self) -> float:
        return statistics.median(self.wall_seconds)

    @contextmanager
    def _started(self) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
        environment = os.environ | {"LC_ALL": "C"}
        # A file, not /dev/null, where output counts: grep stops at its first match when nobody
        # can read the count. Where it does not, writing gigabytes would be what is measured.
        with tempfile.TemporaryFile() if self.count else open(os.devnull, "r+b") as out:
            self._began = time.perf_counter()
            child = subprocess.Popen(
                self.command, env=environment, stdout=out, stderr=subprocess.DEVNULL
            )
            yield child, out

    def _ended(self, child: subprocess.Popen[bytes], status: int) -> None:
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode not in self.good_codes:
            sys.exit(f"{self.name}: exit code {child.returncode}: {' '.join(self.command)[:300]}")


def held_bytes(root: int) -> int:
    """What a process and its descendants hold, as said above; 0 where that cannot be read."""
    total = 0
    pending = [root]
    while pending:
        pid = pending.pop()
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
            for line in rollup.splitlines():
                if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                    total += int(line.split()[1]) * 1024
            for task in Path(f"/proc/{pid}/task").iterdir():
                pending += map(int, (task / "children").read_text(encoding="ascii").split())
        except OSError:  # it has just ended
            continue
    return total


def alternate(contenders: Sequence[Contender], *, rounds: int, name: str) -> None:
    """Times all contenders once a round, each round beginning with another one.

    A slow minute of the machine falls on all of them, and nobody always follows the same one.
    """
    for number in range(rounds):
        first = number % len(contenders)
        for one in (*contenders[first:], *contenders[:first]):
            one.run()
        sys.stderr.write(f"{name}: round {number + 1} of {rounds}\n")


@dataclass(frozen=True)
class Bar:
    """What is demanded of one figure, and the figure in each round."""

    label: str
    values: Callable[[], list[float]]
    least: float | None = None
    most: float | None = None

    @property
    def wanted(self) -> str:
        return f"at least {self.least:,g}" if self.least is not None else f"at most {self.most:,g}"

    def judged(self) -> tuple[float, float, float, bool]:
        """Median, lowest and highest, and whether the median will do."""
        values = self.values()
        middle = statistics.median(values)
        met = (self.least is None or middle >= self.least) and (
            self.most is None or middle <= self.most
        )
        return middle, min(values), max(values), met


def ratios(over: Contender, under: Contender) -> Callable[[], list[float]]:
    """Times of one over times of the other, pair by pair within a round."""
    return lambda: [a / b for a, b in zip(over.wall_seconds, under.wall_seconds, strict=True)]


def rates(one: Contender) -> Callable[[], list[float]]:
    return lambda: [one.events / seconds for seconds in one.wall_seconds]


def memory_growth(over: Contender, under: Contender) -> Callable[[], list[float]]:
    return lambda: [over.peak_mib / under.peak_mib]
