"""Numbers as Redis reads and writes them: 64-bit integers, and the 80-bit floats of its INCRBYFLOAT."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Final

from epaxos.doors.redis.resp import RedisError
from epaxos.statemachine.operations import INTEGER_MAX, INTEGER_MIN

NOT_AN_INTEGER: Final = "ERR value is not an integer or out of range"
_NOT_A_FLOAT: Final = "ERR value is not a valid float"

_integer = re.compile(rb"0|-?[1-9][0-9]{0,18}").fullmatch
_float = re.compile(rb"([+-]?)([0-9]*)\.?([0-9]*)(?:[eE]([+-]?[0-9]{1,9}))?").fullmatch
_infinite = re.compile(rb"[+-]?inf(inity)?", re.IGNORECASE).fullmatch

_MANTISSA: Final = 64
_EXPONENT: Final = 16_384
"""Of the extended precision of x86, which `long double` is there."""

_PLACES: Final = 17
_LONGEST: Final = 5 * 1024
"""Characters of a float at most."""


def integer(text: bytes) -> int:
    """A signed 64-bit integer.

    Raises:
        RedisError: it is none.
    """
    number = int(text) if _integer(text) else None
    if number is None or not INTEGER_MIN <= number <= INTEGER_MAX:
        raise RedisError(NOT_AN_INTEGER)
    return number


def add_floats(value: bytes, increment: bytes) -> bytes:
    """The sum of two floats, as text.

    Raises:
        RedisError: one of them is none, or the sum is infinite.
    """
    one, other = _read(value), _read(increment)
    total = None if one is None or other is None else _rounded(one + other)
    if total is None:
        raise RedisError("ERR increment would produce NaN or Infinity")
    return _written(total)


def _read(text: bytes) -> Fraction | None:
    """The number, None if it is infinite."""
    if _infinite(text):
        return None
    match = _float(text) if 0 < len(text) < _LONGEST else None
    if match is None or not match[2] + match[3]:
        raise RedisError(_NOT_A_FLOAT)
    sign, whole, part, exponent = match.groups()
    digits = int(Decimal((whole + part).decode()))  # int() and str() take no more than 4300 digits
    power = int(exponent or b"0") - len(part)
    if not -2 * _EXPONENT < power < _EXPONENT:  # beyond what a float holds, unless it is nothing
        power = 0 if not digits else _beyond()
    number = _rounded(Fraction(digits) * Fraction(10) ** power)
    if number is None or (not number and digits):
        _beyond()
    return -number if number is not None and sign == b"-" else number


def _beyond() -> int:
    raise RedisError(_NOT_A_FLOAT)


def _rounded(number: Fraction) -> Fraction | None:
    """The nearest float, the even one of two; None if it is infinite."""
    if not number:
        return number
    size = abs(number)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if size < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, 2 - _EXPONENT) + 1 - _MANTISSA)
    nearest = round(number / unit) * unit
    return None if abs(nearest) >= Fraction(2) ** _EXPONENT else nearest


def _written(number: Fraction) -> bytes:
    """In decimal with 17 places, without zeros at the end."""
    scaled = round(abs(number) * 10**_PLACES)
    whole, part = divmod(scaled, 10**_PLACES)
    places = f"{part:0{_PLACES}}".rstrip("0")
    sign = "-" if number < 0 and scaled else ""
    return f"{sign}{Decimal(whole)}{'.' if places else ''}{places}".encode()
