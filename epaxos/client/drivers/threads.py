"""How threads share a session.

**Who touches the sockets.** There is no thread in the background. A caller who finds the client idle becomes
its driver: it sends, sleeps and receives for itself, so a lone call pays for no hand-over between threads.
Callers who come meanwhile leave their call in the inbox, wake the driver and wait. The driver sends what has
gathered in one frame and wakes those whose call is done; when its own is done, it makes one of those who wait
the driver. The role changes hands under a mutex, the memory barrier that ZeroMQ asks for when a socket
changes threads.

**A thread meets itself.** Signal handlers and finalizers run on top of whatever their thread was at, which goes on
only when they are done. If that was a call of this client, another call can neither wait for it nor touch its session:
it gets a session of its own. Closing leaves word for the call below.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from math import ceil
from os import dup2
from threading import Lock, get_ident
from time import monotonic
from typing import Final

from epaxos.client.drivers.base import CLOSED, FORKED, Driver, describe, raised_in_signal_handler
from epaxos.client.drivers.calls import Call
from epaxos.client.options import Options
from epaxos.client.session.fate import never_began
from epaxos.errors import ClientError, Refused

_LONGEST_SLEEP: Final = 60.0
_LOOK: Final = 0.25  # seconds between two looks of a thread that waits at whether there still is a driver


class _Follower:
    """The thread of a call that waits.

    gate       locked while it waits for the driver
    promoted   it is the driver from now on
    """

    __slots__ = ("gate", "promoted", "thread")

    def __init__(self) -> None:
        self.thread = get_ident()
        self.promoted = False
        self.gate = Lock()
        self.gate.acquire()


class ThreadsDriver(Driver):
    """Runs the calls of many threads over one session; at any time, one of them drives it.

    The mutex guards who drives, the inbox and the followers: the calls of waiting threads that are not done.
    Everything else belongs to the thread that drives. `_inside` are the threads that are in `run` or `close`.

    Raises:
        ClientError: the system gives no descriptors for it.
    """

    def __init__(self, options: Options, *, remembered: bool = True) -> None:
        self._mutex = Lock()
        self._inside: set[int] = set()
        self._driver: int | None = None
        self._inbox: deque[Call] = deque()
        self._followers: dict[Call, _Follower] = {}
        self._asleep = False
        self._at_work = False  # in the middle of a turn: an exception would leave it half done
        self._poller = select.poll()
        try:
            self._bell, self._clapper = socket.socketpair()
        except OSError as error:
            raise ClientError(f"no client can be made: {error.strerror}") from error
        self._bell.setblocking(False)
        self._clapper.setblocking(False)
        self._watch(self._bell.fileno())
        super().__init__(options, remembered=remembered)

    def _watch(self, descriptor: int) -> None:
        self._poller.register(descriptor, select.POLLIN)

    def _unwatch(self, descriptor: int) -> None:
        with suppress(KeyError):  # not watched yet, or no more: a turn may be broken off anywhere
            self._poller.unregister(descriptor)

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # it has been rung often enough
            self._clapper.send(b"\0")

    def run(self, call: Call) -> None:
        """Have a call done: returns when it is over, or failed.

        Raises:
            Closed: the client was closed before.
        """
        thread = get_ident()
        if thread in self._inside:
            self._run_apart(call)
            return
        try:
            self._inside.add(thread)
            self._run(call, thread)
        finally:
            self._inside.discard(thread)
            if self._closed is not None:
                self.close()

    def _run_apart(self, call: Call) -> None:
        """Have a call done while another one of the same thread is."""
        if self._closed is not None:
            raise never_began(self._closed)
        apart = ThreadsDriver(self._options, remembered=self._remembered)
        try:
            apart.run(call)
        finally:
            apart.close()

    def _run(self, call: Call, thread: int) -> None:
        with self._mutex:
            if self._closed is not None:
                raise never_began(self._closed)
            follower = None
            if self._driver is None or self._driver == thread:  # broken off before it could hand over
                self._driver = thread
            else:
                follower = self._follow(call)
        if follower is None or self._wait(call, follower):
            self._drive(call, fresh=follower is None)

    def close(self) -> None:
        """End all calls, and those to come, with `Closed`; close the sockets."""
        thread = get_ident()
        if thread in self._inside:
            # The mutex may be held below. The driver, maybe below too, sees it at its next turn.
            self._closed = self._closed or CLOSED
            with suppress(OSError):
                self._ring()
            return
        try:
            self._inside.add(thread)
            with self._mutex:
                self._closed = self._closed or CLOSED
                if self._driver is None:
                    self._shut()
                else:
                    self._ring()
        finally:
            self._inside.discard(thread)

    def disown(self) -> None:
        """In a forked child: refuse all calls; one below, where a signal handler has forked, ends."""
        super().disown()
        thread = get_ident()
        if self._driver == thread:
            # The child must neither ring the bell that it shares with its parent, nor sleep on.
            reader, writer = socket.socketpair()
            writer.close()
            dup2(reader.fileno(), self._bell.fileno())
            reader.close()
        for call, follower in self._followers.items():
            if follower.thread == thread:
                call.fail(FORKED)
                follower.gate.release()
        self._mutex = Lock()
        self._driver = None
        self._inside.clear()
        self._inbox.clear()
        self._followers.clear()

    # As a thread that waits

    def _follow(self, call: Call) -> _Follower:
        follower = self._followers[call] = _Follower()
        self._inbox.append(call)
        if self._asleep:
            self._ring()
        return follower

    def _ring(self) -> None:
        self._asleep = False
        self._wake()

    def _wait(self, call: Call, follower: _Follower) -> bool:
        """Wait until the call is done (returns False), or its thread is the driver (True)."""
        opened = False
        try:
            while not opened:
                opened = follower.gate.acquire(timeout=_LOOK) or self._may_go_on(call, follower)
        finally:
            if not opened:
                self._desert(call, follower)
        return follower.promoted

    def _may_go_on(self, call: Call, follower: _Follower) -> bool:
        """Whether the driver was broken off, before it opened the gate or named its successor: that is this thread."""
        with self._mutex:
            if follower.promoted or not call.missing:
                self._followers.pop(call, None)
                return True
            if self._driver in self._inside:
                return False
            self._promote(call, follower)
            return True

    def _promote(self, call: Call, follower: _Follower) -> None:
        del self._followers[call]
        self._driver = follower.thread
        follower.promoted = True

    def _desert(self, call: Call, follower: _Follower) -> None:
        """The thread was interrupted while it waited."""
        call.given_up = True
        with self._mutex:
            self._followers.pop(call, None)
            promoted = follower.promoted
        if promoted:
            self._hand_over()

    # As the thread that drives

    def _drive(self, call: Call, *, fresh: bool) -> None:
        """Take turns until the call is done; `fresh`: it did not wait, and is not submitted."""
        try:
            if self._at_work:
                self._start_over("another call was broken off", () if fresh else (call,))
            if fresh:
                self._at_work = True
                self._submit(call, call.begun)
            while call.missing:
                self._turn(call)
        except BaseException as error:
            ours = isinstance(error, Exception) and not raised_in_signal_handler(error)
            if ours or self._at_work:
                self._start_over(describe(error), (call,))
            if not ours:
                self._give_up(call)
                raise
        finally:
            self._hand_over()

    def _turn(self, call: Call) -> None:
        """Do what can be done now; then, unless that ended `call`, sleep until there is more to do."""
        session = self._session
        self._at_work = True
        now = monotonic()
        while self._inbox:
            self._submit(self._inbox.popleft(), now)
        if self._closed is not None:
            session.close()
        session.expire(now)
        more = self._wire.pump(now)
        if session.finished and self._deliver(now):
            more = True
        self._at_work = False
        if call.missing and not more:
            self._sleep(self._wire.next_event() - now)

    def _submit(self, call: Call, now: float) -> None:
        if call.given_up or not call.missing:
            return  # it failed before its turn came
        try:
            call.submit(self._session, now)
        except Refused as error:
            call.refuse(error)
        if not call.missing:
            self._release(call)

    def _release(self, call: Call) -> None:
        """Let the thread of a call that is done go on, if it waits."""
        if call in self._followers:  # only the driver takes out those that do not give up
            with self._mutex:
                follower = self._followers.pop(call, None)
            if follower is not None:
                follower.gate.release()

    def _sleep(self, seconds: float) -> None:
        with self._mutex:
            if self._inbox:
                return
            self._asleep = True
        milliseconds = ceil(min(max(seconds, 0.0), _LONGEST_SLEEP) * 1000)
        events = self._poller.poll(milliseconds)
        self._at_work = True
        self._asleep = False
        now = monotonic()
        for descriptor, _ in events:
            if descriptor == self._bell.fileno():
                self._bell.recv(4096)
            else:
                self._wire.take(descriptor, now)
        self._deliver(now)
        self._at_work = False

    def _start_over(self, reason: str, calls: Sequence[Call]) -> None:
        """A turn was broken off: these calls and those of all who wait fail, and a new session begins."""
        with self._mutex:
            waiting = list(self._followers)
        self._begin_anew(reason, [*calls, *waiting])
        for call in waiting:
            self._release(call)
        self._at_work = False

    def _give_up(self, call: Call) -> None:
        """Nobody waits for a call any more: its thread was interrupted."""
        call.given_up = True
        self._at_work = True
        for item in call.items():
            if not item.done:
                self._session.abandon(item)
        self._at_work = False

    def _hand_over(self) -> None:
        """Make a thread that waits the driver, if there is one."""
        with self._mutex:
            for call, follower in self._followers.items():
                self._promote(call, follower)
                follower.gate.release()
                return
            self._driver = None
            if self._closed is not None:
                self._shut()

    def _shut(self) -> None:
        self._wire.close()
        self._bell.close()
        self._clapper.close()
