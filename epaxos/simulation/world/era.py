"""What a simulated replica has for one epoch."""

from __future__ import annotations

from typing import Any, NamedTuple

from epaxos.protocol.contract import Core
from epaxos.protocol.membership import Configuration
from epaxos.simulation.world.observer import Observer
from epaxos.simulation.world.post import Post


class Era(NamedTuple):
    """An epoch at one replica: its core, what sends the messages of that, and who sees what comes of it."""

    epoch: int
    configuration: Configuration
    core: Core[Any]
    post: Post
    observer: Observer
