"""How the tasks of an event loop share a session.

Everything happens in the loop's thread: the sockets' descriptors are watched by the loop, and what is
submitted during one turn of the loop leaves at its end, in one frame.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Future, TimerHandle, get_running_loop, to_thread
from contextlib import suppress
from math import inf

from epaxos.client.drivers.base import CLOSED, FORKED, Driver, describe
from epaxos.client.drivers.calls import Call
from epaxos.client.options import Options
from epaxos.client.session.fate import never_began
from epaxos.errors import Refused


class LoopDriver(Driver):
    """Runs the calls of the tasks of one event loop over one session."""

    def __init__(self, options: Options, *, remembered: bool = True) -> None:
        self._loop: AbstractEventLoop | None = None
        self._calls: dict[Call, Future[None]] = {}
        self._at_work = False  # a finalizer that starts a task eagerly could meet the session half done
        self._due = False
        self._timer: TimerHandle | None = None
        self._timer_at = inf
        super().__init__(options, remembered=remembered)

    def enter(self) -> AbstractEventLoop:
        """Check that a call can be made now and here; returns the loop.

        Raises:
            Closed: the client is closed.
            RuntimeError: it belongs to another loop.
        """
        if self._closed is not None:
            raise never_began(self._closed)
        loop = get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(
                "an AsyncClient belongs to the event loop of its first call; make one for each"
            )
        return loop

    async def run(self, call: Call) -> None:
        """Have a call done, made after `enter`: returns when it is over, or failed."""
        while self._at_work:  # on top of a turn, which goes on when this waits
            await asyncio.sleep(0)
            self.enter()
        loop = self._loop
        assert loop is not None
        future = loop.create_future()
        self._calls[call] = future
        self._at_work = True
        try:
            call.submit(self._session, loop.time())
        except Refused as error:
            call.refuse(error)
        finally:
            self._at_work = False
        if call.missing:
            self._turn_soon(loop)
        else:
            self._release(call)
        try:
            await future
        finally:
            if self._calls.pop(call, None) is not None:
                call.given_up = True
                for item in call.items():
                    if not item.done:
                        self._session.abandon(item)

    def close(self) -> None:
        """End all calls, and those to come, with `Closed`; close the sockets."""
        if self._shut():
            self._wire.end()

    async def leave(self) -> None:
        """The same; the loop goes on until the farewell has left."""
        if self._shut():
            await to_thread(self._wire.end)

    def _shut(self) -> bool:
        if self._closed is not None:
            return False
        self._closed = CLOSED
        self._session.close()
        self._deliver(0.0)
        self._set_timer(inf)
        self._wire.shut()
        return True

    def drop(self) -> None:
        """Nobody can use the client any more, and nobody has closed it; called by whatever thread finds out."""
        loop = self._loop
        if self._closed is not None:
            return
        if loop is None or loop.is_closed():
            self.close()
        else:
            with suppress(RuntimeError):  # closed by now
                loop.call_soon_threadsafe(self.close)

    def disown(self) -> None:
        """In a forked child: refuse all calls; those that tasks wait for end, if the child keeps the loop."""
        super().disown()
        for call in tuple(self._calls):
            call.fail(FORKED)
            with suppress(RuntimeError):  # the loop is closed
                self._release(call)

    def _turn_soon(self, loop: AbstractEventLoop) -> None:
        if not self._due:
            self._due = True
            loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Do what can be done now; have the loop call again when there is more."""
        self._due = False
        if self._closed is not None or self._loop is None:
            return
        now = self._loop.time()
        self._at_work = True
        try:
            self._session.expire(now)
            more = self._wire.pump(now)
            if self._deliver(now):
                more = True
            if not more:
                self._set_timer(self._wire.next_event())
        except BaseException as error:
            calls = tuple(self._calls)
            self._begin_anew(describe(error), calls)
            for call in calls:
                self._release(call)
            if not isinstance(error, Exception):
                raise
        else:
            if more:
                self._turn_soon(self._loop)
        finally:
            self._at_work = False

    def _release(self, call: Call) -> None:
        """Let the task of a call that is done go on."""
        future = self._calls.pop(call, None)
        if future is not None and not future.done():
            future.set_result(None)

    def _watch(self, descriptor: int) -> None:
        assert self._loop is not None
        self._loop.add_reader(descriptor, self._turn)

    def _unwatch(self, descriptor: int) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.remove_reader(descriptor)

    def _wake(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._turn)

    def _set_timer(self, when: float) -> None:
        """Have a turn at `when`; a timer that is set for an earlier time may stay, it does no harm."""
        if self._timer is not None:
            if self._timer_at <= when < inf:
                return
            self._timer.cancel()
            self._timer = None
        self._timer_at = when
        if when < inf and self._loop is not None:
            self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._turn()
