"""The key-value store: what the operations do to keys and values.

Commands come as columns. Columns of plain reads or writes are handled by a C-level call, whosesoever they are;
where operations differ they run one by one through a table.

**Nothing here raises for what a command holds.** The proposer checks every command (`checks.check_batch`), but
an exception on the way of execution would stop every replica at the same command, for ever. So a command that
slipped through with an argument of a wrong type, an unknown operation or a nested MULTI ends with a failing
outcome, the same on every replica, and changes nothing: NOT_A_NUMBER or OUT_OF_RANGE for an integer, ABORTED
with no value for the rest. The argument of an operation that takes none is not looked at, and the sizes of
keys and of values that are stored as they came are left to the proposer.

**What the commands of a batch come to is bounded**, since a small request can ask for very much. A command that writes
and whose result does not fit beside those before it ends as TOO_LARGE and changes nothing. That is so at every replica
or at none (protocol 4.9), although a batch may meet duplicates of its commands, in other company, that executed before:
a command that writes conflicts with its duplicates, so the same ones of a batch are new everywhere. What only reads
takes none of that room; its value is left out (UNTOLD) where those of the batch are too much to have at once, and comes
when it is read again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Final, TypeAlias, cast

from epaxos.statemachine.batch import Bounds, Limits
from epaxos.statemachine.columns import Argument, Columns, multi_columns
from epaxos.statemachine.expiry import Expiring, Generation, is_ttl
from epaxos.statemachine.notes import Notes
from epaxos.statemachine.operations import (
    INTEGER_MAX,
    INTEGER_MIN,
    NOT_IN_MULTI,
    OF_TRANSACTIONS,
    PAGE_BYTES,
    PAGE_KEYS,
    READERS,
    Operation,
    Outcome,
)
from epaxos.statemachine.ordered import PACE
from epaxos.statemachine.results import Value, as_column, weigh_value
from epaxos.statemachine.values import Values

Result: TypeAlias = "tuple[int, Value]"
Handler: TypeAlias = Callable[[bytes, Argument], Result]

# Plain integers: looking up the member of an enumeration costs more than a dictionary update.
_READ: Final = int(Operation.READ)
_WRITE: Final = int(Operation.WRITE)
_DONE: Final = int(Outcome.DONE)
_NOT_FOUND: Final = int(Outcome.NOT_FOUND)
_FIRST_FAILURE: Final = int(Outcome.COMPARE_FAILED)
_ENDLESS: Final = 2**62
_SCAN_ARGUMENTS: Final = 4
_CLEAR_ARGUMENTS: Final = 2
_PAGE_HEAD: Final = 32  # bytes of a SCAN's result beside its keys and values, with its outcome, at most
_NOT_IN_MULTI: Final = NOT_IN_MULTI | OF_TRANSACTIONS
_SETTING: Final = frozenset({Operation.WRITE, Operation.WRITEREAD, Operation.SETEX})
"""Operations that give their key a value anew, also where it is the one that was there."""

_OK: Final[Result] = (_DONE, None)
_ABSENT: Final[Result] = (_NOT_FOUND, None)
_INVALID: Final[Result] = (int(Outcome.ABORTED), None)
_NOT_A_NUMBER: Final[Result] = (int(Outcome.NOT_A_NUMBER), None)
_UNTOLD: Final = int(Outcome.UNTOLD)
_OUT_OF_RANGE: Final[Result] = (int(Outcome.OUT_OF_RANGE), None)
_DIFFERENT: Final[Result] = (int(Outcome.COMPARE_FAILED), None)
_TOO_LARGE: Final[Result] = (int(Outcome.TOO_LARGE), None)

# 19 digits hold every 64-bit integer. The bound also keeps int() away from long values, where its time is
# quadratic and Python refuses more than 4300 digits.
_is_decimal = re.compile(rb"0|-?[1-9][0-9]{0,18}").fullmatch


class Store(Values):
    """The keys and values of one replica.

    `limits` bounds how long PAUSE may ask for and, until `begin` says otherwise, what commands may come to; `sleep`
    takes seconds.

    `origin` is the client, and the request number of the first, of the commands that are executed next: what gives a
    value its time is known by them.

    While there are `notes`, what commands change is noted there; that costs nothing while there are none. Unless it
    `lists`, what SCANs and COUNTs tell is left out, as where nobody waits for it.
    """

    __slots__ = (
        "_bounds",
        "_handlers",
        "_lacked_room",
        "_limits",
        "_multi_number",
        "_place",
        "_read_room",
        "_room",
        "_sleep",
        "lists",
        "notes",
        "origin",
    )

    def __init__(self, limits: Limits, sleep: Callable[[float], None], pace: int = PACE) -> None:
        super().__init__(pace)
        self._limits = limits
        self._sleep = sleep
        self.notes: Notes | None = None
        self.lists = True
        self.origin = (0, 0)
        self._place = 0
        self._multi_number: int | None = None
        self.begin(limits.bounds)
        known: dict[int, Handler] = {
            Operation.NULL: _null,
            Operation.READ: self._read,
            Operation.EXISTS: self._exists,
            Operation.WRITE: self._write,
            Operation.WRITEREAD: self._write_read,
            Operation.DELETE: self._delete,
            Operation.CAS: self._compare_and_swap,
            Operation.INCREMENT: self._increment,
            Operation.APPEND: self._append,
            Operation.PAUSE: self._pause,
            Operation.MULTI: self._multi,
            Operation.SETEX: self._set_for,
            Operation.SETTTL: self._set_ttl,
            Operation.PERSIST: self._persist,
            Operation.EXPIRE: self._expire,
            Operation.ENDSBY: self._ends_by,
            Operation.SCAN: self._scan,
            Operation.COUNT: self._count,
            Operation.CLEAR: self._clear,
        }
        self._handlers = tuple(known.get(operation, _unknown) for operation in range(256))

    @property
    def bounds(self) -> Bounds:
        """Those of the batch that is being executed."""
        return self._bounds

    def has_room(self, result: Value, *, reads: bool) -> bool:
        """Take the room for a result that is none of an operation on values, if there is as much."""
        if not reads:
            return self._has_room(result)
        fits = self._read_room >= 0
        self._read_room -= weigh_value(result)
        return fits

    def begin(self, bounds: Bounds | None) -> None:
        """Begin a batch: the commands executed until the next call share the room for results."""
        self._bounds = bounds or self._limits.bounds
        self._lacked_room = False
        self._room = self._read_room = self._bounds.results

    def execute_plain(
        self, operations: bytes, keys: Sequence[bytes], arguments: Sequence[Argument] | None
    ) -> tuple[bytes, list[Value] | None]:
        """Execute commands, of any number of batches, that are plain (`columns.is_plain`), in order.

        They need no room: a read gives a value that the store held before, or one that stands among `arguments`.
        """
        if operations.count(_READ) == len(operations):
            return self._read_column(keys)
        if operations.count(_WRITE) == len(operations) and arguments is not None:
            self._put_aside(keys)
            self._data.update(zip(keys, arguments, strict=True))  # type: ignore[arg-type]  # all bytes
            if self.notes is not None:
                self.notes.add(keys, cast("Sequence[bytes]", arguments))
            self._ordered.note()
            return bytes(len(operations)), None
        self._put_aside(keys)
        outcomes, values, _ = self._one_by_one(operations, keys, arguments or repeat(None), _ENDLESS)
        self._ordered.note()
        return outcomes, as_column(values)

    def execute(
        self, operations: bytes, keys: Sequence[bytes], arguments: Sequence[Argument] | None
    ) -> tuple[bytes, list[Value] | None]:
        """Execute commands in order; the columns have one length, at least 1.

        Returns the outcomes, one byte per command, and the values, or None if all values are None.
        """
        if len(operations) == 1 and self.notes is None:
            self._put_aside(keys)
            argument = None if arguments is None else arguments[0]
            self._place = 0
            outcome, value = self._handlers[operations[0]](keys[0], argument)
            self._ordered.note()
            return bytes((outcome,)), None if value is None else [value]
        outcomes, values = self.execute_part(operations, keys, arguments)
        return outcomes, as_column(values)

    def execute_part(
        self, operations: bytes, keys: Sequence[bytes], arguments: Sequence[Argument] | None
    ) -> tuple[bytes, list[Value]]:
        """The same for commands with others beside them, whose values take room too."""
        self._put_aside(keys)
        room = self._read_room
        outcomes, values, left = self._one_by_one(operations, keys, arguments or repeat(None), room)
        self._read_room -= room - left
        self._ordered.note()
        return outcomes, values

    def _read_column(self, keys: Sequence[bytes]) -> tuple[bytes, list[Value] | None]:
        values: list[Value] = list(map(self._data.get, keys))
        if all(values):  # false also for an empty value, which the slower way tells from an absent one
            return bytes(len(values)), values
        return bytes([_NOT_FOUND if value is None else _DONE for value in values]), as_column(values)

    def _one_by_one(
        self, operations: bytes, keys: Sequence[bytes], arguments: Iterable[Argument], room: int
    ) -> tuple[bytes, list[Value], int]:
        """Execute commands of any kind; values of plain reads may take `room`, the last one more.

        Returns outcomes, values and the rest of the room.
        """
        notes = self.notes
        if notes is None:
            return self._run(operations, keys, arguments, room, 0)
        outcomes, values = bytearray(), list[Value]()
        for index, (operation, key, argument) in enumerate(zip(operations, keys, arguments, strict=False)):
            before = self._data.get(key)
            its, found, room = self._run(operations[index : index + 1], (key,), (argument,), room, index)
            outcomes += its
            values += found
            if operation not in NOT_IN_MULTI:  # these note by themselves, or change nothing
                after = self._data.get(key)
                if (operation in _SETTING and its[0] == _DONE) or after != before:
                    notes.add((key,), (after,))
        return bytes(outcomes), values, room

    def _run(
        self,
        operations: bytes,
        keys: Sequence[bytes],
        arguments: Iterable[Argument],
        room: int,
        place: int,
    ) -> tuple[bytes, list[Value], int]:
        """The same without notes; `place` is that of the first command among those of its batch.

        Plain reads and writes stand here instead of behind the table: a hundred of them mixed take 8 µs this
        way and 12 µs with a call each.
        """
        data, handlers = self._data, self._handlers
        outcomes = bytearray(len(operations))
        values: list[Value] = [None] * len(operations)
        for index, (operation, key, argument) in enumerate(zip(operations, keys, arguments, strict=False)):
            if operation == _READ:
                value = values[index] = data.get(key)
                if value is None:
                    outcomes[index] = _NOT_FOUND
                elif room < 0:  # each may be another version, which would go if nobody held it
                    outcomes[index], values[index] = _UNTOLD, None
                else:
                    room -= len(value)
            elif operation == _WRITE and type(argument) is bytes:
                data[key] = argument
            else:
                self._place = place + index
                outcomes[index], values[index] = handlers[operation](key, argument)
        return bytes(outcomes), values, room

    def _read(self, key: bytes, _: Argument) -> Result:
        value = self._data.get(key)
        return _ABSENT if value is None else (_DONE, value)

    def _exists(self, key: bytes, _: Argument) -> Result:
        return _OK if key in self._data else _ABSENT

    def _write(self, key: bytes, value: Argument) -> Result:
        if type(value) is not bytes:
            return _INVALID
        self._data[key] = value
        return _OK

    def _write_read(self, key: bytes, value: Argument) -> Result:
        if type(value) is not bytes:
            return _INVALID
        previous = self._data.get(key)
        if not self._has_room(previous):
            return _TOO_LARGE
        self._data[key] = value
        return _DONE, previous

    def _has_room(self, result: Value) -> bool:
        """Take the room for the result of a command that writes, if there is as much."""
        if result is None:
            return True
        weight = weigh_value(result)
        if weight > self._room:
            self._lacked_room = True
            return False
        self._room -= weight
        return True

    def _delete(self, key: bytes, _: Argument) -> Result:
        return _OK if self._remove(key) else _ABSENT

    def _compare_and_swap(self, key: bytes, argument: Argument) -> Result:
        if type(argument) is not list or len(argument) != 2:
            return _INVALID
        expected, new = argument
        if not (new is None or type(new) is bytes) or not (expected is None or type(expected) is bytes):
            return _INVALID
        current = self._data.get(key)
        if current != expected:
            return (Outcome.COMPARE_FAILED, current) if self._has_room(current) else _TOO_LARGE
        if new is None:
            self._remove(key)
        elif new != expected:
            self._data[key] = new
        return _OK

    def _increment(self, key: bytes, amount: Argument) -> Result:
        if type(amount) is not int:
            return _NOT_A_NUMBER
        if not INTEGER_MIN <= amount <= INTEGER_MAX:
            return _OUT_OF_RANGE
        current = _number(self._data.get(key, b"0"))
        if current is None:
            return _NOT_A_NUMBER
        total = current + amount
        if not INTEGER_MIN <= total <= INTEGER_MAX:
            return _OUT_OF_RANGE
        self._data[key] = _ending_as(self._data.get(key), b"%d" % total)
        return _DONE, total

    def _append(self, key: bytes, suffix: Argument) -> Result:
        if type(suffix) is not bytes:
            return _INVALID
        current = self._data.get(key, b"")
        length = len(current) + len(suffix)
        if length > self._bounds.value:
            return _TOO_LARGE
        self._data[key] = _ending_as(current, current + suffix)
        return _DONE, length

    def _set_for(self, key: bytes, argument: Argument) -> Result:
        if type(argument) is not list or len(argument) != 2:
            return _INVALID
        value, ttl = argument
        if type(value) is not bytes or not (ttl is None or is_ttl(ttl)):
            return _INVALID
        if ttl is None:
            self._data[key] = _ending_as(self._data.get(key), value)
        else:
            self._set(key, Expiring.of(value, ttl, self._generation()))
        return _OK

    def _set_ttl(self, key: bytes, ttl: Argument) -> Result:
        current = self._data.get(key)
        if type(ttl) is not int or not is_ttl(ttl):
            return _INVALID
        if current is None:
            return _ABSENT
        self._set(key, Expiring.of(current, ttl, self._generation()))
        return _OK

    def _persist(self, key: bytes, _: Argument) -> Result:
        current = self._data.get(key)
        if type(current) is not Expiring:
            return _ABSENT
        self._data[key] = bytes(current)
        return _OK

    def _expire(self, key: bytes, argument: Argument) -> Result:
        """Without effect on a value that was given later: its time has begun anew (protocol 4.14)."""
        current = self._data.get(key)
        if type(argument) is list and isinstance(current, Expiring) and argument == [*current.generation]:
            self._remove(key)
        return _OK

    def _ends_by(self, key: bytes, argument: Argument) -> Result:
        current = self._data.get(key)
        if current is None:
            return _DIFFERENT
        found = [*current.generation] if isinstance(current, Expiring) else None
        return _OK if argument == found else _DIFFERENT

    def page(
        self, operation: int, prefix: bytes, argument: Argument
    ) -> tuple[list[bytes], bytes | None] | None:
        """The keys that a SCAN or CLEAR takes, and the next one, if any, which it looks at too; None if ill-formed.

        One page with nothing beside it fits into a reply.
        """
        scans = operation == Operation.SCAN
        if type(argument) is not list or len(argument) != (_SCAN_ARGUMENTS if scans else _CLEAR_ARGUMENTS):
            return None
        after, limit, *flags = argument
        if not _is_page(after, limit) or any(type(flag) is not bool for flag in flags):
            return None
        if not scans:
            return self._ordered.page(prefix, after, limit)
        values, reverse = flags
        room = min(PAGE_BYTES, self._bounds.results - _PAGE_HEAD)
        return self._ordered.page(prefix, after, limit, room, values=values, reverse=reverse)

    def _scan(self, prefix: bytes, argument: Argument) -> Result:
        if not self.lists:
            return _OK
        if self._read_room < 0:
            return _UNTOLD, None
        found = self.page(Operation.SCAN, prefix, argument)
        if found is None:
            return _INVALID
        page, following = found
        values = list(map(self._data.__getitem__, page)) if cast("list[bool]", argument)[2] else None
        result: list[object] = [page, values, following is not None]
        self._read_room -= weigh_value(result)
        return _DONE, result

    def _count(self, prefix: bytes, _: Argument) -> Result:
        return _DONE, self._ordered.count(prefix) if self.lists else None

    def _clear(self, prefix: bytes, argument: Argument) -> Result:
        found = self.page(Operation.CLEAR, prefix, argument)
        if found is None:
            return _INVALID
        page, following = found
        result: list[object] = [len(page), None if following is None else page[-1]]
        if not self._has_room(result):
            return _TOO_LARGE
        self._put_aside(page)
        for key in page:
            self._remove(key)
        if self.notes is not None:
            self.notes.add(page, [None] * len(page))
        self._cleared.append(dict.fromkeys(page))
        return _DONE, result

    def _generation(self) -> Generation:
        """What a value is known by whose time the command gives that is being executed."""
        client, first = self.origin
        if self._multi_number is None:
            return Generation(client, first + self._place, 0)
        return Generation(client, self._multi_number, self._place)

    def _pause(self, _: bytes, milliseconds: Argument) -> Result:
        if type(milliseconds) is not int:
            return _NOT_A_NUMBER
        if not 0 <= milliseconds <= self._limits.pause:
            return _OUT_OF_RANGE
        self._sleep(milliseconds / 1000)
        return _OK

    def _multi(self, _: bytes, argument: Argument) -> Result:
        columns = multi_columns(argument)
        if columns is None:
            return _INVALID
        if READERS.issuperset(columns[0]):
            return self._only_read(columns)
        return self.attempt(columns, self.origin[1] + self._place, keep=True)

    def redo(self, columns: Columns, bounds: Bounds, origin: tuple[int, int]) -> Result:
        """What `attempt` tried under some bounds before, and comes to the same now; it takes no room from a batch.

        `origin` is the client and the number under which it was asked for.
        """
        held = self._bounds, self._lacked_room, self._room, self._read_room, self.origin
        self.begin(bounds)
        self.origin = origin
        result = self.attempt(columns, origin[1], keep=True)
        self._bounds, self._lacked_room, self._room, self._read_room, self.origin = held
        return result

    def attempt(self, columns: Columns, number: int, *, keep: bool) -> Result:
        """Execute the parts of a MULTI, later ones seeing what earlier ones did, then keep all of it or nothing.

        `number` is its request number. The parts run on the store itself, and what stood under their keys is put back
        if one failed, or without `keep`: nobody can look between, and a success, the common case, costs no second copy.
        What they take of the room counts once, as a part of the whole result.
        """
        operations, keys, arguments = columns
        if not _NOT_IN_MULTI.isdisjoint(operations):
            return _INVALID
        self._put_aside(keys)
        before = dict(zip(keys, map(self._data.get, keys), strict=True))
        room = self._room
        mark = None if self.notes is None else self.notes.mark()
        self._lacked_room = False
        self._multi_number = number
        outcomes, values, left = self._one_by_one(operations, keys, arguments, self._bounds.results)
        self._multi_number = None
        self._room = room
        result: list[object] = [outcomes, values]
        fits = left >= 0 and not self._lacked_room and self._has_room(result)
        done = fits and max(outcomes) < _FIRST_FAILURE
        if not (done and keep):
            self._restore(before)
            if self.notes is not None and mark is not None:
                self.notes.cut(mark)
        if done:
            return _DONE, result
        return (Outcome.ABORTED, result) if fits else _TOO_LARGE

    def _only_read(self, columns: Columns) -> Result:
        outcomes, values, left = self._one_by_one(*columns, self._bounds.results)
        result: list[object] = [outcomes, values]
        weight = weigh_value(result)
        if left < 0 or weight > self._bounds.results:
            return _TOO_LARGE
        if self._read_room < 0:
            return _UNTOLD, None
        self._read_room -= weight
        return _DONE, result

    def _restore(self, before: dict[bytes, bytes | None]) -> None:
        for key, value in before.items():
            self.put(key, value)


def _ending_as(current: bytes | None, value: bytes) -> bytes:
    """A value that ends when the one before it would have, if it would."""
    return current.renewed(value) if isinstance(current, Expiring) else value


def _is_page(after: object, limit: object) -> bool:
    return (after is None or type(after) is bytes) and type(limit) is int and 0 < limit <= PAGE_KEYS


def _null(_key: bytes, _argument: Argument) -> Result:
    return _OK


def _unknown(_key: bytes, _argument: Argument) -> Result:
    return _INVALID


def _number(value: bytes) -> int | None:
    """The signed 64-bit integer that a stored value writes in decimal ASCII; None if it is none.

    As it would be written there: no zeros before others, no "-0", spaces, "+" or "_".
    """
    if not _is_decimal(value):
        return None
    number = int(value)
    return number if INTEGER_MIN <= number <= INTEGER_MAX else None
