"""The clients' side of a replica, without a socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import msgpack
import zmq

from epaxos.actors.admin import AdminRequest
from epaxos.actors.answers import StatusRequest
from epaxos.actors.clients import Clients
from epaxos.config import Config, load_config
from epaxos.doors.gate import Gate
from epaxos.metrics import ReplicaStats
from epaxos.statemachine.batch import Batch, Limits, encode_batch, make_payload
from epaxos.statemachine.checks import check_batch
from epaxos.statemachine.machine import Run
from epaxos.statemachine.operations import Operation, Outcome
from epaxos.transport.framing import Kind, open_frame, seal

LIMITS = Limits(16, 32, 100)
DONE = bytes((Outcome.DONE,))


class Front:
    """The clients' side of a replica, with a list in the place of its socket."""

    def __init__(
        self, check: Callable[[Batch], int | None] | None = None, gate: Gate | None = None, **changes: Any
    ) -> None:
        self.config: Config = replace(load_config(None, environ={}), **changes)
        names = [replica.name for replica in self.config.replicas]
        self.stats = ReplicaStats(names, 0, [operation.name for operation in Operation], [], 2)
        self.sent: list[tuple[bytes, int, list[Any]]] = []
        self.levels: list[tuple[bytes, int]] = []
        self.clients = Clients(
            self.config,
            check or partial(check_batch, limits=LIMITS),
            self.stats,
            self._reply,
            lambda _: self.room,
            self._ended,
            gate,
        )
        self.room = 2**40
        self.over: set[int] = set()

    def _ended(self, batch: Batch) -> int | None:
        return 30 if batch.client in self.over else None

    def _reply(self, identity: bytes, frame: bytes) -> None:
        opened = open_frame(frame, self.config.fingerprint, self.config.max_frame)
        self.levels.append((identity, opened.level))
        self.sent.append((identity, opened.kind, msgpack.unpackb(opened.body)))

    def take(self, kind: int, body: bytes, identity: bytes = b"one") -> StatusRequest | AdminRequest | None:
        questions = self.clients.open(identity, [zmq.Frame(seal(kind, self.config.fingerprint, body))], 0.0)
        return questions[0] if questions else None

    def request(self, first: int, count: int = 1, client: int = 7, identity: bytes = b"one") -> None:
        """A frame of writes."""
        body = encode_batch(client, first, 1, b"\x02" * count, [b"key"] * count, [b"value"] * count)
        assert self.take(Kind.REQUEST, body, identity) is None

    def execute(self, first: int, count: int = 1, client: int = 7, values: list[Any] | None = None) -> None:
        """A batch of these numbers has executed, whoever proposed it."""
        batch = Batch(client, first, 0, b"\x02" * count, [b"key"] * count, None)
        self.clients.answers.answer(make_payload([batch]), Run(0, 1, DONE * count, values))
        self.clients.answers.flush(1.0)

    def proposed(self) -> list[list[tuple[int, int]]]:
        """All that waits to be proposed: by instance, the first number and the count of each batch."""
        instances = []
        while self.clients.to_propose:
            instances.append([(batch.first, len(batch)) for batch in self.clients.take_batches()])
        return instances
