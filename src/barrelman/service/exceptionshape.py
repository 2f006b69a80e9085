"""Exception lists and items as the API takes them and gives them."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Collection, Iterable
from typing import Any, Final, TypeAlias

from barrelman.errors import ConflictError, RequestShapeError
from barrelman.records.times import format_instant
from barrelman.rules.exceptions import read_item
from barrelman.rules.locate import JsonLocator, Source, Spot
from barrelman.rules.rule import ID_NAMESPACE
from barrelman.rules.schema import Field, Free, Integer, ListOf, Problem, String, Table
from barrelman.rules.shape import LIST_TYPES
from barrelman.store.exceptions import StoredItem, StoredList

JsonObject: TypeAlias = dict[str, Any]

NAMESPACES: Final = ("single", "agnostic")
_NAME: Final = String(least=1)
_TEXTS: Final = ListOf(String())
_OS_TYPES: Final = ListOf(String(choices=("linux", "macos", "windows")))
_LIST: Final = Table(
    {
        "list_id": Field(_NAME),
        "name": Field(_NAME, required=True),
        "description": Field(String(), required=True),
        "type": Field(String(choices=LIST_TYPES), required=True),
        "namespace_type": Field(String(choices=NAMESPACES), default="single"),
        "tags": Field(_TEXTS, default=[]),
        "os_types": Field(_OS_TYPES, default=[]),
        "meta": Field(Free()),
        "version": Field(Integer(1), default=1),
    }
)
_ITEM: Final = Table(
    {
        "list_id": Field(_NAME),
        "item_id": Field(_NAME),
        "type": Field(String(choices=("simple",)), required=True),
        "name": Field(_NAME, required=True),
        "description": Field(String(), required=True),
        "namespace_type": Field(String(choices=NAMESPACES), default="single"),
        "tags": Field(_TEXTS, default=[]),
        "os_types": Field(_OS_TYPES, default=[]),
        "comments": Field(ListOf(Free()), default=[]),
        "meta": Field(Free()),
        "expire_time": Field(String()),
    }
)
_COLUMNS: Final = frozenset(("list_id", "item_id", "type", "namespace_type", "version"))
"""What a stored list or item has beside its params."""
_NOWHERE: Final = Spot(JsonLocator(Source("{}", path="")))


def _checked(table: Table, data: object) -> JsonObject:
    if not isinstance(data, dict):
        raise RequestShapeError("[request body]: expected an object")
    problems: list[Problem] = []
    fields: JsonObject = table.check(data, (), problems)
    if problems:
        raise RequestShapeError("[request body]: " + ", ".join(each.message for each in problems))
    return fields


def check_list(data: object) -> JsonObject:
    """The fields of a list in a request. Raises RequestShapeError."""
    return _checked(_LIST, data)


def check_item(data: object, *, list_id: str | None = None) -> JsonObject:
    """The fields of an item in a request; `list_id` where the item need not say it."""
    fields = _checked(_ITEM, data)
    assert isinstance(data, dict)  # or it would have been refused
    fields["list_id"] = fields.get("list_id") or list_id
    if not fields["list_id"]:
        raise RequestShapeError("[request body]: list_id: missing, and it is required")
    item, errors = read_item({**data, "list_id": fields["list_id"]}, spot=_NOWHERE)
    if item is None:
        messages = ", ".join(error.message.partition(": ")[2] for error in errors)
        raise RequestShapeError(f"[request body]: {messages}")
    fields["entries"] = list(item.entries)
    if item.expire_ms is not None:
        fields["expire_time"] = format_instant(item.expire_ms)
    return fields


def params_of(fields: JsonObject) -> JsonObject:
    """What of checked fields is stored as it was written."""
    return {name: value for name, value in fields.items() if name not in _COLUMNS}


def new_comments(
    given: Iterable[Any], known: Iterable[JsonObject], *, by: str, now_us: int
) -> list[JsonObject]:
    """The comments of an item after a change: those known keep who wrote them, and when."""
    by_id = {each["id"]: each for each in known}
    made = []
    for each in given:
        text = each.get("comment") if isinstance(each, dict) else each
        if not isinstance(text, str) or not text.strip():
            raise RequestShapeError("[request body]: comments: expected {comment: text}")
        old = by_id.get(each.get("id")) if isinstance(each, dict) else None
        if old is not None:
            made.append({**old, "comment": text})
        else:
            made.append(
                {
                    "comment": text,
                    "created_at": format_instant(now_us // 1000),
                    "created_by": by,
                    "id": str(uuid.uuid4()),
                }
            )
    return made


def show_list(stored: StoredList) -> JsonObject:
    """A list as the API gives it."""
    return {
        "_version": version_token(stored.version),
        **_authorship(stored),
        "description": stored.params.get("description", ""),
        "id": stored.id,
        "immutable": False,
        "list_id": stored.list_id,
        "name": stored.params.get("name", ""),
        "namespace_type": stored.namespace_type,
        "os_types": stored.params.get("os_types", []),
        "tags": stored.params.get("tags", []),
        "tie_breaker_id": tie_breaker(stored.id),
        "type": stored.type,
        "version": stored.version,
        **({"meta": stored.params["meta"]} if "meta" in stored.params else {}),
    }


def show_item(stored: StoredItem) -> JsonObject:
    """An item as the API gives it."""
    params = stored.params
    return {
        "_version": version_token(stored.version),
        "comments": params.get("comments", []),
        **_authorship(stored),
        "description": params.get("description", ""),
        "entries": params.get("entries", []),
        "id": stored.id,
        "item_id": stored.item_id,
        "list_id": stored.list_id,
        "name": params.get("name", ""),
        "namespace_type": stored.namespace_type,
        "os_types": params.get("os_types", []),
        "tags": params.get("tags", []),
        "tie_breaker_id": tie_breaker(stored.id),
        "type": stored.type,
        **{name: params[name] for name in ("expire_time", "meta") if name in params},
    }


def _authorship(stored: StoredList | StoredItem) -> JsonObject:
    return {
        "created_at": format_instant(stored.created_at_us // 1000),
        "created_by": stored.created_by,
        "updated_at": format_instant(stored.updated_at_us // 1000),
        "updated_by": stored.updated_by,
    }


def tie_breaker(id: str) -> str:  # noqa: A002  # the word of the API
    """A second id, the same for ever."""
    return str(uuid.uuid5(ID_NAMESPACE, id))


def version_token(version: int) -> str:
    """What a client gives back to say which version it changes."""
    return base64.b64encode(json.dumps([version, 1]).encode()).decode()


def expected_version(token: object) -> int | None:
    """The version that a client means; None where it says none. Raises ConflictError."""
    if token is None:
        return None
    try:
        found = json.loads(base64.b64decode(str(token), validate=True))
        return int(found[0])
    except (ValueError, TypeError, LookupError):
        raise ConflictError(f"'{token}' is no version of it") from None


def text_of(given: JsonObject, name: str) -> str | None:
    """A member that is a text where it is given. Raises RequestShapeError."""
    value = given.get(name)
    if not isinstance(value, str | None):
        raise RequestShapeError(f"[request body]: {name}: expected a text")
    return value


def split_names(given: str | None, choices: Collection[str] | None = None) -> list[str]:
    """A list in one parameter, its parts between commas."""
    parts = [part.strip() for part in (given or "").split(",") if part.strip()]
    wrong = [part for part in parts if choices is not None and part not in choices]
    if wrong:
        raise RequestShapeError(f"[request query]: expected {' or '.join(choices or ())}")
    return parts
