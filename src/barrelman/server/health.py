"""Is the process alive, and may it be sent work?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import anyio
from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import Response

from barrelman.server.endpoints import Endpoint
from barrelman.server.problems import to_json

_FRESH_SECONDS: Final = 1.0


async def is_alive(request: Request) -> Response:
    """Answered by the event loop alone: a slow disk is no reason to be killed."""
    return _answer({"status": "ok"})


async def is_ready(request: Request) -> Response:
    reasons = await request.app.state.readiness.reasons()
    if reasons:
        return _answer({"status": "unavailable", "reasons": reasons}, status=503)
    return _answer({"status": "ok", "reasons": []})


class Readiness:
    """Asked by anyone, so looked up once a second at most, and not behind searches."""

    def __init__(self, look: Callable[[], list[str]], *, limiter: CapacityLimiter) -> None:
        self._look = look
        self._limiter = limiter
        self._lock = anyio.Lock()
        self._found: tuple[list[str], float] | None = None

    async def reasons(self) -> list[str]:
        async with self._lock:
            now = time.monotonic()
            if self._found is None or now - self._found[1] >= _FRESH_SECONDS:
                self._found = (await to_thread.run_sync(self._look, limiter=self._limiter), now)
            return self._found[0]

    def forget(self) -> None:
        """The next who asks is told anew."""
        self._found = None


def _answer(value: dict[str, Any], *, status: int = 200) -> Response:
    return Response(to_json(value), status, media_type="application/json")


_STATUS: Final = {"type": "string", "enum": ["ok", "unavailable"]}

ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/healthz",
        handler=is_alive,
        role=None,
        summary="Says that the process answers.",
        tag="health",
        result={"type": "object", "properties": {"status": _STATUS}},
    ),
    Endpoint(
        method="GET",
        path="/readyz",
        handler=is_ready,
        role=None,
        summary="Says whether events can be stored and rules run, and if not, why.",
        tag="health",
        answers={200: "It is ready.", 503: "It is not; `reasons` say why."},
        result={
            "type": "object",
            "properties": {
                "status": _STATUS,
                "reasons": {"type": "array", "items": {"type": "string"}},
            },
        },
    ),
)
