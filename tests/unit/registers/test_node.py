"""Nodes of one process: what users of registers call, and what bad input gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from threading import Thread

import pytest

from epaxos.client.commands import Op
from epaxos.client.results import CasResult
from epaxos.errors import Busy, ConfigError, FrameError, NoAnswer, OperationFailed, Refused, StorageError
from epaxos.protocol.registers.values import AHEAD, EMPTY, ZERO, Accept, Ballot, Cell, Peek, Prepare
from epaxos.registers import Change, MemoryNetwork, MemoryStore, Node, change
from epaxos.registers.changes import ChangeFailed, forget
from register_nodes import Nodes


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with ExitStack() as stack:
        yield Nodes(3, stack)


def test_operations(nodes: Nodes) -> None:
    key = b"k"
    asked = [
        Op.get(key),
        Op.put(key, b"1"),
        Op.increment(key, 4),
        Op.append(key, b"0"),
        Op.write_read(key, b"x"),
    ]
    results = [nodes[number % 3].propose(key, op).result for number, op in enumerate(asked)]
    assert results == [None, None, 5, 2, b"50"]
    assert nodes[0].propose(key, Op.cas(key, b"x", b"y")).result == CasResult(swapped=True, current=b"y")
    assert nodes[1].propose(key, Op.cas(key, b"x", b"z")).result == CasResult(swapped=False, current=b"y")
    assert [nodes[2].delete(key), nodes[0].delete(key)] == [True, False]


def test_any_function(nodes: Nodes) -> None:
    def sign(value: bytes | None, name: bytes) -> bytes:
        return (value or b"") + name

    for node in nodes:
        reply = node.propose(b"list", partial(sign, name=b"%d," % node.id))
    assert reply.value == reply.result == b"0,1,2,"


def test_a_node_tells_how_it_is_set_up(nodes: Nodes) -> None:
    with Node(7, MemoryStore(), nodes.network.transport(7), metadata={"rack": "a"}) as node:
        node.connect(0, 1)
        told = node.status()
    assert (told["id"], told["peers"], told["metadata"]) == (7, [0, 1, 7], {"rack": "a"})


def test_a_value_is_decided_once_and_for_ever(nodes: Nodes) -> None:
    assert [node.decide(b"who", b"%d" % node.id) for node in nodes] == [b"0"] * 3


def test_everybody_at_once_loses_nothing(nodes: Nodes) -> None:
    def run(node: Node) -> None:
        for number in range(20):
            node.propose(b"n", Op.increment(b"n"), 30.0, once=(node.id, number))

    threads = [Thread(target=run, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert nodes[0].propose(b"n", Op.get(b"n")).result == b"60"


def test_a_change_with_a_number_is_made_once(nodes: Nodes) -> None:
    propose = [partial(node.propose, b"n", Op.increment(b"n"), once=(9, 1)) for node in nodes]
    assert [call().result for call in propose] == [1, 1, 1]
    nodes[0].propose(b"n", Op.increment(b"n"), once=(9, 2))
    with pytest.raises(Refused, match="later change"):
        propose[0]()


def test_a_dead_node_slows_nobody_and_two_stop_everything(nodes: Nodes) -> None:
    nodes.network.down.add(2)
    assert nodes[0].propose(b"n", Op.increment(b"n")).trips == 2
    nodes.network.down.add(1)
    with pytest.raises((Busy, NoAnswer)):
        nodes[0].propose(b"n", Op.increment(b"n"), 0.1)


def test_a_node_comes_back_with_its_promises(nodes: Nodes) -> None:
    nodes[0].propose(b"n", Op.increment(b"n"))
    for id_ in range(3):
        nodes[id_].close()
        nodes[id_] = nodes.start(id_)
    nodes.connect()
    reply = nodes[0].propose(b"n", Op.increment(b"n"))
    assert reply.result == 2
    assert reply.ballot > (1000, 0)


def stopped(call: Callable[[float], object], missing: int) -> None:
    """Begin what cannot come to its end while a node is missing."""
    for timeout in (0.05, 0.5, 5.0):
        with pytest.raises(Busy) as raised:
            call(timeout)
        if f"waits for node {missing}" in str(raised.value):
            return
    raise AssertionError(raised.value)


def test_deletion_and_collection(nodes: Nodes) -> None:
    for number in range(5):
        nodes[0].propose(b"%d" % number, Op.put(b"k", b"v"))
    for number in range(4):
        nodes[1].delete(b"%d" % number)
    assert nodes[2].collect() == (4,)
    kept = [key for key in nodes.stores[0].keys(b"cell/k", 100) if key.startswith(b"cell/k")]
    assert kept == [b"cell/k4"]
    assert nodes[0].propose(b"0", Op.increment(b"0")).result == 1


def test_a_collection_waits_for_all_and_excludes_others(nodes: Nodes) -> None:
    nodes[0].delete(b"k")
    nodes.network.down.add(2)
    stopped(partial(nodes[0].collect), 2)
    nodes.network.down.clear()
    with pytest.raises(Busy, match="collect of node 0 is under way"):
        nodes[1].collect()
    assert nodes[0].collect().removed == 1


def test_acceptors_come_and_go(nodes: Nodes) -> None:
    nodes[0].propose(b"n", Op.put(b"n", b"7"))
    nodes.stores.append(MemoryStore())
    nodes.append(nodes.start(3, acceptors=(0, 1, 2)))
    nodes.connect()
    nodes[0].grow(3)
    for gone in (0, 1):
        nodes[2].shrink(gone)
        nodes.network.down.discard(gone)
    assert {node.configuration.accept for node in nodes} == {(2, 3)}
    assert nodes[3].propose(b"n", Op.increment(b"n")).result == 8
    assert Node(0, nodes.stores[0], nodes.network.transport(0)).configuration.accept == (2, 3)


def test_a_change_of_acceptors_goes_on_where_it_stopped(nodes: Nodes) -> None:
    nodes.network.down.add(2)
    stopped(partial(nodes[0].shrink, 2), 2)
    nodes.network.down.clear()
    nodes[0].shrink(2)
    assert nodes[2].configuration.accept == (0, 1)


def test_what_a_node_had_begun_that_is_gone_is_finished_by_another(nodes: Nodes) -> None:
    nodes[0].propose(b"n", Op.put(b"n", b"7"))
    nodes.stores.append(MemoryStore())
    nodes.append(nodes.start(3, acceptors=(0, 1, 2)))
    nodes.connect()
    nodes.network.down.add(1)
    stopped(partial(nodes[2].grow, 3), 1)
    nodes.network.down = {2}
    with pytest.raises(Busy, match=r"grow 3 of node 2 is under way: .*, or say that it is gone"):
        nodes[0].shrink(2)
    nodes[0].shrink(2, gone=(2,))
    assert {node.configuration.accept for node in (nodes[0], nodes[1], nodes[3])} == {(0, 1, 3)}
    nodes[1].shrink(0)  # nobody waits for node 2 any more
    assert nodes[3].propose(b"n", Op.increment(b"n")).result == 8


def test_a_collection_of_a_node_that_is_gone_is_given_up(nodes: Nodes) -> None:
    nodes[0].delete(b"k")
    nodes.network.down.add(1)
    stopped(partial(nodes[2].collect), 1)
    nodes.network.down = {2}
    nodes[0].shrink(2, gone=(2,))
    assert nodes[1].collect().removed == 1


def test_a_change_of_acceptors_that_makes_no_sense_leaves_nothing_behind(nodes: Nodes) -> None:
    for wrong in (partial(nodes[0].grow, 1), partial(nodes[0].shrink, 9)):
        with pytest.raises(Refused, match="acceptor"):
            wrong()
    nodes[1].shrink(0)
    assert nodes[2].configuration.accept == (1, 2)


# -- bad input -------------------------------------------------------------------------------------------------


def fails(_: bytes | None) -> bytes:
    raise ValueError("no")


def is_text(_: bytes | None) -> bytes:
    return "text"  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (fails, "fails raised ValueError: no; nothing was changed"),
        (is_text, "a register holds bytes or None, not str"),
        (lambda _: b"x" * (2**20 + 1), "the value would have 1048577 bytes; allowed: up to 1048576"),
    ],
)
def test_a_change_that_raises_changes_nothing(nodes: Nodes, function: object, text: str) -> None:
    nodes[0].propose(b"k", Op.put(b"k", b"before"))
    with pytest.raises(ChangeFailed, match=text):
        nodes[1].propose(b"k", function)  # type: ignore[arg-type]
    with pytest.raises(ChangeFailed, match=text):
        nodes[1].propose(b"k", function, once=(1, 1))  # type: ignore[arg-type]
    assert nodes[1].counts["changes failed"] == 2
    assert nodes[2].propose(b"k", Op.get(b"k")).result == b"before"


def test_an_operation_that_fails(nodes: Nodes) -> None:
    nodes[0].propose(b"k", Op.put(b"k", b"text"))
    with pytest.raises(OperationFailed, match="64-bit integer"):
        nodes[0].propose(b"k", Op.increment(b"k"))


def test_named_changes(nodes: Nodes) -> None:
    @change("longest")
    def longest(value: bytes | None, other: bytes) -> bytes:
        return max(value or b"", other, key=len)

    try:
        with pytest.raises(ValueError, match="there is a change 'longest' already"):
            change("longest")(lambda value: value)
        nodes[0].propose(b"k", Change("longest", (b"abc",)))
        assert nodes[1].propose(b"k", Change("longest", (b"z",))).value == b"abc"
    finally:
        forget("longest")


@pytest.mark.parametrize(
    ("key", "wanted", "text"),
    [
        (
            b"k",
            Change("nope"),
            "there is no change 'nope' here; there are append, cas, delete, get, increment, keep",
        ),
        (b"k", Change("put", ("text",)), "put: value must be bytes, not str"),
        (b"k", Change("put"), "put: .* missing 1 required positional argument"),
        (b"k", Change("keep", (b"a", b"b")), "keep takes one value"),
        (b"k", Op.multi([Op.get(b"k")]), "operations on one key alone"),
        (b"k", Op.pause(1), "operations on one key alone"),
        (b"", Op.get(b"k"), "the key has 0 bytes; allowed: 1 to 65536"),
    ],
)
def test_proposals_that_are_refused(nodes: Nodes, key: bytes, wanted: Op | Change, text: str) -> None:
    with pytest.raises(Refused, match=text):
        nodes[0].propose(key, wanted)


def test_numbers_that_are_refused(nodes: Nodes) -> None:
    with pytest.raises(ConfigError, match="a node's id is -1"):
        Node(-1, MemoryStore(), nodes.network.transport(0))
    with pytest.raises(Refused, match="once is"):
        nodes[0].propose(b"k", Op.increment(b"k"), once=(-1, 0))
    with pytest.raises(Refused, match="acceptor 9 is none; there are 0, 1, 2"):
        nodes[0].shrink(9)


def test_a_ballot_from_the_future_is_refused_and_counted(nodes: Nodes) -> None:
    with pytest.raises(FrameError, match="from the future"):
        nodes[0].handle(Prepare(b"kk", Ballot(2 * AHEAD, 7)))
    assert nodes[0].counts["refused: future"] == 1
    assert nodes[0].propose(b"k", Op.increment(b"k")).result == 1


def test_what_is_no_request_is_refused(nodes: Nodes) -> None:
    with pytest.raises(FrameError, match="Cell is no request"):
        nodes[0].handle(Cell(b"k", ZERO, ZERO, EMPTY))


# -- stores that fail or lie -----------------------------------------------------------------------------------


class BadStore(MemoryStore):
    """Fails, or gives back something else, once it is told to."""

    failing = False
    lie: bytes | None = None

    def get(self, key: bytes) -> bytes | None:
        return self.lie if self.lie is not None and key.startswith(b"cell/") else super().get(key)

    def set(self, key: bytes, value: bytes) -> None:
        if self.failing:
            raise OSError("no space left")
        super().set(key, value)


def test_a_store_that_fails_stops_its_node_and_no_other() -> None:
    with ExitStack() as stack:
        nodes = Nodes(2, stack)
        bad = BadStore()
        nodes.stores.append(bad)
        nodes.append(nodes.start(2))
        nodes.connect()
        nodes[2].propose(b"n", Op.increment(b"n"))
        bad.failing = True
        with pytest.raises(StorageError, match="promises nothing any more: OSError: no space left"):
            nodes[2].propose(b"n", Op.increment(b"n"))
        bad.failing = False
        with pytest.raises(StorageError, match="promises nothing any more"):
            nodes[2].handle(Peek(b"kn", Ballot(1, 0)))
        assert nodes[2].counts["store failed"] >= 2
        # What was asked of the others before it stopped may have come to something.
        assert nodes[1].propose(b"n", Op.increment(b"n")).result in (2, 3)


@pytest.mark.parametrize("lie", [b"", b"nothing", b"\x00" * 40])
def test_a_store_that_lies_stops_its_node(lie: bytes) -> None:
    network, bad = MemoryNetwork(), BadStore()
    with Node(0, bad, network.transport(0)) as node:
        node.handle(Accept(b"kn", Ballot(1, 0), EMPTY))
        bad.lie = lie
        with pytest.raises(StorageError, match="what was never written"):
            node.handle(Prepare(b"kn", Ballot(2, 0)))
        bad.lie = None
        with pytest.raises(StorageError, match="what was never written"):
            node.handle(Prepare(b"kn", Ballot(2, 0)))
