"""What somebody has to do for registers, driven by a node: forget deleted ones, and let acceptors come and go.

Which procedure is under way stands in a register of the nodes' own, and so do the nodes that are gone for good.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from itertools import count
from typing import Any, Final, NamedTuple, Protocol, cast

import msgpack

from epaxos.errors import Busy, FrameError, Refused
from epaxos.protocol.registers.change import Done, Verdict, Want
from epaxos.protocol.registers.upkeep import Ask, Configure, Procedure, collect, plan, resize
from epaxos.protocol.registers.values import COUNTER_MAX, Ballot, Configuration, List, State
from epaxos.registers.cells import Cells
from epaxos.registers.transport import Unreachable

_OWN: Final = b"a"
"""The key of the register in which all this stands; those of users begin otherwise."""


class Host(Protocol):
    """The node that does it."""

    id: int

    @property
    def cells(self) -> Cells:
        """What it keeps."""
        ...

    @property
    def configuration(self) -> Configuration:
        """Who votes."""
        ...

    @property
    def peers(self) -> tuple[int, ...]:
        """All nodes."""
        ...

    def begin(self, want: Want, timeout: float) -> Future[Done]:
        """Propose something."""
        ...

    def ask(self, node: int, request: Any, timeout: float = 1.0) -> Any:
        """The answer of a node."""
        ...


class _Owner(NamedTuple):
    """Whose procedure is under way, and the configuration that it began with."""

    node: int
    name: str
    base: Configuration


class _Own(NamedTuple):
    """The value of the register."""

    owner: _Owner | None
    gone: tuple[int, ...]

    @classmethod
    def read(cls, value: bytes | None) -> _Own:
        if value is None:
            return cls(None, ())
        owner, gone = msgpack.unpackb(value)
        if owner is None:
            return cls(None, tuple(gone))
        node, name, (version, prepare, accept) = owner
        return cls(_Owner(node, name, Configuration(version, tuple(prepare), tuple(accept))), tuple(gone))

    def packed(self) -> bytes:
        packed: bytes = msgpack.packb(self)
        return packed


_COLLECT: Final = "collect"


class Upkeep:
    """The procedures of one node, one at a time; any may be called again to go on where it stopped."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._nonces = count(1)
        self._running = threading.Lock()
        self._gone: tuple[int, ...] = ()

    def collect(self, timeout: float, gone: Iterable[int]) -> int:
        """See `Node.collect`."""
        return self._run(_COLLECT, time_left(timeout), gone)

    def resize(self, name: str, timeout: float, gone: Iterable[int]) -> None:
        """See `Node.grow` and `Node.shrink`; the name is "grow" or "shrink" and the number of the acceptor."""
        self._run(name, time_left(timeout), gone)

    def _run(self, name: str, left: Callable[[], float], gone: Iterable[int]) -> int:
        if not self._running.acquire(blocking=False):
            raise Busy("another procedure is under way at this node")
        try:
            while True:
                resumed, owner = self._acquire(name, left, tuple(gone))
                after = (self._host.cells.progress or b"") if resumed else b""
                if not resumed:
                    self._host.cells.note(b"")
                result = self._drive(_procedure(owner, after), left)
                self._host.cells.note(b"")
                self._own(lambda own: _Own(None, own.gone), left)
                if owner.name == name:
                    return result
        finally:
            self._running.release()

    def _acquire(self, name: str, left: Callable[[], float], gone: tuple[int, ...]) -> tuple[bool, _Owner]:
        """Begin a procedure, or find what is to be finished before it: the own, or that of a node that is gone.

        A collection of a node that is gone, or an unfinished one of this node, needs no end: nothing is removed that
        not all acceptors hold as deleted, so who comes to vote later finds nothing older anywhere.

        Raises:
            Busy: another node's is under way.
            Refused: it makes no sense.
        """
        host = self._host
        known = self._own(lambda own: own, left).owner  # decides who votes, if nothing was ever asked
        mine = _Owner(host.id, name, host.configuration)

        def step(own: _Own) -> _Own:
            gone_now = tuple(sorted({*own.gone, *gone}))
            owner = own.owner
            if owner is None or (owner.name == _COLLECT and owner.node in (host.id, *gone_now)):
                keeps = owner is not None and owner.node == host.id and name == _COLLECT
                return _Own(owner if keeps else mine, gone_now)
            return _Own(owner._replace(node=host.id) if owner.node in gone_now else owner, gone_now)

        if name != _COLLECT and (known is None or known.name == _COLLECT):
            _planned(mine)  # before anything is written that nobody could finish
        own = self._own(step, left)
        self._gone = own.gone
        owner = own.owner
        assert owner is not None
        if owner.node != host.id:
            raise Busy(
                f"{owner.name} of node {owner.node} is under way: let that node finish it, or say that it is gone"
            )
        return owner == known, owner

    def _own(self, change: Callable[[_Own], _Own], left: Callable[[], float]) -> _Own:
        def step(state: State) -> tuple[State, Any]:
            packed = change(_Own.read(state.value)).packed()
            return state if packed == state.value else state._replace(value=packed), packed

        done = self._host.begin(Want(_OWN, step, repeatable=True), left()).result()
        if done.verdict is not Verdict.DONE:
            raise Busy("no majority of the acceptors answers")
        return _Own.read(done.result)

    def _drive(self, procedure: Procedure, left: Callable[[], float]) -> int:
        """Do what a procedure wants, one thing after another."""
        result: Any = None
        try:
            while True:
                todo = procedure.send(result)
                result = None
                if isinstance(todo, Want):
                    result = self._host.begin(todo, left()).result()
                elif isinstance(todo, Ask):
                    result = self._ask_all(todo, left)
                elif isinstance(todo, Configuration):
                    self._configure_all(todo, left)
                elif todo.key:
                    self._host.cells.note(todo.key)
        except StopIteration as end:
            return cast("int", end.value)

    def _ask_all(self, ask: Ask, left: Callable[[], float]) -> dict[int, Any]:
        request = ask.request
        if isinstance(request, List):
            request = request._replace(ballot=Ballot(next(self._nonces) % COUNTER_MAX, self._host.id))
        return self._everybody(
            ask.acceptors, request, ask.needed, left, lambda answer: answer.ballot == request.ballot
        )

    def _configure_all(self, configuration: Configuration, left: Callable[[], float]) -> None:
        """Give a configuration to all who may propose.

        Of one that is gone a last message may still be under way. It counts for nothing: nobody hears of its success.
        """
        nodes = tuple(node for node in self._host.peers if node not in self._gone)
        self._everybody(nodes, Configure(configuration), len(nodes), left, lambda answer: answer.done)

    def _everybody(
        self,
        nodes: tuple[int, ...],
        request: Any,
        needed: int,
        left: Callable[[], float],
        wanted: Callable[[Any], bool],
    ) -> dict[int, Any]:
        """Ask nodes, again and again, until `needed` of them have answered as wanted.

        Raises:
            Busy: the time is over; who is missing is named.
        """
        found: dict[int, Any] = {}
        wait = 0.01
        while True:
            for node in nodes:
                if node not in found:
                    try:
                        answer = self._host.ask(node, request)
                    except (Unreachable, FrameError):
                        continue
                    if wanted(answer):
                        found[node] = answer
                        if len(found) >= needed:
                            return found
            if left() <= 0:
                missing = ", ".join(str(node) for node in nodes if node not in found)
                raise Busy(f"waits for node {missing}; call it again to go on")
            time.sleep(min(wait, max(left(), 0)))
            wait = min(2 * wait, 0.5)


def _procedure(owner: _Owner, after: bytes) -> Procedure:
    if owner.name == _COLLECT:
        return collect(owner.base, after)
    return resize(owner.base, _planned(owner))


def _planned(owner: _Owner) -> Any:
    """The steps of a change of the acceptors.

    Raises:
        Refused: it makes no sense.
    """
    kind, _, acceptor = owner.name.partition(" ")
    try:
        if kind == "grow":
            return plan(owner.base, joins=int(acceptor))
        return plan(owner.base, leaves=int(acceptor))
    except ValueError as error:
        raise Refused(str(error)) from error


def time_left(timeout: float) -> Callable[[], float]:
    """Tells how many seconds of a time-out are left."""
    end = time.monotonic() + timeout
    return lambda: end - time.monotonic()
