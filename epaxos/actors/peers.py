"""What comes from peers: which frames are of this cluster, and which replica's memory they speak for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import zmq

from epaxos import version
from epaxos.actors.amnesia import advice
from epaxos.actors.assembly import Era
from epaxos.actors.mailbox import address_of
from epaxos.checksum import crc32
from epaxos.config import Config
from epaxos.errors import FrameError
from epaxos.metrics import ReplicaStats
from epaxos.protocol.eras import Eras
from epaxos.protocol.ids import Row
from epaxos.protocol.membership import Configuration
from epaxos.transport.codec import Beat, PeerRequest
from epaxos.transport.framing import ANY_CLUSTER, Body, Kind, open_frame, seal
from epaxos.transport.pages import OF_NO_EPOCH, PAGES, PeerMessage
from epaxos.watching.position import marks_of

_log = logging.getLogger(__name__)

_WORTH_A_REFUSAL: Final = frozenset({"cluster", "version", "duplicate_name", "old_copy"})

_CONNECTIONS: Final = 16
"""The last connections of a peer of which it is known what its first frame said."""
_LOGGED_AT_MOST: Final = 1000


class Opened(NamedTuple):
    """What one frame brought: messages, of which incarnation of its sender, and the rest as in `PeerRequest`.

    Of the next epoch `ahead` has the messages as they came, and `digest` tells what their sender means by it. All are
    of `level`.
    """

    sender: Row
    incarnation: int
    messages: list[PeerMessage]
    hears: bool | None
    beat: Beat | None
    epoch: int = 0
    ahead: Sequence[bytes] = ()
    digest: int = 0
    level: int = version.OLDEST


class Known(NamedTuple):
    """What the data directory says of this replica and its peers.

    incarnation   this replica's
    incarnations  those of the peers that were ever heard of, by row
    kept          how much peers had kept when that was last noted, by row
    remember      makes a peer's incarnation durable
    """

    incarnation: int
    incarnations: Mapping[Row, int]
    kept: Mapping[Row, int]
    remember: Callable[[Row, int], None]


class Peers:
    """Opens what arrives on the peers' socket; everything else is counted, refused and dropped.

    A peer is known by its incarnation, the number it drew when its data directory was made. Only the first one
    heard of each row is listened to, for ever (`remember` makes it durable): another one is either a second process of
    the same name, or a replica that came back without its data and would break the promises it has forgotten
    (protocol 4.11c). Nor does a replica listen to what is meant for another one of its name: a late answer to what
    that one proposed would count as an answer to what this one proposes in the same place.

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
        row: Row,
        eras: Callable[[], Eras[Era]],
        stats: ReplicaStats,
        refuse: Callable[[bytes, bytes], None],
        known: Known,
        sender: Callable[[zmq.Frame], str] | None = None,
    ) -> None:
        self._config = config
        self._sender = sender
        self._row = row
        self._eras = eras
        self._stats = stats
        self._refuse = refuse
        self._names = [replica.name for replica in config.replicas]
        self._incarnation = known.incarnation
        self._incarnations = dict(known.incarnations)
        self._remember = known.remember
        self.kept = dict(known.kept)
        """How much each peer has been heard to have made durable, at least."""
        self._judged: dict[Row, dict[bytes, bool]] = {peer: {} for peer in range(config.n)}
        self.acknowledged: set[Row] = set()
        """The peers that have said that they know this incarnation."""
        self._logged: set[tuple[str, str, str]] = set()
        self._traffic = [
            {
                kind: stats.message_traffic("received", name, replica)
                for kind, name in PAGES[config.protocol].names.items()
            }
            if replica != self._names[row]
            else {}
            for replica in self._names
        ]

    def marks(self) -> tuple[int, ...]:
        """Those of this cluster, for the positions of watchers."""
        known = {**self._incarnations, self._row: self._incarnation}
        return marks_of(map(known.get, range(self._config.n)))

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
        eras = self._eras()
        messages = self._decode(request.sender, request.epoch, level, encodings, parts)
        is_next = request.epoch == eras.running.epoch + 1
        return Opened(
            request.sender,
            request.incarnation,
            messages,
            request.hears,
            request.beat,
            request.epoch,
            [bytes(encoded) for encoded in encodings] if is_next else (),
            request.digest if is_next else 0,
            level,
        )

    def decode_ahead(self, opened: Opened) -> list[PeerMessage]:
        """Read what came ahead of the epoch that runs by now; nothing of another, or of who means another by it."""
        running = self._eras().running
        if opened.epoch != running.epoch:
            return []
        if opened.digest != running.mark.digest:
            self._stats.error("cluster")
            return []
        return self._decode(opened.sender, opened.epoch, opened.level, opened.ahead, None)

    def _decode(
        self,
        sender: Row,
        epoch: int,
        level: int,
        encodings: Sequence[Body],
        parts: Sequence[zmq.Frame] | None,
    ) -> list[PeerMessage]:
        running = self._eras().running
        codec = (self._eras().of(epoch) or running).codec
        messages = []
        traffic = self._traffic[sender]
        for encoded in encodings:
            try:
                message = codec.decode_message(sender, encoded, epoch, level)
            except FrameError as error:
                if error.kind != "epoch":
                    self._drop(b"", None if parts is None else parts[0], error)
                elif epoch != running.epoch + 1:
                    self._stats.error("epoch")  # no news: epochs begin here and there at different times
                continue
            if parts is None and isinstance(message, OF_NO_EPOCH):
                continue  # it was taken as it came
            counted = traffic[type(message)]
            counted.messages += 1
            counted.bytes += len(encoded)
            messages.append(message)
        return messages

    def _open_request(self, identity: bytes, parts: Sequence[zmq.Frame]) -> tuple[PeerRequest, int]:
        """The request in a frame, and the level of that."""
        request, level = self._read(parts)
        if self._sender is not None and (sender := self._sender(parts[0])) != self._names[request.sender]:
            raise FrameError("sender", f"{sender} speaks in the name of {self._names[request.sender]}")
        era = self._eras().of(request.epoch)
        if era is not None and request.digest != era.mark.digest:
            raise FrameError("cluster", self._disagreeing(self._names[request.sender], era.configuration))
        if request.sender == self._row:
            raise FrameError("duplicate_name", f"a second replica calls itself {self._names[self._row]}")
        known = self._incarnations.get(request.sender)
        if known is None:
            self._remember(request.sender, request.incarnation)
            known = self._incarnations[request.sender] = request.incarnation
        if known != request.incarnation:
            raise FrameError("duplicate_name", self._forgetful(self._names[request.sender]))
        if request.addressee not in (0, self._incarnation):
            own = self._names[self._row]
            raise FrameError(
                "addressee", f"{self._names[request.sender]} speaks to the {own} that it heard before"
            )
        if request.kept is not None and not self._is_no_less(identity, request.sender, request.kept):
            raise FrameError("old_copy", self._outdated(request.sender, request.kept))
        if request.addressee:
            self.acknowledged.add(request.sender)
        if request.beat is not None and not self._can_follow(request.beat):
            raise FrameError("version", self._left_behind(request.sender, request.beat))
        return request, level

    def _read(self, parts: Sequence[zmq.Frame]) -> tuple[PeerRequest, int]:
        size, most = sum(map(len, parts)), self._config.max_peer_frame
        if size > most:
            raise FrameError("oversized", f"message of {size} bytes; at most {most} are allowed")
        frame = open_frame(parts[0].buffer, self._config.fingerprint, most)
        if frame.kind != Kind.PEER:
            raise FrameError("unknown", f"frame of kind {Kind(frame.kind).name} on the socket of the peers")
        if frame.cluster == ANY_CLUSTER:
            raise FrameError("cluster", "peer request without a cluster's fingerprint")
        request = self._eras().running.codec.decode_envelope(frame.body, frame.level)
        if list(map(type, request.messages)).count(int) != len(parts) - 1:
            raise FrameError("malformed", f"message of {len(parts)} parts; not as many as it says")
        return request, frame.level

    def _is_no_less(self, identity: bytes, peer: Row, kept: int) -> bool:
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
        return beat.newest >= self._eras().running.mark.level

    def _left_behind(self, peer: Row, beat: Beat) -> str:
        running = self._eras().running.configuration
        return (
            f"the cluster is at level {running.level} since epoch {running.epoch} or before, and {self._names[peer]} "
            f"knows none above {beat.newest}: start a version that knows it, on the same data"
        )

    def _outdated(self, peer: Row, kept: int) -> str:
        name, missing = self._names[peer], self.kept[peer] - kept
        return (
            f"{name} runs on an earlier copy of its data directory: it lacks {missing} or more of the instances "
            f"and promises that it had kept, and may not vote. Stop it; {advice(self._config, name)}"
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
            f"{advice(self._config, name)}"
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
        if isinstance(message, bytes):
            joined.append(message)
            continue
        part = next(rest).buffer
        if crc32(part) != message:
            raise FrameError("checksum", "message with a wrong checksum")
        joined.append(part)
    return joined
