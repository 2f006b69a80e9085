"""A database is brought up to date whole, or refused as it is."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from barrelman.errors import StoreError
from barrelman.store import alerts, rules, runs
from barrelman.store.database import Database
from barrelman.store.migrations import STEPS, Step, migrate, missing_steps
from barrelman.store.tables import metadata, migrations, since

VERSION_1 = Path(__file__).with_name("version_1.sql").read_text(encoding="utf-8")


def shape(connection: Connection) -> dict[str, Any]:
    """Tables, columns, keys and indexes as the database itself tells them."""
    found = inspect(connection)
    return {
        name: (
            [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(name)],
            found.get_pk_constraint(name)["constrained_columns"],
            sorted((i["name"], tuple(i["column_names"])) for i in found.get_indexes(name)),
            sorted(tuple(u["column_names"]) for u in found.get_unique_constraints(name)),
            sorted(
                (tuple(f["constrained_columns"]), f["referred_table"], f["options"].get("ondelete"))
                for f in found.get_foreign_keys(name)
            ),
        )
        for name in found.get_table_names()
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


def by_hand(path: Path, script: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.executescript(script)
    connection.close()


def test_the_steps_make_the_tables_as_they_are_written(database: Database, tmp_path: Path) -> None:
    made = database.read(shape)
    other = Database.open(tmp_path / "other.db")
    other.write(metadata.drop_all)
    other.write(metadata.create_all)
    assert made == other.read(shape)
    assert made.keys() == metadata.tables.keys()
    other.close()


def test_a_new_database_notes_each_step_and_when(database: Database) -> None:
    rows = database.read(lambda c: c.execute(select(migrations).order_by("number")).all())
    assert [tuple(row) for row in rows] == [(step.number, step.name, 1) for step in STEPS]


def test_steps_are_numbered_from_one_without_a_hole() -> None:
    assert [step.number for step in STEPS] == list(range(1, len(STEPS) + 1))
    assert len({step.name for step in STEPS}) == len(STEPS)


def test_opening_again_changes_nothing(path: Path) -> None:
    Database.open(path, now_us=1).close()
    database = Database.open(path, now_us=2)
    times = database.read(lambda c: set(c.execute(select(migrations.c.applied_us)).scalars()))
    assert times == {1}
    assert database.read(missing_steps) == []
    database.close()


def test_a_file_of_version_1_keeps_what_it_holds(path: Path) -> None:
    by_hand(path, VERSION_1)
    database = Database.open(path, now_us=5)
    rule = database.read(lambda c: rules.get(c, rule_id="r-1"))
    assert rule is not None
    assert (rule.params, rule.enabled, rule.revision) == ({"name": "Café"}, True, 3)
    assert database.read(lambda c: [run.id for run in runs.find(c)]) == ["run"]
    alert = database.read(lambda c: alerts.get(c, "al-1"))
    assert alert is not None
    assert alert.merged()["kibana.alert.workflow_reason"] == "duplicate"
    assert database.read(missing_steps) == []
    database.close()


def test_version_1_is_still_made_as_it_was_released(path: Path, bare: Database) -> None:
    """What a step made is in files of users: it never changes, there are only further steps."""
    with sqlite3.connect(path) as connection:
        connection.executescript(VERSION_1)
    connection.close()
    bare.write(lambda c: migrate(c, now_us=1, steps=STEPS[:1]))
    released = create_engine(f"sqlite:///{path}")
    with released.connect() as opened:
        expected = shape(opened)
    released.dispose()
    assert bare.read(shape) == expected


def test_a_newer_database_is_refused_as_it_is(path: Path) -> None:
    Database.open(path).close()
    by_hand(path, "INSERT INTO migrations VALUES (999, 'from the future', 1)")
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(StoreError, match="is of version 999, and this Barrelman knows"):
            Database.open(path, read_only=read_only)
    assert path.read_bytes() == before


def test_a_database_of_another_line_is_refused(path: Path) -> None:
    Database.open(path).close()
    by_hand(path, "UPDATE migrations SET name = 'other tables' WHERE number = 1")
    with pytest.raises(StoreError, match="1 'other tables', where this Barrelman has 1 'first"):
        Database.open(path)


def test_a_database_of_something_else_is_refused_as_it_is(path: Path) -> None:
    by_hand(path, "CREATE TABLE songs (title TEXT)")
    with pytest.raises(StoreError, match="tables of something else"):
        Database.open(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("songs",)]
    connection.close()


def test_an_older_database_is_not_migrated_by_a_reader(path: Path) -> None:
    by_hand(path, "")
    path.touch()
    with pytest.raises(StoreError, match="of an older version"):
        Database.open(path, read_only=True)


# The way a step works, on tables of its own


def grown() -> MetaData:
    """Two tables, of which the first gained a column, an index and a sibling in version 2."""
    tables = MetaData()
    Table(
        "ships",
        tables,
        Column("id", Integer, primary_key=True),
        Column("name", Text, nullable=False),
        Column("masts", Integer, nullable=False, server_default="3", info=since(2)),
        Index("ix_ships_masts", "masts", info=since(2)),
    )
    Table("crews", tables, Column("id", Integer, primary_key=True), info=since(2))
    migrations.to_metadata(tables)
    return tables


def rename(connection: Connection) -> None:
    connection.execute(text("UPDATE ships SET name = upper(name)"))


ONE = Step(1, "ships")
TWO = Step(2, "masts and crews", rename)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Database]:
    """A database without a table."""
    database = Database.open(tmp_path / "bare.db")
    database.write(metadata.drop_all)
    yield database
    database.close()


def test_a_step_adds_what_is_marked_with_its_number(bare: Database) -> None:
    tables = grown()
    bare.write(lambda c: migrate(c, now_us=1, steps=(ONE,), metadata=tables))
    columns, *_ = bare.read(shape)["ships"]
    assert [name for name, *_ in columns] == ["id", "name"]
    assert bare.read(shape).keys() == {"ships", "migrations"}
    bare.write(lambda c: c.execute(text("INSERT INTO ships (name) VALUES ('argo')")))
    ran = bare.write(lambda c: migrate(c, now_us=2, steps=(ONE, TWO), metadata=tables))
    assert ran == [TWO]
    row = bare.read(lambda c: c.execute(text("SELECT name, masts FROM ships")).one())
    assert tuple(row) == ("ARGO", 3)
    grown_up = bare.read(shape)
    bare.write(tables.drop_all)
    bare.write(lambda c: migrate(c, now_us=3, steps=(ONE, TWO), metadata=tables))
    assert bare.read(shape) == grown_up
    bare.write(tables.drop_all)


def test_all_steps_or_none(bare: Database) -> None:
    tables = grown()

    def fail(connection: Connection) -> None:
        connection.execute(text("UPDATE ships SET no_such_column = 1"))

    bad = Step(2, "masts and crews", fail)
    with pytest.raises(StoreError, match=r"migration 2 of the database \(masts and crews\) failed"):
        bare.write(lambda c: migrate(c, now_us=1, steps=(ONE, bad), metadata=tables))
    assert bare.read(shape) == {}


# The other database


def test_every_table_can_be_made_in_postgresql() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in metadata.sorted_tables:
        written = str(CreateTable(table).compile(dialect=dialect))
        assert "CREATE TABLE" in written
        for index in table.indexes:
            assert "CREATE INDEX" in str(CreateIndex(index).compile(dialect=dialect))
    outbox = str(CreateTable(metadata.tables["outbox"]).compile(dialect=dialect))
    assert "id BIGSERIAL NOT NULL" in outbox
    assert "BIGINT" in outbox


def test_no_name_is_longer_than_postgresql_takes() -> None:
    names = [
        str(item.name)
        for table in metadata.sorted_tables
        for item in (table, *table.columns, *table.indexes, *table.constraints)
        if item.name
    ]
    assert max(map(len, names)) <= 63
