"""Watching keys: what a watch yields, and how it goes on from replica to replica.

A watch asks a replica what comes after its position, which waits until there is something (docs/watch.md). `Following`
has no clock, thread or socket: what to ask next, and what an answer, or none, means. `Watch` and `AsyncWatch` carry its
questions.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Self, TypeAlias

from epaxos.client.codecs import Codec, V
from epaxos.client.commands import as_bytes
from epaxos.client.drivers.calls import Ask
from epaxos.client.drivers.threads import ThreadsDriver
from epaxos.client.options import Options, check_timeout
from epaxos.errors import Closed, Compacted, NoAnswer, Refused
from epaxos.watching.position import Position, parse_position, read_position

if TYPE_CHECKING:  # whoever blocks does not pay for asyncio
    from epaxos.client.drivers.loop import LoopDriver

WAIT: Final = 1.0
"""Seconds for which a question waits at a replica."""

_MOST: Final = 256 * 1024  # bytes that are asked for at a time
_REST: Final = 0.1  # seconds until the next tour, where no replica was of use


@dataclass(frozen=True, slots=True)
class Changed(Generic[V]):
    """A key has been given a value, or with None has gone; or, before `Synced`, has the value.

    position  from where a watch goes on after this; None while the state is not complete
    """

    key: bytes
    value: V | None
    position: Position | None


@dataclass(frozen=True, slots=True)
class Reset:
    """What follows is the state as it stands, of all keys: forget what there was. At the beginning, and after a gap."""


@dataclass(frozen=True, slots=True)
class Synced:
    """The state is complete; what follows are changes after this position."""

    position: Position


Event: TypeAlias = "Changed[V] | Reset | Synced"
"""What a watch yields; without `state`, nothing but changes."""


class Poll(NamedTuple):
    """What to ask: which replica (None: the one in use), for what, and seconds to wait for an answer."""

    replica: int | None
    asked: dict[str, Any]
    timeout: float


class Following:
    """One watch of keys that begin with a prefix, at one of some replicas; times are those of any one clock.

    replicas  whom to ask, in turn: `count` of them, unless others are there by then
    position  of what has been taken
    resumes   how often it went on at another replica, or after a silence
    gaps      how often no replica had all that had changed, so that the state was told anew
    rest      seconds to wait before asking again
    """

    def __init__(
        self, prefix: bytes, since: Position | None, *, state: bool, count: int, share: float
    ) -> None:
        self.prefix = prefix
        self.position = since
        self.resumes = self.gaps = 0
        self.rest = 0.0
        self._state = state
        self._told: bytes | None = None  # the last key of the state that was told
        self._whole = not state or since is not None
        self._begins = not self._whole
        self._cursor: list[int] | None = None
        self.replicas: Sequence[int] = range(count)
        self._share = share
        self._at: int | None = None
        self._tour = 0
        self._tried: set[int] = set()
        self._compacted = False
        self._answered = False

    @property
    def place(self) -> Position | None:
        """From where another watch goes on; None while the state is not complete."""
        return self.position if self._whole else None

    def poll(self, wait: float) -> Poll:
        """What to ask next."""
        asked = {
            "prefix": self.prefix,
            "since": None if self.position is None else self.position.as_fields(),
            "cursor": self._cursor,
            "state": not self._whole,
            "after": None if self._begins else self._told,
            "wait": round(1000 * wait),
            "most": _MOST,
        }
        return Poll(self._at, {"watch": asked}, wait + self._share)

    def silent(self) -> None:
        """There was no answer.

        Raises:
            Compacted: nor has any other replica kept what has changed since the position.
        """
        self._turn_to_next()

    def _turn_to_next(self) -> None:
        self._go_on()
        if self._compacted and self._tried.issuperset(self.replicas):
            self._begin_anew()

    def _go_on(self) -> None:
        """Ask the next replica, from the position alone; after all of them, with a rest."""
        self._cursor = None
        if self._at is not None:
            self._tried.add(self._at)
        replicas = self.replicas
        place = replicas.index(self._at) + 1 if self._at is not None and self._at in replicas else 0
        self._at = replicas[place % len(replicas)]
        self._tour += 1
        self.resumes += self._answered
        self._answered = False
        self.rest = 0.0 if self._tour % len(replicas) else _REST

    def take(self, status: dict[str, Any]) -> list[Changed[bytes] | Reset | Synced]:
        """What an answer tells.

        Raises:
            Refused: the watch is not allowed.
            Compacted: no replica has kept what has changed since the position.
        """
        told = status.get("watch")
        if not isinstance(told, dict) or "invalid" in told:
            reason = status.get("denied") or (told or {}).get("invalid") or "the replica knows of no watching"
            raise Refused(str(reason))
        if "position" in told:
            return self._take_changes(told)
        self._compacted |= "compacted" in told
        self._turn_to_next()
        return []

    def _begin_anew(self) -> None:
        self._forget_tour()
        if not self._state:
            raise Compacted("no replica has kept all that has changed since the position of the watch")
        if self._begins:
            # With the state a position only says what is too old. One that is refused even so is of a beginning that
            # has come to nothing: told by a replica that did not know yet that its disk is lost.
            self.position = None
        else:
            self.gaps += 1
        self.rest = 0.0
        self._whole, self._begins, self._told = False, True, None

    def _forget_tour(self) -> None:
        self._tour, self._compacted = 0, False
        self._tried.clear()

    def _take_changes(self, told: dict[str, Any]) -> list[Changed[bytes] | Reset | Synced]:
        self._forget_tour()
        self._answered, self.rest = True, 0.0
        before, self.position = self.position, read_position(told["position"])
        self._cursor = told["cursor"]
        events: list[Changed[bytes] | Reset | Synced] = []
        if self._begins:
            events.append(Reset())
            self._begins = False
        pairs = list(zip(told["keys"], told["values"], strict=True))
        # Between two changes of an answer there is no position: whoever goes on there is told the first ones again.
        places = [before] * (len(pairs) - 1) + [self.position] if pairs else []
        if not self._whole:
            places = [None] * len(pairs)
        events += [Changed(*pair, place) for pair, place in zip(pairs, places, strict=True)]
        if told["state"] is not None:
            keys, values, more = told["state"]
            events += [Changed(key, value, None) for key, value in zip(keys, values, strict=True)]
            self._told = keys[-1] if keys else self._told
            if not more:
                self._whole = True
                events.append(Synced(self.position))
        return events


def as_position(since: Position | str | None) -> Position | None:
    """A position, or the text of one.

    Raises:
        TypeError, ValueError: it is none.
    """
    if since is None or isinstance(since, Position):
        return since
    if not isinstance(since, str):
        raise TypeError(f"since must be a position or its text, not {type(since).__name__}")
    return parse_position(since)


class _Base(Generic[V]):
    """What both kinds of watch are."""

    def __init__(
        self,
        options: Options,
        codec: Codec[V] | None,
        prefix: bytes,
        since: Position | str | None,
        *,
        state: bool,
        patience: float | None,
    ) -> None:
        as_bytes("prefix", prefix)
        self._options = options
        self._patience = options.timeout if patience is None else check_timeout(patience)
        share = options.timeout / options.tries
        count = len(options.names)
        self._following = Following(prefix, as_position(since), state=state, count=count, share=share)
        self._read: Callable[[bytes], Any] = bytes if codec is None else codec.read
        self._events: deque[Changed[bytes] | Reset | Synced] = deque()
        self._position = self._following.position
        self._closed = False
        self._silent_since: float | None = None

    @property
    def position(self) -> Position | None:
        """From where another watch would go on with what this one has not yielded; None where none would."""
        return self._position

    @property
    def resumes(self) -> int:
        """How often it went on at another replica."""
        return self._following.resumes

    @property
    def gaps(self) -> int:
        """How often no replica had all that had changed, so that the state was told anew."""
        return self._following.gaps

    def _next(self) -> Event[V] | None:
        """The next of what has been told."""
        if not self._events:
            return None
        event = self._events.popleft()
        if isinstance(event, Reset):
            self._position = None
            return event
        if event.position is not None:
            self._position = event.position
        if isinstance(event, Synced):
            return event
        return Changed(event.key, None if event.value is None else self._read(event.value), event.position)

    def _call(self, now: float, wait: float) -> Ask:
        directory = self._options.directory
        if directory.epoch:
            self._following.replicas = sorted(directory.members)
        poll = self._following.poll(wait)
        return Ask(poll.replica, self._options, now, poll.timeout, poll.asked)

    def _take(self, call: Ask, now: float) -> None:
        """What came of a question; NoAnswer is borne for a while."""
        try:
            status = call.answer()
        except NoAnswer as error:
            self._bear(now, error)
            self._following.silent()
            return
        told = self._following.take(status)
        answer = status["watch"]
        if "position" in answer:
            self._silent_since = None
        else:
            reasons = "; ".join(map(str, answer.values()))
            self._bear(now, NoAnswer(f"no replica tells what changes now: {reasons}"))
        self._events += told
        if not told:
            self._position = self._following.place or self._position

    def _bear(self, now: float, error: NoAnswer) -> None:
        if self._silent_since is None:
            self._silent_since = now
        elif now >= self._silent_since + self._patience:
            self._silent_since = None
            raise error


class Watch(_Base[V], Iterator["Event[V]"]):
    """What changes under keys that begin with a prefix, as an iterator that waits; made by `Client.watch`.

    One thread at a time may use it. After `NoAnswer` it may be gone on with.
    """

    def __init__(self, driver: ThreadsDriver, *arguments: Any, **how: Any) -> None:
        super().__init__(*arguments, **how)
        self._driver = driver
        while not self._events and self._following.position is None:
            self._ask(0.0)

    def __iter__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Yield nothing more. A thread that waits goes on within a second."""
        self._closed = True

    def __next__(self) -> Event[V]:
        try:
            while not self._closed:
                event = self.get(WAIT)
                if event is not None:
                    return event
        except Closed:
            if not self._closed:  # else it was closed while this waited, and then its client
                raise
        raise StopIteration

    def get(self, timeout: float) -> Event[V] | None:
        """The next event, or None if there is none within so many seconds; it may take longer where replicas fail.

        Raises:
            Compacted: no replica has kept what has changed since the position, and the state is not wanted.
            NoAnswer: no replica has told anything for `patience` seconds.
            Refused, Closed: the watch is not allowed; the client is closed.
        """
        until = time.monotonic() + timeout
        while (event := self._next()) is None:
            left = until - time.monotonic()
            if left <= 0 or self._closed:
                return None
            self._ask(min(left, WAIT))
        return event

    def _ask(self, wait: float) -> None:
        if self._following.rest:
            time.sleep(self._following.rest)
        call = self._call(time.monotonic(), wait)
        self._driver.run(call)
        self._take(call, time.monotonic())


class AsyncWatch(_Base[V], AsyncIterator["Event[V]"]):
    """The same for asyncio, made by `AsyncClient.watch`; it begins with `async with`, or with the first event."""

    def __init__(self, driver: LoopDriver, *arguments: Any, **how: Any) -> None:
        super().__init__(*arguments, **how)
        self._driver = driver

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Yield nothing more."""
        self._closed = True

    async def _begin(self) -> None:
        while not self._events and self._following.position is None:
            await self._ask(0.0)

    async def __anext__(self) -> Event[V]:
        try:
            while not self._closed:
                event = await self.get(WAIT)
                if event is not None:
                    return event
        except Closed:
            if not self._closed:  # else it was closed while this waited, and then its client
                raise
        raise StopAsyncIteration

    async def get(self, timeout: float) -> Event[V] | None:  # noqa: ASYNC109 - it returns None then
        """The next event, or None if there is none within so many seconds (see `Watch.get`)."""
        loop = self._driver.enter()
        until = loop.time() + timeout
        await self._begin()
        while (event := self._next()) is None:
            left = until - loop.time()
            if left <= 0 or self._closed:
                return None
            await self._ask(min(left, WAIT))
        return event

    async def _ask(self, wait: float) -> None:
        loop = self._driver.enter()
        if self._following.rest:
            from asyncio import sleep  # noqa: PLC0415 - as above

            await sleep(self._following.rest)
        call = self._call(loop.time(), wait)
        await self._driver.run(call)
        self._take(call, loop.time())
