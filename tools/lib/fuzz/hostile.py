"""Bad frames for the sockets of a replica, and how the replica must count each of them.

A frame is bad by construction (and its maker says how it must be counted), or it is a mutation of a good one that
was opened here first and found to be bad: a mutation that leaves a frame in order would be a command or a
promise, not bad input.

No frame here is a well-formed message from a peer. Whoever can send those is a peer, as far as a replica can tell.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, NamedTuple

import msgpack

from epaxos.actors.clients import MOST_PARTS
from epaxos.config import Config
from epaxos.errors import FrameError
from epaxos.protocol.ids import Row
from epaxos.statemachine.batch import decode_batch, decode_payload, encode_batch
from epaxos.statemachine.operations import Operation
from epaxos.transport.codec import Codec, PeerRequest, encode_envelope, encode_message
from epaxos.transport.framing import HEADER_SIZE, MAGIC, Kind, open_frame, seal
from epaxos.transport.pages import PeerMessage
from epaxos.version import NEWEST, is_known
from fuzz.samples import sample_messages

UNTOUCHED: Final = b"written-by-nobody"
"""The key that the good commands beside a bad one would write; nothing of their frame may be taken."""

REFUSED_TO_PEERS: Final = frozenset({"cluster", "version", "duplicate_name"})
"""What a replica answers on the peers' socket; everything else is counted and dropped there."""

WRONG: Final[tuple[Any, ...]] = (
    None,
    True,
    -1,
    -(2**63),
    2**62,
    2**64 - 1,
    1.5,
    "text",
    b"",
    b"\x00" * 40,
    [],
    [None] * 7,
    [[[[]]]],
    {},
    {"a": 1},
    msgpack.ExtType(42, b"ext"),
    msgpack.Timestamp(1, 2),
)
"""Values of which most are of a wrong type, or out of range, wherever they are put."""

_KNOWN: Final = frozenset(map(int, Operation))

_ADMIN: Final = {
    "verb": "change",
    "base": 2**40,
    "request": 1,
    "dry_run": True,
    "f": None,
    "e": None,
    "add": [["delta", 1, "10.0.0.4", 3264, 3265, 3266]],
    "move": [["alpha", 0, "10.0.0.5", 3264, 3265, 3266]],
    "remove": ["alpha"],
}
"""What an operator may ask for; from a replica that is in no such epoch, so that it is refused."""

_NO_ADMIN: Final = (
    ("verb", 1),
    ("base", None),
    ("request", 0),
    ("request", 2**63 * 2 - 1.5),
    ("dry_run", 1),
    ("f", "1"),
    ("remove", [1]),
    ("add", None),
    ("move", None),
    ("move", [["alpha", 0, "", 3264, 3265, 3266]]),
    ("move", [["alpha", 0, "10.0.0.5", 0, 3265, 3266]]),
    ("add", [["delta"]]),
    ("add", [["delta#1", 1, "10.0.0.4", 3264, 3265, 3266]]),
    ("add", [["delta", 0, "10.0.0.4", 3264, 3265, 3266]]),
    ("add", [["delta", 1, "10.0.0.4", 2**16, 3265, 3266]]),
    ("add", [[1, 1, "10.0.0.4", 3264, 3265, 3266]]),
)

DEEP: Final = b"\x91" * 1000 + b"\xc0"
"""A list in a list in a list: msgpack takes it, but whoever walks through it by recursion runs out of stack."""

BROKEN: Final = (
    b"",
    b"\xc1",  # never used
    b"\x93\x01\x02",  # an element is missing
    b"\xdd\xff\xff\xff\xff",  # four billion elements announced
    b"\xc6\xff\xff\xff\xff",  # four billion bytes announced
    b"\xdf\xff\xff\xff\xff",
    b"\xa2\xff\xfe",  # text that is no UTF-8
    b"\x81\x90\x01",  # a list as the key of a map
    b"\x81\x01\x01",
    b"\xd7\xff" + b"\xff" * 8,  # a time out of range
    b"\xc0\xc0",  # two values
    b"\x91" * 2000 + b"\xc0",  # nested too deep for msgpack
    DEEP,
)


class Hostile(NamedTuple):
    """The parts of one message on the wire, and the kinds of error that it must be counted as."""

    parts: tuple[bytes, ...]
    kinds: tuple[str, ...]


class Insider(NamedTuple):
    """A peer's row and the number under which it is known: what an envelope needs to be opened."""

    row: Row
    incarnation: int


class Forge:
    """Makes bad frames for one replica, of row `victim`, from a seed.

    With an `insider`, frames for the peers' socket also hold bad messages in an envelope that is in order. Where
    replicas have keys, frames for it come with that of the row `sender`.
    """

    def __init__(
        self, config: Config, victim: Row, insider: Insider | None, random: Random, *, has_keys: bool = False
    ) -> None:
        self._config = config
        self._insider = insider
        self._random = random
        self._codec = Codec(config.n, decode_payload)
        self.sender = insider.row if insider else (victim + 1) % config.n
        self._has_keys = has_keys
        self._messages = sample_messages(config.n, self.sender)
        self._good: dict[Kind, list[bytes]] = {kind: self._make_good(kind) for kind in Kind}
        self._anywhere: list[Callable[[list[Kind]], Hostile]] = [
            self._noise,
            self._truncated,
            self._flipped,
            self._spliced,
            self._no_magic,
            self._other_version,
            self._other_cluster,
            self._unknown_kind,
            self._other_socket,
            self._multipart,
        ]
        self._to_clients = [self._bad_request, self._bad_status, self._refused]
        self._to_peers = [self._bad_envelope, self._stranger, self._misnamed]
        if insider is not None:
            self._to_peers += [self._good_envelope] * 4

    def client_frame(self) -> Hostile:
        """A bad frame for the clients' socket."""
        if self._random.random() < 0.6:
            return self._random.choice(self._anywhere)([Kind.REQUEST, Kind.STATUS, Kind.ADMIN])
        return self._random.choice(self._to_clients)()

    def peer_frame(self) -> Hostile:
        """A bad frame for the peers' socket."""
        if self._random.random() < 0.6:
            return self._random.choice(self._anywhere)([Kind.PEER])
        return self._random.choice(self._to_peers)()

    def oversized(self, limit: int) -> Hostile:
        """A frame one byte over a limit."""
        return Hostile((self._seal(Kind.REQUEST, bytes(limit + 1 - HEADER_SIZE)),), ("oversized",))

    def of_version(self, version: int, frame: bytes | None = None) -> Hostile:
        """A frame, of a peer if none is given, as if in another version of the wire protocol."""
        return self._rewritten(frame or self._good[Kind.PEER][0], "version", version=version)

    def bad_messages(self) -> list[tuple[bytes, str]]:
        """For every type of message between peers a bad one, and how it must be counted."""
        return [self._bad_message(message) for message in self._messages]

    # -- frames that are good ------------------------------------------------------------------------------

    def _seal(self, kind: int, body: bytes) -> bytes:
        return seal(kind, self._config.fingerprint, body)

    def _envelope(self, row: Row, incarnation: int, messages: Sequence[bytes]) -> bytes:
        name = self._config.replicas[row].name
        request = PeerRequest(name, incarnation, messages, digest=self._config.initial.digest)
        return self._seal(Kind.PEER, encode_envelope(request))

    def _make_good(self, kind: Kind) -> list[bytes]:
        """Frames of a kind that are in order; only mutations of them are ever sent."""
        if kind == Kind.PEER:
            number = self._random.getrandbits(64)
            return [self._envelope(self.sender, number, [encode_message(each)]) for each in self._messages]
        bodies: dict[Kind, bytes] = {
            Kind.PEER_REFUSED: b"go away",
            Kind.REQUEST: self._batch(b"\x02\x01", [b"key", b"key"], [b"value", None]),
            Kind.REPLY: msgpack.packb(([1, 2], [1, 1], [1, 2], b"\x00\x00\x00", None)),
            Kind.BUSY: msgpack.packb((1, 1, 1)),
            Kind.AWAY: msgpack.packb((1, 1, 1, "gone")),
            Kind.OVER: msgpack.packb((1, 1, 1, 1)),
            Kind.TAKEN: msgpack.packb(([1, 2], [1, 1], [1, 2])),
            Kind.REFUSED: msgpack.packb((1, 1, 1, 0, "no")),
            Kind.STATUS: msgpack.packb((1, {})),
            Kind.STATUS_REPLY: msgpack.packb((1, {"name": "alpha"})),
            Kind.MEMBERS: msgpack.packb((1, "alpha", [("alpha", "127.0.0.1", 4264, 0)])),
            Kind.ADMIN: msgpack.packb((1, _ADMIN)),
            Kind.ADMIN_REPLY: msgpack.packb((1, {"outcome": "done"})),
            Kind.ASK: msgpack.packb((1, 1, 1, 0, b"")),
            Kind.ANSWER: msgpack.packb((1, 1, b"")),
        }
        return [self._seal(kind, bodies[kind])]

    def _any_good(self, kinds: list[Kind]) -> bytes:
        return self._random.choice(self._good[self._random.choice(kinds)])

    def _batch(self, operations: bytes, keys: list[Any], arguments: list[Any] | None) -> bytes:
        return encode_batch(self._random.getrandbits(64), 1, 1, operations, keys, arguments)

    # -- frames that are none, or of no use on any socket --------------------------------------------------

    def _noise(self, _: list[Kind]) -> Hostile:
        size = int(2 ** self._random.uniform(0, 12)) - 1
        return Hostile((b"\x00" + self._random.randbytes(size),), ("malformed",))

    def _truncated(self, kinds: list[Kind]) -> Hostile:
        frame = self._any_good(kinds)
        cut = frame[: self._random.randrange(len(frame))]
        return self._opened(cut) or self._noise(kinds)

    def _flipped(self, kinds: list[Kind]) -> Hostile:
        frame = bytearray(self._any_good(kinds))
        for _ in range(self._random.randint(1, 8)):
            frame[self._random.randrange(len(frame))] ^= 1 << self._random.randrange(8)
        return self._opened(bytes(frame)) or self._flipped(kinds)

    def _spliced(self, kinds: list[Kind]) -> Hostile:
        one, other = self._any_good(kinds), self._any_good(list(Kind))
        place = self._random.randrange(min(len(one), len(other)))
        return self._opened(one[:place] + other[place:] + b"more") or self._flipped(kinds)

    def _opened(self, frame: bytes) -> Hostile | None:
        """The frame, if it is bad before its body is looked at."""
        try:
            open_frame(frame, self._config.fingerprint, self._config.max_frame)
        except FrameError as error:
            return Hostile((frame,), (error.kind,))
        return None

    def _no_magic(self, kinds: list[Kind]) -> Hostile:
        return self._rewritten(self._any_good(kinds), "malformed", magic=b"PE")

    def _other_version(self, kinds: list[Kind]) -> Hostile:
        version = self._random.choice([number for number in range(256) if not is_known(number)])
        return self.of_version(version, self._any_good(kinds))

    def _other_cluster(self, kinds: list[Kind]) -> Hostile:
        cluster = self._config.fingerprint ^ (1 << self._random.randrange(64))
        return self._rewritten(self._any_good(kinds), "cluster", cluster=cluster)

    def _unknown_kind(self, kinds: list[Kind]) -> Hostile:
        kind = self._random.choice([number for number in range(256) if number not in set(Kind)])
        return self._rewritten(self._any_good(kinds), "unknown", kind=kind)

    def _rewritten(
        self,
        frame: bytes,
        counted: str,
        *,
        magic: bytes = MAGIC,
        version: int = NEWEST,
        kind: int | None = None,
        cluster: int | None = None,
    ) -> Hostile:
        """A frame with another header and the right checksum."""
        kind = frame[3] if kind is None else kind
        cluster = self._config.fingerprint if cluster is None else cluster
        head = magic + bytes((version, kind)) + cluster.to_bytes(8, "big")
        body = frame[HEADER_SIZE:]
        checksum = zlib.crc32(body, zlib.crc32(head)).to_bytes(4, "big")
        return Hostile((head + checksum + body,), (counted,))

    def _other_socket(self, kinds: list[Kind]) -> Hostile:
        others = [kind for kind in Kind if kind not in {*kinds, Kind.STATUS, Kind.ADMIN}]
        return Hostile((self._any_good(others),), ("unknown",))

    def _multipart(self, kinds: list[Kind]) -> Hostile:
        """A message of no content, or of too many parts; each part may be in order by itself."""
        some = (0, 2, 3) if Kind.PEER in kinds else (0, MOST_PARTS + 1)
        parts = [self._any_good(kinds)] * self._random.choice(some)
        return Hostile(tuple(parts or [b""]), ("malformed",))

    # -- the clients' socket: good frames around bad bodies ------------------------------------------------

    def _bad_request(self) -> Hostile:
        batch: list[Any] = msgpack.unpackb(self._batch(b"\x02", [b"key"], [b"value"]))
        body = self._bad_body(batch)
        try:
            decode_batch(body)
        except FrameError as error:
            return Hostile((self._seal(Kind.REQUEST, body),), (error.kind,))
        return self._bad_request()

    def _bad_status(self) -> Hostile:
        bodies = [
            DEEP,
            *BROKEN,
            *map(msgpack.packb, WRONG),
            msgpack.packb((1.5, {})),
            msgpack.packb((1, [])),
        ]
        bodies += [msgpack.packb((1, {**_ADMIN, field: value})) for field, value in _NO_ADMIN]
        kind = self._random.choice((Kind.STATUS, Kind.ADMIN))
        if kind == Kind.STATUS:
            bodies = bodies[: -len(_NO_ADMIN)]
        return Hostile((self._seal(kind, self._random.choice(bodies)),), ("malformed",))

    def _refused(self) -> Hostile:
        """Commands of which one may not be proposed, among good ones."""
        operation, key, argument = self._random.choice(self._refusable())
        before, after = self._random.randrange(3), self._random.randrange(3)
        good = bytes((Operation.WRITE,))
        body = self._batch(
            good * before + bytes((operation,)) + good * after,
            [UNTOUCHED] * before + [key] + [UNTOUCHED] * after,
            [b"value"] * before + [argument] + [b"value"] * after,
        )
        return Hostile((self._seal(Kind.REQUEST, body),), ("refused",))

    def _refusable(self) -> list[tuple[int, bytes, Any]]:
        pause = round(self._config.max_pause * 1000) + 1
        write = [bytes((Operation.WRITE,)), [b"key"], [b"value"]]
        return [
            (self._random.choice([number for number in range(256) if number not in _KNOWN]), b"key", None),
            (Operation.WRITE, b"", b"value"),
            (Operation.WRITE, b"key", None),
            (Operation.WRITE, b"key", "text"),
            (Operation.READ, b"k" * (self._config.max_key + 1), None),
            (Operation.READ, b"key", b"value"),
            (Operation.DELETE, b"key", 1),
            (Operation.NULL, b"key", None),
            (Operation.INCREMENT, b"key", b"1"),
            (Operation.INCREMENT, b"key", 2**63),
            (Operation.INCREMENT, b"key", True),
            (Operation.PAUSE, b"", pause),
            (Operation.PAUSE, b"", -1),
            (Operation.CAS, b"key", b"value"),
            (Operation.CAS, b"key", [None]),
            (Operation.CAS, b"key", [1, b"new"]),
            (Operation.APPEND, b"key", []),
            (Operation.MULTI, b"", None),
            (Operation.MULTI, b"key", write),
            (Operation.MULTI, b"", [b"", [], []]),
            (Operation.MULTI, b"", [b"\x02\x02", [b"key"], [b"value"]]),
            (Operation.MULTI, b"", [bytes((Operation.MULTI,)), [b""], [write]]),
            (Operation.MULTI, b"", [bytes((Operation.WRITE,)), [b"key"], [None]]),
        ]

    # -- the peers' socket: good frames around bad bodies --------------------------------------------------

    def _bad_envelope(self) -> Hostile:
        name = self._config.replicas[self.sender].name
        body = self._bad_body([name, self._random.getrandbits(64), [], True, 0, None, [1, 0, 0]])
        try:
            self._codec.decode_envelope(body)
        except FrameError as error:
            return Hostile((self._seal(Kind.PEER, body),), (error.kind,))
        return self._bad_envelope()

    def _stranger(self) -> Hostile:
        """From another process of a known name, or of the victim's own; its messages are not looked at.

        With the key of another replica it is not heard either, whoever it says that it is.
        """
        row = self._random.randrange(self._config.n)
        kind = "sender" if self._has_keys and row != self.sender else "duplicate_name"
        messages = [encode_message(self._random.choice(self._messages))]
        return Hostile((self._envelope(row, self._random.getrandbits(64), messages),), (kind,))

    def _misnamed(self) -> Hostile:
        """One that is called like who has joined, but for the number of its directory."""
        told = self._random.choice(("", "zz", "-1", "1_0", "0" * 16, "F" * 16, "0" * 15 + "1#1"))
        request = PeerRequest(f"delta#{told}", self._random.getrandbits(64), (), digest=0)
        return Hostile((self._seal(Kind.PEER, encode_envelope(request)),), ("malformed",))

    def _good_envelope(self) -> Hostile:
        assert self._insider is not None
        chosen = self._random.choices(self._messages, k=self._random.randint(1, 4))
        messages, kinds = zip(*map(self._bad_message, chosen), strict=True)
        return Hostile((self._envelope(*self._insider, messages),), kinds)

    def _bad_message(self, message: PeerMessage) -> tuple[bytes, str]:
        fields: list[Any] = msgpack.unpackb(encode_message(message))
        if self._random.random() < 0.1:
            fields[0] = self._random.choice((0, 99, 255, -1, 2**64 - 1))
            return msgpack.packb(fields), "unknown"
        body = self._bad_body(fields)
        try:
            self._codec.decode_message(self.sender, body)
        except FrameError as error:
            return body, error.kind
        return self._bad_message(message)

    # -- bodies --------------------------------------------------------------------------------------------

    def _bad_body(self, fields: Sequence[Any]) -> bytes:
        """Something like these fields that is most likely wrong."""
        choice = self._random.randrange(6)
        changed = list(fields)
        place = self._random.randrange(len(changed))
        if choice == 0:
            return self._random.choice(BROKEN)
        if choice == 1:
            packed: bytes = msgpack.packb(changed)
            return packed[: self._random.randrange(len(packed))]
        if choice == 2:
            del changed[place]
        elif choice == 3:
            changed.insert(place, self._random.choice(WRONG))
        elif isinstance(changed[place], list) and changed[place]:
            inner = list(changed[place])
            inner[self._random.randrange(len(inner))] = self._random.choice(WRONG)
            changed[place] = inner
        else:
            changed[place] = self._random.choice(WRONG)
        body: bytes = msgpack.packb(changed)
        return body
