"""The commands of the Redis door: what is known of each, however it is carried out.

`TABLE` fills as the modules are read that carry them out: `strings`, `keys`, `server`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from epaxos.doors.desk import Command, Result
from epaxos.doors.redis.resp import RedisError, Reply, Request
from epaxos.doors.redis.view import View

if TYPE_CHECKING:
    from epaxos.doors.redis.connection import Connection

Apply: TypeAlias = "Callable[[View, Request], Reply]"
"""Carries a command out on a view of its keys; raises RedisError."""

Local: TypeAlias = "Callable[[Connection, Request], Reply]"
"""Answers a command that is about the connection or the server; raises RedisError."""


Walk: TypeAlias = "Callable[[Connection, Request], Coroutine[None, None, Reply]]"
"""Answers a command that is about all keys; raises RedisError or ClientError."""


class Plan(NamedTuple):
    """Operations of the store that are all of a command, and what to answer when they have executed, in order."""

    parts: Sequence[Command]
    answer: Callable[[Sequence[Result]], Reply]


Planner: TypeAlias = "Callable[[Request, int], Plan | None]"
"""Takes the time in milliseconds too; raises RedisError; None where a command with these arguments is no plan."""


class KeyPlaces(NamedTuple):
    """Where the keys of a command stand: the first and the last, counted from the end if negative, and the step."""

    first: int = 0
    last: int = 0
    step: int = 0


@dataclass(slots=True)
class Spec:
    """A command as COMMAND tells it.

    alone  whether what comes before it on its connection must have been answered
    arity  how many words it has, its name included; negative: at least so many
    since  the version of Redis that has had it first
    """

    name: str
    arity: int
    flags: frozenset[str]
    places: KeyPlaces
    group: str
    since: str
    summary: str
    apply: Apply | None = None
    plan: Planner | None = None
    local: Local | None = None
    walk: Walk | None = None
    alone: bool = False
    subcommands: dict[bytes, Spec] = field(default_factory=dict)

    @property
    def reads_only(self) -> bool:
        """Whether it changes nothing."""
        return "readonly" in self.flags

    def fits(self, request: Request) -> bool:
        """Whether it has as many words as it must."""
        return len(request) == self.arity if self.arity > 0 else len(request) >= -self.arity

    def keys(self, request: Request) -> list[bytes]:
        """The keys that a request names; it fits."""
        first, last, step = self.places
        if not first:
            return []
        return request[first : last + 1 or None : step]


NO_AUTH: Final = "NOAUTH Authentication required."

TABLE: Final[dict[bytes, Spec]] = {}
"""All commands by name, in small letters."""

ONE_KEY: Final = KeyPlaces(1, 1, 1)
ALL_KEYS: Final = KeyPlaces(1, -1, 1)
TWO_KEYS: Final = KeyPlaces(1, 2, 1)
PAIRS: Final = KeyPlaces(1, -1, 2)
NO_KEYS: Final = KeyPlaces()


def define(
    name: str,
    arity: int,
    flags: str,
    places: KeyPlaces,
    group: str,
    since: str,
    summary: str,
    **how: Any,
) -> Spec:
    """Put a command into the table, or one of another: `client|id`; `how` are fields of `Spec`."""
    spec = Spec(name, arity, frozenset(flags.split()), places, group, since, summary, **how)
    container, _, sub = name.partition("|")
    if sub:
        TABLE[container.encode()].subcommands[sub.encode()] = spec
    else:
        TABLE[name.encode()] = spec
    return spec


def define_container(name: str, group: str, since: str, summary: str) -> None:
    """Put a command into the table that is nothing without another word; HELP tells which there are."""

    def incomplete(_: Connection, __: Request) -> Reply:
        raise RedisError(f"ERR wrong number of arguments for '{name}' command")

    define(name, -2, "loading stale", NO_KEYS, group, since, summary, local=incomplete)
    define_help(name, group)


def define_help(name: str, group: str) -> None:
    """Put HELP into the table for a command with subcommands."""

    def tell(_: Connection, __: Request) -> Reply:
        lines = [f"{name.upper()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
        for sub in TABLE[name.encode()].subcommands.values():
            lines += [sub.name.partition("|")[2].upper(), f"    {sub.summary}."]
        return [*lines]

    define(f"{name}|help", 2, "loading stale", NO_KEYS, group, "5.0.0", "Tell of the subcommands", local=tell)


class Group(NamedTuple):
    """Commands of one group that are carried out on a view of their keys."""

    name: str

    def define(
        self,
        name: str,
        arity: int,
        flags: str,
        since: str,
        summary: str,
        apply: Apply,
        plan: Planner | None = None,
        places: KeyPlaces = ONE_KEY,
    ) -> None:
        """Put one of them into the table."""
        define(name, arity, flags, places, self.name, since, summary, apply=apply, plan=plan)


def look_up(request: Request) -> Spec:
    """The command of a request, which has as many words as it must.

    Raises:
        RedisError: there is none, or it has not.
    """
    name = request[0]
    spec = TABLE.get(name) or TABLE.get(name.lower())
    if spec is None:
        raise RedisError(_unknown(request))
    if spec.subcommands and len(request) > 1:
        sub = spec.subcommands.get(request[1].lower())
        if sub is None:
            raise RedisError(f"ERR unknown subcommand '{_shown(request[1])}'. Try {spec.name.upper()} HELP.")
        spec = sub
    if not spec.fits(request):
        raise RedisError(f"ERR wrong number of arguments for '{spec.name}' command")
    return spec


def _unknown(request: Request) -> str:
    arguments = ""
    for argument in request[1:]:
        if len(arguments) >= _SHOWN:
            break
        arguments += f"'{_shown(argument, _SHOWN - len(arguments))}' "
    return f"ERR unknown command '{_shown(request[0])}', with args beginning with: {arguments}"


def _shown(text: bytes, most: int = 128) -> str:
    return text.partition(b"\0")[0][:most].decode("latin-1")


_SHOWN: Final = 128
"""Characters of a command, and of its arguments, that an error shows."""
