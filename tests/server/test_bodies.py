"""Bodies: what is read of them, and within what bounds."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import zlib
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from barrelman.server.bodies import MIB, Pace, body_of, json_of
from barrelman.server.problems import RefusedError

QUICK = Pace(seconds=0.3, idle_seconds=0.15, least_rate=1e6)


class Held:
    """Who counts what is held."""

    def __init__(self, most: int = 1 << 40) -> None:
        self.most = most
        self.now = 0
        self.peak = 0

    def reserve(self, size: int) -> bool:
        if self.now + size > self.most:
            return False
        self.now += size
        self.peak = max(self.peak, self.now)
        return True

    def release(self, size: int) -> None:
        self.now -= size


class Sent:
    """A request whose body comes in these pieces; numbers are seconds of silence."""

    def __init__(
        self, pieces: Sequence[bytes | float], *, ends: bool = True, **headers: str
    ) -> None:
        self.pieces = list(pieces)
        self.ends = ends
        self.taken = 0
        sent = [(n.replace("_", "-").encode(), v.encode()) for n, v in headers.items()]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": sent}
        self.request = Request(scope, self.receive)

    async def receive(self) -> Message:
        while self.pieces and isinstance(self.pieces[0], int | float):
            await anyio.sleep(float(self.pieces.pop(0)))
        if not self.pieces:
            if not self.ends:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": b"", "more_body": False}
        piece = self.pieces.pop(0)
        assert isinstance(piece, bytes)
        self.taken += len(piece)
        return {"type": "http.request", "body": piece, "more_body": True}


def read(sent: Sent, held: Held | None = None, *, most: int = MIB, pace: Pace = QUICK) -> bytes:
    held = held or Held()

    async def run() -> bytes:
        async with body_of(sent.request, holder=held, most_bytes=most, pace=pace) as body:
            assert held.now == len(body.data)
            return body.data

    try:
        return anyio.run(run)
    finally:
        assert held.now == 0


def refused(sent: Sent, held: Held | None = None, **options: Any) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        read(sent, held, **options)
    return caught.value


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


TEXT = b"".join(b"%d " % number for number in range(50_000))


@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("", lambda data: data),
        ("identity", lambda data: data),
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("x-gzip", lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:])),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
    ],
)
def test_a_body_is_read_whatever_its_pieces(size: int, encoding: str, pack: Any) -> None:
    text = TEXT[: 3000 * size]
    assert read(Sent(cut(pack(text), size), content_encoding=encoding)) == text


def test_an_empty_body_is_empty() -> None:
    assert read(Sent([])) == b""
    assert read(Sent([gzip.compress(b"")], content_encoding="gzip")) == b""
    assert read(Sent([b"", b""], content_encoding="gzip")) == b""


def test_a_body_that_is_announced_too_large_is_not_read() -> None:
    sent = Sent([b"x"], content_length=str(MIB + 1))
    assert refused(sent).status == 413
    assert sent.taken == 0


def test_a_body_is_read_up_to_the_bound() -> None:
    assert len(read(Sent([b"x" * MIB]))) == MIB
    sent = Sent([b"x" * 1000] * 5000)
    assert refused(sent).status == 413
    assert sent.taken <= MIB + 1000


def test_a_bomb_is_met_early_and_held_little_of() -> None:
    bomb = gzip.compress(b"\0" * (100 * MIB), compresslevel=9)
    held = Held()
    sent = Sent(cut(bomb, 65536), content_encoding="gzip")
    assert refused(sent, held).status == 413
    assert held.peak <= MIB
    assert sent.taken <= 65536


def test_a_bomb_of_empty_members_is_met() -> None:
    many = gzip.compress(b"") * 20_000
    error = refused(Sent(cut(many, 65536), content_encoding="gzip"))
    assert error.status == 400
    assert "too many parts" in error.message


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"not gzip at all", "cannot be unpacked"),
        (gzip.compress(TEXT)[:-9], "ends early"),
        (gzip.compress(TEXT) + b"more", "cannot be unpacked"),
        (gzip.compress(TEXT)[:-8] + b"\0" * 8, "cannot be unpacked"),
    ],
)
def test_what_is_broken_is_said_so(data: bytes, says: str) -> None:
    error = refused(Sent(cut(data, 1000), content_encoding="gzip"))
    assert (error.status, error.code) == (400, "broken_encoding")
    assert says in error.message


def test_any_bytes_are_read_or_refused() -> None:
    chance = random.Random(7)
    whole = gzip.compress(TEXT)
    for _ in range(100):
        data = bytearray(whole[: chance.randrange(1, len(whole))])
        for _ in range(chance.randrange(5)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with contextlib.suppress(RefusedError):
            assert read(Sent(cut(bytes(data), 5000), content_encoding="gzip")) == TEXT


def test_an_encoding_that_is_not_known_is_refused() -> None:
    error = refused(Sent([b"x"], content_encoding="br"))
    assert error.status == 415
    assert "gzip" in error.headers["accept-encoding"]


def test_where_there_is_no_room_the_sender_comes_back() -> None:
    held = Held(2500)
    error = refused(Sent([b"x" * 1000] * 5), held)
    assert error.status == 503
    assert error.retry_after_seconds
    assert held.peak == 2000


def test_room_is_held_only_for_what_has_come() -> None:
    held = Held()
    assert read(Sent([b"x" * 10], content_length=str(MIB)), held) == b"x" * 10
    assert held.peak == 10


@pytest.mark.parametrize(
    "pieces",
    [
        [5.0],
        [b"x", 5.0],
        [b"x", 0.1] * 20,
    ],
)
def test_who_is_slow_is_refused(pieces: list[bytes | float]) -> None:
    error = refused(Sent(pieces))
    assert error.status == 408
    assert error.headers["connection"] == "close"


def test_who_sends_much_may_take_long() -> None:
    pieces: list[bytes | float] = [b"x" * 100_000, 0.06] * 8
    assert (
        len(read(Sent(pieces), pace=Pace(seconds=0.2, idle_seconds=0.15, least_rate=1e6)))
        == 800_000
    )


def test_who_goes_away_holds_nothing() -> None:
    with pytest.raises(ClientDisconnect):
        read(Sent([b"x" * 1000], ends=False))


def read_json(data: bytes) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        sent = Sent([data])
        return await json_of(sent.request, holder=Held(), most_bytes=10 * MIB, pace=QUICK)

    return anyio.run(run)


def test_json_is_read() -> None:
    assert read_json(b'{"a": [1, "\\ud800"]}') == {"a": [1, "\ud800"]}
    assert read_json(b"  ") == {}
    large = {"a": ["x" * 100] * 2000}
    assert read_json(json.dumps(large).encode()) == large


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"1",
        b"nonsense",
        b"{",
        b'{"a": NaN}',
        b'{"a":' * 100_000,
        b"\xff",
        b'{"a": ' + b"1" * 9999 + b"}",
    ],
)
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        read_json(data)
    assert caught.value.status == 400
