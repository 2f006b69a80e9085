"""What a query comes to over all events of a finished input: put in EQL's order, joined, cut.

Events that matter are sorted, on disk where they are more than memory holds, since a log may be
out of order; pipes and sequences then read them in order. Nothing else is held.
"""

from __future__ import annotations

import marshal
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from barrelman.detection.ask import Asked, Question
from barrelman.detection.spill import DEFAULT_MEMORY_BYTES, Sorter
from barrelman.engine.decode import dumps, loads
from barrelman.query.eqltree import EqlQuery, EventFilter, Pipe, Sequence
from barrelman.records.event import Event
from barrelman.records.frozen import frozen
from barrelman.records.paths import Scalar

if TYPE_CHECKING:
    from barrelman.engine.sequence import Completed
    from barrelman.engine.stages import Slots

_Item = TypeVar("_Item")
_Timed: TypeAlias = "tuple[int, Slots, bytes]"


@frozen
class Found:
    """An event as it came, and its line."""

    line: bytes
    event: Event


@frozen
class Joined:
    """A sequence or a sample; None stands in the place of a missing event."""

    keys: tuple[Scalar | None, ...]
    events: tuple[Found | None, ...]


def found_of(event: Event) -> Found:
    """The event with its own bytes, or with its JSON where it had none in one piece."""
    return Found(event.raw if event.raw is not None else dumps(event.body), event)


class Answer:
    """Takes events in the order of their arrival, and gives what the whole query finds in them."""

    def __init__(
        self,
        question: Question,
        *,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        folder: Path | None = None,
    ) -> None:
        assert isinstance(question.query, EqlQuery)
        self._query = question.query
        self._sorter = Sorter(memory_bytes=memory_bytes, folder=folder)
        self._arrival = 0
        self.untimed = 0
        """Events of a sequence that have no time, and thus no place in one."""
        self.evicted = 0
        """Beginnings of sequences let go because there were too many at once."""

    def take(self, event: Event, asked: Asked, *, now_ms: int) -> None:
        """One more event, judged by the question as compiled for it."""
        is_event_query = isinstance(self._query.top, EventFilter)
        slots: Slots = ()
        if is_event_query:
            if not asked.matches(event, now_ms):
                return
        else:
            slots = asked.slots(event, now_ms)
            if not slots:
                return
        order = asked.order(event)
        if order[0] and not is_event_query:
            self.untimed += 1
            return
        self._arrival += 1
        found = found_of(event)
        self._sorter.add(
            (*order, self._arrival), marshal.dumps((slots, event.is_document, found.line))
        )

    def finish(self) -> Iterator[Found | Joined]:
        """All that is found, in order. Nothing may be taken afterwards."""
        top = self._query.top
        found: Iterator[Found | Joined]
        if isinstance(top, EventFilter):
            found = (_unpack(packed) for _, packed in self._sorter.drain())
        else:
            found = self._joined()
        for pipe in self._query.pipes:
            found = _cut(found, pipe)
        return found

    def _joined(self) -> Iterator[Joined]:
        for completed in self._completed(self._in_time()):
            events = (None if each is None else _unpack(each) for each in completed.items)
            yield Joined(completed.keys, tuple(events))

    def _completed(self, events: Iterable[_Timed]) -> Iterator[Completed]:
        from barrelman.engine.sample import SampleMachine, find_samples
        from barrelman.engine.sequence import SequenceMachine, find_sequences

        top = self._query.top
        if isinstance(top, Sequence):
            machine = SequenceMachine(top)
            yield from find_sequences(top, events, machine=machine)
            self.evicted = machine.evicted
            return
        assert not isinstance(top, EventFilter)
        sampling = SampleMachine(top)
        yield from find_samples(top, events, machine=sampling)
        self.evicted = sampling.evicted

    def _in_time(self) -> Iterator[_Timed]:
        for key, packed in self._sorter.drain():
            yield key[1] // 1000, marshal.loads(packed)[0], packed


def _unpack(packed: bytes) -> Found:
    _, is_document, line = marshal.loads(packed)
    return Found(line, Event(loads(line), is_document, line))


def _cut(found: Iterator[_Item], pipe: Pipe) -> Iterator[_Item]:
    if pipe.name == "head":
        return islice(found, pipe.count)
    return _last(found, pipe.count)


def _last(found: Iterator[_Item], count: int) -> Iterator[_Item]:
    yield from deque(found, maxlen=count)
