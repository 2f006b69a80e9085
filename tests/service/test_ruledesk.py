"""Rules over a database: whose they are, what counts as an edit, and what an import leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from barrelman.errors import ConflictError, NotFoundError, RequestError, RequestShapeError
from barrelman.service.exceptiondesk import ExceptionDesk
from barrelman.service.rulebulk import BulkDesk, parse_action
from barrelman.service.rulechanges import REMOVED
from barrelman.service.ruledesk import Query, RuleDesk
from barrelman.service.ruleexport import Exporter
from barrelman.service.ruleimport import Importer, Options, sort_lines
from barrelman.service.rulepackdesk import PackDesk
from barrelman.service.ruleshape import check_props
from barrelman.store import audit, meta, rules
from barrelman.store.database import Database

NOW_US = 1_795_003_200_000_000


def props(**changes: Any) -> dict[str, Any]:
    made = {
        "rule_id": "r1",
        "type": "query",
        "name": "A rule",
        "description": "d",
        "risk_score": 21,
        "severity": "low",
        "query": "user.name: eve",
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


SHIPPED = {"s1": check_props(props(rule_id="s1", name="Shipped", version=2)).params}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "barrelman.db")
    yield opened
    opened.close()


class Reloads:
    count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def reloads() -> Reloads:
    return Reloads()


@pytest.fixture
def desk(database: Database, reloads: Reloads) -> RuleDesk:
    return RuleDesk(database, clock=lambda: NOW_US, reload=reloads, pack=lambda: SHIPPED)


def test_a_failed_change_reloads_nothing(desk: RuleDesk, reloads: Reloads) -> None:
    desk.create(props(), by="me")
    assert reloads.count == 1
    with pytest.raises(ConflictError):
        desk.create(props(), by="me")
    with pytest.raises(RequestShapeError):
        desk.create({}, by="me")
    with pytest.raises(NotFoundError):
        desk.patch({"id": "none"}, by="me")
    assert reloads.count == 1


def test_enabling_is_remembered_with_its_time(desk: RuleDesk, database: Database) -> None:
    made = desk.create(props(), by="me")
    assert database.read(lambda c: rules.get_state(c, made["id"])) is None
    desk.patch({"id": made["id"], "enabled": True}, by="me")
    state = database.read(lambda c: rules.get_state(c, made["id"]))
    assert state is not None
    assert state.enabled_at_us == NOW_US


# --- the pack ------------------------------------------------------------------------------


def test_shipped_rules_are_installed_disabled_and_updated(
    desk: RuleDesk, database: Database
) -> None:
    pack = PackDesk(desk)
    assert pack.status()["rules_not_installed"] == 1
    assert pack.install(by="me")["rules_installed"] == 1
    shown = desk.get(rule_id="s1")
    assert (shown["immutable"], shown["enabled"]) == (True, False)
    assert shown["rule_source"] == {
        "type": "external",
        "is_customized": False,
        "has_base_version": True,
        "customized_fields": [],
    }
    stored = database.read(lambda c: rules.get(c, rule_id="s1"))
    assert stored is not None
    older = {**stored.params, "version": 1, "query": "user.name: bob"}
    database.write(lambda c: rules.update(c, _with(stored, params=older)))
    assert pack.stats()["stats"]["num_prebuilt_rules_to_upgrade"] == 1
    desk.patch({"rule_id": "s1", "enabled": True}, by="me")
    assert pack.install(by="me")["rules_updated"] == 1
    shown = desk.get(rule_id="s1")
    assert (shown["version"], shown["query"], shown["enabled"]) == (2, "user.name: eve", True)


def _with(stored: Any, **changes: Any) -> Any:
    from dataclasses import replace

    return replace(stored, **changes)


def test_an_edit_customizes_a_shipped_rule_and_its_way_back_does_not(desk: RuleDesk) -> None:
    PackDesk(desk).install(by="me")

    def source(**changes: Any) -> Any:
        return desk.patch({"rule_id": "s1", **changes}, by="me")["rule_source"]

    assert source(enabled=True)["is_customized"] is False
    assert source(actions=[])["is_customized"] is False
    changed = source(severity="high")
    assert changed["is_customized"] is True
    assert changed["customized_fields"] == [{"field_name": "severity"}]
    assert source(severity="low")["is_customized"] is False
    with pytest.raises(RequestError, match="type"):
        desk.patch({"rule_id": "s1", "type": "eql", "language": "eql"}, by="me")
    custom = 'alert.attributes.params.ruleSource.type: "external"'
    assert desk.find(Query(filter=custom))["total"] == 1


def test_an_edited_shipped_rule_is_not_updated(desk: RuleDesk) -> None:
    PackDesk(desk).install(by="me")
    desk.patch({"rule_id": "s1", "severity": "high", "version": 1}, by="me")
    assert PackDesk(desk).install(by="me")["rules_updated"] == 0
    assert desk.get(rule_id="s1")["severity"] == "high"
    assert desk.get(rule_id="s1")["rule_source"]["is_customized"] is True


def test_that_a_shipped_rule_was_deleted_is_remembered(desk: RuleDesk, database: Database) -> None:
    PackDesk(desk).install(by="me")
    desk.delete(rule_id="s1", by="me")
    assert database.read(lambda c: meta.get(c, REMOVED + "s1")) == str(NOW_US)
    PackDesk(desk).install(by="me")
    assert database.read(lambda c: meta.get(c, REMOVED + "s1")) is None


def test_a_made_rule_is_nobodys_but_an_imported_one_may_be_the_packs(desk: RuleDesk) -> None:
    assert desk.create(props(rule_id="s1"), by="me")["immutable"] is False
    desk.delete(rule_id="s1", by="me")
    line = json.dumps({**props(rule_id="s1"), "severity": "high"}).encode()
    Importer(desk).run(line, Options(), by="me")
    shown = desk.get(rule_id="s1")
    assert (shown["immutable"], shown["rule_source"]["is_customized"]) == (True, True)


# --- what may be left to later -------------------------------------------------------------


def test_a_list_that_is_not_there_yet_may_be_named(desk: RuleDesk) -> None:
    ref = {"id": "x", "list_id": "later", "type": "detection", "namespace_type": "single"}
    assert desk.create(props(exceptions_list=[ref]), by="me")["exceptions_list"] == [ref]
    lines = Exporter(desk).by_rule_ids(None)
    assert lines[-1]["missing_exception_lists"] == [{"list_id": "later"}]


@pytest.mark.parametrize(
    "changes",
    [
        {"exceptions_list": [{"list_id": "a"}]},
        {"alert_suppression": {"group_by": []}},
        {"threat": [{"framework": "x"}]},
        {"history_window_start": "now", "type": "new_terms", "new_terms_fields": ["a"]},
        {"concurrent_searches": 1, "type": "threat_match"},
    ],
)
def test_forms_are_checked_deep(desk: RuleDesk, changes: dict[str, Any]) -> None:
    with pytest.raises(RequestShapeError):
        desk.create(props(**changes), by="me")


def test_null_is_the_same_as_not_given(desk: RuleDesk) -> None:
    made = desk.create({**props(), "note": None, "tags": None, "enabled": None}, by="me")
    assert made["tags"] == []
    assert "note" not in made
    desk.patch({"rule_id": "r1", "note": "guide"}, by="me")
    assert "note" not in desk.patch({"rule_id": "r1", "note": None}, by="me")


def test_older_spellings_are_taken(desk: RuleDesk) -> None:
    made = desk.create(props(investigation_fields=["user.name"]), by="me")
    assert made["investigation_fields"] == {"field_names": ["user.name"]}
    made = desk.create(
        props(rule_id="r2", type="threshold", threshold={"field": "", "value": 2}), by="me"
    )
    assert made["threshold"]["field"] == []


def test_required_fields_say_which_are_of_the_common_schema(desk: RuleDesk) -> None:
    given = [
        {"name": "user.name", "type": "keyword"},
        {"name": "kubernetes.audit.verb", "type": "keyword"},
    ]
    made = desk.create(props(required_fields=given), by="me")
    assert [each["ecs"] for each in made["required_fields"]] == [True, False]


# --- import and bulk -----------------------------------------------------------------------


def test_lines_are_told_apart_by_their_shape() -> None:
    found = sort_lines(
        b"\xef\xbb\xbf"
        + b"\n".join(
            json.dumps(each).encode()
            for each in (
                props(),
                {"list_id": "l", "type": "detection", "name": "n"},
                {"list_id": "l", "type": "simple", "entries": []},
                {"type": "action", "id": "c", "attributes": {}},
                {"exported_rules_count": 1},
                [props(rule_id="r2")],
                "text",
            )
        )
        + b"\r\n\r\n"
    )
    assert len(found.rules) == 2
    assert [len(each) for each in (found.lists, found.items, found.connectors)] == [1, 1, 1]
    assert found.broken == ["line 7: no object, or one that is nested too deep"]
    with pytest.raises(RequestShapeError):
        sort_lines(b"\xff\xfe")


def test_lists_that_come_as_new_ones_take_the_rules_along(
    desk: RuleDesk, database: Database
) -> None:
    ref = {"id": "x", "list_id": "l", "type": "detection", "namespace_type": "single"}
    head = {"list_id": "l", "type": "detection", "name": "n", "description": "d"}
    entry = {"field": "a", "type": "exists", "operator": "included"}
    item = {"list_id": "l", "item_id": "i", "type": "simple", "name": "n", "entries": [entry]}
    content = "\n".join(map(json.dumps, (props(exceptions_list=[ref]), head, item))).encode()
    for number in (1, 2):
        options = Options(overwrite=True, as_new_list=True)
        told = Importer(desk).run(content, options, by="me")
        assert (told["success"], told["exceptions_success_count"]) == (True, 2)
        exceptions = ExceptionDesk(database, clock=lambda: NOW_US)
        new = desk.get(rule_id="r1")["exceptions_list"][0]["list_id"]
        assert new != "l"
        [shown] = exceptions.find_items(_page(), list_ids=[new], namespace_types=[])["data"]
        assert shown["item_id"] != "i"
        assert len(database.read(lambda c: _lists(c))) == number


def _page() -> Any:
    from barrelman.service.pages import Page

    return Page()


def _lists(connection: Any) -> Any:
    from barrelman.store import exceptions

    return exceptions.lists(connection)


def test_an_import_of_many_rules(desk: RuleDesk, reloads: Reloads) -> None:
    content = "\n".join(json.dumps(props(rule_id=f"r{n}")) for n in range(500)).encode()
    told = Importer(desk).run(content, Options(), by="me")
    assert (told["success_count"], reloads.count) == (500, 1)
    done = BulkDesk(desk).run(parse_action({"action": "enable"}, now_ms=0), by="me")
    assert (done.succeeded, reloads.count) == (500, 2)
    assert all(rule["enabled"] for rule in desk.all())


def test_what_is_imported_is_in_the_audit_trail(desk: RuleDesk, database: Database) -> None:
    connector = {"type": "action", "id": "c", "attributes": {}}
    content = "\n".join(map(json.dumps, (props(), connector))).encode()
    Importer(desk).run(content, Options(), by="me")
    noted = database.read(lambda c: audit.find(c, by="me"))
    assert {each.action for each in noted} == {"rule created", "connector imported"}


def test_connectors_are_kept_until_they_may_be_overwritten(
    desk: RuleDesk, database: Database
) -> None:
    act = {"id": "c", "action_type_id": ".slack", "params": {}}
    desk.create(props(actions=[act]), by="me")

    def bring(name: str, **options: bool) -> Any:
        line = {"type": "action", "id": "c", "attributes": {"name": name}}
        Importer(desk).run(json.dumps(line).encode(), Options(**options), by="me")
        return Exporter(desk).by_rule_ids(["r1"])[1]["attributes"]["name"]

    assert bring("one") == "one"
    assert bring("two") == "one"
    assert bring("two", overwrite_connectors=True) == "two"
