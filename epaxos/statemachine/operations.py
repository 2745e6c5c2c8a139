"""The operations of the key-value store and their outcomes, as they stand on the wire.

A batch holds one byte per command in its `operations` column: a value of `Operation`. Its `keys` column
holds one byte string per command, its `values` column one argument per command:

=========== ======== ============================== ==============================================
operation   key      argument                       result
=========== ======== ============================== ==============================================
NULL        b""      None                           None; conflicts with nothing, changes nothing
READ        the key  None                           the value; NOT_FOUND if there is none
EXISTS      the key  None                           None; NOT_FOUND if there is no value
WRITE       the key  bytes, the new value           None
WRITEREAD   the key  bytes, the new value           the previous value, None if there was none
DELETE      the key  None                           None; NOT_FOUND if there was no value
CAS         the key  [expected or None, new value   None; COMPARE_FAILED with the current value. None as new value
                     or None]                       removes the key; where both are equal, nothing is replaced
INCREMENT   the key  int, the amount                the new value as int; absent counts as 0
APPEND      the key  bytes, the suffix              the new length as int; absent counts as empty
PAUSE       b""      int, milliseconds              None; the executing replica sleeps (for tests)
MULTI       b""      [operations, keys, arguments]  [outcomes, values] of its parts, all or nothing
PREPARE     record   [generation, groups, columns]  as MULTI's, with `columns` as its argument; nothing has changed yet
VOTE        record   int, a generation              [prepared, committed or None, keys]; None: no record, nor will be
RESOLVE     record   [committed, keys]              None
FORGET      record   keys                           None
APPLY       b""      bytes, a command               what the state machine of the program answers, bytes or None
SETEX       the key  [value, ms or None]            None; the value ends after so long, or when the one before it would
SETTTL      the key  int, milliseconds              None; the value that is there ends then; NOT_FOUND if there is none
PERSIST     the key  None                           None; the value does not end; NOT_FOUND if there is none that would
EXPIRE      the key  [client, number, place]        None; the value is removed if its time is from that command
ENDSBY      the key  [client, number, place]        None; COMPARE_FAILED unless there is a value whose time is from that
                     or None                        command, or with None, one that does not end
SCAN        prefix   [after, limit, values,         [keys, their values or None, whether there are more]
                     reverse]
COUNT       prefix   None                           how many keys begin with the prefix, as int
CLEAR       prefix   [after, limit]                 [how many keys were removed, the last one if there are more or None]
=========== ======== ============================== ==============================================

For the four from PREPARE on, which make transactions across groups, see `statemachine.transactions`; for APPLY, whose
argument is [keys read, keys written, command] once it is proposed, `statemachine.hosted`; for the five from SETEX on,
of which EXPIRE is proposed by replicas alone, `statemachine.expiry`; for the last three, which to the protocol read or
write all keys, `statemachine.ordered`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Operation(IntEnum):
    """What a command does; the names NULL to PAUSE are those of the original's access types."""

    NULL = 0
    READ = 1
    WRITE = 2
    WRITEREAD = 3
    DELETE = 4
    CAS = 5
    INCREMENT = 6
    APPEND = 7
    PAUSE = 8
    MULTI = 9
    PREPARE = 10
    VOTE = 11
    RESOLVE = 12
    FORGET = 13
    APPLY = 14
    SETEX = 15
    SETTTL = 16
    PERSIST = 17
    EXPIRE = 18
    EXISTS = 19
    ENDSBY = 20
    SCAN = 21
    COUNT = 22
    CLEAR = 23


class Outcome(IntEnum):
    """How a command ended, one byte per command in a reply's `outcomes` column.

    From COMPARE_FAILED to ABORTED, the command changed nothing; inside a MULTI such an outcome makes the
    whole MULTI end as ABORTED. TOO_LARGE is about the value that an APPEND would make, or about the results of
    a frame's commands (`batch.Bounds`). The others stand only in replies: UNTOLD where the result did not fit
    beside others and comes when the command is sent again; FORGOTTEN where the command executed and its result is
    not kept any more; EXPIRED where its session may have ended before (`statemachine.sessions`), so that this try
    changed nothing, while an earlier one may have executed; LOCKED where the command met the lock of a transaction
    across groups and changed nothing, with [the key of its record, its groups] as value.
    """

    DONE = 0
    NOT_FOUND = 1
    COMPARE_FAILED = 2
    NOT_A_NUMBER = 3
    OUT_OF_RANGE = 4
    TOO_LARGE = 5
    ABORTED = 6
    UNTOLD = 7
    FORGOTTEN = 8
    EXPIRED = 9
    LOCKED = 10


KEYLESS: Final = frozenset({Operation.NULL, Operation.PAUSE, Operation.MULTI, Operation.APPLY})
"""Operations whose key column holds b""; what they touch, if anything, is in their argument."""

READERS: Final = frozenset({Operation.READ, Operation.EXISTS, Operation.ENDSBY})
"""Operations that only read their key: they do not conflict with one another, and may execute again."""

READERS_OF_ALL: Final = frozenset({Operation.SCAN, Operation.COUNT})
"""Operations that only read, whatever key: they conflict with all that writes, and may execute again."""

ON_ALL: Final = READERS_OF_ALL | {Operation.CLEAR}
"""Operations whose key column holds a prefix, perhaps b""; CLEAR conflicts with everything."""

NOT_IN_MULTI: Final = KEYLESS | ON_ALL
"""Operations that touch no key of their own, so that no MULTI may hold them; nor those of transactions."""

OF_TRANSACTIONS: Final = frozenset({Operation.PREPARE, Operation.VOTE, Operation.RESOLVE, Operation.FORGET})
"""Operations whose key is that of a transaction's record; PREPARE and RESOLVE touch the keys in their argument too,
and FORGET names those of the record."""

RECORDS: Final = b"\0epaxos\0"
"""How the keys of the service's own records begin; no other command may name such a key."""

GROUP_MAP: Final = b"\0groups"
"""The key under which each group holds what the first client's file said of all (`epaxos.groups`)."""

RECORD_KEY: Final = len(RECORDS) + 16
"""The bytes of the key of a transaction's record."""

PAGE_KEYS: Final = 10_000
"""Keys that a SCAN or a CLEAR takes at most, and all those of a frame together, and"""

PAGE_BYTES: Final = 1024 * 1024
"""bytes of it after which a page ends, or fewer if no more fit into a frame: with what fits, and at least one key."""

PAGE_LEAST: Final = PAGE_KEYS // 8
"""Keys that each COUNT, SCAN and CLEAR of a frame counts for at least: it may have to walk through all there are."""

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1
"""The range of a number that INCREMENT takes and leaves: a signed 64-bit integer."""
