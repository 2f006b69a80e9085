"""A search over alerts: read, checked, and answered while the alerts stream by.

Only the ids of the first hits and the buckets are held, however many alerts there are; the hits'
documents are fetched at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from barrelman.engine.compile import compile_query
from barrelman.errors import RequestError, RequestShapeError
from barrelman.query.ast import MATCH_ALL, Node
from barrelman.records.event import Event
from barrelman.records.frozen import frozen
from barrelman.service.aggregations import parse_aggregations
from barrelman.service.aggspec import Purse, Start, State
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
from barrelman.store.alerts import StoredAlert

if TYPE_CHECKING:
    from barrelman.store.database import Connection

JsonObject: TypeAlias = dict[str, Any]
Clusters: TypeAlias = Collection[str] | None

BACKING_INDEX: Final = ".internal.alerts-security.alerts-default-000001"
SEARCH_MEMBERS: Final = (
    *("query", "aggs", "size", "from", "sort", "search_after", "_source", "fields"),
    "track_total_hits",
)
"""What a search may have, beside what changes nothing."""
_KNOWN: Final = frozenset((*SEARCH_MEMBERS, "aggregations", "runtime_mappings", "timeout"))
_MOST_BYTES: Final = 64 * 1024 * 1024
"""How large the documents of all hits may be together, where no part of them is chosen."""


@frozen
class Search:
    """A search, read and checked."""

    node: Node
    size: int
    skipped: int
    keys: tuple[SortKey, ...]
    after: tuple[Any, ...]
    total_limit: int | None
    """Up to where hits are counted; None: all of them."""
    has_total: bool
    picks_all: bool
    pick: Callable[[JsonObject], JsonObject] | None
    fields: Callable[[JsonObject], JsonObject] | None
    start: Start
    has_aggregations: bool

    @property
    def is_by_time(self) -> bool:
        """Whether hits are wanted in the order in which alerts are stored."""
        names = [key.field for key in self.keys if key.read is not None]
        return names == ["@timestamp"] and len(self.keys) == 1 and not self.after


def matching(
    connection: Connection,
    node: Node,
    *,
    now_ms: int,
    clusters: Clusters,
    newest_first: bool = True,
) -> Iterator[tuple[StoredAlert, JsonObject]]:
    """Alerts that a query holds of, by the time of their making, with their documents."""
    predicate = compile_query(node, ALERT_CATALOGUE)
    bounds = bounds_of(node, now_ms=now_ms)
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
        document = _document(alert)
        event = Event(document, is_document=True)
        if node == MATCH_ALL or predicate.matches(event, now_ms=now_ms):
            yield alert, document


def _document(alert: StoredAlert) -> JsonObject:
    document = alert.merged()
    document["_id"] = alert.id
    return document


class Running:
    """A search under way. `deadline`: when it ends with what it has, as `monotonic` tells time."""

    def __init__(self, wanted: Search, *, now_ms: int, clusters: Clusters, deadline: float) -> None:
        self._wanted = wanted
        self._now_ms = now_ms
        self._clusters = clusters
        self._deadline = deadline
        self._top = Top(
            wanted.skipped + wanted.size,
            wanted.keys,
            after=wanted.after,
            come_sorted=wanted.is_by_time,
        )
        self._state: State = wanted.start()
        self._total = 0
        self._is_late = False

    def run(self, connection: Connection) -> JsonObject:
        """Looks through the alerts, and answers as Elasticsearch does."""
        began = monotonic()
        self._look(connection)
        hits = self._hits(connection)
        answer: JsonObject = {
            "took": int((monotonic() - began) * 1000),
            "timed_out": self._is_late,
            "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
            "hits": {"max_score": None, "hits": hits},
        }
        if self._wanted.has_total:
            limit = self._wanted.total_limit
            is_over = limit is not None and self._total > limit
            answer["hits"]["total"] = {
                "value": limit if is_over else self._total,
                "relation": "gte" if is_over or self._is_late else "eq",
            }
        if self._wanted.has_aggregations:
            answer["aggregations"] = self._state.result()
        return answer

    def _look(self, connection: Connection) -> None:
        wanted, limit = self._wanted, self._wanted.total_limit
        for alert, document in matching(
            connection,
            wanted.node,
            now_ms=self._now_ms,
            clusters=self._clusters,
            newest_first=not wanted.is_by_time or wanted.keys[0].is_descending,
        ):
            self._total += 1
            self._state.add(document)
            self._top.offer(document, alert.id)
            is_counted = limit is not None and self._total > limit
            if is_counted and self._top.is_settled and not wanted.has_aggregations:
                return
            if monotonic() > self._deadline:
                self._is_late = True
                return

    def _hits(self, connection: Connection) -> list[JsonObject]:
        wanted = self._wanted
        found = self._top.result()[wanted.skipped :]
        hits: dict[str, JsonObject] = {}
        held = 0
        for alert in table.select(connection, ids=[name for _, name in found]):
            if wanted.picks_all:
                held += len(alert.document)
            if held > _MOST_BYTES:
                raise RequestError(
                    f"the documents of these hits are larger than {_MOST_BYTES} bytes",
                    hint="ask for fewer hits, or for parts of them with _source",
                )
            document = _document(alert)
            hit = hit_of(document, wanted.pick)
            if wanted.fields is not None:
                hit["fields"] = wanted.fields(document)
            hits[alert.id] = hit
        return [
            {**hits[name], "sort": values} if values else hits[name]
            for values, name in found
            if name in hits
        ]


def hit_of(document: JsonObject, pick: Callable[[JsonObject], JsonObject] | None) -> JsonObject:
    """A document as a hit; `pick` None: without its source."""
    hit: JsonObject = {"_index": BACKING_INDEX, "_id": document["_id"], "_score": None}
    if pick is not None:
        hit["_source"] = pick({name: value for name, value in document.items() if name != "_id"})
    return hit


def parse_search(body: object, purse: Purse) -> Search:
    if not isinstance(body, dict):
        raise RequestShapeError("[request body]: expected an object")
    given: JsonObject = body
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
    return Search(
        node=MATCH_ALL if query is None else parse_query(query),
        size=size,
        skipped=skipped,
        keys=tuple(keys),
        after=tuple(after),
        total_limit=limit,
        has_total=has_total,
        picks_all=given.get("_source") in (None, True),
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
