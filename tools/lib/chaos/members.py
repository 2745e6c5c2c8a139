"""Other members, and lost disks: by the commands that an operator has, `epaxos serve --join` and `epaxos member`.

One that comes takes its seat once it is a member, and the fault is over once it has executed what the others had then,
and once who had to go has ended by itself. So a cluster never has more faulty replicas than it was meant to have: what
joins counts as one of the next epoch's that is down until it has the state.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from secrets import randbits
from typing import Any, ClassVar, Final

from chaos.cluster import NAMES, SPARE, ChaosError, Cluster, Replica
from chaos.restarts import LONG, Lengthy, are_back, strike
from epaxos.client.asynchronous import AsyncClient
from epaxos.errors import ClientError
from epaxos.protocol.membership import PROTOCOLS

REPLACE: Final = "replace"
REPLACE_DEAD: Final = "replace a dead one"
TURN: Final = "add or remove"
CHANGES: Final = (REPLACE, REPLACE_DEAD, TURN)

JOINING: Final = "joining"
"""What those are about that are killed while they are let in."""

_CHANGE: Final = 3.0
"""Seconds until a refresh is given up, and its outcome counted as unknown."""

_COMMAND: Final = "10s"
"""How long a command of an operator waits; then it is given again, as after a lost answer."""

_PATIENCE: Final = 60.0
"""Seconds in which a change must have come about, and in which who was removed must have ended."""

_NO_MEMBER: Final = "no member is called {}"
_LOOK: Final = 0.02
_AGAIN: Final = 0.05

_OTHER: Final = 0.3
"""How likely an epoch with the same members is of another protocol than the one before."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """Another epoch with the same members, asked of one replica or of several at once; nobody counts as faulty.

    It may be of the `other` protocol than the one before.
    """

    kind: ClassVar[str] = "member"
    lasting: ClassVar[bool] = False

    asked: tuple[str, ...]
    other: bool = False
    victims: ClassVar[tuple[str, ...]] = ()
    tasks: list[asyncio.Task[None]] = field(default_factory=list, compare=False, repr=False)

    def __str__(self) -> str:
        by = " by the other protocol" if self.other else ""
        return f"another epoch{by}, asked of {' and '.join(self.asked)}"

    @property
    def label(self) -> str:
        """What it is."""
        return "member: protocol" if self.other else "member: refresh"

    async def begin(self, cluster: Cluster) -> None:
        """Ask, each from the epoch in which it is, and let what follows go on by itself."""
        self.tasks.append(asyncio.create_task(self._ask(cluster)))

    async def end(self, cluster: Cluster) -> None:
        """Wait for the answers, if any are still under way."""
        del cluster
        await asyncio.gather(*self.tasks)

    async def _ask(self, cluster: Cluster) -> None:
        async with AsyncClient(config=cluster.config) as client:
            asked = [_ask_for_epoch(client, cluster.replicas[seat].name, self.other) for seat in self.asked]
            outcomes = await asyncio.gather(*asked)
        cluster.changes.update(outcomes)
        cluster.made["protocol changed" if self.other else "refreshed"] += outcomes.count("done")


async def _ask_for_epoch(client: AsyncClient, name: str, other: bool) -> str:  # noqa: FBT001 - of `Refresh`
    """Ask a replica for the epoch after its own; what has become of that, by what it says or when its epoch ends."""
    request = randbits(64) or 1
    deadline = asyncio.get_running_loop().time() + _CHANGE
    try:
        told = await client.status(replica=name, timeout=_CHANGE)
        base = told.epoch
        protocol = next(it for it in PROTOCOLS if it != told.protocol) if other else None
        while asyncio.get_running_loop().time() < deadline:
            change = await client.refresh(
                base, protocol=protocol, request=request, replica=name, timeout=_CHANGE
            )
            if change.outcome != "proposed":
                return change.outcome
            await asyncio.sleep(_AGAIN)
    except ClientError:
        pass  # it is faulty
    return "unknown"


@dataclass(frozen=True, slots=True)
class Change(Lengthy):
    """One comes or goes, or comes in the place of another, which is dead or alive.

    seat    where; an empty one is taken and a spare one is left, by `TURN`
    how     one of `CHANGES`, or the kind
    away    seconds for which one that dies is dead before somebody does something about it
    kills   seconds, about, after which who joins is killed and started again: before it is let in, and after
    rival   whether another operator asks for an epoch at the same time
    back    whether who was removed dead is started once more
    """

    kind: ClassVar[str] = "member"

    seat: str
    how: str
    away: float = 0.0
    kills: tuple[float | None, float | None] = (None, None)
    rival: bool = False
    back: bool = False

    @property
    def victims(self) -> Sequence[str]:
        """The seat."""
        return (self.seat,)

    @property
    def label(self) -> str:
        """Told apart by what is done."""
        return f"{self.kind}: {self.how}"

    @property
    def seconds(self) -> float:
        """About how long it takes."""
        return self.away + sum(filter(None, self.kills))

    def __str__(self) -> str:
        again = f", killed {sum(kill is not None for kill in self.kills)} times" if any(self.kills) else ""
        return f"{self.label}: {self.seat}{again}{', with a rival' if self.rival else ''}"

    async def begin(self, cluster: Cluster) -> None:
        """Let one die, if so it was drawn, and what follows go on by itself."""
        if self.how not in (REPLACE, TURN):
            strike(cluster, self.seat)
            cluster.replicas[self.seat].kill()
        self.tasks.append(asyncio.create_task(self._go(cluster)))

    async def _go(self, cluster: Cluster) -> None:
        await asyncio.sleep(self.away)
        if self.how == TURN:
            await (self._leave(cluster) if self.seat in cluster.replicas else self._come(cluster))
        else:
            await self._replace(cluster, cluster.other_name(self.seat), "replaced")

    async def _come(self, cluster: Cluster) -> None:
        name = cluster.homes[self.seat][0]
        newcomer = await self._bring(cluster, name)
        await self._change(cluster, newcomer, "add", name)
        await self._take_seat(cluster, newcomer, "added")

    async def _leave(self, cluster: Cluster) -> None:
        leaver = cluster.replicas[self.seat]
        leaver.leaves = True
        cluster.write_operators()
        await self._change(cluster, None, "remove", leaver.name)
        del cluster.replicas[self.seat]
        cluster.made["removed"] += 1
        await _has_ended(leaver)

    async def _replace(self, cluster: Cluster, name: str, what: str) -> None:
        leaver = cluster.replicas[self.seat]
        leaver.leaves = True
        newcomer = await self._bring(cluster, name)
        await self._change(cluster, newcomer, "replace", leaver.name, name)
        await self._take_seat(cluster, newcomer, what)
        if self.back and not leaver.runs:
            leaver.start(cluster.program)
        await _has_ended(leaver)

    async def _bring(self, cluster: Cluster, name: str) -> Replica:
        """Start one that is to join; it may be killed, and come back as the same."""
        newcomer = await cluster.bring(name)
        await _waits(cluster, newcomer)
        if self.kills[0] is not None:
            await asyncio.sleep(self.kills[0])
            _kill_and_start(cluster, newcomer)
            await _waits(cluster, newcomer)
        return newcomer

    async def _take_seat(self, cluster: Cluster, newcomer: Replica, what: str) -> None:
        cluster.replicas[self.seat] = newcomer
        cluster.made[what] += 1
        if self.kills[1] is not None:
            await asyncio.sleep(self.kills[1])
            _kill_and_start(cluster, newcomer)
        await are_back(cluster, (self.seat,))

    async def _change(self, cluster: Cluster, newcomer: Replica | None, *words: str) -> None:
        """Give a command until it has been done, as an operator does who is told that another one was first.

        Raises:
            ChaosError: it is not done after some time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE
        if self.rival:
            self.tasks.append(asyncio.create_task(self._compete(cluster)))
        while True:
            told = await run_member(cluster, *words)
            cluster.changes[told["outcome"]] += 1
            # Or a command before it was, whose answer came too late.
            if told["outcome"] == "done" or (
                await _joins_no_more(cluster, newcomer)
                if newcomer is not None
                else told["outcome"] == "current" or _NO_MEMBER.format(words[-1]) in told["text"]
            ):
                return
            if loop.time() > deadline:
                raise ChaosError(
                    f"member {' '.join(words)}: not done after {_PATIENCE:.0f} s: {told['text']}"
                )
            await asyncio.sleep(_AGAIN)

    async def _compete(self, cluster: Cluster) -> None:
        outcome = (await run_member(cluster, "refresh"))["outcome"]
        cluster.changes[outcome] += 1
        cluster.made["refreshed"] += outcome == "done"


@dataclass(frozen=True, slots=True)
class LostDisk(Change):
    """SIGKILL, and all that it kept is gone; another one of its name takes its place."""

    kind: ClassVar[str] = "disk-loss"

    @property
    def label(self) -> str:
        """That it is one."""
        return self.kind

    async def _go(self, cluster: Cluster) -> None:
        await asyncio.sleep(self.away)
        lost = cluster.replicas[self.seat]
        shutil.rmtree(lost.data)
        await self._replace(cluster, lost.name, "disks replaced")


def _kill_and_start(cluster: Cluster, newcomer: Replica) -> None:
    newcomer.kill()
    cluster.kills[JOINING] += 1
    newcomer.start(cluster.program)
    cluster.restarts += 1


async def _waits(cluster: Cluster, newcomer: Replica) -> None:
    """Wait until one that is to join answers.

    Raises:
        ChaosError: it does not.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE
    while await _joins_no_more(cluster, newcomer, unless=True):
        if loop.time() > deadline:
            raise ChaosError(f"{newcomer.name} does not wait to join after {_PATIENCE:.0f} s{newcomer.tail}")
        await asyncio.sleep(_AGAIN)


async def _joins_no_more(cluster: Cluster, newcomer: Replica, *, unless: bool = False) -> bool:
    """Whether one that was to join has a vote; `unless` it does not answer."""
    async with AsyncClient(config=cluster.config) as client:
        try:
            return (await client.status(replica=newcomer.name, timeout=1.0)).row is not None
        except ClientError:
            return unless  # it starts


async def _has_ended(leaver: Replica) -> None:
    """Wait until one that was removed has ended by itself.

    Raises:
        ChaosError: it does not, or not in order.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE
    while not leaver.ended():
        if loop.time() > deadline:
            raise ChaosError(f"{leaver.name} was removed and still runs after {_PATIENCE:.0f} s{leaver.tail}")
        await asyncio.sleep(_LOOK)


async def run_member(cluster: Cluster, *words: str) -> dict[str, Any]:
    """Run `epaxos member`; what it tells, or the outcome `unknown` where there is no answer."""
    command: list[str | Path] = [
        cluster.program,
        "member",
        *words,
        "--json",
        "--timeout",
        _COMMAND,
        "-c",
        cluster.operators,
    ]
    with cluster.new_file("member") as output:
        process = cluster.children.start(command, output=output)
        await _end_of(process)
        cluster.children.forget(process)
        output.seek(0)
        text = output.read().decode(errors="replace")
    try:
        told: dict[str, Any] = json.loads(text)
    except ValueError:
        return {"outcome": "unknown", "text": text.strip()}
    return told


async def _end_of(process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:  # noqa: ASYNC110 - a process
        await asyncio.sleep(_LOOK)


def draw_member(chance: Random, healthy: Sequence[str], names: Sequence[str], room: int) -> Refresh | Change:
    """Another epoch with the same members, or others where that makes nobody faulty beyond `room`."""
    at_once = chance.choice((1, 1, 2, len(names)))
    refresh = Refresh(tuple(sorted(chance.sample(list(names), at_once))))
    how = chance.choice(CHANGES)
    if room < 1 or chance.random() < 0.25:
        return replace(refresh, other=chance.random() < _OTHER)
    if how == TURN:
        return Change(chance.choice(NAMES[len(names) : len(names) + SPARE]), how, rival=chance.random() < 0.3)
    back = how == REPLACE_DEAD and chance.random() < 0.5
    return Change(
        chance.choice(healthy), how, _away(chance, how), _kills(chance), chance.random() < 0.3, back
    )


def draw_lost_disk(chance: Random, healthy: Sequence[str], _names: Sequence[str], _room: int) -> LostDisk:
    """Kill a replica, take away what it kept, and have another one take its place."""
    return LostDisk(
        chance.choice(healthy), "lost", _away(chance, "lost"), _kills(chance), chance.random() < 0.3
    )


def _away(chance: Random, how: str) -> float:
    return 0.0 if how == REPLACE else chance.choice((0.0, 0.5, 1.5, chance.uniform(LONG, 2 * LONG)))


def _kills(chance: Random) -> tuple[float | None, float | None]:
    before, after = (chance.uniform(0.0, 0.3) if chance.random() < 0.25 else None for _ in range(2))
    return before, after
