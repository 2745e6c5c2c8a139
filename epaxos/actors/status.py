"""What a replica tells of itself when a client asks (`epaxos status`)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from math import inf
from typing import Any, Final

from epaxos.actors.assembly import Parts
from epaxos.actors.health import Standing, examine
from epaxos.actors.remote import Remote
from epaxos.checkpoint.keeper import CatchUp
from epaxos.config import Config
from epaxos.metrics import Gauges, ReplicaStats
from epaxos.protocol.contract import Core
from epaxos.protocol.ids import Name, Row, Vector
from epaxos.protocol.kinds import KINDS
from epaxos.protocol.membership import NOBODY
from epaxos.statemachine.batch import Payload
from epaxos.version import NEWEST, __version__

MOST_WAITING: Final = 1000
"""Instances that wait, of which a client may be told at once."""


def describe(
    config: Config,
    row: Row,
    uptime: float,
    parts: Parts,
    remotes: Iterable[Remote],
    standing: Standing,
    refused: str,
) -> dict[str, Any]:
    """The status map of the replica of table `row` of the file; `refused` says why it can write no checkpoint."""
    now = time.monotonic()
    machine, stats, disk = parts.machine, parts.stats, parts.disk
    core = parts.core.status()
    commits = dict(stats.commits)
    paths = KINDS[stats.protocol].paths
    decided = sum(commits[path] for path in paths)
    address = config.everybody[row]
    names = parts.configuration.names
    return {
        "name": address.name,
        "pid": address.pid,
        "id": parts.me,
        "row": parts.eras.running.row,
        "version": __version__,
        "cluster": config.name,
        "fingerprint": f"{config.fingerprint:016x}",
        "uptime_s": uptime,
        "reasons": list(examine(config, standing, stats).unready),
        "quorum": stats.quorum,
        "committed": list(core.committed),
        "executed": list(core.executed),
        "seen": list(core.seen),
        "pending": core.pending,
        "in_flight": core.in_flight,
        "keys": machine.keys,
        "sessions": machine.sessions,
        "generation": machine.generation,
        "remembered": core.remembered,
        "proposals": stats.proposals,
        "commits": commits,
        "epoch": parts.configuration.epoch,
        "members": [name for name in names if name != NOBODY],
        "addresses": {
            name: list(at.place)
            for name, at in config.members_of(parts.configuration).items()
            if at is not None
        },
        "removed": list(parts.configuration.removed),
        "observes": parts.observes,
        "age_s": None if stats.observing.as_of is None else now - stats.observing.as_of,
        "observers": _observers(stats, core.committed),
        "request": parts.configuration.request,
        "f": parts.configuration.f,
        "e": parts.configuration.e,
        "changing": core.changing,
        "level": parts.configuration.level,
        "newest_level": NEWEST,
        "protocol": parts.configuration.protocol,
        "leader": None if core.leader is None else names[core.leader],
        "ballot": core.ballot,
        "fast_path_ratio": commits["fast"] / decided if decided and "fast" in paths else None,
        "executed_commands": sum(machine.executed),
        "latency": {
            "bounds_s": list(stats.execution_latency.bounds),
            "counts": stats.execution_latency.counts.copy(),
            "sum_s": stats.execution_latency.sum,
        },
        "peers": {
            remote.name: {
                "online": remote.online,
                "epoch": stats.peer_epoch[remote.name],
                "newest_level": stats.peer_level[remote.name],
                "behind": _behind(parts, remote.name, core.committed),
                "trouble": remote.trouble or None,
                "round_trip_s": stats.peer_round_trip[remote.name] or None,
                "last_heard_s": now - remote.last_heard if remote.last_heard > 0 else None,
            }
            for remote in remotes
        },
        "truncated": list(core.truncated),
        "storage": config.storage.engine,
        "storage_bytes": disk.engine.size,
        "storage_failed": standing.trouble or None,
        "storage_full": stats.storage_full,
        "storage_room": None if stats.storage_room == inf else stats.storage_room,
        "checkpoint_refused": refused or None,
        "checkpoint": list(disk.keeper.writer.executed),
        "catch_up": _catch_up(disk.keeper.catch_up),
    }


def _observers(stats: ReplicaStats, committed: Vector) -> dict[str, dict[str, Any]]:
    """Those that follow here, by who they are: what they have told last, against what is decided."""
    return {
        name: {
            "online": stats.peer_up.get(name, False),
            "behind": sum(max(0, mine - its) for mine, its in zip(committed, executed, strict=True)),
            "joins": name in stats.observing.joining,
        }
        for name, executed in stats.observing.followers.items()
        if name not in stats.replicas
    }


def gauges_of(parts: Parts) -> Gauges:
    """What metrics show of how a replica is now."""
    core, machine = parts.core.status(), parts.machine
    return Gauges(
        core.committed,
        core.executed,
        core.pending,
        core.in_flight,
        machine.keys,
        machine.sessions,
        core.remembered,
        core.truncated,
        core.kept,
        KINDS[parts.configuration.protocol].owned or core.leader is not None,
        core.leader is not None and core.leader == parts.eras.running.row,
        core.ballot,
        parts.core.coverage.get("elected", 0),
    )


def _behind(parts: Parts, peer: Name, committed: Vector) -> int:
    """How many instances are decided here of which a peer has not said so; it says it now and then."""
    names = parts.configuration.names
    if peer not in names:
        return 0
    told = parts.core.told(names.index(peer))
    return sum(max(0, mine - theirs) for mine, theirs in zip(committed, told, strict=True))


def describe_waiting(core: Core[Any], most: int) -> list[dict[str, Any]]:
    """What is known here and has not executed, up to `most` instances, the lowest slots first."""
    return [
        {
            "row": instance.id.row,
            "slot": instance.id.slot,
            "phase": int(instance.phase),
            "known": instance.value is not None or instance.phase > 0,
            "ballot": instance.bal,
            "deps": list(instance.deps),
            "commands": len(instance.orig) if isinstance(instance.orig, Payload) else 0,
        }
        for instance in core.waiting(most)
    ]


def _catch_up(progress: CatchUp | None) -> dict[str, Any] | None:
    """How far this replica is in fetching a peer's checkpoint; None if it is not."""
    if progress is None:
        return None
    return {
        "peer": progress.peer,
        "stage": progress.stage,
        "rows": progress.rows,
        "bytes": progress.size,
        "keys": progress.keys,
    }
