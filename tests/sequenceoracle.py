"""What sequences and samples there are in a list of events, said slowly: no state is let go."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

from barrelman.engine.stages import Key, Slots
from barrelman.query.ast import MATCH_ALL
from barrelman.query.eqltree import EventFilter, Sample, Sequence, Stage

Fed = tuple[int, Slots, Any]
Found = tuple[Key, tuple[Any, ...]]


def stages_of(text: str, **options: Any) -> Sequence:
    """`A B*3 !C` as a sequence: what its stages ask for is left to the slots."""
    stages = []
    for each in text.split():
        name, _, runs = each.removeprefix("!").partition("*")
        assert name
        stages.append(
            Stage(
                EventFilter(None, MATCH_ALL), is_missing=each.startswith("!"), runs=int(runs or 1)
            )
        )
    until = Stage(EventFilter(None, MATCH_ALL)) if options.pop("until", False) else None
    return Sequence(tuple(stages), until=until, **options)


def sample_of(count: int) -> Sample:
    return Sample((Stage(EventFilter(None, MATCH_ALL)),) * count)


@dataclass
class _Partial:
    places: list[int]
    """Where in the list its events stand."""


def sequences_of(query: Sequence, events: list[Fed]) -> list[Found]:
    """Every partial sequence is kept; each condition is asked of the whole list."""
    steps = [
        number
        for number, stage in enumerate(query.stages)
        if not stage.is_missing
        for _ in range(stage.runs)
    ]
    found: list[Found] = []
    waiting: dict[tuple[int, Key], list[_Partial]] = {}
    for place, (_, slots, _) in enumerate(events):
        for step in reversed(range(len(steps))):
            for stage, key in slots:
                if stage != steps[step]:
                    continue
                partial = _step(query, events, waiting, steps, step, key, place)
                if partial is None:
                    continue
                if step == len(steps) - 1:
                    if _is_free_at_edges(query, events, key, partial):
                        found.append((key, _laid_out(query, events, partial)))
                else:
                    waiting.setdefault((step, key), []).append(partial)
    return found


def _step(
    query: Sequence,
    events: list[Fed],
    waiting: dict[tuple[int, Key], list[_Partial]],
    steps: list[int],
    step: int,
    key: Key,
    place: int,
) -> _Partial | None:
    if step == 0:
        return _Partial([place])
    earlier = waiting.pop((step - 1, key), [])
    if not earlier:
        return None
    partial = max(earlier, key=lambda each: each.places[-1])
    first, last = partial.places[0], partial.places[-1]
    span_ms = query.maxspan_ms
    if span_ms is not None and events[place][0] - events[first][0] > span_ms:
        return None
    forbidden = [
        number
        for number in range(steps[step - 1] + 1, steps[step])
        if query.stages[number].is_missing
    ]
    forbidden.append(len(query.stages))  # `until`
    between = events[last + 1 : place]
    if any((stage, key) in slots for _, slots, _ in between for stage in forbidden):
        return None
    return _Partial([*partial.places, place])


def _is_free_at_edges(query: Sequence, events: list[Fed], key: Key, partial: _Partial) -> bool:
    """Tries every interval of the length of maxspan, by halves of a millisecond."""
    positive = [number for number, stage in enumerate(query.stages) if not stage.is_missing]
    leading = range(positive[0])
    trailing = range(positive[-1] + 1, len(query.stages))
    if not leading and not trailing:
        return True
    span_ms = query.maxspan_ms
    assert span_ms is not None
    first, last = partial.places[0], partial.places[-1]
    first_ms, last_ms = events[first][0], events[last][0]
    before = [ms for ms, slots, _ in events[:first] if any((n, key) in slots for n in leading)]
    after = [ms for ms, slots, _ in events[last + 1 :] if any((n, key) in slots for n in trailing)]
    if not trailing:
        return all(ms < last_ms - span_ms for ms in before)
    if not leading:
        return all(ms > first_ms + span_ms for ms in after)
    halves = range(2 * (last_ms - span_ms), 2 * first_ms + 1)
    # An interval may begin with the first event, after others of that time, or end with the last;
    # but one that is no longer than the sequence holds both its ends.
    return any(
        all(2 * ms < start or (opens and ms == first_ms and 2 * ms == start) for ms in before)
        and all(
            2 * ms > start + 2 * span_ms
            or (not opens and ms == last_ms and 2 * ms == start + 2 * span_ms)
            for ms in after
        )
        for start in halves
        for opens in (True, False)
    )


def _laid_out(query: Sequence, events: list[Fed], partial: _Partial) -> tuple[Any, ...]:
    places = iter(partial.places)
    items: list[Any] = []
    for stage in query.stages:
        if stage.is_missing:
            items.append(None)
        else:
            items += [events[next(places)][2] for _ in range(stage.runs)]
    return tuple(items)


def samples_of(query: Sample, events: list[Fed]) -> list[Found]:
    """For each key, once it can be, the first choice of distinct events."""
    found: list[Found] = []
    count = len(query.stages)
    for end in range(1, len(events) + 1):
        keys = dict.fromkeys(key for _, key in events[end - 1][1])
        for key in keys:
            if key in [known for known, _ in found]:
                continue
            options = [
                [place for place in range(end) if (stage, key) in events[place][1]]
                for stage in range(count)
            ]
            for chosen in product(*options):
                if len(set(chosen)) == count:
                    found.append((key, tuple(events[place][2] for place in chosen)))
                    break
    return found
