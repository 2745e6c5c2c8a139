"""What a host name means, and listening on all of it.

libzmq asks the resolver in its one I/O thread, where a silent name server stops every connection of the process. So
ZeroMQ is given numeric addresses alone. Whoever asks `resolve` may wait as long as the resolver likes;
`transport.way` does so in a thread.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Final, TypeVar

import zmq

from epaxos.config import ReplicaAddress, ip_address, place, show
from epaxos.errors import ConfigError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Binding fails with these where the address, or all of its family, is none of this machine."""


def resolve(host: str) -> list[str]:
    """The numeric addresses that `host` means, each once, in the order in which to try them.

    Raises:
        OSError: it does not resolve; `strerror` says why.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a name that no name server can be asked for
        raise OSError(errno.EINVAL, str(error)) from error
    return list(dict.fromkeys(_numeric(address) for *_, address in found))


def open_to_others(addresses: Sequence[str]) -> list[str]:
    """Those of some numeric addresses that not only this machine can reach."""
    return [host for host in addresses if (found := ip_address(host)) is not None and not found.is_loopback]


def _numeric(address: Sequence[object]) -> str:
    """The host of a socket's address; one that is valid on a single link names its interface."""
    scope = address[3] if len(address) == 4 else 0
    return f"{address[0]}%{scope}" if scope else str(address[0])


def at_once(
    work: Callable[[_Item], _Result], items: Sequence[_Item], patience: float
) -> list[_Result | None]:
    """What `work` makes of each item, in threads that nobody waits for at the end of the process.

    None for those that are not done after `patience` seconds, which names can take in a resolver.
    """
    results: list[_Result | None] = [None] * len(items)
    done: SimpleQueue[tuple[int, _Result]] = SimpleQueue()

    def run(index: int, item: _Item) -> None:
        done.put((index, work(item)))

    for numbered in enumerate(items):
        threading.Thread(target=run, args=numbered, name="resolver", daemon=True).start()
    stop = monotonic() + patience
    with suppress(Empty):
        for _ in items:
            index, result = done.get(timeout=max(0.0, stop - monotonic()))
            results[index] = result
    return results


def unresolved(host: str, error: OSError) -> str:
    """That and why a host does not resolve, as text."""
    return f"host {show(host)} does not resolve ({error.strerror or error})"


def split(endpoint: str) -> tuple[str, int]:
    """Host and port of a valid tcp:// endpoint."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def family(host: str) -> socket.AddressFamily:
    """The family of a numeric address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def pair(host: str, port: int) -> Any:
    """What the socket module takes for a port of a numeric address; two members would lose an interface."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4]


def connect(dealer: zmq.Socket[bytes], host: str, port: int) -> None:
    """Connect a ZeroMQ socket to a numeric address; ZeroMQ goes on trying for as long as it is connected."""
    dealer.set(zmq.IPV6, ":" in host)
    dealer.connect(f"tcp://{place(host, port)}")


def listen_zmq(
    router: zmq.Socket[bytes], replica: ReplicaAddress, key: str, hosts: Sequence[str]
) -> list[str]:
    """Bind a ZeroMQ socket to all of the numeric `hosts` that are this machine's; the places where it listens.

    `key` is "port" or "client_port".

    Raises:
        ConfigError: none is this machine's, or one cannot be bound.
    """

    def bind(host: str, port: int) -> None:
        router.set(zmq.IPV6, ":" in host)
        router.bind(f"tcp://{place(host, port)}")

    return _bind_each(replica, key, hosts, bind)


def listen_tcp(replica: ReplicaAddress, key: str, hosts: Sequence[str]) -> list[socket.socket]:
    """Plain listening sockets on all of the numeric `hosts` that are this machine's; answers leave at once.

    Else the body of an answer would wait for its head to be acknowledged: 40 ms, on a connection that is kept.

    Raises:
        ConfigError: none is this machine's, or one cannot be bound.
    """
    made: list[socket.socket] = []

    def bind(host: str, port: int) -> None:
        address = ip_address(host)
        every = family(host) == socket.AF_INET6 and address is not None and address.is_unspecified
        made.append(socket.create_server(pair(host, port), family=family(host), dualstack_ipv6=every))
        # What connects inherits it; asyncio sets it itself only where a socket names its protocol, which these do not.
        made[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    try:
        _bind_each(replica, key, hosts, bind)
    except ConfigError:
        for listening in made:
            listening.close()
        raise
    return made


def _bind_each(
    replica: ReplicaAddress, key: str, hosts: Sequence[str], bind: Callable[[str, int], None]
) -> list[str]:
    """A name may stand for addresses that are not (yet, or no longer) this machine's; the others do."""
    port: int = getattr(replica, key)
    bound = []
    missing = None
    for host in hosts:
        try:
            bind(host, port)
        except (OSError, zmq.ZMQError) as error:
            if error.errno not in _NOT_HERE:
                raise ConfigError(_listening_failed(replica, key, place(host, port), error)) from error
            missing = error
        else:
            bound.append(place(host, port))
    if missing is not None and not bound:
        where = " or ".join(place(host, port) for host in hosts)
        raise ConfigError(_listening_failed(replica, key, where, missing)) from missing
    return bound


def _listening_failed(replica: ReplicaAddress, key: str, where: str, error: OSError | zmq.ZMQError) -> str:
    text = f"replica {replica.name}: cannot listen on {where} ({key})"
    if error.errno == errno.EADDRINUSE:
        return f"{text}: the port is in use, perhaps by another {replica.name}; stop that or change `{key}`"
    if error.errno in _NOT_HERE:
        wrong = "host" if replica.listen is None else "listen"
        hint = " or set `listen`" if replica.listen is None else ""
        return (
            f"{text}: no address of this machine; run {replica.name} where {replica.listens_on} is, "
            f"correct `{wrong}`{hint}"
        )
    if error.errno == errno.EACCES:
        return f"{text}: this user may not; take a `{key}` above 1023 or run as a user who may"
    return f"{text}: {error.strerror or error}"
