"""What acceptors and proposers of registers keep and say.

Each key is a register of its own: no log, no order between keys. CASPaxos (Rystsov, 2018) is single-decree Paxos whose
proposers replace the value that they find by one computed from it; simple Paxos is the change that keeps what stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias


class Ballot(NamedTuple):
    """An attempt to change a register: ordered by counter, then by proposer. Nobody uses one twice."""

    counter: int
    proposer: int

    def __str__(self) -> str:
        return f"{self.counter}.{self.proposer}"


ZERO: Final = Ballot(0, 0)
"""Below every ballot that is used."""

FIRST: Final = Ballot(0, 1)
"""Below every ballot that is prepared: nothing can have been chosen before it, so it needs no promises.

It is for one state of a register, ever (`Want.first`).
"""

COUNTER_MAX: Final = 2**62
"""No counter is as large: one that is, is a mistake or malice, and would end a register for good."""

AHEAD: Final = 2**40
"""A counter that is further than this above all that an acceptor has heard comes from no proposer that counts."""


class Once(NamedTuple):
    """The last change of one client that went into a register, and its result."""

    client: int
    number: int
    result: Any


class State(NamedTuple):
    """What a register holds: a value or none, and who has changed it last, the most recent at the end.

    A state without a value is a tombstone; only a collection makes it as if the register had never been.
    """

    value: bytes | None = None
    once: tuple[Once, ...] = ()


EMPTY: Final = State()


class Cell(NamedTuple):
    """What an acceptor keeps of one key.

    One that is not there has promised the acceptor's floor and accepted nothing.

    voted    the last ballot of each proposer that was accepted here, of `VOTERS` proposers, the latest last
    dropped  the highest that has gone from it
    """

    key: bytes
    promised: Ballot
    accepted: Ballot
    state: State
    voted: tuple[Ballot, ...] = ()
    dropped: Ballot = ZERO


VOTERS: Final = 8
"""Proposers of which a cell remembers the last ballot: of these it can say that it has not accepted another."""


# -- requests: every one has a ballot of its own, by which its answers are known ---------------------------------


class Prepare(NamedTuple):
    """Promise to take nothing below; tell what was accepted."""

    key: bytes
    ballot: Ballot


class Accept(NamedTuple):
    """Take this state. With `following`, above ZERO, promise that ballot too: it spares the next Prepare."""

    key: bytes
    ballot: Ballot
    state: State
    following: Ballot = ZERO


class Peek(NamedTuple):
    """Tell what was accepted, and promise nothing; the ballot only names the question."""

    key: bytes
    ballot: Ballot


class Remove(NamedTuple):
    """Forget the register, whose tombstone every acceptor took at this ballot."""

    key: bytes
    ballot: Ballot


class List(NamedTuple):
    """Tell `most` keys after this one, ascending; the first is after b""."""

    key: bytes
    ballot: Ballot
    most: int


class Scan(NamedTuple):
    """Tell what was accepted of the keys after this one, ascending: a page of it."""

    key: bytes
    ballot: Ballot


class Follow(NamedTuple):
    """Tell what was accepted since a position, of this start of the acceptor; the key is b""."""

    key: bytes
    ballot: Ballot
    start: int
    position: int


Request: TypeAlias = Prepare | Accept | Peek | Remove | List | Scan | Follow

# -- answers -----------------------------------------------------------------------------------------------------


class Promise(NamedTuple):
    """Nothing below `ballot` will be accepted; `state` was accepted last, at `accepted`. Durable before it is sent.

    Up to `dropped` the acceptor may have forgotten what it accepted (`Cell.dropped`).
    """

    key: bytes
    ballot: Ballot
    accepted: Ballot
    state: State
    dropped: Ballot = ZERO


class Accepted(NamedTuple):
    """The state of this ballot was taken. Durable before it is sent."""

    key: bytes
    ballot: Ballot


class Conflict(NamedTuple):
    """Refused, for the ballot `held`. `never`: this acceptor has not taken `ballot` and will not."""

    key: bytes
    ballot: Ballot
    held: Ballot
    never: bool


class Seen(NamedTuple):
    """What a Peek found."""

    key: bytes
    ballot: Ballot
    accepted: Ballot
    state: State


class Removed(NamedTuple):
    """Whether the register is gone here. If not, somebody has prepared since."""

    key: bytes
    ballot: Ballot
    done: bool


class Listed(NamedTuple):
    """Keys after the one that was asked for; fewer than asked for at the end."""

    key: bytes
    ballot: Ballot
    keys: tuple[bytes, ...]


class Told(NamedTuple):
    """What an acceptor took."""

    key: bytes
    accepted: Ballot
    state: State


class Scanned(NamedTuple):
    """A page of what was accepted; `last` says that no key comes after it."""

    key: bytes
    ballot: Ballot
    cells: tuple[Told, ...]
    last: bool


class Followed(NamedTuple):
    """What was accepted since a position, in that order.

    start, position  where to go on
    floor            the highest tombstone that was ever removed here
    kept             whether this is without a gap; if not, nothing is told, and only a scan can tell what is missing
    """

    key: bytes
    ballot: Ballot
    start: int
    position: int
    floor: Ballot
    kept: bool
    accepted: tuple[Told, ...]


Answer: TypeAlias = Promise | Accepted | Conflict | Seen | Removed | Listed | Scanned | Followed

# -- who takes part ----------------------------------------------------------------------------------------------


class Configuration(NamedTuple):
    """Whom proposers ask in the first phase and in the second; a majority of each has to answer.

    The two differ only while acceptors come and go (`upkeep.plan`). `version` grows with every step.
    """

    version: int
    prepare: tuple[int, ...]
    accept: tuple[int, ...]

    @property
    def promises(self) -> int:
        """How many promises end the first phase."""
        return len(self.prepare) // 2 + 1

    @property
    def votes(self) -> int:
        """How many votes make a state chosen."""
        return len(self.accept) // 2 + 1


Step: TypeAlias = Callable[[State], "tuple[State, Any]"]
"""A change of a register: from the state that stands to the next, and the result for whoever asked.

It may be called several times, so it must be pure; it may not raise.
"""
