"""Serve one replica with its Replica's thread under cProfile, and print where its time went when it is told to stop.

    benchmarks/run profiled -c conf/local.toml -n alpha      in the place of `epaxos serve` of that name

The profiler makes each call three times as dear, so shares count, not times; and the replica falls behind its peers,
which makes its rounds larger. A single client (`epaxos bench --closed --clients 1 --replicas alpha`) keeps them as they
are.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Sequence
from typing import Final
from unittest import mock

from epaxos.actors import process
from epaxos.actors.replica import Replica
from epaxos.config import load_config
from epaxos.web import open_pages

LINES: Final = 60


class Profiled(Replica):
    """A Replica whose loop is profiled, by the CPU of its thread."""

    profile = cProfile.Profile(time.thread_time)

    def _actor_loop(self) -> None:
        self.profile.enable()
        try:
            super()._actor_loop()
        finally:
            self.profile.disable()


def main(argv: Sequence[str]) -> int:
    """Serve until told to stop, then print."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/run profiled",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-c", "--config", required=True)
    parser.add_argument("-n", "--name", required=True)
    given = parser.parse_args(argv)
    with mock.patch.object(process, "Replica", Profiled):
        code = process.run_replica(load_config(given.config), given.name, open_pages)
    pstats.Stats(Profiled.profile).strip_dirs().sort_stats("cumulative").print_stats(LINES)
    return code
