"""One replica of a simulated cluster: the core and the state machine, driven as the `Replica` actor drives them.

It performs effects in the order that `protocol.contract` demands, one at a time; before each, it may crash (`host`).
Whom it hears is in `links`, what it sends in `post`, what it is made of in `making`, and what clients get of it in
`execution`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from epaxos.checkpoint.fetched import Fetched
from epaxos.checkpoint.keeper import Todo
from epaxos.checkpoint.loading import load, loading
from epaxos.checkpoint.transfer import BEGIN
from epaxos.errors import InvariantError
from epaxos.protocol.contract import (
    Adopt,
    Core,
    Durable,
    Effects,
    Event,
    Over,
    PeerStatus,
    Propose,
    Receive,
    Retire,
    Tick,
    joined,
)
from epaxos.protocol.eras import Eras, First
from epaxos.protocol.ids import InstanceId, Name, Row, Vector
from epaxos.protocol.kinds import KINDS
from epaxos.protocol.log import Instance
from epaxos.protocol.membership import NOBODY, Configuration, nobody
from epaxos.protocol.transfer import CheckpointRows, EpochOver, FetchRows, TransferMessage
from epaxos.simulation.plan.options import stream
from epaxos.simulation.world.changes import Proposer, Wanted
from epaxos.simulation.world.disk import copy_record
from epaxos.simulation.world.era import Era, host_of, name_of
from epaxos.simulation.world.execution import Execution
from epaxos.simulation.world.frontdoor import Answer, Frontdoor
from epaxos.simulation.world.host import LARGEST_ROUND, Host
from epaxos.simulation.world.links import Links, Refusal, Stamp
from epaxos.simulation.world.making import KeeperDrives, Making, World
from epaxos.simulation.world.observer import Observer
from epaxos.simulation.world.readings import Readings
from epaxos.statemachine.batch import (
    Batch,
    Payload,
    decode_payload,
    make_barrier,
    make_collection,
    make_expirations,
)
from epaxos.statemachine.expiry import Expirations, Patience
from epaxos.statemachine.machine import StateMachine
from epaxos.statemachine.reading import Reading
from epaxos.storage.journal import rows_of
from epaxos.watching.watchers import Poll, Tell, Watchers

_LET_GO = 100
"""Entries of what is not needed any more that are freed at a time."""

_AHEAD = 50
"""Messages of the next epoch that are kept, in half of the runs."""

_TICK = Tick()


class Transferred(NamedTuple):
    """A message of a peer that lags, or to this replica because it does."""

    sender: int
    message: TransferMessage | EpochOver


class Heard(NamedTuple):
    """A message of a host, which is in some row of the epoch, or has no vote in it."""

    sender: int
    message: Any


_TRANSFERRED = frozenset((FetchRows, CheckpointRows, EpochOver))

_Incoming: TypeAlias = "tuple[int, Event[Any] | Transferred | Heard]"
"""What waits, and for the core of which epoch."""


class Replica(Host):
    """A replica of the cluster in `world`, or one that may join it; it does not run before `start`.

    `row` is its number in the run, as of all that happens to machines; where it votes, each epoch says by itself.
    """

    def __init__(self, world: World, row: int) -> None:
        options = world.options
        self.name = name_of(row)
        first = options.configuration
        knows_all = self.name in first.names or options.observes(row)
        initial = first if knows_all else nobody(options.protocol)
        super().__init__(options, world.schedule, world.observer, row, initial)
        self._world = world
        self.gone = self.retired = False
        self.incarnation = row
        self.coverage: Counter[str] = Counter()
        self._blocking = options.disk == "blocking"
        self._keeps_ahead = options.seed % 2 == 0
        self._of_epoch: dict[int, tuple[Observer, Row]] = {}
        self.disk.incarnations = {known: known for known in range(options.hosts)}

    def _on_durable(self, record: Any, epoch: int) -> None:
        voting = self._of_epoch.get(epoch)
        if voting is not None:
            observer, row = voting
            observer.durable(row, record)

    @property
    def configuration(self) -> Configuration:
        """That of the epoch which runs here."""
        return self._eras.running.configuration

    @property
    def observes(self) -> bool:
        """Whether it has no vote, and never had one."""
        has_voted = self._votes or self.name in self.configuration.removed
        return self._options.observes(self.row) and not has_voted

    @property
    def _is_another(self) -> bool:
        """Whether it has come back without its disk: nobody who knows the one before listens to it."""
        return self.incarnation != self.row

    @property
    def _hears_quorum(self) -> bool:
        """Whether it votes, and hears enough of those who do for anything to be decided."""
        return self._votes and 1 + len(self._online_rows()) >= self.configuration.quorums.slow

    @property
    def audience(self) -> set[str]:
        """Whom it tells how far it is."""
        return self._eras.audience

    @property
    def behind(self) -> bool:
        """Whether commands of the epoch before wait to be proposed in this one."""
        return bool(self._eras.left)

    @property
    def generation(self) -> int:
        """What this replica tells a client that begins a session; of one that is down, what it told last."""
        return self.machine.generation if self.starts else 0

    # -- life ----------------------------------------------------------------------------------------------

    def start(self, *, acquainted: bool = False) -> None:
        """Begin, or begin again, with what is durable; `acquainted` takes all peers for online."""
        if self.gone:
            return
        self._boot()
        self.retired = False
        self._begin_life(acquainted=acquainted)
        era = self._run_in(self._read_memory())
        self._eras = Eras(era, self.name, map(name_of, self._links.online))
        if not acquainted:
            self._inbox += [
                (self.epoch, PeerStatus(row, online=False))
                for row, host in enumerate(era.hosts)
                if host != self.row
            ]
        if self.starts > 1 and not self._is_another:
            self._guard(partial(self._resume, self._eras.running))
        self._schedule.after(self._options.beacon * self._random.random(), self._on_beacon, self.starts)
        self._poke()

    def _begin_life(self, *, acquainted: bool) -> None:
        """What a crash takes away, but for what is made from the disk."""
        options = self._options
        self.frontdoor = Frontdoor(options)
        name = self.starts * options.hosts + self.row
        self.watchers = Watchers(name, options.history, options.history, always=options.always)
        self.readings = Readings(stream(options.seed, f"readings {self.row} {self.starts}"))
        self._wanted: tuple[Wanted, str | None] | None = None
        self._lost = False
        self.as_of: float | None = None
        self._set_over(over=False)
        self._inbox: deque[_Incoming] = deque()
        self._ahead: deque[_Incoming] = deque(maxlen=_AHEAD)
        self._links = Links(
            options,
            self.row,
            self.incarnation,
            self.disk.incarnations.copy(),
            self._schedule,
            self._world.network,
            self._observer,
            self._on_peer,
        )
        self.watchers.marks = self._links.marks
        self.watchers.steady = lambda: not self._keeper.merging
        self._making = Making(
            self._world, self.row, self.starts, self._links, self._step, self._later, self._sleep
        )
        self._execution = Execution(
            self.row, self._observer, self.frontdoor, self.readings, self.watchers, self._step
        )
        if acquainted:
            self._links.acquaint()

    def _read_memory(self) -> Era:
        """All that is made from what is durable, at a start."""
        checkpoint = Fetched(self._initial, decode_payload)
        checkpoint.take(sorted(self.disk.state.items()))
        loaded = self.disk.load(checkpoint.configuration)
        copies = _copies(loaded.records)  # before the core makes the records its own
        era, machine = self._making.of_checkpoint(checkpoint, loaded.records, loaded.truncated)
        self._note_era(era)
        load(checkpoint, era.core, machine)
        self._begin_memory(checkpoint, era, machine, copies)
        return era

    def _load_anew(self, checkpoint: Fetched) -> Iterator[None]:
        """The same with a peer's of a later epoch, which is durable by now; this replica goes on as it is meanwhile."""
        era, machine = self._making.of_checkpoint(checkpoint, (), (-1,) * rows_of(checkpoint.configuration))
        self._note_era(era)
        self._anew = checkpoint, era, machine
        yield from loading(checkpoint, era.core, machine)

    def _begin_memory(
        self, checkpoint: Fetched, era: Era, machine: StateMachine, records: Mapping[InstanceId, Instance]
    ) -> None:
        """Begin with what was made of a checkpoint, and of the log."""
        configuration = era.configuration
        self.machine = self._execution.machine = machine
        above = [entry.id for entry in checkpoint.entries]
        self._start_in(era, records, checkpoint.executed, above)
        self.watchers.begin(
            self.machine, configuration.epoch, rows_of(configuration), checkpoint.executed, above
        )
        drives = KeeperDrives(
            self._make_fetched, lambda: self._random.randrange(2**62), self._round_trip, self._load_anew
        )
        self._keeper = self._making.keeper(era, machine, self.disk, checkpoint, drives)
        self._collector = self._making.collector(era)
        self._expirations = Expirations(
            Patience(self.row, self._options.hosts, self._options.patience), self.machine.get
        )
        self._note_timed()

    def _round_trip(self, peer: Name) -> float:
        row = self._eras.running.row_of(host_of(peer))
        return 0.0 if row is None or peer == self.name else self.core.round_trip(row).longest

    def _note_era(self, era: Era) -> None:
        if era.row is not None:
            self._of_epoch[era.epoch] = era.observer, era.row

    def _start_in(
        self, era: Era, records: Mapping[InstanceId, Instance], executed: Vector, above: Sequence[InstanceId]
    ) -> None:
        """Tell the checkers of its epoch with what this replica begins there, if it votes."""
        if era.row is not None:
            if self._is_another:
                era.observer.forgot(era.row)
            era.observer.started(era.row, records, executed, above)

    def _make_fetched(self) -> Fetched:
        return Fetched(self._eras.running.configuration, decode_payload)

    def _take_up_what_waited(self, first: Iterable[First]) -> None:
        """Tell the core of another epoch what it is told first, and what was said before it was there."""
        self._tell(first)
        self._inbox.extend(self._ahead)
        self._ahead.clear()

    def _run_in(self, era: Era) -> Era:
        """Go on in an era, whose core and epoch are those of this replica from now on."""
        self.core, self.epoch = era.core, era.epoch
        decided = era.configuration.incarnations.items()
        self._links.decide({host_of(name): number for name, number in decided})
        return era

    @property
    def _votes(self) -> bool:
        return self._eras.running.row is not None

    def _look_on(self) -> None:
        """There is no vote here: what clients wait for, others may do."""
        if not self._votes:
            self._eras.left.clear()
            if self.frontdoor.give_up(self.row):
                self._observer.noted("clients sent elsewhere by one without a vote")
            self.watchers.send_away("it has no vote any more")
            if self.name in self.configuration.removed:
                self._observer.noted("removed replica looks on")

    @property
    def _age(self) -> float | None:
        """How old the state of one that observes is, if that is known."""
        return self.clock.now - self.as_of if self.observes and self.as_of is not None else None

    def _set_over(self, *, over: bool) -> None:
        """The running epoch has come to its end, and the next one has not begun; or not."""
        self._is_over = over
        self._may_collect = not (self._calm or over)

    def _resume(self, era: Era) -> None:
        """Go on with what is durable of an epoch: it may lead to the end of that once more."""
        effects = era.core.resume(self.clock.now)
        self._take_copies(effects)
        if era.row is not None:
            era.observer.handled(era.row, Tick(), effects)
        self._set_over(over=effects.over is not None)
        if not self._is_over and self.disk.unreached is not None:
            raise InvariantError(
                f"replica {self.row} has promises of epoch {self.disk.unreached}, and comes to {era.epoch} alone"
            )
        self._perform(era, effects)

    def _turn(self, over: Over) -> None:
        """The running epoch has ended here, and all that led to that is durable: the next one begins (6.4)."""
        ended = self._eras.running
        configuration = self._eras.following(over)
        ended.post.let_all_ride()
        digest = self.machine.digest_source().hexdigest()
        if ended.row is not None:
            ended.observer.ended(ended.row, over, digest)
        else:
            self._observer.followed(self.row, ended.configuration, over, digest)
            self._observer.noted(
                "observer given a vote"
                if self.name in configuration.names
                else "observer past the end of an epoch"
            )
        self._observer.entered(self.row, configuration)
        if configuration.protocol != ended.configuration.protocol:
            self._observer.noted("epoch of another protocol")
        before, names = ended.configuration.names, configuration.names
        if set(names).difference(before) and any(
            host_of(name) in self._world.doomed for name in set(before).difference(names)
        ):
            self._observer.noted("dead replica replaced")
        loaded = self.disk.turn(configuration)
        nothing = (-1,) * rows_of(configuration)
        copies = _copies(loaded.records)
        era = self._making.era(configuration, Durable(loaded.records, loaded.truncated, nothing, ()))
        self._note_era(era)
        self._start_in(era, copies, nothing, ())
        self._take_up_what_waited(self._eras.next(self._run_in(era), over, retiring=self.retired))
        self._keeper.turn(configuration, era.core, self.clock.now)
        self.watchers.history.turned(len(nothing), over.cut)
        self._execution.read_in_log(self.readings.take_all(), votes=self._votes)
        self._collector = self._making.collector(era)
        self._look_on()
        self._resume(era)
        self._send_beacons()

    def _begin_anew(self) -> None:
        """A peer's checkpoint of a later epoch is durable, and nothing else means anything any more (6.7)."""
        self._execution.read_in_log(self.readings.take_all(), votes=self._votes)
        self.count()
        self._eras.running.post.let_all_ride()
        checkpoint, era, machine = self._anew
        loaded = self.disk.load(era.configuration)
        assert not loaded.records
        gone: list[Core[Any] | StateMachine] = [*(ended.core for ended in self._eras.all), self.machine]
        before = self._keeper
        self._begin_memory(checkpoint, era, machine, {})
        self._keeper.follow(before, self.clock.now)
        self._observer.noted("epoch from a peer's checkpoint")
        if era.row is not None and NOBODY in self.configuration.names:
            self._observer.noted("replica joined")
        if era.kind is not self._eras.running.kind:
            self._observer.noted("another protocol by a peer's checkpoint")
        self._observer.entered(self.row, era.configuration)
        self._take_up_what_waited(self._eras.replace(self._run_in(era), retiring=self.retired))
        for each in gone:
            while each.let_go(_LET_GO):
                pass
        self._look_on()
        self._resume(era)
        self._send_beacons()

    def _on_crash(self) -> None:
        self.count()

    def lose_disk(self, incarnation: int) -> None:
        """Come back with nothing that was promised: as another incarnation, which draws its number anew."""
        self.crash()
        self._observer.forgot(self.row)
        self.incarnation = incarnation
        self.disk = self._make_disk()
        self.disk.incarnations[self.row] = incarnation
        self.start()

    def count(self) -> None:
        """Add to `coverage` what the cores and the state machine have counted since the start."""
        for era in self._eras.all:
            self.coverage.update(era.core.coverage)
        self.coverage["duplicate command executed once"] += self.machine.duplicates

    def retire(self) -> None:
        """It is told to stop, and takes its time."""
        self.retired = True
        self.frontdoor.send_away(self.row)
        self._inbox.append((self.epoch, Retire()))
        self._poke()

    def calm(self) -> None:
        """No fault of this machine from now on."""
        self._may_collect = False
        super().calm()

    # -- what comes in -------------------------------------------------------------------------------------

    def receive(self, sender: Row, message: Any, stamp: Stamp) -> None:
        """Take a message of a peer."""
        if not self.alive or self.failed:
            return
        if isinstance(message, Refusal):
            if message.incarnation == self.incarnation:
                self._observer.noted("replica without its disk refused")
                self.crash()
            return
        if not self._links.admit(sender, stamp):
            return
        epoch = stamp.of.epoch
        events = self._eras.on_heard(name_of(sender), epoch)
        if events:
            self._tell(events)
        if type(message) in _TRANSFERRED:
            self._inbox.append((epoch, Transferred(sender, message)))
        else:
            self._inbox.append((epoch, Heard(sender, message)))
        self._poke()

    def _on_peer(self, peer: Row, online: bool) -> None:  # noqa: FBT001 - a callback
        for era in self._eras.all:
            era.post.forget(peer)
        self._tell(self._eras.on_link(name_of(peer), online=online))
        if not (online or self._hears_quorum):
            self.watchers.send_away("it hears no quorum")

    def _tell(self, events: Iterable[Event[Any]]) -> None:
        """Put events for the running core into the inbox."""
        self._inbox.extend((self.epoch, event) for event in events)

    def request(self, batch: Batch, answer: Answer, reading: Reading | None = None) -> None:
        """Take a frame of a client, which `answer` answers; with a `reading`, of reads that are none of the log."""
        if self.gone:
            answer(None, self.row)  # nobody listens there, which a client sees at once
            return
        if not self.alive or self.failed:
            return
        observed = reading is Reading.AGED and self._age is not None
        if self.retired or self._lost or not (self._votes or observed):
            answer(None, self.row)
        else:
            self._execution.request(batch, answer, reading)
            self._poke()

    def watch(self, name: object, poll: Poll, tell: Tell) -> None:
        """Take a question of a watcher, which is told what there is."""
        if self.gone:
            tell({"away": "nobody listens here"})
            return
        if not self.alive or self.failed:
            return
        if self.retired or self._lost or not (self._hears_quorum or self._age is not None):
            tell({"away": "others may do better"})
        elif not self._stands:
            self.watchers.ask(name, poll, self.clock.now, tell)
            self._poke()

    def _on_beacon(self, start: int) -> None:
        if start != self.starts or not self.alive:
            return
        self._schedule.after(self._options.beacon, self._on_beacon, start)
        if self._stands or self.failed:
            return
        self._send_beacons()
        if self._eras.may_leave:
            self._observer.noted("removed replica leaves")
            self.gone = True
            self.crash()
            return
        self._poke()

    def _send_beacons(self) -> None:
        audience = self._eras.audience
        if self._eras.joins and self._options.seed // 2 % 2 == 0:  # or nobody hears of it before it is let in
            audience |= set(self._options.configuration.names)
        for name in sorted(audience):
            host = host_of(name)
            if host >= 0:
                beacons = [(era.of, beacon) for era, beacon in self._eras.beacons(name, self.clock.now)]
                self._links.send_beacons(host, beacons, self._round_trip(name))

    # -- rounds --------------------------------------------------------------------------------------------

    def _has_work(self) -> bool:
        busy = self.disk.busy
        if busy and (self._blocking or self._keeper.wants_cut(self.clock.now)):
            return False  # before a cut, what the core has decided has to execute
        if self._inbox or self.readings.due or self._may_propose():
            return True
        core, keeper = self._deadlines()
        now = self.clock.now
        if core <= now or (keeper <= now and not busy):
            return True
        self._next_due = core, keeper
        return False

    def _deadlines(self) -> tuple[float, float]:
        """But for what the keeper wants; and for that."""
        core = self.core.deadline
        if self._may_collect and self._collector.deadline < core:
            core = self._collector.deadline
        if self._expirations.deadline < core and self._may_expire():
            core = self._expirations.deadline
        watchers = self.watchers.deadline
        return (min(core, watchers)), self._keeper.deadline

    def _may_propose(self) -> bool:
        """Whether something waits to be proposed; what an epoch has left behind goes first, whatever is in flight."""
        if self._eras.left or self._wanted is not None:
            return self._votes and not self._is_over
        return (
            self.frontdoor.to_propose
            and self._votes
            and not self._is_over
            and self.core.in_flight < self._options.max_instances
        )

    def _next_proposal(self, era: Era) -> Effects[Any]:
        if self._eras.left:
            return self._handle(era, Propose(self._eras.left.popleft()))
        if self._wanted is not None:
            return self._propose_change(era, *self._wanted)
        return self._handle(era, Propose(self.frontdoor.take_payload()))

    def _collects(self, now: float) -> bool:
        """Whether it is time for a collection."""
        return (
            self._votes
            and self._collector.is_due(self.machine.generation, now)
            and self._collector.may_propose(self.core.status(), self.machine.sessions, self._online_rows())
        )

    def _online_rows(self) -> list[Row]:
        rows = map(self._eras.running.row_of, sorted(self._links.online))
        return [row for row in rows if row is not None]

    def _note_timed(self) -> None:
        timed = self.machine.take_timed()
        if timed:
            self._expirations.note(timed, self.clock.now)
            self._next_due = None

    def _may_expire(self) -> bool:
        if self.retired or self._is_over or self.core.quiet or not self._votes:
            return False
        return self.core.in_flight < self._options.max_instances

    @property
    def overdue(self) -> bool:
        """Whether a value stands whose time is over."""
        return any(self._expirations.left(key, self.clock.now) == 0 for key in self.machine.names())

    def _round(self) -> None:
        """Take what waits, as the Replica actor does, and perform all effects together."""
        era = self._eras.running
        said = self._take_inbox()
        while self._may_propose():
            said.append(self._next_proposal(era))
        if self.readings.due and self._votes:
            for read in self.readings.questions():
                said.append(self._handle(era, read))
        now = self.clock.now
        for payload in self._own_payloads(now):
            said.append(self._handle(era, Propose(payload)))
        core = self.core
        if core.deadline <= now:
            said.append(self._handle(era, _TICK))
        if self._lost != core.lost:
            self._note_lost()
        self._perform(era, joined(said))
        if self.readings.due:
            self._execution.read_here(self._age, votes=self._votes, steady=not self._keeper.merging)
        self._execution.put_in_order()
        keeper = self._keeper
        if not self.disk.busy and (keeper.deadline <= now or keeper.source.active):
            self._keep()
        self._tell_watchers()

    def _own_payloads(self, now: float) -> Iterator[Payload]:
        """What nobody has asked for: collections, and ends of values."""
        if self._may_collect and self._collects(now):
            self._observer.noted("collection proposed")
            self._collector.proposed()
            yield make_collection(self.machine.generation, self.core.status().executed)
        if self._expirations.deadline <= now and self._may_expire():
            ended = self._expirations.take(now, LARGEST_ROUND, LARGEST_ROUND)
            if ended:
                self._observer.noted("end of a value proposed")
                yield make_expirations(ended, self.frontdoor.bounds)

    def _take_inbox(self) -> list[Effects[Any]]:
        inbox = self._inbox
        if not inbox:
            return []
        said = [self._take_event(*inbox.popleft())]
        said += [self._take_event(*inbox.popleft()) for _ in range(min(len(inbox), self._round_size - 1))]
        return [effects for effects in said if effects is not None]

    def _note_lost(self) -> None:
        """Send clients away while nothing that they ask for gets anywhere from here, as the Replica actor does."""
        self._lost = self.core.lost
        if self._lost:
            self._observer.noted("clients sent away from where nobody leads")
            self.frontdoor.send_away(self.row)

    def _take_event(self, epoch: int, event: Event[Any] | Transferred | Heard) -> Effects[Any] | None:
        """What the running core asks for; what an ended one does is done at once."""
        if isinstance(event, Transferred):
            return self._take_transferred(*event, epoch)
        era = self._eras.of(epoch)
        if era is None:
            if epoch == self.epoch + 1 and self._keeps_ahead:
                self._observer.noted("message of the next epoch kept")
                self._ahead.append((epoch, event))
            else:
                self._observer.noted("message of another epoch dropped")
            return None
        if isinstance(event, Heard):
            row = era.row_of(event.sender)
            if row is None:
                row = era.guest_row(event.sender)
                if era.row is None or not isinstance(event.message, era.kind.of_guests):
                    self._observer.noted("message of one without a vote dropped")
                    return None
                if isinstance(event.message, era.kind.asks):
                    self._eras.follows(name_of(event.sender), epoch)
            event = Receive(row, event.message)
        effects = self._handle(era, event)
        if era is self._eras.running:
            return effects
        if era.row is not None:
            era.observer.sealed(era.row, effects)
        self._perform(era, effects)
        return None

    def _take_transferred(
        self, sender: Row, message: TransferMessage | EpochOver, epoch: int
    ) -> Effects[Any]:
        effects: Effects[Any] = Effects()
        if isinstance(message, EpochOver):
            events = self._eras.on_over(name_of(sender), message, epoch)
            if events:
                self._wanted_from([name_of(sender)])
            for event in events:
                effects.extend(self._handle(self._eras.running, event))
        else:
            self._do(self._keeper.receive(name_of(sender), message, self.clock.now))
        return effects

    def _propose_change(self, era: Era, wanted: Wanted, protocol: str | None) -> Effects[Any]:
        """The barrier before another epoch, unless one is under way (protocol 6.5)."""
        self._wanted = None
        status = self.core.status()
        if status.changing:
            self._observer.noted("refresh refused")
            return Effects()
        proposer = Proposer(self._links.incarnations, self._world.doomed, self._observer)
        running, request = era.configuration, self._random.randrange(1, 2**62)
        follows = proposer.next(running, request, wanted(running))
        if protocol is not None:
            self._observer.noted("another protocol proposed")
            follows = follows._replace(protocol=protocol)
        self._observer.noted("refresh proposed")
        self._world.proposed.append(follows)
        return self._handle(era, Propose(make_barrier(self.machine.generation, status.executed, follows)))

    def refresh(self, wanted: Wanted, *, other: bool = False) -> None:
        """Somebody asks for another epoch, with the voters that are wanted then, perhaps of the `other` protocol."""
        if self.alive and not self.failed:
            running = self.configuration.protocol
            protocols = [name for name in KINDS if name != running] if other else [None]
            self._wanted = wanted, protocols[0]
            self._poke()

    def _keep(self) -> None:
        """Go on with a checkpoint, or with fetching one."""
        self._do(self._keeper.poll(self.clock.now))

    def _do(self, todo: Todo) -> None:
        era = self._eras.running
        for event in todo.events:
            if isinstance(event, Adopt):
                above = [entry.id for entry in event.entries]
                if era.row is not None:
                    era.observer.adopted(era.row, event.executed, above)
                else:
                    self._observer.noted("observer by a checkpoint")
                self.watchers.history.adopted(event.executed, above)
            self._perform(era, self._handle(era, event))
        for receiver, message in todo.messages:
            if isinstance(message, CheckpointRows) and message.position == BEGIN:
                self._observer.noted("peer told to wait for a checkpoint")
            elif isinstance(message, CheckpointRows) and message.last and not self._options.lasting:
                self._observer.noted("checkpoint written for a peer alone")
            self._step(message)
            self._links.send(host_of(receiver), message, self._eras.running.of)
        if todo.commit:
            self.disk.commit(self._on_committed)
        if todo.replaced:
            self._begin_anew()
        if self._eras.ended:
            self._forget()

    def _forget(self) -> None:
        """Let go of eras that nobody needs any more, and of their logs."""
        for era in self._eras.forget_below(self._keeper.oldest):
            self.coverage.update(era.core.coverage)
            while era.core.let_go(_LET_GO):
                pass
        if not self._eras.ended:
            self.disk.retire()

    def _on_committed(self) -> None:
        self._observer.noted("checkpoint")
        if self._keeper.writer.sifted:
            self._observer.noted("blocks of a checkpoint sifted")
        self._do(self._keeper.committed())

    def _handle(self, era: Era, event: Event[Any]) -> Effects[Any]:
        now = self.clock.now
        effects = era.core.on_event(event, now)
        if effects.fetch:
            self._wanted_from([era.configuration.names[row] for row in effects.fetch])
        if effects.records:
            self._take_copies(effects)
        if era.row is not None:
            era.observer.handled(era.row, event, effects)
        if effects.over is not None:
            self._set_over(over=True)
        return effects

    def _wanted_from(self, peers: Sequence[Name]) -> None:
        """Only the checkpoint of a peer brings what is missing here, as these say."""
        before = self._keeper.catch_up
        self._keeper.wanted(peers, self.clock.now)
        if before is not None and before != self._keeper.catch_up:
            self._observer.noted("log of a peer left for the checkpoint of another")

    @staticmethod
    def _take_copies(effects: Effects[Any]) -> None:
        """Encode the records, as the contract asks, before the next event changes them."""
        if effects.records:
            effects.records = [copy_record(record) for record in effects.records]

    def _set_alarm(self) -> None:
        self._note_timed()
        super()._set_alarm()

    # -- effects -------------------------------------------------------------------------------------------

    def _perform(self, era: Era, effects: Effects[Any]) -> None:
        if self._options.early:
            era.post.send([*effects.messages, *effects.early])
            effects.messages, effects.early = [], []
        self.disk.write(effects.records, partial(self._after_records, era, effects))
        if effects.truncate is not None and era is self._eras.running:  # else all of its log goes at once
            self.disk.drop(effects.truncate)

    @staticmethod
    def _send(era: Era, effects: Effects[Any]) -> list[Any]:
        """Send the messages; those to the replica itself are returned."""
        own: list[Any] = []
        for messages in (effects.messages, effects.early, effects.promises):
            if messages:
                own += era.post.send(messages)
        if effects.deferrable:
            era.post.send_with_others(effects.deferrable)
        return own

    def _after_records(self, era: Era, effects: Effects[Any]) -> None:
        """Do what had to wait for the records."""
        own = self._send(era, effects)
        if effects.executions:
            for component in effects.executions:
                self._step()
                self._execution.execute(era, component)
            self._keeper.executed(effects.executions, self.clock.now)
        if effects.as_of is not None:
            self.as_of = max(effects.as_of, self.as_of or effects.as_of)
        if effects.overtaken:
            self._execution.settle(self._eras, effects.overtaken)
        if effects.reads:
            self._execution.look(self.readings.take(effects.reads), self._age, votes=self._votes)
        if effects.unread:
            self._execution.read_in_log(self.readings.take(effects.unread), votes=self._votes)
        if own:
            assert era.row is not None
            self._inbox.extendleft((era.epoch, Receive(era.row, message)) for message in reversed(own))
        if effects.over is not None:
            self._turn(effects.over)
        self._tell_watchers()

    def _tell_watchers(self) -> None:
        if self._options.watchers:  # else nobody ever asks
            self.watchers.poll(self.clock.now)


def _copies(records: Iterable[Instance]) -> dict[InstanceId, Instance]:
    return {record.id: copy_record(record) for record in records}
