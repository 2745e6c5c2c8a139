"""Random messages, each as a correct replica of a cluster of `N` may send it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from hypothesis import strategies as st

from epaxos.protocol.epaxos.messages import (
    Accept,
    AcceptOK,
    Beacon,
    Commit,
    CommitRequest,
    Echo,
    Missing,
    Nack,
    Offer,
    PreAccept,
    PreAcceptOK,
    Recover,
    RecoverOK,
    Truncated,
    Validate,
    ValidateOK,
    Waiting,
)
from epaxos.protocol.ids import Ballot, InstanceId, Row, Vector
from epaxos.protocol.log import NOP, Phase, Proposal, Value
from epaxos.protocol.reads import ReadIndex, ReadIndexOK
from epaxos.protocol.transfer import CheckpointRows, EpochOver, FetchRows
from epaxos.transport.codec import MESSAGE_NAMES
from epaxos.transport.pages import PeerMessage
from harness.commands import Access

N: Final = 3
LARGEST: Final = 2**62 - 1
"""The largest number that the wire carries."""


class Sent(NamedTuple):
    """A message that a correct replica may send, and which one."""

    sender: Row
    message: PeerMessage


ROWS = st.integers(0, N - 1)
NUMBERS = st.one_of(st.integers(0, 9), st.integers(0, LARGEST))
SLOTS = st.one_of(st.integers(-1, 9), st.integers(-1, LARGEST))
VECTORS = st.tuples(*[SLOTS] * N)
KEYS = st.lists(st.sampled_from([b"a", b"bb", b"\0\xff"]), max_size=2).map(tuple)
QUESTIONED = st.lists(st.sampled_from([b"a", b"bb", b"\0\xff"]), min_size=1, max_size=2)
COMMANDS = st.builds(Access, st.integers(-5, 5), KEYS, KEYS)
VALUES: st.SearchStrategy[Value] = st.one_of(st.just(NOP), COMMANDS)
OPTIONAL_VALUES = st.one_of(st.none(), VALUES)
PLACES = st.builds(InstanceId, ROWS, NUMBERS)
PHASES = st.sampled_from(Phase)


@st.composite
def own_deps(draw: st.DrawFn, place: InstanceId) -> Vector:
    """Dependencies of an instance, below it in its own row."""
    deps = list(draw(VECTORS))
    deps[place.row] = min(deps[place.row], place.slot - 1)
    return tuple(deps)


def holder(place: InstanceId, ballot: Ballot) -> Row:
    """Who may use a ballot of an instance (protocol 4.1)."""
    return ballot % N if ballot else place.row


def _against(place: InstanceId) -> st.SearchStrategy[tuple[tuple[InstanceId, Phase], ...]]:
    """What a correct replica finds against `place`: nothing of its own row."""
    others = PLACES.filter(lambda other: other.row != place.row)
    return st.lists(st.tuples(others, PHASES), max_size=4).map(tuple)


@st.composite
def sendings(draw: st.DrawFn) -> Sent:
    """Any message that a correct replica may send."""
    place, row, ballot, seq = draw(PLACES), draw(ROWS), draw(NUMBERS), draw(NUMBERS)
    deps = draw(own_deps(place))
    kind = draw(st.sampled_from(list(MESSAGE_NAMES)))
    makers: dict[type, Callable[[], Sent]] = {
        PreAccept: lambda: Sent(place.row, PreAccept(place, draw(COMMANDS), deps, seq)),
        PreAcceptOK: lambda: Sent(row, PreAcceptOK(place, deps, seq)),
        Accept: lambda: Sent(holder(place, ballot), Accept(place, ballot, draw(OPTIONAL_VALUES), deps, seq)),
        AcceptOK: lambda: Sent(row, AcceptOK(place, ballot)),
        Commit: lambda: Sent(row, Commit(place, draw(OPTIONAL_VALUES), deps, seq)),
        CommitRequest: lambda: Sent(row, CommitRequest(draw(ROWS), draw(NUMBERS), draw(NUMBERS))),
        Recover: lambda: Sent(holder(place, ballot), Recover(place, ballot)),
        RecoverOK: lambda: Sent(row, draw(recover_oks(place, ballot))),
        Validate: lambda: Sent(holder(place, ballot), Validate(place, ballot, draw(COMMANDS), deps, seq)),
        ValidateOK: lambda: Sent(row, ValidateOK(place, ballot, draw(_against(place)))),
        Waiting: lambda: Sent(row, Waiting(place, seq)),
        Nack: lambda: Sent(row, Nack(place, ballot)),
        Truncated: lambda: Sent(row, Truncated(place, draw(VECTORS))),
        Beacon: lambda: Sent(row, draw(st.builds(Beacon, *[VECTORS] * 5, NUMBERS))),
        Echo: lambda: Sent(row, Echo(draw(NUMBERS))),
        Offer: lambda: Sent(place.row, Offer(place)),
        Missing: lambda: Sent(row, Missing(place)),
        ReadIndex: lambda: Sent(row, ReadIndex(draw(NUMBERS), draw(QUESTIONED))),
        ReadIndexOK: lambda: Sent(row, ReadIndexOK(draw(NUMBERS), draw(VECTORS))),
        EpochOver: lambda: Sent(row, EpochOver(draw(NUMBERS), draw(st.none() | VECTORS))),
        FetchRows: lambda: Sent(row, FetchRows(draw(NUMBERS), draw(SLOTS))),
        CheckpointRows: lambda: Sent(
            row, CheckpointRows(draw(NUMBERS), draw(SLOTS), draw(st.binary(max_size=9)), draw(NUMBERS))
        ),
    }
    return makers[kind]()


def recover_oks(place: InstanceId, ballot: Ballot) -> st.SearchStrategy[RecoverOK]:
    return st.builds(
        RecoverOK,
        st.just(place),
        st.just(ballot),
        NUMBERS,
        PHASES,
        OPTIONAL_VALUES,
        own_deps(place),
        NUMBERS,
        st.none() | st.builds(Proposal, COMMANDS, own_deps(place), NUMBERS),
    )
