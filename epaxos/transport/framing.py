"""The frame: 16 bytes of header before every body, on every socket.

    offset size
         0    2  magic b"EP"
         2    1  level of the body (`epaxos.version`)
         3    1  kind of the body (`Kind`)
         4    8  fingerprint of the cluster; 0 from a client that does not know it
        12    4  CRC-32 of the first 12 bytes and the body

A message of ZeroMQ is a frame; one from a client may hold several, which are taken each by itself.

The checksum is what lets a mutated frame be told from a meant one, so that a flipped bit becomes a counted
drop and never a different command or promise. It is no protection against an adversary.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

from epaxos import version
from epaxos.checksum import crc32
from epaxos.errors import FrameError

Body: TypeAlias = bytes | memoryview
"""Bytes, or a view of those that ZeroMQ holds: what is large is not copied to be looked at."""

BodyT = TypeVar("BodyT", bytes, memoryview, Body)

MAGIC: Final = b"EP"
_HEAD: Final = struct.Struct(">2sBBQ")
_CHECKSUM: Final = struct.Struct(">I")
_WHOLE_HEAD: Final = struct.Struct(">2sBBQI")
HEADER_SIZE: Final = _WHOLE_HEAD.size
ANY_CLUSTER: Final = 0


class Kind(IntEnum):
    """What the body of a frame is; bodies are msgpack.

    PEER            a `PeerRequest`: [sender, incarnation, messages, hears, addressee, kept, beat, epoch, digest]; large
                    messages follow it as parts of the same ZeroMQ message
    PEER_REFUSED    text "kind: reason": why this replica ignores the peer that it is sent to
    REQUEST         a batch (`statemachine.batch`)
    REPLY           [clients, firsts, counts, outcomes: one byte per command, values or None if all are None]: the
                    results of some frames of this connection, as columns
    BUSY            [client, first, count]: nothing of the batch was taken, come back later
    AWAY            [client, first, count, text]: nothing of the batch was taken, nor will any other be before long, for
                    the reason given: ask another replica. Count 0: nothing was asked, it tells by itself. Count -1: it
                    does, and what is under way there, and may have executed, is to be asked for elsewhere too
    REFUSED         [client, first, count, index, text]: nothing of the batch was taken, because of
                    the command at `index` (-1: because of the whole frame; client, first, count are 0
                    where the frame did not tell them)
    OVER            [client, first, count, generation]: nothing of the batch was taken, because the session has
                    ended; go on with a new one, begun in this generation or a later one
    STATUS          [id, {"digest": bool, "brief": bool}]; in brief, the map has no more than `generation`, with which a
                    session begins (`statemachine.sessions`); None where this replica does not know it now
    STATUS_REPLY    [id, map]
    TAKEN           [clients, firsts, counts]: these frames of the connection have waited for long and are under way
                    here; told again and again while they are
    ADMIN           [id, {"verb", "base", "request", "dry_run"}]: what an operator asks for (`actors.admin`)
    ADMIN_REPLY     [id, {"outcome", "epoch", "text"}]
    MEMBERS         [epoch, id, [[id, host, client port, moved]]]: who takes part in the epoch, as the replica of the
                    first id says; port 0 of whom it does not know how to reach; the last is the epoch since which one
                    is there and not where it was before, 0 if it has not moved. To each connection, unasked, with the
                    first frame that comes from it and when an epoch begins; not in the first, which is that of the file
    ASK             [number, sender, incarnation, addressee, request]: to a node of registers; the last is what
                    `transport.registers` makes, the one before the incarnation of the receiver, 0 if it is not known
    ANSWER          [number, incarnation, answer]: bytes as there, or the text "kind: reason" of a refusal
    """

    PEER = 1
    PEER_REFUSED = 2
    REQUEST = 16
    REPLY = 17
    BUSY = 18
    REFUSED = 19
    STATUS = 20
    STATUS_REPLY = 21
    AWAY = 22
    OVER = 23
    TAKEN = 24
    ADMIN = 25
    ADMIN_REPLY = 26
    MEMBERS = 27
    ASK = 32
    ANSWER = 33


_KINDS: Final = frozenset(map(int, Kind))


class Frame(NamedTuple, Generic[BodyT]):
    """An opened frame; `kind` is a value of `Kind`, `level` that of its body."""

    kind: int
    cluster: int
    body: BodyT
    level: int = version.OLDEST


def seal(kind: int, cluster: int, body: bytes, level: int = version.OLDEST) -> bytes:
    """Put the header before a body, which is of this level: of one that every neighbour knows, if nothing is said."""
    head = _HEAD.pack(MAGIC, level, kind, cluster)
    return head + _CHECKSUM.pack(crc32(body, crc32(head))) + body


def open_frame(frame: BodyT, cluster: int, max_size: int) -> Frame[BodyT]:
    """Check a frame from the network and take it apart; the body of a view is a view.

    `cluster` is this cluster's fingerprint; frames that carry `ANY_CLUSTER` or that value pass, and every
    frame passes where `cluster` is `ANY_CLUSTER`. `max_size` is the largest whole frame in bytes.

    Raises:
        FrameError: of kind ``oversized``, ``malformed``, ``version``, ``checksum``, ``cluster`` or
            ``unknown`` (a kind nobody knows).
    """
    if len(frame) > max_size:
        raise FrameError("oversized", f"frame of {len(frame)} bytes; at most {max_size} are allowed")
    if len(frame) < HEADER_SIZE:
        raise FrameError("malformed", f"frame of {len(frame)} bytes is shorter than a header")
    magic, level, kind, sender_cluster, checksum = _WHOLE_HEAD.unpack_from(frame)
    if magic != MAGIC:
        raise FrameError("malformed", "frame does not begin with the magic bytes of epaxos")
    body = frame[HEADER_SIZE:]
    if checksum != crc32(body, crc32(frame[: _HEAD.size])):
        raise FrameError("checksum", "frame with a wrong checksum")
    if not version.OLDEST <= level <= version.NEWEST:
        raise FrameError("version", f"frame of level {level}; this program knows {version.known()}")
    if kind not in _KINDS:
        raise FrameError("unknown", f"frame of unknown kind {kind}")
    if ANY_CLUSTER != cluster != sender_cluster != ANY_CLUSTER:
        raise FrameError(
            "cluster",
            f"frame of cluster {sender_cluster:016x}, not {cluster:016x}; compare the configuration files",
        )
    return Frame(kind, sender_cluster, body, level)
