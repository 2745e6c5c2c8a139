"""Beginning with the own checkpoint, or with one of a peer that takes the place of all there is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from epaxos.checkpoint.fetched import Fetched
from epaxos.protocol.contract import Core
from epaxos.statemachine.machine import StateMachine

_SLICE: Final = 512
"""Keys in a slice of values; those of an index come in the blocks in which they were written."""


def load(fetched: Fetched, core: Core[Any], machine: StateMachine) -> None:
    """Give a core and a state machine that have just been made what a checkpoint holds; it has no values then.

    Raises:
        StorageError, FrameError: a row cannot be read.
    """
    deque(loading(fetched, core, machine), maxlen=0)


def loading(fetched: Fetched, core: Core[Any], machine: StateMachine) -> Iterator[None]:
    """The same in slices: at a million keys all of it stops a thread for three seconds.

    Raises:
        StorageError, FrameError: see `load`.
    """
    for said in fetched.index():
        core.remember(said)
        yield
    while some := fetched.pop_values(_SLICE):
        machine.load(some)
        yield
    machine.load_sessions(fetched.sessions, fetched.generation)
