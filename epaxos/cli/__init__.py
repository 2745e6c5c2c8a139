"""The `epaxos` command, a module a sub-command.

Before anything else is imported, which takes a while, the signals by which operators look into a replica lose
their power to kill it: SIGUSR1 shows on stderr what all threads are at, and SIGUSR2 waits for its meaning
(`epaxos.cli.logs`).
"""

from __future__ import annotations

import faulthandler
import signal
from contextlib import suppress
from typing import Final

_STDERR: Final = 2


def _show_threads(*_: object) -> None:
    """Unlike `faulthandler.register`, which crashes when a thread goes on while it is looked at: none does here."""
    faulthandler.dump_traceback(_STDERR)


with suppress(ValueError):  # only the main thread may say so
    signal.signal(signal.SIGUSR1, _show_threads)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
