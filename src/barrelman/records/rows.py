"""An event as the store keeps it: its own bytes, and what can be asked of it without them."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One event on its way to the store. Texts are None where the event has no such string.

    `key` tells a second delivery of the same event: 63 and 32 bits of a hash. `is_plain`: a raw
    audit event of which every value that has a column here is what the column says it is; of any
    other row the columns are hints, and only the line itself can be asked.
    """

    line: bytes
    """The event as JSON, without a line feed in it."""
    wrapper: bytes | None
    """What came around the event, as JSON; None for a raw audit event that came as itself."""
    key: tuple[int, int]
    time_us: int | None
    """The event's own time."""
    is_plain: bool
    audit_id: str | None
    stage: str | None
    level: str | None
    verb: str | None
    user: str | None
    resource: str | None
    subresource: str | None
    api_group: str | None
    namespace: str | None
    name: str | None
    source_ips: tuple[str, ...]
    status: int | None
    """`responseStatus.code`."""
    decision: str | None
    """`authorization.k8s.io/decision`: allow or forbid."""
