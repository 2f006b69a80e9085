"""Keys and accounts: what is kept of them, and what they open."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from barrelman.errors import ConflictError, UsageError
from barrelman.store import keys
from barrelman.store.database import Database
from barrelman.store.keys import MadeKey

NOW_US = 1_700_000_000_000_000
PASSWORD = "correct horse battery"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "barrelman.db", now_us=NOW_US)
    yield opened
    opened.close()


def make(database: Database, name: str = "prod", **changes: Any) -> MadeKey:
    wanted: dict[str, Any] = {"role": "intake", "now_us": NOW_US, "by": "me", **changes}
    return database.write(lambda c: keys.create(c, name=name, **wanted))


def test_a_key_comes_back_without_its_secret(database: Database, tmp_path: Path) -> None:
    made = make(database, clusters=["b", "a", "b"], expires_us=NOW_US + 5)
    (key,) = database.read(keys.all_keys)
    assert key == made.key
    assert key.clusters == ("a", "b")
    assert (key.name, key.role, key.created_us, key.created_by) == ("prod", "intake", NOW_US, "me")
    assert key.expires_us == NOW_US + 5
    assert key.revoked_us is None
    assert made.secret not in repr(made.key)
    assert key.hash not in repr(key)
    database.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert made.key.id.encode() in kept
    assert made.secret.encode() not in kept


def test_a_secret_has_256_bits_and_no_two_are_alike(database: Database) -> None:
    made = [make(database, f"key {number}") for number in range(20)]
    assert len({each.secret for each in made}) == len({each.key.id for each in made}) == 20
    assert len({each.key.salt for each in made}) == 20
    for each in made:
        assert len(base64.urlsafe_b64decode(each.secret + "=")) == 32
        assert each.key.id.isalnum()


def test_the_two_forms_hold_id_and_secret(database: Database) -> None:
    made = make(database)
    assert made.token == f"{made.key.id}.{made.secret}"
    assert base64.b64decode(made.encoded).decode() == f"{made.key.id}:{made.secret}"


def test_only_the_secret_opens(database: Database) -> None:
    made, other = make(database), make(database, "other")
    assert keys.is_secret_of(made.key, made.secret)
    for wrong in ("", made.secret[:-1], made.secret + "x", other.secret, made.key.hash, "é\ud800"):
        assert not keys.is_secret_of(made.key, wrong)
    assert not keys.is_secret_of(None, made.secret)


def test_a_key_is_valid_until_it_runs_out_or_is_revoked(database: Database) -> None:
    made = make(database, expires_us=NOW_US + 10)
    assert made.key.is_valid(NOW_US + 9)
    assert not made.key.is_valid(NOW_US + 10)
    assert database.write(lambda c: keys.revoke(c, made.key.id, now_us=NOW_US + 1))
    assert not database.write(lambda c: keys.revoke(c, made.key.id, now_us=NOW_US + 2))
    assert not database.write(lambda c: keys.revoke(c, "nothing", now_us=NOW_US + 2))
    (key,) = database.read(keys.all_keys)
    assert key.revoked_us == NOW_US + 1
    assert not key.is_valid(NOW_US)


def test_names_are_given_once_also_when_revoked(database: Database) -> None:
    made = make(database)
    database.write(lambda c: keys.revoke(c, made.key.id, now_us=NOW_US))
    with pytest.raises(ConflictError, match="prod"):
        make(database)
    assert len(database.read(keys.all_keys)) == 1


def test_a_key_is_found_by_its_name_and_by_its_id(database: Database) -> None:
    made = make(database)
    # A name that is another's id: whoever says an id means the id.
    make(database, made.key.id)
    assert database.read(lambda c: keys.find(c, "prod")) == made.key
    assert database.read(lambda c: keys.find(c, made.key.id)) == made.key
    assert database.read(lambda c: keys.find(c, "nothing")) is None


def test_the_last_use_is_noted(database: Database) -> None:
    made = make(database)
    database.write(lambda c: keys.touch(c, {made.key.id: NOW_US + 7, "gone": NOW_US}))
    (key,) = database.read(keys.all_keys)
    assert key.last_used_us == NOW_US + 7


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": ""}, "no name"),
        ({"name": "a\nb"}, "no name"),
        ({"name": "x" * 101}, "no name"),
        ({"role": "root"}, "no role"),
        ({"clusters": []}, "no cluster"),
        ({"clusters": ["a/b"]}, "no name of a cluster"),
        ({"clusters": [".."]}, "no name of a cluster"),
        ({"expires_us": NOW_US}, "run out"),
    ],
)
def test_what_makes_no_sense_is_refused(
    database: Database, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        make(database, **changes)
    assert not database.read(keys.all_keys)


def put(database: Database, password: str = PASSWORD, **changes: Any) -> keys.Account:
    wanted: dict[str, Any] = {"name": "jo", "role": "analyst", "now_us": NOW_US, **changes}
    return database.write(lambda c: keys.put_account(c, password=password, **wanted))


def test_only_the_password_opens_an_account(database: Database) -> None:
    account = put(database)
    assert database.read(keys.all_accounts) == [account]
    assert keys.is_password_of(account, PASSWORD)
    assert not keys.is_password_of(account, PASSWORD + "x")
    assert not keys.is_password_of(account, "x" * 2000)
    assert not keys.is_password_of(None, PASSWORD)
    assert PASSWORD not in repr(account)
    assert account.hash not in repr(account)


def test_an_account_that_is_put_again_is_changed(database: Database) -> None:
    put(database)
    assert database.write(lambda c: keys.disable_account(c, "jo"))
    assert not database.write(lambda c: keys.disable_account(c, "jo"))
    changed = put(database, "another long one", role="viewer", clusters=["a"], now_us=NOW_US + 9)
    (account,) = database.read(keys.all_accounts)
    assert account == changed
    assert (account.role, account.clusters, account.disabled) == ("viewer", ("a",), False)
    assert account.created_us == NOW_US
    assert keys.is_password_of(account, "another long one")
    assert not keys.is_password_of(account, PASSWORD)


def test_a_short_password_is_refused(database: Database) -> None:
    with pytest.raises(UsageError, match="at least 12"):
        put(database, "short")


def test_what_was_ever_made_is_known_also_when_it_is_revoked(database: Database) -> None:
    assert not database.read(keys.load).ever_made
    made = make(database)
    database.write(lambda c: keys.revoke(c, made.key.id, now_us=NOW_US))
    known = database.read(keys.load)
    assert known.ever_made
    assert list(known.keys) == [made.key.id]
    put(database)
    assert list(database.read(keys.load).accounts) == ["jo"]
