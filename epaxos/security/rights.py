"""What a client may do: its role, and the prefixes of the keys that it may touch.

Checked by the replica that takes a command, before it is proposed: what is in the log has been allowed by somebody.
A new operation is for admins without prefixes until it is given its place in `_NEEDS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import repeat
from math import inf
from typing import Any, Final, TypeAlias

from epaxos.config import show
from epaxos.errors import Denied
from epaxos.statemachine.columns import (
    footprint_columns,
    forgotten_keys,
    multi_columns,
    prepared_columns,
    resolved_keys,
)
from epaxos.statemachine.operations import KEYLESS, OF_TRANSACTIONS, READERS, READERS_OF_ALL, Operation


class Role(IntEnum):
    """What a client may do; each may do what those before it may.

    READ   read values
    WRITE  change them, and end transactions that are in its way
    ADMIN  stop replicas for a moment, have their state hashed, see all transactions, change members
    """

    READ = 1
    WRITE = 2
    ADMIN = 3


_NEEDS: Final[dict[int, Role]] = {
    **dict.fromkeys({Operation.NULL, *READERS, *READERS_OF_ALL}, Role.READ),
    **dict.fromkeys(
        {
            Operation.WRITE,
            Operation.WRITEREAD,
            Operation.DELETE,
            Operation.CAS,
            Operation.INCREMENT,
            Operation.APPEND,
            Operation.SETEX,
            Operation.SETTTL,
            Operation.PERSIST,
            Operation.CLEAR,
            *OF_TRANSACTIONS,
        },
        Role.WRITE,
    ),
    # What these need is what their parts, or the keys that they touch, need.
    Operation.MULTI: Role.READ,
    Operation.APPLY: Role.READ,
    Operation.PAUSE: Role.ADMIN,
}

_PLAIN: Final = frozenset(_NEEDS) - KEYLESS - OF_TRANSACTIONS
"""Operations that touch the key in their column and nothing else, or keys that begin with what is there."""

_ALLOWED: Final = {
    role: frozenset(operation for operation in _PLAIN if _NEEDS[operation] <= role) for role in Role
}

_FREE: Final = frozenset({"brief", "left", "watch"})
"""Of what a question for the state of a replica may ask beside what it always tells: what is not for admins alone."""

_NAMED: Final = 3
"""Of what it asks for and may not, so much is told."""

Command: TypeAlias = "tuple[int, bytes, Any]"


@dataclass(frozen=True, slots=True)
class Rights:
    """What a client may do until a moment: `until` is by the clock of `time.time`.

    `prefixes` are those of the keys that it may touch; all, if there are none.
    """

    name: str
    role: Role
    prefixes: tuple[bytes, ...] = ()
    until: float = inf

    def check(self, operations: bytes, keys: Sequence[bytes], arguments: Sequence[Any] | None) -> None:
        """See that it may have these commands proposed.

        Raises:
            Denied: with the index of the first that it may not.
        """
        if self.role == Role.ADMIN and not self.prefixes:
            return
        if set(operations) <= _ALLOWED[self.role] and self._owns_all(keys):
            return
        for index, command in enumerate(zip(operations, keys, arguments or repeat(None), strict=False)):
            reason = self._refusal(command)
            if reason:
                raise Denied(index, f"{self.name} {reason}")

    def check_question(self, options: dict[str, Any]) -> None:
        """See that it may ask this for the state of a replica.

        Raises:
            Denied: it may not.
        """
        asked = {str(name) for name, value in options.items() if value} - _FREE
        if asked:
            self.check_role(Role.ADMIN, " and ".join(map(show, sorted(asked)[:_NAMED])))
        key = options.get("left")
        if isinstance(key, bytes):
            self.check_keys((key,))
        watched = options.get("watch")
        prefix = watched.get("prefix") if isinstance(watched, dict) else None
        if isinstance(prefix, bytes):  # another is no question that is answered
            self.check(bytes((Operation.SCAN,)), (prefix,), None)

    def check_role(self, needed: Role, what: str) -> None:
        """See that it has a role, which `what` needs.

        Raises:
            Denied: it has not.
        """
        if self.role < needed:
            raise Denied(0, f"{self.name} {self._lacks(needed, what)}")

    def check_everything(self, what: str) -> None:
        """See that it is an admin of all keys, which `what` needs.

        Raises:
            Denied: it is not.
        """
        self.check_role(Role.ADMIN, what)
        self.check_all_keys(what)

    def check_all_keys(self, what: str) -> None:
        """See that all keys are its own, which `what` needs.

        Raises:
            Denied: they are not.
        """
        if self.prefixes:
            raise Denied(0, f"{self.name} has not all keys; {what} needs them")

    def check_keys(self, keys: Sequence[bytes]) -> None:
        """See that these keys are its own.

        Raises:
            Denied: one is not.
        """
        for key in keys:
            if not self._owns_all((key,)):
                raise Denied(0, f"{self.name} {self._not_its(key)}")

    def _owns_all(self, keys: Sequence[bytes]) -> bool:
        return not self.prefixes or all(map(bytes.startswith, keys, repeat(self.prefixes)))

    def _refusal(self, command: Command) -> str | None:
        """Why it may not have one command proposed, None if it may; a check of its shape comes before."""
        operation, key, argument = command
        needed = _NEEDS.get(operation, Role.ADMIN)
        if operation not in _NEEDS and self.prefixes:
            return f"may not {_name(operation)}: it has not all keys"
        parts, touched = _parts(operation, argument), _touched(operation, key, argument)
        if parts is None or touched is None:
            return f"may not {_name(operation)} with an argument of another shape"
        if operation == Operation.APPLY and argument[1]:
            needed = Role.WRITE
        if self.role < needed:
            return self._lacks(needed, _name(operation))
        refusals = filter(None, map(self._refusal, parts))
        return next(refusals, None) or next(
            (self._not_its(key) for key in touched if not self._owns_all((key,))), None
        )

    def _lacks(self, needed: Role, what: str) -> str:
        return f"has the role {self.role.name.lower()}; {what} needs the role {needed.name.lower()}"

    def _not_its(self, key: bytes) -> str:
        mine = ", ".join(show(prefix.decode(errors="replace")) for prefix in self.prefixes)
        return (
            f"may not touch the key {show(key.decode(errors='replace'))}; it has those that begin with {mine}"
        )


EVERYTHING: Final = Rights("anybody", Role.ADMIN)
"""What everybody may do where nobody is asked for a key."""


def _name(operation: int) -> str:
    return Operation(operation).name if operation in set(Operation) else f"operation {operation}"


def _touched(operation: int, key: bytes, argument: Any) -> Sequence[bytes] | None:
    """The keys of the store that a command touches, but for those of its parts; None if its argument does not tell."""
    if operation == Operation.RESOLVE:
        return resolved_keys(argument)
    if operation == Operation.FORGET:
        return forgotten_keys(argument)
    if operation == Operation.APPLY:
        footprint = footprint_columns(argument)
        return None if footprint is None else [*footprint[0], *footprint[1]]
    return () if operation in KEYLESS | OF_TRANSACTIONS else (key,)


def _parts(operation: int, argument: Any) -> Sequence[Command] | None:
    """The commands that a command holds; None if its argument does not tell."""
    if operation not in (Operation.MULTI, Operation.PREPARE):
        return ()
    columns = multi_columns(argument) if operation == Operation.MULTI else prepared_columns(argument)
    return None if columns is None else list(zip(*columns, strict=True))
