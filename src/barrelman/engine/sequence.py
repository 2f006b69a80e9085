"""Sequences: events that follow one another, joined by keys. A machine, fed in the order of time.

For each key and each step one partial sequence waits for the next event: the latest, since an
older one could only lose to it. Steps are tried from the last to the first, so that no event takes
two places of one sequence, but it may serve several.

A machine that saw more than one window answers for every window. What it would hold, had it been
fed from the window's start on, is what it holds without the partial sequences that began before:
of two that wait in one place one after the other, the later one never began earlier.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from barrelman.engine.stages import (
    LEFT_OUT,
    Key,
    Slots,
    shown_keys,
)
from barrelman.query.eqltree import Sequence
from barrelman.records.frozen import frozen
from barrelman.records.paths import Scalar

MOST_PARTIALS: Final = 1_000_000
"""Partial sequences, and last missing events of a key, that a machine holds."""

_FEW: Final = 4096
_Partial: TypeAlias = tuple[int, int, int, int | None, tuple[Any, ...]]
"""The first event's time; the last one's position and time; the time of the last event before the
first that a leading `![ ]` forbids; the events."""
_NEVER: Final = float("inf")


@frozen
class Edges:
    """That a sequence begins or ends with `![ ]`, and its maxspan."""

    leads: bool
    trails: bool
    span_ms: int


@dataclass(slots=True, eq=False)
class Completed:
    """A sequence whose events are all there. `items`: what was fed, None in place of a `![ ]`.

    Where it ends with `![ ]`, it is known only once its span is over whether it holds; until then
    `trailing_ms`, the time of the first forbidden event after it, may still come.
    """

    key: Key
    items: tuple[Any, ...]
    first_ms: int
    last_ms: int
    position: int
    """Of its last event among all that were fed."""
    edges: Edges | None = None
    leading_ms: int | None = None
    trailing_ms: int | None = None

    @property
    def keys(self) -> tuple[Scalar | None, ...]:
        return shown_keys(self.key)

    def is_settled(self, now_ms: int) -> bool:
        """Whether no event from that time on changes the answer."""
        edges = self.edges
        if edges is None or not edges.trails or self.trailing_ms is not None:
            return True
        return now_ms > self.first_ms + edges.span_ms

    def holds(self, from_ms: int | None = None, to_ms: int | None = None) -> bool:
        """Whether a run that reads from here to there, both ends included, finds it.

        A run does not see forbidden events outside its window. With `![ ]` at both ends some
        interval as long as maxspan that covers the sequence must be free of them, with one at
        either end the one that reaches farthest.
        """
        if from_ms is not None and self.first_ms < from_ms:
            return False
        if to_ms is not None and self.last_ms > to_ms:
            return False
        if self.edges is None:
            return True
        start: float = self.first_ms
        if self.edges.leads:
            seen_ms = self.leading_ms
            is_seen = seen_ms is not None and (from_ms is None or seen_ms >= from_ms)
            start = seen_ms if is_seen and seen_ms is not None else -_NEVER
        end: float = self.last_ms
        if self.edges.trails:
            seen_ms = self.trailing_ms
            is_seen = seen_ms is not None and (to_ms is None or seen_ms <= to_ms)
            end = seen_ms if is_seen and seen_ms is not None else _NEVER
        return end - start > self.edges.span_ms


class SequenceMachine:
    """The state of one sequence over events that come in order."""

    def __init__(self, query: Sequence, *, most: int = MOST_PARTIALS) -> None:
        self.evicted = 0
        """Partial sequences let go because there were too many, and keys that were left out."""
        self._most = most
        self._span_ms = query.maxspan_ms
        plan = _Plan(query)
        self._layout = plan.layout
        self._edges = plan.edges
        self._waiting: list[dict[Key, _Partial]] = [{} for _ in range(plan.count - 1)]
        around = [None, *self._waiting, None]
        self._moves = {
            stage: [(around[step], plan.between[step], around[step + 1]) for step in steps]
            for stage, steps in plan.steps.items()
        }
        """Of a stage, for each of its steps: where a partial sequence waits for it, what may not
        have come between, and where it waits then. None: nowhere."""
        self._leading = plan.leading
        self._trailing = frozenset(plan.trailing)
        self._until = len(query.stages)
        self._blocked: dict[int, dict[Key, tuple[int, int]]] = {
            stage: {} for stage in plan.remembered
        }
        """Of a `![ ]` and a key: position and time of the last event that it forbids."""
        self._open: dict[Key, deque[Completed]] = {}
        """Those that end with `![ ]` and are not settled, keys in the order of the last ones. Of a
        key, none began before the one before it."""
        self._count_open = 0
        self._position = 0
        self._sweep_at = _FEW

    @property
    def live(self) -> int:
        """Partial sequences, and keys otherwise remembered."""
        return sum(map(len, self._waiting)) + sum(map(len, self._blocked.values()))

    def feed(self, at_ms: int, slots: Slots, item: Any) -> list[Completed]:
        """The next event in order, and the sequences whose last event it is."""
        self._position = here = self._position + 1
        done: list[Completed] = []
        for stage, key in slots:
            moves = self._moves.get(stage)
            if moves is None:
                self._meet_other(stage, key, at_ms, here)
                continue
            for before, between, after in moves:
                partial: _Partial | None
                if before is None:
                    leading_ms = self._leading_ms(key) if self._leading else None
                    partial = (at_ms, here, at_ms, leading_ms, (item,))
                else:
                    partial = before.pop(key, None)
                    if partial is None:
                        continue
                    partial = self._advance(partial, key, at_ms, between, item)
                    if partial is None:
                        continue
                if after is None:
                    done.append(self._complete(key, partial))
                else:
                    if key in after:  # the order of a dict is that of the last events
                        del after[key]
                    after[key] = partial
        if not here & 1023 or len(slots) > 1024:
            self._keep_bounds(at_ms)
        return done

    def expire(self, before_ms: int) -> None:
        """Lets go of partial sequences whose last event came before that time."""
        for waiting in self._waiting:
            _drop_oldest(waiting, lambda partial: partial[2] < before_ms)
        for blocked in self._blocked.values():
            _drop_oldest(blocked, lambda event: event[1] < before_ms)
        old = []
        for key, found in self._open.items():
            if found[-1].last_ms >= before_ms:
                break
            old.append(key)
        for key in old:
            self._count_open -= len(self._open.pop(key))

    def finish(self) -> None:
        """No more events come: what is open is settled."""
        self._open.clear()
        self._count_open = 0

    def _leading_ms(self, key: Key) -> int | None:
        """When the last event came that may not come before the first."""
        events = (self._blocked[stage].get(key) for stage in self._leading)
        return max((event[1] for event in events if event is not None), default=None)

    def _advance(
        self, partial: _Partial, key: Key, at_ms: int, between: tuple[int, ...], item: Any
    ) -> _Partial | None:
        """The sequence with this event, too; None where it is over."""
        first_ms, position, _, leading_ms, items = partial
        if self._span_ms is not None and at_ms - first_ms > self._span_ms:
            return None
        for stage in between:
            event = self._blocked[stage].get(key)
            if event is not None and event[0] > position:
                return None
        return first_ms, self._position, at_ms, leading_ms, (*items, item)

    def _complete(self, key: Key, partial: _Partial) -> Completed:
        first_ms, here, at_ms, leading_ms, items = partial
        layout = self._layout
        if layout is not None:
            items = tuple(None if step is None else items[step] for step in layout)
        found = Completed(key, items, first_ms, at_ms, here, self._edges, leading_ms)
        if self._trailing:
            still_open = self._open.pop(key, None) or deque()
            self._drop_settled(still_open, at_ms)
            still_open.append(found)
            self._open[key] = still_open
            self._count_open += 1
        return found

    def _meet_other(self, stage: int, key: Key, at_ms: int, here: int) -> None:
        """An event of `until`, or one that a `![ ]` forbids: it lies strictly between others. Or
        how many keys were left out."""
        if stage == LEFT_OUT:
            self.evicted += key[0]
            return
        if stage == self._until:
            for waiting in self._waiting:
                partial = waiting.get(key)
                if partial is not None and partial[1] != here:
                    del waiting[key]
            return
        if stage in self._trailing:
            still_open = self._open.get(key)
            while still_open and still_open[0].position != here:
                still_open.popleft().trailing_ms = at_ms
                self._count_open -= 1
            if still_open is not None and not still_open:
                del self._open[key]
            return
        blocked = self._blocked[stage]
        blocked.pop(key, None)
        blocked[key] = here, at_ms

    # --- bounds ---

    def _keep_bounds(self, at_ms: int) -> None:
        """Now and then: what can lead to nothing any more goes, and so does what is too much."""
        if self.live + self._count_open < self._sweep_at:
            return
        span_ms = self._span_ms
        if span_ms is not None:
            before_ms = at_ms - span_ms
            for waiting in self._waiting:
                for key in [key for key, partial in waiting.items() if partial[0] < before_ms]:
                    del waiting[key]
            for blocked in self._blocked.values():
                _drop_oldest(blocked, lambda event: event[1] < before_ms)
            for key, found in list(self._open.items()):
                self._drop_settled(found, at_ms)
                if not found:
                    del self._open[key]
        if self.live > self._most:
            self._evict()
        self._close_oldest(self._count_open - self._most)
        held = self.live + self._count_open
        self._sweep_at = min(self._most, max(_FEW, 2 * held))

    def _drop_settled(self, found: deque[Completed], at_ms: int) -> None:
        while found and found[0].is_settled(at_ms):
            found.popleft()
            self._count_open -= 1

    def _evict(self) -> None:
        """The oldest make room: a sixteenth of all at once."""
        tables: list[tuple[dict[Key, Any], int]] = [(table, 1) for table in self._waiting]
        tables += [(table, 0) for table in self._blocked.values()]
        ages = sorted(entry[place] for table, place in tables for entry in table.values())
        excess = self.live - self._most + self._most // 16
        if not ages:
            return
        limit = ages[min(excess, len(ages) - 1)]
        for table, place in tables:
            before = len(table)
            _drop_oldest(table, lambda entry, place=place: entry[place] < limit)  # type: ignore[misc]
            self.evicted += before - len(table)

    def _close_oldest(self, excess: int) -> None:
        """Of so many sequences whose end is not known yet it is not known for ever."""
        while excess > 0:
            key, found = next(iter(self._open.items()))
            while found and excess > 0:
                oldest = found.popleft()
                oldest.trailing_ms = oldest.last_ms
                self._count_open -= 1
                self.evicted += 1
                excess -= 1
            if not found:
                del self._open[key]


class _Plan:
    """A sequence taken apart: steps are its positive stages, each as often as it runs."""

    def __init__(self, query: Sequence) -> None:
        self.steps: dict[int, tuple[int, ...]] = {}
        """The steps of a stage, the last foremost."""
        self.between: list[tuple[int, ...]] = []
        """Before each step, the `![ ]` right in front of it."""
        self.leading: tuple[int, ...] = ()
        missing: list[int] = []
        layout: list[int | None] = []
        for number, stage in enumerate(query.stages):
            if stage.is_missing:
                missing.append(number)
                layout.append(None)
                continue
            first = len(self.between)
            if not first:
                self.leading = tuple(missing)
            self.steps[number] = tuple(range(first + stage.runs - 1, first - 1, -1))
            self.between += [tuple(missing) if first else (), *[()] * (stage.runs - 1)]
            layout += range(first, first + stage.runs)
            missing = []
        self.count: Final = len(self.between)
        self.trailing: tuple[int, ...] = tuple(missing)
        self.layout = tuple(layout) if None in layout else None
        self.remembered = {*self.leading, *(each for group in self.between for each in group)}
        self.edges = None
        if (self.leading or self.trailing) and query.maxspan_ms is not None:
            self.edges = Edges(bool(self.leading), bool(self.trailing), query.maxspan_ms)


def _drop_oldest(table: dict[Key, Any], is_old: Callable[[Any], bool]) -> None:
    """Of a table in the order of age."""
    old = []
    for key, entry in table.items():
        if not is_old(entry):
            break
        old.append(key)
    for key in old:
        del table[key]


def find_sequences(
    query: Sequence,
    events: Iterable[tuple[int, Slots, Any]],
    *,
    machine: SequenceMachine | None = None,
) -> Iterator[Completed]:
    """All sequences in events that come in order, as soon as each is known.

    `events`: time in milliseconds, slots, and what stands for the event. The order is that of the
    sequences' last events. Whoever gives the machine can ask it what it let go.
    """
    machine = machine or SequenceMachine(query)
    unknown: deque[Completed] = deque()
    for at_ms, slots, item in events:
        unknown += machine.feed(at_ms, slots, item)
        while unknown and unknown[0].is_settled(at_ms):
            found = unknown.popleft()
            if found.holds():
                yield found
    machine.finish()
    yield from (found for found in unknown if found.holds())
