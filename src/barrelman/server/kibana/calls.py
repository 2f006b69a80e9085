"""A request to an endpoint of Kibana's shape, and what every such endpoint does around its work.

Whatever succeeds is answered with status 200: a client in wide use repeats a request that was
answered with any other, and would do everything twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from anyio import to_thread
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from barrelman.errors import (
    BarrelmanError,
    ConflictError,
    NotFoundError,
    RequestError,
    RequestShapeError,
)
from barrelman.records.frozen import frozen
from barrelman.rules.documents import parse_json
from barrelman.rules.schema import is_deeper_than
from barrelman.rules.schema import to_json as to_plain
from barrelman.server.access import Caller, Role, caller_of, needs
from barrelman.server.bodies import MIB, Pace, body_of
from barrelman.server.problems import RefusedError, to_json

JsonObject: TypeAlias = dict[str, Any]

VERSION: Final = "8.19.0"
"""The version of the stack whose API this is like."""
_READING: Final = ("GET", "HEAD")
_MOST_LEVELS: Final = 100
_XSRF: Final = "Request must contain a kbn-xsrf header."


@frozen
class Call:
    """A request, read. `clusters`: those that the caller may see, None for all."""

    service: Any
    caller: Caller
    query: QueryParams
    path: Mapping[str, str]
    body: bytes
    content_type: str

    @property
    def by(self) -> str:
        return self.caller.name

    @property
    def clusters(self) -> frozenset[str] | None:
        return self.caller.clusters

    def json(self, *, optional: bool = False) -> Any:
        """The body. Raises RequestShapeError; None where it is empty and may be."""
        if not self.body.strip():
            if optional:
                return None
            raise RequestShapeError("[request body]: expected a JSON value, found nothing")
        try:
            value = parse_json(self.body.decode("utf-8"))
        except UnicodeDecodeError:
            raise RequestShapeError("[request body]: not UTF-8 text") from None
        except json.JSONDecodeError as error:
            raise RequestShapeError(f"[request body]: not JSON: {error.msg}") from None
        if is_deeper_than(value, _MOST_LEVELS):
            raise RequestShapeError(f"[request body]: nested deeper than {_MOST_LEVELS} levels")
        return to_plain(value)

    def text(self, name: str) -> str | None:
        """A parameter of the query; None where it is not given."""
        return self.query.get(name)

    def needed(self, name: str) -> str:
        """A parameter that must be given."""
        value = self.query.get(name)
        if not value:
            raise RequestShapeError(f"[request query]: {name}: Required")
        return value

    def texts(self, name: str) -> list[str]:
        """A parameter that may be given several times, or with commas, or as `name[]`."""
        given = [*self.query.getlist(name), *self.query.getlist(f"{name}[]")]
        return [part for each in given for part in each.split(",") if part]

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A parameter that is true or false."""
        value = self.query.get(name)
        if value is None:
            return default
        if value.lower() not in ("true", "false"):
            raise RequestShapeError(f"[request query]: {name}: expected true or false")
        return value.lower() == "true"

    def number(self, name: str, default: int) -> int:
        """A parameter that is a whole number from 0."""
        value = self.query.get(name)
        if value is None:
            return default
        if not (value.isascii() and value.isdigit() and len(value) < 10):
            raise RequestShapeError(f"[request query]: {name}: expected a whole number")
        return int(value)

    def order(self, name: str = "sort_order", default: str = "asc") -> str:
        """A parameter that is asc or desc."""
        value = (self.query.get(name) or default).lower()
        if value not in ("asc", "desc"):
            raise RequestShapeError(f"[request query]: {name}: expected asc or desc")
        return value


Run: TypeAlias = Callable[[Call], "Response | JsonObject | Sequence[Any]"]


def route(method: str, path: str, role: Role, run: Run, *, takes_files: bool = False) -> Route:
    """An endpoint: `run` is given the request in a thread of its own, and may block."""

    async def handler(request: Request) -> Response:
        if request.method not in _READING and not request.headers.get("kbn-xsrf"):
            return failure(RequestShapeError(_XSRF))
        try:
            body = await _read(request, takes_files=takes_files)
            call = Call(
                request.app.state.service,
                caller_of(request),
                request.query_params,
                {name: str(value) for name, value in request.path_params.items()},
                body,
                request.headers.get("content-type", ""),
            )
            workers = getattr(request.app.state, "workers", None)
            return await to_thread.run_sync(partial(_answer, run, call), limiter=workers)
        except (RequestError, ConflictError) as error:
            return failure(error)

    # Every method of a path is a route of its own, and a function of its own in the metrics.
    handler.__name__ = f"{method.lower()}_{getattr(run, '__name__', 'run').strip('_')}"
    return Route(path, needs(role)(handler), methods=[method])


def _answer(run: Run, call: Call) -> Response:
    found = run(call)
    return found if isinstance(found, Response) else answer(found)


async def _read(request: Request, *, takes_files: bool) -> bytes:
    if request.method in _READING:
        return b""
    limits = getattr(request.app.state, "limits", None)
    most = (
        (limits.import_bytes if takes_files else limits.api_bytes)
        if limits is not None
        else (64 if takes_files else 10) * MIB
    )
    pace = limits.pace if limits is not None else Pace()
    holder = request.app.state.service.intake
    async with body_of(request, holder=holder, most_bytes=most, pace=pace) as body:
        return body.data


def answer(value: Any, *, status: int = 200) -> Response:
    """JSON in ASCII."""
    return Response(to_json(value), status, media_type="application/json")


def failure(error: BarrelmanError) -> Response:
    """What could not be done: a wrong form is told in one shape, the rest in another."""
    if isinstance(error, RefusedError):  # the app answers those, with their headers
        raise error
    message = error.message + (f" ({error.hint})" if error.hint else "")
    if isinstance(error, RequestShapeError):
        return answer({"statusCode": 400, "error": "Bad Request", "message": message}, status=400)
    status = 400
    if isinstance(error, NotFoundError):
        status = 404
    elif isinstance(error, ConflictError):
        status = 409
    return answer({"message": message, "status_code": status}, status=status)


def lines_answer(lines: Sequence[JsonObject], *, file_name: str) -> Response:
    """A file of JSON lines. ASCII: clients split it wherever Unicode knows a line's end."""
    content = b"".join(to_json(line) + b"\n" for line in lines)
    return file_answer(content, file_name=file_name)


def file_answer(content: bytes, *, file_name: str) -> Response:
    """A file to be saved."""
    safe = "".join(
        char if char.isascii() and char.isprintable() and char not in '"\\' else "_"
        for char in file_name
    )
    headers = {"content-disposition": f'attachment; filename="{safe}"'}
    return Response(content, 200, headers, media_type="application/ndjson")
