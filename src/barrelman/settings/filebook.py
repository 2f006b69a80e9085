"""What is known of the contents of followed files, in memory, and its way to the database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from barrelman.store.offsets import NO_FILE, FileOffset, OffsetBook, OffsetKey

_KEPT_US = 30 * 86_400 * 1_000_000
FileKey = tuple[int, int]
"""Device and inode."""


@dataclass(eq=False)
class Content:
    """What one file held, and its copies and packed forms hold, up to where it is stored."""

    path: str
    device: int
    inode: int
    offset: int
    head_bytes: int = 0
    head_hash: str = ""
    is_finished: bool = False
    is_live: bool = False
    """A file of it is open: copies of it are left alone."""
    seen_us: int = 0
    row: OffsetKey | None = None
    """Where it stands in the table."""
    is_changed: bool = True


class FileBook:
    """The contents of one cluster's files. One thread."""

    def __init__(self, book: OffsetBook, *, cluster: str) -> None:
        self._book = book
        self._cluster = cluster
        self._contents: list[Content] = []
        self._by_head: dict[tuple[int, str], Content] = {}
        self._by_file: dict[FileKey, Content] = {}
        self._gone: set[OffsetKey] = set()
        self._new_patterns: set[str] = set()
        self.known_patterns: set[str] = set()

    def load(self) -> None:
        """Raises StoreError."""
        self.known_patterns = self._book.patterns(self._cluster)
        for row in self._book.load(self._cluster):
            content = Content(row.path, row.device, row.inode, row.offset)
            content.head_bytes, content.head_hash = row.head_bytes, row.head_hash
            content.is_finished, content.seen_us = row.is_finished, row.updated_us
            content.row, content.is_changed = row.key, False
            self._enter(content)

    def find(self, head: bytes) -> Content | None:
        """The content that begins so."""
        for size in sorted({each for each, _ in self._by_head}, reverse=True):
            if 0 < size <= len(head):
                found = self._by_head.get((size, _hash(head[:size])))
                if found is not None:
                    return found
        return None

    def add(self, path: str, key: FileKey, *, offset: int, head: bytes, now_us: int) -> Content:
        """A content that was not met before; what the file held until now, no file holds."""
        self.let_go(key)
        content = Content(path, *key, offset)
        self._by_file[key] = content
        self._contents.append(content)
        self.note(content, offset=offset, head=head, now_us=now_us)
        return content

    def take(self, content: Content, path: str, key: FileKey) -> None:
        """The content is in this file now."""
        if (content.path, content.device, content.inode) == (path, *key):
            return
        if self._by_file.get(key) is not content:
            self.let_go(key)
        self._by_file.pop((content.device, content.inode), None)
        content.path, (content.device, content.inode) = path, key
        content.is_changed = True
        self._by_file[key] = content

    def let_go(self, key: FileKey) -> None:
        """The file holds other bytes now. A copy of what it held may still be met."""
        content = self._by_file.pop(key, None)
        if content is not None:
            content.device, content.inode = NO_FILE, 0
            content.is_changed = True

    def leave(self, content: Content) -> None:
        """No file is known to hold it any more."""
        if self._by_file.get((content.device, content.inode)) is content:
            self.let_go((content.device, content.inode))

    def note(self, content: Content, *, offset: int, head: bytes, now_us: int) -> None:
        """All before this offset is stored. A content is known by bytes that are."""
        head = head[:offset]
        if offset == content.offset and len(head) <= content.head_bytes:
            return
        content.offset, content.seen_us, content.is_changed = offset, now_us, True
        if len(head) > content.head_bytes:
            self._by_head.pop((content.head_bytes, content.head_hash), None)
            content.head_bytes, content.head_hash = len(head), _hash(head)
            self._by_head[content.head_bytes, content.head_hash] = content

    def finish(self, content: Content) -> None:
        """Nothing more of it will come, and its packed form need not be read."""
        content.is_changed = content.is_changed or not content.is_finished
        content.is_finished = True

    def note_pattern(self, pattern: str) -> None:
        """From now on, files that are new to the pattern are read from their start."""
        self.known_patterns.add(pattern)
        self._new_patterns.add(pattern)

    @property
    def is_changed(self) -> bool:
        return bool(self._new_patterns or self._gone) or any(
            each.is_changed and each.head_bytes for each in self._contents
        )

    def save(self, now_us: int) -> None:
        """Writes what has changed. Raises StoreError; it is then still to be saved."""
        changed = [each for each in self._contents if each.is_changed and each.head_bytes]
        rows = [self._row(each) for each in changed]
        keys = {row.key for row in rows}
        moved = {each.row for each in changed if each.row is not None} - keys
        self._book.save(
            rows,
            gone=(moved | self._gone) - keys,
            patterns=self._new_patterns,
            cluster=self._cluster,
            now_us=now_us,
        )
        for each, row in zip(changed, rows, strict=True):
            each.row, each.is_changed = row.key, False
        self._gone.clear()
        self._new_patterns.clear()

    def prune(self, present: Iterable[FileKey], *, now_us: int) -> None:
        """Forgets contents that no file has held for a month."""
        kept = set(present)
        for each in list(self._contents):
            key = (each.device, each.inode)
            if key in kept:
                each.seen_us = now_us
            elif not each.is_live and each.seen_us < now_us - _KEPT_US:
                self._forget(each)

    def _enter(self, content: Content) -> None:
        self._contents.append(content)
        self._by_head[content.head_bytes, content.head_hash] = content
        if content.device != NO_FILE:
            self._by_file[content.device, content.inode] = content

    def _forget(self, content: Content) -> None:
        self._contents.remove(content)
        if self._by_head.get((content.head_bytes, content.head_hash)) is content:
            del self._by_head[content.head_bytes, content.head_hash]
        if self._by_file.get((content.device, content.inode)) is content:
            del self._by_file[content.device, content.inode]
        if content.row is not None:
            self._gone.add(content.row)

    def _row(self, content: Content) -> FileOffset:
        return FileOffset(
            cluster=self._cluster,
            path=content.path,
            device=content.device,
            inode=content.inode,
            offset=content.offset,
            head_bytes=content.head_bytes,
            head_hash=content.head_hash,
            is_finished=content.is_finished,
            updated_us=content.seen_us,
        )

    def __iter__(self) -> Iterator[Content]:
        return iter(self._contents)


def _hash(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()
