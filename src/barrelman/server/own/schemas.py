"""Pieces that the schemas of answers are made of."""

from __future__ import annotations

from typing import Any, Final

TEXT: Final[dict[str, Any]] = {"type": "string"}
NUMBER: Final[dict[str, Any]] = {"type": "number"}
WHOLE: Final[dict[str, Any]] = {"type": "integer"}
FLAG: Final[dict[str, Any]] = {"type": "boolean"}
ANYTHING: Final[dict[str, Any]] = {"type": "object"}
INSTANT: Final[dict[str, Any]] = {"type": "string", "format": "date-time"}
SOME_TEXT: Final[dict[str, Any]] = {"type": ["string", "null"]}
SOME_INSTANT: Final[dict[str, Any]] = {"type": ["string", "null"], "format": "date-time"}
NEXT: Final[dict[str, Any]] = {
    "type": ["string", "null"],
    "description": "Give it as `after` to get what follows; null at the end.",
}
DATE: Final[dict[str, Any]] = {
    "type": "string",
    "description": "A date, or date math: `2026-11-23T07:06:00Z`, `now-1h`.",
}
CLUSTERS: Final[dict[str, Any]] = {
    "type": ["array", "null"],
    "items": TEXT,
    "description": "Null stands for every cluster.",
}
ROLE: Final[dict[str, Any]] = {
    "type": "string",
    "enum": ["viewer", "analyst", "engineer", "admin", "intake"],
}


def obj(**properties: Any) -> dict[str, Any]:
    """An object that has all of these."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def form(*required: str, **properties: Any) -> dict[str, Any]:
    """A body: of its fields some must be there, and no others may."""
    made = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": list(required)} if required else made


def list_of(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def words(*allowed: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(allowed)}


def up_to(most: int, *, default: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": most, "default": default}
