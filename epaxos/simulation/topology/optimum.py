"""The least that a table allows: how long a site must wait for the answers that the protocol asks for.

Processing takes no time, so a phase takes as long as the farthest of the answers that it cannot do without. A
replica has its own answer at once; of its peers the nearest are the best it can hope for.
"""

from __future__ import annotations

from typing import NamedTuple

from epaxos.protocol.ids import Row
from epaxos.protocol.multipaxos.state import Learn
from epaxos.simulation.topology.table import Table


def find_led_optimum(table: Table, row: Row, leader: Row, learn: Learn) -> float:
    """Shortest time from a proposal at a site to its execution there, in seconds, with a leader somewhere.

    The command goes to the leader, its Accepts to everybody. With votes to all, a site executes once the votes of a
    quorum have come, its own among them, which it casts when the Accept comes. With commits, once the leader has
    counted them and its word has come.
    """
    way = [[time / 2 for time in times] for times in table.rtt]
    everybody = range(len(table.sites))
    there, back = way[row][leader], way[leader][row]
    slow = table.quorums.slow
    if learn is Learn.VOTES:
        votes = sorted(way[leader][voter] + way[voter][row] for voter in everybody)
        return there + max(back, votes[slow - 1])
    counted = sorted(way[leader][voter] + way[voter][leader] for voter in everybody)[slow - 1]
    return there + counted + back


def find_leader(table: Table, learn: Learn) -> Row:
    """The site whose leading makes the mean over all sites least."""
    sites = range(len(table.sites))
    return min(sites, key=lambda leader: sum(find_led_optimum(table, row, leader, learn) for row in sites))


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
