"""Stored events through the rules: the sieve on a frame's bytes, the predicates on what passes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from barrelman.detection.lineup import Lineup
from barrelman.detection.rows import stored_event
from barrelman.engine.sieve import Sieve
from barrelman.records.event import Event
from barrelman.store.events import Frame


class Judged(NamedTuple):
    """A stored event that rules of a lineup meet, by their numbers in it."""

    seq: int
    arrival_us: int
    event: Event
    numbers: list[int]


def judge_frame(
    frame: Frame,
    lineup: Lineup,
    *,
    first_seq: int = 0,
    arrival_us: tuple[int, int] | None = None,
) -> Iterator[Judged]:
    """The events of a frame that some rule meets, in order.

    Only those from `first_seq` on and, both ends included, that arrived within `arrival_us`.
    """
    for position in positions(frame, lineup.sieve):
        arrival, seq = frame.arrivals_us[position], frame.seqs[position]
        if seq < first_seq or (
            arrival_us is not None and not arrival_us[0] <= arrival <= arrival_us[1]
        ):
            continue
        event = event_at(frame, position)
        numbers = lineup.matches(event)
        if numbers:
            yield Judged(seq, arrival, event, numbers)


def event_at(frame: Frame, position: int) -> Event:
    """The event on one line of a frame."""
    start = frame.starts[position]
    stop = (
        frame.starts[position + 1] if position + 1 < len(frame.starts) else len(frame.lines)
    ) - 1
    return stored_event(
        frame.lines[start:stop],
        frame.wrappers.get(position),
        cluster=frame.clusters[position],
        arrival_us=frame.arrivals_us[position],
        number=frame.seqs[position],
    )


def positions(frame: Frame, sieve: Sieve | None) -> Iterator[int]:
    """Lines that could matter. What is wrapped or an Elastic document is not for the sieve."""
    if sieve is None or not frame.has_only_raw:
        yield from range(len(frame.starts))
        return
    starts = frame.starts
    for start, _ in sieve.lines(memoryview(frame.lines), len(frame.lines)):
        yield bisect_right(starts, start) - 1
