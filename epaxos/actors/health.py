"""How a replica does, as its own process can tell: what HTTP answers to a probe, also when the Replica is stuck."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from time import monotonic
from typing import Final

from epaxos.config import Config
from epaxos.metrics import Health, ReplicaStats
from epaxos.version import __version__

STUCK: Final = 60.0
"""Seconds: a Replica that has not come back from its work for this long does not live; starting it again may help."""


class Standing:
    """How a Replica does, for the threads that wait for it or are asked about it.

    news        tells the thread that waits what has come: the name of a signal, or "" for the end
    listening   set when it listens, or has stopped
    reached     set when it has stopped, for whatever reason; `error` is None after an ordinary stop
    trouble     what is wrong with the disk of one that goes on
    draining    whether it is about to stop: it finishes what it has, and wants nothing new
    farewell    how it came to its end, if it has drained
    started     whether it has resumed what its log holds, and has caught up with a quorum since
    busy_since  when it took the message that it is at work on (monotonic, seconds); None while it waits for one
    """

    def __init__(self) -> None:
        self.news: SimpleQueue[str] = (
            SimpleQueue()
        )  # whose `put` may interrupt itself, as in a signal's handler
        self.listening = threading.Event()
        self.reached = threading.Event()
        self.error: BaseException | None = None
        self.trouble = ""
        self.draining = False
        self.farewell = ""
        self.started = False
        self.busy_since: float | None = None

    def reach(self, error: BaseException | None) -> None:
        """Note the first cause and wake whoever waits."""
        if not self.reached.is_set():
            self.error = error
            self.reached.set()
            self.listening.set()
            self.news.put("")

    def at_work(self) -> float:
        """Seconds since it took the message that it is at work on; 0 while it waits for one."""
        since = self.busy_since
        return 0.0 if since is None else monotonic() - since


def examine(config: Config, standing: Standing, stats: ReplicaStats) -> Health:
    """Whether the replica lives, and whether it can serve; safe in any thread, and waits for nobody.

    A Replica that is stuck, in a write to a disk that hangs for one, cannot be asked; but it is seen to be. It is
    ready for as long as its peers have patience with it: after `timeout` they take it for offline.
    """
    worked = standing.at_work()
    patience = max(config.timeout, 1.0)
    dead, unready = [], []
    if standing.reached.is_set():
        dead.append("stopped")
    elif worked > STUCK:
        dead.append(f"stuck: at work on one round for {worked:.0f} s; {STUCK:.0f} s are the limit")
    if not (dead or standing.started):
        unready.append("starting")
    if standing.draining:
        unready.append("draining: it has been told to stop")
    if standing.trouble:
        unready.append(f"disk failed: {standing.trouble}")
    if stats.catch_up is not None:
        unready.append("catching up: it fetches the checkpoint of a peer, or what has followed that")
    unready += _lacking(stats, patience)
    if not dead and worked > patience:
        unready.append(f"slow: at work on one round for {worked:.1f} s; {patience:g} s are the limit")
    facts = {"version": __version__, "level": stats.level, "quorum": stats.quorum, "heard": stats.heard}
    return Health(dead, dead + unready, facts)


def _lacking(stats: ReplicaStats, patience: float) -> list[str]:
    """What others would have to be there for; an observer is to know that its state is no older than `patience`."""
    observing = stats.observing
    if observing.observes:
        if observing.as_of is None:
            return ["behind: it does not know yet how old its state is"]
        age = monotonic() - observing.as_of
        return (
            [f"behind: its state is {age:.1f} s old; {patience:g} s are the limit"] if age > patience else []
        )
    if not stats.has_quorum:
        return [no_quorum(stats)]
    return [] if stats.gauges.led else ["no leader: the replicas are about to elect one"]


def no_quorum(stats: ReplicaStats) -> str:
    """Why nothing commits here."""
    if stats.me not in stats.replicas:
        return "no vote: it is to join the cluster, or has been removed from it"
    heard = ", ".join(stats.heard)
    return f"no quorum: hears {len(stats.heard)} of {len(stats.replicas)} replicas ({heard}), {stats.quorum} are needed"
