"""Value lists and the values in them."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response
from starlette.routing import BaseRoute

from barrelman.errors import RequestShapeError
from barrelman.server.kibana.calls import Call, JsonObject, file_answer, route
from barrelman.server.kibana.uploads import read_upload

_LISTS: Final = "/api/lists"
_LIST_INDEX: Final = ".lists-default"
_ITEM_INDEX: Final = ".items-default"


def _desk(call: Call) -> Any:
    return call.service.exceptions.values


def _create(call: Call) -> JsonObject:
    made: JsonObject = _desk(call).create(call.json(), by=call.by)
    return made


def _get(call: Call) -> JsonObject:
    found: JsonObject = _desk(call).get(call.needed("id"))
    return found


def _replace(call: Call) -> JsonObject:
    made: JsonObject = _desk(call).update(call.json(), by=call.by, is_whole=True)
    return made


def _patch(call: Call) -> JsonObject:
    made: JsonObject = _desk(call).update(call.json(), by=call.by, is_whole=False)
    return made


def _delete(call: Call) -> JsonObject:
    gone: JsonObject = _desk(call).delete(
        call.needed("id"),
        by=call.by,
        with_references=call.flag("deleteReferences"),
        in_spite_of_references=call.flag("ignoreReferences"),
    )
    return gone


def _pages(call: Call) -> dict[str, int]:
    page, per_page = call.number("page", 1), call.number("per_page", 20)
    if not page >= 1 or not per_page <= 10_000:
        raise RequestShapeError("[request query]: page from 1, per_page up to 10000")
    return {"page": page, "per_page": per_page}


def _find(call: Call) -> JsonObject:
    found: JsonObject = _desk(call).find(**_pages(call))
    return found


def _add(call: Call) -> JsonObject:
    made: JsonObject = _desk(call).add(call.json(), by=call.by)
    return made


def _get_value(call: Call) -> JsonObject | list[JsonObject]:
    found: JsonObject | list[JsonObject]
    if call.text("id"):
        found = _desk(call).get_value(id=call.text("id"))
    else:
        found = _desk(call).look_up(list_id=call.needed("list_id"), value=call.needed("value"))
    return found


def _update_value(call: Call) -> JsonObject:
    made: JsonObject = _desk(call).update_value(call.json(), by=call.by)
    return made


def _remove(call: Call) -> JsonObject | list[JsonObject]:
    gone: JsonObject | list[JsonObject] = _desk(call).remove(
        id=call.text("id"), list_id=call.text("list_id"), value=call.text("value"), by=call.by
    )
    return gone


def _find_values(call: Call) -> JsonObject:
    found: JsonObject = _desk(call).find_values(call.needed("list_id"), **_pages(call))
    return found


def _export(call: Call) -> Response:
    name = call.needed("list_id")
    text: str = _desk(call).export(name)
    return file_answer(text.encode("utf-8", "replace"), file_name=name)


def _import(call: Call) -> JsonObject:
    upload = read_upload(call.body, content_type=call.content_type)
    if not upload.name and not call.text("list_id"):
        raise RequestShapeError("[request query]: expected list_id, or a file with a name")
    made: JsonObject = _desk(call).import_values(
        upload.content.decode("utf-8", "replace"),
        list_id=call.text("list_id"),
        list_type=call.text("type"),
        file_name=upload.name or call.needed("list_id"),
        by=call.by,
    )
    return made


def _get_index(_call: Call) -> JsonObject:
    return {"list_index": True, "list_item_index": True}


def _acknowledge(_call: Call) -> JsonObject:
    """Lists are kept without an index to make first, and none is taken away by this path."""
    return {"acknowledged": True}


def _privileges(call: Call) -> JsonObject:
    can_write = call.caller.may("engineer")
    acts = {"read": True, "write": can_write, "create": can_write, "delete": can_write}

    def of(index: str) -> JsonObject:
        return {
            "username": call.by,
            "has_all_requested": can_write,
            "cluster": {},
            "index": {index: acts},
            "application": {},
        }

    return {"listItems": of(_ITEM_INDEX), "lists": of(_LIST_INDEX), "is_authenticated": True}


ROUTES: Final[list[BaseRoute]] = [
    route("GET", f"{_LISTS}/_find", "viewer", _find),
    route("GET", f"{_LISTS}/index", "viewer", _get_index),
    route("POST", f"{_LISTS}/index", "engineer", _acknowledge),
    route("DELETE", f"{_LISTS}/index", "admin", _acknowledge),
    route("GET", f"{_LISTS}/privileges", "viewer", _privileges),
    route("GET", f"{_LISTS}/items/_find", "viewer", _find_values),
    route("POST", f"{_LISTS}/items/_export", "viewer", _export),
    route("POST", f"{_LISTS}/items/_import", "engineer", _import, takes_files=True),
    route("POST", f"{_LISTS}/items", "engineer", _add),
    route("GET", f"{_LISTS}/items", "viewer", _get_value),
    route("PUT", f"{_LISTS}/items", "engineer", _update_value),
    route("PATCH", f"{_LISTS}/items", "engineer", _update_value),
    route("DELETE", f"{_LISTS}/items", "engineer", _remove),
    route("POST", _LISTS, "engineer", _create),
    route("GET", _LISTS, "viewer", _get),
    route("PUT", _LISTS, "engineer", _replace),
    route("PATCH", _LISTS, "engineer", _patch),
    route("DELETE", _LISTS, "engineer", _delete),
]
