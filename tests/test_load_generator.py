"""The load generator speaks as kube-apiserver does, and its ledger is right."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


class Receiver(ThreadingHTTPServer):
    """Answers as it was told to, then 200; keeps what was acknowledged."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[tuple[int, dict[str, str]]] = []
        """Status and headers of the first answers; status 0 breaks off without one."""
        self.lock = threading.Lock()
        self.paths: set[str] = set()
        self.tries: Counter[str] = Counter()
        """By the first audit ID of a batch."""
        self.acknowledged: list[list[dict[str, Any]]] = []
        self.bodies: dict[str, set[bytes]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        told = json.loads(body)
        assert (told["kind"], told["apiVersion"]) == ("EventList", "audit.k8s.io/v1")
        first = told["items"][0]["auditID"]
        with self.server.lock:
            self.server.paths.add(self.path)
            self.server.tries[first] += 1
            self.server.bodies.setdefault(first, set()).add(body)
            status, headers = self.server.script.pop(0) if self.server.script else (200, {})
            if status == 200:
                self.server.acknowledged.append(told["items"])
        if not status:
            self.close_connection = True
            return
        answer = json.dumps({"events": len(told["items"]), "stored": len(told["items"])}).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def load(receiver: Receiver, *options: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / "load.py"), receiver.url, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def calm(*options: str) -> tuple[str, ...]:
    """As fast as answered, small batches, none of them late or twice."""
    return ("--rate", "0", "--size", "20", "--late-share", "0", "--twice-share", "0", *options)


def test_events_are_as_in_a_list_and_each_is_another(receiver: Receiver) -> None:
    told = load(receiver, *calm("--batches", "12", "--cluster", "blue"))
    assert receiver.paths == {"/audit/blue?timeout=30s"}
    events = [event for items in receiver.acknowledged for event in items]
    assert told["acknowledged_events"] == len(events) == 240
    assert len({event["auditID"] for event in events}) == 240
    assert not any("kind" in event or "apiVersion" in event for event in events)
    for items in receiver.acknowledged:
        stages = [event["stageTimestamp"] for event in items]
        assert stages == sorted(stages)
        assert all(event["requestReceivedTimestamp"] < event["stageTimestamp"] for event in items)
    assert any(b"\\u0026" in body for bodies in receiver.bodies.values() for body in bodies)


def test_an_event_is_1400_bytes_on_the_mean() -> None:
    code = "from bodies import Batches; print(Batches().mean_event_bytes)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=True
    )
    assert 1350 < float(done.stdout) < 1450


def test_refusals_and_breaks_are_followed_by_the_same_bytes(receiver: Receiver) -> None:
    receiver.script = [(500, {}), (400, {}), (0, {}), (503, {})]
    told = load(receiver, *calm("--batches", "3", "--servers", "1", "--retry-scale", "0.001"))
    assert told["acknowledged_batches"] == 3
    assert told["lost_batches"] == 0
    assert receiver.tries.total() == 7
    assert all(len(bodies) == 1 for bodies in receiver.bodies.values())
    assert {status: told["answers"][status] for status in ("200", "400", "500", "503")} == {
        "200": 3, "400": 1, "500": 1, "503": 1,
    }  # fmt: skip


def test_five_attempts_and_the_batch_is_lost(receiver: Receiver, tmp_path: Path) -> None:
    receiver.script = [(500, {})] * 5
    ledger = tmp_path / "ledger.json"
    options = ("--servers", "1", "--connections", "1", "--retry-scale", "0.0001")
    told = load(receiver, *calm("--batches", "1", "--ledger", str(ledger)), *options)
    assert told["lost_batches"] == 1
    assert receiver.tries.most_common() == [(next(iter(receiver.tries)), 5)]
    assert json.loads(ledger.read_text())["acknowledged"] == []
    assert json.loads(ledger.read_text())["sent"] == [0]


def test_retry_after_is_obeyed_and_is_no_attempt(receiver: Receiver) -> None:
    wait = {"Retry-After": "0"}
    receiver.script = [(503, wait), (429, wait)] * 5 + [(500, wait)]
    # Ten waits are free; an eleventh is an attempt, which this scale would make endless.
    receiver.script.pop()
    options = ("--servers", "1", "--connections", "1", "--retry-scale", "1000")
    told = load(receiver, *calm("--batches", "1"), *options)
    assert told["answers"] == {"503": 5, "429": 5, "200": 1}
    receiver.script = [(503, {"Retry-After": "1"})]
    assert load(receiver, *calm("--batches", "1", "--seed", "2"))["seconds"] >= 1.0


def test_some_go_out_twice_with_the_same_bytes(receiver: Receiver) -> None:
    told = load(
        receiver, "--rate", "0", "--size", "20", "--late-share", "0", "--twice-share", "0.5",
        "--batches", "20",
    )  # fmt: skip
    assert 1 < told["sent_twice"] < 20
    assert told["acknowledged_batches"] == 20
    assert receiver.tries.total() == 20 + told["sent_twice"]
    assert all(len(bodies) == 1 for bodies in receiver.bodies.values())


def test_late_batches_are_overtaken_and_the_rate_is_kept(receiver: Receiver) -> None:
    options = ("--size", "20", "--rate", "1000", "--seconds", "2", "--late-share", "0.2")
    told = load(receiver, *options, "--twice-share", "0")
    assert told["acknowledged_batches"] == pytest.approx(100, abs=2)
    born = [items[-1]["stageTimestamp"] for items in receiver.acknowledged]
    assert born != sorted(born)


def test_the_ledger_gives_every_id_and_names_the_attacks(
    receiver: Receiver, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger.json"
    share = ("--attack-share", "0.05", "--seed", "5")
    told = load(receiver, *calm("--batches", "9", "--ledger", str(ledger)), *share)
    code = f"""
import json
from bodies import Batches
from load import Ledger
kept = json.load(open({str(ledger)!r}))
ledger = Ledger(Batches(seed=kept["seed"], size=kept["size"], attack_share=0.05))
ledger.acknowledged = dict.fromkeys(kept["acknowledged"], 0.0)
print(json.dumps([list(ledger.acknowledged_ids()), list(ledger.attacks())]))
print(ledger.events_of("oidc:ada@example.com"))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    ids, attacks = json.loads(lines[0])
    events = [event for items in receiver.acknowledged for event in items]
    assert set(ids) == {event["auditID"] for event in events}
    wanted = {
        event["auditID"]
        for event in events
        if event.get("requestObject", {}).get("spec", {}).get("hostIPC") is True
        and event["objectRef"]["resource"] == "pods"
    }
    assert set(attacks) == wanted
    assert told["attacks"] == len(wanted) == 9
    users = Counter(event["user"]["username"] for event in events)
    assert int(lines[1]) == users["oidc:ada@example.com"]
