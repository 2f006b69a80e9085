"""What regular expressions, edits and slop mean, by trying everything: for the oracle."""

from __future__ import annotations

from functools import cache
from itertools import product

from barrelman.query.regexp import Both, Chain, Chars, Either, Other, Repeat, Tree, parse_regexp


def matches_regexp(source: str, text: str, *, ignore_case: bool) -> bool:
    tree = parse_regexp(source, ignore_case=ignore_case)
    return len(text) in _ends(tree, text, 0)


def _ends(tree: Tree, text: str, start: int) -> set[int]:
    """Where a match that begins at `start` can end."""
    match tree:
        case Chars(ranges):
            code = ord(text[start]) if start < len(text) else -1
            return {start + 1} if any(low <= code <= high for low, high in ranges) else set()
        case Chain(parts):
            ends = {start}
            for part in parts:
                ends = {end for middle in ends for end in _ends(part, text, middle)}
            return ends
        case Either(choices):
            return {end for choice in choices for end in _ends(choice, text, start)}
        case Both(parts):
            return set.intersection(*(_ends(part, text, start) for part in parts))
        case Other(than):
            return {*range(start, len(text) + 1)} - _ends(than, text, start)
        case Repeat(of, least, most):
            found = {start} if least == 0 else set()
            ends, count = {start}, 0
            # Once they repeat as often as there are characters nothing new comes.
            while ends and count < (least + len(text) + 1 if most is None else most):
                ends = {end for middle in ends for end in _ends(of, text, middle)}
                count += 1
                if count >= least:
                    found |= ends
            return found


def is_within(wanted: str, text: str, edits: int) -> bool:
    """Optimal string alignment: as the definition has it."""

    @cache
    def distance(one: int, other: int) -> int:
        if not one or not other:
            return one + other
        ways = [
            distance(one - 1, other) + 1,
            distance(one, other - 1) + 1,
            distance(one - 1, other - 1) + (wanted[one - 1] != text[other - 1]),
        ]
        if one > 1 and other > 1 and wanted[one - 2 : one] == text[other - 2 : other][::-1]:
            ways.append(distance(one - 2, other - 2) + 1)
        return min(ways)

    found = distance(len(wanted), len(text))
    return found == 0 or (found <= edits and found < min(len(wanted), len(text)))


def are_near(wanted: list[str], found: list[str], slop: int) -> bool:
    """Some choice of places, one for each word and none twice, moves no two words further apart."""
    places = [[at for at, word in enumerate(found) if word == each] for each in wanted]
    for chosen in product(*places):
        moved = [at - number for number, at in enumerate(chosen)]
        if wanted and len(set(chosen)) == len(chosen) and max(moved) - min(moved) <= slop:
            return True
    return False
