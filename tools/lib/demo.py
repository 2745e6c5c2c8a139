"""Shows a cluster at work: starts its replicas, benchmarks them, shows their metrics, stops everything.

The replicas begin without data and keep theirs in a temporary directory, whatever the configuration names; it is
gone at the end.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from epaxos.config import Config, ReplicaAddress, load_config
from epaxos.errors import ConfigError
from figures import Figures, fetch, table
from processes import POLL, Children, Interrupted, catch_signals, lifeline, pause

ROOT = Path(__file__).resolve().parent.parent.parent
EPAXOS = Path(sys.executable).parent / "epaxos"
START_TIMEOUT = 30.0  # seconds until all replicas must have met
TAIL = 20  # lines of a replica's log that are shown when it fails

console = Console()
notes = Console(stderr=True, highlight=False)


class DemoError(Exception):
    """The demo failed; the text says why."""


class Replica(NamedTuple):
    """A replica under way; `log` takes all it prints."""

    address: ReplicaAddress
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL:]
        return "".join(f"\n  {line}" for line in lines)


def main(argv: Sequence[str]) -> int:
    """Run the demo; 0 if all went well, 1 if something failed, 128 + signal if it was interrupted."""
    parser = argparse.ArgumentParser(
        prog="tools/demo",
        usage="%(prog)s [-h] [-c FILE] [option of the benchmark ...]",
        description=__doc__,
        epilog="All other options go to the benchmark, for example --duration 30s --conflicts 10; "
        "see .venv/bin/epaxos bench --help.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        default=str(ROOT / "conf" / "local.toml"),
        help="default: %(default)s",
    )
    arguments, benchmark_arguments = parser.parse_known_args(argv)
    catch_signals()
    try:
        demo(load_config(arguments.config), arguments.config, benchmark_arguments)
    except Interrupted as interruption:
        say_last(f"{interruption}; everything is stopped")
        return interruption.status
    except (DemoError, ConfigError) as error:
        say_last(str(error))
        return 1
    return 0


def say_last(text: str) -> None:
    """Say why the demo ends; the terminal may be gone."""
    with suppress(OSError):
        console.show_cursor()  # a benchmark stopped in the middle of its progress bar leaves it hidden
        notes.print(f"tools/demo: {text}", markup=False, soft_wrap=True)


def demo(config: Config, file: str, benchmark_arguments: Sequence[str]) -> None:
    """Start, benchmark, show, stop.

    Raises:
        DemoError: a step failed; what was started is stopped.
        Interrupted: a signal came; what was started is stopped.
    """
    check_ports(config)
    with (
        tempfile.TemporaryDirectory(prefix="epaxos-demo-") as place,
        lifeline() as line,
        Children() as children,
    ):
        replicas = [start(address, file, Path(place), line, children) for address in config.replicas]
        wait_until_ready(replicas)
        benchmark(file, benchmark_arguments, replicas, children)
        console.print(table({replica.address.name: scrape(replica) for replica in replicas}))
        stop(replicas, children)


def check_ports(config: Config) -> None:
    """Look whether the addresses are free, for a better message than three logs.

    Raises:
        DemoError: one is not.
    """
    for replica in config.replicas:
        for port in (replica.port, replica.client_port, replica.metrics_port):
            try:
                with socket.create_server((replica.host, port)):
                    pass
            except OSError as error:
                reason = str(error.strerror).partition(" (")[0]
                raise DemoError(
                    f"replica {replica.name} of {config.source} cannot listen on {replica.host}:{port}: "
                    f"{reason}; is a cluster running already?"
                ) from error


def start(address: ReplicaAddress, file: str, place: Path, line: int, children: Children) -> Replica:
    """Start one replica as a process of its own; it ends with this program, should that be killed.

    Its log and its data are in `place`.
    """
    log = place / f"{address.name}.log"
    environment = os.environ | {"EPAXOS_STORAGE_DIRECTORY": str(place / "data")}
    command = [str(EPAXOS), "serve", "--config", file, "--name", address.name, "--supervised"]
    with log.open("wb") as output:
        process = children.start(command, output=output, lifeline=line, environment=environment)
    notes.print(
        f"replica {address.name} started, process {process.pid}, clients at {address.client_endpoint}"
    )
    return Replica(address, process, log)


def wait_until_ready(replicas: Sequence[Replica]) -> None:
    """Wait until every replica is healthy and has met all its peers.

    Raises:
        DemoError: a replica ended, or it takes too long.
    """
    deadline = time.monotonic() + START_TIMEOUT
    for replica in replicas:
        while not is_ready(replica, peers=len(replicas) - 1):
            check_alive(replicas)
            if time.monotonic() > deadline:
                raise DemoError(
                    f"replica {replica.address.name} is not ready after {START_TIMEOUT:.0f} s;"
                    f" its log ends with:{replica.tail()}"
                )
            pause(POLL)


def is_ready(replica: Replica, peers: int) -> bool:
    """Whether a replica is healthy and hears that many peers."""
    try:
        fetch(f"{replica.address.host}:{replica.address.metrics_port}/healthz")
        return scrape(replica).total("epaxos_peer_up") == peers
    except (OSError, DemoError):
        return False


def check_alive(replicas: Sequence[Replica]) -> None:
    """Look whether all replicas run.

    Raises:
        DemoError: one has ended.
    """
    for replica in replicas:
        if (status := replica.process.poll()) is not None:
            raise DemoError(
                f"replica {replica.address.name} ended with status {status}; "
                f"its log ends with:{replica.tail()}"
            )


def benchmark(file: str, arguments: Sequence[str], replicas: Sequence[Replica], children: Children) -> None:
    """Run the benchmark to its end; it shows its progress and results itself.

    Raises:
        DemoError: it failed, or a replica ended under it.
    """
    process = children.start([EPAXOS, "bench", "--config", file, *arguments])
    while process.poll() is None:
        check_alive(replicas)
        pause(POLL)
    check_alive(replicas)
    if process.returncode != 0:
        raise DemoError(f"the benchmark failed with status {process.returncode}")


def scrape(replica: Replica) -> Figures:
    """The replica's metrics as they are now.

    Raises:
        DemoError: it does not answer.
    """
    address = f"{replica.address.host}:{replica.address.metrics_port}/metrics"
    try:
        return Figures(fetch(address))
    except OSError as error:
        raise DemoError(f"no metrics from replica {replica.address.name} at {address}: {error}") from error


def stop(replicas: Sequence[Replica], children: Children) -> None:
    """Stop all replicas as an operator would.

    Raises:
        DemoError: one had to be killed or ended with an error.
    """
    failed = children.stop()
    for replica in replicas:
        if replica.process in failed:
            raise DemoError(
                f"replica {replica.address.name} ended with status {replica.process.returncode} when asked "
                f"to stop; its log ends with:{replica.tail()}"
            )
    notes.print("all replicas stopped")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
