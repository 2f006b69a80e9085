"""What a scan was asked for, as typed, and what that comes to once files are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from barrelman.detection.judge import runnable_rule
from barrelman.detection.scan import EVERYTHING, Bound, RunnableRule, ScanOptions
from barrelman.errors import BarrelmanError, TimeError, UsageError
from barrelman.records.frozen import frozen
from barrelman.records.severities import SEVERITIES
from barrelman.records.times import UNIT_MS, parse_date_math
from barrelman.rules.assign import assign_exceptions
from barrelman.rules.exceptions import ExceptionSet
from barrelman.rules.rule import LoadedRule, Rule
from barrelman.settings.indexes import IndexDocument, Indexes, missing_reason, read_indexes
from barrelman.settings.rulefiles import (
    RuleLoad,
    merge,
    read_exception_files,
    read_pack,
    read_rule_paths,
)

# Twelve digits are more than any log spans, and few enough for any sum.
_BACK = re.compile(r"(\d{1,12})([smhdw])", re.ASCII)
_COUNT = re.compile(r"\d{1,12}", re.ASCII)
_SIZE = re.compile(r"(\d{1,12})\s*([kmg]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_SIZE_UNITS: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_SMALLEST_EVENT_BYTES: Final = 1024


@frozen
class RuleFlags:
    """Where rules come from and which of them run, as typed."""

    rules: Sequence[str] = ()
    no_pack: bool = False
    include_all: bool = False
    exceptions: Sequence[str] = ()
    selected: Sequence[str] = ()
    severity: str = SEVERITIES[0]
    indexes: Sequence[str] = ()
    """`NAME=PATH` each: documents that indicator match rules find by the name."""


@frozen
class RangeFlags:
    """Which events and how many alerts, as typed."""

    since: str | None = None
    until: str | None = None
    max_signals: str | None = None
    redacted: bool = True


@dataclass
class RuleSettings:
    """The rules that run, and everything to say about those that do not."""

    runnable: list[RunnableRule] = field(default_factory=list)
    unsupported: list[LoadedRule] = field(default_factory=list)
    invalid: list[LoadedRule] = field(default_factory=list)
    disabled: int = 0
    too_low: int = 0
    """Rules whose alerts would all lie below the least severity: they do not run."""
    errors: list[BarrelmanError] = field(default_factory=list)
    """Unreadable paths and broken exception lists: the exit code is 2."""
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def load_all_rules(flags: RuleFlags) -> RuleLoad:
    """The pack and the given rules. A rule given twice or broken is among them, as invalid."""
    given = read_rule_paths(flags.rules, include_all=flags.include_all)
    return given if flags.no_pack else merge(read_pack(), given=given)


def resolve_rules(flags: RuleFlags) -> RuleSettings:
    """Loads, selects and completes the rules. Raises UsageError where a selection names none."""
    load = load_all_rules(flags)
    chosen, by_name = _select(load.rules, flags.selected)
    settings = RuleSettings(errors=list(load.errors))
    for loaded in chosen:
        if loaded.status == "invalid":
            settings.invalid.append(loaded)
        elif loaded.rule is not None and not loaded.rule.enabled and loaded not in by_name:
            settings.disabled += 1
        elif loaded.status == "unsupported":
            settings.unsupported.append(loaded)
    _note_skipped(load, settings)
    ready = [
        loaded
        for loaded in chosen
        if loaded.status == "ready"
        and loaded.rule is not None
        and (loaded.rule.enabled or loaded in by_name)
    ]
    least = SEVERITIES.index(flags.severity)
    enabled = len(ready)
    ready = [loaded for loaded in ready if loaded.rule and _highest(loaded.rule) >= least]
    settings.too_low = enabled - len(ready)
    exceptions, errors, skipped = read_exception_files(flags.exceptions)
    settings.errors.extend(errors)
    settings.warnings.extend(f"{each.path}: {each.reason}" for each in skipped)
    _complete(settings, load, exceptions, ready, flags.indexes)
    return settings


def resolve_options(ranges: RangeFlags, *, severity: str, now_us: int) -> ScanOptions:
    """Raises UsageError for a time or a number that cannot be read."""
    since = _bound(ranges.since, "--since", now_us=now_us, round_up=False)
    until = _bound(ranges.until, "--until", now_us=now_us, round_up=True)
    if None not in (since.instant_us, until.instant_us) and (
        (since.instant_us or 0) > (until.instant_us or 0)
    ):
        raise UsageError("--since lies after --until")
    return ScanOptions(
        since=since,
        until=until,
        max_signals=_max_signals(ranges.max_signals),
        least_severity=severity,
        redacted=ranges.redacted,
    )


def parse_size_bytes(text: str) -> int:
    """`64MiB`, `512k`, `1048576`. Raises UsageError, also below one KiB."""
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * _SIZE_UNITS[match[2].lower()] if match else 0
    if size < _SMALLEST_EVENT_BYTES:
        raise UsageError(f"'{text}' is not a size", hint="write 64MiB; the least is 1KiB")
    return size


def _complete(
    settings: RuleSettings,
    load: RuleLoad,
    exceptions: ExceptionSet,
    ready: Sequence[LoadedRule],
    given: Sequence[str],
) -> None:
    """Adds each rule's exceptions and indicators.

    Who names which exception list is settled over all rules loaded.
    """
    rules = [each.rule for each in load.rules if each.rule is not None]
    assigned = assign_exceptions(rules, given=exceptions, exported=load.exceptions)
    settings.notes.extend(assigned.notes)
    settings.warnings.extend(error.oneline() for error in assigned.errors)
    indexes = _read_indexes(given, settings)
    for loaded in ready:
        rule = loaded.rule
        assert rule is not None
        documents: Sequence[IndexDocument] | None = ()
        if rule.type == "threat_match":
            documents = indexes.matching(rule.threat_index) if indexes is not None else None
        if documents is None:
            reason = f"{missing_reason(rule)} (--index NAME=PATH)"
            settings.unsupported.append(replace(loaded, status="unsupported", reason=reason))
            continue
        settings.runnable.append(
            runnable_rule(
                rule, exceptions=assigned.exceptions.get(rule.rule_id), documents=documents
            )
        )
        notes = (*loaded.notes, *assigned.rule_notes.get(rule.rule_id, ()))
        settings.notes.extend(f"{rule.name}: {note}" for note in notes)


def _read_indexes(given: Sequence[str], settings: RuleSettings) -> Indexes | None:
    if not given:
        return None
    indexes = read_indexes(given)
    settings.errors.extend(indexes.errors)
    for name, documents in indexes.documents.items():
        settings.notes.append(f"index '{name}': {len(documents):,} documents")
    return indexes


def _note_skipped(load: RuleLoad, settings: RuleSettings) -> None:
    left_out = load.left_out_deprecated + load.left_out_immature
    if left_out:
        settings.notes.append(
            f"{left_out} rule files left out: {load.left_out_deprecated} deprecated, "
            f"{load.left_out_immature} not in production (--all-rules loads them)"
        )
    if load.skipped:
        first = load.skipped[0]
        settings.notes.append(
            f"{len(load.skipped)} files or entries hold no rule, as {first.path}: {first.reason}"
        )


def _select(
    rules: Sequence[LoadedRule], wanted: Sequence[str]
) -> tuple[list[LoadedRule], list[LoadedRule]]:
    """The rules asked for, and those among them that were asked for by id or name."""
    if not wanted:
        return list(rules), []
    chosen: dict[int, LoadedRule] = {}
    by_name: list[LoadedRule] = []
    for text in wanted:
        named = [each for each in rules if text.casefold() in _names(each)]
        tagged = [each for each in rules if text.casefold() in _tags(each)]
        if not named and not tagged:
            raise _no_such_rule(text, rules)
        by_name.extend(named)
        chosen.update((id(each), each) for each in named or tagged)
    return [each for each in rules if id(each) in chosen], by_name


def _names(loaded: LoadedRule) -> set[str]:
    return {name.casefold() for name in (loaded.rule_id, loaded.name) if name}


def _tags(loaded: LoadedRule) -> set[str]:
    return {tag.casefold() for tag in loaded.rule.tags} if loaded.rule else set()


def _no_such_rule(text: str, rules: Sequence[LoadedRule]) -> UsageError:
    import difflib

    known = {name: name for each in rules for name in (each.rule_id, each.name) if name}
    known |= {tag: tag for each in rules if each.rule for tag in each.rule.tags}
    near = difflib.get_close_matches(text, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else "`barrelman rules list` shows what there is"
    return UsageError(f"no rule has the name, id or tag '{text}'", hint=hint)


def _highest(rule: Rule) -> int:
    """The highest severity an alert of this rule can have."""
    named = (rule.severity, *(mapping.severity for mapping in rule.severity_mapping))
    return max(SEVERITIES.index(severity) for severity in named)


def _bound(text: str | None, flag: str, *, now_us: int, round_up: bool) -> Bound:
    if text is None:
        return EVERYTHING
    back = _BACK.fullmatch(text)
    if back:
        return Bound(back_us=int(back[1]) * UNIT_MS[back[2]] * 1000)
    try:
        instant_ms = parse_date_math(text).resolve_ms(now_us // 1000, round_up=round_up)
    except TimeError as error:
        raise UsageError(
            f"{flag}: {error.message}",
            hint="write 30m, 2h or 7d (back from the log's end), 2026-11-23 or 2026-11-23T07:06Z",
        ) from None
    return Bound(instant_us=instant_ms * 1000 + (999 if round_up else 0))


def _max_signals(text: str | None) -> int | None:
    if text is None:
        return None
    if text == "none":
        return 0
    if _COUNT.fullmatch(text) and int(text) > 0:
        return int(text)
    raise UsageError(f"--max-signals: '{text}' is neither a number above 0 nor 'none'")
