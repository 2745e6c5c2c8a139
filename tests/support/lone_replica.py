"""A replica of one, for doors: its clients' side and its state machine, without consensus, threads or sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from epaxos.actors.assembly import limits_of
from epaxos.actors.clients import Clients
from epaxos.config import load_config
from epaxos.doors.gate import Gate
from epaxos.doors.redis.door import Door
from epaxos.metrics import ReplicaStats
from epaxos.statemachine.batch import make_payload
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.operations import Operation


class LoneReplica:
    """What a `Gate` leads to; `instances` has the operations of each instance that was executed."""

    def __init__(self, **changes: Any) -> None:
        self.config = replace(load_config(None, environ={}), **changes)
        self.limits = limits_of(self.config)
        self.machine = StateMachine(self.limits, lambda _: None)
        self.gate = Gate()
        names = [replica.name for replica in self.config.replicas]
        self.stats = ReplicaStats(names, 0, [operation.name for operation in Operation], [], 2)
        self.clients = Clients(
            self.config,
            self.machine.admit,
            self.stats,
            lambda *_: None,
            lambda _: 2**40,
            self.machine.ended,
            self.gate,
        )
        self.clients.knows = self.machine.knows
        self.instances: list[bytes] = []

    def take(self) -> None:
        """What doors have handed over waits to be proposed."""
        self.clients.take_local(self.machine.generation, self.machine.get, 0.0)

    def run(self) -> None:
        """Take what waits, execute it, and answer."""
        self.take()
        while self.clients.to_propose:
            payload = make_payload(self.clients.take_batches(), self.limits.bounds)
            self.instances.append(payload.operations)
            for run in self.machine.runs(payload):
                self.clients.answers.answer(payload, run)
        self.clients.answers.flush(0.0)

    async def serve(self) -> None:
        """Go on with that, as a task of the loop in which the doors are."""
        while True:
            self.run()
            await asyncio.sleep(0)

    @contextmanager
    def redis(self, **options: Any) -> Iterator[tuple[Door, tuple[str, int]]]:
        """A Redis door, in whose thread it executes at once what is asked for, and where that is."""
        self.gate.attach(self.run)
        listening = socket.create_server(("127.0.0.1", 0))
        with listening, Door([listening], self.gate, self.config, self.limits, self.stats, **options) as door:
            yield door, ("127.0.0.1", door.port)
