from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import zmq

from epaxos.actors.mailbox import Arrived, Envelope, Mailbox, Round, Sources, address_of

NEVER = float("inf")


class Box:
    """A mailbox fed by two sockets, and what sends to them."""

    def __init__(self, capacity: int = 100) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.deadline = NEVER
        self.sent: list[zmq.Socket[bytes]] = []
        self.blocked: list[zmq.Socket[bytes]] = []
        self.mailbox = Mailbox()
        self.mailbox.capacity = capacity
        peers, self.peer = self._pair("peers")
        clients, self.client = self._pair("clients")
        self.news, self.newsman = socket.socketpair()
        self.mailbox.attach(
            Sources(
                peers,
                clients,
                lambda: self.deadline,
                time.monotonic,
                [self.news.fileno()],
                lambda: self.sent,
                lambda: self.blocked,
            )
        )
        self.peers = peers

    def _pair(self, name: str) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
        router, dealer = self._context.socket(zmq.ROUTER), self._context.socket(zmq.DEALER)
        router.bind(f"inproc://{name}")
        dealer.connect(f"inproc://{name}")
        return router, dealer

    def round(self) -> Round:
        message = self.mailbox.get().message
        assert isinstance(message, Round)
        return message

    def close(self) -> None:
        self.mailbox.close()
        self.news.close()
        self.newsman.close()
        self._context.destroy(linger=0)


@pytest.fixture
def make() -> Iterator[Callable[..., Box]]:
    made: list[Box] = []

    def make_box(capacity: int = 100) -> Box:
        made.append(Box(capacity))
        return made[-1]

    yield make_box
    for box in made:
        box.close()


def bodies(frames: list[Arrived]) -> list[list[bytes]]:
    return [[part.bytes for part in parts] for _, parts in frames]


def test_round_holds_everything_that_waits(make: Callable[..., Box]) -> None:
    box = make()
    box.peer.send(b"p1")
    box.peer.send(b"p2")
    box.client.send(b"c1")
    round_ = box.round()
    assert bodies(round_.peers) == [[b"p1"], [b"p2"]]
    assert bodies(round_.clients) == [[b"c1"]]
    assert round_.waited >= 0


def test_message_keeps_its_parts_and_its_sender(make: Callable[..., Box]) -> None:
    box = make()
    box.client.send_multipart([b"a", b"", b"c"])
    box.client.send(b"")
    round_ = box.round()
    assert bodies(round_.clients) == [[b"a", b"", b"c"], [b""]]
    identities = {identity for identity, _ in round_.clients}
    assert len(identities) == 1
    assert identities != {b""}


def test_round_is_bounded_and_the_rest_waits(make: Callable[..., Box]) -> None:
    box = make(capacity=3)
    for number in range(7):
        box.client.send(b"%d" % number)
    rounds = [bodies(box.round().clients) for _ in range(3)]
    assert list(map(len, rounds)) == [3, 3, 1]
    assert [int(parts[0]) for taken in rounds for parts in taken] == list(range(7))


def test_round_comes_at_the_deadline_without_frames(make: Callable[..., Box]) -> None:
    box = make()
    box.deadline = time.monotonic() + 0.03
    assert box.round() == Round([], [], 0.0)
    assert time.monotonic() >= box.deadline


def test_deadline_that_has_passed_does_not_wait(make: Callable[..., Box]) -> None:
    box = make()
    box.deadline = 0.0
    began = time.monotonic()
    assert box.round() == Round([], [], 0.0)
    assert time.monotonic() - began < 5.0, "it waits for as long as nothing comes"


def test_message_told_by_another_thread_wakes_a_waiting_mailbox(make: Callable[..., Box]) -> None:
    box = make()
    told = Envelope("told", None)
    timer = threading.Timer(0.05, box.mailbox.put, (told,))
    timer.start()
    assert box.round() == Round([], [], 0.0, urged=True)  # the wake-up
    assert box.mailbox.get() is told
    timer.join()


def test_news_make_a_round_due(make: Callable[..., Box]) -> None:
    box = make()
    box.deadline = time.monotonic() + 60
    box.newsman.send(b"!")
    began = time.monotonic()
    assert box.round() == Round([], [], 0.0, urged=True)
    assert time.monotonic() - began < 10


def test_told_messages_come_one_by_one_before_the_next_round(make: Callable[..., Box]) -> None:
    box = make()
    box.client.send(b"frame")
    told = [Envelope(number, None) for number in range(3)]
    for envelope in told:
        box.mailbox.put(envelope)
    assert [box.mailbox.get() for _ in told] == told
    assert box.mailbox.empty()
    assert bodies(box.round().clients) == [[b"frame"]]


def test_full_mailbox_makes_other_threads_wait(make: Callable[..., Box]) -> None:
    box = make(capacity=2)
    for number in range(2):
        box.mailbox.put(Envelope(number, None))
    third = threading.Thread(target=box.mailbox.put, args=(Envelope(2, None),))
    third.start()
    third.join(0.05)
    assert third.is_alive()
    assert box.mailbox.get().message == 0
    third.join(5)
    assert not third.is_alive()
    assert [box.mailbox.get().message for _ in range(2)] == [1, 2]


def test_wake_ups_that_nobody_sees_do_not_block(make: Callable[..., Box]) -> None:
    box = make()
    for _ in range(100_000):
        box.mailbox.wake()
    box.deadline = time.monotonic() + 60
    assert box.round() == Round([], [], 0.0, urged=True)


def test_what_came_while_something_was_sent_does_not_wait_for_the_deadline(make: Callable[..., Box]) -> None:
    box = make()
    box.peer.send(b"p1")
    ((identity, _),) = box.round().peers
    box.peer.send(b"p2")
    for _ in range(
        200
    ):  # one of these takes note of the message, and the descriptor is not readable any more
        box.peers.send_multipart([identity, b"reply"])
    box.sent.append(box.peers)
    box.deadline = time.monotonic() + 60
    began = time.monotonic()
    assert bodies(box.round().peers) == [[b"p2"]]
    assert time.monotonic() - began < 10


def test_room_where_something_is_blocked_makes_a_round_due(make: Callable[..., Box]) -> None:
    box = make()
    with zmq.Context() as context, context.socket(zmq.PUSH) as full, context.socket(zmq.PULL) as reader:
        full.set(zmq.SNDHWM, 1)
        reader.set(zmq.RCVHWM, 1)
        reader.bind("inproc://full")
        full.connect("inproc://full")
        while int(full.get(zmq.EVENTS)) & int(zmq.POLLOUT):
            full.send(b"message")
        box.blocked = [full]
        box.deadline = time.monotonic() + 0.03
        assert not box.round().urged
        box.deadline = time.monotonic() + 60
        timer = threading.Timer(0.05, reader.recv)
        timer.start()
        assert box.round().urged
        timer.join()
        assert box.round().urged  # as long as it is not full


def test_senders_have_addresses_over_tcp() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router, context.socket(zmq.DEALER) as dealer:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        dealer.connect(f"tcp://127.0.0.1:{port}")
        dealer.send(b"frame")
        assert address_of(router.recv(copy=False)) == "127.0.0.1"
    assert address_of(zmq.Frame(b"it")) == "unknown"


def test_before_sockets_are_attached_it_is_an_ordinary_inbox() -> None:
    mailbox = Mailbox()
    assert mailbox.empty()
    mailbox.put(Envelope("early", None))
    assert mailbox.get() == Envelope("early", None)
    mailbox.close()
