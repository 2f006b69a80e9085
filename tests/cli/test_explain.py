"""What `rules explain` says, for reading and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from barrelman.cli.main import run

RULE = {
    "rule_id": "5d1b2c1e-8c43-4f6e-9d77-0d8f2d9c7a10",
    "name": "R",
    "description": "d",
    "type": "query",
    "language": "kuery",
    "severity": "low",
    "risk_score": 21,
    "index": ["logs-kubernetes.*"],
}


def explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], query: str, *more: str, **changes: object
) -> str:
    path = tmp_path / "rule.json"
    path.write_text(json.dumps(RULE | {"query": query} | changes))
    assert run(["rules", "explain", str(path), *more]) == 0
    return capsys.readouterr().out


def test_the_shipped_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", "explain"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Kubernetes Pod Created With HostIPC\n")
    assert 'searched for:  IPC"\n' in out
    assert 'confirmed by:  "pods"\n' in out
    assert 'and:  "create" or "patch" or "update"\n' in out
    assert "Together: 1 piece, searched one after the other." in out


def test_why_a_rule_declines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = explained(tmp_path, capsys, "not kubernetes.audit.verb:get")
    assert "any line could match" in out
    assert "what a `not` excludes need not be there" in out
    assert "no sieve, as 1 of 1 rules can match any line" in out


def test_a_rule_that_reads_other_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = explained(tmp_path, capsys, "kubernetes.audit.verb:get", index=["logs-aws.*"])
    assert "no raw audit event can match it" in out


def test_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = 'kubernetes.audit.verb:(create or patch) and user.name:"eve"'
    (found,) = json.loads(explained(tmp_path, capsys, query, "--format", "json"))
    assert found["declines"] is False
    assert found["matches_raw_events"] is True
    assert found["values"] == [['"create"', '"patch"'], ['"eve"']]
    assert found["searched"] == ['"eve"']
    assert found["confirmed"] == [['"create"', '"patch"']]
    assert found["rule_id"] == RULE["rule_id"]


def test_names_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rules", "explain", "no such rule"]) == 2
    assert "no rule has that name" in capsys.readouterr().err
