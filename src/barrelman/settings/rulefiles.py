"""Finds and reads rule files and exception files: folders, checkouts, exports, the pack."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Final

from barrelman.errors import BarrelmanError, InputError, Place, RuleError
from barrelman.records.frozen import frozen
from barrelman.rules.exceptions import ExceptionSet, ValueList, merge_sets, parse_value_list
from barrelman.rules.load import LoadResult, Skipped, load_exceptions, load_rules
from barrelman.rules.rule import LoadedRule
from barrelman.rules.saved import SavedQuery, with_saved_queries

if TYPE_CHECKING:
    from pathlib import Path

RULE_SUFFIXES: Final = (".toml", ".json", ".ndjson", ".jsonl")
MAX_RULE_FILE_BYTES: Final = 256 * 1024 * 1024
_CHUNK_BYTES: Final = 1024 * 1024
PACK_PATH: Final = "rulepack"
# A plain path: orjson is no pure Python, so the package never runs from within an archive.
_PACK_FOLDER: Final = os.path.join(os.path.dirname(os.path.dirname(__file__)), PACK_PATH)
_CHECKOUT_FOLDERS: Final = ("rules", "rules_building_block")
_DEPRECATED: Final = "_deprecated"


@frozen
class RuleLoad:
    """Everything that a set of paths holds.

    `errors` are unreadable paths and broken exception items; a broken rule is an *invalid* one
    among `rules`. What was left out of folders is counted.
    """

    rules: tuple[LoadedRule, ...] = ()
    exceptions: ExceptionSet = field(default_factory=ExceptionSet)
    errors: tuple[BarrelmanError, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    left_out_deprecated: int = 0
    """Files in `_deprecated` folders."""
    left_out_immature: int = 0
    """Rules in folders whose maturity is not production."""


def read_rule_paths(paths: Iterable[str | Path], *, include_all: bool = False) -> RuleLoad:
    """Reads rule files and folders of them, each file once.

    Of folders that are a detection-rules checkout only the rules are read. `include_all` also
    takes the rules that are deprecated or not in production; a file named itself is always read.
    """
    reader = _Reader(include_all=include_all)
    for path in paths:
        reader.read(_as_path(path))
    rules = _refuse_repeats(with_saved_queries(reader.rules, reader.saved))
    exceptions = merge_sets(reader.sets)
    return RuleLoad(
        tuple(rules),
        exceptions,
        tuple(reader.errors),
        tuple(reader.skipped),
        reader.deprecated,
        reader.immature,
    )


def read_pack() -> RuleLoad:
    """The rules that Barrelman ships."""
    rules: list[LoadedRule] = []
    for name in sorted(os.listdir(_PACK_FOLDER)):
        if name.endswith(".toml"):
            with open(os.path.join(_PACK_FOLDER, name), "rb") as file:
                found = load_rules(file.read(), path=f"{PACK_PATH}/{name}")
            rules += found.rules
    return RuleLoad(tuple(_refuse_repeats(rules)))


def merge(pack: RuleLoad, *, given: RuleLoad) -> RuleLoad:
    """Both, where a given rule takes the place of the pack's rule with its `rule_id`."""
    ours = {rule.rule_id: rule for rule in pack.rules if rule.rule_id is not None}
    # A broken rule takes no place: the shipped one goes on watching.
    theirs = {one.rule.rule_id for one in given.rules if one.rule is not None}
    noted = [
        replace(rule, notes=(*rule.notes, f"replaces the shipped rule '{ours[rule.rule_id].name}'"))
        if rule.rule is not None and rule.rule_id in ours
        else rule
        for rule in given.rules
    ]
    kept = [rule for rule in pack.rules if rule.rule_id not in theirs]
    return replace(
        given,
        rules=(*kept, *noted),
        exceptions=merge_sets((pack.exceptions, given.exceptions)),
        errors=pack.errors + given.errors,
        skipped=pack.skipped + given.skipped,
    )


def read_exception_files(
    paths: Iterable[str | Path],
) -> tuple[ExceptionSet, tuple[BarrelmanError, ...], tuple[Skipped, ...]]:
    """Exception lists of NDJSON files, the errors in them, and what else stood there.

    The values of a value list that the file does not hold are read from a text file beside it
    that is named after the list.
    """
    sets: list[ExceptionSet] = []
    errors: list[BarrelmanError] = []
    skipped: list[Skipped] = []
    for path in _once(paths):
        content = _read_file(path, errors)
        if content is None:
            continue
        found = load_exceptions(content, path=_shown(path))
        sets.append(_with_value_files(found.exceptions, path.parent, errors))
        errors += found.errors
        skipped += found.skipped
    return merge_sets(sets), tuple(errors), tuple(skipped)


class _Reader:
    def __init__(self, *, include_all: bool) -> None:
        self.rules: list[LoadedRule] = []
        self.sets: list[ExceptionSet] = []
        self.errors: list[BarrelmanError] = []
        self.skipped: list[Skipped] = []
        self.saved: dict[str, SavedQuery] = {}
        self.deprecated = 0
        self.immature = 0
        self._include_all = include_all
        self._seen: set[tuple[int, int]] = set()

    def read(self, path: Path) -> None:
        if not os.path.isdir(path):  # unlike Path.is_dir, never raises
            self._read_one(path, named=True)
            return
        for found in self._walk(path):
            self._read_one(found, named=False)

    def _read_one(self, path: Path, *, named: bool) -> None:
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            self.errors.append(_unreadable(path, error))
            return
        if not named and not stat.S_ISREG(status.st_mode):
            # A pipe in a folder would be waited for without end.
            self.skipped.append(Skipped(_shown(path), 1, "not a regular file"))
            return
        if (status.st_dev, status.st_ino) in self._seen:
            return
        self._seen.add((status.st_dev, status.st_ino))
        content = _read_file(path, self.errors)
        if content is not None:
            self._take(load_rules(content, path=_shown(path), named=named), path, named=named)

    def _take(self, found: LoadResult, path: Path, *, named: bool) -> None:
        for loaded in found.rules:
            if named or self._include_all or _is_production(loaded):
                self.rules.append(loaded)
            else:
                self.immature += 1
        self.sets.append(_with_value_files(found.exceptions, path.parent, self.errors))
        self.errors += found.errors
        self.skipped += found.skipped
        self.saved.update((one.id, one) for one in found.saved)

    def _walk(self, folder: Path) -> Iterator[Path]:
        """Rule files below a folder, in the order of their paths. Links are followed."""
        roots = [folder]
        if os.path.isdir(folder / "rules"):
            roots = [folder / name for name in _CHECKOUT_FOLDERS if os.path.isdir(folder / name)]
        # Links may lead back up, or to one folder twice; what one way leaves out, another may not.
        seen: set[tuple[int, int, bool]] = set()
        ways = [(root, False) for root in reversed(roots)]
        while ways:
            place, is_deprecated = ways.pop()
            try:
                status = place.stat()
                identity = (status.st_dev, status.st_ino, is_deprecated)
                names = [] if identity in seen else sorted(os.listdir(place))
            except OSError as error:
                self.errors.append(_unreadable(place, error))
                continue
            seen.add(identity)
            folders: list[Path] = []
            rule_files: list[Path] = []
            for path in (place / name for name in names if not name.startswith(".")):
                if os.path.isdir(path):
                    folders.append(path)
                elif path.name.lower().endswith(RULE_SUFFIXES):
                    rule_files.append(path)
            ways += [
                (path, is_deprecated or (path.name == _DEPRECATED and not self._include_all))
                for path in reversed(folders)
            ]
            if is_deprecated:
                self.deprecated += len(rule_files)
            else:
                yield from rule_files


def _is_production(loaded: LoadedRule) -> bool:
    """A broken rule counts as one: what cannot be read must be heard of."""
    if loaded.rule is None:
        return True
    return bool(loaded.rule.metadata.get("maturity", "production") == "production")


def _refuse_repeats(rules: Sequence[LoadedRule]) -> list[LoadedRule]:
    """Of rules with one `rule_id` the first stands and the others are invalid."""
    first: dict[str, LoadedRule] = {}
    kept: list[LoadedRule] = []
    for loaded in rules:
        known = loaded
        if loaded.rule is not None:
            known = first.setdefault(loaded.rule.rule_id, loaded)
        kept.append(loaded if known is loaded else _refuse_repeat(loaded, known))
    return kept


def _refuse_repeat(loaded: LoadedRule, known: LoadedRule) -> LoadedRule:
    error = RuleError(
        f"rule_id '{loaded.rule_id}' is taken by '{known.name}' in {known.path}:{known.line}",
        place=Place(loaded.path, loaded.line),
        hint="give each rule an id of its own, or load one of the two files",
    )
    return replace(
        loaded, status="invalid", reason=error.oneline(), rule=None, notes=(), errors=(error,)
    )


def _once(paths: Iterable[str | Path]) -> Iterator[Path]:
    seen: set[str] = set()
    for path in paths:
        resolved = os.path.realpath(path)
        if resolved not in seen:
            seen.add(resolved)
            yield _as_path(path)


def _as_path(path: str | Path) -> Path:
    """`pathlib` takes 3 ms to load: a scan with the shipped rules alone does without it."""
    from pathlib import Path

    return Path(path)


def _read_file(path: Path, errors: list[BarrelmanError]) -> bytes | None:
    """What a file or a pipe holds: a shell's `<(…)` is one. Devices have no end, or no rules."""
    content = bytearray()
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            kind = "a folder" if stat.S_ISDIR(mode) else "a device or a socket"
            errors.append(InputError(f"{kind}, not a file", place=Place(_shown(path))))
            return None
        with path.open("rb", buffering=0) as file:
            # The size that a pipe, or a file that still grows, says it has bounds nothing.
            while chunk := file.read(_CHUNK_BYTES):
                content += chunk
                if len(content) > MAX_RULE_FILE_BYTES:
                    limit = f"{MAX_RULE_FILE_BYTES // (1024 * 1024)} MiB"
                    message = f"larger than {limit}, too large for a file of rules"
                    errors.append(InputError(message, place=Place(_shown(path))))
                    return None
    except (OSError, ValueError) as error:
        errors.append(_unreadable(path, error))
        return None
    return bytes(content)


def _unreadable(path: Path, error: OSError | ValueError) -> InputError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InputError(f"cannot be read: {reason}", place=Place(_shown(path)))


def _shown(path: Path) -> str:
    """A path that any output takes: bytes that are no text are written as `\\udcff`."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _with_value_files(
    found: ExceptionSet, folder: Path, errors: list[BarrelmanError]
) -> ExceptionSet:
    """The set with the value lists that lie in `folder`, as `<id>` or `<id>.txt`."""
    extra: dict[str, ValueList] = {}
    for list_id, list_type in found.needed_value_lists().items():
        if list_id in (".", "..") or "/" in list_id or "\\" in list_id or "\0" in list_id:
            continue  # an id, not a way out of the folder; the item's own error tells the rest
        for path in (folder / list_id, folder / f"{list_id}.txt"):
            if os.path.isfile(path) and list_id not in extra:
                content = _read_file(path, errors)
                if content is not None:
                    text = content.decode("utf-8", "replace")
                    extra[list_id] = parse_value_list(
                        text, list_id=list_id, list_type=list_type, path=_shown(path)
                    )
    return merge_sets((found, ExceptionSet(value_lists=extra))) if extra else found
