"""Who comes in at a socket, by real sockets of one process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zmq

from epaxos.actors.porter import WAITING, Failures, Porter, access_of
from epaxos.actors.sockets import Door, bind_router
from epaxos.config import Config, SecurityConfig, load_config
from epaxos.errors import ConfigError, FrameError
from epaxos.metrics import ReplicaStats
from epaxos.security.access import Access
from epaxos.security.curve import arm, make_key
from epaxos.security.keys import KeyPair, read_key
from epaxos.security.making import Listing, add_client, init_keys, remove
from epaxos.security.patience import LONGEST
from epaxos.testing.processes import Ports

FINE = 5.0  # seconds


class House:
    """The two sockets of alpha with a gate; `later` is put on to its clock."""

    def __init__(self, config: Config, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.config = config
        self.keys = Path(config.security.keys)
        self.context = context
        self.stats = ReplicaStats([replica.name for replica in config.replicas], 0, [], [], 2)
        self.access = Access.of(config, "alpha")
        failures = Failures(self.stats)
        self.porter = Porter(context, self.access, failures)
        self.later = 0.0
        alpha, secret = config.replicas[0], self.access.own.secret
        self.routers = [
            bind_router(context, alpha, key, ["127.0.0.1"], 4096, secret)[0]
            for key in ("port", "client_port")
        ]
        names = ("peers", "clients")
        self.doors = [
            Door(context, router, self.stats, name, failures)
            for router, name in zip(self.routers, names, strict=True)
        ]
        self.dealers: list[zmq.Socket[bytes]] = []

    def dealer(
        self, key: KeyPair | str | None, server: str | None = None, *, port: int | None = None
    ) -> zmq.Socket[bytes]:
        """One that comes to the clients' port; with the key of that name, or without any."""
        alpha = self.config.replicas[0]
        dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(
            zmq.DEALER
        )  # a stranger's: not the context of the gate
        self.dealers.append(dealer)
        dealer.set(zmq.LINGER, 0)
        dealer.set(zmq.IMMEDIATE, 1)
        if key is not None:
            pair = read_key(str(self.keys / f"{key}.key")) if isinstance(key, str) else key
            arm(dealer, pair, server or self.access.server_key("alpha"))
        dealer.connect(f"tcp://127.0.0.1:{port or alpha.client_port}")
        return dealer

    def turn(self) -> None:
        """What a round does."""
        for watched in (*self.doors, self.porter):
            watched.watch(time.monotonic() + self.later)  # type: ignore[attr-defined]

    def until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + FINE
        while not condition():
            assert time.monotonic() < deadline
            self.turn()
            time.sleep(0.002)

    def receive(self, router: int = 1) -> zmq.Frame:
        self.until(lambda: self.routers[router].poll(0))
        self.routers[router].recv()
        return self.routers[router].recv(copy=False)

    def counted(self, kind: str) -> int:
        return self.stats.errors[kind]


def comes_in(dealer: zmq.Socket[bytes]) -> bool:
    return bool(int(dealer.get(zmq.EVENTS)) & int(zmq.POLLOUT))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    keys = tmp_path / "keys"
    ports = Ports(2)
    config = load_config(None, environ={"HOME": str(tmp_path)})
    alpha = replace(config.replicas[0], port=ports.numbers[0], client_port=ports.numbers[1])
    config = replace(config, security=SecurityConfig(str(keys)), replicas=(alpha, *config.replicas[1:]))
    init_keys(config, keys)
    add_client(keys, "web", Listing("read", ["web/"]))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made = House(config, context)
    yield made
    for dealer in made.dealers:
        dealer.close()
    context.destroy(linger=0)
    ports.close()


def test_a_frame_is_known_by_the_key_of_its_connection(house: House) -> None:
    for name, prefixes in (("web", (b"web/",)), ("admin", ()), ("bravo", ())):
        dealer = house.dealer(name)
        house.until(lambda: comes_in(dealer))  # noqa: B023
        dealer.send(b"frame")
        rights = house.porter.rights(house.receive())
        assert (rights.name, rights.prefixes) == (name, prefixes)
    assert house.counted("login") == house.counted("handshake") == 0


def test_peers_are_replicas(house: House) -> None:
    dealer = house.dealer("bravo", port=house.config.replicas[0].port)
    house.until(lambda: comes_in(dealer))
    dealer.send(b"frame")
    assert house.porter.sender(house.receive(0)) == "bravo"
    client = house.dealer("admin", port=house.config.replicas[0].port)
    house.until(lambda: house.counted("login"))
    assert not comes_in(client)


def test_strangers_do_not_come_in_and_are_counted(house: House, caplog: pytest.LogCaptureFixture) -> None:
    stranger, downgraded = house.dealer(make_key()), house.dealer(None)
    mistaken = house.dealer("web", make_key().public)
    house.later = LONGEST
    house.until(lambda: house.counted("login") and house.counted("handshake") > 1)
    assert not any(map(comes_in, (stranger, downgraded, mistaken)))
    assert not house.routers[1].poll(0)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert (
        sum("from 127.0.0.1 at the port of the clients: its key is not on the list" in line for line in lines)
        == 1
    )
    assert sum(
        "at the port of the clients: it has no key, or takes this replica" in line for line in lines
    ) in (1, 2)


def test_who_is_taken_from_the_list_has_no_rights_on_a_connection_that_stands(house: House) -> None:
    dealer = house.dealer("web")
    house.until(lambda: comes_in(dealer))
    dealer.send(b"before")
    before = house.receive()
    remove(house.keys, "web")
    house.access.reload()
    dealer.send(b"after")
    for frame in (before, house.receive()):
        with pytest.raises(FrameError, match=r"the key of 127\.0\.0\.1 is not on the list any more") as error:
            house.porter.rights(frame)
        assert error.value.kind == "login"


def test_a_wrong_key_is_answered_late_and_answers_that_wait_are_bounded(house: House) -> None:
    asking = house.context.socket(zmq.DEALER)
    asking.connect("inproc://zeromq.zap.01")
    question = [b"", b"1.0", b"7", b"clients", b"192.0.2.1", b"", b"CURVE", bytes(32)]
    for _ in range(WAITING + 1):
        asking.send_multipart(question)
    house.porter.watch(0.0)
    assert asking.recv_multipart()[:4] == [b"", b"1.0", b"7", b"400"]  # one too many to wait
    assert not asking.poll(0)
    assert house.porter.deadline == pytest.approx(0.1)
    house.porter.watch(0.1)
    assert asking.recv_multipart()[3] == b"400"
    assert not asking.poll(0)
    house.porter.watch(LONGEST)
    assert sum(1 for _ in iter(lambda: asking.poll(0) and asking.recv_multipart(), 0)) == WAITING - 1
    assert house.counted("login") == WAITING + 1
    asking.close()


def test_a_replica_without_keys_is_for_its_own_machine(caplog: pytest.LogCaptureFixture) -> None:
    config = load_config(None, environ={})
    alpha = config.replicas[0]
    assert access_of(config, alpha, ["127.0.0.1", "::1", "127.3.2.1"]) is None
    for host in ("192.0.2.1", "0.0.0.0", "::"):
        with pytest.raises(
            ConfigError, match=r"replica alpha listens on .* without keys: whoever reaches its ports can"
        ):
            access_of(config, alpha, ["127.0.0.1", host])
    assert caplog.records == []
    insecure = replace(config, security=SecurityConfig(insecure=True))
    assert access_of(insecure, alpha, ["192.0.2.1"]) is None
    assert "INSECURE: replica alpha listens on 192.0.2.1 without keys" in caplog.text
