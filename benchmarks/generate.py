"""Writes an audit log of any size, the same one for the same seed.

    python benchmarks/generate.py benchmarks/data/256m.log --mib 256
    python benchmarks/generate.py - --events 10000 --seed 7 | head

Shares of verbs, levels and sizes follow what busy clusters log: three events in four are reads
without bodies, a pod's creation is a few kilobytes, and a list answered at RequestResponse has a
long tail up to megabytes. Everything is made of templates filled with random parts, so the
writer is faster than the readers it is made for.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

MIB = 1 << 20
START = datetime(2026, 11, 16, 0, 0, tzinfo=UTC)
SHARE_BY_VERB = {
    "get": 74.0, "update": 8.0, "list": 5.0, "create": 5.0,
    "watch": 3.0, "delete": 2.0, "patch": 2.0,
}  # fmt: skip
BLOCK_EVENTS = 2048
MAX_LIST_ITEMS = 1500  # about 2 MiB
NAMESPACES = ["checkout", "catalog", "search", "billing", "batch", "observability", "kube-system"]
NODES = [f"node-{number:02}" for number in range(24)]
VERSION = "v1.31.4 (linux/amd64) kubernetes/a9c41de"

_EVENT = (
    '{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"%s","auditID":"%s","stage":"%s",'
    '"requestURI":"%s","verb":"%s","user":%s,"sourceIPs":["%s"],"userAgent":"%s","objectRef":%s,'
    '"responseStatus":{"metadata":{},"code":%d}%s,"requestReceivedTimestamp":"%s%06dZ",'
    '"stageTimestamp":"%s%06dZ","annotations":{"authorization.k8s.io/decision":"%s",'
    '"authorization.k8s.io/reason":"%s"}}\n'
)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: the user object as JSON, an address, an agent, and why RBAC lets them."""

    user: str
    address: str
    agent: str
    reason: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the API server, before it gets a time and an actor."""

    verb: str
    resource: str
    level: str = "Metadata"
    stage: str = "ResponseComplete"
    code: int = 200
    group: str = ""
    bodies: str = ""


def encode(value: object) -> str:
    """Compact JSON with the three characters that Go's encoder escapes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def actors() -> list[Actor]:
    """The nodes, the controllers and the people of one cluster."""
    nodes = (node(name, number) for number, name in enumerate(NODES))
    controllers = map(controller, ("replicaset", "deployment", "endpointslice", "job"))
    return [*nodes, *controllers, *map(person, ("ada", "emre", "lin", "sofia"))]


def node(name: str, number: int) -> Actor:
    user = {"username": f"system:node:{name}", "groups": ["system:nodes", "system:authenticated"]}
    return Actor(encode(user), f"10.40.0.{number + 10}", f"kubelet/{VERSION}", "")


def controller(name: str) -> Actor:
    account = f"{name}-controller"
    username = f"system:serviceaccount:kube-system:{account}"
    groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"]
    user = {
        "username": username,
        "uid": f"5a1f0000-0000-4000-8000-{number_of(account):012x}",
        "groups": [*groups, "system:authenticated"],
    }
    role = rf"\"system:controller:{account}\""
    return Actor(
        encode(user),
        "10.40.0.2",
        f"kube-controller-manager/{VERSION}/{username}",
        rf"RBAC: allowed by ClusterRoleBinding {role} of ClusterRole {role} to ServiceAccount "
        rf"\"{account}/kube-system\"",
    )


def person(name: str) -> Actor:
    user = {
        "username": f"oidc:{name}@example.com",
        "groups": ["oidc:developers", "system:authenticated"],
    }
    return Actor(
        encode(user),
        f"10.8.0.{number_of(name) % 200 + 10}",
        "kubectl/v1.31.2 (darwin/arm64) kubernetes/4a1bd90",
        r"RBAC: allowed by ClusterRoleBinding \"developers\" of ClusterRole \"edit\" to "
        r"Group \"oidc:developers\"",
    )


def number_of(text: str) -> int:
    """A small number that, unlike `hash()`, is the same in every process."""
    return int.from_bytes(text.encode(), "big") % 0xFFFFFFFFFFF


def pod_spec(rng: random.Random, *, host_ipc: bool | None) -> dict[str, Any]:
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
    spec: dict[str, Any] = {"containers": containers, "restartPolicy": "Always"}
    if host_ipc is not None:
        spec["hostIPC"] = host_ipc
    return spec | {"dnsPolicy": "ClusterFirst", "securityContext": {}, "enableServiceLinks": True}


def pod(rng: random.Random, *, host_ipc: bool | None) -> dict[str, Any]:
    labels = {"app": rng.choice(NAMESPACES), "pod-template-hash": f"{rng.getrandbits(40):010x}"}
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"generateName": f"{labels['app']}-", "labels": labels},
        "spec": pod_spec(rng, host_ipc=host_ipc),
        "status": {},
    }


class Requests:
    """Requests to draw from: built once, so that an event costs one formatting of a string."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._pods = [self._pair(pod(rng, host_ipc=None)) for _ in range(96)]
        self._deployments = [self._pair(self._deployment()) for _ in range(32)]
        self._items = [encode(pod(rng, host_ipc=None)) for _ in range(64)]
        matching = self._pair(pod(rng, host_ipc=True))
        self.match = Request("create", "pods", "RequestResponse", code=201, bodies=matching)
        self._draw: dict[str, Callable[[], Request]] = {
            "get": lambda: Request("get", *self._named()),
            "update": self._update,
            "list": self._list,
            "create": self._create,
            "watch": lambda: Request("watch", *self._named(), stage="ResponseStarted"),
            "delete": self._delete,
            "patch": lambda: Request("patch", "nodes"),
        }

    def draw(self, verb: str) -> Request:
        return self._draw[verb]()

    def _pair(self, body: dict[str, Any]) -> str:
        stored = body | {"metadata": body["metadata"] | {"uid": f"{self._rng.getrandbits(64):x}"}}
        return f',"requestObject":{encode(body)},"responseObject":{encode(stored)}'

    def _deployment(self) -> dict[str, Any]:
        """A workload; one in eight asks for host IPC in its template, which is no pod's event."""
        asks = True if self._rng.random() < 0.125 else None
        template = {"metadata": {}, "spec": pod_spec(self._rng, host_ipc=asks)}
        return {
            "kind": "Deployment",
            "apiVersion": "apps/v1",
            "metadata": {"name": "app"},
            "spec": {"replicas": 3, "template": template},
        }

    def _named(self) -> tuple[str, str]:
        return self._rng.choice(("configmaps", "secrets", "services", "pods", "nodes")), "Metadata"

    def _update(self) -> Request:
        if self._rng.random() < 0.9:
            return Request("update", "leases", group="coordination.k8s.io")
        bodies = self._rng.choice(self._deployments)
        return Request("update", "deployments", "RequestResponse", group="apps", bodies=bodies)

    def _list(self) -> Request:
        """One list in eight is answered in full: tens of kilobytes, with a heavy tail."""
        if self._rng.random() >= 0.125:
            return Request("list", *self._named())
        count = min(int(self._rng.paretovariate(1.1) * 8), MAX_LIST_ITEMS)
        items = ",".join(self._rng.choices(self._items, k=count))
        listing = f'{{"kind":"PodList","apiVersion":"v1","metadata":{{}},"items":[{items}]}}'
        return Request("list", "pods", "RequestResponse", bodies=f',"responseObject":{listing}')

    def _create(self) -> Request:
        if self._rng.random() < 0.6:
            return Request("create", "tokenreviews", code=201, group="authentication.k8s.io")
        bodies = self._rng.choice(self._pods)
        return Request("create", "pods", "RequestResponse", code=201, bodies=bodies)

    def _delete(self) -> Request:
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
        return Request("delete", "pods", "Request", bodies=f',"requestObject":{encode(options)}')


def event_lines(
    *, seed: int, match_share: float, events_per_second: float
) -> Iterator[tuple[str, bool]]:
    """Lines without end, and of each whether it is a pod created with host IPC."""
    rng = random.Random(seed)
    requests = Requests(rng)
    everyone = actors()
    verbs, weights = list(SHARE_BY_VERB), list(SHARE_BY_VERB.values())
    elapsed_us = 0.0
    while True:
        for verb in rng.choices(verbs, weights, k=BLOCK_EVENTS):
            elapsed_us += rng.expovariate(events_per_second) * 1e6
            matches = rng.random() < match_share
            request = requests.match if matches else requests.draw(verb)
            yield render(request, rng.choice(everyone), rng, int(elapsed_us)), matches


def render(request: Request, actor: Actor, rng: random.Random, elapsed_us: int) -> str:
    bits = f"{rng.getrandbits(128):032x}"
    audit_id = f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-a{bits[17:20]}-{bits[20:]}"
    namespace, name = rng.choice(NAMESPACES), f"item-{bits[24:]}"
    reference = f'{{"resource":"{request.resource}","namespace":"{namespace}","name":"{name}"'
    if request.group:
        reference += f',"apiGroup":"{request.group}"'
    root = f"/apis/{request.group}/v1" if request.group else "/api/v1"
    uri = rf"{root}/namespaces/{namespace}/{request.resource}/{name}?timeout=10s\u0026pretty=false"
    forbidden = request.level == "Metadata" and rng.random() < 0.01
    second, micro = divmod(elapsed_us, 1_000_000)
    moment = (START + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.")
    ended = min(micro + rng.randrange(300, 40_000), 999_999)
    return _EVENT % (
        request.level, audit_id, request.stage, uri, request.verb, actor.user, actor.address,
        actor.agent, reference + ',"apiVersion":"v1"}', 403 if forbidden else request.code,
        request.bodies, moment, micro, moment, ended, "forbid" if forbidden else "allow",
        "" if forbidden else actor.reason,
    )  # fmt: skip


def write(out: BinaryIO, lines: Iterator[tuple[str, bool]], options: argparse.Namespace) -> str:
    """Writes lines until the wanted size or number is reached; says what was written."""
    size_bytes = events = matches = 0
    block: list[str] = []
    for line, is_match in lines:
        block.append(line)
        events += 1
        matches += is_match
        size_bytes += len(line)  # every template and filling is ASCII
        full = events >= options.events if options.events else size_bytes >= options.mib * MIB
        if full or len(block) >= BLOCK_EVENTS:
            out.write("".join(block).encode("ascii"))
            block.clear()
        if full:
            break
    return f"{events} events, {size_bytes / MIB:.1f} MiB, {matches} pods created with host IPC"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write a realistic audit log.")
    parser.add_argument("path", help="where to; - is standard output")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--mib", type=float, default=64.0, help="size to reach (default 64)")
    size.add_argument("--events", type=int, default=0, help="number of events instead of a size")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--match-share", type=float, default=0.0005, help="share of events that match the rule"
    )
    parser.add_argument("--events-per-second", type=float, default=500.0)
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    lines = event_lines(
        seed=options.seed,
        match_share=options.match_share,
        events_per_second=options.events_per_second,
    )
    if options.path == "-":
        told = write(sys.stdout.buffer, lines, options)
    else:
        # Under another name until whole, so that a broken-off run is not taken for a log.
        partial = Path(options.path + ".part")
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as out:
            told = write(out, lines, options)
        partial.replace(options.path)
    sys.stderr.write(told + "\n")


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.stderr.close()
