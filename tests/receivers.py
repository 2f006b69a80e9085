"""Receivers of alerts on loopback: HTTP, SMTP and syslog, as much of each as a test needs."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Request(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Web:
    """Answers as `answer` says (status, headers, body), and remembers what was posted."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[Request], tuple[int, dict[str, str], bytes]] = lambda _: (
            200,
            {},
            b"ok",
        )
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def web() -> Iterator[Web]:
    made = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.path, headers, body)
            made.requests.append(request)
            status, answered, said = made.answer(request)
            self.send_response(status)
            for name, value in answered.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            with suppress(ConnectionError):  # not everyone reads to the end
                self.wfile.write(said)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    with _serving(server):
        yield made


class Mail(NamedTuple):
    sender: str
    recipients: list[str]
    data: bytes


class Post:
    """A mail server; `refuse` maps a command's beginning to the answer it gets instead."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.refuse: dict[str, str] = {}
        self.offers: list[str] = []
        self.said: list[str] = []
        self.port = 0


@contextmanager
def post_office() -> Iterator[Post]:
    made = Post()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 here")
            sender, recipients = "", list[str]()
            while line := self.rfile.readline().decode().rstrip("\r\n"):
                made.said.append(line)
                refused = [a for start, a in made.refuse.items() if line.upper().startswith(start)]
                word = line.partition(" ")[0].upper()
                if refused:
                    self._say(refused[0])
                elif word == "EHLO":
                    lines = ["here", *made.offers]
                    for number, each in enumerate(lines, 1):
                        self._say(f"250{' ' if number == len(lines) else '-'}{each}")
                elif word == "DATA":
                    self._say("354 go on")
                    data = self._data()
                    if "ACCEPT" in made.refuse:
                        self._say(made.refuse["ACCEPT"])
                    else:
                        made.mails.append(Mail(sender, recipients, data))
                        self._say("250 taken")
                    recipients = []
                elif word == "QUIT":
                    self._say("221 bye")
                    return
                else:
                    if word == "MAIL":
                        sender = line.partition("<")[2].partition(">")[0]
                    elif word == "RCPT":
                        recipients = [*recipients, line.partition("<")[2].partition(">")[0]]
                    self._say("235 fine" if word == "AUTH" else "250 fine")

        def _data(self) -> bytes:
            lines = []
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
            return b"".join(lines)

        def _say(self, text: str) -> None:
            self.wfile.write(text.encode() + b"\r\n")

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    with _serving(server):
        yield made


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
