"""Figures for Prometheus, and the page about them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import Served, event, event_list, serving

from barrelman.server.metrics import FIGURES

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path / "data") as world:
        yield world


def scraped(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    return scraped(text)[name, frozenset(labels.items())]


def test_what_happened_is_told_in_figures(served: Served) -> None:
    me = served.asker()
    me.post("/audit/prod", content=event_list(event(number=1), event(number=2), 5))
    me.post("/audit/prod", content=event_list(event(number=2)))
    me.post("/audit/prod", content=b"nonsense")
    me.get("/no/such/path/1")
    me.get("/no/such/path/2")
    served.app.state.metrics.connections = lambda: (7, 3)
    answer = me.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.text
    assert value(text, "barrelman_events_total", cluster="prod") == 3
    assert value(text, "barrelman_events_stored_total", cluster="prod") == 2
    assert value(text, "barrelman_events_duplicate_total", cluster="prod") == 1
    assert value(text, "barrelman_items_malformed_total", cluster="prod") >= 1
    assert value(text, "barrelman_intake_refused_total", cluster="prod") == 1
    assert value(text, "barrelman_store_events") == 2
    assert value(text, "barrelman_rules", status="ready") >= 1
    assert value(text, "barrelman_connections") == 7
    assert value(text, "barrelman_connections_cut_total") == 3
    requests = "barrelman_http_requests_total"
    assert value(text, requests, path="/audit/{cluster}", method="POST", status="200") == 2
    assert value(text, requests, path="/audit/{cluster}", method="POST", status="400") == 1
    # What a client makes up is no label: it could make up any number.
    assert value(text, requests, path="other", method="GET", status="404") == 2
    assert "no/such" not in text
    assert value(text, "barrelman_http_request_seconds_count", path="/audit/{cluster}") == 3


def test_any_method_and_path_add_no_label(served: Served) -> None:
    me = served.asker()
    for number in range(20):
        me.ask(f"METHOD{number}", f"/{number}")
    text = me.get("/metrics").text
    assert (
        value(text, "barrelman_http_requests_total", path="other", method="other", status="404")
        == 20
    )


def test_wrong_credentials_are_counted(served: Served) -> None:
    stranger = served.asker(shown="Bearer no.key", address="192.0.2.1")
    for _ in range(3):
        stranger.get("/api/v1/whoami")
    assert value(served.asker().get("/metrics").text, "barrelman_auth_failures_total") == 3


def test_this_machine_reads_figures_without_a_key_and_nobody_else(served: Served) -> None:
    viewer = served.key("viewer")
    assert served.asker().get("/metrics").status_code == 200
    assert served.asker().get("/api/v1/intake").status_code == 401
    assert served.asker(address="192.0.2.1").get("/metrics").status_code == 401
    assert served.asker(host="attacker.example").get("/metrics").status_code == 401
    shown = f"Bearer {viewer.token}"
    assert served.asker(address="192.0.2.1", shown=shown).get("/metrics").status_code == 200
    assert served.asker_with("intake").get("/metrics").status_code == 403


def test_a_bound_viewer_reads_figures_of_its_clusters(served: Served) -> None:
    intake = served.asker_with("intake")
    intake.post("/audit/prod", content=event_list(event()))
    intake.post("/audit/test", content=event_list(event()))
    bound = served.asker_with("viewer", clusters=["test"])
    text = bound.get("/metrics").text
    assert 'cluster="test"' in text
    assert 'cluster="prod"' not in text


def names(text: str) -> set[str]:
    return set(re.findall(r"(?m)^# TYPE (barrelman_\w+) ", text))


def test_the_page_names_every_metric_with_its_labels_and_no_other(served: Served) -> None:
    me = served.asker()
    me.post("/audit/prod", content=event_list(event()))
    told = names(me.get("/metrics").text)
    rows = re.findall(r"(?m)^\| `(barrelman_\w+)` \| (counter|gauge|histogram) \| ([^|]*) \|", PAGE)
    assert {name for name, _, _ in rows} == told
    labels = {name: set(re.findall(r"`(\w+)`", cell)) for name, _, cell in rows}
    kinds = {name: kind for name, kind, _ in rows}
    for figure in FIGURES:
        assert labels[figure.name] == set(figure.labels)
        assert kinds[figure.name] == figure.kind


def test_counters_end_in_total_and_nothing_else_does() -> None:
    for figure in FIGURES:
        assert figure.name.endswith("_total") is (figure.kind == "counter")
        assert figure.name.startswith("barrelman_")
        assert figure.meaning.endswith(".")
