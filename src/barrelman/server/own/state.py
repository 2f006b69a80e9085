"""`/api/v1/intake`, `/api/v1/sinks`, `/api/v1/watches`: how the service is doing."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from barrelman.errors import SinkError
from barrelman.server.access import Caller, caller_of
from barrelman.server.asked import Asked, instant
from barrelman.server.endpoints import Endpoint
from barrelman.server.own.replies import blocking, reply
from barrelman.server.own.schemas import (
    ANYTHING,
    FLAG,
    INSTANT,
    NUMBER,
    SOME_INSTANT,
    SOME_TEXT,
    TEXT,
    WHOLE,
    list_of,
    obj,
)
from barrelman.server.problems import RefusedError
from barrelman.store import audit
from barrelman.store import watches as watches_table

_COUNTED: Final = ("events", "stored", "duplicates", "malformed", "foreign", "refused")
_RATE_SECONDS: Final = 10.0


class Rates:
    """Events a second of each cluster, from one question to the next.

    A question that comes sooner than ten seconds after the last is answered from the same begin.
    """

    def __init__(self) -> None:
        self._begun: dict[str, tuple[int, int]] = {}
        self._last: dict[str, tuple[int, int]] = {}

    def of(self, cluster: str, stored: int, now_us: int) -> float | None:
        """None the first time."""
        then_us, then = self._begun.setdefault(cluster, (now_us, stored))
        seconds = (now_us - then_us) / 1_000_000
        if seconds >= _RATE_SECONDS:
            self._begun[cluster] = self._last.get(cluster, (now_us, stored))
        self._last[cluster] = now_us, stored
        return round((stored - then) / seconds, 2) if seconds > 0 else None


async def show_intake(request: Request) -> Response:
    Asked(request, known=())
    service, caller = request.app.state.service, caller_of(request)
    numbers = await blocking(request, service.numbers)
    rates: Rates = request.app.state.rates
    clusters = [
        {
            "name": name,
            "last_arrival": instant(counts.last_arrival_us or None),
            "last_event": instant(counts.last_event_us or None),
            "silent_seconds": _seconds_since(counts.last_arrival_us, numbers.now_us),
            "events_per_second": rates.of(name, counts.stored, numbers.now_us),
            **{each: getattr(counts, each) for each in _COUNTED},
        }
        for name, counts in sorted(numbers.clusters.items())
        if caller.sees(name)
    ]
    return reply(
        {
            "clusters": clusters,
            "since": instant(numbers.started_us),
            "held_bytes": numbers.held_bytes,
            "max_bytes": numbers.max_bytes,
            "overloaded": numbers.overloaded,
            "fault": service.intake.fault,
        }
    )


async def list_sinks(request: Request) -> Response:
    Asked(request, known=())
    states = await blocking(request, request.app.state.service.courier.state)
    shown = [
        {
            "name": name,
            "kind": each.kind,
            "failing": each.is_failing,
            "pending": each.pending,
            "oldest": instant(each.oldest_us),
            "dead": each.dead,
            "delivered": each.delivered,
            "digests": each.digests,
            "failures": each.failures,
            "last_error": each.last_error,
            "last_error_at": instant(each.last_error_us),
            "last_success_at": instant(each.last_success_us),
            "next_try": instant(each.next_try_us),
            "notice": each.notice,
        }
        for name, each in sorted(states.items())
    ]
    return reply({"sinks": shown})


async def test_sink(request: Request) -> Response:
    said = await _with_sink(request, "sink.test", lambda courier, name: courier.test(name))
    return reply({"said": said})


async def requeue_sink(request: Request) -> Response:
    number = await _with_sink(request, "sink.requeue", lambda courier, name: courier.requeue(name))
    return reply({"requeued": number})


async def list_watches(request: Request) -> Response:
    Asked(request, known=())
    caller = caller_of(request)
    found = await blocking(
        request, partial(request.app.state.service.database.read, watches_table.all)
    )
    shown = [
        {
            "kind": each.kind,
            "subject": each.subject,
            "state": each.state,
            "since": instant(each.since_us),
            "raised": instant(each.raised_us),
            "alert_id": each.alert_id,
            "detail": each.detail,
        }
        for each in found
        if _may_see(caller, each.kind, each.subject)
    ]
    return reply({"watches": shown})


async def show_health(request: Request) -> Response:
    Asked(request, known=())
    health = await blocking(request, request.app.state.service.health)
    return reply(
        {"ready": not health.reasons, "reasons": health.reasons, "notes": list(health.notes)}
    )


async def _with_sink(request: Request, action: str, work: Any) -> Any:
    service, by = request.app.state.service, caller_of(request).name
    name: str = request.path_params["name"]
    if name not in service.courier.names:
        raise RefusedError(f"there is no sink {name[:100]}", status=404)

    def run() -> Any:
        outcome = "done"
        try:
            return work(service.courier, name)
        except SinkError as error:
            outcome = error.message
            raise
        finally:
            service.database.write(
                lambda c: audit.note(
                    c,
                    at_us=service.clock.now_us(),
                    by=by,
                    action=action,
                    target=name,
                    detail={"outcome": outcome},
                )
            )

    return await blocking(request, run)


def _may_see(caller: Caller, kind: str, subject: str) -> bool:
    """Of the warnings about clusters, those of the caller's."""
    is_of_cluster = kind in ("silent", "refused", "malformed", "skew")
    return not is_of_cluster or caller.sees(subject)


def _seconds_since(then_us: int, now_us: int) -> float | None:
    return round((now_us - then_us) / 1_000_000, 1) if then_us else None


_CLUSTER: Final = obj(
    name=TEXT,
    last_arrival=SOME_INSTANT,
    last_event={**SOME_INSTANT, "description": "The latest time that an event of it tells."},
    silent_seconds={"type": ["number", "null"]},
    events_per_second={
        "type": ["number", "null"],
        "description": "Since this was last asked, over ten seconds at least.",
    },
    **dict.fromkeys(_COUNTED, WHOLE),
)
_SINK: Final = obj(
    name=TEXT,
    kind=TEXT,
    failing=FLAG,
    pending={**WHOLE, "description": "Alerts that wait for it."},
    oldest={**SOME_INSTANT, "description": "Since when the first of them waits."},
    dead={**WHOLE, "description": "Alerts that it gave up."},
    delivered=WHOLE,
    digests=WHOLE,
    failures=WHOLE,
    last_error=SOME_TEXT,
    last_error_at=SOME_INSTANT,
    last_success_at=SOME_INSTANT,
    next_try=SOME_INSTANT,
    notice=TEXT,
)
_WATCH: Final = obj(
    kind=TEXT,
    subject=TEXT,
    state=TEXT,
    since=INSTANT,
    raised=INSTANT,
    alert_id=SOME_TEXT,
    detail=ANYTHING,
)

ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/api/v1/health",
        handler=show_health,
        role="viewer",
        summary="Says whether the service works, and what an operator should know.",
        tag="state",
        result=obj(ready=FLAG, reasons=list_of(TEXT), notes=list_of(TEXT)),
    ),
    Endpoint(
        method="GET",
        path="/api/v1/intake",
        handler=show_intake,
        role="viewer",
        summary="Tells what came from each cluster since the service began.",
        tag="state",
        result=obj(
            clusters=list_of(_CLUSTER),
            since=INSTANT,
            held_bytes={**WHOLE, "description": "Of bodies that wait or are on their way in."},
            max_bytes=WHOLE,
            overloaded={**WHOLE, "description": "Bodies turned away for want of room."},
            fault={**SOME_TEXT, "description": "Why events cannot be stored just now."},
        ),
    ),
    Endpoint(
        method="GET",
        path="/api/v1/sinks",
        handler=list_sinks,
        role="viewer",
        summary="Tells how each sink is doing.",
        tag="state",
        result=obj(sinks=list_of(_SINK)),
    ),
    Endpoint(
        method="POST",
        path="/api/v1/sinks/{name}/test",
        handler=test_sink,
        role="engineer",
        summary="Sends a message that is marked as a test.",
        tag="state",
        answers={200: "It arrived."},
        result=obj(said={**TEXT, "description": "What came of it."}),
    ),
    Endpoint(
        method="POST",
        path="/api/v1/sinks/{name}/requeue",
        handler=requeue_sink,
        role="engineer",
        summary="Tries again what a sink gave up.",
        tag="state",
        result=obj(requeued={**NUMBER, "description": "How many alerts."}),
    ),
    Endpoint(
        method="GET",
        path="/api/v1/watches",
        handler=list_watches,
        role="viewer",
        summary="Lists the warnings of the service about itself that last.",
        tag="state",
        result=obj(watches=list_of(_WATCH)),
    ),
)
