"""Nodes that ask each other over ZeroMQ, and who is refused there."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from threading import Thread
from time import sleep

import msgpack
import pytest
import zmq
from click.testing import CliRunner

from epaxos.cli.main import main
from epaxos.client.commands import Op
from epaxos.errors import ConfigError, FrameError
from epaxos.protocol.registers.change import Pace
from epaxos.protocol.registers.values import AHEAD, Ballot, Conflict, Peek, Prepare, Promise
from epaxos.registers import MemoryStore, Node, Store, Unreachable
from epaxos.registers.zeromq import REGISTERS, ZeroMqServer, ZeroMqTransport
from epaxos.transport.framing import Kind, open_frame, seal
from epaxos.transport.registers import encode

PACE = Pace(retry=0.05, pause=0.002)


class Nodes(list[Node]):
    """Nodes that run."""

    def __init__(self, stack: ExitStack, stores: list[Store]) -> None:
        super().__init__()
        self.stack = stack
        self.stores = stores
        taken = [socket.create_server(("127.0.0.1", 0)) for _ in stores]
        self.addresses = {id_: ("127.0.0.1", one.getsockname()[1]) for id_, one in enumerate(taken)}
        for one in taken:
            one.close()
        self.servers = [self.start(id_, store) for id_, store in enumerate(stores)]

    def start(self, id_: int, store: Store, acceptors: tuple[int, ...] | None = None) -> ZeroMqServer:
        way = ZeroMqTransport(self.addresses)
        node = self.stack.enter_context(Node(id_, store, way, acceptors=acceptors, pace=PACE))
        node.connect(*self.addresses)
        self.insert(id_, node)
        return self.stack.enter_context(ZeroMqServer(node, *self.addresses[id_]))


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with ExitStack() as stack:
        yield Nodes(stack, [MemoryStore() for _ in range(3)])


def test_operations(nodes: Nodes) -> None:
    assert [node.propose(b"n", Op.increment(b"n"), 30.0).result for node in nodes] == [1, 2, 3]


def test_a_refusal_brings_the_ballot_that_stands_in_the_way(nodes: Nodes) -> None:
    assert isinstance(nodes[1].ask(0, Prepare(b"kx", Ballot(9, 1)), 30.0), Promise)
    found = nodes[1].ask(0, Prepare(b"kx", Ballot(2, 1)), 30.0)
    assert found == Conflict(b"kx", Ballot(2, 1), Ballot(9, 1), never=True)
    with pytest.raises(Unreachable, match=r"node 0: .*from the future"):
        nodes[1].ask(0, Prepare(b"kx", Ballot(2 * AHEAD, 1)), 30.0)


def test_who_is_not_there_is_unreachable(nodes: Nodes) -> None:
    with pytest.raises(Unreachable, match="node 9 has no address here"):
        nodes[0].ask(9, Peek(b"kx", Ballot(1, 1)))
    with Node(7, MemoryStore(), ZeroMqTransport({0: ("127.0.0.1", 1)})) as alone:
        with pytest.raises(Unreachable, match="node 0 does not answer"):
            alone.ask(0, Peek(b"kx", Ballot(1, 1)), 0.02)
        with pytest.raises(ConfigError, match="node 7 cannot listen on 127"):
            ZeroMqServer(alone, *nodes.addresses[0])
    with pytest.raises(ConfigError, match=r"node 3: \.\. does not resolve"):
        ZeroMqTransport({3: ("..", 1)})


def run(nodes: Nodes, *arguments: str) -> tuple[int, str]:
    text = ",".join(f"{id_}=tcp://{host}:{port}" for id_, (host, port) in nodes.addresses.items())
    result = CliRunner(env={"EPAXOS_REGISTERS": text}).invoke(main, ["registers", *arguments])
    return result.exit_code, result.stdout or result.stderr


def test_commands(nodes: Nodes) -> None:
    assert run(nodes, "put", "leader", "alice") == (0, "")
    assert run(nodes, "cas", "leader", "bob", "--expected", "alice") == (0, "")
    assert run(nodes, "get", "leader") == (0, "bob\n")
    assert run(nodes, "decide", "winner", "bob") == (0, "bob\n")
    assert run(nodes, "delete", "leader") == (0, "")
    code, told = run(nodes, "collect")
    assert (code, told.endswith(" removed\n")) == (0, True)
    code, told = run(nodes, "status")
    assert (code, [json.loads(line)["id"] for line in told.splitlines()]) == (0, [0, 1, 2])
    code, told = run(nodes, "observe", "--count", "1")
    assert (code, len(told.splitlines())) == (0, 1)
    code, told = run(nodes, "shrink", "9")
    assert (code, "acceptor 9 is none" in told) == (2, True)
    code, told = run(nodes, "get", "k", "--node", "0=tcp://h:1", "--node", "1=h:2")
    assert (code, "some addresses begin with tcp:// and some do not" in told) == (2, True)
    code, told = run(nodes, "get", "k", "--node", "9=tcp://127.0.0.1:1")
    assert (code, "node 9 (127.0.0.1:1)" in told) == (3, True)


def test_a_node_joins_over_zeromq() -> None:
    with ExitStack() as stack:
        nodes = Nodes(stack, [MemoryStore() for _ in range(3)])
        nodes[0].propose(b"n", Op.increment(b"n"), 30.0)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            nodes.addresses[3] = ("127.0.0.1", taken.getsockname()[1])
        nodes.start(3, MemoryStore(), (0, 1, 2))
        assert run(nodes, "grow", "3") == (0, "0, 1, 2, 3 vote\n")
        assert run(nodes, "shrink", "0") == (0, "1, 2, 3 vote\n")
        assert nodes[3].propose(b"n", Op.increment(b"n"), 30.0).result == 2


def test_what_comes_together_is_written_at_once() -> None:
    writes: list[int] = []

    class SlowStore(MemoryStore):
        def write(self, entries: Mapping[bytes, bytes | None]) -> None:
            writes.append(len(entries))
            sleep(0.002)
            for key, value in entries.items():
                assert value is not None
                self.set(key, value)

    with ExitStack() as stack:
        nodes = Nodes(stack, [SlowStore() for _ in range(3)])

        def run(number: int) -> None:
            for _ in range(2):
                key = b"%d" % number
                nodes[number % 3].propose(key, Op.increment(key), 30.0)

        threads = [Thread(target=run, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert max(writes) > 1


def test_who_has_lost_what_it_promised_is_refused_both_ways() -> None:
    with ExitStack() as stack:
        nodes = Nodes(stack, [MemoryStore() for _ in range(3)])
        nodes[0].propose(b"n", Op.increment(b"n"), 30.0)
        nodes[2].propose(b"n", Op.increment(b"n"), 30.0)
        nodes.servers[2].close()
        nodes.pop(2).close()
        nodes.start(2, MemoryStore())
        with pytest.raises(FrameError, match="node 2 has lost what it promised"):
            ask_until_answered(nodes[0], 2)
        with pytest.raises(Unreachable, match="forgot: node 2 has lost what it promised"):
            nodes[2].ask(0, Peek(b"kn", Ballot(1, 0)), 30.0)
        assert nodes[0].counts["refused: forgot"]
        assert nodes[0].propose(b"n", Op.get(b"n"), 30.0).result == b"2"


def ask_until_answered(node: Node, peer: int) -> None:
    """A connection takes a while to come back."""
    for _ in range(60):
        with suppress(Unreachable):
            node.ask(peer, Peek(b"kn", Ballot(1, 0)), 0.5)


def letter(**fields: object) -> bytes:
    good = {"number": 1, "sender": 8, "incarnation": 88, "addressee": 0, "request": b""}
    packed: bytes = msgpack.packb(list((good | fields).values()))
    return packed


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (b"nothing", "malformed"),
        (seal(Kind.ASK, REGISTERS, letter())[:-1], "checksum"),
        (seal(Kind.ASK, 7, letter()), "cluster"),
        (seal(Kind.PEER, REGISTERS, letter()), "unknown"),
        (seal(Kind.ASK, REGISTERS, b"\xc1"), "malformed"),
        (seal(Kind.ASK, REGISTERS, letter(request=b"\x90")), "malformed"),
        (seal(Kind.ASK, REGISTERS, letter(sender=-1)), "malformed"),
        (seal(Kind.ASK, REGISTERS, letter(incarnation=0)), "malformed"),
        (seal(Kind.ASK, REGISTERS, letter(sender=[])), "malformed"),
        (
            seal(Kind.ASK, REGISTERS, letter(addressee=5, request=encode(Peek(b"k", Ballot(1, 1))))),
            "forgot",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_and_counted(nodes: Nodes, frame: bytes, kind: str) -> None:
    before = nodes[0].counts[f"refused: {kind}"]
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect("tcp://{}:{}".format(*nodes.addresses[0]))
        dealer.send(frame)
        body = open_frame(dealer.recv(), REGISTERS, 10_000).body
    assert msgpack.unpackb(body)[2].startswith(f"{kind}: ")
    assert nodes[0].counts[f"refused: {kind}"] == before + 1
