"""Ways of going wrong, beside being killed: disk full, files torn, a sink down, the clock set back.

Each starts a server in a folder, hurts it under load, lets it recover by itself, and accounts for
what was acknowledged. What a machine does not allow is skipped, and says so.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from account import Account, account, eventually, settle
from load import Load, Plan
from subject import RULE_ID, Subject, alerts_of, free_port
from verdict import Verdict

MIB = 1 << 20
DISK_MIB = 192
ATTACKS_PER_SECOND = 5.0
FAULT_BATCH = 100
RECOVERY_SECONDS = 60.0
SMALL_SEGMENTS = "store.segment_bytes = 1_048_576\n"
# Forward so much that every part of a day is another one.
CLOCK_BACK_SECONDS = 2 * 3600

# Shifts the clock of the process it is loaded into by what a file holds, in nanoseconds.
CLOCK_SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile long long none, *shift = &none;
__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_SHIFT_FILE");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0) return;
    void *page = mmap(0, sizeof(long long), PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) shift = page;
    close(file);
}
int clock_gettime(clockid_t id, struct timespec *at) {
    int failed = syscall(SYS_clock_gettime, id, at);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        long long now = at->tv_sec * 1000000000LL + at->tv_nsec + *shift;
        at->tv_sec = now / 1000000000LL;
        at->tv_nsec = now % 1000000000LL;
    }
    return failed;
}
int gettimeofday(struct timeval *at, void *zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    at->tv_sec = exact.tv_sec;
    at->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *at) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (at) *at = exact.tv_sec;
    return exact.tv_sec;
}
"""


def loaded(server: Subject, rate: float, *, first: int = 0) -> Load:
    share = ATTACKS_PER_SECOND / rate
    plan = hasty(Plan(server.url, rate=rate, attack_share=share))
    return Load(plan, first=first).start()


def hasty(plan: Plan) -> Plan:
    """With small batches, so that some are always on their way, and short waits."""
    return replace(plan, size=FAULT_BATCH, retry_scale=0.1, late_seconds=0.5)


def ended(server: Subject, load: Load) -> Account:
    """Lets the load and the server finish, and accounts."""
    load.stop()
    drained = load.drain(timeout_seconds=90)
    settle(server, load.ledger)
    code = server.stop()
    found = account(server, load.ledger)
    found.check(drained, "batches were still on their way 90 s after the end of the load")
    found.check(code == 0, f"exit code {code} after SIGTERM")
    found.figures["answers"] = load.tally.answers.most_common()
    return found


def taken(load: Load) -> Callable[[], bool]:
    """Whether ten more batches were acknowledged from now on."""
    before = len(load.ledger.acknowledged)
    return lambda: len(load.ledger.acknowledged) >= before + 10


# A full disk


def disk_full(folder: Path, rate: float, seconds: float) -> Verdict:
    """No space left, for so many seconds; then there is again."""
    folder.mkdir(parents=True)
    with _small_disk(folder / "disk") as disk:
        server = Subject(folder, data=disk / "data") if disk else Subject(folder)
        server.sink = server.data.parent / "alerts.jsonl"
        with server.start():
            load = loaded(server, rate)
            eventually(server, taken(load), seconds=30, what="taking events in")
            with _no_space(server, disk):
                refused = load.tally.answers.copy()
                eventually(server, _refuses(load), seconds=30, what="an answer of 503")
                time.sleep(seconds)
                health = server.status("/healthz")
                ready = server.status("/readyz")
                count = server.status("/api/v1/events/count?query=*")
            began = time.monotonic()
            eventually(server, taken(load), seconds=RECOVERY_SECONDS, what="taking in again")
            recovered = time.monotonic() - began
            eventually(
                server, lambda: server.status("/readyz") == 200, seconds=30, what="being ready"
            )
            found = ended(server, load)
    answers = load.tally.answers - refused
    found.check(health == 200, f"/healthz answered {health} while the disk was full")
    found.check(ready == 503, f"/readyz answered {ready} while the disk was full, not 503")
    found.check(count == 200, f"a count answered {count} while the disk was full")
    strange = sorted(answers.keys() - {"200", "503", "429", "507"})
    found.check(not strange, f"other answers than 200 and 503: {strange}")
    found.figures |= {
        "how": "a tmpfs that is full" if disk else "a limit on the size of files",
        "taking in again after, s": recovered,
    }
    return Verdict("disk-full", f"For {seconds:g} s.", found.figures, [], found.failures)


def _refuses(load: Load) -> Callable[[], bool]:
    before = load.tally.answers["503"]
    return lambda: load.tally.answers["503"] > before


@contextlib.contextmanager
def _small_disk(path: Path) -> Iterator[Path | None]:
    """A file system of its own, or None where this user may not mount one, or said not to."""
    path.mkdir()
    size = f"size={DISK_MIB}m"
    may = shutil.which("mount") and not os.environ.get("CHAOS_NO_MOUNT")
    mounted = may and not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(path)], capture_output=True, check=False
    ).returncode  # fmt: skip
    try:
        yield path if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(path)], check=True)


@contextlib.contextmanager
def _no_space(server: Subject, disk: Path | None) -> Iterator[None]:
    if disk is None:
        before = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1, before[1]))
        try:
            yield
        finally:
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, before)
        return
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(64 * 1024))
    try:
        yield
    finally:
        ballast.unlink()


# A file that is shorter than it was


def truncated(folder: Path, rate: float, seconds: float) -> Verdict:
    """The newest file of each kind loses its second half while the server is down.

    Columns are made anew from the lines. Lines that are gone are lost, and that must be said, with
    how many they are; the others must all be there.
    """
    server = Subject(folder, config=SMALL_SEGMENTS)
    figures: dict[str, object] = {}
    failures: list[str] = []
    first = 0
    for kind in ("parquet", "zst", "log"):
        with server.start():
            load = loaded(server, rate, first=first)
            eventually(server, _sealed(server), seconds=60, what="closed segments")
            time.sleep(min(seconds, 5))
            load.stop()
            load.drain(timeout_seconds=60)
            settle(server, load.ledger)
            server.kill()
            first = max(load.ledger.sent) + 1
            again = _hurt(server, kind, figures)
        found = _only_of(account(server, load.ledger, may_lose=kind != "parquet"))
        lost = len(found.lost)
        figures[f"{kind}: events acknowledged"] = found.figures["events acknowledged"]
        figures[f"{kind}: events lost"] = lost
        failures += [f"{kind}: {failure}" for failure in found.failures]
        if lost and not re.search(rf"\b{lost}\b", again.replace(",", "")):
            failures.append(f"{kind}: {lost} events are lost, and that is not said: {again}")
    return Verdict("truncated", "Second halves of files.", figures, [], failures)


def _hurt(server: Subject, kind: str, figures: dict[str, object]) -> str:
    """Halves a file, starts the server for as long as it may take to say so; what it said."""
    before = len(server.log.read_bytes())
    hurt = max(server.data.rglob(f"*.{kind}"), key=lambda path: path.stat().st_mtime_ns)
    os.truncate(hurt, hurt.stat().st_size // 2)
    began = time.monotonic()
    server.start()
    figures[f"{kind}: ready again after, s"] = time.monotonic() - began

    def said() -> str:
        return server.log.read_bytes()[before:].decode("utf-8", "replace")

    if kind != "parquet":
        server.waited(lambda: "lost" in said(), seconds=10)
    server.stop()
    return said()


def _only_of(found: Account) -> Account:
    """The folder holds what earlier loads sent, too, of which this ledger knows nothing."""
    found.failures = [
        failure for failure in found.failures if not failure.endswith(("sent", "about no attack"))
    ]
    return found


def _sealed(server: Subject) -> Callable[[], bool]:
    def count() -> int:
        return len(list((server.data / "events").rglob("*.zst")))

    before = count()
    return lambda: count() >= before + 3


# A sink that is down

RECEIVER = """
[[sinks]]
name = "receiver"
kind = "webhook"
url = "http://127.0.0.1:{port}/alerts"
digest_after = 0
"""


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what it was sent, and the idempotency keys that came with it."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(size)
        if len(body) < size:  # the sender was killed
            self.close_connection = True
            return
        bodies: list[bytes] = self.server.bodies  # type: ignore[attr-defined]
        bodies.append(body)
        self.server.keys.append(  # type: ignore[attr-defined]
            self.headers.get("Idempotency-Key", "")
        )
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass


def sink_down(folder: Path, rate: float, seconds: float) -> Verdict:
    """A webhook's receiver is not there at first, comes, goes, and comes again."""
    port = free_port()
    bodies: list[bytes] = []
    keys: list[str] = []
    server = Subject(folder, config=RECEIVER.format(port=port))
    with server.start():
        load = loaded(server, rate)
        time.sleep(seconds)
        with _receiving(port, bodies, keys):
            eventually(server, lambda: bool(bodies), seconds=120, what="a delivery")
            time.sleep(2)
        server.kill()
        server.start()
        time.sleep(seconds)
        load.stop()
        load.drain(timeout_seconds=60)
        settle(server, load.ledger)
        wanted = set(load.ledger.attacks())
        with _receiving(port, bodies, keys):
            began = time.monotonic()
            server.waited(lambda: wanted <= _delivered(bodies), seconds=180, pause=0.5)
            took = time.monotonic() - began
        found = ended(server, load)
    missing = wanted - _delivered(bodies)
    found.check(not missing, f"{len(missing)} of {len(wanted)} alerts were not delivered")
    found.check(all(keys), "deliveries came without an idempotency key")
    found.figures |= {
        "deliveries": len(bodies),
        "different keys": len(set(keys)),
        "all there after, s": took,
    }
    return Verdict("sink-down", f"Twice {seconds:g} s.", found.figures, [], found.failures)


@contextlib.contextmanager
def _receiving(port: int, bodies: list[bytes], keys: list[str]) -> Iterator[None]:
    http.server.ThreadingHTTPServer.allow_reuse_address = True
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Receiver) as receiver:
        receiver.bodies, receiver.keys = bodies, keys  # type: ignore[attr-defined]
        thread = threading.Thread(target=receiver.serve_forever, daemon=True)
        thread.start()
        yield
        receiver.shutdown()
        thread.join()


def _delivered(bodies: list[bytes]) -> set[str]:
    """The audit IDs of all alerts of the counted rule in what came, wherever in it they stand."""
    found: set[str] = set()
    for body in list(bodies):
        pending: list[object] = [json.loads(body)]
        while pending:
            value = pending.pop()
            if isinstance(value, list):
                pending += value
            elif isinstance(value, dict):
                if value.get("kibana.alert.rule.rule_id") == RULE_ID:
                    found.update(alerts_of([value]))
                else:
                    pending += value.values()
    return found


# A clock that is set back


def clock_back(folder: Path, rate: float, seconds: float) -> Verdict:
    """Two hours back under load, a restart there, and forth again."""
    folder.mkdir(parents=True)
    library, shift = _clock_library(folder), folder / "shift"
    if library is None:
        sys.stderr.write("clock-back: skipped, as there is no C compiler here\n")
        return Verdict("clock-back", "Skipped: it takes a C compiler.")
    _set_clock(shift, 0)
    environment = {"LD_PRELOAD": str(library), "CLOCK_SHIFT_FILE": str(shift)}
    server = Subject(folder / "server", environment=environment)
    with server.start():
        load = loaded(server, rate)
        time.sleep(seconds / 3)
        for at in (-CLOCK_BACK_SECONDS, 0):
            _set_clock(shift, at)
            eventually(server, taken(load), seconds=RECOVERY_SECONDS, what="taking in")
            time.sleep(seconds / 3)
            server.stop()
            server.start()
            eventually(server, taken(load), seconds=RECOVERY_SECONDS, what="taking in, restarted")
        found = ended(server, load)
    about = f"{CLOCK_BACK_SECONDS / 3600:g} h back and forth, with a restart at each."
    return Verdict("clock-back", about, found.figures, [], found.failures)


def _set_clock(shift: Path, seconds: int) -> None:
    if not shift.exists():
        shift.write_bytes(bytes(8))
    with shift.open("r+b", buffering=0) as out:  # in place: it is mapped
        out.write(struct.pack("q", seconds * 1_000_000_000))


def _clock_library(folder: Path) -> Path | None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        return None
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(CLOCK_SOURCE, "utf-8")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)]
    return library if not subprocess.run(command, check=False).returncode else None


FAULTS: dict[str, Callable[[Path, float, float], Verdict]] = {
    "disk-full": disk_full,
    "truncated": truncated,
    "sink-down": sink_down,
    "clock-back": clock_back,
}
