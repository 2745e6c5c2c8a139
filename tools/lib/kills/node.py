"""A node that can be killed: what one of `epaxos registers serve` is, without what is only for people."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from typing import Any, Final

from epaxos.registers import EngineStore, Node, Transport
from epaxos.registers.http import HttpServer, HttpTransport
from epaxos.registers.zeromq import ZeroMqServer, ZeroMqTransport

ACCEPTORS: Final = (0, 1, 2)
SERVERS: Final[Mapping[str, Any]] = {"http": HttpServer, "zeromq": ZeroMqServer}
TRANSPORTS: Final[Mapping[str, Any]] = {"http": HttpTransport, "zeromq": ZeroMqTransport}


def run_node(id_: int, directory: str, addresses: Mapping[int, tuple[str, int]], transport: str) -> None:
    """Run one, until it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    way: Transport = TRANSPORTS[transport](addresses)
    with Node(id_, EngineStore(directory, id_), way) as node:
        node.connect(*ACCEPTORS)
        with SERVERS[transport](node, *addresses[id_]):
            threading.Event().wait()
