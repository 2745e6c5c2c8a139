"""Which Replica proposes collections (protocol 4.13)."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from epaxos.actors.proposals import Proposals
from epaxos.config import load_config


def _proposals(*, is_current: bool = True, drains: bool = False) -> Proposals:
    """Those of a replica that is in touch with one of two peers."""
    parts: Any = Mock(machine=Mock(take_timed=list))
    config = load_config("conf/local.toml")
    parts.configuration = config.initial
    parts.eras.running = Mock(row=0, configuration=config.initial)
    presence: Any = Mock(is_current=is_current, drains=drains)
    proposals = Proposals(config, parts, Mock(), Mock(online=["bravo"]), presence, now=0.0)
    proposals._collector = Mock()
    return proposals


def test_it_asks_whether_there_is_something_to_collect() -> None:
    proposals = _proposals()
    parts: Any = proposals._parts
    collector: Any = proposals._collector
    assert proposals._may_collect() is collector.may_propose.return_value
    collector.may_propose.assert_called_once_with(parts.core.status(), parts.machine.sessions, [1])


@pytest.mark.parametrize("changes", [{"is_current": False}, {"drains": True}])
def test_one_that_is_behind_or_leaves_does_not_ask(changes: dict[str, bool]) -> None:
    assert not _proposals(**changes)._may_collect()
