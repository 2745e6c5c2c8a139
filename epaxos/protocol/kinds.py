"""The consensus protocols that the shell can drive, each with what the shell has to know before it has a core."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final, NamedTuple

from epaxos.protocol.contract import Core, Durable
from epaxos.protocol.epaxos import messages as epaxos
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.state import Settings as EPaxosSettings
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.multipaxos import messages as multipaxos
from epaxos.protocol.multipaxos.core import MultiPaxos
from epaxos.protocol.multipaxos.state import ROWS, VIEW
from epaxos.protocol.multipaxos.state import Settings as LedSettings
from epaxos.protocol.reads import ReadIndex


class Kind(NamedTuple):
    """One consensus protocol.

    rows   rows of the log of n replicas: a property of the protocol, not the number of replicas
    width  numbers that its core remembers of a key, with n replicas (`Core.width`, before there is a core)
    paths  how its instances can be committed (`contract.CommitNote.path`)
    owned  whether each row has an owner, for whom others wait
    view   the record whose ballot is promised for all instances, if the protocol has one; it is never dropped
    told   what a replica without a vote is told of the log; asks: what it asks for that; of_guests: all
           that is heeded of one
    settings, make  the settings of a core, from its row and quorums at least; a core that begins with what is durable
    """

    name: str
    rows: Callable[[int], int]
    width: Callable[[int], int]
    paths: tuple[str, ...]
    owned: bool
    view: InstanceId | None
    told: tuple[type, ...]
    asks: tuple[type, ...]
    of_guests: tuple[type, ...]
    settings: Callable[..., Any]
    make: Callable[[Any, Random, Durable | None], Core[Any]]


EPAXOS: Final = Kind(
    "epaxos",
    lambda n: n,
    lambda n: 4 * n,
    ("fast", "slow", "recovered"),
    owned=True,
    view=None,
    told=(epaxos.Commit, epaxos.Truncated, epaxos.Beacon, epaxos.Echo),
    asks=(epaxos.CommitRequest,),
    of_guests=(epaxos.CommitRequest, epaxos.Beacon, ReadIndex),
    settings=EPaxosSettings,
    make=EPaxos,
)

MULTIPAXOS: Final = Kind(
    "multipaxos",
    lambda _: ROWS,
    lambda _: 0,
    ("led", "forwarded", "recovered"),
    owned=False,
    view=VIEW,
    told=(multipaxos.Chosen, multipaxos.Truncated, multipaxos.Beacon, multipaxos.Echo),
    asks=(multipaxos.ChosenRequest,),
    of_guests=(multipaxos.ChosenRequest, multipaxos.Beacon, ReadIndex),
    settings=LedSettings,
    make=MultiPaxos,
)
"""One row of commands, ordered by a leader, and one for what the replica has promised."""

KINDS: Final = {kind.name: kind for kind in (EPAXOS, MULTIPAXOS)}
