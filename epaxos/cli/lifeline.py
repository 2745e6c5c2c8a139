"""A process that ends with the one that started it, also when that is killed with SIGKILL.

The starter holds the writing end of a pipe that is our standard input, and never writes. However the starter
ends, the system closes its end, and we notice. Linux's parent-death signal would serve too, but it exists on
Linux alone, misses a starter that ended before it was asked for, and comes when the thread that started us
ends, which may be before its process does.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Final

STDIN: Final = 0


def stop_when_input_ends(grace: float) -> None:
    """Send SIGTERM to this process when its standard input ends, and end it if it still runs `grace` s later.

    SIGTERM still has its default effect while the program has set no handler, so there is no gap.
    """
    thread = threading.Thread(target=_watch, args=(STDIN, grace), name="lifeline", daemon=True)
    thread.start()


def _watch(descriptor: int, grace: float) -> None:
    wait_for_end(descriptor)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_end(descriptor: int) -> None:
    """Read until there is nothing more to come; an input that cannot be read has ended too."""
    try:
        while os.read(descriptor, 4096):
            pass
    except OSError:
        return
