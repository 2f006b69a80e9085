"""Rules that need several events for an alert or fold repeats, and what comes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from service_graph import CLUSTER, Graph, JsonObject, at, audit, rule_of

from barrelman.detection.scan import Scan
from barrelman.engine.decode import loads
from barrelman.records.event import Event
from barrelman.settings.config import Config, IndexConfig, RulesConfig
from barrelman.settings.serve import RuleFiles

SUPPRESSION = "kibana.alert.suppression"
GETS = 'any where kubernetes.audit.verb == "get"'


def graph_with_indicators(path: Path) -> Graph:
    """Nothing is judged live in it. Every `audit` meets the one indicator there is."""
    feed = path / "feed.jsonl"
    feed.write_text(json.dumps({"threat": {"indicator": {"ip": "203.0.113.7"}}}) + "\n")
    index = IndexConfig(name="ti-feeds", paths=(str(feed),))
    files = RuleFiles(Config(rules=RulesConfig(pack=False, indexes=(index,))))
    return Graph(path / "data", read_files=files.read)


def threshold(value: int = 3, *fields: str, **changes: Any) -> JsonObject:
    given = {"field": list(fields or ("user.name",)), "value": value}
    return rule_of("threshold", type="threshold", threshold=given, **changes)


def new_terms(**changes: Any) -> JsonObject:
    made = {"new_terms_fields": ["user.name"], "history_window_start": "now-1d"}
    return rule_of("new", type="new_terms", **(made | changes))


def threat_match(**changes: Any) -> JsonObject:
    """Every `audit` meets its indicator."""
    entry = {"field": "source.ip", "type": "mapping", "value": "threat.indicator.ip"}
    return rule_of(
        "threat",
        type="threat_match",
        threat_index=["ti-*"],
        threat_query="*:*",
        threat_mapping=[{"entries": [entry]}],
        **changes,
    )


def eql(query: str, **changes: Any) -> JsonObject:
    return rule_of("eql", type="eql", language="eql", query=query, **changes)


SEQUENCE = """sequence by user.name with maxspan=5m
  [any where kubernetes.audit.verb == "get"]
  [any where kubernetes.audit.verb == "delete"]"""


def suppressed(duration: str | None = None, **changes: Any) -> JsonObject:
    folding: JsonObject = {"group_by": ["user.name"], "missing_fields_strategy": "suppress"}
    if duration is not None:
        folding["duration"] = {"value": int(duration[:-1]), "unit": duration[-1]}
    return rule_of("folded", alert_suppression=folding, **changes)


def sent(graph: Graph, time: str, *numbers: int, user: str = "eve", **changes: Any) -> None:
    """Events arrive at their own time."""
    graph.wall.go_to(time)
    person = {"username": user, "groups": []}
    graph.take([audit(n, at_us=at(time), user=person, **changes) for n in numbers])


def run_at(graph: Graph, *times: str) -> None:
    for time in times:
        graph.wall.go_to(time)
        graph.wall.pass_(seconds=1)
        graph.work()


def documents(graph: Graph, **filters: Any) -> list[JsonObject]:
    return [json.loads(each.document) for each in graph.alerts(**filters)]


def users(graph: Graph) -> list[str]:
    found = [each.get("kibana.alert.new_terms") for each in documents(graph)]
    return [each[0] for each in found if each]


def docs_counts(graph: Graph) -> list[int]:
    found = [each.get(f"{SUPPRESSION}.docs_count") for each in documents(graph)]
    return [each for each in found if each is not None]


def shown(document: JsonObject) -> tuple[str, int | None]:
    time = document["kibana.alert.original_time"][11:19]
    return time, document.get(f"{SUPPRESSION}.docs_count")


def wholes(graph: Graph) -> list[tuple[str, int | None]]:
    return [
        shown(each)
        for each in documents(graph)
        if each.get("kibana.alert.building_block_type") is None
    ]


def scanned(graph: Graph, bodies: list[JsonObject]) -> list[JsonObject]:
    """The alerts that a scan gives, those on single events of a sequence among them."""
    watchers = graph.service.rulebook.lineup.watchers
    scan = Scan([each.runnable for each in watchers], now_us=graph.wall())
    for body in bodies:
        scan.feed(Event(loads(json.dumps(body)), cluster=CLUSTER))
    return [alert.document for alert in scan.finish()]


def told(document: JsonObject) -> tuple[object, ...]:
    """What does not hang on the few milliseconds that an event takes to arrive."""
    parents = [each["id"] for each in document["kibana.alert.ancestors"]]
    run = document["kibana.alert.rule.execution.uuid"]
    counted = document.get(f"{SUPPRESSION}.docs_count", 0)
    return run, parents, counted, json.dumps(document.get("kibana.alert.new_terms"))
