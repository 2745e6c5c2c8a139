"""What a replica tells of itself when a client asks (`epaxos status`)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from epaxos.config import Config
from epaxos.metrics import ReplicaStats
from epaxos.protocol.contract import CoreStatus
from epaxos.protocol.ids import Row
from epaxos.statemachine.machine import StateMachine
from epaxos.version import __version__


def describe(
    config: Config,
    row: Row,
    uptime: float,
    core: CoreStatus,
    machine: StateMachine,
    stats: ReplicaStats,
    peers: Mapping[str, tuple[bool, float]],
) -> dict[str, Any]:
    """The status map of one replica; `peers` are (online, when last heard) by name."""
    now = time.monotonic()
    commits = dict(stats.commits)
    decided = sum(commits.values())
    address = config.replicas[row]
    return {
        "name": address.name,
        "pid": address.pid,
        "row": row,
        "version": __version__,
        "cluster": config.name,
        "fingerprint": f"{config.fingerprint:016x}",
        "uptime_s": uptime,
        "committed": list(core.committed),
        "executed": list(core.executed),
        "seen": list(core.seen),
        "pending": core.pending,
        "in_flight": core.in_flight,
        "keys": machine.keys,
        "sessions": machine.sessions,
        "proposals": stats.proposals,
        "commits": commits,
        "fast_path_ratio": commits["fast"] / decided if decided else None,
        "executed_commands": sum(machine.executed),
        "peers": {
            name: {"online": online, "last_heard_s": now - heard if heard > 0 else None}
            for name, (online, heard) in peers.items()
        },
        "storage": config.storage.engine,
    }
