"""Repeats into alerts that are there: by instance, for as long as their rule says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from barrelman.detection.finding import Finding, Suppression, ThresholdResult
from barrelman.detection.lineup import Watcher
from barrelman.detection.standing import fold
from barrelman.engine.decode import loads
from barrelman.records.event import JsonObject
from barrelman.records.times import format_instant, parse_instant_us
from barrelman.rules.rule import Rule
from barrelman.store import alerts as alerts_table
from barrelman.store.memories import Memory

if TYPE_CHECKING:
    from barrelman.store.database import Connection

_START: Final = "kibana.alert.suppression.start"
_END: Final = "kibana.alert.suppression.end"
_COUNT: Final = "kibana.alert.suppression.docs_count"
_LAST: Final = "kibana.alert.last_detected"
_COUNTING: Final = ("query", "saved_query", "threshold")


def counts_once(rule: Rule) -> bool:
    """Whether the rule counts events in groups, and each but once, whatever windows read it."""
    return rule.type in _COUNTING


def standing(
    connection: Connection, watcher: Watcher, folded: Suppression, *, tick_ms: int
) -> tuple[str, JsonObject] | None:
    """Id and document of the alert that repeats of a run go to, if there is one.

    Its time runs from the run that raised it, and repeats do not lengthen it; one that someone
    closed takes no more.
    """
    duration_ms = watcher.duration_ms
    if duration_ms is None:
        return None
    found = alerts_table.newest_instance(
        connection,
        folded.instance_id,
        rule_uuid=watcher.uuid,
        ticks_ms=(tick_ms - duration_ms, tick_ms),
    )
    return None if found is None else (found.id, loads(found.document))


def repeated(document: JsonObject, later: Suppression, *, now_ms: int) -> JsonObject | None:
    """An alert's document once these repeats are counted; None where they were."""
    kept = Suppression(
        (), later.instance_id, _ms(document, _START), _ms(document, _END), int(document[_COUNT])
    )
    folded = fold(kept, later, now_ms=now_ms)
    if folded is None:
        return None
    return document | {
        _END: format_instant(folded.end_ms),
        _COUNT: folded.docs_count,
        _LAST: format_instant(now_ms),
    }


def memory_of(watcher: Watcher, finding: Finding, *, tick_ms: int) -> Memory | None:
    """What later runs must know of a finding: up to when events of its group were counted."""
    if not counts_once(watcher.rule):
        return None
    about, folded = finding.about, finding.suppression
    if isinstance(about, ThresholdResult):
        return Memory(watcher.uuid, tick_ms, list(about.terms), about.last_ms)
    if folded is None:
        return None
    cluster = finding.groups[-1] if finding.groups else ""
    return Memory(watcher.uuid, tick_ms, list(folded.terms), folded.end_ms, str(cluster))


def _ms(document: JsonObject, name: str) -> int:
    instant_us = parse_instant_us(document[name])
    assert instant_us is not None, name  # an alert of ours
    return instant_us // 1000
