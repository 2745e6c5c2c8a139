"""The status of all replicas of a cluster, asked for at the same time."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from epaxos.cli.failures import Exit
from epaxos.client.asynchronous import AsyncClient
from epaxos.config import Config, ReplicaAddress
from epaxos.errors import ClientError


class Survey(NamedTuple):
    """What the replicas of a cluster answered, in the order of their rows in the log.

    Of a replica that answered: its name, `"reachable": True` and its status. Of another: its name,
    `"reachable": False` and `error`, the reason.
    """

    cluster: str
    replicas: list[dict[str, Any]]

    @property
    def reachable(self) -> int:
        """How many answered."""
        return sum(replica["reachable"] for replica in self.replicas)

    @property
    def exit_code(self) -> Exit:
        """DONE if all answered, NO_ANSWER if none did, else FAILED."""
        if not self.reachable:
            return Exit.NO_ANSWER
        return Exit.DONE if self.reachable == len(self.replicas) else Exit.FAILED


async def survey(client: AsyncClient, config: Config, limit: float, *, digest: bool) -> Survey:
    """Ask all replicas for their status and, if `digest`, for that of their state; takes `limit` s at most."""
    answers = [_ask(client, replica, limit, digest=digest) for replica in config.replicas]
    return Survey(config.name, await asyncio.gather(*answers))


async def _ask(client: AsyncClient, replica: ReplicaAddress, limit: float, *, digest: bool) -> dict[str, Any]:
    try:
        status = await client.status(replica=replica.name, digest=digest, timeout=limit)
    except ClientError as error:
        return _unreachable(replica, str(error))
    # Two replicas whose ports have been exchanged would otherwise be taken for one another.
    if status.get("name") != replica.name:
        return _unreachable(replica, f"{replica.client_endpoint} is {status.get('name')}, not {replica.name}")
    return {"name": replica.name, "reachable": True} | status


def _unreachable(replica: ReplicaAddress, reason: str) -> dict[str, Any]:
    return {"name": replica.name, "reachable": False, "error": reason}
