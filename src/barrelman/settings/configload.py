"""A file, the environment and flags -> a checked Config, or all that is wrong with them.

Flags win over the environment, which wins over the file, which wins over what is built in.
`BARRELMAN_SERVER__LISTEN` sets `server.listen`: two underscores go a table deeper. With `_FILE`
behind it, the value is what that file holds. A sink's key is `BARRELMAN_SINKS__NAME__KEY`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final, NamedTuple

from barrelman.errors import ConfigError, Place
from barrelman.records.frozen import frozen
from barrelman.rules.locate import Source, TomlLocator
from barrelman.settings.config import SECTIONS, Config
from barrelman.settings.configchecks import Conflict, Steps, find_conflicts
from barrelman.settings.keytypes import Key, is_in_file, keys_of, nearest, read_value, value_of_text
from barrelman.settings.sinktable import SinkTable

PREFIX: Final = "BARRELMAN_"
_MOST_BYTES: Final = 4 * 1024 * 1024
_MOST_SECRET_BYTES: Final = 64 * 1024
_KEY_BEFORE = re.compile(r"""([A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')[ \t]*=[ \t]*\Z""")
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")


class Flag(NamedTuple):
    """A flag of the command line that sets a key, as `server.listen`."""

    key: str
    value: object
    name: str
    """As it is typed, for errors: `--listen`."""


@frozen
class LoadedConfig:
    """`config` is None where there are errors."""

    config: Config | None
    errors: tuple[ConfigError, ...] = ()
    places: Mapping[Steps, Place] = field(default_factory=dict)
    """Where each key that was set was set: in the file, by a variable, by a flag."""

    def placed(self, conflicts: Iterable[Conflict]) -> list[ConfigError]:
        """Each at the first of its keys that was set."""
        return [_at_fault(conflict, self.places) for conflict in conflicts]


def load_config(
    file: str | None,
    *,
    environment: Mapping[str, str],
    flags: Sequence[Flag] = (),
) -> LoadedConfig:
    """Reads and checks everything; every problem is among the errors, not the first alone.

    Relative paths in the file count from its folder, others from where the process runs.
    A flag for `sinks` adds its tables to those of the file.
    """
    loading = _Loading()
    if file is not None:
        loading.take_file(file)
    loading.take_environment(environment)
    loading.take_flags(flags)
    return loading.finish()


class _Loading:
    def __init__(self) -> None:
        self.errors: list[ConfigError] = []
        self.tree: dict[str, Any] = {}
        """Checked values only."""
        self.places: dict[Steps, Place] = {}
        """Where a key stands, or the table that lacks it."""
        self.wrong: set[Steps] = set()

    # The three layers

    def take_file(self, file: str) -> None:
        try:
            text = _read_text(file, most_bytes=_MOST_BYTES)
            tree = _parse(text, file)
        except ConfigError as error:
            self.errors.append(error)
            return
        layer = _FileLayer(text, file)
        for name, value in tree.items():
            self._take_section(layer, name, value)

    def take_environment(self, environment: Mapping[str, str]) -> None:
        """Variables without two underscores after the prefix are somebody else's."""
        for name in sorted(environment):
            if not name.startswith(PREFIX) or "__" not in name:
                continue
            try:
                self._take_variable(name, environment)
            except ConfigError as error:
                self.errors.append(error.at(path=name))

    def take_flags(self, flags: Iterable[Flag]) -> None:
        for flag in flags:
            layer = _NamedLayer(flag.name, adds=flag.key == "sinks")
            if flag.key == "sinks":
                self._take_list(layer, ("sinks",), SinkTable, flag.value)
                continue
            section, _, key = flag.key.partition(".")
            known = keys_of(SECTIONS[section])
            self._take_key(layer, (section, key), known[key], flag.value)

    def finish(self) -> LoadedConfig:
        config = _build(self.tree)
        for conflict in find_conflicts(config):
            if self.wrong.isdisjoint(conflict.keys):
                self.errors.append(_at_fault(conflict, self.places))
        return LoadedConfig(None if self.errors else config, tuple(self.errors), self.places)

    # Tables and keys

    def _take_section(self, layer: _Layer, name: str, value: object) -> None:
        if name == "sinks":
            self._take_list(layer, ("sinks",), SinkTable, value)
        elif name not in SECTIONS:
            self._refuse_unknown(layer, (name,), [*SECTIONS, "sinks"])
        elif not isinstance(value, dict):
            error = ConfigError(f"'{name}' must be a table", hint=f"write [{name}] above its keys")
            self.errors.append(layer.placed(error, (name,)))
        else:
            self._take_table(layer, (name,), SECTIONS[name], value)

    def _take_table(
        self, layer: _Layer, steps: Steps, table: type, value: Mapping[str, Any]
    ) -> None:
        known = keys_of(table)
        for name, inner in value.items():
            if name in known:
                self._take_key(layer, (*steps, name), known[name], inner)
            elif (bare := _without_file(name)) in known and is_in_file(known[bare]):
                self._take_secret_file(layer, (*steps, bare), known[bare], inner, named=name)
                if bare in value:
                    error = ConfigError(f"both '{bare}' and '{name}' are given", hint="keep one")
                    self.errors.append(layer.placed(error, (*steps, name)))
            else:
                self._refuse_unknown(layer, (*steps, name), list(known))

    def _take_key(self, layer: _Layer, steps: Steps, key: Key, value: object) -> None:
        if key.table is not None:
            self._take_list(layer, steps, key.table, value)
            return
        try:
            read = read_value(key, value)
        except ConfigError as error:
            self.wrong.add(steps)
            self.errors.append(layer.placed(_named(error, steps), steps))
            return
        self._set(steps, layer.rebased(key, read), layer.place(steps))

    def _take_secret_file(
        self, layer: _Layer, steps: Steps, key: Key, value: object, *, named: str
    ) -> None:
        at = (*steps[:-1], named)
        try:
            path = read_value(Key("path", ""), value)
            secret = _read_secret(layer.rebased(Key("path", ""), path))
        except ConfigError as error:
            self.wrong.add(steps)
            self.errors.append(layer.placed(_named(error, at), at))
            return
        self._take_key(_Elsewhere(layer, at), steps, key, secret)

    def _take_list(self, layer: _Layer, steps: Steps, table: type, value: object) -> None:
        if not isinstance(value, list | tuple) or not all(isinstance(each, dict) for each in value):
            dotted = ".".join(map(str, steps))
            error = ConfigError(f"'{dotted}' must be a list of tables", hint=f"write [[{dotted}]]")
            self.errors.append(layer.placed(error, steps))
            return
        kept = _descend(self.tree, steps[:-1]).setdefault(str(steps[-1]), [])
        if not layer.adds:
            kept.clear()
            self._forget(steps)
        for each in value:
            inner = (*steps, len(kept))
            kept.append({})
            self.places[inner] = layer.place(inner)
            self._take_table(layer, inner, table, each)
            self._ask_for_required(layer, inner, table, kept[-1])

    def _ask_for_required(
        self, layer: _Layer, steps: Steps, table: type, values: Mapping[str, Any]
    ) -> None:
        for name, key in keys_of(table).items():
            if key.is_required and name not in values and (*steps, name) not in self.wrong:
                self.wrong.add((*steps, name))
                error = ConfigError(f"'{name}' is missing", hint=key.doc)
                self.errors.append(layer.placed(error, steps))

    def _forget(self, steps: Steps) -> None:
        """Another layer replaces this list."""
        inside = [each for each in self.places if each[: len(steps)] == steps]
        for each in inside:
            del self.places[each]

    def _set(self, steps: Steps, value: object, place: Place) -> None:
        _descend(self.tree, steps[:-1])[steps[-1]] = value
        self.places[steps] = place

    def _refuse_unknown(self, layer: _Layer, steps: Steps, known: Sequence[str]) -> None:
        name = str(steps[-1])
        near = nearest(name, known) or nearest(name.replace("-", "_").lower(), known)
        hint = f"did you mean '{near}'?" if near else f"known here: {', '.join(known)}"
        what = "table" if len(steps) == 1 else "key"
        within = "" if len(steps) == 1 else f" in [{'.'.join(_names(steps[:-1]))}]"
        error = ConfigError(f"unknown {what} '{name}'{within}", hint=hint)
        self.errors.append(layer.placed(error, steps, at_key=True))

    # Variables

    def _take_variable(self, name: str, environment: Mapping[str, str]) -> None:
        written = environment[name]
        parts = [part.lower() for part in name.removeprefix(PREFIX).split("__")]
        if parts[0] == "sinks":
            steps, table = self._sink_of(parts)
        elif parts[0] in SECTIONS and len(parts) == 2:
            steps, table = (parts[0],), SECTIONS[parts[0]]
        else:
            sections = [*SECTIONS, "sinks"]
            near = nearest(parts[0], sections)
            hint = f"did you mean '{near}'?" if near and near != parts[0] else None
            raise ConfigError("this variable names no setting", hint=hint)
        known = keys_of(table)
        key = parts[-1]
        layer = _NamedLayer(name)
        if key in known:
            self._take_key(layer, (*steps, key), known[key], value_of_text(known[key], written))
            return
        bare = _without_file(key)
        if bare not in known:
            near = nearest(key, list(known))
            hint = f"did you mean '{near}'?" if near else f"known here: {', '.join(known)}"
            raise ConfigError(f"there is no key '{'.'.join([*_names(steps), key])}'", hint=hint)
        if name.removesuffix("_FILE") in environment:
            raise ConfigError(f"{name.removesuffix('_FILE')} is given, too", hint="keep one")
        value = value_of_text(known[bare], _read_secret(written))
        self._take_key(layer, (*steps, bare), known[bare], value)

    def _sink_of(self, parts: Sequence[str]) -> tuple[Steps, type]:
        sinks = self.tree.get("sinks", [])
        if len(parts) == 3:
            for number, sink in enumerate(sinks):
                if (
                    str(sink.get("name", "")).replace("-", "_") == parts[1]
                    or str(number) == parts[1]
                ):
                    return ("sinks", number), SinkTable
        names = ", ".join(str(sink.get("name")) for sink in sinks) or "none"
        raise ConfigError("this variable names no sink of the file", hint=f"there: {names}")


class _Layer:
    """Where values come from: it places errors and resolves relative paths."""

    adds = False
    """Whether its lists of tables come on top of those of the layers before."""

    def place(self, steps: Steps, *, at_key: bool = False) -> Place:
        raise NotImplementedError

    def placed(self, error: ConfigError, steps: Steps, *, at_key: bool = False) -> ConfigError:
        place = self.place(steps, at_key=at_key)
        return ConfigError(error.message, place=place, hint=error.hint)

    def rebased(self, key: Key, value: Any) -> Any:
        return value


class _NamedLayer(_Layer):
    """A variable or a flag."""

    def __init__(self, name: str, *, adds: bool = False) -> None:
        self.adds = adds
        self._place = Place(path=name)

    def place(self, steps: Steps, *, at_key: bool = False) -> Place:
        return self._place


class _FileLayer(_Layer):
    def __init__(self, text: str, file: str) -> None:
        self._locator = TomlLocator(Source(text, path=file))
        self._folder = os.path.dirname(os.path.abspath(file))
        self._is_indexed = False

    def place(self, steps: Steps, *, at_key: bool = False) -> Place:
        if not self._is_indexed:
            self._locator.find(("", ""))  # a single name would be searched as a pattern
            self._is_indexed = True
        (start, _), _ = self._locator.find(steps)
        source = self._locator.source
        if at_key:
            line = source.text.rfind("\n", 0, start) + 1
            found = _KEY_BEFORE.search(source.text, line, start)
            start = found.start() if found else start
        return source.place(start)

    def rebased(self, key: Key, value: Any) -> Any:
        if key.kind == "path" and value != "-":
            return self._absolute(value)
        if key.kind == "list of paths":
            return tuple(map(self._absolute, value))
        return value

    def _absolute(self, path: str) -> str:
        return os.path.normpath(os.path.join(self._folder, os.path.expanduser(path)))


class _Elsewhere(_Layer):
    """As another layer, which knows the key under another way to it."""

    def __init__(self, layer: _Layer, steps: Steps) -> None:
        self._layer = layer
        self._steps = steps

    def place(self, steps: Steps, *, at_key: bool = False) -> Place:
        rest = steps[len(self._steps) :]
        return self._layer.place((*self._steps, *rest), at_key=at_key)

    def rebased(self, key: Key, value: Any) -> Any:
        return self._layer.rebased(key, value)


def _at_fault(conflict: Conflict, places: Mapping[Steps, Place]) -> ConfigError:
    place = next((places[key] for key in conflict.keys if key in places), Place())
    return ConfigError(conflict.message, place=place, hint=conflict.hint)


def _build(tree: Mapping[str, Any]) -> Config:
    sections = {name: _table(table, tree.get(name, {})) for name, table in SECTIONS.items()}
    return Config(**sections, sinks=tuple(tree.get("sinks", ())))


def _table(table: type, values: Mapping[str, Any]) -> Any:
    made = dict(values)
    for name, key in keys_of(table).items():
        if key.table is not None and name in made:
            made[name] = tuple(_table(key.table, each) for each in made[name])
    return table(**made)


def _descend(tree: Any, steps: Steps) -> Any:
    for step in steps:
        tree = tree[step] if isinstance(step, int) else tree.setdefault(step, {})
    return tree


def _named(error: ConfigError, steps: Steps) -> ConfigError:
    return ConfigError(f"{'.'.join(_names(steps))}: {error.message}", hint=error.hint)


def _names(steps: Steps) -> list[str]:
    return [step for step in steps if isinstance(step, str)]


def _without_file(name: str) -> str:
    return name.removesuffix("_file") if name.endswith("_file") else ""


def _read_text(file: str, *, most_bytes: int) -> str:
    try:
        with open(file, "rb") as opened:
            data = opened.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no file has such a name"
        raise ConfigError(f"cannot be read: {reason}", place=Place(path=file)) from None
    if len(data) > most_bytes:
        raise ConfigError(f"is larger than {most_bytes} bytes", place=Place(path=file))
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("is not UTF-8", place=Place(path=file, line=line)) from None


def _read_secret(path: str) -> str:
    """The text in a file, without the line feeds at its end."""
    try:
        text = _read_text(path, most_bytes=_MOST_SECRET_BYTES)
    except ConfigError as error:
        raise ConfigError(f"'{path}' {error.message}") from None
    if not text.strip():
        raise ConfigError(f"'{path}' is empty")
    return text.rstrip("\r\n")


def _parse(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError("is nested too deep", place=Place(path=file)) from None
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        found = _TOML_PLACE.search(message)
        lines = text.split("\n")
        line = int(found[1]) if found and found[1] else len(lines)
        column = int(found[2]) if found and found[2] else len(lines[-1]) + 1
        if found:
            message = message[: found.start()]
        place = Place(file, line, column, lines[line - 1])
        raise ConfigError(f"is no TOML: {message}", place=place) from None
