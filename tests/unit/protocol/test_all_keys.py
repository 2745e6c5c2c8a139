"""Commands on all keys: what reads all, and what writes all (protocol 4.15)."""

from __future__ import annotations

import pytest

from epaxos.protocol.epaxos.conflicts import ALL
from epaxos.protocol.epaxos.messages import PreAccept, PreAcceptOK, Recover, Validate, ValidateOK
from epaxos.protocol.ids import InstanceId, Vector
from epaxos.protocol.log import NOP, Phase
from harness.alone import Alone
from harness.blocks import recall, remember
from harness.commands import Access, collect, flush, get, put, scan
from harness.probe import sent_to

NONE: Vector = (-1, -1, -1)
EARLIER, LATER = InstanceId(1, 0), InstanceId(2, 0)
OF_EVERY_KIND = [put(1, b"x"), get(1, b"x"), scan(1), flush(1), Access(1)]
LIST, CLEAR = scan(2), flush(2)


def answer_to(alone: Alone, command: Access) -> Vector:
    """What a replica answers to a PreAccept that covers nothing."""
    effects = alone.hear(2, PreAccept(LATER, command, NONE, 0))
    (answer,) = (message for message in sent_to(effects, 2) if isinstance(message, PreAcceptOK))
    return answer.deps


def against(alone: Alone, command: Access, deps: Vector = NONE) -> object:
    """What it sets against a proposal that another one recovers."""
    alone.hear(1, Recover(LATER, 4))
    effects = alone.hear(1, Validate(LATER, 4, command, deps, 0))
    (answer,) = (message for message in sent_to(effects, 1) if isinstance(message, ValidateOK))
    return answer.against


def dropped(command: Access) -> Alone:
    """A replica that has executed a command, and dropped it."""
    alone = Alone()
    alone.learn(EARLIER, command)
    alone.checkpoint()
    assert alone.core.status().kept == 0
    return alone


def conflicts_with_list(command: Access) -> bool:
    return bool(command.writes) or command.writes_all


@pytest.mark.parametrize("earlier", OF_EVERY_KIND)
def test_what_lists_covers_what_writes_and_what_clears_covers_all(earlier: Access) -> None:
    for later, conflicts in ((LIST, conflicts_with_list(earlier)), (CLEAR, True)):
        alone = Alone()
        alone.hear(1, PreAccept(EARLIER, earlier, NONE, 0))
        assert answer_to(alone, later)[1] == (0 if conflicts else -1)


@pytest.mark.parametrize("later", OF_EVERY_KIND)
def test_what_writes_covers_what_lists_and_all_cover_what_clears(later: Access) -> None:
    for earlier, conflicts in ((LIST, conflicts_with_list(later)), (CLEAR, True)):
        alone = Alone()
        alone.hear(1, PreAccept(EARLIER, earlier, NONE, 0))
        assert answer_to(alone, later)[1] == (0 if conflicts else -1)


def test_what_was_written_and_dropped_speaks_against_a_list() -> None:
    for earlier in OF_EVERY_KIND:
        expected = ((EARLIER, Phase.COMMITTED),) if conflicts_with_list(earlier) else ()
        assert against(dropped(earlier), LIST) == expected


def test_what_clears_speaks_against_all_that_does_not_cover_it() -> None:
    for other in OF_EVERY_KIND:
        assert against(dropped(CLEAR), other) == ((EARLIER, Phase.COMMITTED),)
        alone = Alone()
        alone.hear(1, PreAccept(EARLIER, CLEAR, NONE, 0))
        assert against(alone, other) == ((EARLIER, Phase.PREACCEPTED),)
        assert against(dropped(CLEAR), other, (-1, 0, -1)) == ()


def test_what_was_annulled_is_covered_and_does_not_speak() -> None:
    for command, later in ((put(1, b"x"), LIST), (LIST, put(2, b"x")), (CLEAR, get(2, b"x"))):
        alone = Alone()
        alone.hear(1, PreAccept(EARLIER, command, NONE, 0))
        alone.learn(EARLIER, NOP)
        alone.checkpoint()
        assert answer_to(alone, later)[1] == 0
        alone = Alone()
        alone.hear(1, PreAccept(EARLIER, command, NONE, 0))
        alone.learn(EARLIER, NOP)
        alone.checkpoint()
        assert against(alone, later) == ()


def test_a_checkpoint_brings_along_what_listed_and_what_cleared() -> None:
    theirs, ours = Alone(), Alone()
    theirs.learn(EARLIER, LIST)
    theirs.learn(InstanceId(1, 1), CLEAR, -1, 0, -1)
    theirs.learn(InstanceId(1, 2), LIST, -1, 1, -1)
    theirs.checkpoint()
    remember(ours.core, [ALL], recall(theirs.core, [ALL]))
    ours.core.state.raise_vectors(theirs.core.vectors())
    assert answer_to(ours, put(3, b"x"))[1] == 2
    assert answer_to(Alone(), put(3, b"x"))[1] == -1
    assert against(ours, get(3, b"x")) == ((InstanceId(1, 1), Phase.COMMITTED),)


def test_the_values_of_whoever_has_cleared_are_later_also_of_keys_of_which_nothing_is_known() -> None:
    """A executes a write and what clears, B only the write: by writers of the key alone the two would be equal."""
    theirs, ours = Alone(), Alone()
    for alone in (theirs, ours):
        alone.learn(EARLIER, put(1, b"x"))
    theirs.learn(LATER, CLEAR, -1, 0, -1)
    for alone in (theirs, ours):
        alone.checkpoint()
    keys = [b"x", b"never seen"]
    assert ours.merge(keys, recall(theirs.core, keys), theirs.core.vectors()) == [True, True]
    assert theirs.merge(keys, recall(ours.core, keys), ours.core.vectors()) == [False, False]


def test_what_a_clear_speaks_for_is_not_remembered_by_key() -> None:
    alone = Alone()
    alone.learn(EARLIER, put(1, b"x"))
    alone.learn(InstanceId(1, 1), CLEAR, -1, 0, -1)
    alone.checkpoint()
    assert alone.core.status().remembered == 0
    assert answer_to(alone, get(3, b"x"))[1] == 1


def test_a_collection_speaks_for_what_lists() -> None:
    alone = Alone()
    alone.learn(EARLIER, LIST)
    alone.learn(LATER, collect(3, -1, 0, -1), -1, 0, -1)
    alone.checkpoint()
    assert alone.core.status().remembered == 0
