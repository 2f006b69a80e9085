"""How often a piece stands on a line: guessed, or counted in a sample of the log.

A wrong share costs time, and no alert.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, TypeAlias

from barrelman.engine.find import Data, count

Clause: TypeAlias = frozenset[bytes]
"""Pieces of which one must stand on a line."""

_FEWEST_LINES: Final = 64

_WORDS_BY_SHARE: Final = {
    1.0: "kind Event apiVersion audit.k8s.io level auditID stage ResponseComplete requestURI "
    "api verb user username groups system system:authenticated sourceIPs userAgent objectRef "
    "resource namespace name responseStatus metadata code requestReceivedTimestamp stageTimestamp "
    "annotations authorization.k8s.io/decision authorization.k8s.io/reason allow decision reason",
    0.9: "system: kubernetes kube linux",
    0.8: "Metadata get",
    0.5: "uid kube-system serviceaccount serviceaccounts system:serviceaccount",
    0.3: "apiGroup node kubelet system:node",
    0.15: "pods",
    0.1: "requestObject responseObject spec image status host containers env value nodes leases "
    "configmaps secrets default update path resources",
    0.06: "list create watch services endpoints kubectl subresource events",
    0.03: "delete patch",
}
_SHARES: Final = {word: share for share, words in _WORDS_BY_SHARE.items() for word in words.split()}
_BY_LETTERS: Final = {1: 1.0, 2: 0.1, 3: 0.04, 4: 0.02, 5: 0.008}
_RARE: Final = 0.004


@lru_cache(maxsize=65_536)
def guessed_share(clause: Clause) -> float:
    """A guess at the share of events that hold a piece of the clause; 1 is each of them.

    Shares by verb are those of a busy window; a wrong guess costs time, and no alert.
    """
    return min(1.0, sum(_share_of_piece(piece) for piece in clause))


@lru_cache(maxsize=65_536)
def _share_of_piece(piece: bytes) -> float:
    text = piece.decode("ascii").strip('"')
    known = _SHARES.get(text, _SHARES.get(text.strip(":-/. "), 0.0))
    quotes = piece.count(b'"')
    if not known and quotes < 2:
        known = max((share for word, share in _SHARES.items() if text in word), default=0.0)
    return known or _BY_LETTERS.get(len(text), _RARE) / (1 + 2 * quotes)


class Shares:
    """Of a sample of lines; what it does not hold is as rare as it was guessed, or rarer."""

    def __init__(self, sample: Data = b"") -> None:
        lines = count(sample, b"\n", 0, len(sample))
        self._sample = sample if lines >= _FEWEST_LINES else b""
        self._lines = lines
        self._known: dict[bytes, float] = {}

    def of(self, clause: Clause) -> float:
        """The share of lines that hold a piece of the clause, at the most; 1 is each of them."""
        if not self._sample:
            return guessed_share(clause)
        return min(1.0, sum(map(self._of_piece, clause)))

    def _of_piece(self, piece: bytes) -> float:
        share = self._known.get(piece)
        if share is None:
            found = count(self._sample, piece, 0, len(self._sample))
            share = found / self._lines or min(_share_of_piece(piece), 0.5 / self._lines)
            self._known[piece] = share
        return share
