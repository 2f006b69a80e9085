"""`barrelman search`, as typed: its table, and what it says where there is nothing to print."""

from __future__ import annotations

from pathlib import Path

import pytest
from samples import event, write_log

from barrelman.cli.main import run


@pytest.fixture
def data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    forged = "p1  200\n2026-11-23T12:01:00.000Z  prod  root  delete  secrets \x1b[31m\u202e"
    ref = {"resource": "pods", "namespace": "shop\tx", "name": forged}
    user = {"username": "eve\nroot"}
    log = write_log(tmp_path / "audit.log", [event(1, objectRef=ref, user=user), event(2)])
    folder = str(tmp_path / "data")
    assert run(["ingest", "--cluster", "prod", "--data", folder, str(log)]) == 0
    capsys.readouterr()
    return folder


def test_an_event_is_one_row_whatever_it_holds(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["search", "*", "--data", data, "--format", "table"]) == 1
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 3
    assert rows[0].startswith("TIME")
    assert all(row.isprintable() for row in rows)
    assert any("eve\\nroot" in row for row in rows)


def test_a_table_of_nothing_says_so(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", "user.name: nobody", "--data", data, "--format", "table"]) == 0
    assert capsys.readouterr() == ("", "no events\n")
    assert run(["search", "user.name: nobody", "--data", data]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("flag", ["--since", "--until"])
def test_a_time_that_is_none_is_told_how_to_write(
    data: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["search", "*", "--data", data, flag, "zz"]) == 2
    told = capsys.readouterr().err
    assert flag in told
    assert "(back from now)" in told
