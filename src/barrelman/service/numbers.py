"""What a service tells of itself: whether it can work, and how much it has done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from barrelman.service.intake import ClusterCounts


@dataclass
class Health:
    """`reasons` say why events cannot be stored or rules cannot run; empty while both work.

    `notes` are what an operator should know and can wait: files with broken rules, and the like.
    """

    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_ready(self) -> bool:
        return not self.reasons


@dataclass
class Numbers:
    """Plain counts, all since the service began unless said. Times are microseconds."""

    started_us: int
    now_us: int
    clusters: Mapping[str, ClusterCounts]
    held_bytes: int
    """Bodies that wait or are on their way in."""
    max_bytes: int
    overloaded: int
    commits: int
    stored_events: int
    """In the store now."""
    stored_bytes: int
    segments: int
    open_rows: int
    """Stored, and not in a segment yet."""
    judge_behind: int
    """Stored, and not judged live yet."""
    judge_read_back: int
    live_matches: int
    live_capped: int
    run_delay_ms: int
    pass_ms: float
    behind_ms: int
    """How long the oldest run that has not begun is overdue."""
    manual_runs: int
    gaps: int
    """Spans that no run has covered yet."""
    rules: Mapping[str, int]
    """By status: ready, disabled, invalid, unsupported."""
    alerts: Mapping[str, int]
    """Raised, by severity."""
    folded: int
    """Findings of runs that were counted to an alert that was there."""
    evicted: int
    """Groups and unfinished sequences that runs let go of for want of room."""
    watches: int
    """Warnings of the service about itself that last."""
    clock_ahead_us: int
    disk_total_bytes: int
    disk_free_bytes: int
    sinks: Mapping[str, Any]
    """By name, as the courier tells of them."""
