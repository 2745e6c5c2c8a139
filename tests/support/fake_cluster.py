"""A cluster in one thread: it speaks the clients' protocol, keeps one store, and misbehaves as told."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import msgpack
import zmq

from epaxos.config import Config, default_replicas, make_config
from epaxos.statemachine.batch import Batch, decode_batch
from epaxos.statemachine.operations import Operation, Outcome
from epaxos.transport.framing import Kind, open_frame, seal

MAX_FRAME = 2**25
FIRST_READ = 2**62


@dataclass(frozen=True)
class Asked:
    """A batch that reached the replica of index `replica` on a connection; `times` counts how often it was seen."""

    replica: int
    batch: Batch
    times: int
    connection: bytes = b""


@dataclass
class Instead:
    """What the cluster does instead of answering: send these frames, or execute and keep silent."""

    frames: list[bytes] = field(default_factory=list)
    execute: bool = False
    delay: float = 0.0


Behaviour = Callable[[Asked], "Instead | None"]


class FakeCluster(threading.Thread):
    """Replicas on free ports. `behave` decides about each batch: None answers it as a replica would."""

    def __init__(self, replicas: int = 3) -> None:
        super().__init__(daemon=True)
        self._context: zmq.Context[Any] = zmq.Context()
        self._sockets = [self._bind() for _ in range(replicas)]
        self.config = config_of([_port_of(router) for router in self._sockets])
        self.behave: Behaviour = lambda _: None
        self.silent: set[int] = set()
        self.asked: list[Asked] = []
        self.store: dict[bytes, bytes] = {}
        self.status: dict[str, Any] = {"executed": [0, 0, 0], "pending": 0, "version": "test"}
        self.digests = ["d1"] * replicas
        self.commits = [{"fast": 0, "slow": 0, "recovered": 0} for _ in range(replicas)]
        self.problems: list[str] = []
        self._results: dict[tuple[int, int], bytes] = {}
        self._times: dict[tuple[int, int], int] = defaultdict(int)
        self._late: list[tuple[float, int, bytes, bytes]] = []
        self._next_number: dict[int, int] = defaultdict(lambda: 1)
        self._stopping = threading.Event()

    def _bind(self) -> zmq.Socket[Any]:
        router: zmq.Socket[Any] = self._context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.SNDHWM, 0)
        router.bind("tcp://127.0.0.1:*")
        return router

    def run(self) -> None:
        poller = zmq.Poller()
        for router in self._sockets:
            poller.register(router, zmq.POLLIN)
        while not self._stopping.is_set():
            for router, _ in poller.poll(2):
                identity, *frames = router.recv_multipart()
                for frame in frames:
                    self._take(self._sockets.index(router), identity, frame)
            while self._late and self._late[0][0] <= monotonic():
                _, replica, identity, frame = self._late.pop(0)
                self._sockets[replica].send_multipart((identity, frame))
        self._context.destroy(linger=0)

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def _take(self, replica: int, identity: bytes, message: bytes) -> None:
        if replica in self.silent:
            return
        frame = open_frame(message, self.config.fingerprint, MAX_FRAME)
        send = self._sockets[replica].send_multipart
        if frame.kind == Kind.STATUS:
            number, options = msgpack.unpackb(frame.body)
            status = self.status | {"commits": self.commits[replica]}
            if options.get("digest"):
                status["digest"] = self.digests[replica]
            send((identity, self.seal(Kind.STATUS_REPLY, number, status)))
            return
        batch = decode_batch(frame.body)
        self._check_numbers(batch)
        self._times[batch.client, batch.first] += 1
        asked = Asked(replica, batch, self._times[batch.client, batch.first], identity)
        self.asked.append(asked)
        instead = self.behave(asked)
        if instead is not None and instead.delay:
            self._late.append((monotonic() + instead.delay, replica, identity, self.reply(replica, batch)))
            return
        if instead is None or instead.execute:
            answer = self.reply(replica, batch)
        for sent in [answer] if instead is None else instead.frames:
            send((identity, sent))

    def _check_numbers(self, batch: Batch) -> None:
        """Every frame has numbers of its own, without gaps, and `acked` is never above one under way.

        Those of reads in no session are only not to be in the way of others.
        """
        if batch.first >= FIRST_READ:
            return
        expected = self._next_number[batch.client]
        if batch.first > expected:
            self.problems.append(f"{batch.first} after {expected}")
        self._next_number[batch.client] = max(expected, batch.first + len(batch))
        if batch.acked > batch.first:
            self.problems.append(f"acked {batch.acked} above {batch.first}")

    def seal(self, kind: int, *body: object) -> bytes:
        return seal(kind, self.config.fingerprint, msgpack.packb(body))

    def busy(self, batch: Batch) -> Instead:
        return Instead([self.seal(Kind.BUSY, batch.client, batch.first, len(batch))])

    def refused(self, batch: Batch, text: str) -> Instead:
        return Instead([self.seal(Kind.REFUSED, batch.client, batch.first, len(batch), 0, text)])

    def reply(self, replica: int, batch: Batch) -> bytes:
        """Execute once, and answer; a retry gets the old answer."""
        known = self._results.get((batch.client, batch.first))
        if known is not None:
            return known
        arguments = batch.arguments or [None] * len(batch)
        rows = [self._execute(*row) for row in zip(batch.operations, batch.keys, arguments, strict=True)]
        outcomes = bytes(outcome for outcome, _ in rows)
        values = [value for _, value in rows]
        some = None if all(value is None for value in values) else values
        self.commits[replica]["fast"] += 1
        answer = self.seal(Kind.REPLY, [batch.client], [batch.first], [len(batch)], outcomes, some)
        self._results[batch.client, batch.first] = answer
        return answer

    def _execute(self, operation: int, key: bytes, argument: Any) -> tuple[int, bytes | None]:
        before = self.store.get(key)
        if operation == Operation.READ:
            return (Outcome.DONE if before is not None else Outcome.NOT_FOUND), before
        self.store[key] = argument
        return Outcome.DONE, before if operation == Operation.WRITEREAD else None


def _port_of(socket: zmq.Socket[Any]) -> int:
    endpoint = socket.get(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    return int(endpoint.rstrip(b"\0").rsplit(b":", 1)[1])


def config_of(ports: list[int]) -> Config:
    """A cluster whose replicas take clients on these ports."""
    replicas = default_replicas(len(ports))
    for replica, port in zip(replicas, ports, strict=True):
        replica["client_port"] = port
    return make_config({"name": "fake", "replicas": replicas}, "fake.toml")
