"""Replicas without consensus, for tests of clients: one state machine behind several sockets, obedient to tests.

Every replica is a thread with a ROUTER socket. Like real ones they execute a command once, whichever of them
gets it; unlike them they can be told to keep silent, to be slow, busy or choosy, to die and to come back.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from math import ceil
from time import monotonic, sleep
from typing import Self

import msgpack
import zmq

from epaxos.config import Config, default_replicas, make_config
from epaxos.errors import CommandError, FrameError
from epaxos.statemachine.batch import Batch, Limits, decode_batch, make_payload
from epaxos.statemachine.checks import check_batch
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.operations import Operation
from epaxos.statemachine.results import BatchResult
from epaxos.transport.framing import Kind, open_frame, seal

MAX_FRAME = 2**25


class Act(Enum):
    """What a replica does with a batch."""

    ANSWER = "execute it and answer"
    MUTE = "execute it without an answer"
    IGNORE = "take no notice of it"
    BUSY = "answer busy"


@dataclass
class State:
    """What the replicas have in common."""

    machine: StateMachine = field(default_factory=lambda: StateMachine(Limits(), sleep))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def execute(self, batch: Batch) -> BatchResult:
        with self.lock:
            return self.machine.apply(make_payload([batch]))[0]


class StubReplica(threading.Thread):
    """One replica; `behave` says what to do with each batch, `delay` how long an answer takes (seconds).

    `batches` are those that it got, in order; `noise` is sent to whom it answers before the answer.
    """

    def __init__(self, name: str, cluster: int, state: State, port: int | None = None) -> None:
        super().__init__(daemon=True)
        self.behave: Callable[[Batch], Act] = lambda _: Act.ANSWER
        self.delay = 0.0
        self.noise: Sequence[bytes] = ()
        self.batches: list[Batch] = []
        self._name = name
        self._cluster = cluster
        self._state = state
        self._late: list[tuple[float, bytes, bytes]] = []
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.LINGER, 0)
        self._router.bind(f"tcp://127.0.0.1:{port or '*'}")
        endpoint: bytes = self._router.getsockopt(zmq.LAST_ENDPOINT)  # type: ignore[assignment]
        self.port = int(endpoint.rstrip(b"\0").rpartition(b":")[2])
        self._stop_reader, self._stop_writer = os.pipe()
        self.start()

    def run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._stop_reader, zmq.POLLIN)
        while True:
            wait = ceil(max(0.0, self._late[0][0] - monotonic()) * 1000) if self._late else None
            events = dict(poller.poll(wait))
            if self._stop_reader in events:
                break
            while self._late and self._late[0][0] <= monotonic():
                _, sender, answer = self._late.pop(0)
                self._router.send_multipart((sender, answer))
            if self._router in events:
                sender, *frames = self._router.recv_multipart()
                for frame in frames:
                    self._take(sender, frame)
        self._context.destroy(linger=0)

    def stop(self) -> None:
        """Be gone, with all connections; returns when that is so."""
        os.write(self._stop_writer, b"\0")
        self.join()
        os.close(self._stop_reader)
        os.close(self._stop_writer)

    def _take(self, sender: bytes, message: bytes) -> None:
        try:
            frame = open_frame(message, self._cluster, MAX_FRAME)
        except FrameError as error:
            self._answer(sender, Kind.REFUSED, 0, 0, 0, -1, str(error))
            return
        if frame.kind == Kind.STATUS:
            number, question = msgpack.unpackb(frame.body)
            told = {"generation": 0} if question.get("brief") else {"name": self._name, "asked": question}
            self._answer(sender, Kind.STATUS_REPLY, number, told)
        else:
            self._take_batch(sender, decode_batch(frame.body))

    def _take_batch(self, sender: bytes, batch: Batch) -> None:
        self.batches.append(batch)
        act = self.behave(batch)
        if act is Act.BUSY:
            self._answer(sender, Kind.BUSY, batch.client, batch.first, len(batch))
        if act is Act.BUSY or act is Act.IGNORE:
            return
        try:
            check_batch(batch, Limits())
        except CommandError as error:
            head = (batch.client, batch.first, len(batch))
            self._answer(sender, Kind.REFUSED, *head, error.index, str(error))
            return
        result = self._state.execute(batch)
        if act is Act.ANSWER:
            names = [result.client], [result.first], [len(result.outcomes)]
            self._answer(sender, Kind.REPLY, *names, result.outcomes, result.values)

    def _answer(self, sender: bytes, kind: Kind, *fields: object) -> None:
        for frame in self.noise:
            self._router.send_multipart((sender, frame))
        answer = seal(kind, self._cluster, msgpack.packb(fields))
        if self.delay:
            self._late.append((monotonic() + self.delay, sender, answer))
        else:
            self._router.send_multipart((sender, answer))


class StubCluster:
    """Replicas alpha, bravo, charlie on free ports; a context manager that stops them."""

    def __init__(self, name: str = "stub") -> None:
        self.state = State()
        self._name = name
        self.config = self._configure([1, 2, 3])
        cluster = self.config.fingerprint
        names = [replica.name for replica in self.config.replicas]
        self.replicas = [StubReplica(name, cluster, self.state) for name in names]
        self.config = self._configure([replica.port for replica in self.replicas])
        assert self.config.fingerprint == cluster

    def _configure(self, ports: Sequence[int]) -> Config:
        replicas = default_replicas(len(ports))
        for replica, port in zip(replicas, ports, strict=True):
            replica["client_port"] = port
        return make_config({"name": self._name, "replicas": replicas}, "stub.toml")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for replica in self.replicas:
                if replica.is_alive():
                    stack.callback(replica.stop)

    def revive(self, row: int) -> None:
        """Start a replica again that was stopped, on its old port."""
        port = self.replicas[row].port
        self.replicas[row] = StubReplica(
            self.config.replicas[row].name, self.config.fingerprint, self.state, port
        )

    def batches(self) -> list[Batch]:
        """What all replicas got, but for the last frames of clients that ended; in order only within each."""
        return [batch for replica in self.replicas for batch in replica.batches if any(batch.operations)]

    def await_farewell(self) -> Batch:
        """The last frame of a client that has ended."""
        deadline = monotonic() + 10
        while monotonic() < deadline:
            for replica in self.replicas:
                for batch in replica.batches:
                    if not any(batch.operations):
                        return batch
            sleep(0.01)
        raise AssertionError("no client has said farewell")

    def executed(self) -> int:
        """How many commands have executed that do something."""
        return sum(self.state.machine.executed[Operation.NULL + 1 :])
