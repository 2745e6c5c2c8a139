"""Replicas within a program: `epaxos.Node`, and the examples of docs/python.md."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from ledger import Ledger

from epaxos import Node, NodeFailed, Op, Refused
from epaxos.errors import ConfigError
from epaxos.testing import local_nodes


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
