"""Writes any number of rules of the kinds in `rules/`, the same ones each time.

    python benchmarks/many.py benchmarks/data/1000.ndjson --count 1000

The rules themselves come first. Each further one is one of them made for somebody: a team's
namespaces, a few users, a program, names of objects; or it leaves some users out. Most of those
names do not occur in the generated log, as most of what a large rule set watches for does not
happen. One file as Kibana exports rules, so that a thousand take no longer to find than one.
"""

from __future__ import annotations

import argparse
import json
import random
import tomllib
import uuid
from pathlib import Path
from typing import Any

from cluster import NAMESPACES, PEOPLE

RULES = Path(__file__).with_name("rules")
TEAMS = ("accounts", "fraud", "freight", "ledger", "loyalty", "mailing", "pricing", "returns")
NAMES = ("amir", "bo", "chloe", "dana", "eli", "farah", "goran", "hana", "ivan", "june")
TOOLS = ("fluxctl", "istioctl", "kubie", "lens", "octant", "popeye", "skaffold", "sonobuoy", "tilt")
REAL_SHARE = 0.06
"""How often a name is one of the generated log."""


def variation(rng: random.Random) -> str:
    """A clause that makes a rule another one."""
    kind = rng.choices(("namespace", "user", "agent", "name", "except"), (37, 27, 16, 16, 4))[0]
    made = [NAMED[kind](rng) for _ in range(rng.choice((1, 2, 2, 3)))]
    return CLAUSES[kind].format(" or ".join(dict.fromkeys(made)))


def namespace(rng: random.Random) -> str:
    if rng.random() < REAL_SHARE:
        return f'"{rng.choice(NAMESPACES)}"'
    return f'"{rng.choice(TEAMS)}-{rng.randrange(60):02}"'


def user(rng: random.Random) -> str:
    if rng.random() < REAL_SHARE:
        return f'"oidc:{rng.choice(PEOPLE)}@example.com"'
    if rng.random() < 0.5:
        return f'"oidc:{rng.choice(NAMES)}{rng.randrange(100)}@example.com"'
    return rf"system\:serviceaccount\:{rng.choice(TEAMS)}-{rng.randrange(60):02}\:*"


def agent(rng: random.Random) -> str:
    return "kubectl*" if rng.random() < REAL_SHARE else f"{rng.choice(TOOLS)}{rng.randrange(30)}*"


def name(rng: random.Random) -> str:
    return (
        f"{rng.choice(TEAMS)}-{rng.choice(('db', 'vault', 'api', 'gateway'))}{rng.randrange(40)}*"
    )


NAMED = {"namespace": namespace, "user": user, "agent": agent, "name": name, "except": user}
CLAUSES = {
    "namespace": "kubernetes.audit.objectRef.namespace:({})",
    "user": "kubernetes.audit.user.username:({})",
    "agent": "user_agent.original:({})",
    "name": "kubernetes.audit.objectRef.name:({})",
    "except": "not kubernetes.audit.user.username:({})",
}


def many_rules(count: int, *, seed: int = 1) -> list[dict[str, Any]]:
    originals = [
        tomllib.loads(path.read_text(encoding="utf-8"))["rule"]
        for path in sorted(RULES.glob("*.toml"))
    ]
    rng = random.Random(seed)
    made = originals[:count]
    while len(made) < count:
        rule = originals[len(made) % len(originals)]
        changed = {
            "name": f"{rule['name']} ({len(made)})",
            "rule_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            "query": f"({rule['query'].strip()})\nand {variation(rng)}",
        }
        made.append(rule | changed)
    return made


def write_rules(path: Path, count: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(rule, separators=(",", ":")) + "\n" for rule in many_rules(count))
    path.write_text("".join(lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write rules of the kinds in benchmarks/rules.")
    parser.add_argument("path", type=Path, help="where to, as NDJSON")
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    write_rules(options.path, options.count)


if __name__ == "__main__":
    main()
