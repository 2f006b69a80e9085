"""Exception lists and value lists over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kibana_world import NOW, Client, World, ndjson, rule, world

LISTS = "/api/exception_lists"
ITEMS = "/api/exception_lists/items"
VALUES = "/api/lists"
RULES = "/api/detection_engine/rules"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def client(here: World) -> Client:
    return here.asker("engineer")


def a_list(list_id: str = "vip", **changes: Any) -> dict[str, Any]:
    return {
        "list_id": list_id,
        "name": "VIPs",
        "description": "Known people",
        "type": "detection",
        **changes,
    }


def an_item(item_id: str = "i1", list_id: str = "vip", **changes: Any) -> dict[str, Any]:
    entry = {"field": "user.name", "operator": "included", "type": "match", "value": "eve"}
    return {
        "item_id": item_id,
        "list_id": list_id,
        "type": "simple",
        "name": "Eve",
        "description": "Her job",
        "entries": [entry],
        **changes,
    }


def test_a_list_from_its_making_to_its_end(client: Client) -> None:
    made = client.post(LISTS, a_list(tags=["t"], meta={"a": 1}))

    assert made["created_at"] == made["updated_at"] == NOW
    assert made["created_by"] == client.name
    assert (made["namespace_type"], made["version"], made["immutable"]) == ("single", 1, False)
    for name in ("id", "_version", "tie_breaker_id"):
        assert made[name]
    assert client.get(LISTS, list_id="vip") == made
    assert client.get(LISTS, id=made["id"]) == made
    client.get(LISTS, status=404, list_id="vip", namespace_type="agnostic")
    client.get(LISTS, status=400)
    client.post(LISTS, a_list(), status=409)
    client.post(LISTS, a_list(namespace_type="agnostic"))

    changed = client.put(LISTS, a_list(name="Other", _version=made["_version"]))
    assert (changed["name"], changed["tags"], changed["version"]) == ("Other", [], 2)
    client.put(LISTS, a_list(name="Late", _version=made["_version"]), status=409)
    assert client.delete(LISTS, list_id="vip")["name"] == "Other"
    client.delete(LISTS, status=404, list_id="vip")
    assert client.get(f"{LISTS}/_find", namespace_type="single,agnostic")["total"] == 1


@pytest.mark.parametrize(
    "changes",
    [{"name": None}, {"description": None}, {"type": "odd"}, {"namespace_type": "many"}],
)
def test_a_list_of_the_wrong_form_is_refused(client: Client, changes: dict[str, Any]) -> None:
    assert client.post(LISTS, a_list(**changes), status=400)["statusCode"] == 400


def test_lists_are_found(client: Client) -> None:
    for number in range(3):
        client.post(LISTS, a_list(f"l{number}", name=f"Name {number}", tags=[f"t{number % 2}"]))

    found = client.get(f"{LISTS}/_find", per_page=2, sort_field="name", sort_order="desc")
    assert [each["list_id"] for each in found["data"]] == ["l2", "l1"]
    assert (found["page"], found["per_page"], found["total"]) == (1, 2, 3)
    found = client.get(f"{LISTS}/_find", filter="exception-list.attributes.tags: t1")
    assert [each["list_id"] for each in found["data"]] == ["l1"]
    client.get(f"{LISTS}/_find", status=400, filter="(")
    client.get(f"{LISTS}/_find", status=400, namespace_type="odd")


def test_an_item_from_its_making_to_its_end(client: Client) -> None:
    client.post(LISTS, a_list())
    made = client.post(ITEMS, an_item(comments=[{"comment": "why"}], os_types=["linux"]))

    assert made["comments"][0]["created_by"] == client.name
    assert client.get(ITEMS, item_id="i1") == made
    client.post(ITEMS, an_item(), status=409)
    client.post(ITEMS, an_item("i2", "none"), status=404)
    comments = [*made["comments"], {"comment": "more"}]
    changed = client.put(ITEMS, an_item(name="New", comments=comments, _version=made["_version"]))
    assert [each["comment"] for each in changed["comments"]] == ["why", "more"]
    assert changed["comments"][0]["id"] == made["comments"][0]["id"]
    assert changed["os_types"] == []
    client.put(ITEMS, an_item(_version=made["_version"]), status=409)
    assert client.delete(ITEMS, item_id="i1")["name"] == "New"
    client.get(ITEMS, status=404, item_id="i1")


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [{"field": "a", "type": "match", "operator": "included"}],
        [{"field": "a", "type": "match", "operator": "maybe", "value": "x"}],
        [{"field": "a", "type": "match_any", "operator": "included", "value": []}],
        [{"field": "", "type": "exists", "operator": "included"}],
        [{"field": "a", "type": "odd", "operator": "included", "value": "x"}],
        [{"field": "a", "type": "list", "operator": "included", "list": {"id": "x"}}],
        [{"field": "a", "type": "nested", "entries": []}],
        "none",
    ],
)
def test_entries_of_the_wrong_form_are_refused(client: Client, entries: Any) -> None:
    client.post(LISTS, a_list())
    told = client.post(ITEMS, an_item(entries=entries), status=400)
    assert "entries" in told["message"]


def test_items_are_found(client: Client) -> None:
    client.post(LISTS, a_list())
    client.post(LISTS, a_list("other", namespace_type="agnostic"))
    client.post(ITEMS, an_item("i1", tags=["a"]))
    client.post(ITEMS, an_item("i2", name="Bob", os_types=["linux", "macos"]))
    client.post(ITEMS, an_item("i3", "other", namespace_type="agnostic"))
    find = f"{ITEMS}/_find"

    assert client.get(find, list_id="vip")["total"] == 2
    both = client.get(find, list_id="vip,other", namespace_type="single,agnostic")
    assert sorted(each["item_id"] for each in both["data"]) == ["i1", "i2", "i3"]
    found = client.get(find, list_id="vip", filter="exception-list.attributes.tags: a")
    assert [each["item_id"] for each in found["data"]] == ["i1"]
    assert client.get(find, list_id="vip", search="bob")["total"] == 1
    client.get(find, status=404, list_id="none")
    client.get(find, status=400)
    summary = client.get(f"{LISTS}/summary", list_id="vip")
    assert summary == {"windows": 0, "linux": 1, "macos": 1, "total": 2}


def test_an_item_takes_effect_at_once_and_goes_with_its_list(here: World, client: Client) -> None:
    made = client.post(LISTS, a_list())
    ref = {"id": "x", "list_id": "vip", "type": "detection", "namespace_type": "single"}
    shown = client.post(RULES, rule(enabled=True, exceptions_list=[ref]))
    assert shown["exceptions_list"][0]["id"] == made["id"]

    def node() -> str:
        return repr(here.service.rulebook.lineup.watchers[0].predicate.node)

    client.post(ITEMS, an_item())
    assert "eve" in node().partition("Not(")[2]
    client.delete(ITEMS, item_id="i1")
    assert "Not(" not in node()


def test_a_rule_gets_a_list_of_its_own(client: Client) -> None:
    made = client.post(RULES, rule())
    path = f"{RULES}/{made['id']}/exceptions"

    [item] = client.post(path, {"items": [without(an_item(), "list_id", "item_id")]})
    shown = client.get(RULES, id=made["id"])
    [ref] = shown["exceptions_list"]
    assert (ref["type"], ref["list_id"], shown["revision"]) == ("rule_default", item["list_id"], 1)
    [second] = client.post(path, {"items": [without(an_item(), "list_id", "item_id")]})
    assert second["list_id"] == item["list_id"]
    assert client.get(RULES, id=made["id"])["exceptions_list"] == [ref]
    client.post(RULES, rule(2, exceptions_list=[ref]), status=409)
    client.post(path, {"items": []}, status=400)
    client.post(f"{RULES}/none/exceptions", {"items": [an_item()]}, status=404)


def without(given: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in names}


def test_shared_and_duplicated_lists(client: Client) -> None:
    made = client.post("/api/exceptions/shared", {"name": "S", "description": "d"})
    assert made["type"] == "detection"
    client.post(LISTS, a_list())
    client.post(ITEMS, an_item())
    client.post(ITEMS, an_item("old", expire_time="2020-01-01T00:00:00.000Z"))
    copy = client.post(f"{LISTS}/_duplicate", list_id="vip", namespace_type="single")
    assert copy["name"] == "VIPs [Duplicate]"
    assert client.get(f"{ITEMS}/_find", list_id=copy["list_id"])["total"] == 2
    fresh = client.post(f"{LISTS}/_duplicate", list_id="vip", include_expired_exceptions="false")
    assert client.get(f"{ITEMS}/_find", list_id=fresh["list_id"])["total"] == 1


def test_lists_are_exported_and_imported(client: Client) -> None:
    client.post(LISTS, a_list())
    client.post(ITEMS, an_item())
    lines = client.lines("POST", f"{LISTS}/_export", list_id="vip", namespace_type="single")
    assert [each.get("item_id") for each in lines] == [None, "i1", None]
    assert lines[-1]["exported_exception_list_item_count"] == 1

    told = client.upload(f"{LISTS}/_import", ndjson(*lines))
    assert (told["success"], told["success_count"]) == (False, 0)
    assert [each["error"]["status_code"] for each in told["errors"]] == [409, 409]
    told = client.upload(f"{LISTS}/_import", ndjson(*lines), overwrite="true")
    assert (told["success"], told["success_count"]) == (True, 2)
    assert client.get(f"{ITEMS}/_find", list_id="vip")["total"] == 1
    told = client.upload(f"{LISTS}/_import", ndjson(*lines), as_new_list="true")
    assert told["success_count_exception_lists"] == told["success_count_exception_list_items"] == 1
    assert client.get(f"{LISTS}/_find")["total"] == 2


# --- value lists ---------------------------------------------------------------------------


def test_a_value_list_from_its_making_to_its_end(client: Client) -> None:
    body = {"id": "hosts", "name": "Hosts", "description": "d", "type": "keyword"}
    made = client.post(VALUES, body)

    assert client.get(VALUES, id="hosts") == made
    client.post(VALUES, body, status=409)
    assert client.patch(VALUES, {"id": "hosts", "name": "New"})["description"] == "d"
    client.put(VALUES, {"id": "hosts", "name": "New"}, status=400)
    value = client.post(f"{VALUES}/items", {"list_id": "hosts", "value": "a"})
    assert (value["type"], value["value"]) == ("keyword", "a")
    client.post(f"{VALUES}/items", {"list_id": "hosts", "value": "a"}, status=409)
    assert client.get(f"{VALUES}/items", id=value["id"])["value"] == "a"
    assert len(client.get(f"{VALUES}/items", list_id="hosts", value="a")) == 1
    client.patch(f"{VALUES}/items", {"id": value["id"], "value": "b"})
    found = client.get(f"{VALUES}/items/_find", list_id="hosts")
    assert ([each["value"] for each in found["data"]], found["total"]) == (["b"], 1)
    assert client.get(f"{VALUES}/_find")["data"][0]["name"] == "New"
    client.delete(f"{VALUES}/items", list_id="hosts", value="b")
    client.get(f"{VALUES}/items", status=404, id=value["id"])
    client.delete(VALUES, id="hosts")
    client.get(VALUES, status=404, id="hosts")
    assert client.get(f"{VALUES}/index") == {"list_index": True, "list_item_index": True}
    assert client.get(f"{VALUES}/privileges")["lists"]["has_all_requested"] is True


def test_values_come_from_files_and_go_into_them(client: Client) -> None:
    made = client.upload(
        f"{VALUES}/items/_import", b"10.0.0.1\r\n\r\n10.0.0.2\n", name="ips", type="ip"
    )
    assert (made["id"], made["type"]) == ("ips", "ip")
    client.upload(f"{VALUES}/items/_import", b"10.0.0.2\n10.0.0.3\n", list_id="ips")
    answer = client.raw("POST", f"{VALUES}/items/_export", params={"list_id": "ips"})
    assert answer.text == "10.0.0.1\n10.0.0.2\n10.0.0.3\n"
    assert "attachment" in answer.headers["content-disposition"]
    client.post(f"{VALUES}/items", {"list_id": "ips", "value": "no address"}, status=400)


def test_a_list_that_items_name_is_not_deleted_unasked(client: Client) -> None:
    client.post(VALUES, {"id": "v", "name": "V", "description": "d", "type": "keyword"})
    client.post(LISTS, a_list())
    entry = {"field": "user.name", "operator": "included", "type": "list"}
    client.post(ITEMS, an_item(entries=[{**entry, "list": {"id": "v", "type": "keyword"}}]))

    assert "i1" in client.delete(VALUES, status=409, id="v")["message"]
    client.delete(VALUES, id="v", deleteReferences="true")
    assert client.get(f"{ITEMS}/_find", list_id="vip")["total"] == 0


def test_readers_change_no_list(here: World) -> None:
    reader = here.asker("analyst")
    reader.post(LISTS, a_list(), status=403)
    reader.post(VALUES, {}, status=403)
    reader.get(f"{LISTS}/_find")
    assert json.dumps(reader.get(f"{VALUES}/_find")["data"]) == "[]"
