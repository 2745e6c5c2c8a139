from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator

import pytest
import zmq

from epaxos.actors import link as link_module
from epaxos.actors.link import Mark, Outgoing, outgoing
from epaxos.actors.post import Post
from epaxos.actors.remote import Heard, Remote, RemoteSettings, Said
from epaxos.metrics import ReplicaStats
from epaxos.metrics.stats import DropReason
from epaxos.statemachine.batch import decode_payload
from epaxos.transport.codec import MESSAGE_NAMES, Beat, Codec, PeerRequest
from epaxos.transport.framing import Kind, open_frame, seal
from epaxos.version import NEWEST

CLUSTER = 0xC1
MAX_FRAME = 4096
TIMEOUT, BEACON, COMMIT_DELAY = 1.0, 0.1, 0.002
NO_ECHO = Beat(1, 0, 0)
MARK = Mark(3, 99)
THE_BEACON = outgoing("Beacon", b"beacon")


def commit(number: int) -> Outgoing:
    return outgoing("Commit", b"commit %d" % number)


def accept(number: int) -> Outgoing:
    return outgoing("Accept", b"accept %d" % number)


class Line:
    """A Remote of alpha to bravo, and the socket that bravo listens on. The clock is the tests' own."""

    def __init__(self, addressee: int = 0, timeout: float = TIMEOUT) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.endpoint = "tcp://127.0.0.1:*"
        self.router = self._listen()
        self.identity = b""
        self.bundles: list[PeerRequest] = []
        self.parts: list[bytes] = []
        self.heartbeats: list[PeerRequest] = []
        self.stats = ReplicaStats(["alpha", "bravo"], 0, [], list(MESSAGE_NAMES.values()), 2)
        self.watched = False
        self.beacon = THE_BEACON
        self.reported: list[tuple[str, bool]] = []
        self.refusals: list[str] = []
        port = int(self.endpoint.rpartition(":")[2])
        settings = RemoteSettings(
            "alpha",
            "bravo",
            "127.0.0.1",
            port,
            CLUSTER,
            77,
            timeout,
            BEACON,
            COMMIT_DELAY,
            MAX_FRAME,
            addressee=addressee,
        )
        self.remote = Remote(
            settings,
            self.context,
            self.stats,
            lambda *_: [self.beacon],
            lambda peer, online: self.reported.append((peer, online)),
            lambda _, text: self.refusals.append(text),
            lambda: Said(5, self.watched),
            lambda: MARK,
        )
        self.remote.begin(lambda: None)

    def _listen(self) -> zmq.Socket[bytes]:
        router = self.context.socket(zmq.ROUTER)
        router.set(zmq.RCVTIMEO, 5000)
        deadline = time.monotonic() + 5
        while True:  # ZeroMQ lets go of a port some time after its socket is closed
            try:
                router.bind(self.endpoint)
                break
            except zmq.ZMQError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        self.endpoint = str(router.get_string(zmq.LAST_ENDPOINT))
        return router

    def connect(self) -> None:
        """Wait until both connections stand; the first beacon goes through one, a heartbeat through the other."""
        deadline = time.monotonic() + 5
        while not all(dealer.poll(50, zmq.POLLOUT) for dealer in self.remote.link.dealers):
            assert time.monotonic() < deadline
        self.remote.tick(0.0)
        assert self.receive() == [b"beacon"]
        self.receive_heartbeat()

    def hear(self, now: float, *, hears: bool | None = True, beat: Beat | None = NO_ECHO) -> None:
        self.remote.hear(Heard(now, 7, hears, beat))
        self.remote.run_waiting()

    def send(self, now: float, messages: list[Outgoing], deferrable: list[Outgoing] | None = None) -> None:
        self.remote.send(now, messages, deferrable or [])
        self.remote.run_waiting()

    def receive(self) -> list[bytes]:
        """The messages of the next bundle that bravo receives."""
        return [message for message in self.receive_request().messages if isinstance(message, bytes)]

    def receive_request(self) -> PeerRequest:
        """The next bundle; it says nothing of hearing, since it may have waited."""
        while not self.bundles:
            self._take()
        return self.bundles.pop(0)

    def receive_heartbeat(self) -> PeerRequest:
        """The next heartbeat."""
        while not self.heartbeats:
            self._take()
        return self.heartbeats.pop(0)

    def _take(self) -> None:
        while self.remote.link.waiting and not self.router.poll(10):
            self.remote.link.drain()  # as the host does in its next round
        self.identity, frame, *parts = self.router.recv_multipart()
        self.parts += parts
        opened = open_frame(frame, CLUSTER, MAX_FRAME)
        assert opened[:2] == (Kind.PEER, CLUSTER)
        request = Codec(2, decode_payload).decode_envelope(opened.body)
        assert (request.sender, request.incarnation) == ("alpha", 77)
        assert request.messages or request.beat
        assert (request.kept is None) == bool(request.messages), "what waits may be read after what says more"
        (self.bundles if request.messages else self.heartbeats).append(request)

    def answer(self, frame: bytes) -> None:
        """Send something back, and wait until it has arrived."""
        self.router.send_multipart([self.identity, frame])
        deadline = time.monotonic() + 5
        while not any(dealer.poll(10) for dealer in self.remote.link.dealers):
            assert time.monotonic() < deadline

    def silent(self) -> bool:
        """Whether bravo has received nothing more but heartbeats."""
        while self.router.poll(30):
            self._take()
        return not self.bundles

    def dropped(self, reason: DropReason) -> int:
        return self.stats.dropped["bravo", reason]

    def close(self) -> None:
        self.remote.end()
        self.context.destroy(linger=0)


@pytest.fixture
def make() -> Iterator[Callable[[], Line]]:
    lines: list[Line] = []

    def make_line() -> Line:
        lines.append(Line())
        return lines[-1]

    yield make_line
    for line in lines:
        line.close()


@pytest.fixture
def line(make: Callable[[], Line]) -> Line:
    """A line that stands, to a peer that is online since time 0."""
    made = make()
    made.connect()
    made.hear(0.0)
    return made


# -- online and offline ------------------------------------------------------------------------------------


def test_peer_is_online_once_heard_and_offline_once_silent(line: Line) -> None:
    assert line.remote.online
    assert line.reported == [("bravo", True)]
    line.hear(0.5)
    line.remote.tick(1.4)
    assert line.reported == [("bravo", True)]
    line.remote.tick(1.6)
    assert line.reported == [("bravo", True), ("bravo", False)]
    assert line.stats.peer_up == {"bravo": False}
    line.hear(9.0)
    assert line.reported == [("bravo", True), ("bravo", False), ("bravo", True)]
    assert line.stats.peer_up == {"bravo": True}


def test_health_is_reported_only_when_it_changes(line: Line) -> None:
    for now in range(5):
        line.hear(now / 10)
    assert line.reported == [("bravo", True)]


def test_peer_that_does_not_hear_this_replica_is_offline(line: Line) -> None:
    line.hear(0.1, hears=False)
    assert line.reported == [("bravo", True), ("bravo", False)]
    line.send(0.1, [accept(1)])
    assert line.dropped("offline") == 1
    line.hear(0.2, hears=False)
    line.hear(0.3)
    assert line.reported == [("bravo", True), ("bravo", False), ("bravo", True)]


def test_peer_is_told_whether_it_is_heard(make: Callable[[], Line]) -> None:
    line = make()
    line.connect()
    told = []
    for now, heard in ((0.1, False), (0.2, True), (1.3, False)):
        if heard:
            line.hear(now, hears=False)
        line.remote.tick(now)
        heartbeat = line.receive_heartbeat()
        told.append((heartbeat.hears, heartbeat.addressee))
    assert told == [(False, 0), (True, 7), (False, 7)]
    assert line.reported == []  # never online: heard, but not hearing


def test_whom_it_speaks_to_is_said_from_the_first_frame_on_where_that_is_known() -> None:
    """Else another one at that address, which has lost the disk, would take it for its own link."""
    line = Line(addressee=6)
    try:
        line.connect()
        line.remote.tick(0.2)
        assert line.receive_heartbeat().addressee == 6
    finally:
        line.close()


def test_who_leaves_sends_what_waits_for_a_ride_and_says_so_last(make: Callable[[], Line]) -> None:
    line = make()
    line.connect()
    line.hear(0.0)
    line.send(0.0, [], [commit(1)])
    line.remote.leave(0.1)
    assert line.receive() == [b"commit 1"]
    assert line.receive_heartbeat().hears is None


def test_a_peer_that_is_silent_or_leaves_knows_no_level_also_if_it_never_heard_this_replica(
    make: Callable[[], Line],
) -> None:
    """A level is raised when all are there: who died as it came may come back as a program that does not know it."""
    line = make()
    for hears in (False, True):
        line.hear(0.0, hears=hears, beat=NO_ECHO._replace(newest=NEWEST + 1))
        line.remote.tick(0.5)
        assert line.stats.peer_level == {"bravo": NEWEST + 1}
        line.remote.tick(9.0)
        assert line.stats.peer_level == {"bravo": 0}
        line.remote.hasten()
    line.hear(9.5, hears=None, beat=NO_ECHO._replace(newest=NEWEST + 1))
    assert line.stats.peer_level == {"bravo": 0}


def test_a_peer_that_leaves_is_offline_at_once_and_not_heard(make: Callable[[], Line]) -> None:
    line = make()
    line.connect()
    line.hear(0.0)
    line.hear(0.1, hears=None)
    line.hear(0.15, beat=None)  # an older frame, which the farewell has overtaken
    assert line.reported == [("bravo", True), ("bravo", False)]
    line.remote.tick(0.2)
    assert line.receive_heartbeat().hears is False


# -- out of reach --------------------------------------------------------------------------------------------


def out_of_reach(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged about it, from where on it says for how long and why."""
    lines = [record.getMessage() for record in caplog.records]
    return [line.partition(" for ")[2] for line in lines if line.startswith("peer bravo is out of reach at ")]


def test_a_peer_that_is_never_reached_is_said_once_and_then_seldom(
    make: Callable[[], Line], caplog: pytest.LogCaptureFixture
) -> None:
    line = make()
    for now in (0.0, 1.0, 4.9):
        line.remote.tick(now)
    assert out_of_reach(caplog) == []
    for now in (5.0, 6.0, 600.0, 604.0):
        line.remote.tick(now)
    text = "it accepts connections and is silent; this replica goes on trying"
    assert out_of_reach(caplog) == [f"5s: {text}"]
    line.remote.tick(605.0)
    assert out_of_reach(caplog) == [f"5s: {text}", f"605s: {text}"]
    line.hear(606.0)
    line.remote.tick(606.1)
    line.remote.tick(608.0)  # it falls silent
    line.remote.tick(612.9)
    assert len(out_of_reach(caplog)) == 2
    line.remote.tick(613.1)
    assert out_of_reach(caplog)[2:] == [f"5s: {text}"]


def test_why_a_peer_is_out_of_reach(make: Callable[[], Line], caplog: pytest.LogCaptureFixture) -> None:
    line = make()
    line.connect()
    line.answer(seal(Kind.PEER_REFUSED, 0, b"cluster: compare the files"))
    line.remote.tick(5.0)
    another = bytearray(seal(Kind.PEER_REFUSED, 0, b"version: too old"))
    another[2] += 1
    another[12:16] = zlib.crc32(another[16:], zlib.crc32(another[:12])).to_bytes(4, "big")
    line.answer(bytes(another))
    line.remote.tick(605.0)
    line.hear(606.0, hears=False)
    for now in (1205.0, 1205.5):
        line.hear(now, hears=False)
        line.remote.tick(now)
    refused, version, deaf = (text.partition(": ")[2].partition(";")[0] for text in out_of_reach(caplog))
    assert refused == "it refuses this replica: compare the files"
    assert version == f"its answers are not understood: frame of level {NEWEST + 1}"
    assert deaf == "it is heard, but does not hear this replica"


def test_a_peer_where_nobody_listens(make: Callable[[], Line], caplog: pytest.LogCaptureFixture) -> None:
    line = make()
    line.router.close()
    deadline = time.monotonic() + 10
    now = 0.0
    while not out_of_reach(caplog):  # the clock is the tests' own, but the look-up takes real time
        assert time.monotonic() < deadline
        line.remote.tick(now)
        now = 5.0 if line.remote._way.trouble else min(now + 0.5, 4.9)
        time.sleep(0.01)
    assert out_of_reach(caplog) == ["5s: connection refused (127.0.0.1); this replica goes on trying"]


# -- what is sent --------------------------------------------------------------------------------------------


def test_messages_to_an_offline_peer_are_dropped_and_counted(make: Callable[[], Line]) -> None:
    line = make()
    line.connect()
    line.send(0.0, [accept(1)], [commit(1), commit(2)])
    assert line.dropped("offline") == 3
    assert line.silent()


def test_beacons_go_to_offline_peers_too(make: Callable[[], Line]) -> None:
    line = make()
    line.connect()
    line.remote.tick(BEACON)
    assert line.receive() == [b"beacon"]


def test_beacons_go_at_intervals(line: Line) -> None:
    assert line.remote.deadline == pytest.approx(BEACON)
    line.remote.tick(0.05)
    assert line.silent()
    line.remote.tick(0.1)
    assert line.receive() == [b"beacon"]
    assert line.remote.deadline == pytest.approx(0.2)


def test_remote_reconnects(line: Line) -> None:
    line.router.close()
    line.router = line._listen()
    deadline = time.monotonic() + 5
    now = 0.2
    while line.silent():
        assert time.monotonic() < deadline
        now += BEACON
        line.remote.tick(now)
    assert line.receive() == [b"beacon"]


# -- bundles -----------------------------------------------------------------------------------------------


def test_messages_of_a_round_go_in_one_bundle(line: Line) -> None:
    line.send(0.0, [accept(1), accept(2)])
    assert line.receive() == [b"accept 1", b"accept 2"]
    sent = line.stats.message_traffic("sent", "Accept", "bravo")
    assert (sent.messages, sent.bytes) == (2, 16)


def test_deferrable_messages_ride_with_the_next_ones(line: Line) -> None:
    line.send(0.0, [], [commit(1)])
    line.send(0.001, [], [commit(2)])
    assert line.silent()
    line.send(0.0015, [accept(1)], [commit(3)])
    assert line.receive() == [b"commit 1", b"commit 2", b"commit 3", b"accept 1"]


def test_deferrable_messages_leave_alone_after_the_delay(line: Line) -> None:
    line.send(0.01, [], [commit(1)])
    assert line.remote.deadline == pytest.approx(0.01 + COMMIT_DELAY)
    line.remote.tick(0.01 + COMMIT_DELAY / 2)
    assert line.silent()
    line.send(0.01 + COMMIT_DELAY / 2, [], [commit(2)])  # does not prolong the wait of the first
    line.remote.tick(0.01 + COMMIT_DELAY)
    assert line.receive() == [b"commit 1", b"commit 2"]
    assert line.remote.deadline == pytest.approx(BEACON)


def test_what_waits_for_a_ride_goes_with_the_peer(line: Line) -> None:
    line.send(0.0, [], [commit(1)])
    line.remote.tick(0.0)
    line.remote._set_online(online=False, reason="a test")
    line.hear(2.0)
    line.send(2.0, [accept(1)])
    assert line.receive() == [b"accept 1", b"beacon"], "which is due, and goes with it"


def test_what_waits_keeps_its_epoch_and_goes_in_no_envelope_of_another_one(line: Line) -> None:
    """A message of one epoch would be taken for one of the next: the same row, the same slot, the same ballot."""
    epochs = [0, 0, 3, 0, 3, 3]
    line.send(0.0, [outgoing("Accept", b"%d" % epoch, mark=Mark(epoch, epoch)) for epoch in epochs])
    seen: list[int] = []
    while len(seen) < len(epochs):
        bundle = line.receive_request()
        assert bundle.digest == bundle.epoch
        assert set(bundle.messages) == {b"%d" % bundle.epoch}
        seen += [bundle.epoch] * len(bundle.messages)
    assert seen == epochs


def test_a_large_message_goes_as_a_part_of_its_own(line: Line) -> None:
    encoded = bytes(range(256)) * 20
    large, small = outgoing("PreAccept", encoded, False, MARK), outgoing("Accept", b"accept 1", False, MARK)
    assert (large.size, small.size) == (len(encoded), len(b"accept 1"))
    line.send(0.0, [small, large, small])
    received: list[bytes | int] = []
    while len(received) < 3:
        received += line.receive_request().messages
    assert received == [b"accept 1", zlib.crc32(encoded), b"accept 1"]
    assert line.parts == [encoded]
    line.send(0.0, [large])  # as another Remote would, to another peer
    assert list(line.receive_request().messages) == [zlib.crc32(encoded)]
    assert line.parts == [encoded] * 2
    assert line.stats.message_traffic("sent", "PreAccept", "bravo").bytes == 2 * len(encoded)


def test_bundle_over_the_limit_is_divided(line: Line) -> None:
    large = [outgoing("Accept", bytes((number,)) * 1500) for number in range(5)]
    line.send(0.0, large)
    received: list[bytes] = []
    while len(received) < 5:
        received += line.receive()
    assert received == [message.encoded for message in large]


# -- a slow link -------------------------------------------------------------------------------------------


class Stuck:
    """Stands for a socket that takes nothing: a link that is full."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._real = line.remote.link.ordered

    def __enter__(self) -> None:
        closed = self._line.context.socket(zmq.DEALER)
        closed.set(zmq.IMMEDIATE, 1)
        closed.connect("tcp://127.0.0.1:1")
        self._line.remote.link.ordered = closed

    def __exit__(self, *_: object) -> None:
        self._line.remote.link.ordered.close()
        self._line.remote.link.ordered = self._real
        self._line.remote.link.drain()


def test_what_the_link_does_not_take_waits_and_goes_on_in_order(line: Line) -> None:
    with Stuck(line):
        line.send(0.05, [accept(1)], [commit(1)])
        line.send(0.05, [accept(2)])
        assert line.silent()
        assert line.remote.link.waiting == len(b"accept 1accept 2commit 1")
    assert line.receive() == [b"commit 1", b"accept 1", b"accept 2"]
    assert line.remote.link.waiting == 0


def test_what_waits_is_bounded_by_its_bytes(monkeypatch: pytest.MonkeyPatch, line: Line) -> None:
    monkeypatch.setattr(link_module, "QUEUE_BYTES", 100)
    with Stuck(line):
        line.send(0.05, [outgoing("PreAccept", bytes(150))])
        assert line.dropped("full") == 0, "one alone may be as large as it is"
        line.send(0.05, [accept(1), accept(2)])
        assert line.dropped("full") == 2
        assert line.remote.link.waiting == 150
    assert line.receive() == [bytes(150)]
    line.send(0.05, [accept(3)])
    assert line.receive() == [b"accept 3"]


def test_what_may_overtake_does_so_only_while_others_wait(line: Line) -> None:
    answer = outgoing("AcceptOK", b"vote", overtakes=True)
    with Stuck(line):
        line.send(0.05, [accept(1)])
        line.send(0.05, [answer, accept(2)])
        assert line.receive() == [b"vote"]
    assert line.receive() == [b"accept 1", b"accept 2"]
    line.send(0.05, [accept(3), answer])
    assert line.receive() == [b"accept 3", b"vote"]


def test_heartbeats_do_not_wait_and_at_most_one_beacon_does(line: Line) -> None:
    with Stuck(line):
        line.send(0.1, [accept(1)])
        for count in range(1, 6):
            line.remote.tick(count * BEACON)
            heartbeat = line.receive_heartbeat()
            assert (heartbeat.hears, heartbeat.messages) == (True, [])
    assert line.receive() == [b"accept 1", b"beacon"]
    line.remote.tick(6 * BEACON)
    assert line.receive() == [b"beacon"]


def test_beacons_keep_pace_with_the_least_name_and_go_with_the_echo(line: Line) -> None:
    """They are those of alpha, whose only peer is bravo; so it is the Remote that is told to call itself last."""
    post = Post()
    post.connect("bravo", line.remote)
    assert post.hear({"bravo": Heard(0.05, 7, True, NO_ECHO)}) == float("inf"), "alpha sets the pace"
    line.remote.sets_pace = True
    assert post.hear({"bravo": Heard(0.05, 7)}) == float("inf"), "that was no heartbeat"
    left = pytest.approx(0.01 + 1.1 * BEACON)
    assert post.hear({"bravo": Heard(0.01, 7, True, NO_ECHO)}) == left, (
        "one has just left, the next one waits for it"
    )
    assert post.hear({"bravo": Heard(0.03, 7, True, NO_ECHO)}) == left, "once"
    assert post.hear({"bravo": Heard(0.05, 7, True, NO_ECHO)}) == 0.05
    line.send(0.05, [outgoing("Echo", b"echo")])
    assert line.receive() == [b"echo", b"beacon"]
    assert line.remote.deadline == pytest.approx(0.05 + 1.1 * BEACON), "if bravo is not heard"
    line.remote.tick(0.2)
    assert line.receive() == [b"beacon"]
    assert line.remote.deadline == pytest.approx(0.3)


def test_who_misses_the_pace_is_not_silent_for_long_enough_to_be_taken_for_dead() -> None:
    line = Line(timeout=BEACON + 0.01)
    try:
        assert line.remote.keep_pace(0.0) == 0.0
        line.remote.tick(0.0)
        assert line.remote._next_beacon == pytest.approx(BEACON + 0.005)
        assert line.remote.keep_pace(0.015) == pytest.approx(BEACON + 0.005), "nor who waits for it"
    finally:
        line.close()


def rides(line: Line, now: float) -> bool:
    """Whether a heartbeat of now comes with the beacon, and not alone."""
    line.remote.hasten()
    line.remote.tick(now)
    ridden = line.receive_request()
    beat = ridden.beat or line.receive_heartbeat().beat
    assert beat is not None
    assert beat.stamp == int(now * 1e6), "one came twice"
    return ridden.beat is not None


def test_heartbeats_ride_with_beacons_while_nothing_else_is_sent_but_one_now_and_then(line: Line) -> None:
    line.beacon = THE_BEACON._replace(mark=MARK)
    line.hear(1.0)
    assert not rides(line, 1.0), "it has only just come"
    ridden = []
    for count in range(11, 19):
        line.hear(count / 10)
        ridden.append(rides(line, count / 10))
    assert ridden == [True, True, False, True, True, False, True, True], (
        "each third of the time-out one goes alone"
    )
    line.beacon = THE_BEACON
    assert not rides(line, 1.85), "it would be in the envelope of an earlier epoch"


def test_a_calm_link_beats_more_seldom_until_there_is_something_to_tell_or_the_peer_is_late(
    line: Line,
) -> None:
    def interval(now: float) -> float:
        line.remote.hasten()
        line.remote.tick(now)
        assert line.receive() == [b"beacon"], "nothing waits any more"
        return line.remote.deadline - now

    line.hear(0.9)
    assert interval(0.95) == pytest.approx(BEACON), (
        "it may be under way yet, what was sent when the peer came"
    )
    assert interval(1.05) == pytest.approx(TIMEOUT / 6), "six beats before it would be taken for dead"
    line.send(1.1, [outgoing("Accept", bytes(1100))])
    assert line.receive() == [bytes(1100)]
    assert interval(1.2) == pytest.approx(BEACON)
    line.hear(2.2)
    assert interval(2.3) == pytest.approx(TIMEOUT / 6)
    assert interval(2.8) == pytest.approx(BEACON), "its death is to be noticed as soon as ever"


def test_who_does_not_hear_this_replica_is_told_within_a_beacon_that_it_is_heard(line: Line) -> None:
    line.hear(1.05)
    line.remote.hasten()
    line.remote.tick(1.1)
    assert line.remote.deadline == pytest.approx(1.1 + TIMEOUT / 6)
    line.hear(1.11, hears=False)
    assert line.remote.deadline <= 1.11 + BEACON


def test_nothing_rides_with_the_beacon_with_which_a_peer_is_found_silent(line: Line) -> None:
    line.beacon = THE_BEACON._replace(mark=MARK)
    line.hear(0.1)
    assert [rides(line, now) for now in (1.01, 1.02)] == [False, True]
    assert not rides(line, 1.2)
    assert not line.remote.online


def test_heartbeats_ride_also_while_the_peer_is_late(line: Line) -> None:
    """Where the prompt connections of both have died alone, those that ride are all that either hears."""
    line.beacon = THE_BEACON._replace(mark=MARK)
    line.hear(1.0)
    assert [rides(line, now) for now in (1.1, 1.3, 1.6, 1.8)] == [False, True, False, True]


def test_no_heartbeat_rides_behind_what_has_been_sent_of_late_or_to_who_is_offline(line: Line) -> None:
    line.beacon = THE_BEACON._replace(mark=MARK)
    line.send(0.0, [outgoing("Accept", bytes(1100))])
    assert len(line.receive()) == 1
    assert not rides(line, 0.1)
    assert not rides(line, 0.85)
    line.hear(0.9)
    line.send(0.9, [accept(1)])
    assert line.receive() == [b"accept 1"]
    assert not rides(line, 1.0), "it was sent a second ago, and may be under way yet"
    assert rides(line, 1.2)
    line.hear(1.25, hears=False)
    assert not rides(line, 1.3)


def test_a_heartbeat_that_finds_no_room_in_order_goes_alone(line: Line) -> None:
    line.beacon = THE_BEACON._replace(mark=MARK)
    with Stuck(line):
        line.remote.tick(0.1)
        assert line.receive_heartbeat().kept == 5
    assert line.receive_request().beat is None


def test_nothing_waits_for_a_peer_that_is_offline(line: Line) -> None:
    with Stuck(line):
        line.send(0.05, [accept(1), accept(2)])
        line.hear(0.2, hears=False)
        assert line.dropped("offline") == 2
        line.remote.tick(0.3)
        assert line.remote.link.waiting == 0
    assert line.silent()


# -- round trips -------------------------------------------------------------------------------------------


def test_heartbeat_echoes_the_last_one_of_the_peer_how_long_it_was_held_and_whether_somebody_watches(
    line: Line,
) -> None:
    line.remote.tick(1.0)
    assert line.receive_heartbeat().beat == Beat(1_000_000, 1, 1_000_000)
    line.hear(1.05, beat=Beat(77_000_000, 0, 0))
    line.watched = True
    line.remote.tick(1.1)
    assert line.receive_heartbeat().beat == Beat(1_100_000, 77_000_000, 50_000, watched=True)


def test_peer_may_be_silent_for_some_round_trips(line: Line) -> None:
    """Where the time-out is below the round trip, it says nothing of a peer."""
    now = 0.0
    for _ in range(50):
        now += BEACON
        line.remote.tick(now)
        # What was sent 4 s ago comes back; half a second of that the peer has held it.
        line.hear(now, beat=Beat(1, max(1, int((now - 4.5) * 1e6)), 500_000))
    line.remote.tick(now + 7.0)
    assert line.remote.online, "silent for less than two round trips of four seconds"
    line.remote.tick(now + 20.0)
    assert not line.remote.online


def test_a_pause_is_not_taken_for_a_round_trip(line: Line) -> None:
    """Who was stopped for an hour sees its own heartbeats come back only then."""
    now = 0.0
    for _ in range(50):
        now += BEACON
        line.remote.tick(now)
        line.hear(now, beat=Beat(1, int((now - 0.001) * 1e6), 0))
    line.remote.tick(now)
    now += 3600.0
    line.hear(now, beat=Beat(1, int((now - 3600.0) * 1e6), 0))
    line.remote.tick(now)
    line.remote.tick(now + 30.0)
    assert not line.remote.online, "it died while this replica was stopped"


@pytest.mark.parametrize("noticed", [True, False])
def test_nor_is_that_of_a_peer_which_may_die_just_after_it_is_back(line: Line, *, noticed: bool) -> None:
    now = 0.0
    for _ in range(50):
        now += BEACON
        line.remote.tick(now)
        line.hear(now, beat=Beat(1, int((now - 0.001) * 1e6), 0))
    back = now + 8.0
    if noticed:
        line.remote.tick(now + 4.0)
        assert not line.remote.online
    line.hear(back, beat=Beat(1, int((now + 0.1) * 1e6), 0))
    assert line.remote.online
    line.remote.tick(back + 1.1)
    assert not line.remote.online, "it took a time-out, as of any other"


def test_frame_that_is_no_heartbeat_says_nothing_of_hearing(line: Line) -> None:
    """It may have waited for long: what it knew then is no news."""
    line.hear(0.1, hears=False, beat=None)
    assert line.remote.online
    line.hear(0.2, hears=False)
    line.hear(0.3, beat=None)
    assert not line.remote.online


def test_a_heartbeat_that_others_have_overtaken_tells_nothing_but_one_of_another_clock_does(
    line: Line,
) -> None:
    line.hear(0.1, hears=None, beat=Beat(900_000_000, 0, 0))
    line.hear(0.2, beat=Beat(899_900_000, 0, 0))
    assert not line.remote.online, "it rode, and stood still while the peer took leave"
    line.hear(0.3, beat=Beat(1_000_000, 0, 0))
    assert line.remote.online, "its machine has begun anew"


# -- what comes back ---------------------------------------------------------------------------------------


def test_refusal_is_passed_on_and_counted(line: Line) -> None:
    line.answer(seal(Kind.PEER_REFUSED, 0, b"wrong cluster"))
    line.remote.tick(BEACON)
    assert line.refusals == ["wrong cluster"]
    assert line.stats.errors["peer_refused"] == 1


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (b"garbage", "malformed"),
        (seal(Kind.REPLY, CLUSTER, b""), "unknown"),
        (seal(Kind.PEER_REFUSED, 5, b""), "cluster"),
    ],
)
def test_anything_else_that_comes_back_is_counted(line: Line, frame: bytes, kind: str) -> None:
    line.answer(frame)
    line.remote.tick(BEACON)
    assert line.refusals == []
    assert {name: count for name, count in line.stats.errors.items() if count} == {kind: 1}


def test_end_closes_the_socket_and_lets_nothing_wait_for_it(line: Line) -> None:
    """A poll for a closed socket returns at once, and who polls for it does nothing else any more."""
    post = Post()
    post.connect("bravo", line.remote)
    with Stuck(line):
        line.send(0.1, [accept(1)])
        assert post.blocked() == [line.remote.link.ordered]
        post.end()
        post.end()
    assert all(dealer.closed for dealer in line.remote.link.dealers)
    assert post.blocked() == []
