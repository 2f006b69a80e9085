"""The configuration in writing: as a page of documentation, and as TOML to begin with."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from barrelman.errors import Place
from barrelman.settings.config import SECTIONS
from barrelman.settings.configchecks import Steps
from barrelman.settings.configload import PREFIX, LoadedConfig
from barrelman.settings.keytypes import Key, is_in_file, keys_of
from barrelman.settings.sinktable import SinkTable
from barrelman.sinks.options import KINDS, OPTIONS

HIDDEN: Final = "***"
_UNITS: Final = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))

_INTRODUCTION = f"""\
# Configuration

`barrelman serve` starts without a file. `barrelman serve --config FILE` reads one, in TOML;
`barrelman config check FILE` says all that is wrong with it, and `barrelman config show` prints
everything that could stand there, with what holds if it does not. This page is made from the same
tables.

What wins: flags, then environment variables, then the file, then the defaults.

**Environment.** `{PREFIX}SERVER__LISTEN` sets `listen` in `[server]`: two underscores go from the
table to the key. Lists are written with commas, or in TOML (`["a", "b"]`, `[{{name = "x"}}]`). With
`_FILE` behind it, as in `{PREFIX}SERVER__PUBLIC_URL_FILE`, a variable names a file that holds the
value. A key of a sink that stands in the file is set by its name:
`{PREFIX}SINKS__ONCALL__SECRET_FILE`.

**Secrets.** Of keys marked *secret*, `KEY_file` may stand in the file instead, and names a file
that holds the value; line feeds at its end are left away.

**Values.** A size is a number of bytes or a text like `"64MiB"`; a duration a number of seconds or
a text like `"5m"` (`s`, `m`, `h`, `d`). Relative paths in the file count from its folder, others
from where the process was started.
"""


def configuration_markdown() -> str:
    """The page of documentation."""
    parts = [_INTRODUCTION]
    for name, table in SECTIONS.items():
        parts.append(f"## `[{name}]`\n\n{_doc(table)}\n\n{_rows(table)}")
        for key, each in keys_of(table).items():
            if each.table is not None:
                title = f"### `[[{name}.{key}]]`"
                parts.append(f"{title}\n\n{_doc(each.table)}\n\n{_rows(each.table)}")
    parts.append(f"## `[[sinks]]`\n\n{_doc(SinkTable)}\n\n{_sink_rows()}")
    return "\n".join(parts)


def defaults_toml() -> str:
    """Every key with its default, commented out: a file to begin with."""
    lines = ["# Every key there is. What begins with '#' is what holds without it.", ""]
    for name, table in SECTIONS.items():
        lines += [*_comment(_doc(table)), f"[{name}]"]
        lines += _defaults(table)
        for key, each in keys_of(table).items():
            if each.table is not None:
                lines += [*_comment(_doc(each.table)), f"#[[{name}.{key}]]"]
                lines += _defaults(each.table)
    lines += [*_comment(_doc(SinkTable)), "#[[sinks]]", *_defaults(SinkTable)]
    return "\n".join(lines).rstrip("\n") + "\n"


def config_toml(loaded: LoadedConfig) -> str:
    """What holds, key by key, and behind what was set where that was. Secrets are left out."""
    assert loaded.config is not None
    lines: list[str] = []
    for name, table in SECTIONS.items():
        section = getattr(loaded.config, name)
        lines += [f"[{name}]", *_held(table, _values(table, section), (name,), loaded.places), ""]
        for key, each in keys_of(table).items():
            for number, inner in enumerate(getattr(section, key) if each.table else ()):
                assert each.table is not None
                held = _held(
                    each.table, _values(each.table, inner), (name, key, number), loaded.places
                )
                lines += [f"[[{name}.{key}]]", *held, ""]
    for number, sink in enumerate(loaded.config.sinks):
        lines += ["[[sinks]]", *_held(SinkTable, sink, ("sinks", number), loaded.places), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _held(
    table: type, values: Mapping[str, Any], steps: Steps, places: Mapping[Steps, Place]
) -> Iterator[str]:
    for name, key in keys_of(table).items():
        if key.table is not None or values.get(name) is None:
            continue
        value = HIDDEN if key.is_secret else values[name]
        place = places.get((*steps, name))
        origin = f"  # {place.path}{f':{place.line}' if place.line else ''}" if place else ""
        yield f"{name} = {_toml(key, value)}{origin}"


def _values(table: type, section: Any) -> dict[str, Any]:
    return {name: getattr(section, name) for name in keys_of(table)}


def _defaults(table: type) -> Iterator[str]:
    for name, key in keys_of(table).items():
        if key.table is None:
            yield from _comment(key.doc)
            yield f"#{name} = {_toml(key, key.default)}{_remark(key)}"
    yield ""


def _remark(key: Key) -> str:
    if key.is_required:
        return "  # required"
    return "  # not set" if key.default is None else ""


def _doc(table: type) -> str:
    return inspect.cleandoc(table.__doc__ or "")


def _comment(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield f"# {line.strip()}".rstrip()


def _toml(key: Key, value: object) -> str:
    if value is None:
        empty = {"true or false": "false", "list of texts": "[]", "table of texts": "{}"}
        is_number = key.kind in ("whole number", "number", "size", "duration")
        return "0" if is_number else empty.get(key.kind, '""')
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(json.dumps(each) for each in value)}]"
    if key.kind == "size":
        return _size(value)
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _size(value: Any) -> str:
    for unit, factor in _UNITS:
        if value and value % factor == 0:
            return f'"{value // factor}{unit}"'
    return str(value)


def _rows(table: type) -> str:
    lines = ["| key | type | default | |", "|---|---|---|---|"]
    for name, key in keys_of(table).items():
        lines.append(f"| `{name}` | {_kind(key)} | {_default(key)} | {_cell(key.doc)} |")
    return "\n".join(lines) + "\n"


def _sink_rows() -> str:
    kinds = {option.key: option.kinds for option in OPTIONS}
    kinds |= {"path": ("file",), "url": tuple(kind for kind in KINDS if kind != "file")}
    lines = ["| key | of | type | default | |", "|---|---|---|---|---|"]
    for name, key in keys_of(SinkTable).items():
        of = kinds.get(name, KINDS)
        which = "all" if set(of) == set(KINDS) else ", ".join(of)
        row = f"{_kind(key)} | {_default(key)} | {_cell(key.doc)}"
        lines.append(f"| `{name}` | {which} | {row} |")
    return "\n".join(lines) + "\n"


def _kind(key: Key) -> str:
    kind = "one of " + ", ".join(f"`{each}`" for each in key.choices) if key.choices else key.kind
    unit = f" ({key.unit})" if key.unit and key.kind in ("number", "whole number") else ""
    return f"{kind}{unit}{', *secret*' if is_in_file(key) else ''}"


def _default(key: Key) -> str:
    if key.is_required:
        return "**required**"
    if key.default is None or key.default == () or key.table is not None:
        return ""
    return f"`{_toml(key, key.default)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
