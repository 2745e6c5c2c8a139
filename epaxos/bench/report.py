"""The report of a run: a table for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.table import Table

from epaxos.bench.results import Tally
from epaxos.bench.run import Result, Verification
from epaxos.config import Config
from epaxos.version import __version__

_LATENCIES = {"p50": "p50", "p90": "p90", "p99": "p99", "p999": "p99.9", "max": "max"}

HEADINGS = ("commands/s", *_LATENCIES.values(), "fast path", "errors")
"""Of `cells`."""


def as_json(result: Result) -> dict[str, Any]:
    """The report as a map; latencies in milliseconds, times in seconds.

    The keys ``operations`` to ``fast_path_ratio`` stand at the top for all replicas together, and once
    more for each under ``replicas``.
    """
    measured = result.measured
    total = measured.total()
    return {
        "operations": total.operations,
        "elapsed_s": round(measured.elapsed, 6),
        **_figures(total, measured.elapsed, _all_commits(result)),
        "replicas": {
            name: {
                "operations": tally.operations,
                **_figures(tally, measured.elapsed, result.commits(name)),
                "version": result.before.get(name, {}).get("version"),
                **_age(result, name),
            }
            for name, tally in measured.tallies.items()
        },
        "unsent": measured.unsent,
        "unreachable": result.unreachable,
        "remarks": measured.remarks,
        "generator": {
            "cpu_s": round(measured.cpu, 3),
            "cpu_us_per_operation": round(measured.cpu * 1e6 / max(1, measured.sent), 3),
        },
        "floor": _floor(result),
        "verify": None if result.verification is None else _verification(result.verification),
        "series": measured.series,
        "interrupted": measured.interrupted,
        "config": {
            **result.options.as_dict(),
            "version": __version__,
            "cluster": _cluster(result.config),
        },
    }


def _age(result: Result, name: str) -> dict[str, Any]:
    """How old the state of an observer was at most, when the load had ended."""
    if name not in result.options.observers:
        return {}
    return {"age_s": result.after.get(name, {}).get("age_s")}


def _figures(tally: Tally, elapsed: float, commits: Mapping[str, int] | None) -> dict[str, Any]:
    return {
        "throughput_ops": round(tally.operations / elapsed, 1) if elapsed else 0.0,
        "errors": tally.errors.total(),
        "errors_by_kind": dict(tally.errors),
        "busy": tally.busy,
        "retries": tally.retries,
        "latency_ms": tally.latencies.summary(),
        "fast_path_ratio": fast_path_ratio(commits),
        "commits": commits,
    }


def fast_path_ratio(commits: Mapping[str, int] | None) -> float | None:
    """The share of instances that committed on the fast path; None if none did at all or nobody knows."""
    if commits is None or "fast" not in commits or not sum(commits.values()):
        return None
    return round(commits["fast"] / sum(commits.values()), 6)


def _all_commits(result: Result) -> dict[str, int] | None:
    known = [commits for name in result.measured.tallies if (commits := result.commits(name)) is not None]
    if not known:
        return None
    paths = dict.fromkeys(path for commits in known for path in commits)
    return {path: sum(commits.get(path, 0) for commits in known) for path in paths}


def _floor(result: Result) -> dict[str, Any] | None:
    if result.floor is None:
        return None
    floor = result.floor.summary()["p50"]
    median = result.measured.total().latencies.summary()["p50"]
    ratio = round(median / floor, 2) if floor and median is not None else None
    return {"p50_ms": floor, "round_trips": result.floor.count, "latency_p50_ratio": ratio}


def _verification(verification: Verification) -> dict[str, Any]:
    findings, states = verification.findings, verification.states
    return {
        "fine": verification.fine,
        "commands": findings.commands,
        "keys": findings.keys,
        "skipped_keys": findings.skipped_keys,
        "wrong": findings.wrong,
        "findings": findings.texts,
        "settled": states.settled,
        "identical": states.identical,
        "digests": dict(states.digests),
        "missing": list(states.missing),
    }


def _cluster(config: Config) -> dict[str, Any]:
    return {
        "name": config.name,
        "source": config.source,
        "fingerprint": f"{config.fingerprint:016x}",
        "n": config.n,
        "f": config.f,
        "e": config.e,
        "thrifty": config.thrifty,
        "aggregate": config.aggregate,
        "storage": config.storage.engine,
        "replicas": {replica.name: replica.client_endpoint for replica in config.replicas},
    }


def as_table(report: Mapping[str, Any]) -> Table:
    """The figures of `as_json` as a table of 80 columns, a row for each replica and one for all."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("replica", no_wrap=True)
    for name in HEADINGS:
        table.add_column(name, justify="right", no_wrap=True)
    for name, figures in report["replicas"].items():
        table.add_row(name, *cells(figures))
    table.add_section()
    table.add_row("all", *cells(report), style="bold")
    return table


def title(report: Mapping[str, Any]) -> str:
    """The line above the table: what was done, and what the latencies are."""
    options = report["config"]
    return (
        f"{report['operations']:,} commands in {report['elapsed_s']:.2f} s: {_mode(options)}, "
        f"{options['writes']:g} % writes, {_conflicts(options)}; latency in ms"
    )


def _mode(options: Mapping[str, Any]) -> str:
    clients = f"{options['clients']} client{'s' * (options['clients'] != 1)}"
    if options["connections"] > 1:
        clients += f" over {options['connections']} connections a replica"
    if options["closed"]:
        return f"{clients}, closed loop"
    rate = f"{options['rate']:g}/s, " if options["rate"] is not None else ""
    return f"{rate}{clients}, window {options['window']}, batches of {options['batch']}"


def _conflicts(options: Mapping[str, Any]) -> str:
    if options["zipf"] is not None:
        return f"Zipf {options['zipf']:g} over {options['keys']:,} keys"
    return f"{options['conflicts']:g} % on one hot key" if options["conflicts"] else "no conflicts"


def cells(figures: Mapping[str, Any]) -> Iterator[str]:
    """The figures of one replica, or of all, as the table has them."""
    yield f"{figures['throughput_ops']:,.0f}"
    for name in _LATENCIES:
        yield _milliseconds(figures["latency_ms"][name])
    ratio = figures["fast_path_ratio"]
    yield "-" if ratio is None else f"{ratio:.1%}"
    yield f"{figures['errors']:,}"


def _milliseconds(value: float | None) -> str:
    """A latency with three digits or four, so that it takes little room."""
    if value is None:
        return "-"
    decimals = sum(value < limit for limit in (1, 100, 1000))
    return f"{value:,.{decimals}f}"


def remarks(report: Mapping[str, Any]) -> Iterator[str]:
    """The lines below the table: what a table has no room for and a reader must not miss."""
    if report["interrupted"]:
        yield "interrupted: these are the figures until then"
    for name in report["unreachable"]:
        yield f"error: {name} does not answer"
    yield from _ages(report["replicas"])
    for kind, number in report["errors_by_kind"].items():
        yield f"error: {number:,} x {kind}"
    for text in report["remarks"]:
        yield f"refused: {text}"
    if report["unsent"]:
        yield f"behind the rate: {report['unsent']:,} commands were due and not sent before the end"
    if report["busy"] or report["retries"]:
        yield f"sent again: {report['busy']:,} as busy, {report['retries']:,} without answer in time"
    floor = report["floor"]
    if floor is not None and floor["latency_p50_ratio"] is not None:
        yield (
            f"floor: two bare ZeroMQ round trips take {floor['p50_ms']:.3f} ms; "
            f"the median latency is {floor['latency_p50_ratio']} times that"
        )
    if report["verify"] is not None:
        yield from _verify_lines(report["verify"])
    cpu = report["generator"]["cpu_us_per_operation"]
    yield f"the load generator used {cpu:.2f} µs of CPU per command"


def _ages(replicas: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, figures in replicas.items():
        if "age_s" in figures:
            age = "unknown" if figures["age_s"] is None else f"{figures['age_s']:.3f} s at most"
            yield f"{name} has no vote: these are reads, and the age of its state was {age} at the end"


def _verify_lines(verify: Mapping[str, Any]) -> Iterator[str]:
    answers = f"{verify['commands']:,} answers on {verify['keys']:,} keys"
    yield f"verified: {answers}, {verify['wrong']:,} wrong"
    yield from (f"wrong: {text}" for text in verify["findings"])
    if verify["skipped_keys"]:
        yield f"not verified: {verify['skipped_keys']:,} keys with commands that were not answered"
    if verify["missing"]:
        yield f"error: the states of {', '.join(verify['missing'])} are not known"
    if not verify["settled"]:
        yield "error: the replicas did not come to execute the same instances"
    elif verify["identical"]:
        digest = next(iter(verify["digests"].values()))
        yield f"state: identical on {len(verify['digests'])} replicas, digest {digest}"
    else:
        digests = ", ".join(f"{name} {digest}" for name, digest in verify["digests"].items())
        yield f"error: the replicas' states differ: {digests}"
