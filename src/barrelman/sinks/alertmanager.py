"""Prometheus Alertmanager, version 2 of its API: alerts as sets of labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from barrelman.records.times import format_instant
from barrelman.sinks.flood import Flood
from barrelman.sinks.http import Poster
from barrelman.sinks.message import Message, test_message
from barrelman.sinks.options import SinkSettings
from barrelman.sinks.templates import template_for

_PATH: Final = "/api/v2/alerts"
_TEST_SECONDS: Final = 60


class AlertmanagerSink:
    """Posts alerts that are still open. Routing, silencing and grouping are the other end's."""

    digest_above = None

    def __init__(self, settings: SinkSettings, *, clock: Callable[[], int]) -> None:
        address, question, query = settings.url.partition("?")
        if not address.rstrip("/").endswith(_PATH):
            address = f"{address.rstrip('/')}{_PATH}"
        self.name = settings.name
        self.kind = settings.kind
        self.batch = settings.most
        self.digest_seconds = settings.digest_seconds
        self.give_up_seconds = settings.give_up_seconds
        self.notice = ""
        self._shown = settings.shown
        self._resolve_us = int(settings.resolve_seconds * 1e6)
        self._clock = clock
        self._poster = Poster(replace(settings, url=f"{address}{question}{query}"))
        self._template = template_for(self.kind, settings.template) if settings.template else None

    def deliver(self, messages: Sequence[Message]) -> None:
        is_open = [message for message in messages if message.status != "closed"]
        if is_open:
            self._post(is_open, self._clock() + self._resolve_us)

    def digest(self, flood: Flood) -> None:
        self.deliver(flood.first)

    def test(self, now_us: int) -> str:
        status = self._post([test_message(self.name, now_us)], now_us + _TEST_SECONDS * 10**6)
        return (
            f"posted to {self._shown}, which answered {status}; "
            f"the test resolves itself after {_TEST_SECONDS} s"
        )

    def close(self) -> None:
        self._poster.close()

    def _post(self, messages: Sequence[Message], until_us: int) -> int:
        until = format_instant(until_us // 1000)
        alerts = [self._alert(message) | {"endsAt": until} for message in messages]
        return self._poster.post(json.dumps(alerts).encode()).status

    def _alert(self, message: Message) -> dict[str, Any]:
        # What tells alerts apart is labels alone: without its id, one would swallow the next.
        labels = {
            "alertname": message.rule_name,
            "severity": message.severity,
            "rule_id": message.rule_id,
            "cluster": message.cluster,
            "user": message.who,
            "object": message.object,
            "alert_id": message.alert_id,
        }
        template = self._template
        annotations = {
            "summary": template.fill(message) if template else message.title,
            "description": message.sentence,
            "why": message.why,
            "techniques": ", ".join(message.techniques),
            "source": message.source,
            "risk_score": f"{message.risk_score:g}",
            "reference": message.references[0] if message.references else "",
        }
        alert: dict[str, Any] = {
            "labels": {name: value for name, value in labels.items() if value},
            "annotations": {name: value for name, value in annotations.items() if value},
            "startsAt": message.created,
        }
        return alert | ({"generatorURL": message.link} if message.link else {})
