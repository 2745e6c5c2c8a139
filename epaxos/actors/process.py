"""A replica as a process: put together, run until told to stop, and ended with a telling exit code."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from math import inf
from queue import Empty
from types import FrameType
from typing import Any, Final, NamedTuple, TypeAlias

from pykka import ActorDeadError, ActorRef, Timeout

from epaxos.actors.amnesia import directory_of
from epaxos.actors.assembly import Parts, make_parts
from epaxos.actors.doors import open_doors
from epaxos.actors.health import Standing, examine
from epaxos.actors.notify import STOPPING, Notifier
from epaxos.actors.porter import Reload, access_of
from epaxos.actors.presence import GRACE
from epaxos.actors.replica import Drain, Replica
from epaxos.actors.sockets import raise_limit
from epaxos.config import Config, ReplicaAddress
from epaxos.doors.gate import Gate
from epaxos.errors import ConfigError, EpaxosError, Retired
from epaxos.security.access import Access
from epaxos.transport.addresses import listen_tcp, resolve, unresolved
from epaxos.version import __version__

_log = logging.getLogger(__name__)

NAME_PATIENCE: Final = 30.0
"""Seconds for which a name server that does not answer is asked what this replica is to listen on."""

_NAP: Final = 0.5
"""Seconds for which a signal may go unnoticed."""

_STUCK: Final = 60.0
_HURRY: Final = 2.0
"""Seconds after which a Replica that should have ended is taken to be stuck; the latter if it was told twice."""


class Inside(NamedTuple):
    """What of a replica those have who serve others beside it, in threads of its process.

    `access` says who may come in; anybody, without it.
    """

    config: Config
    name: str
    parts: Parts
    standing: Standing
    gate: Gate
    access: Access | None = None


Pages: TypeAlias = Callable[[Inside, Sequence[socket.socket]], AbstractContextManager[Any]]
"""Serves HTTP on sockets that listen."""


def run_replica(config: Config, name: str, pages: Pages, uptime: float = 0.0, *, joins: bool = False) -> int:
    """Run the replica `name` until SIGINT, SIGTERM or, if it is not 0, for `uptime` seconds; then let it drain.

    `pages` is what serves HTTP. A replica without data `joins` a cluster, or is a first member of one.

    Returns the exit code: 0 after an ordinary stop, or if the replica had been removed from its cluster before; 1 if it
    failed.

    Raises:
        ConfigError: a port cannot be listened on.
        StorageError: the data directory cannot be used.
    """
    row = config.place_of(name)
    who = f"replica {name} (row {row})" if row < config.n else f"observer {name}"
    address = config.everybody[row]
    standing = Standing()
    with _until_signalled(standing), ExitStack() as stack:
        # From here on it may be told to stop.
        _log.info("epaxos %s, cluster %s, %s", __version__, config.name, who)
        raise_limit()
        hosts = own_hosts(address, standing)
        if not standing.news.empty():
            _log.info("stopping on %s", standing.news.get())
            return 0
        access = access_of(config, address, hosts)
        # Before the Replica: a process that cannot run must not have spoken to the peers (actors.peers).
        ports = [stack.enter_context(port) for port in listen_tcp(address, "metrics_port", hosts)]
        try:
            parts = make_parts(config, row, joins=joins)
        except Retired as error:
            _log.info("%s", error)
            return 0
        _log.info("%s", _place(config, name, parts))
        gate = Gate()
        with (
            pages(Inside(config, name, parts, standing, gate, access), ports),
            open_doors(config, address, hosts, parts.stats, gate, access),
        ):
            _calm_garbage_collector()
            notifier = Notifier(standing, lambda: not examine(config, standing, parts.stats).dead, os.environ)
            replica = Replica.start(config, row, parts, hosts, standing, gate, access)
            patience = _STUCK
            if access is not None:
                stack.enter_context(_told(signal.SIGHUP, standing))
            try:
                patience = _run(
                    replica,
                    standing,
                    uptime,
                    notifier,
                )
            finally:
                _end(replica, patience)
    if standing.error is None:
        _log.info(
            "stopped: %s",
            standing.farewell or "at once; what it promised is kept, what was under way is not answered",
        )
    return _exit_code(standing.error)


def _run(replica: ActorRef[Replica], standing: Standing, uptime: float, notifier: Notifier) -> float:
    """Wait until the replica has ended or is told to; let it drain then, unless it is told once more.

    `notifier` is told of it, and beats twice a second meanwhile.

    Returns how long to wait for it to let go of everything.
    """
    until = time.monotonic() + uptime if uptime else inf
    while (why := _next(standing, until, notifier)) == signal.SIGHUP.name:
        with suppress(ActorDeadError):
            replica.tell(Reload())
    if not standing.reached.is_set():
        _log.info("stopping on %s", why or "the end of its uptime")
        notifier.tell(STOPPING)
        with suppress(ActorDeadError):  # it has just ended by itself
            replica.tell(Drain())
        _next(standing, time.monotonic() + GRACE + _HURRY, notifier)
    return _STUCK if standing.reached.is_set() else _HURRY


def _next(standing: Standing, until: float, notifier: Notifier) -> str:
    """What comes next: the name of a signal; empty after the moment `until`, or if the replica has ended.

    The system may give a signal to another thread, as to a process that was just continued; Python's handler then runs
    when this one next wakes.
    """
    while (left := until - time.monotonic()) > 0:
        notifier.beat()
        with suppress(Empty):
            return standing.news.get(timeout=min(left, _NAP))
    return ""


def _end(replica: ActorRef[Replica], patience: float) -> None:
    """Let the Replica let go of everything; it may be stuck in a call to a disk that does not answer."""
    try:
        replica.stop(block=True, timeout=patience)
    except Timeout:
        _log.critical("the replica is stuck, so its process ends without it")
        os._exit(1)


def _place(config: Config, name: str, parts: Parts) -> str:
    """Where the replica keeps what it promises, and whether it begins anew there."""
    directory = directory_of(config, name)
    if directory is None:
        return "nothing is kept: storage engine 'memory'"
    if parts.disk.engine.made:
        return f"data directory {directory} is new: this replica begins without data"
    return f"data directory {directory} holds what was kept before"


def own_hosts(address: ReplicaAddress, standing: Standing) -> list[str]:
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
        while not answer.done() and standing.news.empty():
            wait([answer], 0.1)
        if not standing.news.empty():
            return []
        try:
            return answer.result()
        except OSError as error:
            text = f"replica {address.name}: cannot listen: {unresolved(host, error)}"
            if error.errno != socket.EAI_AGAIN or time.monotonic() > stop:
                raise ConfigError(f"{text}; correct `host`, or set `listen` to an address") from error
            _log.warning("%s; asking again", text)
            pause = time.monotonic() + 1.0
            while standing.news.empty() and time.monotonic() < pause:
                time.sleep(0.1)


def _answer(answer: Future[list[str]], host: str) -> None:
    try:
        answer.set_result(resolve(host))
    except OSError as error:
        answer.set_exception(error)


@contextmanager
def _until_signalled(standing: Standing) -> Iterator[None]:
    """Let SIGINT and SIGTERM be told to the thread that waits."""
    with _told(signal.SIGINT, standing), _told(signal.SIGTERM, standing):
        yield


@contextmanager
def _told(number: signal.Signals, standing: Standing) -> Iterator[None]:
    """Let a signal be told to the thread that waits."""

    def tell(_: int, __: FrameType | None) -> None:
        standing.news.put(number.name)

    before = signal.signal(number, tell)
    try:
        yield
    finally:
        signal.signal(number, before)


def _calm_garbage_collector() -> None:
    """Keep cyclic collection from stopping the Replica for long, or walking the whole log again and again.

    Instances, payloads and the store are made in great numbers, live long and form no cycles; reference counts free
    them. A collection walks through what was made since the last one: of 100,000 objects, payloads with all their
    columns among them, one took 91 ms, and of 10,000 still 22: what has executed since the last cut has lists of keys.
    Else payloads have none once they have executed (`Payload.let_go`). What start-up made is set aside for good.
    PyPy's collector has generations of its own.
    """
    if sys.implementation.name != "cpython":
        return
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 50, 1000)


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, EpaxosError):
        raise error
    _log.critical("the replica failed: %s: %s", type(error).__name__, error)
    return 1
