"""Alerts, and what people made of them: status, tags, assignees, notes, each with its history."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypedDict, Unpack, cast

import sqlalchemy as sa

from barrelman.records.event import JsonObject
from barrelman.records.frozen import frozen
from barrelman.records.times import format_instant
from barrelman.store.database import BATCH, in_batches, insert_new, selecting, values_of
from barrelman.store.tables import alert_documents, alert_history, alert_notes, outbox
from barrelman.store.tables import alerts as table

Kind: TypeAlias = Literal["live", "scheduled", "catch-up", "manual", "gap", "watchdog"]
Status: TypeAlias = Literal["open", "acknowledged", "closed"]
CountedBy: TypeAlias = Literal["status", "severity", "rule_id", "rule_uuid", "cluster", "kind"]
Bounds: TypeAlias = tuple[int | None, int | None]

_STREAMED: Final = 200


@frozen
class NewAlert:
    """An alert as it is made. `document`: its JSON, without what people make of it later.

    `tick_ms`: the scheduled run that it belongs to, or that covers it when it came live.
    """

    id: str
    kind: Kind
    rule_uuid: str
    rule_id: str
    rule_name: str
    severity: str
    risk_score: float
    cluster: str
    tick_ms: int
    created_us: int
    event_time_us: int | None
    building_block: bool
    document: str
    _: KW_ONLY
    instance_id: str | None = None
    """What repeats of it are known by."""
    group_id: str | None = None
    """Of a sequence, the id of the alert on the whole; those on its events are not counted."""


@frozen
class StoredAlert(NewAlert):
    """An alert as it stands. The last change of its status was at `status_updated_us`."""

    status: Status
    status_updated_us: int | None
    status_by: str | None
    reason: str | None
    tags: list[str]
    assignees: list[str]

    def merged(self) -> JsonObject:
        """The document, with the fields of the workflow as they stand."""
        document: JsonObject = json.loads(self.document)
        document["kibana.alert.workflow_status"] = self.status
        document["kibana.alert.workflow_tags"] = self.tags
        document["kibana.alert.workflow_assignee_ids"] = self.assignees
        changed = None
        if self.status_updated_us is not None:
            changed = format_instant(self.status_updated_us // 1000)
        for name, value in (
            ("kibana.alert.workflow_status_updated_at", changed),
            ("kibana.alert.workflow_user", self.status_by),
            ("kibana.alert.workflow_reason", self.reason),
        ):
            if value is None:
                document.pop(name, None)
            else:
                document[name] = value
        return document


@frozen
class Change:
    """One entry of an alert's history: who changed what, from what to what.

    `what`: status, tags, assignees or note. `reason` comes with a status.
    """

    id: int
    alert_id: str
    at_us: int
    by: str
    what: str
    before: Any
    after: Any
    reason: str | None


@frozen
class Note:
    """What someone wrote about an alert."""

    id: int
    alert_id: str
    at_us: int
    by: str
    text: str


class _Place(NamedTuple):
    created_us: int
    id: str
    seq: int


class Filters(TypedDict, total=False):
    """What alerts are asked for; what is absent or None does not restrict. Bounds are inclusive."""

    ids: Collection[str] | None
    created_us: Bounds
    rule_uuids: Collection[str] | None
    rule_ids: Collection[str] | None
    severities: Collection[str] | None
    statuses: Collection[str] | None
    clusters: Collection[str] | None
    kinds: Collection[str] | None
    groups: Collection[str] | None
    building_block: bool | None


_COLUMNS: Final = [
    alert_documents.c.document if field.name == "document" else table.c[field.name]
    for field in dataclasses.fields(StoredAlert)
]
_IS_WHOLE: Final = sa.or_(table.c.group_id.is_(None), table.c.group_id == table.c.id)
_SELECTED: Final[sa.Select[*tuple[Any, ...]]] = sa.select(*_COLUMNS).join_from(
    table, alert_documents, alert_documents.c.alert_seq == table.c.seq
)
_HISTORY: Final = selecting(alert_history, Change)
_NOTES: Final = selecting(alert_notes, Note)
_UNTOUCHED: Final[JsonObject] = {"status": "open", "tags": [], "assignees": []}
_NAMED: Final[dict[str, sa.ColumnElement[str]]] = {
    "rule_uuids": table.c.rule_uuid,
    "rule_ids": table.c.rule_id,
    "severities": table.c.severity,
    "statuses": table.c.status,
    "clusters": table.c.cluster,
    "kinds": table.c.kind,
    "groups": table.c.group_id,
}


def add(connection: sa.Connection, alerts: Sequence[NewAlert]) -> list[str]:
    """Keeps alerts that are not known yet, and leaves the others alone.

    Gives the ids of the former, in their order; of two with one id, the first is kept.
    """
    added: list[str] = []
    unique: dict[str, NewAlert] = {}
    for alert in alerts:
        unique.setdefault(alert.id, alert)
    for batch in in_batches(unique.values()):
        rows = [{**values_of(alert), **_UNTOUCHED} for alert in batch]
        documents = {row["id"]: row.pop("document") for row in rows}
        new = dict(insert_new(connection, table, rows, key=["id"], give=["id", "seq"]))
        if new:
            kept = [{"alert_seq": seq, "document": documents[each]} for each, seq in new.items()]
            connection.execute(sa.insert(alert_documents), kept)
        added += [alert.id for alert in batch if alert.id in new]
    return added


def known(connection: sa.Connection, ids: Iterable[str]) -> set[str]:
    """Which of these ids there are."""
    found: set[str] = set()
    for batch in in_batches(ids):
        query = sa.select(table.c.id).where(table.c.id.in_(batch))
        found.update(connection.execute(query).scalars())
    return found


def get(connection: sa.Connection, id: str) -> StoredAlert | None:  # noqa: A002  # word of the API
    """The alert of this id."""
    row = connection.execute(_SELECTED.where(table.c.id == id)).first()
    return None if row is None else StoredAlert(**row._mapping)


def count_for_ticks(
    connection: sa.Connection,
    ticks: Iterable[tuple[str, int]],
    *,
    kinds: Collection[str] | None = ("live",),
) -> dict[tuple[str, int], int]:
    """How many alerts of these kinds belong to a rule (its id) and a tick; none where absent.

    A sequence counts once.
    """
    counts: dict[tuple[str, int], int] = {}
    key = (table.c.rule_uuid, table.c.tick_ms)
    for batch in in_batches(dict.fromkeys(ticks), size=BATCH // 2):
        query = sa.select(*key, sa.func.count()).where(sa.tuple_(*key).in_(batch), _IS_WHOLE)
        query = query.group_by(*key)
        if kinds is not None:
            query = query.where(table.c.kind.in_(kinds))
        for rule_uuid, tick_ms, number in connection.execute(query):
            counts[rule_uuid, tick_ms] = number
    return counts


def newest_instance(
    connection: sa.Connection, instance_id: str, *, rule_uuid: str, ticks_ms: tuple[int, int]
) -> StoredAlert | None:
    """The newest alert of a rule that repeats of this instance go to: one that is not closed.

    Only those of runs at these times, both included.
    """
    first_ms, last_ms = ticks_ms
    query = _SELECTED.where(
        table.c.instance_id == instance_id,
        table.c.rule_uuid == rule_uuid,
        table.c.tick_ms.between(first_ms, last_ms),
        table.c.status != "closed",
    )
    query = query.order_by(table.c.tick_ms.desc(), table.c.seq.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else StoredAlert(**row._mapping)


def rewrite(
    connection: sa.Connection,
    id: str,  # noqa: A002  # word of the API
    document: str,
) -> None:
    """Puts another document in the place of an alert's: what people made of it stays."""
    seq = sa.select(table.c.seq).where(table.c.id == id).scalar_subquery()
    connection.execute(
        sa.update(alert_documents)
        .where(alert_documents.c.alert_seq == seq)
        .values(document=document)
    )


def select(
    connection: sa.Connection,
    *,
    newest_first: bool = True,
    limit: int | None = None,
    after: tuple[int, str] | None = None,
    **filters: Unpack[Filters],
) -> Iterator[StoredAlert]:
    """Alerts in the order of their creation, taken one by one, whatever their number.

    `after`: created_us and id of the alert that a former selection of this order ended with.
    To change alerts, collect their ids first.
    """
    for batch in in_batches(
        _places(connection, newest_first=newest_first, limit=limit, after=after, filters=filters),
        size=_STREAMED,
    ):
        rows = connection.execute(_SELECTED.where(table.c.seq.in_([place.seq for place in batch])))
        found = {row.id: StoredAlert(**row._mapping) for row in rows}
        yield from (found[place.id] for place in batch)


def count(connection: sa.Connection, **filters: Unpack[Filters]) -> int:
    """How many alerts `select` would give."""
    query = sa.select(sa.func.count()).select_from(table)
    return sum(connection.execute(query.where(*wheres)).scalar_one() for wheres in _wheres(filters))


def tally(connection: sa.Connection, by: CountedBy, **filters: Unpack[Filters]) -> dict[str, int]:
    """How many alerts `select` would give, by the values of one column."""
    column = table.c[by]
    counts: dict[str, int] = {}
    for wheres in _wheres(filters):
        query = sa.select(column, sa.func.count()).where(*wheres).group_by(column)
        for value, number in connection.execute(query):
            counts[value] = counts.get(value, 0) + number
    return counts


def _places(
    connection: sa.Connection,
    *,
    newest_first: bool,
    limit: int | None,
    after: tuple[int, str] | None,
    filters: Filters,
) -> Iterator[_Place]:
    """Where the alerts stand. Only what is small is sorted, so that nothing large is held."""
    order = (table.c.created_us, table.c.id)
    query = sa.select(*order, table.c.seq).order_by(
        *(c.desc() if newest_first else c for c in order)
    )
    query = query.limit(limit)
    if after is not None:
        here, there = sa.tuple_(*order), sa.tuple_(*after)
        query = query.where(here < there if newest_first else here > there)
    queries = [query.where(*wheres) for wheres in _wheres(filters, is_ordered=True)]
    if len(queries) == 1:
        with connection.execute(queries[0], execution_options={"yield_per": BATCH}) as rows:
            yield from (_Place(*row) for row in rows)
    else:  # more ids than one statement may name: as many places as there are ids are held
        places = [_Place(*row) for each in queries for row in connection.execute(each)]
        places.sort(reverse=newest_first)
        yield from places[:limit]


def _wheres(
    filters: Filters, *, is_ordered: bool = False
) -> Iterator[list[sa.ColumnElement[bool]]]:
    """The conditions, once for each batch of ids."""
    low, high = filters.get("created_us", (None, None))
    wheres: list[sa.ColumnElement[bool]] = []
    if low is not None:
        wheres.append(table.c.created_us >= low)
    if high is not None:
        wheres.append(table.c.created_us <= high)
    for name, column in _NAMED.items():
        values = cast("Collection[str] | None", filters.get(name))
        if values is None:
            continue
        if is_ordered and name == "statuses" and len(values) > 1:
            # Together most alerts have these: an index would find them all, for all to be sorted.
            # An expression has none, and the first few are found by walking along their times.
            column = column.concat("")
        wheres.append(column.in_(sorted(values)))
    block = filters.get("building_block")
    if block is not None:
        wheres.append(table.c.building_block.is_(block))
    ids = filters.get("ids")
    if ids is None:
        yield wheres
    elif not ids:
        yield [sa.false()]
    else:
        for batch in in_batches(dict.fromkeys(ids)):
            yield [*wheres, table.c.id.in_(batch)]


def history(connection: sa.Connection, id: str) -> list[Change]:  # noqa: A002  # word of the API
    """What was changed of an alert, oldest first."""
    query = _HISTORY.where(alert_history.c.alert_id == id).order_by(alert_history.c.id)
    return [Change(*row) for row in connection.execute(query)]


def notes(connection: sa.Connection, id: str) -> list[Note]:  # noqa: A002  # word of the API
    """What was written about an alert, oldest first."""
    query = _NOTES.where(alert_notes.c.alert_id == id).order_by(alert_notes.c.id)
    return [Note(*row) for row in connection.execute(query)]


def prune(
    connection: sa.Connection, before_us: int, *, only_closed: bool = True, limit: int = 1_000
) -> int:
    """Forgets the oldest alerts made before an instant, with all that belongs to them.

    At most `limit` of them; gives how many. One that a sink still waits for is kept.
    """
    awaited = sa.exists().where(outbox.c.alert_id == table.c.id, outbox.c.done_us.is_(None))
    oldest = sa.select(table.c.id).where(table.c.created_us < before_us, ~awaited)
    if only_closed:
        oldest = oldest.where(table.c.status == "closed")
    oldest = oldest.order_by(table.c.created_us).limit(limit)
    return connection.execute(sa.delete(table).where(table.c.id.in_(oldest))).rowcount


def prune_history(connection: sa.Connection, before_us: int, *, limit: int = 10_000) -> int:
    """Forgets changes of closed alerts that were made before an instant; gives how many."""
    c = alert_history.c
    is_closed = sa.exists().where(table.c.id == c.alert_id, table.c.status == "closed")
    oldest = sa.select(c.id).where(c.at_us < before_us, is_closed).order_by(c.at_us).limit(limit)
    return connection.execute(sa.delete(alert_history).where(c.id.in_(oldest))).rowcount


def change(
    connection: sa.Connection,
    ids: Iterable[str],
    *,
    by: str,
    at_us: int,
    status: Status | None = None,
    reason: str | None = None,
    add_tags: Collection[str] = (),
    remove_tags: Collection[str] = (),
    add_assignees: Collection[str] = (),
    remove_assignees: Collection[str] = (),
    note: str | None = None,
) -> list[str]:
    """Changes alerts, and writes each change into their history; gives the ids that it changed.

    A status that an alert has already is no change, whatever the reason; a new one replaces the
    reason. Unknown ids are passed over.
    """
    wanted = _Wanted(
        by=by,
        at_us=at_us,
        status=status,
        reason=reason,
        tags=(add_tags, remove_tags),
        assignees=(add_assignees, remove_assignees),
        note=note,
    )
    changed: list[str] = []
    for batch in in_batches(dict.fromkeys(ids)):
        changed += _change_batch(connection, batch, wanted)
    return changed


class _Wanted(NamedTuple):
    by: str
    at_us: int
    status: Status | None
    reason: str | None
    tags: tuple[Collection[str], Collection[str]]
    assignees: tuple[Collection[str], Collection[str]]
    note: str | None


_WORKFLOW: Final = ("status", "status_updated_us", "status_by", "reason", "tags", "assignees")
_CURRENT: Final = sa.select(table.c.id, *(table.c[name] for name in _WORKFLOW))
_CHANGED: Final = (
    sa.update(table)
    .where(table.c.id == sa.bindparam("of"))
    .values({name: sa.bindparam(f"new_{name}") for name in _WORKFLOW})
)


def _change_batch(connection: sa.Connection, ids: Sequence[str], wanted: _Wanted) -> list[str]:
    current = {row.id: row for row in connection.execute(_CURRENT.where(table.c.id.in_(ids)))}
    changed: list[str] = []
    updates: list[JsonObject] = []
    entries: list[JsonObject] = []
    for each in ids:
        if each not in current:
            continue
        before = {name: getattr(current[each], name) for name in _WORKFLOW}
        after, made = _changed(before, wanted)
        if made:
            changed.append(each)
            entries += [
                {"alert_id": each, "at_us": wanted.at_us, "by": wanted.by, **entry}
                for entry in made
            ]
        if after != before:
            updates.append({"of": each, **{f"new_{name}": after[name] for name in _WORKFLOW}})
    if updates:
        connection.execute(_CHANGED, updates)
    if entries:
        connection.execute(sa.insert(alert_history), entries)
    if wanted.note is not None and changed:
        written = {"at_us": wanted.at_us, "by": wanted.by, "text": wanted.note}
        rows = [{"alert_id": each, **written} for each in changed]
        connection.execute(sa.insert(alert_notes), rows)
    return changed


def _changed(before: JsonObject, wanted: _Wanted) -> tuple[JsonObject, list[JsonObject]]:
    """The workflow as it is to be, and an entry of the history for each difference."""
    after = dict(before)
    made: list[JsonObject] = []
    if wanted.status is not None and wanted.status != before["status"]:
        after["status"] = wanted.status
        after["status_updated_us"] = wanted.at_us
        after["status_by"] = wanted.by
        after["reason"] = wanted.reason
        made.append(_entry("status", before["status"], wanted.status, wanted.reason))
    for name, (added, removed) in (("tags", wanted.tags), ("assignees", wanted.assignees)):
        gone = set(removed)
        kept = [each for each in dict.fromkeys([*before[name], *added]) if each not in gone]
        if kept != before[name]:
            after[name] = kept
            made.append(_entry(name, before[name], kept))
    if wanted.note is not None:
        made.append(_entry("note", None, wanted.note))
    return after, made


def _entry(what: str, before: Any, after: Any, reason: str | None = None) -> JsonObject:
    return {"what": what, "before": before, "after": after, "reason": reason}
