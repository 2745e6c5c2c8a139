"""A replica as a process: put together, run until told to stop, and ended with a telling exit code."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Final

from epaxos.actors.amnesia import directory_of
from epaxos.actors.assembly import Parts, make_parts
from epaxos.actors.health import Standing, examine
from epaxos.actors.replica import Replica
from epaxos.config import Config, ReplicaAddress
from epaxos.errors import ConfigError, EpaxosError
from epaxos.metrics import MetricsServer, make_registry
from epaxos.transport.addresses import listen_tcp, resolve, unresolved
from epaxos.version import __version__

_log = logging.getLogger(__name__)

NAME_PATIENCE: Final = 30.0
"""Seconds for which a name server that does not answer is asked what this replica is to listen on."""


def run_replica(config: Config, name: str, uptime: float = 0.0) -> int:
    """Run the replica `name` until SIGINT, SIGTERM or, if it is not 0, for `uptime` seconds.

    Returns the exit code: 0 after an ordinary stop, 1 if the replica failed.

    Raises:
        ConfigError: a port cannot be listened on.
        StorageError: the data directory cannot be used.
    """
    row = config.row_of(name)
    _log.info("epaxos %s, cluster %s, replica %s (row %d)", __version__, config.name, name, row)
    address = config.replicas[row]
    standing = Standing()
    with _until_signalled(standing), ExitStack() as stack:
        hosts = _own_hosts(address, standing)
        if standing.reached.is_set():
            return 0
        # Before the Replica: a process that cannot run must not have spoken to the peers (actors.peers).
        pages = [stack.enter_context(page) for page in listen_tcp(address, "metrics_port", hosts)]
        parts = make_parts(config, row)
        _log.info("%s", _place(config, name, parts))
        registry = make_registry(parts.stats, name)
        with MetricsServer(pages, registry, lambda: examine(config, standing, parts.stats)):
            _calm_garbage_collector()
            replica = Replica.start(config, row, parts, hosts, standing)
            try:
                standing.reached.wait(uptime or None)
            finally:
                replica.stop(block=True)
    return _exit_code(standing.error)


def _place(config: Config, name: str, parts: Parts) -> str:
    """Where the replica keeps what it promises, and whether it begins anew there."""
    directory = directory_of(config, name)
    if directory is None:
        return "nothing is kept: storage engine 'memory'"
    if parts.disk.engine.made:
        return f"data directory {directory} is new: this replica begins without data"
    return f"data directory {directory} holds what was kept before"


def _own_hosts(address: ReplicaAddress, standing: Standing) -> list[str]:
    """The numeric addresses that the replica is to listen on, of this machine or not.

    A name server that does not answer may be starting too, so it is asked again for `NAME_PATIENCE`; in a thread,
    so that the replica can be stopped meanwhile.

    Raises:
        ConfigError: the name does not resolve.
    """
    host = address.listens_on
    stop = time.monotonic() + NAME_PATIENCE
    while True:
        answer: Future[list[str]] = Future()
        threading.Thread(target=_answer, args=(answer, host), name="resolver", daemon=True).start()
        while not answer.done() and not standing.reached.is_set():
            wait([answer], 0.1)
        if standing.reached.is_set():
            return []
        try:
            return answer.result()
        except OSError as error:
            text = f"replica {address.name}: cannot listen: {unresolved(host, error)}"
            if error.errno != socket.EAI_AGAIN or time.monotonic() > stop:
                raise ConfigError(f"{text}; correct `host`, or set `listen` to an address") from error
            _log.warning("%s; asking again", text)
            standing.reached.wait(1.0)


def _answer(answer: Future[list[str]], host: str) -> None:
    try:
        answer.set_result(resolve(host))
    except OSError as error:
        answer.set_exception(error)


@contextmanager
def _until_signalled(standing: Standing) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the replica in order."""

    def stop(number: int, _: FrameType | None) -> None:
        _log.info("stopping on %s", signal.Signals(number).name)
        standing.reach(None)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    _log.critical("the replica failed: %s: %s", type(error).__name__, error)
    return 1
