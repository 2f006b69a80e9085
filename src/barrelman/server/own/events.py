"""`/api/v1/events`: the stored events, searched as rules search them."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from barrelman.server.access import caller_of
from barrelman.server.asked import Asked, instant
from barrelman.server.endpoints import Endpoint, Parameter
from barrelman.server.own.replies import blocking, reply
from barrelman.server.own.schemas import (
    ANYTHING,
    DATE,
    INSTANT,
    NEXT,
    SOME_INSTANT,
    TEXT,
    WHOLE,
    list_of,
    obj,
    up_to,
    words,
)
from barrelman.server.problems import RefusedError, to_json

_MOST: Final = 1000
_RANGE: Final = ("query", "since", "until", "cluster")


async def search(request: Request) -> Response:
    asked = Asked(request, known=(*_RANGE, "limit", "after", "order"))
    order = (asked.one_of("order", ("newest", "oldest")) or ["newest"])[0]
    page = await blocking(
        request,
        partial(
            request.app.state.service.search.events,
            asked.text("query"),
            **_bounds(request, asked),
            limit=asked.number("limit", 100, least=1, most=_MOST),
            newest_first=order == "newest",
            after=asked.text("after") or None,
        ),
    )
    # The lines are JSON already, and go out as they came in.
    parts = b",".join(_written(each) for each in page.events)
    body = b'{"events":[' + parts + b'],"next":' + to_json(page.next)
    body += b',"timed_out":' + to_json(page.is_timed_out) + b"}"
    return Response(body, media_type="application/json")


async def count(request: Request) -> Response:
    asked = Asked(request, known=_RANGE)
    found: int = await blocking(
        request,
        partial(
            request.app.state.service.search.count,
            asked.text("query"),
            **_bounds(request, asked),
        ),
    )
    return reply({"count": found})


async def get(request: Request) -> Response:
    seq: int = request.path_params["seq"]
    event = await blocking(request, partial(request.app.state.service.search.get, seq))
    if event is None or not caller_of(request).sees(event.cluster):
        raise RefusedError(f"there is no event {seq}", status=404)
    return Response(_written(event), media_type="application/json")


def _bounds(request: Request, asked: Asked) -> dict[str, Any]:
    return {
        "since_us": asked.instant_us("since"),
        "until_us": asked.instant_us("until", is_end=True),
        "clusters": caller_of(request).clusters_of(asked.words("cluster")),
    }


def _written(event: Any) -> bytes:
    head = to_json(
        {
            "seq": event.seq,
            "arrival": instant(event.arrival_us),
            "time": instant(event.time_us),
            "cluster": event.cluster,
        }
    )
    line: bytes = event.line.rstrip()
    wrapper = b"" if event.wrapper is None else b',"wrapper":' + event.wrapper.rstrip()
    return head[:-1] + b',"event":' + line + wrapper + b"}"


_EVENT: Final[dict[str, Any]] = obj(
    seq={**WHOLE, "description": "Its number in the store; never given twice."},
    arrival=INSTANT,
    time=SOME_INSTANT,
    cluster=TEXT,
    event={**ANYTHING, "description": "The audit event as it came."},
)
_EVENT["properties"]["wrapper"] = {
    **ANYTHING,
    "description": "What a shipper or a cloud's log put around it; absent where nothing was.",
}
_BOUNDS: Final = (
    Parameter("query", "KQL; without it, every event.", TEXT),
    Parameter("since", "Only events that happened then or later.", DATE),
    Parameter("until", "Only events that happened then or earlier.", DATE),
    Parameter("cluster", "Only of this cluster; may be given several times.", TEXT),
)

ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/api/v1/events",
        handler=search,
        role="viewer",
        summary="Searches the stored events.",
        tag="events",
        parameters=(
            *_BOUNDS,
            Parameter("limit", "At most so many.", up_to(_MOST, default=100)),
            Parameter("after", "What a former answer called `next`.", TEXT),
            Parameter("order", "By arrival.", words("newest", "oldest")),
        ),
        result=obj(
            events=list_of(_EVENT),
            next=NEXT,
            timed_out={
                "type": "boolean",
                "description": "It took too long: what was found until then; `next` goes on.",
            },
        ),
    ),
    Endpoint(
        method="GET",
        path="/api/v1/events/count",
        handler=count,
        role="viewer",
        summary="Counts the stored events that a search would find.",
        tag="events",
        parameters=_BOUNDS,
        result=obj(count=WHOLE),
    ),
    Endpoint(
        method="GET",
        path="/api/v1/events/{seq:int}",
        handler=get,
        role="viewer",
        summary="Gives one stored event.",
        tag="events",
        result=_EVENT,
    ),
)
