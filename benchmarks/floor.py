"""Measure two bare ZeroMQ round trips, the floor under the latency of a command, for some seconds.

Prints one line a second. On a machine that is shared the lines differ; that is why `epaxos bench --floor`
measures it in pauses of the load instead of before or after.
"""

from __future__ import annotations

import sys

from epaxos.bench.floor import Floor
from epaxos.bench.histogram import Latencies


def main(seconds: int) -> None:
    """Print a line for each of so many seconds."""
    print("p50 ms   p99 ms   round trips")
    with Floor() as floor:
        for _ in range(seconds):
            floor.latencies = Latencies()
            floor.measure(1.0)
            summary = floor.latencies.summary()
            print(f"{summary['p50']:6.3f}   {summary['p99']:6.3f}   {floor.latencies.count:11,}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
