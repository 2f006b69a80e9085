"""What an EQL query is as a whole: an event query, a sequence or a sample, and pipes behind it.

Their conditions are the shared expression tree (`ast`); what stands above it is EQL's alone.
"""

from __future__ import annotations

from dataclasses import field
from typing import Literal, TypeAlias

from barrelman.query.ast import NO_SPAN, And, Is, MatchAll, Node, Or, Span, Text
from barrelman.records.frozen import frozen

EVENT_CATEGORY = "event.category"
"""The field of an event's category where a rule names no other."""


@frozen
class FieldUse:
    """A field that a query names. `optional`: written `?name`, it need not be mapped."""

    name: str
    optional: bool = False
    span: Span = field(default=NO_SPAN, compare=False)


@frozen
class EventFilter:
    """`category where condition`; category None is `any`."""

    category: str | None
    where: Node

    def node(self, category_field: str = EVENT_CATEGORY) -> Node:
        """The whole condition, the category among it."""
        if self.category is None:
            return self.where
        of_category = Is(Text(category_field), Text(self.category, quoted=True), exact=True)
        return of_category if isinstance(self.where, MatchAll) else And((of_category, self.where))


@frozen
class Stage:
    """One step of a sequence or a sample, or its `until`.

    `keys`: those common to all stages, then its own. Of one written `?name`, null is a value too.
    """

    filter: EventFilter
    keys: tuple[FieldUse, ...] = ()
    is_missing: bool = False
    """`![ … ]`: no such event."""
    runs: int = 1


@frozen
class Sequence:
    stages: tuple[Stage, ...]
    maxspan_ms: int | None = None
    until: Stage | None = None


@frozen
class Sample:
    stages: tuple[Stage, ...]


@frozen
class Pipe:
    name: Literal["head", "tail"]
    count: int


Top: TypeAlias = EventFilter | Sequence | Sample


@frozen
class EqlQuery:
    top: Top
    pipes: tuple[Pipe, ...] = ()
    fields: tuple[FieldUse, ...] = field(default=(), compare=False)
    """Every field named, in order of first mention: what a mapping must have."""

    def any_stage(self, category_field: str = EVENT_CATEGORY) -> Node:
        """What an event must meet to matter at all: some stage's condition, or `until`'s."""
        if isinstance(self.top, EventFilter):
            return self.top.node(category_field)
        stages = [stage.filter for stage in self.top.stages]
        if isinstance(self.top, Sequence) and self.top.until is not None:
            stages.append(self.top.until.filter)
        nodes = tuple(dict.fromkeys(each.node(category_field) for each in stages))
        return nodes[0] if len(nodes) == 1 else Or(nodes)
