"""What is stored of an alert: its document, and what it is found by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from barrelman.detection.finding import Raised, ThresholdResult
from barrelman.detection.identity import act_mark, alert_id, id_of_other_act
from barrelman.detection.lineup import Watcher
from barrelman.engine.decode import dumps, shallow
from barrelman.records.event import Event, JsonObject
from barrelman.records.fields import event_time_us
from barrelman.store.alerts import NewAlert

if TYPE_CHECKING:
    from barrelman.detection.alert import Alert

Kind: TypeAlias = Literal["live", "scheduled", "catch-up", "manual", "gap"]

ACT: Final = "barrelman.act"
"""In an alert's document: a mark of the act that it is about."""
_BY_HAND: Final = ("manual", "gap")
_MOST_LEVELS: Final = 200
"""Of an alert's document; an event may nest deeper than what reads alerts can follow."""


def mark_of(raised: Raised) -> int | None:
    """What tells the act that an alert is about from another under the same Audit-ID.

    None where its id does: it is made of more than an event's.
    """
    return act_mark(raised.event) if raised.about is None else None


def key_of(raised: Raised, *, rule_id: str) -> str:
    """What later runs know a finding by, whatever id it got for those of others beside it."""
    mark = mark_of(raised)
    if mark is None:
        return raised.alert_id
    return id_of_other_act(alert_id(raised.event, rule_id), mark)


def alerts_of(
    watcher: Watcher,
    raised: Raised,
    *,
    kind: Kind,
    created_us: int,
    public_url: str | None,
    redacts: bool,
) -> list[NewAlert]:
    """One; of a sequence those on its events, and behind them the one that counts."""
    built = watcher.builder(redacts=redacts).build_all(
        raised,
        created_ms=created_us // 1000,
        is_manual=kind in _BY_HAND,
        public_url=public_url,
    )
    mark = mark_of(raised)
    cluster = _cluster(raised, built[-1])
    made = []
    for alert in built:
        document = alert.document if mark is None else alert.document | {ACT: mark}
        made.append(
            NewAlert(
                id=alert.id,
                kind=kind,
                rule_uuid=watcher.uuid,
                rule_id=watcher.rule.rule_id,
                rule_name=alert.rule_name,
                severity=alert.severity,
                risk_score=alert.document["kibana.alert.risk_score"],
                cluster=(alert.event.cluster or "") if alert.is_block else cluster,
                tick_ms=raised.tick_ms,
                created_us=created_us,
                event_time_us=event_time_us(alert.event),
                building_block=alert.is_block or bool(watcher.rule.building_block_type),
                document=written(document),
                instance_id=_instance_id(raised, alert),
                group_id=raised.alert_id if len(built) > 1 else None,
            )
        )
    return made


def written(document: JsonObject) -> str:
    """An alert's document as text."""
    return dumps(shallow(document, levels=_MOST_LEVELS)).decode()


def whole(alerts: Sequence[NewAlert]) -> list[NewAlert]:
    """Those that count: not the ones on single events of a sequence."""
    return [each for each in alerts if each.group_id is None or each.group_id == each.id]


def _cluster(raised: Raised, alert: Alert) -> str:
    """Of all its events; none where they come from several."""
    if isinstance(raised.about, ThresholdResult):
        return raised.about.cluster
    events: Sequence[Event] = raised.events or (alert.event,)
    clusters = {event.cluster or "" for event in events}
    return clusters.pop() if len(clusters) == 1 else ""


def _instance_id(raised: Raised, alert: Alert) -> str | None:
    if raised.suppression is None or alert.is_block:
        return None
    return raised.suppression.instance_id
