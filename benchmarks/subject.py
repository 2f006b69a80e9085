"""The server under test: a process of its own, known by its command line, its port and /proc."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

MIB = 1 << 20
READY_SECONDS = 60.0
RULE_ID = "2f0c54d4-9a0f-4a7e-8d3e-6c1f6c6a7b11"
# The question of the shipped rule, asked every minute: the alerts of a load are to be counted, and
# none may fall to a cap.
RULE = f"""\
[rule]
author = ["Barrelman"]
rule_id = "{RULE_ID}"
name = "Pod with host IPC, counted"
description = "Every pod that asks for host IPC."
type = "query"
language = "kuery"
index = ["logs-kubernetes.*"]
interval = "1m"
from = "now-3m"
max_signals = 10000
risk_score = 47
severity = "medium"
query = '''
kubernetes.audit.objectRef.resource:"pods"
and kubernetes.audit.verb:("create" or "update" or "patch")
and kubernetes.audit.requestObject.spec.hostIPC:true
'''
"""
CAP = "rules.cap = 10_000\n"


class SubjectError(Exception):
    """The server did not do what this script needs it to do."""


def barrelman() -> str:
    """The command beside this Python, else the one on the path."""
    beside = Path(sys.executable).with_name("barrelman")
    found = str(beside) if beside.exists() else shutil.which("barrelman")
    if found is None:
        sys.exit("barrelman is not installed beside this Python")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class Subject:
    """`barrelman serve` on one folder and one port, through any number of lives."""

    folder: Path
    """Holds the data, the sink's file and what the server said; made when it is not there."""
    config: str = ""
    """TOML, on top of which comes the cap of all rules."""
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    data: Path = Path()
    """`folder / "data"`, unless it is to lie elsewhere."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.data == Path():
            self.data = self.folder / "data"
        self.port = free_port()
        self.sink = self.folder / "alerts.jsonl"
        self.log = self.folder / "server.log"
        self.settings = self.folder / "config.toml"
        self.process: subprocess.Popen[bytes] | None = None
        rule = self.folder / "rules" / "counted.toml"
        rule.parent.mkdir(exist_ok=True)
        rule.write_text(RULE, "utf-8")
        self.settings.write_text(CAP + self.config, "utf-8")
        self._rules = ["--rules", str(rule)]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        if self.process is None:
            raise SubjectError("the server was not started")
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def command(self) -> list[str]:
        sink = ["--sink", f"file:{self.sink}"]
        where = ["--data", str(self.data), "--listen", f"127.0.0.1:{self.port}"]
        config = ["--config", str(self.settings)]
        return [
            barrelman(),
            "serve",
            "--quiet",
            *config,
            *where,
            *sink,
            *self._rules,
            *self.options,
        ]

    def start(self, *, wait: bool = True, before: Callable[[], None] | None = None) -> Subject:
        """`before` runs in the new process, for limits of it."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=os.environ | dict(self.environment),
                preexec_fn=before,
            )
        if wait:
            self.until_ready()
        return self

    def until_ready(self, *, seconds: float = READY_SECONDS) -> None:
        if not self.waited(lambda: self.status("/readyz") == 200, seconds=seconds):
            how = f"not ready after {seconds:g} s" if self.is_alive else "ended before it was ready"
            raise SubjectError(f"{how}; it said:\n{self.said()}")

    def waited(self, is_so: Callable[[], bool], *, seconds: float, pause: float = 0.02) -> bool:
        """Whether something became so in time; ends early when the server does."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if is_so():
                return True
            if not self.is_alive:
                return False
            time.sleep(pause)
        return is_so()

    def kill(self) -> None:
        """As the kernel does: no goodbye."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self, *, seconds: float = 60.0) -> int:
        """Asks it to end, and its exit code; a server that does not is killed, which raises."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise SubjectError(f"still there {seconds:g} s after SIGTERM") from None

    def __enter__(self) -> Subject:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_alive:
            self.kill()

    # What it says

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        query: Mapping[str, object] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case, and body of one answer on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            target = f"{path}?{urlencode(query)}" if query else path
            connection.request(method, target, body, dict(headers or {}))
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, named, answer.read()
        finally:
            connection.close()

    def status(self, path: str, *, timeout: float = 5.0) -> int:
        """0 where nobody answers."""
        try:
            return self.ask(path, timeout=timeout)[0]
        except (OSError, http.client.HTTPException):
            return 0

    def told(self, path: str, **query: object) -> Any:
        """What a JSON endpoint answers; raises on any status but 200."""
        status, _, body = self.ask(path, timeout=120.0, query=query)
        if status != 200:
            raise SubjectError(f"{path} answered {status}: {body[:300]!r}")
        return json.loads(body)

    def said(self, *, tail_bytes: int = 3000) -> str:
        return self.log.read_bytes()[-tail_bytes:].decode("utf-8", "replace")

    # What it takes

    def resident_mib(self) -> float:
        """Resident memory of the process and its descendants, pages of files included."""
        return sum(_status_kib(pid, "VmRSS") for pid in family(self.pid)) / 1024

    def anonymous_mib(self) -> float:
        return sum(_status_kib(pid, "RssAnon") for pid in family(self.pid)) / 1024

    def cpu_seconds(self) -> float:
        """User and system time so far, of all threads and ended children."""
        ticks = 0
        for pid in family(self.pid):
            with contextlib.suppress(OSError):
                after_name = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
                ticks += sum(map(int, after_name[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def alerts(self) -> list[dict[str, Any]]:
        """Whole lines of the sink's file; a torn one raises."""
        if not self.sink.exists():
            return []
        text = self.sink.read_bytes()
        lines = text.split(b"\n")
        if lines.pop():
            raise SubjectError(f"the sink's last line is torn: {text[-120:]!r}")
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise SubjectError(f"a line of the sink is not JSON: {error}") from None


def family(pid: int) -> list[int]:
    """A process and its descendants, as far as they can be read."""
    found, pending = [], [pid]
    while pending:
        found.append(one := pending.pop())
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                pending += map(int, (task / "children").read_text("ascii").split())
    return found


def _status_kib(pid: int, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return 0


class Watch:
    """Samples a server's memory and CPU in a thread until it is stopped."""

    def __init__(self, subject: Subject, *, every_seconds: float = 1.0) -> None:
        self._subject = subject
        self._every = every_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.resident_mib: list[float] = []
        self.anonymous_mib: list[float] = []
        self.cpu_share: list[float] = []
        """Of one core, in each pause between two looks."""

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        cpu, at = self._subject.cpu_seconds(), time.monotonic()
        while not self._over.wait(self._every):
            before, since = cpu, at
            cpu, at = self._subject.cpu_seconds(), time.monotonic()
            self.cpu_share.append((cpu - before) / (at - since))
            self.resident_mib.append(self._subject.resident_mib())
            self.anonymous_mib.append(self._subject.anonymous_mib())


def audit_id(alert: Mapping[str, Any]) -> str:
    """The ID of the event that an alert is about."""
    return str(alert["kubernetes"]["audit"]["auditID"])


def alerts_of(alerts: Sequence[Mapping[str, Any]], rule_id: str = RULE_ID) -> Iterator[str]:
    """The audit IDs that a rule's alerts name."""
    for alert in alerts:
        if alert["kibana.alert.rule.rule_id"] == rule_id:
            yield audit_id(alert)
