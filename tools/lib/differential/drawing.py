"""Random commands of the kinds that the Redis door knows, some of them wrong, for some connections at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Final, NamedTuple

KEYS: Final = tuple(b"key-%d" % number for number in range(12))
CONNECTIONS: Final = 3

_VALUES: Final = (
    *(b"", b"0", b"1", b"-1", b"7", b"42", b"007", b"-0", b"+5", b" 1", b"1 ", b"9223372036854775807"),
    *(
        b"-9223372036854775808",
        b"9223372036854775808",
        b"1.5",
        b"-0.25",
        b"3e2",
        b".5",
        b"1.",
        b"inf",
        b"nan",
    ),
    *(b"text", b"longer text, with spaces", b"\x00\xff\r\n\x00", b"*1\r\n$4\r\nPING\r\n", b"x" * 300),
)
_NUMBERS: Final = (
    b"1",
    b"-1",
    b"2",
    b"10",
    b"-7",
    b"100",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"a",
    b"1.0",
    b"",
)
_OFFSETS: Final = (b"0", b"1", b"2", b"5", b"-1", b"-2", b"-100", b"100", b"a", b"400")
_FLOATS: Final = (b"1", b"0.1", b"-2.5", b"1e3", b"3.0e-2", b"nan", b"inf", b"abc", b"-0", b"1e20")

WALKS: Final = frozenset({b"DBSIZE", b"KEYS", b"SCAN", b"FLUSHDB", b"FLUSHALL"})
"""What is about all keys; the order in which these are told is nobody's."""

Command = list[bytes]


class Step(NamedTuple):
    """Commands of one connection, sent at once."""

    connection: int
    commands: list[Command]


class Drawing:
    """Steps without an end, always the same from a seed."""

    def __init__(self, seed: int) -> None:
        self._open: set[int] = set()
        self._random = Random(seed)  # noqa: S311 - commands to draw, nothing secret
        self._makers: list[tuple[Callable[[], Command], int]] = [
            (self._get, 10),
            (self._set, 14),
            (self._one_key, 10),
            (self._many_keys, 8),
            (self._pairs, 4),
            (self._increment, 9),
            (self._ranges, 6),
            (self._append, 4),
            (self._expire, 9),
            (self._set_for, 3),
            (self._getex, 4),
            (self._names, 7),
            (self._transaction, 12),
            (self._about, 3),
            (self._common, 2),
            (self._known, 2),
            (self._wrong, 3),
            (self._walk, 3),
        ]

    def __iter__(self) -> Iterator[Step]:
        makers, weights = zip(*self._makers, strict=True)
        while True:
            count = self._random.choice((1, 1, 1, 1, 2, 5, 12))
            chosen = self._random.choices(makers, weights, k=count)
            connection = self._random.randrange(CONNECTIONS)
            yield Step(connection, [self._fitting(connection, maker()) for maker in chosen])

    def _fitting(self, connection: int, command: Command) -> Command:
        """A command, or another one if it is about all keys and a transaction may be open, where ours refuses it."""
        if command[0] == b"MULTI":
            self._open.add(connection)
        elif command[0] in (b"EXEC", b"DISCARD", b"RESET"):
            self._open.discard(connection)
        return [b"PING"] if command[0] in WALKS and connection in self._open else command

    def _pick(self, *choices: bytes) -> bytes:
        return self._random.choice(choices)

    def _key(self) -> bytes:
        return self._pick(*KEYS)

    def _value(self) -> bytes:
        return self._pick(*_VALUES)

    def _seconds(self) -> int:
        """So far away, and so far apart, that no clock decides."""
        return self._random.randrange(10_000, 10_000_000)

    def _time(self, unit: bytes) -> bytes:
        """A time that fits a unit, or one that is wrong, or over."""
        if self._random.random() < 0.2:
            return self._pick(
                b"0", b"-1", b"-100", b"a", b"9223372036854775807", b"-9223372036854775808", b"1.5"
            )
        seconds = self._seconds()
        if unit in (b"EXAT", b"PXAT"):
            seconds += 10_000_000_000
            if self._random.random() < 0.15:
                seconds = self._random.randrange(1, 1_000_000_000)
        return b"%d" % (seconds * 1000 if unit in (b"PX", b"PXAT") else seconds)

    def _get(self) -> Command:
        return [self._pick(b"GET", b"get", b"STRLEN", b"TYPE"), self._key()]

    def _set(self) -> Command:
        command = [b"SET", self._key(), self._value()]
        for _ in range(self._random.choice((0, 0, 1, 1, 2, 3))):
            option = self._pick(
                b"NX", b"XX", b"GET", b"KEEPTTL", b"EX", b"PX", b"EXAT", b"PXAT", b"nx", b"ZZ"
            )
            command.append(option)
            if (
                option.endswith((b"X", b"AT"))
                and option not in (b"NX", b"XX")
                and self._random.random() < 0.95
            ):
                command.append(self._time(option))
        return command

    def _one_key(self) -> Command:
        names = (b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME", b"PERSIST", b"GETDEL")
        return [self._pick(*names), self._key()]

    def _many_keys(self) -> Command:
        keys = [self._key() for _ in range(self._random.randrange(1, 5))]
        return [self._pick(b"DEL", b"UNLINK", b"EXISTS", b"TOUCH", b"MGET", b"MGET"), *keys]

    def _pairs(self) -> Command:
        pairs = [self._pick(self._key(), self._value()) for _ in range(self._random.randrange(1, 3))]
        words = [word for pair in pairs for word in (self._key(), pair)]
        return [
            self._pick(b"MSET", b"MSETNX"),
            *words,
            *([self._key()] if self._random.random() < 0.05 else []),
        ]

    def _increment(self) -> Command:
        name = self._pick(b"INCR", b"DECR", b"INCRBY", b"DECRBY", b"INCRBYFLOAT")
        if name in (b"INCR", b"DECR"):
            return [name, self._key()]
        return [name, self._key(), self._pick(*(_FLOATS if name == b"INCRBYFLOAT" else _NUMBERS))]

    def _ranges(self) -> Command:
        name = self._pick(b"GETRANGE", b"SUBSTR", b"SETRANGE", b"SETRANGE")
        last = self._value() if name == b"SETRANGE" else self._pick(*_OFFSETS)
        return [name, self._key(), self._pick(*_OFFSETS), last]

    def _append(self) -> Command:
        return [self._pick(b"APPEND", b"SETNX", b"GETSET"), self._key(), self._value()]

    def _expire(self) -> Command:
        name, unit = self._random.choice(
            ((b"EXPIRE", b"EX"), (b"PEXPIRE", b"PX"), (b"EXPIREAT", b"EXAT"), (b"PEXPIREAT", b"PXAT"))
        )
        options = [self._pick(b"NX", b"XX", b"GT", b"LT", b"gt", b"foo") for _ in range(self._pick_count())]
        return [name, self._key(), self._time(unit), *options]

    def _pick_count(self) -> int:
        return self._random.choice((0, 0, 0, 1, 1, 2))

    def _set_for(self) -> Command:
        name, unit = self._random.choice(((b"SETEX", b"EX"), (b"PSETEX", b"PX")))
        return [name, self._key(), self._time(unit), self._value()]

    def _getex(self) -> Command:
        command = [b"GETEX", self._key()]
        for _ in range(self._pick_count()):
            option = self._pick(b"EX", b"PX", b"EXAT", b"PXAT", b"PERSIST", b"what")
            command.append(option)
            if option not in (b"PERSIST", b"what"):
                command.append(self._time(option))
        return command

    def _names(self) -> Command:
        command = [self._pick(b"RENAME", b"RENAMENX", b"COPY"), self._key(), self._key()]
        if command[0] == b"COPY":
            command += self._random.choice(
                ([], [b"REPLACE"], [b"DB", b"0"], [b"DB", b"7"], [b"DB"], [b"what"])
            )
        return command

    def _common(self) -> Command:
        """LCS; of values that are short, so that the table has room."""
        options: tuple[Command, ...] = (
            [],
            [b"LEN"],
            [b"IDX"],
            [b"IDX", b"WITHMATCHLEN"],
            [b"IDX", b"LEN"],
            [b"what"],
        )
        chosen = self._random.choice(
            (*options, [b"IDX", b"MINMATCHLEN", self._pick(*_NUMBERS)], [b"MINMATCHLEN"])
        )
        return [b"LCS", self._key(), self._key(), *chosen]

    def _known(self) -> Command:
        """What is known of values, channels and settings; not how Redis encodes values, which depends on the past."""
        return self._random.choice(
            (
                [b"OBJECT", b"FREQ", self._key()],
                [b"OBJECT", b"ENCODING"],
                [b"OBJECT", b"ENCODING", b"none"],
                [b"OBJECT", b"what", self._key()],
                [b"MOVE", self._key(), self._pick(b"0", b"1", b"a")],
                [b"PUBSUB", self._pick(b"CHANNELS", b"NUMPAT", b"NUMSUB", b"what")],
                [b"PUBSUB", b"CHANNELS", b"a*", *([b"b"] if self._random.random() < 0.2 else [])],
                [b"PUBSUB", b"NUMSUB", b"a", b"b"],
                [b"ROLE"],
                [b"CONFIG", b"SET", b"notify-keyspace-events", self._pick(b"KEA", b"q")],
                [b"CONFIG", b"SET", self._pick(b"databases", b"what"), b"1"],
                [b"CONFIG", b"SET", b"databases"],
                [b"COMMAND", b"LIST", b"what"],
                [b"COMMAND", b"LIST", b"FILTERBY", b"PATTERN", b"getra*"],
            )
        )

    def _transaction(self) -> Command:
        name = self._pick(*[b"MULTI"] * 4, *[b"EXEC"] * 6, b"DISCARD", *[b"WATCH"] * 3, b"UNWATCH")
        return [name, self._key()] if name == b"WATCH" else [name]

    def _about(self) -> Command:
        return self._random.choice(
            (
                [b"PING"],
                [b"PING", b"hello"],
                [b"PING", b"a", b"b"],
                [b"ECHO", self._value()],
                [b"SELECT", self._pick(b"0", b"1", b"a")],
                [b"CLIENT", b"GETNAME"],
                [b"CLIENT", b"SETNAME", self._pick(b"me", b"", b"a b")],
                [b"CLIENT", b"NO-EVICT", self._pick(b"on", b"x")],
                [b"COMMAND", b"GETKEYS", b"MSET", b"a", b"1", b"b", b"2"],
                [b"CONFIG", b"GET", b"databases"],
                [b"RESET"],
                [b"HELLO", self._pick(b"4", b"x"), b"y"],
                [b"AUTH", self._pick(b"a", b"default")],
            )
        )

    def _walk(self) -> Command:
        return self._random.choice(
            (
                [b"DBSIZE", b"x"],  # Redis counts keys whose time is over until it looks at them
                [
                    b"KEYS",
                    self._pick(
                        b"*", b"key-1*", b"key-[0-5]", b"*[^0-7]", b"key-?", b"none*", b"k*y*1", b"\\key"
                    ),
                ],
                [b"KEYS"],
                [
                    b"SCAN",
                    self._pick(b"0", b"a"),
                    *self._random.choice(([b"COUNT", b"100"], [b"COUNT", b"0"], [b"x"])),
                ],
                [
                    self._pick(b"FLUSHDB", b"FLUSHALL"),
                    *self._random.choice(([], [b"SYNC"], [b"what"], [b"a", b"b"])),
                ],
            )
        )

    def _wrong(self) -> Command:
        words = [self._key() for _ in range(self._random.randrange(4))]
        name = self._pick(
            b"GET", b"SET", b"INCR", b"EXPIRE", b"RENAME", b"FOO", b"CLIENT", b"CONFIG", b"JSON.GET", b"EVALX"
        )
        return [name, *words]
