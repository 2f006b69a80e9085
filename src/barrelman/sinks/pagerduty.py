"""PagerDuty, version 2 of its Events API."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from barrelman.sinks.flood import Flood, flood_lines
from barrelman.sinks.http import Poster
from barrelman.sinks.message import Message, test_message
from barrelman.sinks.options import SinkSettings
from barrelman.sinks.templates import template_for
from barrelman.sinks.wording import one_line

URL: Final = "https://events.pagerduty.com/v2/enqueue"
_SEVERITIES: Final = {"low": "info", "medium": "warning", "high": "error", "critical": "critical"}
_MOST_SUMMARY: Final = 1024
_MOST_KEY: Final = 255


class PagerDutySink:
    """Triggers an incident an alert; the alert's id keeps a repeat from making another."""

    batch = 1

    def __init__(self, settings: SinkSettings) -> None:
        settings = replace(settings, url=settings.url or URL)
        self.name = settings.name
        self.kind = settings.kind
        self.digest_above = settings.digest_above
        self.digest_seconds = settings.digest_seconds
        self.give_up_seconds = settings.give_up_seconds
        self.notice = ""
        self._shown = settings.shown
        self._key = settings.secret
        self._poster = Poster(settings)
        self._template = template_for(self.kind, settings.template) if settings.template else None

    def deliver(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._post(self._event(message))

    def digest(self, flood: Flood) -> None:
        links = [{"href": flood.link, "text": "All alerts"}] if flood.link else []
        payload = {
            "summary": one_line(flood.title, _MOST_SUMMARY),
            "source": "barrelman",
            "severity": _SEVERITIES[flood.severity],
            "timestamp": flood.fields()["until"],
            "custom_details": {"text": "\n".join(flood_lines(flood))},
        }
        self._post(self._trigger(flood.key, payload, links, url=flood.link))

    def test(self, now_us: int) -> str:
        """Triggers and resolves: whoever is on call should not have to."""
        event = self._event(test_message(self.name, now_us))
        status = self._post(event)
        wanted = ("routing_key", "dedup_key")
        self._post({key: event[key] for key in wanted} | {"event_action": "resolve"})
        return f"triggered and resolved at {self._shown}, which answered {status}"

    def close(self) -> None:
        self._poster.close()

    def _post(self, event: dict[str, Any]) -> int:
        return self._poster.post(json.dumps(event).encode()).status

    def _event(self, message: Message) -> dict[str, Any]:
        told = self._template.fill(message) if self._template else message.title
        details = message.fields()
        for key in ("is_test", "status", "link", "references", "title"):
            del details[key]
        payload: dict[str, Any] = {
            "summary": one_line(told, _MOST_SUMMARY),
            "source": message.cluster or "barrelman",
            "severity": _SEVERITIES[message.severity],
            "timestamp": message.created,
            "component": message.object,
            "group": message.cluster,
            "class": message.rule_name,
            "custom_details": {key: value for key, value in details.items() if value},
        }
        links = [{"href": message.link, "text": "The alert"}] if message.link else []
        links += [{"href": url, "text": "Reference"} for url in message.references[:5]]
        kept = {key: value for key, value in payload.items() if value}
        return self._trigger(message.alert_id, kept, links, url=message.link)

    def _trigger(
        self, key: str, payload: dict[str, Any], links: list[dict[str, str]], *, url: str
    ) -> dict[str, Any]:
        event: dict[str, Any] = {
            "routing_key": self._key,
            "event_action": "trigger",
            "dedup_key": key[:_MOST_KEY],
            "client": "Barrelman",
            "payload": payload,
            "links": links,
        }
        if url:
            event["client_url"] = url
        return event
