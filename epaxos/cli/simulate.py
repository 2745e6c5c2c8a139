"""`epaxos simulate`: whole clusters in one thread, each from one seed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from functools import partial
from random import SystemRandom
from time import monotonic, process_time
from typing import Any, Final

import click
from rich.console import Console

from epaxos.cli.failures import Exit
from epaxos.cli.options import STDOUT, positive_duration, scheduler_option, writable, write_json
from epaxos.cli.pages import Page
from epaxos.cli.streams import write_text
from epaxos.cli.topology import report_topology, topology_options
from epaxos.inspection.wording import read_place
from epaxos.protocol.kinds import EPAXOS, KINDS
from epaxos.simulation.failure.explain import explain, explain_seed, headline, replay_command, version
from epaxos.simulation.failure.trace import Trace, run_traced
from epaxos.simulation.picture.drawing import draw
from epaxos.simulation.picture.seen import Seen
from epaxos.simulation.plan.options import FAULTS, LARGEST, MIXES, SMALLEST, Overrides
from epaxos.simulation.run import Outcome, kind_of
from epaxos.simulation.sweep.bar import ProgressBar
from epaxos.simulation.sweep.report import as_json, describe_outcome, describe_summary, missed
from epaxos.simulation.sweep.sweep import Failure, Summary, sweep
from epaxos.simulation.sweep.workers import Lost, call_all, cores

FRESH: Final = 10**9
"""Seeds that are drawn are below this, short enough to be read out."""

MOST_EXPLAINED: Final = 3
"""How many failures of a sweep are minimised, of as many kinds: one of a kind says what the others would."""

_OF_SEEDS: Final = ("duration", "replicas", "faults", "mix", "groups", "jobs", "scheduler")
"""Options that a run over a table has no use for."""

EXPLAIN_LIMIT: Final = 1200.0
"""Seconds of CPU that minimising one failure may take; what it may try is bounded too, and usually takes one minute."""


def seed_range(_: click.Context, __: click.Parameter, text: str | None) -> range | None:
    """A click callback: seeds from A on, up to B and without it."""
    if text is None:
        return None
    first, colon, end = text.partition(":")
    if colon and first.isdecimal() and end.isdecimal() and int(first) < int(end):
        return range(int(first), int(end))
    raise click.BadParameter(f"found {text!r}; allowed: A:B, seeds from A up to and without B, like 0:1000")


def kinds_of_faults(_: click.Context, __: click.Parameter, text: str | None) -> frozenset[str] | None:
    """A click callback: kinds of faults by their names."""
    if text is None:
        return None
    if text in ("all", "none"):
        return frozenset(FAULTS if text == "all" else ())
    kinds = frozenset(kind.strip() for kind in text.split(","))
    if unknown := sorted(kinds - FAULTS.keys()):
        raise click.BadParameter(f"found {unknown[0]!r}; allowed: all, none, or some of {', '.join(FAULTS)}")
    return kinds


@click.command(cls=Page)
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Run this seed.  [default: a fresh one]")
@click.option(
    "--seeds",
    callback=seed_range,
    metavar="A:B",
    help="Run the seeds from A up to and without B, on all cores.",
)
@click.option(
    "--duration",
    callback=positive_duration,
    metavar="DURATION",
    help="Begin no seed after this long, like 10m. Without --seeds, seeds from a fresh one on.",
)
@click.option("--jobs", type=click.IntRange(1), metavar="N", help="Processes.  [default: one for each core]")
@scheduler_option
@click.option(
    "--replicas",
    type=click.IntRange(SMALLEST, LARGEST),
    metavar="N",
    help="How many replicas, instead of what the seed draws.",
)
@click.option(
    "--faults",
    callback=kinds_of_faults,
    metavar="KIND,...",
    help=f"Which kinds of faults instead: all, none, or some of {', '.join(FAULTS)}.",
)
@click.option(
    "--protocol",
    type=click.Choice(list(KINDS)),
    default=EPAXOS.name,
    show_default=True,
    help="Which protocol the replicas run.",
)
@click.option(
    "--operations", type=click.IntRange(1), metavar="N", help="How many commands of clients instead."
)
@click.option(
    "--groups",
    type=click.IntRange(2, 4),
    metavar="N",
    help="Several clusters as one store (docs/groups.md), of either protocol, with clients over all of them.",
)
@click.option("--mix", type=click.Choice(MIXES), help="Which operations clients prefer instead.")
@click.option("--trace", is_flag=True, help="Print every message of the seed, and what else happens.")
@click.option(
    "--picture",
    metavar="FILE.svg",
    callback=writable,
    help="Draw the seed as a space-time diagram: time to the right, each replica a line, each message an arrow.",
)
@click.option(
    "--around",
    metavar="R.S,...",
    help="With --picture: what concerns these instances, like A.3.  [default: those of the failure, else all]",
)
@click.option(
    "--everything",
    is_flag=True,
    help="Leave nothing out: beacons in a trace, and other instances in the path of a failure.",
)
@click.option(
    "--minimise/--no-minimise",
    default=True,
    show_default=True,
    help="Look for a small run that fails the same way.",
)
@click.option(
    "--progress/--no-progress", default=None, help="The progress bar.  [default: if stderr is a terminal]"
)
@click.option(
    "--json", "json_file", callback=writable, metavar="FILE", help="Write a summary as JSON; - for stdout."
)
@topology_options
def simulate(
    seed: int | None,
    seeds: range | None,
    operations: int | None,
    protocol: str,
    *,
    topology: str | None,
    trace: bool,
    json_file: str | None,
    **given: Any,
) -> None:
    """Run simulated clusters and check them.

    A whole cluster runs in one thread under virtual time: the replicas' own code for consensus and state, with a
    simulated network, disks, clocks and clients. The seed draws everything. First faults go on, and nothing wrong may
    happen; then they stop, and everything pending must finish within a bound.

    One seed is run with all its options printed, and what it exercised; several are run on all cores. A failure is
    printed with the command that replays it and the path of events in a smaller run that fails the same way.

    With --groups several clusters are one store, on one schedule, and their clients may die; the seed draws the
    protocol and size of each. Of these no smaller run is looked for.

    With --topology no seeds are run: the same cluster, over a table of round-trip times and without faults, tells the
    latencies that each site would see, beside the best that the table allows.

    Exit codes:
      0    nothing is wrong
      1    nothing is wrong, but a sweep did not exercise what so many seeds must
      2    wrong command line
      10   liveness: something did not finish after the faults
      11   crash: the program failed
      12   safety: something happened that must never happen
      130  interrupted by Ctrl-C; what had been done until then is summed up

    Of several failures the worst counts, which has the highest number.

    Examples:
      epaxos simulate
      epaxos simulate --seed 7 --trace | less
      epaxos simulate --seed 7 --operations 3 --picture seed-7.svg --around A.0
      epaxos simulate --seeds 0:1000 --replicas 5 --faults crash,loss
      epaxos simulate --duration 10m --json summary.json
      epaxos simulate --seeds 0:20000 --scheduler tcp://10.0.0.7:8786
      epaxos simulate --topology conf/regions-5.toml --conflicts 2
    """
    picture, around = given.pop("picture"), given.pop("around")
    load = {name: given.pop(name) for name in ("conflicts", "clients", "thrifty", "leader", "learn")}
    if topology is not None:
        of_seeds = (seeds, trace or None, *(given[name] for name in _OF_SEEDS))
        _refuse_together(any(value is not None for value in of_seeds), "--topology and what is about seeds")
        load["protocol"] = protocol
        code = report_topology(topology, **load, operations=operations, seed=seed, json_file=json_file)
        click.get_current_context().exit(code)
    for name, value in load.items():
        if value is not None:
            raise click.UsageError(f"--{name} is about a run over a table: say which with --topology FILE")
    overrides = Overrides(
        given.pop("replicas"),
        given.pop("faults"),
        operations,
        protocol,
        given.pop("mix"),
        given.pop("groups"),
    )
    _refuse_together(
        bool(overrides.groups) and (trace or picture is not None or overrides.mix is not None),
        "--groups and --trace, --picture or --mix",
    )
    duration = given.pop("duration")
    many = seeds is not None or duration is not None
    _refuse_together(many and seed is not None, "--seed N and a sweep (--seeds, --duration)")
    _refuse_together(
        many and (trace or picture is not None), "--trace or --picture and a sweep (--seeds, --duration)"
    )
    if around is not None and picture is None:
        raise click.UsageError("--around is about a picture: say where it goes with --picture FILE")
    _refuse_together(not many and given["jobs"] is not None, "--jobs and a single seed")
    _refuse_together(not many and given["scheduler"] is not None, "--scheduler and a single seed")
    _refuse_together(None not in (given["jobs"], given["scheduler"]), "--scheduler and --jobs")
    fresh = SystemRandom().randrange(FRESH)
    if many:
        summary = _simulate_many(
            seeds or range(fresh, fresh + FRESH), overrides, duration, json_file, **given
        )
    else:
        pictured = Picture(picture, around) if picture is not None else None
        chosen = fresh if seed is None else seed
        summary = _simulate_one(chosen, overrides, json_file, pictured, trace=trace, **given)
    if json_file is not None:
        write_json(as_json(summary, overrides), json_file)
    click.get_current_context().exit(_exit_code(summary, overrides))


def _refuse_together(both: bool, what: str) -> None:  # noqa: FBT001  reads like an assertion
    if both:
        raise click.UsageError(f"{what} exclude each other")


def _exit_code(summary: Summary, overrides: Overrides) -> int:
    if summary.interrupted:
        return Exit.INTERRUPTED
    if summary.failures:
        return summary.verdict
    return Exit.FAILED if missed(summary, overrides) else Exit.DONE


def _system_of(overrides: Overrides) -> Any:
    """What is run: a module with `draw_plan` and `run_seed`."""
    name = "epaxos.simulation.sweep.sweep" if overrides.groups is None else "epaxos.simulation.groups.run"
    return importlib.import_module(name)


# -- one seed ------------------------------------------------------------------------------------------------


def _simulate_one(
    seed: int,
    overrides: Overrides,
    json_file: str | None,
    picture: Picture | None,
    *,
    trace: bool,
    everything: bool,
    minimise: bool,
    **_: Any,
) -> Summary:
    """Run a seed in this process, where a debugger can follow it. What it is comes first, should it never end."""
    say = partial(click.echo, err=json_file == STDOUT)
    system = _system_of(overrides)
    plan = system.draw_plan(seed, overrides)
    say(
        f"seed {seed} of {version()}\n{plan.options.describe() if overrides.groups is None else plan.describe()}"
    )
    observer = Trace(lambda entry: say(str(entry)), everything=everything)
    summary = Summary()
    began, cpu = monotonic(), process_time()
    if trace or picture is not None:
        observers = ([observer] if trace else []) + ([picture.seen] if picture is not None else [])
        outcome = run_traced(plan, *observers)
    else:
        outcome = system.run_seed(seed, overrides)
    summary.add_outcome(outcome)
    if picture is not None:
        say(picture.draw(outcome))
    summary.seconds, summary.cpu = monotonic() - began, process_time() - cpu
    say(describe_outcome(outcome))
    for failure in summary.failures:
        say("\n" + headline(failure, overrides))
        if minimise and overrides.groups is None:
            say(explain(plan, outcome, everything=everything))
    return summary


class Picture:
    """A space-time diagram that is asked for, into a file, around some instances."""

    def __init__(self, file: str, around: str | None) -> None:
        self._file = file
        self._around = around
        self.seen = Seen()

    def draw(self, outcome: Outcome) -> str:
        """Write it; returns a line that says what it shows."""
        n = outcome.options.rows
        try:
            places = [read_place(text.strip(), n) for text in (self._around or "").split(",") if text.strip()]
        except ValueError as error:
            raise click.UsageError(f"--around: found {self._around!r}; {error}") from error
        shown = self.seen.around(places or outcome.places)
        title = f"seed {outcome.options.seed} of {version()}"
        write_text(draw(shown, outcome.options.replicas, title), self._file)
        left = f", {shown.left_out} more left out" if shown.left_out else ""
        return f"{self._file}: {len(shown.arrows)} messages{left}"


# -- many seeds ----------------------------------------------------------------------------------------------


def _simulate_many(  # noqa: PLR0913 - the options
    seeds: range,
    overrides: Overrides,
    duration: float | None,
    json_file: str | None,
    *,
    jobs: int | None,
    scheduler: str | None,
    progress: bool | None,
    everything: bool,
    minimise: bool,
) -> Summary:
    """Run many seeds, tell what they came to, and explain what failed."""
    say = partial(click.echo, err=json_file == STDOUT)
    errors = Console(stderr=True, highlight=False, force_terminal=progress or None)
    shown = errors.is_terminal if progress is None else progress
    say(f"seeds from {seeds.start} on, of {version()}")
    run = None if overrides.groups is None else _system_of(overrides).run_seed
    with ProgressBar(errors, len(seeds), duration) if shown else nullcontext() as bar:
        update = bar.update if bar is not None else None
        summary = sweep(seeds, overrides, jobs, duration, update, run, scheduler)
    say(describe_summary(summary, overrides))
    firsts, others = _first_of_each_kind(summary.failures)
    for failure in firsts:
        say("\n" + headline(failure, overrides))
    for failure in others:
        say(f"seed {failure.seed} fails like one of these: {replay_command(failure.seed, overrides)}")
    if minimise and not summary.interrupted and overrides.groups is None:
        seeds_of_interest = [failure.seed for failure in firsts if failure.replays][:MOST_EXPLAINED]
        _explain(seeds_of_interest, overrides, jobs or cores(), say, everything=everything)
    return summary


def _first_of_each_kind(failures: Sequence[Failure]) -> tuple[list[Failure], list[Failure]]:
    """The first failure of each kind, and all others; those that cannot be replayed are kinds of their own."""
    firsts: dict[object, Failure] = {}
    for failure in failures:
        kind = (failure.verdict, kind_of(failure.verdict, failure.text))
        firsts.setdefault(kind if failure.replays else failure.seed, failure)
    chosen = set(firsts.values())
    return list(firsts.values()), [failure for failure in failures if failure not in chosen]


def _explain(
    seeds: Sequence[int], overrides: Overrides, jobs: int, say: Callable[[str], None], *, everything: bool
) -> None:
    """Minimise failures, each in a process of its own: a smaller run may hang where the whole one did not."""
    function = partial(explain_seed, overrides=overrides, everything=everything)
    with closing(call_all(function, seeds, jobs, EXPLAIN_LIMIT)) as results:
        for seed, result in results:
            text = f"not minimised: {result.text}" if isinstance(result, Lost) else result
            say(f"\nseed {seed}, {text}")
