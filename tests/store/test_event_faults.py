"""What the event store does when processes die, disks fill up and files break."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from eventfaults import Killed, break_record, break_values, cut, end_after, ending, sealed
from eventrows import (
    START_US,
    Clock,
    ids,
    ids_in,
    incoming,
    lines_in,
    opened,
    read_only,
    shut,
)

from barrelman.errors import StoreError
from barrelman.records.rows import Row
from barrelman.records.where import Always, Equals
from barrelman.store.events import EventStore, StoreOptions
from barrelman.store.folder import DataFolder
from barrelman.store.frames import Record
from barrelman.store.log import read_records

# Appends until it is killed, and tells each commit when it is acknowledged.
APPEND = """
import sys, resource, signal
sys.path.insert(0, sys.argv[1])
from eventrows import Clock, incoming, opened
from barrelman.store.events import StoreOptions
store = opened(__import__("pathlib").Path(sys.argv[2]), options=StoreOptions(seal_rows=40))
for path in store.faults:
    print("fault", path, flush=True)
number = int(sys.argv[3])
while True:
    (stored,) = store.append([incoming(*range(number, number + 7))])
    print(number, stored.first_seq, flush=True)
    number += 7
    store.seal_if_due(0)
    while store.stats().open_rows > 70:
        store.wait()
        store.seal_if_due(0)
"""

# Appends until a file may not grow any more, then gets room again.
FULL = """
import sys, resource, signal, pathlib
sys.path.insert(0, sys.argv[1])
from eventrows import Clock, incoming, opened, ids, ids_in, shut
from barrelman.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = pathlib.Path(sys.argv[2])
store = opened(path)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
store.append([incoming(0, 1)])
kept = [0, 1]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), hard))
failed = 0
for number in range(2, 60):
    try:
        store.append([incoming(number, pad="%d" % number * 300)])
        kept.append(number)
    except StoreError as error:
        assert "File too large" in str(error), error
        failed += 1
    assert ids_in(store) == ids(kept)
try:
    store.seal()
except StoreError:
    assert store.stats().trouble
    failed += 1
assert ids_in(store) == ids(kept)
assert failed > 3, failed
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
(stored,) = store.append([incoming(*range(60))])
assert stored.duplicates == len(kept), stored
assert stored.first_seq == len(kept), stored
store.seal()
assert store.stats().trouble is None
assert sorted(ids_in(store)) == sorted(ids(range(60)))
shut(store)
store = opened(path)
assert sorted(ids_in(store)) == sorted(ids(range(60)))
assert not store.faults, store.faults
shut(store)
print("well")
"""
TESTS = str(Path(__file__).parents[1])


def test_killed_at_any_moment_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    chance = random.Random(4)
    number = 0
    told: dict[int, int] = {}
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", APPEND, TESTS, str(tmp_path), str(number)],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            time.sleep(chance.random() * 0.4)
            process.send_signal(signal.SIGKILL)
            lines = [first, *process.stdout.read().split("\n")]
        assert not [line for line in lines if line.startswith("fault")]
        for line in lines:
            if len(line.split()) == 2:
                start, seq = map(int, line.split())
                told[start] = seq
                number = start + 7
        number += 7  # the next may be stored and not acknowledged: another process would retry it
    store = opened(tmp_path)
    found = dict(lines_in(store))
    for start, seq in told.items():
        stored = [json.loads(found[seq + at])["id"] for at in range(7)]
        assert stored == ids(range(start, start + 7))
    assert list(found) == list(range(store.next_seq))
    assert len(found) == len(set(found.values()))
    (again,) = store.append([incoming(*(n for start in told for n in range(start, start + 7)))])
    assert again.kept == []
    assert store.faults == []
    assert store.count(Always()).plain == len(found)
    shut(store)


@pytest.mark.parametrize("size", [3000, 9000])
def test_a_full_disk_refuses_whole_commits_and_is_left_by_itself(tmp_path: Path, size: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, TESTS, str(tmp_path), str(size)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("well\n", "", 0)


def two_commits(path: Path) -> Path:
    store = opened(path)
    store.append([incoming(1, 2)])
    store.append([incoming(3, 4)])
    shut(store)
    (log,) = (path / "log").iterdir()
    return log


def test_a_log_cut_at_any_byte_loses_only_what_was_cut(tmp_path: Path) -> None:
    log = two_commits(tmp_path)
    content = log.read_bytes()
    ends = [each.end for each in read_records(log)]
    (tmp_path / "seen.db").unlink()  # killed before the keys were written
    for length in [*range(ends[0] - 3, len(content), 23), *ends]:
        log.write_bytes(content[:length])
        store = opened(tmp_path)
        kept = 4 if length >= ends[2] else 2 if length >= ends[1] else 0
        assert ids_in(store) == ids([1, 2, 3, 4])[:kept], length
        assert store.next_seq == kept
        assert store.faults == []
        assert len(store.notes) == (length not in ends), length
        # What was cut off is no second delivery when it comes again.
        shut(store)
        (tmp_path / "seen.db").unlink()


def test_what_was_cut_off_is_new_when_it_comes_again(tmp_path: Path) -> None:
    log = two_commits(tmp_path)
    (tmp_path / "seen.db").unlink()  # killed before the keys were written
    log.write_bytes(log.read_bytes()[:-1])
    store = opened(tmp_path)
    (stored,) = store.append([incoming(1, 2, 3, 4)])
    assert (stored.kept, stored.first_seq) == ([2, 3], 2)
    shut(store)
    store = opened(tmp_path)
    assert ids_in(store) == ids([1, 2, 3, 4])
    shut(store)


@pytest.mark.parametrize("which", [1, 2, 3])
def test_a_broken_commit_is_told_and_the_others_are_kept(tmp_path: Path, which: int) -> None:
    store = opened(tmp_path)
    for number in range(3):
        store.append([incoming(2 * number, 2 * number + 1)])
    shut(store)
    (log,) = (tmp_path / "log").iterdir()
    record = list(read_records(log))[which]
    broken = bytearray(log.read_bytes())
    broken[record.end - 10] ^= 1
    log.write_bytes(broken)
    kept = [n for n in range(6) if n // 2 != which - 1]
    for turn in range(3):
        store = opened(tmp_path)
        assert ids_in(store) == ids(kept)
        assert store.next_seq == 6 + turn, "a seq that was given is never given again"
        (fault,) = store.faults
        assert "2 events lost" in fault
        assert list((tmp_path / "damaged").iterdir())
        if turn == 0 and which < 3:
            assert ids_in(read_only(tmp_path)) == ids(kept)
        kept.append(100 + turn)
        store.append([incoming(100 + turn)])
        shut(store)
    store = opened(tmp_path)
    store.seal()
    assert ids_in(store) == ids(kept)
    assert [json.loads(each.line)["id"] for each in store.fetch(store.select(Always()))] == ids(
        kept
    )
    assert ids_in(read_only(tmp_path)) == ids(kept)
    shut(store)
    store = opened(tmp_path)
    assert store.faults == []
    assert ids_in(store) == ids(kept)
    shut(store)


def test_rubbish_for_a_log_is_no_end(tmp_path: Path) -> None:
    log = two_commits(tmp_path)
    log.write_bytes(b"\0" * 4096)
    store = opened(tmp_path)
    assert ids_in(store) == []
    assert "broken" in store.faults[0]
    store.append([incoming(9)])
    shut(store)
    store = opened(tmp_path)
    assert ids_in(store) == ids([9])
    shut(store)


BREAKS: dict[str, tuple[Callable[[Path], object], bool]] = {
    "columns cut": (lambda s: cut(ending(s, ".parquet"), 0.5), True),
    "columns cut by a byte": (lambda s: cut(ending(s, ".parquet"), -1), True),
    "columns empty": (lambda s: cut(ending(s, ".parquet"), 0), True),
    "columns gone": (lambda s: ending(s, ".parquet").unlink(), True),
    "lines cut": (lambda s: cut(ending(s, ".zst"), 0.7), False),
    "lines cut by a byte": (lambda s: cut(ending(s, ".zst"), -1), False),
    "lines empty": (lambda s: cut(ending(s, ".zst"), 0), False),
    "lines gone": (lambda s: ending(s, ".zst").unlink(), False),
    "lines longer": (lambda s: ending(s, ".zst").write_bytes(
        ending(s, ".zst").read_bytes() + b"?"), True),
}  # fmt: skip


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_segment_keeps_what_is_whole(tmp_path: Path, how: str) -> None:
    stem = sealed(tmp_path)
    spoil, keeps_all = BREAKS[how]
    spoil(stem)
    store = opened(tmp_path)
    kept = ids_in(store)
    assert kept[-301:] == ids(range(300, 601))
    assert kept == ids(range(len(kept) - 301)) + ids(range(300, 601))
    assert (len(kept) == 601) is keeps_all
    assert len(store.faults) == 1
    assert store.count(Always()).plain == len(kept)
    fetched = store.fetch(store.select(Always()))
    assert [json.loads(each.line)["id"] for each in fetched] == kept
    assert ids_in(read_only(tmp_path)) == kept
    shut(store)
    store = opened(tmp_path)
    assert (ids_in(store), store.faults) == (kept, [])
    shut(store)


@pytest.mark.parametrize("how", ["columns cut", "columns gone", "columns empty"])
def test_columns_that_break_while_it_runs_are_made_anew(tmp_path: Path, how: str) -> None:
    sealed(tmp_path)
    store = opened(tmp_path)
    stem = store._shelf.view().segments[0].stem
    BREAKS[how][0](stem)
    assert store.count(Always()).plain == 601
    assert len(store.select(Always())) == 601
    assert len(store.faults) == 1
    shut(store)


def test_values_that_break_while_it_runs_are_made_anew(tmp_path: Path) -> None:
    stem = sealed(tmp_path)
    store = opened(tmp_path)
    break_values(stem)
    assert store.count(Equals("user", "user-3")).plain == sum(n % 7 == 3 for n in range(601))
    assert len(store.faults) == 1
    shut(store)


def test_lines_that_break_while_it_runs_are_told_and_passed_over(tmp_path: Path) -> None:
    sealed(tmp_path)
    store = opened(tmp_path)
    segment = store._shelf.view().segments[0]
    places = [each for each in read_records(segment.lines) if isinstance(each, Record)]
    assert len(places) > 1
    refs = store.select(Always())
    content = bytearray(segment.lines.read_bytes())
    content[places[0].end - 20] ^= 1
    segment.lines.write_bytes(content)
    lost = places[0].head.rows
    assert ids_in(store) == ids(range(lost, 601))
    assert [each.seq for each in store.fetch(refs)] == list(range(lost, 601))
    assert len(store.faults) == 1
    assert f"{lost} events" in store.faults[0]
    shut(store)


def test_a_log_that_breaks_before_it_is_sealed_loses_what_is_broken(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for at in range(3):
        store.append([incoming(*range(at * 10, at * 10 + 10))])
    (log,) = (tmp_path / "log").iterdir()
    record = list(read_records(log))[2]
    broken = bytearray(log.read_bytes())
    broken[record.end - 10] ^= 1
    log.write_bytes(broken)
    kept = [*range(10), *range(20, 30)]
    assert ids_in(store) == ids(kept)
    store.seal()
    assert ids_in(store) == ids(kept)
    assert [ref.seq for ref in store.select(Always())] == kept
    assert [json.loads(each.line)["id"] for each in store.fetch(store.select(Always()))] == ids(
        kept
    )
    assert store.next_seq == 30
    assert any("10 events" in fault for fault in store.faults)
    shut(store)
    store = opened(tmp_path)
    assert (ids_in(store), store.next_seq, store.faults) == (ids(kept), 30, [])
    shut(store)


SMALL = StoreOptions(seal_rows=5)


def sealing_fails(store: EventStore) -> str:
    """Seals what is due, and gives what is told of it."""
    store.seal_if_due(0)
    store.wait()
    trouble = store.stats().trouble
    assert trouble is not None
    with pytest.raises(StoreError):
        store.seal()
    return trouble


def test_a_log_that_cannot_be_read_is_told_and_tried_again(tmp_path: Path) -> None:
    store = opened(tmp_path, options=SMALL)
    store.append([incoming(*range(10))])
    (log,) = (tmp_path / "log").iterdir()
    hidden = log.rename(tmp_path / "hidden")
    assert "No such file" in sealing_fails(store)
    hidden.rename(log)
    store.seal()
    assert store.stats().trouble is None
    assert ids_in(store) == ids(range(10))
    shut(store)


def test_what_cannot_be_put_aside_is_told_and_tried_again(tmp_path: Path) -> None:
    store = opened(tmp_path, options=SMALL)
    store.append([incoming(*range(5))])
    store.append([incoming(*range(5, 10))])
    (log,) = (tmp_path / "log").iterdir()
    break_record(log, 1)
    (tmp_path / "damaged").write_text("in the way")
    assert "exists" in sealing_fails(store)
    assert ids_in(store) == ids(range(5, 10))
    (tmp_path / "damaged").unlink()
    store.seal()
    assert store.stats().trouble is None
    assert ids_in(store) == ids(range(5, 10))
    shut(store)


def test_whatever_sealing_fails_with_is_told(tmp_path: Path) -> None:
    def refuse(*_: object) -> Row:
        raise RecursionError("too deep")

    folder = DataFolder.open(tmp_path)
    store = EventStore.open(folder, clock=Clock(), describe=refuse, options=SMALL)
    store.append([incoming(*range(5))])
    store.append([incoming(*range(5, 10))])
    (log,) = (tmp_path / "log").iterdir()
    break_record(log, 1)  # so that the others have to be described anew
    assert "RecursionError: too deep" in sealing_fails(store)
    assert store.append([incoming(10)])[0].kept == range(1)
    shut(store)


@pytest.mark.parametrize("name", ["sealing", "keys"])
def test_a_thread_that_cannot_start_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    store = opened(tmp_path, options=StoreOptions(seal_rows=50_000))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", limited)
        store.append([incoming(*range(25_000))])  # so many keys are written at once
        store.append([incoming(*range(24_999, 50_000))])
        store.seal_if_due(0)
        store.wait()
        assert "can't start new thread" in str(store.stats().trouble)
        assert store.append([incoming(49_999, 50_000)])[0].kept == [1]
    store.seal()
    store.append([incoming(*range(50_001, 75_000))])
    store.wait()
    assert store.stats().trouble is None
    assert store.append([incoming(0, 25_000, 50_000, 75_000)])[0].kept == [3]
    shut(store)


def test_a_segment_whose_files_someone_removed_is_told(tmp_path: Path) -> None:
    sealed(tmp_path)
    store = opened(tmp_path)
    segment = store._shelf.view().segments[0]
    segment.lines.unlink()
    segment.columns.unlink()
    assert ids_in(store) == ids(range(300, 601))
    assert store.count(Always()).plain == 301
    assert store.faults
    shut(store)


def test_a_log_that_is_in_a_segment_already_is_not_read_twice(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append([incoming(*range(10))])
    (log,) = (tmp_path / "log").iterdir()
    content = log.read_bytes()
    store.seal()
    shut(store)
    log.write_bytes(content)  # killed between publishing and removing it
    assert ids_in(read_only(tmp_path)) == ids(range(10))
    store = opened(tmp_path)
    assert ids_in(store) == ids(range(10))
    assert not log.exists()
    shut(store)


def test_lines_alone_are_no_segment_where_the_log_has_them(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append([incoming(*range(10))])
    (log,) = (tmp_path / "log").iterdir()
    content = log.read_bytes()
    store.seal()
    columns = store._shelf.view().segments[0].columns
    shut(store)
    log.write_bytes(content)
    columns.unlink()  # killed between the two renames
    (columns.parent / "x.zst.tmp").write_text("draft")
    for path in (tmp_path / "log").iterdir():
        if path != log:
            path.unlink()
    store = opened(tmp_path)
    assert ids_in(store) == ids(range(10))
    assert (store.stats().segments, store.faults) == (0, [])
    assert not list(columns.parent.iterdir())
    store.seal()
    assert ids_in(store) == ids(range(10))
    shut(store)


@pytest.mark.parametrize("steps", range(4))
def test_a_removal_that_did_not_end_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    sealed(tmp_path)
    store = opened(tmp_path, options=StoreOptions(keep_bytes=1))
    with monkeypatch.context() as patch:
        end_after(patch, steps)
        with pytest.raises(Killed):
            store.retire(0)
    kept = ids(range(300 if steps else 0, 601))
    assert ids_in(read_only(tmp_path)) == kept
    shut(store)
    for _ in range(2):
        store = opened(tmp_path)
        assert (store.faults, store.notes) == ([], [])
        assert ids_in(store) == kept
        shut(store)
    names = [path.name for path in (tmp_path / "events").rglob("*.*")]
    assert len(names) == (2 if steps else 4)
    assert not (tmp_path / "damaged").exists()


def test_a_segment_that_cannot_be_removed_stays_in_sight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed(tmp_path)
    store = opened(tmp_path, options=StoreOptions(keep_bytes=1))

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(StoreError, match="Read-only"):
            store.retire(0)
    assert ids_in(store) == ids(range(601))
    assert store.retire(0).segments == 2
    assert ids_in(store) == ids([600])
    shut(store)


def test_several_logs_are_taken_up_and_sealed(tmp_path: Path) -> None:
    """As after a kill while one was being sealed."""
    store = opened(tmp_path)
    store.append([incoming(*range(10))])
    (log,) = (tmp_path / "log").iterdir()
    content = log.read_bytes()
    store.seal()
    segment = store._shelf.view().segments[0]
    store.append([incoming(*range(10, 20))])
    shut(store)
    segment.columns.unlink()
    segment.lines.unlink()
    log.write_bytes(content)
    store = opened(tmp_path)
    assert ids_in(store) == ids(range(20))
    assert store.append([incoming(5, 15, 20)])[0].kept == [2]
    store.seal_if_due(START_US)
    store.wait()
    assert (store.stats().segments, store.stats().open_rows) == (1, 11)
    assert ids_in(store) == ids(range(21))
    assert not log.exists()
    shut(store)


def test_no_file_stays_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    for _ in range(2):
        store = opened(tmp_path, options=StoreOptions(seal_rows=5))
        store.append([incoming(*range(8))])
        store.seal_if_due(0)
        store.wait()
        frames = store.frames()
        next(frames)
        del frames
        list(store.fetch(store.select(Always())))
        shut(store)
    after = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    assert after == before
