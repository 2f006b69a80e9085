"""Housekeeping: rule files that change, events and records that are old enough to go, watchdogs."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from barrelman.errors import BarrelmanError
from barrelman.records.frozen import frozen
from barrelman.service.courier import Courier
from barrelman.service.rulebook import RuleBook
from barrelman.store import alerts as alerts_table
from barrelman.store import audit
from barrelman.store import runs as runs_table
from barrelman.store.database import Database
from barrelman.store.events import EventStore

_LOG = logging.getLogger("barrelman.keeper")


_DAY_US: Final = 86_400_000_000
_STEP_SECONDS: Final = 1.0
_CHORES_SECONDS: Final = 60.0
_BACKUP_SECONDS: Final = 3600.0
_OUTBOX_DAYS: Final = 7
_AUDIT_DAYS: Final = 400


def _do(work: Callable[[], object]) -> None:
    work()


@frozen
class KeeperOptions:
    """0 days keep for ever, 0 seconds never look. `files_changed`: rule files are not as before."""

    watch_seconds: float = 5.0
    reload_seconds: float = 5.0
    alert_days: float = 365.0
    run_days: float = 30.0
    files_changed: Callable[[], bool] = lambda: False


class Keeper:
    """`watch` looks for what is to be warned of; `on_rules` is told that rules have changed.

    `in_writer` has work done by the thread that may change the event store; `unjudged` gives the
    number and the arrival from which on events are still to be judged.
    """

    def __init__(
        self,
        database: Database,
        events: EventStore,
        rulebook: RuleBook,
        courier: Courier,
        *,
        clock: Callable[[], int],
        options: KeeperOptions,
        watch: Callable[[], None],
        on_rules: Callable[[], None],
        in_writer: Callable[[Callable[[], object]], None] = _do,
        unjudged: Callable[[], tuple[int | None, int | None]] = lambda: (None, None),
        backup: Path | None = None,
    ) -> None:
        self._in_writer = in_writer
        self._unjudged = unjudged
        self._backup = backup
        self._database = database
        self._events = events
        self._rulebook = rulebook
        self._courier = courier
        self._clock = clock
        self._options = options
        self._watch = watch
        self._on_rules = on_rules
        self._stopped = threading.Event()
        self._last: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        options = self._options
        while not self._stopped.wait(_STEP_SECONDS):
            self._now_and_then("reload", options.reload_seconds, self._reload)
            self._now_and_then("watch", options.watch_seconds, self._watch)
            self._now_and_then("chores", _CHORES_SECONDS, self.tidy)
            self._now_and_then("backup", _BACKUP_SECONDS, self.back_up)

    def _now_and_then(self, name: str, every_seconds: float, work: Callable[[], None]) -> None:
        now = time.monotonic()
        if not every_seconds or now - self._last.get(name, -math.inf) < every_seconds:
            return
        self._last[name] = now
        self._try(name, work)

    def _reload(self) -> None:
        if not self._options.files_changed():
            return
        report = self._rulebook.sync()
        for note in report.notes:
            _LOG.warning("%s", note)
        if report.has_changed:
            _LOG.info(
                "rule files: %d added, %d updated, %d removed",
                *(report.added, report.updated, report.removed),
            )
        self._on_rules()

    def tidy(self) -> None:
        """Removes what is older than it is kept, a bounded piece at a time."""
        now_us = self._clock()
        options, write = self._options, self._database.write
        self._try("removing old events", lambda: self._in_writer(lambda: self._retire(now_us)))
        if options.run_days:
            runs_us = now_us - round(options.run_days * _DAY_US)
            self._try("removing old runs", lambda: write(lambda c: runs_table.prune(c, runs_us)))
            self._try(
                "removing old gaps", lambda: write(lambda c: runs_table.prune_gaps(c, runs_us))
            )
        if options.alert_days:
            alerts_us = now_us - round(options.alert_days * _DAY_US)
            self._try(
                "removing old alerts", lambda: write(lambda c: alerts_table.prune(c, alerts_us))
            )
        outbox_us, audit_us = now_us - _OUTBOX_DAYS * _DAY_US, now_us - _AUDIT_DAYS * _DAY_US
        self._try("emptying the outbox", lambda: self._courier.prune(outbox_us))
        self._try("shortening the audit trail", lambda: write(lambda c: audit.prune(c, audit_us)))

    def _retire(self, now_us: int) -> None:
        """What nobody has judged yet stays, however old it is."""
        keep_seq, keep_arrival_us = self._unjudged()
        self._events.retire(now_us, keep_seq=keep_seq, keep_arrival_us=keep_arrival_us)

    def back_up(self) -> None:
        """Puts a whole copy of the database beside it: a copy of the folder, made while it is
        written to, then holds one for certain."""
        if self._backup is None:
            return
        draft = self._backup.with_name(self._backup.name + ".new")
        draft.unlink(missing_ok=True)
        self._database.backup(draft)
        draft.replace(self._backup)

    def _try(self, what: str, work: Callable[[], object]) -> None:
        try:
            work()
        except BarrelmanError as error:
            _LOG.error("%s: %s", what, error.oneline())
        except Exception:  # noqa: BLE001  # a bug in one chore must not end the others
            _LOG.exception("%s failed", what)
