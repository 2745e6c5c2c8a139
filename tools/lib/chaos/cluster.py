"""A cluster of real replicas whose links lead through proxies, and what may happen to it.

Every replica has a directory of its own: its configuration, in which the ports of its peers are those of its links
to them, its log, and what its storage engine keeps. Ports are not part of a cluster's fingerprint, so the files
may differ in them. Clients connect directly.

Faults and links speak of *seats*. At the beginning each is taken by the replica that is called like it; where members
change (`chaos.members`) another one may take it, and some seats are empty at first.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, Self, TypeAlias

import toml

from chaos.proxy import HOST, Callers, Link, Porch
from epaxos.client.asynchronous import AsyncClient
from epaxos.client.status import Status
from epaxos.config import Config, load_config
from epaxos.config.durations import format_duration
from epaxos.errors import ClientError, EpaxosError
from shared.processes import Children

NAMES: Final = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india")
SPARE: Final = 2
"""Seats that are empty at first, where members change."""

PORTS: Final = range(20_000, 32_000)
"""Below the range from which Linux picks the ports of connections."""

CHECKPOINT: Final = "200ms"
RETAIN: Final = 32 * 1024
"""With the default load, what comes in less than two seconds."""

OUTAGE: Final = 20
"""Time-outs, and tries of one time-out each, that a client has where all replicas may be down for a while."""

READY_TIMEOUT: Final = 30.0
"""Seconds until all replicas must have met."""

TAIL: Final = 20
"""Lines of a replica's log that are shown when it fails."""

_PAUSE: Final = 'exec 2> /dev/null; kill -STOP "$1" || exit; read -r _; kill -CONT "$1"'
"""Stops a process until the input ends."""

Tick: TypeAlias = Callable[[], Awaitable[None]]
"""Waits a moment; raises if the run is to end."""


class ChaosError(EpaxosError):
    """The run cannot go on: a replica ended by itself, say; the text says why."""


def names_of(seat: str) -> tuple[str, str]:
    """What those who take a seat are called, in turn: two may run at a time, one that comes and one that goes."""
    return seat, f"{seat}-2"


class Replica:
    """One replica's process, which may end and be started again in the same directory; `lives` counts the starts.

    One that `joins` begins as no member. One that `leaves` may end by itself, in order.
    """

    def __init__(
        self, name: str, directory: Path, children: Children, lifeline: int, *, joins: bool = False
    ) -> None:
        self.name = name
        self.joins = joins
        self.leaves = False
        self.directory = directory
        self.file = directory / "epaxos.toml"
        self.log = directory / "log"
        self.lives = 0
        self._children = children
        self._lifeline = lifeline
        self._begun = 0
        self._struck = False
        self._process: subprocess.Popen[bytes] | None = None
        self._pause: tuple[int, subprocess.Popen[bytes]] | None = None

    @property
    def runs(self) -> bool:
        """Whether it was started and not killed or stopped since."""
        return self._process is not None

    @property
    def data(self) -> Path:
        """Where it keeps what it promises."""
        return self.directory / "epaxos-data"

    @property
    def pid(self) -> int | None:
        """Its process; None if it does not run."""
        return None if self._process is None else self._process.pid

    def start(self, program: Path) -> None:
        """Start it; it ends with this program, should that be killed."""
        command: list[str | Path] = [
            program,
            "serve",
            "--config",
            self.file,
            "--name",
            self.name,
            "--supervised",
            *(["--join"] if self.joins else []),
        ]
        self.lives += 1
        with self.log.open("ab") as output:
            self._begun = output.tell()
            self._process = self._children.start(
                command, output=output, lifeline=self._lifeline, cwd=self.file.parent
            )

    @property
    def said(self) -> str:
        """What it has logged since its last start."""
        with self.log.open("rb") as log:
            log.seek(self._begun)
            return log.read().decode(errors="replace")

    def strike(self) -> None:
        """Send SIGKILL, without waiting for its effect; `kill` has to follow."""
        self._running().kill()
        self._struck = True

    def kill(self) -> None:
        """End it with SIGKILL."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None
        self._struck = False
        self._children.forget(process)
        self.go_on()

    def hold(self) -> None:
        """Let it stand still (SIGSTOP).

        A process of its own does that, and lets the replica go on when its input ends: so however this program
        ends, it leaves no replica that stands still, and so cannot notice that it has to end.
        """
        reading, writing = os.pipe()
        command = ["/bin/sh", "-c", _PAUSE, "pause", str(self._running().pid)]
        self._pause = (writing, self._children.start(command, lifeline=reading))
        os.close(reading)

    def go_on(self) -> None:
        """Let it go on after `hold` (SIGCONT); nothing happens if it does not stand still."""
        if self._pause is not None:
            writing, process = self._pause
            self._pause = None
            os.close(writing)
            process.wait()
            self._children.forget(process)

    def check(self) -> None:
        """Look whether it runs, if it should.

        Raises:
            ChaosError: it has ended by itself.
        """
        if self._process is None or self._struck or self._process.poll() is None:
            return
        if not self.leaves or self._process.returncode:
            raise ChaosError(f"{self.name} ended by itself with status {self._process.returncode}{self.tail}")

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self._process is not None:
            self.go_on()
            self._struck = True
            self._process.send_signal(signal.SIGTERM)

    def ended(self) -> bool:
        """Whether it has ended in order.

        Raises:
            ChaosError: it has ended with an error.
        """
        if self._process is None:
            return True
        status = self._process.poll()
        if status:
            raise ChaosError(f"{self.name} ended with status {status}, and should in order{self.tail}")
        if status is None:
            return False
        self._children.forget(self._process)
        self._process = None
        self._struck = False
        return True

    @property
    def tail(self) -> str:
        """The last lines of its log, each on a line of its own."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL:]
        return "; its log ends with:" + "".join(f"\n  {line}" for line in lines)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ChaosError(f"{self.name} does not run")
        return self._process


class Plan(NamedTuple):
    """What a cluster is made of: `n` replicas with a `timeout` (seconds) and a storage engine.

    With `restarts` they are to be killed and to come back: logs are short, so that who was away must catch up by a
    checkpoint, checkpoints come one after the other, so that kills meet them, and clients wait as long as that takes.
    With `members` others may take their places, and join them.
    """

    n: int
    timeout: float
    engine: str
    restarts: bool
    members: bool = False

    @property
    def seats(self) -> Sequence[str]:
        """All, first those that are taken at the beginning."""
        return NAMES[: self.n + SPARE * self.members]

    @property
    def keys(self) -> dict[str, Any]:
        """The keys of the configuration file, but for the replicas."""
        client: dict[str, Any] = {"timeout": format_duration(2 * self.timeout)}
        storage: dict[str, Any] = {"engine": self.engine}
        if self.restarts:
            client = {"timeout": format_duration(OUTAGE * self.timeout), "tries": OUTAGE}
            storage |= {"checkpoint": CHECKPOINT, "retain": RETAIN}
        return {
            "name": "chaos",
            "timeout": format_duration(self.timeout),
            "client": client,
            "storage": storage,
        }


class Cluster:
    """A cluster; a context manager that ends all of it.

    `directory` takes everything that is written. `names` are the seats that were taken at the beginning, `replicas` has
    who sits where, `all` everybody who ever ran. `kills` counts SIGKILLs by what their victim was about, `all_down` how
    often all replicas were killed together, `restarts` the starts after that, `changes` requests for other members by
    what has become of them, `made` the changes by their kind. `returned` is told whose last start of a fault that was.
    """

    def __init__(self, directory: Path, plan: Plan, children: Children, lifeline: int) -> None:
        self.names: Sequence[str] = NAMES[: plan.n]
        self.seats = plan.seats
        self.kills: Counter[str] = Counter()
        self.all_down = 0
        self.restarts = 0
        self.changes: Counter[str] = Counter()
        self.made: Counter[str] = Counter()
        self.returned: Callable[[Sequence[str]], None] = lambda _victims: None
        self.links: dict[tuple[str, str], Link] = {}
        self.replicas: dict[str, Replica] = {}
        self.all: list[Replica] = []
        self.children = children
        self.program = Path()
        self._directory = directory
        self._plan = plan
        self._lifeline = lifeline
        self._config: Config | None = None
        self._addresses: dict[str, dict[str, Any]] = {}
        self._seated: dict[str, str] = {}
        self._porches: dict[str, Porch] = {}
        self._callers = Callers()

    @property
    def file(self) -> Path:
        """The configuration of clients."""
        return self._directory / "clients.toml"

    @property
    def config(self) -> Config:
        """What clients need to know; only there once the cluster is open."""
        assert self._config is not None
        return self._config

    @property
    def homes(self) -> dict[str, Sequence[str]]:
        """Of each seat, what those are called who may ever take it."""
        if not self._plan.members:
            return {seat: [seat] for seat in self.seats}
        return {seat: names_of(seat)[: 1 + (seat in self.names)] for seat in self.seats}

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def _open(self) -> None:
        self._seated = {name: seat for seat, names in self.homes.items() for name in names}
        self._addresses = _addresses(list(self._seated))
        for sender, receiver in product(self.seats, repeat=2):  # one that goes may talk to who takes its seat
            self.links[sender, receiver] = Link(sender, receiver)
        self._config = load_config(str(self._write(self.file, self._addresses.values())))
        for name in self.names:
            self.replicas[name] = await self._make(name, self.names)

    def _write(self, file: Path, addresses: Iterable[Mapping[str, Any]]) -> Path:
        document = self._plan.keys | {"replicas": [dict(address) for address in addresses]}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(toml.dumps(document))
        return file

    async def _make(self, name: str, peers: Iterable[str], *, joins: bool = False) -> Replica:
        """A directory for a replica, with a file that has itself, and its `peers` behind its links to them."""
        own = [self._addresses[name]]
        for peer in peers:
            if peer != name:
                address = self._addresses[peer]
                link = self.links[self._seated[name], self._seated[peer]]
                own.append(address | {"port": await link.open(address["port"])})
        again = sum(replica.name == name for replica in self.all)
        directory = self._directory / (f"{name}.{again + 1}" if again else name)
        self._write(directory / "epaxos.toml", own)
        replica = Replica(name, directory, self.children, self._lifeline, joins=joins)
        self.all.append(replica)
        return replica

    async def start(self, program: Path, tick: Tick) -> None:
        """Start all replicas and wait until they have met; `tick` waits a moment each time.

        Raises:
            ChaosError: one ends, or it takes too long.
        """
        self.program = program
        for replica in self.replicas.values():
            replica.start(program)
        deadline = asyncio.get_running_loop().time() + READY_TIMEOUT
        async with AsyncClient(config=self.config) as client:
            while not await self._have_met(client):
                await tick()
                if asyncio.get_running_loop().time() > deadline:
                    logs = "".join(f"\n{name}{replica.tail}" for name, replica in self.replicas.items())
                    raise ChaosError(f"the replicas have not met after {READY_TIMEOUT:.0f} s{logs}")

    def restart(self, seat: str) -> None:
        """Start a replica that was killed again."""
        self.replicas[seat].start(self.program)
        self.restarts += 1

    async def _have_met(self, client: AsyncClient) -> bool:
        statuses = await self.ask(client, self.names, 0.5)
        return len(statuses) == len(self.names) and all(
            peer.online for status in statuses.values() for peer in status.peers.values()
        )

    async def ask(self, client: AsyncClient, seats: Iterable[str], limit: float) -> dict[str, Status]:
        """The statuses of the replicas that sit there, by seat, as far as they answer in so many seconds."""
        asked = [seat for seat in seats if seat in self.replicas]
        answers = await asyncio.gather(
            *(client.status(replica=self.replicas[seat].name, timeout=limit) for seat in asked),
            return_exceptions=True,
        )
        statuses = {}
        for seat, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Status):
                statuses[seat] = answer
            elif not isinstance(answer, ClientError):
                raise answer
        return statuses

    def together(self, victims: Sequence[str]) -> Sequence[str]:
        """The victims of a fault, and where they are all from the beginning, those who have joined too."""
        return list(self.replicas) if len(victims) == len(self.names) else victims

    def befallen(self, victims: Sequence[str]) -> Sequence[str]:
        """The seats whose clients a fault befalls: also empty ones, where nobody is left who could answer."""
        return self.seats if len(victims) == len(self.names) else victims

    # -- who sits where ------------------------------------------------------------------------------------

    def other_name(self, seat: str) -> str:
        """What the next one in a seat is called, if who sits there goes on running."""
        names, taken = self.homes[seat], self.replicas.get(seat)
        return next((name for name in names if taken is None or name != taken.name), names[0])

    async def bring(self, name: str) -> Replica:
        """Start one that is to join, with an empty directory, and let operators know where it is."""
        members = [replica.name for replica in self.replicas.values() if replica.name != name]
        replica = await self._make(name, members, joins=True)
        address = self._addresses[name]
        if name not in self._porches:
            self._porches[name] = Porch(address["port"], partial(self._link_to, name))
        self.write_operators(address | {"port": await self._porches[name].open()})
        replica.start(self.program)
        return replica

    def write_operators(self, newcomer: Mapping[str, Any] | None = None) -> None:
        """Have the operators' file tell who runs, and of one that is to join.

        There is nothing to be learned of others, for whom a command would only wait.
        """
        new = [] if newcomer is None else [newcomer]
        gone = [address["name"] for address in new]
        self._write(
            self.operators, [*(self._addresses[name] for name in self.alive if name not in gone), *new]
        )

    def new_file(self, kind: str) -> IO[bytes]:
        """A file for what a command prints; it is kept with all others."""
        return tempfile.NamedTemporaryFile(dir=self._directory, prefix=f"{kind}-", delete=False)

    @property
    def operators(self) -> Path:
        """The file of those who change members."""
        return self._directory / "operators.toml"

    async def _link_to(self, name: str, port: int) -> Link | None:
        """The link by which a connection from a port of this machine goes to one that runs.

        For one that has ended nothing is asked: all others look for it many times a second.
        """
        if not any(replica.runs for replica in self.all if replica.name == name):
            return None
        sender = await self._callers.find(port, self._processes)
        return None if sender is None else self.links[self._seated[sender], self._seated[name]]

    def _processes(self) -> dict[str, int]:
        return {replica.name: replica.pid for replica in self.all if replica.pid is not None}

    @property
    def alive(self) -> list[str]:
        """The names of those who sit somewhere and run, also if they stand still or are cut off."""
        return [replica.name for replica in self.replicas.values() if replica.runs]

    def check(self) -> None:
        """Look whether all replicas run that should.

        Raises:
            ChaosError: one has ended by itself.
        """
        for replica in self.all:
            replica.check()

    def between(self, pairs: Iterable[tuple[str, str]]) -> list[Link]:
        """The links from the first to the second of each pair."""
        return [self.links[pair] for pair in pairs]

    async def stop(self, tick: Tick, patience: float = 10.0) -> None:
        """Stop all replicas as an operator would.

        Raises:
            ChaosError: one ends with an error, or not within `patience` seconds.
        """
        for replica in self.all:
            replica.ask_to_stop()
        deadline = asyncio.get_running_loop().time() + patience
        while late := [replica.name for replica in self.all if not replica.ended()]:
            if asyncio.get_running_loop().time() > deadline:
                raise ChaosError(f"{', '.join(late)} did not stop within {patience:.0f} s when asked to")
            await tick()

    async def close(self) -> None:
        """End whatever still runs, and the links."""
        for replica in self.all:
            replica.go_on()
            with suppress(ChaosError):
                replica.kill()
        for porch in self._porches.values():
            porch.close()
        for link in self.links.values():
            await link.close()


def _addresses(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The tables of the configuration file, by name."""
    ports = iter(free_ports(3 * len(names)))
    keys = ("port", "client_port", "metrics_port")
    return {
        name: {"pid": pid, "name": name, "host": HOST} | {key: next(ports) for key in keys}
        for pid, name in enumerate(names)
    }


def free_ports(count: int) -> list[int]:
    """Ports of this machine on which nothing listens; by chance, so that two runs hardly ever meet.

    Raises:
        ChaosError: there are too few.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if len(found) == count:
            break
        with suppress(OSError), socket.create_server((HOST, port)):
            found.append(port)
    if len(found) < count:
        raise ChaosError(f"fewer than {count} ports from {PORTS.start} to {PORTS.stop - 1} are free")
    return found
