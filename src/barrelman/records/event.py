"""One audit event, as the engine carries it from the input to an alert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

JsonObject: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class Event:
    """A decoded event and what its wrapper said about it.

    `body` is either the raw `audit.k8s.io` object (`is_document` false) or an Elastic document
    whose fields are to be taken as they came (`is_document` true).
    """

    body: JsonObject
    is_document: bool = False
    raw: bytes | None = None
    """`body` as JSON where the input had it in one piece; saves encoding it again."""
    line: int = 0
    """Line in the source on which the event began, from 1."""
    cluster: str | None = None
    """The cluster's name as the user gave it; a document's own name wins over it."""
    aks_metadata: JsonObject | None = None
    """An AKS diagnostic record around the event, its keys in snake_case."""
    wrapper_time: str | None = None
    """The `time` of an AKS record, which becomes the event's @timestamp."""
    index: str | None = None
    """`_index` of an Elastic search hit."""
    document_id: str | None = None
    """`_id` of an Elastic search hit."""
    is_bound: bool = False
    """`cluster` is who sent the event, and what a document says of itself does not count."""
    ingested_us: int | None = None
    """When a service took the event in, in microseconds; None for one read from a log."""
    document: JsonObject | None = None
    """The event's Elastic document, once something needed it (`ecs.ecs_document` keeps it here)."""
