"""`epaxos serve`: run one replica."""

from __future__ import annotations

import os
from typing import Final

import click

from epaxos.actors import process
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
@click.option("--supervised", is_flag=True, hidden=True)
@click.pass_context
def serve(
    ctx: click.Context,
    config_file: str | None,
    name: str | None,
    uptime: float | None,
    log_level: str | None,
    *,
    supervised: bool,
) -> None:
    """Run one replica in this process, until SIGINT (Ctrl-C) or SIGTERM.

    It listens on the three ports that the configuration gives it: for its peers, its clients and HTTP
    (/metrics, /healthz). Its peers may be started before or after it. The log goes to stderr, a line a
    message, with the time (UTC), the level and the replica's name.

    The state is kept in memory and goes with the process. A replica that has voted and lost its memory may
    not come back under its name into the same running cluster, so do not let a service manager restart it by
    itself; stop all replicas, then start all.

    Exit codes:
      0  stopped by a signal, or after --uptime
      1  failed
      2  wrong command line or configuration, or a port is not free

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
