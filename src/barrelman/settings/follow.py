"""Log files, followed through rotation, to an intake that says when bytes are stored.

Promised is:

- Every line that is written whole is handed over: of a log that is renamed, what was written
  before and after it; of one that is truncated in place (copytruncate), what was read before, and
  the rest out of the copy. A copy is found where the patterns lead, under the names that rotation
  gives, and for a while under any name beside the log that begins as the log's does; where none
  is, what was not read is told as lost.
- A content is read once. It is known by its first KiB, so its copy and its packed form are not
  read again; of those only what is still missing is.
- Offsets are kept when what stands before them is stored. After a crash a second's worth may be
  handed over again, which the store drops; after a stop nothing is.
- Chunks end at line ends, and where no document, envelope or line in pieces is open: such are
  handed over whole up to 8 MiB, and unless nothing more comes for some seconds.
- A last line without line feed waits for its rest; a file that was put aside ends with it. Lines
  beyond `max_line_bytes` are passed over, and counted.
- The order is that of each file.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeAlias

from barrelman.errors import BarrelmanError, InputError, StoreError
from barrelman.settings.filebook import Content, FileBook, FileKey
from barrelman.settings.finding import Candidate, Finding, last_line_end
from barrelman.settings.followed import Followed, FollowState, Missed
from barrelman.settings.rotation import is_rotated
from barrelman.settings.sources import is_compressed
from barrelman.settings.tail import HEAD_BYTES, Chunk, Flight, Tail, read_head
from barrelman.store.offsets import NO_FILE, OffsetBook

_LOG = logging.getLogger("barrelman.follow")

CHUNK_BYTES: Final = 2 * 1024 * 1024
MAX_LINE_BYTES: Final = 32 * 1024 * 1024
_SAVE_SECONDS: Final = 1.0
_PRUNE_SECONDS: Final = 3600.0
_RETRY_SECONDS: Final = 5.0
_MOST_BACKLOG: Final = 4
"""Files that were put aside, read at the same time."""
_MOST_OPEN: Final = 512
_OFFSETS: Final = "offsets"
_FAULT: Final = "(following)"
_MOST_TRIES: Final = 3
"""Of a chunk that the intake fails on by a bug of ours."""

Give: TypeAlias = Callable[[bytes, str, str], Future[Any]]
"""Whole lines, their cluster, their path -> done when stored. May raise that there is no room."""


class Follower:
    """Follows what the patterns match. `start` runs it in a thread; `turn` is one step of it.

    `from_start` is about what a pattern matches when it is first followed: it is read from its
    start, put aside and packed or not; otherwise from its end. What turns up later is new, and is
    read from its start. At most `most_chunks` are in flight.
    """

    def __init__(
        self,
        patterns: Sequence[str],
        *,
        cluster: str,
        offsets: OffsetBook,
        give: Give,
        clock: Callable[[], int],
        from_start: bool = False,
        poll_seconds: float = 0.5,
        scan_seconds: float = 2.0,
        settle_seconds: float = 10.0,
        chunk_bytes: int = CHUNK_BYTES,
        most_chunks: int = 4,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self._patterns = tuple(patterns)
        self._cluster = cluster
        self._give = give
        self._clock = clock
        self._from_start = from_start
        self._poll_seconds = poll_seconds
        self._scan_seconds = scan_seconds
        self._settle_seconds = settle_seconds
        self._chunk_bytes = chunk_bytes
        self._most_chunks = most_chunks
        self._max_line_bytes = max_line_bytes
        self._book = FileBook(offsets, cluster=cluster)
        self._is_loaded = False
        self._seeks = True
        """Logs may have been renamed out of sight while nobody followed."""
        self._followed: dict[FileKey, Followed] = {}
        self._leaving: list[Followed] = []
        """Whose file holds something else by now, until their chunks are settled."""
        self._done: dict[FileKey, tuple[int, int]] = {}
        """Size and time of change of files that need no look until these change."""
        self._growing: dict[FileKey, int] = {}
        self._waiting: deque[Candidate] = deque()
        # As long as who makes a copy may take to pack it.
        self._missed = Missed(patience_seconds=3 * settle_seconds)
        self._problems: dict[str, str] = {}
        self._in_flight = 0
        self._pause_until = self._next_scan = self._next_save = 0.0
        self._next_prune = time.monotonic() + _PRUNE_SECONDS
        self._given_bytes = self._stored_bytes = self._skipped_lines = self._lost_chunks = 0
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name=f"follow {cluster}", daemon=True)

    # From any thread

    def start(self) -> None:
        self._thread.start()

    def stop(self, *, grace_seconds: float = 10.0) -> None:
        """Reads no more, waits for what is in flight and keeps the offsets."""
        self._is_stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(grace_seconds)
        elif self._is_loaded:
            self._wind_up()

    def state(self) -> FollowState:
        followed = [*self._followed.values()]
        return FollowState(
            cluster=self._cluster,
            files=tuple(each.state() for each in followed),
            waiting_files=len(self._waiting),
            given_bytes=self._given_bytes,
            stored_bytes=self._stored_bytes,
            skipped_lines=self._skipped_lines + sum(each.tail.skipped_lines for each in followed),
            lost_chunks=self._lost_chunks,
            lost_files=self._missed.lost_files,
            lost_bytes=self._missed.lost_bytes,
            problems=(
                *(f"{path}: {text}" for path, text in sorted(self._problems.items())),
                *self._missed.problems,
            ),
            is_alive=self._thread.is_alive(),
        )

    # One step

    def turn(self) -> bool:
        """Looks, reads and hands over once; whether there may be more to do at once."""
        if not self._is_loaded and not self._load():
            return False
        now = time.monotonic()
        moved = self._settle(now)
        if now >= self._next_scan:
            self._scan()
            took = time.monotonic() - now
            self._next_scan = now + max(self._scan_seconds, 20 * took)
        self._admit()
        for each in list(self._followed.values()):
            if self._in_flight >= self._most_chunks or now < self._pause_until:
                break
            # The last one served is the first to be passed over when there is no more room.
            self._followed[each.tail.key] = self._followed.pop(each.tail.key)
            moved = self._advance(each, now) or moved
        if now >= self._next_save:
            self._save()
            self._next_save = now + _SAVE_SECONDS
        return moved or bool(self._waiting and self._has_room())

    def _run(self) -> None:
        while not self._is_stopping:
            try:
                is_busy = self.turn()
                self._problems.pop(_FAULT, None)
            except Exception as error:  # noqa: BLE001  # said, and tried again: files go on growing
                if _FAULT not in self._problems:
                    _LOG.exception("following files of %s failed", self._cluster)
                self._problems[_FAULT] = f"following failed: {type(error).__name__}: {error}"
                is_busy = False
            if not is_busy:
                self._wake.wait(self._poll_seconds)
            self._wake.clear()
        if self._is_loaded:
            self._wind_up()

    def _wind_up(self) -> None:
        deadline = time.monotonic() + 10
        while self._in_flight and time.monotonic() < deadline:
            self._wake.wait(0.05)
            self._wake.clear()
            self._settle(time.monotonic())
        self._save()
        for each in [*self._followed.values(), *self._leaving]:
            each.tail.close()
        self._followed.clear()
        self._leaving.clear()

    def _load(self) -> bool:
        try:
            self._book.load()
        except StoreError as error:
            self._report(_OFFSETS, error.message)
            return False
        self._problems.pop(_OFFSETS, None)
        self._is_loaded = True
        return True

    def _save(self) -> None:
        if not self._book.is_changed:
            return
        try:
            self._book.save(self._clock())
        except StoreError as error:
            self._report(_OFFSETS, error.message)
        else:
            self._problems.pop(_OFFSETS, None)

    def _report(self, path: str, text: str) -> None:
        if self._problems.get(path) != text:
            _LOG.warning("%s: %s", path, text)
        self._problems[path] = text

    # Which files there are

    def _scan(self) -> None:
        self._give_up_missed()
        found = Finding(self._patterns, known_patterns=self._book.known_patterns)
        if self._seeks:
            self._seeks = False
            self._seek(found)
        if self._missed.paths:
            found.look_beside(self._missed.paths)
            self._missed.note_look()
        self._waiting.clear()
        for key, candidate in found.files.items():
            followed = self._followed.get(key)
            if followed is not None:
                followed.rename(candidate.path)
                followed.tail.was_replaced()  # notes its size, also where nothing is read for now
            elif self._done.get(key) != candidate.state:
                self._waiting.append(candidate)
        for key, followed in self._followed.items():
            followed.is_lost = key not in found.files
        self._done = {key: done for key, done in self._done.items() if key in found.files}
        self._growing = {key: size for key, size in self._growing.items() if key in found.files}
        self._tell_problems(found)
        self._pass_over_old()
        if time.monotonic() >= self._next_prune:
            self._next_prune = time.monotonic() + _PRUNE_SECONDS
            self._book.prune(found.files, now_us=self._clock())

    def _seek(self, found: Finding) -> None:
        """Logs may not be where they were when they were last followed."""
        unfinished = [each for each in self._book if not each.is_finished]
        paths = {each.path for each in found.files.values()}
        for each in unfinished:
            has_file = each.device != NO_FILE and not is_rotated(each.path)
            if has_file and each.path in paths:
                self._missed.begin(each, was_followed=False)
        found.seek(sorted({each.path for each in unfinished}))

    def _give_up_missed(self) -> None:
        if self._waiting:  # one of them may be what is missed
            return
        for content in self._missed.give_up({each.tail.path for each in self._followed.values()}):
            self._book.leave(content)  # not to be missed again at the next start

    def _tell_problems(self, found: Finding) -> None:
        for path, text in found.problems.items():
            self._report(path, text)
        present = {each.path for each in found.files.values()}
        for path in self._problems.keys() - found.problems.keys() - present - {_OFFSETS, _FAULT}:
            del self._problems[path]

    def _pass_over_old(self) -> None:
        """All at once and before the patterns are noted: a crash between must not mix them up."""
        if not self._from_start:
            old = [each for each in self._waiting if each.is_old]
            for candidate in old:
                self._waiting.remove(candidate)
                self._try(candidate)
        for pattern in self._patterns:
            if pattern not in self._book.known_patterns:
                self._book.note_pattern(pattern)

    # Files that are taken up

    def _has_room(self) -> bool:
        return sum(each.is_rotated for each in self._followed.values()) < _MOST_BACKLOG

    def _admit(self) -> None:
        """Takes up files that wait, the oldest first; of those put aside, a few at a time."""
        kept: list[Candidate] = []
        while self._waiting:
            candidate = self._waiting.popleft()
            if not is_rotated(candidate.path) or self._has_room():
                self._try(candidate)
            else:
                kept.append(candidate)
        self._waiting.extend(kept)

    def _try(self, candidate: Candidate) -> None:
        try:
            self._take_up(candidate)
        except OSError as error:
            self._report(candidate.path, f"cannot be read: {error.strerror or error}")
        except InputError as error:
            self._done[candidate.key] = candidate.state
            self._report(candidate.path, error.message)
        else:
            self._problems.pop(candidate.path, None)

    def _take_up(self, candidate: Candidate) -> None:
        path, key = candidate.path, candidate.key
        is_packed = is_compressed(path)
        head = read_head(path, is_packed=is_packed)
        content = self._book.find(head)
        if content is not None and content.is_live:
            return  # its copy, made to truncate it or packed while it is still read
        if candidate.is_sought and (
            content is None or (candidate.is_neighbour and content not in self._missed)
        ):
            self._done[key] = candidate.state
            return
        if content is None and candidate.is_old and not self._from_start:
            self._pass_over(candidate, head, is_packed=is_packed)
            return
        if (is_packed or len(head) < HEAD_BYTES) and self._may_grow(candidate):
            self._missed.wait(content)
            return
        if content is not None:
            # Under the log's name it is looked for again, if reading it is cut short by a stop.
            name = self._missed.path_of(content) if candidate.is_neighbour else path
            self._book.take(content, name, key)
            is_known = content.is_finished if is_packed else candidate.size < content.offset
            if is_known or (content.is_finished and candidate.size == content.offset):
                self._done[key] = candidate.state
                return
        self._open(candidate, content, is_packed=is_packed)
        if content is not None and content.is_live:
            self._missed.found(content)

    def _may_grow(self, candidate: Candidate) -> bool:
        """Whether somebody may be at work on a copy or a packed form, which is not whole yet."""
        if not is_rotated(candidate.path):
            return False
        if self._clock() - candidate.changed_ns // 1000 >= self._settle_seconds * 1_000_000:
            return False
        before, self._growing[candidate.key] = self._growing.get(candidate.key), candidate.size
        return before != candidate.size

    def _pass_over(self, candidate: Candidate, head: bytes, *, is_packed: bool) -> None:
        """Its lines came before anyone asked for them; the last one counts if it is not whole."""
        path, key, now_us = candidate.path, candidate.key, self._clock()
        end = len(head) if is_packed else last_line_end(path)
        content = self._book.add(path, key, offset=end, head=head, now_us=now_us)
        if is_packed or is_rotated(path):
            self._book.finish(content)
            self._done[key] = candidate.state
        else:
            self._open(candidate, content, is_packed=False)

    def _open(self, candidate: Candidate, content: Content | None, *, is_packed: bool) -> None:
        if len(self._followed) >= _MOST_OPEN and not self._let_one_go():
            return
        offset = 0 if content is None else content.offset
        limit = self._max_line_bytes
        tail = Tail(candidate.path, offset=offset, is_packed=is_packed, max_line_bytes=limit)
        if tail.key != candidate.key:  # it was rotated between: the next look will tell
            tail.close()
            self._next_scan = 0.0
            return
        if content is None:
            now_us = self._clock()
            content = self._book.add(candidate.path, tail.key, offset=0, head=b"", now_us=now_us)
        content.is_live, content.is_finished = True, False
        self._followed[tail.key] = Followed(tail, content)

    def _let_one_go(self) -> bool:
        """Closes the file that was quiet for longest; it is opened again when it grows."""
        quiet = [each for each in self._followed.values() if each.is_settled]
        if not quiet:
            return False
        self._close(min(quiet, key=lambda each: each.grown_at))
        return True

    # Their bytes

    def _advance(self, each: Followed, now: float) -> bool:
        """Whether there may be more at once."""
        if now < each.retry_at or each.has_failed:
            return False
        try:
            if each.tail.was_replaced():
                self._begin_anew(each)
                return True
            chunk, has_moved = self._read(each, now)
        except (OSError, InputError) as error:
            self._fail_reading(each, error, now)
            return each.is_broken
        if chunk is not None:
            return self._hand_over(each, chunk, now)
        if each.is_ending and not each.tail.flights:
            self._end(each)
        return has_moved

    def _read(self, each: Followed, now: float) -> tuple[Chunk | None, bool]:
        tail = each.tail
        if tail.pending is not None or each.is_ending:
            return tail.pending, False
        chunk = tail.read(self._chunk_bytes)
        if tail.is_at_end:
            return self._end_quiet(each, now), False
        each.grown_at = now
        if each.last_error is not None:
            each.last_error = None
            self._problems.pop(tail.path, None)
        return chunk, True

    def _end_quiet(self, each: Followed, now: float) -> Chunk | None:
        """What is left of a file that gives nothing any more."""
        tail = each.tail
        is_quiet = now - each.grown_at >= self._settle_seconds
        is_over = tail.is_packed or (is_quiet and (each.is_rotated or each.is_lost))
        if not is_over and each.is_rotated:
            changed_us = tail.status().st_mtime_ns // 1000
            is_over = self._clock() - changed_us >= self._settle_seconds * 1_000_000
        if is_over:
            each.is_ending = True
            return tail.flush()
        return tail.give_open() if is_quiet and tail.holds_open else None

    def _hand_over(self, each: Followed, chunk: Chunk, now: float) -> bool:
        each.tail.pending = chunk
        try:
            future = self._give(chunk.data, self._cluster, each.tail.path)
        except BarrelmanError as error:
            wait = getattr(error, "retry_after_seconds", None) or _RETRY_SECONDS
            self._pause_until = now + wait
            each.last_error = error.message
            return False
        each.tail.pending = None
        each.tail.flights.append(Flight(chunk, future))
        self._in_flight += 1
        self._given_bytes += len(chunk.data)
        future.add_done_callback(lambda _: self._wake.set())
        return True

    def _begin_anew(self, each: Followed) -> None:
        """The log was truncated. What of it was not read may be in a copy."""
        old = each.tail
        self._missed.begin(each.content, was_followed=True)
        self._book.let_go(old.key)
        del self._followed[old.key]
        old.leave_open_lines()
        self._leaving.append(each)
        self._next_scan = 0.0

    def _fail_reading(self, each: Followed, error: OSError | InputError, now: float) -> None:
        text = error.message if isinstance(error, InputError) else (error.strerror or str(error))
        each.last_error = text
        self._report(each.tail.path, text)
        if each.tail.is_packed:  # what could be read was; it is read on if the file changes
            each.is_ending = each.is_broken = True
            each.tail.pending = each.tail.give_open()
        else:
            each.retry_at = now + _RETRY_SECONDS

    def _end(self, each: Followed) -> None:
        tail = each.tail
        if not tail.is_packed and tail.status().st_size > tail.read_to:
            each.is_ending = False  # it goes on
            return
        if not each.is_broken:
            self._book.finish(each.content)
        self._close(each)

    def _close(self, each: Followed) -> None:
        tail = each.tail
        status = tail.status()
        self._skipped_lines += tail.skipped_lines
        each.content.is_live = False
        tail.close()
        self._followed.pop(tail.key, None)
        self._done[tail.key] = (status.st_size, status.st_mtime_ns)

    # What became of chunks

    def _settle(self, now: float) -> bool:
        before = self._in_flight
        for each in [*self._followed.values(), *self._leaving]:
            self._settle_flights(each, now)
        for each in list(self._leaving):
            if each.tail.pending is not None and not each.has_failed and now >= self._pause_until:
                self._hand_over(each, each.tail.pending, now)
            if each.tail.pending is None and not each.tail.flights:
                self._leaving.remove(each)
                unread_bytes = each.tail.seen_to - each.tail.durable
                self._missed.settle(each.content, unread_bytes=unread_bytes)
                self._skipped_lines += each.tail.skipped_lines
                each.content.is_live = False
                each.tail.close()
        return self._in_flight != before

    def _settle_flights(self, each: Followed, now: float) -> None:
        tail = each.tail
        while tail.flights and tail.flights[0].future.done():
            flight = tail.flights.popleft()
            self._in_flight -= 1
            if each.has_failed:
                continue
            error = _error_of(flight.future)
            if error is None:
                self._stored_bytes += len(flight.chunk.data)
            elif not self._gives_up(each, flight, error):
                each.has_failed, each.last_error = True, str(error)
                continue
            tail.durable, each.failures = flight.chunk.end, 0
        if tail.flights:
            return
        if each.has_failed:
            each.has_failed = each.is_ending = False
            tail.rewind()
            self._pause_until = now + min(30.0, 0.5 * 2 ** min(each.failures, 6))
            each.failures += 1
        elif tail.pending is None:
            tail.durable = tail.settled_to
        self._book.note(each.content, offset=tail.durable, head=tail.head, now_us=self._clock())

    def _gives_up(self, each: Followed, flight: Flight, error: BaseException) -> bool:
        """A chunk that a bug of ours fails on does not keep back all that follows it."""
        if isinstance(error, BarrelmanError) or each.failures < _MOST_TRIES:
            return False
        size, path = len(flight.chunk.data), each.tail.path
        _LOG.error("%s: a chunk of %d bytes is lost: %r", path, size, error)
        self._lost_chunks += 1
        return True


def _error_of(future: Future[Any]) -> BaseException | None:
    if future.cancelled():
        return StoreError("it was not stored: the intake has stopped")
    return future.exception()
