"""Files are followed through rotation: each whole line once, and offsets only of what is stored."""

from __future__ import annotations

import gzip
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hostile import HEAD

from barrelman.errors import BarrelmanError, StoreError
from barrelman.settings.follow import Follower
from barrelman.settings.followed import FollowState
from barrelman.store.database import Database
from barrelman.store.offsets import OffsetBook


def lines(first: int, stop: int, *, size: int = 40) -> bytes:
    """Events as the API server writes them, told apart by their ids."""
    rows = (HEAD + f',"auditID":"{n:08d}","pad":"{"x" * size}"}}\n' for n in range(first, stop))
    return "".join(rows).encode()


def ids(data: bytes) -> list[int]:
    return [int(line.split(b'"auditID":"')[1][:8]) for line in data.splitlines() if line]


class FullError(BarrelmanError):
    retry_after_seconds = 0.01

    def __init__(self) -> None:
        super().__init__("full")


class Intake:
    """Takes chunks as the intake does; what it is told to refuse or to keep waiting, it does."""

    def __init__(self) -> None:
        self.chunks: list[tuple[bytes, str, str]] = []
        self.waiting: list[Future[Any]] = []
        self.holds = False
        self.refuses = 0
        self.fails = 0
        self.error: Exception = StoreError("the disk is full")

    def give(self, chunk: bytes, cluster: str, source: str) -> Future[Any]:
        if self.refuses:
            self.refuses -= 1
            raise FullError
        future: Future[Any] = Future()
        if self.fails:
            self.fails -= 1
            future.set_exception(self.error)
            return future
        self.chunks.append((chunk, cluster, source))
        if self.holds:
            self.waiting.append(future)
        else:
            future.set_result(None)
        return future

    @property
    def data(self) -> bytes:
        return b"".join(chunk for chunk, _, _ in self.chunks)

    @property
    def ids(self) -> list[int]:
        return ids(self.data)


class Bench:
    """A folder of logs, a database, and followers that come and go."""

    def __init__(self, folder: Path) -> None:
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.log = self.logs / "audit.log"
        self.database = Database.open(folder / "barrelman.db")
        self.intake = Intake()
        self.follower: Follower | None = None

    def follow(self, *patterns: str, from_start: bool = True, **options: Any) -> Follower:
        options = {"settle_seconds": 0.02, "scan_seconds": 0, "poll_seconds": 0.01} | options
        self.follower = Follower(
            patterns or (str(self.log),),
            cluster="prod",
            offsets=OffsetBook(self.database),
            give=self.intake.give,
            clock=lambda: time.time_ns() // 1000,
            from_start=from_start,
            **options,
        )
        return self.follower

    def run(self, until: Callable[[], bool] | None = None, *, seconds: float = 5) -> None:
        """Steps until a condition holds; without one until nothing moves for a while."""
        assert self.follower is not None
        deadline, quiet = time.monotonic() + seconds, 0
        while quiet < 8 if until is None else not until():
            assert time.monotonic() < deadline, (self.state, self.intake.ids[-5:])
            quiet = 0 if self.follower.turn() else quiet + 1
            time.sleep(0.005)

    def restart(self, *patterns: str, **options: Any) -> None:
        assert self.follower is not None
        self.follower.stop()
        self.follow(*patterns, **options)

    @property
    def state(self) -> FollowState:
        assert self.follower is not None
        return self.follower.state()

    def append(self, data: bytes, path: Path | None = None) -> None:
        with open(path or self.log, "ab") as file:
            file.write(data)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    if made.follower is not None:
        made.follower.stop()
    made.database.close()


def pack(path: Path, target: Path) -> None:
    """As a log rotator does: the packed file, and then the plain one is gone."""
    target.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def test_what_is_there_and_what_comes(bench: Bench) -> None:
    bench.append(lines(0, 5))
    bench.follow()
    bench.run(lambda: len(bench.intake.ids) == 5)
    bench.append(lines(5, 8))
    bench.run(lambda: bench.state.stored_bytes == len(lines(0, 8)))
    assert bench.intake.ids == list(range(8))
    assert {(cluster, source) for _, cluster, source in bench.intake.chunks} == {
        ("prod", str(bench.log))
    }
    (file,) = bench.state.files
    assert (file.offset, file.lag_bytes, file.last_error) == (len(lines(0, 8)), 0, None)


def test_by_default_only_what_comes_from_now_on(bench: Bench) -> None:
    bench.append(lines(0, 5) + lines(5, 6)[:30])
    (bench.logs / "audit-2026-11-23T07-06-00.000.log.gz").write_bytes(gzip.compress(lines(90, 95)))
    (bench.logs / "audit.log.1").write_bytes(lines(80, 85))
    bench.follow(from_start=False)
    bench.run()
    assert bench.intake.ids == []
    bench.append(lines(5, 6)[30:] + lines(6, 7))
    bench.run(lambda: len(bench.intake.ids) == 2)
    bench.restart(from_start=False)
    bench.append(lines(7, 8))
    bench.run()
    assert bench.intake.ids == [5, 6, 7]


def test_files_that_turn_up_later_are_new(bench: Bench) -> None:
    bench.append(lines(0, 5), bench.logs / "old.log")
    bench.follow(str(bench.logs / "*.log"), from_start=False)
    bench.run()
    bench.append(lines(5, 8), bench.logs / "new.log")
    bench.run(lambda: len(bench.intake.ids) == 3)
    bench.append(lines(8, 9), bench.logs / "old.log")
    bench.run(lambda: len(bench.intake.ids) == 4)
    assert bench.intake.ids == [5, 6, 7, 8]


def test_a_log_that_is_not_there_yet(bench: Bench) -> None:
    bench.follow(from_start=False)
    bench.run()
    assert any("audit.log" in problem for problem in bench.state.problems)
    bench.append(lines(0, 2))
    bench.run(lambda: len(bench.intake.ids) == 2)
    assert bench.state.problems == ()


def test_renamed_and_a_new_one_in_its_place(bench: Bench) -> None:
    bench.append(lines(0, 5))
    bench.follow()
    bench.run(lambda: len(bench.intake.ids) == 5)
    bench.append(lines(5, 7))
    aside = bench.logs / "audit-2026-11-23T07-06-00.000.log"
    bench.log.rename(aside)
    bench.append(lines(7, 9), aside)  # whoever writes it has not noticed yet
    bench.append(lines(9, 12))
    bench.run(lambda: len(bench.intake.ids) == 12)
    assert sorted(bench.intake.ids) == list(range(12))


def test_the_packed_form_of_what_was_read_is_not_read(bench: Bench) -> None:
    bench.append(lines(0, 50))
    bench.follow(str(bench.logs / "audit*"))
    bench.run(lambda: len(bench.intake.ids) == 50)
    bench.append(lines(50, 60))
    aside = bench.logs / "audit-2026-11-23T07-06-00.000.log"
    bench.log.rename(aside)
    bench.append(lines(60, 61))
    pack(aside, bench.logs / (aside.name + ".gz"))
    bench.run(lambda: len(bench.intake.ids) == 61)
    bench.run()
    assert bench.intake.ids == list(range(61))
    bench.restart(str(bench.logs / "audit*"))
    bench.run()
    assert bench.intake.ids == list(range(61))


def test_deleted_at_once_is_read_to_its_end(bench: Bench) -> None:
    bench.append(lines(0, 5))
    bench.follow()
    bench.run(lambda: len(bench.intake.ids) == 5)
    bench.append(lines(5, 7) + lines(7, 8)[:-1])  # its last line has no line feed
    bench.log.unlink()
    bench.run(lambda: len(bench.intake.ids) == 8)
    bench.run(lambda: not bench.state.files)
    assert bench.intake.ids == list(range(8))


@pytest.mark.parametrize("grown", [3, 60])
def test_copied_and_truncated(bench: Bench, grown: int) -> None:
    """Also where it has grown beyond the old offset before anyone looks."""
    bench.append(lines(0, 40))
    bench.follow()
    bench.run(lambda: len(bench.intake.ids) == 40)
    bench.append(lines(40, 45))
    copy = bench.logs / "audit.log.1"
    copy.write_bytes(bench.log.read_bytes())
    bench.run(lambda: len(bench.intake.ids) == 45)
    bench.append(lines(45, 50))
    copy.write_bytes(bench.log.read_bytes())
    os.truncate(bench.log, 0)
    bench.append(lines(100, 100 + grown))
    bench.run(lambda: len(bench.intake.ids) == 50 + grown)
    assert sorted(bench.intake.ids) == [*range(50), *range(100, 100 + grown)]


@pytest.mark.parametrize("name", ["audit-2.log", "audit.log.bak", "audit_old.log.gz", "auditcopy"])
@pytest.mark.parametrize("is_followed", [True, False])
def test_copied_under_a_name_of_its_own_and_truncated(
    bench: Bench, name: str, is_followed: bool
) -> None:
    bench.append(lines(0, 40))
    bench.append(lines(70, 90), bench.logs / "audit-other.log")
    bench.follow()
    bench.run(lambda: len(bench.intake.ids) == 40)
    if not is_followed:
        assert bench.follower is not None
        bench.follower.stop()
    bench.append(lines(40, 50))
    data = bench.log.read_bytes()
    (bench.logs / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    os.truncate(bench.log, 0)
    bench.append(lines(100, 103))
    if not is_followed:
        bench.follow()
    bench.run(lambda: len(bench.intake.ids) == 53)
    bench.run()
    time.sleep(0.1)
    bench.run()
    assert sorted(bench.intake.ids) == [*range(50), *range(100, 103)]
    assert (bench.state.problems, bench.state.lost_files) == ((), 0)
    bench.restart()
    bench.run()
    assert len(bench.intake.ids) == 53


def test_a_copy_is_read_on_after_a_stop(bench: Bench) -> None:
    bench.append(lines(0, 10))
    bench.follow()
    bench.run(lambda: len(bench.intake.ids) == 10)
    bench.append(lines(10, 200))
    (bench.logs / "audit-2.log").write_bytes(bench.log.read_bytes())
    os.truncate(bench.log, 0)
    bench.append(lines(300, 301))
    bench.restart(chunk_bytes=1000, most_chunks=1)
    bench.run(lambda: len(bench.intake.ids) > 50)
    assert len(bench.intake.ids) < 201
    bench.restart()
    bench.run(lambda: len(bench.intake.ids) == 201)
    bench.run()
    assert sorted(bench.intake.ids) == [*range(200), 300]


def test_what_was_truncated_unread_is_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.append(lines(0, 100))
    bench.intake.holds = True
    bench.follow(chunk_bytes=1000, most_chunks=1)
    bench.run(lambda: bool(bench.intake.waiting))
    bench.append(lines(100, 200))  # it is seen, but nothing is read with so much in flight
    bench.run()
    unread = len(lines(0, 200)) - len(bench.intake.data)
    os.truncate(bench.log, 0)
    bench.append(lines(300, 301))
    bench.intake.holds = False
    bench.intake.waiting[0].set_result(None)
    bench.run(lambda: bool(bench.state.problems))
    told = f"{unread} bytes of {bench.log} were not read: no copy of it was found beside it"
    assert bench.state.problems == (told,)
    assert (bench.state.lost_files, bench.state.lost_bytes) == (1, unread)
    assert told in caplog.text
    assert bench.intake.ids[-1] == 300


def test_what_was_replaced_while_nobody_followed_is_told_once(bench: Bench) -> None:
    bench.append(lines(0, 40))
    bench.follow()
    bench.run(lambda: len(bench.intake.ids) == 40)
    assert bench.follower is not None
    bench.follower.stop()
    bench.log.unlink()
    bench.append(lines(100, 110))
    bench.follow()
    bench.run(lambda: bool(bench.state.problems))
    (told,) = bench.state.problems
    assert f"{bench.log} held behind byte {len(lines(0, 40))}, if anything, was not read" in told
    assert bench.state.lost_files == 1
    bench.restart()
    time.sleep(0.1)
    bench.run()
    assert bench.state.problems == ()
    assert bench.intake.ids == [*range(40), *range(100, 110)]


def test_a_log_that_is_emptied_when_it_was_read_loses_nothing(bench: Bench) -> None:
    bench.append(lines(0, 40))
    bench.follow()
    bench.run(lambda: bench.state.stored_bytes == len(lines(0, 40)))
    os.truncate(bench.log, 0)
    bench.append(lines(100, 101))
    bench.run(lambda: len(bench.intake.ids) == 41)
    time.sleep(0.1)
    bench.run()
    assert (bench.state.problems, bench.state.lost_files) == ((), 0)


def test_rotated_twice_while_nobody_followed(bench: Bench) -> None:
    bench.append(lines(0, 30))
    bench.follow(from_start=False)
    bench.run()
    bench.append(lines(30, 40))
    bench.run(lambda: len(bench.intake.ids) == 10)
    bench.follower.stop() if bench.follower else None
    bench.append(lines(40, 50))
    bench.log.rename(bench.logs / "audit.log.1")
    bench.append(lines(50, 60))
    pack(bench.logs / "audit.log.1", bench.logs / "audit.log.2.gz")
    bench.log.rename(bench.logs / "audit.log.1")
    bench.append(lines(60, 70))
    bench.follow(from_start=False)
    bench.run(lambda: len(bench.intake.ids) == 40)
    assert sorted(bench.intake.ids) == list(range(30, 70))


def test_renamed_out_of_the_patterns_while_nobody_followed(bench: Bench) -> None:
    pattern = str(bench.logs / "*.log")
    bench.append(lines(0, 30))
    bench.follow(pattern)
    bench.run(lambda: len(bench.intake.ids) == 30)
    assert bench.follower is not None
    bench.follower.stop()
    bench.append(lines(30, 33))
    bench.log.rename(bench.logs / "audit.log.1")
    bench.append(lines(90, 95), bench.logs / "audit.log.2")  # never matched, and stays unread
    bench.append(lines(33, 35))
    bench.follow(pattern)
    bench.run(lambda: len(bench.intake.ids) == 35)
    bench.run()
    assert sorted(bench.intake.ids) == list(range(35))


def test_back_fill_is_in_order_and_whole(bench: Bench) -> None:
    for number, name in enumerate(["audit.log.3.gz", "audit.log.2.gz"]):
        data = lines(number * 100, number * 100 + 100)
        (bench.logs / name).write_bytes(gzip.compress(data))
    bench.append(lines(200, 300), bench.logs / "audit.log.1")
    bench.append(lines(300, 310))
    old = time.time() - 100
    for each in bench.logs.iterdir():
        os.utime(each, (old, old))
    bench.follow(chunk_bytes=1024)
    bench.run(lambda: len(bench.intake.ids) == 310)
    assert sorted(bench.intake.ids) == list(range(310))
    bench.run()
    bench.restart()
    bench.run()
    assert len(bench.intake.ids) == 310


def test_a_line_waits_for_its_rest(bench: Bench) -> None:
    row = lines(0, 1)
    bench.append(row[:20])
    bench.follow()
    bench.run()
    bench.append(row[20:50])
    bench.run()
    assert bench.intake.chunks == []
    bench.append(row[50:])
    bench.run(lambda: bench.intake.data == row)


def test_chunks_end_at_line_ends(bench: Bench) -> None:
    bench.append(lines(0, 400))
    bench.follow(chunk_bytes=1000)
    bench.run(lambda: len(bench.intake.ids) == 400)
    assert len(bench.intake.chunks) > 40
    assert all(chunk.endswith(b"}\n") for chunk, _, _ in bench.intake.chunks)
    assert bench.intake.data == lines(0, 400)


def test_lines_without_an_end_are_passed_over(bench: Bench) -> None:
    long = b'{"kind":"Event","junk":"' + b"x" * 50_000 + b'"}\n'
    bench.append(lines(0, 2) + long + lines(2, 4))
    bench.follow(chunk_bytes=4096, max_line_bytes=10_000)
    bench.run(lambda: len(bench.intake.ids) == 4)
    assert bench.state.skipped_lines == 1
    assert bench.intake.data == lines(0, 4)
    bench.run()
    assert bench.state.files[0].offset == len(lines(0, 4)) + len(long)


def test_a_document_over_several_lines_stays_whole(bench: Bench) -> None:
    document = b'{\n  "kind": "EventList",\n  "items": [\n    {"auditID":"00000007"},\n'
    bench.append(lines(0, 2) + document)
    bench.follow(chunk_bytes=50, settle_seconds=30)
    bench.run()
    rest = b'    {"auditID":"00000008"}\n  ]\n}\n'
    bench.append(rest)
    bench.append(lines(2, 3))
    bench.run(lambda: bench.intake.data.endswith(lines(2, 3)))
    whole = [chunk for chunk, _, _ in bench.intake.chunks if b"EventList" in chunk]
    assert len(whole) == 1
    assert document + rest in whole[0]


def test_a_torn_document_is_handed_over_after_a_while(bench: Bench) -> None:
    torn = b'{\n  "kind": "Event",\n'
    bench.append(torn)
    bench.follow()
    bench.run(lambda: bench.intake.data == torn)
    bench.append(lines(0, 1))
    bench.run(lambda: bench.intake.data == torn + lines(0, 1))


def test_offsets_wait_for_what_stands_before_them(bench: Bench) -> None:
    bench.append(lines(0, 300))
    bench.intake.holds = True
    bench.follow(chunk_bytes=4000, most_chunks=3)
    bench.run(lambda: len(bench.intake.waiting) == 3)
    bench.run()
    assert len(bench.intake.chunks) == 3  # no more in flight than that
    bench.intake.waiting[1].set_result(None)
    bench.intake.waiting[2].set_result(None)
    bench.run()
    assert bench.state.files[0].offset == 0
    bench.intake.holds = False
    bench.intake.waiting[0].set_result(None)
    bench.run(lambda: len(bench.intake.ids) == 300)
    bench.run(lambda: bench.state.files[0].offset == len(lines(0, 300)))
    assert bench.intake.data == lines(0, 300)


def test_after_a_crash_nothing_is_left_out(bench: Bench) -> None:
    bench.append(lines(0, 300))
    bench.intake.holds = True
    bench.follow(chunk_bytes=4000, most_chunks=3)
    bench.run(lambda: len(bench.intake.waiting) == 3)
    bench.intake.waiting[0].set_result(None)
    bench.run()
    stored = ids(bench.intake.chunks[0][0])
    bench.intake.chunks.clear()  # the process ends here, with two chunks in flight
    bench.intake.holds = False
    bench.follow()
    bench.run(lambda: bool(bench.intake.ids) and bench.intake.ids[-1] == 299)
    again = set(bench.intake.ids) & set(stored)
    assert set(stored) | set(bench.intake.ids) == set(range(300))
    assert not again or len(again) == len(stored)


def test_after_a_stop_nothing_comes_twice(bench: Bench) -> None:
    bench.follow()
    for start in range(0, 60, 10):
        bench.append(lines(start, start + 10))
        bench.run(lambda: bool(bench.intake.ids))
        bench.restart()
    bench.run()
    assert bench.intake.ids == list(range(60))


def test_a_full_intake_is_asked_again(bench: Bench) -> None:
    bench.append(lines(0, 100))
    bench.intake.refuses = 3
    bench.follow(chunk_bytes=2000)
    bench.run(lambda: len(bench.intake.ids) == 100)
    assert bench.intake.data == lines(0, 100)


def test_what_was_not_stored_comes_again(bench: Bench) -> None:
    bench.append(lines(0, 10))
    bench.intake.fails = 1
    bench.follow()
    bench.run(lambda: len(bench.intake.ids) == 10)
    bench.run()
    assert bench.intake.data == lines(0, 10)
    assert bench.state.files[0].offset == len(lines(0, 10))
    assert bench.state.lost_chunks == 0


def test_a_packed_file_that_was_not_stored_comes_again(bench: Bench) -> None:
    (bench.logs / "audit.log.1.gz").write_bytes(gzip.compress(lines(0, 10)))
    bench.append(lines(10, 11))
    bench.intake.fails = 2
    bench.follow()
    bench.run(lambda: len(bench.intake.ids) == 11)
    assert sorted(bench.intake.ids) == list(range(11))


def test_a_bug_does_not_keep_back_the_rest(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.append(lines(0, 10))
    bench.intake.fails, bench.intake.error = 4, TypeError("a bug")
    bench.follow()
    assert bench.follower is not None
    monkeypatch.setattr(bench.follower, "_pause_until", 0.0)
    deadline = time.monotonic() + 5
    while not bench.state.lost_chunks and time.monotonic() < deadline:
        bench.follower.turn()
        monkeypatch.setattr(bench.follower, "_pause_until", 0.0)
    bench.append(lines(10, 12))
    bench.run(lambda: len(bench.intake.ids) == 2)
    assert bench.state.lost_chunks == 1
    assert "is lost" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told_and_tried_again(bench: Bench) -> None:
    bench.append(lines(0, 3))
    bench.log.chmod(0)
    bench.follow()
    bench.run()
    assert any("ermission" in problem for problem in bench.state.problems)
    bench.log.chmod(0o600)
    bench.run(lambda: len(bench.intake.ids) == 3)
    assert bench.state.problems == ()


def test_what_cannot_be_opened_is_told_and_tried_again(bench: Bench) -> None:
    bench.log.symlink_to(bench.log)
    bench.follow(from_start=False)
    bench.run()
    assert any("symbolic links" in problem for problem in bench.state.problems)
    bench.log.unlink()
    bench.append(lines(0, 3))
    bench.run(lambda: len(bench.intake.ids) == 3)
    assert bench.state.problems == ()


def test_a_broken_packed_file_gives_what_it_holds(bench: Bench) -> None:
    whole = gzip.compress(lines(0, 2000, size=3))
    packed = bench.logs / "audit.log.1.gz"
    packed.write_bytes(whole[: len(whole) // 2])
    bench.append(lines(2000, 2001))
    bench.follow()
    bench.run(lambda: bool(bench.state.problems))
    bench.run()
    found = [each for each in bench.intake.ids if each < 2000]
    assert found == list(range(len(found)))
    assert len(found) > 100
    packed.write_bytes(whole)  # it was only being written
    bench.run(lambda: len(bench.intake.ids) == 2001)
    assert sorted(bench.intake.ids) == list(range(2001))
    assert bench.state.problems == ()


def test_links_as_kubernetes_makes_them(bench: Bench) -> None:
    pod, containers = bench.logs / "pods", bench.logs / "containers"
    pod.mkdir()
    containers.mkdir()
    target = pod / "0.log"
    bench.append(lines(0, 3), target)
    (containers / "kube-apiserver.log").symlink_to(target)
    (containers / "again.log").symlink_to(target)
    bench.follow(str(containers / "*.log"))
    bench.run(lambda: len(bench.intake.ids) == 3)
    target.rename(pod / "0.log.20261123-070600")
    bench.append(lines(3, 4), pod / "0.log.20261123-070600")
    bench.append(lines(4, 6), target)
    bench.run(lambda: len(bench.intake.ids) == 6)
    (containers / "kube-apiserver.log").unlink()
    (containers / "kube-apiserver.log").symlink_to(pod / "1.log")
    bench.append(lines(6, 8), pod / "1.log")
    bench.run(lambda: len(bench.intake.ids) == 8)
    assert sorted(bench.intake.ids) == list(range(8))


def test_one_log_for_two_clusters(bench: Bench) -> None:
    bench.append(lines(0, 4))
    bench.follow()
    bench.run(lambda: len(bench.intake.ids) == 4)
    other = Follower(
        [str(bench.log)],
        cluster="other",
        offsets=OffsetBook(bench.database),
        give=bench.intake.give,
        clock=lambda: 0,
        from_start=True,
    )
    other.turn()
    other.turn()
    other.stop()
    assert [cluster for _, cluster, _ in bench.intake.chunks] == ["prod", "other"]


class Rotator:
    """Writes a log and rotates it in every way, a few steps at a time."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench = bench
        self.random = Random(seed)
        self.written = 0
        self.rest = b""
        """Of a line that is written in pieces."""
        self.number = 0

    def step(self) -> None:
        steps = (self.write, self.write, self.write_part, self.rename, self.truncate, self.pack)
        self.random.choice(steps)()

    def write(self) -> None:
        count = self.random.randint(1, 30)
        size = self.random.choice((3, 400))
        data = lines(self.written, self.written + count, size=size)
        self.written += count
        self.bench.append(self.rest + data)
        self.rest = b""

    def write_part(self) -> None:
        self.finish_line()
        data = lines(self.written, self.written + 1)
        cut = self.random.randint(1, len(data) - 1)
        self.bench.append(data[:cut])
        self.rest = data[cut:]
        self.written += 1

    def finish_line(self) -> None:
        self.bench.append(self.rest)
        self.rest = b""

    def rename(self) -> None:
        if not self.bench.log.exists():
            return
        self.finish_line()
        self.number += 1
        self.bench.log.rename(self.aside())

    def truncate(self) -> None:
        if not self.bench.log.exists():
            return
        self.finish_line()
        self.number += 1
        self.aside().write_bytes(self.bench.log.read_bytes())
        os.truncate(self.bench.log, 0)

    def pack(self) -> None:
        if self.number and self.aside().exists():
            pack(self.aside(), self.aside().with_name(self.aside().name + ".gz"))

    def aside(self) -> Path:
        return self.bench.logs / f"audit-2026-11-23T07-{self.number:02d}-00.000.log"


@pytest.mark.parametrize("seed", range(12))
def test_rotated_in_every_way(bench: Bench, seed: int) -> None:
    """No line is left out; and none comes twice while chunks are stored at once."""
    rotator = Rotator(bench, seed)
    rotator.write()
    bench.follow(chunk_bytes=2000)
    for _ in range(40):
        rotator.step()
        for _ in range(rotator.random.choice((0, 1, 3))):
            assert bench.follower is not None
            bench.follower.turn()
        if rotator.random.random() < 0.1:
            bench.restart(chunk_bytes=2000)
    rotator.finish_line()
    bench.run(lambda: set(bench.intake.ids) == set(range(rotator.written)))
    bench.run()
    assert sorted(bench.intake.ids) == list(range(rotator.written))


def test_in_a_thread(bench: Bench) -> None:
    bench.append(lines(0, 1000))
    follower = bench.follow()
    follower.start()

    def write() -> None:
        for number in range(1000, 1020):
            bench.append(lines(number, number + 1))

    writer = threading.Thread(target=write)
    writer.start()
    writer.join()
    deadline = time.monotonic() + 5
    while len(bench.intake.ids) < 1020 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert bench.state.is_alive
    follower.stop()
    assert not follower.state().is_alive
    assert bench.intake.ids == list(range(1020))
