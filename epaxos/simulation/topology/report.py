"""The report of a run over a table: the figures of each site beside the least that the table allows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.table import Table as Grid

from epaxos.protocol.ids import Row
from epaxos.simulation.topology.optimum import find_led_optimum, find_optimum
from epaxos.simulation.topology.run import Result, Thrifty
from epaxos.version import __version__

_PERCENTILES: Final = {"p50": 50, "p99": 99, "max": 100}

_ASKED: Final = {
    Thrifty.OFF: "all peers asked",
    Thrifty.RING: "thrifty along the ring",
    Thrifty.NEAREST: "thrifty, the nearest asked",
}


_LEARNT: Final = {"votes": "votes to all", "commits": "votes to the leader"}


def as_json(result: Result) -> dict[str, Any]:
    """The report as a map; latencies in milliseconds to the nanosecond, None where nothing was measured."""
    table, load = result.table, result.load
    return {
        "sites": {site: _site(result, row) for row, site in enumerate(table.sites)},
        "virtual_s": round(result.seconds, 6),
        "config": {
            "topology": table.source,
            **table.quorums._asdict(),
            "fast_quorum": table.quorums.fast,
            "slow_quorum": table.quorums.slow,
            "operations": load.operations,
            "clients": load.clients,
            "conflicts": load.conflicts,
            "thrifty": str(load.thrifty),
            "protocol": load.protocol,
            "leader": None if load.leader is None else table.sites[load.leader],
            "learn": None if load.leader is None else load.learn.value,
            "seed": load.seed,
            "version": __version__,
        },
    }


def _site(result: Result, row: Row) -> dict[str, Any]:
    commits, executions = result.sites[row]
    if result.load.leader is not None:
        optimum = find_led_optimum(result.table, row, result.load.leader, result.load.learn)
        return {
            "commands": len(executions),
            "execution_ms": summary(executions),
            "optimum_ms": {"execution": _milliseconds(optimum)},
        }
    everything = [time for times in commits.values() for time in times]
    found = find_optimum(result.table, row, thrifty=result.load.thrifty is not Thrifty.OFF)
    return {
        "commands": len(executions),
        "fast_path_ratio": round(len(commits.get("fast", ())) / len(everything), 6),
        "commit_ms": summary(everything),
        "slow_commit_ms": summary(commits.get("slow", ())),
        "execution_ms": summary(executions),
        "optimum_ms": {"fast": _milliseconds(found.fast), "slow": _milliseconds(found.slow)},
    }


def summary(seconds: Sequence[float]) -> dict[str, float | None]:
    """Percentiles in milliseconds: the least of the latencies that so many percent do not exceed."""
    ordered = sorted(seconds)
    return {
        name: _milliseconds(ordered[math.ceil(len(ordered) * percent / 100) - 1]) if ordered else None
        for name, percent in _PERCENTILES.items()
    }


def _milliseconds(seconds: float) -> float:
    """To the nanosecond: beyond that, differences of readings of a clock are noise."""
    return round(seconds * 1000, 6)


def title(report: Mapping[str, Any]) -> str:
    """The line above the table: what was run."""
    config = report["config"]
    conflicts = f"{config['conflicts']:g} % on one key" if config["conflicts"] else "no conflicts"
    how = _ASKED[Thrifty(config["thrifty"])]
    if config["leader"] is not None:
        how = f"{config['leader']} leads, {_LEARNT[config['learn']]}"
    return (
        f"{config['topology']}: {config['operations']:,} commands, {config['clients']} clients a site, "
        f"{conflicts}, {how}; latency in ms"
    )


def as_table(report: Mapping[str, Any]) -> Grid:
    """The figures of `as_json` as a table of 80 columns, a row for each site."""
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    grid.add_column("site", no_wrap=True, vertical="bottom")
    led: tuple[tuple[str, str], ...] = (("exec", "p50"), ("exec", "p99"), ("", "optimum"))
    for group, name in (
        led
        if report["config"]["leader"] is not None
        else (
            ("fast", "path"),
            ("commit", "p50"),
            ("commit", "p99"),
            ("", "optimum"),
            ("slow", "p50"),
            ("slow", "optimum"),
            ("exec", "p50"),
            ("exec", "p99"),
        )
    ):
        grid.add_column(f"{group}\n{name}", justify="right", no_wrap=True)
    for site, figures in report["sites"].items():
        grid.add_row(site, *_cells(figures))
    return grid


def _cells(figures: Mapping[str, Any]) -> Iterator[str]:
    if "commit_ms" not in figures:
        times = figures["execution_ms"]
        yield from map(_shown, (times["p50"], times["p99"], figures["optimum_ms"]["execution"]))
        return
    commit, execution, optimum = figures["commit_ms"], figures["execution_ms"], figures["optimum_ms"]
    yield f"{figures['fast_path_ratio']:.1%}"
    for value in (
        *(commit["p50"], commit["p99"], optimum["fast"]),
        *(figures["slow_commit_ms"]["p50"], optimum["slow"]),
        *(execution["p50"], execution["p99"]),
    ):
        yield _shown(value)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:,.{1 if value >= 10 else 3}f}"


def remarks(report: Mapping[str, Any]) -> Iterator[str]:
    """The lines below the table: what the optima are."""
    config = report["config"]
    if config["leader"] is not None:
        yield "optimum: the way to the leader, and from there until the votes of a quorum are known at the site"
        return
    fast, slow, n = config["fast_quorum"], config["slow_quorum"], config["n"]
    first = slow - 1 if config["thrifty"] != Thrifty.OFF else max(slow - 1, n - fast + 1)
    yield f"optimum: the time to the {_nearest(fast - 1)} peer; a fast quorum is {fast} of {n}"
    yield (
        f"slow optimum: the time to the {_nearest(first)} peer, for a PreAccept round that fails, "
        f"and that to the {_nearest(slow - 1)}; a slow quorum is {slow}"
    )


def _nearest(rank: int) -> str:
    """The words for a peer by its rank in distance, from 1 to 14."""
    return {1: "nearest", 2: "2nd nearest", 3: "3rd nearest"}.get(rank, f"{rank}th nearest")
