"""Suppression around any operator: what its runs find is folded by groups of values.

Rules of type query and saved_query fold matches instead, bucket by bucket: see `composite`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from barrelman.detection.finding import (
    Fields,
    Finding,
    GroupValue,
    Item,
    NewTerms,
    Operator,
    Suppression,
    ThresholdResult,
    Window,
    add_all,
)
from barrelman.detection.groups import Groups, groups_of, instance_id, lacks_value
from barrelman.detection.standing import Standing
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue
from barrelman.rules.rule import AlertSuppression

MOST_CANDIDATES: Final = 5
"""So many times the alerts that a run may raise it looks at findings: those that it folds into
others, too. What is folded must be found, so that the operator within has this for its cap."""
_MOST_LEFT: Final = 20_000

Unknown: TypeAlias = Callable[[Sequence[Finding]], list[Finding]]
"""Gives those of findings that no run before has raised or folded, their `keys` set."""


@dataclass(slots=True)
class _Candidate:
    """Findings of one run that are to be one alert. `suppression` None: an ordinary one."""

    findings: list[Finding]
    groups: Groups | None = None
    suppression: Suppression | None = None


def candidate_cap(cap: int | None) -> int | None:
    """The cap of an operator whose findings are folded."""
    return None if cap is None else MOST_CANDIDATES * cap


class Suppressor:
    """Folds what `inner` finds: one alert for each group of a run, or of a duration.

    A finding that a run had no room for comes up again in the next one whose window holds it; it
    is `capped` until it gets room. Sequences and thresholds never do.

    Alerts that later runs can fold repeats into are given when they are complete; once it is live
    they are given at once, and by `take_changed` again.

    An operator that did not do the runs before finds again what they found. That must be gone
    before anything is folded: else what is known would stand for its group, and what is new in it
    would be lost with it.
    """

    def __init__(
        self,
        inner: Operator,
        *,
        suppression: AlertSuppression,
        rule_id: str,
        cap: int | None,
        catalogue: Catalogue = AUDIT_CATALOGUE,
    ) -> None:
        self.capped = 0
        self.suppressed = 0
        self.evicted = 0
        self.inner = inner
        self.unknown: Unknown | None = None
        """None: this operator has done every run there was."""
        self.known = 0
        """Findings that runs of others had raised or folded."""
        self._rule_id = rule_id
        self._cap = cap
        self._names = suppression.group_by
        self._keeps_incomplete = suppression.missing_fields_strategy != "doNotSuppress"
        self._groups_of = groups_of(suppression.group_by, catalogue=catalogue)
        self._standing = Standing(duration_ms=suppression.duration_ms)
        self._left: list[Finding] = []
        self._lost = 0
        self._folded = 0

    def add(self, item: Item) -> None:
        self.inner.add(item)

    def add_all(self, matches: list[Fields]) -> list[Fields]:
        return add_all(self.inner, matches)

    def run(self, window: Window) -> list[Finding]:
        tick_ms = window.tick_ms
        given = self._standing.begin(tick_ms)
        most = candidate_cap(self._cap)
        found = self._found(window, most=most)
        found.sort(key=_order)
        looked_at, left = (found, []) if most is None else (found[:most], found[most:])
        raised: list[Finding] = []
        room = len(found) if self._cap is None else self._cap
        for candidate in self._fold(looked_at):
            folded = candidate.suppression
            if folded is not None and self._standing.fold(folded, tick_ms=tick_ms):
                self._folded += len(candidate.findings)
            elif room > 0:
                room -= 1
                raised += self._raise(candidate, tick_ms)
            else:
                left += candidate.findings
        self._keep(left)
        self._count()
        return given + raised

    def go_live(self) -> list[Finding]:
        """From now on alerts are given at once; what was held is given now."""
        return self._standing.go_live()

    def take_changed(self) -> list[Finding]:
        """Alerts that were given before, and that runs have changed since."""
        return self._standing.take_changed()

    def finish(self) -> list[Finding]:
        """The alerts that are still held: no run is to come."""
        self._count()
        return self._standing.finish()

    def _found(self, window: Window, *, most: int | None) -> list[Finding]:
        page = self.inner.run(window)
        found = self._still_found(window.from_ms) + page
        if self.unknown is None:
            return found
        new = self.unknown(found)
        self.known += len(found) - len(new)
        while most is not None and len(page) >= most > len(new):
            # What is known has taken the places of others.
            page = self.inner.run(window)
            added = self.unknown(page)
            self.known += len(page) - len(added)
            new += added
        return new

    def _fold(self, found: Sequence[Finding]) -> list[_Candidate]:
        """The alerts that these make, each where the first of its findings is."""
        candidates: list[_Candidate] = []
        of_instance: dict[str, _Candidate] = {}
        for finding in found:
            groups = self._groups_of(finding)
            if groups is None or (not self._keeps_incomplete and lacks_value(groups)):
                candidates.append(_Candidate([finding]))
                continue
            start_ms, end_ms, docs_count = _extent(finding)
            instance = instance_id(groups, rule_id=self._rule_id)
            candidate = of_instance.get(instance)
            if candidate is None:
                terms = self._terms(finding, groups)
                folded = Suppression(terms, instance, start_ms, end_ms, docs_count)
                candidate = of_instance[instance] = _Candidate([finding], groups, folded)
                candidates.append(candidate)
                continue
            assert candidate.suppression is not None
            candidate.findings.append(finding)
            candidate.suppression = _joined(candidate.suppression, end_ms, docs_count)
        return candidates

    def _terms(self, finding: Finding, groups: Groups) -> tuple[tuple[str, GroupValue], ...]:
        if isinstance(finding.about, ThresholdResult):
            return finding.about.terms
        # Behind their values stands the cluster.
        return tuple(zip(self._names, groups, strict=False))

    def _raise(self, candidate: _Candidate, tick_ms: int) -> list[Finding]:
        first = candidate.findings[0]
        if candidate.suppression is None:
            return [first]
        self._folded += len(candidate.findings) - 1
        first.groups = candidate.groups
        first.suppression = candidate.suppression
        first.keys = tuple([key for each in candidate.findings for key in each.keys])
        return self._standing.open(first, tick_ms=tick_ms)

    def _still_found(self, from_ms: int) -> list[Finding]:
        """Of what runs before had no room for, what a run from there on finds again."""
        found = [finding for finding in self._left if _found_ms(finding) >= from_ms]
        self._lost += len(self._left) - len(found)
        return found

    def _keep(self, left: list[Finding]) -> None:
        kept = [
            finding
            for finding in left
            if finding.about is None or isinstance(finding.about, NewTerms)
        ]
        kept.sort(key=_order)
        self._left = kept[:_MOST_LEFT]
        self._lost += len(left) - len(self._left)

    def _count(self) -> None:
        inner = self.inner
        self.capped = inner.capped + self._lost + len(self._left)
        self.suppressed = inner.suppressed + self._folded
        self.evicted = inner.evicted + self._standing.evicted


def _order(finding: Finding) -> tuple[int, int, int]:
    return finding.order


def _found_ms(finding: Finding) -> int:
    """A run whose window holds that time finds it again. What is new to a run must lie behind the
    beginning of its window."""
    return finding.time_us // 1000 - isinstance(finding.about, NewTerms)


def _extent(finding: Finding) -> tuple[int, int, int]:
    """From when to when a finding's events are, and how many there are beside the first.

    A sequence is one repeat, whatever it is made of.
    """
    about = finding.about
    if isinstance(about, ThresholdResult):
        start_ms = about.from_ms if about.first_ms is None else about.first_ms
        return start_ms, about.last_ms, about.count - 1
    time_ms = finding.time_us // 1000
    return time_ms, time_ms, 0


def _joined(folded: Suppression, end_ms: int, docs_count: int) -> Suppression:
    return Suppression(
        folded.terms,
        folded.instance_id,
        folded.start_ms,
        max(folded.end_ms, end_ms),
        folded.docs_count + docs_count + 1,
    )
