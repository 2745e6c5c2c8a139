"""Throws bad frames at the sockets of running replicas and compares what they count with what was thrown.

A socket answers, at the latest, the last frame of a salvo, and ZeroMQ keeps the order of one connection; so when
that answer has come, every frame before it has been taken and counted.
"""

from __future__ import annotations

import socket as tcp
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, count, islice, repeat
from random import Random
from typing import Final

import msgpack
import zmq
from prometheus_client.parser import text_string_to_metric_families

from epaxos.config import Config, ReplicaAddress, place
from epaxos.errors import EpaxosError
from epaxos.protocol.ids import Row
from epaxos.security.curve import arm, make_key
from epaxos.security.keys import KeyPair
from epaxos.statemachine.batch import decode_payload
from epaxos.transport.addresses import connect as connect_to
from epaxos.transport.addresses import resolve, split
from epaxos.transport.codec import Codec
from epaxos.transport.framing import Kind, open_frame, seal
from fuzz.hostile import REFUSED_TO_PEERS, Forge, Hostile, Insider
from shared.figures import fetch

SALVO: Final = 100
"""Frames between two looks at what the replica answers."""

PATIENCE: Final = 20.0  # seconds for an answer

NOT_OURS: Final = frozenset({"busy", "resolve"})
"""Kinds of error that a loaded cluster may count by itself."""


class BarrageError(EpaxosError):
    """A replica did not do what it must with a bad frame; one line."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What opens the doors of a cluster with keys.

    client     of an admin
    replicas   of each row
    token      for pages
    name, password   for the Redis door
    """

    client: KeyPair
    replicas: tuple[KeyPair, ...]
    token: str
    name: str
    password: str


@dataclass(slots=True)
class Tally:
    """What was thrown at one socket; `expected` is how often each kind of error must be counted for it."""

    messages: int = 0
    expected: Counter[str] = field(default_factory=Counter)

    def add(self, hostile: Hostile) -> None:
        """Note one message."""
        self.messages += 1
        self.expected.update(hostile.kinds)


class ClientSocket:
    """The socket of a replica for its clients; it answers every bad frame."""

    name = "client"

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], config: Config, row: Row, keys: Keys | None = None
    ) -> None:
        self.limit = config.max_frame
        self._config = config
        self._replica = config.replicas[row]
        self._numbers = count(1)
        key = (keys.client, keys.replicas[row].public) if keys else None
        self._socket = connect(context, self._replica.client_endpoint, key)

    def throw(self, salvo: Iterable[Hostile]) -> Tally:
        """Send bad frames, and see every one of them refused.

        Raises:
            BarrageError: the replica did not answer, or took one.
        """
        tally = Tally()
        for hostile in salvo:
            send(self._socket, hostile.parts, self._replica)
            tally.add(hostile)
        number = next(self._numbers)
        question = seal(Kind.STATUS, self._config.fingerprint, msgpack.packb((number, {})))
        send(self._socket, [question], self._replica)
        answers = Counter(self._answers(number))
        if answers != {Kind.REFUSED: tally.messages}:
            counted = {Kind(kind).name: times for kind, times in answers.items()}
            raise BarrageError(
                f"{self._replica.name} answered {tally.messages} bad frames of a client with {counted}"
            )
        return tally

    def _answers(self, number: int) -> Iterator[int]:
        """The kinds of the answers, up to that of question `number`."""
        while True:
            [answer] = receive(self._socket, self._replica)
            frame = open_frame(answer, self._config.fingerprint, self._config.max_frame)
            if frame.kind == Kind.STATUS_REPLY and msgpack.unpackb(frame.body)[0] == number:
                return
            yield frame.kind


class PeerSocket:
    """The socket of a replica for its peers; it answers only those that it refuses to listen to."""

    name = "peer"

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        config: Config,
        row: Row,
        sender: Row,
        keys: Keys | None = None,
    ) -> None:
        self.limit = config.max_peer_frame
        self._config = config
        self._replica = config.replicas[row]
        key = (keys.replicas[sender], keys.replicas[row].public) if keys else None
        self._socket = connect(context, self._replica.peer_endpoint, key)

    def throw(self, salvo: Iterable[Hostile]) -> Tally:
        """Send bad frames, then one of another cluster, and see all of those refused that must be.

        Raises:
            BarrageError: the replica did not answer.
        """
        tally = Tally()
        stranger = seal(Kind.PEER, self._config.fingerprint ^ 1, b"")
        for hostile in (*salvo, Hostile((stranger,), ("cluster",))):
            send(self._socket, hostile.parts, self._replica)
            tally.add(hostile)
        for _ in range(sum(tally.expected[kind] for kind in REFUSED_TO_PEERS)):
            [answer] = receive(self._socket, self._replica)
            if open_frame(answer, 0, self._config.max_frame).kind != Kind.PEER_REFUSED:
                raise BarrageError(f"{self._replica.name} answered a bad peer with something else than why")
        return tally


def connect(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, key: tuple[KeyPair, str] | None = None
) -> zmq.Socket[bytes]:
    """A DEALER that gives up after a while; with a key, where somebody has the other, public one."""
    socket = context.socket(zmq.DEALER)
    socket.set(zmq.LINGER, 0)
    socket.set(zmq.SNDTIMEO, round(PATIENCE * 1000))
    socket.set(zmq.RCVTIMEO, round(PATIENCE * 1000))
    socket.set(zmq.RCVHWM, 0)
    if key is not None:
        arm(socket, *key)
    host, port = split(endpoint)
    connect_to(socket, resolve(host)[0], port)
    return socket


def send(socket: zmq.Socket[bytes], parts: Iterable[bytes], replica: ReplicaAddress) -> None:
    """Send a message of some parts.

    Raises:
        BarrageError: the replica takes nothing any more.
    """
    try:
        socket.send_multipart(list(parts))
    except zmq.Again:
        raise BarrageError(f"{replica.name} took no frame for {PATIENCE:g} s") from None


def receive(socket: zmq.Socket[bytes], replica: ReplicaAddress) -> list[bytes]:
    """Receive a message.

    Raises:
        BarrageError: there is none.
    """
    try:
        return socket.recv_multipart()
    except zmq.Again:
        raise BarrageError(f"{replica.name} did not answer a bad frame for {PATIENCE:g} s") from None


@contextmanager
def zmq_context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    """A ZeroMQ context that leaves nothing behind."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        yield context
    finally:
        context.destroy(linger=0)


def learn_insiders(
    config: Config, listen_as: Row, wanted: int, keys: Keys | None = None
) -> dict[Row, Insider]:
    """Stand in for a replica that does not run yet, and hear who `wanted` of its peers are.

    Raises:
        BarrageError: they do not speak.
    """
    codec = Codec(config.n, decode_payload)
    heard: dict[Row, Insider] = {}
    with zmq_context() as context:
        router = context.socket(zmq.ROUTER)
        router.set(zmq.RCVTIMEO, round(PATIENCE * 1000))
        if keys is not None:
            router.set(zmq.CURVE_SERVER, 1)
            router.set(zmq.CURVE_SECRETKEY, keys.replicas[listen_as].secret.encode())
        router.bind(config.replicas[listen_as].peer_endpoint)
        while len(heard) < wanted:
            _, frame, *_ = receive(router, config.replicas[listen_as])
            request = codec.decode_envelope(open_frame(frame, config.fingerprint, config.max_frame).body)
            row = config.row_of(request.sender)
            heard[row] = Insider(row, request.incarnation)
    return heard


Result = dict[tuple[str, str], Tally]
"""What was thrown, by the names of the replica and the socket."""

Turn = tuple[Tally, "ClientSocket | PeerSocket", Iterator[Hostile]]


def barrage(
    config: Config,
    frames: int,
    random: Random,
    insiders: Mapping[Row, Insider],
    *,
    keys: Keys | None = None,
    oversized: int = 2,
    look: Callable[[], None] = lambda: None,
) -> Result:
    """Throw `frames` bad frames at each ZeroMQ socket of each replica, in turns.

    `insiders` are peers whose envelopes the replicas open; none is known of a cluster that somebody else started.
    Of the frames to each socket, `oversized` are one byte over the limit. `look` is called between turns and may
    raise, to stop it.

    Raises:
        BarrageError: a replica did not do what it must.
    """
    result: Result = {}
    with zmq_context() as context:
        turns: list[Turn] = []
        for row, replica in enumerate(config.replicas):
            insider = next((known for other, known in insiders.items() if other != row), None)
            forge = Forge(config, row, insider, random, has_keys=keys is not None)
            for socket, make in (
                (ClientSocket(context, config, row, keys), forge.client_frame),
                (PeerSocket(context, config, row, forge.sender, keys), forge.peer_frame),
            ):
                tally = result[replica.name, socket.name] = Tally()
                made = islice(iter(make, None), frames - oversized)
                turns.append((tally, socket, chain(repeat(forge.oversized(socket.limit), oversized), made)))
        while turns:
            look()
            turns = [turn for turn in turns if _take_turn(*turn)]
    return result


def _take_turn(tally: Tally, socket: ClientSocket | PeerSocket, source: Iterator[Hostile]) -> bool:
    """Throw the next salvo at one socket; returns False if there is none."""
    salvo = list(islice(source, SALVO))
    if not salvo:
        return False
    thrown = socket.throw(salvo)
    tally.messages += thrown.messages
    tally.expected += thrown.expected
    return True


def throw_too_large(config: Config, keys: Keys | None = None) -> None:
    """Send each socket a frame far over the limit: ZeroMQ cuts that connection and delivers nothing."""
    frame = bytes(2 * config.max_peer_frame + 1)
    for row, replica in enumerate(config.replicas):
        for endpoint in (replica.client_endpoint, replica.peer_endpoint):
            with zmq_context() as context:
                key = None
                if keys is not None:
                    mine = keys.client if endpoint == replica.client_endpoint else keys.replicas[row - 1]
                    key = mine, keys.replicas[row].public
                socket = connect(context, endpoint, key)
                monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
                socket.send(frame, copy=False)
                if not monitor.poll(round(PATIENCE * 1000)):
                    raise BarrageError(f"{replica.name} did not cut the connection of a frame far too large")


def knock(config: Config, keys: Keys) -> list[str]:
    """Come to each socket as a stranger, with good frames; what was let in, or not counted.

    Without a key (a downgrade to NULL), with one that nobody knows, and with one that belongs at the other socket.
    """
    wrong = []
    for row, replica in enumerate(config.replicas):
        question = seal(Kind.STATUS, config.fingerprint, msgpack.packb((1, {})))
        peer = seal(Kind.PEER, config.fingerprint, b"")
        for endpoint, frame, pairs in (
            (replica.client_endpoint, question, (None, make_key())),
            (replica.peer_endpoint, peer, (None, make_key(), keys.client)),
        ):
            for pair in pairs:
                kind = "login" if pair else "handshake"
                before = counted_errors(replica, keys)
                with zmq_context() as context:
                    key = (pair, keys.replicas[row].public) if pair else None
                    socket = connect(context, endpoint, key)
                    with suppress(zmq.Again):  # cut each time before it could be sent: not in either
                        socket.send(frame)
                    counted = _counted(replica, keys, before, kind)
                    answered = socket.poll(0)
                if answered or not counted[kind] or set(counted) - _OF_STRANGERS:
                    who = {None: "nobody's key", keys.client: "a client's key"}.get(pair, "an unknown key")
                    wrong.append(f"{replica.name}, {endpoint}, with {who}: counted {dict(counted)}")
    return wrong


_OF_STRANGERS: Final = frozenset({"login", "handshake"})
"""What is counted of them; that one has given up may be counted when the next one is there."""


def _counted(replica: ReplicaAddress, keys: Keys, before: Counter[str], kind: str) -> Counter[str]:
    """What a replica has counted once it has counted this kind, or patience has ended."""
    deadline = time.monotonic() + PATIENCE
    while True:
        counted = difference(before, counted_errors(replica, keys))
        if counted[kind] or time.monotonic() > deadline:
            return counted
        time.sleep(0.05)


# -- bytes that are no frame -------------------------------------------------------------------------------

_GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x00"
"""How a ZeroMQ connection begins: signature and version; a mechanism of 20 bytes and 32 more must follow."""

NO_ZMQ: Final = (
    b"",
    b"GET / HTTP/1.0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    _GREETING,
    _GREETING + b"PLAIN".ljust(20, b"\0") + bytes(32),
    _GREETING + b"\xee" * 52,
    _GREETING + b"NULL".ljust(20, b"\0") + bytes(32) + b"\x04\xff" + b"\xff" * 8,
    _GREETING + b"NULL".ljust(20, b"\0") + bytes(32) + b"\x04\x05\x05WRONG",
    _GREETING + b"NULL".ljust(20, b"\0") + bytes(32) + b"\x00\x10" + b"too early".ljust(16),
)
"""What a ZeroMQ socket takes no message from."""

NO_HTTP: Final = (
    b"",
    b"\r\n\r\n",
    b"\x00\xff\xfe\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /metrics HTTP/9.9\r\n\r\n",
    b"GET /metrics HTTP/x\r\n\r\n",
    b"BREW /metrics HTTP/1.1\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n",
    b"GET /%00%ff/../../etc/passwd HTTP/1.0\r\n\r\n",
    b"GET http://elsewhere/metrics HTTP/1.0\r\n\r\n",
    b"GET /metrics?name[]=%ff&name[]= HTTP/1.0\r\n\r\n",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.0\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    b"GET / HTTP/1.0\r\n" + b"no colon\r\n\r\n",
    b"GET / HTTP/1.0\r\nAccept: " + b"\xff" * 100 + b"\r\n\r\n",
    b"GET / HTTP/1.0\r\nAccept-Encoding: ;;q=,gzip;q=nan\r\n\r\n",
    b"GET / HTTP/1.0\r\n",  # and no more: keeps the connection open
)


NO_RESP: Final = (
    b"",
    b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
    b"*2147483647\r\n$1\r\nx\r\n",
    b"*-1\r\n*0\r\n*1\r\n$-1\r\n",
    b"*1\r\n$1000000000\r\nx",
    b"*1000000\r\n" + b"$0\r\n\r\n" * 2000,
    b"*2\r\n$3\r\nGET\r\n$65\r\n" + b"k" * 64,
    b"*1\r\n*1\r\n*1\r\n:1\r\n",
    b"set 'a\r\n",
    b"x" * 70_000,
    b"MULTI\r\n" + b"WATCH fuzz\r\nSET fuzz 1\r\n" * 50 + b"EXEC\r\n",
    b"SETRANGE fuzz 999999999 x\r\nINCRBYFLOAT fuzz 1e4932\r\nHELLO 3\r\n",
    b"GET fuzz\r\n" * 5000,
    b"CLIENT LIST ID " + b"9" * 50 + b"\r\nCOMMAND DOCS\r\nCONFIG GET *\r\n",
)
"""What is no request of Redis, or more than one should ask for."""


def throw_noise(
    host: str,
    port: int,
    times: int,
    random: Random,
    samples: Sequence[bytes],
    let_in: Callable[[bytes], bytes] = lambda data: data,
) -> None:
    """Open connections and send what the server does not speak: the samples and bytes by chance.

    Of two in three the bytes come behind what lets them in, where there is such a thing.

    Half of the connections are cut at once, the others when the server has answered or been silent for a moment.
    """
    for number in range(times):
        data = random.choice(samples) if random.random() < 0.8 else _GREETING + random.randbytes(52)
        data = let_in(data) if number % 3 else data
        with suppress(OSError), tcp.create_connection((host, port), PATIENCE) as connection:
            connection.settimeout(0.02)
            connection.sendall(data)
            if number % 2:
                connection.recv(65_536)


# -- what replicas count -----------------------------------------------------------------------------------


def counted_errors(replica: ReplicaAddress, keys: Keys | None = None) -> Counter[str]:
    """The errors that a replica has counted since its start, by kind.

    Raises:
        BarrageError: its page of metrics cannot be read.
    """
    deadline = time.monotonic() + PATIENCE
    address = f"{place(replica.host, replica.metrics_port)}/metrics"
    while True:
        try:
            text = fetch(address, keys.token if keys else "")
            break
        except OSError as error:  # the page is full of connections that have not been cut yet
            if time.monotonic() > deadline:
                raise BarrageError(f"{replica.name} shows no metrics at http://{address}: {error}") from error
            time.sleep(0.2)
    samples = (each for family in text_string_to_metric_families(text) for each in family.samples)
    return Counter(
        {
            each.labels["kind"]: round(each.value)
            for each in samples
            if each.name == "epaxos_errors_total" and each.labels["kind"] not in NOT_OURS
        }
    )


def difference(before: Counter[str], after: Counter[str]) -> Counter[str]:
    """What was counted in between; kinds that were not are left out."""
    return +Counter({kind: after[kind] - before[kind] for kind in after})
