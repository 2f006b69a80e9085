"""Many alerts in one message: how many of which rule, the first few, and where the rest is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from barrelman.records.frozen import frozen
from barrelman.records.severities import SEVERITIES
from barrelman.records.times import format_instant
from barrelman.sinks.message import Message
from barrelman.sinks.wording import one_line


class RuleCount(NamedTuple):
    """How many alerts of one rule at one severity a flood holds."""

    rule_name: str
    severity: str
    alerts: int


@frozen
class Flood:
    """What a digest tells: all alerts are counted, the first few are told in full."""

    total: int
    counts: tuple[RuleCount, ...]
    """Most frequent first."""
    first: tuple[Message, ...]
    since_us: int
    until_us: int
    link: str

    @property
    def key(self) -> str:
        """Equal for the same flood: what a receiver tells repeats by."""
        said = "\n".join([str(self.total), *(message.alert_id for message in self.first)])
        return f"digest-{hashlib.sha256(said.encode()).hexdigest()[:32]}"

    @property
    def severity(self) -> str:
        """The worst of its alerts."""
        found = [
            SEVERITIES.index(each.severity) for each in self.counts if each.severity in SEVERITIES
        ]
        return SEVERITIES[max(found, default=0)]

    @property
    def title(self) -> str:
        rules = len({each.rule_name for each in self.counts})
        of = f"of {rules} rules" if rules != 1 else f"of {self.counts[0].rule_name}"
        return one_line(f"{self.total} alerts {of}", 250)

    @property
    def span(self) -> str:
        since, until = (format_instant(us // 1000) for us in (self.since_us, self.until_us))
        return f"between {since} and {until}"

    def fields(self) -> dict[str, Any]:
        """The digest ready for JSON."""
        return {
            "digest": True,
            "digest_id": self.key,
            "total": self.total,
            "severity": self.severity,
            "title": self.title,
            "since": format_instant(self.since_us // 1000),
            "until": format_instant(self.until_us // 1000),
            "rules": [each._asdict() for each in self.counts],
            "first": [message.fields() for message in self.first],
            "link": self.link,
        }


def flood_lines(flood: Flood, *, most_rules: int = 20) -> list[str]:
    """The digest as lines of plain text below its title."""
    lines = [f"Raised {flood.span}; too many to tell one by one.", ""]
    lines += [
        f"{each.alerts} × {each.rule_name} ({each.severity})" for each in flood.counts[:most_rules]
    ]
    if len(flood.counts) > most_rules:
        rest = flood.counts[most_rules:]
        lines.append(f"{sum(each.alerts for each in rest)} × {len(rest)} other rules")
    if flood.first:
        lines += ["", "The first of them:"]
        lines += [f"- {message.rule_name}: {message.sentence}" for message in flood.first]
    if flood.link:
        lines += ["", f"All of them: {flood.link}"]
    return lines


def flood_of(
    messages: Sequence[Message],
    *,
    total: int,
    counts: Sequence[RuleCount],
    since_us: int,
    until_us: int,
    public_url: str | None,
) -> Flood:
    """The digest of `total` alerts, of which `messages` are the first few."""
    link = f"{public_url.rstrip('/')}/alerts" if public_url else ""
    ordered = sorted(counts, key=lambda each: (-each.alerts, each.rule_name, each.severity))
    return Flood(total, tuple(ordered), tuple(messages), since_us, until_us, link)
