"""Alerts as people work with them: searched, and their status, tags and assignees changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from barrelman.engine.compile import compile_query
from barrelman.errors import RequestError, RequestShapeError
from barrelman.query.ast import MATCH_ALL, Node
from barrelman.records.event import Event
from barrelman.records.frozen import frozen
from barrelman.rules.schema import describe_value
from barrelman.service.aggregations import Purse, Start, parse_aggregations
from barrelman.service.dsl import ALERT_CATALOGUE, bounds_of, parse_query
from barrelman.service.hits import (
    MOST_HITS,
    SortKey,
    Top,
    parse_fields,
    parse_sort,
    parse_source,
)
from barrelman.store import alerts as table
from barrelman.store import audit
from barrelman.store.alerts import StoredAlert
from barrelman.store.database import Database

if TYPE_CHECKING:
    from barrelman.store.database import Connection

JsonObject: TypeAlias = dict[str, Any]
Clusters: TypeAlias = Collection[str] | None

INDEX: Final = ".alerts-security.alerts-default"
BACKING_INDEX: Final = ".internal.alerts-security.alerts-default-000001"
_STATUSES: Final = {
    "open": "open",
    "acknowledged": "acknowledged",
    "in-progress": "acknowledged",
    "closed": "closed",
}
SEARCH_MEMBERS: Final = (
    *("query", "aggs", "size", "from", "sort", "search_after", "_source", "fields"),
    "track_total_hits",
)
"""What a search may have, beside what changes nothing."""
_KNOWN: Final = frozenset((*SEARCH_MEMBERS, "aggregations", "runtime_mappings", "timeout"))
_MOST_IDS: Final = 10_000
_NAMED_IN_AUDIT: Final = 20


@frozen
class _Search:
    """A search, read and checked."""

    node: Node
    size: int
    skipped: int
    keys: tuple[SortKey, ...]
    after: tuple[Any, ...]
    total_limit: int | None
    """Up to where hits are counted; None: all of them."""
    has_total: bool
    pick: Callable[[JsonObject], JsonObject] | None
    fields: Callable[[JsonObject], JsonObject] | None
    start: Start
    has_aggregations: bool

    @property
    def is_by_time(self) -> bool:
        """Whether hits are wanted in the order in which alerts are stored."""
        names = [key.field for key in self.keys if key.read is not None]
        return names == ["@timestamp"] and len(self.keys) == 1 and not self.after


class AlertDesk:
    """`clusters` of a call bound what it sees and changes; None is all."""

    def __init__(self, database: Database, *, clock: Callable[[], int]) -> None:
        self.database = database
        self.clock = clock

    # --- searching ---

    def search(self, body: object, *, clusters: Clusters = None) -> JsonObject:
        """Answers a search in the query DSL. Raises RequestError naming what is not answered.

        Alerts stream by: only the first hits and the buckets are held, whatever their number.
        """
        began = monotonic()
        now_ms = self.clock() // 1000
        purse = Purse(_hit, now_ms=now_ms)
        wanted = _parse_search(body, purse)
        top = Top(
            wanted.skipped + wanted.size,
            wanted.keys,
            after=wanted.after,
            come_sorted=wanted.is_by_time,
        )
        state = wanted.start()
        total = 0
        newest_first = not wanted.is_by_time or wanted.keys[0].is_descending
        for alert, document in self._matching(
            wanted.node, now_ms, clusters, newest_first=newest_first
        ):
            total += 1
            state.add(document)
            top.offer(document, (alert.id, document))
            counted = wanted.total_limit is not None and total > wanted.total_limit
            if counted and top.is_settled and not wanted.has_aggregations:
                break
        hits = [_found(document, values, wanted) for values, (_, document) in top.result()][
            wanted.skipped :
        ]
        answer: JsonObject = {
            "took": int((monotonic() - began) * 1000),
            "timed_out": False,
            "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
            "hits": {"max_score": None, "hits": hits},
        }
        if wanted.has_total:
            limit = wanted.total_limit
            is_over = limit is not None and total > limit
            answer["hits"]["total"] = {
                "value": limit if is_over else total,
                "relation": "gte" if is_over else "eq",
            }
        if wanted.has_aggregations:
            answer["aggregations"] = state.result()
        return answer

    def _matching(
        self, node: Node, now_ms: int, clusters: Clusters, *, newest_first: bool = True
    ) -> Iterator[tuple[StoredAlert, JsonObject]]:
        """Alerts that a query holds of, by the time of their making, with their documents."""
        predicate = compile_query(node, ALERT_CATALOGUE)
        bounds = bounds_of(node, now_ms=now_ms)
        with self.database.reading() as connection:
            for alert in table.select(
                connection,
                ids=bounds.ids,
                created_us=bounds.created_us,
                rule_uuids=bounds.rule_uuids,
                rule_ids=bounds.rule_ids,
                severities=bounds.severities,
                statuses=bounds.statuses,
                clusters=clusters,
                newest_first=newest_first,
            ):
                document = alert.merged()
                document["_id"] = alert.id
                if node == MATCH_ALL or predicate.matches(
                    Event(document, is_document=True), now_ms=now_ms
                ):
                    yield alert, document

    # --- changing ---

    def set_status(self, body: object, *, by: str, clusters: Clusters = None) -> JsonObject:
        """Opens, acknowledges or closes alerts, named by their ids or found by a query."""
        given = _object(body)
        status = given.get("status")
        if not isinstance(status, str) or status not in _STATUSES:
            found = describe_value(status)
            raise RequestShapeError(
                f"[request body]: status: expected one of {', '.join(_STATUSES)}, found {found}"
            )
        reason = given.get("reason")
        if not isinstance(reason, str | None):
            raise RequestShapeError("[request body]: reason: expected a text")
        if given.get("signal_ids") is not None:
            ids = _ids(given["signal_ids"], "signal_ids")
        elif given.get("query") is not None:
            ids = self._found_ids(given["query"], clusters)
        else:
            raise RequestShapeError("[request body]: expected signal_ids or query")
        status = _STATUSES[status]
        return self._change(
            ids,
            by=by,
            clusters=clusters,
            detail={"status": status, **({"reason": reason} if reason else {})},
            status=status,
            reason=reason if status == "closed" else None,
        )

    def set_tags(self, body: object, *, by: str, clusters: Clusters = None) -> JsonObject:
        """Adds and removes tags."""
        given = _object(body)
        add, remove = _both(given, "tags", "tags_to_add", "tags_to_remove")
        return self._change(
            _ids(given.get("ids"), "ids"),
            by=by,
            clusters=clusters,
            detail={"tags_added": add, "tags_removed": remove},
            add_tags=add,
            remove_tags=remove,
        )

    def set_assignees(self, body: object, *, by: str, clusters: Clusters = None) -> JsonObject:
        """Adds and removes the people who see to alerts."""
        given = _object(body)
        add, remove = _both(given, "assignees", "add", "remove")
        return self._change(
            _ids(given.get("ids"), "ids"),
            by=by,
            clusters=clusters,
            detail={"assigned": add, "unassigned": remove},
            add_assignees=add,
            remove_assignees=remove,
        )

    def _found_ids(self, query: object, clusters: Clusters) -> list[str]:
        node = parse_query(query)
        found = self._matching(node, self.clock() // 1000, clusters)
        return [alert.id for alert, _ in found]

    def _change(
        self,
        ids: Sequence[str],
        *,
        by: str,
        clusters: Clusters,
        detail: JsonObject,
        **changes: Any,
    ) -> JsonObject:
        began = monotonic()
        at_us = self.clock()

        def run(connection: Connection) -> tuple[int, int]:
            seen = _seen(connection, ids, clusters)
            changed = table.change(connection, seen, by=by, at_us=at_us, **changes)
            if changed:
                named = {"alerts": len(changed), "ids": changed[:_NAMED_IN_AUDIT]}
                audit.note(
                    connection,
                    at_us=at_us,
                    by=by,
                    action="alerts changed",
                    target=changed[0] if len(changed) == 1 else "alerts",
                    detail={**detail, **named},
                )
            return len(seen), len(changed)

        total, changed = self.database.write(run)
        return _updated(total, changed, took_ms=int((monotonic() - began) * 1000))


def _seen(connection: Connection, ids: Sequence[str], clusters: Clusters) -> list[str]:
    """Those of the ids that there are, as far as the caller may see them."""
    if clusters is None:
        known = table.known(connection, ids)
    else:
        chosen = table.select(connection, ids=ids, clusters=clusters)
        known = {alert.id for alert in chosen}
    return [each for each in dict.fromkeys(ids) if each in known]


def _updated(total: int, changed: int, *, took_ms: int) -> JsonObject:
    return {
        "took": took_ms,
        "timed_out": False,
        "total": total,
        "updated": changed,
        "deleted": 0,
        "batches": 1 if total else 0,
        "version_conflicts": 0,
        "noops": total - changed,
        "retries": {"bulk": 0, "search": 0},
        "throttled_millis": 0,
        "requests_per_second": -1,
        "throttled_until_millis": 0,
        "failures": [],
    }


# --- reading requests ----------------------------------------------------------------------


def _object(body: object) -> JsonObject:
    if not isinstance(body, dict):
        raise RequestShapeError("[request body]: expected an object")
    return body


def _ids(given: object, name: str) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise RequestShapeError(f"[request body]: {name}: expected a list of texts")
    if not given:
        raise RequestShapeError(f"[request body]: {name}: expected at least one id")
    if len(given) > _MOST_IDS:
        raise RequestShapeError(f"[request body]: {name}: more than {_MOST_IDS} ids")
    return given


def _both(given: JsonObject, name: str, added: str, removed: str) -> tuple[list[str], list[str]]:
    pair = given.get(name)
    lists = []
    for part in (added, removed):
        values = pair.get(part, []) if isinstance(pair, dict) else None
        if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
            raise RequestShapeError(f"[request body]: {name}.{part}: expected a list of texts")
        lists.append(values)
    twice = sorted(set(lists[0]) & set(lists[1]))
    if twice:
        raise RequestError(f"{name}: {', '.join(twice)} cannot be both added and removed")
    return lists[0], lists[1]


def _parse_search(body: object, purse: Purse) -> _Search:
    given = _object(body)
    if not given:
        raise RequestShapeError('[request body]: "value" must have at least 1 children')
    left = sorted(set(given) - _KNOWN)
    if left:
        raise RequestError(f"'{left[0]}' is not answered here")
    if given.get("runtime_mappings"):
        raise RequestError("'runtime_mappings' are not answered here")
    size, skipped = _number(given, "size", 10), _number(given, "from", 0)
    if size + skipped > MOST_HITS:
        raise RequestError(
            f"from + size must be at most {MOST_HITS}: it is {size + skipped}",
            hint="go on with search_after",
        )
    keys = parse_sort(given.get("sort"))
    after = given.get("search_after") or ()
    if after and (not isinstance(after, list) or len(after) != len(keys)):
        raise RequestError("search_after: expected as many values as 'sort' has fields")
    limit, has_total = _parse_total(given.get("track_total_hits"))
    specs = given.get("aggs", given.get("aggregations"))
    query = given.get("query")
    return _Search(
        node=MATCH_ALL if query is None else parse_query(query),
        size=size,
        skipped=skipped,
        keys=tuple(keys),
        after=tuple(after),
        total_limit=limit,
        has_total=has_total,
        pick=parse_source(given.get("_source")),
        fields=parse_fields(given.get("fields")),
        start=parse_aggregations(specs, purse=purse),
        has_aggregations=bool(specs),
    )


def _number(given: JsonObject, name: str, default: int) -> int:
    value = given.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RequestShapeError(f"[request body]: {name}: expected a whole number from 0")
    return value


def _parse_total(given: object) -> tuple[int | None, bool]:
    if given is None:
        return MOST_HITS, True
    if isinstance(given, bool):
        return (None, True) if given else (0, False)
    if not isinstance(given, int) or given < 0:
        raise RequestShapeError(
            "[request body]: track_total_hits: expected a number, true or false"
        )
    return given, True


# --- hits ----------------------------------------------------------------------------------


def _hit(document: JsonObject, pick: Callable[[JsonObject], JsonObject] | None) -> JsonObject:
    hit: JsonObject = {"_index": BACKING_INDEX, "_id": document["_id"], "_score": None}
    if pick is not None:
        source = {name: value for name, value in document.items() if name != "_id"}
        hit["_source"] = pick(source)
    return hit


def _found(document: JsonObject, values: list[Any], wanted: _Search) -> JsonObject:
    hit = _hit(document, wanted.pick)
    if wanted.fields is not None:
        hit["fields"] = wanted.fields(document)
    if values:
        hit["sort"] = values
    return hit
