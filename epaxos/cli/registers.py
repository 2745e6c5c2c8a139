"""`epaxos registers`: single values by consensus, without a cluster."""

from __future__ import annotations

from random import SystemRandom

import click

from epaxos.cli.failures import Exit
from epaxos.cli.pages import Page
from epaxos.cli.simulate import FRESH, seed_range


class _Group(Page, click.Group):
    """A group whose help keeps its examples."""


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def registers() -> None:
    """Registers: single values by consensus, each for itself (CASPaxos), without a cluster.

    Examples:
      epaxos registers simulate --seeds 0:1000

    Exit codes:
      0   done
      10  and above: what a simulation found
    """


@registers.command(cls=Page)
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Run this seed.  [default: a fresh one]")
@click.option("--seeds", callback=seed_range, metavar="A:B", help="Run the seeds from A up to and without B.")
@click.option("--jobs", type=click.IntRange(1), metavar="N", help="Processes.  [default: one for each core]")
def simulate(seed: int | None, seeds: range | None, jobs: int | None) -> None:
    """Run simulated registers and check them.

    Acceptors, proposers, clients and somebody who collects deleted registers and changes the acceptors, each a process
    with a clock and a disk of its own, under faults that the seed draws. The exit codes are those of `epaxos simulate`.

    Examples:
      epaxos registers simulate
      epaxos registers simulate --seeds 0:10000
    """
    from epaxos.simulation.registers import coverage  # noqa: PLC0415 - other commands shall not pay for it
    from epaxos.simulation.registers.plan import draw_plan  # noqa: PLC0415
    from epaxos.simulation.registers.run import run_seed  # noqa: PLC0415
    from epaxos.simulation.sweep.sweep import sweep  # noqa: PLC0415

    if seeds is not None and seed is not None:
        raise click.UsageError("--seed N and --seeds A:B exclude each other")
    if seeds is None:
        first = SystemRandom().randrange(FRESH) if seed is None else seed
        seeds = range(first, first + 1)
        click.echo(f"seed {first}\n{draw_plan(first).describe()}")
    summary = sweep(seeds, jobs=jobs, run=run_seed)
    for line in coverage.describe(summary):
        click.echo(line)
    if summary.interrupted:
        code: int = Exit.INTERRUPTED
    elif summary.failures:
        code = summary.verdict
    else:
        code = Exit.FAILED if coverage.missed(summary) else Exit.DONE
    click.get_current_context().exit(code)
