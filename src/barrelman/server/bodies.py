"""A request's body, read to its end within bounds of size, memory and time.

The bound on size is on what a body unpacks to, and is met while it is unpacked, by the step. Room
is asked for as bytes come: a body that announces much and sends little holds little.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, Protocol

from anyio import to_thread
from starlette.requests import ClientDisconnect, Request

from barrelman.records.frozen import frozen
from barrelman.server.problems import RefusedError

MIB: Final = 1024 * 1024
# What is unpacked before others have a turn: about a millisecond's work.
_STEP_BYTES: Final = 256 * 1024
# Of empty gzip members a body could hold millions.
_MOST_MEMBERS: Final = 10_000
# Parsing less than that takes less than going to a thread and back is worth.
_INLINE_BYTES: Final = 64 * 1024
_CLOSE: Final = {"connection": "close"}


class Holder(Protocol):
    """Who knows how many bytes of bodies are held (`Intake`)."""

    def reserve(self, size: int) -> bool: ...
    def release(self, size: int) -> None: ...


@frozen
class Pace:
    """How slow a body may come: `idle_seconds` without a byte, and in all `seconds` and as long as
    its bytes take at `least_rate`."""

    seconds: float = 60.0
    idle_seconds: float = 15.0
    least_rate: float = 64 * 1024.0


class Body:
    """A body being read, and the room that it holds."""

    def __init__(self, holder: Holder, *, most_bytes: int) -> None:
        self._holder = holder
        self._most_bytes = most_bytes
        self._held = 0
        # Of a BytesIO the whole is had without copying it.
        self._read = io.BytesIO()
        self.data = b""

    def add(self, data: bytes) -> None:
        if self._held + len(data) > self._most_bytes:
            raise too_large(self._most_bytes)
        if not self._holder.reserve(len(data)):
            raise RefusedError(
                "too many bodies are being taken in",
                status=503,
                code="overloaded",
                retry_after_seconds=1,
                headers=_CLOSE,
            )
        self._held += len(data)
        self._read.write(data)

    def end(self) -> None:
        self.data = self._read.getvalue()
        self._read = io.BytesIO()

    def release(self) -> None:
        """Gives the room back: who holds the bytes from here on counts them."""
        if self._held:
            self._holder.release(self._held)
        self._held = 0


@asynccontextmanager
async def body_of(
    request: Request, *, holder: Holder, most_bytes: int, pace: Pace
) -> AsyncIterator[Body]:
    """Raises RefusedError: 400, 408, 413, 415 and 503; ClientDisconnect where nobody waits."""
    unpack = _unpacker(request.headers.get("content-encoding", ""))
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > most_bytes:
        raise too_large(most_bytes)
    body = Body(holder, most_bytes=most_bytes)
    try:
        raw_bytes = 0
        async for chunk in _chunks(request, pace):
            raw_bytes += len(chunk)
            if raw_bytes > most_bytes:
                raise too_large(most_bytes)
            if unpack is None:
                body.add(chunk)
                continue
            for piece in unpack.feed(chunk):
                body.add(piece)
                await asyncio.sleep(0)
        if unpack is not None:
            unpack.check_end()
        body.end()
        yield body
    finally:
        body.release()


async def json_of(
    request: Request, *, holder: Holder, most_bytes: int, pace: Pace
) -> dict[str, Any]:
    """A body that must be a JSON object; an empty one is an empty object."""
    async with body_of(request, holder=holder, most_bytes=most_bytes, pace=pace) as body:
        if not body.data.strip():
            return {}
        if len(body.data) > _INLINE_BYTES:
            value = await to_thread.run_sync(partial(_parse, body.data))
        else:
            value = _parse(body.data)
    if not isinstance(value, dict):
        raise RefusedError("the body is no JSON object")
    return value


def too_large(most_bytes: int) -> RefusedError:
    return RefusedError(f"the body is larger than {most_bytes} bytes", status=413, headers=_CLOSE)


async def _chunks(request: Request, pace: Pace) -> AsyncIterator[bytes]:
    started, came = time.monotonic(), 0
    while True:
        allowed = pace.seconds + came / pace.least_rate
        left = min(pace.idle_seconds, started + allowed - time.monotonic())
        try:
            async with asyncio.timeout(max(0.0, left)):
                message = await request.receive()
        except TimeoutError:
            raise RefusedError("the body comes too slowly", status=408, headers=_CLOSE) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        if chunk:
            came += len(chunk)
            yield chunk
        if not message.get("more_body", False):
            return


class _Unpack:
    """gzip, or what HTTP calls deflate: zlib's form, and from some clients the bare stream."""

    def __init__(self, first: Callable[[bytes], zlib._Decompress]) -> None:
        self._first = first
        self._stream: zlib._Decompress | None = None
        self._members = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data or self._stream is not None:
            if self._stream is None:
                self._stream = self._begin(data)
            try:
                piece = self._stream.decompress(data, _STEP_BYTES)
            except zlib.error as error:
                raise _broken(f"cannot be unpacked: {error}") from None
            data = self._stream.unconsumed_tail
            if self._stream.eof:
                data, self._stream = self._stream.unused_data, None
            elif not data and len(piece) < _STEP_BYTES:
                yield piece
                return  # a full step may have left some inside, a shorter one has not
            yield piece

    def _begin(self, data: bytes) -> zlib._Decompress:
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise _broken("has too many parts")
        return self._first(data)

    def check_end(self) -> None:
        if self._stream is not None:
            raise _broken("ends early")


def _unpacker(encoding: str) -> _Unpack | None:
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return _Unpack(lambda _: zlib.decompressobj(wbits=31))
        case "deflate":
            return _Unpack(lambda data: zlib.decompressobj(wbits=15 if _is_zlib(data) else -15))
    raise RefusedError(
        f"a body in the encoding {encoding[:50]!r} is not read",
        status=415,
        hint="gzip, deflate, or none",
        headers={"accept-encoding": "gzip, deflate", **_CLOSE},
    )


def _is_zlib(data: bytes) -> bool:
    return data[0] & 0x0F == 8 and (len(data) < 2 or int.from_bytes(data[:2], "big") % 31 == 0)


def _broken(what: str) -> RefusedError:
    return RefusedError(f"the body {what}", code="broken_encoding", headers=_CLOSE)


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"the body is not JSON: {error}", code="invalid_json") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
