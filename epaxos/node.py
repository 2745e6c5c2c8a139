"""A replica within a program's own process: `epaxos.Node`.

    with Node("conf/local.toml", "alpha") as node, node.client() as client:
        client.put(b"key", b"value")

The replica has a thread of its own, in which commands execute; it shares the interpreter with the program, so a program
that computes for long without a pause makes its peers take it for offline.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, Self, overload

from pykka import ActorDeadError, ActorRef, Timeout

from epaxos.actors.assembly import make_parts
from epaxos.actors.doors import open_doors
from epaxos.actors.health import Standing
from epaxos.actors.porter import Reload, access_of
from epaxos.actors.presence import GRACE
from epaxos.actors.process import Inside, own_hosts
from epaxos.actors.replica import Drain, Replica
from epaxos.actors.sockets import raise_limit
from epaxos.client.asynchronous import AsyncClient
from epaxos.client.blocking import Client
from epaxos.client.codecs import Codec, V
from epaxos.client.commands import Op
from epaxos.config import Config, load_config
from epaxos.doors.gate import Gate
from epaxos.errors import ConfigError, EpaxosError
from epaxos.security.keys import SUFFIX
from epaxos.statemachine.hosted import Machine, check_machine
from epaxos.transport.addresses import listen_tcp
from epaxos.web import open_pages

_NAP: Final = 0.01  # seconds
_HURRY: Final = 2.0  # seconds that a replica may take to end once it has drained, or has failed to


class NodeFailed(EpaxosError):
    """The replica has stopped by itself, or did not get ready in time."""


class _Replica(Replica):
    """One that does not keep a program from ending, which for it is a crash like any other."""

    use_daemon_thread = True


class Node:
    """The replica `name` of a cluster, in this process, from `start` (or `with`) to `stop`.

    `config` is a configuration or the path of its file. `state_machine` takes the place of the key-value store; it must
    be the one that the key `machine` names, at all replicas. The others may be programs too, or `epaxos serve`.

    Needs the extra `server`. Methods may be called by any thread.

    Raises:
        ConfigError: the file is wrong, a port is taken, or `machine` names another state machine.
        StorageError: the data directory cannot be used.
        NodeFailed: it was refused by its peers, or failed.
    """

    def __init__(self, config: Config | str, name: str, *, state_machine: Machine | None = None) -> None:
        if state_machine is not None:
            check_machine(state_machine)
        self.config = load_config(config) if isinstance(config, str) else config
        self.name = name
        self._row = self.config.row_of(name)
        self._machine = state_machine
        self._standing = Standing()
        self._stack: ExitStack | None = None
        self._replica: ActorRef[_Replica] | None = None
        self._client: Client | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Node({self.config.name}, {self.name})"

    def start(self) -> Self:
        """Open the data directory, listen, and begin to take part; returns once it listens."""
        if self._replica is not None:
            raise NodeFailed(f"{self.name} was started before; make another Node")
        address = self.config.replicas[self._row]
        raise_limit()
        hosts = own_hosts(address, self._standing)
        access = access_of(self.config, address, hosts)
        with ExitStack() as stack, ExitStack() as undone:
            pages = [stack.enter_context(page) for page in listen_tcp(address, "metrics_port", hosts)]
            parts = make_parts(self.config, self._row, self._machine)
            undone.callback(parts.disk.engine.close)
            inside = Inside(self.config, self.name, parts, self._standing, Gate(), access)
            stack.enter_context(open_pages(inside, pages))
            stack.enter_context(open_doors(self.config, address, hosts, parts.stats, inside.gate, access))
            client = self.client()
            undone.callback(client.close)
            self._replica = _Replica.start(
                self.config, self._row, parts, hosts, self._standing, inside.gate, access
            )
            undone.pop_all()
            self._client, self._stack = client, stack.pop_all()
        self._standing.listening.wait()
        if self._standing.reached.is_set():
            self.stop()
            self._raise_failure()
        return self

    def wait_until_ready(self, timeout: float = 30.0) -> Self:
        """Wait until it hears a quorum and is as far as that, for `timeout` seconds at most."""
        deadline = time.monotonic() + timeout
        while not self._standing.started:
            if self._standing.reached.is_set():
                self._raise_failure()
            if time.monotonic() > deadline:
                raise NodeFailed(f"{self.name} hears no quorum after {timeout:g} s")
            time.sleep(_NAP)
        return self

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has stopped, for whatever reason; whether it has after `timeout` seconds."""
        return self._standing.reached.wait(timeout)

    def reload(self) -> None:
        """Read the lists of keys again (docs/security.md)."""
        if self._replica is not None:
            with suppress(ActorDeadError):
                self._replica.tell(Reload())

    def stop(self, *, drain: bool = True) -> None:
        """Finish what has been taken, write a checkpoint, take leave of the peers, and let go of everything.

        Without `drain`, let go at once: what is under way is not answered, what was promised is kept. Calls of
        `execute` in other threads end as Closed, with `drain` those alone that have no answer until then.

        Raises:
            NodeFailed: a command executes still, seconds later; the replica stops once it has. All else is let go of.
        """
        stack, self._stack = self._stack, None
        if stack is None or self._replica is None:
            return
        with stack:
            if drain:
                with suppress(ActorDeadError):
                    self._replica.tell(Drain())
                self._standing.reached.wait(GRACE + _HURRY)
            if self._client is not None:
                self._client.close()
            try:
                self._replica.stop(block=True, timeout=_HURRY)
            except Timeout as error:
                raise NodeFailed(f"{self.name} executes a command still; it stops afterwards") from error

    def _raise_failure(self) -> None:
        error = self._standing.error
        if isinstance(error, ConfigError):
            raise error
        raise NodeFailed(f"{self.name} has stopped" + (f": {error}" if error else "")) from error

    # -- commands ------------------------------------------------------------------------------------------

    @overload
    def client(self, *, codec: None = None, **options: Any) -> Client[bytes]: ...
    @overload
    def client(self, *, codec: Codec[V], **options: Any) -> Client[V]: ...
    def client(self, **options: Any) -> Client[Any]:
        """A client that asks this replica, and others while it cannot; `options` are those of `Client`.

        Where keys are asked for, it comes in with that of the replica, unless `key` names another one.
        """
        return Client(config=self.config, replica=self.name, **self._with_key(options))

    @overload
    def async_client(self, *, codec: None = None, **options: Any) -> AsyncClient[bytes]: ...
    @overload
    def async_client(self, *, codec: Codec[V], **options: Any) -> AsyncClient[V]: ...
    def async_client(self, **options: Any) -> AsyncClient[Any]:
        """The same for asyncio."""
        return AsyncClient(config=self.config, replica=self.name, **self._with_key(options))

    def _with_key(self, options: dict[str, Any]) -> dict[str, Any]:
        keys = self.config.security.keys
        return {"key": str(Path(keys) / f"{self.name}{SUFFIX}"), **options} if keys else options

    def execute(self, command: bytes, *, timeout: float | None = None) -> bytes | None:
        """Have all replicas execute a command of the state machine; returns its answer.

        Not for `apply` of the state machine, which the replica would wait for while it waits for the replica.

        Raises:
            Refused: `footprint` refused it.
            ClientError: there is no answer (see `Client`).
        """
        if self._client is None:
            raise NodeFailed(f"{self.name} was not started")
        return self._client.execute(Op.apply(command), timeout=timeout)
