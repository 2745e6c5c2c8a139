"""What clients do not read waits in bounds, and keeps nobody else from being answered."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic, sleep

import pytest
import zmq

from epaxos.actors.replies import Replies
from epaxos.metrics import ReplicaStats

MB = 1_000_000
LIMIT = 16 * MB


class Bench:
    """A ROUTER, and clients that are connected to it."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.context.setsockopt(zmq.LINGER, 0)
        self.router = self.context.socket(zmq.ROUTER)
        port = self.router.bind_to_random_port("tcp://127.0.0.1")
        self._endpoint = f"tcp://127.0.0.1:{port}"
        self.stats = ReplicaStats(["alpha"], 0, [], [], 1)
        self.replies = Replies(self.router, LIMIT, self.stats)

    def connect(self) -> tuple[zmq.Socket[bytes], bytes]:
        """A client that reads nothing by itself, and its identity."""
        client = self.context.socket(zmq.DEALER)
        client.setsockopt(zmq.RCVHWM, 1)
        client.setsockopt(zmq.RCVBUF, 4096)
        client.setsockopt(zmq.RCVTIMEO, 10_000)
        client.connect(self._endpoint)
        client.send(b"hello")
        identity, _ = self.router.recv_multipart()
        return client, identity

    def room(self, identity: bytes) -> int:
        """What a connection takes, after a look at the socket as every round has it: ZeroMQ drops nothing without."""
        self.router.getsockopt(zmq.EVENTS)
        return self.replies.room(identity)

    def settle(self, identity: bytes) -> int:
        """What a connection takes when what can leave has left."""
        room, before = self.room(identity), -LIMIT
        while room != before:
            sleep(0.1)
            room, before = self.room(identity), room
        return room


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.context.destroy(linger=0)


def fill(bench: Bench, identity: bytes, size: int) -> int:
    """Send until nothing more is taken, when what the kernel takes has left; how many frames were."""
    sent = 0
    while bench.settle(identity) >= size:
        while not bench.stats.replies_dropped:
            bench.replies.send(identity, bytes(size))
            sent += 1
        sent -= 1
        bench.stats.replies_dropped = 0
    return sent


def test_a_client_that_does_not_read_gets_half_and_others_are_answered(bench: Bench) -> None:
    (_, stuck), (reader, other) = bench.connect(), bench.connect()
    fill(bench, stuck, MB)
    assert LIMIT / 2 - 2 * MB <= bench.stats.replies_waiting <= LIMIT / 2
    assert bench.replies.room(stuck) < MB
    assert bench.replies.room(other) >= LIMIT / 2
    for number in range(30):
        bench.replies.send(other, bytes([number]) * 2 * MB)
        assert reader.recv()[:1] == bytes([number])
    assert bench.stats.replies_dropped == 0


def test_small_replies_are_bounded_too(bench: Bench) -> None:
    _, stuck = bench.connect()
    fill(bench, stuck, 10_000)
    assert LIMIT / 2 - MB <= bench.stats.replies_waiting <= LIMIT / 2 + 2**16


def test_room_comes_back_when_it_is_read_and_when_the_client_goes(bench: Bench) -> None:
    client, identity = bench.connect()
    sent = fill(bench, identity, MB)
    for _ in range(sent):
        assert len(client.recv()) == MB
    assert bench.settle(identity) == LIMIT
    assert bench.stats.replies_waiting == 0
    fill(bench, identity, MB)
    client.close(linger=0)
    deadline = monotonic() + 10
    while bench.room(identity) < LIMIT and monotonic() < deadline:
        sleep(0.05)
    assert bench.room(identity) == LIMIT
    assert bench.stats.replies_waiting == 0
