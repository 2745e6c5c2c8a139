"""Reads that are none of the log, at the clients' side of a replica."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import msgpack

from epaxos.actors.reads import Reads
from epaxos.doors.gate import Asked, Gate, LocalClient, Unanswered
from epaxos.statemachine.batch import Batch, encode_batch
from epaxos.statemachine.columns import Argument
from epaxos.statemachine.operations import Operation, Outcome
from epaxos.statemachine.reading import Reading
from epaxos.statemachine.results import BatchResult, Value
from epaxos.statemachine.sessions import WINDOW
from epaxos.transport.framing import Kind
from front import Front

READ = int(Operation.READ)


def ask(front: Front, readings: Sequence[int], first: int = 1) -> None:
    keys = [b"k%d" % index for index in range(first, first + len(readings))]
    operations = bytes((READ,)) * len(readings)
    front.take(Kind.REQUEST, encode_batch(7, first, first, operations, keys, list(readings)))


def look(batch: Batch) -> BatchResult:
    """What reads find: of each its key, and nothing under k9."""
    values = [None if key == b"k9" else key for key in batch.keys]
    outcomes = bytes(Outcome.NOT_FOUND if value is None else Outcome.DONE for value in values)
    return BatchResult(batch.client, batch.first, outcomes, list(values))


def traced(begin: Callable[[], Batch]) -> tuple[Batch, int]:
    """What it returns, and how many lines of Python that takes, each turn of a loop counted."""
    lines = count()

    def trace(*_: object) -> Any:
        next(lines)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        batch = begin()
    finally:
        sys.settrace(before)
    return batch, next(lines)


def test_all_that_waits_is_asked_about_together_and_each_frame_is_answered() -> None:
    front = Front()
    ask(front, [1, 1])
    ask(front, [1], 9)
    [read] = front.clients.reads.questions()
    assert sorted(read.keys) == [b"k1", b"k2", b"k9"]
    assert not list(front.clients.reads.questions())
    assert not front.clients.to_propose
    front.clients.read([read.number], look, 1.0)
    [(_, kind, body)] = front.sent
    assert kind == Kind.REPLY
    assert sorted(zip(body[1], body[2], strict=True)) == [(1, 2), (9, 1)]
    assert front.clients.answers.waiting == 0


def test_what_comes_later_needs_the_next_question() -> None:
    front = Front()
    ask(front, [1])
    [first] = front.clients.reads.questions()
    ask(front, [1], 2)
    [second] = front.clients.reads.questions()
    assert (first.number, first.keys, second.keys) != (second.number, second.keys, first.keys)
    front.clients.read([first.number], look, 1.0)
    assert [body[1] for _, _, body in front.sent] == [[1]]


def test_a_retry_adds_no_question() -> None:
    front = Front()
    ask(front, [1])
    list(front.clients.reads.questions())
    ask(front, [1])
    assert not list(front.clients.reads.questions())


def test_local_reads_tell_how_far_the_replica_is_behind_if_they_are_asked_to() -> None:
    front = Front()
    ask(front, [Reading.LOCAL, Reading.BEHIND])
    assert not list(front.clients.reads.questions())
    front.clients.read_here(look, lambda: 5, lambda: None, 1.0)
    [(_, kind, body)] = front.sent
    assert (kind, body[3:]) == (Kind.REPLY, [b"\0\0", [b"k1", [b"k2", 5]]])


def test_what_comes_to_nothing_is_proposed_in_a_session_of_the_replica_itself() -> None:
    """Under the client's numbers its sessions would have a gap for each read that was answered otherwise."""
    front = Front()
    ask(front, [1])
    ask(front, [Reading.LOCAL], 2)
    [read] = front.clients.reads.questions()
    front.clients.into_log(front.clients.reads.take([read.number]), 1.0)
    front.clients.read_here(None, lambda: None, lambda: None, 1.0)
    batches = front.clients.take_batches()
    assert [batch.arguments for batch in batches] == [None, None]
    assert [batch.first for batch in batches] == [1, 2]
    assert 7 not in {batch.client for batch in batches}
    front.clients.answers.tell(map(look, batches))
    front.clients.answers.flush(1.0)
    [(_, kind, body)] = front.sent
    assert (kind, body[0], body[1], body[4]) == (Kind.REPLY, [7, 7], [1, 2], [b"k1", b"k2"])


def test_a_session_that_has_ended_makes_the_client_ask_again() -> None:
    front = Front()
    ask(front, [1])
    [read] = front.clients.reads.questions()
    front.clients.into_log(front.clients.reads.take([read.number]), 1.0)
    [batch] = front.clients.take_batches()
    front.clients.answers.tell([BatchResult(batch.client, batch.first, bytes([Outcome.EXPIRED]), None)])
    front.clients.answers.flush(1.0)
    assert front.sent[0][2][3] == bytes([Outcome.UNTOLD])
    assert front.clients.reads.renamed(batch).client != batch.client


def test_what_has_failed_is_told_without_how_far_the_replica_is_behind() -> None:
    front = Front()
    ask(front, [Reading.BEHIND])
    lock: list[Value] = [[b"record", [[b"east", 0]]]]
    front.clients.read_here(
        lambda batch: BatchResult(batch.client, batch.first, bytes([Outcome.LOCKED]), lock),
        lambda: 5,
        lambda: None,
        1.0,
    )
    assert front.sent[0][2][3:] == [bytes([Outcome.LOCKED]), lock]


def test_peers_take_a_question_whatever_the_largest_frame_is() -> None:
    front = Front(max_frame=2000)
    for first in range(1, 2000, 100):
        ask(front, [1] * 100, first)
    sizes = [len(msgpack.packb([0, read.keys])) for read in front.clients.reads.questions()]
    assert len(sizes) > 1
    assert max(sizes) <= 2 * front.config.max_frame


def test_each_read_that_goes_to_the_log_tells_the_first_that_has_no_answer() -> None:
    reads = Reads(2**20)
    batch = Batch(7, 1, 1, bytes((READ,)), [b"k"], None)
    first, *others = [reads.renamed(batch) for _ in range(100)]
    assert {other.acked for other in others} == {first.first}
    late, steps = traced(lambda: reads.renamed(batch))
    assert (late.acked, steps < 40) == (first.first, True)  # it does not look at all before it
    reads.restored(look(first))
    assert reads.renamed(batch).acked == first.first + 1


def test_a_session_of_reads_that_has_ended_ends_no_later_one() -> None:
    reads = Reads(2**20)
    batch = Batch(7, 1, 1, bytes((READ,)), [b"k"], None)
    old = reads.renamed(batch)
    reads.generation = WINDOW
    new = reads.renamed(batch)
    for late, follows in ((old, True), (new, False)):
        ended = BatchResult(late.client, late.first, bytes([Outcome.EXPIRED]), None)
        assert reads.restored(ended).outcomes == bytes([Outcome.UNTOLD])
        assert (reads.renamed(batch).client == new.client) is follows


def test_such_a_frame_holds_nothing_else() -> None:
    front = Front()
    front.take(Kind.REQUEST, encode_batch(7, 1, 1, bytes((READ, READ)), [b"k", b"k"], [1, None]))
    [(_, kind, body)] = front.sent
    assert (kind, body[3]) == (Kind.REFUSED, 1)
    assert front.clients.answers.waiting == 0


def test_a_replica_that_takes_nothing_does_not_tell_a_door_what_stands_here() -> None:
    """It starts, and lacks what was decided meanwhile; or its disk has failed, and what stands here stands still."""
    gate = Gate()
    client = gate.open(lambda: None)
    front = Front(gate=gate)
    front.clients.away = "its disk failed"
    client.ask(Asked(1, bytes((READ,)), [b"k"], None, 10, here=True))
    front.clients.take_local(0, lambda _: b"old", 0.0)
    assert list(client.take()) == [Unanswered(1, "its disk failed")]


def test_reads_of_a_door_have_numbers_of_their_own() -> None:
    client = LocalClient(Gate(), lambda: None)
    given: list[list[Argument] | None] = [[1], None, [1], None]
    for ticket, arguments in enumerate(given):
        client.ask(Asked(ticket, bytes((READ,)), [b"k"], arguments, 1))
    batches = [client.begin(0) for _ in range(4)]
    assert [batch.first for batch in batches] == [1, 1, 2, 2]
    assert len({batch.client for batch in batches}) == 2


def test_a_command_of_a_door_costs_nothing_for_the_reads_that_are_open_there() -> None:
    client = LocalClient(Gate(), lambda: None)
    for ticket in range(100):
        client.ask(Asked(ticket, bytes((READ,)), [b"k"], [1], 1))
        client.begin(0)
    client.ask(Asked(100, bytes((READ,)), [b"k"], None, 1))
    batch, steps = traced(lambda: client.begin(0))
    assert (batch.acked, steps < 40) == (1, True)
