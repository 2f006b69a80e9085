"""Slack's incoming webhooks, and those of others that take the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from barrelman.sinks.flood import Flood, flood_lines
from barrelman.sinks.http import Poster
from barrelman.sinks.message import Message, test_message
from barrelman.sinks.options import SinkSettings
from barrelman.sinks.templates import escape_slack, template_for
from barrelman.sinks.wording import one_line

_COLORS: Final = {"low": "#3b82c4", "medium": "#d6a400", "high": "#e06c1f", "critical": "#c4201d"}
# Slack's own limits: of a header, of a section's text, of one of its fields.
_MOST_HEADER: Final = 150
_MOST_SECTION: Final = 2900
_MOST_FIELD: Final = 1900


class SlackSink:
    """One message an alert: blocks where they are understood, and a text that says it all."""

    batch = 1

    def __init__(self, settings: SinkSettings) -> None:
        self.name = settings.name
        self.kind = settings.kind
        self.digest_above = settings.digest_above
        self.digest_seconds = settings.digest_seconds
        self.give_up_seconds = settings.give_up_seconds
        self.notice = ""
        self._shown = settings.shown
        self._poster = Poster(settings)
        self._template = template_for("slack", settings.template) if settings.template else None

    def deliver(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._post(self._payload(message), message.alert_id)

    def digest(self, flood: Flood) -> None:
        lines = [escape_slack(line) for line in flood_lines(flood)]
        title = f"[{flood.severity}] {flood.title}"
        text = "\n".join([f"*{escape_slack(title)}*", *lines])[:_MOST_SECTION]
        blocks = [_header(title), _section("\n".join(lines)[:_MOST_SECTION])]
        self._post(_payload(text, blocks, flood.severity), flood.key)

    def test(self, now_us: int) -> str:
        message = test_message(self.name, now_us)
        status = self._post(self._payload(message), message.alert_id)
        return f"posted to {self._shown}, which answered {status}"

    def close(self) -> None:
        self._poster.close()

    def _post(self, payload: dict[str, Any], key: str) -> int:
        return self._poster.post(json.dumps(payload).encode(), {"idempotency-key": key}).status

    def _payload(self, message: Message) -> dict[str, Any]:
        if self._template is not None:
            text = self._template.fill(message)
            return _payload(text, [_section(text[:_MOST_SECTION])], message.severity)
        return _payload(_text(message), _blocks(message), message.severity)


def _payload(text: str, blocks: list[dict[str, Any]], severity: str) -> dict[str, Any]:
    """The text on top is what notifications show, and all that lesser receivers do."""
    return {"text": text, "attachments": [{"color": _COLORS[severity], "blocks": blocks}]}


def _text(message: Message) -> str:
    rule, sentence = escape_slack(message.rule_name), escape_slack(message.sentence)
    title = f"*[{message.severity}] {rule}*: {sentence}"
    return f"{title}\n<{message.link}|Open the alert>" if message.link else title


def _blocks(message: Message) -> list[dict[str, Any]]:
    blocks = [_header(f"[{message.severity}] {message.rule_name}"), _section(_sentence(message))]
    if message.why:
        blocks.append(_section(escape_slack(message.why)))
    fields = [
        ("Object", message.object),
        ("Cluster", message.cluster),
        ("From", message.source),
        ("Risk", f"{message.risk_score:g}" if message.risk_score else ""),
        ("ATT&CK", ", ".join(message.techniques)),
        ("Raised", message.created),
    ]
    blocks.append(
        {
            "type": "section",
            "fields": [
                _mrkdwn(
                    f"*{escape_slack(name)}*\n{escape_slack(one_line(value, _MOST_FIELD // 5))}"
                )
                for name, value in fields
                if value
            ],
        }
    )
    links = [f"<{message.link}|Open the alert>"] if message.link else []
    links += [f"<{_url(url)}|Reference>" for url in message.references[:3]]
    if links:
        blocks.append({"type": "context", "elements": [_mrkdwn(" · ".join(links))]})
    return blocks


def _sentence(message: Message) -> str:
    """The sentence with what came from outside set as code, in which nothing is markup."""
    if not message.what:
        return escape_slack(message.reason)
    said = f"{_code(message.who or 'someone')} {_code(message.what)}"
    return said + (f" in cluster {_code(message.cluster)}" if message.cluster else "")


def _code(text: str) -> str:
    return f"`{escape_slack(text.replace('`', '’'))}`"


def _url(url: str) -> str:
    return url.replace("|", "%7C").replace("<", "%3C").replace(">", "%3E").replace("&", "&amp;")


def _header(text: str) -> dict[str, Any]:
    plain = {"type": "plain_text", "text": one_line(text, _MOST_HEADER), "emoji": False}
    return {"type": "header", "text": plain}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _mrkdwn(text)}


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}
