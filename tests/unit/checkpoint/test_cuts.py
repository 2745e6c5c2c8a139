"""Checkpoints written while execution goes on, and merged: beside replicas that execute everything themselves.

Each test runs many random histories from seeds; the slices of a checkpoint are as small as they can be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from random import Random

import pytest

from epaxos.checkpoint.fetched import Fetched
from epaxos.checkpoint.rows import INDEX, Meta, meta_row
from epaxos.checkpoint.writer import CheckpointWriter
from epaxos.errors import StorageError
from epaxos.protocol.contract import Propose
from epaxos.protocol.epaxos.checkpoint import ComparedHistories
from epaxos.protocol.epaxos.conflicts import ALL
from epaxos.protocol.ids import InstanceId, Vector
from epaxos.protocol.log import NOP
from epaxos.statemachine.batch import Payload, make_collection
from harness.blocks import recall
from harness.lone import KEYS, NONE, Decision, Lone, N, random_history, replayed, sessions_of
from harness.members import MEMBERS, members

pytestmark = pytest.mark.slow

RUNS = 19
NAMES = [*KEYS, ALL]
CELLS = [(row, key) for row in range(N) for key in NAMES]


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    take_slices_of(monkeypatch, 2)


def take_slices_of(monkeypatch: pytest.MonkeyPatch, size: int, growth: int = 1) -> None:
    """Have all writers that are made now write so many keys in a slice, and sift their blocks each time or seldom."""
    monkeypatch.setattr(CheckpointWriter.__init__, "__defaults__", (size,))
    monkeypatch.setattr(CheckpointWriter.__init__, "__kwdefaults__", {"growth": growth, "lasting": True})


class Moment:
    """What a replica has come to at one moment."""

    def __init__(self, lone: Lone) -> None:
        self.executed = lone.core.status().executed
        self.above = lone.core.state.executor.above
        self.applied = list(lone.applied)
        self.index = executed_index(lone)


def executed_index(lone: Lone) -> dict[tuple[int, bytes], tuple[int, int]]:
    """Per row and key the highest slots that read and that write it, of all that has executed and is no no-op.

    Collections, and what is at or below the base of one, count for all keys.
    """
    found: dict[tuple[int, bytes], tuple[int, int]] = dict.fromkeys(CELLS, (-1, -1))
    base = NONE
    for decided in chain.from_iterable(lone.components):
        if decided.value is NOP:
            continue
        assert isinstance(decided.value, Payload)
        row, slot = decided.id
        for key in decided.value.reads:
            found[row, key] = (max(slot, found[row, key][0]), found[row, key][1])
        for key in (*decided.value.writes, *([ALL] if decided.value.writes else ())):
            found[row, key] = (found[row, key][0], max(slot, found[row, key][1]))
        if decided.value.reads_all:
            found[row, ALL] = (max(slot, found[row, ALL][0]), found[row, ALL][1])
        if decided.value.base is not None or decided.value.writes_all:
            here = (slot if row == own else -1 for own in range(N))
            base = tuple(map(max, base, decided.value.base or NONE, here))
    return raised(found, base)


def raised(
    index: dict[tuple[int, bytes], tuple[int, int]], base: Vector
) -> dict[tuple[int, bytes], tuple[int, int]]:
    """What an index says together with the base that stands beside it."""
    return {
        (row, key): (max(base[row], read), max(base[row], written))
        for (row, key), (read, written) in index.items()
    }


def index_in(fetched: Fetched) -> dict[tuple[int, bytes], tuple[int, int]]:
    """The same as a checkpoint has it."""
    found: dict[tuple[int, bytes], tuple[int, int]] = dict.fromkeys(CELLS, (-1, -1))
    for column, keys, slots in fetched.index():
        for place, slot in zip(((column % N, key) for key in keys), slots, strict=True):
            if 2 * N <= column < 3 * N:
                found[place] = max(slot, found[place][0]), found[place][1]
            elif column >= 3 * N:
                found[place] = found[place][0], max(slot, found[place][1])
    return raised(found, fetched.vectors[3])


def recalled(lone: Lone, part: int) -> dict[tuple[int, bytes], tuple[int, int]]:
    """The same as a core remembers it; part 0 is what is known, part 1 what has executed."""
    columns = recall(lone.core, NAMES)[2 * N * part : 2 * N * (part + 1)]
    index = {
        (row, key): (columns[row][at], columns[N + row][at])
        for row in range(N)
        for at, key in enumerate(NAMES)
    }
    return raised(index, lone.core.vectors()[2 * part + 1])


def tell(random: Random, lone: Lone, decisions: list[Decision]) -> None:
    """Let a replica learn decisions, of some of them the payload first, in whatever order."""
    for decision in random.sample(decisions, len(decisions)):
        if random.random() < 0.3:
            lone.take(decision.pre_accept)
        lone.take(decision.commit)


def deliveries(random: Random, decisions: list[Decision]) -> Iterator[Decision]:
    yield from random.sample(decisions, len(decisions))


def check_holds(fetched: Fetched, moment: Moment) -> None:
    """A checkpoint is of exactly this moment."""
    assert fetched.executed == moment.executed
    assert sorted(entry.id for entry in fetched.entries) == moment.above
    assert sorted(fetched.sessions, key=str) == sessions_of(replayed(moment.applied))
    assert dict(fetched.values()) == replayed(moment.applied).digest_source().data


@pytest.mark.parametrize("seed", range(3))
def test_a_checkpoint_is_of_the_moment_at_which_it_was_begun(seed: int) -> None:
    random = Random(seed)
    above = slices = prepared = 0
    for _ in range(RUNS):
        decisions = random_history(random, random.randint(1, 30))
        lone = Lone()
        moment = None
        for decision in deliveries(random, decisions):
            if moment is None and random.random() < 0.3:
                prepared += lone.writer.prepare()
            if moment is None and random.random() < 0.2:
                moment = Moment(lone)
                lone.writer.begin()
            if random.random() < 0.3:
                lone.take(decision.pre_accept)
            lone.take(decision.commit)
            while moment is not None and random.random() < 0.7:
                slices += 1
                if lone.writer.step():
                    lone.commit()
                    check_holds(lone.read(), moment)
                    check_restart(lone, moment)
                    above += bool(moment.above)
                    moment = None
    assert above > 5
    assert slices > 100
    assert prepared > 10


def test_each_of_many_checkpoints_is_of_its_moment() -> None:
    """Their blocks are sifted again and again, while much executes."""
    sifted = 0
    for seed in range(6):
        random = Random(seed)
        lone = Lone()
        engine = lone.engine
        lone.writer = CheckpointWriter(
            lone.core,
            lone.machine,
            MEMBERS,
            engine.stage_state,
            engine.snapshot_state,
            size=1 + seed,
            growth=1,
        )
        moment, blocks = Moment(lone), set(lone.read().blocks)
        lone.writer.begin()
        for decision in deliveries(random, random_history(random, 60)):
            lone.take(decision.commit)
            while random.random() < 0.8:
                if lone.writer.step():
                    lone.commit()
                    found = lone.read()
                    check_holds(found, moment)
                    assert index_in(found) == moment.index
                    sifted += not blocks <= set(found.blocks)
                    moment, blocks = Moment(lone), set(found.blocks)
                    lone.writer.begin()
    assert sifted > 2


def test_what_is_read_off_is_what_gathering_comes_to() -> None:
    """Of what is annulled, undecided, or below a base that has not executed, nothing is read off."""
    met = Counter[str]()
    for seed in range(12):
        random = Random(seed)
        lone = Lone()
        held: list[Decision] = []
        for decision in random_history(random, 40):
            lone.take(decision.pre_accept)
            if random.random() < (0.5 if decision.proposed.base is not None else 0.05):
                held.append(decision)
            else:
                lone.take(decision.commit)
            if random.random() < 0.3:
                while random.random() < 0.98 and lone.writer.prepare():
                    pass
                moment = Moment(lone)
                lone.checkpoint()
                check_holds(lone.read(), moment)
                assert index_in(lone.read()) == moment.index
                assert recalled(lone, 1) == moment.index
                while held:
                    lone.take(held.pop().commit)
        met.update(lone.core.coverage)
    assert met["cut read off what is known"] > 10
    assert met["cut read off in vain"] > 10


def test_what_does_not_last_is_whole_and_of_its_moment_if_a_peer_asks_and_nothing_else() -> None:
    """Cuts that are passed over, or taken when a peer's was merged, are no part of it; who takes it knows all."""
    for seed in range(12):
        random = Random(seed)
        decisions = random_history(random, 40)
        lone, straight = Lone(lasting=False), Lone()
        tell(random, straight, decisions)
        moment, asked = Moment(lone), False
        lone.writer.begin(asked=asked)
        for decision in deliveries(random, decisions):
            if random.random() < 0.3:
                lone.take(decision.pre_accept)
            lone.take(decision.commit)
            while random.random() < 0.8:
                if lone.writer.step():
                    lone.commit()
                    found = lone.read()
                    assert found.complete == asked
                    if asked:
                        check_holds(found, moment)
                        assert index_in(found) == moment.index
                    moment, asked = Moment(lone), random.random() < 0.5
                    lone.writer.begin(asked=asked)
        while not lone.writer.step():
            pass
        lone.commit()
        peer = Lone(lasting=False)
        tell(random, peer, random.sample(decisions, 20))
        for theirs, mine in ((lone, peer), (peer, lone)):
            theirs.checkpoint()
            fetched = theirs.read()
            merged(random, mine, fetched, [])
            mine.adopt(fetched)
            assert not mine.read().complete, "what a peer's was made into is not the whole"
        tell(random, peer, decisions)
        assert peer.digest == lone.digest == straight.digest
        for part in range(2):
            check_remembers(peer, straight, part)


def check_restart(lone: Lone, moment: Moment) -> None:
    """Another one that begins with what is durable has what had executed then, and executes the rest again."""
    status = lone.core.status()
    loaded = Lone(lone.engine)
    # The rest of what this replica has executed is in the log, so it has executed once more.
    assert loaded.digest == lone.digest
    assert len(loaded.applied) == len(lone.applied) - len(moment.applied)
    assert loaded.core.status()._replace(remembered=0) == status._replace(remembered=0)
    assert loaded.core.state.executor.above == lone.core.state.executor.above
    assert recalled(loaded, 0) == recalled(lone, 0), "a payload was forgotten, or one more is known"
    assert recalled(loaded, 1) == moment.index


def test_a_cut_that_nobody_commits_changes_nothing_durable() -> None:
    random = Random(0)
    lone = Lone()
    lone.checkpoint()
    tell(random, lone, random_history(random, 10))
    before = lone.read()
    lone.writer.begin()
    while not lone.writer.step():
        pass
    after = lone.read()
    assert (after.executed, after.sessions, dict(after.values())) == (before.executed, [], {})
    assert Lone(lone.engine).digest == lone.digest


def test_nothing_is_written_again_that_has_not_changed() -> None:
    random = Random(0)
    lone = Lone()
    tell(random, lone, random_history(random, 20))
    lone.checkpoint()
    lone.checkpoint()  # the first has written entries that it has made superfluous itself
    staged: list[object] = []
    again = CheckpointWriter(lone.core, lone.machine, MEMBERS, staged.extend, lone.engine.snapshot_state)
    again.loaded(lone.read())
    again.begin()
    assert again.step()
    assert staged == [
        meta_row(Meta(MEMBERS, lone.writer.executed, lone.core.vectors(), lone.machine.generation))
    ]


def test_a_value_that_has_gone_is_gone_in_the_checkpoint() -> None:
    random = Random(1)
    gone = 0
    for _ in range(RUNS):
        lone = Lone()
        for decision in random_history(random, 12):
            lone.take(decision.commit)
            lone.checkpoint()
            found = lone.read()
            assert dict(found.values()) == lone.machine.digest_source().data
            gone += len({key for _, keys, _ in found.index() for key in keys}) > len(dict(found.values()))
    assert gone > 20


def test_two_collections_after_all_has_executed_nothing_is_remembered_of_any_key() -> None:
    """Neither in memory nor on the disk."""
    random = Random(0)
    for _ in range(RUNS):
        decisions = random_history(random, random.randint(10, 40))
        lone = Lone()
        lone.writer = CheckpointWriter(
            lone.core, lone.machine, MEMBERS, lone.engine.stage_state, lone.engine.snapshot_state, size=1
        )
        for decision in deliveries(random, decisions):
            lone.take(decision.pre_accept)
            lone.take(decision.commit)
            if random.random() < 0.2:
                lone.checkpoint()
        for generation in range(3):
            before = lone.core.status().executed
            vectors = lone.core.vectors()
            place = InstanceId(0, before[0] + 1)
            collection = make_collection(generation, before)
            deps = tuple(map(max, vectors[0], vectors[1], before))
            lone.take(Decision(place, collection, collection, deps, 0).commit)
            lone.checkpoint()
        assert lone.core.status().remembered == 0
        found = lone.read()
        assert sum(size for row, size in found.blocks.items() if row.startswith(INDEX)) == 0
        assert Lone(lone.engine).core.status().remembered == 0
        assert dict(found.values()) == lone.machine.digest_source().data


# -- a peer's checkpoint -----------------------------------------------------------------------------------


def merged(random: Random, mine: Lone, fetched: Fetched, meanwhile: list[Decision]) -> None:
    """Merge a checkpoint while messages keep coming, which execute nothing."""
    mine.begin_adopting(fetched)
    applied = len(mine.applied)
    while not mine.writer.step():
        if meanwhile and random.random() < 0.5:
            decision = meanwhile.pop()
            mine.take(decision.pre_accept if random.random() < 0.3 else decision.commit)
    assert len(mine.applied) == applied, "something has executed while the state was of two moments"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("crash", [None, "before", "after"])
def test_two_histories_that_were_merged_are_one(
    seed: int, crash: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either may be ahead in any row and in any key; the end is the state of one who executed everything.

    The crash falls before or after the adoption, which is after the checkpoint of it was committed. What both had
    written before is sifted then.
    """
    random = Random(seed)
    ahead = entries = sifted = 0
    for _ in range(RUNS):
        take_slices_of(monkeypatch, random.randint(1, 16))
        decisions = random_history(random, random.randint(1, 30))
        straight = Lone()
        tell(random, straight, decisions)
        mine, theirs = Lone(), Lone()
        tell(random, theirs, random.sample(decisions, random.randint(0, len(decisions))))
        theirs.checkpoint()
        known = random.sample(decisions, random.randint(0, len(decisions)))
        tell(random, mine, known[: len(known) // 2])
        if random.random() < 0.5:
            mine.checkpoint()
        tell(random, mine, known[len(known) // 2 :])
        fetched = theirs.read()
        before = mine.core.status().executed
        ahead += any(our > their for our, their in zip(before, fetched.executed, strict=True))
        entries += bool(fetched.entries)
        merged(random, mine, fetched, decisions[: random.randint(0, 4)])
        sifted += mine.writer.sifted
        if crash != "before":
            mine.adopt(fetched)
        else:
            mine.engine.commit_state()
        if crash is not None:
            mine = Lone(mine.engine)
        check_union(mine, theirs, before, fetched)
        tell(random, mine, decisions)
        assert mine.digest == straight.digest
        assert mine.core.status().executed == straight.core.status().executed
        for part in range(2):
            check_remembers(mine, straight, part)
        mine.checkpoint()
        assert Lone(mine.engine).digest == straight.digest
    assert ahead > 1
    assert entries > 1
    assert sifted > 1


def test_a_merge_compares_some_keys_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing executes, and nothing is sent, while a step lasts."""
    seen = []
    later = ComparedHistories.later

    def noted(comparison: ComparedHistories, keys: Sequence[bytes]) -> Sequence[bool]:
        seen.append(list(keys))
        return later(comparison, keys)

    monkeypatch.setattr(ComparedHistories, "later", noted)
    mine, theirs = Lone(), Lone()
    decisions = random_history(Random(3), 40)
    tell(Random(0), theirs, decisions)
    theirs.checkpoint()
    tell(Random(1), mine, decisions[:20])
    mine.begin_adopting(theirs.read())
    before = 0
    while not mine.writer.step():
        assert len(seen) <= before + 1
        before = len(seen)
    assert 1 < max(map(len, seen)) <= 2


def check_union(mine: Lone, theirs: Lone, before: Vector, fetched: Fetched) -> None:
    """What has executed at either has executed here."""
    executor = mine.core.state.executor
    assert all(executed >= slot for executed, slot in zip(executor.executed, before, strict=True))
    assert all(executed >= slot for executed, slot in zip(executor.executed, fetched.executed, strict=True))
    assert all(executor.has_executed(place) for place in theirs.core.state.executor.above)
    for row, slot in enumerate(mine.core.status().truncated):
        assert slot <= executor.executed[row]


def check_remembers(mine: Lone, straight: Lone, part: int) -> None:
    """At least what one knows who has executed everything: of what was annulled, it need not know the payload."""
    if part == 1:
        mine.checkpoint()
        straight.checkpoint()
    ours, theirs = recalled(mine, part), recalled(straight, part)
    if part == 1:
        assert ours == theirs == executed_index(straight)
    else:
        executed = executed_index(straight)
        assert all(ours[cell][0] >= executed[cell][0] for cell in CELLS)
        assert all(ours[cell][1] >= executed[cell][1] for cell in CELLS)


@pytest.mark.parametrize("seed", range(3))
def test_a_payload_once_known_is_covered_for_ever(seed: int) -> None:
    """Protocol 2: through no-op, restart, truncation and catching up."""
    random = Random(seed)
    for _ in range(RUNS):
        decisions = random_history(random, random.randint(4, 30))
        mine, theirs = Lone(), Lone()
        heard = random.sample(decisions, len(decisions) // 2)
        for decision in heard:
            mine.take(decision.pre_accept)
        tell(random, theirs, random.sample(decisions, random.randint(0, len(decisions))))
        for _ in range(3):
            kind = random.randrange(4)
            if kind == 0:
                mine.checkpoint()
            elif kind == 1:
                mine = Lone(mine.engine)
            elif kind == 2:
                tell(random, mine, random.sample(decisions, len(decisions) // 3))
            else:
                theirs.checkpoint()
                fetched = theirs.read()
                merged(random, mine, fetched, [])
                mine.adopt(fetched)
        for decision in deliveries(random, decisions):
            mine.take(decision.commit)
        mine.checkpoint()
        assert not any(mine.core.state.logs.rows), "only the checkpoint can know of them now"
        mine = Lone(mine.engine)
        for decision in heard:
            deps = mine.core.state.conflicts.deps(decision.proposed)
            assert writes_nothing(decision) or deps[decision.id.row] >= decision.id.slot


def writes_nothing(decision: Decision) -> bool:
    """Who only reads does not conflict with itself."""
    return not decision.proposed.writes


def test_an_empty_checkpoint_is_one() -> None:
    mine, theirs = Lone(), Lone()
    theirs.checkpoint()
    fetched = theirs.read()
    assert (fetched.complete, fetched.executed) == (True, NONE)
    merged(Random(0), mine, fetched, [])
    mine.adopt(fetched)
    assert mine.core.status().executed == NONE


def test_a_place_of_the_own_row_is_not_used_again_after_a_checkpoint_was_adopted() -> None:
    """A replica may have lost its own decisions to truncation at its peers: its slots are used up all the same."""
    mine, theirs = Lone(), Lone()
    decision = random_history(Random(0), 1)[0]
    for slot in range(3):
        theirs.take(decision._replace(id=InstanceId(2, slot), value=NOP, deps=NONE, seq=0).commit)
    theirs.checkpoint()
    fetched = theirs.read()
    merged(Random(0), mine, fetched, [])
    mine.adopt(fetched)
    for again in (mine, Lone(mine.engine)):
        effects = again.core.on_event(Propose(decision.proposed), 0.0)
        assert [record.id for record in effects.records] == [InstanceId(2, 3)]


def test_rows_of_a_cluster_of_another_size_are_refused() -> None:
    lone = Lone()
    tell(Random(0), lone, random_history(Random(0), 5))
    lone.checkpoint()
    fetched = Fetched(members(5), lambda _: random_history(Random(0), 1)[0].proposed)
    with pytest.raises(StorageError):
        fetched.take(lone.engine.snapshot_state().scan(b"", 10**6))
