"""`epaxos simulate --topology`: run the core over a table of round-trip times and report its latencies."""

from __future__ import annotations

from typing import Any, Final

import click
from rich.console import Console

from epaxos.cli.failures import PROGRAM, Exit, complain
from epaxos.cli.options import STDOUT, Function, write_json
from epaxos.errors import InvariantError
from epaxos.protocol.kinds import EPAXOS
from epaxos.protocol.multipaxos.state import Learn
from epaxos.simulation.checkers.violation import NoProgressError, Verdict, ViolationError
from epaxos.simulation.topology.optimum import find_leader
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
        "--leader",
        metavar="SITE",
        help="With --topology and --protocol multipaxos: which site leads.  [default: the best]",
    ),
    click.option(
        "--learn",
        type=click.Choice([str(choice) for choice in Learn]),
        help="With --topology and --protocol multipaxos: the key learn.  [default: votes]",
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
    topology: str, *, protocol: str = EPAXOS.name, json_file: str | None = None, **asked: Any
) -> int:
    """Run over the table in the file `topology` and print the report; return the exit code.

    `asked` are fields of `Load`, `learn` and the name of the `leader`; what is None gets its default. The report as
    JSON goes to `json_file`, if there is one; "-" is stdout, and the table then goes to stderr.

    Raises:
        ConfigError: there is something wrong with the file.
        click.UsageError: fewer operations than clients, or a leader that is none.
    """
    leader, learn = asked.pop("leader", None), asked.pop("learn", None)
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if "thrifty" in given:
        given["thrifty"] = Thrifty(given["thrifty"])
    load = Load(**given)
    table = read_table(topology)
    if protocol != EPAXOS.name:
        load = _led(table, load, leader, learn)
    elif leader is not None or learn is not None:
        raise click.UsageError("--leader and --learn are about --protocol multipaxos")
    _check(table, load)
    try:
        report = as_json(run_topology(table, load))
    except (ViolationError, InvariantError) as error:
        return _fail(error, Verdict.SAFETY)
    except NoProgressError as error:
        return _fail(error, Verdict.LIVENESS)
    _show(report, json_file)
    return Exit.DONE


def _led(table: Table, load: Load, leader: str | None, learn: str | None) -> Load:
    """The load of a cluster with a leader."""
    if load.thrifty is not Thrifty.OFF:
        raise click.UsageError("--thrifty is about --protocol epaxos")
    if leader is not None and leader not in table.sites:
        raise click.UsageError(f"--leader: found {leader!r}; allowed: {', '.join(table.sites)}")
    how = Learn.VOTES if learn is None else Learn(learn)
    row = find_leader(table, how) if leader is None else table.sites.index(leader)
    return load._replace(leader=row, learn=how)


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
