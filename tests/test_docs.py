"""The documents say what the code does: every command, option, exit code and rule."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from barrelman.cli.main import cli, run
from barrelman.settings.rulefiles import read_pack

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def commands(group: click.Group, path: str = "barrelman") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def long_options(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield max(parameter.opts, key=len)


def test_the_readme_names_every_command() -> None:
    for path, _ in commands(cli):
        assert path in README, path


def test_the_readme_names_every_option_of_scan_and_no_other() -> None:
    options = set(long_options(dict(commands(cli))["barrelman scan"]))
    section = README[README.index("## Scan") : README.index("### What it reads")]
    assert set(re.findall(r"`(--[a-z-]+)", section)) == options


@pytest.mark.parametrize(
    ("command", "start", "end"),
    [
        ("barrelman query", "## Query", "## Serve"),
        ("barrelman serve", "## Serve", "### Events in"),
        ("barrelman search", "| option of `barrelman search`", "### When rules run"),
    ],
)
def test_the_readme_names_every_option_and_no_other(command: str, start: str, end: str) -> None:
    section = README[README.index(start) : README.index(end)]
    rows = "\n".join(line for line in section.splitlines() if line.startswith("| `"))
    named = set(re.findall(r"`(--[a-z-]+)", rows))
    assert named == set(long_options(dict(commands(cli))[command]))


@pytest.mark.parametrize("path", [path for path, _ in commands(cli)])
def test_every_command_and_option_explains_itself(path: str) -> None:
    command = dict(commands(cli))[path]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_the_page_on_queries_names_every_option_and_no_other() -> None:
    page = (ROOT / "docs" / "query.md").read_text()
    assert set(re.findall(r"--[a-z][a-z-]+", page)) == set(
        long_options(dict(commands(cli))["barrelman query"])
    )


def test_the_commands_on_queries_run_and_find_something(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "query.md").read_text()
    asked = re.findall(r"(?m)^    (barrelman query .*(?:\n      .*)*)", page)
    assert len(asked) >= 7
    for command in asked:
        assert run(shlex.split(command)[1:]) == 1, command
        out, err = capsys.readouterr()
        assert out
        assert "malformed" not in err


def test_exit_codes_stand_in_readme_and_help() -> None:
    scan_help = dict(commands(cli))["barrelman scan"].epilog or ""
    table = README[README.index("### Exit codes") : README.index("## Rules")]
    for code in ("0", "1", "2", "130"):
        assert re.search(rf"\| {code} \|", table), code
        assert re.search(rf"\b{code} \w+", scan_help), code


def test_every_shipped_rule_is_named_in_the_readme() -> None:
    loaded = read_pack().rules
    assert loaded
    for each in loaded:
        assert each.status == "ready"
        assert each.name
        assert each.name in README


def test_the_readmes_sample_is_what_the_scan_prints() -> None:
    shown = README[README.index("<!-- demo -->") : README.index("<!-- /demo -->")]
    done = subprocess.run(
        [sys.executable, "-m", "barrelman", "scan", "examples/audit.log", "--format", "table"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"COLUMNS": "80", "PATH": "", "LANG": "C.UTF-8"},
    )
    assert done.returncode == 1, done.stderr
    printed = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    assert len(printed) >= 20
    for line in printed[:5]:
        assert line in shown, line
    alerts = re.search(r"alerts     \d+ .*", done.stderr)
    assert alerts is not None
    assert alerts[0] in shown


def test_the_readmes_two_commands_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"    make {target}\n" in README
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_links_between_documents_lead_somewhere() -> None:
    for document in ROOT.glob("**/*.md"):
        if ".venv" in document.parts:
            continue
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_changelog_has_this_version() -> None:
    from barrelman import __version__

    assert __version__ in (ROOT / "CHANGELOG.md").read_text()
