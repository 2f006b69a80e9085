"""Lines of a file into rules: connectors first, then exception lists, then the rules.

What is wrong with one line stops no other. Each kind has errors of its own, and those of rules
always name a rule_id: clients look for it.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from barrelman.errors import BarrelmanError, RequestShapeError
from barrelman.records.frozen import frozen
from barrelman.records.times import format_instant
from barrelman.rules.assign import ENDPOINT_LIST
from barrelman.rules.documents import parse_json
from barrelman.rules.schema import is_deeper_than, to_json
from barrelman.rules.shape import LIST_TYPES, RULE_TYPES
from barrelman.service.exceptionchanges import add_item, add_list, note
from barrelman.service.exceptionshape import check_item, check_list, params_of
from barrelman.service.rulechanges import Hand, add_rule, change_rule
from barrelman.service.ruledesk import RuleDesk, status_code
from barrelman.service.ruleexport import CONNECTOR, is_built_in
from barrelman.service.ruleshape import Props, check_props
from barrelman.store import audit, exceptions, meta, rules
from barrelman.store.database import Database

if TYPE_CHECKING:
    from barrelman.store.database import Connection

JsonObject: TypeAlias = dict[str, Any]

_UNKNOWN: Final = "(unknown id)"
_DEEPEST: Final = 100
_DETAIL_SIGNS: Final = ("exported_count", "exported_rules_count", "exported_exception_list_count")


@frozen
class Options:
    """What may take the place of what is there already."""

    overwrite: bool = False
    overwrite_exceptions: bool = False
    overwrite_connectors: bool = False
    as_new_list: bool = False


@dataclass
class Lines:
    """A file's lines by what they are; `broken` says of lines that could not be read why."""

    rules: list[JsonObject] = field(default_factory=list)
    lists: list[JsonObject] = field(default_factory=list)
    items: list[JsonObject] = field(default_factory=list)
    connectors: list[JsonObject] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def sort_lines(content: bytes) -> Lines:
    """Tells the lines apart by their shape. Raises RequestShapeError where it is no text."""
    found = Lines()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RequestShapeError("the file is not UTF-8 text") from None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = parse_json(line)
        except json.JSONDecodeError as error:
            found.broken.append(f"line {number}: not JSON: {error.msg}")
            continue
        for each in value if isinstance(value, list) else [value]:
            _sort(each, number, found)
    return found


def _sort(given: object, number: int, found: Lines) -> None:
    if not isinstance(given, dict) or is_deeper_than(given, _DEEPEST):
        found.broken.append(f"line {number}: no object, or one that is nested too deep")
        return
    value: JsonObject = to_json(given)
    if any(sign in value for sign in _DETAIL_SIGNS):
        return
    if value.get("type") == "action" and "attributes" in value:
        found.connectors.append(value)
    elif "list_id" in value and "entries" in value:
        found.items.append(value)
    elif "list_id" in value and value.get("type") in LIST_TYPES:
        found.lists.append(value)
    elif value.get("type") in RULE_TYPES or "rule_id" in value or "risk_score" in value:
        found.rules.append(value)
    else:
        found.broken.append(f"line {number}: neither a rule, an exception nor a connector")


@dataclass
class Report:
    """What came of an import."""

    rules_count: int = 0
    imported: int = 0
    errors: list[JsonObject] = field(default_factory=list)
    lists: int = 0
    items: int = 0
    exception_errors: list[JsonObject] = field(default_factory=list)
    connectors: int = 0
    connector_errors: list[JsonObject] = field(default_factory=list)
    connector_warnings: list[JsonObject] = field(default_factory=list)

    def body(self) -> JsonObject:
        """The answer as the API gives it."""
        return {
            "success": not self.errors,
            "success_count": self.imported,
            "rules_count": self.rules_count,
            "errors": self.errors,
            "exceptions_success": not self.exception_errors,
            "exceptions_success_count": self.lists + self.items,
            "exceptions_errors": self.exception_errors,
            "action_connectors_success": not self.connector_errors,
            "action_connectors_success_count": self.connectors,
            "action_connectors_errors": self.connector_errors,
            "action_connectors_warnings": self.connector_warnings,
        }

    def lists_body(self) -> JsonObject:
        """The answer where only lists were asked to be imported."""
        errors = self.exception_errors
        failed_lists = any("item_id" not in each for each in errors)
        failed_items = any("item_id" in each for each in errors)
        return {
            "errors": errors,
            "success": not errors,
            "success_count": self.lists + self.items,
            "success_exception_lists": not failed_lists,
            "success_count_exception_lists": self.lists,
            "success_exception_list_items": not failed_items,
            "success_count_exception_list_items": self.items,
        }


def failed(message: str, status: int, **names: object) -> JsonObject:
    """An error of one line."""
    return {**names, "error": {"status_code": status, "message": message}}


class Importer:
    """Imports into a desk's database."""

    def __init__(self, desk: RuleDesk) -> None:
        self._desk = desk

    def run(self, content: bytes, options: Options, *, by: str) -> JsonObject:
        """Imports a file of rules with what belongs to them."""
        lines, report, hand = sort_lines(content), Report(), self._desk.hand(by)
        report.rules_count = len(lines.rules)
        report.errors += [failed(each, 400, rule_id=_UNKNOWN) for each in lines.broken]
        for connector in lines.connectors:
            self._connector(connector, options, report, hand)
        renamed = import_lists(self._desk.database, lines, options, report, hand)
        begun = [
            self._rule(rule, options, report, hand, renamed)
            for rule in _single(lines.rules, report)
        ]
        for finish in begun:  # all are begun before the first is waited for: they share commits
            finish()
        self._desk.reload()
        return report.body()

    def run_lists(self, content: bytes, options: Options, *, by: str) -> JsonObject:
        """Imports a file of exception lists."""
        lines, report = sort_lines(content), Report()
        report.exception_errors += [failed(each, 400, list_id=_UNKNOWN) for each in lines.broken]
        import_lists(self._desk.database, lines, options, report, self._desk.hand(by))
        self._desk.reload()
        return report.lists_body()

    def _connector(self, given: JsonObject, options: Options, report: Report, hand: Hand) -> None:
        name = given.get("id")
        if not isinstance(name, str) or not name:
            report.connector_errors.append(failed("a connector without an id", 400, id=_UNKNOWN))
            return
        now = format_instant(hand.at_us // 1000)
        kept = {"created_at": now, "updated_at": now, **given}

        def run(connection: Connection) -> bool:
            if not options.overwrite_connectors and meta.get(connection, CONNECTOR + name):
                return False
            meta.put(connection, CONNECTOR + name, json.dumps(kept))
            audit.note(
                connection,
                at_us=hand.at_us,
                by=hand.by,
                action="connector imported",
                target=name,
            )
            return True

        self._desk.database.write(run)
        report.connectors += 1
        report.connector_warnings.append(
            {
                "type": "simple",
                "message": f"The connector '{name}' is kept and exported again; "
                "alerts are sent by the sinks of this service",
                "actionPath": "",
                "buttonLabel": "",
            }
        )

    def _rule(
        self,
        given: JsonObject,
        options: Options,
        report: Report,
        hand: Hand,
        renamed: dict[tuple[str, str], str],
    ) -> Callable[[], None]:
        """Begins to import a rule, and gives what waits for its end."""
        rule_id = given["rule_id"]
        try:
            props = check_props({**given, "id": None})
        except RequestShapeError as error:
            told = failed(_told(error), 400, rule_id=rule_id)
            return lambda: report.errors.append(told)
        _rename(props.params, renamed)

        def run(connection: Connection) -> list[JsonObject]:
            missing = _missing_connectors(connection, props.params)
            if missing:
                return missing
            dropped = _drop_unknown_lists(connection, props.params)
            _put_rule(connection, props, options, hand)
            return dropped

        future = self._desk.database.write_soon(run)

        def finish() -> None:
            try:
                problems = [{**each, "rule_id": rule_id} for each in future.result()]
            except BarrelmanError as error:
                report.errors.append(failed(error.message, status_code(error), rule_id=rule_id))
                return
            report.errors += problems
            if any(each["error"]["status_code"] == 404 for each in problems):
                report.connector_errors += problems
            else:
                report.imported += 1

        return finish


def _single(given: list[JsonObject], report: Report) -> list[JsonObject]:
    """The rules whose rule_id no other has; of the others it is said that they have not."""
    counts = Counter(each["rule_id"] for each in given if isinstance(each.get("rule_id"), str))
    single = []
    told = set()
    for each in given:
        rule_id = each.get("rule_id")
        if not isinstance(rule_id, str) or not rule_id:
            message = "rule_id: missing, and it is required"
            report.errors.append(failed(message, 400, rule_id=_UNKNOWN))
        elif counts[rule_id] == 1:
            single.append(each)
        elif rule_id not in told:
            told.add(rule_id)
            message = f'More than one rule with rule-id: "{rule_id}" found'
            report.errors.append(failed(message, 400, rule_id=rule_id))
    return single


def _rename(params: JsonObject, renamed: dict[tuple[str, str], str]) -> None:
    for ref in params.get("exceptions_list", ()):
        key = ref["list_id"], ref["namespace_type"]
        ref["list_id"] = renamed.get(key, ref["list_id"])


def _missing_connectors(connection: Connection, params: JsonObject) -> list[JsonObject]:
    named = dict.fromkeys(action["id"] for action in params.get("actions", ()))
    missing = [
        each
        for each in named
        if not is_built_in(each) and meta.get(connection, CONNECTOR + each) is None
    ]
    if not missing:
        return []
    what = "connector is" if len(missing) == 1 else "connectors are"
    ids = "id missing is" if len(missing) == 1 else "ids missing are"
    message = f"{len(missing)} {what} missing. Connector {ids}: {', '.join(missing)}"
    return [failed(message, 404)]


def _drop_unknown_lists(connection: Connection, params: JsonObject) -> list[JsonObject]:
    """Takes out what no list is there for, and says so."""
    kept, problems = [], []
    for ref in params.get("exceptions_list", ()):
        known = ref["list_id"] == ENDPOINT_LIST or exceptions.get_list(
            connection, list_id=ref["list_id"], namespace_type=ref["namespace_type"]
        )
        if known:
            kept.append(ref)
            continue
        message = (
            f'Rule with rule_id: "{params["rule_id"]}" references a non existent exception list '
            f'of list_id: "{ref["list_id"]}". Reference has been removed.'
        )
        problems.append(failed(message, 400))
    params["exceptions_list"] = kept
    return problems


def _put_rule(connection: Connection, props: Props, options: Options, hand: Hand) -> None:
    old = rules.get(connection, rule_id=props.params["rule_id"])
    if old is None or not options.overwrite:
        # A second rule of the same rule_id is refused here.
        add_rule(connection, props, hand, may_be_shipped=True)
    else:
        # A file that says nothing of it switches no rule off that is on watch.
        enabled = old.enabled if props.enabled is None else props.enabled
        change_rule(connection, old, props.params, enabled=enabled, hand=hand)


# --- exception lists -----------------------------------------------------------------------


def import_lists(
    database: Database, lines: Lines, options: Options, report: Report, hand: Hand
) -> dict[tuple[str, str], str]:
    """Lists, then their items. Gives the new list_ids of lists that were to come as new ones."""
    renamed: dict[tuple[str, str], str] = {}
    for given in lines.lists:
        key = _key(given)
        if options.as_new_list:
            renamed[key] = str(uuid.uuid4())
        try:
            fields = check_list(given)
            fields["list_id"] = renamed.get(key, key[0])
            database.write(lambda c: _put_list(c, fields, options, hand))  # noqa: B023
            report.lists += 1
        except BarrelmanError as error:
            told = failed(_told(error), status_code(error), list_id=key[0])
            report.exception_errors.append(told)
    begun = [
        (given, database.write_soon(_item_writer(given, options, hand, renamed)))
        for given in lines.items
    ]
    for given, future in begun:
        try:
            future.result()
            report.items += 1
        except BarrelmanError as error:
            names = {"item_id": given.get("item_id") or _UNKNOWN, "list_id": _key(given)[0]}
            report.exception_errors.append(failed(_told(error), status_code(error), **names))
    return renamed


def _key(given: JsonObject) -> tuple[str, str]:
    return str(given.get("list_id")), str(given.get("namespace_type") or "single")


def _told(error: BarrelmanError) -> str:
    return error.message.removeprefix("[request body]: ")


def _put_list(connection: Connection, fields: JsonObject, options: Options, hand: Hand) -> None:
    old = exceptions.get_list(
        connection, list_id=fields["list_id"], namespace_type=fields["namespace_type"]
    )
    if old is None or not options.overwrite_exceptions:
        add_list(connection, fields, hand)  # refuses the second of a list_id by itself
        return
    made = replace(
        old,
        type=fields["type"],
        params=params_of(fields),
        updated_at_us=hand.at_us,
        updated_by=hand.by,
    )
    exceptions.update_list(connection, made)
    for item in exceptions.items(
        connection, list_id=old.list_id, namespace_type=old.namespace_type
    ):
        exceptions.delete_item(connection, item.id)  # the file's come in their place
    note(connection, hand, "exception list updated", old.list_id, {"by": "import"})


def _item_writer(
    given: JsonObject, options: Options, hand: Hand, renamed: dict[tuple[str, str], str]
) -> Callable[[Connection], None]:
    key = _key(given)

    def run(connection: Connection) -> None:
        fields = check_item({"type": "simple", "description": "", **given})
        fields["list_id"] = renamed.get(key, key[0])
        if key in renamed:
            fields["item_id"] = None
        elif fields.get("item_id") and options.overwrite_exceptions:
            old = exceptions.get_item(connection, item_id=fields["item_id"], namespace_type=key[1])
            if old is not None:
                exceptions.delete_item(connection, old.id)
        add_item(connection, fields, hand)

    return run
