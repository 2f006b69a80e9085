"""All rows there are at one moment, and reading their lines in order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from barrelman.store.bounds import Bounds
from barrelman.store.frames import Block, Gap, Record, Unpacker, merged, records_in
from barrelman.store.part import Part
from barrelman.store.segments import Segment, records_of


class View(NamedTuple):
    """Segments and parts in order of seq; no row is in two of them."""

    segments: tuple[Segment, ...]
    parts: tuple[Part, ...]
    next_seq: int


class Broken(NamedTuple):
    """Lines that were to be read and are damaged."""

    path: Path
    gap: Gap


def blocks_of(view: View, bounds: Bounds) -> Iterator[Block | Broken]:
    """Whole blocks that may hold rows within the bounds, in order of seq.

    Raises `FileNotFoundError` where a file of the view is gone when its turn comes.
    """
    unpacker = Unpacker()
    for segment in view.segments:
        if bounds.may_meet(segment.extent):
            for found in records_of(segment, bounds):
                if isinstance(found, Gap):
                    yield Broken(segment.lines, found)
                else:
                    yield unpacker.block(found)
    for part in view.parts:
        yield from part_blocks(part, bounds)


def part_blocks(part: Part, bounds: Bounds) -> Iterator[Block | Broken]:
    """The same for what is in one log."""
    groups = [group for group in part.groups if bounds.may_meet(group.extent)]
    if not groups:
        return
    unpacker = Unpacker()
    with open(part.log, "rb", buffering=0) as file:
        for group in groups:
            blocks: list[Block] = []
            for found in records_in(file.fileno(), at=group.at, end=group.end):
                if isinstance(found, Record):
                    blocks.append(unpacker.block(found))
                else:
                    yield Broken(part.log, found)
            yield from _dense(blocks)


def _dense(blocks: list[Block]) -> Iterator[Block]:
    """As one where each begins at the seq after the one before it."""
    if blocks and sum(block.head.rows for block in blocks) == (
        blocks[-1].head.first_seq + blocks[-1].head.rows - blocks[0].head.first_seq
    ):
        yield merged(blocks)
    else:
        yield from blocks


def size_of(paths: list[Path]) -> int:
    """Bytes of those files that are there."""
    total = 0
    for path in paths:
        try:
            total += os.stat(path).st_size
        except FileNotFoundError:
            continue
    return total
