"""The app: every route table put together, and what is around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount, Router

from barrelman.errors import BarrelmanError
from barrelman.records.frozen import frozen
from barrelman.server import health, intake, kibana, metrics, openapi
from barrelman.server.authentication import Access
from barrelman.server.bodies import MIB, Pace
from barrelman.server.endpoints import Endpoint, route_of
from barrelman.server.gate import Gate
from barrelman.server.headers import Frame, answer_in_route
from barrelman.server.metrics import Metrics
from barrelman.server.own import alerts, events, keys, runs, state

if TYPE_CHECKING:
    from barrelman.service.service import Service

_ASIDE: Final = 2
"""Threads for what must be answered while searches take all others."""

ENDPOINTS: Final[Sequence[Endpoint]] = (
    *intake.ENDPOINTS,
    *health.ENDPOINTS,
    *metrics.ENDPOINTS,
    *openapi.ENDPOINTS,
    *events.ENDPOINTS,
    *alerts.ENDPOINTS,
    *runs.ENDPOINTS,
    *state.ENDPOINTS,
    *keys.ENDPOINTS,
)
"""Every path of ours; Kibana's are in `server/kibana`."""


@frozen
class Limits:
    """What one request may be, how many a caller may make, and how many are worked on at once."""

    intake_bytes: int = 64 * MIB
    import_bytes: int = 64 * MIB
    api_bytes: int = 10 * MIB
    pace: Pace = Pace()
    requests_per_second: float = 50.0
    workers: int = 8


def build_app(service: Service, *, access: Access, limits: Limits | None = None) -> Starlette:
    """`app.state.metrics.connections` may be set to what a listener tells."""
    limits = limits or Limits()
    routes = _routes()
    figures = Metrics(paths=_paths(routes), failed=lambda: access.failed)
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Frame, requests=figures.requests),
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
    app.state.metrics = figures
    app.state.rates = state.Rates()
    app.state.workers = CapacityLimiter(limits.workers)
    app.state.aside = CapacityLimiter(_ASIDE)
    app.state.readiness = health.Readiness(
        lambda: service.health().reasons, limiter=app.state.aside
    )
    app.state.openapi = openapi.described(ENDPOINTS, _kibana_routes())
    return app


def _routes() -> list[BaseRoute]:
    return [*(route_of(each) for each in ENDPOINTS), *_kibana_routes()]


def _kibana_routes() -> list[BaseRoute]:
    """At their paths, and once more below a space's, of which there is one whatever its name."""
    routes: Sequence[BaseRoute] = kibana.routes
    return [*routes, Mount("/s/{space}", Router(routes, redirect_slashes=False))]


def _paths(routes: Sequence[BaseRoute]) -> dict[Any, str]:
    """Each handler's path, the first where it has several."""
    found: dict[Any, str] = {}
    for path, route in openapi.flat(routes):
        found.setdefault(route.endpoint, openapi.plain(path))
    return found
