"""Rules as people work with them: made, read, found, changed, deleted; each change is noted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

from barrelman.errors import (
    BarrelmanError,
    ConflictError,
    NotFoundError,
    RequestError,
    StoreError,
)
from barrelman.records.frozen import frozen
from barrelman.records.severities import SEVERITIES
from barrelman.records.times import format_instant
from barrelman.service.rulebook import api_props, read_rule
from barrelman.service.rulechanges import (
    Hand,
    Pack,
    add_rule,
    change_rule,
    drop_rule,
    find_rule,
)
from barrelman.service.rulefilter import parse_rule_filter
from barrelman.service.ruleshape import Props, check_props, params_of, to_response
from barrelman.store import rules, runs
from barrelman.store.database import Database
from barrelman.store.rules import RuleState, StoredRule
from barrelman.store.runs import Run

if TYPE_CHECKING:
    from barrelman.store.database import Connection

JsonObject: TypeAlias = dict[str, Any]
_T = TypeVar("_T")

OPEN_GAPS: Final = ("unfilled", "in progress")
STATUS_ORDER: Final = {
    "succeeded": 0,
    "going to run": 10,
    "running": 15,
    "partial failure": 20,
    "failed": 30,
}


class Standing(Protocol):
    """Whether a rule can run: the answer of the rule book."""

    @property
    def status(self) -> str: ...
    @property
    def reason(self) -> str: ...


class RunRange(Protocol):
    """Queues a run over a span of time; the answer of the scheduler."""

    def __call__(self, rule_uuid: str, *, start_ms: int, end_ms: int, by: str) -> str: ...


@frozen
class Query:
    """What `_find` is asked. `gaps_ms`: only rules that have gaps of `gap_statuses` in there."""

    filter: str = ""
    sort_field: str | None = None
    sort_order: str = "asc"
    page: int = 1
    per_page: int = 20
    gaps_ms: tuple[int, int] | None = None
    gap_statuses: Collection[str] = OPEN_GAPS


class RuleDesk:
    """`reload` takes over what was changed; `pack` holds the shipped rules by rule_id."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], int],
        reload: Callable[[], None] = lambda: None,
        status_of: Callable[[str], Standing] | None = None,
        run_range: RunRange | None = None,
        pack: Callable[[], Pack] = dict,
    ) -> None:
        self.database = database
        self.clock = clock
        self.reload = reload
        self.run_range = run_range
        self._status_of = status_of
        self._pack = pack
        self._read: dict[str, tuple[int, Standing]] = {}

    @property
    def pack(self) -> Pack:
        """The shipped rules, by rule_id."""
        return self._pack()

    def hand(self, by: str) -> Hand:
        """Who changes something now."""
        return Hand(by, self.clock(), self._pack())

    def change(self, run: Callable[[Connection], _T]) -> _T:
        """Writes, and lets what was written take effect."""
        made = self.database.write(run)
        self.reload()
        return made

    # --- one rule ---

    def create(self, data: object, *, by: str) -> JsonObject:
        """Raises RequestShapeError, ConflictError."""
        props, hand = check_props(data), self.hand(by)
        return self.show(self.change(lambda connection: add_rule(connection, props, hand)))

    def get(self, *, id: str | None = None, rule_id: str | None = None) -> JsonObject:  # noqa: A002
        """Raises NotFoundError, and RequestError where neither or both are given."""
        _one_of(id, rule_id)
        return self.show(
            self.database.read(lambda connection: find_rule(connection, id=id, rule_id=rule_id))
        )

    def replace(self, data: object, *, by: str) -> JsonObject:
        """The rule anew from what is given: what is not given goes back to its default."""
        props, hand = check_props(data), self.hand(by)
        return self.show(self.change(lambda connection: _replace(connection, props, data, hand)))

    def patch(self, data: object, *, by: str) -> JsonObject:
        """The rule with what is given in place of what it had."""
        hand = self.hand(by)
        return self.show(self.change(lambda connection: _patch(connection, data, hand)))

    def delete(
        self,
        *,
        id: str | None = None,  # noqa: A002  # the word of the API
        rule_id: str | None = None,
        by: str,
    ) -> JsonObject:
        """Removes a rule; gives what it was."""
        _one_of(id, rule_id)
        hand = self.hand(by)

        def run(connection: Connection) -> StoredRule:
            found = find_rule(connection, id=id, rule_id=rule_id)
            drop_rule(connection, found, hand)
            return found

        shown = self.get(id=id, rule_id=rule_id)
        self.change(run)
        return shown

    # --- several, each for itself ---

    def create_many(self, data: Sequence[object], *, by: str) -> list[JsonObject]:
        hand = self.hand(by)
        return self._each(data, lambda c, each: add_rule(c, check_props(each), hand))

    def replace_many(self, data: Sequence[object], *, by: str) -> list[JsonObject]:
        hand = self.hand(by)
        return self._each(data, lambda c, each: _replace(c, check_props(each), each, hand))

    def patch_many(self, data: Sequence[object], *, by: str) -> list[JsonObject]:
        hand = self.hand(by)
        return self._each(data, lambda c, each: _patch(c, each, hand))

    def delete_many(self, data: Sequence[object], *, by: str) -> list[JsonObject]:
        hand = self.hand(by)

        def run(connection: Connection, each: object) -> StoredRule:
            names = _names(each)
            found = find_rule(connection, id=names.get("id"), rule_id=names.get("rule_id"))
            drop_rule(connection, found, hand)
            return found

        return self._each(data, run)

    def _each(
        self, data: Sequence[object], run: Callable[[Connection, object], StoredRule]
    ) -> list[JsonObject]:
        made: list[StoredRule | JsonObject] = []
        for each in data:
            try:
                made.append(self.database.write(lambda c: run(c, each)))  # noqa: B023
            except BarrelmanError as error:
                made.append(failure(error, **_names(each)))
        self.reload()
        return [self.show(each) if isinstance(each, StoredRule) else each for each in made]

    # --- finding ---

    def find(self, query: Query) -> JsonObject:
        """A page of rules as `_find` gives it. Raises RequestError."""
        if query.page < 1 or not 0 <= query.per_page <= 10_000:
            raise RequestError("page must be 1 or more, per_page from 0 to 10000")
        shown = self.filtered(query.filter)
        if query.gaps_ms is not None:
            with_gaps = self._with_gaps(query.gaps_ms, query.gap_statuses)
            shown = [rule for rule in shown if rule["id"] in with_gaps]
        if query.sort_field is not None:
            key = _SORTS.get(query.sort_field)
            if key is None:
                raise RequestError(
                    f"rules cannot be sorted by '{query.sort_field}'",
                    hint=f"sort_field is one of {', '.join(_SORTS)}",
                )
            shown.sort(key=lambda rule: _sortable(key(rule)), reverse=query.sort_order == "desc")
        start = (query.page - 1) * query.per_page
        return {
            "page": query.page,
            "perPage": query.per_page,
            "total": len(shown),
            "data": shown[start : start + query.per_page],
        }

    def filtered(self, kql: str) -> list[JsonObject]:
        """All rules that a filter holds of, in the order in which they were made."""
        shown = self.all()
        if not kql.strip():
            return shown
        test = parse_rule_filter(kql, now_ms=self.clock() // 1000)
        return [rule for rule in shown if test(rule)]

    def all(self) -> list[JsonObject]:
        """Every rule as the API shows it."""

        def run(
            connection: Connection,
        ) -> tuple[list[StoredRule], dict[str, RuleState], dict[str, Run]]:
            return rules.all(connection), rules.all_states(connection), runs.latest(connection)

        stored, states, latest = self.database.read(run)
        stored.sort(key=lambda rule: (rule.created_at_us, rule.rule_id))
        pack = self._pack()
        return [
            to_response(
                rule,
                base=pack.get(rule.rule_id),
                summary=self._summary(rule, states.get(rule.id), latest.get(rule.id)),
            )
            for rule in stored
        ]

    def tags(self) -> list[str]:
        """Every tag that some rule has."""
        stored = self.database.read(rules.all)
        return sorted({tag for rule in stored for tag in rule.params.get("tags", ())})

    def show(self, rule: StoredRule) -> JsonObject:
        """One rule as the API gives it."""

        def run(connection: Connection) -> tuple[RuleState | None, list[Run]]:
            state = rules.get_state(connection, rule.id)
            return state, runs.find(connection, rule_uuid=rule.id, limit=1)

        state, found = self.database.read(run)
        summary = self._summary(rule, state, found[0] if found else None)
        return to_response(rule, base=self._pack().get(rule.rule_id), summary=summary)

    def _standing(self, rule: StoredRule) -> Standing:
        if self._status_of is not None:
            return self._status_of(rule.id)
        known = self._read.get(rule.id)
        if known is None or known[0] != rule.revision:
            known = rule.revision, read_rule(api_props(rule))
            self._read[rule.id] = known
        return known[1]

    def _with_gaps(self, span_ms: tuple[int, int], statuses: Collection[str]) -> set[str]:
        known = [each.replace("_", " ") for each in statuses]
        found = self.database.read(
            lambda connection: runs.gaps(
                connection, since_ms=span_ms[0], until_ms=span_ms[1], statuses=known
            )
        )
        return {gap.rule_uuid for gap in found}

    def _summary(
        self, rule: StoredRule, state: RuleState | None, run: Run | None
    ) -> JsonObject | None:
        """How the rule fared last. One that cannot run has failed, whether or not it was due."""
        standing = self._standing(rule)
        if standing.status in ("invalid", "unsupported"):
            message = f"{standing.status}: {standing.reason}"
            return _execution(rule.updated_at_us, "failed", message, {})
        if run is not None:
            at_us = run.started_us
            return _execution(at_us, run.status, run.message, run.metrics)
        if state is not None and state.last_status is not None:
            at_us = state.last_status_us or rule.updated_at_us
            return _execution(
                at_us, state.last_status, state.last_message or "", state.last_metrics or {}
            )
        return None


def _execution(at_us: int, status: str, message: str, metrics: Mapping[str, Any]) -> JsonObject:
    return {
        "date": format_instant(at_us // 1000),
        "status": status,
        "status_order": STATUS_ORDER.get(status, 0),
        "message": message,
        "metrics": dict(metrics),
    }


def failure(error: BarrelmanError, **names: Any) -> JsonObject:
    """An entry that says what went wrong with one of several."""
    return {**names, "error": {"status_code": status_code(error), "message": error.message}}


def status_code(error: BarrelmanError) -> int:
    """What HTTP calls an error of ours."""
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, ConflictError):
        return 409
    return 503 if isinstance(error, StoreError) else 400


def _one_of(id: str | None, rule_id: str | None) -> None:  # noqa: A002
    if id is None and rule_id is None:
        raise RequestError("either 'id' or 'rule_id' must be set")
    if id is not None and rule_id is not None:
        raise RequestError("both 'id' and 'rule_id' exist, choose one")


def _names(data: object) -> JsonObject:
    """The ids in what somebody sent, as far as they are texts."""
    given = data if isinstance(data, dict) else {}
    return {name: given[name] for name in ("id", "rule_id") if isinstance(given.get(name), str)}


def _replace(connection: Connection, props: Props, data: object, hand: Hand) -> StoredRule:
    names = _names(data)
    old = find_rule(connection, id=names.get("id"), rule_id=names.get("rule_id"))
    params = {**props.params, "rule_id": old.rule_id}
    if isinstance(data, dict) and data.get("version") is None:
        params["version"] = old.params.get("version", 1)
    _refuse_new_type(old, params)
    return change_rule(connection, old, params, enabled=bool(props.enabled), hand=hand)


def _patch(connection: Connection, data: object, hand: Hand) -> StoredRule:
    if not isinstance(data, dict):
        raise RequestError("expected an object")
    names = _names(data)
    old = find_rule(connection, id=names.get("id"), rule_id=names.get("rule_id"))
    given = {name: value for name, value in data.items() if name not in ("id", "rule_id")}
    known = params_of(old)
    if given.get("type") not in (None, known["type"]):
        # Fields of the old type stay only where the new one has them, too.
        known.pop("language", None)
    props = check_props({**known, **given})
    params = {**props.params, "rule_id": old.rule_id}
    _refuse_new_type(old, params)
    enabled = old.enabled if given.get("enabled") is None else bool(props.enabled)
    return change_rule(connection, old, params, enabled=enabled, hand=hand)


def _refuse_new_type(old: StoredRule, params: JsonObject) -> None:
    if old.source == "pack" and params["type"] != old.params.get("type"):
        raise RequestError("the type of a rule that came with the pack cannot be changed")


# --- order ---------------------------------------------------------------------------------


def _last(name: str) -> Callable[[JsonObject], Any]:
    def read(rule: JsonObject) -> Any:
        found: Any = rule.get("execution_summary", {}).get("last_execution", {})
        for step in name.split("."):
            found = found.get(step) if isinstance(found, dict) else None
        return found

    return read


def _sortable(value: Any) -> tuple[int, Any]:
    if value is None:
        return (0, 0)
    if isinstance(value, bool | int | float):
        return (1, value)
    return (2, str(value).casefold())


def _field(name: str) -> Callable[[JsonObject], Any]:
    return lambda rule: rule.get(name)


_SORTS: Final[Mapping[str, Callable[[JsonObject], Any]]] = {
    **dict.fromkeys(("created_at", "createdAt"), _field("created_at")),
    **dict.fromkeys(("updated_at", "updatedAt"), _field("updated_at")),
    "enabled": _field("enabled"),
    "name": _field("name"),
    **dict.fromkeys(("risk_score", "riskScore"), _field("risk_score")),
    "severity": lambda rule: SEVERITIES.index(rule["severity"]),
    "execution_summary.last_execution.date": _last("date"),
    "execution_summary.last_execution.status": _last("status_order"),
    **{
        f"execution_summary.last_execution.metrics.{name}": _last(f"metrics.{name}")
        for name in (
            "execution_gap_duration_s",
            "total_indexing_duration_ms",
            "total_search_duration_ms",
        )
    },
}
SORT_FIELDS: Final = tuple(_SORTS)
"""What rules can be sorted by."""
