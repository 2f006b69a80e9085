"""Aggregations: what is counted, in which order, and where the bounds are."""

from __future__ import annotations

from typing import Any

import pytest

from barrelman.errors import RequestError
from barrelman.service import aggspec
from barrelman.service.aggregations import parse_aggregations
from barrelman.service.aggspec import Purse
from barrelman.service.calendar import parse_intervals

NOW_MS = 1_795_003_200_000
DOCUMENTS: list[dict[str, Any]] = [
    {"_id": "a", "@timestamp": "2026-11-18T10:05:00.000Z", "u": "eve", "n": 5, "t": ["x", "y"]},
    {"_id": "b", "@timestamp": "2026-11-18T10:55:00.000Z", "u": "bob", "n": 7, "t": ["x"]},
    {"_id": "c", "@timestamp": "2026-11-18T12:10:00.000Z", "u": "eve", "n": 1.5, "ok": True},
    {"_id": "d", "@timestamp": "2026-11-19T00:30:00.000Z", "u": "ann", "ok": False},
    {"_id": "e", "@timestamp": "2026-11-19T00:40:00.000Z", "u": "eve", "n": 9, "ok": True},
]


def made(specs: Any, documents: list[dict[str, Any]] = DOCUMENTS) -> Any:
    def hit(document: dict[str, Any], pick: Any) -> dict[str, Any]:
        return {"_id": document["_id"]} | ({"_source": pick(document)} if pick else {})

    state = parse_aggregations(specs, purse=Purse(hit, now_ms=NOW_MS))()
    for document in documents:
        state.add(document)
    return state.result()


def buckets(specs: Any) -> list[tuple[Any, int]]:
    return [(each["key"], each["doc_count"]) for each in made({"a": specs})["a"]["buckets"]]


def test_terms_are_counted_each_value_once_and_the_most_first() -> None:
    assert buckets({"terms": {"field": "u"}}) == [("eve", 3), ("ann", 1), ("bob", 1)]
    assert buckets({"terms": {"field": "t"}}) == [("x", 2), ("y", 1)]
    assert buckets({"terms": {"field": "none"}}) == []
    found = made({"a": {"terms": {"field": "u", "size": 1}}})["a"]
    assert found["sum_other_doc_count"] == 2
    assert found["doc_count_error_upper_bound"] == 0
    twice = [{"_id": "a", "u": ["eve", "eve"]}]
    assert made({"a": {"terms": {"field": "u"}}}, twice)["a"]["buckets"][0]["doc_count"] == 1


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({"order": {"_key": "desc"}}, ["eve", "bob", "ann"]),
        ({"order": {"_count": "asc"}}, ["ann", "bob", "eve"]),
        ({"order": [{"_count": "desc"}, {"_key": "desc"}]}, ["eve", "bob", "ann"]),
        ({"order": {"low": "asc"}}, ["ann", "eve", "bob"]),
        ({"order": {"low.value": "desc"}}, ["bob", "eve", "ann"]),
        ({"min_doc_count": 2}, ["eve"]),
        ({"include": ["eve", "ann"]}, ["eve", "ann"]),
        ({"exclude": ["eve"]}, ["ann", "bob"]),
    ],
)
def test_terms_in_order(options: dict[str, Any], keys: list[str]) -> None:
    spec = {"terms": {"field": "u", **options}, "aggs": {"low": {"min": {"field": "n"}}}}
    assert [key for key, _ in buckets(spec)] == keys


def test_terms_of_other_kinds_than_text() -> None:
    [true, false] = made({"a": {"terms": {"field": "ok"}}})["a"]["buckets"]
    assert (true["key"], true["key_as_string"], true["doc_count"]) == (1, "true", 2)
    assert (false["key"], false["key_as_string"]) == (0, "false")
    assert buckets({"terms": {"field": "ok", "missing": "none"}})[0] == (1, 2)
    assert ("none", 2) in buckets({"terms": {"field": "ok", "missing": "none"}})
    first = made({"a": {"terms": {"field": "@timestamp", "size": 1}}})["a"]["buckets"][0]
    assert first["key_as_string"] == "2026-11-18T10:05:00.000Z"


def test_aggregations_within_each_other() -> None:
    found = made(
        {
            "people": {
                "terms": {"field": "u", "size": 1},
                "aggregations": {
                    "tags": {"terms": {"field": "t"}, "aggs": {"top": {"max": {"field": "n"}}}},
                    "n": {"avg": {"field": "n"}},
                },
            }
        }
    )
    [eve] = found["people"]["buckets"]
    assert eve["n"]["value"] == pytest.approx(15.5 / 3)
    assert [each["key"] for each in eve["tags"]["buckets"]] == ["x", "y"]
    assert eve["tags"]["buckets"][0]["top"] == {"value": 5}


def test_numbers() -> None:
    found = made(
        {
            name: {kind: {"field": field}}
            for name, kind, field in (
                ("low", "min", "n"),
                ("high", "max", "n"),
                ("mean", "avg", "n"),
                ("sum", "sum", "n"),
                ("count", "value_count", "u"),
                ("people", "cardinality", "u"),
                ("none", "max", "nothing"),
                ("last", "max", "@timestamp"),
            )
        }
    )
    assert [found[name]["value"] for name in ("low", "high", "sum")] == [1.5, 9, 22.5]
    assert found["mean"]["value"] == 22.5 / 4
    assert (found["count"]["value"], found["people"]["value"]) == (5, 3)
    assert found["none"] == {"value": None}
    assert found["last"]["value_as_string"] == "2026-11-19T00:40:00.000Z"
    # A truth is no number, and is not one that equals it.
    mixed: list[dict[str, Any]] = [{"v": True}, {"v": 1}, {"v": "1"}]
    assert made({"a": {"cardinality": {"field": "v"}}}, mixed)["a"]["value"] == 3
    assert made({"a": {"sum": {"field": "v"}}}, mixed)["a"]["value"] == 1


def test_a_histogram_has_its_empty_intervals() -> None:
    found = made({"a": {"date_histogram": {"field": "@timestamp", "fixed_interval": "1h"}}})
    rows = found["a"]["buckets"]
    assert [each["doc_count"] for each in rows] == [2, 0, 1, *[0] * 11, 2]
    assert rows[0]["key_as_string"] == "2026-11-18T10:00:00.000Z"
    assert rows[1]["key"] - rows[0]["key"] == 3_600_000
    spec = {"field": "@timestamp", "calendar_interval": "day", "min_doc_count": 1}
    assert [count for _, count in buckets({"date_histogram": spec})] == [3, 2]
    spec = {**spec, "time_zone": "-02:00"}
    assert [count for _, count in buckets({"date_histogram": spec})] == [5]
    assert buckets({"date_histogram": {"field": "none", "fixed_interval": "1h"}}) == []


def test_a_histogram_reaches_to_the_bounds_that_are_asked_for() -> None:
    bounds = {"min": "2026-11-18T09:00:00Z", "max": "now+1h"}
    spec = {"field": "@timestamp", "fixed_interval": "1h", "extended_bounds": bounds}
    rows = buckets({"date_histogram": spec})
    assert (len(rows), rows[0][1]) == (16, 0)
    spec = {**spec, "hard_bounds": {"min": "2026-11-19"}}
    del spec["extended_bounds"]
    assert [count for _, count in buckets({"date_histogram": spec})] == [2]
    spec = {"field": "nothing", "fixed_interval": "1h", "extended_bounds": bounds}
    assert len(buckets({"date_histogram": spec})) == 5


def test_chosen_documents() -> None:
    found = made(
        {
            "eve": {
                "filter": {"term": {"u": "eve"}},
                "aggs": {"n": {"sum": {"field": "n"}}},
            },
            "named": {
                "filters": {"filters": {"low": {"range": {"n": {"lt": 6}}}, "all": ALL}},
            },
            "none": {"missing": {"field": "n"}},
        }
    )
    assert found["eve"] == {"doc_count": 3, "n": {"value": 15.5}}
    assert found["named"]["buckets"] == {"low": {"doc_count": 2}, "all": {"doc_count": 5}}
    assert found["none"] == {"doc_count": 1}


ALL: Any = {"match_all": {}}


def test_the_first_few_of_each_bucket() -> None:
    top = {"top_hits": {"size": 1, "sort": [{"n": "desc"}], "_source": ["n"]}}
    found = made({"a": {"terms": {"field": "u", "size": 1}, "aggs": {"top": top}}})
    hits = found["a"]["buckets"][0]["top"]["hits"]
    assert hits["total"] == {"value": 3, "relation": "eq"}
    assert hits["hits"] == [{"_id": "e", "_source": {"n": 9}, "sort": [9]}]
    second = {"top_hits": {"size": 1, "from": 1, "sort": "n", "_source": False}}
    assert made({"a": second})["a"]["hits"]["hits"] == [{"_id": "a", "sort": [5]}]


@pytest.mark.parametrize(
    ("specs", "named"),
    [
        ([], "object"),
        ({"a": 1}, "aggs.a"),
        ({"a": {"rare_terms": {"field": "u"}}}, "rare_terms"),
        ({"a": {"terms": {}}}, "field"),
        ({"a": {"terms": {"field": "u", "size": 0}}}, "size"),
        ({"a": {"terms": {"field": "u", "include": "e.*"}}}, "include"),
        ({"a": {"terms": {"field": "u", "order": {"_count": "up"}}}}, "asc"),
        ({"a": {"terms": {"field": "u", "script": "x"}}}, "script"),
        ({"a": {"terms": {"field": "u"}, "max": {"field": "n"}}}, "one kind"),
        ({"a": {"max": {"field": "n"}, "aggs": {"b": {"min": {"field": "n"}}}}}, "no buckets"),
        ({"a": {"date_histogram": {"field": "@timestamp"}}}, "interval"),
        ({"a": {"date_histogram": {"field": "@timestamp", "fixed_interval": "0h"}}}, "0h"),
        ({"a": {"date_histogram": {"field": "@timestamp", "calendar_interval": "2d"}}}, "2d"),
        (
            {"a": {"date_histogram": {"field": "a", "fixed_interval": "1h", "time_zone": "Mars"}}},
            "Mars",
        ),
        (
            {"a": {"date_histogram": {"field": "a", "fixed_interval": "1h", "offset": "1h"}}},
            "offset",
        ),
        ({"a": {"top_hits": {"size": 1000}}}, "100"),
        ({"a": {"filter": {"odd": {}}}}, "odd"),
        ({"a": {"percentiles": {"field": "n"}}}, "percentiles"),
    ],
)
def test_what_is_not_answered_is_named(specs: Any, named: str) -> None:
    with pytest.raises(RequestError) as told:
        made(specs)
    assert named in told.value.message


def test_depth_and_number_of_buckets_have_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    specs: Any = {"a": {"max": {"field": "n"}}}
    for _ in range(20):
        specs = {"a": {"terms": {"field": "u"}, "aggs": specs}}
    with pytest.raises(RequestError, match="deeper"):
        made(specs)
    monkeypatch.setattr(aggspec, "MOST_BUCKETS", 20)
    with pytest.raises(RequestError, match="more than 20 buckets"):
        made({"a": {"date_histogram": {"field": "@timestamp", "fixed_interval": "5m"}}})
    with pytest.raises(RequestError, match="buckets"):
        made({"a": {"terms": {"field": "n"}}}, [{"_id": "", "n": number} for number in range(30)])


@pytest.mark.parametrize(
    ("unit", "zone", "instant", "start", "after"),
    [
        ("month", None, "2026-02-10T00:00Z", "2026-02-01T00:00Z", "2026-03-01T00:00Z"),
        ("quarter", None, "2026-11-10T00:00Z", "2026-10-01T00:00Z", "2027-01-01T00:00Z"),
        ("year", None, "2028-06-01T00:00Z", "2028-01-01T00:00Z", "2029-01-01T00:00Z"),
        ("week", None, "2026-11-22T23:00Z", "2026-11-16T00:00Z", "2026-11-23T00:00Z"),
        # The clocks go back on the 25th of October: that day has 25 hours.
        (
            "day",
            "Europe/Berlin",
            "2026-10-25T20:00Z",
            "2026-10-24T22:00Z",
            "2026-10-25T23:00Z",
        ),
        ("hour", "Asia/Kolkata", "2026-10-25T20:00Z", "2026-10-25T19:30Z", "2026-10-25T20:30Z"),
    ],
)
def test_intervals_of_the_calendar(
    unit: str, zone: str | None, instant: str, start: str, after: str
) -> None:
    from barrelman.records.times import parse_instant_us

    found = parse_intervals(fixed_interval=None, calendar_interval=unit, interval=None, zone=zone)

    def ms(text: str) -> int:
        parsed = parse_instant_us(text)
        assert parsed is not None
        return parsed // 1000

    assert found.start_of(ms(instant)) == ms(start)
    assert found.next_after(ms(start)) == ms(after)
