"""Values that end, and locks, beside the rest of the load: what is said of both is judged as it happens.

**Values that end** (protocol 4.14). Each client gives values under keys of its own and lets some of them last longer;
all read them, by themselves and in lists. None may have gone before its time has passed since the last command that
gave it time was *asked*. Seen it may be for as long after that was *answered*, and for `late` seconds more, which a
replica may take to notice. Replicas that were started, stood still or were cut off begin to count anew, so that time is
counted from when one of those that are healthy has been so. What has gone does not come back, and in the end all has.

**Locks**. While one holder's `is_held` is true, no other has the lock, and no later one has written where tokens are
compared. Tokens grow: who asks after another one has been answered gets a higher one. Some holders die with the lock.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import inf
from random import Random
from typing import Any, Final, Protocol

from chaos.ledger import SHOWN
from epaxos.client.asynchronous import AsyncClient
from epaxos.client.commands import Op
from epaxos.client.recipes.asynchronous import AsyncHeld
from epaxos.client.results import MultiAborted, Page
from epaxos.errors import ClientError

HEAD: Final = b"ends."
LOCKS: Final = (b"locks.0", b"locks.1")
LONGEST: Final = 3.0
"""Values and locks last for so many time-outs at most; and"""

SHORTEST: Final = 0.5
"""for so many at least."""

_KEPT: Final = 10.0
"""Seconds for which a value is remembered that has gone: it might come back."""

_DEATHS: Final = 0.2
"""The part of a lock's holders who die with it."""

_STEPS: Final = (3, 1, 5, 1)
"""How often a client gives a value, gives it more time, reads one, and lists them."""

_POLL: Final = 0.02


@dataclass(slots=True)
class _Life:
    """A value: it was there at `born`, and got `ttl` seconds by what was asked at `asked` and answered at `given`.

    It was missed at `gone`. Commands that give it time are `open` until they are answered: each with when it would end.
    """

    value: bytes
    ttl: float
    asked: float
    born: float
    given: float
    open: list[float] = field(default_factory=list)
    gone: float = inf

    @property
    def sure(self) -> float:
        """Until when it has not gone."""
        return min([self.asked + self.ttl, *self.open])


class Endings:
    """What is known of values that end; times are seconds on the clock of the program that asks."""

    def __init__(self, late: float) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._late = late
        self._lives: dict[bytes, _Life] = {}

    @property
    def keys(self) -> list[bytes]:
        """Keys that had values of late."""
        return list(self._lives)

    def given(self, key: bytes, value: bytes, ttl: float, asked: float, answered: float) -> None:
        """A key that had none has a value."""
        self.counts["given"] += 1
        self._lives[key] = _Life(value, ttl, asked, answered, answered)
        lives = self._lives.items()
        for old in [old for old, life in lives if life.gone + _KEPT < answered and not life.open]:
            del self._lives[old]

    def renewing(self, key: bytes, ttl: float, asked: float) -> None:
        """A value is given time anew, more or less; what comes of it is not known yet, or will never be."""
        self._lives[key].open.append(asked + ttl)

    def renewed(self, key: bytes, ttl: float, asked: float, answered: float, *, found: bool) -> None:
        """It was, or was not there any more."""
        life = self._lives[key]
        life.open.remove(asked + ttl)
        if not found:
            self._missed(key, life, answered)
        elif life.gone < asked:
            self._say(f"{_text(key)} came back: renewed, asked {asked - life.gone:.3f} s after it had gone")
        else:
            self.counts["renewed"] += 1
            life.ttl, life.asked, life.given = ttl, asked, answered

    def read(
        self, key: bytes, value: bytes | None, asked: float, answered: float, healthy: Sequence[float]
    ) -> None:
        """A key was read; `healthy` are the times since which replicas have been, without a break."""
        life = self._lives.get(key)
        if life is None or (value is None and asked < life.born):
            return
        self.counts["read"] += 1
        if value is None:
            self._missed(key, life, answered)
            return
        if value != life.value:
            self._say(f"{_text(key)} is {value!r}, which is not what it was given: {life.value!r}")
        if life.gone < asked:
            self._say(f"{_text(key)} came back: seen, asked {asked - life.gone:.3f} s after it had gone")
        counted = min((max(life.given, since) for since in healthy), default=inf)
        late = asked - counted - life.ttl
        if late > self._late and not life.open:
            self._say(f"{_text(key)} is seen {late:.3f} s after its end; allowed: {self._late:g}")

    def listed(
        self, page: Page[bytes], after: bytes | None, asked: float, answered: float, healthy: Sequence[float]
    ) -> None:
        """Keys were listed from `after` on; what is in the page was seen, what could be and is not was missed."""
        found = dict(page.items)
        for key in self.keys:
            if (after is None or key > after) and (not page.more or key <= page.keys[-1]):
                self.read(key, found.get(key), asked, answered, healthy)

    def left(self, number: int) -> None:
        """So many have not gone, long after the last was given."""
        if number:
            self._say(f"{number} values are still there in the end")

    def _missed(self, key: bytes, life: _Life, answered: float) -> None:
        if answered < life.sure:
            self._say(f"{_text(key)} has gone {life.sure - answered:.3f} s before its time")
        if life.gone == inf:
            self.counts["gone"] += 1
        life.gone = min(life.gone, answered)

    def _say(self, text: str) -> None:
        if len(self.wrong) < SHOWN:
            self.wrong.append(text)


class Tenure(Protocol):
    """What a holder has of a lock."""

    @property
    def is_held(self) -> bool:
        """Whether it may believe that it has it."""

    @property
    def token(self) -> int:
        """Grows from holder to holder."""


class Holders:
    """Who holds which lock."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._holding: dict[bytes, dict[int, Tenure]] = {}
        self._tokens: dict[bytes, int] = {}

    def token(self, lock: bytes) -> int:
        """The highest that anybody was given so far."""
        return self._tokens.get(lock, 0)

    def took(self, lock: bytes, holder: int, tenure: Tenure, before: int) -> None:
        """One has it now; `before` is the highest token that was known when it asked."""
        self.counts["taken"] += 1
        known = self._holding.get(lock, {}).items()
        holding = self._holding[lock] = {other: held for other, held in known if held.is_held}
        if not tenure.is_held:
            self.counts["too late"] += 1  # between the answer and now
        elif holding:
            self._say(f"{_text(lock)} is held by {holder} while {list(holding)} have it too")
        if tenure.token <= before:
            self._say(f"{_text(lock)} has token {tenure.token} after {before}")
        self._tokens[lock] = max(self.token(lock), tenure.token)
        holding[holder] = tenure

    def overtaken(self, lock: bytes, holder: int, tenure: Tenure, token: int) -> None:
        """A later one's token was found; `tenure` has been asked for after that."""
        if token > tenure.token and tenure.is_held:
            self._say(f"{_text(lock)} is held by {holder} with token {tenure.token} after one with {token}")

    def left(self, lock: bytes, holder: int, kind: str) -> None:
        """One lets it go, has lost it, or has `died`: then nobody else may have it before its time is over."""
        self.counts[kind] += 1
        if kind != "died":
            self._holding[lock].pop(holder, None)

    def _say(self, text: str) -> None:
        if len(self.wrong) < SHOWN:
            self.wrong.append(text)


class Giver:
    """A client that gives values which end, and reads those of all.

    `timeout` is the replicas'; `healthy` tells since when those have been that are.
    """

    def __init__(
        self,
        client: AsyncClient,
        number: int,
        chance: Random,
        endings: Endings,
        timeout: float,
        healthy: Callable[[], Sequence[float]],
    ) -> None:
        self._client = client
        self._head = HEAD + b"%d." % number
        self._chance = chance
        self._serials = count(1)
        self._endings = endings
        self._timeout = timeout
        self._healthy = healthy

    async def step(self) -> None:
        """Ask one thing.

        Raises:
            ClientError: there was no answer.
        """
        keys = self._endings.keys
        steps = (self._give, self._renew, self._read, self._list)
        if not keys:
            await self._give(keys)
        else:
            (step,) = self._chance.choices(steps, _STEPS)
            await step(keys)

    async def _give(self, _keys: Sequence[bytes]) -> None:
        key = self._head + b"%d" % next(self._serials)
        ttl, asked = self._ttl(), _now()
        await self._client.put(key, key[::-1], ttl=ttl)
        self._endings.given(key, key[::-1], ttl, asked, _now())

    async def _renew(self, keys: Sequence[bytes]) -> None:
        own = [key for key in keys if key.startswith(self._head)]
        if not own:
            return
        key, ttl, asked = self._chance.choice(own), self._ttl(), _now()
        self._endings.renewing(key, ttl, asked)
        found = await self._client.expire(key, ttl)
        self._endings.renewed(key, ttl, asked, _now(), found=found)

    async def _read(self, keys: Sequence[bytes]) -> None:
        key, asked = self._chance.choice(keys), _now()
        value = await self._client.get(key, reads=self._chance.choice(("log", "quorum")))
        self._endings.read(key, value, asked, _now(), self._healthy())

    async def _list(self, keys: Sequence[bytes]) -> None:
        after, limit = self._chance.choice((None, *keys)), self._chance.choice((5, 1000))
        asked = _now()
        page = await self._client.scan(HEAD, after, limit)
        self._endings.listed(page, after, asked, _now(), self._healthy())

    def _ttl(self) -> float:
        return round(self._timeout * self._chance.uniform(SHORTEST, LONGEST), 3)


async def hold(
    client: AsyncClient[Any],
    number: int,
    holders: Holders,
    patience: float,
    chance: Random,
    over: asyncio.Event,
) -> bool:
    """Take a lock within `patience`, have it for a while, and write with its token.

    Returns whether to go on; else the holder dies with it.
    """
    lock = chance.choice(LOCKS)
    before = holders.token(lock)
    try:
        held = await client.lock(lock, ttl=patience * LONGEST).acquire(timeout=patience)
    except ClientError:
        return True
    if held is None:
        return True
    holders.took(lock, number, held, before)
    until = _now() + patience * chance.uniform(0, LONGEST)
    while held.is_held and _now() < until and not over.is_set():
        await _write(client, lock, number, held, holders)
        await asyncio.sleep(_POLL)
    if not held.is_held:
        holders.left(lock, number, "lost")
    elif chance.random() < _DEATHS:
        holders.left(lock, number, "died")
        return False
    else:
        holders.left(lock, number, "let go")
        await held.release()
    return True


async def _write(
    client: AsyncClient[Any], lock: bytes, number: int, held: AsyncHeld, holders: Holders
) -> None:
    """Write what a later holder would not let one write."""
    fence = lock + b".fence"
    try:
        seen = await client.get(fence)
        holders.overtaken(lock, number, held, int(seen or 0))
        if int(seen or 0) > held.token:
            return
        await client.multi([Op.cas(fence, seen, b"%d" % held.token), Op.put(lock + b".work", b"%d" % number)])
        holders.counts["written"] += 1
    except MultiAborted:
        holders.counts["turned away"] += 1
    except ClientError:
        holders.counts["unanswered"] += 1


def _now() -> float:
    return asyncio.get_running_loop().time()


def _text(key: bytes) -> str:
    return key.decode()
