"""Rules as the API takes them and gives them: checked, every default written out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, TypeAlias

from barrelman.errors import RequestShapeError
from barrelman.records.frozen import frozen
from barrelman.records.times import format_instant
from barrelman.rules.checks import check_together
from barrelman.rules.schema import Problem, Table
from barrelman.rules.shape import RESPONSE_ONLY, RULE_TYPES, fields_of
from barrelman.store.rules import StoredRule

JsonObject: TypeAlias = dict[str, Any]

# A schedule that cannot be read is stored, and its rule marked as one that cannot run.
_TIMES: Final = frozenset(("from", "to", "interval"))
_UNCOMPARED: Final = frozenset(
    (
        *("rule_id", "type", "version", "author", "license", "enabled", "exceptions_list"),
        *("actions", "throttle", "response_actions", "meta", "output_index", "namespace"),
        *("outcome", "alias_target_id", "alias_purpose"),
        *("concurrent_searches", "items_per_search"),
    )
)
"""What may differ from the shipped rule without making it another one."""
_ECS_SETS: Final = frozenset(
    (
        *("@timestamp", "agent", "client", "cloud", "container", "data_stream", "destination"),
        *("dns", "ecs", "event", "file", "group", "host", "http", "labels", "message", "network"),
        *("observer", "orchestrator", "package", "process", "registry", "related", "rule"),
        *("server", "service", "source", "tags", "threat", "tls", "trace", "transaction", "url"),
        *("user", "user_agent", "vulnerability"),
    )
)


@frozen
class Props:
    """A rule as somebody wrote it: `params` complete and clean, `enabled` None where not said."""

    params: JsonObject
    enabled: bool | None
    id: str | None


def check_props(data: object) -> Props:
    """The rule in a request's body. Raises RequestShapeError with all that is wrong.

    Whether its query can be read is no question of form: such a rule is kept, and does not run.
    """
    if not isinstance(data, dict):
        raise RequestShapeError("[request body]: expected an object")
    problems: list[Problem] = []
    given = _older_spellings(data)
    rule_type = given["type"] if given.get("type") in RULE_TYPES else None
    fields = Table(fields_of(rule_type, is_toml=False)).check(given, (), problems)
    problems = [each for each in problems if not _is_unread_time(each, given)]
    broken = frozenset(str(each.at[0]) for each in problems if each.at)
    unread = _unread_times(given)
    problems += check_together(fields, broken=broken | unread, is_toml=False)
    if problems:
        raise RequestShapeError("[request body]: " + ", ".join(each.message for each in problems))
    enabled = fields.pop("enabled") if given.get("enabled") is not None else None
    uuid = fields.get("id")
    params = {
        name: value
        for name, value in fields.items()
        if name not in RESPONSE_ONLY and name != "enabled"
    }
    return Props(params, enabled, uuid)


def _older_spellings(data: JsonObject) -> JsonObject:
    """What older versions wrote, and the API still takes."""
    data = dict(data)
    if isinstance(data.get("investigation_fields"), list):
        names = data["investigation_fields"]
        data["investigation_fields"] = {"field_names": names} if names else None
    threshold = data.get("threshold")
    if isinstance(threshold, dict) and threshold.get("field") == "":
        data["threshold"] = {**threshold, "field": []}
    if data.get("immutable") is not None and not isinstance(data["immutable"], bool):
        del data["immutable"]
    return data


def _unread_times(given: JsonObject) -> frozenset[str]:
    """Parts of the schedule that are text, and not the text of a time."""
    problems: list[Problem] = []
    fields = fields_of(None, is_toml=False)
    Table({name: fields[name] for name in _TIMES}).check(given, (), problems)
    return frozenset(str(each.at[0]) for each in problems)


def _is_unread_time(problem: Problem, given: JsonObject) -> bool:
    if len(problem.at) != 1 or problem.at[0] not in _TIMES:
        return False
    value = given.get(str(problem.at[0]))
    return isinstance(value, str) and value != ""


def params_of(rule: StoredRule) -> JsonObject:
    """What can be written anew of a stored rule."""
    return {
        name: value
        for name, value in rule.params.items()
        if name not in RESPONSE_ONLY and name != "enabled"
    }


def customized_fields(params: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """Names of the fields in which a rule differs from the one that was shipped."""
    names = (set(params) | set(base)) - _UNCOMPARED - set(RESPONSE_ONLY)
    return sorted(name for name in names if params.get(name) != base.get(name))


def to_response(
    rule: StoredRule,
    *,
    base: Mapping[str, Any] | None = None,
    summary: JsonObject | None = None,
) -> JsonObject:
    """A stored rule as the API gives it. `base` is the shipped rule of that rule_id."""
    params = params_of(rule)
    response = {
        "id": rule.id,
        "updated_at": format_instant(rule.updated_at_us // 1000),
        "updated_by": rule.updated_by,
        "created_at": format_instant(rule.created_at_us // 1000),
        "created_by": rule.created_by,
        "name": params.pop("name", ""),
        "tags": params.pop("tags", []),
        "interval": params.pop("interval", "5m"),
        "enabled": rule.enabled,
        "revision": rule.revision,
        "immutable": rule.source == "pack",
        "rule_source": _source(rule, base),
        **params,
        "rule_id": rule.rule_id,
        "required_fields": [
            {**each, "ecs": each["name"].partition(".")[0] in _ECS_SETS}
            for each in params.get("required_fields", ())
        ],
    }
    if summary is not None:
        response["execution_summary"] = {"last_execution": summary}
    return response


def _source(rule: StoredRule, base: Mapping[str, Any] | None) -> JsonObject:
    if rule.source != "pack":
        return {"type": "internal"}
    is_known = base is not None and base.get("version") == rule.params.get("version")
    changed = customized_fields(rule.params, base) if base is not None and is_known else []
    return {
        "type": "external",
        "is_customized": rule.is_customized,
        "has_base_version": is_known,
        "customized_fields": [{"field_name": name} for name in changed],
    }


def without(params: Mapping[str, Any], names: Collection[str]) -> JsonObject:
    """The same without these fields."""
    return {name: value for name, value in params.items() if name not in names}
