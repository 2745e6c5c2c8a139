from __future__ import annotations

import gzip
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from prometheus_client import CollectorRegistry

from api_rig import Rig
from epaxos.metrics import Health, ReplicaStats, make_registry
from epaxos.web import LIMITS, Limits, Server, application
from epaxos.web.pages import page_routes

HOST = "127.0.0.1"


class Patient:
    def __init__(self) -> None:
        self.answer = Health((), (), {})
        self.error: Exception | None = None

    def __call__(self) -> Health:
        if self.error:
            raise self.error
        return self.answer


@pytest.fixture(scope="module")
def health() -> Patient:
    return Patient()


@pytest.fixture(scope="module")
def server(health: Patient) -> Iterator[Server]:
    stats = ReplicaStats(("alpha", "bravo"), 0, ["NULL"], ["Beacon"], 2)
    stats.proposed(42)
    with serving([listening()], make_registry(stats, "alpha"), health) as server:
        yield server


@pytest.fixture
def small() -> Iterator[Server]:
    """Two connections at once, a short deadline."""
    registry = CollectorRegistry()
    with serving([listening()], registry, Patient(), Limits(pages=2, deadline=0.8)) as server:
        yield server


def serving(
    sockets: list[socket.socket],
    registry: CollectorRegistry,
    health: Patient,
    limits: Limits = LIMITS,
) -> Server:
    return Server(sockets, application(page_routes(registry, health)), limits=limits)


def ask(
    server: Server, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    with closing(http.client.HTTPConnection(HOST, server.port, timeout=5)) as connection:
        connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        return response, response.read()


def listening(host: str = HOST, port: int = 0) -> socket.socket:
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def connect(server: Server) -> socket.socket:
    return socket.create_connection((HOST, server.port), timeout=5)


def test_metrics(server: Server) -> None:
    response, body = ask(server, "/metrics")
    assert response.status == 200
    assert (response.getheader("Content-Type") or "").startswith("text/plain; version=")
    assert b"\nepaxos_proposals_total 42.0\n" in body


def test_metrics_in_the_format_and_compression_asked_for(server: Server) -> None:
    response, body = ask(
        server, "/metrics", Accept="application/openmetrics-text; version=1.0.0", Accept_Encoding="gzip"
    )
    assert (response.getheader("Content-Type") or "").startswith("application/openmetrics-text")
    assert response.getheader("Content-Encoding") == "gzip"
    assert gzip.decompress(body).endswith(b"# EOF\n")


def test_a_selection_of_metrics(server: Server) -> None:
    _, body = ask(server, "/metrics?name[]=epaxos_proposals_total")
    assert [line for line in body.splitlines() if not line.startswith(b"#")] == [
        b"epaxos_proposals_total 42.0"
    ]


def test_healthy(server: Server, health: Patient) -> None:
    health.answer = Health((), (), {"name": "alpha"})
    response, body = ask(server, "/healthz")
    assert (response.status, response.getheader("Content-Type")) == (200, "application/json")
    assert json.loads(body) == {"healthy": True, "live": True, "reasons": [], "name": "alpha"}
    for probe in ("/livez", "/readyz"):
        response, body = ask(server, probe)
        assert (response.status, body) == (200, b"ok\n")


def test_each_reason_is_a_line(server: Server, health: Patient) -> None:
    health.answer = Health((), ("no quorum", "draining"), {"heard": ["alpha"]})
    response, body = ask(server, "/readyz")
    assert (response.status, body) == (503, b"no quorum\ndraining\n")
    response, body = ask(server, "/healthz")
    assert response.status == 503
    reasons = ["no quorum", "draining"]
    assert json.loads(body) == {"healthy": False, "live": True, "reasons": reasons, "heard": ["alpha"]}
    assert ask(server, "/livez")[0].status == 200, "starting it again would not help"


def test_dead(server: Server, health: Patient) -> None:
    health.answer = Health(("stopped",), ("stopped",), {})
    for probe in ("/livez", "/readyz"):
        response, body = ask(server, probe)
        assert (response.status, body) == (503, b"stopped\n")
    assert json.loads(ask(server, "/healthz")[1])["live"] is False


def test_a_health_check_that_fails_is_answered_and_logged(
    server: Server, health: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    health.error = RuntimeError("out of health")
    try:
        response, _ = ask(server, "/healthz")
    finally:
        health.error = None
    assert response.status == 500
    assert "out of health" in caplog.text


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "//[", "*", "http://x/metrics"])
def test_anything_else_is_not_found(server: Server, path: str) -> None:
    assert ask(server, path)[0].status == 404


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/healthz", "/nothing"])
def test_head_is_get_without_the_body(server: Server, health: Patient, path: str) -> None:
    health.answer = Health((), (), {})
    response, body = ask(server, path, "HEAD")
    assert response.status == ask(server, path)[0].status
    assert int(response.getheader("Content-Length") or 0) > 0
    assert body == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_only_reading_is_allowed(server: Server, method: str) -> None:
    response, _ = ask(server, "/metrics", method)
    allowed = (response.getheader("Allow") or "").split(", ")
    assert (response.status, sorted(allowed)) == (405, ["GET", "HEAD"])


@pytest.mark.parametrize(
    "raw", [b"\r\n", b"GARBAGE\r\n\r\n", b"GET /" + b"x" * 70_000, b"\x00\xff\n" * 100, b"GET\r\n\r\n"]
)
def test_rubbish_hurts_nobody(
    server: Server, raw: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with connect(server) as client, suppress(ConnectionError):  # it may hang up before it has read all
        client.sendall(raw)
        client.shutdown(socket.SHUT_WR)
        while client.recv(10_000):
            pass
    assert ask(server, "/metrics")[0].status == 200
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert capfd.readouterr().err == ""


def test_whoever_serves_around_the_replica_keeps_a_log_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    theirs = logging.getLogger("uvicorn.access")
    kept = theirs.handlers, theirs.propagate, theirs.level
    theirs.handlers, theirs.propagate = [caplog.handler], True
    theirs.setLevel(logging.INFO)
    try:
        with serving([listening()], CollectorRegistry(), Patient()) as server:
            assert ask(server, "/livez")[0].status == 200
        assert theirs.handlers == [caplog.handler]
        assert theirs.propagate
        assert not caplog.records
    finally:
        theirs.handlers, theirs.propagate, theirs.level = kept


def test_a_client_that_drips_is_cut_at_the_deadline(small: Server) -> None:
    started = time.monotonic()
    with connect(small) as client, pytest.raises(ConnectionError):
        _drip(client, until=started + 5)
    assert time.monotonic() - started < 3


def _drip(client: socket.socket, until: float) -> None:
    while time.monotonic() < until:
        client.sendall(b"G")
        time.sleep(0.05)


def test_silent_clients_take_their_places_only_for_a_while(small: Server) -> None:
    with connect(small) as first, connect(small) as second:
        with connect(small) as third:
            assert third.recv(1000).startswith(b"HTTP/1.0 503 ")
        assert first.recv(1) == b""
        assert second.recv(1) == b""
    # A place is free when its thread has ended, which is a moment after its client is cut.
    give_up = time.monotonic() + 5
    while not _is_served(small) and time.monotonic() < give_up:
        time.sleep(0.01)
    assert _is_served(small)


def _is_served(server: Server) -> bool:
    try:
        return ask(server, "/livez")[0].status == 200
    except ConnectionError:  # turned away before it had sent its request
        return False


def test_all_addresses_are_served_and_closed(registry: CollectorRegistry) -> None:
    sockets = [listening(), listening("127.0.0.2"), *([listening("::1")] if has_ipv6() else [])]
    with serving(sockets, registry, Patient()):
        places = [place.getsockname()[:2] for place in sockets]
        for host, port in places:
            with closing(http.client.HTTPConnection(host, port, timeout=5)) as connection:
                connection.request("GET", "/metrics")
                assert connection.getresponse().status == 200
    for place in places:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_closing_frees_the_port_ends_clients_and_may_be_repeated(registry: CollectorRegistry) -> None:
    server = serving([listening()], registry, Patient())
    with connect(server) as client:
        ask(server, "/livez")  # accepted in turn, so the first client is being served by now
        server.close()
        assert client.recv(1) == b""
    server.close()
    serving([listening(port=server.port)], registry, Patient()).close()


def test_no_thread_remains(registry: CollectorRegistry) -> None:
    before = threading.active_count()
    server = serving([listening()], registry, Patient())
    ask(server, "/metrics")
    server.close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_the_limits_suit_prometheus() -> None:
    assert LIMITS.deadline < 10  # its default scrape_timeout
    assert LIMITS.pages >= 4


def with_api(limits: Limits) -> Server:
    routes = [*page_routes(CollectorRegistry(), Patient()), *Rig().api.routes()]
    return Server([listening()], application(routes), limits=limits)


def test_clients_of_the_api_keep_nobody_else_out() -> None:
    with (
        with_api(Limits(pages=4, api=1)) as narrow,
        closing(http.client.HTTPConnection(HOST, narrow.port, timeout=5)) as first,
    ):
        for _ in range(6):  # over one connection, of which the deadline is that of each request
            first.request("PUT", "/v1/kv/a", b"value")
            response = first.getresponse()
            assert response.status == 204
            response.read()
        for _ in range(6):
            response, body = ask(narrow, "/v1/kv/a")
            assert (response.status, json.loads(body)["type"]) == (503, "tag:epaxos,2026:busy")
            assert response.getheader("Connection") == "close"
            assert ask(narrow, "/livez")[0].status == 200


def test_an_idle_client_of_the_api_is_let_go() -> None:
    with with_api(Limits(idle=0.2)) as server, connect(server) as client:
        client.sendall(b"DELETE /v1/kv/a HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while more := client.recv(1000):
            answer += more
    assert answer.startswith(b"HTTP/1.1 200 ")
