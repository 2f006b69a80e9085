"""Times whole processes against each other over one log, in turn.

    python benchmarks/compare.py benchmarks/data/256m.log --rounds 5

Every contender answers a question about host IPC from the same file: `barrelman scan` with the
shipped rules, `grep` for the literal, and the shortest orjson loop that looks at every event.
Rounds alternate between contenders, so a slow minute of the machine falls on all of them.
Start-up is part of the time; the first round, which warms the page cache, is not counted.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20
ORJSON_LOOP = """
import sys, orjson
count = 0
with open(sys.argv[1], "rb", buffering=1 << 20) as lines:
    for line in lines:
        event = orjson.loads(line)
        is_pod = event.get("objectRef", {}).get("resource") == "pods"
        if is_pod and event["verb"] in ("create", "update", "patch"):
            body = event.get("requestObject")
            if isinstance(body, dict) and body.get("spec", {}).get("hostIPC") is True:
                count += 1
print(count)
"""


@dataclass
class Contender:
    name: str
    command: list[str]
    good_codes: tuple[int, ...] = (0,)
    wall_seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_mib: float = 0.0

    def run(self, *, counted: bool) -> None:
        environment = os.environ | {"LC_ALL": "C"}
        # A file, not /dev/null: grep stops at its first match when nobody can read the count.
        with tempfile.TemporaryFile() as out:
            began = time.perf_counter()
            child = subprocess.Popen(
                self.command, env=environment, stdout=out, stderr=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(child.pid, 0)
            wall_seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode not in self.good_codes:
            sys.exit(f"{self.name}: exit code {child.returncode}: {' '.join(self.command)[:200]}")
        if counted:
            self.wall_seconds.append(wall_seconds)
            self.cpu_seconds.append(usage.ru_utime + usage.ru_stime)
            kib = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
            self.peak_mib = max(self.peak_mib, kib / 1024)


def contenders(log: Path, *, rules: Path | None) -> list[Contender]:
    beside = Path(sys.executable).with_name("barrelman")
    barrelman = str(beside) if beside.exists() else shutil.which("barrelman")
    if barrelman is None:
        sys.exit("barrelman is not installed beside this Python; run `make bench`")
    scan = [barrelman, "scan", str(log), "--format", "jsonl", "--no-progress"]
    if rules is not None:
        scan += ["--rules", str(rules)]
    return [
        Contender("barrelman scan", scan, good_codes=(0, 1)),
        Contender("grep -c", ["grep", "-c", '"hostIPC":true', str(log)], good_codes=(0, 1)),
        Contender("orjson loop", [sys.executable, "-c", ORJSON_LOOP, str(log)]),
    ]


def count_lines(log: Path) -> int:
    with log.open("rb") as data:
        return sum(block.count(b"\n") for block in iter(lambda: data.read(MIB), b""))


def report(found: list[Contender], *, log: Path) -> str:
    """A Markdown table; the first contender is the measure of the others."""
    size_bytes, events = log.stat().st_size, count_lines(log)
    first = statistics.median(found[0].wall_seconds)
    about = (
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}; {log.name}: {size_bytes / MIB:.0f} MiB, "
        f"{events:,} events; medians of {len(found[0].wall_seconds)} rounds"
    )
    rows = [
        about,
        "",
        "| process | seconds | MB/s | events/s | CPU s | peak MiB | time against scan |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for one in found:
        wall = statistics.median(one.wall_seconds)
        rows.append(
            f"| {one.name} | {wall:.3f} | {size_bytes / wall / 1e6:,.0f} | {events / wall:,.0f} "
            f"| {statistics.median(one.cpu_seconds):.2f} | {one.peak_mib:.0f} "
            f"| {wall / first:.2f} |"
        )
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time barrelman scan against plain readers.")
    parser.add_argument("log", type=Path, help="an audit log; generate.py writes one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rules", type=Path, help="more rules for barrelman to run")
    options = parser.parse_args()
    found = contenders(options.log, rules=options.rules)
    for number in range(options.rounds + 1):
        for one in found:
            one.run(counted=number > 0)
        sys.stderr.write(f"round {number} of {options.rounds}\n")
    sys.stdout.write(report(found, log=options.log))


if __name__ == "__main__":
    main()
