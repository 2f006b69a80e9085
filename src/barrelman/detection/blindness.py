"""Why a rule could not fire on what a scan read.

Sound, not complete: a reason is given only where no event read could have made the rule fire.
"""

from __future__ import annotations

from collections.abc import Iterator

from barrelman.detection.judge import RunnableRule, Tally, patterns_of
from barrelman.engine.blind import Absence, impossible
from barrelman.query.ast import Node
from barrelman.records.fields import AUDIT, absence_in_raw_events, unknown_audit_field
from barrelman.rules.rule import Rule


def unread_reason(rule: Rule, tally: Tally) -> str:
    """Of a rule that reads none of the data streams that the events are in."""
    patterns = ", ".join(patterns_of(rule))
    streams = ", ".join(sorted(stream for stream in tally.streams if stream is not None))
    return f"it reads {patterns}, and the events here are in {streams}"


def blindness(runnable: RunnableRule, tally: Tally) -> str | None:
    """Why the rule could not fire on raw events that were counted so; None where it could.

    Nothing is said of an input that holds Elastic documents.
    """
    if not tally.events or tally.raw_events < tally.events:
        return None
    absent = _absence(tally)
    reasons = (impossible(node, absent) for node in _needed(runnable))
    found = next((reason for reason in reasons if reason is not None), None)
    return found or next(_missing_keys(runnable.rule, absent), None)


def _needed(runnable: RunnableRule) -> Iterator[Node]:
    """Conditions each of which some event must meet before the rule can fire."""
    yield runnable.node
    eql = runnable.rule.eql
    if eql is None:
        return
    from barrelman.query.eqltree import EventFilter

    if not isinstance(eql.top, EventFilter):
        category_field = runnable.rule.category_field
        yield from (
            stage.filter.node(category_field) for stage in eql.top.stages if not stage.is_missing
        )


def _missing_keys(rule: Rule, absent: Absence) -> Iterator[str]:
    """Why a field that events are grouped or joined by is in none of them."""
    names: list[str] = [*rule.new_terms_fields]
    if rule.threshold is not None:
        names += rule.threshold.field
        names += [each.field for each in rule.threshold.cardinality[:1] if each.value > 0]
    if rule.eql is not None:
        from barrelman.query.eqltree import EventFilter

        if not isinstance(rule.eql.top, EventFilter):
            names += [
                key.name
                for stage in rule.eql.top.stages
                if not stage.is_missing
                for key in stage.keys
                if not key.optional
            ]
    for name in names:
        reason = absent(name)
        if reason is not None:
            yield reason


def _absence(tally: Tally) -> Absence:
    def absent(name: str) -> str | None:
        for body in ("requestObject", "responseObject"):
            whole = f"{AUDIT}.{body}"
            if body not in tally.bodies and (name == whole or name.startswith(f"{whole}.")):
                return f"no event here carries a {body} (audit level Metadata leaves it out)"
        if name == "event.ingested":
            return "events read from a log have no event.ingested, which a service adds"
        return absence_in_raw_events(name) or unknown_audit_field(name)

    return absent
