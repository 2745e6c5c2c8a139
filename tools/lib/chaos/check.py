"""The search for a linearization, in a process of its own: it may take its time, and the load must not wait for it.

Each epoch's history is searched by itself. That is enough: linearizability is local (a history is linearizable if
for each object its part is), an epoch has keys that no other one uses, and they are absent at its beginning. So
what is kept at a time is the history of the epochs that are not yet searched, however long a run is.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Final, Self

from chaos.cluster import ChaosError
from epaxos.simulation.checkers.call import Call
from epaxos.simulation.checkers.search import Finding, search

BUDGET: Final = 1_000_000
"""Configurations of one set of keys after which the search leaves the question open; they take some 300 MB."""

_NICE: Final = 10
"""By how much the search gives way to replicas and clients."""


class Checker:
    """Searches histories, one after the other; a context manager that ends its process.

    `longest_value` is the length of a value in bytes, at most.
    """

    def __init__(self, longest_value: int) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, longest_value), daemon=True)
        self._process.start()
        theirs.close()  # so that it notices the end of this process
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checker")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.terminate()
        self._process.join()
        self._thread.shutdown()
        self._connection.close()

    async def check(self, calls: Sequence[Call]) -> Finding:
        """Search the history of one epoch.

        Raises:
            ChaosError: the process ended, for want of memory perhaps.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._exchange, calls)
        except (OSError, EOFError) as error:
            raise ChaosError(f"the process that searches histories ended: {error!r}") from error

    def _exchange(self, calls: Sequence[Call]) -> Finding:
        self._connection.send(calls)
        found: Finding = self._connection.recv()
        return found


def _serve(connection: Connection, longest_value: int) -> None:
    """Search what comes until no more does."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # for the starter to heed, which ends this process
    os.nice(_NICE)
    while True:
        try:
            calls = connection.recv()
        except EOFError:
            return
        connection.send(search(calls, longest_value, BUDGET))
