"""Every table of the database.

Instants are integers: microseconds since 1970 in `*_us`, milliseconds in `*_ms`. A column of type
`Json` takes and gives Python values and is text inside. What a later version adds is marked
`info=since(number)`: the migration of that number makes it (see `migrations`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.types import TypeDecorator

JsonObject: TypeAlias = dict[str, Any]

_NUL = "\0"


class Words(TypeDecorator[str]):
    """Text that any database takes: half surrogates and NUL become a replacement."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if not value.isascii():
            value = value.encode("utf-8", "replace").decode("utf-8")
        return value.replace(_NUL, "\ufffd") if _NUL in value else value


class Json(TypeDecorator[Any]):
    """A JSON value, kept as ASCII text. None is NULL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


def since(number: int) -> dict[str, int]:
    """Marks a table, a column or an index that came with a later migration."""
    return {"since": number}


# SQLite counts up only what it knows as INTEGER PRIMARY KEY.
COUNTER: Final = BigInteger().with_variant(Integer, "sqlite")

metadata: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)


def _key(name: str = "id") -> Column[str]:
    return Column(name, Words, primary_key=True)


def _counted(name: str = "id") -> Column[int]:
    return Column(name, COUNTER, primary_key=True, autoincrement=True)


def _text(name: str, *, optional: bool = False) -> Column[Any]:
    return Column(name, Words, nullable=optional)


def _number(name: str, *, optional: bool = False) -> Column[Any]:
    return Column(name, BigInteger, nullable=optional)


def _json(name: str, *, optional: bool = False) -> Column[Any]:
    return Column(name, Json, nullable=optional)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=false())


def _authorship() -> tuple[Column[Any], ...]:
    return (
        _number("created_at_us"),
        _text("created_by"),
        _number("updated_at_us"),
        _text("updated_by"),
    )


migrations: Final = Table(
    "migrations",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("name"),
    _number("applied_us"),
)

meta: Final = Table("meta", metadata, _key("key"), _text("value"))

rules: Final = Table(
    "rules",
    metadata,
    _key(),
    _text("rule_id"),
    _flag("enabled"),
    Column("revision", Integer, nullable=False),
    _text("source"),
    _text("path", optional=True),
    _flag("is_customized"),
    *_authorship(),
    _json("params"),
    UniqueConstraint("rule_id"),
)

rule_state: Final = Table(
    "rule_state",
    metadata,
    _key("rule_uuid"),
    _number("last_tick_ms", optional=True),
    _number("enabled_at_us", optional=True),
    _text("last_status", optional=True),
    _number("last_status_us", optional=True),
    _text("last_message", optional=True),
    _json("last_metrics", optional=True),
    _json("state", optional=True),
)

memories: Final = Table(
    "memories",
    metadata,
    _counted(),
    _text("rule_uuid"),
    _number("tick_ms"),
    _json("terms"),
    _text("cluster"),
    _number("until_ms"),
    Index("ix_memories_rule_tick", "rule_uuid", "tick_ms"),
    info=since(2),
)

folded: Final = Table(
    "folded",
    metadata,
    _key("rule_uuid"),
    _key("key"),
    _number("tick_ms"),
    Index("ix_folded_rule_tick", "rule_uuid", "tick_ms"),
    info=since(2),
)

exception_lists: Final = Table(
    "exception_lists",
    metadata,
    _key(),
    _text("list_id"),
    _text("namespace_type"),
    _text("type"),
    *_authorship(),
    Column("version", Integer, nullable=False),
    _json("params"),
    UniqueConstraint("list_id", "namespace_type"),
)

exception_items: Final = Table(
    "exception_items",
    metadata,
    _key(),
    _text("item_id"),
    _text("list_id"),
    _text("namespace_type"),
    _text("type"),
    *_authorship(),
    Column("version", Integer, nullable=False),
    _json("params"),
    UniqueConstraint("item_id", "namespace_type"),
    Index("ix_exception_items_list", "list_id", "namespace_type"),
)

value_lists: Final = Table(
    "value_lists",
    metadata,
    _key(),
    _text("type"),
    *_authorship(),
    Column("version", Integer, nullable=False),
    _json("params"),
)

value_list_items: Final = Table(
    "value_list_items",
    metadata,
    _key(),
    Column("list_id", Words, ForeignKey("value_lists.id", ondelete="CASCADE"), nullable=False),
    _text("value"),
    *_authorship(),
    Column("version", Integer, nullable=False),
    _json("meta", optional=True),
    UniqueConstraint("list_id", "value"),
)

runs: Final = Table(
    "runs",
    metadata,
    _key(),
    _text("rule_uuid"),
    _text("rule_id"),
    _text("kind"),
    _number("tick_ms"),
    _number("from_ms"),
    _number("to_ms"),
    _number("started_us"),
    _number("duration_ms"),
    _number("delay_ms"),
    _text("status"),
    _text("message"),
    _number("events"),
    _number("matches"),
    _number("alerts"),
    _number("capped"),
    _json("metrics"),
    Index("ix_runs_rule_started", "rule_uuid", "started_us"),
    Index("ix_runs_started", "started_us"),
)

gaps: Final = Table(
    "gaps",
    metadata,
    _counted(),
    _text("rule_uuid"),
    _text("rule_id"),
    _number("from_ms"),
    _number("to_ms"),
    _text("status"),
    _number("filled_to_ms", optional=True),
    _number("created_us"),
    _number("updated_us"),
    _text("message"),
    Index("ix_gaps_status", "status", "from_ms"),
    Index("ix_gaps_rule", "rule_uuid", "from_ms"),
)

# The documents stand apart: closing a hundred thousand alerts rewrites small rows. They are found
# by a number that grows, so that alerts of one time lie side by side, whatever their ids.
alerts: Final = Table(
    "alerts",
    metadata,
    _counted("seq"),
    _text("id"),
    _text("kind"),
    _text("rule_uuid"),
    _text("rule_id"),
    _text("rule_name"),
    _text("severity"),
    Column("risk_score", Float, nullable=False),
    _text("cluster"),
    _number("tick_ms"),
    _number("created_us"),
    _number("event_time_us", optional=True),
    _flag("building_block"),
    _text("status"),
    _number("status_updated_us", optional=True),
    _text("status_by", optional=True),
    _text("reason", optional=True),
    _json("tags"),
    _json("assignees"),
    Column("instance_id", Words, info=since(2)),
    Column("group_id", Words, info=since(2)),
    UniqueConstraint("id"),
    Index("ix_alerts_created", "created_us", "id"),
    Index("ix_alerts_instance", "instance_id", "tick_ms", info=since(2)),
    Index("ix_alerts_group", "group_id", info=since(2)),
    Index("ix_alerts_rule_tick", "rule_uuid", "tick_ms"),
    Index("ix_alerts_rule_created", "rule_uuid", "created_us"),
    Index("ix_alerts_status_created", "status", "created_us"),
)

alert_documents: Final = Table(
    "alert_documents",
    metadata,
    Column(
        "alert_seq",
        COUNTER,
        ForeignKey("alerts.seq", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    _text("document"),
)

alert_history: Final = Table(
    "alert_history",
    metadata,
    _counted(),
    Column("alert_id", Words, ForeignKey("alerts.id", ondelete="CASCADE"), nullable=False),
    _number("at_us"),
    _text("by"),
    _text("what"),
    _json("before", optional=True),
    _json("after", optional=True),
    _text("reason", optional=True),
    Index("ix_alert_history_alert", "alert_id", "id"),
    Index("ix_alert_history_at", "at_us"),
)

alert_notes: Final = Table(
    "alert_notes",
    metadata,
    _counted(),
    Column("alert_id", Words, ForeignKey("alerts.id", ondelete="CASCADE"), nullable=False),
    _number("at_us"),
    _text("by"),
    _text("text"),
    Index("ix_alert_notes_alert", "alert_id", "id"),
)

audit_trail: Final = Table(
    "audit_trail",
    metadata,
    _counted(),
    _number("at_us"),
    _text("by"),
    _text("action"),
    _text("target"),
    _json("detail"),
    Index("ix_audit_trail_at", "at_us"),
    Index("ix_audit_trail_target", "target", "at_us"),
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    _key(),
    _text("name"),
    _text("hash"),
    _text("salt"),
    _text("role"),
    _json("clusters", optional=True),
    _number("created_us"),
    _text("created_by"),
    _number("expires_us", optional=True),
    _number("revoked_us", optional=True),
    _number("last_used_us", optional=True),
    UniqueConstraint("name"),
)

accounts: Final = Table(
    "accounts",
    metadata,
    _key("name"),
    _text("hash"),
    _text("role"),
    _json("clusters", optional=True),
    _number("created_us"),
    _flag("disabled"),
)

outbox: Final = Table(
    "outbox",
    metadata,
    _counted(),
    _text("sink"),
    _text("alert_id"),
    _number("created_us"),
    _text("state"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    _number("next_us"),
    _text("last_error", optional=True),
    _number("done_us", optional=True),
    UniqueConstraint("sink", "alert_id"),
    Index("ix_outbox_due", "sink", "state", "next_us"),
    Index("ix_outbox_alert", "alert_id"),
    Index("ix_outbox_done", "done_us"),
    sqlite_autoincrement=True,
)

sink_state: Final = Table("sink_state", metadata, _key("sink"), _json("json"))

offsets: Final = Table(
    "offsets",
    metadata,
    _key("path"),
    Column("device", BigInteger, primary_key=True, autoincrement=False),
    Column("inode", BigInteger, primary_key=True, autoincrement=False),
    _number("offset"),
    _text("head_hash", optional=True),
    _number("updated_us"),
    _json("extra", optional=True),
)

watches: Final = Table(
    "watches",
    metadata,
    _key("kind"),
    _key("subject"),
    _text("state"),
    _number("since_us"),
    _text("alert_id", optional=True),
    _json("detail", optional=True),
)

ALL: Final[Mapping[str, Table]] = metadata.tables
