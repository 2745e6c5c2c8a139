"""What a simulated replica has for one epoch."""

from __future__ import annotations

from typing import Any, NamedTuple

from epaxos.protocol.contract import Core
from epaxos.protocol.ids import Row
from epaxos.protocol.kinds import KINDS, Kind
from epaxos.protocol.membership import NO_EPOCH, NOBODY, Configuration
from epaxos.simulation.world.links import Of
from epaxos.simulation.world.observer import Observer
from epaxos.simulation.world.post import Post


class Era(NamedTuple):
    """An epoch at one replica: its core, what sends the messages of that, and who sees what comes of it.

    `row` is where this replica votes in it, or None. Who votes in which row `hosts` tell, by their numbers in the run.
    """

    epoch: int
    configuration: Configuration
    row: Row | None
    hosts: tuple[int, ...]
    core: Core[Any]
    post: Post
    observer: Observer

    @property
    def of(self) -> Of:
        """As stamps have it."""
        return of_epoch(self.configuration, self.row)

    @property
    def kind(self) -> Kind:
        """Its protocol."""
        return KINDS[self.configuration.protocol]

    def guest_row(self, host: int) -> Row:
        """The row of a host that has no vote, by which it is answered."""
        return len(self.hosts) + host

    def row_of(self, host: int) -> Row | None:
        """The row of a host; None if it has no vote."""
        return self.hosts.index(host) if host in self.hosts else None


def of_epoch(configuration: Configuration, row: Row | None) -> Of:
    """What stamps say of an epoch: of one of nobody's that it is none."""
    epoch = NO_EPOCH if NOBODY in configuration.names else configuration.epoch
    return Of(epoch, configuration.n, row, configuration.protocol)


def name_of(host: int) -> str:
    """How configurations name a host."""
    return f"r{host}"


def host_of(name: str) -> int:
    """The host of a name; -1 of nobody's."""
    return int(name[1:]) if name[1:].isdigit() else -1
