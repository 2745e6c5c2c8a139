"""Every key of the configuration, declared once.

Validation, `epaxos config init`, `epaxos config keys` and the documentation derive from `KEYS`; the values
end up as the attributes of `epaxos.config.model`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from epaxos.config.kinds import Addresses, Choice, Duration, Host, Integer, Kind, Name, Place, Switch, show
from epaxos.protocol.membership import PROTOCOLS

VOTES: Final = "votes"
"""How followers learn what is chosen, if nobody says anything else."""

KEY_VALUE: Final = "kv"
"""The `machine` of replicas that are nobody else's: the key-value store."""

READ: Final = "read"
WRITE: Final = "write"
HTTP_LEVELS: Final = ("off", READ, WRITE)
"""What the API over HTTP may be used for, each including those before it."""

TOP: Final = ""
REPLICAS: Final = "replicas"
"""The array of tables, one a replica; its keys have no defaults and no environment variables."""

OBSERVERS: Final = "observers"
"""The same of those that have no vote."""

SECURITY: Final = "security"

MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Key:
    """One key: where it stands, what may stand there, what stands there if nothing does.

    table         `TOP`, "client", "storage", "http", "security" or `REPLICAS`
    default       as it would stand in a file; None where there is none or it depends on other keys
    default_text  what the documentation says where `default` is None
    example       what stands, commented out, in the file of a new cluster where the key is not required
    """

    table: str
    name: str
    default: bool | int | str | None
    kind: Kind
    purpose: str
    default_text: str = ""
    example: int | str | None = None

    @property
    def path(self) -> str:
        """The name with its table, as in "client.timeout"; also unique among all keys."""
        return f"{self.table}.{self.name}" if self.table else self.name

    @property
    def variable(self) -> str:
        """The environment variable that overrides the key, as in "EPAXOS_CLIENT_TIMEOUT"."""
        return "EPAXOS_" + self.path.upper().replace(".", "_")

    @property
    def required(self) -> bool:
        """Whether its table is incomplete without it."""
        return self.default_text == REQUIRED


REQUIRED: Final = "required"
"""In the place of a default."""


class KeyRow(NamedTuple):
    """A key as the documentation shows it; `default` is TOML or words."""

    key: str
    default: str
    allowed: str
    purpose: str


_PORT: Final = Integer(1, 65535)

KEYS: Final = (
    Key(TOP, "name", "local", Name(), "Name of the cluster; part of its fingerprint."),
    Key(
        TOP,
        "protocol",
        PROTOCOLS[0],
        Choice(PROTOCOLS),
        "How replicas agree in the first epoch: without a leader, or by one, which conflicts cost nothing; the same "
        "for all. `epaxos member change` begins an epoch of another one.",
    ),
    Key(
        TOP,
        "machine",
        KEY_VALUE,
        Name(),
        "What commands do: the key-value store, or the state machine of that name which a program gives to its "
        "`epaxos.Node`; all replicas the same.",
    ),
    Key(
        TOP,
        "learn",
        VOTES,
        Choice((VOTES, "commits")),
        "With `multipaxos`: how followers learn what is chosen, from everybody's votes or from the leader's commits; "
        "all replicas the same.",
    ),
    Key(
        TOP,
        "thrifty",
        False,
        Switch(),
        "Send the first PreAccept and Accept only to as many peers as a quorum needs.",
    ),
    Key(
        TOP,
        "aggregate",
        True,
        Switch(),
        "Make one instance of all client commands that arrive in one round.",
    ),
    Key(
        TOP,
        "max_batch",
        1000,
        Integer(1, 1_000_000),
        "Commands in one instance at most; with `aggregate`, one client frame is never split.",
    ),
    Key(
        TOP,
        "mailbox",
        10_000,
        Integer(1, 10_000_000),
        "Events (frames and tells) that may wait at most, and that one round takes at most.",
    ),
    Key(
        TOP,
        "max_pending",
        100_000,
        Integer(1, 100_000_000),
        "Client commands proposed and not yet answered at most; beyond it clients are answered `busy`.",
    ),
    Key(TOP, "max_instances", 64, Integer(1, 1_000_000), "Own instances in flight at most."),
    Key(
        TOP,
        "timeout",
        "1s",
        Duration("10ms", "1h"),
        "A peer that is silent this long, or two round trips if they take longer, is offline; longer than `beacon`.",
    ),
    Key(
        TOP,
        "beacon",
        "100ms",
        Duration("1ms", "10m"),
        "Interval of the beacons sent to every peer; up to three times as long while next to nothing else is sent.",
    ),
    Key(
        TOP,
        "fast_path_timeout",
        "50ms",
        Duration("100us", "1m"),
        "How long to wait for a fast quorum once a slow one has answered; at most `retry`.",
    ),
    Key(
        TOP,
        "retry",
        "200ms",
        Duration("1ms", "1m"),
        "First interval after which an answer is asked for again; a round trip, if that takes longer.",
    ),
    Key(
        TOP,
        "commit_delay",
        "5ms",
        Duration("0s", "1s"),
        "How long a Commit may wait for another message to the same peer to ride on.",
    ),
    Key(
        TOP,
        "collect",
        "1m",
        Duration("100ms", "24h"),
        "How often at most what is kept of clients (for ten times) and of keys that are gone is collected.",
    ),
    Key(
        TOP,
        "uptime",
        "0s",
        Duration("0s", "8760h"),
        "A replica stops by itself after this long; 0s means that it runs for ever.",
    ),
    Key(
        TOP,
        "f",
        None,
        Integer(0, 1_000_000, words="integer with n >= 2f + 1"),
        "Crashes that n replicas survive; the same for all, fixed when they first start.",
        default_text="(n - 1) // 2",
    ),
    Key(
        TOP,
        "e",
        None,
        Integer(0, 1_000_000, words="integer with e <= f and n >= 2e + f - 1"),
        "Crashes under which n replicas keep the fast path; the same for all, fixed when they first start.",
        default_text="the largest allowed",
    ),
    Key(
        TOP,
        "max_key",
        65_536,
        Integer(1, 16 * MEBIBYTE, "bytes"),
        "Length of a key at most; part of the cluster's fingerprint.",
    ),
    Key(
        TOP,
        "max_value",
        MEBIBYTE,
        Integer(1, 256 * MEBIBYTE, "bytes"),
        "Length of a value at most; part of the cluster's fingerprint.",
    ),
    Key(
        TOP,
        "max_frame",
        32 * MEBIBYTE,
        Integer(1, 1024 * MEBIBYTE, "bytes"),
        "Length of a frame on any socket at most; at least `max_key` + 2 * `max_value` + 4096; part of the cluster's "
        "fingerprint.",
    ),
    Key(
        TOP,
        "max_pause",
        "100ms",
        Duration("0s", "1m"),
        "Longest PAUSE that a client may ask for.",
    ),
    Key(
        TOP,
        "log_level",
        "info",
        Choice(("debug", "info", "warning", "error")),
        "The least important messages that are logged.",
    ),
    Key(
        TOP,
        "peer_addresses",
        "",
        Addresses(),
        "Where this replica reaches peers, whatever was decided of that before it started: for when all have moved at "
        "once; take it away after `epaxos member move`.",
    ),
    Key(
        TOP,
        "slow",
        "1s",
        Duration("0s", "1h"),
        "Commands of clients that took longer from arrival to answer are logged, with their keys; 0s: none are.",
    ),
    Key(
        TOP,
        "watch_history",
        32 * MEBIBYTE,
        Integer(4096, 1 << 40, "bytes"),
        "Of the last changes, so much is kept for those who watch keys; who comes later is told that it missed some.",
    ),
    Key(
        TOP,
        "watch_always",
        False,
        Switch(),
        "Keep changes also while nobody watches anywhere, for those who go on later from where they were.",
    ),
    Key(
        "client",
        "timeout",
        "2s",
        Duration("1ms", "1h"),
        "A call of a client that is not answered after this long fails.",
    ),
    Key(
        "client",
        "tries",
        3,
        Integer(1, 100),
        "Replicas that a client tries for one call, the first included.",
    ),
    Key(
        "storage",
        "engine",
        "sqlite",
        Choice(("sqlite", "memory")),
        "Where a replica keeps its promises and its state; with `memory` they end with its process.",
    ),
    Key(
        "storage",
        "directory",
        "epaxos-data",
        Place(),
        "Each replica keeps its data in the directory of its name in here (relative to this file); not with `memory`.",
    ),
    Key(
        "storage",
        "sync",
        "always",
        Choice(("always", "interval", "never")),
        "When promises reach the disk: before they are sent, once an interval, or when the system likes.",
    ),
    Key(
        "storage",
        "sync_interval",
        "100ms",
        Duration("1ms", "1m"),
        "Longest time that promises wait for the disk with `sync` = `interval`.",
    ),
    Key(
        "storage",
        "checkpoint",
        "5s",
        Duration("100ms", "1h"),
        "Longest time from an execution to the beginning of the next checkpoint.",
    ),
    Key(
        "storage",
        "checkpoint_instances",
        20_000,
        Integer(1, 100_000_000),
        "Executed instances that begin a checkpoint earlier.",
    ),
    Key(
        "storage",
        "retain",
        16 * MEBIBYTE,
        Integer(0, 1 << 40, "bytes"),
        "Executed commands that stay in the log for peers that missed them.",
    ),
    Key(
        "storage",
        "quota",
        0,
        Integer(0, 1 << 50, "bytes"),
        "What a replica's data may take of its disk, beyond which clients may only read and remove; 0: all there is.",
    ),
    Key(
        "storage",
        "reserve",
        64 * MEBIBYTE,
        Integer(0, 1 << 50, "bytes"),
        "Room on the disk below which it is the same; reads, deletes and peers still write into it.",
    ),
    Key(
        "http",
        "api",
        HTTP_LEVELS[0],
        Choice(HTTP_LEVELS),
        "What the API on `metrics_port` lets everybody do who reaches it: nothing with keys and values, read, or write "
        "too.",
    ),
    Key(
        SECURITY,
        "keys",
        "",
        Place(optional=True),
        "Directory of the key files (relative to this file), with which only who has a key comes in; without, anybody.",
    ),
    Key(
        SECURITY,
        "key",
        "admin.key",
        Place(),
        "The key file of clients (relative to `keys`; the option --key names another).",
    ),
    Key(
        SECURITY,
        "certificate",
        "",
        Place(optional=True),
        "PEM file (relative to `keys`) of a certificate and its key, with which HTTP is served over TLS.",
    ),
    Key(
        SECURITY,
        "insecure",
        False,
        Switch(),
        "Without `keys`, listen on more than the loopback interface nevertheless: anybody there can read and write.",
    ),
    Key(
        REPLICAS,
        "pid",
        None,
        Integer(0, 2**31 - 1),
        "Distinct number of the replica; its row in the log is the rank of its pid.",
        default_text=REQUIRED,
    ),
    Key(
        REPLICAS,
        "name",
        None,
        Name(),
        "Distinct name of the replica.",
        default_text=REQUIRED,
    ),
    Key(
        REPLICAS,
        "host",
        None,
        Host(),
        "What its peers and clients connect to; a name may have several addresses, of both families.",
        default_text=REQUIRED,
    ),
    Key(REPLICAS, "port", None, _PORT, "Port for the peers.", default_text=REQUIRED),
    Key(REPLICAS, "client_port", None, _PORT, "Port for the clients.", default_text=REQUIRED),
    Key(
        REPLICAS,
        "metrics_port",
        None,
        _PORT,
        "Port for HTTP: `/metrics`, `/livez`, `/readyz`, `/healthz` and the API under `/v1`.",
        default_text=REQUIRED,
    ),
    Key(
        REPLICAS,
        "listen",
        None,
        Host(
            "host name or IP address of the replica's own machine, 0.0.0.0, or :: for both families",
            wildcard=True,
        ),
        "What the replica listens on, where that is not `host`: in a container or behind NAT.",
        default_text="`host`",
        example="0.0.0.0",  # noqa: S104 - a comment in a file
    ),
    Key(
        REPLICAS,
        "redis_port",
        None,
        _PORT,
        "Port for clients of Redis.",
        default_text="none, and no such door",
        example=6379,
    ),
)


def keys_of(table: str) -> tuple[Key, ...]:
    """The keys of one table, in the order of declaration."""
    return tuple(key for key in KEYS if key.table == table)


SECTIONS: Final = tuple(dict.fromkeys(key.table for key in KEYS if key.table not in {TOP, REPLICAS}))
"""The tables of which a file holds one at most."""

VARIABLES: Final = {key.variable: key for key in KEYS if key.table != REPLICAS}
"""The keys that the environment can override, by the name of the variable."""


def describe_keys() -> list[KeyRow]:
    """Every key with its default, what is allowed and what it is for, in the order of declaration."""
    return [
        KeyRow(
            key.path,
            key.default_text if key.default is None else show(key.default),
            key.kind.allowed,
            key.purpose,
        )
        for key in KEYS
    ]
