"""Index patterns and the data stream an event would sit in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

from barrelman.records.event import Event
from barrelman.records.fields import AUDIT, AUDIT_STREAM
from barrelman.records.paths import Path, has_value

ALERT_STREAM: Final = ".alerts-security.alerts-default"

# A backing index: .ds-<stream>-<date>-<generation>, or .internal.<alias>-<generation>.
_BACKING = re.compile(r"\.ds-(?P<stream>.+)-\d{4}\.\d\d\.\d\d-\d{6}")
_INTERNAL = re.compile(r"\.internal(?P<alias>\..+)-\d{6}")
_STREAM_PARTS = tuple(Path(f"data_stream.{part}") for part in ("type", "dataset", "namespace"))
_AUDIT = Path(AUDIT)
_ALERT = Path("kibana.alert.uuid")


def _glob(pattern: str) -> re.Pattern[str]:
    """Each piece between stars is sought once, leftmost: many stars cannot go astray."""
    first, *others = (re.escape(piece) for piece in pattern.split("*"))
    if not others:
        return re.compile(first)
    middle = "".join(f"(?>.*?{piece})" for piece in others[:-1])
    return re.compile(f"{first}{middle}.*{others[-1]}", re.DOTALL)


class IndexPatterns:
    """A rule's `index` list: any pattern may match, a later `-pattern` takes back.

    A cluster prefix (`remote:logs-*`) names the same stream on another cluster and is ignored.
    An empty list reads everything.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = tuple(patterns)

    @cached_property
    def _steps(self) -> tuple[tuple[bool, re.Pattern[str]], ...]:
        parts = (part.strip() for pattern in self.patterns for part in pattern.split(","))
        steps = []
        for part in parts:
            excluded = part.startswith("-")
            name = part.removeprefix("-").rpartition(":")[2]
            if name:
                steps.append((excluded, _glob("*" if name == "_all" else name)))
        return tuple(steps)

    def read(self, stream: str) -> bool:
        """Whether a rule with these patterns reads that data stream."""
        if not self._steps:
            return True
        included = False
        for excluded, pattern in self._steps:
            if pattern.fullmatch(stream):
                included = not excluded
        return included


def data_stream(event: Event) -> str | None:
    """The stream an event belongs to, or None where its document does not tell."""
    if not event.is_document:
        return AUDIT_STREAM
    if event.index:
        return stream_of_index(event.index)
    body = event.body
    if "kibana.alert.uuid" in body or (
        "kibana" in body and has_value(_ALERT.nodes(body), empty_text=False)
    ):
        return ALERT_STREAM
    parts: list[Any] = [next(iter(path.values(body)), None) for path in _STREAM_PARTS]
    if parts[1] is not None:
        return f"{parts[0] or 'logs'}-{parts[1]}-{parts[2] or 'default'}"
    audit = [*_AUDIT.nodes(body), *_AUDIT.implied(body)]
    return AUDIT_STREAM if has_value(audit, empty_text=True) else None


def stream_of_index(index: str) -> str:
    """The data stream or alias that a backing index belongs to; the name itself if to none."""
    for pattern, group in ((_BACKING, "stream"), (_INTERNAL, "alias")):
        match = pattern.fullmatch(index)
        if match:
            return match[group]
    return index
