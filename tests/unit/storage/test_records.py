"""Instances as entries of the log, and in one piece: what was written is what is read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaxos.errors import InvariantError, StorageError
from epaxos.protocol.ids import InstanceId
from epaxos.protocol.log import NOP, Instance, Phase, Proposal
from epaxos.storage.records import (
    RecordWriter,
    decode_log,
    decode_whole,
    dropped_ranges,
    encode_record,
    encode_whole,
)
from harness.commands import Access, decode_access, put
from harness.invariants import record_of
from harness.records import contents, instances, logs
from harness.sendings import COMMANDS, SLOTS, N

PLACE = InstanceId(1, 5)
NONE = (-1,) * N
JUNK: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


def read(entries: dict[bytes, bytes]) -> list[Instance]:
    return list(decode_log(sorted(entries.items()), decode_access))


def raises_storage_errors_only(action: Callable[[], object]) -> None:
    with suppress(StorageError):
        action()


# -- round trips -------------------------------------------------------------------------------------------


@given(logs())
def test_what_is_written_is_read(records: list[Instance]) -> None:
    assert contents(read(dict(RecordWriter(N).entries(records)))) == contents(records)


@given(instances())
def test_an_entry_of_a_checkpoint_is_read_as_it_was_written(record: Instance) -> None:
    decoded = decode_whole(encode_whole(record), decode_access)
    assert decoded.id == record.id
    assert record_of(decoded) == record_of(record)


@given(logs(), st.data())
def test_the_last_of_many_rounds_counts(records: list[Instance], data: st.DataObject) -> None:
    """A payload is written once, whenever it was learned, and again by nobody, also after a restart."""
    writer = RecordWriter(N)
    log: dict[bytes, bytes] = {}
    payloads = 0
    blank = [Instance(record.id, NONE) for record in records]
    for before, record in zip(blank, records, strict=True):
        if data.draw(st.booleans()):
            before.orig = record.orig
    for round_ in (blank, records, records + records):
        if data.draw(st.booleans()):
            writer = RecordWriter(N)
            writer.loaded(read(log))
        entries = writer.entries(round_)
        payloads += len(entries) - len({record.id for record in round_})
        log.update(entries)
    assert contents(read(log)) == contents(records)
    assert payloads == sum(record.orig is not None for record in records)


@given(logs(), st.tuples(*[SLOTS] * N))
def test_dropping_removes_the_entries_up_to_the_frontier(
    records: list[Instance], frontier: tuple[int, ...]
) -> None:
    writer = RecordWriter(N)
    log = dict(writer.entries(records))
    writer.truncate(frontier)
    for first, last in dropped_ranges(frontier):
        for key in [key for key in log if first <= key <= last]:
            del log[key]
    kept = [record for record in records if record.id.slot > frontier[record.id.row]]
    assert contents(read(log)) == contents(kept)
    assert len(writer.entries(kept)) == len(kept), "payloads are still there"


# -- one payload for a place (protocol 3.3) -------------------------------------------------------------------


def two_payloads(field: str) -> Instance:
    record = Instance(PLACE, NONE)
    record.orig = put(1, b"k")
    if field == "init":
        record.init = Proposal(put(2, b"k"), NONE, 0)
    else:
        record.value = put(2, b"k")
    return record


@pytest.mark.parametrize("field", ["init", "value"])
@pytest.mark.parametrize(
    "encode", [encode_record, encode_whole, lambda record: RecordWriter(N).entries([record])]
)
def test_two_payloads_in_one_place_are_not_written(encode: Callable[[Instance], object], field: str) -> None:
    with pytest.raises(InvariantError, match=r"1\.5 has two payloads"):
        encode(two_payloads(field))


def test_a_payload_that_was_never_kept_is_not_lost_silently() -> None:
    record = two_payloads("value")
    record.orig = None
    with pytest.raises(InvariantError, match="two payloads"):
        encode_record(record)


def test_an_equal_copy_of_the_payload_is_the_same_payload() -> None:
    record = Instance(PLACE, NONE)
    record.orig, record.value, record.phase = put(1, b"k"), put(1, b"k"), Phase.COMMITTED
    record.init = Proposal(put(1, b"k"), NONE, 0)
    assert record_of(decode_whole(encode_whole(record), decode_access)) == record_of(record)


# -- damage ------------------------------------------------------------------------------------------------


def entries_of(record: Instance) -> dict[bytes, bytes]:
    return dict(RecordWriter(N).entries([record]))


def decided(command: Access = put(1, b"k")) -> Instance:  # noqa: B008 - never changes
    record = Instance(PLACE, NONE)
    record.orig = record.value = command
    record.phase = Phase.COMMITTED
    return record


def test_a_payload_without_its_record_is_refused() -> None:
    entries = entries_of(decided())
    del entries[min(entries)]
    with pytest.raises(StorageError, match=r"payload of instance 1\.5 has no record"):
        read(entries)


@pytest.mark.parametrize("with_init", [False, True])
def test_a_record_without_its_payload_is_refused(with_init: bool) -> None:  # noqa: FBT001 - a parameter
    record = decided()
    if with_init:
        record.init = Proposal(put(1, b"k"), NONE, 0)
        record.value = NOP
    entries = entries_of(record)
    del entries[max(entries)]
    with pytest.raises(StorageError, match=r"record of instance 1\.5 speaks of a payload that is not there"):
        read(entries)


@given(st.dictionaries(st.binary(max_size=12), st.binary(max_size=20), max_size=5))
def test_random_entries_raise_storage_errors_only(entries: dict[bytes, bytes]) -> None:
    raises_storage_errors_only(lambda: read(entries))


@given(instances(), st.randoms(use_true_random=False))
def test_entries_with_any_bytes_changed_raise_storage_errors_only(record: Instance, random: Random) -> None:
    entries = entries_of(record)
    key = random.choice(sorted(entries))
    raises_storage_errors_only(lambda: read({**entries, key: mutated(entries[key], random)}))
    raises_storage_errors_only(lambda: decode_whole(mutated(encode_whole(record), random), decode_access))


@given(instances(), JUNK, st.data())
def test_records_with_any_field_replaced_raise_storage_errors_only(
    record: Instance, junk: object, data: st.DataObject
) -> None:
    entries = entries_of(record)
    key = min(entries)
    raises_storage_errors_only(lambda: read({**entries, key: replaced(entries[key], junk, data)}))
    whole = encode_whole(record)
    raises_storage_errors_only(lambda: decode_whole(replaced(whole, junk, data), decode_access))


@given(JUNK.map(msgpack.packb) | st.binary(max_size=40))
def test_anything_in_the_place_of_an_entry_raises_storage_errors_only(junk: bytes) -> None:
    raises_storage_errors_only(lambda: decode_whole(junk, decode_access))
    raises_storage_errors_only(lambda: read({min(entries_of(decided())): junk}))


@given(COMMANDS)
def test_a_payload_that_cannot_be_read_is_a_storage_error(command: Access) -> None:
    entries = entries_of(decided(command))
    with pytest.raises(StorageError, match=r"1\.5"):
        read({**entries, max(entries): b"no command"})


def mutated(encoded: bytes, random: Random) -> bytes:
    changed = bytearray(encoded)
    for _ in range(random.randint(1, 3)):
        if changed:
            changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed[: random.randint(0, len(changed))] if random.random() < 0.2 else changed)


def replaced(encoded: bytes, junk: object, data: st.DataObject) -> bytes:
    """An array with something else in the place of one of its fields, at whatever depth."""
    fields = msgpack.unpackb(encoded)
    path = fields
    while True:
        index = data.draw(st.integers(0, len(path) - 1))
        if not isinstance(path[index], list) or not path[index] or data.draw(st.booleans()):
            break
        path = path[index]
    path[index] = junk
    changed: bytes = msgpack.packb(fields)
    return changed
