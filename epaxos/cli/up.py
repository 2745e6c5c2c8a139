"""`epaxos up`: run all replicas of a configuration on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from epaxos.cli.logs import FORMATS
from epaxos.cli.options import (
    clusters_of,
    config_option,
    load_any,
    log_format_option,
    log_level_option,
    uptime_option,
)
from epaxos.cli.pages import Page
from epaxos.cli.supervisor import Print, Supervisor
from epaxos.config import format_duration

STOP_GRACE: Final = 10.0
"""Seconds that replicas get to stop in order before they are killed."""

NOT_AGAIN: Final = "It is not started again: its last line says why. Mend that, and start all."
"""After the end of a replica, which has stopped the others."""

_COLOURS: Final = ("cyan", "yellow", "green", "magenta", "blue", "bright_red")
_OWN_NAME: Final = "up"


@click.command(cls=Page)
@config_option
@uptime_option
@log_level_option
@log_format_option
@click.pass_context
def up(
    ctx: click.Context, config_file: str | None, uptime: float | None, log_level: str | None, log_format: str
) -> None:
    """Run all replicas of a configuration on this machine, until Ctrl-C.

    Each replica is a process of its own (epaxos serve). Their logs come out on stderr, each line after the
    name of its replica, in colour on a terminal unless NO_COLOR is set. With --log-format json each line is
    an object, in which "replica" is the name, null for those of this command itself.

    Ctrl-C, SIGTERM or the end of --uptime stops all of them in order; what does not stop within 10 seconds,
    or at a second Ctrl-C, is killed. If this command itself is killed, the replicas notice and stop.
    SIGUSR1 and SIGUSR2 are passed on to all of them (epaxos serve --help).

    With a file of groups (docs/groups.md) the replicas of all its clusters run, as GROUP/NAME.

    When one replica fails, the others are stopped too, and none is started again. One that has been removed from
    the cluster ends, and the others go on.

    Exit codes:
      0    stopped by a signal, or after --uptime, or all have been removed
      2    wrong command line or configuration, or a port is not free
      else that of the first replica to fail (128 and more: killed by a signal)

    Examples:
      epaxos up
      epaxos up -c conf/local-5.toml
      epaxos up -c conf/local.toml --uptime 30s --log-level warning
    """
    commands = {}
    for group, cluster in clusters_of(load_any(config_file)).items():
        options = _options(cluster.source if group else config_file, uptime, log_level, log_format)
        for replica in cluster.everybody:
            command = [sys.executable, "-m", "epaxos", "serve", *options, "--name", replica.name]
            commands[f"{group}/{replica.name}" if group else replica.name] = command
    show = json_printer if log_format != FORMATS[0] else printer([*commands], coloured=_wants_colours())
    supervisor = Supervisor(show, NOT_AGAIN, STOP_GRACE)
    ctx.exit(asyncio.run(supervisor.run(commands)))


def _options(
    config_file: str | None, uptime: float | None, log_level: str | None, log_format: str
) -> list[str]:
    """What every replica is told."""
    options = ["--supervised"]
    if config_file is not None:
        options += ["--config", config_file]
    if uptime is not None:
        options += ["--uptime", format_duration(uptime)]
    if log_level is not None:
        options += ["--log-level", log_level]
    if log_format != FORMATS[0]:
        options += ["--log-format", log_format]
    return options


def _wants_colours() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def printer(names: Sequence[str], *, coloured: bool) -> Print:
    """A function that prints a line to stderr after the name of the replica that it is from."""
    width = max(map(len, (*names, _OWN_NAME)))
    prefixes: dict[str | None, str] = {None: f"{_OWN_NAME:<{width}} | "}
    for number, name in enumerate(names):
        prefix = f"{name:<{width}} | "
        colour = _COLOURS[number % len(_COLOURS)]
        prefixes[name] = click.style(prefix, fg=colour) if coloured else prefix

    def show(name: str | None, line: str) -> None:
        click.echo(prefixes[name] + line, err=True, color=coloured)

    return show


def json_printer(name: str | None, line: str) -> None:
    """Print a line to stderr as a JSON object, as which most of them come."""
    try:
        told = isinstance(json.loads(line), dict)
    except ValueError:
        told = False
    click.echo(line if told else json.dumps({"replica": name, "message": line}), err=True)
