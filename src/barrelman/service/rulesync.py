"""Rules that live in files, brought into the database: the pack, and those of the operator.

A rule of a file follows its file: what the file says now is what runs, and it goes when the file
goes. A rule of the pack is updated with the pack unless someone has edited it; whether it is
enabled is the operator's word in both. A rule made through the API is never touched.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

from barrelman.records.frozen import frozen
from barrelman.rules.exceptions import ExceptionSet
from barrelman.rules.rule import LoadedRule, Rule
from barrelman.service.rulechanges import REMOVED
from barrelman.store import audit, meta
from barrelman.store import rules as rules_table
from barrelman.store import runs as runs_table
from barrelman.store.rules import StoredRule

if TYPE_CHECKING:
    from barrelman.store.database import Connection

JsonObject: TypeAlias = dict[str, Any]
FileSource: TypeAlias = Literal["pack", "file"]

BY: Final = "barrelman"
"""Who changed what a file changed."""
_ADDED: Final = ("actions", "throttle", "response_actions", "meta")
RESPONSE_ONLY: Final = (
    *("id", "immutable", "rule_source", "created_at", "created_by", "updated_at", "updated_by"),
    *("revision", "execution_summary", "enabled"),
)
"""What a stored rule has as columns, and not among its params."""


class Indexes(Protocol):
    """Indexes that are files: what rules of indicators look into."""

    def matching(self, patterns: Sequence[str]) -> Sequence[tuple[str, str, JsonObject]] | None:
        """Index, id and content of each document of the indexes that such patterns name.

        None where they name none.
        """


@frozen
class FileRules:
    """What the operator's files and the pack hold; a broken rule is an invalid one among them.

    `given` lists came as exception files, `exported` ones beside the rules.
    """

    pack: Sequence[LoadedRule] = ()
    files: Sequence[LoadedRule] = ()
    given: ExceptionSet = field(default_factory=ExceptionSet)
    exported: ExceptionSet = field(default_factory=ExceptionSet)
    problems: Sequence[str] = ()
    unread: Sequence[str] = ()
    """Files and folders that could not be read: what was known of them stands."""
    indexes: Indexes | None = None
    """As long as their files are the same, the very same object."""


@dataclass
class SyncReport:
    """What a pass over the files changed."""

    added: int = 0
    updated: int = 0
    removed: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def has_changed(self) -> bool:
        return bool(self.added or self.updated or self.removed)


def params_of(rule: Rule) -> JsonObject:
    """A checked rule as the database keeps it."""
    return {k: v for k, v in rule.parameters.items() if k not in RESPONSE_ONLY}


def with_additions(params: JsonObject, held: JsonObject) -> JsonObject:
    """A file's params with what people add to a rule beside its file: exceptions and actions."""
    kept = {name: held[name] for name in _ADDED if held.get(name) and not params.get(name)}
    lists = list(params.get("exceptions_list", ()))
    names = {each.get("list_id") for each in lists}
    lists += [one for one in held.get("exceptions_list", ()) if one.get("list_id") not in names]
    if lists:
        kept["exceptions_list"] = lists
    return params | kept


def sync_rules(connection: Connection, found: FileRules, *, at_us: int) -> SyncReport:
    """Brings the database to what the files say."""
    report = SyncReport(notes=list(found.problems))
    stored = {each.rule_id: each for each in rules_table.all(connection)}
    wanted: dict[str, tuple[Rule, FileSource]] = {}
    sources: tuple[tuple[FileSource, Sequence[LoadedRule]], ...] = (
        ("pack", found.pack),
        ("file", found.files),
    )
    broken = _Broken(found.unread)
    for source, loaded_rules in sources:
        for loaded in loaded_rules:
            if loaded.rule is None:
                report.notes.append(f"{loaded.path}:{loaded.line}: {loaded.reason}")
                broken.note(loaded)
            else:
                wanted[loaded.rule.rule_id] = (loaded.rule, source)
    for rule_id, (rule, source) in wanted.items():
        known = stored.get(rule_id)
        if source == "pack" and known is not None and broken.holds(known):
            continue  # the operator's own stands until its file is mended
        _bring(connection, rule, source, known, report, at_us)
    for rule_id, known in stored.items():
        if known.source == "api" or rule_id in wanted or broken.holds(known):
            continue
        if known.source == "pack" and known.is_customized:
            continue
        rules_table.delete(connection, known.id)
        runs_table.drop_gaps(connection, known.id)
        detail = {"reason": "its file is gone", "path": known.path}
        _note(connection, at_us, "rule removed", rule_id, detail)
        report.removed += 1
    return report


class _Broken:
    """What cannot be read at the moment: the last version that could goes on watching."""

    def __init__(self, unread: Sequence[str]) -> None:
        self._ids: set[str] = set()
        self._paths = set(unread)
        self._folders = tuple(f"{path.rstrip('/')}/" for path in unread)

    def note(self, loaded: LoadedRule) -> None:
        if loaded.rule_id is not None:
            self._ids.add(loaded.rule_id)
        else:  # it may be any of those that the file held
            self._paths.add(loaded.path)

    def holds(self, known: StoredRule) -> bool:
        """Whether a stored rule is what was known of it."""
        if known.source != "file":
            return False
        path = known.path or ""
        return known.rule_id in self._ids or path in self._paths or path.startswith(self._folders)


def _note(
    connection: Connection, at_us: int, action: str, rule_id: str, detail: JsonObject
) -> None:
    audit.note(connection, at_us=at_us, by=BY, action=action, target=rule_id, detail=detail)


def _bring(
    connection: Connection,
    rule: Rule,
    source: FileSource,
    known: StoredRule | None,
    report: SyncReport,
    at_us: int,
) -> None:
    params = params_of(rule)
    if known is None:
        if source == "pack" and meta.get(connection, REMOVED + rule.rule_id) is not None:
            return  # someone has deleted it
        new_id = rule.uuid
        if rules_table.get(connection, id=new_id) is not None:
            new_id = str(uuid.uuid4())
        stored = StoredRule(
            id=new_id,
            rule_id=rule.rule_id,
            params=params,
            enabled=rule.enabled,
            revision=0,
            source=source,
            path=rule.path or None,
            is_customized=False,
            created_at_us=at_us,
            created_by=BY,
            updated_at_us=at_us,
            updated_by=BY,
        )
        rules_table.insert(connection, stored)
        _note(connection, at_us, "rule added", rule.rule_id, {"path": rule.path})
        report.added += 1
        return
    if known.source == "api":
        report.notes.append(
            f"{rule.path}: '{rule.name}' was made through the API, which wins over a file"
        )
        return
    if known.is_customized and source == "pack":
        return
    params = with_additions(params, known.params)
    if known.params == params and known.source == source and known.path == (rule.path or None):
        return
    changed = known.params != params
    rules_table.update(
        connection,
        replace(
            known,
            params=params,
            source=source,
            path=rule.path or None,
            is_customized=False,
            revision=known.revision + changed,
            updated_at_us=at_us,
            updated_by=BY,
        ),
    )
    if changed:
        _note(connection, at_us, "rule updated", rule.rule_id, {"path": rule.path})
        report.updated += 1
