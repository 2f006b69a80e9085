from __future__ import annotations

from barrelman.engine.compile import compile_query
from barrelman.engine.ruleset import MOST_STREAMS, RuleSet
from barrelman.query.kql import parse_kql
from barrelman.records.event import Event
from barrelman.records.fields import AUDIT_CATALOGUE, AUDIT_STREAM
from barrelman.records.indices import IndexPatterns, data_stream


def ruleset(*rules: tuple[str, str]) -> RuleSet:
    """Rules as (index patterns, query)."""
    return RuleSet(
        [compile_query(parse_kql(query), AUDIT_CATALOGUE) for _, query in rules],
        [IndexPatterns(patterns.split()) for patterns, _ in rules],
    )


def document(stream: str | None = None, **body: str) -> Event:
    return Event(dict(body), is_document=True, index=stream)


def matches(rules: RuleSet, event: Event) -> list[int]:
    return rules.matches(event, stream=data_stream(event))


def test_a_rule_judges_only_the_streams_it_reads() -> None:
    rules = ruleset(
        ("logs-kubernetes.*", "kubernetes.audit.verb:get"),
        ("logs-aws.*", "kubernetes.audit.verb:get"),
        ("", "kubernetes.audit.verb:get"),
        ("logs-kubernetes.*", "kubernetes.audit.verb:list"),
    )
    assert matches(rules, Event({"verb": "get"})) == [0, 2]
    streams = {AUDIT_STREAM}
    assert [rules.unread(number, streams) for number in range(4)] == [False, True, False, False]


def test_nothing_is_unread_before_anything_was_read() -> None:
    rules = ruleset(("logs-aws.*", "*"))
    assert not rules.unread(0, ())


def test_a_document_that_tells_no_stream_is_shown_to_every_rule() -> None:
    rules = ruleset(("logs-aws.*", "a:1"), ("x", "a:2"))
    assert matches(rules, document(a="1")) == [0]
    assert not rules.unread(1, {None})


def test_rules_that_ask_the_time_are_always_among_them() -> None:
    rules = ruleset(
        ("logs-*", "@timestamp > now-1h"), ("logs-*", "*"), ("other", "@timestamp > now-1h")
    )
    event = Event({"stageTimestamp": "1970-01-01T00:30:00Z"})
    assert matches(rules, event) == [0, 1]


def test_an_input_that_names_ever_new_streams_gets_its_answers() -> None:
    rules = ruleset(("s-*", "*"), ("t-*", "*"))
    for number in range(MOST_STREAMS + 5):
        assert matches(rules, document(f"s-{number}")) == [0]
    assert matches(rules, document("t-1")) == [1]
