"""When a run has settled, told of stand-ins that are where replicas can be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from epaxos.protocol.contract import CoreStatus
from epaxos.simulation.checkers.progress import settled


def replica(slot: int = 15, **how: Any) -> Any:
    """A replica up to `slot`, that has nothing under way."""
    place = (slot, -1)
    status = CoreStatus(place, place, place, (-1, -1), in_flight=0, pending=0, kept=0, **how)
    return SimpleNamespace(
        core=SimpleNamespace(status=lambda: status),
        disk=SimpleNamespace(busy=False),
        frontdoor=SimpleNamespace(to_propose=[]),
        epoch=0,
        behind=False,
    )


def test_replicas_that_are_alike_have_settled() -> None:
    assert settled([replica(), replica()])
    assert not settled([replica(), replica(16)])


def test_where_somebody_leads_they_follow_the_same_one() -> None:
    """Else one that came back forgot what was decided, and finds it again only by the campaign that is under way."""
    assert settled([replica(leader=1, ballot=7), replica(leader=1, ballot=7)])
    assert not settled([replica(leader=1, ballot=7), replica(leader=1, ballot=12)])
    assert not settled([replica(leader=1, ballot=7), replica(leader=None, ballot=7)])
    assert not settled([replica(leader=None, ballot=12), replica(leader=None, ballot=12)])
