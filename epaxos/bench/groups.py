"""A load on several groups: callers of the client library, each with one command outstanding.

A caller has keys of its own, so that nobody meets a lock; `across` and `within` are percentages of its commands that
are a multi of two writes, in two groups or in one. The client library takes more CPU for a command than the load
generator of one cluster does, so figures compare with those of this load alone.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from time import monotonic, perf_counter_ns, process_time
from typing import Any, Final

from rich import box
from rich.table import Table

from epaxos.bench.histogram import Latencies
from epaxos.bench.options import Amount, OptionError
from epaxos.client.commands import Op
from epaxos.errors import ClientError
from epaxos.groups.asynchronous import AsyncGroupClient
from epaxos.groups.map import Groups
from epaxos.version import __version__

KINDS: Final = ("command", "multi of one group", "multi across groups")
CALLERS: Final = 32
OF_GROUPS: Final = frozenset(
    {"operations", "duration", "warmup", "clients", "keys", "value_size"}
    | {"writes", "within", "across", "seed", "timeout"}
)
"""The options of a load that are also those of one on groups."""


@dataclass(frozen=True, slots=True)
class GroupsOptions:
    """A load, resolved; `timeout` is in seconds, `writes`, `within` and `across` are percentages.

    Raises:
        OptionError: a value out of its range.
    """

    stop: Amount
    warmup: float = 0.0
    callers: int = CALLERS
    keys: int = 100_000
    value_size: int = 8
    writes: float = 100.0
    within: float = 0.0
    across: float = 0.0
    seed: int = 0
    timeout: float = 2.0

    def __post_init__(self) -> None:
        for name in ("writes", "within", "across"):
            if not 0 <= getattr(self, name) <= 100:
                raise OptionError(f"--{name} {getattr(self, name):g}: must be from 0 to 100")
        if self.within + self.across > 100:
            raise OptionError(f"--within and --across: {self.within + self.across:g} % are more than all")
        if not 1 <= self.callers <= 10_000:
            raise OptionError(f"--clients {self.callers}: must be from 1 to 10000")


@dataclass(slots=True)
class Measured:
    """What a load came to: by kind of command how long they took, and errors by their names; times in seconds."""

    latencies: dict[str, Latencies] = field(default_factory=lambda: {kind: Latencies() for kind in KINDS})
    errors: Counter[str] = field(default_factory=Counter)
    elapsed: float = 0.0
    cpu: float = 0.0

    @property
    def operations(self) -> int:
        """How many were answered."""
        return sum(latencies.count for latencies in self.latencies.values())


class Load:
    """Callers under way; `stop` ends them after their present commands."""

    def __init__(self, groups: Groups, options: GroupsOptions) -> None:
        self._groups = groups
        self._options = options
        self._measured = Measured()
        self._end = float("inf")
        self._started = 0.0

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped."""
        return not self._end

    def stop(self) -> None:
        """Begin nothing more."""
        self._end = 0.0

    async def run(self) -> Measured:
        """Load the groups, and wait until all is unlocked."""
        options = self._options
        async with AsyncGroupClient(self._groups, timeout=options.timeout) as client:
            names = [keys for caller in range(options.callers) if (keys := self._keys_of(caller))]
            for by_group in names[
                :1
            ]:  # connections, and what groups keep of the file, are there from here on
                await asyncio.gather(*(client.get(keys[0]) for keys in by_group.values()))
            began = monotonic()
            self._started = began + options.warmup
            if self._end > 0 and options.stop.seconds is not None:
                self._end = self._started + options.stop.seconds
            cpu = process_time()
            await asyncio.gather(*(self._call(client, *numbered) for numbered in enumerate(names)))
            self._measured.elapsed = monotonic() - self._started
            self._measured.cpu = process_time() - cpu
        return self._measured

    def _keys_of(self, caller: int) -> dict[str, list[bytes]]:
        """The keys of a caller, by their groups."""
        share = max(1, self._options.keys // self._options.callers)
        found: dict[str, list[bytes]] = {}
        for number in range(caller * share, (caller + 1) * share):
            key = b"%08d" % number
            found.setdefault(self._groups.of(key).name, []).append(key)
        return found

    async def _call(self, client: AsyncGroupClient, caller: int, keys: dict[str, list[bytes]]) -> None:
        chance = random.Random(f"{self._options.seed}/{caller}")  # noqa: S311 - a load, not a secret
        value = chance.randbytes(self._options.value_size)
        most = self._options.stop.operations
        while monotonic() < self._end and (most is None or self._measured.operations < most):
            kind, operations = self._draw(chance, keys, value)
            began = perf_counter_ns()
            try:
                if len(operations) > 1:
                    await client.multi(operations)
                else:
                    await client.execute(operations[0])
            except ClientError as error:
                self._measured.errors[type(error).__name__] += 1
                continue
            if monotonic() >= self._started:
                self._measured.latencies[kind].record(perf_counter_ns() - began)

    def _draw(
        self, chance: random.Random, keys: dict[str, list[bytes]], value: bytes
    ) -> tuple[str, list[Op]]:
        share = chance.random() * 100
        if share < self._options.across and len(keys) > 1:
            both = chance.sample(sorted(keys), 2)
            return KINDS[2], [Op.put(chance.choice(keys[group]), value) for group in both]
        its = keys[chance.choice(sorted(keys))]
        if share < self._options.across + self._options.within:
            return KINDS[1], [Op.put(chance.choice(its), value) for _ in range(2)]
        key = chance.choice(its)
        return KINDS[0], [Op.put(key, value) if chance.random() * 100 < self._options.writes else Op.get(key)]


def as_json(groups: Groups, options: GroupsOptions, measured: Measured) -> dict[str, Any]:
    """The report as a map; latencies in milliseconds, times in seconds. A multi counts as one operation."""
    total = Latencies()
    for latencies in measured.latencies.values():
        total.add(latencies)
    operations = measured.operations
    return {
        "operations": operations,
        "elapsed_s": round(measured.elapsed, 6),
        "throughput_ops": round(operations / measured.elapsed, 1) if measured.elapsed else 0.0,
        "errors": measured.errors.total(),
        "errors_by_kind": dict(measured.errors),
        "latency_ms": total.summary(),
        "kinds": {
            kind: {"operations": latencies.count, "latency_ms": latencies.summary()}
            for kind, latencies in measured.latencies.items()
        },
        "generator": {
            "cpu_s": round(measured.cpu, 3),
            "cpu_us_per_operation": round(measured.cpu * 1e6 / max(1, operations), 3),
        },
        "config": {**asdict(options), "version": __version__, "groups": [one.name for one in groups.groups]},
    }


def as_table(report: Mapping[str, Any]) -> Table:
    """The figures of `as_json`, a row for each kind of command and one for all; latencies in ms."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(f"{len(report['config']['groups'])} groups", no_wrap=True)
    for name in ("commands/s", "p50", "p99", "max", "errors"):
        table.add_column(name, justify="right", no_wrap=True)
    for kind, figures in report["kinds"].items():
        if figures["operations"]:
            rate = figures["operations"] / report["elapsed_s"]
            table.add_row(kind, f"{rate:,.0f}", *_shown(figures["latency_ms"]), "")
    table.add_section()
    latencies = _shown(report["latency_ms"])
    table.add_row(
        "all", f"{report['throughput_ops']:,.0f}", *latencies, f"{report['errors']:,}", style="bold"
    )
    return table


def _shown(latency: Mapping[str, float | None]) -> list[str]:
    return ["-" if latency[name] is None else f"{latency[name]:,.2f}" for name in ("p50", "p99", "max")]
