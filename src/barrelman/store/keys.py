"""Who may ask: API keys and accounts, kept as hashes alone.

A key's secret is 256 random bits, so one round of SHA-256 is enough: there is nothing to guess, and
a slow hash would only make each request slow. A password is chosen by a person, and can be: its
hash is scrypt's. Keys that were revoked or ran out stay listed, and their names taken, so that the
audit trail never speaks of two.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, RowMapping, func, insert, or_, select, update

from barrelman.errors import ConflictError, UsageError
from barrelman.records.frozen import frozen
from barrelman.store.tables import accounts, api_keys

ROLES: Final = ("viewer", "analyst", "engineer", "admin", "intake")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@ -]{0,99}", re.ASCII)
_CLUSTER = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,100}", re.ASCII)
# In hex: an id never begins with a dash, which a command line would take for an option.
_ID_BYTES: Final = 10
_SECRET_BYTES: Final = 32
_SALT_BYTES: Final = 16
_LEAST_PASSWORD: Final = 12
_MOST_PASSWORD: Final = 1024
# 16 MiB and a fifth of a second for each guess; the parameters stand in the hash, to be raised.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**14, 8, 5


@frozen
class ApiKey:
    """A key without its secret."""

    id: str
    name: str
    role: str
    clusters: tuple[str, ...] | None
    """What it is bound to; None means every cluster."""
    created_us: int
    created_by: str
    expires_us: int | None
    revoked_us: int | None
    last_used_us: int | None
    hash: str = field(repr=False)
    salt: str = field(repr=False)

    def is_valid(self, now_us: int) -> bool:
        return self.revoked_us is None and (self.expires_us is None or now_us < self.expires_us)


class MadeKey(NamedTuple):
    """A key just made: the one time that its secret is there."""

    key: ApiKey
    secret: str

    @property
    def token(self) -> str:
        """For `Authorization: Bearer …`."""
        return f"{self.key.id}.{self.secret}"

    @property
    def encoded(self) -> str:
        """For `Authorization: ApiKey …`, as Kibana's clients send it."""
        return base64.b64encode(f"{self.key.id}:{self.secret}".encode()).decode()


@frozen
class Account:
    """Someone who logs in with a name and a password."""

    name: str
    role: str
    clusters: tuple[str, ...] | None
    created_us: int
    disabled: bool
    hash: str = field(repr=False)


@frozen
class Credentials:
    """All there are, at one moment."""

    keys: Mapping[str, ApiKey]
    accounts: Mapping[str, Account]

    @property
    def ever_made(self) -> bool:
        """Whether there was ever one: a key that was revoked counts, too."""
        return bool(self.keys or self.accounts)


# --- keys ---


def create(
    connection: Connection,
    *,
    name: str,
    role: str,
    now_us: int,
    by: str,
    clusters: Collection[str] | None = None,
    expires_us: int | None = None,
) -> MadeKey:
    """Raises UsageError for what makes no sense, ConflictError where the name is taken."""
    bound = _check(name, role, clusters)
    if expires_us is not None and expires_us <= now_us:
        raise UsageError("the key would have run out already")
    if connection.scalar(select(func.count()).where(api_keys.c.name == name)):
        raise ConflictError(
            f"there is, or was, a key named {name}",
            hint="names are not given twice: choose another",
        )
    secret, salt = secrets.token_urlsafe(_SECRET_BYTES), secrets.token_hex(_SALT_BYTES)
    key = ApiKey(
        id=secrets.token_hex(_ID_BYTES),
        name=name,
        role=role,
        clusters=bound,
        created_us=now_us,
        created_by=by,
        expires_us=expires_us,
        revoked_us=None,
        last_used_us=None,
        hash=_digest(secret, salt),
        salt=salt,
    )
    connection.execute(
        insert(api_keys).values(
            id=key.id,
            name=name,
            hash=key.hash,
            salt=salt,
            role=role,
            clusters=None if bound is None else list(bound),
            created_us=now_us,
            created_by=by,
            expires_us=expires_us,
        )
    )
    return MadeKey(key, secret)


def all_keys(connection: Connection) -> list[ApiKey]:
    """The newest last."""
    found = connection.execute(select(api_keys).order_by(api_keys.c.created_us, api_keys.c.id))
    return [_key_of(row) for row in found.mappings()]


def find(connection: Connection, name_or_id: str) -> ApiKey | None:
    """By id, or else by name."""
    found = connection.execute(
        select(api_keys).where(or_(api_keys.c.id == name_or_id, api_keys.c.name == name_or_id))
    ).mappings()
    keys = sorted((_key_of(row) for row in found), key=lambda key: key.id != name_or_id)
    return keys[0] if keys else None


def revoke(connection: Connection, key_id: str, *, now_us: int) -> bool:
    """False where it was revoked before, or never was."""
    done = connection.execute(
        update(api_keys)
        .where(api_keys.c.id == key_id, api_keys.c.revoked_us.is_(None))
        .values(revoked_us=now_us)
    )
    return done.rowcount > 0


def touch(connection: Connection, used_us: Mapping[str, int]) -> None:
    """Notes when keys were last used."""
    for key_id, at_us in used_us.items():
        connection.execute(
            update(api_keys).where(api_keys.c.id == key_id).values(last_used_us=at_us)
        )


def is_secret_of(key: ApiKey | None, secret: str) -> bool:
    """Takes as long for a key that there is not, and for any wrong secret."""
    salt, expected = (key.salt, key.hash) if key else (_NO_SALT, _NO_HASH)
    return hmac.compare_digest(_digest(secret, salt), expected) and key is not None


# --- accounts ---


def put_account(
    connection: Connection,
    *,
    name: str,
    password: str,
    role: str,
    now_us: int,
    clusters: Collection[str] | None = None,
) -> Account:
    """Makes an account, or gives one that there is another password, role and clusters."""
    bound = _check(name, role, clusters)
    if not _LEAST_PASSWORD <= len(password) <= _MOST_PASSWORD:
        raise UsageError(f"a password has at least {_LEAST_PASSWORD} characters")
    values: dict[str, Any] = {
        "hash": hash_password(password),
        "role": role,
        "clusters": None if bound is None else list(bound),
        "disabled": False,
    }
    known = connection.execute(select(accounts).where(accounts.c.name == name)).mappings().first()
    if known:
        connection.execute(update(accounts).where(accounts.c.name == name).values(values))
    else:
        connection.execute(insert(accounts).values(name=name, created_us=now_us, **values))
    created_us = known["created_us"] if known else now_us
    return Account(name, role, bound, created_us, disabled=False, hash=values["hash"])


def disable_account(connection: Connection, name: str) -> bool:
    done = connection.execute(
        update(accounts)
        .where(accounts.c.name == name, accounts.c.disabled.is_(False))
        .values(disabled=True)
    )
    return done.rowcount > 0


def all_accounts(connection: Connection) -> list[Account]:
    found = connection.execute(select(accounts).order_by(accounts.c.name)).mappings()
    return [
        Account(
            name=row["name"],
            role=row["role"],
            clusters=_bound(row["clusters"]),
            created_us=row["created_us"],
            disabled=row["disabled"],
            hash=row["hash"],
        )
        for row in found
    ]


def load(connection: Connection) -> Credentials:
    """Keys and accounts, those included that are no longer good."""
    return Credentials(
        keys={key.id: key for key in all_keys(connection)},
        accounts={account.name: account for account in all_accounts(connection)},
    )


def hash_password(password: str) -> str:
    salt = secrets.token_bytes(_SALT_BYTES)
    made = _scrypt(password, salt, _SCRYPT_N, _SCRYPT_R, _SCRYPT_P)
    return f"scrypt${_SCRYPT_N}${_SCRYPT_R}${_SCRYPT_P}${salt.hex()}${made.hex()}"


def is_password_of(account: Account | None, password: str) -> bool:
    """Slow on purpose, and as slow where there is no such account."""
    if len(password) > _MOST_PASSWORD:
        return False
    _, n, r, p, salt, expected = (account.hash if account else _NO_PASSWORD).split("$")
    made = _scrypt(password, bytes.fromhex(salt), int(n), int(r), int(p))
    return hmac.compare_digest(made.hex(), expected) and account is not None


def check_cluster_name(cluster: str) -> str:
    """Raises UsageError for what no path could name."""
    if not _CLUSTER.fullmatch(cluster):
        raise UsageError(
            f"{cluster[:110]!r} is no name of a cluster",
            hint="letters, digits, '.', '_' and '-', at most 100",
        )
    return cluster


def _check(name: str, role: str, clusters: Collection[str] | None) -> tuple[str, ...] | None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name[:110]!r} is no name for a key or an account",
            hint="letters, digits, '.', '_', '@', '-' and blanks, at most 100",
        )
    if role not in ROLES:
        raise UsageError(f"{role[:50]!r} is no role", hint=f"one of {', '.join(ROLES)}")
    if clusters is None:
        return None
    if not clusters:
        raise UsageError("bound to no cluster, it could do nothing")
    return tuple(sorted({check_cluster_name(each) for each in clusters}))


def _key_of(row: RowMapping) -> ApiKey:
    return ApiKey(**{**row, "clusters": _bound(row["clusters"])})


def _bound(clusters: list[str] | None) -> tuple[str, ...] | None:
    return None if clusters is None else tuple(clusters)


def _digest(secret: str, salt: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + secret.encode("utf-8", "replace")).hexdigest()


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "replace"), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r
    )


# What one that there is not is compared with. Nothing hashes to them that anyone could send.
_NO_SALT: Final = secrets.token_hex(_SALT_BYTES)
_NO_HASH: Final = secrets.token_hex(32)
_NO_PASSWORD: Final = f"scrypt${_SCRYPT_N}${_SCRYPT_R}${_SCRYPT_P}${_NO_SALT}${_NO_HASH}"
