"""The listener, over real sockets: what it serves, and what it does not hold for ever."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from certificates import Authority
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from barrelman.errors import UsageError
from barrelman.server.listen import Listener, Listening, Tls
from barrelman.server.peers import peer_of

HEAD = b"Host: localhost\r\n"


async def hello(request: Request) -> Response:
    return PlainTextResponse(f"hello {peer_of(request.scope)}")


async def slow(request: Request) -> Response:
    await anyio.sleep(0.5)
    return PlainTextResponse("at last")


async def size(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def much(request: Request) -> Response:
    return PlainTextResponse("x" * 20_000_000)


APP = Starlette(
    routes=[
        Route("/", hello),
        Route("/slow", slow),
        Route("/size", size, methods=["POST"]),
        Route("/much", much),
    ]
)


@contextlib.contextmanager
def listening(**options: Any) -> Iterator[Listener]:
    listener = Listener(APP, options=Listening(**options))
    listener.bind()
    thread = threading.Thread(target=listener.run)
    thread.start()
    try:
        yield listener
    finally:
        listener.stop()
        thread.join(10)
        assert not thread.is_alive()


def connect(listener: Listener) -> socket.socket:
    return socket.create_connection(listener.address, timeout=10)


def ask(listener: Listener, request: bytes) -> bytes:
    with connect(listener) as client:
        client.sendall(request)
        return read_all(client)


def read_all(client: socket.socket) -> bytes:
    """Until the other side closes, or cuts."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


def get(path: bytes = b"/") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n\r\n"


def is_served(listener: Listener) -> bool:
    answer = ask(listener, get())
    return answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"hello None")


def test_it_tells_where_it_listens_and_stops_when_told() -> None:
    told: list[tuple[str, int]] = []
    listener = Listener(APP, options=Listening(), on_bound=lambda *address: told.append(address))
    listener.bind()
    thread = threading.Thread(target=listener.run)
    thread.start()
    assert is_served(listener)
    assert told == [listener.address]
    assert listener.address[0] == "127.0.0.1"
    assert listener.address[1] > 0
    listener.stop()
    thread.join(10)
    assert not thread.is_alive()
    with pytest.raises(OSError, match=r"refused|reset"):
        connect(listener)


def test_an_address_that_is_taken_is_said_so() -> None:
    with listening() as listener:
        second = Listener(APP, options=Listening(port=listener.address[1]))
        with pytest.raises(
            UsageError, match=rf"cannot listen on 127\.0\.0\.1:{listener.address[1]}"
        ):
            second.bind()
    with pytest.raises(UsageError, match=r"cannot listen on 192\.0\.2\.1:0"):
        Listener(APP, options=Listening(host="192.0.2.1")).bind()


def test_a_stop_lets_what_was_asked_be_answered() -> None:
    with listening() as listener, connect(listener) as client, connect(listener) as idle:
        client.sendall(get(b"/slow"))
        idle.sendall(b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n")
        assert b"hello" in idle.recv(65536)
        time.sleep(0.1)
        listener.stop()
        assert read_all(client).endswith(b"at last")
        assert read_all(idle) == b""


def test_a_signal_in_the_main_thread_stops_it() -> None:
    before = signal.getsignal(signal.SIGTERM)
    listener = Listener(
        APP,
        options=Listening(),
        on_bound=lambda *_: threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start(),
    )
    listener.run()
    assert listener.stopped_by == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_neither_server_nor_version_is_told() -> None:
    with listening() as listener:
        head = ask(listener, get()).partition(b"\r\n\r\n")[0].lower()
    assert b"date:" in head
    assert b"server:" not in head
    assert b"uvicorn" not in head


def test_who_is_slow_with_a_head_is_cut_off() -> None:
    with listening(header_seconds=0.3) as listener:
        silent, begun, dripping = connect(listener), connect(listener), connect(listener)
        begun.sendall(b"GET / HT")
        with silent, begun, dripping:
            started = time.monotonic()
            with contextlib.suppress(ConnectionError):
                for byte in get() * 10:
                    dripping.sendall(bytes([byte]))
                    time.sleep(0.05)
                    if time.monotonic() - started > 5:
                        break
            assert time.monotonic() - started < 4
            assert read_all(silent) == b""
            assert read_all(begun) == b""
        assert is_served(listener)


def test_an_idle_connection_is_closed_in_time() -> None:
    with listening(idle_seconds=0.3) as listener, connect(listener) as client:
        client.sendall(b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n")
        started = time.monotonic()
        assert b"hello" in read_all(client)
        assert time.monotonic() - started < 4


def test_a_connection_is_used_again() -> None:
    with listening() as listener, connect(listener) as client:
        for _ in range(3):
            client.sendall(b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n")
            answer = b""
            while not answer.endswith(b"hello None"):
                answer += client.recv(65536)


ENDLESS = {
    "a name": (b"GET / HTTP/1.1\r\n", b"x" * 1000),
    "a value": (b"GET / HTTP/1.1\r\nX: ", b"x" * 1000),
    "headers": (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 100),
    "a path": (b"GET /", b"x" * 1000),
    "trailers": (
        b"POST /size HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n",
        b"a: b\r\n" * 100,
    ),
    "a trailer": (
        b"POST /size HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\na: ",
        b"x" * 1000,
    ),
    "an extension": (
        b"POST /size HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;",
        b"x" * 1000,
    ),
    "requests": (b"", (b"GET /slow HTTP/1.1\r\n" + HEAD + b"\r\n") * 20),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_end_is_cut_off(name: str) -> None:
    first, more = ENDLESS[name]
    with listening(header_bytes=16_384) as listener, connect(listener) as client:
        sent = 0
        with contextlib.suppress(ConnectionError):
            client.sendall(first)
            while sent < 30_000_000:
                client.sendall(more)
                sent += len(more)
        assert sent < 30_000_000
        assert is_served(listener)


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (b"this is nothing\r\n\r\n", b"400", "bad_request"),
        (b"GET / HTTP/9.9\r\n\r\n", b"400", "bad_request"),
        (get(b"/" + b"x" * 20_000), b"431", "too_large"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000 + b"\r\n", b"431", "too_large"),
    ],
)
def test_what_is_no_request_is_told_so_as_any_error(
    request_: bytes, status: bytes, code: str
) -> None:
    with listening(header_bytes=16_384) as listener:
        head, _, body = ask(listener, request_).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %s " % status)
        assert b"content-type: application/json" in head
        assert b"content-length: %d\r\n" % len(body) in head
        told = json.loads(body)["error"]
        assert told["code"] == code
        assert told["request_id"].encode() in head
        kibana = ask(listener, get(b"/api/status?" + b"x" * 20_000)).partition(b"\r\n\r\n")[2]
        assert json.loads(kibana)["statusCode"] == 431
        until(lambda: listener.connections == 0)


def test_a_head_within_bounds_is_served() -> None:
    with listening(header_bytes=16_384) as listener:
        long = b"".join(b"X-%d: %s\r\n" % (n, b"x" * 100) for n in range(80))
        answer = ask(listener, b"GET / HTTP/1.1\r\n" + HEAD + long + b"Connection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_body_comes_whole_in_one_piece_or_in_chunks() -> None:
    with listening() as listener:
        head = b"POST /size HTTP/1.1\r\n" + HEAD + b"Connection: close\r\n"
        whole = head + b"Content-Length: 300000\r\n\r\n" + b"x" * 300_000
        assert ask(listener, whole).endswith(b"300000")
        chunks = b"186a0\r\n" + b"x" * 100_000 + b"\r\n"
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks * 3 + b"0\r\n\r\n"
        assert ask(listener, chunked).endswith(b"300000")
        many = b"1\r\nx\r\n" * 100_000
        assert ask(
            listener, head + b"Transfer-Encoding: chunked\r\n\r\n" + many + b"0\r\n\r\n"
        ).endswith(b"100000")


def test_who_sends_on_after_the_answer_is_let_go() -> None:
    with listening() as listener, connect(listener) as client:
        client.sendall(b"POST /nowhere HTTP/1.1\r\n" + HEAD + b"Content-Length: 99999999\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 404 ")
        started = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - started < 8:
                client.sendall(b"x" * 1000)
                time.sleep(0.01)
        assert time.monotonic() - started < 6


def test_who_does_not_read_is_let_go() -> None:
    with listening(stalled_seconds=0.3) as listener, connect(listener) as client:
        client.sendall(get(b"/much"))
        until(lambda: listener.connections == 1)
        until(lambda: listener.connections == 0)
        assert is_served(listener)


def test_idle_connections_make_room_for_new_ones() -> None:
    with listening(max_connections=20) as listener:
        idle = [connect(listener) for _ in range(100)]
        for each in idle:
            with contextlib.suppress(ConnectionError):
                each.sendall(b"GET / HTTP/1.1\r\nX-")
        for _ in range(10):
            assert is_served(listener)
        assert listener.connections <= 21
        assert listener.turned_away >= 80
        for each in idle:
            each.close()


def test_requests_in_work_are_not_closed_for_new_ones() -> None:
    with listening(max_connections=16) as listener:
        busy = [connect(listener) for _ in range(16)]
        for each in busy:
            each.sendall(get(b"/slow"))
        time.sleep(0.2)
        assert is_served(listener)  # once one of them is done
        assert all(read_all(each).endswith(b"at last") for each in busy)
        for each in busy:
            each.close()


def test_garbage_is_answered_or_cut_off_and_hurts_nobody() -> None:
    chance = random.Random(4)
    pieces = [b"GET", b" ", b"/", b"HTTP/1.1", b"\r\n", b":", b"\0", b"\xff", b"0", b"x" * 999]
    pieces += [b"Content-Length: -1", b"Transfer-Encoding: chunked", b"Upgrade: websocket", b"*"]
    pieces += [b"Connection: upgrade", b"CONNECT a:1 HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n"]
    with listening(header_seconds=0.5) as listener:
        clients = []
        for _ in range(60):
            client = connect(listener)
            clients.append(client)
            with contextlib.suppress(ConnectionError):
                client.sendall(b"".join(chance.choices(pieces, k=chance.randrange(1, 60))))
                client.shutdown(socket.SHUT_WR)
        assert is_served(listener)
        for client in clients:
            answer = read_all(client)
            assert not answer or answer.startswith(b"HTTP/1.1 ")
            client.close()
        until(lambda: listener.connections == 0)


# --- TLS ---


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def client_context(authority: Authority, *shown: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.path))
    if shown:
        context.load_cert_chain(*map(str, shown))
    return context


def ask_tls(listener: Listener, context: ssl.SSLContext, request: bytes = get()) -> bytes:
    with connect(listener) as plain, context.wrap_socket(plain, server_hostname="localhost") as it:
        it.sendall(request)
        parts = []
        while part := it.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_a_client_certificate_reaches_the_app(authority: Authority) -> None:
    tls = Tls(*authority.sign("localhost", file="server"), client_ca=authority.path)
    shown = authority.sign("prod-apiserver", file="client", also=("api.example",))
    twice = authority.sign("admin", "prod-apiserver", file="twice")
    with listening(tls=tls) as listener:
        answer = ask_tls(listener, client_context(authority, *shown))
        assert b"common_name='prod-apiserver'" in answer
        assert b"'DNS:api.example'" in answer
        assert b"common_name=''" in ask_tls(listener, client_context(authority, *twice))
        # Nobody must show one, and no header stands for one.
        forged = get()[:-2] + b"X-Client-Cert: prod-apiserver\r\nbarrelman.peer: x\r\n\r\n"
        answer = ask_tls(listener, client_context(authority), forged)
        assert answer.endswith(b"hello None")


def test_a_certificate_of_another_authority_is_refused(
    authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "stranger")
    tls = Tls(*authority.sign("localhost", file="server"), client_ca=authority.path)
    shown = stranger.sign("prod-apiserver", file="client")
    with listening(tls=tls) as listener:
        answer = b""
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            answer = ask_tls(listener, client_context(authority, *shown))
        assert answer == b""
        assert b"hello None" in ask_tls(listener, client_context(authority))


def test_handshakes_that_do_not_end_keep_nobody_out(authority: Authority) -> None:
    tls = Tls(*authority.sign("localhost", file="server"))
    with listening(tls=tls, max_connections=64) as listener:
        held = [connect(listener) for _ in range(520)]
        plain = connect(listener)
        plain.sendall(get())
        assert b"hello None" in ask_tls(listener, client_context(authority))
        assert b"200" not in read_all(plain)
        for each in (*held, plain):
            each.close()


def test_a_certificate_that_is_replaced_is_used(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.sign("localhost", file="server")
    later = Authority(tmp_path, "later")
    with listening(tls=Tls(certificate, key)) as listener:
        assert b"hello" in ask_tls(listener, client_context(authority))
        new_certificate, new_key = later.sign("localhost", file="new")
        certificate.write_bytes(b"half of a new one")
        time.sleep(1.2)  # it is looked at, found unfit, and the old one stays
        assert b"hello" in ask_tls(listener, client_context(authority))
        key.write_bytes(new_key.read_bytes())
        certificate.write_bytes(new_certificate.read_bytes())
        until(lambda: is_trusted(listener, later))
        with pytest.raises(ssl.SSLError):
            ask_tls(listener, client_context(authority))


def is_trusted(listener: Listener, authority: Authority) -> bool:
    try:
        return b"hello" in ask_tls(listener, client_context(authority))
    except ssl.SSLError:
        return False


def test_a_certificate_that_is_none_is_said_so_before_it_listens(
    authority: Authority, tmp_path: Path
) -> None:
    certificate, _ = authority.sign("localhost", file="server")
    _, other = authority.sign("localhost", file="other")
    with pytest.raises(UsageError, match=r"server\.crt' cannot be used"):
        Listener(APP, options=Listening(tls=Tls(certificate, other)))
    with pytest.raises(UsageError, match="cannot be used"):
        Listener(APP, options=Listening(tls=Tls(tmp_path / "none", other)))


def until(is_so: Any, *, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.02)
