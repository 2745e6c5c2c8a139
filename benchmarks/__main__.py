"""How fast a cluster is on this machine, and beside what.

Each benchmark starts its replicas, takes turns between its cases, prints a table and stops everything. The ratio is
that of the first figure to the baseline's, cycle by cycle; its median counts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from benchmarks import (
    bars,
    epochs,
    failover,
    groups,
    guard,
    keys,
    micro,
    plots,
    profiled,
    protocols,
    redis,
    registers,
    report,
    steps,
    storage,
    transactions,
    wan,
    watch,
    workloads,
)
from benchmarks.cluster import ROOT, BenchmarkError
from benchmarks.peers import compare
from benchmarks.study import Options, Results, Study, say
from shared.processes import Interrupted, catch_signals

DOCUMENT: Final = ROOT / "docs" / "performance.md"
STUDIES: Final[Mapping[str, Study]] = {
    study.name: study
    for study in (
        *workloads.ALL,
        keys.KEYS,
        keys.GROWTH,
        keys.SCAN,
        failover.STUDY,
        epochs.STUDY,
        watch.STUDY,
        workloads.SECURITY,
        protocols.STUDY,
        wan.STUDY,
        registers.STUDY,
        groups.STUDY,
        compare.STUDY,
        workloads.INTERPRETERS,
    )
}
ALONE: Final = ("interpreters", "registers", "groups", "epochs", "watch", "security", "scan")
"""What is not about a cluster on this Python, and measured apart."""

EVERYTHING: Final = [name for name in STUDIES if name not in ALONE]
APART: Final[Mapping[str, Callable[[Sequence[str]], int]]] = {
    "guard": guard.main,
    "micro": micro.main,
    "profiled": profiled.main,
    "redis": redis.main,
    "steps": steps.main,
    "storage": storage.main,
    "transactions": transactions.main,
}
"""Programs with options of their own."""

SEVERAL: Final[Mapping[str, Sequence[str]]] = {"all": EVERYTHING, "bars": list(bars.NEEDS)}
"""Names that stand for several studies."""

FEWER: Final[Mapping[str, int]] = {
    "keys": 1,
    "growth": 1,
    "failover": 1,
    "durability": 2,
    "peers": 2,
    "protocols": 2,
    "registers": 1,
    "groups": 1,
}
"""Cycles with --quick of what takes long."""

QUICK: Final = Options(cycles=3, duration=1.0, quick=True)
TINY: Final = Options(cycles=1, duration=0.2, quick=True, tiny=True)

Measured = dict[str, tuple[Study, Results]]
console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def main(argv: Sequence[str]) -> int:
    """Run what was named; 0 if all of it could be measured, 1 if not, 128 + signal if it was interrupted."""
    if argv and argv[0] in APART:
        return APART[argv[0]](argv[1:])
    given = parse(argv)
    catch_signals()
    try:
        return measure(given)
    except Interrupted as interruption:
        say(str(interruption))
        return interruption.status
    except (BenchmarkError, OSError) as error:
        say(str(error))
        return 1


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    listed = "".join(f"\n  {name:13} {study.title}" for name, study in STUDIES.items())
    apart = "".join(
        f"\n  {name:13} {(sys.modules[f'benchmarks.{name}'].__doc__ or '').partition(chr(10))[0]}"
        for name in APART
    )
    parser = argparse.ArgumentParser(
        prog="benchmarks/run",
        description=__doc__,
        epilog=f"benchmarks:{listed}\n  all           All but {', '.join(ALONE)}; and the table of bars.\n"
        f"  bars          Only what the table of bars is made of, and the table.\n\n"
        f"programs with options of their own (benchmarks/run NAME --help):{apart}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which; several run one after the other")
    parser.add_argument(
        "--quick", action="store_true", help="fewer cycles of shorter runs: all in a quarter of an hour"
    )
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--cycles", type=int, metavar="N", help=f"how often each case is run (default: {Options.cycles})"
    )
    parser.add_argument(
        "--duration", type=float, metavar="SECONDS", help=f"of each run (default: {Options.duration:g})"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TEXT",
        help="only cases whose names contain it, and the baseline; may be given again",
    )
    parser.add_argument(
        "--ports", type=int, default=25_000, metavar="N", help="first of 500 ports (default: %(default)s)"
    )
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="for interpreters, once each, the baseline first: a Python that has what epaxos[server,bench] needs",
    )
    parser.add_argument(
        "--scheduler",
        default="",
        metavar="ADDRESS",
        help="for wan: run on the workers of this scheduler of Dask",
    )
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured; - for stdout")
    parser.add_argument("--plots", metavar="FOLDER", help="draw the pictures there, light and dark")
    parser.add_argument(
        "--document", action="store_true", help="renew the figures and pictures of docs/performance.md"
    )
    parser.add_argument("--read", metavar="FILE", help="measure nothing: take what an earlier --json wrote")
    given = parser.parse_args(argv)
    unknown = [name for name in given.names if name not in (*STUDIES, *SEVERAL)]
    if set(SEVERAL) & set(given.names) and len(given.names) > 1:
        parser.error(f"{' and '.join(SEVERAL)} stand alone")
    if unknown or not (given.names or given.read):
        parser.error(
            f"found {' '.join(unknown) or 'no name'}; allowed: {', '.join((*SEVERAL, *STUDIES, *APART))}"
        )
    for name in ("cycles", "duration"):
        if (value := getattr(given, name)) is not None and value <= 0:
            parser.error(f"--{name} {value}: must be more than 0")
    if any("=" not in python[1:] for python in given.python):
        parser.error("--python: found no NAME=COMMAND")
    if "interpreters" in given.names and not given.python and not given.read:
        parser.error("interpreters needs --python NAME=COMMAND, once for each")
    return given


def options_of(given: argparse.Namespace) -> Options:
    """How much is measured."""
    base = TINY if given.tiny else QUICK if given.quick else Options()
    chosen = {name: value for name in ("cycles", "duration") if (value := getattr(given, name)) is not None}
    return replace(
        base, **chosen, ports=given.ports, pythons=given.python, only=given.only, scheduler=given.scheduler
    )


def measure(given: argparse.Namespace) -> int:
    """Measure, or read what was measured, and show it; what is done is kept even if a later benchmark fails."""
    measured: Measured = {}
    failed = False
    if given.read:
        where, measured = report.from_json(Path(given.read).read_text(encoding="utf-8"), STUDIES)
    else:
        options = options_of(given)
        where = report.machine(options)
        for study, chosen in chosen_of(given, options):
            name = study.name
            try:
                began = time.monotonic()
                results = study.measure(study, chosen)
                results.is_whole = "bars" not in given.names and not given.only
                measured[name] = (study, results)
                say(f"{name}: took {(time.monotonic() - began) / 60:.1f} minutes")
            except (BenchmarkError, OSError) as error:
                say(f"{name}: {error}")
                failed = True
            show_last(measured, given)
            write(given, where, measured)
    if given.read or set(SEVERAL) & set(given.names):
        write(given, where, measured)
        console.print(report.table("Bars", bars.HEADINGS, bars.rows(results_of(measured))))
    return int(failed)


def chosen_of(given: argparse.Namespace, options: Options) -> Iterator[tuple[Study, Options]]:
    """What is to be measured, each in as many cycles as were asked for."""
    if "bars" in given.names:
        for name, need in bars.NEEDS.items():
            study = STUDIES[name].of(need.cases) if need.cases else STUDIES[name]
            quick = options.quick and not need.is_whole
            yield study, replace(options, only=need.only, quick=quick)
        return
    for name in EVERYTHING if "all" in given.names else given.names:
        fewer = options.quick and given.cycles is None
        cycles = min(options.cycles, FEWER.get(name, options.cycles)) if fewer else options.cycles
        yield STUDIES[name], replace(options, cycles=cycles)


def show_last(measured: Measured, given: argparse.Namespace) -> None:
    """The table of what was measured last, and what a reader must know beside it."""
    if not measured:
        return
    study, results = list(measured.values())[-1]
    target = Console(stderr=True, width=160, highlight=False) if given.json == "-" else console
    target.print(report.table(study.title, report.headings(study), report.rows(study, results)))
    for line in (*report.remarks(results), *report.settings(study, results)):
        target.print(line, markup=False, soft_wrap=True)


def write(given: argparse.Namespace, where: Mapping[str, Any], measured: Measured) -> None:
    """Everything that was asked for as files."""
    text = json.dumps(report.as_json(where, measured), indent=1) + "\n"
    if given.json == "-":
        print(text)
    elif given.json:
        Path(given.json).write_text(text, encoding="utf-8")
    whole = [(study, results) for study, results in measured.values() if results.is_whole]
    if given.plots:
        for study, results in measured.values() if given.only else whole:
            plots.draw(study, results, Path(given.plots))
    if given.document:
        report.fill(DOCUMENT, blocks_of(where, measured))
        for study, results in whole:
            plots.draw(study, results, DOCUMENT.parent / report.PICTURES)


def blocks_of(where: Mapping[str, Any], measured: Measured) -> dict[str, str]:
    """What goes between the marks of the document; of a study of which only some cases were measured, nothing."""
    blocks = {
        name: report.block(study, results) for name, (study, results) in measured.items() if results.is_whole
    }
    table = report.markdown(bars.HEADINGS, bars.rows(results_of(measured)))
    if set(measured) >= set(EVERYTHING):
        return blocks | {"bars": table, "machine": report.machine_line(where)}
    for name in set(ALONE) & set(blocks):
        cycles = max(map(len, measured[name][1].samples.values()))
        blocks[name] += f"\n{report.machine_line({**where, 'cycles': cycles})}"
    if set(measured) == set(bars.NEEDS):
        blocks["bars"] = f"{table}\n{report.machine_line(where)}"
    return blocks


def results_of(measured: Measured) -> dict[str, Results]:
    """The results alone."""
    return {name: results for name, (_, results) in measured.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
