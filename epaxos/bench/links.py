"""The load generator's connections: one socket to each replica, with one connection or many, shared by its clients.

Many connections are those of one ROUTER socket, which costs the same however many there are; a DEALER for each would
have to be looked at one by one.

A waiting thread costs nothing and wakes on the microsecond: `Links.wait` sleeps in ``select`` on the sockets'
event descriptors. Those are edge-triggered: a socket that was sent through, or not found empty, is asked before each
sleep. To ask all of them, whenever a frame came, was seven questions for each command of a lone client, now three.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from select import select
from time import monotonic
from typing import Any, Final, Self

import msgpack
import zmq

from epaxos.client.directory import Told
from epaxos.client.session.answers import read_members
from epaxos.config import Config, ReplicaAddress
from epaxos.errors import EpaxosError, FrameError
from epaxos.protocol.ids import Name
from epaxos.protocol.membership import called
from epaxos.security.curve import arm
from epaxos.security.keys import client_login
from epaxos.transport.addresses import at_once, connect
from epaxos.transport.framing import Frame, Kind, open_frame, seal
from epaxos.transport.way import Question, find

_POLLIN: Final = int(zmq.POLLIN)
_MORE: Final = int(zmq.SNDMORE)
"""Plain numbers: an operation on the enumeration takes as long as asking the socket, and twice as long as sending."""

_ROUND: Final = 64
"""Frames taken from one socket before the next one has its turn."""

_MESSAGE_BYTES: Final = 256 * 1024
_MESSAGE_FRAMES: Final = 64
"""Bytes and frames that leave at once: what is more would keep the replica from beginning with the first."""

_STATUS_RETRY: Final = 0.5
"""Seconds after which a status request without answer is asked again."""


_NAME_PATIENCE: Final = 3.0
"""Seconds for which the resolver may look for the replicas; those not found by then do not answer."""


class BenchError(EpaxosError):
    """The benchmark cannot run: a replica refuses it, say; one line."""


@dataclass(slots=True)
class Received:
    """A frame from the replica of index `link`; `frame` is None where the bytes were no frame of ours."""

    link: int
    frame: Frame[bytes] | None


class Links:
    """The sockets to the given replicas, in their order; a context manager that closes them.

    `config` is that of the cluster, `connections` how many lead to each replica. The last ones are `observers`: no
    members, and so they are left alone when those change.

    Raises:
        ConfigError: the cluster asks for keys, and files of keys are wrong or missing.
    """

    def __init__(
        self, replicas: Sequence[ReplicaAddress], config: Config, connections: int = 1, observers: int = 0
    ) -> None:
        self.names = [replica.name for replica in replicas]
        self.voters = len(self.names) - observers
        self.cluster = config.fingerprint
        self._config = config
        self._login = client_login(config, None)
        self._routes = [b"%d" % number for number in range(connections)] if connections > 1 else []
        self._ids = count(1)
        self._leaving: defaultdict[tuple[int, bytes], list[bytes]] = defaultdict(list)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._told = Told(0, "", {})
        self._senders: dict[int, Name] = dict(enumerate(self.names))
        questions = [Question(replica.host, replica.client_port) for replica in replicas]
        addresses = [found and found.address for found in at_once(find, questions, _NAME_PATIENCE)]
        self._sockets = list(map(self._connect, addresses, replicas))
        self._missing = {link for link, address in enumerate(addresses) if address is None}
        self._descriptors = [int(socket.get(zmq.FD)) for socket in self._sockets]
        self._unseen = set(range(len(self._sockets)))
        """Links that may have frames of which their descriptors do not tell."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def _connect(self, address: str | None, replica: ReplicaAddress) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER if self._routes else zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 0)  # the clients' windows bound what is under way
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, self._config.max_frame)
        if self._login is not None:
            arm(socket, self._login.key, self._login.find(replica.name) or "")
        if address is not None:
            for route in self._routes:
                socket.setsockopt(zmq.CONNECT_ROUTING_ID, route)
                connect(socket, address, replica.client_port)
            if not self._routes:
                connect(socket, address, replica.client_port)
        return socket

    def follow(self, link: int, body: bytes) -> None:
        """Take what the replica of a link says of the members: links to those that have gone lead to others then.

        There remain as many as there were, under the names that they had. What is under way on such a link is asked
        again when its time is over.

        Raises:
            FrameError: it is not what a replica says.
        """
        told = read_members(body)
        self._senders[link] = told.sender
        if told.epoch <= self._told.epoch:
            return
        self._told = told
        served = set(self._senders.values())
        free = [member for member, (_, port, _) in told.members.items() if port and member not in served]
        lost_ones = [link for link in range(self.voters) if self._senders[link] not in told.members]
        for lost in lost_ones:
            if free:
                self._lead(lost, free.pop(0))

    def _lead(self, link: int, member: Name) -> None:
        host, port, _ = self._told.members[member]
        replica = ReplicaAddress(0, called(member), host, 0, port, 0)
        self._sockets[link].close()
        self._sockets[link] = self._connect(find(Question(host, port)).address, replica)
        self._descriptors[link] = int(self._sockets[link].get(zmq.FD))
        self._unseen.add(link)
        self._senders[link] = member
        self._missing.discard(link)

    def send(self, link: int, frame: bytes, client: int = 0) -> None:
        """Send a frame to a replica, on the connection of its client of that number, at the latest with `wait`.

        Frames for one connection leave together, as those of a program with many callers do: a message costs either end
        more than a part of it.
        """
        routes = self._routes
        leaving = self._leaving[link, routes[client % len(routes)] if routes else b""]
        leaving.append(frame)
        if len(leaving) * len(frame) >= _MESSAGE_BYTES or len(leaving) >= _MESSAGE_FRAMES:
            self._flush()

    def _flush(self) -> None:
        leaving, self._leaving = self._leaving, defaultdict(list)
        for (link, route), frames in leaving.items():
            send, (*parts, last) = self._sockets[link].send, (route, *frames) if route else frames
            for part in parts:
                send(part, _MORE)
            send(last)
            self._unseen.add(link)

    def wait(self, seconds: float) -> None:
        """Sleep until a frame has arrived, at most so long."""
        if self._leaving:
            self._flush()
        self._unseen = {link for link in self._unseen if _has_frame(self._sockets[link])}
        ready, _, _ = select(self._descriptors, (), (), 0 if self._unseen else max(seconds, 0))
        self._unseen |= {self._descriptors.index(descriptor) for descriptor in ready}

    def receive(self) -> Iterator[Received]:
        """The frames that have arrived, at most some from each replica."""
        for link in sorted(self._unseen):
            for _ in range(_ROUND):
                socket = self._sockets[link]  # it may lead elsewhere by what came
                if not _has_frame(socket):
                    self._unseen.discard(link)
                    break
                yield Received(link, self._open(self._take(socket)))

    def _take(self, socket: zmq.Socket[bytes]) -> bytes:
        return socket.recv_multipart(zmq.NOBLOCK)[-1] if self._routes else socket.recv(zmq.NOBLOCK)

    def _open(self, message: bytes) -> Frame[bytes] | None:
        try:
            return open_frame(message, self.cluster, self._config.max_frame)
        except FrameError:
            return None  # the caller counts it

    def statuses(
        self, links: Iterable[int], timeout: float, *, digest: bool = False
    ) -> dict[int, dict[str, Any]]:
        """Ask replicas for their status, all at once; who does not answer in time is left out.

        Raises:
            BenchError: a replica refuses to talk to this cluster's clients.
        """
        number = next(self._ids)
        request = seal(Kind.STATUS, self.cluster, msgpack.packb((number, {"digest": digest})))
        missing = set(links)
        answers: dict[int, dict[str, Any]] = {}
        end = monotonic() + timeout
        ask_again = 0.0
        while missing and (now := monotonic()) < end:
            if now >= ask_again:
                ask_again = now + _STATUS_RETRY
                for link in missing - self._missing:  # a socket without any connection would block
                    self.send(link, request)
            self.wait(min(end, ask_again) - now)
            for received in self.receive():
                answer = self._status_of(received, number)
                if answer is not None:
                    answers[received.link] = answer
                    missing.discard(received.link)
        return answers

    def by_name(self, statuses: Mapping[int, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """What `statuses` returned, by the replicas' names."""
        return {self.names[link]: status for link, status in statuses.items()}

    def _status_of(self, received: Received, number: int) -> dict[str, Any] | None:
        """The status in a frame; None where the frame is something else, like a late reply."""
        frame = received.frame
        if frame is None:
            return None
        if frame.kind == Kind.REFUSED:
            *_, text = msgpack.unpackb(frame.body)
            raise BenchError(f"{self.names[received.link]} refuses: {text}")
        if frame.kind != Kind.STATUS_REPLY:
            return None
        answered, status = msgpack.unpackb(frame.body)
        return status if answered == number else None


def _has_frame(socket: zmq.Socket[bytes]) -> bool:
    events = socket.get(zmq.EVENTS)  # costs a fifth of a receive that finds nothing
    return bool(int(events) & _POLLIN)
