from __future__ import annotations

import pytest

from barrelman.engine.blind import impossible
from barrelman.query.kql import parse_kql
from barrelman.records.fields import absence_in_raw_events

PROCESS = "audit events have no field process.name"
SPELLED = (
    "annotation keys are spelled with _ for each dot: "
    "kubernetes.audit.annotations.authorization_k8s_io/decision"
)
FILE = "audit events have no field file.path"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("process.name:x", PROCESS),
        ("process.name:*", PROCESS),
        ("process.name > 1", PROCESS),
        ("process.name:{ a:1 }", PROCESS),
        ("process:{ name:x }", "audit events have no field process"),
        ("user:{ name:x }", None),
        ("user:{ shoe:x }", "audit events have no field user.shoe"),
        ("process.name:x and user.name:y", PROCESS),
        ("user.name:y and (process.name:x and file.path:y)", PROCESS),
        ("process.name:x or file.path:y", f"{PROCESS}; {FILE}"),
        ("process.name:(x or y)", PROCESS),
        ("process.name:x or user.name:y", None),
        ("(process.name:x or file.path:y) and user.name:z", f"{PROCESS}; {FILE}"),
        ("not process.name:x", None),
        ("not process.name:x and file.path:y", FILE),
        ("process.*:x", None),
        ("x", None),
        ("", None),
        ("user.name:y", None),
        (
            "kubernetes.audit.requestObject.metadata.name:x",
            "kubernetes.audit.requestObject.metadata is removed from audit events",
        ),
        (
            "kubernetes.audit.annotations.authorization.k8s.io/decision:allow",
            SPELLED,
        ),
        ("kubernetes.audit.annotations.authorization_k8s_io/decision:allow", None),
        ("kubernetes.audit.requestObject.spec.template.metadata.name:x", None),
    ],
)
def test_why_a_query_cannot_match(query: str, reason: str | None) -> None:
    assert impossible(parse_kql(query), absence_in_raw_events) == reason
