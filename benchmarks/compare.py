"""Times whole processes against each other, in turn, and judges the ratios.

    python benchmarks/compare.py seed
    python benchmarks/compare.py all --mib 2048 --rounds 7

Each suite answers one question with several programs over the same generated log. Rounds
alternate between them, so a slow minute of the machine falls on all; start-up is part of the
time; a first round that is not timed warms the page cache, takes memory, and makes sure that all
of them found the same. Ratios are taken within a round, and their median is what a bar is on.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import statistics
import sys
import time
from pathlib import Path

from inputs import Inputs
from measure import HAS_PROC, Contender, alternate
from suites import SUITES, Suite

VERSIONED = ("barrelman", "orjson", "duckdb", "isal")


def measured(suite: Suite, *, rounds: int) -> None:
    for one in suite.contenders:
        one.warm_up()
    suite.check()
    alternate(suite.contenders, rounds=rounds * suite.more_rounds, name=suite.name)


def row(one: Contender) -> str:
    speed = f"{one.size_bytes / one.wall / 1e6:,.0f}" if one.size_bytes else ""
    rate = f"{one.events / one.wall:,.0f}" if one.events else ""
    cpu = statistics.median(one.cpu_seconds)
    return f"| {one.name} | {one.wall:.3f} | {speed} | {rate} | {cpu:.2f} | {one.peak_mib:.0f} |"


def report(suite: Suite) -> str:
    """What was measured and what was demanded, as Markdown."""
    rounds = len(suite.contenders[0].wall_seconds)
    lines = [
        f"### {suite.name}",
        "",
        " ".join([suite.about, *suite.notes, f"Medians of {rounds} rounds."]),
        "",
        "| process | seconds | MB/s | events/s | CPU s | peak MiB |",
        "|---|---:|---:|---:|---:|---:|",
        *map(row, suite.contenders),
        "",
        "| bar | wanted | median | lowest | highest | met |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for bar in suite.bars:
        *figures, met = bar.judged()
        shown = (f"{figure:,.0f}" if figure > 1000 else f"{figure:.2f}" for figure in figures)
        met_text = "yes" if met else "**no**"
        lines.append(f"| {bar.label} | {bar.wanted} | {' | '.join(shown)} | {met_text} |")
    return "\n".join(lines) + "\n"


def heading(inputs: Inputs) -> str:
    versions = []
    for name in VERSIONED:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return (
        f"{time.strftime('%Y-%m-%d')}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {', '.join(versions)}; "
        f"log of {inputs.mib} MiB, seed 1"
        f"{'' if HAS_PROC else '; peak MiB is of the first process alone, page cache included'}.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time barrelman against other programs.")
    parser.add_argument("suites", nargs="+", choices=[*SUITES, "all"], metavar="SUITE",
                        help=", ".join([*SUITES, "all"]))  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=2048, help="size of the log (default 2048)")
    parser.add_argument(
        "--data", type=Path, default=Path(__file__).with_name("data"), help="where files are kept"
    )
    options = parser.parse_args()
    inputs = Inputs(options.data, options.mib)
    names = list(SUITES) if "all" in options.suites else list(dict.fromkeys(options.suites))
    sys.stdout.write(heading(inputs))
    for name in names:
        suite = SUITES[name](inputs)
        measured(suite, rounds=options.rounds)
        sys.stdout.write("\n" + report(suite))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
