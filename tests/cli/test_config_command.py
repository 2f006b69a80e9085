"""`barrelman config`: what it prints, and its exit codes."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from barrelman.cli.config import config
from barrelman.settings.webhook import apiserver_flags, kubeconfig_text, policy_text


@click.group()
def cli() -> None:
    pass


cli.add_command(config)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "barrelman.toml"


def run(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, Result]:
    runner = CliRunner()
    done = runner.invoke(cli, ["config", *arguments], env=environment, standalone_mode=False)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.return_value, done


def test_a_good_file(file: Path) -> None:
    file.write_text('[log]\nlevel = "debug"\n')
    code, done = run("check", str(file))
    assert code == 0
    assert done.stdout == f"{file}: all fine\n"


def test_a_bad_file(file: Path) -> None:
    file.write_text('[log]\nlevel = "loud"\nformt = "json"\n')
    code, done = run("check", str(file))
    assert code == 2
    assert done.stdout == ""
    assert f"{file}:2:9: log.level" in done.stderr
    assert f"{file}:3:1: unknown key 'formt' in [log] (did you mean 'format'?)" in done.stderr
    assert '    formt = "json"\n    ^\n' in done.stderr
    assert f"{file}: 2 problems" in done.stderr


def test_rules_that_are_not_there(file: Path) -> None:
    file.write_text('[rules]\npaths = ["gone"]\n')
    code, done = run("check", str(file))
    assert code == 2
    assert f"{file}:2:9: rules.paths: there is no '{file.parent}/gone'" in done.stderr


def test_the_environment_counts(file: Path) -> None:
    code, done = run("check", environment={"BARRELMAN_LOG__LEVEL": "loud"})
    assert code == 2
    assert "BARRELMAN_LOG__LEVEL: log.level" in done.stderr
    assert run("check")[0] == 0


def test_what_could_steer_a_terminal_is_spelled_out(file: Path) -> None:
    file.write_text('[log]\nlevel = "\\u001b[31m"\n')
    code, done = run("check", str(file))
    assert code == 2
    assert "\x1b" not in done.stderr


def test_defaults_are_a_file_to_begin_with(file: Path) -> None:
    code, done = run("show")
    assert code == 0
    file.write_text(done.stdout)
    assert run("check", str(file))[0] == 0


def test_what_holds(file: Path) -> None:
    file.write_text('[[sinks]]\nname = "w"\nkind = "webhook"\nurl = "https://hush/"\n')
    code, done = run("show", str(file), environment={"BARRELMAN_LOG__LEVEL": "error"})
    assert code == 0
    assert 'level = "error"  # BARRELMAN_LOG__LEVEL\n' in done.stdout
    assert f'name = "w"  # {file}:2\n' in done.stdout
    assert "hush" not in done.stdout
    file.write_text("x = 1")
    code, done = run("show", str(file))
    assert code == 2
    assert "unknown table 'x'" in done.stderr


def test_what_an_api_server_is_given(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k3y\n")
    arguments = ["--token-file", str(tmp_path / "key"), "--ca-file", "/etc/ca.pem"]
    code, done = run("kubeconfig", "https://b.example:8130", "prod", *arguments)
    assert code == 0
    assert done.stdout == kubeconfig_text(
        "https://b.example:8130", "prod", token="k3y", ca_file="/etc/ca.pem"
    )
    assert run("policy")[1].stdout == policy_text()
    assert run("flags")[1].stdout.splitlines() == [*apiserver_flags()]
