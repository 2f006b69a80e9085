"""Bodies and requests that nobody in good faith sends, drawn from a seed."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator

from bodies import Batches

MIB = 1 << 20
BOMB_MIB = 1024


class Malice:
    """Draws bodies. Each is a mutation of a good one, or nothing like it."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._batches = Batches(seed=seed, count=2, size=20)
        self._number = 0
        self._kinds: list[Callable[[bytes], bytes]] = [
            self._cut, self._flipped, self._retyped, self._nested, self._huge_text, self._bytes,
            self._numbers, self._keys, self._doubled, self._encoded, self._strange_list,
            self._lone_surrogates,
        ]  # fmt: skip

    def body(self) -> bytes:
        self._number += 1
        good = bytes(self._batches.body(self._number, born_us=1_790_000_000_000_000))
        return self._chance.choice(self._kinds)(good)

    def _cut(self, good: bytes) -> bytes:
        return good[: self._chance.randrange(len(good))]

    def _flipped(self, good: bytes) -> bytes:
        body = bytearray(good)
        for _ in range(self._chance.choice((1, 3, 100))):
            body[self._chance.randrange(len(body))] = self._chance.randrange(256)
        return bytes(body)

    def _value(self) -> object:
        return self._chance.choice(
            (None, True, 0, -1, 1.5, 10**30, "", "x", "\0", [], [[]], [None], {}, {"": {}},
             {"a": []}, "2026-13-45T99:99:99Z", "9999999-01-01T00:00:00Z", "[::1", ["a"] * 1000)
        )  # fmt: skip

    def _retyped(self, good: bytes) -> bytes:
        """Members of every depth get values of other types."""
        body = json.loads(good)
        for _ in range(self._chance.choice((1, 5, 40))):
            at = body
            for _ in range(self._chance.randrange(1, 7)):
                keys = list(at) if isinstance(at, dict) else list(range(len(at)))
                if not keys:
                    break
                key = self._chance.choice(keys)
                if not isinstance(at[key], dict | list) or self._chance.random() < 0.3:
                    at[key] = self._value()
                    break
                at = at[key]
        return json.dumps(body).encode()

    def _nested(self, good: bytes) -> bytes:
        depth = self._chance.choice((100, 1000, 5000, 200_000))
        opened, closed = self._chance.choice(
            ((b"[", b"]"), (b'{"a":', b"}"), (b'{"items":[', b"]}"))
        )
        deep = opened * depth + b"1" + closed * self._chance.choice((0, depth))
        place = self._chance.choice((b'"annotations":', b'"user":', b'"items":'))
        return self._chance.choice((deep, good.replace(place, place + deep + b',"x":', 1)))

    def _huge_text(self, good: bytes) -> bytes:
        filling = self._chance.choice((b"a", b"\\u0000", b"\\\\", "ü".encode(), b"\xff", b" "))
        name = self._chance.choice((b'"auditID":"', b'"username":"', b'"requestURI":"', b'"x":"'))
        return good.replace(name, name + filling * self._chance.choice((1000, MIB // 2)), 1)

    def _bytes(self, good: bytes) -> bytes:
        text = self._chance.randbytes(self._chance.choice((0, 1, 1000, MIB)))
        return self._chance.choice(
            (text, good[:200] + text, text + good, bytes(len(text)), b"\n" * 999)
        )

    def _numbers(self, good: bytes) -> bytes:
        number = self._chance.choice(
            (b"1e999", b"-1e-999", b"9" * 5000, b"NaN", b"-Infinity", b"-0")
        )
        return good.replace(b'"code":200', b'"code":' + number)

    def _keys(self, good: bytes) -> bytes:
        many = b",".join(b'"k%d":1' % each for each in range(self._chance.choice((10, 50_000))))
        return good.replace(b'"user":{', b'"user":{' + many + b",", 1)

    def _doubled(self, good: bytes) -> bytes:
        return good.replace(b'"verb":', b'"verb":"create","verb":').replace(
            b'"items":', b'"items":[],"items":'
        )

    def _encoded(self, good: bytes) -> bytes:
        return self._chance.choice(
            (b"\xef\xbb\xbf" + good, good.decode().encode("utf-16"), b"\x1e" + good)
        )

    def _strange_list(self, good: bytes) -> bytes:
        return self._chance.choice(
            (b"[]", b"{}", b"null", b'"EventList"', b'{"kind":"EventList"}',
             b'{"kind":"List","items":{}}', b'{"kind":"EventList","items":[null,1,"a",[],{}]}',
             b'{"items":' + good + b"}", b'{"kind":"Pod","apiVersion":"v1"}', good * 3)
        )  # fmt: skip

    def _lone_surrogates(self, good: bytes) -> bytes:
        return good.replace(b'"verb":"', b'"verb":"\\ud800').replace(b'"item-', b'"\xed\xa0\x80')


def bomb(mib: int = BOMB_MIB, *, layers: int = 1) -> bytes:
    """Zeros, packed a thousand to one; with more layers, packed again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(MIB)
    packed = b"".join(packer.compress(zeros) for _ in range(mib)) + packer.flush()
    for _ in range(layers - 1):
        packed = gzip.compress(packed, 9)
    return packed


def mixed_list(batches: Batches, number: int) -> tuple[bytes, int]:
    """A good batch with items among it that are no events, and how many of these."""
    body = bytes(batches.body(number, born_us=1_790_000_000_000_000))
    bad = b'null,7,"text",[],{},{"kind":"Pod"},'
    return body.replace(b'"items":[', b'"items":[' + bad, 1), 6


def _get(target: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"GET " + target + b" HTTP/1.1", b"Host: localhost", *headers, b"", b""])


def _post(target: bytes, *headers: bytes, body: bytes = b"{}") -> bytes:
    lines = [
        b"POST " + target + b" HTTP/1.1",
        b"Host: localhost",
        *(headers or (b"Content-Length: 2",)),
    ]
    return b"\r\n".join([*lines, b"", body])


_CHUNKED = b"Transfer-Encoding: chunked"
TRICKS = (
    _get(b"/../../etc/passwd"),
    _get(b"/%2e%2e/%2e%2e/etc/passwd"),
    _get(b"/audit/..%2f..%2fbarrelman.db"),
    _post(b"/audit/%00"),
    _post(b"/audit/..%2F..%2Fx"),
    _post(b"/audit/%ff%fe"),
    _post(b"/audit/a%0ab"),
    _post(b"/audit//"),
    _post(b"/audit/" + b"a" * 5000),
    _post(b"/audit/a;drop%20table"),
    _post(b"/audit/x?timeout=%ZZ&&&=&a=%00"),
    _get(b"http://elsewhere.example/healthz"),
    b"GET /healthz HTTP/0.9\r\n\r\n",
    b"GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n",
    _get(b"/api/v1/events?query=" + b"(" * 3000),
    _get(b"/api/v1/events?query=" + b"a:b%20or%20" * 3000 + b"a:b"),
    _get(b"/api/v1/events?query=" + b"not%20" * 5000 + b"a:b"),
    _get(b"/api/v1/events?query=*&limit=99999999999999999999"),
    _get(b"/api/v1/events?query=*&limit=-1"),
    _get(b"/api/v1/events?query=*&since=never&after=%00"),
    _get(b"/api/v1/events?query=%ff"),
    b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"BREW /audit/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"CONNECT x:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    _post(b"/audit/x", b"Content-Length: -5"),
    _post(b"/audit/x", b"Content-Length: 2", b"Content-Length: 9"),
    _post(b"/audit/x", b"Content-Length: 2", _CHUNKED, body=b"0\r\n\r\n"),
    _post(b"/audit/x", _CHUNKED, body=b"ZZZ\r\n"),
    _post(b"/audit/x", _CHUNKED, body=b"ffffffffffffffff\r\n{}"),
    _post(b"/audit/x", b"Content-Length: 99999999999999999999999"),
    _post(b"/audit/x", b"Content-Encoding: br", b"Content-Length: 2"),
    _post(b"/audit/x", b"Content-Encoding: gzip, gzip, gzip", b"Content-Length: 2"),
    _post(b"/audit/x", b"Content-Type: ;;;=,", b"Content-Length: 2"),
    _get(b"/api/v1/runs", b"Authorization: ApiKey " + b"=" * 10_000),
    _get(b"/api/v1/runs", b"Authorization: Basic \xff\xfe"),
    _get(b"/", *[b"X-A: b"] * 20_000),
    _get(b"/", b"X-A: " + b"b" * MIB),
    _get(b"/" + b"a" * MIB),
    _get(b"/", b"A b: c", b"\0: d"),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\r\n" * 10_000,
    bytes(range(256)) * 100,
    _get(b"/healthz") * 1000,
)
"""Whole requests as they go over the wire."""


def answered_statuses(text: bytes) -> Iterator[int]:
    """The status of every answer in what a connection brought."""
    for piece in text.split(b"HTTP/1.")[1:]:
        if piece[2:5].isdigit():
            yield int(piece[2:5])
