"""Messages between replicas, one of every type."""

from __future__ import annotations

from epaxos.protocol.epaxos.messages import (
    Accept,
    AcceptOK,
    Beacon,
    Commit,
    CommitRequest,
    Echo,
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
from epaxos.protocol.ids import InstanceId, Row
from epaxos.protocol.log import NOP, Phase, Proposal
from epaxos.protocol.transfer import CheckpointRows, EpochOver, FetchRows
from epaxos.statemachine.batch import decode_batch, encode_batch, make_payload
from epaxos.transport.pages import PeerMessage


def sample_messages(n: int, sender: Row) -> list[PeerMessage]:
    """One message of every type, as a replica of a cluster of `n` sends it that owns the row `sender`."""
    place = InstanceId(sender, 5)
    deps = (4,) * n
    ballot = n + sender
    command = make_payload([decode_batch(encode_batch(1, 1, 1, b"\x02", [b"key"], [b"value"]))])
    return [
        PreAccept(place, command, deps, 3),
        PreAcceptOK(place, deps, 3),
        Accept(place, ballot, command, deps, 3),
        Accept(place, ballot, NOP, deps, 3),
        AcceptOK(place, ballot),
        Commit(place, command, deps, 3),
        CommitRequest(sender, 0, 5),
        Recover(place, ballot),
        RecoverOK(place, ballot, 0, Phase.ACCEPTED, command, deps, 3, Proposal(command, deps, 3)),
        Validate(place, ballot, command, deps, 3),
        ValidateOK(place, ballot, ((InstanceId((sender + 1) % n, 5), Phase.COMMITTED),)),
        Waiting(place, 2),
        Nack(place, ballot),
        Truncated(place, deps),
        Beacon(deps, deps, deps, deps, deps, 1_000_000),
        Echo(1_000_000),
        Offer(place),
        Missing(place),
        FetchRows(1, 0),
        CheckpointRows(1, 0, b"", 1),
        EpochOver(0, deps),
    ]
