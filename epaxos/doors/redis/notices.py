"""Keyspace notifications: what executes at this replica, told to those who have subscribed to it.

Every change is told, whoever asked for it and by whichever door, once it has executed here: `set`, `del`, `expire` and
so on, by what a command has come to. Where what happened elsewhere came as a checkpoint, nothing can be told of each
change, so subscribers are cut: they notice it, subscribe again, and know that they may have missed something. They are
cut too where more changes than can be told. Nobody else waits for them: changes are told a little at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Final

from epaxos.doors.gate import Executed
from epaxos.doors.redis.glob import Matches, matcher
from epaxos.doors.redis.resp import Push, RedisError, Reply, Request, Several
from epaxos.doors.redis.table import NO_KEYS, define, define_container
from epaxos.statemachine.columns import multi_columns, resolved_keys
from epaxos.statemachine.operations import Operation, Outcome
from epaxos.statemachine.results import Value

if TYPE_CHECKING:
    from epaxos.doors.redis.connection import Connection

_MOST: Final = 10_000
"""Channels of one connection."""

_BESIDE_KEY: Final = 32  # bytes of the name of a channel, at least

PATTERNS: Final = 256
"""Different ones of all connections: each change is compared with each of them."""

_LONGEST_PATTERN: Final = 256
"""Bytes: it takes time to make one ready, and each change to compare with it."""

_SLICE: Final = 0.005
"""Seconds for which changes are told before others have their turn."""

_UNTOLD: Final = 16 * 1024 * 1024
"""Bytes of changes that wait to be told, about; subscribers that would need more are cut."""

_CHANGE: Final = 128  # bytes of one beside its key, about

CLEARED: Final = b"clear"
"""Of a prefix, not of a key: Redis tells nobody of what FLUSHALL removes."""

_EVENTS: Final[dict[int, tuple[bytes, ...]]] = {
    Operation.WRITE: (b"set",),
    Operation.WRITEREAD: (b"set",),
    Operation.DELETE: (b"del",),
    Operation.INCREMENT: (b"incrby",),
    Operation.APPEND: (b"append",),
    Operation.SETTTL: (b"expire",),
    Operation.PERSIST: (b"persist",),
    Operation.EXPIRE: (b"expired",),
    Operation.CLEAR: (CLEARED,),
}

Change = tuple[bytes, bytes]
"""A key and what has become of it."""


def changes_of(executed: Executed) -> Iterator[Change]:
    """What executed commands have changed or set anew, in order; `resolve` is all that is known of a transaction."""
    arguments = executed.arguments or repeat(None, len(executed.keys))
    values = executed.values or repeat(None, len(executed.keys))
    return _changes(executed.operations, executed.keys, arguments, executed.outcomes, values)


def _changes(
    operations: bytes,
    keys: Sequence[bytes],
    arguments: Iterable[object],
    outcomes: bytes,
    values: Iterable[Value],
) -> Iterator[Change]:
    columns = zip(operations, keys, arguments, outcomes, values, strict=True)
    for operation, key, argument, outcome, value in columns:
        if outcome != Outcome.DONE:
            continue
        events = _EVENTS.get(operation)
        if events is not None:
            yield from ((key, event) for event in events)
        elif operation == Operation.MULTI:
            parts = multi_columns(argument)
            if parts is not None and isinstance(value, list) and isinstance(value[0], bytes):
                yield from _changes(*parts, value[0], repeat(None, len(parts[0])))
        elif operation == Operation.RESOLVE:
            yield from ((each, b"resolve") for each in resolved_keys(argument) or ())
        elif isinstance(argument, list) and operation == Operation.CAS and argument[0] != argument[1]:
            yield key, b"del" if argument[1] is None else b"set"
        elif isinstance(argument, list) and operation == Operation.SETEX:
            yield key, b"set"
            if argument[1] is not None:
                yield key, b"expire"


class Notices:
    """Who of a door's connections has subscribed to what."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._untold: deque[Change] = deque()
        self._size = 0
        self._telling = False
        self._channels: dict[bytes, dict[Connection, None]] = {}
        self._patterns: dict[bytes, tuple[Matches, dict[Connection, None]]] = {}

    def __bool__(self) -> bool:
        return bool(self._channels or self._patterns)

    @property
    def subscribers(self) -> set[Connection]:
        """All connections that have subscribed to anything."""
        patterns = [connections for _, connections in self._patterns.values()]
        return {connection for some in (*self._channels.values(), *patterns) for connection in some}

    def add(self, connection: Connection, name: bytes, *, pattern: bool) -> None:
        """Tell a connection of a channel, or of all that match a pattern.

        Raises:
            RedisError: there are too many patterns, or this one is too long.
        """
        if not pattern:
            self._channels.setdefault(name, {})[connection] = None
        elif name in self._patterns:
            self._patterns[name][1][connection] = None
        elif len(self._patterns) >= PATTERNS:
            raise RedisError(f"ERR too many patterns; at most {PATTERNS} of all clients are allowed")
        elif len(name) > _LONGEST_PATTERN:
            raise RedisError(f"ERR pattern of {len(name)} bytes; at most {_LONGEST_PATTERN} are allowed")
        else:
            self._patterns[name] = (matcher(name), {connection: None})

    def remove(self, connection: Connection, name: bytes, *, pattern: bool) -> None:
        """Tell it no more of that."""
        connections = self._patterns[name][1] if pattern else self._channels[name]
        del connections[connection]
        if not connections:
            del (self._patterns if pattern else self._channels)[name]

    def channels(self, pattern: bytes) -> list[bytes]:
        """Those to which anybody has subscribed and which match a pattern."""
        matches = matcher(pattern)
        return [name for name in self._channels if matches(name)]

    def count(self, channel: bytes) -> int:
        """How many have subscribed to a channel."""
        return len(self._channels.get(channel, ()))

    @property
    def patterns(self) -> int:
        """How many different patterns somebody has subscribed to."""
        return len(self._patterns)

    def tell(self, changes: Iterable[Change]) -> None:
        """Publish what has changed, a little at a time; subscribers are cut if more comes than can be told."""
        for change in changes:
            if change[1] != CLEARED:
                self._untold.append(change)
                self._size += len(change[0]) + _CHANGE
        if self._size > _UNTOLD:
            self.cut()
        elif not self._telling:
            self._tell_some()

    def _tell_some(self) -> None:
        until = self._monotonic() + _SLICE
        untold = self._untold
        while untold and self:
            key, event = untold.popleft()
            self._size -= len(key) + _CHANGE
            self._publish(b"__keyspace@0__:" + key, event)
            self._publish(b"__keyevent@0__:" + event, key)
            if untold and self._monotonic() > until:
                self._telling = True
                asyncio.get_running_loop().call_soon(self._tell_some)
                return
        self._telling = False
        self._drop()

    def _drop(self) -> None:
        self._untold.clear()
        self._size = 0

    def cut(self) -> None:
        """End all subscribers: they would take silence for peace."""
        self._drop()
        for connection in self.subscribers:
            connection.cut()

    def _publish(self, channel: bytes, message: bytes) -> None:
        for connection in self._channels.get(channel, ()):
            connection.push(Push([b"message", channel, message]))
        for pattern, (matches, connections) in self._patterns.items():
            if matches(channel):
                for connection in connections:
                    connection.push(Push([b"pmessage", pattern, channel, message]))


# -- the commands --------------------------------------------------------------------------------------------


def _subscribe(connection: Connection, request: Request) -> Reply:
    return _each(connection, request, request[1:])


def _unsubscribe(connection: Connection, request: Request) -> Reply:
    pattern = request[0].upper().startswith(b"P")
    mine = connection.patterns if pattern else connection.channels
    return _each(connection, request, request[1:] or list(mine) or [None])


def _each(connection: Connection, request: Request, names: Sequence[bytes | None]) -> Reply:
    """Do it for each name, and say so of each with how many there are then; for none if one is refused."""
    name = request[0].lower()
    pattern, ends = name.startswith(b"p"), b"un" in name
    mine = connection.patterns if pattern else connection.channels
    replies: list[Reply] = []
    before = len(mine)
    for each in names:
        if each is not None and ends == (each in mine):
            try:
                _change(connection, each, pattern=pattern, ends=ends)
            except RedisError:
                for new in list(mine)[before:]:
                    _change(connection, new, pattern=pattern, ends=True)
                raise
        count = len(connection.channels) + len(connection.patterns)
        replies.append(Push([name, each, count]))
    connection.door.listen()
    return Several(replies)


def _change(connection: Connection, name: bytes, *, pattern: bool, ends: bool) -> None:
    mine = connection.patterns if pattern else connection.channels
    if ends:
        connection.door.notices.remove(connection, name, pattern=pattern)
        del mine[name]
        connection.kept -= len(name)
        return
    if len(mine) >= _MOST:
        raise RedisError(f"ERR too many subscriptions; at most {_MOST} are allowed")
    longest = connection.door.limits.key + _BESIDE_KEY
    if not pattern and len(name) > longest:
        raise RedisError(f"ERR channel of {len(name)} bytes; at most {longest} are allowed")
    connection.door.notices.add(connection, name, pattern=pattern)
    mine[name] = None
    connection.kept += len(name)


def forget(connection: Connection) -> None:
    """End all subscriptions of a connection."""
    for mine, pattern in ((connection.channels, False), (connection.patterns, True)):
        for name in mine:
            connection.door.notices.remove(connection, name, pattern=pattern)
            connection.kept -= len(name)
        mine.clear()
    connection.door.listen()


def _pubsub_channels(connection: Connection, request: Request) -> Reply:
    if len(request) > 3:
        raise RedisError(
            f"ERR unknown subcommand or wrong number of arguments for '{request[1].decode('latin-1')}'. "
            "Try PUBSUB HELP."
        )
    return [*connection.door.notices.channels(request[2] if len(request) == 3 else b"*")]


def _pubsub_numsub(connection: Connection, request: Request) -> Reply:
    replies: list[Reply] = []
    for name in request[2:]:
        replies += [name, connection.door.notices.count(name)]
    return replies


def _pubsub_numpat(connection: Connection, _: Request) -> Reply:
    return connection.door.notices.patterns


for _name, _arity, _since, _summary, _local in (
    ("subscribe", -2, "2.0.0", "Be told of what happens in channels: changes of keys", _subscribe),
    ("unsubscribe", -1, "2.0.0", "Be told no more of channels", _unsubscribe),
    ("psubscribe", -2, "2.0.0", "Be told of what happens in channels that match patterns", _subscribe),
    ("punsubscribe", -1, "2.0.0", "Be told no more of patterns", _unsubscribe),
):
    define(
        _name,
        _arity,
        "pubsub",
        NO_KEYS,
        "pubsub",
        _since,
        _summary,
        local=_local,
        alone=True,
    )
define_container("pubsub", "pubsub", "2.8.0", "A container for who has subscribed to what at this replica")
for _name, _arity, _summary, _told in (
    ("channels", -2, "Tell the channels that anybody has subscribed to", _pubsub_channels),
    ("numsub", -2, "Count who has subscribed to channels", _pubsub_numsub),
    ("numpat", 2, "Count the different patterns", _pubsub_numpat),
):
    define(f"pubsub|{_name}", _arity, "pubsub", NO_KEYS, "pubsub", "2.8.0", _summary, local=_told)
