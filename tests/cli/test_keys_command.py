"""`barrelman keys`: what it prints, what it keeps, and what a running service makes of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from barrelman.cli.keys import keys
from barrelman.errors import BarrelmanError, UsageError
from barrelman.store import audit
from barrelman.store import keys as table
from barrelman.store.database import Database
from barrelman.store.folder import DataFolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def run(folder: Path, *arguments: str, given: str | None = None) -> Result:
    done = CliRunner().invoke(keys, [*arguments, "--data", str(folder)], input=given)
    if isinstance(done.exception, Exception) and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def make(folder: Path, name: str, *more: str) -> dict[str, Any]:
    done = run(folder, "create", name, "--role", "intake", *more, "--format", "json")
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def kept(folder: Path) -> table.Credentials:
    database = Database.open(DataFolder.open(folder, read_only=True).database, read_only=True)
    try:
        return database.read(table.load)
    finally:
        database.close()


def test_a_key_is_made_where_there_was_nothing_and_printed_once(folder: Path) -> None:
    done = run(folder, "create", "prod", "--role", "intake", "--cluster", "a", "--cluster", "b")
    bearer, api_key = done.stdout.splitlines()
    scheme, _, token = bearer.removeprefix("Authorization: ").partition(" ")
    assert scheme == "Bearer"
    assert api_key.startswith("Authorization: ApiKey ")
    assert "this once" in done.stderr
    (key,) = kept(folder).keys.values()
    assert (key.name, key.role, key.clusters) == ("prod", "intake", ("a", "b"))
    assert token.partition(".")[0] == key.id
    assert table.is_secret_of(key, token.partition(".")[2])
    assert token.partition(".")[2] not in run(folder, "list").stdout


def test_a_key_is_made_while_a_service_owns_the_folder(folder: Path) -> None:
    with DataFolder.open(folder) as owned:
        database = Database.open(owned.database, now_us=1)
        made = make(folder, "prod")
        assert made["name"] == "prod"
        assert list(database.read(table.load).keys) == [made["id"]]
        run(folder, "revoke", "prod")
        assert database.read(table.load).keys[made["id"]].revoked_us is not None
        database.close()


@pytest.mark.parametrize("expires", ["30d", "2100-01-01", "now+12h"])
def test_a_key_may_run_out(folder: Path, expires: str) -> None:
    made = make(folder, "prod", "--expires", expires)
    assert made["expires"] > made["created"]


def test_what_makes_no_sense_is_refused(folder: Path) -> None:
    for wrong in (["a/b"], ["prod", "--cluster", "a/b"], ["prod", "--expires", "2001-01-01"]):
        with pytest.raises(BarrelmanError):
            make(folder, *wrong)
    with pytest.raises(BarrelmanError, match="no data folder"):
        run(folder / "elsewhere", "list")
    assert run(folder, "create", "prod", "--role", "root").exit_code == 2
    make(folder, "prod")
    with pytest.raises(BarrelmanError, match="there is, or was"):
        make(folder, "prod")


def test_keys_are_listed_and_revoked(folder: Path) -> None:
    first, second = make(folder, "first"), make(folder, "second", "--cluster", "a")
    run(folder, "revoke", "first", second["id"])
    listed = json.loads(run(folder, "list", "--format", "json").stdout)
    assert [(each["name"], each["state"]) for each in listed["keys"]] == [
        ("first", "revoked"),
        ("second", "revoked"),
    ]
    shown = run(folder, "list").stdout
    assert first["id"] in shown
    assert "revoked" in shown
    with pytest.raises(BarrelmanError, match="no key 'first' that is still good"):
        run(folder, "revoke", "first")


def test_of_several_keys_all_are_revoked_or_none(folder: Path) -> None:
    made = make(folder, "first")
    with pytest.raises(BarrelmanError, match="none-such"):
        run(folder, "revoke", "first", "none-such")
    assert kept(folder).keys[made["id"]].revoked_us is None


def test_an_account_is_made_and_disabled(folder: Path) -> None:
    password = "correct horse battery"
    put = ["account", "jo", "--role", "analyst", "--password-stdin"]
    done = run(folder, *put, given=password + "\n")
    assert done.stdout == ""
    account = kept(folder).accounts["jo"]
    assert account.role == "analyst"
    assert table.is_password_of(account, password)
    with pytest.raises(BarrelmanError, match="at least 12"):
        run(folder, *put, given="short\n")
    run(folder, "revoke", "jo", "--account")
    assert kept(folder).accounts["jo"].disabled
    assert "disabled" in run(folder, "list").stdout


def test_a_password_is_asked_for_twice_and_not_shown(folder: Path) -> None:
    password = "correct horse battery"
    command = [sys.executable, "-m", "barrelman", "keys", "account", "jo", "--role", "viewer"]
    terminal, its_end = os.openpty()
    with subprocess.Popen(
        [*command, "--data", str(folder)],
        stdin=its_end,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # or it would ask on the terminal that the tests run in
    ) as process:
        assert process.stderr is not None
        told = b""
        for asked in (b"Password of jo: ", b"confirmation: "):
            while not told.endswith(asked):
                char = process.stderr.read(1)
                assert char, told
                told += char
            until_echo_is_off(its_end)
            os.write(terminal, password.encode() + b"\n")
        out, err = process.communicate(timeout=60)
    os.set_blocking(terminal, False)
    shown = b""
    with contextlib.suppress(BlockingIOError):  # nothing was echoed, at best
        shown = os.read(terminal, 1000)
    os.close(terminal)
    os.close(its_end)
    assert process.returncode == 0, err
    assert password.encode() not in shown + out + told + err
    assert kept(folder).accounts["jo"].role == "viewer"


def until_echo_is_off(terminal: int) -> None:
    deadline = time.monotonic() + 20
    while termios.tcgetattr(terminal)[3] & termios.ECHO:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_without_a_terminal_a_password_is_not_asked_for(folder: Path) -> None:
    with pytest.raises(UsageError, match="on a terminal") as caught:
        run(folder, "account", "jo", "--role", "viewer", given="correct horse battery\n")
    assert "--password-stdin" in str(caught.value)


def test_in_a_folder_that_holds_events_alone_there_are_no_keys(folder: Path) -> None:
    DataFolder.open(folder).close()
    done = run(folder, "list")
    assert (done.stdout, done.stderr) == ("", "no keys and no accounts\n")
    listed = json.loads(run(folder, "list", "--format", "json").stdout)
    assert listed == {"keys": [], "accounts": []}
    assert not (folder / "barrelman.db").exists()


def test_the_list_fits_a_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [
        make(
            folder, f"the-kube-apiserver-of-cluster-{n}", "--expires", "30d", "--cluster", "a" * 30
        )
        for n in range(3)
    ]
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(folder, "list").stdout
    assert all(each["id"] in shown for each in made)
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert shown.count(made[0]["expires"][:10]) == 3
    assert "…" not in shown


def test_each_change_is_in_the_audit_trail(folder: Path) -> None:
    make(folder, "prod")
    run(folder, "account", "jo", "--role", "viewer", "--password-stdin", given="x" * 12)
    run(folder, "revoke", "prod")
    run(folder, "revoke", "jo", "--account")
    database = Database.open(DataFolder.open(folder, read_only=True).database, read_only=True)
    entries = database.read(lambda c: audit.find(c, newest_first=False))
    database.close()
    assert [(each.action, each.target) for each in entries] == [
        ("key.create", "prod"),
        ("account.put", "jo"),
        ("key.revoke", "prod"),
        ("account.disable", "jo"),
    ]
    assert all(each.by.endswith("(command line)") for each in entries)
