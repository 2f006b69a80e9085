"""Documents of any kind as rows: which of their fields make columns, and how wide those are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from unicodedata import combining, east_asian_width

from barrelman.cli.printing import printable
from barrelman.detection.ask import TIMESTAMP
from barrelman.engine.decode import dumps
from barrelman.engine.reading import field_reader
from barrelman.records.event import Event
from barrelman.records.fields import Catalogue
from barrelman.records.paths import Scalar, walk_leaves

Cell: TypeAlias = Callable[[Event], str]

GAP: Final = 2
# A column narrower than this says little; one that nobody asked for must say more.
_NARROW, _UNASKED = 12, 20
# A time is shown whole, a title not where it would take the room of values.
_TIME, _TITLE = 27, 24
_MOST_NAMES: Final = 2_000

_SHOWN_OF_AUDIT: Final = frozenset(
    {
        *("@timestamp", "user.name", "event.action", "kubernetes.audit.verb"),
        *("kubernetes.audit.user.username", "kubernetes.audit.stageTimestamp"),
        *("kubernetes.audit.objectRef.resource", "kubernetes.audit.objectRef.namespace"),
        *("kubernetes.audit.objectRef.name", "kubernetes.audit.objectRef.subresource"),
        *("orchestrator.resource.type", "orchestrator.resource.name", "orchestrator.namespace"),
        "kubernetes.audit.responseStatus.code",
    }
)
"""Fields that the columns of audit events show already."""


@dataclass(slots=True)
class Column:
    title: str
    cell: Cell
    keeps_end: bool = False
    """The end of a long value says more than its beginning."""
    width: int = 0

    def fitted(self, event: Event) -> str:
        return fit(self.cell(event), self.width, keeps_end=self.keeps_end)


def choose_columns(
    events: Sequence[Event],
    *,
    width: int,
    asked: Sequence[str],
    time_field: str = TIMESTAMP,
    catalogue: Catalogue | None = None,
) -> tuple[list[Column], int]:
    """The columns that fit, and how many fields that these events have are in none of them.

    First when and, of audit events, who did what; then the fields that were `asked` for; then
    what most events have.
    """
    known = catalogue or Catalogue()
    is_audit = not any(event.is_document for event in events)
    first = _audit_columns() if is_audit else []
    names = [] if is_audit else [time_field]
    names += [name for name in asked if not (is_audit and name in _SHOWN_OF_AUDIT)]
    columns = first + [_column(name, known) for name in dict.fromkeys(names)]
    columns = [each for each in columns if any(map(each.cell, events))]
    asked_for = len(columns)
    others = [] if is_audit else [name for name in _names_by_share(events) if name not in names]
    columns += [_column(name, known) for name in others]
    fitting = _fit_columns(columns, events, width, asked_for=asked_for)
    return fitting, len(columns) - len(fitting)


def _audit_columns() -> list[Column]:
    time = _cell(TIMESTAMP, Catalogue())
    return [
        Column("TIME (UTC)", lambda event: time(event)[:19].replace("T", " ")),
        Column("USER", _cell("user.name", Catalogue()), keeps_end=True),
        Column("VERB", _cell("kubernetes.audit.verb", Catalogue())),
        Column("OBJECT", _object),
        Column("CODE", _cell("kubernetes.audit.responseStatus.code", Catalogue())),
    ]


def _object(event: Event) -> str:
    ref = event.body.get("objectRef")
    ref = ref if isinstance(ref, dict) else {}
    kind = "/".join(str(ref[key]) for key in ("resource", "subresource") if ref.get(key))
    name = "/".join(str(ref[key]) for key in ("namespace", "name") if ref.get(key))
    return printable(f"{kind or event.body.get('requestURI', '')} {name}".strip())


def _column(name: str, catalogue: Catalogue) -> Column:
    return Column(name, _cell(name, catalogue))


def _cell(name: str, catalogue: Catalogue) -> Cell:
    read = field_reader(name, catalogue=catalogue)
    return lambda event: printable(", ".join(map(plain, read(event))))


def plain(value: Scalar) -> str:
    """A value as a person reads it: texts without quotes, all else as JSON has it."""
    return value if isinstance(value, str) else dumps(value).decode()


def _names_by_share(events: Sequence[Event]) -> list[str]:
    counts: Counter[str] = Counter()
    for event in events:
        counts.update(list(dict.fromkeys(name for name, _ in walk_leaves(event.body))))
        if len(counts) > _MOST_NAMES:
            break
    return [name for name, _ in counts.most_common(_MOST_NAMES)]


# --- widths --------------------------------------------------------------------------------


def _fit_columns(
    columns: list[Column], events: Sequence[Event], width: int, *, asked_for: int
) -> list[Column]:
    """As many as have room for something, from the first on; what is left over widens them."""
    fitting: list[Column] = []
    wanted: list[int] = []
    room = width + GAP
    for column in columns:
        title = min(text_width(column.title), _TITLE)
        natural = max([title, *(text_width(column.cell(event)) for event in events)])
        least = _UNASKED if len(fitting) >= asked_for else _NARROW if fitting else _TIME
        column.width = min(natural, least)
        if fitting and column.width + GAP > room:
            break
        room -= column.width + GAP
        fitting.append(column)
        wanted.append(natural)
    limit = 0
    while room > 0 and limit < max(wanted, default=0):
        limit += 1
        for column, natural in zip(fitting, wanted, strict=True):
            if room > 0 and column.width < min(natural, limit):
                column.width += 1
                room -= 1
    return fitting


def text_width(text: str) -> int:
    """Cells of a terminal."""
    if text.isascii():
        return len(text)
    return sum(map(_char_width, text))


def _char_width(char: str) -> int:
    return 0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1


def fit(text: str, width: int, *, keeps_end: bool = False) -> str:
    """The text in exactly so many cells; what is cut off shows as `…`."""
    size = text_width(text)
    if size > width:
        text = _cut(text[::-1], width)[::-1] if keeps_end else _cut(text, width)
        size = text_width(text)
    return text + " " * (width - size)


def _cut(text: str, width: int) -> str:
    kept, size = [], 1
    for char in text:
        size += _char_width(char)
        if size > width:
            break
        kept.append(char)
    return "".join(kept) + "…"
