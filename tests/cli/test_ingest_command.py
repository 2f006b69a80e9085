"""`barrelman ingest --url`: what it says of a service that is not there, and when it gives up."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from receivers import web
from samples import event, write_log

from barrelman.cli import ingesting
from barrelman.cli.main import run


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(write_log(tmp_path / "audit.log", [event(1)]))


@pytest.fixture
def nowhere() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_a_service_that_does_not_answer_is_told_and_given_up(
    log: str,
    nowhere: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingesting, "_SILENT_SECONDS", 2.0)
    started = time.monotonic()
    assert run(["ingest", "--cluster", "a", "--url", nowhere, log]) == 2
    assert 1 < time.monotonic() - started < 6
    *waits, last = capsys.readouterr().err.splitlines()
    assert waits == [f"the service at {nowhere} does not answer; trying again"] * 2
    assert "refused" in last


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "127.0.0.1:8130", "http://", "http://[", ""])
def test_what_is_no_address_is_an_error_at_once(
    log: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ingest", "--cluster", "a", "--url", url, log]) == 2
    assert f"--url: '{url}' is no address of a service" in capsys.readouterr().err


def test_a_service_without_room_is_asked_again(
    log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with web() as service:
        answers = iter([503, 429, 200])

        def answer(_: object) -> tuple[int, dict[str, str], bytes]:
            status = next(answers)
            receipt = b'{"events": 1, "stored": 1}' if status == 200 else b"{}"
            return status, {"Retry-After": "0"}, receipt

        service.answer = answer
        assert run(["ingest", "--cluster", "a", "--url", service.url, log]) == 0
        told = capsys.readouterr().err
        assert told.count("has no room for more yet; trying again") == 1
        assert "1 of 1 events stored" in told
