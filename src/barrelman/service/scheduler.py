"""When rules run: every tick of each rule's schedule, late if need be, and none left out.

Ticks are multiples of a rule's interval since 1970, as in a replay of history, so that rules of one
interval run together and share the reading. While the service is up every tick is run, in order; an
overloaded scheduler falls behind, and `delay_ms` shows it. After a time in which it was down, at
most four windows are caught up at once, as Kibana does it; what is left is a gap, which is filled
in the background, a piece at a time, and shown until it is.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from barrelman.detection.alert import run_id
from barrelman.detection.finding import MOST_LIVE
from barrelman.detection.lineup import Lineup, Watcher
from barrelman.engine.reading import MOST_COMBINATIONS
from barrelman.errors import BarrelmanError, StoreError, UsageError
from barrelman.records.times import format_instant
from barrelman.service.alerting import Alerting, RunKind
from barrelman.service.courses import Operators
from barrelman.service.passes import PassCounts, run_pass
from barrelman.service.rulebook import RuleBook
from barrelman.service.run import Run, plan_run
from barrelman.store import meta
from barrelman.store import rules as rules_table
from barrelman.store import runs as runs_table
from barrelman.store.database import Database
from barrelman.store.events import EventStore

if TYPE_CHECKING:
    from barrelman.store.database import Connection

_LOG = logging.getLogger("barrelman.scheduler")

MOST_CAUGHT_UP: Final = 4
"""Windows that are caught up at once, by Kibana's rule; what lies before is a gap."""
_LONG_MS: Final = 86_400_000
"""Who is so late was not overloaded: the clock was put forward."""
_MOST_TICKS: Final = 32
"""Ticks of one rule in one pass, when the scheduler is behind."""
_FILL_TICKS: Final = 12
"""Of a gap or a run by hand, how many at a time."""
_MOST_MANUAL_TICKS: Final = 100_000
_IDLE_SECONDS: Final = 1.0
_MANUAL: Final = "manual_runs"
_DEFAULT_INTERVAL_MS: Final = 300_000
_BROKEN: Final = ("invalid", "unsupported")
_STREAK_RUNS: Final = 20
_OWN_KINDS: Final = ("scheduled", "catch-up")


@dataclass
class Pending:
    """A run by hand that is not over: `next_ms` is the tick it goes on with."""

    id: str
    rule_uuid: str
    next_ms: int
    end_ms: int
    by: str


@dataclass
class Streak:
    """How many of a rule's last runs in a row failed, or met its cap."""

    rule_name: str
    failed: int = 0
    capped: int = 0
    evicted: int = 0
    """What the last run let go of for want of room."""


@dataclass
class _Due:
    """What one rule has to run now."""

    watcher: Watcher
    runs: list[Run] = field(default_factory=list)
    last_tick_ms: int = 0
    gap_ms: tuple[int, int] | None = None
    is_first: bool = False


class Scheduler:
    """`flush` returns once everything that arrived before it is in the store."""

    def __init__(
        self,
        database: Database,
        store: EventStore,
        rulebook: RuleBook,
        alerting: Alerting,
        *,
        clock: Callable[[], int],
        flush: Callable[[], None],
        give_way: Callable[[], None] = lambda: None,
        is_live: bool = True,
        fills_gaps: bool = True,
        most_gap_ms: int = 7 * 86_400_000,
    ) -> None:
        self._give_way = give_way
        self._is_live = is_live
        self._fills_gaps = fills_gaps
        self._most_gap_ms = most_gap_ms
        self._database = database
        self._store = store
        self._rulebook = rulebook
        self._alerting = alerting
        self._clock = clock
        self._flush = flush
        self._operators = Operators()
        self._last: dict[str, int | None] = {}
        self._fresh: set[str] = set()
        """Rules that have not run since the service started, or since they were broken."""
        self._left: dict[str, int] = {}
        """The last tick of rules that were switched off."""
        self._resumed_ms = 0
        self._failed_ticks: dict[str, int] = {}
        self._manual: list[Pending] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._is_open = True
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self.streaks: dict[str, Streak] = {}
        """Of each rule that ran, by its id."""
        self.evicted = 0
        """Groups and unfinished sequences let go of since the service began."""
        self.delay_ms = 0
        """How late the last runs began."""
        self.pass_ms = 0.0
        """How long the last pass took."""
        self.fault: str | None = None

    def start(self) -> None:
        self.resume()
        self._thread.start()

    def resume(self) -> None:
        """Takes up where the last process ended."""
        states, manual = self._database.read(_read_state)
        now_ms = self._clock() // 1000
        # A tick that is still to come was noted while the clock was wrong: runs begin anew, as if
        # the rule had just been switched on, and find again what has been alerted.
        self._last = {
            each.rule_uuid: None if (each.last_tick_ms or 0) > now_ms else each.last_tick_ms
            for each in states.values()
        }
        self._fresh = {rule_uuid for rule_uuid, last in self._last.items() if last is not None}
        self._resumed_ms = self._clock() // 1000
        self._manual = [Pending(**each) for each in json.loads(manual or "[]")]
        for entry in self._rulebook.entries():
            if entry.stored.enabled and entry.stored.id in states:
                self._take_up_streak(entry.stored.id, entry.loaded.name or entry.stored.rule_id)

    def _take_up_streak(self, rule_uuid: str, rule_name: str) -> None:
        last = self._database.read(
            lambda c: runs_table.find(c, rule_uuid=rule_uuid, kinds=_OWN_KINDS, limit=_STREAK_RUNS)
        )
        for row in reversed(last):
            self._note_streak(row, rule_name)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def behind_ms(self) -> int:
        """How long the oldest tick that has not been run is overdue."""
        now_ms = self._clock() // 1000
        waits = [0]
        for watcher in self._rulebook.lineup.watchers:
            last = self._last.get(watcher.uuid)
            if last is not None:
                # What was missed while the service was down is no lateness.
                since = max(last + watcher.schedule.interval_ms, self._resumed_ms)
                waits.append(now_ms - since)
        return max(waits)

    def unread_since_us(self) -> int:
        """From when on what arrived is still to be read by a run that is due, or by a gap."""
        now_ms = self._clock() // 1000
        starts = [now_ms]
        for watcher in self._rulebook.lineup.watchers:
            last = self._last.get(watcher.uuid)
            if last is not None and now_ms - last > watcher.schedule.interval_ms:
                starts.append(watcher.window_ms(last + watcher.schedule.interval_ms)[0])
        gaps = self._database.read(runs_table.unfilled)
        starts += (gap.filled_to_ms or gap.from_ms for gap in gaps)
        return min(starts) * 1000

    def wake(self) -> None:
        """Looks now whether something is due."""
        self._wake.set()

    def run_range(self, rule_uuid: str, *, start_ms: int, end_ms: int, by: str) -> str:
        """Runs a rule over what arrived in a past range, piece by piece; gives the run's id.

        Raises UsageError where the rule does not run, or the range is none.
        """
        watcher = _watcher(self._rulebook.lineup, rule_uuid)
        now_ms = self._clock() // 1000
        if watcher is None:
            raise UsageError("the rule does not run", hint="enable it, or mend it, first")
        if not start_ms < end_ms <= now_ms:
            raise UsageError("the range must end after it begins, and not in the future")
        interval_ms = watcher.schedule.interval_ms
        if (end_ms - start_ms) // interval_ms > _MOST_MANUAL_TICKS:
            raise UsageError(f"more than {_MOST_MANUAL_TICKS} runs", hint="take a shorter range")
        first = start_ms // interval_ms * interval_ms + interval_ms
        pending = Pending(str(uuid.uuid4()), rule_uuid, first, end_ms, by)
        with self._lock:
            self._manual.append(pending)
        self._database.write(self._keep_manual)
        self.wake()
        return pending.id

    def manual_runs(self) -> list[Pending]:
        """Those by hand that are not over."""
        with self._lock:
            return list(self._manual)

    def stop(self) -> None:
        """Ends; a pass that is under way is given up, and done again at the next start."""
        self._is_open = False
        self.wake()
        if self._thread.is_alive():
            self._thread.join()

    # --- in its thread ---

    def _run(self) -> None:
        while self._is_open:
            try:
                is_busy = self.work()
                self.fault = None
            except (StoreError, BarrelmanError) as error:
                if self.fault is None:
                    _LOG.error("runs wait: %s", error.oneline())
                self.fault = error.oneline()
                is_busy = False
            except Exception as error:  # noqa: BLE001  # a bug: said, and tried again
                self.fault = f"{type(error).__name__}: {error}"
                _LOG.exception("a pass failed")
                is_busy = False
            if not is_busy:
                self._wake.wait(self._pause_seconds())
                self._wake.clear()

    def _pause_seconds(self) -> float:
        """Until the next tick, and never long: rules change."""
        now_ms = self._clock() // 1000
        nexts = [
            (now_ms // step + 1) * step - now_ms
            for step in {w.schedule.interval_ms for w in self._rulebook.lineup.watchers}
        ]
        return min([_IDLE_SECONDS, *(wait / 1000 + 0.002 for wait in nexts)])

    def work(self) -> bool:
        """Does what is due, else a piece of what can wait; whether there was anything."""
        now_ms = self._clock() // 1000
        self._note_failures(now_ms)
        lineup = self._rulebook.lineup  # which may be another one at any moment
        due = self._due(lineup, now_ms)
        if due:
            self._do(due, lineup, now_ms)
            return True
        return self._work_by_hand(lineup) or (self._fills_gaps and self._fill_gap(lineup))

    def _due(self, lineup: Lineup, now_ms: int) -> list[_Due]:
        for gone in self._last.keys() - lineup.number_of.keys():
            self._let_go(gone)
        self._operators.keep_only(lineup.number_of)
        due = []
        for watcher in lineup.watchers:
            found = self._due_of(watcher, now_ms - 1)
            if found is not None:
                due.append(found)
        return due

    def _let_go(self, rule_uuid: str) -> None:
        """A rule that was switched off begins anew. One that broke is missed: what comes until it
        is mended is to be searched then, as after a time in which the service was down.
        """
        is_broken = self._rulebook.status_of(rule_uuid).status in _BROKEN
        if is_broken and rule_uuid in self._rulebook.enabled():
            self._fresh.add(rule_uuid)
            return
        last = self._last.pop(rule_uuid)
        self._fresh.discard(rule_uuid)
        self.streaks.pop(rule_uuid, None)
        if last is None:
            return
        self._left[rule_uuid] = last

        def write(connection: Connection) -> None:
            state = rules_table.get_state(connection, rule_uuid)
            if state is not None:
                rules_table.put_state(connection, replace(state, last_tick_ms=None))

        self._database.write(write)

    def _due_of(self, watcher: Watcher, now_ms: int) -> _Due | None:
        step = watcher.schedule.interval_ms
        current = now_ms // step * step
        last = self._last.get(watcher.uuid)
        if last is not None and current <= last:
            self._fresh.discard(watcher.uuid)
            return None
        found = _Due(watcher, last_tick_ms=current)
        if last is None and self._left.pop(watcher.uuid, None) == current:
            # Off and on again between two ticks: the run of the last one has been.
            self._last[watcher.uuid] = current
            return None
        if last is None:
            found.is_first = True
            found.runs.append(plan_run(watcher, current, "scheduled"))
        elif watcher.uuid in self._fresh or current - last > _LONG_MS:
            self._catch_up(found, last, current)
        else:
            first = last + step - last % step
            ticks = range(first, current + 1, step)[:_MOST_TICKS]
            found.runs += (plan_run(watcher, tick, "scheduled") for tick in ticks)
            found.last_tick_ms = ticks[-1]
        return found

    def _catch_up(self, due: _Due, last: int, current: int) -> None:
        """Windows missed while the service was down."""
        watcher, step = due.watcher, due.watcher.schedule.interval_ms
        this = plan_run(watcher, current, "scheduled")
        drift = this.to_ms - this.from_ms
        gap = current - last - drift
        missed = min(MOST_CAUGHT_UP, -(-gap // step)) if gap > 0 else 0
        for back in range(missed, 0, -1):
            due.runs.append(plan_run(watcher, current - back * step, "catch-up"))
        due.runs.append(this)
        left = max(0, gap - missed * step)
        if left:
            due.gap_ms = (last, last + left)
            this.errors.append(
                f"{left / 1000:.0f} s were not searched since the run before: the rule did not run "
                "then; they are being searched in the background"
            )
            this.metrics["execution_gap_duration_s"] = round(left / 1000)
            this.metrics["gap_range"] = {
                "gte": format_instant(last),
                "lte": format_instant(last + left),
            }

    def _do(self, due: Sequence[_Due], lineup: Lineup, now_ms: int) -> None:
        runs = [run for each in due for run in each.runs]
        self._flush()
        started_us = self._clock()
        counts, seconds = self._pass(runs, lineup)
        if not counts.is_complete:
            return
        made: list[tuple[_Due, list[runs_table.Run]]] = []
        for each in due:
            delays = _delays_ms(each, now_ms)
            rows = [
                _row(run, counts, started_us, seconds, delay_ms=delay)
                for run, delay in zip(each.runs, delays, strict=True)
            ]
            made.append((each, rows))

        def write(connection: Connection) -> None:
            for each, rows in made:
                runs_table.add(connection, rows)
                _put_state(connection, each.watcher.uuid, each.last_tick_ms, rows[-1])
                if each.gap_ms is not None:
                    self._add_gap(connection, each.watcher, each.gap_ms, started_us)

        self._database.write(write)
        for each, rows in made:
            for row in rows:
                self._note_streak(row, each.watcher.rule.name)
            self._last[each.watcher.uuid] = each.last_tick_ms
            self._fresh.discard(each.watcher.uuid)
        self.delay_ms = max(row.delay_ms for _, rows in made for row in rows)
        self.pass_ms = seconds * 1000

    def _add_gap(
        self, connection: Connection, watcher: Watcher, gap_ms: tuple[int, int], at_us: int
    ) -> None:
        """Of a gap that is longer than gaps are filled, the older part stays one."""
        from_ms, to_ms = gap_ms
        middle_ms = max(from_ms, to_ms - self._most_gap_ms)
        for low, high, why in (
            (from_ms, middle_ms, "the rule did not run; too long ago to be searched by itself"),
            (middle_ms, to_ms, "the rule did not run"),
        ):
            if low < high:
                gap = runs_table.add_gap(
                    connection,
                    rule_uuid=watcher.uuid,
                    rule_id=watcher.rule.rule_id,
                    from_ms=low,
                    to_ms=high,
                    at_us=at_us,
                    message=why,
                )
                if high != to_ms:
                    runs_table.set_status(connection, gap, "impossible", at_us=at_us)

    def _pass(self, runs: Sequence[Run], lineup: Lineup) -> tuple[PassCounts, float]:
        started = time.monotonic()
        counts = run_pass(
            self._store,
            self._alerting,
            runs,
            lineup=lineup,
            operators=self._operators,
            judged_live=self._is_live,
            is_stopping=lambda: not self._is_open,
            give_way=self._give_way,
        )
        self.evicted += sum(run.evicted for run in runs)
        return counts, time.monotonic() - started

    def _note_failures(self, now_ms: int) -> None:
        """A rule that is enabled and cannot run fails at each of its ticks, and is heard of."""
        rows = []
        enabled = self._rulebook.enabled()
        for one in (self.streaks, self._failed_ticks):
            for gone in one.keys() - enabled:
                del one[gone]
        for entry in self._rulebook.entries():
            status = self._rulebook.status_of(entry.stored.id)
            if not entry.stored.enabled or status.status not in _BROKEN:
                continue
            rule = entry.loaded.rule
            step = rule.interval_ms if rule is not None else _DEFAULT_INTERVAL_MS
            tick_ms = now_ms // step * step
            if self._failed_ticks.get(entry.stored.id) == tick_ms:
                continue
            self._failed_ticks[entry.stored.id] = tick_ms
            rows.append(_failed_row(entry.stored.id, entry.stored.rule_id, tick_ms, now_ms, status))
            self._note_streak(rows[-1], entry.loaded.name or entry.stored.rule_id)
        if rows:
            self._database.write(lambda connection: _write_failures(connection, rows))

    def _note_streak(self, row: runs_table.Run, rule_name: str) -> None:
        streak = self.streaks.setdefault(row.rule_uuid, Streak(rule_name))
        streak.failed = streak.failed + 1 if row.status == "failed" else 0
        streak.capped = streak.capped + 1 if row.capped else 0
        streak.evicted = int((row.metrics or {}).get("evicted", 0))

    # Runs by hand, and gaps

    def _work_by_hand(self, lineup: Lineup) -> bool:
        with self._lock:
            pending = self._manual[0] if self._manual else None
        if pending is None:
            return False
        watcher = _watcher(lineup, pending.rule_uuid)
        is_over = True
        if watcher is not None:
            next_ms = self._piece(lineup, watcher, (pending.next_ms, pending.end_ms), "manual")
            if next_ms is None:
                return True
            pending.next_ms = next_ms
            is_over = next_ms >= pending.end_ms + watcher.schedule.interval_ms
        with self._lock:
            if is_over:
                self._manual.remove(pending)
        self._database.write(self._keep_manual)
        return True

    def _fill_gap(self, lineup: Lineup) -> bool:
        for gap in self._database.read(runs_table.unfilled):
            watcher = _watcher(lineup, gap.rule_uuid)
            if watcher is None:
                continue  # it waits for its rule
            step = watcher.schedule.interval_ms
            done_ms = gap.filled_to_ms or gap.from_ms
            first = done_ms // step * step + step
            next_ms = self._piece(lineup, watcher, (first, gap.to_ms), "gap")
            if next_ms is None:
                return True
            is_filled = next_ms >= gap.to_ms + step
            self._note_filled(gap.id, is_filled, min(next_ms - step, gap.to_ms))
            if is_filled:
                _LOG.info("a gap of rule %s is filled", gap.rule_id)
            return True
        return False

    def _note_filled(self, gap_id: int, is_filled: bool, filled_to_ms: int) -> None:
        now_us = self._clock()
        self._database.write(
            lambda connection: runs_table.set_status(
                connection,
                gap_id,
                "filled" if is_filled else "in progress",
                at_us=now_us,
                filled_to_ms=filled_to_ms,
            )
        )

    def _piece(
        self, lineup: Lineup, watcher: Watcher, span_ms: tuple[int, int], kind: RunKind
    ) -> int | None:
        """A few runs from the first tick on; the one to go on with, None where it was stopped."""
        first_ms, end_ms = span_ms
        step = watcher.schedule.interval_ms
        ticks = range(first_ms, end_ms + step, step)[:_FILL_TICKS]
        runs = [plan_run(watcher, tick, kind) for tick in ticks]
        if not runs:
            return first_ms + step
        started_us = self._clock()
        counts, seconds = self._pass(runs, lineup)
        if not counts.is_complete:
            return None
        rows = [_row(run, counts, started_us, seconds, delay_ms=0) for run in runs]
        self._database.write(lambda connection: runs_table.add(connection, rows))
        return ticks[-1] + step

    def _keep_manual(self, connection: Connection) -> None:
        with self._lock:
            text = json.dumps([vars(each) for each in self._manual])
        meta.put(connection, _MANUAL, text)


def _watcher(lineup: Lineup, rule_uuid: str) -> Watcher | None:
    number = lineup.number_of.get(rule_uuid)
    return None if number is None else lineup.watchers[number]


def _delays_ms(due: _Due, now_ms: int) -> list[int]:
    """How late each run began.

    The first run of a rule takes the last tick that was, and is not late for it; nor are windows
    that were missed while the rule did not run: they are as late as the run they belong to.
    """
    if due.is_first:
        return [0] * len(due.runs)
    this_ms = due.runs[-1].tick_ms
    return [now_ms - (run.tick_ms if run.kind == "scheduled" else this_ms) for run in due.runs]


def _read_state(connection: Connection) -> tuple[dict[str, rules_table.RuleState], str | None]:
    return rules_table.all_states(connection), meta.get(connection, _MANUAL)


def _row(
    run: Run, counts: PassCounts, started_us: int, seconds: float, *, delay_ms: int
) -> runs_table.Run:
    if run.capped:
        run.warnings.append(
            f"{run.capped} of {run.matches} matches raised no alert: the rule's cap of "
            f"{run.watcher.cap} a run is reached"
        )
    if run.evicted:
        run.warnings.append(
            f"{run.evicted} groups or unfinished sequences were let go of: a run holds no more "
            f"than {MOST_LIVE:,}, and {MOST_COMBINATIONS:,} of several arrays of one event"
        )
    status = "failed" if run.errors else "partial failure" if run.warnings else "succeeded"
    metrics: dict[str, Any] = {
        "total_search_duration_ms": round(counts.search_ms),
        "total_indexing_duration_ms": round(counts.alert_ms),
        "total_enrichment_duration_ms": 0,
        "events": counts.events,
        "decoded": counts.decoded,
        "known": run.known,
        "folded": run.folded,
        "suppressed": run.suppressed,
        "evicted": run.evicted,
        **run.metrics,
    }
    unique = run.kind in ("manual", "gap")
    own_id = run_id(run.watcher.rule.rule_id, run.tick_ms)
    return runs_table.Run(
        id=str(uuid.uuid4()) if unique else own_id,
        rule_uuid=run.watcher.uuid,
        rule_id=run.watcher.rule.rule_id,
        kind=run.kind,
        tick_ms=run.tick_ms,
        from_ms=run.from_ms,
        to_ms=run.to_ms,
        started_us=started_us,
        duration_ms=round(seconds * 1000),
        delay_ms=max(0, delay_ms),
        status=status,
        message="; ".join([*run.errors, *run.warnings]),
        events=counts.events,
        matches=run.matches,
        alerts=run.alerts,
        capped=run.capped,
        metrics=metrics,
    )


def _failed_row(
    rule_uuid: str, rule_id: str, tick_ms: int, now_ms: int, status: Any
) -> runs_table.Run:
    return runs_table.Run(
        id=str(uuid.uuid4()),
        rule_uuid=rule_uuid,
        rule_id=rule_id,
        kind="scheduled",
        tick_ms=tick_ms,
        from_ms=tick_ms,
        to_ms=tick_ms,
        started_us=now_ms * 1000,
        duration_ms=0,
        delay_ms=0,
        status="failed",
        message=f"{status.status}: {status.reason}",
        events=0,
        matches=0,
        alerts=0,
        capped=0,
        metrics={},
    )


def _write_failures(connection: Connection, rows: Sequence[runs_table.Run]) -> None:
    runs_table.add(connection, rows)
    for row in rows:
        _put_state(connection, row.rule_uuid, None, row)


def _put_state(
    connection: Connection, rule_uuid: str, last_tick_ms: int | None, row: runs_table.Run
) -> None:
    state = rules_table.get_state(connection, rule_uuid) or rules_table.RuleState(rule_uuid)
    rules_table.put_state(
        connection,
        replace(
            state,
            last_tick_ms=state.last_tick_ms if last_tick_ms is None else last_tick_ms,
            last_status=row.status,
            last_status_us=row.started_us,
            last_message=row.message,
            last_metrics=row.metrics,
        ),
    )
