"""Which Replica proposes collections, and in which epoch (protocol 4.13, 6.7)."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from epaxos.actors.replica import Replica
from epaxos.protocol.contract import Decided, Effects, Over
from epaxos.protocol.ids import InstanceId
from harness.commands import barrier, collect, put


def _replica(**changes: Any) -> Mock:
    """One that is current, does not leave, and is in touch with one of two peers."""
    replica = Mock(_drain=None, _remotes={1: Mock(online=True), 2: Mock(online=False)})
    replica.configure_mock(**{"_is_current": True} | changes)
    return replica


def test_it_asks_whether_there_is_something_to_collect() -> None:
    replica = _replica()
    assert Replica._may_collect(replica) is replica._collector.may_propose.return_value
    replica._collector.may_propose.assert_called_once_with(
        replica._core.status(), replica._machine.sessions, [1]
    )


@pytest.mark.parametrize("changes", [{"_is_current": False}, {"_drain": object()}])
def test_one_that_is_behind_or_leaves_does_not_ask(changes: dict[str, Any]) -> None:
    assert not Replica._may_collect(_replica(**changes))


def test_what_a_checkpoint_overtakes_as_an_epoch_ends_goes_on_in_the_next_without_bases() -> None:
    replica, effects = _replica(), Effects[Any]()
    replica._post.return_value = []
    effects.overtaken = [put(1, b"k"), collect(2, 0, 0, 0)]
    Replica._perform(replica, effects, 0.0)
    replica._settle.assert_called_once_with(effects.overtaken, 0.0)
    end = barrier(3, 0, 0, 0)
    effects.over = Over(Decided(InstanceId(1, 1), end, (0, 0, 0), 1), (0, 1, 0))
    Replica._perform(replica, effects, 0.0)
    replica._settle.assert_called_with(effects.overtaken[:1], 0.0)
