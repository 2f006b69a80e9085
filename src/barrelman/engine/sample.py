"""Samples: for each key, one event of every stage, whatever their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

from barrelman.engine.sequence import Completed
from barrelman.engine.stages import LEFT_OUT, Key, Slots
from barrelman.query.eqltree import Sample

MOST_SAMPLED: Final = 1_000_000
"""Events held for keys that may yet make a sample."""

_Held: TypeAlias = tuple[int, int, Any]
"""An event's position, time, and what stands for it."""


class SampleMachine:
    """The state of one sample over events that come in order.

    Of each key and stage the first events are held, as many as there are stages: more could not
    help, since only the other stages' events may be taken. A key makes one sample.
    """

    def __init__(self, query: Sample, *, most: int = MOST_SAMPLED) -> None:
        self.evicted = 0
        """Keys let go because there were too many events, and keys that were left out."""
        self._count = len(query.stages)
        self._most = most
        self._held: dict[Key, list[list[_Held]]] = {}
        self._size = 0
        self._sampled: set[Key] = set()
        self._position = 0

    def feed(self, at_ms: int, slots: Slots, item: Any) -> list[Completed]:
        """The next event in order, and the samples that it completes."""
        self._position = here = self._position + 1
        changed: dict[Key, None] = {}
        for stage, key in slots:
            if key in self._sampled:
                continue
            if stage == LEFT_OUT:
                self.evicted += key[0]
                continue
            held = self._held.get(key)
            if held is None:
                held = self._held[key] = [[] for _ in range(self._count)]
            if len(held[stage]) < self._count:
                held[stage].append((here, at_ms, item))
                self._size += 1
                changed[key] = None
        done = [found for key in changed if (found := self._complete(key)) is not None]
        while self._size > self._most:
            self._drop(next(iter(self._held)))
            self.evicted += 1
        return done

    def _complete(self, key: Key) -> Completed | None:
        held = self._held[key]
        if not all(held):
            return None
        chosen = _choose(held)
        if chosen is None:
            return None
        self._drop(key)
        self._sampled.add(key)
        times = [at_ms for _, at_ms, _ in chosen]
        items = tuple(item for _, _, item in chosen)
        return Completed(key, items, min(times), max(times), max(chosen, key=_position)[0])

    def _drop(self, key: Key) -> None:
        self._size -= sum(map(len, self._held.pop(key)))


def _position(held: _Held) -> int:
    return held[0]


def _choose(held: list[list[_Held]]) -> list[_Held] | None:
    """A distinct event for each stage, the first stages having the first choice."""
    options = [list(stage) for stage in held]
    for stage, events in enumerate(options):
        for event in events:
            options[stage] = [event]
            if _is_enough(options):
                break
        else:
            return None
    return [events[0] for events in options]


def _is_enough(options: list[list[_Held]]) -> bool:
    """Whether every stage can have an event of its own."""
    taken: dict[int, int] = {}

    def find(stage: int, tried: set[int]) -> bool:
        for position, _, _ in options[stage]:
            if position not in tried:
                tried.add(position)
                if position not in taken or find(taken[position], tried):
                    taken[position] = stage
                    return True
        return False

    return all(find(stage, set()) for stage in range(len(options)))


def find_samples(
    query: Sample,
    events: Iterable[tuple[int, Slots, Any]],
    *,
    machine: SampleMachine | None = None,
) -> Iterator[Completed]:
    """All samples in events that come in order, in the order in which they are complete."""
    machine = SampleMachine(query) if machine is None else machine
    for each in events:
        yield from machine.feed(*each)
