"""Shows a cluster at work: starts its replicas, benchmarks them, shows their metrics, stops everything.

The replicas begin without data and keep theirs in a temporary directory, whatever the configuration names; it is
gone at the end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from epaxos.config import Config, load_config
from epaxos.errors import ConfigError
from shared.figures import table
from shared.processes import POLL, Children, Interrupted, catch_signals, lifeline, pause
from shared.replicas import (
    EPAXOS,
    ROOT,
    Replica,
    ReplicasError,
    check_alive,
    check_ports,
    notes,
    scrape,
    start,
    stop,
    wait_until_ready,
)

console = Console()


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
    except (ReplicasError, ConfigError) as error:
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
        ReplicasError: a step failed; what was started is stopped.
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


def benchmark(file: str, arguments: Sequence[str], replicas: Sequence[Replica], children: Children) -> None:
    """Run the benchmark to its end; it shows its progress and results itself.

    Raises:
        ReplicasError: it failed, or a replica ended under it.
    """
    process = children.start([EPAXOS, "bench", "--config", file, *arguments])
    while process.poll() is None:
        check_alive(replicas)
        pause(POLL)
    check_alive(replicas)
    if process.returncode != 0:
        raise ReplicasError(f"the benchmark failed with status {process.returncode}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
