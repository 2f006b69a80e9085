"""Exception lists and their items."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response
from starlette.routing import BaseRoute

from barrelman.errors import RequestShapeError
from barrelman.server.kibana.calls import Call, JsonObject, lines_answer, route
from barrelman.server.kibana.uploads import read_upload
from barrelman.service.exceptionchanges import Which
from barrelman.service.exceptionshape import NAMESPACES, split_names
from barrelman.service.pages import Page
from barrelman.service.ruleimport import Importer, Options

_LISTS: Final = "/api/exception_lists"


def _which(call: Call, name: str) -> Which:
    namespace = call.text("namespace_type") or "single"
    split_names(namespace, NAMESPACES)
    return Which(call.text("id"), call.text(name), namespace)


def _page(call: Call) -> Page:
    return Page(
        filter=" and ".join(f"({each})" for each in call.query.getlist("filter") if each.strip()),
        search=call.text("search") or "",
        sort_field=call.text("sort_field"),
        sort_order=call.order(),
        page=call.number("page", 1),
        per_page=call.number("per_page", 20),
    )


# --- lists ---------------------------------------------------------------------------------


def _create_list(call: Call) -> JsonObject:
    made: JsonObject = call.service.exceptions.create_list(call.json(), by=call.by)
    return made


def _get_list(call: Call) -> JsonObject:
    found: JsonObject = call.service.exceptions.get_list(_which(call, "list_id"))
    return found


def _replace_list(call: Call) -> JsonObject:
    made: JsonObject = call.service.exceptions.replace_list(call.json(), by=call.by)
    return made


def _delete_list(call: Call) -> JsonObject:
    gone: JsonObject = call.service.exceptions.delete_list(_which(call, "list_id"), by=call.by)
    return gone


def _find_lists(call: Call) -> JsonObject:
    found: JsonObject = call.service.exceptions.find_lists(
        _page(call), namespace_types=split_names(call.text("namespace_type"), NAMESPACES)
    )
    return found


def _export(call: Call) -> Response:
    lines = call.service.exceptions.export(
        _which(call, "list_id"),
        with_expired=call.flag("include_expired_exceptions", default=True),
    )
    name = call.text("list_id") or call.text("id") or "exception_list"
    return lines_answer(lines, file_name=f"{name}.ndjson")


def _import(call: Call) -> JsonObject:
    upload = read_upload(call.body, content_type=call.content_type)
    options = Options(
        overwrite_exceptions=call.flag("overwrite"), as_new_list=call.flag("as_new_list")
    )
    return Importer(call.service.rules).run_lists(upload.content, options, by=call.by)


def _duplicate(call: Call) -> JsonObject:
    made: JsonObject = call.service.exceptions.duplicate_list(
        list_id=call.needed("list_id"),
        namespace_type=call.text("namespace_type") or "single",
        with_expired=call.flag("include_expired_exceptions", default=True),
        by=call.by,
    )
    return made


def _summary(call: Call) -> JsonObject:
    found: JsonObject = call.service.exceptions.summary(_which(call, "list_id"))
    return found


def _create_shared(call: Call) -> JsonObject:
    made: JsonObject = call.service.exceptions.create_shared(call.json(), by=call.by)
    return made


# --- items ---------------------------------------------------------------------------------


def _create_item(call: Call) -> JsonObject:
    made: JsonObject = call.service.exceptions.create_item(call.json(), by=call.by)
    return made


def _get_item(call: Call) -> JsonObject:
    found: JsonObject = call.service.exceptions.get_item(_which(call, "item_id"))
    return found


def _replace_item(call: Call) -> JsonObject:
    made: JsonObject = call.service.exceptions.replace_item(call.json(), by=call.by)
    return made


def _delete_item(call: Call) -> JsonObject:
    gone: JsonObject = call.service.exceptions.delete_item(_which(call, "item_id"), by=call.by)
    return gone


def _find_items(call: Call) -> JsonObject:
    list_ids = call.texts("list_id")
    if not list_ids:
        raise RequestShapeError("[request query]: list_id: Required")
    found: JsonObject = call.service.exceptions.find_items(
        _page(call),
        list_ids=list_ids,
        namespace_types=split_names(call.text("namespace_type"), NAMESPACES),
    )
    return found


ROUTES: Final[list[BaseRoute]] = [
    route("GET", f"{_LISTS}/_find", "viewer", _find_lists),
    route("POST", f"{_LISTS}/_export", "viewer", _export),
    route("POST", f"{_LISTS}/_import", "engineer", _import, takes_files=True),
    route("POST", f"{_LISTS}/_duplicate", "engineer", _duplicate),
    route("GET", f"{_LISTS}/summary", "viewer", _summary),
    route("GET", f"{_LISTS}/items/_find", "viewer", _find_items),
    route("POST", f"{_LISTS}/items", "engineer", _create_item),
    route("GET", f"{_LISTS}/items", "viewer", _get_item),
    route("PUT", f"{_LISTS}/items", "engineer", _replace_item),
    route("DELETE", f"{_LISTS}/items", "engineer", _delete_item),
    route("POST", _LISTS, "engineer", _create_list),
    route("GET", _LISTS, "viewer", _get_list),
    route("PUT", _LISTS, "engineer", _replace_list),
    route("DELETE", _LISTS, "engineer", _delete_list),
    route("POST", "/api/exceptions/shared", "engineer", _create_shared),
]
