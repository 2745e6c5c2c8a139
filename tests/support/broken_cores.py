"""Cores with a rule taken away, for tests that a simulation finds it.

The seeds that tests name for these were found by sweeps; a change of what seeds draw may ask for others, which
`sweep(range(1000))` finds in the same way.
"""

from __future__ import annotations

from typing import Any

import pytest

from epaxos.protocol.epaxos import recovery
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.messages import Recover
from epaxos.protocol.epaxos.state import State
from epaxos.protocol.quorums import Quorums


def hasty(patch: pytest.MonkeyPatch) -> None:
    """The fast quorum is one short. Shows in most seeds."""
    patch.setattr(Quorums, "fast", property(lambda quorums: quorums.n - quorums.e - 1))


def blind(patch: pytest.MonkeyPatch) -> None:
    """Nothing ever speaks against a fast decision. Shows in one of a hundred seeds or two."""
    patch.setattr(recovery, "against", lambda *_: ())


def trusting(patch: pytest.MonkeyPatch) -> None:
    """Nobody is suspected, so that nothing is recovered. Shows where a replica dies."""
    patch.setattr(State, "suspect", lambda *_: None)


def fragile(patch: pytest.MonkeyPatch) -> None:
    """Whoever is asked for a promise fails."""
    on_event = EPaxos.on_event

    def fail(core: EPaxos, event: Any, now: float) -> Any:
        if isinstance(getattr(event, "message", None), Recover):
            raise KeyError("no such promise")
        return on_event(core, event, now)

    patch.setattr(EPaxos, "on_event", fail)
