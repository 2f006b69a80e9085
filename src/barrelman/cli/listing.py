"""What `barrelman rules` prints: rules as a table, as JSON, or one for reading."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from barrelman.cli.printing import printable, readable
from barrelman.errors import BarrelmanError, UsageError
from barrelman.query.render import describe
from barrelman.rules.rule import LoadedRule, Rule
from barrelman.settings.rulefiles import PACK_PATH, RuleLoad, merge, read_pack, read_rule_paths

_STATUS_STYLES: Final = {"ready": "green", "unsupported": "yellow", "invalid": "red"}


def list_rules(
    paths: Sequence[str], *, no_pack: bool, include_all: bool, format_: str | None
) -> int:
    """The exit code; so with the next two."""
    given = read_rule_paths(paths, include_all=include_all)
    load = given if no_pack else merge(read_pack(), given=given)
    if _is_json(format_):
        print_json([_listed(each) for each in load.rules])
    else:
        _print_table(load.rules, with_schedule=True)
    return finish(load, draw=False)


def check_rules(paths: Sequence[str], *, include_all: bool, format_: str | None) -> int:
    load = read_rule_paths(paths, include_all=include_all) if paths else read_pack()
    as_json = _is_json(format_)
    if as_json:
        print_json([_checked(each) for each in load.rules])
    else:
        _print_table(load.rules, with_schedule=False)
    return finish(load, draw=not as_json)


def show_rules(what: Sequence[str], *, paths: Sequence[str], format_: str | None) -> int:
    load = rules_named(what, paths=paths)
    if _is_json(format_):
        print_json([each.rule.parameters if each.rule else _checked(each) for each in load.rules])
    else:
        _print_rules(load.rules)
    return finish(load, draw=True)


def rules_named(what: Sequence[str], *, paths: Sequence[str]) -> RuleLoad:
    """The rules of files and folders, and those of the pack or of `paths` with a name or id."""
    found: list[LoadedRule] = []
    errors: list[BarrelmanError] = []
    known = merge(read_pack(), given=read_rule_paths(paths, include_all=True))
    for each in what:
        if os.path.exists(each):
            load = read_rule_paths([each], include_all=True)
            found.extend(load.rules)
            errors.extend(load.errors)
        else:
            found.extend(_named(each, known.rules))
    return RuleLoad(tuple(found), errors=(*known.errors, *errors))


def _checked(loaded: LoadedRule) -> dict[str, Any]:
    return {
        "path": loaded.path,
        "rule_id": loaded.rule_id,
        "name": loaded.name,
        "type": loaded.type,
        "language": loaded.language,
        "status": loaded.status,
        "reason": loaded.reason,
    }


def _listed(loaded: LoadedRule) -> dict[str, Any]:
    rule = loaded.rule
    return _checked(loaded) | {
        "enabled": rule.enabled if rule else None,
        "severity": rule.severity if rule else None,
        "risk_score": rule.risk_score if rule else None,
        "interval": rule.interval if rule else None,
        "from": rule.from_.text if rule else None,
        "max_signals": rule.max_signals if rule else None,
        "tags": list(rule.tags) if rule else [],
        "notes": list(loaded.notes),
    }


def _named(name: str, known: Iterable[LoadedRule]) -> list[LoadedRule]:
    wanted = name.casefold()
    found = [
        each
        for each in known
        if wanted in {str(each.rule_id).casefold(), str(each.name).casefold()}
    ]
    if not found:
        raise UsageError(
            f"'{name}' is no path, and no rule has that name or id",
            hint="`barrelman rules list` shows the names",
        )
    return found


def _is_json(format_: str | None) -> bool:
    return format_ == "json"


def print_json(items: Sequence[Any]) -> None:
    """Indented, for reading."""
    json.dump(items, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def _print_table(loaded: Sequence[LoadedRule], *, with_schedule: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("STATUS", no_wrap=True)
    if with_schedule:
        table.add_column("SEVERITY", no_wrap=True)
    table.add_column("TYPE", overflow="fold")
    table.add_column("RULE", overflow="fold", ratio=2)
    table.add_column("WHERE" if not with_schedule else "RUNS", overflow="fold", ratio=2)
    for each in loaded:
        rule = each.rule
        off = rule is not None and not rule.enabled
        status = f"{each.status}, off" if off else each.status
        cells = [Text(status, style=_STATUS_STYLES[each.status])]
        if with_schedule:
            cells.append(Text(rule.severity if rule else "-"))
        kind = "/".join(part for part in (each.type, each.language) if part)
        name = Text(printable(each.name or each.rule_id or "-"))
        if each.reason and each.status == "unsupported":
            name.append(f"\n{printable(each.reason)}", style="dim")
        if with_schedule:
            last = f"every {rule.interval} from {rule.from_.text}" if rule else "-"
        else:
            last = f"{each.path}:{each.line}"
        table.add_row(*cells, Text(kind or "-"), name, Text(printable(last)))
    console.print(table)


def _print_rules(shown: Sequence[LoadedRule]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    for each in shown:
        if each.rule is None:
            continue  # its errors follow on stderr
        _print_rule(console, each, each.rule)


def _print_rule(console: Any, loaded: LoadedRule, rule: Rule) -> None:
    from rich.markdown import Markdown
    from rich.rule import Rule as Line
    from rich.text import Text

    console.print(Text(printable(rule.name), style="bold"))
    console.print()
    console.print(Text(readable(rule.description.strip())))
    console.print()
    for label, value in _facts(loaded, rule):
        console.print(Text.assemble((f"{label:<12}", "dim"), printable(value)), soft_wrap=True)
    for tactic in rule.threat:
        steps = [f"{tactic.tactic.name} ({tactic.tactic.id})"]
        steps += [f"{each.name} ({each.id})" for each in tactic.technique]
        text = f"{tactic.framework}: {' › '.join(steps)}"
        console.print(Text.assemble((f"{'threat':<12}", "dim"), printable(text)))
    console.print()
    console.print(Text("Query", style="bold"))
    query = rule.query or (describe(rule.query_ast) if rule.query_ast else "")
    console.print(Text(readable(query.strip())), soft_wrap=True)
    for title, items in (
        ("References", rule.references),
        ("False positives", rule.false_positives),
    ):
        if items:
            console.print()
            console.print(Text(title, style="bold"))
            for item in items:
                console.print(Text(f"- {printable(item)}"), soft_wrap=True)
    for title, markdown in (("Set-up", rule.setup), ("Investigation guide", rule.note or "")):
        if markdown.strip():
            console.print()
            console.print(Line(title, align="left"))
            console.print(Markdown(readable(markdown)))
    console.print()


def _facts(loaded: LoadedRule, rule: Rule) -> Iterable[tuple[str, str]]:
    language = f", {rule.language}" if rule.language else ""
    yield "rule_id", rule.rule_id
    yield "type", f"{rule.type}{language}"
    yield "status", f"{loaded.status}{': ' + loaded.reason if loaded.reason else ''}"
    yield "severity", f"{rule.severity}, risk score {rule.risk_score}"
    reach = f"reads {rule.from_.text} to {rule.to.text}"
    yield "runs", f"every {rule.interval}, {reach}, at most {rule.max_signals} alerts a run"
    yield "reads", ", ".join(rule.index or ()) or "everything"
    yield from _operation(rule)
    yield "version", f"{rule.version}, by {', '.join(rule.author) or 'nobody named'}"
    if rule.license:
        yield "licence", rule.license
    if rule.tags:
        yield "tags", ", ".join(rule.tags)
    yield "file", PACK_PATH if not loaded.path else loaded.path
    for note in loaded.notes:
        yield "note", note


def _operation(rule: Rule) -> Iterable[tuple[str, str]]:
    """What the rule makes of the events that meet its query."""
    if rule.threshold is not None:
        fields = ", ".join(rule.threshold.field)
        of_whom = f"of the same {fields}" if fields else "in a window"
        text = f"{rule.threshold.value:,} events or more {of_whom}"
        for each in rule.threshold.cardinality[:1]:
            text += f", with {each.value:,} different {each.field} or more"
        yield "counts", text
    if rule.history_window_start is not None:
        together = " together" if len(rule.new_terms_fields) > 1 else ""
        fields = ", ".join(rule.new_terms_fields)
        since = rule.history_window_start.text
        yield "new", f"values of {fields}{together} that were not there since {since}"
    if rule.threat_mapping:
        groups = (
            " and ".join(
                f"{each.field} {'is not' if each.negate else 'is'} {each.value}" for each in group
            )
            for group in rule.threat_mapping
        )
        yield "indicators", f"in {', '.join(rule.threat_index) or 'any index'}: {rule.threat_query}"
        yield "compares", "; or ".join(groups)
    for name, field in (
        ("category", rule.event_category_override),
        ("ordered by", rule.timestamp_field),
        ("tiebreaker", rule.tiebreaker_field),
    ):
        if field:
            yield name, field
    suppression = rule.alert_suppression
    if suppression is not None:
        by = f"by {', '.join(suppression.group_by)}" if suppression.group_by else "each group"
        span = "within a run"
        if suppression.duration_ms is not None:
            span = f"for {_span(suppression.duration_ms)}"
        lacking = ""
        if suppression.missing_fields_strategy == "doNotSuppress":
            lacking = "; what lacks a field is an alert by itself"
        yield "suppresses", f"{by}, {span}{lacking}"
    if rule.building_block_type:
        yield "kind", "a building block"


def _span(duration_ms: int) -> str:
    seconds = duration_ms // 1000
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def finish(load: RuleLoad, *, draw: bool) -> int:
    """What is wrong, on stderr, and the exit code."""
    invalid = [each for each in load.rules if each.status == "invalid"]
    if draw:
        for loaded in invalid:
            for error in loaded.errors:
                sys.stderr.write(readable(f"invalid: {error}") + "\n")
    for problem in load.errors:
        sys.stderr.write(readable(f"barrelman: {problem}") + "\n")
    counted = dict.fromkeys(_STATUS_STYLES, 0)
    for loaded in load.rules:
        counted[loaded.status] += 1
    if sys.stderr.isatty() or draw:
        text = ", ".join(f"{number} {status}" for status, number in counted.items())
        left_out = load.left_out_deprecated + load.left_out_immature
        more = f", {left_out} left out (deprecated or not in production)" if left_out else ""
        sys.stderr.write(f"{text}{more}\n")
    return 2 if invalid or load.errors else 0
