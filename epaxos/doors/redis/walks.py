"""The commands that are about all keys: page by page, so that none of them stops a replica.

Each page is of one moment, and a walk of several is not: what comes or goes meanwhile may be seen or not. Pages read,
or write, all keys to the protocol, so each waits for every command that is under way anywhere: no way to poll.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator
from itertools import count
from typing import TYPE_CHECKING, Final, cast

from epaxos.doors.desk import Command
from epaxos.doors.redis.admission import check_now
from epaxos.doors.redis.attempt import failure
from epaxos.doors.redis.glob import Matches, matcher
from epaxos.doors.redis.numbers import integer
from epaxos.doors.redis.resp import RedisError, Reply, Request
from epaxos.doors.redis.strings import SYNTAX
from epaxos.doors.redis.table import NO_KEYS, define
from epaxos.errors import Untold
from epaxos.statemachine.operations import Operation
from epaxos.statemachine.results import Value

if TYPE_CHECKING:
    from epaxos.doors.redis.connection import Connection

_PAGE: Final = 1000
_CLEARED: Final = 5000
"""Keys of a page, and those that are removed at once."""

_CURSORS: Final = 100_000
"""Walks that are remembered; older ones have to begin again."""

_COUNT: Final = 10
_SPECIAL: Final = frozenset(b"*?[\\")


class Cursors:
    """Where walks of SCAN have come to: a number for each, as clients expect one.

    They begin anywhere in 63 bits, so that a number of another replica, or of before a restart, names no place here.
    """

    def __init__(self) -> None:
        self._places: OrderedDict[int, bytes] = OrderedDict()
        self._numbers = count(secrets.randbits(63) + 1)

    def note(self, after: bytes) -> int:
        """A number for the place behind a key."""
        number = next(self._numbers)
        self._places[number] = after
        if len(self._places) > _CURSORS:
            self._places.popitem(last=False)
        return number

    def find(self, number: int) -> bytes | None:
        """The key behind which to go on; None for the beginning.

        Raises:
            RedisError: there is no such number, or no longer.
        """
        if number == 0:
            return None
        if number not in self._places:
            raise RedisError("ERR invalid cursor")
        return self._places[number]


async def _ask(connection: Connection, command: Command) -> Value:
    """The value of a command, if it may still be asked for; one that had no room for it reads again."""
    while True:
        check_now(connection, command)
        try:
            outcome, value = await connection.door.desk.execute(command)
        except Untold:
            if command.operation == Operation.CLEAR:
                raise
            continue
        wrong = failure(outcome)
        if wrong is not None:
            raise wrong
        return value


async def _page(
    connection: Connection, prefix: bytes, after: bytes | None, limit: int
) -> tuple[list[bytes], bool]:
    """Keys in order, and whether there are more."""
    command = Command(Operation.SCAN, prefix, [after, limit, False, False])
    keys, _, more = cast("list[object]", await _ask(connection, command))
    return cast("list[bytes]", keys), bool(more)


async def _pages(connection: Connection, prefix: bytes) -> AsyncIterator[list[bytes]]:
    after, more = None, True
    while more:
        keys, more = await _page(connection, prefix, after, _PAGE)
        yield keys
        after = keys[-1] if keys else None


async def _dbsize(connection: Connection, _: Request) -> Reply:
    return cast("int", await _ask(connection, Command(Operation.COUNT, b"")))


async def _keys(connection: Connection, request: Request) -> Reply:
    matches, found, size = matcher(request[1]), [], 0
    async for keys in _pages(connection, _literal(request[1])):
        found += [key for key in keys if matches(key)]
        size += sum(map(len, keys))
        if size > connection.door.request:
            raise RedisError("ERR too many keys for one reply; SCAN tells them one page after the other")
    return found


def _literal(pattern: bytes) -> bytes:
    """What all that matches begins with."""
    special = (place for place, byte in enumerate(pattern) if byte in _SPECIAL)
    return pattern[: next(special, len(pattern))]


async def _scan(connection: Connection, request: Request) -> Reply:
    if not request[1].isdigit() or len(request[1]) > len(str(2**64)):
        raise RedisError("ERR invalid cursor")
    matches, limit, of_strings = _scan_options(request[2:])
    cursors = connection.door.cursors
    keys, more = await _page(connection, b"", cursors.find(int(request[1])), limit)
    number = cursors.note(keys[-1]) if more else 0
    found = [key for key in keys if of_strings and (matches is None or matches(key))]
    return [b"%d" % number, found]


def _scan_options(words: list[bytes]) -> tuple[Matches | None, int, bool]:
    """Which keys, how many are looked at, and whether strings are wanted."""
    matches, limit, of_strings = None, _COUNT, True
    if len(words) % 2:
        raise RedisError(SYNTAX)
    for option, word in zip(words[::2], words[1::2], strict=True):
        if option.upper() == b"COUNT":
            limit = integer(word)
            if limit < 1:
                raise RedisError(SYNTAX)
        elif option.upper() == b"MATCH":
            matches = matcher(word)
        elif option.upper() == b"TYPE":
            of_strings = word.lower() == b"string"
        else:
            raise RedisError(SYNTAX)
    return matches, min(limit, _PAGE), of_strings


async def _randomkey(connection: Connection, _: Request) -> Reply:
    keys, _more = await _page(connection, b"", None, _PAGE)
    return connection.door.choose(keys) if keys else None


async def _flush(connection: Connection, request: Request) -> Reply:
    if len(request) > 2 or (len(request) == 2 and request[1].upper() not in (b"ASYNC", b"SYNC")):
        raise RedisError(SYNTAX)
    after, more = None, True
    while more:
        value = await _ask(connection, Command(Operation.CLEAR, b"", [after, _CLEARED]))
        _, after = cast("list[bytes | None]", value)
        more = after is not None
    return "OK"


for _name, _arity, _flags, _group, _since, _summary, _walk in (
    ("keys", 2, "readonly", "generic", "1.0.0", "Find all keys matching the given pattern", _keys),
    ("scan", -2, "readonly", "generic", "2.8.0", "Incrementally iterate over all keys", _scan),
    ("randomkey", 1, "readonly", "generic", "1.0.0", "Return a key of the first thousand", _randomkey),
    ("dbsize", 1, "readonly fast", "server", "1.0.0", "Return the number of keys", _dbsize),
    ("flushdb", -1, "write", "server", "1.0.0", "Remove all keys", _flush),
    ("flushall", -1, "write", "server", "1.0.0", "Remove all keys", _flush),
):
    define(_name, _arity, _flags, NO_KEYS, _group, _since, _summary, walk=_walk, alone=True)
