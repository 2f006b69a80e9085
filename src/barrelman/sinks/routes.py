"""Which alerts go to a sink: by severity, rule, tag and cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection
from fnmatch import fnmatchcase

from barrelman.records.frozen import frozen
from barrelman.records.severities import SEVERITIES


@frozen
class Route:
    """What a sink wants; of what it says nothing about, all.

    Names may hold `*` and `?`, and upper and lower case are the same.
    """

    severity: str = SEVERITIES[0]
    """The least severity."""
    rules: tuple[str, ...] = ()
    """Names or ids of rules."""
    tags: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    building_blocks: bool = False
    """Whether it takes alerts that are only the stuff of other ones."""

    def takes(
        self,
        *,
        severity: str,
        rule_id: str,
        rule_name: str,
        cluster: str,
        is_building_block: bool,
        tags: Callable[[], Collection[str]],
    ) -> bool:
        """Whether an alert goes there. `tags` is asked only where the route names some."""
        if is_building_block and not self.building_blocks:
            return False
        if severity in SEVERITIES and SEVERITIES.index(severity) < SEVERITIES.index(self.severity):
            return False
        return (
            _any(self.clusters, (cluster,))
            and _any(self.rules, (rule_id, rule_name))
            and (not self.tags or _any(self.tags, tags()))
        )


def _any(wanted: tuple[str, ...], names: Collection[str]) -> bool:
    return not wanted or any(
        fnmatchcase(name.lower(), pattern.lower()) for pattern in wanted for name in names
    )
