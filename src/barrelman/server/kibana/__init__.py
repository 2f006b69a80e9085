"""The paths of Kibana's detection engine, exception lists and value lists, as clients know them."""

from __future__ import annotations

from typing import Final

from starlette.routing import BaseRoute

from barrelman.server.kibana import alerts, exceptions, platform, rules, valuelists

routes: Final[list[BaseRoute]] = [
    *rules.ROUTES,
    *alerts.ROUTES,
    *exceptions.ROUTES,
    *valuelists.ROUTES,
    *platform.ROUTES,
]
"""All of them; they are mounted at the root and below `/s/{space}`: there is one space."""
