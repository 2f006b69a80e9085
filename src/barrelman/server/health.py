"""Is the process alive, and may it be sent work?"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from barrelman.server.endpoints import Endpoint
from barrelman.server.problems import to_json


async def is_alive(request: Request) -> Response:
    """Answered by the event loop alone: a slow disk is no reason to be killed."""
    return _answer({"status": "ok"})


async def is_ready(request: Request) -> Response:
    reasons: list[str] = await to_thread.run_sync(partial(_reasons, request.app.state.service))
    if reasons:
        return _answer({"status": "unavailable", "reasons": reasons}, status=503)
    return _answer({"status": "ok", "reasons": []})


def _reasons(service: Any) -> list[str]:
    return list(service.health().reasons)


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
