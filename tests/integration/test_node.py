"""Replicas within a program: `epaxos.Node`, and the examples of docs/python.md."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event, Timer
from unittest.mock import Mock

import pytest
from ledger import Ledger

from epaxos import Closed, Node, NodeFailed, Op, Refused
from epaxos.actors.assembly import make_parts
from epaxos.config import Config, load_config
from epaxos.errors import ConfigError
from epaxos.testing import local_nodes
from live_cluster import PORT_KEYS, Ports


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Config]:
    """The configuration of a cluster of one replica, on disk, that runs the ledger."""
    whole = load_config(None, environ={})
    storage = replace(whole.storage, directory=str(tmp_path), sync="never")
    with closing(Ports(len(PORT_KEYS))) as ports:
        peers, clients, metrics = ports.numbers
        address = replace(whole.replicas[0], port=peers, client_port=clients, metrics_port=metrics)
        yield replace(whole, replicas=(address,), f=0, e=0, machine="ledger", storage=storage)


def test_a_python_object_is_replicated() -> None:
    ledgers: list[Ledger] = []

    def make() -> Ledger:
        ledgers.append(Ledger())
        return ledgers[-1]

    with local_nodes(make) as nodes:
        with ThreadPoolExecutor(3) as pool:
            moves = [pool.submit(node.execute, b'["ann", "bob", 1]') for node in nodes for _ in range(20)]
            assert sorted(int(move.result() or b"") for move in moves) == list(range(-60, 0))
        with pytest.raises(Refused, match="ledger: the amount must be an integer"):
            nodes[0].execute(b'["ann", "bob", 0]')
        with nodes[0].client() as client, pytest.raises(Refused, match="runs the state machine ledger"):
            client.put(b"key", b"value")

        async def ask() -> bytes | None:
            async with nodes[1].async_client() as client:
                return await client.execute(Op.apply(b'["bob", "cy", 10]'))

        assert asyncio.run(ask()) == b"50"
        nodes[2].stop(drain=False)
        assert nodes[2].wait(5.0)
        assert nodes[0].execute(b'["cy", "ann", 10]', timeout=10.0) == b"0"
    assert ledgers[0].balances == {b"ann": -50, b"bob": 50, b"cy": 0}


def test_a_start_that_fails_holds_nothing(alone: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = Node(alone, "alpha", state_machine=Ledger())
    monkeypatch.setattr(Node, "client", Mock(side_effect=RuntimeError("no client")))
    with pytest.raises(RuntimeError, match="no client"):
        failing.start()
    with pytest.raises(NodeFailed, match="alpha was not started"):
        failing.execute(b"")
    make_parts(alone, 0, Ledger()).disk.engine.close()  # nobody has its directory


class Slow(Ledger):
    """Executes when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.executes, self.may = Event(), Event()

    def apply(self, commands: Sequence[bytes]) -> Sequence[bytes]:
        self.executes.set()
        assert self.may.wait(60.0)
        return super().apply(commands)


@pytest.mark.parametrize("drain", [True, False])
def test_what_executes_when_a_replica_stops(
    alone: Config, monkeypatch: pytest.MonkeyPatch, *, drain: bool
) -> None:
    monkeypatch.setattr("epaxos.node._HURRY", 30.0 if drain else 0.05)
    slow = Slow()
    node = Node(alone, "alpha", state_machine=slow).start().wait_until_ready()
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(node.execute, b'["ann", "bob", 1]', timeout=60.0)
        assert slow.executes.wait(60.0)
        if drain:
            Timer(0.1, slow.may.set).start()
            node.stop()
            assert asked.result() == b"-1"
            return
        with pytest.raises(NodeFailed, match="alpha executes a command still; it stops afterwards"):
            node.stop(drain=False)
        with pytest.raises(Closed):
            asked.result()
        slow.may.set()
        assert node.wait(60.0)


def test_a_node_comes_back_with_its_state_and_refuses_that_of_another_machine(tmp_path: Path) -> None:
    storage = {"directory": str(tmp_path), "checkpoint": "1s"}
    with local_nodes(Ledger, 1, storage=storage) as (node,):
        config = node.config
        assert node.execute(b'["ann", "bob", 30]') == b"-30"
        node.stop()
        with pytest.raises(NodeFailed, match="alpha was started before; make another Node"):
            node.start()
        again = Ledger()
        with Node(config, "alpha", state_machine=again) as restarted:
            restarted.wait_until_ready()
            assert restarted.execute(b'["ann", "bob", 1]') == b"-31"
            assert restarted.execute(b'["bob", "ann", 1]') == b"30"
        with pytest.raises(NodeFailed, match="alpha was not started"):
            Node(config, "alpha", state_machine=again).execute(b"")
        with pytest.raises(ConfigError, match='machine: found "kv"; allowed here: "ledger"'):
            Node(replace(config, machine="kv"), "alpha", state_machine=again).start()
        with pytest.raises(ConfigError, match='only a program that gives "ledger" to its'):
            Node(config, "alpha").start()
