"""Nothing is imported before it is used: what a command loads is most of what a small one costs.

No clock is read here: each command runs in an interpreter of its own, which tells its modules.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from samples import SEED_NAME, event, write_log

CHILD = """
import sys
before = set(sys.modules)
from barrelman.__main__ import main
try:
    main()
finally:
    loaded = sorted(set(sys.modules) - before)
    import json
    print(json.dumps(loaded), file=sys.stderr)
"""

# Libraries that take longer to load than a line to judge, and that few scans have a use for.
HEAVY = frozenset(
    {
        *("bz2", "calendar", "difflib", "hashlib", "heapq", "hyperscan", "importlib.resources"),
        *("ipaddress", "isal", "lzma", "multiprocessing", "numpy", "pathlib", "pickle", "random"),
        *("rich", "shutil", "sqlite3", "subprocess", "tempfile", "zipfile", "zstandard"),
    }
)
# click asks `shutil` how wide the terminal is.
OF_HELP = frozenset({"bz2", "lzma", "shutil"})
# Modules of ours that only an alert on a terminal, another command or a broken query needs.
ELSEWHERE = frozenset(
    {
        *("barrelman.cli.describe", "barrelman.cli.listing", "barrelman.cli.table"),
        *("barrelman.detection.alert", "barrelman.detection.redact"),
        *("barrelman.detection.overrides", "barrelman.detection.reason"),
        *("barrelman.query.render", "barrelman.rules.escape"),
    }
)
BELOW_CLI = tuple(f"barrelman.{room}" for room in ("detection", "engine", "query", "rules"))


def run(*arguments: str | Path) -> tuple[int, frozenset[str]]:
    """A command's exit code, and the modules that it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, frozenset(json.loads(done.stderr.splitlines()[-1]))


def of_ours(modules: frozenset[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] == "barrelman"}


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_loads_nothing(option: str) -> None:
    code, modules = run(option)
    assert code == 0
    assert of_ours(modules) == {"barrelman", "barrelman.__main__"}
    assert modules.isdisjoint(HEAVY | {"click", "dataclasses", "inspect", "re", "typing"})


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["scan", "--help"],
        ["query", "--help"],
        ["rules", "--help"],
        ["rules", "list", "--help"],
    ],
)
def test_help_loads_the_command_line_alone(arguments: list[str]) -> None:
    code, modules = run(*arguments)
    assert code == 0
    assert "barrelman.cli.main" in modules
    assert not {name for name in of_ours(modules) if name.startswith(BELOW_CLI)}
    assert modules.isdisjoint(HEAVY - OF_HELP | ELSEWHERE | {"orjson", "stringzilla", "tomllib"})


def test_a_scan_without_alerts_loads_what_judging_needs(tmp_path: Path) -> None:
    log = write_log(tmp_path / "audit.log", [event(1, spec={})])
    code, modules = run("scan", log, "--quiet")
    assert code == 0
    assert "barrelman.engine.ruleset" in modules
    assert not modules & (HEAVY | ELSEWHERE)


def test_what_is_used_is_seen(tmp_path: Path) -> None:
    """The tests above can fail: where one of those modules is needed, it is found."""
    log = write_log(tmp_path / "audit.log", [event(1)])
    code, modules = run("scan", log, "--quiet", "--format", "table")
    assert code == 1
    assert {"rich", "barrelman.cli.table", "barrelman.cli.describe"} <= modules
    code, modules = run("rules", "show", SEED_NAME)
    assert code == 0
    assert {"rich", "barrelman.cli.listing", "barrelman.query.render"} <= modules
