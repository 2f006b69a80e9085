"""What was lost is told, and is new when it comes again; what is there is a second delivery."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from eventfaults import Killed, break_record, break_values, cut, end_after, ending, sealed
from eventrows import Clock, describe, ids, ids_in, incoming, opened, read_only, shut

from barrelman.records.where import Always
from barrelman.store.events import EventStore
from barrelman.store.folder import DataFolder
from barrelman.store.log import read_records


def ten_commits(path: Path) -> Path:
    store = opened(path)
    for start in range(0, 100, 10):
        store.append([incoming(*range(start, start + 10))])
    shut(store)
    (log,) = (path / "log").iterdir()
    return log


def cut_to(log: Path, commits: int, *, torn: int) -> None:
    """Leaves so many commits, and as many bytes of the next."""
    end = list(read_records(log))[commits].end
    with open(log, "r+b") as file:
        file.truncate(end + torn)


@pytest.mark.parametrize("torn", [0, 30])
@pytest.mark.parametrize("commits", [0, 4, 9])
def test_acknowledged_rows_that_were_cut_off_are_told_and_new_when_they_come_again(
    tmp_path: Path, commits: int, torn: int
) -> None:
    log = ten_commits(tmp_path)
    cut_to(log, commits, torn=torn)
    count = commits * 10
    store = opened(tmp_path)
    assert store.notes == []
    (fault,) = store.faults
    assert fault.startswith(f"{100 - count} acknowledged events were lost")
    assert (tmp_path / "damaged").exists() == (torn > 0)
    assert (store.next_seq, ids_in(store)) == (100, ids(range(count)))
    shut(store)
    store = opened(tmp_path)
    assert (store.notes, store.faults, store.next_seq) == ([], [], 100)
    (stored,) = store.append([incoming(*range(100))])
    assert (stored.first_seq, stored.kept) == (
        100,
        list(range(count, 100)) if count else range(100),
    )
    assert ids_in(read_only(tmp_path)) == ids_in(store) == ids(range(100))
    store.seal()
    assert ids_in(store) == ids(range(100))
    assert [ref.seq for ref in store.select(Always())] == [
        *range(count),
        *range(100, 200 - count),
    ]
    shut(store)
    store = opened(tmp_path)
    assert (store.notes, store.faults) == ([], [])
    assert store.append([incoming(*range(101))])[0].kept == [100]
    shut(store)


def test_keys_after_a_loss_are_entered_after_a_kill(tmp_path: Path) -> None:
    log = ten_commits(tmp_path)
    cut_to(log, 9, torn=30)
    store = opened(tmp_path)
    store.append([incoming(*range(200, 205))])
    copy = tmp_path.with_name(tmp_path.name + "-copy")
    shutil.copytree(tmp_path, copy)  # as it is when the process is killed here
    shut(store)
    store = opened(copy)
    assert store.faults == []
    assert store.append([incoming(*range(190, 206))])[0].kept == [*range(10), 15]
    shut(store)


def test_what_the_caller_knows_of_is_lost_where_it_is_not_found(tmp_path: Path) -> None:
    log = ten_commits(tmp_path)
    cut_to(log, 9, torn=30)
    (tmp_path / "seen.db").unlink()
    store = opened(tmp_path, at_least_seq=95)
    (fault,) = store.faults
    assert fault.startswith("5 acknowledged events were lost")
    assert store.next_seq == 95
    shut(store)
    store = opened(tmp_path, at_least_seq=95)
    assert (store.faults, store.notes, store.next_seq) == ([], [], 95)
    shut(store)
    empty = opened(tmp_path / "empty", at_least_seq=7)
    assert (len(empty.faults), empty.next_seq) == (1, 7)
    assert empty.append([incoming(1)])[0].first_seq == 7
    shut(empty)


LOSSES: dict[str, Callable[[Path], object]] = {
    "lines cut": lambda s: cut(ending(s, ".zst"), 0.5),
    "lines gone": lambda s: ending(s, ".zst").unlink(),
    "lines empty": lambda s: cut(ending(s, ".zst"), 0),
}


@pytest.mark.parametrize("how", LOSSES)
def test_lost_rows_of_a_segment_are_new_when_they_come_again(tmp_path: Path, how: str) -> None:
    stem = sealed(tmp_path)
    LOSSES[how](stem)
    store = opened(tmp_path)
    assert len(store.faults) == 1
    held = len(ids_in(store))
    assert held < 601
    (stored,) = store.append([incoming(*range(601))])
    assert (len(stored.kept), stored.first_seq) == (601 - held, 601)
    assert sorted(ids_in(store)) == sorted(ids(range(601)))
    shut(store)


def test_a_loss_is_not_forgotten_by_a_start_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, steps, lost = tmp_path / "0", 0, True
    while lost:
        path = tmp_path / str(steps)
        LOSSES["lines cut"](sealed(path))
        lost = False
        with monkeypatch.context() as patch:
            end_after(patch, steps)
            folder = DataFolder.open(path)
            try:
                store = EventStore.open(folder, clock=Clock(), describe=describe)
                store.close()
            except Killed:
                lost = True
        folder.close()
        store = opened(path)
        store.append([incoming(*range(601))])
        assert sorted(ids_in(store)) == sorted(ids(range(601))), steps
        shut(store)
        steps += 1
    assert steps > 2


def test_rows_of_a_broken_commit_are_new_when_they_come_again(tmp_path: Path) -> None:
    log = ten_commits(tmp_path)
    break_record(log, 4)
    store = opened(tmp_path)
    assert store.append([incoming(*range(100))])[0].kept == list(range(30, 40))
    shut(store)
    store = opened(tmp_path)
    assert store.append([incoming(*range(100))])[0].kept == []
    shut(store)


@pytest.mark.parametrize("how", ["gone", "rubbish", "empty"])
def test_keys_are_taken_from_segments_and_log_where_their_file_is_lost(
    tmp_path: Path, how: str
) -> None:
    sealed(tmp_path)
    path = tmp_path / "seen.db"
    path.unlink()
    if how != "gone":
        path.write_bytes(b"rubbish" * 1000 if how == "rubbish" else b"")
    store = opened(tmp_path)
    (stored,) = store.append([incoming(5, 305, 600, 601)])
    assert stored.kept == [3]
    assert len(store.faults) == (how == "rubbish")
    shut(store)


def test_keys_of_an_older_copy_are_completed(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append([incoming(1)])
    shut(store)
    old = (tmp_path / "seen.db").read_bytes()
    store = opened(tmp_path)
    store.append([incoming(2)])
    store.seal()
    store.append([incoming(3)])
    shut(store)
    (tmp_path / "seen.db").write_bytes(old)
    store = opened(tmp_path)
    assert store.append([incoming(1, 2, 3, 4)])[0].kept == [3]
    shut(store)


def test_keys_whose_file_breaks_while_it_runs_are_made_anew(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.append([incoming(*range(5000))])
    store.seal()
    shut(store)
    store = opened(tmp_path)
    with open(tmp_path / "seen.db", "r+b") as file:
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    (stored,) = store.append([incoming(*range(4900, 5010))])
    assert stored.kept == list(range(100, 110))
    assert "keys" in store.faults[0]
    assert ids_in(store) == ids(range(5010))
    shut(store)


@pytest.mark.parametrize("is_running", [True, False])
def test_keys_are_taken_from_lines_where_columns_are_broken(
    tmp_path: Path, is_running: bool
) -> None:
    stem = sealed(tmp_path)
    store = opened(tmp_path)
    break_values(stem)
    if is_running:
        store._writing._renew_seen()
    else:
        shut(store)
        (tmp_path / "seen.db").unlink()
        store = opened(tmp_path)
    assert store.append([incoming(*range(602))])[0].kept == [601]
    shut(store)


def test_a_segment_that_went_away_does_not_keep_keys_from_being_made_anew(tmp_path: Path) -> None:
    stem = sealed(tmp_path)
    store = opened(tmp_path)
    ending(stem, ".parquet").unlink()
    ending(stem, ".zst").unlink()
    store._writing._renew_seen()
    assert store.append([incoming(*range(300, 602))])[0].kept == [301]
    assert any(stem.name in fault for fault in store.faults)
    shut(store)
