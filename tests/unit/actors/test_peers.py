from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

import msgpack
import pytest
import zmq

from epaxos import version
from epaxos.actors.assembly import Era, make_era
from epaxos.actors.peers import Known, Opened, Peers
from epaxos.config import Config, load_config
from epaxos.errors import StorageError
from epaxos.metrics import ReplicaStats
from epaxos.protocol.contract import Durable
from epaxos.protocol.eras import Eras
from epaxos.protocol.ids import Name
from epaxos.protocol.membership import (
    NO_EPOCH,
    NOBODY,
    Configuration,
    Member,
    incarnation_of,
    joined,
    nobody,
)
from epaxos.protocol.transfer import EpochOver
from epaxos.transport.codec import MESSAGE_NAMES, Beat, PeerRequest, encode_envelope, encode_message
from epaxos.transport.framing import Kind, open_frame, seal
from epaxos.transport.pages import PeerMessage
from epaxos.version import NEWEST, OLDEST
from fuzz.hostile import DEEP, Forge, Insider
from fuzz.samples import sample_messages
from harness.commands import over

CONFIG = load_config(None, environ={})
DIGEST = CONFIG.initial.digest
ME, BRAVO, CHARLIE = CONFIG.initial.names
ROW = 1
MESSAGES = sample_messages(CONFIG.n, ROW)


class Door:
    """The peers' side of replica alpha, with lists in the place of its socket and its disk."""

    def __init__(
        self,
        incarnations: Mapping[Name, int] | None = None,
        kept: Mapping[Name, int] | None = None,
        me: Name = ME,
        config: Config = CONFIG,
    ) -> None:
        names = [replica.name for replica in CONFIG.replicas]
        self.stats = ReplicaStats(names, 0, [], list(MESSAGE_NAMES.values()), 2)
        self.refused: list[tuple[bytes, str]] = []
        self.remembered: list[tuple[Name, int]] = []
        self.disk_fails = False
        self.eras = Eras(self._era(CONFIG.initial), ME)
        self.peers = Peers(
            config,
            me,
            self.eras,
            self.stats,
            self._refuse,
            Known(incarnation_of(me) or 1, incarnations or {}, kept or {}, self._remember),
        )

    @staticmethod
    def _era(configuration: Configuration) -> Era:
        nothing = (-1,) * configuration.n
        return make_era(CONFIG, ME, configuration, Durable((), nothing, nothing, ()))

    def begin_next(
        self,
        members: Mapping[Name, Member] | None = None,
        names: Sequence[Name] | None = None,
        level: int | None = None,
    ) -> None:
        """The epoch ends, and the next one has these members, and is of this level, if those are others."""
        following = self.eras.running.configuration.next(7, names=names, members=members, level=level)
        self.eras.next(self._era(following), over((0, 0, 0)), retiring=False)

    def _remember(self, name: Name, incarnation: int) -> None:
        if self.disk_fails:
            raise StorageError("no space left")
        self.remembered.append((name, incarnation))

    def _refuse(self, identity: bytes, frame: bytes) -> None:
        kind, _, body, level = open_frame(frame, CONFIG.fingerprint, CONFIG.max_frame)
        assert kind == Kind.PEER_REFUSED
        assert level == OLDEST
        self.refused.append((identity, body.decode()))

    def take(self, *messages: bytes, sender: Name = BRAVO, incarnation: int = 11) -> object:
        return self.peers.open(
            b"it", [zmq.Frame(envelope(*messages, sender=sender, incarnation=incarnation))]
        )

    @property
    def errors(self) -> dict[str, int]:
        return {kind: count for kind, count in self.stats.errors.items() if count}


def envelope(*messages: bytes | int, sender: Name = BRAVO, incarnation: int = 11) -> bytes:
    return seal(
        Kind.PEER,
        CONFIG.fingerprint,
        encode_envelope(PeerRequest(sender, incarnation, messages, digest=DIGEST)),
    )


def test_one_that_has_been_heard_is_examined_again_when_it_says_otherwise_and_in_the_next_epoch() -> None:
    door = Door()

    def hears(said: PeerRequest) -> bool:
        return (
            door.peers.open(b"it", [zmq.Frame(seal(Kind.PEER, CONFIG.fingerprint, encode_envelope(said)))])
            is not None
        )

    usual = PeerRequest(BRAVO, 11, (), addressee=1, digest=DIGEST)
    assert hears(usual)
    assert hears(usual)
    assert not hears(usual._replace(incarnation=12))
    assert not hears(usual._replace(addressee=2))
    assert not hears(usual._replace(digest=DIGEST ^ 1))
    assert door.errors == {"duplicate_name": 1, "addressee": 1, "cluster": 1}
    assert hears(usual)
    door.begin_next({BRAVO: Member(12)})
    assert not hears(usual)  # another bravo has been decided
    assert door.errors["duplicate_name"] == 2


def test_its_marks_are_of_the_replicas_that_it_has_heard_of() -> None:
    door = Door({CHARLIE: 2**32 + 9})
    assert door.peers.marks() == (1, 9)
    door.take(incarnation=11)
    assert door.peers.marks() == (1, 11, 9)


def test_all_messages_of_a_bundle_come_out_in_order() -> None:
    door = Door()
    opened = door.take(*map(encode_message, MESSAGES))
    assert opened == Opened(BRAVO, 11, MESSAGES, True, None, row=1)
    assert door.errors == {}
    accepted = door.stats.message_traffic("received", "Accept", "bravo")
    assert accepted.messages == 2  # one of a command, one of a no-op
    assert accepted.bytes == sum(
        len(encode_message(message)) for message in MESSAGES if type(message).__name__ == "Accept"
    )


LARGE = list(map(encode_message, MESSAGES))[:3]
SUMS = list(map(zlib.crc32, LARGE))


def test_messages_that_follow_as_parts_come_out_in_their_places() -> None:
    door = Door()
    parts = [envelope(SUMS[0], LARGE[1], SUMS[2]), LARGE[0], LARGE[2]]
    assert door.peers.open(b"it", list(map(zmq.Frame, parts))) == Opened(
        BRAVO, 11, MESSAGES[:3], True, None, row=1
    )
    assert door.errors == {}


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ([envelope(SUMS[0])], "malformed"),
        ([envelope(*SUMS), *LARGE[:2]], "malformed"),
        ([envelope(LARGE[0]), LARGE[0]], "malformed"),
        ([envelope(SUMS[0]), *LARGE[:2]], "malformed"),
        ([envelope(SUMS[0]), LARGE[1]], "checksum"),
        ([envelope(-1), LARGE[1]], "checksum"),
        ([envelope(*SUMS[:2]), LARGE[1], LARGE[0]], "checksum"),
        ([envelope(SUMS[0]), bytes(CONFIG.max_peer_frame)], "oversized"),
    ],
)
def test_parts_that_do_not_fit_are_dropped_with_their_envelope(parts: list[bytes], kind: str) -> None:
    door = Door()
    assert door.peers.open(b"it", list(map(zmq.Frame, parts))) is None
    assert door.errors == {kind: 1}


@pytest.mark.parametrize("seed", range(20))
def test_bad_messages_are_counted_one_by_one_and_the_others_taken(seed: int) -> None:
    door = Door()
    good = encode_message(MESSAGES[-1])
    forge = Forge(CONFIG, 0, None, Random(seed))
    bad = forge.bad_messages()
    assert len(bad) == len(MESSAGES)
    bundle = [part for message, _ in bad for part in (message, good)]
    assert door.take(*bundle) == Opened(BRAVO, 11, [MESSAGES[-1]] * len(bad), True, None, row=1)
    assert sum(door.errors.values()) == len(bad)
    assert set(door.errors) == {kind for _, kind in bad}
    assert door.refused == []


@pytest.mark.parametrize("depth", [100, 950, 990, 1000, 1010, 1020, 5000])
def test_deeply_nested_message_is_counted(depth: int) -> None:
    door = Door()
    assert door.take(b"\x91" * depth + b"\xc0", DEEP) == Opened(BRAVO, 11, [], True, None, row=1)
    assert sum(door.errors.values()) == 2


def test_what_is_logged_of_a_bad_message_is_short(caplog: pytest.LogCaptureFixture) -> None:
    door = Door()
    door.take(msgpack.packb([b"x" * 1_000_000]))
    [record] = caplog.records
    assert len(record.getMessage()) < 1000


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ([envelope(), envelope()], "malformed"),
        ([b""], "malformed"),
        ([seal(Kind.PEER, CONFIG.fingerprint, b"\xc1")], "malformed"),
        ([envelope(sender="")], "malformed"),
        ([seal(Kind.REQUEST, CONFIG.fingerprint, b"")], "unknown"),
        ([seal(99, CONFIG.fingerprint, b"")], "unknown"),
        ([envelope()[:-1] + b"x"], "checksum"),
        ([bytes(CONFIG.max_peer_frame + 1)], "oversized"),
    ],
)
def test_bad_frame_is_counted_and_dropped(parts: Sequence[bytes], kind: str) -> None:
    door = Door()
    assert door.peers.open(b"it", list(map(zmq.Frame, parts))) is None
    assert door.errors == {kind: 1}
    assert door.refused == []


@pytest.mark.parametrize("cluster", [0, 1, CONFIG.fingerprint ^ 1])
def test_peer_of_another_cluster_is_refused_with_one_line(
    cluster: int, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door()
    for _ in range(3):
        assert door.peers.open(b"it", [zmq.Frame(seal(Kind.PEER, cluster, b""))]) is None
    assert door.errors == {"cluster": 3}
    assert [identity for identity, _ in door.refused] == [b"it"] * 3
    assert len(caplog.records) == 1


def test_only_the_first_incarnation_of_a_peer_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    door = Door()
    message = encode_message(MESSAGES[-1])
    heard = Opened(BRAVO, 11, [MESSAGES[-1]], True, None, row=1)
    assert door.take(message, incarnation=11) == heard
    for _ in range(3):
        assert door.take(message, incarnation=12) is None
    assert door.take(message, incarnation=11) == heard
    assert door.errors == {"duplicate_name": 3}
    assert all("bravo is another one than the bravo heard before" in text for _, text in door.refused)
    assert len(caplog.records) == 1
    assert door.take(incarnation=12, sender=CHARLIE) == Opened(CHARLIE, 12, [], True, None, row=2)


def test_a_peer_is_remembered_once_and_before_it_is_heard() -> None:
    door = Door()
    for _ in range(3):
        assert door.take(incarnation=11) == Opened(BRAVO, 11, [], True, None, row=1)
        assert door.take(incarnation=12) is None
    door.take(sender=CHARLIE, incarnation=13)
    assert door.remembered == [(BRAVO, 11), (CHARLIE, 13)]


def test_an_incarnation_known_from_before_a_restart_is_the_only_one_heard() -> None:
    door = Door({BRAVO: 12})
    assert door.take(incarnation=11) is None
    assert door.errors == {"duplicate_name": 1}
    assert door.take(incarnation=12) == Opened(BRAVO, 12, [], True, None, row=1)
    assert door.remembered == []


def test_an_incarnation_that_has_been_decided_is_the_only_one_heard_whichever_came_first() -> None:
    door = Door({BRAVO: 11})
    door.begin_next({BRAVO: Member(12)})
    assert door.take(incarnation=11) is None
    assert door.take(incarnation=12) == Opened(BRAVO, 12, [], True, None, row=1)
    assert door.peers.incarnations == {ME: 1, BRAVO: 12}
    assert list(map(door.peers.known, (BRAVO, CHARLIE, joined("delta", 9)))) == [12, 0, 9]


def test_who_takes_part_in_no_epoch_is_not_heard() -> None:
    door = Door()
    assert door.take(sender="delta") is None
    assert door.errors == {"stranger": 1}
    assert door.remembered == []
    delta = joined("delta", 9)
    door.begin_next({delta: Member(9, "10.0.0.4", 3264, 1, 2)}, (ME, BRAVO, delta))
    assert door.take(sender="delta") is None
    told = [text.partition(":")[2] for _, text in door.refused]
    assert told[0].startswith(
        " 'delta' is no member of this cluster, whose members are alpha, bravo, charlie: begin"
    )
    assert told[1].startswith(" delta joined this cluster, and was started without its data; give delta back")


@pytest.mark.parametrize("told", ["zz", "-1", "1_0", "", "0" * 16, "00C0FFEE00C0FFEE", "00c0ffee00c0ffee#1"])
def test_a_name_that_tells_no_incarnation_is_malformed(told: str) -> None:
    door = Door()
    assert door.take(sender=f"delta#{told}") is None
    assert door.errors == {"malformed": 1}


def test_who_speaks_of_a_later_epoch_is_a_guest_and_tells_where_it_is() -> None:
    """It came while this replica was away: nobody else may be left to say that the epoch is over."""
    door = Door()
    over_ = encode_message(EpochOver(0, None))
    request = PeerRequest("delta", 9, [over_], beat=Beat(1, 0, 0, NEWEST, "10.0.0.4", 3264), epoch=2)
    opened = door.peers.open(
        b"it", [zmq.Frame(seal(Kind.PEER, CONFIG.fingerprint, encode_envelope(request)))]
    )
    assert opened is not None
    assert opened.messages == [EpochOver(0, None)]
    assert door.peers.place_of("delta") == ("10.0.0.4", 3264)
    assert door.take(sender="delta", incarnation=9) is not None, "also in this epoch, from then on"
    heard = 0
    for number in range(100):
        request = PeerRequest(f"guest{number}", 9, [], epoch=2)
        frame = zmq.Frame(seal(Kind.PEER, CONFIG.fingerprint, encode_envelope(request)))
        heard += door.peers.open(b"it", [frame]) is not None
    assert heard == 31


def test_the_place_of_a_guest_that_has_gone_is_another_s() -> None:
    """Each observer that lost its directory is another guest, and 32 of them were once all that a replica took."""
    door = Door()
    for number in range(1, 101):
        observer = joined("oscar", number)
        assert door.take(sender=observer, incarnation=number) == Opened(
            observer, number, [], True, None, row=3
        )
        assert door.stats.peers == (BRAVO, CHARLIE, observer)
        door.peers.release({observer})
        door.eras.running.release({observer})
        assert door.eras.running.name_of(3) == observer
        door.peers.release(())
        door.eras.running.release(())
        assert door.eras.running.name_of(3) == NOBODY
    assert (door.peers.guests, door.stats.peers, door.remembered) == ({}, (BRAVO, CHARLIE), [])


def test_nothing_is_remembered_of_names_that_are_made_up() -> None:
    """Of so many there was once a note on the disk, and their places were nobody else's until a restart."""
    door = Door()
    for number in range(100):
        request = PeerRequest(f"guest{number}", 9, [], epoch=2)
        frame = seal(Kind.PEER, CONFIG.fingerprint, encode_envelope(request))
        assert door.peers.open(b"it", [zmq.Frame(frame)]) is not None
        assert door.take(sender=f"guest{number}", incarnation=8) is None, "the first that is heard, meanwhile"
        door.peers.release(())
    assert (door.remembered, door.peers.guests) == ([], {})


def test_a_member_is_where_this_process_was_told_until_another_place_has_been_decided() -> None:
    """All of them may have moved while nobody was there to be told by `epaxos member move`."""
    delta = joined("delta", 9)
    door = Door(
        config=replace(CONFIG, peer_addresses=(("bravo", ("10.0.0.7", 1)), ("delta", ("10.0.0.8", 2))))
    )
    assert door.peers.place_of(BRAVO) == ("10.0.0.7", 1)
    door.begin_next({delta: Member(9, "10.0.0.4", 3264, 1, 2)}, (ME, BRAVO, delta))
    assert list(map(door.peers.place_of, (BRAVO, delta))) == [("10.0.0.7", 1), ("10.0.0.8", 2)]
    door.begin_next({delta: Member(9, "10.0.0.9", 3264, 1, 2, moved=2)})
    assert list(map(door.peers.place_of, (BRAVO, delta))) == [("10.0.0.7", 1), ("10.0.0.9", 3264)]


def test_a_member_is_where_the_file_says_or_else_where_was_decided() -> None:
    door = Door()
    delta = joined("delta", 9)
    assert door.peers.place_of(BRAVO) == (CONFIG.replicas[1].host, CONFIG.replicas[1].port)
    assert door.peers.place_of(delta) is None
    door.begin_next({delta: Member(9, "10.0.0.4", 3264, 1, 2)}, (ME, BRAVO, delta))
    assert door.peers.place_of(delta) == ("10.0.0.4", 3264)
    assert door.take(sender=delta, incarnation=8) is None
    assert door.errors == {"duplicate_name": 1}


def test_a_peer_that_cannot_be_remembered_is_not_heard() -> None:
    door = Door()
    door.disk_fails = True
    for incarnation in (11, 12):
        with pytest.raises(StorageError, match="no space left"):
            door.take(encode_message(MESSAGES[-1]), incarnation=incarnation)
    door.disk_fails = False
    assert door.take(incarnation=12) == Opened(BRAVO, 12, [], True, None, row=1)


def test_what_is_meant_for_another_process_of_the_own_name_is_not_heard() -> None:
    """A late answer to a proposal of that one would count as an answer to one of this one in the same slot."""
    door = Door()
    message = encode_message(MESSAGES[-1])
    for addressee, heard in ((0, True), (1, True), (2, False)):
        frame = seal(
            Kind.PEER,
            CONFIG.fingerprint,
            encode_envelope(PeerRequest(BRAVO, 11, [message], True, addressee, digest=DIGEST)),
        )
        assert (door.peers.open(b"it", [zmq.Frame(frame)]) is not None) is heard
    assert door.errors == {"addressee": 1}
    assert door.refused == []


def test_one_that_joined_in_the_place_of_another_hears_nothing_that_was_meant_for_that() -> None:
    """Who began while nobody was at that address has a link there which does not hear the old one, and says so."""
    me = joined(ME, 5)
    door = Door(me=me)
    request = PeerRequest(BRAVO, 11, [], False, 0, beat=Beat(1, 0, 0, NEWEST), digest=DIGEST)
    for addressee, heard in ((0, False), (1, False), (5, True)):
        frame = seal(Kind.PEER, CONFIG.fingerprint, encode_envelope(request._replace(addressee=addressee)))
        assert (door.peers.open(b"it", [zmq.Frame(frame)]) is not None) is heard
    assert door.errors == {"addressee": 2}


def test_one_that_is_to_join_need_not_know_who_is_where_its_file_says_and_speaks_of_no_epoch() -> None:
    me, delta = joined(ME, 5), joined("delta", 9)
    door = Door(me=me)
    beat = Beat(1, 0, 0, NEWEST, "10.0.0.4", 3267)
    request = PeerRequest(delta, 9, [], False, 0, beat=beat, digest=nobody("multipaxos").digest)
    for addressee in (0, 5):
        opened = door.peers.open(b"it", [zmq.Frame(sealed(request._replace(addressee=addressee)))])
        assert opened is not None
        assert (opened.epoch, opened.row) == (NO_EPOCH, None)
        assert opened.beat == beat
    assert door.peers.place_of(delta) == ("10.0.0.4", 3267)
    # It has heard of this replica at another address by now, and goes on looking at that of its file for who is there.
    for addressee, hears, told in ((5, True, beat), (0, False, None), (5, False, beat), (0, None, beat)):
        frame = sealed(request._replace(addressee=addressee, hears=hears))
        opened = door.peers.open(b"it", [zmq.Frame(frame)])
        assert opened is not None
        assert opened.beat == told
    assert door.peers.open(b"it", [zmq.Frame(sealed(request._replace(addressee=1)))]) is None
    assert door.errors == {"addressee": 1}


def sealed(request: PeerRequest) -> bytes:
    return seal(Kind.PEER, CONFIG.fingerprint, encode_envelope(request))


def keeping(kept: int | None) -> list[bytes]:
    """A frame of bravo that says how much it has kept."""
    request = PeerRequest(BRAVO, 11, [], True, 0, kept, digest=DIGEST)
    return [seal(Kind.PEER, CONFIG.fingerprint, encode_envelope(request))]


def test_a_peer_that_comes_back_with_less_than_it_had_kept_is_refused() -> None:
    door = Door()
    for identity, kept in ((b"one", 5), (b"one", 9), (b"two", 9), (b"three", None), (b"four", 12)):
        assert door.peers.open(identity, list(map(zmq.Frame, keeping(kept)))) is not None
    assert door.refused == []
    for kept in (11, 12, 13):  # it goes on, and has lost what it had lost
        assert door.peers.open(b"copy", list(map(zmq.Frame, keeping(kept)))) is None
    assert door.errors == {"old_copy": 3}
    assert door.refused[0][0] == b"copy"
    assert door.refused[0][1].startswith(
        "old_copy: bravo runs on an earlier copy of its data directory: it lacks 1 or more of the instances"
    )
    assert "not an earlier copy of it" in door.refused[0][1]
    assert door.peers.kept == {BRAVO: 12}
    assert door.peers.open(b"true one", list(map(zmq.Frame, keeping(12)))) is not None


def test_a_late_frame_of_a_connection_that_was_replaced_is_no_sign_of_a_copy() -> None:
    door = Door()
    for identity, kept in ((b"old", 5), (b"new", 7), (b"old", 6), (b"new", 7)):
        assert door.peers.open(identity, list(map(zmq.Frame, keeping(kept)))) is not None
    assert door.errors == {}


def test_how_much_a_peer_had_kept_outlives_this_process() -> None:
    door = Door({BRAVO: 11}, {BRAVO: 10})
    assert door.peers.open(b"one", list(map(zmq.Frame, keeping(9)))) is None
    assert door.peers.open(b"two", list(map(zmq.Frame, keeping(10)))) is not None


def test_second_replica_of_the_own_name_is_refused() -> None:
    door = Door()
    assert door.take(sender=ME) is None
    assert door.errors == {"duplicate_name": 1}
    assert door.refused == [(b"it", "duplicate_name: a second replica calls itself alpha")]


def test_one_that_joined_and_looks_for_who_had_its_name_may_find_itself() -> None:
    me = joined(ME, 5)
    door = Door(me=me)
    request = PeerRequest(me, 5, [], False, 3, beat=Beat(1, 0, 0, NEWEST), digest=DIGEST)
    assert door.peers.open(b"it", [zmq.Frame(sealed(request))]) is None
    assert (door.errors, door.refused) == ({"addressee": 1}, [])
    assert door.peers.open(b"it", [zmq.Frame(sealed(request._replace(addressee=5)))]) is None
    assert [text.split(":")[0] for _, text in door.refused] == ["duplicate_name"]


def of_epoch(door: Door, epoch: int, *messages: PeerMessage, digest: int = 0) -> Opened | None:
    request = PeerRequest(BRAVO, 11, [*map(encode_message, messages)], digest=digest, epoch=epoch)
    return door.peers.open(b"it", [zmq.Frame(seal(Kind.PEER, CONFIG.fingerprint, encode_envelope(request)))])


def test_of_a_later_epoch_nothing_is_taken_but_what_is_of_none() -> None:
    """An answer of it would be taken for one about another instance of the same place (protocol 6.1)."""
    door = Door()
    over = EpochOver(0, (3, -1, 5))
    for epoch in (1, 2, 2**32 - 1):
        opened = of_epoch(door, epoch, *MESSAGES[:2], over)
        assert opened is not None
        assert (opened.epoch, opened.messages) == (epoch, [over])
        assert len(opened.ahead) == (3 if epoch == 1 else 0)
    assert (door.errors, door.refused) == ({"epoch": 4}, [])


def test_what_came_ahead_of_its_epoch_is_read_when_that_has_begun() -> None:
    door = Door()
    digest = CONFIG.initial.next(7).digest
    opened, other = (of_epoch(door, 1, MESSAGES[0], EpochOver(0, None), digest=of) for of in (digest, 5))
    assert opened is not None
    assert other is not None
    assert door.peers.decode_ahead(opened) == []
    door.begin_next()
    assert door.peers.decode_ahead(opened) == [MESSAGES[0]]
    assert not door.errors
    assert door.peers.decode_ahead(other) == [], "its sender means another configuration by the epoch"
    assert door.errors == {"cluster": 1}


def test_an_epoch_that_is_over_is_read_as_long_as_it_is_kept() -> None:
    door = Door()
    door.begin_next()
    opened = of_epoch(door, 0, MESSAGES[0], digest=DIGEST)
    assert opened is not None
    assert opened.messages == [MESSAGES[0]]
    door.eras.forget_below(1)
    opened = of_epoch(door, 0, MESSAGES[0], digest=DIGEST)
    assert opened is not None
    assert (opened.messages, door.errors) == ([], {"epoch": 1})


def test_a_peer_that_means_another_configuration_by_the_same_epoch_is_refused() -> None:
    door = Door()
    request = PeerRequest(BRAVO, 11, [], digest=DIGEST ^ 1)
    assert (
        door.peers.open(b"it", [zmq.Frame(seal(Kind.PEER, CONFIG.fingerprint, encode_envelope(request)))])
        is None
    )
    assert (door.errors, door.remembered) == ({"cluster": 1}, [])
    [(_, text)] = door.refused
    assert text == (
        "cluster: bravo and this replica do not mean the same by epoch 0: here it is alpha, bravo, charlie "
        f"(f 1, e 1, protocol 'epaxos', level {NEWEST}); compare the configuration files, and begin a new "
        "cluster with one version of the program"
    )


def test_a_program_that_does_not_know_the_level_of_the_cluster_is_told_so_in_one_that_it_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has missed the turn, and can read nothing else that is sent to it: of itself it would wait for ever."""
    door = Door()
    monkeypatch.setattr(version, "NEWEST", NEWEST + 1)
    for raised, newest in ((False, NEWEST), (True, NEWEST + 1), (True, NEWEST)):
        if raised and newest > NEWEST:
            door.begin_next(level=NEWEST + 1)
        request = PeerRequest(BRAVO, 11, [], digest=DIGEST, beat=Beat(1, 0, 0, newest))
        frame = seal(Kind.PEER, CONFIG.fingerprint, encode_envelope(request))
        assert (door.peers.open(b"it", [zmq.Frame(frame)]) is None) is (raised and newest == NEWEST)
    assert door.errors == {"version": 1}
    [(_, text)] = door.refused
    assert text == (
        f"version: the cluster is at level {NEWEST + 1} since epoch 1 or before, and bravo knows none above {NEWEST}: "
        "start a version that knows it, on the same data"
    )


def test_log_of_ever_different_errors_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    door = Door()
    for cluster in range(1, 1500):
        door.peers.open(b"it", [zmq.Frame(seal(Kind.PEER, cluster, b""))])
    assert door.errors == {"cluster": 1499}
    assert len(caplog.records) == 1000


@pytest.mark.parametrize("seed", range(3))
def test_forged_frames_are_counted_as_the_forge_says(seed: int) -> None:
    """tools/fuzz compares what live replicas count with what the forge expects; here both are alone."""
    door = Door()
    insider = Insider(ROW, 11)
    for row in range(CONFIG.n):  # peers that are known
        door.take(sender=CONFIG.initial.names[row], incarnation=insider.incarnation)
    before = Counter(door.errors)
    forge = Forge(CONFIG, 0, insider, Random(seed))
    expected = Counter[str]()
    for _ in range(500):
        hostile = forge.peer_frame()
        expected.update(hostile.kinds)
        opened = door.peers.open(b"it", list(map(zmq.Frame, hostile.parts)))
        assert opened in (None, Opened(BRAVO, 11, [], True, None, row=1))
    assert Counter(door.errors) - before == expected
    kinds = {"malformed", "checksum", "version", "cluster", "unknown", "duplicate_name"}
    assert set(expected) == kinds


def test_who_has_moved_is_not_looked_for_where_the_file_has_it() -> None:
    door = Door()
    assert door.peers.place_of(BRAVO) == (CONFIG.replicas[1].host, CONFIG.replicas[1].port)
    door.begin_next({BRAVO: Member(12, "10.0.0.8", 7, 8, 9)})
    assert door.peers.place_of(BRAVO) == (CONFIG.replicas[1].host, CONFIG.replicas[1].port), (
        "it has not moved"
    )
    door.begin_next({BRAVO: Member(12, "10.0.0.9", 1, 2, 3, 2)})
    assert door.peers.place_of(BRAVO) == ("10.0.0.9", 1)
