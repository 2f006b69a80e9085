"""Kills and hurts a server under load, and counts what is there afterwards.

    python benchmarks/chaos.py                         # kill -9, a hundred times
    python benchmarks/chaos.py --kills 5 --rate 1000
    python benchmarks/chaos.py --fault disk-full --fault truncated
    python benchmarks/chaos.py --fault all
    CHAOS_NO_MOUNT=1 python benchmarks/chaos.py --fault disk-full   # never mounts a tmpfs

Acknowledged is what was answered with 200. In the end every acknowledged event must be stored
exactly once, every stored attack must have exactly one line in the sink's file, and no line may be
torn. Kills come at random moments: mostly under load, some while the server is starting.
`faults.py` has the other ways of going wrong.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from account import account, settle
from faults import FAULTS, hasty
from load import Load, Plan, percentile
from subject import Subject, SubjectError
from verdict import Verdict, one, told

# Segments are closed every other second, so that some kills come while one is.
SEALING = "store.segment_bytes = 4_194_304\n"
EARLY_SHARE = 0.2
"""Of the kills come before the server is ready."""


@dataclass(frozen=True, slots=True)
class Options:
    folder: Path
    kills: int
    rate: float
    longest_seconds: float
    """A life under load lasts at most so long."""
    attacks_per_second: float
    seed: int


def kills(options: Options) -> Verdict:
    chance = random.Random(options.seed)
    server = Subject(options.folder / "kills", config=SEALING)
    share = options.attacks_per_second / options.rate
    plan = hasty(Plan(server.url, rate=options.rate, attack_share=share))
    failures: list[str] = []
    with server.start():
        load = Load(plan).start()
        ready_seconds = _killed(server, chance, options, failures)
        server.until_ready()
        load.stop()
        drained = load.drain(timeout_seconds=90)
        settle(server, load.ledger)
        try:
            if code := server.stop():
                failures.append(f"exit code {code} after SIGTERM: {server.said()}")
        except SubjectError as error:
            failures.append(str(error))
    if not drained:
        failures.append("batches were still on their way 90 s after the last kill")
    found = account(server, load.ledger)
    figures = {
        "kills": options.kills,
        "seconds": load.elapsed_seconds,
        **found.figures,
        "batches given up by the sender": load.tally.lost + load.tally.dropped,
        "answers": load.tally.answers.most_common(),
        "ready after, s, median": percentile(ready_seconds, 0.5),
        "ready after, s, longest": percentile(ready_seconds, 1.0),
    }
    wrong = [*failures, *found.failures]
    bars = [one("acknowledged events lost", float(len(found.lost)), most=0)]
    return Verdict("kills", f"`kill -9` at {options.rate:,.0f} events/s.", figures, bars, wrong)


def _killed(
    server: Subject, chance: random.Random, options: Options, failures: list[str]
) -> list[float]:
    """Kills it as often as asked; how long it took after each kill to be ready, where it could."""
    ready_seconds: list[float] = []
    for number in range(options.kills):
        _live(server, chance, options.longest_seconds)
        if not server.is_alive:
            failures.append(f"it ended by itself before kill {number + 1}: {server.said()}")
            break
        server.kill()
        began = time.monotonic()
        server.start(wait=number % 2 == 0)  # so that the next kill may come before it is ready
        if number % 2 == 0:
            ready_seconds.append(time.monotonic() - began)
        sys.stderr.write(f"\rkill {number + 1} of {options.kills}")
    sys.stderr.write("\n")
    return ready_seconds


def _live(server: Subject, chance: random.Random, longest_seconds: float) -> None:
    """A life of random length, over before the server is ready for some."""
    if chance.random() < EARLY_SHARE:
        time.sleep(chance.random())
        return
    server.until_ready()
    time.sleep(chance.uniform(0.02, longest_seconds))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill and hurt barrelman serve under load.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--fault", action="append", choices=[*FAULTS, "all"], default=[])
    parser.add_argument("--rate", type=float, default=2000.0, help="events a second")
    parser.add_argument("--longest", type=float, default=3.0, help="seconds of a life under load")
    parser.add_argument("--attacks-per-second", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where data goes, and stays")
    parser.add_argument("--down-seconds", type=float, default=15.0, help="a fault lasts so long")
    return parser.parse_args()


def main() -> int:
    given = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="barrelman-") as temporary:
        folder = given.folder or Path(temporary)
        names = list(FAULTS) if "all" in given.fault else given.fault
        if not names:
            options = Options(
                folder, given.kills, given.rate, given.longest, given.attacks_per_second, given.seed
            )
            shutil.rmtree(folder / "kills", ignore_errors=True)
            return told([kills(options)])
        code = 0
        for name in names:
            shutil.rmtree(folder / name, ignore_errors=True)
            code |= told([FAULTS[name](folder / name, given.rate, given.down_seconds)])
        return code


if __name__ == "__main__":
    sys.exit(main())
