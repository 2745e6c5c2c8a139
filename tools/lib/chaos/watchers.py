"""Watchers beside the load, in processes of their own: each follows a prefix of the keys that are written.

They begin at all replicas, with the state, before anything is written. Some take what there is at once, most after a
rest. Each now and then ends its watch where it is, in the middle of an answer too, and begins another one with its
position at any replica. When a replica fails, the library goes on elsewhere. What they are told is judged in the same
process (`seen`).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple, Self

from chaos.cluster import ChaosError, Tick
from chaos.seen import Mark, Seen, Told
from epaxos.client.asynchronous import AsyncClient
from epaxos.client.watch import AsyncWatch, Reset, Synced
from epaxos.config import load_config
from epaxos.errors import NoAnswer
from epaxos.simulation.checkers.call import Call

IN_ONE: Final = 100
"""Watchers of one process."""

PREFIXES: Final = {
    b"": 1,
    b"chaos.": 3,
    b"chaos.%d": 6,
    b"ledger.": 1,
    b"ledger.%d": 3,
    b"ledger.shared.": 1,
    b"none.": 1,
}
"""Of what, and how likely; with a digit."""

ALWAYS: Final = (b"chaos.", b"ledger.")
"""What the first ones watch."""

QUICK: Final = 16
"""One of so many watchers takes what there is at once. The others rest,"""

RESTS: Final = (0.1, 1.0)
"""each by a length of its own between these, about, in seconds."""

HELD: Final = 20.0
"""Seconds after which a watch is ended and another one begun from its position, in the mean."""

BEGIN: Final = 20.0
"""Seconds in which all must know the state before the load begins."""

PATIENCE: Final = 20.0
"""Seconds in which all must have been told all in the end."""

_POLL: Final = 0.25
_WAIT: Final = 1.0
_NICE: Final = 5
"""By how much watchers give way to replicas and clients."""


class Witnessed(NamedTuple):
    """What came of watchers: what they went through, counted by what it is, and what is wrong with it."""

    counts: Counter[str]
    wrong: list[str]


class Watchers:
    """So many watchers of the cluster that a configuration `file` describes; a context manager that ends them.

    `seed` draws what each of them watches, and how.
    """

    def __init__(self, number: int, file: Path, seed: str) -> None:
        context = get_context("spawn")
        self._connections: list[Connection] = []
        self._processes = []
        for first in range(0, number, IN_ONE):
            ours, theirs = context.Pipe()
            numbers = range(first, min(number, first + IN_ONE))
            process = context.Process(target=_serve, args=(theirs, file, numbers, seed), daemon=True)
            process.start()
            theirs.close()  # so that it notices the end of this process
            self._processes.append(process)
            self._connections.append(ours)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for process in self._processes:
            process.terminate()
            process.join()
        for connection in self._connections:
            connection.close()

    async def begin(self, tick: Tick) -> None:
        """Wait until all know the state; `tick` waits a moment each time.

        Raises:
            ChaosError: one cannot learn of it.
        """
        for late in await self._ask(("begin",), tick):
            if late:
                raise ChaosError(f"not told of the state after {BEGIN:.0f} s: {', '.join(late)}")

    async def record(self, epoch: int, calls: Sequence[Call]) -> None:
        """The history of an epoch is complete.

        Raises:
            ChaosError: a process has ended.
        """
        await self._tell(("record", epoch, calls))

    async def finish(self, values: Mapping[bytes, bytes | None], tick: Tick) -> Witnessed:
        """Wait until all have been told all that there was, if the ledger's keys hold these values; what they saw.

        Raises:
            ChaosError: a process has ended.
        """
        answers: list[Witnessed] = await self._ask(("finish", values), tick)
        counts = sum((answer.counts for answer in answers), Counter[str]())
        for judged in ("keys", "excused"):  # by each of the processes, of their watchers
            counts[judged] = max((answer.counts[judged] for answer in answers), default=0)
        return Witnessed(counts, [fault for answer in answers for fault in answer.wrong])

    async def _ask(self, message: tuple[Any, ...], tick: Tick) -> list[Any]:
        await self._tell(message)
        answers = []
        try:
            for connection in self._connections:
                while not connection.poll():
                    await tick()
                answers.append(connection.recv())
        except (OSError, EOFError) as error:
            raise ChaosError(f"a process of watchers ended: {error!r}") from error
        return answers

    async def _tell(self, message: tuple[Any, ...]) -> None:
        try:
            for connection in self._connections:
                await asyncio.to_thread(connection.send, message)
        except OSError as error:
            raise ChaosError(f"a process of watchers ended: {error!r}") from error


def _serve(connection: Connection, file: Path, numbers: Sequence[int], seed: str) -> None:
    """Watch until nobody is there any more to tell of it."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # for the starter to heed, which ends this process
    os.nice(_NICE)
    asyncio.run(_watch(connection, file, numbers, seed))


async def _watch(connection: Connection, file: Path, numbers: Sequence[int], seed: str) -> None:
    config = load_config(str(file))
    names = [replica.name for replica in config.replicas]
    watchers = [Watcher(number, Random(f"{seed} {number}"), names) for number in numbers]  # noqa: S311
    async with AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(AsyncClient(config=config, replica=name)) for name in names
        }
        seen = Seen([watcher.told for watcher in watchers])
        tasks = [asyncio.create_task(watcher.follow(clients, seen)) for watcher in watchers]
        stack.callback(lambda: [task.cancel() for task in tasks])
        served = asyncio.create_task(_answer(connection, seen))
        done, _ = await asyncio.wait([served, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


async def _answer(connection: Connection, seen: Seen) -> None:
    """Take what the process tells that started this one, and answer it, until it ends."""
    loop = asyncio.get_running_loop()
    messages: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()

    def receive() -> None:
        try:
            messages.put_nowait(connection.recv())
        except EOFError:
            loop.remove_reader(connection.fileno())
            messages.put_nowait(("end",))

    loop.add_reader(connection.fileno(), receive)
    while True:
        match await messages.get():
            case ("begin",):
                await _wait(lambda: all(told.is_synced for told in seen.watchers), BEGIN)
                connection.send([told.name for told in seen.watchers if not told.is_synced])
            case ("record", epoch, calls):
                seen.recorded(epoch, calls)
            case ("finish", values):
                await _wait(partial(seen.is_complete, values), PATIENCE)
                seen.finish(values)
                connection.send(Witnessed(seen.totals, seen.wrong))
            case _:
                return


async def _wait(holds: Callable[[], bool], patience: float) -> None:
    """Wait until something holds, but not for ever."""
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    while loop.time() < until:
        if holds():
            return
        await asyncio.sleep(_POLL)


class Watcher:
    """One of them: `told` is what it was told."""

    def __init__(self, number: int, chance: Random, names: Sequence[str]) -> None:
        drawn = chance.choices(list(PREFIXES), list(PREFIXES.values()))[0]
        prefix = ALWAYS[number] if number < len(ALWAYS) else drawn
        if b"%d" in prefix:
            prefix %= chance.randint(1, 9)
        self.told = Told(f"watcher {number} of {prefix.decode() or 'everything'}", prefix)
        self._rest = 0.0 if number % QUICK == 0 else chance.uniform(*RESTS)
        self._home = names[number % len(names)]
        self._chance = chance

    async def follow(self, clients: Mapping[str, AsyncClient], seen: Seen, held: float = HELD) -> None:
        """Watch for ever, each watch for `held` seconds in the mean."""
        loop = asyncio.get_running_loop()
        since: str | None = None
        while True:
            watch = clients[self._home].watch(self.told.prefix, since=since, state=True)
            await self._take(watch, seen, loop.time() + held * self._chance.expovariate(1))
            since = str(watch.position)
            watch.close()
            self._home = self._chance.choice(list(clients))
            self.told.mark(Mark.RESUMED, loop.time())

    async def _take(self, watch: AsyncWatch[bytes], seen: Seen, until: float) -> None:
        """Take what a watch yields, at least until it has a position."""
        loop, resumes = asyncio.get_running_loop(), 0
        while True:
            try:
                event = await watch.get(_WAIT)
            except NoAnswer:
                self.told.counts["silences"] += 1
                continue
            while event is not None:
                if watch.resumes != resumes:
                    resumes = watch.resumes
                    self.told.mark(Mark.RESUMED, loop.time())
                if isinstance(event, Reset | Synced):
                    self.told.mark(Mark.RESET if isinstance(event, Reset) else Mark.SYNCED, loop.time())
                else:
                    seen.changed(self.told, event.key, event.value)
                if loop.time() >= until and watch.position is not None:
                    return
                event = await watch.get(0)
            if loop.time() >= until and watch.position is not None:
                return
            if self._rest:
                await asyncio.sleep(self._chance.uniform(0, 2 * self._rest))
