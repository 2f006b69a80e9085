"""Rules of files follow their files; what people made or edited is theirs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from service_graph import Graph, audits, rule_of, wait_until

from barrelman.errors import RequestError
from barrelman.service.keeper import KeeperOptions
from barrelman.service.rulesync import FileRules, SyncReport
from barrelman.settings.config import Config, RulesConfig
from barrelman.settings.rulefiles import read_pack, read_rule_paths
from barrelman.settings.serve import RuleFiles
from barrelman.store import audit as audit_table
from barrelman.store import rules as rules_table
from barrelman.store.rules import StoredRule

SEED = "764c8437-a581-4537-8060-1fdb0e92c92d"


class Desk:
    """A service whose rules come from a folder, with or without the pack."""

    def __init__(self, graph: Graph, folder: Path) -> None:
        self.graph = graph
        self.folder = folder

    def write(self, name: str, *rules: dict[str, Any]) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(each) + "\n" for each in rules))
        return path

    def sync(self) -> tuple[int, int, int]:
        report = self.report()
        return report.added, report.updated, report.removed

    def report(self) -> SyncReport:
        return self.graph.service.rulebook.sync()

    def stored(self) -> dict[str, StoredRule]:
        found = self.graph.service.database.read(rules_table.all)
        return {each.rule_id: each for each in found}

    def ready(self) -> set[str]:
        return {each.rule.rule_id for each in self.graph.service.rulebook.lineup.watchers}


def opened(tmp_path: Path, *, pack: bool = False) -> Desk:
    folder = tmp_path / "rules"
    folder.mkdir()
    config = Config(rules=RulesConfig(paths=(str(folder),), pack=pack))
    files = RuleFiles(config)
    keeper = KeeperOptions(watch_seconds=0, reload_seconds=0.1, files_changed=files.have_changed)
    return Desk(Graph(tmp_path / "data", read_files=files.read, keeper=keeper), folder)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = opened(tmp_path)
    yield made
    made.graph.stop()


@pytest.fixture
def with_pack(tmp_path: Path) -> Iterator[Desk]:
    made = opened(tmp_path, pack=True)
    yield made
    made.graph.stop()


# --- files -------------------------------------------------------------------------------------


def test_a_rule_comes_changes_and_goes_with_its_file(desk: Desk) -> None:
    path = desk.write("a.ndjson", rule_of("one"), rule_of("two"))
    assert desk.sync() == (2, 0, 0)
    one = desk.stored()["one"]
    assert (one.source, one.path, one.revision, one.enabled) == ("file", str(path), 0, True)
    assert desk.ready() == {"one", "two"}
    assert desk.sync() == (0, 0, 0), "nothing has changed"
    desk.write("a.ndjson", rule_of("one", severity="high"), rule_of("two"))
    assert desk.sync() == (0, 1, 0)
    changed = desk.stored()["one"]
    assert (changed.id, changed.revision, changed.params["severity"]) == (one.id, 1, "high")
    desk.write("a.ndjson", rule_of("one", severity="high"))
    assert desk.sync() == (0, 0, 1)
    assert desk.ready() == {"one"}
    path.unlink()
    assert desk.sync() == (0, 0, 1)
    assert desk.stored() == {}
    entries = desk.graph.service.database.read(lambda c: audit_table.find(c))
    actions = [(each.action, each.target, each.by) for each in reversed(entries)]
    assert actions == [
        ("rule added", "one", "barrelman"),
        ("rule added", "two", "barrelman"),
        ("rule updated", "one", "barrelman"),
        ("rule removed", "two", "barrelman"),
        ("rule removed", "one", "barrelman"),
    ]


def test_a_rule_that_comes_back_is_the_same_rule(desk: Desk) -> None:
    path = desk.write("a.ndjson", rule_of("one"))
    desk.sync()
    before = desk.stored()["one"].id
    path.unlink()
    desk.sync()
    desk.write("b.ndjson", rule_of("one"))
    desk.sync()
    assert desk.stored()["one"].id == before


def test_a_rule_moves_with_its_file(desk: Desk) -> None:
    path = desk.write("a.ndjson", rule_of("one"))
    desk.sync()
    before = desk.stored()["one"]
    path.rename(desk.folder / "b.ndjson")
    assert desk.sync()[2] == 0
    after = desk.stored()["one"]
    assert (after.id, after.revision) == (before.id, before.revision)
    assert after.path == str(desk.folder / "b.ndjson")


BROKEN: dict[str, Callable[[str], str]] = {
    "one field": lambda text: text.replace('"severity": "medium"', '"severity": "awful"'),
    "its query": lambda text: text.replace("objectRef.resource:secrets", "objectRef.resource:("),
    "no JSON": lambda text: text[: len(text) // 2],
    "no text": lambda text: "\x00\x01\x02",
}


@pytest.mark.parametrize("how", BROKEN)
def test_while_its_file_is_broken_the_last_good_version_watches(desk: Desk, how: str) -> None:
    path = desk.write("a.ndjson", rule_of("one"))
    desk.write("b.ndjson", rule_of("two"))
    desk.sync()
    before = desk.stored()
    path.write_text(BROKEN[how](path.read_text()))
    report = desk.report()
    assert any("a.ndjson" in note for note in report.notes), report.notes
    assert desk.stored() == before
    assert desk.ready() == {"one", "two"}
    desk.write("a.ndjson", rule_of("one", severity="low"))
    desk.sync()
    assert desk.stored()["one"].params["severity"] == "low"
    assert desk.ready() == {"one", "two"}


def test_toml_that_does_not_parse_removes_nothing(desk: Desk) -> None:
    text = (Path(__file__).parents[2] / "examples" / "rules").glob("*.toml").__next__().read_text()
    path = desk.folder / "a.toml"
    path.write_text(text)
    desk.sync()
    (rule_id,) = desk.stored()
    path.write_text(text + "\n[rule\n")
    assert desk.sync() == (0, 0, 0)
    assert desk.ready() == {rule_id}
    path.write_text("")
    desk.sync()
    path.write_text(text)
    desk.sync()
    assert desk.ready() == {rule_id}


def test_what_cannot_be_read_stands_as_it_was(desk: Desk, tmp_path: Path) -> None:
    """A folder that is not mounted at the moment."""
    desk.write("a.ndjson", rule_of("one"))
    desk.write("b.ndjson", rule_of("two"))
    desk.sync()
    away = tmp_path / "away"
    desk.folder.rename(away)
    report = desk.report()
    assert report.removed == 0
    assert report.notes
    assert desk.ready() == {"one", "two"}
    away.rename(desk.folder)
    (desk.folder / "b.ndjson").unlink()
    assert desk.sync() == (0, 0, 1)


def test_a_rule_of_two_files_is_that_of_the_first(desk: Desk) -> None:
    desk.write("a.ndjson", rule_of("one", severity="low"))
    desk.write("b.ndjson", rule_of("one", severity="high"))
    report = desk.report()
    assert desk.stored()["one"].params["severity"] == "low"
    assert any("taken" in note for note in report.notes)


def test_of_a_file_with_one_broken_rule_the_others_run(desk: Desk) -> None:
    desk.write("a.ndjson", rule_of("one"), {"rule_id": "x", "type": "query"}, rule_of("two"))
    report = desk.report()
    assert (report.added, len(report.notes)) == (2, 1)
    assert desk.ready() == {"one", "two"}
    assert desk.graph.service.rulebook.notes == tuple(report.notes)


def test_whether_a_rule_is_enabled_is_the_operators_word(desk: Desk) -> None:
    desk.write("a.ndjson", rule_of("one"), rule_of("off", enabled=False))
    desk.sync()
    assert desk.ready() == {"one"}
    stored = desk.stored()
    rules = desk.graph.service.rules
    rules.patch({"id": stored["one"].id, "enabled": False}, by="eve")
    rules.patch({"id": stored["off"].id, "enabled": True}, by="eve")
    desk.write("a.ndjson", rule_of("one", severity="low"), rule_of("off", enabled=False))
    desk.sync()
    assert desk.ready() == {"off"}
    assert desk.stored()["one"].params["severity"] == "low"


def test_a_rule_of_a_file_is_edited_there_and_nowhere_else(desk: Desk) -> None:
    desk.write("a.ndjson", rule_of("one"))
    desk.sync()
    uuid = desk.stored()["one"].id
    rules = desk.graph.service.rules
    with pytest.raises(RequestError, match=r"lives in .*a\.ndjson"):
        rules.patch({"id": uuid, "severity": "critical"}, by="eve")
    assert desk.stored()["one"].revision == 0
    rules.patch({"id": uuid, "enabled": False}, by="eve")
    desk.write("a.ndjson", rule_of("one", severity="low"))
    assert desk.sync() == (0, 1, 0)
    found = desk.stored()["one"]
    assert (found.params["severity"], found.revision, found.id) == ("low", 1, uuid)
    assert not found.enabled, "whether it is on is the operator's word"


def test_what_is_added_beside_a_file_stays(desk: Desk) -> None:
    desk.write("a.ndjson", rule_of("one"))
    desk.sync()
    uuid = desk.stored()["one"].id
    action = {"id": "c", "action_type_id": ".webhook", "params": {}, "group": "default"}
    desk.graph.service.rules.patch({"id": uuid, "actions": [action]}, by="eve")
    desk.write("a.ndjson", rule_of("one", severity="low"))
    assert desk.sync() == (0, 1, 0)
    found = desk.stored()["one"].params
    assert (found["severity"], [each["id"] for each in found["actions"]]) == ("low", ["c"])


def test_a_rule_made_through_the_api_wins(desk: Desk) -> None:
    uuid = desk.graph.add_rule(rule_of("one", severity="critical"))
    desk.write("a.ndjson", rule_of("one", severity="low"))
    report = desk.report()
    assert (report.added, report.updated, report.removed) == (0, 0, 0)
    assert any("API" in note for note in report.notes)
    found = desk.stored()["one"]
    assert (found.id, found.source, found.params["severity"]) == (uuid, "api", "critical")
    desk.write("a.ndjson")
    desk.sync()
    assert desk.ready() == {"one"}
    desk.graph.service.rules.delete(id=uuid, by="eve")
    desk.write("a.ndjson", rule_of("one", severity="low"))
    assert desk.sync() == (1, 0, 0)
    assert desk.stored()["one"].source == "file"


# --- the pack ----------------------------------------------------------------------------------


def test_the_pack_is_brought_and_stays_as_it_is(with_pack: Desk) -> None:
    added, _, _ = with_pack.sync()
    assert added == len(read_pack().rules)
    assert with_pack.stored()[SEED].source == "pack"
    assert SEED in with_pack.ready()
    assert with_pack.sync() == (0, 0, 0)


def test_a_pack_rule_that_someone_edited_is_kept(with_pack: Desk) -> None:
    with_pack.sync()
    before = with_pack.stored()[SEED]
    edited = replace(before, params=before.params | {"severity": "low"}, is_customized=True)
    database = with_pack.graph.service.database
    database.write(lambda c: rules_table.update(c, edited))
    assert with_pack.sync() == (0, 0, 0)
    assert with_pack.stored()[SEED] == edited


def test_an_older_pack_rule_is_updated_and_one_that_is_gone_removed(with_pack: Desk) -> None:
    with_pack.sync()
    database = with_pack.graph.service.database
    before = with_pack.stored()[SEED]
    older = replace(before, params=before.params | {"version": 0, "query": "a:b"}, enabled=False)
    database.write(lambda c: rules_table.update(c, older))
    gone = replace(older, id="gone", rule_id="gone", params=older.params | {"rule_id": "gone"})
    kept = replace(gone, id="kept", rule_id="kept", is_customized=True)
    for each in (gone, kept):
        insert(with_pack, each)
    assert with_pack.sync() == (0, 1, 1)
    found = with_pack.stored()
    assert found[SEED].params == before.params
    assert (found[SEED].revision, found[SEED].enabled) == (1, False)
    assert "gone" not in found
    assert "kept" in found


def insert(desk: Desk, rule: StoredRule) -> None:
    desk.graph.service.database.write(lambda c: rules_table.insert(c, rule))


def test_a_file_takes_a_pack_rules_place_and_gives_it_back(with_pack: Desk) -> None:
    with_pack.sync()
    uuid = with_pack.stored()[SEED].id
    path = with_pack.write("seed.ndjson", rule_of(SEED, severity="low"))
    assert with_pack.sync() == (0, 1, 0)
    found = with_pack.stored()[SEED]
    assert (found.id, found.source, found.params["severity"]) == (uuid, "file", "low")
    path.write_text(json.dumps(rule_of(SEED, severity="awful")))
    assert with_pack.sync() == (0, 0, 0), "its file is broken: it stands"
    assert with_pack.stored()[SEED].params["severity"] == "low"
    path.unlink()
    assert with_pack.sync() == (0, 1, 0)
    assert with_pack.stored()[SEED].source == "pack"


# --- in a service ------------------------------------------------------------------------------


def test_files_are_followed_while_it_runs(desk: Desk) -> None:
    graph = desk.graph.start()
    graph.take(audits([1]))
    assert graph.judged().numbers() == []
    path = desk.write("a.ndjson", rule_of("one"))
    wait_until(lambda: desk.ready() == {"one"})
    graph.take(audits([2]))
    assert 2 in graph.judged().numbers()
    os.utime(path, ns=(1, 1))
    path.unlink()
    wait_until(lambda: desk.ready() == set())
    graph.take(audits([3]))
    assert 3 not in graph.judged().numbers()


def test_what_a_checkout_holds_is_taken_as_a_scan_takes_it(tmp_path: Path) -> None:
    examples = Path(__file__).parents[2] / "examples" / "rules"
    loaded = read_rule_paths([examples]).rules
    files = FileRules(files=loaded)
    with Graph(tmp_path / "data", read_files=lambda: files) as graph:
        graph.open_up()
        stored = graph.service.database.read(rules_table.all)
        assert {each.rule_id for each in stored} == {each.rule_id for each in loaded}
        assert all(
            graph.service.rulebook.status_of(each.id).status in ("ready", "disabled")
            for each in stored
        )
