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


def test_a_rule_that_is_deleted_leaves_none(database: Database) -> None:
    kept(database, memory(10))
    database.write(lambda c: rules.delete(c, "u1"))
    assert of_rule(database, 0, 99) == []
