"""Protocol messages as msgpack, and the envelope in which they travel between replicas.

A message is an array: its type code, then its fields in the order of `protocol.messages`. An instance id is
[row, slot], a vector an array of n slots, a payload its own bytes, NOP the integer 0. Everything is checked
on the way in: what comes out of `decode` has the right shape for this cluster and may have come from that
sender, or it was a `FrameError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgpack

from epaxos.errors import FrameError
from epaxos.protocol.command import Command
from epaxos.protocol.epaxos.messages import (
    Accept,
    AcceptOK,
    Beacon,
    Commit,
    CommitRequest,
    Echo,
    Message,
    Missing,
    Nack,
    Offer,
    PreAccept,
    PreAcceptOK,
    Recover,
    RecoverOK,
    Truncated,
    Validate,
    ValidateOK,
    Waiting,
)
from epaxos.protocol.ids import Ballot, InstanceId, Row, Slot, Vector
from epaxos.protocol.log import NOP, Phase, Proposal, Value
from epaxos.protocol.transfer import CheckpointRows, FetchRows, TransferMessage

_CODES: Final[dict[type, int]] = {
    PreAccept: 1,
    PreAcceptOK: 2,
    Accept: 3,
    AcceptOK: 4,
    Commit: 5,
    CommitRequest: 6,
    Recover: 7,
    RecoverOK: 8,
    Validate: 9,
    ValidateOK: 10,
    Waiting: 11,
    Nack: 12,
    Truncated: 13,
    Beacon: 14,
    FetchRows: 15,
    CheckpointRows: 16,
    Echo: 17,
    Offer: 18,
    Missing: 19,
}
MESSAGE_NAMES: Final[dict[type, str]] = {kind: kind.__name__ for kind in _CODES}
"""The name of every message type, for metrics."""

PeerMessage: TypeAlias = Message | TransferMessage
"""All that one replica sends to another."""

_LARGEST: Final = 2**62
_NOP_CODE: Final = 0
_UNREADABLE: Final = (ValueError, TypeError, msgpack.exceptions.UnpackException)
"""What msgpack and the unpacking of fields raise on bytes that are something else."""


class Beat(NamedTuple):
    """What a heartbeat says of time, in stamps (`protocol.roundtrips`).

    stamp  when it was sent, on its sender's clock
    echo   the stamp of the last one that its sender got from the receiver; 0 if it got none
    held   how long ago that was
    """

    stamp: int
    echo: int
    held: int


class PeerRequest(NamedTuple):
    """The envelope of everything sent between peers.

    `sender` is the row of the sending replica; `incarnation` a random 64-bit number that it drew when its
    data directory was made (its memory, if it has none), by which peers notice a replica that lost its data, or
    a second one of the same name. `messages` are encoded one by one, so that each is encoded once for all its
    receivers. `hears` tells the receiver whether the sender hears it: who is not heard should know, since to
    everybody else it seems to be there; None says that the sender is about to end. `addressee` is the incarnation of
    the receiver that the sender knows, 0 if it has not heard it yet. `kept` is how much the sender has made durable, as
    a number that never falls, by which peers notice an earlier copy of its directory; None if not all is synced.
    Heartbeats have a `beat`. Only what they say of hearing is news, and they alone say what is kept: other frames may
    have been queued for long.
    """

    sender: Row
    incarnation: int
    messages: Sequence[bytes]
    hears: bool | None = True
    addressee: int = 0
    kept: int | None = None
    beat: Beat | None = None


def encode_message(message: PeerMessage) -> bytes:
    """Encode one message; it can then be put into the envelopes to several peers."""
    fields = [_encoded_field(field) for field in message]
    encoded: bytes = msgpack.packb([_CODES[type(message)], *fields])
    return encoded


def _encoded_field(field: object) -> object:
    if field is NOP:
        return _NOP_CODE
    if isinstance(field, Proposal):
        return [field.command.encoded, field.deps, field.seq]
    encoded = getattr(field, "encoded", None)
    return field if encoded is None else encoded


def encode_envelope(request: PeerRequest) -> bytes:
    """The body of a PEER frame."""
    encoded: bytes = msgpack.packb(request)
    return encoded


class Codec:
    """Decodes what peers send, for a cluster of n replicas.

    `decode_command` turns a payload's bytes into a command, or raises FrameError.
    """

    def __init__(self, n: int, decode_command: Callable[[bytes], Command]) -> None:
        self._n = n
        self._decode_command = decode_command
        self._readers: dict[int, Callable[[Row, list[Any]], PeerMessage]] = {
            1: self._pre_accept,
            2: self._pre_accept_ok,
            3: self._accept,
            4: self._accept_ok,
            5: self._commit,
            6: self._commit_request,
            7: self._recover,
            8: self._recover_ok,
            9: self._validate,
            10: self._validate_ok,
            11: self._waiting,
            12: self._nack,
            13: self._truncated,
            14: self._beacon,
            15: self._fetch_rows,
            16: self._checkpoint_rows,
            17: self._echo,
            18: self._offer,
            19: self._missing,
        }

    def decode_envelope(self, body: bytes) -> PeerRequest:
        """Decode the body of a PEER frame, but not yet the messages in it.

        Raises:
            FrameError: of kind ``malformed``.
        """
        try:
            sender, incarnation, messages, hears, addressee, kept, beat = msgpack.unpackb(body)
        except _UNREADABLE as error:
            raise FrameError("malformed", f"not a peer request: {error}") from error
        _check(type(sender) is int and 0 <= sender < self._n, "sender")
        _check(type(incarnation) is int and 0 <= incarnation < 2**64, "incarnation")
        _check(type(messages) is list and set(map(type, messages)) <= {bytes}, "list of messages")
        _check(hears is None or type(hears) is bool, "whether the receiver is heard")
        _check(type(addressee) is int and 0 <= addressee < 2**64, "addressee")
        _check(kept is None or (type(kept) is int and 0 <= kept < 2**64), "count of what is kept")
        return PeerRequest(sender, incarnation, messages, hears, addressee, kept, _beat(beat))

    def decode_message(self, sender: Row, encoded: bytes) -> PeerMessage:
        """Decode one message of an envelope.

        Raises:
            FrameError: of kind ``malformed``, ``unknown`` (message type) or ``sender`` (a message that this
                sender cannot have sent).
        """
        try:
            fields = msgpack.unpackb(encoded)
            _check(type(fields) is list and bool(fields), "message")
            code = fields[0]
            if type(code) is not int or code not in self._readers:
                raise FrameError("unknown", f"message of unknown type {code if type(code) is int else ''}")
            reader = self._readers[code]
            return reader(sender, fields[1:])
        except _UNREADABLE as error:
            raise FrameError("malformed", f"not a message: {error}") from error

    # -- one reader a message; a wrong number of fields is a ValueError of the unpacking ---------------------

    def _pre_accept(self, sender: Row, fields: list[Any]) -> Message:
        place, command, deps, seq = fields
        read = self._place(place)
        _check_sender(sender == read.row, "PreAccept", sender, read)
        return PreAccept(read, self._command(command), self._own_deps(read, deps), _number(seq))

    def _pre_accept_ok(self, _: Row, fields: list[Any]) -> Message:
        place, deps, seq = fields
        read = self._place(place)
        return PreAcceptOK(read, self._own_deps(read, deps), _number(seq))

    def _accept(self, sender: Row, fields: list[Any]) -> Message:
        place, ballot, value, deps, seq = fields
        read = self._place(place)
        self._check_ballot(sender, "Accept", read, _number(ballot))
        return Accept(read, ballot, self._value(value), self._own_deps(read, deps), _number(seq))

    def _accept_ok(self, _: Row, fields: list[Any]) -> Message:
        place, ballot = fields
        return AcceptOK(self._place(place), _number(ballot))

    def _commit(self, _: Row, fields: list[Any]) -> Message:
        place, value, deps, seq = fields
        read = self._place(place)
        return Commit(read, self._value(value), self._own_deps(read, deps), _number(seq))

    def _commit_request(self, _: Row, fields: list[Any]) -> Message:
        row, first, last = fields
        _check(type(row) is int and 0 <= row < self._n, "row")
        return CommitRequest(row, _number(first), _number(last))

    def _recover(self, sender: Row, fields: list[Any]) -> Message:
        place, ballot = fields
        read = self._place(place)
        self._check_ballot(sender, "Recover", read, _number(ballot))
        return Recover(read, ballot)

    def _recover_ok(self, _: Row, fields: list[Any]) -> Message:
        place, ballot, abal, phase, value, deps, seq, init = fields
        read = self._place(place)
        return RecoverOK(
            read,
            _number(ballot),
            _number(abal),
            _phase(phase),
            self._value(value),
            self._own_deps(read, deps),
            _number(seq),
            self._proposal(read, init),
        )

    def _validate(self, sender: Row, fields: list[Any]) -> Message:
        place, ballot, command, deps, seq = fields
        read = self._place(place)
        self._check_ballot(sender, "Validate", read, _number(ballot))
        return Validate(read, ballot, self._command(command), self._own_deps(read, deps), _number(seq))

    def _validate_ok(self, _: Row, fields: list[Any]) -> Message:
        place, ballot, against = fields
        _check(type(against) is list, "list of instances")
        read = self._place(place)
        pairs = tuple((self._place(other), _phase(phase)) for other, phase in against)
        _check(all(other.row != read.row for other, _ in pairs), "instance of the own row in a ValidateOK")
        return ValidateOK(read, _number(ballot), pairs)

    def _waiting(self, _: Row, fields: list[Any]) -> Message:
        place, k = fields
        return Waiting(self._place(place), _number(k))

    def _nack(self, _: Row, fields: list[Any]) -> Message:
        place, ballot = fields
        return Nack(self._place(place), _number(ballot))

    def _truncated(self, _: Row, fields: list[Any]) -> Message:
        place, frontier = fields
        return Truncated(self._place(place), self._vector(frontier))

    def _beacon(self, _: Row, fields: list[Any]) -> Message:
        *vectors, stamp = fields
        seen, committed, executed, truncated, floor = map(self._vector, vectors)
        return Beacon(seen, committed, executed, truncated, floor, _number(stamp))

    def _echo(self, _: Row, fields: list[Any]) -> Message:
        (stamp,) = fields
        return Echo(_number(stamp))

    def _offer(self, sender: Row, fields: list[Any]) -> Message:
        (place,) = fields
        read = self._place(place)
        _check_sender(sender == read.row, "Offer", sender, read)
        return Offer(read)

    def _missing(self, _: Row, fields: list[Any]) -> Message:
        (place,) = fields
        return Missing(self._place(place))

    def _fetch_rows(self, _: Row, fields: list[Any]) -> TransferMessage:
        transfer, position = fields
        return FetchRows(_number(transfer), _slot(position))

    def _checkpoint_rows(self, _: Row, fields: list[Any]) -> TransferMessage:
        transfer, position, rows, last = fields
        _check(type(rows) is bytes, "rows")
        return CheckpointRows(_number(transfer), _slot(position), rows, _number(last))

    # -- fields --------------------------------------------------------------------------------------------

    def _place(self, field: Any) -> InstanceId:
        _check(type(field) is list and len(field) == 2, "instance id")
        row, slot = field
        _check(type(row) is int and 0 <= row < self._n, "row")
        return InstanceId(row, _number(slot))

    def _vector(self, field: Any) -> Vector:
        _check(type(field) is list and len(field) == self._n, "vector")
        for slot in field:
            _check(type(slot) is int and -1 <= slot < _LARGEST, "vector")
        return tuple(field)

    def _own_deps(self, place: InstanceId, field: Any) -> Vector:
        """Dependencies of an instance, which in its own row lie below it."""
        deps = self._vector(field)
        _check(deps[place.row] < place.slot, "dependency of an instance on itself or a later one of its row")
        return deps

    def _command(self, field: Any) -> Command:
        _check(type(field) is bytes, "payload")
        return self._decode_command(field)

    def _value(self, field: Any) -> Value | None:
        if field is None:
            return None
        if type(field) is int and field == _NOP_CODE:
            return NOP
        return self._command(field)

    def _proposal(self, place: InstanceId, field: Any) -> Proposal | None:
        if field is None:
            return None
        _check(type(field) is list, "proposal")
        command, deps, seq = field
        return Proposal(self._command(command), self._own_deps(place, deps), _number(seq))

    def _check_ballot(self, sender: Row, name: str, place: InstanceId, ballot: Ballot) -> None:
        """Ballot 0 belongs to the row's owner, every other to the replica that it names (protocol 4.1)."""
        holder = ballot % self._n if ballot else place.row
        _check_sender(sender == holder, f"{name} at ballot {ballot}", sender, place)


def _check(holds: bool, what: str) -> None:  # noqa: FBT001 - reads as a statement where it is used
    if not holds:
        raise FrameError("malformed", f"bad {what} in a peer request")


def _check_sender(holds: bool, what: str, sender: Row, place: InstanceId) -> None:  # noqa: FBT001 - as above
    if not holds:
        raise FrameError("sender", f"{what} of {place} cannot come from row {sender}")


def _beat(field: Any) -> Beat | None:
    if field is None:
        return None
    _check(type(field) is list and len(field) == len(Beat._fields), "heartbeat")
    return Beat(*map(_number, field))


def _number(field: Any) -> Slot:
    _check(type(field) is int and 0 <= field < _LARGEST, "number")
    number: int = field
    return number


def _slot(field: Any) -> Slot:
    _check(type(field) is int and -1 <= field < _LARGEST, "position")
    slot: int = field
    return slot


def _phase(field: Any) -> Phase:
    _check(type(field) is int, "phase")
    return Phase(field)
