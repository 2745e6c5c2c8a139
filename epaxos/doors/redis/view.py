"""What a command of Redis sees of the store, and what it changes: some keys as they stood at one moment.

Most commands are more than an operation of the store. Such a command is a function of a `View`: its keys are read, all
at one moment, the function is called, and what it changed is proposed as one `multi`, on condition that all the keys
are still as they were, and their times too (`expects`). If they are not, it begins again. So the store has no commands
of Redis, and a command may look at a clock, which nothing that executes may.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from epaxos.doors.desk import Command
from epaxos.doors.redis.resp import RedisError
from epaxos.statemachine.expiry import TTL_MAX, Expiring
from epaxos.statemachine.operations import Operation

TOO_LONG: Final = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"

KEEP: Final = -1
"""In the place of milliseconds: the time of the value before."""


class View:
    """The given keys and values, None for those that are absent; `expects` before anything has changed.

    `milliseconds` is the time of people, since the epoch, `monotonic` that of this machine, in seconds; `most` is the
    length of a value at most.
    """

    def __init__(
        self, found: Mapping[bytes, bytes | None], milliseconds: int, monotonic: float, most: int
    ) -> None:
        self._found = found
        self._now = dict(found)
        self._changed: dict[bytes, int | None] = {}
        self.milliseconds = milliseconds
        self.most = most
        self._monotonic = monotonic

    def found(self, key: bytes) -> bytes | None:
        """The value of a key as it was found."""
        return self._found[key]

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        return self._now[key]

    def set(self, key: bytes, value: bytes, ttl: int | None) -> None:
        """Give a key a value, for `ttl` milliseconds, for ever if that is None, or for as long as before: KEEP.

        Raises:
            RedisError: the value is too long.
        """
        if len(value) > self.most:
            raise RedisError(TOO_LONG)
        if ttl == KEEP:
            ttl = self._changed.get(key, KEEP) if self._now[key] is not None else None
        self._now[key] = bytes(value)
        self._changed[key] = ttl if ttl is None else min(ttl, TTL_MAX)

    def delete(self, key: bytes) -> bool:
        """Remove a key; whether it was there."""
        there = self._now[key] is not None
        if there:
            self._now[key] = None
            self._changed[key] = None
        return there

    def left(self, key: bytes) -> int | None:
        """Milliseconds until a key ends, as counted at this replica; None if it does not."""
        ttl = self._changed.get(key, KEEP)
        found = self._found[key]
        if ttl != KEEP or self._now[key] is None:
            return ttl
        if not isinstance(found, Expiring):
            return None
        # One that this replica executed just now has no beginning yet.
        passed = (self._monotonic - found.since) * 1000 if found.since else 0.0
        return max(0, found.ttl - int(passed))

    def writes(self) -> list[Command]:
        """What has been changed, as operations."""
        return [command for key, ttl in self._changed.items() for command in self._write(key, ttl)]

    def _write(self, key: bytes, ttl: int | None) -> list[Command]:
        value, found = self._now[key], self._found[key]
        if value is None:
            # What came and went is a change to whoever watches the key, at any replica.
            came = [Command(Operation.WRITE, key, b"")] if found is None else []
            return [*came, Command(Operation.DELETE, key)]
        if ttl is None:
            if value == found and isinstance(found, Expiring):
                return [Command(Operation.PERSIST, key)]
            return [Command(Operation.WRITE, key, value)]
        if ttl == KEEP:
            return [Command(Operation.SETEX, key, [value, None])]
        if value == found:
            return [Command(Operation.SETTTL, key, ttl)]
        return [Command(Operation.SETEX, key, [value, ttl])]

    def expects(self) -> list[Command]:
        """Operations that fail unless all keys are as they were found."""
        return [command for key, value in self._found.items() for command in expect(key, value)]


def expect(key: bytes, value: bytes | None) -> list[Command]:
    """Operations that fail unless a key has this value, with this time."""
    plain = None if value is None else bytes(value)
    same = Command(Operation.CAS, key, [plain, plain])
    if value is None:
        return [same]
    ends = [*value.generation] if isinstance(value, Expiring) else None
    return [same, Command(Operation.ENDSBY, key, ends)]
