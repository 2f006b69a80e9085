"""Rules and what is remembered of them, and single values by name."""

import dataclasses
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection

from barrelman.errors import ConflictError
from barrelman.store import meta, rules
from barrelman.store.database import Database
from barrelman.store.rules import RuleState, StoredRule


def rule(number: int = 1, **changes: Any) -> StoredRule:
    fields: dict[str, Any] = {
        "id": f"uuid-{number}",
        "rule_id": f"rule-{number}",
        "params": {"name": f"Rule {number}", "tags": ["é", None], "from": "now-6m"},
        "enabled": False,
        "revision": 0,
        "source": "api",
        "path": None,
        "is_customized": False,
        "created_at_us": 1,
        "created_by": "ann",
        "updated_at_us": 2,
        "updated_by": "bob",
    }
    return StoredRule(**{**fields, **changes})


def test_a_rule_comes_back_as_it_was(database: Database) -> None:
    stored = rule(source="file", path="rules/a.toml", enabled=True, is_customized=True)
    database.write(lambda c: rules.insert(c, stored))
    assert database.read(lambda c: rules.get(c, id="uuid-1")) == stored
    found = database.read(lambda c: rules.get(c, rule_id="rule-1"))
    assert found == stored
    assert found is not None
    assert (type(found.enabled), type(found.params)) == (bool, dict)


def test_what_is_not_there_is_none(database: Database) -> None:
    assert database.read(lambda c: rules.get(c, id="uuid-1")) is None
    assert database.read(lambda c: rules.get(c, rule_id="rule-1")) is None
    assert database.read(rules.all) == []
    with pytest.raises(TypeError):
        database.read(rules.get)
    with pytest.raises(TypeError):
        database.read(lambda c: rules.get(c, id="a", rule_id="b"))


def test_all_rules_are_in_one_order(database: Database) -> None:
    stored = [rule(number) for number in (3, 1, 2)]
    for each in stored:
        database.write(partial(rules.insert, rule=each))
    assert database.read(rules.all) == sorted(stored, key=lambda each: each.rule_id)


def test_a_rule_id_is_there_once(database: Database) -> None:
    database.write(lambda c: rules.insert(c, rule(1)))
    for same in (rule(2, rule_id="rule-1"), rule(1, rule_id="other")):
        with pytest.raises(ConflictError, match="already exists"):
            database.write(partial(rules.insert, rule=same))
    database.write(lambda c: rules.insert(c, rule(2)))
    with pytest.raises(ConflictError, match='rule_id: "rule-1" already exists'):
        database.write(lambda c: rules.update(c, rule(2, rule_id="rule-1")))
    assert database.read(rules.all) == [rule(1), rule(2)]


def test_an_import_goes_on_after_a_conflict(database: Database) -> None:
    database.write(lambda c: rules.insert(c, rule(2)))

    def bring_in(connection: Connection) -> list[str]:
        refused = []
        for number in (1, 2, 3):
            try:
                rules.insert(connection, rule(number))
            except ConflictError as error:
                refused.append(error.message)
        return refused

    assert database.write(bring_in) == ['rule_id: "rule-2" already exists']
    assert [each.rule_id for each in database.read(rules.all)] == ["rule-1", "rule-2", "rule-3"]


def test_an_update_replaces_all(database: Database) -> None:
    database.write(lambda c: rules.insert(c, rule()))
    changed = rule(params={"name": "New"}, enabled=True, revision=1, updated_by="eve")
    assert database.write(lambda c: rules.update(c, changed))
    assert database.read(rules.all) == [changed]
    assert not database.write(lambda c: rules.update(c, rule(9)))
    assert database.read(rules.all) == [changed]


def test_a_deleted_rule_takes_its_state_along(database: Database) -> None:
    database.write(lambda c: rules.insert(c, rule(1)))
    database.write(lambda c: rules.insert(c, rule(2)))
    for number in (1, 2):
        state = RuleState(f"uuid-{number}", last_tick_ms=5)
        assert database.write(partial(rules.put_state, state=state))
    assert database.write(lambda c: rules.delete(c, "uuid-1"))
    assert not database.write(lambda c: rules.delete(c, "uuid-1"))
    assert database.read(rules.all) == [rule(2)]
    assert database.read(rules.all_states) == {"uuid-2": RuleState("uuid-2", last_tick_ms=5)}


def test_state_is_replaced_and_forgotten(database: Database) -> None:
    database.write(lambda c: rules.insert(c, rule()))
    assert database.read(lambda c: rules.get_state(c, "uuid-1")) is None
    state = RuleState("uuid-1", last_tick_ms=1, enabled_at_us=2, state={"seen": [1, 2]})
    database.write(lambda c: rules.put_state(c, state))
    assert database.read(lambda c: rules.get_state(c, "uuid-1")) == state
    later = dataclasses.replace(
        state,
        last_tick_ms=9,
        last_status="partial failure",
        last_status_us=4,
        last_message="capped",
        last_metrics={"total_search_duration_ms": 7},
        state=None,
    )
    database.write(lambda c: rules.put_state(c, later))
    assert database.read(rules.all_states) == {"uuid-1": later}
    database.write(lambda c: rules.delete_state(c, "uuid-1"))
    assert database.read(rules.all_states) == {}


def test_a_rule_deleted_meanwhile_is_not_remembered(database: Database) -> None:
    assert not database.write(lambda c: rules.put_state(c, RuleState("gone", last_tick_ms=1)))
    assert database.read(rules.all_states) == {}


def test_single_values(database: Database) -> None:
    assert database.read(lambda c: meta.get(c, "a")) is None
    database.write(lambda c: meta.put(c, "a", "1"))
    database.write(lambda c: meta.put(c, "a", "2"))
    database.write(lambda c: meta.put(c, "b", ""))
    assert database.read(meta.all) == {"a": "2", "b": ""}
    database.write(lambda c: meta.drop(c, "a"))
    database.write(lambda c: meta.drop(c, "a"))
    assert database.read(meta.all) == {"b": ""}
