"""Watching keys over HTTP: server-sent events, which a browser or `curl -N` reads and takes up again.

An event's id is the position after it: what `since` takes, and a reader that lost its connection sends by itself, as
Last-Event-ID, to this replica or another one.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from epaxos.client.watch import WAIT, Changed, Following, Reset, Synced
from epaxos.errors import ClientError, Compacted, Denied, NoAnswer
from epaxos.security.tokens import rights_now
from epaxos.watching.position import Position
from epaxos.web.api.store import Store
from epaxos.web.api.values import tell_bytes
from epaxos.web.server import connection_of

_log = logging.getLogger(__name__)

_SENDING: Final = 30.0
"""Seconds for events to leave; who reads more slowly is cut, and may go on from what it has read."""

_QUIET: Final = 15
"""Answers without news after which the position is told, and with it that the connection lives."""


class Watch:
    """One watch at this replica."""

    def __init__(self, store: Store, prefix: bytes, since: Position | None, *, state: bool) -> None:
        self._store = store
        self.following = Following(prefix, since, state=state, count=1, share=0.0)

    async def ask(self, wait: float = WAIT) -> list[Changed[bytes] | Reset | Synced]:
        """What there is to tell, perhaps nothing, in about so many seconds.

        Raises:
            Compacted: this replica has not kept what has changed since the position.
            NoAnswer, Refused: it does not tell, or not this.
        """
        poll = self.following.poll(wait)
        answer = await self._store.told(**poll.asked)
        told = answer.get("watch", {})
        if "away" in told or "busy" in told:
            raise NoAnswer(str(told.get("away") or told["busy"]))
        if "compacted" in told:
            raise Compacted("this replica has not kept all that has changed since the position")
        return self.following.take(answer)


class Events(Response):
    """What a watch tells, for as long as it is read and who asked may have it; `first` has come before."""

    def __init__(self, watch: Watch, first: Iterable[Changed[bytes] | Reset | Synced]) -> None:
        super().__init__(None, 200, {"Cache-Control": "no-store"}, "text/event-stream")
        self._watch = watch
        self._first = list(first)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them until somebody ends it."""
        headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        gone = asyncio.create_task(_gone(receive))
        try:
            await self._send(scope, send, self._texts(self._first) or self._place())
            quiet = 0
            while not gone.done():
                rights = rights_now(scope)
                if rights is None:
                    break
                rights.check_question({"watch": {"prefix": self._watch.following.prefix}})
                events = await self._watch.ask()
                quiet = 0 if events else quiet + 1
                if events or quiet >= _QUIET:
                    quiet = 0
                    await self._send(scope, send, self._texts(events) or self._place())
        except Compacted as error:
            await self._send(scope, send, _event("compacted", {"detail": str(error)}))
        except (ClientError, Denied, TimeoutError) as error:
            _log.info("a watch over HTTP has ended: %s", error)
        finally:
            gone.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _place(self) -> str:
        place = self._watch.following.place
        return ":\n\n" if place is None else f"id: {place}\n\n"

    @staticmethod
    def _texts(events: Iterable[Changed[bytes] | Reset | Synced]) -> str:
        return "".join(_as_text(events))

    @staticmethod
    async def _send(scope: Scope, send: Send, text: str) -> None:
        connection = connection_of(scope)
        if connection is not None:
            connection.cut_after(_SENDING)
        async with asyncio.timeout(_SENDING):
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _gone(receive: Receive) -> None:
    """Until who asked has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _as_text(events: Iterable[Changed[bytes] | Reset | Synced]) -> Iterator[str]:
    for event in events:
        if isinstance(event, Reset):
            yield _event("reset", {})
        elif isinstance(event, Synced):
            yield _event("synced", {}, event.position)
        else:
            value = None if event.value is None else tell_bytes(event.value)
            yield _event("change", {"key": tell_bytes(event.key), "value": value}, event.position)


def _event(kind: str, told: dict[str, Any], position: Position | None = None) -> str:
    place = "" if position is None else f"id: {position}\n"
    return f"{place}event: {kind}\ndata: {json.dumps(told)}\n\n"
