"""Remote: one actor a peer, which owns the socket to it and knows whether it is there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import zmq

from epaxos import version
from epaxos.actors.hosted import HostedActor
from epaxos.actors.link import UNACKNOWLEDGED, Link, Mark, Outgoing
from epaxos.config import Config
from epaxos.errors import FrameError
from epaxos.metrics import ReplicaStats
from epaxos.protocol.ids import Name
from epaxos.protocol.membership import called
from epaxos.protocol.roundtrips import STAMPS_PER_SECOND, RoundTrip, silence, stamp_of, time_of
from epaxos.transport.codec import Beat, PeerRequest, encode_envelope
from epaxos.transport.framing import Kind, open_frame, seal
from epaxos.transport.way import Way

_log = logging.getLogger(__name__)

PATIENCE: Final = 5.0
"""Seconds for which a peer may be out of reach before the log says why; at least `timeout`."""

REMINDER: Final = 600.0
"""Seconds after which the log says so again."""


LITTLE: Final = 1024
"""Bytes sent in order between two beacons that keep no heartbeat waiting: an echo takes some hundred."""

ALONE: Final = 0.3
"""Share of `timeout` after which a heartbeat goes by the prompt connection though it could ride. So each connection may
die alone and nobody be silent, and none is forgotten on the way."""

SOON: Final = 0.8
"""Share of an interval: what is due within it leaves at once when the one that sets the pace is heard."""

LATER: Final = 1.1
"""Share of an interval after which it leaves if that one is not heard: a little more, lest it be just ahead; but no
more than half of what `timeout` leaves."""

CALM: Final = 3
"""Beacons of which two are left out where nothing else is under way. An idle replica's CPU is that of its beacons."""

AT_LEAST: Final = 6
"""How many leave in the time for which a peer may be silent all the same. With four each connection would have two, and
one that is lost or late, or a pause of most of that time, would make a peer seem dead."""

_OVERTAKEN: Final = UNACKNOWLEDGED * STAMPS_PER_SECOND // 1000
"""By how much a heartbeat that others have overtaken is older at most, in stamps: then its connection is made anew.
One that is older by more is of a clock that has begun anew."""

LAST_WORDS: Final = 200
"""Milliseconds that a replica which leaves gives its last frames to be sent."""


class Heard(NamedTuple):
    """Frames of this incarnation of the peer came in.

    A heartbeat among them brings `beat`, and says in `hears` whether the peer hears this replica too; None if that is
    about to end.
    """

    now: float
    incarnation: int
    hears: bool | None = None
    beat: Beat | None = None


class Said(NamedTuple):
    """What heartbeats say of this replica: what it has `kept` (`PeerRequest`), and what else a `Beat` does."""

    kept: int | None
    watched: bool
    clears: bool = False
    ordered: bool = False
    joins: bool = False


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """What a Remote has to know; times in seconds.

    timeout       a peer silent for this long, or for some round trips, is offline
    beacon        interval of beacons and of heartbeats, some `CALM` times as long where nothing else is under way
    commit_delay  how long a deferrable message waits at most
    max_frame     largest frame in bytes
    addressee     the peer's incarnation; 0 as long as none is known, until it is heard
    """

    me: Name
    name: Name
    host: str
    port: int
    cluster: int
    incarnation: int
    timeout: float
    beacon: float
    commit_delay: float
    max_frame: int
    my_host: str = ""
    my_port: int = 0
    addressee: int = 0
    arm: Callable[[zmq.Socket[bytes]], None] | None = None


def settings_of(
    config: Config,
    me: Name,
    peer: Name,
    place: tuple[str, int],
    incarnation: int,
    addressee: int,
    arm: Callable[[str, zmq.Socket[bytes]], None] | None,
) -> RemoteSettings:
    """Those of `me` for a peer, which is in some place, host and port; `arm` gives a socket to it the keys for that.

    Both have an incarnation, this replica and the peer. That of the peer is told with the first frame: at its address
    there may be another one by now, which has lost the disk, and that is another one's link (protocol 6.10).
    """
    own = config.replica(called(me))
    return RemoteSettings(
        me=me,
        name=peer,
        host=place[0],
        port=place[1],
        cluster=config.fingerprint,
        incarnation=incarnation,
        timeout=config.timeout,
        beacon=config.beacon,
        commit_delay=config.commit_delay,
        max_frame=config.max_peer_frame,
        my_host=own.host,
        my_port=own.port,
        addressee=addressee,
        arm=partial(arm, called(peer)) if arm else None,
    )


class Remote(HostedActor):
    """Sends to one peer, also beacons and heartbeats, and reports when it goes offline or comes back.

    A peer is online while both hear each other. One that is heard but hears nothing (a firewall that lets only one
    direction through) can propose and never decide: taken for online, it would be left to finish what it cannot,
    and all that conflicts with it would wait. So every heartbeat says whether its sender hears the receiver; they go to
    all, and tell both ends when the link is whole again. They do not wait behind other messages, and measure the round
    trip: they go by the prompt connection, or in the frame of a beacon, which spares both ends a frame, if the peer is
    online and next to nothing else has been sent in order for as long as it may be silent. One that rides may be
    overtaken all the same, if its connection stalls: then it tells nothing, nor does it ever say what is kept. On such
    a link both leave more seldom (`CALM`): what there is to tell is little, and hardly anybody waits for it.

    `beacons` makes what is sent at intervals, `report` is told (peer, online), `refused` the text with which the peer
    refuses this replica. `say` tells what heartbeats are to say of it, `mark` in which epoch it is. All are called
    in the host's thread.
    """

    def __init__(
        self,
        settings: RemoteSettings,
        context: zmq.Context[zmq.Socket[bytes]],
        stats: ReplicaStats,
        beacons: Callable[[Name, float], Sequence[Outgoing]],
        report: Callable[[Name, bool], None],
        refused: Callable[[Name, str], None],
        say: Callable[[], Said],
        mark: Callable[[], Mark],
    ) -> None:
        super().__init__()
        self._settings = settings
        self._stats = stats
        self._beacons = beacons
        self._mark = mark
        self._report = report
        self._refused = refused
        self._say = say
        self.link = Link(context, stats, settings.name, settings.max_frame, self._seal, settings.arm)
        self._trip = RoundTrip()
        self._beat = Beat(0, 0, 0)
        self._beat_at = 0.0
        self._echoed = 0
        self._beacon_number = 0
        self._rider: Beat | None = None
        self._alone_at = float("-inf")
        self._sent = 0
        self._busy_at = float("-inf")
        self.sets_pace = settings.name < settings.me
        self.online = False
        self.last_heard = float("-inf")
        self._hears = False
        self._addressee = settings.addressee
        self._leaving = False
        self._riding: list[Outgoing] = []
        self._riding_since = 0.0
        self._next_beacon = 0.0
        self._beat_out_at = float("-inf")
        self._in_pace = False
        self._interval = settings.beacon
        self._calm_interval = max(settings.beacon, min(CALM * settings.beacon, settings.timeout / AT_LEAST))
        self._way = Way(settings.host, settings.port, self._news, keys=settings.arm is not None)
        self._refusal = ""
        self._missed_since: float | None = None
        self._complain_at = 0.0

    def on_start(self) -> None:
        """Connect, as soon as it is known where to."""
        self._way.start(self.link.dealers)

    def _news(self) -> None:
        """In another thread: the resolver has answered."""
        wake = self.actor_inbox.wake
        if wake is not None:
            wake()

    def on_stop(self) -> None:
        """Let go of the sockets."""
        self.link.close()

    def renew(self) -> None:
        """The keys to log in with have changed, or the peer's."""
        if self._settings.arm is not None:
            for dealer in self.link.dealers:
                self._settings.arm(dealer)
            self._way.renew(self.link.dealers)

    @property
    def name(self) -> str:
        """The peer's name."""
        return self._settings.name

    @property
    def deadline(self) -> float:
        """When `tick` is due next."""
        due = self._next_beacon if self.online else min(self._next_beacon, self._way.deadline)
        if self._riding and (leaves := self._riding_since + self._settings.commit_delay) < due:
            return leaves
        return due

    def hear(self, heard: Heard) -> None:
        """Note that frames of the peer came in; called by the host, in its thread."""
        was_there = self.online and heard.now - self.last_heard <= self._settings.timeout
        self.last_heard = heard.now
        self._addressee = heard.incarnation
        if heard.beat is not None and not 0 < self._beat.stamp - heard.beat.stamp < _OVERTAKEN:
            self._hears = heard.hears is not None
            self._take_beat(heard.beat, heard.now, measures=was_there)
            if bool(heard.hears) != self.online:
                reason = "it is stopping" if heard.hears is None else "it does not hear this replica"
                self._set_online(online=bool(heard.hears), reason=reason)
                # It waits to hear of that: a beacon later at most, also on a link that was calm.
                self._next_beacon = min(self._next_beacon, heard.now + self._settings.beacon)

    def hasten(self) -> None:
        """Have a heartbeat and a beacon leave in this round: there is news that no message tells."""
        self._next_beacon = 0.0

    def keep_pace(self, now: float) -> float:
        """The one that sets the pace has been heard: beat with it, if that is due soon; return when it is.

        Who beat just before it waits for it the next time: else both would beat at once, each by itself, for ever.
        """
        soon = SOON * self._interval
        if self._next_beacon - now < soon:
            self._next_beacon = min(now, self._next_beacon)
            self._in_pace = True
        elif now - self._beat_out_at < self._interval - soon:
            self._next_beacon = max(self._next_beacon, self._later(now))
        return self._next_beacon

    def tick(self, now: float) -> None:
        """Do what is due: let deferred messages go, send a beacon, notice silence or a refusal."""
        if now >= self._next_beacon:
            patience = silence(self._settings.timeout, self._trip.longest)
            self._stats.peer_round_trip[self._settings.name] = self._trip.mean
            self._stats.peer_waiting[self._settings.name] = self.link.waiting
            if self._hears and now - self.last_heard > patience:
                self._hears = False
                self._stats.peer_level[self._settings.name] = 0  # it may come back as another program
                if self.online:
                    self._set_online(online=False, reason=f"silent for more than {patience:g}s")
            if self.link.waiting or self.link.sent - self._sent > LITTLE:
                self._busy_at = now
            calm = self.online and now - self._busy_at > patience
            heard = now - self.last_heard < patience / 2  # else its death is to be noticed as soon as ever
            self._set_next(now, self._calm_interval if calm and heard else self._settings.beacon)
            self._send_beacons(now, calm=calm)
            if not self.online:
                self.link.forget()
            self._read()
        elif self._riding and now >= self._riding_since + self._settings.commit_delay:
            self._flush([])
        if self.online:
            self._way.settle()
            self._missed_since = None
        else:
            self._seek(now)

    def _later(self, now: float) -> float:
        """Until when who has just been heard, or beaten with, is waited for; see `LATER`."""
        latest = self._beat_out_at + (self._interval + self._settings.timeout) / 2
        return min(now + LATER * self._interval, latest)

    def _set_next(self, now: float, interval: float) -> None:
        """A beacon leaves now, and the next one after an interval, or with who sets the pace."""
        self._interval, self._beat_out_at = interval, now
        self._next_beacon = self._later(now) if self._in_pace else now + interval
        self._in_pace = False

    def _send_beacons(self, now: float, *, calm: bool) -> None:
        """Send a beacon, unless one waits among others, behind what waits for a ride, and a heartbeat.

        That rides with them if it need not wait for others then, as on a calm link.
        """
        link = self.link
        has_room = link.left >= self._beacon_number
        beacons = self._beacons(self._settings.name, now) if has_room else ()
        bundle, self._riding = [*self._riding, *beacons], []
        mark = self._mark()
        if calm and bundle:
            fits = sum(message.size for message in bundle) <= LITTLE and all(
                message.mark == mark for message in bundle
            )
            if fits and now - self._alone_at < ALONE * self._settings.timeout:
                self._rider = self._beat_of(now)
        alone = self._rider is None
        if alone:
            self._send_heartbeat(now)
        if bundle:
            link.send(bundle)
        if beacons:
            self._beacon_number = link.taken
        if not alone and (self._rider is not None or link.waiting):  # the link has not taken it
            self._rider = None
            self._send_heartbeat(now)
        self._sent = link.sent

    def _seek(self, now: float) -> None:
        """Look for a way to a peer that is offline; say what is known of the reason, once and then seldom."""
        way, settings = self._way, self._settings
        resolved = way.resolves
        way.advance(self.link.dealers, now)
        if self._missed_since is None:
            self._missed_since = now
            self._complain_at = now + max(PATIENCE, settings.timeout)
        if resolved and not way.resolves:
            self._stats.error("resolve")
            self._complain_at = now  # waiting does not help a name that is wrong
        if now >= self._complain_at:
            self._complain_at = now + REMINDER
            _log.warning(
                "peer %s is out of reach at %s for %.0fs: %s; this replica goes on trying",
                settings.name,
                way.place,
                now - self._missed_since,
                self._why(),
            )

    @property
    def trouble(self) -> str:
        """Why the peer is out of reach, as far as that is known; empty while it is online."""
        return "" if self.online else self._why()

    def _why(self) -> str:
        if self._hears:
            return "it is heard, but does not hear this replica"
        return self._way.trouble or self._refusal or "it accepts connections and is silent"

    def leave(self, now: float) -> None:
        """Send what waits for a ride, and that this replica is about to end; nothing may be sent after that."""
        self.link.linger(LAST_WORDS)
        if self.online:
            self._flush([])
        self._leaving = True
        self._send_heartbeat(now)

    def _send_heartbeat(self, now: float) -> None:
        self._alone_at = now
        self.link.send_at_once(self._seal((), self._mark(), self._beat_of(now), self._say().kept))

    def _beat_of(self, now: float) -> Beat:
        held = stamp_of(now) - stamp_of(self._beat_at) if self._beat.stamp else 0
        said = self._say()
        return Beat(
            stamp_of(now),
            self._beat.stamp,
            held,
            version.NEWEST,
            self._settings.my_host,
            self._settings.my_port,
            said.watched,
            said.clears,
            said.ordered,
            said.joins,
        )

    def _take_beat(self, beat: Beat, now: float, *, measures: bool) -> None:
        """Note when it came, and what its sender's program knows.

        It `measures` by the first echo of each own one: later ones say how long it was held. Not where the peer was
        away or stood still until now: it echoes what came meanwhile, and would seem so far that its death showed late.
        """
        self._beat, self._beat_at = beat, now
        self._stats.peer_level[self._settings.name] = beat.newest if self._hears else 0
        if self._echoed < beat.echo <= stamp_of(now):
            self._echoed = beat.echo
            if measures:
                self._trip.measured(max(0.0, now - time_of(beat.echo + beat.held)))

    def _read(self) -> None:
        """Read what the peer sent back: only refusals come this way."""
        for parts in self.link.receive():
            try:
                frame = open_frame(b"".join(parts), self._settings.cluster, self._settings.max_frame)
            except FrameError as error:
                self._stats.error(error.kind)
                self._refusal = f"its answers are not understood: {error}"
                continue
            if frame.kind == Kind.PEER_REFUSED:
                self._stats.error("peer_refused")
                text = frame.body.decode("utf-8", "replace")
                self._refusal = f"it refuses this replica: {text.partition(': ')[2]}"
                self._refused(self._settings.name, text)
            else:
                self._stats.error("unknown")

    def send(self, now: float, messages: Sequence[Outgoing], deferrable: Sequence[Outgoing]) -> None:
        """Send these to the peer; `deferrable` may wait for others to ride with. Called by the host, in its thread."""
        if not self.online:
            self._stats.messages_dropped(self._settings.name, "offline", len(messages) + len(deferrable))
        elif messages and now >= self._next_beacon:
            self._riding += (*deferrable, *messages)
            self.tick(now)
        elif messages:
            self._riding += deferrable
            self._flush(messages)
        else:
            if not self._riding:
                self._riding_since = now
            self._riding += deferrable

    def _flush(self, messages: Sequence[Outgoing]) -> None:
        """Send these, and with them everything that waits for a ride (it is older, so it goes first)."""
        bundle, self._riding = [*self._riding, *messages], []
        self.link.send(bundle)

    def _seal(
        self, encoded: Sequence[bytes | int], mark: Mark, beat: Beat | None = None, kept: int | None = None
    ) -> bytes:
        """A frame of messages, with the heartbeat that is to ride, or a heartbeat.

        Only that which goes alone says what is `kept`: others may be read after later ones.
        """
        settings = self._settings
        if beat is None:
            beat, self._rider = self._rider, None
        hears = None if self._leaving else self._hears
        request = PeerRequest(
            settings.me,
            settings.incarnation,
            encoded,
            hears,
            self._addressee,
            kept,
            beat,
            mark.epoch,
            mark.digest,
        )
        return seal(Kind.PEER, settings.cluster, encode_envelope(request, mark.level), mark.level)

    def _set_online(self, *, online: bool, reason: str) -> None:
        self.online = online
        self._busy_at = self.last_heard  # there is much to tell to who has just come
        self._refusal = ""
        self._riding.clear()
        self.link.forget()
        self._stats.peer_up[self._settings.name] = online
        _log.log(
            logging.INFO if online else logging.WARNING,
            "peer %s is %s",
            self._settings.name,
            "online" if online else f"offline: {reason}",
        )
        self._report(self._settings.name, online)
