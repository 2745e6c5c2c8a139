"""`epaxos serve`: run one replica."""

from __future__ import annotations

import logging
import os
from typing import Final

import click

from epaxos.actors import process
from epaxos.actors.amnesia import no_rejoin
from epaxos.cli.failures import exit_code
from epaxos.cli.lifeline import stop_when_input_ends
from epaxos.cli.logs import FORMATS, debug_on_signal, dump_on_crash, log_to_stderr
from epaxos.cli.options import (
    config_option,
    find_replica,
    load,
    log_format_option,
    log_level_option,
    names_of,
    uptime_option,
)
from epaxos.cli.pages import Page
from epaxos.config import REPLICA_VARIABLE, Config
from epaxos.errors import ConfigError, EpaxosError
from epaxos.web import open_pages

_log = logging.getLogger(__name__)

STOP_GRACE: Final = 9.0
"""Seconds that a replica gets to stop in order once the process that supervised it is gone."""


@click.command(cls=Page)
@config_option
@click.option(
    "-n",
    "--name",
    metavar="NAME",
    help=f"Which replica this is.  [default: ${REPLICA_VARIABLE}, or the only one that the file has]",
)
@uptime_option
@log_level_option
@log_format_option
@click.option(
    "--join",
    "joins",
    is_flag=True,
    help="Begin, without data, as one that is to join: `epaxos member add` or `replace` lets it in.",
)
@click.option(
    "--rejoin",
    is_flag=True,
    help="Come back after the loss of the data directory: refused, with what to do instead.",
)
@click.option("--supervised", is_flag=True, hidden=True)
@click.pass_context
def serve(  # noqa: PLR0913 - the options
    ctx: click.Context,
    config_file: str | None,
    name: str | None,
    uptime: float | None,
    log_level: str | None,
    log_format: str,
    *,
    joins: bool,
    rejoin: bool,
    supervised: bool,
) -> None:
    """Run one replica in this process, until SIGINT (Ctrl-C) or SIGTERM; a second one ends it at once.

    It listens on the three ports that the configuration gives it: for its peers, its clients and HTTP
    (/metrics, /livez, /readyz, /healthz, /v1/). Its peers may be started before or after it. The log goes to
    stderr, a line a message, with the time (UTC), the level and the replica's name.

    SIGUSR1 shows on stderr what all threads are at, and SIGUSR2 sets the log's level to debug, or back; it
    goes on after both.

    What it promises and holds is kept in its data directory, storage.directory with its name, which is made
    at the first start. With it the replica may be stopped and started at any time, also by a service manager.
    Without it it may not vote: its peers refuse a replica that they knew and that begins anew, and it ends
    with code 1, and --rejoin is refused too. A machine that is to take its place, or any other, begins with
    --join and an empty directory: it waits until `epaxos member replace` or `add` makes it a member, and then
    fetches what the others hold. The option does nothing at later starts, so it may stay. One that has been
    removed ends by itself, with code 0, once nobody needs it.

    Exit codes:
      0  stopped by a signal, or after --uptime
      1  failed, or refused by its peers
      2  wrong command line or configuration, a port is not free, or --rejoin

    Examples:
      epaxos serve -c conf/local.toml -n alpha
      epaxos serve -c conf/local.toml -n bravo --uptime 30s --log-level debug
      EPAXOS_REPLICA=charlie epaxos serve -c /etc/epaxos.toml
    """
    # --supervised is for `epaxos up`: it puts the names before the lines, and holds our standard input open.
    dump_on_crash()
    if supervised:
        stop_when_input_ends(STOP_GRACE)
    config = load(config_file)
    replica = choose_name(config, name or os.environ.get(REPLICA_VARIABLE))
    if rejoin:
        raise ConfigError(f"{config.source}: {no_rejoin(config, replica)}")
    log_to_stderr(log_level or config.log_level, replica, log_format, named=not supervised)
    debug_on_signal()
    try:
        ctx.exit(
            process.run_replica(
                config, replica, open_pages, config.uptime if uptime is None else uptime, joins=joins
            )
        )
    except EpaxosError as error:
        if log_format == FORMATS[0]:
            raise
        _log.critical("%s", error)  # an object like all others
        ctx.exit(exit_code(error))


def choose_name(config: Config, name: str | None) -> str:
    """Which replica to be: the one called `name`, or the only one.

    Raises:
        ConfigError: there is none of that name, or none was named and there are several.
    """
    if name:
        return find_replica(config, name).name
    if config.n == 1:
        return config.replicas[0].name
    raise ConfigError(
        f"{config.source}: has {config.n} replicas: say which one this is with --name or {REPLICA_VARIABLE}; "
        f"allowed: {names_of(config)}"
    )
