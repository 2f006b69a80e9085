"""What a rule's runs came to, in the words of an execution log."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from barrelman.errors import NotFoundError, RequestShapeError
from barrelman.records.frozen import frozen
from barrelman.records.times import format_instant
from barrelman.store import rules, runs
from barrelman.store.database import Database
from barrelman.store.runs import Run

if TYPE_CHECKING:
    from barrelman.store.database import Connection

JsonObject: TypeAlias = dict[str, Any]

_SORTS: Final = {
    "timestamp": "started_us",
    "duration_ms": "duration_ms",
    "total_search_duration_ms": "duration_ms",
    "search_duration_ms": "duration_ms",
    "schedule_delay_ms": "delay_ms",
    "security_status": "status",
    "num_new_alerts": "alerts",
    "num_active_alerts": "alerts",
}
_KINDS: Final = {"standard": ("scheduled", "catch-up"), "backfill": ("manual", "gap")}
_SECURITY: Final = ("succeeded", "partial failure", "failed", "running", "going to run")
_LEVELS: Final = {"failed": "error", "partial failure": "warn"}
_LEVEL_ORDER: Final = ("trace", "debug", "info", "warn", "error")


@frozen
class Asked:
    """What part of a log is wanted."""

    since_us: int | None = None
    until_us: int | None = None
    statuses: Collection[str] = ()
    kinds: Collection[str] = ()
    sort_field: str = "timestamp"
    newest_first: bool = True
    page: int = 1
    per_page: int = 20


class ExecutionDesk:
    """The execution log of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def results(self, rule_uuid: str, asked: Asked) -> JsonObject:
        """A page of runs, a row each."""
        found, total = self._find(rule_uuid, asked)
        return {"events": [_row(run) for run in found], "total": total}

    def events(self, rule_uuid: str, asked: Asked, *, levels: Collection[str] = ()) -> JsonObject:
        """A page of what the runs said: each its status, and how it fared."""
        unknown = [level for level in levels if level not in _LEVEL_ORDER]
        if unknown:
            expected = ", ".join(_LEVEL_ORDER)
            raise RequestShapeError(f"[request query]: log_levels: expected {expected}")
        statuses = None
        if levels:
            statuses = [each for each in _SECURITY if _LEVELS.get(each, "info") in levels]
        found, total = self._find(rule_uuid, asked, statuses=statuses)
        return {
            "events": [_event(run, number) for number, run in enumerate(found)],
            "pagination": {"page": asked.page, "per_page": asked.per_page, "total": total},
        }

    def _find(
        self, rule_uuid: str, asked: Asked, *, statuses: Collection[str] | None = None
    ) -> tuple[list[Run], int]:
        sort = _SORTS.get(asked.sort_field)
        if sort is None:
            raise RequestShapeError(
                f"[request query]: sort_field: expected one of {', '.join(_SORTS)}"
            )
        wanted = {_status(each) for each in asked.statuses} or None
        if statuses is not None:
            wanted = set(statuses) if wanted is None else wanted & set(statuses)
        kinds = [kind for each in asked.kinds for kind in _KINDS.get(each, ())]

        def run(connection: Connection) -> tuple[list[Run], int]:
            if rules.get(connection, id=rule_uuid) is None:
                raise NotFoundError(f'id: "{rule_uuid}" not found')
            bounds: dict[str, Any] = {
                "rule_uuid": rule_uuid,
                "since_us": asked.since_us,
                "until_us": asked.until_us,
                "statuses": wanted,
                "kinds": kinds or None,
            }
            found = runs.find(
                connection,
                **bounds,
                sort=sort,
                newest_first=asked.newest_first,
                limit=asked.per_page,
                offset=(asked.page - 1) * asked.per_page,
            )
            return found, runs.count(connection, **bounds)

        return self._database.read(run)


def _status(given: str) -> str:
    if given not in _SECURITY:
        expected = ", ".join(_SECURITY)
        raise RequestShapeError(f"[request query]: status_filters: expected {expected}")
    return given


def _row(run: Run) -> JsonObject:
    searching = run.metrics.get("total_search_duration_ms", 0)
    indexing = run.metrics.get("total_indexing_duration_ms", 0)
    row: JsonObject = {
        "execution_uuid": run.id,
        "timestamp": format_instant(run.started_us // 1000),
        "duration_ms": run.duration_ms,
        "status": "failure" if run.status == "failed" else "success",
        "message": run.message,
        "num_active_alerts": run.alerts,
        "num_new_alerts": run.alerts,
        "num_recovered_alerts": 0,
        "num_triggered_actions": 0,
        "num_succeeded_actions": 0,
        "num_errored_actions": 0,
        "total_search_duration_ms": searching,
        "es_search_duration_ms": searching,
        "schedule_delay_ms": run.delay_ms,
        "timed_out": False,
        "indexing_duration_ms": indexing,
        "search_duration_ms": searching,
        "gap_duration_s": run.metrics.get("execution_gap_duration_s", 0),
        "frozen_indices_queried_count": 0,
        "security_status": run.status,
        "security_message": run.message,
    }
    if run.kind in _KINDS["backfill"]:
        span = {"from": format_instant(run.from_ms), "to": format_instant(run.to_ms)}
        row["backfill"] = span
    return row


def _event(run: Run, number: int) -> JsonObject:
    return {
        "execution_id": run.id,
        "timestamp": format_instant((run.started_us + run.duration_ms * 1000) // 1000),
        "sequence": number,
        "level": _LEVELS.get(run.status, "info"),
        "type": "status-change",
        "message": f"{run.status}: {run.message}" if run.message else run.status,
    }
