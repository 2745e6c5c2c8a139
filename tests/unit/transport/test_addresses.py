from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial

import pytest
import zmq

from epaxos.config import ReplicaAddress, place
from epaxos.errors import ConfigError
from epaxos.transport.addresses import listen_tcp, listen_zmq, pair, resolve, split

ALPHA = ReplicaAddress(0, "alpha", "alpha.test", 0, 0, 0)


@pytest.fixture
def router() -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as made:
        yield made


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        return int(probe.getsockname()[1])


def alpha(port: int) -> ReplicaAddress:
    return replace(ALPHA, port=port, client_port=port, metrics_port=port)


def test_a_name_means_all_its_addresses_once_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 0, 0, 3)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert resolve("some.test") == ["fe80::1%3", "127.0.0.1", "::1"]


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 300, "a..b"])
def test_what_no_name_server_knows_is_an_oserror(host: str) -> None:
    with pytest.raises(OSError, match=r"."):
        resolve(host)


@pytest.mark.parametrize(
    ("host", "port"), [("a.test", 1), ("127.0.0.1", 65535), ("::1", 2), ("fe80::1%eth0", 3)]
)
def test_an_endpoint_is_a_place_and_back(host: str, port: int) -> None:
    assert split(f"tcp://{place(host, port)}") == (host, port)


def test_an_address_of_one_link_keeps_its_interface() -> None:
    assert pair("fe80::1%1", 5) == ("fe80::1", 5, 0, 1)
    assert pair("127.0.0.1", 5) == ("127.0.0.1", 5)


def test_addresses_of_others_are_left_out(router: zmq.Socket[bytes]) -> None:
    port = free_port()
    hosts = ["198.51.100.1", "127.0.0.1", "127.0.0.2"]
    assert listen_zmq(router, alpha(port), "port", hosts) == [f"127.0.0.1:{port}", f"127.0.0.2:{port}"]


def test_addresses_of_others_alone_are_said_in_one_line(router: zmq.Socket[bytes]) -> None:
    with pytest.raises(ConfigError) as caught:
        listen_zmq(router, alpha(5), "port", ["198.51.100.1", "198.51.100.2"])
    assert str(caught.value) == (
        "replica alpha: cannot listen on 198.51.100.1:5 or 198.51.100.2:5 (port): no address of this machine; "
        "run alpha where alpha.test is, correct `host` or set `listen`"
    )
    with pytest.raises(ConfigError, match=r"where 198\.51\.100\.1 is, correct `listen`$"):
        listen_tcp(replace(alpha(5), listen="198.51.100.1"), "metrics_port", ["198.51.100.1"])


@pytest.mark.parametrize("key", ["client_port", "metrics_port"])
def test_a_port_in_use_on_one_address_is_none_at_all(router: zmq.Socket[bytes], key: str) -> None:
    """Half of the peers would meet somebody else there."""
    hosts = ["127.0.0.1", "127.0.0.2"]
    with closing(socket.create_server(("127.0.0.2", 0))) as other:
        port = other.getsockname()[1]
        listen = listen_tcp if key == "metrics_port" else partial(listen_zmq, router)
        with pytest.raises(
            ConfigError, match=rf"listen on 127\.0\.0\.2:{port} \({key}\): the port is in use"
        ):
            listen(alpha(port), key, hosts)
        if key == "metrics_port":  # nothing is left bound
            socket.create_server(("127.0.0.1", port)).close()


def test_the_wildcard_of_ipv6_is_that_of_both_families() -> None:
    port = free_port()
    with ExitStack() as stack:
        for made in listen_tcp(alpha(port), "metrics_port", ["::"]):
            stack.enter_context(made)
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, port), timeout=5).close()


def test_answers_of_a_page_do_not_wait_for_an_acknowledgement() -> None:
    port = free_port()
    (listening,) = listen_tcp(alpha(port), "metrics_port", ["127.0.0.1"])
    with listening, socket.create_connection(("127.0.0.1", port), timeout=5):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
