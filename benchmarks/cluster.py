"""Who asks the API server of the generated cluster, from where, and with what."""

from __future__ import annotations

import json
from dataclasses import dataclass

NAMESPACES = [
    "checkout", "catalog", "search", "billing", "batch", "observability", "kube-system",
    "ingress", "payments", "reports", "staging", "sessions",
]  # fmt: skip
NODES = [f"node-{number:02}" for number in range(24)]
VERSION = "v1.31.4 (linux/amd64) kubernetes/a9c41de"
KUBECTL = "kubectl/v1.31.2 (darwin/arm64) kubernetes/4a1bd90"
PEOPLE = ("ada", "emre", "lin", "sofia")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: the user object as JSON, an address, an agent, and why RBAC lets them.

    `agent` and `reason` stand in the line as they are, escapes and all.
    """

    user: str
    address: str
    agent: str
    reason: str


def encode(value: object) -> str:
    """Compact JSON with the three characters that Go's encoder escapes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def actors() -> list[Actor]:
    """The nodes, the controllers and the people of one cluster."""
    nodes = (node(name, number) for number, name in enumerate(NODES))
    controllers = map(controller, ("replicaset", "deployment", "endpointslice", "job"))
    return [*nodes, *controllers, *map(person, PEOPLE)]


def node(name: str, number: int) -> Actor:
    user = {"username": f"system:node:{name}", "groups": ["system:nodes", "system:authenticated"]}
    return Actor(encode(user), f"10.40.0.{number + 10}", f"kubelet/{VERSION}", "")


def controller(name: str) -> Actor:
    account = f"{name}-controller"
    agent = f"kube-controller-manager/{VERSION}/system:serviceaccount:kube-system:{account}"
    return service_account("kube-system", account, agent, f"system:controller:{account}")


def service_account(namespace: str, name: str, agent: str, role: str) -> Actor:
    user = {
        "username": f"system:serviceaccount:{namespace}:{name}",
        "uid": f"5a1f0000-0000-4000-8000-{number_of(name) % 16**12:012x}",
        "groups": [
            "system:serviceaccounts",
            f"system:serviceaccounts:{namespace}",
            "system:authenticated",
        ],
    }
    reason = rf"RBAC: allowed by ClusterRoleBinding \"{role}\" of ClusterRole \"{role}\" to "
    account = rf"ServiceAccount \"{name}/{namespace}\""
    return Actor(encode(user), f"10.40.{number_of(name) % 7}.2", agent, reason + account)


def person(name: str, agent: str = KUBECTL) -> Actor:
    user = {
        "username": f"oidc:{name}@example.com",
        "groups": ["oidc:developers", "system:authenticated"],
    }
    return Actor(
        encode(user),
        f"10.8.0.{number_of(name) % 200 + 10}",
        agent,
        r"RBAC: allowed by ClusterRoleBinding \"developers\" of ClusterRole \"edit\" to "
        r"Group \"oidc:developers\"",
    )


def stranger(agent: str, address: str) -> Actor:
    """Somebody without credentials."""
    user = {"username": "system:anonymous", "groups": ["system:unauthenticated"]}
    role = r"\"system:public-info-viewer\""
    reason = rf"RBAC: allowed by ClusterRoleBinding {role} of ClusterRole {role} to Group "
    return Actor(encode(user), address, agent, reason + r"\"system:unauthenticated\"")


def number_of(text: str) -> int:
    """A small number that, unlike `hash()`, is the same in every process."""
    return int.from_bytes(text.encode(), "big") % 0xFFFFFFFFFFF
