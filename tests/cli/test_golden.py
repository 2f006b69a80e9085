"""The golden corpus: the sample log's alerts, byte for byte, however the log comes and is read.

A change of what alerts hold changes `golden/alerts.jsonl`; what changes it and was not meant to is
a mistake. Written anew by: python tests/cli/golden_scan.py 1 1000000 sieve examples/rules
examples/audit.log > tests/cli/golden/alerts.jsonl
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

ROOT = Path(__file__).parents[2]
LOG = (ROOT / "examples" / "audit.log").read_bytes()
ALERTS = (Path(__file__).parent / "golden" / "alerts.jsonl").read_bytes()
EVENTS = [json.loads(line) for line in LOG.splitlines()]


def spelled(separators: tuple[str, str], *, head: bool) -> bytes:
    """Each event on a line, its keys in another order but for those an API server begins with."""
    lines = []
    for event in EVENTS:
        ordered = {"kind": event["kind"], "apiVersion": event["apiVersion"]} if head else {}
        ordered |= dict(reversed(event.items()))
        lines.append(json.dumps(ordered, separators=separators))
    return "\n".join(lines).encode()


def wrapped(event: object) -> str:
    """An AKS diagnostic record's way to carry an event, without what would show in an alert."""
    return json.dumps({"log": json.dumps(event) + "\n", "stream": "stdout", "time": "x"})


ENCODINGS: dict[str, Callable[[], bytes]] = {
    "plain": lambda: LOG,
    "gzip": lambda: gzip.compress(LOG[:99_999]) + gzip.compress(LOG[99_999:]),
    "zstd": lambda: zstandard.compress(LOG),
    "bzip2": lambda: bz2.compress(LOG),
    "xz": lambda: lzma.compress(LOG),
    "crlf": lambda: b"\xef\xbb\xbf" + LOG.replace(b"\n", b"\r\n"),
    "list": lambda: json.dumps({"kind": "EventList", "items": EVENTS}).encode(),
    "pretty": lambda: "\n".join(json.dumps(event, indent=2) for event in EVENTS).encode(),
    "array": lambda: json.dumps(EVENTS, indent=1).encode(),
    "docker": lambda: "\n".join(map(wrapped, EVENTS)).encode(),
}


# An alert keeps its event's order.
REORDERED: dict[str, Callable[[], bytes]] = {
    "reordered": lambda: spelled((",", ":"), head=True),
    "spaced": lambda: spelled((" , ", " : "), head=False),
}


def alerts_of(jobs: int, part_bytes: int, sieve: str, *logs: Path) -> bytes:
    command = [sys.executable, str(Path(__file__).parent / "golden_scan.py")]
    command += [str(jobs), str(part_bytes), sieve, str(ROOT / "examples" / "rules")]
    done = subprocess.run([*command, *map(str, logs)], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("jobs", [1, 2, 3])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_golden_alerts(tmp_path: Path, encoding: str, jobs: int) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(ENCODINGS[encoding]())
    assert alerts_of(jobs, 30_000, "sieve", log) == ALERTS
    if jobs == 1:
        assert alerts_of(jobs, 30_000, "no-sieve", log) == ALERTS


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("encoding", REORDERED)
def test_the_golden_alerts_of_other_orders(tmp_path: Path, encoding: str, jobs: int) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(REORDERED[encoding]())
    found = alerts_of(jobs, 30_000, "sieve", log).splitlines()
    assert list(map(json.loads, found)) == list(map(json.loads, ALERTS.splitlines()))


@pytest.mark.parametrize("part_bytes", [2_000, 7_777, 200_000])
def test_wherever_it_is_cut(tmp_path: Path, part_bytes: int) -> None:
    whole, half = tmp_path / "a.log", LOG.index(b"\n", len(LOG) // 2) + 1
    whole.write_bytes(LOG)
    first, second = tmp_path / "b.log", tmp_path / "c.log.gz"
    first.write_bytes(LOG[:half])
    second.write_bytes(gzip.compress(LOG[half:]))
    assert alerts_of(2, part_bytes, "sieve", whole) == ALERTS
    assert alerts_of(3, part_bytes, "no-sieve", first, second) == ALERTS
