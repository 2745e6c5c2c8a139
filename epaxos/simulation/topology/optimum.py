"""The least that a table allows: how long a site must wait for the answers that the protocol asks for.

Processing takes no time, so a phase takes as long as the farthest of the answers that it cannot do without. A
replica has its own answer at once; of its peers the nearest are the best it can hope for.
"""

from __future__ import annotations

from typing import NamedTuple

from epaxos.protocol.ids import Row
from epaxos.simulation.topology.table import Table


class Optimum(NamedTuple):
    """Shortest times from a proposal to its commit at the owner, in seconds.

    `fast` is that of the fast path, and so of every command; `slow` that of a command which takes the slow path.
    """

    fast: float
    slow: float


def find_optimum(table: Table, row: Row, *, thrifty: bool) -> Optimum:
    """The optimum of one site; `thrifty` says whether only as many peers as a quorum needs are asked.

    Fast path: fast - 1 answers of peers, so the time to the peer of that rank by distance.

    Slow path: a PreAccept round that fails, then an Accept round. The second takes slow - 1 answers. The first
    too, and moreover lasts until a fast quorum of equal answers is out of reach (protocol 4.5). A thrifty owner
    has asked no more than a fast quorum, so one different answer is enough; where all were asked it takes
    n - fast + 1 of them, which must come from as many peers.
    """
    quorums = table.quorums
    nearest = [table.rtt[row][peer] for peer in table.nearest(row)]
    fast, slow = nearest[quorums.fast - 2], nearest[quorums.slow - 2]
    different = 1 if thrifty else quorums.n - quorums.fast + 1
    return Optimum(fast, max(slow, nearest[different - 1]) + slow)
