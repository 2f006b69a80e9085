"""The bars on faults in a short form: a real server, killed, hurt and besieged.

The long form is in `benchmarks/`: `chaos.py` and `siege.py` run here as they do there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SECONDS = 120.0
"""Far more than it takes: a machine may have other things to do."""


def run(script: str, *options: str) -> str:
    """What a script prints; it must find all as it has to be."""
    command = [sys.executable, str(BENCHMARKS / script), *options]
    environment = os.environ | {"CHAOS_NO_MOUNT": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=SECONDS, env=environment
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    shown = run(
        "chaos.py", "--kills", "3", "--rate", "1000", "--longest", "0.6",
        "--attacks-per-second", "10", "--folder", str(tmp_path),
    )  # fmt: skip
    assert "### kills" in shown


@pytest.mark.skipif(sys.platform != "linux", reason="it sets limits of another process")
def test_a_full_disk_is_said_and_got_over(tmp_path: Path) -> None:
    options = ("--fault", "disk-full", "--rate", "2000", "--down-seconds", "0.5")
    assert "### disk-full" in run("chaos.py", *options, "--folder", str(tmp_path))


def test_what_is_hostile_costs_an_honest_client_nothing(tmp_path: Path) -> None:
    attacks = ("mixed", "fuzz", "tricks", "oversize")
    assert "### siege" in run("siege.py", *attacks, "--short", "--folder", str(tmp_path))
