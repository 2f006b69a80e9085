"""A folder of rules as they are written upstream, of every type: what runs, and what is named."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "types"
HEAD = """[metadata]
creation_date = "2026/11/27"
updated_date = "2026/11/27"
integration = ["kubernetes"]
maturity = "production"

[rule]
author = ["Nobody"]
description = "d"
from = "now-6m"
interval = "5m"
name = "{name}"
risk_score = 1
rule_id = "{number:08}-0000-4000-8000-000000000000"
severity = "low"
type = "{type}"
"""
NOT_RUN = {
    "esql": """language = "esql"
query = "from logs-* metadata _id, _version, _index | where true | keep _id, _version, _index"
""",
    "machine_learning": """anomaly_threshold = 50
machine_learning_job_id = "job"
""",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As in a checkout: one file a rule, below `rules/`; and an export beside them."""
    root = tmp_path_factory.mktemp("checkout")
    rules = root / "rules" / "integrations"
    rules.mkdir(parents=True)
    for example in EXAMPLES.iterdir():
        for path in example.glob("rule.*"):
            shutil.copy(path, rules / f"{example.name}{path.suffix}")
    for number, (kind, text) in enumerate(NOT_RUN.items(), 1):
        head = HEAD.format(name=f"The {kind} rule", number=number, type=kind)
        (rules / f"{kind}.toml").write_text(head + text)
    broken = HEAD.format(name="Broken", number=9, type="eql")
    text = "language = 'eql'\nquery = 'sequence by [any where true]'\n"
    (rules / "broken.toml").write_text(broken + text)
    return root


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "barrelman", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_rule_is_ready_or_named(folder: Path) -> None:
    done = run("rules", "check", folder, "--format", "json")
    found: dict[str, Any] = {each["name"]: each for each in json.loads(done.stdout)}
    unready = {name: each for name, each in found.items() if each["status"] != "ready"}
    assert set(unready) == {"The esql rule", "The machine_learning rule", "Broken"}
    assert "ES|QL rules do not run yet" in unready["The esql rule"]["reason"]
    assert "do not run here" in unready["The machine_learning rule"]["reason"]
    assert "broken.toml:18:22: query: a field" in unready["Broken"]["reason"]
    assert done.returncode == 2


def test_a_scan_runs_what_it_can_and_names_the_rest(folder: Path) -> None:
    events = [
        example / "events.jsonl" for example in sorted(EXAMPLES.iterdir()) if example.is_dir()
    ]
    feeds = f"feeds-a={EXAMPLES / 'threat-match' / 'indicators.jsonl'}"
    history = EXAMPLES / "new-terms" / "history.jsonl"
    options: list[str | Path] = [
        "--no-pack",
        "--rules",
        folder,
        "--index",
        feeds,
        "--history",
        history,
    ]
    done = run("scan", *events, *options, "--format", "jsonl")
    types = {json.loads(line)["kibana.alert.rule.type"] for line in done.stdout.splitlines()}
    assert types == {"query", "saved_query", "threshold", "new_terms", "threat_match", "eql"}
    assert "rules      11 ran, 2 unsupported, 1 invalid" in done.stderr
    assert "unsupported: The esql rule: ES|QL rules do not run yet" in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("example", "line"),
    [
        ("threshold", "counts      6 events or more of the same user.name, with 5 different"),
        (
            "new-terms",
            "new         values of user.name, kubernetes.audit.objectRef.namespace together",
        ),
        ("threat-match", "indicators  in feeds-*: threat.indicator.confidence"),
        ("threat-match", "compares    source.ip is threat.indicator.ip; or"),
        (
            "suppression",
            "suppresses  by user.name, for 1h; what lacks a field is an alert by itself",
        ),
        ("building-block", "kind        a building block"),
    ],
)
def test_a_rule_shown_says_what_it_makes_of_events(example: str, line: str) -> None:
    done = run("rules", "show", EXAMPLES / example / "rule.toml")
    assert line in done.stdout


def test_an_alert_in_the_table_names_what_the_indicator_met() -> None:
    folder = EXAMPLES / "threat-match"
    done = run(
        *("scan", folder / "events.jsonl", "--no-pack", "--rules", folder / "rule.toml"),
        *("--index", f"feeds-a={folder / 'indicators.jsonl'}", "--format", "table"),
    )
    assert "why  indicator source.ip: 203.0.113.77" in done.stdout
