"""The command as a process: pipes that live, close or are interrupted, and help that is read."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from samples import event, lines, write_log

COMMAND = [sys.executable, "-m", "barrelman"]
PATIENCE_SECONDS = 60


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        process.wait()


def next_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(PATIENCE_SECONDS), "no alert came"
    return process.stdout.readline()


def test_a_live_pipe_gives_alerts_as_their_run_ends() -> None:
    with started("scan", "-") as process:
        assert process.stdin is not None
        process.stdin.write(lines([event(1), event(2, seconds=600, spec={})]))
        process.stdin.flush()
        alert = json.loads(next_line(process))
        assert alert["@timestamp"] == "2026-11-23T12:05:00.000Z"
        process.stdin.write(lines([event(3, seconds=700)]))
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert [json.loads(line)["@timestamp"] for line in out.splitlines()] == [
            "2026-11-23T12:15:00.000Z"
        ]
        assert b"alerts     2" in err
        assert process.returncode == 1


def test_a_match_that_comes_after_its_run_is_alerted_all_the_same() -> None:
    with started("scan", "-") as process:
        assert process.stdin is not None
        process.stdin.write(lines([event(1), event(2, seconds=600, spec={})]))
        process.stdin.flush()
        next_line(process)
        process.stdin.write(lines([event(3, seconds=1)]))
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert [json.loads(line)["@timestamp"] for line in out.splitlines()] == [
            "2026-11-23T12:15:00.000Z"
        ]
        assert b"late       1 match" in err


def test_ctrl_c_leaves_whole_lines_and_a_summary() -> None:
    with started("scan", "-") as process:
        assert process.stdin is not None
        process.stdin.write(lines([event(1), event(2, seconds=600), event(3, seconds=650)]))
        process.stdin.flush()
        first = next_line(process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        alerts = [json.loads(line) for line in (first + out).splitlines()]
        assert len(alerts) == 3
        assert b"interrupted" in err
        assert b"alerts     3" in err
        assert process.returncode == 130


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    log = write_log(tmp_path / "a.log", [event(n, seconds=n) for n in range(400)])
    with started("scan", log, "--max-signals", "none") as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith(b"}\n")
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert b"Traceback" not in err
        assert b"Broken pipe" not in err
        assert process.returncode == 1


def test_standard_input_is_the_default_when_it_is_no_terminal() -> None:
    done = subprocess.run(
        [*COMMAND, "scan", "--quiet"], input=lines([event(1)]), capture_output=True, check=False
    )
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == b""


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["scan", "--help"], ["rules", "--help"], ["rules", "check", "-h"], ["-h"]],
    ids=" ".join,
)
@pytest.mark.parametrize("columns", [80, 160])
def test_help_fits_the_terminal(arguments: list[str], columns: int) -> None:
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": str(columns)},
    )
    assert "Usage: barrelman" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "Error" not in done.stderr


def test_version_answers_without_loading_the_command_line() -> None:
    code = (
        "import sys; sys.argv[1:] = ['--version']; from barrelman.__main__ import main; main();"
        "assert not {'click', 'rich', 'orjson'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("barrelman 0.")


def test_help_loads_neither_rich_nor_the_rules() -> None:
    code = (
        "import sys; from barrelman.cli.main import run; run(['scan', '--help']);"
        "assert not {'rich', 'zstandard', 'sqlite3'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    done = subprocess.run(
        [*COMMAND, "completion", shell], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "_BARRELMAN_COMPLETE" in done.stdout
