"""What a rule may hold: the fields of every rule type, their kinds and defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Final

from barrelman.errors import TimeError
from barrelman.query.typecheck import MOST_PARTS
from barrelman.records.paths import LONGEST_NAME
from barrelman.records.severities import SEVERITIES
from barrelman.records.times import parse_date_math, parse_duration_ms
from barrelman.rules.schema import Field, Flag, Free, Integer, ListOf, String, Table

KQL_TYPES: Final = ("query", "saved_query", "threshold", "new_terms", "threat_match")
RULE_TYPES: Final = (*KQL_TYPES, "eql", "esql", "machine_learning")
LIST_TYPES: Final = (
    "detection",
    "rule_default",
    "endpoint",
    "endpoint_trusted_apps",
    "endpoint_trusted_devices",
    "endpoint_events",
    "endpoint_host_isolation_exceptions",
    "endpoint_blocklists",
    "endpoint_custom_yara_signatures",
)
MATURITIES: Final = ("development", "experimental", "beta", "production", "deprecated")
MAX_THRESHOLD_FIELDS: Final = 5

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_THROTTLE = re.compile(r"no_actions|rule|[1-9]\d*[smhd]", re.ASCII)
_METADATA_DATE = re.compile(r"\d{4}/\d{2}/\d{2}", re.ASCII)


def _parse_metadata_date(text: str) -> None:
    try:
        date.fromisoformat(text.replace("/", "-"))
    except ValueError:
        raise TimeError(f"'{text}' is not a day of the calendar") from None


def _optional(**kinds: String | Integer | Flag | Free | ListOf | Table) -> dict[str, Field]:
    return {name: Field(kind) for name, kind in kinds.items()}


def _required(**kinds: String | Integer | Flag | Free | ListOf | Table) -> dict[str, Field]:
    return {name: Field(kind, required=True) for name, kind in kinds.items()}


_TEXT: Final = String()
_NAME: Final = String(least=1)
# On events, every way to part a name at its dots is tried.
_FIELD: Final = String(
    pattern=re.compile(
        rf"(?=[\s\S]{{0,{LONGEST_NAME}}}\Z)[^.]*+(?:\.[^.]*+){{0,{MOST_PARTS - 1}}}"
    ),
    expected=f"a field name of at most {MOST_PARTS} parts and {LONGEST_NAME} characters",
)
FIELD_NAME: Final = replace(_FIELD, least=1)
_TEXTS: Final = ListOf(_TEXT)
_DATE_MATH: Final = String(least=1, parse=parse_date_math)
_DURATION: Final = String(parse=parse_duration_ms)
_OBJECTS: Final = ListOf(Free())
_SCORE: Final = Integer(0, 100)
_SEVERITY: Final = String(choices=SEVERITIES)
_EQUALS: Final = String(choices=("equals",))

_SUBTECHNIQUE: Final = Table(_required(id=_TEXT, name=_TEXT, reference=_TEXT))
_TECHNIQUE: Final = Table({**_SUBTECHNIQUE.fields, "subtechnique": Field(ListOf(_SUBTECHNIQUE))})
_THREAT: Final = Table(
    {
        **_required(framework=_TEXT, tactic=_SUBTECHNIQUE),
        "technique": Field(ListOf(_TECHNIQUE), default=[]),
    }
)
_SEVERITY_MAPPING: Final = Table(
    _required(field=_FIELD, operator=_EQUALS, value=_TEXT, severity=_SEVERITY)
)
_RISK_SCORE_MAPPING: Final = Table(
    _required(field=_FIELD, operator=_EQUALS, value=_TEXT) | _optional(risk_score=_SCORE)
)
_EXCEPTION_LIST_REF: Final = Table(
    _required(
        id=_NAME,
        list_id=_NAME,
        type=String(choices=LIST_TYPES),
        namespace_type=String(choices=("single", "agnostic")),
    )
)
_ACTION: Final = Table(
    _required(id=_TEXT, action_type_id=_TEXT, params=Free())
    | _optional(group=_TEXT, uuid=_NAME, alerts_filter=Free(), frequency=Free())
)
_RESPONSE_ACTION: Final = Table(
    _required(action_type_id=String(choices=(".osquery", ".endpoint")), params=Free())
)
_DURATION_TABLE: Final = Table(_required(value=Integer(1), unit=String(choices=("s", "m", "h"))))
_SUPPRESSION: Final = Table(
    {
        "group_by": Field(ListOf(_FIELD, least=1, most=3), required=True),
        "duration": Field(_DURATION_TABLE),
        "missing_fields_strategy": Field(
            String(choices=("suppress", "doNotSuppress")), default="suppress"
        ),
    }
)
_THRESHOLD_SUPPRESSION: Final = Table(_required(duration=_DURATION_TABLE))

COMMON: Final[Mapping[str, Field]] = {
    **_required(name=_NAME, description=_NAME, risk_score=_SCORE, severity=_SEVERITY),
    "type": Field(String(choices=RULE_TYPES), required=True),
    "rule_id": Field(_NAME),
    # Elastic's default is off; a rule somebody put into a file is meant to run.
    "enabled": Field(Flag(), default=True),
    "interval": Field(_DURATION, default="5m"),
    "from": Field(_DATE_MATH, default="now-6m"),
    "to": Field(_DATE_MATH, default="now"),
    "max_signals": Field(Integer(1), default=100),
    "version": Field(Integer(1), default=1),
    "tags": Field(_TEXTS, default=[]),
    "author": Field(_TEXTS, default=[]),
    "false_positives": Field(_TEXTS, default=[]),
    "references": Field(_TEXTS, default=[]),
    **_optional(license=_TEXT, note=_TEXT),
    "setup": Field(_TEXT, default=""),
    "threat": Field(ListOf(_THREAT), default=[]),
    "severity_mapping": Field(ListOf(_SEVERITY_MAPPING), default=[]),
    "risk_score_mapping": Field(ListOf(_RISK_SCORE_MAPPING), default=[]),
    **_optional(
        rule_name_override=FIELD_NAME,
        timestamp_override=FIELD_NAME,
        timestamp_override_fallback_disabled=Flag(),
    ),
    "exceptions_list": Field(ListOf(_EXCEPTION_LIST_REF), default=[]),
    "actions": Field(ListOf(_ACTION), default=[]),
    **_optional(
        throttle=String(
            pattern=_THROTTLE, expected="'no_actions', 'rule' or a duration such as '1h'"
        ),
        response_actions=ListOf(_RESPONSE_ACTION),
        building_block_type=_NAME,
        investigation_fields=Table(_required(field_names=ListOf(FIELD_NAME, least=1))),
    ),
    "related_integrations": Field(
        ListOf(Table(_required(package=_NAME, version=_NAME) | _optional(integration=_NAME))),
        default=[],
    ),
    "required_fields": Field(
        ListOf(Table(_required(name=FIELD_NAME, type=_NAME) | _optional(ecs=Flag()))), default=[]
    ),
    **_optional(timeline_id=_NAME, timeline_title=_NAME, meta=Free()),
    "output_index": Field(_TEXT, default=""),
    **_optional(namespace=_TEXT, outcome=_TEXT, alias_target_id=_TEXT, alias_purpose=_TEXT),
}

RESPONSE_ONLY: Final[Mapping[str, Field]] = _optional(
    id=_NAME,
    immutable=Flag(),
    rule_source=Free(),
    created_at=_TEXT,
    created_by=_TEXT,
    updated_at=_TEXT,
    updated_by=_TEXT,
    revision=Integer(0),
)

_INDEX: Final = _optional(index=_TEXTS, data_view_id=_TEXT)
_FILTERS: Final = {"filters": Field(_OBJECTS, default=[])}
_KUERY: Final = {"language": Field(String(choices=("kuery", "lucene")), default="kuery")}
_QUERY: Final = _required(query=_TEXT)
_SUPPRESSED: Final = _optional(alert_suppression=_SUPPRESSION)
_QUERY_RULE: Final = {
    "query": Field(_TEXT, default=""),
    **_KUERY,
    **_INDEX,
    **_FILTERS,
    **_optional(saved_id=_NAME),
    **_SUPPRESSED,
}

TYPE_FIELDS: Final[Mapping[str, Mapping[str, Field]]] = {
    "query": _QUERY_RULE,
    "saved_query": {
        **_QUERY_RULE,
        "query": Field(_TEXT),  # without a copy of its own the rule has no query to run
        "saved_id": Field(_NAME, required=True),
    },
    "threshold": {
        **_QUERY,
        **_KUERY,
        **_INDEX,
        **_FILTERS,
        **_optional(saved_id=_NAME, alert_suppression=_THRESHOLD_SUPPRESSION),
        "threshold": Field(
            Table(
                {
                    "field": Field(ListOf(_FIELD, single=True), required=True),
                    "value": Field(Integer(1), required=True),
                    "cardinality": Field(
                        ListOf(Table(_required(field=_FIELD, value=Integer(0)))), default=[]
                    ),
                }
            ),
            required=True,
        ),
    },
    "eql": {
        **_QUERY,
        "language": Field(String(choices=("eql",)), required=True),
        **_INDEX,
        **_FILTERS,
        **_optional(
            event_category_override=_FIELD, tiebreaker_field=_FIELD, timestamp_field=_FIELD
        ),
        **_SUPPRESSED,
    },
    "new_terms": {
        **_QUERY,
        **_KUERY,
        **_INDEX,
        **_FILTERS,
        **_SUPPRESSED,
        "new_terms_fields": Field(ListOf(FIELD_NAME, least=1, most=3), required=True),
        "history_window_start": Field(_DATE_MATH, required=True),
    },
    "threat_match": {
        **_QUERY,
        **_KUERY,
        **_INDEX,
        **_FILTERS,
        **_SUPPRESSED,
        **_required(
            threat_query=_TEXT,
            threat_mapping=ListOf(
                Table(
                    _required(
                        entries=ListOf(
                            Table(
                                _required(
                                    field=FIELD_NAME,
                                    type=String(choices=("mapping",)),
                                    value=FIELD_NAME,
                                )
                                | _optional(negate=Flag())
                            ),
                            least=1,
                        )
                    )
                ),
                least=1,
            ),
            threat_index=_TEXTS,
        ),
        "threat_filters": Field(_OBJECTS, default=[]),
        "threat_indicator_path": Field(_FIELD, default="threat.indicator"),
        "threat_language": Field(String(choices=("kuery", "lucene")), default="kuery"),
        **_optional(saved_id=_NAME, concurrent_searches=Integer(1), items_per_search=Integer(1)),
    },
    "esql": {
        **_QUERY,
        "language": Field(String(choices=("esql",)), required=True),
        **_SUPPRESSED,
    },
    "machine_learning": {
        **_required(
            anomaly_threshold=Integer(0),
            machine_learning_job_id=ListOf(_NAME, least=1, single=True),
        ),
        **_SUPPRESSED,
    },
}

# What the TOML form asks for beyond the API form.
_TOML_SUPPRESSION: Final = Table(
    {
        **_SUPPRESSION.fields,
        "missing_fields_strategy": replace(
            _SUPPRESSION.fields["missing_fields_strategy"], required=True
        ),
    }
)
_TOML_DATE: Final = String(
    pattern=_METADATA_DATE, expected="a date such as '2026/11/23'", parse=_parse_metadata_date
)
METADATA: Final = Table(
    {
        **_required(creation_date=_TOML_DATE, updated_date=_TOML_DATE),
        **_optional(
            maturity=String(choices=MATURITIES),
            integration=ListOf(_NAME, single=True),
            min_stack_version=_NAME,
            min_stack_comments=_TEXT,
            deprecation_date=_TOML_DATE,
            deprecated_reason=_TEXT,
            bypass_bbr_timing=Flag(),
            os_type_list=_TEXTS,
            query_schema_validation=Flag(),
        ),
    }
)


def fields_of(rule_type: str | None, *, is_toml: bool) -> dict[str, Field]:
    """The fields a rule of this type may hold; of an unknown type, those common to all."""
    fields = {**COMMON, **RESPONSE_ONLY, **TYPE_FIELDS.get(rule_type or "", {})}
    if not is_toml:
        return fields
    fields["author"] = Field(_TEXTS, required=True)
    fields["rule_id"] = Field(String(pattern=_UUID, expected="a UUID"), required=True)
    if "language" in fields:
        fields["language"] = replace(fields["language"], required=True)
    if rule_type == "threat_match":
        fields["threat_language"] = replace(fields["threat_language"], required=True)
    if "alert_suppression" in fields and rule_type != "threshold":
        fields["alert_suppression"] = Field(_TOML_SUPPRESSION)
    return fields
