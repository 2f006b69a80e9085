"""Rules: one, many, found, acted on, imported, exported, tried out."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response
from starlette.routing import BaseRoute

from barrelman.errors import RequestShapeError
from barrelman.records.paths import Path
from barrelman.records.times import parse_instant_us
from barrelman.rules.schema import describe_value
from barrelman.server.access import check_role
from barrelman.server.kibana.calls import Call, JsonObject, answer, lines_answer, route
from barrelman.server.kibana.uploads import read_upload
from barrelman.service.rulebulk import BulkDesk, Outcome, parse_action
from barrelman.service.ruledesk import OPEN_GAPS, Query
from barrelman.service.ruleexport import Exporter, parse_objects
from barrelman.service.ruleimport import Importer, Options
from barrelman.service.ruleshape import check_props

_RULES: Final = "/api/detection_engine/rules"
_CLUSTER: Final = Path("orchestrator.cluster.name")


def _create(call: Call) -> JsonObject:
    made: JsonObject = call.service.rules.create(call.json(), by=call.by)
    return made


def _get(call: Call) -> JsonObject:
    found: JsonObject = call.service.rules.get(id=call.text("id"), rule_id=call.text("rule_id"))
    return found


def _replace(call: Call) -> JsonObject:
    made: JsonObject = call.service.rules.replace(call.json(), by=call.by)
    return made


def _patch(call: Call) -> JsonObject:
    made: JsonObject = call.service.rules.patch(call.json(), by=call.by)
    return made


def _delete(call: Call) -> JsonObject:
    gone: JsonObject = call.service.rules.delete(
        id=call.text("id"), rule_id=call.text("rule_id"), by=call.by
    )
    return gone


def _find(call: Call) -> JsonObject:
    start, end = call.text("gaps_range_start"), call.text("gaps_range_end")
    gaps = None
    if start is not None or end is not None:
        first, last = parse_instant_us(start), parse_instant_us(end)
        if first is None or last is None:
            raise RequestShapeError(
                "[request query]: gaps_range_start and gaps_range_end: expected two dates"
            )
        gaps = first // 1000, last // 1000
    query = Query(
        filter=call.text("filter") or "",
        sort_field=call.text("sort_field"),
        sort_order=call.order(),
        page=call.number("page", 1),
        per_page=call.number("per_page", 20),
        gaps_ms=gaps,
        gap_statuses=call.texts("gap_fill_statuses") or OPEN_GAPS,
    )
    found: JsonObject = call.service.rules.find(query)
    return found


def _listed(call: Call) -> list[Any]:
    data = call.json()
    if not isinstance(data, list):
        raise RequestShapeError(f"[request body]: expected a list, found {describe_value(data)}")
    return data


def _create_many(call: Call) -> list[JsonObject]:
    made: list[JsonObject] = call.service.rules.create_many(_listed(call), by=call.by)
    return made


def _replace_many(call: Call) -> list[JsonObject]:
    made: list[JsonObject] = call.service.rules.replace_many(_listed(call), by=call.by)
    return made


def _patch_many(call: Call) -> list[JsonObject]:
    made: list[JsonObject] = call.service.rules.patch_many(_listed(call), by=call.by)
    return made


def _delete_many(call: Call) -> list[JsonObject]:
    gone: list[JsonObject] = call.service.rules.delete_many(_listed(call), by=call.by)
    return gone


def _bulk(call: Call) -> Response:
    desk = call.service.rules
    now_ms = desk.clock() // 1000
    action = parse_action(call.json(), now_ms=now_ms, is_dry=call.flag("dry_run"))
    if action.name != "export":
        check_role(call.caller, "engineer")
    bulk = BulkDesk(desk)
    if action.name == "export":
        outcome = Outcome()
        chosen = bulk.select(action, outcome)
        missing = [rule["id"] for rules in outcome.errors.values() for rule in rules]
        lines = Exporter(desk).lines(chosen, missing=missing)
        return lines_answer(lines, file_name="rules_export.ndjson")
    outcome = bulk.run(action, by=call.by)
    body = outcome.body()
    return answer(body, status=500 if outcome.failed else 200)


def _import(call: Call) -> JsonObject:
    upload = read_upload(call.body, content_type=call.content_type)
    options = Options(
        overwrite=call.flag("overwrite"),
        overwrite_exceptions=call.flag("overwrite_exceptions"),
        overwrite_connectors=call.flag("overwrite_action_connectors"),
        as_new_list=call.flag("as_new_list"),
    )
    return Importer(call.service.rules).run(upload.content, options, by=call.by)


def _export(call: Call) -> Response:
    rule_ids = parse_objects(call.json(optional=True))
    lines = Exporter(call.service.rules).by_rule_ids(rule_ids)
    if call.flag("exclude_export_details"):
        lines.pop()
    return lines_answer(lines, file_name=call.text("file_name") or "export.ndjson")


def _preview(call: Call) -> JsonObject:
    data = call.json()
    if not isinstance(data, dict):
        raise RequestShapeError("[request body]: expected an object")
    end_us = parse_instant_us(data.get("timeframeEnd"))
    count = data.get("invocationCount")
    if end_us is None:
        raise RequestShapeError("[request body]: timeframeEnd: expected a date")
    if not isinstance(count, int) or isinstance(count, bool):
        raise RequestShapeError("[request body]: invocationCount: expected a whole number")
    props = check_props({**data, "rule_id": data.get("rule_id") or "preview"})
    result = call.service.previews.run(
        {**props.params, "enabled": True},
        timeframe_end_ms=end_us // 1000,
        invocation_count=count,
    )
    logs = [
        {
            "errors": log.errors,
            "warnings": log.warnings,
            "startedAt": log.started_at,
            "duration": log.duration_ms,
        }
        for log in result.logs
    ]
    return {
        "previewId": result.preview_id,
        "logs": logs,
        "isAborted": result.is_aborted,
        # Kibana keeps these in an index of previews, where a client would look for them.
        "alerts": [alert for alert in result.alerts if _is_seen(call, alert)],
    }


def _is_seen(call: Call, alert: JsonObject) -> bool:
    return call.clusters is None or not call.clusters.isdisjoint(_CLUSTER.values(alert))


def _tags(call: Call) -> list[str]:
    found: list[str] = call.service.rules.tags()
    return found


def _add_exceptions(call: Call) -> list[JsonObject]:
    made: list[JsonObject] = call.service.exceptions.add_to_rule(
        call.path["id"], call.json(), by=call.by
    )
    return made


ROUTES: Final[list[BaseRoute]] = [
    route("GET", f"{_RULES}/_find", "viewer", _find),
    route("POST", f"{_RULES}/_bulk_action", "viewer", _bulk),
    route("POST", f"{_RULES}/_import", "engineer", _import, takes_files=True),
    route("POST", f"{_RULES}/_export", "viewer", _export),
    route("POST", f"{_RULES}/preview", "analyst", _preview),
    route("POST", f"{_RULES}/_bulk_create", "engineer", _create_many),
    route("PUT", f"{_RULES}/_bulk_update", "engineer", _replace_many),
    route("PATCH", f"{_RULES}/_bulk_update", "engineer", _patch_many),
    route("DELETE", f"{_RULES}/_bulk_delete", "engineer", _delete_many),
    route("POST", f"{_RULES}/_bulk_delete", "engineer", _delete_many),
    route("POST", f"{_RULES}/{{id}}/exceptions", "engineer", _add_exceptions),
    route("POST", _RULES, "engineer", _create),
    route("GET", _RULES, "viewer", _get),
    route("PUT", _RULES, "engineer", _replace),
    route("PATCH", _RULES, "engineer", _patch),
    route("DELETE", _RULES, "engineer", _delete),
    route("GET", "/api/detection_engine/tags", "viewer", _tags),
]
