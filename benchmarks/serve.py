"""Measures a running `barrelman serve` from outside: what it takes in, and how soon it alerts.

    python benchmarks/serve.py intake --seconds 600
    python benchmarks/serve.py latency pass --folder /var/tmp/served

Each suite starts a server of its own on a new folder and a free port of loopback, with the shipped
rules live, the forty rules of `rules/` beside them, and one more rule without a cap whose alerts
are counted. The load comes from this process (`load.py`), on the same machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from load import Load, Plan, percentile, rates, report
from measure import Bar
from subject import Subject, SubjectError, Watch, alerts_of
from verdict import Verdict, one, told

HERE = Path(__file__).parent
# A hair more than is demanded: at exactly the demanded rate, half of all spans lie below it.
INTAKE_RATE = 12_100.0
LATENCY_RATE = 4_000.0
PASS_RATE = 2_000.0
PASS_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Options:
    folder: Path
    seconds: float
    rate: float
    rules: Path | None
    config: str


def subject(options: Options, name: str) -> Subject:
    """A server on an empty folder."""
    folder = options.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    rules = ["--rules", str(options.rules)] if options.rules else []
    return Subject(folder, config=options.config, options=rules)


class Tail:
    """Notes when each line of a file came to be seen, looking every few milliseconds."""

    def __init__(self, path: Path, *, pause_seconds: float = 0.01) -> None:
        self._path = path
        self._pause = pause_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.lines: list[tuple[float, bytes]] = []

    def __enter__(self) -> Tail:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._path.exists() and not self._over.wait(self._pause):
            pass
        if not self._path.exists():
            return
        rest = b""
        with self._path.open("rb") as lines:
            while True:
                is_over = self._over.is_set()
                *whole, rest = (rest + lines.read()).split(b"\n")
                now = time.time()
                self.lines += [(now, line) for line in whole]
                if is_over:
                    return
                self._over.wait(self._pause)


def alerted(server: Subject, ids: Sequence[str], *, seconds: float) -> list[str]:
    """The IDs that no alert names once there was time for it."""
    wanted = set(ids)

    def all_there() -> bool:
        return wanted <= set(alerts_of(server.alerts()))

    server.waited(all_there, seconds=seconds, pause=0.25)
    return sorted(wanted - set(alerts_of(server.alerts())))


def failures_of(server: Subject, load: Load) -> list[str]:
    """What is not as the answers said: events stored, attacks alerted, each once."""
    failures = []
    tally, ledger = load.tally, load.ledger
    if tally.dropped or tally.lost:
        failures.append(f"{tally.dropped} batches were dropped, {tally.lost} given up")
    if strange := {told: count for told, count in tally.answers.items() if told != "200"}:
        failures.append(f"answers other than 200: {strange}")
    stored = server.told("/api/v1/events/count", query="*")["count"]
    if stored != load.acknowledged_events:
        failures.append(f"{load.acknowledged_events} events acknowledged, {stored} stored")
    attacks = ledger.attacks()
    if missing := alerted(server, list(attacks), seconds=20.0):
        failures.append(f"{len(missing)} of {len(attacks)} attacks without an alert: {missing[:3]}")
    seen = list(alerts_of(server.alerts()))
    if len(seen) != len(set(seen)):
        failures.append(f"{len(seen) - len(set(seen))} alerts are doubled")
    return failures


def intake(options: Options) -> Verdict:
    """Sustained intake: three API servers at their limit."""
    plan = Plan("", rate=options.rate or INTAKE_RATE, seconds=options.seconds, attack_share=0.0001)
    with subject(options, "intake").start() as server:
        plan = replace(plan, url=server.url)
        own_cpu = time.process_time()
        with Watch(server) as watch:
            load = Load(plan).start()
            load.drain(timeout_seconds=plan.seconds + 120)
        own_cpu = time.process_time() - own_cpu
        failures = failures_of(server, load)
        failures += _stopped(server)
    figures = report(load)
    answers = load.tally.answer_seconds
    resident = watch.resident_mib
    tenth = max(1, len(resident) // 10)
    early, late = (statistics.mean(part) for part in (resident[tenth:][:tenth], resident[-tenth:]))
    shown = {
        "events acknowledged": load.acknowledged_events,
        "mean event, bytes": figures["mean_event_bytes"],
        "MB/s": figures["megabytes_per_second"],
        "answer p50, ms": percentile(answers, 0.5) * 1000,
        "answer max, ms": percentile(answers, 1.0) * 1000,
        "since due p99, ms": percentile(load.tally.since_due_seconds, 0.99) * 1000,
        "server CPU, share of a core": statistics.mean(watch.cpu_share),
        "load generator CPU, share of a core": own_cpu / load.elapsed_seconds,
        "resident MiB at the start, the middle, the end": _three(resident),
        "anonymous MiB at the start, the middle, the end": _three(watch.anonymous_mib),
        "attacks, each alerted once": figures["attacks"],
    }
    bars = [
        Bar("events a second, by ten seconds", lambda: rates(load), least=12_000),
        one("answer p99, ms", percentile(answers, 0.99) * 1000, most=250),
        Bar("resident MiB", lambda: [max(resident)], most=500),
        one("resident memory, last tenth over second tenth", late / early, most=1.1),
    ]
    about = f"{options.seconds:g} s, batches of {plan.size} from {plan.servers} API servers."
    return Verdict("intake", about, shown, bars, failures)


def latency(options: Options) -> Verdict:
    """From a batch's way out to the line of its attack in the sink's file."""
    rate = options.rate or LATENCY_RATE
    plan = Plan("", rate=rate, seconds=options.seconds, attack_share=0.0025)
    with subject(options, "latency").start() as server, Tail(server.sink) as tail:
        load = Load(replace(plan, url=server.url)).start()
        load.drain(timeout_seconds=plan.seconds + 60)
        failures = failures_of(server, load)
        failures += _stopped(server)
    sent_at = {
        each: load.ledger.acknowledged[number] for each, number in load.ledger.attacks().items()
    }
    waits = [
        at - sent_at[one_id]
        for at, line in tail.lines
        for one_id in alerts_of([json.loads(line)])
        if one_id in sent_at
    ]
    figures = {
        "attacks": len(sent_at),
        "alerts timed": len(waits),
        "p50, s": percentile(waits, 0.5),
        "p99, s": percentile(waits, 0.99),
        "max, s": percentile(waits, 1.0),
        "answer p99, ms": percentile(load.tally.answer_seconds, 0.99) * 1000,
    }
    bars = [one("POST to alert p95, s", percentile(waits, 0.95), most=1.0)]
    about = f"{options.seconds:g} s at {rate:,.0f} events a second."
    return Verdict("latency", about, figures, bars, failures)


def passes(options: Options) -> Verdict:
    """The scheduled pass of all rules over what five minutes bring.

    The events come faster than they would, so that the suite is over soon; windows are cut by
    arrival, and what one pass reads is the same.
    """
    events = int(PASS_RATE * PASS_SECONDS)
    plan = Plan("", rate=options.rate, attack_share=0.0001, late_share=0.0, twice_share=0.0)
    plan = replace(plan, batches=events / plan.size)
    with subject(options, "pass").start() as server:
        # All of it within one window of the rules of five minutes: it begins after their tick.
        if (gone := time.time() % PASS_SECONDS) > PASS_SECONDS / 2:
            time.sleep(PASS_SECONDS + 2 - gone)
        load = Load(replace(plan, url=server.url)).start()
        load.drain(timeout_seconds=600)
        events = load.acknowledged_events
        tick = (time.time() // PASS_SECONDS + 1) * PASS_SECONDS
        sys.stderr.write(f"sent; their next tick is in {tick - time.time():.0f} s\n")
        server.waited(
            lambda: bool(_runs_at(server, tick, events=events)),
            seconds=tick - time.time() + 120,
            pause=1.0,
        )
        time.sleep(5)
        found = _runs_at(server, tick, events=events)
        failures = failures_of(server, load)
    return _of_pass(found, tick, failures, events=events)


def _of_pass(
    found: Sequence[dict[str, Any]], tick: float, failures: list[str], *, events: int
) -> Verdict:
    if not found:
        return Verdict("pass", "", {}, [], [*failures, "no run read all of the events"])
    starts = [parsed(run["started"]) for run in found]
    seconds = [run["duration_ms"] / 1000 for run in found]
    ends = [start + took for start, took in zip(starts, seconds, strict=True)]
    figures = {
        "events in the window": events,
        "rules whose run read all of them": len(found),
        "longest run, s": max(seconds),
        "matches": sum(run["matches"] for run in found),
        "delay of the first, s": min(starts) - tick,
    }
    bars = [
        one(
            "all runs, from the first's start to the last's end, s",
            max(ends) - min(starts),
            most=3.0,
        )
    ]
    return Verdict("pass", "Every rule, over what five minutes bring.", figures, bars, failures)


def _runs_at(server: Subject, tick: float, *, events: int) -> list[dict[str, Any]]:
    """The scheduled runs of a tick that read everything."""
    runs: list[dict[str, Any]] = server.told("/api/v1/runs", limit=1000, kind="scheduled")["runs"]
    return [run for run in runs if parsed(run["tick"]) == tick and run["events"] >= events]


def parsed(instant: str) -> float:
    return datetime.fromisoformat(instant.replace("Z", "+00:00")).timestamp()


def _stopped(server: Subject) -> list[str]:
    try:
        code = server.stop()
    except SubjectError as error:
        return [str(error)]
    return [f"exit code {code} after SIGTERM"] if code else []


def _three(samples: Sequence[float]) -> str:
    return ", ".join(f"{samples[at]:.0f}" for at in (0, len(samples) // 2, -1)) if samples else "-"


SUITES: dict[str, tuple[Callable[[Options], Verdict], float]] = {
    "intake": (intake, 600.0),
    "latency": (latency, 60.0),
    "pass": (passes, PASS_SECONDS),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure barrelman serve from outside.")
    parser.add_argument("suites", nargs="+", choices=[*SUITES, "all"])
    parser.add_argument("--seconds", type=float, help="of load (default: 600 intake, 60 latency)")
    parser.add_argument("--rate", type=float, default=0.0, help="events a second, else the bar's")
    parser.add_argument("--folder", type=Path, help="where data goes (default: a temporary one)")
    parser.add_argument("--rules", type=Path, default=HERE / "rules", help="more of them")
    parser.add_argument("--no-rules", action="store_true", help="the shipped rules alone")
    parser.add_argument("--config", type=Path, help="TOML for the server")
    given = parser.parse_args()
    names = list(SUITES) if "all" in given.suites else list(dict.fromkeys(given.suites))
    code = 0
    with tempfile.TemporaryDirectory(prefix="barrelman-") as temporary:
        for name in names:
            suite, seconds = SUITES[name]
            options = Options(
                folder=given.folder or Path(temporary),
                seconds=given.seconds or seconds,
                rate=given.rate,
                rules=None if given.no_rules else given.rules,
                config=given.config.read_text("utf-8") if given.config else "",
            )
            code |= told([suite(options)])
    return code


if __name__ == "__main__":
    sys.exit(main())
