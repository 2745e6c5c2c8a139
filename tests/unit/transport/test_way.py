from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from queue import SimpleQueue
from typing import Any, cast

import pytest
import zmq

from epaxos.transport import way as way_module
from epaxos.transport.addresses import at_once
from epaxos.transport.way import FIRST, LONGEST, Found, Question, Way, find


class Resolver:
    """Names mean `hosts`; a name that is none of them hangs until the test ends. `asked` are the names in order."""

    def __init__(self) -> None:
        self.hosts: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.end = threading.Event()

    def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        if host not in self.hosts:
            self.end.wait()
        if not self.hosts.get(host):
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return self.hosts[host]


class Dealer:
    """What a socket is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def set(self, option: int, value: int) -> None:
        assert option == zmq.IPV6
        self.calls.append(f"ipv6 {value:d}")

    def connect(self, endpoint: str) -> None:
        self.calls.append(f"+{endpoint}")

    def disconnect(self, endpoint: str) -> None:
        self.calls.append(f"-{endpoint}")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver()
    monkeypatch.setattr(way_module, "resolve", made)
    yield made
    made.end.set()


@pytest.fixture
def listen() -> Iterator[Callable[[str], int]]:
    """Listens on an address; on the port of the first one from then on, which it returns."""
    with ExitStack() as stack:
        port = 0

        def make(address: str) -> int:
            nonlocal port
            made = stack.enter_context(closing(socket.create_server((address, port))))
            port = int(made.getsockname()[1])
            return port

        yield make


class Seeker:
    """A way, its socket, and a clock."""

    def __init__(self, host: str, port: int) -> None:
        self.woken = threading.Event()
        self.way = Way(host, port, self.woken.set)
        self.dealer = Dealer()
        self.now = 100.0
        self.way.start([cast("Any", self.dealer)])

    def advance(self, seconds: float = 0.0) -> list[str]:
        """What the socket was told, news of the resolver included if any came."""
        self.now += seconds
        self.way.advance([cast("Any", self.dealer)], self.now)
        calls, self.dealer.calls = self.dealer.calls, []
        return [call for call in calls if not call.startswith("ipv6")]

    def news(self) -> list[str]:
        assert self.woken.wait(10)
        self.woken.clear()
        assert self.way.deadline == float("-inf")
        return self.advance()


# -- which address ----------------------------------------------------------------------------------------------


def test_a_single_address_is_not_tried_first(names: Resolver) -> None:
    names.hosts["a.test"] = ["198.51.100.1"]
    assert find(Question("a.test", 1)) == Found("198.51.100.1", "")


def test_the_first_address_that_accepts_is_taken(names: Resolver, listen: Callable[[str], int]) -> None:
    port = listen("127.0.0.3")
    names.hosts["a.test"] = ["127.0.0.2", "127.0.0.3"]
    assert find(Question("a.test", port)) == Found("127.0.0.3", "")
    listen("127.0.0.2")
    assert find(Question("a.test", port)).address == "127.0.0.2"
    assert find(Question("a.test", port, avoid="127.0.0.2")).address == "127.0.0.3"


def test_an_address_that_does_not_answer_costs_a_head_start(
    names: Resolver, listen: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = listen("127.0.0.3")
    names.hosts["a.test"] = ["127.0.0.2", "127.0.0.3"]
    silent_to(monkeypatch, "127.0.0.2")
    began = time.monotonic()
    assert find(Question("a.test", port)) == Found("127.0.0.3", "")
    assert way_module.STAGGER <= time.monotonic() - began < way_module.LIMIT


def silent_to(monkeypatch: pytest.MonkeyPatch, silent: str) -> None:
    """Let what connects to an address find nobody there, not even somebody who refuses."""

    class Socket(socket.socket):
        def connect_ex(self, address: Any, /) -> int:
            if address[0] != silent:
                return super().connect_ex(address)
            self.bind(("127.0.0.1", 0))
            self.listen(0)  # it never becomes writable
            return 0

    monkeypatch.setattr(socket, "socket", Socket)


def test_nobody_there_has_reasons(names: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    names.hosts |= {"a.test": ["127.0.0.2"], "b.test": ["127.0.0.2", "127.0.0.3"], "none.test": []}
    refused = Found("127.0.0.2", "connection refused (127.0.0.2)")
    assert find(Question("a.test", 1, probe=True)) == refused
    assert find(Question("b.test", 1)) == Found("127.0.0.2", "connection refused (127.0.0.2, 127.0.0.3)")
    assert find(Question("none.test", 1)) == Found(None, 'host "none.test" does not resolve (unknown)')
    monkeypatch.setattr(way_module, "LIMIT", 0.2)
    silent_to(monkeypatch, "127.0.0.3")
    assert find(Question("b.test", 1)) == Found(
        "127.0.0.2", "connection refused (127.0.0.2); no answer within 0.2s (127.0.0.3)"
    )


def test_all_are_asked_at_once_and_not_for_ever(names: Resolver) -> None:
    names.hosts |= {"a.test": ["198.51.100.1"], "none.test": []}
    questions = [Question("hangs.test", 1), Question("a.test", 1), Question("none.test", 1)]
    began = time.monotonic()
    assert at_once(find, questions, 0.3) == [
        None,
        Found("198.51.100.1", ""),
        Found(None, 'host "none.test" does not resolve (unknown)'),
    ]
    assert time.monotonic() - began < 20.0


# -- over time --------------------------------------------------------------------------------------------------


def test_a_numeric_address_needs_no_resolver(names: Resolver) -> None:
    seeker = Seeker("::1", 7)
    assert seeker.dealer.calls == ["ipv6 1", "+tcp://[::1]:7"]
    assert names.asked == []


def test_a_numeric_address_that_zeromq_refuses_does_not_resolve(names: Resolver) -> None:
    """A heartbeat may tell of one: a scope is any text."""
    names.hosts["fe80::1%no such"] = []
    way = Way("fe80::1%no such", 7, lambda: None)
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        way.start([dealer])
    assert way.deadline in (float("inf"), float("-inf")), "it is looked up, or has been"


def test_a_name_that_hangs_keeps_nobody(names: Resolver) -> None:
    began = time.monotonic()
    seeker = Seeker("hangs.test", 7)
    assert seeker.advance(0.0) == []
    assert seeker.advance(100.0) == []
    assert time.monotonic() - began < 20.0
    assert len(names.asked) == 1, "one question at a time"
    names.hosts["hangs.test"] = ["198.51.100.1"]
    names.end.set()
    assert seeker.news() == ["+tcp://198.51.100.1:7"]


def test_many_ask_once(names: Resolver) -> None:
    seekers = [Seeker("hangs.test", 7) for _ in range(50)]
    deadline = time.monotonic() + 5
    while not names.asked:
        assert time.monotonic() < deadline
    names.hosts["hangs.test"] = ["198.51.100.1"]
    names.end.set()
    assert {tuple(seeker.news()) for seeker in seekers} == {("+tcp://198.51.100.1:7",)}
    assert names.asked == ["hangs.test"]


def ask(question: Question) -> Found:
    answers: SimpleQueue[Found] = SimpleQueue()
    way_module._desk.ask(question, answers.put)
    return answers.get(timeout=5)


def test_who_asks_on_top_of_who_asks_is_not_kept_waiting(names: Resolver) -> None:
    """As a signal handler does."""
    names.hosts = {"name.example": ["127.0.0.1"]}
    with way_module._desk._lock:
        assert ask(Question("name.example", 1)) == Found("127.0.0.1", "")


def test_without_descriptors_the_reason_is_told(names: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(24, "Too many open files")

    names.hosts = {"name.example": ["127.0.0.1", "127.0.0.2"]}
    monkeypatch.setattr("selectors.DefaultSelector", refuse)
    assert "cannot be looked up: Too many open files" in ask(Question("name.example", 1)).trouble


def test_it_looks_again_while_there_is_no_connection_and_follows(names: Resolver) -> None:
    names.hosts["a.test"] = []
    seeker = Seeker("a.test", 7)
    assert seeker.news() == []
    assert (seeker.way.resolves, seeker.way.place) == (False, "a.test:7")
    names.hosts["a.test"] = ["127.0.0.2"]
    assert seeker.advance(FIRST) == []
    assert seeker.news() == ["+tcp://127.0.0.2:7"]
    assert (seeker.way.resolves, seeker.way.place) == (True, "a.test:7 (127.0.0.2)")
    names.hosts["a.test"] = ["127.0.0.3"]
    seeker.advance(LONGEST)
    assert seeker.news() == ["-tcp://127.0.0.2:7", "+tcp://127.0.0.3:7"]
    assert seeker.way.trouble == "connection refused (127.0.0.3)"


def test_a_name_that_is_lost_meanwhile_keeps_its_last_address(names: Resolver) -> None:
    names.hosts["a.test"] = ["127.0.0.2"]
    seeker = Seeker("a.test", 7)
    seeker.news()
    names.hosts["a.test"] = []
    seeker.advance(LONGEST)
    assert seeker.news() == []


def test_it_asks_less_and_less_often(names: Resolver) -> None:
    names.hosts["a.test"] = []
    seeker = Seeker("a.test", 7)
    seeker.news()
    waits = []
    for _ in range(5):
        waits.append(round(seeker.way.deadline - seeker.now, 6))
        seeker.advance(waits[-1])
        seeker.news()
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0]
    seeker.way.settle()
    seeker.advance()
    assert seeker.way.deadline - seeker.now == FIRST


def test_there_is_nothing_to_look_for_while_it_is_connected(names: Resolver) -> None:
    names.hosts["a.test"] = ["127.0.0.2"]
    seeker = Seeker("a.test", 7)
    seeker.news()
    asked = len(names.asked)
    for _ in range(3):
        seeker.now += 100
        seeker.way.settle()
    seeker.advance()  # the connection has just been lost, and ZeroMQ is about to make it again
    assert len(names.asked) == asked
