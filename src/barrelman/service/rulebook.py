"""The rules that run now: read from the database, completed with their exceptions, compiled.

A change makes a new lineup and swaps it in; who is in the middle of a run keeps the old one. A rule
that cannot run is kept, and its status says why.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from barrelman.detection.judge import RunnableRule, runnable_rule
from barrelman.detection.lineup import Lineup, Watcher
from barrelman.engine.decode import dumps, dumps_line
from barrelman.errors import TimeError
from barrelman.query.ast import Node
from barrelman.records.frozen import frozen
from barrelman.records.times import format_instant
from barrelman.rules.assign import assign_exceptions
from barrelman.rules.exceptions import ExceptionSet, ValueList, merge_sets
from barrelman.rules.load import LoadResult, load_exceptions, load_rules
from barrelman.rules.rule import LoadedRule, Rule
from barrelman.service.rulesync import FileRules, Indexes, SyncReport, params_of, sync_rules
from barrelman.store import exceptions as exceptions_table
from barrelman.store import rules as rules_table
from barrelman.store.database import Database
from barrelman.store.rules import StoredRule

if TYPE_CHECKING:
    from barrelman.store.database import Connection

_LOG = logging.getLogger("barrelman.rules")

JsonObject: TypeAlias = dict[str, Any]
State: TypeAlias = Literal["ready", "unsupported", "invalid", "disabled"]


@frozen
class RuleStatus:
    """Whether a rule runs, and if not, why; `notes` say what of it is not applied."""

    status: State
    reason: str = ""
    notes: tuple[str, ...] = ()


_DAY_MS: Final = 86_400_000
_UNKNOWN: Final = RuleStatus("disabled", "no such rule")


@frozen
class Entry:
    """A stored rule and what came of reading it."""

    stored: StoredRule
    loaded: LoadedRule


def api_props(stored: StoredRule) -> JsonObject:
    """A stored rule as the API knows it, without what only its runs tell."""
    immutable = stored.source == "pack"
    source: JsonObject = {"type": "internal"}
    if immutable:
        source = {"type": "external", "is_customized": stored.is_customized}
    return stored.params | {
        "id": stored.id,
        "rule_id": stored.rule_id,
        "enabled": stored.enabled,
        "revision": stored.revision,
        "immutable": immutable,
        "rule_source": source,
        "created_at": format_instant(stored.created_at_us // 1000),
        "created_by": stored.created_by,
        "updated_at": format_instant(stored.updated_at_us // 1000),
        "updated_by": stored.updated_by,
    }


def read_rule(props: JsonObject) -> LoadedRule:
    """A rule in API form, checked as one in a file is."""
    name = str(props.get("rule_id") or props.get("name") or "rule")
    found = load_rules(dumps(props), path=name)
    if found.rules:
        return found.rules[0]
    return LoadedRule(
        path=name,
        line=1,
        rule_id=None,
        name=None,
        type=None,
        language=None,
        status="invalid",
        reason="this is no rule",
    )


class RuleBook:
    """`read_files` gives what the operator's files hold at the moment; it may raise nothing.

    `kept_ms`: how long events are kept; None: for ever.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], int],
        read_files: Callable[[], FileRules] = FileRules,
        most_signals: int | None = None,
        kept_ms: int | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._read_files = read_files
        self._most_signals = most_signals
        self._kept_ms = kept_ms
        self._files = FileRules()
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._statuses: dict[str, RuleStatus] = {}
        self._known: dict[str, tuple[bytes, LoadedRule]] = {}
        self._watchers: dict[str, Watcher] = {}
        self._matching: dict[str, tuple[Rule, Node | None, Indexes | None, RunnableRule]] = {}
        """Rules of indicators, with what they were made of: to make them takes long."""
        self.lineup = Lineup([])
        self.notes: tuple[str, ...] = ()
        """What is to be said of files and exception lists."""
        self.generation = 0

    def sync(self) -> SyncReport:
        """Reads the files again, and reloads where they say something new."""
        files = self._read_files()
        now_us = self._clock()
        report = self._database.write(
            lambda connection: sync_rules(connection, files, at_us=now_us)
        )
        self._files = files
        self.notes = tuple(report.notes)
        self.reload()
        return report

    def reload(self) -> None:
        """Takes over what the database holds now; from the next event and run on it counts."""
        with self._lock:
            stored, exported = self._database.read(_read_all)
            entries = [Entry(each, self._load(each)) for each in stored]
            self._settle(entries, merge_sets([exported, self._files.exported]))
            self.generation += 1

    def pack(self) -> dict[str, JsonObject]:
        """The shipped rules as they came, by `rule_id`."""
        return {
            each.rule.rule_id: params_of(each.rule)
            for each in self._files.pack
            if each.rule is not None
        }

    def status_of(self, rule_uuid: str) -> RuleStatus:
        return self._statuses.get(rule_uuid, _UNKNOWN)

    def enabled(self) -> set[str]:
        """The ids of the rules that are switched on, also of those that cannot run."""
        return {key for key, entry in self._entries.items() if entry.stored.enabled}

    def entries(self) -> list[Entry]:
        """Every rule, also those that do not run."""
        return list(self._entries.values())

    def candidate(self, props: JsonObject) -> tuple[LoadedRule, Watcher | None]:
        """A rule that is not kept, ready for a preview, with the exceptions it would have."""
        loaded = read_rule(props)
        if loaded.status != "ready" or loaded.rule is None:
            return loaded, None
        _, exported = self._database.read(_read_all)
        assigned = assign_exceptions(
            [loaded.rule],
            given=self._files.given,
            exported=merge_sets([exported, self._files.exported]),
        )
        exceptions = assigned.exceptions.get(loaded.rule.rule_id)
        runnable = self._runnable(loaded.rule.uuid, loaded.rule, exceptions)
        if runnable is None:
            return replace(loaded, status="unsupported", reason=_no_index(loaded.rule)), None
        return loaded, Watcher(runnable, most_signals=self._most_signals)

    # --- inside ---

    def _load(self, stored: StoredRule) -> LoadedRule:
        props = api_props(stored)
        text = dumps(props)
        known = self._known.get(stored.id)
        if known is not None and known[0] == text:
            return known[1]
        loaded = read_rule(props)
        self._known[stored.id] = (text, loaded)
        return loaded

    def _short_past(self, rule: Rule) -> tuple[str, ...]:
        """Said of a rule that looks back beyond the events that are kept."""
        start = rule.history_window_start
        if start is None or self._kept_ms is None:
            return ()
        now_ms = self._clock() // 1000
        try:
            reach_ms = now_ms - start.resolve_ms(now_ms)
        except TimeError:
            return ()
        if reach_ms <= self._kept_ms:
            return ()
        days = self._kept_ms / _DAY_MS
        note = (
            f"its past begins at {start.text}, and events are kept for {days:g} days: what came "
            "only before that counts as new"
        )
        return (note,)

    def _runnable(self, rule_uuid: str, rule: Rule, exceptions: Node | None) -> RunnableRule | None:
        """None: an index with its indicators is not there."""
        if rule.type != "threat_match":
            return runnable_rule(rule, exceptions=exceptions)
        indexes = self._files.indexes
        known = self._matching.get(rule_uuid)
        if known is not None and known[:2] == (rule, exceptions) and known[2] is indexes:
            return known[3]
        documents = None if indexes is None else indexes.matching(rule.threat_index)
        if documents is None:
            return None
        made = runnable_rule(rule, exceptions=exceptions, documents=documents)
        self._matching[rule_uuid] = (rule, exceptions, indexes, made)
        return made

    def _settle(self, entries: list[Entry], exported: ExceptionSet) -> None:
        rules = [each.loaded.rule for each in entries if each.loaded.rule is not None]
        assigned = assign_exceptions(rules, given=self._files.given, exported=exported)
        statuses: dict[str, RuleStatus] = {}
        watchers: dict[str, Watcher] = {}
        for entry in entries:
            stored, loaded = entry.stored, entry.loaded
            notes = (*loaded.notes, *assigned.rule_notes.get(stored.rule_id, ()))
            if loaded.rule is not None:
                notes += self._short_past(loaded.rule)
            if loaded.status != "ready" or loaded.rule is None:
                statuses[stored.id] = RuleStatus(loaded.status, loaded.reason, notes)
                continue
            if not stored.enabled:
                statuses[stored.id] = RuleStatus("disabled", "", notes)
                continue
            exceptions = assigned.exceptions.get(stored.rule_id)
            runnable = self._runnable(stored.id, loaded.rule, exceptions)
            if runnable is None:
                reason = _no_index(loaded.rule)
                statuses[stored.id] = RuleStatus("unsupported", reason, notes)
                continue
            watcher = self._watchers.get(stored.id)
            if watcher is None or watcher.runnable != runnable:
                watcher = Watcher(runnable, most_signals=self._most_signals)
            watchers[stored.id] = watcher
            statuses[stored.id] = RuleStatus("ready", "", notes)
        kept = {each.stored.id for each in entries}
        self._known = {key: value for key, value in self._known.items() if key in kept}
        self._matching = {key: value for key, value in self._matching.items() if key in watchers}
        self._entries = {each.stored.id: each for each in entries}
        self._statuses = statuses
        if list(watchers.values()) != list(self.lineup.watchers):
            lineup = Lineup(list(watchers.values()))
            _ = lineup.sieve  # made here, and not in the middle of the first run
            self.lineup = lineup
        self._watchers = watchers
        for error in assigned.errors:
            _LOG.warning("%s", error.oneline())


def _no_index(rule: Rule) -> str:
    names = ", ".join(rule.threat_index) or "any index"
    return f"its indicators are in {names}, and no index of that name is configured"


def _read_all(connection: Connection) -> tuple[list[StoredRule], ExceptionSet]:
    """Every rule, and all exception lists as the loader of files reads them."""
    told = [
        *(
            one.params | {"list_id": one.list_id, "type": one.type, **_namespace(one)}
            for one in exceptions_table.lists(connection)
        ),
        *(
            one.params
            | {"list_id": one.list_id, "item_id": one.item_id, "type": one.type, **_namespace(one)}
            for one in exceptions_table.items(connection)
        ),
    ]
    lines = b"".join(map(dumps_line, told))
    found = load_exceptions(lines, path="exception lists") if lines else LoadResult()
    values = {
        one.id: ValueList(one.id, one.type, tuple(exceptions_table.values(connection, one.id)))
        for one in exceptions_table.all_value_lists(connection)
    }
    for error in found.errors:
        _LOG.warning("%s", error.oneline())
    exceptions = merge_sets([found.exceptions, ExceptionSet(value_lists=values)])
    return list(rules_table.all(connection)), exceptions


def _namespace(one: exceptions_table.StoredList | exceptions_table.StoredItem) -> JsonObject:
    return {"namespace_type": one.namespace_type}
