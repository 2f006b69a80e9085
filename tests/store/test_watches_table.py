"""What the database remembers of warnings that last."""

from __future__ import annotations

from dataclasses import replace

from barrelman.store import watches
from barrelman.store.database import Database
from barrelman.store.watches import Watch

ONE = Watch(
    kind="silent",
    subject="harbour",
    state="active",
    since_us=5,
    raised_us=7,
    alert_id="a1",
    detail={"reason": "no event", "former": ["a0"]},
)


def put(database: Database, watch: Watch) -> None:
    database.write(lambda c: watches.put(c, watch))


def test_a_watch_comes_back_as_it_was_put(database: Database) -> None:
    database.write(lambda c: watches.put(c, ONE))
    assert database.read(watches.all) == [ONE]


def test_of_a_kind_and_a_subject_there_is_one(database: Database) -> None:
    later = replace(ONE, raised_us=9, alert_id="a2", detail={})
    others = [replace(ONE, subject="other", since_us=6), replace(ONE, kind="skew", since_us=7)]
    for each in (ONE, *others, later):
        put(database, each)
    assert database.read(watches.all) == [later, *others]


def test_one_that_is_over_is_forgotten(database: Database) -> None:
    other = replace(ONE, subject="")
    for each in (ONE, other):
        put(database, each)
    database.write(lambda c: watches.delete(c, "silent", "harbour"))
    database.write(lambda c: watches.delete(c, "silent", "nobody"))
    assert database.read(watches.all) == [other]


def test_what_belongs_to_it_is_not_changed_by_being_put(database: Database) -> None:
    detail = {"reason": "x"}
    database.write(lambda c: watches.put(c, replace(ONE, detail=detail)))
    assert detail == {"reason": "x"}
    (found,) = database.read(watches.all)
    assert found.detail == {"reason": "x"}
