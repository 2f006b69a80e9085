"""A webhook of one's own: JSON, signed, with a key that tells repeats."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from barrelman.sinks.flood import Flood
from barrelman.sinks.http import Poster
from barrelman.sinks.message import Message, test_message
from barrelman.sinks.options import SinkSettings
from barrelman.sinks.templates import template_for

SIGNATURE: Final = "x-barrelman-signature"


class WebhookSink:
    """Posts an object for each message, or arrays of them; or what a template makes of each."""

    def __init__(self, settings: SinkSettings, *, clock: Callable[[], int]) -> None:
        self.name = settings.name
        self.kind = settings.kind
        self.batch = settings.most if settings.template is None else 1
        self.digest_above = settings.digest_above
        self.digest_seconds = settings.digest_seconds
        self.give_up_seconds = settings.give_up_seconds
        self.notice = ""
        self._shown = settings.shown
        self._secret = settings.secret.encode()
        self._clock = clock
        self._poster = Poster(settings)
        self._template = template_for("webhook", settings.template) if settings.template else None

    def deliver(self, messages: Sequence[Message]) -> None:
        if self.batch > 1:
            body = json.dumps([_payload(message) for message in messages])
            self._post(body.encode(), key_of(messages))
            return
        for message in messages:
            self._post(self._body(message), message.alert_id)

    def digest(self, flood: Flood) -> None:
        self._post(json.dumps(flood.fields()).encode(), flood.key)

    def test(self, now_us: int) -> str:
        message = test_message(self.name, now_us)
        body = self._body(message)
        status = self._post(
            json.dumps([_payload(message)]).encode() if self.batch > 1 else body, message.alert_id
        )
        return f"posted to {self._shown}, which answered {status}"

    def close(self) -> None:
        self._poster.close()

    def _body(self, message: Message) -> bytes:
        if self._template is not None:
            return self._template.fill(message).encode()
        return json.dumps(_payload(message)).encode()

    def _post(self, body: bytes, key: str) -> int:
        headers = {"idempotency-key": key}
        if self._secret:
            headers[SIGNATURE] = sign(body, secret=self._secret, at_seconds=self._clock() // 10**6)
        return self._poster.post(body, headers).status


def sign(body: bytes, *, secret: bytes, at_seconds: int) -> str:
    """`t=SECONDS,v1=HEX`: the HMAC-SHA256 of `SECONDS.BODY`, so that no body serves twice."""
    signed = b"%d.%s" % (at_seconds, body)
    return f"t={at_seconds},v1={hmac.new(secret, signed, hashlib.sha256).hexdigest()}"


def key_of(messages: Sequence[Message]) -> str:
    """One key for a request: the alert's id, or a hash of several."""
    if len(messages) == 1:
        return messages[0].alert_id
    ids = "\n".join(message.alert_id for message in messages)
    return hashlib.sha256(ids.encode()).hexdigest()


def _payload(message: Message) -> dict[str, Any]:
    return message.fields() | {"alert": message.document}
