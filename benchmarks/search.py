"""Times searches over ten million stored events.

    python benchmarks/search.py --folder /var/tmp/searched
    python benchmarks/search.py --folder /var/tmp/searched --keep --events 10e6   # made only once

The events are sent to a server as fast as it answers, or, with `--through ingest`, given to
`barrelman ingest` as JSON lines. Searched over HTTP, on a connection that is already open: how many
events are of one user, and their first hundred raw, for a busy user and for a rare one. Counts must
be exact.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bodies import BATCH_EVENTS, Batches
from load import Ledger, Load, Plan, rates
from measure import Bar
from subject import Subject, SubjectError, barrelman
from verdict import Verdict, told

USERS = ("oidc:ada@example.com", "system:serviceaccount:velero:velero")
"""Three events of a hundred, all over the store; and one of sixteen thousand, each far from the
next."""
HITS = 100
# Ten minutes of an API server at its limit.
SPAN_US = 600_000_000


class Asked:
    """One open connection, and how long each answer took."""

    def __init__(self, server: Subject) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
        self._connection.request("GET", "/healthz")
        self._connection.getresponse().read()

    def timed(self, path: str, **query: object) -> tuple[float, Any]:
        began = time.perf_counter()
        self._connection.request("GET", f"{path}?{urlencode(query)}")
        answer = self._connection.getresponse()
        body = answer.read()
        seconds = time.perf_counter() - began
        if answer.status != 200:
            raise SubjectError(f"{path} answered {answer.status}: {body[:300]!r}")
        return seconds, json.loads(body)


def fill(server: Subject, *, events: int) -> Load:
    """Sends the events and waits for all answers."""
    batches = math.ceil(events / BATCH_EVENTS)
    plan = Plan(server.url, rate=0.0, batches=batches, twice_share=0.0, late_share=0.0)
    load = Load(plan).start()
    load.drain()
    return load


def ingest(server: Subject, *, events: int) -> dict[str, int]:
    """Gives the events to `barrelman ingest` through a pipe; how many are each user's."""
    batches = Batches()
    count = math.ceil(events / batches.size)
    began_us = time.time_ns() // 1000 - SPAN_US
    command = [barrelman(), "ingest", "-", "--data", str(server.data), "--cluster", "load"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        assert child.stdin is not None
        for number in range(count):
            body = batches.body(number, born_us=began_us + number * SPAN_US // count)
            child.stdin.write(body)
        child.stdin.close()
        if code := child.wait():
            raise SubjectError(f"barrelman ingest ended with {code}")
    ledger = Ledger(batches)
    ledger.acknowledged = dict.fromkeys(range(count), 0.0)
    return {user: ledger.events_of(user) for user in USERS}


def main() -> int:
    parser = argparse.ArgumentParser(description="Time searches over stored events.")
    parser.add_argument("--events", type=float, default=10e6)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where data goes (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="search what a run before has stored")
    parser.add_argument("--through", choices=("http", "ingest"), default="http")
    parser.add_argument("--config", type=Path, help="TOML for the server")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="barrelman-") as temporary:
        folder = given.folder or Path(temporary)
        known = folder / "known.json"
        if not (given.keep and known.exists()):
            shutil.rmtree(folder / "search", ignore_errors=True)
            known.unlink(missing_ok=True)
        config = given.config.read_text("utf-8") if given.config else ""
        with Subject(folder / "search", config=config).start() as server:
            if not known.exists():
                _make(server, known, events=int(given.events), through=given.through)
            verdict = searched(server, json.loads(known.read_text("utf-8")), rounds=given.rounds)
            server.stop()
    return told([verdict])


def _make(server: Subject, known: Path, *, events: int, through: str) -> None:
    began = time.monotonic()
    if through == "ingest":
        of_user = ingest(server, events=events)
        stored = math.ceil(events / BATCH_EVENTS) * BATCH_EVENTS
    else:
        load = fill(server, events=events)
        of_user = {user: load.ledger.events_of(user) for user in USERS}
        stored = load.acknowledged_events
        sys.stderr.write(f"{min(rates(load)):,.0f} to {max(rates(load)):,.0f} events a second\n")
    seconds = time.monotonic() - began
    known.write_text(json.dumps({"events": stored, "of_user": of_user, "seconds": seconds}))


def searched(server: Subject, known: dict[str, Any], *, rounds: int) -> Verdict:
    asked = Asked(server)
    bars: list[Bar] = []
    failures: list[str] = []
    first: dict[str, object] = {}
    for user in USERS:
        counts, pages = _of_user(asked, user, known["of_user"][user], failures, rounds=rounds)
        kind = f"`{user}`, {known['of_user'][user]:,} events"
        first |= {f"{kind}: the first time, s": f"{counts[0]:.2f}, {pages[0]:.2f}"}
        bars += [
            Bar(f"{kind}: count, s", partial(list, counts[1:]), most=0.3),
            Bar(f"{kind}: first {HITS} raw, s", partial(list, pages[1:]), most=1.0),
        ]
    stored_bytes = sum(each.stat().st_size for each in server.data.rglob("*") if each.is_file())
    figures = {
        "events": known["events"],
        "stored in, s": float(known["seconds"]),
        "on disk, MiB": stored_bytes / (1 << 20),
        **first,
        "resident MiB afterwards": server.resident_mib(),
    }
    about = f'`user.name: "…"` over HTTP, {rounds} times after a first one.'
    return Verdict("search", about, figures, bars, sorted(set(failures)))


def _of_user(
    asked: Asked, user: str, there: int, failures: list[str], *, rounds: int
) -> tuple[list[float], list[float]]:
    """How long counts and pages took; the first of each with everything cold."""
    query = f'user.name: "{user}"'
    counts, pages = [], []
    for _ in range(rounds + 1):
        seconds, count = asked.timed("/api/v1/events/count", query=query)
        counts.append(seconds)
        seconds, page = asked.timed("/api/v1/events", query=query, limit=HITS)
        pages.append(seconds)
        if count["count"] != there:
            failures.append(f"{count['count']} events of {user} counted, {there} are there")
        if len(page["events"]) != min(HITS, there):
            failures.append(f"{len(page['events'])} events of {user} came, not {HITS}")
    return counts, pages


if __name__ == "__main__":
    sys.exit(main())
