"""What the commands of a batch came to, and how many bytes that takes as msgpack."""

from __future__ import annotations

from types import NoneType
from typing import Final, NamedTuple, TypeAlias

Value: TypeAlias = "bytes | int | list[object] | None"

_NUMBERS: Final = {int, NoneType}
_STRINGS: Final = {bytes, NoneType}


class BatchResult(NamedTuple):
    """What the commands of a batch came to: the body of a REPLY, in its order.

    `outcomes` holds one `Outcome` per command from request number `first` on; `values` one value per
    command, or None if all values are None. A session may keep the same object: never change `values`.
    """

    client: int
    first: int
    outcomes: bytes
    values: list[Value] | None

    @property
    def end(self) -> int:
        """One past the last request number."""
        return self.first + len(self.outcomes)

    def part(self, first: int, end: int) -> BatchResult:
        """The results of the numbers from `first` up to, not including, `end`, all of which are among these."""
        place = slice(first - self.first, end - self.first)
        values = None if self.values is None else self.values[place]
        return BatchResult(self.client, first, self.outcomes[place], values)


def weigh_value(value: object) -> int:
    """The length of a result as msgpack, at most."""
    if isinstance(value, bytes):
        return len(value) + 5
    if isinstance(value, list):
        return 5 + sum(map(weigh_value, value))
    return 9


def weigh_values(values: list[Value]) -> int:
    """The length of some results as msgpack, at most; by whole columns where they are alike."""
    kinds = set(map(type, values))
    if kinds <= _NUMBERS:
        return 9 * len(values)
    if kinds <= _STRINGS:
        return 5 * len(values) + sum(map(len, filter(None, values)))  # type: ignore[arg-type]  # all bytes
    return sum(map(weigh_value, values))


def as_column(values: list[Value]) -> list[Value] | None:
    """A reply's column of values: None where all values are None."""
    return None if all(value is None for value in values) else values
