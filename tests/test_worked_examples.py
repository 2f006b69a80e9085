"""Each folder below `examples/types` does what its README says, to the byte."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDERS = sorted(
    path for path in (Path(__file__).parents[1] / "examples" / "types").iterdir() if path.is_dir()
)
_NO_INDEX = "scan events.jsonl --no-pack --rules rule.toml --format jsonl"
TYPES = {"query", "saved_query", "threshold", "new_terms", "threat_match", "eql"}


def command_of(folder: Path) -> list[str]:
    readme = (folder / "README.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"(?m)^    barrelman (scan .*)$", readme)
    return shlex.split(found)


def rule_of(folder: Path) -> Path:
    return next(path for path in folder.iterdir() if path.stem == "rule")


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "barrelman", *command_of(folder), *options]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False)


def shells_and_singles(alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in alerts if "kibana.alert.group.index" not in each]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_command_of_the_readme_gives_the_alerts(folder: Path) -> None:
    done = run(folder, "--format", "jsonl")
    assert done.returncode == 1, done.stderr
    assert done.stdout == (folder / "alerts.jsonl").read_bytes()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_readme_tells_of_each_alert(folder: Path) -> None:
    readme = (folder / "README.md").read_text(encoding="utf-8")
    alerts = [json.loads(line) for line in (folder / "alerts.jsonl").read_bytes().splitlines()]
    counts = {"": 1, "a": 1, "another": 1, "an": 1, "two": 2}
    told = sum(
        counts[found]
        for found in re.findall(r"\*\*(an|another|two|a) (?:alerts?|sequence|sample)\*\*", readme)
    )
    assert told == len(shells_and_singles(alerts))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_order_of_the_events_does_not_matter(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    for path in folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "events.jsonl").write_bytes(b"".join(reversed(lines)))
    done = run(tmp_path, "--format", "jsonl")
    assert done.stdout == (folder / "alerts.jsonl").read_bytes()


def test_every_type_that_runs_has_an_example() -> None:
    shown = set()
    for folder in FOLDERS:
        text = rule_of(folder).read_text(encoding="utf-8")
        found = re.search(r"""(?m)(?:^type = |"type":\s*)"(\w+)\"""", text)
        assert found is not None
        shown.add(found[1])
    assert shown == TYPES


def test_without_a_past_the_first_window_is_new_and_the_scan_says_so() -> None:
    (folder,) = (each for each in FOLDERS if each.name == "new-terms")
    command = command_of(folder)
    command = command[: command.index("--history")]
    done = subprocess.run(
        [sys.executable, "-m", "barrelman", *command, "--format", "jsonl"],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    assert len(done.stdout.splitlines()) == 3
    assert b"had no past" in done.stderr


def test_a_sequence_is_one_row_of_the_table() -> None:
    (folder,) = (each for each in FOLDERS if each.name == "eql-sequence")
    done = run(folder, "--format", "table", "--quiet")
    text = done.stdout.decode()
    assert text.count("Secrets Read Right After") == 1
    assert "15:00:05 create clusterrolebindings temp" in text
    assert "15:01:50 get secrets shop/db" in text


def test_an_indicator_rule_without_its_index_does_not_run_and_says_so() -> None:
    (folder,) = (each for each in FOLDERS if each.name == "threat-match")
    done = subprocess.run(
        [sys.executable, "-m", "barrelman", *shlex.split(_NO_INDEX)],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert b"its indicators are in feeds-*" in done.stderr
