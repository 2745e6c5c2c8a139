"""Protocol 7: reads by a quorum, at the replica that reads and at those that it asks."""

from __future__ import annotations

import math

import pytest

from epaxos.protocol.contract import Adopt, Effects, Hold, Read
from epaxos.protocol.epaxos.messages import Message, PreAccept
from epaxos.protocol.ids import InstanceId, Row, Vector
from epaxos.protocol.log import NOP
from epaxos.protocol.reads import Log, ReadIndex, ReadIndexOK, Reads
from harness.alone import Alone
from harness.commands import barrier, collect, flush, get, put
from harness.probe import sent_to

NONE: Vector = (-1, -1, -1)
KEY = b"k"
FIRST, SECOND, OTHER = InstanceId(1, 0), InstanceId(1, 1), InstanceId(2, 0)


def asked(alone: Alone, number: int = 7) -> Effects[Message]:
    return alone.take(Read(number, [KEY]))


def told(alone: Alone, *highest: int, number: int = 7, sender: int = 1) -> Effects[Message]:
    return alone.hear(sender, ReadIndexOK(number, highest))


def index(alone: Alone) -> Vector:
    """What a replica answers to a reader."""
    [answer] = sent_to(alone.hear(2, ReadIndex(1, [KEY])), 2)
    assert isinstance(answer, ReadIndexOK)
    return answer.highest


def test_the_nearest_are_asked_and_one_answer_beside_the_own_one_is_enough() -> None:
    alone = Alone()
    effects = asked(alone)
    assert effects.messages == [([1], ReadIndex(7, [KEY]))]
    assert not effects.reads
    assert told(alone, *NONE).reads == [7]


def test_five_need_two_answers_of_different_replicas_to_this_question() -> None:
    alone = Alone(5)
    none = (-1,) * 5
    asked(alone)
    assert not told(alone, *none).reads
    assert not told(alone, *none).reads
    assert not told(alone, *none, number=8, sender=2).reads
    assert told(alone, *none, sender=2).reads == [7]


def test_all_up_to_what_was_heard_of_has_to_execute() -> None:
    """B.1, a write of the key, has executed; what was proposed before it in that row has not, and may write it too."""
    alone = Alone()
    alone.learn(SECOND, put(2, KEY))
    assert alone.executed == [SECOND]
    asked(alone)
    assert not told(alone, -1, 1, -1).reads
    assert alone.learn(FIRST, put(1, KEY)).reads == [7]


def test_it_waits_also_for_what_is_not_known_here_to_write_the_key() -> None:
    alone = Alone()
    asked(alone)
    assert not told(alone, -1, 0, -1).reads
    assert not alone.learn(OTHER, put(1, b"other")).reads
    assert alone.learn(FIRST, NOP).reads == [7]


def test_what_only_an_answer_tells_of_is_recovered_here() -> None:
    alone = Alone()
    asked(alone)
    told(alone, -1, 0, -1)
    assert alone.core.status().seen == (-1, 0, -1)


def test_an_answer_tells_of_what_was_annulled_and_of_what_is_under_way() -> None:
    alone = Alone()
    alone.hear(1, PreAccept(FIRST, put(1, KEY), NONE, 0))
    assert index(alone) == (-1, 0, -1)
    alone.learn(FIRST, NOP)
    alone.hear(1, PreAccept(SECOND, get(2, KEY), NONE, 0))
    assert index(alone) == (-1, 0, -1)


def test_an_answer_tells_of_what_was_dropped() -> None:
    alone = Alone()
    alone.learn(FIRST, put(1, KEY))
    alone.checkpoint()
    assert alone.core.status().truncated == (-1, 0, -1)
    assert index(alone) == (-1, 0, -1)


@pytest.mark.parametrize(
    "command", [flush(1), collect(1, *NONE), barrier(1, *NONE)], ids=["clear", "collection", "end"]
)
def test_an_answer_tells_of_what_writes_all(command: object) -> None:
    alone = Alone()
    alone.hear(1, PreAccept(FIRST, command, NONE, 0))  # type: ignore[arg-type]  # any command
    assert index(alone) == (-1, 0, -1)


def test_nothing_is_read_while_a_checkpoint_is_merged() -> None:
    alone = Alone()
    alone.take(Hold((-1, 0, -1), ()))
    asked(alone)
    assert not told(alone, -1, 0, -1).reads
    asked(alone, 8)
    assert not told(alone, *NONE, number=8).reads
    assert alone.take(Adopt((-1, 0, -1), ())).reads == [7, 8]


def test_what_waits_as_the_epoch_ends_is_not_read_and_nothing_begins_after_it() -> None:
    """What the next epoch has decided no answer of this one tells of."""
    alone = Alone()
    asked(alone)
    told(alone, -1, 0, -1)
    effects = alone.learn(FIRST, barrier(1, *NONE), -1, -1, -1)
    assert effects.over is not None
    assert (effects.reads, effects.unread) == ([], [7])
    assert asked(alone, 8).unread == [8]
    assert not alone.hear(2, ReadIndex(1, [KEY])).messages


def test_who_is_silent_is_asked_with_all_others_and_then_the_log_is_better() -> None:
    alone = Alone()
    asked(alone)
    again = alone.pass_time(0.3)
    assert ((1, 2), ReadIndex(7, [KEY])) in [(tuple(to), message) for to, message in again.messages]
    assert not again.unread
    assert alone.pass_time(0.3).unread == [7]
    assert not told(alone, *NONE).reads


def test_what_has_not_executed_in_time_is_read_by_the_log() -> None:
    """There it waits for what writes its key alone, here for whatever else was proposed before that too."""
    alone = Alone()
    asked(alone)
    told(alone, -1, 0, -1)
    again = alone.pass_time(0.3)
    assert not again.unread
    assert not [message for _, message in again.messages if isinstance(message, ReadIndex)]
    assert alone.pass_time(0.3).unread == [7]


def test_who_was_silent_is_asked_along_and_waited_for_again_once_it_answers() -> None:
    alone = Alone()
    asked(alone)
    alone.pass_time(0.3)
    assert told(alone, *NONE, sender=2).reads == [7]
    assert asked(alone, 8).messages == [([2, 1], ReadIndex(8, [KEY]))]
    assert told(alone, *NONE, number=8, sender=2).reads == [8]
    told(alone, *NONE, number=8, sender=1)
    assert asked(alone, 9).messages == [([1], ReadIndex(9, [KEY]))]


class Stub:
    """A host of which nothing is told to anybody, and a log that counts how often it is looked at."""

    def __init__(self) -> None:
        self.me, self.now = 0, 0.0
        self.peers: tuple[Row, ...] = (1, 2)
        self.online = {1, 2}
        self.effects: Effects[Message] = Effects()
        self.executed: Vector = NONE
        self.looks = 0
        log = Log(lambda _: (5, 5, 5), self._look, lambda _: None, lambda: (1, 2), lambda: 0.2)
        self.reads = Reads(self, 1, log)

    def _look(self) -> Vector:
        self.looks += 1
        return self.executed

    def send(self, receivers: object, message: object) -> None: ...

    def cover(self, case: str) -> None: ...


def test_what_waits_costs_nothing_while_nothing_executes() -> None:
    stub = Stub()
    for number in range(100):
        stub.now = number / 1000
        stub.reads.ask(Read(number, [KEY]))
        stub.reads.on_read_index_ok(1, ReadIndexOK(number, (5, 5, 5)))
    stub.reads.settle()
    stub.looks = 0
    for _ in range(10):
        stub.reads.settle()
    assert stub.looks == 10
    assert stub.reads.deadline == 0.2
    stub.executed = (5, 5, 5)
    stub.reads.settle()
    assert stub.effects.reads == list(range(100))
    assert stub.reads.deadline == math.inf


def test_one_replica_reads_by_itself() -> None:
    assert asked(Alone(1)).reads == [7]
