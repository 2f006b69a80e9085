"""Who asks, and what they may do.

Five roles. The first four hold each other: viewer < analyst < engineer < admin; `intake` may post
events and nothing else, and of the four only an admin may. Who is bound to clusters works on what
is of these alone: rules are of all, and so are their runs. There is no credential that anyone did
not make: until then, this machine alone may post and read (`LOCAL`).
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Collection
from typing import Final, Literal, TypeAlias, get_args

from starlette.requests import Request
from starlette.responses import Response

from barrelman.records.frozen import frozen
from barrelman.server.problems import RefusedError

Role: TypeAlias = Literal["viewer", "analyst", "engineer", "admin", "intake"]
Kind: TypeAlias = Literal["key", "account", "certificate", "local"]
Handler: TypeAlias = Callable[[Request], Awaitable[Response]]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
_RANKS: Final = {"viewer": 1, "analyst": 2, "engineer": 3, "admin": 4}
_MAY_POST: Final = ("intake", "admin", "local")


@frozen
class Caller:
    """Who was found behind a request. `clusters` is None where it is not bound to some."""

    name: str
    kind: Kind
    role: Role | Literal["local"]
    clusters: frozenset[str] | None = None
    id: str = ""
    """Of a key: its id. Names may be given again, ids are not."""

    def may(self, needed: Role) -> bool:
        if needed == "intake":
            return self.role in _MAY_POST
        rank = _RANKS["viewer"] if self.role == "local" else _RANKS.get(self.role, 0)
        return rank >= _RANKS[needed]

    def sees(self, cluster: str) -> bool:
        return self.clusters is None or cluster in self.clusters

    def clusters_of(self, asked: Collection[str] | None) -> frozenset[str] | None:
        """Those of what was asked for that the caller may see; None stands for all.

        Raises RefusedError for one that was named and is not theirs: an empty answer would say
        that nothing happened there.
        """
        if not asked:
            return self.clusters
        hidden = sorted(each for each in asked if not self.sees(each))
        if hidden:
            raise RefusedError(
                f"{self.name} is bound to other clusters than {hidden[0]}", status=403
            )
        return frozenset(asked)


LOCAL: Final = Caller("local", "local", "local")


def caller_of(request: Request) -> Caller:
    found: Caller = request.state.caller
    return found


def needs(role: Role) -> Callable[[Handler], Handler]:
    """Lets only those in who are at least `role`; `handler.needs` tells the documentation."""

    def wrap(handler: Handler) -> Handler:
        @functools.wraps(handler)
        async def checked(request: Request) -> Response:
            check_role(caller_of(request), role)
            return await handler(request)

        checked.needs = role  # type: ignore[attr-defined]  # functions take attributes
        return checked

    return wrap


def check_role(caller: Caller, role: Role) -> None:
    if caller.may(role):
        if role == "engineer":
            check_unbound(caller, "rules, exceptions and sinks")
        return
    if caller.kind == "local":
        raise RefusedError(
            "without a key, events are taken in and things can be read, and no more",
            status=403,
            hint=f"make one with `barrelman keys create NAME --role {role}`",
        )
    raise RefusedError(
        f"this needs the role {role}, and {caller.name} has {caller.role}", status=403
    )


def check_unbound(caller: Caller, what: str) -> None:
    """For what is of all clusters: by it, who is bound to some could change or ask about others."""
    if caller.clusters is not None:
        raise RefusedError(
            f"{what} are of all clusters, and {caller.name} is bound to some", status=403
        )


def check_cluster(caller: Caller, cluster: str) -> None:
    if not caller.sees(cluster):
        raise RefusedError(f"{caller.name} is bound to other clusters than {cluster}", status=403)
