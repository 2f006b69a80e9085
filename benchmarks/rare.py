"""What an analyst looks for, and what looks like it: a few events in a thousand.

Half of the kinds are somebody's doing that one of the rules in `rules/` names; the others are
routine with the same words in it (kubelets asking for tokens, a deployer writing roles), which a
search for literals finds and the rules exclude.
"""

from __future__ import annotations

import random
from dataclasses import replace

from cluster import KUBECTL, NODES, PEOPLE, Actor, encode, node, person, service_account, stranger
from traffic import Request, both_bodies, pod

RBAC = "rbac.authorization.k8s.io"
HOOKS = "admissionregistration.k8s.io"
CERTIFICATES = "certificates.k8s.io"
VARIANTS = 6

Kind = tuple[float, list[Request]]
"""How many of ten thousand events, and the requests to draw from."""


class Rare:
    """Prebuilt requests of every kind, drawn by weight."""

    def __init__(self, rng: random.Random) -> None:
        kinds = [*_routine(), *_people(rng), *_strangers(), *_pods(rng)]
        self.share = sum(weight for weight, _ in kinds) / 10_000
        """The share of events that are of these kinds in a log as busy clusters write it."""
        self._rng = rng
        self._pools = [pool for _, pool in kinds]
        total = 0.0
        self._cumulative = [total := total + weight for weight, _ in kinds]

    def draw(self) -> Request:
        [pool] = self._rng.choices(self._pools, cum_weights=self._cumulative)
        return self._rng.choice(pool)


def _everyone(request: Request, weight: float, actors: list[Actor]) -> Kind:
    return weight, [replace(request, actor=actor) for actor in actors]


def _anyone(request: Request, weight: float, agent: str = KUBECTL) -> Kind:
    return _everyone(request, weight, [person(name, agent) for name in PEOPLE])


def _stream(verb: str, subresource: str, parameters: str = "container=main") -> Request:
    """A request that a connection is upgraded for: logged when it begins."""
    return Request(
        verb, "pods", stage="ResponseStarted", code=101, subresource=subresource,
        parameters=parameters,
    )  # fmt: skip


def _rbac(verb: str, resource: str, body: dict[str, object]) -> Request:
    kind = {"clusterrolebindings": "ClusterRoleBinding", "rolebindings": "RoleBinding"}
    whole = {"kind": kind.get(resource, "ClusterRole"), "apiVersion": f"{RBAC}/v1", **body}
    return Request(
        verb, resource, "RequestResponse", code=201 if verb == "create" else 200, group=RBAC,
        bodies=both_bodies(random.Random(0), whole),
    )  # fmt: skip


def _binding(verb: str, resource: str, role: str, subject: str) -> Request:
    subjects = [{"kind": "User", "apiGroup": RBAC, "name": subject}]
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
    return _rbac(verb, resource, {"subjects": subjects, "roleRef": reference})


def _routine() -> list[Kind]:
    """Machines at work; the rules leave them out by name."""
    deployer = service_account("argocd", "argocd-application-controller", "argocd/v2.13", "deploy")
    scraper = service_account("observability", "prometheus-k8s", "Prometheus/2.55", "prometheus")
    injector = service_account("cert-manager", "cainjector", "cainjector/v1.16", "cainjector")
    backup = service_account("velero", "velero", "velero-server/v1.15", "cluster-admin")
    kubelets = [node(name, number) for number, name in enumerate(NODES)]
    token = Request("create", "serviceaccounts", subresource="token", code=201)
    hook = Request("patch", "mutatingwebhookconfigurations", group=HOOKS)
    return [
        _everyone(token, 60, kubelets),
        _everyone(Request("get", "nodes", subresource="proxy"), 25, [scraper]),
        _everyone(_binding("patch", "rolebindings", "view", "oidc:ci"), 12, [deployer]),
        _everyone(_binding("patch", "clusterrolebindings", "view", "oidc:ci"), 8, [deployer]),
        _everyone(hook, 8, [injector]),
        _everyone(Request("create", "certificatesigningrequests", code=201, group=CERTIFICATES), 4,
                  kubelets),
        _everyone(Request("patch", "daemonsets", group="apps", namespace="kube-system"), 5,
                  [deployer]),
        _everyone(_stream("create", "exec", "command=fsfreeze"), 4, [backup]),
        _everyone(Request("create", "events", code=201), 40, kubelets),
    ]  # fmt: skip


def _people(rng: random.Random) -> list[Kind]:
    shells = [
        rf"command=sh\u0026command=-c\u0026command=ls+{rng.getrandbits(24):x}\u0026stdin=true"
        for _ in range(VARIANTS)
    ]
    runner = service_account("ci", "runner-deployer", "Go-http-client/2.0", "deploy")
    wildcard = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    reader = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}
    masters = encode({"username": "admin", "groups": ["system:masters", "system:authenticated"]})
    colleague = encode({"username": "oidc:lin@example.com", "groups": ["oidc:developers"]})
    debug = {"spec": {"ephemeralContainers": [{"name": "debugger", "image": "busybox:1.36"}]}}
    kinds = [
        _anyone(_binding("create", "clusterrolebindings", "cluster-admin", "oidc:ada"), 2),
        _anyone(_binding("create", "rolebindings", "edit", "oidc:lin"), 3),
        _anyone(_binding("patch", "rolebindings", "view", "system:unauthenticated"), 0.5),
        _anyone(_rbac("update", "clusterroles", {"rules": [wildcard]}), 1),
        _anyone(_rbac("create", "roles", {"rules": [reader]}), 1),
        _anyone(Request("delete", "clusterrolebindings", group=RBAC), 1),
        *(
            _anyone(_stream(verb, "exec", shell), weight)
            for verb, weight in (("create", 1.5), ("get", 0.7))
            for shell in shells
        ),
        _everyone(_stream("create", "exec"), 2, [runner]),
        _anyone(_stream("create", "attach"), 1),
        _anyone(_stream("create", "portforward"), 3),
        _anyone(Request("patch", "pods", "RequestResponse", subresource="ephemeralcontainers",
                        bodies=both_bodies(rng, debug)), 1.5),
        _anyone(Request("create", "serviceaccounts", subresource="token", code=201), 2),
        _anyone(Request("patch", "mutatingwebhookconfigurations", group=HOOKS), 1),
        _anyone(Request("delete", "validatingwebhookconfigurations", group=HOOKS), 0.5),
        _anyone(Request("update", "certificatesigningrequests", subresource="approval",
                        group=CERTIFICATES), 1),
        _anyone(Request("create", "certificatesigningrequests", code=201, group=CERTIFICATES), 1),
        _anyone(Request("get", "nodes", subresource="proxy"), 1),
        _anyone(Request("get", "pods", impersonated=masters), 1),
        _anyone(Request("list", "deployments", group="apps", impersonated=colleague), 1),
        _anyone(Request("patch", "daemonsets", group="apps", namespace="kube-system"), 1),
        _anyone(Request("update", "configmaps", namespace="kube-system"), 2),
        _anyone(Request("create", "secrets", code=201, namespace="kube-system"), 1),
        _anyone(Request("list", "secrets", namespace="", name=""), 1),
        _anyone(Request("delete", "events"), 1),
        _anyone(Request("delete", "namespaces", namespace=""), 0.5),
    ]  # fmt: skip
    for agent, weight in (("curl/8.5.0", 5), ("python-requests/2.32.3", 4), ("Wget/1.21.4", 1)):
        kinds.append(_anyone(Request("get", "configmaps"), weight / 2, agent))
        kinds.append(_anyone(Request("list", "pods"), weight / 2, agent))
    console = service_account("staging", "default", "k9s/v0.32.7", "view")
    kinds.append(_everyone(Request("list", "pods"), 1, [console]))
    stolen = service_account("checkout", "default", "curl/7.88.1", "view")
    kinds.append(_everyone(Request("get", "secrets", code=403, refused=True), 1.5, [stolen]))
    return kinds


def _strangers() -> list[Kind]:
    probe = stranger("kube-probe/1.31", "10.40.0.1")
    nmap = stranger("Mozilla/5.0 (compatible; Nmap Scripting Engine)", "203.0.113.20")
    script = stranger("python-requests/2.31.0", "203.0.113.77")
    refused = [
        Request(verb, resource, code=403, refused=True, actor=actor)
        for verb in ("get", "list")
        for resource in ("secrets", "pods", "configmaps")
        for actor in (nmap, script)
    ]
    paths = [
        Request("get", "", uri=uri, actor=probe)
        for uri in ("/healthz", "/livez", "/readyz?verbose")
    ]
    shown = Request("get", "configmaps", namespace="kube-public", name="cluster-info", actor=script)
    write = Request("create", "pods", code=403, refused=True, actor=script)
    return [(4, refused), (8, paths), (1, [shown]), (0.5, [write])]


def _pods(rng: random.Random) -> list[Kind]:
    """Pods that ask for a piece of their node."""
    kinds: list[Kind] = []
    for weight, asked in (
        (1, {"volumes": [{"name": "host", "hostPath": {"path": "/etc/kubernetes"}}]}),
        (1, {"volumes": [{"name": "run", "hostPath": {"path": "/var/run/containerd.sock"}}]}),
        (1, {"hostNetwork": True}),
        (1, {"hostPID": True}),
        (2, {"containers": [_container({"privileged": True})]}),
        (1, {"containers": [_container({"capabilities": {"add": ["SYS_ADMIN"]}})]}),
        (1, {"serviceAccountName": "node-agent", "nodeName": "node-01"}),
    ):
        body = both_bodies(rng, pod(rng, **asked))
        request = Request("create", "pods", "RequestResponse", code=201, bodies=body)
        kinds.append(_anyone(request, weight))
    return kinds


def _container(context: dict[str, object]) -> dict[str, object]:
    return {"name": "main", "image": "registry.example.com/ops:9", "securityContext": context}
