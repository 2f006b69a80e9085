"""Changes of stored rules, each within a transaction: what is written, counted and noted of it."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from barrelman.errors import ConflictError, NotFoundError, RequestError
from barrelman.records.frozen import frozen
from barrelman.service.ruleshape import Props, customized_fields, params_of
from barrelman.store import audit, exceptions, meta, rules, runs
from barrelman.store.rules import RuleState, StoredRule

if TYPE_CHECKING:
    from barrelman.store.database import Connection

JsonObject: TypeAlias = dict[str, Any]
Pack: TypeAlias = Mapping[str, Mapping[str, Any]]

REMOVED: Final = "removed rule:"
"""How shipped rules that somebody deleted are named among the single values."""
_BESIDE_FILE: Final = {"exceptions_list", "actions", "throttle", "response_actions", "meta"}
"""What may be added to a rule of a file: it stays when the file changes."""
_UNTOLD: Final = 40
"""How many names of changed fields the audit trail is told."""


@frozen
class Hand:
    """Who makes a change, when, and with which shipped rules to compare."""

    by: str
    at_us: int
    pack: Pack


def find_rule(connection: Connection, *, id: str | None, rule_id: str | None) -> StoredRule:  # noqa: A002
    """The one rule of that id or rule_id. Raises RequestError and NotFoundError."""
    if id is not None:
        found = rules.get(connection, id=id)
        if found is None or (rule_id is not None and found.rule_id != rule_id):
            raise NotFoundError(f'id: "{id}" not found')
        return found
    if rule_id is None:
        raise RequestError("either 'id' or 'rule_id' must be set")
    found = rules.get(connection, rule_id=rule_id)
    if found is None:
        raise NotFoundError(f'rule_id: "{rule_id}" not found')
    return found


def add_rule(
    connection: Connection, props: Props, hand: Hand, *, may_be_shipped: bool = False
) -> StoredRule:
    """Adds a rule. Raises ConflictError where its rule_id is taken.

    `may_be_shipped`: a rule_id of the pack makes it the pack's rule, not one in its way.
    """
    rule_id = props.params.get("rule_id") or str(uuid.uuid4())
    params = {**props.params, "rule_id": rule_id}
    is_shipped = may_be_shipped and rule_id in hand.pack
    made = StoredRule(
        id=str(uuid.uuid4()),
        rule_id=rule_id,
        params=settle_references(connection, params, owner=None),
        enabled=bool(props.enabled),
        revision=0,
        source="pack" if is_shipped else "api",
        path=None,
        is_customized=is_shipped and bool(customized_fields(params, hand.pack[rule_id])),
        created_at_us=hand.at_us,
        created_by=hand.by,
        updated_at_us=hand.at_us,
        updated_by=hand.by,
    )
    rules.insert(connection, made)
    meta.drop(connection, REMOVED + rule_id)
    if made.enabled:
        _note_enabled(connection, made.id, hand)
    _note(connection, hand, "rule created", made, {"name": made.params["name"]})
    return made


def change_rule(
    connection: Connection,
    old: StoredRule,
    params: JsonObject,
    *,
    enabled: bool,
    hand: Hand,
) -> StoredRule:
    """Writes new parameters. The revision counts only what changes them."""
    params = settle_references(connection, params, owner=old.id)
    before = params_of(old)
    changed = sorted(name for name in {*params, *before} if params.get(name) != before.get(name))
    if not changed and enabled is old.enabled:
        return old
    if old.source == "file" and not set(changed) <= _BESIDE_FILE:
        raise RequestError(
            f"the rule lives in {old.path}, which it follows: what is changed here would not last",
            hint="edit the file",
        )
    made = replace(
        old,
        params=params,
        rule_id=params["rule_id"],
        enabled=enabled,
        revision=old.revision + bool(changed),
        is_customized=_customizes(old, params, hand.pack),
        updated_at_us=hand.at_us,
        updated_by=hand.by,
    )
    if not rules.update(connection, made):
        raise NotFoundError(f'id: "{old.id}" not found')
    if changed:
        detail = {"fields": changed[:_UNTOLD], "revision": made.revision}
        _note(connection, hand, "rule updated", made, detail)
    if enabled is not old.enabled:
        if enabled:
            _note_enabled(connection, made.id, hand)
        _note(connection, hand, "rule enabled" if enabled else "rule disabled", made, {})
    return made


def drop_rule(connection: Connection, old: StoredRule, hand: Hand) -> None:
    """Removes a rule with its state and gaps; its alerts and runs stay."""
    rules.delete(connection, old.id)
    runs.drop_gaps(connection, old.id)
    if old.source == "pack":
        meta.put(connection, REMOVED + old.rule_id, str(hand.at_us))
    _note(connection, hand, "rule deleted", old, {"name": old.params.get("name", "")})


def _customizes(old: StoredRule, params: JsonObject, pack: Pack) -> bool:
    """Whether a rule with these parameters is other than the one that came with its file."""
    if old.source == "api":
        return False
    base = pack.get(old.rule_id)
    if base is not None and base.get("version") == old.params.get("version"):
        return bool(customized_fields(params, base))
    # The version that it came as is not at hand: an edit is all there is to go by.
    return old.is_customized or bool(customized_fields(params, params_of(old)))


def _note_enabled(connection: Connection, rule_uuid: str, hand: Hand) -> None:
    """From here on the rule watches: what came while it was off is no gap."""
    state = rules.get_state(connection, rule_uuid) or RuleState(rule_uuid)
    rules.put_state(connection, replace(state, enabled_at_us=hand.at_us))


def _note(
    connection: Connection, hand: Hand, action: str, rule: StoredRule, detail: JsonObject
) -> None:
    audit.note(
        connection,
        at_us=hand.at_us,
        by=hand.by,
        action=action,
        target=rule.rule_id,
        detail={**detail, "id": rule.id},
    )


# --- references to exception lists ---------------------------------------------------------


def settle_references(
    connection: Connection, params: JsonObject, *, owner: str | None
) -> JsonObject:
    """The same with each reference naming the list as it is stored here.

    A list that is not known is kept as it was named: it may come later. Raises ConflictError for
    a default list that belongs to another rule.
    """
    given: Sequence[JsonObject] = params.get("exceptions_list", ())
    if not given:
        return params
    settled = []
    for ref in given:
        found = exceptions.get_list(
            connection, list_id=ref["list_id"], namespace_type=ref["namespace_type"]
        )
        settled.append({**ref, "id": found.id, "type": found.type} if found else ref)
    defaults = {ref["list_id"] for ref in settled if ref["type"] == "rule_default"}
    if defaults:
        _refuse_shared(connection, defaults, owner)
    return {**params, "exceptions_list": settled}


def _refuse_shared(connection: Connection, list_ids: Collection[str], owner: str | None) -> None:
    for rule in rules.all(connection):
        if rule.id == owner:
            continue
        for ref in rule.params.get("exceptions_list", ()):
            if ref["type"] == "rule_default" and ref["list_id"] in list_ids:
                raise ConflictError(
                    f'default exception list "{ref["list_id"]}" belongs to the rule '
                    f'"{rule.params.get("name", rule.rule_id)}"'
                )
