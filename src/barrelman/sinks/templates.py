"""Texts with places to fill in: `${who}`, or any field of the alert, `${kubernetes.audit.verb}`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final

from barrelman.errors import UsageError
from barrelman.records.paths import Path
from barrelman.sinks.message import Message, test_message
from barrelman.sinks.wording import one_line

NAMES: Final = (
    "alert_id",
    "created",
    "severity",
    "risk_score",
    "rule_id",
    "rule_name",
    "cluster",
    "tags",
    "status",
    "title",
    "sentence",
    "reason",
    "who",
    "action",
    "object",
    "what",
    "source",
    "why",
    "techniques",
    "link",
    "references",
    "note",
)
"""What a template may name, beside fields, which have a dot or an `@` in their names."""
_MOST_VALUES: Final = 20
_MOST_CHARS: Final = 1000


# Only `${…}`: a lone `$` is common in texts about money and shells, and means itself.
_PLACE = re.compile(
    r"\$(?P<escaped>\$)(?=\{)|\$\{(?P<name>[A-Za-z@_][\w.@-]*)\}|(?P<broken>\$\{)", re.ASCII
)


class Template:
    """A text whose places are known to exist; filling it runs no code."""

    def __init__(self, text: str, *, escape: Callable[[str], str] = str) -> None:
        """`escape` makes a value fit for what surrounds it. Raises UsageError."""
        self._text = text
        self._escape = escape
        for found in _PLACE.finditer(text):
            name = found["name"] or ""
            if found["broken"]:
                raise UsageError(
                    "a template has a place that is not finished",
                    hint="write ${name}; for a literal ${ write $${",
                )
            if name and name not in NAMES and "." not in name and "@" not in name:
                raise UsageError(
                    f"a template names '{one_line(name, 60)}', which no message has",
                    hint=f"known are {', '.join(NAMES)}, and fields such as kubernetes.audit.verb",
                )

    def fill(self, message: Message) -> str:
        """The text with the message's values; what a message does not have is left empty."""

        def value(found: re.Match[str]) -> str:
            name = found["name"]
            return self._escape(_value(name, message)) if name else "$"

        return _PLACE.sub(value, self._text)


def _value(name: str, message: Message) -> str:
    if name in NAMES:
        value = getattr(message, name)
        if isinstance(value, tuple):
            return ", ".join(value)
        return f"{value:g}" if isinstance(value, float) else str(value)
    values = Path(name).values(message.document)
    return one_line(", ".join(map(str, values[:_MOST_VALUES])), _MOST_CHARS)


def template_for(kind: str, text: str) -> Template:
    """The template of a sink of that kind, its values escaped for it. Raises UsageError.

    A webhook's template is the JSON of a request: that it is JSON is tried with a test message.
    """
    if kind == "slack":
        return Template(text, escape=escape_slack)
    if kind != "webhook":
        return Template(text)
    template = Template(text, escape=_escape_json)
    try:
        json.loads(template.fill(test_message("template", 0)))
    except ValueError:
        raise UsageError(
            "a webhook's template is not JSON",
            hint='places stand within quotes: {"text": "${title}"}',
        ) from None
    return template


def escape_slack(text: str) -> str:
    """Slack's own characters as themselves: no link, no mention comes of a value."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _escape_json(text: str) -> str:
    return json.dumps(text)[1:-1]
