"""Where the parser of EQL stands among its tokens, and which brackets are open there."""

from __future__ import annotations

from typing import NoReturn

from barrelman.query.eqllex import Token, fail, tokenize
from barrelman.query.eqlmistakes import explain_leftover, explain_missing

MAX_NESTING = 50
"""How many brackets may be open at once, and how many calls or sums may lie in each other."""

_CLOSERS = {"(": ")", "[": "]", "![": "]"}


class Cursor:
    """What is expected and is not there raises QuerySyntaxError."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokenize(text)
        self.position = 0
        self.brackets: list[Token] = []

    @property
    def token(self) -> Token:
        return self.tokens[self.position]

    @property
    def following(self) -> Token:
        """The token behind the next one."""
        return self.tokens[min(self.position + 1, len(self.tokens) - 1)]

    @property
    def end(self) -> int:
        """Where what has been taken ends."""
        return self.tokens[self.position - 1].span[1]

    def take(self) -> Token:
        token = self.token
        self.position += token.kind != "end"
        return token

    def take_word(self, *words: str) -> Token | None:
        return self.take() if self.token.is_word(*words) else None

    def take_symbol(self, *symbols: str) -> Token | None:
        return self.take() if self.token.is_symbol(*symbols) else None

    def expect_word(self, word: str, *, after: str) -> None:
        if not self.take_word(word):
            self.missing(f"`{word}`", after=after)

    def expect_symbol(self, symbol: str, *, after: str) -> None:
        if not self.take_symbol(symbol):
            self.missing(f"`{symbol}`", after=after)

    def missing(self, wanted: str, *, after: str) -> NoReturn:
        raise explain_missing(self.text, token=self.token, wanted=wanted, after=after)

    def fail(self, token: Token, message: str, hint: str | None = None) -> NoReturn:
        fail(self.text, token.span[0], message, hint)

    def open(self) -> Token:
        """Takes an opening bracket. Refuses one too many."""
        opener = self.take()
        if len(self.brackets) >= MAX_NESTING:
            hint = "remove brackets that group nothing, or split the query"
            self.fail(opener, f"brackets are nested more than {MAX_NESTING} deep", hint)
        self.brackets.append(opener)
        return opener

    def close(self, opener: Token) -> Token:
        if not self.token.is_symbol(_CLOSERS[str(opener.value)]):
            self.leftover()
        self.brackets.pop()
        return self.take()

    def leftover(self) -> NoReturn:
        raise explain_leftover(
            self.text, tokens=self.tokens, position=self.position, brackets=self.brackets
        )
