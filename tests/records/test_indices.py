from __future__ import annotations

from typing import Any

import pytest

from barrelman.records.event import Event
from barrelman.records.indices import IndexPatterns, data_stream, stream_of_index

AUDIT = "logs-kubernetes.audit_logs-default"


@pytest.mark.parametrize(
    ("patterns", "stream", "read"),
    [
        (["logs-kubernetes.*"], AUDIT, True),
        (["logs-*"], AUDIT, True),
        (["*"], AUDIT, True),
        (["_all"], AUDIT, True),
        ([AUDIT], AUDIT, True),
        (["logs-kubernetes"], AUDIT, False),
        (["logs-kubernetes?*"], AUDIT, False),
        (["logs.kubernetes*"], AUDIT, False),
        (["LOGS-*"], AUDIT, False),
        (["logs-aws*", "logs-kubernetes.audit_logs-*"], AUDIT, True),
        (["logs-aws*,logs-kube*"], AUDIT, True),
        (["logs-aws*, logs-kube*"], AUDIT, True),
        (["logs-*", "-logs-kubernetes*"], AUDIT, False),
        (["-logs-kubernetes*", "logs-*"], AUDIT, True),
        (["logs-*", "-*elastic-cloud-logs-*"], AUDIT, True),
        (["-logs-aws*"], AUDIT, False),
        (["remote:logs-kubernetes.*"], AUDIT, True),
        (["*:logs-kubernetes.*"], AUDIT, True),
        (["logs-*", "-remote:logs-kube*"], AUDIT, False),
        ([], AUDIT, True),
        ([""], AUDIT, True),
        ([" "], AUDIT, True),
        (["*default"], AUDIT, True),
        (["*audit*default"], AUDIT, True),
        (["logs-*-default"], "logs--default", True),
        (["logs-*-default"], "logs-default", False),
        (["a*a"], "a", False),
        (["a*b*b"], "ab", False),
        (["a*b*b"], "abb", True),
        (["a*b*c"], "abcbc", True),
    ],
)
def test_which_streams_a_rule_reads(patterns: list[str], stream: str, read: bool) -> None:
    assert IndexPatterns(patterns).read(stream) is read


def test_many_stars_do_not_go_astray() -> None:
    """The name may come from the input: backtracking over it would never end."""
    assert not IndexPatterns(["*a" * 60 + "*b"]).read("a" * 20_000)


@pytest.mark.parametrize(
    ("index", "stream"),
    [
        (".ds-logs-kubernetes.audit_logs-default-2026.11.23-000001", AUDIT),
        (
            ".internal.alerts-security.alerts-default-000004",
            ".alerts-security.alerts-default",
        ),
        ("logs-x-default", "logs-x-default"),
        (".ds-odd", ".ds-odd"),
        ("", ""),
    ],
)
def test_backing_indices(index: str, stream: str) -> None:
    assert stream_of_index(index) == stream


@pytest.mark.parametrize(
    ("body", "stream"),
    [
        ({"data_stream": {"type": "metrics", "dataset": "d", "namespace": "n"}}, "metrics-d-n"),
        ({"data_stream.dataset": "d"}, "logs-d-default"),
        ({"data_stream": {"dataset": ["d", "e"]}}, "logs-d-default"),
        ({"data_stream": {"type": "logs"}}, None),
        ({"kubernetes": {"audit": {"verb": "get"}}}, AUDIT),
        ({"kubernetes.audit.verb": "get"}, AUDIT),
        ({"kubernetes": {"audit.verb": "get"}}, AUDIT),
        ({"kubernetes": {"pod": "x"}}, None),
        ({"kubernetes": {"audit": {}}}, None),
        ({"kibana.alert.uuid": "u", "data_stream.dataset": "d"}, ".alerts-security.alerts-default"),
        ({"kibana": {"alert": {"uuid": "u"}}}, ".alerts-security.alerts-default"),
        ({"kibana": {"version": "9"}}, None),
        ({}, None),
    ],
)
def test_the_stream_of_a_document(body: dict[str, Any], stream: str | None) -> None:
    assert data_stream(Event(body, is_document=True)) == stream


def test_the_index_of_a_search_hit_decides() -> None:
    hit = Event({"data_stream.dataset": "d"}, is_document=True, index="logs-e-default")
    assert data_stream(hit) == "logs-e-default"


def test_a_raw_event_belongs_to_the_audit_stream() -> None:
    assert data_stream(Event({"data_stream": {"dataset": "d"}})) == AUDIT
