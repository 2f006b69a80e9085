"""Alerts as they are made, found, changed and forgotten."""

import json
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, func, insert, select

from barrelman.store import alerts
from barrelman.store.alerts import NewAlert, Status, StoredAlert
from barrelman.store.database import Database
from barrelman.store.tables import alert_documents, alert_history, alert_notes, outbox


def alert(id: str, **changes: Any) -> NewAlert:  # noqa: A002  # the word of the API
    fields: dict[str, Any] = {
        "kind": "live",
        "rule_uuid": "u1",
        "rule_id": "r1",
        "rule_name": "Rule é",
        "severity": "medium",
        "risk_score": 47.5,
        "cluster": "prod",
        "tick_ms": 300_000,
        "created_us": 1_000_000,
        "event_time_us": 999_999,
        "building_block": False,
        "document": json.dumps({"kibana.alert.uuid": id, "user": {"name": "ann"}}),
    }
    return NewAlert(id=id, **{**fields, **changes})


def keep(database: Database, *some: NewAlert) -> list[str]:
    return database.write(lambda c: alerts.add(c, some))


def get(database: Database, id: str) -> StoredAlert:  # noqa: A002  # the word of the API
    found = database.read(lambda c: alerts.get(c, id))
    assert found is not None
    return found


def ids(database: Database, **asked: Any) -> list[str]:
    return database.read(lambda c: [each.id for each in alerts.select(c, **asked)])


def change(database: Database, some: list[str], **changes: Any) -> list[str]:
    settled = {"by": "ann", "at_us": 1_700_000_000_123_456, **changes}
    return database.write(partial(alerts.change, ids=some, **settled))


# Adding


def test_an_alert_comes_back_as_it_was_made(database: Database) -> None:
    made = alert("a", event_time_us=None, building_block=True)
    assert keep(database, made) == ["a"]
    found = get(database, "a")
    for name in ("id", "kind", "rule_name", "risk_score", "event_time_us", "document"):
        assert getattr(found, name) == getattr(made, name)
    assert (found.building_block, found.status, found.tags) == (True, "open", [])
    assert (found.status_updated_us, found.status_by, found.reason) == (None, None, None)
    assert database.read(lambda c: alerts.get(c, "b")) is None


def test_only_what_is_new_is_kept_and_told_in_order(database: Database) -> None:
    assert keep(database, alert("b", severity="low"), alert("a")) == ["b", "a"]
    again = [alert("c"), alert("b", severity="high"), alert("d"), alert("c", severity="high")]
    assert keep(database, *again) == ["c", "d"]
    assert keep(database, *again) == []
    assert keep(database) == []
    assert get(database, "b").severity == "low"
    assert get(database, "c").severity == "medium"
    documents = database.read(
        lambda c: c.execute(select(alert_documents.c.document)).scalars().all()
    )
    assert sorted(json.loads(each)["kibana.alert.uuid"] for each in documents) == list("abcd")


def test_thousands_at_once(database: Database) -> None:
    some = [alert(f"{number:05}", created_us=number) for number in range(2_500)]
    assert keep(database, *some) == [each.id for each in some]
    assert keep(database, *some[1_000:], alert("new")) == ["new"]
    wanted = [f"{number:05}" for number in range(0, 5_000, 2)]
    found = database.read(lambda c: alerts.known(c, wanted))
    assert found == {f"{number:05}" for number in range(0, 2_500, 2)}
    assert database.read(lambda c: alerts.known(c, [])) == set()


def test_alerts_of_a_run_are_counted(database: Database) -> None:
    keep(
        database,
        alert("a"),
        alert("b"),
        alert("c", tick_ms=600_000),
        alert("d", rule_uuid="u2"),
        alert("e", kind="scheduled"),
    )
    ticks = [("u1", 300_000), ("u1", 600_000), ("u2", 300_000), ("u2", 600_000)]
    live = database.read(lambda c: alerts.count_for_ticks(c, ticks))
    assert live == {("u1", 300_000): 2, ("u1", 600_000): 1, ("u2", 300_000): 1}
    every = database.read(lambda c: alerts.count_for_ticks(c, ticks, kinds=None))
    assert every[("u1", 300_000)] == 3
    many = [("u1", tick) for tick in range(0, 600_000, 100)]
    assert database.read(lambda c: alerts.count_for_ticks(c, many)) == {("u1", 300_000): 2}
    assert database.read(lambda c: alerts.count_for_ticks(c, [])) == {}


# Selecting


def some_alerts(database: Database) -> None:
    keep(
        database,
        alert("a", created_us=1, severity="low", cluster="dev"),
        alert("b", created_us=2, rule_uuid="u2", rule_id="r2", kind="scheduled"),
        alert("c", created_us=2, severity="high", building_block=True),
        alert("d", created_us=3, severity="critical"),
    )
    change(database, ["b"], status="closed")


def test_what_restricts(database: Database) -> None:
    some_alerts(database)

    def found(**filters: Any) -> list[str]:
        selected = ids(database, **filters)
        assert database.read(lambda c: alerts.count(c, **filters)) == len(selected)
        tally = database.read(lambda c: alerts.tally(c, "kind", **filters))
        assert sum(tally.values()) == len(selected)
        return selected

    assert found() == ["d", "c", "b", "a"]
    assert found(created_us=(2, None)) == ["d", "c", "b"]
    assert found(created_us=(None, 2)) == ["c", "b", "a"]
    assert found(created_us=(2, 2)) == ["c", "b"]
    assert found(rule_uuids=["u2"]) == ["b"]
    assert found(rule_ids=["r2", "none"]) == ["b"]
    assert found(severities={"low", "high"}) == ["c", "a"]
    assert found(statuses=["open", "acknowledged"]) == ["d", "c", "a"]
    assert found(statuses=["closed"]) == ["b"]
    assert found(clusters=["dev"], severities=["low"]) == ["a"]
    assert found(clusters=frozenset()) == []
    assert found(clusters=None, kinds=["scheduled"]) == ["b"]
    assert found(building_block=True) == ["c"]
    assert found(building_block=False) == ["d", "b", "a"]
    assert found(ids=["a", "d", "a", "none"]) == ["d", "a"]
    assert found(ids=[]) == []
    assert found(ids=["a", "d"], severities=["low"]) == ["a"]


def test_order_limit_and_going_on(database: Database) -> None:
    some_alerts(database)
    assert ids(database, newest_first=False) == ["a", "b", "c", "d"]
    assert ids(database, limit=2) == ["d", "c"]
    assert ids(database, limit=0) == []
    assert ids(database, limit=2, after=(2, "c")) == ["b", "a"]
    assert ids(database, newest_first=False, after=(2, "b")) == ["c", "d"]
    assert ids(database, after=(0, "")) == []
    seen: list[str] = []
    place: tuple[int, str] | None = None
    while page := _page(database, place):
        place = (page[0].created_us, page[0].id)
        seen.append(page[0].id)
    assert seen == ["d", "c", "b", "a"]


def _page(database: Database, after: tuple[int, str] | None) -> list[StoredAlert]:
    return database.read(lambda c: list(alerts.select(c, limit=1, after=after)))


def test_more_ids_than_a_statement_may_name(database: Database) -> None:
    some = [alert(f"{number:05}", created_us=number % 7) for number in range(1_800)]
    keep(database, *some)
    expected = [each.id for each in sorted(some, key=lambda a: (a.created_us, a.id))]
    asked = [each.id for each in some] + ["none"]
    assert ids(database, ids=asked, newest_first=False) == expected
    assert ids(database, ids=asked) == expected[::-1]
    assert ids(database, ids=asked, limit=700, after=(6, "00006")) == expected[::-1][-1_543:][:700]
    assert ids(database, newest_first=False) == expected
    assert database.read(lambda c: alerts.count(c, ids=asked)) == 1_800
    assert database.read(lambda c: alerts.tally(c, "severity", ids=asked)) == {"medium": 1_800}


def test_a_tally_by_column(database: Database) -> None:
    some_alerts(database)

    def tally(by: Any, **filters: Any) -> dict[str, int]:
        return database.read(lambda c: alerts.tally(c, by, **filters))

    assert tally("status") == {"open": 3, "closed": 1}
    assert tally("cluster", severities=["low"]) == {"dev": 1}
    assert tally("rule_uuid") == {"u1": 3, "u2": 1}


def test_taking_a_few_leaves_the_connection_usable(database: Database) -> None:
    keep(database, *(alert(f"{number:05}", created_us=number) for number in range(2_000)))
    with database.reading() as connection:
        taken = alerts.select(connection)
        assert [next(taken).id for _ in range(3)] == ["01999", "01998", "01997"]
        assert alerts.count(connection) == 2_000
        assert next(taken).id == "01996"


def plans(database: Database, **asked: Any) -> str:
    """How SQLite goes about a selection."""
    ran: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        ran.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    ids(database, **asked)
    event.remove(Engine, "before_cursor_execute", note)
    statement, parameters = next(each for each in ran if each[0].startswith("SELECT"))
    explained = database.read(
        lambda c: c.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    )
    return "; ".join(row.detail for row in explained)


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        ({}, "ix_alerts_created"),
        ({"created_us": (1, 2)}, "ix_alerts_created"),
        ({"severities": ["high"], "clusters": ["prod", "dev"]}, "ix_alerts_created"),
        ({"statuses": ["open", "acknowledged"]}, "ix_alerts_created"),
        ({"after": (5, "a")}, "ix_alerts_created"),
        ({"statuses": ["closed"]}, "ix_alerts_status_created"),
        ({"rule_uuids": ["u1"]}, "ix_alerts_rule_created"),
    ],
)
def test_the_first_alerts_are_found_without_sorting_all(
    database: Database, asked: dict[str, Any], index: str
) -> None:
    if database.read(lambda c: c.dialect.name) != "sqlite":
        pytest.skip("how SQLite goes about it")
    plan = plans(database, limit=10, **asked)
    assert index in plan
    # Of alerts made at the same time, the ids are sorted: that is a few, not all.
    assert "USE TEMP B-TREE FOR ORDER BY" not in plan


STREAM = """
    import resource, sys
    from pathlib import Path
    from barrelman.store import alerts
    from barrelman.store.database import Database
    database = Database.open(Path(sys.argv[1]), read_only=True)
    with database.reading() as connection:
        list(alerts.select(connection, limit=1000))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seen = sum(len(each.document) for each in alerts.select(connection))
        seen += sum(len(each.document) for each in alerts.select(connection, statuses=["open"]))
    print(seen, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_selecting_all_holds_few_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = Database.open(path)
    document = json.dumps({"a": "x" * 4_000})
    for start in range(0, 10_000, 2_000):
        some = [alert(str(n), document=document) for n in range(start, start + 2_000)]
        database.write(partial(alerts.add, alerts=some))
    database.close()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STREAM), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen, mebibytes = map(int, done.stdout.split())
    assert seen == 2 * 10_000 * len(document)  # 80 MB
    assert mebibytes < 16


# Changing


def test_a_status_with_who_when_and_why(database: Database) -> None:
    keep(database, alert("a"), alert("b"))
    assert change(database, ["a"], status="closed", reason="false_positive") == ["a"]
    found = get(database, "a")
    assert (found.status, found.status_by, found.reason) == ("closed", "ann", "false_positive")
    assert found.status_updated_us == 1_700_000_000_123_456
    (entry,) = database.read(lambda c: alerts.history(c, "a"))
    assert (entry.alert_id, entry.at_us, entry.by) == ("a", 1_700_000_000_123_456, "ann")
    assert (entry.what, entry.before, entry.after) == ("status", "open", "closed")
    assert entry.reason == "false_positive"
    assert get(database, "b").status == "open"
    assert database.read(lambda c: alerts.history(c, "b")) == []


def test_what_is_so_already_is_no_change(database: Database) -> None:
    keep(database, alert("a"), alert("b"))
    change(database, ["a"], status="closed", reason="duplicate", add_tags=["x"])
    assert change(database, ["a"], status="closed", reason="other", by="bob") == []
    assert change(database, ["a"], add_tags=["x"], remove_tags=["y"]) == []
    assert change(database, ["a"], remove_assignees=["z"]) == []
    assert change(database, ["a", "b"], status="closed", by="bob") == ["b"]
    assert change(database, ["a"]) == []
    assert (get(database, "a").status_by, get(database, "a").reason) == ("ann", "duplicate")
    assert len(database.read(lambda c: alerts.history(c, "a"))) == 2


def test_a_new_status_replaces_the_reason(database: Database) -> None:
    keep(database, alert("a"))
    change(database, ["a"], status="closed", reason="duplicate")
    change(database, ["a"], status="open", by="bob", at_us=5)
    found = get(database, "a")
    assert (found.status, found.reason, found.status_by, found.status_updated_us) == (
        *("open", None, "bob"),
        5,
    )


def test_tags_and_assignees_keep_their_order_and_come_once(database: Database) -> None:
    keep(database, alert("a"))
    change(database, ["a"], add_tags=["b", "a", "b"], add_assignees=["u1"])
    change(database, ["a"], add_tags=["c", "a"], remove_tags=["b", "none"], add_assignees=["u2"])
    found = get(database, "a")
    assert (found.tags, found.assignees) == (["a", "c"], ["u1", "u2"])
    told = database.read(lambda c: [(e.what, e.before, e.after) for e in alerts.history(c, "a")])
    assert told == [
        ("tags", [], ["b", "a"]),
        ("assignees", [], ["u1"]),
        ("tags", ["b", "a"], ["a", "c"]),
        ("assignees", ["u1"], ["u1", "u2"]),
    ]


def test_notes_are_kept_with_who_and_when(database: Database) -> None:
    keep(database, alert("a"))
    assert change(database, ["a"], note="looked at it") == ["a"]
    assert change(database, ["a"], note="é", by="bob", at_us=9, status="acknowledged") == ["a"]
    written = database.read(lambda c: alerts.notes(c, "a"))
    assert [(n.by, n.text) for n in written] == [("ann", "looked at it"), ("bob", "é")]
    assert (written[1].alert_id, written[1].at_us) == ("a", 9)
    told = database.read(lambda c: [(e.what, e.after) for e in alerts.history(c, "a")])
    assert told == [("note", "looked at it"), ("status", "acknowledged"), ("note", "é")]


def test_unknown_ids_are_passed_over_and_known_ones_told_in_order(database: Database) -> None:
    keep(database, *(alert(f"{number:04}") for number in range(1_200)))
    asked = [f"{number:04}" for number in range(1_199, -1, -1)]
    asked.insert(600, "none")
    told = change(database, [*asked, "0003"], status="acknowledged", add_tags=["t"])
    assert told == [each for each in asked if each != "none"]
    assert ids(database, statuses=["acknowledged"], limit=2) == ["1199", "1198"]
    entries = database.read(lambda c: c.execute(select(alert_history.c.alert_id)).all())
    assert len(entries) == 2_400
    assert change(database, []) == []


def test_a_change_that_fails_leaves_no_history(database: Database) -> None:
    keep(database, alert("a"))

    def fail(connection: Connection) -> None:
        alerts.change(connection, ["a"], by="ann", at_us=1, status="closed", note="n")
        raise LookupError

    with pytest.raises(LookupError):
        database.write(fail)
    assert get(database, "a").status == "open"
    assert database.read(lambda c: (alerts.history(c, "a"), alerts.notes(c, "a"))) == ([], [])


# The document


def test_a_fresh_alert_as_a_document(database: Database) -> None:
    keep(database, alert("a"))
    assert get(database, "a").merged() == {
        "kibana.alert.uuid": "a",
        "user": {"name": "ann"},
        "kibana.alert.workflow_status": "open",
        "kibana.alert.workflow_tags": [],
        "kibana.alert.workflow_assignee_ids": [],
    }


def test_what_people_made_of_it_is_in_the_document(database: Database) -> None:
    stale = {"kibana.alert.workflow_status": "open", "kibana.alert.workflow_reason": "stale"}
    keep(database, alert("a", document=json.dumps({"x": 1, **stale})))
    assert "kibana.alert.workflow_reason" not in get(database, "a").merged()
    change(
        database, ["a"], status="closed", reason="duplicate", add_tags=["t"], add_assignees=["u"]
    )
    assert get(database, "a").merged() == {
        "x": 1,
        "kibana.alert.workflow_status": "closed",
        "kibana.alert.workflow_status_updated_at": "2023-11-14T22:13:20.123Z",
        "kibana.alert.workflow_user": "ann",
        "kibana.alert.workflow_reason": "duplicate",
        "kibana.alert.workflow_tags": ["t"],
        "kibana.alert.workflow_assignee_ids": ["u"],
    }
    assert json.loads(get(database, "a").document) == {"x": 1, **stale}


# Forgetting


def wait_for(connection: Connection, alert_id: str, done_us: int | None) -> None:
    connection.execute(
        insert(outbox).values(
            sink="s",
            alert_id=alert_id,
            created_us=1,
            state="x",
            next_us=1,
            done_us=done_us,
        )
    )


def test_closed_alerts_are_forgotten_with_all_that_belongs_to_them(database: Database) -> None:
    keep(database, *(alert(name, created_us=ord(name)) for name in "abcdef"))
    closed: Status = "closed"
    change(database, list("abcdf"), status=closed, note="n")
    database.write(lambda c: wait_for(c, "b", None))
    database.write(lambda c: wait_for(c, "c", 5))
    assert database.write(lambda c: alerts.prune(c, ord("f"), limit=1)) == 1
    assert ids(database, newest_first=False) == list("bcdef")
    assert database.write(lambda c: alerts.prune(c, ord("f"))) == 2
    assert ids(database, newest_first=False) == ["b", "e", "f"]  # awaited, open, young
    for table in (alert_history, alert_notes):
        query = select(table.c.alert_id)
        assert set(database.read(partial(_scalars, query=query))) <= {"b", "e", "f"}
    documents = select(func.count()).select_from(alert_documents)
    assert database.read(lambda c: c.execute(documents).scalar()) == 3
    assert database.write(lambda c: alerts.prune(c, ord("f"), only_closed=False)) == 1
    assert ids(database, newest_first=False) == ["b", "f"]


def _scalars(connection: Connection, query: Any) -> list[str]:
    return list(connection.execute(query).scalars())


def test_old_history_of_closed_alerts_is_forgotten(database: Database) -> None:
    keep(database, alert("a"), alert("b"))
    change(database, ["a", "b"], add_tags=["t"], at_us=1)
    change(database, ["a"], status="closed", at_us=10)
    assert database.write(lambda c: alerts.prune_history(c, 10)) == 1
    assert database.write(lambda c: alerts.prune_history(c, 10)) == 0
    assert [e.what for e in database.read(lambda c: alerts.history(c, "a"))] == ["status"]
    assert [e.what for e in database.read(lambda c: alerts.history(c, "b"))] == ["tags"]
    change(database, ["b"], status="closed", at_us=11)
    assert database.write(lambda c: alerts.prune_history(c, 100, limit=2)) == 2
    assert database.write(lambda c: alerts.prune_history(c, 100, limit=2)) == 1


# Alerts on several events, and repeats


def test_a_sequence_counts_once_whatever_it_is_made_of(database: Database) -> None:
    keep(
        database,
        alert("block 1", group_id="whole"),
        alert("block 2", group_id="whole"),
        alert("whole", group_id="whole"),
        alert("plain"),
    )
    found = database.read(lambda c: alerts.count_for_ticks(c, [("u1", 300_000)]))
    assert found == {("u1", 300_000): 2}
    assert get(database, "block 1").group_id == "whole"
    assert get(database, "plain").group_id is None


def newest(database: Database, instance: str, first_ms: int, last_ms: int) -> str | None:
    found = database.read(
        lambda c: alerts.newest_instance(c, instance, rule_uuid="u1", ticks_ms=(first_ms, last_ms))
    )
    return None if found is None else found.id


def test_repeats_go_to_the_newest_alert_that_is_not_closed(database: Database) -> None:
    keep(
        database,
        alert("a", instance_id="i", tick_ms=10),
        alert("b", instance_id="i", tick_ms=20),
        alert("c", instance_id="i", tick_ms=20),
        alert("d", instance_id="i", tick_ms=30, rule_uuid="u2"),
        alert("e", instance_id="j", tick_ms=30),
    )
    assert newest(database, "i", 0, 100) == "c"
    assert newest(database, "i", 0, 19) == "a"
    assert newest(database, "i", 10, 10) == "a"
    assert newest(database, "i", 21, 100) is None
    assert newest(database, "k", 0, 100) is None
    change(database, ["c"], status="acknowledged")
    assert newest(database, "i", 0, 100) == "c"
    change(database, ["c"], status="closed")
    assert newest(database, "i", 0, 100) == "b"


def test_a_rewritten_alert_keeps_what_people_made_of_it(database: Database) -> None:
    keep(database, alert("a"), alert("b"))
    change(database, ["a"], status="acknowledged", add_tags=["t"])
    database.write(lambda c: alerts.rewrite(c, "a", '{"x":1}'))
    found = get(database, "a")
    assert (found.document, found.status, found.tags) == ('{"x":1}', "acknowledged", ["t"])
    assert get(database, "b").document != '{"x":1}'
