"""Ways in which the files of the event store break, and its process ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eventrows import incoming, opened, shut

from barrelman.store.log import read_records


def sealed(path: Path) -> Path:
    """A store of two segments and a log; the stem of the first segment."""
    store = opened(path)
    for at in range(2):
        store.append([incoming(*range(at * 300, at * 300 + 300), pad="x" * 900)])
        store.seal()
    store.append([incoming(600)])
    stem = store._shelf.view().segments[0].stem
    shut(store)
    return stem


def ending(stem: Path, text: str) -> Path:
    return stem.with_name(stem.name + text)


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share) if share < 0 else int(len(content) * share)])


def break_values(stem: Path) -> None:
    """Of the columns all but the end, which is all that is looked at when they are loaded."""
    columns = ending(stem, ".parquet")
    content = bytearray(columns.read_bytes())
    content[4 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4)
    columns.write_bytes(content)


def break_record(log: Path, which: int) -> None:
    record = list(read_records(log))[which]
    broken = bytearray(log.read_bytes())
    broken[record.end - 10] ^= 1
    log.write_bytes(broken)


class Killed(BaseException):
    """Stands for the end of a process."""


def end_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """What changes names of files works `steps` times from now on."""
    left = [steps]

    def counted(work: Callable[..., None]) -> Callable[..., None]:
        def step(*args: Any, **options: Any) -> None:
            if not left[0]:
                raise Killed
            left[0] -= 1
            work(*args, **options)

        return step

    for name in ("unlink", "rename", "replace", "rmdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
