"""The configuration as the program sees it: frozen values, durations in seconds, sizes in bytes.

`epaxos.config.keys` says what each value is for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from epaxos import version
from epaxos.config.keys import KEY_VALUE, VOTES
from epaxos.config.kinds import show
from epaxos.config.suggestion import advice
from epaxos.errors import ConfigError
from epaxos.protocol.membership import Configuration, called

_PEER_FRAME_HEAD: Final = 64 * 1024
"""Bytes of a frame between replicas beside payloads, generously."""


@dataclass(frozen=True, slots=True)
class ReplicaAddress:
    """A replica and where it is; `listen` is what it listens on if that is not `host`.

    `redis_port` is None where no client of Redis is let in.
    """

    pid: int
    name: str
    host: str
    port: int
    client_port: int
    metrics_port: int
    listen: str | None = None
    redis_port: int | None = None

    @property
    def listens_on(self) -> str:
        """A name, an address or a wildcard of the machine that it runs on."""
        return self.host if self.listen is None else self.listen

    @property
    def place(self) -> tuple[str, int, int, int]:
        """Its host and ports, in the order of `protocol.membership.Member`."""
        return self.host, self.port, self.client_port, self.metrics_port

    @property
    def peer_endpoint(self) -> str:
        """The ZeroMQ endpoint for its peers."""
        return f"tcp://{place(self.host, self.port)}"

    @property
    def client_endpoint(self) -> str:
        """The ZeroMQ endpoint for its clients."""
        return f"tcp://{place(self.host, self.client_port)}"


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """The table [client]."""

    timeout: float
    tries: int


@dataclass(frozen=True, slots=True)
class StorageConfig:
    """The table [storage]."""

    engine: str
    directory: str
    sync: str
    sync_interval: float
    checkpoint: float
    checkpoint_instances: int
    retain: int
    quota: int
    reserve: int

    def directory_of(self, name: str) -> Path:
        """Where the replica called `name` keeps its data; an absolute path, if the configuration was loaded."""
        return Path(self.directory) / name


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """The table [http]."""

    api: str


@dataclass(frozen=True, slots=True)
class SecurityConfig:
    """The table [security]; paths are absolute, if the configuration was loaded, and "" where there is none."""

    keys: str = ""
    key: str = ""
    certificate: str = ""
    insecure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A validated configuration.

    replicas     sorted by pid: the position of a replica is its row in the log
    observers    those that have no vote, sorted likewise
    source       the file it comes from, or "defaults"
    fingerprint  64 bits, never 0; differs between configurations whose replicas must not talk to one another
    """

    name: str
    protocol: str
    machine: str
    learn: str
    thrifty: bool
    aggregate: bool
    max_batch: int
    mailbox: int
    max_pending: int
    max_instances: int
    timeout: float
    beacon: float
    fast_path_timeout: float
    retry: float
    commit_delay: float
    collect: float
    uptime: float
    f: int
    e: int
    max_key: int
    max_value: int
    max_frame: int
    watch_history: int
    watch_always: bool
    max_pause: float
    log_level: str
    peer_addresses: tuple[tuple[str, tuple[str, int]], ...]
    slow: float
    client: ClientConfig
    storage: StorageConfig
    http: HttpConfig
    replicas: tuple[ReplicaAddress, ...]
    observers: tuple[ReplicaAddress, ...] = ()
    security: SecurityConfig = SecurityConfig()
    source: str = "defaults"
    fingerprint: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", _fingerprint(self))

    @property
    def n(self) -> int:
        """How many replicas there are."""
        return len(self.replicas)

    @property
    def everybody(self) -> tuple[ReplicaAddress, ...]:
        """All that can be started by this file: its replicas, then its observers."""
        return (*self.replicas, *self.observers)

    @property
    def identity(self) -> int:
        """64 bits: of which cluster a data directory is.

        Less than the fingerprint: the sizes of keys and values may be raised between two starts.
        """
        return _hash([self.name, *_machine(self)])

    @property
    def initial(self) -> Configuration:
        """The configuration with which a new cluster begins (protocol 6.1)."""
        names = tuple(replica.name for replica in self.replicas)
        return Configuration(0, self.protocol, names, self.f, self.e, level=version.NEWEST)

    @property
    def max_peer_frame(self) -> int:
        """The largest frame between replicas in bytes.

        The answer to a Recover can hold a payload twice, as proposed and as voted for; a client's frame of
        `max_frame` must still fit, or its instance could never be decided.
        """
        return 2 * self.max_frame + _PEER_FRAME_HEAD

    @property
    def slow_quorum(self) -> int:
        """How many replicas an Accept must reach, the sender included."""
        return self.n - self.f

    @property
    def fast_quorum(self) -> int:
        """How many replicas must agree on a PreAccept for the fast path, the sender included."""
        return self.n - self.e

    def row_of(self, name: str) -> int:
        """The row in the log of the replica called `name`.

        Raises:
            ConfigError: there is none.
        """
        return self._index_of(name, self.replicas)

    def place_of(self, name: str) -> int:
        """The place of a replica or an observer among `everybody`.

        Raises:
            ConfigError: there is none of that name.
        """
        return self._index_of(name, self.everybody)

    def _index_of(self, name: str, among: tuple[ReplicaAddress, ...]) -> int:
        names = [replica.name for replica in among]
        if name not in names:
            raise ConfigError(f"{self.source}: no replica has the name {show(name)}; {advice(name, names)}")
        return names.index(name)

    def members_of(self, configuration: Configuration) -> dict[str, ReplicaAddress | None]:
        """Where those are who vote in an epoch, by who they are; None of whom that is not known.

        It was decided with them, but for first members: of those the file tells, until another epoch has begun.
        """
        decided = dict(zip(configuration.names, configuration.members, strict=False))
        found: dict[str, ReplicaAddress | None] = {}
        for name in configuration.names:
            member, called_so = decided.get(name), called(name)
            filed = next((one for one in self.replicas if one.name == called_so), None)
            if member is None or not member.client_port:
                found[name] = filed if called_so == name else None
            elif filed is not None and member.place == filed.place:
                found[name] = filed
            else:
                found[name] = ReplicaAddress(0, called_so, *member.place)
        return found

    def differs_from(self, configuration: Configuration) -> str:
        """Who is a member, or where, otherwise than the file says; empty if all is as it has it."""
        if not configuration.epoch:
            return ""
        members = self.members_of(configuration).items()
        now = {called(name): None if at is None else (at.host, at.port) for name, at in members}
        filed = {replica.name: (replica.host, replica.port) for replica in self.replicas}
        others = [
            f"{name} is one" + ("" if at is None else f" at {place(*at)}")
            for name, at in now.items()
            if filed.get(name) != at
        ]
        return ", ".join([*others, *(f"{name} is none" for name in filed if name not in now)])

    def as_of(self, status: Mapping[str, Any]) -> Config:
        """The same with the members of now in the place of those of the file, as a replica tells of them.

        `status` is what it says of itself. In the first epoch the file is right, and so it is where nobody answers. One
        of whom it is not known where it is is left out.
        """
        if not status.get("epoch"):
            return self
        filed = {(replica.name, replica.place): replica for replica in self.replicas}
        now = []
        for member, (host, *ports) in status["addresses"].items():
            place, name = (host, *ports), called(member)
            now.append(filed.get((name, place)) or ReplicaAddress(0, name, *place))
        return replace(self, replicas=tuple(now), f=int(status["f"]), e=int(status["e"]))

    def replica(self, name: str) -> ReplicaAddress:
        """The replica, or observer, called `name`.

        Raises:
            ConfigError: there is none.
        """
        return self.everybody[self.place_of(name)]


def place(host: str, port: int) -> str:
    """A port of a host as it stands in URLs and endpoints."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _fingerprint(config: Config) -> int:
    """A hash of what all replicas and clients of a cluster have in common, whoever its members are."""
    learn = [] if config.learn == VOTES else [config.learn]  # whatever the file says of the first protocol
    common = [config.name, config.max_key, config.max_value, config.max_frame, *learn, *_machine(config)]
    return _hash(common) or 1


def _machine(config: Config) -> list[str]:
    return [] if config.machine == KEY_VALUE else [config.machine]


def _hash(values: list[object]) -> int:
    return int.from_bytes(blake2b(json.dumps(values).encode(), digest_size=8).digest(), "big")
