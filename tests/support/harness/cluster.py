"""A whole cluster of cores, driven on virtual time from one seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import chain
from random import Random

from epaxos.protocol.command import Command
from epaxos.protocol.contract import Effects, Event, PeerStatus, Propose, Tick
from epaxos.protocol.epaxos.core import EPaxos
from epaxos.protocol.epaxos.messages import Message
from epaxos.protocol.epaxos.state import Settings
from epaxos.protocol.ids import Row
from epaxos.protocol.log import NOP
from harness.commands import Access
from harness.driver import Driver, Outgoing
from harness.network import Network
from harness.options import Options, draw_commands

PATIENCE = 60.0
"""Virtual seconds after which a healed cluster that has not finished is stuck."""


class Cluster:
    """Replicas, their network, and what was proposed.

    proposed   every command by its name
    submitted  when a command was proposed, counted in rounds of any replica
    answered   when the replica that proposed it had executed it, counted likewise
    lost       what a replica was asked for that has died
    late       what came to a replica after the end of its epoch, and was not proposed
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.now = 0.0
        self._digest = hashlib.blake2b()
        random = Random(options.seed)
        self.network = Network(options, random)
        self.drivers = [self._make_driver(row, random) for row in range(options.n)]
        self.proposed: dict[int, Access] = {}
        self.submitted: dict[int, int] = {}
        self.answered: dict[int, int] = {}
        self.late: list[Command] = []
        self.lost: set[int] = set()
        self._owners: dict[int, Row] = {}
        self._rounds = 0
        self._next_beacon = options.beacon

    def _make_driver(self, row: Row, random: Random) -> Driver:
        options = self.options
        settings = Settings(
            row,
            options.quorums,
            thrifty=options.thrifty,
            fast_path_timeout=options.fast_path_timeout,
            retry=options.retry,
        )
        return Driver(EPaxos(settings, Random(random.random())), self._observe)

    def _observe(self, row: Row, event: Event[Message], effects: Effects[Message]) -> None:
        asked = [getattr(effects, name) for name in sorted(Effects.__slots__)]
        self._digest.update(f"{self.now} {row} {event} {asked}".encode())

    # -- what a test does to it ----------------------------------------------------------------------------

    def propose(self, row: Row, command: Access, when: float | None = None) -> None:
        """Ask a replica to order a command, now or at a later time."""
        self.proposed[command.name] = command
        self._owners[command.name] = row
        self.network.schedule(self.now if when is None else when, row, Propose(command))

    def run_for(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self.now + seconds
        while self._step(end):
            pass
        self.now = end

    def finish(self) -> None:
        """Heal the network and let everything proposed be executed everywhere; fails if it cannot."""
        self.network.healed = True
        end = self.now + PATIENCE
        while not self.finished:
            assert self._step(end), f"stuck: {[driver.core.status() for driver in self.drivers]}"

    def kill(self, row: Row) -> None:
        """A replica dies, with what clients had asked of it; the others' failure detectors say so."""
        self.drivers = [driver for driver in self.drivers if driver.row != row]
        self.lost = {name for name, owner in self._owners.items() if owner == row}
        for driver in self.drivers:
            self.network.schedule(self.now, driver.row, PeerStatus(row, online=False))

    # -- what a test sees of it ----------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether every replica has executed every command and knows the fate of every slot heard of."""
        first = self.drivers[0].core.status()
        return all(
            len(driver.machine.executed) >= len(self.proposed)
            and status.in_flight == 0
            and status.executed == status.seen == first.seen
            for driver in self.drivers
            for status in (driver.core.status(),)
        )

    @property
    def trace(self) -> str:
        """A digest of every event and every effect so far."""
        return self._digest.hexdigest()

    @property
    def marks(self) -> Counter[str]:
        """What has happened how many times: messages by name, lost, duplicated, and what cores count."""
        marks = Counter(self.network.marks)
        for driver in self.drivers:
            marks.update(note.path for note in driver.notes)
            marks["cycles"] += sum(len(component) > 1 for component in driver.components)
            marks["nops"] += sum(decided.value is NOP for decided in chain.from_iterable(driver.components))
            marks.update(driver.core.coverage)
        return marks

    # -- the passing of time -------------------------------------------------------------------------------

    def _step(self, end: float) -> bool:
        """Go on to the next moment at which something happens; False if that is after `end`."""
        deadlines = (driver.core.deadline for driver in self.drivers)
        moment = max(self.now, min(self.network.next_arrival, self._next_beacon, *deadlines))
        if moment > end:
            return False
        self.now = moment
        due = self.network.take_due(moment)
        for driver in self.drivers:
            events = due.get(driver.row, [])
            if driver.core.deadline <= moment:
                events.append(Tick())
            if events:
                self._rounds += 1
                events = self._proposed(driver, events)
                executed = len(driver.machine.executed)
                self._send(driver.row, driver.take_round(events, moment))
                for name in driver.machine.executed[executed:]:
                    if self._owners[name] == driver.row:
                        self.answered[name] = self._rounds
        if moment >= self._next_beacon:
            self._send_beacons()
        return True

    def _proposed(self, driver: Driver, events: list[Event[Message]]) -> list[Event[Message]]:
        """Note when commands come; without those that come after the end."""
        commands = [event.command for event in events if isinstance(event, Propose)]
        if driver.over is not None:
            self.late += commands
            return [event for event in events if not isinstance(event, Propose)]
        for command in commands:
            if isinstance(command, Access):
                self.submitted[command.name] = self._rounds
        return events

    def _send_beacons(self) -> None:
        self._next_beacon += self.options.beacon
        for driver in self.drivers:
            beacon: Message = driver.core.beacon(self.now)
            peers = driver.core.state.peers
            self._send(driver.row, [Outgoing(peer, beacon, deferrable=False) for peer in peers])

    def _send(self, sender: Row, leaving: list[Outgoing]) -> None:
        for outgoing in leaving:
            self.network.send(self.now, sender, outgoing)


def run(options: Options) -> Cluster:
    """The run that the options describe, from the first proposal until all is executed everywhere."""
    cluster = Cluster(options)
    for when, row, command in draw_commands(options):
        cluster.propose(row, command, when)
    random = Random(options.seed)
    for _ in range(options.hints if options.n > 1 else 0):
        row, peer = random.sample(range(options.n), 2)
        hint = PeerStatus(peer, online=random.random() < 0.5)
        cluster.network.schedule(random.uniform(0, options.spread), row, hint)
    cluster.run_for(options.spread + 0.5)
    cluster.finish()
    return cluster
