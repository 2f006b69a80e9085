"""The rules of the service, and what is remembered of each between its runs."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import sqlalchemy as sa

from barrelman.records.event import JsonObject
from barrelman.records.frozen import frozen
from barrelman.store import memories
from barrelman.store.database import selecting, telling_conflict, upsert, values_of
from barrelman.store.tables import rule_state, rules

Source: TypeAlias = Literal["api", "pack", "file"]


@frozen
class StoredRule:
    """A rule as it was last edited. `params`: its fields in the form of the API, all filled in."""

    id: str
    rule_id: str
    params: JsonObject
    enabled: bool
    revision: int
    source: Source
    path: str | None
    is_customized: bool
    created_at_us: int
    created_by: str
    updated_at_us: int
    updated_by: str


@frozen
class RuleState:
    """What outlives the process: the tick of the last scheduled run, and how the last run went."""

    rule_uuid: str
    last_tick_ms: int | None = None
    enabled_at_us: int | None = None
    last_status: str | None = None
    last_status_us: int | None = None
    last_message: str | None = None
    last_metrics: JsonObject | None = None
    state: JsonObject | None = None


_SELECTED: Final = selecting(rules, StoredRule)
_SELECTED_STATE: Final = selecting(rule_state, RuleState)


def get(
    connection: sa.Connection,
    *,
    id: str | None = None,  # noqa: A002  # the word of the API
    rule_id: str | None = None,
) -> StoredRule | None:
    """The rule with this id or this `rule_id`, whichever is given."""
    if (id is None) == (rule_id is None):
        raise TypeError("name a rule by one of id and rule_id")
    where = rules.c.id == id if id is not None else rules.c.rule_id == rule_id
    row = connection.execute(_SELECTED.where(where)).first()
    return None if row is None else StoredRule(*row)


def all(connection: sa.Connection) -> list[StoredRule]:  # noqa: A001  # read as `rules.all`
    """Every rule, by `rule_id`."""
    return [StoredRule(*row) for row in connection.execute(_SELECTED.order_by(rules.c.rule_id))]


def insert(connection: sa.Connection, rule: StoredRule) -> None:
    """Adds a rule. Raises ConflictError where its id or its `rule_id` is taken."""
    with telling_conflict(connection, f'rule_id: "{rule.rule_id}" already exists'):
        connection.execute(sa.insert(rules).values(values_of(rule)))


def update(connection: sa.Connection, rule: StoredRule) -> bool:
    """Replaces the rule of this id; False where it is gone. ConflictError: `rule_id` is taken."""
    with telling_conflict(connection, f'rule_id: "{rule.rule_id}" already exists'):
        changed = connection.execute(
            sa.update(rules).where(rules.c.id == rule.id).values(values_of(rule))
        )
    return changed.rowcount > 0


def delete(connection: sa.Connection, id: str) -> bool:  # noqa: A002  # the word of the API
    """Removes a rule and what was remembered of it; False where it is gone already."""
    delete_state(connection, id)
    memories.forget(connection, id)
    return connection.execute(sa.delete(rules).where(rules.c.id == id)).rowcount > 0


def get_state(connection: sa.Connection, rule_uuid: str) -> RuleState | None:
    """What is remembered of a rule, None where nothing is."""
    found = connection.execute(_SELECTED_STATE.where(rule_state.c.rule_uuid == rule_uuid)).first()
    return None if found is None else RuleState(*found)


def all_states(connection: sa.Connection) -> dict[str, RuleState]:
    """What is remembered, by the rule's id."""
    return {row.rule_uuid: RuleState(*row) for row in connection.execute(_SELECTED_STATE)}


def put_state(connection: sa.Connection, state: RuleState) -> bool:
    """Remembers all of this of a rule; False where the rule was deleted meanwhile."""
    is_there = sa.select(sa.exists().where(rules.c.id == state.rule_uuid))
    if not connection.execute(is_there).scalar_one():
        return False
    upsert(connection, rule_state, values_of(state))
    return True


def delete_state(connection: sa.Connection, rule_uuid: str) -> None:
    """Forgets what is remembered of a rule."""
    connection.execute(sa.delete(rule_state).where(rule_state.c.rule_uuid == rule_uuid))
