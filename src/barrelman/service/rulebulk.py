"""One action on many rules, each for itself: what could not be done to one stops no other."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from barrelman.errors import BarrelmanError, RequestError, RequestShapeError, StoreError
from barrelman.records.frozen import frozen
from barrelman.records.times import format_instant, parse_instant_us
from barrelman.rules.schema import describe_value
from barrelman.service.rulechanges import Hand, add_rule, change_rule, drop_rule, find_rule
from barrelman.service.ruledesk import RuleDesk
from barrelman.service.ruleedit import Edit, EditError, apply_edits, parse_edits
from barrelman.service.ruleshape import Props, check_props, params_of
from barrelman.store import exceptions, runs
from barrelman.store.rules import StoredRule

if TYPE_CHECKING:
    from barrelman.store.database import Connection

JsonObject: TypeAlias = dict[str, Any]

ACTIONS: Final = (
    *("enable", "disable", "delete", "duplicate", "export", "edit", "run", "fill_gaps"),
)


class SkippedError(RequestError):
    """An action that would change nothing; the message is the reason's name."""


@frozen
class Action:
    """What a request asks for. `ids` None and `query` "": of all rules."""

    name: str
    ids: tuple[str, ...] | None = None
    query: str = ""
    edits: tuple[Edit, ...] = ()
    span_ms: tuple[int, int] | None = None
    with_exceptions: bool = False
    with_expired: bool = False
    is_dry: bool = False


def parse_action(data: object, *, now_ms: int, is_dry: bool = False) -> Action:
    """The action in a request's body. Raises RequestShapeError."""
    if not isinstance(data, dict):
        raise RequestShapeError("[request body]: expected an object")
    name = data.get("action")
    if name not in ACTIONS:
        found = f"found {describe_value(name)}"
        raise RequestShapeError(
            f"[request body]: action: expected one of {', '.join(ACTIONS)}, {found}"
        )
    ids, query = data.get("ids"), data.get("query")
    if ids is not None and query is not None:
        raise RequestShapeError("[request body]: both ids and query are given: choose one")
    if ids is not None and (
        not isinstance(ids, list) or not ids or not all(isinstance(each, str) for each in ids)
    ):
        raise RequestShapeError("[request body]: ids: expected a list of at least one id")
    if not isinstance(query, str | None):
        raise RequestShapeError("[request body]: query: expected a text")
    options = data.get("duplicate") or {}
    if not isinstance(options, dict):
        raise RequestShapeError("[request body]: duplicate: expected an object")
    return Action(
        name=name,
        ids=None if ids is None else tuple(dict.fromkeys(ids)),
        query=query or "",
        edits=tuple(parse_edits(data.get("edit"))) if name == "edit" else (),
        span_ms=_parse_span(name, data.get(name), now_ms) if name in ("run", "fill_gaps") else None,
        with_exceptions=options.get("include_exceptions") is True,
        with_expired=options.get("include_expired_exceptions") is True,
        is_dry=is_dry,
    )


def _parse_span(name: str, given: object, now_ms: int) -> tuple[int, int]:
    where = f"[request body]: {name}"
    if not isinstance(given, dict):
        raise RequestShapeError(f"{where}: expected start_date and end_date")
    start = parse_instant_us(given.get("start_date"))
    end = given.get("end_date")
    end_us = now_ms * 1000 if end is None else parse_instant_us(end)
    if start is None or end_us is None:
        raise RequestShapeError(f"{where}: expected dates such as 2026-11-23T07:00:00.000Z")
    if not start < end_us:
        raise RequestShapeError(f"{where}: start_date must be before end_date")
    if end_us > (now_ms + 60_000) * 1000:
        raise RequestShapeError(f"{where}: end_date lies in the future")
    return start // 1000, min(end_us // 1000, now_ms)


@dataclass
class Outcome:
    """What came of an action. Rules are shown as the API gives them, as they are now."""

    updated: list[JsonObject] = field(default_factory=list)
    created: list[JsonObject] = field(default_factory=list)
    deleted: list[JsonObject] = field(default_factory=list)
    skipped: list[JsonObject] = field(default_factory=list)
    errors: dict[tuple[str, int, str | None], list[JsonObject]] = field(default_factory=dict)
    succeeded: int = 0
    is_dry: bool = False

    @property
    def failed(self) -> int:
        return sum(len(rules) for rules in self.errors.values())

    def fail(self, error: BarrelmanError, *, id: str, name: str | None = None) -> None:  # noqa: A002
        code = error.code if isinstance(error, EditError) else None
        status = 400 if isinstance(error, RequestError) else 500
        rule = {"id": id} if name is None else {"id": id, "name": name}
        self.errors.setdefault((error.message, status, code), []).append(rule)

    def body(self) -> JsonObject:
        """The answer as the API gives it."""
        failed, skipped = self.failed, len(self.skipped)
        total = failed + skipped + self.succeeded
        results = {
            "updated": [] if self.is_dry else self.updated,
            "created": [] if self.is_dry else self.created,
            "deleted": [] if self.is_dry else self.deleted,
            "skipped": self.skipped,
        }
        attributes: JsonObject = {
            "results": results,
            "summary": {
                "failed": failed,
                "skipped": skipped,
                "succeeded": self.succeeded,
                "total": total,
            },
        }
        if not failed:
            return {"success": True, "rules_count": total, "attributes": attributes}
        attributes["errors"] = [
            {
                "message": message,
                "status_code": status,
                **({"err_code": code} if code else {}),
                "rules": rules,
            }
            for (message, status, code), rules in self.errors.items()
        ]
        how = "partially failed" if failed < total else "failed"
        return {
            "message": f"Bulk edit {how}",
            "status_code": 500,
            "success": False,
            "rules_count": total,
            "attributes": attributes,
        }


class BulkDesk:
    """Actions on the rules of a desk."""

    def __init__(self, desk: RuleDesk) -> None:
        self._desk = desk

    def select(self, action: Action, outcome: Outcome) -> list[JsonObject]:
        """The rules that an action is about; ids of no rule are failures."""
        if action.ids is None:
            return self._desk.filtered(action.query)
        known = {rule["id"]: rule for rule in self._desk.all()}
        for each in action.ids:
            if each not in known:
                outcome.fail(StoreError("Rule not found"), id=each)
        return [known[each] for each in action.ids if each in known]

    def run(self, action: Action, *, by: str) -> Outcome:
        """Does all but `export`, which gives no outcome. Raises RequestError for a bad query."""
        outcome = Outcome(is_dry=action.is_dry)
        begin = self._begin(action, self._desk.hand(by), outcome)
        # All are begun before the first is waited for: they share the commits.
        begun = [(shown, begin(shown)) for shown in self.select(action, outcome)]
        for shown, finish in begun:
            try:
                finish()
            except SkippedError as reason:
                entry = {"id": shown["id"], "name": shown["name"], "skip_reason": reason.message}
                outcome.skipped.append(entry)
            except BarrelmanError as error:
                outcome.fail(error, id=shown["id"], name=shown["name"])
            else:
                outcome.succeeded += 1
        if not action.is_dry:
            self._desk.reload()
            for listed in (outcome.updated, outcome.created):
                self._refresh(listed)
        return outcome

    def _refresh(self, listed: list[JsonObject]) -> None:
        """Whether a rule runs is known only after the reload."""
        if listed:
            known = {rule["id"]: rule for rule in self._desk.all()}
            listed[:] = [known.get(rule["id"], rule) for rule in listed]

    def _begin(
        self, action: Action, hand: Hand, outcome: Outcome
    ) -> Callable[[JsonObject], Callable[[], None]]:
        """Begins what is done to one rule, and gives what waits for its end."""
        if action.name in ("run", "fill_gaps"):
            return lambda shown: lambda: self._queue(shown, action, hand, outcome)

        def begin(shown: JsonObject) -> Callable[[], None]:
            def write(connection: Connection) -> tuple[list[JsonObject], StoredRule]:
                old = find_rule(connection, id=shown["id"], rule_id=None)
                made = _ACTS[action.name](connection, old, action, hand, outcome)
                if action.is_dry:
                    raise _UndoneError("what would fail has not failed")
                return made

            future = self._desk.database.write_soon(write)

            def finish() -> None:
                try:
                    listed, made = future.result()
                except _UndoneError:
                    return
                listed.append(shown if listed is outcome.deleted else self._desk.show(made))

            return finish

        return begin

    def _queue(self, shown: JsonObject, action: Action, hand: Hand, outcome: Outcome) -> None:
        if action.name == "run" and not shown["enabled"]:
            error = EditError("Cannot schedule manual rule run for a disabled rule")
            error.code = "MANUAL_RULE_RUN_DISABLED_RULE"
            raise error
        assert action.span_ms is not None  # these actions are parsed with one
        spans = [action.span_ms]
        if action.name == "fill_gaps":
            spans = self._gaps(shown["id"], action.span_ms)
            if not spans:
                raise SkippedError("NO_GAPS_TO_FILL")
        run_range = self._desk.run_range
        if run_range is None:
            raise RequestError("manual runs are not available")
        if action.is_dry:
            return
        for start_ms, end_ms in spans:
            run_range(shown["id"], start_ms=start_ms, end_ms=end_ms, by=hand.by)
        outcome.updated.append(shown)

    def _gaps(self, rule_uuid: str, span_ms: tuple[int, int]) -> list[tuple[int, int]]:
        found = self._desk.database.read(
            lambda connection: runs.gaps(
                connection,
                rule_uuid=rule_uuid,
                since_ms=span_ms[0],
                until_ms=span_ms[1],
                statuses=("unfilled", "in progress"),
            )
        )
        clipped = [
            (max(span_ms[0], gap.filled_to_ms or gap.from_ms), min(span_ms[1], gap.to_ms))
            for gap in found
        ]
        return [(start, end) for start, end in clipped if start < end]


class _UndoneError(BarrelmanError):
    """Raised on purpose, so that a transaction is rolled back."""


# --- what is done to one rule --------------------------------------------------------------


def _switch(
    connection: Connection, old: StoredRule, action: Action, hand: Hand, outcome: Outcome
) -> tuple[list[JsonObject], StoredRule]:
    params, enabled = params_of(old), action.name == "enable"
    made = change_rule(connection, old, params, enabled=enabled, hand=hand)
    return outcome.updated, made


def _delete(
    connection: Connection, old: StoredRule, _action: Action, hand: Hand, outcome: Outcome
) -> tuple[list[JsonObject], StoredRule]:
    drop_rule(connection, old, hand)
    return outcome.deleted, old


def _edit(
    connection: Connection, old: StoredRule, action: Action, hand: Hand, outcome: Outcome
) -> tuple[list[JsonObject], StoredRule]:
    before = params_of(old)
    edited = apply_edits(before, action.edits)
    if edited == before:
        raise SkippedError("RULE_NOT_MODIFIED")
    props = check_props(edited)
    params = {**props.params, "rule_id": old.rule_id}
    if params == before:
        raise SkippedError("RULE_NOT_MODIFIED")
    made = change_rule(connection, old, params, enabled=old.enabled, hand=hand)
    return outcome.updated, made


def _duplicate(
    connection: Connection, old: StoredRule, action: Action, hand: Hand, outcome: Outcome
) -> tuple[list[JsonObject], StoredRule]:
    params = params_of(old)
    refs: Sequence[JsonObject] = params.get("exceptions_list", ())
    kept = [ref for ref in refs if ref["type"] != "rule_default"] if action.with_exceptions else []
    defaults = [ref for ref in refs if ref["type"] == "rule_default" and action.with_exceptions]
    copied = [
        _copy_list(connection, ref, hand, with_expired=action.with_expired) for ref in defaults
    ]
    params |= {
        "name": f"{params['name']} [Duplicate]",
        "rule_id": str(uuid.uuid4()),
        "exceptions_list": [*kept, *(ref for ref in copied if ref is not None)],
    }
    made = add_rule(connection, Props(params, False, None), hand)
    return outcome.created, made


def _copy_list(
    connection: Connection, ref: JsonObject, hand: Hand, *, with_expired: bool
) -> JsonObject | None:
    """A default list belongs to one rule: the copy of a rule gets a copy of it."""
    old = exceptions.get_list(
        connection, list_id=ref["list_id"], namespace_type=ref["namespace_type"]
    )
    if old is None:
        return None
    new = copy_list(connection, old, hand, with_expired=with_expired)
    return {**ref, "id": new.id, "list_id": new.list_id}


def copy_list(
    connection: Connection,
    old: exceptions.StoredList,
    hand: Hand,
    *,
    with_expired: bool,
    name: str | None = None,
) -> exceptions.StoredList:
    """A list like another one, with items of its own."""
    wrote: dict[str, Any] = {
        "created_at_us": hand.at_us,
        "created_by": hand.by,
        "updated_at_us": hand.at_us,
        "updated_by": hand.by,
        "version": 1,
    }
    new = replace(
        old,
        id=str(uuid.uuid4()),
        list_id=str(uuid.uuid4()),
        params={**old.params, **({"name": name} if name else {})},
        **wrote,
    )
    exceptions.insert_list(connection, new)
    now = format_instant(hand.at_us // 1000)
    for item in exceptions.items(
        connection, list_id=old.list_id, namespace_type=old.namespace_type
    ):
        expiry = item.params.get("expire_time")
        if expiry is not None and expiry <= now and not with_expired:
            continue
        made = replace(
            item,
            id=str(uuid.uuid4()),
            item_id=str(uuid.uuid4()),
            list_id=new.list_id,
            **wrote,
        )
        exceptions.insert_item(connection, made)
    return new


_Act: TypeAlias = Callable[
    ["Connection", StoredRule, Action, Hand, Outcome], tuple[list[JsonObject], StoredRule]
]
_ACTS: Final[dict[str, _Act]] = {
    "enable": _switch,
    "disable": _switch,
    "delete": _delete,
    "edit": _edit,
    "duplicate": _duplicate,
}
