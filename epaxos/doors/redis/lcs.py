"""LCS: the longest common subsequence of two values, and where in them it lies.

Of several that are as long it is the one that Redis tells: the table is walked from its end, and where both ways are as
good the second value gives way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from epaxos.doors.redis.numbers import integer
from epaxos.doors.redis.resp import Map, RedisError, Reply, Request
from epaxos.doors.redis.strings import SYNTAX
from epaxos.doors.redis.table import TWO_KEYS, Group
from epaxos.doors.redis.view import View

_MOST: Final = 1024 * 1024
"""Bytes of the table at most, which is a quarter as many steps: some 50 ms, for which the other clients wait."""

_CELL: Final = 4  # bytes, in Redis


class _Options(NamedTuple):
    """What is asked for: the length, the places, those of matches of so many bytes, and with the length of each."""

    length: bool
    places: bool
    least: int
    lengths: bool


def _options(words: Sequence[bytes]) -> _Options:
    said: set[bytes] = set()
    least = 0
    rest = iter(words)
    for word in rest:
        option = word.upper()
        if option == b"MINMATCHLEN" and (number := next(rest, None)) is not None:
            least = max(0, integer(number))
        elif option in (b"LEN", b"IDX", b"WITHMATCHLEN"):
            said.add(option)
        else:
            raise RedisError(SYNTAX)
    if said >= {b"LEN", b"IDX"}:
        raise RedisError("ERR If you want both the length and indexes, please just use IDX.")
    return _Options(b"LEN" in said, b"IDX" in said, least, b"WITHMATCHLEN" in said)


def _lcs(view: View, request: Request) -> Reply:
    first, second = (view.get(key) or b"" for key in request[1:3])
    wanted = _options(request[3:])
    if (len(first) + 1) * (len(second) + 1) * _CELL > min(_MOST, view.most):
        raise RedisError("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
    table = _table(first, second)
    length = table[-1][-1]
    if wanted.length:
        return length
    matches = list(_matches(first, second, table))
    if not wanted.places:
        return bytes(first[place] for place, _ in reversed(matches))
    ranges: list[Reply] = [
        [[begin, begin + size - 1], [other, other + size - 1], *([size] if wanted.lengths else ())]
        for begin, other, size in _ranges(matches)
        if size >= wanted.least
    ]
    return Map([(b"matches", ranges), (b"len", length)])


def _table(first: bytes, second: bytes) -> list[list[int]]:
    """How long it is of the first bytes of the one and the first bytes of the other, for all numbers of them."""
    rows = [[0] * (len(second) + 1)]
    for byte in first:
        above, row, last = rows[-1], [0], 0
        for place, other in enumerate(second):
            last = above[place] + 1 if byte == other else max(above[place + 1], last)
            row.append(last)
        rows.append(row)
    return rows


def _matches(first: bytes, second: bytes, table: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """Where its bytes stand in both, from the last one on."""
    here, there = len(first), len(second)
    while here and there:
        if first[here - 1] == second[there - 1]:
            here, there = here - 1, there - 1
            yield here, there
        elif table[here - 1][there] > table[here][there - 1]:
            here -= 1
        else:
            there -= 1


def _ranges(matches: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Those that follow one another, from the last ones on: where they begin in both, and how many."""
    length = 0
    for index, (here, there) in enumerate(matches):
        length += 1
        if index + 1 == len(matches) or matches[index + 1] != (here - 1, there - 1):
            yield here, there, length
            length = 0


Group("string").define(
    "lcs", -3, "readonly", "7.0.0", "Find the longest common substring", _lcs, places=TWO_KEYS
)
