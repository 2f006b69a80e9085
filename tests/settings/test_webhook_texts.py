"""What API servers are given: a kubeconfig, a policy, flags."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from barrelman.settings.webhook import (
    KUBECONFIG_PATH,
    POLICY_PATH,
    apiserver_flags,
    kubeconfig_text,
    policy_text,
    webhook_url,
)


@pytest.mark.parametrize(
    ("url", "cluster", "expected"),
    [
        ("https://b:1", "prod", "https://b:1/audit/prod"),
        ("https://b:1/", "prod.eu-1", "https://b:1/audit/prod.eu-1"),
        ("https://b/x/", "a:b", "https://b/x/audit/a:b"),
        ("https://b", "a/b c", "https://b/audit/a%2Fb%20c"),
    ],
)
def test_the_cluster_stands_in_the_path(url: str, cluster: str, expected: str) -> None:
    assert webhook_url(url, cluster) == expected


def test_a_kubeconfig_without_a_key() -> None:
    assert kubeconfig_text("http://127.0.0.1:8130", "demo") == (
        "apiVersion: v1\n"
        "kind: Config\n"
        "clusters:\n"
        "  - name: barrelman\n"
        "    cluster:\n"
        '      server: "http://127.0.0.1:8130/audit/demo"\n'
        "users:\n"
        "  - name: api-server\n"
        "    user: {}\n"
        "contexts:\n"
        "  - name: audit\n"
        "    context:\n"
        "      cluster: barrelman\n"
        "      user: api-server\n"
        "current-context: audit\n"
    )


def test_a_kubeconfig_with_everything() -> None:
    text = kubeconfig_text(
        "https://b",
        "prod",
        token='a"b: #',
        ca_file="/ca.pem",
        client_cert="/c.pem",
        client_key="/k.pem",
        username="u",
        password="p",
    )
    for line in (
        '      certificate-authority: "/ca.pem"',
        '      token: "a\\"b: #"',
        '      client-certificate: "/c.pem"',
        '      client-key: "/k.pem"',
        '      username: "u"',
        '      password: "p"',
    ):
        assert line in text.splitlines()


def test_the_flags_name_the_files() -> None:
    flags = apiserver_flags()
    assert f"--audit-policy-file={POLICY_PATH}" in flags
    assert f"--audit-webhook-config-file={KUBECONFIG_PATH}" in flags
    assert not any(flag.startswith("--audit-log") for flag in flags)
    logged = apiserver_flags(policy="/p", kubeconfig="/k", log_path="/var/log/audit.log")
    assert {"--audit-policy-file=/p", "--audit-webhook-config-file=/k"} < set(logged)
    assert "--audit-log-path=/var/log/audit.log" in logged


def rules() -> list[dict[str, Any]]:
    """The policy's rules, as the API server reads them; only what is written here is understood."""
    found: list[dict[str, Any]] = []
    for line in policy_text().partition("\nrules:\n")[2].splitlines():
        match = re.fullmatch(r"(  - |    |      - |        )(\w+):(?: (.+))?", line)
        if match is None:
            assert not line or line.startswith("  # "), line
            continue
        lead, name, written = match.groups()
        value = json.loads(written) if written and written[0] in '["' else written
        if lead == "  - ":
            found.append({"resources": []})
        if lead == "      - ":
            found[-1]["resources"].append({})
        target = found[-1]["resources"][-1] if len(lead) > 4 else found[-1]
        if name != "resources" or len(lead) > 4:
            target[name] = value
    return found


def level(
    verb: str,
    resource: str,
    *,
    group: str = "",
    user: str = "eve",
    groups: tuple[str, ...] = ("system:authenticated",),
) -> str:
    """As the API server decides: the first rule that fits."""
    for rule in rules():
        if "nonResourceURLs" in rule or verb not in rule.get("verbs", [verb]):
            continue
        if user not in rule.get("users", [user]):
            continue
        if "userGroups" in rule and not set(groups) & set(rule["userGroups"]):
            continue
        named = rule["resources"]
        if named and not any(
            each["group"] == group and resource in each.get("resources", [resource])
            for each in named
        ):
            continue
        return str(rule["level"])
    raise AssertionError("no rule fits")


NODE = ("system:nodes", "system:authenticated")
RBAC = "rbac.authorization.k8s.io"


@pytest.mark.parametrize(
    ("verb", "resource", "who", "expected"),
    [
        ("get", "secrets", {}, "Metadata"),
        ("create", "secrets", {}, "Metadata"),
        ("list", "secrets", {"user": "system:apiserver"}, "Metadata"),
        ("watch", "secrets", {"user": "system:node:a", "groups": NODE}, "Metadata"),
        ("update", "configmaps", {}, "Metadata"),
        ("create", "serviceaccounts/token", {}, "Metadata"),
        ("create", "tokenreviews", {"group": "authentication.k8s.io"}, "Metadata"),
        ("create", "pods", {}, "RequestResponse"),
        ("create", "pods", {"user": "system:node:a", "groups": NODE}, "RequestResponse"),
        ("patch", "pods/ephemeralcontainers", {}, "RequestResponse"),
        ("get", "pods", {}, "Metadata"),
        ("create", "pods/exec", {}, "Request"),
        ("get", "pods/exec", {"user": "system:apiserver"}, "Request"),
        ("get", "nodes/proxy", {}, "Request"),
        ("patch", "deployments", {"group": "apps"}, "RequestResponse"),
        ("create", "cronjobs", {"group": "batch"}, "RequestResponse"),
        ("create", "clusterrolebindings", {"group": RBAC}, "RequestResponse"),
        ("list", "clusterrolebindings", {"group": RBAC}, "Metadata"),
        (
            "update",
            "certificatesigningrequests/approval",
            {"group": "certificates.k8s.io"},
            "RequestResponse",
        ),
        (
            "create",
            "mutatingwebhookconfigurations",
            {"group": "admissionregistration.k8s.io"},
            "RequestResponse",
        ),
        (
            "create",
            "selfsubjectrulesreviews",
            {"group": "authorization.k8s.io"},
            "RequestResponse",
        ),
        ("create", "events", {}, "None"),
        ("delete", "events", {}, "Metadata"),
        ("deletecollection", "events", {"group": "events.k8s.io"}, "Metadata"),
        ("patch", "nodes/status", {"user": "system:node:a", "groups": NODE}, "None"),
        ("patch", "nodes", {"user": "system:node:a", "groups": NODE}, "RequestResponse"),
        ("patch", "nodes/status", {}, "Metadata"),
        ("list", "pods", {"user": "system:node:a", "groups": NODE}, "Metadata"),
        ("list", "pods", {"user": "system:kube-controller-manager"}, "None"),
        ("create", "pods", {"user": "system:kube-controller-manager"}, "RequestResponse"),
        ("get", "widgets", {"group": "example.com"}, "Metadata"),
    ],
)
def test_what_is_recorded(verb: str, resource: str, who: dict[str, Any], expected: str) -> None:
    assert level(verb, resource, **who) == expected


def test_the_policy_is_written_as_a_policy() -> None:
    text = policy_text()
    assert "\napiVersion: audit.k8s.io/v1\nkind: Policy\n" in text
    assert "\nomitStages:\n  - RequestReceived\n" in text
    assert "\nomitManagedFields: true\n" in text
    assert rules()[-1] == {"level": "Metadata", "resources": []}
    assert all(not line.endswith(" ") and "\t" not in line for line in text.splitlines())
