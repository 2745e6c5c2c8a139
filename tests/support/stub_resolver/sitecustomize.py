"""A resolver in the hand of a test: host names mean what a JSON file says at the time of asking.

The file has addresses by name; none for a name that does not exist, null for one that no name server ever answers
about. What it does not have goes to the real resolver. Processes with this directory in PYTHONPATH ask the file
that TEST_HOSTS names; a test calls `resolver` for itself.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_real = socket.getaddrinfo


def resolver(hosts: Path) -> Callable[..., list[Any]]:
    """What stands in for `socket.getaddrinfo`."""

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> list[Any]:
        known = json.loads(hosts.read_text())
        if host not in known:
            return _real(host, *arguments, **options)
        if known[host] is None:
            time.sleep(3600)
        if not known[host]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [found for address in known[host] for found in _real(address, *arguments, **options)]

    return getaddrinfo


def _as_told(host: Any, *arguments: Any, **options: Any) -> list[Any]:
    """As the file says that this process is told of now: forks of one process have an environment each."""
    return resolver(Path(os.environ["TEST_HOSTS"]))(host, *arguments, **options)


if "TEST_HOSTS" in os.environ:
    socket.getaddrinfo = _as_told
