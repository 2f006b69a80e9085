"""What the operators of threshold and new-terms rules cost, apart from reading and matching.

    python benchmarks/operators.py                       # a million matches, 100,000 keys
    python benchmarks/operators.py --matches 200000 --keys 1000

Matches of an hour are given to a rule's operator in the order of time, and each run is done when
it is due. Times are CPU time a match, the better of two rounds. Memory is what Python holds for the
operator at its most, measured with a tenth of the keys, so that all of them are alive at once: with
a tenth of those it should be a tenth, with twice the matches not twice as much.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator

from barrelman.detection.finding import Item, Operator, Window
from barrelman.detection.newterms import NewTermsOperator
from barrelman.detection.schedule import Schedule
from barrelman.detection.threshold import ThresholdOperator
from barrelman.records.times import parse_date_math
from barrelman.rules.rule import Cardinality, Rule, Threshold

START_MS = 1_795_417_200_000
LASTS_MS = 3_600_000
INTERVAL_MS = 300_000
CAP = 100
PAYLOAD = bytes(1_000)

Make = Callable[[Schedule], Operator]


def rule(kind: str, **more: object) -> Rule:
    return Rule(
        rule_id=kind,
        type=kind,
        name=kind,
        description=kind,
        risk_score=1,
        severity="low",
        interval="5m",
        interval_ms=INTERVAL_MS,
        from_=parse_date_math("now-6m"),
        to=parse_date_math("now"),
        **more,  # type: ignore[arg-type]  # fields of one type of rule
    )


NEW_TERMS = rule(
    "new_terms", new_terms_fields=("user.name",), history_window_start=parse_date_math("now-1d")
)
COUNTING = rule("threshold", threshold=Threshold(("user.name",), 5))
DISTINCT = rule(
    "threshold",
    threshold=Threshold(("user.name",), 5, (Cardinality("source.ip", 3),)),
)


def threshold_items(matches: int, keys: int) -> Iterator[Item]:
    for number, key in enumerate(_keys(matches, keys)):
        time_us = _time_us(number, matches)
        operand = "", ((f"user-{key}",),), (f"10.0.{number % 5}.1",)
        yield Item(time_us, time_us, number, f"{number:064x}", operand, None, b"")


def newterms_items(matches: int, keys: int) -> Iterator[Item]:
    for number, key in enumerate(_keys(matches, keys)):
        time_us = _time_us(number, matches)
        operand = ((f"user-{key}",),)
        yield Item(time_us, time_us, number, f"{number:064x}", operand, None, PAYLOAD)


OPERATORS: dict[str, tuple[Make, Callable[[int, int], Iterator[Item]]]] = {
    "threshold": (lambda runs: ThresholdOperator(COUNTING, runs=runs, cap=CAP), threshold_items),
    "threshold, cardinality": (
        lambda runs: ThresholdOperator(DISTINCT, runs=runs, cap=CAP),
        threshold_items,
    ),
    "new_terms": (lambda runs: NewTermsOperator(NEW_TERMS, runs=runs, cap=CAP), newterms_items),
}


def drive(make: Make, items: Iterator[Item]) -> tuple[float, int]:
    """CPU seconds in the operator, and its alerts."""
    schedule = Schedule(interval_ms=INTERVAL_MS, from_=COUNTING.from_, to=COUNTING.to)
    operator = make(schedule)
    batch: list[Item] = []
    spent, alerts = 0.0, 0
    tick = START_MS // INTERVAL_MS
    while True:
        window = Window(tick * INTERVAL_MS, *schedule.window_ms(tick))
        item = None
        for item in items:
            if item.time_us // 1000 > window.to_ms:
                break
            batch.append(item)
        else:
            item = None
        began = time.process_time()
        for each in batch:
            operator.add(each)
        alerts += len(operator.run(window))
        spent += time.process_time() - began
        if item is None:
            return spent, alerts
        batch = [item]
        tick += 1


def held_mib(make: Make, items: Iterator[Item]) -> float:
    """What is held at the most."""
    schedule = Schedule(interval_ms=INTERVAL_MS, from_=COUNTING.from_, to=COUNTING.to)
    tracemalloc.start()
    try:
        operator = make(schedule)
        tick = START_MS // INTERVAL_MS
        for item in items:
            while schedule.window_ms(tick)[1] < item.time_us // 1000:
                operator.run(Window(tick * INTERVAL_MS, *schedule.window_ms(tick)))
                tick += 1
            operator.add(item)
        return tracemalloc.get_traced_memory()[1] / (1 << 20)
    finally:
        tracemalloc.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--matches", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=100_000)
    options = parser.parse_args()
    matches, keys = options.matches, options.keys
    sys.stdout.write(
        "| operator | µs a match | alerts | MiB | a tenth of its keys | twice its matches |\n"
        "|---|---:|---:|---:|---:|---:|\n"
    )
    for name, (make, items) in OPERATORS.items():
        spent, alerts = min(drive(make, items(matches, keys)) for _ in range(2))
        held = [
            held_mib(make, items(count, alive))
            for count, alive in (
                (matches, keys // 10),
                (matches, keys // 100),
                (2 * matches, keys // 10),
            )
        ]
        figures = " | ".join(f"{each:.1f}" for each in held)
        sys.stdout.write(f"| {name} | {spent / matches * 1e6:.2f} | {alerts} | {figures} |\n")
        sys.stdout.flush()
    return 0


def _keys(matches: int, keys: int) -> Iterator[int]:
    rng = random.Random(1)
    return (rng.randrange(keys) for _ in range(matches))


def _time_us(number: int, matches: int) -> int:
    return (START_MS + number * LASTS_MS // matches) * 1000


if __name__ == "__main__":
    sys.exit(main())
