"""`barrelman query`, as typed: languages, inputs, mappings, formats, and what is said."""

from __future__ import annotations

import csv
import gzip
import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from samples import event, lines, write_log

from barrelman.cli.main import run

DOCS: list[dict[str, Any]] = [
    {"@timestamp": "2026-11-23T12:00:03Z", "id": 1, "event": {"category": "process"}, "u": "kim"},
    {"@timestamp": "2026-11-23T12:00:01Z", "id": 2, "event": {"category": "process"}, "u": "eve"},
    {"@timestamp": "2026-11-23T12:00:02Z", "id": 3, "event": {"category": "file"}, "u": "eve"},
    {"@timestamp": "2026-11-23T12:00:09Z", "id": 4, "event": {"category": "file"}, "u": "kim"},
]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def docs(tmp_path: Path) -> str:
    return str(write_log(tmp_path / "docs.jsonl", DOCS))


@pytest.fixture
def audit(tmp_path: Path) -> str:
    made = [event(n, seconds=n, verb=verb) for n, verb in enumerate(["create", "get", "delete"])]
    return str(write_log(tmp_path / "audit.log", made))


def write(path: Path, value: object) -> str:
    path.write_text(json.dumps(value))
    return str(path)


class Asked:
    """One run of the command: its exit code, and what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        self.code = run(["query", *arguments])
        self.out, self.err = capsys.readouterr()

    @property
    def ids(self) -> list[Any]:
        return [json.loads(line)["id"] for line in self.out.splitlines()]


# --- languages -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "query", "expected"),
    [
        ("kql", "u: kim", [1, 4]),
        ("kql", "not u: kim", [2, 3]),
        ("kql", "id >= 3", [3, 4]),
        ("kql", "", [1, 2, 3, 4]),
        ("lucene", "u:kim OR id:[2 TO 2]", [1, 2, 4]),
        ("lucene", "+u:eve -id:3", [2]),
        ("eql", "process where true", [2, 1]),
        ("eql", "any where true", [2, 3, 1, 4]),
        ("eql", "any where true | tail 2", [1, 4]),
        ("eql", 'any where u == "eve" and id > 2', [3]),
    ],
)
def test_documents_are_printed_as_they_came(
    docs: str, capsys: pytest.CaptureFixture[str], language: str, query: str, expected: list[int]
) -> None:
    asked = Asked(capsys, "--language", language, query, docs)
    assert (asked.code, asked.err) == (1, "")
    assert asked.ids == expected
    assert set(asked.out.splitlines()) <= set(Path(docs).read_text().splitlines())


def test_a_sequence_is_one_object_a_line(docs: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = "sequence by u with maxspan=5s [process where true] [file where true]"
    asked = Asked(capsys, "--language", "eql", text, docs)
    assert asked.code == 1
    assert json.loads(asked.out) == {"join_keys": ["eve"], "events": [DOCS[1], DOCS[2]]}
    text = "sequence by u with maxspan=9s [process where true] ![any where id==9] [file where true]"
    asked = Asked(capsys, "--language", "eql", text, docs)
    assert [json.loads(line)["events"] for line in asked.out.splitlines()] == [
        [DOCS[1], None, DOCS[2]],
        [DOCS[0], None, DOCS[3]],
    ]


def test_a_sample(docs: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = "sample by u [file where true] [process where true]"
    asked = Asked(capsys, "--language", "eql", text, docs)
    assert [json.loads(line)["join_keys"] for line in asked.out.splitlines()] == [["eve"], ["kim"]]


def test_fields_of_eql_may_have_other_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [{"id": n, "kind": "x", "at": at, "tie": -n} for n, at in enumerate([5, 7, 5])]
    path = str(write_log(tmp_path / "d.jsonl", made))
    options = ["--event-category-field", "kind", "--timestamp-field", "at"]
    asked = Asked(capsys, "--language", "eql", *options, "x where true", path)
    assert asked.ids == [0, 2, 1]
    options += ["--tiebreaker-field", "tie"]
    asked = Asked(capsys, "--language", "eql", *options, "x where true", path)
    assert asked.ids == [2, 0, 1]


def test_esql_is_refused_by_name(docs: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(capsys, "--language", "esql", "FROM docs", docs)
    assert asked.code == 2
    assert "ES|QL does not run yet" in asked.err


# --- inputs --------------------------------------------------------------------------------


def test_audit_events_have_the_names_of_rules(
    audit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Asked(capsys, "kubernetes.audit.verb: (create or delete) and user.name: eve", audit)
    assert asked.code == 1
    assert [json.loads(line)["verb"] for line in asked.out.splitlines()] == ["create", "delete"]
    stages = (f'[any where event.action == "{verb}"]' for verb in ("create", "delete"))
    text = f"sequence by user.name {' '.join(stages)}"
    asked = Asked(capsys, "--language", "eql", text, audit)
    (found,) = map(json.loads, asked.out.splitlines())
    assert [each["verb"] for each in found["events"]] == ["create", "delete"]


def test_audit_events_and_documents_may_be_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_log(tmp_path / "m", [event(1), {"user": {"name": "eve"}, "verb": "x"}]))
    asked = Asked(capsys, "user.name: eve", path)
    assert len(asked.out.splitlines()) == 2


def test_compressed_files_folders_and_several_paths(
    tmp_path: Path, docs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.gz").write_bytes(gzip.compress(lines(DOCS[:1])))
    (folder / "b.jsonl").write_text(json.dumps(DOCS[1:], indent=1))
    asked = Asked(capsys, "id: *", str(folder), docs)
    assert asked.ids == [1, 2, 3, 4, 1, 2, 3, 4]


@pytest.mark.parametrize("paths", [[], ["-"]])
def test_standard_input(paths: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "barrelman", "query", "u: eve", *paths],
        input=gzip.compress(lines(DOCS)),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [2, 3]


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    path = write_log(tmp_path / "many", DOCS * 20_000)
    command = [sys.executable, "-m", "barrelman", "query", "id: *", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.wait() == 1
        assert child.stderr.read() == b""


def test_an_interrupted_query_ends_what_it_has_begun() -> None:
    command = [sys.executable, "-m", "barrelman", "query", "id: *", "-", "--format", "json"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(lines(DOCS))
        child.stdin.flush()
        first = child.stdout.readline() + child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.stderr is not None
        found = json.loads(first + child.stdout.read())
        assert found
        assert found == DOCS[: len(found)]
        assert b"interrupted" in child.stderr.read()
        assert child.wait() == 130


def test_indices_have_mappings_of_their_own(
    tmp_path: Path, docs: str, audit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping = write(
        tmp_path / "m.json",
        {"properties": {"who": {"type": "alias", "path": "u"}, "u": {"type": "text"}}},
    )
    asked = Asked(
        capsys,
        "who: EVE or user.name: eve",
        "--index",
        f"docs={docs}",
        "--index",
        f"k8s={audit}",
        "--mapping",
        f"docs={mapping}",
    )
    assert [json.loads(line).get("id") for line in asked.out.splitlines()] == [
        2,
        3,
        None,
        None,
        None,
    ]
    asked = Asked(
        capsys,
        "who: EVE",
        "--index",
        f"a={docs}",
        "--index",
        f"a={docs}",
        docs,
        "--mapping",
        mapping,
    )
    assert asked.ids == [2, 3, 2, 3, 2, 3]


def test_of_several_indices_a_field_need_not_be_in_each(
    tmp_path: Path, docs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    times = {"@timestamp": {"type": "date"}, "event.category": {"type": "keyword"}}
    first = write(tmp_path / "1", {"properties": times | {"id": {"type": "long"}}})
    second = write(tmp_path / "2", {"dynamic": False, "properties": times})
    asked = Asked(
        capsys,
        "--language",
        "eql",
        "any where id < 3",
        "--index",
        f"a={docs}",
        "--index",
        f"b={docs}",
        "--mapping",
        f"a={first}",
        "--mapping",
        f"b={second}",
    )
    assert asked.ids == [2, 1]


# --- mappings ------------------------------------------------------------------------------

MAPPING = {
    "docs": {
        "mappings": {
            "properties": {
                "@timestamp": {"type": "date"},
                "id": {"type": "long"},
                "u": {"type": "text", "fields": {"raw": {"type": "keyword"}}},
                "event": {"properties": {"category": {"type": "keyword"}}},
                "gone": {"type": "keyword", "null_value": "none"},
            }
        }
    }
}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["u: KIM"], [1, 4]),
        (["u.raw: kim"], [1, 4]),
        (["id: 03"], [3]),
        (['@timestamp >= "2026-11-23T12:00:03Z"'], [1, 4]),
        (["--language", "lucene", "u.raw:k*"], [1, 4]),
        (["--language", "eql", 'process where u == "kim"'], [1]),
        (
            [
                "--language",
                "eql",
                'any where ?nothing == null and @timestamp < "2026-11-23T12:00:02Z"',
            ],
            [2],
        ),
    ],
)
def test_a_mapping_types_the_fields(
    tmp_path: Path,
    docs: str,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: list[int],
) -> None:
    mapping = write(tmp_path / "mapping.json", MAPPING)
    asked = Asked(capsys, *arguments, docs, "--mapping", mapping)
    assert (asked.code, asked.err) == (1, "")
    assert asked.ids == expected


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--language", "eql", "any where idd == 1"], "the mapping has no field idd"),
        (["--language", "eql", 'any where id == "x"'], "id is a number"),
        (["id: x"], "id is a number, and 'x' is none"),
        (["--language", "lucene", "id:x"], "id is a number, and 'x' is none"),
    ],
)
def test_what_a_mapping_forbids(
    tmp_path: Path,
    docs: str,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
) -> None:
    mapping = write(tmp_path / "mapping.json", MAPPING)
    asked = Asked(capsys, *arguments, docs, "--mapping", mapping)
    assert (asked.code, asked.out) == (2, "")
    assert told in asked.err
    assert "^" in asked.err


def test_a_field_that_a_mapping_lacks_is_noted(
    tmp_path: Path, docs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping = write(tmp_path / "mapping.json", MAPPING)
    asked = Asked(capsys, "iid: 1", docs, "--mapping", mapping)
    assert asked.code == 0
    assert "note: the mapping has no field iid (did you mean id?)" in asked.err


# --- formats -------------------------------------------------------------------------------


def test_json_is_one_array(docs: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(Asked(capsys, "u: kim", docs, "--format", "json").out) == [DOCS[0], DOCS[3]]
    assert json.loads(Asked(capsys, "u: no", docs, "--format", "json").out) == []


def test_csv_has_a_column_for_each_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[dict[str, Any]] = [
        {"a": 1, "o": {"b": "x,y\n"}},
        {"c": [1, "z"], "a": True},
        {"a": None, "d": []},
    ]
    path = str(write_log(tmp_path / "d", made))
    out = Asked(capsys, "*", path, "--format", "csv").out
    assert list(csv.reader(io.StringIO(out))) == [
        ["a", "o.b", "c"],
        ["1", "x,y\n", ""],
        ["true", "", '[1,"z"]'],
        ["", "", ""],
    ]
    assert Asked(capsys, "a: 7", path, "--format", "csv").out == ""


def test_csv_has_no_more_columns_than_anyone_reads(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = [{f"k{number}-{key}": 1 for key in range(500)} for number in range(3)]
    path = str(write_log(tmp_path / "wide.jsonl", found))
    asked = Asked(capsys, "*", path, "--format", "csv")
    header, *rows = csv.reader(io.StringIO(asked.out))
    assert len(header) == 1000
    assert [sum(cell == "1" for cell in row) for row in rows] == [500, 500, 0]
    assert "500 more fields have no room here" in asked.err


def test_an_array_is_closed_when_a_later_event_does_not_suit_the_query(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = str(write_log(tmp_path / "mixed.log", [{"source": {"ip": "here"}}, event(1)]))
    asked = Asked(capsys, "source.ip: here", path, "--format", "json")
    assert asked.code == 2
    assert json.loads(asked.out) == [{"source": {"ip": "here"}}]


def test_what_a_condition_could_not_look_at_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wide = {name: [f"{name}{number}" for number in range(101)] for name in "ab"}
    path = str(write_log(tmp_path / "wide.jsonl", [wide]))
    asked = Asked(capsys, "--language", "eql", 'any where concat(a, b) == "none"', path)
    assert "warning: once a condition saw only 10,000 combinations" in asked.err


def test_csv_of_sequences_has_a_row_for_each_place(
    docs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        "sequence by u with maxspan=5s [process where true] ![any where id == 9] [file where true]"
    )
    out = Asked(capsys, "--language", "eql", text, docs, "--format", "csv").out
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["sequence"], row["join_keys"], row["step"], row["id"]) for row in rows] == [
        ("1", '["eve"]', "1", "2"),
        ("1", '["eve"]', "2", ""),
        ("1", '["eve"]', "3", "3"),
    ]


def test_a_table_fits_the_terminal(
    audit: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "kubernetes.audit.requestObject.spec.hostIPC: true"
    rows = Asked(capsys, query, audit, "--format", "table").out.splitlines()
    assert rows[0].split() == [
        "TIME",
        "(UTC)",
        "USER",
        "VERB",
        "OBJECT",
        "CODE",
        "…uestObject.spec.hostIPC",
    ]
    assert rows[1].split() == [
        "2026-11-23",
        "12:01:00",
        "eve",
        "create",
        "pods",
        "shop/p0",
        "201",
        "true",
    ]
    assert max(map(len, rows)) <= 80
    monkeypatch.setenv("COLUMNS", "60")
    rows = Asked(capsys, query, audit, "--format", "table").out.splitlines()
    assert max(map(len, rows)) <= 60


def test_a_table_shows_first_what_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [{f"f{n}": f"{n}" * 30 for n in range(40)} | {"z": "\x1b[31m日本", "@timestamp": "2026"}]
    path = str(write_log(tmp_path / "d", made))
    asked = Asked(capsys, "z: *", path, "--format", "table")
    head, row = asked.out.splitlines()
    assert head.split()[:2] == ["@timestamp", "z"]
    assert row.split()[:2] == ["2026", "\\x1b[31m日本"]
    assert row.isprintable()
    assert "more fields have no room here; --format jsonl" in asked.err


def test_a_table_of_sequences(docs: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "sequence by u with maxspan=9s [process where true] ![any where id == 9] [file where true]"
    )
    asked = Asked(capsys, "--language", "eql", text, docs, "--format", "table")
    assert [row.split()[0] for row in asked.out.splitlines() if row] == [
        *("@timestamp", "1:", "2026-11-23T12:00:01Z", "(no", "2026-11-23T12:00:02Z"),
        *("2:", "2026-11-23T12:00:03Z", "(no", "2026-11-23T12:00:09Z"),
    ]


# --- what is said --------------------------------------------------------------------------


def test_malformed_lines_are_counted_and_shown_with_their_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "d"
    path.write_text('{"id": 1}\nnothing\n' + "{]\n" * 9 + '{"id": 2}\n')
    asked = Asked(capsys, "id: *", str(path))
    assert asked.code == 1
    assert asked.ids == [1, 2]
    told = asked.err.splitlines()
    assert told[0].startswith(f"{path}:2: malformed: ")
    assert len(told) == 6
    assert told[-1] == "warning: 10 lines are malformed, and not searched"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["u: nobody"], "nothing found in 4 documents\n"),
        (["user: kim"], "no document has a field user"),
        (["--language", "eql", "any where idd == 1"], "a field idd (did you mean id?)"),
        (["any where true"], "it looks like EQL: --language eql"),
        (["id:[1 TO 2]"], "it looks like Lucene: --language lucene"),
    ],
)
def test_where_nothing_is_found_it_says_why(
    docs: str, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    asked = Asked(capsys, *arguments, docs)
    assert (asked.code, asked.out) == (0, "")
    assert told in asked.err


def test_where_audit_events_have_no_such_field(
    audit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = Asked(capsys, "verb: create", audit).err
    assert told.splitlines() == [
        "nothing found in 3 documents",
        "note: audit events have no field verb: it is called kubernetes.audit.verb",
    ]
    told = Asked(capsys, "--language", "eql", "process where true", audit).err
    assert "only 'any where …' reaches them" in told


def test_events_without_a_time_are_in_no_sequence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_log(tmp_path / "d", [{"id": 1}, *DOCS]))
    text = "sequence [any where true] [any where id == 4]"
    asked = Asked(capsys, "--language", "eql", text, path)
    assert asked.code == 1
    assert asked.err == "warning: 1 document without @timestamp: in no sequence\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["u:"], "a value is missing"),
        (["--language", "eql", "any where u = 1"], "`=` is no comparison in EQL"),
        (['any where u == "x"'], "as EQL it can be read: --language eql"),
        (["u: x", "--index", "nothing"], "'nothing' does not name an index and its path"),
        (["u: x", "--index", "a="], "does not name an index"),
        (["u: x", "--mapping", "no.json"], "no.json: cannot be read"),
        (["u: x", "--timestamp-field", "t"], "--timestamp-field is for --language eql alone"),
        (["u: x", "no.jsonl"], "no.jsonl: cannot be read"),
        (["u: x", "--language", "sql"], "'sql' is not one of"),
        (["u: x", "--format", "xml"], "'xml' is not one of"),
    ],
)
def test_what_is_wrong(
    docs: str, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    asked = Asked(capsys, *arguments, docs)
    assert asked.code == 2
    assert told in asked.err


def test_a_mapping_that_is_none_or_is_for_none(
    tmp_path: Path, docs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping = write(tmp_path / "m.json", MAPPING)
    broken = write(tmp_path / "broken.json", {"properties": {"a": {"type": "keywrd"}}})
    (tmp_path / "text.json").write_text("properties: {}")
    for given, told in (
        ([f"x={mapping}"], "there is no index 'x'"),
        ([mapping, mapping], "two mappings"),
        ([broken], "broken.json: a is of type keywrd, which is none (did you mean keyword?)"),
        ([str(tmp_path / "text.json")], "text.json: not JSON"),
    ):
        options = [each for text in given for each in ("--mapping", text)]
        asked = Asked(capsys, "u: kim", docs, *options)
        assert asked.code == 2
        assert told in asked.err


def test_a_file_in_the_place_of_the_query(docs: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(capsys, docs)
    assert asked.code == 2
    assert "is a file, and no query" in asked.err
    assert "QUERY comes first" in asked.err


def test_an_unreadable_file_keeps_no_other_from_being_searched(
    docs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Asked(capsys, "u: kim", "no.jsonl", docs)
    assert asked.code == 2
    assert asked.ids == [1, 4]


def test_no_query_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(capsys)
    assert asked.code == 2
    assert "Missing argument 'QUERY'" in asked.err
