"""What clients ask of the platform before anything else, and what runs and the pack came to."""

from __future__ import annotations

from typing import Final

from starlette.routing import BaseRoute

from barrelman import __version__
from barrelman.errors import RequestShapeError
from barrelman.records.times import parse_instant_us
from barrelman.server.access import check_unbound
from barrelman.server.kibana.calls import VERSION, Call, JsonObject, route
from barrelman.service.executiondesk import Asked, ExecutionDesk
from barrelman.service.rulepackdesk import PackDesk

_RULES: Final = "/api/detection_engine/rules"
_INTERNAL: Final = "/internal/detection_engine"


def _status(call: Call) -> JsonObject:
    """Kibana's own fields; a client reads `version.number` off them."""
    level, summary = "available", "All services are available"
    health = getattr(call.service, "health", None)
    reasons = list(health().reasons) if health is not None else []
    if reasons:
        level, summary = "degraded", reasons[0]
    overall = {"level": level, "summary": summary}
    return {
        "name": "barrelman",
        "uuid": "00000000-0000-4000-8000-000000000000",
        "version": {
            "number": VERSION,
            "build_hash": __version__,
            "build_number": 0,
            "build_snapshot": False,
            "build_flavor": "traditional",
        },
        "status": {"overall": overall, "core": {}, "plugins": {}},
    }


def _spaces(_call: Call) -> list[JsonObject]:
    return [_space()]


def _space() -> JsonObject:
    return {
        "id": "default",
        "name": "Default",
        "description": "Everything this service holds",
        "disabledFeatures": [],
        "_reserved": True,
    }


def _me(call: Call) -> JsonObject:
    return {
        "username": call.by,
        "roles": [call.caller.role],
        "full_name": None,
        "email": None,
        "metadata": {"_reserved": False},
        "enabled": True,
        "authentication_realm": {"name": call.caller.kind, "type": call.caller.kind},
        "lookup_realm": {"name": call.caller.kind, "type": call.caller.kind},
        "authentication_type": "api_key" if call.caller.kind == "key" else "realm",
        "authentication_provider": {"type": "http", "name": "__http__"},
        "elastic_cloud_user": False,
        "profile_uid": call.by,
    }


def _logout(_call: Call) -> JsonObject:
    """There are no sessions: a key is good until it is revoked."""
    return {"acknowledged": True}


def _pack_status(call: Call) -> JsonObject:
    return PackDesk(call.service.rules).status()


def _pack_stats(call: Call) -> JsonObject:
    return PackDesk(call.service.rules).stats()


def _install(call: Call) -> JsonObject:
    return PackDesk(call.service.rules).install(by=call.by)


def _asked(call: Call) -> Asked:
    bounds = []
    for name in ("start", "end"):
        text = call.text(name)
        instant = parse_instant_us(text) if text else None
        if text and instant is None:
            raise RequestShapeError(f"[request query]: {name}: expected a date")
        bounds.append(instant)
    page, per_page = call.number("page", 1), call.number("per_page", 20)
    if page < 1 or per_page > 10_000:
        raise RequestShapeError("[request query]: page from 1, per_page up to 10000")
    return Asked(
        since_us=bounds[0],
        until_us=bounds[1],
        statuses=call.texts("status_filters"),
        kinds=call.texts("run_type_filters"),
        sort_field=call.text("sort_field") or "timestamp",
        newest_first=call.order(default="desc") == "desc",
        page=page,
        per_page=per_page,
    )


def _events(call: Call) -> JsonObject:
    check_unbound(call.caller, "runs")
    desk = ExecutionDesk(call.service.rules.database)
    return desk.events(call.path["id"], _asked(call), levels=call.texts("log_levels"))


def _results(call: Call) -> JsonObject:
    check_unbound(call.caller, "runs")
    desk = ExecutionDesk(call.service.rules.database)
    return desk.results(call.path["id"], _asked(call))


ROUTES: Final[list[BaseRoute]] = [
    route("GET", "/api/status", "viewer", _status),
    route("GET", "/api/spaces/space", "viewer", _spaces),
    route("GET", "/internal/security/me", "viewer", _me),
    route("GET", "/logout", "viewer", _logout),
    route("PUT", f"{_RULES}/prepackaged", "engineer", _install),
    route("GET", f"{_RULES}/prepackaged/_status", "viewer", _pack_status),
    route("GET", f"{_INTERNAL}/prebuilt_rules/status", "viewer", _pack_stats),
    route("GET", f"{_INTERNAL}/rules/{{id}}/execution/events", "viewer", _events),
    route("GET", f"{_INTERNAL}/rules/{{id}}/execution/results", "viewer", _results),
]
