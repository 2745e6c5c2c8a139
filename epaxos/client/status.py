"""What a replica tells of itself, as `Client.status` returns it; `epaxos.actors.status` makes the map it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class PeerState:
    """A peer as a replica sees it.

    online         it is heard, and hears
    trouble        why there is no connection, if that is known
    round_trip_s   seconds there and back, as measured lately; None before
    last_heard_s   seconds since something came from it; None before
    epoch          the latest in which it was heard
    behind         instances decided at the replica asked of which it has not said so; it says so now and then
    newest_level   the newest level that its program knows; 0 before it has said so
    """

    online: bool = False
    trouble: str | None = None
    round_trip_s: float | None = None
    last_heard_s: float | None = None
    epoch: int = 0
    behind: int = 0
    newest_level: int = 0


@dataclass(frozen=True, slots=True)
class Latency:
    """How long a replica's own instances took from proposal to execution, in seconds: a histogram.

    `counts[i]` are those above `bounds_s[i - 1]` and up to `bounds_s[i]`; the last one those above all bounds.
    """

    bounds_s: Sequence[float] = ()
    counts: Sequence[int] = ()
    sum_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CatchUp:
    """How far a replica is in fetching the checkpoint of a `peer`: the stage, and what of it has come.

    `rows` are parts of it of any size; `keys` are those whose values have come, and sessions.
    """

    peer: str = ""
    stage: str = ""
    rows: int = 0
    bytes: int = 0
    keys: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """What has become of a request for another epoch, by the replica that was asked.

    outcome  "proposed" (it is under way), "done" (it has led to `epoch`), "superseded" (another request has led to
             `epoch`), "early" (the epoch has only just begun: ask again), "refused" (nothing is changed),
             "possible" (it would be taken), or "unknown" (it was of an earlier epoch, and may have been done)
    epoch    in which the replica is, or to which the request has led
    text     what is to be said of that: why it is refused, for instance
    """

    outcome: str
    epoch: int
    text: str


class Joiner(NamedTuple):
    """One that is to join: what it is called, its incarnation, and where it is to be reached."""

    name: str
    incarnation: int
    host: str
    port: int
    client_port: int
    metrics_port: int


class MemberChange(NamedTuple):
    """Who joins, and who goes, by what they are called; whoever goes never comes back as the same.

    Who is elsewhere from now on, by its id in the place of a name (the incarnation means nothing then).
    """

    add: Sequence[Joiner] = ()
    remove: Sequence[str] = ()
    move: Sequence[Joiner] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """The status of one replica. What it did not tell has the value that stands here.

    name, id, pid, version, uptime_s   which replica, of which version, for how long (seconds); the id is its name or,
                        of one that has joined, that with its incarnation
    row                 of the log in which it votes; None if it has no vote
    cluster, fingerprint, protocol, f, e   which cluster, and how it is run
    level, newest_level   at which level the cluster works, and the newest that the replica's program knows
    removed             the ids of all who voted once, and do not any more
    members, addresses  the ids of those who vote; of each, as far as it is known: host, port, client port, metrics port
    observes, age_s     whether it is an observer, and how old its state is at most
    observers           those that follow here, by id: `online`, how many instances they are `behind`,
                        and whether one `joins`: it is to vote one day
    epoch, request, changing   the epoch, by which number it was asked for, and whether another one is under way
    reasons             why it does not serve, empty if it does
    quorum              how many replicas a commit takes, itself included
    leader, ballot      who orders commands, where the protocol has a leader
    committed, executed, seen   of each row of the log, the slot up to which all instances are so here; -1 for none
    pending             instances that are known here and not executed
    in_flight           own instances that are not decided
    proposals, commits, fast_path_ratio   own commands so far, own instances by path, and the share on the fast one
    executed_commands   commands that have executed here
    keys, sessions, generation   keys with a value, clients, and collections of their sessions so far
    latency, peers, catch_up   see the classes
    storage, storage_bytes, storage_failed   the engine, its size on disk, and what is wrong with it
    storage_full, storage_room   whether nothing is taken that grows, for lack of room, and bytes until then
    checkpoint, checkpoint_refused, truncated, remembered   up to where all is in a checkpoint, why there is none, up to
                        where the log is gone, and how many instances it holds
    digest              of the state, sessions included, if asked for and had
    others              what this version of the library does not know
    """

    name: str = ""
    id: str = ""
    row: int | None = 0
    pid: int | None = None
    version: str = ""
    uptime_s: float = 0.0
    cluster: str = ""
    fingerprint: str = ""
    epoch: int = 0
    members: Sequence[str] = ()
    addresses: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    removed: Sequence[str] = ()
    observes: bool = False
    age_s: float | None = None
    observers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    request: int = 0
    changing: bool = False
    level: int = 0
    newest_level: int = 0
    protocol: str = ""
    f: int = 0
    e: int = 0
    reasons: Sequence[str] = ()
    quorum: int = 0
    leader: str | None = None
    ballot: int = 0
    committed: Sequence[int] = ()
    executed: Sequence[int] = ()
    seen: Sequence[int] = ()
    pending: int = 0
    in_flight: int = 0
    proposals: int = 0
    commits: Mapping[str, int] = field(default_factory=dict)
    fast_path_ratio: float | None = None
    executed_commands: int = 0
    keys: int = 0
    sessions: int = 0
    generation: int = 0
    latency: Latency = field(default_factory=Latency)
    peers: Mapping[str, PeerState] = field(default_factory=dict)
    catch_up: CatchUp | None = None
    storage: str = ""
    storage_bytes: int = 0
    storage_failed: str | None = None
    storage_full: bool = False
    storage_room: int | None = None
    checkpoint: Sequence[int] = ()
    checkpoint_refused: str | None = None
    truncated: Sequence[int] = ()
    remembered: int = 0
    digest: str | None = None
    others: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Status:
        """The status that a replica told."""
        known = _known(cls, told)
        if "latency" in known:
            known["latency"] = Latency(**_known(Latency, known["latency"]))
        if "peers" in known:
            known["peers"] = {
                name: PeerState(**_known(PeerState, state)) for name, state in known["peers"].items()
            }
        if known.get("catch_up") is not None:
            known["catch_up"] = CatchUp(**_known(CatchUp, known["catch_up"]))
        return cls(**known, others={key: value for key, value in told.items() if key not in known})

    def as_dict(self) -> dict[str, Any]:
        """The same as a map of maps, lists, strings and numbers; for JSON."""
        told: dict[str, Any] = asdict(self)
        others: dict[str, Any] = told.pop("others")
        return told | others


def _known(kind: type[Status | Latency | PeerState | CatchUp], told: Mapping[str, Any]) -> dict[str, Any]:
    """What of a map has a place in a class."""
    names = {entry.name for entry in fields(kind)} - {"others"}
    return {key: value for key, value in told.items() if key in names}
