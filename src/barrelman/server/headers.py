"""What is around every answer: its headers, its number, its count, and a fault of ours in words."""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from barrelman.errors import BarrelmanError
from barrelman.server.metrics import Requests
from barrelman.server.problems import RefusedError, problem_response, refused

_LOG = logging.getLogger("barrelman.server")

_SECURITY: Final = (
    # Nothing here is a page: should a browser take an answer for one, it can do nothing.
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'; sandbox"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
)
_HSTS: Final = ("strict-transport-security", "max-age=31536000")
_GONE: Final = 499
"""In figures: nobody waited for the answer."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class Frame:
    """The outermost layer: nothing that is raised inside gets past it."""

    def __init__(self, app: ASGIApp, *, requests: Requests) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _id_of(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.monotonic()
        status = 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _dress(message, request_id, is_tls=scope.get("scheme") == "https")
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except ClientDisconnect:
            pass
        except Exception as error:  # a fault of ours ends one answer, not the service
            if status:
                # Half an answer is out: only cutting the connection tells that it is not whole.
                _LOG.exception("request %s broke while it was answered", request_id)
                raise
            await answer(error, scope)(scope, receive, sent)
        finally:
            self._requests.count(scope, status or _GONE, time.monotonic() - started)


def answer(error: Exception, scope: Scope) -> Response:
    """What is raised on the way to an answer, as one."""
    request_id = scope.get("state", {}).get("request_id", "")
    return problem_response(
        _explained(error, request_id), path=scope["path"], request_id=request_id
    )


async def answer_in_route(request: Request, error: Exception) -> Response:
    """The same, for Starlette's table of handlers."""
    return answer(error, request.scope)


def _explained(error: Exception, request_id: str) -> RefusedError:
    if isinstance(error, BarrelmanError):
        return refused(error)
    if isinstance(error, HTTPException):
        message = {
            404: "there is nothing at this path",
            405: "this path is not for that method",
        }.get(error.status_code, error.detail)
        return RefusedError(message, status=error.status_code, headers=error.headers)
    _LOG.error("request %s failed", request_id, exc_info=error)
    return RefusedError("the service failed; its log says how, under the request's id", status=500)


def _id_of(scope: Scope) -> str:
    """The caller's own, where it is fit to be logged."""
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)


def _dress(message: Message, request_id: str, *, is_tls: bool) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in (*_SECURITY, *((_HSTS,) if is_tls else ())):
        headers.setdefault(name, value)
    headers["x-request-id"] = request_id
