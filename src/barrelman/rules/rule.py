"""A checked detection rule, and what came of loading one."""

from __future__ import annotations

from dataclasses import KW_ONLY, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from uuid import UUID, uuid5

from barrelman.errors import BarrelmanError
from barrelman.query.ast import MATCH_ALL, Node
from barrelman.records.frozen import frozen
from barrelman.records.times import DateMath

if TYPE_CHECKING:
    from barrelman.query.eqltree import EqlQuery

JsonObject: TypeAlias = dict[str, Any]
Status: TypeAlias = Literal["ready", "unsupported", "invalid"]
Language: TypeAlias = Literal["kuery", "lucene", "eql", "esql"]

# Fixed for ever: alert ids are made of the ids that are derived here.
ID_NAMESPACE: Final = UUID("8a3ad18c-0b1c-5d0b-9a57-0d6f7a1f35c2")
MAX_SIGNALS_CAP: Final = 1000
"""No run raises more alerts than this, whatever its rule asks for."""


@frozen
class Technique:
    """An ATT&CK technique or one of its subtechniques."""

    id: str
    name: str
    reference: str
    subtechnique: tuple[Technique, ...] = ()


@frozen
class Tactic:
    id: str
    name: str
    reference: str


@frozen
class Threat:
    framework: str
    tactic: Tactic
    technique: tuple[Technique, ...] = ()


@frozen
class SeverityMapping:
    field: str
    operator: str
    value: str
    severity: str


@frozen
class RiskScoreMapping:
    field: str
    operator: str
    value: str
    risk_score: int | None = None


@frozen
class Cardinality:
    field: str
    value: int


@frozen
class Threshold:
    """No fields: all events of a window are one group. Of `cardinality` only the first counts."""

    field: tuple[str, ...]
    value: int
    cardinality: tuple[Cardinality, ...] = ()


@frozen
class AlertSuppression:
    """`duration_ms` None: repeats are folded within one run. Threshold rules group by nothing."""

    group_by: tuple[str, ...]
    duration_ms: int | None
    missing_fields_strategy: str


@frozen
class ExceptionListRef:
    id: str
    list_id: str
    type: str
    namespace_type: str


@frozen
class ThreatMappingEntry:
    field: str
    type: str
    value: str
    negate: bool = False


@frozen
class Rule:
    """A rule of any type with Elastic's field names; only `from` is spelled `from_`.

    Fields of other rule types keep their empty values. `query_ast` is the parsed query of a rule
    that runs, else None; `filter_ast` is the `filters` array. `parameters` is the whole rule as
    the API would return it, for copies into alerts.
    """

    _: KW_ONLY
    rule_id: str
    type: str
    name: str
    description: str
    risk_score: int
    severity: str

    enabled: bool = True
    interval: str
    interval_ms: int
    from_: DateMath
    to: DateMath
    max_signals: int = 100
    version: int = 1
    tags: tuple[str, ...] = ()
    author: tuple[str, ...] = ()
    false_positives: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    license: str | None = None
    note: str | None = None
    setup: str = ""
    threat: tuple[Threat, ...] = ()
    severity_mapping: tuple[SeverityMapping, ...] = ()
    risk_score_mapping: tuple[RiskScoreMapping, ...] = ()
    rule_name_override: str | None = None
    timestamp_override: str | None = None
    timestamp_override_fallback_disabled: bool = False
    exceptions_list: tuple[ExceptionListRef, ...] = ()
    actions: tuple[JsonObject, ...] = ()
    throttle: str | None = None
    response_actions: tuple[JsonObject, ...] = ()
    building_block_type: str | None = None
    investigation_fields: tuple[str, ...] = ()
    related_integrations: tuple[JsonObject, ...] = ()
    required_fields: tuple[JsonObject, ...] = ()
    timeline_id: str | None = None
    timeline_title: str | None = None
    meta: JsonObject = field(default_factory=dict)
    output_index: str = ""
    namespace: str | None = None
    outcome: str | None = None
    alias_target_id: str | None = None
    alias_purpose: str | None = None

    id: str | None = None
    immutable: bool | None = None
    rule_source: JsonObject | None = None
    created_at: str | None = None
    created_by: str | None = None
    updated_at: str | None = None
    updated_by: str | None = None
    revision: int | None = None

    query: str | None = None
    language: Language | None = None
    index: tuple[str, ...] | None = None
    """None: the rule names no index patterns and reads the default ones."""
    data_view_id: str | None = None
    filters: tuple[JsonObject, ...] = ()
    saved_id: str | None = None
    alert_suppression: AlertSuppression | None = None
    threshold: Threshold | None = None
    event_category_override: str | None = None
    tiebreaker_field: str | None = None
    timestamp_field: str | None = None
    new_terms_fields: tuple[str, ...] = ()
    history_window_start: DateMath | None = None
    threat_query: str | None = None
    threat_mapping: tuple[tuple[ThreatMappingEntry, ...], ...] = ()
    """Groups of which one must hold; within a group every entry must."""
    threat_index: tuple[str, ...] = ()
    threat_filters: tuple[JsonObject, ...] = ()
    threat_indicator_path: str | None = None
    threat_language: str | None = None
    concurrent_searches: int | None = None
    items_per_search: int | None = None
    anomaly_threshold: int | None = None
    machine_learning_job_id: tuple[str, ...] = ()

    query_ast: Node | None = None
    """Of an EQL rule what an event must meet to matter to it: some stage of a sequence."""
    eql: EqlQuery | None = None
    filter_ast: Node = MATCH_ALL
    threat_ast: Node | None = None
    """What an indicator must meet: threat_query and threat_filters."""
    parameters: JsonObject = field(repr=False, default_factory=dict)
    metadata: JsonObject = field(repr=False, default_factory=dict)
    """The `[metadata]` table of a TOML rule file."""
    path: str = ""
    line: int = 1

    @property
    def uuid(self) -> str:
        """The rule's id in Kibana, or where it has none one that is the same at every load."""
        return self.id or str(uuid5(ID_NAMESPACE, self.rule_id))

    @property
    def category_field(self) -> str:
        """The field that holds an event's category in EQL."""
        return self.event_category_override or "event.category"

    @property
    def effective_max_signals(self) -> int:
        """The alerts one run may raise: `max_signals`, held under the cap of all rules."""
        return min(self.max_signals, MAX_SIGNALS_CAP)


@frozen
class LoadedRule:
    """One rule as found in a file: *ready*, *unsupported* or *invalid*.

    `rule` is None exactly when the rule is invalid. `reason` says in one line why a rule does not
    run; `errors` holds the same with places. `notes` say what is accepted and not applied.
    """

    _: KW_ONLY
    path: str
    line: int
    rule_id: str | None
    name: str | None
    type: str | None
    language: str | None
    status: Status
    reason: str = ""
    rule: Rule | None = None
    notes: tuple[str, ...] = ()
    errors: tuple[BarrelmanError, ...] = ()
