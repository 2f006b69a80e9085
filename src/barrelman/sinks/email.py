"""Alerts by e-mail: plain text and HTML, over SMTP with or without TLS."""

from __future__ import annotations

import html
import smtplib
import ssl
from collections.abc import Callable, Sequence
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from barrelman.errors import SinkError
from barrelman.records.times import EPOCH
from barrelman.sinks.flood import Flood, flood_lines
from barrelman.sinks.message import Message, test_message
from barrelman.sinks.options import SinkSettings
from barrelman.sinks.templates import template_for
from barrelman.sinks.tls import tls_context
from barrelman.sinks.wording import one_line

_SENDER: Final = "barrelman@localhost"
# Folded at 78 characters, a subject begins on a second line, and some readers show the fold. What
# is not ASCII has to be folded.
_WHOLE: Final = SMTP.clone(max_line_length=900)
_FOLDED: Final = SMTP.clone(max_line_length=76)
_MOST_SUBJECT: Final = 200
_MOST_NOTE: Final = 8000
_COLORS: Final = {"low": "#3b82c4", "medium": "#b88a00", "high": "#d05a10", "critical": "#c4201d"}


class EmailSink:
    """One mail an alert, to all recipients. Mails about one rule in one cluster make a thread."""

    batch = 1

    def __init__(self, settings: SinkSettings, *, clock: Callable[[], int]) -> None:
        self.name = settings.name
        self.kind = settings.kind
        self.digest_above = settings.digest_above
        self.digest_seconds = settings.digest_seconds
        self.give_up_seconds = settings.give_up_seconds
        self.notice = ""
        self._settings = settings
        self._shown = settings.shown
        self._sender = settings.sender or _SENDER
        self._clock = clock
        self._template = template_for(self.kind, settings.template) if settings.template else None

    def deliver(self, messages: Sequence[Message]) -> None:
        self._send([self._mail(message) for message in messages])

    def digest(self, flood: Flood) -> None:
        subject = f"[{flood.severity}] {flood.title}"
        lines = flood_lines(flood)
        mail = self._bare(subject, flood.key, flood.until_us)
        mail.set_content("\n".join(lines))
        mail.add_alternative(_page(subject, _paragraphs(lines), flood.severity), subtype="html")
        self._send([mail])

    def test(self, now_us: int) -> str:
        self._send([self._mail(test_message(self.name, now_us))])
        told = f"sent a mail to {', '.join(self._settings.recipients)} through {self._shown}"
        return f"{told}; {self.notice}" if self.notice else told

    def close(self) -> None:
        """Nothing: a connection is kept for one delivery."""

    def _mail(self, message: Message) -> EmailMessage:
        subject = f"[{message.severity}] {message.title}"
        mail = self._bare(subject, message.alert_id, message.created_us)
        mail["X-Barrelman-Alert"] = message.alert_id
        thread = f"{message.rule_id} {message.cluster}".encode().hex()[:120]
        mail["References"] = f"<rule-{thread}@{self._domain}>"
        if self._template is not None:
            mail.set_content(self._template.fill(message))
            return mail
        rows = _rows(message)
        mail.set_content(_plain(message, rows))
        mail.add_alternative(
            _page(message.title, _html(message, rows), message.severity), subtype="html"
        )
        return mail

    def _bare(self, subject: str, key: str, at_us: int) -> EmailMessage:
        mail = EmailMessage(policy=_WHOLE if subject.isascii() else _FOLDED)
        mail["From"] = self._sender
        mail["To"] = ", ".join(self._settings.recipients)
        mail["Subject"] = one_line(subject, _MOST_SUBJECT)
        mail["Date"] = format_datetime(EPOCH + timedelta(microseconds=at_us))
        mail["Message-ID"] = f"<{_word(key)}@{self._domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        return mail

    @property
    def _domain(self) -> str:
        return self._sender.rpartition("@")[2]

    def _send(self, mails: Sequence[EmailMessage]) -> None:
        self.notice = ""
        refused: set[str] = set()
        try:
            with self._connect() as server:
                for mail in mails:
                    refused |= server.send_message(
                        mail, self._sender, list(self._settings.recipients)
                    ).keys()
        except smtplib.SMTPException as error:
            raise _told(error, self._shown) from None
        except OSError as error:
            told = error.strerror or str(error) or type(error).__name__
            raise SinkError(f"{self._shown} cannot be reached: {one_line(told)}") from None
        if refused:
            self.notice = f"the server refused {', '.join(sorted(refused))}"

    def _connect(self) -> smtplib.SMTP:
        settings, parts = self._settings, urlsplit(self._settings.url)
        host, port = parts.hostname or "", parts.port or 0
        # Its own idea of this machine's name may cost a look-up that takes seconds.
        local = settings.hostname if settings.hostname != "-" else "localhost"
        if parts.scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                host, port, local, timeout=settings.timeout_seconds, context=self._tls()
            )
        else:
            server = smtplib.SMTP(host, port, local, timeout=settings.timeout_seconds)
        try:
            server.ehlo()
            if parts.scheme == "smtp":
                self._secure(server)
            if settings.username:
                server.login(settings.username, settings.password)
        except BaseException:
            server.close()
            raise
        return server

    def _secure(self, server: smtplib.SMTP) -> None:
        wanted = self._settings.starttls
        if wanted != "never" and server.has_extn("starttls"):
            server.starttls(context=self._tls())
            server.ehlo()
        elif wanted == "always" or (wanted == "auto" and self._settings.username):
            raise SinkError(
                f"{self._shown} offers no TLS, and a password is not sent without",
                hint="use smtps://, or say starttls=never where the network is trusted",
            )

    def _tls(self) -> ssl.SSLContext:
        return tls_context(self._settings.ca_file)


def _told(error: smtplib.SMTPException, shown: str) -> SinkError:
    """Of what a server answers, only the refusal of a mail itself is for ever.

    That it does not know us, the sender or the recipients, is set up wrongly and can be mended.
    """
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, text = next(iter(error.recipients.values()), (0, b""))
        return SinkError(f"{shown} refuses all recipients: {code} {_answer(text)}")
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return SinkError(f"{shown} does not take the user name and password ({error.smtp_code})")
    if isinstance(error, smtplib.SMTPResponseException):
        is_final = isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= 500
        said = f"{error.smtp_code} {_answer(error.smtp_error)}"
        return SinkError(f"{shown} answered {said}", is_final=is_final)
    return SinkError(f"{shown} cannot be talked to: {one_line(str(error), 200)}")


def _answer(text: bytes | str) -> str:
    said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return one_line(" ".join(said.split()), 200)


def _word(text: str) -> str:
    """What may stand in a Message-ID; all ids of ours do as they are."""
    return "".join(
        char if char.isascii() and (char.isalnum() or char in "-._") else "_" for char in text
    )


class _Row(NamedTuple):
    name: str
    value: str


def _rows(message: Message) -> list[_Row]:
    rows = [
        _Row("Who", message.who),
        _Row("Did", message.what),
        _Row("Cluster", message.cluster),
        _Row("From", message.source),
        _Row("Rule", message.rule_name),
        _Row("Severity", f"{message.severity} (risk {message.risk_score:g})"),
        _Row("ATT&CK", ", ".join(message.techniques)),
        _Row("Raised", message.created),
        _Row("Alert", message.alert_id),
    ]
    return [row for row in rows if row.value]


def _plain(message: Message, rows: Sequence[_Row]) -> str:
    lines = [f"{message.sentence}", ""]
    if message.why:
        lines += [message.why, ""]
    lines += [f"{row.name + ':':<10} {row.value}" for row in rows]
    if message.link:
        lines += ["", f"Open the alert: {message.link}"]
    if message.references:
        lines += ["", "References:", *(f"- {url}" for url in message.references)]
    if message.note:
        lines += ["", message.note[:_MOST_NOTE]]
    return "\n".join(lines)


def _html(message: Message, rows: Sequence[_Row]) -> str:
    parts = [f"<p><b>{html.escape(message.sentence)}</b></p>"]
    if message.why:
        parts.append(f"<p>{html.escape(message.why)}</p>")
    cells = "".join(
        f'<tr><td style="padding-right:1em;color:#666">{html.escape(row.name)}</td>'
        f"<td>{html.escape(row.value)}</td></tr>"
        for row in rows
    )
    parts.append(f"<table>{cells}</table>")
    if message.link:
        parts.append(f'<p><a href="{html.escape(message.link)}">Open the alert</a></p>')
    if message.references:
        items = "".join(
            f'<li><a href="{html.escape(url)}">{html.escape(url)}</a></li>'
            for url in message.references
        )
        parts.append(f"<ul>{items}</ul>")
    if message.note:
        parts.append(
            f'<pre style="white-space:pre-wrap">{html.escape(message.note[:_MOST_NOTE])}</pre>'
        )
    return "\n".join(parts)


def _paragraphs(lines: Sequence[str]) -> str:
    return "\n".join(f"<div>{html.escape(line) or '&nbsp;'}</div>" for line in lines)


def _page(title: str, body: str, severity: str) -> str:
    return (
        '<!doctype html><html><head><meta charset="utf-8"></head>'
        '<body style="font-family:sans-serif">'
        f'<h3 style="border-left:6px solid {_COLORS[severity]};padding-left:.5em">'
        f"{html.escape(title)}</h3>\n{body}</body></html>\n"
    )
