"""What runs counted, for the runs behind them."""

from typing import Any

from barrelman.store import memories, rules
from barrelman.store.database import Database
from barrelman.store.memories import Memory


def memory(tick_ms: int, *terms: tuple[str, Any], rule: str = "u1") -> Memory:
    return Memory(rule, tick_ms, list(terms), tick_ms - 1)


def kept(database: Database, *some: Memory) -> None:
    database.write(lambda c: memories.add(c, some))


def of_rule(database: Database, first_ms: int, last_ms: int) -> list[Memory]:
    return database.read(lambda c: memories.of_rule(c, "u1", ticks_ms=(first_ms, last_ms)))


def test_memories_come_back_oldest_run_first(database: Database) -> None:
    one = memory(20, ("user.name", "eve"), ("code", 403), ("ok", True), ("none", None))
    other, late = memory(10), memory(30, ("a", "b\0"))
    kept(database, one, memory(10, rule="u2"), other, late)
    assert of_rule(database, 10, 20) == [other, one]
    assert of_rule(database, 11, 19) == []
    assert of_rule(database, 30, 30) == [late]
    kept(database)


def test_old_ones_are_forgotten(database: Database) -> None:
    kept(database, memory(10), memory(20), memory(10, rule="u2"))
    assert database.write(lambda c: memories.forget(c, "u1", before_ms=20)) == 1
    assert [each.tick_ms for each in of_rule(database, 0, 99)] == [20]
    assert database.write(lambda c: memories.forget(c, "u2")) == 1


def test_what_was_folded_is_known_until_it_is_forgotten(database: Database) -> None:
    def among(*keys: str, rule: str = "u1") -> set[str]:
        return database.read(lambda c: memories.folded_among(c, rule, keys))

    database.write(lambda c: memories.add_folded(c, "u1", ["a", "b"], tick_ms=10))
    database.write(lambda c: memories.add_folded(c, "u1", ["b", "c"], tick_ms=20))
    database.write(lambda c: memories.add_folded(c, "u1", [], tick_ms=30))
    assert among("a", "b", "c", "d") == {"a", "b", "c"}
    assert among("a", rule="u2") == among() == set()
    assert database.write(lambda c: memories.forget(c, "u1", before_ms=20)) == 2
    assert among("a", "b", "c") == {"c"}
    database.write(lambda c: rules.delete(c, "u1"))
    assert among("c") == set()


def test_groups_of_several_clusters_are_kept_apart(database: Database) -> None:
    kept(database, Memory("u1", 10, [("f", "x")], 9, "bay"), Memory("u1", 11, [("f", "x")], 9))
    assert [each.cluster for each in of_rule(database, 0, 99)] == ["bay", ""]


def test_a_rule_that_is_deleted_leaves_none(database: Database) -> None:
    kept(database, memory(10))
    database.write(lambda c: rules.delete(c, "u1"))
    assert of_rule(database, 0, 99) == []
