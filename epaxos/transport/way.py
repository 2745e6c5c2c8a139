"""The way from a socket to one replica: which of the addresses of its name answers, found in a thread.

A name may have several addresses, of which some do not answer, and may mean others tomorrow (a container that comes
back elsewhere). A DEALER that is connected to two of them would send by turns to each, so it is connected to one: the
first that accepts a connection. While the replica is not there, the name is looked up and its addresses are tried
again, now and then, the one in use last.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from math import inf
from time import monotonic
from typing import Final, NamedTuple

import zmq

from epaxos.config import ip_address, place, show
from epaxos.transport.addresses import connect, family, pair, resolve, unresolved

FIRST: Final = 1.0
LONGEST: Final = 8.0
"""Seconds without a connection until the name is looked up again: at first, and at most after doubling."""

STAGGER: Final = 0.25
"""Seconds that an address has to accept before the next one is tried beside it."""

LIMIT: Final = 3.0
"""Seconds after the last one was tried that addresses have to accept."""


NOT_LET_IN: Final = (
    "it lets nobody in with this key, or has another key itself than it should, or none (docs/security.md)"
)
"""The trouble with whoever accepts a connection, and then does not go on with it."""


class Question(NamedTuple):
    """Where to reach a port of a host.

    avoid  the numeric address that led nowhere: tried last
    probe  try the address even if it is the only one, to learn what is wrong there
    """

    host: str
    port: int
    avoid: str | None = None
    probe: bool = False


class Found(NamedTuple):
    """The answer.

    address   numeric; None if the name does not resolve
    trouble   why nothing accepts a connection; empty if something does, or nothing was tried
    """

    address: str | None
    trouble: str


def find(question: Question) -> Found:
    """Answer; takes as long as the resolver likes, and then some seconds."""
    host, port, avoid, probe = question
    try:
        addresses = resolve(host)
    except OSError as error:
        return Found(None, unresolved(host, error))
    if len(addresses) == 1 and not probe:
        return Found(addresses[0], "")
    return _race(sorted(addresses, key=lambda address: address == avoid), port)


def _race(addresses: list[str], port: int) -> Found:
    """The first address that accepts, each having a head start over the next; else the first of all."""
    troubles: dict[str, str] = {}
    waiting = list(addresses)
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        stop = monotonic() + LIMIT
        while waiting or selector.get_map():
            if waiting:
                address = waiting.pop(0)
                stop = monotonic() + LIMIT
                try:
                    attempt = stack.enter_context(socket.socket(family(address), socket.SOCK_STREAM))
                    attempt.setblocking(False)
                    code = attempt.connect_ex(pair(address, port))
                    if code in {0, errno.EINPROGRESS}:
                        selector.register(attempt, selectors.EVENT_WRITE, address)
                    else:
                        troubles[address] = os.strerror(code)
                        continue
                except OSError as error:
                    troubles[address] = error.strerror or str(error)
                    continue
            remaining = stop - monotonic()
            if remaining <= 0:
                break
            for key, _ in selector.select(min(STAGGER, remaining) if waiting else remaining):
                tried = key.fileobj
                assert isinstance(tried, socket.socket)
                code = tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not code:
                    return Found(key.data, "")
                troubles[key.data] = os.strerror(code)
                selector.unregister(tried)
    reasons = {
        address: troubles.get(address, f"no answer within {LIMIT:g}s").lower() for address in addresses
    }
    if len(set(reasons.values())) == 1:
        return Found(addresses[0], f"{reasons[addresses[0]]} ({', '.join(addresses)})")
    return Found(addresses[0], "; ".join(f"{reason} ({address})" for address, reason in reasons.items()))


class _Desk:
    """Questions under way in this process, each answered by one thread for all who ask the same.

    A name server that is silent holds a thread for ten seconds or more, and clients may come and go by the hundred.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[Question, list[Callable[[Found], None]]] = {}

    def ask(self, question: Question, answer: Callable[[Found], None]) -> None:
        """Have `answer` called in a thread; it may be this one, if there is none to be had."""
        # Who asks in a signal handler may be on top of who holds the lock: such a one has a thread for itself.
        if not self._lock.acquire(blocking=False):
            self._begin(question, answer)
            return
        try:
            if question in self._waiting:
                self._waiting[question].append(answer)
                return
            self._waiting[question] = [answer]
        finally:
            self._lock.release()
        self._begin(question, partial(self._answer, question))

    def _begin(self, question: Question, answer: Callable[[Found], None]) -> None:
        try:
            # A daemon: the end of the process must not wait for the resolver.
            threading.Thread(target=self._work, args=(question, answer), name="resolver", daemon=True).start()
        except RuntimeError as error:
            answer(Found(None, f"host {show(question.host)} cannot be looked up: {error}"))

    def _work(self, question: Question, answer: Callable[[Found], None]) -> None:
        found = Found(None, f"host {show(question.host)} cannot be looked up")
        try:
            found = find(question)
        except OSError as error:  # no descriptor is left
            found = Found(None, f"host {show(question.host)} cannot be looked up: {error.strerror}")
        finally:
            answer(found)

    def _answer(self, question: Question, found: Found) -> None:
        with self._lock:
            answers = self._waiting.pop(question)
        for answer in answers:
            answer(found)


_desk = _Desk()


def _new_desk() -> None:
    """Threads do not survive a fork, so what the parent has under way is never answered in the child."""
    global _desk  # noqa: PLW0603 - one for the process, as its threads are
    _desk = _Desk()


os.register_at_fork(after_in_child=_new_desk)


class Way:
    """Connects DEALERs to the port of a host, numeric or a name, and looks for another way while it leads nowhere.

    All but the answers of the resolver happens in the owner's thread. `wake` is called in another one when there is
    news, upon which the owner is to call `advance`.

    With `keys`, whoever accepts a connection and does not let it in is asked again each time: ZeroMQ gives up where it
    is told that its key is not on the list, and a key may be put there, or be changed.

    trouble   why nobody answers there, as far as that is known; empty if it is not
    resolves  whether the name means an address, as far as that is known
    """

    def __init__(self, host: str, port: int, wake: Callable[[], object], *, keys: bool = False) -> None:
        self._keys = keys
        self._host = host
        self._port = port
        self._wake = wake
        self._address: str | None = None
        self._looking = False
        self._found: Found | None = None
        self._due: float | None = None
        self._patience = FIRST
        self.trouble = ""
        self.resolves = True

    @property
    def place(self) -> str:
        """Where it leads, in words: host and port, with the address in use if that says more."""
        where = place(self._host, self._port)
        return where if self._address in {None, self._host} else f"{where} ({self._address})"

    @property
    def deadline(self) -> float:
        """While there is no connection: when `advance` is due, on the clock of its `now`."""
        if self._found is not None:
            return -inf
        if self._looking:
            return inf
        return -inf if self._due is None else self._due

    def start(self, dealers: Sequence[zmq.Socket[bytes]]) -> None:
        """Connect at once to a numeric address; begin to look a name up."""
        if ip_address(self._host) is not None:
            with suppress(zmq.ZMQError):  # a scope that means nothing here: then it does not resolve either
                self._connect(dealers, self._host)
                return
        self._look()

    def advance(self, dealers: Sequence[zmq.Socket[bytes]], now: float) -> None:
        """While there is no connection: take what the resolver found, look again when it is time."""
        if self._found is not None:
            found, self._found, self._looking = self._found, None, False
            self.trouble = found.trouble
            self.resolves = found.address is not None
            if found.address is not None:
                if self._keys and found.address == self._address and not found.trouble:
                    self.trouble = NOT_LET_IN
                    self.renew(dealers)
                self._connect(dealers, found.address)
        if self._due is None:
            self._due = now + self._patience
        if now >= self._due and not self._looking:
            self._patience = min(2 * self._patience, LONGEST)
            self._due = now + self._patience
            self._look()

    def _look(self) -> None:
        self._looking = True
        question = Question(self._host, self._port, self._address, probe=self._address is not None)
        _desk.ask(question, self._take)

    def settle(self) -> None:
        """There is a connection; when it is lost, ZeroMQ has some time to make it again by itself."""
        self._due = None
        self._patience = FIRST
        self.trouble = ""
        if self._found is not None:
            self._found, self._looking = None, False

    def _take(self, found: Found) -> None:
        self._found = found
        with suppress(OSError, RuntimeError):  # the owner has gone meanwhile, and its bell or loop with it
            self._wake()

    def renew(self, dealers: Sequence[zmq.Socket[bytes]]) -> None:
        """Make the connections anew, with what keys the sockets have by now."""
        if self._address is not None:
            address, self._address = self._address, None
            for dealer in dealers:
                dealer.disconnect(f"tcp://{place(address, self._port)}")
            self._connect(dealers, address)

    def _connect(self, dealers: Sequence[zmq.Socket[bytes]], address: str) -> None:
        if address == self._address:
            return
        for dealer in dealers:
            if self._address is not None:
                dealer.disconnect(f"tcp://{place(self._address, self._port)}")
            connect(dealer, address, self._port)
        self._address = address
