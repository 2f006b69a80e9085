"""The data folder: one process owns it, others may read it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from barrelman.errors import Place, StoreError

VERSION = 1
# What a new volume may hold before anything of ours is in it.
_HARMLESS = frozenset({"lost+found", "LOCK"})


class DataFolder:
    """Where everything is kept. Its owner holds the lock until `close`, or until it ends."""

    def __init__(self, path: Path, *, read_only: bool, lock: int | None) -> None:
        self.path = path
        self.read_only = read_only
        self._lock = lock

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, read_only: bool = False) -> DataFolder:
        """Opens the folder; its owner makes it if there is none.

        Raises `StoreError` where another process owns it, where it is of a newer version, and
        where the folder holds other things than ours. With `read_only` nothing is locked, made
        or changed.
        """
        where = Path(path)
        if read_only:
            if not (where / "VERSION").is_file():
                raise StoreError("no data folder here", place=Place(str(where)))
            folder = cls(where, read_only=True, lock=None)
            folder._check_version()
            return folder
        try:
            # Events hold what was sent to the API server. Who opened a folder to others meant to.
            where.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = cls(where, read_only=False, lock=_take_lock(where / "LOCK"))
        except OSError as error:
            raise failure("the data folder cannot be opened", where, error) from error
        try:
            folder._settle()
        except BaseException:
            folder.close()
            raise
        return folder

    @property
    def events(self) -> Path:
        """Sealed segments, a folder a day."""
        return self.path / "events"

    @property
    def log(self) -> Path:
        """Commits that are in no segment yet."""
        return self.path / "log"

    @property
    def seen(self) -> Path:
        """Keys of the events of the last day."""
        return self.path / "seen.db"

    @property
    def database(self) -> Path:
        """Alerts, rules, runs and the rest that is not events."""
        return self.path / "barrelman.db"

    @property
    def temporary(self) -> Path:
        """For what may be lost at any time."""
        return self.path / "tmp"

    @property
    def damaged(self) -> Path:
        """What was found broken, put aside."""
        return self.path / "damaged"

    def close(self) -> None:
        """Lets go of the lock; twice is once."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _settle(self) -> None:
        """Makes a new folder ours, or checks that it is."""
        try:
            if not (self.path / "VERSION").exists():
                strangers = {each.name for each in self.path.iterdir()} - _HARMLESS
                if strangers:
                    raise StoreError(
                        f"the folder holds other things ({min(strangers)}) and no file VERSION",
                        place=Place(str(self.path)),
                        hint="name an empty folder, or one that does not exist yet",
                    )
                write_whole(self.path / "VERSION", b"%d\n" % VERSION)
            self._check_version()
            for each in (self.events, self.log, self.temporary):
                each.mkdir(exist_ok=True)
            sync_folder(self.path)
        except OSError as error:
            raise failure("the data folder cannot be set up", self.path, error) from error

    def _check_version(self) -> None:
        path = self.path / "VERSION"
        try:
            text = path.read_text(encoding="ascii", errors="replace").strip()
        except OSError as error:
            raise failure("its version cannot be read", path, error) from error
        if not text.isdecimal() or int(text[:9]) < 1:
            raise StoreError(f"{text[:20]!r} is no version", place=Place(str(path)))
        # There has been no other version yet: what is older will be migrated here.
        if int(text) > VERSION:
            raise StoreError(
                f"the data folder is of version {text}, and this program knows {VERSION}",
                place=Place(str(self.path)),
                hint="run the newer program that wrote it",
            )


def failure(what: str, path: Path, error: OSError) -> StoreError:
    """What the system said of a file, as one of our errors."""
    reason = error.strerror or str(error)
    hint = None
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        hint = "make room on the disk, or keep less"
    return StoreError(f"{what}: {reason}", place=Place(str(path)), hint=hint)


def sync_folder(path: Path) -> None:
    """Makes the names in a folder durable: files made, renamed and removed."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """A file that is there as a whole or not at all, and durable."""
    draft = path.with_name(path.name + ".tmp")
    with open(draft, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def _take_lock(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
        os.close(handle)
        raise StoreError(
            f"the data folder is in use by process {holder or 'of unknown number'}",
            place=Place(str(path.parent)),
            hint="one process owns a data folder; stop that one, or ask it",
        ) from None
    except OSError:
        os.close(handle)
        raise
    # The number is only for people: a full disk must not keep the service from starting.
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, b"%d\n" % os.getpid(), 0)
    return handle
