"""How threads share a session.

**Who touches the sockets.** There is no thread in the background. A caller who finds the client idle becomes
its driver: it sends, sleeps and receives for itself, so a lone call pays for no hand-over between threads.
Callers who come meanwhile leave their call in the inbox, wake the driver and wait. The driver sends what has
gathered in one frame and wakes those whose call is done; when its own is done, it makes one of those who wait
the driver. The role changes hands under a mutex, the memory barrier that ZeroMQ asks for when a socket
changes threads.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from math import ceil
from threading import Lock
from time import monotonic
from typing import Final

from epaxos.client.commands import Op, as_columns
from epaxos.client.drivers.wire import Wire
from epaxos.client.options import Options
from epaxos.client.session.core import Finished, Session
from epaxos.client.session.fate import never_began
from epaxos.client.session.questions import Question
from epaxos.client.session.tickets import Ticket
from epaxos.errors import Refused

_LONGEST_SLEEP: Final = 60.0


class Call:
    """What one thread asks and waits for.

    begun      when it was made, in seconds
    timeout    how long it may take, in seconds; None for what the options say
    items      what was submitted for it
    missing    how many items are not over (all, before they are submitted); it is done with the last
    gate       locked while its thread waits for the driver; None if it never had to
    promoted   its thread is the driver from now on
    refused    why it could not be submitted
    """

    __slots__ = ("begun", "gate", "items", "missing", "promoted", "refused", "timeout")

    def __init__(self, timeout: float | None, missing: int) -> None:
        self.begun = monotonic()
        self.timeout = timeout
        self.items: Sequence[Finished[Call]] = ()
        self.missing = missing
        self.gate: Lock | None = None
        self.promoted = False
        self.refused: Refused | None = None

    def submit(self, session: Session[Call]) -> None:
        """Submit what is asked."""
        raise NotImplementedError


class Command(Call):
    """One command."""

    __slots__ = ("operation", "ticket")

    def __init__(self, operation: Op, timeout: float | None) -> None:
        super().__init__(timeout, 1)
        self.operation = operation
        self.ticket: Ticket[Call]

    def submit(self, session: Session[Call]) -> None:
        """Submit the command."""
        self.ticket = session.submit(self.operation, self.begun, self.timeout, self)
        self.items = (self.ticket,)


class Bulk(Call):
    """Many commands, in parts that take a frame each."""

    __slots__ = ("parts", "tickets")

    def __init__(self, parts: Sequence[Sequence[Op]], timeout: float | None) -> None:
        super().__init__(timeout, len(parts))
        self.parts = parts
        self.tickets: list[Ticket[Call]] = []

    def submit(self, session: Session[Call]) -> None:
        """Submit all parts."""
        self.items = self.tickets
        for part in self.parts:
            columns = as_columns(part)
            self.tickets.append(session.submit_columns(*columns, self.begun, self.timeout, self))


class Status(Call):
    """A question for the status of a replica."""

    __slots__ = ("digest", "question", "replica")

    def __init__(self, replica: int | None, timeout: float | None, *, digest: bool) -> None:
        super().__init__(timeout, 1)
        self.replica = replica
        self.digest = digest
        self.question: Question[Call]

    def submit(self, session: Session[Call]) -> None:
        """Ask."""
        self.question = session.ask_status(
            self.replica, self.begun, digest=self.digest, timeout=self.timeout, waiter=self
        )
        self.items = (self.question,)


class Driver:
    """Runs the calls of many threads over one session; at any time, one of them drives it.

    The mutex guards who drives, the inbox and the followers: the calls of waiting threads that are not done.
    Everything else belongs to the thread that drives.
    """

    def __init__(self, session: Session[Call], options: Options) -> None:
        self._session = session
        self._mutex = Lock()
        self._driven = False
        self._closed: str | None = None
        self._inbox: deque[Call] = deque()
        self._followers: dict[Call, None] = {}
        self._asleep = False
        self._poller = select.poll()
        self._wire = Wire(session, options, self._watch, self._wake)
        self._bell, self._clapper = socket.socketpair()
        self._bell.setblocking(False)
        self._clapper.setblocking(False)
        self._watch(self._bell.fileno())

    @property
    def retries(self) -> Mapping[str, int]:
        """The session's count of them."""
        return self._session.retries

    def _watch(self, descriptor: int) -> None:
        self._poller.register(descriptor, select.POLLIN)

    def _wake(self) -> None:
        """In any thread: there is news for whoever drives."""
        self._clapper.send(b"\0")

    def run(self, call: Call) -> None:
        """Have a call done: returns when all of its items are over.

        Raises:
            Closed: the client was closed before.
            Refused: a command does not fit into a frame.
        """
        with self._mutex:
            if self._closed is not None:
                raise never_began(self._closed)
            drives = not self._driven
            if drives:
                self._driven = True
            else:
                self._follow(call)
        if drives:
            self._drive(call)
        else:
            self._wait(call)
        if call.refused is not None:
            raise call.refused

    def close(self, reason: str) -> None:
        """End all calls, and those to come, with `Closed` for that reason; close the sockets."""
        with self._mutex:
            if self._closed is not None:
                return
            self._closed = reason
            if self._driven:
                self._ring()
            else:
                self._shut()

    def disown(self, reason: str) -> None:
        """In a forked child, whose copies of sockets and numbers are its parent's: refuse all calls."""
        self._mutex = Lock()
        self._closed = reason

    # As a thread that waits

    def _follow(self, call: Call) -> None:
        call.gate = Lock()
        call.gate.acquire()
        self._inbox.append(call)
        self._followers[call] = None
        if self._asleep:
            self._ring()

    def _ring(self) -> None:
        self._asleep = False
        self._clapper.send(b"\0")

    def _wait(self, call: Call) -> None:
        assert call.gate is not None
        opened = False
        try:
            opened = call.gate.acquire()
        finally:
            if not opened:
                self._desert(call)
        if call.promoted:
            self._drive(call)

    def _desert(self, call: Call) -> None:
        """The thread was interrupted while it waited."""
        with self._mutex:
            self._followers.pop(call, None)
            promoted = call.promoted
        if promoted:
            self._hand_over()

    # As the thread that drives

    def _drive(self, call: Call) -> None:
        try:
            if not call.promoted:
                self._submit(call)
            while call.missing:
                self._turn(call)
        finally:
            for item in call.items:
                if not item.done:
                    self._session.abandon(item)
            self._hand_over()

    def _turn(self, call: Call) -> None:
        """Do what can be done now; then, unless that ended `call`, sleep until there is more to do."""
        session = self._session
        if self._inbox:
            self._empty_inbox()
        if self._closed is not None:
            session.close()
        now = monotonic()
        session.expire(now)
        more = self._wire.pump(now)
        if session.finished:
            self._deliver()
        if call.missing and not more:
            self._sleep(self._wire.next_event() - now)
            self._deliver()

    def _empty_inbox(self) -> None:
        while self._inbox:
            call = self._inbox.popleft()
            if call in self._followers or call.promoted:
                self._submit(call)

    def _submit(self, call: Call) -> None:
        try:
            call.submit(self._session)
        except Refused as error:
            call.refused = error
            call.missing = 0
            self._release(call)

    def _deliver(self) -> None:
        for item in self._session.take_finished():
            call = item.waiter
            assert call is not None
            call.missing -= 1
            if not call.missing:
                self._release(call)

    def _release(self, call: Call) -> None:
        """Let the thread of a call that is done go on, if it waits."""
        if call.gate is None:
            return
        with self._mutex:
            if call in self._followers:
                del self._followers[call]
                call.gate.release()

    def _sleep(self, seconds: float) -> None:
        with self._mutex:
            if self._inbox:
                return
            self._asleep = True
        milliseconds = ceil(min(max(seconds, 0.0), _LONGEST_SLEEP) * 1000)
        events = self._poller.poll(milliseconds)
        self._asleep = False
        for descriptor, _ in events:
            if descriptor == self._bell.fileno():
                self._bell.recv(4096)
            else:
                self._wire.take(descriptor, monotonic())

    def _hand_over(self) -> None:
        """Make a thread that waits the driver, if there is one."""
        with self._mutex:
            successor = next(iter(self._followers), None)
            if successor is not None:
                assert successor.gate is not None
                del self._followers[successor]
                successor.promoted = True
                successor.gate.release()
                return
            self._driven = False
            if self._closed is not None:
                self._shut()

    def _shut(self) -> None:
        self._wire.close()
        self._bell.close()
        self._clapper.close()
