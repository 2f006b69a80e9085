"""An alert as it is told to people: who did what to which object, and why that matters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final
from urllib.parse import quote

from barrelman.records.event import JsonObject
from barrelman.records.frozen import frozen
from barrelman.records.paths import Path
from barrelman.records.severities import SEVERITIES
from barrelman.records.times import format_instant, parse_instant_us
from barrelman.sinks.wording import also_of, crowd_of, deed_of, one_line

_CLUSTER: Final = Path("orchestrator.cluster.name")
_RULE: Final = "kibana.alert.rule."
_MOST_WHY: Final = 600
_MOST_TITLE: Final = 250
_MOST_ITEMS: Final = 50
# Where a sentence ends: not behind "e.g." or a single letter, and not within a name.
_SENTENCE_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\b\w)[.!?](?=\s|$)")


@frozen
class Message:
    """What every sink makes its own form of. Texts from events are one harmless line each."""

    alert_id: str
    created_us: int
    severity: str
    risk_score: float
    rule_id: str
    rule_name: str
    cluster: str
    tags: tuple[str, ...]
    status: str
    """The alert's workflow status when it was read: open, acknowledged or closed."""
    reason: str
    title: str
    who: str
    action: str
    """What was done to what kind of thing: `created pods`; "" where no request is told of."""
    object: str
    """`pods/kube-system/x`: resource, namespace and name as far as known."""
    what: str
    """All of it: `created pods kube-system/x`."""
    source: str
    why: str
    techniques: tuple[str, ...]
    link: str
    references: tuple[str, ...]
    note: str
    """The rule's investigation guide, in Markdown, as its author wrote it."""
    is_test: bool
    crowd: str
    """What an alert on several events tells of them; "" of one on a single event."""
    also: str
    """What stands behind either, in brackets: what was new, and how often it happened again."""
    document: JsonObject = field(repr=False)

    @property
    def sentence(self) -> str:
        """Who did what, where and from where; of an alert about no request, its reason."""
        if not (self.what or self.crowd):
            return self.reason + self.also
        parts = [self.crowd or f"{self.who or 'someone'} {self.what}"]
        if self.cluster:
            parts.append(f"in cluster {self.cluster}")
        if self.source and not self.crowd:
            parts.append(f"from {self.source}")
        return " ".join(parts) + self.also

    @property
    def created(self) -> str:
        """When the alert was raised, as ISO 8601 in UTC."""
        return format_instant(self.created_us // 1000)

    def fields(self) -> dict[str, Any]:
        """What is told of the alert beside its document, ready for JSON."""
        return {
            "alert_id": self.alert_id,
            "created": self.created,
            "severity": self.severity,
            "risk_score": self.risk_score,
            "rule_id": self.rule_id,
            "rule_name": self.rule_name,
            "cluster": self.cluster,
            "tags": list(self.tags),
            "status": self.status,
            "title": self.title,
            "sentence": self.sentence,
            "reason": self.reason,
            "who": self.who,
            "action": self.action,
            "object": self.object,
            "what": self.what,
            "source": self.source,
            "why": self.why,
            "techniques": list(self.techniques),
            "link": self.link,
            "references": list(self.references),
            "is_test": self.is_test,
        }


def message_of(
    document: JsonObject, *, public_url: str | None, created_us: int | None = None
) -> Message:
    """Reads the message off an alert's document, of a rule's alert as of a watchdog's.

    `created_us` is when the alert was raised, where that is known better than to the run.
    """
    deed = deed_of(document)
    alert_id = str(document.get("kibana.alert.uuid", ""))
    if created_us is None:
        created_us = parse_instant_us(document.get("@timestamp")) or 0
    rule_name = one_line(str(document.get(f"{_RULE}name", "") or "unnamed rule"))
    cluster = one_line(next((str(value) for value in _CLUSTER.values(document)), ""))
    severity = _severity(document)
    reason = _reason(document, severity, rule_name)
    crowd = crowd_of(document)
    told = crowd or (f"{deed.who or 'someone'} {deed.what}" if deed.what else reason)
    where = f" ({cluster})" if cluster and (crowd or deed.what) else ""
    title = f"{rule_name}: {told}{where}" if told != rule_name else rule_name
    note = str(document.get(f"{_RULE}note") or "")
    return Message(
        alert_id=one_line(alert_id),
        created_us=created_us,
        severity=severity,
        risk_score=_number(document.get("kibana.alert.risk_score")),
        rule_id=one_line(str(document.get(f"{_RULE}rule_id", ""))),
        rule_name=rule_name,
        cluster=cluster,
        tags=_texts(document.get(f"{_RULE}tags")),
        status=str(document.get("kibana.alert.workflow_status", "open")),
        reason=reason,
        title=one_line(title, _MOST_TITLE),
        who=deed.who,
        action=deed.action,
        object=deed.object,
        what=deed.what,
        source=deed.source,
        why=_why(document),
        techniques=_techniques(document.get(f"{_RULE}threat")),
        link=f"{public_url.rstrip('/')}/alerts/{quote(alert_id)}" if public_url else "",
        references=tuple(
            each for each in _texts(document.get(f"{_RULE}references")) if _is_web(each)
        ),
        note="" if note == document.get(f"{_RULE}description") else note,
        crowd=crowd,
        also=also_of(document),
        is_test=document.get("barrelman.test") is True,
        document=document,
    )


def test_message(sink: str, now_us: int) -> Message:
    """A message that says of itself that it is a test of the sink of that name."""
    instant = format_instant(now_us // 1000)
    document: JsonObject = {
        "@timestamp": instant,
        "barrelman.test": True,
        "kibana.alert.uuid": f"test-{now_us}",
        "kibana.alert.status": "active",
        "kibana.alert.workflow_status": "open",
        "kibana.alert.severity": "low",
        "kibana.alert.risk_score": 0,
        "kibana.alert.rule.rule_id": "test",
        "kibana.alert.rule.name": f"Test of the sink {sink}",
        "kibana.alert.rule.description": "Nothing happened: someone asked whether alerts arrive.",
        "kibana.alert.rule.tags": ["Test"],
        "kibana.alert.reason": f"This is a test of the sink {sink}, sent at {instant}.",
    }
    return message_of(document, public_url=None, created_us=now_us)


test_message.__test__ = False  # type: ignore[attr-defined]  # its name is no order to a test runner


def first_sentence(text: str) -> str:
    """The first sentence of a text, in one line, without Markdown's heading marks."""
    plain = " ".join(text.lstrip("# \t\r\n")[: 4 * _MOST_WHY].split())
    found = _SENTENCE_END.search(plain)
    return one_line(plain[: found.end()] if found else plain, _MOST_WHY)


def _reason(document: JsonObject, severity: str, rule_name: str) -> str:
    """The alert's reason; what it says of severity and rule stands beside it in any message."""
    reason = str(document.get("kibana.alert.reason") or "")
    return one_line(reason.replace(f" ({severity} alert {rule_name})", "") or rule_name, _MOST_WHY)


def _why(document: JsonObject) -> str:
    return first_sentence(str(document.get(f"{_RULE}description") or ""))


def _severity(document: JsonObject) -> str:
    found = document.get("kibana.alert.severity")
    return str(found) if found in SEVERITIES else SEVERITIES[0]


def _number(value: object) -> float:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _texts(values: object) -> tuple[str, ...]:
    items = values if isinstance(values, list) else [values]
    return tuple(one_line(item) for item in items[:_MOST_ITEMS] if isinstance(item, str) and item)


def _is_web(text: str) -> bool:
    return text.startswith(("https://", "http://"))


def _techniques(threats: object) -> tuple[str, ...]:
    """`T1611 Escape to Host`: the finest that each entry names, tactics where it is only those."""
    found: dict[str, None] = {}
    for threat in _objects(threats):
        techniques = _objects(threat.get("technique"))
        for technique in techniques:
            for each in _objects(technique.get("subtechnique")) or [technique]:
                found[_titled(each)] = None
        if not techniques:
            found.update((_titled(tactic), None) for tactic in _objects(threat.get("tactic")))
    return tuple(name for name in found if name)[:_MOST_ITEMS]


def _objects(value: object) -> list[Mapping[str, Any]]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, Mapping)]


def _titled(entry: Mapping[str, Any]) -> str:
    return one_line(f"{entry.get('id', '')} {entry.get('name', '')}".strip())
