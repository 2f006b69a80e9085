"""From the tables as they are to the tables as they should be: numbered, named steps.

All steps that are missing run in one transaction: a database is of the new version or of the old
one, never between. A database of a version that this one does not know is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Connection, MetaData, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable, SchemaItem

from barrelman.errors import StoreError
from barrelman.records.frozen import frozen
from barrelman.store import tables


@frozen
class Step:
    """One migration: what `tables` marks with its number is made, then `also` sees to the rows."""

    number: int
    name: str
    also: Callable[[Connection], None] | None = None


STEPS: Final[tuple[Step, ...]] = (
    Step(1, "first tables"),
    Step(2, "alerts on several events"),
)


def migrate(
    connection: Connection,
    *,
    now_us: int,
    steps: Sequence[Step] = STEPS,
    metadata: MetaData = tables.metadata,
) -> list[Step]:
    """Runs the steps that are missing, in the caller's transaction; gives those that it ran.

    Raises StoreError where the database is newer, or not ours.
    """
    missing = missing_steps(connection, steps=steps)
    for step in missing:
        try:
            _make(connection, metadata, step.number)
            if step.also is not None:
                step.also(connection)
        except SQLAlchemyError as error:
            raise StoreError(
                f"migration {step.number} of the database ({step.name}) failed: {error}",
                hint="the database is as it was before",
            ) from error
        connection.execute(
            tables.migrations.insert().values(number=step.number, name=step.name, applied_us=now_us)
        )
    return missing


def missing_steps(connection: Connection, *, steps: Sequence[Step] = STEPS) -> list[Step]:
    """The steps that a database lacks. Raises StoreError where it cannot be brought to ours."""
    present = inspect(connection).get_table_names()
    if tables.migrations.name not in present:
        if present:
            raise StoreError(
                "the database holds tables of something else",
                hint="name another data folder",
            )
        return list(steps)
    found = connection.execute(
        select(tables.migrations.c.number, tables.migrations.c.name).order_by("number")
    ).all()
    if len(found) > len(steps):
        raise StoreError(
            f"the database is of version {found[-1].number}, and this Barrelman knows version "
            f"{steps[-1].number}",
            hint="run the newer Barrelman, or a copy of the data from before its first start",
        )
    for row, step in zip(found, steps, strict=False):
        if (row.number, row.name) != (step.number, step.name):
            raise StoreError(
                f"the database names its migration {row.number} '{row.name}', where this "
                f"Barrelman has {step.number} '{step.name}'",
                hint="run the Barrelman that made it",
            )
    return list(steps[len(found) :])


def _make(connection: Connection, metadata: MetaData, number: int) -> None:
    """Tables, columns and indexes marked with this number."""
    then = _as_of(metadata, number)
    for table in metadata.sorted_tables:
        made_in = since_of(table)
        if made_in == number:
            connection.execute(CreateTable(then.tables[table.name]))
        elif made_in < number:
            quoted = connection.dialect.identifier_preparer.format_table(table)
            for column in table.columns:
                if since_of(column) == number:
                    written = CreateColumn(column).compile(dialect=connection.dialect)
                    connection.execute(text(f"ALTER TABLE {quoted} ADD COLUMN {written}"))
        for index in sorted(table.indexes, key=lambda each: str(each.name)):
            if max(made_in, since_of(index)) == number:
                connection.execute(CreateIndex(index))


def since_of(item: SchemaItem) -> int:
    """The migration that makes a table, a column or an index."""
    return int(item.info.get("since", 1))


def _as_of(metadata: MetaData, number: int) -> MetaData:
    """The tables without the columns that come later."""
    then = MetaData(naming_convention=metadata.naming_convention)
    for table in metadata.sorted_tables:
        copied = table.to_metadata(then)
        for column in table.columns:
            # A "system" column is one that CREATE TABLE does not mention.
            copied.columns[column.name].system = since_of(column) > number
    return then
