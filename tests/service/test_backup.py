"""A copy of the folder holds a whole copy of the database, whenever it is made."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_graph import Graph

from barrelman.service.keeper import Keeper, KeeperOptions
from barrelman.store import rules


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    with Graph(tmp_path / "data") as made:
        yield made


def test_the_copy_is_whole_and_made_anew(graph: Graph, tmp_path: Path) -> None:
    service = graph.open_up().service
    copy = tmp_path / "barrelman.db.backup"
    keeper = Keeper(
        service.database,
        service.events,
        service.rulebook,
        service.courier,
        clock=service.clock.now_us,
        options=KeeperOptions(),
        watch=lambda: None,
        on_rules=lambda: None,
        backup=copy,
    )

    def copied() -> int:
        keeper.back_up()
        assert [each.name for each in tmp_path.glob("barrelman.db.backup*")] == [copy.name]
        with sqlite3.connect(copy) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            count: int = connection.execute("SELECT count(*) FROM rules").fetchone()[0]
        connection.close()
        return count

    before = copied()
    graph.add_rule()
    assert copied() == before + 1 == len(service.database.read(rules.all))


def test_the_service_makes_one_beside_its_database(graph: Graph) -> None:
    service = graph.open_up().service
    service.keeper.back_up()
    assert (service.folder.path / "barrelman.db.backup").is_file()
