"""The benchmark's log is deterministic and looks like an audit log."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

GENERATE = Path(__file__).parents[1] / "benchmarks" / "generate.py"


def generate(*arguments: str) -> tuple[bytes, str]:
    done = subprocess.run(
        [sys.executable, str(GENERATE), "-", *arguments], capture_output=True, check=True
    )
    return done.stdout, done.stderr.decode()


def is_host_ipc(event: dict[str, Any]) -> bool:
    spec = event.get("requestObject", {}).get("spec", {})
    return event["objectRef"]["resource"] == "pods" and spec.get("hostIPC") is True


def test_same_seed_same_bytes() -> None:
    assert generate("--events", "600", "--seed", "4") == generate("--events", "600", "--seed", "4")
    assert generate("--events", "60", "--seed", "4") != generate("--events", "60", "--seed", "5")


def test_shape_of_the_log() -> None:
    data, told = generate("--events", "4000", "--match-share", "0.01")
    events = [json.loads(line) for line in data.splitlines()]
    assert len(events) == len({event["auditID"] for event in events}) == 4000
    verbs = Counter(event["verb"] for event in events)
    assert 0.70 < verbs["get"] / len(events) < 0.78
    assert set(verbs) == {"get", "update", "list", "create", "watch", "delete", "patch"}
    received = [event["requestReceivedTimestamp"] for event in events]
    assert received == sorted(received)
    matches = sum(map(is_host_ipc, events))
    assert matches > 10
    assert told.startswith(f"4000 events, {len(data) / (1 << 20):.1f} MiB, {matches} pods")


def test_size_in_mib_is_reached_and_hardly_passed(tmp_path: Path) -> None:
    log = tmp_path / "new folder" / "small.log"
    subprocess.run(
        [sys.executable, str(GENERATE), str(log), "--mib", "2"], capture_output=True, check=True
    )
    assert 2 << 20 <= log.stat().st_size < 5 << 20
    assert log.read_bytes().endswith(b"}\n")
    assert list(log.parent.iterdir()) == [log]
