from __future__ import annotations

from collections import Counter
from math import inf
from random import Random
from typing import Any
from unittest.mock import Mock

import msgpack
import pytest
import zmq

from epaxos import version
from epaxos.actors.answers import PATIENCE, TOLD_AT_A_TIME, StatusRequest
from epaxos.actors.clients import MOST_PARTS
from epaxos.actors.company import ENOUGH, LEAST
from epaxos.errors import TooNew
from epaxos.security.rights import Rights, Role
from epaxos.statemachine.batch import Batch, Limits, encode_batch, make_payload
from epaxos.statemachine.operations import Operation, Outcome
from epaxos.transport.framing import Kind, seal
from front import Front
from fuzz.hostile import Forge

LIMITS = Limits(16, 32, 100)
DONE = bytes((Outcome.DONE,))


def test_request_is_proposed_and_answered() -> None:
    front = Front()
    front.request(1, 3)
    assert front.clients.answers.waiting == 3
    assert front.proposed() == [[(1, 3)]]
    front.execute(1, 3)
    assert front.sent == [(b"one", Kind.REPLY, [[7], [1], [3], DONE * 3, None])]
    assert front.clients.answers.waiting == 0
    assert front.stats.execution_latency.sum == 3.0  # one second each


def test_the_frames_of_a_message_are_taken_each_by_itself() -> None:
    front = Front()
    good = [encode_batch(client, 1, 1, b"\x02", [b"key"], [b"value"]) for client in (7, 8)]
    bodies = [(Kind.REQUEST, good[0]), (Kind.REQUEST, b"\xc1"), (Kind.STATUS, msgpack.packb((42, {})))]
    parts = [seal(kind, front.config.fingerprint, body) for kind, body in [*bodies, (Kind.REQUEST, good[1])]]
    assert front.clients.open(b"one", list(map(zmq.Frame, parts)), 0.0) == [StatusRequest(b"one", 42, {})]
    assert [kind for _, kind, _ in front.sent] == [Kind.REFUSED]
    assert front.clients.answers.waiting == 2
    front.execute(1)
    front.execute(1, client=8)
    assert [fields[0] for _, kind, fields in front.sent if kind == Kind.REPLY] == [[7], [8]]


def test_what_nobody_waits_for_here_is_not_answered() -> None:
    front = Front()
    front.execute(1, 3)
    assert front.sent == []
    assert front.clients.answers.waiting == 0


def test_a_list_is_awaited_where_it_was_asked_for() -> None:
    asked, elsewhere = Front(), Front()
    columns = b"\x16", [b""], None
    asked.take(Kind.REQUEST, encode_batch(7, 1, 1, *columns))
    elsewhere.request(1)
    payload = make_payload(asked.clients.take_batches())
    assert asked.clients.answers.await_list(payload)
    assert not elsewhere.clients.answers.await_list(make_payload([Batch(7, 5, 0, *columns)]))
    assert not elsewhere.clients.answers.await_list(make_payload(elsewhere.clients.take_batches()))
    assert payload.operations[0] == Operation.COUNT


def test_retry_under_way_is_not_proposed_again_and_says_where_the_answer_goes() -> None:
    front = Front()
    front.request(1, 2, identity=b"before")
    front.request(1, 2, identity=b"after")
    assert front.clients.answers.waiting == 2
    assert front.proposed() == [[(1, 2)]]
    front.execute(1, 2)
    assert [identity for identity, *_ in front.sent] == [b"after"]


def test_retry_of_an_answered_frame_is_proposed_again() -> None:
    """The answer may have been lost; the session sees to it that nothing executes twice."""
    front = Front()
    front.request(1)
    front.proposed()
    front.execute(1)
    front.request(1)
    assert front.proposed() == [[(1, 1)]]


@pytest.mark.parametrize("counts", [(3, 1), (1, 3)], ids=["shorter", "longer"])
def test_regrouped_retry_executed_elsewhere_leaves_nothing_waiting(counts: tuple[int, int]) -> None:
    """A client may send a number again in other company; another replica's instance brings that result here."""
    here, elsewhere = counts
    front = Front()
    front.request(1, here)
    front.proposed()
    front.execute(1, elsewhere)
    front.execute(1, here)
    assert front.clients.answers.waiting == 0
    assert (b"one", Kind.REPLY, [[7], [1], [here], DONE * here, None]) in front.sent


def test_longer_retry_while_the_shorter_frame_is_under_way() -> None:
    front = Front()
    front.request(1, 2)
    front.request(1, 5)
    assert sum(count for instance in front.proposed() for _, count in instance) >= 5


def test_sessions_with_equal_numbers_are_told_apart() -> None:
    front = Front()
    front.request(1, client=7, identity=b"seven")
    front.request(1, client=8, identity=b"eight")
    front.execute(1, client=8)
    assert front.sent == [(b"eight", Kind.REPLY, [[8], [1], [1], DONE, None])]


def test_instance_takes_all_that_fits() -> None:
    front = Front(max_batch=10)
    for first in range(1, 13, 4):
        front.request(first, 4)
    assert front.proposed() == [[(1, 4), (5, 4)], [(9, 4)]]


def test_frame_larger_than_a_batch_is_not_split() -> None:
    front = Front(max_batch=2)
    front.request(1, 5)
    assert front.proposed() == [[(1, 5)]]


def test_instance_of_large_values_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epaxos.actors.clients.BATCH_BYTES", 50)
    front = Front()
    for first in range(1, 5):
        front.request(first)
    assert all(len(instance) < 4 for instance in front.proposed())


# -- without aggregation -----------------------------------------------------------------------------------


def test_without_aggregation_every_command_is_an_instance_and_the_answer_one_frame() -> None:
    front = Front(aggregate=False)
    front.request(5, 3)
    assert front.proposed() == [[(5, 1)], [(6, 1)], [(7, 1)]]
    for first in (6, 7, 5):  # in any order
        assert front.sent == []
        front.execute(first, values=[b"%d" % first])
    assert front.sent == [(b"one", Kind.REPLY, [[7], [5], [3], DONE * 3, [b"5", b"6", b"7"]])]
    assert front.clients.answers.waiting == 0


def test_without_aggregation_a_retry_under_way_is_not_proposed_again() -> None:
    front = Front(aggregate=False)
    front.request(5, 3, identity=b"before")
    front.proposed()
    front.execute(5)
    front.request(5, 3, identity=b"after")
    assert front.proposed() == []
    front.execute(7)
    front.execute(6)
    assert [(identity, body[1]) for identity, _, body in front.sent] == [(b"after", [5])]


def test_without_aggregation_a_regrouped_retry_is_answered_and_leaves_nothing_waiting() -> None:
    front = Front(aggregate=False)
    front.request(5, 3)
    front.request(6, 4)
    assert sorted(front.proposed()) == [[(first, 1)] for first in range(5, 10)]
    for first in range(5, 10):
        front.execute(first)
    assert [(body[1], body[2]) for _, _, body in front.sent] == [([5], [3]), ([6], [4])]
    assert front.clients.answers.waiting == 0


def test_without_aggregation_values_are_left_out_where_there_are_none() -> None:
    front = Front(aggregate=False)
    front.request(1, 2)
    front.execute(1)
    front.execute(2)
    assert front.sent == [(b"one", Kind.REPLY, [[7], [1], [2], DONE * 2, None])]


# -- busy and refused --------------------------------------------------------------------------------------


def test_busy_when_too_much_is_pending() -> None:
    front = Front(max_pending=4)
    front.request(1, 3)
    front.request(4, 2)
    assert front.sent == [(b"one", Kind.BUSY, [7, 4, 2])]
    assert front.clients.answers.waiting == 3
    assert front.stats.errors["busy"] == 1
    front.request(1, 3)  # a retry of what is under way asks for no room
    front.request(4, 1)
    assert len(front.sent) == 1
    front.proposed()
    front.execute(1, 3)
    front.request(5, 2)
    assert front.stats.errors["busy"] == 1


def test_who_waits_for_long_is_told_again_and_again_that_it_is_under_way() -> None:
    front = Front()
    front.request(1, 2)
    front.request(1, 3, client=8)
    front.request(3, 1, identity=b"two")
    front.clients.answers.reassure(PATIENCE / 2, 0)
    assert not front.sent, "it has not waited for long"
    front.clients.answers.reassure(PATIENCE, 0)
    both = [(b"one", Kind.TAKEN, [[7, 8], [1, 1], [2, 3]]), (b"two", Kind.TAKEN, [[7], [3], [1]])]
    assert front.sent == both
    front.clients.answers.reassure(PATIENCE * 1.5, 0)
    assert front.sent == both, "it has just been told"
    front.proposed()
    front.execute(1, 2)
    del front.sent[:]
    front.clients.answers.reassure(PATIENCE * 2, 0)
    assert front.sent == [(b"one", Kind.TAKEN, [[8], [1], [3]]), both[1]]


def test_what_came_while_the_replica_was_at_work_has_waited_too() -> None:
    front = Front()
    front.request(1)
    front.clients.answers.reassure(0.0, PATIENCE / 2)
    assert not front.sent
    front.clients.answers.reassure(0.0, PATIENCE)
    assert front.sent == [(b"one", Kind.TAKEN, [[7], [1], [1]])]


def test_of_very_many_that_wait_those_told_longest_ago_are_told_first() -> None:
    front = Front()
    for first in range(1, TOLD_AT_A_TIME + 2):
        front.request(first)
    told = []
    for now in (1, 2):
        front.clients.answers.reassure(now * PATIENCE, 0)
        told += front.sent.pop()[2][1]
    assert told[: TOLD_AT_A_TIME + 1] == list(range(1, TOLD_AT_A_TIME + 2))


def test_who_comes_to_a_replica_that_stops_is_sent_away_and_who_waits_is_told_and_answered() -> None:
    front = Front()
    front.request(1, 2)
    front.clients.send_away("it is stopping")
    assert front.sent == [(b"one", Kind.AWAY, [7, 0, 0, "it is stopping"])]
    front.request(3, 1)
    assert front.sent[1:] == [(b"one", Kind.AWAY, [7, 3, 1, "it is stopping"])]
    front.request(1, 2, identity=b"again")  # a retry of what is under way
    front.proposed()
    front.execute(1, 2)
    assert front.sent[2:] == [(b"again", Kind.REPLY, [[7], [1], [2], DONE * 2, None])]
    assert front.clients.answers.waiting == 0


def test_who_waits_for_a_replica_that_gives_up_is_sent_away_at_once_and_when_it_asks_again() -> None:
    front = Front()
    front.request(1, 2)
    front.proposed()
    front.clients.give_up("its disk failed")
    front.request(1, 2)
    told = [[7, 0, -1, "its disk failed"], [7, 1, 2, "its disk failed"]]
    assert front.sent == [(b"one", Kind.AWAY, fields) for fields in told]
    assert front.clients.answers.waiting == 0
    assert not front.clients.to_propose


def test_what_has_been_given_up_takes_no_room_where_the_replica_has_a_vote_again() -> None:
    front = Front(lambda _: 7_900_000, max_frame=1_000_000)
    front.request(1)
    front.clients.give_up("it has no vote in this cluster")
    front.clients.away = None
    front.request(2)
    assert front.proposed() == [[(2, 1)]]


@pytest.mark.parametrize(
    ("operation", "key", "argument", "text"),
    [
        (77, b"key", None, "unknown operation 77"),
        (Operation.WRITE, b"k" * 17, b"value", "key of 17 bytes; at most 16 are allowed"),
        (Operation.WRITE, b"key", b"v" * 33, "value of 33 bytes; at most 32 are allowed"),
        (Operation.INCREMENT, b"key", b"1", "INCREMENT needs an integer"),
        (Operation.PAUSE, b"", 101, "PAUSE in milliseconds needs an integer from 0 to 100"),
    ],
)
def test_refused_command_is_named_and_nothing_of_its_frame_is_taken(
    operation: int, key: bytes, argument: object, text: str
) -> None:
    front = Front()
    body = encode_batch(7, 5, 1, bytes((2, operation)), [b"key", key], [b"value", argument])  # type: ignore[list-item]
    front.take(Kind.REQUEST, body)
    [(identity, kind, (*numbers, said))] = front.sent
    assert (identity, kind, numbers) == (b"one", Kind.REFUSED, [7, 5, 2, 1])
    assert said.startswith(text)
    assert front.proposed() == []
    assert front.clients.answers.waiting == 0
    assert front.stats.errors["refused"] == 1


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ([seal(Kind.REQUEST, 0, b"")] * (MOST_PARTS + 1), "malformed"),
        ([b"EP"], "malformed"),
        ([seal(Kind.REQUEST, 0, b"\xc1")], "malformed"),
        ([seal(Kind.STATUS, 0, b"\xc1")], "malformed"),
        ([seal(Kind.STATUS, 0, msgpack.packb((1.5, {})))], "malformed"),
        ([seal(Kind.REPLY, 0, b"")], "unknown"),
        ([seal(Kind.PEER, 0, b"")], "unknown"),
        ([seal(99, 0, b"")], "unknown"),
        ([seal(Kind.REQUEST, 1, b"")], "cluster"),
        ([seal(Kind.REQUEST, 0, b"")[:-1] + b"x"], "checksum"),
        ([bytes(20_000)], "oversized"),
    ],
)
def test_bad_frame_is_counted_and_answered_with_the_reason(parts: list[bytes], kind: str) -> None:
    front = Front(max_frame=16_384)
    assert not front.clients.open(b"one", list(map(zmq.Frame, parts)), 0.0)
    [(identity, answer, (*numbers, text))] = front.sent
    assert (identity, answer, numbers) == (b"one", Kind.REFUSED, [0, 0, 0, -1])
    assert text
    assert {name: count for name, count in front.stats.errors.items() if count} == {kind: 1}


def test_each_kind_of_refusal_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    front = Front()
    for _ in range(3):
        front.clients.open(b"one", [zmq.Frame(b"nonsense")], 0.0)
        front.clients.open(b"one", [zmq.Frame(seal(99, 0, b""))], 0.0)
    assert len(caplog.records) == 2


def test_what_a_stranger_calls_things_is_told_in_a_short_line_that_can_be_printed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    front = Front()
    front.clients.rights = lambda _: Rights("web", Role.READ)
    verb = "\x1b[2J\x07" + "A" * 100_000
    fields = {"verb": verb, "base": 0, "request": 1, "dry_run": True, "f": None, "e": None}
    fields |= {"add": [], "remove": [], "protocol": None}
    assert front.take(Kind.ADMIN, msgpack.packb((1, fields))) is None
    told = [record.getMessage() for record in caplog.records] + [front.sent[0][2][1]["text"]]
    assert len(told) == 2
    assert all(text.isprintable() and len(text) < 1000 for text in told)


# -- status ------------------------------------------------------------------------------------------------


def test_question_for_the_status_is_handed_back_and_answered() -> None:
    front = Front()
    question = front.take(Kind.STATUS, msgpack.packb((42, {"digest": True})))
    assert question == StatusRequest(b"one", 42, {"digest": True})
    front.clients.answers.answer_status(question, {"name": "alpha"})
    assert front.sent == [(b"one", Kind.STATUS_REPLY, [42, {"name": "alpha"}])]


@pytest.mark.parametrize("seed", range(3))
def test_forged_frames_are_counted_as_the_forge_says(seed: int) -> None:
    """tools/fuzz compares what live replicas count with what the forge expects; here both are alone."""
    front = Front()
    forge = Forge(front.config, 0, None, Random(seed))
    expected = Counter[str]()
    for number in range(500):
        hostile = forge.client_frame()
        expected.update(hostile.kinds)
        assert not front.clients.open(b"one", list(map(zmq.Frame, hostile.parts)), 0.0)
        assert len(front.sent) == number + 1
    assert {kind for _, kind, _ in front.sent} == {Kind.REFUSED}
    assert +Counter(front.stats.errors) == expected
    assert set(expected) == {"malformed", "checksum", "version", "cluster", "unknown", "refused"}
    assert front.proposed() == []


def test_a_frame_of_a_session_that_has_ended_is_not_taken() -> None:
    front = Front()
    front.over.add(7)
    front.request(5, 2)
    front.request(1, client=8)
    assert front.sent == [(b"one", Kind.OVER, [7, 5, 2, 30])]
    assert front.proposed() == [[(1, 1)]]
    assert front.stats.errors["over"] == 1


def test_a_few_commands_wait_a_moment_for_others_while_something_is_under_way() -> None:
    front = Front()
    assert front.clients.due(alone=True) == front.clients.due(alone=False) == inf
    front.request(1)
    assert front.clients.due(alone=True) == 0.0
    assert front.clients.due(alone=False) == LEAST  # after its arrival, at 0.0
    for first in range(2, ENOUGH):
        front.request(first)
    assert front.clients.due(alone=False) == LEAST
    front.request(ENOUGH)
    assert front.clients.due(alone=False) == 0.0
    front.proposed()
    assert front.clients.due(alone=False) == inf
    front.request(ENOUGH + 1)
    assert front.clients.due(alone=False) == LEAST
    front.execute(ENOUGH + 1)  # by another replica's instance
    assert front.clients.due(alone=False) == inf
    front.request(ENOUGH + 2)
    assert front.clients.due(alone=False) == LEAST


@pytest.mark.parametrize(("changes", "enough"), [({"max_batch": 3}, 3), ({"aggregate": False}, 1)])
def test_no_more_commands_wait_for_others_than_an_instance_takes(
    changes: dict[str, Any], enough: int
) -> None:
    front = Front(**changes)
    for first in range(1, enough):
        front.request(first)
        assert front.clients.due(alone=False) == LEAST
    front.request(enough)
    assert front.clients.due(alone=False) == 0.0


def test_what_a_check_puts_beside_commands_counts_for_the_room_of_an_instance_and_of_memory() -> None:
    front = Front(lambda _: 500_000, max_frame=1_000_000)
    for first in range(1, 20):
        front.request(first)
    assert front.stats.errors["busy"] == 4
    assert front.proposed() == [[(first, 1)] for first in range(1, 16)]


def test_an_instance_is_never_larger_than_a_frame() -> None:
    size = len(encode_batch(7, 1, 1, b"\x02", [b"key"], [b"value"]))
    front = Front(max_frame=4 * size - 1)
    for first in range(1, 8):
        front.request(first)
    assert front.proposed() == [[(1, 1), (2, 1), (3, 1)], [(4, 1), (5, 1), (6, 1)], [(7, 1)]]


def test_without_room_on_the_disk_a_retry_of_what_has_executed_is_taken() -> None:
    front = Front()
    front.clients.full, front.clients.knows = "its disk is full", lambda batch: batch.first == 1
    front.request(1)
    front.request(2)
    assert front.proposed() == [[(1, 1)]]
    assert [kind for _, kind, _ in front.sent] == [Kind.AWAY]


def test_what_a_replica_that_lags_does_not_know_yet_is_for_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client was told of the level by one that is there; a refusal would be final."""
    monkeypatch.setattr(version, "NEWEST", version.OLDEST + 1)
    front = Front(check=Mock(side_effect=TooNew(0, "it is known from level 11 on", version.OLDEST)))
    body = encode_batch(7, 1, 1, b"\x02", [b"key"], [b"value"])
    for level in (version.NEWEST, version.OLDEST):
        frame = seal(Kind.REQUEST, front.config.fingerprint, body, level)
        assert front.clients.open(b"one", [zmq.Frame(frame)], 0.0) == []
    assert [(kind, fields[-1]) for _, kind, fields in front.sent] == [
        (Kind.AWAY, f"it lags: it is still at level {version.OLDEST}"),
        (Kind.REFUSED, "it is known from level 11 on"),
    ]
    assert not front.clients.to_propose


def test_each_connection_is_answered_at_the_level_that_it_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "NEWEST", version.OLDEST + 1)
    front, levels = Front(), (version.OLDEST, version.NEWEST)
    for number, level in enumerate(levels, 1):
        body = encode_batch(7, number, 1, b"\x02", [b"key"], [b"value"])
        frame = seal(Kind.REQUEST, front.config.fingerprint, body, level)
        assert front.clients.open(b"%d" % level, [zmq.Frame(frame)], 0.0) == []
        front.execute(number)
    assert front.levels == [(b"%d" % level, level) for level in levels]
