from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Generator, Iterator

import pytest

from barrelman.settings.readahead import ReadAhead

PIECE = b"x" * 1000


def threads() -> int:
    return sum(thread.name == "barrelman-read-ahead" for thread in threading.enumerate())


class Maker:
    """Makes pieces without end, or up to an error, and knows how many."""

    def __init__(self, *, fails_after: int | None = None) -> None:
        self.fails_after = fails_after
        self.made = self.taken = self.most_ahead = 0
        self.is_closed = False
        self.thread: threading.Thread | None = None

    def pieces(self) -> Generator[bytes, None, None]:
        self.thread = threading.current_thread()
        try:
            while self.made != self.fails_after:
                self.made += 1
                self.most_ahead = max(self.most_ahead, self.made - self.taken)
                yield PIECE
            raise OSError(self.made)
        finally:
            self.is_closed = True

    def taking(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.taken += 1
            yield piece


def test_pieces_come_in_order_from_another_thread() -> None:
    made_in: set[int] = set()

    def pieces() -> Generator[bytes, None, None]:
        for number in range(1000):
            made_in.add(threading.get_ident())
            yield b"%d" % number

    run = ReadAhead(max_bytes=100).run(pieces())
    assert list(run) == [b"%d" % number for number in range(1000)]
    assert len(made_in) == 1
    assert threading.get_ident() not in made_in
    assert threads() == 0


def test_an_error_comes_after_all_that_was_made() -> None:
    for count in (0, 1, 5, 1000):
        maker = Maker(fails_after=count)
        taken: list[bytes] = []
        with pytest.raises(OSError, match=str(count)):
            taken.extend(maker.taking(ReadAhead(max_bytes=5000).run(maker.pieces())))
        assert maker.taken == count
        assert threads() == 0


def test_no_more_is_held_than_allowed() -> None:
    """One piece is being made, and one was taken from what is held but not counted here yet."""
    maker = Maker(fails_after=5000)
    with pytest.raises(OSError, match="5000"):
        for _ in maker.taking(ReadAhead(max_bytes=10 * len(PIECE)).run(maker.pieces())):
            pass
    assert maker.most_ahead <= 10 + 2


@pytest.mark.parametrize("taken", [1, 7, 100])
@pytest.mark.parametrize("max_bytes", [1, 5000])
def test_closing_ends_the_thread_and_what_it_reads(taken: int, max_bytes: int) -> None:
    maker = Maker()
    ahead = ReadAhead(max_bytes=max_bytes)
    run = ahead.run(maker.pieces())
    for _ in range(taken):
        assert next(run) == PIECE
    assert not ahead.is_stopped
    assert maker.thread is not None
    assert maker.thread.daemon
    run.close()  # type: ignore[attr-defined]
    assert ahead.is_stopped
    assert maker.is_closed
    assert not maker.thread.is_alive()


def test_forgetting_is_closing() -> None:
    maker = Maker()
    run = ReadAhead(max_bytes=5000).run(maker.pieces())
    next(run)
    del run
    assert maker.is_closed
    assert threads() == 0


def test_what_was_never_begun_has_no_thread() -> None:
    maker = Maker()
    run = ReadAhead(max_bytes=5000).run(maker.pieces())
    assert threads() == 0
    run.close()  # type: ignore[attr-defined]
    assert maker.made == 0


CHILD = """
import itertools, os, sys
from barrelman.settings.readahead import ReadAhead

def run():
    return ReadAhead(max_bytes=10).run(bytes(1) for _ in itertools.count())

old = run()
next(old)
"""
FORKED = """
import warnings
warnings.simplefilter("ignore")  # of forking with threads
child = os.fork()
if child == 0:
    new = run()
    next(new), next(new)
    new.close()
    old.close()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
next(old)
old.close()
"""


@pytest.mark.parametrize("rest", ["", "sys.forever = old", FORKED], ids=["end", "kept", "fork"])
def test_a_process_ends_with_a_thread_at_work(rest: str) -> None:
    subprocess.run([sys.executable, "-c", CHILD + rest], check=True, timeout=60)
