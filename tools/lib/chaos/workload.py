"""What the clients ask, on a few keys that all of them use, and what their answers say to the checker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import count, cycle
from random import Random
from typing import Any, Final, NamedTuple

from epaxos.client.asynchronous import AsyncClient
from epaxos.client.commands import Op
from epaxos.client.reading import Reads
from epaxos.client.results import Page
from epaxos.simulation.checkers.reference import Result
from epaxos.statemachine.operations import ON_ALL, Operation, Outcome

SETS: Final = 3
"""Sets of keys in use at a time; a MULTI stays within one, so each is searched by itself."""

WEIGHTS: Final[Mapping[Operation, int]] = {
    Operation.READ: 5,
    Operation.WRITE: 4,
    Operation.WRITEREAD: 2,
    Operation.DELETE: 1,
    Operation.CAS: 3,
    Operation.INCREMENT: 3,
    Operation.APPEND: 2,
    Operation.MULTI: 3,
    Operation.SCAN: 3,
    Operation.COUNT: 1,
    Operation.CLEAR: 1,
}

_WITH_VALUES: Final = 0.8
_REVERSED: Final = 0.3
_PARTS: Final = (Operation.READ, Operation.WRITE, Operation.CAS, Operation.INCREMENT, Operation.APPEND)


class Keys(NamedTuple):
    """A set of keys: two for any value, one for text that grows, one for a number."""

    values: tuple[bytes, bytes]
    text: bytes
    number: bytes

    @classmethod
    def of(cls, epoch: int, number: int) -> Keys:
        """The keys of one of the sets of an epoch."""
        head = b"chaos.%d.%d." % (epoch, number)
        return cls((head + b"a", head + b"b"), head + b"text", head + b"number")

    @property
    def head(self) -> bytes:
        """With what they begin, and no others."""
        return self.number.removesuffix(b"number")

    @property
    def all(self) -> tuple[bytes, ...]:
        """All of them."""
        return (*self.values, self.text, self.number)


class Asker:
    """Draws the commands of one client; every value that it writes is written once only."""

    def __init__(self, chance: Random, client: int) -> None:
        self._chance = chance
        self._client = client
        self._serial = count(1)
        self._known: dict[bytes, bytes | None] = {}
        self._next: Op | None = None

    def draw(self, epoch: int) -> Op:
        """The next command, on keys of the epoch."""
        keys = Keys.of(epoch, self._chance.randrange(SETS))
        operation = self._chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if operation == Operation.MULTI:
            parts = [
                self._draw(part, keys) for part in self._chance.sample(_PARTS, self._chance.randint(2, 3))
            ]
            return Op.multi(parts)
        return self._draw(operation, keys)

    def learn(self, op: Op, reply: object) -> None:
        """Remember what a key holds, so that a CAS has a chance, and of a list what comes after the page."""
        if op.operation == Operation.SCAN:
            _, limit, values, reverse = _list(op.argument)
            more = isinstance(reply, Page) and reply.after
            self._next = Op.scan(op.key, more, limit, values=values, reverse=reverse) if more else None
        if op.operation == Operation.READ:
            assert reply is None or isinstance(reply, bytes)
            self._known = {op.key: reply}

    def _draw(self, operation: Operation, keys: Keys) -> Op:
        chance = self._chance
        if operation == Operation.INCREMENT:
            return Op.increment(keys.number, chance.choice((1, 2, -1)))
        if operation == Operation.APPEND:
            return Op.append(keys.text, b"+" + self._unique())
        if operation in ON_ALL:
            return self._on_all(operation, keys)
        key = chance.choice(keys.all if operation == Operation.READ else keys.all[:3])
        if operation == Operation.READ:
            return Op.get(key)
        if operation == Operation.DELETE:
            return Op.delete(key)
        if operation == Operation.CAS:
            key, expected = next(iter(self._known.items()), (key, None))
            if key not in keys.all[:3]:
                key, expected = chance.choice(keys.values), None
            return Op.cas(key, expected, self._unique())
        if operation == Operation.WRITEREAD:
            return Op.write_read(key, self._unique())
        return Op.put(key, self._unique())

    def _on_all(self, operation: Operation, keys: Keys) -> Op:
        """A command on the keys of a set; a list that has begun goes on by a page, which is a command of its own."""
        chance = self._chance
        if operation == Operation.COUNT:
            return Op.count(keys.head)
        after, limit = chance.choice((None, None, *keys.all)), chance.choice((1, 2, 1000))
        if operation == Operation.CLEAR:
            return Op.clear(keys.head, after, limit)
        if self._next is not None and self._next.key == keys.head:
            return self._next
        values, reverse = chance.random() < _WITH_VALUES, chance.random() < _REVERSED
        return Op.scan(keys.head, after, limit, values=values, reverse=reverse)

    def _unique(self) -> bytes:
        return b"%d.%d" % (self._client, next(self._serial))


async def ask(client: AsyncClient, op: Op) -> Any:
    """Have a client run a command; returns and raises what its method does."""
    return await _METHODS[op.operation](client, op)


_WAYS: Final[Iterator[Reads]] = cycle(("log", "quorum"))
"""How reads are asked for, in turn: to the checker both are the same."""

_METHODS: Final[Mapping[int, Callable[[AsyncClient, Op], Awaitable[Any]]]] = {
    Operation.READ: lambda client, op: client.get(op.key, reads=next(_WAYS)),
    Operation.WRITE: lambda client, op: client.put(op.key, _bytes(op.argument)),
    Operation.WRITEREAD: lambda client, op: client.write_read(op.key, _bytes(op.argument)),
    Operation.DELETE: lambda client, op: client.delete(op.key),
    Operation.CAS: lambda client, op: client.cas(op.key, *_list(op.argument)),
    Operation.INCREMENT: lambda client, op: client.increment(op.key, _int(op.argument)),
    Operation.APPEND: lambda client, op: client.append(op.key, _bytes(op.argument)),
    Operation.MULTI: lambda client, op: client.multi(parts_of(op)),
    Operation.SCAN: lambda client, op: _scan(client, op.key, *_list(op.argument)),
    Operation.COUNT: lambda client, op: client.count(op.key),
    Operation.CLEAR: lambda client, op: client.execute(op),
}


async def _scan(
    client: AsyncClient, prefix: bytes, after: bytes | None, limit: int, *how: bool
) -> Page[bytes]:
    values, reverse = how
    return await client.scan(prefix, after, limit, values=values, reverse=reverse)


def parts_of(multi: Op) -> list[Op]:
    """The operations inside a MULTI."""
    return list(map(Op, *_list(multi.argument)))


def result_of(op: Op, reply: Any) -> Result:
    """The outcome and the value that the replica answered, from what the client's method returned."""
    if op.operation in (Operation.READ, Operation.DELETE):
        missing = reply is None or reply is False
        return (Outcome.NOT_FOUND, None) if missing else (Outcome.DONE, None if reply is True else reply)
    if op.operation == Operation.CAS:
        return (Outcome.DONE, None) if reply.swapped else (Outcome.COMPARE_FAILED, reply.current)
    if op.operation == Operation.MULTI:
        results = [result_of(*part) for part in zip(parts_of(op), reply, strict=True)]
        return Outcome.DONE, [bytes(outcome for outcome, _ in results), [value for _, value in results]]
    if isinstance(reply, Page):
        values = None if reply.values is None else list(reply.values)
        return Outcome.DONE, [list(reply.keys), values, reply.more]
    return Outcome.DONE, list(reply) if op.operation == Operation.CLEAR else reply


def _bytes(argument: object) -> bytes:
    assert isinstance(argument, bytes)
    return argument


def _int(argument: object) -> int:
    assert isinstance(argument, int)
    return argument


def _list(argument: object) -> Sequence[Any]:
    assert isinstance(argument, list)
    return argument
