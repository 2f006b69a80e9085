"""What an alert is about beside its event: new terms, a threshold, a sequence, folded repeats.

Values that stand here were read from events, and may be secrets there: what the masked event does
not show, no field beside it shows either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from barrelman.detection.finding import GroupValue, NewTerms, Suppression, ThresholdResult
from barrelman.detection.redact import MASK, redact_text
from barrelman.records.event import Event, JsonObject
from barrelman.records.paths import Path, Scalar
from barrelman.records.times import format_instant

_ENRICHMENTS: Final = "threat.enrichments"


class Seen:
    """An event's document as it is, and as it may be shown; one and the same where nothing is
    masked."""

    __slots__ = ("_shown_values", "original", "shown")

    def __init__(self, original: JsonObject, shown: JsonObject) -> None:
        self.original = original
        self.shown = shown
        self._shown_values: dict[str, frozenset[tuple[type, Scalar]] | None] = {}
        """By field, read once: an alert may be about thousands of its values. None: all of them
        are shown."""

    def safe(self, name: str, value: Scalar) -> Scalar:
        """A field's value, masked where the document that is shown masks it."""
        if self.shown is self.original:
            return value
        if name not in self._shown_values:
            self._shown_values[name] = self._read(name)
        shown = self._shown_values[name]
        if shown is None or (type(value), value) in shown:
            return value
        return _masked(value)

    def _read(self, name: str) -> frozenset[tuple[type, Scalar]] | None:
        """Where nothing was masked, a value is safe in whatever spelling a group has it."""
        path = Path(name)
        # To Python 1, 1.0 and True are one.
        shown = [(type(value), value) for value in path.values(self.shown)]
        original = [(type(value), value) for value in path.values(self.original)]
        return None if shown and shown == original else frozenset(shown)

    def safe_group(self, name: str, value: GroupValue) -> Scalar | list[Scalar] | None:
        """As `safe`, for a group's value: null, or a list."""
        if value is None:
            return None
        if isinstance(value, tuple):
            return [self.safe(name, each) for each in value]
        return self.safe(name, value)


def new_terms_fields(about: NewTerms, names: Sequence[str], seen: Seen) -> JsonObject:
    values = [seen.safe(name, value) for name, value in zip(names, about.values, strict=True)]
    return {"kibana.alert.new_terms": values}


def threshold_event(about: ThresholdResult, *, alert_id: str, index: str) -> Event:
    """The event that stands for a group's: its time is the last one's, its fields the group's."""
    body: JsonObject = dict(about.terms)
    body["@timestamp"] = format_instant(about.last_ms)
    return Event(
        body,
        is_document=True,
        cluster=about.cluster or None,
        index=index,
        document_id=alert_id,
    )


def threshold_fields(about: ThresholdResult, seen: Seen) -> JsonObject:
    result: JsonObject = {
        "count": about.count,
        "from": format_instant(about.from_ms),
        "terms": [{"field": name, "value": seen.safe(name, value)} for name, value in about.terms],
    }
    if about.cardinality:
        result["cardinality"] = [{"field": name, "value": n} for name, n in about.cardinality]
    return {"kibana.alert.threshold_result": result}


def suppression_fields(suppression: Suppression, seen: Seen) -> JsonObject:
    return {
        "kibana.alert.instance.id": suppression.instance_id,
        "kibana.alert.suppression.terms": [
            {"field": name, "value": seen.safe_group(name, value)}
            for name, value in suppression.terms
        ],
        "kibana.alert.suppression.start": format_instant(suppression.start_ms),
        "kibana.alert.suppression.end": format_instant(suppression.end_ms),
        "kibana.alert.suppression.docs_count": suppression.docs_count,
    }


def with_enrichments(
    source: JsonObject, enrichments: Sequence[JsonObject], seen: Seen
) -> JsonObject:
    """The fields of an alert with these indicators behind those that its event had already."""
    if not enrichments:
        return source
    added = [_masked_match(each, seen) for each in enrichments]
    threat = source.get("threat")
    if type(threat) is dict and _ENRICHMENTS not in source:
        # `threat` may hold the name in its own dotted way: what is below it, is one step.
        held = _as_list(threat.get("enrichments"))
        return source | {"threat": threat | {"enrichments": [*held, *added]}}
    if threat is None and _ENRICHMENTS not in source:
        return source | {"threat": {"enrichments": added}}
    return source | {_ENRICHMENTS: [*_as_list(source.get(_ENRICHMENTS)), *added]}


def indicator_reasons(enrichments: Sequence[JsonObject], seen: Seen) -> list[tuple[str, Scalar]]:
    """Which values of the event are those of indicators, each once."""
    found: dict[tuple[str, Scalar], None] = {}
    for each in enrichments:
        matched = each["matched"]
        name = str(matched["field"])
        found[f"indicator {name}", seen.safe(name, matched["atomic"])] = None
    return list(found)


def _masked_match(enrichment: JsonObject, seen: Seen) -> JsonObject:
    matched = enrichment.get("matched")
    if type(matched) is not dict or "atomic" not in matched:
        return enrichment
    atomic = seen.safe(str(matched.get("field")), matched["atomic"])
    return enrichment | {"matched": matched | {"atomic": atomic}}


def _as_list(value: object) -> list[object]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _masked(value: Scalar) -> str:
    return redact_text(value) if isinstance(value, str) and redact_text(value) != value else MASK
