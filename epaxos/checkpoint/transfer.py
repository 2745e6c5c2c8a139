"""Moving a checkpoint from one replica to another, both sides, without sockets or clocks of their own.

The receiver asks for some rows at a time, and again if they do not come, so what is under way is bounded and nothing is
lost with a connection. The source reads from a snapshot of its last durable checkpoint, which it keeps for as long as
it is asked in time: `Source.pinned` is its frontier, above which the source drops nothing from its log meanwhile, since
the receiver will ask for that next.

**Parts of two checkpoints must not be mixed.** The request that begins a transfer may come to the source more than
once, and the source may have ended the transfer in between, or have begun again: then two checkpoints are sent under
one number. So the source counts the bytes of each from a position that it draws, and what belongs to the one never
continues the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import msgpack

from epaxos.checkpoint.fetched import Fetched
from epaxos.checkpoint.rows import META, Meta, Row, read_meta
from epaxos.errors import FrameError
from epaxos.protocol.ids import Name, Vector
from epaxos.protocol.transfer import CheckpointRows, FetchRows

BYTES_AT_A_TIME: Final = 256 * 1024
"""What one message brings at most: a part of a row, if that is longer."""

BEGIN: Final = 0
"""The position in a request that begins a transfer; no part of one has it. In an answer: it is being made ready."""

DONE: Final = -1
"""The position in a request that ends a transfer."""

GONE: Final = -1
"""The position in an answer that tells of a transfer which the source does not know any more."""

ROUND_TRIPS: Final = 5
"""A transfer is kept for so many round trips with who asks for it, even if that is longer than the lease."""

_LEASES: Final = 64
"""Of so many peers at most it is known that they need longer."""

_LONGEST: Final = 64
"""How many times as long at most: a transfer keeps the log above its checkpoint."""

_ORIGINS: Final = 2**60
"""From how many positions the first of a transfer is drawn; any checkpoint ends well below what a message can say."""


class Snapshot(Protocol):
    """A checkpoint that stays as it is (`storage.engine.StateSnapshot`)."""

    def scan(self, after: bytes, limit: int) -> list[Row]:
        """Rows after a key, ascending, of about `limit` bytes together; none at the end."""
        ...

    def get(self, key: bytes) -> bytes | None:
        """The row of one key."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class _Served:
    """A transfer to one peer, as a stream of bytes from `origin` on: rows one after the other.

    `sent` is what was sent last, from `position` on; `ready` what has been read and not been sent.
    """

    def __init__(self, number: int, snapshot: Snapshot, meta: Meta, origin: int, now: float) -> None:
        self.number = number
        self.snapshot = snapshot
        self.meta = meta
        self.used = now
        self.origin = origin
        self.position = origin
        self.sent = b""
        self._ready = bytearray()
        self._after = b""
        self._read_all = False

    @property
    def ended(self) -> bool:
        """Whether nothing follows what was sent last."""
        return self._read_all and not self._ready

    def advance(self, size: int) -> None:
        """Take the next `size` bytes, or what is left."""
        while len(self._ready) < size and not self._read_all:
            rows = self.snapshot.scan(self._after, size)
            if rows:
                self._after = rows[-1][0]
                self._ready += b"".join(map(msgpack.packb, rows))
            else:
                self._read_all = True
        self.position += len(self.sent)
        self.sent = bytes(self._ready[:size])
        del self._ready[:size]


class Source:
    """Answers the requests of peers; `snapshot` gives the last durable checkpoint, `number` numbers never used.

    A transfer that nobody asks about for `lease` seconds, or some round trips, is over. Of one that has no vote, or is
    in another epoch, no round trip is known: whoever asks for more of what is over gets twice the time from then on,
    or a chunk that is longer under way than the lease would be sent again and again. A message brings at most `chunk`
    bytes.
    """

    def __init__(
        self,
        lease: float,
        snapshot: Callable[[], Snapshot],
        number: Callable[[], int],
        chunk: int = BYTES_AT_A_TIME,
    ) -> None:
        self._number = number
        self._chunk = chunk
        self._lease = lease
        self._snapshot = snapshot
        self._served: dict[Name, _Served] = {}
        self._leases: dict[Name, float] = {}

    @property
    def active(self) -> bool:
        """Whether a transfer is under way."""
        return bool(self._served)

    def serves(self, peer: Name) -> bool:
        """Whether a transfer to a peer is under way."""
        return peer in self._served

    def pinned(self, executed: Vector, epoch: int) -> Vector:
        """What of a durable cut of an epoch may be dropped from the log, in view of the transfers under way."""
        served = (served.meta for served in self._served.values())
        return tuple(
            map(
                min,
                zip(
                    executed,
                    *(meta.executed for meta in served if meta.configuration.epoch == epoch),
                    strict=True,
                ),
            )
        )

    def oldest(self, epoch: int) -> int:
        """The first epoch of which the log is needed, with a durable checkpoint of this one."""
        return min([epoch, *(served.meta.configuration.epoch for served in self._served.values())])

    def answer(self, peer: Name, request: FetchRows, now: float) -> CheckpointRows | None:
        """The rows asked for; None if none are wanted or there is no checkpoint."""
        if request.position == DONE:
            self._end(peer)
            self._leases.pop(peer, None)
            return None
        served = self._served.get(peer)
        if served is None or request.transfer != served.number:
            if request.position != BEGIN:
                if served is None:
                    self._be_patient(peer)
                return CheckpointRows(request.transfer, GONE, b"", 0)
            served = self._begin(peer, request.transfer, now)
            if served is None:
                return None
        position = served.origin if request.position == BEGIN else request.position
        following = served.position + len(served.sent)
        if not served.origin <= position <= following:
            return CheckpointRows(request.transfer, GONE, b"", 0)  # it has a part of another checkpoint
        served.used = now
        if position == following:
            served.advance(self._chunk)
        elif position != served.position:
            return None  # an old request that was under way for long
        return CheckpointRows(served.number, served.position, served.sent, int(served.ended))

    def _be_patient(self, peer: Name) -> None:
        if len(self._leases) >= _LEASES:
            self._leases.clear()
        self._leases[peer] = min(2 * self._leases.get(peer, self._lease), _LONGEST * self._lease)

    def _begin(self, peer: Name, number: int, now: float) -> _Served | None:
        self._end(peer)
        snapshot = self._snapshot()
        meta = snapshot.get(META)
        if meta is None:
            snapshot.close()
            return None
        origin = 1 + self._number() % _ORIGINS
        served = _Served(number, snapshot, read_meta(meta), origin, now)
        self._served[peer] = served
        return served

    def _end(self, peer: Name) -> None:
        served = self._served.pop(peer, None)
        if served is not None:
            served.snapshot.close()

    def expire(self, now: float, round_trip: Callable[[Name], float] = lambda _: 0.0) -> None:
        """End the transfers that nobody asks about any more; between two requests there is a round trip."""
        for peer, served in list(self._served.items()):
            lease = self._leases.get(peer, self._lease)
            if now - served.used > max(lease, ROUND_TRIPS * round_trip(peer)):
                self._end(peer)

    def close(self) -> None:
        """End all transfers."""
        for peer in list(self._served):
            self._end(peer)


class Fetch:
    """One checkpoint on its way from `peer`; `make` makes what collects it, `number` gives numbers never used.

    rows, size   what has come so far, in rows and bytes
    keys         and how many keys and sessions were in that; they come after what is remembered of them
    complete     whether all has
    """

    def __init__(self, peer: Name, make: Callable[[], Fetched], number: Callable[[], int]) -> None:
        self.peer = peer
        self.transfer = number()
        self.rows = 0
        self.size = 0
        self.keys = 0
        self.complete = False
        self._position = BEGIN
        self._whole = 0
        self._make = make
        self._number = number
        self._unpacker = _unpacker()
        self.fetched = make()

    def request(self) -> FetchRows:
        """What to ask the peer for now; the same again until it has come."""
        return FetchRows(self.transfer, self._position)

    def end(self) -> FetchRows:
        """What to tell the peer when no more is wanted of it."""
        return FetchRows(self.transfer, DONE)

    def release(self) -> None:
        """Let go of what has come: it has been merged."""
        self.fetched = self._make()

    def take(self, message: CheckpointRows) -> bool:
        """Take rows, if they are the next ones; returns whether they were.

        Raises:
            FrameError: they are no rows.
            StorageError: they are none of a checkpoint of this cluster.
        """
        if self.complete or message.transfer != self.transfer:
            return False
        if message.position == GONE:
            # What has come is of a cut that nobody has any more, and must not be mixed with another.
            self.transfer, self.rows, self.size, self.keys = self._number(), 0, 0, 0
            self._position, self._whole = BEGIN, 0
            self._unpacker = _unpacker()
            self.fetched = self._make()
            return True
        if self._position not in (BEGIN, message.position):
            return False
        self._position = message.position + len(message.rows)
        self.size += len(message.rows)
        self._unpacker.feed(message.rows)
        self.fetched.take(self._decode_rows())
        self.keys = self.fetched.count
        if message.last:
            if self._whole != self.size or not self.fetched.complete:
                raise FrameError("malformed", "a checkpoint that ends before its end")
            self.complete = True
        return True

    def _decode_rows(self) -> Iterator[Row]:
        try:
            for row in self._unpacker:
                key, value = row
                if type(key) is not bytes or type(value) is not bytes:
                    raise FrameError("malformed", "rows of a checkpoint must be bytes")
                self.rows += 1
                self._whole = self._unpacker.tell()
                yield key, value
        except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
            raise FrameError("malformed", f"not rows of a checkpoint: {error}") from error


def _unpacker() -> Any:
    return msgpack.Unpacker(
        max_buffer_size=0
    )  # a row is as long as it is: a session has all its client's results
