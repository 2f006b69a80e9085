"""Sinks that post: webhooks, Slack, Alertmanager, PagerDuty."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from alertdocs import AT_US, RULE, alert_document, alert_id, message
from receivers import Web, web

from barrelman.errors import SinkError
from barrelman.sinks.address import parse_sink_flag
from barrelman.sinks.flood import Flood, RuleCount, flood_of
from barrelman.sinks.opening import open_sink
from barrelman.sinks.sink import Sink

PUBLIC = "https://barrelman.example"
Made = Callable[..., Sink]


@pytest.fixture
def receiver() -> Iterator[Web]:
    with web() as made:
        yield made


@pytest.fixture
def made(receiver: Web) -> Iterator[Made]:
    sinks: list[Sink] = []

    def make(prefix: str = "", path: str = "/hook", options: str = "") -> Sink:
        sink = open_sink(
            parse_sink_flag(f"{prefix}{receiver.url}{path}#{options}"), clock=lambda: AT_US
        )
        sinks.append(sink)
        return sink

    yield make
    for sink in sinks:
        sink.close()


def flood() -> Flood:
    return flood_of(
        [message(1), message(2)],
        total=40,
        counts=[RuleCount("Rare <b>", "critical", 2), RuleCount(RULE, "medium", 38)],
        since_us=AT_US,
        until_us=AT_US + 60_000_000,
        public_url=PUBLIC,
    )


def answering(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Any:
    return lambda _: (status, headers or {}, body)


# --- webhook


def test_a_webhook_gets_an_object_for_each_alert(receiver: Web, made: Made) -> None:
    sink = made()
    assert sink.batch == 1
    sink.deliver([message(1, public_url=PUBLIC)])
    [request] = receiver.requests
    assert request.path == "/hook"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["idempotency-key"] == alert_id(1)
    assert "x-barrelman-signature" not in request.headers
    said = request.json
    assert said["alert"] == alert_document(1)
    assert said["sentence"] == "eve created pods shop/p1 in cluster prod from 203.0.113.7"
    assert said["link"] == f"{PUBLIC}/alerts/{alert_id(1)}"
    assert said["techniques"] == ["T1611 Escape to Host"]
    assert said["is_test"] is False


def test_a_webhook_gets_arrays_when_told_so(receiver: Web, made: Made) -> None:
    sink = made(options="batch=50")
    assert sink.batch == 50
    sink.deliver([message(1), message(2)])
    sink.deliver([message(1), message(2)])
    sink.deliver([message(2), message(3)])
    keys = [request.headers["idempotency-key"] for request in receiver.requests]
    assert keys[0] == keys[1] != keys[2]
    assert [said["alert_id"] for said in receiver.requests[0].json] == [alert_id(1), alert_id(2)]


def test_a_request_is_signed_over_its_time_and_body(receiver: Web, made: Made) -> None:
    made(options="secret=s3cret").deliver([message(1)])
    [request] = receiver.requests
    told = dict(part.split("=") for part in request.headers["x-barrelman-signature"].split(","))
    signed = f"{told['t']}.".encode() + request.body
    assert told["v1"] == hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()
    assert int(told["t"]) == AT_US // 10**6


def test_credentials_and_headers_are_sent(receiver: Web, made: Made) -> None:
    made(options="token=abc&header=X-Team:%20blue").deliver([message(1)])
    made(options="username=u&password=p").deliver([message(1)])
    first, second = receiver.requests
    assert first.headers["authorization"] == "Bearer abc"
    assert first.headers["x-team"] == "blue"
    assert second.headers["authorization"] == "Basic dTpw"


def test_a_template_makes_the_body(receiver: Web, made: Made) -> None:
    sink = made(options='batch=5&template={"content": "${title}", "at": "${created}"}')
    assert sink.batch == 1
    sink.deliver([message(1)])
    assert receiver.requests[0].json["content"].startswith(f"{RULE}: eve created")


def test_a_webhook_gets_digests_only_when_told_so(receiver: Web, made: Made) -> None:
    assert made().digest_above is None
    sink = made(options="digest_after=10")
    assert sink.digest_above == 10
    sink.digest(flood())
    said = receiver.requests[0].json
    assert (said["total"], said["severity"]) == (40, "critical")
    assert said["rules"][0] == {"rule_name": RULE, "severity": "medium", "alerts": 38}
    assert [each["alert_id"] for each in said["first"]] == [alert_id(1), alert_id(2)]
    assert said["link"] == f"{PUBLIC}/alerts"
    assert receiver.requests[0].headers["idempotency-key"] == said["digest_id"]


@pytest.mark.parametrize("status", [400, 405, 413, 415, 422])
def test_what_will_never_be_taken_is_final(receiver: Web, made: Made, status: int) -> None:
    receiver.answer = answering(status, body=b"bad\nbody")
    with pytest.raises(SinkError, match=f"answered {status}: bad body") as raised:
        made().deliver([message(1)])
    assert raised.value.is_final


@pytest.mark.parametrize("status", [301, 401, 403, 404, 408, 410, 425, 429, 500, 502, 503])
def test_what_may_be_taken_later_is_not(receiver: Web, made: Made, status: int) -> None:
    receiver.answer = answering(status, {"location": "https://elsewhere.example"})
    with pytest.raises(SinkError, match=str(status)) as raised:
        made().deliver([message(1)])
    assert not raised.value.is_final
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "99999999"}, 3600),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({}, None),
    ],
)
def test_when_to_come_back_is_heeded(
    receiver: Web, made: Made, headers: dict[str, str], seconds: float | None
) -> None:
    receiver.answer = answering(429, headers)
    with pytest.raises(SinkError) as raised:
        made().deliver([message(1)])
    assert raised.value.retry_after_seconds == seconds


def test_a_date_to_come_back_is_measured_by_the_receivers_clock(receiver: Web, made: Made) -> None:
    from email.utils import formatdate
    from time import time

    receiver.answer = lambda _: (503, {"retry-after": formatdate(time() + 120, usegmt=True)}, b"")
    with pytest.raises(SinkError) as raised:
        made().deliver([message(1)])
    assert raised.value.retry_after_seconds == pytest.approx(120, abs=3)


def test_a_receiver_that_is_not_there_or_silent_may_come_back(receiver: Web, made: Made) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        flag = f"http://127.0.0.1:{silent.getsockname()[1]}/S3CRET#timeout_seconds=0.2"
        for listens in (False, True):
            if listens:
                silent.listen()
            sink = open_sink(parse_sink_flag(flag), clock=lambda: AT_US)
            with pytest.raises(SinkError, match=r"127\.0\.0\.1") as raised:
                sink.deliver([message(1)])
            sink.close()
            assert not raised.value.is_final
            assert "S3CRET" not in str(raised.value)


def test_no_secret_is_repeated_or_logged(
    receiver: Web, made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.answer = answering(500, body=b"no such hook: hook/S3CRET, key S3CRET-KEY")
    sink = made(path="/hook/S3CRET", options="secret=S3CRET-KEY&token=S3CRET-KEY")
    with pytest.raises(SinkError) as raised:
        sink.deliver([message(1)])
    assert "S3CRET" not in str(raised.value)
    assert "S3CRET" not in caplog.text


def test_an_endless_answer_is_not_read_to_its_end(receiver: Web, made: Made) -> None:
    receiver.answer = answering(400, body=b"x" * 5_000_000)
    with pytest.raises(SinkError) as raised:
        made().deliver([message(1)])
    assert len(str(raised.value)) < 400


def test_certificates_that_cannot_be_read_can_be_mended(receiver: Web) -> None:
    flag = "https://127.0.0.1:1/#ca_file=/nowhere/ca.pem"
    sink = open_sink(parse_sink_flag(flag), clock=lambda: AT_US)
    with pytest.raises(SinkError, match=r"/nowhere/ca\.pem") as raised:
        sink.deliver([message(1)])
    assert not raised.value.is_final


@pytest.mark.parametrize("prefix", ["", "slack+", "alertmanager+"])
def test_a_test_is_marked_and_says_what_came_of_it(receiver: Web, made: Made, prefix: str) -> None:
    assert "answered 200" in made(prefix).test(AT_US)
    assert "Test of the sink" in receiver.requests[0].body.decode()


# --- Slack


def test_slack_gets_blocks_and_a_text_that_says_it_all(receiver: Web, made: Made) -> None:
    sink = made("slack+")
    assert sink.digest_above == 20
    sink.deliver([message(1, public_url=PUBLIC, severity="critical")])
    said = receiver.requests[0].json
    assert said["text"] == (
        f"*[critical] {RULE}*: eve created pods shop/p1 in cluster prod from 203.0.113.7\n"
        f"<{PUBLIC}/alerts/{alert_id(1)}|Open the alert>"
    )
    blocks = said["attachments"][0]["blocks"]
    assert blocks[0]["text"] == {
        "type": "plain_text",
        "text": f"[critical] {RULE}",
        "emoji": False,
    }
    text = json.dumps(blocks)
    for part in ("`eve`", "pods/shop/p1", "T1611", "IPC namespace.", "Open the alert"):
        assert part in text


def test_in_slack_nothing_of_an_event_is_markup(receiver: Web, made: Made) -> None:
    evil = "<!channel> `x` <https://evil.example|click> *b*"
    audit = {"verb": "create", "user": {"username": evil}, "objectRef": {"resource": evil}}
    made("slack+").deliver([message(1, audit=audit, rule__name=evil, rule__description=evil)])
    body = receiver.requests[0].json
    mrkdwn = [body["text"], *(_mrkdwn(body["attachments"]))]
    assert not [text for text in mrkdwn if "<!channel>" in text or "<https://evil" in text]


def _mrkdwn(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for each in node:
            yield from _mrkdwn(each)
    elif isinstance(node, dict):
        if node.get("type") == "mrkdwn":
            yield node["text"]
        for each in node.values():
            yield from _mrkdwn(each)


def test_slack_never_gets_more_than_it_takes(receiver: Web, made: Made) -> None:
    long = "x" * 100_000
    audit = {"verb": "create", "user": {"username": long}, "objectRef": {"resource": long}}
    told = message(1, audit=audit, rule__name=long, rule__description=long)
    made("slack+").deliver([told])
    blocks = receiver.requests[0].json["attachments"][0]["blocks"]
    assert len(blocks[0]["text"]["text"]) <= 150
    assert all(len(text) <= 3000 for text in _mrkdwn(blocks))
    fields = [field for block in blocks for field in block.get("fields", [])]
    assert len(fields) <= 10
    assert all(len(field["text"]) <= 2000 for field in fields)


def test_slack_gets_a_digest(receiver: Web, made: Made) -> None:
    made("slack+").digest(flood())
    text = receiver.requests[0].json["text"]
    assert text.startswith("*[critical] 40 alerts of 2 rules*\n")
    assert f"38 × {RULE} (medium)" in text
    assert "2 × Rare &lt;b&gt; (critical)" in text
    assert f"All of them: {PUBLIC}/alerts" in text


# --- Alertmanager


def test_alertmanager_gets_labels_and_annotations(receiver: Web, made: Made) -> None:
    sink = made("alertmanager+", path="/prefix/")
    assert sink.digest_above is None
    sink.deliver([message(1, public_url=PUBLIC), message(2)])
    [request] = receiver.requests
    assert request.path == "/prefix/api/v2/alerts"
    first, second = request.json
    assert first["labels"] == {
        "alertname": RULE,
        "severity": "medium",
        "rule_id": "hostipc",
        "cluster": "prod",
        "user": "eve",
        "object": "pods/shop/p1",
        "alert_id": alert_id(1),
    }
    assert first["startsAt"] == "2026-11-23T12:01:00.000Z"
    assert first["endsAt"] == "2026-11-23T16:01:00.000Z"
    assert first["generatorURL"] == f"{PUBLIC}/alerts/{alert_id(1)}"
    assert first["annotations"]["description"] == message(1).sentence
    assert "generatorURL" not in second


def test_alertmanager_is_not_told_of_what_was_closed_meanwhile(receiver: Web, made: Made) -> None:
    sink = made("alertmanager+")
    sink.deliver([message(1, workflow_status="closed")])
    assert not receiver.requests
    told = [message(1, workflow_status="closed"), message(2, workflow_status="acknowledged")]
    sink.deliver(told)
    assert [each["labels"]["alert_id"] for each in receiver.requests[0].json] == [alert_id(2)]


# --- PagerDuty


def test_pagerduty_gets_an_event_with_a_key(receiver: Web) -> None:
    settings = parse_sink_flag(f"pagerduty:KEY#url={receiver.url}/v2/enqueue")
    sink = open_sink(settings, clock=lambda: AT_US)
    receiver.answer = answering(202)
    for severity in ("low", "medium", "high", "critical"):
        sink.deliver([message(1, public_url=PUBLIC, severity=severity)])
    said = [request.json for request in receiver.requests]
    assert [each["payload"]["severity"] for each in said] == [
        "info",
        "warning",
        "error",
        "critical",
    ]
    event = said[0]
    assert (event["routing_key"], event["event_action"]) == ("KEY", "trigger")
    assert event["dedup_key"] == alert_id(1)
    assert event["payload"]["summary"] == message(1).title
    assert event["payload"]["source"] == "prod"
    assert event["payload"]["component"] == "pods/shop/p1"
    assert event["payload"]["custom_details"]["who"] == "eve"
    assert event["links"][0] == {"href": message(1, public_url=PUBLIC).link, "text": "The alert"}
    sink.digest(flood())
    assert receiver.requests[-1].json["payload"]["summary"] == "40 alerts of 2 rules"
    sink.close()


def test_a_test_of_pagerduty_resolves_itself(receiver: Web) -> None:
    settings = parse_sink_flag(f"pagerduty:KEY#url={receiver.url}/v2/enqueue")
    sink = open_sink(settings, clock=lambda: AT_US)
    assert "resolved" in sink.test(AT_US)
    sink.close()
    first, second = (request.json for request in receiver.requests)
    assert (first["event_action"], second["event_action"]) == ("trigger", "resolve")
    assert first["dedup_key"] == second["dedup_key"]
