"""What a busy cluster asks of its API server all day: reads, leases, pods that come and go."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster import NAMESPACES, Actor, encode

SHARE_BY_VERB = {
    "get": 74.0, "update": 8.0, "list": 5.0, "create": 5.0,
    "watch": 3.0, "delete": 2.0, "patch": 2.0,
}  # fmt: skip
MAX_LIST_ITEMS = 1500  # about 2 MiB
MATCHING_PODS = 16


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the API server, before it gets a time.

    What is None is drawn anew for each event: the actor, the namespace, the name. A request
    without a resource is one for the path in `uri`.
    """

    verb: str
    resource: str
    level: str = "Metadata"
    stage: str = "ResponseComplete"
    code: int = 200
    group: str = ""
    bodies: str = ""
    subresource: str = ""
    namespace: str | None = None
    name: str | None = None
    uri: str = ""
    parameters: str = r"timeout=10s\u0026pretty=false"
    impersonated: str = ""
    refused: bool = False
    actor: Actor | None = None


def pod_spec(rng: random.Random, **asked: object) -> dict[str, Any]:
    """A pod's spec of one to four containers, with environment and mounts of random length."""
    containers = [
        {
            "name": f"c{number}",
            "image": f"registry.example.com/{rng.choice(NAMESPACES)}/app:{rng.randrange(400)}",
            "args": ["--listen=:8080", "--peers>=3", f"--shard={rng.randrange(64)}"],
            "env": [
                {"name": f"SETTING_{key}", "value": f"{rng.getrandbits(64):x}"}
                for key in range(rng.randrange(2, 18))
            ],
            "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}},
            "volumeMounts": [
                {"name": f"v{mount}", "mountPath": f"/var/lib/app/{mount}"}
                for mount in range(rng.randrange(1, 6))
            ],
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent",
        }
        for number in range(rng.choice((1, 1, 1, 2, 2, 3, 4)))
    ]
    spec = {"containers": containers, "restartPolicy": "Always", **asked}
    return spec | {"dnsPolicy": "ClusterFirst", "securityContext": {}, "enableServiceLinks": True}


def pod(rng: random.Random, **asked: object) -> dict[str, Any]:
    """A pod as it is sent; `asked` are further fields of its spec."""
    labels = {"app": rng.choice(NAMESPACES), "pod-template-hash": f"{rng.getrandbits(40):010x}"}
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"generateName": f"{labels['app']}-", "labels": labels},
        "spec": pod_spec(rng, **asked),
        "status": {},
    }


def deployment(rng: random.Random) -> dict[str, Any]:
    """A workload; one in eight asks for host IPC in its template, which is no pod's event."""
    asked = {"hostIPC": True} if rng.random() < 0.125 else {}
    return {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "app"},
        "spec": {"replicas": 3, "template": {"metadata": {}, "spec": pod_spec(rng, **asked)}},
    }


def both_bodies(rng: random.Random, body: dict[str, Any]) -> str:
    """The members for what was sent and what was stored."""
    stored = body | {"metadata": body.get("metadata", {}) | {"uid": f"{rng.getrandbits(64):x}"}}
    return f',"requestObject":{encode(body)},"responseObject":{encode(stored)}'


class Requests:
    """Requests to draw from: built once, so that an event costs one formatting of a string."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        pods = [both_bodies(rng, pod(rng)) for _ in range(96)]
        deployments = [both_bodies(rng, deployment(rng)) for _ in range(32)]
        self._items = [encode(pod(rng)) for _ in range(64)]
        self._matching = [
            created("pods", both_bodies(rng, pod(rng, hostIPC=True))) for _ in range(MATCHING_PODS)
        ]
        self._pods = [created("pods", bodies) for bodies in pods]
        self._deployments = [
            Request("update", "deployments", "RequestResponse", group="apps", bodies=bodies)
            for bodies in deployments
        ]
        self._lease = Request("update", "leases", group="coordination.k8s.io")
        self._review = Request("create", "tokenreviews", code=201, group="authentication.k8s.io")
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
        deletion = Request(
            "delete", "pods", "Request", bodies=f',"requestObject":{encode(options)}'
        )
        gets, lists, watches = (
            [Request(verb, resource, stage=stage) for resource in READ]
            for verb, stage in (
                ("get", "ResponseComplete"), ("list", "ResponseComplete"),
                ("watch", "ResponseStarted"),
            )
        )  # fmt: skip
        self._lists = lists
        patch = Request("patch", "nodes")
        self.draw_by_verb: dict[str, Callable[[], Request]] = {
            "get": lambda: gets[int(rng.random() * len(gets))],
            "update": self._update,
            "list": self._list,
            "create": self._create,
            "watch": lambda: rng.choice(watches),
            "delete": lambda: deletion,
            "patch": lambda: patch,
        }

    def matching(self) -> Request:
        """A pod created with host IPC."""
        return self._rng.choice(self._matching)

    def _update(self) -> Request:
        return self._lease if self._rng.random() < 0.9 else self._rng.choice(self._deployments)

    def _list(self) -> Request:
        """One list in eight is answered in full: tens of kilobytes, with a heavy tail."""
        if self._rng.random() >= 0.125:
            return self._rng.choice(self._lists)
        count = min(int(self._rng.paretovariate(1.1) * 8), MAX_LIST_ITEMS)
        items = ",".join(self._rng.choices(self._items, k=count))
        listing = f'{{"kind":"PodList","apiVersion":"v1","metadata":{{}},"items":[{items}]}}'
        return Request("list", "pods", "RequestResponse", bodies=f',"responseObject":{listing}')

    def _create(self) -> Request:
        return self._review if self._rng.random() < 0.6 else self._rng.choice(self._pods)


# One read in four is of a secret: kubelets ask for those of their pods over and over.
READ = ("configmaps", "configmaps", "secrets", "secrets", "services", "pods", "pods", "nodes")


def created(resource: str, bodies: str) -> Request:
    return Request("create", resource, "RequestResponse", code=201, bodies=bodies)
