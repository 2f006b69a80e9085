"""Which rows are asked for, and what is known of many rows at once."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

Span = tuple[int | None, int | None]
"""First and last, both included; None where there is no bound."""


class Extent(NamedTuple):
    """What holds for all rows of a record, a group of records or a segment."""

    first_seq: int
    last_seq: int
    """Below `first_seq` where there is no row."""
    arrival_us: tuple[int, int]
    time_us: tuple[int, int] | None
    """None where no row has a time of its own."""
    untimed: int
    """How many rows have none."""
    clusters: frozenset[str]

    def joined(self, later: Extent) -> Extent:
        """Both together; `later` follows in order of seq."""
        times = [each for each in (self.time_us, later.time_us) if each is not None]
        return Extent(
            self.first_seq,
            later.last_seq,
            (
                min(self.arrival_us[0], later.arrival_us[0]),
                max(self.arrival_us[1], later.arrival_us[1]),
            ),
            (min(each[0] for each in times), max(each[1] for each in times)) if times else None,
            self.untimed + later.untimed,
            self.clusters | later.clusters,
        )


class Bounds(NamedTuple):
    """All of these must hold of a row; rows without a time may lie in any `time_us`."""

    seq: Span = (None, None)
    arrival_us: Span = (None, None)
    time_us: Span = (None, None)
    clusters: frozenset[str] | None = None

    def may_meet(self, extent: Extent) -> bool:
        """Whether a row of that extent could lie within; wrong only in saying yes."""
        return (
            _overlap(self.seq, (extent.first_seq, extent.last_seq))
            and _overlap(self.arrival_us, extent.arrival_us)
            and (self.clusters is None or not self.clusters.isdisjoint(extent.clusters))
            and (
                self.time_us == (None, None)
                or extent.untimed > 0
                or (extent.time_us is not None and _overlap(self.time_us, extent.time_us))
            )
        )


def bounds_of(
    *,
    seq: Span = (None, None),
    arrival_us: Span = (None, None),
    time_us: Span = (None, None),
    clusters: Collection[str] | None = None,
) -> Bounds:
    """Bounds as callers give them: any collection of clusters."""
    return Bounds(seq, arrival_us, time_us, None if clusters is None else frozenset(clusters))


def _overlap(wanted: Span, held: tuple[int, int]) -> bool:
    low, high = wanted
    return (low is None or held[1] >= low) and (high is None or held[0] <= high)
