"""`/api/v1/keys`, `/api/v1/audit`, `/api/v1/whoami`: who may ask, and who did what."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response

from barrelman.server.access import ROLES, Caller, caller_of, check_unbound
from barrelman.server.asked import Asked, instant
from barrelman.server.endpoints import Endpoint, Parameter
from barrelman.server.own.replies import blocking, given, reply
from barrelman.server.own.schemas import (
    ANYTHING,
    CLUSTERS,
    DATE,
    INSTANT,
    ROLE,
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
from barrelman.store import keys as table
from barrelman.store.keys import ApiKey, MadeKey

if TYPE_CHECKING:
    from barrelman.store.database import Connection

_MOST: Final = 1000


async def list_keys(request: Request) -> Response:
    Asked(request, known=())
    service = request.app.state.service
    found = await blocking(request, partial(service.database.read, table.all_keys))
    now_us, caller = service.clock.now_us(), caller_of(request)
    return reply({"keys": [_shown(each, now_us) for each in found if _is_within(each, caller)]})


def _is_within(key: ApiKey, caller: Caller) -> bool:
    """Whether a key opens nothing that its reader may not see."""
    if caller.clusters is None:
        return True
    return key.clusters is not None and set(key.clusters) <= caller.clusters


async def create_key(request: Request) -> Response:
    body = await given(request, known=("name", "role", "clusters", "expires"))
    name = body.text("name", is_required=True)
    role = body.choice("role", ROLES, is_required=True)
    clusters, expires_ms = body.texts("clusters"), body.instant_ms("expires")
    caller, service = caller_of(request), request.app.state.service
    if caller.clusters is not None and not (clusters and set(clusters) <= caller.clusters):
        raise RefusedError("who is bound to clusters can make keys for these alone", status=403)
    by, now_us = caller.name, service.clock.now_us()

    def write(connection: Connection) -> MadeKey:
        made = table.create(
            connection,
            name=str(name),
            role=role,
            clusters=clusters,
            expires_us=None if expires_ms is None else expires_ms * 1000,
            now_us=now_us,
            by=by,
        )
        detail = {"id": made.key.id, "role": role, "clusters": clusters}
        audit.note(
            connection,
            at_us=now_us,
            by=by,
            action="key.create",
            target=made.key.name,
            detail=detail,
        )
        return made

    made = await blocking(request, partial(service.database.write, write))
    request.app.state.access.forget()
    shown = _shown(made.key, now_us) | {"encoded": made.encoded, "token": made.token}
    return reply(shown, status=201)


async def revoke_key(request: Request) -> Response:
    service, caller = request.app.state.service, caller_of(request)
    by = caller.name
    now_us, key_id = service.clock.now_us(), request.path_params["id"]

    def write(connection: Connection) -> ApiKey | None:
        key = table.find(connection, key_id)
        if key is None or not _is_within(key, caller):
            return None
        if not table.revoke(connection, key.id, now_us=now_us):
            return None
        audit.note(
            connection,
            at_us=now_us,
            by=by,
            action="key.revoke",
            target=key.name,
            detail={"id": key.id},
        )
        return key

    key = await blocking(request, partial(service.database.write, write))
    if key is None:
        raise RefusedError(f"there is no key {key_id[:100]} that is not revoked", status=404)
    request.app.state.access.forget()
    return reply({"revoked": key.id})


async def find_audit(request: Request) -> Response:
    check_unbound(caller_of(request), "the entries of the audit trail")
    asked = Asked(
        request, known=("since", "until", "by", "action", "target", "limit", "offset", "order")
    )
    order = (asked.one_of("order", ("newest", "oldest")) or ["newest"])[0]
    filters: dict[str, Any] = {
        "since_us": asked.instant_us("since"),
        "until_us": asked.instant_us("until", is_end=True),
        "by": asked.text("by") or None,
        "actions": asked.words("action") or None,
        "target": asked.text("target") or None,
    }
    limit = asked.number("limit", 100, least=1, most=_MOST)
    offset = asked.number("offset", 0, most=10**9)

    def read(connection: Connection) -> dict[str, Any]:
        found = audit.find(
            connection, newest_first=order == "newest", limit=limit, offset=offset, **filters
        )
        entries = [
            {
                "id": each.id,
                "at": instant(each.at_us),
                "by": each.by,
                "action": each.action,
                "target": each.target,
                "detail": each.detail,
            }
            for each in found
        ]
        return {"entries": entries, "total": audit.count(connection, **filters)}

    return reply(await blocking(request, partial(request.app.state.service.database.read, read)))


async def who_am_i(request: Request) -> Response:
    caller = caller_of(request)
    clusters = None if caller.clusters is None else sorted(caller.clusters)
    return reply(
        {"name": caller.name, "kind": caller.kind, "role": caller.role, "clusters": clusters}
    )


def _shown(key: ApiKey, now_us: int) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "clusters": None if key.clusters is None else list(key.clusters),
        "created": instant(key.created_us),
        "created_by": key.created_by,
        "expires": instant(key.expires_us),
        "revoked": instant(key.revoked_us),
        "last_used": instant(key.last_used_us),
        "valid": key.is_valid(now_us),
    }


_KEY: Final = obj(
    id=TEXT,
    name=TEXT,
    role=ROLE,
    clusters=CLUSTERS,
    created=INSTANT,
    created_by=TEXT,
    expires=SOME_INSTANT,
    revoked=SOME_INSTANT,
    last_used=SOME_INSTANT,
    valid={"type": "boolean"},
)
_MADE: Final = {
    **_KEY,
    "properties": {
        **_KEY["properties"],
        "encoded": {**TEXT, "description": "For `Authorization: ApiKey …`. Shown this once."},
        "token": {**TEXT, "description": "For `Authorization: Bearer …`. Shown this once."},
    },
}
_ENTRY: Final = obj(id=WHOLE, at=INSTANT, by=TEXT, action=TEXT, target=TEXT, detail=ANYTHING)

ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/api/v1/keys",
        handler=list_keys,
        role="admin",
        summary="Lists the API keys, those included that are no longer good.",
        tag="access",
        result=obj(keys=list_of(_KEY)),
    ),
    Endpoint(
        method="POST",
        path="/api/v1/keys",
        handler=create_key,
        role="admin",
        summary="Makes an API key, whose secret is shown this once.",
        tag="access",
        body=form("name", "role", name=TEXT, role=ROLE, clusters=list_of(TEXT), expires=DATE),
        answers={201: "It is made."},
        result=_MADE,
    ),
    Endpoint(
        method="DELETE",
        path="/api/v1/keys/{id}",
        handler=revoke_key,
        role="admin",
        summary="Revokes an API key, by its id or its name. It stays listed.",
        tag="access",
        result=obj(revoked=TEXT),
    ),
    Endpoint(
        method="GET",
        path="/api/v1/audit",
        handler=find_audit,
        role="admin",
        summary="Lists every change that was made, and by whom.",
        tag="access",
        parameters=(
            Parameter("since", "Only changes made then or later.", DATE),
            Parameter("until", "Only changes made then or earlier.", DATE),
            Parameter("by", "Only of this person, key or part of the service.", TEXT),
            Parameter("action", "Only of this kind; may be given several times.", TEXT),
            Parameter("target", "Only of this object.", TEXT),
            Parameter("limit", "At most so many.", up_to(_MOST, default=100)),
            Parameter("offset", "Leaves out so many before.", WHOLE),
            Parameter("order", "By time.", words("newest", "oldest")),
        ),
        result=obj(entries=list_of(_ENTRY), total=WHOLE),
    ),
    Endpoint(
        method="GET",
        path="/api/v1/whoami",
        handler=who_am_i,
        role=None,
        summary="Says who the service takes the caller for.",
        tag="access",
        result=obj(name=TEXT, kind=TEXT, role=TEXT, clusters=CLUSTERS),
    ),
)
