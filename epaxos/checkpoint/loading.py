"""Beginning with the own checkpoint."""

from __future__ import annotations

from typing import Any

from epaxos.checkpoint.fetched import Fetched
from epaxos.protocol.contract import Core
from epaxos.statemachine.machine import StateMachine


def load(fetched: Fetched, core: Core[Any], machine: StateMachine) -> None:
    """Give a core and a state machine that have just been made what their own checkpoint holds.

    Raises:
        StorageError, FrameError: a row cannot be read.
    """
    for said in fetched.index():
        core.remember(said)
    machine.load(fetched.values())
    machine.load_sessions(fetched.sessions, fetched.generation)
