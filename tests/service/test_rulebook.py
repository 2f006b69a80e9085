"""The rules that run now: what makes one run, what keeps it from it, and what a change does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_graph import Graph, audit, audits, rule_of, together

from barrelman.service.exceptionchanges import Which
from barrelman.service.rulebook import RuleBook, api_props, read_rule
from barrelman.service.rulesync import FileRules
from barrelman.settings.rulefiles import read_exception_files
from barrelman.store import rules as rules_table


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    with Graph(tmp_path / "data") as made:
        made.open_up().service.detector.start()
        yield made


def book(graph: Graph) -> RuleBook:
    return graph.service.rulebook


def stored_rule(graph: Graph, uuid: str) -> rules_table.StoredRule:
    found = graph.service.database.read(lambda c: rules_table.get(c, id=uuid))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({}, "ready", ""),
        ({"enabled": False}, "disabled", ""),
        ({"query": "user.name:("}, "invalid", "query"),
        ({"query": "source.ip:x"}, "invalid", ""),
        ({"language": "lucene", "query": "user.name:eve"}, "ready", ""),
        ({"type": "eql", "language": "eql", "query": "any where true"}, "ready", ""),
        ({"type": "eql", "language": "eql", "query": "any where"}, "invalid", ""),
        ({"type": "esql", "language": "esql", "query": "FROM a"}, "unsupported", ""),
        ({"interval": "soon"}, "invalid", "interval"),
    ],
)
def test_statuses(graph: Graph, changes: dict[str, Any], status: str, word: str) -> None:
    uuid = graph.add_rule(**changes)
    found = book(graph).status_of(uuid)
    assert found.status == status
    assert word in found.reason.lower()
    assert len(book(graph).lineup.watchers) == (status == "ready")
    assert [entry.stored.id for entry in book(graph).entries()] == [uuid]


def test_a_rule_that_looks_back_further_than_events_are_kept_says_so(graph: Graph) -> None:
    given: dict[str, Any] = {"type": "new_terms", "new_terms_fields": ["user.name"]}
    near = graph.add_rule(rule_id="near", history_window_start="now-30d", **given)
    far = graph.add_rule(rule_id="far", history_window_start="now-31d", **given)
    assert book(graph).status_of(near).notes == ()
    (note,) = book(graph).status_of(far).notes
    assert note == (
        "its past begins at now-31d, and events are kept for 30 days: what came only before that "
        "counts as new"
    )


def test_an_unknown_rule_is_disabled(graph: Graph) -> None:
    assert book(graph).status_of("nobody").status == "disabled"


def test_a_rule_reads_back_as_it_was_stored(graph: Graph) -> None:
    uuid = graph.add_rule(max_signals=7, tags=["a"], threat=[])
    props = api_props(stored_rule(graph, uuid))
    assert (props["id"], props["revision"], props["immutable"]) == (uuid, 0, False)
    loaded = read_rule(props)
    assert loaded.rule is not None
    assert (loaded.rule.uuid, loaded.rule.max_signals, loaded.rule.tags) == (uuid, 7, ("a",))
    assert read_rule({}).status == "invalid"
    assert read_rule({"items": 7}).rule is None


def test_a_change_of_one_rule_leaves_the_others_as_they_are(graph: Graph) -> None:
    uuids = [graph.add_rule(rule_of(f"r{number}")) for number in range(3)]
    before = book(graph).lineup
    book(graph).reload()
    assert book(graph).lineup is before, "nothing has changed"
    graph.service.rules.patch({"id": uuids[1], "severity": "high"}, by="test")
    after = book(graph).lineup
    kept = [after.watchers[after.number_of[u]] is before.watchers[before.number_of[u]]
            for u in uuids]  # fmt: skip
    assert kept == [True, False, True]
    assert [each.uuid for each in before.watchers] == uuids, "who is in a run keeps the old one"


def test_exceptions_of_the_database_count_from_the_next_event_on(graph: Graph) -> None:
    desk = graph.service.exceptions
    made = desk.create_list(
        {"list_id": "staff", "name": "n", "description": "d", "type": "detection"}, by="test"
    )
    ref = {"id": made["id"], "list_id": "staff", "type": "detection", "namespace_type": "single"}
    graph.add_rule(exceptions_list=[ref])
    graph.take([audit(1), audit(2, user={"username": "adam"})])
    assert graph.judged().numbers() == [1, 2]
    item = desk.create_item(
        {
            "list_id": "staff",
            "name": "n",
            "description": "d",
            "type": "simple",
            "entries": [
                {"field": "user.name", "operator": "included", "type": "match", "value": "adam"}
            ],
        },
        by="test",
    )
    graph.take([audit(3), audit(4, user={"username": "adam"})])
    assert graph.judged().numbers() == [1, 2, 3]
    desk.delete_item(Which(id=item["id"], name=None), by="test")
    graph.take([audit(5), audit(6, user={"username": "adam"})])
    assert graph.judged().numbers() == [1, 2, 3, 5, 6]


def test_exceptions_of_files_count_too(tmp_path: Path) -> None:
    path = tmp_path / "exceptions.ndjson"
    path.write_text(
        '{"list_id":"staff","name":"n","description":"d","type":"detection"}\n'
        '{"list_id":"staff","item_id":"i","name":"n","description":"d","type":"simple",'
        '"entries":[{"field":"user.name","operator":"included","type":"match","value":"adam"}]}\n'
    )
    given, errors, _ = read_exception_files([path])
    assert not errors
    with Graph(tmp_path / "data", read_files=lambda: FileRules(given=given)) as graph:
        graph.open_up().service.detector.start()
        ref = {"id": "x", "list_id": "staff", "type": "detection", "namespace_type": "single"}
        graph.add_rule(exceptions_list=[ref])
        graph.take([audit(1), audit(2, user={"username": "adam"})])
        assert graph.judged().numbers() == [1]


def test_a_rule_that_is_not_kept_can_be_tried(graph: Graph) -> None:
    loaded, watcher = book(graph).candidate(rule_of("tried", max_signals=7))
    assert watcher is not None
    assert (loaded.status, watcher.cap) == ("ready", 7)
    loaded, watcher = book(graph).candidate(rule_of("tried", query="user.name:("))
    assert watcher is None
    assert loaded.status == "invalid"
    assert book(graph).entries() == []


def test_reloads_from_many_threads_end_with_what_is_stored(graph: Graph) -> None:
    uuids = [graph.add_rule(rule_of(f"r{number}")) for number in range(4)]

    def edit(uuid: str) -> None:
        for number in range(10):
            graph.service.rules.patch({"id": uuid, "max_signals": number + 1}, by="test")

    together(*(lambda uuid=uuid: edit(uuid) for uuid in uuids))
    assert {each.cap for each in book(graph).lineup.watchers} == {10}
    graph.take(audits([1]))
    assert len(graph.judged().alerts()) == 4
