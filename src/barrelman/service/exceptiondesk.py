"""Exception lists and items as people work with them; each change is noted and takes effect."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from barrelman.errors import NotFoundError, RequestError
from barrelman.service.exceptionchanges import (
    Which,
    add_item,
    add_list,
    default_list,
    export_details,
    find_item,
    find_list,
    list_lines,
    list_of,
    note,
    reference,
)
from barrelman.service.exceptionshape import (
    check_item,
    check_list,
    expected_version,
    new_comments,
    params_of,
    show_item,
    show_list,
    text_of,
)
from barrelman.service.pages import Page, paged
from barrelman.service.rulebulk import copy_list
from barrelman.service.rulechanges import Hand, change_rule, find_rule
from barrelman.service.ruleshape import params_of as rule_params
from barrelman.service.valuelistdesk import ValueListDesk
from barrelman.store import exceptions
from barrelman.store.database import Database
from barrelman.store.exceptions import StoredItem, StoredList

if TYPE_CHECKING:
    from barrelman.store.database import Connection

JsonObject: TypeAlias = dict[str, Any]
_T = TypeVar("_T")


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
            name = Which(text_of(given, "id"), fields.get("list_id"), fields["namespace_type"])
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
            name = Which(text_of(given, "id"), text_of(given, "item_id"), namespace)
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
            home = list_of(connection, own[0]) if own else None
            if home is None:
                home = default_list(connection, params["name"], hand)
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


def _still_there(found: _T | None, name: str) -> _T:
    if found is None:
        raise NotFoundError(f'"{name}" does not exist')
    return found
