"""What a service says when it begins: where it is, and how events get to it."""

from __future__ import annotations

from barrelman.settings.webhook import kubeconfig_text


def setup_text(url: str, *, here: str, is_keyless: bool) -> str:
    """The kubeconfig for an API server, and where to find the policy and the flags."""
    token = None if is_keyless else "KEY"
    parts = [
        "",
        "  API servers send their audit events with these flags:",
        "    --audit-webhook-config-file=/etc/kubernetes/audit-webhook.yaml",
        "    --audit-policy-file=/etc/kubernetes/audit-policy.yaml",
        "",
        "  audit-webhook.yaml, where `my-cluster` is the cluster's name here:",
        *(f"    {line}" for line in kubeconfig_text(url, "my-cluster", token=token).splitlines()),
        "",
        "  audit-policy.yaml: `barrelman config policy` prints one.",
    ]
    if is_keyless:
        parts += [
            "",
            "  No key has been made yet: this machine takes events in and reads without one,",
            "  and nobody else can. `barrelman keys create NAME --role intake` makes one.",
        ]
    parts += [
        "",
        f"  Try it:  curl -s {here}/readyz",
        f"           curl -s {here}/api/v1/alerts",
        "",
        "",
    ]
    return "\n".join(parts)
