"""Nodes that ask each other over ZeroMQ, in the frames of the service (`transport.framing`), without waiting.

Where nodes have keys (`epaxos.registers.guard`), connections are those of CurveZMQ.

The body of a frame that asks is [number, sender or None, its incarnation, the incarnation that is asked or 0, request];
of one that answers, [number, incarnation, answer or text of what is wrong]. What a program asks is a list, of a page
and a body in JSON (`epaxos.registers.programs`), and so is its answer, of status and JSON.
"""

from __future__ import annotations

import socket
import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TimeOut
from contextlib import suppress
from itertools import count
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import msgpack
import zmq
from zmq.utils.monitor import recv_monitor_message

from epaxos.errors import ConfigError, Denied, FrameError, Refused, StorageError
from epaxos.registers.changes import LIMITS
from epaxos.registers.guard import Guard, Keys, check_listening, name_of
from epaxos.registers.lanes import MOST_WAITING, Take
from epaxos.registers.programs import Address, answer
from epaxos.registers.transport import Unreachable
from epaxos.security.access import Access
from epaxos.security.curve import arm
from epaxos.security.rights import EVERYTHING, Rights
from epaxos.transport.addresses import resolve
from epaxos.transport.framing import Kind, open_frame, seal
from epaxos.transport.registers import decode, encode, malformed

if TYPE_CHECKING:
    from epaxos.registers.node import Node

REGISTERS: Final = int.from_bytes(b"register")
"""Stands where frames of the service name their cluster."""

LARGEST: Final = 4 * LIMITS.value
"""Bytes of a frame at most."""

MOST_AT_ONCE: Final = 1000
"""Frames that are taken from a socket before others have their turn."""

_PROGRAMS: Final = 8
"""Programs whose questions are answered at a time; more wait."""

_RECONNECT: Final = 1000
"""Milliseconds between two attempts to connect, at most."""

_DENIED: Final = "denied: "
"""How it begins what is told to who may not ask."""

_HANDSHAKE: Final = "asks for a key, has another one than it should, or is no node"

_IN_VAIN: Final = {
    int(zmq.EVENT_CONNECT_RETRIED): "nobody listens there",
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): "lets nobody in with this key",
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): _HANDSHAKE,
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): _HANDSHAKE,
    int(zmq.EVENT_DISCONNECTED): _HANDSHAKE,
}
"""Events of a socket that connects: why there will be no answer. A failed handshake has several, in any order."""

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


def _frames(source: zmq.Socket[bytes]) -> list[list[zmq.Frame]]:
    """What waits at a socket."""
    found: list[list[zmq.Frame]] = []
    with suppress(zmq.Again):
        while len(found) < MOST_AT_ONCE:
            found.append(source.recv_multipart(zmq.NOBLOCK, copy=False))
    return found


class _Asked(NamedTuple):
    """A request that waits for its answer."""

    peer: int
    take: Take


class _Way(NamedTuple):
    """A socket that leads to a place, where somebody is expected to have a key."""

    place: str
    key: str
    dealer: zmq.Socket[bytes]


class ZeroMqTransport:
    """How a node asks others, by their `addresses`: host and port by number. One that belongs to none only reads.

    keys  with which to log in, and by which the others are known; None where nobody has keys

    Raises:
        ConfigError: a host does not resolve.
    """

    def __init__(self, addresses: Mapping[int, Address], keys: Keys | None = None) -> None:
        self._keys = keys
        self._places = {peer: _place(peer, *address) for peer, address in addresses.items()}
        self._node: Node | None = None
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._outbox: deque[tuple[int, int, bytes]] = deque()
        self._asked: OrderedDict[int, _Asked] = OrderedDict()
        self._waker = _Waker()
        self._closed = False
        self._thread: threading.Thread | None = None

    def belongs_to(self, node: Node) -> None:
        """See `NamedTransport`."""
        self._node = node

    def locate(self, peer: int, address: Address, *, again: bool = False) -> None:
        """See `LocatingTransport`; a host that does not resolve is not reached."""
        if peer in self._places and again:
            return
        try:
            self._places[peer] = _place(peer, *address)
        except ConfigError:
            if not again:  # else it may have left long ago
                raise

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
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="registers-zmq", daemon=True)
                self._thread.start()
        if oldest is not None:
            oldest.take(Unreachable(f"node {oldest.peer} does not answer"))
        if threading.current_thread() is not self._thread:
            self._waker.wake()

    def reload(self) -> None:
        """Go on with the keys as they are now: ways to nodes that have others are left."""
        self._waker.wake()

    def close(self) -> None:
        """See `Transport`."""
        self._closed = True
        self._waker.wake()
        with self._lock:
            thread = self._thread
        if thread is None:
            self._waker.close()
        elif thread is not threading.current_thread():
            thread.join()

    # -- the thread of the sockets -----------------------------------------------------------------------------

    def _run(self) -> None:
        context = zmq.Context()
        ways: dict[int, _Way] = {}
        poller = zmq.Poller()
        poller.register(self._waker.reader, zmq.POLLIN)
        try:
            while not self._closed:
                self._leave(poller, ways)
                self._send_all(context, poller, ways)
                peers = {way.dealer: peer for peer, way in ways.items()}
                for ready, _ in poller.poll():
                    if ready in peers:
                        for parts in _frames(ready):
                            self._take(peers[ready], parts)
                    else:
                        self._waker.heed()
        finally:
            context.destroy(linger=0)
            self._waker.close()

    def _key_of(self, peer: int) -> str:
        """The key that a node is expected to have; "" if it has none, and without keys."""
        return "" if self._keys is None else self._keys.server_key(name_of(peer))

    def _leave(self, poller: zmq.Poller, ways: dict[int, _Way]) -> None:
        """Leave what leads elsewhere than to the node of a number, or to who has the key of that no more."""
        for peer, way in list(ways.items()):
            if (way.place, way.key) != (self._places[peer], self._key_of(peer)):
                poller.unregister(way.dealer)
                way.dealer.close(linger=0)
                del ways[peer]

    def _dealer(self, context: zmq.Context[zmq.Socket[bytes]], place: str, key: str) -> zmq.Socket[bytes]:
        dealer = context.socket(zmq.DEALER)
        dealer.set(zmq.SNDHWM, MOST_WAITING)
        dealer.set(zmq.RCVHWM, MOST_WAITING)
        dealer.set(zmq.MAXMSGSIZE, 2 * LARGEST)
        dealer.set(zmq.RECONNECT_IVL, 20)
        dealer.set(zmq.RECONNECT_IVL_MAX, _RECONNECT)
        dealer.set(zmq.IPV6, 1)
        if self._keys is not None:
            arm(dealer, self._keys.own, key)
        dealer.connect(place)
        return dealer

    def _send_all(
        self, context: zmq.Context[zmq.Socket[bytes]], poller: zmq.Poller, ways: dict[int, _Way]
    ) -> None:
        own = None if self._node is None else self._node.identity
        while self._outbox:
            peer, number, request = self._outbox.popleft()
            way = ways.get(peer)
            if way is None:
                place, key = self._places[peer], self._key_of(peer)
                way = ways[peer] = _Way(place, key, self._dealer(context, place, key))
                poller.register(way.dealer, zmq.POLLIN)
            names = (None, 0, 0) if own is None else (own.id, own.incarnation, own.known(peer))
            body = msgpack.packb((number, *names, request))
            try:
                way.dealer.send(seal(Kind.ASK, REGISTERS, body), zmq.NOBLOCK)
            except zmq.Again:
                asked = self._asked.pop(number, None)
                if asked is not None:
                    asked.take(Unreachable(f"node {peer} is not there"))

    def _take(self, peer: int, parts: list[zmq.Frame]) -> None:
        asked = None
        try:
            number, incarnation, told = _opened(parts, Kind.ANSWER, 3)
            asked = self._asked.get(number) if type(number) is int else None
            if asked is None or asked.peer != peer:
                return  # it was given up
            del self._asked[number]
            if self._node is not None:
                self._node.identity.recognise(peer, incarnation)
            found: Any = _refusal(peer, told) if type(told) is str else decode(told)
        except (FrameError, StorageError) as error:
            found = error
        if asked is not None:
            asked.take(found)
        elif isinstance(found, FrameError) and self._node is not None:
            self._node.count(f"refused: {found.kind}")


def _refusal(peer: int, told: str) -> Unreachable | Refused:
    """What a node says instead of an answer; who may not ask gets no other one from the next node."""
    return (Refused if told.startswith(_DENIED) else Unreachable)(f"node {peer}: {told}")


def _opened(parts: list[zmq.Frame], kind: Kind, fields: int) -> list[Any]:
    """The fields of a frame.

    Raises:
        FrameError: it is none of this kind.
    """
    if len(parts) != 1:
        malformed(f"a message of {len(parts)} parts")
    frame = open_frame(parts[0].bytes, REGISTERS, LARGEST)
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


def exchange(
    node: int, address: Address, path: str, body: bytes, timeout: float, keys: Keys | None = None
) -> tuple[int, bytes]:
    """See `programs.Exchange`; `keys` as for `ZeroMqTransport`."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        news = dealer.get_monitor_socket(sum(_IN_VAIN))
        dealer.set(zmq.LINGER, 0)
        dealer.set(zmq.IPV6, 1)
        if keys is not None:
            arm(dealer, keys.own, keys.server_key(name_of(node)))
        dealer.connect(_place(node, *address))
        dealer.send(seal(Kind.ASK, REGISTERS, msgpack.packb((1, None, 0, 0, (path, body)))))
        poller = zmq.Poller()
        poller.register(dealer, zmq.POLLIN)
        poller.register(news, zmq.POLLIN)
        ready = dict(poller.poll(int(1000 * timeout)))
        if not ready:
            raise TimeoutError("timed out")
        if dealer not in ready:
            raise OSError(_IN_VAIN[recv_monitor_message(news)["event"]])
        try:
            told = _opened(dealer.recv_multipart(copy=False), Kind.ANSWER, 3)[2]
        except FrameError as error:
            raise OSError(f"{error.kind}: {error}") from error
    if type(told) is not list or len(told) != 2 or type(told[0]) is not int or type(told[1]) is not bytes:
        raise OSError(f"no answer to a program: {str(told)[:200]}")
    return told[0], told[1]


# -- the server --------------------------------------------------------------------------------------------------


class ZeroMqServer:
    """Answers for a node on `host` and `port`, in a thread of its own, until it is closed; what waits, at once.

    access    the lists of who comes in; None where nobody is asked for a key
    insecure  that no stranger can reach it, though others than this machine do

    Raises:
        ConfigError: nobody can listen there, or strangers could come in.
    """

    def __init__(
        self, node: Node, host: str, port: int, access: Access | None = None, *, insecure: bool = False
    ) -> None:
        check_listening(node.id, host, access, insecure=insecure)
        self._node = node
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.set(zmq.MAXMSGSIZE, 2 * LARGEST)
        self._router.set(zmq.IPV6, 1)
        self._guard = None if access is None else Guard(node, self._context, self._router, access)
        try:
            self._router.bind(_place(node.id, host, port))
        except (zmq.ZMQError, ConfigError) as error:
            self._context.destroy(linger=0)
            text = error.strerror if isinstance(error, zmq.ZMQError) else str(error)
            raise ConfigError(f"node {node.id} cannot listen on {host}:{port}: {text}") from error
        self.port = int(self._router.get_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        self._waker = _Waker()
        self._closed = False
        self._programs = ThreadPoolExecutor(_PROGRAMS, f"registers-programs-{node.id}")
        self._told: deque[tuple[bytes, int, Any]] = deque()
        self._thread = threading.Thread(target=self._run, name=f"registers-zmq-server-{node.id}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; a second call does nothing."""
        self._closed = True
        self._waker.wake()
        self._thread.join()
        self._programs.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._waker.reader, zmq.POLLIN)
        for descriptor in () if self._guard is None else self._guard.descriptors:
            poller.register(descriptor, zmq.POLLIN)
        try:
            while not self._closed:
                if self._guard is not None:
                    self._guard.watch(monotonic())  # before the wait: see `Guard`
                ready = {source for source, _ in poller.poll(self._patience())}
                if self._router in ready:
                    self._answer(_frames(self._router))
                if self._waker.reader.fileno() in ready:
                    self._waker.heed()
                while self._told:
                    self._reply(*self._told.popleft())
        finally:
            self._context.destroy(linger=0)
            self._waker.close()

    def _patience(self) -> int | None:
        """Milliseconds until something is due though nothing comes; None if nothing is."""
        due = inf if self._guard is None else self._guard.deadline
        return None if due == inf else int(1000 * max(0.0, due - monotonic())) + 1

    def _answer(self, waiting: list[list[zmq.Frame]]) -> None:
        """Answer everything that has come, after one write for all of it."""
        asked: list[tuple[bytes, int, Any]] = []
        for first, *parts in waiting:
            identity, number = first.bytes, 0
            try:
                number, sender, incarnation, addressee, request = _opened(parts, Kind.ASK, 5)
                if type(request) is list:
                    rights = EVERYTHING if self._guard is None else self._guard.rights(parts[0])
                    self._programs.submit(self._serve, identity, number, rights, *_question(request))
                elif type(request) is bytes:
                    message = decode(request)
                    if self._guard is not None:
                        self._guard.check(parts[0], sender, message)
                    message = self._node.identity.admit(sender, incarnation, addressee, message)
                    asked.append((identity, number, message))
                else:
                    malformed("no message of registers")
            except FrameError as error:
                self._node.count(f"refused: {error.kind}")
                self._reply(identity, number, f"{error.kind}: {error}")
            except Denied as error:
                self._node.count("refused: denied")
                self._reply(identity, number, f"{_DENIED}{error}")
            except StorageError as error:
                self._reply(identity, number, str(error))
        answers = self._node.handle_all([request for _, _, request in asked])
        for (identity, number, _), found in zip(asked, answers, strict=True):
            self._reply(identity, number, str(found) if isinstance(found, Exception) else encode(found))

    def _serve(self, identity: bytes, number: int, rights: Rights, path: str, body: bytes) -> None:
        """Answer a program, in a thread of its own: it may take a while."""
        status, told = answer(self._node, path, body, rights)
        self._told.append((identity, number, (status, told)))
        self._waker.wake()

    def _reply(self, identity: bytes, number: Any, told: Any) -> None:
        body = msgpack.packb((number, self._node.incarnation, told))
        with suppress(zmq.Again, zmq.ZMQError):  # who asked has gone
            self._router.send_multipart((identity, seal(Kind.ANSWER, REGISTERS, body)), zmq.NOBLOCK)


def _question(request: list[Any]) -> tuple[str, bytes]:
    """Page and body of what a program asks."""
    if len(request) == 2 and type(request[0]) is str and type(request[1]) is bytes:
        return request[0], request[1]
    return malformed("a program asks for a page, with a body")
