"""Protocol 4.4 and 1, B, D, E: what an owner proposes and what an acceptor adds to it."""

from __future__ import annotations

import pytest

from epaxos.protocol.epaxos.messages import (
    Accept,
    Beacon,
    Commit,
    Message,
    PreAccept,
    PreAcceptOK,
    Recover,
    Validate,
)
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import NOP, Phase
from harness.commands import Access, get, put
from harness.probe import Probe, sent

NONE = (-1, -1, -1)


def answer(
    probe: Probe, place: InstanceId, command: Access, deps: tuple[int, ...] = NONE, seq: int = 0
) -> PreAcceptOK:
    """What an acceptor answers to the owner's PreAccept."""
    effects = probe.receive(place.row, PreAccept(place, command, deps, seq))
    answers = sent(effects, PreAcceptOK)
    assert answers.keys() == {place.row}
    return answers[place.row]


# -- the owner ---------------------------------------------------------------------------------------------


def test_a_proposal_takes_the_next_slot_and_covers_the_own_row() -> None:
    probe = Probe()
    for slot in range(3):
        probe.propose(put(slot, b"x"))
        instance = probe.instance(0, slot)
        assert (instance.deps, instance.seq) == ((slot - 1, -1, -1), slot)


def test_an_owner_covers_what_it_knows_of_other_rows() -> None:
    probe = Probe()
    answer(probe, InstanceId(1, 4), put(1, b"x"), seq=6)
    answer(probe, InstanceId(2, 2), put(2, b"y"), seq=8)
    probe.propose(Access(3, (b"y",), (b"x",)))
    assert (probe.instance(0, 0).deps, probe.instance(0, 0).seq) == ((-1, 4, 2), 9)
    probe.propose(put(4, b"z"))
    assert (probe.instance(0, 1).deps, probe.instance(0, 1).seq) == (NONE, 0)


@pytest.mark.parametrize(
    "message",
    [
        Beacon((6, -1, -1), NONE, NONE, NONE, NONE, 0),
        PreAccept(InstanceId(1, 0), put(1, b"q"), (6, -1, -1), 0),
        Accept(InstanceId(1, 0), 0, put(1, b"q"), (6, -1, -1), 0),
        Commit(InstanceId(1, 0), put(1, b"q"), (6, -1, -1), 0),
        Commit(InstanceId(0, 6), put(1, b"q"), NONE, 0),
        Accept(InstanceId(0, 6), 4, put(1, b"q"), NONE, 0),
        Recover(InstanceId(0, 6), 4),
        Validate(InstanceId(0, 6), 4, put(1, b"q"), NONE, 0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_slot_of_the_own_row_that_was_spoken_of_is_never_proposed(message: Message) -> None:
    probe = Probe()
    if isinstance(message, Validate):
        probe.receive(1, Recover(message.id, message.ballot))
    probe.receive(1, message)
    probe.propose(put(2, b"x"))
    assert probe.instance(0, 7).phase is Phase.PREACCEPTED


# -- the acceptor ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("earlier", "later", "conflicts"),
    [
        (get(1, b"x"), get(2, b"x"), False),
        (get(1, b"x"), put(2, b"x"), True),
        (put(1, b"x"), get(2, b"x"), True),
        (put(1, b"x"), put(2, b"x"), True),
        (put(1, b"x"), put(2, b"y"), False),
        (Access(1, (b"a",), (b"b",)), Access(2, (b"a", b"c"), (b"d",)), False),
        (Access(1, (b"a",), (b"b", b"c")), Access(2, (b"c",), (b"d",)), True),
    ],
)
def test_an_acceptor_adds_what_conflicts(earlier: Access, later: Access, *, conflicts: bool) -> None:
    probe = Probe()
    probe.propose(earlier)
    assert answer(probe, InstanceId(1, 0), later) == PreAcceptOK(
        InstanceId(1, 0), (0, -1, -1) if conflicts else NONE, int(conflicts)
    )


def test_an_acceptor_leaves_the_instances_own_column_as_the_owner_sent_it() -> None:
    probe = Probe(row=2)
    for slot in (0, 2, 3, 7):
        answer(probe, InstanceId(1, slot), put(slot, b"x"), (-1, slot - 1, -1))
    assert answer(probe, InstanceId(1, 5), put(9, b"x"), (-1, 1, -1)).deps == (-1, 1, -1)
    assert answer(probe, InstanceId(1, 6), put(10, b"x"), NONE).deps == NONE


def test_dependencies_are_merged_column_by_column() -> None:
    probe = Probe(n=5, row=4)
    none = (-1,) * 5
    answer(probe, InstanceId(0, 5), put(1, b"x"), none, 1)
    answer(probe, InstanceId(2, 3), put(2, b"x"), none, 1)
    merged = answer(probe, InstanceId(1, 9), put(3, b"x"), (2, 8, 4, 1, -1), 0)
    assert merged.deps == (5, 8, 4, 1, -1)


@pytest.mark.parametrize(("proposed", "answered"), [(0, 6), (5, 6), (6, 6), (9, 9)])
def test_the_sequence_number_is_above_those_of_conflicting_instances(proposed: int, answered: int) -> None:
    probe = Probe()
    answer(probe, InstanceId(2, 0), put(1, b"x"), seq=5)
    answer(probe, InstanceId(2, 1), put(1, b"y"), seq=50)
    assert answer(probe, InstanceId(1, 0), put(2, b"x"), (-1, -1, 0), proposed).seq == answered


def test_the_answer_is_what_is_recorded() -> None:
    probe = Probe()
    probe.propose(put(1, b"x"))
    command = put(2, b"x")
    place = InstanceId(1, 0)
    effects = probe.receive(1, PreAccept(place, command, (-1, -1, 3), 0))
    instance = probe.instance(1, 0)
    assert effects.records == [instance]
    assert effects.promises == [((1,), PreAcceptOK(place, instance.deps, instance.seq))]
    assert (instance.phase, instance.bal, instance.abal) == (Phase.PREACCEPTED, 0, 0)
    assert instance.value == instance.orig == command
    assert instance.init == (command, (-1, -1, 3), 0)
    assert (instance.deps, instance.seq) == ((0, -1, 3), 1)


# -- what was once known is covered for ever (protocol 2, the second) ------------------------------------------------

PLACE = InstanceId(2, 4)
KNOWN = put(7, b"x")


@pytest.mark.parametrize(
    "messages",
    [
        [PreAccept(PLACE, KNOWN, NONE, 0)],
        [Accept(PLACE, 0, KNOWN, NONE, 0)],
        [Accept(PLACE, 5, KNOWN, NONE, 0)],
        [Commit(PLACE, KNOWN, NONE, 0)],
        [Recover(PLACE, 5), Validate(PLACE, 5, KNOWN, NONE, 0)],
        [PreAccept(PLACE, KNOWN, NONE, 0), Accept(PLACE, 5, NOP, NONE, 0)],
        [PreAccept(PLACE, KNOWN, NONE, 0), Commit(PLACE, NOP, NONE, 0)],
        [Accept(PLACE, 5, KNOWN, NONE, 0), Accept(PLACE, 8, NOP, NONE, 0), Commit(PLACE, NOP, NONE, 0)],
    ],
    ids=lambda messages: " ".join(type(message).__name__ for message in messages),
)
def test_a_payload_is_covered_from_whatever_message_it_was_learned_and_whatever_became_of_it(
    messages: list[Message],
) -> None:
    probe = Probe()
    for message in messages:
        probe.receive(2, message)
    assert probe.instance(*PLACE).orig == KNOWN
    assert answer(probe, InstanceId(1, 0), put(8, b"x")).deps == (-1, -1, 4)
    assert answer(probe, InstanceId(1, 1), put(9, b"y")).deps == NONE
    probe.propose(get(10, b"x"))
    assert probe.instance(0, 0).deps == (-1, 0, 4)


def test_a_no_op_whose_payload_was_never_known_conflicts_with_nothing() -> None:
    probe = Probe()
    probe.receive(2, Commit(PLACE, NOP, NONE, 0))
    assert answer(probe, InstanceId(1, 0), put(8, b"x")).deps == NONE
