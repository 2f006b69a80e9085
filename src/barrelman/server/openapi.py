"""`/api/openapi.json`: what the route tables hold, as OpenAPI 3.1."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from barrelman import __version__
from barrelman.server.endpoints import Endpoint
from barrelman.server.gate import OPEN_PATHS
from barrelman.server.problems import to_json

_PARAMETER = re.compile(r"\{(\w+)(?::(\w+))?\}")
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "request_id"],
            "properties": {
                "code": {"type": "string", "description": "For programs; it does not change."},
                "message": {"type": "string", "description": "For people."},
                "hint": {"type": "string", "description": "What to do."},
                "field": {"type": "string", "description": "The field that is at fault."},
                "place": {
                    "type": "object",
                    "description": "Where a query is wrong.",
                    "properties": {"line": {"type": "integer"}, "column": {"type": "integer"}},
                },
                "request_id": {"type": "string"},
            },
        }
    },
}
_KIBANA_ERROR: Final = {
    "type": "object",
    "properties": {
        "statusCode": {"type": "integer"},
        "error": {"type": "string"},
        "message": {"type": "string"},
    },
}
_SCHEMES: Final = {
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`ApiKey base64(id:secret)`",
    },
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Bearer id.secret`"},
    "basic": {"type": "http", "scheme": "basic"},
    "certificate": {"type": "mutualTLS"},
}


async def show(request: Request) -> Response:
    return Response(request.app.state.openapi, media_type="application/json")


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/api/openapi.json",
        handler=show,
        role=None,
        summary="Describes every endpoint, as OpenAPI 3.1.",
        tag="documentation",
    ),
)


def described(endpoints: Sequence[Endpoint], kibana: Sequence[BaseRoute]) -> bytes:
    """The whole document. Of Kibana's paths it has the names: Elastic documents the rest."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(plain(endpoint.path), {})[endpoint.method.lower()] = _own(endpoint)
    for path, route in flat(kibana):
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(plain(path), {}).setdefault(method.lower(), _of_kibana(path, route))
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Barrelman",
            "version": __version__,
            "description": "Detection rules over Kubernetes audit events.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR, "KibanaError": _KIBANA_ERROR},
            "securitySchemes": _SCHEMES,
        },
        "security": [{name: []} for name in _SCHEMES],
    }
    return to_json(document)


def plain(path: str) -> str:
    """A path as OpenAPI writes it, without the types of parameters."""
    return _PARAMETER.sub(r"{\1}", path)


def flat(routes: Sequence[BaseRoute], before: str = "") -> list[tuple[str, Route]]:
    """Every route with its whole path, those of mounts included."""
    found: list[tuple[str, Route]] = []
    for route in routes:
        if isinstance(route, Mount):
            found += flat(route.routes, before + route.path)
        elif isinstance(route, Route):
            found.append((before + route.path, route))
    return found


def _own(endpoint: Endpoint) -> dict[str, Any]:
    content = {endpoint.media_type: {"schema": endpoint.result}}
    responses: dict[str, Any] = {
        str(status): {"description": meaning, "content": content}
        for status, meaning in endpoint.answers.items()
    }
    responses["default"] = _failure("Error")
    made: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": f"{endpoint.tag}_{endpoint.handler.__name__}",
        "tags": [endpoint.tag],
        "parameters": [
            *_in_path(endpoint.path),
            *(
                {
                    "name": each.name,
                    "in": "query",
                    "required": each.is_required,
                    "description": each.meaning,
                    "schema": each.schema,
                }
                for each in endpoint.parameters
            ),
        ],
        "responses": responses,
    }
    if endpoint.role is not None:
        made["description"] = f"Needs the role `{endpoint.role}`."
    if endpoint.path in OPEN_PATHS:
        made["security"] = []
    if endpoint.body is not None:
        made["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": endpoint.body}},
        }
    return made


def _of_kibana(path: str, route: Route) -> dict[str, Any]:
    role = getattr(route.endpoint, "needs", None)
    made: dict[str, Any] = {
        "summary": _first_line(route.endpoint) or "As Kibana's path of this name.",
        "tags": ["kibana"],
        "parameters": _in_path(path),
        "responses": {
            "200": {"description": "As Kibana answers."},
            "default": _failure("KibanaError"),
        },
    }
    if role is not None:
        made["description"] = f"Needs the role `{role}`."
    return made


def _first_line(handler: Any) -> str:
    return (handler.__doc__ or "").strip().partition("\n")[0]


def _in_path(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer" if kind == "int" else "string"},
        }
        for name, kind in _PARAMETER.findall(path)
    ]


def _failure(schema: str) -> dict[str, Any]:
    return {
        "description": "It was not done.",
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }
