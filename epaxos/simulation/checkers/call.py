"""One command of a client, as the client saw it: what a history is made of."""

from __future__ import annotations

from epaxos.simulation.checkers.reference import Command, Result
from epaxos.statemachine.reading import Reading


class Call:
    """A command with its client (session) and request number; times are in seconds, of one clock for a history.

    `answered` and `result` are None for a command without an answer, which may have executed or not; `is_left` says
    that its client does not wait for it any more, and has told so. One with a `reading` asks for no place in the log;
    `looked` says that the answer was of none.
    """

    __slots__ = (
        "answered",
        "client",
        "command",
        "invoked",
        "is_left",
        "looked",
        "number",
        "reading",
        "result",
    )

    def __init__(
        self, client: int, number: int, command: Command, invoked: float, reading: Reading | None = None
    ) -> None:
        self.client = client
        self.number = number
        self.command = command
        self.invoked = invoked
        self.answered: float | None = None
        self.is_left = False
        self.reading = reading
        self.looked = False
        self.result: Result | None = None

    def __str__(self) -> str:
        return f"{self.client}:{self.number}"
