"""A replica as a process: put together, run until told to stop, and ended with a telling exit code."""

from __future__ import annotations

import gc
import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import FrameType

from epaxos.actors.replica import End, Parts, Replica
from epaxos.config import Config
from epaxos.errors import EpaxosError
from epaxos.metrics import MetricsServer, ReplicaStats, make_registry
from epaxos.protocol.epaxos import EPaxos
from epaxos.protocol.ids import Row
from epaxos.protocol.quorums import Quorums
from epaxos.protocol.state import Settings
from epaxos.statemachine.batch import Limits
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.operations import Operation
from epaxos.storage.memory import MemoryStorage
from epaxos.transport.codec import MESSAGE_NAMES
from epaxos.version import __version__

_log = logging.getLogger(__name__)


def run_replica(config: Config, name: str, uptime: float = 0.0) -> int:
    """Run the replica `name` until SIGINT, SIGTERM or, if it is not 0, for `uptime` seconds.

    Returns the exit code: 0 after an ordinary stop, 1 if the replica failed.

    Raises:
        ConfigError: a port cannot be listened on.
    """
    row = config.row_of(name)
    parts = make_parts(config, row)
    end = End()
    with _until_signalled(end):
        address = config.replicas[row]
        registry = make_registry(parts.stats, name)
        _log.info("epaxos %s, cluster %s, replica %s (row %d)", __version__, config.name, name, row)
        # Before the Replica: a process that cannot run must not have spoken to the peers (actors.peers).
        with MetricsServer(address.host, address.metrics_port, registry, lambda: _health(end)):
            _calm_garbage_collector()
            replica = Replica.start(config, row, parts, end)
            try:
                end.reached.wait(uptime or None)
            finally:
                replica.stop(block=True)
    return _exit_code(end.error)


def make_parts(config: Config, row: Row) -> Parts:
    """Put together what a Replica drives: the protocol's core, its state machine, storage and figures."""
    settings = Settings(
        row=row,
        quorums=Quorums(config.n, config.f, config.e),
        thrifty=config.thrifty,
        fast_path_timeout=config.fast_path_timeout,
        retry=config.retry,
        recovery_timeout=config.timeout,
    )
    limits = Limits(config.max_key, config.max_value, round(config.max_pause * 1000))
    names = [replica.name for replica in config.replicas]
    operations = [operation.name for operation in Operation]
    return Parts(
        core=EPaxos(settings, Random()),  # noqa: S311 - jitter of retries, nothing secret
        storage=MemoryStorage(),
        machine=StateMachine(limits, time.sleep),
        stats=ReplicaStats(names, row, operations, list(MESSAGE_NAMES.values())),
    )


@contextmanager
def _until_signalled(end: End) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the replica in order."""

    def stop(number: int, _: FrameType | None) -> None:
        _log.info("stopping on %s", signal.Signals(number).name)
        end.reach(None)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _health(end: End) -> tuple[bool, dict[str, object]]:
    """Healthy is a replica whose actor runs; whether it has a quorum is its peers' matter too."""
    return not end.reached.is_set(), {"version": __version__}


def _calm_garbage_collector() -> None:
    """Keep cyclic collection from walking the whole log again and again.

    Instances, payloads and the store are made in great numbers, live long and form no cycles; reference
    counts free them. What start-up made is set aside for good.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, EpaxosError):
        raise error
    _log.critical("the replica failed: %r", error)
    return 1
