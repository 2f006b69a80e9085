"""From what a request shows to who asks.

What is known is read anew when it is a second old: a key that was revoked, by whichever process,
is good for no longer. A secret is checked before an address's failures are: whoever has one is
never shut out by others who guess from the same address. A password can be guessed and is slow to
check, so there the failures come first, and pairs that were right are remembered for a while.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar, cast

import anyio
from anyio import CapacityLimiter, to_thread
from starlette.datastructures import Headers
from starlette.types import Scope

from barrelman.errors import StoreError
from barrelman.records.frozen import frozen
from barrelman.server.access import LOCAL, Caller, Role
from barrelman.server.authorization import Shown, parse
from barrelman.server.peers import is_from_this_machine, network_of, peer_of
from barrelman.server.problems import RefusedError
from barrelman.server.throttle import Buckets
from barrelman.store.keys import Account, ApiKey, Credentials, is_password_of, is_secret_of

_T = TypeVar("_T")

_FRESH_SECONDS: Final = 1.0
# While the database cannot be read, events should still come in: what was last known stands in.
_STALE_SECONDS: Final = 60.0
_TOUCH_SECONDS: Final = 60.0
_PAIR_SECONDS: Final = 300.0
_MOST_PAIRS: Final = 1000
_MOST_WAITING: Final = 8
_CHALLENGE: Final = {"www-authenticate": 'ApiKey, Bearer, Basic realm="barrelman"'}


@frozen
class Grant:
    """What a client certificate is good for.

    `subject` is its common name, or one of its alternative names with the kind before it, as in
    `DNS:api.example`.
    """

    subject: str
    role: Role
    clusters: frozenset[str] | None = None


class Access:
    """`load` reads all credentials; `touch` is told, about once a minute, which keys were used."""

    def __init__(
        self,
        load: Callable[[], Credentials],
        *,
        now_us: Callable[[], int],
        grants: Sequence[Grant] = (),
        allows_keyless: bool = True,
        failures_per_minute: float = 30.0,
        touch: Callable[[Mapping[str, int]], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._now_us = now_us
        self._grants = {grant.subject: grant for grant in grants}
        self._allows_keyless = allows_keyless
        self._failures = Buckets(
            per_second=failures_per_minute / 60, burst=failures_per_minute, monotonic=monotonic
        )
        self._touch = touch
        self._monotonic = monotonic
        self._known: tuple[Credentials, float] | None = None
        self._used_us: dict[str, int] = {}
        self._touched = monotonic()
        self._pairs = _Pairs(monotonic)
        self._lock = anyio.Lock()
        self._threads = CapacityLimiter(2)
        # One password at a time: each takes 16 MiB and a core.
        self._passwords = CapacityLimiter(1)
        self._waiting = 0
        self.failed = 0
        """Requests with a credential that is none."""

    def is_keyless(self) -> bool:
        """Whether nobody has a credential yet, as far as is known; blocking. For the start."""
        return self._allows_keyless and not self._grants and not self._load().ever_made

    def forget(self) -> None:
        """What is known has changed: it is read anew by the next request."""
        self._known = None

    async def identify(self, scope: Scope) -> Caller:
        """Raises RefusedError: 401, 403 and 429."""
        headers = Headers(scope=scope)
        known = await self._current()
        header = headers.get("authorization")
        if header is not None:
            return await self._check(scope, parse(header), known)
        peer = peer_of(scope)
        if peer is not None:
            for subject in (peer.common_name, *peer.alternatives):
                grant = self._grants.get(subject)
                if grant and subject:
                    return Caller(subject, "certificate", grant.role, grant.clusters)
        if known.ever_made or self._grants or not self._allows_keyless:
            raise RefusedError("no credential was shown", status=401, headers=_CHALLENGE)
        if not is_from_this_machine(scope, headers):
            raise RefusedError(
                "there is no key yet, so only this machine itself is served",
                status=403,
                hint="make one with `barrelman keys create`",
            )
        return LOCAL

    # --- what is known ---

    async def _current(self) -> Credentials:
        known = self._known
        if known is None or self._monotonic() - known[1] > _FRESH_SECONDS:
            async with self._lock:  # one reads for all who wait
                known = self._known
                if known is None or self._monotonic() - known[1] > _FRESH_SECONDS:
                    return await self._renew(known)
        return known[0]

    async def _renew(self, known: tuple[Credentials, float] | None) -> Credentials:
        started = self._monotonic()
        try:
            found = await self._blocking(self._read)
        except StoreError:
            if known is None or started - known[1] > _STALE_SECONDS:
                raise
            return known[0]
        self._known = (found, started)
        return found

    def _read(self) -> Credentials:
        """In a thread."""
        now = self._monotonic()
        if self._touch and self._used_us and now - self._touched >= _TOUCH_SECONDS:
            used, self._used_us, self._touched = self._used_us, {}, now
            self._touch(used)
        return self._load()

    # --- what is shown ---

    async def _check(self, scope: Scope, shown: Shown | None, known: Credentials) -> Caller:
        if shown is None:
            raise self._refusal(scope)
        key = known.keys.get(shown.name)
        if shown.kind == "key" or (key is not None and shown.name not in known.accounts):
            # Always hashed and compared, whatever else is wrong with it.
            if not is_secret_of(key, shown.secret) or key is None:
                raise self._refusal(scope)
            return self._caller_with(key, scope)
        account = known.accounts.get(shown.name)
        if not await self._is_password(account, shown, scope):
            raise self._refusal(scope)
        assert account is not None  # no password is right for none
        return Caller(account.name, "account", cast("Role", account.role), _bound(account.clusters))

    def _caller_with(self, key: ApiKey, scope: Scope) -> Caller:
        now_us = self._now_us()
        if not key.is_valid(now_us):
            was = "was revoked" if key.revoked_us is not None else "has run out"
            raise self._refusal(scope, f"the key {key.name} {was}")
        self._used_us[key.id] = now_us
        return Caller(key.name, "key", cast("Role", key.role), _bound(key.clusters), key.id)

    async def _is_password(self, account: Account | None, shown: Shown, scope: Scope) -> bool:
        if account is not None and account.disabled:
            account = None
        remembered = self._pairs.get(account, shown)
        if remembered is not None:
            return remembered
        self._refuse_guessers(scope)
        if self._waiting >= _MOST_WAITING:
            raise RefusedError(
                "too many passwords wait to be checked", status=429, retry_after_seconds=5
            )
        self._waiting += 1
        try:
            right = await to_thread.run_sync(
                partial(is_password_of, account, shown.secret), limiter=self._passwords
            )
        finally:
            self._waiting -= 1
        self._pairs.put(account, shown, right)
        return right

    def _refusal(
        self, scope: Scope, message: str = "the credential is not one of ours"
    ) -> RefusedError:
        self.failed += 1
        self._refuse_guessers(scope)
        self._failures.take(network_of(scope))
        return RefusedError(message, status=401, headers=_CHALLENGE)

    def _refuse_guessers(self, scope: Scope) -> None:
        wait = self._failures.wait(network_of(scope))
        if wait > 0:
            raise RefusedError(
                "too many credentials of this address were wrong",
                status=429,
                retry_after_seconds=wait,
            )

    async def _blocking(self, work: Callable[[], _T]) -> _T:
        return await to_thread.run_sync(work, limiter=self._threads)


class _Pairs:
    """Names and passwords that were checked, by a digest that means nothing elsewhere.

    An entry holds the hash it was checked against: with another password, it is void.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._key = secrets.token_bytes(32)
        self._checked: OrderedDict[bytes, tuple[str, bool, float]] = OrderedDict()

    def get(self, account: Account | None, shown: Shown) -> bool | None:
        found = self._checked.get(self._digest(shown))
        if found is None or self._monotonic() > found[2]:
            return None
        return found[1] if found[0] == _hash_of(account) else None

    def put(self, account: Account | None, shown: Shown, right: bool) -> None:
        digest = self._digest(shown)
        self._checked[digest] = (_hash_of(account), right, self._monotonic() + _PAIR_SECONDS)
        self._checked.move_to_end(digest)
        if len(self._checked) > _MOST_PAIRS:
            self._checked.popitem(last=False)

    def _digest(self, shown: Shown) -> bytes:
        text = f"{shown.name}\0{shown.secret}".encode("utf-8", "replace")
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()


def _hash_of(account: Account | None) -> str:
    return account.hash if account else ""


def _bound(clusters: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if clusters is None else frozenset(clusters)
