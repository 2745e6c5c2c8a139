"""What comes from peers: which frames are of this cluster, and which replica's memory they speak for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from epaxos.config import Config
from epaxos.errors import FrameError
from epaxos.metrics import ReplicaStats
from epaxos.protocol.contract import Receive
from epaxos.protocol.ids import Row
from epaxos.protocol.messages import Message
from epaxos.transport.codec import MESSAGE_NAMES, Codec, PeerRequest
from epaxos.transport.framing import ANY_CLUSTER, Kind, open_frame, seal

_log = logging.getLogger(__name__)

_WORTH_A_REFUSAL: Final = frozenset({"cluster", "version"})
_LOGGED_AT_MOST: Final = 1000


class Opened(NamedTuple):
    """What one frame brought: the events, and whether its sender hears this replica."""

    sender: Row
    events: list[Receive[Message]]
    hears: bool


class Peers:
    """Opens what arrives on the peers' socket; everything else is counted, refused and dropped.

    A peer is known by its incarnation, the number it drew when its memory began. Only the first one heard of
    each row is listened to: another one is either a second process of the same name, or a replica that came
    back without its memory and would break the promises it has forgotten (protocol 4.11c).
    """

    def __init__(
        self,
        config: Config,
        row: Row,
        codec: Codec,
        stats: ReplicaStats,
        refuse: Callable[[bytes, bytes], None],
    ) -> None:
        self._config = config
        self._row = row
        self._codec = codec
        self._stats = stats
        self._refuse = refuse
        self._names = [replica.name for replica in config.replicas]
        self._incarnations: dict[Row, int] = {}
        self._logged: set[tuple[str, str]] = set()
        self._traffic = [
            {kind: stats.message_traffic("received", name, replica) for kind, name in MESSAGE_NAMES.items()}
            if replica != self._names[row]
            else {}
            for replica in self._names
        ]

    def open(self, identity: bytes, parts: Sequence[bytes]) -> Opened | None:
        """What one frame from the peers' socket brings, None if it was dropped."""
        try:
            request = self._open_request(parts)
        except FrameError as error:
            self._drop(identity, error)
            return None
        events = []
        traffic = self._traffic[request.sender]
        for encoded in request.messages:
            try:
                message = self._codec.decode_message(request.sender, encoded)
            except FrameError as error:
                self._drop(identity, error)
                continue
            counted = traffic[type(message)]
            counted.messages += 1
            counted.bytes += len(encoded)
            events.append(Receive(request.sender, message))
        return Opened(request.sender, events, request.hears)

    def _open_request(self, parts: Sequence[bytes]) -> PeerRequest:
        if len(parts) != 1:
            raise FrameError("malformed", f"message of {len(parts)} parts; one is expected")
        frame = open_frame(parts[0], self._config.fingerprint, self._config.max_peer_frame)
        if frame.kind != Kind.PEER:
            raise FrameError("unknown", f"frame of kind {Kind(frame.kind).name} on the socket of the peers")
        if frame.cluster == ANY_CLUSTER:
            raise FrameError("cluster", "peer request without a cluster's fingerprint")
        request = self._codec.decode_envelope(frame.body)
        if request.sender == self._row:
            raise FrameError("duplicate_name", f"a second replica calls itself {self._names[self._row]}")
        known = self._incarnations.setdefault(request.sender, request.incarnation)
        if known != request.incarnation:
            raise FrameError("duplicate_name", self._forgetful(self._names[request.sender]))
        return request

    def _forgetful(self, name: str) -> str:
        return (
            f"{name} is another process than the {name} heard before: either two replicas run under this "
            f"name, or it was restarted without its memory and may not vote. Stop it; if it lost its memory, "
            f"restart the whole cluster (storage engine {self._config.storage.engine!r} keeps nothing)"
        )

    def _drop(self, identity: bytes, error: FrameError) -> None:
        self._stats.error(error.kind)
        if error.kind in _WORTH_A_REFUSAL or error.kind == "duplicate_name":
            self._refuse(identity, seal(Kind.PEER_REFUSED, ANY_CLUSTER, f"{error.kind}: {error}".encode()))
        key = (error.kind, str(error))
        if key not in self._logged and len(self._logged) < _LOGGED_AT_MOST:
            self._logged.add(key)
            _log.warning("dropped a peer's frame (%s): %s", error.kind, error)
