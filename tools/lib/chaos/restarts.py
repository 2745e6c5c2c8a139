"""Replicas that are killed and come back from what they kept: one, or all of them at the same moment.

What happens to the victims was drawn beforehand: how long they are away each time, and whether they are killed again,
at which moment of their coming back. The fault is over once they have executed all that the others had when they came
back, so a cluster never has more faulty replicas than it was meant to have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import ge
from random import Random
from typing import ClassVar, Final, NamedTuple

from chaos.cluster import READY_TIMEOUT, ChaosError, Cluster, Replica
from epaxos.client.asynchronous import AsyncClient
from epaxos.client.status import Status

STARTING: Final = "starting or resuming"
CATCHING_UP: Final = "catching up"
RUNNING: Final = "running"

LISTENS: Final = "listening for peers on"
CATCHES_UP: Final = "catching up from"
CAUGHT_UP: Final = ("caught up in", "did not send its checkpoint")

MOMENTS: Final = ("", "", "", LISTENS, CATCHES_UP, ": merging", ": following", "is online")
"""What a replica's log says when it is killed again; with nothing, it is a matter of time."""

LONG: Final = 3.0
"""Seconds away after which its peers have dropped what it missed, with little to `retain`."""

_PATIENCE: Final = 2.0
"""Seconds after its start in which the log must say what was drawn; then the replica is killed as it is."""

_LOOK: Final = 0.003
_ASK: Final = 0.1


class Life(NamedTuple):
    """Started `pause` seconds after its death and killed again, unless it is the last one.

    The kill comes `wait` seconds after the start, or after the log has said `moment`.
    """

    pause: float
    moment: str = ""
    wait: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengthy:
    """A fault that goes on by itself, in `tasks`, and is over when they are."""

    lasting: ClassVar[bool] = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list, compare=False, repr=False)

    @property
    def seconds(self) -> float:
        """About how long it takes until the last start."""
        return 0.0

    def is_over(self) -> bool:
        """Whether it is.

        Raises:
            ChaosError: it does not come to its end.
        """
        done = all(task.done() for task in self.tasks)
        if done:
            for task in self.tasks:
                task.result()
        return done

    async def end(self, cluster: Cluster) -> None:
        """Nothing is left to be undone."""

    def cancel(self) -> None:
        """Leave it at that."""
        for task in self.tasks:
            task.cancel()


@dataclass(frozen=True, slots=True)
class Restart(Lengthy):
    """SIGKILL of the `victims`, `apart` seconds from one to the next, and their return, in `lives`.

    In the last `hush` seconds before the first kill some peers, the `deaf`, do not hear the victim.
    """

    victims: tuple[str, ...]
    lives: tuple[Life, ...]
    apart: float = 0.0
    deaf: tuple[str, ...] = ()
    hush: float = 0.0
    kind: ClassVar[str] = "restart"

    @property
    def label(self) -> str:
        """Told apart by what makes it hard."""
        parts = [self._name]
        if any(life.pause >= LONG for life in self.lives):
            parts.append("long away")
        if len(self.lives) > 1:
            parts.append("killed again")
        return ", ".join(parts)

    @property
    def _name(self) -> str:
        return self.kind if len(self.victims) == 1 else "restart-all"

    @property
    def seconds(self) -> float:
        """About how long it takes until the last start."""
        return sum(life.pause + life.wait + bool(life.moment) for life in self.lives)

    def __str__(self) -> str:
        times = ", ".join(f"{life.pause:.1f} s" for life in self.lives)
        return f"{self._name} {' and '.join(self.victims)}, away for {times}"

    async def begin(self, cluster: Cluster) -> None:
        """Kill, and let what follows go on by itself."""
        links = cluster.between((victim, peer) for victim in self.victims for peer in self.deaf)
        for link in links:
            link.stop()
        await asyncio.sleep(self.hush)
        for link in links:
            link.sever()
        await self._kill(cluster)
        self.tasks.append(asyncio.create_task(self._return(cluster)))

    async def _return(self, cluster: Cluster) -> None:
        """All lives, one after the other."""
        for number, life in enumerate(self.lives, 1):
            await asyncio.sleep(life.pause)
            if number == 1:
                for link in cluster.between((victim, peer) for victim in self.victims for peer in self.deaf):
                    link.flow()
                    link.splice()
            for name in cluster.together(self.victims):
                cluster.restart(name)
            if number < len(self.lives):
                await self._moment(cluster.replicas[self.victims[0]], life)
                await self._kill(cluster)
        cluster.returned(self.victims)
        await are_back(cluster, cluster.together(self.victims))

    async def _kill(self, cluster: Cluster) -> None:
        victims = cluster.together(self.victims)
        for name in victims:
            strike(cluster, name)
            if self.apart:
                await asyncio.sleep(self.apart)
        for name in victims:
            cluster.replicas[name].kill()
        if len(self.victims) == len(cluster.names):
            cluster.all_down += 1

    @staticmethod
    async def _moment(replica: Replica, life: Life) -> None:
        """Wait for the moment at which a life is to end."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE
        while life.moment and life.moment not in replica.said and loop.time() < deadline:  # noqa: ASYNC110 - a log
            await asyncio.sleep(_LOOK)
        await asyncio.sleep(life.wait)


@dataclass(frozen=True, slots=True)
class Drain(Restart):
    """SIGTERM, an end in order, and the return: as in an upgrade."""

    kind: ClassVar[str] = "drain"

    async def _kill(self, cluster: Cluster) -> None:
        """Wait for the end, which must come by itself and be no failure."""
        replicas = [cluster.replicas[name] for name in self.victims]
        for replica in replicas:
            replica.ask_to_stop()
        while not all([replica.ended() for replica in replicas]):  # noqa: ASYNC110, C419 - a process; of each
            await asyncio.sleep(_LOOK)


def strike(cluster: Cluster, name: str) -> None:
    """Send SIGKILL to a replica, and count it; `Replica.kill` has to follow."""
    replica = cluster.replicas[name]
    cluster.kills[what_it_does(replica.said)] += 1
    replica.strike()


def what_it_does(said: str) -> str:
    """What a replica is about, by what it has logged since its start."""
    if LISTENS not in said:
        return STARTING
    if said.rfind(CATCHES_UP) > max(map(said.rfind, CAUGHT_UP)):
        return CATCHING_UP
    return RUNNING


async def are_back(cluster: Cluster, victims: Sequence[str], patience: float = READY_TIMEOUT) -> None:
    """Wait until the victims have executed all that any replica had when they answered first.

    Raises:
        ChaosError: that takes longer than `patience` seconds.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    goal: list[int] = []
    epoch = -1
    async with AsyncClient(config=cluster.config) as client:
        while True:
            statuses = await cluster.ask(client, cluster.seats, 1.0)
            missing = [seat for seat in victims if seat not in statuses]
            if not missing:
                latest = max(status.epoch for status in statuses.values())
                if latest > epoch:  # vectors of different epochs have nothing to do with one another
                    vectors = [status.executed for status in statuses.values() if status.epoch == latest]
                    epoch, goal = latest, list(map(max, zip(*vectors, strict=True)))
                missing = [seat for seat in victims if not is_back(statuses[seat], goal, statuses.values())]
            if not missing:
                return
            if loop.time() > deadline:
                logs = "".join(f"\n{seat}{cluster.replicas[seat].tail}" for seat in missing)
                raise ChaosError(f"{', '.join(missing)} not back {patience:.0f} s after the start{logs}")
            await asyncio.sleep(_ASK)


def is_back(status: Status, goal: Sequence[int], statuses: Iterable[Status]) -> bool:
    """Whether a replica is in the latest epoch, has executed the `goal` of that, and hears, and is heard by, n - f.

    `statuses` are those of all that answered, its own too.
    """
    members = [it for it in statuses if it.row is not None and it.id != status.id]
    heard = sum(peer.online for name, peer in status.peers.items() if name in status.members)
    hearing = sum(status.id in it.peers and it.peers[status.id].online for it in members)
    return (
        status.row is not None
        and all(status.epoch >= it.epoch for it in members)
        and status.catch_up is None
        and min(heard, hearing) >= len(status.members) - 1 - status.f
        and all(map(ge, status.executed, goal))
    )


def draw_restart(chance: Random, healthy: Sequence[str], names: Sequence[str], _room: int) -> Restart:
    """Kill a replica, at any moment or in the middle of a sentence, and bring it back once or several times."""
    victim = chance.choice(healthy)
    lives = _lives(chance, long=0.25, again=0.5)
    if chance.random() < 0.7:
        return Restart((victim,), lives)
    peers = [name for name in names if name != victim]
    deaf = chance.sample(peers, chance.randint(1, len(peers) - 1))
    return Restart((victim,), lives, deaf=tuple(sorted(deaf)), hush=chance.uniform(0.003, 0.015))


def draw_drain(chance: Random, healthy: Sequence[str], _names: Sequence[str], _room: int) -> Drain:
    """Stop a replica in order, and bring it back."""
    return Drain((chance.choice(healthy),), (_lives(chance, long=0.25, again=0.0)[-1],))


def draw_restart_all(chance: Random, _healthy: Sequence[str], names: Sequence[str], _room: int) -> Restart:
    """Kill all replicas, in the same moment or within milliseconds, and bring them back."""
    victims = tuple(chance.sample(list(names), len(names)))
    apart = chance.choice((0.0, 0.0, 0.001, 0.005))
    return Restart(victims, _lives(chance, long=0.1, again=0.4), apart)


def _lives(chance: Random, *, long: float, again: float) -> tuple[Life, ...]:
    """Up to four lives; the shares of those before which a replica is `long` away, and that are not the last."""
    lives = [_life(chance, long)]
    while len(lives) < 4 and chance.random() < again:
        lives.append(_life(chance, long / 2))
    return (*lives[:-1], Life(lives[-1].pause))


def _life(chance: Random, long: float) -> Life:
    away = chance.uniform(LONG, 2 * LONG) if chance.random() < long else chance.choice((0.0, 0.05, 0.5, 1.5))
    moment = chance.choice(MOMENTS)
    return Life(away, moment, chance.uniform(0.0, 0.03 if moment else chance.choice((0.3, 0.6, 1.2))))
