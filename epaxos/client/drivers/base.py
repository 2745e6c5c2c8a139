"""What the drivers of both clients are: a session with its sockets, for as long as its process and its turns last."""

from __future__ import annotations

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import partial
from random import Random, SystemRandom
from traceback import walk_tb
from typing import Final
from weakref import WeakSet

from epaxos.client.drivers.calls import Call
from epaxos.client.drivers.wire import Wire
from epaxos.client.options import Options
from epaxos.client.session.core import Session
from epaxos.client.session.tickets import Uncopied

RANDOM: Final[Random] = SystemRandom()
"""For session ids, which must differ between processes started alike, and for the jitter of retries."""

CLOSED: Final = "the client is closed"
FORKED: Final = "the client belongs to the process that this one was forked from; make a new one"


class Driver(Uncopied, ABC):
    """Runs calls over a session.

    A turn that was broken off in its middle, by an error or by an exception out of a signal handler, leaves a
    session of which nothing is certain. Its calls end with what is known of them, and a new one takes its place:
    numbers of its own, sockets of its own.

    One whose session is not `remembered` is for reads that are none of the log.
    """

    def __init__(self, options: Options, *, remembered: bool = True) -> None:
        self._options = options
        self._remembered = remembered
        self._closed: str | None = None
        self.retries = {"silent": 0, "lost": 0, "busy": 0}
        """How many commands had to be sent again so far, by the reason."""
        self._begin()
        _drivers.add(self)

    def _begin(self) -> None:
        self._session: Session[Call] = Session(
            self._options, RANDOM, retries=self.retries, remembered=self._remembered
        )
        self._wire = Wire(self._session, self._options, self._watch, self._unwatch, self._wake)

    def _begin_anew(self, reason: str, calls: Iterable[Call]) -> None:
        """A turn was broken off; `calls` are those that are not done."""
        for call in calls:
            call.fail(f"the client failed: {reason}")
        self._wire.close(farewell=False)
        self._begin()

    def _deliver(self, now: float) -> bool:
        """Tell calls what is over; returns whether that made them submit more."""
        more = False
        for item in self._session.take_finished():
            call = item.waiter
            assert call is not None
            if call.over(item, self._session, now):
                more = True
            if not call.missing:
                self._release(call)
        return more

    @abstractmethod
    def _release(self, call: Call) -> None:
        """Let whoever waits for a call go on, which is done."""

    @abstractmethod
    def _watch(self, descriptor: int) -> None:
        """A socket has this descriptor."""

    @abstractmethod
    def _unwatch(self, descriptor: int) -> None:
        """And is about to be closed."""

    @abstractmethod
    def _wake(self) -> None:
        """In any thread: there is a reason for a turn."""

    @abstractmethod
    def close(self) -> None:
        """End all calls, and those to come, with `Closed`; close the sockets."""

    def disown(self) -> None:
        """In a forked child: the sockets and the session's numbers are its parent's; refuse all calls."""
        self._closed = FORKED
        self._wire.disown()


def describe(error: BaseException) -> str:
    """An error in one line."""
    name = type(error).__name__
    return f"{name}: {error}" if str(error) else name


def raised_in_signal_handler(error: BaseException) -> bool:
    """Whether an exception comes out of a signal handler of the program, which may run anywhere in the main thread."""
    handlers = map(signal.getsignal, signal.valid_signals())
    codes = {getattr(_function_of(handler), "__code__", None) for handler in handlers if callable(handler)}
    return any(frame.f_code in codes for frame, _ in walk_tb(error.__traceback__))


def _function_of(handler: object) -> object:
    if isinstance(handler, partial):
        return _function_of(handler.func)
    if hasattr(handler, "__code__") or hasattr(handler, "__func__"):
        return getattr(handler, "__func__", handler)
    return getattr(type(handler), "__call__", None)  # noqa: B004 - its code is wanted


_drivers: Final[WeakSet[Driver]] = WeakSet()


def _disown_all() -> None:
    for driver in _drivers:
        driver.disown()


# A child that went on with its parent's session would use the same request numbers for other commands.
os.register_at_fork(after_in_child=_disown_all)
