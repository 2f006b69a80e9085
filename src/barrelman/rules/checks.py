"""What must hold between the fields of a rule, after each was checked alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from barrelman.errors import TimeError
from barrelman.records.times import DateMath, parse_date_math, parse_duration_ms
from barrelman.rules.schema import Problem, dotted
from barrelman.rules.shape import MAX_THRESHOLD_FIELDS

Fields: TypeAlias = Mapping[str, Any]

# Two expressions of `now` keep their order at any `now`, so far as months and roundings do not
# blur it: any instant serves to compare them.
_SOME_INSTANT_MS: Final = 1_700_000_000_000


def check_together(fields: Fields, *, broken: frozenset[str], is_toml: bool) -> list[Problem]:
    """The problems between fields. Those that name a field in `broken` are left to its own."""
    problems: list[Problem] = []
    for needed, check in _CHECKS:
        if not broken.intersection(needed):
            problems += check(fields)
    if is_toml and not broken.intersection(("index", "data_view_id")):
        problems += _check_one_source(fields)
    if is_toml and fields.get("language") == "esql" and "query" not in broken:
        problems += _check_esql(fields)
    return problems


def _check_window(fields: Fields) -> list[Problem]:
    start, end = parse_date_math(fields["from"]), parse_date_math(fields["to"])
    span_ms = _distance_ms(start, end)
    if span_ms is None:
        return []
    if span_ms < parse_duration_ms(fields["interval"]):
        return [
            Problem(
                ("from",),
                f"from: the window from '{start.text}' to '{end.text}' is shorter than "
                f"the interval '{fields['interval']}', so events between runs are never read",
                "reach further back in 'from', or run more often",
            )
        ]
    return []


def _distance_ms(start: DateMath, end: DateMath) -> int | None:
    """From start to end, or None where it is not the same at every `now`."""
    if start.is_relative and end.is_relative:
        first, last = start.offset_ms, end.offset_ms
        return None if first is None or last is None else last - first
    if start.is_relative or end.is_relative:
        return None
    try:
        return end.resolve_ms(0, round_up=True) - start.resolve_ms(0)
    except TimeError:
        return None


def _check_resolvable(fields: Fields) -> list[Problem]:
    problems = []
    for name in ("from", "to", "history_window_start"):
        if name in fields:
            try:
                parse_date_math(fields[name]).resolve_ms(_SOME_INSTANT_MS)
            except TimeError as error:
                problems.append(Problem((name,), f"{name}: {error.message}"))
    return problems


def _check_history(fields: Fields) -> list[Problem]:
    if "history_window_start" not in fields:
        return []
    history, start = (
        parse_date_math(fields["history_window_start"]),
        parse_date_math(fields["from"]),
    )
    if history.is_relative != start.is_relative:
        return []  # only the clock can tell
    try:
        in_order = history.resolve_ms(_SOME_INSTANT_MS) < start.resolve_ms(_SOME_INSTANT_MS)
    except TimeError:
        return []
    if in_order:
        return []
    return [
        Problem(
            ("history_window_start",),
            f"history_window_start: '{history.text}' is not before 'from' ('{start.text}')",
            "the history must reach back beyond the window of a run",
        )
    ]


def _check_timeline(fields: Fields) -> list[Problem]:
    given = [name for name in ("timeline_id", "timeline_title") if name in fields]
    if len(given) != 1:
        return []
    other = "timeline_title" if given[0] == "timeline_id" else "timeline_id"
    return [Problem((given[0],), f"{given[0]}: given without {other}", "give both or neither")]


def _check_searches(fields: Fields) -> list[Problem]:
    given = [name for name in ("concurrent_searches", "items_per_search") if name in fields]
    if len(given) != 1:
        return []
    other = "items_per_search" if given[0] == "concurrent_searches" else "concurrent_searches"
    return [Problem((given[0],), f"{given[0]}: given without {other}", "give both or neither")]


def _check_threat_mapping(fields: Fields) -> list[Problem]:
    problems = []
    for number, group in enumerate(fields.get("threat_mapping", ())):
        at = ("threat_mapping", number, "entries")
        entries = group["entries"]
        negated = {(one["field"], one["value"]) for one in entries if one.get("negate")}
        plain = {(one["field"], one["value"]) for one in entries if not one.get("negate")}
        if negated and not plain:
            problems.append(Problem(at, f"{dotted(at)}: every entry is negated, one must not be"))
        problems += [
            Problem(at, f"{dotted(at)}: '{name}' with '{value}' is both negated and not")
            for name, value in sorted(negated & plain)
        ]
    return problems


def _check_threshold(fields: Fields) -> list[Problem]:
    if "threshold" not in fields:
        return []
    groups = fields["threshold"]["field"]
    problems = []
    if len(groups) > MAX_THRESHOLD_FIELDS:
        at = ("threshold", "field")
        message = f"{dotted(at)}: {len(groups)} fields, at most {MAX_THRESHOLD_FIELDS} are allowed"
        problems.append(Problem(at, message))
    for number, one in enumerate(fields["threshold"].get("cardinality", ())):
        if one["field"] in groups:
            at_field = ("threshold", "cardinality", number, "field")
            message = f"{dotted(at_field)}: '{one['field']}' is also a field to group by"
            problems.append(Problem(at_field, message))
    return problems


def _check_one_source(fields: Fields) -> list[Problem]:
    if "index" in fields and "data_view_id" in fields:
        return [Problem(("data_view_id",), "data_view_id: given beside index", "keep one of them")]
    return []


# What a comment or a string of ES|QL holds is no command. One without an end reaches to the end
# of its line or of the text, which is also what keeps a text of openings from being read anew
# at each of them.
_ESQL_QUOTED: Final = (
    r'''"""[\s\S]*?(?:"""|\Z)|"(?:[^"\\\n]|\\.)*+"?|//[^\n]*|/\*[\s\S]*?(?:\*/|\Z)'''
)
_ESQL_METADATA: Final = r"(?i)\bmetadata\b([^|]*)"
_ESQL_KEEP: Final = r"(?i)\|\s*keep\b([^|]*)"
_ESQL_GROUPED: Final = r"(?i)\|\s*stats\b[^|]*\bby\b"
_ESQL_COLUMNS: Final = ("_id", "_version", "_index")


def _check_esql(fields: Fields) -> list[Problem]:
    """A rule whose rows are events must carry along which events they are."""
    query = re.sub(_ESQL_QUOTED, " ", fields.get("query", ""))
    is_grouped = re.search(_ESQL_GROUPED, query) is not None
    keeps = re.findall(_ESQL_KEEP, query)
    if not keeps:
        return [Problem(("query",), "query: ES|QL without a KEEP command")]
    if is_grouped:
        return []
    found = re.search(_ESQL_METADATA, query)
    problems = []
    columns = ", ".join(_ESQL_COLUMNS)
    if found is None or not _names(found[1]).issuperset(_ESQL_COLUMNS):
        problems.append(Problem(("query",), f"query: METADATA must name {columns}"))
    kept = _names(keeps[-1])
    if "*" not in kept and not kept.issuperset(_ESQL_COLUMNS):
        problems.append(Problem(("query",), f"query: KEEP must name {columns}, or *"))
    return problems


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.replace("\n", " ").split(",")}


def _check_response_actions(fields: Fields) -> list[Problem]:
    problems = []
    for index, action in enumerate(fields.get("response_actions", ())):
        timeout = action["params"].get("timeout")
        if timeout is not None and not (type(timeout) is int and 60 <= timeout <= 900):
            where = ("response_actions", index, "params", "timeout")
            message = f"{dotted(where)}: expected a number of seconds from 60 to 900"
            problems.append(Problem(where, message))
    return problems


def _check_default_lists(fields: Fields) -> list[Problem]:
    given = [each for each in fields["exceptions_list"] if each["type"] == "rule_default"]
    if len(given) > 1:
        return [
            Problem(
                ("exceptions_list",), "exceptions_list: more than one list of type rule_default"
            )
        ]
    return []


_CHECKS: Final[tuple[tuple[tuple[str, ...], Callable[[Fields], list[Problem]]], ...]] = (
    (("from", "to", "history_window_start"), _check_resolvable),
    (("from", "to", "interval"), _check_window),
    (("from", "history_window_start"), _check_history),
    (("timeline_id", "timeline_title"), _check_timeline),
    (("concurrent_searches", "items_per_search"), _check_searches),
    (("threat_mapping",), _check_threat_mapping),
    (("threshold",), _check_threshold),
    (("response_actions",), _check_response_actions),
    (("exceptions_list",), _check_default_lists),
)
