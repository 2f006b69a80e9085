"""From a configuration to a service whose parts are as it says."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from samples import event, lines, rule

from barrelman.errors import BarrelmanError, StoreError
from barrelman.settings.config import (
    ClusterConfig,
    Config,
    DetectionConfig,
    FilesConfig,
    IntakeConfig,
    RulesConfig,
    StoreConfig,
    WatchdogsConfig,
)
from barrelman.settings.serve import (
    RuleFiles,
    open_service,
    service_options,
    sink_settings,
    store_options,
)
from barrelman.sinks.address import parse_sink_flag
from barrelman.store.folder import DataFolder


def config_of(tmp_path: Path, **tables: Any) -> Config:
    base = Config(store=StoreConfig(data=str(tmp_path / "data")), rules=RulesConfig(pack=False))
    return replace(base, **tables)


# --- options -----------------------------------------------------------------------------------


def test_options_of_the_store() -> None:
    found = store_options(Config())
    assert (found.seal_bytes, found.seal_seconds) == (256 << 20, 3600)
    assert (found.keep_seconds, found.keep_bytes) == (30 * 86_400, None)
    assert (found.search_memory, found.search_threads) == ("128MB", 2)
    store = StoreConfig(
        retention_days=0, retention_bytes=7, memory_bytes=64 << 20, threads=1, segment_seconds=60
    )
    found = store_options(Config(store=store))
    assert (found.keep_seconds, found.keep_bytes, found.seal_seconds) == (None, 7, 60)
    assert (found.search_memory, found.search_threads) == ("64MB", 1)


def test_options_of_the_service_are_those_of_the_configuration() -> None:
    config = Config(
        store=StoreConfig(alert_days=1, run_days=2),
        rules=RulesConfig(reload_seconds=3, cap=40),
        detection=DetectionConfig(
            live=False, redact=False, fill_gaps=False, gap_days=5, search_seconds=6
        ),
        intake=IntakeConfig(
            max_bytes_in_flight=7 << 20,
            max_event_bytes=8192,
            clusters=(ClusterConfig(name="a"), ClusterConfig(name="b", silent_after_seconds=9)),
        ),
        watchdogs=WatchdogsConfig(
            silent_after_seconds=10,
            refused_per_minute=11,
            malformed_per_minute=12,
            clock_skew_seconds=13,
            disk_free_percent=14,
            disk_free_bytes=15,
            failed_runs=16,
            capped_runs=17,
            late_seconds=18,
            sink_seconds=19,
            repeat_seconds=20,
        ),
    )
    found = service_options(config, lambda: True)
    assert (found.is_live, found.redacts, found.fills_gaps) == (False, False, False)
    assert (found.gap_days, found.search_seconds, found.most_signals) == (5, 6, 40)
    assert found.kept_days == 30
    assert (found.max_bytes_in_flight, found.max_event_bytes) == (7 << 20, 8192)
    assert list(found.expected_clusters) == ["a", "b"]
    assert (found.keeper.reload_seconds, found.keeper.alert_days, found.keeper.run_days) == (
        3,
        1,
        2,
    )
    assert found.keeper.files_changed()
    watch = found.watchdogs
    assert watch.silent_after == {"b": 9}
    assert (watch.silent_after_seconds, watch.refused_per_minute) == (10, 11)
    assert (watch.malformed_per_minute, watch.clock_skew_seconds) == (12, 13)
    assert (watch.disk_free_percent, watch.disk_free_bytes) == (14, 15)
    assert (watch.failed_runs, watch.capped_runs, watch.late_seconds) == (16, 17, 18)
    assert (watch.sink_seconds, watch.repeat_seconds) == (19, 20)


def test_sinks_that_are_switched_off_are_left_out(tmp_path: Path) -> None:
    template = tmp_path / "t.txt"
    text = '{"text": "${title}"}'
    template.write_text(text)
    config = config_of(
        tmp_path,
        sinks=(
            {"name": "a", "kind": "file", "path": str(tmp_path / "a"), "severity": "high"},
            {"name": "b", "kind": "file", "path": str(tmp_path / "b"), "enabled": False},
            {
                "name": "c",
                "kind": "webhook",
                "url": "https://x.example/",
                "enabled": True,
                "template": str(template),
            },
        ),
    )
    found = sink_settings(config)
    assert [(each.name, each.kind) for each in found] == [("a", "file"), ("c", "webhook")]
    assert found[0].route.severity == "high"
    assert found[1].template == text
    broken: tuple[dict[str, Any], ...] = (
        {"name": "a", "kind": "pigeon"},
        {"name": "a", "kind": "webhook", "url": "nonsense"},
        {"name": "a", "kind": "webhook", "url": "https://x.example", "template": str(tmp_path)},
    )
    for table in broken:
        with pytest.raises(BarrelmanError):
            sink_settings(config_of(tmp_path, sinks=(table,)))


# --- opening -----------------------------------------------------------------------------------


def test_a_service_starts_and_stops_and_alerts_go_to_its_sinks(tmp_path: Path) -> None:
    rules = tmp_path / "rules.ndjson"
    rules.write_text(json.dumps(rule()))
    config = config_of(tmp_path, rules=RulesConfig(pack=False, paths=(str(rules),)))
    flag = parse_sink_flag(f"file:{tmp_path / 'alerts.jsonl'}")
    service = open_service(config, sinks=[flag])
    service.start()
    body = lines([event(1), event(2)])
    receipt = service.intake.offer(body, cluster="c", is_list=False).result(20)
    assert receipt.stored == 2
    service.stop(grace_seconds=10)
    delivered = (tmp_path / "alerts.jsonl").read_bytes().splitlines()
    assert len(delivered) == 2


def test_files_are_followed_into_it(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(lines([event(1), event(2)]))
    files = FilesConfig(paths=(str(log),), cluster="c", from_start=True, poll_seconds=0.05)
    service = open_service(config_of(tmp_path, intake=IntakeConfig(files=(files,))))
    assert len(service.followers) == 1
    service.start()
    waiting = threading.Event()
    for _ in range(400):
        if service.events.next_seq == 2:
            break
        waiting.wait(0.02)
    assert service.events.next_seq == 2
    service.stop(grace_seconds=5)


def test_a_folder_of_another_process_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    with DataFolder.open(config.store.data), pytest.raises(StoreError):
        open_service(config)
    open_service(config).stop()


def test_what_fails_half_way_lets_go_of_everything(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    before = {each.name for each in threading.enumerate()}
    with pytest.raises(BarrelmanError):
        open_service(config, sinks=[parse_sink_flag("file:-")])  # there is no output to write to
    assert {each.name for each in threading.enumerate()} <= before
    open_service(config).stop()


# --- rule files --------------------------------------------------------------------------------


def test_changes_of_rule_files_are_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    named = tmp_path / "named.ndjson"
    named.write_text(json.dumps(rule()))
    exceptions = tmp_path / "exceptions.ndjson"
    config = config_of(
        tmp_path,
        rules=RulesConfig(
            pack=False, paths=(str(folder), str(named)), exceptions=(str(exceptions),)
        ),
    )
    files = RuleFiles(config)
    assert [each.rule_id for each in files.read().files] == [rule()["rule_id"]]
    changed = files.have_changed
    assert not changed()

    def step() -> None:
        assert changed()
        files.read()
        assert not changed()

    deep = folder / "a" / "b.json"
    deep.parent.mkdir()
    assert not changed(), "a folder without rules says nothing"
    deep.write_text(json.dumps(rule(rule_id="b")))
    step()
    deep.write_text(json.dumps(rule(rule_id="b", severity="high")))
    step()
    os.utime(deep, ns=(5, 5))
    step()
    (folder / "notes.md").write_text("x")
    assert not changed()
    exceptions.write_text("{}\n")
    step()
    deep.rename(folder / "c.json")
    step()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "d.json").write_text(json.dumps(rule(rule_id="d")))
    (folder / "link").symlink_to(elsewhere)
    (folder / "loop").symlink_to(folder)
    step()
    (elsewhere / "d.json").write_text(json.dumps(rule(rule_id="d", severity="high")))
    step()
    named.unlink()
    step()


def test_what_cannot_be_read_is_told_and_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.ndjson"
    broken = tmp_path / "broken.ndjson"
    broken.write_text('{"rule_id": "x", "type": "query"}\n{')
    config = config_of(
        tmp_path,
        rules=RulesConfig(
            pack=True, paths=(str(missing), str(broken)), exceptions=(str(tmp_path / "no"),)
        ),
    )
    found = RuleFiles(config).read()
    assert list(found.unread) == [str(missing)]
    assert any("missing.ndjson" in each for each in found.problems)
    assert any("no" in each for each in found.problems)
    assert {each.status for each in found.files} == {"invalid"}
    assert len(found.pack) >= 1
