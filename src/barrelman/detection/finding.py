"""What an operator makes of matches, run by run: findings, each to become one alert or more.

Rule types differ in their *operator* alone. It is given every match of its rule once, in the order
of the times by which windows see them, and is asked for each run in turn what comes of it. Of a
run at a tick it has then been given every match up to the end of the run's window, and maybe none
beyond.
"""

from __future__ import annotations

import marshal
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

from barrelman.records.event import Event
from barrelman.records.frozen import frozen
from barrelman.records.paths import Scalar

Operand: TypeAlias = Any
"""What an operator needs of an event beside its time: plain values that `marshal` takes."""
GroupValue: TypeAlias = Scalar | tuple[Scalar, ...] | None
"""A field's value in a group: None where it is missing, a tuple where it is a list."""

MOST_LIVE: Final = 1_000_000
"""Keys, groups or partial sequences that one operator holds; beyond, the oldest are let go."""


class Window(NamedTuple):
    """One run's: its time, and the first and last millisecond that it reads, both included."""

    tick_ms: int
    from_ms: int
    to_ms: int


class Item(NamedTuple):
    """A match on its way into an operator."""

    time_us: int
    """By which windows see it; its milliseconds (`// 1000`) are what they compare."""
    timestamp_us: int
    """The event's own time."""
    number: int
    """Of two matches the one read first has the lower."""
    identity: str
    """The id of the alert that a query rule would raise."""
    operand: Operand
    groups: tuple[GroupValue, ...] | None
    """The values of the fields that the rule suppresses by, and behind them the event's cluster;
    None where it does not."""
    payload: bytes
    """The event, packed (`match.pack`); empty where the operator was not to need it."""
    is_past: bool = False
    """It lies before what is scanned."""


Fields: TypeAlias = tuple[int, int, int, str, Operand, tuple[GroupValue, ...] | None, bytes, bool]
"""Those of an item, as a plain tuple: sooner made, and of no concern to the garbage collector. They
sort by the first three."""


@frozen
class NewTerms:
    """The combination that had not been seen."""

    values: tuple[Scalar, ...]


@frozen
class ThresholdResult:
    """A group that has come to the threshold. `from_ms`: since when its events were counted."""

    count: int
    from_ms: int
    last_ms: int
    terms: tuple[tuple[str, Scalar], ...]
    cardinality: tuple[tuple[str, int], ...] = ()
    cluster: str = ""
    """Of all its events; empty where they come from several."""
    first_ms: int | None = None
    """The time of the first event that was counted, as `last_ms` is that of the last."""


@frozen
class SequenceOf:
    """The events of a sequence or a sample are the finding's, in order; `keys` joined them."""

    keys: tuple[Scalar | None, ...]


About: TypeAlias = NewTerms | ThresholdResult | SequenceOf


@frozen
class Suppression:
    """Repeats folded into an alert: `docs_count` of them, from `start_ms` to `end_ms`."""

    terms: tuple[tuple[str, GroupValue], ...]
    instance_id: str
    start_ms: int
    end_ms: int
    docs_count: int
    last_detected_ms: int | None = None
    """The time of the run that folded the last one; None: the alert's own."""


@dataclass(slots=True)
class Finding:
    """One alert to be; of a sequence, a shell and the blocks below it.

    `payloads`: its event, packed; the events of a sequence in order; none for a threshold.
    """

    alert_id: str
    time_us: int
    timestamp_us: int
    number: int
    payloads: tuple[bytes, ...]
    about: About | None = None
    groups: tuple[GroupValue, ...] | None = None
    suppression: Suppression | None = None
    tick_ms: int | None = None
    """The run that raised it, where a later one gives it: an alert may be held until no more
    repeats can be folded into it."""
    keys: tuple[str, ...] = ()
    """What later runs know it by, and behind that each finding that was folded into it."""

    @property
    def order(self) -> tuple[int, int, int]:
        """Its place among the alerts of a run: oldest first."""
        return self.time_us, self.timestamp_us, self.number


@frozen
class Raised:
    """An alert to be written: its run's time, and the event that it is about.

    Of a sequence `events` are all of its events, the first of them `event`; a threshold has none,
    and its `event` is an empty document.
    """

    rule: int
    tick_ms: int
    alert_id: str
    event: Event
    events: tuple[Event, ...] = ()
    about: About | None = None
    suppression: Suppression | None = None
    is_new: bool = True
    """Not given before: of an alert that was, this is how it stands by now."""


class Operator(Protocol):
    """One rule's; whoever drives it counts what it has `capped`, `suppressed` and `evicted`."""

    capped: int
    """Findings for which a run had no room, and no later run will."""
    suppressed: int
    """Matches folded into an alert that another match raised."""
    evicted: int
    """Keys or partial sequences let go because there were too many."""

    def add(self, item: Item) -> None:
        """The next match. One that is older than another before it came late: it gets its place
        where that still can matter."""

    def run(self, window: Window) -> list[Finding]:
        """What comes of the next run, in the order in which its alerts are to be written."""


@runtime_checkable
class Bulk(Operator, Protocol):
    """An operator that takes many matches sooner than each by itself."""

    def add_all(self, matches: list[Fields]) -> list[Fields]:
        """Adds matches in the order of their times, all read by the same runs. Gives them as they
        must be kept to be added to another operator: without events that none will need."""


def add_all(operator: Operator, matches: list[Fields]) -> list[Fields]:
    """As `Bulk` does it, to any operator."""
    if isinstance(operator, Bulk):
        return operator.add_all(matches)
    for match in matches:
        operator.add(Item(*match))
    return matches


@runtime_checkable
class Holding(Operator, Protocol):
    """An operator whose alerts may change after their run: it holds them until they cannot."""

    def go_live(self) -> list[Finding]:
        """From now on alerts are given at once; what was held is given now."""

    def take_changed(self) -> list[Finding]:
        """Alerts that were given before, and that a run has changed since."""

    def finish(self) -> list[Finding]:
        """What is still held: no run is to come."""


_ABOUT: Final = (NewTerms, ThresholdResult, SequenceOf)


def pack_finding(finding: Finding) -> bytes:
    """A finding as bytes, for `unpack_finding`."""
    about = finding.about
    kind = None if about is None else _ABOUT.index(type(about))
    return marshal.dumps(
        (
            finding.alert_id,
            finding.time_us,
            finding.timestamp_us,
            finding.number,
            finding.payloads,
            kind,
            _parts(about),
            finding.groups,
            _parts(finding.suppression),
            finding.tick_ms,
        )
    )


def unpack_finding(data: bytes) -> Finding:
    """What `pack_finding` packed."""
    alert_id, time_us, timestamp_us, number, payloads, kind, parts, groups, folded, tick_ms = (
        marshal.loads(data)
    )
    about = None if kind is None else _ABOUT[kind](*parts)
    suppression = None if folded is None else Suppression(*folded)
    return Finding(
        alert_id, time_us, timestamp_us, number, payloads, about, groups, suppression, tick_ms
    )


def _parts(described: Any) -> tuple[Any, ...] | None:
    if described is None:
        return None
    return tuple(getattr(described, name) for name in described.__slots__)
