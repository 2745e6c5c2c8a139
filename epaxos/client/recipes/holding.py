"""What locks and leases ask of the store, and until when who holds one may believe that it does.

A lock is a key whose value names its holder and ends (protocol 4.14). It is taken by one multi, which fails if there is
a value, and counts up another key: the *token*, which grows with every acquisition, so that whoever is written to by
holders can turn away one that was overtaken without knowing it. A holder renews the value in thirds of its time, by a
multi that fails if another value stands.

**Told before another can take it.** A value never ends before its time has passed since the command was *sent* that
gave it. So a holder counts from before it sent the last renewal that was answered, subtracts `MARGIN` for clocks that
run at other rates, and holds the lock no longer than that, whatever it hears or does not hear. (A renewal that was
sent earlier, and executes after that one, gives the value its time anew, counted from there.) Its clock runs while the
machine sleeps, where the system has such a clock. Who deletes or overwrites the key makes it free at once, which its
holder learns when it renews; against that the token alone helps.

Calls are generators. What they yield is done by a driver, of threads or of an event loop: an `Ask` is answered with
what the client returned, or its exception is thrown; an `AskAll` with the results of all; seconds are waited for.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Generator
from random import Random, SystemRandom
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from epaxos.client.commands import Op
from epaxos.client.results import MultiAborted
from epaxos.client.session.state import LOG
from epaxos.errors import ClientError, Closed, LeaseLost, Refused

MARGIN: Final = 0.1
"""The part of a lease's time that its holder does not count on."""

LEAST_TTL: Final = 0.1
"""Seconds; below that a renewal is hardly answered before the next is due."""

_PARTS: Final = 3
_FIRST_REST: Final = 0.02
_LONGEST_REST: Final = 1.0
_LEAST: Final = 1.0
"""Seconds that an attempt has at least, also where nobody wants to wait for others."""
_SHORTEST: Final = 0.001
_FENCE: Final = b"\0token"
_NAMED: Final = b"\0"

RANDOM: Final = SystemRandom()

TIMEOUT: Final = 5.0
"""Seconds that a command may take where nothing else bounds it."""

_POLL: Final = 0.05

R = TypeVar("R")
H = TypeVar("H")


class Ask(NamedTuple):
    """A command to execute, and how many seconds that may take."""

    operation: Op
    timeout: float


class AskAll(NamedTuple):
    """Commands to send together, each standing for itself, and how many seconds that may take."""

    operations: list[Op]
    timeout: float


Flow: TypeAlias = Generator["Ask | AskAll | float", Any, R]
Clock: TypeAlias = Callable[[], float]


def clock() -> float:
    """Seconds that go on while the machine sleeps, where there is such a clock."""
    return time.clock_gettime(_BOOT) if _BOOT is not None else time.monotonic()


_BOOT: Final = getattr(time, "CLOCK_BOOTTIME", None)


class Holding:
    """A value that ends, and is kept from ending, by one who may lose it.

    `token` grows with every acquisition of the key, and is 0 where none was asked for; a renewal is `due` some time
    before the value may end.
    """

    def __init__(self, key: bytes, value: bytes, ttl: float, now: Clock = clock) -> None:
        self.key = key
        self.value = value
        self.ttl = ttl
        self.token = 0
        self._process = os.getpid()
        self._is_over = False
        self.now = now
        self._until = 0.0
        self.due = 0.0

    @property
    def is_held(self) -> bool:
        """Whether nobody else can have taken it yet, by this clock; never in a process that was forked since."""
        return not self._is_over and self.now() < self._until and self.is_own

    @property
    def is_own(self) -> bool:
        """Whether this is the process that took it."""
        return os.getpid() == self._process

    @property
    def left(self) -> float:
        """For how many seconds more it is held if nothing more is heard."""
        return max(0.0, self._until - self.now())

    def began(self, sent: float) -> None:
        """The value was given its time by a command that was sent then, and answered; what is over stays over."""
        self.due = sent + self.ttl / _PARTS
        self._until = sent + self.ttl * (1 - MARGIN)

    def end(self) -> None:
        """It is over for good: a renewal that is under way may be answered still, after the key was let go or lost."""
        self._is_over = True

    # -- calls ---------------------------------------------------------------------------------------------

    def acquire(self, random: Random, patience: float | None, timeout: float) -> Flow[bool]:
        """Take the lock as soon as nobody has it; False if that takes longer than `patience`, None: for ever.

        An attempt without an answer may have taken it, or may do so still. So the next one asks whether it has; and
        who gives up asks for it to be let go, once. If that gets nowhere either, the value ends by itself.
        """
        begun = self.now()
        rest, unsure = _FIRST_REST, False
        while True:
            for operation in (self._claim(), self._take()) if unsure else (self._take(),):
                left = timeout if patience is None else max(begun + patience - self.now(), _LEAST)
                sent = self.now()
                try:
                    results = yield Ask(operation, min(timeout, left))
                except MultiAborted:
                    continue
                except (Refused, Closed):
                    raise
                except ClientError as error:
                    unsure = unsure or error.may_have_executed
                    break
                self.began(sent)
                if self.is_held:
                    self.token = results[-1]
                    return True
                unsure = True  # it took so long that it is over, or nearly
            pause = rest * random.uniform(0.5, 1.0)
            if patience is not None and self.now() + pause > begun + patience:
                if unsure:
                    yield from self.release(min(timeout, self.ttl))
                return False
            yield pause
            rest = min(2 * rest, _LONGEST_REST, self.ttl / _PARTS)

    def release(self, timeout: float) -> Flow[bool]:
        """Let it go, so that others need not wait; whether it was still held."""
        self.end()
        try:
            yield Ask(Op.multi([self._is_ours(), Op.delete(self.key)]), timeout)
        except MultiAborted:
            return False
        except ClientError:
            return False
        return True

    def beginning(self) -> Op:
        """What sets the value if there is none, and gives it its time."""
        return Op.multi([Op.cas(self.key, None, self.value), Op.expire(self.key, self.ttl)])

    def renewal(self) -> Op:
        """What gives the value its time anew, if it stands."""
        return Op.multi([self._is_ours(), Op.expire(self.key, self.ttl)])

    def _take(self) -> Op:
        taken = [Op.cas(self.key, None, self.value), Op.expire(self.key, self.ttl)]
        return Op.multi([*taken, Op.increment(fence_of(self.key))])

    def _claim(self) -> Op:
        """While the value is ours nobody else has counted up since it was taken."""
        return Op.multi([self._is_ours(), Op.expire(self.key, self.ttl), Op.increment(fence_of(self.key), 0)])

    def _is_ours(self) -> Op:
        return Op.cas(self.key, self.value, self.value)


class Kept:
    """What a holder may ask of a value that is kept for it, without asking the store."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding

    @property
    def key(self) -> bytes:
        """Of what."""
        return self._holding.key

    @property
    def token(self) -> int:
        """Grows with every acquisition of the key: whoever takes orders from holders turns away a lower one."""
        return self._holding.token

    @property
    def is_held(self) -> bool:
        """Whether nobody else can have taken it yet."""
        return self._holding.is_held

    def check(self) -> None:
        """See that it is held.

        Raises:
            LeaseLost: it is not any more.
        """
        if not self.is_held:
            raise LeaseLost(f"{self.key!r} is not held any more")


def keep(holdings: Callable[[], list[Holding]], now: Clock = clock) -> Flow[None]:
    """Renew what is held, in turns, while there is something; the driver sees between two steps what is lost."""
    while held := holdings():
        yield max(0.0, min(one.due for one in held) - now())
        sent = now()
        due = [one for one in holdings() if one.due <= sent and one.is_held]
        if not due:
            continue
        left = max(_SHORTEST, min(one.left for one in due))
        try:
            results = yield AskAll([one.renewal() for one in due], left)
            errors = [result.error for result in results]
        except ClientError as failure:
            errors = [failure] * len(due)
        for one, error in zip(due, errors, strict=True):
            if error is None:
                one.began(sent)
            elif isinstance(error, MultiAborted | Closed):
                one.end()
            else:
                one.due = now() + min(one.left, one.ttl / _PARTS / _PARTS)


def fence_of(key: bytes) -> bytes:
    """Where the tokens of a lock are counted: beside it, since they outlive it."""
    return key + _FENCE


def named(holder: bytes, random: Random) -> bytes:
    """The value of a lock: who has it, and what no other attempt has."""
    return holder + _NAMED + b"%016x" % random.getrandbits(64)


def holder_of(value: bytes | None) -> bytes | None:
    """Who has the lock whose value this is."""
    return None if value is None else value.rpartition(_NAMED)[0]


def whoami() -> bytes:
    """What people find as the holder of a lock."""
    return f"{socket.gethostname()}:{os.getpid()}".encode()


def told_lost(key: bytes) -> None:
    """Say that something is lost."""
    LOG.warning("%r is lost: it could not be renewed in time, or another value stands", key)


def told(on_lost: Callable[[H], None] | None, held: H) -> None:
    """Tell who wanted to know that something is lost; what comes of that is no matter of what else is held."""
    if on_lost is not None:
        try:
            on_lost(held)
        except Exception:  # noqa: BLE001 - it is a program's own, of which nothing is known
            LOG.exception("the on_lost of %r failed", on_lost)


def check_ttl(ttl: float) -> float:
    """A time that a lease can be kept for.

    Raises:
        Refused: it is too short.
    """
    if ttl < LEAST_TTL:
        raise Refused(f"ttl is {ttl} s; allowed: at least {LEAST_TTL}")
    return ttl


class Meeting:
    """A barrier: a number that all who come count up, and wait until it is a multiple of how many they are."""

    def __init__(self, key: bytes, parties: int, now: Clock = clock) -> None:
        if parties < 1:
            raise Refused(f"parties is {parties}; allowed: at least 1")
        self._key = Op.get(key).key
        self._parties = parties
        self._now = now

    def wait(self, patience: float | None, timeout: float) -> Flow[None]:
        """Come, and wait until all of the round have.

        Raises:
            TimeoutError: they did not come in time, and this one is not counted any more.
            ClientError: there was no answer; this one may be counted.
        """
        until = None if patience is None else self._now() + patience
        number = yield Ask(Op.increment(self._key), timeout)
        complete = -(-number // self._parties) * self._parties
        while True:
            found = yield Ask(Op.get(self._key), timeout)
            if int(found or 0) >= complete:
                return
            if until is None or self._now() < until:
                yield _POLL
                continue
            fewer = None if found is None else b"%d" % (int(found) - 1)
            left = yield Ask(Op.cas(self._key, found, fewer), timeout)
            if left:
                raise TimeoutError(f"not all of {self._parties} came to {self._key!r}")
