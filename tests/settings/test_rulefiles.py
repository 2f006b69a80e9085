"""Rule files on disk: folders, checkouts, repeats, the pack, exception files."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest

from barrelman.rules.rule import Status
from barrelman.settings import rulefiles
from barrelman.settings.rulefiles import (
    RuleLoad,
    merge,
    read_exception_files,
    read_pack,
    read_rule_paths,
)

NAMESPACE = UUID("00000000-0000-4000-8000-000000000000")
SEED_ID = "764c8437-a581-4537-8060-1fdb0e92c92d"


def toml(
    name: str,
    *,
    maturity: str = "production",
    body: str = 'type = "query"\nlanguage = "kuery"\nquery = "a:1"\n',
    rule_id: str | None = None,
) -> str:
    return f"""\
[metadata]
creation_date = "2026/11/23"
updated_date = "2026/11/23"
maturity = "{maturity}"

[rule]
author = ["We"]
description = "D"
name = "{name}"
risk_score = 21
rule_id = "{rule_id or uuid5(NAMESPACE, name)}"
severity = "low"
{body}"""


def write(folder: Path, **files: str) -> Path:
    """Writes files; in their names `__` stands for a slash and `_dot_` for a dot."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def names(load: RuleLoad) -> list[str | None]:
    return [rule.name for rule in load.rules]


def test_folders_are_read_in_order_and_in_depth(tmp_path: Path) -> None:
    write(
        tmp_path,
        b_dot_toml=toml("b"),
        a__z_dot_toml=toml("a/z"),
        a__c_dot_json=json.dumps({"any": "thing"}),
        README_dot_md="text",
        _dot_git__x_dot_toml=toml("hidden"),
        _dot_h_dot_toml=toml("hidden"),
        pyproject_dot_toml="[project]\n",
    )
    load = read_rule_paths([tmp_path])
    assert names(load) == ["b", "a/z"]
    assert [Path(one.path).name for one in load.skipped] == ["pyproject.toml", "c.json"]
    assert load.errors == ()


def test_a_checkout_is_read_as_it_is(tmp_path: Path) -> None:
    write(
        tmp_path,
        rules__k8s__one_dot_toml=toml("one"),
        rules__k8s__beta_dot_toml=toml("beta", maturity="beta"),
        rules___deprecated__old_dot_toml=toml("old", maturity="deprecated"),
        rules_building_block__bb_dot_toml=toml("bb"),
        tests__data__t_dot_toml="not even toml",
        pyproject_dot_toml="[project]\n",
    )
    load = read_rule_paths([tmp_path])
    assert names(load) == ["one", "bb"]
    assert (load.left_out_deprecated, load.left_out_immature) == (1, 1)
    assert (load.skipped, load.errors) == ((), ())
    everything = read_rule_paths([tmp_path], include_all=True)
    assert sorted(map(str, names(everything))) == ["bb", "beta", "old", "one"]
    assert (everything.left_out_deprecated, everything.left_out_immature) == (0, 0)


def test_a_file_named_itself_is_always_read(tmp_path: Path) -> None:
    write(
        tmp_path, _deprecated__old_dot_toml=toml("old", maturity="deprecated"), x_dot_toml="[x]\n"
    )
    load = read_rule_paths([tmp_path / "_deprecated" / "old.toml", tmp_path / "x.toml"])
    assert [rule.status for rule in load.rules] == ["ready", "invalid"]


def test_a_broken_rule_is_heard_of_whatever_its_maturity(tmp_path: Path) -> None:
    write(tmp_path, a_dot_toml=toml("a", maturity="beta").replace("21", "-1"))
    [rule] = read_rule_paths([tmp_path]).rules
    assert rule.status == "invalid"


def test_a_file_reached_twice_is_read_once(tmp_path: Path) -> None:
    write(tmp_path, a_dot_toml=toml("a"))
    (tmp_path / "link.toml").symlink_to(tmp_path / "a.toml")
    load = read_rule_paths([tmp_path / "a.toml", tmp_path, str(tmp_path / "." / "a.toml")])
    assert [(rule.name, rule.status) for rule in load.rules] == [("a", "ready")]


def test_the_same_rule_id_twice_names_both_files(tmp_path: Path) -> None:
    write(tmp_path, a_dot_toml=toml("a"), b_dot_toml=toml("b", rule_id=str(uuid5(NAMESPACE, "a"))))
    first, second = read_rule_paths([tmp_path]).rules
    assert (first.status, second.status) == ("ready", "invalid")
    assert str(tmp_path / "a.toml") in second.reason
    assert str(tmp_path / "b.toml") in second.reason
    assert (second.rule, second.name) == (None, "b")


def test_unreadable_paths_stop_nothing(tmp_path: Path) -> None:
    write(tmp_path, a_dot_toml=toml("a"))
    (tmp_path / "dangling.toml").symlink_to(tmp_path / "nowhere")
    load = read_rule_paths([tmp_path / "missing.toml", "nul\0", "x" * 300, tmp_path])
    assert names(load) == ["a"]
    assert [error.message.split(":")[0] for error in load.errors] == ["cannot be read"] * 4
    assert load.errors[0].place.path == str(tmp_path / "missing.toml")


# The pack


def test_the_pack_holds_the_seed_rule() -> None:
    load = read_pack()
    assert {rule.status for rule in load.rules} == {"ready"}
    [seed] = [rule.rule for rule in load.rules if rule.rule_id == SEED_ID]
    assert seed is not None
    assert seed.path == "rulepack/privilege_escalation_pod_created_with_hostipc.toml"
    page = {
        "name": "Kubernetes Pod Created With HostIPC",
        "type": "query",
        "language": "kuery",
        "index": ["logs-kubernetes.*"],
        "severity": "medium",
        "risk_score": 47,
        "interval": "5m",
        "from": "now-6m",
        "max_signals": 100,
        "references": [
            (
                "https://research.nccgroup.com/2021/11/10/"
                "detection-engineering-for-kubernetes-clusters/#part3-kubernetes-detections"
            ),
            "https://kubernetes.io/docs/concepts/security/pod-security-policy/#host-namespaces",
            "https://bishopfox.com/blog/kubernetes-pod-privilege-escalation",
        ],
        "tags": [
            *("Elastic", "Kubernetes", "Continuous Monitoring", "Execution"),
            "Privilege Escalation",
        ],
        "version": 2,
        "author": ["Elastic"],
        "license": "Elastic License v2",
        "enabled": True,
        "query": 'kubernetes.audit.objectRef.resource:"pods" and kubernetes.audit.verb:'
        '("create" or "update" or "patch") and kubernetes.audit.requestObject.spec.hostIPC:true',
        "threat": [
            {
                "framework": "MITRE ATT&CK",
                "tactic": {
                    "id": "TA0004",
                    "name": "Privilege Escalation",
                    "reference": "https://attack.mitre.org/tactics/TA0004/",
                },
                "technique": [
                    {
                        "id": "T1611",
                        "name": "Escape to Host",
                        "reference": "https://attack.mitre.org/techniques/T1611/",
                    }
                ],
            }
        ],
    }
    assert {name: seed.parameters[name] for name in page} == page
    assert "timestamp_override" not in seed.parameters
    assert seed.metadata["maturity"] == "production"


def test_the_guide_of_the_seed_rule_tells_what_to_do() -> None:
    [seed] = [rule.rule for rule in read_pack().rules if rule.rule_id == SEED_ID]
    assert seed is not None
    guide = seed.note or ""
    for heading in ("What it gives an attacker", "Triage", "False positives", "Response"):
        assert f"\n## {heading}\n" in guide
    for word in ("shared memory", "semaphore", "message queue"):
        assert word in guide.lower()
        assert word in seed.description.lower()
    assert guide.count("kubectl") > 5
    assert guide.count("```") % 2 == 0
    assert len(seed.false_positives) == 2


def test_a_given_rule_takes_the_place_of_the_packs(tmp_path: Path) -> None:
    write(tmp_path, a_dot_toml=toml("mine", rule_id=SEED_ID), b_dot_toml=toml("b"))
    merged = merge(read_pack(), given=read_rule_paths([tmp_path]))
    mine = [rule for rule in merged.rules if rule.rule_id == SEED_ID]
    assert [rule.name for rule in mine] == ["mine"]
    assert mine[0].notes[-1] == "replaces the shipped rule 'Kubernetes Pod Created With HostIPC'"
    assert "b" in names(merged)


def test_a_broken_rule_takes_no_place(tmp_path: Path) -> None:
    write(tmp_path, a_dot_toml=toml("mine", rule_id=SEED_ID).replace('"low"', '"lower"'))
    merged = merge(read_pack(), given=read_rule_paths([tmp_path]))
    found = [rule.status for rule in merged.rules if rule.rule_id == SEED_ID]
    assert found == ["ready", "invalid"]


# Exception files

CONTAINER = {"list_id": "l", "type": "detection", "name": "L"}


def list_item(list_id: str, list_type: str = "ip") -> dict[str, Any]:
    entry = {
        "type": "list",
        "field": "source.ip",
        "operator": "included",
        "list": {"id": list_id, "type": list_type},
    }
    return {"list_id": "l", "item_id": "i", "type": "simple", "entries": [entry]}


def ndjson(*objects: dict[str, Any]) -> str:
    return "".join(json.dumps(one) + "\n" for one in objects)


@pytest.mark.parametrize("name", ["bad_ips", "bad_ips.txt"])
def test_value_lists_lie_beside_the_exceptions(tmp_path: Path, name: str) -> None:
    write(tmp_path, e_dot_ndjson=ndjson(CONTAINER, list_item("bad_ips")))
    (tmp_path / name).write_text("\ufeff10.0.0.1\r\n\r\n10.0.0.2\n")
    found, errors, skipped = read_exception_files([tmp_path / "e.ndjson", tmp_path / "e.ndjson"])
    values = found.value_lists["bad_ips"]
    assert (values.type, values.values, values.lines) == ("ip", ("10.0.0.1", "10.0.0.2"), (1, 3))
    assert len(found.lists) == 1
    assert (errors, skipped) == ((), ())


@pytest.mark.parametrize("list_id", ["../secret", "a/b", "..", "/etc/hostname", "x\0y", "x" * 300])
def test_a_value_list_never_leads_out_of_the_folder(tmp_path: Path, list_id: str) -> None:
    folder = write(tmp_path, in__e_dot_ndjson=ndjson(CONTAINER, list_item(list_id))) / "in"
    write(tmp_path, secret="10.0.0.1\n", in__a__b="10.0.0.1\n")
    found, errors, _ = read_exception_files([folder / "e.ndjson"])
    assert (found.value_lists, errors) == ({}, ())


def test_value_lists_lie_beside_exports_too(tmp_path: Path) -> None:
    write(tmp_path, export_dot_ndjson=ndjson(CONTAINER, list_item("ips")), ips="10.0.0.1\n")
    load = read_rule_paths([tmp_path / "export.ndjson"])
    assert load.exceptions.value_lists["ips"].values == ("10.0.0.1",)
    assert load.rules == ()


def test_broken_exception_files_are_errors(tmp_path: Path) -> None:
    write(tmp_path, e_dot_ndjson=ndjson(CONTAINER) + "{\n", f_dot_ndjson=ndjson({"a": 1}))
    paths = [tmp_path / "missing", tmp_path / "e.ndjson", tmp_path / "f.ndjson"]
    found, errors, _ = read_exception_files(paths)
    assert len(found.lists) == 1
    assert [Path(error.place.path or "").name for error in errors] == [
        *("missing", "e.ndjson", "f.ndjson"),
    ]


# Many rules at once

MANY: dict[str, tuple[Status, str, Callable[[str], str]]] = {
    "query": ("ready", "", lambda text: text),
    "saved_query": ("ready", 'type = "saved_query"\nsaved_id = "s"', lambda text: text),
    "lucene": ("ready", 'type = "query"\nlanguage = "lucene"', lambda text: text),
    "threshold": (
        "ready",
        'type = "threshold"\nthreshold = { field = ["a"], value = 3 }',
        lambda text: text,
    ),
    "new_terms": (
        "ready",
        (
            'type = "new_terms"\n[rule.new_terms]\nfield = "new_terms_fields"\nvalue = ["a"]\n'
            '[[rule.new_terms.history_window_start]]\nfield = "history_window_start"\n'
            'value = "now-7d"'
        ),
        lambda text: text,
    ),
    "eql": (
        "ready",
        'type = "eql"\nlanguage = "eql"',
        lambda text: text.replace("a:1 and b:(c or d*)", "any where a == 1 and b in (2, 3)"),
    ),
    "esql": (
        "unsupported",
        'type = "esql"\nlanguage = "esql"',
        lambda text: text.replace('"a:1', '"from a metadata _id, _version, _index | keep * // '),
    ),
    "machine_learning": (
        "unsupported",
        'type = "machine_learning"\nanomaly_threshold = 50\nmachine_learning_job_id = "j"',
        lambda text: text,
    ),
    "threat_match": (
        "ready",
        (
            'type = "threat_match"\nthreat_query = "b:1"\nthreat_index = ["i"]\n'
            'threat_language = "kuery"\n[[rule.threat_mapping]]\n[[rule.threat_mapping.entries]]\n'
            'field = "a"\ntype = "mapping"\nvalue = "b"'
        ),
        lambda text: text,
    ),
    "script": (
        "unsupported",
        'type = "query"\n[[rule.filters]]\n[rule.filters.query.script]',
        lambda text: text,
    ),
    "kql": ("invalid", 'type = "query"', lambda text: text.replace('"a:1', '"a:(1')),
    "syntax": ("invalid", 'type = "query"', lambda text: text + "\n= 1"),
    "schema": ("invalid", 'type = "query"', lambda text: text.replace("= 21", '= "high"')),
}


def many_toml(kind: str, number: int) -> str:
    _, body, damage = MANY[kind]
    language = "" if "\nlanguage" in body else 'language = "kuery"\n'
    guide = "note = '''\n" + "## Look\n\nWho did it, and from where?\n" * 30 + "'''\n"
    query = 'query = "a:1 and b:(c or d*)"\n'
    return damage(
        toml(f"{kind} {number}", body=guide + query + language + (body or 'type = "query"'))
    )


def test_two_thousand_rules_load_each_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    kinds = list(MANY)
    for number in range(2000):
        kind = kinds[number % len(kinds)]
        place = folder / f"group{number % 10}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:04}.toml").write_text(many_toml(kind, number), encoding="utf-8")
    load = read_rule_paths([tmp_path])
    assert len(load.rules) == 2000
    assert (load.errors, load.skipped) == ((), ())
    for rule in load.rules:
        number = int(Path(rule.path).stem)
        kind = kinds[number % len(kinds)]
        assert (rule.name, rule.status) == (f"{kind} {number}", MANY[kind][0]), rule.reason
        assert bool(rule.reason) == (rule.status != "ready")
    assert Counter(rule.status for rule in load.rules)["ready"] == 1078


def test_relative_paths_stay_as_they_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, sub__a_dot_toml=toml("a"))
    monkeypatch.chdir(tmp_path)
    assert [rule.path for rule in read_rule_paths(["sub"]).rules] == [os.path.join("sub", "a.toml")]


# Links, pipes, devices and names that are no text


def test_linked_folders_are_read_once_whatever_leads_where(tmp_path: Path) -> None:
    write(tmp_path, real__a_dot_toml=toml("a"), real__in__b_dot_toml=toml("b"))
    write(tmp_path, mine__c_dot_toml=toml("c"))
    real, mine = tmp_path / "real", tmp_path / "mine"
    (real / "back").symlink_to(tmp_path)
    (real / "in" / "here").symlink_to(".")
    (mine / "link").symlink_to(real)
    (mine / "self").symlink_to(mine / "self")
    (mine / "x.toml").symlink_to(real)
    load = read_rule_paths([mine])
    assert names(load) == ["c", "a", "b"]
    assert (load.errors, load.skipped) == ((), ())
    assert load.rules[1].path == str(mine / "link" / "a.toml")


def test_a_link_out_of_the_deprecated_rules_hides_no_rule(tmp_path: Path) -> None:
    write(tmp_path, live__a_dot_toml=toml("a"), _deprecated__in__old_dot_toml=toml("old"))
    (tmp_path / "_deprecated" / "link").symlink_to(tmp_path / "live")
    load = read_rule_paths([tmp_path])
    assert names(load) == ["a"]
    load = read_rule_paths([tmp_path, tmp_path / "_deprecated"])
    assert names(load) == ["a", "old"], "a folder that is named is read, left out before or not"


def test_folders_as_deep_as_paths_go_are_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    deep = Path(*["d"] * 1900)
    for _ in range(19):
        part = Path(*["d"] * 100)
        part.mkdir(parents=True)
        monkeypatch.chdir(part)
    Path("a.toml").write_text(toml("a"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    load = read_rule_paths(["d"])
    (deep / "a.toml").unlink()
    os.removedirs(deep)  # what removes the folders of tests recurses
    assert [(rule.name, rule.path) for rule in load.rules] == [("a", str(deep / "a.toml"))]


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path, a_dot_toml=toml("a"))
    os.mkfifo(tmp_path / "pipe.toml")
    load = read_rule_paths([tmp_path])
    assert names(load) == ["a"]
    [skipped] = load.skipped
    assert (skipped.path, skipped.reason) == (str(tmp_path / "pipe.toml"), "not a regular file")


def feed(path: Path, content: str) -> threading.Thread:
    """Writes into a pipe once somebody reads it."""

    def run() -> None:
        with contextlib.suppress(BrokenPipeError):
            path.write_text(content, encoding="utf-8")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_a_pipe_that_is_named_is_read(tmp_path: Path) -> None:
    rules, lists = tmp_path / "rules", tmp_path / "lists"
    os.mkfifo(rules)
    os.mkfifo(lists)
    writer = feed(rules, toml("a"))
    assert names(read_rule_paths([rules])) == ["a"]
    writer.join()
    writer = feed(lists, ndjson(CONTAINER))
    assert len(read_exception_files([lists])[0].lists) == 1
    writer.join()


def test_a_pipe_or_a_file_without_end_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rulefiles, "MAX_RULE_FILE_BYTES", 2 * 1024 * 1024)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = feed(pipe, "#" * (8 * 1024 * 1024))
    write(tmp_path, big_dot_toml="#" * (2 * 1024 * 1024 + 1), fits_dot_toml=toml("a"))
    load = read_rule_paths([pipe, tmp_path])
    writer.join()
    assert names(load) == ["a"]
    assert [error.message for error in load.errors] == [
        "larger than 2 MiB, too large for a file of rules"
    ] * 2


def test_devices_and_sockets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    load = read_rule_paths(["/dev/zero", "/dev/null"])
    _, errors, _ = read_exception_files(["/dev/zero", tmp_path])
    assert load.rules == ()
    assert [error.message for error in (*load.errors, *errors)] == [
        *["a device or a socket, not a file"] * 3,
        "a folder, not a file",
    ]
    assert [one.reason for one in read_rule_paths([tmp_path]).skipped] == ["not a regular file"]


def test_names_that_are_no_text_can_be_said(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    (odd / os.fsdecode(b"\xff.toml")).write_text(toml("a"), encoding="utf-8")
    (odd / "again.toml").write_text(toml("b", rule_id=str(uuid5(NAMESPACE, "a"))))
    (odd / os.fsdecode(b"\xfe.toml")).write_text("= 1")
    (odd / os.fsdecode(b"\xfd.ndjson")).write_text(ndjson(CONTAINER, list_item("ips")))
    (odd / "ips").write_text("10.0.0.1\n")
    (odd / os.fsdecode(b"gone\xfc.toml")).symlink_to(tmp_path / "nowhere")
    os.mkfifo(odd / os.fsdecode(b"\xfb.json"))
    load = read_rule_paths([odd, tmp_path / os.fsdecode(b"missing\xfa")])
    said = [rule.path + rule.reason for rule in load.rules]
    said += [str(error) for error in load.errors]
    said += [one.path for one in load.skipped]
    said += [str(values.path) for values in load.exceptions.value_lists.values()]
    said += [str(error) for error in read_exception_files([odd / os.fsdecode(b"no\xf9")])[1]]
    assert "\n".join(said).encode("utf-8")
    assert sorted(rule.status for rule in load.rules) == ["invalid", "invalid", "ready"]
    assert load.exceptions.value_lists["ips"].values == ("10.0.0.1",)
    [ready] = [rule for rule in load.rules if rule.status == "ready"]
    assert Path(ready.path).parent.name == "caf\\udce9"
    for name in ("fa", "fb", "fc", "fe", "f9"):
        assert any(f"\\udc{name}" in text for text in said), name
