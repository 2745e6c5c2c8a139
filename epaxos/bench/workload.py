"""What a benchmark's clients ask for: streams of commands, the same for the same seed.

Keys are decimal numbers padded with zeros to the key size, so that what a run left behind can be looked at
from the command line. Key 0 is the hot key; each client owns an equal share of the other numbers and
walks through it by its command counter, so commands on private keys of different clients never conflict.
With a Zipf distribution there are no private keys: key 0 is the most popular one.

Values begin with eight bytes that tell who wrote them (`Author`), as far as the value size has room; the rest
is filler.

Columns are made some thousand commands at a time by builtins that work on whole columns: with all writes
and no conflicts that is a quarter of a microsecond a command.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final, NamedTuple

from epaxos.statemachine.operations import Operation

HOT_KEY: Final = 0
_AUTHOR: Final = struct.Struct(">HHI")
AUTHOR_SIZE: Final = _AUTHOR.size
MAX_CLIENTS: Final = 65_536
_CHUNK: Final = 4096
_CHUNK_BYTES: Final = 1024 * 1024

_WRITE_BIT: Final = 1
_SHARED_BIT: Final = 2


@dataclass(frozen=True, slots=True)
class Workload:
    """The mix of commands; `BenchOptions` checks the ranges.

    `keys` private keys are shared out evenly among `clients`. `writes` and `conflicts` are percentages.
    `zipf` is the exponent s of P(rank) ~ 1/(rank+1)^s, or None for private keys and one hot key. Writes to
    keys that several clients share are of the operation `shared_write`: a WRITEREAD lets the order of
    the writes be checked afterwards. `tag` (16 bits) marks the values of one run. `reading` is how what only reads is
    read (`statemachine.reading.Reading`), 0 in the log.
    """

    clients: int
    keys: int
    key_size: int
    value_size: int
    writes: float
    conflicts: float = 0.0
    zipf: float | None = None
    seed: int = 0
    shared_write: Operation = Operation.WRITE
    tag: int = 0
    reading: int = 0

    @property
    def share(self) -> int:
        """How many private keys each client has."""
        return max(1, self.keys // self.clients)

    def kind_weights(self) -> list[float]:
        """The weight of private reads, private writes, shared reads, shared writes, in that order."""
        write = self.writes / 100
        shared = 1.0 if self.zipf is not None else self.conflicts / 100
        return [
            (1 - write) * (1 - shared),
            write * (1 - shared),
            (1 - write) * shared,
            write * shared,
        ]


class Author(NamedTuple):
    """Who wrote a value: the run's tag, the client's index, the command's number in its stream."""

    tag: int
    client: int
    number: int

    @classmethod
    def of(cls, value: bytes) -> Author | None:
        """The author of a value, or None where the value is too short to tell."""
        return cls(*_AUTHOR.unpack_from(value)) if len(value) >= AUTHOR_SIZE else None


class Columns(NamedTuple):
    """Consecutive commands of one stream, as `statemachine.batch.encode_batch` takes them.

    `start` is the number in the stream of the first of them. With a `reading` they only read, and each has that as its
    argument.
    """

    start: int
    operations: bytes
    keys: list[bytes]
    arguments: list[bytes | None] | None
    reading: int = 0


class Stream:
    """The endless commands of one client.

    What a stream holds does not depend on how many commands are taken at a time. `chunk` is how many are
    made at once; a client that takes one at a time wants a small one, so that a thousand clients start
    quickly.
    """

    def __init__(self, workload: Workload, client: int, chunk: int = _CHUNK) -> None:
        self.taken = 0
        self._workload = workload
        self.client = client
        self._chunk = max(1, min(chunk, _CHUNK_BYTES // max(1, workload.value_size)))
        self._made = 0
        self._position = 0
        self._operations = b""
        self._keys: list[bytes] = []
        self._arguments: list[bytes | None] = []
        seed = f"{workload.seed}/{client}"
        self._kinds = random.Random(f"{seed}/kinds")  # noqa: S311  a workload, not a secret
        self._ranks = random.Random(f"{seed}/ranks")  # noqa: S311  the same
        self._weights = workload.kind_weights()
        self._popularity = _popularity(workload)
        self._filler = random.Random(seed).randbytes(max(0, workload.value_size - AUTHOR_SIZE))  # noqa: S311
        self._table = bytes(
            (Operation.READ, Operation.WRITE, Operation.READ, workload.shared_write),
        ) + bytes(252)

    def take(self, count: int) -> Columns:
        """The next `count` commands of the stream."""
        while len(self._keys) - self._position < count:
            self._extend()
        start, end = self._position, self._position + count
        operations = self._operations[start:end]
        only_reads = operations.count(Operation.READ) == count
        columns = Columns(
            self.taken,
            operations,
            self._keys[start:end],
            None if only_reads else self._arguments[start:end],
            self._workload.reading if only_reads else 0,
        )
        self._position = end
        self.taken += count
        return columns

    def _extend(self) -> None:
        count = self._chunk
        kinds = self._draw_kinds(count)
        self._operations = self._operations[self._position :] + kinds.translate(self._table)
        self._keys = self._keys[self._position :] + self._make_keys(kinds)
        self._arguments = self._arguments[self._position :] + self._make_arguments(kinds)
        self._position = 0
        self._made += count

    def _draw_kinds(self, count: int) -> bytes:
        """One byte per command: the bits for "writes" and "on a shared key"."""
        if max(self._weights) == 1:
            return bytes((self._weights.index(1),)) * count
        return bytes(self._kinds.choices(range(4), self._weights, k=count))

    def _make_keys(self, kinds: bytes) -> list[bytes]:
        numbers = self._shared_numbers(len(kinds)) if self._popularity else self._private_numbers(kinds)
        size = self._workload.key_size
        text = (b"%%0%dd" % size * len(kinds)) % tuple(numbers)
        return list(struct.unpack(f"{size}s" * len(kinds), text))

    def _shared_numbers(self, count: int) -> list[int]:
        popularity = self._popularity
        return self._ranks.choices(range(len(popularity)), cum_weights=popularity, k=count)

    def _private_numbers(self, kinds: bytes) -> list[int]:
        share = self._workload.share
        lowest = 1 + self.client * share
        numbers = [lowest + number % share for number in range(self._made, self._made + len(kinds))]
        if max(kinds) < _SHARED_BIT:
            return numbers
        return [
            HOT_KEY if kind & _SHARED_BIT else number for kind, number in zip(kinds, numbers, strict=True)
        ]

    def _make_arguments(self, kinds: bytes) -> list[bytes | None]:
        if not any(kind & _WRITE_BIT for kind in set(kinds)):
            return [None] * len(kinds)  # reads have no argument
        values = self._make_values(len(kinds))
        return [value if kind & _WRITE_BIT else None for kind, value in zip(kinds, values, strict=True)]

    def _make_values(self, count: int) -> list[bytes]:
        size = self._workload.value_size
        origin = int.from_bytes(_AUTHOR.pack(self._workload.tag, self.client, self._made), "big")
        authors = struct.pack(f">{count}Q", *range(origin, origin + count))
        kept = min(size, AUTHOR_SIZE)
        heads = struct.unpack(f"{AUTHOR_SIZE - kept}x{kept}s" * count, authors)
        return [head + self._filler for head in heads] if self._filler else list(heads)


class Alternating(Stream):
    """The same, but whatever is taken at a time is either of reads or of writes, as a client sends them."""

    def __init__(self, workload: Workload, client: int, chunk: int = _CHUNK) -> None:
        super().__init__(workload, client, chunk)
        self._of_kind = [
            Stream(replace(workload, writes=writes, seed=2 * workload.seed + kind), client, chunk)
            for kind, writes in enumerate((0.0, 100.0))
        ]

    def take(self, count: int) -> Columns:
        """See `Stream`."""
        writes = self._kinds.random() * 100 < self._workload.writes
        columns = self._of_kind[writes].take(count)._replace(start=self.taken)
        self.taken += count
        return columns


def _popularity(workload: Workload) -> list[float]:
    """The cumulative weights of a Zipf distribution over the keys, empty without one."""
    if workload.zipf is None:
        return []
    return list(accumulate((rank + 1) ** -workload.zipf for rank in range(workload.keys)))
