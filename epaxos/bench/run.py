"""A whole benchmark run: find the replicas, load them, and gather everything that the report needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from time import time
from typing import Any, Final, TypeAlias

from epaxos.bench.floor import Floor
from epaxos.bench.histogram import Latencies
from epaxos.bench.links import BenchError, Links
from epaxos.bench.load import Load, Progress
from epaxos.bench.options import BenchOptions
from epaxos.bench.results import Measured
from epaxos.bench.settle import Settled, settle
from epaxos.bench.verify import Findings, History
from epaxos.config import Config

FLOOR_SECONDS: Final = 0.05
"""How long the floor is measured in each pause of the load.

Machines that are shared change their speed from second to second; both medians must see the same of it.
"""

_PATIENCE: Final = 2.0

_GLANCE: Final = 0.5
"""Seconds in which one of the replicas of the file tells who the members are, if any of them answers."""

Guard: TypeAlias = Callable[[Callable[[], None]], AbstractContextManager[None]]
"""Takes what stops the load, and makes that available to the user while the load runs."""


class Nobody(BenchError):
    """No replica answers at all."""


@dataclass(slots=True)
class Verification:
    """What `--verify` found: about the answers, and about the states of the replicas."""

    findings: Findings
    states: Settled

    @property
    def fine(self) -> bool:
        """Whether every answer was right and every replica holds the same state."""
        return not self.findings.wrong and self.states.identical and not self.states.missing


@dataclass(slots=True)
class Result:
    """Everything about one run. `before` and `after` hold the replicas' status by name."""

    config: Config
    options: BenchOptions
    measured: Measured
    before: Mapping[str, Mapping[str, Any]]
    after: Mapping[str, Mapping[str, Any]]
    unreachable: list[str] = field(default_factory=list)
    floor: Latencies | None = None
    verification: Verification | None = None

    @property
    def fine(self) -> bool:
        """Whether there was no error, every replica was there, and what was verified was right."""
        return (
            not self.measured.total().errors
            and not self.unreachable
            and (self.verification is None or self.verification.fine)
        )

    def commits(self, name: str) -> dict[str, int] | None:
        """How many of its own instances a replica committed during the run, by path; None if unknown."""
        if name not in self.before or name not in self.after:
            return None
        before, after = self.before[name]["commits"], self.after[name]["commits"]
        difference = {path: int(count) - int(before.get(path, 0)) for path, count in after.items()}
        restarted = min(difference.values()) < 0
        return None if restarted else difference


def run_bench(
    config: Config,
    options: BenchOptions,
    progress: Progress | None = None,
    guard: Guard = lambda _: nullcontext(),
) -> Result:
    """Run a benchmark against the cluster of a configuration.

    Replicas that do not answer at the start are left out and reported in `Result.unreachable`.

    Raises:
        Nobody: no replica answers.
        BenchError: one refuses this cluster's clients.
        FloorError: the latency floor cannot be measured.
    """
    reachable = _reachable(config, options)
    there = list(map(config.replica, reachable))
    everyone = range(len(there))
    observers = len(set(reachable) & set(options.observers))
    history = History() if options.verify else None
    with ExitStack() as stack:
        links = stack.enter_context(Links(there, config, options.connections, observers))
        floor = stack.enter_context(Floor()) if options.floor else None
        measure_floor = None if floor is None else partial(floor.measure, FLOOR_SECONDS)
        before = links.by_name(links.statuses(everyone, _PATIENCE))
        generation = max(status.get("generation", 0) for status in before.values()) if before else 0
        load = Load(options, links, options.workload(_tag()), history, progress, measure_floor, generation)
        with guard(load.stop):
            measured = load.run()
        after = links.by_name(links.statuses(everyone, _PATIENCE))
        result = Result(config, options, measured, before, after)
        result.unreachable = [name for name in (*options.replicas, *options.observers) if name not in after]
        result.floor = floor.latencies if floor is not None else None
        if history is not None and not measured.interrupted:
            result.verification = Verification(history.check(), _settle(config))
    return result


def config_of_now(config: Config) -> Config:
    """The configuration with the members of now, as one in the latest epoch tells of them."""
    with Links(config.replicas, config) as links:
        told = links.statuses(range(config.n), _GLANCE).values()
    return config.as_of(
        max(told, key=lambda status: (bool(status.get("members")), status.get("epoch", 0)), default={})
    )


def _tag() -> int:
    """Marks the values of this run: no other of the last eighteen hours began in the same second."""
    return int(time()) & 0xFFFF


def _settle(config: Config) -> Settled:
    """Compare the states of all replicas of the cluster, the ones without load included."""
    with Links(config.replicas, config) as links:
        return settle(links)


def _reachable(config: Config, options: BenchOptions) -> list[str]:
    """The names of the replicas that answer, in the order of the options, observers last."""
    replicas = [config.replica(name) for name in (*options.replicas, *options.observers)]
    with Links(replicas, config, observers=len(options.observers)) as links:
        there = links.by_name(links.statuses(range(len(replicas)), _PATIENCE))
    if there.keys().isdisjoint(options.replicas):
        places = ", ".join(f"{replica.name} at {replica.client_endpoint}" for replica in replicas)
        raise Nobody(f"no replica of {config.name} ({config.source}) answers: {places}; is it running?")
    return [replica.name for replica in replicas if replica.name in there]
