"""What is nearly so: texts a few edits away, and words with other words between them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from barrelman.engine.patterns import TextTest

WordsTest = Callable[[Sequence[str]], bool]


def within_edits(wanted: str, edits: int) -> TextTest:
    """A test of being at most so many edits away from a text.

    An edit adds, drops or changes a character, or swaps two neighbours. As in Lucene a text of one
    or two characters has no others near it that share none with it: the edits must be fewer than
    the characters of the shorter text.
    """
    size = len(wanted)

    def test(text: str) -> bool:
        if text == wanted:
            return True
        most = min(edits, size - 1, len(text) - 1)
        return most > 0 and abs(len(text) - size) <= most and _distance(text, wanted) <= most

    return test


def _distance(one: str, other: str) -> int:
    """Edits between texts that hardly differ in length; no character is edited twice."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for at, char in enumerate(one, start=1):
        oldest, before = before, row
        row = [at]
        for place, wanted in enumerate(other, start=1):
            cost = min(before[place] + 1, row[place - 1] + 1, before[place - 1] + (char != wanted))
            is_swapped = at > 1 and place > 1 and char == other[place - 2] and one[at - 2] == wanted
            row.append(min(cost, oldest[place - 2] + 1) if is_swapped else cost)
    return row[-1]


def near_words(wanted: Sequence[str], slop: int) -> WordsTest:
    """A test of holding these words, moved by so many places in all at most.

    With 0 they stand side by side in their order; two that changed places were moved by 2. A word
    that is asked for twice must be there twice.
    """
    places_of: dict[str, list[int]] = {}
    for at, word in enumerate(wanted):
        places_of.setdefault(word, []).append(at)

    def test(found: Sequence[str]) -> bool:
        held: dict[str, list[int]] = {word: [] for word in places_of}
        for at, word in enumerate(found):
            if word in held:
                held[word].append(at)
        if any(len(held[word]) < len(places) for word, places in places_of.items()):
            return False
        starts = {
            at - place
            for word, places in places_of.items()
            for place in places
            for at in held[word]
        }
        return any(
            all(_fits(held[word], places, start, slop) for word, places in places_of.items())
            for start in starts
        )

    return test


def _fits(held: list[int], places: list[int], start: int, slop: int) -> bool:
    """Whether each place takes one of the held ones, none twice, at most `slop` behind it."""
    last = -1
    for place in places:
        low = start + place
        at = bisect_left(held, max(low, last + 1))
        if at == len(held) or held[at] > low + slop:
            return False
        last = held[at]
    return True
