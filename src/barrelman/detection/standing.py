"""The alerts of one rule that repeats are still folded into, each for as long as its duration is.

The time runs from the run that raised the alert, and repeats do not lengthen it. Who reads a file
writes such an alert once, when it is complete; who watches a pipe gives it at once, and again
whenever a run has changed it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from barrelman.detection.drawer import Drawer
from barrelman.detection.finding import MOST_LIVE, Finding, Suppression


@dataclass(slots=True)
class _Alert:
    finding: Finding
    """Without its events."""
    suppression: Suppression
    tick_ms: int
    events: int
    """Their number in the drawer."""
    is_changed: bool = False


def fold(kept: Suppression, later: Suppression, *, now_ms: int) -> Suppression | None:
    """An alert's suppression once what a later run folded is added; None where nothing changes.

    A group that ends no later than the alert does was counted before: an older run saw it.
    """
    if kept.end_ms >= later.end_ms:
        return None
    return replace(
        kept,
        end_ms=later.end_ms,
        docs_count=kept.docs_count + later.docs_count + 1,
        last_detected_ms=now_ms,
    )


class Standing:
    """`duration_ms` None: nothing is folded into the alert of an earlier run.

    Until it goes live, alerts are given when they are complete, not when they are raised.
    """

    def __init__(self, *, duration_ms: int | None, most_live: int = MOST_LIVE) -> None:
        self._duration_ms = duration_ms
        self._holds = True
        self._most_live = most_live
        self._alerts: dict[str, _Alert] = {}
        self._drawer = Drawer()
        self._parted: list[Finding] = []
        """Alerts let go of since they were last changed, which is still to be told."""
        self.evicted = 0
        """Alerts let go of before their time, because there were too many."""

    def begin(self, tick_ms: int) -> list[Finding]:
        """At the beginning of a run: lets go of the alerts whose time is over. Those that were
        held are given now."""
        complete: list[Finding] = []
        while self._alerts and self._duration_ms is not None:
            # They stand here in the order in which they were raised.
            instance, alert = next(iter(self._alerts.items()))
            if alert.tick_ms >= tick_ms - self._duration_ms:
                break
            complete += self._let_go(instance)
        return complete

    def fold(self, folded: Suppression, *, tick_ms: int) -> bool:
        """Whether an alert stands that takes these repeats."""
        alert = self._alerts.get(folded.instance_id)
        if alert is None:
            return False
        suppression = fold(alert.suppression, folded, now_ms=tick_ms)
        if suppression is not None:
            alert.suppression = suppression
            alert.is_changed = True
        return True

    def open(self, finding: Finding, *, tick_ms: int) -> list[Finding]:
        """A new alert, its suppression set: what is to be given of it, and of others, at once."""
        assert finding.suppression is not None
        if self._duration_ms is None:
            return [finding]
        given: list[Finding] = []
        if len(self._alerts) >= self._most_live:
            given += self._let_go(next(iter(self._alerts)))
            self.evicted += 1
        events = self._drawer.put(finding.payloads)
        kept = replace(finding, payloads=())
        alert = _Alert(kept, finding.suppression, tick_ms, events)
        self._alerts[finding.suppression.instance_id] = alert
        return given if self._holds else [finding]

    def go_live(self) -> list[Finding]:
        """From now on alerts are given at once; what was held is given now."""
        if not self._holds:
            return []
        self._holds = False
        for alert in self._alerts.values():
            alert.is_changed = False
        return [self._given(alert) for alert in self._alerts.values()]

    def take_changed(self) -> list[Finding]:
        """Alerts that were given before, and that a run has changed since."""
        if self._holds:
            return []
        changed, self._parted = self._parted, []
        for alert in self._alerts.values():
            if alert.is_changed:
                alert.is_changed = False
                changed.append(self._given(alert))
        return changed

    def finish(self) -> list[Finding]:
        """What is still held, complete or not: no run is to come."""
        return [finding for instance in list(self._alerts) for finding in self._let_go(instance)]

    def _let_go(self, instance: str) -> list[Finding]:
        """Nothing is folded into an alert any more: it is given where it was held."""
        alert = self._alerts.pop(instance)
        given: list[Finding] = []
        if self._holds:
            given.append(self._given(alert))
        elif alert.is_changed:
            self._parted.append(self._given(alert))
        self._drawer.drop(alert.events)
        return given

    def _given(self, alert: _Alert) -> Finding:
        """As it is by now, for whoever writes it later than its run."""
        return replace(
            alert.finding,
            payloads=self._drawer.read(alert.events),
            suppression=alert.suppression,
            tick_ms=alert.tick_ms,
        )
