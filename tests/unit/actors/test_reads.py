"""Reads that are none of the log, at the clients' side of a replica."""

from __future__ import annotations

from collections.abc import Sequence

from epaxos.doors.gate import Asked, Gate, LocalClient
from epaxos.statemachine.batch import Argument, Batch, encode_batch
from epaxos.statemachine.operations import Operation, Outcome
from epaxos.statemachine.reading import Reading
from epaxos.statemachine.results import BatchResult
from epaxos.transport.framing import Kind
from front import Front

READ = int(Operation.READ)


def ask(front: Front, readings: Sequence[int], first: int = 1) -> None:
    count = len(readings)
    keys = [b"k%d" % index for index in range(first, first + count)]
    front.take(Kind.REQUEST, encode_batch(7, first, first, bytes((READ,)) * count, keys, list(readings)))


def look(batch: Batch) -> BatchResult:
    """What reads find: of each its key, and nothing under k9."""
    values = [None if key == b"k9" else key for key in batch.keys]
    outcomes = bytes(Outcome.NOT_FOUND if value is None else Outcome.DONE for value in values)
    return BatchResult(batch.client, batch.first, outcomes, list(values))


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
    assert front.clients.waiting == 0


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
    front.clients.read_here(look, lambda: 5, 1.0)
    [(_, kind, body)] = front.sent
    assert (kind, body[3:]) == (Kind.REPLY, [b"\0\0", [b"k1", [b"k2", 5]]])


def test_what_comes_to_nothing_is_proposed_in_a_session_of_the_replica_itself() -> None:
    """Under the client's numbers its sessions would have a gap for each read that was answered otherwise."""
    front = Front()
    ask(front, [1])
    ask(front, [Reading.LOCAL], 2)
    [read] = front.clients.reads.questions()
    front.clients.into_log(front.clients.reads.take([read.number]), 1.0)
    front.clients.read_here(None, lambda: None, 1.0)
    batches = front.clients.take_batches()
    assert [batch.arguments for batch in batches] == [None, None]
    assert [batch.first for batch in batches] == [1, 2]
    assert 7 not in {batch.client for batch in batches}
    front.clients.tell(map(look, batches))
    front.clients.flush(1.0)
    [(_, kind, body)] = front.sent
    assert (kind, body[0], body[1], body[4]) == (Kind.REPLY, [7, 7], [1, 2], [b"k1", b"k2"])


def test_a_session_that_has_ended_makes_the_client_ask_again() -> None:
    front = Front()
    ask(front, [1])
    [read] = front.clients.reads.questions()
    front.clients.into_log(front.clients.reads.take([read.number]), 1.0)
    [batch] = front.clients.take_batches()
    front.clients.tell([BatchResult(batch.client, batch.first, bytes([Outcome.EXPIRED]), None)])
    front.clients.flush(1.0)
    assert front.sent[0][2][3] == bytes([Outcome.UNTOLD])
    assert front.clients.reads.renamed(batch).client != batch.client


def test_such_a_frame_holds_nothing_else() -> None:
    front = Front()
    front.take(Kind.REQUEST, encode_batch(7, 1, 1, bytes((READ, READ)), [b"k", b"k"], [1, None]))
    [(_, kind, body)] = front.sent
    assert (kind, body[3]) == (Kind.REFUSED, 1)
    assert front.clients.waiting == 0


def test_reads_of_a_door_have_numbers_of_their_own() -> None:
    client = LocalClient(Gate(), lambda: None)
    given: list[list[Argument] | None] = [[1], None, [1], None]
    for ticket, arguments in enumerate(given):
        client.ask(Asked(ticket, bytes((READ,)), [b"k"], arguments, 1))
    batches = [client.begin(0) for _ in range(4)]
    assert [batch.first for batch in batches] == [1, 1, 2, 2]
    assert len({batch.client for batch in batches}) == 2
