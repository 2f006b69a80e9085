"""Which exception lists apply to which rule, and the predicate that comes of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from barrelman.errors import ExceptionListError, QueryTypeError
from barrelman.query.ast import MATCH_ALL, Node, Not
from barrelman.query.typecheck import check_types
from barrelman.records.fields import AUDIT_CATALOGUE
from barrelman.records.frozen import frozen
from barrelman.rules.exceptions import ExceptionSet, item_node, merge_sets
from barrelman.rules.filters import all_of, any_of
from barrelman.rules.rule import Rule

ENDPOINT_LIST: Final = "endpoint_list"
"""Elastic's endpoint agent applies this one itself; it is no concern of a detection rule."""


@frozen
class Assignment:
    """What the exception lists make of a set of rules. All maps are by `rule_id`."""

    exceptions: dict[str, Node]
    """"Some item of the rule's lists holds"; a rule without an applicable item is not here."""
    rule_notes: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    """What concerns lists rather than rules."""
    errors: tuple[ExceptionListError, ...]


def rule_predicate(rule: Rule, *, exceptions: Node | None = None) -> Node:
    """Query AND filters AND NOT exceptions: what an event must meet to raise an alert.

    Or to have a part in one.
    """
    parts = [rule.query_ast if rule.query_ast is not None else MATCH_ALL, rule.filter_ast]
    if exceptions is not None:
        parts.append(Not(exceptions))
    return all_of(parts)


def assign_exceptions(
    rules: Sequence[Rule], *, given: ExceptionSet, exported: ExceptionSet
) -> Assignment:
    """Gives each rule its lists. `given` came by `--exceptions`, `exported` beside the rules."""
    book = _Book(given, exported)
    item_indexes: dict[str, set[int]] = {}
    rule_notes: dict[str, tuple[str, ...]] = {}
    for rule in rules:
        indexes: set[int] = set()
        notes: list[str] = []
        for ref in rule.exceptions_list:
            if ref.list_id == ENDPOINT_LIST:
                continue
            if not book.has(ref.list_id, ref.namespace_type):
                notes.append(f"exception list '{ref.list_id}' was not given: it is not applied")
            indexes.update(book.claim(ref.list_id, ref.namespace_type))
        item_indexes[rule.rule_id] = indexes
        if notes:
            rule_notes[rule.rule_id] = tuple(notes)
    for_all, list_notes = book.leftover(has_rules=bool(rules))
    nodes, errors = book.nodes(set(for_all).union(*item_indexes.values()))
    exceptions = {}
    for rule_id, indexes in item_indexes.items():
        found = [nodes[index] for index in sorted(indexes.union(for_all)) if index in nodes]
        if found:
            exceptions[rule_id] = any_of(found)
    return Assignment(exceptions, rule_notes, tuple(list_notes), tuple(errors))


class _Book:
    """All lists by id, and which of them some rule has asked for."""

    def __init__(self, given: ExceptionSet, exported: ExceptionSet) -> None:
        both = merge_sets((given, exported))
        self._items = both.items
        self._value_lists = both.value_lists
        self._lists = both.lists
        self._given = {one.list_id for one in given.lists}
        self._given.update(item.list_id for item in given.items)
        self._by_list: dict[str, list[int]] = defaultdict(list)
        for index, item in enumerate(self._items):
            self._by_list[item.list_id].append(index)
        self._claimed: set[str] = set()

    def has(self, list_id: str, namespace: str) -> bool:
        spaces = [one.namespace_type for one in self._lists if one.list_id == list_id]
        spaces += [self._items[index].namespace_type for index in self._by_list[list_id]]
        return None in spaces or namespace in spaces

    def claim(self, list_id: str, namespace: str) -> Iterable[int]:
        """The items of a list a rule names, by index."""
        self._claimed.add(list_id)
        for index in self._by_list[list_id]:
            if self._items[index].namespace_type in (None, namespace):
                yield index

    def leftover(self, *, has_rules: bool) -> tuple[list[int], list[str]]:
        """Items that apply to every rule, and what to say of lists that no rule names."""
        types = {one.list_id: one.type for one in self._lists}
        for_all: list[int] = []
        notes: list[str] = []
        known = dict.fromkeys(
            [*types, *(list_id for list_id, found in self._by_list.items() if found)]
        )
        for list_id in known:
            if list_id in self._claimed or list_id == ENDPOINT_LIST:
                continue
            named = f"exception list '{list_id}'"
            list_type = types.get(list_id)
            if list_id not in self._given:
                notes.append(
                    f"{named} came with the rules, and no rule names it: it is not applied"
                )
            elif list_type == "detection" and has_rules:
                for_all += self._by_list[list_id]
                notes.append(f"{named} is named by no rule: it applies to every rule")
            elif list_type is None:
                notes.append(
                    f"{named} is named by no rule, and the line that gives its type is missing: "
                    "it is not applied"
                )
            else:
                notes.append(
                    f"{named} of type '{list_type}' is named by no rule: it is not applied"
                )
        return for_all, notes

    def nodes(self, indexes: set[int]) -> tuple[dict[int, Node], list[ExceptionListError]]:
        """Each item's expression, made once however many rules share it."""
        nodes: dict[int, Node] = {}
        errors: list[ExceptionListError] = []
        for index in sorted(indexes):
            item = self._items[index]
            node, problems = item_node(item, value_lists=self._value_lists)
            errors += problems
            if node is None:
                continue
            try:
                check_types(node, AUDIT_CATALOGUE)
            except QueryTypeError as error:
                message = f"{item.label} is not applied: {error.message}"
                errors.append(ExceptionListError(message, place=item.place, hint=error.hint))
            else:
                nodes[index] = node
        return nodes, errors
