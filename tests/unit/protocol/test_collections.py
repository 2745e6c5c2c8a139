"""A collection is covered with its base, or not at all; what stands below it by key is forgotten (protocol 4.13)."""

from __future__ import annotations

import pytest

from epaxos.errors import InvariantError
from epaxos.protocol.contract import Adopt, Effects, Hold, Propose
from epaxos.protocol.epaxos.messages import Message, PreAccept, PreAcceptOK, Recover, Validate, ValidateOK
from epaxos.protocol.ids import InstanceId, Row, Vector
from epaxos.protocol.log import NOP, Phase
from harness.alone import Alone
from harness.blocks import recall, remember
from harness.commands import Access, collect, put
from harness.probe import sent_to

NONE: Vector = (-1, -1, -1)
COLLECTION, COMMAND = InstanceId(1, 1), InstanceId(2, 9)
COLLECT, WRITE = collect(1, 4, -1, -1), put(2, b"key")
COVERS_ITS_SLOT_ALONE: Vector = (2, 1, 8)


def against(alone: Alone, recoverer: Row, place: InstanceId, command: Access, deps: Vector) -> object:
    """What a replica sets against a proposal that another one recovers."""
    ballot = 3 + recoverer
    alone.hear(recoverer, Recover(place, ballot))
    effects = alone.hear(recoverer, Validate(place, ballot, command, deps, 0))
    (answer,) = (message for message in sent_to(effects, recoverer) if isinstance(message, ValidateOK))
    return answer.against


def test_a_collection_speaks_against_who_covers_it_without_its_base() -> None:
    alone = Alone()
    alone.hear(1, PreAccept(COLLECTION, COLLECT, (4, 0, -1), 0))
    assert against(alone, 1, COMMAND, WRITE, COVERS_ITS_SLOT_ALONE) == ((COLLECTION, Phase.PREACCEPTED),)


def test_a_collection_with_its_base_is_covered() -> None:
    alone = Alone()
    alone.hear(1, PreAccept(COLLECTION, COLLECT, (4, 0, -1), 0))
    assert against(alone, 1, COMMAND, WRITE, (4, 1, 8)) == ()


def test_who_covers_a_collection_without_its_base_speaks_against_it() -> None:
    alone = Alone()
    alone.learn(COMMAND, WRITE, *COVERS_ITS_SLOT_ALONE)
    assert against(alone, 2, COLLECTION, COLLECT, (4, 0, 8)) == ((COMMAND, Phase.COMMITTED),)


def test_who_covers_a_collection_with_its_base_does_not() -> None:
    alone = Alone()
    alone.learn(COMMAND, WRITE, 4, 1, 8)
    assert against(alone, 2, COLLECTION, COLLECT, (4, 0, 8)) == ()


# -- what is forgotten ---------------------------------------------------------------------------------------

KEY = b"key"
FORGOTTEN, AT_BASE, ABOVE = InstanceId(2, 2), InstanceId(2, 3), InstanceId(2, 4)
EXECUTED = InstanceId(1, 0)
"""A collection with AT_BASE as its base."""


def with_a_collection(value: Access | None = None) -> Alone:
    """A replica that has executed writes at, below and above the base of a collection, or `value`, and dropped all."""
    alone = Alone()
    for place in (InstanceId(2, 0), InstanceId(2, 1), FORGOTTEN, AT_BASE):
        alone.learn(place, put(place.slot, KEY if place == FORGOTTEN else b"another"))
    alone.learn(ABOVE, put(4, b"above"), *NONE)
    alone.learn(EXECUTED, value or collect(9, -1, -1, 3), -1, -1, 4)
    alone.checkpoint()
    assert alone.core.status().kept == 0
    return alone


def test_what_a_base_speaks_for_goes_with_a_checkpoint() -> None:
    alone = with_a_collection()
    assert recall(alone.core, [KEY, b"another", b"above"]) == [
        *[[-1, -1, -1]] * 5,
        [-1, -1, 4],
        *[[-1, -1, -1]] * 5,
        [-1, -1, 4],
    ]
    assert alone.core.status().remembered == 4  # of one key, and of what is written at all, in both indexes


def test_what_was_forgotten_is_covered_in_answers() -> None:
    alone = with_a_collection()
    (message,) = sent_to(alone.hear(1, PreAccept(InstanceId(1, 1), put(1, KEY), NONE, 0)), 1)
    assert isinstance(message, PreAcceptOK)
    assert message.deps == (-1, -1, 3)


@pytest.mark.parametrize("deps", [(-1, 0, 2), (-1, -1, 3), (-1, -1, -1)])
def test_of_what_was_forgotten_its_collection_speaks(deps: Vector) -> None:
    """Whoever covers either without the other, in another row than the own one."""
    place = InstanceId(0, 0)
    found = against(with_a_collection(), 2, place, put(1, KEY), deps)
    assert isinstance(found, tuple)
    assert {phase for _, phase in found} == {Phase.COMMITTED}


def test_who_covers_a_collection_with_its_base_covers_what_was_forgotten() -> None:
    assert against(with_a_collection(), 2, InstanceId(0, 0), put(1, KEY), (-1, 0, 3)) == ()


def test_nothing_speaks_for_what_a_collection_depends_on_beyond_its_base() -> None:
    """A command may be decided at once that covers the collection, and of that only what it conflicts with."""
    alone = with_a_collection()
    alone.learn(InstanceId(1, 1), put(2, b"later"), -1, 0, 4)
    alone.checkpoint()
    assert against(alone, 2, InstanceId(0, 0), put(1, KEY), (-1, 0, 3)) == ()


def test_of_a_collection_that_is_only_known_nothing_is_forgotten_that_has_executed() -> None:
    alone = with_a_collection(put(9, b"none"))
    alone.hear(1, PreAccept(InstanceId(1, 1), collect(8, -1, 0, 3), NONE, 0))
    alone.learn(InstanceId(2, 5), put(6, b"none"), -1, 0, 4)
    alone.checkpoint()
    known, executed = recall(alone.core, [KEY])[5], recall(alone.core, [KEY])[11]
    assert (known, executed) == ([-1], [2])


def test_an_annulled_collection_is_known_for_ever() -> None:
    alone = with_a_collection(put(9, b"none"))
    place = InstanceId(1, 1)
    alone.hear(1, PreAccept(place, collect(8, -1, 0, 3), NONE, 0))
    alone.learn(place, NOP)
    alone.checkpoint()
    assert recall(alone.core, [KEY])[5::6] == [[-1], [2]]
    (message,) = sent_to(alone.hear(2, PreAccept(InstanceId(1, 2), put(1, KEY), NONE, 0)), 2)
    assert isinstance(message, PreAcceptOK)
    assert message.deps == (-1, -1, 3)


# -- checkpoints with other bases ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "my_base", "theirs", "their_base", "later"),
    [
        ((-1, -1, -1), (4, 0, -1), (-1, -1, -1), (4, 0, -1), False),
        ((-1, -1, -1), (4, 0, -1), (3, -1, -1), (-1, -1, -1), False),
        ((3, -1, -1), (-1, -1, -1), (-1, -1, -1), (4, 0, -1), True),
        ((3, -1, -1), (4, 0, -1), (-1, -1, -1), (4, 0, -1), False),
        ((-1, -1, -1), (4, 0, -1), (5, -1, -1), (4, 0, -1), True),
        ((5, -1, -1), (4, 0, -1), (5, -1, -1), (4, 3, -1), True),
    ],
)
def test_the_later_value_is_that_of_who_has_executed_more_collections_or_then_more_writers(
    mine: Vector, my_base: Vector, theirs: Vector, their_base: Vector, *, later: bool
) -> None:
    alone = Alone()
    remember(alone.core, [KEY], alone.columns(mine))
    alone.core.state.raise_vectors([NONE, my_base, NONE, my_base])
    vectors = [NONE, their_base, NONE, their_base]
    assert alone.merge([KEY], alone.columns(theirs), vectors) == [later]


def test_histories_that_differ_in_collections_and_writers_both_ways_stop_the_replica() -> None:
    alone = Alone()
    remember(alone.core, [KEY], alone.columns((5, -1, -1)))
    with pytest.raises(InvariantError, match="neither history"):
        alone.merge([KEY], alone.columns((4, -1, -1)), [NONE, (4, 0, -1), NONE, (4, 0, -1)])


# -- one of a generation ---------------------------------------------------------------------------------------


def proposed(effects: Effects[Message]) -> list[tuple[InstanceId, object]]:
    return [
        (message.id, message.command) for message in sent_to(effects, 1) if isinstance(message, PreAccept)
    ]


def test_one_that_a_peers_checkpoint_overtakes_is_told() -> None:
    """Or its proposer would wait for it for ever, and propose no other."""
    alone = Alone()
    command = collect(1, -1, -1, -1)
    alone.take(Propose(command))
    executed = (0, 3, -1)
    alone.take(Hold(executed, ()))
    assert alone.take(Adopt(executed, ())).overtaken == [command]


def test_one_that_is_annulled_is_proposed_again() -> None:
    alone = Alone()
    command = collect(1, -1, -1, -1)
    alone.take(Propose(command))
    assert proposed(alone.learn(InstanceId(0, 0), NOP)) == [(InstanceId(0, 1), command)]
