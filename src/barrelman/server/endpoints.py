"""A path of ours as data: it is routed, checked and documented from the one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Literal, TypeAlias

from starlette.routing import Route

from barrelman.records.frozen import frozen
from barrelman.server.access import Handler, Role, needs

Schema: TypeAlias = Mapping[str, Any]
Method: TypeAlias = Literal["GET", "POST", "PUT", "DELETE"]


@frozen
class Parameter:
    """One in the query. Parameters of the path are read off the path."""

    name: str
    meaning: str
    schema: Schema = field(default_factory=lambda: {"type": "string"})
    is_required: bool = False


@frozen
class Endpoint:
    """`role` is None where nobody needs to say who they are."""

    method: Method
    path: str
    handler: Handler
    role: Role | None
    summary: str
    tag: str
    parameters: Sequence[Parameter] = ()
    body: Schema | None = None
    """What it takes; None takes no body."""
    answers: Mapping[int, str] = field(default_factory=lambda: {200: "Done."})
    """Those of success; the errors are the same everywhere."""
    result: Schema = field(default_factory=lambda: {"type": "object"})
    media_type: str = "application/json"


def route_of(endpoint: Endpoint) -> Route:
    handler = endpoint.handler if endpoint.role is None else needs(endpoint.role)(endpoint.handler)
    return Route(endpoint.path, handler, methods=[endpoint.method])
