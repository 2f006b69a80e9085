"""The sample as a stream: its events, moved to now, a handful at a time."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from barrelman.engine.decode import DecodeError, dumps, loads
from barrelman.errors import BarrelmanError, InputError
from barrelman.records.times import format_instant, parse_instant_us

DEMO_CLUSTER: Final = "demo"
_TIMES: Final = ("requestReceivedTimestamp", "stageTimestamp")
_BATCH: Final = 20
_PAUSE_SECONDS: Final = 0.5
_AGAIN_SECONDS: Final = 120.0
_PACKAGE: Final = Path(__file__).parents[1]
_PLACES: Final = (
    _PACKAGE / "sample" / "audit.log",
    _PACKAGE.parents[1] / "examples" / "audit.log",
)
"""In an installed package, and in a checkout."""

Offer = Callable[..., Future[Any]]


def sample_events() -> list[dict[str, Any]]:
    """The whole events of the sample log. Raises InputError where it is not there."""
    path = next((each for each in _PLACES if each.is_file()), None)
    if path is None:
        raise InputError("the sample is not part of this installation")
    found = []
    for line in path.read_bytes().splitlines():
        try:
            value = loads(line)
        except DecodeError:
            continue  # the sample holds broken lines on purpose
        if isinstance(value, dict) and value.get("kind") == "Event":
            found.append(value)
    return found


def moved(events: list[dict[str, Any]], *, now_us: int, run: str) -> Iterator[list[dict[str, Any]]]:
    """The events in batches, as if the last had just happened; under ids of this `run`."""
    times = [parse_instant_us(each.get("stageTimestamp")) or 0 for each in events]
    shift_us = now_us - max(times, default=now_us)
    batch: list[dict[str, Any]] = []
    for event in events:
        copy = dict(event)
        for name in _TIMES:
            instant = parse_instant_us(event.get(name))
            if instant is not None:
                copy[name] = format_instant((instant + shift_us) // 1000)
        copy["auditID"] = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{run} {event.get('auditID')}"))
        batch.append(copy)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


class DemoFeed:
    """Sends the sample to an intake as an API server would, again and again."""

    def __init__(self, offer: Offer, *, clock: Callable[[], int]) -> None:
        self._offer = offer
        self._clock = clock
        self._events = sample_events()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def state(self) -> None:
        """Nothing to tell."""

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            now_us = self._clock()
            for batch in moved(self._events, now_us=now_us, run=str(now_us)):
                body = {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": batch}
                with contextlib.suppress(BarrelmanError):  # said by who refused it
                    self._offer(dumps(body), cluster=DEMO_CLUSTER, is_list=True).result()
                if self._stopped.wait(_PAUSE_SECONDS):
                    return
            self._stopped.wait(_AGAIN_SECONDS)
