"""The status of all replicas of a cluster, asked for at the same time, and what it says of the whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from epaxos.cli.failures import Exit
from epaxos.client.asynchronous import AsyncClient
from epaxos.config import Config
from epaxos.errors import ClientError, ConfigError
from epaxos.protocol.membership import called

_NOBODY: Final[Mapping[str, str]] = {}

_GRACE: Final = 0.3
"""Seconds for which one that has been removed may still say that it is there, after all others have answered."""


class Survey(NamedTuple):
    """What the replicas of a cluster answered: its members, in the order of their rows in the log, and then others.

    The latter are of the file, and there, as observers are, and those that are to join.

    Of a replica that answered: its name, `"reachable": True`, its status, and `behind`, how many instances that some
    replica has committed it has not executed. Of another: its name, `"reachable": False` and `error`, the reason.

    quorum  how many replicas a commit takes
    others  how many of the last ones are no members
    """

    cluster: str
    quorum: int
    replicas: list[dict[str, Any]]
    others: int = 0

    @property
    def n(self) -> int:
        """How many members there are."""
        return len(self.replicas) - self.others

    @property
    def reachable(self) -> int:
        """How many of them answered."""
        return sum(replica["reachable"] for replica in self.replicas[: self.n])

    @property
    def heard(self) -> int | None:
        """How many hear one another: the most that any of them hears, itself included; None if none answered.

        A replica whose disk has failed takes part in nothing.
        """
        heard = [_heard_by(replica) for replica in self.replicas if replica["reachable"]]
        return max(heard, default=None)

    @property
    def headline(self) -> str:
        """Whether the cluster serves, and what it can still bear."""
        n, heard = self.n, self.heard
        of = f"cluster {self.cluster}, {self.reachable} of {n} replicas answer"
        if heard is None:
            return f"NO ANSWER: whether there is a quorum is not known ({of})"
        if heard < self.quorum:
            return f"NO QUORUM: nothing commits; {heard} of {n} hear one another, {self.quorum} are needed ({of})"
        return f"quorum: {self.quorum} of {n}, {heard - self.quorum or 'none'} more may fail ({of})"

    def members_in(self, config: Config) -> Config:
        """The configuration with the members of now, as far as anybody tells of them."""
        return config.as_of(_latest(self.replicas))

    @property
    def level(self) -> int:
        """At which level the cluster works; 0 if nobody answers."""
        return max((int(replica["level"]) for replica in self.replicas if replica["reachable"]), default=0)

    @property
    def newer(self) -> list[str]:
        """The replicas whose programs know a newer one."""
        there = (replica for replica in self.replicas if replica["reachable"])
        return [replica["name"] for replica in there if replica["newest_level"] > self.level]

    @property
    def levels(self) -> str:
        """Both, for people."""
        newer = self.newer
        who = "all know" if len(newer) == len(self.replicas) else ", ".join(newer) + " know"
        return f"level {self.level}" + (f"; {who} a newer one" if newer else "")

    @property
    def reasons(self) -> Iterator[str]:
        """Why replicas do not serve, or do not hear one another though both answer here, a line each."""
        there = {replica["name"] for replica in self.replicas if replica["reachable"]}
        for replica in self.replicas:
            name = replica["name"]
            for reason in replica["reasons"] if replica["reachable"] else [replica["error"]]:
                yield reason if reason.startswith(f"{name} ") else f"{name}: {reason}"
            for peer, state in replica.get("peers", {}).items():
                if peer in there and state.get("trouble"):
                    yield f"{name}: peer {peer} is out of reach: {state['trouble']}"

    @property
    def exit_code(self) -> Exit:
        """DONE if all answered and commit, NO_ANSWER if none answered, else FAILED."""
        if self.heard is None:
            return Exit.NO_ANSWER
        fine = self.reachable == self.n and self.heard >= self.quorum
        return Exit.DONE if fine else Exit.FAILED

    def as_json(self) -> dict[str, Any]:
        """The same as an object; docs/cli.md describes it."""
        heard = self.heard
        spare = None if heard is None else heard - self.quorum
        quorum = {"needed": self.quorum, "heard": heard, "spare": spare}
        return {"cluster": self.cluster, "quorum": quorum, "replicas": self.replicas}


async def survey(
    client: AsyncClient, config: Config, limit: float, *, digest: bool, silent: Mapping[str, str] = _NOBODY
) -> Survey:
    """Ask all replicas for their status and, if `digest`, for that of their state; takes 2 `limit` s at most.

    Those of the file are asked, and those that they know of besides as soon as one has told of them. Nobody waits for
    those that are known to be `silent`: by name, the reason; nor for those that have been removed.
    """

    def ask(names: Iterable[str]) -> dict[str, asyncio.Task[dict[str, Any]]]:
        asked = (name for name in names if name not in silent)
        return {name: asyncio.create_task(_ask(client, config, name, limit, digest=digest)) for name in asked}

    names = [replica.name for replica in config.replicas]
    told = await _answers(ask, [replica.name for replica in config.everybody])
    latest = _latest(told.values())
    members = list(latest.get("members") or names)
    missing = {called(member): member for member in members if not _is_there(told.values(), member)}
    # What is asked by name goes to the member of that name, once the client has heard of it.
    places, filed = latest.get("addresses", {}), {it.name: list(it.place) for it in config.replicas}
    again = ask(
        name
        for name, member in missing.items()
        if name in filed and (member != name or places.get(member, filed[name]) != filed[name])
    )
    told |= dict(zip(again, await asyncio.gather(*again.values()), strict=True))
    there = [replica for replica in told.values() if replica["reachable"]]
    for standing in map(_members, there):  # logs of two epochs have nothing to do with one another
        # What is committed anywhere is decided everywhere; of a row, the best informed replica knows the most.
        alike = [replica for replica in there if _members(replica) == standing]
        decided = [max(slots) for slots in zip(*(replica["committed"] for replica in alike), strict=True)]
        for replica in alike:
            replica["behind"] = sum(map(_missing, decided, replica["executed"]))
    found = [_told_of(told, silent, member) for member in members]
    others = [replica for replica in there if replica not in found]
    quorum = int(_latest(there).get("quorum", 0)) or config.slow_quorum
    return Survey(config.name, quorum, [*found, *others], len(others))


async def _answers(
    ask: Callable[[Iterable[str]], dict[str, asyncio.Task[dict[str, Any]]]], names: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """What those of these names say, and those of whom they tell, by name."""
    asked = ask(names)
    told: dict[str, dict[str, Any]] = {}
    while True:
        latest = _latest(told.values())
        members = set(map(called, latest.get("members", ())))
        asked |= ask(members - asked.keys())
        waiting = asked.keys() - told.keys()
        if not waiting:
            return told
        only_removed = waiting <= set(map(called, latest.get("removed", ()))) - members
        tasks = [asked[name] for name in waiting]
        await asyncio.wait(
            tasks, timeout=_GRACE if only_removed else None, return_when=asyncio.FIRST_COMPLETED
        )
        answered = {name for name in waiting if asked[name].done()}
        told |= {name: asked[name].result() for name in answered}
        if not answered:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            told |= {name: _unreachable(name, "it has been removed") for name in waiting}


def _latest(told: Iterable[dict[str, Any]]) -> Mapping[str, Any]:
    """The status of the one that knows most of the cluster; nothing if nobody has answered."""
    nobody: Mapping[str, Any] = {}
    return max((one for one in told if one["reachable"]), key=_standing, default=nobody)


def _is_there(told: Iterable[dict[str, Any]], member: str) -> bool:
    return any(_id_of(replica) == member for replica in told if replica["reachable"])


def _id_of(replica: Mapping[str, Any]) -> str:
    """Who one is; of one that did not answer, who its name says."""
    return str(replica.get("id") or replica["name"])


def _told_of(told: Mapping[str, dict[str, Any]], silent: Mapping[str, str], member: str) -> dict[str, Any]:
    """What a member has told, or why it has not."""
    there = (one for one in told.values() if one["reachable"] and _id_of(one) == member)
    replica = next(there, None)
    if replica is not None:
        return replica
    name = called(member)
    known = told.get(name, {"reachable": True})
    reason = silent.get(name) or (
        "another one of this name answers" if known["reachable"] else str(known["error"])
    )
    return _unreachable(name, reason)


def _members(replica: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
    """In which epoch of whom a replica is; one that is to join a cluster is in one of nobody."""
    return replica["epoch"], tuple(replica["members"])


def _standing(replica: Mapping[str, Any]) -> tuple[bool, int]:
    """By this the one that knows most of the cluster is the highest."""
    return bool(replica["members"]), int(replica["epoch"])


def _heard_by(replica: Mapping[str, Any]) -> int:
    """How many voters of its epoch a replica hears, itself included."""
    if replica["storage_failed"] or replica.get("row", 0) is None:
        return 0
    peers = replica["peers"].items()
    return 1 + sum(
        bool(peer["online"]) for name, peer in peers if name in replica.get("members", replica["peers"])
    )


def _missing(decided: int, executed: int) -> int:
    return max(0, decided - executed)


async def _ask(
    client: AsyncClient, config: Config, name: str, limit: float, *, digest: bool
) -> dict[str, Any]:
    try:
        status = await client.status(replica=name, digest=digest, timeout=limit)
    except (ClientError, ConfigError) as error:  # the latter: nobody told where one of this name is
        return _unreachable(name, str(error))
    # Two replicas whose ports have been exchanged would otherwise be taken for one another.
    if status.name != name:
        places = {replica.name: replica.client_endpoint for replica in config.replicas}
        return _unreachable(name, f"{places.get(name, 'what is there')} is {status.name}, not {name}")
    return {"name": name, "reachable": True} | status.as_dict()


def _unreachable(name: str, reason: str) -> dict[str, Any]:
    return {"name": name, "reachable": False, "error": reason}
