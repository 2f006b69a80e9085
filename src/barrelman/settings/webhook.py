"""What an API server is given so that its audit events come here: kubeconfig, policy and flags.

YAML is written by hand: every text in it is a JSON string, which YAML takes as it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

POLICY_PATH: Final = "/etc/kubernetes/audit-policy.yaml"
KUBECONFIG_PATH: Final = "/etc/kubernetes/audit-webhook.yaml"


def webhook_url(url: str, cluster: str) -> str:
    """Where a cluster's API servers post to."""
    return f"{url.rstrip('/')}/audit/{quote(cluster, safe=':')}"


def kubeconfig_text(
    url: str,
    cluster: str,
    *,
    token: str | None = None,
    ca_file: str | None = None,
    client_cert: str | None = None,
    client_key: str | None = None,
    username: str | None = None,
    password: str | None = None,
) -> str:
    """The file for `--audit-webhook-config-file`. Paths are those on the API server's machine.

    The API server sends no headers of our choice: the cluster stands in the path.
    """
    user = [
        *_pair("token", token),
        *_pair("client-certificate", client_cert),
        *_pair("client-key", client_key),
        *_pair("username", username),
        *_pair("password", password),
    ]
    lines = [
        "apiVersion: v1",
        "kind: Config",
        "clusters:",
        "  - name: barrelman",
        "    cluster:",
        f"      server: {json.dumps(webhook_url(url, cluster))}",
        *(f"      {line}" for line in _pair("certificate-authority", ca_file)),
        "users:",
        "  - name: api-server",
        *(["    user:", *(f"      {line}" for line in user)] if user else ["    user: {}"]),
        "contexts:",
        "  - name: audit",
        "    context:",
        "      cluster: barrelman",
        "      user: api-server",
        "current-context: audit",
    ]
    return "\n".join(lines) + "\n"


def apiserver_flags(
    *,
    policy: str = POLICY_PATH,
    kubeconfig: str = KUBECONFIG_PATH,
    log_path: str | None = None,
) -> tuple[str, ...]:
    """The flags of kube-apiserver; with `log_path` it keeps a log of its own, too.

    By default a batch is collected for up to 30 s, and an alert would come as late; and 10,000
    events are held while nobody answers, as while this service is upgraded.
    """
    flags = [
        f"--audit-policy-file={policy}",
        f"--audit-webhook-config-file={kubeconfig}",
        "--audit-webhook-mode=batch",
        "--audit-webhook-batch-max-wait=1s",
        "--audit-webhook-batch-max-size=400",
        "--audit-webhook-batch-buffer-size=20000",
    ]
    if log_path is not None:
        flags += [
            f"--audit-log-path={log_path}",
            "--audit-log-maxsize=100",
            "--audit-log-maxbackup=10",
            "--audit-log-compress",
        ]
    return tuple(flags)


def _pair(name: str, value: str | None) -> list[str]:
    return [] if value is None else [f"{name}: {json.dumps(value)}"]


def policy_text() -> str:
    """The file for `--audit-policy-file`: what rules look at, and little that they do not."""
    lines = [*_POLICY_HEAD.splitlines()]
    for comment, rule in _RULES:
        lines += ["", *(f"  # {line}" for line in comment.splitlines()), *_rule(rule)]
    return "\n".join(lines) + "\n"


_Rule = dict[str, object]

_POLICY_HEAD: Final = """\
# What the API server records. The first rule that fits an event decides:
#   None             nothing
#   Metadata         who did what to which object, and what came of it
#   Request          and the object that was sent
#   RequestResponse  and the object that came back
apiVersion: audit.k8s.io/v1
kind: Policy
# An event is told when it has ended; that it began tells nothing more.
omitStages:
  - RequestReceived
# Who owns which field is a third of many objects, and no rule reads it.
omitManagedFields: true
rules:"""

_CONTROLLERS: Final = (
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
)
_READ: Final = ("get", "list", "watch")
_KEEP: Final = ("create", "get", "list", "patch", "update", "watch")
_WRITE: Final = ("create", "delete", "deletecollection", "patch", "update")


def _group(name: str, *resources: str) -> dict[str, object]:
    return {"group": name, "resources": resources}


_RULES: Final[Sequence[tuple[str, _Rule]]] = (
    (
        "Their content must never be in a log, whoever asks; that somebody asked must be.",
        {
            "level": "Metadata",
            "resources": (
                _group("", "secrets", "configmaps", "serviceaccounts/token"),
                _group("authentication.k8s.io", "tokenreviews"),
            ),
        },
    ),
    (
        "Into a container or a node, past the API: the command stands in the URI.",
        {
            "level": "Request",
            "resources": (
                _group(
                    "",
                    "pods/exec",
                    "pods/attach",
                    "pods/portforward",
                    "pods/proxy",
                    "services/proxy",
                    "nodes/proxy",
                    "pods/log",
                ),
            ),
        },
    ),
    (
        "Probes.",
        {"level": "None", "nonResourceURLs": ("/healthz*", "/livez*", "/readyz*")},
    ),
    (
        "Heartbeats: leases and status, several times a minute and node.",
        {
            "level": "None",
            "userGroups": ("system:nodes",),
            "verbs": ("patch", "update"),
            "resources": (
                _group("", "nodes/status", "pods/status"),
                _group("coordination.k8s.io", "leases"),
            ),
        },
    ),
    (
        "",
        {
            "level": "None",
            "userGroups": ("system:nodes",),
            "verbs": ("get",),
            "resources": (_group("", "nodes"), _group("coordination.k8s.io", "leases")),
        },
    ),
    (
        "",
        {
            "level": "None",
            "users": _CONTROLLERS,
            "verbs": ("get", "update"),
            "resources": (_group("coordination.k8s.io", "leases"),),
        },
    ),
    (
        "What the control plane and the nodes look at all day.",
        {"level": "None", "users": (*_CONTROLLERS, "system:kube-proxy"), "verbs": _READ},
    ),
    (
        "",
        {"level": "None", "userGroups": ("system:nodes",), "verbs": ("watch",)},
    ),
    (
        "Events of Kubernetes' own kind. That they are deleted is worth knowing.",
        {
            "level": "None",
            "verbs": _KEEP,
            "resources": (_group("", "events"), _group("events.k8s.io", "events")),
        },
    ),
    (
        "Somebody asks what they may do.",
        {
            "level": "RequestResponse",
            "verbs": ("create",),
            "resources": (
                _group(
                    "authorization.k8s.io",
                    "selfsubjectaccessreviews",
                    "selfsubjectrulesreviews",
                ),
            ),
        },
    ),
    (
        "What runs, and with which rights on its node.",
        {
            "level": "RequestResponse",
            "verbs": _WRITE,
            "resources": (
                _group(
                    "",
                    "pods",
                    "pods/ephemeralcontainers",
                    "pods/eviction",
                    "replicationcontrollers",
                    "podtemplates",
                ),
                _group("apps", "daemonsets", "deployments", "replicasets", "statefulsets"),
                _group("batch", "cronjobs", "jobs"),
            ),
        },
    ),
    (
        "Who may do what.",
        {
            "level": "RequestResponse",
            "verbs": _WRITE,
            "resources": (
                _group("", "namespaces", "serviceaccounts"),
                _group("rbac.authorization.k8s.io"),
                _group("certificates.k8s.io"),
            ),
        },
    ),
    (
        "What sees and changes all requests, and what guards pods and networks.",
        {
            "level": "RequestResponse",
            "verbs": _WRITE,
            "resources": (
                _group("admissionregistration.k8s.io"),
                _group("apiregistration.k8s.io"),
                _group("apiextensions.k8s.io"),
                _group("networking.k8s.io"),
                _group("policy"),
                _group("", "nodes", "persistentvolumes", "resourcequotas", "services"),
                _group("storage.k8s.io"),
            ),
        },
    ),
    ("Everything else.", {"level": "Metadata"}),
)


def _rule(rule: _Rule) -> list[str]:
    lines = []
    for name, value in rule.items():
        if name == "resources":
            lines.append("    resources:")
            assert isinstance(value, tuple)
            for each in value:
                lines.append(f"      - group: {json.dumps(each['group'])}")
                if each["resources"]:
                    lines.append(f"        resources: {_list(each['resources'])}")
        else:
            written = value if isinstance(value, str) else _list(value)
            lines.append(f"    {name}: {written}")
    lines[0] = f"  - {lines[0].strip()}"
    return lines


def _list(value: object) -> str:
    assert isinstance(value, tuple)
    return json.dumps(list(value))
