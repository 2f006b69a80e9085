"""What every request passes before it is routed: who asks, from where, and how often."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from barrelman.server.access import LOCAL, Caller
from barrelman.server.authentication import Access
from barrelman.server.intake import note_refusal
from barrelman.server.peers import is_from_this_machine, refuse_other_origins
from barrelman.server.problems import RefusedError
from barrelman.server.throttle import Buckets

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
"""Asked by whoever watches the process, who has no key."""
_LOCAL_PATHS: Final = frozenset({"/metrics"})
"""This machine may read them without a key, also when there are keys."""
_UNCOUNTED: Final = ("/audit/", "/events/")
"""What is bound by the bytes it brings, not by how often it comes."""
# A page of a client asks for many things at once, and then for a while for none.
_BURST_SECONDS: Final = 10.0


class Gate:
    """Puts the caller into `scope["state"]`. Raises RefusedError."""

    def __init__(self, app: ASGIApp, *, access: Access, requests_per_second: float) -> None:
        self._app = app
        self._access = access
        self._rates = Buckets(
            per_second=requests_per_second, burst=requests_per_second * _BURST_SECONDS
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                caller = await self._caller(scope)
            except RefusedError as error:
                note_refusal(scope, error)
                raise
            self._count(caller, scope["path"])
            scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    async def _caller(self, scope: Scope) -> Caller:
        headers = Headers(scope=scope)
        refuse_other_origins(headers)
        if (
            scope["path"] in _LOCAL_PATHS
            and "authorization" not in headers
            and is_from_this_machine(scope, headers)
        ):
            return LOCAL
        return await self._access.identify(scope)

    def _count(self, caller: Caller, path: str) -> None:
        if path.startswith(_UNCOUNTED):
            return
        wait = self._rates.take(f"{caller.kind}:{caller.id or caller.name}")
        if wait > 0:
            raise RefusedError(
                f"{caller.name} asks too often", status=429, retry_after_seconds=wait
            )
