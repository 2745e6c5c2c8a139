"""What users of transactions call, what goes wrong with resources and registers, and what bad input gets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from epaxos.commit import (
    AsyncManager,
    AsyncRegisterVotes,
    Ended,
    Manager,
    Outcome,
    RegisterVotes,
    Transaction,
    Undecided,
    Vote,
)
from epaxos.errors import Busy, NoAnswer, Refused
from epaxos.protocol.commit import key_of
from epaxos.registers import MemoryNetwork, MemoryStore, Node


class MemoryVotes:
    """Registers that fail as they are told: `failing` are raised first, before or after the effect."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.before: list[Exception] = []
        self.after: list[Exception] = []
        self.firsts: Counter[bytes] = Counter()

    def swap(self, key: bytes, expected: bytes | None, new: bytes, *, first: bool = False) -> bytes | None:
        self.firsts[key] += first
        self.fail(self.before)
        if self.values.get(key) == expected:
            self.values[key] = new
        self.fail(self.after)
        return self.values.get(key)

    def read(self, key: bytes) -> bytes | None:
        self.fail(self.before)
        return self.values.get(key)

    def remove(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            self.values.pop(key, None)

    @staticmethod
    def fail(errors: list[Exception]) -> None:
        if errors:
            raise errors.pop(0)


class Box:
    """A resource in memory; what is in `raises` fails once."""

    def __init__(self, name: str, vote: Vote = Vote.PREPARED) -> None:
        self.name = name
        self.vote = vote
        self.raises: list[str] = []
        self.calls: list[str] = []

    def prepare(self, transaction: Transaction) -> Vote:
        self.transaction = transaction
        self.note("prepare")
        return self.vote

    def commit(self, transaction: Transaction) -> None:
        assert transaction == self.transaction
        self.note("commit")

    def abort(self, transaction: Transaction) -> None:
        assert transaction.id
        self.note("abort")

    def note(self, call: str) -> None:
        self.calls.append(call)
        if call in self.raises:
            self.raises.remove(call)
            raise OSError(f"cannot {call}")


class Alone(Box):
    def commit_alone(self, transaction: Transaction) -> bool:
        assert transaction.resources == (self.name,)
        self.note("commit alone")
        return self.vote is Vote.PREPARED


@pytest.fixture
def votes() -> MemoryVotes:
    return MemoryVotes()


@pytest.fixture
def manager(votes: MemoryVotes) -> Iterator[Manager]:
    with Manager(votes, patience=0.03, timeout=0.1) as manager:
        yield manager


@pytest.mark.parametrize(
    ("others", "outcome", "calls"),
    [
        ((Vote.PREPARED, Vote.PREPARED), Outcome.COMMITTED, ["prepare", "commit"]),
        ((Vote.PREPARED, Vote.ABORTED), Outcome.ABORTED, ["prepare", "abort"]),
        ((Vote.PREPARED, Vote.READ), Outcome.COMMITTED, ["prepare", "commit"]),
        ((), Outcome.COMMITTED, ["prepare", "commit"]),
    ],
)
def test_all_commit_or_none(
    manager: Manager, votes: MemoryVotes, others: tuple[Vote, ...], outcome: Outcome, calls: list[str]
) -> None:
    first, *rest = boxes = [Box("a"), *(Box(f"b{place}", vote) for place, vote in enumerate(others))]
    ended = manager.run(boxes, b"order 17")
    assert (ended.outcome, ended.untold, first.calls) == (outcome, (), calls)
    assert first.transaction.resources == tuple(box.name for box in boxes)
    assert first.transaction.meta == b"order 17"
    assert all("commit" not in box.calls for box in rest if box.vote is not Vote.PREPARED)
    assert votes.values == {}
    assert manager.counts[outcome.value] == 1


def test_who_has_only_read_is_not_told(manager: Manager) -> None:
    boxes = [Box("a", Vote.READ), Box("b", Vote.READ)]
    assert manager.run(boxes).outcome is Outcome.COMMITTED
    assert [box.calls for box in boxes] == [["prepare"], ["prepare"]]


@pytest.mark.parametrize("vote", [Vote.PREPARED, Vote.ABORTED])
def test_one_alone_needs_no_votes(manager: Manager, votes: MemoryVotes, vote: Vote) -> None:
    votes.before = [NoAnswer("the registers are asked")]
    alone = Alone("a", vote)
    wanted = Outcome.COMMITTED if vote is Vote.PREPARED else Outcome.ABORTED
    assert manager.run([alone]).outcome is wanted
    assert alone.calls == ["commit alone"]
    votes.before.clear()
    beside = Alone("a")
    manager.run([beside, Box("b")])
    assert beside.calls == ["prepare", "commit"]


def test_failing_to_prepare_is_a_vote(manager: Manager, caplog: pytest.LogCaptureFixture) -> None:
    broken, other = Box("a"), Box("b")
    broken.raises = ["prepare"]
    assert manager.run([broken, other]).outcome is Outcome.ABORTED
    assert (broken.calls, other.calls) == (["prepare", "abort"], ["prepare", "abort"])
    assert "cannot prepare" in caplog.text
    broken.vote = True  # type: ignore[assignment]  # what somebody may well return
    assert manager.run([broken, other]).outcome is Outcome.ABORTED
    assert "prepare returned True, not a Vote" in caplog.text
    assert manager.counts["failed to prepare"] == 2


def test_who_fails_to_hear_is_told_again(manager: Manager, votes: MemoryVotes) -> None:
    deaf, other = Box("a"), Box("b")
    deaf.raises = ["commit"]
    ended = manager.run([deaf, other])
    assert (ended.outcome, ended.untold) == (Outcome.COMMITTED, ("a",))
    assert votes.values
    assert manager.recover(ended.transaction, [deaf]) == Ended(ended.transaction, Outcome.COMMITTED)
    assert deaf.calls == ["prepare", "commit", "commit"]
    assert other.calls == ["prepare", "commit"]
    assert votes.values == {}
    assert manager.recover(ended.transaction, [other]).outcome is Outcome.FORGOTTEN
    assert other.calls == ["prepare", "commit", "abort"]


def test_what_is_tried_again(manager: Manager, votes: MemoryVotes) -> None:
    votes.before = [Busy("full")]
    votes.after = []
    assert manager.run([Box("a"), Box("b")]).outcome is Outcome.COMMITTED
    transaction = manager.begin(["a"])
    votes.after = [NoAnswer("lost")]
    manager.vote(transaction, Box("a"), first=True)
    assert manager.recover(transaction).outcome is Outcome.COMMITTED
    assert manager.counts["tried again"] == 2
    assert votes.firsts[key_of(transaction.id, "a")] == 1
    assert not votes.firsts[key_of(transaction.id)]


def test_to_begin_is_not_tried_again_in_doubt(manager: Manager, votes: MemoryVotes) -> None:
    votes.after = [NoAnswer("lost")]
    box = Box("a")
    with pytest.raises(Undecided, match="is not decided here: lost") as raised:
        manager.run([box])
    assert box.calls == []
    assert manager.recover(raised.value.transaction, [box]).outcome is Outcome.ABORTED
    assert votes.values == {}


def test_without_a_majority_it_is_undecided_and_later_recovered(manager: Manager, votes: MemoryVotes) -> None:
    boxes = [Box("a"), Box("b")]
    transaction = manager.begin(["a", "b"])
    votes.before = [Busy("no quorum")] * 100
    with pytest.raises(Undecided, match="no quorum") as raised:
        manager.vote(transaction, boxes[0])
    assert raised.value.transaction == transaction
    assert manager.counts["undecided"] == 1
    votes.before.clear()
    manager.vote(transaction, boxes[1])
    assert manager.recover(transaction, boxes).outcome is Outcome.ABORTED
    assert [box.calls for box in boxes] == [["prepare", "abort"]] * 2


BEGIN: dict[str, Callable[[Manager, list[str]], object]] = {
    "run": lambda manager, names: manager.run([Box(name) for name in names]),
    "begin": lambda manager, names: manager.begin(names),
    "vote": lambda manager, names: manager.vote(Transaction("t", tuple(names)), Box("a")),
    "recover": lambda manager, names: manager.recover(Transaction("t", tuple(names))),
}


@pytest.mark.parametrize("call", BEGIN)
@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], r"transaction \w+ names no resource; it needs at least one"),
        (["a", "b", "a"], r"transaction \w+ names a twice; allowed: each resource once"),
        (["a/b"], r"'a/b' is no name of a resource or transaction; allowed: 1 to 100 of A-Z a-z 0-9 \. _ -"),
        (["a" * 101], "is no name"),
    ],
)
def test_transactions_that_are_none(manager: Manager, call: str, names: list[str], text: str) -> None:
    with pytest.raises(Refused, match=text) as raised:
        BEGIN[call](manager, names)
    assert "\n" not in str(raised.value)


def test_what_does_not_belong_together(manager: Manager, votes: MemoryVotes) -> None:
    transaction = manager.begin(["a", "b"])
    with pytest.raises(Refused, match=r"c: no resource of transaction .*, which names a, b"):
        manager.recover(transaction, [Box("c")])
    with pytest.raises(Refused, match="is another one, of a, b"):
        manager.recover(transaction._replace(resources=("a",)))
    votes.values[key_of(transaction.id, "a")] = b"yes"
    with pytest.raises(Refused, match=r"the register .* holds b'yes', which is no vote"):
        manager.recover(transaction)
    with pytest.raises(ValueError, match="it must be a number of seconds above 0"):
        Manager(votes, patience=0)


def test_over_registers_anybody_recovers_at_the_same_time() -> None:
    network = MemoryNetwork()
    with ExitStack() as stack:
        nodes = [stack.enter_context(Node(id_, MemoryStore(), network.transport(id_))) for id_ in range(3)]
        for node in nodes:
            network.serve(node.id, node.handle)
            node.connect(0, 1, 2)
        managers = [stack.enter_context(Manager(RegisterVotes(node), patience=0.05)) for node in nodes]
        boxes = [Box("a"), Box("b"), Box("c")]
        network.down = {2}
        assert managers[0].run(boxes).outcome is Outcome.COMMITTED
        network.down = set()
        transaction = managers[0].begin(["a", "b", "c"])
        managers[0].vote(transaction, boxes[0])
        with ThreadPoolExecutor() as threads:
            ends = list(
                threads.map(
                    lambda pair: pair[0].recover(transaction, [pair[1]]), zip(managers, boxes, strict=True)
                )
            )
        assert {ended.outcome for ended in ends} <= {Outcome.ABORTED, Outcome.FORGOTTEN}
        assert managers[1].recover(transaction).outcome is Outcome.FORGOTTEN
        assert "abort" in boxes[0].calls
        assert nodes[0].collect().removed == 8
        assert managers[0].run([Box("d"), Box("e")]).outcome is Outcome.COMMITTED  # below what is removed


# -- for asyncio -----------------------------------------------------------------------------------------------------


class AsyncVotesOf:
    """The same registers, which let others run first."""

    def __init__(self, votes: MemoryVotes) -> None:
        self._votes = votes

    async def swap(
        self, key: bytes, expected: bytes | None, new: bytes, *, first: bool = False
    ) -> bytes | None:
        await asyncio.sleep(0)
        return self._votes.swap(key, expected, new, first=first)

    async def read(self, key: bytes) -> bytes | None:
        await asyncio.sleep(0)
        return self._votes.read(key)

    async def remove(self, keys: Sequence[bytes]) -> None:
        self._votes.remove(keys)


class AsyncBox:
    """The same resource."""

    def __init__(self, name: str, vote: Vote = Vote.PREPARED) -> None:
        self.name = name
        self.box = Box(name, vote)

    async def prepare(self, transaction: Transaction) -> Vote:
        return self.box.prepare(transaction)

    async def commit(self, transaction: Transaction) -> None:
        self.box.commit(transaction)

    async def abort(self, transaction: Transaction) -> None:
        self.box.abort(transaction)


class AsyncAlone(AsyncBox):
    async def commit_alone(self, transaction: Transaction) -> bool:
        assert transaction.resources == (self.name,)
        return True


def test_tasks_run_transactions(votes: MemoryVotes) -> None:
    manager = AsyncManager(AsyncVotesOf(votes), patience=0.03, timeout=0.1)

    async def tell() -> None:
        willing, unwilling = AsyncBox("a"), AsyncBox("b", Vote.ABORTED)
        ended = await asyncio.gather(
            manager.run([willing]), manager.run([AsyncBox("a"), unwilling], b"order")
        )
        assert [one.outcome for one in ended] == [Outcome.COMMITTED, Outcome.ABORTED]
        assert (willing.box.calls, unwilling.box.calls) == (["prepare", "commit"], ["prepare", "abort"])
        assert (await manager.run([AsyncAlone("a")])).outcome is Outcome.COMMITTED
        with pytest.raises(Refused, match="b: no resource of transaction"):
            await manager.recover(await manager.begin(["a"]), [unwilling])

    asyncio.run(tell())
    assert manager.counts["committed"] == 2


def test_what_fails_under_tasks(votes: MemoryVotes) -> None:
    manager = AsyncManager(AsyncVotesOf(votes), patience=0.03, timeout=0.1)

    async def tell() -> None:
        failing, deaf = AsyncBox("a"), AsyncBox("a")
        failing.box.raises, deaf.box.raises = ["prepare"], ["commit"]
        assert (await manager.run([failing])).outcome is Outcome.ABORTED
        ended = await manager.run([deaf])
        assert (ended.outcome, ended.untold) == (Outcome.COMMITTED, ("a",))
        assert (await manager.recover(ended.transaction, [deaf])).untold == ()
        transaction = await manager.begin(["a", "b"])
        votes.after = [NoAnswer("lost")]
        await manager.vote(transaction, AsyncBox("a"), first=True)
        assert votes.firsts[key_of(transaction.id, "a")] == 1
        votes.before = [Busy("no quorum")] * 100
        with pytest.raises(Undecided, match="no quorum"):
            await manager.recover(transaction)
        votes.before.clear()
        assert (await manager.recover(transaction, [AsyncBox("a"), AsyncBox("b")])).outcome is Outcome.ABORTED

    asyncio.run(tell())
    assert votes.values == {}


def test_tasks_over_registers() -> None:
    network = MemoryNetwork()
    with Node(0, MemoryStore(), network.transport(0)) as node:
        manager = AsyncManager(AsyncRegisterVotes(node))
        boxes = [AsyncBox("a"), AsyncBox("b")]
        assert asyncio.run(manager.run(boxes)).outcome is Outcome.COMMITTED
