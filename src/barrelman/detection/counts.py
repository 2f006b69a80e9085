"""What became of each rule's matches: every one is counted somewhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RuleCounts:
    """What became of a rule's matches: raised + capped + duplicates + unplaced + outside.

    Of a rule that looks at several events `raised` and `capped` count what its runs found instead.
    """

    matches: int = 0
    raised: int = 0
    alerts: int = 0
    """Those raised that were given out: not below the least severity, not after a closed pipe."""
    capped: int = 0
    duplicates: int = 0
    conflicting: int = 0
    """Acts under the Audit-ID of an earlier, other one: a reused Audit-ID, or a forged one."""
    late: int = 0
    """Alerted in a later run, after every run that should have read them."""
    unplaced: int = 0
    """In no window at all: no time by which the rule reads, or a schedule with holes."""
    outside: int = 0
    """Outside --since/--until, where those count back from the log's end."""
    suppressed: int = 0
    """Folded into an alert that another match raised."""
    evicted: int = 0
    """Keys, groups or partial sequences let go because there were too many to hold."""
    history: int = 0
    """Matches of the past that was given."""
