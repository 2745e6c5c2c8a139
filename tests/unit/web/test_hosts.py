from __future__ import annotations

import asyncio

import httpx
import pytest

from epaxos.config import default_replicas, make_config
from epaxos.security.tokens import PROBES
from epaxos.web.hosts import Hosts
from epaxos.web.pages import text

REPLICAS = default_replicas(3)
REPLICAS[0] |= {"host": "alpha.Example.org", "listen": "inside"}
HOSTS = Hosts(text("answered", 200), make_config({"replicas": REPLICAS}))


def asked(*hosts: str, path: str = "/v1/scan") -> tuple[int, str]:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(HOSTS), base_url="http://x") as client:
            request = client.build_request("DELETE", path)
            request.headers = httpx.Headers([("Host", host) for host in hosts])
            return await client.send(request)

    response = asyncio.run(ask())
    return response.status_code, response.text


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:9264",
        "192.0.2.7",
        "[::1]:9264",
        "[fe80::1%25eth0]",
        "localhost:1",
        "LOCALHOST.",
        "ALPHA.example.org:9264",
        "alpha.example.org.",
        "inside",
    ],
)
def test_who_means_the_replica_is_answered(host: str) -> None:
    assert asked(host) == (200, "answered\n")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9264",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "alpha.example.org.evil.example",
        "evil.alpha.example.org",
        "[::1].evil.example",
        "127.0.0.1:80.evil.example",
        "evil.example:localhost",
        "",
    ],
)
def test_a_stranger_s_name_is_refused(host: str) -> None:
    status, line = asked(host)
    assert status == 421
    assert line.startswith(f'Host: found "{host}"; allowed without security.keys: an address, localhost, or ')
    assert line.count("\n") == 1


def test_each_name_must_be_known() -> None:
    assert asked("localhost", "evil.example")[0] == 421


@pytest.mark.parametrize("path", PROBES)
def test_probes_are_answered_by_any_name(path: str) -> None:
    assert asked("balancer.example", path=path)[0] == 200


def test_who_names_no_host_is_no_browser() -> None:
    assert asked()[0] == 200
