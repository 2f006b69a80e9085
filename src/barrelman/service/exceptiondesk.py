"""Exception lists and items as people work with them; each change is noted and takes effect."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from barrelman.engine.compile import compile_query
from barrelman.errors import NotFoundError, QueryError, RequestError
from barrelman.query.kql import parse_kql
from barrelman.query.typecheck import check_types
from barrelman.records.event import Event
from barrelman.records.fields import Catalogue
from barrelman.records.frozen import frozen
from barrelman.records.times import format_instant
from barrelman.service.exceptionshape import (
    check_item,
    check_list,
    expected_version,
    new_comments,
    params_of,
    show_item,
    show_list,
)
from barrelman.service.rulebulk import copy_list
from barrelman.service.rulechanges import Hand, change_rule, find_rule
from barrelman.service.ruleshape import params_of as rule_params
from barrelman.service.valuelistdesk import ValueListDesk
from barrelman.store import audit, exceptions
from barrelman.store.database import Database
from barrelman.store.exceptions import StoredItem, StoredList

if TYPE_CHECKING:
    from barrelman.store.database import Connection

JsonObject: TypeAlias = dict[str, Any]
_T = TypeVar("_T")

_NO_TYPES: Final = Catalogue()
_ATTRIBUTES: Final = ("exception-list", "exception-list-agnostic")


@frozen
class Which:
    """A list or an item: by its id, or by its list_id or item_id within a namespace."""

    id: str | None
    name: str | None
    namespace_type: str = "single"


@frozen
class Page:
    """What a `_find` is asked."""

    filter: str = ""
    search: str = ""
    sort_field: str | None = None
    sort_order: str = "asc"
    page: int = 1
    per_page: int = 20


class ExceptionDesk:
    """`reload` takes over what was changed."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], int],
        reload: Callable[[], None] = lambda: None,
    ) -> None:
        self.database = database
        self.clock = clock
        self.reload = reload
        self.values = ValueListDesk(database, clock=clock, reload=reload)

    def hand(self, by: str) -> Hand:
        """Who changes something now."""
        return Hand(by, self.clock(), {})

    def change(self, run: Callable[[Connection], _T]) -> _T:
        """Writes, and lets what was written take effect."""
        made = self.database.write(run)
        self.reload()
        return made

    # --- lists ---

    def create_list(self, data: object, *, by: str) -> JsonObject:
        """Raises RequestShapeError and ConflictError."""
        fields, hand = check_list(data), self.hand(by)
        return show_list(self.change(lambda c: add_list(c, fields, hand)))

    def get_list(self, which: Which) -> JsonObject:
        """Raises NotFoundError."""
        return show_list(self.database.read(lambda c: find_list(c, which)))

    def replace_list(self, data: object, *, by: str) -> JsonObject:
        """The list anew from what is given."""
        fields, hand = check_list(data), self.hand(by)
        given = data if isinstance(data, dict) else {}

        def run(connection: Connection) -> StoredList:
            name = Which(given.get("id"), fields.get("list_id"), fields["namespace_type"])
            old = find_list(connection, name)
            made = replace(
                old,
                type=fields["type"],
                params=params_of(fields),
                updated_at_us=hand.at_us,
                updated_by=hand.by,
            )
            version = expected_version(given.get("_version"))
            changed = exceptions.update_list(connection, made, expected_version=version)
            note(connection, hand, "exception list updated", made.list_id, {})
            return _still_there(changed, made.list_id)

        return show_list(self.change(run))

    def delete_list(self, which: Which, *, by: str) -> JsonObject:
        """Removes a list with its items; gives what it was."""
        hand = self.hand(by)

        def run(connection: Connection) -> StoredList:
            found = find_list(connection, which)
            exceptions.delete_list(connection, found.id)
            note(connection, hand, "exception list deleted", found.list_id, {})
            return found

        return show_list(self.change(run))

    def duplicate_list(
        self, *, list_id: str, namespace_type: str, with_expired: bool, by: str
    ) -> JsonObject:
        """A copy of a list with copies of its items."""
        hand = self.hand(by)

        def run(connection: Connection) -> StoredList:
            old = find_list(connection, Which(None, list_id, namespace_type))
            name = f"{old.params.get('name', old.list_id)} [Duplicate]"
            made = copy_list(connection, old, hand, with_expired=with_expired, name=name)
            note(connection, hand, "exception list created", made.list_id, {"copy_of": list_id})
            return made

        return show_list(self.change(run))

    def find_lists(self, page: Page, *, namespace_types: Collection[str]) -> JsonObject:
        """A page of lists."""
        stored = self.database.read(
            lambda c: exceptions.lists(c, namespace_types=namespace_types or ("single",))
        )
        return paged([show_list(each) for each in stored], page, now_ms=self.clock() // 1000)

    def summary(self, which: Which) -> JsonObject:
        """How many items a list has, and for which systems."""

        def run(connection: Connection) -> list[StoredItem]:
            found = find_list(connection, which)
            return exceptions.items(
                connection, list_id=found.list_id, namespace_type=found.namespace_type
            )

        items = self.database.read(run)
        counts = {"windows": 0, "linux": 0, "macos": 0}
        for item in items:
            for name in item.params.get("os_types", ()):
                counts[name] += 1
        return {**counts, "total": len(items)}

    # --- items ---

    def create_item(self, data: object, *, by: str) -> JsonObject:
        """Raises RequestShapeError, NotFoundError and ConflictError."""
        fields, hand = check_item(data), self.hand(by)
        return show_item(self.change(lambda c: add_item(c, fields, hand)))

    def get_item(self, which: Which) -> JsonObject:
        """Raises NotFoundError."""
        return show_item(self.database.read(lambda c: find_item(c, which)))

    def replace_item(self, data: object, *, by: str) -> JsonObject:
        """The item anew from what is given; it stays in its list."""
        given = data if isinstance(data, dict) else {}
        hand = self.hand(by)

        def run(connection: Connection) -> StoredItem:
            namespace = str(given.get("namespace_type") or "single")
            name = Which(given.get("id"), given.get("item_id"), namespace)
            old = find_item(connection, name)
            fields = check_item(data, list_id=old.list_id)
            fields["comments"] = new_comments(
                fields["comments"],
                old.params.get("comments", ()),
                by=hand.by,
                now_us=hand.at_us,
            )
            made = replace(
                old, params=params_of(fields), updated_at_us=hand.at_us, updated_by=hand.by
            )
            version = expected_version(given.get("_version"))
            changed = exceptions.update_item(connection, made, expected_version=version)
            note(connection, hand, "exception item updated", old.item_id, {"list": old.list_id})
            return _still_there(changed, old.item_id)

        return show_item(self.change(run))

    def delete_item(self, which: Which, *, by: str) -> JsonObject:
        """Removes an item; gives what it was."""
        hand = self.hand(by)

        def run(connection: Connection) -> StoredItem:
            found = find_item(connection, which)
            exceptions.delete_item(connection, found.id)
            detail = {"list": found.list_id}
            note(connection, hand, "exception item deleted", found.item_id, detail)
            return found

        return show_item(self.change(run))

    def find_items(
        self, page: Page, *, list_ids: Sequence[str], namespace_types: Sequence[str]
    ) -> JsonObject:
        """A page of the items of some lists. Raises NotFoundError for a list that is none."""
        spaces = [*namespace_types, *["single"] * len(list_ids)][: len(list_ids)]

        def run(connection: Connection) -> list[StoredItem]:
            found: list[StoredItem] = []
            for list_id, space in zip(list_ids, spaces, strict=True):
                find_list(connection, Which(None, list_id, space))
                found += exceptions.items(connection, list_id=list_id, namespace_type=space)
            return found

        shown = [show_item(each) for each in self.database.read(run)]
        return paged(shown, page, now_ms=self.clock() // 1000)

    # --- of rules ---

    def add_to_rule(self, rule_uuid: str, data: object, *, by: str) -> list[JsonObject]:
        """Items in a rule's own list, which is made where there is none yet."""
        hand = self.hand(by)
        items = data.get("items") if isinstance(data, dict) else None
        if not isinstance(items, list) or not items:
            raise RequestError("items: expected a list of at least one item")

        def run(connection: Connection) -> list[StoredItem]:
            rule = find_rule(connection, id=rule_uuid, rule_id=None)
            params = rule_params(rule)
            refs = params.get("exceptions_list", [])
            own = [ref for ref in refs if ref["type"] == "rule_default"]
            home = _list_of(connection, own[0]) if own else None
            if home is None:
                home = _default_list(connection, params["name"], hand)
                kept = [ref for ref in refs if ref not in own]
                params = {**params, "exceptions_list": [*kept, reference(home)]}
                change_rule(connection, rule, params, enabled=rule.enabled, hand=hand)
            made = []
            for each in items:
                given = {**each, "list_id": home.list_id, "namespace_type": home.namespace_type}
                made.append(add_item(connection, check_item(given), hand))
            return made

        return [show_item(each) for each in self.change(run)]

    def create_shared(self, data: object, *, by: str) -> JsonObject:
        """A list that many rules may name."""
        given = data if isinstance(data, dict) else {}
        return self.create_list(
            {**given, "type": "detection", "namespace_type": "single", "list_id": None}, by=by
        )

    # --- export ---

    def export(self, which: Which, *, with_expired: bool) -> list[JsonObject]:
        """A list, its items, and the line that counts them."""

        def run(connection: Connection) -> list[JsonObject]:
            found = find_list(connection, which)
            return list_lines(connection, found, with_expired=with_expired, now_us=self.clock())

        lines = self.database.read(run)
        return [*lines, export_details(len(lines) - 1)]


def export_details(items: int, *, lists: int = 1) -> JsonObject:
    """The last line of an export of lists."""
    return {
        "exported_exception_list_count": lists,
        "exported_exception_list_item_count": items,
        "missing_exception_list_item_count": 0,
        "missing_exception_list_items": [],
        "missing_exception_lists": [],
        "missing_exception_lists_count": 0,
    }


def list_lines(
    connection: Connection, stored: StoredList, *, with_expired: bool, now_us: int
) -> list[JsonObject]:
    """A list and its items as an export has them."""
    now = format_instant(now_us // 1000)
    items = exceptions.items(
        connection, list_id=stored.list_id, namespace_type=stored.namespace_type
    )
    shown = [show_item(item) for item in items]
    if not with_expired:
        shown = [each for each in shown if each.get("expire_time", "9") > now]
    return [show_list(stored), *shown]


# --- within a transaction ------------------------------------------------------------------


def note(connection: Connection, hand: Hand, action: str, target: str, detail: JsonObject) -> None:
    """Writes a change of lists into the audit trail."""
    audit.note(
        connection, at_us=hand.at_us, by=hand.by, action=action, target=target, detail=detail
    )


def find_list(connection: Connection, which: Which) -> StoredList:
    """Raises RequestError and NotFoundError."""
    if which.id is None and which.name is None:
        raise RequestError("id or list_id required")
    found = exceptions.get_list(
        connection, id=which.id, list_id=which.name, namespace_type=which.namespace_type
    )
    if found is None:
        named = f'list_id: "{which.name}"' if which.id is None else f'id: "{which.id}"'
        raise NotFoundError(f"exception list {named} does not exist")
    return found


def find_item(connection: Connection, which: Which) -> StoredItem:
    """Raises RequestError and NotFoundError."""
    if which.id is None and which.name is None:
        raise RequestError("id or item_id required")
    found = exceptions.get_item(
        connection, id=which.id, item_id=which.name, namespace_type=which.namespace_type
    )
    if found is None:
        named = f'item_id: "{which.name}"' if which.id is None else f'id: "{which.id}"'
        raise NotFoundError(f"exception list item {named} does not exist")
    return found


def _still_there(found: _T | None, name: str) -> _T:
    if found is None:
        raise NotFoundError(f'"{name}" does not exist')
    return found


def _list_of(connection: Connection, ref: Mapping[str, Any]) -> StoredList | None:
    return exceptions.get_list(
        connection, list_id=ref["list_id"], namespace_type=ref["namespace_type"]
    )


def reference(stored: StoredList) -> JsonObject:
    """How a rule names a list."""
    return {
        "id": stored.id,
        "list_id": stored.list_id,
        "type": stored.type,
        "namespace_type": stored.namespace_type,
    }


def add_list(connection: Connection, fields: JsonObject, hand: Hand) -> StoredList:
    """Adds a list of checked fields."""
    made = StoredList(
        id=str(uuid.uuid4()),
        list_id=fields.get("list_id") or str(uuid.uuid4()),
        namespace_type=fields["namespace_type"],
        type=fields["type"],
        params=params_of(fields),
        created_at_us=hand.at_us,
        created_by=hand.by,
        updated_at_us=hand.at_us,
        updated_by=hand.by,
        version=fields.get("version", 1),
    )
    exceptions.insert_list(connection, made)
    note(connection, hand, "exception list created", made.list_id, {"type": made.type})
    return made


def add_item(connection: Connection, fields: JsonObject, hand: Hand) -> StoredItem:
    """Adds an item of checked fields to its list, which must be there."""
    home = find_list(connection, Which(None, fields["list_id"], fields["namespace_type"]))
    comments = new_comments(fields["comments"], (), by=hand.by, now_us=hand.at_us)
    made = StoredItem(
        id=str(uuid.uuid4()),
        item_id=fields.get("item_id") or str(uuid.uuid4()),
        list_id=home.list_id,
        namespace_type=home.namespace_type,
        type=fields["type"],
        params=params_of({**fields, "comments": comments}),
        created_at_us=hand.at_us,
        created_by=hand.by,
        updated_at_us=hand.at_us,
        updated_by=hand.by,
    )
    exceptions.insert_item(connection, made)
    note(connection, hand, "exception item created", made.item_id, {"list": made.list_id})
    return made


def _default_list(connection: Connection, rule_name: str, hand: Hand) -> StoredList:
    fields = {
        "name": f"Exceptions of the rule: {rule_name}",
        "description": f"Exception items that belong to one rule: {rule_name}",
        "type": "rule_default",
        "namespace_type": "single",
        "tags": ["default_rule_exception_list"],
        "os_types": [],
    }
    return add_list(connection, fields, hand)


# --- pages ---------------------------------------------------------------------------------


def paged(shown: list[JsonObject], page: Page, *, now_ms: int) -> JsonObject:
    """A page of lists or items, filtered and sorted."""
    if page.page < 1 or not 0 <= page.per_page <= 10_000:
        raise RequestError("page must be 1 or more, per_page from 0 to 10000")
    if page.filter.strip():
        test = _parse_filter(page.filter, now_ms)
        shown = [each for each in shown if test(each)]
    if page.search.strip():
        words = page.search.casefold().replace("*", " ").split()
        shown = [each for each in shown if _holds(each, words)]
    if page.sort_field is not None:
        field = page.sort_field.rpartition(".")[2]
        shown.sort(key=lambda each: str(each.get(field, "")), reverse=page.sort_order == "desc")
    start = (page.page - 1) * page.per_page
    return {
        "data": shown[start : start + page.per_page],
        "page": page.page,
        "per_page": page.per_page,
        "total": len(shown),
    }


def _parse_filter(text: str, now_ms: int) -> Callable[[JsonObject], bool]:
    try:
        node = parse_kql(text)
        check_types(node, _NO_TYPES, text=text)
    except QueryError as error:
        raise RequestError(f"filter: {error.oneline()}") from None
    predicate = compile_query(node, _NO_TYPES)

    def test(shown: JsonObject) -> bool:
        # Whoever filters names the kind of object that the list was, in one space or in all.
        document = {name: {"attributes": shown} for name in _ATTRIBUTES}
        return predicate.matches(Event(document, is_document=True), now_ms=now_ms)

    return test


def _holds(shown: JsonObject, words: Iterable[str]) -> bool:
    texts = [shown.get("name"), shown.get("description"), *shown.get("tags", ())]
    texts += [
        str(entry.get(key)) for entry in shown.get("entries", ()) for key in ("field", "value")
    ]
    texts += [each.get("comment") for each in shown.get("comments", ())]
    whole = "\n".join(str(text) for text in texts if text).casefold()
    return all(word in whole for word in words)
