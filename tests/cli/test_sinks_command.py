"""`barrelman sinks`, as typed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from alertdocs import AT_US, alert_id, new_alert
from click.testing import CliRunner, Result
from receivers import Web, web

from barrelman.cli.sinks import sinks
from barrelman.store import alerts, outbox
from barrelman.store.database import Database
from barrelman.store.folder import DataFolder


@pytest.fixture
def receiver() -> Iterator[Web]:
    with web() as made:
        yield made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(sinks, list(arguments), standalone_mode=False)


def configured(folder: Path, receiver: Web) -> str:
    path = folder / "barrelman.toml"
    path.write_text(
        f"""
        [store]
        data = "data"

        [[sinks]]
        name = "oncall"
        kind = "slack"
        url = "{receiver.url}/S3CRET"
        severity = "high"
        tags = ["a*"]

        [[sinks]]
        name = "off"
        kind = "file"
        path = "off.jsonl"
        enabled = false
        """
    )
    return str(path)


def test_a_test_goes_to_every_sink_and_says_what_came_of_it(tmp_path: Path, receiver: Web) -> None:
    found = run("test", "--config", configured(tmp_path, receiver), "--sink", f"file:{tmp_path}/a")
    assert not found.return_value
    assert f"oncall: posted to {receiver.url}, which answered 200\n" in found.output
    assert "file-a: appended a line to" in found.output
    assert "S3CRET" not in found.output
    assert receiver.requests[0].path == "/S3CRET"
    assert json.loads((tmp_path / "a").read_text())["barrelman.test"] is True
    assert not (tmp_path / "off.jsonl").exists()


def test_a_test_that_does_not_arrive_is_an_error(tmp_path: Path, receiver: Web) -> None:
    receiver.answer = lambda _: (404, {}, b"no_service")
    config = configured(tmp_path, receiver)
    found = run("test", "--config", config, "--sink", f"file:{tmp_path}/a", "oncall")
    assert found.return_value == 2
    assert "oncall: FAILED" in found.output
    assert "answered 404: no_service (the URL leads to nothing there)" in found.output
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["test"], "no sinks are set up"),
        (["test", "x", "--sink", "file:a"], "there is no sink 'x'"),
        (["test", "--sink", "what:S3CRET"], "no address of a sink"),
    ],
)
def test_bad_usage(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run(*arguments)
    assert says in str(found.exception)
    assert "S3CRET" not in str(found.exception)


def test_the_list_shows_what_waits_but_no_secret(tmp_path: Path, receiver: Web) -> None:
    with DataFolder.open(tmp_path / "data") as folder:
        database = Database.open(folder.database, now_us=1)
        new = [new_alert(1), new_alert(2)]
        database.write(lambda c: alerts.add(c, new))
        for sink in ("oncall", "former"):
            ids = [alert_id(1), alert_id(2)]
            database.write(lambda c, s=sink, i=ids: outbox.put(c, [s], i, AT_US))  # type: ignore[misc]
        first = database.read(lambda c: outbox.due(c, "oncall", limit=1))
        database.write(lambda c: outbox.dead(c, [first[0].id], "no", AT_US))
        database.close()
        config = configured(tmp_path, receiver)
        listed = json.loads(run("list", "--config", config, "--format", "json").output)
        shown = run("list", "--config", config).output
    assert listed == [
        {
            "name": "oncall",
            "kind": "slack",
            "where": receiver.url,
            "takes": "high and above; tags a*",
            "waiting": 1,
            "since": "2026-11-23T12:01:00.000Z",
            "given_up": 1,
            "delivered": 0,
        },
        {
            "name": "former",
            "kind": "not set up",
            "where": "",
            "takes": "",
            "waiting": 2,
            "since": "2026-11-23T12:01:00.000Z",
            "given_up": 0,
            "delivered": 0,
        },
    ]
    assert "oncall" in shown
    assert "S3CRET" not in shown


def test_a_list_without_sinks_or_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no sinks are set up" in run("list").output
    assert json.loads(run("list", "--format", "json", "--sink", "file:x").output)[0]["waiting"] == 0
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_events_alone_is_told_in_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    DataFolder.open(folder).close()
    found = run("list", "--sink", "file:x", "--data", str(folder))
    assert not found.return_value
    assert found.stderr == "no service has run with this data folder yet: nothing waits\n"
    assert "file-x" in found.stdout
