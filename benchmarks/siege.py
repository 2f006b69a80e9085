"""Besieges a server with all that nobody in good faith sends, while an honest client goes on.

    python benchmarks/siege.py                     # everything, minutes
    python benchmarks/siege.py fuzz tricks --short

Through all of it the server must not end, its memory must stay bounded, `/healthz` must answer
soon, no answer may be a 500, and every event of the honest client must be stored once, its attacks
alerted once.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import http.client
import json
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from account import account, settle
from bodies import Batches
from load import Load, Plan, percentile
from malice import TRICKS, Malice, answered_statuses, bomb, mixed_list
from measure import Bar
from subject import Subject, SubjectError, Watch, barrelman
from verdict import Verdict, one, told

MIB_BYTES = 1 << 20
RATE = 500.0
ATTACK_SHARE = 0.004
# Slow clients are cut off sooner than usual, so that the siege is over sooner; a failed log-in does
# not count, so that thousands can be timed.
CONFIG = """
[server]
header_seconds = 3
idle_seconds = 10
[access]
failures_per_minute = 0
"""


@dataclass
class Siege:
    """The server, and what was seen of it."""

    server: Subject
    is_short: bool
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)

    def many(self, short: int, long: int) -> int:
        return short if self.is_short else long

    @property
    def patience(self) -> float:
        """Seconds for an answer to something that may deserve none."""
        return 1.0 if self.is_short else 5.0

    def check(self, is_so: bool, otherwise: str) -> None:
        if not is_so:
            self.failures.append(otherwise)

    def post(self, body: bytes, *, path: str = "/audit/siege", **headers: str) -> int:
        """The status; 0 where the connection was ended without one."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            status = self.server.ask(path, method="POST", body=body, headers=named)[0]
        except (OSError, http.client.HTTPException):
            status = 0
        self.statuses[status] += 1
        return status

    def connection(self, *, timeout: float = 10.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), timeout)

    def wire(self, text: bytes) -> list[int]:
        """The statuses that bytes are answered with until the connection ends or falls silent."""
        got = b""
        with suppress(OSError), closing(self.connection(timeout=self.patience)) as connection:
            with suppress(OSError):  # it may be cut off, and an answer wait to be read
                connection.sendall(text)
            while piece := connection.recv(65536):
                got += piece
                connection.settimeout(self.patience / 20)
        statuses = list(answered_statuses(got))
        self.statuses.update(statuses)
        return statuses


class Probe:
    """Asks for /healthz over and over, and notes how long it took."""

    def __init__(self, server: Subject) -> None:
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seconds: list[float] = []
        self.unanswered = 0

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.1):
            began = time.monotonic()
            if self._server.status("/healthz") == 200:
                self.seconds.append(time.monotonic() - began)
            else:
                self.unanswered += 1


def fuzz(siege: Siege) -> None:
    """Mutated bodies, packed and not."""
    malice = Malice(seed=7)
    until = time.monotonic() + siege.many(2, 60)
    count = 0
    while time.monotonic() < until:
        body = malice.body()
        path = ("/audit/siege", "/events/siege")[count % 2]
        if count % 5 == 0:
            siege.post(
                gzip.compress(body, 1)[: -(count % 3) or None], path=path, Content_Encoding="gzip"
            )
        else:
            siege.post(body, path=path)
        count += 1
    siege.figures["fuzzed bodies"] = count


def mixed(siege: Siege) -> None:
    """Items that are no events cost none of the events beside them."""
    batches = Batches(seed=99, count=2, size=50)
    body, bad = mixed_list(batches, 1)
    status, _, text = siege.server.ask("/audit/mixed", method="POST", body=body)
    siege.check(status == 200, f"a list with bad items was answered {status}")
    receipt = json.loads(text)
    siege.check(receipt.get("stored") == 50, f"50 good items, {bad} bad ones: {receipt}")


def tricks(siege: Siege) -> None:
    """Requests that are malformed, absurd or sly."""
    unanswered = 0
    for text in TRICKS:
        statuses = siege.wire(text)
        unanswered += not statuses
        if wrong := [status for status in statuses if status >= 500 and status not in (501, 505)]:
            siege.failures.append(f"answered {wrong[0]}: {text[:90]!r}")
    siege.figures["tricks"] = f"{len(TRICKS)}, {unanswered} cut off without an answer"


def bombs(siege: Siege) -> None:
    """A gibibyte packed into one mebibyte, several at once, and one packed twice."""
    packed = bomb(siege.many(256, 1024))
    twice = bomb(siege.many(256, 1024), layers=2)
    statuses: list[int] = []

    def send(body: bytes, encoding: str) -> None:
        statuses.append(siege.post(body, Content_Encoding=encoding))

    bodies = [(packed, "gzip")] * siege.many(4, 16) + [(twice, "gzip"), (twice, "gzip, gzip")]
    threads = [threading.Thread(target=send, args=each) for each in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    siege.check(not {200, 500} & set(statuses[:-2]), f"bombs were answered {Counter(statuses)}")
    siege.figures["bombs"] = str(dict(Counter(statuses)))


def oversize(siege: Siege) -> None:
    """Bodies that say or turn out to be larger than is allowed."""
    head = b"POST /audit/siege HTTP/1.1\r\nHost: localhost\r\n"
    with closing(siege.connection()) as connection:
        connection.sendall(head + b"Content-Length: 10000000000\r\n\r\n{")
        answer = connection.recv(65536)
    siege.check(b" 413 " in answer[:20], f"10 GB announced, and answered {answer[:60]!r}")
    chunk = b"100000\r\n" + b" " * MIB_BYTES + b"\r\n"
    sent, answer = 0, b""
    with closing(siege.connection()) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        with suppress(OSError):
            while sent < 200:
                connection.sendall(chunk)
                sent += 1
        with suppress(OSError):
            answer = connection.recv(65536)
    siege.check(sent < 200, f"{sent} MiB were taken of a body without end")
    siege.check(b" 200 " not in answer[:20], f"a body without end was answered {answer[:60]!r}")
    siege.figures["of a body without end, MiB sent"] = sent


def slow(siege: Siege) -> None:
    """Heads that come a byte at a time and, for as long as bodies may take, such bodies."""
    count = siege.many(60, 400)
    starts = (
        [b"GET /healthz HTTP/1.1\r\nX-"] if siege.is_short else [b"GET / HTTP/1.1\r\n", SLOW_BODY]
    )
    held: list[socket.socket] = []
    for number in range(count):
        with suppress(OSError):
            connection = siege.connection()
            connection.sendall(starts[number % len(starts)])
            held.append(connection)
    began = time.monotonic()
    alive, most = list(held), siege.many(10, 90)
    while alive and time.monotonic() - began < most:
        alive = [connection for connection in alive if _dribbled(connection)]
        time.sleep(0.5)
    siege.figures["slow clients, all cut off after, s"] = f"{count}, {time.monotonic() - began:.1f}"
    siege.check(not alive, f"{len(alive)} of {count} slow clients are still served after {most} s")
    for connection in held:
        connection.close()


def many_clusters(siege: Siege) -> None:
    """A cluster of its own for each of many events: state by name must have a bound."""
    before = siege.server.anonymous_mib()
    batches = Batches(seed=98, count=1, size=1)
    count = siege.many(300, 10_000)
    connection = http.client.HTTPConnection("127.0.0.1", siege.server.port, timeout=30)
    for number in range(count):
        body = batches.body(number, born_us=time.time_ns() // 1000)
        connection.request("POST", f"/audit/c{number:x}{'x' * 60}", body)
        answer = connection.getresponse()
        answer.read()
        siege.statuses[answer.status] += 1
    connection.close()
    grown = siege.server.anonymous_mib() - before
    siege.figures["clusters made up, MiB grown"] = f"{count:,}, {grown:.0f}"


SLOW_BODY = b"POST /audit/siege HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n{"


def _dribbled(connection: socket.socket) -> bool:
    """Whether one more byte could be sent and nothing came back."""
    try:
        connection.sendall(b"a")
        connection.setblocking(False)
        try:
            return bool(connection.recv(1000)) and False
        except BlockingIOError:
            return True
        finally:
            connection.settimeout(10)
    except OSError:
        return False


def crowd(siege: Siege) -> None:
    """Ten thousand connections that say nothing."""
    wanted = siege.many(2000, 10_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, wanted + 500)), hard))
    held: list[socket.socket] = []
    until = time.monotonic() + 30
    while len(held) < wanted and time.monotonic() < until:
        try:
            held.append(socket.create_connection(("127.0.0.1", siege.server.port), 2.0))
        except OSError:
            break
    opened = len(held)
    began = time.monotonic()
    is_well = siege.server.waited(
        lambda: siege.server.status("/healthz", timeout=2.0) == 200, seconds=20
    )
    siege.figures["connections, answering among them after, s"] = (
        f"{opened:,}, {time.monotonic() - began:.1f}"
    )
    siege.check(is_well, f"no answer for 20 s among {opened} idle connections")
    for connection in held:
        connection.close()
    siege.check(
        siege.server.waited(lambda: siege.server.status("/healthz") == 200, seconds=5),
        "no answer after the crowd had gone",
    )


def logins(siege: Siege) -> None:
    """Keys that are wrong: no log-in, and no telling from the time whether the id exists."""
    command = [barrelman(), "keys", "create", "siege", "--role", "viewer"]
    made = subprocess.run(
        [*command, "--data", str(siege.server.data)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        siege.figures["bad log-ins"] = f"not tried: {made.stderr.strip()[:200]}"
        return
    key = next(iter(_keys_in(made.stdout)), "")
    known = base64.b64decode(key + "==").decode("utf-8", "replace").partition(":")[0]
    seconds: dict[str, list[float]] = {"known": [], "unknown": []}
    connection = http.client.HTTPConnection("127.0.0.1", siege.server.port, timeout=10)
    for number in range(siege.many(600, 6000)):
        kind = ("known", "unknown")[number % 2]
        name = known if kind == "known" else f"{number:x}".rjust(len(known), "0")[: len(known)]
        secret = f"{number:x}".rjust(43, "a")
        token = base64.b64encode(f"{name}:{secret}".encode()).decode()
        began = time.perf_counter()
        connection.request("GET", "/api/v1/runs", headers={"Authorization": f"ApiKey {token}"})
        answer = connection.getresponse()
        answer.read()
        seconds[kind].append(time.perf_counter() - began)
        siege.statuses[answer.status] += 1
        if answer.status not in (401, 429):
            siege.failures.append(f"a wrong key was answered {answer.status}")
            break
    connection.close()
    medians = {kind: statistics.median(values) * 1e6 for kind, values in seconds.items()}
    siege.figures["wrong keys, median µs of a known and an unknown id"] = (
        f"{medians['known']:.0f}, {medians['unknown']:.0f}"
    )
    apart = abs(medians["known"] - medians["unknown"])
    siege.check(apart < max(40.0, 0.05 * medians["unknown"]), f"ids can be told: {medians}")


def _keys_in(text: str) -> Iterator[str]:
    """What looks like an encoded key."""
    for word in text.replace('"', " ").split():
        with suppress(ValueError):
            if len(word) >= 40 and b":" in base64.b64decode(word + "=="):
                yield word


ATTACKS: dict[str, Callable[[Siege], None]] = {
    "fuzz": fuzz,
    "mixed": mixed,
    "tricks": tricks,
    "bombs": bombs,
    "oversize": oversize,
    "clusters": many_clusters,
    "slow": slow,
    "crowd": crowd,
    "logins": logins,  # the last: with a key made, nobody gets in without one
}


def besiege(folder: Path, names: list[str], *, is_short: bool) -> Verdict:
    shutil.rmtree(folder, ignore_errors=True)
    server = Subject(folder, config=CONFIG)
    siege = Siege(server, is_short)
    plan = Plan(
        server.url, "honest", RATE, servers=1, size=100, attack_share=ATTACK_SHARE, retry_scale=0.1
    )
    peaks: dict[str, float] = {}
    with server.start():
        load = Load(plan).start()
        with Probe(server) as probe, Watch(server, every_seconds=0.1) as watch:
            for name in names:
                if name == "logins":
                    _settled(siege, load)
                seen = len(watch.resident_mib)
                _attack(siege, name)
                peaks[name] = max(watch.resident_mib[seen:], default=0.0)
                if not server.is_alive:
                    break
        if server.is_alive:
            _settled(siege, load)
            code = server.stop()
            siege.check(code == 0, f"exit code {code} after SIGTERM")
    siege.figures["peaks, resident MiB"] = ", ".join(
        f"{at} {peak:.0f}" for at, peak in peaks.items()
    )
    return _verdict(siege, load, probe, watch)


def _attack(siege: Siege, name: str) -> None:
    began = time.monotonic()
    try:
        ATTACKS[name](siege)
    except (OSError, http.client.HTTPException, SubjectError) as error:
        siege.failures.append(f"{name}: {type(error).__name__}: {error}")
    sys.stderr.write(f"{name}: {time.monotonic() - began:.1f} s\n")
    siege.check(
        siege.server.is_alive, f"{name}: the server has ended; it said:\n{siege.server.said()}"
    )


def _settled(siege: Siege, load: Load) -> None:
    """The honest client ends, while it may still come in without a key."""
    if load.ended:
        return
    load.stop()
    siege.check(load.drain(timeout_seconds=60), "the honest client is not through after 60 s")
    settle(siege.server, load.ledger)


def _verdict(siege: Siege, load: Load, probe: Probe, watch: Watch) -> Verdict:
    siege.check(not siege.statuses[500], f"{siege.statuses[500]} answers were 500")
    tally = load.tally
    siege.check(not tally.lost + tally.dropped, f"the honest client gave up {tally.lost} batches")
    found = account(siege.server, load.ledger)
    # What was fuzzed may be stored, too, as far as it was events.
    siege.failures += [each for each in found.failures if not each.endswith("never sent")]
    siege.figures |= {
        "answers": dict(sorted(siege.statuses.items())),
        "honest client, answers": dict(tally.answers),
        "honest client, events": found.figures["events acknowledged"],
        "honest client, answer p99, ms": percentile(tally.answer_seconds, 0.99) * 1000,
        "/healthz, asked": len(probe.seconds),
        "/healthz, not answered": probe.unanswered,
    }
    bars = [
        Bar("resident MiB", lambda: [max(watch.resident_mib)], most=500),
        one("/healthz p99, s", percentile(probe.seconds, 0.99), most=1.0),
    ]
    about = "An honest client sends 500 events a second all the while."
    return Verdict("siege", about, siege.figures, bars, siege.failures)


def main() -> int:
    parser = argparse.ArgumentParser(description="Besiege barrelman serve.")
    parser.add_argument("attacks", nargs="*", choices=[*ATTACKS, []], metavar="ATTACK",
                        help=f"{', '.join(ATTACKS)} (default: all)")  # fmt: skip
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--folder", type=Path, help="where data goes, and stays")
    given = parser.parse_args()
    names = [name for name in ATTACKS if name in given.attacks or not given.attacks]
    with tempfile.TemporaryDirectory(prefix="barrelman-") as temporary:
        folder = given.folder or Path(temporary)
        return told([besiege(folder / "siege", names, is_short=given.short)])


if __name__ == "__main__":
    sys.exit(main())
