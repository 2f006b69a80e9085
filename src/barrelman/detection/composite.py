"""Suppression of query rules: matches into buckets by their values, each bucket an alert.

A run puts the matches of its window into buckets and takes the first buckets in the order of
their keys, one more than the rule's cap, as Elastic's aggregation does. Matches of a bucket that
was taken are counted, and no later run sees them; those of the others may still be taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nsmallest
from math import inf
from typing import Final

from barrelman.detection.finding import MOST_LIVE, Finding, Item, Suppression, Window
from barrelman.detection.groups import (
    Groups,
    Key,
    KeyOrder,
    OrderOf,
    count_keys,
    digest,
    instance_id,
    key_order,
    keys_of,
    lacks_value,
    single_key,
    written,
)
from barrelman.detection.newest import Newest, finding_of
from barrelman.detection.runs import Runs
from barrelman.detection.standing import Standing
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue
from barrelman.rules.rule import AlertSuppression

_MOST_BUCKETS: Final = 10_000
"""Of one event, where a run has no cap."""
_FEW: Final = 64
_SHARE: Final = 16


@dataclass(slots=True)
class _Extent:
    """Matches that stand together: the oldest of them, until when, and how many."""

    oldest: Item
    end_ms: int
    count: int = 1

    def add(self, item: Item, time_ms: int) -> None:
        self.count += 1
        if time_ms > self.end_ms:
            self.end_ms = time_ms
        elif item < self.oldest:
            self.oldest = item

    def join(self, other: _Extent) -> None:
        self.count += other.count
        self.end_ms = max(self.end_ms, other.end_ms)
        if other.oldest < self.oldest:
            self.oldest = other.oldest

    def copied(self) -> _Extent:
        return _Extent(self.oldest, self.end_ms, self.count)


class _Pane:
    """Matches that the same runs read, by their groups. A window that holds `instant_ms` holds all.

    `takeable`: how many keys all those runs together can take. They take the first ones, so that
    of groups that are one key each those behind so many others never have a turn. They are not
    kept: a flood of values costs no memory.
    """

    def __init__(self, instant_ms: int, *, takeable: int | None, order: OrderOf) -> None:
        self.instant_ms = instant_ms
        self.extents: dict[Groups, _Extent] = {}
        self.is_read = False
        """Whether a run has read them, and left these."""
        self.lost = 0
        """Matches that no run takes."""
        self._takeable = takeable
        self._order = order
        self._singles = 0
        self._ceiling: KeyOrder | None = None

    @property
    def matches(self) -> int:
        return self.lost + sum(extent.count for extent in self.extents.values())

    def put(self, item: Item, groups: Groups, time_ms: int) -> int:
        """A match of a group that is not held; by how many that makes the held ones more."""
        key = single_key(groups)
        if key is not None:
            if self._ceiling is not None and self._order(key) >= self._ceiling:
                self.lost += 1
                return 0
            self._singles += 1
        self.extents[groups] = _Extent(item, time_ms)
        if self._takeable is None or self._singles < 2 * self._takeable + _FEW:
            return 1
        return 1 - self._trim(self._takeable)

    def remove(self, groups: Groups) -> _Extent:
        self._singles -= single_key(groups) is not None
        return self.extents.pop(groups)

    def _trim(self, takeable: int) -> int:
        keys = ((single_key(groups), groups) for groups in self.extents)
        singles = [(self._order(key), groups) for key, groups in keys if key is not None]
        singles.sort(key=_first)
        for _, groups in singles[takeable:]:
            self.lost += self.remove(groups).count
        self._ceiling = singles[takeable][0]
        return len(singles) - takeable


class SuppressedQuery:
    """The operator of a query rule that suppresses. It holds alerts as `Suppressor` does.

    A match without one of the fields is in a bucket of its own kind, or, where the rule says so,
    an alert as any other: in the room that the buckets of its run leave.
    """

    def __init__(
        self,
        runs: Runs,
        *,
        suppression: AlertSuppression,
        rule_id: str,
        cap: int | None,
        catalogue: Catalogue = AUDIT_CATALOGUE,
        most_live: int = MOST_LIVE,
    ) -> None:
        self.capped = 0
        """Matches that runs have read, and that are in no alert."""
        self.suppressed = 0
        self.evicted = 0
        self.known = 0
        """Matches that runs before had counted: of a past that was remembered, or late ones."""
        self._runs = runs
        self._names = suppression.group_by
        self._order = key_order(self._names, catalogue=catalogue)
        self._keeps_incomplete = suppression.missing_fields_strategy != "doNotSuppress"
        self._rule_id = rule_id
        self._cap = cap
        self._most = _MOST_BUCKETS if cap is None else cap + 1
        self._most_live = most_live
        self._standing = Standing(duration_ms=suppression.duration_ms)
        self._ordinary = Newest(runs, cap=cap, oldest_first=True, most_live=most_live)
        self._panes: dict[tuple[int, int, int], _Pane] = {}
        self._live = 0
        self._lost = 0
        self._cut = 0
        self._counted: dict[Key, int] = {}
        """Up to when the buckets that were taken have been counted, in milliseconds."""
        self._counted_ms: float = -inf
        """The latest of these times."""
        self._read_ms: float = -inf
        self._done = 0

    def add(self, item: Item) -> None:
        """The next match. One that comes when all its runs are over is the next run's."""
        groups = item.groups
        if groups is None or (not self._keeps_incomplete and lacks_value(groups)):
            self._ordinary.add(item)
            return
        time_ms = item.time_us // 1000
        first, last = self._runs.ticks(time_ms)
        if last < first:
            return
        if time_ms <= self._counted_ms and self._is_counted(groups, time_ms):
            self.known += 1
            return
        place = first, last, self._done if time_ms <= self._read_ms else 0
        pane = self._panes.get(place)
        if pane is None:
            takeable = None if self._cap is None else self._most * (last - first + 1)
            pane = _Pane(time_ms, takeable=takeable, order=self._order)
            self._panes[place] = pane
        extent = pane.extents.get(groups)
        if extent is not None:
            extent.add(item, time_ms)
            return
        self._live += pane.put(item, groups, time_ms)
        if self._live > self._most_live:
            self._evict()

    def run(self, window: Window) -> list[Finding]:
        given = self._standing.begin(window.tick_ms)
        self._leave(window.from_ms)
        self._done += 1
        self._read_ms = max(self._read_ms, window.to_ms)
        read = [pane for pane in self._panes.values() if pane.instant_ms <= window.to_ms]
        taken = self._taken(self._buckets(read))
        matches = self._settle(read, taken)
        raised, raisers = self._raise(taken, window.tick_ms)
        self.suppressed += matches - raisers
        room = None if self._cap is None else max(self._cap - len(taken), 0)
        raised += self._ordinary.take(window, most=room)
        self.capped = self._lost + self._ordinary.capped + sum(pane.matches for pane in read)
        self.evicted = self._cut + self._ordinary.evicted + self._standing.evicted
        return given + sorted(raised, key=lambda finding: finding.order)

    def go_live(self) -> list[Finding]:
        """From now on alerts are given at once; what was held is given now."""
        return self._standing.go_live()

    def take_changed(self) -> list[Finding]:
        """Alerts that were given before, and that runs have changed since."""
        return self._standing.take_changed()

    def finish(self) -> list[Finding]:
        """The alerts that are still held: no run is to come."""
        return self._standing.finish()

    def remember(self, key: Key, until_ms: int) -> None:
        """Matches of that bucket up to that time were counted by a run that was before."""
        self._counted[key] = max(until_ms, self._counted.get(key, until_ms))
        self._counted_ms = max(until_ms, self._counted_ms)

    def memories(self) -> list[tuple[Key, int]]:
        """What is to be remembered: buckets, and up to when their matches have been counted."""
        return list(self._counted.items())

    # --- inside ---

    def _is_counted(self, groups: Groups, time_ms: int) -> bool:
        """By any of its buckets: the match as a whole is."""
        if len(self._counted) < count_keys(groups):
            return any(
                time_ms <= until_ms and _is_in(key, groups)
                for key, until_ms in self._counted.items()
            )
        keys = keys_of(groups, most=len(self._counted), order=self._order)
        return any(time_ms <= self._counted.get(key, time_ms - 1) for key in keys)

    def _leave(self, from_ms: int) -> None:
        """No run reads any more what lies before, but for what came late."""
        self._counted = {
            key: until_ms for key, until_ms in self._counted.items() if until_ms >= from_ms
        }
        for place, pane in list(self._panes.items()):
            if pane.is_read and pane.instant_ms < from_ms:
                self._lost += pane.matches
                self._live -= len(pane.extents)
                del self._panes[place]

    def _buckets(self, read: Iterable[_Pane]) -> dict[Key, _Extent]:
        """All of a window; of a match with long lists the first ones: no others can be taken."""
        buckets: dict[Key, _Extent] = {}
        for pane in read:
            for groups, extent in pane.extents.items():
                if self._cap is None:
                    self._cut += max(count_keys(groups) - self._most, 0)
                for key in self._keys_of(groups):
                    bucket = buckets.get(key)
                    if bucket is None:
                        buckets[key] = extent.copied()
                    else:
                        bucket.join(extent)
        return buckets

    def _keys_of(self, groups: Groups) -> list[Key]:
        return keys_of(groups, most=self._most, order=self._order)

    def _taken(self, buckets: dict[Key, _Extent]) -> dict[Key, _Extent]:
        if self._cap is None or len(buckets) <= self._most:
            return buckets
        return {key: buckets[key] for key in nsmallest(self._most, buckets, key=self._order)}

    def _settle(self, read: Iterable[_Pane], taken: dict[Key, _Extent]) -> int:
        """Lets go of the matches in buckets that were taken, and says how many they are."""
        for key, bucket in taken.items():
            self.remember(key, bucket.end_ms)
        matches = 0
        for pane in read:
            pane.is_read = True
            counted = [
                groups
                for groups in pane.extents
                if any(key in taken for key in self._keys_of(groups))
            ]
            for groups in counted:
                matches += pane.remove(groups).count
            self._live -= len(counted)
        return matches

    def _raise(self, taken: dict[Key, _Extent], tick_ms: int) -> tuple[list[Finding], int]:
        """The alerts of these buckets, and how many matches raised them: one may be the first of
        several buckets. A bucket whose alert stands adds to that."""
        raised: list[Finding] = []
        raisers: set[int] = set()
        for key, bucket in taken.items():
            finding = self._finding(key, bucket)
            assert finding.suppression is not None
            if not self._standing.fold(finding.suppression, tick_ms=tick_ms):
                raisers.add(finding.number)
                raised += self._standing.open(finding, tick_ms=tick_ms)
        return raised, len(raisers)

    def _finding(self, key: Key, bucket: _Extent) -> Finding:
        start_ms, end_ms = bucket.oldest.time_us // 1000, bucket.end_ms
        finding = finding_of(bucket.oldest)
        values = key[: len(self._names)]
        texts = (finding.alert_id, *map(written, values), str(start_ms), str(end_ms))
        finding.alert_id = digest("bucket", *texts)
        finding.groups = key
        finding.suppression = Suppression(
            tuple(zip(self._names, values, strict=True)),
            instance_id(key, rule_id=self._rule_id),
            start_ms,
            end_ms,
            bucket.count - 1,
        )
        return finding

    def _evict(self) -> None:
        """Lets go of the oldest groups: some, for looking for them at every match costs much."""
        pane = self._panes[min(self._panes)]
        oldest = sorted(pane.extents, key=lambda groups: pane.extents[groups].oldest)
        oldest = oldest[: self._most_live // _SHARE + 1]
        for groups in oldest:
            pane.remove(groups)
        self._live -= len(oldest)
        self._cut += len(oldest)


def _is_in(key: Key, groups: Groups) -> bool:
    return all(
        value in group if type(group) is tuple else value == group
        for value, group in zip(key, groups, strict=True)
    )


def _first(pair: tuple[KeyOrder, Groups]) -> KeyOrder:
    return pair[0]
