"""Nodes that ask each other over ZeroMQ, in the frames of the service (`transport.framing`), without waiting.

Every frame names the incarnation of its sender, a number that its store was given when it was new. So a node that has
lost what it promised, or has taken another's number, is refused, in both directions: an empty acceptor would break its
promises, and an empty proposer use its ballots twice.
"""

from __future__ import annotations

import socket
import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TimeOut
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import msgpack
import zmq

from epaxos.errors import ConfigError, FrameError, StorageError
from epaxos.registers.changes import LIMITS
from epaxos.registers.lanes import MOST_WAITING, Take
from epaxos.registers.transport import Unreachable
from epaxos.transport.addresses import resolve
from epaxos.transport.framing import Kind, open_frame, seal
from epaxos.transport.registers import ID_MAX, decode, encode, malformed

if TYPE_CHECKING:
    from epaxos.registers.node import Node

REGISTERS: Final = int.from_bytes(b"register")
"""Stands where frames of the service name their cluster."""

LARGEST: Final = 4 * LIMITS.value
"""Bytes of a frame at most."""

MOST_AT_ONCE: Final = 1000
"""Frames that are taken from a socket before others have their turn."""

FORGOT: Final = "forgot"
"""The kind of a refusal of who is not who it was."""

_RECONNECT: Final = 1000
"""Milliseconds between two attempts to connect, at most."""

_UNREADABLE: Final = (ValueError, TypeError, msgpack.exceptions.UnpackException)


class _Waker:
    """Lets other threads end a poll."""

    def __init__(self) -> None:
        self.reader, self._writer = socket.socketpair()
        self.reader.setblocking(False)
        self._writer.setblocking(False)

    def wake(self) -> None:
        with suppress(BlockingIOError, OSError):  # it is awake already, or has ended
            self._writer.send(b"!")

    def heed(self) -> None:
        with suppress(BlockingIOError):
            self.reader.recv(4096)

    def close(self) -> None:
        self.reader.close()
        self._writer.close()


def _frames(source: zmq.Socket[bytes]) -> list[list[bytes]]:
    """What waits at a socket."""
    found: list[list[bytes]] = []
    with suppress(zmq.Again):
        while len(found) < MOST_AT_ONCE:
            found.append(source.recv_multipart(zmq.NOBLOCK))
    return found


class _Asked(NamedTuple):
    """A request that waits for its answer."""

    peer: int
    take: Take


class ZeroMqTransport:
    """How a node asks others, by their `addresses`: host and port by number. It works once it belongs to a node.

    Raises:
        ConfigError: a host does not resolve.
    """

    def __init__(self, addresses: Mapping[int, tuple[str, int]]) -> None:
        self._places = {peer: _place(peer, *address) for peer, address in addresses.items()}
        self._node: Node | None = None
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._outbox: deque[tuple[int, int, bytes]] = deque()
        self._asked: OrderedDict[int, _Asked] = OrderedDict()
        self._known: dict[int, int] = {}
        self._waker = _Waker()
        self._closed = False
        self._thread: threading.Thread | None = None

    def belongs_to(self, node: Node) -> None:
        """Begin to ask for a node, in its name."""
        self._node = node
        self._thread = threading.Thread(target=self._run, name=f"registers-zmq-{node.id}", daemon=True)
        self._thread.start()

    def ask(self, peer: int, request: Any, timeout: float) -> Any:
        """See `Transport`."""
        future: Future[Any] = Future()
        self.post(peer, request, future.set_result)
        try:
            answer = future.result(timeout)
        except TimeOut:
            raise Unreachable(f"node {peer} does not answer") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def post(self, peer: int, request: Any, take: Take) -> None:
        """See `PostingTransport`. Of requests that are not answered the oldest are given up, as they become many."""
        if peer not in self._places:
            take(Unreachable(f"node {peer} has no address here"))
            return
        oldest = None
        with self._lock:
            number = next(self._numbers)
            self._asked[number] = _Asked(peer, take)
            self._outbox.append((peer, number, encode(request)))
            if len(self._asked) > MOST_WAITING * len(self._places):
                _, oldest = self._asked.popitem(last=False)
        if oldest is not None:
            oldest.take(Unreachable(f"node {oldest.peer} does not answer"))
        if threading.current_thread() is not self._thread:
            self._waker.wake()

    def close(self) -> None:
        """See `Transport`."""
        self._closed = True
        self._waker.wake()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    # -- the thread of the sockets -----------------------------------------------------------------------------

    def _run(self) -> None:
        context = zmq.Context()
        sockets = {peer: self._dealer(context, place) for peer, place in self._places.items()}
        peers = {dealer: peer for peer, dealer in sockets.items()}
        poller = zmq.Poller()
        poller.register(self._waker.reader, zmq.POLLIN)
        for dealer in peers:
            poller.register(dealer, zmq.POLLIN)
        try:
            while not self._closed:
                self._send_all(sockets)
                for ready, _ in poller.poll():
                    if ready in peers:
                        for parts in _frames(ready):
                            self._take(peers[ready], parts)
                    else:
                        self._waker.heed()
        finally:
            context.destroy(linger=0)
            self._waker.close()

    def _dealer(self, context: zmq.Context[zmq.Socket[bytes]], place: str) -> zmq.Socket[bytes]:
        dealer = context.socket(zmq.DEALER)
        dealer.set(zmq.SNDHWM, MOST_WAITING)
        dealer.set(zmq.RCVHWM, MOST_WAITING)
        dealer.set(zmq.MAXMSGSIZE, 2 * LARGEST)
        dealer.set(zmq.RECONNECT_IVL, 20)
        dealer.set(zmq.RECONNECT_IVL_MAX, _RECONNECT)
        dealer.set(zmq.IPV6, 1)
        dealer.connect(place)
        return dealer

    def _send_all(self, sockets: Mapping[int, zmq.Socket[bytes]]) -> None:
        node = self._node
        assert node is not None
        while self._outbox:
            peer, number, request = self._outbox.popleft()
            body = msgpack.packb((number, node.id, node.incarnation, self._known.get(peer, 0), request))
            try:
                sockets[peer].send(seal(Kind.ASK, REGISTERS, body), zmq.NOBLOCK)
            except zmq.Again:
                asked = self._asked.pop(number, None)
                if asked is not None:
                    asked.take(Unreachable(f"node {peer} is not there"))

    def _take(self, peer: int, parts: list[bytes]) -> None:
        assert self._node is not None
        asked = None
        try:
            number, incarnation, answer = _opened(parts, Kind.ANSWER, 3)
            asked = self._asked.get(number) if type(number) is int else None
            if asked is None or asked.peer != peer:
                return  # it was given up
            del self._asked[number]
            self._recognise(peer, incarnation)
            found: Any = Unreachable(f"node {peer}: {answer}") if type(answer) is str else decode(answer)
        except (FrameError, StorageError) as error:
            found = error
        if asked is not None:
            asked.take(found)
        elif isinstance(found, FrameError):
            self._node.count(f"refused: {found.kind}")

    def _recognise(self, peer: int, incarnation: Any) -> None:
        assert self._node is not None
        if self._known.get(peer) != incarnation:
            meet(self._node, peer, incarnation)
            self._known[peer] = incarnation


def meet(node: Node, peer: int, incarnation: Any) -> None:
    """See that a peer is who it was.

    Raises:
        FrameError: it is not.
        StorageError: the own store has failed.
    """
    if type(incarnation) is not int or not 0 < incarnation < 2**63:
        malformed("no incarnation")
    if not node.cells.meets(peer, incarnation):
        raise FrameError(FORGOT, _forgotten(peer))


def _opened(parts: list[bytes], kind: Kind, fields: int) -> list[Any]:
    """The fields of a frame.

    Raises:
        FrameError: it is none of this kind.
    """
    if len(parts) != 1:
        malformed(f"a message of {len(parts)} parts")
    frame = open_frame(parts[0], REGISTERS, LARGEST)
    if frame.kind != kind:
        raise FrameError("unknown", f"a frame of kind {frame.kind} is not for registers")
    try:
        found = msgpack.unpackb(frame.body)
    except _UNREADABLE as error:
        raise FrameError("malformed", f"no message of registers: {type(error).__name__}") from None
    if type(found) is not list or len(found) != fields:
        malformed("no message of registers")
    return found


def _place(peer: int, host: str, port: int) -> str:
    try:
        address = resolve(host)[0]
    except OSError as error:
        raise ConfigError(f"node {peer}: {host} does not resolve: {error.strerror}") from error
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


def _forgotten(node: int) -> str:
    return (
        f"node {node} has lost what it promised, or another has taken its number: give it a number of its own"
    )


# -- the server --------------------------------------------------------------------------------------------------


class ZeroMqServer:
    """Answers for a node on `host` and `port`, in a thread of its own, until it is closed; what waits, at once.

    Raises:
        ConfigError: nobody can listen there.
    """

    def __init__(self, node: Node, host: str, port: int) -> None:
        self._node = node
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.set(zmq.MAXMSGSIZE, 2 * LARGEST)
        self._router.set(zmq.IPV6, 1)
        try:
            self._router.bind(_place(node.id, host, port))
        except (zmq.ZMQError, ConfigError) as error:
            self._context.destroy(linger=0)
            text = error.strerror if isinstance(error, zmq.ZMQError) else str(error)
            raise ConfigError(f"node {node.id} cannot listen on {host}:{port}: {text}") from error
        self.port = int(self._router.get_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        self._waker = _Waker()
        self._closed = False
        self._known: dict[int, int] = {}
        self._thread = threading.Thread(target=self._run, name=f"registers-zmq-server-{node.id}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; a second call does nothing."""
        self._closed = True
        self._waker.wake()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._waker.reader, zmq.POLLIN)
        try:
            while not self._closed:
                for ready, _ in poller.poll():
                    if ready is self._router:
                        self._answer(_frames(self._router))
        finally:
            self._context.destroy(linger=0)
            self._waker.close()

    def _answer(self, waiting: list[list[bytes]]) -> None:
        """Answer everything that has come, after one write for all of it."""
        asked: list[tuple[bytes, int, Any]] = []
        for identity, *parts in waiting:
            number = 0
            try:
                number, sender, incarnation, addressee, request = _opened(parts, Kind.ASK, 5)
                asked.append((identity, number, self._admitted(sender, incarnation, addressee, request)))
            except FrameError as error:
                self._node.count(f"refused: {error.kind}")
                self._reply(identity, number, f"{error.kind}: {error}")
            except StorageError as error:
                self._reply(identity, number, str(error))
        answers = self._node.handle_all([request for _, _, request in asked])
        for (identity, number, _), answer in zip(asked, answers, strict=True):
            self._reply(identity, number, str(answer) if isinstance(answer, Exception) else encode(answer))

    def _admitted(self, sender: Any, incarnation: Any, addressee: Any, request: Any) -> Any:
        """The request, if it comes from who it was, and is for this node.

        Raises:
            FrameError: it is not so.
        """
        if type(sender) is not int or not 0 <= sender <= ID_MAX or type(request) is not bytes:
            malformed("no message of registers")
        if addressee not in (0, self._node.incarnation):
            raise FrameError(FORGOT, _forgotten(self._node.id))
        if self._known.get(sender) != incarnation:
            meet(self._node, sender, incarnation)
            self._known[sender] = incarnation
        return decode(request)

    def _reply(self, identity: bytes, number: Any, answer: bytes | str) -> None:
        body = msgpack.packb((number, self._node.incarnation, answer))
        with suppress(zmq.Again, zmq.ZMQError):  # who asked has gone
            self._router.send_multipart((identity, seal(Kind.ANSWER, REGISTERS, body)), zmq.NOBLOCK)
