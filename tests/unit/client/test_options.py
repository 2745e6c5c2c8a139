from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from epaxos.client.commands import Op, as_columns, weigh
from epaxos.client.drivers.calls import parts_of
from epaxos.client.options import Options, client_options
from epaxos.config import Config, default_replicas, load_config, make_config
from epaxos.errors import ConfigError, Refused
from epaxos.statemachine.batch import Limits, decode_batch, encode_batch
from epaxos.statemachine.checks import check_batch
from epaxos.transport.framing import ANY_CLUSTER


def options(
    endpoints: Any = None,
    config: Config | None = None,
    replica: str | None = None,
    timeout: Any = None,
    tries: Any = None,
    seed: int = 1,
) -> Options:
    return client_options(endpoints, config, replica, timeout, tries, Random(seed))


@pytest.fixture
def config() -> Config:
    document = {"replicas": default_replicas(3), "max_batch": 7, "client": {"timeout": "3s", "tries": 2}}
    return make_config(document, "test.toml")


def test_endpoints_are_completed_and_keep_their_order() -> None:
    made = options(["localhost:4264", "tcp://127.0.0.1:4265", "[::1]:4266"])
    assert made.endpoints == ("tcp://localhost:4264", "tcp://127.0.0.1:4265", "tcp://[::1]:4266")
    assert made.names == ("localhost:4264", "127.0.0.1:4265", "[::1]:4266")
    assert made.order == (0, 1, 2)
    assert made.cluster == ANY_CLUSTER
    assert options("localhost:4264").endpoints == ("tcp://localhost:4264",)


def test_a_config_gives_everything(config: Config) -> None:
    made = options(config=config, replica="bravo")
    assert made.names == ("alpha", "bravo", "charlie")
    assert made.endpoints == tuple(address.client_endpoint for address in config.replicas)
    assert made.order == (1, 2, 0)
    assert (made.cluster, made.max_batch, made.max_frame) == (config.fingerprint, 7, config.max_frame)
    assert (made.timeout, made.tries) == (3.0, 2)


def test_arguments_go_before_the_config(config: Config) -> None:
    made = options("localhost:1", config, timeout=5, tries=1)
    assert made.endpoints == ("tcp://localhost:1",)
    assert made.cluster == config.fingerprint
    assert (made.timeout, made.tries) == (5, 1)


def test_a_replica_may_be_preferred_among_endpoints() -> None:
    assert options(["a:1", "b:2"], replica="b:2").order == (1, 0)


def test_clients_without_preference_spread(config: Config) -> None:
    assert {options(config=config, seed=seed).order[0] for seed in range(30)} == {0, 1, 2}


def test_without_arguments_the_configuration_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = load_config(None)
    assert options().cluster == found.fingerprint


def test_endpoints_alone_mean_the_defaults_of_the_configuration() -> None:
    defaults = make_config({"replicas": default_replicas(3)}, "defaults")
    made = options("localhost:4264")
    assert (made.timeout, made.tries) == (defaults.client.timeout, defaults.client.tries)
    assert (made.max_batch, made.max_frame) == (defaults.max_batch, defaults.max_frame)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"endpoints": []}, "endpoints: found none"),
        ({"endpoints": "localhost"}, 'endpoints: found "localhost"; allowed: host:port'),
        ({"endpoints": "localhost:0"}, "a port from 1 to 65535"),
        ({"endpoints": "localhost:65536"}, "a port from 1 to 65535"),
        ({"endpoints": "udp://localhost:1"}, "allowed: host:port"),
        ({"endpoints": "*:5999"}, "not a wildcard"),
        ({"endpoints": "0.0.0.0:5999"}, "not a wildcard"),
        ({"endpoints": "[::]:5999"}, "not a wildcard"),
        ({"endpoints": "::1:5999"}, "allowed: host:port"),
        ({"endpoints": "[localhost]:5999"}, "allowed: host:port"),
        ({"endpoints": "b\u00fccher.example:5999"}, "host name or IP address"),
        ({"endpoints": "256.0.0.1:5999"}, "host name or IP address"),
        ({"endpoints": "a b:5999"}, "host name or IP address"),
        ({"endpoints": "a:+80"}, "allowed: host:port"),
        ({"endpoints": ["a:1", "tcp://a:1"]}, "found one twice among a:1, a:1"),
        (
            {"endpoints": "a:1", "replica": "alpha"},
            'replica: found "alpha"; allowed: one of a:1',
        ),
    ],
)
def test_wrong_endpoints_get_one_line(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        options(**arguments)


def test_an_unknown_replica_gets_one_line(config: Config) -> None:
    with pytest.raises(ConfigError, match="delta"):
        options(config=config, replica="delta")
    with pytest.raises(ConfigError, match="allowed: one of alpha, bravo, charlie"):
        options(config=config).index_of("delta")
    assert options(config=config).index_of("charlie") == 2
    assert options(config=config).index_of(None) is None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"endpoints": [1]}, TypeError),
        ({"timeout": "2s"}, TypeError),
        ({"timeout": True}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"timeout": float("inf")}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"tries": 0}, ValueError),
        ({"tries": 1.0}, TypeError),
    ],
)
def test_wrong_arguments_are_errors(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        options(**({"endpoints": "localhost:1"} | arguments))


def test_a_bulk_call_is_cut_where_a_frame_is_full() -> None:
    made = Options(("a",), ("tcp://a:1",), (0,), max_batch=3, max_frame=1000)
    small = [Op.get(b"key%d" % index) for index in range(7)]
    assert [len(part) for part in parts_of(small, made)] == [3, 3, 1]
    assert parts_of([], made) == []
    large = [Op.put(b"k", bytes(400)) for _ in range(3)]
    parts = parts_of(large, made)
    assert [len(part) for part in parts] == [2, 1]
    assert all(sum(weigh(*op[:3], 1) for op in part) <= made.max_weight for part in parts)
    assert [op for part in parts for op in part] == large


@pytest.mark.parametrize("op", [Op.count(b""), Op.scan(b"", limit=1), Op.clear(b"", limit=1)])
def test_a_frame_has_no_more_commands_on_many_keys_than_replicas_take(op: Op) -> None:
    made = Options(("a",), ("tcp://a:1",), (0,), max_frame=100_000)
    parts = parts_of([op] * 20, made)
    assert 1 < len(parts) < 5
    for part in parts:
        check_batch(decode_batch(encode_batch(1, 1, 1, *as_columns(part))), Limits())


def test_a_bulk_call_with_a_command_too_large_is_refused_as_a_whole() -> None:
    made = Options(("a",), ("tcp://a:1",), (0,), max_frame=1000)
    with pytest.raises(Refused, match="operation 1 of 1018 bytes"):
        parts_of([Op.get(b"k"), Op.put(b"kk", bytes(1000))], made)
