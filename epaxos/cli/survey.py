"""The status of all replicas of a cluster, asked for at the same time, and what it says of the whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from epaxos.cli.failures import Exit
from epaxos.client.asynchronous import AsyncClient
from epaxos.config import Config, ReplicaAddress
from epaxos.errors import ClientError

_NOBODY: Final[Mapping[str, str]] = {}


class Survey(NamedTuple):
    """What the replicas of a cluster answered, in the order of their rows in the log.

    Of a replica that answered: its name, `"reachable": True`, its status, and `behind`, how many instances that some
    replica has committed it has not executed. Of another: its name, `"reachable": False` and `error`, the reason.

    quorum  how many replicas a commit takes
    """

    cluster: str
    quorum: int
    replicas: list[dict[str, Any]]

    @property
    def reachable(self) -> int:
        """How many answered."""
        return sum(replica["reachable"] for replica in self.replicas)

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
        n, heard = len(self.replicas), self.heard
        of = f"cluster {self.cluster}, {self.reachable} of {n} replicas answer"
        if heard is None:
            return f"NO ANSWER: whether there is a quorum is not known ({of})"
        if heard < self.quorum:
            return f"NO QUORUM: nothing commits; {heard} of {n} hear one another, {self.quorum} are needed ({of})"
        return f"quorum: {self.quorum} of {n}, {heard - self.quorum or 'none'} more may fail ({of})"

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
        fine = self.reachable == len(self.replicas) and self.heard >= self.quorum
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
    """Ask all replicas for their status and, if `digest`, for that of their state; takes `limit` s at most.

    Nobody waits for those that are known to be `silent`: by name, the reason.
    """
    asked = [replica for replica in config.replicas if replica.name not in silent]
    answers = await asyncio.gather(*(_ask(client, replica, limit, digest=digest) for replica in asked))
    told = dict(zip((replica.name for replica in asked), answers, strict=True))
    found = [told.get(it.name) or _unreachable(it, silent[it.name]) for it in config.replicas]
    there = [replica for replica in found if replica["reachable"]]
    # What is committed anywhere is decided everywhere; of a row, the best informed replica knows the most.
    for members in map(_members, there):  # logs of two epochs have nothing to do with one another
        alike = [replica for replica in there if _members(replica) == members]
        decided = [max(slots) for slots in zip(*(replica["committed"] for replica in alike), strict=True)]
        for replica in alike:
            replica["behind"] = sum(map(_missing, decided, replica["executed"]))
    latest = max(there, key=_standing, default={"quorum": 0})
    return Survey(config.name, int(latest["quorum"]) or config.slow_quorum, found)


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


async def _ask(client: AsyncClient, replica: ReplicaAddress, limit: float, *, digest: bool) -> dict[str, Any]:
    try:
        status = await client.status(replica=replica.name, digest=digest, timeout=limit)
    except ClientError as error:
        return _unreachable(replica, str(error))
    # Two replicas whose ports have been exchanged would otherwise be taken for one another.
    if status.name != replica.name:
        return _unreachable(replica, f"{replica.client_endpoint} is {status.name}, not {replica.name}")
    return {"name": replica.name, "reachable": True} | status.as_dict()


def _unreachable(replica: ReplicaAddress, reason: str) -> dict[str, Any]:
    return {"name": replica.name, "reachable": False, "error": reason}
