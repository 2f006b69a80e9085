"""Stored events through the rules: the sieve on a frame's bytes, the predicates on what passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from barrelman.detection.lineup import Lineup
from barrelman.detection.rows import stored_event
from barrelman.engine.find import count
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
    for position, start, stop in lines_of(frame, lineup.sieve):
        arrival, seq = frame.arrivals_us[position], frame.seqs[position]
        if seq < first_seq or (
            arrival_us is not None and not arrival_us[0] <= arrival <= arrival_us[1]
        ):
            continue
        event = event_on(frame, position, start, stop)
        numbers = lineup.matches(event)
        if numbers:
            yield Judged(seq, arrival, event, numbers)


def event_at(frame: Frame, position: int) -> Event:
    """The event of one row of a frame."""
    following = position + 1
    end = frame.starts[following] if following < len(frame.starts) else len(frame.lines)
    return event_on(frame, position, frame.starts[position], end - 1)


def event_on(frame: Frame, position: int, start: int, stop: int) -> Event:
    """The event of a row whose line is known to stand there."""
    return stored_event(
        frame.lines[start:stop],
        frame.wrappers.get(position),
        cluster=frame.clusters[position],
        arrival_us=frame.arrivals_us[position],
        number=frame.seqs[position],
    )


def lines_of(frame: Frame, sieve: Sieve | None) -> Iterator[tuple[int, int, int]]:
    """Lines that could matter: the row's place, where its line begins, and its line feed.

    What is wrapped or an Elastic document is not for the sieve.
    """
    lines = frame.lines
    if sieve is None or not frame.has_only_raw:
        start = 0
        for position in range(len(frame.seqs)):
            stop = lines.index(b"\n", start)
            yield position, start, stop
            start = stop + 1
        return
    position = at = 0
    for start, stop in sieve.lines(memoryview(lines), len(lines)):
        position += count(lines, b"\n", at, start)
        at = start
        yield position, start, stop
