"""Changes that every user of registers needs; those of the key-value store are in `statemachine.changes`."""

from __future__ import annotations

from typing import Any, Final

from epaxos.protocol.registers.values import Once, State, Step

CLIENTS: Final = 64
"""Clients whose last change a register remembers; whose was longest ago is forgotten first."""


class Superseded:
    """The result of a change whose client has made a later one of this register since."""


SUPERSEDED: Final = Superseded()


def read(state: State) -> tuple[State, Any]:
    """Change nothing; the result is the value."""
    return state, state.value


def keep(value: bytes) -> Step:
    """Simple Paxos: the first value stays for ever; the result is what stands."""

    def step(state: State) -> tuple[State, Any]:
        return (state._replace(value=value), value) if state.value is None else (state, state.value)

    return step


def once(step: Step, client: int, number: int) -> Step:
    """Apply a change at most once, however often it is proposed, as long as the register remembers its client.

    A client numbers its changes of a register upwards and begins none before the one before has ended. A change that
    changed nothing is remembered too: a copy of it that is late could still find something to change.
    """

    def applied(state: State) -> tuple[State, Any]:
        for kept in state.once:
            if kept.client == client and kept.number >= number:
                return state, kept.result if kept.number == number else SUPERSEDED
        after, result = step(state)
        others = [kept for kept in state.once if kept.client != client]
        return State(after.value, (*others, Once(client, number, result))[-CLIENTS:]), result

    return applied
