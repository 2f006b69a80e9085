"""The benchmark's rules are ready, ever the same, and as SQL what they are as KQL."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from barrelman.settings.rulefiles import RuleLoad, read_rule_paths

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def ready(load: RuleLoad) -> int:
    assert not load.errors
    assert {(one.path, one.status) for one in load.rules if one.status != "ready"} == set()
    return len(load.rules)


def test_forty_rules_are_ready() -> None:
    assert ready(read_rule_paths([BENCHMARKS / "rules"])) == 40


def test_many_rules_are_ready_and_the_same_each_time(tmp_path: Path) -> None:
    first, second = tmp_path / "first.ndjson", tmp_path / "second.ndjson"
    for path in (first, second):
        run("many.py", path, "--count", 300)
    assert first.read_bytes() == second.read_bytes()
    assert ready(read_rule_paths([first])) == 300
    queries = [json.loads(line)["query"] for line in first.read_text().splitlines()]
    assert len(set(queries)) == 300


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        ("kubernetes.audit.verb:get", """("verb" = 'get')"""),
        (
            "not user.name:(a or b* or *c* or *d or e*f_)",
            (
                """(NOT coalesce((("user"."username" = 'a' """
                """OR starts_with("user"."username", 'b') OR contains("user"."username", 'c') """
                """OR ends_with("user"."username", 'd') """
                """OR "user"."username" LIKE 'e%f^_' ESCAPE '^')), false))"""
            ),
        ),
        (
            "kubernetes.audit.objectRef.name:* and kubernetes.audit.responseStatus.code >= 400",
            """(("objectRef"."name" <> '') AND ("responseStatus"."code" >= 400))""",
        ),
        (
            "kubernetes.audit.requestObject.spec.containers.securityContext.privileged:true",
            (
                """(len(list_filter("requestObject"."spec"."containers", """
                """lambda x3: x3."securityContext"."privileged" = true)) > 0)"""
            ),
        ),
        (
            'kubernetes.audit.requestObject.rules.verbs:"*"',
            (
                """(len(list_filter("requestObject"."rules", lambda x2: """
                """len(list_filter(x2."verbs", lambda x3: x3 = '*')) > 0)) > 0)"""
            ),
        ),
        (
            'kubernetes.audit.annotations.authorization_k8s_io/decision:"it\'s"',
            """("annotations"."authorization.k8s.io/decision" = 'it''s')""",
        ),
    ],
)
def test_a_query_as_sql(query: str, condition: str, tmp_path: Path) -> None:
    original = sorted((BENCHMARKS / "rules").glob("*.toml"))[0].read_text(encoding="utf-8")
    head = original[: original.index("query = '''")]
    rule = tmp_path / "rule.toml"
    rule.write_text(f"{head}query = {json.dumps(query)}\n", encoding="utf-8")
    made = run("sql.py", "audit.log", rule)
    assert made.partition("\nWHERE ")[2].rstrip("\n") == condition


def test_columns_hold_what_the_rules_read_and_no_more() -> None:
    made = run("sql.py", "audit.log", BENCHMARKS / "rules")
    columns = made.partition("columns = ")[2].partition("\nWHERE")[0]
    assert '"privileged" BOOLEAN' in columns
    assert '"rules" STRUCT("resources" VARCHAR[], "verbs" VARCHAR[])[]' in columns
    assert "responseObject" not in columns
    assert made.count("\n   OR ") == 39


def test_a_query_that_has_no_sql_is_refused(tmp_path: Path) -> None:
    original = sorted((BENCHMARKS / "rules").glob("*.toml"))[0].read_text(encoding="utf-8")
    rule = tmp_path / "rule.toml"
    head = original[: original.index("query = '''")]
    rule.write_text(f"{head}query = 'anything at all'\n", encoding="utf-8")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run("sql.py", "audit.log", rule)
    assert "UntranslatableError" in failed.value.stderr
