"""The benchmark's log is deterministic and looks like an audit log."""

import gzip
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


def parsed(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in generate(*arguments)[0].splitlines()]


def resource(event: dict[str, Any]) -> str:
    return str(event.get("objectRef", {}).get("resource"))


def is_host_ipc(event: dict[str, Any]) -> bool:
    spec = event.get("requestObject", {}).get("spec", {})
    return resource(event) == "pods" and spec.get("hostIPC") is True


def is_kubelet(event: dict[str, Any]) -> bool:
    return str(event["user"]["username"]).startswith("system:node:")


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
    assert 1000 < len(data) / len(events) < 2500


def test_what_rules_look_for_is_rare_and_what_they_exclude_is_common() -> None:
    events = parsed("--events", "8000", "--match-share", "0")
    secrets = [event for event in events if resource(event) == "secrets"]
    assert 0.15 < len(secrets) / len(events) < 0.25
    assert sum(map(is_kubelet, secrets)) > len(secrets) / 2
    roles = sum(resource(event).endswith("rolebindings") for event in events)
    streams = sum(event.get("objectRef", {}).get("subresource") == "exec" for event in events)
    strangers = sum(event["user"]["username"] == "system:anonymous" for event in events)
    plain = sum(event["userAgent"].startswith(("curl", "python-requests")) for event in events)
    for count in (roles, streams, strangers, plain):
        assert 0 < count < len(events) / 100


def test_the_rare_can_be_left_out_and_made_common() -> None:
    none = parsed("--events", "2000", "--rare-share", "0")
    assert all("objectRef" in event and "subresource" not in event["objectRef"] for event in none)
    every = parsed("--events", "2000", "--rare-share", "1", "--match-share", "0")
    assert any("impersonatedUser" in event for event in every)
    assert any("objectRef" not in event for event in every)
    # What matches comes out of the same draw, and keeps its share.
    assert sum(map(is_host_ipc, parsed("--events", "500", "--rare-share", "1"))) < 10


def test_every_line_can_match() -> None:
    events = parsed("--events", "300", "--profile", "every-line")
    assert all(map(is_host_ipc, events))
    assert {event["verb"] for event in events} == {"create"}


def test_every_event_can_be_without_bodies() -> None:
    data, told = generate("--events", "2000", "--profile", "metadata", "--match-share", "0.1")
    events = [json.loads(line) for line in data.splitlines()]
    assert {event["level"] for event in events} == {"Metadata"}
    assert not any("requestObject" in event or "responseObject" in event for event in events)
    assert " 0 pods" in told


def test_compressed_it_holds_the_same_lines(tmp_path: Path) -> None:
    plain, told = generate("--events", "500")
    packed, told_of_packed = generate("--events", "500", "--gzip")
    assert gzip.decompress(packed) == plain
    assert told_of_packed == told
    log = tmp_path / "small.log.gz"
    subprocess.run(
        [sys.executable, str(GENERATE), str(log), "--events", "500", "--gzip"],
        capture_output=True,
        check=True,
    )
    assert log.read_bytes() == packed


def test_size_in_mib_is_reached_and_hardly_passed(tmp_path: Path) -> None:
    log = tmp_path / "new folder" / "small.log"
    subprocess.run(
        [sys.executable, str(GENERATE), str(log), "--mib", "2"], capture_output=True, check=True
    )
    assert 2 << 20 <= log.stat().st_size < 5 << 20
    assert log.read_bytes().endswith(b"}\n")
    assert list(log.parent.iterdir()) == [log]
