"""Protocol messages as msgpack, and the envelope in which they travel between replicas.

A message is an array: its type code, then its fields in the order of the protocol's `messages`. Everything is checked
on the way in (`transport.fields`): what comes out of `decode` has the right shape for this cluster and may have come
from that sender, or it was a `FrameError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgpack

from epaxos import version
from epaxos.errors import FrameError
from epaxos.protocol.command import Command
from epaxos.protocol.ids import InstanceId, Name, Row
from epaxos.protocol.log import NOP, Proposal
from epaxos.protocol.membership import is_name
from epaxos.transport.fields import NOP_CODE, Fields, check, number
from epaxos.transport.framing import Body
from epaxos.transport.pages import EPAXOS_PAGE, PAGES, Page, PeerMessage, Reader, transfer_readers

MESSAGE_NAMES: Final = EPAXOS_PAGE.names
"""The name of every message type of EPaxos, for metrics."""

_CODES: Final = {kind: code for page in PAGES.values() for kind, code in page.codes.items()}
"""The codes of all pages: no two protocols have a type of message in common, but for reads and checkpoints."""

_UNREADABLE: Final = (ValueError, TypeError, msgpack.exceptions.UnpackException)
"""What msgpack and the unpacking of fields raise on bytes that are something else."""


_LONGEST_NAME: Final = 300
"""Characters of what a replica is called, with what stands behind that if it has joined."""

_ENCODED: Final = frozenset({bytes, int})
_HOLDS: Final = (
    "epoch",
    "digest",
    "sender",
    "incarnation",
    "list of messages",
    "whether the receiver is heard",
    "addressee",
    "count of what is kept",
)


class Beat(NamedTuple):
    """What a heartbeat says: of time, in stamps (`protocol.roundtrips`), and of its sender's program.

    stamp  when it was sent, on its sender's clock
    echo   the stamp of the last one that its sender got from the receiver; 0 if it got none
    held   how long ago that was
    newest  the newest level that the program knows; every one knows the level before, too
    host, port  where its sender is to be reached, as its own file says
    watched  whether somebody watches keys there, or has of late
    clears  whether a command that clears keys waits there until they are in order everywhere
    ordered  whether they are there (`actors.lists`)
    joins  whether its sender is to vote one day, if it does not
    """

    stamp: int
    echo: int
    held: int
    newest: int = version.OLDEST
    host: str = ""
    port: int = 0
    watched: bool = False
    clears: bool = False
    ordered: bool = False
    joins: bool = False


class PeerRequest(NamedTuple):
    """The envelope of everything sent between peers.

    `sender` is who sends it, by the name that it has in all epochs; `incarnation` a random 64-bit number that it drew
    when its data directory was made (its memory, if it has none), by which peers notice a replica that lost its data,
    or a second one of the same name. `messages` are encoded one by one, so that each is encoded once for all its
    receivers; in the place of a large one stands its checksum, and it follows as a part of its own. `hears` tells the
    receiver whether the sender hears it: who is not heard should know, since to everybody else it seems to be there;
    None says that the sender is about to end. `addressee` is the incarnation of the receiver that the sender knows, 0
    if it has not heard it yet. `kept` is how much the sender has made durable, as a number that never falls, by which
    peers notice an earlier copy of its directory; None if not all is synced.
    `epoch` is that of what it holds, without which rows and places mean nothing, and `digest` stands for the
    configuration of that epoch (`protocol.membership`).
    Heartbeats have a `beat`, also those that a message rides with. Only what they say of hearing is news, and only
    those without a message say what is kept: other frames may have been queued for long.
    """

    sender: Name
    incarnation: int
    messages: Sequence[bytes | int]
    hears: bool | None = True
    addressee: int = 0
    kept: int | None = None
    beat: Beat | None = None
    epoch: int = 0
    digest: int = 0


def encode_message(message: PeerMessage, level: int = version.OLDEST) -> bytes:
    """Encode one message for frames of a level; it can then be put into the envelopes to several peers."""
    kind: Any = type(message)
    sent = message[: version.width(kind, level)] if version.SINCE else message
    fields = [field if type(field) in _AS_THEY_ARE else _encoded_field(field) for field in sent]
    encoded: bytes = msgpack.packb([_CODES[kind], *fields])
    return encoded


_AS_THEY_ARE: Final = {int, tuple, InstanceId}
"""Of most fields nothing else needs to be asked: there are ten for a lone command."""


def _encoded_field(field: object) -> object:
    if field is NOP:
        return NOP_CODE
    if isinstance(field, Proposal):
        return [field.command.encoded, field.deps, field.seq]
    encoded = getattr(field, "encoded", None)
    return field if encoded is None else encoded


def encode_envelope(request: PeerRequest, level: int = version.OLDEST) -> bytes:
    """The body of a PEER frame of a level."""
    sent: Any = request
    if version.SINCE:
        beat = request.beat and request.beat[: version.width(Beat, level)]
        sent = sent._replace(beat=beat)[: version.width(PeerRequest, level)]
    encoded: bytes = msgpack.packb(sent)
    return encoded


class Codec:
    """Decodes what peers send in one epoch, with n replicas.

    `decode_command` turns a payload's bytes into a command, or raises FrameError.
    """

    def __init__(
        self,
        n: int,
        decode_command: Callable[[bytes], Command],
        page: Page = EPAXOS_PAGE,
        rows: int | None = None,
        epoch: int = 0,
    ) -> None:
        self._n = n
        self.epoch = epoch
        fields = Fields(n, n if rows is None else rows, decode_command)
        self._readers = page.readers(fields)
        self._kinds = {code: kind for kind, code in page.codes.items()}
        self._transfer = transfer_readers(fields)

    def decode_envelope(self, body: Body, level: int = version.OLDEST) -> PeerRequest:
        """Decode the body of a PEER frame of a level, of whichever epoch, but not yet the messages in it.

        Raises:
            FrameError: of kind ``malformed``.
        """
        try:
            fields = msgpack.unpackb(body)
            if version.SINCE:
                fields = [*fields, *_later(PeerRequest, level)]
            sender, incarnation, messages, hears, addressee, kept, beat, epoch, digest = fields
        except _UNREADABLE as error:
            raise FrameError("malformed", f"not a peer request: {error}") from error
        holds = (  # one look at all of them instead of a call for each
            type(epoch) is int and 0 <= epoch < 2**32,
            type(digest) is int and 0 <= digest < 2**64,
            type(sender) is str and 0 < len(sender) <= _LONGEST_NAME and is_name(sender),
            type(incarnation) is int and 0 <= incarnation < 2**64,
            type(messages) is list and _ENCODED.issuperset(map(type, messages)),
            hears is None or type(hears) is bool,
            type(addressee) is int and 0 <= addressee < 2**64,
            kept is None or (type(kept) is int and 0 <= kept < 2**64),
        )
        if False in holds:
            raise FrameError("malformed", f"bad {_HOLDS[holds.index(False)]} in a peer request")
        told = _beat(beat, level)
        return PeerRequest(sender, incarnation, messages, hears, addressee, kept, told, epoch, digest)

    def decode_message(
        self, sender: Row | None, encoded: Body, epoch: int | None = None, level: int = version.OLDEST
    ) -> PeerMessage:
        """Decode one message of an envelope of this epoch, or of another one; of that only what is of no epoch.

        And only that of a sender without a row in this epoch.
        What the frame's level does not have of its fields has its default.

        Raises:
            FrameError: of kind ``malformed``, ``unknown`` (message type), ``sender`` (a message that this
                sender cannot have sent) or ``epoch`` (it is not looked at any further).
        """
        is_own = sender is not None and (epoch is None or epoch == self.epoch)
        readers: Mapping[int, Reader] = self._readers if is_own else self._transfer
        try:
            fields = msgpack.unpackb(encoded)
            if type(fields) is not list or not fields:
                raise FrameError("malformed", "bad message in a peer request")
            code = fields[0]
            reader = readers.get(code) if type(code) is int else None
            if reader is not None:
                later = _later(self._kinds[code], level) if version.SINCE else ()
                return reader(-1 if sender is None else sender, [*fields[1:], *later])
        except _UNREADABLE as error:
            raise FrameError("malformed", f"not a message: {error}") from error
        if is_own:
            raise FrameError("unknown", f"message of unknown type {code if type(code) is int else ''}")
        if sender is None:
            raise FrameError("epoch", f"message of epoch {self.epoch}, of one that has no vote in it")
        raise FrameError("epoch", f"message of epoch {epoch}; this replica is in epoch {self.epoch}")


def _later(kind: Any, level: int) -> list[Any]:
    """The fields that a message of this type does not have yet at a level, as they would be encoded."""
    return [_encoded_field(kind._field_defaults[name]) for name in kind._fields[version.width(kind, level) :]]


def _beat(field: Any, level: int) -> Beat | None:
    if field is None:
        return None
    check(type(field) is list and len(field) == version.width(Beat, level), "heartbeat")
    stamp, echo, held, newest, host, port, *said = field + _later(Beat, level)
    is_address = type(host) is str and len(host) <= _LONGEST_NAME and type(port) is int and 0 <= port < 2**16
    check(is_address, "address")
    check(set(map(type, said)) == {bool}, "heartbeat")
    return Beat(number(stamp), number(echo), number(held), number(newest), host, port, *said)
