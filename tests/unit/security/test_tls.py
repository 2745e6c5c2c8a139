"""A replica with keys and a certificate, made as a person makes them: its pages and its Redis door over TLS."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
import redis
import toml
import trustme
from click.testing import CliRunner, Result

from epaxos.cli.main import main
from epaxos.config import default_replicas, load_config, render_file
from epaxos.node import Node
from epaxos.security.access import read_clients
from epaxos.testing.processes import Ports

HOST = "127.0.0.1"


class Guarded(NamedTuple):
    """Where a replica is, the token of who may write below app/, and who vouches for its certificate."""

    pages: int
    redis: int
    token: str
    authority: str


def keys(file: Path, *arguments: str, told: str = "") -> Result:
    return CliRunner().invoke(main, ["keys", *arguments, "-c", str(file)], input=told)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    place = tmp_path_factory.mktemp("tls")
    file, certificate, authority = place / "epaxos.toml", place / "keys" / "tls.pem", place / "ca.pem"
    with closing(Ports(4)) as ports:
        names = ("port", "client_port", "metrics_port", "redis_port")
        replica = {"name": "alpha", "host": HOST, "pid": 0} | dict(zip(names, ports.numbers, strict=True))
        security = {"keys": "keys", "certificate": str(certificate)}
        settings = {"name": "tls", "storage": {"engine": "memory"}, "http": {"api": "write"}}
        file.write_text(toml.dumps(settings | {"security": security, "replicas": [replica]}))
        assert keys(file, "init").exit_code == 0
        maker = trustme.CA()
        maker.cert_pem.write_to_path(str(authority))
        maker.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(certificate))
        certificate.chmod(0o600)
        token = keys(file, "add", "app", "--role", "write", "--prefix", "app/", "--token").output.strip()
        cache = ("add", "cache", "--role", "write", "--prefix", "cache:", "--password")
        assert keys(file, *cache, told="secret\nsecret\n").exit_code == 0
        with Node(load_config(str(file), environ={}), "alpha") as node:
            node.wait_until_ready()
            yield Guarded(ports.numbers[2], ports.numbers[3], token, str(authority))


def put(guarded: Guarded, context: ssl.SSLContext | None, path: str, token: str) -> int:
    place = HOST, guarded.pages
    made = http.client.HTTPSConnection(*place, timeout=10, context=context) if context else None
    with closing(made or http.client.HTTPConnection(*place, timeout=10)) as connection:
        connection.request("PUT", path, b"value", {"Authorization": f"Bearer {token}"})
        return connection.getresponse().status


def test_pages_are_served_over_tls_only(guarded: Guarded) -> None:
    trusting = ssl.create_default_context(cafile=guarded.authority)
    assert put(guarded, trusting, "/v1/kv/app/key", guarded.token) == 204
    assert put(guarded, trusting, "/v1/kv/key", guarded.token) == 403
    assert put(guarded, trusting, "/v1/kv/app/key", "wrong") == 401
    with pytest.raises(ssl.SSLCertVerificationError):
        put(guarded, ssl.create_default_context(), "/v1/kv/app/key", guarded.token)
    with pytest.raises((http.client.HTTPException, OSError)):
        put(guarded, None, "/v1/kv/app/key", guarded.token)


def test_the_redis_door_is_open_over_tls_only(guarded: Guarded) -> None:
    with redis.Redis(
        HOST,
        guarded.redis,
        username="cache",
        password="secret",
        ssl=True,
        ssl_ca_certs=guarded.authority,
        socket_timeout=10,
    ) as cache:
        assert cache.set("cache:a", "1")
        assert cache.get("cache:a") == b"1"
        with pytest.raises(redis.exceptions.NoPermissionError):
            cache.get("app/key")
    with socket.create_connection((HOST, guarded.redis), timeout=10) as plain:
        plain.sendall(b"AUTH cache secret\r\nGET cache:a\r\n")
        answer = b""
        try:
            while more := plain.recv(4096):
                answer += more
        except ConnectionError:
            pass  # cut
    assert b"OK" not in answer
    assert b"$1" not in answer


def test_a_password_is_asked_for_twice_and_kept_as_a_hash(tmp_path: Path) -> None:
    file = tmp_path / "epaxos.toml"
    file.write_text(render_file("tls", default_replicas(1)))
    assert keys(file, "init").exit_code == 0
    cache = ("add", "cache", "--role", "write", "--password")
    refused = keys(file, *cache, told="secret\nsecert\n")
    assert refused.exit_code
    assert "do not match" in refused.stderr
    assert "cache" not in read_clients(str(tmp_path / "keys"))
    both = keys(file, *cache, "--token")
    assert (both.exit_code, "--token and --password: one of them at most" in both.stderr) == (2, True)
    done = keys(file, *cache, told="secret\nsecret\n")
    assert (done.exit_code, done.stdout) == (0, "cache is on the list\n")
    assert read_clients(str(tmp_path / "keys"))["cache"].password.startswith("$argon2id$")
    assert "secret" not in (tmp_path / "keys" / "clients.toml").read_text()
