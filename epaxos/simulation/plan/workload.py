"""What the clients of a run will ask for: drawn before the run, so that a run can be repeated with less of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from math import ceil
from random import Random
from typing import Any, Final, NamedTuple

from epaxos.simulation.checkers.reference import Command
from epaxos.simulation.plan.fates import between
from epaxos.simulation.plan.options import Options, stream
from epaxos.statemachine.operations import OF_TRANSACTIONS, RECORDS, Operation
from epaxos.statemachine.reading import Reading

TRANSACTIONS: Final = "transactions"
TIMED: Final = "timed"
_COORDINATORS: Final = 2**63 + 1
"""The first of two; sessions of clients count from 1."""

MIXES: Final[dict[str, dict[Operation, int]]] = {
    "mixed": {
        Operation.READ: 6,
        Operation.WRITE: 5,
        Operation.WRITEREAD: 2,
        Operation.DELETE: 1,
        Operation.CAS: 2,
        Operation.INCREMENT: 3,
        Operation.APPEND: 2,
        Operation.MULTI: 2,
        Operation.NULL: 1,
        Operation.PAUSE: 1,
    },
    "writes": {Operation.WRITE: 6, Operation.WRITEREAD: 2, Operation.APPEND: 2, Operation.READ: 1},
    "reads": {Operation.READ: 8, Operation.WRITE: 2, Operation.CAS: 1, Operation.DELETE: 1},
    TIMED: {
        Operation.SETEX: 6,
        Operation.SETTTL: 2,
        Operation.PERSIST: 2,
        Operation.READ: 4,
        Operation.WRITE: 2,
        Operation.DELETE: 1,
        Operation.CAS: 2,
        Operation.INCREMENT: 2,
        Operation.APPEND: 1,
        Operation.MULTI: 3,
    },
    "multi": {Operation.MULTI: 6, Operation.READ: 2, Operation.WRITE: 2},
    TRANSACTIONS: {
        Operation.PREPARE: 6,
        Operation.VOTE: 2,
        Operation.RESOLVE: 5,
        Operation.FORGET: 3,
        Operation.READ: 3,
        Operation.WRITE: 2,
        Operation.INCREMENT: 2,
        Operation.CAS: 1,
        Operation.MULTI: 2,
    },
}
"""How often which operation is asked for."""

_READS: Final = (Operation.READ, Operation.EXISTS)
_GUARDS: Final = 0.5
_TIMED_IN_MULTI: Final = (
    Operation.SETEX,
    Operation.SETTTL,
    Operation.PERSIST,
    Operation.WRITE,
    Operation.CAS,
)
_IN_MULTI: Final = (Operation.READ, Operation.WRITE, Operation.CAS, Operation.INCREMENT, Operation.APPEND)


class Frame(NamedTuple):
    """Commands that a client sends together, `think` seconds after it has room for them; or reads of no log."""

    think: float
    commands: tuple[Command, ...]
    reading: Reading | None = None


class Script(NamedTuple):
    """All that one client will ask for, in order."""

    name: int
    frames: tuple[Frame, ...]


def draw_workload(options: Options) -> tuple[Script, ...]:
    """The scripts of all clients."""
    random = stream(options.seed, "workload")
    frames: list[list[Frame]] = [[] for _ in range(options.clients)]
    asked = 0
    while asked < options.operations:
        size = min(random.randint(1, options.frame), options.operations - asked)
        commands = tuple(_command(random, options, asked + index) for index in range(size))
        random.choice(frames).append(Frame(random.expovariate(1 / options.think), commands))
        asked += size
    aside = stream(options.seed, "readings")
    scripts = [
        list(
            chain.from_iterable(
                _with_readings(aside, options, frame, number) for number, frame in enumerate(script)
            )
        )
        for script in frames
    ]
    if options.mix == TIMED:
        scripts = _with_guards(stream(options.seed, "guards"), scripts)
    return tuple(Script(name, tuple(script)) for name, script in enumerate(scripts))


def _with_guards(random: Random, scripts: list[list[Frame]]) -> list[list[Frame]]:
    """Ask, in the place of some reads, whether a value ends by a command that is asked for somewhere; or does not."""
    givers: defaultdict[bytes, list[Any]] = defaultdict(lambda: [None])
    for client, script in enumerate(scripts, 1):  # the first session of each
        for number, command in enumerate(chain.from_iterable(frame.commands for frame in script), 1):
            if command.operation in (Operation.SETEX, Operation.SETTTL):
                givers[command.key].append([client, number, 0])

    def guarded(frame: Frame) -> Frame:
        if frame.reading is not None:
            return frame
        commands = tuple(
            Command(Operation.ENDSBY, command.key, random.choice(givers[command.key]))
            if command.operation == Operation.READ and random.random() < _GUARDS
            else command
            for command in frame.commands
        )
        return frame._replace(commands=commands)

    return [list(map(guarded, script)) for script in scripts]


def _with_readings(random: Random, options: Options, frame: Frame, number: int) -> list[Frame]:
    """A frame, of which the reads may be asked for otherwise than by the log, after what is left of it."""
    if random.random() >= options.reads:
        return [frame]
    reads = tuple(command for command in frame.commands if command.operation in _READS)
    others = tuple(command for command in frame.commands if command.operation not in _READS)
    reading = random.choice((Reading.QUORUM, Reading.QUORUM, Reading.LOCAL))
    if options.observers and number % 3 == 0:
        reading = Reading.AGED
    aside = Frame(frame.think, reads, reading)
    return [one for one in (frame._replace(commands=others), aside) if one.commands]


def _command(random: Random, options: Options, number: int) -> Command:
    if options.whole and random.random() < options.whole:
        return _on_all(random, options)
    weights = MIXES[options.mix]
    operation = random.choices(list(weights), list(weights.values()))[0]
    if operation == Operation.MULTI:
        kinds = _TIMED_IN_MULTI if options.mix == TIMED else _IN_MULTI
        parts = [
            _single(random, options, random.choice(kinds), number, b".%d" % index)
            for index in range(random.randint(1, 3))
        ]
        return Command(operation, b"", _columns(parts))
    if operation in OF_TRANSACTIONS:
        return _of_transaction(random, options, operation, number)
    return _single(random, options, operation, number)


def _on_all(random: Random, options: Options) -> Command:
    """A command on all keys, or on those that begin alike."""
    operation = random.choice((Operation.SCAN, Operation.SCAN, Operation.COUNT, Operation.CLEAR))
    prefix = random.choice((b"", b"k", b"k1", _key(random, options)))
    after, limit = random.choice((None, _key(random, options))), random.choice((1, 2, 5, 50))
    arguments = {
        Operation.SCAN: [after, limit, random.random() < 0.8, random.random() < 0.3],
        Operation.CLEAR: [after, limit],
    }
    return Command(operation, prefix, arguments.get(operation))


def _of_transaction(random: Random, options: Options, operation: Operation, number: int) -> Command:
    """A command of one of the transactions of about now, of which each has its keys."""
    name = max(1, number // 8 + random.randint(-1, 1))
    coordinator = _COORDINATORS + name % 2
    key = RECORDS + coordinator.to_bytes(8, "big") + name.to_bytes(8, "big")
    keys = sorted({b"k%d" % (name % options.keys), b"k%d" % (name * 7 % options.keys)})
    if operation == Operation.PREPARE:
        parts = [
            Command(kind, own, _argument(random, options, kind, number, b".%d" % index))
            for index, own in enumerate(keys)
            for kind in (random.choice(_IN_MULTI),)
        ]
        return Command(operation, key, [0, [[b"here", 0], [b"there", 0]], _columns(parts)])
    if operation == Operation.RESOLVE:
        return Command(operation, key, [random.random() < 0.7, keys if random.random() < 0.9 else keys[:-1]])
    return Command(operation, key, 0 if operation == Operation.VOTE else keys)


def _columns(parts: Sequence[Command]) -> list[Any]:
    """The argument of a MULTI."""
    return [
        bytes(part.operation for part in parts),
        [part.key for part in parts],
        [part.argument for part in parts],
    ]


def _single(
    random: Random, options: Options, operation: Operation, number: int, part: bytes = b""
) -> Command:
    """A command that is no MULTI; every value that is written is written once only."""
    if operation == Operation.NULL:
        return Command(operation, b"", None)
    if operation == Operation.PAUSE:
        return Command(operation, b"", random.randint(0, 3))
    if (
        operation == Operation.READ and number % 8 == 5
    ):  # by the number, so that nothing else of a plan depends on it
        operation = Operation.EXISTS
    return Command(operation, _key(random, options), _argument(random, options, operation, number, part))


def _key(random: Random, options: Options) -> bytes:
    if random.random() < options.hot:
        return b"k0"
    return b"k%d" % random.randrange(options.keys)


def _argument(random: Random, options: Options, operation: Operation, number: int, part: bytes) -> Any:
    if operation in (Operation.READ, Operation.EXISTS, Operation.DELETE, Operation.PERSIST):
        return None
    if operation == Operation.SETTTL:
        return _ttl(random, options)
    if operation == Operation.INCREMENT:
        return random.choice((1, 1, -1, 2**62))
    if operation == Operation.APPEND:
        return b"+%d%b" % (number, part)
    written = _value(random, options, number, part)
    if operation == Operation.SETEX:
        return [written, random.choice((None, *[_ttl(random, options)] * 4))]
    if operation == Operation.CAS:
        before = max(0, number - random.randint(1, 4))
        expected = random.choice((None, _value(random, options, before, b"")))
        # Some remove the key, some only compare; by the number, so that nothing else of a plan depends on it.
        return [expected, {3: None, 7: expected}.get(number % 8, written)]
    return written


def _ttl(random: Random, options: Options) -> int:
    """Milliseconds: from what is over before the command is answered to what many commands fall into."""
    return ceil(1000 * options.delay * between(random, 0.1, 100))


def _value(random: Random, options: Options, number: int, part: bytes) -> bytes:
    """A value that tells who wrote it; half of them are numbers, which lets an INCREMENT succeed."""
    return random.choice((b"%d", b"v%d" + b"." * options.padding)) % number + part
