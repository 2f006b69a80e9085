"""A service behind its app, for tests that speak HTTP without a socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

from barrelman.errors import BarrelmanError
from barrelman.server.app import Limits, build_app
from barrelman.server.authentication import Access, Grant
from barrelman.store import keys
from barrelman.store.database import Database

NOW_US = 1_700_000_000_000_000


@dataclass
class Receipt:
    events: int = 0
    stored: int = 0
    duplicates: int = 0
    malformed: int = 0
    foreign: int = 0
    problems: list[str] = field(default_factory=list)


class Overloaded(BarrelmanError):
    retry_after_seconds = 7.0


class Intake:
    """Keeps bodies in memory, and does as the test says."""

    def __init__(self) -> None:
        self.most = 256 * 1024 * 1024
        self.held = 0
        self.peak = 0
        self.bodies: list[tuple[str, bytes, bool]] = []
        self.receipt = Receipt(events=1, stored=1)
        self.error: Exception | None = None
        self.never = False

    def reserve(self, size: int) -> bool:
        if self.held + size > self.most:
            return False
        self.held += size
        self.peak = max(self.peak, self.held)
        return True

    def release(self, size: int) -> None:
        self.held -= size

    def offer(self, body: bytes, *, cluster: str, is_list: bool) -> Future[Receipt]:
        if isinstance(self.error, Overloaded):
            raise self.error
        future: Future[Receipt] = Future()
        self.bodies.append((cluster, body, is_list))
        if self.never:
            return future
        if self.error:
            future.set_exception(self.error)
        else:
            threading.Timer(0.001, future.set_result, (self.receipt,)).start()
        return future


@dataclass
class Health:
    reasons: list[str] = field(default_factory=list)


class Service:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.intake = Intake()
        self.refused: list[tuple[str, str]] = []
        self.reasons: list[str] = []

    def note_refused(self, cluster: str, reason: str) -> None:
        self.refused.append((cluster, reason))

    def health(self) -> Health:
        return Health(self.reasons)


class Asker:
    """Asks an app, from an address, with a credential or none."""

    def __init__(
        self, app: Any, *, address: str = "127.0.0.1", host: str = "localhost", shown: str | None = None
    ) -> None:
        self._runner = asyncio.Runner()
        transport = httpx.ASGITransport(app, client=(address, 5000), raise_app_exceptions=True)
        headers = {"authorization": shown} if shown else {}
        self._client = httpx.AsyncClient(
            transport=transport, base_url=f"http://{host}", headers=headers
        )

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.ask("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.ask("POST", path, **options)

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()
