"""What a Replica is put together from: the core, the state machine, and what of both outlives the process."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, NamedTuple, Protocol

from epaxos import version
from epaxos.actors.link import Mark
from epaxos.checkpoint.fetched import Fetched
from epaxos.checkpoint.keeper import Keeper, KeeperSettings
from epaxos.checkpoint.loading import load, loading
from epaxos.checkpoint.transfer import BYTES_AT_A_TIME, Source
from epaxos.checkpoint.writer import CheckpointWriter
from epaxos.config import Config
from epaxos.config.keys import KEY_VALUE
from epaxos.config.kinds import show
from epaxos.errors import ConfigError, FormatUnsupported, StorageError, WrongIdentity
from epaxos.metrics import ReplicaStats
from epaxos.protocol.contract import Core, Durable
from epaxos.protocol.epaxos import state as epaxos
from epaxos.protocol.eras import Eras, First
from epaxos.protocol.ids import Name, Row
from epaxos.protocol.kinds import EPAXOS, KINDS, MULTIPAXOS
from epaxos.protocol.membership import NOBODY, Configuration, joined, nobody
from epaxos.protocol.multipaxos import state as multipaxos
from epaxos.protocol.quorums import Quorums
from epaxos.protocol.spectator import Spectator
from epaxos.statemachine.batch import REPLY_HEAD, Batch, Limits, decode_payload
from epaxos.statemachine.checks import check_level
from epaxos.statemachine.hosted import Machine
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.operations import Operation
from epaxos.statemachine.sessions import Budget
from epaxos.storage.engine import Engine, Identity, open_engine
from epaxos.storage.journal import Journal, Loaded, rows_of
from epaxos.storage.memory_engine import MemoryEngine
from epaxos.transport.codec import Codec
from epaxos.transport.pages import PAGES
from epaxos.watching.watchers import Watchers

_LEASE: Final = 10
"""Time-outs for which a checkpoint is kept for a peer that fetches it and falls silent."""


_KEPT_FRAMES: Final = 8
"""Results of so many largest frames are kept, of all sessions together."""


def limits_of(config: Config) -> Limits:
    """What a cluster's commands may hold and come to: the largest result fits into a reply."""
    results = config.max_frame - REPLY_HEAD
    return Limits(config.max_key, config.max_value, round(config.max_pause * 1000), results)


class Disk(NamedTuple):
    """What of a replica outlives its process.

    incarnations  those of the peers that were ever heard of
    kept          how much peers had kept when that was last noted
    anew          what of a peer's it begins anew with, as far as that is loaded
    """

    engine: Engine
    journal: Journal
    keeper: Keeper
    incarnations: dict[Name, int]
    kept: dict[Name, int]
    anew: Anew


@dataclass(frozen=True, slots=True)
class Era:
    """What a Replica has for one epoch: its configuration, its core, and what reads its messages.

    row    where it votes; None if it does not
    names  who votes in which row
    guests who has no vote and asks what is decided; each has a row behind those, by which it is answered
    """

    configuration: Configuration
    row: Row | None
    names: tuple[Name, ...]
    core: Core[Any]
    codec: Codec
    mark: Mark
    guests: list[Name] = field(default_factory=list)
    epoch: int = field(init=False)
    quorum: int = field(init=False)

    def __post_init__(self) -> None:
        """Keep what is asked for many times a round."""
        object.__setattr__(self, "epoch", self.configuration.epoch)
        object.__setattr__(self, "quorum", self.configuration.quorums.slow)

    def name_of(self, row: Row) -> Name:
        """Who votes in a row, or has been given one as a guest."""
        voters = len(self.names)
        return self.names[row] if row < voters else self.guests[row - voters]

    def guest_row(self, name: Name) -> Row:
        """By which row one that has no vote is answered; it has one until it is not heard any more (`release`)."""
        if name not in self.guests:
            if NOBODY in self.guests:
                self.guests[self.guests.index(NOBODY)] = name
            else:
                self.guests.append(name)
        return len(self.names) + self.guests.index(name)

    def release(self, audience: Container[Name]) -> None:
        """Let others have the rows of guests that are not among these.

        What is still said to such a row is for nobody, or a question's answer that its new owner did not ask.
        """
        self.guests[:] = [name if name in audience else NOBODY for name in self.guests]

    def row_of(self, name: Name) -> Row | None:
        """Where a replica votes; None if it does not."""
        return self.names.index(name) if name in self.names else None


class LetsGo(Protocol):
    """What may hold much, of which nothing is asked any more."""

    def let_go(self, most: int) -> bool:
        """Free about so many entries; whether there are more."""
        ...


class Anew:
    """What a replica begins anew with, made of a peer's checkpoint of a later epoch while it goes on as it is.

    A `hosted` state machine is given once, and goes on with what it holds: its state is loaded at the end, all at once.
    """

    checkpoint: Fetched
    era: Era
    machine: StateMachine

    def __init__(self, config: Config, me: Name, hosted: Machine | None) -> None:
        self._config = config
        self._me = me
        self.hosted = hosted

    def load(self, checkpoint: Fetched) -> Iterator[None]:
        """Load it, a slice in each step.

        Raises:
            FormatUnsupported: see `make_era`.
        """
        configuration = checkpoint.configuration
        nothing = Loaded(configuration, [], (-1,) * rows_of(configuration), {}, {})
        self.checkpoint = checkpoint
        self.era = _era_with(self._config, self._me, nothing, checkpoint)
        self.machine = _make_machine(self._config, self.hosted)
        if self.hosted is None:
            yield from loading(checkpoint, self.era.core, self.machine)


@dataclass(slots=True)
class Parts:
    """What a Replica drives, in one epoch after the other; `resumes` is whether it has a past.

    `joins` is whether its file has it among those that vote, and it is not one of the first of these. `as_of` is up to
    when what has executed here is all that anybody was answered (`Effects.as_of`).
    Where a peer's checkpoint takes the place of all that it has, there are others in here (`begin_anew`).
    """

    eras: Eras[Era]
    machine: StateMachine
    disk: Disk
    stats: ReplicaStats
    resumes: bool
    watchers: Watchers
    joins: bool = False
    as_of: float | None = None

    @property
    def observes(self) -> bool:
        """Whether it follows, for others to read at, without a vote; not one that has been removed, or is to join."""
        running = self.eras.running
        return running.row is None and not self.joins and self.me not in running.configuration.removed

    @property
    def me(self) -> Name:
        """Who it is, in all epochs."""
        return self.eras.me

    @property
    def core(self) -> Core[Any]:
        """That of the running epoch."""
        return self.eras.running.core

    @property
    def configuration(self) -> Configuration:
        """That of the running epoch."""
        return self.eras.running.configuration

    def admit(self, batch: Batch) -> int | None:
        """See `StateMachine.admit`; what is new at a level above that of the cluster is refused too."""
        added = self.machine.admit(batch)
        check_level(batch, self.configuration.level)
        return added

    def ended(self, batch: Batch) -> int | None:
        """See `StateMachine.ended`."""
        return self.machine.ended(batch)

    def knows(self, batch: Batch) -> bool:
        """See `StateMachine.knows`."""
        return self.machine.knows(batch)


def make_parts(config: Config, row: Row, hosted: Machine | None = None, *, joins: bool = False) -> Parts:
    """Open the data directory of the replica of table `row` of the file, or make it, and begin with what it holds.

    `hosted` is the state machine that takes the place of the key-value store. A new directory is that of a first member
    of the cluster, or of one that `joins` it.

    Raises:
        ConfigError: `machine` is the name of another state machine, or this one is not as new.
        StorageError: the directory cannot be used.
    """
    _check_machine(config, hosted)
    replica = config.everybody[row]
    identity = Identity(config.identity, replica.name, joins=joins or row >= config.n)
    storage = config.storage
    engine = open_engine(
        storage.engine,
        storage.directory_of(replica.name),
        identity,
        storage.sync,
        storage.sync_interval,
        create=True,
    )
    try:
        return _load(config, row, engine, hosted)
    except WrongIdentity as error:
        engine.close()
        raise WrongIdentity(f"{storage.directory_of(replica.name)}: {error}") from error
    except BaseException:
        # What is wrong with the data is to be told, not that it was still being read.
        with suppress(StorageError):
            engine.close()
        raise


def _check_machine(config: Config, hosted: Machine | None) -> None:
    wanted, given = config.machine, KEY_VALUE if hosted is None else hosted.name
    if wanted != given:
        hint = (
            ""
            if hosted
            else f"; only a program that gives {show(wanted)} to its epaxos.Node can run this replica"
        )
        raise ConfigError(
            f"{config.source}: machine: found {show(wanted)}; allowed here: {show(given)}{hint}"
        )
    if hosted is None:
        return
    if given == KEY_VALUE:
        raise ConfigError(
            f"{config.source}: machine: {show(given)} is the key-value store; call yours something else"
        )
    keys = hosted.keys()
    if any(hosted.save(key) is not None for key in keys):
        raise ConfigError(
            f"{config.source}: machine: the {show(given)} that was given has a state; give each Node a new one, "
            "which loads what this replica has kept"
        )


def _load(config: Config, row: Row, engine: Engine, hosted: Machine | None) -> Parts:
    lasting = engine.name != MemoryEngine.name
    joins_later = engine.joins and row < config.n
    initial = nobody(config.protocol) if joins_later else config.initial
    journal = Journal(engine, initial, decode_payload, lasting=lasting)
    log = journal.load()
    checkpoint = Fetched(log.configuration, decode_payload)
    _read_checkpoint(engine, checkpoint)
    name = config.everybody[row].name
    me = joined(name, engine.incarnation) if engine.joins else name
    if checkpoint.configuration != log.configuration:
        log = _begun_by(checkpoint, journal, log)
    stats = ReplicaStats(
        [me] if engine.joins else [replica.name for replica in config.replicas],
        0 if engine.joins else row,
        [operation.name for operation in Operation],
        message_types_of(log.configuration),
        config.slow_quorum,
        KINDS[log.configuration.protocol],
    )
    eras = Eras(_era_with(config, me, log, checkpoint), me)
    machine = _make_machine(config, hosted)
    load(checkpoint, eras.running.core, machine)
    running = eras.running.configuration
    stats.begin(running, message_types_of(running))
    anew = Anew(config, me, hosted)
    keeper = _make_keeper(config, eras, machine, engine, checkpoint, anew)
    disk = Disk(engine, journal, keeper, log.last.incarnations, log.last.kept, anew)
    resumes = bool(log.records) or checkpoint.complete
    watchers = Watchers(_number(), config.watch_history, config.max_frame // 4, always=config.watch_always)
    parts = Parts(eras, machine, disk, stats, resumes, watchers, joins_later)
    _begin_watchers(parts, checkpoint)
    return parts


def message_types_of(configuration: Configuration) -> list[str]:
    """The names of what replicas send one another in an epoch."""
    return list(PAGES[configuration.protocol].names.values())


def begin_anew(
    config: Config, parts: Parts, now: float, *, retiring: bool
) -> tuple[list[First], list[LetsGo]]:
    """Begin with the own checkpoint, which is of a later epoch than what runs, and has been loaded.

    `parts` has another machine and another keeper then. Returns what the core has to be told first, and what is to be
    let go of.

    Raises:
        StorageError: it cannot be noted which epoch that is.
    """
    eras, anew = parts.eras, parts.disk.anew
    gone: list[LetsGo] = [era.core for era in eras.all]
    log = _begun_by(anew.checkpoint, parts.disk.journal, Loaded(parts.configuration, [], (), {}, {}))
    # What it had of later epochs has begun again at the start, or the replica did not start.
    assert not log.records
    first = eras.replace(anew.era, retiring=retiring)
    if anew.hosted is None:
        gone.append(parts.machine)
    else:
        parts.machine.merge((key, None) for key in parts.machine.names())
        load(anew.checkpoint, anew.era.core, anew.machine)
    parts.stats.begin(eras.running.configuration, message_types_of(eras.running.configuration))
    parts.machine, parts.resumes = anew.machine, True
    again = Anew(config, parts.me, anew.hosted)
    keeper = _make_keeper(config, eras, parts.machine, parts.disk.engine, anew.checkpoint, again)
    keeper.follow(parts.disk.keeper, now)
    parts.disk = parts.disk._replace(keeper=keeper, anew=again)
    _begin_watchers(parts, anew.checkpoint)
    return first, gone


def _begun_by(checkpoint: Fetched, journal: Journal, log: Loaded) -> Loaded:
    """What the log has of the epoch of a checkpoint; what it has of earlier ones is of no use any more."""
    configuration, last = checkpoint.configuration, log.last
    begun = journal.begin(configuration)
    nothing = (-1,) * rows_of(configuration)
    return begun or Loaded(configuration, [], nothing, last.incarnations, last.kept)


def _era_with(config: Config, me: Name, log: Loaded, checkpoint: Fetched) -> Era:
    """The epoch of a checkpoint, and of what the log has of it."""
    durable = Durable(log.records, log.truncated, checkpoint.executed, checkpoint.entries, checkpoint.vectors)
    return make_era(config, me, log.configuration, durable)


def _make_machine(config: Config, hosted: Machine | None) -> StateMachine:
    budget = Budget(config.max_frame, _KEPT_FRAMES * config.max_frame)
    return StateMachine(limits_of(config), time.sleep, budget, hosted)


def _begin_watchers(parts: Parts, checkpoint: Fetched) -> None:
    """All of a checkpoint has executed: of its changes nobody knows."""
    configuration, above = parts.configuration, [entry.id for entry in checkpoint.entries]
    rows = rows_of(configuration)
    parts.watchers.begin(parts.machine, configuration.epoch, rows, checkpoint.executed, above)


def make_era(config: Config, me: Name, configuration: Configuration, durable: Durable) -> Era:
    """An epoch with a core that begins with what is durable of it; it only looks on where `me` has no vote.

    Raises:
        FormatUnsupported: it is of a level that this program does not know.
    """
    if not version.is_known(configuration.level):
        raise FormatUnsupported(
            f"the cluster is at level {configuration.level} since epoch {configuration.epoch}, and this program knows "
            f"{version.known()}: start a version that knows it, on the same data"
        )
    kind = KINDS[configuration.protocol]
    names = configuration.names
    row = names.index(me) if me in names else None
    quorums = configuration.quorums
    settings = _SETTINGS[kind.name](config, quorums.n if row is None else row, quorums)
    core: Core[Any] = kind.make(settings, Random(), durable)  # noqa: S311 - jitter of retries, nothing secret
    if row is None:
        interval = math.inf if NOBODY in names else config.beacon
        core = Spectator(core, kind, quorums, interval, secrets.randbits(61))
    n, epoch = configuration.n, configuration.epoch
    codec = Codec(n, decode_payload, PAGES[configuration.protocol], kind.rows(n), epoch)
    return Era(configuration, row, names, core, codec, Mark(epoch, configuration.digest, configuration.level))


def _read_checkpoint(engine: Engine, fetched: Fetched) -> None:
    """Collect all rows of the last checkpoint."""
    snapshot = engine.snapshot_state()
    try:
        after = b""
        while rows := snapshot.scan(after, BYTES_AT_A_TIME):
            fetched.take(rows)
            after = rows[-1][0]
    finally:
        snapshot.close()


def _lasts(config: Config) -> bool:
    """Whether what a replica keeps outlives it."""
    return config.storage.engine != MemoryEngine.name


def _epaxos(config: Config, row: Row, quorums: Quorums) -> epaxos.Settings:
    return epaxos.Settings(
        row=row,
        quorums=quorums,
        thrifty=config.thrifty,
        fast_path_timeout=config.fast_path_timeout,
        retry=config.retry,
        recovery_timeout=config.timeout,
        ahead=AHEAD if _lasts(config) else 0,
        retain=config.storage.retain,
        tells=_lasts(config),
    )


def _multipaxos(config: Config, row: Row, quorums: Quorums) -> multipaxos.Settings:
    return multipaxos.Settings(
        row=row,
        quorums=quorums,
        learn=multipaxos.Learn(config.learn),
        beacon=config.beacon,
        retry=config.retry,
        timeout=config.timeout,
        retain=config.storage.retain,
        tells=_lasts(config),
    )


AHEAD: Final = 16
"""`Settings.ahead` of all data directories: never to be made less. So many no-ops are proposed after a restart."""

_SETTINGS: Final[dict[str, Callable[[Config, Row, Quorums], Any]]] = {
    EPAXOS.name: _epaxos,
    MULTIPAXOS.name: _multipaxos,
}
"""What makes the settings of each protocol's core."""


def _make_keeper(
    config: Config, eras: Eras[Era], machine: StateMachine, engine: Engine, checkpoint: Fetched, anew: Anew
) -> Keeper:
    """That of an engine which holds this checkpoint."""
    core = eras.running.core
    writer = CheckpointWriter(
        core,
        machine,
        eras.running.configuration,
        engine.stage_state,
        engine.snapshot_state,
        lasting=engine.name != MemoryEngine.name,
    )
    writer.loaded(checkpoint)
    chunk = min(BYTES_AT_A_TIME, config.max_peer_frame // 2)
    source = Source(_LEASE * config.timeout, engine.snapshot_state, _number, chunk)
    storage = config.storage
    settings = KeeperSettings(storage.checkpoint, storage.checkpoint_instances, config.timeout / 2)
    return Keeper(
        core,
        writer,
        source,
        settings,
        lambda: Fetched(eras.running.configuration, decode_payload),
        _number,
        lambda peer: _round_trip(eras.running, peer),
        anew.load,
    )


def _round_trip(era: Era, peer: Name) -> float:
    """How long a peer takes to answer at most, as far as the core of an epoch knows."""
    row = era.row_of(peer)
    return 0.0 if row is None else era.core.round_trip(row).longest


def _number() -> int:
    """A number that nobody has drawn before, and that fits into a message."""
    return secrets.randbits(62)
