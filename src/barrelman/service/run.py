"""One execution of a rule: its window, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from barrelman.detection.lineup import Watcher
from barrelman.service.alerting import Allowance, RunKind


@dataclass
class Run:
    """One execution of one rule: asked for, and then what came of it."""

    watcher: Watcher
    tick_ms: int
    from_ms: int
    to_ms: int
    kind: RunKind
    allowance: Allowance | None = None
    matches: int = 0
    alerts: int = 0
    """New ones; others of its window were raised live or by another run."""
    known: int = 0
    folded: int = 0
    """Findings that were counted to an alert of an earlier run."""
    capped: int = 0
    suppressed: int = 0
    """Matches that the run itself folded into an alert on others."""
    evicted: int = 0
    """Groups or partial sequences let go of, because there were too many."""
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    metrics: dict[str, float | int | dict[str, str]] = field(default_factory=dict)


def plan_run(watcher: Watcher, tick_ms: int, kind: RunKind) -> Run:
    """A run at that time; it never reads what arrives after it. May raise TimeError."""
    from_ms, to_ms = watcher.window_ms(tick_ms)
    allowance = Allowance(watcher.cap) if kind == "manual" else None
    return Run(watcher, tick_ms, from_ms, min(to_ms, tick_ms), kind, allowance)
