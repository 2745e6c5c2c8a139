from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epaxos import version
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
from epaxos.protocol.ids import Ballot, InstanceId, Name, Row, Slot
from epaxos.protocol.log import NOP, Phase, Proposal
from epaxos.protocol.membership import is_name
from epaxos.protocol.transfer import CheckpointRows, EpochOver, FetchRows, TransferMessage
from epaxos.statemachine.batch import decode_batch, decode_payload, encode_batch, make_barrier, make_payload
from epaxos.transport.codec import MESSAGE_NAMES, Beat, Codec, PeerRequest, encode_envelope, encode_message
from epaxos.transport.pages import PeerMessage
from harness.commands import Access, decode_access
from harness.members import members
from harness.sendings import LARGEST, ROWS, N, Sent, holder, sendings

CODEC = Codec(N, decode_access)
SERVICE_CODEC = Codec(N, decode_payload)
COMMAND = Access(7, (b"r",), (b"w", b"v"))
PLACE = InstanceId(1, 5)
DEPS = (9, 4, -1)


def kind_of_refusal(sender: Row, encoded: bytes) -> str:
    with pytest.raises(FrameError) as refusal:
        CODEC.decode_message(sender, encoded)
    return refusal.value.kind


# -- round trips -------------------------------------------------------------------------------------------


@given(sendings())
def test_messages_survive_encoding(sent: Sent) -> None:
    decoded = CODEC.decode_message(sent.sender, encode_message(sent.message))
    assert decoded == sent.message
    assert type(decoded) is type(sent.message)


@settings(max_examples=50)
@given(sendings() | st.builds(lambda stamp: Sent(0, Echo(stamp)), st.integers(0, 2**62 - 1)))
def test_neighbouring_levels_understand_each_other_where_a_message_has_gained_a_field(sent: Sent) -> None:
    """The stamp of an Echo, as if it were new: what is of the level before lacks it, for who writes and who reads."""
    older, newer = version.NEWEST, version.NEWEST + 1
    with pytest.MonkeyPatch.context() as pretended:
        pretended.setitem(version.SINCE, "Echo.stamp", newer)
        pretended.setitem(Echo._field_defaults, "stamp", 7)
        version.width.cache_clear()
        try:
            for level in (older, newer):
                encoded = encode_message(sent.message, level)
                lacks = level == older and isinstance(sent.message, Echo)
                assert len(msgpack.unpackb(encoded)) == (1 if lacks else 1 + len(sent.message))
                decoded = CODEC.decode_message(sent.sender, encoded, level=level)
                assert decoded == (Echo(7) if lacks else sent.message)
                if isinstance(sent.message, Echo):
                    with pytest.raises(FrameError):
                        CODEC.decode_message(sent.sender, encoded, level=older + newer - level)
        finally:
            version.width.cache_clear()


def test_neighbouring_levels_understand_each_other_where_the_envelope_has_gained_fields() -> None:
    older, newer = version.NEWEST, version.NEWEST + 1
    request = PeerRequest(
        "b", 9, [b"it"], True, 5, 7, Beat(1, 2, 3, newer, "host", 9, watched=True, joins=True), 3, 8
    )
    with pytest.MonkeyPatch.context() as pretended:
        for name in ("Beat.watched", "Beat.clears", "Beat.ordered", "Beat.joins", "PeerRequest.digest"):
            pretended.setitem(version.SINCE, name, newer)
        version.width.cache_clear()
        try:
            former = request._replace(beat=Beat(1, 2, 3, newer, "host", 9), digest=0)
            for level, read in ((older, former), (newer, request)):
                encoded = encode_envelope(request, level)
                assert len(msgpack.unpackb(encoded)) == len(request) - (level == older)
                assert CODEC.decode_envelope(encoded, level) == read
                with pytest.raises(FrameError):
                    CODEC.decode_envelope(encoded, older + newer - level)
        finally:
            version.width.cache_clear()


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (PreAccept(PLACE, COMMAND, DEPS, 3), [1, [1, 5], COMMAND.encoded, [9, 4, -1], 3]),
        (PreAcceptOK(PLACE, DEPS, 3), [2, [1, 5], [9, 4, -1], 3]),
        (Accept(PLACE, 4, COMMAND, DEPS, 3), [3, [1, 5], 4, COMMAND.encoded, [9, 4, -1], 3]),
        (Accept(PLACE, 4, NOP, DEPS, 0), [3, [1, 5], 4, 0, [9, 4, -1], 0]),
        (Accept(PLACE, 0, None, DEPS, 3), [3, [1, 5], 0, None, [9, 4, -1], 3]),
        (AcceptOK(PLACE, 4), [4, [1, 5], 4]),
        (Commit(PLACE, COMMAND, DEPS, 3), [5, [1, 5], COMMAND.encoded, [9, 4, -1], 3]),
        (CommitRequest(2, 7, 9), [6, 2, 7, 9]),
        (Recover(PLACE, 4), [7, [1, 5], 4]),
        (
            RecoverOK(PLACE, 4, 1, Phase.ACCEPTED, NOP, DEPS, 3, Proposal(COMMAND, DEPS, 2)),
            [8, [1, 5], 4, 1, 2, 0, [9, 4, -1], 3, [COMMAND.encoded, [9, 4, -1], 2]],
        ),
        (Validate(PLACE, 4, COMMAND, DEPS, 3), [9, [1, 5], 4, COMMAND.encoded, [9, 4, -1], 3]),
        (
            ValidateOK(PLACE, 4, ((InstanceId(0, 2), Phase.COMMITTED),)),
            [10, [1, 5], 4, [[[0, 2], 3]]],
        ),
        (Waiting(PLACE, 2), [11, [1, 5], 2]),
        (Nack(PLACE, 4), [12, [1, 5], 4]),
        (Truncated(PLACE, DEPS), [13, [1, 5], [9, 4, -1]]),
        (Beacon(DEPS, DEPS, DEPS, DEPS, DEPS, 17), [14, *[[9, 4, -1]] * 5, 17]),
        (Echo(17), [17, 17]),
        (Offer(PLACE), [18, [1, 5]]),
        (Missing(PLACE), [19, [1, 5]]),
        (FetchRows(7, 300), [15, 7, 300]),
        (FetchRows(7, -1), [15, 7, -1]),
        (CheckpointRows(7, 300, b"\x92", 1), [16, 7, 300, b"\x92", 1]),
        (CheckpointRows(7, -1, b"", 0), [16, 7, -1, b"", 0]),
        (EpochOver(3, DEPS), [20, 3, [9, 4, -1]]),
        (EpochOver(3, None), [20, 3, None]),
    ],
    ids=lambda parameter: type(parameter).__name__,
)
def test_what_stands_on_the_wire(message: PeerMessage, fields: list[object]) -> None:
    encoded = encode_message(message)
    assert msgpack.unpackb(encoded) == fields
    assert CODEC.decode_message(1, encoded) == message


def test_every_message_has_a_name() -> None:
    kinds = (*Message.__args__, *TransferMessage.__args__, EpochOver)
    assert sorted(MESSAGE_NAMES.values()) == sorted(kind.__name__ for kind in kinds)


@given(
    st.text(min_size=1, max_size=300).filter(is_name),
    st.integers(0, 2**64 - 1),
    st.lists(st.binary(max_size=9), max_size=4),
    st.sampled_from([True, False, None]),
    st.integers(0, 2**64 - 1),
    st.one_of(st.none(), st.integers(0, 2**64 - 1)),
    st.none()
    | st.builds(Beat, *[st.integers(0, 2**62 - 1)] * 4, st.text(max_size=9), st.integers(0, 2**16 - 1)),
    st.integers(0, 2**64 - 1),
)
def test_envelopes_survive_encoding(
    sender: Name,
    incarnation: int,
    messages: list[bytes],
    hears: bool | None,  # noqa: FBT001 - hypothesis gives it by position
    addressee: int,
    kept: int | None,
    beat: Beat | None,
    digest: int,
) -> None:
    request = PeerRequest(sender, incarnation, messages, hears, addressee, kept, beat, 0, digest)
    assert CODEC.decode_envelope(encode_envelope(request)) == request


def test_a_payload_of_the_service_survives_encoding() -> None:
    encoded = encode_batch(1, 1, 0, b"\x02\x01", [b"k", b"l"], [b"v", None])
    payload = make_payload([decode_batch(encoded)])
    message = PreAccept(PLACE, payload, DEPS, 3)
    decoded = SERVICE_CODEC.decode_message(1, encode_message(message))
    assert decoded == message
    assert isinstance(decoded, PreAccept)
    assert (list(decoded.command.reads), list(decoded.command.writes)) == ([b"l"], [b"k"])


# -- who may send what (protocol 4.1) ----------------------------------------------------------------------


@pytest.mark.parametrize("sender", [0, 2])
def test_only_the_owner_of_a_row_sends_a_pre_accept_in_it(sender: Row) -> None:
    assert kind_of_refusal(sender, encode_message(PreAccept(PLACE, COMMAND, DEPS, 3))) == "sender"


@pytest.mark.parametrize("ballot", range(7))
@pytest.mark.parametrize("kind", [Accept, Recover, Validate])
def test_only_the_holder_of_a_ballot_uses_it(kind: type, ballot: Ballot) -> None:
    messages: dict[type, Message] = {
        Accept: Accept(PLACE, ballot, NOP, DEPS, 0),
        Recover: Recover(PLACE, ballot),
        Validate: Validate(PLACE, ballot, COMMAND, DEPS, 3),
    }
    encoded = encode_message(messages[kind])
    for sender in range(N):
        if sender == holder(PLACE, ballot):
            assert CODEC.decode_message(sender, encoded) == messages[kind]
        else:
            assert kind_of_refusal(sender, encoded) == "sender"


# -- bad bytes ---------------------------------------------------------------------------------------------


def fields_of(message: PeerMessage) -> list[Any]:
    fields: list[Any] = msgpack.unpackb(encode_message(message))
    return fields


@pytest.mark.parametrize("code", [0, 99, -1, 2**40, None, True, 1.0, "1", b"\x01", [1]])
def test_a_message_of_unknown_type_is_refused_as_such(code: object) -> None:
    encoded = msgpack.packb([code, *fields_of(AcceptOK(PLACE, 0))[1:]])
    assert kind_of_refusal(1, encoded) == "unknown"


@pytest.mark.parametrize("value", [[], {}, None, 7, b"", "x", {1: 2}, True])
def test_what_is_no_message_is_refused(value: object) -> None:
    assert kind_of_refusal(1, msgpack.packb(value)) == "malformed"


@pytest.mark.parametrize("number", [-1, 2**62, 2**64 - 1, True, 1.0, None, "1", b"1", [1]])
def test_numbers_are_bounded_integers(number: object) -> None:
    messages = ([4, [1, 5], number], [4, [1, number], 0], [6, 1, number, 3], [6, 1, 3, number])
    for fields in (*messages, [15, number, 0], [16, number, 0, b"", 0], [16, 7, 0, b"", number]):
        assert kind_of_refusal(1, msgpack.packb(fields)) == "malformed"


@pytest.mark.parametrize("row", [-1, N, 2**62, True, 1.0, None, b"\0"])
def test_rows_are_those_of_the_cluster(row: object) -> None:
    for fields in ([4, [row, 5], 0], [6, row, 0, 3], [10, [1, 5], 4, [[[row, 0], 3]]]):
        assert kind_of_refusal(1, msgpack.packb(fields)) == "malformed"


@pytest.mark.parametrize("place", [None, 5, [], [1], [1, 5, 0], {}, "15", [[1, 5]]])
def test_an_id_is_a_pair(place: object) -> None:
    assert kind_of_refusal(1, msgpack.packb([4, place, 0])) == "malformed"


@pytest.mark.parametrize(
    "vector",
    [None, 0, [], [0, 0], [0, 0, 0, 0], [0, -2, 0], [0, 2**62, 0], [0, None, 0], [0, True, 0], "abc", b"abc"],
)
def test_a_vector_has_a_slot_for_every_row(vector: object) -> None:
    for fields in ([2, [1, 5], vector, 0], [13, [1, 5], vector], [14, *[[0, 0, 0]] * 4, vector]):
        assert kind_of_refusal(1, msgpack.packb(fields)) == "malformed"


@pytest.mark.parametrize("slot", [5, 6, LARGEST])
def test_in_its_own_row_an_instance_depends_on_lower_slots_only(slot: Slot) -> None:
    deps = (0, slot, 0)
    for message in (
        PreAccept(PLACE, COMMAND, deps, 0),
        PreAcceptOK(PLACE, deps, 0),
        Accept(PLACE, 0, COMMAND, deps, 0),
        Commit(PLACE, COMMAND, deps, 0),
        Validate(PLACE, 4, COMMAND, deps, 0),
    ):
        assert kind_of_refusal(1, encode_message(message)) == "malformed"


@pytest.mark.parametrize(
    "payload", [None, 0, 1, "7||", [b"7||"], b"", b"7|", b"x||", b"7|||1,2", b"7||||", True]
)
def test_a_payload_is_bytes_that_the_service_can_read(payload: object) -> None:
    assert kind_of_refusal(1, msgpack.packb([1, [1, 5], payload, [0, 0, 0], 0])) == "malformed"


@pytest.mark.parametrize("value", [1, -1, False, 0.0, "", [], b"x"])
def test_a_value_is_nothing_or_no_op_or_a_payload(value: object) -> None:
    assert kind_of_refusal(1, msgpack.packb([5, [1, 5], value, [0, 0, 0], 0])) == "malformed"


@pytest.mark.parametrize("phase", [4, -1, True, None, 1.0, "1"])
def test_a_phase_is_one_of_four(phase: object) -> None:
    assert kind_of_refusal(1, msgpack.packb([10, [1, 5], 4, [[[0, 0], phase]]])) == "malformed"
    assert (
        kind_of_refusal(1, msgpack.packb([8, [1, 5], 4, 0, phase, None, [0, 0, 0], 0, None])) == "malformed"
    )


@pytest.mark.parametrize("position", [-2, 2**62, None, True, 1.0, "1", b"1", [1]])
def test_a_position_is_a_number_or_minus_one(position: object) -> None:
    for fields in ([15, 7, position], [16, 7, position, b"", 0]):
        assert kind_of_refusal(1, msgpack.packb(fields)) == "malformed"


@pytest.mark.parametrize("rows", [None, 0, "", [], [b""], True])
def test_rows_of_a_checkpoint_are_bytes(rows: object) -> None:
    assert kind_of_refusal(1, msgpack.packb([16, 7, 0, rows, 0])) == "malformed"


@settings(max_examples=50)
@given(sendings(), st.sampled_from([-1, 1]))
def test_a_message_has_as_many_fields_as_it_should(sent: Sent, change: int) -> None:
    fields = fields_of(sent.message)
    fields = fields[:-1] if change < 0 else [*fields, 0]
    assert kind_of_refusal(sent.sender, msgpack.packb(fields)) == "malformed"


GOOD = ["alpha", 5, [b"", 7], True, 6, 3, None, 0, 2**64 - 1]


def test_the_envelope_that_is_spoilt_below_is_good() -> None:
    assert list(CODEC.decode_envelope(msgpack.packb(GOOD))) == GOOD


@pytest.mark.parametrize(
    ("place", "field"),
    [
        *((0, field) for field in ("", "a" * 301, 0, b"alpha")),
        *((1, field) for field in (-1, 1.0)),
        *((2, field) for field in (None, ["text"], [b"", 5.0], b"")),
        *((3, field) for field in (1, 0)),
        *((4, field) for field in (-1, None)),
        *((5, field) for field in (-1, True)),
        *(
            (6, field)
            for field in (0, [], [1, 2], [1, 2, -1, 11, "", 0], [1, 2, 3, 11, 0, 0], [1, 2, 3, 11, "", 2**16])
        ),
        *((7, field) for field in (-1, 2**32, None, True)),
        *((8, field) for field in (-1, None, True)),
    ],
)
def test_what_is_no_envelope_is_refused(place: int, field: object) -> None:
    assert envelope_refusal([*GOOD[:place], field, *GOOD[place + 1 :]]) == "malformed"


@pytest.mark.parametrize("envelope", [GOOD[:-1], [*GOOD, 0], [], None, 7, "abc"])
def test_what_is_no_envelope_at_all_is_refused(envelope: object) -> None:
    assert envelope_refusal(envelope) == "malformed"


def test_a_message_of_another_epoch_is_not_looked_at_any_further() -> None:
    later = Codec(N, decode_access, epoch=3)
    assert later.decode_envelope(msgpack.packb([*GOOD[:-2], 7, 0])).epoch == 7
    for message in (EpochOver(3, (1, 2, 3)), EpochOver(9, None), EpochOver(3, (1, 2)), FetchRows(1, 0)):
        assert later.decode_message(1, encode_message(message), 7) == message
    for sender, epoch in ((1, 7), (None, 3)):  # the latter has no vote in it
        assert later.decode_message(sender, encode_message(FetchRows(1, 0)), epoch) == FetchRows(1, 0)
        with pytest.raises(FrameError) as refusal:
            later.decode_message(sender, msgpack.packb([5, "whatever that is there"]), epoch)
        assert refusal.value.kind == "epoch"


@pytest.mark.parametrize("fields", [[0, [1, -2]], [0], [-1, None], [0, [1, 2, None]], [0, 7]])
def test_what_does_not_say_that_an_epoch_is_over_is_refused(fields: list[object]) -> None:
    with pytest.raises(FrameError):
        CODEC.decode_message(1, msgpack.packb([20, *fields]), 7)


@pytest.mark.parametrize("code", ["pre_accept", "accept", "commit", "validate", "recover_ok"])
def test_a_barrier_that_leaves_a_hole_in_its_row_is_refused(code: str) -> None:
    """It would end the epoch at a cut that has not executed, and stop whoever heeds it."""
    barrier = make_barrier(0, (0, 0, 0), members().next(1))
    place = InstanceId(1, 4)
    for below, is_good in ((3, True), (2, False), (-1, False)):
        deps = (7, below, 7)
        messages: dict[str, PeerMessage] = {
            "pre_accept": PreAccept(place, barrier, deps, 0),
            "accept": Accept(place, 0, barrier, deps, 0),
            "commit": Commit(place, barrier, deps, 0),
            "validate": Validate(place, 4, barrier, deps, 0),
            "recover_ok": RecoverOK(place, 4, 0, Phase.PREACCEPTED, barrier, deps, 0, None),
        }
        encoded = encode_message(messages[code])
        if is_good:
            assert SERVICE_CODEC.decode_message(1, encoded).__class__ is messages[code].__class__
            continue
        with pytest.raises(FrameError, match="barrier"):
            SERVICE_CODEC.decode_message(1, encoded)


def test_who_has_not_pre_accepted_a_barrier_tells_of_it_beside_no_dependencies() -> None:
    barrier = make_barrier(0, (0, 0, 0), members().next(1))
    answer = RecoverOK(InstanceId(1, 4), 4, 0, Phase.INITIAL, barrier, (-1, -1, -1), 0, None)
    assert SERVICE_CODEC.decode_message(2, encode_message(answer)).__class__ is RecoverOK


def envelope_refusal(envelope: object, codec: Codec = CODEC) -> str:
    with pytest.raises(FrameError) as refusal:
        codec.decode_envelope(msgpack.packb(envelope))
    return refusal.value.kind


# -- random and mutated bytes: a FrameError, or a message that a replica might have sent --------------------

_TEXTS = st.text(max_size=3) | st.binary(max_size=9)
JUNK: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=12,
)


def refusal_of(decode: Callable[[], object]) -> str | None:
    """The kind of the FrameError that decoding ends in, if it does; any other exception fails the test."""
    try:
        decode()
    except FrameError as error:
        return error.kind
    return None


def check_decoding(sender: Row, encoded: bytes, codec: Codec = CODEC) -> None:
    refusal = refusal_of(lambda: codec.decode_message(sender, encoded))
    assert refusal in {None, "malformed", "unknown", "sender"}
    if refusal is None:
        message = codec.decode_message(sender, encoded)
        assert codec.decode_message(sender, encode_message(message)) == message


@given(ROWS, st.binary(max_size=60) | JUNK.map(msgpack.packb))
def test_random_bytes_and_objects_raise_nothing_else(sender: Row, encoded: bytes) -> None:
    check_decoding(sender, encoded)
    assert refusal_of(lambda: CODEC.decode_envelope(encoded)) in {None, "malformed", "epoch"}


@given(sendings(), ROWS, JUNK, st.data())
def test_messages_with_any_field_replaced_raise_nothing_else(
    sent: Sent, sender: Row, junk: object, data: st.DataObject
) -> None:
    fields = fields_of(sent.message)
    path = fields
    while True:
        index = data.draw(st.integers(0, len(path) - 1))
        if not isinstance(path[index], list) or not path[index] or data.draw(st.booleans()):
            break
        path = path[index]
    path[index] = junk
    for origin in (sent.sender, sender):
        check_decoding(origin, msgpack.packb(fields))


@given(sendings(), st.randoms(use_true_random=False))
def test_messages_with_any_bytes_changed_raise_nothing_else(sent: Sent, random: Random) -> None:
    encoded = bytearray(encode_message(sent.message))
    for _ in range(random.randint(1, 3)):
        _mutate(encoded, random)
    check_decoding(sent.sender, bytes(encoded))


@given(st.randoms(use_true_random=False))
def test_payloads_of_the_service_with_any_bytes_changed_raise_nothing_else(random: Random) -> None:
    batch = encode_batch(1, 1, 0, b"\x02\x01\x09", [b"k", b"l", b""], [b"v", None, [b"\x02", [b"m"], [b"w"]]])
    encoded = bytearray(encode_message(PreAccept(PLACE, make_payload([decode_batch(batch)]), DEPS, 3)))
    for _ in range(random.randint(1, 3)):
        _mutate(encoded, random)
    check_decoding(1, bytes(encoded), SERVICE_CODEC)


def _mutate(encoded: bytearray, random: Random) -> None:
    """Flip a bit, replace, drop or add a byte, or cut the rest off."""
    position = random.randrange(len(encoded) + 1)
    kind = random.randrange(5)
    if kind == 0:
        encoded.insert(position, random.randrange(256))
    elif position == len(encoded):
        encoded += random.randbytes(3)
    elif kind == 1:
        encoded[position] ^= 1 << random.randrange(8)
    elif kind == 2:
        encoded[position] = random.randrange(256)
    elif kind == 3:
        del encoded[position]
    else:
        del encoded[position:]


@given(st.binary(max_size=20))
def test_what_the_service_cannot_read_is_refused_with_its_own_kind(encoded: bytes) -> None:
    def refuse(_: bytes) -> Command:
        raise FrameError("malformed", "no such command")

    codec = Codec(N, refuse)
    with pytest.raises(FrameError, match="no such command"):
        codec.decode_message(1, msgpack.packb([1, [1, 5], encoded, [0, 0, 0], 0]))
