"""What watchers cost: throughput and CPU under the usual load, without any, and with some or many beside it.

The watchers are `AsyncClient.watch` in one process, spread over the replicas. Those of other keys are told nothing,
those of a thousandth each of a hundred of the hundred thousand keys that are written, those of everything of each
command. Each load has a cluster of its own: where somebody has watched, replicas keep changes for another minute.

    tools/lib/run.py benchmarks.watch FILE COUNT WHAT   follow until the end of the input, and print the figures
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Final

from benchmarks.cluster import ROOT, BenchmarkError, Cluster, running
from benchmarks.study import PRIMING, TINY, Case, Options, Results, Sample, Study, one_load, say
from benchmarks.workloads import MEMORY
from epaxos.client.asynchronous import AsyncClient
from epaxos.config import load_config
from epaxos.errors import Compacted
from shared.processes import pause

OTHER, SOME, ALL = "other keys", "a thousandth each", "everything"
RUN: Final = ROOT / "tools" / "lib" / "run.py"
_DIGITS: Final = 6
"""Of a key: what is written begins with 000000 to 000999."""


def watch(study: Study, options: Options) -> Results:
    """Each case once a cycle, every second cycle the other way round."""
    results = Results()
    chosen = study.chosen(options)
    for cycle in range(options.cycles):
        for case in chosen[:: -1 if cycle % 2 else 1]:
            say(f"{study.name}, cycle {cycle + 1} of {options.cycles}: {case.name}")
            pause()
            with running(case.settings, n=case.n, ports=options.ports) as (cluster, _):
                cluster.load("--operations", TINY if options.tiny else PRIMING)
                with watching(cluster, int(case.x or 0), case.group) as figures:
                    sample = one_load(cluster, case, options)
            results.add(case.name, sample | figures)
    results.samples = {case.name: results.samples[case.name] for case in chosen}
    results.described = {case.name: case.describe() for case in chosen}
    return results


@contextmanager
def watching(cluster: Cluster, count: int, what: str) -> Iterator[Sample]:
    """Watchers; at the end of the block what they came to is in the dictionary."""
    figures: Sample = {}
    if not count:
        yield figures
        return
    command = [sys.executable, str(RUN), "benchmarks.watch", str(cluster.file), str(count), what]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "watching\n":
                raise BenchmarkError("the watchers did not begin")
            yield figures
            process.stdin.close()
            figures |= read_figures(process.stdout.readline())
        finally:
            process.kill()


def read_figures(line: str) -> Sample:
    """What the watchers' process says at its end.

    Raises:
        BenchmarkError: nothing.
    """
    if not line:
        raise BenchmarkError("the watchers ended with an error")
    found: Sample = json.loads(line)
    return found


async def follow(file: str, count: int, what: str) -> dict[str, float]:
    """Follow until the end of the input: changes told, CPU in microseconds for one, and how often some were missed."""
    config = load_config(file, environ={})
    told = missed = 0

    async def one(client: AsyncClient, prefix: bytes) -> None:
        nonlocal told, missed
        while True:
            async with client.watch(prefix) as changes:
                begun.release()
                try:
                    async for _ in changes:
                        told += 1
                except Compacted:
                    missed += 1

    begun = asyncio.Semaphore(0)
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AsyncClient(config=config, replica=replica.name))
            for replica in config.replicas
        ]
        tasks = [
            asyncio.create_task(one(clients[number % len(clients)], prefix_of(what, number)))
            for number in range(count)
        ]
        for _ in tasks:
            await begun.acquire()
        print("watching", flush=True)
        before = _cpu()
        await asyncio.to_thread(sys.stdin.read)
        used = _cpu() - before
        for task in tasks:
            task.cancel()
    figures = {"told": float(told), "gaps": float(missed)}
    return figures | {"watching": 1e6 * used / told} if told else figures


def prefix_of(what: str, number: int) -> bytes:
    """What one of the watchers follows."""
    if what == ALL:
        return b""
    return (b"other.%d" if what == OTHER else b"%%0%dd" % _DIGITS) % number


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _case(count: int, what: str) -> Case:
    return Case(f"{count} watchers of {what}", (), MEMORY, x=count, group=what)


STUDY: Final = Study(
    "watch",
    "Watchers beside the usual load, in memory: throughput and CPU of a replica",
    [
        Case("no watchers", (), MEMORY, x=0),
        *(_case(count, what) for what in (OTHER, SOME) for count in (10, 200)),
        _case(10, ALL),
    ],
    ("cpu", "throughput", "p50", "p99", "told", "watching", "gaps", "errors"),
    "no watchers",
    measure=watch,
)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(follow(sys.argv[1], int(sys.argv[2]), sys.argv[3]))), flush=True)
