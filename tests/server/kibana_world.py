"""A whole service behind its app, for tests that ask it as a client of Kibana's API does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from barrelman.detection.rows import describe
from barrelman.records.times import format_instant
from barrelman.server.app import Limits, build_app
from barrelman.server.authentication import Access
from barrelman.service.clock import Clock
from barrelman.service.courier import Courier
from barrelman.service.rulesync import FileRules
from barrelman.service.service import Service
from barrelman.store import alerts, keys
from barrelman.store.alerts import NewAlert
from barrelman.store.database import Database
from barrelman.store.events import EventStore
from barrelman.store.folder import DataFolder

NOW_US = 1_795_000_000_000_000
NOW = format_instant(NOW_US // 1000)


class Watch:
    """The wall's clock, set by the test."""

    def __init__(self) -> None:
        self.now_us = NOW_US

    def __call__(self) -> int:
        return self.now_us


class Asker:
    """Asks an app from this machine, without a socket."""

    def __init__(self, app: Any, *, shown: str) -> None:
        self._runner = asyncio.Runner()
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, client=("127.0.0.1", 5000)),
            base_url="http://localhost",
            headers={"authorization": shown},
        )

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **options))

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()


class World:
    """A service, and askers with keys of each role."""

    def __init__(self, folder: Path, *, files: FileRules | None = None) -> None:
        self.watch = Watch()
        owned = DataFolder.open(folder / "data")
        database = Database.open(owned.database, now_us=NOW_US)
        clock = Clock(self.watch)
        events = EventStore.open(owned, clock=clock.now_us, describe=describe)
        self.service = Service(
            owned,
            database,
            events,
            Courier(database, (), clock=clock.now_us),
            clock=clock,
            read_files=lambda: files or FileRules(),
        )
        self.service.rulebook.sync()
        self._access = access = Access(lambda: database.read(keys.load), now_us=clock.now_us)
        self.app = build_app(
            self.service, access=access, limits=Limits(requests_per_second=100_000)
        )
        self._askers: list[Asker] = []

    def asker(self, role: Any = "admin", *, clusters: frozenset[str] | None = None) -> Client:
        name = f"{role}-{len(self._askers)}"
        made = self.service.database.write(
            lambda c: keys.create(
                c, name=name, role=role, clusters=clusters, now_us=NOW_US, by="test"
            )
        )
        self._access.forget()
        asker = Asker(self.app, shown=f"ApiKey {made.encoded}")
        self._askers.append(asker)
        return Client(asker, name)

    def raise_alerts(self, *made: NewAlert) -> None:
        self.service.database.write(lambda c: alerts.add(c, made))

    def close(self) -> None:
        for asker in self._askers:
            asker.close()
        self.service.events.close()
        self.service.database.close()
        self.service.folder.close()


class Client:
    """Asks with the headers that Kibana's clients send; answers are decoded."""

    def __init__(self, asker: Asker, name: str) -> None:
        self.asker = asker
        self.name = name

    def raw(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        headers = {"kbn-xsrf": "true", **options.pop("headers", {})}
        if body is not None:
            options["content"] = json.dumps(body)
            headers.setdefault("content-type", "application/json")
        return self.asker.ask(method, path, headers=headers, **options)

    def ask(self, method: str, path: str, body: Any = None, *, status: int = 200, **o: Any) -> Any:
        answer = self.raw(method, path, body, **o)
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, path: str, *, status: int = 200, **params: Any) -> Any:
        return self.ask("GET", path, status=status, params=params)

    def post(self, path: str, body: Any = None, *, status: int = 200, **params: Any) -> Any:
        return self.ask("POST", path, body, status=status, params=params)

    def put(self, path: str, body: Any = None, *, status: int = 200) -> Any:
        return self.ask("PUT", path, body, status=status)

    def patch(self, path: str, body: Any = None, *, status: int = 200) -> Any:
        return self.ask("PATCH", path, body, status=status)

    def delete(self, path: str, *, status: int = 200, **params: Any) -> Any:
        return self.ask("DELETE", path, status=status, params=params)

    def upload(self, path: str, content: bytes, *, name: str = "a.ndjson", **params: Any) -> Any:
        boundary = "----JustAnotherBoundary"
        body = (
            (
                f"--{boundary}\r\n"
                f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n'
                "Content-Type: application/x-ndjson\r\n\r\n"
            ).encode()
            + content
            + f"\r\n--{boundary}--\r\n".encode()
        )
        kind = f"multipart/form-data; boundary={boundary}"
        answer = self.asker.ask(
            "POST",
            path,
            content=body,
            params=params,
            headers={"kbn-xsrf": "true", "content-type": kind},
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def lines(self, method: str, path: str, body: Any = None, **params: Any) -> list[Any]:
        answer = self.raw(method, path, body, params=params)
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]


@contextmanager
def world(folder: Path, *, files: FileRules | None = None) -> Iterator[World]:
    made = World(folder, files=files)
    try:
        yield made
    finally:
        made.close()


def rule(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Props of a rule; None takes a field away."""
    made = {
        "rule_id": f"11111111-0000-4000-8000-{number:012d}",
        "type": "query",
        "language": "kuery",
        "name": f"Rule {number}",
        "description": "Something to be told of.",
        "risk_score": 47,
        "severity": "medium",
        "index": ["logs-kubernetes.*"],
        "query": "user.name: eve",
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def ndjson(*values: Any) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def alert(number: int, *, seconds: int = 0, **changes: Any) -> NewAlert:
    """An alert that was raised `seconds` after the present; `changes` go into its document."""
    created_us = NOW_US + seconds * 1_000_000
    document: dict[str, Any] = {
        "@timestamp": format_instant(created_us // 1000),
        "event": {"kind": "signal", "action": "create"},
        "user": {"name": "eve"},
        "orchestrator": {"cluster": {"name": changes.pop("cluster", "prod")}},
        "kibana.alert.uuid": f"alert-{number}",
        "kibana.alert.status": "active",
        "kibana.alert.severity": "medium",
        "kibana.alert.risk_score": 47,
        "kibana.alert.rule.uuid": "rule-uuid",
        "kibana.alert.rule.rule_id": "rule-1",
        "kibana.alert.rule.name": "Rule 1",
        "kibana.alert.original_time": format_instant(created_us // 1000 - 60_000),
        **changes,
    }
    return NewAlert(
        id=f"alert-{number}",
        kind="live",
        rule_uuid=document["kibana.alert.rule.uuid"],
        rule_id=document["kibana.alert.rule.rule_id"],
        rule_name=document["kibana.alert.rule.name"],
        severity=document["kibana.alert.severity"],
        risk_score=document["kibana.alert.risk_score"],
        cluster=document["orchestrator"]["cluster"]["name"],
        tick_ms=created_us // 1000,
        created_us=created_us,
        event_time_us=None,
        building_block=False,
        document=json.dumps(document),
    )
