"""`/api/v1/alerts`: alerts in a plain form, and what people make of them."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from barrelman.server.access import Caller, caller_of
from barrelman.server.asked import Asked, Given, instant, wrong
from barrelman.server.endpoints import Endpoint, Parameter
from barrelman.server.own.replies import blocking, given, reply
from barrelman.server.own.schemas import (
    ANYTHING,
    DATE,
    FLAG,
    INSTANT,
    NEXT,
    NUMBER,
    SOME_INSTANT,
    SOME_TEXT,
    TEXT,
    WHOLE,
    form,
    list_of,
    obj,
    up_to,
    words,
)
from barrelman.server.problems import RefusedError
from barrelman.store import alerts as table
from barrelman.store import audit
from barrelman.store.alerts import StoredAlert

if TYPE_CHECKING:
    from barrelman.store.database import Connection

_MOST: Final = 1000
_MOST_CHANGED: Final = 10_000
_MOST_NAMED: Final = 100
_STATUSES: Final = ("open", "acknowledged", "closed")
_SEVERITIES: Final = ("low", "medium", "high", "critical")
_KINDS: Final = ("live", "scheduled", "catch-up", "manual", "gap", "watchdog")
_ASKED: Final = ("since", "until", "rule", "severity", "status", "cluster", "kind", "group")


async def search(request: Request) -> Response:
    asked = Asked(request, known=(*_ASKED, "limit", "after", "order"))
    order = (asked.one_of("order", ("newest", "oldest")) or ["newest"])[0]
    limit = asked.number("limit", 100, least=1, most=_MOST)
    after = _after(asked.text("after"))
    filters = _filters(request, asked)

    def read(connection: Connection) -> list[StoredAlert]:
        return list(
            table.select(
                connection,
                newest_first=order == "newest",
                limit=limit,
                after=after,
                **filters,
            )
        )

    found = await blocking(request, partial(_database(request).read, read))
    last = found[-1] if len(found) == limit else None
    following = f"{last.created_us}-{last.id}" if last else None
    return reply({"alerts": [_shown(each) for each in found], "next": following})


async def count(request: Request) -> Response:
    asked = Asked(request, known=_ASKED)
    filters = _filters(request, asked)

    def read(connection: Connection) -> dict[str, Any]:
        return {
            "total": table.count(connection, **filters),
            "by_status": table.tally(connection, "status", **filters),
            "by_severity": table.tally(connection, "severity", **filters),
        }

    return reply(await blocking(request, partial(_database(request).read, read)))


async def get(request: Request) -> Response:
    def read(connection: Connection) -> dict[str, Any]:
        alert = _seen(connection, request)
        return {**_shown(alert), "document": alert.merged()}

    return reply(await blocking(request, partial(_database(request).read, read)))


async def list_history(request: Request) -> Response:
    def read(connection: Connection) -> list[dict[str, Any]]:
        return [
            {
                "at": instant(each.at_us),
                "by": each.by,
                "what": each.what,
                "before": each.before,
                "after": each.after,
                "reason": each.reason,
            }
            for each in table.history(connection, _seen(connection, request).id)
        ]

    return reply({"history": await blocking(request, partial(_database(request).read, read))})


async def list_notes(request: Request) -> Response:
    def read(connection: Connection) -> list[dict[str, Any]]:
        return [
            {"id": each.id, "at": instant(each.at_us), "by": each.by, "text": each.text}
            for each in table.notes(connection, _seen(connection, request).id)
        ]

    return reply({"notes": await blocking(request, partial(_database(request).read, read))})


async def add_note(request: Request) -> Response:
    body = await given(request, known=("text",))
    text = body.text("text", is_required=True)
    changed = await _change(request, [request.path_params["id"]], "alert.note", note=text)
    if not changed:
        raise _unknown(request.path_params["id"])
    return reply({"changed": changed}, status=201)


async def set_status(request: Request) -> Response:
    body = await given(request, known=("ids", "status", "reason"))
    status = body.choice("status", _STATUSES, is_required=True)
    reason = body.text("reason")
    if reason is not None and status != "closed":
        raise wrong("reason", "is for a status of closed")
    changed = await _change(request, _ids(body), "alert.status", status=status, reason=reason)
    return reply({"changed": changed})


async def set_tags(request: Request) -> Response:
    body = await given(request, known=("ids", "add", "remove"))
    add, remove = body.texts("add") or [], body.texts("remove") or []
    changed = await _change(request, _ids(body), "alert.tags", add_tags=add, remove_tags=remove)
    return reply({"changed": changed})


async def set_assignees(request: Request) -> Response:
    body = await given(request, known=("ids", "add", "remove"))
    add, remove = body.texts("add") or [], body.texts("remove") or []
    changed = await _change(
        request, _ids(body), "alert.assignees", add_assignees=add, remove_assignees=remove
    )
    return reply({"changed": changed})


async def _change(request: Request, ids: Collection[str], action: str, **changes: Any) -> list[str]:
    """Of these alerts, those that the caller sees; gives what was changed."""
    caller, now_us = caller_of(request), request.app.state.service.clock.now_us()

    def write(connection: Connection) -> list[str]:
        seen = _those_seen(connection, caller, ids)
        changed = table.change(connection, seen, by=caller.name, at_us=now_us, **changes)
        if changed:
            audit.note(
                connection,
                at_us=now_us,
                by=caller.name,
                action=action,
                target=changed[0] if len(changed) == 1 else f"{len(changed)} alerts",
                detail={**changes, "ids": changed[:_MOST_NAMED]},
            )
        return changed

    return await blocking(request, partial(_database(request).write, write))


def _those_seen(connection: Connection, caller: Caller, ids: Collection[str]) -> list[str]:
    if caller.clusters is None:
        return list(ids)
    return [each.id for each in table.select(connection, ids=ids, clusters=caller.clusters)]


def _seen(connection: Connection, request: Request) -> StoredAlert:
    """One of a cluster that the caller does not see is one that there is not."""
    alert = table.get(connection, request.path_params["id"])
    if alert is None or not caller_of(request).sees(alert.cluster):
        raise _unknown(request.path_params["id"])
    return alert


def _unknown(alert_id: str) -> RefusedError:
    return RefusedError(f"there is no alert {alert_id[:100]}", status=404)


def _database(request: Request) -> Any:
    return request.app.state.service.database


def _filters(request: Request, asked: Asked) -> dict[str, Any]:
    rules = asked.words("rule") or None
    return {
        "created_us": (asked.instant_us("since"), asked.instant_us("until", is_end=True)),
        "rule_ids": rules,
        "severities": asked.one_of("severity", _SEVERITIES),
        "statuses": asked.one_of("status", _STATUSES),
        "kinds": asked.one_of("kind", _KINDS),
        "groups": asked.words("group") or None,
        "clusters": caller_of(request).clusters_of(asked.words("cluster")),
    }


def _ids(body: Given) -> list[str]:
    ids = body.texts("ids", most=_MOST_CHANGED)
    if not ids:
        raise wrong("ids", "must name at least one alert")
    return ids


def _after(text: str) -> tuple[int, str] | None:
    if not text:
        return None
    created, between, alert_id = text.partition("-")
    if not (between and created.isascii() and created.isdigit() and len(created) < 20):
        raise wrong("after", "is not what an answer called `next`")
    return int(created), alert_id


def _shown(alert: StoredAlert) -> dict[str, Any]:
    return {
        "id": alert.id,
        "kind": alert.kind,
        "rule_uuid": alert.rule_uuid,
        "rule_id": alert.rule_id,
        "rule_name": alert.rule_name,
        "severity": alert.severity,
        "risk_score": alert.risk_score,
        "cluster": alert.cluster,
        "created": instant(alert.created_us),
        "event_time": instant(alert.event_time_us),
        "group": alert.group_id,
        "building_block": alert.building_block,
        "message": json.loads(alert.document).get("kibana.alert.reason"),
        "status": alert.status,
        "status_updated": instant(alert.status_updated_us),
        "status_by": alert.status_by,
        "reason": alert.reason,
        "tags": alert.tags,
        "assignees": alert.assignees,
    }


_ALERT: Final = obj(
    id=TEXT,
    kind=words(*_KINDS),
    rule_uuid=TEXT,
    rule_id=TEXT,
    rule_name=TEXT,
    severity=words(*_SEVERITIES),
    risk_score=NUMBER,
    cluster=TEXT,
    created=INSTANT,
    event_time=SOME_INSTANT,
    group={**SOME_TEXT, "description": "Of a sequence, the id of the alert on the whole."},
    building_block={**FLAG, "description": "It tells something only with others."},
    message={**SOME_TEXT, "description": "Who did what, in a sentence."},
    status=words(*_STATUSES),
    status_updated=SOME_INSTANT,
    status_by=SOME_TEXT,
    reason={**SOME_TEXT, "description": "Why it was closed."},
    tags=list_of(TEXT),
    assignees=list_of(TEXT),
)
_CHANGE: Final = obj(
    at=INSTANT,
    by=TEXT,
    what=words("status", "tags", "assignees", "note"),
    before={},
    after={},
    reason=SOME_TEXT,
)
_NOTE: Final = obj(id=WHOLE, at=INSTANT, by=TEXT, text=TEXT)
_CHANGED: Final = obj(changed={**list_of(TEXT), "description": "Those that this changed."})


async def follow_link(request: Request) -> Response:
    """The link in messages to people: it stays, wherever an alert is shown."""
    return RedirectResponse(f"/api/v1/alerts/{quote(request.path_params['id'], safe='')}")


_LISTED: Final = form("ids", ids=list_of(TEXT), add=list_of(TEXT), remove=list_of(TEXT))
_FILTERS: Final = (
    Parameter("since", "Only alerts made then or later.", DATE),
    Parameter("until", "Only alerts made then or earlier.", DATE),
    Parameter("rule", "Only of the rule of this rule_id; may be given several times.", TEXT),
    Parameter("severity", "Only so grave; may be given several times.", words(*_SEVERITIES)),
    Parameter("status", "Only of this status; may be given several times.", words(*_STATUSES)),
    Parameter("cluster", "Only of this cluster; may be given several times.", TEXT),
    Parameter("kind", "Only of this kind; may be given several times.", words(*_KINDS)),
    Parameter("group", "Only of the sequence whose alert has this id.", TEXT),
)


def _endpoint(method: Any, path: str, handler: Any, summary: str, **more: Any) -> Endpoint:
    return Endpoint(
        method=method,
        path=f"/api/v1/alerts{path}",
        handler=handler,
        role=more.pop("role", "viewer" if method == "GET" else "analyst"),
        summary=summary,
        tag="alerts",
        **more,
    )


ENDPOINTS: Final = (
    _endpoint(
        "GET",
        "",
        search,
        "Lists alerts.",
        parameters=(
            *_FILTERS,
            Parameter("limit", "At most so many.", up_to(_MOST, default=100)),
            Parameter("after", "What a former answer called `next`.", TEXT),
            Parameter("order", "By when they were made.", words("newest", "oldest")),
        ),
        result=obj(alerts=list_of(_ALERT), next=NEXT),
    ),
    _endpoint(
        "GET",
        "/count",
        count,
        "Counts alerts, in all and by status and severity.",
        parameters=_FILTERS,
        result=obj(total=WHOLE, by_status=ANYTHING, by_severity=ANYTHING),
    ),
    _endpoint(
        "GET",
        "/{id}",
        get,
        "Gives one alert with its whole document.",
        result={
            **_ALERT,
            "properties": {**_ALERT["properties"], "document": ANYTHING},
            "required": [*_ALERT["required"], "document"],
        },
    ),
    _endpoint(
        "GET",
        "/{id}/history",
        list_history,
        "Lists who changed what of an alert, the oldest first.",
        result=obj(history=list_of(_CHANGE)),
    ),
    _endpoint(
        "GET",
        "/{id}/notes",
        list_notes,
        "Lists what was written about an alert, the oldest first.",
        result=obj(notes=list_of(_NOTE)),
    ),
    _endpoint(
        "POST",
        "/{id}/notes",
        add_note,
        "Writes a note about an alert.",
        body=form("text", text=TEXT),
        answers={201: "It is written."},
        result=_CHANGED,
    ),
    _endpoint(
        "POST",
        "/status",
        set_status,
        "Opens, acknowledges or closes alerts.",
        body=form("ids", "status", ids=list_of(TEXT), status=words(*_STATUSES), reason=TEXT),
        result=_CHANGED,
    ),
    _endpoint(
        "POST",
        "/tags",
        set_tags,
        "Adds tags to alerts, and takes some away.",
        body=_LISTED,
        result=_CHANGED,
    ),
    _endpoint(
        "POST",
        "/assignees",
        set_assignees,
        "Assigns alerts to people, and takes some off.",
        body=_LISTED,
        result=_CHANGED,
    ),
    Endpoint(
        method="GET",
        path="/alerts/{id}",
        handler=follow_link,
        role=None,
        summary="Leads on to an alert: the link in messages to people.",
        tag="alerts",
        answers={307: "Where it is."},
    ),
)
