"""Protocol 4.6 and 1, H: a decision is final, whatever it comes from; 4.3: the tests before every handler."""

from __future__ import annotations

import pytest

from epaxos.errors import InvariantError
from epaxos.protocol.epaxos.messages import (
    Accept,
    AcceptOK,
    Beacon,
    Commit,
    CommitRequest,
    Message,
    Nack,
    PreAccept,
    PreAcceptOK,
    Recover,
    RecoverOK,
    Truncated,
    Validate,
    ValidateOK,
    Waiting,
)
from epaxos.protocol.ids import InstanceId, Vector
from epaxos.protocol.log import NOP, Phase, Value
from harness.commands import Access, put
from harness.invariants import record_of
from harness.probe import FAST_PATH_TIMEOUT, RETRY, Probe, asks_only, is_quiet, sendings, sent

OWN = InstanceId(0, 0)
PLACE = InstanceId(1, 0)
COMMAND = put(1, b"x")
NONE = (-1, -1, -1)
DECISION = Commit(PLACE, COMMAND, (-1, -1, -1), 6)

BEFORE: list[list[Message]] = [
    [],
    [PreAccept(PLACE, COMMAND, NONE, 0)],
    [Accept(PLACE, 0, COMMAND, NONE, 3)],
    [Accept(PLACE, 5, NOP, NONE, 0)],
    [Recover(PLACE, 8)],
    [PreAccept(PLACE, COMMAND, NONE, 0), Recover(PLACE, 8), Validate(PLACE, 8, COMMAND, NONE, 0)],
]


def _named(messages: list[Message]) -> str:
    return " ".join(type(message).__name__ for message in messages) or "nothing"


@pytest.mark.parametrize("decision", [DECISION, Commit(PLACE, NOP, NONE, 0)], ids=["payload", "no-op"])
@pytest.mark.parametrize("before", BEFORE, ids=_named)
def test_a_commit_is_taken_whatever_was_promised(before: list[Message], decision: Commit) -> None:
    probe = Probe()
    for message in before:
        probe.receive(2, message)
    effects = probe.receive(2, decision)
    instance = probe.instance(*PLACE)
    assert (instance.phase, instance.value) == (Phase.COMMITTED, decision.value)
    assert (instance.deps, instance.seq) == (decision.deps, decision.seq)
    assert effects.records == [instance]
    assert [[member.id for member in component] for component in effects.executions] == [[PLACE]]
    assert asks_only(effects, "records", "executions"), "nothing to send, and this replica decided nothing"


def test_a_second_commit_changes_nothing() -> None:
    probe = Probe()
    probe.receive(1, DECISION)
    assert is_quiet(probe.receive(1, DECISION))
    assert is_quiet(probe.receive(2, DECISION))
    assert is_quiet(probe.receive(2, DECISION._replace(value=None)))


@pytest.mark.parametrize(
    "other",
    [
        DECISION._replace(value=put(2, b"x")),
        DECISION._replace(deps=(0, -1, -1)),
        DECISION._replace(seq=7),
        Commit(PLACE, NOP, NONE, 0),
        DECISION._replace(value=None, seq=7),
    ],
)
def test_two_different_decisions_stop_the_replica(other: Commit) -> None:
    probe = Probe()
    probe.receive(1, DECISION)
    with pytest.raises(InvariantError, match=r"two decisions: <1\.0 COMMITTED"):
        probe.receive(2, other)


@pytest.mark.parametrize(("deps", "seq"), [((0, -1, -1), 0), ((-1, -1, 3), 0), (NONE, 1)])
def test_a_no_op_has_no_dependencies(deps: Vector, seq: int) -> None:
    probe = Probe()
    with pytest.raises(InvariantError, match=r"a no-op with dependencies: 1\.0"):
        probe.receive(2, Commit(PLACE, NOP, deps, seq))


def test_equal_payloads_are_equal_bytes() -> None:
    probe = Probe()
    probe.receive(1, DECISION)
    assert is_quiet(probe.receive(2, DECISION._replace(value=Access(1, writes=(b"x",)))))


# -- a commit without payload ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [
        [PreAccept(PLACE, COMMAND, NONE, 0)],
        [Accept(PLACE, 5, COMMAND, NONE, 0), Accept(PLACE, 8, NOP, NONE, 0)],
    ],
)
def test_a_commit_without_payload_is_of_the_one_known(before: list[Message]) -> None:
    probe = Probe()
    for message in before:
        probe.receive(1, message)
    probe.receive(1, DECISION._replace(value=None))
    assert probe.instance(*PLACE).value == COMMAND


def test_a_commit_without_a_payload_that_is_known_makes_the_replica_ask() -> None:
    probe = Probe()
    effects = probe.receive(1, DECISION._replace(value=None))
    assert sendings(effects) == [(1, CommitRequest(1, 0, 0))]
    assert asks_only(effects, "messages")
    assert probe.instance(*PLACE).phase is Phase.INITIAL
    assert probe.core.status().seen == (-1, 0, -1)
    probe.receive(1, DECISION)
    assert probe.instance(*PLACE).phase is Phase.COMMITTED


# -- what a decision ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [COMMAND, NOP])
def test_a_commit_ends_the_own_coordination(value: Value) -> None:
    probe = Probe(5)
    probe.persisted(probe.propose(COMMAND))
    none = (-1,) * 5
    probe.receive(1, PreAcceptOK(OWN, none, 0))
    probe.receive(3, Commit(OWN, value, none, 0))
    probe.receive(2, PreAcceptOK(OWN, none, 0))
    probe.receive(4, AcceptOK(OWN, 0))
    late = probe.pass_time(FAST_PATH_TIMEOUT + 4 * RETRY)
    assert not [message for _, message in sendings(late) if getattr(message, "id", None) == OWN]
    assert probe.instance(*OWN).value == value


def test_a_proposal_that_was_annulled_is_proposed_again_in_a_new_slot() -> None:
    """Protocol 4.8: its dependencies cover the annulled slot."""
    probe = Probe()
    probe.persisted(probe.propose(COMMAND))
    assert probe.core.in_flight == 1
    effects = probe.receive(2, Commit(OWN, NOP, NONE, 0))
    again = InstanceId(0, 1)
    assert sent(effects, PreAccept) == dict.fromkeys((1, 2), PreAccept(again, COMMAND, (0, -1, -1), 1))
    assert {instance.id for instance in effects.records} == {OWN, again}
    assert probe.core.in_flight == 1


def test_a_proposal_that_was_decided_is_not_proposed_again() -> None:
    probe = Probe()
    probe.persisted(probe.propose(COMMAND))
    effects = probe.receive(2, Commit(OWN, COMMAND, (-1, 4, -1), 3))
    assert sendings(effects) == []
    assert probe.core.in_flight == 0


def test_in_flight_counts_own_instances_that_are_not_decided() -> None:
    probe = Probe()
    for slot in range(3):
        probe.persisted(probe.propose(put(slot, b"%d" % slot)))
        assert probe.core.in_flight == slot + 1
    probe.receive(1, PreAccept(PLACE, put(9, b"y"), NONE, 0))
    assert probe.core.in_flight == 3
    for slot in range(3):
        probe.receive(1, PreAcceptOK(InstanceId(0, slot), NONE, 0))
        assert probe.core.in_flight == 2 - slot


# -- before every handler (protocol 4.3) -------------------------------------------------------------------

REQUESTS: list[Message] = [
    PreAccept(PLACE, COMMAND, NONE, 0),
    PreAccept(PLACE, COMMAND, (5, -1, -1), 9),
    Accept(PLACE, 0, COMMAND, (7, -1, -1), 9),
    Accept(PLACE, 5, NOP, NONE, 0),
    Accept(PLACE, 5, None, NONE, 0),
    Recover(PLACE, 5),
    Validate(PLACE, 5, COMMAND, NONE, 0),
    Waiting(PLACE, 2),
]
ANSWERS: list[Message] = [
    PreAcceptOK(PLACE, NONE, 0),
    AcceptOK(PLACE, 0),
    AcceptOK(PLACE, 5),
    RecoverOK(PLACE, 5, 0, Phase.INITIAL, None, NONE, 0, None),
    ValidateOK(PLACE, 5, ()),
    Nack(PLACE, 8),
    Truncated(PLACE, NONE),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("decision", [DECISION, Commit(PLACE, NOP, NONE, 0)], ids=["payload", "no-op"])
def test_a_request_about_something_decided_is_answered_with_the_decision(
    request_: Message, decision: Commit
) -> None:
    probe = Probe()
    probe.receive(1, decision)
    before = record_of(probe.instance(*PLACE))
    effects = probe.receive(2, request_)
    assert effects.promises == [((2,), decision)]
    assert asks_only(effects, "promises")
    assert record_of(probe.instance(*PLACE)) == before


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda message: type(message).__name__)
def test_a_late_answer_about_something_decided_is_dropped(answer: Message) -> None:
    # Its sender is sent the Commit anyway; see EPaxos._is_settled.
    probe = Probe()
    probe.receive(1, DECISION)
    assert is_quiet(probe.receive(2, answer))


@pytest.mark.parametrize("message", REQUESTS[:-1], ids=lambda message: type(message).__name__)
def test_a_request_about_something_truncated_is_answered_with_the_frontier(message: Message) -> None:
    probe = Probe()
    probe.core.state.logs.truncated[1] = 3
    effects = probe.receive(2, message)
    assert sendings(effects) == [(2, Truncated(PLACE, (-1, 3, -1)))]
    assert effects.records == []
    assert probe.core.state.logs.get(PLACE) is None


@pytest.mark.parametrize(
    "message", [*ANSWERS, DECISION, DECISION._replace(value=None)], ids=lambda m: type(m).__name__
)
def test_anything_else_about_something_truncated_is_dropped(message: Message) -> None:
    probe = Probe()
    probe.core.state.logs.truncated[1] = 3
    assert is_quiet(probe.receive(2, message))
    assert probe.core.state.logs.get(PLACE) is None


def test_something_above_the_truncation_is_handled() -> None:
    probe = Probe()
    probe.core.state.logs.truncated[1] = 3
    place = InstanceId(1, 4)
    assert sent(probe.receive(1, PreAccept(place, COMMAND, NONE, 0)), PreAcceptOK).keys() == {1}


def test_what_is_no_event_stops_the_replica() -> None:
    probe = Probe()
    with pytest.raises(InvariantError, match="not an event"):
        probe.core.on_event(Beacon(NONE, NONE, NONE, NONE, NONE, 0), 0.0)  # type: ignore[arg-type]
