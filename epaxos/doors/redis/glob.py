"""Patterns as Redis has them: `*`, `?`, `[a-z]`, `[^x]`, and a backslash before what is meant as it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from epaxos.doors.redis.resp import RedisError

Matches: TypeAlias = "Callable[[bytes], object]"
"""Something true for what a pattern matches."""

LONGEST: Final = 1024
"""Bytes of a pattern at most: making it ready takes time."""


def matcher(pattern: bytes) -> Matches:
    """What tells whether bytes match a pattern, in a time that does not explode with its length.

    What stands between two stars is looked for from the left and, once it is found, never elsewhere: that loses
    nothing, and is what keeps the time in bounds.

    Raises:
        RedisError: the pattern is too long.
    """
    if len(pattern) > LONGEST:
        raise RedisError(f"ERR pattern of {len(pattern)} bytes; at most {LONGEST} are allowed")
    first, *others = _parts(pattern)
    if not others:
        return re.compile(first, re.DOTALL).fullmatch
    *middle, last = others
    expression = first + b"".join([b"(?>.*?%b)" % part for part in middle if part]) + b".*" + last
    return re.compile(expression, re.DOTALL).fullmatch


def _parts(pattern: bytes) -> list[bytes]:
    """What stands between the stars, as regular expressions."""
    parts = [b""]
    position = 0
    while position < len(pattern):
        byte = pattern[position : position + 1]
        position += 1
        if byte == b"*":
            parts.append(b"")
        elif byte == b"?":
            parts[-1] += b"."
        elif byte == b"[":
            found, position = _choice(pattern, position)
            parts[-1] += found
        else:
            if byte == b"\\" and position < len(pattern):
                byte = pattern[position : position + 1]
                position += 1
            parts[-1] += re.escape(byte)
    return parts


def _choice(pattern: bytes, position: int) -> tuple[bytes, int]:
    """One of some bytes, as an expression, and where the pattern goes on; a missing bracket is thought of."""
    negated = pattern[position : position + 1] == b"^"
    position += negated
    ranges: list[tuple[int, int]] = []
    while position < len(pattern) and pattern[position] != b"]"[0]:
        if pattern[position] == b"\\"[0] and position + 1 < len(pattern):
            position += 1
            ranges.append((pattern[position],) * 2)
            position += 1
        elif pattern[position + 1 : position + 2] == b"-" and position + 2 < len(pattern):
            one, other = pattern[position], pattern[position + 2]
            ranges.append((min(one, other), max(one, other)))
            position += 3
        else:
            ranges.append((pattern[position],) * 2)
            position += 1
    inner = b"".join([b"\\x%02x-\\x%02x" % pair for pair in ranges])
    if not inner:
        return (b"." if negated else b"(?!)"), position + 1
    return b"[%b%b]" % (b"^" if negated else b"", inner), position + 1
