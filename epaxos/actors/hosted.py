"""Actors that live in another actor's thread.

A Remote owns a socket but needs no thread of its own: a hand-over to it would cost more than what it does.
It is a pykka actor all the same, with a reference, `tell`, `ask` and a life cycle; only its loop is run by
its host, between the host's own messages. The host itself calls its methods: a message takes half a µs more.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pykka


class HostedInbox:
    """A pykka inbox whose messages are handled when the host comes round; `wake` brings it round."""

    def __init__(self) -> None:
        self.envelopes: deque[Any] = deque()
        self.wake: Callable[[], None] | None = None
        self._host = threading.get_ident()

    def put(self, envelope: Any, /) -> None:
        """Add a message, from any thread; the host's own needs no waking."""
        self.envelopes.append(envelope)
        if self.wake is not None and threading.get_ident() != self._host:
            self.wake()

    def get(self) -> Any:
        """The next message; only called when there is one."""
        return self.envelopes.popleft()

    def empty(self) -> bool:
        """Whether no message waits."""
        return not self.envelopes


class HostedActor(pykka.Actor):
    """An actor without a thread; `start` must be called in the host's thread.

    An exception in its message handler is not swallowed but goes through to the host, unless somebody waits
    for the answer: host and hosted live and die together.
    """

    actor_inbox: HostedInbox

    @staticmethod
    def _create_actor_inbox() -> HostedInbox:
        return HostedInbox()

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return pykka.ThreadingFuture()

    def _start_actor_loop(self) -> None:
        self.on_start()

    def begin(self, wake: Callable[[], None]) -> None:
        """Start this actor in the host's thread; `wake` is called when another thread tells it something.

        What `Actor.start` does, for an object that the host has made: the host calls it directly too.
        """
        self.actor_inbox.wake = wake
        pykka.ActorRegistry.register(self.actor_ref)
        self._start_actor_loop()

    def end(self) -> None:
        """Stop this actor, in the host's thread."""
        if not self.actor_stopped.is_set():
            self._stop()

    def run_waiting(self) -> None:
        """Handle every message that waits; called by the host, in its thread."""
        while not self.actor_inbox.empty() and not self.actor_stopped.is_set():
            envelope = self.actor_inbox.get()
            try:
                answer = self._handle_receive(envelope.message)
            except Exception:
                if envelope.reply_to is None:
                    raise
                envelope.reply_to.set_exception()
            else:
                if envelope.reply_to is not None:
                    envelope.reply_to.set(answer)
