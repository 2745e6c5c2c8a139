"""The porter: whose key is on the list comes in at the sockets of a replica (ZAP, ZeroMQ RFC 27).

ZeroMQ has proved by then that who connects holds the secret half of its key. It asks here about each connection before
a frame of it is taken, and notes on every frame whose it is: what the frame itself says of its sender proves nothing.

Who is not on the list is told so after a while (`security.patience`): a connection that waits for that costs no more
than one that never says anything. Answers that wait are bounded; beyond that they are given at once.
"""

from __future__ import annotations

import logging
from heapq import heappop, heappush
from math import inf
from typing import Final, NamedTuple, NoReturn, Protocol

import zmq
from zmq.utils import z85

from epaxos.actors.mailbox import address_of, readable
from epaxos.config import Config, ReplicaAddress
from epaxos.errors import ConfigError, FrameError
from epaxos.security.access import Access
from epaxos.security.patience import Patience
from epaxos.security.rights import EVERYTHING, Rights
from epaxos.transport.addresses import open_to_others

_log = logging.getLogger(__name__)

PEERS: Final = "peers"
CLIENTS: Final = "clients"
"""The sockets of a replica, as ZAP's domains."""

PAGES: Final = "pages"
"""Its port for HTTP."""

WAITING: Final = 256
"""Answers that wait at most."""

LOGGED: Final = 100
AGAIN: Final = 600.0
"""Addresses of which the log tells in so many seconds."""

_NOBLOCK: Final = int(zmq.NOBLOCK)


class Reload(NamedTuple):
    """To the Replica: read the lists of keys again."""


def access_of(config: Config, address: ReplicaAddress, hosts: list[str]) -> Access | None:
    """Who may come in at a replica that is to listen on `hosts`; None where there are no keys.

    Raises:
        ConfigError: a file of keys is wrong, or without keys others than this machine could come in.
    """
    if config.security.keys:
        return Access.of(config, address.name)
    open_ = open_to_others(hosts)
    if not open_:
        return None
    where = f"replica {address.name} listens on {', '.join(open_)} without keys"
    what = "whoever reaches its ports can read, write and vote"
    if not config.security.insecure:
        raise ConfigError(
            f"{config.source}: {where}: {what}; make keys (epaxos keys init) and set security.keys, or set "
            "security.insecure = true if no stranger can reach it"
        )
    _log.warning("INSECURE: %s: %s (security.insecure = true)", where, what)
    return None


class Counting(Protocol):
    """What counts those who are not let in, as `ReplicaStats` does."""

    def error(self, kind: str) -> None:
        """One more of this kind."""
        ...


class Failures:
    """Counts and logs those who are not let in: a line for each address and reason, now and then again."""

    def __init__(self, stats: Counting) -> None:
        self._stats = stats
        self._logged: set[tuple[str, str, str]] = set()
        self._again = -inf

    def note(self, kind: str, door: str, address: str, now: float) -> None:
        """One was not let in at a door; `kind` is one of those of `ReplicaStats.error`."""
        self._stats.error(kind)
        if now >= self._again:
            self._again = now + AGAIN
            self._logged.clear()
        key = (kind, door, address)
        if key not in self._logged and len(self._logged) < LOGGED:
            self._logged.add(key)
            _log.warning("let nobody in from %s at the port of the %s: %s", address, door, _REASONS[kind])


_REASONS: Final = {
    "login": "its key is not on the list; further tries are only counted",
    "password": "its password is wrong, or nobody's; further tries are only counted",
    "token": "its token is not on the list; further tries are only counted",
    "handshake": "it has no key, or takes this replica for another one; further tries are only counted",
}


class Porter:
    """Answers ZeroMQ's questions in the Replica's thread; `watch` is to be called if `descriptor` is readable."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], access: Access, failures: Failures) -> None:
        self.access = access
        self._failures = failures
        self._patience = Patience()
        self._waiting: list[tuple[float, int, list[bytes]]] = []
        self._number = 0
        self._socket = context.socket(zmq.ROUTER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.RCVHWM, 0)  # else ZeroMQ's thread would wait for this one
        self._socket.set(zmq.SNDHWM, 0)
        self._socket.bind("inproc://zeromq.zap.01")
        self.descriptor = int(self._socket.get(zmq.FD))
        """Readable when something has come since the last `watch`."""

    @property
    def deadline(self) -> float:
        """When an answer is due that waits."""
        return self._waiting[0][0] if self._waiting else inf

    def watch(self, now: float) -> None:
        """Answer what has been asked, and what has waited for long enough."""
        while self._waiting and self._waiting[0][0] <= now:
            self._send(heappop(self._waiting)[2])
        while readable(self._socket):  # last, as the descriptor tells only of what comes after this
            self._answer(self._socket.recv_multipart(_NOBLOCK), now)

    def _answer(self, question: list[bytes], now: float) -> None:
        head, (version, number, domain, address, _, mechanism, *credentials) = question[:2], question[2:]
        key = z85.encode(credentials[0]).decode() if mechanism == b"CURVE" and len(credentials) == 1 else ""
        look = self.access.replica if domain == PEERS.encode() else self.access.rights
        if key and look(key):
            self._send([*head, version, number, b"200", b"OK", key.encode(), b""])
            return
        where = address.decode(errors="replace")
        self._failures.note("login", domain.decode(errors="replace"), where, now)
        delay = self._patience.failed(where, now)
        answer = [*head, version, number, b"400", b"not on the list", b"", b""]
        if len(self._waiting) >= WAITING:
            self._send(answer)
            return
        self._number += 1
        heappush(self._waiting, (now + delay, self._number, answer))

    def _send(self, answer: list[bytes]) -> None:
        self._socket.send_multipart(answer, _NOBLOCK)  # to a connection that has gone it is dropped

    def replica(self, part: zmq.Frame) -> str:
        """The name of the replica that a frame comes from; "" if it comes from none."""
        return self.access.replica(_key_of(part))

    def sender(self, part: zmq.Frame) -> str:
        """The name of the replica that a frame comes from.

        Raises:
            FrameError: it has been taken from the list.
        """
        return self.replica(part) or _gone(part)

    def rights(self, part: zmq.Frame) -> Rights:
        """What the client that a frame comes from may do.

        Raises:
            FrameError: it has been taken from the list.
        """
        return self.access.rights(_key_of(part)) or _gone(part)


def anybody(_: zmq.Frame) -> Rights:
    """What whoever a frame comes from may do, where nobody is asked for a key."""
    return EVERYTHING


def _key_of(part: zmq.Frame) -> str:
    """The public key of who a frame comes from, as the gate has told ZeroMQ; "" if it has not."""
    try:
        return str(part.get("User-Id"))
    except zmq.ZMQError:
        return ""


def _gone(part: zmq.Frame) -> NoReturn:
    raise FrameError("login", f"the key of {address_of(part)} is not on the list any more")
