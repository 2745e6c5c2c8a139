"""The key-value store once more, in the plainest way: what the replicas' results are compared with.

It shares with `epaxos.statemachine` the table of operations and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple, TypeAlias

from epaxos.statemachine.operations import INTEGER_MAX, INTEGER_MIN, ON_ALL, READERS, Operation, Outcome

Result: TypeAlias = "tuple[int, Any]"
State: TypeAlias = "dict[bytes, bytes]"
Origin: TypeAlias = "tuple[int, int]"
"""A client and a request number."""

_LONGEST_NUMBER = 20  # a sign and 19 digits
_PAGE_HEAD: Final = 32  # bytes of a page that are for neither keys nor values
_TIMED: Final = (Operation.SETEX, Operation.SETTTL, Operation.PERSIST, Operation.EXPIRE, Operation.ENDSBY)


ENDS: Final = b"\0ends "
"""With a key, what stands there of the time that its value was given: milliseconds, and the command that gave it.

Beside the values, so that whatever takes a command back takes this back too."""


EVERYTHING: Final = b""
"""A key that no command can name: all read it; what conflicts with everything writes it."""

ANY: Final = b"\0any"
"""Another one: what reads all keys reads it, and conflicts with all that write some; these do not with one another."""


class Command(NamedTuple):
    """One command of a client, as `statemachine.operations` describes it."""

    operation: int
    key: bytes
    argument: Any


class Touched(NamedTuple):
    """The keys that a command, or several, read without writing, and those that they write."""

    reads: frozenset[bytes]
    writes: frozenset[bytes]


def touched(commands: Sequence[Command]) -> Touched:
    """What some commands touch; a key that is read and written counts as written. See ANY and EVERYTHING."""
    reads: set[bytes] = set()
    writes: set[bytes] = set()
    for command in commands:
        if command.operation == Operation.MULTI:
            parts = touched(parts_of(command))
            reads |= parts.reads
            writes |= parts.writes
        elif command.operation in READERS:
            reads.add(command.key)
        elif command.operation in ON_ALL:
            clears = command.operation == Operation.CLEAR
            writes |= {EVERYTHING} if clears else set()
            reads |= set() if clears else {ANY}
        elif command.operation == Operation.PREPARE:
            writes |= {command.key, *command.argument[2][1]}
        elif command.operation == Operation.RESOLVE:
            writes |= {command.key, *command.argument[1]}
        elif command.operation not in (Operation.NULL, Operation.PAUSE):
            writes.add(command.key)
    return Touched(frozenset(reads - writes), frozenset(writes))


def only_reads(command: Command) -> bool:
    """Whether a command does nothing but read: it may execute again."""
    if command.operation in READERS:
        return True
    reads, writes = touched([command])
    return bool(reads) and not writes


def size_of(value: Any) -> int:
    """How many bytes of a batch's room a result takes."""
    if isinstance(value, bytes):
        return 5 + len(value)
    return 5 + sum(map(size_of, value)) if isinstance(value, list) else 9


def execute_within(state: State, command: Command, longest: int, room: int, by: Origin = (0, 0)) -> Result:
    """Execute a command if its result fits into `room`, else change nothing."""
    before = dict(state)
    outcome, value = execute(state, command, longest, (*by, 0), room)
    if room_of(command, value) > room:
        state.clear()
        state.update(before)
        return int(Outcome.TOO_LARGE), None
    return int(outcome), value


def room_of(command: Command, value: Any) -> int:
    """How much room a result takes; plain reads, and numbers by themselves, take none."""
    free = (Operation.READ, Operation.INCREMENT, Operation.APPEND, Operation.SCAN, Operation.COUNT)
    if command.operation in free or value is None:
        return 0
    return size_of(value)


def parts_of(multi: Command) -> list[Command]:
    """The commands inside a MULTI."""
    return [Command(*part) for part in zip(*multi.argument, strict=True)]


def execute(
    state: State,
    command: Command,
    longest: int,
    by: tuple[int, int, int] = (0, 0, 0),
    results: int = 2**62,
) -> Result:
    """Execute a command on `state`, in place; values may be `longest` bytes. Returns (outcome, value).

    `by` is its client, its request number, and its place in a MULTI; a page of a SCAN has `results` bytes.
    """
    operation, key, argument = command
    current = state.get(key)
    if operation in (Operation.NULL, Operation.PAUSE):
        return Outcome.DONE, None
    if operation in (Operation.READ, Operation.EXISTS):
        found = Outcome.NOT_FOUND if current is None else Outcome.DONE
        return found, current if operation == Operation.READ else None
    if operation in ON_ALL or operation in _TIMED:
        return _on_all(state, command, results) if operation in ON_ALL else _timed(state, command, by)
    if operation == Operation.WRITE:
        state.pop(ENDS + key, None)
        state[key] = argument
        return Outcome.DONE, None
    if operation == Operation.WRITEREAD:
        state.pop(ENDS + key, None)
        state[key] = argument
        return Outcome.DONE, current
    if operation == Operation.DELETE:
        state.pop(ENDS + key, None)
        return (Outcome.NOT_FOUND if state.pop(key, None) is None else Outcome.DONE), None
    if operation == Operation.CAS:
        return _compare_and_swap(state, key, *argument)
    if operation == Operation.INCREMENT:
        return _increment(state, key, argument)
    if operation == Operation.APPEND:
        return _append(state, key, argument, longest)
    return _multi(state, command, longest, by)


def within(keys: Iterable[bytes], command: Command) -> list[bytes]:
    """Those of some keys that a command on all keys looks for, in its order."""
    after, _, *how = command.argument or (None, 0)
    reverse = bool(how and how[1])
    found = sorted((key for key in keys if key.startswith(command.key)), reverse=reverse)
    return [key for key in found if after is None or (key < after if reverse else key > after)]


def _looked_for(state: State, command: Command) -> list[bytes]:
    return [key for key in within(state, command) if not key.startswith(ENDS)]


def _length(state: State, command: Command, keys: Sequence[bytes], results: int) -> int:
    """How many of some keys, of at least one, are in the page of a SCAN or CLEAR."""
    limit: int = min(command.argument[1], len(keys))
    if command.operation == Operation.CLEAR:
        return limit
    values = command.argument[2]
    sizes = accumulate(size_of(key) + (size_of(state[key]) if values else 0) for key in keys[:limit])
    fitting = sum(size <= results - _PAGE_HEAD for size in sizes)
    return min(limit, max(1, fitting))


def looked_at(state: State, keys: Sequence[bytes], command: Command, results: int) -> list[bytes]:
    """Those of some keys at which a command on all keys looks: of a page up to the first that is not in it."""
    there, found = _looked_for(state, command), within(keys, command)
    length = len(there) if command.operation == Operation.COUNT else _length(state, command, there, results)
    if length == len(there):
        return found
    reverse = command.operation == Operation.SCAN and command.argument[3]
    return [key for key in found if (key >= there[length] if reverse else key <= there[length])]


def _on_all(state: State, command: Command, results: int) -> Result:
    keys = _looked_for(state, command)
    if command.operation == Operation.COUNT:
        return Outcome.DONE, len(keys)
    length = _length(state, command, keys, results)
    page, more = keys[:length], len(keys) > length
    if command.operation == Operation.SCAN:
        return Outcome.DONE, [page, [state[key] for key in page] if command.argument[2] else None, more]
    for key in page:
        del state[key]
        state.pop(ENDS + key, None)
    return Outcome.DONE, [len(page), page[-1] if more else None]


def _timed(state: State, command: Command, by: tuple[int, int, int]) -> Result:
    operation, key, argument = command
    if operation == Operation.ENDSBY:
        given = [int(number) for number in state[ENDS + key].split()[1:]] if ENDS + key in state else None
        return (Outcome.DONE if key in state and argument == given else Outcome.COMPARE_FAILED), None
    if operation == Operation.PERSIST:
        return (Outcome.NOT_FOUND if state.pop(ENDS + key, None) is None else Outcome.DONE), None
    if operation == Operation.EXPIRE:
        if state.get(ENDS + key, b"").split()[1:] == [b"%d" % number for number in argument]:
            del state[key], state[ENDS + key]
        return Outcome.DONE, None
    value, ttl = argument if operation == Operation.SETEX else (state.get(key), argument)
    if value is None:
        return Outcome.NOT_FOUND, None
    state[key] = value
    if ttl is not None:
        state[ENDS + key] = b"%d %d %d %d" % (ttl, *by)
    return Outcome.DONE, None


def _compare_and_swap(state: State, key: bytes, expected: bytes | None, new: bytes | None) -> Result:
    current = state.get(key)
    if current != expected:
        return Outcome.COMPARE_FAILED, current
    if new != expected:
        state.pop(ENDS + key, None)
        state.pop(key, None)
        if new is not None:
            state[key] = new
    return Outcome.DONE, None


def _increment(state: State, key: bytes, amount: int) -> Result:
    current = state.get(key, b"0")
    digits = current[1:] if current.startswith(b"-") else current
    if not digits.isdigit() or len(digits) >= _LONGEST_NUMBER or current != b"%d" % int(current):
        return Outcome.NOT_A_NUMBER, None
    if not INTEGER_MIN <= int(current) <= INTEGER_MAX:
        return Outcome.NOT_A_NUMBER, None
    total = int(current) + amount
    if not INTEGER_MIN <= total <= INTEGER_MAX:
        return Outcome.OUT_OF_RANGE, None
    state[key] = str(total).encode()
    return Outcome.DONE, total


def _append(state: State, key: bytes, suffix: bytes, longest: int) -> Result:
    value = state.get(key, b"") + suffix
    if len(value) > longest:
        return Outcome.TOO_LARGE, None
    state[key] = value
    return Outcome.DONE, len(value)


def _multi(state: State, multi: Command, longest: int, by: tuple[int, int, int]) -> Result:
    before = dict(state)
    client, number, _ = by
    results = [
        execute(state, part, longest, (client, number, place)) for place, part in enumerate(parts_of(multi))
    ]
    outcomes = bytes(outcome for outcome, _ in results)
    values = [value for _, value in results]
    if max(outcomes) < Outcome.COMPARE_FAILED:
        return Outcome.DONE, [outcomes, values]
    state.clear()
    state.update(before)
    return Outcome.ABORTED, [outcomes, values]
