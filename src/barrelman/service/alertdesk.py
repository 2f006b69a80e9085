"""Alerts as people work with them: searched, and their status, tags and assignees changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from barrelman.errors import RequestError, RequestShapeError
from barrelman.rules.schema import describe_value
from barrelman.service.aggspec import Purse
from barrelman.service.alertsearch import Clusters, Running, hit_of, matching, parse_search
from barrelman.service.dsl import parse_query
from barrelman.store import alerts as table
from barrelman.store import audit
from barrelman.store.database import Database

if TYPE_CHECKING:
    from barrelman.store.database import Connection

JsonObject: TypeAlias = dict[str, Any]

INDEX: Final = ".alerts-security.alerts-default"
_STATUSES: Final = {
    "open": "open",
    "acknowledged": "acknowledged",
    "in-progress": "acknowledged",
    "closed": "closed",
}
_MOST_IDS: Final = 10_000
_NAMED_IN_AUDIT: Final = 20
_STEP: Final = 1_000


class AlertDesk:
    """`clusters` of a call bound what it sees and changes; None is all."""

    def __init__(
        self, database: Database, *, clock: Callable[[], int], most_seconds: float = 60.0
    ) -> None:
        """A search ends after `most_seconds` with what it has."""
        self.database = database
        self.clock = clock
        self._most_seconds = most_seconds

    # --- searching ---

    def search(self, body: object, *, clusters: Clusters = None) -> JsonObject:
        """Answers a search in the query DSL. Raises RequestError naming what is not answered.

        One that takes too long ends with what it has, and says so (`timed_out`).
        """
        now_ms = self.clock() // 1000
        wanted = parse_search(body, Purse(hit_of, now_ms=now_ms))
        deadline = monotonic() + self._most_seconds
        running = Running(wanted, now_ms=now_ms, clusters=clusters, deadline=deadline)
        return self.database.read(running.run)

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
        node, now_ms = parse_query(query), self.clock() // 1000
        return self.database.read(
            lambda connection: [
                alert.id
                for alert, _ in matching(connection, node, now_ms=now_ms, clusters=clusters)
            ]
        )

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
        total = changed = 0
        # In steps: what waits for the database meanwhile, alerts above all, comes between them.
        unique = list(dict.fromkeys(ids))
        for start in range(0, len(unique), _STEP):
            step = unique[start : start + _STEP]

            def run(connection: Connection) -> tuple[int, int]:
                seen = _seen(connection, step, clusters)  # noqa: B023
                done = table.change(connection, seen, by=by, at_us=at_us, **changes)
                if done:
                    _note(connection, done, detail, by=by, at_us=at_us)
                return len(seen), len(done)

            counts = self.database.write(run)
            total, changed = total + counts[0], changed + counts[1]
        return _updated(total, changed, took_ms=int((monotonic() - began) * 1000))


def _note(
    connection: Connection, changed: Sequence[str], detail: JsonObject, *, by: str, at_us: int
) -> None:
    named = {"alerts": len(changed), "ids": [*changed[:_NAMED_IN_AUDIT]]}
    audit.note(
        connection,
        at_us=at_us,
        by=by,
        action="alerts changed",
        target=changed[0] if len(changed) == 1 else "alerts",
        detail={**detail, **named},
    )


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
