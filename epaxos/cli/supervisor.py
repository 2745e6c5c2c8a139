"""Child processes that stop together: the first one to fail, or a signal, ends them all.

One that ends well, as a replica does that has been removed from its cluster, leaves the others alone.

What they print comes out line by line, each with the child's name. Every child leads a process group of its
own, so that a Ctrl-C in the terminal reaches this process alone. Its standard input is a pipe from here that
ends when this process does, however that comes (`epaxos.cli.lifeline`).
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeAlias

Print: TypeAlias = Callable[[str | None, str], None]
"""Prints one line of the child of that name, or of this process itself where the name is None."""

_CHUNK: Final = 65536
_LAST_WORDS: Final = 1.0  # seconds to wait for the rest of what ended children have printed
_IN_ORDER: Final = frozenset({0, -signal.SIGTERM})
"""How a child may end that is asked to stop; the latter if it had not got to set a handler yet."""


class Ended(NamedTuple):
    """A child that has ended; `status` is its exit status, or minus the signal that killed it."""

    name: str
    status: int

    @property
    def code(self) -> int:
        """The status as a shell reports it."""
        return self.status if self.status >= 0 else 128 - self.status

    def __str__(self) -> str:
        if self.status >= 0:
            return f"{self.name} ended with status {self.status}"
        return f"{self.name} was killed by {signal.Signals(-self.status).name}"


class Supervisor:
    """Runs children until all have ended, or one fails or a signal comes: then it stops the others.

    `advice` is what to say when a child has failed. Children that are asked to stop are killed after `grace`
    seconds, or at another signal.
    """

    def __init__(self, show: Print, advice: str, grace: float) -> None:
        self._show = show
        self._advice = advice
        self._grace = grace
        self._signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
        self._children: dict[str, Process] = {}
        self._waits: dict[asyncio.Task[int], str] = {}
        self._pumps: list[asyncio.Task[None]] = []
        self._unread = False
        self._stopping = False

    async def run(self, commands: Mapping[str, Sequence[str]]) -> int:
        """Run the commands, by the names of the children, and return the exit code.

        It is that of the first child to fail, 0 if none does. After a signal it is 0 if all stopped in order, else that
        of one that did not. If nobody reads what is printed it is that of a process killed by SIGPIPE.
        """
        self._catch_signals()
        code = 0
        try:
            for name, command in commands.items():
                await self._start(name, command)
            code = await self._until_it_is_over()
        finally:
            disorderly = await self._stop()
        return code or max((ended.code for ended in disorderly), default=0)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN or number != signal.SIGHUP:  # as under nohup
                loop.add_signal_handler(number, self._signals.put_nowait, number)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            loop.add_signal_handler(number, self._send_to_all, number)

    async def _start(self, name: str, command: Sequence[str]) -> None:
        child = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=STDOUT, process_group=0
        )
        assert child.stdout is not None
        self._children[name] = child
        self._waits[asyncio.create_task(child.wait())] = name
        self._pumps.append(asyncio.create_task(self._pump(name, child.stdout)))

    # -- what is printed -----------------------------------------------------------------------------------

    async def _pump(self, name: str, stream: asyncio.StreamReader) -> None:
        """Print what a child prints, each line as soon as it is complete."""
        rest = b""
        while chunk := await stream.read(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._print(name, line.decode(errors="backslashreplace"))
        if rest:
            self._print(name, rest.decode(errors="backslashreplace"))

    def _print(self, name: str | None, line: str) -> None:
        """Print a line. Once nobody reads, stop, but keep emptying the pipes: a full one blocks a child."""
        if self._unread:
            return
        try:
            self._show(name, line)
        except OSError:  # a closed pipe or terminal; what else a line may meet is passed over (`cli.streams`)
            self._unread = True
            if not self._stopping:
                self._signals.put_nowait(signal.SIGPIPE)

    # -- the end -------------------------------------------------------------------------------------------

    async def _until_it_is_over(self) -> int:
        """Wait until all children have ended, one fails, or a signal comes; the exit code that follows from it."""
        signalled = asyncio.create_task(self._signals.get())
        while self._waits:
            await asyncio.wait([signalled, *self._waits], return_when=asyncio.FIRST_COMPLETED)
            if signalled.done():
                number = signalled.result()
                self._print(None, f"stopping on {number.name}; once more kills")
                return 128 + number if number == signal.SIGPIPE else 0
            ended = {
                wait: Ended(self._waits.pop(wait), wait.result()) for wait in [*self._waits] if wait.done()
            }
            if failed := next((child for child in ended.values() if child.status), None):
                signalled.cancel()
                self._print(None, f"{failed}; stopping the others. {self._advice}")
                return failed.code
            for child in ended.values():
                self._print(None, f"{child}" + ("; the others go on" if self._waits else ""))
        signalled.cancel()
        return 0

    async def _stop(self) -> list[Ended]:
        """Stop all children that run; those of them that did not stop in order."""
        self._stopping = True
        running = {wait: name for wait, name in self._waits.items() if not wait.done()}
        self._send(signal.SIGTERM, running.values())
        another = asyncio.create_task(self._signals.get())
        everyone = asyncio.gather(*running)
        first: list[asyncio.Future[Any]] = [everyone, another]
        await asyncio.wait(first, timeout=self._grace, return_when=asyncio.FIRST_COMPLETED)
        another.cancel()
        self._send(signal.SIGKILL, (name for wait, name in running.items() if not wait.done()))
        await everyone
        if self._pumps:
            await asyncio.wait(self._pumps, timeout=_LAST_WORDS)
        ended = [Ended(name, wait.result()) for wait, name in running.items()]
        disorderly = [child for child in ended if child.status not in _IN_ORDER]
        for child in disorderly:
            self._print(None, f"{child} when it was asked to stop")
        return disorderly

    def _send_to_all(self, number: signal.Signals) -> None:
        """Pass on what is about the replicas and not about their end."""
        self._send(number, self._waits.values())

    def _send(self, number: signal.Signals, names: Iterable[str]) -> None:
        """Send a signal to children and to what they may have started."""
        for name in names:
            with suppress(ProcessLookupError):  # it has just ended
                os.killpg(self._children[name].pid, number)
