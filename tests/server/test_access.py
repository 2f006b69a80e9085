"""Who is let in, with what, and who is not."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping
from typing import Any

import anyio
import pytest
from starlette.types import Scope

from barrelman.errors import StoreError
from barrelman.server.access import LOCAL, Caller, check_role
from barrelman.server.authentication import Access, Grant
from barrelman.server.authorization import Shown, parse
from barrelman.server.peers import PEER, Peer, network_of, refuse_other_origins
from barrelman.server.problems import RefusedError
from barrelman.server.throttle import Buckets
from barrelman.store.keys import Account, ApiKey, Credentials, hash_password

NOW_US = 1_700_000_000_000_000
SECRET = "s" * 43
PASSWORD = "correct horse battery"
# One round of it takes a fifth of a second, whoever asks.
HASH = hash_password(PASSWORD)
QUICK_HASH = f"scrypt$1024$8$1$00${hashlib.scrypt(b'other', salt=bytes(1), n=1024, r=8, p=1).hex()}"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Known:
    """What the database holds, and how often it was asked."""

    def __init__(self) -> None:
        self.keys: dict[str, ApiKey] = {}
        self.accounts: dict[str, Account] = {}
        self.asked = 0
        self.is_broken = False

    def __call__(self) -> Credentials:
        self.asked += 1
        if self.is_broken:
            raise StoreError("the database cannot be read")
        return Credentials(dict(self.keys), dict(self.accounts))

    def key(self, key_id: str = "k1", **changes: Any) -> str:
        """Adds a key; gives its token."""
        salt = "00" * 16
        made: dict[str, Any] = {
            "id": key_id,
            "name": f"key {key_id}",
            "role": "viewer",
            "clusters": None,
            "created_us": NOW_US,
            "created_by": "me",
            "expires_us": None,
            "revoked_us": None,
            "last_used_us": None,
            "hash": hashlib.sha256(bytes.fromhex(salt) + SECRET.encode()).hexdigest(),
            "salt": salt,
            **changes,
        }
        self.keys[key_id] = ApiKey(**made)
        return f"{key_id}.{SECRET}"

    def account(self, name: str = "jo", **changes: Any) -> None:
        made: dict[str, Any] = {
            "name": name,
            "role": "analyst",
            "clusters": None,
            "created_us": NOW_US,
            "disabled": False,
            "hash": HASH,
            **changes,
        }
        self.accounts[name] = Account(**made)


class World:
    def __init__(self, **options: Any) -> None:
        self.known = Known()
        self.clock = Clock()
        self.used: list[Mapping[str, int]] = []
        self.access = Access(
            self.known,
            now_us=lambda: NOW_US,
            touch=self.used.append,
            monotonic=self.clock,
            **options,
        )

    def ask(self, **asked: Any) -> Caller:
        return anyio.run(self.access.identify, scope(**asked))

    def status(self, **asked: Any) -> int:
        with pytest.raises(RefusedError) as caught:
            self.ask(**asked)
        return caught.value.status

    def later(self, seconds: float = 1.1) -> None:
        self.clock.now += seconds


@pytest.fixture
def world() -> World:
    return World()


def scope(
    *,
    shown: str | None = None,
    address: str = "127.0.0.1",
    peer: Peer | None = None,
    **headers: str,
) -> Scope:
    sent = {"host": "localhost:8420", **{n.replace("_", "-"): v for n, v in headers.items()}}
    if shown is not None:
        sent["authorization"] = shown
    made: Scope = {
        "type": "http",
        "path": "/api/v1/events",
        "client": (address, 4000),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
    }
    if peer is not None:
        made["extensions"] = {PEER: peer}
    return made


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


# --- roles ---


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("viewer", {"viewer"}),
        ("analyst", {"viewer", "analyst"}),
        ("engineer", {"viewer", "analyst", "engineer"}),
        ("admin", {"viewer", "analyst", "engineer", "admin", "intake"}),
        ("intake", {"intake"}),
        ("local", {"viewer", "intake"}),
    ],
)
def test_what_a_role_may(role: Any, may: set[str]) -> None:
    caller = Caller("someone", "key", role)
    for needed in ("viewer", "analyst", "engineer", "admin", "intake"):
        assert caller.may(needed) is (needed in may)


def test_who_is_local_is_told_to_make_a_key() -> None:
    with pytest.raises(RefusedError, match="without a key") as caught:
        check_role(LOCAL, "engineer")
    assert caught.value.status == 403
    assert "--role engineer" in (caught.value.hint or "")


def test_a_bound_caller_sees_its_clusters() -> None:
    bound = Caller("someone", "key", "viewer", frozenset({"a", "b"}))
    assert bound.clusters_of([]) == frozenset({"a", "b"})
    assert bound.clusters_of(["a"]) == frozenset({"a"})
    with pytest.raises(RefusedError, match="other clusters than c"):
        bound.clusters_of(["a", "c"])
    free = Caller("someone", "key", "viewer")
    assert free.clusters_of([]) is None
    assert free.clusters_of(["c"]) == frozenset({"c"})


# --- what is shown ---


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ("ApiKey " + base64.b64encode(b"id:secret").decode(), Shown("key", "id", "secret")),
        ("apikey  " + base64.b64encode(b"id:se:cret").decode(), Shown("key", "id", "se:cret")),
        ("Bearer id.secret", Shown("key", "id", "secret")),
        ("bearer " + base64.b64encode(b"id:secret").decode(), Shown("key", "id", "secret")),
        ("Basic " + base64.b64encode("jo:pä:ß".encode()).decode(), Shown("pair", "jo", "pä:ß")),
        ("", None),
        ("Bearer", None),
        ("Bearer .", None),
        ("Bearer id.", None),
        ("Bearer .secret", None),
        ("ApiKey id:secret", None),
        ("ApiKey " + base64.b64encode(b"\xff:\xff").decode(), None),
        ("ApiKey !!!!", None),
        ("Basic " + base64.b64encode(b"name").decode(), None),
        ("Digest username=jo", None),
        ("Bearer id." + "x" * 5000, None),
    ],
)
def test_the_header_is_read(header: str, shown: Shown | None) -> None:
    assert parse(header) == shown


# --- keys ---


def test_a_key_opens_in_each_form(world: World) -> None:
    token = world.known.key(role="analyst", clusters=("prod",))
    encoded = base64.b64encode(token.replace(".", ":").encode()).decode()
    expected = Caller("key k1", "key", "analyst", frozenset({"prod"}), "k1")
    # An API server that knows basic authentication alone sends a key's id and secret.
    for shown in (f"Bearer {token}", f"ApiKey {encoded}", f"Basic {encoded}"):
        assert world.ask(shown=shown, address="203.0.113.9") == expected


@pytest.mark.parametrize("shown", ["Bearer k1.wrong", "Bearer k2.wrong", "Bearer ", "nonsense", ""])
def test_a_wrong_key_is_refused_also_from_this_machine(world: World, shown: str) -> None:
    world.known.key()
    assert world.status(shown=shown) == 401
    assert world.access.failed == 1


def test_the_answer_says_what_could_be_shown(world: World) -> None:
    world.known.key()
    with pytest.raises(RefusedError) as caught:
        world.ask()
    assert caught.value.status == 401
    assert "Basic" in caught.value.headers["www-authenticate"]


def test_a_key_that_ran_out_is_refused(world: World) -> None:
    token = world.known.key(expires_us=NOW_US)
    assert world.status(shown=f"Bearer {token}") == 401
    world.later()
    token = world.known.key(expires_us=NOW_US + 1)
    assert world.ask(shown=f"Bearer {token}").name == "key k1"


def test_a_revoked_key_is_refused_within_a_second(world: World) -> None:
    token = world.known.key()
    assert world.ask(shown=f"Bearer {token}")
    world.known.key(revoked_us=NOW_US)
    world.later(1.1)
    assert world.status(shown=f"Bearer {token}") == 401


def test_what_is_known_is_read_once_a_second_and_when_it_changed(world: World) -> None:
    token = world.known.key()
    for _ in range(50):
        world.ask(shown=f"Bearer {token}")
        world.status(shown="Bearer no.thing") if _ < 5 else None
    assert world.known.asked == 1
    world.later()
    world.ask(shown=f"Bearer {token}")
    assert world.known.asked == 2
    world.access.forget()
    world.ask(shown=f"Bearer {token}")
    assert world.known.asked == 3


def test_a_database_that_fails_for_a_moment_keeps_nobody_out(world: World) -> None:
    token = world.known.key()
    world.ask(shown=f"Bearer {token}")
    world.known.is_broken = True
    world.later(30)
    assert world.ask(shown=f"Bearer {token}")
    world.later(60)
    with pytest.raises(StoreError):
        world.ask(shown=f"Bearer {token}")


def test_the_use_of_keys_is_told_now_and_then(world: World) -> None:
    token = world.known.key()
    world.ask(shown=f"Bearer {token}")
    world.later(30)
    world.ask(shown=f"Bearer {token}")
    assert world.used == []
    world.later(31)
    world.ask(shown=f"Bearer {token}")
    assert world.used == [{"k1": NOW_US}]


# --- guessing ---


def test_who_guesses_has_to_wait(world: World) -> None:
    world.known.key()
    statuses = [world.status(shown=f"Bearer k1.{n}", address="192.0.2.1") for n in range(40)]
    assert statuses == [401] * 30 + [429] * 10
    assert world.status(shown="Bearer k1.x", address="192.0.2.2") == 401
    world.later(4)
    assert [world.status(shown="Bearer k1.x", address="192.0.2.1") for _ in range(3)] == [
        401,
        401,
        429,
    ]


def test_who_has_a_key_is_not_shut_out_by_those_who_guess_from_there(world: World) -> None:
    token = world.known.key()
    for n in range(40):
        world.status(shown=f"Bearer k1.{n}")
    assert world.ask(shown=f"Bearer {token}").name == "key k1"


def test_of_ipv6_the_whole_network_is_held_to_account() -> None:
    assert network_of(scope(address="2001:db8:1:2::5")) == network_of(
        scope(address="2001:db8:1:2:ffff::9")
    )
    assert network_of(scope(address="2001:db8:1:3::5")) != network_of(
        scope(address="2001:db8:1:2::5")
    )
    assert network_of(scope(address="192.0.2.1")) != network_of(scope(address="192.0.2.2"))


def test_a_bucket_fills_again_and_forgets_who_came_longest_ago() -> None:
    clock = Clock()
    buckets = Buckets(per_second=2, burst=4, monotonic=clock)
    assert [buckets.take("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert buckets.wait("b") == 0
    clock.now += 0.5
    assert [buckets.take("a") for _ in range(2)] == [0, 0.5]
    for n in range(10_000):
        buckets.take(f"other {n}")
    assert buckets.take("a") == 0
    endless = Buckets(per_second=0, burst=0, monotonic=clock)
    assert not any(endless.take("a") for _ in range(100))


def test_comparing_takes_as_long_for_any_wrong_key(world: World) -> None:
    """Medians of many, alternately: a key that there is not costs what a wrong secret does."""
    from barrelman.store.keys import is_secret_of

    world.known.key()
    key = world.known.keys["k1"]
    taken: dict[str, list[int]] = {"none": [], "first": [], "last": []}
    asked = {"none": (None, SECRET), "first": (key, "x" + SECRET[1:]), "last": (key, SECRET[1:])}
    for _ in range(3000):
        for name, (of, secret) in asked.items():
            started = time.perf_counter_ns()
            is_secret_of(of, secret)
            taken[name].append(time.perf_counter_ns() - started)
    medians = [sorted(each)[len(each) // 2] for each in taken.values()]
    assert max(medians) < 2 * min(medians)


# --- accounts ---


def test_an_account_opens_with_its_password_alone(world: World) -> None:
    world.known.account(clusters=("prod",))
    caller = world.ask(shown=basic("jo", PASSWORD))
    assert caller == Caller("jo", "account", "analyst", frozenset({"prod"}))
    assert world.status(shown=basic("jo", PASSWORD + "x")) == 401
    assert world.status(shown=basic("nobody", PASSWORD)) == 401
    # A password is none of a key's forms.
    assert world.status(shown=f"Bearer jo.{PASSWORD}") == 401


def test_a_password_is_hashed_once_for_a_while_and_void_when_changed(world: World) -> None:
    world.known.account()
    world.ask(shown=basic("jo", PASSWORD))
    started = time.perf_counter()
    for _ in range(20):
        world.ask(shown=basic("jo", PASSWORD))
    assert time.perf_counter() - started < 1  # twenty hashes take four seconds
    world.known.account(hash=hash_password("something else"))
    world.later()
    assert world.status(shown=basic("jo", PASSWORD)) == 401
    world.known.account(disabled=True)
    world.later()
    assert world.status(shown=basic("jo", PASSWORD)) == 401


def test_who_guesses_passwords_is_stopped_before_they_are_hashed() -> None:
    world = World(failures_per_minute=2)
    world.known.account()
    assert [world.status(shown=basic("jo", f"guess {n}")) for n in range(2)] == [401, 401]
    started = time.perf_counter()
    assert {world.status(shown=basic("jo", f"guess more {n}")) for n in range(20)} == {429}
    assert time.perf_counter() - started < 1


def test_passwords_are_hashed_one_at_a_time_and_few_wait() -> None:
    world = World(failures_per_minute=0)
    world.known.account(hash=QUICK_HASH)
    world.status()  # what is known is read before the crowd comes

    async def crowd() -> list[int]:
        statuses: list[int] = []

        async def guess(number: int) -> None:
            try:
                await world.access.identify(scope(shown=basic("jo", f"guess {number}")))
            except RefusedError as error:
                statuses.append(error.status)

        async with anyio.create_task_group() as group:
            for number in range(14):
                group.start_soon(guess, number)
        return statuses

    statuses = anyio.run(crowd)
    assert statuses.count(401) == 8
    assert statuses.count(429) == 6


# --- certificates ---


def test_a_certificate_opens_what_it_was_granted() -> None:
    grants = [
        Grant("prod-apiserver", "intake", frozenset({"prod"})),
        Grant("DNS:grafana.example", "viewer"),
    ]
    world = World(grants=grants)
    caller = world.ask(peer=Peer("prod-apiserver"), address="203.0.113.9")
    assert caller == Caller("prod-apiserver", "certificate", "intake", frozenset({"prod"}))
    caller = world.ask(peer=Peer("x", ("DNS:a", "DNS:grafana.example")))
    assert (caller.name, caller.role) == ("DNS:grafana.example", "viewer")
    for stranger in (Peer("other"), Peer(""), Peer("", ("DNS:prod-apiserver",))):
        assert world.status(peer=stranger) == 401
    # Grants are credentials: this machine needs one, too.
    assert world.status() == 401
    # What is shown in the request counts, and a wrong one is not made good by a certificate.
    assert world.status(peer=Peer("prod-apiserver"), shown="Bearer a.b") == 401


# --- nobody has a key yet ---


def test_without_any_key_this_machine_is_served(world: World) -> None:
    assert world.ask() == LOCAL
    for address in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
        for host in ("localhost", "localhost:8420", "127.0.0.1:8420", "[::1]:8420", "LOCALHOST"):
            assert world.ask(address=address, host=host) == LOCAL
    assert world.access.is_keyless()


@pytest.mark.parametrize(
    "asked",
    [
        {"address": "192.0.2.1"},
        {"address": "::ffff:192.0.2.1"},
        {"address": "2001:db8::1"},
        {"address": ""},
        # A name that was made to mean 127.0.0.1, in a browser.
        {"host": "attacker.example"},
        {"host": "attacker.example:8420"},
        {"host": "localhost.attacker.example"},
        {"host": "127.0.0.1.attacker.example"},
        {"host": "attacker.example@localhost.example"},
        {"host": "[::1"},
        {"host": ""},
        # Someone else, by way of a proxy on this machine.
        {"x_forwarded_for": "192.0.2.1"},
        {"forwarded": "for=192.0.2.1"},
        {"x_real_ip": "192.0.2.1"},
        {"x_client_ip": "192.0.2.1"},
        {"true_client_ip": "192.0.2.1"},
        {"cf_connecting_ip": "192.0.2.1"},
        {"x_forwarded_proto": "https"},
        {"x_forwarded_server": "proxy.example"},
        {"x_forwarded": "for=192.0.2.1"},
        {"via": "1.1 proxy"},
    ],
)
def test_without_any_key_nobody_else_is(world: World, asked: dict[str, str]) -> None:
    assert world.status(**asked) == 403


def test_with_a_key_this_machine_needs_one_also_when_it_is_revoked(world: World) -> None:
    assert world.ask() == LOCAL
    world.known.key(revoked_us=NOW_US)
    world.later()
    assert world.status() == 401
    assert not world.access.is_keyless()


def test_this_can_be_switched_off() -> None:
    world = World(allows_keyless=False)
    assert world.status() == 401
    assert not world.access.is_keyless()


@pytest.mark.parametrize(
    ("headers", "is_taken"),
    [
        ({}, True),
        ({"origin": "http://localhost:8420"}, True),
        ({"origin": "https://attacker.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "none"}, True),
    ],
)
def test_pages_of_other_sites_are_not_served(headers: dict[str, Any], is_taken: bool) -> None:
    from starlette.datastructures import Headers

    sent = Headers(scope=scope(**headers))
    if is_taken:
        refuse_other_origins(sent)
    else:
        with pytest.raises(RefusedError, match="other sites"):
            refuse_other_origins(sent)
