"""What a replica counts about itself, in plain attributes.

Consensus spends a few microseconds on an instance, so counting may cost next to nothing: no locks, no
metric objects, no label look-ups on the way of a command. The Replica's thread is the only writer, once a
round, an instance or a message and never once a command; `collector` reads from another thread.

All labels come from what is known at start (the operations, the message types) or has been decided (who takes part
in an epoch), so that every series exists, as 0, from then on, and nothing that a stranger says can add one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import Final, Literal, NamedTuple, TypeAlias

from epaxos.metrics.histogram import (
    BATCH_BOUNDS,
    CHECKPOINT_BOUNDS,
    COMPONENT_BOUNDS,
    EVENT_BOUNDS,
    LATENCY_BOUNDS,
    Histogram,
)
from epaxos.protocol.kinds import EPAXOS, KINDS, Kind
from epaxos.protocol.membership import NOBODY, Configuration

Direction: TypeAlias = Literal["sent", "received"]
DropReason: TypeAlias = Literal["full", "offline"]

DIRECTIONS: Final[tuple[Direction, ...]] = ("sent", "received")
DROP_REASONS: Final[tuple[DropReason, ...]] = ("full", "offline")
COMMIT_PATHS: Final = tuple(dict.fromkeys(path for kind in KINDS.values() for path in kind.paths))

ERROR_KINDS: Final = (
    # frames, on any socket: `FrameError.kind`
    "malformed",
    "oversized",
    "checksum",
    "version",
    "cluster",
    "unknown",
    "sender",
    # connections, and frames of clients and peers whose keys have been taken from the lists
    "login",
    "handshake",
    "forbidden",
    "token",
    "password",
    # frames of clients that were well formed and not taken
    "over",
    "refused",
    "denied",
    "busy",
    "full",
    # connections of clients
    "descriptors",
    # peers
    "resolve",
    "peer_refused",
    "duplicate_name",
    "addressee",
    "stranger",
    "old_copy",
    "epoch",
)
"""The values of the label `kind`; ``docs/metrics.md`` says what each means."""


LOG_ROW: Final = "log"
"""What the only row of commands is called, of a protocol whose rows have no owners."""


class Gauges(NamedTuple):
    """How far the replica is: one consistent picture, replaced as a whole.

    committed  per row, the highest slot without an uncommitted one below it; -1 if there is none
    executed   per row, the highest slot without an unexecuted one below it; -1 if there is none
    pending    instances that this replica knows and has not executed
    in_flight  instances that this replica coordinates and that are not committed
    keys       keys that have a value
    sessions   client sessions remembered
    remembered numbers remembered of keys
    truncated  per row, the highest slot up to which the log has been dropped; -1, or nothing at all, if it
               never was
    log        instances that the log holds in memory
    led        of a protocol with a leader: whether there is one, as far as this replica knows
    leads      whether this replica is it
    ballot     the highest ballot that it knows
    elections  how often it has become the leader
    """

    committed: Sequence[int]
    executed: Sequence[int]
    pending: int = 0
    in_flight: int = 0
    keys: int = 0
    sessions: int = 0
    remembered: int = 0
    truncated: Sequence[int] = ()
    log: int = 0
    led: bool = True
    leads: bool = False
    ballot: int = 0
    elections: int = 0


class Traffic:
    """Messages of one type to or from one peer, and their encoded bytes."""

    __slots__ = ("bytes", "messages")

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0


@dataclass(slots=True)
class Observing:
    """What is known of those who follow without a vote.

    observes   whether this replica is one
    as_of      up to when its state has all that anybody was answered (monotonic, seconds); None if that is not known
    followers  how far those have executed that follow what is decided here, by name
    joining    those of all peers that say that they are to vote one day
    """

    observes: bool = False
    as_of: float | None = None
    followers: dict[str, Sequence[int]] = field(default_factory=dict)
    joining: set[str] = field(default_factory=set)

    def note(self, peer: str, *, joins: bool) -> None:
        """A peer has said whether it is to vote one day."""
        (self.joining.add if joins else self.joining.discard)(peer)

    @property
    def age(self) -> float:
        """How many seconds older its state is at most than what anybody was answered; 0 if it votes."""
        if not self.observes:
            return 0.0
        return inf if self.as_of is None else monotonic() - self.as_of


class Watching(NamedTuple):
    """Those who watch keys: how many wait, the bytes kept for them, changes told, times that some were not kept."""

    waiting: int = 0
    kept: int = 0
    told: int = 0
    compacted: int = 0


class ReplicaStats:
    """Everything one replica counts; `replicas` take part in the epoch that runs, and `me` is this one.

    Args:
        replicas: the names of all replicas with which it begins, by row.
        row: this replica's row.
        operations: the names of the state machine's operations, by code.
        message_types: the names of the messages between replicas, of the protocol with which it begins.
        quorum: how many replicas a commit takes, this one included.
        kind: that protocol.

    Written directly, where there is no method for it:

    execution_latency  seconds from the proposal of an own instance to its execution
    component_size     instances executed as one; of `count` single ones, `observe(1, count)`
    duplicates         commands that a client sent again and that were answered from its session
    epoch, protocol, thresholds  the configuration's in which this replica votes; its f and e
    void               own proposals that an epoch did not execute and that went on in the next one
    quiesce            seconds from when the end of an epoch came in sight until the next one began
    level              the configuration's, of what replicas send and keep (`epaxos.version`)
    peer_epoch         in which epoch each peer was last heard, by name
    peer_level         the newest level that each peer's program knows, by name; 0 while it is away
    peer_up            whether each peer is online, by name
    peer_round_trip    mean round trip with each peer in seconds, without queues; 0 until one was measured
    peer_waiting       bytes that wait for each peer
    gauges             see `Gauges`; set once a round
    storage_failed     whether a write has failed, after which this replica promises nothing more
    checkpoint_refused whether the last checkpoint had a row that cannot be written; the replica goes on
    storage_full       whether nothing that grows is taken, for lack of room on the disk
    storage_room       bytes until then
    storage_bytes      what the data directory takes on disk
    catch_up           rows and bytes that have come of a peer's checkpoint; None while none is fetched
    served_bytes       bytes of checkpoints that were sent to peers
    slow_commands      commands whose answer took longer than `slow`
    kept_bytes         bytes of results that are kept until clients acknowledge them
    replies_waiting    bytes of replies that have not been sent yet
    replies_cut        replies without some of the results, for which there was no room
    replies_dropped    replies dropped, for which there was none at all
    watch              see `Watching`; set once a round
    redis              what has happened at the Redis door, whose thread alone writes it
    """

    __slots__ = (
        "batch_size",
        "catch_up",
        "catch_ups",
        "checkpoint_duration",
        "checkpoint_refused",
        "checkpointed_at",
        "checkpoints",
        "commit_latency",
        "commits",
        "component_size",
        "dropped",
        "duplicates",
        "epoch",
        "errors",
        "executed",
        "execution_latency",
        "gauges",
        "instances",
        "kept_bytes",
        "level",
        "mailbox_depth",
        "mailbox_wait",
        "me",
        "message_types",
        "observing",
        "operations",
        "peer_epoch",
        "peer_level",
        "peer_round_trip",
        "peer_up",
        "peer_waiting",
        "persist_duration",
        "proposals",
        "protocol",
        "quiesce",
        "quorum",
        "records",
        "redis",
        "replicas",
        "replies_cut",
        "replies_dropped",
        "replies_waiting",
        "round_duration",
        "round_events",
        "rounds",
        "rows",
        "served_bytes",
        "slow_commands",
        "storage_bytes",
        "storage_failed",
        "storage_full",
        "storage_room",
        "thresholds",
        "traffic",
        "void",
        "watch",
    )

    peer_up: dict[str, bool]
    peer_round_trip: dict[str, float]
    peer_epoch: dict[str, int]
    peer_level: dict[str, int]
    peer_waiting: dict[str, int]

    def __init__(
        self,
        replicas: Sequence[str],
        row: int,
        operations: Sequence[str],
        message_types: Sequence[str],
        quorum: int,
        kind: Kind = EPAXOS,
    ) -> None:
        self.epoch = self.void = self.level = 0
        self.thresholds = (0, 0)
        self.replicas = tuple(replicas)
        self.me = self.replicas[row]
        self.quorum = quorum
        self.message_types = tuple(message_types)
        self.protocol = kind.name
        self.rows = self.replicas if kind.owned else (LOG_ROW,)
        self.operations = tuple(name.lower() for name in operations)

        self.proposals = 0
        self.instances = 0
        self.duplicates = 0
        self.rounds = 0
        self.mailbox_depth = 0
        self.storage_failed = self.storage_full = False
        self.storage_room = inf
        self.checkpoint_refused = False
        self.storage_bytes = 0
        self.records = 0
        self.checkpoints = 0
        self.checkpointed_at: float | None = None
        self.catch_up: tuple[int, int] | None = None
        self.catch_ups = 0
        self.served_bytes = 0
        self.slow_commands = 0
        self.kept_bytes = self.replies_waiting = 0
        self.watch = Watching()
        self.observing = Observing()
        self.redis: Counter[str] = Counter()
        self.replies_cut = self.replies_dropped = 0
        self.commits = dict.fromkeys(kind.paths, 0)
        self.executed = [0] * len(self.operations)
        self.errors = dict.fromkeys(ERROR_KINDS, 0)
        self.peer_up, self.peer_round_trip = {}, {}
        self.peer_epoch, self.peer_level, self.peer_waiting = {}, {}, {}
        self.dropped: dict[tuple[str, DropReason], int] = {}
        self.traffic: dict[tuple[Direction, str, str], Traffic] = {}
        for name in self.replicas:
            self.know(name)
        nothing = (-1,) * len(self.replicas)
        self.gauges = Gauges(nothing, nothing)

        self.commit_latency = Histogram(LATENCY_BOUNDS)
        self.execution_latency = Histogram(LATENCY_BOUNDS)
        self.mailbox_wait = Histogram(LATENCY_BOUNDS)
        self.round_duration = Histogram(LATENCY_BOUNDS)
        self.persist_duration = Histogram(LATENCY_BOUNDS)
        self.checkpoint_duration = Histogram(CHECKPOINT_BOUNDS)
        self.quiesce = Histogram(CHECKPOINT_BOUNDS)
        self.batch_size = Histogram(BATCH_BOUNDS)
        self.component_size = Histogram(COMPONENT_BOUNDS)
        self.round_events = Histogram(EVENT_BOUNDS)

    @property
    def heard(self) -> list[str]:
        """The replicas that this one is in touch with, itself included, in the order of their rows."""
        up = self.peer_up
        return [name for name in self.replicas if name == self.me or up.get(name)]

    @property
    def peers(self) -> tuple[str, ...]:
        """All others of whom something is counted."""
        return tuple(self.peer_up)

    def know(self, peer: str) -> None:
        """Count what concerns a peer from now on, unless that is done."""
        if peer == self.me or peer in self.peer_up:
            return
        self.peer_epoch[peer] = self.peer_level[peer] = self.peer_waiting[peer] = 0
        self.peer_round_trip[peer] = 0.0
        self.dropped |= {(peer, reason): 0 for reason in DROP_REASONS}
        self.traffic |= {
            (direction, kind, peer): Traffic() for direction in DIRECTIONS for kind in self.message_types
        }
        self.peer_up[peer] = False

    def forget(self, peer: str) -> None:
        """Count nothing more of a peer that has gone, and show nothing of it."""
        for of_peer in (
            self.peer_epoch,
            self.peer_level,
            self.peer_waiting,
            self.peer_round_trip,
            self.peer_up,
        ):
            of_peer.pop(peer, None)
        self.observing.followers.pop(peer, None)
        self.observing.joining.discard(peer)
        self.dropped = {key: count for key, count in self.dropped.items() if key[0] != peer}
        self.traffic = {key: traffic for key, traffic in self.traffic.items() if key[2] != peer}

    def begin(self, configuration: Configuration, message_types: Iterable[str] = ()) -> None:
        """An epoch begins, in which replicas send such messages.

        What is counted of the messages and commits of another protocol stays as it is: counters never fall.
        """
        kind = KINDS[configuration.protocol]
        self.protocol = kind.name
        self.commits = dict.fromkeys(kind.paths, 0) | self.commits
        for name in (name for name in message_types if name not in self.message_types):
            self.message_types += (name,)
            self.traffic |= {
                (direction, name, peer): Traffic() for direction in DIRECTIONS for peer in self.peer_up
            }
        self.epoch, self.quorum = configuration.epoch, configuration.quorums.slow
        self.thresholds = configuration.f, configuration.e
        self.level = configuration.level
        self.observing.followers.clear()
        self.replicas = tuple(name for name in configuration.names if name != NOBODY)
        self.rows = self.replicas if kind.owned else (LOG_ROW,)
        for name in self.replicas:
            self.know(name)

    @property
    def hears_quorum(self) -> bool:
        """The same of an observer, which decides nothing: whether it hears as many of those that do."""
        return self.has_quorum or (self.observing.observes and len(self.heard) >= self.quorum)

    @property
    def has_quorum(self) -> bool:
        """Whether these suffice to commit anything; never for who has no vote."""
        return self.me in self.replicas and len(self.heard) >= self.quorum

    def proposed(self, commands: int) -> None:
        """An instance with that many commands of clients was proposed."""
        self.proposals += commands
        self.instances += 1
        self.batch_size.observe(commands)

    def committed(self, path: str, seconds: float) -> None:
        """An instance that this replica coordinated was committed, `seconds` after its beginning.

        `path` is one of `COMMIT_PATHS`. A recovered instance has no commit latency: it began with the
        recovery, and nobody knows here when it was proposed.
        """
        self.commits[path] += 1
        if path != "recovered":
            self.commit_latency.observe(seconds)

    def round_done(self, events: int, waited: float, seconds: float) -> None:
        """A round of so many events took `seconds`.

        `waited` is the longest time, in seconds, that one of its events can have waited for it.
        """
        self.rounds += 1
        self.mailbox_depth = events
        self.round_events.observe(events)
        self.mailbox_wait.observe(waited)
        self.round_duration.observe(seconds)

    def persisted(self, records: int, seconds: float) -> None:
        """So many records of the log were written in one commit, which took `seconds`."""
        self.records += records
        self.persist_duration.observe(seconds)

    def checkpointed(self, seconds: float, now: float) -> None:
        """A checkpoint is durable, `seconds` after its cut.

        `now` is what `time.monotonic` says; a scrape tells from it how old the checkpoint is.
        """
        self.checkpoints += 1
        self.checkpoint_duration.observe(seconds)
        self.checkpointed_at = now

    def caught_up(self) -> None:
        """What a peer's checkpoint lacked here has been taken over, and all that had followed by then."""
        self.catch_ups += 1
        self.catch_up = None

    def message_traffic(self, direction: Direction, message_type: str, peer: str) -> Traffic:
        """Where to count messages of one type to or from one peer.

        Whoever sends or receives keeps the `Traffic` and adds to it, which saves the look-up.

        Raises:
            KeyError: `message_type` is none of those given so far, or `peer` nobody that is known (`know`).
        """
        return self.traffic[direction, message_type, peer]

    def messages_dropped(self, peer: str, reason: DropReason, count: int = 1) -> None:
        """Messages to `peer` were thrown away: its queue was full, or it is offline."""
        self.dropped[peer, reason] += count

    def error(self, kind: str, count: int = 1) -> None:
        """Something bad was met and dealt with.

        `kind` is one of `ERROR_KINDS`; a new one is counted all the same, because a missing label is no
        reason for a replica to stop.
        """
        self.errors[kind] = self.errors.get(kind, 0) + count
