"""A configuration to a service that is ready to start."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from barrelman.detection.rows import describe
from barrelman.errors import InputError, Place, StoreError
from barrelman.records.frozen import frozen
from barrelman.rules.exceptions import ExceptionSet
from barrelman.service.clock import Clock
from barrelman.service.courier import Courier
from barrelman.service.detector import judged_seq
from barrelman.service.keeper import KeeperOptions
from barrelman.service.rulesync import FileRules
from barrelman.service.service import Service, ServiceOptions
from barrelman.service.watchdogs import WatchdogOptions
from barrelman.settings.config import Config, FilesConfig
from barrelman.settings.configchecks import read_template
from barrelman.settings.follow import Follower
from barrelman.settings.indexes import Indexes, read_index
from barrelman.settings.rulefiles import (
    RULE_SUFFIXES,
    read_exception_files,
    read_pack,
    read_rule_paths,
)
from barrelman.settings.sources import expand_sources
from barrelman.sinks.address import settings_of, unique_names
from barrelman.sinks.opening import open_sink
from barrelman.sinks.options import SinkSettings
from barrelman.sinks.sink import Sink
from barrelman.store.database import Database
from barrelman.store.events import EventStore, StoreOptions
from barrelman.store.folder import DataFolder
from barrelman.store.offsets import OffsetBook

_DAY_SECONDS: Final = 86_400
_PATIENCE_SECONDS: Final = 60.0


def wall_us() -> int:
    """The machine's time, in microseconds since 1970."""
    return time.time_ns() // 1000


def open_service(
    config: Config, *, sinks: Sequence[SinkSettings] = (), stdout: BinaryIO | None = None
) -> Service:
    """Opens the data folder, which this process then owns, and puts the parts together.

    `sinks` come beside those of the configuration. Raises StoreError where the folder is another
    process's, or damaged beyond mending, and UsageError for what cannot be as it was asked for.
    """
    wanted = unique_names([*sink_settings(config), *sinks])
    with contextlib.ExitStack() as undo, _told(config.store.data):
        folder = undo.enter_context(DataFolder.open(config.store.data))
        database = Database.open(folder.database, now_us=wall_us())
        undo.callback(database.close)
        clock = Clock(wall_us, patience_seconds=_PATIENCE_SECONDS)
        events = EventStore.open(
            folder,
            clock=clock.now_us,
            describe=describe,
            options=store_options(config),
            at_least_seq=judged_seq(database),
        )
        undo.callback(events.close)
        clock.not_before(events.last_arrival_us)
        opened = [(_open(each, clock, stdout), each.route) for each in wanted]
        courier = Courier(database, opened, clock=clock.now_us, public_url=config.server.public_url)
        files = RuleFiles(config)
        service = Service(
            folder,
            database,
            events,
            courier,
            clock=clock,
            options=service_options(config, files.have_changed),
            read_files=files.read,
        )
        undo.pop_all()  # from here on they are the service's
    service.followers += (_follower(service, each) for each in config.intake.files)
    return service


@contextlib.contextmanager
def _told(folder: str) -> Iterator[None]:
    """A full disk at the start, or one that fails, in words and with the path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        place = Place(str(error.filename or folder))
        raise StoreError(f"the data folder cannot be used: {reason}", place=place) from error


def sink_settings(config: Config) -> list[SinkSettings]:
    """The sinks of a configuration that are switched on. Raises UsageError, naming the sink."""
    found = []
    for table in config.sinks:
        if table.get("enabled", True):
            template = table.get("template")
            text = read_template(str(template)) if template is not None else None
            values = {k: v for k, v in table.items() if k not in ("enabled", "template")}
            found.append(settings_of(values, template=text))
    return found


def store_options(config: Config) -> StoreOptions:
    store = config.store
    return StoreOptions(
        seal_bytes=store.segment_bytes,
        seal_seconds=round(store.segment_seconds),
        keep_seconds=round(store.retention_days * _DAY_SECONDS) or None,
        keep_bytes=store.retention_bytes or None,
        search_memory=f"{store.memory_bytes // (1 << 20)}MB",
        search_threads=store.threads,
    )


def service_options(config: Config, files_changed: Callable[[], bool]) -> ServiceOptions:
    watch, expected = config.watchdogs, config.intake.clusters
    return ServiceOptions(
        public_url=config.server.public_url,
        is_live=config.detection.live,
        fills_gaps=config.detection.fill_gaps,
        gap_days=config.detection.gap_days,
        redacts=config.detection.redact,
        most_signals=config.rules.cap,
        max_bytes_in_flight=config.intake.max_bytes_in_flight,
        max_event_bytes=config.intake.max_event_bytes,
        search_seconds=config.detection.search_seconds,
        kept_days=config.store.retention_days,
        expected_clusters=[each.name for each in expected],
        watchdogs=WatchdogOptions(
            silent_after_seconds=watch.silent_after_seconds,
            silent_after={
                each.name: each.silent_after_seconds
                for each in expected
                if each.silent_after_seconds is not None
            },
            refused_per_minute=watch.refused_per_minute,
            malformed_per_minute=watch.malformed_per_minute,
            clock_skew_seconds=watch.clock_skew_seconds,
            disk_free_percent=watch.disk_free_percent,
            disk_free_bytes=watch.disk_free_bytes,
            failed_runs=watch.failed_runs,
            capped_runs=watch.capped_runs,
            late_seconds=watch.late_seconds,
            sink_seconds=watch.sink_seconds,
            repeat_seconds=watch.repeat_seconds,
        ),
        keeper=KeeperOptions(
            reload_seconds=config.rules.reload_seconds,
            alert_days=config.store.alert_days,
            run_days=config.store.run_days,
            files_changed=files_changed,
        ),
    )


@frozen
class _Stamp:
    path: str
    mtime_ns: int
    size: int
    inode: int


class RuleFiles:
    """The rules and exceptions that a configuration names, and whether they have changed."""

    def __init__(self, config: Config) -> None:
        self._rules = config.rules
        self._pack = read_pack() if config.rules.pack else None
        self._stamps: frozenset[_Stamp] = frozenset()
        self._index_stamps: frozenset[_Stamp] = frozenset()
        self._indexes = Indexes()

    def read(self) -> FileRules:
        """What they hold now. What cannot be read is said among the problems."""
        self._stamps = frozenset(self._look())
        given = read_rule_paths(self._rules.paths, include_all=self._rules.all_rules)
        lists, errors, skipped = read_exception_files(self._rules.exceptions)
        problems = [error.oneline() for error in (*given.errors, *errors)]
        problems += [f"{each.path}:{each.line}: {each.reason}" for each in skipped]
        problems += [error.oneline() for error in self._read_indexes().errors]
        return FileRules(
            pack=self._pack.rules if self._pack is not None else (),
            files=given.rules,
            given=lists,
            exported=given.exceptions if given.rules else ExceptionSet(),
            problems=problems,
            unread=[
                error.place.path
                for error in given.errors
                if isinstance(error, InputError) and error.place.path is not None
            ],
            indexes=self._indexes,
        )

    def have_changed(self) -> bool:
        """Whether a file came, went or was written since they were read."""
        return (
            frozenset(self._look()) != self._stamps
            or frozenset(self._look_at_indexes()) != self._index_stamps
        )

    def _read_indexes(self) -> Indexes:
        """Anew where a file of them has changed: they may be large."""
        stamps = frozenset(self._look_at_indexes())
        if stamps != self._index_stamps or not self._indexes.documents:
            self._index_stamps = stamps
            before, self._indexes = self._indexes, Indexes()
            for each in self._rules.indexes:
                for path in each.paths:
                    read_index(each.name, path, self._indexes)
            for name, documents in self._indexes.documents.items():
                if not documents and self._indexes.errors:
                    # A file that is being replaced: what was known of it stands.
                    documents += before.documents.get(name, ())
        return self._indexes

    def _look_at_indexes(self) -> Iterator[_Stamp]:
        for each in self._rules.indexes:
            for source in expand_sources(each.paths):
                if not isinstance(source, InputError) and source.path is not None:
                    yield from _stamps_of(Path(source.path))

    def _look(self) -> Iterator[_Stamp]:
        for path in (*self._rules.paths, *self._rules.exceptions):
            for each in _files_below(Path(path)):
                yield from _stamps_of(each)


def _stamps_of(path: Path) -> Iterator[_Stamp]:
    try:
        found = path.stat()
    except OSError:
        return
    yield _Stamp(str(path), found.st_mtime_ns, found.st_size, found.st_ino)


def _files_below(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    seen: set[str] = set()
    for folder, folders, names in os.walk(path, followlinks=True):
        # Links to folders are followed where rules are read, and may lead back up.
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else [each for each in folders if each[:1] != "."]
        seen.add(real)
        for name in names:
            if name.lower().endswith((*RULE_SUFFIXES, ".txt")):
                yield Path(folder, name)


def _open(settings: SinkSettings, clock: Clock, stdout: BinaryIO | None) -> Sink:
    return open_sink(settings, clock=clock.now_us, stdout=stdout)


def _follower(service: Service, files: FilesConfig) -> Follower:
    return Follower(
        files.paths,
        cluster=files.cluster,
        offsets=OffsetBook(service.database),
        give=lambda chunk, cluster, source: service.intake.offer(
            chunk, cluster=cluster, is_list=False
        ),
        clock=service.clock.now_us,
        from_start=files.from_start,
        poll_seconds=files.poll_seconds,
    )
