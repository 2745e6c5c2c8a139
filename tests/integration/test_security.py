"""Strangers, and who may less than they try, at a cluster with keys: nothing of theirs comes in, all is counted."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import zmq

from epaxos import NoAnswer, Op, Refused
from epaxos.security.curve import arm, make_key
from epaxos.security.keys import KeyPair, client_login, read_key, write_key
from epaxos.security.making import Listing, add_client, remove
from epaxos.security.passwords import hash_password
from epaxos.security.patience import FIRST
from epaxos.statemachine.batch import encode_batch
from epaxos.transport.codec import PeerRequest, encode_envelope
from epaxos.transport.framing import Kind, seal
from fuzz.__main__ import fuzz, make_keys
from live_cluster import LiveCluster

PATIENCE = 10.0  # seconds


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCluster]:
    """A cluster with keys, of an admin and of three more clients; the admin has put a key."""
    doors = {"secure": True, "redis": True, "http": {"api": "write"}}
    small = {"max_key": 1024, "max_value": 4096, "max_frame": 16_384}  # what is too large is made quickly
    alive = LiveCluster(tmp_path_factory.mktemp("secure"), 3, doors | small)
    add_client(alive.keys, "reader", Listing("read"))
    add_client(alive.keys, "web", Listing("write", ["web/"]))
    add_client(alive.keys, "cache", Listing("write", ["cache:"], hash_password("secret")))
    add_client(alive.keys, "leaver", Listing("write"))
    with alive:
        with alive.client("alpha") as client:
            client.put(b"key", b"value")
        yield alive


def key(alive: LiveCluster, name: str) -> str:
    return str(alive.keys / f"{name}.key")


def counted(alive: LiveCluster, name: str) -> dict[str, float]:
    """What a replica has counted so far."""
    lines = (line.rpartition(" ") for line in alive.metrics(name).splitlines() if line.startswith("epaxos_"))
    return {series: float(value) for series, _, value in lines}


def errors(alive: LiveCluster, name: str, kind: str) -> float:
    return counted(alive, name)[f'epaxos_errors_total{{kind="{kind}"}}']


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def connected(alive: LiveCluster, port: int, pair: KeyPair | None) -> Iterator[zmq.Socket[bytes]]:
    """A socket that comes to a port of alpha, with a key or without, and queues what it is given until it is let in."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.set(zmq.LINGER, 0)
        if pair is not None:
            login = client_login(alive.config, None)
            assert login is not None
            arm(dealer, pair, login.servers[0])
        dealer.connect(f"tcp://127.0.0.1:{port}")
        yield dealer


def test_an_admin_comes_in(secure: LiveCluster) -> None:
    with secure.client("alpha") as client:
        client.put(b"key", b"value")
        assert client.get(b"key") == b"value"
        assert client.status(replica="bravo", digest=True).digest
    done = secure.epaxos("get", "key")
    assert (done.returncode, done.stdout) == (0, b"value")
    done = secure.epaxos("get", "key", "--key", key(secure, "web"))
    assert done.returncode == 2
    assert b'web may not touch the key "key"' in done.stderr


@pytest.mark.parametrize("door", ["clients", "peers"])
def test_strangers_get_nothing_in(secure: LiveCluster, door: str) -> None:
    """Without a key (a downgrade to NULL), with one that nobody knows, and with one that belongs at the other port."""
    alpha = secure.config.replica("alpha")
    before = counted(secure, "alpha")
    request = seal(Kind.REQUEST, secure.config.fingerprint, encode_batch(7, 1, 1, b"\x02", [b"x"], [b"x"]))
    frame = request if door == "clients" else seal(Kind.PEER, secure.config.fingerprint, envelope(secure, 2))
    pairs = [None, make_key()] if door == "clients" else [None, make_key(), read_key(key(secure, "admin"))]
    port = alpha.client_port if door == "clients" else alpha.port
    for pair in pairs:
        kind = "login" if pair else "handshake"
        seen = errors(secure, "alpha", kind)
        with connected(secure, port, pair) as dealer:
            with suppress(zmq.Again):  # cut off before it could be sent, and for good
                dealer.send(frame, zmq.NOBLOCK)
            wait_for(lambda: errors(secure, "alpha", kind) > seen)  # noqa: B023
            assert not dealer.poll(50)
    after = counted(secure, "alpha")
    for name in ("malformed", "cluster", "sender", "unknown", "refused", "denied"):
        assert (
            after[f'epaxos_errors_total{{kind="{name}"}}'] == before[f'epaxos_errors_total{{kind="{name}"}}']
        )
    with secure.client("alpha") as admin:
        assert admin.get(b"x") is None
    assert f"let nobody in from 127.0.0.1 at the port of the {door}" in secure.log("alpha")


def envelope(alive: LiveCluster, row: int) -> bytes:
    """Of a heartbeat in the name of a replica."""
    initial = alive.config.initial
    return encode_envelope(
        PeerRequest(initial.names[row], 5, (), True, 0, None, None, initial.epoch, initial.digest)
    )


def test_a_replica_speaks_in_no_others_name(secure: LiveCluster) -> None:
    alpha = secure.config.replica("alpha")
    seen = errors(secure, "alpha", "sender")
    with connected(secure, alpha.port, read_key(key(secure, "bravo"))) as dealer:
        dealer.send(seal(Kind.PEER, secure.config.fingerprint, envelope(secure, 2)))
        wait_for(lambda: errors(secure, "alpha", "sender") == seen + 1)
    assert "bravo speaks in the name of charlie" in secure.log("alpha")
    with secure.client("charlie") as client:  # which is heard as before
        client.put(b"charlie", b"heard")


def test_clients_that_are_turned_away_are_told_why(secure: LiveCluster, tmp_path: Path) -> None:
    write_key(tmp_path / "stranger.key", "stranger", make_key())
    with (
        secure.client(key=str(tmp_path / "stranger.key"), timeout=2.5) as client,
        pytest.raises(NoAnswer, match="lets nobody in with this key") as error,
    ):
        client.get(b"key")
    assert not error.value.may_have_executed


def test_roles_and_prefixes(secure: LiveCluster) -> None:
    with secure.client() as admin:
        admin.put(b"key", b"value")
    seen = errors(secure, "alpha", "denied")
    with secure.client("alpha", key=key(secure, "reader")) as reader:
        for call in (
            lambda: reader.put(b"key", b"x"),
            lambda: reader.delete(b"key"),
            lambda: reader.cas(b"key", expected=b"value", new=b"x"),
            lambda: reader.multi([Op.get(b"key"), Op.put(b"key", b"x")]),
            lambda: reader.status(replica="alpha", digest=True),
        ):
            with pytest.raises(Refused, match="reader has the role read"):
                call()
        assert reader.status(replica="alpha").name == "alpha"
        assert reader.get(b"key") == b"value"
    with secure.client("alpha", key=key(secure, "web")) as web:
        web.put(b"web/a", b"1")
        for refused in (
            lambda: web.get(b"key"),
            lambda: web.put(b"we", b"x"),
            lambda: web.multi([Op.put(b"web/a", b"2"), Op.put(b"key", b"x")]),
        ):
            with pytest.raises(Refused, match="web may not touch the key"):
                refused()
        put, other, own = web.bulk([Op.put(b"web/b", b"2"), Op.get(b"key"), Op.get(b"web/a")])
        assert put.error is None
        assert isinstance(other.error, Refused)
        assert own.value == b"1"
    assert errors(secure, "alpha", "denied") == seen + 9
    with secure.client() as client:
        assert client.get(b"key") == b"value"


def test_who_is_removed_is_out_at_once(secure: LiveCluster) -> None:
    with secure.client("alpha", key=key(secure, "leaver"), timeout=3.0) as leaver:
        leaver.put(b"key", b"value")
        remove(secure.keys, "leaver")
        secure.reload()
        seen = errors(secure, "alpha", "login")
        with pytest.raises(Refused, match="is not on the list any more"):
            leaver.put(b"key", b"x")
        assert errors(secure, "alpha", "login") > seen
    with secure.client("alpha") as admin:
        assert admin.get(b"key") == b"value"


def test_the_api_asks_for_a_token_and_heeds_its_rights(secure: LiveCluster) -> None:
    token = add_client(secure.keys, "app", Listing("write", ["app/"]), token=True)
    secure.reload()
    seen = errors(secure, "alpha", "forbidden")
    place = f"http://127.0.0.1:{secure.config.replica('alpha').metrics_port}/v1"

    def ask(method: str, path: str, body: bytes | None = None) -> int:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{place}{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert ask("PUT", "/kv/app/key", b"value") == 204
    assert ask("GET", "/kv/app/key") == 200
    puts = [{"op": "put", "key": key, "value": "x"} for key in ("app/key", "key")]
    multi = json.dumps({"operations": puts}).encode()
    refused = [
        ask("PUT", "/kv/key", b"x"),
        ask("GET", "/kv/key"),
        ask("DELETE", "/kv/key"),
        ask("POST", "/multi", multi),
        ask("GET", "/status?digest=true"),
        ask("GET", "/backup"),
    ]
    assert refused == [403] * 6
    assert errors(secure, "alpha", "forbidden") == seen + 6
    with secure.client() as client:
        assert client.get(b"key") == b"value"
        assert client.get(b"app/key") == b"value"


def test_the_redis_door_asks_for_a_password_and_heeds_its_rights(secure: LiveCluster) -> None:
    port = secure.config.replica("alpha").redis_port
    assert port is not None
    seen = errors(secure, "alpha", "password")
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
        connection.makefile("rb") as lines,
    ):

        def ask(command: str) -> str:
            connection.sendall(command.encode() + b"\r\n")
            return lines.readline().decode().strip()

        for command in ("GET key", "SET key x", "FLUSHALL", "SUBSCRIBE a", "MULTI", "CLIENT LIST", "HELLO 3"):
            assert ask(command) == "-NOAUTH Authentication required."
        assert ask("AUTH cache wrong").startswith("-WRONGPASS")
        assert errors(secure, "alpha", "password") == seen + 1
        time.sleep(FIRST)  # no try of this address is looked at before
        assert ask("AUTH cache secret") == "+OK"
        assert ask("SET cache:a 1") == "+OK"
        for command in ("GET key", "SET key x", "MSET cache:a 2 key x", "WATCH key", "EVAL x 0"):
            assert ask(command).startswith("-NOPERM cache may not touch" if command != "EVAL x 0" else "-ERR")
        for command in ("FLUSHALL", "KEYS *", "SCAN 0", "DBSIZE", "SUBSCRIBE a"):
            assert ask(command).startswith("-NOPERM cache has not all keys")
        assert ask("MULTI") == "+OK"
        assert ask("SET key x").startswith("-NOPERM")
        assert ask("EXEC").startswith("-EXECABORT")
        assert ask("GET cache:a") == "$1"
        assert lines.readline() == b"1\r\n"
        remove(secure.keys, "cache")
        secure.reload()
        assert ask("GET cache:a") == "-NOAUTH Authentication required."
    with secure.client() as client:
        assert client.get(b"key") == b"value"


def test_pages_ask_for_a_token(secure: LiveCluster) -> None:
    alpha = secure.config.replica("alpha")
    place = f"http://127.0.0.1:{alpha.metrics_port}"
    for path in ("/livez", "/readyz"):
        with urllib.request.urlopen(place + path, timeout=5) as page:
            assert page.status == 200
    seen = errors(secure, "alpha", "token")
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(urllib.request.Request(f"{place}/metrics", headers=headers), timeout=5)
        assert error.value.code == 401
    assert errors(secure, "alpha", "token") == seen + 1


def test_bad_frames_of_who_is_let_in_and_strangers_at_each_socket(secure: LiveCluster) -> None:
    """A short run of tools/fuzz --keys."""
    keys = make_keys(secure.config)
    secure.reload()
    assert fuzz(secure.config, 100, 1, {}, secure.check, keys) == []
