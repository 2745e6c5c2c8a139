"""Strangers, and who may less than they try, at nodes with keys: nothing of theirs comes in, all is counted."""

from __future__ import annotations

import http.client
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from click.testing import CliRunner

from epaxos.cli.main import main
from epaxos.client.commands import Op
from epaxos.config import SecurityConfig
from epaxos.errors import ConfigError, Refused
from epaxos.protocol.registers.change import Pace
from epaxos.protocol.registers.values import Ballot, Configuration, List, Peek, Prepare
from epaxos.registers import MemoryStore, Node, Unreachable
from epaxos.registers.guard import ClientKeys, name_of, node_keys
from epaxos.registers.http import HttpServer
from epaxos.registers.observer import Observer
from epaxos.registers.zeromq import REGISTERS, ZeroMqServer, ZeroMqTransport
from epaxos.security.curve import arm, make_key
from epaxos.security.keys import KeyPair, read_key
from epaxos.security.making import Listing, add_client, make_keys, remove
from epaxos.testing.processes import Ports
from epaxos.transport.framing import Kind, open_frame, seal
from epaxos.transport.registers import encode

PACE = Pace(retry=0.05, pause=0.002)
PATIENCE = 10  # seconds
FILE = "registers.toml"


class Guarded:
    """Three nodes with keys, the first of which answers programs by HTTP too."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.file = directory / FILE
        self.file.write_text('[security]\nkeys = "keys"\n')
        self.keys = directory / "keys"
        make_keys(map(name_of, range(3)), self.keys)
        add_client(self.keys, "reader", Listing("read"))
        add_client(self.keys, "web", Listing("write", ["web/"]))
        add_client(self.keys, "leaver", Listing("write"))
        self.token = add_client(self.keys, "app", Listing("write", ["app/"]), token=True)
        ports = stack.enter_context(closing(Ports(4)))
        self.addresses = {id_: ("127.0.0.1", port) for id_, port in enumerate(ports.numbers[:3])}
        self.access = {id_: node_keys(str(self.keys), id_, self.addresses) for id_ in self.addresses}
        self.transports = {id_: ZeroMqTransport(self.addresses, self.access[id_]) for id_ in self.addresses}
        self.nodes = [
            stack.enter_context(Node(id_, MemoryStore(), transport, pace=PACE))
            for id_, transport in self.transports.items()
        ]
        for node in self.nodes:
            node.connect(*self.addresses)
            stack.enter_context(ZeroMqServer(node, *self.addresses[node.id], self.access[node.id]))
        self.http = stack.enter_context(HttpServer(self.nodes[0], "127.0.0.1", 0, self.access[0])).port

    def counted(self, kind: str) -> int:
        return self.nodes[0].counts[f"refused: {kind}"]

    def key(self, name: str) -> KeyPair:
        return read_key(str(self.keys / f"{name}.key"))

    def run(self, name: str, *arguments: str) -> tuple[int, str]:
        """A command with the key of a client."""
        text = ",".join(f"{id_}=tcp://{host}:{port}" for id_, (host, port) in self.addresses.items())
        environ = {"EPAXOS_REGISTERS": text, "EPAXOS_SECURITY_KEY": str(self.keys / f"{name}.key")}
        result = CliRunner(env=environ).invoke(main, ["registers", *arguments, "-c", str(self.file)])
        return result.exit_code, result.stdout or result.stderr

    @contextmanager
    def transport(self, name: str) -> Iterator[ZeroMqTransport]:
        """One that asks with the key of a client."""
        security = SecurityConfig(str(self.keys), str(self.keys / f"{name}.key"))
        transport = ZeroMqTransport(self.addresses, ClientKeys(security, self.addresses))
        yield transport
        transport.close()

    @contextmanager
    def connected(self, pair: KeyPair | None, server: str | None = None) -> Iterator[zmq.Socket[bytes]]:
        """A socket that comes to the first node with a key or, as ZeroMQ has it, with NULL security."""
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.set(zmq.LINGER, 0)
            if pair is not None:
                arm(dealer, pair, self.access[0].own.public if server is None else server)
            dealer.connect("tcp://{}:{}".format(*self.addresses[0]))
            yield dealer


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with ExitStack() as stack:
        found = Guarded(tmp_path_factory.mktemp("guarded"), stack)
        found.nodes[0].propose(b"key", Op.put(b"key", b"value"), 30.0)
        yield found


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def question(request: Any, sender: int | None = None, incarnation: int = 0) -> bytes:
    return seal(Kind.ASK, REGISTERS, msgpack.packb((1, sender, incarnation, 0, request)))


PROPOSAL = question(("/propose", b'{"key": "key", "change": "put", "arguments": ["stolen"]}'))


def test_nodes_and_an_admin_come_in(guarded: Guarded) -> None:
    assert [node.propose(b"n", Op.increment(b"n"), 30.0).result for node in guarded.nodes] == [1, 2, 3]
    assert guarded.run("admin", "put", "leader", "alice") == (0, "")
    assert not [kind for kind in guarded.nodes[0].counts if "refused" in kind]
    assert guarded.run("admin", "collect")[0] == 0
    assert guarded.run("admin", "status")[0] == 0
    code, told = guarded.run("admin", "observe", "--count", "1")
    assert (code, len(told.splitlines())) == (0, 1)


@pytest.mark.parametrize(
    ("pair", "server", "kind"),
    [(None, None, "handshake"), (make_key(), None, "login"), (make_key(), make_key().public, "handshake")],
    ids=["no key, a downgrade to NULL", "a wrong key", "a wrong key of the node"],
)
@pytest.mark.parametrize(
    "frame", [PROPOSAL, question(encode(Prepare(b"kkey", Ballot(9, 2))), 2, 7)], ids=["program", "node"]
)
def test_strangers_get_nothing_in(
    guarded: Guarded,
    pair: KeyPair | None,
    server: str | None,
    kind: str,
    frame: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before, others = guarded.counted(kind), guarded.counted("sender")
    with guarded.connected(pair, server) as dealer, caplog.at_level(logging.WARNING):
        with suppress(zmq.Again):  # cut off before it could be sent, and for good
            dealer.send(frame, zmq.NOBLOCK)
        wait_for(lambda: guarded.counted(kind) > before)
        assert not dealer.poll(20)
    assert guarded.counted("sender") == others
    assert guarded.nodes[1].propose(b"key", Op.get(b"key"), 30.0).result == b"value"


def answered(dealer: zmq.Socket[bytes]) -> Any:
    assert dealer.poll(1000 * PATIENCE)
    return msgpack.unpackb(open_frame(dealer.recv(), REGISTERS, 100_000).body)[2]


@pytest.mark.parametrize(("name", "sender"), [("node-1", 2), ("admin", 1), ("admin", 0)])
def test_nobody_speaks_in_the_name_of_a_node(guarded: Guarded, name: str, sender: int) -> None:
    before = guarded.counted("sender")
    with guarded.connected(guarded.key(name)) as dealer:
        dealer.send(question(encode(Prepare(b"kkey", Ballot(9, sender))), sender, 7))
        assert answered(dealer) == f"sender: {name} speaks in the name of node {sender}"
    assert guarded.counted("sender") == before + 1


def test_roles_and_prefixes(guarded: Guarded) -> None:
    before = guarded.counted("denied")
    for arguments in (("put", "key", "x"), ("decide", "key", "x"), ("delete", "key"), ("cas", "key", "x")):
        code, told = guarded.run("reader", *arguments)
        assert (code, "reader has the role read; WRITE needs the role write" in told) == (2, True)
    for command, *rest in (["collect"], ["shrink", "2"]):
        code, told = guarded.run("web", command, *rest)
        assert (code, f"/{command} needs the role admin" in told) == (2, True)
    for arguments in (("put", "key", "x"), ("get", "key")):
        code, told = guarded.run("web", *arguments)
        assert (code, 'web may not touch the key "key"; it has those that begin with "web/"' in told) == (
            2,
            True,
        )
    assert guarded.counted("denied") == before + 8
    assert guarded.run("reader", "get", "key") == (0, "value\n")
    assert guarded.run("web", "put", "web/a", "1") == (0, "")
    assert guarded.nodes[1].propose(b"key", Op.get(b"key"), 30.0).result == b"value"


def test_who_has_not_all_keys_sees_none_but_its_own(guarded: Guarded) -> None:
    with guarded.transport("web") as transport:
        assert transport.ask(0, Peek(b"kweb/a", Ballot(1, 1)), PATIENCE)
        for request in (Peek(b"kkey", Ballot(1, 1)), Peek(b"web/", Ballot(1, 1)), List(b"", Ballot(1, 1), 9)):
            with pytest.raises(Refused, match=r"node 0: denied: web "):
                transport.ask(0, request, PATIENCE)
        observer = Observer(
            lambda node, request: transport.ask(node, request, PATIENCE),
            lambda: Configuration(1, (0, 1, 2), (0, 1, 2)),
        )
        with pytest.raises(Refused, match="web has not all keys"):
            next(observer)


def test_who_is_removed_is_out_at_once(guarded: Guarded) -> None:
    with guarded.transport("leaver") as transport:
        assert transport.ask(0, Peek(b"kkey", Ballot(1, 1)), PATIENCE)
        remove(guarded.keys, "leaver")
        guarded.access[0].reload()
        before = guarded.counted("login")
        with pytest.raises(Unreachable, match="is not on the list any more"):
            transport.ask(0, Peek(b"kkey", Ballot(1, 1)), PATIENCE)
        assert guarded.counted("login") == before + 1


def test_who_comes_first_is_counted_and_a_node_whose_key_is_removed_is_neither_heard_nor_asked(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        guarded = Guarded(tmp_path, stack)
        with guarded.connected(None):
            wait_for(lambda: guarded.counted("handshake"))
        guarded.nodes[2].propose(b"n", Op.increment(b"n"), 30.0)
        assert guarded.transports[2].ask(0, Peek(b"kn", Ballot(1, 2)), PATIENCE), "else it is not even let in"
        remove(guarded.keys, "node-2")
        for id_ in (0, 1):
            guarded.access[id_].reload()
            guarded.transports[id_].reload()
        with pytest.raises(Unreachable, match="is not on the list any more"):
            guarded.transports[2].ask(0, Peek(b"kn", Ballot(1, 2)), PATIENCE)
        with pytest.raises(Unreachable, match="node 2 does not answer"):
            guarded.transports[0].ask(2, Peek(b"kn", Ballot(1, 0)), 0.3)
        assert guarded.nodes[0].propose(b"n", Op.increment(b"n"), 30.0).result == 2


def test_programs_name_a_token_by_http(guarded: Guarded) -> None:
    def ask(path: str, key: str, token: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", guarded.http, timeout=PATIENCE)
        body = json.dumps({"key": key, "change": "put", "arguments": ["1"]})
        connection.request("POST", path, body, {"Authorization": f"Bearer {token}"} if token else {})
        status = connection.getresponse().status
        connection.close()
        return status

    before = guarded.counted("token"), guarded.counted("denied")
    assert ask("/propose", "app/a", guarded.token) == 200
    assert ask("/propose", "key", guarded.token) == ask("/grow", "", guarded.token) == 403
    assert ask("/propose", "app/a", "") == ask("/prepare", "app/a", "wrong") == 401
    assert ask("/prepare", "", guarded.token) == 404, "nodes ask each other over ZeroMQ alone"
    assert (guarded.counted("token"), guarded.counted("denied")) == (before[0] + 1, before[1] + 2)


def test_command_lines_that_are_refused(guarded: Guarded, tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner(env={"EPAXOS_REGISTERS": ""}).invoke(main, ["registers", *arguments])
        return result.exit_code, result.stdout or result.stderr

    code, told = run("get", "k", "--node", "0=localhost:1", "-c", str(guarded.file))
    assert (code, "with keys nodes are asked over ZeroMQ; allowed: ID=tcp://HOST:PORT" in told) == (2, True)
    code, told = run("keys", "--node", "0=tcp://localhost:1")
    assert (code, "security.keys: found none" in told) == (2, True)
    code, told = run("get", "k", "--node", "9=tcp://localhost:1", "-c", str(guarded.file))
    assert (code, "node-9: missing" in told) == (2, True)
    code, told = run("serve", "--id", "0", "--memory", "--http", "1", "--node", "0=localhost:1")
    assert (code, "--http is for nodes that are asked over ZeroMQ" in told) == (2, True)
    (tmp_path / FILE).write_text('[security]\nkeys = "made"\n')
    code, told = run("keys", "--node", "4=tcp://localhost:1", "-c", str(tmp_path / FILE))
    assert (code, told) == (0, "".join(f"{tmp_path}/made/{name}.key\n" for name in ("node-4", "admin")))
    add_client(guarded.keys, "stranger", Listing("write"))  # and nobody has read the list since
    code, told = guarded.run("stranger", "get", "key")
    assert (code, "lets nobody in with this key" in told) == (3, True)
    remove(guarded.keys, "stranger")
    code, told = run("get", "k", "--node", "0=tcp://{}:{}".format(*guarded.addresses[0]))
    assert (code, "asks for a key" in told) == (3, True)
    code, told = guarded.run("stranger", "get", "key")
    assert (code, "stranger.key: cannot be read" in told) == (2, True)


@pytest.mark.parametrize("server", [ZeroMqServer, HttpServer])
def test_nodes_without_keys_listen_on_the_loopback_interface_alone(server: Any) -> None:
    with Node(7, MemoryStore(), ZeroMqTransport({})) as node:
        with pytest.raises(ConfigError, match=r"node 7 of registers listens on 0\.0\.0\.0 without keys"):
            server(node, "0.0.0.0", 0)
        with server(node, "0.0.0.0", 0, insecure=True) as opened:
            assert opened.port


def test_security_insecure_lets_a_node_listen_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_text("[security]\ninsecure = true\n")
    arguments = ("--id", "0", "--memory", "--listen", "192.0.2.1", "--node", "0=tcp://localhost:1")
    result = CliRunner(env={"EPAXOS_REGISTERS": ""}).invoke(
        main, ["registers", "serve", *arguments, "-c", str(tmp_path / FILE)]
    )
    assert (result.exit_code, "cannot listen on 192.0.2.1" in result.stderr) == (2, True)
    assert [record.message.startswith("INSECURE: node 0 ") for record in caplog.records] == [True]
