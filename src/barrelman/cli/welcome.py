"""What a service says when it begins: where it is, and how events get to it."""

from __future__ import annotations

from typing import Final

from barrelman.settings.webhook import (
    KUBECONFIG_PATH,
    apiserver_flags,
    kubeconfig_text,
    policy_text,
)

_CLUSTER: Final = "my-cluster"


def setup_text(url: str, *, here: str, is_keyless: bool) -> str:
    """Flags, kubeconfig and policy for an API server, and what to try first."""
    kubeconfig = kubeconfig_text(url, _CLUSTER, token=None if is_keyless else "KEY")
    lines = len(policy_text().splitlines())
    parts = [
        "",
        "To send audit events here, give kube-apiserver these flags:",
        "",
        *_indented("\n".join(apiserver_flags())),
        "",
        f"{KUBECONFIG_PATH}, with the name that the cluster is to have here:",
        "",
        *_indented(kubeconfig),
        "",
        f"The policy: `barrelman config policy` prints one ({lines} lines).",
        "",
    ]
    if is_keyless:
        parts += [
            "No key has been made yet: on this machine events are taken in and read without one,",
            "and nobody else is served. `barrelman keys create NAME --role intake` makes one.",
            "",
        ]
    parts += [
        f"Health: {here}/readyz   alerts: {here}/api/v1/alerts   API: {here}/api/openapi.json",
        "",
        "",
    ]
    return "\n".join(parts)


def _indented(text: str) -> list[str]:
    return [f"    {line}" if line else "" for line in text.splitlines()]
