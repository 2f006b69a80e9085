"""What the handlers of `/api/v1` share: the service, bodies in, JSON out, and work in threads."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import Response

from barrelman.server.asked import Given
from barrelman.server.bodies import json_of
from barrelman.server.problems import to_json

_T = TypeVar("_T")


async def blocking(request: Request, work: Callable[[], _T]) -> _T:
    """Runs what waits for a disk in a thread. There are so many of them, and others wait."""
    limiter: CapacityLimiter = request.app.state.workers
    return await to_thread.run_sync(work, limiter=limiter)


async def given(request: Request, *, known: Collection[str]) -> Given:
    state = request.app.state
    values = await json_of(
        request,
        holder=state.service.intake,
        most_bytes=state.limits.api_bytes,
        pace=state.limits.pace,
    )
    return Given(values, known=known, now_ms=state.service.clock.now_us() // 1000)


def reply(value: Any, *, status: int = 200) -> Response:
    return Response(to_json(value), status, media_type="application/json")
