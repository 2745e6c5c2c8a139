"""The two sockets of a replica, who may come in there, and what goes back the same way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

import zmq

from epaxos.actors.answers import WAITING_FRAMES
from epaxos.actors.porter import PEERS, Failures, Porter
from epaxos.actors.replies import Replies, send_now
from epaxos.actors.sockets import Door, bind_router
from epaxos.config import Config
from epaxos.errors import ConfigError
from epaxos.metrics import ReplicaStats
from epaxos.protocol.ids import Row
from epaxos.security.access import Access
from epaxos.security.curve import arm
from epaxos.security.rights import Rights

_log = logging.getLogger(__name__)


class Entrance:
    """That of replica `row`, which is to listen on `hosts`; `access` says who may come in, anybody without it.

    The sockets `peers` and `clients` are there after `listen`.
    """

    def __init__(
        self,
        config: Config,
        row: Row,
        hosts: Sequence[str],
        context: zmq.Context[zmq.Socket[bytes]],
        stats: ReplicaStats,
        access: Access | None,
    ) -> None:
        self._config = config
        self._row = row
        self._hosts = hosts
        self._context = context
        self._stats = stats
        self._failures = Failures(stats)
        self._porter = None if access is None else Porter(context, access, self._failures)
        self._doors: list[Door] = []
        self.peers: zmq.Socket[bytes]
        self.clients: zmq.Socket[bytes]
        self._replies: Replies
        self._sent: list[zmq.Socket[bytes]] = []

    @property
    def sender(self) -> Callable[[zmq.Frame], str] | None:
        """Tells whose key the connection of a frame has; None where nobody has keys."""
        return self._porter.sender if self._porter else None

    @property
    def rights(self) -> Callable[[zmq.Frame], Rights] | None:
        """Tells what who sent a frame may do; None where everybody may do everything."""
        return self._porter.rights if self._porter else None

    def listen(self) -> None:
        """Make the sockets.

        Raises:
            ConfigError: an address cannot be listened on.
        """
        config, address = self._config, self._config.everybody[self._row]
        secret = self._porter.access.own.secret if self._porter else None
        self.peers, peers = bind_router(
            self._context, address, "port", self._hosts, config.max_peer_frame, secret
        )
        self.clients, clients = bind_router(
            self._context, address, "client_port", self._hosts, config.max_frame, secret
        )
        failures = self._failures if self._porter else None
        self._doors = [Door(self._context, self.clients, self._stats, failures=failures)]
        if failures is not None:
            self._doors.append(Door(self._context, self.peers, self._stats, PEERS, failures))
        self._replies = Replies(self.clients, WAITING_FRAMES * config.max_frame, self._stats)
        _log.info("listening for peers on %s, for clients on %s", ", ".join(peers), ", ".join(clients))

    @property
    def armed(self) -> Callable[[str, zmq.Socket[bytes]], None] | None:
        """Has a socket to a peer of this name log in there with the own key, as long as the peer has its own."""
        return self._arm if self._porter else None

    def _arm(self, name: str, socket: zmq.Socket[bytes]) -> None:
        assert self._porter is not None
        access = self._porter.access
        arm(socket, access.own, access.server_key(name))

    # -- who comes -----------------------------------------------------------------------------------------

    def news(self) -> list[int]:
        """What makes a round due when somebody comes to the sockets."""
        news = [door.descriptor for door in self._doors]
        return news if self._porter is None else [*news, self._porter.descriptor]

    @property
    def deadline(self) -> float:
        """When `watch` is due even if nobody comes."""
        return float("inf") if self._porter is None else self._porter.deadline

    def watch(self, now: float) -> None:
        """See who comes to the sockets."""
        for door in self._doors:
            door.watch(now)
        if self._porter is not None:
            self._porter.watch(now)

    def reload(self, names: Iterable[str]) -> list[str]:
        """Let in who is on the lists of keys now; if they are wrong, who was on them before.

        Returns those of the names that have another key than before.
        """
        if self._porter is None:
            return []
        access = self._porter.access
        before = {name: access.server_key(name) for name in names}
        try:
            access.reload()
        except ConfigError as error:
            _log.error("the lists of keys are not used, those read before are: %s", error)
            return []
        _log.info("read the lists of keys in %s again", self._config.security.keys)
        return [name for name, key in before.items() if access.server_key(name) != key]

    # -- what goes back ------------------------------------------------------------------------------------

    def refuse(self, identity: bytes, frame: bytes) -> None:
        """Tell a peer that it is not listened to."""
        if self.peers not in self._sent:
            self._sent.append(self.peers)
        send_now(self.peers, identity, frame)

    def reply(self, identity: bytes, frame: bytes) -> None:
        """Answer a client."""
        if self.clients not in self._sent:
            self._sent.append(self.clients)
        self._replies.send(identity, frame)

    def sent(self) -> Sequence[zmq.Socket[bytes]]:
        """The sockets through which something has been sent since this was last asked."""
        if not self._sent:
            return ()
        sent, self._sent = self._sent, []
        return sent

    def room(self, identity: bytes) -> int:
        """How many bytes a client's connection takes now."""
        return self._replies.room(identity)
