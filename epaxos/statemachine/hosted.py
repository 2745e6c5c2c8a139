"""A state machine that a program brings along, in the place of the key-value store.

The state is in parts, each under a key, and a command says which keys it reads and writes: its *footprint*. Commands
whose footprints do not conflict execute in any order, and at different replicas in different ones; those that do
execute in one order everywhere. So what a command does and answers may depend on nothing but itself and what stands
under the keys of its footprint, and it may change only what it writes. A machine with one key is a log: simple, and
all its commands conflict.

The replica that takes a command asks for its footprint, which travels with it: the others need not compute it, and
nothing but `footprint` says what a command touches. Everything else, sessions, checkpoints, catching up, digests, works
with the bytes under a key, as for the store.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, Protocol, cast

from epaxos.errors import CommandError, InvariantError
from epaxos.statemachine.batch import SERVICE, Batch, Limits
from epaxos.statemachine.columns import Argument
from epaxos.statemachine.operations import RECORDS, Operation, Outcome
from epaxos.statemachine.results import Value, as_column
from epaxos.statemachine.store import Result, Store

_log = logging.getLogger(__name__)

_APPLY: Final = int(Operation.APPLY)
_TAKEN: Final = frozenset({Operation.NULL, Operation.PAUSE, Operation.APPLY})
_DONE: Final = int(Outcome.DONE)
_FORGOTTEN: Final[Result] = (int(Outcome.FORGOTTEN), None)
_NAME_BYTES: Final = 5
"""What a key or a command takes in a payload beside its bytes, at most,"""
_HEAD_BYTES: Final = 16
"""and what the lists of a footprint take."""
_TOLD: Final = 300
"""Characters of an exception that whoever asked is told."""
_LOGGED_AT_MOST: Final = 100
"""Keys of which the log tells that too much stands under them."""


class Footprint(NamedTuple):
    """The keys that a command reads, and those that it writes; what it reads and writes need stand in `writes` only."""

    reads: Collection[bytes] = ()
    writes: Collection[bytes] = ()


class Machine(Protocol):
    """A state machine of a program's own; all methods but `footprint` are called by one thread, that of the replica.

    It must be deterministic: no clock, chance, or order of a set. An exception out of any method but `footprint` stops
    the replica, as it would all others; what may be wrong with a command belongs into its answer, or into `footprint`.
    """

    name: str
    """The `machine` of the configuration: replicas and clients of another one are refused."""

    def footprint(self, command: bytes) -> Footprint:
        """Which keys (1 to `max_key` bytes) a command reads and writes, at least one; called for commands that come.

        It must not look at the state. Whatever it raises refuses the command before it is proposed: `ValueError`, say.
        It must do so for every command, whoever sent it, for which `apply` would raise. All keys and commands of a
        frame must fit into another one (`max_frame`). Who changes what it says of a command changes `name` too.
        """
        ...

    def apply(self, commands: Sequence[bytes]) -> Sequence[bytes | None]:
        """Execute commands in order; returns the answer of each. It must not ask for the answer to another command."""
        ...

    def keys(self) -> Collection[bytes]:
        """All keys under which something stands: none at first."""
        ...

    def save(self, key: bytes) -> bytes | None:
        """What stands under a key, equal for equal states; None for nothing.

        More than `max_value` bytes are taken, and told in the log: one key holds up a replica as long as it is saved.
        """
        ...

    def load(self, key: bytes, state: bytes | None) -> None:
        """Have under a key what another replica, or this one before a restart, has saved; None for nothing."""
        ...


_MEMBERS: Final = ("name", "footprint", "apply", "keys", "save", "load")


def check_machine(machine: object) -> None:
    """See that something is a `Machine`, by the names of its members.

    Raises:
        TypeError: it lacks some.
    """
    if lacking := [name for name in _MEMBERS if not hasattr(machine, name)]:
        kind = type(machine).__name__
        raise TypeError(f"state_machine must be an epaxos.Machine, and {kind} has no {', '.join(lacking)}")


class Hosted(Store):
    """A `Machine` in the place of the store: what stands under its keys are the values."""

    __slots__ = ("_machine", "_max_command", "_max_frame", "_max_key")

    def __init__(self, machine: Machine, limits: Limits) -> None:
        super().__init__(limits, _no_sleep)
        self._machine = machine
        self._max_key, self._max_command, self._max_frame = limits.key, limits.value, limits.results
        self._data = cast("dict[bytes, bytes]", _State(machine, limits.value))
        self._handlers = tuple(
            self._handlers[kind] if kind == Operation.NULL else _unknown for kind in range(256)
        )

    def admit(self, batch: Batch) -> int:
        """Check every command of a client's batch, and put its footprint beside it: so many bytes more, about.

        Raises:
            CommandError: one may not be proposed.
        """
        if batch.client == SERVICE:
            raise CommandError(0, f"client {SERVICE} is the service itself")
        weight, added = _HEAD_BYTES * len(batch), 0
        arguments = batch.arguments or [None] * len(batch)
        admitted: list[Argument] = []
        for index, command in enumerate(zip(batch.operations, batch.keys, arguments, strict=True)):
            given = self._admitted(index, *command)
            admitted.append(given)
            if given is not None:
                reads, writes, text = given
                more = sum(map(len, reads)) + sum(map(len, writes)) + _NAME_BYTES * (len(reads) + len(writes))
                added += _HEAD_BYTES + more
                weight += _NAME_BYTES + len(text) + more
            if weight > self._max_frame:
                name, most = self._machine.name, self._max_frame
                text = f"commands and footprints of {weight} bytes in a frame; at most {most} are allowed"
                raise CommandError(index, f"{name}: {text}")
        batch.arguments = admitted
        return added

    def _admitted(self, index: int, operation: int, key: bytes, command: Argument) -> list[Any] | None:
        if operation == Operation.NULL and not key and command is None:
            return None
        if operation != _APPLY or key or type(command) is not bytes:
            raise CommandError(
                index, f"this cluster runs the state machine {self._machine.name}: APPLY alone is allowed"
            )
        if len(command) > self._max_command:
            raise CommandError(
                index, f"command of {len(command)} bytes; at most {self._max_command} are allowed"
            )
        try:
            reads, writes = map(list, self._machine.footprint(command))
        except BaseException as error:  # argparse, say, raises SystemExit, which would stop the replica
            raise CommandError(index, f"{self._machine.name}: {_told(error)}") from error
        if reason := self._wrong(reads + writes):
            raise CommandError(index, f"{self._machine.name}: {reason}")
        return [reads, writes, command]

    def _wrong(self, keys: list[bytes]) -> str | None:
        """What is wrong with the keys of a footprint."""
        if not keys or any(type(key) is not bytes for key in keys):
            return "the footprint of a command must name keys, as bytes"
        if all(0 < len(key) <= self._max_key and not key.startswith(RECORDS) for key in keys):
            return None
        return f"the keys of a footprint must have 1 to {self._max_key} bytes and not begin with {RECORDS!r}"

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Take keys and states from a checkpoint of this replica."""
        self._data.update(items)

    def let_go(self, most: int) -> bool:
        """What stands under the keys of a program's machine is its own, and goes on in the next one."""
        del most
        return False

    def _remove(self, key: bytes) -> bool:
        return self._data.pop(key, None) is not None

    def execute(
        self, operations: bytes, keys: Sequence[bytes], arguments: Sequence[Argument] | None
    ) -> tuple[bytes, list[Value] | None]:
        """Execute commands in order (see `Store.execute`): those of the machine by whole columns."""
        del keys
        given = [
            cast("tuple[list[bytes], list[bytes], bytes]", one)
            for kind, one in zip(operations, arguments or (), strict=False)
            if kind == _APPLY
        ]
        if self._frozen is not None:  # saving what stands under a key may take long
            self._put_aside(self._frozen.lacking({key for _, writes, _ in given for key in writes}))
        answers = iter(self._apply([command for _, _, command in given]))
        results = [self._result(next(answers)) if kind == _APPLY else _NOTHING for kind in operations]
        outcomes, values = zip(*results, strict=True)
        return bytes(outcomes), as_column(list(values))

    def _apply(self, commands: list[bytes]) -> Sequence[bytes | None]:
        if not commands:
            return ()
        with _must_not_raise(self._machine):
            answers = self._machine.apply(commands)
        if len(answers) != len(commands) or not all(type(one) is bytes or one is None for one in answers):
            raise InvariantError(
                f"the state machine {self._machine.name} must answer each command with bytes or None"
            )
        return answers

    def _result(self, answer: bytes | None) -> Result:
        """It has executed, so an answer that is too large is told to be lost."""
        return (_DONE, answer) if self.has_room(answer, reads=False) else _FORGOTTEN


_NOTHING: Final[Result] = (_DONE, None)
_ALL_BYTES: Final = {bytes}


class _State(MutableMapping[bytes, bytes]):
    """What stands under the keys of a machine, as the dictionary of a store.

    Raises:
        InvariantError: the machine does not keep to its contract. Whoever reads its state to keep it elsewhere has kept
            nothing wrong yet.
    """

    def __init__(self, machine: Machine, most: int) -> None:
        self._machine = machine
        self._most = most
        self._large: set[bytes] = set()

    def __getitem__(self, key: bytes) -> bytes:
        with _must_not_raise(self._machine):
            state = self._machine.save(key)
        if state is None:
            raise KeyError(key)
        if type(state) is not bytes:
            name, kind = self._machine.name, type(state).__name__
            raise InvariantError(f"the state machine {name} must save bytes or None, not {kind}")
        if len(state) > self._most and key not in self._large and len(self._large) < _LOGGED_AT_MOST:
            self._large.add(key)
            name, size = self._machine.name, len(state)
            _log.warning("%s: %d bytes under the key %r, above max_value (%d)", name, size, key, self._most)
        return state

    def __setitem__(self, key: bytes, state: bytes) -> None:
        with _must_not_raise(self._machine):
            self._machine.load(key, state)

    def __delitem__(self, key: bytes) -> None:
        with _must_not_raise(self._machine):
            self._machine.load(key, None)

    def _keys(self) -> Collection[bytes]:
        with _must_not_raise(self._machine):
            keys = self._machine.keys()
            kinds = set(map(type, keys))
        if not kinds <= _ALL_BYTES:
            raise InvariantError(f"the keys of the state machine {self._machine.name} must be bytes")
        return keys

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._keys())

    def __len__(self) -> int:
        with _must_not_raise(self._machine):
            return len(self._machine.keys())

    def copy(self) -> Mapping[bytes, bytes]:
        """All of it, for a digest; a key of which nothing is saved is none."""
        return {key: state for key in self if (state := self.get(key)) is not None}


@contextmanager
def _must_not_raise(machine: Machine) -> Iterator[None]:
    """What a method of a machine is called within; SystemExit would end the replica's thread without a word."""
    try:
        yield
    except BaseException as error:
        text = f"the state machine {machine.name} raised {type(error).__name__}: {_told(error)}"
        raise InvariantError(text) from error


def _told(error: BaseException) -> str:
    """What an exception says, as one line that can be sent: what it quotes of a command may be anything."""
    try:
        text = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001 - it is a program's own
        text = ""
    return (text or type(error).__name__)[:_TOLD].encode(errors="backslashreplace").decode()


def _no_sleep(_: float) -> None: ...


def _unknown(_key: bytes, _argument: Argument) -> Result:
    return int(Outcome.ABORTED), None
