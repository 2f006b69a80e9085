"""What is masked, and what is left alone."""

from __future__ import annotations

import copy
import json
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barrelman.detection.redact import MASK, redact, redact_text
from barrelman.engine.decode import dumps
from barrelman.records.ecs import ecs_document
from barrelman.records.event import Event, JsonObject

SECRET = "c3dvcmRmaXNo"
JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJzdWIiOiJhIn0.c2ln-bmF0_dXJl"
OPAQUE = "k-8fj2.0Xq_w"
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def audit(resource: str, **members: Any) -> JsonObject:
    reference = {"resource": resource, "namespace": "shop", "name": "n"}
    return {"auditID": "a", "stage": "ResponseComplete", "objectRef": reference, **members}


def secret(**members: Any) -> JsonObject:
    return {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "n"}, **members}


def text_of(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def flatten(value: Any, name: str = "") -> JsonObject:
    """Every leaf under its dotted name; lists stay."""
    if not isinstance(value, dict):
        return {name: value}
    flat: JsonObject = {}
    for key, member in value.items():
        flat |= flatten(member, f"{name}.{key}" if name else key)
    return flat


def applied(inner: JsonObject) -> JsonObject:
    return {"annotations": {APPLIED: text_of(inner) + "\n"}}


OF_SECRETS: dict[str, JsonObject] = {
    "create": audit("secrets", requestObject=secret(data={"password": SECRET})),
    "create, plain text": audit("secrets", requestObject=secret(stringData={"a.b/c": SECRET})),
    "answer": audit("secrets", responseObject=secret(data={"x": SECRET}, type="Opaque")),
    "no kind": audit("secrets", requestObject={"data": {"x": SECRET}}),
    "merge patch": audit("secrets", requestObject={"data": {"x": SECRET, "gone": None}}),
    "JSON patch of one key": audit(
        "secrets", requestObject=[{"op": "replace", "path": "/data/x", "value": SECRET}]
    ),
    "JSON patch of all data": audit(
        "secrets", requestObject=[{"op": "add", "path": "/data", "value": {"x": SECRET}}]
    ),
    "JSON patch of stringData": audit(
        "secrets", requestObject=[{"op": "test", "path": "/stringData/x", "value": SECRET}]
    ),
    "JSON patch of everything": audit(
        "secrets",
        requestObject=[{"op": "replace", "path": "", "value": secret(data={"x": SECRET})}],
    ),
    "JSON patch of the applied copy": audit(
        "secrets",
        requestObject=[
            {
                "op": "add",
                "path": "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration",
                "value": text_of({"data": {"x": SECRET}}),
            }
        ],
    ),
    "list": audit(
        "secrets",
        responseObject={"kind": "SecretList", "items": [{"data": {"x": SECRET}}, {"data": {}}]},
    ),
    "list in a list": audit("secrets", responseObject=[[{"data": [{"x": [SECRET]}]}]]),
    "table": audit(
        "secrets",
        responseObject={"kind": "Table", "rows": [{"object": secret(data={"x": SECRET})}]},
    ),
    "applied copy": audit(
        "secrets", responseObject={"items": [{"metadata": applied(secret(data={"x": SECRET}))}]}
    ),
    "applied copy without a kind": audit(
        "secrets", responseObject={"items": [{"metadata": applied({"data": {"x": SECRET}})}]}
    ),
    "body as text": audit("secrets", requestObject=text_of({"data": {"x": SECRET}})),
    "numbers": audit("secrets", requestObject={"stringData": {"x": [SECRET, {"y": SECRET}]}}),
}
OF_OTHERS: dict[str, JsonObject] = {
    "a list of all kinds": audit(
        "things", responseObject={"kind": "List", "items": [secret(data={"x": SECRET})]}
    ),
    "a list of secrets": audit(
        "things", responseObject={"kind": "SecretList", "items": [{"data": {"x": SECRET}}]}
    ),
    "within a template": audit(
        "sealedsecrets", requestObject={"spec": {"template": secret(stringData={"x": SECRET})}}
    ),
    "applied copy": audit(
        "things", responseObject={"items": [{"metadata": applied(secret(data={"x": SECRET}))}]}
    ),
    "another tool's copy": audit(
        "things", responseObject={"items": [{"note": text_of(secret(data={"x": SECRET}))}]}
    ),
    "body as text": audit("things", requestObject=text_of(secret(data={"x": SECRET}))),
    "data before kind": audit(
        "things", requestObject=text_of({"data": {"x": SECRET}, "kind": "Secret"})
    ),
    "a token that was asked for": audit(
        "serviceaccounts", responseObject={"kind": "TokenRequest", "status": {"token": SECRET}}
    ),
    "a token to be looked at": audit(
        "tokenreviews", requestObject={"kind": "TokenReview", "spec": {"token": SECRET}}
    ),
    "tokens in a list": audit("things", requestObject={"spec": {"token": [SECRET, SECRET]}}),
    "other names": audit(
        "things",
        requestObject={"idToken": SECRET, "refresh-token": SECRET, "client_secret": SECRET},
        responseObject={"Authorization": SECRET, "PASSWORD": SECRET, "api-key": SECRET},
    ),
    "JSON patch of a token": audit(
        "things", requestObject=[{"op": "add", "path": "/spec/token", "value": SECRET}]
    ),
}
SHAPES: dict[str, Callable[[JsonObject], JsonObject]] = {
    "raw": lambda body: ecs_document(Event(body)),
    "nested": lambda body: {"kubernetes": {"audit": body}},
    "dotted": lambda body: flatten({"kubernetes": {"audit": body}}),
    "half dotted": lambda body: {f"kubernetes.audit.{key}": body[key] for key in body},
    "with its original": lambda body: {
        "kubernetes": {"audit": {"objectRef": body["objectRef"]}},
        "event": {"original": text_of(body)},
    },
    "with its original in a wrapper": lambda body: {
        "message": text_of({"log": text_of(body) + "\n"})
    },
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", OF_SECRETS)
def test_no_secret_of_a_secret_survives(case: str, shape: str) -> None:
    document = SHAPES[shape](OF_SECRETS[case])
    masked = redact(document)
    assert SECRET not in json.dumps(masked)
    assert MASK in json.dumps(masked) or SECRET not in json.dumps(document)


# What an operation of a patch writes is beyond a search of text.
OTHERS_IN_SHAPES = [
    (case, shape)
    for case in OF_OTHERS
    for shape in SHAPES
    if not ("patch" in case and "original" in shape)
]


@pytest.mark.parametrize(("case", "shape"), OTHERS_IN_SHAPES)
def test_nor_one_in_other_bodies(case: str, shape: str) -> None:
    document = SHAPES[shape](OF_OTHERS[case])
    assert SECRET in json.dumps(document)
    masked = redact(document)
    assert SECRET not in json.dumps(masked)
    assert MASK in json.dumps(masked)


def test_keys_types_and_other_members_stay() -> None:
    body = audit(
        "secrets", requestObject=secret(data={"user": SECRET, "gone": None}, type="Opaque")
    )
    masked = redact({"kubernetes": {"audit": body}})["kubernetes"]["audit"]
    assert masked["requestObject"] == secret(data={"user": MASK, "gone": None}, type="Opaque")
    assert masked["objectRef"] == body["objectRef"]


TEXTS = [
    (f"Authorization: Bearer {OPAQUE}", f"Authorization: Bearer {MASK}"),
    (f"authorization: bearer {OPAQUE}, other", f"authorization: bearer {MASK}, other"),
    (f"Bearer  {OPAQUE}", f"Bearer  {MASK}"),
    (f"kubectl/v1.31 ({JWT})", f"kubectl/v1.31 ({MASK})"),
    (f"x_{JWT}", f"x_{MASK}"),
    ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.", MASK),
    (f"Authorization: Basic {SECRET}", f"Authorization: Basic {MASK}"),
    (f"Authorization: Token {OPAQUE} end", f"Authorization: Token {MASK} end"),
    (f"Authorization: {OPAQUE}", f"Authorization: {MASK}"),
    (f"Authorization: Hmac {OPAQUE}", f"Authorization: {MASK}"),
    (f"Authorization={OPAQUE}&x=1", f"Authorization={MASK}&x=1"),
    (f"{{'Authorization': 'Basic {SECRET}'}}", f"{{'Authorization': 'Basic {MASK}'}}"),
    (f"/api/v1/pods?token={OPAQUE}&watch=1", f"/api/v1/pods?token={MASK}&watch=1"),
    (f"/x?a=1&access_token={OPAQUE}", f"/x?a=1&access_token={MASK}"),
    (f"/x?X-Amz-Security-Token={OPAQUE}", f"/x?X-Amz-Security-Token={MASK}"),
    (f"/exec?command=x&command=--token%3D{OPAQUE}", f"/exec?command=x&command=--token%3D{MASK}"),
    (f"/exec?command=--token%3D{JWT}&c=1", f"/exec?command=--token%3D{MASK}&c=1"),
    (f"/exec?command=%20{JWT}&c=1", f"/exec?command=%20{MASK}&c=1"),
    (
        f"/exec?command=-H&command=Authorization%3A+Bearer+{OPAQUE}&c=1",
        f"/exec?command=-H&command=Authorization%3A+Bearer+{MASK}&c=1",
    ),
    (
        f"/exec?command=Authorization%3A%20Bearer%20{OPAQUE}&c=1",
        f"/exec?command=Authorization%3A%20Bearer%20{MASK}&c=1",
    ),
    (
        f"/exec?command=authorization%3A+Basic+{SECRET}",
        f"/exec?command=authorization%3A+Basic+{MASK}",
    ),
    (f'{{"token":"{OPAQUE}","a":1}}', f'{{"token":"{MASK}","a":1}}'),
    (f'{{"access_token" : "{OPAQUE}"}}', f'{{"access_token" : "{MASK}"}}'),
    (f'{{"token":["{OPAQUE}"],"a":1}}', f'{{"token":[{MASK}],"a":1}}'),
    (f'{{"password":"a\\"{OPAQUE}"}}', f'{{"password":"{MASK}"}}'),
    (f'{{\\"token\\":\\"{OPAQUE}\\",\\"a\\":1}}', f'{{\\"token\\":\\"{MASK}\\",\\"a\\":1}}'),
    (f'{{"token":"{OPAQUE}', f'{{"token":"{MASK}'),
    (f'{{"kind":"Secret","data":{{"x":"{SECRET}', f'{{"kind":"Secret","data":{MASK}'),
    (
        f'{{"objectRef":{{"resource":"secrets"}},"requestObject":{{"data":{{"x":"{SECRET}',
        f'{{"objectRef":{{"resource":"secrets"}},"requestObject":{MASK}',
    ),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_text(text: str, expected: str) -> None:
    assert redact_text(text) == expected
    assert redact_text(expected) == expected


@pytest.mark.parametrize("place", ["requestURI", "userAgent", "annotations", "user", "message"])
@pytest.mark.parametrize("text", [text for text, _ in TEXTS])
def test_text_anywhere(place: str, text: str) -> None:
    values: JsonObject = {
        "requestURI": text,
        "userAgent": text,
        "annotations": {"a.b/c": text},
        "user": {"extra": {"x": [text, [text]]}},
        "message": text,
    }
    masked = json.dumps(redact(ecs_document(Event(audit("pods", **{place: values[place]})))))
    for planted in (OPAQUE, SECRET, JWT):
        assert planted not in masked


BENIGN = [
    "",
    "token-controller",
    "system:serviceaccount:kube-system:token-cleaner",
    "/api/v1/namespaces/x/serviceaccounts/default/token",
    "/api/v1/secrets?limit=500&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MX0",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "authorization.k8s.io/decision",
    "automountServiceAccountToken=false",
    '{"automountServiceAccountToken":false,"serviceAccountToken":{"path":"token"}}',
    '{"kind":"ConfigMap","data":{"color":"red"}}',
    "keyJournal.log",
    "a secret was not found",
    '{"kind":"Secret","name":"db"}',
    "passwordless login",
    'RBAC: allowed by ClusterRoleBinding "forbearer"',
]


@pytest.mark.parametrize("text", BENIGN)
def test_look_alikes_stay(text: str) -> None:
    assert redact_text(text) == text


def test_documents_without_secrets_stay_as_they_are() -> None:
    body = audit(
        "pods",
        verb="create",
        user={"username": "system:serviceaccount:kube-system:token-controller"},
        requestObject={
            "kind": "Pod",
            "spec": {
                "automountServiceAccountToken": False,
                "serviceAccountName": "token-reader",
                "volumes": [
                    {
                        "name": "kube-api-access",
                        "projected": {
                            "sources": [
                                {
                                    "serviceAccountToken": {
                                        "path": "token",
                                        "expirationSeconds": 3607,
                                    }
                                },
                                {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                            ]
                        },
                    },
                    {"name": "creds", "secret": {"secretName": "db", "items": None}},
                ],
                "containers": [
                    {"env": [{"valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]}
                ],
            },
        },
        responseStatus={"code": 201, "message": ""},
    )
    custom = audit(
        "customresourcedefinitions",
        requestObject={"schema": {"properties": {"token": {"type": "string"}, "data": [1, 2.5]}}},
    )
    settings_ = audit("configmaps", requestObject={"kind": "ConfigMap", "data": {"color": "red"}})
    for each in (body, custom, settings_):
        for document in (ecs_document(Event(each)), {"kubernetes": {"audit": each}}):
            assert redact(document) == document


def test_the_key_data_outside_of_bodies_stays() -> None:
    document = {"data": {"x": "kept"}, "kubernetes": {"audit": audit("secrets")}}
    assert redact(document) == document


@pytest.mark.parametrize("case", [*OF_SECRETS.values(), *OF_OTHERS.values()])
def test_the_document_itself_is_not_changed(case: JsonObject) -> None:
    document = {"kubernetes": {"audit": copy.deepcopy(case)}}
    masked = redact(document)
    assert document == {"kubernetes": {"audit": case}}
    assert redact(masked) == masked


@pytest.mark.parametrize("kind", [None, 1, [], ["Secret"], [{}], {"a": "Secret"}, [["Secret"]]])
def test_odd_kinds_and_paths_stop_nothing(kind: Any) -> None:
    body = {"kind": kind, "data": {"x": SECRET}, "a.kind": kind, "a.data.x": SECRET}
    operations = [{"path": kind, "value": SECRET}, {"path": "/data/x"}, "text", 5, None]
    redact(
        {"kubernetes": {"audit": audit("things", requestObject=body, responseObject=operations)}}
    )
    masked = redact({"kubernetes": {"audit": audit("secrets", requestObject=body)}})
    assert SECRET not in json.dumps(masked)


def test_a_thousand_levels() -> None:
    deep: Any = secret(data={"x": SECRET})
    for _ in range(1_000):
        deep = {"a": deep}
    document = {"kubernetes": {"audit": audit("things", requestObject=deep)}}
    written = dumps(redact(document))
    assert SECRET.encode() not in written
    assert MASK.encode() in written


GAPS: list[Any] = [
    f"/x?password={OPAQUE}&y=1",
    f"/x?api_key={OPAQUE}",
    f"/x?access%5Ftoken={OPAQUE}",
    f"/exec?command=--password={OPAQUE}",
    f"/exec?command=--token&command={OPAQUE}&c=1",
    "Basic dXNlcjpwYXNz",
    f"https://user:{OPAQUE}@host/x",
    f"Cookie: session={OPAQUE}",
    JWT.partition(".")[0],
    text_of({"env": [{"name": "DB_PASSWORD", "value": OPAQUE}]}),
    {"env": [{"name": "DB_PASSWORD", "value": OPAQUE}]},
    {"args": ["--token", OPAQUE]},
    {"command": ["x", f"--token={OPAQUE}"]},
    {"args": [f"--password={OPAQUE}"]},
    {"password": [OPAQUE, {"x": OPAQUE}]},
    {"token": {"value": OPAQUE}},
    {"secretKey": OPAQUE, "privateKey": OPAQUE, ".dockerconfigjson": OPAQUE},
    {"passwd": OPAQUE, "adminPassword": OPAQUE},
]


@pytest.mark.parametrize("body", GAPS, ids=str)
def test_secrets_by_their_names(body: Any) -> None:
    document = {"kubernetes": {"audit": audit("things", requestObject=body)}}
    masked = json.dumps(redact(document))
    assert MASK in masked
    for planted in (OPAQUE, "dXNlcjpwYXNz", JWT.partition(".")[0]):
        assert planted not in masked


def test_a_secret_that_could_not_be_read() -> None:
    document = {"kubernetes": {"audit": audit("secrets", requestObject={"raw": OPAQUE})}}
    assert OPAQUE not in json.dumps(redact(document))


NAMED_ALIKE: list[Any] = [
    {"containers": [{"image": "r.example/password=x:1", "command": ["sh", "-c", "ls /token"]}]},
    {"args": ["--token-file", "/var/run/x", "--verbose", "token"]},
    {"env": [{"name": "TOKEN_TTL", "value": "1h"}, {"name": "PASSWORD_FILE", "value": "/p"}]},
    {"env": [{"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]},
    {"imagePullSecrets": [{"name": "r"}], "secretName": "s", "labels": {"secret": "no"}},
    {"automountServiceAccountToken": True, "serviceAccountToken": {"path": "token"}},
    {"kind": "ConfigMap", "data": {"settings": "a: 1", "mode": "basic setup"}},
    {"spec": {"tokenReview": "x", "password": {"secretKeyRef": {"name": "a", "key": "b"}}}},
]


@pytest.mark.parametrize("body", NAMED_ALIKE, ids=str)
def test_names_that_only_sound_alike(body: Any) -> None:
    document = {"kubernetes": {"audit": audit("things", requestObject=body)}}
    assert redact(document) == document


def test_who_and_what_are_never_masked() -> None:
    body = audit("things", verb="get", user={"username": f"Bearer {OPAQUE}"})
    body["objectRef"]["name"] = f"token={OPAQUE}"
    document = ecs_document(Event(body))
    assert redact(document) == document


HOSTILE = [
    "bearer" * 60_000,
    "bearer " * 60_000,
    "bearer" + " " * 300_000,
    "bearer" + "+" * 300_000 + "&",
    "-eyJaaaa" * 40_000,
    "eyJaaaa." * 40_000,
    "eyJ-" * 80_000,
    "eyJ2Ijo-" * 40_000,
    "basic+" * 60_000,
    "://a:" * 60_000,
    "%3A%2F%2Fa%3A" * 25_000,
    "cookie:" * 40_000,
    "--password " * 30_000,
    '"name":"' * 40_000,
    '"' + "a" * 300_000,
    "%20eyJ" * 50_000,
    "authorization:" * 20_000,
    "authorization" + " " * 300_000,
    'authorization"' * 20_000,
    "authorization\\" * 20_000,
    '"token":"' * 30_000,
    '"token' + "\\" * 300_000,
    '"token":"' + "\\" * 300_000,
    '\\"token\\":\\"' * 25_000,
    '"kind":"Secret' * 20_000,
    '"kind"' + " " * 300_000,
    '"secret' + "\\" * 300_000,
    "token=" * 50_000,
    "access-" * 40_000 + "token",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:16])
def test_no_text_takes_more_time_than_its_length_asks_for(text: str) -> None:
    """A quadratic pattern takes minutes here, and the suite's patience ends before."""
    redact_text(text)
    redact({"kubernetes": {"audit": audit("secrets", requestObject={text: text, "kind": text})}})


def test_many_dotted_secrets() -> None:
    body = {f"a{n}.{part}": "Secret" for n in range(5_000) for part in ("kind", "data.x")}
    masked = redact({"kubernetes": {"audit": audit("things", requestObject=body)}})
    kept = masked["kubernetes"]["audit"]["requestObject"]
    assert {kept[f"a{n}.data.x"] for n in range(5_000)} == {MASK}


# --- any document --------------------------------------------------------------------------

PLANTED = st.text(string.ascii_letters + string.digits, min_size=12, max_size=30).map(
    lambda text: f"Zq{text}"
)
LEAVES = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "x", "Pod", "-"])
TREES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "spec", "a", "items", "a.b", "path"]), inner)
    ),
    max_leaves=6,
)


def plant(tree: Any, value: Any, draw: st.DrawFn) -> Any:
    """The value somewhere below the tree's containers."""
    if isinstance(tree, dict):
        key = draw(st.sampled_from([*tree, "new"]))
        return {**tree, key: plant(tree.get(key), value, draw)}
    if isinstance(tree, list):
        return [*tree, value]
    return value


@st.composite
def planted_documents(draw: st.DrawFn) -> tuple[JsonObject, str]:
    planted = draw(PLANTED)
    how = draw(st.integers(0, 5))
    hidden: Any
    resource = draw(st.sampled_from(["secrets", "pods"])) if how else "secrets"
    if how == 0:
        hidden = {"data": plant(draw(TREES), planted, draw)}
    elif how == 1:
        hidden = secret(stringData={"x": planted}, extra=draw(TREES))
    elif how == 2:
        hidden = {draw(st.sampled_from(["token", "accessToken", "client-secret"])): planted}
    elif how == 3:
        hidden = draw(st.sampled_from(["bearer ", "Authorization: ", "?token="])) + planted
    elif how == 4:
        hidden = text_of({"kind": "Secret", "data": {"x": planted}})
    else:
        hidden = f"eyJhbGciOiJub25lIn0.{planted}.x"
    name = draw(st.sampled_from(["requestObject", "responseObject"]))
    # "path" beside the value of a patch aside, nothing around a secret makes it one no more.
    body = plant(draw(TREES), hidden, draw)
    shape = draw(st.sampled_from([*SHAPES][1:4]))
    document: JsonObject = SHAPES[shape](audit(resource, **{name: body}))
    return document, planted


@given(case=planted_documents())
@settings(deadline=None, max_examples=133)
def test_nothing_planted_survives(case: tuple[JsonObject, str]) -> None:
    document, planted = case
    before = copy.deepcopy(document)
    assert planted not in json.dumps(redact(document))
    assert document == before
