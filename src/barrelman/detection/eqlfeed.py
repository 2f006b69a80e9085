"""Events of a sequence or a sample in EQL's order, whatever the order in which they come.

As long as windows see events by the time that orders them, one machine serves all windows, and
holds what is live in it. Where the two times differ, and for samples, every run has a machine of
its own, which is fed with what its window holds. An event that comes late makes a machine begin
again with what was fed of late.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from barrelman.detection.eqlpool import Candidate, Entry, Pool, completed_candidates
from barrelman.engine.sample import SampleMachine
from barrelman.engine.sequence import Completed, SequenceMachine
from barrelman.query.eqltree import Sample, Sequence

MOST_RECENT: Final = 4096
"""Events that a machine can be fed with anew; the memory that they take is not theirs to keep."""
_SHARE: Final = 16


class Feed:
    """`found` gives what a run finds, in the order in which it was complete."""

    def __init__(self, query: Sequence | Sample, pool: Pool, *, most: int) -> None:
        self._query = query
        self._pool = pool
        self._most = most
        self._evicted = 0
        self._machine = None if isinstance(query, Sample) else SequenceMachine(query, most=most)
        self._fed_ms: int | None = None
        """All events up to then were fed."""
        self._block: list[Entry] = []
        """Events of one millisecond, not fed yet: a tiebreaker may put them in another order."""
        self._unruly: list[Entry] = []
        """Those that are older than what was fed, or that windows see at another time."""
        self._recent: deque[Entry] = deque(maxlen=MOST_RECENT)
        self._forgotten_ms: int | None = None
        """The time of the last event that was fed and is not among the recent any more."""
        self._held: list[Entry] = []
        """Without a machine: all events that a window may hold."""

    @property
    def evicted(self) -> int:
        return self._evicted + (0 if self._machine is None else self._machine.evicted)

    def add(self, entry: Entry) -> None:
        if self._machine is None:
            self._hold(entry, self._held)
            return
        time_ms = entry.time_ms
        is_late = self._fed_ms is not None and time_ms <= self._fed_ms
        if is_late or _differs(entry) or (self._block and time_ms < self._block[0].time_ms):
            self._hold(entry, self._unruly)
            return
        if self._block and time_ms > self._block[0].time_ms:
            self._feed_block()
        self._block.append(entry)

    def found(self, from_ms: int, to_ms: int) -> list[Candidate]:
        if self._block and self._block[0].time_ms <= to_ms:
            self._feed_block()
        if self._machine is not None:
            self._unruly = [entry for entry in self._unruly if entry.time_ms >= from_ms]
            if self._unruly:
                self._begin_again(from_ms)
        if self._machine is None:
            self._held = [entry for entry in self._held if entry.time_ms >= from_ms]
            if self._can_rule(from_ms):
                self._rule_again()
        found = self._pool.visible(from_ms, to_ms)
        if self._machine is not None:
            self._machine.expire(from_ms)
            return found
        made = {each.alert_id: each for each in found}
        for each in self._found_afresh(to_ms):
            made.setdefault(each.alert_id, each)
        return sorted(made.values(), key=lambda each: each.order)

    def _feed_block(self) -> None:
        block = sorted(self._block) if len(self._block) > 1 else self._block
        self._fed_ms = block[0].time_ms
        self._block = []
        self._feed(block)

    def _feed(self, entries: Iterable[Entry]) -> None:
        machine, recent = self._machine, self._recent
        assert machine is not None
        for entry in entries:
            if len(recent) == MOST_RECENT:
                self._forgotten_ms = recent[0].time_ms
            recent.append(entry)
            time_ms = entry.time_ms
            done = machine.feed(time_ms, entry.item.operand[0], _bare(entry))
            if done:
                for candidate in completed_candidates(done):
                    self._pool.add(candidate)

    # --- disorder ---

    def _begin_again(self, from_ms: int) -> None:
        """Takes in what came late, or is seen at another time."""
        machine = self._machine
        assert machine is not None
        is_whole = self._forgotten_ms is None or self._forgotten_ms < from_ms
        if not is_whole and not any(map(_differs, self._unruly)):
            self._evicted += len(self._unruly)  # too late: so many came after it
            self._unruly = []
            return
        if is_whole:
            self._pool.clear()
        else:
            self._evicted += machine.live
        self._evicted += machine.evicted
        self._machine = None
        recent = (entry for entry in self._recent if entry.time_ms >= from_ms)
        self._held = [*recent, *self._unruly, *self._block]
        self._block, self._unruly = [], []
        self._recent.clear()

    def _can_rule(self, from_ms: int) -> bool:
        is_whole = self._forgotten_ms is None or self._forgotten_ms < from_ms
        is_sequence = isinstance(self._query, Sequence)
        return is_sequence and is_whole and not any(map(_differs, self._held))

    def _rule_again(self) -> None:
        """All events in reach are seen at the time that orders them: one machine will do."""
        assert isinstance(self._query, Sequence)
        self._pool.clear()
        self._machine = SequenceMachine(self._query, most=self._most)
        self._forgotten_ms = None
        entries, self._held = sorted(self._held), []
        if entries:
            self._feed(entries)
            self._fed_ms = max(self._fed_ms or entries[-1].time_ms, entries[-1].time_ms)

    def _found_afresh(self, to_ms: int) -> list[Candidate]:
        machine: SequenceMachine | SampleMachine
        if isinstance(self._query, Sample):
            machine = SampleMachine(self._query, most=self._most)
        else:
            machine = SequenceMachine(self._query, most=self._most)
        done: list[list[Completed]] = []
        for entry in sorted(entry for entry in self._held if entry.time_ms <= to_ms):
            slots = entry.item.operand[0]
            done.append(machine.feed(entry.order[0] // 1000, slots, _bare(entry)))
        self._evicted += machine.evicted
        return [
            candidate
            for found in done
            for candidate in completed_candidates(each for each in found if each.holds())
        ]

    def _hold(self, entry: Entry, held: list[Entry]) -> None:
        held.append(entry)
        if len(held) > self._most:
            held.sort(key=lambda entry: entry.time_ms)
            number = self._most // _SHARE + 1
            del held[:number]
            self._evicted += number


def _differs(entry: Entry) -> bool:
    return entry.order[0] // 1000 != entry.time_ms


def _bare(entry: Entry) -> Entry:
    """Without what the machine was told: a sequence is its events."""
    return entry._replace(item=entry.item._replace(operand=None))
