"""An EQL sequence rule against the `eql` package from PyPI, over events that are decoded already.

    python benchmarks/sequences.py                          # a million events, and then memory
    python benchmarks/sequences.py --events 100000

The package is AGPL: it is installed into a folder that is removed again, and nothing else of the
project knows of it. Both get the same generated audit events with their times, a hundred at once,
in turn, each just decoded for it, and must find as many sequences. Times are CPU time; reading,
decoding and making the event objects of either are not counted. Medians of such rounds are
compared. The last rule has no bar: every event is of one of its stages, which no rule would want.

Memory is what Python holds for the operator of such a rule at its most: with ten times as many live
keys it must be no more than ten times as much (many events wait on disk), over ten times as many
events the same.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from statistics import median
from typing import Any

import orjson
from generate import Mix, event_lines

from barrelman.detection.eqlruns import EqlOperator
from barrelman.detection.finding import Item, Window
from barrelman.detection.runs import GivenRuns
from barrelman.engine.sequence import SequenceMachine
from barrelman.engine.stages import compile_stages
from barrelman.query.eql import parse_eql
from barrelman.query.eqltree import Sequence
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE, event_time_us

BAR = 5.0
CHUNK = 100
"""Events at a time: as a reader hands them over, they are still in the processor's cache."""
TICKS_A_MS = 10_000
"""The package counts time in steps of 100 nanoseconds."""

UNBARRED = "every event is of a stage"
QUERIES = {
    "pods after secrets": """
        sequence by {user}.username with maxspan=5m
          [any where {verb} == "get" and {ref}.resource == "secrets"]
          [any where {verb} == "create" and {ref}.resource == "pods"]
    """,
    "three failures, then a change": """
        sequence by {user}.username, {ref}.namespace with maxspan=1m
          [any where {status}.code >= 400]
          [any where {status}.code >= 400]
          [any where {status}.code >= 400]
          [any where {verb} in ("create", "update", "patch", "delete") and {status}.code < 400]
    """,
    UNBARRED: """
        sequence by {user}.username with maxspan=10s
          [any where {verb} in ("get", "list", "watch")]
          [any where {verb} in ("create", "update", "patch", "delete")]
    """,
}
NAMES = {"user": "user", "verb": "verb", "ref": "objectRef", "status": "responseStatus"}


@dataclass
class Contender:
    """`feed` takes (time in milliseconds, event) and gives the number of sequences."""

    prepare: Callable[[int, dict[str, Any]], Any]
    feed: Callable[[list[Any]], int]
    seconds: list[float] = field(default_factory=list)
    """Of each round."""
    found: int = 0


def ours(query: str) -> Contender:
    text = query.format(**{key: f"kubernetes.audit.{name}" for key, name in NAMES.items()})
    parsed = parse_eql(text)
    top = parsed.top
    assert isinstance(top, Sequence)
    program = compile_stages(top, AUDIT_CATALOGUE)
    machine = SequenceMachine(top)

    def feed(events: list[tuple[int, Event]]) -> int:
        found = 0
        for at_ms, event in events:
            if slots := program.slots(event, at_ms):
                found += len(machine.feed(at_ms, slots, event))
        return found

    return Contender(lambda at_ms, body: (at_ms, Event(body)), feed)


def theirs(query: str, eql: Any) -> Contender:
    engine = eql.PythonEngine()
    results: list[Any] = []
    engine.add_output_hook(results.append)
    engine.add_query(eql.parse_query(query.format(**NAMES), implied_any=True))

    def feed(events: list[Any]) -> int:
        engine.stream_events(events, finalize=False)
        found = len(results)
        results.clear()
        return found

    return Contender(lambda at_ms, body: eql.Event("generic", at_ms * TICKS_A_MS, body), feed)


def chunks(count: int) -> Iterator[list[tuple[int, str]]]:
    """Lines with times that never go back: that of an event is when it ended."""
    lines = islice(event_lines(Mix()), count)
    latest_ms = 0
    while chunk := [line for line, _ in islice(lines, CHUNK)]:
        timed = []
        for line in chunk:
            latest_ms = max(latest_ms, (event_time_us(Event(orjson.loads(line))) or 0) // 1000)
            timed.append((latest_ms, line))
        yield timed


def race(count: int, eql: Any) -> bool:
    pairs = {name: (ours(query), theirs(query, eql)) for name, query in QUERIES.items()}
    contenders = [each for pair in pairs.values() for each in pair]
    gc.disable()
    for number, chunk in enumerate(chunks(count)):
        turn = number % len(contenders)
        for each in contenders[turn:] + contenders[:turn]:
            events = [each.prepare(at_ms, orjson.loads(line)) for at_ms, line in chunk]
            began = time.process_time()
            each.found += each.feed(events)
            each.seconds.append(time.process_time() - began)
    gc.enable()
    sys.stdout.write("| rule | sequences | barrelman, events a second | eql | ratio |\n")
    sys.stdout.write("|---|---:|---:|---:|---:|\n")
    is_met = True
    for name, (one, other) in pairs.items():
        ratio = median(b / a for a, b in zip(one.seconds, other.seconds, strict=True))
        paces = " | ".join(f"{CHUNK / median(each.seconds):,.0f}" for each in (one, other))
        sys.stdout.write(f"| {name} | {one.found:,} | {paces} | {ratio:.1f} |\n")
        if one.found != other.found:
            sys.stderr.write(f"{name}: {one.found} and {other.found} sequences\n")
            is_met = False
        is_met &= ratio >= BAR or name == UNBARRED
    return is_met


def held_mib(events: int, *, keys: int) -> float:
    """What the operator holds at its most, where so many keys are live in a window."""
    parsed = parse_eql("sequence by k with maxspan=5m [any where a == 1] [any where a == 2]")
    span_ms = 300_000
    step_ms = span_ms / keys
    runs = GivenRuns([Window(0, 0, int(events * step_ms))])
    payload = b"x" * 1500
    tracemalloc.start()
    operator = EqlOperator(parsed, runs=runs, cap=100)
    for number in range(events):
        time_us = round(number * step_ms * 1000)
        operand = (((0, (f"user-{number}",)),), None, (2, 0))
        # A payload of its own, as it comes from a reader.
        name, event = f"{number:064x}", payload + b"%d" % number
        operator.add(Item(time_us, time_us, number, name, operand, None, event))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak_bytes / (1 << 20)


def memory() -> None:
    sys.stdout.write("\n| live keys | events | MiB at most |\n")
    sys.stdout.write("|---:|---:|---:|\n")
    for keys, events in ((10_000, 100_000), (10_000, 1_000_000), (100_000, 1_000_000)):
        sys.stdout.write(f"| {keys:,} | {events:,} | {held_mib(events, keys=keys):.1f} |\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    count: int = parser.parse_args().events
    with tempfile.TemporaryDirectory() as folder:
        install = [sys.executable, "-m", "pip", "install", "-q", "--target", folder, "eql"]
        subprocess.run(install, check=True)
        sys.path.append(folder)
        is_met = race(count, import_module("eql"))
    memory()
    return 0 if is_met else 1


if __name__ == "__main__":
    raise SystemExit(main())
