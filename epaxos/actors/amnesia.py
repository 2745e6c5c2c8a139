"""What to say to and of a replica that has forgotten what it promised (protocol 4.11c)."""

from __future__ import annotations

from pathlib import Path

from epaxos.config import Config


def directory_of(config: Config, name: str) -> Path | None:
    """Where a replica keeps what it promises; None if only in its memory."""
    return None if config.storage.engine == "memory" else config.storage.directory_of(name)


def advice(config: Config, name: str) -> str:
    """What to do about a replica that was started without its data."""
    if directory_of(config, name) is None:
        return "storage engine 'memory' keeps nothing, so restart the whole cluster"
    return (
        f"give {name} back the data directory that it last ran with, not an earlier copy of it. If that is lost, "
        f"{name} cannot come back under its name: it may have promised what nobody remembers. The others go on "
        "without it; to have all replicas again, make a new cluster of what one of them holds, with `epaxos backup` "
        "and `epaxos restore` (docs/backup.md)"
    )


def no_rejoin(config: Config, name: str) -> str:
    """Why a replica that lost its data is not let back in."""
    return (
        f"{name} cannot rejoin a cluster in which it has voted: without its promises it could help to decide an "
        "instance a second time, differently, and a cluster cannot replace a member yet. If its data is there, start "
        f"it without --rejoin; else {advice(config, name)}"
    )
