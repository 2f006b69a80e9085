"""What a setting may be: its type, default, unit and bounds as data, and how a value is read.

The tables of the configuration are classes whose fields are made here; what is checked, shown
and documented comes from the same `Key`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from barrelman.errors import ConfigError
from barrelman.records.frozen import frozen

_SIZE = re.compile(r"(\d{1,15})\s*(?:([KMGT])i?B?|B)?", re.ASCII | re.IGNORECASE)
_SIZE_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_SPAN = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([smhd]?)", re.ASCII)
_SPAN_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

TextCheck = Callable[[str], str | None]
"""What is wrong with a text, as the end of a sentence; None where nothing is."""


@frozen
class Key:
    """One setting. `kind` is the word that the documentation uses for its type."""

    kind: str
    doc: str
    default: object = None
    unit: str | None = None
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    check: TextCheck | None = None
    table: type[Any] | None = None
    """Of a list of tables: the class of each."""
    is_required: bool = False
    is_secret: bool = False
    """Never shown; `NAME_file` may name a file that holds it."""


def _field(key: Key) -> Any:
    return dataclasses.field(default=key.default, metadata={"key": key})


def text(
    default: str | None,
    doc: str,
    *,
    check: TextCheck | None = None,
    is_required: bool = False,
    is_secret: bool = False,
) -> Any:
    return _field(
        Key("text", doc, default, check=check, is_required=is_required, is_secret=is_secret)
    )


def path(default: str | None, doc: str) -> Any:
    """A file or folder; relative ones count from the folder of the file they are written in."""
    return _field(Key("path", doc, default))


def choice(
    default: str | None, choices: Sequence[str], doc: str, *, is_required: bool = False
) -> Any:
    return _field(Key("choice", doc, default, choices=tuple(choices), is_required=is_required))


def switch(default: bool | None, doc: str) -> Any:
    return _field(Key("true or false", doc, default))


def whole(
    default: int | None,
    doc: str,
    *,
    least: int = 0,
    most: int = 10**9,
    unit: str | None = None,
) -> Any:
    return _field(Key("whole number", doc, default, unit=unit, least=least, most=most))


def number(
    default: float | None,
    doc: str,
    *,
    least: float = 0,
    most: float = 1e9,
    unit: str | None = None,
) -> Any:
    return _field(Key("number", doc, default, unit=unit, least=least, most=most))


def size(default: int | None, doc: str, *, least: int = 0, most: int = 1024**5) -> Any:
    return _field(Key("size", doc, default, unit="bytes", least=least, most=most))


def seconds(default: float | None, doc: str, *, least: float = 0, most: float = 1e9) -> Any:
    return _field(Key("duration", doc, default, unit="seconds", least=least, most=most))


def texts(doc: str, *, check: TextCheck | None = None, is_required: bool = False) -> Any:
    return _field(Key("list of texts", doc, (), check=check, is_required=is_required))


def paths(doc: str, *, is_required: bool = False) -> Any:
    return _field(Key("list of paths", doc, (), is_required=is_required))


def text_table(doc: str) -> Any:
    """Names and texts; secrets may be among them."""
    return _field(Key("table of texts", doc, None, is_secret=True))


def tables(table: type[Any], doc: str) -> Any:
    return _field(Key("list of tables", doc, (), table=table))


def is_in_file(key: Key) -> bool:
    """Whether `NAME_file` may name a file that holds the value."""
    return key.is_secret and key.kind == "text"


def keys_of(table: type[Any]) -> dict[str, Key]:
    """The settings of a table, in the order in which they are documented."""
    return {
        each.name: each.metadata["key"]
        for each in dataclasses.fields(table)
        if "key" in each.metadata
    }


def read_value(key: Key, value: object) -> Any:
    """A value as TOML gives it -> the value of the setting. Raises ConfigError without a place."""
    if key.kind in ("list of texts", "list of paths"):
        return _read_texts(key, value)
    if key.kind == "table of texts":
        return _read_text_table(key, value)
    if key.kind == "true or false":
        if not isinstance(value, bool):
            raise _wrong_type(key, value)
        return value
    if key.kind in ("text", "path", "choice"):
        return _read_text(key, value)
    if key.kind == "size":
        return _in_range(key, _scaled(key, value, _SIZE, _SIZE_UNITS, "64MiB"))
    if key.kind == "duration":
        return _in_range(key, _scaled(key, value, _SPAN, _SPAN_UNITS, "5m"))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or (key.kind == "whole number" and not isinstance(value, int)):
        raise _wrong_type(key, value)
    return _in_range(key, value)


def value_of_text(key: Key, written: str) -> object:
    """What is written in an environment variable -> what TOML would give for it."""
    bare = written.strip()
    if key.kind == "true or false":
        return {"true": True, "1": True, "yes": True, "on": True}.get(
            bare.casefold(), False if bare.casefold() in ("false", "0", "no", "off", "") else bare
        )
    if key.kind in ("whole number", "number", "size", "duration"):
        for read in (int, float) if key.kind != "whole number" else (int,):
            try:
                return read(bare)
            except ValueError:
                continue
        return bare
    if key.kind.startswith("list") and not bare.startswith("["):
        return [part.strip() for part in bare.split(",") if part.strip()]
    if key.kind.startswith(("list", "table")):
        return _toml_value(bare)
    return written.rstrip("\n") if key.is_secret else bare


def _toml_value(written: str) -> object:
    import tomllib

    try:
        return tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
        return written


def _read_text(key: Key, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong_type(key, value)
    if key.choices and value not in key.choices:
        near = nearest(value, key.choices)
        hint = f"did you mean '{near}'?" if near else f"one of {', '.join(key.choices)}"
        raise ConfigError(f"{shown(value)} is none of its values", hint=hint)
    if "\0" in value or (not value and (key.kind == "path" or key.is_required)):
        raise ConfigError("the text is empty" if not value else "the text holds a NUL character")
    wrong = key.check(value) if key.check is not None else None
    if wrong:
        raise ConfigError(f"{'the secret' if key.is_secret else shown(value)} {wrong}")
    return value


def _read_texts(key: Key, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        hint = f"write [{shown(value)}]" if isinstance(value, str) else None
        raise ConfigError(f"must be a list of texts, not {_type_of(value)}", hint=hint)
    for each in value:
        if not isinstance(each, str) or not each or "\0" in each:
            raise ConfigError(f"must be a list of texts, and {shown(each)} is none")
        wrong = key.check(each) if key.check is not None else None
        if wrong:
            raise ConfigError(f"{shown(each)} {wrong}")
    if key.is_required and not value:
        raise ConfigError("the list is empty")
    return tuple(value)


def _read_text_table(key: Key, value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _wrong_type(key, value)
    for name, each in value.items():
        if not isinstance(each, str):
            raise ConfigError(f"'{name}' must be a text, not {_type_of(each)}")
    return dict(value)


def _scaled(
    key: Key, value: object, pattern: re.Pattern[str], units: dict[str, int], example: str
) -> int | float:
    if isinstance(value, str):
        match = pattern.fullmatch(value.strip())
        if match is None:
            raise ConfigError(
                f"{shown(value)} is not a {key.kind}", hint=f"write {example}, or {key.unit}"
            )
        unit = match[2] or ""
        scale = units[unit.upper() if key.kind == "size" else unit]
        return int(match[1]) * scale if match[1].isdigit() else float(match[1]) * scale
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or (key.kind == "size" and not isinstance(value, int)):
        raise _wrong_type(key, value)
    assert isinstance(value, int | float)
    return value


def _in_range(key: Key, value: Any) -> Any:
    least = key.least if key.least is not None else float("-inf")
    most = key.most if key.most is not None else float("inf")
    if least <= value <= most:
        return value
    bound = f"at least {least:.15g}" if not value >= least else f"at most {most:.15g}"
    unit = f" {key.unit}" if key.unit else ""
    raise ConfigError(f"must be {bound}{unit}, not {shown(value)}")


def _wrong_type(key: Key, value: object) -> ConfigError:
    wanted = {"choice": "text", "path": "text"}.get(key.kind, key.kind)
    if key.kind in ("size", "duration"):
        example = "'64MiB'" if key.kind == "size" else "'5m'"
        wanted = f"number of {key.unit} or a text like {example}"
    article = "" if wanted.startswith("true") else "a "
    got = _type_of(value) if key.is_secret else f"{_type_of(value)} ({shown(value)})"
    return ConfigError(f"must be {article}{wanted}, not {got}")


def _type_of(value: object) -> str:
    names = ((bool, "true or false"), (str, "a text"), (int, "a number"), (float, "a number"))
    more = ((list, "a list"), (dict, "a table"))
    return next((name for kind, name in (*names, *more) if isinstance(value, kind)), "a date")


def shown(value: object) -> str:
    """A value in a sentence, cut where it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return _type_of(value)
    written = f"'{value}'" if isinstance(value, str) else str(value)
    return written if len(written) <= 80 else f"{written[:77]}…'"


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known name that was probably meant."""
    import difflib

    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else None
