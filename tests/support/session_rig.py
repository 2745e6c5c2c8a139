"""A client's session between a test's clock and a test's network: no socket, no waiting."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import msgpack

from epaxos.client.commands import Op
from epaxos.client.options import Options
from epaxos.client.session.core import Session
from epaxos.client.session.outbox import Outgoing
from epaxos.client.session.questions import Question
from epaxos.client.session.state import Finished
from epaxos.client.session.tickets import Ticket
from epaxos.statemachine.batch import Batch, decode_batch
from epaxos.transport.framing import ANY_CLUSTER, Kind, open_frame, seal

NAMES = ("alpha", "bravo", "charlie")


@dataclass(frozen=True)
class Sent:
    """A REQUEST frame on its way to a replica."""

    replica: int
    batch: Batch

    @property
    def numbers(self) -> range:
        return range(self.batch.first, self.batch.first + len(self.batch))


class Rig:
    """A session of a cluster of `replicas`; `now` is its time in seconds.

    `sent` collects the batches and `asked` the status questions that left and that the test has not looked at.
    """

    def __init__(
        self,
        replicas: int = 3,
        *,
        up: bool = True,
        tries: int = 3,
        timeout: float = 2.0,
        max_batch: int = 1000,
        max_frame: int = 2**20,
        window: int = 64,
        cluster: int = ANY_CLUSTER,
        generation: int | None = 0,
    ) -> None:
        self.options = Options(
            NAMES[:replicas],
            tuple(f"tcp://127.0.0.1:{4264 + row}" for row in range(replicas)),
            tuple(range(replicas)),
            cluster=cluster,
            max_batch=max_batch,
            max_frame=max_frame,
            timeout=timeout,
            tries=tries,
            window=window,
        )
        self.session: Session[Any] = Session(self.options, Random(1), generation)
        self.now = 100.0
        self.opened: list[int] = []
        self.sent: list[Sent] = []
        self.asked: list[tuple[int, int, bool]] = []
        self.greeted: list[tuple[int, int]] = []
        if up:
            for row in range(replicas):
                self.session.rise(row)

    def put(self, key: bytes = b"key", value: bytes = b"value", timeout: float | None = None) -> Ticket[Any]:
        return self.session.submit(Op.put(key, value), self.now, timeout)

    def puts(self, count: int, timeout: float | None = None) -> Ticket[Any]:
        """Many commands as columns."""
        keys = [b"key%d" % index for index in range(count)]
        return self.session.submit_columns(b"\x02" * count, keys, keys, self.now, timeout)

    def outgoing(self) -> list[Outgoing[Any]]:
        """What the session would have sent now; connections asked for are noted."""
        self.session.expire(self.now)
        outgoing = self.session.outgoing(self.now)
        self.opened += self.session.take_opens()
        return outgoing

    def turn(self) -> list[Sent]:
        """Let the session do what it would do now; returns the batches that it sent."""
        new = []
        for replica, frame, _ in self.outgoing():
            kind, _, body, _ = open_frame(frame, ANY_CLUSTER, self.options.max_frame)
            if kind == Kind.STATUS:
                number, question = msgpack.unpackb(body)
                if question.get("brief"):
                    self.greeted.append((replica, number))
                else:
                    self.asked.append((replica, number, question["digest"]))
            else:
                assert kind == Kind.REQUEST
                new.append(Sent(replica, decode_batch(body)))
        self.sent += new
        return new

    def only(self) -> Sent:
        """The one batch that the session sends now."""
        (sent,) = self.turn()
        return sent

    def later(self, seconds: float) -> list[Sent]:
        """Let time pass, and the session do what is due then."""
        self.now += seconds
        return self.turn()

    def until_next_event(self) -> list[Sent]:
        """Sleep as long as the session allows."""
        self.now = max(self.now, self.session.next_event())
        return self.turn()

    def finished(self) -> list[Finished[Any]]:
        return self.session.take_finished()

    def receive(self, replica: int, kind: Kind, *fields: object, cluster: int = ANY_CLUSTER) -> None:
        self.session.receive(replica, seal(kind, cluster, msgpack.packb(fields)), self.now)

    def reply(self, sent: Sent, values: list[object] | None = None, outcomes: bytes | None = None) -> None:
        batch = sent.batch
        outcomes = bytes(len(batch)) if outcomes is None else outcomes
        self.receive(
            sent.replica, Kind.REPLY, [batch.client], [batch.first], [len(outcomes)], outcomes, values
        )

    def busy(self, sent: Sent) -> None:
        batch = sent.batch
        self.receive(sent.replica, Kind.BUSY, batch.client, batch.first, len(batch))

    def away(self, sent: Sent, reason: str) -> None:
        batch = sent.batch
        self.receive(sent.replica, Kind.AWAY, batch.client, batch.first, len(batch), reason)

    def refuse(self, sent: Sent, index: int, text: str = "no") -> None:
        batch = sent.batch
        self.receive(sent.replica, Kind.REFUSED, batch.client, batch.first, len(batch), index, text)

    def ask(self, replica: int | None = None, *, digest: bool = False) -> Question[Any]:
        return self.session.ask_status(replica, self.now, {"digest": digest})
