"""Rows for tests of the event store, and a reader of their lines that knows no engine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from barrelman.records.rows import Row
from barrelman.store.events import EventStore, Incoming, StoreOptions
from barrelman.store.folder import DataFolder

START_US = 1_795_000_000_000_000
SECOND_US = 1_000_000


class Clock:
    """Tells the instant it was set to, and goes on by itself a little."""

    def __init__(self, now_us: int = START_US) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        self.now_us += 1
        return self.now_us


def describe(line: bytes, wrapper: bytes | None, cluster: str) -> Row:
    """The row of a line that `line_of` wrote."""
    told: dict[str, Any] = json.loads(line)
    digest = hashlib.blake2b(f"{cluster} {told['id']}".encode(), digest_size=12).digest()
    key = (int.from_bytes(digest[:8], "big") >> 1, int.from_bytes(digest[8:], "big"))
    return Row(
        line=line,
        wrapper=wrapper,
        key=key,
        time_us=told.get("time"),
        is_plain=told.get("plain", True),
        audit_id=told["id"],
        stage=told.get("stage", "ResponseComplete"),
        level=told.get("level"),
        verb=told.get("verb"),
        user=told.get("user"),
        resource=told.get("resource"),
        subresource=None,
        api_group=None,
        namespace=told.get("namespace"),
        name=told.get("name"),
        source_ips=tuple(told.get("ips", ())),
        status=told.get("status"),
        decision=told.get("decision"),
    )


def line_of(number: int, **members: Any) -> bytes:
    """A line of JSON; `members` are named as in `describe`."""
    told = {"id": f"id-{number}", "time": START_US + number, "user": f"user-{number % 7}"}
    return json.dumps({**told, **members}).encode("ascii")


def rows(*numbers: int, cluster: str = "c", **members: Any) -> list[Row]:
    """A row for each number."""
    return [describe(line_of(number, **members), None, cluster) for number in numbers]


def incoming(*numbers: int, cluster: str = "c", **members: Any) -> Incoming:
    """The same, as they arrive."""
    return Incoming(cluster, rows(*numbers, cluster=cluster, **members))


def opened(
    path: Path,
    *,
    clock: Clock | None = None,
    options: StoreOptions | None = None,
    at_least_seq: int = 0,
) -> EventStore:
    """The store of a folder; `shut` closes both."""
    folder = DataFolder.open(path)
    try:
        return EventStore.open(
            folder,
            clock=clock or Clock(),
            describe=describe,
            options=options,
            at_least_seq=at_least_seq,
        )
    except BaseException:
        folder.close()
        raise


def shut(store: EventStore) -> None:
    """Closes a store and its folder, so that it may be opened again."""
    store.close()
    store.folder.close()


def read_only(path: Path) -> EventStore:
    """What another process sees."""
    folder = DataFolder.open(path, read_only=True)
    return EventStore.open(folder, clock=Clock(), describe=describe)


def lines_in(store: EventStore, **bounds: Any) -> list[tuple[int, bytes]]:
    """Seqs and lines of all rows in the frames of a store."""
    found = []
    for frame in store.frames(**bounds):
        ends = [*frame.starts[1:], len(frame.lines)]
        for seq, start, end in zip(frame.seqs, frame.starts, ends, strict=True):
            assert frame.lines[end - 1 : end] == b"\n"
            found.append((seq, frame.lines[start : end - 1]))
    return found


def ids_in(store: EventStore, **bounds: Any) -> list[str]:
    """The ids of all rows in the frames of a store, by seq."""
    return [json.loads(line)["id"] for _, line in lines_in(store, **bounds)]


def ids(numbers: Sequence[int]) -> list[str]:
    """The ids that `rows` gives them."""
    return [f"id-{number}" for number in numbers]
