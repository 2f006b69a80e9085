"""A service behind its app, for tests that speak HTTP without a socket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from barrelman.server.app import Limits, build_app
from barrelman.server.authentication import Access
from barrelman.service.service import Service
from barrelman.settings.config import Config, StoreConfig
from barrelman.settings.serve import open_service
from barrelman.store import keys
from barrelman.store.keys import MadeKey


class Asker:
    """Asks an app as one caller does, from one address."""

    def __init__(
        self,
        app: Any,
        runner: asyncio.Runner,
        *,
        address: str = "127.0.0.1",
        host: str = "localhost",
        shown: str | None = None,
    ) -> None:
        self._runner = runner
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, client=(address, 5000)),
            base_url=f"http://{host}",
            headers={"authorization": shown} if shown else {},
        )

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.ask("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.ask("POST", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.ask("DELETE", path, **options)


class Served:
    """A running service and its app."""

    def __init__(self, service: Service, runner: asyncio.Runner, **options: Any) -> None:
        self.service = service
        self.runner = runner
        limits = options.pop("limits", Limits())
        self.access = Access(
            lambda: service.database.read(keys.load), now_us=service.clock.now_us, **options
        )
        self.app = build_app(service, access=self.access, limits=limits)

    def asker(self, **options: Any) -> Asker:
        return Asker(self.app, self.runner, **options)

    def key(self, role: str, *, name: str | None = None, **options: Any) -> MadeKey:
        made = self.service.database.write(
            lambda c: keys.create(
                c,
                name=name or f"a {role}",
                role=role,
                now_us=self.service.clock.now_us(),
                by="test",
                **options,
            )
        )
        self.access.forget()
        return made

    def asker_with(self, role: str, **options: Any) -> Asker:
        """With a new key of that role."""
        return self.asker(shown=f"ApiKey {self.key(role, **options).encoded}")


@contextmanager
def serving(folder: Path, **options: Any) -> Iterator[Served]:
    service = open_service(Config(store=StoreConfig(data=str(folder))))
    service.start()
    runner = asyncio.Runner()
    try:
        yield Served(service, runner, **options)
    finally:
        runner.close()
        service.stop(grace_seconds=1)


def event(**changes: Any) -> dict[str, Any]:
    """A pod created with the host's IPC, by someone of that name."""
    number = changes.pop("number", 0)
    return {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "RequestResponse",
        "auditID": f"00000000-0000-4000-8000-{number:012d}",
        "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/default/pods",
        "verb": "create",
        "user": {"username": "mallory", "groups": ["system:authenticated"]},
        "sourceIPs": ["192.0.2.7"],
        "objectRef": {"resource": "pods", "namespace": "default", "name": "p", "apiVersion": "v1"},
        "responseStatus": {"code": 201},
        "requestObject": {"spec": {"hostIPC": True, "containers": [{"image": "busybox"}]}},
        "requestReceivedTimestamp": "2026-11-23T07:06:00.000000Z",
        "stageTimestamp": "2026-11-23T07:06:00.500000Z",
        "annotations": {"authorization.k8s.io/decision": "allow"},
        **changes,
    }


def event_list(*events: object) -> bytes:
    made = {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": events}
    return json.dumps(made).encode()


def until(is_so: Callable[[], bool], *, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.02)
