"""Runs of rules, and gaps between them."""

from functools import partial
from typing import Any

import pytest

from barrelman.store import runs
from barrelman.store.database import Database
from barrelman.store.runs import Gap, Run


def run(id: str, **changes: Any) -> Run:  # noqa: A002  # the word of the table
    fields: dict[str, Any] = {
        "rule_uuid": "u1",
        "rule_id": "r1",
        "kind": "scheduled",
        "tick_ms": 1_000,
        "from_ms": 640,
        "to_ms": 1_000,
        "started_us": 1_000_000,
        "duration_ms": 5,
        "delay_ms": 1,
        "status": "succeeded",
        "message": "",
        "events": 10,
        "matches": 2,
        "alerts": 1,
        "capped": 0,
        "metrics": {"total_search_duration_ms": 3, "gap_range": {"gte": "a", "lte": None}},
    }
    return Run(id=id, **{**fields, **changes})


def ids(database: Database, **filters: Any) -> list[str]:
    return [each.id for each in database.read(lambda c: runs.find(c, **filters))]


def keep(database: Database, *some: Run) -> None:
    database.write(lambda c: runs.add(c, some))


def test_a_run_comes_back_as_it_was(database: Database) -> None:
    keep(database, run("a"))
    assert database.read(runs.find) == [run("a")]
    assert database.read(lambda c: runs.get(c, "a")) == run("a")
    assert database.read(lambda c: runs.get(c, "b")) is None
    keep(database)


def test_a_run_that_goes_on_takes_its_own_place(database: Database) -> None:
    keep(database, run("a", status="running", duration_ms=0), run("b"))
    keep(database, run("a", status="failed", message="full", duration_ms=9))
    assert database.read(lambda c: runs.get(c, "a")) == run(
        "a", status="failed", message="full", duration_ms=9
    )
    assert database.read(runs.count) == 2


def test_thousands_at_once(database: Database) -> None:
    database.write(lambda c: runs.add(c, (run(str(n), started_us=n) for n in range(3_000))))
    assert database.read(runs.count) == 3_000
    assert ids(database, limit=3) == ["2999", "2998", "2997"]
    assert ids(database, limit=2, offset=2_998) == ["1", "0"]


def test_what_restricts(database: Database) -> None:
    keep(
        database,
        run("a", started_us=1),
        run("b", started_us=2, rule_uuid="u2", status="failed"),
        run("c", started_us=3, kind="manual"),
        run("d", started_us=4, status="partial failure"),
    )
    assert ids(database, rule_uuid="u1") == ["d", "c", "a"]
    assert ids(database, since_us=2, until_us=3) == ["c", "b"]
    assert ids(database, statuses=["failed", "partial failure"]) == ["d", "b"]
    assert ids(database, statuses=()) == []
    assert ids(database, kinds={"manual"}, rule_uuid=None) == ["c"]
    assert ids(database, newest_first=False, rule_uuid="u1") == ["a", "c", "d"]
    count = database.read(lambda c: runs.count(c, rule_uuid="u1", kinds=["scheduled"]))
    assert count == 2


def test_what_sorts(database: Database) -> None:
    keep(
        database,
        run("a", duration_ms=3, started_us=1),
        run("b", duration_ms=9, started_us=2),
        run("c", duration_ms=3, started_us=3),
    )
    assert ids(database, sort="duration_ms") == ["b", "c", "a"]
    assert ids(database, sort="duration_ms", newest_first=False) == ["a", "c", "b"]
    for column in runs.SORTED_BY:
        assert len(ids(database, sort=column)) == 3
    with pytest.raises(ValueError, match="message"):
        database.read(lambda c: runs.find(c, sort="message"))


def test_the_latest_run_of_each_rule(database: Database) -> None:
    assert database.read(runs.latest) == {}
    keep(
        database,
        run("a", started_us=1),
        run("b", started_us=5, tick_ms=2_000),
        run("c", started_us=5, tick_ms=1_000),
        run("d", started_us=3, rule_uuid="u2"),
    )
    latest = database.read(runs.latest)
    assert {uuid: each.id for uuid, each in latest.items()} == {"u1": "b", "u2": "d"}


def test_the_oldest_are_forgotten(database: Database) -> None:
    keep(database, *(run(str(n), started_us=n) for n in range(10)))
    assert database.write(lambda c: runs.prune(c, 8, limit=5)) == 5
    assert sorted(ids(database)) == ["5", "6", "7", "8", "9"]
    assert database.write(lambda c: runs.prune(c, 8)) == 3
    assert database.write(lambda c: runs.prune(c, 8)) == 0
    assert sorted(ids(database)) == ["8", "9"]


def gap(database: Database, from_ms: int, to_ms: int, rule_uuid: str = "u1") -> int:
    added = partial(
        runs.add_gap,
        rule_uuid=rule_uuid,
        rule_id="r1",
        from_ms=from_ms,
        to_ms=to_ms,
        at_us=7,
        message="down",
    )
    return database.write(added)


def test_a_gap_from_found_to_filled(database: Database) -> None:
    first, second = gap(database, 20, 30), gap(database, 10, 15, "u2")
    assert [each.id for each in database.read(runs.unfilled)] == [second, first]
    assert database.read(runs.unfilled)[1] == Gap(
        first, "u1", "r1", 20, 30, "unfilled", None, 7, 7, "down"
    )
    change = partial(runs.set_status, id=first, status="in progress", at_us=8, filled_to_ms=25)
    assert database.write(change)
    (waiting,) = database.read(lambda c: runs.gaps(c, statuses=["in progress"]))
    assert (waiting.filled_to_ms, waiting.updated_us, waiting.message) == (25, 8, "down")
    assert database.write(partial(runs.set_status, id=first, status="filled", at_us=9))
    done = partial(runs.set_status, id=second, status="impossible", at_us=9, message="no events")
    assert database.write(done)
    assert database.read(runs.unfilled) == []
    by_id = {each.id: each for each in database.read(runs.gaps)}
    assert (by_id[first].status, by_id[first].filled_to_ms) == ("filled", 25)
    assert (by_id[second].status, by_id[second].message) == ("impossible", "no events")
    assert not database.write(partial(runs.set_status, id=99, status="filled", at_us=9))


def test_gaps_within_bounds(database: Database) -> None:
    for start in (0, 10, 20, 30):
        gap(database, start, start + 5, "u1" if start < 30 else "u2")

    def starts(**filters: Any) -> list[int]:
        return [each.from_ms for each in database.read(lambda c: runs.gaps(c, **filters))]

    assert starts(since_ms=15, until_ms=22) == [10, 20]
    assert starts(since_ms=16) == [20, 30]
    assert starts(rule_uuid="u2") == [30]
    assert starts(limit=2, offset=1) == [10, 20]
    assert starts(offset=3) == [30]
    assert starts(statuses=["filled"]) == []


def test_gaps_are_forgotten_once_settled(database: Database) -> None:
    kept, filled = gap(database, 0, 1), gap(database, 1, 2)
    database.write(partial(runs.set_status, id=filled, status="filled", at_us=10))
    assert database.write(lambda c: runs.prune_gaps(c, 10)) == 0
    assert database.write(lambda c: runs.prune_gaps(c, 11)) == 1
    assert [each.id for each in database.read(runs.gaps)] == [kept]
    assert database.write(lambda c: runs.drop_gaps(c, "u1")) == 1
    assert database.read(runs.gaps) == []
