"""Keys of nodes: who comes in at one, by which keys it knows the others, and what those who come may do.

The directory of keys is like that of a cluster (`epaxos.security`): its list of replicas has the nodes, as node-0,
node-1 and so on, and its list of clients those who only propose and read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import zmq

from epaxos.config import SecurityConfig
from epaxos.errors import ConfigError, FrameError
from epaxos.protocol.registers.values import Peek
from epaxos.registers.observer import USER
from epaxos.security.access import Access
from epaxos.security.curve import arm_server
from epaxos.security.keys import REPLICAS_FILE, KeyPair, read_key, read_list, replicas_in
from epaxos.security.rights import Rights
from epaxos.statemachine.operations import Operation
from epaxos.transport.addresses import open_to_others, resolve

if TYPE_CHECKING:
    from epaxos.registers.node import Node

_log: Final = logging.getLogger(__name__)

PORT: Final = "registers"
"""The port of a node, as ZAP's domain and in the log."""


def name_of(id_: object) -> str:
    """What a node is called on the list of keys."""
    return f"node-{id_}"


class Keys(Protocol):
    """What a connection to a node needs: `own`, the key to log in with, and the key that is expected there."""

    @property
    def own(self) -> KeyPair:
        """The key to log in with."""
        ...

    def server_key(self, name: str) -> str:
        """The public key of the node called `name`; "" if nobody is that one now."""
        ...


class ClientKeys:
    """The keys of one who is no node, and asks these ones.

    Raises:
        ConfigError: its key file or the list is wrong, or the list lacks a node.
    """

    def __init__(self, security: SecurityConfig, ids: Iterable[int]) -> None:
        self.own = read_key(security.key)
        path = Path(security.keys) / REPLICAS_FILE
        self._known = replicas_in(read_list(path), str(path), map(name_of, ids))

    def server_key(self, name: str) -> str:
        """See `Keys`."""
        return next(iter(self._known.get(name, ())), "")


def node_keys(directory: str, id_: int, ids: Iterable[int]) -> Access:
    """The keys of node `id_`, which asks those of `ids`, and the lists of who comes in.

    Raises:
        ConfigError: a list or its key file is wrong.
    """
    return Access(directory, name_of(id_), [name_of(id_), *map(name_of, ids)])


def check_listening(
    id_: int, host: str, access: Access | None, *, insecure: bool, warns: bool = True
) -> None:
    """See that no stranger comes in unasked; a host that does not resolve is told of by who listens on it.

    warns  whether it is logged that strangers could, where they may

    Raises:
        ConfigError: others than this machine could, and nobody is asked for a key.
    """
    try:
        found = [] if access is not None else open_to_others(resolve(host))
    except OSError:
        return
    if not found:
        return
    where = f"node {id_} of registers listens on {', '.join(found)} without keys"
    what = "whoever reaches its port can read, write and vote"
    if not insecure:
        raise ConfigError(
            f"{where}: {what}; make keys (epaxos registers keys) and set security.keys, or say that no stranger can "
            "reach it (--insecure, security.insecure = true)"
        )
    if warns:
        _log.warning("INSECURE: %s: %s", where, what)


class Counts:
    """What is counted of who is not let in: beside what else a node counts."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def error(self, kind: str) -> None:
        """One was not let in."""
        self._node.count(f"refused: {kind}")


class Guard:
    """Lets those in at a node's socket who are on the lists; the socket is about to listen.

    `watch` is to be called in each turn of the socket's thread before it waits, until one of `descriptors` is readable
    or it is `deadline`: they tell only of what comes after it has looked in vain, and of the first to come not at all
    if it never has.
    """

    def __init__(
        self, node: Node, context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes], access: Access
    ) -> None:
        from epaxos.actors.porter import Failures, Porter  # noqa: PLC0415 - most who ask nodes do without
        from epaxos.actors.sockets import Door  # noqa: PLC0415

        failures = Failures(Counts(node))
        self._porter = Porter(context, access, failures)
        arm_server(router, access.own.secret, PORT)
        self._door = Door(context, router, Counts(node), PORT, failures)
        self.descriptors = (self._porter.descriptor, self._door.descriptor)

    @property
    def deadline(self) -> float:
        """When `watch` is due even if nobody comes, on the clock that it is given."""
        return self._porter.deadline

    def watch(self, now: float) -> None:
        """See who comes."""
        self._door.watch(now)
        self._porter.watch(now)

    def rights(self, part: zmq.Frame) -> Rights:
        """What who sent a frame may do.

        Raises:
            FrameError: it has been taken from the list.
        """
        return self._porter.rights(part)

    def check(self, part: zmq.Frame, sender: Any, request: Any) -> None:
        """See that who sent a frame is the node that asks, or may read what it asks for.

        Raises:
            FrameError: it speaks in another one's name, or has been taken from the list.
            Denied: it may not.
        """
        rights = self._porter.rights(part)
        if sender is not None:
            if self._porter.replica(part) != name_of(sender):
                raise FrameError("sender", f"{rights.name} speaks in the name of node {str(sender)[:40]}")
        elif isinstance(request, Peek) and request.key.startswith(USER):
            rights.check(bytes((Operation.READ,)), (request.key[len(USER) :],), None)
        else:
            rights.check_all_keys(type(request).__name__)
