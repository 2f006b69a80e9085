"""What is answered where a request is not: one JSON shape, and Kibana's for Kibana's paths."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

from barrelman.errors import (
    NOWHERE,
    BarrelmanError,
    ConflictError,
    NotFoundError,
    Place,
    QueryError,
    SinkError,
    StoreError,
    UnsupportedError,
)

RETRY_SECONDS: Final = 5.0
"""When to come back where nothing better is known."""

_KIBANA_PATH = re.compile(r"(?:/s/[^/]+)?/(?:api(?!/v1(?:/|$)|/openapi\.json$)|internal)(?:/|$)")

_CODES: Final[Mapping[int, str]] = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    409: "conflict",
    413: "too_large",
    415: "unsupported_encoding",
    429: "too_many_requests",
    431: "too_large",
    500: "internal_error",
    502: "sink_failed",
    503: "unavailable",
}


class RefusedError(BarrelmanError):
    """A request that is not done: `status` says so to HTTP, `code` to a program."""

    def __init__(
        self,
        message: str,
        *,
        place: Place = NOWHERE,
        hint: str | None = None,
        status: int = 400,
        code: str | None = None,
        field: str | None = None,
        retry_after_seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, place=place, hint=hint)
        self.status = status
        self.code = code or _CODES.get(status, "error")
        self.field = field
        self.retry_after_seconds = retry_after_seconds
        self.headers = headers or {}


def refused(error: BarrelmanError) -> RefusedError:
    """Any error of ours as an answer: by its type, the caller's fault or ours."""
    if isinstance(error, RefusedError):
        return error
    status, code = 400, None
    retry_after: float | None = getattr(error, "retry_after_seconds", None)
    if isinstance(error, SinkError):
        status = 502
    elif isinstance(error, StoreError) or retry_after is not None:
        status, retry_after = 503, retry_after or RETRY_SECONDS
    elif isinstance(error, ConflictError):
        status = 409
    elif isinstance(error, NotFoundError):
        status = 404
    elif isinstance(error, QueryError):
        code = "invalid_query"
    elif isinstance(error, UnsupportedError):
        code = "unsupported"
    return RefusedError(
        error.message,
        place=error.place,
        hint=error.hint,
        status=status,
        code=code,
        retry_after_seconds=retry_after,
    )


def problem_response(error: RefusedError, *, path: str, request_id: str) -> Response:
    """The answer that says so."""
    headers = dict(error.headers)
    if error.retry_after_seconds is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_seconds)))
    shown = _for_kibana(error) if is_kibana_path(path) else _of_ours(error, request_id)
    return Response(to_json(shown), error.status, headers, media_type="application/json")


def is_kibana_path(path: str) -> bool:
    """Whether who asks expects errors as Kibana writes them."""
    return _KIBANA_PATH.match(path) is not None


def to_json(value: Any) -> bytes:
    """JSON in ASCII: half surrogates, which events may hold, come out as they went in."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def _of_ours(error: RefusedError, request_id: str) -> dict[str, Any]:
    told: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.hint:
        told["hint"] = error.hint
    if error.field:
        told["field"] = error.field
    where = error.place
    if where.line is not None and where.column is not None:
        told["place"] = {"line": where.line, "column": where.column}
    told["request_id"] = request_id
    return {"error": told}


def _for_kibana(error: RefusedError) -> dict[str, Any]:
    hint = f" ({error.hint})" if error.hint else ""
    try:
        phrase = HTTPStatus(error.status).phrase
    except ValueError:
        phrase = "Error"
    return {"statusCode": error.status, "error": phrase, "message": error.message + hint}
