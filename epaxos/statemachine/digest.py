"""A digest of the replicated state, to tell whether replicas agree.

It covers the keys, their values and when they end, which request numbers have executed and how many collections: what
must be identical on all replicas that executed the same commands. Results kept for clients are left out, since how
long a replica keeps them depends on the order in which acknowledgements reach it.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final
from zlib import crc32

from epaxos.statemachine.expiry import Expiring

_BUCKETS: Final = 4096


@dataclass(frozen=True, slots=True)
class DigestSource:
    """A consistent copy of the state, taken in the thread that owns it; `hexdigest` may run in any other.

    `executed` holds the bounds of the executed intervals of each client, `generation` counts collections.
    """

    data: Mapping[bytes, bytes]
    executed: Mapping[int, tuple[int, ...]]
    generation: int = 0

    def hexdigest(self) -> str:
        """256 bits of BLAKE2b as 64 hexadecimal digits, independent of the order of insertion."""
        digest = blake2b(b"%d;" % self.generation, digest_size=32, person=b"epaxos state")
        for part in (self.data, _packed(self.executed)):
            digest.update(b"%d;" % len(part))
            for key, value in _in_order(part):
                digest.update(b"%d:%d:%b" % (len(key), len(value), key))
                digest.update(value)
                if isinstance(value, Expiring):
                    digest.update(b"%d:%d,%d,%d;" % (value.ttl, *value.generation))
        return digest.hexdigest()


def _packed(executed: Mapping[int, tuple[int, ...]]) -> dict[bytes, bytes]:
    return {
        client.to_bytes(8, "big"): struct.pack(f">{len(bounds)}Q", *bounds)
        for client, bounds in executed.items()
    }


def _in_order(part: Mapping[bytes, bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The items in an order that follows from the keys alone: by checksum, then by key.

    One sort of a million keys would hold the interpreter's lock for a second, and the replica's thread with
    it; sorting small buckets lets other threads in between.
    """
    buckets: defaultdict[int, list[bytes]] = defaultdict(list)
    for key in part:
        buckets[crc32(key) % _BUCKETS].append(key)
    for number in sorted(buckets):
        for key in sorted(buckets[number]):
            yield key, part[key]
