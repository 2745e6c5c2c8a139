"""A Replica whose disk fails promises nothing more, and lives on to say so."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgpack
import pytest
import zmq

from epaxos.actors import assembly, health
from epaxos.actors.amnesia import RefusedByPeers
from epaxos.actors.assembly import make_parts
from epaxos.actors.health import Standing, examine
from epaxos.actors.replica import Replica
from epaxos.config import Config, load_config
from epaxos.metrics import Health
from epaxos.protocol.epaxos.messages import Accept, Beacon, Echo, Message, Offer, PreAccept, PreAcceptOK
from epaxos.protocol.ids import InstanceId
from epaxos.statemachine.batch import decode_payload, encode_batch
from epaxos.statemachine.operations import Operation
from epaxos.storage.memory_engine import MemoryEngine
from epaxos.transport.codec import Beat, Codec, PeerRequest, encode_envelope, encode_message
from epaxos.transport.framing import ANY_CLUSTER, Kind, open_frame, seal
from epaxos.transport.pages import PeerMessage
from epaxos.watching.watchers import Watchers
from failing_engine import FailingEngine
from harness.lone import payload_of
from live_cluster import Ports

ME, BRAVO, CHARLIE = range(3)
WAIT = 10.0
"""Seconds after which what a test waits for is not going to happen."""


def beacon_of(slot: int) -> Beacon:
    """A beacon of a replica that is so far in all rows."""
    vector = (slot, slot, slot)
    return Beacon(vector, vector, vector, vector, vector, 0)


class Outside:
    """The peers and a client of the one replica that runs: sockets in a test's hand."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._codec = Codec(config.n, decode_payload)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._peers = [self._bound(row) for row in (BRAVO, CHARLIE)]
        self._door = self._connected(config.replicas[ME].peer_endpoint)
        self._client = self._connected(config.replicas[ME].client_endpoint)
        self._identities: dict[zmq.Socket[bytes], bytes] = {}
        self.heard: list[PeerMessage] = []
        self.incarnation = 0

    def close(self) -> None:
        self._context.destroy(linger=0)

    def _bound(self, row: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        socket.bind(self._config.replicas[row].peer_endpoint)
        return socket

    def _connected(self, endpoint: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        socket.connect(endpoint)
        return socket

    # -- peers ---------------------------------------------------------------------------------------------

    def speak(self, row: int, *messages: Message, watched: bool = False) -> None:
        """Be a peer that hears the replica, and may be `watched`."""
        request = PeerRequest(
            self._config.replicas[row].name,
            100 + row,
            [encode_message(message) for message in messages],
            True,
            self.incarnation,
            beat=Beat(1, 0, 0, watched=watched),
            digest=self._config.initial.digest,
        )
        self._door.send(seal(Kind.PEER, self._config.fingerprint, encode_envelope(request)))

    @property
    def knows_both(self) -> bool:
        """Whether the replica has spoken to both peers."""
        return len(self._identities) == len(self._peers)

    def refuse(self, kind: str) -> None:
        """Let both peers refuse the replica."""
        for socket in self._peers:
            text = f"{kind}: not you".encode()
            socket.send_multipart([self._identities[socket], seal(Kind.PEER_REFUSED, ANY_CLUSTER, text)])

    def listen(self) -> list[PeerMessage]:
        """What has arrived at the peers since the last time."""
        arrived: list[PeerMessage] = []
        for socket in self._peers:
            while socket.poll(0):
                self._identities[socket], frame = socket.recv_multipart()
                body = open_frame(frame, self._config.fingerprint, self._config.max_peer_frame).body
                request = self._codec.decode_envelope(body)
                self.incarnation = request.incarnation
                for message in request.messages:
                    assert isinstance(message, bytes)  # none is large
                    arrived.append(self._codec.decode_message(ME, message))
        self.heard += arrived
        return arrived

    def make_friends(self) -> None:
        """Let both peers be online for the replica."""
        beacon = beacon_of(-1)
        self.wait_for(lambda: self._has_beacon(beacon))

    def _has_beacon(self, beacon: Beacon) -> bool:
        self.listen()
        if not self.incarnation:
            return False
        for row in (BRAVO, CHARLIE):
            self.speak(row, beacon)
        online = self.status()["peers"]
        return all(peer["online"] for peer in online.values()) and bool(self.heard)

    @staticmethod
    def wait_for(holds: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT
        while not holds():
            assert time.monotonic() < end, "it does not come"
            time.sleep(0.01)

    # -- a client ------------------------------------------------------------------------------------------

    def request(self, number: int) -> None:
        body = encode_batch(7, number, 0, bytes((Operation.WRITE,)), [b"key"], [b"%d" % number])
        self._client.send(seal(Kind.REQUEST, self._config.fingerprint, body))

    def answer(self, *, within: float = WAIT) -> tuple[int, Any]:
        assert self._client.poll(int(within * 1000)), "no answer"
        frame = open_frame(self._client.recv(), self._config.fingerprint, self._config.max_frame)
        return frame.kind, msgpack.unpackb(frame.body)

    def status(self) -> dict[str, Any]:
        self._client.send(seal(Kind.STATUS, self._config.fingerprint, msgpack.packb((1, {}))))
        kind, (_, status) = self.answer()
        assert kind == Kind.STATUS_REPLY
        found: dict[str, Any] = status
        return found


class Running:
    """The replica, what it sits on, and what is around it."""

    def __init__(
        self,
        engine: FailingEngine,
        standing: Standing,
        outside: Outside,
        health: Callable[[], Health],
        watchers: Watchers,
    ) -> None:
        self.watchers = watchers
        self.engine = engine
        self.standing = standing
        self.health = health
        self.outside = outside

    def check_stopped(self, *, waits: bool = False) -> None:
        """It tells everybody that it takes no part any more, a client that `waits` at once.

        No peer hears from it again.
        """
        outside = self.outside
        outside.wait_for(lambda: bool(self.standing.trouble))
        assert not self.standing.reached.is_set(), "the process would end"
        refused = self.engine.refused
        if waits:
            assert outside.answer() == (Kind.AWAY, [7, 0, -1, "its disk failed"])
        for number in (100, 101):
            outside.request(number)
            assert outside.answer() == (Kind.AWAY, [7, number, 1, "its disk failed"])
        status = outside.status()
        assert "no space left" in status["storage_failed"]
        assert any("no space left" in reason for reason in self.health().unready)
        # Whoever speaks to it is not answered; ten beacons and several retries would have come by then.
        place = InstanceId(BRAVO, 50)
        command = payload_of(9, 1, [(Operation.WRITE, b"k", b"v")])
        time.sleep(0.1)
        outside.listen()  # what was sent before the disk failed has arrived by now
        outside.speak(BRAVO, PreAccept(place, command, (-1, -1, -1), 0))
        time.sleep(0.3)
        assert outside.listen() == []
        assert self.engine.refused == refused, "it still writes"
        assert outside.status()["committed"] == status["committed"]
        assert not self.standing.reached.is_set()


def config_on(ports: list[int]) -> Config:
    whole = load_config(None, environ={})
    replicas = tuple(
        replace(replica, port=ports[3 * row], client_port=ports[3 * row + 1], metrics_port=ports[3 * row + 2])
        for row, replica in enumerate(whole.replicas)
    )
    storage = replace(whole.storage, engine="memory", checkpoint=0.05)
    return replace(
        whole, replicas=replicas, beacon=0.03, timeout=5.0, retry=0.05, fast_path_timeout=5.0, storage=storage
    )


@pytest.mark.parametrize("known", [True, False])
def test_a_new_directory_is_kept_that_a_peer_knows_by_its_number(
    monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    """As where both peers were upgraded first: the replica would come back to them as another one."""
    engine = FailingEngine(MemoryEngine())
    abandoned: list[bool] = []
    monkeypatch.setattr(engine, "abandon", lambda: abandoned.append(True))
    monkeypatch.setattr(assembly, "open_engine", lambda *_, **__: engine)
    ports = Ports(9)
    config = config_on(ports.numbers)
    outside = Outside(config)
    standing = Standing()
    replica = Replica.start(config, ME, make_parts(config, ME), ["127.0.0.1"], standing)
    try:
        if known:
            outside.make_friends()
        outside.wait_for(lambda: bool(outside.listen()) and outside.knows_both)
        outside.refuse("version")
        outside.wait_for(standing.reached.is_set)
        outside.wait_for(lambda: not replica.is_alive())
    finally:
        replica.stop(block=True)
        outside.close()
        ports.close()
    assert isinstance(standing.error, RefusedByPeers)
    assert bool(abandoned) is not known


@contextmanager
def running(patch: pytest.MonkeyPatch, *fails: str, timeout: float = 5.0) -> Iterator[Running]:
    engine = FailingEngine(MemoryEngine(), fails or ("write_log",))
    patch.setattr(assembly, "open_engine", lambda *_, **__: engine)
    ports = Ports(9)
    config = replace(config_on(ports.numbers), timeout=timeout)
    outside = Outside(config)
    standing = Standing()
    parts = make_parts(config, ME)
    replica = Replica.start(config, ME, parts, ["127.0.0.1"], standing)
    try:
        yield Running(
            engine, standing, outside, lambda: examine(config, standing, parts.stats), parts.watchers
        )
    finally:
        replica.stop(block=True)
        outside.close()
        ports.close()
    assert standing.error is None


def pre_accepts(outside: Outside) -> list[PreAccept]:
    return [message for message in outside.heard if isinstance(message, PreAccept)]


def decide(outside: Outside) -> None:
    """Let one write be decided on the fast path and answered."""
    outside.request(1)
    outside.wait_for(lambda: bool(outside.listen() and pre_accepts(outside)))
    place, _, deps, seq = pre_accepts(outside)[-1]
    outside.speak(BRAVO, PreAcceptOK(place, deps, seq))
    kind, reply = outside.answer()
    assert (kind, reply[:2]) == (Kind.REPLY, [[7], [1]])


def test_a_proposal_that_was_not_written_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch) as replica:
        replica.outside.make_friends()
        replica.engine.fail_at(1)
        replica.outside.request(1)
        replica.check_stopped(waits=True)
        assert pre_accepts(replica.outside) == []


def test_a_decision_that_was_not_written_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first write is the proposal's, the second that of the decision."""
    with running(monkeypatch) as replica:
        outside = replica.outside
        outside.make_friends()
        replica.engine.fail_at(2)
        outside.request(1)
        outside.wait_for(lambda: bool(outside.listen() and pre_accepts(outside)))
        place, _, deps, seq = pre_accepts(outside)[0]
        outside.speak(BRAVO, PreAcceptOK(place, deps, seq))
        replica.check_stopped(waits=True)
        kinds = {type(message) for message in outside.heard}
        assert kinds - {Echo, Offer} == {Beacon, PreAccept}, "nothing was committed"
        assert outside.status()["executed_commands"] == 0


def test_a_promise_to_a_peer_that_was_not_written_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch) as replica:
        outside = replica.outside
        outside.make_friends()
        replica.engine.fail_at(1)
        command = payload_of(9, 1, [(Operation.WRITE, b"k", b"v")])
        time.sleep(0.1)
        outside.listen()  # what was sent before the disk failed has arrived by now
        outside.speak(BRAVO, PreAccept(InstanceId(BRAVO, 0), command, (-1, -1, -1), 0))
        replica.check_stopped()
        assert {type(message) for message in outside.heard} - {Echo} == {Beacon}


def test_a_peer_that_could_not_be_remembered_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch) as replica:
        replica.engine.fail_at(1)
        replica.outside.speak(BRAVO, beacon_of(5))
        replica.check_stopped()
        assert all(isinstance(message, Beacon) for message in replica.outside.heard)


@pytest.mark.parametrize("operation", ["stage_state", "commit_state"])
def test_a_checkpoint_that_was_not_written_stops_it_too(
    monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """The log may be on the same disk: what a replica believes to have written may not be there."""
    with running(monkeypatch, operation) as replica:
        replica.outside.make_friends()
        replica.engine.fail_at(1)
        decide(replica.outside)
        replica.check_stopped()
        assert replica.outside.status()["truncated"] == [-1, -1, -1]


def test_while_its_disk_hangs_a_replica_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch) as replica:
        outside = replica.outside
        outside.make_friends()
        assert replica.health().unready == []
        with replica.engine.hold:
            outside.request(1)
            outside.wait_for(lambda: replica.standing.at_work() > 0.05)
            assert replica.health().unready == []
            monkeypatch.setattr(health, "monotonic", lambda: time.monotonic() + 10)
            (reason,) = replica.health().unready
            assert reason.startswith("slow: at work on one round for 10.")
            assert replica.health().dead == []
            monkeypatch.undo()
        outside.wait_for(lambda: replica.health().unready == [])


def test_the_log_says_when_a_quorum_is_lost_and_regained(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "epaxos.actors")
    with running(monkeypatch, timeout=0.2) as replica:
        outside = replica.outside
        outside.make_friends()
        assert replica.health().unready == []
        outside.wait_for(lambda: bool(replica.health().unready))  # nobody speaks to it any more
        outside.make_friends()
    told = [record for record in caplog.records if "quorum" in record.getMessage()]
    assert [record.levelname for record in told] == ["INFO", "WARNING", "INFO"]
    assert told[1].getMessage() == (
        "no quorum: hears 1 of 3 replicas (alpha), 2 are needed; until then nothing commits here"
    )


def test_a_replica_whose_disk_works_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch) as replica:
        outside = replica.outside
        outside.make_friends()
        decide(outside)
        outside.wait_for(lambda: outside.status()["checkpoint"] == [0, -1, -1])
        assert outside.status()["storage_failed"] is None
        assert replica.health().unready == []
        assert not any(isinstance(message, Accept) for message in outside.heard)
        written = {key for puts in replica.engine.log for key, _ in puts}
        assert len(written) == 5, "the payload, its record, and who the three replicas are"
        assert not replica.watchers.history.records
        outside.speak(BRAVO, watched=True)
        outside.wait_for(lambda: replica.watchers.history.records)
