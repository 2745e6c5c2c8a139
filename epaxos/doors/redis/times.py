"""Times as commands of Redis give them: the milliseconds for which a key stays, computed where the command is taken.

What executes may look at no clock, so a moment of people's time becomes a duration here (protocol 4.14).
"""

from __future__ import annotations

from typing import Final

from epaxos.doors.redis.numbers import integer
from epaxos.doors.redis.resp import RedisError
from epaxos.statemachine.operations import INTEGER_MAX, INTEGER_MIN

_SECONDS: Final = (b"EX", b"EXAT")
_ABSOLUTE: Final = (b"EXAT", b"PXAT")


def expiry_of(name: str, unit: bytes, text: bytes, milliseconds: int) -> int:
    """For how long a value is given: of SET, SETEX, GETEX, in milliseconds; it may be over already.

    `unit` is EX, PX, EXAT or PXAT, `milliseconds` the time now.

    Raises:
        RedisError: it is no number, or out of range.
    """
    number = integer(text)
    if number <= 0 or (unit in _SECONDS and number > INTEGER_MAX // 1000):
        raise _invalid(name)
    if unit in _SECONDS:
        number *= 1000
    if unit in _ABSOLUTE:
        return number - milliseconds
    if number > INTEGER_MAX - milliseconds:
        raise _invalid(name)
    return number


def expire_in(name: str, unit: bytes, text: bytes, milliseconds: int) -> int:
    """The same of EXPIRE and its relatives, where it may be negative."""
    number = integer(text)
    if unit in _SECONDS:
        if not -(-INTEGER_MIN // 1000) <= number <= INTEGER_MAX // 1000:
            raise _invalid(name)
        number *= 1000
    if unit in _ABSOLUTE:
        return number - milliseconds
    if number > INTEGER_MAX - milliseconds:
        raise _invalid(name)
    return number


def _invalid(name: str) -> RedisError:
    return RedisError(f"ERR invalid expire time in '{name}' command")
