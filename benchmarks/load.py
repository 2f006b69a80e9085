"""Speaks to a receiver of audit events as kube-apiserver's webhook backend does.

    python benchmarks/load.py http://127.0.0.1:8080 --rate 12000 --seconds 60
    python benchmarks/load.py http://127.0.0.1:8080 --rate 0 --batches 500 --ledger ledger.json

Batches of 400 events go out from several API servers at once, each over a few connections, some
late and so out of order, some twice. An answer other than 200 to 206, or none, is followed by four
more attempts 10, 15, 22 and 34 seconds apart (`--retry-scale 0.01` for the impatient);
`Retry-After` is obeyed and does not count as an attempt up to ten times in a row. Then the batch is
lost, as it would be. What waits while all connections are busy is bounded as it is there, and what
comes on top is dropped and counted.

As a library: `Load` runs in threads of its own, and its `Ledger` knows what was acknowledged.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import random
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from urllib.parse import urlsplit

from bodies import BATCH_EVENTS, Batches

RETRY_SECONDS = (10.0, 15.0, 22.0, 34.0)
PATIENCE = 10
"""How often in a row a client waits as `Retry-After` says before that counts as an attempt."""
BUFFER_EVENTS = 10_000
"""What one API server holds back at most; it drops what comes on top."""
TIMEOUT_SECONDS = 30.0
GOOD = range(200, 207)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent, how fast, and what goes wrong on the way."""

    url: str
    cluster: str = "load"
    rate: float = 4000.0
    """Events a second; 0 is as fast as they are answered."""
    seconds: float = math.inf
    batches: float = math.inf
    """Whatever of the two comes first ends the load."""
    servers: int = 3
    connections: int = 4
    """Of each server."""
    size: int = BATCH_EVENTS
    seed: int = 1
    attack_share: float = 0.0
    late_share: float = 0.05
    """Batches held back by up to `late_seconds`, and so overtaken by later ones."""
    late_seconds: float = 2.0
    twice_share: float = 0.02
    """Batches sent again after they were acknowledged, as after an answer lost on its way."""
    retry_scale: float = 1.0
    headers: tuple[tuple[str, str], ...] = ()
    context: ssl.SSLContext | None = None


@dataclass(order=True, slots=True)
class Delivery:
    """A batch on its way, ordered by when it is due. Instants are monotonic but for `born_us`."""

    due: float
    number: int
    born_us: int = field(compare=False)
    first_due: float = field(compare=False)
    attempt: int = field(default=0, compare=False)
    patience: int = field(default=PATIENCE, compare=False)
    again: bool = field(default=False, compare=False)


class Ledger:
    """What was sent and what was acknowledged, by the number of the batch."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.sent: set[int] = set()
        self.acknowledged: dict[int, float] = {}
        """Batch → when its acknowledged delivery began, in seconds since 1970."""

    def acknowledged_ids(self) -> Iterator[str]:
        for number in sorted(self.acknowledged):
            yield from (one.decode() for one in self.batches.audit_ids(number))

    def attacks(self, numbers: Sequence[int] | None = None) -> dict[str, int]:
        """The IDs of attack events, and their batches; of all acknowledged ones by default."""
        chosen = sorted(self.acknowledged) if numbers is None else numbers
        return {one: number for number in chosen for one in self.batches.attacks(number)}

    def events_of(self, user: str) -> int:
        """How many acknowledged events are of this user."""
        return sum(self.batches.template(number).users[user] for number in self.acknowledged)

    def save(self, path: Path) -> None:
        """Enough to make every ID again: the seed, and the numbers of batches."""
        told = {
            "seed": self.batches.seed,
            "size": self.batches.size,
            "sent": sorted(self.sent),
            "acknowledged": sorted(self.acknowledged),
        }
        path.write_text(json.dumps(told), "utf-8")


@dataclass
class Tally:
    """Counters of a load, and how long answers took."""

    answers: Counter[str] = field(default_factory=Counter)
    """By status, or by the kind of error where there was none."""
    receipts: Counter[str] = field(default_factory=Counter)
    """The sums of what the answers said: events, stored, duplicates and so on."""
    answer_seconds: list[float] = field(default_factory=list)
    since_due_seconds: list[float] = field(default_factory=list)
    """From when a batch should have gone out to its acknowledgement, waits and retries included."""
    acknowledged_at: list[float] = field(default_factory=list)
    """Seconds after the load began."""
    dropped: int = 0
    lost: int = 0
    repeated: int = 0
    body_bytes: int = 0


class Load:
    """Sends by a plan until that ends or `stop` is called; `drain` waits for what is under way."""

    def __init__(self, plan: Plan, *, batches: Batches | None = None, first: int = 0) -> None:
        """`first` is the number of the first batch: a second load goes on where one ended."""
        self.plan = plan
        self.ledger = Ledger(
            batches or Batches(seed=plan.seed, size=plan.size, attack_share=plan.attack_share)
        )
        self.tally = Tally()
        self._chance = random.Random(plan.seed)
        self._next = self._first = first
        self._heap: list[Delivery] = []
        self._under_way = 0
        self._changed = threading.Condition()
        self._ending = self._closed = False
        self._threads = [
            threading.Thread(target=self._send, args=(server,), daemon=True)
            for server in range(plan.servers)
            for _ in range(plan.connections)
        ]
        self._pacer = threading.Thread(target=self._pace, daemon=True)
        self.began = self.ended = 0.0

    def start(self) -> Load:
        self.began = time.monotonic()
        for thread in (self._pacer, *self._threads):
            thread.start()
        return self

    def stop(self) -> None:
        """Nothing new is sent; retries go on until `drain` ends."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def drain(self, *, timeout_seconds: float = math.inf) -> bool:
        """Waits until the plan is done and every batch acknowledged or lost, and ends the threads.

        False if that took too long: what was under way then is neither.
        """
        until = time.monotonic() + timeout_seconds
        with self._changed:
            while not self._is_done() and (left := until - time.monotonic()) > 0:
                self._changed.wait(min(left, 1.0))
            done = self._is_done()
            self.ended = time.monotonic()
            self._ending = self._closed = True
            self._changed.notify_all()
        for thread in (self._pacer, *self._threads):
            thread.join(TIMEOUT_SECONDS + 5)
        return done

    def _is_done(self) -> bool:
        return self._ending and not self._heap and not self._under_way

    @property
    def acknowledged_events(self) -> int:
        return len(self.ledger.acknowledged) * self.plan.size

    @property
    def elapsed_seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.began

    # What goes out when

    def _pace(self) -> None:
        plan = self.plan
        pause = plan.size / plan.rate if plan.rate else 0.0
        room = max(plan.servers, plan.servers * BUFFER_EVENTS // plan.size)
        due = self.began
        with self._changed:
            while not self._ending:
                now = time.monotonic()
                if now - self.began >= plan.seconds or self._next - self._first >= plan.batches:
                    self._ending = True
                    self._changed.notify_all()
                elif not pause and self._waiting(now) >= len(self._threads):
                    self._changed.wait(0.01)
                elif due > now:
                    self._changed.wait(min(due - now, 1.0))
                else:
                    self._issue(due if pause else now, now, room)
                    due += pause

    def _issue(self, due: float, now: float, room: int) -> None:
        number, self._next = self._next, self._next + 1
        if self._waiting(now) >= room:
            self.tally.dropped += 1
            return
        if self._chance.random() < self.plan.late_share:
            due += self._chance.random() * self.plan.late_seconds
        heappush(self._heap, Delivery(due, number, time.time_ns() // 1000, due))
        self._changed.notify_all()

    def _waiting(self, now: float) -> int:
        """Batches that should be on their way, and wait for a connection."""
        return sum(1 for one in self._heap if one.due <= now)

    def _take(self) -> Delivery | None:
        with self._changed:
            while not self._closed:
                wait = self._heap[0].due - time.monotonic() if self._heap else 1.0
                if self._heap and wait <= 0:
                    self._under_way += 1
                    return heappop(self._heap)
                self._changed.wait(min(wait, 1.0))
        return None

    # How it goes out

    def _send(self, server: int) -> None:
        line = Line(self.plan, server)
        while (delivery := self._take()) is not None:
            body = self.ledger.batches.body(delivery.number, born_us=delivery.born_us)
            with self._changed:
                self.ledger.sent.add(delivery.number)
            wall, began = time.time(), time.monotonic()
            answer = line.post(body)
            with self._changed:
                self.tally.body_bytes += len(body)
                self._settle(delivery, answer, wall, began)
                self._under_way -= 1
                self._changed.notify_all()
        line.close()

    def _settle(self, delivery: Delivery, answer: Answer, wall: float, began: float) -> None:
        now, tally = time.monotonic(), self.tally
        tally.answers[answer.told] += 1
        if not answer.is_good:
            self._retry(delivery, answer, now)
            return
        tally.receipts.update(answer.receipt)
        tally.answer_seconds.append(now - began)
        if delivery.again:
            return
        tally.since_due_seconds.append(now - delivery.first_due)
        tally.acknowledged_at.append(now - self.began)
        self.ledger.acknowledged[delivery.number] = wall
        if self._chance.random() < self.plan.twice_share:
            tally.repeated += 1
            due = now + self._chance.random() * self.plan.late_seconds
            again = Delivery(due, delivery.number, delivery.born_us, due, again=True)
            heappush(self._heap, again)

    def _retry(self, delivery: Delivery, answer: Answer, now: float) -> None:
        if answer.retry_after_seconds is not None and delivery.patience:
            delivery.patience -= 1
            delivery.due = now + answer.retry_after_seconds
        elif delivery.attempt < len(RETRY_SECONDS):
            delivery.due = now + RETRY_SECONDS[delivery.attempt] * self.plan.retry_scale
            delivery.attempt += 1
            delivery.patience = PATIENCE
        else:
            self.tally.lost += not delivery.again
            return
        heappush(self._heap, delivery)


@dataclass(frozen=True, slots=True)
class Answer:
    """`told` is the status, or what went wrong."""

    told: str
    is_good: bool = False
    retry_after_seconds: float | None = None
    receipt: dict[str, int] = field(default_factory=dict)


class Line:
    """One connection of an API server, made anew when it breaks."""

    def __init__(self, plan: Plan, server: int) -> None:
        parts = urlsplit(plan.url)
        self._path = f"{parts.path.rstrip('/')}/audit/{plan.cluster}?timeout=30s"
        self._headers = {
            "User-Agent": f"kube-apiserver-{server}/v1.31.4 (linux/amd64) kubernetes/a9c41de",
            "Accept": "application/json, */*",
            "Accept-Encoding": "gzip",
            "Content-Type": "application/json",
            **dict(plan.headers),
        }
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            self._connection = http.client.HTTPSConnection(
                parts.netloc, timeout=TIMEOUT_SECONDS, context=plan.context
            )
        else:
            self._connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_SECONDS)

    def post(self, body: bytearray) -> Answer:
        try:
            self._connection.request("POST", self._path, body, self._headers)
            response = self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Answer(type(error).__name__)
        # The sender looks at the status alone. That an answer breaks off takes nothing back.
        try:
            text = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            text = b""
        if response.status in GOOD:
            return Answer(str(response.status), True, None, _counts(text))
        waits = response.status == 429 or response.status >= 500
        after = response.headers.get("Retry-After", "") if waits else ""
        return Answer(str(response.status), False, float(after) if after.isdigit() else None)

    def close(self) -> None:
        self._connection.close()


def _counts(text: bytes) -> dict[str, int]:
    try:
        told = json.loads(text)
    except ValueError:
        return {}
    return {key: value for key, value in told.items() if type(value) is int}


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not pass; NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def rates(load: Load, *, span_seconds: float = 10.0) -> list[float]:
    """Events acknowledged a second in each span of the load; the last, unfinished one is left out.

    A load too short for one span counts as a whole.
    """
    at = load.tally.acknowledged_at
    spans = int(min(load.plan.seconds, load.elapsed_seconds) / span_seconds)
    if not spans:
        return [load.acknowledged_events / load.elapsed_seconds]
    counts = Counter(int(each / span_seconds) for each in at)
    return [counts[span] * load.plan.size / span_seconds for span in range(spans)]


def report(load: Load) -> dict[str, object]:
    """What came of a load, in plain values."""
    tally, seconds = load.tally, load.elapsed_seconds
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {
        "seconds": round(seconds, 2),
        "acknowledged_batches": len(load.ledger.acknowledged),
        "acknowledged_events": load.acknowledged_events,
        "events_per_second": round(load.acknowledged_events / seconds, 1),
        "mean_event_bytes": round(load.ledger.batches.mean_event_bytes, 1),
        "megabytes_per_second": round(tally.body_bytes / seconds / 1e6, 2),
        "answers": dict(tally.answers),
        "receipts": dict(tally.receipts),
        "sent_twice": tally.repeated,
        "dropped_batches": tally.dropped,
        "lost_batches": tally.lost,
        "answer_ms": {
            name: round(percentile(tally.answer_seconds, share) * 1000, 2)
            for name, share in shares.items()
        },
        "since_due_ms": {
            name: round(percentile(tally.since_due_seconds, share) * 1000, 2)
            for name, share in shares.items()
        },
        "attacks": sum(
            len(load.ledger.batches.template(number).attacks) for number in load.ledger.acknowledged
        ),
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Send audit events as kube-apiserver does.")
    parser.add_argument("url", help="of the receiver, without /audit/…")
    parser.add_argument("--cluster", default="load")
    parser.add_argument("--rate", type=float, default=4000.0, help="events a second; 0: no limit")
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--batches", type=float, default=math.inf)
    parser.add_argument("--servers", type=int, default=3, help="API servers (default 3)")
    parser.add_argument("--connections", type=int, default=4, help="of each of them (default 4)")
    parser.add_argument("--size", type=int, default=BATCH_EVENTS, help="events in a batch")
    parser.add_argument("--seed", type=int, default=1, help="other seeds give other audit IDs")
    parser.add_argument("--attack-share", type=float, default=0.0)
    parser.add_argument("--late-share", type=float, default=0.05)
    parser.add_argument("--twice-share", type=float, default=0.02)
    parser.add_argument("--retry-scale", type=float, default=1.0, help="1: 10, 15, 22, 34 s")
    parser.add_argument("--header", action="append", default=[], help="'Authorization: Bearer …'")
    parser.add_argument("--ledger", type=Path, help="where to write what was acknowledged")
    options = parser.parse_args()
    if math.isinf(options.seconds) and math.isinf(options.batches):
        parser.error("give --seconds or --batches")
    return options


def main() -> None:
    options = vars(parse_arguments())
    ledger = options.pop("ledger")
    pairs = (line.partition(":") for line in options.pop("header"))
    plan = Plan(**options, headers=tuple((name, value.strip()) for name, _, value in pairs))
    load = Load(plan)
    began_cpu = time.process_time()
    load.start().drain()
    told = report(load) | {"cpu_seconds": round(time.process_time() - began_cpu, 2)}
    sys.stdout.write(json.dumps(told, indent=2) + "\n")
    if ledger is not None:
        load.ledger.save(ledger)


if __name__ == "__main__":
    main()
