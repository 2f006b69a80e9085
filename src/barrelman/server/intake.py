"""Events in over HTTP: `POST /audit/{cluster}` and `POST /events/{cluster}`.

An API server tries a batch a few times, whatever the error, and then drops it. So what can be kept
of a body is kept, a bad item in it is counted and costs no other, and 200 means that all of it is
on disk. What cannot be taken just now gets 503 and the time to come back.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any, Final

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from barrelman.errors import BarrelmanError, StoreError, UsageError
from barrelman.server.access import caller_of, check_cluster
from barrelman.server.bodies import MIB, Pace, body_of
from barrelman.server.endpoints import Endpoint
from barrelman.server.problems import RETRY_SECONDS, RefusedError, refused, to_json
from barrelman.store.keys import check_cluster_name

# An API server waits for 30 s. Later than that, nobody reads the answer, and it is asked again.
_ANSWER_SECONDS: Final = 25.0
_LINES_LOOKED_AT: Final = 1000
_MOST_BYTES: Final = 64 * MIB


async def take_list(request: Request) -> Response:
    return await _take(request, is_list=True)


async def take_lines(request: Request) -> Response:
    return await _take(request, is_list=False)


async def _take(request: Request, *, is_list: bool) -> Response:
    cluster = _cluster_of(request)
    try:
        receipt = await _receipt_of(request, cluster, is_list=is_list)
    except RefusedError as error:
        # Only of those who may post for it: others could make up clusters at will.
        request.app.state.service.note_refused(cluster, error.code)
        raise
    return Response(
        to_json({name: getattr(receipt, name) for name in _RECEIPT["properties"]}),
        media_type="application/json",
    )


def _cluster_of(request: Request) -> str:
    cluster: str = request.path_params["cluster"]
    try:
        check_cluster_name(cluster)
    except UsageError as error:
        raise RefusedError(
            error.message, hint=error.hint, code="invalid_cluster", field="cluster"
        ) from None
    try:
        check_cluster(caller_of(request), cluster)
    except RefusedError as error:
        note_refusal(request.scope, error)
        raise
    return cluster


def note_refusal(scope: Scope, error: RefusedError) -> None:
    """Counts what someone was turned away with who may not post for the cluster in the path.

    Only where it is known: anyone could make up others. A key that has run out is noticed so.
    """
    kind, _, cluster = scope["path"].strip("/").partition("/")
    service = scope["app"].state.service
    if kind in ("audit", "events") and cluster in service.intake.clusters:
        service.note_refused(cluster, error.code)


async def _receipt_of(request: Request, cluster: str, *, is_list: bool) -> Any:
    state = request.app.state
    intake = state.service.intake
    pace: Pace = state.limits.pace
    async with body_of(
        request, holder=intake, most_bytes=state.limits.intake_bytes, pace=pace
    ) as body:
        data = body.data
        body.release()  # it is the intake's from here on, which counts it
        try:
            future = intake.offer(data, cluster=cluster, is_list=is_list)
            # Shielded: the writer owns the future, and settles it whoever still waits.
            waiting = asyncio.shield(asyncio.wrap_future(future))
            receipt = await asyncio.wait_for(waiting, _ANSWER_SECONDS)
        except BarrelmanError as error:
            raise _turned_away(error) from None
        except TimeoutError:
            raise RefusedError(
                "the store takes too long",
                status=503,
                code="store_slow",
                retry_after_seconds=RETRY_SECONDS,
            ) from None
        is_nothing = receipt.events == 0 and receipt.malformed and not receipt.foreign
        if is_nothing and not await to_thread.run_sync(
            partial(_is_json_at_all, data), limiter=state.aside
        ):
            raise RefusedError(
                "nothing in the body could be read",
                code="not_json",
                hint=receipt.problems[0] if receipt.problems else None,
            )
    return receipt


def _turned_away(error: BarrelmanError) -> RefusedError:
    found = refused(error)
    if found.status == 503:
        found.code = "store_failed" if isinstance(error, StoreError) else "overloaded"
    return found


def _is_json_at_all(data: bytes) -> bool:
    """Whether it is a JSON value, or its first lines hold one."""
    return _is_json(data) or any(map(_is_json, data.split(b"\n", _LINES_LOOKED_AT)[:-1]))


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except RecursionError:
        return True  # it is far too deep, and that far it is JSON
    except ValueError:
        return False
    return True


_RECEIPT: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["events", "stored", "duplicates", "malformed", "foreign", "problems"],
    "properties": {
        "events": {"type": "integer", "description": "Events that were read."},
        "stored": {"type": "integer", "description": "Those that are new, and on disk now."},
        "duplicates": {"type": "integer", "description": "Those that had come before."},
        "malformed": {"type": "integer", "description": "Items or lines that are broken."},
        "foreign": {"type": "integer", "description": "Items that are intact, and no events."},
        "problems": {"type": "array", "items": {"type": "string"}},
    },
}
_ANSWERS: Final = {200: "All that could be read is on disk."}

ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/audit/{cluster}",
        handler=take_list,
        role="intake",
        summary="Takes an EventList in, as kube-apiserver's audit webhook sends it.",
        tag="intake",
        body={"type": "object", "description": "An `audit.k8s.io/v1` EventList."},
        answers=_ANSWERS,
        result=_RECEIPT,
    ),
    Endpoint(
        method="POST",
        path="/events/{cluster}",
        handler=take_lines,
        role="intake",
        summary="Takes JSON lines in, and every other shape that `barrelman scan` reads.",
        tag="intake",
        body={"description": "JSON lines, one value, or an array of events."},
        answers=_ANSWERS,
        result=_RECEIPT,
    ),
)
