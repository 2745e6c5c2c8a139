"""When a Replica proposes a collection (protocol 4.13)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from epaxos.actors.replica import Replica


def _replica(**changes: Any) -> Any:
    """As much of a Replica as is asked: it has a session to collect, and one peer, of which nothing is open."""
    values = {"quorum": True, "in_flight": 0, "sessions": 1, "online": True, "seen": (0, 0)} | changes
    status = SimpleNamespace(committed=(0, 0), seen=values["seen"])
    return SimpleNamespace(
        _takes_part=True,
        _drain=None,
        _core=SimpleNamespace(status=lambda: status, in_flight=values["in_flight"]),
        _machine=SimpleNamespace(sessions=values["sessions"]),
        _stats=SimpleNamespace(has_quorum=values["quorum"]),
        _config=SimpleNamespace(max_instances=64),
        _remotes={1: SimpleNamespace(online=values["online"])},
    )


@pytest.mark.parametrize("changes", [{}, {"online": False}, {"seen": (0, 1)}, {"in_flight": 63}])
def test_a_collection_is_proposed_where_there_is_something_to_collect(changes: dict[str, Any]) -> None:
    assert Replica._may_collect(_replica(**changes))


@pytest.mark.parametrize(
    "changes",
    [{"quorum": False}, {"in_flight": 64}, {"sessions": 0}, {"online": False, "seen": (0, 1)}],
)
def test_none_is_proposed_of_which_nothing_would_come(changes: dict[str, Any]) -> None:
    assert not Replica._may_collect(_replica(**changes))
