"""What `barrelman keys` does, in the database of a service that runs or does not."""

from __future__ import annotations

import json
import os
import pwd
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from barrelman.cli.printing import printable
from barrelman.cli.serving import check_extra, read_config
from barrelman.errors import StoreError, TimeError, UsageError
from barrelman.records.times import format_instant, parse_date_math, parse_duration_ms
from barrelman.settings.configload import Flag

if TYPE_CHECKING:
    from barrelman.store.database import Connection, Database
    from barrelman.store.keys import Account, ApiKey, MadeKey

_T = TypeVar("_T")

_WIDE: Final = 110
"""From so many columns on a table tells the time of day, too."""


def create_key(
    name: str,
    *,
    role: str,
    clusters: Sequence[str],
    expires: str | None,
    data: str | None,
    config: str | None,
    format_: str,
) -> int:
    check_extra()
    from barrelman.store import audit, keys

    now_us = _now_us()
    expires_us = None if expires is None else 1000 * _instant_ms(expires, now_us // 1000)

    def write(connection: Connection) -> MadeKey:
        made = keys.create(
            connection,
            name=name,
            role=role,
            clusters=clusters or None,
            expires_us=expires_us,
            now_us=now_us,
            by=_who(),
        )
        detail = {"id": made.key.id, "role": role, "clusters": list(clusters) or None}
        audit.note(
            connection, at_us=now_us, by=_who(), action="key.create", target=name, detail=detail
        )
        return made

    made = _written(write, data=data, config=config)
    shown = _shown_key(made.key, now_us) | {"encoded": made.encoded, "token": made.token}
    if format_ == "json":
        _print_json(shown)
    else:
        click.echo(f"Authorization: Bearer {made.token}")
        click.echo(f"Authorization: ApiKey {made.encoded}")
        click.echo(
            f"These are two forms of one key, {printable(name)}, of role {role}. "
            "It is shown this once: keep it now.",
            err=True,
        )
    return 0


def list_keys(*, data: str | None, config: str | None, format_: str) -> int:
    check_extra()
    from barrelman.store import keys

    with _database(data, config, read_only=True) as database:
        known = keys.Credentials({}, {}) if database is None else database.read(keys.load)
    now_us = _now_us()
    shown = [_shown_key(each, now_us) for each in known.keys.values()]
    accounts = [_shown_account(each) for each in known.accounts.values()]
    if format_ == "json":
        _print_json({"keys": shown, "accounts": accounts})
    elif shown or accounts:
        _print_table([*shown, *accounts])
    else:
        click.echo("no keys and no accounts", err=True)
    return 0


def revoke_keys(
    names: Sequence[str], *, account: bool, data: str | None, config: str | None
) -> int:
    check_extra()
    from barrelman.store import audit, keys

    now_us = _now_us()

    def write(connection: Connection) -> None:
        for name in names:
            key = None if account else keys.find(connection, name)
            if account:
                done = keys.disable_account(connection, name)
            else:
                done = key is not None and keys.revoke(connection, key.id, now_us=now_us)
            if not done:
                what = "account" if account else "key"
                raise UsageError(
                    f"there is no {what} {name!r} that is still good",
                    hint="`barrelman keys list` shows them; nothing was changed",
                )
            action = "account.disable" if account else "key.revoke"
            target = name if key is None else key.name
            audit.note(connection, at_us=now_us, by=_who(), action=action, target=target)

    _written(write, data=data, config=config)
    return 0


def put_account(
    name: str,
    *,
    role: str,
    clusters: Sequence[str],
    password_stdin: bool,
    data: str | None,
    config: str | None,
) -> int:
    check_extra()
    from barrelman.store import audit, keys

    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif not sys.stdin.isatty():
        raise UsageError(
            "a password is asked for on a terminal, and there is none",
            hint="--password-stdin reads it from what is piped in",
        )
    else:
        password = click.prompt(
            f"Password of {printable(name)}", hide_input=True, confirmation_prompt=True, err=True
        )
    now_us = _now_us()

    def write(connection: Connection) -> None:
        keys.put_account(
            connection,
            name=name,
            password=password,
            role=role,
            clusters=clusters or None,
            now_us=now_us,
        )
        detail = {"role": role, "clusters": list(clusters) or None}
        audit.note(
            connection, at_us=now_us, by=_who(), action="account.put", target=name, detail=detail
        )

    _written(write, data=data, config=config)
    return 0


# --- inside ---


def _written(write: Callable[[Connection], _T], *, data: str | None, config: str | None) -> _T:
    with _database(data, config, read_only=False) as database:
        assert database is not None
        return database.write(write)


@contextmanager
def _database(
    data: str | None, config: str | None, *, read_only: bool
) -> Iterator[Database | None]:
    """The database alone: whoever owns the folder need not be asked, nor stopped. None where there
    is only to be read, and nothing yet.

    Only where it has to be made or migrated the folder is taken for that long, as its owner would
    not expect that.
    """
    from barrelman.store.database import Database
    from barrelman.store.folder import DataFolder

    flags = [] if data is None else [Flag("store.data", data, "--data")]
    path = read_config(config, flags).store.data
    if not read_only and not _is_there(path):
        with DataFolder.open(path) as folder:
            Database.open(folder.database, now_us=_now_us()).close()
    folder = DataFolder.open(path, read_only=True)
    if read_only and not folder.database.exists():
        yield None
        return
    database = Database.open(folder.database, read_only=read_only, now_us=_now_us())
    try:
        yield database
    finally:
        database.close()


def _is_there(path: str) -> bool:
    """Whether there is a database of this version."""
    from barrelman.store.database import Database
    from barrelman.store.folder import DataFolder

    if not os.path.exists(os.path.join(path, "VERSION")):
        return False
    folder = DataFolder.open(path, read_only=True)
    if not folder.database.exists():
        return False
    try:
        Database.open(folder.database, read_only=True).close()
    except StoreError:
        return False  # older, or worse: its owner sees to it, or says what is wrong
    return True


def _instant_ms(text: str, now_ms: int) -> int:
    try:
        return now_ms + parse_duration_ms(text)
    except TimeError:
        return parse_date_math(text).resolve_ms(now_ms)


def _now_us() -> int:
    return time.time_ns() // 1000


def _who() -> str:
    """For the audit trail: who sat at the command line."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return f"{name} (command line)"


def _shown_key(key: ApiKey, now_us: int) -> dict[str, Any]:
    state = "good" if key.is_valid(now_us) else "run out"
    return {
        "name": key.name,
        "id": key.id,
        "role": key.role,
        "clusters": None if key.clusters is None else list(key.clusters),
        "state": "revoked" if key.revoked_us is not None else state,
        "created": _instant(key.created_us),
        "created_by": key.created_by,
        "expires": _instant(key.expires_us),
        "last_used": _instant(key.last_used_us),
    }


def _shown_account(account: Account) -> dict[str, Any]:
    return {
        "name": account.name,
        "id": None,
        "role": account.role,
        "clusters": None if account.clusters is None else list(account.clusters),
        "state": "disabled" if account.disabled else "good",
        "created": _instant(account.created_us),
    }


def _instant(at_us: int | None) -> str | None:
    return None if at_us is None else format_instant(at_us // 1000)


def _print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    is_wide = console.width >= _WIDE
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("NAME", "ID", "ROLE", "CLUSTERS", "STATE", "EXPIRES", "LAST USED"):
        # An id is there to be copied, and the others are of one word.
        table.add_column(title, overflow="fold", no_wrap=title not in ("NAME", "CLUSTERS"))
    for row in rows:
        clusters = "all" if row["clusters"] is None else ", ".join(row["clusters"])
        cells = (
            printable(row["name"]),
            row["id"] or "account",
            row["role"],
            clusters,
            row["state"],
            _short(row.get("expires"), is_wide=is_wide),
            _short(row.get("last_used"), is_wide=is_wide),
        )
        table.add_row(*map(Text, cells))
    console.print(table)


def _short(instant: str | None, *, is_wide: bool) -> str:
    if instant is None:
        return "never"
    return f"{instant[:10]} {instant[11:16]}" if is_wide else instant[:10]
