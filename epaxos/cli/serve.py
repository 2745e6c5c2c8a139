"""`epaxos serve`: run one replica."""

from __future__ import annotations

import os
from typing import Final

import click

from epaxos.actors import process
from epaxos.actors.amnesia import no_rejoin
from epaxos.cli.lifeline import stop_when_input_ends
from epaxos.cli.logs import log_to_stderr
from epaxos.cli.options import (
    config_option,
    find_replica,
    load,
    log_level_option,
    names_of,
    uptime_option,
)
from epaxos.cli.pages import Page
from epaxos.config import REPLICA_VARIABLE, Config
from epaxos.errors import ConfigError

STOP_GRACE: Final = 5.0
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
@click.option(
    "--rejoin",
    is_flag=True,
    help="Come back after the loss of the data directory: refused, with what to do instead.",
)
@click.option("--supervised", is_flag=True, hidden=True)
@click.pass_context
def serve(
    ctx: click.Context,
    config_file: str | None,
    name: str | None,
    uptime: float | None,
    log_level: str | None,
    *,
    rejoin: bool,
    supervised: bool,
) -> None:
    """Run one replica in this process, until SIGINT (Ctrl-C) or SIGTERM.

    It listens on the three ports that the configuration gives it: for its peers, its clients and HTTP
    (/metrics, /livez, /readyz, /healthz). Its peers may be started before or after it. The log goes to stderr, a line a
    message, with the time (UTC), the level and the replica's name.

    What it promises and holds is kept in its data directory, storage.directory with its name, which is made
    at the first start. With it the replica may be stopped and started at any time, also by a service manager.
    Without it it may not vote: its peers refuse a replica that they knew and that begins anew, and it ends
    with code 1. Nothing can bring it back under its name but its directory, so --rejoin is refused too.

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
    if supervised:
        stop_when_input_ends(STOP_GRACE)
    config = load(config_file)
    replica = choose_name(config, name or os.environ.get(REPLICA_VARIABLE))
    if rejoin:
        raise ConfigError(f"{config.source}: {no_rejoin(config, replica)}")
    log_to_stderr(log_level or config.log_level, "" if supervised else replica)
    ctx.exit(process.run_replica(config, replica, config.uptime if uptime is None else uptime))


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
