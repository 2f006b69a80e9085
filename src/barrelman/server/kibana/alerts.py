"""Alerts, which this API calls signals: searched and worked on; and their index, such as it is."""

from __future__ import annotations

from typing import Final

from starlette.routing import BaseRoute

from barrelman.server.kibana.calls import Call, JsonObject, route
from barrelman.service.alertdesk import INDEX

_SIGNALS: Final = "/api/detection_engine/signals"
_INDEX: Final = "/api/detection_engine/index"
_ACTS: Final = (
    *(
        "all",
        "create",
        "create_doc",
        "create_index",
        "delete",
        "delete_index",
        "index",
        "maintenance",
    ),
    *("manage", "monitor", "read", "view_index_metadata", "write"),
)
_READING: Final = ("read", "view_index_metadata", "monitor")


def _search(call: Call) -> JsonObject:
    found: JsonObject = call.service.alerts.search(call.json(), clusters=call.clusters)
    return found


def _status(call: Call) -> JsonObject:
    done: JsonObject = call.service.alerts.set_status(
        call.json(), by=call.by, clusters=call.clusters
    )
    return done


def _tags(call: Call) -> JsonObject:
    done: JsonObject = call.service.alerts.set_tags(call.json(), by=call.by, clusters=call.clusters)
    return done


def _assignees(call: Call) -> JsonObject:
    done: JsonObject = call.service.alerts.set_assignees(
        call.json(), by=call.by, clusters=call.clusters
    )
    return done


def _get_index(_call: Call) -> JsonObject:
    return {"name": INDEX, "index_mapping_outdated": False}


def _acknowledge(_call: Call) -> JsonObject:
    """Alerts are kept without an index to make first, and none is taken away by this path."""
    return {"acknowledged": True}


def _privileges(call: Call) -> JsonObject:
    can_write = call.caller.may("analyst")
    acts = {act: can_write or act in _READING for act in _ACTS}
    return {
        "username": call.by,
        "has_all_requested": call.caller.may("engineer"),
        "cluster": {"manage": call.caller.may("admin"), "monitor": True},
        "index": {INDEX: acts},
        "application": {},
        "is_authenticated": True,
        "has_encryption_key": True,
    }


ROUTES: Final[list[BaseRoute]] = [
    route("POST", f"{_SIGNALS}/search", "viewer", _search),
    route("POST", f"{_SIGNALS}/status", "analyst", _status),
    route("POST", f"{_SIGNALS}/tags", "analyst", _tags),
    route("POST", f"{_SIGNALS}/assignees", "analyst", _assignees),
    route("GET", _INDEX, "viewer", _get_index),
    route("POST", _INDEX, "engineer", _acknowledge),
    route("DELETE", _INDEX, "admin", _acknowledge),
    route("GET", "/api/detection_engine/privileges", "viewer", _privileges),
]
