"""What was aimed at, and where that is today: a row for each bar, from what the other benchmarks measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from benchmarks.study import Results

Measured = Mapping[str, Results]
HEADINGS: Final = ["bar", "at first", "today", "goal", "held"]


class Bar(NamedTuple):
    """A goal: `value` is at most `goal`, or at least if `more`; `first` is where it was when the goal was set."""

    name: str
    first: str
    goal: float
    value: Callable[[Measured], float]
    pattern: str = "{:,.2f}"
    more: bool = False

    def row(self, measured: Measured) -> list[str]:
        """Its cells; a dash where nothing was measured."""
        goal = f"{'≥' if self.more else '≤'} {self.pattern.format(self.goal)}"
        try:
            value = self.value(measured)
        except (KeyError, TypeError, ZeroDivisionError):
            return [self.name, self.first, "-", goal, "-"]
        held = value >= self.goal if self.more else value <= self.goal
        return [self.name, self.first, self.pattern.format(value), goal, "yes" if held else "no"]


class Missing(KeyError):
    """A bar needs what was not measured."""


def of(measured: Measured, study: str, case: str, figure: str) -> float:
    """A median.

    Raises:
        Missing: there is none.
    """
    value = measured[study].median(case, figure)
    if value is None:
        raise Missing(study, case, figure)
    return value


def median(study: str, case: str, figure: str) -> Callable[[Measured], float]:
    """The median of a figure."""
    return lambda measured: of(measured, study, case, figure)


def ratio(study: str, case: str, other: str, figure: str) -> Callable[[Measured], float]:
    """The median of a figure's ratio to that of another case, cycle by cycle."""

    def value(measured: Measured) -> float:
        found = measured[study].ratio(case, other, figure)
        if found is None:
            raise Missing(study, case, figure)
        return found

    return value


def _tail(engine: str) -> Callable[[Measured], float]:
    case = f"1 client, {engine}"
    return lambda measured: of(measured, "latency", case, "p99") / of(measured, "latency", case, "p50")


def _beyond_syncs(measured: Measured) -> float:
    """How much longer a durable command takes than two syncs, in floors."""
    p50, floor, sync = (
        of(measured, "latency", "1 client, durable", name) for name in ("p50", "floor", "sync")
    )
    return (p50 - 2 * sync) / floor


def _checkpoints(engine: str) -> Callable[[Measured], float]:
    share = ratio("durability", f"{engine}, no checkpoints", engine, "cpu")
    return lambda measured: 1 - share(measured)


def _beside(other: str) -> Callable[[Measured], float]:
    load = "64 clients, durable"
    return ratio("peers", f"{load}: epaxos, 3 replicas", f"{load}: {other}", "throughput")


def _last_million(measured: Measured) -> float:
    last = list(measured["growth"].samples)[-1]
    return ratio("growth", last, "million 2", "cpu")(measured)


LONE: Final = "one command a frame, 66 sessions x 16, memory"
ALL: Final = (
    Bar(
        "frames of 33, memory: CPU µs a command and replica",
        "5.5",
        2.2,
        median("throughput", "frames of 33, memory", "cpu"),
    ),
    Bar("the same, durable", "6.3", 2.8, median("throughput", "frames of 33, durable", "cpu")),
    Bar("2 % conflicts: CPU to that without", "1.53", 1.3, ratio("conflicts", "2 %", "0 %", "cpu")),
    Bar("25 %", "2.16", 1.3, ratio("conflicts", "25 %", "0 %", "cpu")),
    Bar("100 %", "1.42", 1.3, ratio("conflicts", "100 %", "0 %", "cpu")),
    Bar(
        "one command a frame, 66 sessions x 16: CPU µs",
        "61",
        12,
        median("throughput", LONE, "cpu"),
        "{:,.0f}",
    ),
    Bar(
        "closed loop, 66 clients: commands/s",
        "6,900",
        27_600,
        median("clients", "66 clients share 3 connections, memory", "throughput"),
        "{:,.0f}",
        more=True,
    ),
    Bar(
        "closed loop, 510 clients: commands/s",
        "8,400",
        33_600,
        median("clients", "510 clients share 3 connections, memory", "throughput"),
        "{:,.0f}",
        more=True,
    ),
    Bar(
        "64 clients, durable, beside one Redis that syncs always",
        "-",
        1,
        _beside("Redis, 1 server, syncs always"),
        more=True,
    ),
    Bar("64 clients, durable, beside etcd", "-", 10, _beside("etcd, 3 members"), more=True),
    Bar("1 client: median to floor", "4.7", 2, median("latency", "1 client, memory", "to_floor")),
    Bar("1 client: p99 to median", "-", 3, _tail("memory")),
    Bar("1 client, durable: median less two syncs, in floors", "-", 2, _beyond_syncs),
    Bar("values of 1 KiB: CPU µs a KiB and replica", "27", 6, median("values", "1 KiB, memory", "cpu_kib")),
    Bar("values of 64 KiB: the same", "-", 2, median("values", "64 KiB, memory", "cpu_kib")),
    Bar("checkpoints' share of the CPU, durable", "27 %", 0.1, _checkpoints("durable"), "{:.0%}"),
    Bar("the same, memory", "-", 0.02, _checkpoints("memory"), "{:.0%}"),
    Bar(
        "longest round at a million keys, durable, ms",
        "250",
        10,
        median("keys", "1,000,000 keys, durable", "round_max"),
        "{:,.0f}",
    ),
    Bar(
        "the same, while the million is written",
        "-",
        10,
        median("keys", "1,000,000 keys, durable", "fill_max"),
        "{:,.0f}",
    ),
    Bar(
        "a replica dies: longest time without an answer at the others, ms",
        "-",
        100,
        median("failover", "no conflicts: away", "gap"),
        "{:,.0f}",
    ),
    Bar(
        "the same, 25 % on a hot key: longest command, ms",
        "-",
        2000,
        median("failover", "25 % on a hot key: away", "max"),
        "{:,.0f}",
    ),
    Bar(
        "a million keys: bytes a key and replica",
        "746",
        373,
        median("keys", "1,000,000 keys, memory", "bytes_key"),
        "{:,.0f}",
    ),
    Bar("the last million commands: CPU to the second", "-", 1.05, _last_million),
)


class Need(NamedTuple):
    """Cases of a study that bars need, or texts for `Options.only`; `is_whole` one that `--quick` leaves as it is."""

    cases: Sequence[str] = ()
    only: Sequence[str] = ()
    is_whole: bool = False


NEEDS: Final[Mapping[str, Need]] = {
    "durability": Need(["memory", "memory, no checkpoints", "durable", "durable, no checkpoints"]),
    "latency": Need(["1 client, memory", "1 client, durable"]),
    "throughput": Need(["frames of 33, memory", LONE, "frames of 33, durable"]),
    "conflicts": Need(["0 %", "2 %", "25 %", "100 %"]),
    "clients": Need(["66 clients share 3 connections, memory", "510 clients share 3 connections, memory"]),
    "values": Need(["1 KiB, memory", "64 KiB, memory"]),
    "peers": Need(only=["etcd", "Redis, 1 server"]),
    "failover": Need(["no conflicts", "25 % on a hot key"]),
    "keys": Need(["1,000,000 keys, memory", "1,000,000 keys, durable"]),
    "growth": Need(is_whole=True),
}
"""What `ALL` is made of, the shortest and most telling first."""


def rows(measured: Measured) -> list[list[str]]:
    """All bars."""
    return [bar.row(measured) for bar in ALL]
