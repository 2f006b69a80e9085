"""An alert: the event's fields as they came, and flat `kibana.alert.*` keys beside them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, Final, TypeAlias

from barrelman.detection.about import (
    Seen,
    indicator_reasons,
    new_terms_fields,
    suppression_fields,
    threshold_event,
    threshold_fields,
    with_enrichments,
)
from barrelman.detection.finding import NewTerms, Raised, SequenceOf, ThresholdResult
from barrelman.detection.identity import block_id
from barrelman.detection.overrides import name_of, risk_score_of, severity_of
from barrelman.detection.reason import reason_text
from barrelman.detection.redact import redact
from barrelman.detection.rulecopy import rule_copy
from barrelman.detection.shell import shared
from barrelman.detection.source import ORIGINAL_TIME, lineage_of, originals_of, source_of
from barrelman.engine.compile import Predicate
from barrelman.records.ecs import ecs_document
from barrelman.records.event import Event, JsonObject
from barrelman.records.frozen import frozen
from barrelman.records.paths import Scalar
from barrelman.records.times import format_instant
from barrelman.rules.rule import Rule

Enrich: TypeAlias = Callable[[Event, int], list[JsonObject]]

_RUN_NAMESPACE: Final = uuid.UUID("5c0f2f0e-9a0e-4f5a-8a52-6a1f0b1d7e11")
_BLOCK: Final[JsonObject] = {"kibana.alert.building_block_type": "default"}


@frozen
class Alert:
    """The document to write, and what a table needs of it. `reasons` are field and value pairs.

    `event`: of a shell the first of its events, of a threshold the one that stands for its group.
    """

    document: JsonObject
    event: Event
    severity: str
    rule_name: str
    reasons: list[tuple[str, Scalar]]
    is_block: bool = False
    """One event of a sequence: the alert of the whole comes behind those of its events."""

    @property
    def id(self) -> str:
        identity: str = self.document["kibana.alert.uuid"]
        return identity


@frozen
class _Making:
    """When and for whom an alert is made."""

    tick_ms: int
    created: str
    is_manual: bool
    public_url: str | None


@frozen
class _Told:
    """What differs from alert to alert of one rule and run."""

    identity: str
    source: JsonObject
    lineage: JsonObject
    reason: str
    severity: str
    risk_score: float
    rule_name: str
    more: JsonObject
    severity_field: str | None = None


class AlertBuilder:
    """Builds the alerts of one rule; what all of them share is made once.

    `enrich` gives, for the rules that match indicators, those that an event met at a time.
    """

    def __init__(
        self,
        rule: Rule,
        predicate: Predicate,
        *,
        redacted: bool = True,
        enrich: Enrich | None = None,
    ) -> None:
        self._rule = rule
        self._predicate = predicate
        self._redacted = redacted
        self._enrich = enrich

    @cached_property
    def _rule_copy(self) -> JsonObject:
        return rule_copy(self._rule)

    def build(
        self,
        raised: Raised,
        *,
        created_ms: int | None = None,
        is_manual: bool = False,
        public_url: str | None = None,
    ) -> Alert:
        """The alert of one match; equal input gives equal bytes, whenever it is built.

        A service says when it `created` the alert; in a replay that is the run's own time. Of a
        sequence it is the shell.
        """
        return self.build_all(
            raised, created_ms=created_ms, is_manual=is_manual, public_url=public_url
        )[-1]

    def build_all(
        self,
        raised: Raised,
        *,
        created_ms: int | None = None,
        is_manual: bool = False,
        public_url: str | None = None,
    ) -> list[Alert]:
        """As `build`; of a sequence, one alert for each of its events, and the shell behind them.

        Only the shell counts as an alert: the blocks below it are never without it.
        """
        created = format_instant(raised.tick_ms if created_ms is None else created_ms)
        making = _Making(raised.tick_ms, created, is_manual, public_url)
        if isinstance(raised.about, SequenceOf):
            return self._sequence(raised, making)
        if isinstance(raised.about, ThresholdResult):
            return [self._threshold(raised, raised.about, making)]
        return [self._single(raised, making)]

    # --- the kinds of alerts ---

    def _single(self, raised: Raised, making: _Making) -> Alert:
        event, seen = raised.event, self._seen(raised.event)
        source = source_of(seen.shown, making.created)
        reasons = self._reasons(event, seen, making)
        more: JsonObject = {}
        if self._enrich is not None:
            enrichments = self._enrich(event, making.tick_ms)
            source = with_enrichments(source, enrichments, seen)
            reasons = [*indicator_reasons(enrichments, seen), *reasons]
        if isinstance(raised.about, NewTerms):
            names = self._rule.new_terms_fields
            more = new_terms_fields(raised.about, names, seen)
            terms = zip(names, more["kibana.alert.new_terms"], strict=True)
            reasons = [*((f"new {name}", value) for name, value in terms), *reasons]
        source |= originals_of(seen.shown, event)
        return self._overridden(raised, seen, source, making, more=more, reasons=reasons)

    def _threshold(self, raised: Raised, about: ThresholdResult, making: _Making) -> Alert:
        """Its event is made up of what the group's events have in common."""
        index = ",".join(self._rule.index or ())
        event = threshold_event(about, alert_id=raised.alert_id, index=index)
        seen = self._seen(event, is_made_up=True)
        source = source_of(seen.shown, making.created) | originals_of(seen.shown, event)
        more = threshold_fields(about, seen)
        reasons: list[tuple[str, Scalar]] = [("events", about.count)]
        reasons += ((f"different {name}", number) for name, number in about.cardinality)
        reasons += ((name, seen.safe(name, value)) for name, value in about.terms)
        raised = replace(raised, event=event)
        return self._overridden(raised, seen, source, making, more=more, reasons=reasons)

    def _overridden(
        self,
        raised: Raised,
        seen: Seen,
        source: JsonObject,
        making: _Making,
        *,
        more: JsonObject,
        reasons: list[tuple[str, Scalar]],
    ) -> Alert:
        """An alert about one event, which may have a say in its severity, score and name."""
        rule, event = self._rule, raised.event
        severity, severity_field = severity_of(rule, seen.original)
        rule_name = name_of(rule, seen.shown)
        made_up = isinstance(raised.about, ThresholdResult)
        told = _Told(
            raised.alert_id,
            source,
            lineage_of({} if made_up else seen.original, event),
            reason_text(seen.shown, severity=severity, rule_name=rule_name),
            severity,
            risk_score_of(rule, seen.original),
            rule_name,
            more | _folded(raised, seen),
            severity_field,
        )
        document = self._document(told, making, last_detected_ms=_last_detected_ms(raised))
        reasons = _repeated(raised) + reasons
        return Alert(document, event, severity, rule_name, reasons)

    def _sequence(self, raised: Raised, making: _Making) -> list[Alert]:
        """Blocks and shell take nothing from their events but fields: no override applies."""
        rule = self._rule
        seen = [self._seen(event) for event in raised.events]
        sources: list[JsonObject] = []
        ancestors: list[Any] = []
        depths: list[int] = []
        alerts: list[Alert] = []
        group = {"kibana.alert.group.id": raised.alert_id}
        for number, (event, each) in enumerate(zip(raised.events, seen, strict=True)):
            source = source_of(each.shown, making.created) | originals_of(each.shown, event)
            sources.append(source)
            block = _BLOCK | group | {"kibana.alert.group.index": number}
            told = self._plain(
                block_id(raised.alert_id, number),
                source,
                lineage_of(each.original, event),
                reason_text(each.shown, severity=rule.severity, rule_name=rule.name),
                block,
            )
            document = self._document(told, making)
            reasons = self._reasons(event, each, making)
            alerts.append(Alert(document, event, rule.severity, rule.name, reasons, is_block=True))
            # As the parent of the shell, a block is an alert as any other.
            lineage = lineage_of(document, Event(document, is_document=True))
            ancestors += lineage["kibana.alert.ancestors"]
            depths.append(lineage["kibana.alert.depth"])
        lineage = {"kibana.alert.ancestors": ancestors, "kibana.alert.depth": max(depths)}
        source = _shell_source(sources)
        told = self._plain(
            raised.alert_id,
            source,
            lineage,
            reason_text(_of_event(source), severity=rule.severity, rule_name=rule.name),
            group | _folded(raised, seen[0]),
        )
        document = self._document(told, making, last_detected_ms=_last_detected_ms(raised))
        found = dict.fromkeys(pair for alert in alerts for pair in alert.reasons)
        reasons = [*_repeated(raised), ("events", len(alerts)), *found]
        alerts.append(Alert(document, raised.events[0], rule.severity, rule.name, reasons))
        return alerts

    def _plain(
        self, identity: str, source: JsonObject, lineage: JsonObject, reason: str, more: JsonObject
    ) -> _Told:
        rule = self._rule
        return _Told(
            identity, source, lineage, reason, rule.severity, rule.risk_score, rule.name, more
        )

    # --- what all of them have ---

    def _document(
        self, told: _Told, making: _Making, *, last_detected_ms: int | None = None
    ) -> JsonObject:
        rule, created = self._rule, making.created
        tick = format_instant(making.tick_ms)
        last = created if last_detected_ms is None else format_instant(last_detected_ms)
        document = told.source | {
            "kibana.space_ids": ["default"],
            "kibana.alert.uuid": told.identity,
            "kibana.alert.status": "active",
            "kibana.alert.workflow_status": "open",
            "kibana.alert.workflow_tags": [],
            "kibana.alert.workflow_assignee_ids": [],
            **told.lineage,
            "kibana.alert.reason": told.reason,
            "kibana.alert.severity": told.severity,
            "kibana.alert.risk_score": told.risk_score,
            "kibana.alert.start": created,
            "kibana.alert.last_detected": last,
            "kibana.alert.intended_timestamp": tick if making.is_manual else created,
            "kibana.alert.maintenance_window_ids": [],
            "kibana.alert.rule.execution.uuid": run_id(rule.rule_id, making.tick_ms),
            "kibana.alert.rule.execution.timestamp": created,
            "kibana.alert.rule.execution.type": "manual" if making.is_manual else "scheduled",
        }
        if making.public_url is not None:
            document["kibana.alert.url"] = f"{making.public_url}/alerts/{told.identity}"
        document |= self._rule_copy
        document |= told.more
        document["kibana.alert.rule.name"] = told.rule_name
        if told.severity_field is not None:
            meta = document.get("kibana.alert.rule.meta", {})
            field = {"severityOverrideField": told.severity_field}
            document["kibana.alert.rule.meta"] = meta | field
        return document

    def _seen(self, event: Event, *, is_made_up: bool = False) -> Seen:
        original = ecs_document(event)
        if not self._redacted:
            return Seen(original, original)
        return Seen(original, redact(original, is_made_up=is_made_up))

    def _reasons(self, event: Event, seen: Seen, making: _Making) -> list[tuple[str, Scalar]]:
        found = self._predicate.explain(event, now_ms=making.tick_ms)
        return [(name, seen.safe(name, value)) for name, value in found]


def run_id(rule_id: str, tick_ms: int) -> str:
    """The id of a rule's run at that time: one and the same whoever counts an alert to it."""
    return str(uuid.uuid5(_RUN_NAMESPACE, f"{rule_id} {tick_ms}"))


def _shell_source(sources: list[JsonObject]) -> JsonObject:
    """What the events of a sequence have in common; the time is that of the first."""
    common = shared(sources)
    first = sources[0].get(ORIGINAL_TIME)
    if first is not None:
        common[ORIGINAL_TIME] = first
    return common


def _of_event(source: JsonObject) -> JsonObject:
    return {key: value for key, value in source.items() if not key.startswith("kibana.")}


def _folded(raised: Raised, seen: Seen) -> JsonObject:
    return {} if raised.suppression is None else suppression_fields(raised.suppression, seen)


def _last_detected_ms(raised: Raised) -> int | None:
    return None if raised.suppression is None else raised.suppression.last_detected_ms


def _repeated(raised: Raised) -> list[tuple[str, Scalar]]:
    if raised.suppression is None or not raised.suppression.docs_count:
        return []
    return [("repeats", raised.suppression.docs_count)]
