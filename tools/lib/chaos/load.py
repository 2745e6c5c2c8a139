"""The load: clients whose history is recorded, and many commands beside them, so that much is under way at any time.

All are asyncio clients of the library, each with a home replica that it prefers; when that does not answer, or is no
member, the library goes on at another one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from itertools import count, cycle
from random import Random
from typing import Any, Final, NamedTuple, Self

from chaos.check import Checker
from chaos.cluster import Cluster
from chaos.ending import HEAD, LONGEST, Endings, Giver, Holders, hold
from chaos.gaps import LIMIT, Gaps
from chaos.history import Epoch
from chaos.ledger import Audit, Ledger
from chaos.timeline import Timeline
from chaos.workload import SETS, Asker, Keys, ask, result_of
from epaxos.client.asynchronous import AsyncClient
from epaxos.client.commands import Op
from epaxos.client.results import MultiAborted, Result
from epaxos.errors import ClientError, OperationFailed
from epaxos.simulation.checkers.search import Finding, Linearizability
from epaxos.statemachine.operations import Outcome

EPOCH: Final = 5.0
"""Seconds after which an epoch ends."""

BACKLOG: Final = 6
"""Epochs that wait for their search; then the clients wait too, so that memory stays bounded."""

BULK: Final = 25
"""Commands in one call of the load that is not recorded."""

AUDIT: Final = 500
"""Keys that are read at a time when all is over."""

SURGE: Final = 0.02
"""Seconds over which the commands of a surge are spread, each a frame, so most of them an instance, of its own."""

SURGE_COMMANDS: Final = 8
"""Commands of each recorded client in a surge at one replica, fewer at several: the search must find its way among all
that are open at a time."""

_POLL: Final = 0.02


@dataclass(slots=True)
class Tally:
    """What came of the load.

    `errors` counts those that clients of healthy replicas saw, `excused` the others, `retries` how often the library
    sent a command again, by reason. `longest_stall` is how long this program itself stood still, in seconds.
    """

    recorded: int = 0
    others: int = 0
    epochs: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    longest_stall: float = 0.0

    @property
    def answered(self) -> int:
        """Commands that were answered."""
        return self.recorded + self.others


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """`clients` at each replica with `rate` commands a second each; `bulk` further commands a second in all."""

    clients: int
    rate: float
    bulk: float


class _Recorded(NamedTuple):
    """A client whose history is recorded: its number and home, a seat, its chance, and what it asks."""

    client: AsyncClient
    number: int
    home: str
    chance: Random
    asker: Asker


class Load:
    """Loads a cluster until `finish`; a context manager that ends its tasks.

    The clients of a seat prefer one or the other of those who may take it.
    `on_wrong` is given the epochs whose history is not linearizable, or was too hard to search, `on_searched` all.
    """

    def __init__(
        self,
        cluster: Cluster,
        options: LoadOptions,
        chance: Random,
        checker: Checker,
        gaps: Gaps,
        timeline: Timeline,
        on_wrong: Callable[[Epoch, Finding], None],
        on_searched: Callable[[Epoch], Awaitable[None]],
    ) -> None:
        self.tally = Tally()
        self.gaps = gaps
        self._timeline = timeline
        self._ledger = Ledger()
        self._config = cluster.config
        self._late = cluster.config.timeout * (LIMIT + len(cluster.names) - 1)
        self.endings = Endings(self._late)
        self.holders = Holders()
        self._options = options
        self._chance = chance
        self._checker = checker
        self._on_wrong = on_wrong
        self._on_searched = on_searched
        self._homes = cluster.homes
        self._numbers = count(1)
        self._epochs = count(1)
        self._epoch = Epoch(next(self._epochs))
        self._ended: asyncio.Queue[Epoch] = asyncio.Queue()
        self._over = asyncio.Event()
        self._stack = AsyncExitStack()
        self._clients: list[AsyncClient] = []
        self._recorded: list[_Recorded] = []
        self._auditors: list[_Recorded] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._background: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        tasks = [*self._tasks, *self._background]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._stack.aclose()

    async def start(self) -> None:
        """Begin."""
        for home, names in self._homes.items():
            for _, name in zip(range(self._options.clients), cycle(names), strict=False):
                self._recorded.append(await self._recorded_client(home, name))
                self._start(self._ask_on(self._recorded[-1]))
            for name in names if self._options.bulk else ():
                self._start(self._ask_in_bulk(await self._client(name), self._enter(home), home))
            self._auditors.append(await self._recorded_client(home, names[0]))
            self._start(self._give(await self._client(names[0]), self._enter(home), home))
            self._start(self._hold(home, names))
        self._background.append(asyncio.create_task(self._turn()))
        self._background.append(asyncio.create_task(self._search()))
        self._background.append(asyncio.create_task(self._watch_itself()))

    def surge(self, homes: Sequence[str]) -> None:
        """Ask much at the replicas `homes` in the next `SURGE` seconds, so that much is under way there."""
        commands = SURGE_COMMANDS // max(1, len(homes))
        for recorded in self._recorded:
            if recorded.home in homes:
                for _ in range(commands):
                    delay = recorded.chance.uniform(0, SURGE)
                    self._start(self._ask_once(recorded, delay))

    async def end(self, home: str) -> None:
        """See, at the replica `home`, that all values end that do; after `finish`, and what had no answer has settled.

        Raises:
            ClientError: it cannot be told.
        """
        until = self._now() + LONGEST * self._config.timeout + self._late
        async with AsyncClient(config=self._config, replica=home) as client:
            while (  # noqa: ASYNC110 - what is waited for happens in other processes
                number := await client.count(HEAD)
            ) and self._now() < until:
                await asyncio.sleep(_POLL)
        self.endings.left(number)

    async def finish(self) -> None:
        """Ask nothing any more, wait for all answers, and have all histories searched."""
        self._over.set()
        await asyncio.gather(*self._tasks)
        self._ended.put_nowait(self._epoch)
        await self._ended.join()
        self.gaps.end(self._now())
        for client in self._clients:
            self.tally.retries.update(client.retries)

    async def audit(self, home: str) -> Audit:
        """Read, at the replica `home`, what the load that is not recorded has come to, and compare.

        Raises:
            ClientError: it cannot be read.
        """
        return self._ledger.audit(await self.read(home))

    async def read(self, home: str) -> dict[bytes, bytes | None]:
        """The values of all keys of the load that is not recorded, read at a replica.

        Raises:
            ClientError: they cannot be.
        """
        keys = self._ledger.keys
        values: dict[bytes, bytes | None] = {}
        async with AsyncClient(config=self._config, replica=home) as client:
            for start in range(0, len(keys), AUDIT):
                part = keys[start : start + AUDIT]
                results = await client.bulk([Op.get(key) for key in part])
                values.update(zip(part, map(_value, results), strict=True))
        return values

    def check(self) -> None:
        """Raise what made one of the tasks end."""
        for task in (*self._tasks, *self._background):
            if task.done() and (error := task.exception()) is not None:
                raise error
        self._tasks = [task for task in self._tasks if not task.done()]

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _recorded_client(self, home: str, name: str) -> _Recorded:
        number = self._enter(home)
        chance = self._draw()
        return _Recorded(await self._client(name), number, home, chance, Asker(chance, number))

    def _draw(self) -> Random:
        return Random(self._chance.getrandbits(64))  # noqa: S311 - a test that must be repeatable

    async def _client(self, name: str) -> AsyncClient:
        client = await self._stack.enter_async_context(AsyncClient(config=self._config, replica=name))
        self._clients.append(client)
        return client

    def _enter(self, home: str) -> int:
        number = next(self._numbers)
        self.gaps.enter(number, home)
        return number

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    # -- recorded clients ----------------------------------------------------------------------------------

    async def _ask_on(self, recorded: _Recorded) -> None:
        """One client: a command, its answer, a pause."""
        while await self._rest(recorded.chance.expovariate(self._options.rate)):
            if self._ended.qsize() < BACKLOG:
                await self._ask_something(recorded)

    async def _ask_once(self, recorded: _Recorded, delay: float) -> None:
        """One command beside those that the client asks anyway."""
        await asyncio.sleep(delay)
        await self._ask_something(recorded)

    async def _ask_something(self, recorded: _Recorded) -> None:
        op = recorded.asker.draw(self._epoch.number)
        recorded.asker.learn(op, await self._ask(recorded, op, self._epoch))

    async def _rest(self, seconds: float) -> bool:
        """Wait; returns whether to go on."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)
        return not self._over.is_set()

    async def _ask(self, recorded: _Recorded, op: Op, epoch: Epoch) -> object:
        """Have one command run and record it; returns the reply, None where it failed."""
        client, number, home, *_ = recorded
        asked, before = self._now(), Counter(client.retries)
        call = epoch.asked(number, op, asked)
        self.gaps.asked(number, asked)
        try:
            reply = await ask(client, op)
        except MultiAborted:
            epoch.without_effect(call)
        except OperationFailed:
            epoch.answered(call, (Outcome.NOT_A_NUMBER, None), self._now())
        except ClientError as error:
            (epoch.unanswered if error.may_have_executed else epoch.without_effect)(call)
            self._failed(number, home, error)
            return None
        else:
            epoch.answered(call, result_of(op, reply), self._now())
            self._answered(number, home, asked, Counter(client.retries) - before)
            return reply
        self._answered(number, home, asked, Counter(client.retries) - before)
        return None

    def _answered(self, number: int, home: str, asked: float, again: Mapping[str, int]) -> None:
        self._note_answer(number, home, asked, again=again)
        self.tally.recorded += 1

    def _note_answer(
        self, number: int, home: str, asked: float, commands: int = 1, again: Mapping[str, int] | None = None
    ) -> None:
        self.gaps.answered(number, self._now(), again)
        self._timeline.answered(home, asked, self._now(), commands)

    def _failed(self, number: int, home: str, error: ClientError) -> None:
        self.gaps.failed(number)
        errors = self.tally.errors if self.gaps.is_healthy(home) else self.tally.excused
        errors[type(error).__name__] += 1

    # -- epochs --------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        """Begin a new epoch every now and then."""
        begun = self._now()
        while await self._rest(_POLL):
            is_due = self._epoch.is_long or self._now() >= begun + EPOCH
            if is_due and self._ended.qsize() < BACKLOG:
                self._ended.put_nowait(self._epoch)
                self._epoch = Epoch(next(self._epochs))
                begun = self._now()

    async def _search(self) -> None:
        """Read all keys of the epochs that have ended, and have their histories searched."""
        while True:
            epoch = await self._ended.get()
            await epoch.quiet.wait()
            await asyncio.gather(*(self._read_all(auditor, epoch) for auditor in self._auditors))
            finding = await self._checker.check(epoch.calls)
            self.tally.epochs += 1
            if finding.verdict is not Linearizability.LINEARIZABLE:
                self.tally.findings.append(finding)
                self._on_wrong(epoch, finding)
            await self._on_searched(epoch)
            self._ended.task_done()

    async def _read_all(self, auditor: _Recorded, epoch: Epoch) -> None:
        """Read every key of an epoch, so that whatever was lost is missed."""
        keys = [key for place in range(SETS) for key in Keys.of(epoch.number, place).all]
        await asyncio.gather(*(self._ask(auditor, Op.get(key), epoch) for key in keys))

    # -- values that end, and locks ------------------------------------------------------------------------

    async def _give(self, client: AsyncClient, number: int, home: str) -> None:
        """Give values that end, and see whether they do."""
        chance = self._draw()
        giver = Giver(client, number, chance, self.endings, self._config.timeout, self.gaps.healthy)
        while await self._rest(chance.expovariate(self._options.rate)):
            asked, before = self._now(), Counter(client.retries)
            self.gaps.asked(number, asked)
            try:
                await giver.step()
            except ClientError as error:
                self._failed(number, home, error)
            else:
                self._note_answer(number, home, asked, again=Counter(client.retries) - before)
                self.tally.others += 1

    async def _hold(self, home: str, names: Sequence[str]) -> None:
        """Take locks, give them back, or die with them; who dies leaves its place to another one."""
        chance = self._draw()
        for name in cycle(names):
            number = self._enter(home)
            async with AsyncClient(config=self._config, replica=name) as client:
                while await self._rest(chance.expovariate(self._options.rate)):
                    if not await hold(client, number, self.holders, self._config.timeout, chance, self._over):
                        break
            if self._over.is_set():
                return

    # -- the rest ------------------------------------------------------------------------------------------

    async def _ask_in_bulk(self, client: AsyncClient, number: int, home: str) -> None:
        """Many writes in one call at intervals, some of them on keys that all write."""
        interval = BULK * sum(map(len, self._homes.values())) / self._options.bulk
        while await self._rest(interval):
            ops = self._ledger.batch(number, BULK)
            asked, before = self._now(), Counter(client.retries)
            self.gaps.asked(number, asked)
            results = await client.bulk(ops)
            for op, result in zip(ops, results, strict=True):
                self._ledger.note(op, result)
            errors = [result.error for result in results if result.error is not None]
            self.tally.others += len(results) - len(errors)
            if errors:
                self._failed(number, home, errors[0])
            else:
                self._note_answer(number, home, asked, len(results), Counter(client.retries) - before)

    async def _watch_itself(self) -> None:
        """Note how long this program itself stood still: no wait can be told more exactly than that."""
        while True:
            before = self._now()
            await asyncio.sleep(_POLL)
            self.tally.longest_stall = max(self.tally.longest_stall, self._now() - before - _POLL)


def _value(result: Result) -> bytes | None:
    value = result.unwrap()
    assert value is None or isinstance(value, bytes)
    return value
