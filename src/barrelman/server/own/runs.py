"""`/api/v1/runs` and `/api/v1/gaps`: what ran, what did not, and runs by hand."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response

from barrelman.records.times import format_instant
from barrelman.server.access import caller_of, check_unbound
from barrelman.server.asked import Asked, instant, wrong
from barrelman.server.endpoints import Endpoint, Parameter
from barrelman.server.own.replies import blocking, given, reply
from barrelman.server.own.schemas import (
    ANYTHING,
    DATE,
    FLAG,
    INSTANT,
    SOME_INSTANT,
    TEXT,
    WHOLE,
    form,
    list_of,
    obj,
    up_to,
    words,
)
from barrelman.server.problems import RefusedError
from barrelman.store import audit
from barrelman.store import rules as rules_table
from barrelman.store import runs as runs_table
from barrelman.store.rules import StoredRule
from barrelman.store.runs import Gap, Run

if TYPE_CHECKING:
    from barrelman.store.database import Connection

_MOST: Final = 1000
_STATUSES: Final = ("succeeded", "partial failure", "failed", "running", "going to run")
_KINDS: Final = ("scheduled", "catch-up", "manual", "gap")
_GAP_STATUSES: Final = ("unfilled", "in progress", "filled", "impossible")


async def find_runs(request: Request) -> Response:
    check_unbound(caller_of(request), "runs")
    asked = Asked(
        request, known=("rule", "since", "until", "status", "kind", "limit", "offset", "order")
    )
    order = (asked.one_of("order", ("newest", "oldest")) or ["newest"])[0]
    filters: dict[str, Any] = {
        "since_us": asked.instant_us("since"),
        "until_us": asked.instant_us("until", is_end=True),
        "statuses": asked.one_of("status", _STATUSES),
        "kinds": asked.one_of("kind", _KINDS),
    }
    limit, offset = _page(asked)

    def read(connection: Connection) -> tuple[list[Run], int]:
        filters["rule_uuid"] = _uuid_of(connection, asked.text("rule"))
        found = runs_table.find(
            connection, newest_first=order == "newest", limit=limit, offset=offset, **filters
        )
        return found, runs_table.count(connection, **filters)

    runs, total = await blocking(request, partial(_database(request).read, read))
    return reply({"runs": [_run(each) for each in runs], "total": total})


async def get_run(request: Request) -> Response:
    check_unbound(caller_of(request), "runs")
    run_id: str = request.path_params["id"]
    run = await blocking(
        request, partial(_database(request).read, lambda c: runs_table.get(c, run_id))
    )
    if run is None:
        raise RefusedError(f"there is no run {run_id[:100]}", status=404)
    return reply(_run(run))


async def find_gaps(request: Request) -> Response:
    check_unbound(caller_of(request), "runs")
    asked = Asked(request, known=("rule", "since", "until", "status", "limit", "offset"))
    since_us, until_us = asked.instant_us("since"), asked.instant_us("until", is_end=True)
    statuses = asked.one_of("status", _GAP_STATUSES)
    limit, offset = _page(asked)

    def read(connection: Connection) -> list[Gap]:
        return runs_table.gaps(
            connection,
            rule_uuid=_uuid_of(connection, asked.text("rule")),
            since_ms=None if since_us is None else since_us // 1000,
            until_ms=None if until_us is None else until_us // 1000,
            statuses=statuses,
            limit=limit,
            offset=offset,
        )

    gaps = await blocking(request, partial(_database(request).read, read))
    return reply({"gaps": [_gap(each) for each in gaps]})


async def list_manual(request: Request) -> Response:
    check_unbound(caller_of(request), "runs")
    waiting = request.app.state.service.scheduler.manual_runs()
    shown = [
        {
            "id": each.id,
            "rule_uuid": each.rule_uuid,
            "next": format_instant(each.next_ms),
            "to": format_instant(each.end_ms),
            "by": each.by,
        }
        for each in waiting
    ]
    return reply({"manual_runs": shown})


async def run_by_hand(request: Request) -> Response:
    body = await given(request, known=("from", "to"))
    start_ms = body.instant_ms("from", is_required=True)
    end_ms = body.instant_ms("to", is_required=True)
    assert start_ms is not None
    assert end_ms is not None
    if start_ms >= end_ms:
        raise wrong("to", "is not after from")
    service = request.app.state.service
    by, asked_id = caller_of(request).name, request.path_params["id"]

    def work() -> str:
        rule = service.database.read(lambda c: _rule_of(c, asked_id))
        run_id: str = service.scheduler.run_range(rule.id, start_ms=start_ms, end_ms=end_ms, by=by)
        detail = {"id": run_id, "from": format_instant(start_ms), "to": format_instant(end_ms)}
        service.database.write(
            lambda c: audit.note(
                c,
                at_us=service.clock.now_us(),
                by=by,
                action="rule.run",
                target=rule.rule_id,
                detail=detail,
            )
        )
        return run_id

    return reply({"id": await blocking(request, work)}, status=202)


async def list_rules(request: Request) -> Response:
    """Kibana's API says of a rule how its last run went, not whether it can run at all."""
    Asked(request, known=())
    service = request.app.state.service
    is_bound = caller_of(request).clusters is not None

    def work() -> list[dict[str, Any]]:
        latest = {} if is_bound else service.database.read(runs_table.latest)
        return [
            _rule(entry, service.rulebook.status_of(entry.stored.id), latest)
            for entry in service.rulebook.entries()
        ]

    return reply({"rules": await blocking(request, work)})


def _database(request: Request) -> Any:
    return request.app.state.service.database


def _page(asked: Asked) -> tuple[int, int]:
    limit = asked.number("limit", 100, least=1, most=_MOST)
    return limit, asked.number("offset", 0, most=10**9)


def _rule_of(connection: Connection, asked: str) -> StoredRule:
    """By its id or its rule_id."""
    found = rules_table.get(connection, id=asked) or rules_table.get(connection, rule_id=asked)
    if found is None:
        raise RefusedError(f"there is no rule {asked[:100]}", status=404)
    return found


def _uuid_of(connection: Connection, asked: str) -> str | None:
    return _rule_of(connection, asked).id if asked else None


def _run(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "rule_uuid": run.rule_uuid,
        "rule_id": run.rule_id,
        "kind": run.kind,
        "tick": format_instant(run.tick_ms),
        "from": format_instant(run.from_ms),
        "to": format_instant(run.to_ms),
        "started": instant(run.started_us),
        "duration_ms": run.duration_ms,
        "delay_ms": run.delay_ms,
        "status": run.status,
        "message": run.message,
        "events": run.events,
        "matches": run.matches,
        "alerts": run.alerts,
        "capped": run.capped,
        "metrics": run.metrics,
    }


def _gap(gap: Gap) -> dict[str, Any]:
    filled = None if gap.filled_to_ms is None else format_instant(gap.filled_to_ms)
    return {
        "id": gap.id,
        "rule_uuid": gap.rule_uuid,
        "rule_id": gap.rule_id,
        "from": format_instant(gap.from_ms),
        "to": format_instant(gap.to_ms),
        "status": gap.status,
        "filled_to": filled,
        "created": instant(gap.created_us),
        "updated": instant(gap.updated_us),
        "message": gap.message,
    }


def _rule(entry: Any, status: Any, latest: dict[str, Run]) -> dict[str, Any]:
    stored: StoredRule = entry.stored
    run = latest.get(stored.id)
    return {
        "id": stored.id,
        "rule_id": stored.rule_id,
        "name": entry.loaded.name or stored.rule_id,
        "source": stored.source,
        "enabled": stored.enabled,
        "revision": stored.revision,
        "status": status.status,
        "reason": status.reason,
        "notes": list(status.notes),
        "last_run": None if run is None else _run(run),
    }


_RUN: Final = obj(
    id=TEXT,
    rule_uuid=TEXT,
    rule_id=TEXT,
    kind=words(*_KINDS),
    tick=INSTANT,
    **{"from": INSTANT},
    to=INSTANT,
    started=INSTANT,
    duration_ms=WHOLE,
    delay_ms={**WHOLE, "description": "How long after it was due it began."},
    status=words(*_STATUSES),
    message=TEXT,
    events={**WHOLE, "description": "Events in its window."},
    matches=WHOLE,
    alerts=WHOLE,
    capped={**WHOLE, "description": "Matches left out because of `max_signals`."},
    metrics=ANYTHING,
)
_GAP: Final = obj(
    id=WHOLE,
    rule_uuid=TEXT,
    rule_id=TEXT,
    **{"from": INSTANT},
    to=INSTANT,
    status=words(*_GAP_STATUSES),
    filled_to=SOME_INSTANT,
    created=INSTANT,
    updated=INSTANT,
    message=TEXT,
)
_RULE: Final = obj(
    id=TEXT,
    rule_id=TEXT,
    name=TEXT,
    source=words("api", "pack", "file"),
    enabled=FLAG,
    revision=WHOLE,
    status=words("ready", "unsupported", "invalid", "disabled"),
    reason=TEXT,
    notes=list_of(TEXT),
    last_run={"oneOf": [_RUN, {"type": "null"}]},
)
_OF_RULE: Final = Parameter("rule", "Only of this rule: its id or its rule_id.", TEXT)
_PAGING: Final = (
    Parameter("limit", "At most so many.", up_to(_MOST, default=100)),
    Parameter("offset", "Leaves out so many before.", WHOLE),
)

ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/api/v1/rules",
        handler=list_rules,
        role="viewer",
        summary="Lists every rule: whether it can run, and if not why, and its last run.",
        tag="runs",
        result=obj(rules=list_of(_RULE)),
    ),
    Endpoint(
        method="POST",
        path="/api/v1/rules/{id}/runs",
        handler=run_by_hand,
        role="engineer",
        summary="Runs a rule over what arrived in a range of time in the past.",
        tag="runs",
        body=form("from", "to", **{"from": DATE}, to=DATE),
        answers={202: "It is queued, under this id."},
        result=obj(id=TEXT),
    ),
    Endpoint(
        method="GET",
        path="/api/v1/manual-runs",
        handler=list_manual,
        role="viewer",
        summary="Lists the runs by hand that are not over, and how far they are.",
        tag="runs",
        result=obj(
            manual_runs=list_of(obj(id=TEXT, rule_uuid=TEXT, next=INSTANT, to=INSTANT, by=TEXT))
        ),
    ),
    Endpoint(
        method="GET",
        path="/api/v1/runs",
        handler=find_runs,
        role="viewer",
        summary="Lists what ran.",
        tag="runs",
        parameters=(
            _OF_RULE,
            Parameter("since", "Only runs that began then or later.", DATE),
            Parameter("until", "Only runs that began then or earlier.", DATE),
            Parameter("status", "Only of this status; may be given several times.", TEXT),
            Parameter("kind", "Only of this kind; may be given several times.", words(*_KINDS)),
            *_PAGING,
            Parameter("order", "By their begin.", words("newest", "oldest")),
        ),
        result=obj(runs=list_of(_RUN), total=WHOLE),
    ),
    Endpoint(
        method="GET",
        path="/api/v1/runs/{id}",
        handler=get_run,
        role="viewer",
        summary="Gives one run.",
        tag="runs",
        result=_RUN,
    ),
    Endpoint(
        method="GET",
        path="/api/v1/gaps",
        handler=find_gaps,
        role="viewer",
        summary="Lists spans of time that no run covered when it was due.",
        tag="runs",
        parameters=(
            _OF_RULE,
            Parameter("since", "Only gaps that end then or later.", DATE),
            Parameter("until", "Only gaps that begin then or earlier.", DATE),
            Parameter("status", "Only of this status; may be given several times.", TEXT),
            *_PAGING,
        ),
        result=obj(gaps=list_of(_GAP)),
    ),
)
