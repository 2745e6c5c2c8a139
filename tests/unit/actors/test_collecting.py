"""Which Replica proposes collections (protocol 4.13)."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from epaxos.actors.replica import Replica


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
