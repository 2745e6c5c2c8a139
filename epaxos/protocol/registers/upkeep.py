"""What somebody has to do for registers beside changing them: forget deleted ones, and let acceptors come and go.

Each procedure is a generator: it yields what it wants done, one thing at a time, and is sent what came of it. Whoever
drives it may stop anywhere, and begin again later from the key, or the step, that was noted last. Procedures exclude
each other: a removal needs the votes of all acceptors that there are, and a rescan could bring back what was removed.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from epaxos.protocol.registers.change import Done, Verdict, Want
from epaxos.protocol.registers.steps import read
from epaxos.protocol.registers.values import (
    EMPTY,
    ZERO,
    Answer,
    Configuration,
    List,
    Listed,
    Remove,
    Removed,
    Request,
)

PAGE: Final = 100
"""Keys that are listed at a time."""


class Ask(NamedTuple):
    """Send a request to acceptors until `needed` of them have answered; the answers by acceptor are sent back."""

    acceptors: tuple[int, ...]
    request: Request
    needed: int


class Note(NamedTuple):
    """Everything up to this key, or step, is done: make that durable."""

    key: bytes = b""
    step: int = 0


class Configure(NamedTuple):
    """To a proposer: begin attempts with this configuration from now on. It must be durable before the answer."""

    configuration: Configuration


class Settled(NamedTuple):
    """From a proposer: whether no attempt of a configuration older than `version` is under way there."""

    version: int
    done: bool


Todo: TypeAlias = Want | Ask | Configuration | Note
"""A Want is proposed, and its `Done` sent back; a Configuration is given to all proposers until all are settled in
it."""

Procedure: TypeAlias = Generator[Todo, Any, int]
"""Its result counts the keys that were removed, or rescanned."""


def collect(configuration: Configuration, after: bytes = b"") -> Procedure:
    """Forget the registers after a key that have been deleted. It waits until every acceptor can be asked."""
    removed = 0
    acceptors = configuration.accept
    while True:
        answers = yield Ask(acceptors, List(after, ZERO, PAGE), len(acceptors))
        keys, last = _page(answers)
        for key in keys:
            removed += yield from _remove(key, configuration)
            yield Note(key)
        if last:
            return removed
        after = keys[-1]


def _remove(key: bytes, configuration: Configuration) -> Generator[Todo, Any, bool]:
    """Forget one register, if it holds a tombstone and nobody begins to change it meanwhile.

    All acceptors take the tombstone anew at one ballot t. Each forgets it if it has promised nothing above t since,
    from then on refuses what is not above t. So what others find of it, anywhere, is the tombstone or nothing.

    What was never changed is not forgotten: its first change may be under way at the ballot FIRST, which is below t,
    and nobody has deleted it (`Want.first`).
    """
    found = yield Want(key, read, reads=True)
    if not _is_tombstone(found):
        return False
    done = yield Want(key, read, repeatable=True, everywhere=True)
    if not _is_tombstone(done):
        return False
    acceptors = configuration.accept
    answers: Mapping[int, Removed] = yield Ask(acceptors, Remove(key, done.ballot), len(acceptors))
    return all(answer.done for answer in answers.values())


def _is_tombstone(done: Done) -> bool:
    return done.verdict is Verdict.DONE and done.state.value is None and done.state != EMPTY


def _page(answers: Mapping[int, Answer]) -> tuple[list[bytes], bool]:
    """The keys that all these lists are complete for, and whether there are no more."""
    lists = [answer.keys for answer in answers.values() if isinstance(answer, Listed)]
    keys = sorted({key for listed in lists for key in listed})
    cut = [listed[-1] for listed in lists if len(listed) >= PAGE]
    return ([key for key in keys if key <= min(cut)], False) if cut else (keys, True)


class Rescan(NamedTuple):
    """Bring every register to the accept set of the configuration before: a step of `plan`."""


def plan(
    now: Configuration, *, joins: int | None = None, leaves: int | None = None
) -> list[Configuration | Rescan]:
    """The steps by which one acceptor joins or leaves, without a moment in which a value can be overlooked.

    Every prepare quorum of a step meets every accept quorum that may have chosen something under it, or under the step
    before. Majorities of sets that differ by one do so in this order alone; where they do not for what was chosen
    earlier, a rescan makes every value chosen anew.

    Raises:
        ValueError: the acceptor is there already, or is not; the change before is not complete; nobody would be left.
    """
    members = now.accept
    if now.prepare != members:
        raise ValueError(
            f"a change of the acceptors is not complete: {now.prepare} are asked first, then {members}"
        )
    if joins is not None:
        if joins in members:
            raise ValueError(f"acceptor {joins} is one already; there are {_names(members)}")
        both = (*members, joins)
        return [
            Configuration(now.version + 1, members, both),
            Rescan(),
            Configuration(now.version + 2, both, both),
        ]
    if leaves not in members:
        raise ValueError(f"acceptor {leaves} is none; there are {_names(members)}")
    rest = tuple(member for member in members if member != leaves)
    if not rest:
        raise ValueError(f"acceptor {leaves} is the last one, and holds everything")
    end = Configuration(now.version + 2, rest, rest)
    if len(members) % 2:
        return [Configuration(now.version + 1, members, rest), Rescan(), end]
    return [Configuration(now.version + 1, rest, members), end]


def _names(members: Sequence[int]) -> str:
    return ", ".join(map(str, members))


def resize(
    now: Configuration, steps: Sequence[Configuration | Rescan], first: int = 0, after: bytes = b""
) -> Procedure:
    """Go through the steps of a plan from the step `first` on, a rescan from the keys after `after` on."""
    rescanned = 0
    for number, step in enumerate(steps):
        if isinstance(step, Configuration):
            now = step
        if number < first:
            continue
        if isinstance(step, Rescan):
            rescanned += yield from _rescan(now, number, after)
        else:
            yield step
        yield Note(step=number + 1)
    return rescanned


def _rescan(configuration: Configuration, step: int, after: bytes) -> Procedure:
    """Choose every register's state anew. Of a key that is being changed, a majority has a promise already."""
    rescanned = 0
    while True:
        answers = yield Ask(configuration.prepare, List(after, ZERO, PAGE), configuration.promises)
        keys, last = _page(answers)
        for key in keys:
            done = yield Want(key, read, repeatable=True)
            while done.verdict is not Verdict.DONE:
                done = yield Want(key, read, repeatable=True)
            rescanned += 1
        if last:
            return rescanned
        after = keys[-1]
        yield Note(after, step)
