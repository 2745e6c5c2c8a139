"""The link to one peer: two connections, so that a few bytes need not wait behind many.

**In order.** All messages, one after the other. What ZeroMQ does not take yet waits here, bounded by its bytes: on a
slow link each megabyte takes seconds. ZeroMQ gets only some frames at a time, so that what waits is known.

**Prompt.** Heartbeats, and, while others wait, the messages that may overtake them (answers and questions without a
payload). Else a peer would seem silent, and its answers late, just because payloads are on the way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import zmq

from epaxos import version
from epaxos.actors.mailbox import readable
from epaxos.checksum import crc32
from epaxos.metrics import ReplicaStats, Traffic

QUEUE_BYTES: Final = 32 * 1024 * 1024
"""Bytes of messages that wait for a slow peer at most, unless one alone is larger. What comes then is dropped and
counted: the protocol asks the peer later whether it has got it."""

FRAME_BYTES: Final = 256 * 1024
"""Bytes of messages in one frame at most, unless one alone is larger."""

SEND_HIGH_WATER: Final = 4
"""Frames that ZeroMQ takes of what goes in order."""

PROMPT_HIGH_WATER: Final = 1000
"""Frames that it takes of the others, which are small."""

UNACKNOWLEDGED: Final = 5_000
"""Milliseconds after which a connection is made anew on which the peer's system has acknowledged nothing of what was
sent. One may die alone (a firewall forgets a flow) while heartbeats pass on the other; the system's own patience is a
quarter of an hour. A link that is only slow acknowledges something all the time."""

_HEAD: Final = 256
_EACH: Final = 8
"""Bytes of a frame beside its messages, and of each message beside its own: more than there are."""

_NOBLOCK: Final = int(zmq.NOBLOCK)
_MORE: Final = int(zmq.SNDMORE | zmq.NOBLOCK)
_EVENTS: Final = int(zmq.EVENTS)
_POLLOUT: Final = int(zmq.POLLOUT)


LARGE: Final = 4096
"""Bytes of a message that goes as a part of its own: it is neither copied nor checksummed once more for each peer."""


class Part(NamedTuple):
    """A large message, held by ZeroMQ once for all peers, and its checksum."""

    frame: zmq.Frame
    checksum: int


class Mark(NamedTuple):
    """Of which epoch the content of an envelope is: its number, its `Configuration.digest`, and its level."""

    epoch: int
    digest: int
    level: int = version.OLDEST


_NO_MARK: Final = Mark(0, 0)


class Outgoing(NamedTuple):
    """An encoded message, the name of its type, for counting, and whether it may overtake others.

    A large one is in `part`, and `encoded` is empty. `size` is its length in bytes. It is of the epoch that `mark`
    says, however long it waits.
    """

    name: str
    encoded: bytes
    overtakes: bool
    part: Part | None
    size: int
    mark: Mark


def outgoing(
    name: str,
    encoded: bytes,
    overtakes: bool = False,  # noqa: FBT001, FBT002 - as in `Outgoing`
    mark: Mark = _NO_MARK,
) -> Outgoing:
    """A message that is to be sent, to one peer or to several."""
    if len(encoded) < LARGE:
        return Outgoing(name, encoded, overtakes, None, len(encoded), mark)
    part = Part(zmq.Frame(encoded, copy=True), crc32(encoded))
    return Outgoing(name, b"", overtakes, part, len(encoded), mark)


class Link:
    """Sends to the peer `name`; `seal` makes a frame of messages of one epoch.

    `arm` gives a socket the keys to log in with, where there are any.

    `taken` counts the messages that were to be sent in order; `waiting` are the bytes of those that ZeroMQ has not
    taken yet, and `sent` at least those of the frames that it has.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        stats: ReplicaStats,
        name: str,
        max_frame: int,
        seal: Callable[[Sequence[bytes | int], Mark], bytes],
        arm: Callable[[zmq.Socket[bytes]], None] | None = None,
    ) -> None:
        self._stats = stats
        self._name = name
        self._seal = seal
        self._frame_bytes = min(FRAME_BYTES, max_frame - _HEAD)
        self._traffic: dict[str, Traffic] = {}
        self._queue: deque[Outgoing] = deque()
        self._refused = False
        self.waiting = 0
        self.taken = 0
        self.sent = 0
        self.ordered = _dealer(context, SEND_HIGH_WATER, max_frame)
        self.prompt = _dealer(context, PROMPT_HIGH_WATER, max_frame)
        self.dealers = (self.ordered, self.prompt)
        if arm is not None:
            for dealer in self.dealers:
                arm(dealer)

    def close(self) -> None:
        """Let go of the sockets, and of what they have not sent.

        A poll for a socket that is closed returns at once: whoever polled for what waits there would spin.
        """
        self.forget()
        for dealer in self.dealers:
            dealer.close()

    @property
    def left(self) -> int:
        """How many of `taken` do not wait any more."""
        return self.taken - len(self._queue)

    def send(self, messages: Iterable[Outgoing]) -> None:
        """Send messages in order, as soon as there is room; those that may overtake others if those wait.

        A message of a type that is not used at the level of its epoch is not sent: protocols bear the loss of any.
        """
        if version.SINCE:
            messages = [message for message in messages if version.is_used(message.name, message.mark.level)]
        queue = self._queue
        messages = [*messages]
        if not queue and self._is_a_frame(messages):  # as most are, and ZeroMQ takes it
            self.taken += len(messages)
            if not self._send(self.ordered, messages):
                self._refused = True
                queue.extend(messages)
                self.waiting += sum(message.size for message in messages)
            return
        if queue:
            overtaking = [message for message in messages if message.overtakes]
            for _, some in groupby(overtaking, _mark):
                bundle = list(some)
                if not self._send(self.prompt, bundle):
                    self._stats.messages_dropped(self._name, "full", len(bundle))
            messages = [message for message in messages if not message.overtakes]
        for message in messages:
            size = message.size
            if queue and self.waiting + size > QUEUE_BYTES:
                self._stats.messages_dropped(self._name, "full")
                continue
            queue.append(message)
            self.taken += 1
            self.waiting += size
        self.drain()

    def _is_a_frame(self, messages: Sequence[Outgoing]) -> bool:
        """Whether some messages fit into one frame, and are of one epoch."""
        if not messages:
            return False
        mark, size = messages[0].mark, 0
        for message in messages:
            if message.mark is not mark:
                return False
            size += message.size + _EACH
        return size <= self._frame_bytes

    def drain(self) -> None:
        """Hand ZeroMQ what it takes of what waits.

        Most of the time it takes all: trying costs less than asking it, unless it has just refused something.
        """
        queue = self._queue
        if self._refused and queue and not int(self.ordered.getsockopt(_EVENTS)) & _POLLOUT:
            return
        self._refused = False
        while queue and not self._refused:
            bundle: list[Outgoing] = []
            size = 0
            mark = queue[0].mark
            while queue and (not bundle or size + queue[0].size + _EACH <= self._frame_bytes):
                if queue[0].mark is not mark and queue[0].mark != mark:
                    break
                message = queue.popleft()
                bundle.append(message)
                size += message.size + _EACH
            if self._send(self.ordered, bundle):
                self.waiting -= size - _EACH * len(bundle)
            else:
                queue.extendleft(reversed(bundle))
                self._refused = True

    def linger(self, milliseconds: int) -> None:
        """Let what has been sent leave after `close`, for so long."""
        for dealer in self.dealers:
            dealer.set(zmq.LINGER, milliseconds)

    def send_at_once(self, frame: bytes) -> None:
        """Send a frame that is not to wait for others, if there is a connection."""
        self._post(self.prompt, frame)

    def receive(self) -> Iterator[list[bytes]]:
        """What has come back on either connection, message by message."""
        for dealer in self.dealers:
            while readable(dealer):
                yield dealer.recv_multipart(_NOBLOCK)

    def forget(self) -> None:
        """Drop what waits: the peer is not there."""
        self._stats.messages_dropped(self._name, "offline", len(self._queue))
        self._queue.clear()
        self.waiting = 0

    def _send(self, dealer: zmq.Socket[bytes], bundle: Sequence[Outgoing]) -> bool:
        parts = [message.part for message in bundle if message.part is not None]
        head = self._seal(
            [message.encoded if message.part is None else message.part.checksum for message in bundle],
            bundle[0].mark,
        )
        if not self._post(dealer, head, parts):
            return False
        self.sent += len(head) + LARGE * len(parts)
        for message in bundle:
            traffic = self._traffic.get(message.name)
            if traffic is None:
                traffic = self._stats.message_traffic("sent", message.name, self._name)
                self._traffic[message.name] = traffic
            traffic.messages += 1
            traffic.bytes += message.size
        return True

    @staticmethod
    def _post(dealer: zmq.Socket[bytes], frame: bytes, parts: Sequence[Part] = ()) -> bool:
        try:
            dealer.send(frame, _MORE if parts else _NOBLOCK)
        except zmq.Again:
            return False
        sent = True
        for left, part in enumerate(parts, 1 - len(parts)):
            try:
                dealer.send(part.frame, _MORE if left else _NOBLOCK, copy=False)
            except zmq.Again:
                # The connection was lost meanwhile, and the whole is taken back; ZeroMQ waits for the rest to drop it.
                sent = False
        return sent


def _mark(message: Outgoing) -> Mark:
    return message.mark


def _dealer(context: zmq.Context[zmq.Socket[bytes]], high_water: int, max_frame: int) -> zmq.Socket[bytes]:
    dealer = context.socket(zmq.DEALER)
    # High-water marks and time-outs count only if they are set before connect.
    dealer.set(zmq.SNDHWM, high_water)
    dealer.set(zmq.RCVHWM, 16)
    dealer.set(zmq.LINGER, 0)
    dealer.set(zmq.IMMEDIATE, 1)  # nothing is queued for a peer that is not connected
    dealer.set(zmq.RECONNECT_IVL, 50)
    dealer.set(zmq.RECONNECT_IVL_MAX, 200)  # a peer that is back takes part no earlier
    dealer.set(zmq.MAXMSGSIZE, max_frame)
    dealer.set(zmq.TCP_MAXRT, UNACKNOWLEDGED)
    return dealer
