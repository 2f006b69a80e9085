"""An alert in a few words for a person: who did what to which object, from where, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from barrelman.cli.printing import printable
from barrelman.detection.alert import Alert
from barrelman.detection.redact import redact_text
from barrelman.records.event import Event, JsonObject
from barrelman.records.fields import AUDIT
from barrelman.records.frozen import frozen
from barrelman.records.paths import Path

_WHO: Final = (Path(f"{AUDIT}.user.username"), Path("user.name"))
_AS: Final = Path(f"{AUDIT}.impersonatedUser.username")
_VERB: Final = (Path(f"{AUDIT}.verb"), Path("event.action"))
_RESOURCE: Final = (Path(f"{AUDIT}.objectRef.resource"), Path("orchestrator.resource.type"))
_SUBRESOURCE: Final = Path(f"{AUDIT}.objectRef.subresource")
_NAMESPACE: Final = (Path(f"{AUDIT}.objectRef.namespace"), Path("orchestrator.namespace"))
_NAME: Final = (Path(f"{AUDIT}.objectRef.name"), Path("orchestrator.resource.name"))
_URI: Final = Path(f"{AUDIT}.requestURI")
_CODE: Final = Path(f"{AUDIT}.responseStatus.code")
_REFUSED: Final = 400
_FROM: Final = (Path(f"{AUDIT}.sourceIPs"), Path("source.ip"))
# A created object's name where the request left it to the API server (`generateName`).
_MADE: Final = (Path("responseObject.metadata.name"), Path("requestObject.metadata.generateName"))
_TOLD_ELSEWHERE: Final = (
    f"{AUDIT}.verb",
    f"{AUDIT}.objectRef.",
    f"{AUDIT}.user.username",
    "event.",
    "data_stream.",
    "user.name",
    "source.ip",
)
_PEOPLE: Final = ("user.", f"{AUDIT}.user.", "source.", f"{AUDIT}.sourceIPs")
_MOST_REASONS: Final = 6
_MOST_STEPS: Final = 12
_MOST_CHARS: Final = 300


@frozen
class Row:
    """One alert as the table shows it; every text is safe for a terminal."""

    time: str
    severity: str
    rule: str
    who: str
    what: str
    where: str
    why: str


def describe(alert: Alert, blocks: Sequence[Alert] = ()) -> Row:
    """`blocks`: the alerts on the events of a sequence, whose shell the alert is."""
    document = alert.document
    time = str(document.get("kibana.alert.original_time") or document["@timestamp"])
    block = " (building block)" if "kibana.alert.building_block_type" in document else ""
    return Row(
        time=time[:19].replace("T", " "),
        severity=alert.severity,
        rule=_cell(alert.rule_name) + block,
        who=_cell(_who(document)),
        what=_steps(blocks) if blocks else _cell(_what(document, alert.event)),
        where=_cell(_join(document, *_FROM)),
        why=_cell(_why(alert)),
    )


def _steps(blocks: Sequence[Alert]) -> str:
    """A line for each event: when, what, and who where that is not always the same."""
    are_many = len({_who(block.document) for block in blocks}) > 1
    lines = []
    for block in blocks[:_MOST_STEPS]:
        document = block.document
        time = str(document.get("kibana.alert.original_time") or "")[11:19]
        who = f"{_who(document)}: " if are_many else ""
        lines.append(_cell(f"{time} {who}{_what(document, block.event)}".strip()))
    if len(blocks) > _MOST_STEPS:
        lines.append(f"and {len(blocks) - _MOST_STEPS} more")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Safe for a terminal, and no longer than a person reads: an event's values may be of any."""
    text = printable(text[:_MOST_CHARS])  # what is cut off here need not be made printable
    return f"{text[: _MOST_CHARS - 1]}…" if len(text) >= _MOST_CHARS else text or "-"


def _first(document: JsonObject, *paths: Path) -> str:
    for path in paths:
        for value in path.values(document):
            if value != "":
                return str(value)
    return ""


def _join(document: JsonObject, *paths: Path) -> str:
    for path in paths:
        values = [str(value) for value in path.values(document) if value != ""]
        if values:
            return ", ".join(values)
    return ""


def _who(document: JsonObject) -> str:
    who, impersonated = _first(document, *_WHO), _first(document, _AS)
    return f"{who} as {impersonated}" if impersonated else who


def _what(document: JsonObject, event: Event) -> str:
    verb, resource = _first(document, *_VERB), _first(document, *_RESOURCE)
    if not resource:
        return f"{verb} {redact_text(_first(document, _URI))}".strip()
    subresource = _first(document, _SUBRESOURCE)
    kind = f"{resource}/{subresource}" if subresource else resource
    name = _first(document, *_NAME)
    if not name and not event.is_document:
        made, generated = (_first(event.body, path) for path in _MADE)
        name = made or (f"{generated}…" if generated else "")
    namespace = _first(document, *_NAMESPACE)
    target = f"{namespace}/{name}" if namespace and name else namespace or name
    code = next((code for code in _CODE.values(document) if isinstance(code, int)), 0)
    refused = f"(refused: {code})" if code >= _REFUSED else ""
    return " ".join(part for part in (verb, kind, target, refused) if part)


def _why(alert: Alert) -> str:
    told = [pair for pair in alert.reasons if not pair[0].startswith(_TOLD_ELSEWHERE)]
    if not told:
        told = [pair for pair in alert.reasons if not pair[0].startswith(_PEOPLE)]
    parts = []
    for name, value in told:
        shown = ("true" if value else "false") if isinstance(value, bool) else str(value)
        parts.append(f"{name.replace(f'{AUDIT}.', '', 1)}: {shown}")
    more = len(parts) - _MOST_REASONS
    return ", ".join(parts[:_MOST_REASONS]) + (f" and {more} more" if more > 0 else "")
