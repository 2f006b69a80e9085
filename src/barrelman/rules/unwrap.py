"""From the TOML form of a rule (the detection-rules repository's) to its API form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from barrelman.records.frozen import frozen
from barrelman.rules.locate import Path
from barrelman.rules.schema import Problem, mismatch, to_json
from barrelman.rules.shape import METADATA

JsonObject: TypeAlias = dict[str, Any]


@frozen
class TomlRule:
    """A `[rule]` table in API form. `aliases` says where moved fields stand in the table."""

    data: JsonObject
    metadata: JsonObject
    aliases: Mapping[str, Path]
    rule_problems: tuple[Problem, ...]
    """Their paths begin in `[rule]`."""
    metadata_problems: tuple[Problem, ...]
    """Their paths begin at the top of the file."""


def unwrap_toml(document: JsonObject) -> TomlRule:
    """Flattens `[rule.new_terms]`, fills the guide's placeholders, checks `[metadata]`."""
    data = dict(document["rule"])
    aliases: dict[str, Path] = {}
    problems: list[Problem] = []
    if "new_terms" in data:
        _flatten_new_terms(data, aliases, problems)
    if data.get("type") == "esql" and "index" in data:
        problems.append(Problem(("index",), "index: an ES|QL rule names its indices in FROM"))
    note = data.get("note")
    transform = document.get("transform")
    if isinstance(note, str) and isinstance(transform, dict):
        data["note"] = _fill_placeholders(note, transform)
    metadata_problems: list[Problem] = []
    metadata = document.get("metadata")
    if metadata is not None:
        METADATA.check(metadata, ("metadata",), metadata_problems)
    kept = to_json(metadata) if isinstance(metadata, dict) else {}
    return TomlRule(data, kept, aliases, tuple(problems), tuple(metadata_problems))


def _flatten_new_terms(data: JsonObject, aliases: dict[str, Path], problems: list[Problem]) -> None:
    table = data.pop("new_terms")
    if not isinstance(table, dict):
        problems.append(mismatch(("new_terms",), "a table", table))
        return
    if "value" in table:
        if table.get("field") != "new_terms_fields":
            problems.append(
                mismatch(("new_terms", "field"), "'new_terms_fields'", table.get("field"))
            )
        data["new_terms_fields"] = table["value"]
        aliases["new_terms_fields"] = ("new_terms", "value")
    if "history_window_start" not in table:
        return
    history = table["history_window_start"]
    at: Path = ("new_terms", "history_window_start")
    if isinstance(history, list) and history and isinstance(history[0], dict):
        data["history_window_start"] = history[0].get("value")
        aliases["history_window_start"] = (*at, 0, "value")
    else:
        problems.append(mismatch(at, "[[rule.new_terms.history_window_start]] tables", history))


def _fill_placeholders(note: str, transform: JsonObject) -> str:
    """`${osquery_0}` becomes `!{osquery{…}}` with the JSON of the first `[[transform.osquery]]`."""
    for kind in ("osquery", "investigate"):
        entries = transform.get(kind)
        if not isinstance(entries, list):
            continue
        for number, entry in enumerate(entries):
            made = json.dumps(to_json(entry), ensure_ascii=False, separators=(",", ":"))
            filled = f"!{{{kind}{made}}}"
            note = note.replace(f"${{{kind}_{number}}}", filled)
    return note
