"""What a replica has promised, as its engine holds it: beside a dictionary that forgets nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from epaxos.errors import FormatUnsupported, InvariantError, StorageError, WrongIdentity
from epaxos.protocol.ids import InstanceId, Name, Row, Vector
from epaxos.protocol.log import Instance, Phase
from epaxos.protocol.membership import Configuration
from epaxos.protocol.multipaxos.state import VIEW
from epaxos.storage.engine import Entry
from epaxos.storage.journal import RETIRED_AT_A_TIME, Journal, Loaded
from epaxos.storage.memory_engine import MemoryEngine
from epaxos.storage.records import RecordWriter
from epaxos.version import NEWEST
from harness.commands import decode_access, put
from harness.invariants import record_of
from harness.members import MEMBERS, members
from harness.records import contents, instances, logs
from harness.sendings import PHASES, ROWS, N

SLOTS = st.integers(0, 6)
PLACES = st.builds(InstanceId, ROWS, SLOTS)
INCARNATIONS = st.integers(0, 2**64 - 1)


def test_two_payloads_in_one_place_stop_a_replica_in_memory_too() -> None:
    record = Instance(InstanceId(1, 5), (-1,) * N)
    record.orig, record.value = put(1, b"k"), put(2, b"k")
    with pytest.raises(InvariantError, match="two payloads"):
        Journal(MemoryEngine(), MEMBERS, decode_access, lasting=False).persist([record])


def journal_on(engine: MemoryEngine, configuration: Configuration = MEMBERS) -> Journal:
    """A journal that has been read."""
    journal = Journal(engine, configuration, decode_access)
    journal.load()
    return journal


def test_the_directory_says_of_which_level_an_epoch_is_before_that_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, done = MemoryEngine(), list[object]()
    into_log = engine.write_log

    def write(puts: Sequence[Entry]) -> None:
        done.append("write")
        into_log(puts)

    monkeypatch.setattr(engine, "raise_level", done.append)
    monkeypatch.setattr(engine, "write_log", write)
    journal = journal_on(engine)
    journal.begin(MEMBERS.next(7, level=NEWEST + 1))
    journal.remember("b", 2)
    assert done == [NEWEST, "write", NEWEST + 1, "write"]
    with pytest.raises(
        FormatUnsupported, match=f"of level {NEWEST + 1}; this program knows level {NEWEST}: start"
    ):
        journal_on(engine)


class Model(RuleBasedStateMachine):
    """A journal and what should be in it; at any time the process ends and another begins."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = MemoryEngine()
        self.journal = journal_on(self.engine)
        self.records: dict[InstanceId, Instance] = {}
        self.truncated: Vector = (-1,) * N
        self.incarnations: dict[Name, int] = {}

    @rule(drawn=st.lists(PLACES, max_size=4, unique=True).flatmap(lambda p: st.tuples(*map(instances, p))))
    def persist(self, drawn: tuple[Instance, ...]) -> None:
        """A place keeps the payload that it has (protocol 3.3), and is never written again once dropped."""
        records = []
        for record in drawn:
            before = self.records.get(record.id)
            if record.id.slot <= self.truncated[record.id.row]:
                continue
            if before is not None and before.orig is not None and before.orig != record.orig:
                record.orig = before.orig
                record.value = record.init = None
            records.append(record)
        self.journal.persist(records)
        self.records.update((record.id, record) for record in records)

    @rule(place=PLACES, phase=PHASES)
    def change(self, place: InstanceId, phase: Phase) -> None:
        record = self.records.get(place)
        if record is not None:
            record.phase = phase
            self.journal.persist([record, record])

    @rule(frontier=st.tuples(*[st.integers(-1, 6)] * N))
    def drop(self, frontier: Vector) -> None:
        self.truncated = tuple(map(max, self.truncated, frontier))
        self.journal.drop(self.truncated)
        self.records = {p: record for p, record in self.records.items() if p.slot > self.truncated[p.row]}

    @rule(name=st.sampled_from(MEMBERS.names), incarnation=INCARNATIONS)
    def remember(self, name: Name, incarnation: int) -> None:
        self.journal.remember(name, incarnation)
        self.incarnations[name] = incarnation

    @rule()
    def begin_again(self) -> None:
        self.journal = journal_on(self.engine)
        loaded = self.journal.load()
        assert contents(loaded.records) == contents(list(self.records.values()))
        assert loaded.truncated == self.truncated
        assert loaded.incarnations == self.incarnations

    def teardown(self) -> None:
        self.begin_again()


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=30, stateful_step_count=20)


def test_a_new_journal_is_empty() -> None:
    assert journal_on(MemoryEngine()).load() == Loaded(MEMBERS, [], (-1, -1, -1), {}, {})


@given(logs(), logs())
def test_what_is_kept_never_falls_and_is_the_same_after_a_restart(
    first: list[Instance], second: list[Instance]
) -> None:
    engine = MemoryEngine()
    journal = journal_on(engine)
    assert journal.kept == 0
    counts = []
    for records in (first, second):
        journal.persist(records)
        counts.append(journal.kept)
        assert restarted(engine) == counts[-1]
    journal.drop((5, -1, 2))
    counts.append(journal.kept)
    assert restarted(engine) == counts[-1]
    assert sorted(counts) == counts


def test_a_promise_for_all_instances_counts_as_kept_though_no_row_grows() -> None:
    engine = MemoryEngine()
    led = members(protocol="multipaxos")
    view = Instance(VIEW, (-1, -1))
    counts = []
    for ballot in (0, 4, 4, 7):
        view.bal = ballot
        journal = journal_on(engine, led)
        journal.persist([view])
        counts.append(journal.kept)
        assert restarted(engine, led) == counts[-1]
    assert counts == [1, 5, 5, 8]


def restarted(engine: MemoryEngine, configuration: Configuration = MEMBERS) -> int:
    return journal_on(engine, configuration).kept


def test_what_peers_have_kept_is_noted_in_one_commit() -> None:
    engine = MemoryEngine()
    journal = journal_on(engine)
    journal.remember("b", 7)
    journal.note({"b": 12, "c": 0})
    journal.note({"b": 13, "c": 5})
    assert journal_on(engine).load() == Loaded(MEMBERS, [], (-1, -1, -1), {"b": 7}, {"b": 13, "c": 5})


@given(logs())
def test_a_round_is_one_commit(records: list[Instance]) -> None:
    commits: list[object] = []
    engine = MemoryEngine()
    journal = journal_on(engine)
    engine.write_log = commits.append  # type: ignore[assignment,method-assign]
    journal.persist(records)
    assert len(commits) == 1


def test_a_payload_is_written_once_also_after_a_restart() -> None:
    engine = MemoryEngine()
    record = Instance(InstanceId(0, 0), (-1,) * N)
    record.orig = put(1, b"key" * 1000)
    journal_on(engine).persist([record])
    size = engine.size
    again = journal_on(engine)
    record.phase = Phase.PREACCEPTED
    written: list[object] = []
    engine.write_log = written.extend  # type: ignore[assignment,method-assign]
    again.persist([record])
    assert len(written) == 1
    assert len(msgpack.packb(written)) < size / 10


def test_a_restart_knows_up_to_where_the_log_was_dropped() -> None:
    """Not knowing it, a replica would drop what it keeps for peers as well, who would have to fetch checkpoints."""
    engine = MemoryEngine()
    journal_on(engine).drop((3, -1, 5))
    assert journal_on(engine).load().truncated == (3, -1, 5)


# -- damage ------------------------------------------------------------------------------------------------


def dropped() -> MemoryEngine:
    engine = MemoryEngine()
    journal_on(engine).drop((3, -1, 5))
    return engine


@pytest.mark.parametrize(
    "other",
    [members(5), members(protocol="multipaxos"), MEMBERS._replace(f=0, e=0)],
)
def test_promises_of_another_configuration_are_refused(other: Configuration) -> None:
    text = r"epoch 0 was begun by alpha, bravo, charlie \(f 1, e 1, protocol 'epaxos'\)"
    with pytest.raises(WrongIdentity, match=text):
        journal_on(dropped(), other)


def test_thresholds_and_protocol_of_another_epoch_may_be_others() -> None:
    """They were changed there, and the file says how the cluster began."""
    engine = MemoryEngine()
    later = MEMBERS.next(7, 1, 0, protocol="multipaxos")
    journal_on(engine, later).drop((3, 5))
    assert journal_on(engine).load().configuration == later


def test_each_entry_bears_its_epoch() -> None:
    """Two epochs have the same places, and nothing of the one may ever be taken for the other's (protocol 6)."""
    engine = MemoryEngine()
    journal = journal_on(engine, members(epoch=258))
    journal.persist([Instance(InstanceId(0, 0), (-1,) * N)])
    journal.drop((0, -1, -1))
    journal.remember("b", 7)
    assert {key[:4] for key, _ in engine.scan_log()} == {b"\0\0\1\2"}
    journal_on(engine, members(epoch=258))


def test_entries_of_an_epoch_without_its_configuration_are_refused() -> None:
    engine = dropped()
    later = RecordWriter(N, epoch=1).entries([Instance(InstanceId(0, 0), (-1,) * N)])
    engine.write_log(later)
    with pytest.raises(StorageError, match=r"does not say in which configuration"):
        journal_on(engine)
    engine = MemoryEngine()
    engine.write_log(later)
    with pytest.raises(StorageError, match="does not say in which configuration"):
        journal_on(engine)


def test_an_instance_of_a_cluster_of_another_size_is_refused() -> None:
    engine = MemoryEngine()
    journal_on(engine).persist([Instance(InstanceId(2, 0), (-1,) * 5)])
    with pytest.raises(StorageError, match=r"instance 2\.0 is of a cluster of another size"):
        journal_on(engine)


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        7,
        [0, "epaxos", ["a", "b", "c"], 1],
        [0, "epaxos", ["a", "b", "a"], 1, 1],
        [0, "epaxos", ["a", "b", 3], 1, 1],
        [0, "epaxos", [], 0, 0],
        [0, "epaxos", ["a", "b", "c"], 2, 1],
        [-1, "epaxos", ["a", "b", "c"], 1, 1],
        [2**32, "epaxos", ["a", "b", "c"], 1, 1],
        [True, "epaxos", ["a", "b", "c"], 1, 1],
        [0, "paxos", ["a", "b", "c"], 1, 1],
        [0, "epaxos", ["a", "b", "c"], 1, 1, 0, NEWEST, [], [[7, "", 0, 0, 0]]],
        [0, "epaxos", ["a", "b", "c#7"], 1, 1, 0, NEWEST, [], []],
    ],
)
def test_a_configuration_that_cannot_be_is_refused(fields: object) -> None:
    engine = MemoryEngine()
    journal_on(engine)
    [(key, _)] = engine.scan_log()
    rest = [0, NEWEST, [], []]
    engine.write_log(
        [(key, msgpack.packb(fields + rest if isinstance(fields, list) and len(fields) == 5 else fields))]
    )
    with pytest.raises(StorageError, match="does not say in which configuration"):
        journal_on(engine)


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x93\x01\x02", *map(msgpack.packb, (7, [1, 2, None], {}))])
def test_a_frontier_that_cannot_be_read_is_refused(value: bytes) -> None:
    engine = dropped()
    key, _ = next(iter(engine.scan_log()))
    engine.write_log([(key, value)])
    with pytest.raises(StorageError, match=r"truncated|cannot be read"):
        journal_on(engine)


@given(st.dictionaries(st.binary(min_size=1, max_size=12), st.binary(max_size=12), max_size=4))
def test_random_entries_raise_storage_errors_only(entries: dict[bytes, bytes]) -> None:
    engine = MemoryEngine()
    engine.write_log(list(entries.items()) + [(b"\xff\xff" + key, value) for key, value in entries.items()])
    try:
        journal_on(engine).load()
    except StorageError:
        return


def test_what_is_written_is_what_stood_in_the_record_at_that_moment() -> None:
    """The core goes on changing its instances: a journal may not keep them."""
    engine = MemoryEngine()
    record = Instance(InstanceId(0, 0), (-1,) * N)
    journal_on(engine).persist([record])
    before = record_of(record)
    record.phase = Phase.ACCEPTED
    [loaded] = journal_on(engine).load().records
    assert record_of(loaded) == before


def decided(row: Row, slot: int) -> Instance:
    record = Instance(InstanceId(row, slot), (-1,) * N)
    record.orig = record.value = put(1, b"k")
    record.phase = Phase.COMMITTED
    return record


def test_the_next_epoch_begins_with_its_first_record_and_counts_on() -> None:
    engine, following = MemoryEngine(), MEMBERS.next(7)
    journal = journal_on(engine)
    journal.remember("b", 9)
    journal.persist([decided(0, 5)])
    kept = journal.kept
    assert journal.begin(following) is None
    assert journal_on(engine).load().then is None
    journal.persist([decided(0, 0)])
    written = [key for key, _ in engine.scan_log() if key[:4] == b"\0\0\0\1"]
    assert len(written) > len(RecordWriter(N, epoch=1).entries([decided(0, 0)])), "with who takes part in it"
    again = Journal(engine, MEMBERS, decode_access)
    loaded = again.load()
    assert again.kept == kept
    assert again.unreached
    assert loaded.then is not None
    assert [record.id.slot for record in loaded.then.records] == [0]
    assert loaded.then.incarnations == {"b": 9}
    assert again.begin(following) == loaded.then
    assert not again.unreached
    assert again.kept == journal.kept > kept


def test_an_epoch_that_is_over_is_dropped_in_slices_and_a_restart_may_come_between() -> None:
    engine, third = MemoryEngine(), MEMBERS.next(1).next(2)
    journal = journal_on(engine)
    journal.persist([decided(0, slot) for slot in range(2 * RETIRED_AT_A_TIME)])
    journal.begin(third)
    assert journal.retire()
    journal = journal_on(engine)
    assert len(journal.load().records) == RETIRED_AT_A_TIME
    journal.begin(third)
    steps = 1
    while journal.retire():
        steps += 1
    assert steps > 1
    assert journal_on(engine).load() == Loaded(third, [], (-1,) * N, {}, {}, 2 * RETIRED_AT_A_TIME)
