"""What the answers of the store mean in Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

from epaxos.client.codecs import V
from epaxos.errors import ClientError, OperationFailed

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T_co = TypeVar("T_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class CasResult(Generic[V]):
    """What a compare-and-swap did; true if it swapped.

    `swapped` says whether the value was the expected one and has been replaced; `current` is the value that
    stands there now: the new one if swapped, else the one found, None where there is none.
    """

    swapped: bool
    current: V | None

    def __bool__(self) -> bool:
        return self.swapped


@dataclass(frozen=True, slots=True)
class Page(Generic[V]):
    """Keys that stood at one moment, in order; of `values`, None without them, each belongs to the key at its place.

    `more` tells whether further keys would have followed: they come `after` the last of these.
    """

    keys: Sequence[bytes]
    values: Sequence[V] | None
    more: bool

    @property
    def items(self) -> list[tuple[bytes, V]]:
        """The keys with their values.

        Raises:
            ValueError: it was asked for without values.
        """
        if self.values is None:
            raise ValueError("this page was asked for without values")
        return list(zip(self.keys, self.values, strict=True))

    @property
    def after(self) -> bytes | None:
        """With what to ask for the next page; None if there is none."""
        return self.keys[-1] if self.more else None


class Cleared(NamedTuple):
    """What a `clear` did: how many keys it removed, and the last of them if there are more, else None."""

    removed: int
    after: bytes | None


@dataclass(frozen=True, slots=True)
class Result(Generic[T_co]):
    """What one command of a bulk call came to: `value` as its method returns it, or the `error`."""

    value: T_co | None = None
    error: ClientError | None = None

    @property
    def ok(self) -> bool:
        """Whether the command succeeded."""
        return self.error is None

    def unwrap(self) -> T_co:
        """The value.

        Raises:
            ClientError: the error, if there is one.
        """
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # None only where T_co has it


class MultiAborted(OperationFailed):
    """A multi of which one operation failed; none of its operations changed anything.

    `part` is the position of the first operation that failed, `outcome` how it failed (an `Outcome`).
    """

    def __init__(self, text: str, part: int, outcome: int) -> None:
        super().__init__(text)
        self.part = part
        self.outcome = outcome
