"""Transactions over any resources, decided by Paxos commit (docs/commit.md).

    manager = Manager(ClusterVotes(client))
    ended = manager.run([database, files], meta=b"order 17")
    if ended.outcome is Outcome.COMMITTED: ...

A resource that finds in what it kept that it has prepared a transaction, and has not heard how it ended, calls
`manager.recover(transaction, [itself])`: when it starts, and whenever it has waited for too long. `AsyncManager` is the
same for asyncio.
"""

from epaxos.commit.asynchronous import AsyncManager, AsyncResource, AsyncResourceAlone
from epaxos.commit.blocking import Manager, Resource, ResourceAlone
from epaxos.commit.desk import Undecided
from epaxos.commit.votes import (
    AsyncClusterVotes,
    AsyncRegisterVotes,
    AsyncVotes,
    ClusterVotes,
    RegisterVotes,
    Votes,
)
from epaxos.protocol.commit import Ended, Outcome, Transaction, Vote, decode, encode

__all__ = [
    "AsyncClusterVotes",
    "AsyncManager",
    "AsyncRegisterVotes",
    "AsyncResource",
    "AsyncResourceAlone",
    "AsyncVotes",
    "ClusterVotes",
    "Ended",
    "Manager",
    "Outcome",
    "RegisterVotes",
    "Resource",
    "ResourceAlone",
    "Transaction",
    "Undecided",
    "Vote",
    "Votes",
    "decode",
    "encode",
]
