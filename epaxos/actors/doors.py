"""The doors of a replica's process: which of them have ports of their own, and what these are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import Final

from epaxos.actors.assembly import limits_of
from epaxos.actors.porter import Failures
from epaxos.config import Config, ReplicaAddress
from epaxos.config.keys import KEY_VALUE
from epaxos.doors.gate import Gate
from epaxos.errors import ConfigError
from epaxos.metrics import ReplicaStats
from epaxos.security.access import Access
from epaxos.transport.addresses import listen_tcp

REDIS: Final = "Redis door"


@contextmanager
def open_doors(
    config: Config,
    address: ReplicaAddress,
    hosts: Sequence[str],
    stats: ReplicaStats,
    gate: Gate,
    access: Access | None,
) -> Iterator[None]:
    """Open the doors that have ports of their own, which are closed at the end.

    Raises:
        ConfigError: a port cannot be listened on, or the state machine is none that a door knows.
    """
    with ExitStack() as stack:
        if address.redis_port is not None:
            if config.machine != KEY_VALUE:
                raise ConfigError(
                    f"{config.source}: replica {address.name}, redis_port: found {address.redis_port}; allowed: none "
                    "where `machine` is not the key-value store"
                )
            from epaxos.doors.redis.door import Door  # noqa: PLC0415 - most replicas have none
            from epaxos.security.passwords import Passwords  # noqa: PLC0415 - the same

            sockets = [stack.enter_context(one) for one in listen_tcp(address, "redis_port", hosts)]
            failures = Failures(stats)  # of one thread, as the Replica's are of another
            passwords = None
            if access is not None:
                passwords = Passwords(
                    access, lambda address: failures.note("password", REDIS, address, monotonic())
                )
            certificate = config.security.certificate
            stack.enter_context(
                Door(
                    sockets,
                    gate,
                    config,
                    limits_of(config),
                    stats,
                    passwords=passwords,
                    certificate=certificate,
                )
            )
        yield
