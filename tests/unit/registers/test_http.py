"""Nodes that ask each other by HTTP, and the commands that ask them."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from epaxos.cli.main import main
from epaxos.client.commands import Op
from epaxos.errors import ConfigError, FrameError
from epaxos.protocol.registers.change import Pace
from epaxos.protocol.registers.values import Ballot, Conflict, Peek, Prepare, Promise, Seen
from epaxos.registers import MemoryStore, Node, Unreachable
from epaxos.registers.http import HttpServer, HttpTransport

Addresses = dict[int, tuple[str, int]]


@pytest.fixture(scope="module")
def addresses() -> Iterator[Addresses]:
    """Three nodes that run."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    found: Addresses = {id_: ("127.0.0.1", taken.getsockname()[1]) for id_, taken in enumerate(sockets)}
    for taken in sockets:
        taken.close()
    with ExitStack() as stack:
        for id_, (host, port) in found.items():
            node = stack.enter_context(Node(id_, MemoryStore(), HttpTransport(found)))
            node.connect(*found)
            stack.enter_context(HttpServer(node, host, port))
        yield found


def post(address: tuple[str, int], path: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request("POST", path, body)
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


def run(addresses: Addresses, *arguments: str) -> tuple[int, str]:
    text = ",".join(f"{id_}={host}:{port}" for id_, (host, port) in addresses.items())
    result = CliRunner(env={"EPAXOS_REGISTERS": text}).invoke(main, ["registers", *arguments])
    return result.exit_code, result.stdout or result.stderr


def test_a_refusal_brings_the_ballot_that_stands_in_the_way(addresses: Addresses) -> None:
    with Node(6, MemoryStore(), HttpTransport(addresses)) as node:
        assert isinstance(node.ask(0, Prepare(b"kx", Ballot(9, 1)), 5.0), Promise)
        found = node.ask(0, Prepare(b"kx", Ballot(2, 1)), 5.0)
    assert found == Conflict(b"kx", Ballot(2, 1), Ballot(9, 1), never=True)


def test_who_has_lost_what_it_promised_is_refused_both_ways(addresses: Addresses) -> None:
    question = Peek(b"kx", Ballot(1, 5))
    with Node(4, MemoryStore(), HttpTransport(addresses)) as asking:
        for told in (None, "node 5 has lost what it promised", "node 5 has lost what it promised"):
            with (
                Node(5, MemoryStore(), HttpTransport(addresses)) as node,
                HttpServer(node, "localhost", 0) as server,
            ):
                asking.locate({5: ("localhost", server.port)})
                if told is None:
                    asking.ask(5, question, 5.0)
                    node.ask(0, question, 5.0)
                    continue
                with pytest.raises(FrameError, match=told):
                    asking.ask(5, question, 5.0)
                with pytest.raises(Unreachable, match=f"node 0 answers 400: .*{told}"):
                    node.ask(0, question, 5.0)
                assert node.counts["refused: forgot"]


def test_who_is_no_node_only_reads(addresses: Addresses) -> None:
    transport = HttpTransport(addresses)
    assert isinstance(transport.ask(0, Peek(b"kx", Ballot(1, 1)), 5.0), Seen)
    with pytest.raises(Unreachable, match="Prepare comes from no node"):
        transport.ask(0, Prepare(b"kx", Ballot(1, 1)), 5.0)
    transport.close()


def test_who_is_not_there_is_unreachable(addresses: Addresses) -> None:
    with pytest.raises(Unreachable, match="no address here"):
        HttpTransport(addresses).ask(9, Prepare(b"kx", Ballot(1, 1)), 5.0)
    with pytest.raises(Unreachable, match="node 0: ConnectionRefusedError"):
        HttpTransport({0: ("127.0.0.1", 1)}).ask(0, Prepare(b"kx", Ballot(1, 1)), 5.0)


def test_a_program_proposes_in_json(addresses: Addresses) -> None:
    body = {"key": "json", "change": "increment", "arguments": [5], "once": [1, 1]}
    for id_ in (0, 1):
        status, told = post(addresses[id_], "/propose", json.dumps(body).encode())
        assert (status, json.loads(told)["result"]) == (200, 5)


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/propose", b"nothing", 400, "a proposal is"),
        ("/propose", b'{"key": "k", "change": "nope"}', 400, "there is no change 'nope' here"),
        ("/propose", b'{"key": "k", "change": "get", "timeout": 1e9}', 400, "timeout is"),
        ("/prepare", b"nothing", 400, "no message of registers"),
        ("/prepare", b"\x93\x01\xc4\x01k\x92\xff\x00", 400, "no such number"),
        ("/accept", b"\x93\x01\xc4\x01k\x92\x01\x00", 400, "/accept takes no Prepare"),
    ],
)
def test_what_makes_no_sense_is_refused(
    addresses: Addresses, path: str, body: bytes, status: int, text: str
) -> None:
    found, told = post(addresses[0], path, body)
    assert found == status
    assert text in json.loads(told)["error"]


def test_nobody_listens_twice(addresses: Addresses) -> None:
    with (
        Node(7, MemoryStore(), HttpTransport({})) as node,
        pytest.raises(ConfigError, match="cannot listen on"),
    ):
        HttpServer(node, *addresses[0])


def test_commands(addresses: Addresses) -> None:
    assert run(addresses, "put", "leader", "alice") == (0, "")
    assert run(addresses, "get", "leader") == (0, "alice\n")
    assert run(addresses, "cas", "leader", "bob", "--expected", "alice") == (0, "")
    assert run(addresses, "cas", "leader", "carol") == (1, "bob\n")
    assert run(addresses, "decide", "winner", "bob") == (0, "bob\n")
    assert run(addresses, "decide", "winner", "alice") == (0, "bob\n")
    assert run(addresses, "delete", "leader") == (0, "")
    assert run(addresses, "get", "leader") == (1, "")
    code, told = run(addresses, "collect")
    assert (code, told.endswith(" removed\n")) == (0, True)
    code, told = run(addresses, "status")
    assert (code, [json.loads(line)["id"] for line in told.splitlines()]) == (0, [0, 1, 2])


def test_commands_pass_over_a_node_that_is_not_there(addresses: Addresses) -> None:
    some = {9: ("127.0.0.1", 1), 1: addresses[1]}
    assert run(some, "put", "k", "v") == (0, "")
    code, told = run({9: ("127.0.0.1", 1)}, "get", "k")
    assert code == 3
    assert "node 9 (127.0.0.1:1)" in told


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("get", "k", "--node", "nonsense"), "allowed: ID=HOST:PORT"),
        (("get", "k", "--node", "0=h:1", "--node", "0=h:2"), "each once"),
        (("serve", "--id", "5", "--memory"), "--id 5: no node has this number; there are 0, 1, 2"),
        (("serve", "--id", "0"), "one of --data DIR and --memory is needed"),
        (
            ("serve", "--id", "0", "--memory", "--listen", "0.0.0.0"),
            "node 0 of registers listens on 0.0.0.0 without keys: whoever reaches its port can read, write and vote",
        ),
        (
            ("serve", "--id", "0", "--memory", "--listen", "192.0.2.1", "--insecure"),
            "cannot listen on 192.0.2.1",
        ),
    ],
)
def test_command_lines_that_are_refused(addresses: Addresses, arguments: tuple[str, ...], text: str) -> None:
    code, told = run(addresses, *arguments)
    assert code == 2
    assert text in told


def test_operations_through_a_transport(addresses: Addresses) -> None:
    with Node(8, MemoryStore(), HttpTransport(addresses), acceptors=(0, 1, 2)) as proposer:
        assert proposer.propose(b"from afar", Op.increment(b"n")).result == 1


def test_observe_from_a_position_on(addresses: Addresses, tmp_path: Path) -> None:
    run(addresses, "put", "seen", "1")
    kept = str(tmp_path / "position.json")
    code, told = run(addresses, "observe", "--count", "1")
    assert (code, len(told.splitlines())) == (0, 1)
    seen: list[object] = []
    while {"key": "seen", "value": "1"} not in seen:
        code, told = run(addresses, "observe", "--count", str(len(seen) + 1))
        seen = [json.loads(line) | {} for line in told.splitlines()]
        for one in seen:
            assert isinstance(one, dict)
            one.pop("ballot")
    run(addresses, "observe", "--count", str(len(seen)), "--position", kept)
    Path(kept).write_text("nothing")
    code, told = run(addresses, "observe", "--position", kept)
    assert (code, "a position of an observer is what it wrote itself" in told) == (2, True)


def test_acceptors_come_and_go_by_command() -> None:
    with ExitStack() as stack:
        found: Addresses = {}
        servers = {}
        stores = {id_: MemoryStore() for id_ in range(4)}

        def start(id_: int, acceptors: tuple[int, ...] | None = None) -> None:
            known = {other: address for other, address in found.items() if other != 3 or id_ == 3}
            node = stack.enter_context(
                Node(id_, stores[id_], HttpTransport(known), acceptors=acceptors, pace=Pace(0.02, 0.002))
            )
            node.connect(*known)
            servers[id_] = stack.enter_context(HttpServer(node, *found[id_]))

        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
        found |= {id_: ("127.0.0.1", taken.getsockname()[1]) for id_, taken in enumerate(sockets)}
        for taken in sockets:
            taken.close()
        for id_ in range(3):
            start(id_)
        three = {id_: found[id_] for id_ in range(3)}
        assert run(three, "put", "k", "v") == (0, "")
        start(3, (0, 1, 2))
        assert run(found, "grow", "3") == (0, "0, 1, 2, 3 vote\n")
        servers[2].close()
        code, told = run(found, "shrink", "2", "--timeout", "300ms")
        assert (code, "waits for node 2" in told) == (3, True)
        assert run(found, "shrink", "2", "--gone", "2") == (0, "0, 1, 3 vote\n")
        assert run({3: found[3]}, "get", "k") == (0, "v\n")
        code, told = run(found, "grow", "9")
        assert (code, "9: no node has this number" in told) == (2, True)
