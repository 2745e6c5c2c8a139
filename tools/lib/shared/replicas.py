"""The replicas of a configuration as processes of this machine: started, watched and stopped by a tool."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from epaxos.config import Config, ReplicaAddress, place
from epaxos.transport.addresses import family, resolve
from shared.figures import Figures, fetch
from shared.processes import POLL, Children, pause

ROOT = Path(__file__).resolve().parents[3]
EPAXOS = Path(sys.executable).parent / "epaxos"
START_TIMEOUT = 30.0  # seconds until all replicas must have met
TAIL = 20  # lines of a replica's log that are shown when it fails

notes = Console(stderr=True, highlight=False)


class ReplicasError(Exception):
    """The replicas are not as a tool needs them; the text says why."""


class Replica(NamedTuple):
    """A replica under way; `log` takes all it prints."""

    address: ReplicaAddress
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL:]
        return "".join(f"\n  {line}" for line in lines)


def check_ports(config: Config) -> None:
    """Look whether the addresses are free, for a better message than three logs.

    Raises:
        ReplicasError: one is not.
    """
    for replica in config.replicas:
        for port in filter(
            None, (replica.port, replica.client_port, replica.metrics_port, replica.redis_port)
        ):
            try:
                for host in resolve(replica.listens_on):
                    socket.create_server((host, port), family=family(host)).close()
            except OSError as error:
                reason = str(error.strerror).partition(" (")[0]
                raise ReplicasError(
                    f"replica {replica.name} of {config.source} cannot listen on {replica.listens_on}:{port}: "
                    f"{reason}; is a cluster running already?"
                ) from error


def start(address: ReplicaAddress, file: str, directory: Path, line: int, children: Children) -> Replica:
    """Start one replica as a process of its own; it ends with this program, should that be killed.

    Its log and its data are in `directory`.
    """
    log = directory / f"{address.name}.log"
    environment = os.environ | {"EPAXOS_STORAGE_DIRECTORY": str(directory / "data")}
    command = [str(EPAXOS), "serve", "--config", file, "--name", address.name, "--supervised"]
    with log.open("wb") as output:
        process = children.start(command, output=output, lifeline=line, environment=environment)
    notes.print(
        f"replica {address.name} started, process {process.pid}, clients at {address.client_endpoint}"
    )
    return Replica(address, process, log)


def wait_until_ready(replicas: Sequence[Replica], token: str = "") -> None:
    """Wait until every replica is healthy and has met all its peers; pages may ask for a token.

    Raises:
        ReplicasError: a replica ended, or it takes too long.
    """
    deadline = time.monotonic() + START_TIMEOUT
    for replica in replicas:
        while not is_ready(replica, peers=len(replicas) - 1, token=token):
            check_alive(replicas)
            if time.monotonic() > deadline:
                raise ReplicasError(
                    f"replica {replica.address.name} is not ready after {START_TIMEOUT:.0f} s;"
                    f" its log ends with:{replica.tail()}"
                )
            pause(POLL)


def is_ready(replica: Replica, peers: int, token: str = "") -> bool:
    """Whether a replica is healthy and hears that many peers."""
    try:
        fetch(f"{place(replica.address.host, replica.address.metrics_port)}/healthz", token)
        return scrape(replica, token).total("epaxos_peer_up") == peers
    except (OSError, ReplicasError):
        return False


def check_alive(replicas: Sequence[Replica]) -> None:
    """Look whether all replicas run.

    Raises:
        ReplicasError: one has ended.
    """
    for replica in replicas:
        if (status := replica.process.poll()) is not None:
            raise ReplicasError(
                f"replica {replica.address.name} ended with status {status}; "
                f"its log ends with:{replica.tail()}"
            )


def scrape(replica: Replica, token: str = "") -> Figures:
    """The replica's metrics as they are now.

    Raises:
        ReplicasError: it does not answer.
    """
    address = f"{place(replica.address.host, replica.address.metrics_port)}/metrics"
    try:
        return Figures(fetch(address, token))
    except OSError as error:
        raise ReplicasError(
            f"no metrics from replica {replica.address.name} at {address}: {error}"
        ) from error


def stop(replicas: Sequence[Replica], children: Children) -> None:
    """Stop all replicas as an operator would.

    Raises:
        ReplicasError: one had to be killed or ended with an error.
    """
    failed = children.stop()
    for replica in replicas:
        if replica.process in failed:
            raise ReplicasError(
                f"replica {replica.address.name} ended with status {replica.process.returncode} when asked "
                f"to stop; its log ends with:{replica.tail()}"
            )
    notes.print("all replicas stopped")
