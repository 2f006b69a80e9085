import os
import subprocess
import sys
from pathlib import Path

import pytest

from barrelman.errors import StoreError
from barrelman.store.folder import VERSION, DataFolder

HOLD = """
import sys
from barrelman.store.folder import DataFolder
folder = DataFolder.open(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_new_folder_is_made_and_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "data"
    with DataFolder.open(path) as folder:
        assert folder.events.is_dir()
        assert folder.log.is_dir()
        assert folder.temporary.is_dir()
    assert (path / "VERSION").read_text() == f"{VERSION}\n"
    DataFolder.open(path).close()


def test_a_new_folder_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "data"
    before = os.umask(0)
    try:
        DataFolder.open(path).close()
        assert path.stat().st_mode & 0o777 == 0o700
        path.chmod(0o750)  # its owner lets others read it
        DataFolder.open(path).close()
        assert path.stat().st_mode & 0o777 == 0o750
    finally:
        os.umask(before)


def test_two_owners_are_one_too_many(tmp_path: Path) -> None:
    with DataFolder.open(tmp_path), pytest.raises(StoreError, match=f"process {os.getpid()}"):
        DataFolder.open(tmp_path)
    DataFolder.open(tmp_path).close()


def test_the_error_names_the_other_process_and_its_end_frees_the_folder(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=rf"in use by process {other.pid}\b"):
            DataFolder.open(tmp_path)
        DataFolder.open(tmp_path, read_only=True).close()
        other.kill()
    DataFolder.open(tmp_path).close()


@pytest.mark.parametrize("text", [f"{VERSION + 1}\n", "999999999999999999999999\n"])
def test_a_newer_version_is_refused(tmp_path: Path, text: str) -> None:
    DataFolder.open(tmp_path).close()
    (tmp_path / "VERSION").write_text(text)
    for read_only in (False, True):
        with pytest.raises(StoreError, match="is of version"):
            DataFolder.open(tmp_path, read_only=read_only)
    (tmp_path / "VERSION").write_text(f"{VERSION}\n")
    DataFolder.open(tmp_path).close()  # the refusal let go of the lock


@pytest.mark.parametrize("content", [b"", b"one", b"0\n", b"-1\n", b"\xff\xfe", "٣\n".encode()])
def test_what_is_no_version_is_refused(tmp_path: Path, content: bytes) -> None:
    DataFolder.open(tmp_path).close()
    (tmp_path / "VERSION").write_bytes(content)
    with pytest.raises(StoreError, match="no version"):
        DataFolder.open(tmp_path)


def test_a_folder_of_something_else_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all I have")
    with pytest.raises(StoreError, match=r"thesis\.txt"):
        DataFolder.open(tmp_path)
    assert not (tmp_path / "VERSION").exists()


def test_a_fresh_volume_is(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    DataFolder.open(tmp_path).close()


def test_reading_needs_a_folder_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no data folder"):
        DataFolder.open(tmp_path / "none", read_only=True)
    assert not list(tmp_path.iterdir())


def test_a_file_in_its_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreError, match="cannot be opened"):
        DataFolder.open(tmp_path / "data")


def test_closing_twice_is_closing_once(tmp_path: Path) -> None:
    folder = DataFolder.open(tmp_path)
    folder.close()
    folder.close()
