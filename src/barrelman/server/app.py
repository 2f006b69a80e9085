"""The app: every route table put together, and what is around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount, Route

from barrelman.errors import BarrelmanError
from barrelman.records.frozen import frozen
from barrelman.server import health, intake
from barrelman.server.authentication import Access
from barrelman.server.bodies import MIB, Pace
from barrelman.server.endpoints import Endpoint, route_of
from barrelman.server.gate import Gate
from barrelman.server.headers import Frame, answer_in_route
from barrelman.server.metrics import Metrics

ENDPOINTS: Final[Sequence[Endpoint]] = (*intake.ENDPOINTS, *health.ENDPOINTS)
"""Every path of ours; Kibana's are in `server/kibana`."""


@frozen
class Limits:
    """What one request may be, and how many a caller may make."""

    intake_bytes: int = 64 * MIB
    import_bytes: int = 64 * MIB
    api_bytes: int = 10 * MIB
    pace: Pace = Pace()
    requests_per_second: float = 50.0


def build_app(service: Any, *, access: Access, limits: Limits | None = None) -> Starlette:
    limits = limits or Limits()
    routes = _routes()
    metrics = Metrics(paths=_paths(routes))
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Frame, requests=metrics.requests),
            Middleware(Gate, access=access, requests_per_second=limits.requests_per_second),
        ],
        exception_handlers={
            HTTPException: answer_in_route,
            BarrelmanError: answer_in_route,
        },
    )
    # A path that is nearly one is none: a redirect would send a body twice.
    app.router.redirect_slashes = False
    app.state.service = service
    app.state.access = access
    app.state.limits = limits
    app.state.metrics = metrics
    return app


def _routes() -> list[BaseRoute]:
    return [route_of(each) for each in ENDPOINTS]


def _paths(routes: Sequence[BaseRoute], before: str = "") -> dict[Any, str]:
    """Each handler's path, the first where it has several."""
    found: dict[Any, str] = {}
    for route in routes:
        if isinstance(route, Route):
            found.setdefault(route.endpoint, before + route.path)
        elif isinstance(route, Mount):
            for handler, path in _paths(route.routes, before + route.path).items():
                found.setdefault(handler, path)
    return found
