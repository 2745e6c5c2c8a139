"""What comes from peers: which frames are of this cluster, and which replica's memory they speak for."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final, NamedTuple

import zmq

from epaxos import version
from epaxos.actors.amnesia import advice
from epaxos.actors.assembly import Era
from epaxos.actors.mailbox import address_of, content_of
from epaxos.checksum import crc32
from epaxos.config import Config
from epaxos.errors import FrameError
from epaxos.metrics import ReplicaStats, Traffic
from epaxos.protocol.eras import Eras
from epaxos.protocol.ids import Name, Row
from epaxos.protocol.kinds import KINDS
from epaxos.protocol.membership import NO_EPOCH, NOBODYS, Configuration, called, incarnation_of
from epaxos.transport.codec import Beat, PeerRequest
from epaxos.transport.framing import ANY_CLUSTER, Body, Kind, open_frame, seal
from epaxos.transport.pages import OF_NO_EPOCH, PeerMessage
from epaxos.watching.position import marks_of

_log = logging.getLogger(__name__)

_WORTH_A_REFUSAL: Final = frozenset({"cluster", "version", "duplicate_name", "old_copy", "stranger"})

_CONNECTIONS: Final = 16
"""The last connections of a peer of which it is known what its first frame said."""
_GUESTS: Final = 32
"""Of so many it is known, besides those who take part in an epoch that is known here."""

_LOGGED_AT_MOST: Final = 1000


class Opened(NamedTuple):
    """What one frame brought: messages, of which incarnation of its sender, and the rest as in `PeerRequest`.

    Of the next epoch `ahead` has the messages as they came, and `digest` tells what their sender means by it. All are
    of `level`. `row` is that of the sender in its epoch, or one as a guest; None if it has neither.
    """

    sender: Name
    incarnation: int
    messages: list[PeerMessage]
    hears: bool | None
    beat: Beat | None
    epoch: int = 0
    ahead: Sequence[bytes] = ()
    digest: int = 0
    level: int = version.OLDEST
    row: Row | None = None


class Known(NamedTuple):
    """What the data directory says of this replica and its peers.

    incarnation   this replica's
    incarnations  those of the peers that were ever heard of, by name
    kept          how much peers had kept when that was last noted, by name
    remember      makes a peer's incarnation durable
    """

    incarnation: int
    incarnations: Mapping[Name, int]
    kept: Mapping[Name, int]
    remember: Callable[[Name, int], None]


class Peers:
    """Opens what arrives on the peers' socket; everything else is counted, refused and dropped.

    A peer is known by its incarnation, the number it drew when its data directory was made. Only the first one
    heard of each name is listened to, for ever (`remember` makes it durable), or that which the configuration says:
    another one is either a second process of the same name, or a replica that came back without its data and would
    break the promises it has forgotten (protocol 4.11c). Nor does a replica listen to what is meant for another one of
    its name: a late answer to what that one proposed would count as an answer to what this one proposes in the same
    place, and whoever looks for that one says that it does not hear it. Who speaks to one that joined knows its
    incarnation, which is a part of its name.

    Who takes part in no epoch that is known here is not listened to at all, but for some who say that there is a later
    one, one that joined, or any if this replica is to join: those *guests* tell where they are to be reached. There are
    so many places for them, and those of who has gone, or does not answer, are given to others (`release`). Names can
    be made up, so nothing of guests is made durable.

    A frame is read by the codec of its epoch, if that runs or is kept. Of another one nothing is taken but what is of
    no epoch; what comes from the next one before it has begun here is handed out as it came, for then.

    Where replicas have keys, `sender` tells of which one a frame is: no other may speak in its name. That is seen
    before anything is remembered of who is named in it.

    And one that comes back with less than it is known to have kept has an earlier copy of its directory. What peers
    have kept is noted now and then only, and not each promise adds to it: this notices most such copies, not all.
    """

    def __init__(
        self,
        config: Config,
        me: Name,
        eras: Eras[Era],
        stats: ReplicaStats,
        refuse: Callable[[bytes, bytes], None],
        known: Known,
        sender: Callable[[zmq.Frame], str] | None = None,
    ) -> None:
        self._config = config
        self._sender = sender
        self._me = me
        self._eras = eras
        self._stats = stats
        self._refuse = refuse
        self._incarnation = known.incarnation
        self._incarnations = dict(known.incarnations)
        self._remember = known.remember
        self.guests: dict[Name, int] = {}
        self._told = dict(config.peer_addresses)
        self._began_in = eras.running.epoch
        self._places: dict[Name, tuple[str, int]] = {}
        self._decided_by: Configuration | None = None
        self._decided: dict[Name, int] = {}
        self.kept = dict(known.kept)
        """How much each peer has been heard to have made durable, at least."""
        self._vouched: dict[Name, tuple[int, int, int, int]] = {}
        self._vouched_in = eras.running
        self._judged: defaultdict[Name, dict[bytes, bool]] = defaultdict(dict)
        self.acknowledged: set[Name] = set()
        """The peers that have said that they know this incarnation."""
        self._logged: set[tuple[str, str, str]] = set()
        self._traffic: dict[Name, dict[type[Any], Traffic]] = {}

    @property
    def settled(self) -> bool:
        """Whether enough others have said, in this life or an earlier one, that they know this replica for ever."""
        return self._me in self._incarnations

    def settle(self) -> None:
        """Make durable that they have.

        Raises:
            StorageError: it could not be.
        """
        self._remember(self._me, self._incarnation)
        self._incarnations[self._me] = self._incarnation

    def marks(self) -> tuple[int, ...]:
        """Those of this cluster, for the positions of watchers."""
        members = {**self._decided, self._me: self._incarnation}
        return marks_of([*members.values(), *reversed(self._incarnations.values())])

    def open(self, identity: bytes, parts: Sequence[zmq.Frame]) -> Opened | None:
        """What one frame from the peers' socket brings, None if it was dropped.

        Raises:
            StorageError: a peer that was heard for the first time could not be remembered.
        """
        try:
            request, level = self._open_request(identity, parts)
            encodings = _joined(request.messages, parts[1:])
        except FrameError as error:
            self._drop(identity, parts[0], error)
            return None
        eras = self._eras
        row = self._row_of(request)
        messages = self._decode(request.sender, request.epoch, level, encodings, parts, row)
        is_next = request.epoch == eras.running.epoch + 1
        return Opened(
            request.sender,
            request.incarnation,
            messages,
            request.hears,
            None if self._is_of_a_search(request) else request.beat,
            request.epoch,
            [bytes(encoded) for encoded in encodings] if is_next else (),
            request.digest if is_next else 0,
            level,
            row,
        )

    def _is_of_a_search(self, request: PeerRequest) -> bool:
        """Whether a heartbeat tells nothing of this replica: its sender knows it, and here speaks to nobody it knows.

        Who is to join looks for those of its file (`reach`). Where this replica is one of them, but says of itself
        another address, it has two ways here: by one it hears this replica, and by the other one nobody ever.
        """
        return request.hears is False and not request.addressee and request.sender in self.acknowledged

    def decode_ahead(self, opened: Opened) -> list[PeerMessage]:
        """Read what came ahead of the epoch that runs by now; nothing of another, or of who means another by it."""
        running = self._eras.running
        if opened.epoch != running.epoch:
            return []
        if opened.digest != running.mark.digest:
            self._stats.error("cluster")
            return []
        row = running.row_of(opened.sender)
        return self._decode(opened.sender, opened.epoch, opened.level, opened.ahead, None, row)

    def _row_of(self, request: PeerRequest) -> Row | None:
        """The row of a sender in its epoch, or one as a guest if it means the same by that; None if neither."""
        era = self._eras.of(request.epoch)
        if era is None:
            return None
        row = era.row_of(request.sender)
        if row is None and era.row is not None and request.digest == era.mark.digest:
            return era.guest_row(request.sender)
        return row

    def _decode(
        self,
        sender: Name,
        epoch: int,
        level: int,
        encodings: Sequence[Body],
        parts: Sequence[zmq.Frame] | None,
        row: Row | None,
    ) -> list[PeerMessage]:
        eras, running = self._eras, self._eras.running
        era = running if epoch == running.epoch else eras.of(epoch) or running
        codec, is_guest = era.codec, row is not None and row >= len(era.names)
        messages = []
        traffic = self._traffic.get(sender)
        if traffic is None:
            self._stats.know(sender)
            traffic = self._traffic[sender] = {}
        for encoded in encodings:
            try:
                message = codec.decode_message(row, encoded, epoch, level)
            except FrameError as error:
                if error.kind != "epoch":
                    self._drop(b"", None if parts is None else parts[0], error)
                elif not (eras.joins or epoch in (era.epoch, NO_EPOCH, running.epoch + 1)):
                    self._stats.error("epoch")  # no news: epochs begin here and there at different times
                continue
            kind_of_message = type(message)
            if parts is None and kind_of_message in OF_NO_EPOCH:
                continue  # it was taken as it came
            of_guests = KINDS[era.configuration.protocol].of_guests if is_guest else ()
            if is_guest and kind_of_message not in (*of_guests, *OF_NO_EPOCH):
                self._stats.error("sender")  # nothing else that it says is heeded, and nothing counts
                continue
            counted = traffic.get(kind_of_message) or self._traffic_of(sender, kind_of_message)
            counted.messages += 1
            counted.bytes += len(encoded)
            messages.append(message)
        return messages

    def _traffic_of(self, sender: Name, kind: type[Any]) -> Traffic:
        counted = self._stats.message_traffic("received", kind.__name__, sender)
        self._traffic[sender][kind] = counted
        return counted

    def _open_request(self, identity: bytes, parts: Sequence[zmq.Frame]) -> tuple[PeerRequest, int]:
        """The request in a frame, and the level of that."""
        request, level = self._read(parts)
        name = request.sender
        if self._sender is not None and (sender := self._sender(parts[0])) != called(name):
            raise FrameError("sender", f"{sender} speaks in the name of {called(name)}")
        running = self._eras.running
        if self._vouched_in is not running:
            self._vouched_in, self._vouched = running, {}
        says = request.incarnation, request.addressee, request.epoch, request.digest
        if self._vouched.get(name) != says:
            self._check_sender(request)
        if request.kept is not None and not self._is_no_less(identity, name, request.kept):
            raise FrameError("old_copy", self._outdated(name, request.kept))
        if request.addressee:
            self.acknowledged.add(name)
            if name in running.names and request.epoch == running.epoch:
                self._vouched[name] = says
        if request.beat is not None:
            self._take_beat(name, request.beat)
        return request, level

    def _check_sender(self, request: PeerRequest) -> None:
        """See whether a frame is from who it says, and to this replica, and means the same by its epoch.

        Of a voter that says the same as in its last frame, while the same epoch runs, that has been seen.

        Raises:
            FrameError: it is not.
        """
        name = request.sender
        if name != self._me:
            self._check_part(name, request.epoch)
        era = self._eras.of(request.epoch)
        if era is not None and name in era.names and request.digest != era.mark.digest:
            raise FrameError("cluster", self._disagreeing(name, era.configuration))
        if name == self._me:
            # Who has joined in the place of one of its name may look for that one where others reach itself, which
            # need not be the address at which it listens.
            if incarnation_of(name) and request.addressee != self._incarnation:
                raise FrameError(
                    "addressee", f"{name} looks for the {called(name)} of before, and finds itself"
                )
            raise FrameError("duplicate_name", f"a second replica calls itself {self._me}")
        if self._incarnation_of(name, request.incarnation) != request.incarnation:
            raise FrameError("duplicate_name", self._forgetful(name))
        is_meant = request.addressee == self._incarnation or not (
            request.addressee or (incarnation_of(self._me) and request.epoch != NO_EPOCH)
        )
        if not is_meant:
            raise FrameError("addressee", f"{name} speaks to the {called(self._me)} of before")

    def _take_beat(self, name: Name, beat: Beat) -> None:
        if not self._can_follow(beat):
            raise FrameError("version", self._left_behind(name, beat))
        if beat.host:
            self._places[name] = beat.host, beat.port

    def _check_part(self, name: Name, epoch: int) -> None:
        """See whether anything may be heard from who is called so, and speaks of an epoch.

        Raises:
            FrameError: nothing may.
        """
        eras = self._eras
        if eras.knows(name) or name in self.guests:
            return
        running = eras.running
        if not (eras.joins or epoch > running.epoch or incarnation_of(name) > 0):
            raise FrameError("stranger", self._strange(name, running.configuration))
        if len(self.guests) >= _GUESTS:
            raise FrameError("sender", f"{name!r:.80} takes part in no epoch that is known here")
        self.guests[name] = 0

    def _strange(self, name: Name, running: Configuration) -> str:
        """What one is told that began as a first member, and is none."""
        members = list(map(called, running.names))
        if name in members:
            return (
                f"{name} joined this cluster, and was started without its data; {advice(self._config, name)}"
            )
        return (
            f"{name!r:.80} is no member of this cluster, whose members are {', '.join(members)}: begin with an empty "
            f"directory and `epaxos serve --join`, and let it in with `epaxos member add`"
        )

    def release(self, audience: Container[Name]) -> None:
        """Give up the places of guests to whom this replica does not speak, and what it knows of them."""
        knows = self._eras.knows
        for name in [name for name in self.guests if name not in audience or knows(name)]:
            del self.guests[name]
            if knows(name):
                continue  # it needs none
            self.acknowledged.discard(name)
            for known in (self._places, self._judged, self._traffic, self.kept):
                known.pop(name, None)
            self._stats.forget(name)

    def place_of(self, name: Name) -> tuple[str, int] | None:
        """Where a peer is to be reached.

        Where it has moved to, or as the file says of a first member, as was decided, or as it says itself. Before all
        that counts what this process was told as it began, but for whom another epoch has decided it since.
        """
        moved = self._eras.running.configuration.moved.get(name)
        told = self._told.get(called(name))
        if told is not None and (moved is None or moved.moved <= self._began_in):
            return told
        if moved is not None:
            return moved.host, moved.port
        for address in self._config.everybody:
            if address.name == name:
                return address.host, address.port
        for era in reversed(self._eras.all):
            for known, member in zip(era.names, era.configuration.members, strict=False):
                if known == name and member.port:
                    return member.host, member.port
        return self._places.get(name)

    def _incarnation_of(self, name: Name, heard: int) -> int:
        """The one that is listened to: which has been decided, or else which was heard first, for ever if it votes."""
        decided = self._decided_of(name)
        if decided:
            return decided
        if name in self._incarnations:
            return self._incarnations[name]
        first = self.guests.get(name) or heard
        if self._eras.knows(name):
            self._remember(name, first)
            self._incarnations[name] = first
        else:
            self.guests[name] = first
        return first

    def known(self, name: Name) -> int:
        """The incarnation that a peer is known by; 0 if it was never heard of."""
        return self._decided_of(name) or self._incarnations.get(name) or self.guests.get(name, 0)

    def _decided_of(self, name: Name) -> int:
        """The incarnation that the running configuration says, or a name that has it; 0 if none does."""
        running = self._eras.running.configuration
        if running is not self._decided_by:
            self._decided_by, self._decided = running, running.incarnations
        return self._decided.get(name) or incarnation_of(name)

    @property
    def incarnations(self) -> dict[Name, int]:
        """Those that are known, this replica's with them."""
        return {**self._incarnations, **self._decided, self._me: self._incarnation}

    def _read(self, parts: Sequence[zmq.Frame]) -> tuple[PeerRequest, int]:
        size, most = len(parts[0]), self._config.max_peer_frame
        if len(parts) > 1:
            size = sum(map(len, parts))
        if size > most:
            raise FrameError("oversized", f"message of {size} bytes; at most {most} are allowed")
        frame = open_frame(content_of(parts[0]), self._config.fingerprint, most)
        if frame.kind != Kind.PEER:
            raise FrameError("unknown", f"frame of kind {Kind(frame.kind).name} on the socket of the peers")
        if frame.cluster == ANY_CLUSTER:
            raise FrameError("cluster", "peer request without a cluster's fingerprint")
        request = self._eras.running.codec.decode_envelope(frame.body, frame.level)
        if request.digest in NOBODYS:
            request = request._replace(epoch=NO_EPOCH)
        if list(map(type, request.messages)).count(int) != len(parts) - 1:
            raise FrameError("malformed", f"message of {len(parts)} parts; not as many as it says")
        return request, frame.level

    def _is_no_less(self, identity: bytes, peer: Name, kept: int) -> bool:
        """Whether a peer can have kept all that it is known to have kept.

        Its first frame on a connection tells. Later ones may be read after those of a connection that replaced it.
        """
        judged = self._judged[peer]
        if identity not in judged:
            if len(judged) >= _CONNECTIONS:
                del judged[next(iter(judged))]
            judged[identity] = kept >= self.kept.get(peer, 0)
        if judged[identity]:
            self.kept[peer] = max(kept, self.kept.get(peer, 0))
        return judged[identity]

    def _can_follow(self, beat: Beat) -> bool:
        """Whether the program of a peer knows the level that the cluster is at.

        One that does not cannot read a word of this replica's, not even that the epoch is over, and would wait for
        ever; a refusal is of a level that it reads.
        """
        return beat.newest >= self._eras.running.mark.level

    def _left_behind(self, name: Name, beat: Beat) -> str:
        running = self._eras.running.configuration
        return (
            f"the cluster is at level {running.level} since epoch {running.epoch} or before, and {name} "
            f"knows none above {beat.newest}: start a version that knows it, on the same data"
        )

    def _outdated(self, name: Name, kept: int) -> str:
        missing = self.kept[name] - kept
        return (
            f"{name} runs on an earlier copy of its data directory: it lacks {missing} or more of the instances "
            f"and promises that it had kept, and may not vote. Stop it; {advice(self._config, called(name))}"
        )

    @staticmethod
    def _disagreeing(name: str, own: Configuration) -> str:
        return (
            f"{name} and this replica do not mean the same by epoch {own.epoch}: here it is {', '.join(own.names)} "
            f"(f {own.f}, e {own.e}, protocol {own.protocol!r}, level {own.level}); compare the configuration files, "
            "and begin a new cluster with one version of the program"
        )

    def _forgetful(self, name: str) -> str:
        return (
            f"{name} is another one than the {name} heard before: either two replicas run under this "
            f"name, or it was started without its data and may not vote. Stop it; if it lost its data, "
            f"{advice(self._config, called(name))}"
        )

    def _drop(self, identity: bytes, part: zmq.Frame | None, error: FrameError) -> None:
        self._stats.error(error.kind)
        if error.kind in _WORTH_A_REFUSAL:
            self._refuse(identity, seal(Kind.PEER_REFUSED, ANY_CLUSTER, f"{error.kind}: {error}".encode()))
        if len(self._logged) >= _LOGGED_AT_MOST:
            return
        key = (error.kind, str(error), "-" if part is None else address_of(part))
        if key not in self._logged:
            self._logged.add(key)
            _log.warning("dropped a peer's frame (%s) from %s: %s", error.kind, key[-1], error)


def _joined(messages: Sequence[bytes | int], parts: Sequence[zmq.Frame]) -> list[Body]:
    """The messages of an envelope, those that follow it as parts in their places.

    Raises:
        FrameError: a part is not what its sender sent.
    """
    rest = iter(parts)
    joined: list[Body] = []
    for message in messages:
        if type(message) is bytes:
            joined.append(message)
            continue
        part = next(rest).buffer
        if crc32(part) != message:
            raise FrameError("checksum", "message with a wrong checksum")
        joined.append(part)
    return joined
