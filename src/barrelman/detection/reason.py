"""The sentence that says why an alert was raised, in Elastic's pattern."""

from __future__ import annotations

from typing import Final

from barrelman.records.event import JsonObject
from barrelman.records.paths import Path

_WITH: Final = (
    ("process", Path("process.name"), None),
    ("parent process", Path("process.parent.name"), None),
    ("file", Path("file.name"), None),
    ("source", Path("source.ip"), Path("source.port")),
    ("destination", Path("destination.ip"), Path("destination.port")),
)
_CATEGORY: Final = Path("event.category")
_USER: Final = Path("user.name")
_HOST: Final = Path("host.name")


def reason_text(document: JsonObject, *, severity: str, rule_name: str) -> str:
    """`event with source 192.0.2.7, by alice created high alert NAME.`; "-" counts as absent."""
    category = _joined(_CATEGORY, document)
    parts = [f"{category} event" if category else "event"]
    things = []
    for noun, path, port_path in _WITH:
        value = _joined(path, document)
        if value:
            port = _joined(port_path, document) if port_path else ""
            things.append(f" {noun} {value}{':' + port if port else ''},")
    if things:
        parts.append(" with")
        parts.extend(things)
    user, host = _joined(_USER, document), _joined(_HOST, document)
    parts.append(f" by {user}" if user else "")
    parts.append(f" on {host}" if host else "")
    parts.append(f" created {severity} alert {rule_name}.")
    return "".join(parts)


def _joined(path: Path, document: JsonObject) -> str:
    return ", ".join(str(value) for value in path.values(document) if value not in ("", "-"))
