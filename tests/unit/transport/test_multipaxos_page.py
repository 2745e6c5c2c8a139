"""The messages of Multi-Paxos on the wire: what stands there, and what cannot come from its sender."""

from __future__ import annotations

import msgpack
import pytest

from epaxos.errors import FrameError
from epaxos.protocol.log import NOP
from epaxos.protocol.multipaxos.messages import (
    DECIDED,
    Accept,
    AcceptOK,
    Beacon,
    Chosen,
    ChosenRequest,
    Commit,
    Echo,
    Forward,
    Handover,
    Message,
    Missing,
    Nack,
    Prepare,
    Promised,
    Truncated,
    Voted,
)
from epaxos.protocol.reads import ReadIndex, ReadIndexOK
from epaxos.transport.codec import Codec, encode_message
from epaxos.transport.pages import EPAXOS_PAGE, MULTIPAXOS_PAGE
from harness.commands import collect, decode_access, put

CODEC = Codec(3, decode_access, MULTIPAXOS_PAGE, 2)
COMMAND = put(7, b"key")

SENT: list[tuple[Message, list[object]]] = [
    (Prepare(4, 9), [32, 4, 9]),
    (Voted(4, 9, 2, COMMAND), [33, 4, 9, 2, COMMAND.encoded]),
    (Voted(4, 9, DECIDED, NOP), [33, 4, 9, -1, 0]),
    (Promised(4, 0, ((1, 2), (5, 5)), -1), [34, 4, 0, [[1, 2], [5, 5]], -1]),
    (Accept(4, 9, COMMAND, 8), [35, 4, 9, COMMAND.encoded, 8]),
    (Accept(4, 9, None, -1), [35, 4, 9, None, -1]),
    (AcceptOK(4, 9), [36, 4, 9]),
    (Missing(4, 9), [37, 4, 9]),
    (Commit(4, 9), [38, 4, 9]),
    (Nack(5), [39, 5]),
    (Forward(COMMAND, 1), [40, COMMAND.encoded, 1]),
    (Chosen(9, COMMAND), [41, 9, COMMAND.encoded]),
    (ChosenRequest(1, 9), [42, 1, 9]),
    (Truncated(9), [43, 9]),
    (Beacon(5, 4, 4, 1, (3, -1), (2, -1), (1, -1), 17), [44, 5, 4, 4, 1, [3, -1], [2, -1], [1, -1], 17]),
    (Echo(17), [45, 17]),
    (Handover(4), [46, 4]),
    (ReadIndex(7, [b"k"]), [21, 7, [b"k"]]),
    (ReadIndexOK(7, (3, -1)), [22, 7, [3, -1]]),
]


@pytest.mark.parametrize(("message", "fields"), SENT, ids=lambda parameter: type(parameter).__name__)
def test_what_stands_on_the_wire(message: Message, fields: list[object]) -> None:
    encoded = encode_message(message)
    assert msgpack.unpackb(encoded) == fields
    decoded = CODEC.decode_message(1, encoded)
    assert decoded == message
    assert type(decoded) is type(message)


def test_all_messages_are_here() -> None:
    assert {type(message) for message, _ in SENT} == set(Message.__args__)


@pytest.mark.parametrize("message", [Prepare(4, 9), Accept(4, 9, NOP, 8), Commit(4, 9), Handover(4)])
def test_a_ballot_is_its_owners(message: Message) -> None:
    with pytest.raises(FrameError, match=r"at ballot 4 cannot come from row 2"):
        CODEC.decode_message(2, encode_message(message))


@pytest.mark.parametrize(
    "fields",
    [
        [32, 4],
        [32, 0, 9],
        [33, 4, 9, 2, None],
        [33, 4, 9, -2, 0],
        [34, 4, 0, [[2, 1]], -1],
        [34, 4, 0, [[3, 4], [4, 5]], -1],
        [34, 4, 0, [[0, 2**40]], -1],
        [36, 4, 9, 1],
        [40, None, 0],
        [40, collect(1, 2, 2, 2).encoded, 0],
        [41, 9, None],
        [44, 5, 4, 4, 2, [3, -1], [2, -1], [1, -1], 17],
        [44, 5, 4, 4, 1, [3], [2], [1], 17],
        [1, [1, 5], b"", [1, 1, 1], 3],
        [21, 7, "k"],
        [21, 7, ["text"]],
        [21, -1, [b"k"]],
        [22, 7, [3]],
    ],
    ids=str,
)
def test_what_has_another_shape_is_refused(fields: list[object]) -> None:
    with pytest.raises(FrameError):
        CODEC.decode_message(1, msgpack.packb(fields))


def test_no_page_knows_a_message_of_the_other() -> None:
    shared = EPAXOS_PAGE.codes.keys() & MULTIPAXOS_PAGE.codes.keys()
    assert {kind.__name__ for kind in shared} == {
        "FetchRows",
        "CheckpointRows",
        "EpochOver",
        "ReadIndex",
        "ReadIndexOK",
    }
    with pytest.raises(FrameError, match="unknown type 32"):
        Codec(3, decode_access).decode_message(1, encode_message(Prepare(4, 9)))
