"""Alerts by mail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from alertdocs import AT_US, RULE, alert_id, message, watchdog_document
from receivers import Mail, Post, post_office

from barrelman.errors import SinkError
from barrelman.sinks.address import parse_sink_flag
from barrelman.sinks.flood import RuleCount, flood_of
from barrelman.sinks.message import message_of
from barrelman.sinks.opening import open_sink
from barrelman.sinks.sink import Sink

PUBLIC = "https://barrelman.example"
TO = "to=oncall@example.com&to=boss@example.com&from=lookout@example.com"


@pytest.fixture
def post() -> Iterator[Post]:
    with post_office() as made:
        yield made


@pytest.fixture
def made(post: Post) -> Callable[..., Sink]:
    def make(user: str = "", options: str = TO) -> Sink:
        flag = f"smtp://{user}127.0.0.1:{post.port}/?{options}"
        return open_sink(parse_sink_flag(flag), clock=lambda: AT_US)

    return make


def read(mail: Mail) -> EmailMessage:
    found = message_from_bytes(mail.data, policy=default)
    assert isinstance(found, EmailMessage)
    return found


def body(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def test_a_mail_an_alert_in_text_and_html(post: Post, made: Callable[..., Sink]) -> None:
    made().deliver([message(1, public_url=PUBLIC, severity="high")])
    [sent] = post.mails
    assert sent.sender == "lookout@example.com"
    assert sent.recipients == ["oncall@example.com", "boss@example.com"]
    mail = read(sent)
    assert mail["Subject"] == f"[high] {RULE}: eve created pods shop/p1 (prod)"
    assert mail["Message-ID"] == f"<{alert_id(1)}@example.com>"
    assert mail["X-Barrelman-Alert"] == alert_id(1)
    assert mail["Date"] == "Mon, 23 Nov 2026 12:01:00 +0000"
    assert mail["Auto-Submitted"] == "auto-generated"
    for kind in ("plain", "html"):
        text = body(mail, kind)
        for part in (
            message(1).sentence,
            "A pod shares its node&#x27;s IPC" if kind == "html" else "A pod shares its node's IPC",
            "T1611 Escape to Host",
            f"{PUBLIC}/alerts/{alert_id(1)}",
            "https://attack.example/T1611",
            "Ask who deployed it.",
        ):
            assert part in text


def test_a_watchdogs_mail_reads_well(post: Post, made: Callable[..., Sink]) -> None:
    made().deliver([message_of(watchdog_document(), public_url=None)])
    mail = read(post.mails[0])
    assert mail["Subject"] == (
        "[high] Cluster gone silent: prod has sent no events for 15 minutes."
    )
    assert body(mail, "plain").startswith("prod has sent no events for 15 minutes.\n")
    assert "Who" not in body(mail, "plain")


@pytest.mark.parametrize(
    "evil", ["x\r\nBcc: all@example.com", "x\nBcc: y", "x\r\n.\r\nMAIL FROM:<z>"]
)
def test_nothing_of_an_event_becomes_a_header(
    post: Post, made: Callable[..., Sink], evil: str
) -> None:
    audit = {"verb": "create", "user": {"username": evil}, "objectRef": {"resource": "pods"}}
    told = message(1, audit=audit, rule__name=evil, rule__rule_id=evil, uuid=evil, rule__note=evil)
    made().deliver([told])
    [sent] = post.mails
    assert sent.recipients == ["oncall@example.com", "boss@example.com"]
    mail = read(sent)
    assert mail["Bcc"] is None
    assert "Bcc" in mail["Subject"] or "MAIL" in mail["Subject"]
    assert len(post.mails) == 1


def test_in_html_nothing_of_an_event_is_markup(post: Post, made: Callable[..., Sink]) -> None:
    evil = "<script>x</script>"
    audit = {"verb": "create", "user": {"username": evil}, "objectRef": {"resource": evil}}
    made().deliver([message(1, audit=audit, rule__name=evil, rule__note=evil)])
    assert "<script" not in body(read(post.mails[0]), "html")


def test_subjects_of_any_language_are_read_back(post: Post, made: Callable[..., Sink]) -> None:
    for name in ("Köder ☠ " * 20, "x" * 120, "a " * 60):
        made().deliver([message(1, rule__name=name)])
        sent = post.mails[-1].data
        assert read(post.mails[-1])["Subject"].startswith(f"[medium] {name[:100].strip()}")
        head = sent.partition(b"\r\n\r\n")[0]
        assert max(map(len, head.split(b"\r\n"))) < 998


def test_a_template_makes_the_text(post: Post) -> None:
    flag = f"smtp://127.0.0.1:{post.port}/?{TO}#template=Dear all,%0a${{who}}: ${{link}}!"
    open_sink(parse_sink_flag(flag), clock=lambda: AT_US).deliver([message(1, public_url=PUBLIC)])
    mail = read(post.mails[0])
    assert mail.get_content_type() == "text/plain"
    assert body(mail, "plain") == f"Dear all,\neve: {PUBLIC}/alerts/{alert_id(1)}!\n"


def test_a_digest(post: Post, made: Callable[..., Sink]) -> None:
    flood = flood_of(
        [message(1)],
        total=30,
        counts=[RuleCount("<b>", "low", 30)],
        since_us=AT_US,
        until_us=AT_US,
        public_url=PUBLIC,
    )
    made().digest(flood)
    mail = read(post.mails[0])
    assert mail["Subject"] == "[low] 30 alerts of <b>"
    assert "30 × <b> (low)" in body(mail, "plain")
    assert "<b>" not in body(mail, "html")


def test_a_password_is_sent_over_tls_alone(post: Post, made: Callable[..., Sink]) -> None:
    post.offers = ["AUTH PLAIN"]
    with pytest.raises(SinkError, match="offers no TLS") as raised:
        made("u:S3CRET@").deliver([message(1)])
    assert not raised.value.is_final
    assert not any("AUTH" in line for line in post.said)
    made("u:S3CRET@", f"{TO}&starttls=never").deliver([message(1)])
    assert len(post.mails) == 1
    with pytest.raises(SinkError, match="offers no TLS"):
        made(options=f"{TO}&starttls=always").deliver([message(1)])


@pytest.mark.parametrize(
    ("refuse", "is_final"),
    [
        ({"ACCEPT": "554 looks like spam"}, True),
        ({"ACCEPT": "451 later"}, False),
        ({"MAIL": "550 not you"}, False),
        ({"RCPT": "550 nobody here"}, False),
        ({"RCPT": "450 greylisted"}, False),
        ({"EHLO": "421 busy", "HELO": "421 busy"}, False),
        ({"AUTH": "535 S3CRET is wrong"}, False),
    ],
)
def test_only_the_refusal_of_a_mail_is_final(
    post: Post, made: Callable[..., Sink], refuse: dict[str, str], is_final: bool
) -> None:
    post.offers = ["AUTH PLAIN"]
    post.refuse = refuse
    with pytest.raises(SinkError) as raised:
        made("u:S3CRET@", f"{TO}&starttls=never").deliver([message(1)])
    assert raised.value.is_final is is_final
    assert "S3CRET" not in str(raised.value)


def test_a_recipient_who_is_refused_is_told_of(post: Post, made: Callable[..., Sink]) -> None:
    post.refuse = {"RCPT TO:<BOSS": "550 left the company"}
    sink = made()
    sink.deliver([message(1)])
    assert post.mails[0].recipients == ["oncall@example.com"]
    assert sink.notice == "the server refused boss@example.com"
    assert "refused boss@example.com" in sink.test(AT_US)


def test_a_server_that_is_not_there_may_come_back(made: Callable[..., Any], post: Post) -> None:
    flag = f"smtp://127.0.0.1:1/?{TO}#timeout_seconds=1"
    with pytest.raises(SinkError, match="cannot be reached") as raised:
        open_sink(parse_sink_flag(flag), clock=lambda: AT_US).deliver([message(1)])
    assert not raised.value.is_final
