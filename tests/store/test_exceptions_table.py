"""Exception lists, their items, and value lists."""

import dataclasses
from functools import partial
from typing import Any

import pytest

from barrelman.errors import ConflictError
from barrelman.store import exceptions
from barrelman.store.database import Database
from barrelman.store.exceptions import StoredItem, StoredList, StoredValue, StoredValueList

AUTHORSHIP: dict[str, Any] = {
    "created_at_us": 1,
    "created_by": "ann",
    "updated_at_us": 1,
    "updated_by": "ann",
}


def a_list(name: str = "l", namespace: str = "single", **changes: Any) -> StoredList:
    fields: dict[str, Any] = {
        "id": f"id-{name}-{namespace}",
        "list_id": name,
        "namespace_type": namespace,
        "type": "detection",
        "params": {"name": "List", "description": "é", "tags": []},
        **AUTHORSHIP,
    }
    return StoredList(**{**fields, **changes})


def an_item(name: str, of: str = "l", namespace: str = "single", **changes: Any) -> StoredItem:
    fields: dict[str, Any] = {
        "id": f"id-{name}-{namespace}",
        "item_id": name,
        "list_id": of,
        "namespace_type": namespace,
        "type": "simple",
        "params": {"entries": [{"field": "user.name", "type": "exists", "operator": "included"}]},
        **AUTHORSHIP,
    }
    return StoredItem(**{**fields, **changes})


def a_value_list(name: str = "v", kind: str = "keyword") -> StoredValueList:
    return StoredValueList(id=name, type=kind, params={"name": name}, **AUTHORSHIP)


def keep(database: Database, *some: StoredList | StoredItem | StoredValueList) -> None:
    for each in some:
        if isinstance(each, StoredList):
            database.write(partial(exceptions.insert_list, made=each))
        elif isinstance(each, StoredItem):
            database.write(partial(exceptions.insert_item, made=each))
        else:
            database.write(partial(exceptions.insert_value_list, made=each))


def test_a_list_is_known_by_its_id_and_by_its_name_in_a_namespace(database: Database) -> None:
    single, agnostic = a_list(), a_list(namespace="agnostic")
    keep(database, single, agnostic)
    find = exceptions.get_list
    assert database.read(lambda c: find(c, id="id-l-single")) == single
    assert database.read(lambda c: find(c, list_id="l")) == single
    assert database.read(lambda c: find(c, list_id="l", namespace_type="agnostic")) == agnostic
    assert database.read(lambda c: find(c, list_id="other")) is None
    with pytest.raises(TypeError):
        database.read(find)
    assert database.read(exceptions.lists) == [agnostic, single]
    only = partial(exceptions.lists, namespace_types=["single"])
    assert database.read(only) == [single]


def test_names_are_there_once_in_a_namespace(database: Database) -> None:
    keep(database, a_list(), a_list("m"), an_item("i"), an_item("j"))
    with pytest.raises(ConflictError, match='list id: "l" already exists'):
        keep(database, a_list(id="other"))
    with pytest.raises(ConflictError, match='item id: "i" already exists'):
        keep(database, an_item("i", id="other"))
    with pytest.raises(ConflictError, match='"l" already exists'):
        database.write(lambda c: exceptions.update_list(c, a_list("m", list_id="l")))
    with pytest.raises(ConflictError, match='"i" already exists'):
        database.write(lambda c: exceptions.update_item(c, an_item("j", item_id="i")))
    assert len(database.read(exceptions.lists)) == len(database.read(exceptions.items)) == 2


def test_an_edit_counts_and_keeps_who_made_it(database: Database) -> None:
    keep(database, a_list(), an_item("i"))
    edit: dict[str, Any] = {"created_by": "eve", "created_at_us": 9, "updated_by": "bob"}
    changed = database.write(
        lambda c: exceptions.update_item(c, an_item("i", params={"entries": []}, **edit))
    )
    assert changed == an_item("i", params={"entries": []}, updated_by="bob", version=2)
    assert database.read(lambda c: exceptions.get_item(c, item_id="i")) == changed
    changed_list = database.write(
        lambda c: exceptions.update_list(c, a_list(type="rule_default", **edit))
    )
    assert changed_list == a_list(type="rule_default", updated_by="bob", version=2)
    assert database.write(lambda c: exceptions.update_item(c, an_item("gone"))) is None
    assert database.write(lambda c: exceptions.update_list(c, a_list("gone"))) is None


def test_an_edit_of_what_was_changed_meanwhile_is_refused(database: Database) -> None:
    keep(database, a_list(), an_item("i"), a_value_list())
    edits = (
        partial(exceptions.update_item, changed=an_item("i", updated_by="bob")),
        partial(exceptions.update_list, changed=a_list(updated_by="bob")),
        partial(exceptions.update_value_list, changed=a_value_list()),
    )
    for edit in edits:
        assert database.write(partial(edit, expected_version=1)) is not None
        with pytest.raises(ConflictError, match="changed meanwhile"):
            database.write(partial(edit, expected_version=1))
        assert database.write(partial(edit, expected_version=2)) is not None


def test_items_by_list_in_the_order_in_which_they_were_made(database: Database) -> None:
    keep(
        database,
        an_item("b", created_at_us=2),
        an_item("a", created_at_us=3),
        an_item("c", created_at_us=1, of="m"),
        an_item("a", namespace="agnostic"),
    )

    def names(**filters: Any) -> list[str]:
        return [each.item_id for each in database.read(lambda c: exceptions.items(c, **filters))]

    assert names(list_id="l", namespace_type="single") == ["b", "a"]
    assert names(list_id="l") == ["a", "b", "a"]
    assert names(list_id="none") == []
    assert len(names()) == 4
    found = database.read(lambda c: exceptions.get_item(c, item_id="a", namespace_type="agnostic"))
    assert found is not None
    assert database.read(lambda c: exceptions.get_item(c, id=found.id)) == found


def test_a_deleted_list_takes_its_items_along_and_no_others(database: Database) -> None:
    keep(
        database,
        a_list(),
        a_list(namespace="agnostic"),
        an_item("i"),
        an_item("i", namespace="agnostic"),
        an_item("j", of="m"),
    )
    gone = database.write(lambda c: exceptions.delete_list(c, "id-l-single"))
    assert gone == a_list()
    assert database.write(lambda c: exceptions.delete_list(c, "id-l-single")) is None
    left = [each.id for each in database.read(exceptions.items)]
    assert left == ["id-i-agnostic", "id-j-single"]
    assert database.write(lambda c: exceptions.delete_item(c, "id-j-single")) == an_item(
        "j", of="m"
    )
    assert database.write(lambda c: exceptions.delete_item(c, "id-j-single")) is None
    assert len(database.read(exceptions.items)) == 1


def test_a_value_list_and_its_values(database: Database) -> None:
    keep(database, a_value_list("v"), a_value_list("w", "ip_range"))
    add = partial(exceptions.add_values, list_id="v", at_us=5, by="bob", meta={"from": "file"})
    assert database.write(partial(add, values=["b", "a", "b", "é", "Ab"])) == 4
    assert database.write(partial(add, values=["a", "c"])) == 1
    assert database.write(partial(add, values=[])) == 0
    assert database.read(lambda c: list(exceptions.values(c, "v"))) == ["Ab", "a", "b", "c", "é"]
    assert database.read(lambda c: list(exceptions.values(c, "w"))) == []
    assert database.read(lambda c: exceptions.count_values(c, "v")) == 5
    (found,) = database.read(lambda c: exceptions.find_values(c, "v", value="c"))
    assert (found.meta, found.created_by, found.created_at_us) == ({"from": "file"}, "bob", 5)
    page = database.read(lambda c: exceptions.find_values(c, "v", limit=2, offset=1))
    assert [each.value for each in page] == ["a", "b"]
    assert database.read(exceptions.all_value_lists) == [
        a_value_list("v"),
        a_value_list("w", "ip_range"),
    ]
    assert database.read(lambda c: exceptions.get_value_list(c, "none")) is None


def test_values_of_a_list_that_is_gone_are_refused(database: Database) -> None:
    with pytest.raises(ConflictError, match='list id: "v" does not exist'):
        database.write(lambda c: exceptions.add_values(c, "v", ["a"], at_us=1, by="ann"))
    with pytest.raises(ConflictError):
        keep(database, a_value_list(), a_value_list())


def test_single_values_are_edited_and_removed(database: Database) -> None:
    keep(database, a_value_list())
    first = StoredValue(id="1", list_id="v", value="a", meta=None, **AUTHORSHIP)
    second = dataclasses.replace(first, id="2", value="b")
    for each in (first, second):
        database.write(partial(exceptions.insert_value, made=each))
    with pytest.raises(ConflictError):
        database.write(lambda c: exceptions.insert_value(c, dataclasses.replace(first, id="3")))
    with pytest.raises(ConflictError, match="holds this value already"):
        database.write(lambda c: exceptions.update_value(c, dataclasses.replace(second, value="a")))
    changed = database.write(
        lambda c: exceptions.update_value(c, dataclasses.replace(second, value="c"))
    )
    assert changed == dataclasses.replace(second, value="c", version=2)
    assert database.read(lambda c: exceptions.get_value(c, "2")) == changed
    assert database.write(lambda c: exceptions.delete_value(c, "1")) == first
    assert database.write(lambda c: exceptions.delete_value(c, "1")) is None
    assert database.read(lambda c: list(exceptions.values(c, "v"))) == ["c"]


def test_a_deleted_value_list_takes_its_values_along(database: Database) -> None:
    keep(database, a_value_list("v"), a_value_list("w"))
    for name in "vw":
        database.write(
            partial(exceptions.add_values, list_id=name, values=["a"], at_us=1, by="ann")
        )
    assert database.write(lambda c: exceptions.delete_value_list(c, "v")) == a_value_list("v")
    assert database.write(lambda c: exceptions.delete_value_list(c, "v")) is None
    assert database.read(lambda c: exceptions.count_values(c, "v")) == 0
    assert database.read(lambda c: exceptions.count_values(c, "w")) == 1


def test_many_values_are_imported_in_one_write(database: Database) -> None:
    keep(database, a_value_list())
    values = (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(20_000))
    add = partial(exceptions.add_values, list_id="v", values=values, at_us=1, by="ann")
    assert database.write(add) == 20_000
    with database.reading() as connection:
        taken = exceptions.values(connection, "v")
        assert next(taken) == "10.0.0.0"
        taken.close()  # type: ignore[attr-defined]  # it is a generator
        assert exceptions.count_values(connection, "v") == 20_000
