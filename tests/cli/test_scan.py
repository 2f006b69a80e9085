"""`barrelman scan` as a whole: what a user types, and what comes out."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from samples import SEED_ID, SEED_NAME, event, lines, rule, write_log, write_rules

from barrelman.cli.main import run

Capture = pytest.CaptureFixture[str]
Scan = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def scan(capfd: Capture) -> Scan:
    """Runs `barrelman scan` with JSON lines: exit code, alerts, stderr."""

    def scan_(*arguments: object) -> tuple[int, list[dict[str, Any]], str]:
        code = run(["scan", *map(str, arguments)])
        out, err = capfd.readouterr()
        assert out == "" or out.endswith("\n")
        return code, [json.loads(line) for line in out.split("\n") if line], err

    return scan_


def ids(alerts: list[dict[str, Any]]) -> list[str]:
    return [alert["kibana.alert.uuid"] for alert in alerts]


def names(alerts: list[dict[str, Any]]) -> list[str]:
    return [alert["kubernetes"]["audit"]["objectRef"]["name"] for alert in alerts]


HOST_IPC: list[tuple[str, dict[str, Any], bool]] = [
    ("create", {}, True),
    ("update", {"verb": "update"}, True),
    ("patch", {"verb": "patch", "requestObject": {"spec": {"hostIPC": True}}}, True),
    ("string true", {"requestObject": {"spec": {"hostIPC": "true"}}}, True),
    ("get", {"verb": "get"}, False),
    ("delete", {"verb": "delete"}, False),
    ("false", {"requestObject": {"spec": {"hostIPC": False}}}, False),
    ("string false", {"requestObject": {"spec": {"hostIPC": "false"}}}, False),
    ("absent", {"requestObject": {"spec": {}}}, False),
    ("no body", {"requestObject": None}, False),
    (
        "a Deployment's template",
        {
            "objectRef": {"resource": "deployments", "apiGroup": "apps", "name": "d"},
            "requestObject": {"spec": {"template": {"spec": {"hostIPC": True}}}},
        },
        False,
    ),
    ("JSON patch", {"verb": "patch", "requestObject": [{"path": "/spec/hostIPC"}]}, False),
]


@pytest.mark.parametrize(
    ("changes", "alerts"), [c[1:] for c in HOST_IPC], ids=[c[0] for c in HOST_IPC]
)
def test_seed_rule(scan: Scan, tmp_path: Path, changes: dict[str, Any], alerts: bool) -> None:
    log = write_log(tmp_path / "audit.log", [event(1, **changes)])
    code, found, _ = scan(log)
    assert (code, len(found)) == ((1, 1) if alerts else (0, 0))
    assert [each["kibana.alert.rule.name"] for each in found] == [SEED_NAME] * alerts


def test_an_alert_carries_the_whole_rule(scan: Scan, tmp_path: Path) -> None:
    _, (alert,), _ = scan(write_log(tmp_path / "a.log", [event(1)]), "--cluster", "blue")
    assert alert["@timestamp"] == "2026-11-23T12:05:00.000Z"
    assert alert["kibana.alert.original_time"] == "2026-11-23T12:01:00.000Z"
    assert alert["kibana.alert.severity"] == "medium"
    assert alert["kibana.alert.risk_score"] == 47
    assert alert["kibana.alert.reason"] == (
        "event with source 203.0.113.7, by eve created medium alert "
        "Kubernetes Pod Created With HostIPC."
    )
    assert alert["orchestrator"]["cluster"]["name"] == "blue"
    assert alert["event"] == {
        "kind": "signal",
        "action": "create",
        "dataset": "kubernetes.audit_logs",
        "outcome": "success",
    }
    assert alert["kibana.alert.rule.rule_id"] == SEED_ID
    parameters = alert["kibana.alert.rule.parameters"]
    assert parameters["query"].startswith('kubernetes.audit.objectRef.resource:"pods" and ')
    assert parameters["threat"][0]["technique"][0]["id"] == "T1611"
    assert len(parameters["references"]) == 3
    assert "ipcs" in alert["kibana.alert.rule.note"]
    assert "metadata" not in alert["kubernetes"]["audit"]["requestObject"]


def test_the_cap_counts_what_it_leaves_out(scan: Scan, tmp_path: Path) -> None:
    log = write_log(tmp_path / "a.log", [event(n, seconds=n / 10) for n in range(250)])
    code, found, err = scan(log)
    assert (code, len(found)) == (1, 100)
    assert names(found) == [f"p{n}" for n in range(100)]
    assert "150 capped" in err
    assert ids(scan(log, log)[1]) == ids(found)
    assert "150 capped" in scan(log, log)[2]
    assert len(scan(log, "--max-signals", "none")[1]) == 250
    assert len(scan(log, "--max-signals", "7")[1]) == 7


def test_matches_in_the_overlap_get_a_second_run(scan: Scan, tmp_path: Path) -> None:
    log = write_log(tmp_path / "a.log", [event(n, seconds=200 + n / 10) for n in range(250)])
    _, found, err = scan(log)
    ticks = [alert["@timestamp"] for alert in found]
    assert ticks == ["2026-11-23T12:05:00.000Z"] * 100 + ["2026-11-23T12:10:00.000Z"] * 100
    assert "50 capped" in err


def test_every_way_in_gives_the_same_bytes(tmp_path: Path, capfd: Capture) -> None:
    events = [
        event(n, seconds=n * 7 % 1900, stage=None if n % 9 == 0 else "ResponseComplete")
        for n in range(400)
    ]
    content = lines(events)
    shuffled = events[:]
    random.Random(5).shuffle(shuffled)
    ways = {
        "plain": content,
        "gzip": gzip.compress(content[:5000]) + gzip.compress(content[5000:]),
        "zstd": zstandard.compress(content),
        "bz2": bz2.compress(content),
        "xz": lzma.compress(content),
        "crlf": b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")[:-2],
        "list": json.dumps({"kind": "EventList", "items": events}).encode(),
        "pretty": json.dumps(events, indent=1).encode(),
        "shuffled": lines(shuffled),
    }
    outputs = set()
    for name, data in ways.items():
        path = tmp_path / name
        path.write_bytes(data)
        assert run(["scan", str(path), "--quiet"]) == 1
        outputs.add(capfd.readouterr().out)
    assert len(outputs) == 1
    assert len(outputs.pop().splitlines()) > 200


def test_wrapped_and_indexed_events_are_the_same_alert(scan: Scan, tmp_path: Path) -> None:
    plain = event(1)
    text = json.dumps(plain)
    inside = {key: value for key, value in plain.items() if key != "annotations"}
    document = {"@timestamp": plain["stageTimestamp"], "kubernetes": {"audit": inside}}
    shapes = [
        text,
        f"2026-11-23T12:01:00.5Z stdout F {text}",
        json.dumps({"log": text + "\n", "stream": "stdout", "time": "2026-11-23T12:01:00Z"}),
        json.dumps({"properties": {"log": text}, "time": plain["stageTimestamp"]}),
        json.dumps({"messageType": "DATA_MESSAGE", "logEvents": [{"message": text}]}),
        json.dumps({"_index": "logs-kubernetes.audit_logs-default", "_source": document}),
        json.dumps(
            {
                "@timestamp": plain["stageTimestamp"],
                **{f"kubernetes.audit.{key}": value for key, value in inside.items()},
            }
        ),
        f"master-0.example.com {text}",
    ]
    found = set()
    for number, shape in enumerate(shapes):
        log = tmp_path / f"{number}.log"
        log.write_text(shape + "\n")
        code, alerts, err = scan(log)
        assert (code, len(alerts)) == (1, 1), (shape, err)
        found.update(ids(alerts))
    assert len(found) == 1
    _, alerts, err = scan(tmp_path)
    assert len(alerts) == 1
    assert f"{len(shapes) - 1} matches of an event seen before" in err


def test_bad_lines_are_counted_and_the_scan_goes_on(scan: Scan, tmp_path: Path) -> None:
    good = lines([event(1), event(2)]).split(b"\n")
    bad = [
        b"{",
        b'{"kind":"Event","lev',
        b"42",
        b'{"verb":"\xff"}',
        b'{"a":' * 1100,
        b'{"kind": 0}',
    ]
    log = tmp_path / "a.log"
    log.write_bytes(b"\n".join([bad[0], good[0], *bad[1:], good[1]]))
    code, found, err = scan(log)
    assert (code, names(found)) == (1, ["p1", "p2"])
    assert "malformed  5 lines or objects: broken" in err
    assert "foreign    1 line or object: whole" in err
    assert f"{log}:1: malformed" in err
    assert scan(log, "--strict")[0] == 2
    assert scan(log, "--quiet") == (1, found, "")


def test_an_unreadable_file_is_an_error_and_the_others_are_scanned(
    scan: Scan, tmp_path: Path
) -> None:
    log = write_log(tmp_path / "a.log", [event(1)])
    torn = tmp_path / "torn.gz"
    torn.write_bytes(
        gzip.compress(lines([event(2)]) + bytes(random.Random(1).randbytes(9000)))[:-700]
    )
    code, found, err = scan(tmp_path / "none.log", log, torn)
    assert code == 2
    assert names(found) == ["p1", "p2"]
    assert "none.log" in err
    assert "torn.gz" in err


def test_rules_of_ones_own(scan: Scan, tmp_path: Path) -> None:
    log = write_log(tmp_path / "a.log", [event(1), event(2, spec={})])
    rules = write_rules(
        tmp_path / "rules.ndjson",
        [
            rule(),
            rule(rule_id="2", name="esql", type="esql", language="esql", query="from a"),
            rule(rule_id="3", name="off", enabled=False),
        ],
    )
    code, found, err = scan(log, "--rules", rules)
    assert code == 1
    assert sorted(each["kibana.alert.rule.name"] for each in found) == [
        "Anything in shop",
        "Anything in shop",
        SEED_NAME,
    ]
    assert "unsupported: esql: ES|QL rules do not run yet" in err
    assert "2 ran, 1 unsupported, 1 disabled" in err
    assert len(scan(log, "--rules", rules, "--no-pack")[1]) == 2
    assert len(scan(log, "--rules", rules, "--rule", SEED_ID)[1]) == 1
    assert len(scan(log, "--rules", rules, "--rule", "anything in shop")[1]) == 2
    assert len(scan(log, "--rules", rules, "--rule", "privilege escalation")[1]) == 1
    assert len(scan(log, "--rules", rules, "--severity", "medium")[1]) == 1
    assert len(scan(log, "--rules", rules, "--rule", "off")[1]) == 2


def test_a_given_rule_replaces_the_packs(scan: Scan, tmp_path: Path) -> None:
    log = write_log(tmp_path / "a.log", [event(1)])
    mine = write_rules(tmp_path / "mine.ndjson", [rule(rule_id=SEED_ID, name="Mine")])
    code, found, err = scan(log, "--rules", mine)
    assert code == 1
    assert [each["kibana.alert.rule.name"] for each in found] == ["Mine"]
    assert "replaces" in err


def test_an_invalid_rule_is_named_with_its_place(scan: Scan, tmp_path: Path) -> None:
    log = write_log(tmp_path / "a.log", [event(1)])
    broken = write_rules(tmp_path / "broken.ndjson", [rule(), rule(rule_id="2", query="a:b:c")])
    twice = write_rules(tmp_path / "twice.ndjson", [rule(name="again")])
    typed = write_rules(
        tmp_path / "typed.ndjson",
        [rule(rule_id="4", query="kubernetes.audit.requestObject.spec.hostIPC:tr*")],
    )
    code, found, err = scan(log, "--rules", broken, "--rules", twice, "--rules", typed)
    assert code == 2
    assert len(found) == 2
    assert f"{broken}:2:" in err
    assert "^" in err
    assert str(twice) in err
    assert "a wildcard pattern cannot match it" in err
    assert scan(log, "--rules", broken, "--rule", SEED_ID)[0] == 1
    code, _, err = scan(log, "--rule", "Kubernetes Pod Created With HostIPX")
    assert code == 2
    assert f"did you mean '{SEED_NAME}'?" in err


def test_a_document_with_a_verb_of_its_own_is_a_document(scan: Scan, tmp_path: Path) -> None:
    fields = {"@timestamp": "2026-01-01T00:00:10Z", "verb": "create", "port": 80}
    fields["user"] = {"groups": ["system:masters"]}
    log = tmp_path / "a.log"
    inner = {key: value for key, value in fields.items() if key != "@timestamp"}
    shapes = [fields, {"_index": "x", "_id": "1", "_source": fields}, {"_source": inner}]
    log.write_text("".join(json.dumps(each) + "\n" for each in shapes))
    rules = write_rules(
        tmp_path / "r.ndjson",
        [rule(index=["*"], query="verb:create and user.groups:system\\:masters and port < 81")],
    )
    code, found, err = scan(log, "--rules", rules, "--max-signals", "none")
    assert code == 1
    assert len(found) == 2, err
    assert "1 match of an event seen before" in err


def test_blind_rules_say_why(scan: Scan, tmp_path: Path) -> None:
    log = write_log(tmp_path / "a.log", [event(1, requestObject=None)])
    rules = write_rules(
        tmp_path / "r.ndjson",
        [
            rule(rule_id="1", name="elsewhere", index=["filebeat-*"]),
            rule(rule_id="2", name="process", query="process.name:sh and user.name:eve"),
        ],
    )
    code, found, err = scan(log, "--rules", rules)
    assert (code, found) == (0, [])
    assert "blind      3 rules could not fire" in err
    assert "no event here carries a requestObject" in err
    assert "filebeat-*" in err
    assert "process.name" in err
    misspelt = write_rules(
        tmp_path / "m.ndjson", [rule(query="kubernetes.audit.objectref.resource:pods")]
    )
    assert "did you mean objectRef?" in scan(log, "--rules", misspelt)[2]


def test_truncated_events_are_counted(scan: Scan, tmp_path: Path) -> None:
    cut = event(1, requestObject=None, annotations={"audit.k8s.io/truncated": "true"})
    code, found, err = scan(write_log(tmp_path / "a.log", [cut, event(2)]))
    assert (code, len(found)) == (1, 1)
    assert "truncated  1 event without bodies" in err


def test_combinations_that_were_not_looked_at_are_told(scan: Scan, tmp_path: Path) -> None:
    groups, addresses = (
        [f"{start}{number}" for number in range(101)] for start in ("g", "10.0.0.")
    )
    user = {"username": "eve", "groups": [*groups, "last"]}
    many = event(2, user=user, sourceIPs=addresses, requestObject=None)
    log = write_log(tmp_path / "a.log", [event(1, requestObject=None), many])
    arrays = ["kubernetes.audit.user.groups", "kubernetes.audit.sourceIPs"]
    joined = f"concat({', '.join(arrays)})"
    asks = rule(type="eql", language="eql", query=f'any where {joined} == "last10.0.0.9"')
    counts = rule(type="threshold", threshold={"field": arrays, "value": 2}, rule_id="t")
    for made, expected in (
        (asks, "cut        1 time a condition saw only 10,000 combinations"),
        (counts, "let go     302 keys or partial sequences"),
    ):
        rules = write_rules(tmp_path / "r.ndjson", [made])
        for more in ((), ("--jobs", "2")):
            code, found, err = scan(log, "--rules", rules, *more)
            assert (code, found) == (0, [])
            assert expected in err


def test_exceptions(scan: Scan, tmp_path: Path) -> None:
    log = write_log(
        tmp_path / "a.log",
        [
            event(1),
            event(2, user={"username": "ci"}),
            event(3, seconds=86400 * 30, user={"username": "bob"}),
        ],
    )
    item = {
        "list_id": "tuning",
        "item_id": "i",
        "type": "simple",
        "name": "ci may",
        "namespace_type": "single",
        "entries": [{"type": "match", "field": "user.name", "operator": "included", "value": "ci"}],
    }
    expiring = item | {
        "item_id": "j",
        "expire_time": "2026-11-30T00:00:00.000Z",
        "entries": [
            {"type": "wildcard", "field": "user.name", "operator": "included", "value": "b?b"}
        ],
    }
    head = {"list_id": "tuning", "type": "detection", "name": "t", "namespace_type": "single"}
    lists = tmp_path / "lists.ndjson"
    lists.write_text("".join(json.dumps(each) + "\n" for each in (head, item, expiring)))
    code, found, err = scan(log, "--exceptions", lists)
    assert code == 1
    assert names(found) == ["p1", "p3"]
    assert "applies to every rule" in err


def test_since_and_until(scan: Scan, tmp_path: Path) -> None:
    log = write_log(tmp_path / "a.log", [event(n, seconds=n * 3600) for n in range(6)])
    assert names(scan(log, "--since", "2h")[1]) == ["p3", "p4", "p5"]
    assert names(scan(log, "--until", "4h")[1]) == ["p0", "p1"]
    assert names(
        scan(log, "--since", "2026-11-23T14:01:00Z", "--until", "2026-11-23T15:01")[1]
    ) == [
        "p2",
        "p3",
    ]
    assert scan(log, "--since", "yesterday")[0] == 2
    assert scan(log, "--since", "2026-11-24", "--until", "2026-11-23")[0] == 2


def test_secrets_are_masked(scan: Scan, tmp_path: Path) -> None:
    log = write_log(
        tmp_path / "a.log",
        [
            event(
                1,
                objectRef={"resource": "secrets", "namespace": "shop", "name": "db"},
                requestObject={"kind": "Secret", "data": {"password": "aHVudGVyMg=="}},
                userAgent="curl Bearer abc.def",
            )
        ],
    )
    rules = write_rules(tmp_path / "r.ndjson", [rule()])
    shown = json.dumps(scan(log, "--rules", rules)[1])
    assert "aHVudGVyMg" not in shown
    assert "abc.def" not in shown
    assert "[redacted]" in shown
    assert "aHVudGVyMg" in json.dumps(scan(log, "--rules", rules, "--no-redact")[1])


def test_formats_and_output(tmp_path: Path, capfd: Capture) -> None:
    log = write_log(tmp_path / "a.log", [event(1), event(2)])
    assert run(["scan", str(log), "--quiet", "--format", "json"]) == 1
    assert len(json.loads(capfd.readouterr().out)) == 2
    empty = write_log(tmp_path / "empty.log", [])
    assert run(["scan", str(empty), "--quiet", "--format", "json"]) == 0
    assert json.loads(capfd.readouterr().out) == []
    target = tmp_path / "alerts.jsonl"
    assert run(["scan", str(log), "--quiet", "-o", str(target)]) == 1
    assert capfd.readouterr().out == ""
    assert len(target.read_text().splitlines()) == 2
    assert run(["scan", str(log), "--quiet", "--format", "table"]) == 1
    out = capfd.readouterr().out
    assert SEED_NAME in " ".join(out.split())
    assert "create pods shop/p1" in out
    assert "requestObject.spec.hostIPC: true" in out
    assert run(["scan", str(log), "-o", str(log)]) == 2
    assert log.stat().st_size > 0


def test_a_terminal_is_not_steered_by_an_event(tmp_path: Path, capfd: Capture) -> None:
    log = write_log(tmp_path / "a.log", [event(1, user={"username": "e\x1b[2Jve\u202e"})])
    assert run(["scan", str(log), "--quiet", "--format", "table"]) == 1
    out = capfd.readouterr().out
    assert "\x1b[2J" not in out
    assert "\u202e" not in out
    assert "e\\x1b[2Jve" in out


def test_bad_usage(scan: Scan, tmp_path: Path) -> None:
    log = write_log(tmp_path / "a.log", [event(1)])
    for arguments in (
        ["--max-signals", "0"],
        ["--max-signals", "many"],
        ["--severity", "huge"],
        ["--max-event-size", "lots"],
        ["-o", str(tmp_path / "no" / "dir")],
        ["--format", "xml"],
        ["--nonsense"],
    ):
        code, found, err = scan(log, *arguments)
        assert (code, found) == (2, []), arguments
        assert err


def test_neither_rules_nor_file_names_steer_the_terminal(tmp_path: Path, capfd: Capture) -> None:
    log = tmp_path / "a\x1b[2J.log"
    log.write_bytes(b"broken\n" + lines([event(1, user={"username": "u" * 400_000})]))
    odd = "\x1b[2Jlow\nforged line"
    fine = rule(
        name=odd,
        description=odd,
        references=[odd],
        note=odd,
        false_positives=[odd],
        data_view_id="v",
    )
    rules = write_rules(tmp_path / "r.ndjson", [fine, rule(rule_id="2", severity=odd)])
    run(["scan", str(log), "--rules", str(rules), "--no-pack", "--format", "table"])
    run(["rules", "show", str(rules)])
    run(["rules", "list", str(rules)])
    run(["rules", "check", str(rules)])
    out, err = capfd.readouterr()
    assert "\x1b[2J" not in out + err
    assert "\nforged line" not in err
    assert len(out) < 20_000
