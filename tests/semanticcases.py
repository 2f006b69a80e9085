"""Queries with the events that they match and those that they do not, as data in a file."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE, Catalogue, FieldType
from barrelman.records.times import parse_date_math


@dataclass(frozen=True)
class Case:
    group: str
    query: str
    catalogue: Catalogue
    on: str = ""
    text: str = ""
    is_document: bool = False
    expected: bool = False
    column: int = 0

    def __str__(self) -> str:
        return f"{self.group} | {self.on} | {self.query}"

    def event(self) -> Event:
        return Event(json.loads(self.text), is_document=self.is_document)


class Cases:
    """The cases of one file: those that are answered, and those that are refused."""

    def __init__(self, path: Path) -> None:
        self.data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        self.now_ms = parse_date_math(self.data["now"]).resolve_ms(0)
        self.answered: list[Case] = []
        self.refused: list[Case] = []
        types = {
            name: Catalogue(exact={field: FieldType(kind) for field, kind in fields.items()})
            for name, fields in self.data["types"].items()
        } | {"audit": AUDIT_CATALOGUE}
        for group in self.data["group"]:
            self._read(group, types[group.get("types", "audit")])

    @property
    def raw(self) -> list[Case]:
        """The answered ones on raw events."""
        return [case for case in self.answered if not case.is_document]

    def _read(self, group: dict[str, Any], catalogue: Catalogue) -> None:
        name = group["name"]
        for on in group["on"]:
            is_document = on in self.data["documents"]
            text = self.data["documents" if is_document else "events"][on]
            self.answered += [
                Case(name, query, catalogue, on, text, is_document, expected)
                for expected, key in ((True, "yes"), (False, "no"))
                for query in group.get(key, ())
            ]
        self.refused += [
            Case(name, query, catalogue, column=column)
            for query, column in group.get("refused", ())
        ]
