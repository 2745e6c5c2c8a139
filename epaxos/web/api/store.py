"""The replica as the API asks it: through the door that it shares with others (`doors.desk`).

Commands of requests that come at the same time are one batch. What this replica cannot take, as while it hears no
quorum, is turned away at once: whoever asked may ask another one.

**A command that is to execute once, however often it is sent** (Idempotency-Key) is the first and only one of a
session whose number is a hash of the key, of the command, and of the bearer token, if there is one: who has another one
cannot know the number, and so neither begin that session first nor ask for its answer. Replicas execute a number of a
session once and keep its result; they forget a session that has been idle for ten collections, of which there is one
every `collect`. So whoever sends the same again within that time, to whatever replica, also after the first was killed
or started anew, gets the answer of the first time. The same key with another command is another session: nobody gets
the answer to what was not asked. Nothing acknowledges such a session: that would let the result go.
"""

from __future__ import annotations

import asyncio
from asyncio import Task
from hashlib import blake2b
from typing import Any, Final

import msgpack

from epaxos.client.commands import Op, T, only_reads
from epaxos.client.decoding import decode
from epaxos.client.session.fate import of_a_read
from epaxos.client.status import Status
from epaxos.config import Config
from epaxos.doors.desk import Command, Desk, Result
from epaxos.doors.gate import Gate
from epaxos.errors import ClientError, NoAnswer
from epaxos.statemachine.batch import Limits

_NUMBER: Final = 8  # bytes of a session's number


class Store:
    """Executes commands for the tasks of one event loop; errors are those of a client.

    `longest` is how long a command may take at most, in seconds.
    """

    def __init__(self, gate: Gate, config: Config, limits: Limits) -> None:
        self._config = config
        self._parts = gate, config, limits
        self._opened: Desk | None = None
        self._under_way: dict[int, Task[Result]] = {}
        self.longest = config.client.timeout * config.client.tries

    @property
    def _desk(self) -> Desk:
        """It belongs to the loop in which it is first wanted."""
        if self._opened is None:
            self._opened = Desk(*self._parts)
        return self._opened

    async def execute(self, op: Op[T], limit: float, once: bytes | None = None, token: str = "") -> T:
        """Execute a command within `limit` seconds; with `once`, not if it was under that and `token` before."""
        command = Command(op.operation, op.key, op.argument)
        try:
            async with asyncio.timeout(limit):
                outcome, value = await (
                    self._desk.execute(command) if once is None else self._execute_once(command, once, token)
                )
        except TimeoutError:
            text = f"no answer within {limit:g} s; the command may have executed, or may still do so"
            raise _of(op, NoAnswer(text)) from None
        except ClientError as error:
            raise _of(op, error) from error
        return decode(op, outcome, value)

    async def _execute_once(self, command: Command, once: bytes, token: str) -> Result:
        """Two that are sent at the same time are one: the replica answers only one that asks for a number."""
        said = msgpack.packb([self._config.fingerprint, token, once, *command])
        number = int.from_bytes(blake2b(said, digest_size=_NUMBER).digest(), "big") or 1
        task = self._under_way.get(number)
        if task is None:
            task = self._under_way[number] = asyncio.create_task(self._desk.execute(command, number))
            task.add_done_callback(lambda _: self._under_way.pop(number, None))
        return await asyncio.shield(task)

    async def status(self, **options: Any) -> Status:
        """The status of this replica."""
        return Status.of(await self.told(**options))

    async def told(self, **options: Any) -> dict[str, Any]:
        """The same as the replica tells it."""
        return await self._desk.status(**options)

    def close(self) -> None:
        """Ask for nothing more."""
        if self._opened is not None:
            self._opened.close()


def _of(op: Op, error: ClientError) -> ClientError:
    """The error of a command; without an answer, what only reads did not do anything."""
    return of_a_read(error) if only_reads(op) else error
