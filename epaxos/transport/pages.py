"""The messages of each protocol by their codes: a page for each, and how its messages are read.

All pages share the transfer of checkpoints and reads by a quorum. The next protocol's codes begin at 32, so that a
mix-up is an unknown message instead of another one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from epaxos.errors import FrameError
from epaxos.protocol.epaxos.messages import (
    OVERTAKING,
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
from epaxos.protocol.ids import Ballot, Row, Slot
from epaxos.protocol.log import Phase, Value
from epaxos.protocol.multipaxos import messages as multipaxos
from epaxos.protocol.reads import ReadIndex, ReadIndexOK
from epaxos.protocol.transfer import CheckpointRows, EpochOver, FetchRows, TransferMessage
from epaxos.transport.fields import Fields, check, check_sender, number, phase_of, slot

PeerMessage: TypeAlias = Message | multipaxos.Message | TransferMessage | EpochOver
"""All that one replica sends to another."""

Reader: TypeAlias = Callable[[Row, list[Any]], PeerMessage]
"""Makes a message of its fields; a wrong number of them is a ValueError of the unpacking."""


class Page(NamedTuple):
    """The messages of one protocol: the code of each, what reads it, by code, and which may overtake others."""

    codes: Mapping[type, int]
    readers: Callable[[Fields], Mapping[int, Reader]]
    overtaking: Collection[type]

    @property
    def names(self) -> dict[type, str]:
        """The name of every message type, for metrics."""
        return {kind: kind.__name__ for kind in self.codes}


class _EPaxosReaders:
    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def by_code(self) -> dict[int, Reader]:
        return {
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
            17: self._echo,
            18: self._offer,
            19: self._missing,
            **_read_readers(self._fields),
            **transfer_readers(self._fields),
        }

    def _pre_accept(self, sender: Row, fields: list[Any]) -> Message:
        place, command, deps, seq = fields
        read = self._fields.place(place)
        check_sender(sender == read.row, "PreAccept", sender, read)
        payload = self._fields.command(command)
        return PreAccept(read, payload, self._fields.own_deps(read, deps, payload), number(seq))

    def _pre_accept_ok(self, _: Row, fields: list[Any]) -> Message:
        place, deps, seq = fields
        read = self._fields.place(place)
        return PreAcceptOK(read, self._fields.own_deps(read, deps), number(seq))

    def _accept(self, sender: Row, fields: list[Any]) -> Message:
        place, ballot, value, deps, seq = fields
        read = self._fields.place(place)
        self._fields.check_ballot(sender, "Accept", read, number(ballot))
        known = self._fields.value(value)
        return Accept(read, ballot, known, self._fields.own_deps(read, deps, known), number(seq))

    def _accept_ok(self, _: Row, fields: list[Any]) -> Message:
        place, ballot = fields
        return AcceptOK(self._fields.place(place), number(ballot))

    def _commit(self, _: Row, fields: list[Any]) -> Message:
        place, value, deps, seq = fields
        read = self._fields.place(place)
        known = self._fields.value(value)
        return Commit(read, known, self._fields.own_deps(read, deps, known), number(seq))

    def _commit_request(self, _: Row, fields: list[Any]) -> Message:
        row, first, last = fields
        check(type(row) is int and 0 <= row < self._fields.rows, "row")
        return CommitRequest(row, number(first), number(last))

    def _recover(self, sender: Row, fields: list[Any]) -> Message:
        place, ballot = fields
        read = self._fields.place(place)
        self._fields.check_ballot(sender, "Recover", read, number(ballot))
        return Recover(read, ballot)

    def _recover_ok(self, _: Row, fields: list[Any]) -> Message:
        place, ballot, abal, phase, value, deps, seq, init = fields
        read, known, at = self._fields.place(place), self._fields.value(value), phase_of(phase)
        return RecoverOK(
            read,
            number(ballot),
            number(abal),
            at,
            known,
            self._fields.own_deps(read, deps, None if at is Phase.INITIAL else known),
            number(seq),
            self._fields.proposal(read, init),
        )

    def _validate(self, sender: Row, fields: list[Any]) -> Message:
        place, ballot, command, deps, seq = fields
        read = self._fields.place(place)
        self._fields.check_ballot(sender, "Validate", read, number(ballot))
        payload = self._fields.command(command)
        return Validate(read, ballot, payload, self._fields.own_deps(read, deps, payload), number(seq))

    def _validate_ok(self, _: Row, fields: list[Any]) -> Message:
        place, ballot, against = fields
        check(type(against) is list, "list of instances")
        read = self._fields.place(place)
        pairs = tuple((self._fields.place(other), phase_of(phase)) for other, phase in against)
        check(all(other.row != read.row for other, _ in pairs), "instance of the own row in a ValidateOK")
        return ValidateOK(read, number(ballot), pairs)

    def _waiting(self, _: Row, fields: list[Any]) -> Message:
        place, k = fields
        return Waiting(self._fields.place(place), number(k))

    def _nack(self, _: Row, fields: list[Any]) -> Message:
        place, ballot = fields
        return Nack(self._fields.place(place), number(ballot))

    def _truncated(self, _: Row, fields: list[Any]) -> Message:
        place, frontier = fields
        return Truncated(self._fields.place(place), self._fields.vector(frontier))

    def _beacon(self, _: Row, fields: list[Any]) -> Message:
        *vectors, stamp = fields
        seen, committed, executed, truncated, floor = map(self._fields.vector, vectors)
        return Beacon(seen, committed, executed, truncated, floor, number(stamp))

    def _echo(self, _: Row, fields: list[Any]) -> Message:
        (stamp,) = fields
        return Echo(number(stamp))

    def _offer(self, sender: Row, fields: list[Any]) -> Message:
        (place,) = fields
        read = self._fields.place(place)
        check_sender(sender == read.row, "Offer", sender, read)
        return Offer(read)

    def _missing(self, _: Row, fields: list[Any]) -> Message:
        (place,) = fields
        return Missing(self._fields.place(place))


def _fetch_rows(_: Row, fields: list[Any]) -> TransferMessage:
    transfer, position = fields
    return FetchRows(number(transfer), slot(position))


def _checkpoint_rows(_: Row, fields: list[Any]) -> TransferMessage:
    transfer, position, rows, last = fields
    check(type(rows) is bytes, "rows")
    return CheckpointRows(number(transfer), slot(position), rows, number(last))


def _read_readers(fields: Fields) -> dict[int, Reader]:
    """What reads the messages of reads by a quorum."""

    def read_index(_: Row, values: list[Any]) -> PeerMessage:
        question, keys = values
        check(type(keys) is list and {bytes}.issuperset(map(type, keys)), "list of keys")
        return ReadIndex(number(question), keys)

    def read_index_ok(_: Row, values: list[Any]) -> PeerMessage:
        question, highest = values
        return ReadIndexOK(number(question), fields.vector(highest))

    return {21: read_index, 22: read_index_ok}


def transfer_readers(fields: Fields) -> dict[int, Callable[[Row, list[Any]], TransferMessage | EpochOver]]:
    """What reads the messages that are heeded in whatever epoch their sender is."""

    def epoch_over(_: Row, values: list[Any]) -> EpochOver:
        ended, cut = values
        return EpochOver(number(ended), None if cut is None else fields.foreign_vector(cut))

    return {15: _fetch_rows, 16: _checkpoint_rows, 20: epoch_over}


_READ_CODES: Final = {ReadIndex: 21, ReadIndexOK: 22}

_TRANSFER_CODES: Final = {FetchRows: 15, CheckpointRows: 16, EpochOver: 20}

EPAXOS_PAGE: Final = Page(
    {
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
        Echo: 17,
        Offer: 18,
        Missing: 19,
        **_READ_CODES,
        **_TRANSFER_CODES,
    },
    lambda fields: _EPaxosReaders(fields).by_code(),
    OVERTAKING,
)


class _MultiPaxosReaders:
    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def by_code(self) -> dict[int, Reader]:
        return {
            32: self._prepare,
            33: self._voted,
            34: self._promised,
            35: self._accept,
            36: lambda _, fields: multipaxos.AcceptOK(*map(number, _exactly(2, fields))),
            37: lambda _, fields: multipaxos.Missing(*map(number, _exactly(2, fields))),
            38: self._commit,
            39: lambda _, fields: multipaxos.Nack(*map(number, _exactly(1, fields))),
            40: self._forward,
            41: self._chosen,
            42: lambda _, fields: multipaxos.ChosenRequest(*map(number, _exactly(2, fields))),
            43: lambda _, fields: multipaxos.Truncated(*map(slot, _exactly(1, fields))),
            44: self._beacon,
            45: lambda _, fields: multipaxos.Echo(*map(number, _exactly(1, fields))),
            46: self._handover,
            **_read_readers(self._fields),
            **transfer_readers(self._fields),
        }

    def _own_ballot(self, sender: Row, name: str, field: Any) -> Ballot:
        """A ballot that is its sender's to use."""
        ballot = number(field)
        if ballot % self._fields.n != sender or ballot == multipaxos.NOBODY:
            raise FrameError("sender", f"{name} at ballot {ballot} cannot come from row {sender}")
        return ballot

    def _value(self, field: Any) -> Value:
        value = self._fields.value(field)
        check(value is not None, "value")
        assert value is not None
        return value

    def _prepare(self, sender: Row, fields: list[Any]) -> PeerMessage:
        ballot, first = fields
        return multipaxos.Prepare(self._own_ballot(sender, "Prepare", ballot), number(first))

    def _voted(self, _: Row, fields: list[Any]) -> PeerMessage:
        ballot, place, abal, value = fields
        return multipaxos.Voted(number(ballot), number(place), slot(abal), self._value(value))

    def _promised(self, _: Row, fields: list[Any]) -> PeerMessage:
        ballot, first, stretches, truncated = fields
        check(type(stretches) is list, "list of stretches")
        slots: list[tuple[Slot, Slot]] = []
        before = -1
        for low, high in stretches:
            check(before < number(low) <= number(high), "stretch of slots")
            slots.append((low, high))
            before = high
        check(sum(high - low + 1 for low, high in slots) <= _MOST_VOTES, "number of votes")
        return multipaxos.Promised(number(ballot), number(first), tuple(slots), slot(truncated))

    def _accept(self, sender: Row, fields: list[Any]) -> PeerMessage:
        ballot, place, value, chosen = fields
        own = self._own_ballot(sender, "Accept", ballot)
        return multipaxos.Accept(own, number(place), self._fields.value(value), slot(chosen))

    def _commit(self, sender: Row, fields: list[Any]) -> PeerMessage:
        ballot, chosen = fields
        return multipaxos.Commit(self._own_ballot(sender, "Commit", ballot), slot(chosen))

    def _handover(self, sender: Row, fields: list[Any]) -> PeerMessage:
        return multipaxos.Handover(self._own_ballot(sender, "Handover", *_exactly(1, fields)))

    def _forward(self, _: Row, fields: list[Any]) -> PeerMessage:
        command, relayed = fields
        return multipaxos.Forward(self._fields.command(command), number(relayed))

    def _chosen(self, _: Row, fields: list[Any]) -> PeerMessage:
        place, value = fields
        return multipaxos.Chosen(number(place), self._value(value))

    def _beacon(self, sender: Row, fields: list[Any]) -> PeerMessage:
        known, leads, follows, happy, *vectors, stamp = fields
        if number(leads):
            self._own_ballot(sender, "Beacon", leads)
        check(happy in (0, 1), "mood")
        committed, executed, truncated = map(self._fields.vector, vectors)
        return multipaxos.Beacon(
            number(known), leads, number(follows), happy, committed, executed, truncated, number(stamp)
        )


def _exactly(count: int, fields: list[Any]) -> list[Any]:
    check(len(fields) == count, "number of fields")
    return fields


_MOST_VOTES: Final = 10_000_000
"""Votes that one promise may name: a log holds fewer, and each is noted until it has come."""

MULTIPAXOS_PAGE: Final = Page(
    {
        multipaxos.Prepare: 32,
        multipaxos.Voted: 33,
        multipaxos.Promised: 34,
        multipaxos.Accept: 35,
        multipaxos.AcceptOK: 36,
        multipaxos.Missing: 37,
        multipaxos.Commit: 38,
        multipaxos.Nack: 39,
        multipaxos.Forward: 40,
        multipaxos.Chosen: 41,
        multipaxos.ChosenRequest: 42,
        multipaxos.Truncated: 43,
        multipaxos.Beacon: 44,
        multipaxos.Echo: 45,
        multipaxos.Handover: 46,
        **_READ_CODES,
        **_TRANSFER_CODES,
    },
    lambda fields: _MultiPaxosReaders(fields).by_code(),
    multipaxos.OVERTAKING,
)

OF_NO_EPOCH: Final = tuple(_TRANSFER_CODES)
"""The messages that are heeded in whatever epoch their sender is."""

BEACONS: Final = (Beacon, multipaxos.Beacon)
"""The messages by which replicas tell one another how far they are."""

PAGES: Final = {"epaxos": EPAXOS_PAGE, "multipaxos": MULTIPAXOS_PAGE}
"""The page of each protocol (`protocol.kinds`) by its name."""
