"""Rules that match indicators, run by a service; the indicators are in files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_graph import Graph, JsonObject, at, audit, rule_of

from barrelman.settings.config import Config, IndexConfig, RulesConfig
from barrelman.settings.serve import RuleFiles


def threat(**changes: Any) -> JsonObject:
    made: JsonObject = {
        "threat_index": ["ti-*"],
        "threat_query": "*:*",
        "threat_mapping": [
            {"entries": [{"field": "source.ip", "type": "mapping", "value": "threat.indicator.ip"}]}
        ],
    }
    return rule_of("threat", type="threat_match", **(made | changes))


def indicator(address: str) -> JsonObject:
    return {"threat": {"indicator": {"ip": address, "type": "ipv4-addr"}, "feed": {"name": "f"}}}


def write(path: Path, *addresses: str, mtime: int = 1) -> None:
    path.write_text("".join(json.dumps(indicator(each)) + "\n" for each in addresses))
    os.utime(path, (mtime, mtime))


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    path = tmp_path / "feed.jsonl"
    write(path, "203.0.113.7", "192.0.2.1")
    return path


@pytest.fixture
def files(feed: Path) -> RuleFiles:
    index = IndexConfig(name="ti-feeds", paths=(str(feed),))
    return RuleFiles(Config(rules=RulesConfig(pack=False, indexes=(index,))))


@pytest.fixture
def graph(tmp_path: Path, files: RuleFiles) -> Iterator[Graph]:
    with Graph(tmp_path / "data", read_files=files.read) as made:
        yield made.open_up()


def sent(graph: Graph, time: str, number: int, address: str) -> None:
    graph.wall.go_to(time)
    graph.take([audit(number, at_us=at(time), sourceIPs=[address])])


def run_at(graph: Graph, time: str) -> None:
    graph.wall.go_to(time)
    graph.wall.pass_(seconds=1)
    graph.work()


def test_an_event_that_meets_an_indicator_alerts(graph: Graph) -> None:
    graph.add_rule(threat())
    graph.work()
    sent(graph, "12:03", 1, "203.0.113.7")
    sent(graph, "12:03", 2, "198.51.100.1")
    run_at(graph, "12:05")
    assert graph.numbers() == [1]
    document = json.loads(graph.alerts()[0].document)
    (found,) = document["threat"]["enrichments"]
    assert found["indicator"]["ip"] == "203.0.113.7"
    assert found["matched"]["index"] == "ti-feeds"
    assert found["feed"] == {"name": "f"}


def test_and_does_so_live(tmp_path: Path, files: RuleFiles) -> None:
    with Graph(tmp_path / "data", read_files=files.read) as graph:
        graph.add_rule(threat())
        graph.start()
        sent(graph, "12:03", 1, "203.0.113.7")
        sent(graph, "12:03", 2, "198.51.100.1")
        graph.judged()
        assert [(each.kind, each.event_time_us) for each in graph.alerts()] == [
            ("live", at("12:03"))
        ]
        assert graph.service.detector.matches == 1


def test_indicators_that_come_later_count_from_then_on(
    graph: Graph, files: RuleFiles, feed: Path
) -> None:
    graph.add_rule(threat())
    graph.work()
    sent(graph, "12:03", 1, "198.51.100.1")
    assert not files.have_changed()
    write(feed, "198.51.100.1", mtime=2)
    assert files.have_changed()
    graph.service.rulebook.sync()
    assert not files.have_changed()
    sent(graph, "12:04", 2, "203.0.113.7")
    run_at(graph, "12:05")
    assert graph.numbers() == [1]


def test_a_file_that_is_gone_for_a_moment_takes_nothing_with_it(
    graph: Graph, files: RuleFiles, feed: Path
) -> None:
    graph.add_rule(threat())
    feed.unlink()
    assert files.have_changed()
    graph.service.rulebook.sync()
    assert any("feed.jsonl" in note for note in graph.service.rulebook.notes)
    sent(graph, "12:03", 1, "203.0.113.7")
    run_at(graph, "12:05")
    assert graph.numbers() == [1]


def test_indicators_are_not_made_anew_for_other_rules(graph: Graph) -> None:
    graph.add_rule(threat())
    before = graph.service.rulebook.lineup.watchers
    graph.add_rule(rule_of("other"))
    graph.service.rulebook.sync()
    after = graph.service.rulebook.lineup.watchers
    assert before[0] in after
    assert len(after) == 2


def test_a_rule_without_its_index_says_so(graph: Graph) -> None:
    uuid = graph.add_rule(threat(threat_index=["filebeat-*"]))
    status = graph.service.rulebook.status_of(uuid)
    assert status.status == "unsupported"
    assert status.reason == (
        "its indicators are in filebeat-*, and no index of that name is configured"
    )
    result = graph.service.previews.run(
        threat(threat_index=["filebeat-*"]),
        timeframe_end_ms=at("12:05") // 1000,
        invocation_count=1,
    )
    assert "filebeat-*" in result.logs[0].errors[0]


def test_a_broken_line_is_told_and_the_others_count(graph: Graph, feed: Path) -> None:
    feed.write_text(json.dumps(indicator("203.0.113.7")) + "\n{broken\n")
    graph.service.rulebook.sync()
    assert any("feed.jsonl:2" in note for note in graph.service.rulebook.notes)
    graph.add_rule(threat())
    sent(graph, "12:03", 1, "203.0.113.7")
    run_at(graph, "12:05")
    assert graph.numbers() == [1]
