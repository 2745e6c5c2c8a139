"""Paxos commit: whether a transaction over several resources happens, decided by registers.

Gray and Lamport, "Consensus on transaction commit" (2006): a transaction is committed if every resource that it names
has voted for it. Each vote is a register of its own, so whoever can reach a majority can learn what stands, and can
cast ABORTED where nothing does. Nobody is needed to tell the outcome: it is a function of the votes.

Registers are changed by compare-and-swap. A transaction has one that says that it is open and whom it names, and one
for each resource. What is done stands in procedures: generators that yield what they want done and are sent what came
of it. Whoever drives one may stop anywhere, for good. The rules, which `simulation.commit` checks:

1. The transaction is open before a resource prepares, and a resource prepares before it votes for it, once.
2. A vote is cast only where none stands, and is never replaced; a time-out casts a vote, it is none.
3. An outcome counts only if the transaction was still open after its votes were read: votes are removed after that
   register, so they are those that everybody reads.
4. The registers are removed when every resource has been told the outcome. Who comes then learns nothing but that:
   FORGOTTEN. A resource that has prepared since, for somebody slow, lets go.
5. To open is tried once: a transaction that opened again after it was over would have no votes.
6. The first ballot of a vote belongs to its resource (Gray and Lamport's ballot 0): its own vote needs no promises, all
   others do. It is used once, so only by who surely never voted before, over restarts too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias

from epaxos.errors import Refused

PREFIX: Final = b"commit/"
"""Before the keys of registers of transactions."""

LONGEST: Final = 100
"""Characters of a name or an id."""

_NAME: Final = re.compile(f"[A-Za-z0-9._-]{{1,{LONGEST}}}")
_TOLD: Final = b", told"
"""After a vote whose resource has been told the outcome."""


class Vote(Enum):
    """What a resource says, or somebody for it.

    PREPARED  it can commit and can abort, whatever happens to it
    READ      it has changed nothing: commit for all it cares, and tell it nothing
    ABORTED   it cannot, or was not heard of in time
    """

    PREPARED = b"prepared"
    READ = b"read"
    ABORTED = b"aborted"


class Outcome(Enum):
    """What a transaction comes to; FORGOTTEN: it is over, and all its resources know how it ended."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    FORGOTTEN = "forgotten"


class Transaction(NamedTuple):
    """Whom a transaction names, and what they are told of it; its id is never used again."""

    id: str
    resources: tuple[str, ...]
    meta: bytes = b""


class Ended(NamedTuple):
    """How a transaction ended; `untold` are the resources here that have failed to hear of it: recover it later."""

    transaction: Transaction
    outcome: Outcome
    untold: tuple[str, ...] = ()


# -- what is wanted ----------------------------------------------------------------------------------------------


class Open(NamedTuple):
    """Put `record` under a key that holds nothing, in one try; sent back is what stands then."""

    key: bytes
    record: bytes


class Swap(NamedTuple):
    """Replace `expected`, or nothing if it is None, by `new`; sent back is what stands then. May be tried again.

    first  nobody else ever asks for this of this register, and it is asked for once: the first try may take the ballot
           below all others (rule 6)
    """

    key: bytes
    expected: bytes | None
    new: bytes
    first: bool = False


class Read(NamedTuple):
    """Send back what stands, None if nothing does; it must be at least as new as this question."""

    key: bytes


class Remove(NamedTuple):
    """Remove what stands under these keys, in this order."""

    keys: tuple[bytes, ...]


class Prepare(NamedTuple):
    """Let a resource prepare; sent back is its vote, ABORTED if it fails."""

    resource: str


class Tell(NamedTuple):
    """Let a resource commit or abort; sent back is whether it did."""

    resource: str
    commit: bool


class Wait(NamedTuple):
    """Wait a while for votes; sent back is whether there is patience left."""

    resources: tuple[str, ...]


Todo: TypeAlias = Open | Swap | Read | Remove | Prepare | Tell | Wait

Procedure: TypeAlias = "Generator[Sequence[Todo], Sequence[Any], Ended]"
"""All that is yielded at once may be done at once, in any order; the results are sent back in the order asked."""

_Part: TypeAlias = "Generator[Sequence[Todo], Sequence[Any], Any]"

# -- records -----------------------------------------------------------------------------------------------------


def checked(transaction: Transaction) -> Transaction:
    """The transaction, if it is one.

    Raises:
        Refused: it names nobody, or somebody twice, or a name or its id is none.
    """
    names = transaction.resources
    if not names:
        raise Refused(f"transaction {transaction.id} names no resource; it needs at least one")
    for name in (transaction.id, *names):
        if type(name) is not str or not _NAME.fullmatch(name):
            raise Refused(
                f"{name!r} is no name of a resource or transaction; allowed: 1 to {LONGEST} of A-Z a-z 0-9 . _ -"
            )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Refused(
            f"transaction {transaction.id} names {', '.join(twice)} twice; allowed: each resource once"
        )
    return transaction


def encode(transaction: Transaction) -> bytes:
    """What stands in the register of an open transaction."""
    return " ".join(transaction.resources).encode() + b"\n" + transaction.meta


def decode(id_: str, record: bytes) -> Transaction:
    """The transaction of an id, of what stands in its register.

    Raises:
        Refused: that is nothing of that kind.
    """
    names, line, meta = record.partition(b"\n")
    try:
        if not line:
            raise ValueError  # noqa: TRY301 - said once, below
        return checked(Transaction(id_, tuple(names.decode("ascii").split(" ")), meta))
    except (ValueError, Refused):
        raise Refused(
            f"the register of transaction {id_} holds {record[:80]!r}, which names no resources"
        ) from None


def key_of(id_: str, resource: str | None = None) -> bytes:
    """The key of the register of a transaction, or of a vote in it."""
    return PREFIX + "/".join((id_, *(() if resource is None else (resource,)))).encode()


def _read_cell(key: bytes, cell: bytes) -> tuple[Vote, bool]:
    """The vote that a register holds, and whether its resource has been told."""
    vote, told, _ = cell.partition(_TOLD)
    try:
        return Vote(vote), bool(told)
    except ValueError:
        raise Refused(f"the register {key!r} holds {cell[:80]!r}, which is no vote") from None


# -- procedures --------------------------------------------------------------------------------------------------


def begin(transaction: Transaction) -> _Part:
    """Open a transaction.

    Raises:
        Refused: another has its id.
    """
    record = encode(transaction)
    [stands] = yield [Open(key_of(transaction.id), record)]
    if stands != record:
        raise Refused(f"there is another transaction {transaction.id}; an id is used once")


def vote(transaction: Transaction, here: Sequence[str], *, first: bool) -> _Part:
    """Let resources prepare and cast their votes; returns the registers of those, by resource.

    first  whether none of them can have been asked to prepare it before, not even before a crash
    """
    votes = yield [Prepare(name) for name in here]
    cells = yield [
        Swap(key_of(transaction.id, name), None, found.value, first)
        for name, found in zip(here, votes, strict=True)
    ]
    return dict(zip(here, cells, strict=True))


def run(transaction: Transaction, here: Sequence[str]) -> Procedure:
    """A new transaction from its beginning to its end; resources that are not `here` are voted for elsewhere."""
    yield from begin(transaction)
    cells = yield from vote(transaction, here, first=True)
    return (yield from conclude(transaction, here, cells))


def recover(transaction: Transaction, here: Sequence[str]) -> Procedure:
    """Bring a transaction that was begun to its end, whoever began it, and tell the resources `here`.

    Any number may do so at the same time.
    """
    [stands] = yield [Read(key_of(transaction.id))]
    if not _is_open(transaction, stands):
        return (yield from _let_go(transaction, here))
    return (yield from conclude(transaction, here, {}))


def conclude(transaction: Transaction, here: Sequence[str], known: Mapping[str, bytes]) -> Procedure:
    """Learn all votes, cast those that do not come, tell the resources `here` what that comes to, forget."""
    cells = yield from _learn(transaction, known)
    [stands] = yield [Read(key_of(transaction.id))]
    if not _is_open(transaction, stands):
        yield [Remove(_keys(transaction))]  # it was open: what stands there now was cast when it was over
        return (yield from _let_go(transaction, here))
    votes = {name: _read_cell(key_of(transaction.id, name), cells[name])[0] for name in transaction.resources}
    outcome = Outcome.ABORTED if Vote.ABORTED in votes.values() else Outcome.COMMITTED
    # Also those that were told already: one that prepared late, for somebody slow, has to let go.
    telling = [name for name in here if votes[name] is not Vote.READ]
    told = yield [Tell(name, outcome is Outcome.COMMITTED) for name in telling]
    heard = [name for name, done in zip(telling, told, strict=True) if done]
    yield from _forget(transaction, votes, heard)
    return Ended(transaction, outcome, tuple(name for name in telling if name not in heard))


def _is_open(transaction: Transaction, stands: bytes | None) -> bool:
    if stands is not None and stands != encode(transaction):
        other = decode(transaction.id, stands)
        raise Refused(f"transaction {transaction.id} is another one, of {', '.join(other.resources)}")
    return stands is not None


def _learn(transaction: Transaction, known: Mapping[str, bytes]) -> _Part:
    """What stands in all registers of votes. Those that stay empty get ABORTED, at once if another aborts it."""
    cells = dict(known)
    while missing := [name for name in transaction.resources if cells.get(name) is None]:
        cells |= zip(missing, (yield [Read(key_of(transaction.id, name)) for name in missing]), strict=True)
        missing = [name for name in missing if cells[name] is None]
        if missing and (_aborts(transaction, cells) or not (yield [Wait(tuple(missing))])[0]):
            swaps = [Swap(key_of(transaction.id, name), None, Vote.ABORTED.value) for name in missing]
            cells |= zip(missing, (yield swaps), strict=True)
    return cells


def _aborts(transaction: Transaction, cells: Mapping[str, bytes | None]) -> bool:
    return any(
        _read_cell(key_of(transaction.id, name), cell)[0] is Vote.ABORTED
        for name, cell in cells.items()
        if cell is not None
    )


def _let_go(transaction: Transaction, here: Sequence[str]) -> Procedure:
    """It is over: what a resource here still holds, it prepared after that."""
    told = yield [Tell(name, commit=False) for name in here]
    untold = tuple(name for name, done in zip(here, told, strict=True) if not done)
    return Ended(transaction, Outcome.FORGOTTEN, untold)


def _forget(transaction: Transaction, votes: Mapping[str, Vote], heard: Collection[str]) -> _Part:
    """Note who has been told; if that is everybody, remove the registers, the transaction's own first."""
    silent = [name for name, found in votes.items() if found is not Vote.READ and name not in heard]
    if silent:
        yield [
            Swap(key_of(transaction.id, name), votes[name].value, votes[name].value + _TOLD) for name in heard
        ]
        found = yield [Read(key_of(transaction.id, name)) for name in silent]
        if not _all_told(transaction, zip(silent, found, strict=True)):
            return
    yield [Remove((key_of(transaction.id), *_keys(transaction)))]


def _keys(transaction: Transaction) -> tuple[bytes, ...]:
    """The registers of votes."""
    return tuple(key_of(transaction.id, name) for name in transaction.resources)


def _all_told(transaction: Transaction, cells: Iterable[tuple[str, bytes | None]]) -> bool:
    """Whether all these resources have been told; one whose register is gone, too."""
    return all(cell is None or _read_cell(key_of(transaction.id, name), cell)[1] for name, cell in cells)
