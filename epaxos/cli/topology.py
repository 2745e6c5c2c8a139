"""`epaxos simulate --topology`: run the core over a table of round-trip times and report its latencies."""

from __future__ import annotations

from typing import Any, Final

import click
from rich.console import Console

from epaxos.cli.failures import PROGRAM, Exit, complain
from epaxos.cli.options import STDOUT, Function, write_json
from epaxos.errors import InvariantError
from epaxos.simulation.checkers.violation import NoProgressError, Verdict, ViolationError
from epaxos.simulation.topology.report import as_json, as_table, remarks, title
from epaxos.simulation.topology.run import Load, Thrifty, run_topology
from epaxos.simulation.topology.table import Table, read_table

_DEFAULTS: Final = Load()
_WIDTH: Final = 120
"""Columns of what is not printed to a terminal."""

_OPTIONS: Final = (
    click.option(
        "--topology",
        metavar="FILE",
        help="Instead of seeds: the latencies of a cluster over a table of round-trip times, without faults.",
    ),
    click.option(
        "--conflicts",
        type=click.FloatRange(0, 100),
        metavar="PCT",
        help="With --topology: commands on one key that all clients use; the rest are on keys of one client.  "
        f"[default: {_DEFAULTS.conflicts:g}]",
    ),
    click.option(
        "--clients",
        type=click.IntRange(1, 10_000),
        metavar="N",
        help="With --topology: clients at each site, with one command under way each.  "
        f"[default: {_DEFAULTS.clients}]",
    ),
    click.option(
        "--thrifty",
        type=click.Choice([str(choice) for choice in Thrifty]),
        help="With --topology: ask all peers (off), or as many as a quorum needs: the next ones in the ring, as "
        "the key thrifty does, or the nearest.  [default: off]",
    ),
)


def topology_options(function: Function) -> Function:
    """The options that only a run over a table has; each is None unless it is given."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def report_topology(
    topology: str,
    *,
    conflicts: float | None = None,
    clients: int | None = None,
    thrifty: str | None = None,
    operations: int | None = None,
    seed: int | None = None,
    json_file: str | None = None,
) -> int:
    """Run over the table in the file `topology` and print the report; return the exit code.

    What is None gets its default, as in `Load`. The report as JSON goes to `json_file`, if there is one; "-" is
    stdout, and the table then goes to stderr.

    Raises:
        ConfigError: there is something wrong with the file.
        click.UsageError: fewer operations than clients.
    """
    given: dict[str, Any] = {
        "conflicts": conflicts,
        "clients": clients,
        "thrifty": None if thrifty is None else Thrifty(thrifty),
        "operations": operations,
        "seed": seed,
    }
    load = Load(**{name: value for name, value in given.items() if value is not None})
    table = read_table(topology)
    _check(table, load)
    try:
        report = as_json(run_topology(table, load))
    except (ViolationError, InvariantError) as error:
        return _fail(error, Verdict.SAFETY)
    except NoProgressError as error:
        return _fail(error, Verdict.LIVENESS)
    _show(report, json_file)
    return Exit.DONE


def _check(table: Table, load: Load) -> None:
    fewest = load.clients * len(table.sites)
    if load.operations < fewest:
        raise click.UsageError(
            f"--operations {load.operations}: at least {fewest} are needed, one for each client:"
            f" {load.clients} at each of {len(table.sites)} sites"
        )


def _fail(error: Exception, verdict: Verdict) -> int:
    context = click.get_current_context(silent=True)
    complain(str(error), PROGRAM if context is None else context.command_path)
    return verdict


def _show(report: dict[str, Any], json_file: str | None) -> None:
    console = _console(stderr=json_file == STDOUT)
    console.print(title(report), markup=False, soft_wrap=True)
    console.print(as_table(report))
    for line in remarks(report):
        console.print(line, markup=False, soft_wrap=True)
    if json_file is not None:
        write_json(report, json_file)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=_WIDTH)
