"""Telling systemd, or who else starts this process in its way, how it does: sd_notify(3)."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import Final

from epaxos.actors.health import Standing

_log = logging.getLogger(__name__)

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
ALIVE: Final = "WATCHDOG=1"


class Notifier:
    """Tells what `environ` asks for: that the replica listens, that it lives, and that it stops.

    That it lives twice in an interval of the watchdog; nothing where no socket is named.
    """

    def __init__(self, standing: Standing, alive: Callable[[], bool], environ: Mapping[str, str]) -> None:
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._standing = standing
        self._alive = alive
        meant = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environ.get("WATCHDOG_USEC", "") if meant else ""
        self._interval = int(microseconds) / 2e6 if microseconds.isdigit() and int(microseconds) else inf
        self._due = -inf
        self._ready = False

    def beat(self) -> None:
        """To be called some times in an interval of the watchdog, which is not told that it lives while it does not.

        It is ready when it listens: whether it has a quorum depends on others, which may be started after it.
        """
        if not self._ready and self._standing.listening.is_set():
            self._ready = True
            self.tell(READY)
        now = time.monotonic()
        if now >= self._due and self._interval < inf and self._alive():
            self._due = now + self._interval
            self.tell(ALIVE)

    def tell(self, state: str) -> None:
        """Say a line; a manager that does not listen is none of this process' business."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                sending.sendto(state.encode(), self._address)
        except OSError as error:
            _log.warning("cannot tell %s of %s: %s", self._address, state, error)
