"""Who changed what."""

from functools import partial
from typing import Any

from barrelman.store import audit
from barrelman.store.audit import Entry
from barrelman.store.database import Database


def write(database: Database, **entry: Any) -> None:
    database.write(lambda c: audit.note(c, **entry))


def three(database: Database) -> None:
    write(database, at_us=10, by="ann", action="rule.create", target="r1", detail={"n": [1, None]})
    write(database, at_us=30, by="bob", action="rule.update", target="r1")
    write(database, at_us=20, by="ann", action="key.create", target="k1")


def test_what_is_noted_is_found_newest_first(database: Database) -> None:
    three(database)
    found = database.read(audit.find)
    assert found == [
        Entry(2, 30, "bob", "rule.update", "r1", {}),
        Entry(3, 20, "ann", "key.create", "k1", {}),
        Entry(1, 10, "ann", "rule.create", "r1", {"n": [1, None]}),
    ]
    oldest = database.read(lambda c: audit.find(c, newest_first=False))
    assert oldest == found[::-1]


def test_what_restricts(database: Database) -> None:
    three(database)

    def ids(**filters: Any) -> list[int]:
        found = [entry.id for entry in database.read(lambda c: audit.find(c, **filters))]
        assert database.read(lambda c: audit.count(c, **filters)) == len(found)
        return found

    assert ids(since_us=20) == [2, 3]
    assert ids(until_us=20) == [3, 1]
    assert ids(since_us=20, until_us=20) == [3]
    assert ids(by="ann") == [3, 1]
    assert ids(actions=["rule.create", "key.create"]) == [3, 1]
    assert ids(actions=[]) == []
    assert ids(target="r1", by="bob") == [2]
    assert ids(by=None, target=None) == [2, 3, 1]


def test_pages(database: Database) -> None:
    three(database)
    pages = [database.read(partial(audit.find, limit=2, offset=start)) for start in (0, 2, 4)]
    assert [[entry.id for entry in page] for page in pages] == [[2, 3], [1], []]
    assert database.read(audit.count) == 3


def test_a_change_that_fails_is_not_noted(database: Database) -> None:
    def change(connection: Any) -> None:
        audit.note(connection, at_us=1, by="ann", action="a", target="t")
        raise LookupError

    future = database.write_soon(change)
    assert isinstance(future.exception(10), LookupError)
    assert database.read(audit.find) == []


def test_the_oldest_are_forgotten(database: Database) -> None:
    three(database)
    assert database.write(lambda c: audit.prune(c, 30, limit=1)) == 1
    assert [entry.id for entry in database.read(audit.find)] == [2, 3]
    assert database.write(lambda c: audit.prune(c, 30)) == 1
    assert database.write(lambda c: audit.prune(c, 30)) == 0
    assert [entry.id for entry in database.read(audit.find)] == [2]
